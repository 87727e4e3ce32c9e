"""A Hawkes market under way: when the next event comes, of which type, and what order that is.

Every row carries an amount of hazard, an Exp(1) draw, that the intensity uses up. Whatever changes the intensity (an
agent's order, what the book allows), the hazard that has passed is subtracted and the rest runs at the new intensity:
that is the law of the next event given that nothing has happened since, without a second draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from marsbench.market.clearing_house import BookView, Events
from marsbench.market.flow import Action
from marsbench.market.orders import MARKET, NO_PRICE, ORDER, Flag, Kind, Reason
from marsbench.market.rules import SECOND, MatchingRules
from marsbench.simulation.contracts import NEVER, RowOrders, Rows, Session, Start
from marsbench.simulation.randomness import Streams
from marsbench.stats.hawkes import season_integral, season_level, wait

from .events import (
    ANYWHERE,
    CLASSES,
    TYPES,
    Class,
    State,
    Tape,
    foreign_types,
    types_of,
)
from .factors import factors_at, stacked
from .fitting import Model

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

ALIKE = 32
"""A limit order inside the spread takes the place of a training order sent at this spread or at one of so many next
narrower and wider; an order that trades, likewise, of one that met about so many shares at the best quote."""
EVENT, MARKS = 1, 2
"""Purposes of the random numbers."""
_INSIDE, _MARKET = int(Class.INSIDE), int(Class.MARKET)


class Tables:
    """The models of I instruments as arrays that compiled code reads."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.base = np.array([m.process.base for m in models])
        """``[I, TYPES]``."""
        self.decays = models[0].process.decays
        self.kick = np.ascontiguousarray(
            np.stack([m.process.branching * m.process.decays for m in models]).transpose(0, 2, 1, 3)
        )
        """``[I, TYPES, TYPES, B]``: by causing type, what an event adds to each type's intensity, per decay rate."""
        bins = max(len(m.season.values) for m in models)
        seasons = [np.pad(m.season.values, (0, bins - len(m.season.values)), mode="edge") for m in models]
        self.season, self.width = np.array(seasons), models[0].season.width_s
        """``[I, K]``."""
        self.factors = stacked([m.factors for m in models])
        self.atoms = np.stack([m.atoms for m in models])
        self.near = np.array([m.near_ticks for m in models], np.int64)
        self.reach = np.array([m.reach_ticks for m in models], np.int64)


@njit(cache=True)
def _spend(rows, kind, gap, now, base, decays, season, width, excited, hazard):  # type: ignore[no-untyped-def]
    """Let time pass: kernels decay and hazard is used up."""
    rates = len(decays)
    for k in range(len(rows)):
        if gap[k] <= 0:
            continue
        r, i = rows[k], kind[rows[k]]
        calm = season_integral(season[i], width, now[k], now[k] + gap[k])
        left = np.exp(-decays * gap[k])
        for j in range(base.shape[1]):
            total = base[i, j] * calm
            for b in range(rates):
                total += excited[r, j, b] * (1.0 - left[b]) / decays[b]
                excited[r, j, b] *= left[b]
            hazard[r] -= total
        hazard[r] = max(hazard[r], 1e-12)


@njit(cache=True)
def _waits(rows, kind, now, base, decays, season, width, excited, hazard, waits):  # type: ignore[no-untyped-def]
    """Seconds until each row's hazard is used up."""
    total = np.empty(len(decays))
    for k in range(len(rows)):
        r, i = rows[k], kind[rows[k]]
        for b in range(len(decays)):
            total[b] = excited[r, :, b].sum()
        waits[k] = wait(hazard[r], base[i].sum(), total, decays, season[i], width, now[k])


