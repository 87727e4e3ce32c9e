"""The 21 quantities of LOB-Bench (Nagy et al. 2025, arXiv 2502.09172), computed from LOBSTER-like arrays.

Definitions equal those of the public repository ``peernagy/lob_bench`` (its ``eval.py`` and the defaults of its
``run_bench.py``, read in its source in stored copies of 2025 and 2026), so that scores of the same files
compare digit by digit, oddities included:

- prices and depths are in the files' unit (1e-4 dollars), not ticks; the book of a row is the one *after* its message;
- an order's side is the side of the mid price on which its price lies (depths), or the side of the book that holds
  its price (levels), not its direction; levels of cancels look into the book before them;
- the logarithm of a zero waiting time is that of 1e-9 (milliseconds between messages, seconds until a cancel);
- time to cancel is the time between the first two rows (types 1 to 3) of an order that was added in the sequence;
- volume per minute is 60 times the volume of each second that has a trade. The first of several seconds is dropped
  unless its first trade comes in the last tenth of the second, and then scaled by what is left of the second; the
  last one is dropped if its last trade comes in its first tenth, and else scaled; a single second is scaled by the
  microseconds from its first to its last trade;
- order flow imbalance is the mean over 100 events, so sequences under 101 messages have none.

Deviations: a side of the book that is empty has no price here (missing: no spread, no mid) and no size, where the
original computes with the placeholder (9999999999 or -1); values that are not finite are left out everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ADD, PARTIAL, DELETE, EXECUTE = 1, 2, 3, 4
"""Event types of LOBSTER: new order, partial cancel, deletion, execution of a visible order."""
LEVELS = 10
WINDOW = 100
"""Events behind one value of order flow imbalance."""
SECOND = 1_000_000_000
_NO_WAIT = 1e-9
_SHORTEST = 100_000
"""Microseconds: shorter ends of a sequence give no volume per minute."""


@dataclass(frozen=True)
class LobSequence:
    """n messages, and the book after each of them."""

    time_ns: Ints
    """``[n]``, since midnight."""
    event: Ints
    """``[n]``, LOBSTER's event types."""
    order_id: Ints
    size: Ints
    price: Ints
    """``[n]``, in 1e-4 of the currency."""
    direction: Ints
    """``[n]``, 1 where the order that rests is a bid, -1 where it is an ask."""
    book: Floats
    """``[n, L, 4]``: ask price, ask size, bid price, bid size of each level; absent levels NaN and 0."""

    def __len__(self) -> int:
        return len(self.time_ns)

    @property
    def mid(self) -> Floats:
        """``[n]``, NaN where a side is empty."""
        return np.asarray((self.book[:, 0, 0] + self.book[:, 0, 2]) / 2)

    def part(self, first: int, last: int) -> LobSequence:
        """Messages ``first`` to ``last`` (exclusive)."""
        at = slice(first, last)
        return LobSequence(
            self.time_ns[at], self.event[at], self.order_id[at], self.size[at], self.price[at], self.direction[at],
            self.book[at],
        )  # fmt: skip


def _spread(s: LobSequence) -> Floats:
    return np.asarray(s.book[:, 0, 0] - s.book[:, 0, 2])


def _imbalance(s: LobSequence) -> Floats:
    ask, bid = s.book[:, 0, 1], s.book[:, 0, 3]
    return np.asarray(np.divide(bid - ask, bid + ask, out=np.full(len(s), np.nan), where=bid + ask > 0))


def _log_inter_arrival(s: LobSequence) -> Floats:
    milliseconds = np.diff(s.time_ns) / SECOND * 1000
    with np.errstate(invalid="ignore"):
        return np.log(np.where(milliseconds == 0, _NO_WAIT, milliseconds))


