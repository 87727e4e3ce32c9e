"""Price paths in the tasks: scored where the mid is enough, not applicable elsewhere, never ranked by other numbers."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from example_results import result
from example_results import score as made
from markets import known_generator, start_at, two_days
from marsbench import registry, results, runner
from marsbench.evidence import TrajectoryPairs
from marsbench.experiment import score
from marsbench.leaderboard import build
from marsbench.leaderboard_text import to_markdown
from marsbench.market.paths import path_of
from marsbench.market.replay import cut
from marsbench.market.rules import MINUTE
from marsbench.market.trajectory import Trajectory
from marsbench.metrics.stylized_facts import StylizedFacts
from marsbench.page import to_html
from marsbench.scores import NOT_APPLICABLE, Outcome
from marsbench.simulation.contracts import Kind, Start
from marsbench.simulation.rollout import simulate
from marsbench.stats.facts import FACTS
from marsbench.suite import visible
from toy_paths import RandomWalk

HORIZON = 10 * MINUTE
TASK = "realism,minutes=10,single_day_rollouts=2"
CLOCKS = ("09:30", "09:40", "09:50", "10:00")


@cache
def starts() -> tuple[Start, ...]:
    return tuple(start_at(two_days()[1], text) for text in CLOCKS)


@cache
def simulated() -> tuple[tuple[Trajectory, ...], ...]:
    return tuple(map(tuple, simulate(known_generator(), starts(), 2, HORIZON, key=2)))


def evidence(paths: bool) -> TrajectoryPairs:
    """The same simulations with their orders, or as the paths of their mids."""
    real = tuple(cut(two_days()[1], s.clock_ns, s.clock_ns + HORIZON) for s in starts())
    made = tuple(tuple(map(path_of, row)) for row in simulated()) if paths else simulated()
    return TrajectoryPairs(starts(), real, made, 10)


@pytest.fixture(scope="module")
def scored() -> dict[bool, dict[str, Outcome]]:
    metrics = registry.metrics_of(registry.task(TASK))
    return {paths: score(evidence(paths), metrics, 0) for paths in (False, True)}


def test_returns_of_the_mid_are_scored_to_the_digit_and_the_rest_is_not_applicable(scored) -> None:
    full, alone = ({s.key: s for o in scored[paths].values() for s in o.scores} for paths in (False, True))
    kept = {k: s for k, s in alone.items() if s.applicable and not k.startswith(("validity.", "mid_facts."))}
    assert kept == {key: full[key] for key in kept}
    assert {key.split(".")[1] for key in kept} == {f"return_{k}min" for k in range(1, 6)}
    gone = {key: s for key, s in alone.items() if not s.applicable}
    assert all(s.value is s.normalised is s.informative is s.ci_low is None for s in gone.values())
    assert all(s.reason.startswith("not applicable: price paths only") for s in gone.values())
    assert {key for key in gone if key.startswith("facts.")} == {f"facts.{fact.key}" for fact in FACTS}
    assert set(full) - set(alone) == {k for k in full if k.startswith(("validity.", "memorisation."))} - set(alone)
    assert {k for k in alone if k.startswith("validity.")} == {"validity.book_frozen", "validity.drift"}
    assert scored[True]["memorisation"].notes == (
        "not applicable: memorisation needs orders, and the simulations are price paths alone",
    )
    assert any("price paths alone" in note for note in scored[True]["stylized-facts"].notes)


def test_facts_of_the_mid_have_keys_of_their_own_and_no_frozen_floor(scored) -> None:
    found = {s.key: s for s in scored[True]["stylized-facts"].scores if s.key.startswith("mid_facts.")}
    assert set(found) == {f"mid_facts.{fact.key}" for fact in FACTS}
    volume = found["mid_facts.10_volume_volatility_correlation"]
    assert volume.reason == "not applicable: price paths only, no trades"
    assert found["mid_facts.02_heavy_tails"].value is not None
    assert found["mid_facts.02_heavy_tails"].floor is None
    assert found["mid_facts.06_volatility_clustering"].floor is not None
    about = scored[True]["stylized-facts"].tables["facts_about"]
    assert dict(zip(about["name"], about["value"], strict=True))["prices"] == "mid"
    assert "prices" not in scored[False]["stylized-facts"].tables["facts_about"]["name"]
    assert StylizedFacts.draw(scored[True]["stylized-facts"].tables)


def test_the_mids_of_replay_are_the_measure_of_those_of_a_path(scored) -> None:
    """A path that is replay's own lies at the ceiling: the facts of the mid, not those of trades."""
    real = evidence(True)
    own = TrajectoryPairs(starts(), real.replay, tuple((path_of(t), path_of(t)) for t in real.replay), 10)
    found = {s.key: s for s in score(own, {"facts": StylizedFacts()}, 0)["facts"].scores}
    for fact in FACTS:
        one = found[f"mid_facts.{fact.key}"]
        if one.value is not None and one.ceiling is not None:
            assert one.value == pytest.approx(one.ceiling, abs=1e-12), fact.key
    bars = real.replay_bars
    assert not np.array_equal(bars.mid_half_ticks / 2, bars.last_trade_ticks)


