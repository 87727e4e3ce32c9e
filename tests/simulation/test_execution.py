"""Agents that work off a metaorder, on books where every order is known, and the overlay of recorded flow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from markets import known_generator, start_at, two_days
from marsbench.market.orders import FILL, ORDER, Flag, Kind, orders
from marsbench.market.replay import cut, replay
from marsbench.market.rules import MINUTE, SECOND, SSE_A_SHARE, clock
from marsbench.market.trajectory import BookState, Trajectory
from marsbench.simulation.contracts import Start
from marsbench.simulation.execution import BUY, SELL, Metaorder, Pov, Style, Sweep, Twap, price_advantage_bps, style_of
from marsbench.simulation.overlay import Overlay
from marsbench.simulation.rollout import simulate

TEN = clock("10:00")
RULES = SSE_A_SHARE.without_auctions()


def book(asks: dict[int, int], bids: dict[int, int]) -> BookState:
    """Resting lots (100 shares) by price."""
    kinds = [int(Kind.ASK)] * len(asks) + [int(Kind.BID)] * len(bids)
    both = {**asks, **bids}
    resting = orders(
        TEN - SECOND, kind=kinds, price_ticks=list(both), size_shares=[100 * v for v in both.values()],
        order_id=np.arange(1, len(both) + 1),
    )  # fmt: skip
    return BookState(resting, last_trade_ticks=1000, reference_ticks=1000, next_id=len(both) + 1, time_ns=TEN - SECOND)


def start_of(state: BookState) -> Start:
    nothing = Trajectory("X", "2024-01-02", RULES, TEN, TEN, state, np.zeros(0, ORDER), np.zeros(0, FILL))
    return Start("X", "2024-01-02", RULES, TEN, state, nothing, cluster="X")


def run(
    style: Style, shares: int, state: BookState, *later: tuple[float, Any], side: int = BUY, minutes: int = 6
) -> Trajectory:
    """The agent in a market that sends ``later`` (seconds after ten, order) whatever happens."""
    sent = np.concatenate([np.zeros(0, ORDER), *(order for _, order in later)])
    sent["time_ns"] = [TEN + round(s * SECOND) for s, order in later for _ in order]
    done = replay(RULES, state, sent)
    recorded = Trajectory("X", "2024-01-02", RULES, TEN, TEN + minutes * MINUTE, state, sent, done.fills)
    start = start_of(state)
    agents = [style.trades({(start.name, 0): Metaorder(side, shares)})]
    return simulate(Overlay({start.name: recorded}), [start], 1, minutes * MINUTE, key=0, agents=agents)[0][0]


def messages(t: Trajectory) -> list[tuple[float, str, int, int]]:
    """The agent's: seconds after ten, what, price (of a new order), lots."""
    own = t.orders[t.orders["owner"] == 1]
    names = {int(Kind.ASK): "sell", int(Kind.BID): "buy", int(Kind.CANCEL): "cancel"}
    return [
        ((o["time_ns"] - TEN) / SECOND, names[int(o["kind"])], int(o["price_ticks"]), int(o["size_shares"]) // 100)
        for o in own
    ]


def bought(t: Trajectory) -> list[tuple[int, int]]:
    """Its executions: price, lots."""
    own = t.fills[t.fills["bid_owner"] == 1]
    return [(int(f["price_ticks"]), int(f["size_shares"]) // 100) for f in own]


def test_a_slice_rests_at_the_bid_and_then_takes_what_it_is_behind() -> None:
    t = run(Twap(1, 0.1), 10_000, book({1001: 500}, {999: 50}))
    assert messages(t)[:3] == [(0, "buy", 999, 10), (25, "buy", 1001, 10), (55, "buy", 1001, 10)]
    assert bought(t)[:9] == [(1001, 10)] * 9
    assert sum(lots for _, lots in bought(t)) == 100


def test_passive_shares_are_cancelled_when_they_would_be_too_many() -> None:
    t = run(Twap(1, 0.1), 10_000, book({1001: 500}, {999: 50}))
    at_the_end = [m for m in messages(t) if m[0] > 265]
    assert at_the_end == [(295, "cancel", 0, 10), (295, "buy", 1001, 10)]
    assert t.fills["size_shares"][t.fills["bid_owner"] == 1].sum() == 10_000


def test_fills_of_the_resting_order_count_and_are_topped_up() -> None:
    sale = orders(kind=Kind.ASK, price_ticks=999, size_shares=5_500, flags=Flag.IOC)  # 50 lots before it, 5 of its 10
    t = run(Twap(1, 0.1), 10_000, book({1001: 500}, {999: 50}), (10.0, sale))
    assert messages(t)[:3] == [(0, "buy", 999, 10), (25, "buy", 1001, 5), (30, "buy", 999, 5)]
    assert bought(t)[:2] == [(999, 5), (1001, 5)]


def test_what_is_not_at_the_best_bid_is_cancelled_when_a_slice_begins() -> None:
    better = orders(kind=Kind.BID, price_ticks=1000, size_shares=300)
    t = run(Twap(1, 0.1), 10_000, book({1001: 500}, {999: 50}), (20.0, better))
    assert messages(t)[:4] == [(0, "buy", 999, 10), (25, "buy", 1001, 10), (30, "cancel", 0, 10), (30, "buy", 1000, 10)]


def test_the_rest_of_an_aggressive_order_rests_and_stays_while_it_is_the_best_bid() -> None:
    t = run(Twap(1, 0.0), 10_000, book({1001: 4, 1003: 500}, {999: 50}))
    assert messages(t)[0] == (25, "buy", 1001, 10)
    assert bought(t)[0] == (1001, 4)
    # six lots rest at 1001, now the best bid: nothing is cancelled at 30 s, and at 55 s it is 16 behind
    assert [m for m in messages(t) if m[0] == 30] == []
    assert [m for m in messages(t) if m[0] == 55] == [(55, "buy", 1003, 16)]


def test_the_aggressive_price_is_the_level_asked_for_or_the_last_there_is() -> None:
    deep, thin = book({1001: 3, 1002: 3, 1003: 500}, {999: 50}), book({1001: 500}, {999: 50})
    assert messages(run(Twap(2, 0.0), 10_000, deep))[0] == (25, "buy", 1002, 10)
    assert messages(run(Twap(5, 0.0), 10_000, deep))[0] == (25, "buy", 1003, 10)
    assert messages(run(Twap(5, 0.0), 10_000, thin))[0] == (25, "buy", 1001, 10)


def test_a_seller_is_the_mirror_image() -> None:
    t = run(Twap(1, 0.1), 10_000, book({1001: 50}, {999: 500}), side=SELL)
    assert messages(t)[:2] == [(0, "sell", 1001, 10), (25, "sell", 999, 10)]
    own = t.fills[t.fills["ask_owner"] == 1]
    assert own["size_shares"].sum() == 10_000
    assert set(own["price_ticks"].tolist()) == {999}


def test_an_empty_side_is_waited_for() -> None:
    no_bids = run(Twap(1, 0.5), 1_000, book({1001: 500}, {}))
    assert messages(no_bids)[0] == (25, "buy", 1001, 1)
    no_asks = run(Twap(1, 0.5), 1_000, book({}, {999: 50}))
    assert [m[1] for m in messages(no_asks)] == ["buy", "cancel"]  # the passive half, and at the end it is cancelled
    assert messages(no_asks)[-1] == (300, "cancel", 0, 5)


def test_the_schedule_of_the_public_code_wants_no_more_than_its_share_of_the_time() -> None:
    deep = book({1001: 20_000}, {999: 50})
    paper, public = (run(Twap(1, 0.0, expected=e), 1_000_000, deep) for e in ("slices", "elapsed"))  # type: ignore[arg-type]
    assert sum(lots for _, lots in bought(paper)) == 10_000
    assert sum(lots for _, lots in bought(public)) == int(np.ceil(10_000 * 295 / 300))


def test_small_metaorders_are_rounded_up_to_lots() -> None:
    t = run(Twap(1, 0.1), 300, book({1001: 500}, {999: 50}))
    assert messages(t)[:2] == [(0, "buy", 999, 1), (25, "buy", 1001, 1)]
    assert sum(lots for _, lots in bought(t)) == 3


def test_nobody_who_trades_nothing_sends_anything() -> None:
    assert messages(run(Twap(1, 0.9), 0, book({1001: 500}, {999: 50}))) == []


def test_in_the_end_nothing_of_it_rests() -> None:
    for style in (Twap(1, 0.9), Twap(0, 0.3), Twap(5, 0.1), Pov(0.2), Sweep()):
        t = run(style, 10_000, book({1001: 7, 1002: 9}, {999: 50}))
        final = replay(RULES, t.book, t.orders).final
        assert (final.resting["owner"] == 0).all(), style


def test_accounts_agree_with_the_record_in_a_busy_market() -> None:
    start = start_at(two_days()[1], "10:00")
    day = two_days()[1]
    recorded = cut(day, start.clock_ns, start.clock_ns + 6 * MINUTE)
    for style in (Twap(1, 0.1), Twap(5, 0.9), Pov(0.2), Sweep()):
        made: list[Any] = []
        factory = style.trades({(start.name, 0): Metaorder(BUY, 20_000)})

        def make(starts: Any, rollouts: int, f: Any = factory, made: list[Any] = made) -> Any:
            made.append(f.make(starts, rollouts))
            return made[0]

        t = simulate(
            Overlay({start.name: recorded}), [start], 2, 6 * MINUTE, key=0, agents=[replace(factory, make=make)]
        )[0][1]
        own = t.fills[t.fills["bid_owner"] == 1]
        agent = made[0]
        assert agent.executed[1] == own["size_shares"].sum() > 0
        assert agent.paid[1] == (own["size_shares"].astype(np.int64) * own["price_ticks"]).sum()
        assert agent.traded_by_others[1] == t.fills["size_shares"].sum() - own["size_shares"].sum()
        assert (agent.left == 0).all()
        assert agent.executed[1] <= 20_000


def test_a_share_of_the_volume_follows_what_others_trade() -> None:
    sale = orders(kind=Kind.ASK, price_ticks=999, size_shares=9_000, flags=Flag.IOC)
    t = run(Pov(0.1), 10_000, book({1001: 500}, {999: 500}), (7.0, sale))
    assert messages(t) == [(10, "buy", 1001, 10)]  # 9,000 by others are nine tenths of 10,000
    assert bought(t) == [(1001, 10)]


def test_a_sweep_takes_as_many_levels_as_it_needs_or_may() -> None:
    state = book({1001: 3, 1002: 3, 1010: 500}, {999: 50})
    assert bought(run(Sweep(), 1_000, state)) == [(1001, 3), (1002, 3), (1010, 4)]
    assert bought(run(Sweep(level=2), 1_000, state)) == [(1001, 3), (1002, 3)]


def test_price_advantage_is_positive_for_who_buys_cheaper_or_sells_dearer() -> None:
    assert price_advantage_bps(1, 99.0, 100.0) == pytest.approx(100)
    assert price_advantage_bps(-1, 99.0, 100.0) == pytest.approx(-100)


@pytest.mark.parametrize("label", ["L1-P0.1", "L5-P0.9", "L5-P0.9-elapsed", "POV0.1-L1", "SWEEP", "SWEEP-L5"])
def test_labels_name_styles(label: str) -> None:
    assert style_of(label).label == label


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: style_of("L1P0.1"),
        lambda: Twap(11),
        lambda: Twap(1, 1.5),
        lambda: Twap(slices=0),
        lambda: Twap(expected="soon"),  # type: ignore[arg-type]
        lambda: Pov(0),
        lambda: Sweep(level=-1),
        lambda: run(Twap(), 150, book({1001: 5}, {999: 5})),
        lambda: run(Twap(), -100, book({1001: 5}, {999: 5})),
        lambda: run(Twap(), 100, book({1001: 5}, {999: 5}), side=2),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError):
        wrong()


def test_without_an_agent_the_overlay_is_replay() -> None:
    day = two_days()[1]
    start = start_at(day, "10:00")
    recorded = cut(day, start.clock_ns, start.clock_ns + 6 * MINUTE)
    t = simulate(Overlay({start.name: recorded}), [start], 2, 6 * MINUTE, key=0)[0][1]
    assert len(t.fills) > 100
    for name in ("time_ns", "price_ticks", "size_shares", "side"):
        assert np.array_equal(t.fills[name], recorded.fills[name])
    last = [replay(RULES, x.book, x.orders, levels=10).snapshots for x in (t, recorded)]
    assert last[0] is not None
    assert last[1] is not None
    assert np.array_equal(last[0].price_ticks, last[1].price_ticks)
    assert np.array_equal(last[0].size_shares, last[1].size_shares)


def test_the_overlay_cancels_the_orders_that_were_named_though_an_agent_took_their_ids() -> None:
    new = orders(kind=Kind.BID, price_ticks=998, size_shares=200, order_id=3)
    gone = orders(kind=Kind.CANCEL, order_id=3)
    t = run(Twap(1, 0.1), 1_000, book({1001: 500}, {999: 50}), (10.0, new), (20.0, gone))
    final = replay(RULES, t.book, t.orders)
    assert not (final.final.resting["price_ticks"] == 998).any()
    assert (final.reason == 0).all()


def test_the_overlay_needs_the_flow_of_its_starts() -> None:
    with pytest.raises(ValueError, match="no recorded flow"):
        simulate(Overlay({}), [start_of(book({1001: 5}, {999: 5}))], 1, MINUTE, key=0)


def test_arms_of_a_start_share_their_random_numbers_and_differ_by_what_is_traded() -> None:
    start = start_at(two_days()[1], "10:00")
    arms = [replace(start, arm=k) for k in range(3)]
    sold = {(start.name, 1): Metaorder(SELL, 5_000), (start.name, 2): Metaorder(BUY, 5_000)}
    both = [Sweep(after_s=60).trades(sold), Twap(1, 0.1).trades({(start.name, 0): Metaorder(BUY, 0)})]
    none, sell, buy = (row[0] for row in simulate(known_generator(), arms, 1, 3 * MINUTE, key=0, agents=both))
    early = [t.orders[t.orders["time_ns"] < start.clock_ns + MINUTE] for t in (none, sell, buy)]
    assert np.array_equal(early[0], early[1])
    assert np.array_equal(early[0], early[2])
    assert none.fills["ask_owner"].max() == none.fills["bid_owner"].max() == 0
    assert sell.fills["ask_owner"].max() == buy.fills["bid_owner"].max() == 1
    alone = simulate(known_generator(), [start], 1, 3 * MINUTE, key=0)[0][0]
    assert np.array_equal(alone.orders, none.orders)
