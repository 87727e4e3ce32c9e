"""A simulated market of which only the order book is known: snapshots in time, without messages.

Many generators give nothing else. What needs messages (trades, order sizes, who was aggressive) does
not exist here, and says why (``BookSeries.lacks``); what the book alone shows is computed as for a
``Trajectory``, to the digit where there is a snapshot for every change of the best quotes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from marsbench.market.bars import MinuteBars, mid_and_spread
from marsbench.market.paths import PathSeries
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import MINUTE, SECOND, MatchingRules, clock_text
from marsbench.market.snapshots import Snapshots
from marsbench.market.trajectory import Trajectory

Ints = NDArray[np.int64]

FORMAT = 1

_NO_TRADES = "book snapshots show no trades"
_NO_ORDERS = "book snapshots show no orders"
LACKS: Mapping[str, str] = {
    "last_trade_ticks": _NO_TRADES,
    "mean_trade_ticks": _NO_TRADES,
    "volume_shares": _NO_TRADES,
    "n_trades": _NO_TRADES,
    "n_orders": _NO_ORDERS,
    "n_new": _NO_ORDERS,
    "n_cancels": _NO_ORDERS,
    "volatility": "it is measured from order to order, and book snapshots show no orders",
    "mean_order_lots": _NO_ORDERS,
    "aggressive_ratio": _NO_ORDERS,
    "buy_ratio": _NO_ORDERS,
}
"""Series of ``MinuteBars`` that snapshots alone cannot give -> why."""

FINE_NS = SECOND
"""Books on a regular grid that is coarser have no time-weighted spread: too few moments make up a minute's mean.

