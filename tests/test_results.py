"""Results are whole or not there, and fulfil their schema."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator, ValidationError

from example_results import failed, not_applicable, result, score
from marsbench import results
from marsbench.files import file_safe, rounded, write_atomic
from marsbench.results import ResultError, read, result_path, write
from marsbench.scores import Outcome


def test_the_schema_is_a_schema_and_forbids_unknown_fields() -> None:
    Draft202012Validator.check_schema(results.schema())
    values = {**result().to_dict(), "surprise": 1}
    with pytest.raises(ValidationError, match="surprise"):
        Draft202012Validator(results.schema()).validate(values)


@pytest.mark.parametrize("made", [result(), failed(), not_applicable()], ids=["done", "failed", "not-applicable"])
def test_a_result_comes_back_as_it_was_written(made: results.Result, tmp_path: Path) -> None:
    path = write(made, tmp_path / "a" / "0.json")
    again = read(path)
    assert again.to_dict() == made.to_dict()
    assert again.content_hash() == made.content_hash()
    assert again.path == path


def test_missing_values_are_null_with_a_reason(tmp_path: Path) -> None:
    made = result(scores=(score("facts.heavy_tails", "facts", None),))
    path = write(made, tmp_path / "0.json")
    (row,) = json.loads(path.read_text())["scores"]
    assert row["value"] is None
    assert row["reason"] == "nothing was traded"


def test_numbers_are_kept_at_six_digits_and_tables_on_one_line_each_column(tmp_path: Path) -> None:
    table = {"curve": {"lag": list(range(50)), "value": [1 / 3] * 50}}
    made = result()
    made = replace(made, outcomes={"made-up": Outcome(made.outcomes["made-up"].scores, table)})
    text = write(made, tmp_path / "0.json").read_text()
    assert "0.333333," in text
    assert "0.3333333" not in text
    assert sum("0.333333" in line for line in text.splitlines()) == 1
    assert len(text.splitlines()) < 250


def test_rounding_takes_numpy_and_refuses_what_is_not_finite() -> None:
    assert rounded({"a": np.float32(0.1), "b": np.arange(2), "c": (np.int64(5), True)}) == {
        "a": 0.1,
        "b": [0, 1],
        "c": [5, True],
    }
    with pytest.raises(ValueError, match="nan cannot be stored"):
        rounded([float("nan")])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "damaged result file"),
        (lambda text: "", "damaged result file"),
        (lambda text: text.replace('"format": 1', '"format": 99'), "result format 99, this version reads 1"),
        (lambda text: text.replace('"seed": 0,', '"seed": "zero",', 1), "not a valid result"),
        (lambda text: text.replace('"status": "done"', '"status": "failed"'), "not a valid result"),
        (lambda text: "[]", "not a valid result"),
    ],
    ids=["cut", "empty", "format", "type", "status", "list"],
)
def test_a_damaged_file_gives_an_error_that_names_it(damage: object, message: str, tmp_path: Path) -> None:
    path = write(result(), tmp_path / "0.json")
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    with pytest.raises(ResultError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_atomic(tmp_path / "x.json", "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["files:/a/b", "a/b", "..", "x y", "ä", "a" * 300, ".hidden", "-"])
def test_any_name_becomes_a_single_safe_path_component(name: str) -> None:
    safe = file_safe(name)
    assert safe not in ("", ".", "..")
    assert set("/\\: ").isdisjoint(safe)
    assert len(safe) < 100
    assert not safe.startswith(".")


def test_different_names_stay_different_and_plain_ones_stay_plain() -> None:
    assert file_safe("lmm-order-2m") == "lmm-order-2m"
    assert file_safe("a/b") != file_safe("a:b")


def test_limited_results_lie_beside_full_ones() -> None:
    where = {"dataset": "d", "task": "t", "generator": "files:x", "seed": 3}
    full, limited = result_path("r", **where), result_path("r", **where, limit=4)
    assert full.name == "3.json"
    assert limited.name == "3-limit4.json"
    assert full.parent == limited.parent
