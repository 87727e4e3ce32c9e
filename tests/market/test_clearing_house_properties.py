"""The compiled clearing house against its slow twin, and its conservation laws, over random markets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_book import ASK, BID, BY_LEVEL, CANCEL, IOC, REPLACE, difference, slow_replay
from strategies import (
    CENTERS,
    Market,
    auction_markets,
    book_states,
    draft_lists,
    long_markets,
    markets,
    matching_rules,
    sessions,
    stream,
)

from marsbench.market.clearing_house import ClearingHouse
from marsbench.market.orders import AUCTION, NO_PRICE, ORDER, Reason
from marsbench.market.replay import Replay, replay
from marsbench.market.rules import MatchingRules, SelfTrade, Tie
from marsbench.market.trajectory import BookState

LEVELS = st.integers(1, 12)
NO_BREAKERS = matching_rules(breakers=0)
EVERYBODY_TRADES = matching_rules(self_trade=st.just(SelfTrade.ALLOW))
HALTING = matching_rules(phases=sessions(auctions=False, shortest=20))
CONTINUOUS_ONLY = matching_rules(phases=sessions(auctions=False), breakers=0)


# Fast equals slow ---------------------------------------------------------------------------


@settings(max_examples=500)
@given(markets(), LEVELS, st.one_of(st.none(), st.integers(0, 400)))
def test_the_compiled_book_equals_its_slow_twin(market: Market, levels: int, end_ns: int | None) -> None:
    slow = slow_replay(*market, levels=levels, end_ns=end_ns)
    fast = replay(*market, levels=levels, end_ns=end_ns)
    assert difference(slow, fast) is None


@settings(max_examples=120)
@given(markets(HALTING, centers=[1000]), LEVELS)
def test_the_compiled_book_equals_its_slow_twin_through_halts(market: Market, levels: int) -> None:
    slow = slow_replay(*market, levels=levels, end_ns=1000)
    fast = replay(*market, levels=levels, end_ns=1000)
    assert difference(slow, fast) is None


@settings(max_examples=300)
@given(st.sampled_from([Tie.NEAREST_REFERENCE, Tie.NEAREST_REFERENCE, Tie.MIDDLE]).flatmap(auction_markets))
def test_the_compiled_book_equals_its_slow_twin_where_auction_prices_tie(market: Market) -> None:
    slow = slow_replay(*market, end_ns=10)
    assert difference(slow, replay(*market, end_ns=10)) is None


@settings(max_examples=60)
@given(long_markets(), LEVELS)
def test_the_compiled_book_equals_its_slow_twin_with_many_live_orders(market: Market, levels: int) -> None:
    some = range(0, len(market.orders) + 1, 50)
    slow = slow_replay(*market, levels=levels, end_ns=10**6, snapshots_at=some)
    fast = replay(*market, levels=levels, end_ns=10**6)
    assert difference(slow, fast) is None


# Conservation laws of the fast one ------------------------------------------------------------


def accepted(market: Market, result: Replay, side: int) -> np.ndarray:
    """Which messages put shares on a side."""
    return (result.reason == Reason.OK) & (market.orders["kind"] == side)


@settings(max_examples=120)
@given(markets(EVERYBODY_TRADES), st.sampled_from([ASK, BID]))
def test_shares_added_are_filled_cancelled_dropped_or_resting(market: Market, side: int) -> None:
    result = replay(*market, end_ns=10**6)
    new = accepted(market, result, side)
    sizes = market.orders["size_shares"].astype(np.int64)
    start, final = market.state.resting, result.final.resting

    added = sizes[new].sum() + start["size_shares"][start["kind"] == side].sum()
    filled = result.fills["size_shares"].astype(np.int64).sum()  # every fill takes as much from each side
    cancelled = result.cancelled_shares[result.cancelled_side == side].sum()
    dropped = (sizes - result.traded_shares)[new & (market.orders["flags"] & IOC > 0)].sum()
    resting = final["size_shares"][final["kind"] == side].astype(np.int64).sum()
    assert added == filled + cancelled + dropped + resting


@settings(max_examples=120)
@given(markets())
def test_a_message_trades_what_its_fills_say(market: Market) -> None:
    result = replay(*market)
    traded = np.zeros(len(market.orders), np.int64)
    by_message = result.fills[result.fills["side"] != AUCTION]
    np.add.at(traded, by_message["seq"], by_message["size_shares"])
    assert traded.tolist() == result.traded_shares.tolist()


@settings(max_examples=120)
@given(markets())
def test_a_rejected_message_changes_nothing_but_the_clock(market: Market) -> None:
    result = replay(*market, levels=10)
    kept = result.reason == Reason.OK
    alone = replay(market.rules, market.state, market.orders[kept], levels=10)
    # Rejected messages may have closed a phase at the end, so the last stretch is closed in both.
    if result.final.time_ns > alone.final.time_ns:
        alone = replay(market.rules, market.state, market.orders[kept], levels=10, end_ns=result.final.time_ns)
    assert alone.final.resting.tolist() == result.final.resting.tolist()
    assert alone.final.time_ns == result.final.time_ns
    assert alone.traded_shares.tolist() == result.traded_shares[kept].tolist()
    assert alone.order_id.tolist() == result.order_id[kept].tolist()
    assert len(alone.fills) == len(result.fills)


@settings(max_examples=120)
@given(markets(NO_BREAKERS, crossed=False))
def test_the_book_is_never_crossed_after_continuous_trading(market: Market) -> None:
    result = replay(*market, levels=1)
    time_ns = market.orders["time_ns"]
    continuous = np.zeros(len(time_ns), bool)
    for phase in market.rules.continuous:
        continuous |= (phase.start_ns <= time_ns) & (time_ns < phase.end_ns)
    after = np.flatnonzero(continuous & (result.reason == Reason.OK)) + 1
    assert result.snapshots is not None
    ask, bid = (result.snapshots.price_ticks[after, side, 0] for side in (ASK, BID))
    assert not np.any((bid >= ask) & (bid != NO_PRICE) & (ask != NO_PRICE))


@dataclass
class Entry:
    """A resting order as the books of an accountant show it."""

    side: int
    price: int
    owner: int
    left: int


class Ledger:
    """An accountant who matches nothing: follows a replay's own results and checks priorities."""

    def __init__(self, state: BookState) -> None:
        self.entries: dict[int, Entry] = {}  # oldest first
        for row in state.resting:
            self.entries[int(row["order_id"])] = Entry(
                *(int(row[n]) for n in ("kind", "price_ticks", "owner", "size_shares"))
            )

    def take(self, order_id: int, size: int) -> None:
        entry = self.entries[order_id]
        entry.left -= size
        assert entry.left >= 0
        if entry.left == 0:
            del self.entries[order_id]

    def first(self, side: int) -> int:
        """The order of a side with the best price, the oldest of those."""
        sign = 1 if side == ASK else -1
        mine = [order_id for order_id, entry in self.entries.items() if entry.side == side]
        return min(mine, key=lambda order_id: sign * self.entries[order_id].price)  # min keeps the first of equals

    def auction_fill(self, fill: np.void) -> None:
        assert self.first(BID) == fill["bid_id"]
        assert self.first(ASK) == fill["ask_id"]
        assert self.entries[int(fill["ask_id"])].price <= fill["price_ticks"] <= self.entries[int(fill["bid_id"])].price
        for name in ("bid_id", "ask_id"):
            self.take(int(fill[name]), int(fill["size_shares"]))

    def aggressor_fill(self, fill: np.void) -> None:
        passive = BID if fill["side"] == ASK else ASK
        order_id = int(fill["bid_id" if passive == BID else "ask_id"])
        assert self.first(passive) == order_id
        assert self.entries[order_id].price == fill["price_ticks"]
        self.take(order_id, int(fill["size_shares"]))

    def message(self, order: np.void, order_id: int, traded: int) -> None:
        left = int(order["size_shares"]) - traded
        if left > 0 and not order["flags"] & IOC:
            self.entries[order_id] = Entry(int(order["kind"]), int(order["price_ticks"]), int(order["owner"]), left)

    def cancel(self, order: np.void) -> None:
        size, price, owner = int(order["size_shares"]), int(order["price_ticks"]), int(order["owner"])
        if not order["flags"] & BY_LEVEL:
            left = self.entries[int(order["order_id"])].left
            self.take(int(order["order_id"]), min(size or left, left))
            return
        owned = [(i, e) for i, e in self.entries.items() if e.price == price and e.owner == owner]
        side = BID if any(e.side == BID for _, e in owned) else ASK
        for order_id, entry in reversed([(i, e) for i, e in owned if e.side == side]):
            taken = min(size, entry.left)
            size -= taken
            if taken:
                self.take(order_id, taken)