Measured on a simulation of ``zi-market``: the overlap of its spreads with replay, .845 from every change, is
.841 from one book a second, .555 from one in ten seconds and .251 from one a minute.
"""


@dataclass(frozen=True)
class BookSeries:
    """Book states over one period ``(start_ns, end_ns]``: state i holds from its time to the next one's.

    Raises
    ------
    ValueError
        If there is no state at or before the start, times go back, or a state lies after the end.
    """

    instrument: str
    date: str
    """ISO date of the trading day."""
    rules: MatchingRules
    start_ns: int
    end_ns: int
    time_ns: Ints
    """``[n]``, ascending; of several states at one time the last one holds. Entry 0 is at or before the start."""
    books: Snapshots
    """``[n, 2, L]``."""
    labels: dict[str, Any] = field(default_factory=dict)
    """Provenance; not part of the identity."""

    n_orders: ClassVar[None] = None

    def __post_init__(self) -> None:
        n = len(self.time_ns)
        if self.books.price_ticks.shape[:2] != (n, 2) or self.books.price_ticks.shape != self.books.size_shares.shape:
            raise ValueError(
                f"{n} times need books of shape [{n}, 2, L]; prices have {self.books.price_ticks.shape}, sizes "
                f"{self.books.size_shares.shape}"
            )
        if self.end_ns < self.start_ns:
            raise ValueError(f"period ends before it starts: {self.start_ns} .. {self.end_ns}")
        if n == 0 or self.time_ns[0] > self.start_ns:
            first = clock_text(int(self.time_ns[0])) if n else "nothing"
            raise ValueError(f"no book at the start: the first one is {first}, the start {clock_text(self.start_ns)}")
        if (np.diff(self.time_ns) < 0).any() or self.time_ns[-1] > self.end_ns:
            raise ValueError("book times must ascend and not lie after the end")

    @property
    def grid_ns(self) -> int | None:
        """The step of books that were taken at regular times (most of them); None where they come as they change."""
        steps, counts = np.unique(np.diff(self.time_ns), return_counts=True)
        regular = len(self.time_ns) > 2 and 2 * counts.max() >= counts.sum()
        return int(steps[counts.argmax()]) if regular else None

    @property
    def lacks(self) -> Mapping[str, str]:
        """Series of its bars that it cannot give -> why."""
        grid = self.grid_ns or 0
        if grid <= FINE_NS:
            return LACKS
        why = f"with one book in {grid / SECOND:g} s, the mean spread of a minute is not that of all its moments"
        return {**LACKS, "spread_ticks": f"{why}; write a book for every change, or at least one a second"}

    @property
    def levels(self) -> int:
        return int(self.books.price_ticks.shape[2])

    def content_hash(self) -> str:
        """SHA-256 (hex) of the market content: instrument, date, rules, period, times and books."""
        digest = hashlib.sha256()
        head = {
            "books": FORMAT,
            "instrument": self.instrument,
            "date": self.date,
            "rules": self.rules.to_dict(),
            "period": [int(self.start_ns), int(self.end_ns)],
            "levels": self.levels,
        }
        digest.update(json.dumps(head, sort_keys=True).encode())
        for array in (self.time_ns, self.books.price_ticks, self.books.size_shares):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def with_labels(self, **labels: Any) -> Self:
        return replace(self, labels={**self.labels, **labels})

    def __repr__(self) -> str:
        return (
            f"BookSeries({self.instrument} {self.date} {clock_text(self.start_ns)}-{clock_text(self.end_ns)}, "
            f"{len(self.time_ns)} books of {self.levels} levels)"
        )


Market = Trajectory | BookSeries | PathSeries
"""What a generator hands over for one rollout. All know ``lacks`` and ``n_orders``."""


def books_of(trajectory: Trajectory, *, levels: int = 10) -> BookSeries:
    """The visible book of a trajectory: its start, then every change of the best ``levels`` price levels."""
    if levels < 1:
        raise ValueError(f"levels must be at least 1, got {levels}")
    done = replay_trajectory(trajectory, levels=levels)
    assert done.snapshots is not None
    price, size = done.snapshots.price_ticks, done.snapshots.size_shares  # [n + 1]: right before each message, then end
    changed = ((price[1:] != price[:-1]) | (size[1:] != size[:-1])).any(axis=(1, 2))
    at = np.flatnonzero(changed)
    time = np.maximum.accumulate(trajectory.orders["time_ns"].astype(np.int64))[at]  # as the bars take it
    keep = np.concatenate([[0], at + 1])
    return BookSeries(
        instrument=trajectory.instrument,
        date=trajectory.date,
        rules=trajectory.rules,
        start_ns=trajectory.start_ns,
        end_ns=trajectory.end_ns,
        time_ns=np.concatenate([[trajectory.start_ns], time]).astype(np.int64),
        books=Snapshots(price[keep], size[keep]),
        labels=dict(trajectory.labels),
    )


def cut_books(series: BookSeries, start_ns: int, end_ns: int) -> BookSeries:
    """The part of a series in ``(start_ns, end_ns]``; the book at ``start_ns`` becomes its first.

    Raises
    ------
    ValueError
        If the part reaches beyond the series.
    """
    if start_ns < series.start_ns or end_ns > series.end_ns or end_ns < start_ns:
        raise ValueError(f"cannot cut ({start_ns}, {end_ns}] out of books over ({series.start_ns}, {series.end_ns}]")
    first, last = np.searchsorted(series.time_ns, [start_ns, end_ns], side="right")
    time = series.time_ns[first - 1 : last].copy()
    time[0] = start_ns
    books = Snapshots(series.books.price_ticks[first - 1 : last], series.books.size_shares[first - 1 : last])
    return replace(series, start_ns=start_ns, end_ns=end_ns, time_ns=time, books=books)


def sample_books(series: BookSeries, times_ns: Ints) -> Snapshots:
    """The book as it was at each of some times, ``[len(times_ns)]``; before the start it is that of the start."""
    at = np.maximum(np.searchsorted(series.time_ns, times_ns, side="right") - 1, 0)
    return Snapshots(series.books.price_ticks[at], series.books.size_shares[at])


def book_bars(series: BookSeries) -> MinuteBars:
    """Bars ``[M]`` of snapshots: mid, spread and one-sided time; all of ``LACKS`` is NaN.

    Between two snapshots the book is taken to stand still.
    """
    found = mid_and_spread(series.rules, series.start_ns, series.end_ns, series.time_ns[1:], series.books)
    nothing = np.full(len(found["spread_ticks"]), np.nan)
    price = np.full(len(nothing) + 1, np.nan)
    return MinuteBars(**found, **{name: price if name.endswith("trade_ticks") else nothing for name in LACKS})


def faults(series: BookSeries) -> dict[str, float]:
    """What no continuous market shows for long, as shares of the trading time in [0, 1].

    ``crossed``: the bid above the ask; ``locked``: at the ask; ``one_sided``: no bid or no ask;
    ``silent``: whole minutes without a single new book.
    """
    rules = series.rules
    edges = np.append(np.clip(series.time_ns, series.start_ns, None), series.end_ns)
    held = np.diff(rules.trading_ns(edges)).astype(np.float64)
    total = max(float(held.sum()), 1.0)
    ask, bid = (quote.astype(np.int64) for quote in series.books.best())
    both = series.books.two_sided
    bars = book_bars(series)
    begin = int(rules.trading_ns(series.start_ns))
    own = (np.asarray(rules.trading_ns(series.time_ns[1:])) - begin - 1) // MINUTE
    spoken = np.unique(np.clip(own, 0, max(bars.minutes - 1, 0)))
    return {
        "crossed": float(held[both & (bid > ask)].sum()) / total,
        "locked": float(held[both & (bid == ask)].sum()) / total,
        "one_sided": float(held[~both].sum()) / total,
        "silent": 1 - len(spoken) / bars.minutes if bars.minutes else 0.0,
    }
