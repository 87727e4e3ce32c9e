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
    copy: Ints | None = None
    """``[n]``: which of the sequences that were generated for the same real one it is; None where there is one."""

    @classmethod
    def of(cls, values: Floats, group: Ints, condition: Floats | None = None, copy: Ints | None = None) -> Sample:
        """Without values (or conditions) that are not finite."""
        ok = np.isfinite(values) if condition is None else np.isfinite(values) & np.isfinite(condition)
        return cls(
            values[ok], group[ok], None if condition is None else condition[ok], None if copy is None else copy[ok]
        )

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Cells:
    """Counts of both samples in bins, by the group that is left out with them."""

    real: Floats
    """``[G, K]``."""
    made: Floats
    starts: Ints
    """``[conditions]``: where the bins of each condition begin; one condition where there is none."""
    copies: tuple[Floats, ...] = ()
    """``made`` of one generated sequence for each real one, for comparisons at equal n; the only one if empty."""

    def l1(self, p: Floats, q: Floats) -> Floats:
        """``[B]``: L1 of counts ``[B, K]`` in these bins; NaN where a side has none."""
        n, m = (np.add.reduceat(counts, self.starts, axis=1) for counts in (p, q))
        of = np.repeat(np.arange(len(self.starts)), np.diff(np.append(self.starts, p.shape[1])))
        with np.errstate(invalid="ignore", divide="ignore"):
            each = np.add.reduceat(np.abs(p / n[:, of] - q / m[:, of]), self.starts, axis=1) / 2
        return _mean_over(np.where((n > 0) & (m > 0), each, 1.0), n, m)


@dataclass(frozen=True)
class Distances:
    """L1 and W1, and both without each group; NaN where they do not exist."""

    l1: float
    w1: float
    l1_without: Floats
    """``[G]``."""
    w1_without: Floats
    cells: Cells
    matched: float = 1.0
    """Share of observations in conditions that both samples have."""


def codes(values: Floats, *, discrete: bool, of: Floats | None = None) -> Ints:
    """``[n]``: the bin of each value, in bins made from a sample; by default from the values themselves.

    Values outside that sample lie in the outer bins, discrete ones that it lacks in bins between its values.
    """
    sample = values if of is None else of
    if discrete:
        known = np.unique(sample)
        at = np.searchsorted(known, values)
        exact = known[np.minimum(at, len(known) - 1)] == values
        return np.asarray(2 * at + exact, np.int64)
    low, high = float(sample.min()), float(sample.max())
    quarter, three = np.percentile(sample, [25, 75])
    width = 2.0 * float(three - quarter) / len(sample) ** (1 / 3)
    if width > 0 and (high - low) / width > _MANY_BINS:
        bins = np.ceil((high - low) / width)
        return np.asarray((np.clip(values, low, high) - low) / (high - low) * bins, np.int64)
    return np.asarray(np.searchsorted(np.histogram_bin_edges(sample, "fd"), values, side="right"), np.int64)


def deciles(values: Floats, of: Floats | None = None) -> Ints:
    """``[n]``: bins between the deciles of a sample (by default the values themselves), as the original makes them.

    A decile that occurs more than twice is kept twice, and the second of two equal ones is moved up by 0.01.
    """
    edges = np.quantile(values if of is None else of, np.arange(0.1, 1.0, 0.1))
    again = np.insert(edges[1:] == edges[:-1], 0, False)
    edges = edges[~np.insert(again[1:] & again[:-1], 0, False)]
    edges[np.insert(edges[1:] == edges[:-1], 0, False)] += 1e-2
    return np.asarray(np.searchsorted(edges, values, side="right"), np.int64)


def distances(real: Sample, made: Sample, groups: int, *, discrete: bool, w1: bool = True) -> Distances:
    """Unconditional distances of two samples; NaN where one of them is empty, W1 only where asked for."""
    pooled = np.concatenate([real.values, made.values])
    one = np.zeros(len(pooled), np.int64)
    code = codes(pooled, discrete=discrete) if len(pooled) else one
    return _compare(pooled, one, code, len(real), _groups(real, made), groups, made.copy, w1=w1)


