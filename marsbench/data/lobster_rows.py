"""Trajectories as the arrays of LOBSTER's files: the rows that ``marsbench.data.export.to_lobster`` would write."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from marsbench.data.export import _check, _play, _Rows, price_unit
from marsbench.market.orders import Flag, Kind
from marsbench.market.replay import replay_trajectory
from marsbench.market.trajectory import Trajectory
from marsbench.stats.lob_bench import DELETE, PARTIAL, LobSequence

_LEVEL = 4


class _Numbers(_Rows):
    """The rows as numbers instead of text."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.rows: list[tuple[int, ...]] = []
        self.cells: list[list[float]] = []

    def start(self, time_ns: int) -> None:
        self.time_ns = time_ns  # LOB-Bench's files begin with the first message, not with the starting book

    def _write(self, kind: int, order_id: int, size: int, price: int, direction: int) -> None:
        if self.flags & Flag.SEEDED:
            return  # what a source shows without a message is in the books, and is no message
        shown = self.shown_as.get(order_id, order_id)
        self.rows.append((self.time_ns, kind, shown, size, price, direction))
        cells: list[float] = []
        asks, bids = self.keys[int(Kind.ASK)], self.keys[int(Kind.BID)]
        at_ask, at_bid = self.totals[int(Kind.ASK)], self.totals[int(Kind.BID)]
        for k in range(self.levels):
            cells += (asks[k] * self.unit, at_ask[asks[k]]) if k < len(asks) else (np.nan, 0)
            cells += (-bids[k] * self.unit, at_bid[-bids[k]]) if k < len(bids) else (np.nan, 0)
        self.cells.append(cells)


def lobster_sequence(trajectory: Trajectory, *, messages: int | None = None, levels: int = 10) -> LobSequence:
    """The messages of a trajectory and the book after each of them.

    Partial cancels and deletions are both deletions here: which of them a cancel is depends on how a source writes
    it, and no score tells them apart.

    Parameters
    ----------
    trajectory
        Continuous trading only.
    messages
        Only the first so many rows.

    Raises
    ------
    ValueError
        If the trajectory cannot be said in LOBSTER's format (``to_lobster``).
    """
    count = trajectory.n_orders if messages is None else 2 * messages
    rows = _rows(trajectory, count, levels)
    while messages is not None and len(rows.rows) < messages and count < trajectory.n_orders:
        count *= 2
        rows = _rows(trajectory, count, levels)
    columns = np.array(rows.rows[:messages], np.int64).reshape(-1, 6)
    time_ns, event, order_id, size, price, direction = columns.T.copy()
    event[event == PARTIAL] = DELETE
    book = np.array(rows.cells[:messages], np.float64).reshape(len(columns), levels, _LEVEL)
    return LobSequence(time_ns, event, order_id, size, price, direction, book)


def _rows(trajectory: Trajectory, count: int, levels: int) -> _Numbers:
    """The rows of the first ``count`` orders."""
    part = replace(trajectory, orders=trajectory.orders[:count])
    done = replay_trajectory(part, levels=1)
    _check(part, done)
    used = np.r_[part.book.next_id - 1, part.book.resting["order_id"], done.order_id]
    rows = _Numbers(part.book, levels, price_unit(part.rules), fresh_id=int(used.max()) + 1)
    rows.start(part.start_ns)
    _play(rows, part.orders, done)
    return rows
