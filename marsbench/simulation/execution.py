"""Agents that work off a metaorder: TWAP as MarS describes it, a share of the volume, a single sweep.

Each buys or sells a given number of shares in every row, and knows what it has executed and what of it still rests.
Told to trade nothing it wakes as always and sends nothing: the null agent. All orders are in whole lots.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from marsbench.market.clearing_house import BookView, Events
from marsbench.market.orders import ORDER, Flag, Kind, Reason
from marsbench.market.rules import SECOND
from marsbench.simulation.contracts import NEVER, Agent, AgentFactory, RowOrders, Rows, Start

Ints = NDArray[np.int64]
BUY, SELL = 1, -1
LEVELS = 10
"""Aggressive prices are among so many levels."""


class Execution(Agent):
    """What all of them share: the metaorder of each row, its fills, and what rests.

    Parameters
    ----------
    side
        ``[rows]`` +1 buys, -1 sells, 0 takes no part.
    target_shares
        ``[rows]``, multiples of the lot; 0 for somebody who only watches.
    steps_ns
        ``[K]``, ascending, when it acts, counted in trading time from the start.
    """

    def __init__(
        self, starts: Sequence[Start], rollouts: int, *, side: Ints, target_shares: Ints, steps_ns: Ints
    ) -> None:
        self.rules, self.side = starts[0].rules, np.asarray(side, np.int64)
        self.own = np.where(self.side == SELL, int(Kind.ASK), int(Kind.BID))
        """Kind of its orders in each row."""
        self.target = np.asarray(target_shares, np.int64)
        self.lot = int(self.rules.lot_shares)
        if (self.target < 0).any() or (self.target % self.lot).any():
            raise ValueError(f"a metaorder is a number of whole lots of {self.lot} shares, got {self.target.tolist()}")
        rows, steps = len(self.target), len(steps_ns)
        clock = np.repeat([self.rules.trading_ns(s.clock_ns) for s in starts], rollouts)
        self.wakes_ns = np.asarray(self.rules.clock_ns(clock[:, None] + np.asarray(steps_ns)), np.int64)
        self.step = np.zeros(rows, np.int64)
        """Next step of each row."""
        self.executed = np.zeros(rows, np.int64)
        self.paid = np.zeros(rows, np.int64)
        """Sum of price in ticks times shares over all executions."""
        self.traded_by_others = np.zeros(rows, np.int64)
        """Shares that changed hands without it since the start."""
        self.ids = np.zeros((rows, steps), np.int64)
        """The order that each step sent; a step sends one at most."""
        self.price = np.zeros((rows, steps), np.int64)
        self.left = np.zeros((rows, steps), np.int64)
        """What rests of it."""

    @property
    def remaining(self) -> Ints:
        """``[rows]`` shares still to be executed."""
        return self.target - self.executed

    def next_wake(self, rows: Rows) -> Ints:
        done = (self.step[rows] >= self.wakes_ns.shape[1]) | (self.side[rows] == 0)
        at = self.wakes_ns[rows, np.minimum(self.step[rows], self.wakes_ns.shape[1] - 1)]
        return np.where(done, NEVER, at)

    def act(self, rows: Rows, book: BookView) -> RowOrders:
        step = self.step[rows]
        self.step[rows] += 1
        cancels, price, size, flags = self.plan(rows, step, book)
        return self._orders(rows, step, cancels, price, size, flags)

    @abstractmethod
    def plan(self, rows: Rows, step: Ints, book: BookView) -> tuple[Ints, Ints, Ints, int]:
        """What to do at step ``step[k]`` of each row.

        Returns
        -------
        Shares to cancel of what each earlier step left, ``[k, K]``; then price and shares of the new order, ``[k]``
        each, none where the shares are 0; and its flags.
        """

    def _orders(self, rows: Rows, step: Ints, cancels: Ints, price: Ints, size: Ints, flags: int) -> RowOrders:
        """Cancels first, then the new order, row by row."""
        at, which = np.nonzero(cancels)
        new = np.flatnonzero(size > 0)
        out = np.zeros(len(at) + len(new), ORDER)
        out["kind"][: len(at)] = Kind.CANCEL
        out["order_id"][: len(at)] = self.ids[rows[at], which]
        out["size_shares"][: len(at)] = cancels[at, which]
        out["kind"][len(at) :] = self.own[rows[new]]
        out["price_ticks"][len(at) :] = price[new]
        out["size_shares"][len(at) :] = size[new]
        out["flags"][len(at) :] = flags
        position = np.concatenate([at, new])
        order = np.argsort(position, kind="stable")
        return RowOrders(rows[position[order]], out[order])

    def best(self, rows: Rows, book: BookView) -> tuple[Ints, NDArray[np.bool_]]:
        """Best price of its own side ``[k]``, and whether there is one."""
        touch, at = book.touch, (np.arange(len(rows)), self.own[rows], 0)
        return touch.price_ticks[at].astype(np.int64), touch.size_shares[at] > 0

    def reach(self, rows: Rows, book: BookView, level: int) -> tuple[Ints, NDArray[np.bool_]]:
        """Price of the other side's level ``[k]``, of its last one where there are fewer; whether there is any."""
        ten, each, other = book.ten, np.arange(len(rows)), 1 - self.own[rows]
        there = (ten.size_shares[each, other] > 0).sum(axis=1)
        which = np.clip(np.minimum(level, there) - 1, 0, LEVELS - 1)
        return ten.price_ticks[each, other, which].astype(np.int64), there > 0

    def whole(self, shares: Any) -> Ints:
        """So many shares rounded up to lots."""
        return np.asarray(-(-np.ceil(np.round(shares, 6)).astype(np.int64) // self.lot) * self.lot)

    def notify(self, events: Events) -> None:
        """Account for fills, and for what rests."""
        fills, rows = events.fills, events.fill_rows
        buyer = fills["bid_owner"] == self.owner
        mine = buyer | (fills["ask_owner"] == self.owner)
        shares = fills["size_shares"].astype(np.int64)
        np.add.at(self.executed, rows[mine], shares[mine])
        np.add.at(self.paid, rows[mine], shares[mine] * fills["price_ticks"][mine])
        np.add.at(self.traded_by_others, rows[~mine], shares[~mine])
        resting = np.flatnonzero(mine & (fills["side"] != self.own[rows]))
        ids = np.where(buyer, fills["bid_id"], fills["ask_id"])
        self._take(rows[resting], ids[resting], shares[resting])
        own = np.flatnonzero((events.orders["owner"] == self.owner) & (events.reason == Reason.OK))
        if len(own):
            self._sent(events.rows[own], events.orders[own], events.traded_shares[own])

    def _take(self, rows: Rows, ids: Ints, shares: Ints) -> None:
        for row, id_, size in zip(rows, ids, shares, strict=True):
            self.left[row, self.ids[row] == id_] -= size

    def _sent(self, rows: Rows, sent: NDArray[np.void], traded: Ints) -> None:
        cancel = sent["kind"] == Kind.CANCEL
        self._take(rows[cancel], sent["order_id"][cancel], sent["size_shares"][cancel].astype(np.int64))
        new = np.flatnonzero(~cancel)
        at = self.step[rows[new]] - 1
        self.ids[rows[new], at] = sent["order_id"][new]
        self.price[rows[new], at] = sent["price_ticks"][new]
        rests = (sent["flags"][new] & Flag.IOC) == 0
        self.left[rows[new], at] = np.where(rests, sent["size_shares"][new] - traded[new], 0)


@dataclass(frozen=True)
class Metaorder:
    """So many shares to buy (side +1) or sell (-1); 0 shares for the null agent, who wakes and sends nothing."""

    side: int
    shares: int

    def __post_init__(self) -> None:
        if self.side not in (BUY, SELL, 0):
            raise ValueError(f"side is +1 for buying and -1 for selling, got {self.side}")


@dataclass(frozen=True)
class Style:
    """How a metaorder is worked off; a subclass makes the agent."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Its short name."""

    @property
    @abstractmethod
    def duration_s(self) -> float:
        """From the start to the end of its trading."""

    @abstractmethod
    def agent(self, starts: Sequence[Start], rollouts: int, side: Ints, target_shares: Ints) -> Execution:
        """Somebody who does so in every row; sides and shares ``[rows]`` as of ``Execution``."""

    def trades(self, orders: Mapping[tuple[str, int], Metaorder]) -> AgentFactory:
        """An agent for ``simulate``: metaorders by ``Start.name`` and ``Start.arm``; elsewhere it takes no part."""

        def make(starts: Sequence[Start], rollouts: int) -> Execution:
            own = [orders.get((s.name, s.arm), Metaorder(0, 0)) for s in starts]
            side, shares = (np.repeat([getattr(o, name) for o in own], rollouts) for name in ("side", "shares"))
            return self.agent(starts, rollouts, side.astype(np.int64), shares.astype(np.int64))

        told = sorted([name, arm, one.side, one.shares] for (name, arm), one in orders.items())
        return AgentFactory(make, type(self).__name__, {**asdict(self), "metaorders": told})


@dataclass(frozen=True)
class Twap(Style):
    """Time-weighted execution in slices, each first passive, then aggressive (MarS, algorithm 1).

    A slice begins by cancelling what does not rest at the best own price (bid1 for a buyer) and topping up what does to
    ``passive_ratio`` of the metaorder, no more than is left of it. After ``passive_s`` what is behind the schedule is
    sent as one limit order at level ``level`` of the other side; passive shares are cancelled, the newest first, where
    they would otherwise be too many. What that order does not trade at once rests at its price, and is cancelled when
    the next slice begins unless it is the best price by then. In the end everything is cancelled.

    Lots: the passive share and what is behind are rounded up to whole lots.
    """

    level: int = 1
    """AP: the aggressive order's price, as a level of the other side; 0 sends none."""
    passive_ratio: float = 0.1
    """PVR, of the whole metaorder; 0 rests nothing."""
    slices: int = 10
    passive_s: float = 25.0
    aggressive_s: float = 5.0
    expected: Literal["slices", "elapsed"] = "slices"
    """What the schedule wants by the end of slice i: i / slices of the metaorder (the paper), or the share of the time
    that has passed by then, before the last aggressive phase (the public code: 295 of 300 s, so that no more than
    98.3% is ever wanted)."""

    def __post_init__(self) -> None:
        if not 0 <= self.level <= LEVELS:
            raise ValueError(f"twap: level must be 0 to {LEVELS}, got {self.level}")
        if not 0 <= self.passive_ratio <= 1:
            raise ValueError(f"twap: passive_ratio must be 0 to 1, got {self.passive_ratio:g}")
        if self.slices < 1 or self.passive_s <= 0 or self.aggressive_s <= 0:
            raise ValueError("twap: slices, passive_s and aggressive_s must be positive")
        if self.expected not in ("slices", "elapsed"):
            raise ValueError(f"twap: expected {self.expected!r}: choose slices or elapsed")

    @property
    def label(self) -> str:
        """``L1-P0.1``, as in the paper; ``L1-P0.1-elapsed`` for the public code's schedule."""
        return f"L{self.level}-P{self.passive_ratio:g}" + ("" if self.expected == "slices" else f"-{self.expected}")

    @property
    def duration_s(self) -> float:
        """All slices; then it cancels what rests."""
        return self.slices * (self.passive_s + self.aggressive_s)

    def agent(self, starts: Sequence[Start], rollouts: int, side: Ints, target_shares: Ints) -> Execution:
        """See the class."""
        return TwapAgent(self, starts, rollouts, side, target_shares)


class TwapAgent(Execution):
    """Steps 0, 2, 4, ... are passive, 1, 3, 5, ... aggressive; the last one ends it."""

    def __init__(self, style: Twap, starts: Sequence[Start], rollouts: int, side: Ints, target_shares: Ints) -> None:
        whole, first = (round(s * SECOND) for s in (style.passive_s + style.aggressive_s, style.passive_s))
        begins = np.arange(style.slices, dtype=np.int64) * whole
        steps = np.concatenate([np.stack([begins, begins + first], 1).ravel(), [style.slices * whole]])
        super().__init__(starts, rollouts, side=side, target_shares=target_shares, steps_ns=steps)
        self.style = style
        by_elapsed = steps[1::2] / steps[-1]
        self.schedule = by_elapsed if style.expected == "elapsed" else np.arange(1, style.slices + 1) / style.slices

    def plan(self, rows: Rows, step: Ints, book: BookView) -> tuple[Ints, Ints, Ints, int]:
        left = self.left[rows]
        last = step == len(self.wakes_ns[0]) - 1
        passive = ~last & (step % 2 == 0)
        best, has_best = self.best(rows, book)
        reach, has_reach = self.reach(rows, book, max(self.style.level, 1))
        away = (self.price[rows] != best[:, None]) | ~has_best[:, None]
        cancels = np.where((passive[:, None] & away) | last[:, None], left, 0)
        kept = (left - cancels).sum(axis=1)
        most = np.minimum(self.whole(self.style.passive_ratio * self.target[rows]), self.remaining[rows])
        top_up = np.where(passive & has_best, np.maximum(most - kept, 0), 0)
        behind = self._behind(rows, step)
        behind[passive | last | ~has_reach] = 0
        cancels += _newest_first(left, np.maximum(behind - (self.remaining[rows] - kept), 0))
        return cancels, np.where(passive, best, reach), np.where(passive, top_up, behind), 0

    def _behind(self, rows: Rows, step: Ints) -> Ints:
        """Shares that the schedule wants and that have not been executed, in whole lots."""
        if self.style.level == 0:
            return np.zeros(len(rows), np.int64)
        share = self.schedule[np.minimum(step // 2, len(self.schedule) - 1)]
        lag = share * self.target[rows] - self.executed[rows]
        return np.asarray(np.minimum(self.whole(np.maximum(lag, 0)), self.remaining[rows]))


def _newest_first(left: Ints, wanted: Ints) -> Ints:
    """``[k, K]``: so many shares of what rests, the newest orders first."""
    newer = left[:, ::-1].cumsum(axis=1)[:, ::-1] - left
    return np.asarray(np.clip(wanted[:, None] - newer, 0, left), np.int64)


@dataclass(frozen=True)
class Pov(Style):
    """A share of the volume: every few seconds it buys what it is behind, at once, until the metaorder is done.

    It wants ``rate`` of all shares traded since the start, its own included, and sends immediate-or-cancel orders, so
    that nothing of it rests.
    """

    rate: float = 0.1
    level: int = 1
    every_s: float = 5.0
    lasts_s: float = 300.0

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"pov: rate must lie between 0 and 1, got {self.rate:g}")
        if not 1 <= self.level <= LEVELS:
            raise ValueError(f"pov: level must be 1 to {LEVELS}, got {self.level}")
        if not 0 < self.every_s <= self.lasts_s:
            raise ValueError(f"pov: every_s must be positive and at most lasts_s, got {self.every_s:g}")

    @property
    def label(self) -> str:
        """``POV0.1-L1``."""
        return f"POV{self.rate:g}-L{self.level}"

    @property
    def duration_s(self) -> float:
        """See ``lasts_s``."""
        return self.lasts_s

    def agent(self, starts: Sequence[Start], rollouts: int, side: Ints, target_shares: Ints) -> Execution:
        """See the class."""
        return PovAgent(self, starts, rollouts, side, target_shares)


class PovAgent(Execution):
    """See ``Pov``."""

    def __init__(self, style: Pov, starts: Sequence[Start], rollouts: int, side: Ints, target_shares: Ints) -> None:
        count = int(style.duration_s / style.every_s + 1e-9)
        steps = np.arange(1, count + 1, dtype=np.int64) * round(style.every_s * SECOND)
        super().__init__(starts, rollouts, side=side, target_shares=target_shares, steps_ns=steps)
        self.style = style

    def plan(self, rows: Rows, step: Ints, book: BookView) -> tuple[Ints, Ints, Ints, int]:
        price, there = self.reach(rows, book, self.style.level)
        wanted = self.style.rate / (1 - self.style.rate) * self.traded_by_others[rows] - self.executed[rows]
        lots = np.maximum(wanted, 0).astype(np.int64) // self.lot * self.lot
        size = np.where(there, np.minimum(lots, self.remaining[rows]), 0)
        return np.zeros_like(self.left[rows]), price, size, int(Flag.IOC)


@dataclass(frozen=True)
class Sweep(Style):
    """One immediate-or-cancel order, through as many levels as it takes, or down to level ``level``."""

    level: int = 0
    """Last level that it takes; 0 for no limit but the exchange's."""
    after_s: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.level <= LEVELS:
            raise ValueError(f"sweep: level must be 0 to {LEVELS}, got {self.level}")
        if self.after_s < 0:
            raise ValueError(f"sweep: after_s must not be negative, got {self.after_s:g}")

    @property
    def label(self) -> str:
        """``SWEEP``, ``SWEEP-L5``."""
        return "SWEEP" + (f"-L{self.level}" if self.level else "")

    @property
    def duration_s(self) -> float:
        """When it is over."""
        return self.after_s

    def agent(self, starts: Sequence[Start], rollouts: int, side: Ints, target_shares: Ints) -> Execution:
        """See the class."""
        return SweepAgent(self, starts, rollouts, side, target_shares)


class SweepAgent(Execution):
    """See ``Sweep``."""

    def __init__(self, style: Sweep, starts: Sequence[Start], rollouts: int, side: Ints, target_shares: Ints) -> None:
        steps = np.array([round(style.after_s * SECOND)], np.int64)
        super().__init__(starts, rollouts, side=side, target_shares=target_shares, steps_ns=steps)
        self.style = style

    def plan(self, rows: Rows, step: Ints, book: BookView) -> tuple[Ints, Ints, Ints, int]:
        price, there = self.reach(rows, book, max(self.style.level, 1))
        if self.style.level == 0:
            low, high = book.limits_ticks
            price, there = np.where(self.side[rows] == SELL, low, high), np.ones(len(rows), bool)
        return np.zeros_like(self.left[rows]), price, np.where(there, self.target[rows], 0), int(Flag.IOC)


_LABELS: tuple[tuple[str, Any], ...] = (
    (r"L(\d+)-P([\d.]+)", lambda m: Twap(int(m[1]), float(m[2]))),
    (r"L(\d+)-P([\d.]+)-elapsed", lambda m: Twap(int(m[1]), float(m[2]), expected="elapsed")),
    (r"POV([\d.]+)-L(\d+)", lambda m: Pov(float(m[1]), int(m[2]))),
    (r"SWEEP(?:-L(\d+))?", lambda m: Sweep(int(m[1] or 0))),
)


def style_of(label: str) -> Style:
    """The style that a label names: ``L1-P0.1``, ``L5-P0.9-elapsed``, ``POV0.1-L1``, ``SWEEP``, ``SWEEP-L5``.

    Raises
    ------
    ValueError
        If it names none.
    """
    for pattern, make in _LABELS:
        if found := re.fullmatch(pattern, label):
            style: Style = make(found)
            return style
    raise ValueError(f"unknown agent {label!r}; write L1-P0.1 (or L1-P0.1-elapsed), POV0.1-L1, SWEEP or SWEEP-L5")


def price_advantage_bps(side: Any, price: Any, benchmark: Any) -> NDArray[np.float64]:
    """How much better than a benchmark somebody traded, in basis points of it; positive is better."""
    return np.asarray(1e4 * np.asarray(side) * (np.asarray(benchmark) - price) / benchmark, np.float64)
