"""What a day looks like from inside the book: hand-made days with known answers, and a slow twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from markets import two_days
from marsbench.market.orders import Flag, Kind, orders
from marsbench.market.replay import cut, make_trajectory, replay_trajectory
from marsbench.market.rules import CONTINUOUS, MINUTE, SECOND, SSE_A_SHARE, MatchingRules, clock
from marsbench.market.trajectory import BookState, Trajectory
from marsbench.stats.microstructure import (
    SCALARS,
    SIGN_LAGS,
    mean_profile,
    microstructure,
    sign_exponent,
)

OPEN = clock("10:00")
RULES = replace(CONTINUOUS, lot_shares=100)


def at(seconds: float) -> int:
    return OPEN + round(seconds * SECOND)


def day(
    rows: np.ndarray, minutes: int = 4, size: int = 1000, rules: MatchingRules = RULES, start: int = OPEN
) -> Trajectory:
    resting = orders(0, kind=[Kind.BID, Kind.ASK], price_ticks=[99, 101], size_shares=size, order_id=[1, 2])
    book = BookState(resting=resting, last_trade_ticks=100, reference_ticks=100, next_id=3, time_ns=start)
    return make_trajectory(
        instrument="X", date="2024-01-02", rules=rules, start_ns=start, end_ns=start + minutes * MINUTE, book=book,
        orders=rows,
    )  # fmt: skip


def test_a_hand_made_day_has_the_numbers_that_one_counts_by_hand():
    found = microstructure(
        day(
            orders(
                [at(60), at(120), at(180), at(200), at(210)],
                kind=[Kind.BID, Kind.BID, Kind.ASK, Kind.ASK, Kind.CANCEL],
                price_ticks=[98, 100, 100, 101, 0],  # behind the touch, inside the spread, trades, joins the touch
                size_shares=[500, 200, 200, 300, 0],
                order_id=[0, 0, 0, 0, 3],
            )
        )
    )
    assert found.orders_per_min == pytest.approx(5 / 4)
    assert (found.limit_share, found.market_share, found.cancel_share) == pytest.approx((0.6, 0.2, 0.2))
    assert found.spread_mean_ticks == pytest.approx((180 * 2 + 60 * 1) / 240)
    assert (found.spread_q10_ticks, found.spread_q50_ticks, found.spread_max_ticks) == (1, 2, 2)
    bid, ask = (180 * 10 + 60 * 2) / 240, (200 * 10 + 40 * 13) / 240
    assert found.depth_1_lots == pytest.approx((bid + ask) / 2)
    assert found.depth_5_lots == 0
    assert (found.limits_inside, found.limits_at_touch) == pytest.approx((1 / 3, 1 / 3))
    assert found.distance_q50_ticks == 1
    assert found.cancels_at_touch == 0
    assert (found.size_q50_lots, found.one_lot_share) == (2.5, 0)
    assert found.minutes_without_trade == pytest.approx(3 / 4)
    assert found.one_sided_share == found.empty_share == found.crossed_share == 0
    np.testing.assert_allclose(found.spread_above[:3], [1, 0.75, 0])
    np.testing.assert_allclose(found.distance_above[:2], [1 / 3, 0])


def test_one_sided_and_empty_books_are_shares_of_time():
    rows = orders([at(60), at(180)], kind=Kind.CANCEL, order_id=[1, 2])
    found = microstructure(day(rows))
    assert found.one_sided_share == pytest.approx(0.5)
    assert found.empty_share == pytest.approx(0.25)
    assert np.isnan(found.limits_inside)
    assert np.isnan(found.sd_log_orders) or found.sd_log_orders == 0


def test_alternating_signs_are_anticorrelated_and_a_book_crossed_in_the_auction_does_not_count():
    start = clock("09:15")
    times = clock("09:31") + np.arange(300) * SECOND
    auction = orders([start + SECOND] * 2, kind=[Kind.BID, Kind.ASK], price_ticks=[101, 99], size_shares=100)
    trades = orders(
        times, kind=np.arange(300) % 2, price_ticks=np.where(np.arange(300) % 2, 101, 99), size_shares=100,
        flags=Flag.IOC,
    )  # fmt: skip
    found = microstructure(day(np.concatenate([auction, trades]), 30, 100_000, SSE_A_SHARE, start))
    assert found.sign_acf_1 == pytest.approx(-1, abs=0.01)
    assert found.sign_acf[2] == pytest.approx(1, abs=0.01)
    assert found.crossed_share == 0
    assert found.market_share == 1


def test_too_few_market_orders_have_no_sign_autocorrelation_and_no_minute_is_an_error():
    found = microstructure(day(orders(at(1), kind=Kind.BID, price_ticks=98, size_shares=100)))
    assert np.isnan(found.sign_acf_1)
    assert np.isnan(mean_profile([found])["sign_exponent"])
    with pytest.raises(ValueError, match="no whole minute"):
        microstructure(cut(two_days()[0], clock("09:31"), clock("09:31") + SECOND))
    with pytest.raises(ValueError, match="at least one"):
        mean_profile([])


def test_the_sign_exponent_is_that_of_a_planted_power_law():
    lags = np.arange(1, SIGN_LAGS + 1)
    curve = np.concatenate([[1.0], 0.3 * lags**-0.5])
    assert sign_exponent(curve) == pytest.approx(0.5, abs=1e-3)
    assert sign_exponent(np.stack([curve] * 3)).shape == (3,)


def test_the_average_of_days_leaves_missing_days_out():
    quiet = microstructure(day(orders(at(1), kind=Kind.BID, price_ticks=98, size_shares=100)))
    busy = microstructure(two_days()[0])
    mean = mean_profile([quiet, busy])
    assert set(mean) == {*SCALARS, "sign_exponent"}
    assert mean["sign_acf_1"] == busy.sign_acf_1
    assert mean["orders_per_min"] == pytest.approx((quiet.orders_per_min + busy.orders_per_min) / 2)


def test_the_book_equals_a_slow_walk_through_the_messages():
    part = cut(two_days()[0], clock("09:40"), clock("10:00"))
    found = microstructure(part)
    books = replay_trajectory(part, levels=10).snapshots
    assert books is not None
    times = [part.start_ns, *part.orders["time_ns"].tolist(), part.end_ns]
    total = spread = lots = imbalance = square = 0.0
    for i in range(len(times) - 1):
        weight = times[i + 1] - times[i]
        ask, bid = books.size_shares[i, 0, 0] / 100, books.size_shares[i, 1, 0] / 100
        if ask == 0 or bid == 0:
            continue
        total += weight
        spread += weight * float(books.price_ticks[i, 0, 0] - books.price_ticks[i, 1, 0])
        lots += weight * (books.size_shares[i, :, 4].sum() / 200)
        imbalance += weight * (bid - ask) / (bid + ask)
        square += weight * ((bid - ask) / (bid + ask)) ** 2
    assert found.spread_mean_ticks == pytest.approx(spread / total)
    assert found.depth_5_lots == pytest.approx(lots / total)
    assert found.imbalance_sd == pytest.approx(np.sqrt(square / total - (imbalance / total) ** 2))
