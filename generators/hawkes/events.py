"""Types of events: what an order does, on which side, and how far from its own best quote; and when each is possible.

The same rules type the training flow, a start's history and the orders of agents.
"""

from __future__ import annotations

from dataclasses import dataclass
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
LEVELS = 10
"""Depth of the snapshots from which it is seen what was possible in training."""


def types_of(action: Ints, side: Ints, from_own: Ints, near_ticks: int) -> Ints:
    """Type of each event; arguments as in ``Flow``, all ``[n]``."""
    depth = np.select([from_own < 0, from_own == 0, from_own <= near_ticks], [0, 1, 2], 3)
    cancel = Class.CANCEL_TOUCH - 1 + np.maximum(depth, 1)
    what = np.select([action == Action.LIMIT, action == Action.AGGRESSIVE], [depth, int(Class.MARKET)], cancel)
    return np.asarray(side * CLASSES + what, np.int64)


def possible(depth: Bools, spread_ticks: Ints, step_ticks: int, has: Bools) -> Bools:
    """Which types can happen on k books, ``[k, TYPES]``.

    Parameters
    ----------
    depth
        ``[k, 2, 3]``: whether there is an order to cancel at the touch, near and far, on the ask and the bid side.
    has
        ``[k, 2]``: whether the side has a quote.
    """
    out = np.ones((len(depth), 2, CLASSES), np.bool_)
    out[:, :, Class.INSIDE] = (spread_ticks > step_ticks)[:, None]
    out[:, :, Class.MARKET] = has[:, ::-1]
    out[:, :, Class.CANCEL_TOUCH :] = depth
    return out.reshape(len(depth), TYPES)


def possible_now(book: BookView, near_ticks: Ints, step_ticks: int) -> Bools:
    """The same for rows of a simulation, where the market cancels only orders of its own, ``[k, TYPES]``."""
    ask, bid = book.quotes_ticks
    near = np.zeros((len(ask), 4), np.int64)
    near[:, 1], near[:, 2], near[:, 3] = 1, near_ticks + 1, ANYWHERE
    volume = book.volume_by_distance(np.stack([ask, bid], 1), near)
    return possible(volume > 0, ask - bid, step_ticks, book.touch.size_shares[:, :, 0] > 0)


@dataclass(frozen=True)
class Tape:
    """The typed flow of one period, ``[n]`` each: continuous trading with both quotes there.

    Orders that neither trade nor rest (immediate-or-cancel without a counterpart) are left out.
    """

    trading_s: NDArray[np.float64]
    """Trading time of the day (lunch removed)."""
    columns: dict[str, Ints]
    """``time_ns``, ``action``, ``side``, ``size_shares``, ``from_opposite``, ``from_own``, ``ioc``."""
    start_s: float
    end_s: float

    @classmethod
    def of(cls, period: Trajectory) -> Self:
        flow, rules = order_flow(period), period.rules
        inside = np.zeros(len(flow), np.bool_)
        for phase in rules.continuous:
            inside |= (flow.time_ns >= phase.start_ns) & (flow.time_ns < phase.end_ns)
        kept = inside & flow.quoted & ~((flow.action == Action.LIMIT) & flow.ioc)
        names = ("time_ns", "action", "side", "size_shares", "from_opposite", "from_own", "ioc")
        return cls(
            trading_s=rules.trading_ns(flow.time_ns[kept]) / SECOND,
            columns={name: getattr(flow, name)[kept].astype(np.int64) for name in names},
            start_s=float(rules.trading_ns(period.start_ns)) / SECOND,
            end_s=float(rules.trading_ns(period.end_ns)) / SECOND,
        )

    def __len__(self) -> int:
        return len(self.trading_s)

    def types(self, near_ticks: int) -> Ints:
        """``[n]``."""
        c = self.columns
        return types_of(c["action"], c["side"], c["from_own"], near_ticks)


def record_of(period: Trajectory, tape: Tape, near_ticks: int, most: int) -> Record:
    """The last ``most`` events of a period for the fit, with what was possible between them."""
    types = tape.types(near_ticks)
    first = max(len(tape) - most, 0)
    opening = max(period.start_ns, period.rules.continuous[0].start_ns)
    since = np.concatenate([[opening], tape.columns["time_ns"]])[first:]
    can = _possible_since(period, since, near_ticks)
    can[np.arange(len(tape) - first), types[first:]] = True
    start = tape.start_s if first == 0 else float(tape.trading_s[first - 1])
    return Record(tape.trading_s[first:], types[first:], start, tape.end_s, can)


def _possible_since(period: Trajectory, times_ns: Ints, near_ticks: int) -> Bools:
    """What the book after all messages up to each time allowed; nothing where a quote was missing, ``[k, TYPES]``."""
    done = replay_trajectory(period, levels=LEVELS)
    assert done.snapshots is not None
    assert done.totals is not None
    at = np.searchsorted(period.orders["time_ns"], times_ns, side="right")
    price, there = done.snapshots.price_ticks[at].astype(np.int64), done.snapshots.size_shares[at] > 0
    away = np.abs(price - price[:, :, :1])
    near = (there & (away >= 1) & (away <= near_ticks)).any(axis=2)
    beyond = done.totals[at][:, :, 0] > LEVELS
    far = (there & (away > near_ticks)).any(axis=2) | beyond
    has = there[:, :, 0]
    spread = price[:, Kind.ASK, 0] - price[:, Kind.BID, 0]
    can = possible(np.stack([has, near, far], 2), spread, period.rules.price_step_ticks, has)
    return np.asarray(can & np.asarray(has.all(axis=1))[:, None])


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
