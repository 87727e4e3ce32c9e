"""Bins of an integer quantity: equal frequency, with bins of their own for frequent values.

What order tokens are made of. A bin is right-closed and keeps the distribution of the training values
in it, from which decoding draws, so that what the bins merge comes back with its own frequencies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

KEPT = 100
"""So many values stand for the distribution within a bin that holds more than that."""


@dataclass(frozen=True)
class Bins:
    """At most so many bins as were asked for; fewer where there are fewer distinct values."""

    upper: tuple[int, ...]
    """``[n]`` largest value of each bin, ascending. Smaller and larger values belong to the first and the last."""
    values: tuple[tuple[int, ...], ...]
    """Values that stand for each bin, ascending."""
    counts: tuple[tuple[int, ...], ...]
    """How often each of them came: their probabilities within the bin, up to a factor."""

    @classmethod
    def fit(cls, sample: Ints, bins: int, *, splits: Sequence[int] = ()) -> Self:
        """Bins of a sample.

        Parameters
        ----------
        sample
            Training values, any number of distinct ones.
        bins
            So many at most.
        splits
            No bin reaches across these: values below a split and at it or above it are kept apart.

        Raises
        ------
        ValueError
            If the sample is empty, or there are more regions between splits than bins.
        """
        values, counts = np.unique(np.asarray(sample, np.int64), return_counts=True)
        if len(values) == 0:
            raise ValueError("bins need at least one value, the sample is empty")
        bounds = np.unique(np.searchsorted(values, np.sort(np.asarray(splits, np.int64)), side="left"))
        starts = [0, *(int(b) for b in bounds if 0 < b < len(values))]
        if len(starts) > bins:
            raise ValueError(f"{len(starts)} regions do not fit into {bins} bins")
        regions = [(values[a:b], counts[a:b]) for a, b in zip(starts, [*starts[1:], len(values)], strict=True)]
        shares = _shared([int(c.sum()) for _, c in regions], [len(v) for v, _ in regions], bins)
        groups = [g for (v, c), share in zip(regions, shares, strict=True) for g in _cut(v, c, share)]
        stands = [_represent(v, c) for v, c in groups]
        return cls(
            upper=tuple(int(v[-1]) for v, _ in groups),
            values=tuple(tuple(map(int, v)) for v, _ in stands),
            counts=tuple(tuple(map(int, c)) for _, c in stands),
        )

    def __len__(self) -> int:
        return len(self.upper)

    def encode(self, values: Any) -> NDArray[np.uint8]:
        """Bin of each value, of the same shape."""
        inner = np.array(self.upper[:-1], np.int64)
        return np.searchsorted(inner, np.asarray(values, np.int64), side="left").astype(np.uint8)

    def decode(self, bins: Any, uniforms: Any) -> Ints:
        """A value for each bin, drawn by inverse distribution function with a uniform of (0, 1)."""
        bins = np.asarray(bins, np.int64)
        values, cumulative = self.table
        at = (cumulative[bins] <= np.asarray(uniforms)[..., None]).sum(axis=-1)
        drawn: Ints = values[bins, np.minimum(at, values.shape[1] - 1)]
        return drawn

    @cached_property
    def table(self) -> tuple[Ints, NDArray[np.float64]]:
        """Values and cumulative probabilities of all bins, each ``[n, K]``, padded with the last value and 1."""
        longest = max(map(len, self.values))
        values = np.array([[*v, *[v[-1]] * (longest - len(v))] for v in self.values], np.int64)
        cumulative = np.ones((len(self), longest))
        for row, counts in zip(cumulative, self.counts, strict=True):
            row[: len(counts)] = np.cumsum(counts) / sum(counts)
        return values, cumulative

    @cached_property
    def lower(self) -> Ints:
        """``[n]`` smallest value that stands for each bin."""
        return np.array([v[0] for v in self.values], np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        values, counts = ([list(row) for row in part] for part in (self.values, self.counts))
        return {"upper": list(self.upper), "values": values, "counts": counts}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Back from ``to_dict``."""
        return cls(tuple(values["upper"]), tuple(map(tuple, values["values"])), tuple(map(tuple, values["counts"])))


def _shared(masses: Sequence[int], distinct: Sequence[int], bins: int) -> list[int]:
    """Bins for each region: one, then one more wherever a bin holds most, as long as there are values for it."""
    shares = [1] * len(masses)
    for _ in range(bins - len(masses)):
        heavy = [m / s if s < d else -1.0 for m, s, d in zip(masses, shares, distinct, strict=True)]
        if max(heavy) < 0:
            break
        shares[int(np.argmax(heavy))] += 1
    return shares


Group = tuple[Ints, Ints]
"""Distinct values, ascending, and their counts."""


def _cut(values: Ints, counts: Ints, bins: int) -> list[Group]:
    """At most so many consecutive groups: heavy values alone, the rest in equal shares."""
    if len(values) <= bins:
        return [(values[i : i + 1], counts[i : i + 1]) for i in range(len(values))]
    if bins == 1:
        return [(values, counts)]
    heavy = np.flatnonzero(counts >= counts.sum() / bins)
    heavy = heavy[np.argsort(-counts[heavy], kind="stable")]
    while len(heavy) and len(heavy) + len(_between(np.sort(heavy), len(values))) > bins:
        heavy = heavy[:-1]
    if len(heavy) == 0:
        return _equal(values, counts, bins)
    spans = _between(np.sort(heavy), len(values))
    shares = _shared([int(counts[a:b].sum()) for a, b in spans], [b - a for a, b in spans], bins - len(heavy))
    found = [(int(h), [(values[h : h + 1], counts[h : h + 1])]) for h in heavy]
    found += [(a, _cut(values[a:b], counts[a:b], share)) for (a, b), share in zip(spans, shares, strict=True)]
    return [group for _, groups in sorted(found, key=lambda item: item[0]) for group in groups]


def _between(places: Ints, length: int) -> list[tuple[int, int]]:
    """Non-empty spans of ``range(length)`` without those places."""
    ends = [-1, *map(int, places), length]
    return [(a + 1, b) for a, b in pairwise(ends) if a + 1 < b]


def _equal(values: Ints, counts: Ints, bins: int) -> list[Group]:
    """Groups of nearly equal mass, where no value is heavier than a share."""
    cumulative = np.cumsum(counts)
    targets = cumulative[-1] * np.arange(1, bins) / bins
    cuts = np.unique(np.searchsorted(cumulative, targets, side="left") + 1)
    edges = [0, *(int(c) for c in cuts if 0 < c < len(values)), len(values)]
    return [(values[a:b], counts[a:b]) for a, b in pairwise(edges)]


def _represent(values: Ints, counts: Ints) -> Group:
    """Values and counts that stand for a group: all of it, or its quantiles at equal steps."""
    if len(values) > KEPT:
        places = np.searchsorted(np.cumsum(counts), (np.arange(KEPT) + 0.5) / KEPT * counts.sum(), side="left")
        values, counts = np.unique(values[places], return_counts=True)
    return values, counts
