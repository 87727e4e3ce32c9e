"""Learning on message sequences: a small network that tells generated from real, logistic regression, and AUC.

Written in NumPy so that it needs no deep-learning package and gives the same digits on one thread. LOB-Bench's own
discriminator is another network; what the two find cannot be compared digit by digit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.stats import rankdata

from marsbench.stats.lob_bench import ADD, DELETE, EXECUTE, Floats, LobSequence

Singles = NDArray[np.float32]

WINDOW = 50
"""Messages that the network sees at a time; a sequence's score is the mean over its windows."""
WIDTH, CHANNELS = 5, 16
STEPS, BATCH, RATE, DECAY = 150, 64, 0.01, 1e-3


def message_features(s: LobSequence, tick: float) -> Singles:
    """``[n, 12]``: type, side, size, price from mid, waiting time, spread, imbalance, move of the mid, touch sizes."""
    if not len(s):
        return np.zeros((0, 12), np.float32)
    mid, top = s.mid, s.book[:, 0, :]
    total = top[:, 1] + top[:, 3]
    columns = [
        s.event == ADD,
        (s.event > ADD) & (s.event <= DELETE),
        s.event == EXECUTE,
        s.direction,
        np.log1p(np.abs(s.size)),
        np.arcsinh((s.price - mid) / tick),
        np.log1p(np.maximum(np.diff(s.time_ns, prepend=s.time_ns[0]), 0) / 1000),
        np.log1p(np.maximum((top[:, 0] - top[:, 2]) / tick, 0)),
        np.divide(top[:, 3] - top[:, 1], total, out=np.zeros(len(s)), where=total > 0),
        np.arcsinh(np.diff(mid, prepend=mid[0]) / tick),
        np.log1p(top[:, 1]),
        np.log1p(top[:, 3]),
    ]
    return np.asarray(np.nan_to_num(np.column_stack(columns)), np.float32)


@dataclass(frozen=True)
class Network:
    """Convolution over ``WIDTH`` messages, mean and largest of each channel, one output."""

    kernel: Singles
    bias: Singles
    head: Singles
    shift: Singles
    mean: Singles
    scale: Singles

    def logits(self, x: Singles) -> Singles:
        """``[B]`` of windows ``[B, W, F]``."""
        cols = _columns((x - self.mean) / self.scale)
        hidden = np.maximum(cols @ self.kernel + self.bias, 0)
        return np.asarray(np.concatenate([hidden.mean(axis=1), hidden.max(axis=1)], axis=1) @ self.head + self.shift[0])

    def score(self, x: Singles) -> float:
        """Mean over the windows of a sequence ``[n, F]``, n at least ``WINDOW``; higher is more like generated ones."""
        count = len(x) // WINDOW
        return float(self.logits(x[: count * WINDOW].reshape(count, WINDOW, -1)).mean())


def _columns(x: Singles) -> Singles:
    found = sliding_window_view(x, WIDTH, axis=1)
    return np.ascontiguousarray(found).reshape(x.shape[0], x.shape[1] - WIDTH + 1, -1)


def train(real: list[Singles], made: list[Singles], rng: np.random.Generator) -> Network:
    """Train on sequences ``[n, F]`` of at least ``WINDOW`` messages; both classes weigh alike. Adam, logistic loss."""
    pooled = np.concatenate([*real, *made])
    mean, scale = pooled.mean(axis=0), pooled.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1).astype(np.float32)
    inputs = pooled.shape[1] * WIDTH
    weights = [
        (rng.standard_normal((inputs, CHANNELS)) * np.sqrt(2 / inputs)).astype(np.float32),
        np.zeros(CHANNELS, np.float32),
        (rng.standard_normal(2 * CHANNELS) * 0.1).astype(np.float32),
        np.zeros(1, np.float32),
    ]
    moments = [[np.zeros_like(w), np.zeros_like(w)] for w in weights]
    label = (np.arange(BATCH) % 2).astype(np.float32)
    for step in range(1, STEPS + 1):
        x = np.stack([_window(made if k % 2 else real, rng) for k in range(BATCH)])
        gradients = _gradients(weights, _columns((x - mean) / scale), label)
        for w, (m, v), g in zip(weights, moments, gradients, strict=True):
            g = g + DECAY * w
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            w -= RATE * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    kernel, bias, head, shift = weights
    return Network(kernel, bias, head, shift, mean, scale)


def _window(sequences: list[Singles], rng: np.random.Generator) -> Singles:
    x = sequences[rng.integers(len(sequences))]
    at = rng.integers(len(x) - WINDOW + 1)
    return x[at : at + WINDOW]


def _gradients(weights: list[Singles], cols: Singles, label: Singles) -> list[Singles]:
    kernel, bias, head, shift = weights
    z = cols @ kernel + bias
    hidden = np.maximum(z, 0)
    places = hidden.argmax(axis=1)
    pooled = np.concatenate([hidden.mean(axis=1), np.take_along_axis(hidden, places[:, None], 1)[:, 0]], axis=1)
    wrong = (1 / (1 + np.exp(-(pooled @ head + shift[0]))) - label) / len(label)
    back = wrong[:, None] * head
    to_hidden = np.repeat(back[:, None, :CHANNELS] / z.shape[1], z.shape[1], axis=1)
    rows, channel = np.indices(places.shape)
    to_hidden[rows, places, channel] += back[:, CHANNELS:]
    to_z = (to_hidden * (z > 0)).astype(np.float32)
    flat = to_z.reshape(-1, CHANNELS)
    found = [cols.reshape(len(flat), -1).T @ flat, flat.sum(axis=0), pooled.T @ wrong, wrong.sum(keepdims=True)]
    return [g.astype(np.float32) for g in found]


def logistic(x: Floats, label: NDArray[np.bool_], *, ridge: float = 1.0) -> Floats:
    """``[F + 1]``: weights and intercept of a logistic regression on standardised columns, by Newton's method.

    Classes weigh alike; the ridge holds the weights, not the intercept.
    """
    design = np.column_stack([x, np.ones(len(x))])
    balance = np.where(label, 0.5 / label.sum(), 0.5 / (~label).sum()) * len(label)
    penalty = np.append(np.full(x.shape[1], ridge), 1e-6)
    weights = np.zeros(design.shape[1])
    for _ in range(25):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (balance * (p - label)) + penalty * weights
        curvature = (design * (balance * p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def auc(low: Floats, high: Floats) -> float:
    """Probability that a value of ``high`` is larger than one of ``low``, ties half; NaN where one is empty."""
    if not (len(low) and len(high)):
        return float("nan")
    ranks = rankdata(np.concatenate([low, high]))
    n, m = len(low), len(high)
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m))
