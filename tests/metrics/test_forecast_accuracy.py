"""Scores of forecasts: known answers, hand-made cases, floors and ceilings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from marsbench.evidence import Ceiling
from marsbench.forecasts import Forecasts
from marsbench.metrics._known_forecasts import Law, draw, known_forecasts
from marsbench.metrics.forecast_accuracy import ForecastAccuracy
from marsbench.questions import Target
from marsbench.scores import Outcome, Score

RNG = np.random.default_rng(0)


def evaluate(evidence: Forecasts) -> Outcome:
    return ForecastAccuracy().evaluate(evidence, np.random.default_rng(0))


def scores(evidence: Forecasts) -> dict[str, Score]:
    return {s.key: s for s in evaluate(evidence).scores}


def small(observed: list[int], votes: list[list[int]], before: list[int] | None = None) -> Forecasts:
    """One target, two starts to a cluster, training classes .5, .3, .2."""
    whole = draw(Law(clusters=1, starts=1), np.random.default_rng(0))
    starts = tuple(replace(whole.starts[0], cluster=f"cluster {i // 2}") for i in range(len(observed)))
    return Forecasts(
        starts=starts,
        targets=(Target("trend", 1),),
        observed=np.array(observed)[:, None],
        training_shares=np.array([[0.5, 0.3, 0.2]]),
        before=np.array(before or [1] * len(observed))[:, None],
        votes=np.array(votes)[:, :, None],
    )


@pytest.mark.parametrize(("rollouts", "wanted"), [(1, 0.457), (8, 0.521), (32, 0.555), (128, 0.559)])
def test_the_vote_of_so_many_rollouts_is_right_as_often_as_the_dirichlet_law_says(rollouts: int, wanted: float) -> None:
    evidence = draw(Law(clusters=40, starts=500, rollouts=rollouts), np.random.default_rng(rollouts))
    found = scores(evidence)["trend.accuracy.1m"]
    assert found.value == pytest.approx(wanted, abs=4 * np.sqrt(0.25 / 20_000))
    assert found.ci_low is not None
    assert found.ci_low < wanted < found.ci_high  # type: ignore[operator]


def test_what_rollouts_expect_of_themselves_is_what_half_of_them_reach() -> None:
    evidence = draw(Law(clusters=40, starts=500, rollouts=64), np.random.default_rng(1))
    half = replace(evidence, votes=evidence.votes[:, :32] if evidence.votes is not None else None)
    expected, reached = scores(evidence)["trend.expected_accuracy.1m"], scores(half)["trend.accuracy.1m"]
    assert expected.value == pytest.approx(reached.value, abs=0.015)
    assert expected.value == pytest.approx(0.555, abs=0.006)
    blind = scores(draw(Law(clusters=40, starts=500, blind=True), np.random.default_rng(2)))
    assert blind["trend.expected_accuracy.1m"].value == pytest.approx(1 / 3, abs=0.005)
    assert blind["trend.kappa.1m"].value == pytest.approx(0, abs=0.02)


def test_scores_of_a_handful_of_starts_are_those_worked_out_by_hand() -> None:
    found = scores(small([0, 1, 2, 0], [[0, 0, 1], [1, 1, 1], [0, 1, 1], [0, 2, 2]]))
    assert found["trend.accuracy.1m"].value == 0.5  # 0 and 1 are met
    assert found["trend.f1.1m"].value == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    chance = (2 / 4) * (1 / 4) + (1 / 4) * (2 / 4) + (1 / 4) * (1 / 4)
    assert found["trend.kappa.1m"].value == pytest.approx((0.5 - chance) / (1 - chance))
    p = np.array([2.5, 3.5, 0.5, 1.5]) / 4.5
    assert found["trend.log_loss.1m"].value == pytest.approx(-np.log(p).mean())
    squared = [(1 / 9 + 1 / 9), 0, (1 / 9 + 4 / 9 + 1), (4 / 9 + 4 / 9)]
    assert found["trend.brier.1m"].value == pytest.approx(np.mean(squared))


def test_floors_are_the_commonest_class_persistence_and_the_shares_of_training() -> None:
    votes = [[0], [1], [2], [0]]
    found = scores(small([0, 1, 2, 0], votes, before=[2, 2, 2, 1]))
    assert found["trend.accuracy.1m"].floor == 0.5  # always 0
    assert scores(small([0, 1, 2, 2], votes, before=[0, 1, 2, 1]))["trend.accuracy.1m"].floor == 0.75  # persistence
    assert found["trend.kappa.1m"].floor == 0
    assert found["trend.log_loss.1m"].floor == pytest.approx(-np.log([0.5, 0.3, 0.2, 0.5]).mean())
    assert found["trend.log_loss.1m"].direction == found["trend.brier.1m"].direction == "lower"
    assert found["trend.expected_accuracy.1m"].floor is None


def test_ties_are_shared_and_what_is_missing_is_left_out() -> None:
    tied = scores(small([0, 1, 2, 0], [[0, 1]] * 4))
    assert tied["trend.accuracy.1m"].value == pytest.approx((0.5 + 0.5 + 0 + 0.5) / 4)
    partly = scores(small([0, 1, -1, 0], [[0, 0], [-1, 1], [2, 2], [-1, -1]]))
    assert (partly["trend.accuracy.1m"].value, partly["trend.accuracy.1m"].n) == (1.0, 2)
    nothing = scores(small([-1, -1], [[0], [1]]))["trend.accuracy.1m"]
    assert nothing.value is None
    assert nothing.reason == "no start with both a forecast and an outcome"


def test_a_forecasters_probabilities_are_scored_alike() -> None:
    evidence = draw(Law(clusters=20, starts=50, rollouts=400), np.random.default_rng(3))
    assert evidence.votes is not None
    counts = np.stack([(evidence.votes == c).mean(axis=1) for c in range(3)], axis=-1)
    stated = scores(replace(evidence, votes=None, stated=counts))
    voted = scores(evidence)
    for name in ("accuracy", "f1", "kappa", "brier"):
        assert stated[f"trend.{name}.1m"].value == pytest.approx(voted[f"trend.{name}.1m"].value)
    assert stated["trend.log_loss.1m"].value == pytest.approx(voted["trend.log_loss.1m"].value, abs=0.01)
    certain = replace(evidence, votes=None, stated=np.tile([0.0, 0.0, 1.0], (1000, 1, 1)))
    assert scores(certain)["trend.log_loss.1m"].value == pytest.approx(
        float((evidence.observed != 2).mean()) * -np.log(1e-6), rel=1e-6
    )


def test_the_ceiling_is_what_the_oracle_expects_and_lower_is_better_is_scaled_the_same_way() -> None:
    evidence = draw(Law(), np.random.default_rng(4))
    oracle = scores(draw(Law(), np.random.default_rng(5)))
    ceilings = {
        key: Ceiling(s.value, s.replicates, s.replicate_units) for key, s in oracle.items() if s.value is not None
    }
    found = scores(replace(evidence, ceilings=ceilings))
    accuracy, loss = found["trend.accuracy.1m"], found["trend.log_loss.1m"]
    assert accuracy.ceiling == oracle["trend.expected_accuracy.1m"].value
    assert loss.ceiling == oracle["trend.log_loss.1m"].value
    for one in (accuracy, loss, found["trend.brier.1m"], found["trend.kappa.1m"]):
        assert one.informative
        assert one.value is not None
        assert one.floor is not None
        assert one.ceiling is not None
        assert one.normalised == pytest.approx((one.value - one.floor) / (one.ceiling - one.floor))
        assert one.normalised == pytest.approx(1, abs=0.3)
        assert len(one.normalised_replicates) == 40
        assert one.ci_low is not None
        assert one.ci_high is not None
        assert one.ci_low < one.value < one.ci_high
    none = scores(evidence)["trend.accuracy.1m"]
    assert none.ceiling is None
    assert "no ceiling" in str(none.reason)


def test_tables_hold_calibration_the_number_of_rollouts_and_all_pairs() -> None:
    evidence = draw(Law(rollouts=12), np.random.default_rng(6))
    tables = evaluate(evidence).tables
    assert tables["forecast_rollouts"]["rollouts"] == [1, 2, 4, 8]
    rising = tables["forecast_rollouts"]["accuracy"]
    assert rising[0] < rising[2] < rising[3]
    assert sum(tables["forecast_confusion"]["count"]) == pytest.approx(1200)
    assert sum(tables["forecast_calibration"]["count"]) == 3600
    p, came = (np.array(tables["forecast_calibration"][name]) for name in ("probability", "came"))
    assert np.corrcoef(p, came)[0, 1] > 0.95
    assert sum(tables["forecast_shares"]["came"]) == pytest.approx(1)


def test_one_cluster_has_no_interval_and_says_why() -> None:
    found = scores(small([0, 1], [[0], [1]]))["trend.accuracy.1m"]
    assert (found.value, found.ci_low) == (1.0, None)
    assert "an interval needs at least 2" in str(found.reason)


def test_forecasts_are_votes_or_probabilities() -> None:
    evidence = draw(Law(clusters=2, starts=2), RNG)
    with pytest.raises(ValueError, match="exactly one of them"):
        replace(evidence, votes=None)


def test_figures_are_drawn_from_the_tables_alone(tmp_path: Any) -> None:
    figures = ForecastAccuracy.draw(evaluate(draw(Law(clusters=8), RNG)).tables)
    assert set(figures) == {"forecast_accuracy", "forecast_calibration", "forecast_rollouts"}
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_known_answers_cover_every_statistic_in_most_draws() -> None:
    answers = {answer.process: answer for answer in known_forecasts()}
    assert set(answers["blind"].truth) == {"accuracy", "f1", "kappa", "log_loss", "brier", "expected_accuracy"}
    from marsbench.metrics import _known_forecasts as known

    counted = [
        known._covered(Law(clusters=20, dependent=0.8), np.random.default_rng([9, i]), expected_from=60)
        for i in range(60)
    ]
    for name in answers["blind"].truth:
        assert np.mean([claims[name].word == "covered" for claims in counted]) > 0.85


def test_a_target_that_is_not_foretold_has_no_score_at_all() -> None:
    """Macro F1 of nothing would be 0, which is a number."""
    one = small([0, 1, 2, 2], [[0, 0], [1, 1], [2, 2], [0, 0]])
    stated = np.full((4, 1, 3), np.nan)
    found = scores(replace(one, votes=None, stated=stated))
    assert {s.value for s in found.values()} == {None}
    assert {s.informative for s in found.values()} == {None}
    assert {s.reason for s in found.values()} == {"no start with both a forecast and an outcome"}
