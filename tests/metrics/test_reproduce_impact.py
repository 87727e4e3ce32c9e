"""Figures 6, 9 and 23 to 26 from result files: tables, verdicts, pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from impact_of_arrays import impact_runs, square_root

from example_results import result
from marsbench.impact_runs import Example
from marsbench.metrics.impact_factors import ImpactFactors
from marsbench.metrics.impact_ode import ImpactOde
from marsbench.metrics.square_root_law import SquareRootLaw
from marsbench.reproduce import ITEMS, BoardItem, MissingScores, Reproduction, item, to_markdown, to_text, write
from marsbench.results import Result

ITEMS_OF_IMPACT = ("fig6a", "fig6b", "fig9a", "fig9b", "fig23", "fig24", "fig25", "fig26")


@pytest.fixture(scope="module")
def found() -> dict[str, Result]:
    """Two generators with planted impact."""
    out = {}
    for k, label in enumerate(("one", "two")):
        runs = impact_runs(starts=24, per_cluster=1, truth=square_root, other_truth=square_root, seed=k)
        seconds = np.arange(0, 1201.0, 5)
        path = 1000 + np.cumsum(np.random.default_rng(k).standard_normal(len(seconds)))
        shown = Example(
            "X 2024-01-02 10:00:00", "L1-P0.1", 1, 500, seconds, path + 1, path, path, np.array([30.0, 60.0]),
            np.array([1001.0, 1000.0]), np.array([500, 0]),
        )  # fmt: skip
        runs = replace(runs, example=shown)
        metrics = {m.name: m for m in (SquareRootLaw(), ImpactFactors(permutations=3), ImpactOde())}
        outcomes = {name: m.evaluate(runs, np.random.default_rng(0)) for name, m in metrics.items()}
        made = result(label)
        out[label] = replace(made, outcomes=outcomes)
    return out


@pytest.mark.parametrize("name", ITEMS_OF_IMPACT)
def test_every_figure_is_made_from_results_alone(name: str, found: dict[str, Result], tmp_path: Path) -> None:
    asked = item(name)
    assert isinstance(asked, BoardItem)
    assert asked.task == "market-impact"
    made = asked.make(found)
    assert made.summary
    assert made.notes
    assert all(len(row) == len(table.columns) for table in (*made.tables, *made.drawn) for row in table.rows)
    one = Reproduction(name, asked.title, asked.source, "example", None, "marsbench reproduce", (made,))
    page = write([one], tmp_path / f"{name}.md")
    assert (tmp_path / f"{name}.png").stat().st_size > 5_000
    assert to_markdown([one], page) == page.read_text()
    assert made.tables[0].title in to_text([one])


def test_the_law_page_has_the_truth_the_overlay_and_the_gaps(found: dict[str, Result]) -> None:
    asked = item("fig6b")
    assert isinstance(asked, BoardItem)
    made = asked.make(found)
    assert {row[0] for row in made.tables[0].rows} == {"one", "two", "true market", "overlay"}
    gaps = next(t for t in made.tables if t.title.startswith("Closeness"))
    assert {row[0] for row in gaps.rows} == {"one", "two"}


def test_a_result_without_the_tables_says_so() -> None:
    asked = item("fig6b")
    assert isinstance(asked, BoardItem)
    with pytest.raises(MissingScores, match="no table"):
        asked.make({"old": replace(result("old"), outcomes={})})


def test_an_item_that_cannot_be_made_says_what_the_metric_said() -> None:
    runs = impact_runs(agents=("SWEEP",))
    made = replace(result("one"), outcomes={"impact-ode": ImpactOde().evaluate(runs, np.random.default_rng(0))})
    asked = item("fig9b")
    assert isinstance(asked, BoardItem)
    with pytest.raises(MissingScores, match=r"no metaorders of agent 'L1-P0\.1'; there are some of SWEEP"):
        asked.make({"one": made})


def test_items_are_listed_by_name() -> None:
    assert set(ITEMS_OF_IMPACT) <= set(ITEMS)