@settings(max_examples=120)
@given(markets(EVERYBODY_TRADES))
def test_the_queue_order_is_kept(market: Market) -> None:
    result = replay(*market, end_ns=10**6)
    ledger = Ledger(market.state)
    fills = iter([*result.fills, None])
    fill = next(fills)
    for i, order in enumerate(market.orders):
        while fill is not None and fill["seq"] == i and fill["side"] == AUCTION:
            ledger.auction_fill(fill)
            fill = next(fills)
        ok = result.reason[i] == Reason.OK
        if ok and order["flags"] & REPLACE:
            del ledger.entries[int(order["order_id"])]
        while fill is not None and fill["seq"] == i:
            ledger.aggressor_fill(fill)
            fill = next(fills)
        if ok and order["kind"] == CANCEL:
            ledger.cancel(order)
        elif ok:
            ledger.message(order, int(result.order_id[i]), int(result.traded_shares[i]))
    while fill is not None:
        ledger.auction_fill(fill)
        fill = next(fills)

    final = {int(row["order_id"]): int(row["size_shares"]) for row in result.final.resting}
    assert final == {order_id: entry.left for order_id, entry in ledger.entries.items()}
    for side in (ASK, BID):
        rows = result.final.resting[result.final.resting["kind"] == side]
        queue = sorted(
            (i for i, e in ledger.entries.items() if e.side == side),
            key=lambda i: ledger.entries[i].price * (1 if side == ASK else -1),
        )
        assert rows["order_id"].tolist() == queue


