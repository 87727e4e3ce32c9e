"""``marsbench reproduce``: the paper's numbers beside ours, and what to do where ours are missing."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pairs_of_arrays import bars_of, pairs

from example_results import failed
from example_results import result as made_up
from marsbench import cli, reproduce, results
from marsbench.evidence import Ceiling
from marsbench.metrics.distribution_similarity import DistributionSimilarity
from marsbench.metrics.three_class_accuracy import ThreeClassAccuracy
from marsbench.quantities import TEN
from marsbench.reproduce_tab7 import FIGURE_22, PUBLISHED
from marsbench.results import Result
from marsbench.stats.classes import accuracy, kappa

NAME = "made-up-market"


def scored(label: str, *, far: float = 0.0, **changes: object) -> Result:
    """A result of two metrics on arrays: spreads off by ``far``."""
    rng = np.random.default_rng(3)
    truth, simulated = (bars_of(4e-4 * rng.standard_normal(shape), rng) for shape in ((24, 25), (24, 2, 25)))
    simulated = replace(simulated, spread_ticks=simulated.spread_ticks + far)
    floors = {f"distribution_similarity.{q.key}": 0.2 for q in TEN}
    given = pairs(truth, simulated, floors=floors)
    ceiling = Ceiling(0.9, tuple(0.9 + 0.001 * rng.standard_normal(24)), "24 clusters")
    given = replace(given, ceilings={"three_class_accuracy.volatility.one_rollout": ceiling})
    given.__dict__.update(replay_bars=truth, simulated_bars=simulated)
    metrics = (DistributionSimilarity(splits=8, permutations=99), ThreeClassAccuracy())
    outcomes = {m.name: m.evaluate(given, np.random.default_rng(0)) for m in metrics}
    return replace(made_up(label), outcomes=outcomes, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generators and a hidden one, one seed more, one that was scored by an older metric, one that failed."""
    place = tmp_path_factory.mktemp("results")
    old = scored("old")
    table = {
        k: v
        for k, v in old.outcomes["distribution-similarity"].tables["similarity_summary"].items()
        if k != "w1_exchanged"
    }
    tables = {**old.outcomes["distribution-similarity"].tables, "similarity_summary": table}
    outcome = replace(old.outcomes["distribution-similarity"], tables=tables)
    hidden = scored("control")
    for one in (
        scored("good"),
        replace(scored("good", far=9.0), seed=1),
        scored("wide", far=3.0),
        replace(hidden, generator={**hidden.generator, "hidden": True}),
        replace(old, outcomes={**old.outcomes, "distribution-similarity": outcome},
                generator={**old.generator, "hidden": True}),
        failed("broken"),
    ):  # fmt: skip
        where = {"dataset": NAME, "task": "realism", "generator": one.generator["label"], "seed": one.seed}
        results.write(one, results.result_path(place, **where, limit=None))
    return place


def made(folder: Path, **options: object) -> reproduce.Reproduction:
    (found,) = reproduce.reproduce(["tab7"], dataset=NAME, results=folder, **options)
    return found


def rows(one: reproduce.Made, table: int) -> dict[str, dict[str, object]]:
    found = one.tables[table]
    return {str(row[0]): dict(zip(found.columns, row, strict=True)) for row in found.rows}


def test_the_published_figure_gives_the_published_accuracy_and_its_kappa():
    counts = np.array(FIGURE_22, float)
    assert counts.sum() == 6222
    assert accuracy(counts) == pytest.approx(0.5698, abs=5e-5)
    assert kappa(counts) == pytest.approx(0.355, abs=5e-4)
    assert accuracy(counts) == pytest.approx(PUBLISHED["buy_order_ratio"][1], abs=5e-4)
    assert list(PUBLISHED) == [q.key for q in TEN]


