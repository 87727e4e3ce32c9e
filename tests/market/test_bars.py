"""One-minute bars: hand-made periods with known answers, and a slow twin over random streams."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marsbench.market.bars import MIN_MIDS, MinuteBars, minute_bars
from marsbench.market.orders import Flag, Kind, orders
from marsbench.market.replay import make_trajectory, replay_trajectory
from marsbench.market.rules import (
    CONTINUOUS,
    MINUTE,
    SECOND,
    SSE_A_SHARE,
    MatchingRules,
    Phase,
    PhaseKind,
    clock,
)
from marsbench.market.trajectory import BookState, Trajectory

OPEN = clock("10:00")


def book(bid: int = 99, ask: int = 101, *, last: int = 100, size: int = 1000) -> BookState:
    resting = orders(0, kind=[Kind.BID, Kind.ASK], price_ticks=[bid, ask], size_shares=size, order_id=[1, 2])
    return BookState(resting=resting, last_trade_ticks=last, next_id=3, time_ns=OPEN)


def period(
    rows: np.ndarray,
    *,
    minutes: int = 2,
    start: BookState | None = None,
    rules: MatchingRules = CONTINUOUS,
    begin: int = OPEN,
    end: int | None = None,
) -> Trajectory:
    start = book() if start is None else start
    return make_trajectory(
        instrument="X", date="2024-01-02", rules=rules, start_ns=begin, end_ns=end or begin + minutes * MINUTE,
        book=start, orders=rows,
    )  # fmt: skip


def at(seconds: float) -> int:
    return OPEN + round(seconds * SECOND)


def test_a_trade_sets_price_volume_and_ratios_of_its_minute_and_is_carried_forward():
    rows = orders(
        [at(10), at(20), at(30), at(70)],
        kind=[Kind.BID, Kind.BID, Kind.ASK, Kind.CANCEL],
        price_ticks=[101, 98, 102, 0],
        size_shares=[300, 500, 100, 0],
        order_id=[0, 0, 0, 1],
    )
    bars = minute_bars(period(rows))
    np.testing.assert_array_equal(bars.last_trade_ticks, [100, 101, 101])
    np.testing.assert_array_equal(bars.volume_shares, [300, 0])
    np.testing.assert_array_equal(bars.n_trades, [1, 0])
    np.testing.assert_array_equal(bars.n_new, [3, 0])
    np.testing.assert_array_equal(bars.n_cancels, [0, 1])
    np.testing.assert_array_equal(bars.n_orders, [3, 1])
    assert bars.mean_order_lots[0] == pytest.approx(300)
    assert bars.aggressive_ratio[0] == pytest.approx(1 / 3)
    assert bars.buy_ratio[0] == pytest.approx(2 / 3)
    assert np.isnan(bars.buy_ratio[1])


def test_the_mid_is_that_of_the_end_of_the_minute_and_missing_when_one_sided():
    rows = orders(
        [at(60), at(60) + 1, at(130)],
        kind=[Kind.BID, Kind.BID, Kind.CANCEL],
        price_ticks=[100, 101, 0],
        size_shares=[10, 1000, 0],
        order_id=[0, 0, 2],
    )
    bars = minute_bars(period(rows, minutes=3))
    # 10:01:00 exactly still belongs to the first minute; one ns later the whole ask side is bought away
    np.testing.assert_array_equal(bars.mid_half_ticks, [200, 201, np.nan, np.nan])
    assert bars.one_sided_share[1] == pytest.approx(1.0, abs=1e-9)


def test_spread_is_weighted_by_time_and_split_at_minute_ends():
    # the spread is 2 until 10:00:45, then 1
    rows = orders([at(45)], kind=Kind.BID, price_ticks=100, size_shares=10)
    bars = minute_bars(period(rows))
    np.testing.assert_allclose(bars.spread_ticks, [(45 * 2 + 15 * 1) / 60, 1.0])
    np.testing.assert_allclose(bars.one_sided_share, [0, 0])


def test_spread_ignores_one_sided_time_and_reports_its_share():
    rows = orders(
        [at(15), at(45)], kind=[Kind.CANCEL, Kind.ASK], price_ticks=[0, 104], size_shares=[0, 10], order_id=[2, 0]
    )
    bars = minute_bars(period(rows, minutes=1))
    assert bars.spread_ticks[0] == pytest.approx((15 * 2 + 15 * 5) / 30)
    assert bars.one_sided_share[0] == pytest.approx(0.5)


def test_mean_trade_price_is_the_plain_mean_of_the_fills():
    start = BookState(
        resting=orders(0, kind=Kind.ASK, price_ticks=[101, 103], size_shares=[1, 99], order_id=[1, 2]), next_id=3
    )
    rows = orders([at(1)], kind=Kind.BID, price_ticks=103, size_shares=50)
    bars = minute_bars(period(rows, start=start, minutes=1), last_trade_ticks=90)
    np.testing.assert_array_equal(bars.mean_trade_ticks, [90, 102])
    np.testing.assert_array_equal(bars.last_trade_ticks, [90, 103])


def test_without_any_trade_the_price_is_missing_not_zero():
    bars = minute_bars(period(orders([at(1)], kind=Kind.BID, price_ticks=90, size_shares=1), start=book(last=0)))
    assert np.isnan(bars.last_trade_ticks).all()
    assert np.isnan(bars.mean_trade_ticks).all()


def test_volatility_needs_ten_mids_and_is_the_root_of_n_times_the_deviation():
    bids = [100, 99] * 6  # a new bid at 100, then it is cancelled, ...
    kinds = [Kind.BID, Kind.CANCEL] * 6
    ids = [10 + i // 2 for i in range(12)]
    rows = orders([at(1 + i) for i in range(12)], kind=kinds, price_ticks=bids, size_shares=[5, 0] * 6, order_id=ids)
    mids = [201, 200] * 6
    returns = [math.log(b / a) for a, b in itertools.pairwise(mids)]
    expected = statistics.stdev(returns) * math.sqrt(len(returns))
    assert minute_bars(period(rows, minutes=1)).volatility[0] == pytest.approx(expected, rel=1e-9)
    assert np.isnan(minute_bars(period(rows[: MIN_MIDS - 1], minutes=1)).volatility[0])
    assert minute_bars(period(rows[:MIN_MIDS], minutes=1)).volatility[0] > 0


def test_seeded_rejected_and_agents_orders_stay_out_of_the_order_flow():
    rows = orders(
        [at(1), at(2), at(3), at(4)],
        kind=Kind.BID,
        price_ticks=[90, 91, 92, 93],
        size_shares=[10, -5, 10, 10],
        flags=[Flag.SEEDED, 0, 0, 0],
        owner=[0, 0, 1, 0],
    )
    trajectory = period(rows, minutes=1)
    assert minute_bars(trajectory).n_new[0] == 1
    assert minute_bars(trajectory, agents=True).n_new[0] == 2


def test_a_replace_counts_as_one_new_order():
    rows = orders([at(1)], kind=Kind.BID, price_ticks=98, size_shares=5, order_id=1, flags=Flag.REPLACE)
    bars = minute_bars(period(rows, minutes=1))
    assert (bars.n_new[0], bars.n_cancels[0], bars.n_orders[0]) == (1, 0, 1)


def test_lunch_is_cut_out():
    begin = clock("11:29")
    start = BookState(resting=book().resting, last_trade_ticks=100, next_id=3, time_ns=begin)
    times = [begin + 30 * SECOND, clock("13:00:00"), clock("13:00:30"), clock("13:01:30")]
    rows = orders(times, kind=Kind.BID, price_ticks=[100, 98, 98, 98], size_shares=100)
    bars = minute_bars(period(rows, start=start, rules=SSE_A_SHARE, begin=begin, end=clock("13:02")))
    assert bars.minutes == 3
    np.testing.assert_array_equal(bars.n_new, [1, 2, 1])
    np.testing.assert_allclose(bars.spread_ticks, [1.5, 1, 1])


def test_auctions_belong_to_no_bar_but_the_opening_price_is_bar_minus_one():
    start = BookState(reference_ticks=1000)
    times = [clock("09:16"), clock("09:17"), clock("09:30:05"), clock("14:58")]
    rows = orders(times, kind=[Kind.BID, Kind.ASK, Kind.BID, Kind.BID], price_ticks=[1010, 1010, 1001, 1002],
                  size_shares=[300, 200, 100, 100])  # fmt: skip
    day = period(rows, start=start, rules=SSE_A_SHARE, begin=clock("09:15"), end=clock("15:00"))
    bars = minute_bars(day)
    assert bars.minutes == 237
    assert bars.last_trade_ticks[0] == 1010
    assert bars.volume_shares.sum() == 0
    assert bars.n_new.sum() == 1


def test_mars_minutes_collect_what_rounds_to_them():
    rows = orders([at(20), at(40), at(100)], kind=Kind.BID, price_ticks=101, size_shares=[1, 2, 4])
    bars = minute_bars(period(rows), minute="mars")
    np.testing.assert_array_equal(bars.volume_shares, [2, 4])
    with pytest.raises(ValueError, match="choose"):
        minute_bars(period(rows), minute="nearest")  # type: ignore[arg-type]


def test_an_empty_period_is_missing_where_nothing_can_be_said():
    bars = minute_bars(period(orders([], kind=[]), minutes=2, start=BookState()))
    assert np.isnan(bars.mid_half_ticks).all()
    assert np.isnan(bars.spread_ticks).all()
    np.testing.assert_array_equal(bars.one_sided_share, [1, 1])
    np.testing.assert_array_equal(bars.n_orders, [0, 0])


def test_a_period_shorter_than_a_minute_has_no_bars_but_a_start():
    bars = minute_bars(period(orders([], kind=[]), end=OPEN + 30 * SECOND))
    assert bars.minutes == 0
    np.testing.assert_array_equal(bars.mid_half_ticks, [200])
    assert bars.mid_returns(1).shape == (0,)


def test_mid_returns_depart_from_the_start():
    rows = orders([at(30)], kind=Kind.BID, price_ticks=100, size_shares=10)
    bars = minute_bars(period(rows, minutes=3))
    np.testing.assert_allclose(bars.mid_returns(2), [math.log(201 / 200), 0])
    with pytest.raises(ValueError, match="at least 1 minute"):
        bars.mid_returns(0)


def test_stacking_adds_a_first_axis_and_refuses_unequal_lengths():
    one, two = minute_bars(period(orders([], kind=[]))), minute_bars(period(orders([], kind=[]), minutes=3))
    both = MinuteBars.stack([one, one])
    assert both.shape == (2,)
    assert both.mid_half_ticks.shape == (2, 3)
    assert MinuteBars.stack([both, both])[1, 0].shape == ()
    with pytest.raises(ValueError, match="different shapes"):
        MinuteBars.stack([one, two])
    with pytest.raises(ValueError, match="at least one"):
        MinuteBars.stack([])


# --- slow twin -------------------------------------------------------------------------------------

LUNCH = MatchingRules(
    name="LUNCH",
    phases=(
        Phase(0, 150 * SECOND, PhaseKind.CONTINUOUS),
        Phase(200 * SECOND, 400 * SECOND, PhaseKind.CONTINUOUS),
    ),
    lot_shares=2,
)


def slow_bars(trajectory: Trajectory, bars: int) -> dict[str, list[float]]:
    """The definitions, one minute and one message at a time; times in whole seconds, second by second."""
    rules = trajectory.rules
    replay = replay_trajectory(trajectory, levels=1)
    assert replay.snapshots is not None
    ask, bid = replay.snapshots.best()
    two = replay.snapshots.two_sided
    rows = trajectory.orders
    begin = int(rules.trading_ns(trajectory.start_ns))
    out: dict[str, list[float]] = {
        k: [] for k in ("spread", "one_sided", "new", "cancels", "volume", "lots", "vol", "mid")
    }
    phases = [(p.start_ns, p.end_ns) for p in rules.continuous]
    for m in range(bars):
        low, high = begin + m * MINUTE, begin + (m + 1) * MINUTE
        inside = [
            i
            for i in range(len(rows))
            if (
                any(a <= rows["time_ns"][i] < b for a, b in phases)
                and low < int(rules.trading_ns(rows["time_ns"][i])) <= high
            )
            or any(a == rows["time_ns"][i] and int(rules.trading_ns(a)) == low for a, _ in phases)
        ]
        inside = [
            i
            for i in inside
            if not any(a == rows["time_ns"][i] and int(rules.trading_ns(a)) == high for a, _ in phases)
        ]
        spreads, seconds = [], 0
        for second in range(low // SECOND, high // SECOND):
            clock_ns = next(a + second * SECOND - int(rules.trading_ns(a)) for a, b in phases
                            if int(rules.trading_ns(a)) <= second * SECOND < int(rules.trading_ns(b)))  # fmt: skip
            entry = sum(1 for t in rows["time_ns"] if t <= clock_ns)
            seconds += 1
            if two[entry]:
                spreads.append(int(ask[entry]) - int(bid[entry]))
        ok = [
            i for i in inside if replay.reason[i] == 0 and not rows["flags"][i] & Flag.SEEDED and rows["owner"][i] == 0
        ]
        new = [i for i in ok if rows["kind"][i] != Kind.CANCEL]
        mids = [int(ask[i + 1]) + int(bid[i + 1]) for i in ok if two[i + 1]]
        returns = [math.log(b / a) for a, b in itertools.pairwise(mids)]
        last = max(inside, default=-1) + 1 if inside else None
        out["spread"].append(statistics.mean(spreads) if spreads else math.nan)
        out["one_sided"].append(1 - len(spreads) / seconds)
        out["new"].append(len(new))
        out["cancels"].append(len(ok) - len(new))
        out["lots"].append(sum(int(rows["size_shares"][i]) for i in new) / 2 / len(new) if new else math.nan)
        out["volume"].append(sum(int(f["size_shares"]) for f in trajectory.fills if f["seq"] in inside))
        out["vol"].append(statistics.stdev(returns) * math.sqrt(len(returns)) if len(mids) >= MIN_MIDS else math.nan)
        out["mid"].append(
            (int(ask[last]) + int(bid[last]) if two[last] else math.nan) if last is not None else math.inf
        )
    return out


message = st.tuples(
    st.integers(1, 420), st.sampled_from([0, 0, 1, 1, 2]), st.integers(95, 105), st.integers(-1, 6), st.integers(0, 12),
    st.sampled_from([0, 0, 0, 0, 1]), st.sampled_from([0, 0, 0, 8]),
)  # fmt: skip


@given(st.lists(message, max_size=60), st.integers(0, 2), st.booleans())
@settings(max_examples=150, deadline=None)
def test_bars_equal_their_slow_twin_on_random_streams(messages, first_minute, seeded_book):
    begin = first_minute * MINUTE
    rows = np.concatenate(
        [orders([], kind=[])]
        + [
            orders(t * SECOND, kind=k, price_ticks=p if k != 2 else 0, size_shares=2 * s, order_id=i if k == 2 else 0,
                   owner=o, flags=f if k != 2 else 0)
            for t, k, p, s, i, o, f in sorted(messages)
            if t * SECOND > begin
        ]
    )  # fmt: skip
    state = BookState(resting=book().resting, last_trade_ticks=100, next_id=3) if seeded_book else BookState()
    trajectory = period(rows, start=state, rules=LUNCH, begin=begin, end=380 * SECOND)
    bars = minute_bars(trajectory)
    assert bars.minutes == 5 - first_minute
    slow = slow_bars(trajectory, bars.minutes)
    np.testing.assert_allclose(bars.spread_ticks, slow["spread"], rtol=1e-9)
    np.testing.assert_allclose(bars.one_sided_share, slow["one_sided"], atol=1e-9)
    np.testing.assert_array_equal(bars.n_new, slow["new"])
    np.testing.assert_array_equal(bars.n_cancels, slow["cancels"])
    np.testing.assert_allclose(bars.mean_order_lots, slow["lots"])
    np.testing.assert_array_equal(bars.volume_shares, slow["volume"])
    np.testing.assert_allclose(bars.volatility, slow["vol"], atol=1e-12)
    known = np.isfinite(slow["mid"]) | np.isnan(slow["mid"])
    np.testing.assert_array_equal(bars.mid_half_ticks[1:][known], np.array(slow["mid"])[known])
