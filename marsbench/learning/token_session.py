"""Rollouts of a model over order tokens: many rows at once, each with its own book, memory and context.

What remembers the orders so far is the model's own (``Recall``); what is drawn from it, and everything that an order
then goes through, is here. A row's next order is proposed when the one before has been seen: its interval is drawn
then. What it is, is drawn when it is due, on the book as it then stands. Agents' orders enter the context like the
market's; they leave the time of a pending order as it is (time is counted between the market's own orders, and what
lately happened counts only these), and change what it will be. One that rests
behind the ten levels that a model sees is not read.

Cancels: a slot of prices is drawn among those where the market has an order, and takes any one of its orders there off
the book, whole. The volume of the token is not used: orders come and go in one piece, and their sizes are those that
rest. Drawn from the token they would be too small, since a large order is rarely there, so that the model gives its
size little weight just when it is: books fill up, levels do not vanish, and the mid hardly moves.

A simulation can reach states that training never showed, where a model says anything: a sale in a falling market makes
the next one likelier. It is therefore held to training in three ways. Features beyond those of training are read as the
nearest ones. A market busier than all but one moment in a hundred of training, at that time of day and on any of the
time scales of what lately happened, slows down in proportion. And where the mid has moved further than ever, nobody
trades on in that direction.

Prices count from the best quotes, which knows nothing of round ones: how often a passive order stands at a multiple of
ten or a hundred ticks is drawn beside its slot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from marsbench.learning.activity import busy_rows
from marsbench.learning.order_heads import LearnedHead
from marsbench.learning.order_stream import (
    BEGIN,
    WIDTH,
    OrderStream,
    best_quotes,
    describe_rows,
    order_stream,
    quotes_or,
    remember_rows,
    session_ns,
    tempo_rows,
)
from marsbench.learning.sampling import Sampling, allowed, pick
from marsbench.learning.slots import FAR, Slots
from marsbench.learning.tokeniser import Tokeniser
from marsbench.learning.vocabulary import BEAT, START
from marsbench.market.clearing_house import BookView, Events
from marsbench.market.orders import MARKET, NO_PRICE, ORDER, Flag, Kind, Reason
from marsbench.market.snapshots import Snapshots
from marsbench.simulation.contracts import RowOrders, Rows, Session, Start
from marsbench.simulation.randomness import Streams

Ints = NDArray[np.int64]
INTERVAL, MARK = 1, 2
"""Purposes of the random numbers."""


class Beginning(NamedTuple):
    """A starting sequence as a model reads it."""

    tokens: Ints
    """``[T, 4]``, at least one; the first may be the start of the session."""
    features: NDArray[Any]
    """``[T, F]`` beside each order."""
    group: int


class Recall(Protocol):
    """What a model remembers of the orders of each row."""

    def known(self, rows: Rows) -> torch.Tensor:
        """``[k, d]``, from which the next orders of some rows are drawn."""
        ...

    def read(self, rows: Rows, tokens: Ints, features: NDArray[Any], group: Ints, own: NDArray[np.bool_]) -> None:
        """Take note of one more order of each of some rows: ``[k, 4]``, ``[k, F]``, ``[k]``; ``own``: the market's."""
        ...


@dataclass
class Report:
    """What constraints did to the model's draws, summed over all orders of a session."""

    orders: int = 0
    cancels: int = 0
    slowed: int = 0
    """Orders whose time was stretched, because the market was busier than it ever was in training."""
    masked_type: float = 0.0
    """Probability of order types that were impossible."""
    masked_price: float = 0.0
    """Probability of price slots that were impossible, given the type."""
    snapped: int = 0
    """Cancels whose order was not at the price that decoding the slot would have named."""
    snap_ticks: float = 0.0
    """By so many ticks altogether."""

    def to_dict(self) -> dict[str, float]:
        """Means per order, or per cancel."""
        orders, cancels = max(self.orders, 1), max(self.cancels, 1)
        return {
            "cancel_share": self.cancels / orders,
            "slowed_share": self.slowed / orders,
            "masked_type_mass": self.masked_type / orders,
            "masked_price_mass": self.masked_price / orders,
            "snapped_share_of_cancels": self.snapped / cancels,
            "mean_snap_ticks": self.snap_ticks / cancels,
        }


