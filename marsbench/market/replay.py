"""Replay: a whole stream of messages through one book, in one compiled call.

Exact at any price and any number of live orders: arrays grow when they are full.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.market import _book as kb
from marsbench.market import _streams as streams
from marsbench.market._arrays import Books, Fills, run
from marsbench.market.orders import ORDER
from marsbench.market.rules import MatchingRules
from marsbench.market.snapshots import Snapshots
from marsbench.market.trajectory import BookState, Trajectory

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Replay:
    """What became of a stream of n messages."""

    reason: NDArray[np.uint8]
    """``[n]``, a ``Reason`` per message."""
    traded_shares: Ints
    """``[n]``, executed at once as aggressor in continuous trading."""
    order_id: Ints
    """``[n]``, the ids given to new orders; as sent otherwise."""
    cancelled_shares: Ints
    """``[n]``, taken off the book by a cancel or the first half of a replace ..."""
    cancelled_price_ticks: Ints
    """``[n]``, ... the price where they rested ..."""
    cancelled_side: Ints
    """``[n]``, ... and the side; both meaningful where something was cancelled."""
    fills: NDArray[np.void]
    """``FILL`` array ``[m]`` in order of execution."""
    final: BookState
    snapshots: Snapshots | None
    """``[n + 1]``: entry i is the book right before message i, entry n the book at the end."""
    totals: Ints | None
    """``[n + 1, 2, 2]``, likewise: of each side the number of price levels and the resting shares, all of them."""


def replay(
    rules: MatchingRules,
    book: BookState,
    orders: NDArray[np.void],
    *,
    levels: int = 0,
    end_ns: int | None = None,
) -> Replay:
    """Send a stream of messages to one book and return everything that happened.

    Parameters
    ----------
    rules
        The exchange's rules: auctions, breaks, limits and circuit breakers included.
    book
        Where it starts. Phases that ended at or before ``book.time_ns`` are over.
    orders
        ``ORDER`` array ``[n]`` in sequence.
    levels
        Depth of the snapshots, 0 for none.
    end_ns
        Let time run to here after the last message: phases that ended by then are closed (their
        auctions take place; their fills have ``seq`` n).

    Raises
    ------
    TypeError, ValueError
        For arrays of another layout or a starting book that cannot exist.
    """
    if orders.dtype != ORDER:
        raise TypeError(f"orders must have dtype ORDER, got {orders.dtype}")
    if levels < 0:
        raise ValueError(f"levels must be 0 or more, got {levels}")
    orders = np.ascontiguousarray(orders)
    n = len(orders)
    books = Books(rules, 1, orders=len(book.resting) + 1024, levels=len(book.resting) // 2 + 256)
    books.load(0, book)
    fills = Fills(books, n + len(book.resting) + 1024)
    reasons, outs = np.empty(n, np.uint8), np.empty((n, 5), np.int64)
    prices = np.empty((n + 1 if levels else 0, 2, levels), np.int32)
    sizes, totals = np.empty(prices.shape, np.int64), np.empty((len(prices), 2, 2), np.int64)

    def stream(first: int) -> tuple[int, int]:
        status, at = streams.replay_stream(
            *books.arrays, *books.capacities, books.code, orders, first, reasons, outs, fills.fills,
            prices, sizes, totals, levels,
        )  # fmt: skip
        return int(status), int(at)

    def close(_: int) -> tuple[int, int]:
        status = streams.close_phases(*books.arrays, *books.capacities, books.code, fills.fills, end_ns, n)
        return int(status), 0

    run(books, fills, stream)
    if end_ns is not None:
        run(books, fills, close)
    if levels:
        streams.write_snapshot(
            books.head, books.levels, books.keys, books.slots, 0, books.cap_levels, prices, sizes, n, levels
        )
        streams.write_totals(books.head, 0, totals, n)
    return Replay(
        reason=reasons,
        traded_shares=outs[:, 0],
        order_id=outs[:, 1],
        cancelled_shares=outs[:, 2],
        cancelled_price_ticks=outs[:, 3],
        cancelled_side=outs[:, 4],
        fills=fills.fills[: books.head[0, kb.N_FILLS]].copy(),
        final=books.store(0),
        snapshots=Snapshots(prices, sizes) if levels else None,
        totals=totals if levels else None,
    )


def replay_trajectory(trajectory: Trajectory, *, levels: int = 0) -> Replay:
    """Replay a trajectory from its starting book to its end."""
    return replay(trajectory.rules, trajectory.book, trajectory.orders, levels=levels, end_ns=trajectory.end_ns)


def make_trajectory(
    *, instrument: str, date: str, rules: MatchingRules, start_ns: int, end_ns: int, book: BookState,
    orders: NDArray[np.void], labels: dict[str, Any] | None = None,
) -> Trajectory:  # fmt: skip
    """A trajectory from orders alone: ids are given and fills made by the clearing house."""
    done = replay(rules, book, orders, end_ns=end_ns)
    orders = orders.copy()
    orders["order_id"] = done.order_id
    return Trajectory(instrument, date, rules, start_ns, end_ns, book, orders, done.fills, labels or {})


def cut(trajectory: Trajectory, start_ns: int, end_ns: int) -> Trajectory:
    """The part of a trajectory in ``(start_ns, end_ns]``, with the book as it was at ``start_ns``.

    Auctions that end at or before ``start_ns`` have taken place in that book.

    Raises
    ------
    ValueError
        If the part reaches beyond the trajectory.
    """
    if start_ns < trajectory.start_ns or end_ns > trajectory.end_ns or end_ns < start_ns:
        raise ValueError(
            f"cannot cut ({start_ns}, {end_ns}] out of a trajectory over ({trajectory.start_ns}, {trajectory.end_ns}]"
        )
    times = trajectory.orders["time_ns"]
    first, last = np.searchsorted(times, [start_ns, end_ns], side="right")
    before = replay(trajectory.rules, trajectory.book, trajectory.orders[:first], end_ns=start_ns)
    inside = trajectory.orders[first:last]
    book = replace(before.final, time_ns=start_ns)
    done = replay(trajectory.rules, book, inside, end_ns=end_ns)
    return replace(trajectory, start_ns=start_ns, end_ns=end_ns, book=book, orders=inside.copy(), fills=done.fills)
