"""The known-bad controls and the oracle land where each metric says that they must."""

from __future__ import annotations

from pathlib import Path

import pytest

from marsbench import registry, results, runner
from marsbench.evidence import Landing
from marsbench.results import Result
from marsbench.scores import Score
from marsbench.tasks.realism import Realism
from reference import small_data_set

GENERATORS = ("control-constant", "control-copy", "control-shuffled", "reference")
METRICS = [*(name for name, _ in Realism().metrics), "lob-bench", "forecast-accuracy", "square-root-law"]
TASKS = {
    "realism": "realism,rollouts=2",
    "sessions": "sessions",
    "lob-bench": "lob-bench",
    "forecasting": "forecasting,rollouts=16",
    "market-impact": "market-impact,agents=L5-P0.1,metaorders=160,tail_every=1",
}


@pytest.fixture(scope="module")
def results_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Result]]:
    """Results of the controls and the oracle, by task, on four days of the reference market."""
    folder: Path = tmp_path_factory.mktemp("landings")
    found = {}
    two = small_data_set(folder / "two", ("REF-A", "REF-D"), 4)
    markets = dict.fromkeys(TASKS, two) | {"lob-bench": small_data_set(folder / "one", ("REF-A",), 4)}
    for task, written in TASKS.items():
        data = [str(markets[task])]
        report = runner.run(list(GENERATORS), tasks=[written], datasets=data, results=folder / "r", track=False)
        of = [results.read(path) for path in report.done]
        found[task] = {r.generator["label"]: r for r in of}
    return found


@pytest.fixture(scope="module")
def scored(results_of: dict[str, dict[str, Result]]) -> dict[str, Result]:
    return results_of["realism"]


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_where_the_controls_and_the_oracle_land(name: str) -> None:
    declared = registry.lookup("metrics", name).landings
    with_it = {task for task in TASKS if name in [m for m, _ in registry.lookup("tasks", task)().metrics]}
    assert {(a.task, a.generator) for a in declared} == {(task, g) for task in with_it for g in GENERATORS}


@pytest.mark.parametrize("name", METRICS)
def test_controls_and_oracle_land_where_the_metric_says(name: str, results_of: dict[str, dict[str, Result]]) -> None:
    for landing in registry.lookup("metrics", name).landings:
        score = results_of[landing.task][landing.generator].scores[landing.score]
        assert landing.problem(score) is None


COMMITTED = Path(__file__).resolve().parents[2] / "results"


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("generator", GENERATORS)
def test_they_land_there_in_the_committed_results_too(generator: str, name: str) -> None:
    """64 starts on as many days where the test above has 16 on eight, of the same market; 40 sessions for its 8."""
    landings = [a for a in registry.lookup("metrics", name).landings if a.generator == generator]
    assert landings
    for landing in landings:
        path = results.result_path(COMMITTED, dataset="reference", task=landing.task, generator=generator, seed=0)
        assert landing.problem(results.read(path).scores[landing.score]) is None


def test_message_sequences_are_drawn_and_have_every_score(results_of: dict[str, dict[str, Result]]) -> None:
    from marsbench.figures import render

    oracle = results_of["lob-bench"]["reference"]
    assert sum(key.endswith(".w1") for key in oracle.scores if key.startswith("lobbench.")) == 24
    assert {key for key, score in oracle.scores.items() if score.value is None} == set()
    images = render(oracle, None)
    assert set(images) == {f"lob-bench/lob_bench_{name}" for name in ("distances", "divergence", "responses")}
    assert min(map(len, images.values())) > 5_000
    frozen = render(results_of["lob-bench"]["control-constant"], None)  # most panels are empty
    assert set(frozen) == set(images)


@pytest.mark.parametrize(
    ("task", "more"), [("realism", set()), ("lob-bench", {"validity.lob_frozen", "validity.lob_cancel_gap"})]
)
def test_the_gate_stops_the_constant_and_nobody_else(
    task: str, more: set[str], results_of: dict[str, dict[str, Result]]
) -> None:
    from marsbench.ranking import invalid

    found = results_of[task]
    broken = {label: {line.split(" is ")[0] for line in invalid(r.scores)} for label, r in found.items()}
    assert broken.pop("control-constant") == {"validity.book_frozen", "validity.cancel_gap", *more}
    assert set(map(len, broken.values())) == {0}


def test_forecasts_are_measured_against_the_oracle_on_another_seed(scored: dict[str, Result]) -> None:
    key = "three_class_accuracy.volatility.one_rollout"
    oracle, shuffled = (scored[label].scores[key] for label in ("reference", "control-shuffled"))
    assert oracle.ceiling is not None
    assert oracle.ceiling == shuffled.ceiling != oracle.value
    assert oracle.ceiling > (oracle.floor or 0)
    assert scored["reference"].floors["ceilings"]["generator"].startswith("reference version")
    assert scored["reference"].floors["ceilings"]["hash"]


def test_the_ceiling_of_a_forecast_is_what_the_oracle_expects_of_itself(
    results_of: dict[str, dict[str, Result]],
) -> None:
    oracle, shuffled = (results_of["forecasting"][label].scores for label in ("reference", "control-shuffled"))
    ceiling = oracle["trend.accuracy.1m"].ceiling
    assert ceiling == shuffled["trend.accuracy.1m"].ceiling
    assert ceiling == pytest.approx(oracle["trend.expected_accuracy.1m"].value, abs=0.1)
    assert oracle["trend.expected_accuracy.1m"].normalised is None


def test_a_landing_says_what_is_wrong() -> None:
    there, gone = Score("a.b", 0.7, "facts", ceiling=0.5), Score("a.b", None, "facts", reason="no trade")
    assert Landing("g", "a.b", 0.6, 0.8).problem(there) is None
    assert Landing("g", "a.b", 0.1, 0.3, "above_ceiling").problem(there) is None
    assert Landing("g", "a.b", 0.8).problem(there) == "g on a.b: value is 0.7, must lie in [0.8, inf]"
    assert Landing("g", "a.b", missing=True).problem(gone) is None
    assert "no value (no trade)" in (Landing("g", "a.b", 0.8).problem(gone) or "")
    assert "value 0.7" in (Landing("g", "a.b", missing=True).problem(there) or "")
    plain = Score("a.b", 0.7, "facts")
    assert "no ceiling" in (Landing("g", "a.b", 0.0, 1.0, "above_ceiling").problem(plain) or "")
