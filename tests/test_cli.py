"""The command line: verbs, messages, exit codes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from example_results import changed, result, score
from marsbench import results
from marsbench.cli import main, parser
from toys import cli, command, environment

pytestmark = pytest.mark.usefixtures("third_party")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A results folder with two results."""
    for label, level in (("alpha", 0.7), ("beta", 0.2)):
        where = {"dataset": "made-up-market", "task": "realism", "generator": label}
        results.write(result(label, level=level), results.result_path(tmp_path, **where, seed=0))
    return tmp_path


def test_help_names_every_verb_and_the_exit_codes() -> None:
    text = parser().format_help()
    for verb in ("run", "score", "leaderboard", "list", "data", "validate", "track"):
        assert f"\n    {verb}" in text
    for code in ("0 ", "1 ", "2 ", "130 "):
        assert f"\n  {code}" in text


def test_the_real_command_runs_a_task_and_ends_with_the_leaderboard(market: Path, tmp_path: Path) -> None:
    arguments = ["run", "-g", "toy-walk", "-t", "toy", "-d", market]
    done = cli(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "toy-market · toy · seed 0" in done.stdout
    assert "leaderboard: results/leaderboard-toy-market.html" in done.stdout
    assert f"MLflow store: sqlite:///{tmp_path}/results/mlflow.db" in done.stdout
    for name in ("leaderboard-toy-market.html", "leaderboard-toy-market.md", "mlflow.db"):
        assert (tmp_path / "results" / name).exists()
    made = results.read(tmp_path / "results" / "runs" / "toy-market" / "toy" / "toy-walk" / "0.json")
    assert made.command == f"marsbench run -g toy-walk -t toy -d {market}"


def test_a_failed_unit_gives_exit_code_1_and_a_summary(
    market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "-g",
        "toy-broken",
        "toy-walk",
        "-t",
        "toy",
        "-d",
        str(market),
        "--results",
        str(tmp_path),
        "--no-track",
    ]
    assert main(["run", *arguments]) == 1
    out = capsys.readouterr().out
    assert "units: 1 done, 0 kept, 1 failed" in out
    assert "failed: toy-market / toy / toy-broken / seed 0: RuntimeError: this generator never works" in out
    assert (
        main(["score", "toy-walk", "-t", "toy", "-d", str(market), "--results", str(tmp_path), "--no-track", "--json"])
        == 0
    )
    (unit,) = json.loads(capsys.readouterr().out)
    assert {row["key"] for row in unit["scores"] if row["group"] != "validity"} == {"toy.price.ask", "toy.price.bid"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "-g", "botstrap"], "marsbench run: unknown generator 'botstrap'; did you mean 'bootstrap'?"),
        (["run", "-d", "zi-markt"], "did you mean 'zi-market'"),
        (["run", "-t", "realsm"], "did you mean 'realism'"),
        (["run", "-t", "toy-mismatch"], "produces OtherEvidence"),
        (["run", "--suite", "none.toml"], "none.toml: no such suite file"),
        (["run", "--limit", "0", "-g", "toy-walk"], "limit 0: write at least 1 start"),
        (["leaderboard", "--results", "nowhere"], "nowhere: no results; `marsbench run` makes them"),
        (["validate", "toy-forecast"], "is of kind forecast"),
        (["data", "verify", "nothing.csv"], "nothing.csv"),
    ],
)
def test_a_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARSBENCH_DATA_HOME", str(tmp_path / "home"))
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message.lower() in err.lower()
    assert err.count("\n") == 1
    assert not list(tmp_path.rglob("*.json"))


def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", "--overwrite", "maybe"])
    assert caught.value.code == 2
    assert "missing, always, never" in capsys.readouterr().err.replace("'", "")


@pytest.mark.parametrize("what", ["generators", "metrics", "tasks", "datasets"])
def test_every_listing_has_json(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all("name" in row and "summary" in row for row in rows)
    assert main(["list", what]) == 0
    text = capsys.readouterr().out
    for row in rows:
        assert row["name"] in text


def test_the_leaderboard_comes_in_four_formats(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def out(*arguments: str) -> str:
        assert main(["leaderboard", "--results", str(folder), *arguments]) == 0
        return capsys.readouterr().out

    assert out().splitlines()[3].split()[:2] == ["1", "alpha"]
    assert out("--format", "md").startswith("# made-up-market")
    assert json.loads(out("--format", "json"))["leaderboards"][0]["generators"][0]["label"] == "alpha"
    assert out("--format", "html").strip() == str(folder / "leaderboard-made-up-market.html")
    assert out("--format", "html", "-o", str(folder / "x.html")).strip() == str(folder / "x.html")
    assert (folder / "x.html").read_text().startswith("<!doctype html>")


def test_pages_are_one_of_all_tasks_and_one_of_each(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def pages() -> list[str]:
        assert main(["leaderboard", "--results", str(folder), "--format", "pages", "--no-figures"]) == 0
        return [Path(line).name.removeprefix("leaderboard-made-up-market") for line in capsys.readouterr().out.split()]

    assert pages() == [".html", ".md"]  # of the only task
    for label, level in (("alpha", 0.1), ("beta", 0.9)):
        scores = tuple(score(f"impact.{i}", "impact", level + 0.01 * i) for i in range(3))
        made = changed(result(label, scores=scores), "task", label="other", name="other")
        where = {"dataset": "made-up-market", "task": "other", "generator": label}
        results.write(made, results.result_path(folder, **where, seed=0))
    assert pages() == [".html", ".md", "-other.md", "-realism.md"]
    for page, first in (("-other", "beta"), ("-realism", "alpha")):
        text = (folder / f"leaderboard-made-up-market{page}.md").read_text()
        assert re.search(rf"^\| 1 \| {first} ", text, re.MULTILINE), text


def test_a_leaderboard_that_cannot_be_made_says_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(results.paths(folder))
    path.write_text(
        path.read_text().replace('"version": 1,\n  "content_hash": "ab', '"version": 1,\n  "content_hash": "ba')
    )
    assert main(["leaderboard", "--results", str(folder)]) == 2
    assert "differ in data hash" in capsys.readouterr().err


def test_a_reader_that_stops_reading_is_no_error(folder: Path) -> None:
    line = " ".join(command("leaderboard", "--results", folder, "--format", "json"))
    done = subprocess.run(
        ["bash", "-c", f"{line} | head -1; exit ${{PIPESTATUS[0]}}"], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stderr == ""


def test_validate_prints_every_check(market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["validate", "zero-intelligence", "-d", str(market), "--results", str(tmp_path)]
    code = main([*arguments, "--json"])
    report = json.loads(capsys.readouterr().out)
    assert code == (0 if report["passed"] else 1)
    assert report["passed"], report


def test_an_unexpected_error_keeps_its_traceback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from marsbench import verbs

    def bug(_: object) -> int:
        raise TypeError("ours")

    monkeypatch.setattr(verbs, "leaderboard", bug)
    with pytest.raises(TypeError, match="ours"):
        main(["leaderboard"])
