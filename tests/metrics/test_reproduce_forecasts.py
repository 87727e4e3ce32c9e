"""Figure 7a and Table 8: McNemar's test, paired gaps, and what the pages say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as library_mcnemar

from marsbench.reproduce import Made, Reproduction, to_markdown, to_text
from marsbench.reproduce_forecasts import FIG7A, TAB8, mcnemar, paired
from marsbench.results import read

FOLDER = Path(__file__).parents[2] / "results" / "runs" / "reference" / "forecasting"


def test_mcnemar_is_the_librarys_exact_test() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random(200) < 0.6, rng.random(200) < 0.5
    table = [
        [int((one & other).sum()), int((one & ~other).sum())],
        [int((~one & other).sum()), int((~one & ~other).sum())],
    ]
    assert mcnemar(one.astype(float) - other) == pytest.approx(library_mcnemar(table, exact=True).pvalue)
    assert mcnemar(np.zeros(10)) == 1.0


def outcomes(right: np.ndarray, days: int) -> dict[str, tuple[int, float]]:
    return {f"start {i:04d}": (i % days, float(r)) for i, r in enumerate(right)}


def test_a_gap_is_over_starts_that_both_have_and_its_interval_leaves_days_out() -> None:
    rng = np.random.default_rng(1)
    right = rng.random((2, 400)) < np.array([[0.7], [0.5]])
    one, other = (outcomes(row, 40) for row in right)
    del one["start 0003"]
    found = paired(one, other)
    assert found is not None
    assert found["starts"] == 399
    expected = np.delete(right[0].astype(float) - right[1], 3)
    assert found["gap"] == pytest.approx(expected.mean())
    assert found["low"] < found["gap"] < found["high"]
    assert found["p"] < 0.001
    assert paired({}, other) is None


def test_days_that_go_together_widen_the_interval_and_mcnemar_does_not_see_it() -> None:
    """Half of the days are foretold by the one, half by the other: each day counts ten times for McNemar."""
    better = np.repeat(np.random.default_rng(2).random(40) < 0.7, 10)
    one = {f"{i}": (i // 10, float(b)) for i, b in enumerate(better)}
    other = {f"{i}": (i // 10, float(not b)) for i, b in enumerate(better)}
    found = paired(one, other)
    assert found is not None
    assert found["mcnemar_p"] < found["p"] / 1000


def test_the_interval_of_a_gap_covers_its_truth() -> None:
    covered = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        level = rng.normal(0, 0.15, 30)[:, None]  # what both find easy on a day
        right = [rng.random((30, 5)) < np.clip(0.5 + level + gain, 0, 1) for gain in (0.1, 0.0)]
        one, other = ({f"{i}": (i // 5, float(r)) for i, r in enumerate(part.ravel())} for part in right)
        found = paired(one, other)
        assert found is not None
        covered += found["low"] <= 0.1 <= found["high"]
    assert 0.92 <= covered / 300 <= 0.98


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return {name: read(FOLDER / name / "0.json") for name in ("reference", "bootstrap", "deeplob", "lmm-order-2m")}


@pytest.mark.parametrize("item", [FIG7A, TAB8], ids=["fig7a", "tab8"])
def test_pages_are_made_from_the_committed_results(found: dict[str, Any], item: Any) -> None:
    made: Made = item.make(found)
    page = Reproduction(item.name, item.title, item.source, "reference", None, "", (made,))
    for text in (to_text([page]), to_markdown([page])):
        assert all(name in text for name in found)
    if item.draw is not None:
        assert item.draw(made).axes
    rows = {row[0] for row in made.tables[0].rows}
    assert rows == set(found)


def test_accuracies_of_the_page_are_those_of_the_results(found: dict[str, Any]) -> None:
    made = FIG7A.make(found)
    for label, minutes, value, *_ in made.tables[0].rows:
        assert value == found[label].scores[f"trend.accuracy.{minutes}m"].value
    gaps = {(row[0], row[1]): row[3] for row in made.tables[1].rows}
    for (label, minutes), gap in gaps.items():
        scores = [found[name].scores[f"trend.accuracy.{minutes}m"].value for name in (label, "deeplob")]
        assert gap == pytest.approx(scores[0] - scores[1], abs=1e-3)
