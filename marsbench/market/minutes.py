"""Per-minute series of whatever a market shows: orders, fills and the book of ten levels, minute by minute.

``MinuteBars`` holds the series that everybody needs; this is what a quantity of one's own is computed from
(``marsbench.quantities``). Minutes are those of the bars: (start + 60 m s, start + 60 (m + 1) s] of continuous
trading, breaks cut out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from marsbench.market.bars import _period, _Pieces
from marsbench.market.books import BookSeries, Market
from marsbench.market.orders import FILL, MARKET, ORDER, Flag, Kind
from marsbench.market.paths import PathSeries
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import MatchingRules
from marsbench.market.snapshots import Snapshots

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVELS = 10


@dataclass(frozen=True)
class MarketMinutes:
    """One market period, ready to be summed up by minute. n messages (book changes), m fills, M minutes."""

    rules: MatchingRules
    start_ns: int
    end_ns: int
    time_ns: Ints
    """``[n]``, ascending."""
    books: Snapshots
    """``[n + 1]`` of up to ten levels: the book right before message i; the last one is that of the end."""
    orders: NDArray[np.void]
    """``ORDER`` ``[n]``; none where only books are known."""
    counted: NDArray[np.bool_]
    """``[n]``: the market's own messages that were accepted; agents' and seeded ones are not counted."""
    traded_shares: Ints
    """``[n]``: what a message executed at once."""
    fills: NDArray[np.void]
    """``FILL`` ``[m]``; ``side`` is the aggressor's kind."""

    @classmethod
    def of(cls, market: Market) -> Self:
        """Replay a market once.

        Raises
        ------
        TypeError
            For price paths, which hold nothing of it.
        """
        if isinstance(market, PathSeries):
            raise TypeError("price paths have neither books nor orders nor fills")
        if isinstance(market, BookSeries):
            n = len(market.time_ns) - 1
            nobody, none = np.zeros(0, ORDER), np.zeros(n, np.int64)
            return cls(market.rules, market.start_ns, market.end_ns, market.time_ns[1:], market.books, nobody,
                       none.astype(bool), none, np.zeros(0, FILL))  # fmt: skip
        done = replay_trajectory(market, levels=LEVELS)
        assert done.snapshots is not None
        orders = market.orders
        own = (done.reason == 0) & ((orders["flags"] & int(Flag.SEEDED)) == 0) & (orders["owner"] == MARKET)
        time = np.maximum.accumulate(orders["time_ns"].astype(np.int64)) if len(orders) else np.zeros(0, np.int64)
        return cls(market.rules, market.start_ns, market.end_ns, time, done.snapshots, orders,
                   own & (orders["kind"] <= Kind.CANCEL), done.traded_shares, market.fills)  # fmt: skip

    @property
    def minutes(self) -> int:
        return self._pieces[0]

    @property
    def _pieces(self) -> tuple[int, _Pieces]:
        return _period(self.rules, self.start_ns, self.end_ns)

    def time_mean(self, values: Floats) -> Floats:
        """Time-weighted mean by minute ``[M]`` of a property of the books ``[n + 1]``; NaN is left out."""
        minutes, pieces = self._pieces
        knots = np.concatenate([[self.start_ns], np.clip(self.time_ns, self.start_ns, self.end_ns), [self.end_ns]])
        known = np.isfinite(values)
        held = np.diff(knots).astype(np.float64) * known
        total, length = np.zeros(minutes), np.zeros(minutes)
        for out, what in ((total, held * np.where(known, values, 0.0)), (length, held)):
            integral = np.concatenate([[0.0], np.cumsum(what)])
            ends = [
                np.interp(at - self.start_ns, knots - self.start_ns, integral)
                for at in (pieces.start_ns, pieces.end_ns)
            ]
            np.add.at(out, pieces.bar, ends[1] - ends[0])
        return _mean(total, length)

    def message_sum(self, values: Floats) -> Floats:
        """Sum over the counted messages of each minute, ``[M]``, of one value for each message ``[n]``."""
        return self._sum(self.time_ns, np.where(self.counted, values, 0.0))

    def message_mean(self, values: Floats) -> Floats:
        """Mean over those counted messages of each minute, ``[M]``, whose value is not NaN."""
        known = np.isfinite(values)
        return _mean(self.message_sum(np.where(known, values, 0.0)), self.message_sum(known.astype(np.float64)))

    def fill_sum(self, values: Floats) -> Floats:
        """Sum over the fills of each minute, ``[M]``, of one value for each fill ``[m]``."""
        return self._sum(self.fills["time_ns"].astype(np.int64), values)

    def _sum(self, time_ns: Ints, values: Floats) -> Floats:
        minutes, pieces = self._pieces
        out = np.zeros(minutes)
        if len(values):
            low, high = pieces.bounds(np.ascontiguousarray(time_ns))
            total = np.concatenate([[0.0], np.cumsum(np.asarray(values, np.float64))])
            np.add.at(out, pieces.bar, total[high] - total[low])
        return out


def _mean(total: Floats, weight: Floats) -> Floats:
    """``total / weight``, NaN where there is no weight."""
    return np.asarray(np.divide(total, weight, out=np.full(np.shape(total), np.nan), where=weight > 0))