def conditional_distances(real: Sample, made: Sample, groups: int, *, discrete: bool, bins: str) -> Distances:
    """Distances within bins of the condition, averaged; NaN where a sample is empty."""
    pooled = np.concatenate([real.values, made.values])
    condition, code = _conditional_codes(real, made, discrete=discrete, bins=bins, frozen=False)
    return _compare(pooled, condition, code, len(real), _groups(real, made), groups, made.copy)


def frozen_cells(real: Sample, made: Sample, groups: int, *, discrete: bool, bins: str | None = None) -> Cells:
    """Counts in bins of the real sample alone: what is compared with what does not depend on the generator.

    ``bins`` is how a condition is cut; None where there is no condition.
    """
    pooled = np.concatenate([real.values, made.values])
    condition = code = np.zeros(len(pooled), np.int64)
    if len(real) and bins is None:
        code = codes(pooled, discrete=discrete, of=real.values)
    elif len(real) and bins is not None:
        condition, code = _conditional_codes(real, made, discrete=discrete, bins=bins, frozen=True)
    return _compare(pooled, condition, code, len(real), _groups(real, made), groups, made.copy, w1=False).cells


def _conditional_codes(real: Sample, made: Sample, *, discrete: bool, bins: str, frozen: bool) -> tuple[Ints, Ints]:
    """Bins of the condition and, within each, of the value; ``frozen``: of the real sample alone."""
    assert real.condition is not None
    assert made.condition is not None
    pooled = np.concatenate([real.values, made.values])
    given = np.concatenate([real.condition, made.condition])
    code = np.zeros(len(pooled), np.int64)
    if not len(pooled):
        return code, code
    known = real.condition if frozen else given
    if bins == "day":
        part = np.searchsorted(np.linspace(0, 24 * 60 * 60, 24), given, side="right")
    else:
        part = codes(given, discrete=True, of=known) if bins == "values" else deciles(given, known)
    condition = np.asarray(np.unique(part, return_inverse=True)[1], np.int64)
    order = np.argsort(condition, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(condition[order])) + 1):
        of = pooled[rows[rows < len(real)]] if frozen else pooled[rows]
        if len(of):  # a condition that no real observation has is one bin
            code[rows] = codes(pooled[rows], discrete=True, of=of) if discrete else deciles(pooled[rows], of)
    return condition, code


def _groups(real: Sample, made: Sample) -> Ints:
    return np.concatenate([real.group, made.group])


def _compare(
    pooled: Floats,
    condition: Ints,
    code: Ints,
    n_real: int,
    group: Ints,
    groups: int,
    copy: Ints | None = None,
    *,
    w1: bool = True,
) -> Distances:
    nothing = np.full(1 + groups, np.nan)
    if not 0 < n_real < len(pooled):
        cells = Cells(np.zeros((groups, 1)), np.zeros((groups, 1)), np.zeros(1, np.int64))
        return Distances(np.nan, np.nan, nothing[1:], nothing[1:], cells)
    is_real = np.arange(len(pooled)) < n_real
    _, first, cell = np.unique(condition * (code.max() + 1) + code, return_index=True, return_inverse=True)
    of = condition[first]
    real, made = (_counts(cell[side], group[side], len(first), groups) for side in (is_real, ~is_real))
    copies: tuple[Floats, ...] = ()
    if copy is not None:
        at = [np.flatnonzero(copy == k) + n_real for k in range(int(copy.max()) + 1)]
        copies = tuple(_counts(cell[rows], group[rows], len(first), groups) for rows in at)
    cells = Cells(real, made, np.flatnonzero(np.append(True, np.diff(of) > 0)), copies)
    p, q = (np.concatenate([c.sum(axis=0)[None], c.sum(axis=0) - c]) for c in (cells.real, cells.made))
    l1 = cells.l1(p, q)
    n, m = (np.add.reduceat(counts, cells.starts, axis=1) for counts in (p, q))
    found = _w1(pooled, condition, is_real, group, groups, n, m) if w1 else nothing
    both = (n[0] > 0) & (m[0] > 0)
    matched = float((n[0] + m[0])[both].sum() / len(pooled))
    return Distances(float(l1[0]), float(found[0]), l1[1:], found[1:], cells, matched)


def _counts(cell: Ints, group: Ints, cells: int, groups: int) -> Floats:
    """Observations in each cell by group, ``[G, cells]``."""
    found = np.bincount(group * cells + cell, minlength=groups * cells).reshape(groups, cells)
    return np.asarray(found, np.float64)


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
