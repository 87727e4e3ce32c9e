"""What an order model is told about the market beside the order itself, in three layouts.

``touch``
    Ours: everything in a state (ten levels of volumes and gaps, spread, time of day, what happened lately on five
    time scales), prices of orders counted from the best quotes, intervals from the tempo.
``paper``
    MarS, equation 1: volumes of ten levels of each side in 32 classes, mid price since the open in ticks, and the
    time of day, before the order; prices counted from the mid.
``public``
    The authors' public code: mid price since the open in basis points, time of day in steps of 5 s, volumes at ten
    prices around the mid in 32 classes, after the order; prices counted from the mid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from marsbench.learning.bins import Bins
from marsbench.learning.order_stream import LEVELS, STATE, OrderStream
from marsbench.learning.state_features import Scaler
from marsbench.market.snapshots import Snapshots

Ints = NDArray[np.int64]

CHANGES = 4001
"""Classes of the mid price since the open: -2000 .. 2000."""
CHANGE_LIMIT = 2000
TIME_STEP_S = 5.0
TIMES = 2881
"""Steps of time since the open, four hours of trading."""
VOLUME_CLASSES = 32
NEAR_TICKS = np.arange(-5, 5)
"""``public``: prices around the mid whose volumes are looked at."""
_MID, _SECONDS = STATE.index("mid_since_open"), STATE.index("seconds_since_open")


class Layout(ABC):
    """Turns states and books into the features of a model."""

    name: ClassVar[str]
    prices: ClassVar[str]
    """Where prices of orders count from, see ``marsbench.learning.vocabulary``."""
    intervals: ClassVar[str] = "clock"
    """What intervals are measured in, likewise."""
    after: ClassVar[bool] = False
    """Whether an order stands beside the book after it rather than before it."""
    dtype: ClassVar[Any] = np.int16
    width: int
    book_columns: NDArray[np.bool_]
    """``[width]``, which of them tell about the book."""

    @classmethod
    @abstractmethod
    def fit(cls, streams: Iterable[tuple[int, OrderStream]], groups: int) -> Self:
        """From training streams with the number of their group."""

    @abstractmethod
    def features(self, states: NDArray[np.float32], books: Snapshots, groups: Any) -> NDArray[Any]:
        """``[n, width]`` for states ``[n, WIDTH]`` and books ``[n, 2, 10]``; one group number, or ``[n]`` of them."""

    def within(self, features: NDArray[Any], groups: Any) -> NDArray[Any]:
        """Features of a simulation, none beyond those of training."""
        del groups
        return features

    def moved(self, features: NDArray[Any], groups: Any) -> NDArray[np.int8]:
        """Whether the mid has just moved further than ever in training, ``[n]``: 1 up, -1 down, 0 neither."""
        del groups
        return np.zeros(len(features), np.int8)

    def with_clock_of(self, other: Layout) -> Layout:
        """A copy in which the time of day is told as the other layout tells it."""
        del other
        return self

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""

    @classmethod
    @abstractmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Back from ``to_dict``."""


@dataclass(frozen=True)
class TouchLayout(Layout):
    """Everything in a state, standardised."""

    scaler: Scaler
    name = "touch"
    prices = "touch"
    intervals = "tempo"
    dtype = np.float16
    width = len(STATE)
    book_columns = np.array([c == "spread" or c.startswith(("ask_", "bid_")) for c in STATE])

    @classmethod
    def fit(cls, streams: Iterable[tuple[int, OrderStream]], groups: int) -> Self:
        """Means and standard deviations of the states."""
        return cls(Scaler.fit(((group, stream.states) for group, stream in streams), groups))

    def features(self, states: NDArray[np.float32], books: Snapshots, groups: Any) -> NDArray[np.float16]:
        """Standardised states."""
        del books
        return self.scaler(states, groups)

    def within(self, features: NDArray[np.float16], groups: Any) -> NDArray[np.float16]:
        return self.scaler.within(features, groups)

    def moved(self, features: NDArray[np.float16], groups: Any) -> NDArray[np.int8]:
        return self.scaler.moved(features, groups)

    def with_clock_of(self, other: Layout) -> TouchLayout:
        assert isinstance(other, TouchLayout)
        return TouchLayout(self.scaler.with_columns_of(other.scaler, ("seconds_since_open", "seconds_to_close")))

    def to_dict(self) -> dict[str, Any]:
        return self.scaler.to_dict()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return cls(Scaler.from_dict(values))


