"""The reference market: the same on every machine, whole days under the exchange's rules, a truth that can be had."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from marsbench.data import catalogue, reference
from marsbench.data.catalogue import open_dataset
from marsbench.data.reference_market import clock as steps
from marsbench.data.reference_market.market import run, trading_dates
from marsbench.data.reference_market.profiles import NAMES, PROFILES, SHARED, day_shape, profile_table
from marsbench.data.reference_market.state import HEAPS, Hidden, shared_table
from marsbench.market.orders import AUCTION, Reason
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import MINUTE, SECOND, SSE_A_SHARE, clock
from reference import days, small_data_set

HASHES = {
    "REF-A": ["acfded9d265e7d3b", "6dcb923e38a21e37"],
    "REF-B": ["f10c89114b24222a", "d58669377fbe90ff"],
    "REF-C": ["efbef13dd70a3d9d", "7fddb1389c1b7f29"],
    "REF-D": ["8486ef399ad8341d", "13626d2c00efb4f9"],
    "REF-E": ["488dd2949fc9b0fa", "5447fbef429112c0"],
}
"""Content of the first two days of version 2: whoever changes the market raises ``reference.VERSION``."""


@pytest.mark.parametrize("name", NAMES)
def test_the_first_days_are_the_committed_ones_bit_by_bit(name: str) -> None:
    assert [d.trajectory.content_hash()[:16] for d in days(name)] == HASHES[name]


def test_a_market_made_again_is_the_same_and_another_seed_gives_another() -> None:
    again = next(iter(run("REF-A", 1)))
    assert again.trajectory.content_hash() == days("REF-A")[0].trajectory.content_hash()
    other = next(iter(run("REF-A", 1, seed=1)))
    assert other.trajectory.content_hash() != again.trajectory.content_hash()


@pytest.mark.parametrize("name", NAMES)
def test_every_message_of_a_day_is_valid_and_its_fills_are_those_of_the_clearing_house(name: str) -> None:
    for day in days(name):
        t = day.trajectory
        done = replay_trajectory(t, levels=1)
        assert (done.reason == Reason.OK).all()
        assert np.array_equal(done.fills, t.fills)
        assert (np.diff(t.orders["time_ns"]) >= 0).all()
        inside = (t.orders["time_ns"] >= clock("09:30")) & (t.orders["time_ns"] < clock("14:57"))
        ask, bid = done.snapshots.best()
        both = done.snapshots.two_sided
        assert both[:-1][inside].all()
        assert (ask > bid)[:-1][inside].all()


def test_a_day_has_both_auctions_and_a_lunch_break() -> None:
    for day in days("REF-A"):
        t = day.trajectory
        auctions = t.fills[t.fills["side"] == AUCTION]
        assert set(auctions["time_ns"].tolist()) == {clock("09:25"), clock("15:00")}
        times = t.orders["time_ns"]
        assert not ((times >= clock("11:30")) & (times < clock("13:00"))).any()
        assert not ((times >= clock("09:25")) & (times < clock("09:30"))).any()
        assert t.orders["kind"][(times >= clock("09:20")) & (times < clock("09:25"))].max() < 2
        assert t.orders["kind"][times >= clock("14:57")].max() < 2


def test_prices_keep_within_the_limits_of_the_day_even_when_everybody_wants_out() -> None:
    wild = {**PROFILES, "REF-A": replace(PROFILES["REF-A"], fundamental_daily=0.5)}
    reached = 0
    for day in run("REF-A", 4, profiles=wild):
        t = day.trajectory
        low, high = SSE_A_SHARE.limits_ticks(t.book.reference_ticks)
        traded = t.fills["price_ticks"]
        assert low <= traded.min()
        assert traded.max() <= high
        reached += int(traded.min() == low or traded.max() == high)
        assert (replay_trajectory(t).reason == Reason.OK).all()
    assert reached > 0


def test_the_day_is_busier_at_both_ends_and_has_mean_one() -> None:
    shape = day_shape()
    assert shape.mean() == pytest.approx(1)
    assert shape[:15].mean() > 3 * shape[80:160].mean()
    assert shape[-10:].mean() > 1.2 * shape[150:200].mean()


def test_metaorders_are_listed_with_side_times_and_shares() -> None:
    day = days("REF-A")[0]
    table = reference.listing(day)
    assert len(table) > 50
    assert (np.diff(table["start_ns"]) >= 0).all()
    assert (table["start_ns"] <= table["end_ns"]).all()
    assert (table["executed_shares"] > 0).all()
    assert (table["executed_shares"] <= table["planned_shares"]).all()
    assert set(table["side"].tolist()) == {-1, 1}
    assert table["executed_shares"].sum() < day.trajectory.fills["size_shares"].sum()
    aggressive = day.trajectory.fills["side"] != AUCTION
    first = day.trajectory.fills["time_ns"][aggressive]
    assert np.isin(table["start_ns"], first).all()
    assert np.isin(table["end_ns"], first).all()


def test_cancellations_leave_their_heap_in_order_of_time() -> None:
    hidden = Hidden.empty(1, profile_table(PROFILES), shared_table(SHARED))
    a = hidden.arrays
    s = a.state[0]
    due = np.random.default_rng(0).permutation(500).astype(float)
    for order_id, time in enumerate(due):
        steps.push(s, a.when, a.who, 0, 0, time, order_id)
    seen = []
    while a.state["heap"][0, 0]:
        seen.append((a.when[0], a.who[0]))
        steps.pop(s, a.when, a.who, 0, 0)
    assert [w for w, _ in seen] == sorted(due.tolist())
    assert all(due[who] == when for when, who in seen)


def test_growing_the_heaps_loses_nothing() -> None:
    hidden = Hidden.empty(2, profile_table(PROFILES), shared_table(SHARED), capacity=4)
    a = hidden.arrays
    for row in range(2):
        for k in range(HEAPS):
            for entry in range(3):
                base = (row * HEAPS + k) * a.capacity
                steps.push(a.state[row], a.when, a.who, base, k, float(entry), 100 * row + 10 * k + entry)
    before = [hidden.snapshot(row) for row in range(2)]
    hidden.grow(16)
    after = [hidden.snapshot(row) for row in range(2)]
    for one, two in zip(before, after, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(one.who, two.who, strict=True))
        assert all(np.array_equal(x, y) for x, y in zip(one.when, two.when, strict=True))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference data set of two instruments with 1 + 1 + 2 days."""
    return small_data_set(tmp_path_factory.mktemp("data") / "reference-v2-days4", ("REF-A", "REF-B"), 2)


