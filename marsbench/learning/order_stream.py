"""The order flow of a market as trained generators see it: each order with the state of the market right before it.

A state is a row of plain numbers: volumes and gaps of ten price levels on each side, spread, how many levels and how
much volume each side has altogether, mid price since the open, time of day, and what happened lately on five time
scales (how many orders came, how far the mid price is from where it was, how much it moved, who was aggressive, how
much traded). The slow part is updated order by order by the same compiled code in training, where a day goes through
it in one call, and in simulation, where every row keeps its own, so that both see the same numbers. Whatever happens
at one price only matters through it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from marsbench.market.orders import MARKET, NO_PRICE, Flag, Kind, Reason
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import SECOND, MatchingRules
from marsbench.market.snapshots import Snapshots
from marsbench.market.trajectory import Trajectory

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LEVELS = 10
SCALES_S = (3.0, 30.0, 180.0, 900.0, 3600.0)
"""Time constants of what happened lately, in seconds of trading."""
_SCALES_NS = np.array(SCALES_S) * SECOND
_N = len(SCALES_S)

CLOCK, BEGIN, OPEN_MID, MID = range(4)
"""Columns of a memory: trading time now and at the beginning, mid at the open and now (half ticks) ..."""
RATE, MEAN_MID, MOVES, FLOW, VOLUME, MEMORY = (4 + k * _N for k in range(6))
"""... and five sums on five scales."""
TEMPO_SCALE = 3
"""The tempo is that of a quarter of an hour: the mean interval between the market's orders on this scale. What a
simulation draws changes the unit of what it draws next; with three minutes, or a number of orders instead of a time, it
can run away: the more orders, the sooner the unit follows them."""
FIRST_TEMPO_NS = float(SECOND)
"""Before the first order."""

GAPS = (1, 2, 4, 9)
"""Levels whose distance from the best one is part of a state, counted from 0."""


def _names() -> tuple[str, ...]:
    volumes = [f"{side}_volume_{k + 1}" for side in ("ask", "bid") for k in range(LEVELS)]
    gaps = [f"{side}_gap_{k + 1}" for side in ("ask", "bid") for k in GAPS]
    whole = ["ask_levels", "bid_levels", "ask_volume", "bid_volume"]
    clock = ["mid_since_open", "seconds_since_open", "seconds_to_close"]
    clock += ["tempo_ns"]
    lately = [f"{what}_{s:g}s" for what in ("orders", "displacement", "moves", "flow", "volume") for s in SCALES_S]
    return (*volumes, "spread", *gaps, *whole, *clock, *lately)


STATE = _names()
"""Columns of a state. Volumes in lots, prices in ticks (``mid_since_open`` and ``displacement`` in half ticks)."""
WIDTH = len(STATE)
_SPREAD, _WHOLE = 2 * LEVELS, 2 * LEVELS + 1 + 2 * len(GAPS)
_CLOCK = _WHOLE + 4
_LATELY = _CLOCK + 4
_GAPS = np.array(GAPS)


@njit(cache=True)
def _quotes(price, size):  # type: ignore[no-untyped-def]
    """Best ask and bid of one book ``[2, L]``, with a stand-in one tick away where a side is empty; (0, 0) of none."""
    if size[0, 0] > 0 and size[1, 0] > 0:
        return np.int64(price[0, 0]), np.int64(price[1, 0])
    if size[0, 0] > 0:
        return np.int64(price[0, 0]), np.int64(price[0, 0]) - 1
    if size[1, 0] > 0:
        return np.int64(price[1, 0]) + 1, np.int64(price[1, 0])
    return np.int64(0), np.int64(0)


@njit(cache=True)
def _all_quotes(price, size):  # type: ignore[no-untyped-def]
    out = np.empty((len(price), 2), np.int64)
    for i in range(len(price)):
        out[i] = _quotes(price[i], size[i])
    return out


@njit(cache=True)
def remember(memory, clock_ns, signed_lots, counts, mid):  # type: ignore[no-untyped-def]
    """Update one row's memory with an order at trading time ``clock_ns`` that left the mid at ``mid`` (0: none).

    ``signed_lots`` is what it traded at once, negative for a seller; ``counts`` says whether it is the market's.
    """
    passed = max(clock_ns - memory[CLOCK], 0.0)
    moved = 0.0
    if mid != 0:
        if memory[OPEN_MID] == 0.0:
            memory[OPEN_MID] = mid
            memory[MID] = mid
            for k in range(_N):
                memory[MEAN_MID + k] = mid
        moved = mid - memory[MID]
    for k in range(_N):
        keep = np.exp(-passed / _SCALES_NS[k])
        memory[RATE + k] = memory[RATE + k] * keep + counts
        memory[MEAN_MID + k] = memory[MEAN_MID + k] * keep + (1.0 - keep) * memory[MID]
        memory[MOVES + k] = memory[MOVES + k] * keep + moved * moved
        memory[FLOW + k] = memory[FLOW + k] * keep + signed_lots
        memory[VOLUME + k] = memory[VOLUME + k] * keep + abs(signed_lots)
    if mid != 0:
        memory[MID] = mid
    memory[CLOCK] = clock_ns


@njit(cache=True)
def tempo_of(memory):  # type: ignore[no-untyped-def]
    """Mean interval between the market's orders lately, in nanoseconds, at least 1."""
    orders = memory[RATE + TEMPO_SCALE]
    if orders <= 0.0:
        return FIRST_TEMPO_NS
    scale = _SCALES_NS[TEMPO_SCALE]
    return max(scale * (1.0 - np.exp((memory[BEGIN] - memory[CLOCK]) / scale)) / orders, 1.0)


