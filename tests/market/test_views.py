"""What generators look up in books, against slow twins that go through the resting orders one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_book import ASK, BID, SlowBook
from strategies import CENTERS, Market, book_states, draft_lists, long_markets, matching_rules, sessions, stream

from marsbench.market.clearing_house import ClearingHouse
from marsbench.market.orders import MARKET, NO_PRICE

CONTINUOUS_ONLY = matching_rules(phases=sessions(auctions=False), breakers=0)
OFFSETS = st.integers(-12, 12)
AGENTS = (1, 2)


@st.composite
def full_markets(draw: st.DrawFn) -> Market:
    """Books of up to forty orders of several owners, and a short stream."""
    rules, center = draw(CONTINUOUS_ONLY), draw(st.sampled_from(CENTERS))
    state = draw(book_states(center, crossed=False, max_size=40))
    return Market(rules, state, stream(rules, state, draw(draft_lists(20)), center))


def played(market: Market) -> tuple[ClearingHouse, SlowBook, int]:
    """The book after a stream in both forms, and a price in the middle of what rests."""
    rules, state, orders = market
    house, slow = ClearingHouse(rules, 3), SlowBook(rules, state)
    house.load(1, state)
    house.submit(np.ones(len(orders), np.int64), orders)
    for index, message in enumerate(orders.tolist()):
        slow.advance(message[0], index)
        slow.submit(message, index)
    prices = [p for side in slow.sides.values() for p in side.prices]
    return house, slow, sorted(prices)[len(prices) // 2] if prices else 1000


def slow_nearest(book: SlowBook, side: int, price: int, low: int, high: int, owner: int) -> tuple[int, int]:
    """Price and newest size of the nearest level; of two equally near ones that nearer to the touch."""
    best_first = book.sides[side].best_first()
    there = [p for p in best_first if low <= p <= high and list(book._owned(side, p, owner))]
    if not there:
        return NO_PRICE, 0
    found = min(there, key=lambda p: (abs(p - price), best_first.index(p)))
    return found, [order.left for order in book._owned(side, found, owner)][-1]


def check_nearest(market: Market, questions: list[tuple[int, ...]], owner: int) -> None:
    house, slow, center = played(market)
    view = house.view(np.ones(len(questions), np.int64), np.zeros(len(questions), np.int64))
    side, price, one, other = (np.array(x) for x in zip(*questions, strict=True))
    low, high = np.minimum(one, other) + center, np.maximum(one, other) + center
    low = np.where(one == -12, -(1 << 40), low)  # no bound
    high = np.where(other == 12, 1 << 40, high)
    found = np.stack(view.nearest_owned(side, price + center, low, high, owner=owner), axis=1)
    for row, *question in zip(found.tolist(), side, price + center, low, high, strict=True):
        s, p, bottom, top = map(int, question)
        assert tuple(row) == slow_nearest(slow, s, p, bottom, top, owner)


QUESTIONS = st.lists(st.tuples(st.sampled_from([ASK, BID]), OFFSETS, OFFSETS, OFFSETS), min_size=1, max_size=8)


@settings(max_examples=200)
@given(full_markets(), QUESTIONS, st.sampled_from([MARKET, *AGENTS]))
def test_the_nearest_level_of_an_owner_is_that_of_the_slow_twin(
    market: Market, questions: list[tuple[int, ...]], owner: int
) -> None:
    check_nearest(market, questions, owner)


@settings(max_examples=30)
@given(long_markets(max_messages=1000), QUESTIONS, st.sampled_from([MARKET, *AGENTS]))
def test_the_nearest_level_of_an_owner_is_that_of_the_slow_twin_with_many_levels(
    market: Market, questions: list[tuple[int, ...]], owner: int
) -> None:
    check_nearest(market, questions, owner)


def test_the_random_markets_have_near_levels_that_belong_to_somebody_else() -> None:
    passed_over, bounded = [], []

    @settings(max_examples=100, database=None)
    @given(full_markets(), st.sampled_from([ASK, BID]))
    def look(market: Market, side: int) -> None:
        _, slow, center = played(market)
        whole = [slow_nearest(slow, side, center, -(1 << 40), 1 << 40, owner)[0] for owner in (MARKET, *AGENTS)]
        passed_over.append(len(set(whole) - {NO_PRICE}) > 1)
        beside = [(whole[0] + 1, whole[0] + 6), (whole[0] - 6, whole[0] - 1)]
        bounded.append(any(slow_nearest(slow, side, center, *ends, MARKET)[0] != NO_PRICE for ends in beside))

    look()
    assert np.mean(passed_over) > 0.1
    assert np.mean(bounded) > 0.1


@settings(max_examples=150)
@given(full_markets(), st.lists(st.integers(-3, 20), min_size=2, max_size=6), OFFSETS, OFFSETS)
def test_the_markets_volume_by_distance_is_that_of_the_slow_twin(
    market: Market, edges: list[int], ask: int, bid: int
) -> None:
    house, slow, center = played(market)
    anchors, edges = np.array([center + ask, center + bid]), sorted(edges)
    view, bounds = house.view(np.array([1]), np.array([0])), np.array([edges], np.int64)
    total = view.volume_by_distance(anchors[None], bounds)[0]
    shifted = np.stack([bounds, bounds + 2], axis=1)
    apart = view.volume_by_distance(anchors[None], shifted)[0]
    moved = view.volume_by_distance(anchors[None] + np.array([2, -2]), bounds)[0]
    assert apart.tolist() == [total[ASK].tolist(), moved[BID].tolist()]
    for side, sign in ((ASK, 1), (BID, -1)):
        for at, (low, high) in enumerate(pairwise(edges)):
            inside = [p for p in slow.sides[side].prices if low <= sign * (p - anchors[side]) < high]
            levels = [sum(o.left for o in slow._owned(side, p, MARKET)) for p in inside]
            assert total[side, at] == sum(levels)


@settings(max_examples=150)
@given(full_markets(), OFFSETS, OFFSETS, st.integers(-2, 12), st.sampled_from([MARKET, *AGENTS]))
def test_every_order_in_a_range_of_prices_is_as_likely_as_another(
    market: Market, ask: int, bid: int, width: int, owner: int
) -> None:
    house, slow, center = played(market)
    low = np.array([ask, bid]) + center
    high = low + width  # an empty range below 0
    orders = [
        (price, order.left, order.order_id)
        for side in (ASK, BID)
        for price in slow.sides[side].best_first()
        if low[side] <= price <= high[side]
        for order in slow._owned(side, price, owner)
    ]
    n = max(len(orders), 1)
    uniforms = (np.arange(n) + 0.5) / n
    view = house.view(np.ones(n, np.int64), np.zeros(n, np.int64))
    found = np.stack(view.any_owned(np.tile(low, (n, 1)), np.tile(high, (n, 1)), uniforms, owner=owner), axis=1)
    assert list(map(tuple, found.tolist())) == (orders or [(NO_PRICE, 0, 0)])
