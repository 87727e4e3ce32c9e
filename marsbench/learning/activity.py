"""How busy a market is at its busiest, by time of day: what a simulation is held to.

Rates of the market's orders on the scales of ``order_stream`` are looked at every few seconds of the training days. Of
each half hour of trading the rate that all but one moment in a hundred stay below counts as the busiest; a half hour
that training never saw takes the busiest of all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marsbench.learning.order_stream import SCALES_S, STATE, OrderStream

Floats = NDArray[np.float64]

STRETCH_S = 1800.0
EVERY_S = 5.0
SHARE = 0.99
_RATES = [STATE.index(f"orders_{s:g}s") for s in SCALES_S]
_SINCE, _LEFT = STATE.index("seconds_since_open"), STATE.index("seconds_to_close")

Stretches = tuple[tuple[float, ...], ...]
"""``[H][len(SCALES_S)]``, one entry for each half hour of trading."""


class Activity:
    """Collects the rates of training streams by group."""

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[Floats, NDArray[np.float32]]]] = {}
        self._lengths: dict[str, int] = {}

    def add(self, group: str, stream: OrderStream) -> None:
        """Look at a stream."""
        since = stream.states[:, _SINCE].astype(np.float64)
        moments = np.arange(since[0], since[-1] + EVERY_S, EVERY_S)
        at = np.searchsorted(since, moments, side="right") - 1
        self._seen.setdefault(group, []).append((moments, stream.states[at][:, _RATES]))
        whole = float(since[0] + stream.states[0, _LEFT])
        self._lengths[group] = max(self._lengths.get(group, 1), int(np.ceil(whole / STRETCH_S)))

    def busiest(self) -> dict[str, Stretches]:
        """Group -> rates at its busiest."""
        return {group: self._of(group) for group in sorted(self._seen)}

    def _of(self, group: str) -> Stretches:
        moments, rates = (np.concatenate(part) for part in zip(*self._seen[group], strict=True))
        stretch = np.clip(moments // STRETCH_S, 0, self._lengths[group] - 1).astype(np.int64)
        found = np.full((self._lengths[group], len(SCALES_S)), -np.inf)
        for number in np.unique(stretch):
            found[number] = np.quantile(rates[stretch == number], SHARE, axis=0)
        found = np.where(np.isfinite(found), found, found.max(axis=0))
        return tuple(tuple(map(float, row)) for row in np.maximum(found, 1.0))
