"""Comparisons at equal n: replay is split into halves A | B, and simulation and replay meet on equal terms.

``value = D(simulation on A, replay on B)`` has the same number of observations on both sides as
``ceiling = D(replay on A, replay on B)``, so sampling noise weighs alike in both; both are means over
random splits of the clusters. The interval is Student's t over the pseudo-values of a delete-one-cluster
jackknife, with the degrees of freedom of one half (those of the whole were measured to cover 90% with 8
clusters, these 93% to 95%). A bootstrap draws a cluster several times, which makes halves of fewer distinct
clusters, and shifts a distance (never negative) upwards with it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.intervals import Interval, deletion_weights, jackknife_interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Comparison = Callable[[Floats, Floats, int], tuple[Floats, Floats, Floats]]
"""(weights of A ``[B, C]``, of B ``[B, C]``, number of the split) -> value, ceiling, floor, each ``[B]``."""

MIN_UNITS = 4
"""Fewer units than this have no interval: deleting one would empty a half."""


@dataclass(frozen=True)
class SplitHalf:
    """Means over the splits, and their intervals."""

    value: float
    ceiling: float
    floor: float
    value_interval: Interval
    gap_interval: Interval
    """Of ceiling - floor."""
    ceiling_interval: Interval
    units: int
    floor_deleted: Floats | None = None
    """``[G]``: the floor without group g; None where there are too few units."""
    ceilings: Floats | None = None
    """``[K]``: the ceiling of each split, whose spread says how far apart halves of replay can lie."""


def half_splits(stratum: Ints, splits: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """``[K, C]``: which clusters belong to half A. Strata (instruments) are halved each, as far as they can be."""
    clusters = len(stratum)
    out = np.zeros((splits, clusters), bool)
    for k in range(splits):
        order = np.lexsort((rng.random(clusters), stratum))
        out[k, order[rng.integers(2) :: 2]] = True
    return out


def split_half(
    compare: Comparison, stratum: Ints, splits: int, rng: np.random.Generator, *, what: str = "clusters"
) -> SplitHalf | None:
    """Compare on random halves; None with fewer than 2 units. NaN where a side cannot be computed."""
    units = len(stratum)
    if units < 2:
        return None
    masks = half_splits(stratum, splits, rng)
    left_out = deletion_weights(units, np.random.default_rng(units))  # the same whatever is compared: paired
    rows = [np.ones((1, units)), left_out] if units >= MIN_UNITS else [np.ones((1, units))]
    weights = np.concatenate(rows)
    found = np.stack([np.stack(compare(weights * m, weights * ~m, k)) for k, m in enumerate(masks)])  # [K, 3, 1 + G]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NaN where no split has a value
        value, ceiling, floor = np.nanmean(found, axis=0)

    def interval(x: Floats) -> Interval:
        if units < MIN_UNITS:
            nothing = np.asarray(np.nan)
            return Interval(nothing, nothing, None, units, f"{units} {what}: an interval needs at least {MIN_UNITS}")
        return jackknife_interval(x[0], x[1:], most_dof=units / 2, what=what)

    return SplitHalf(
        float(value[0]), float(ceiling[0]), float(floor[0]),
        interval(value), interval(ceiling - floor), interval(ceiling), units,
        floor[1:] if units >= MIN_UNITS else None, found[:, 1, 0],
    )  # fmt: skip
