"""The matching rules by hand-made cases with known answers, for the compiled book and for its slow twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as with_fields
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from slow_book import slow_replay

from marsbench.market.orders import AUCTION, NO_PRICE, ORDER, Flag, Kind, Reason, orders
from marsbench.market.replay import replay
from marsbench.market.rules import (
    CONTINUOUS,
    NASDAQ,
    SSE_A_SHARE,
    SZSE_A_SHARE,
    CircuitBreaker,
    MatchingRules,
    Phase,
    PhaseKind,
    SelfTrade,
    Tie,
    clock,
)
from marsbench.market.trajectory import BookState

Engine = Callable[..., Any]

# A short day in nanoseconds: auction [0, 100), no cancels from 60; continuous [100, 200) and, after
# lunch, [250, 350); closing auction [350, 400).
DAY = MatchingRules(
    name="DAY",
    phases=(
        Phase(0, 100, PhaseKind.AUCTION, no_cancel_from_ns=60),
        Phase(100, 200, PhaseKind.CONTINUOUS),
        Phase(250, 350, PhaseKind.CONTINUOUS),
        Phase(350, 400, PhaseKind.AUCTION),
    ),
)
SHENZHEN_DAY = with_fields(DAY, tie=Tie.NEAREST_REFERENCE)


@pytest.fixture(params=[slow_replay, replay], ids=["slow", "compiled"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.param


# A small language for cases -------------------------------------------------------------------


def ask(price: int, size: int = 100, *, t: int = 0, id: int = 0, owner: int = 0, flags: int = 0) -> NDArray:
    return orders(t, kind=Kind.ASK, price_ticks=price, size_shares=size, order_id=id, owner=owner, flags=flags)


def bid(price: int, size: int = 100, *, t: int = 0, id: int = 0, owner: int = 0, flags: int = 0) -> NDArray:
    return orders(t, kind=Kind.BID, price_ticks=price, size_shares=size, order_id=id, owner=owner, flags=flags)


def cancel(id: int, size: int = 0, *, t: int = 0, owner: int = 0, flags: int = 0) -> NDArray:
    return orders(t, kind=Kind.CANCEL, size_shares=size, order_id=id, owner=owner, flags=flags)


def cancel_level(price: int, size: int, *, t: int = 0, owner: int = 0) -> NDArray:
    return orders(t, kind=Kind.CANCEL, price_ticks=price, size_shares=size, owner=owner, flags=Flag.BY_LEVEL)


def run(
    engine: Engine, rules: MatchingRules, *messages: NDArray, reference: int = 0, last: int = 0, **options: Any
) -> Any:
    """Messages on an empty book; ids are given from 1 in the order of acceptance."""
    state = BookState(reference_ticks=reference, last_trade_ticks=last)
    return engine(rules, state, np.concatenate([np.zeros(0, ORDER), *messages]), **options)


def reasons(result: Any) -> list[Reason]:
    return [Reason(int(reason)) for reason in result.reason]


def fills(result: Any) -> list[tuple[int, int, int, int]]:
    """``(bid id, ask id, price, size)`` of each fill."""
    return [tuple(int(fill[n]) for n in ("bid_id", "ask_id", "price_ticks", "size_shares")) for fill in result.fills]


def resting(result: Any, kind: Kind | None = None) -> list[tuple[int, int, int]]:
    """``(id, price, size)`` of each live order, asks first, best first, oldest first."""
    rows = result.final.resting
    rows = rows if kind is None else rows[rows["kind"] == kind]
    return [tuple(int(row[n]) for n in ("order_id", "price_ticks", "size_shares")) for row in rows]


OK = Reason.OK


# Price-time priority --------------------------------------------------------------------------


def test_an_order_that_does_not_cross_rests(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(101), bid(100))
    assert fills(result) == []
    assert resting(result) == [(1, 101, 100), (2, 100, 100)]


def test_an_order_at_the_opposite_price_trades(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, t=1), bid(100, t=2))
    assert result.fills.tolist() == [(2, 2, 1, 1, 100, 100, 0, 0, Kind.BID)]
    assert result.traded_shares.tolist() == [0, 100]
    assert resting(result) == []


def test_trades_happen_at_the_resting_price(engine: Engine) -> None:
    assert fills(run(engine, CONTINUOUS, bid(105), ask(95))) == [(1, 2, 105, 100)]


def test_the_oldest_order_at_a_price_trades_first(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, 10), ask(100, 20), ask(100, 30), bid(100, 25))
    assert fills(result) == [(4, 1, 100, 10), (4, 2, 100, 15)]
    assert resting(result) == [(2, 100, 5), (3, 100, 30)]


def test_the_best_price_trades_before_the_oldest_order(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, bid(99, 10), bid(100, 10), ask(99, 15))
    assert fills(result) == [(2, 3, 100, 10), (1, 3, 99, 5)]


def test_an_aggressive_order_sweeps_levels_and_its_rest_rests(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(101, 10), ask(102, 10), ask(104, 10), bid(103, 50))
    assert fills(result) == [(4, 1, 101, 10), (4, 2, 102, 10)]
    assert result.traded_shares.tolist() == [0, 0, 0, 20]
    assert resting(result) == [(3, 104, 10), (4, 103, 30)]


def test_immediate_or_cancel_trades_what_it_can_and_does_not_rest(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(101, 10), bid(101, 50, flags=Flag.IOC), bid(90, flags=Flag.IOC))
    assert reasons(result) == [OK, OK, OK]
    assert result.traded_shares.tolist() == [0, 10, 0]
    assert resting(result) == []


def test_the_market_trades_with_itself(engine: Engine) -> None:
    rules = with_fields(CONTINUOUS, self_trade=SelfTrade.CANCEL_INCOMING)
    assert fills(run(engine, rules, ask(100), bid(100))) == [(2, 1, 100, 100)]


def test_fills_name_the_owners(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, owner=3), bid(100, owner=7))
    assert result.fills[["bid_owner", "ask_owner"]].tolist() == [(7, 3)]


def test_far_prices_are_ordinary_prices(engine: Engine) -> None:
    top, bottom = 2**31 - 1, -(2**31) + 1
    result = run(engine, CONTINUOUS, ask(top, 1), bid(bottom, 1), ask(5, 1), bid(-5, 1), bid(top, 3), levels=2)
    assert fills(result) == [(5, 3, 5, 1), (5, 1, top, 1)]
    assert resting(result) == [(5, top, 1), (4, -5, 1), (2, bottom, 1)]
    assert result.snapshots.price_ticks[4].tolist() == [[5, top], [-5, bottom]]


def test_a_level_may_hold_more_shares_than_one_order_can(engine: Engine) -> None:
    largest = 2**31 - 1
    result = run(engine, CONTINUOUS, ask(100, largest), ask(100, largest), levels=1)
    assert result.snapshots.size_shares[2].tolist() == [[2 * largest], [0]]


# Cancel and replace ---------------------------------------------------------------------------


def test_a_cancel_without_a_size_takes_all(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100), cancel(1))
    assert reasons(result) == [OK, OK]
    assert resting(result) == []


def test_a_cancel_of_more_than_is_left_takes_all(engine: Engine) -> None:
    assert resting(run(engine, CONTINUOUS, ask(100), cancel(1, 101))) == []


def test_a_partial_cancel_keeps_the_place_in_the_queue(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, 10), ask(100, 10), cancel(1, 4), bid(100, 8))
    assert fills(result) == [(3, 1, 100, 6), (3, 2, 100, 2)]


def test_a_replace_loses_its_place_even_at_the_same_price(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, 10), ask(100, 10), ask(100, 10, id=1, flags=Flag.REPLACE), bid(100, 8))
    assert fills(result) == [(3, 2, 100, 8)]
    assert resting(result) == [(2, 100, 2), (1, 100, 10)]


def test_a_replace_keeps_its_id_and_may_trade_at_once(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(105, 10), bid(100, 10), bid(105, 4, id=2, flags=Flag.REPLACE))
    assert result.order_id.tolist() == [1, 2, 2]
    assert fills(result) == [(2, 1, 105, 4)]
    assert resting(result) == [(1, 105, 6)]


def test_a_replace_does_not_trade_with_the_order_it_replaces(engine: Engine) -> None:
    rules = with_fields(CONTINUOUS, self_trade=SelfTrade.CANCEL_INCOMING)
    result = run(engine, rules, bid(100, 10, owner=1), bid(101, 10, id=1, owner=1, flags=Flag.REPLACE))
    assert resting(result) == [(1, 101, 10)]


def test_a_replace_that_fails_changes_nothing(engine: Engine) -> None:
    rules = with_fields(CONTINUOUS, lot_shares=10)
    result = run(engine, rules, ask(100, 10), ask(101, 5, id=1, flags=Flag.REPLACE))
    assert reasons(result) == [OK, Reason.OFF_LOT]
    assert resting(result) == [(1, 100, 10)]


def test_cancel_by_level_takes_the_newest_first(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, 10), ask(100, 10), ask(100, 10), cancel_level(100, 15))
    assert resting(result) == [(1, 100, 10), (2, 100, 5)]


def test_cancel_by_level_takes_at_most_what_is_there(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, 10), ask(101, 10), cancel_level(100, 1000))
    assert reasons(result) == [OK, OK, OK]
    assert resting(result) == [(2, 101, 10)]


def test_cancel_by_level_never_takes_an_agents_order(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, 10), ask(100, 10, owner=1), cancel_level(100, 15))
    assert resting(result) == [(2, 100, 10)]


def test_an_agents_cancel_by_level_never_takes_the_markets_orders(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, 10, owner=1), ask(100, 10), cancel_level(100, 15, owner=1))
    assert resting(result) == [(2, 100, 10)]


def test_cancel_by_level_prefers_the_bid_side_of_a_crossed_auction_book(engine: Engine) -> None:
    result = run(engine, DAY, ask(100, 10), bid(100, 10), cancel_level(100, 15))
    assert resting(result) == [(1, 100, 10)]


def test_cancel_by_level_takes_the_ask_side_where_the_sender_has_no_bid(engine: Engine) -> None:
    result = run(engine, DAY, ask(100, 10, owner=1), bid(100, 10), cancel_level(100, 15, owner=1))
    assert resting(result) == [(2, 100, 10)]


# Order ids ------------------------------------------------------------------------------------


def test_new_orders_get_the_next_free_id(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100), ask(100, id=7), ask(100), ask(100, id=3), ask(100))
    assert result.order_id.tolist() == [1, 7, 8, 3, 9]
    assert result.final.next_id == 10


def test_rejected_messages_use_up_no_id(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, 0), ask(100, -1, id=50), ask(100))
    assert result.order_id.tolist() == [0, 50, 1]


def test_given_ids_step_past_those_of_the_starting_book(engine: Engine) -> None:
    state = BookState(resting=orders(kind=Kind.ASK, price_ticks=100, size_shares=5, order_id=40), next_id=1)
    assert engine(CONTINUOUS, state, bid(90)).order_id.tolist() == [41]


def test_the_id_of_a_dead_order_may_be_used_again(engine: Engine) -> None:
    assert reasons(run(engine, CONTINUOUS, ask(100, id=5), cancel(5), bid(90, id=5))) == [OK, OK, OK]


# Rejections, in the order in which they are checked ---------------------------------------------


def test_unknown_kinds_and_foreign_flags_are_rejected_as_bad_kind(engine: Engine) -> None:
    unknown = orders(kind=3, price_ticks=100, size_shares=1)
    result = run(
        engine,
        CONTINUOUS,
        unknown,
        ask(100, flags=Flag.BY_LEVEL),
        cancel(1, flags=Flag.IOC),
        cancel(1, flags=Flag.REPLACE),
        bid(100, flags=16),
        bid(100, flags=Flag.SEEDED),
    )
    assert reasons(result) == [Reason.BAD_KIND] * 5 + [OK]


def test_time_does_not_run_backwards(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, t=10), ask(100, t=9), ask(100, t=10))
    assert reasons(result) == [OK, Reason.TIME_BACKWARDS, OK]
    assert result.final.time_ns == 10


def test_a_time_that_is_past_is_backwards_rather_than_closed(engine: Engine) -> None:
    result = run(engine, DAY, bid(100, t=220), bid(100, t=210), bid(100, t=260), bid(100, t=220))
    assert reasons(result) == [Reason.CLOSED, Reason.TIME_BACKWARDS, OK, Reason.TIME_BACKWARDS]


def test_a_rejected_message_sets_the_clock_too(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, 0, t=10), ask(100, t=9))
    assert reasons(result) == [Reason.BAD_SIZE, Reason.TIME_BACKWARDS]


def test_messages_earlier_than_the_starting_book_are_rejected(engine: Engine) -> None:
    assert reasons(engine(CONTINUOUS, BookState(time_ns=50), bid(100, t=49))) == [Reason.TIME_BACKWARDS]


def test_no_session_means_closed(engine: Engine) -> None:
    rules = with_fields(DAY, phases=DAY.phases[1:])
    result = run(engine, rules, *(bid(1, t=t) for t in (99, 100, 199, 200, 249, 250, 399, 400)))
    assert reasons(result) == [Reason.CLOSED, OK, OK, Reason.CLOSED, Reason.CLOSED, OK, OK, Reason.CLOSED]


def test_sizes_must_be_positive(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, 0), bid(100, -1), ask(100), cancel(1, -1), cancel_level(100, 0))
    assert reasons(result) == [Reason.BAD_SIZE, Reason.BAD_SIZE, OK, Reason.BAD_SIZE, Reason.BAD_SIZE]


@pytest.mark.parametrize(("odd_lot_asks", "answer"), [(False, Reason.OFF_LOT), (True, OK)])
def test_odd_lots_may_be_sold_where_the_rules_say_so_but_never_bought(
    engine: Engine, odd_lot_asks: bool, answer: Reason
) -> None:
    rules = with_fields(CONTINUOUS, lot_shares=100, odd_lot_asks=odd_lot_asks)
    result = run(engine, rules, ask(100, 150), bid(99, 150), ask(100, 200), bid(99, 200))
    assert reasons(result) == [answer, Reason.OFF_LOT, OK, OK]


def test_cancels_may_be_odd_lots(engine: Engine) -> None:
    rules = with_fields(CONTINUOUS, lot_shares=100)
    result = run(engine, rules, ask(100, 200), cancel(1, 30), cancel_level(100, 30))
    assert reasons(result) == [OK, OK, OK]
    assert resting(result) == [(1, 100, 140)]


def test_prices_lie_on_the_price_step(engine: Engine) -> None:
    rules = with_fields(CONTINUOUS, price_step_ticks=5)
    result = run(engine, rules, ask(100), ask(101), bid(-5), bid(-4))
    assert reasons(result) == [OK, Reason.OFF_TICK, OK, Reason.OFF_TICK]


def test_prices_outside_the_limits_are_rejected(engine: Engine) -> None:
    rules = with_fields(CONTINUOUS, price_limit=0.1)
    result = run(engine, rules, *(bid(p, t=p) for p in (899, 900, 1100, 1101)), reference=1000)
    assert reasons(result) == [Reason.PRICE_LIMIT, OK, OK, Reason.PRICE_LIMIT]


def test_there_is_no_limit_without_a_reference_price(engine: Engine) -> None:
    assert reasons(run(engine, with_fields(CONTINUOUS, price_limit=0.1), bid(10**9))) == [OK]


def test_the_number_that_stands_for_no_price_is_never_a_price(engine: Engine) -> None:
    assert reasons(run(engine, CONTINUOUS, bid(NO_PRICE), bid(NO_PRICE + 1))) == [Reason.PRICE_LIMIT, OK]


def test_immediate_or_cancel_is_refused_in_a_call_auction(engine: Engine) -> None:
    assert reasons(run(engine, DAY, bid(100, flags=Flag.IOC))) == [Reason.NOT_CONTINUOUS]


def test_nothing_is_cancelled_or_replaced_inside_a_no_cancel_window(engine: Engine) -> None:
    replacing = ask(101, t=60, id=1, flags=Flag.REPLACE)
    result = run(
        engine,
        DAY,
        ask(100),
        cancel(1, 1, t=59),
        cancel(1, t=60),
        replacing,
        cancel_level(100, 1, t=99),
        cancel(1, t=100),
    )
    assert reasons(result) == [OK, OK, Reason.NO_CANCEL, Reason.NO_CANCEL, Reason.NO_CANCEL, OK]


def test_a_live_id_cannot_be_used_twice(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, id=5), bid(90, id=5))
    assert reasons(result) == [OK, Reason.DUPLICATE_ID]


def test_cancelling_or_replacing_a_dead_or_unheard_of_order_is_rejected(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100), bid(100), cancel(1), cancel(99), bid(90, id=2, flags=Flag.REPLACE))
    assert reasons(result) == [OK, OK] + [Reason.UNKNOWN_ORDER] * 3


def test_only_the_owner_may_cancel_or_replace(engine: Engine) -> None:
    result = run(
        engine,
        CONTINUOUS,
        ask(100, owner=1),
        cancel(1),
        cancel(1, owner=2),
        ask(101, id=1, flags=Flag.REPLACE),
        cancel(1, owner=1),
    )
    assert reasons(result) == [OK, Reason.NOT_OWNER, Reason.NOT_OWNER, Reason.NOT_OWNER, OK]


def test_a_replace_cannot_change_the_side(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100), bid(90, id=1, flags=Flag.REPLACE))
    assert reasons(result) == [OK, Reason.WRONG_SIDE]
    assert resting(result) == [(1, 100, 100)]


def test_cancel_by_level_where_the_sender_owns_nothing_is_rejected(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, owner=1), cancel_level(100, 5), cancel_level(99, 5, owner=1))
    assert reasons(result) == [OK, Reason.EMPTY_LEVEL, Reason.EMPTY_LEVEL]


def test_the_first_reason_in_the_order_of_the_enumeration_is_given(engine: Engine) -> None:
    rules = with_fields(DAY, phases=DAY.phases[:1], lot_shares=100, price_step_ticks=10, price_limit=0.1)
    wrong = {"t": 60, "id": 1, "owner": 1}
    both = Flag.IOC | Flag.REPLACE
    result = run(
        engine,
        rules,
        ask(1000, 100, t=60),
        bid(1205, -5, **{**wrong, "t": 59}, flags=both | Flag.BY_LEVEL),
        bid(1205, -5, **{**wrong, "t": 59}, flags=both),
        bid(1205, -5, **wrong, flags=both),
        bid(1205, 5, **wrong, flags=both),
        bid(1205, 100, **wrong, flags=both),
        bid(1200, 100, **wrong, flags=both),
        bid(1000, 100, **wrong, flags=both),
        bid(1000, 100, **wrong, flags=Flag.REPLACE),
        bid(1205, -5, **{**wrong, "t": 100}, flags=both),
        reference=1000,
    )
    assert reasons(result) == [
        OK,
        Reason.BAD_KIND,
        Reason.TIME_BACKWARDS,
        Reason.BAD_SIZE,
        Reason.OFF_LOT,
        Reason.OFF_TICK,
        Reason.PRICE_LIMIT,
        Reason.NOT_CONTINUOUS,
        Reason.NO_CANCEL,
        Reason.CLOSED,
    ]


# Sessions -------------------------------------------------------------------------------------


def test_orders_rest_through_lunch(engine: Engine) -> None:
    result = run(engine, DAY, ask(100, t=199), bid(100, t=200), bid(100, t=250))
    assert reasons(result) == [OK, Reason.CLOSED, OK]
    assert fills(result) == [(2, 1, 100, 100)]


def test_orders_of_an_auction_do_not_trade_before_its_end(engine: Engine) -> None:
    result = run(engine, DAY, ask(100), bid(101), end_ns=99, levels=1)
    assert fills(result) == []
    assert result.snapshots.price_ticks[-1].tolist() == [[100], [101]]


def test_an_auction_uncrosses_at_its_end_before_the_next_message(engine: Engine) -> None:
    result = run(engine, DAY, ask(100, 50), bid(100, 80), ask(105, t=120), levels=1)
    assert result.fills.tolist() == [(100, 2, 1, 2, 100, 50, 0, 0, AUCTION)]
    assert result.traded_shares.tolist() == [0, 0, 0]
    assert result.final.last_trade_ticks == 100
    # The book right before message 2 is uncrossed already.
    assert result.snapshots.price_ticks[2].tolist() == [[NO_PRICE], [100]]
    assert result.snapshots.size_shares[2].tolist() == [[0], [30]]


def test_a_closing_auction_uncrosses_when_the_end_is_asked_for(engine: Engine) -> None:
    before = run(engine, DAY, ask(100, t=360), bid(100, t=361))
    after = run(engine, DAY, ask(100, t=360), bid(100, t=361), end_ns=400)
    assert fills(before) == []
    assert after.fills.tolist() == [(400, 2, 1, 2, 100, 100, 0, 0, AUCTION)]


def test_what_is_left_of_an_auction_goes_on_into_continuous_trading(engine: Engine) -> None:
    result = run(engine, DAY, ask(100, 50), bid(102, 80), ask(101, 30, t=120))
    # 80 are bid at 102 and only 50 offered: a lower price would leave bids above it unfilled.
    assert fills(result) == [(2, 1, 102, 50), (2, 3, 102, 30)]
    assert result.final.last_trade_ticks == 102


def test_a_book_may_start_crossed_inside_an_auction(engine: Engine) -> None:
    resting_orders = orders(kind=[Kind.ASK, Kind.BID], price_ticks=[100, 100], size_shares=10, order_id=[1, 2])
    result = engine(DAY, BookState(resting=resting_orders, next_id=3, time_ns=50), np.zeros(0, ORDER), end_ns=100)
    assert fills(result) == [(2, 1, 100, 10)]


def test_a_book_taken_at_the_end_of_an_auction_is_not_uncrossed_again(engine: Engine) -> None:
    resting_orders = orders(kind=[Kind.ASK, Kind.BID], price_ticks=[100, 100], size_shares=10, order_id=[1, 2])
    result = engine(DAY, BookState(resting=resting_orders, next_id=3, time_ns=100), np.zeros(0, ORDER), end_ns=150)
    assert fills(result) == []


# Auction prices -------------------------------------------------------------------------------


def auction_price(engine: Engine, rules: MatchingRules, *messages: NDArray, **state: int) -> int:
    result = run(engine, rules, *messages, end_ns=100, **state)
    prices = set(result.fills["price_ticks"].tolist())
    assert len(prices) == 1
    return prices.pop()


def test_every_bid_above_an_auctions_price_and_every_ask_below_it_is_filled_entirely(engine: Engine) -> None:
    # 5 trade at 100, 101 or 102 with the same imbalance of 1, but at 100 and 101 a bid at 102 would stay unfilled.
    assert auction_price(engine, DAY, ask(100, 5), bid(102, 6)) == 102
    assert auction_price(engine, DAY, ask(100, 6), bid(102, 5)) == 100
    assert auction_price(engine, DAY, ask(100, 5), bid(102, 5)) == 101


def test_an_auction_takes_the_price_of_the_largest_volume(engine: Engine) -> None:
    # At 101: 70 bid, 60 offered. At 100: 100 bid, 30 offered. At 102: 40 bid, 60 offered.
    book = (bid(102, 40), bid(101, 30), bid(100, 30), ask(100, 30), ask(101, 30))
    result = run(engine, DAY, *book, end_ns=100)
    assert fills(result) == [(1, 4, 101, 30), (1, 5, 101, 10), (2, 5, 101, 20)]
    assert resting(result) == [(2, 101, 10), (3, 100, 30)]


def test_of_equal_volumes_an_auction_takes_the_smallest_imbalance(engine: Engine) -> None:
    # 50 trade at 100 (80 bid), at 101 (60 bid) and at 102 (50 bid); 102 leaves nothing over.
    book = (ask(100, 50), bid(102, 50), bid(101, 10), bid(100, 20))
    assert auction_price(engine, DAY, *book) == 102
    assert auction_price(engine, SHENZHEN_DAY, *book, reference=100) == 102


@pytest.mark.parametrize(
    ("prices", "middle"),
    [((100, 104), 102), ((100, 103), 102), ((100, 101), 101), ((-103, -100), -101), ((7, 7), 7)],
)
def test_shanghai_takes_the_middle_of_equally_good_prices_rounded_up(
    engine: Engine, prices: tuple[int, int], middle: int
) -> None:
    low, high = prices
    assert auction_price(engine, DAY, ask(low, 50), bid(high, 50), last=low, reference=high) == middle


@pytest.mark.parametrize(
    ("last", "reference", "price"),
    [
        (0, 99, 100),  # no trade yet: nearest to the reference price
        (0, 101, 100),
        (0, 103, 104),
        (0, 200, 104),
        (0, 102, 104),  # of two equally near, the higher
        (99, 104, 100),  # the last trade counts before the reference price
        (103, 100, 104),
    ],
)
def test_shenzhen_takes_the_price_nearest_to_the_last_trade_or_the_reference(
    engine: Engine, last: int, reference: int, price: int
) -> None:
    book = (ask(100, 50), bid(104, 50))
    assert auction_price(engine, SHENZHEN_DAY, *book, last=last, reference=reference) == price


def test_shenzhen_chooses_among_the_prices_of_live_orders(engine: Engine) -> None:
    # 101 would trade as much, but nobody named it: 100 and 105 are the prices to choose from.
    book = (ask(100, 50), bid(105, 50), ask(106, 5), bid(90, 5))
    assert auction_price(engine, SHENZHEN_DAY, *book, reference=101) == 100


def test_an_auction_without_a_cross_trades_nothing(engine: Engine) -> None:
    result = run(engine, DAY, ask(101), bid(100), end_ns=100)
    assert fills(result) == []
    assert resting(result) == [(1, 101, 100), (2, 100, 100)]


def test_auctions_fill_by_price_then_time(engine: Engine) -> None:
    result = run(engine, DAY, bid(100, 10), bid(101, 10), bid(101, 10), ask(100, 10), ask(99, 15), end_ns=100)
    # The price is 100: 30 bid there, 25 offered. Better prices go first, then the older order.
    assert fills(result) == [(2, 5, 100, 10), (3, 5, 100, 5), (3, 4, 100, 5), (1, 4, 100, 5)]
    assert resting(result) == [(1, 100, 5)]


def test_an_agent_may_trade_with_itself_in_an_auction(engine: Engine) -> None:
    rules = with_fields(DAY, self_trade=SelfTrade.CANCEL_INCOMING)
    assert fills(run(engine, rules, ask(100, owner=1), bid(100, owner=1), end_ns=100)) == [(2, 1, 100, 100)]


# Circuit breaker --------------------------------------------------------------------------------

HALTING = with_fields(
    CONTINUOUS,
    phases=(Phase(0, 1000, PhaseKind.CONTINUOUS), Phase(1100, 2000, PhaseKind.CONTINUOUS)),
    circuit_breakers=(CircuitBreaker(0.05, 100), CircuitBreaker(0.07, 0)),
)


def trade(price: int, t: int) -> tuple[NDArray, NDArray]:
    return ask(price, 10, t=t), bid(price, 10, t=t)


def halted(engine: Engine, *messages: NDArray, probe_t: int, rules: MatchingRules = HALTING) -> bool:
    """Whether an immediate-or-cancel order at a time is refused because trading is halted."""
    result = run(engine, rules, *messages, bid(1, 10, t=probe_t, flags=Flag.IOC), reference=1000)
    assert reasons(result)[-1] in (OK, Reason.NOT_CONTINUOUS)
    return reasons(result)[-1] == Reason.NOT_CONTINUOUS


@pytest.mark.parametrize(("price", "halts"), [(1049, False), (1050, True), (951, False), (950, True)])
def test_the_circuit_breaker_halts_when_a_trade_reaches_its_threshold(engine: Engine, price: int, halts: bool) -> None:
    assert halted(engine, *trade(price, t=10), probe_t=10) == halts


def test_a_halt_ends_after_its_time_and_trading_resumes(engine: Engine) -> None:
    assert halted(engine, *trade(1050, t=10), probe_t=109)
    assert not halted(engine, *trade(1050, t=10), probe_t=110)


def test_a_halt_is_an_auction_with_cancels_and_its_end_uncrosses(engine: Engine) -> None:
    result = run(
        engine,
        HALTING,
        *trade(1050, t=10),
        ask(1000, 30, t=20),
        bid(1002, 20, t=30),
        cancel(3, 5, t=40),
        ask(1000, 1, t=200),
        reference=1000,
        levels=1,
    )
    assert reasons(result) == [OK] * 6
    assert result.snapshots.price_ticks[4].tolist() == [[1000], [1002]]
    # 20 trade; 25 are offered at 1000, and a higher price would leave asks below it unfilled.
    assert result.fills[1].tolist() == (110, 4, 3, 5, 1000, 20, 0, 0, AUCTION)
    assert resting(result) == [(3, 1000, 5), (5, 1000, 1)]


def test_cancels_are_allowed_in_a_halt_even_inside_a_no_cancel_window(engine: Engine) -> None:
    phase = Phase(0, 1000, PhaseKind.CONTINUOUS, no_cancel_from_ns=500)
    rules = with_fields(HALTING, phases=(phase,))
    result = run(
        engine, rules, ask(1060, t=1), cancel(1, 1, t=600), *trade(1050, t=700), cancel(1, 1, t=700), reference=1000
    )
    assert reasons(result) == [OK, Reason.NO_CANCEL, OK, OK, OK]


def test_orders_rest_whole_after_the_message_that_halts(engine: Engine) -> None:
    # The message that triggers the halt finishes its sweep first.
    result = run(engine, HALTING, ask(1050, 10, t=1), ask(1051, 10, t=1), bid(1052, 30, t=2), reference=1000)
    assert fills(result) == [(3, 1, 1050, 10), (3, 2, 1051, 10)]
    assert resting(result) == [(3, 1052, 10)]


def test_a_level_fires_once_a_day(engine: Engine) -> None:
    first, second = trade(1050, t=10), trade(1051, t=300)
    assert not halted(engine, *first, *second, probe_t=300)


def test_a_higher_level_uses_up_those_before_it(engine: Engine) -> None:
    first = trade(1080, t=10)
    assert halted(engine, *first, probe_t=999)
    assert not halted(engine, *first, *trade(1050, t=1200), probe_t=1200)
    assert not halted(engine, *first, *trade(1080, t=1200), probe_t=1200)


def test_a_halt_of_no_length_lasts_until_the_phase_ends(engine: Engine) -> None:
    crossing = (ask(1000, 10, t=900), bid(1000, 10, t=901))
    result = run(engine, HALTING, *trade(1070, t=10), *crossing, bid(1, t=1100, flags=Flag.IOC), reference=1000)
    assert reasons(result)[-1] == OK
    assert result.fills[1]["time_ns"] == 1000
    assert result.fills[1]["side"] == AUCTION


def test_a_halt_never_outlasts_its_phase(engine: Engine) -> None:
    result = run(engine, HALTING, *trade(1050, t=950), ask(9, t=960), bid(9, t=970), end_ns=1000, reference=1000)
    assert result.fills[1]["time_ns"] == 1000


def test_the_circuit_breaker_needs_a_reference_price(engine: Engine) -> None:
    result = run(engine, HALTING, *trade(1050, t=10), bid(1, t=10, flags=Flag.IOC))
    assert reasons(result)[-1] == OK


def test_auction_trades_do_not_trip_the_circuit_breaker(engine: Engine) -> None:
    rules = with_fields(DAY, circuit_breakers=(CircuitBreaker(0.05, 0),))
    result = run(engine, rules, ask(1100), bid(1100), bid(1, t=150, flags=Flag.IOC), reference=1000)
    assert reasons(result)[-1] == OK


# Self-trade rule --------------------------------------------------------------------------------


def self_trading(engine: Engine, rule: SelfTrade) -> Any:
    rules = with_fields(CONTINUOUS, self_trade=rule)
    return run(
        engine, rules, ask(100, 10), ask(101, 10, owner=1), ask(101, 10, owner=2), bid(101, 30, owner=1), bid(99, 1)
    )


def test_self_trades_happen_where_they_are_allowed(engine: Engine) -> None:
    result = self_trading(engine, SelfTrade.ALLOW)
    assert fills(result) == [(4, 1, 100, 10), (4, 2, 101, 10), (4, 3, 101, 10)]


def test_cancel_resting_removes_the_agents_own_order_and_goes_on(engine: Engine) -> None:
    result = self_trading(engine, SelfTrade.CANCEL_RESTING)
    assert fills(result) == [(4, 1, 100, 10), (4, 3, 101, 10)]
    assert resting(result) == [(4, 101, 10), (5, 99, 1)]


def test_cancel_incoming_drops_the_rest_of_the_agents_new_order(engine: Engine) -> None:
    result = self_trading(engine, SelfTrade.CANCEL_INCOMING)
    assert reasons(result) == [OK] * 5
    assert fills(result) == [(4, 1, 100, 10)]
    assert resting(result) == [(2, 101, 10), (3, 101, 10), (5, 99, 1)]


# Presets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "low", "high"),
    [
        (179_500, 161_550, 197_450),  # 1795.00 -> 1615.50 .. 1974.50
        (1005, 905, 1106),  # 10.05 -> 9.045 .. 11.055: halves are rounded up
        (1004, 904, 1104),  # 10.04 -> 9.036 .. 11.044
        (1006, 905, 1107),  # 10.06 -> 9.054 .. 11.066
    ],
)
@pytest.mark.parametrize("rules", [SSE_A_SHARE, SZSE_A_SHARE], ids=lambda rules: rules.name)
def test_chinese_limits_are_ten_per_cent_rounded_half_up(
    engine: Engine, rules: MatchingRules, reference: int, low: int, high: int
) -> None:
    assert rules.limits_ticks(reference) == (low, high)
    t = clock("09:30")
    result = run(engine, rules, *(ask(p, t=t) for p in (low - 1, low, high, high + 1)), reference=reference)
    assert reasons(result) == [Reason.PRICE_LIMIT, OK, OK, Reason.PRICE_LIMIT]


@pytest.mark.parametrize("rules", [SSE_A_SHARE, SZSE_A_SHARE], ids=lambda rules: rules.name)
@pytest.mark.parametrize(
    ("time", "new", "immediate", "cancelled"),
    [
        ("09:14:59", Reason.CLOSED, Reason.CLOSED, Reason.CLOSED),
        ("09:15", OK, Reason.NOT_CONTINUOUS, OK),
        ("09:19:59", OK, Reason.NOT_CONTINUOUS, OK),
        ("09:20", OK, Reason.NOT_CONTINUOUS, Reason.NO_CANCEL),
        ("09:25", Reason.CLOSED, Reason.CLOSED, Reason.CLOSED),
        ("09:30", OK, OK, OK),
        ("11:29:59", OK, OK, OK),
        ("11:30", Reason.CLOSED, Reason.CLOSED, Reason.CLOSED),
        ("12:59:59", Reason.CLOSED, Reason.CLOSED, Reason.CLOSED),
        ("13:00", OK, OK, OK),
        ("14:56:59", OK, OK, OK),
        ("14:57", OK, Reason.NOT_CONTINUOUS, Reason.NO_CANCEL),
        ("14:59:59", OK, Reason.NOT_CONTINUOUS, Reason.NO_CANCEL),
        ("15:00", Reason.CLOSED, Reason.CLOSED, Reason.CLOSED),
    ],
)
def test_the_chinese_trading_day_has_these_phases(
    engine: Engine, rules: MatchingRules, time: str, new: Reason, immediate: Reason, cancelled: Reason
) -> None:
    t = clock(time)
    state = BookState(resting=orders(kind=Kind.ASK, price_ticks=1000, size_shares=100, order_id=1), next_id=2)
    messages = np.concatenate([bid(990, t=t), bid(990, t=t, flags=Flag.IOC), cancel(1, t=t)])
    assert reasons(engine(rules, state, messages)) == [new, immediate, cancelled]


@pytest.mark.parametrize("rules", [SSE_A_SHARE, SZSE_A_SHARE], ids=lambda rules: rules.name)
def test_chinese_lots_are_a_hundred_shares_and_odd_lots_can_only_be_sold(engine: Engine, rules: MatchingRules) -> None:
    t = clock("10:00")
    result = run(engine, rules, bid(990, 100, t=t), bid(990, 150, t=t), ask(1000, 150, t=t), ask(1000, 1, t=t))
    assert reasons(result) == [OK, Reason.OFF_LOT, OK, OK]


@pytest.mark.parametrize(("rules", "price"), [(SSE_A_SHARE, 1003), (SZSE_A_SHARE, 1001)], ids=["SSE", "SZSE"])
def test_the_two_chinese_exchanges_open_the_same_book_at_different_prices(
    engine: Engine, rules: MatchingRules, price: int
) -> None:
    t = clock("09:16")
    book = (ask(1001, 500, t=t), bid(1004, 500, t=t))
    result = run(engine, rules, *book, reference=1000, end_ns=clock("09:25"))
    assert fills(result) == [(2, 1, price, 500)]
    assert result.fills["time_ns"].tolist() == [clock("09:25")]


def test_nasdaq_trades_from_half_past_nine_to_four_without_lots_or_limits(engine: Engine) -> None:
    times = ("09:29:59", "09:30", "12:00", "15:59:59", "16:00")
    result = run(engine, NASDAQ, *(bid(10**9, 1, t=clock(time)) for time in times), reference=1000)
    assert reasons(result) == [Reason.CLOSED, OK, OK, OK, Reason.CLOSED]


def test_the_continuous_preset_trades_all_day(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, *(bid(1, 1, t=t) for t in (0, clock("12:00"), clock("24:00") - 1, clock("24:00"))))
    assert reasons(result) == [OK, OK, OK, Reason.CLOSED]


# Starting books, final books and snapshots ------------------------------------------------------


def test_the_final_book_lists_asks_then_bids_best_first_and_oldest_first(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, bid(98), ask(103), bid(99), ask(102), ask(103), bid(99, t=5), levels=3)
    assert resting(result) == [(4, 102, 100), (2, 103, 100), (5, 103, 100), (3, 99, 100), (6, 99, 100), (1, 98, 100)]
    assert result.final.time_ns == 5
    assert result.snapshots.price_ticks[-1].tolist() == [[102, 103, NO_PRICE], [99, 98, NO_PRICE]]
    assert result.snapshots.size_shares[-1].tolist() == [[100, 200, 0], [200, 100, 0]]


def test_snapshots_show_the_book_before_each_message_and_at_the_end(engine: Engine) -> None:
    result = run(engine, CONTINUOUS, ask(100, 10), bid(99, 10), bid(100, 4), levels=1)
    assert result.snapshots.size_shares[:, :, 0].tolist() == [[0, 0], [10, 0], [10, 10], [6, 10]]


def test_the_queue_of_a_starting_book_is_oldest_first(engine: Engine) -> None:
    rows = orders(kind=Kind.ASK, price_ticks=[101, 100, 100], size_shares=10, order_id=[3, 9, 4])
    result = engine(CONTINUOUS, BookState(resting=rows, next_id=10), bid(100, 15))
    assert fills(result) == [(10, 9, 100, 10), (10, 4, 100, 5)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (orders(kind=Kind.ASK, price_ticks=[100, 101], size_shares=10, order_id=5), "id"),
        (orders(kind=Kind.ASK, price_ticks=100, size_shares=0, order_id=5), "size"),
        (orders(kind=Kind.ASK, price_ticks=100, size_shares=-3, order_id=5), "size"),
        (orders(kind=Kind.CANCEL, price_ticks=100, size_shares=10, order_id=5), "kind"),
    ],
    ids=["an id twice", "size zero", "negative size", "not an order"],
)
def test_an_impossible_starting_book_is_an_error(engine: Engine, rows: NDArray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine(CONTINUOUS, BookState(resting=rows), np.zeros(0, ORDER))


# The rules themselves ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phases": ()}, "at least one phase"),
        ({"phases": (DAY.phases[1], DAY.phases[0])}, "ordered"),
        ({"phases": (Phase(5, 5, PhaseKind.AUCTION),)}, "ordered"),
        ({"lot_shares": 0}, "at least 1"),
        ({"price_step_ticks": 0}, "at least 1"),
        ({"price_limit": 1.0}, "price_limit"),
        ({"tick_size": "0"}, "tick_size"),
        ({"circuit_breakers": (CircuitBreaker(0.0, 1),)}, "threshold"),
        ({"circuit_breakers": (CircuitBreaker(0.07, 1), CircuitBreaker(0.05, 1))}, "ordered"),
    ],
)
def test_impossible_rules_are_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_fields(DAY, **changes)


def test_rules_survive_a_round_trip_through_plain_values() -> None:
    for rules in (SSE_A_SHARE, SZSE_A_SHARE, NASDAQ, CONTINUOUS, HALTING):
        assert MatchingRules.from_dict(rules.to_dict()) == rules


def test_lunch_is_no_trading_time() -> None:
    assert SSE_A_SHARE.trading_ns([clock("09:30"), clock("11:30"), clock("13:00"), clock("13:01")]).tolist() == [
        0,
        clock("02:00"),
        clock("02:00"),
        clock("02:01"),
    ]
    assert SSE_A_SHARE.clock_ns([0, clock("02:00"), clock("02:01")]).tolist() == [
        clock("09:30"),
        clock("11:30"),
        clock("13:01"),
    ]


@pytest.mark.parametrize("text", ["9", "25:00", "09:60", "09:00:60", "09:00:00:00"])
def test_times_of_day_that_do_not_exist_are_errors(text: str) -> None:
    with pytest.raises(ValueError, match="time of day"):
        clock(text)
