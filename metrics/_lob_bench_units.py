"""What all parts of LOB-Bench share: units of inference, their groups, and scores with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marsbench.lob_sequences import LobPair, LobSequences
from marsbench.scores import Direction, Group, Score
from marsbench.stats.intervals import MAX_GROUPS, Interval, jackknife_interval
from marsbench.stats.lob_bench import LobSequence
from marsbench.stats.lob_bench_distances import Sample
from marsbench.stats.windows import codes

from ._scoring import Units, number, replicates, within

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Values = Callable[[LobSequence], Floats]

MIN_UNITS = 2


@dataclass(frozen=True)
class Grouped:
    """Pairs in time order, and the groups of them that a jackknife leaves out one after the other."""

    pairs: tuple[LobPair, ...]
    group: Ints
    """``[P]``: 0 to ``count - 1``."""
    count: int
    clusters: int
    """Units of inference; a group is more than one where there are over ``MAX_GROUPS``."""
    what: str
    floors: dict[str, float]
    tick: float

    @property
    def left_out(self) -> str:
        """The name of what was left out, for paired differences."""
        grouped = "" if self.count == self.clusters else f" in {self.count} groups"
        return f"{self.clusters} {self.what}{grouped}"

    @property
    def units(self) -> Units:
        """For comparisons of halves; strata are instruments."""
        _, first = np.unique(self.group, return_index=True)
        instrument = codes([self.pairs[i].day.rsplit(" ", 1)[0] for i in first]) if len(first) else first
        return Units(self.group, instrument, self.what)

    def real(self, values: Values, given: Values | None = None) -> Sample:
        """Observations of the real sequences, pooled."""
        return _pool([(p.real, g, 0) for p, g in zip(self.pairs, self.group, strict=True)], values, given)

    def made(self, values: Values, given: Values | None = None) -> Sample:
        """Observations of all generated sequences, pooled."""
        sides = zip(self.pairs, self.group, strict=True)
        return _pool([(s, g, k) for p, g in sides for k, s in enumerate(p.generated)], values, given)


def grouped(evidence: LobSequences) -> Grouped:
    """The evidence in time order, its units in groups."""
    starts = [int(p.real.time_ns[0]) if len(p.real) else 0 for p in evidence.pairs]
    order = sorted(range(len(starts)), key=lambda i: (evidence.pairs[i].day.split(" ")[-1], starts[i], i))
    unit = evidence.units[order]
    clusters = int(unit.max(initial=-1)) + 1
    count = min(clusters, MAX_GROUPS)
    _, group = np.unique(unit * count // max(clusters, 1), return_inverse=True)  # neighbours in time stay together
    pairs = tuple(evidence.pairs[i] for i in order)
    return Grouped(pairs, group, count, clusters, evidence.unit_name, dict(evidence.floors), evidence.tick)


def _pool(sides: list[tuple[LobSequence, int, int]], values: Values, given: Values | None) -> Sample:
    found = [values(s) for s, _, _ in sides]
    lengths = [len(v) for v in found]
    group, copy = (np.repeat(np.array([side[k] for side in sides], np.int64), lengths) for k in (1, 2))
    condition = None if given is None else np.concatenate([np.zeros(0), *(given(s) for s, _, _ in sides)])
    several = any(k for _, _, k in sides)
    return Sample.of(np.concatenate([np.zeros(0), *found]), group, condition, copy if several else None)


def jackknifed(value: float, without: Floats, data: Grouped, most_dof: float = np.inf) -> Interval:
    """The interval of a value from its replicates."""
    if data.count < MIN_UNITS or not np.isfinite(value):
        nothing = np.asarray(np.nan)
        return Interval(nothing, nothing, None, data.clusters, f"{data.clusters} {data.what}: no interval")
    return jackknife_interval(np.asarray(value), without, clusters=data.clusters, most_dof=most_dof, what=data.what)


def lob_score(
    key: str, value: float, without: Floats, data: Grouped, *, group: Group, direction: Direction = "lower",
    unit: str = "1", low: float = 0.0, high: float = np.inf, n: int = 0, missing: str = "", floor: float | None = None,
    ceiling: float | None = None, most_dof: float = np.inf,
) -> Score:  # fmt: skip
    """A score with its interval and replicates, not normalised."""
    if number(value) is None:
        return Score(key, None, group, direction, unit=unit, n=n, clusters=data.clusters, reason=missing or "no values")
    interval = within(jackknifed(value, without, data, most_dof), low, high)
    kept = replicates(interval)
    return Score(
        key, float(value), group, direction, unit=unit, ci_low=number(interval.low), ci_high=number(interval.high),
        ci_method=interval.method if number(interval.low) is not None else None, floor=floor, ceiling=ceiling, n=n,
        clusters=data.clusters, replicates=kept, replicate_units=data.left_out if kept else None,
        reason=None if number(interval.low) is not None else interval.reason or "no interval: too few replicates",
    )  # fmt: skip