@njit(cache=True)
def describe(memory, price, size, totals, lot, opening_ns, closing_ns, out):  # type: ignore[no-untyped-def]
    """Write one state: a book ``[2, L]`` with its totals ``[2, 2]`` and a memory, at the memory's time."""
    for side in range(2):
        out[_WHOLE + side] = totals[side, 0]
        out[_WHOLE + 2 + side] = totals[side, 1] / lot
        for k in range(LEVELS):
            out[side * LEVELS + k] = size[side, k] / lot
        for j in range(len(_GAPS)):
            k = _GAPS[j]
            there = size[side, k] > 0
            out[_SPREAD + 1 + side * len(_GAPS) + j] = abs(price[side, k] - price[side, 0]) if there else 0
    ask, bid = _quotes(price, size)
    out[_SPREAD] = ask - bid
    out[_CLOCK] = memory[MID] - memory[OPEN_MID]
    out[_CLOCK + 1] = (memory[CLOCK] - opening_ns) / 1e9
    out[_CLOCK + 2] = (closing_ns - memory[CLOCK]) / 1e9
    out[_CLOCK + 3] = tempo_of(memory)
    for k in range(_N):
        out[_LATELY + k] = memory[RATE + k]
        out[_LATELY + _N + k] = memory[MID] - memory[MEAN_MID + k]
        out[_LATELY + 2 * _N + k] = memory[MOVES + k]
        out[_LATELY + 3 * _N + k] = memory[FLOW + k]
        out[_LATELY + 4 * _N + k] = memory[VOLUME + k]


@njit(cache=True)
def _walk(memory, clock_ns, signed_lots, price, size, totals, lot, opening_ns, closing_ns, states, tempo):  # type: ignore[no-untyped-def]
    """States before each of n orders and after the last one, ``[n + 1, WIDTH]``; tempo before each, ``[n]``."""
    describe(memory, price[0], size[0], totals[0], lot, opening_ns, closing_ns, states[0])
    for i in range(len(clock_ns)):
        ask, bid = _quotes(price[i + 1], size[i + 1])
        tempo[i] = tempo_of(memory)
        remember(memory, clock_ns[i], signed_lots[i], 1.0, ask + bid)
        describe(memory, price[i + 1], size[i + 1], totals[i + 1], lot, opening_ns, closing_ns, states[i + 1])


