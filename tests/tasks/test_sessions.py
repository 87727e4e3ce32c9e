"""The sessions task: when it starts and ends, what it refuses, and what it pairs."""

from __future__ import annotations

import numpy as np
import pytest

from markets import known_generator, two_days
from marsbench import registry
from marsbench.data.dataset import Dataset, Period, write_dataset
from marsbench.evidence import TaskContext
from marsbench.market.rules import MINUTE, clock
from marsbench.simulation.rollout import simulate
from marsbench.tasks.sessions import Sessions


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A training day, and two test days of which one begins later."""
    train, test = two_days()
    periods = [
        Period(train.instrument, train.date, train.start_ns, train.end_ns, "train"),
        Period(test.instrument, test.date, test.start_ns, test.end_ns, "test"),
        Period("ZI-B", test.date, clock("09:40"), test.end_ns, "test"),
    ]
    folder = tmp_path_factory.mktemp("sessions")
    return write_dataset(folder, [train, test, two_days(1)[1]], periods, name="two", version=1, summary="")


def test_a_session_starts_after_the_warm_up_and_ends_with_the_shortest_day(days: Dataset) -> None:
    task = Sessions(warm_up=5)
    starts = task.starts(days)
    first, later = starts
    assert (first.clock_ns, later.clock_ns) == (clock("09:35"), clock("09:45"))
    assert first.history.end_ns == first.clock_ns
    assert [s.cluster for s in starts] == ["ZI-A 2024-01-03", "ZI-B 2024-01-03"]

    def run(generator, starts, rollouts, horizon_ns, agents=()):  # type: ignore[no-untyped-def]
        return simulate(generator, starts, rollouts, horizon_ns, key=0)

    generator = known_generator()
    evidence = task.run(generator, days, TaskContext(seed=0, starts=starts, simulate=run))
    whole = days.rules(days.split("test")[0])
    left = int(whole.trading_ns(days.split("test")[1].end_ns) - whole.trading_ns(later.clock_ns)) // MINUTE
    assert evidence.minutes == left
    assert evidence.rollouts == 1
    for start, replay, (simulated,) in zip(starts, evidence.replay, evidence.simulated, strict=True):
        assert replay.start_ns == simulated.start_ns == start.clock_ns
        assert replay.end_ns == simulated.end_ns
    assert evidence.replay_bars.last_trade_ticks.shape == (2, left + 1)


def test_fewer_sessions_are_spread_over_the_test_period(days: Dataset) -> None:
    assert len(Sessions(most_sessions=2).starts(days)) == 2


def test_a_single_day_is_refused_with_the_way_out(tmp_path) -> None:  # type: ignore[no-untyped-def]
    day = two_days()[1]
    periods = [Period(day.instrument, day.date, clock("10:00"), clock("11:00"), "test")]
    data = write_dataset(tmp_path, [day], periods, name="one", version=1, summary="")
    with pytest.raises(ValueError, match=r"at least 2 whole test days; one has 1.*realism"):
        Sessions().starts(data)


@pytest.mark.parametrize("wrong", [{"warm_up": 0}, {"rollouts": 0}, {"most_sessions": 1}])
def test_impossible_parameters_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="sessions: "):
        Sessions(**wrong)


def test_it_is_registered_and_part_of_the_default_but_not_of_what_is_quick() -> None:
    assert isinstance(registry.task("sessions,most_sessions=8"), Sessions)
    from marsbench.suite import Suite, read

    assert "sessions" in Suite().tasks
    assert "sessions" not in read("quick").tasks
    assert np.all([name == "stylized-facts" for name, _ in Sessions().metrics])
