"""The law of impact as a metric: planted laws, closeness to the truth, findings, tables and figures."""

from __future__ import annotations

import numpy as np
import pytest
from impact_of_arrays import impact_runs, nothing, square_root

from marsbench.impact_runs import ImpactRuns
from marsbench.known_answers import COVERED, measure
from marsbench.metrics._impact_statistics import Market, closeness, weights_of
from marsbench.metrics._known_impact import Planted, draw, known_impact
from marsbench.metrics.square_root_law import SquareRootLaw


def scores(runs: ImpactRuns) -> dict[str, object]:
    return {s.key: s for s in SquareRootLaw().evaluate(runs, np.random.default_rng(0)).scores}


def test_a_planted_law_is_found() -> None:
    found = scores(draw(Planted(0.5, 1.0), np.random.default_rng(1)))
    delta, y = found["square_root_law.delta"], found["square_root_law.log_y"]
    assert delta.ci_low < 0.5 < delta.ci_high  # type: ignore[attr-defined]
    assert y.ci_low < 0 < y.ci_high  # type: ignore[attr-defined]
    assert found["square_root_law.relaxation"].value == pytest.approx(1.0, abs=0.2)  # type: ignore[attr-defined]
    assert found["square_root_law.fulfilment"].value == 1  # type: ignore[attr-defined]


def test_a_generator_like_the_truth_scores_one_and_recorded_flow_zero() -> None:
    quiet = {"noise": 0.002}

    def like(runs: ImpactRuns, rng: np.random.Generator) -> np.ndarray:
        return square_root(runs, rng, **quiet)

    plan = {"starts": 40, "per_cluster": 1, "truth": like, "other_truth": like, "overlay": nothing}
    same = scores(impact_runs(like, **plan))  # type: ignore[arg-type]
    none = scores(impact_runs(nothing, **plan))  # type: ignore[arg-type]
    for key in ("impact_gap.impact", "impact_gap.path"):
        assert same[key].informative  # type: ignore[attr-defined]
        assert same[key].normalised == pytest.approx(1, abs=0.05)  # type: ignore[attr-defined]
        assert none[key].normalised == pytest.approx(0, abs=0.01)  # type: ignore[attr-defined]
        assert len(same[key].replicates) == 40  # type: ignore[attr-defined]


def test_twice_the_true_impact_is_as_far_from_it_as_none() -> None:
    def twice(runs: ImpactRuns, rng: np.random.Generator) -> np.ndarray:
        return 2 * square_root(runs, rng, noise=0.0)

    def once(runs: ImpactRuns, rng: np.random.Generator) -> np.ndarray:
        return square_root(runs, rng, noise=0.0)

    runs = impact_runs(twice, truth=once, other_truth=once)
    assert runs.truth is not None
    own, true, overlay = (Market(runs, arm, runs.daily) for arm in (runs.own, runs.truth, runs.overlay))
    weights = weights_of(own.clusters)
    assert closeness(own, true, weights)["impact"][0] == pytest.approx(1)
    assert closeness(overlay, true, weights)["impact"][0] == pytest.approx(1)
    assert closeness(own, true, weights)["exponent"][0] == pytest.approx(0, abs=1e-9)
    assert closeness(own, true, weights)["prefactor"][0] == pytest.approx(np.log(2))


def test_monotonicity_compares_neighbouring_sizes_of_the_same_start_agent_and_side() -> None:
    def by_rank(runs: ImpactRuns, rng: np.random.Generator) -> np.ndarray:
        up = runs.side > 0  # buys grow with the size, sales shrink
        level = np.where(up, runs.rank, -runs.rank)[:, None] * np.ones(runs.minutes + 1)
        level[:, 0] = 0
        return level.astype(float)

    runs = impact_runs(by_rank)
    market = Market(runs, runs.own, runs.daily)
    assert market.monotonicity(weights_of(market.clusters))[0] == 0.5
    assert market.mean(market.impact[:, 5], runs.side > 0, weights_of(market.clusters))[0] == pytest.approx(1.0)


def test_what_the_paper_finds_is_held_against_the_data() -> None:
    def deeper_moves_more(runs: ImpactRuns, rng: np.random.Generator) -> np.ndarray:
        deep = np.char.startswith(np.array(runs.agents)[runs.agent], "L5")
        path = np.ones(runs.minutes + 1) * np.where(deep, 0.2, 0.1)[:, None]
        path[:, 0] = 0
        return path + 0.01 * rng.standard_normal(path.shape)

    outcome = SquareRootLaw().evaluate(impact_runs(deeper_moves_more), np.random.default_rng(0))
    table = outcome.tables["impact_findings"]
    rows = zip(table["market"], table["finding"], table["verdict"], strict=True)
    verdicts = {finding: verdict for market, finding, verdict in rows if market == "own"}
    assert verdicts["L5-P0.1 has more impact than L1-P0.1"] == "holds"
    assert verdicts["L1-P0.9 leaves less momentum after it ends than L1-P0.1"] == "inconclusive"


def test_the_null_agent_and_the_overlay_are_always_in_the_tables() -> None:
    outcome = SquareRootLaw().evaluate(impact_runs(), np.random.default_rng(0))
    table = outcome.tables["impact_pairing"]
    assert table["market"] == ["own", "overlay"]
    assert all(value is not None for value in table["null_drift"])
    assert "the true market's reaction is not known here: nothing to be close to" in outcome.notes
    assert set(outcome.tables["impact_laws"]["normaliser"]) == {"day", "window"}


def test_runs_without_a_tail_have_no_relaxation_and_say_why() -> None:
    runs = impact_runs(minutes=5)
    found = scores(runs)
    assert found["square_root_law.relaxation"].value == pytest.approx(1)  # type: ignore[attr-defined]
    gone = impact_runs(nothing)
    reason = scores(gone)["square_root_law.delta"].reason  # type: ignore[attr-defined]
    assert reason == "no impact that a law could be fitted to"


def test_known_answers_are_of_the_form_that_is_measured() -> None:
    known = {k.process: k for k in known_impact()}
    rates = measure([known["square-root.8"]], seeds=20)
    covered = {r.property: r.right for r in rates if r.truth == COVERED}
    assert covered["exponent"] >= 0.8


def test_what_is_known_of_few_clusters_has_their_degrees_of_freedom_and_of_one_no_interval() -> None:
    every, some, one = (impact_runs(starts=40, per_cluster=1, tail_every=n) for n in (1, 10, 40))
    found = [scores(runs)["square_root_law.relaxation"] for runs in (every, some, one)]
    widths = [s.ci_high - s.ci_low for s in found[:2]]  # type: ignore[attr-defined]
    assert widths[1] > 2 * widths[0] > 0
    assert found[1].ci_method.endswith("4 of which it is about")  # type: ignore[attr-defined]
    assert found[2].ci_low is None  # type: ignore[attr-defined]
    assert found[2].reason == "1 cluster: an interval needs 2"  # type: ignore[attr-defined]
    table = SquareRootLaw().evaluate(one, np.random.default_rng(0)).tables["impact_decay"]
    assert set(table["ci_low"]) == {None}