@dataclass
class _Waiting:
    """Orders that have been observed and not yet been read, at most one for each row."""

    rows: Rows
    orders: NDArray[np.void]
    side: Ints
    price_ticks: Ints
    traded: Ints


@dataclass
class _Resting:
    """Where agents' orders rest, for cancels by id: side, price, shares left, by row and id."""

    at: dict[tuple[int, int], tuple[int, int, int]] = field(default_factory=dict)

    def take(self, fills: NDArray[np.void], rows: Rows) -> None:
        """Take off what resting orders have traded."""
        for resting, aggressor in (("bid", Kind.ASK), ("ask", Kind.BID)):
            own = (fills[f"{resting}_owner"] != MARKET) & (fills["side"] == aggressor)
            for row, fill in zip(rows[own], fills[own], strict=True):
                key = (int(row), int(fill[f"{resting}_id"]))
                if key in self.at:
                    side, price, left = self.at[key]
                    self.at[key] = (side, price, left - int(fill["size_shares"]))


class TokenSession(Session):
    """See the module.

    Parameters
    ----------
    head
        What draws orders, a field after the other; None where a subclass draws them itself.
    recall
        Makes what remembers orders, from the starting sequences, each for so many rows.
    context
        Orders of a starting sequence that are read.
    """

    def __init__(
        self,
        head: LearnedHead | None,
        tokeniser: Tokeniser,
        starts: Sequence[Start],
        rollouts: int,
        streams: Streams,
        *,
        recall: Callable[[Sequence[Beginning], int], Recall],
        context: int,
        sampling: Sampling,
    ) -> None:
        self.head = None if head is None else head.for_rollouts()
        self.tokeniser, self.sampling = tokeniser, sampling
        self.slots = Slots(tokeniser.vocabulary)
        self.streams, self.rules = streams, starts[0].rules
        self.lot = float(self.rules.lot_shares)
        self.opening_ns, self.closing_ns = map(float, session_ns(self.rules))
        rows = len(starts) * rollouts
        self.group = np.repeat([tokeniser.vocabulary.number(s.instrument) for s in starts], rollouts).astype(np.int64)
        begun = [self._begin(start, context) for start in starts]
        with torch.inference_mode():
            self.recall = recall([b.read for b in begun], rollouts)
        self.context = self.recall.known(np.arange(rows))
        """``[R, d]``, what each row's next order is decided from."""
        self.device = self.context.device
        self.memory = np.repeat(np.stack([b.memory for b in begun]), rollouts, axis=0)
        self.last_ns = np.repeat(np.array([b.last_ns for b in begun], np.int64), rollouts)
        """Time of trading of the market's last order."""
        self.features = np.zeros((rows, tokeniser.layout.width), tokeniser.layout.dtype)
        self.quotes = np.zeros((rows, 2), np.int64)
        self.moved = np.zeros(rows, np.int8)
        """Whether the mid has just moved further than ever in training: 1 up, -1 down."""
        self.index = np.full(rows, -1, np.int64)
        """Number of each row's pending order."""
        self.fresh = np.ones(rows, bool)
        self.due = np.zeros(rows, np.int64)
        self.slot = np.zeros(rows, np.int64)
        self.waiting: list[_Waiting] = []
        self.resting = _Resting()
        self.report = Report()

    def notes(self) -> dict[str, float]:
        """Masked mass, snap distance, cancel share."""
        return self.report.to_dict()

    def _begin(self, start: Start, context: int) -> _Begun:
        """A starting sequence as the model reads it, and what this session keeps of it."""
        stream = order_stream(start.history)
        _, group, tokens, features = self.tokeniser.content(start.name, stream.last(context))
        features = self.tokeniser.layout.within(features, group)
        if self.tokeniser.layout.after and len(tokens) == 0:
            raise ValueError(f"start {start.name}: this model needs at least one order before it; start later")
        first = np.array([[START, 0, 0, 0]], np.uint8)
        tokens = np.concatenate([first, tokens])[-context:] if len(tokens) < context else tokens[-context:]
        beside = np.concatenate([features[:1], features[:-1]])
        beside = (features if self.tokeniser.layout.after else beside)[-len(tokens) :]
        read = Beginning(tokens.astype(np.int64), beside, group)
        return _Begun(read, stream.memory, _last_ns(stream, start))

    # --- when ---------------------------------------------------------------------------------------

    @torch.inference_mode()
    def propose(self, rows: Rows, book: BookView) -> Ints:
        ten = book.ten
        quotes = quotes_or(best_quotes(ten), book.last_trade_ticks)
        read = self._remember(rows, quotes, ten)
        states = np.empty((len(rows), WIDTH), np.float32)
        describe_rows(
            self.memory, rows, ten.price_ticks, ten.size_shares, book.totals, self.lot, self.opening_ns,
            self.closing_ns, states,
        )  # fmt: skip
        layout, group = self.tokeniser.layout, self.group[rows]
        features = layout.features(states, ten, group)
        self.moved[rows] = layout.moved(features, group)
        features = layout.within(features, group)
        before = self.features
        if self.tokeniser.layout.after:
            before = self.features.copy()
            before[rows] = features
        for tokens, where, own in read:
            self.recall.read(where, tokens, before[where], self.group[where], own)
        self.features[rows], self.quotes[rows] = features, quotes
        self._time(rows, np.asarray(book.now_ns, np.int64), features)
        return self.due[rows]

    def _remember(self, rows: Rows, quotes: Ints, ten: Snapshots) -> list[tuple[Ints, Rows, NDArray[np.bool_]]]:
        """Take note of waiting orders; their tokens, rows, and which are the market's."""
        if not self.waiting:
            return []
        mid = np.zeros(len(self.group), np.int64)
        mid[rows] = quotes.sum(axis=1)
        out = []
        for one in self.waiting:
            r, sent = one.rows, one.orders
            clock = np.asarray(self.rules.trading_ns(sent["time_ns"]), np.int64)
            own = sent["owner"] == MARKET
            passed = np.maximum(clock - self.last_ns[r], 0)
            tokens = self._tokens(one, passed, tempo_rows(self.memory, r))
            signed = np.where(one.side == Kind.BID, one.traded, -one.traded) / self.lot
            remember_rows(
                self.memory, r, clock.astype(np.float64), signed, own.astype(np.float64), mid[r].astype(np.float64)
            )
            self.last_ns[r[own]] = clock[own]
            known = own if own.all() else own | ~self._unseen(one, rows, ten)
            if known.any():
                out.append((tokens[known], r[known], own[known]))
        self.waiting = []
        return out

    def _unseen(self, one: _Waiting, rows: Rows, ten: Snapshots) -> NDArray[np.bool_]:
        """Which orders rest behind the last level that a model sees of their side; ``ten`` are those of ``rows``."""
        last = np.empty((len(self.group), 2), np.int64)
        last[rows] = np.where(ten.size_shares[:, :, -1] > 0, ten.price_ticks[:, :, -1], np.array([FAR, -FAR]))
        away = np.array([1, -1])[one.side]
        return np.asarray((one.price_ticks - last[one.rows, one.side]) * away > 0)

    def _tokens(self, one: _Waiting, passed: Ints, tempo_ns: NDArray[np.float64]) -> Ints:
        sent = one.orders
        tokens = self.tokeniser.vocabulary.encode(
            self.group[one.rows],
            kind=sent["kind"].astype(np.int64),
            side=one.side,
            price_ticks=one.price_ticks,
            size_shares=sent["size_shares"].astype(np.int64),
            interval_ns=passed,
            tempo_ns=tempo_ns,
            ioc=(sent["flags"] & Flag.IOC) != 0,
            quotes_ticks=self.quotes[one.rows],
        )
        return tokens.astype(np.int64)

    def _time(self, rows: Rows, now_ns: Ints, features: NDArray[Any]) -> None:
        """Draw intervals where an order is new; give everybody the context of its next decision."""
        assert self.head is not None
        where = torch.as_tensor(rows, device=self.device)
        context = self._context(rows, self.recall.known(rows), torch.as_tensor(features, device=self.device))
        self.context[where] = context
        new = np.flatnonzero(self.fresh[rows])
        if len(new) == 0:
            return
        own = context if len(new) == len(rows) else context[torch.as_tensor(new, device=self.device)]
        own = self._timing(rows[new], own, features[new])
        self._draw_intervals(rows[new], now_ns[new], self.head.interval_logits(own).double().cpu().numpy())

    def _timing(self, rows: Rows, context: torch.Tensor, features: NDArray[Any]) -> torch.Tensor:
        """What the intervals of some rows are drawn from, ``[k, d]``: what their next orders are, unless overridden."""
        del rows, features
        return context

    def _context(self, rows: Rows, hidden: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """What the next orders of some rows are decided from, ``[k, d]``."""
        del rows
        assert self.head is not None
        return self.head.context(hidden, features)

    def _draw_intervals(self, rows: Rows, now_ns: Ints, logits: NDArray[np.float64]) -> None:
        """Times of new orders, given that nothing has come since the market's last one."""
        self.index[rows] += 1
        uniforms = self.streams.uniforms(rows, self.index[rows], INTERVAL, 2)
        group, bins = self.group[rows], self.slots.interval
        elapsed_ns = np.asarray(self.rules.trading_ns(now_ns), np.int64) - self.last_ns[rows]
        unit = self._beats(rows)
        elapsed = np.where(elapsed_ns > 0, elapsed_ns / unit, -1).astype(np.int64)
        weighed = self._weighed("interval", rows, logits, bins.used[group], np.zeros((len(rows), 4), np.int64))
        p = self.sampling.probabilities(np.where(bins.used[group], weighed, -np.inf))
        bins.keep_above(p, group, elapsed)
        slot = pick(p, uniforms[:, 0])
        value = bins.draw_between(group, slot, elapsed, np.full(len(rows), FAR), uniforms[:, 1])
        self.slot[rows] = slot
        self.due[rows] = now_ns + np.maximum(np.rint(value * unit).astype(np.int64) - elapsed_ns, 0)
        self.fresh[rows] = False

    def _weighed(
        self, field: str, rows: Rows, logits: NDArray[np.float64], possible: NDArray[np.bool_], drawn: Ints
    ) -> NDArray[np.float64]:
        """Logits ``[k, n]`` that a field of some rows is drawn from: the head's, unless overridden.

        Parameters
        ----------
        possible
            ``[k, n]``, the slots that can be drawn.
        drawn
            ``[k, 4]``, tokens of which the fields before this one are there.
        """
        del field, rows, possible, drawn
        return logits

    def _beats(self, rows: Rows) -> NDArray[np.float64]:
        """Nanoseconds of one unit of intervals: longer where the market is busier than it was in training."""
        vocabulary, group = self.tokeniser.vocabulary, self.group[rows]
        busy = busy_rows(self.memory, rows, group, vocabulary.busiest_rates, self.opening_ns)
        self.report.slowed += int((busy > 1).sum())
        unit: NDArray[np.float64] = np.maximum(busy, 1.0)
        if vocabulary.intervals == "tempo":
            low, high = vocabulary.tempo_range_ns[group].T
            unit = unit * np.minimum(np.maximum(tempo_rows(self.memory, rows), low), high) / BEAT
        return unit

    # --- what ---------------------------------------------------------------------------------------

    @torch.inference_mode()
    def decide(self, rows: Rows, book: BookView) -> RowOrders:
        quotes, group = self.quotes[rows], self.group[rows]
        uniforms = self.streams.uniforms(rows, self.index[rows], MARK, 6)
        near, far, edges = self.slots.cancel_ranges(group, quotes)
        open_slots = self.slots.open(group, quotes, edges, self.moved[rows], book)
        types, price, volume = self._marks(rows, open_slots, uniforms)
        cancel = types == Kind.CANCEL
        out = np.zeros(len(rows), ORDER)
        out["kind"] = types
        new, gone = np.flatnonzero(~cancel), np.flatnonzero(cancel)
        self._new_orders(out, new, group[new], types[new], price[new], volume[new], quotes[new], uniforms[new], book)
        slot = price[gone]
        ends = (near[gone, :, slot], far[gone, :, slot])
        self._cancels(out, gone, group[gone], slot, quotes[gone], ends, uniforms[gone], book.of(gone))
        self.fresh[rows] = True
        self.report.orders += len(rows)
        self.report.cancels += len(gone)
        sent = out["size_shares"] > 0
        return RowOrders(rows[sent], out[sent])

    def _marks(
        self, rows: Rows, open_slots: NDArray[np.bool_], uniforms: NDArray[np.float64]
    ) -> tuple[Ints, Ints, Ints]:
        """Type, price slot and volume slot of each row."""
        assert self.head is not None
        possible, head = np.asarray(open_slots.any(axis=2)), self.head
        where = torch.as_tensor(rows, device=self.device)
        slot = torch.as_tensor(self.slot[rows], device=self.device)
        drawn = np.zeros((len(rows), 4), np.int64)
        drawn[:, 3] = self.slot[rows]
        logits, context = head.type_logits(self.context[where], slot)
        drawn[:, 0], lost = self._drawn("type", rows, logits, possible, drawn, uniforms[:, 0])
        self.report.masked_type += lost
        kinds = torch.as_tensor(drawn[:, 0], device=self.device)
        logits, context = head.price_logits(context, kinds)
        open_ = open_slots[np.arange(len(rows)), drawn[:, 0]]
        drawn[:, 1], lost = self._drawn("price", rows, logits, open_, drawn, uniforms[:, 1])
        self.report.masked_price += lost
        logits = head.volume_logits(context, kinds, torch.as_tensor(drawn[:, 1], device=self.device))
        drawn[:, 2], _ = self._drawn("volume", rows, logits, self._volumes(rows, drawn[:, 0]), drawn, uniforms[:, 2])
        return drawn[:, 0], drawn[:, 1], drawn[:, 2]

    def _drawn(
        self, field: str, rows: Rows, logits: torch.Tensor, possible: NDArray[np.bool_], drawn: Ints, uniforms: Any
    ) -> tuple[Ints, float]:
        """A slot of each row, and how much probability was on impossible ones."""
        weighed = self._weighed(field, rows, logits.double().cpu().numpy(), possible, drawn)
        p, lost = allowed(self.sampling.probabilities(weighed), possible)
        return pick(p, uniforms), float(lost.sum())

    def _volumes(self, rows: Rows, types: Ints) -> NDArray[np.bool_]:
        """Volume slots that a group has for orders of these types, ``[k, 32]``."""
        group, cancel = self.group[rows], (types == Kind.CANCEL)[:, None]
        return np.where(cancel, self.slots.cancel_volume.used[group], self.slots.new_volume.used[group])

    def _new_orders(
        self, out: Any, at: Ints, group: Ints, side: Ints, price: Ints, volume: Ints, quotes: Ints, uniforms: Any,
        book: BookView,
    ) -> None:  # fmt: skip
        low, high = book.limits_ticks
        ticks, takes = self.slots.new_prices(group, side, price, quotes, (low[at], high[at]), uniforms[:, [3, 5]])
        out["price_ticks"][at] = ticks
        out["flags"][at] = np.where(takes, int(Flag.IOC), 0)
        size, lot = self.slots.new_volume.draw(group, volume, uniforms[:, 4]), self.rules.lot_shares
        odd = (side == Kind.ASK) & self.rules.odd_lot_asks
        out["size_shares"][at] = np.where(odd, size, np.maximum(size // lot, 1) * lot)

    def _cancels(
        self, out: Any, at: Ints, group: Ints, price: Ints, quotes: Ints, ends: tuple[Ints, Ints], uniforms: Any,
        book: BookView,
    ) -> None:  # fmt: skip
        """One order each, of those in the price slot, between distances ``ends`` from the best quotes, ``[k, 2]``."""
        if len(at) == 0:
            return
        near, far = np.maximum(ends[0], 0), ends[1]
        away = np.array([1, -1])
        first, last = quotes + away * near, quotes + away * far
        low, high = np.minimum(first, last), np.maximum(first, last)
        none = near > far
        low[none], high[none] = 1, 0
        found, size, id_ = book.any_owned(low, high, uniforms[:, 4])
        out["order_id"][at], out["size_shares"][at] = id_, size
        out["price_ticks"][at] = np.where(found != NO_PRICE, found, 1)
        self._snapped(np.asarray(found), group, price, quotes, uniforms)

    def _snapped(self, found: Ints, group: Ints, price: Ints, quotes: Ints, uniforms: Any) -> None:
        """Report how far from the price that decoding would have named the orders were."""
        (ask, bid), where = quotes.T, self.slots.cancel_price.draw(group, price, uniforms[:, 3])
        from_touch = np.where(where >= 0, ask + where, bid + where + 1)
        named = from_touch if self.slots.touch else (where + ask + bid) // 2
        off = np.abs(found - named)[found != NO_PRICE]
        self.report.snapped += int((off > 0).sum())
        self.report.snap_ticks += float(off.sum())

    # --- what happened ------------------------------------------------------------------------------

    def observe(self, events: Events) -> Rows:
        self.resting.take(events.fills, events.fill_rows)
        good = np.flatnonzero(events.reason == Reason.OK)
        if len(good) == 0:
            return np.zeros(0, np.int64)
        rows, sent, traded = events.rows[good], events.orders[good], events.traded_shares[good]
        side, price = self._where(rows, sent, traded)
        first = np.concatenate([[True], rows[1:] != rows[:-1]])
        place = np.arange(len(rows)) - np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))
        for k in range(int(place.max()) + 1):  # several orders of one row are read one after the other
            at = place == k
            self.waiting.append(_Waiting(rows[at], sent[at], side[at], price[at], traded[at]))
        return np.unique(rows[sent["owner"] != MARKET])

    def _where(self, rows: Rows, sent: NDArray[np.void], traded: Ints) -> tuple[Ints, Ints]:
        """Side and price of each order; of an agent's cancel by id those, and the size, of the order that it named."""
        ask, bid = self.quotes[rows].T
        price = sent["price_ticks"].astype(np.int64)
        cancel = sent["kind"] == Kind.CANCEL
        side = np.where(cancel, np.where(2 * price >= ask + bid, int(Kind.ASK), int(Kind.BID)), sent["kind"])
        side = side.astype(np.int64)
        for i in np.flatnonzero(sent["owner"] != MARKET):
            key, size = (int(rows[i]), int(sent["order_id"][i])), int(sent["size_shares"][i])
            if not cancel[i]:
                self.resting.at[key] = (int(side[i]), int(price[i]), size - int(traded[i]))
            elif not sent["flags"][i] & Flag.BY_LEVEL and key in self.resting.at:
                side[i], price[i], left = self.resting.at[key]
                taken = left if size == 0 else min(size, left)
                sent["size_shares"][i], self.resting.at[key] = taken, (int(side[i]), int(price[i]), left - taken)
        return side, price


class _Begun(NamedTuple):
    """A start, read."""

    read: Beginning
    memory: NDArray[np.float64]
    last_ns: int


def _last_ns(stream: OrderStream, start: Start) -> int:
    """Time of trading of the last order before a start; without any, when its history began."""
    if len(stream):
        return int(stream.clock_ns[-1])
    return min(int(stream.memory[BEGIN]), int(start.rules.trading_ns(start.clock_ns)))