def test_every_quantity_stands_beside_the_papers_value(folder):
    found = made(folder)
    assert [one.generator for one in found.made] == ["good", "wide"]
    good, wide = found.made
    similar, right = rows(good, 0), rows(good, 1)
    assert len(similar) == 10
    assert len(right) == 15
    spread = similar["Spread"]
    score = results.read(folder / "runs" / NAME / "realism" / "good" / "0.json").scores[
        "distribution_similarity.spread"
    ]
    assert (spread["paper"], spread["ours"], spread["ceiling"]) == (0.970, score.value, score.ceiling)
    assert spread["ours / ceiling"] == pytest.approx(score.value / score.ceiling)
    assert spread["normalised"] == score.normalised
    assert 0 < spread["of one law"] < 1
    assert spread["from replay"] in ("indistinguishable", "inconclusive")
    assert rows(wide, 0)["Spread"]["from replay"] == "distinguishable"
    assert "1 distinguishable" in wide.summary
    volatility = right["Volatility, one rollout"]
    assert (volatility["paper"], volatility["ceiling"]) == (0.516, 0.9)
    share = (volatility["ours"] - volatility["floor"]) / (0.9 - volatility["floor"])
    assert volatility["normalised"] == pytest.approx(share, abs=1e-3)
    assert volatility["replay's classes"] == "0.33 0.33 0.33"
    assert right["1-minute return, mean of rollouts"]["paper"] == 0.684
    assert right["1-minute return, majority vote"]["paper"] is None
    assert right["Buy order ratio, one rollout"]["paper's kappa"] == pytest.approx(0.355, abs=1e-3)
    assert any("128 rollouts of each start" in note and "here 2" in note for note in good.notes)
    assert any("Bins: the paper states none" in note for note in good.notes)


def test_hidden_generators_are_shown_where_they_are_asked_for(folder):
    assert [one.generator for one in made(folder, generators=["control"]).made] == ["control"]


def test_the_command_prints_text_json_and_a_page(folder, tmp_path, capsys, monkeypatch):
    import marsbench.data.catalogue as catalogue

    class Data:
        name = NAME

    monkeypatch.setattr(catalogue, "open_dataset", lambda name: Data())
    page = tmp_path / "tab7.md"
    arguments = ["reproduce", "tab7", "-d", NAME, "--results", str(folder)]
    assert cli.main([*arguments, "-g", "good", "-o", str(page)]) == 0
    text = capsys.readouterr().out
    assert "MarS (ICLR 2025), appendix J, Table 7 and Figure 22" in text
    assert "What differs from the paper:" in text
    assert "| Volatility | 0.872 |" in page.read_text()
    assert "Made by `marsbench reproduce tab7" in page.read_text()
    assert cli.main([*arguments, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["made"][0]["tables"][0]["rows"][0][:2] == ["Volatility", 0.872]
    assert cli.main(["reproduce", "tab77", "-d", NAME, "--results", str(folder)]) == 2
    assert "unknown item 'tab77'; did you mean 'tab7'" in capsys.readouterr().err


def test_what_is_missing_comes_with_the_command_that_makes_it(folder, tmp_path):
    with pytest.raises(ValueError, match="for generator broken; there are control, good, old, wide") as caught:
        made(folder, generators=["good", "broken"])
    command = str(caught.value).split("Make them: ")[1]
    assert command == f"marsbench run -g broken -t realism -d {NAME} --results {folder}"
    assert cli.parser().parse_args(shlex.split(command)[1:]).generators == ["broken"]
    with pytest.raises(FileNotFoundError, match=f"-t realism -d {NAME} --results .* --limit 5"):
        reproduce.reproduce(["tab7"], dataset=NAME, results=tmp_path, limit=5)
    with pytest.raises(ValueError, match=r"older version of the metric.* marsbench score -g old -t realism"):
        made(folder, generators=["old"])


def test_all_makes_what_can_be_made_and_says_what_is_missing(folder, tmp_path, capsys, monkeypatch):
    import marsbench.data.catalogue as catalogue

    class Data:
        name = NAME

    monkeypatch.setattr(catalogue, "open_dataset", lambda name: Data())
    page = tmp_path / "all.md"
    arguments = ["reproduce", "all", "-d", NAME, "-g", "good"]
    assert cli.main([*arguments, "--results", str(folder), "-o", str(page)]) == 1
    printed = capsys.readouterr()
    assert "Table 7 and Figure 22" in printed.out
    assert "left out: tab6 needs results of task sessions" in printed.err
    assert f"Make them: marsbench run -g good -t sessions -d {NAME}" in printed.err
    assert "| Volatility | 0.872 |" in page.read_text()
    nowhere = tmp_path / "empty"
    nowhere.mkdir()
    assert cli.main([*arguments, "--results", str(nowhere), "-o", str(tmp_path / "none.md")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("left out: ") == len(reproduce.ITEMS)
    assert not (tmp_path / "none.md").exists()


def test_every_item_of_the_registry_can_be_loaded():
    for name in reproduce.ITEMS:
        assert reproduce.item(name).name == name