@pytest.fixture(scope="module")
def ran(market: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, results.Result]:
    folder = tmp_path_factory.mktemp("ran")
    report = runner.run(
        [RandomWalk(), "zero-intelligence"],
        tasks=[TASK, "lob-bench", "sessions"], datasets=[str(market)], limit=3, track=False,
        results=folder / "results",
    )  # fmt: skip
    assert not report.failed, report.summary()
    return {f"{r.generator['label']} {r.task['name']}": r for r in map(results.read, report.paths)}


def test_a_run_scores_paths_and_says_where_they_do_not_apply(ran) -> None:
    walk = ran["random-walk realism"]
    assert walk.generator["kind"] == Kind.PATHS
    assert walk.cost["orders"] is None
    assert walk.cost["reason"] == "price paths have no orders"
    assert walk.scores["distribution_similarity.return_1min"].value is not None
    other = ran["random-walk lob-bench"]
    assert other.status == "not-applicable"
    assert other.reason.startswith("a generator of kind paths; task lob-bench takes")


def test_whole_sessions_are_scored_too(ran) -> None:
    walk = ran["random-walk sessions"]
    assert walk.scores["session_facts.06_volatility_clustering"].applicable is False
    assert walk.scores["mid_session_facts.06_volatility_clustering"].value is not None


def test_the_leaderboard_neither_ranks_paths_nor_lets_them_disturb_the_others(ran) -> None:
    pair = [ran["random-walk realism"], ran["zero-intelligence realism"]]
    board = build(pair)  # missing="error" does not object
    alone = build(pair[1:])
    assert board.keys == alone.keys
    rows = {row.label: row for row in board.rows}
    assert (rows["zero-intelligence"].rank, rows["zero-intelligence"].overall) == (
        alone.rows[0].rank,
        alone.rows[0].overall,
    )
    assert rows["random-walk"].rank is None
    assert "not applicable" in (rows["random-walk"].unranked or "") or not board.keys
    line = next(x for x in to_markdown(board).splitlines() if x.startswith("| mid_facts.06"))
    assert "not applicable" in line
    assert "missing: not applicable" not in to_markdown(board) + to_html(board, draw=False)


def test_an_informative_fact_of_the_mid_never_ranks() -> None:
    names = ("similarity.spread", "similarity.returns")
    one = result("one", scores=tuple(made(k, "distributions", 0.5) for k in names))
    path = result("path", scores=(*one.scores.values(), made("mid_facts.06", "facts", 0.9)))
    assert path.scores["mid_facts.06"].informative
    board = build([one, path])
    assert set(board.keys) == set(names)
    rows = {row.label: row for row in board.rows}
    assert rows["one"].overall == rows["path"].overall == 0.5
    assert rows["one"].word("mid_facts.06") == NOT_APPLICABLE


@pytest.mark.parametrize(("task", "taken"), [("realism", True), ("sessions", True), ("market-impact", False)])
def test_a_run_that_names_no_generators_takes_those_of_paths_where_the_task_does(task: str, taken: bool) -> None:
    assert ("fin-gan" in {entrant.label for entrant in visible(registry.task(task).kinds)}) is taken
