"""Impact of metaorders: planted laws, a hand-made price path, tables that are wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from marsbench.market.orders import Flag, Kind, orders
from marsbench.market.replay import make_trajectory
from marsbench.market.rules import CONTINUOUS, MINUTE, SECOND, SSE_A_SHARE, MatchingRules, clock
from marsbench.market.trajectory import BookState, Trajectory
from marsbench.stats.impact import binned, decay, fit_power_law
from marsbench.stats.metaorders import PATH, DayImpacts, Impacts, checked, join_impacts, metaorder_impacts

OPEN = clock("10:00")


def planted(
    delta: float, seed: int = 0, *, noise: float = 0.1, days: int = 30, each: int = 60, instruments: int = 3
) -> Impacts:
    """``I = Y_i (Q/V)^delta`` with another Y for each instrument; impact falls to 2/3 of its peak."""
    rng = np.random.default_rng(seed)
    shape = np.minimum(np.array(PATH), 1) ** 0.5 * np.where(np.array(PATH) > 1, 2 / 3, 1)
    parts = []
    for i in range(instruments):
        for _ in range(days):
            size = 10 ** rng.uniform(-3.3, -1.3, each)
            impact = (0.6 + 0.4 * i) * size**delta + noise * rng.standard_normal(each)
            parts.append(DayImpacts(f"I{i}", size, impact, np.full(each, 200 * SECOND), impact[:, None] * shape))
    return join_impacts(parts)


@pytest.mark.parametrize("delta", [0.3, 0.5, 1.0])
def test_a_planted_exponent_is_found_whatever_the_prefactors(delta: float):
    fit = fit_power_law(planted(delta, noise=0.02))
    assert fit is not None
    assert fit.delta_low < delta < fit.delta_high
    assert fit.delta == pytest.approx(delta, abs=0.06)
    np.testing.assert_allclose(fit.prefactor, [0.6, 1.0, 1.4], rtol=0.25)
    assert fit.verdict == ("holds" if delta == 0.5 else "fails")
    assert (fit.aic_less_linear < -10) == (delta < 1)


def test_one_prefactor_for_all_would_be_wrong_and_one_instrument_can_be_fitted_alone():
    impacts = planted(0.5, noise=0.02)
    alone = fit_power_law(impacts.of(2))
    assert alone is not None
    assert alone.delta == pytest.approx(0.5, abs=0.08)
    assert alone.days == 30


def test_the_interval_covers_the_planted_exponent_as_often_as_it_says():
    fits = [fit_power_law(planted(0.5, seed, days=12, each=40, instruments=2)) for seed in range(60)]
    hits = sum(f is not None and f.delta_low <= 0.5 <= f.delta_high for f in fits)
    assert hits >= 51  # 95% nominal; 51 of 60 is four standard errors below


def test_noise_alone_is_no_square_root():
    fit = fit_power_law(planted(0.5, noise=3.0, days=5, each=20))
    assert fit is not None
    assert fit.verdict != "holds"
    assert fit_power_law(join_impacts([])) is None


def test_bins_follow_the_law_and_carry_an_error():
    impacts = planted(0.5, instruments=1)
    table = binned(impacts)
    gap = (table["impact"] - 0.6 * table["size"] ** 0.5) / table["error"]
    assert np.abs(gap).max() < 4
    assert table["n"].sum() <= len(impacts.size)
    assert len(binned(join_impacts([]))["size"]) == 0


def test_the_decay_is_measured_against_the_peak():
    value, interval, n = decay(planted(0.5))
    assert value[PATH.index(1.0)] == 1
    assert value[PATH.index(4.0)] == pytest.approx(2 / 3)
    assert n == 90 * 60
    assert interval.low[PATH.index(4.0)] == pytest.approx(2 / 3)
    assert np.isnan(decay(join_impacts([]))[0]).all()


def moving_day(rules: MatchingRules = CONTINUOUS, start: int = OPEN, minutes: int = 20) -> Trajectory:
    """The mid goes from 100 to 101 when a buyer takes the best ask a minute after the start."""
    resting = orders(
        0, kind=[Kind.BID, Kind.ASK, Kind.ASK], price_ticks=[99, 101, 103], size_shares=[1000, 100, 1000],
        order_id=[1, 2, 3],
    )  # fmt: skip
    book = BookState(resting=resting, last_trade_ticks=100, reference_ticks=100, next_id=4, time_ns=start)
    buy = orders(start + MINUTE, kind=Kind.BID, price_ticks=101, size_shares=100, flags=Flag.IOC)
    return make_trajectory(
        instrument="X", date="2024-01-02", rules=rules, start_ns=start, end_ns=start + minutes * MINUTE, book=book,
        orders=buy,
    )  # fmt: skip


def table(**columns: object) -> pd.DataFrame:
    row = {"instrument": "X", "date": "2024-01-02", "side": 1, "start_ns": OPEN + MINUTE,
           "end_ns": OPEN + 3 * MINUTE, "executed_shares": 50, "fills": 1}  # fmt: skip
    return pd.DataFrame([row | columns])


def test_impact_is_the_move_of_the_mid_over_the_volatility_of_the_day():
    found = metaorder_impacts(table(), [moving_day()])
    np.testing.assert_allclose(found.impact, 1)  # the only move of the day is one daily deviation
    np.testing.assert_allclose(found.size, 0.5)
    assert found.duration_ns.tolist() == [2 * MINUTE]
    np.testing.assert_allclose(found.path, 1)
    np.testing.assert_allclose(metaorder_impacts(table(side=-1), [moving_day()]).impact, -1)


def test_the_start_is_before_its_messages_and_the_end_after_them():
    at_once = table(end_ns=OPEN + MINUTE)
    np.testing.assert_allclose(metaorder_impacts(at_once, [moving_day()]).impact, 1)
    later = table(start_ns=OPEN + MINUTE + 1)
    np.testing.assert_allclose(metaorder_impacts(later, [moving_day()]).impact, 0)


def test_short_metaorders_and_paths_beyond_the_day_have_no_path():
    short = metaorder_impacts(table(end_ns=OPEN + 2 * MINUTE), [moving_day()])
    late = metaorder_impacts(table(end_ns=OPEN + 5 * MINUTE), [moving_day()])
    assert np.isnan(short.path).all()
    assert np.isnan(late.path).all()
    assert np.isfinite(late.impact).all()


def test_lunch_is_no_time():
    start = clock("11:27")
    rules = replace(SSE_A_SHARE, lot_shares=1)
    over = table(start_ns=clock("11:28"), end_ns=clock("13:01"))
    found = metaorder_impacts(over, [moving_day(rules, start, 180)])
    assert found.duration_ns.tolist() == [3 * MINUTE]


def test_other_days_unfilled_metaorders_and_still_days_are_left_out():
    day = moving_day()
    for other in (table(date="2024-01-03"), table(instrument="Y"), table(executed_shares=0)):
        assert len(metaorder_impacts(other, [day]).size) == 0
    still = replace(day, orders=day.orders[:0], fills=day.fills[:0])
    assert len(metaorder_impacts(table(), [still]).size) == 0


def test_a_structured_array_serves_as_well_as_a_frame():
    records = table().to_records(index=False)
    np.testing.assert_allclose(metaorder_impacts(np.asarray(records), [moving_day()]).size, 0.5)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (table().drop(columns="side"), "lack the column side"),
        (table(side=0), "side is 0"),
        (table(end_ns=OPEN), "row 0 ends before it starts"),
    ],
)
def test_a_wrong_table_is_refused_with_the_reason(wrong: pd.DataFrame, says: str):
    with pytest.raises(ValueError, match=says):
        checked(wrong)
