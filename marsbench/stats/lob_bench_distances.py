"""Distances of LOB-Bench between two pooled samples, with replicates that leave groups of sequences out.

``L1 = 1/2 sum_b |p_b - q_b|`` over bins of the pooled sample: Freedman-Diaconis (edges of NumPy, the largest value
in a bin of its own, as the original's ``searchsorted`` makes it), or one for each value. W1 is that of values
divided by the pooled standard deviation (ddof 1). Conditional distances are means over bins of the condition,
weighted by their observations of both samples. The original counts a condition that only one sample has as
L1 = 1 but leaves it out of W1 (as 0), which flatters: ``matched`` says what share of observations lies in shared ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MANY_BINS = 1_000_000
"""With more bins than this edges are not written down; an observation at an edge may then fall beside it."""


@dataclass(frozen=True)
class Sample:
    """Observations of all sequences of one side."""

    values: Floats
    """``[n]``, finite."""
    group: Ints
    """``[n]``: which group of sequences is left out with it."""
    condition: Floats | None = None
    """``[n]``: what a conditional distance conditions on."""

    @classmethod
    def of(cls, values: Floats, group: Ints, condition: Floats | None = None) -> Sample:
        """Without values (or conditions) that are not finite."""
        ok = np.isfinite(values) if condition is None else np.isfinite(values) & np.isfinite(condition)
        return cls(values[ok], group[ok], None if condition is None else condition[ok])

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Distances:
    """L1 and W1, and both without each group; NaN where they do not exist."""

    l1: float
    w1: float
    l1_without: Floats
    """``[G]``."""
    w1_without: Floats
    matched: float = 1.0
    """Share of observations in conditions that both samples have."""


def codes(pooled: Floats, *, discrete: bool) -> Ints:
    """``[n]``: the bin of each value of a pooled sample."""
    if discrete:
        return np.asarray(np.unique(pooled, return_inverse=True)[1], np.int64)
    low, high = float(pooled.min()), float(pooled.max())
    quarter, three = np.percentile(pooled, [25, 75])
    width = 2.0 * float(three - quarter) / len(pooled) ** (1 / 3)
    if width > 0 and (high - low) / width > _MANY_BINS:
        bins = np.ceil((high - low) / width)
        return np.asarray((pooled - low) / (high - low) * bins, np.int64)
    return np.asarray(np.searchsorted(np.histogram_bin_edges(pooled, "fd"), pooled, side="right"), np.int64)


def deciles(pooled: Floats) -> Ints:
    """``[n]``: bins between the deciles of a pooled sample, as the original makes them.

    A decile that occurs more than twice is kept twice, and the second of two equal ones is moved up by 0.01.
    """
    edges = np.quantile(pooled, np.arange(0.1, 1.0, 0.1))
    again = np.insert(edges[1:] == edges[:-1], 0, False)
    edges = edges[~np.insert(again[1:] & again[:-1], 0, False)]
    edges[np.insert(edges[1:] == edges[:-1], 0, False)] += 1e-2
    return np.asarray(np.searchsorted(edges, pooled, side="right"), np.int64)


def distances(real: Sample, made: Sample, groups: int, *, discrete: bool) -> Distances:
    """Unconditional distances of two samples; NaN where one of them is empty."""
    if not (len(real) and len(made)):
        nothing = np.full(groups, np.nan)
        return Distances(np.nan, np.nan, nothing, nothing)
    pooled = np.concatenate([real.values, made.values])
    one = np.zeros(len(pooled), np.int64)
    return _compare(pooled, one, codes(pooled, discrete=discrete), len(real), _groups(real, made), groups)


def conditional_distances(real: Sample, made: Sample, groups: int, *, discrete: bool, bins: str) -> Distances:
    """Distances within bins of the condition, averaged; NaN where a sample is empty."""
    if not (len(real) and len(made)):
        nothing = np.full(groups, np.nan)
        return Distances(np.nan, np.nan, nothing, nothing)
    assert real.condition is not None
    assert made.condition is not None
    pooled = np.concatenate([real.values, made.values])
    given = np.concatenate([real.condition, made.condition])
    if bins == "day":
        part = np.searchsorted(np.linspace(0, 24 * 60 * 60, 24), given, side="right")
    else:
        part = codes(given, discrete=True) if bins == "values" else deciles(given)
    condition = codes(part.astype(np.float64), discrete=True)
    code = np.zeros(len(pooled), np.int64)
    order = np.argsort(condition, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(condition[order])) + 1):
        code[rows] = codes(pooled[rows], discrete=True) if discrete else deciles(pooled[rows])
    return _compare(pooled, condition, code, len(real), _groups(real, made), groups)


def _groups(real: Sample, made: Sample) -> Ints:
    return np.concatenate([real.group, made.group])


def _compare(pooled: Floats, condition: Ints, code: Ints, n_real: int, group: Ints, groups: int) -> Distances:
    is_real = np.arange(len(pooled)) < n_real
    conditions = int(condition.max()) + 1
    real_n, made_n = (_table(condition, group, side, conditions, groups) for side in (is_real, ~is_real))
    l1 = _l1(condition, code, is_real, group, groups, real_n, made_n)
    w1 = _w1(pooled, condition, is_real, group, groups, real_n, made_n)
    both = (real_n[0] > 0) & (made_n[0] > 0)
    matched = float((real_n[0] + made_n[0])[both].sum() / len(pooled))
    return Distances(float(l1[0]), float(w1[0]), l1[1:], w1[1:], matched)


def _table(cell: Ints, group: Ints, side: NDArray[np.bool_], cells: int, groups: int) -> Floats:
    """Observations of one side in each cell, ``[1 + G, cells]``: all, and without each group."""
    own = np.bincount(group[side] * cells + cell[side], minlength=groups * cells).reshape(groups, cells)
    total = own.sum(axis=0)
    return np.concatenate([total[None], total - own]).astype(np.float64)


def _l1(
    condition: Ints, code: Ints, is_real: NDArray[np.bool_], group: Ints, groups: int, real_n: Floats, made_n: Floats
) -> Floats:
    _, first, cell = np.unique(condition * (code.max() + 1) + code, return_index=True, return_inverse=True)
    of = condition[first]
    with np.errstate(invalid="ignore", divide="ignore"):
        p = _table(cell, group, is_real, len(first), groups) / real_n[:, of]
        q = _table(cell, group, ~is_real, len(first), groups) / made_n[:, of]
    starts = np.flatnonzero(np.append(True, np.diff(of) > 0))
    each = np.add.reduceat(np.abs(p - q), starts, axis=1) / 2
    return _mean_over(np.where((real_n > 0) & (made_n > 0), each, 1.0), real_n, made_n)


def _mean_over(each: Floats, real_n: Floats, made_n: Floats) -> Floats:
    """Mean over conditions by observations; NaN where a whole side is gone."""
    weight = real_n + made_n
    gone = (real_n.sum(axis=1) == 0) | (made_n.sum(axis=1) == 0)
    return np.where(gone, np.nan, (each * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1))


def _w1(
    pooled: Floats,
    condition: Ints,
    is_real: NDArray[np.bool_],
    group: Ints,
    groups: int,
    real_n: Floats,
    made_n: Floats,
) -> Floats:
    """``[1 + G]``: W1 of z-scored values within each condition, averaged."""
    order = np.lexsort((pooled, condition))
    values, of, side, group = pooled[order], condition[order], is_real[order], group[order]
    width = np.append(np.diff(values), 0.0)
    ends = np.append(np.flatnonzero(np.diff(of)), len(of) - 1)
    width[ends] = 0.0
    starts = np.append(0, ends[:-1] + 1)
    lengths = np.diff(np.append(starts, len(values)))
    values = values - np.repeat(np.add.reduceat(values, starts) / lengths, lengths)  # for the variance's digits
    out = np.empty((1 + groups, len(starts)))
    for g in range(1 + groups):
        keep = np.ones(len(values)) if g == 0 else (group != g - 1).astype(np.float64)
        x, y = np.cumsum(keep * side), np.cumsum(keep * ~side)
        n, m = real_n[g], made_n[g]
        base_x, base_y = np.append(0, x[ends[:-1]]), np.append(0, y[ends[:-1]])
        with np.errstate(invalid="ignore", divide="ignore"):
            f = (x - base_x[of]) / n[of]
            h = (y - base_y[of]) / m[of]
            area = np.add.reduceat(np.abs(f - h) * width, starts)
            first, second = (np.add.reduceat(keep * v, starts) for v in (values, values * values))
            variance = (second - first * first / (n + m)) / (n + m - 1)
            found = area / np.sqrt(variance)
        out[g] = np.where((n > 0) & (m > 0) & (area > 0), found, 0.0)
    if len(starts) == 1:
        out = np.where((real_n > 0) & (made_n > 0), out, np.nan)
    return _mean_over(out, real_n, made_n)