def _log_time_to_cancel(s: LobSequence) -> Floats:
    rows = np.flatnonzero((s.event >= ADD) & (s.event <= DELETE))
    ids = s.order_id[rows]
    known = np.isin(ids, ids[s.event[rows] == ADD])
    rows, ids = rows[known], ids[known]
    order = np.argsort(ids, kind="stable")
    rows, ids = rows[order], ids[order]
    new = np.ones(len(ids), bool)
    new[1:] = ids[1:] != ids[:-1]
    first = np.flatnonzero(new)
    first = first[(first + 1 < len(ids))]
    first = first[~new[first + 1]]
    seconds = (s.time_ns[rows[first + 1]] - s.time_ns[rows[first]]) / SECOND
    with np.errstate(invalid="ignore"):
        return np.log(np.where(seconds == 0, _NO_WAIT, seconds))


def _size(column: int, levels: int) -> Callable[[LobSequence], Floats]:
    def values(s: LobSequence) -> Floats:
        return np.asarray(s.book[:, :levels, column].sum(axis=1))

    return values


def _depth(events: tuple[int, ...], sign: int) -> Callable[[LobSequence], Floats]:
    def values(s: LobSequence) -> Floats:
        at = np.isin(s.event, events)
        depth = sign * (s.price[at] - s.mid[at])
        return np.asarray(depth[depth > 0])

    return values


def _level(events: tuple[int, ...], column: int) -> Callable[[LobSequence], Floats]:
    def values(s: LobSequence) -> Floats:
        rows = np.flatnonzero(np.isin(s.event, events))
        shift = 0 if ADD in events else 1
        rows = rows[rows >= shift]
        found = s.book[rows - shift, :LEVELS, column] == s.price[rows, None]
        return np.asarray(np.nonzero(found)[1] + 1.0)

    return values


