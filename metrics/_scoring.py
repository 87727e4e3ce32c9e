"""Scores from split-half comparisons, and table columns."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import TrajectoryPairs
from marsbench.scores import Direction, Group, Score
from marsbench.stats.intervals import Interval
from marsbench.stats.splits import MIN_UNITS, SplitHalf
from marsbench.stats.windows import codes

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Units:
    """What is divided into halves: clusters, or starts where there are too few clusters."""

    label: Ints
    """``[S]``, 0, 1, ..."""
    stratum: Ints
    """``[U]``: the instrument of each unit (of its first start)."""
    what: str

    @property
    def count(self) -> int:
        return len(self.stratum)


def split_units(evidence: TrajectoryPairs) -> Units:
    """Clusters, or with fewer than ``MIN_UNITS`` of them the starts."""
    label, what = evidence.clusters, "clusters"
    found = int(label.max()) + 1
    if found < MIN_UNITS:
        label, what = np.arange(len(evidence.starts)), f"starts (only {found} cluster{'s' * (found != 1)})"
    _, first = np.unique(label, return_index=True)
    return Units(label, codes(evidence.instruments)[first], what)


def number(value: Any) -> float | None:
    """A float for a table or a score: None where it is missing or not finite."""
    value = float(value)
    return value if math.isfinite(value) else None


def within(interval: Interval, low: Any, high: Any) -> Interval:
    """The interval cut to the range that the statistic can take (t intervals do not know it)."""
    return replace(interval, low=np.clip(interval.low, low, high), high=np.clip(interval.high, low, high))


def numbers(values: Iterable[Any]) -> list[float | None]:
    return [number(v) for v in values]


def split_score(
    found: SplitHalf | None,
    key: str,
    *,
    group: Group,
    direction: Direction,
    floor: float | None,
    shuffled: bool,
    n: int,
    units: Units,
    missing: str,
) -> Score:
    """The score of a split-half comparison.

    Parameters
    ----------
    floor
        The frozen floor; not looked at where the floor is a shuffle (``shuffled``).
    n
        Observations on the smaller side.
    direction
        ``"higher"`` for a similarity in [0, 1], ``"lower"`` for a distance from 0.
    missing
        Why there is no value, should there be none.
    """
    if found is None:
        alone = f"{units.count} start: a comparison with a ceiling needs at least 2, to divide replay into halves"
        return Score(key, None, group, direction, clusters=units.count, reason=alone)
    if not math.isfinite(found.value):
        return Score(key, None, group, direction, n=n, clusters=units.count, reason=missing)
    floor = number(found.floor) if shuffled else floor
    ceiling = number(found.ceiling)
    interval = within(found.value_interval, 0.0, 1.0 if direction == "higher" else math.inf)
    gap = found.gap_interval if shuffled else found.ceiling_interval
    informative, reason = _informative(floor, ceiling, gap, direction, shifted=not shuffled)
    normalised = None
    normalised_without: tuple[float | None, ...] = ()
    if informative and floor is not None and ceiling is not None:
        normalised = (found.value - floor) / (ceiling - floor)
        normalised_without = _normalised_without(found, None if shuffled else floor)
    without = replicates(found.value_interval)
    return Score(
        key,
        found.value,
        group,
        direction,
        ci_low=number(interval.low),
        ci_high=number(interval.high),
        ci_method=f"split-half, {interval.method}" if number(interval.low) is not None else None,
        floor=floor,
        ceiling=ceiling,
        normalised=normalised,
        informative=informative,
        n=n,
        clusters=units.count,
        reason=reason if number(interval.low) is not None else interval.reason or "no interval: too few comparisons",
        replicates=without,
        normalised_replicates=normalised_without,
        replicate_units=f"{units.count} {units.what}" if without else None,
    )


def replicates(interval: Interval, at: Any = ()) -> tuple[float | None, ...]:
    """The jackknife replicates behind an interval (its entry ``at``), as a score keeps them; empty without any."""
    return () if interval.deleted is None else tuple(numbers(interval.deleted[(slice(None), *np.atleast_1d(at))]))


def _normalised_without(found: SplitHalf, floor: float | None) -> tuple[float | None, ...]:
    """(value - floor) / (ceiling - floor) without each unit; ``floor`` None takes the shuffled one."""
    value, ceiling = found.value_interval.deleted, found.ceiling_interval.deleted
    if value is None or ceiling is None or found.floor_deleted is None:
        return ()
    base = found.floor_deleted if floor is None else np.full_like(value, floor)
    gap = np.where(ceiling == base, np.nan, ceiling - base)
    return tuple(numbers((value - base) / gap))


def _informative(
    floor: float | None, ceiling: float | None, gap: Interval, direction: Direction, *, shifted: bool
) -> tuple[bool | None, str | None]:
    """Whether the interval of (ceiling - floor) lies on the better side of 0, and if not, why."""
    if floor is None:
        return None, "no floor for this data set: not normalised"
    if ceiling is None:
        return None, "replay cannot be compared with itself: not normalised"
    shift = floor if shifted else 0.0
    low, high = float(gap.low) - shift, float(gap.high) - shift
    if not (math.isfinite(low) and math.isfinite(high)):
        return False, "uninformative: no interval of (ceiling - floor)"
    better = low > 0 if direction == "higher" else high < 0
    if better:
        return True, None
    return False, f"uninformative: (ceiling - floor) is {ceiling - floor:.4g} [{low:.4g}, {high:.4g}]"
