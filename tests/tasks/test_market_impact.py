"""The market-impact task: what is sent, what it is compared with, and in which units it is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reference as small
from markets import known_generator, two_days
from marsbench import registry
from marsbench.data.dataset import Dataset, Period, write_dataset
from marsbench.evidence import TaskContext
from marsbench.impact_runs import ImpactRuns
from marsbench.market.rules import MINUTE, clock
from marsbench.metrics.square_root_law import SquareRootLaw
from marsbench.simulation.rollout import simulate
from marsbench.tasks.market_impact import MarketImpact

TASK = MarketImpact(agents="L1-P0.1+SWEEP", sizes=2, metaorders=64, tail_every=2, tail_minutes=3, most_starts=4)


def sim(generator: Any, starts: Any, rollouts: int, horizon_ns: int, agents: Any = ()) -> Any:
    return simulate(generator, starts, rollouts, horizon_ns, key=5, agents=agents)


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A training day and a test day of each of two instruments."""
    both = [day for profile in (0, 1) for day in two_days(profile)]
    periods = [
        Period(d.instrument, d.date, d.start_ns, d.end_ns, split)
        for d, split in zip(both, ["train", "test"] * 2, strict=True)
    ]
    return write_dataset(tmp_path_factory.mktemp("impact"), both, periods, name="four", version=1, summary="")


@pytest.fixture(scope="module")
def found(days: Dataset) -> ImpactRuns:
    starts = TASK.starts(days)
    return TASK.run(known_generator(), days, TaskContext(seed=0, starts=starts, simulate=sim))


def test_every_start_gets_every_agent_side_and_size_and_as_many_rollouts_as_are_wanted(found: ImpactRuns) -> None:
    assert len(found.starts) == 2
    assert len(found.start) == 2 * 2 * 2 * 2 * 4  # starts, agents, sides, sizes, rollouts
    assert found.agents == ("L1-P0.1", "SWEEP")
    assert set(found.side.tolist()) == {1, -1}
    of_one = found.target_shares[(found.start == 0) & (found.agent == 0) & (found.side == 1)]
    assert sorted(set(of_one.tolist())) == of_one[::4].tolist()
    assert (found.target_shares % 100 == 0).all()


def test_an_arm_is_the_difference_to_the_control_arm_with_the_same_random_numbers(found: ImpactRuns) -> None:
    """Made again by hand: the first start, the second rollout, a sweep that sells the larger size."""
    from marsbench.simulation.execution import SELL, Metaorder, Sweep

    i = int(np.flatnonzero((found.start == 0) & (found.agent == 1) & (found.side == SELL) & (found.rank == 1))[1])
    start = found.starts[0]
    sold = [Sweep().trades({(start.name, 0): Metaorder(SELL, int(found.target_shares[i]))})]
    minutes = found.minutes if np.isfinite(found.own.path[i, -1]) else found.trading_minutes
    one, other = (sim(known_generator(), [start], 4, minutes * MINUTE, agents=a)[0][1] for a in (sold, []))

    def mid(t: Any, minute: int) -> float:
        from marsbench.labels import Mids

        return float(np.log(Mids.of(t).at(t.rules.trading_ns(t.start_ns) + minute * MINUTE)))

    for minute in (1, 5):
        assert found.own.path[i, minute] == pytest.approx(-(mid(one, minute) - mid(other, minute)), abs=1e-12)
    own = one.fills[one.fills["ask_owner"] == 1]
    assert found.own.executed_shares[i] == own["size_shares"].sum()
    assert found.own.passive_shares[i] == 0
    assert found.own.price_ticks[i] == pytest.approx(np.average(own["price_ticks"], weights=own["size_shares"]))


def test_paths_begin_at_nothing_and_only_tails_go_on(found: ImpactRuns) -> None:
    for arm in (found.own, found.overlay):
        assert (arm.path[:, 0] == 0).all()
        followed = np.isfinite(arm.path[:, -1])
        assert followed.any()
        assert set(found.start[followed].tolist()) == {0}
        assert np.isnan(arm.path[found.start == 1][:, found.trading_minutes + 1 :]).all()


def test_a_sweep_moves_the_price_and_recorded_flow_pushes_it_back(found: ImpactRuns) -> None:
    large = (found.agent == 1) & (found.rank == 1)
    assert found.own.path[large, 1].mean() > 0
    assert np.nanmean(found.overlay.path[large & (found.start == 0), -1]) < found.overlay.path[large, 1].mean()


def test_units_are_those_of_the_training_day(days: Dataset, found: ImpactRuns) -> None:
    (training,) = (p for p in days.split("train") if p.instrument == "ZI-A")
    bars, minutes = days.bars(training), 237
    assert found.daily.sigma[0] == pytest.approx(np.sqrt(np.nanmean(bars.mid_returns() ** 2) * minutes))
    assert found.daily.shares[0] == pytest.approx(bars.volume_shares.mean() * minutes)
    start = found.starts[0]
    before = days.window(start.instrument, start.date, start.clock_ns - 30 * MINUTE, start.clock_ns)
    assert found.window.shares[0] == pytest.approx(before.fills["size_shares"].sum() / 6)
    assert found.before.traded_shares[0].sum() == before.fills["size_shares"].sum()
    bought = before.fills["size_shares"][before.fills["side"] == 1].sum()
    assert found.before.signed_shares[0].sum() == 2 * int(bought) - int(before.fills["size_shares"].sum())
    after = days.window(start.instrument, start.date, start.clock_ns, start.clock_ns + 5 * MINUTE)
    assert found.replay_shares[0] == after.fills["size_shares"].sum()


