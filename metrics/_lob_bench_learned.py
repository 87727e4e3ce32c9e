"""What learns from sequences: the discriminator, and prediction trained on generated data and tested on real."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from marsbench.scores import Group, Score
from marsbench.stats.lob_bench import LobSequence
from marsbench.stats.lob_bench_network import WINDOW, auc, logistic, message_features, train

from ._lob_bench_units import Grouped, lob_score

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 5
LEAST_UNITS = 10
AHEAD, EVERY, LOOK_BACK = 10, 5, 50
"""Messages ahead that are predicted, from every so many messages, of which so many lie before."""
TRAIN_SHARE = 0.6


def discriminator_scores(data: Grouped, rng: np.random.Generator) -> list[Score]:
    """AUC of the network, and of logistic regression on means and deviations of the same features.

    Cross-fitted: blocks of neighbouring units are scored by what was trained on the others, without the unit next to
    the block on either side. Real and generated sequences meet within a block only. The intervals leave out units and
    do not train again: with a degree of freedom for each unit they would be too narrow. They have as many as there are
    independent training sets at most, ``FOLDS`` less one.
    """
    keys = ("lobbench.discriminator.auc", "lobbench.discriminator.logistic.auc")
    pairs = zip(data.pairs, data.group, strict=True)
    rows = [(s, int(g), k > 0) for p, g in pairs for k, s in enumerate((p.real, *p.generated)) if len(s) >= WINDOW]
    made, group = np.array([m for _, _, m in rows], bool), np.array([g for _, g, _ in rows], np.int64)
    if data.count < LEAST_UNITS or min(_units(group[made]), _units(group[~made])) < LEAST_UNITS:
        why = f"needs {LEAST_UNITS} {data.what} with real and generated sequences of {WINDOW} messages"
        return [Score(key, None, "distributions", "lower", clusters=data.clusters, reason=why) for key in keys]
    x = [message_features(s, data.tick) for s, _, _ in rows]
    flat = np.array([np.concatenate([each.mean(axis=0), each.std(axis=0)]) for each in x], np.float64)
    rank = _order(data)[group]
    fold = rank * FOLDS // data.count
    found = np.zeros((2, len(rows)))
    for k in range(FOLDS):
        test = fold == k
        learn = (rank < rank[test].min() - 1) | (rank > rank[test].max() + 1)
        sides = [[x[i] for i in np.flatnonzero(learn & (made == side))] for side in (False, True)]
        net = train(sides[0], sides[1], rng)
        found[0, test] = [net.score(x[i]) for i in np.flatnonzero(test)]
        mean, scale = flat[learn].mean(axis=0), flat[learn].std(axis=0)
        scaled = (flat - mean) / np.where(scale > 1e-9, scale, 1)
        weights = logistic(scaled[learn], made[learn])
        found[1, test] = scaled[test] @ weights[:-1]
    return [_auc_score(key, value, made, group, fold, data) for key, value in zip(keys, found, strict=True)]


def _units(group: Ints) -> int:
    return len(np.unique(group))


def _order(data: Grouped) -> Ints:
    """``[G]``: the rank in time of each group."""
    _, first = np.unique(data.group, return_index=True)
    return np.asarray(np.argsort(np.argsort(first)), np.int64)


def _auc_score(key: str, value: Floats, made: NDArray[np.bool_], group: Ints, fold: Ints, data: Grouped) -> Score:
    wins, count = np.zeros(1 + data.count), np.zeros(1 + data.count)
    for k in range(FOLDS):
        for g in range(-1, data.count):
            use = (fold == k) & (group != g)
            low, high = value[use & ~made], value[use & made]
            if len(low) and len(high):
                wins[1 + g] += auc(low, high) * len(low) * len(high)
                count[1 + g] += len(low) * len(high)
    each = wins / count
    n = int(min(made.sum(), (~made).sum()))
    return lob_score(
        key, each[0], each[1:], data, group="distributions", unit="AUC", high=1.0, n=n, ceiling=0.5,
        most_dof=FOLDS - 1,
    )  # fmt: skip


def predictive_scores(data: Grouped) -> list[Score]:
    """AUC of predicting on real test sequences whether the mid is higher or lower ten messages on (where it moves).

    Logistic regression on imbalance, order flow and recent moves, trained on real or on generated sequences of the
    first part of the units in time (one generated for each real one), tested on real ones of the rest; the unit between
    them is left out. The intervals leave out every unit where it is, and train again without one of the first part:
    what was learned from so few sequences differs from draw to draw, by far the most where there is nothing to learn.
    They have the degrees of freedom of the test units, which are the fewer.
    """
    keys = ("lobbench.predictive.real_to_real.auc", "lobbench.predictive.synthetic_to_real.auc")
    group: Group = "prediction"
    rank = _order(data)[data.group] if data.count else data.group
    cut = int(TRAIN_SHARE * data.count)
    learn, test = np.flatnonzero(rank < cut), np.flatnonzero(rank > cut)
    real = _examples([(data.pairs[i].real, int(data.group[i])) for i in learn], data.tick)
    made = _examples([(s, int(data.group[i])) for i in learn for s in data.pairs[i].generated[:1]], data.tick)
    held = _examples([(data.pairs[i].real, int(data.group[i])) for i in test], data.tick)
    units = _units(data.group[test])
    part = replace(data, what=f"{data.what} ({units} test {data.what})")
    scores = []
    for key, taught in zip(keys, (real, made), strict=True):
        if data.count < LEAST_UNITS or not (taught.both and held.both):
            why = f"needs {LEAST_UNITS} {data.what}, and moves of the mid up and down in training and test"
            scores.append(Score(key, None, group, "higher", clusters=data.clusters, reason=why))
            continue
        without = np.array([_predicted(taught.without(g), held.without(g)) for g in range(data.count)])
        scores.append(
            lob_score(
                key, _predicted(taught, held), without, part, group=group, direction="higher", unit="AUC", high=1.0,
                n=len(held.rises), floor=0.5, most_dof=units - 1,
            )
        )  # fmt: skip
    return scores


@dataclass(frozen=True)
class _Examples:
    """Messages that are looked at, before a move of the mid."""

    x: Floats
    """``[k, 6]``."""
    rises: NDArray[np.bool_]
    """``[k]``: whether the mid rises."""
    group: Ints
    """``[k]``."""

    @property
    def both(self) -> bool:
        """Whether some rise and some fall."""
        return bool(self.rises.any() and (~self.rises).any())

    def without(self, group: int) -> _Examples:
        keep = self.group != group
        return _Examples(self.x[keep], self.rises[keep], self.group[keep])


def _predicted(taught: _Examples, held: _Examples) -> float:
    """AUC of what one set of examples teaches on another; NaN where one of them lacks a class."""
    if not (taught.both and held.both):
        return float("nan")
    mean, scale = taught.x.mean(axis=0), taught.x.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1)
    value = (held.x - mean) / scale @ logistic((taught.x - mean) / scale, taught.rises)[:-1]
    return auc(value[~held.rises], value[held.rises])


def _examples(sequences: list[tuple[LobSequence, int]], tick: float) -> _Examples:
    """Of sequences and their groups."""
    found = [(*_of_sequence(s, tick), g) for s, g in sequences if len(s) > LOOK_BACK + AHEAD]
    if not found:
        return _Examples(np.zeros((0, 6)), np.zeros(0, bool), np.zeros(0, np.int64))
    group = np.repeat(np.array([g for _, _, g in found], np.int64), [len(y) for _, y, _ in found])
    return _Examples(np.concatenate([x for x, _, _ in found]), np.concatenate([y for _, y, _ in found]), group)


def _of_sequence(s: LobSequence, tick: float) -> tuple[Floats, NDArray[np.bool_]]:
    ask, ask_size, bid, bid_size = s.book[:, 0, :].T
    up, down = np.diff(bid), np.diff(ask)
    flow = np.zeros(len(s))
    flow[1:] = (up >= 0) * bid_size[1:] - (up <= 0) * bid_size[:-1]
    flow[1:] += (down >= 0) * ask_size[:-1] - (down <= 0) * ask_size[1:]
    total = np.cumsum(np.nan_to_num(flow))
    mid, depth = s.mid / tick, ask_size + bid_size
    at = np.arange(LOOK_BACK, len(s) - AHEAD, EVERY)
    scale = max(float(depth.mean()), 1.0)
    columns = [
        np.divide(bid_size - ask_size, depth, out=np.zeros(len(s)), where=depth > 0)[at],
        np.arcsinh((total[at] - total[at - 10]) / scale),
        np.arcsinh((total[at] - total[at - LOOK_BACK]) / scale),
        np.arcsinh(mid[at] - mid[at - 1]),
        np.arcsinh(mid[at] - mid[at - 10]),
        np.arcsinh(mid[at] - mid[at - LOOK_BACK]),
    ]
    x, move = np.column_stack(columns), mid[at + AHEAD] - mid[at]
    ok = np.isfinite(x).all(axis=1) & np.isfinite(move) & (move != 0)
    return x[ok], move[ok] > 0
