"""Scores of the learned ODE: planted trajectories, what is left out, tables and figures."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from impact_of_arrays import impact_runs, nothing

from marsbench import registry
from marsbench.impact_runs import ImpactRuns
from marsbench.metrics.impact_ode import FACTORS, ImpactOde, cases, factors_of
from marsbench.scores import Outcome, Score
from marsbench.stats.impact_decays import PAPER, basis
from marsbench.stats.impact_ode_errors import READINGS, base_paths

WEIGHTS = np.array([[0.05, -0.03], [0, 0], [0, 0], [0, 0], [0, 0.04], [0, 0], [0.06, 0], [-0.1, 0.1]])
"""Of the seven factors, standardised, and the factor 1."""


def evaluate(evidence: ImpactRuns, **parameters: Any) -> Outcome:
    return ImpactOde(**parameters).evaluate(evidence, np.random.default_rng(0))


def scores(evidence: ImpactRuns, **parameters: Any) -> dict[str, Score]:
    return {s.key: s for s in evaluate(evidence, **parameters).scores}


def solution(
    runs: ImpactRuns, rng: np.random.Generator, *, weights: np.ndarray = WEIGHTS, noise: float = 0.01
) -> np.ndarray:
    """Paths of the ODE with these weights from minute 1."""
    x = factors_of(runs)
    z = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)
    drive = np.concatenate([z, np.ones((len(z), 1))], axis=1) @ weights
    times = np.arange(1.0, runs.minutes + 1)
    after = drive @ basis(times, list(PAPER.values())).T + 0.1 * rng.standard_normal((len(z), 1))
    after += np.cumsum(noise * rng.standard_normal(after.shape), axis=1)
    return np.concatenate([np.zeros((len(z), 1)), after], axis=1)


def base(runs: ImpactRuns, rng: np.random.Generator, *, noise: float = 0.01) -> np.ndarray:
    """Paths of equation 14 with 1/sqrt(t)."""
    drive, times = factors_of(runs)[:, 0], np.arange(1.0, runs.minutes + 1)
    after = base_paths(0.1 * rng.standard_normal(len(drive)), drive, times, READINGS["inverse_sqrt"])
    after += np.cumsum(noise * rng.standard_normal(after.shape), axis=1)
    return np.concatenate([np.zeros((len(drive), 1)), after], axis=1)


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return evaluate(impact_runs(solution, starts=40))


def test_a_planted_ode_is_foretold_better_than_every_base(outcome: Outcome) -> None:
    found = {s.key: s for s in outcome.scores}
    mse = found["impact_ode.held_out_mse"]
    assert (mse.direction, mse.group, mse.n, mse.clusters) == ("lower", "impact", 240, 20)
    assert mse.value == pytest.approx(0.01**2 * 10, rel=0.3)  # a walk of 19 steps
    assert mse.value < mse.floor  # type: ignore[operator]
    assert mse.ceiling is None
    assert "no ceiling" in str(mse.reason)
    for over in ("base", "free_base"):
        for reading in READINGS:
            gain = found[f"impact_ode.gain_over_{over}.{reading}"]
            assert gain.direction == "none"
            assert gain.ci_low is not None
            assert gain.ci_low > 0
    best = min(found[f"impact_ode.gain_over_free_base.{reading}"].value for reading in READINGS)  # type: ignore[type-var]
    assert mse.floor - mse.value == pytest.approx(best)  # type: ignore[operator]


def test_planted_weights_stand_in_the_table_beside_those_of_the_paper(outcome: Outcome) -> None:
    table = outcome.tables["ode_weights"]
    assert table["factor"] == [name for name in (*FACTORS, "1") for _ in range(2)]
    assert table["decay"] == ["1/t", "1/sqrt(t)"] * 8
    free = np.array(table["free_weight"])
    np.testing.assert_allclose(free, WEIGHTS.ravel(), atol=0.02)
    low, high = (np.array(table[f"free_{end}"]) for end in ("ci_low", "ci_high"))
    assert ((low <= WEIGHTS.ravel()) & (WEIGHTS.ravel() <= high)).sum() >= 13
    assert np.abs(np.array(table["weight"])).sum() <= np.abs(free).sum()
    paper = dict(zip(zip(table["factor"], table["decay"], strict=True), table["paper"], strict=True))
    assert paper["resiliency", "1/t"] == 1.65
    assert paper["sqrt(Q/V)", "1/sqrt(t)"] == -0.94
    assert paper["1", "1/t"] is None


def test_tables_hold_errors_autocorrelations_and_mean_paths(outcome: Outcome) -> None:
    errors = outcome.tables["ode_errors"]
    assert errors["model"] == ["learned", "base.inverse_sqrt", "base.inverse", "free.inverse_sqrt", "free.inverse"]
    assert min(errors["mse"]) == errors["mse"][0]
    assert errors["gain"][0] is None
    lags = outcome.tables["ode_autocorrelation"]
    assert lags["lag"] == [1, 2, 3, 4, 5]
    assert lags["truth"] == [s.value for s in outcome.scores if "autocorrelation" in s.key]
    assert lags["truth"] == sorted(lags["truth"], reverse=True)
    np.testing.assert_allclose(lags["learned"], lags["truth"], atol=0.05)
    paths = outcome.tables["ode_paths"]
    assert paths["minute"] == list(range(1, 21))
    np.testing.assert_allclose(paths["learned"], paths["truth"], atol=0.02)
    assert np.abs(np.array(paths["base_inverse"]) - paths["truth"]).max() > 0.02


def test_the_gain_over_the_floor_is_that_over_the_better_free_base(outcome: Outcome) -> None:
    found = {s.key: s for s in outcome.scores}
    (low, high), mse = ImpactOde.gains(outcome.tables)["impact_ode.held_out_mse"], found["impact_ode.held_out_mse"]
    assert low < mse.value - mse.floor < high < 0  # type: ignore[operator]
    assert ImpactOde.gains({}) == {}


def test_nothing_is_gained_over_a_base_that_is_the_truth() -> None:
    found = scores(impact_runs(base, starts=40))
    for over in ("base", "free_base"):
        assert found[f"impact_ode.gain_over_{over}.inverse_sqrt"].ci_low <= 0  # type: ignore[operator]
    assert found["impact_ode.gain_over_base.inverse"].ci_low > 0  # type: ignore[operator]


def test_only_metaorders_of_the_agent_with_a_whole_path_and_all_factors_count() -> None:
    runs = impact_runs(solution, starts=40, tail_every=4)
    first = replace(runs.before, mids_ticks=np.where(np.arange(40)[:, None] == 4, np.nan, runs.before.mids_ticks))
    runs = replace(runs, before=first)
    found = cases(runs, "L5-P0.1")
    assert (found.metaorders, found.known, found.used, found.clusters) == (240, 60, 54, 9)
    assert found.data is not None
    assert found.data.paths.shape == (54, 20)
    assert (found.drive == found.data.factors[:, 0]).all()
    outcome = evaluate(runs, agent="L5-P0.1")
    assert "180 have no path to minute 20, 6 lack a factor" in outcome.notes[0]
    about = dict(zip(*outcome.tables["ode_about"].values(), strict=True))
    assert (about["agent"], about["trajectories"], about["path_known"]) == ("L5-P0.1", "54", "60")
    whole = scores(impact_runs(solution, starts=40))["impact_ode.held_out_mse"]
    assert len(whole.replicates) == 20
    assert {s.replicates for s in outcome.scores} == {()}  # other clusters than another generator may have


def test_factors_are_those_of_the_paper() -> None:
    runs = impact_runs(nothing, starts=4)
    x = factors_of(runs)
    executed, start = runs.own.executed_shares, runs.start
    np.testing.assert_allclose(x[:, 0], np.sqrt(executed / runs.daily.shares[start]))
    np.testing.assert_allclose(x[:, 1], runs.before.mids_ticks[start, -1] * 0.01)
    np.testing.assert_allclose(x[:, 2], executed / runs.replay_shares[start])
    np.testing.assert_allclose(x[:, 3], executed / runs.own.window_shares)
    ask, bid = (side.sum(axis=1)[start] for side in (runs.before.ask_shares, runs.before.bid_shares))
    np.testing.assert_allclose(x[:, 4], np.log((ask + bid) / 2))
    assert (x[:, 5] >= 0).all()
    assert np.isfinite(x).all()


@pytest.mark.parametrize(
    ("parameters", "changed", "why"),
    [
        ({"agent": "TWAP"}, {}, "no metaorders of agent 'TWAP'; there are some of L1-P0.1, L5-P0.1"),
        ({}, {"starts": 1}, "6 of 6 metaorders of L1-P0.1, in 1 cluster"),
        ({}, {"starts": 4}, "in 2 clusters, have all factors and a path to minute 20"),
        ({}, {"starts": 40, "tail_every": 41, "sides": (1,)}, "3 of 120 metaorders"),
        ({"first_minute": 20}, {}, "runs of 20 minutes have no path after minute 20"),
    ],
)
def test_what_cannot_be_scored_says_why(parameters: dict[str, Any], changed: dict[str, Any], why: str) -> None:
    outcome = evaluate(impact_runs(solution, **changed), **parameters)
    assert {s.value for s in outcome.scores} == {None}
    assert len(outcome.scores) == 10
    assert all(why in str(s.reason) for s in outcome.scores)
    assert ImpactOde.draw(outcome.tables) == {}


def test_a_market_without_impact_has_no_autocorrelation_and_says_so() -> None:
    found = scores(impact_runs(nothing, starts=40))
    assert found["impact_ode.held_out_mse"].value == 0
    assert "all trajectories agree" in str(found["impact_ode.autocorrelation.lag1"].reason)


def test_minute_zero_is_no_beginning() -> None:
    with pytest.raises(ValueError, match="first_minute 0"):
        ImpactOde(first_minute=0)
    later = evaluate(impact_runs(partial(solution, noise=0.02), starts=20), first_minute=5)
    assert later.tables["ode_paths"]["minute"] == list(range(5, 21))


def test_it_is_found_by_its_name() -> None:
    assert registry.lookup("metrics", "impact-ode") is ImpactOde


def test_figures_are_drawn_from_the_tables_alone(outcome: Outcome, tmp_path: Any) -> None:
    figures = ImpactOde.draw(outcome.tables)
    assert set(figures) == {"figure_9b", "figure_26", "impact_ode_paths"}
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
