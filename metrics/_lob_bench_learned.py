"""What learns from sequences: the discriminator, and prediction trained on generated data and tested on real."""

from __future__ import annotations

from dataclasses import replace

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
    them is left out.
    """
    keys = ("lobbench.predictive.real_to_real.auc", "lobbench.predictive.synthetic_to_real.auc")
    group: Group = "prediction"
    rank = _order(data)[data.group] if data.count else data.group
    cut = int(TRAIN_SHARE * data.count)
    learn, test = np.flatnonzero(rank < cut), np.flatnonzero(rank > cut)
    real = _examples([data.pairs[i].real for i in learn], data.tick)
    made = _examples([data.pairs[i].generated[0] for i in learn if data.pairs[i].generated], data.tick)
    held = [_examples([data.pairs[i].real], data.tick) for i in test]
    of = np.repeat(data.group[test], [len(y) for _, y in held])
    x = np.concatenate([each for each, _ in held]) if held else np.zeros((0, 1))
    y = np.concatenate([each for _, each in held]) if held else np.zeros(0, bool)
    units = np.unique(data.group[test])
    part = replace(data, count=len(units), clusters=len(units), what=f"test {data.what}")
    scores = []
    for key, (a, b) in zip(keys, (real, made), strict=True):
        if data.count < LEAST_UNITS or not (b.any() and (~b).any() and y.any() and (~y).any()):
            why = f"needs {LEAST_UNITS} {data.what}, and moves of the mid up and down in training and test"
            scores.append(Score(key, None, group, "higher", clusters=len(units), reason=why))
            continue
        mean, scale = a.mean(axis=0), a.std(axis=0)
        scale = np.where(scale > 1e-9, scale, 1)
        value = (x - mean) / scale @ logistic((a - mean) / scale, b)[:-1]
        without = np.array([auc(value[~y & (of != g)], value[y & (of != g)]) for g in units])
        found = auc(value[~y], value[y])
        scores.append(
            lob_score(
                key, found, without, part, group=group, direction="higher", unit="AUC", high=1.0, n=len(y), floor=0.5
            )
        )
    return scores


def _examples(sequences: list[LobSequence], tick: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Features ``[k, 6]`` and whether the mid rises, of all messages that are looked at and before a move."""
    found = [_of_sequence(s, tick) for s in sequences if len(s) > LOOK_BACK + AHEAD]
    if not found:
        return np.zeros((0, 6)), np.zeros(0, bool)
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


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