@njit(cache=True)
def _draw(  # type: ignore[no-untyped-def]
    rows, kind, now, draws, spread, touch, step, base, season, width, factor, excited, atoms, meant, types, marks
):  # fmt: skip
    """What is meant to happen in each row; what does, -1 if nothing can; its ticks, shares and rest.

    The second follows ``factor * intensity`` and is the first as often as it can be (a maximal coupling).
    """
    intensity, book = np.empty(base.shape[1]), np.empty(base.shape[1])
    for k in range(len(rows)):
        r, i = rows[k], kind[rows[k]]
        level = season_level(season[i], width, now[k])
        for j in range(base.shape[1]):
            intensity[j] = base[i, j] * level + excited[r, j].sum()
            book[j] = intensity[j] * factor[k, j]
        meant[k] = _pick(intensity, draws[k, 0])
        types[k] = -1
        if book.sum() > 0:
            intensity /= intensity.sum()
            book /= book.sum()
            j = meant[k]
            if draws[k, 1] * intensity[j] >= book[j]:
                j = _pick(np.maximum(book - intensity, 0.0), draws[k, 2])
            types[k] = j
        j = max(types[k], 0)
        side, what = divmod(j, CLASSES)
        first, last = 0, atoms.shape[2]
        if what in (_INSIDE, _MARKET):  # one of training's that met about the same
            met = spread[k] if what == _INSIDE else touch[k, 1 - side]
            first = max(np.searchsorted(atoms[i, j, :, 0], met) - ALIKE, first)
            last = min(np.searchsorted(atoms[i, j, :, 0], met, side="right") + ALIKE, last)
        at = min(first + int(draws[k, 3] * (last - first)), last - 1)
        for c in range(3):
            marks[k, c] = atoms[i, j, at, c + 1]
        if what == _INSIDE:
            marks[k, 0] = min(marks[k, 0], spread[k] - step)


@njit(cache=True)
def _pick(weights, uniform):  # type: ignore[no-untyped-def]
    """Position drawn in proportion to weights; never one of weight 0 where another has some."""
    target, at = uniform * weights.sum(), 0
    for j in range(len(weights)):
        if weights[j] > 0:
            at = j
            if target <= weights[j]:
                break
            target -= weights[j]
    return at


