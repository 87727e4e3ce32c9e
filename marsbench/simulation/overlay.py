"""Recorded flow that plays on as it was, whatever an agent does: impact without anybody's reaction.

The orders that really came after a start are sent again at their own times and prices, cancels name the orders that
they named, and an agent's orders lie over them. What the price does then is mechanical: the agent takes what others
would have taken, and everybody goes on as if nothing had happened. Without an agent it is replay, order by order. As a
simulation it is no competitor, since it knows the future; as a yardstick of impact it is what a market that cannot
react looks like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.market.clearing_house import BookView, Events
from marsbench.market.orders import MARKET, ORDER, Flag, Kind
from marsbench.market.replay import replay_trajectory
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import (
    NEVER,
    Artifact,
    Budget,
    RowOrders,
    Rows,
    Session,
    SessionGenerator,
    Start,
)

Ints = NDArray[np.int64]
NOWHERE = -1


class Overlay(SessionGenerator):
    """Plays what really happened after each start.

    Parameters
    ----------
    recorded
        By ``Start.name`` what came after it, from the start's clock time on.
    """

    name = "overlay"
    version = 1
    hidden = True
    fits = False
    summary = "recorded flow under an agent's orders: nobody reacts"
    source = "LOB-Impact (2026): historic replay"

    def __init__(self, recorded: Mapping[str, Trajectory]) -> None:
        self.recorded = dict(recorded)

    def parameters(self) -> Mapping[str, Any]:
        return {"recorded": {name: t.content_hash() for name, t in sorted(self.recorded.items())}}

    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        """Refuse: it learns nothing.

        Raises
        ------
        TypeError
            Always.
        """
        raise TypeError("the overlay plays what was recorded; there is nothing to fit")

    def load(self, artifact: Artifact) -> None:
        """Nothing was learned."""

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        del key, control
        missing = [s.name for s in starts if s.name not in self.recorded]
        if missing:
            raise ValueError(f"overlay: no recorded flow after {missing[0]!r}")
        return OverlaySession([self.recorded[s.name] for s in starts for _ in range(rollouts)])


class OverlaySession(Session):
    """One recorded stretch for each row. Ids are given anew, since an agent's orders take some of the recorded ones."""

    def __init__(self, recorded: Sequence[Trajectory]) -> None:
        self.orders = np.concatenate([t.orders for t in recorded])
        lengths = [len(t.orders) for t in recorded]
        self.next = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        """Place in ``orders`` of each row's next message."""
        self.last = np.cumsum(lengths)
        self.target = np.concatenate([_targets(t) for t in recorded])
        """Of a message that names an order which came after the start: how many places before it that one stands."""
        self.given = np.zeros(len(self.orders), np.int64)
        """The id that each new order has got."""
        self.sent = np.full(len(recorded), NOWHERE, np.int64)
        """Place of each row's message under way."""

    def propose(self, rows: Rows, book: BookView) -> Ints:
        there = self.next[rows] < self.last[rows]
        at = np.minimum(self.next[rows], len(self.orders) - 1)
        if len(self.orders) == 0:
            return np.full(len(rows), NEVER, np.int64)
        return np.where(there, np.maximum(self.orders["time_ns"][at], book.now_ns), NEVER)

    def decide(self, rows: Rows, book: BookView) -> RowOrders:
        at = self.next[rows]
        self.next[rows] += 1
        self.sent[rows] = at
        out = np.zeros(len(rows), ORDER)
        for name in ("kind", "price_ticks", "size_shares", "flags", "order_id"):
            out[name] = self.orders[name][at]
        back = self.target[at]
        named = back != NOWHERE
        out["order_id"][named] = self.given[at[named] - back[named]]
        out["order_id"][_is_new(out)] = 0
        return RowOrders(rows, out)

    def observe(self, events: Events) -> Rows:
        own = np.flatnonzero(events.orders["owner"] == MARKET)
        at = self.sent[events.rows[own]]
        self.given[at] = events.orders["order_id"][own]
        return np.zeros(0, np.int64)


def _is_new(orders: NDArray[np.void]) -> NDArray[np.bool_]:
    """Whether a message is a new order, which gets an id of its own; a replace keeps the id that it names."""
    return np.asarray((orders["kind"] != Kind.CANCEL) & ((orders["flags"] & Flag.REPLACE) == 0))


def _targets(recorded: Trajectory) -> Ints:
    """How many places before each message the order stands that it names; ``NOWHERE`` for one from before the start."""
    ids = replay_trajectory(recorded).order_id
    out = np.full(len(ids), NOWHERE, np.int64)
    placed: dict[int, int] = {}
    new = _is_new(recorded.orders)
    by_level = (recorded.orders["flags"] & Flag.BY_LEVEL) != 0
    for i, id_ in enumerate(ids.tolist()):
        if new[i]:
            placed[id_] = i
        elif not by_level[i] and id_ in placed:
            out[i] = i - placed[id_]
    return out
