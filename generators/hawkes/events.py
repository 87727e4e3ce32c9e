"""Types of events: what an order does, on which side, and how far from its own best quote; and when each is possible.

The same rules type the training flow, a start's history and the orders of agents.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from marsbench.market.clearing_house import BookView
from marsbench.market.flow import Action, order_flow
from marsbench.market.orders import Kind
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import SECOND
from marsbench.market.trajectory import Trajectory
from marsbench.stats.hawkes import Record

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Class(IntEnum):
    """What happens; a type is a class on one side, number ``side * CLASSES + class``."""

    INSIDE = 0
    """A limit order that improves its side's best quote."""
    TOUCH = 1
    """A limit order at the best quote."""
    NEAR = 2
    """A limit order up to ``near_ticks`` behind it."""
    FAR = 3
    MARKET = 4
    """An order that trades at once; its side is the buyer's or seller's own."""
    CANCEL_TOUCH = 5
    CANCEL_NEAR = 6
    CANCEL_FAR = 7


CLASSES = len(Class)
TYPES = 2 * CLASSES
MIRROR = (np.arange(TYPES) + CLASSES) % TYPES
"""The same on the other side."""
ANYWHERE = 1 << 40
ZONES = 3
"""Touch, near, far."""
LEVELS = 50
"""Depth of the snapshots from which the state of training's books is seen."""


def types_of(action: Ints, side: Ints, from_own: Ints, near_ticks: int) -> Ints:
    """Type of each event; arguments as in ``Flow``, all ``[n]``."""
    depth = np.select([from_own < 0, from_own == 0, from_own <= near_ticks], [0, 1, 2], 3)
    cancel = Class.CANCEL_TOUCH - 1 + np.maximum(depth, 1)
    what = np.select([action == Action.LIMIT, action == Action.AGGRESSIVE], [depth, int(Class.MARKET)], cancel)
    return np.asarray(side * CLASSES + what, np.int64)


def possible(volume: Ints, spread_ticks: Ints, step_ticks: int) -> Bools:
    """Which types can happen on k books that have both quotes, ``[k, TYPES]``; ``volume`` as in ``State``."""
    out = np.ones((len(volume), 2, CLASSES), np.bool_)
    out[:, :, Class.INSIDE] = (spread_ticks > step_ticks)[:, None]
    out[:, :, Class.MARKET] = volume[:, ::-1, 0] > 0
    out[:, :, Class.CANCEL_TOUCH :] = volume > 0
    return out.reshape(len(volume), TYPES)


@dataclass(frozen=True)
class State:
    """What k books look like to the flow."""

    can: Bools
    """``[k, TYPES]``: which types are possible."""
    spread: Ints
    """``[k]`` ticks; in a simulation, endless where a quote is missing."""
    volume: Ints
    """``[k, 2, ZONES]``: shares on the ask and the bid side at the touch, near it and far."""

    @classmethod
    def now(cls, book: BookView, near_ticks: Ints, step_ticks: int) -> Self:
        """Of rows of a simulation, where the market cancels only orders of its own."""
        ask, bid = book.quotes_ticks
        edges = np.zeros((len(ask), 4), np.int64)
        edges[:, 1], edges[:, 2], edges[:, 3] = 1, near_ticks + 1, ANYWHERE
        volume, has = book.volume_by_distance(np.stack([ask, bid], 1), edges), book.touch.size_shares[:, :, 0] > 0
        can = possible(volume, ask - bid, step_ticks)
        can.reshape(-1, 2, CLASSES)[:, :, Class.MARKET] = has[:, ::-1]
        spread = np.where(has.all(axis=1), ask - bid, ANYWHERE)
        return cls(can, spread, volume)

    @classmethod
    def since(cls, period: Trajectory, times_ns: Ints, near_ticks: int) -> Self:
        """Of a period's book after all messages up to each time; nothing is possible where a quote is missing."""
        done = replay_trajectory(period, levels=LEVELS)
        assert done.snapshots is not None
        assert done.totals is not None
        at = np.searchsorted(period.orders["time_ns"], times_ns, side="right")
        price, size = done.snapshots.price_ticks[at].astype(np.int64), done.snapshots.size_shares[at].astype(np.int64)
        away = np.abs(price - price[:, :, :1])
        near = np.where((away >= 1) & (away <= near_ticks), size, 0).sum(axis=2)
        touch = size[:, :, 0]
        volume = np.stack([touch, near, np.maximum(done.totals[at][:, :, 1] - touch - near, 0)], 2)
        spread = price[:, Kind.ASK, 0] - price[:, Kind.BID, 0]
        can = possible(volume, spread, period.rules.price_step_ticks)
        both = np.asarray((touch > 0).all(axis=1))
        return cls(can & both[:, None], spread, volume)


