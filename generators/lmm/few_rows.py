"""One more order of each of a few rows through the decoder, compiled without torch.

The last rows of a batch are drawn one order at a time. For so few, much of a step of torch's is the calls of its many
small operations; here it is the reading of the weights. Equal up to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

if TYPE_CHECKING:
    from .llama import Llama, Ring

MOST = 64
"""Up to so many rows it is the faster one."""


def takes(x: Tensor) -> bool:
    """Whether these rows ``[k, width]`` are better computed here."""
    return len(x) <= MOST and x.dtype == torch.float32 and x.device.type == "cpu"


def step(decoder: Llama, x: Tensor, ring: Ring, positions: Tensor) -> Tensor:
    """Hidden states ``[k, width]`` of one more order for each of the k rows at the front of a ring.

    Parameters
    ----------
    x
        Input embeddings ``[k, width]``, float32, on the CPU.
    positions
        ``[k]``, how many orders each has seen before.
    """
    shape, seen, out = decoder.shape, positions.numpy(), x.numpy().copy()
    cos, sin = _rotation(seen, shape.head_width, shape.theta)
    sizes = shape.heads, shape.kv_heads, shape.head_width, shape.eps
    for keys, values, own in zip(ring.keys, ring.values, decoder.for_steps(), strict=True):
        weights = (part.numpy() for part in own)
        _layer(out, seen, cos, sin, keys.numpy(), values.numpy(), *weights, *sizes)
    return torch.from_numpy(_normed(out, decoder.norm.weight.detach().numpy(), shape.eps))


def _rotation(positions: Any, width: int, theta: float) -> tuple[Any, Any]:
    """Cosines and sines ``[k, width / 2]``."""
    frequencies = np.float32(theta) ** (-np.arange(0, width, 2, dtype=np.float32) / np.float32(width))
    angles = positions[:, None].astype(np.float32) * frequencies
    return np.cos(angles), np.sin(angles)


@njit(cache=True, fastmath=True)
def _normed(x, weight, eps):  # type: ignore[no-untyped-def]
    out = np.empty_like(x)
    for r in range(x.shape[0]):
        total = np.float32(0)
        for j in range(x.shape[1]):
            total += x[r, j] * x[r, j]
        scale = np.float32(1) / np.sqrt(total / np.float32(x.shape[1]) + np.float32(eps))
        for j in range(x.shape[1]):
            out[r, j] = x[r, j] * scale * weight[j]
    return out


@njit(cache=True, fastmath=True)
def _linear(x, weight):  # type: ignore[no-untyped-def]
    """Every weight is read once, whatever the number of rows."""
    out = np.empty((x.shape[0], weight.shape[0]), np.float32)
    for i in range(weight.shape[0]):
        for r in range(x.shape[0]):
            total = np.float32(0)
            for j in range(weight.shape[1]):
                total += weight[i, j] * x[r, j]
            out[r, i] = total
    return out


@njit(cache=True, fastmath=True)
def _silu(x):  # type: ignore[no-untyped-def]
    return x / (np.float32(1) + np.exp(-x))


@njit(cache=True, fastmath=True)
def _rotate(part, cos, sin):  # type: ignore[no-untyped-def]
    """In place, ``[head_width]``."""
    half = len(cos)
    for c in range(half):
        a, b = part[c], part[half + c]
        part[c] = a * cos[c] - b * sin[c]
        part[half + c] = b * cos[c] + a * sin[c]


@njit(cache=True, fastmath=True)
def _attend(query, keys, values, count, out):  # type: ignore[no-untyped-def]
    """Of one head, over ``count`` orders: keys ``[head_width, window]``, values ``[window, head_width]``."""
    scores = np.zeros(count, np.float32)
    for c in range(len(query)):
        for j in range(count):
            scores[j] += query[c] * keys[c, j]
    highest, total = scores.max(), np.float32(0)
    for j in range(count):
        scores[j] = np.exp(scores[j] - highest)
        total += scores[j]
    out[:] = 0
    for j in range(count):
        share = scores[j] / total
        for c in range(len(out)):
            out[c] += share * values[j, c]


@njit(cache=True, fastmath=True)
def _layer(  # type: ignore[no-untyped-def]
    x, positions, cos, sin, keys, values, before, qkv, o_proj, between, gate_up, down, heads, kv_heads, width, eps
):
    """In place on ``x``, keys and values."""
    rows, window, shared = x.shape[0], keys.shape[3], heads // kv_heads
    scale = np.float32(width) ** np.float32(-0.5)
    parts = _linear(_normed(x, before, eps), qkv)
    attended = np.empty((rows, heads * width), np.float32)
    for r in range(rows):
        slot, count = positions[r] % window, min(positions[r] + 1, window)
        for h in range(heads + kv_heads):
            _rotate(parts[r, h * width : (h + 1) * width], cos[r], sin[r])
        for h in range(kv_heads):
            keys[r, h, :, slot] = parts[r, (heads + h) * width : (heads + h + 1) * width]
            values[r, h, slot] = parts[r, (heads + kv_heads + h) * width : (heads + kv_heads + h + 1) * width]
        for h in range(heads):
            query = parts[r, h * width : (h + 1) * width] * scale
            g = h // shared
            _attend(query, keys[r, g], values[r, g], count, attended[r, h * width : (h + 1) * width])
    x += _linear(attended, o_proj)
    both = _linear(_normed(x, between, eps), gate_up)
    hidden = both.shape[1] // 2
    inner = np.empty((rows, hidden), np.float32)
    for r in range(rows):
        for j in range(hidden):
            inner[r, j] = _silu(both[r, j]) * both[r, hidden + j]
    x += _linear(inner, down)
