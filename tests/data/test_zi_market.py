"""The embedded market: what its profile says is what its days hold."""

from __future__ import annotations

import numpy as np
import pytest

from marsbench.data import zi_market
from marsbench.data.zi_market import PROFILES, SPLITS
from marsbench.market.orders import Kind, Reason
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import MINUTE, SSE_A_SHARE, clock


def test_days_are_weekdays_in_order_and_split_by_time() -> None:
    days = zi_market.trading_days()
    assert len(days) == sum(SPLITS.values())
    assert [d for d, _ in days] == sorted({d for d, _ in days})
    assert [s for _, s in days] == ["train"] * 4 + ["validation"] + ["test"] * 8
    assert all(np.is_busday(np.datetime64(d)) for d, _ in days)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.name)
def test_the_business_clock_has_mean_one_and_is_faster_at_both_ends_of_the_day(profile: zi_market.Profile) -> None:
    speeds = np.array([zi_market.speed(zi_market.opening(profile, date)) for date, _ in zi_market.trading_days()])
    assert speeds.mean(axis=1) == pytest.approx(np.ones(len(speeds)))
    by_minute = speeds.mean(axis=0)
    assert by_minute[:15].mean() > 1.2 * by_minute[90:150].mean()
    assert by_minute[-15:].mean() > by_minute[90:150].mean()


def test_the_clock_of_a_day_is_its_own_and_always_the_same() -> None:
    one = zi_market.speed(zi_market.opening(PROFILES[0], "2024-01-02"))
    assert np.array_equal(one, zi_market.speed(zi_market.opening(PROFILES[0], "2024-01-02")))
    assert not np.array_equal(one, zi_market.speed(zi_market.opening(PROFILES[0], "2024-01-03")))
    assert not np.array_equal(one, zi_market.speed(zi_market.opening(PROFILES[1], "2024-01-02")))


def test_the_opening_book_is_whole_and_two_sided() -> None:
    for profile in PROFILES:
        book = zi_market.opening(profile, "2024-01-02").book
        asks = book.resting[book.resting["kind"] == Kind.ASK]["price_ticks"]
        bids = book.resting[book.resting["kind"] == Kind.BID]["price_ticks"]
        assert asks.min() == profile.price_ticks + 1
        assert bids.max() == profile.price_ticks - 1
        assert asks.max() - profile.price_ticks <= profile.depth


def test_a_poisson_quantile_is_the_inverse_of_the_distribution_function() -> None:
    from scipy import stats

    for mean in (0.3, 2.0, 15.0):
        for uniform in (0.001, 0.2, 0.5, 0.9, 0.9999):
            assert zi_market._poisson(mean, uniform) == stats.poisson.ppf(uniform, mean)


def test_a_day_on_the_clock_keeps_every_message_valid_and_skips_lunch(monkeypatch: pytest.MonkeyPatch) -> None:
    one = [zi_market.trading_days()[0]]
    monkeypatch.setattr(zi_market, "trading_days", lambda: one)
    monkeypatch.setattr(zi_market, "PROFILES", PROFILES[3:])
    (day,) = zi_market.days()
    assert (day.start_ns, day.end_ns) == (clock("09:30"), clock("14:57"))
    assert (replay_trajectory(day).reason == Reason.OK).all()
    times = day.orders["time_ns"]
    assert (np.diff(times) >= 0).all()
    assert not ((times >= clock("11:30")) & (times < clock("13:00"))).any()
    minutes = SSE_A_SHARE.trading_ns(times) // MINUTE
    counts = np.bincount(minutes, minlength=237)
    pace = zi_market.speed(zi_market.opening(PROFILES[3], day.date))
    assert np.corrcoef(counts, pace)[0, 1] > 0.9