def test_a_built_data_set_knows_its_splits_its_truth_and_its_metaorders(small: Path) -> None:
    data = open_dataset(small)
    assert [len(data.split(s)) for s in ("train", "validation", "test")] == [2, 2, 4]
    assert data.has_truth
    period = data.split("test")[0]
    assert (period.start_ns, period.end_ns) == (clock("09:30"), clock("14:57"))
    table = data.metaorders()
    assert table is not None
    assert set(table["instrument"]) == {"REF-A", "REF-B"}
    assert set(table["date"]) == set(trading_dates(4))
    at = clock("10:15")
    truth = data.truth(period.instrument, period.date, at)
    assert truth.state["now_ns"][0] <= 45 * MINUTE < truth.state["now_ns"][0] + SECOND
    who = np.concatenate(truth.who)
    resting = data.window(period.instrument, period.date, at, at + MINUTE).book.resting["order_id"]
    assert np.isin(resting, who).all(), "every resting order belongs to somebody"


def test_a_truth_that_is_not_there_is_an_error(small: Path, tmp_path: Path) -> None:
    data = open_dataset(small)
    with pytest.raises(ValueError, match="no day REF-A 1999-01-01"):
        data.truth("REF-A", "1999-01-01", clock("10:00"))
    with pytest.raises(ValueError, match="12:00:00 does not lie in continuous trading"):
        data.truth("REF-A", data.split("test")[0].date, clock("12:00"))


def test_days_are_split_in_order_and_a_data_set_without_test_is_refused(tmp_path: Path) -> None:
    assert [reference.split_of(n) for n in (0, 59, 60, 69, 70, 109, 400)] == [
        "train", "train", "validation", "validation", "test", "test", "test",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="at least 71"):
        reference.build(tmp_path, days=70)


def test_another_length_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MARSBENCH_DATA_HOME", str(tmp_path))
    assert catalogue._parse("reference,days=250") == ("reference", {"days": 250})
    assert catalogue._embedded_folder("reference", {"days": 250}).name == "reference-v2-days250"
    for wrong in ("reference,days=x", "reference,weeks=3", "zi-market,days=3", "reference,days"):
        with pytest.raises(ValueError, match="is no option"):
            open_dataset(wrong)


def test_the_fundamental_value_and_the_large_orders_move_prices() -> None:
    """Without both, prices hardly leave their place: the order flow alone has no trend."""
    calm = replace(SHARED, news_per_day=0.0, gap_scale=0.0)
    still = {
        **PROFILES,
        "REF-A": replace(PROFILES["REF-A"], fundamental_daily=0.0, metaorders=0.0),
    }
    moved = [abs(np.log(d.trajectory.fills["price_ticks"][[0, -1]] / 5000.0)).max() for d in run("REF-A", 3)]
    stuck = [
        abs(np.log(d.trajectory.fills["price_ticks"][[0, -1]] / 5000.0)).max()
        for d in run("REF-A", 3, profiles=still, shared=calm)
    ]
    assert max(stuck) < 0.25 * max(moved)


def test_hidden_state_that_was_changed_or_made_by_another_version_is_refused(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = open_dataset(small).split("test")[0]
    monkeypatch.setattr(reference, "VERSION", 3)
    with pytest.raises(ValueError, match="made by version 2 of the market, this is 3"):
        open_dataset(small).truth(day.instrument, day.date, clock("10:00"))
    monkeypatch.undo()
    copy = tmp_path / "copy"
    shutil.copytree(small, copy)
    table = np.load(copy / reference.METAORDERS)
    table["executed_shares"] += 1
    np.save(copy / reference.METAORDERS, table)
    with pytest.raises(ValueError, match="is missing or not the file that dataset"):
        open_dataset(copy).metaorders()
    (copy / reference.TRUTH).unlink()
    with pytest.raises(ValueError, match="build the data set again"):
        open_dataset(copy).truth(day.instrument, day.date, clock("10:00"))


def test_traders_learn_from_what_an_agent_holds_not_from_how_often_it_trades() -> None:
    hidden = Hidden.empty(1, profile_table(PROFILES), shared_table(SHARED))
    s, p, c = hidden.arrays.state[0], hidden.arrays.profiles[0], hidden.arrays.shared[0]
    s["day_ticks"] = s["value"] = 5000.0
    steps.settle_agent(s, p, c, 1, 500_000)
    bought = float(s["value"])
    assert bought > 5000
    assert s["excitement"] == pytest.approx(0.2 / (25.0 * 70 / 60)), "one order excites once, whatever it fills"
    for _ in range(50):
        steps.settle_agent(s, p, c, 0, 10_000)
        steps.settle_agent(s, p, c, 1, 10_000)
    assert s["value"] == pytest.approx(bought)
    steps.settle_agent(s, p, c, 0, 1_000_000)
    assert s["value"] == pytest.approx(10_000 - bought), "as far below as it was above"