# Pieces equal the whole -----------------------------------------------------------------------


@settings(max_examples=120)
@given(markets(NO_BREAKERS), st.integers(0, 60))
def test_a_stream_in_two_parts_equals_the_whole(market: Market, cut: int) -> None:
    rules, state, orders = market
    whole = replay(rules, state, orders, end_ns=1000)
    first = replay(rules, state, orders[:cut])
    second = replay(rules, first.final, orders[cut:], end_ns=1000)
    second.fills["seq"] += len(orders[:cut])
    assert np.array_equal(np.concatenate([first.fills, second.fills]), whole.fills)
    assert np.array_equal(np.concatenate([first.reason, second.reason]), whole.reason)
    assert second.final.resting.tolist() == whole.final.resting.tolist()
    assert second.final.next_id == whole.final.next_id
    assert second.final.last_trade_ticks == whole.final.last_trade_ticks


@st.composite
def streams_for_books(draw: st.DrawFn) -> tuple[MatchingRules, list[Market], list[list[int]]]:
    """Several books under the same rules, a stream for each, and how many messages each gets per step."""
    rules = draw(CONTINUOUS_ONLY)
    books = []
    for _ in range(draw(st.integers(1, 4))):
        center = draw(st.sampled_from(CENTERS))
        state = draw(book_states(center))
        books.append(Market(rules, state, stream(rules, state, draw(draft_lists(20)), center)))
    portions = st.lists(st.integers(0, 4), min_size=len(books), max_size=len(books))
    return rules, books, draw(st.lists(portions, max_size=12))


