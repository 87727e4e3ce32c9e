"""Simple agents: those that the contract tests send in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marsbench.market.clearing_house import BookView, Events
from marsbench.market.orders import ORDER, Kind
from marsbench.market.rules import SECOND
from marsbench.simulation.contracts import Agent, AgentFactory, RowOrders, Rows, Start
from marsbench.simulation.execution import BUY, Sweep


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


def periodic(every_ns: int) -> AgentFactory:
    """An agent that wakes and never sends anything."""
    return AgentFactory(lambda s, r: PeriodicAgent(s, r, every_ns=every_ns), "periodic", {"every_ns": every_ns})


def far_orders(every_ns: int) -> AgentFactory:
    """An agent whose orders rest where nobody trades."""
    return AgentFactory(lambda s, r: FarOrderAgent(s, r, every_ns=every_ns), "far-orders", {"every_ns": every_ns})


def market_buyer(size_shares: int, after_ns: int = SECOND) -> AgentFactory:
    """Buys so many shares once, in every row, whatever the price: the simplest agent that moves a market."""
    style = Sweep(after_s=after_ns / SECOND)

    def make(starts: Sequence[Start], rollouts: int) -> Agent:
        rows = len(starts) * rollouts
        return style.agent(starts, rollouts, np.full(rows, BUY), np.full(rows, size_shares))

    return AgentFactory(make, "market-buyer", {"size_shares": size_shares, "after_ns": after_ns})