class HawkesSession(Session):
    """Rows of Hawkes order flow; agents' orders are events like the market's own."""

    def __init__(self, tables: Tables, kinds: Ints, streams: Streams, starts: Sequence[Start], excited: Floats) -> None:
        self.tables, self.kind, self.streams = tables, kinds, streams
        self.rules: MatchingRules = starts[0].rules
        rows = len(kinds)
        clock = np.array([s.clock_ns for s in starts], np.int64)
        self.now = np.repeat(self.rules.trading_ns(clock), rows // len(starts))
        """Trading time up to which hazard has been used up, ns."""
        self.excited = np.repeat(excited, rows // len(starts), axis=0)
        """``[R, TYPES, B]``: excited part of the intensities at ``now``, per second."""
        self.hazard = np.zeros(rows)
        self.quotes = np.zeros((rows, 2), np.int64)
        """Best ask and bid before the next event."""
        self.index, self.fresh = np.full(rows, -1, np.int64), np.ones(rows, np.bool_)
        self.pending = np.zeros(rows, np.int64)
        """Type that the order that was just decided was meant to be."""
        self.placed: dict[tuple[int, int], tuple[int, int]] = {}
        """Side and price of agents' orders, by row and order id."""
        self.own = self.rejected = self.foreign = self.changed = 0

    def propose(self, rows: Rows, book: BookView) -> NDArray[np.int64]:
        self._pass(rows, book.now_ns)
        new = rows[self.fresh[rows]]
        if len(new):
            self.index[new] += 1
            self.hazard[new] = -np.log(self.streams.uniforms(new, self.index[new], EVENT, 1)[:, 0])
            self.fresh[new] = False
        t = self.tables
        self.quotes[rows] = np.stack(book.quotes_ticks, 1)
        waits = np.empty(len(rows))
        _waits(
            rows, self.kind, self.now[rows] / SECOND, t.base, t.decays, t.season, t.width, self.excited,
            self.hazard, waits,
        )  # fmt: skip
        soon = np.minimum(waits, 1e6)
        return np.where(waits < 1e6, book.now_ns + np.maximum(soon * SECOND, 1.0).astype(np.int64), NEVER)

    def decide(self, rows: Rows, book: BookView) -> RowOrders:
        self._pass(rows, book.now_ns)
        self.fresh[rows] = True
        draws = self.streams.uniforms(rows, self.index[rows], MARKS, 5)
        meant, types, marks = self._drawn(rows, book, draws)
        self.pending[rows] = meant
        ask, bid = book.quotes_ticks
        self.changed += int((types != meant).sum())
        self._excite(rows[types < 0], meant[types < 0])
        side, what = np.divmod(types, CLASSES)
        up = side == Kind.ASK
        own, opposite, away = np.where(up, ask, bid), np.where(up, bid, ask), np.where(up, 1, -1)
        anchor = np.where(what == _MARKET, opposite, own)
        out = np.zeros(len(rows), ORDER)
        out["kind"] = side
        out["size_shares"] = marks[:, 1]
        low, high = book.limits_ticks
        price = anchor + away * np.where((what == _MARKET) | (what == _INSIDE), -marks[:, 0], marks[:, 0])
        out["price_ticks"] = np.clip(price, np.maximum(low, 1), high)
        self._trades(out, book, np.flatnonzero(what == _MARKET), marks[:, 2])
        self._cancels(out, rows, book, np.flatnonzero(what >= Class.CANCEL_TOUCH), types, own, draws[:, 4])
        sent = (types >= 0) & ((out["size_shares"] > 0) | (out["kind"] == Kind.CANCEL))
        return RowOrders(rows[sent], out[sent])

    def _drawn(self, rows: Rows, book: BookView, draws: Floats) -> tuple[Ints, Ints, Ints]:
        """What is meant to happen in each row, what does (-1 for nothing), and its marks: see ``_draw``."""
        t, kinds, step = self.tables, self.kind[rows], self.rules.price_step_ticks
        (ask, bid), touch = book.quotes_ticks, book.touch.size_shares[:, :, 0].astype(np.int64)
        meant, types, marks = *np.empty((2, len(rows)), np.int64), np.empty((len(rows), 3), np.int64)
        factor = factors_at(State.now(book, t.near[kinds], step), kinds, t.factors)
        _draw(
            rows, self.kind, self.now[rows] / SECOND, draws, ask - bid, touch, step, t.base, t.season, t.width,
            factor, self.excited, t.atoms, meant, types, marks,
        )  # fmt: skip
        return meant, types, marks

    def _trades(self, out: NDArray[np.void], book: BookView, pick: Ints, rest: Ints) -> None:
        """Orders that trade leave what training's left: nothing, or a rest when all up to their price is taken."""
        if len(pick) == 0:
            return
        k, side, ten = np.arange(len(pick)), 1 - out["kind"][pick], book.of(pick).ten
        beyond = np.where(side == Kind.ASK, 1, -1) * (ten.price_ticks[k, side].T - out["price_ticks"][pick]) > 0
        there = np.where(beyond.T, 0, ten.size_shares[k, side]).sum(axis=1)
        all_of_it, lot = there + rest[pick], self.rules.lot_shares
        out["size_shares"][pick] = np.where(rest[pick] > 0, -(-all_of_it // lot) * lot, out["size_shares"][pick])
        out["flags"][pick] = np.where(rest[pick] > 0, 0, Flag.IOC)

    def _cancels(
        self, out: NDArray[np.void], rows: Rows, book: BookView, pick: Ints, types: Ints, own: Ints, draws: Floats
    ) -> None:
        """Cancel one of the market's orders in the class's prices, whole, each as likely as another."""
        if len(pick) == 0:
            return
        side, what = np.divmod(types[pick], CLASSES)
        near, depth = self.tables.near[self.kind[rows[pick]]], what - Class.CANCEL_TOUCH
        first, last = np.choose(depth, [0 * near, 0 * near + 1, near + 1]), np.choose(depth, [0, near, ANYWHERE])
        low, high = np.ones((len(pick), 2), np.int64), np.zeros((len(pick), 2), np.int64)
        k, up = np.arange(len(pick)), side == Kind.ASK
        low[k, side] = np.where(up, own[pick] + first, own[pick] - last)
        high[k, side] = np.where(up, own[pick] + last, own[pick] - first)
        price, size, order_id = book.of(pick).any_owned(low, high, draws[pick])
        out["kind"][pick], out["flags"][pick] = Kind.CANCEL, 0
        out["price_ticks"][pick] = np.where(price == NO_PRICE, 1, price)
        out["size_shares"][pick], out["order_id"][pick] = size, order_id

    def observe(self, events: Events) -> Rows:
        accepted, market = events.reason == Reason.OK, events.orders["owner"] == MARKET
        mine = events.rows[accepted & market]
        self.own += int(market.sum())
        self.rejected += int((market & ~accepted).sum())
        self._excite(mine, self.pending[mine])
        theirs = np.flatnonzero(accepted & ~market)
        if len(theirs) == 0:
            return np.zeros(0, np.int64)
        rows, first = np.unique(events.rows[theirs], return_index=True)
        self._pass(rows, events.orders["time_ns"][theirs][first])
        for k in theirs:
            self._foreign(int(events.rows[k]), events.orders[k : k + 1], events.traded_shares[k : k + 1])
        return rows

    def _excite(self, rows: Rows, types: Ints) -> None:
        self.excited[rows] += self.tables.kick[self.kind[rows], types]

    def _foreign(self, row: int, order: NDArray[np.void], traded: Ints) -> None:
        """One accepted message of an agent: typed by the quotes before it, it excites as the market's own would.

        Several that an agent sends to a row at once are all typed by the quotes before the first of them.
        """
        message, kind = order[0], self.kind[row]
        near, reach = int(self.tables.near[kind]), int(self.tables.reach[kind])
        key, types = (row, int(message["order_id"])), []
        if message["kind"] == Kind.CANCEL or message["flags"] & Flag.REPLACE:
            types.append(self._cancelled(row, key, message, near, reach))
        if message["kind"] != Kind.CANCEL:
            self.placed[key] = (int(message["kind"]), int(message["price_ticks"]))
            types.append(int(foreign_types(order, traded, self.quotes[row][None], near, reach)[0]))
        for number in types:
            if number >= 0:
                self.excited[row] += self.tables.kick[kind, number]
                self.foreign += 1

    def _cancelled(self, row: int, key: tuple[int, int], message: np.void, near: int, reach: int) -> int:
        """Type of an agent's cancel; -1 beyond the reach of training."""
        (ask, bid), price = self.quotes[row], int(message["price_ticks"])
        if message["flags"] & Flag.BY_LEVEL:
            side = int(Kind.BID) if price <= bid else int(Kind.ASK)
        else:
            side, price = self.placed.get(key, (-1, 0))
        own = price - ask if side == Kind.ASK else bid - price
        if side < 0 or own > reach:
            return -1
        action, sides, away = (np.array([x], np.int64) for x in (Action.CANCEL, side, max(own, 0)))
        return int(types_of(action, sides, away, near)[0])

    def _pass(self, rows: Rows, now_ns: NDArray[np.int64]) -> None:
        """Bring rows to a clock time."""
        t, then = self.tables, np.asarray(self.rules.trading_ns(now_ns), np.int64)
        now = self.now[rows]
        _spend(
            rows, self.kind, (then - now) / SECOND, now / SECOND, t.base, t.decays, t.season, t.width,
            self.excited, self.hazard,
        )  # fmt: skip
        self.now[rows] = np.maximum(now, then)

    def notes(self) -> Mapping[str, float]:
        """Per order: events that the book turned into another type, the rejected, the agents' events."""
        orders = max(self.own, 1)
        return {
            "changed_per_order": self.changed / orders,
            "rejected_per_order": self.rejected / orders,
            "agent_events_per_order": self.foreign / orders,
        }


def excited_by(start: Start, model: Model) -> Floats:
    """Excited part of the intensities at a start ``[TYPES, B]``, from its starting sequence."""
    tape, process = Tape.of(start.history), model.process
    now = float(start.rules.trading_ns(start.clock_ns)) / SECOND
    weight = np.exp(-(now - tape.trading_s)[:, None] * process.decays)
    events = np.zeros((TYPES, len(process.decays)))
    np.add.at(events, tape.types(model.near_ticks), weight)
    return np.asarray(np.einsum("ijb,jb->ib", process.branching * process.decays, events))
