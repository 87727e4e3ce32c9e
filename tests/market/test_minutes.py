"""Per-minute series of one's own agree with the bars, and with a walk through the messages one by one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from marsbench.market.bars import minute_bars
from marsbench.market.books import books_of
from marsbench.market.minutes import MarketMinutes
from marsbench.market.orders import Kind, orders
from marsbench.market.replay import make_trajectory, replay_trajectory
from marsbench.market.rules import MINUTE, NASDAQ, SECOND, SSE_A_SHARE, clock
from marsbench.market.trajectory import BookState, Trajectory

OPEN = clock("11:20")


@cache
def market(lunch: bool = False) -> Trajectory:
    """Twenty minutes of random orders and cancels, with a lunch break in them if asked."""
    rng = np.random.default_rng(4)
    n = 3000
    end = clock("13:10") if lunch else OPEN + 20 * MINUTE
    times = np.sort(rng.integers(OPEN + 1, end, n))
    if lunch:
        times = times[(times < clock("11:30")) | (times >= clock("13:00"))]
        n = len(times)
    rules = SSE_A_SHARE if lunch else NASDAQ
    rows = orders(times, kind=rng.choice([0, 1, 2], n, p=[0.4, 0.4, 0.2]), price_ticks=10_000 + rng.integers(-6, 7, n),
                  size_shares=100 * rng.integers(1, 9, n))  # fmt: skip
    book = BookState(time_ns=OPEN, last_trade_ticks=10_000, reference_ticks=10_000)
    return make_trajectory(
        instrument="X", date="2024-01-02", rules=rules, start_ns=OPEN, end_ns=end, book=book, orders=rows
    )


@pytest.mark.parametrize("lunch", [False, True])
def test_what_the_bars_hold_comes_out_the_same(lunch: bool) -> None:
    whole, bars = MarketMinutes.of(market(lunch)), minute_bars(market(lunch))
    assert whole.minutes == bars.minutes == 20
    kinds = whole.orders["kind"]
    ones = np.ones(len(kinds))
    np.testing.assert_allclose(whole.message_sum(ones), bars.n_orders)
    np.testing.assert_allclose(whole.message_sum(ones * (kinds == Kind.CANCEL)), bars.n_cancels)
    np.testing.assert_allclose(whole.fill_sum(whole.fills["size_shares"]), bars.volume_shares)
    bids = np.where(kinds == Kind.CANCEL, np.nan, kinds == Kind.BID)
    np.testing.assert_allclose(whole.message_mean(bids), bars.buy_ratio)
    ask, bid = whole.books.best()
    spread = np.where(whole.books.two_sided, ask.astype(float) - bid, np.nan)
    np.testing.assert_allclose(whole.time_mean(spread), bars.spread_ticks, rtol=1e-9)


def test_a_mean_over_time_equals_a_walk_in_seconds() -> None:
    """Depth at the touch, sampled at every change and every whole second between."""
    one = market()
    done = replay_trajectory(one, levels=1)
    assert done.snapshots is not None
    size = done.snapshots.size_shares[:, :, 0].sum(axis=1).astype(float)
    times = np.append(one.orders["time_ns"].astype(np.int64), one.end_ns)
    total, at = np.zeros(20), one.start_ns
    for state, until in zip(size, times, strict=True):
        while at < until:
            minute = (at - one.start_ns) // MINUTE
            step = min(until, one.start_ns + (minute + 1) * MINUTE) - at
            total[minute] += step * state
            at += step
    np.testing.assert_allclose(MarketMinutes.of(one).time_mean(size), total / MINUTE, rtol=1e-9)


def test_a_book_by_hand() -> None:
    rows = orders([OPEN + SECOND, OPEN + SECOND, OPEN + 30 * SECOND], kind=[Kind.BID, Kind.ASK, Kind.BID],
                  price_ticks=[99, 101, 99], size_shares=[10, 20, 30])  # fmt: skip
    day = make_trajectory(instrument="X", date="2024-01-02", rules=NASDAQ, start_ns=OPEN, end_ns=OPEN + 2 * MINUTE,
                          book=BookState(time_ns=OPEN), orders=rows)  # fmt: skip
    made = MarketMinutes.of(day)
    bid = made.books.size_shares[:, 1, 0].astype(float)
    np.testing.assert_allclose(made.time_mean(bid), [(29 * 10 + 30 * 40) / 60, 40])
    known = np.where(bid > 0, bid, np.nan)
    np.testing.assert_allclose(made.time_mean(known), [(29 * 10 + 30 * 40) / 59, 40])
    np.testing.assert_allclose(made.message_mean(rows["size_shares"].astype(float)), [20, np.nan])


def test_books_alone_give_means_over_time_and_no_messages() -> None:
    one, alone = MarketMinutes.of(market()), MarketMinutes.of(books_of(market()))
    for made in (one, alone):
        assert made.minutes == 20
    size = [m.books.size_shares[..., 0].sum(axis=1).astype(float) for m in (one, alone)]
    np.testing.assert_allclose(alone.time_mean(size[1]), one.time_mean(size[0]), rtol=1e-9)
    assert not alone.message_sum(np.ones(len(alone.time_ns))).any()
    assert not alone.fill_sum(np.zeros(0)).any()
