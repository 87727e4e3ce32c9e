"""Metaorders of an embedded market are listed by split, as a table, as JSON, as files; elsewhere nobody knows them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from marsbench.cli import main
from marsbench.data import metaorders
from marsbench.data.catalogue import open_dataset
from reference import small_data_set


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference data set of one instrument with 1 + 1 + 1 days."""
    return small_data_set(tmp_path_factory.mktemp("data") / "small", ("REF-B",), 1)


def test_a_split_holds_the_metaorders_of_its_days(small: Path) -> None:
    data = open_dataset(small)
    parts = [metaorders.of_split(data, split) for split in ("train", "validation", "test")]
    assert [len(set(part["date"])) for part in parts] == [1, 1, 1]
    assert sum(map(len, parts)) == len(metaorders.of_split(data, "all"))
    with pytest.raises(ValueError, match="unknown split 'tests'"):
        metaorders.of_split(data, "tests")


def test_the_command_prints_a_summary_json_and_files(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "metaorders", str(small)]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["instrument", "metaorders", "buys"]
    found = metaorders.of_split(open_dataset(small), "test")
    assert row.split()[:2] == ["REF-B", str(len(found))]
    assert main(["data", "metaorders", str(small), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) == len(found)
    assert listed[0]["executed_shares"] == int(found["executed_shares"][0])
    for name in ("all.csv", "all.parquet"):
        assert main(["data", "metaorders", str(small), "--split", "all", "-o", str(tmp_path / name)]) == 0
    csv, parquet = pd.read_csv(tmp_path / "all.csv"), pd.read_parquet(tmp_path / "all.parquet")
    assert np.array_equal(csv["executed_shares"], parquet["executed_shares"])
    assert main(["data", "metaorders", str(small), "-o", str(tmp_path / "all.txt")]) == 2
    assert "ends in .csv or .parquet" in capsys.readouterr().err


def test_a_market_whose_truth_is_hidden_has_no_list(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "metaorders", str(market)]) == 2
    assert "does not know its metaorders" in capsys.readouterr().err


def test_only_embedded_data_sets_can_be_built(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "build", "goog"]) == 2
    assert "is not an embedded data set; there are reference, zi-market" in capsys.readouterr().err
    assert main(["data", "build", "reference", "--days", "70"]) == 2
    assert "at least 71" in capsys.readouterr().err