def _volume_per_minute(s: LobSequence) -> Floats:
    trades = s.event == EXECUTE
    time, size = s.time_ns[trades], s.size[trades]
    if not len(time):
        return np.zeros(0)
    seconds, of = np.unique(time // SECOND, return_inverse=True)
    volume = np.bincount(of, weights=size).astype(np.float64)
    micro = time // 1000 % 1_000_000
    start, end = int(micro[of == 0][0]), int(micro[of == len(seconds) - 1][-1])
    if len(seconds) == 1:
        if time[0] != time[-1]:
            if end - start < _SHORTEST:
                return np.zeros(0)
            volume[0] *= 1_000_000 / (end - start)
        return volume * 60
    if start < 1_000_000 - _SHORTEST:
        volume = volume[1:]
    else:
        volume[0] /= 1 - start / 1_000_000
    if end < _SHORTEST:
        volume = volume[:-1]
    else:
        volume[-1] *= 1_000_000 / end
    return volume * 60


def _flow_imbalance(s: LobSequence) -> Floats:
    """Mean over ``WINDOW`` events, ``[n - WINDOW]``: entry i ends with message i + WINDOW."""
    ask, ask_size, bid, bid_size = s.book[:, 0, :].T
    up, down = np.diff(bid), np.diff(ask)
    flow = (
        (up >= 0) * bid_size[1:] - (up <= 0) * bid_size[:-1] - (down <= 0) * ask_size[1:] + (down >= 0) * ask_size[:-1]
    )
    if len(flow) < WINDOW:
        return np.zeros(0)
    total = np.concatenate([[0.0], np.cumsum(flow)])
    return np.asarray((total[WINDOW:] - total[:-WINDOW]) / WINDOW)


def _flow_imbalance_before(sign: int) -> Callable[[LobSequence], Floats]:
    def values(s: LobSequence) -> Floats:
        before, move = _flow_imbalance(s)[:-1], np.diff(s.mid)[WINDOW:]
        return before[np.sign(move) == sign] if len(before) else before

    return values


@dataclass(frozen=True)
class LobQuantity:
    """One of the 21."""

    key: str
    """As the repository names it."""
    title: str
    values: Callable[[LobSequence], Floats]
    discrete: bool = False
    """Whether each value is a bin of its own."""
    needs_levels: int = 1


QUANTITIES: tuple[LobQuantity, ...] = (
    LobQuantity("spread", "Spread", _spread, discrete=True),
    LobQuantity("orderbook_imbalance", "Order book imbalance", _imbalance),
    LobQuantity("log_inter_arrival_time", "Log inter-arrival time", _log_inter_arrival),
    LobQuantity("log_time_to_cancel", "Log time to cancel", _log_time_to_cancel),
    LobQuantity("ask_volume_touch", "Ask volume at the touch", _size(1, 1)),
    LobQuantity("bid_volume_touch", "Bid volume at the touch", _size(3, 1)),
    LobQuantity("ask_volume", "Ask volume", _size(1, LEVELS), needs_levels=LEVELS),
    LobQuantity("bid_volume", "Bid volume", _size(3, LEVELS), needs_levels=LEVELS),
    LobQuantity("limit_ask_order_depth", "Depth of new asks", _depth((ADD,), 1)),
    LobQuantity("limit_bid_order_depth", "Depth of new bids", _depth((ADD,), -1)),
    LobQuantity("ask_cancellation_depth", "Depth of cancelled asks", _depth((PARTIAL, DELETE), 1)),
    LobQuantity("bid_cancellation_depth", "Depth of cancelled bids", _depth((PARTIAL, DELETE), -1)),
    LobQuantity("limit_ask_order_levels", "Level of new asks", _level((ADD,), 0), discrete=True),
    LobQuantity("limit_bid_order_levels", "Level of new bids", _level((ADD,), 2), discrete=True),
    LobQuantity("ask_cancellation_levels", "Level of cancelled asks", _level((PARTIAL, DELETE), 0), discrete=True),
    LobQuantity("bid_cancellation_levels", "Level of cancelled bids", _level((PARTIAL, DELETE), 2), discrete=True),
    LobQuantity("vol_per_min", "Volume per minute", _volume_per_minute),
    LobQuantity("ofi", "Order flow imbalance", _flow_imbalance),
    LobQuantity("ofi_up", "Order flow imbalance before the mid rises", _flow_imbalance_before(1)),
    LobQuantity("ofi_stay", "Order flow imbalance before the mid stays", _flow_imbalance_before(0)),
    LobQuantity("ofi_down", "Order flow imbalance before the mid falls", _flow_imbalance_before(-1)),
)
"""In the order of the repository's configuration."""

BY_KEY: Mapping[str, LobQuantity] = {q.key: q for q in QUANTITIES}


def time_of_day(s: LobSequence) -> Floats:
    """Seconds since midnight, ``[n]``."""
    return np.asarray(s.time_ns / SECOND)


def volatility(s: LobSequence, interval_ns: int = SECOND // 10) -> float:
    """Standard deviation of log returns of the last mid in tenths of a second that have one; 0 without two returns.

    As the original: a tenth without a message has no price, so that only returns between neighbouring tenths count.
    """
    bar = s.time_ns // interval_ns
    last = np.flatnonzero(np.append(bar[1:] != bar[:-1], True)) if len(bar) else np.zeros(0, np.int64)
    bar, price = bar[last], s.mid[last]
    returns = np.diff(np.log(price))[np.diff(bar) == 1]
    returns = returns[np.isfinite(returns)]
    return float(returns.std(ddof=1)) if len(returns) > 1 else 0.0


@dataclass(frozen=True)
class LobCondition:
    """One of the 3 conditional scores: a quantity within bins of another."""

    key: str
    title: str
    values: Callable[[LobSequence], Floats]
    discrete: bool
    """Whether each value of the quantity is a bin of its own within a condition; else deciles are."""
    given: Callable[[LobSequence], Floats]
    bins: str
    """Bins of the condition: ``values``, ``deciles`` or ``day`` (23 equal parts of the day)."""


CONDITIONS: tuple[LobCondition, ...] = (
    LobCondition("ask_volume_spread", "Ask volume at the touch given the spread", _size(1, 1), False,
                 _spread, "values"),
    LobCondition("spread_time", "Spread given the time of day", _spread, False, time_of_day, "day"),
    LobCondition("spread_volatility", "Spread given the volatility", _spread, True,
                 lambda s: np.full(len(s), volatility(s)), "deciles"),
)  # fmt: skip
"""``ask_volume | spread``, ``spread | time`` and ``spread | volatility`` of the repository."""
