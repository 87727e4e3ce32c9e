"""The oracle as the ceiling of accuracies: frozen, cached, recorded, and what it does to a score."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pairs_of_arrays import bars_of, pairs

from example_results import result as made_up
from marsbench import floors
from marsbench.data.catalogue import open_dataset
from marsbench.evidence import Ceiling, TrajectoryPairs
from marsbench.experiment import Bench, Course, prepare
from marsbench.metrics.three_class_accuracy import ThreeClassAccuracy
from marsbench.results import Result
from marsbench.scores import Outcome, Score
from marsbench.simulation.contracts import ORACLE
from marsbench.suite import Entrant

KEY = "three_class_accuracy.spread.one_rollout"


def forecast(skill: float, *, starts: int = 40, seed: int = 1) -> TrajectoryPairs:
    """Windows of which a share is known in advance."""
    rng = np.random.default_rng(seed)
    truth = bars_of(4e-4 * rng.standard_normal((starts, 25)), rng)
    guess = bars_of(4e-4 * rng.standard_normal((starts, 2, 25)), rng)
    known = rng.random((starts, 2, 25)) < skill
    spread = np.where(known, truth.spread_ticks[:, None], guess.spread_ticks)
    return pairs(truth, replace(guess, spread_ticks=spread))


def scored(evidence: TrajectoryPairs, ceilings: dict[str, Ceiling]) -> Score:
    given = replace(evidence, ceilings=ceilings)
    given.__dict__.update(replay_bars=evidence.replay_bars, simulated_bars=evidence.simulated_bars)
    out = ThreeClassAccuracy().evaluate(given, np.random.default_rng(0))
    return next(s for s in out.scores if s.key == KEY)


def oracle(skill: float, **changes: Any) -> dict[str, Ceiling]:
    score = scored(forecast(skill), {})
    assert score.value is not None
    return {KEY: replace(Ceiling(score.value, score.replicates, score.replicate_units), **changes)}


def test_an_accuracy_is_normalised_between_its_floor_and_the_oracle() -> None:
    best = oracle(0.6)
    for skill, where in ((0.6, 1.0), (0.3, 0.5), (0.0, 0.0)):
        score = scored(forecast(skill), best)
        assert score.ceiling == best[KEY].value
        assert score.informative
        assert score.normalised == pytest.approx((score.value - score.floor) / (score.ceiling - score.floor))
        assert score.normalised == pytest.approx(where, abs=0.12)
        assert len(score.normalised_replicates) == len(score.replicates) == 40
    itself = scored(forecast(0.6), best)
    np.testing.assert_allclose(itself.normalised_replicates, 1.0)


def test_an_oracle_that_is_no_better_than_the_floor_makes_no_scale() -> None:
    score = scored(forecast(0.3), oracle(0.0))
    assert score.informative is False
    assert score.normalised is None
    assert score.normalised_replicates == ()
    assert "uninformative: (ceiling - floor) is" in str(score.reason)


def test_without_an_oracle_or_with_one_of_other_units_there_is_no_scale() -> None:
    none = scored(forecast(0.3), {})
    assert (none.ceiling, none.normalised, none.informative) == (None, None, None)
    assert "no ceiling" in str(none.reason)
    other = scored(forecast(0.3), oracle(0.6, units="12 clusters"))
    assert other.normalised is None
    assert "the ceiling was made from 12 clusters, this score from 40 clusters" in str(other.reason)


def test_kappa_takes_no_scale_but_has_interval_and_replicates() -> None:
    out = ThreeClassAccuracy().evaluate(forecast(0.5), np.random.default_rng(0))
    agreement = next(s for s in out.scores if s.key == f"{KEY}.kappa")
    assert agreement.value == pytest.approx(0.5, abs=0.06)
    assert agreement.ci_low is not None
    assert agreement.ci_high is not None
    assert agreement.ci_low < 0.5 < agreement.ci_high
    assert (agreement.floor, agreement.ceiling, len(agreement.replicates)) == (None, None, 40)


def ready(market: Path) -> Course:
    return prepare("realism,minutes=5,rollouts=1", open_dataset(str(market)), 2)


def oracle_result(course: Course, entrant: Entrant, seed: int, bench: Bench) -> Result:
    """What a run of the zero-intelligence generator or of the oracle would come to."""
    value = 0.6 if entrant.label == ORACLE else 0.4
    kept = {"replicates": (value, value), "replicate_units": "2 clusters"}
    scores = (
        Score(KEY, value, "prediction", floor=0.35, **kept),
        Score(f"{KEY}.kappa", 0.3, "prediction", **kept),
    )
    outcomes = {label: Outcome(scores if label == "three-class-accuracy" else ()) for label in course.metrics}
    return replace(made_up(entrant.label), outcomes=outcomes, seed=seed)


def test_a_market_whose_truth_nobody_knows_has_no_ceiling_and_says_so(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floors, "evaluate", oracle_result)
    course = floors.with_floors(ready(market), Bench(tmp_path))
    assert course.ceilings == {}
    assert course.floors[KEY] == 0.4
    assert "does not know its hidden state" in course.floors_facts["ceilings"]["reason"]


def test_the_oracle_is_run_once_on_a_seed_of_its_own_and_kept_with_the_data_set(
    own_market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, int]] = []

    def run(course: Course, entrant: Entrant, seed: int, bench: Bench) -> Result:
        ran.append((entrant.label, seed))
        return oracle_result(course, entrant, seed, bench)

    monkeypatch.setattr(floors, "evaluate", run)
    course = ready(own_market)
    monkeypatch.setattr(type(course.dataset), "has_truth", property(lambda self: True))
    bench = Bench(tmp_path, say=lambda text: None)
    made = floors.with_floors(course, bench)
    assert ran == [("zero-intelligence", 0), (ORACLE, floors.CEILING_SEED)]
    assert made.ceilings == {KEY: Ceiling(0.6, (0.6, 0.6), "2 clusters")}
    facts = made.floors_facts["ceilings"]
    (path,) = (own_market / "floors").glob("*-oracle.json")
    assert facts["hash"] == json.loads(path.read_text())["hash"]
    assert facts["generator"].startswith("reference version")
    again = floors.with_floors(course, bench)
    assert len(ran) == 2
    assert (again.ceilings, again.floors_facts) == (made.ceilings, made.floors_facts)
    path.write_text(path.read_text().replace("0.6", "0.7"))
    assert floors.with_floors(course, bench).ceilings == made.ceilings
    assert ran[2:] == [(ORACLE, floors.CEILING_SEED)]
