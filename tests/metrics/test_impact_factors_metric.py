"""Scores of impact factors: planted ones are seen, missing data is said, tables and figures are complete."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from impact_of_arrays import impact_runs, square_root

from marsbench.impact_runs import ImpactRuns
from marsbench.metrics import _known_factors as known
from marsbench.metrics._factor_tables import CORRELATED
from marsbench.metrics.impact_factors import ImpactFactors, factor_gain, rank_correlation
from marsbench.scores import Outcome, Score
from marsbench.stats.factor_search import standardised
from marsbench.stats.impact_factors import FACTORS, PAPER
from marsbench.stats.verdicts import PRESENT


def resilient(runs: ImpactRuns, rng: np.random.Generator, *, strength: float = -0.4) -> np.ndarray:
    """Square-root impact, less of it the more resilient the price was."""
    factor = standardised(FACTORS["resiliency"].compute(runs, runs.own))
    return square_root(runs, rng, noise=0.002) * (1 + strength * factor)[:, None]


def evaluate(evidence: ImpactRuns, permutations: int = 1, **parameters: Any) -> Outcome:
    return ImpactFactors(permutations=permutations, **parameters).evaluate(evidence, np.random.default_rng(0))


def scores(outcome: Outcome) -> dict[str, Score]:
    return {s.key.removeprefix("impact_factors."): s for s in outcome.scores}


PLANTED = impact_runs(resilient, starts=60, per_cluster=1)


@cache
def planted() -> Outcome:
    return evaluate(PLANTED, permutations=19)


def test_a_planted_factor_of_mars_gains_and_the_others_do_not() -> None:
    found = scores(planted())
    one = found["gain.resiliency"]
    assert one.value is not None
    assert one.ci_low is not None
    assert one.value > 0.05
    assert one.ci_low > 0
    assert (one.n, one.clusters, one.group, one.direction) == (60 * 24, 60, "impact", "none")
    assert len(one.replicates) == 60
    assert found["gain.lob_depth"].value == pytest.approx(0, abs=0.02)
    assert found["correlation.resiliency"].ci_high < 0  # type: ignore[operator]
    assert abs(found["correlation.lob_depth"].value) < 0.3 * abs(found["correlation.resiliency"].value)  # type: ignore[arg-type]


def test_the_search_finds_it_and_says_how_sure_it_is() -> None:
    found = scores(planted())["search_gain"]
    assert found.value is not None
    assert found.value > 0.05
    table = planted().tables["factor_search"]
    assert table["search"] == ["sparse", "genetic", "best"]
    assert table["p"] == [0.05] * 3
    assert "resiliency" in table["expression"][0]
    assert any("p = 0.05 against 19 searches" in note for note in planted().notes)


def test_every_term_and_factor_has_a_row_that_says_whether_it_foretells() -> None:
    table = planted().tables["factor_terms"]
    assert set(table["factor"]) == set(FACTORS)
    row = {
        t: dict(zip(table, values, strict=True))
        for t, values in zip(table["term"], zip(*table.values(), strict=True), strict=True)
    }
    assert row["resiliency"]["chosen"]
    assert row["resiliency"]["predictive"] == "yes"
    assert row["resiliency"]["inclusion"] > 0.8
    assert row["resiliency"]["coefficient"] < 0
    assert row["lob_pressure"]["predictive"] == "no"
    assert row["lob_pressure"]["inclusion"] is None
    assert "foretells nothing" in row["lob_pressure"]["about"]
    assert "the same for every metaorder" in row["volatility_ratio"]["about"]


def test_with_what_happened_after_the_start_the_search_has_more_candidates() -> None:
    table = evaluate(impact_runs(starts=24, per_cluster=1), after_trade=True).tables["factor_terms"]
    assert "participation x sqrt(Q/V)" in table["term"]
    assert "participation x sqrt(Q/V)" not in planted().tables["factor_terms"]["term"]


def test_bins_hold_all_metaorders_of_each_agent() -> None:
    table = planted().tables["factor_bins"]
    assert set(table["factor"]) == set(PAPER)
    assert set(table["agent"]) == set(PLANTED.agents)
    assert sum(table["count"]) == 3 * len(PLANTED.start)
    first = [
        i
        for i, (f, a) in enumerate(zip(table["factor"], table["agent"], strict=True))
        if f == "resiliency" and a == "L1-P0.1"
    ]
    impact = [table["mean_impact"][i] for i in first]
    assert impact[0] > impact[-1]
    assert all(table["ci_low"][i] < table["mean_impact"][i] < table["ci_high"][i] for i in first)


def test_correlations_stand_beside_those_of_the_paper() -> None:
    table = planted().tables["factor_correlations"]
    ours, paper = (np.reshape(table[name], (5, 5)) for name in ("correlation", "paper"))
    assert table["column"][:5] == list(CORRELATED)
    assert np.diag(ours) == pytest.approx(1)
    assert ours == pytest.approx(ours.T)
    assert np.array_equal(paper, paper.T)
    assert paper[0, 4] == 0.4


def test_metaorders_without_impact_or_history_are_left_out_and_counted() -> None:
    whole = impact_runs(starts=40, per_cluster=1)
    path, mids = whole.own.path.copy(), whole.before.mids_ticks.copy()
    path[:30] = np.nan
    mids[5, 0] = np.nan
    outcome = evaluate(replace(whole, own=replace(whole.own, path=path), before=replace(whole.before, mids_ticks=mids)))
    about = dict(zip(outcome.tables["factor_about"]["name"], outcome.tables["factor_about"]["value"], strict=True))
    assert about["dropped"] == str(30 + 24)
    assert any(note.startswith("54 of 960 metaorders are left out") for note in outcome.notes)
    assert scores(outcome)["gain.lob_depth"].n == 960 - 54


def test_a_factor_that_most_metaorders_lack_is_left_out_instead_of_them() -> None:
    outcome = evaluate(impact_runs(starts=20, per_cluster=1, minutes_before=6))
    found = scores(outcome)
    assert found["correlation.return_10m"].value is None
    assert "missing for 100%" in str(found["correlation.return_10m"].reason)
    assert found["correlation.return_5m"].value is not None
    assert found["gain.resiliency"].n == 480


def test_too_few_clusters_have_no_scores_and_say_why() -> None:
    outcome = evaluate(impact_runs(starts=9, per_cluster=1))
    assert {s.value for s in outcome.scores} == {None}
    assert scores(outcome)["search_gain"].reason == (
        "9 clusters of metaorders with known impact and factors: 10 are needed"
    )
    assert set(scores(outcome)) == set(scores(planted()))
    assert ImpactFactors.draw(outcome.tables) == {}
    with pytest.raises(ValueError, match="permutations must be 1 or more"):
        ImpactFactors(permutations=0)


def test_nothing_is_scored_where_no_path_is_known() -> None:
    whole = impact_runs(starts=12, per_cluster=1)
    found = scores(evaluate(replace(whole, own=replace(whole.own, path=np.full_like(whole.own.path, np.nan)))))
    assert "0 clusters of metaorders" in str(found["gain.resiliency"].reason)


def test_the_same_generator_of_random_numbers_gives_the_same_outcome() -> None:
    small = impact_runs(starts=20, per_cluster=1)
    assert evaluate(small).tables == evaluate(small).tables


def test_rank_correlation_is_spearmans_within_strata() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(1)
    x = rng.standard_normal(60)
    y, clusters = x + rng.standard_normal(60), np.repeat(np.arange(12), 5)
    one, interval = rank_correlation(x, y, np.zeros(60, np.int64), clusters)
    assert one == pytest.approx(spearmanr(x, y).statistic)
    assert interval.low < one < interval.high
    stratum = np.tile([0, 1], 30)
    apart, _ = rank_correlation(x, y + 100 * stratum, stratum, clusters)
    wanted = [spearmanr(x[stratum == s], y[stratum == s]).statistic for s in (0, 1)]
    assert apart == pytest.approx(np.mean(wanted))
    assert np.isnan(rank_correlation(np.ones(60), y, stratum, clusters)[0])


def test_the_gain_of_noise_is_not_above_zero() -> None:
    rng = np.random.default_rng(2)
    clusters = np.repeat(np.arange(30), 10)
    size, noise = rng.random(300), rng.standard_normal(30)[clusters]
    value, interval = factor_gain(noise, size, size + rng.standard_normal(300), clusters)
    assert value < 0.01
    assert interval.low < 0


def test_figures_are_drawn_from_the_tables_alone(tmp_path: Any) -> None:
    figures = ImpactFactors.draw(planted().tables)
    assert set(figures) == {
        "impact_by_resiliency",
        "impact_by_lob_pressure",
        "impact_by_lob_depth",
        "factor_correlations",
    }
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_known_answers_cover_planted_and_absent_factors() -> None:
    answers = {answer.process: answer for answer in known.known_factors()}
    for name in ("factors.shared", "factors.none", "search.none", "gain.planted"):
        said = (
            answers[name].draw(np.random.default_rng(3))
            if not name.startswith("gain")
            else known._covered(known.Law(), np.random.default_rng(3), expected_from=20)
        )
        assert set(answers[name].truth) <= set(said)
    assert answers["factors.shared"].draw(np.random.default_rng(4))["planted"].word == PRESENT