@dataclass(frozen=True)
class OrderStream:
    """One row per order of the market in continuous trading, ``[n]`` each. A replace is a cancel and an order."""

    instrument: str
    clock_ns: Ints
    """Time of trading, breaks left out."""
    interval_ns: Ints
    """Since the order before (the first: since the start)."""
    tempo_ns: Floats
    """Mean interval lately, right before."""
    kind: Ints
    side: Ints
    """ASK or BID: where it rests or would; of a cancel, where the order was."""
    price_ticks: Ints
    """Of a cancel, where the order was."""
    size_shares: Ints
    """Of a cancel, what was taken off the book."""
    ioc: NDArray[np.bool_]
    traded_shares: Ints
    """At once, as aggressor."""
    quotes_ticks: Ints
    """``[n, 2]`` best ask and bid right before, with a stand-in where a side was empty."""
    books: Snapshots
    """``[n + 1]``: right before each order, and after the last one."""
    states: NDArray[np.float32]
    """``[n + 1, WIDTH]``, likewise."""
    memory: Floats
    """``[MEMORY]`` after the last order."""

    def __len__(self) -> int:
        return len(self.clock_ns)

    def last(self, n: int) -> OrderStream:
        """The last ``n`` orders, or all if there are fewer, with the states that belong to them."""
        first = max(len(self) - n, 0)
        rows = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("instrument", "memory", "books")}
        books = Snapshots(self.books.price_ticks[first:], self.books.size_shares[first:])
        return replace(self, **{name: values[first:] for name, values in rows.items()}, books=books)


def session_ns(rules: MatchingRules) -> tuple[int, int]:
    """Opening and close of continuous trading, in time of trading."""
    phases = rules.continuous
    return int(rules.trading_ns(phases[0].start_ns)), int(rules.trading_ns(phases[-1].end_ns))


def best_quotes(books: Snapshots) -> Ints:
    """Best ask and bid ``[n, 2]``, with a stand-in one tick behind the other side where one is empty, 0 of none."""
    quotes: Ints = _all_quotes(books.price_ticks, books.size_shares)
    return quotes