@settings(max_examples=80)
@given(streams_for_books(), LEVELS)
def test_books_in_lockstep_equal_separate_replays(
    example: tuple[MatchingRules, list[Market], list[list[int]]], levels: int
) -> None:
    rules, markets, steps = example
    house = ClearingHouse(rules, books=len(markets))
    for row, market in enumerate(markets):
        house.load(row, market.state)
    sent = [0] * len(markets)
    collected: list[list[tuple[int, ...]]] = [[] for _ in markets]
    fills: list[list[tuple[int, ...]]] = [[] for _ in markets]
    for portions in [*steps, [10**6] * len(markets)]:
        parts = [m.orders[at : at + k] for m, at, k in zip(markets, sent, portions, strict=True)]
        rows = np.repeat(np.arange(len(markets)), [len(part) for part in parts])
        events = house.submit(rows, np.concatenate([np.zeros(0, ORDER), *parts]))
        # Number of each event within its own stream.
        starts = np.cumsum([0, *(len(part) for part in parts)])
        number = np.arange(len(rows)) - starts[rows] + np.array(sent)[rows]
        for row, reason, traded, order in zip(rows, events.reason, events.traded_shares, events.orders, strict=True):
            collected[row].append((int(reason), int(traded), int(order["order_id"])))
        for row, fill in zip(events.fill_rows, events.fills, strict=True):
            assert events.rows[fill["seq"]] == row
            whole = fill.copy()
            whole["seq"] = number[fill["seq"]]
            fills[row].append(whole.tolist())
        sent = [at + len(part) for at, part in zip(sent, parts, strict=True)]

    snapshots = house.snapshot(np.arange(len(markets)), levels)
    for row, market in enumerate(markets):
        alone = slow_replay(*market, levels=levels)
        assert collected[row] == list(
            zip(alone.reason.tolist(), alone.traded_shares.tolist(), alone.order_id.tolist(), strict=True)
        )
        assert fills[row] == alone.fills.tolist()
        assert house.state(row).resting.tolist() == alone.final.resting.tolist()
        assert house.state(row).next_id == alone.final.next_id
        assert alone.snapshots is not None
        assert snapshots.price_ticks[row].tolist() == alone.snapshots.price_ticks[-1].tolist()
        assert snapshots.size_shares[row].tolist() == alone.snapshots.size_shares[-1].tolist()


@settings(max_examples=60)
@given(markets(CONTINUOUS_ONLY), st.data())
def test_forked_books_go_their_own_ways(market: Market, data: st.DataObject) -> None:
    rules, state, orders = market
    house = ClearingHouse(rules, books=3)
    house.load(1, state)
    house.submit(np.ones(len(orders), np.int64), orders)
    house.fork(1, np.array([0, 2]))
    middle = slow_replay(*market).final
    center = int(data.draw(st.sampled_from(CENTERS)))
    for row in (2, 0, 1):
        more = stream(rules, middle, data.draw(draft_lists(15)), center)
        house.submit(np.full(len(more), row), more)
        alone = slow_replay(rules, middle, more).final
        assert house.state(row).resting.tolist() == alone.resting.tolist()
        assert house.state(row).next_id == alone.next_id
        assert house.state(row).last_trade_ticks == alone.last_trade_ticks


# The examples themselves ----------------------------------------------------------------------


def test_the_random_markets_exercise_every_reason_and_every_kind_of_fill() -> None:
    reasons, sides = set(), set()

    @settings(max_examples=250, database=None)
    @given(markets())
    def look(market: Market) -> None:
        result = slow_replay(*market)
        reasons.update(result.reason.tolist())
        sides.update(result.fills["side"].tolist())

    look()
    assert reasons == {int(reason) for reason in Reason}
    assert sides == {ASK, BID, AUCTION}


def test_the_random_markets_are_often_halted_and_trade_when_the_halt_ends() -> None:
    uncrossed = []

    @settings(max_examples=100, database=None)
    @given(markets(HALTING, centers=[1000], crossed=False))
    def look(market: Market) -> None:
        # There is no auction in these sessions: only the end of a halt can have made such a fill.
        uncrossed.append(AUCTION in slow_replay(*market, end_ns=1000).fills["side"])

    look()
    assert np.mean(uncrossed) > 0.05
