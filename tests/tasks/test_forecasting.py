"""The forecasting task: what it asks, where classes come from, what rollouts and reality are compared by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from markets import known_generator, two_days
from marsbench.data.dataset import Dataset, Period, write_dataset
from marsbench.evidence import TaskContext, TrajectoryPairs
from marsbench.forecasts import Forecasts
from marsbench.labels import LABELS, Mids, realised_volatility
from marsbench.market.rules import MINUTE, clock
from marsbench.questions import Target
from marsbench.simulation.rollout import simulate
from marsbench.stats.classes import MISSING, classify, tercile_edges
from marsbench.tasks.forecasting import Forecasting

TASK = Forecasting(minutes=2, rollouts=3, starts_per_day=4)


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A training day and a test day of each of two instruments."""
    both = [day for profile in (0, 1) for day in two_days(profile)]
    periods = [
        Period(d.instrument, d.date, d.start_ns, d.end_ns, split)
        for d, split in zip(both, ["train", "test"] * 2, strict=True)
    ]
    return write_dataset(tmp_path_factory.mktemp("forecasting"), both, periods, name="four", version=1, summary="")


@pytest.fixture(scope="module")
def found(days: Dataset) -> tuple[Forecasts, list[Any]]:
    starts, rolled = TASK.starts(days), []

    def run(generator: Any, starts: Any, rollouts: int, horizon_ns: int, agents: Any = ()) -> Any:
        assert (rollouts, horizon_ns) == (3, 2 * MINUTE)
        rolled.extend(simulate(generator, starts, rollouts, horizon_ns, key=0))
        return rolled

    return TASK.run(known_generator(), days, TaskContext(seed=0, starts=starts, simulate=run)), rolled


def edges(days: Dataset, instrument: str) -> np.ndarray:
    """Terciles of every minute of the training day, by their definition ``[T, 2]``."""
    (period,) = (p for p in days.split("train") if p.instrument == instrument)
    mids, rules = Mids.of(days.trajectory(period)), days.rules(period)
    phases = [(p.start_ns, p.end_ns) for p in rules.continuous]

    def inside(minutes: int) -> np.ndarray:
        clocks = range(period.start_ns, period.end_ns - minutes * MINUTE + 1, MINUTE)
        fits = [m for m in clocks if any(a <= m and m + minutes * MINUTE <= b for a, b in phases)]
        return np.asarray(rules.trading_ns(np.array(fits)))

    return np.stack([tercile_edges(number(mids, inside(target.minutes), target)) for target in TASK.targets])


def number(mids: Mids, at: np.ndarray, target: Target) -> np.ndarray:
    if target.kind == "trend":
        return LABELS["mars"].moves(mids, at, target.minutes)
    return realised_volatility(mids, at, target.minutes)


def test_both_kinds_of_target_over_each_horizon_come_from_the_same_rollouts(found: tuple[Forecasts, list[Any]]) -> None:
    evidence, _ = found
    assert [t.key for t in evidence.targets] == ["trend.1m", "trend.2m", "volatility.1m", "volatility.2m"]
    assert evidence.votes is not None
    assert evidence.votes.shape == (8, 3, 4)
    assert evidence.observed.shape == evidence.before.shape == (8, 4)
    assert [s.cluster for s in evidence.starts] == ["ZI-A 2024-01-03"] * 4 + ["ZI-B 2024-01-03"] * 4
    assert any(score.key.startswith("validity.") for score in evidence.validity())


def test_classes_are_those_of_the_definitions_with_edges_of_training(
    days: Dataset, found: tuple[Forecasts, list[Any]]
) -> None:
    evidence, rolled = found
    assert evidence.votes is not None
    for s, start in enumerate(evidence.starts):
        own, rules = edges(days, start.instrument), start.rules
        at = np.array([rules.trading_ns(start.clock_ns)])
        path = Mids.of(days.history(start.instrument, start.date, start.clock_ns + 3 * MINUTE))
        for t, target in enumerate(evidence.targets):
            assert evidence.observed[s, t] == classify(number(path, at, target), own[t])[0]
            assert evidence.before[s, t] == classify(number(path, at - target.minutes * MINUTE, target), own[t])[0]
            votes = [classify(number(Mids.of(one), at, target), own[t])[0] for one in rolled[s]]
            assert evidence.votes[s, :, t].tolist() == votes
    assert (evidence.observed != MISSING).all()
    assert evidence.training_shares == pytest.approx(np.full((4, 3), 1 / 3), abs=0.06)


def test_validity_is_that_of_the_same_rollouts_beside_replay(days: Dataset, found: tuple[Forecasts, list[Any]]) -> None:
    evidence, rolled = found
    windows = [days.window(s.instrument, s.date, s.clock_ns, s.clock_ns + 2 * MINUTE) for s in evidence.starts]
    pairs = TrajectoryPairs(evidence.starts, tuple(windows), tuple(map(tuple, rolled)), 2)
    assert evidence.validity() == pairs.validity()


def test_what_comes_after_a_start_is_not_known_to_the_generator(found: tuple[Forecasts, list[Any]]) -> None:
    evidence, _ = found
    assert all(start.history.end_ns == start.clock_ns for start in evidence.starts)


def test_starts_are_spread_and_leave_room_for_the_longest_horizon(days: Dataset) -> None:
    starts = Forecasting(minutes=5, starts_per_day=6, most_starts=3).starts(days)
    assert len(starts) == 3
    assert all(s.clock_ns + 5 * MINUTE <= days.split("test")[0].end_ns for s in starts)


def test_an_instrument_without_training_minutes_is_an_error(tmp_path: Any) -> None:
    day = two_days()[1]
    periods = [Period(day.instrument, day.date, clock("09:31"), day.end_ns, "test")]
    data = write_dataset(tmp_path, [day], periods, name="bare", version=1, summary="")
    with pytest.raises(ValueError, match=r"bare has no training minutes of \['ZI-A'\] to take classes from"):
        TASK.run(known_generator(), data, TaskContext(seed=0, starts=TASK.starts(data), simulate=simulate))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"minutes": 0}, "minutes must be at least 1, got 0"),
        ({"rollouts": 0}, "rollouts must be at least 1"),
        ({"most_starts": 0}, "most_starts must be at least 1, or none for all"),
        ({"label": "lse"}, "label='lse'; choose one of mars, mars-time"),
    ],
)
def test_parameters_out_of_range_are_errors(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Forecasting(**parameters)