@dataclass(frozen=True)
class _Classes(Layout):
    """Layouts with volumes in classes: bins by group, class 0 for no volume."""

    volumes: tuple[Bins, ...]
    """By group, over lots."""

    @classmethod
    def fit(cls, streams: Iterable[tuple[int, OrderStream]], groups: int) -> Self:
        """Bins of the volumes that stand in the book."""
        found: dict[int, list[NDArray[np.float32]]] = {}
        for group, stream in streams:
            found.setdefault(group, []).append(stream.states[:: max(len(stream) // 5000, 1), : 2 * LEVELS].ravel())
        samples = [np.concatenate(found[g]) for g in range(groups)]
        return cls(tuple(Bins.fit(s[s > 0].astype(np.int64), VOLUME_CLASSES - 1) for s in samples))

    def _classes(self, lots: NDArray[Any], groups: Any) -> NDArray[np.int16]:
        out = np.zeros(lots.shape, np.int16)
        which = np.broadcast_to(groups, len(lots))
        for g in np.unique(which):
            own = which == g
            out[own] = np.where(lots[own] > 0, self.volumes[g].encode(lots[own]) + 1, 0)
        return out

    def to_dict(self) -> dict[str, Any]:
        return {"volumes": [bins.to_dict() for bins in self.volumes]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return cls(tuple(Bins.from_dict(v) for v in values["volumes"]))


def _times(states: NDArray[np.float32]) -> NDArray[np.int16]:
    steps: NDArray[np.int16] = np.clip(states[:, _SECONDS] // TIME_STEP_S, 0, TIMES - 1).astype(np.int16)
    return steps


@dataclass(frozen=True)
class PaperLayout(_Classes):
    """Volume classes of ten levels a side, mid since the open in ticks, time of day."""

    name = "paper"
    prices = "mid"
    width = 2 * LEVELS + 2
    book_columns = np.arange(2 * LEVELS + 2) < 2 * LEVELS + 1

    def features(self, states: NDArray[np.float32], books: Snapshots, groups: Any) -> NDArray[np.int16]:
        """``[n, 22]``: volume classes ask then bid, change (0 .. 4000), time (0 .. 2880)."""
        del books
        change = np.clip(np.round(states[:, _MID] / 2), -CHANGE_LIMIT, CHANGE_LIMIT) + CHANGE_LIMIT
        volumes = self._classes(states[:, : 2 * LEVELS], groups)
        return np.concatenate([volumes, change.astype(np.int16)[:, None], _times(states)[:, None]], axis=1)


@dataclass(frozen=True)
class PublicLayout(_Classes):
    """Mid since the open in basis points, time of day, volume classes at ten prices around the mid."""

    name = "public"
    prices = "mid"
    after = True
    width = 12
    book_columns = np.arange(12) != 1

    def features(self, states: NDArray[np.float32], books: Snapshots, groups: Any) -> NDArray[np.int16]:
        """``[n, 12]``: change (0 .. 4000), time (0 .. 2880), classes at -5 .. +4 ticks from the mid (rounded down)."""
        two_sided = books.two_sided
        mid = np.where(two_sided, books.mid_half_ticks, 0)
        opening = np.where(two_sided, mid - states[:, _MID], 0)
        bps = np.divide(states[:, _MID], opening, out=np.zeros(len(states)), where=opening > 0) * 10_000
        change = (np.clip(np.round(bps), -CHANGE_LIMIT, CHANGE_LIMIT) + CHANGE_LIMIT).astype(np.int16)
        offset = books.price_ticks.astype(np.int64) - (mid // 2)[:, None, None]
        lots = states[:, : 2 * LEVELS].reshape(-1, 2, LEVELS) * two_sided[:, None, None]
        near = np.stack([np.where(offset == t, lots, 0).sum(axis=(1, 2)) for t in NEAR_TICKS], axis=1)
        return np.concatenate([change[:, None], _times(states)[:, None], self._classes(near, groups)], axis=1)


LAYOUTS: dict[str, type[Layout]] = {cls.name: cls for cls in (TouchLayout, PaperLayout, PublicLayout)}
