"""How busy a market is at its busiest, by time of day: what a simulation is held to.

Rates of the market's orders on the scales of ``order_stream`` are looked at every few seconds of the training days. Of
each half hour of trading the rate that all but one moment in a hundred stay below counts as the busiest; a half hour
that training never saw takes the busiest of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from marsbench.learning.order_stream import CLOCK, RATE, SCALES_S, STATE, OrderStream
from marsbench.market.rules import SECOND

Floats = NDArray[np.float64]

STRETCH_S = 1800.0
EVERY_S = 5.0
SHARE = 0.99
_RATES = [STATE.index(f"orders_{s:g}s") for s in SCALES_S]
_SINCE, _LEFT = STATE.index("seconds_since_open"), STATE.index("seconds_to_close")

Stretches = tuple[tuple[float, ...], ...]
"""``[H][len(SCALES_S)]``, one entry for each half hour of trading."""


@dataclass(frozen=True)
class Seen:
    """What ``Activity`` takes of a stream."""

    seconds: Floats
    """Of trading since the open, ``[n]``, every ``EVERY_S``."""
    rates: NDArray[np.float32]
    """``[n, len(SCALES_S)]``."""
    stretches: int
    """Half hours of the whole session."""

    @classmethod
    def of(cls, stream: OrderStream) -> Seen:
        """Look at a stream."""
        since = stream.states[:, _SINCE].astype(np.float64)
        moments = np.arange(since[0], since[-1] + EVERY_S, EVERY_S)
        at = np.searchsorted(since, moments, side="right") - 1
        whole = float(since[0] + stream.states[0, _LEFT])
        return cls(moments, stream.states[at][:, _RATES], int(np.ceil(whole / STRETCH_S)))


class Activity:
    """Collects the rates of training streams by group."""

    def __init__(self) -> None:
        self._seen: dict[str, list[Seen]] = {}

    def add(self, group: str, seen: Seen) -> None:
        """One more stream."""
        self._seen.setdefault(group, []).append(seen)

    def busiest(self) -> dict[str, Stretches]:
        """Group -> rates at its busiest."""
        return {group: self._of(group) for group in sorted(self._seen)}

    def _of(self, group: str) -> Stretches:
        own = self._seen[group]
        moments, rates = np.concatenate([s.seconds for s in own]), np.concatenate([s.rates for s in own])
        length = max(1, *(s.stretches for s in own))
        stretch = np.clip(moments // STRETCH_S, 0, length - 1).astype(np.int64)
        found = np.full((length, len(SCALES_S)), -np.inf)
        for number in np.unique(stretch):
            found[number] = np.quantile(rates[stretch == number], SHARE, axis=0)
        found = np.where(np.isfinite(found), found, found.max(axis=0))
        return tuple(tuple(map(float, row)) for row in np.maximum(found, 1.0))


@njit(cache=True)
def busy_rows(memory, rows, group, busiest, opening_ns):  # type: ignore[no-untyped-def]
    """Rates of some rows of memories over those at their group's busiest ``[G, H, scales]``, the largest, ``[k]``."""
    out = np.empty(len(rows))
    for k in range(len(rows)):
        own = memory[rows[k]]
        stretch = np.int64((own[CLOCK] - opening_ns) // (STRETCH_S * SECOND))
        most = busiest[group[k], min(max(stretch, 0), busiest.shape[1] - 1)]
        out[k] = 0.0
        for s in range(len(most)):
            out[k] = max(out[k], own[RATE + s] / most[s])
    return out