@dataclass(frozen=True)
class Tape:
    """The typed flow of one period, ``[n]`` each: continuous trading with both quotes there.

    Orders that neither trade nor rest (immediate-or-cancel without a counterpart) are left out.
    """

    trading_s: NDArray[np.float64]
    """Trading time of the day (lunch removed)."""
    columns: dict[str, Ints]
    """Those of ``Flow``, whole numbers."""
    start_s: float
    end_s: float

    @classmethod
    def of(cls, period: Trajectory) -> Self:
        """The tape of a period: its accepted market messages in continuous trading, see ``order_flow``."""
        flow, rules = order_flow(period), period.rules
        inside = np.zeros(len(flow), np.bool_)
        for phase in rules.continuous:
            inside |= (flow.time_ns >= phase.start_ns) & (flow.time_ns < phase.end_ns)
        kept = inside & flow.quoted & ~((flow.action == Action.LIMIT) & flow.ioc)
        names = [field.name for field in fields(flow) if field.name != "quoted"]
        return cls(
            trading_s=rules.trading_ns(flow.time_ns[kept]) / SECOND,
            columns={name: getattr(flow, name)[kept].astype(np.int64) for name in names},
            start_s=float(rules.trading_ns(period.start_ns)) / SECOND,
            end_s=float(rules.trading_ns(period.end_ns)) / SECOND,
        )

    def __len__(self) -> int:
        return len(self.trading_s)

    def until(self, end_s: float) -> Self:
        """Its part up to a trading time."""
        n = int(np.searchsorted(self.trading_s, end_s, side="right"))
        columns = {name: column[:n] for name, column in self.columns.items()}
        return replace(self, trading_s=self.trading_s[:n], columns=columns, end_s=end_s)

    def types(self, near_ticks: int) -> Ints:
        """``[n]``."""
        c = self.columns
        return types_of(c["action"], c["side"], c["from_own"], near_ticks)


@dataclass(frozen=True)
class Track:
    """The typed flow of one period with the state of its book between events: n events, n + 1 states."""

    times_s: NDArray[np.float64]
    types: Ints
    state: State
    start_s: float
    end_s: float
    since_s: float = -np.inf
    """Events up to here only excite others."""

    @classmethod
    def of(cls, period: Trajectory, tape: Tape, near_ticks: int) -> Self:
        """Of a whole period."""
        opening = max(period.start_ns, period.rules.continuous[0].start_ns)
        state = State.since(period, np.concatenate([[opening], tape.columns["time_ns"]]), near_ticks)
        types = tape.types(near_ticks)
        state.can[np.arange(len(tape)), types] = True
        return cls(tape.trading_s, types, state, tape.start_s, tape.end_s)

    def until(self, end_s: float) -> Self:
        """Its part up to a time."""
        n = int(np.searchsorted(self.times_s, end_s, side="right"))
        state = State(self.state.can[: n + 1], self.state.spread[: n + 1], self.state.volume[: n + 1])
        return replace(self, times_s=self.times_s[:n], types=self.types[:n], state=state, end_s=end_s)

    def record(self, factor: NDArray[np.float64] | None = None) -> Record:
        """For the likelihood, with a factor of each type on its intensity, ``[n + 1, TYPES]``."""
        return Record(self.times_s, self.types, self.start_s, self.end_s, factor, self.since_s)

    def __len__(self) -> int:
        """Events that count."""
        return int((self.times_s > self.since_s).sum())


def foreign_types(orders: Any, traded: Ints, quotes_ticks: Ints, near_ticks: int, reach_ticks: int) -> Ints:
    """Types of new orders of agents, ``[k]``; -1 for one that is no event of any type.

    That is an order that neither trades nor rests, or rests further away than training has orders.

    Parameters
    ----------
    quotes_ticks
        ``[k, 2]``, best ask and bid before the order.
    """
    side = orders["kind"].astype(np.int64)
    price = orders["price_ticks"].astype(np.int64)
    own = np.where(side == Kind.ASK, price - quotes_ticks[:, 0], quotes_ticks[:, 1] - price)
    action = np.where(traded > 0, Action.AGGRESSIVE, Action.LIMIT).astype(np.int64)
    nothing = (traded == 0) & (((orders["flags"] & 1) != 0) | (own > reach_ticks))
    return np.where(nothing, -1, types_of(action, side, own, near_ticks))