def test_the_picture_of_one_metaorder_ends_where_its_path_does(found: ImpactRuns) -> None:
    one = found.example
    assert one is not None
    assert one.mid_with[0] == one.mid_without[0]
    i = int(np.flatnonzero((found.start == 0) & (found.agent == 0) & (found.side == 1) & (found.rank == 1))[0])
    assert np.log(one.mid_with[-1] / one.mid_without[-1]) == pytest.approx(found.own.path[i, -1])
    assert one.event_shares.sum() == one.executed_shares == found.own.executed_shares[i]


def test_the_control_arm_is_judged_for_validity(found: ImpactRuns) -> None:
    assert {s.group for s in found.validity()} == {"validity"}


def test_the_metric_scores_it_without_a_truth(found: ImpactRuns) -> None:
    outcome = SquareRootLaw().evaluate(found, np.random.default_rng(0))
    keys = {s.key for s in outcome.scores}
    assert "square_root_law.delta" in keys
    assert not any(key.startswith("impact_gap") for key in keys)
    assert set(SquareRootLaw.draw(outcome.tables)) == {
        "impact_law", "impact_fulfilment", "impact_path", "impact_example",
    }  # fmt: skip


def test_the_truth_is_the_reference_market_from_its_hidden_state(tmp_path: Path) -> None:
    data = Dataset(small.small_data_set(tmp_path / "reference", ("REF-A", "REF-D"), 2))
    task = MarketImpact(agents="L1-P0.1", sizes=2, metaorders=16, tail_every=2, tail_minutes=2, most_starts=4)
    starts = task.starts(data)
    oracle = registry.generator("reference")
    from dataclasses import replace

    hidden = [replace(s, oracle=data.truth(s.instrument, s.date, s.clock_ns)) for s in starts]
    runs = task.run(oracle, data, TaskContext(seed=0, starts=hidden, simulate=sim))
    assert runs.truth is not None
    assert runs.other_truth is not None
    assert runs.rollouts(runs.truth) == 2
    assert len(runs.truth.path) == 2 * len(runs.start)
    n = len(runs.start)
    paths = [runs.own.path, runs.other_truth.path, runs.truth.path[:n], runs.truth.path[n:]]
    for k, one in enumerate(paths):
        for other in paths[k + 1 :]:
            assert not np.array_equal(one, other)
    share = runs.target_shares / runs.daily.shares[runs.start]
    own = data.metaorders()
    assert own is not None
    assert share.max() < 1.2 * own["executed_shares"].max() / runs.daily.shares.min()
    outcome = SquareRootLaw().evaluate(runs, np.random.default_rng(0))
    gaps = [s for s in outcome.scores if s.key.startswith("impact_gap.")]
    assert len(gaps) == 7
    assert all(s.direction == "lower" and s.floor is not None for s in gaps)


def test_on_a_single_day_starts_follow_each_other_and_blocks_are_the_unit(tmp_path: Path) -> None:
    day = two_days()[1]
    periods = [
        Period(day.instrument, day.date, day.start_ns, clock("10:00"), "train"),
        Period(day.instrument, day.date, clock("10:00"), day.end_ns, "test"),
    ]
    data = write_dataset(tmp_path / "one", [day], periods, name="one", version=1, summary="")
    starts = MarketImpact().starts(data)
    assert (np.diff([s.clock_ns for s in starts]) == 5 * MINUTE).all()
    assert len({s.cluster for s in starts}) == 3


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"agents": "TWAP"}, "unknown agent"),
        ({"sizes": 0}, "sizes must be"),
        ({"lowest": 0.1, "highest": 0.01}, "lowest"),
        ({"trading_minutes": 3}, "longer than trading_minutes"),
        ({"most_starts": 0}, "most_starts"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(wrong: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        MarketImpact(**wrong)


def test_what_a_task_simulates_beside_its_generator_does_not_count_as_its_cost(days: Dataset, tmp_path: Path) -> None:
    from marsbench.rollouts import Rollouts, Source
    from marsbench.simulation.overlay import Overlay

    own, starts = known_generator(), TASK.starts(days)
    recorded = {s.name: days.window(s.instrument, s.date, s.clock_ns, s.clock_ns + MINUTE) for s in starts}
    rollouts = Rollouts(own, Source(own, None, "own"), None, days.content_hash, 0, tmp_path)
    rollouts.simulate(Overlay(recorded), starts, 1, MINUTE)
    assert (rollouts.orders, rollouts.simulate_s, rollouts.rates) == (0, 0.0, [])
    rollouts.simulate(own, starts, 1, MINUTE)
    assert rollouts.orders
    assert rollouts.simulate_cpu_s > 0
