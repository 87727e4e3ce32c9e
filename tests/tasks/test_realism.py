"""The realism task: where it starts, what it pairs, and what a perfect generator would score."""

from __future__ import annotations

import numpy as np
import pytest

from markets import known_generator, two_days
from marsbench import registry
from marsbench.data.dataset import Dataset, Period, write_dataset
from marsbench.evidence import TaskContext, TrajectoryPairs
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import MINUTE, clock
from marsbench.simulation.contracts import Kind
from marsbench.simulation.rollout import simulate
from marsbench.tasks._starts import clocks, spread
from marsbench.tasks.realism import Realism


@pytest.fixture(scope="module")
def many_days(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """One instrument, a training day and a test day."""
    train, test = two_days()
    periods = [
        Period(train.instrument, train.date, train.start_ns, train.end_ns, "train"),
        Period(test.instrument, test.date, test.start_ns, test.end_ns, "test"),
        Period("ZI-B", test.date, test.start_ns, test.end_ns, "test"),
    ]
    folder = tmp_path_factory.mktemp("many")
    return write_dataset(folder, [train, test, two_days(1)[1]], periods, name="two", version=1, summary="")


@pytest.fixture(scope="module")
def one_day(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """One day: half an hour to train, an embargo, then the test period."""
    day = two_days()[1]
    periods = [
        Period(day.instrument, day.date, clock("09:30"), clock("10:00"), "train"),
        Period(day.instrument, day.date, clock("10:05"), clock("11:00"), "test"),
    ]
    return write_dataset(tmp_path_factory.mktemp("one"), [day], periods, name="one", version=1, summary="")


def context(task: Realism, dataset: Dataset, calls: list[tuple[int, int]] | None = None) -> TaskContext:
    def run(generator, starts, rollouts, horizon_ns, agents=()):  # type: ignore[no-untyped-def]
        if calls is not None:
            calls.append((rollouts, horizon_ns))
        return simulate(generator, starts, rollouts, horizon_ns, key=0)

    return TaskContext(seed=0, starts=task.starts(dataset), simulate=run)


def test_starts_lie_on_clock_minutes_inside_the_test_periods(many_days: Dataset) -> None:
    starts = Realism(minutes=10, starts_per_day=3).starts(many_days)
    assert len(starts) == 6
    for start in starts:
        assert start.clock_ns % MINUTE == 0
        assert start.date == "2024-01-03"
        assert clock("09:30") <= start.clock_ns <= clock("11:00") - 10 * MINUTE
        assert start.history.end_ns == start.clock_ns
        assert start.history.start_ns == clock("09:30")


def test_the_book_of_a_start_is_where_its_history_ends(many_days: Dataset) -> None:
    start = Realism(minutes=10).starts(many_days)[0]
    final = replay_trajectory(start.history).final
    assert np.array_equal(final.resting, start.book.resting)
    assert final.last_trade_ticks == start.book.last_trade_ticks


def test_on_many_days_a_day_of_an_instrument_is_one_cluster(many_days: Dataset) -> None:
    starts = Realism(minutes=10).starts(many_days)
    assert [s.cluster for s in starts] == ["ZI-A 2024-01-03"] * 2 + ["ZI-B 2024-01-03"] * 2


def test_of_more_starts_than_wanted_some_are_taken_evenly_and_always_the_same(many_days: Dataset) -> None:
    everything = Realism(minutes=5, starts_per_day=12, most_starts=None).starts(many_days)
    assert len(everything) == 24
    some = Realism(minutes=5, starts_per_day=12, most_starts=8).starts(many_days)
    assert [s.instrument for s in some] == ["ZI-A"] * 4 + ["ZI-B"] * 4
    places = [[s.name for s in everything].index(one.name) for one in some]
    assert [place // 3 for place in places] == list(range(8)), "one of every stretch of three"
    assert {place % 2 for place in places} == {0, 1}
    assert some[0].name == Realism(minutes=5, starts_per_day=12, most_starts=8).starts(many_days)[0].name
    with pytest.raises(ValueError, match="most_starts must be at least 1"):
        Realism(most_starts=0)


def test_the_rhythm_of_two_starts_a_day_does_not_meet_that_of_the_choice() -> None:
    for count in (50, 64, 100, 200):
        chosen = spread(list(range(400)), count)
        assert len(set(chosen)) == count
        assert 0.4 < np.mean([place % 2 for place in chosen]) < 0.6, count


def test_on_one_day_windows_follow_each_other_without_overlap_and_each_is_a_cluster(one_day: Dataset) -> None:
    starts = Realism(minutes=25).starts(one_day)
    assert [s.clock_ns for s in starts] == [clock("10:05"), clock("10:30")]
    assert len({s.cluster for s in starts}) == 2


def test_a_window_never_holds_the_lunch_break() -> None:
    class Day:
        single_day = False
        rules = staticmethod(lambda _: two_days()[0].rules)

    period = Period("X", "2024-01-03", clock("09:30"), clock("14:57"), "test")
    found = clocks(Day(), period, minutes=25, per_day=1000)  # type: ignore[arg-type]
    assert max(c for c in found if c < clock("12:00")) == clock("11:05")
    assert min(c for c in found if c > clock("12:00")) == clock("13:00")
    assert max(found) == clock("14:32")


def test_the_evidence_pairs_each_simulation_with_the_same_window_of_replay(many_days: Dataset) -> None:
    task, calls = Realism(minutes=5, rollouts=3), []
    evidence = task.run(known_generator(), many_days, context(task, many_days, calls))
    assert isinstance(evidence, TrajectoryPairs)
    assert calls == [(3, 5 * MINUTE)]
    for start, replay, row in zip(evidence.starts, evidence.replay, evidence.simulated, strict=True):
        assert len(row) == 3
        for simulated in row:
            assert (simulated.start_ns, simulated.end_ns) == (replay.start_ns, replay.end_ns)
            assert simulated.instrument == replay.instrument == start.instrument
            assert simulated.book is start.book
    assert not evidence.single_day


def test_a_single_day_takes_more_rollouts(one_day: Dataset) -> None:
    task, calls = Realism(minutes=2, rollouts=3, single_day_rollouts=5), []
    evidence = task.run(known_generator(), one_day, context(task, one_day, calls))
    assert calls == [(5, 2 * MINUTE)]
    assert evidence.single_day


def test_it_takes_sessions_files_and_paths_and_names_metrics_that_fit_its_evidence() -> None:
    assert Realism.kinds == {Kind.SESSION, Kind.TRAJECTORIES, Kind.PATHS}
    for name, parameters in Realism().metrics:
        assert registry.metric(name, **parameters).evidence is TrajectoryPairs


def test_parameters_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="rollouts must be at least 1"):
        Realism(rollouts=0)
