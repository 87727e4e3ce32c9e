"""Hypothesis strategies for markets: rules, sessions, starting books and dense streams of messages.

A stream is drawn as drafts (small plain numbers, so that failures shrink well). ``compose`` turns
drafts into messages while a slow book takes them, which lets a draft name a live order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from slow_book import ASK, BID, BY_LEVEL, CANCEL, IOC, REPLACE, SEEDED, Message, SlowBook

from marsbench.market.orders import ORDER
from marsbench.market.rules import CircuitBreaker, MatchingRules, Phase, PhaseKind, SelfTrade, Tie
from marsbench.market.trajectory import BookState

INT32 = np.iinfo(np.int32)
CENTERS = (1000, 1000, 1000, 1000, 100, 7, 0, -500, 179_500, INT32.max - 12, INT32.min + 12)
"""Prices around which streams are dense; the ends of the number range are among them."""
FAR_PRICES = (INT32.max, INT32.max - 1, INT32.min, INT32.min + 1, 0, 1, -1, 10**9, -(10**9), 123_456, 500, 2000)
ODD_IDS = (-1, -7, 2**31, 2**40 + 3, 2**62, -(2**62), 1, 2, 5)
SIZES = (1, 1, 2, 3, 5, 8, 10, 100)
ODD_SIZES = (0, -1, INT32.min, INT32.max, INT32.max - 7, 1_000_000)


class Draft(NamedTuple):
    """One message that does not know the book yet."""

    action: int
    """0-9 new, 10-12 cancel, 13-14 replace, 15-16 cancel by level, 17 anything."""
    gap_ns: int
    """Time since the message before."""
    pick: int
    """Which live order is meant, and the choice among rare variants."""
    side: int
    offset: int
    """Price relative to the centre, in price steps."""
    size: int
    """Index into ``SIZES``; beyond them into ``ODD_SIZES``."""
    owner: int
    options: int
    """0-99; the high ones switch on immediate-or-cancel, explicit ids, wrong owners and far prices."""


DRAFTS = st.builds(
    Draft,
    action=st.sampled_from([*range(17)] * 2 + [17]),
    gap_ns=st.sampled_from([0] * 12 + [1] * 6 + [2, 2, 3, 4, 15, -1]),
    pick=st.integers(0, 63),
    side=st.sampled_from([ASK, BID]),
    offset=st.integers(-5, 5),
    size=st.sampled_from([*range(len(SIZES))] * 5 + [*range(len(SIZES), len(SIZES) + len(ODD_SIZES))]),
    owner=st.sampled_from([0, 0, 0, 1, 1, 2]),
    options=st.sampled_from(range(100)),
)


def draft_lists(max_size: int) -> st.SearchStrategy[list[Draft]]:
    """Streams of every length alike; plain ``lists`` would make mostly short ones."""
    return st.integers(1, max_size).flatmap(lambda n: st.lists(DRAFTS, min_size=n, max_size=n))


def random_drafts(
    rng: np.random.Generator, n: int, *, spread: int = 6, news: float = 0.6, odd: float = 0.02
) -> Iterator[Draft]:
    """Long streams without hypothesis. ``news``: share of new orders; ``odd``: of odd sizes, times and options."""
    rare = rng.random((4, n)) < odd
    action = np.where(rng.random(n) < news, rng.integers(0, 10, n), rng.integers(10, 17, n))
    columns = (
        np.where(rare[0], 17, action),
        np.where(rare[1], rng.choice([-1, 5], n), rng.integers(0, 3, n)),
        rng.integers(0, 1 << 30, n),
        rng.integers(0, 2, n),
        rng.integers(-spread, spread + 1, n),
        np.where(rare[2], rng.integers(len(SIZES), len(SIZES) + len(ODD_SIZES), n), rng.integers(0, len(SIZES), n)),
        rng.choice([0, 0, 0, 0, 1, 2, 3], n),
        np.where(rare[3], rng.integers(70, 100, n), rng.integers(0, 90, n)),
    )
    return (Draft(*row) for row in zip(*(column.tolist() for column in columns), strict=True))


def compose(book: SlowBook, drafts: Iterable[Draft], center: int, record: list[Message]) -> Iterator[Message]:
    """Messages for a book that takes each before the next is asked for; ``record`` collects them."""
    rules, ids, time_ns = book.rules, list(book.live), book.clock
    last_id = book.next_id
    for draft in drafts:
        ids.extend(range(last_id, min(book.next_id, last_id + 64)))
        last_id = max(last_id, book.next_id)
        message = _message(draft, book, _live_id(ids, draft.pick, book), max(time_ns + draft.gap_ns, 0), center, rules)
        if message[1]:
            ids.append(message[1])
        time_ns = max(time_ns, message[0])
        record.append(message)
        yield message


def _live_id(ids: list[int], pick: int, book: SlowBook) -> int:
    """One of the ids that were given, a live one if it is found soon; 0 if there is none."""
    for _ in range(20):
        if not ids:
            return 0
        at = pick % len(ids)
        if ids[at] in book.live:
            return ids[at]
        ids[at] = ids[-1]
        ids.pop()
    return ids[0] if ids else 0


def _message(draft: Draft, book: SlowBook, live_id: int, time_ns: int, center: int, rules: MatchingRules) -> Message:
    live = book.live.get(live_id)
    price = center - center % rules.price_step_ticks + draft.offset * rules.price_step_ticks
    if draft.options >= 94:
        price = FAR_PRICES[draft.pick % len(FAR_PRICES)]
    elif draft.options in (88, 89):
        price += 1
    price = int(min(max(price, INT32.min), INT32.max))
    if draft.size < len(SIZES):
        size = SIZES[draft.size] * (1 if draft.options in (86, 87) else rules.lot_shares)
    else:
        size = ODD_SIZES[draft.size - len(SIZES)]
    owner, flags = draft.owner, 0
    if draft.action < 10:
        order_id = 0
        if 70 <= draft.options < 76:
            order_id = draft.pick % 40 + 1
        elif draft.options == 76:
            order_id = ODD_IDS[draft.pick % len(ODD_IDS)]
        elif draft.options == 77:
            order_id = live_id
        if 60 <= draft.options < 70 or draft.options >= 97:
            flags = IOC
        if draft.options == 78:
            flags |= SEEDED
        return (time_ns, order_id, price, size, owner, draft.side, flags, 0)
    if live is not None and draft.options < 90:
        owner = live.owner
    if draft.action < 13:
        if draft.options < 30 and draft.size < len(SIZES):
            size = 0
        return (time_ns, live_id if draft.options < 96 else 10**7 + draft.pick, price, size, owner, CANCEL, 0, 0)
    if draft.action < 15:
        side = live.side if live is not None and draft.options < 70 else draft.side
        order_id = live_id if draft.options < 93 else 10**7 + draft.pick
        flags = REPLACE | (IOC if 60 <= draft.options < 70 else 0) | (SEEDED if draft.options == 50 else 0)
        return (time_ns, order_id, price, size, owner, side, flags, 0)
    if draft.action < 17:
        if live is not None and draft.options < 80:
            price = live.price
        return (time_ns, 0 if draft.options % 2 else live_id, price, size, owner, CANCEL, BY_LEVEL, 0)
    kind = (ASK, BID, CANCEL, 3, 255)[draft.pick % 5]
    return (time_ns, live_id if draft.options % 2 else 0, price, size, owner, kind, draft.options % 34, 0)


@st.composite
def sessions(draw: st.DrawFn, *, auctions: bool = True, shortest: int = 1) -> tuple[Phase, ...]:
    """One to five phases, with and without breaks between them and no-cancel windows."""
    phases, end = [], 0
    for _ in range(draw(st.sampled_from([1, 2, 3, 4, 5]))):
        start = end + draw(st.sampled_from([0, 0, 0, 1, 4]))
        end = start + draw(st.sampled_from([n for n in (80, 40, 20, 5, 160, 1) if n >= shortest]))
        kind = draw(st.sampled_from([PhaseKind.CONTINUOUS, PhaseKind.CONTINUOUS, PhaseKind.AUCTION]))
        no_cancel = draw(st.one_of(st.none(), st.none(), st.integers(start, end)))
        phases.append(Phase(start, end, kind if auctions else PhaseKind.CONTINUOUS, no_cancel))
    return tuple(phases)


@st.composite
def matching_rules(
    draw: st.DrawFn,
    *,
    phases: st.SearchStrategy[tuple[Phase, ...]] | None = None,
    breakers: int = 3,
    self_trade: st.SearchStrategy[SelfTrade] | None = None,
) -> MatchingRules:
    """Any rules; prices and sizes of the streams suit them. ``breakers``: at most so many levels."""
    count = draw(st.sampled_from(range(breakers + 1)))
    thresholds = sorted(draw(st.sampled_from([0.001, 0.002, 0.003, 0.005, 0.01])) for _ in range(count))
    halts = st.sampled_from([0, 1, 3, 10, 30])
    return MatchingRules(
        name="random",
        phases=draw(phases if phases is not None else sessions()),
        price_step_ticks=draw(st.sampled_from([1, 1, 1, 2, 5])),
        lot_shares=draw(st.sampled_from([1, 1, 2, 100])),
        odd_lot_asks=draw(st.booleans()),
        price_limit=draw(st.sampled_from([0.0, 0.003, 0.1, 0.2])),
        tie=draw(st.sampled_from(Tie)),
        circuit_breakers=tuple(CircuitBreaker(t, draw(halts)) for t in thresholds),
        self_trade=draw(self_trade if self_trade is not None else st.sampled_from(SelfTrade)),
    )


@st.composite
def book_states(draw: st.DrawFn, center: int, *, crossed: bool = True, max_size: int = 12) -> BookState:
    """A starting book around a price; ``crossed`` allows a bid at or above an ask."""
    one = st.tuples(st.sampled_from([ASK, BID]), st.integers(-6, 6), st.integers(1, 20), st.sampled_from([0, 0, 1, 2]))
    drafts = draw(st.lists(one, max_size=max_size))
    ids = draw(st.permutations(range(1, len(drafts) + 1)))
    rows = []
    for (side, offset, size, owner), order_id in zip(drafts, ids, strict=True):
        away = offset if crossed else (abs(offset) + 1) * (1 if side == ASK else -1)
        price = int(min(max(center + away, INT32.min + 1), INT32.max))
        rows.append((0, order_id, price, size, owner, side, 0, 0))
    resting = np.array(rows, ORDER)
    return BookState(
        resting=resting,
        last_trade_ticks=draw(st.sampled_from([0, center, min(center + 3, INT32.max)])),
        reference_ticks=draw(st.sampled_from([max(center, 0), max(center, 0), 0])),
        next_id=draw(st.sampled_from([1, len(rows) + 1, 30])),
        time_ns=draw(st.sampled_from([0, 0, 5, 5, 20])),
    )


class Market(NamedTuple):
    """An example: rules, a starting book, and a stream."""

    rules: MatchingRules
    state: BookState
    orders: NDArray[np.void]

    def __repr__(self) -> str:
        rows = "\n    ".join(str(row) for row in self.orders.tolist())
        return f"{self.rules!r}\n  {self.state!r}\n  orders\n    {rows}"


def stream(rules: MatchingRules, state: BookState, drafts: Iterable[Draft], center: int) -> NDArray[np.void]:
    """The messages of drafts for a market."""
    book, record = SlowBook(rules, state), []
    for index, message in enumerate(compose(book, drafts, center, record)):
        book.advance(message[0], index)
        book.submit(message, index)
    return np.array(record, ORDER)


@st.composite
def markets(
    draw: st.DrawFn,
    rules: st.SearchStrategy[MatchingRules] | None = None,
    *,
    crossed: bool = True,
    centers: Sequence[int] = CENTERS,
    max_messages: int = 60,
) -> Market:
    """Rules, a starting book and a stream of up to ``max_messages`` that suits them."""
    some_rules = draw(rules if rules is not None else matching_rules())
    center = draw(st.sampled_from(centers))
    state = draw(book_states(center, crossed=crossed))
    drafts = draw(draft_lists(max_messages))
    return Market(some_rules, state, stream(some_rules, state, drafts, center))


@st.composite
def auction_markets(draw: st.DrawFn, tie: Tie) -> Market:
    """One call auction of few orders of like sizes: several prices are often equally good."""
    center = draw(st.sampled_from([1000, -500, INT32.max - 12]))
    near = st.sampled_from([0, 0, 1, -1, 2, -3]).map(lambda offset: center + offset)
    last = draw(st.one_of(st.just(0), near, near))
    reference = max(draw(st.one_of(st.just(0), near, near)), 0)
    count = draw(st.sampled_from([1, 2, 3, 4]))
    sides = draw(st.permutations([ASK, BID] * count + draw(st.lists(st.sampled_from([ASK, BID]), max_size=2))))
    rows = []
    for side in sides:
        price = center + draw(st.integers(-1, 5)) * (1 if side == BID else -1)
        rows.append((0, 0, price, draw(st.sampled_from([1, 1, 1, 2])), 0, side, 0, 0))
    phases = (Phase(0, 10, PhaseKind.AUCTION),)
    rules = MatchingRules(name="auction", phases=phases, tie=tie)
    return Market(rules, BookState(last_trade_ticks=last, reference_ticks=reference), np.array(rows, ORDER))


@st.composite
def long_markets(draw: st.DrawFn, *, max_messages: int = 3000) -> Market:
    """Streams from a seed: many live orders and many levels, at the price of coarse shrinking."""
    n = draw(st.sampled_from([500, max_messages]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = max(n // 100, 1)
    phases = tuple(
        Phase(p.start_ns * scale, p.end_ns * scale, p.kind, p.no_cancel_from_ns and p.no_cancel_from_ns * scale)
        for p in draw(sessions(shortest=15))
    )
    rules = draw(matching_rules(phases=st.just(phases)))
    center = draw(st.sampled_from(CENTERS))
    state = draw(book_states(center, max_size=40))
    spread, news = draw(st.sampled_from([3, 20, 400])), draw(st.sampled_from([0.45, 0.6, 0.95]))
    drafts = random_drafts(rng, n, spread=spread, news=news)
    return Market(rules, state, stream(rules, state, drafts, center))
