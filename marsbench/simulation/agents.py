"""Simple agents: the smallest useful example, and the two that the contract tests send in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marsbench.market.clearing_house import BookView, Events
from marsbench.market.orders import ORDER, Flag, Kind
from marsbench.market.rules import SECOND
from marsbench.simulation.contracts import NEVER, Agent, AgentFactory, RowOrders, Rows, Start


class PeriodicAgent(Agent):
    """Wakes every ``every_ns`` from the start on; what it does then, subclasses say in ``act``."""

    def __init__(self, starts: Sequence[Start], rollouts: int, *, every_ns: int) -> None:
        if every_ns <= 0:
            raise ValueError(f"every_ns must be positive, got {every_ns}")
        self.every_ns = every_ns
        self.next_ns = np.repeat(np.array([s.clock_ns for s in starts], np.int64), rollouts) + every_ns

    def next_wake(self, rows: Rows) -> NDArray[np.int64]:
        return self.next_ns[rows]

    def act(self, rows: Rows, book: BookView) -> RowOrders:
        self.next_ns[rows] += self.every_ns
        return RowOrders.none()

    def notify(self, events: Events) -> None:
        """Nothing to remember."""


class FarOrderAgent(PeriodicAgent):
    """Rests one lot at the lowest price allowed, far from the touch, every time it wakes."""

    def __init__(self, starts: Sequence[Start], rollouts: int, *, every_ns: int) -> None:
        super().__init__(starts, rollouts, every_ns=every_ns)
        self.lot = starts[0].rules.lot_shares

    def act(self, rows: Rows, book: BookView) -> RowOrders:
        super().act(rows, book)
        out = np.zeros(len(rows), ORDER)
        touch = book.touch
        far = np.where(touch.size_shares[:, 1, 0] > 0, touch.price_ticks[:, 1, 0] // 2, 1)
        out["kind"] = Kind.BID
        out["price_ticks"] = np.maximum(far, book.limits_ticks[0])
        out["size_shares"] = self.lot
        return RowOrders(rows, out)


class MarketBuyer(Agent):
    """Buys ``size_shares`` once, ``after_ns`` after the start, with one immediate-or-cancel order.

    The simplest agent that moves a market, and an example to copy from.
    """

    def __init__(self, starts: Sequence[Start], rollouts: int, *, size_shares: int, after_ns: int = SECOND) -> None:
        if size_shares <= 0:
            raise ValueError(f"size_shares must be positive, got {size_shares}")
        self.size_shares = size_shares
        self.wake_ns = np.repeat(np.array([s.clock_ns for s in starts], np.int64), rollouts) + after_ns
        self.bought = np.zeros(len(self.wake_ns), np.int64)

    def next_wake(self, rows: Rows) -> NDArray[np.int64]:
        return self.wake_ns[rows]

    def act(self, rows: Rows, book: BookView) -> RowOrders:
        self.wake_ns[rows] = NEVER
        out = np.zeros(len(rows), ORDER)
        out["kind"] = Kind.BID
        out["price_ticks"] = book.limits_ticks[1]
        out["size_shares"] = self.size_shares
        out["flags"] = Flag.IOC
        return RowOrders(rows, out)

    def notify(self, events: Events) -> None:
        mine = events.fills["bid_owner"] == self.owner
        np.add.at(self.bought, events.fill_rows[mine], events.fills["size_shares"][mine])


def periodic(every_ns: int) -> AgentFactory:
    """An agent that wakes and never sends anything."""
    return AgentFactory(lambda s, r: PeriodicAgent(s, r, every_ns=every_ns), "periodic", {"every_ns": every_ns})


def far_orders(every_ns: int) -> AgentFactory:
    """An agent whose orders rest where nobody trades."""
    return AgentFactory(lambda s, r: FarOrderAgent(s, r, every_ns=every_ns), "far-orders", {"every_ns": every_ns})


def market_buyer(size_shares: int, after_ns: int = SECOND) -> AgentFactory:
    """See ``MarketBuyer``."""
    return AgentFactory(
        lambda s, r: MarketBuyer(s, r, size_shares=size_shares, after_ns=after_ns),
        "market-buyer",
        {"size_shares": size_shares, "after_ns": after_ns},
    )