def order_stream(trajectory: Trajectory) -> OrderStream:
    """The market's orders in the continuous trading of a trajectory.

    Seeded volume, rejected messages, agents and auctions are left out.

    Raises
    ------
    ValueError
        If the rules have no continuous trading.
    """
    rules = trajectory.rules
    if not rules.continuous:
        raise ValueError(f"{trajectory!r}: rules {rules.name} have no continuous trading")
    done = replay_trajectory(trajectory, levels=LEVELS)
    assert done.snapshots is not None
    assert done.totals is not None
    sent = trajectory.orders
    time = sent["time_ns"].astype(np.int64)
    trading = np.zeros(len(sent), bool)
    for phase in rules.continuous:
        trading |= (time >= phase.start_ns) & (time < phase.end_ns)
    own = (done.reason == Reason.OK) & (sent["owner"] == MARKET) & ((sent["flags"] & Flag.SEEDED) == 0) & trading
    cancels = np.flatnonzero(own & (done.cancelled_shares > 0))
    enters = np.flatnonzero(own & (sent["kind"] != Kind.CANCEL))
    index = np.concatenate([cancels, enters])
    is_cancel = np.arange(len(index)) < len(cancels)
    rank = np.lexsort((~is_cancel, index))  # the cancel of a replace comes first
    index, is_cancel = index[rank], is_cancel[rank]
    side = np.where(is_cancel, done.cancelled_side[index], sent["kind"][index]).astype(np.int64)
    traded = np.where(is_cancel, 0, done.traded_shares[index])
    clock_ns = np.maximum.accumulate(np.asarray(rules.trading_ns(time[index]), np.int64)) if len(index) else index
    opening_ns, closing_ns = session_ns(rules)
    begin = max(int(rules.trading_ns(trajectory.start_ns)), opening_ns)
    before = np.append(index, index[-1] + 1 if len(index) else len(sent))
    books = _taken(done.snapshots, before)
    lot = float(rules.lot_shares)
    states, memory = np.empty((len(index) + 1, WIDTH), np.float32), new_memory(1)[0]
    memory[BEGIN] = begin
    tempo = np.empty(len(index))
    ask, bid = best_quotes(_taken(books, np.zeros(1, np.int64)))[0]
    remember(memory, float(begin), 0.0, 0.0, float(ask + bid))
    signed = np.where(side == Kind.BID, traded, -traded) / lot
    _walk(
        memory, clock_ns.astype(np.float64), signed, books.price_ticks, books.size_shares, done.totals[before], lot,
        float(opening_ns), float(closing_ns), states, tempo,
    )  # fmt: skip
    return OrderStream(
        instrument=trajectory.instrument,
        clock_ns=clock_ns,
        interval_ns=np.diff(clock_ns, prepend=begin),
        tempo_ns=tempo,
        kind=np.where(is_cancel, int(Kind.CANCEL), side),
        side=side,
        price_ticks=np.where(is_cancel, done.cancelled_price_ticks[index], sent["price_ticks"][index]).astype(np.int64),
        size_shares=np.where(is_cancel, done.cancelled_shares[index], sent["size_shares"][index]).astype(np.int64),
        ioc=~is_cancel & ((sent["flags"][index] & Flag.IOC) != 0),
        traded_shares=traded,
        quotes_ticks=best_quotes(books)[:-1],
        books=books,
        states=states,
        memory=memory,
    )


def _taken(books: Snapshots, at: Ints) -> Snapshots:
    return Snapshots(books.price_ticks[at], books.size_shares[at])


@njit(cache=True)
def tempo_rows(memory, rows):  # type: ignore[no-untyped-def]
    """``tempo_of`` for some rows, ``[k]``."""
    out = np.empty(len(rows))
    for k in range(len(rows)):
        out[k] = tempo_of(memory[rows[k]])
    return out


def new_memory(rows: int) -> Floats:
    """Memories ``[rows, MEMORY]`` in which nothing has happened."""
    return np.zeros((rows, MEMORY))


@njit(cache=True)
def remember_rows(memory, rows, clock_ns, signed_lots, counts, mid):  # type: ignore[no-untyped-def]
    """``remember`` for one order of each of some rows."""
    for k in range(len(rows)):
        remember(memory[rows[k]], clock_ns[k], signed_lots[k], counts[k], mid[k])


@njit(cache=True)
def describe_rows(memory, rows, price, size, totals, lot, opening_ns, closing_ns, out):  # type: ignore[no-untyped-def]
    """``describe`` for some rows: books ``[k, 2, L]`` with totals ``[k, 2, 2]`` into ``out[k, WIDTH]``."""
    for k in range(len(rows)):
        describe(memory[rows[k]], price[k], size[k], totals[k], lot, opening_ns, closing_ns, out[k])


def quotes_or(quotes: Ints, last: Any) -> Ints:
    """Quotes ``[k, 2]`` in which a book without any quote stands around the last trade."""
    none = (quotes == 0).all(axis=1)
    if not none.any():
        return quotes
    last = np.asarray(last, np.int64)
    return np.where(none[:, None], np.stack([last + 1, last], 1), quotes)


__all__ = [
    "LEVELS", "MEMORY", "NO_PRICE", "STATE", "WIDTH", "OrderStream", "best_quotes", "describe_rows", "new_memory",
    "order_stream", "quotes_or", "remember_rows", "session_ns", "tempo_rows",
]  # fmt: skip
