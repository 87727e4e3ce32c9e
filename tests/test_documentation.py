"""README and CONTRIBUTING do what they say: every example runs, every path, command and make target exists."""

from __future__ import annotations

import doctest
import itertools
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from markets import start_at, two_days
from marsbench import registry, results, runner
from marsbench.cli import main, parser
from marsbench.data import sources
from marsbench.data.catalogue import Dataset, Period, open_dataset, write_dataset
from marsbench.data.convert import convert
from marsbench.data.errors import DataError
from marsbench.data.reference import VERSION
from marsbench.data.verify import verify
from marsbench.evidence import TaskContext
from marsbench.leaderboard import Leaderboard, Row, leaderboards
from marsbench.leaderboard_text import number, to_markdown
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import MINUTE, clock
from marsbench.simulation.contracts import Artifact, Budget, SessionGenerator
from marsbench.simulation.rollout import simulate
from marsbench.simulation.validate import validate
from marsbench.suite import Entrant
from marsbench.train import train

pytestmark = pytest.mark.xdist_group("documentation")
ROOT = Path(__file__).resolve().parents[1]
RESULTS = "results/README.md"
PAGES = ("README.md", "CONTRIBUTING.md", RESULTS)
MOST_LINES = 40
"""An example is shorter than this, blank lines included."""
FOLDERS = {"generators": "marsbench.generators", "metrics": "marsbench.metrics", "tasks": "marsbench.tasks",
           "marsbench/data": "marsbench.data"}  # fmt: skip
"""Folders that the examples of CONTRIBUTING go into, and the packages that these are."""


def test_results_of_who_comes_with_weights_are_of_these_weights() -> None:
    """Otherwise nobody else could make them again."""
    shipped, others = {}, []
    for path in sorted((ROOT / "results" / "runs").glob("*/*/*/*.json")):
        result = results.read(path)
        name = result.generator["name"]
        folder = registry.lookup("generators", name).checkpoints
        if name not in shipped and folder:
            shipped[name] = {Artifact.read(p.parent).content_hash for p in folder.glob("*/artifact.json")}
        if result.artifact and folder and result.artifact["content_hash"] not in shipped[name]:
            others.append(str(path.relative_to(ROOT)))
    assert shipped
    assert not others


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    page: str
    line: int
    language: str
    code: str

    @property
    def file(self) -> str:
        """The file that its first line names, as ``# metrics/direction.py``; empty for a script."""
        found = re.match(r"# (\S+\.py)\n", self.code)
        return found.group(1) if found else ""

    def __str__(self) -> str:
        return self.file or f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    out = []
    for page in PAGES:
        text = (ROOT / page).read_text()
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, found.start()) + 1
            out.append(Block(page, line, found.group(1), found.group(2)))
    return [b for b in out if not languages or b.language in languages]


EXAMPLES = blocks("python")


def example(file: str) -> Block:
    return next(b for b in EXAMPLES if b.file == file)


def inline(page: str) -> list[str]:
    """What stands between backticks in the prose of a page."""
    prose = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", prose)]


def commands(program: str, *pages: str) -> list[str]:
    """Every shown command line of a program, in prose and in shell blocks."""
    taken = pages or PAGES
    lines = [line.split("#")[0].strip() for b in blocks("sh") if b.page in taken for line in b.code.splitlines()]
    shown = lines + [code for page in taken for code in inline(page)]
    return sorted({line for line in shown if line.split(" ")[0] == program and " " in line})


# Form


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_an_example_is_short(block: Block) -> None:
    assert len(block.code.splitlines()) < MOST_LINES


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_an_example_keeps_the_style_of_the_repository(block: Block) -> None:
    name = f"--stdin-filename={ROOT / (block.file or 'example.py')}"
    for command in (["check", "--quiet", name, "-"], ["format", "--diff", name, "-"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command], input=block.code, capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_contributing_has_an_example_of_everything_that_can_be_added() -> None:
    there = {str(Path(b.file).parent) for b in EXAMPLES if b.page == "CONTRIBUTING.md"}
    assert there == {*FOLDERS, "tests/metrics", "."}  # a quantity is a file of the user's own


def test_the_other_blocks_are_of_a_kind_that_is_checked() -> None:
    assert {b.language for b in blocks()} == {"python", "sh", "toml"}
    for block in blocks("toml"):
        (group,) = tomllib.loads(block.code)["project"]["entry-points"]
        assert group in {f"marsbench.{kind}" for kind in registry.BASES}


# Paths, links, commands


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", (ROOT / page).read_text()):
        name, _, heading = target.partition("#")
        file = (ROOT / page).parent / name
        assert target.startswith("https://") or file.exists(), target
        assert not heading or heading in headings(file), target


def headings(page: Path) -> set[str]:
    """The names by which links reach the headings of a page."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(page: str) -> None:
    new = {b.file for b in EXAMPLES} | set((ROOT / ".gitignore").read_text().split())  # what running makes
    for code in inline(page):
        if not re.fullmatch(r"[\w./-]+(/|\.(py|md|txt|toml))", code):
            continue
        assert code in new or (ROOT / code).exists() or code.startswith(".venv"), code


@pytest.mark.parametrize("command", commands("marsbench"))
def test_a_shown_command_is_one_that_the_command_line_takes(command: str) -> None:
    options = parser().parse_args(shlex.split(command)[1:])
    assert options.verb


def test_a_shown_plug_in_exists_or_is_an_example() -> None:
    known = {*registry.names("generators"), "coin", "stationary-bootstrap", "learned-coin", "shuffled-minutes"}
    for command in commands("marsbench"):
        options = vars(parser().parse_args(shlex.split(command)[1:]))
        shown = [*(options.get("generators") or []), *(options.get("gens") or []), options.get("gen") or "GEN"]
        assert {Entrant.of(spec).spec.name for spec in shown if spec != "GEN"} <= known, command


def of_results(*verbs: str) -> list[str]:
    """Command lines of the page on the committed results, by verb."""
    return [line for line in commands("marsbench", RESULTS) if line.split(" ")[1] in verbs]


def test_the_page_on_results_shows_how_they_are_ranked() -> None:
    assert any("--controls" in command for command in of_results("leaderboard"))
    assert of_results("compare")


@pytest.mark.parametrize("command", of_results("leaderboard", "compare"))
def test_a_shown_ranking_runs_on_the_committed_results(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    arguments = shlex.split(command)[1:]
    assert not {"-o", "--output"} & set(arguments), "a test writes nothing there"
    assert main(arguments) == 0, capsys.readouterr().err


def test_the_committed_rankings_are_those_of_the_committed_results() -> None:
    made = leaderboards(ROOT / "results", missing="drop")
    assert made
    for board in made:
        name = board.dataset["name"]
        pages = {"": board}
        for task in board.tasks:
            (pages[f"-{task}"],) = leaderboards(
                ROOT / "results", dataset=name, tasks=[task], controls=True, missing="drop"
            )
        for task, one in pages.items():
            page = ROOT / "results" / f"leaderboard-{name}{task}.md"
            assert page.read_text() == to_markdown(one), f"{page.name}: marsbench leaderboard --format pages"


@cache
def board_of(dataset: str, tasks: tuple[str, ...], folder: str = "results") -> Leaderboard:
    (board,) = leaderboards(ROOT / folder, dataset=dataset, tasks=tasks, missing="drop")
    return board


WINDOWS = ("realism", "sessions")
RANKINGS = {
    ("README.md", "The whole leaderboard of the embedded market"): ("reference", ()),
    (RESULTS, "### All five tasks"): ("reference", ()),
    (RESULTS, "### Windows and whole sessions"): ("reference", WINDOWS),
    (RESULTS, "### GOOG, "): ("goog-2012-06-21", ()),
    (RESULTS, "### 600519, "): ("600519-2023-02-07", ()),
    (RESULTS, "### 600536, "): ("600536-2023-07-11", ()),
}
"""Page and words before a ranking that it prints -> data set and tasks."""


def rows_below(page: str, words: str, head: str) -> tuple[str, list[str]]:
    """The first table with such a head after a line that begins with these words: its head and its rows."""
    lines = (ROOT / page).read_text().split(f"\n{words}")[1].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(head))
    return lines[first], list(itertools.takewhile(lambda line: line.startswith("|"), lines[first + 2 :]))


@pytest.mark.parametrize(("page", "words"), RANKINGS)
def test_a_printed_ranking_is_that_of_the_committed_results(page: str, words: str) -> None:
    dataset, tasks = RANKINGS[page, words]
    board = board_of(dataset, tasks)
    head, printed = rows_below(page, words, "| rank |")
    groups = head.split(" | ")[2:-3]
    wanted = []
    for row in board.rows:
        if row.rank and row.interval and row.orders_per_s:
            low, high = row.interval
            cells = [board.place(row), row.label, *(number(row.groups[group]) for group in groups)]
            cells += [f"{number(row.overall)} [{low:z.2f}, {high:z.2f}]", "{} of {}".format(*row.below_floor)]
            wanted.append(f"| {' | '.join(cells)} | {row.orders_per_s:,.0f} |")
    assert printed == wanted


def overall(row: Row) -> str:
    if row.overall is None or row.interval is None:
        return ""
    return "{:z.2f} [{:z.2f}, {:z.2f}]".format(row.overall, *row.interval)


def test_the_printed_table_of_market_impact_is_that_of_the_committed_results() -> None:
    board = board_of("reference", ("market-impact",))
    _, printed = rows_below(RESULTS, "## Market impact", "| generator |")
    formats = {
        "impact_gap.impact": "{:z.0%} [{:z.0%}, {:z.0%}]",
        "square_root_law.delta": "{:z.2f} [{:z.2f}, {:z.2f}]",
        "square_root_law.relaxation": "{:z.2f} [{:z.2f}, {:z.2f}]",
    }
    wanted = []
    for row in sorted((row for row in board.rows if row.rank), key=lambda row: -(row.overall or 0.0)):
        cells = [row.scores[key] for key in formats]
        texts = [f.format(s.value, s.ci_low, s.ci_high) for f, s in zip(formats.values(), cells, strict=True)]
        wanted.append(f"| {' | '.join([row.label, overall(row), *texts])} |")
    assert printed == wanted


def test_the_printed_table_of_forecasts_is_that_of_the_committed_results() -> None:
    many, few, long = (
        {row.label: row for row in board_of("reference", (task,), folder).rows}
        for task, folder in (
            ("forecasting,most_starts=1200", "results/forecasting"),
            ("forecasting", "results"),
            ("forecasting,minutes=5,rollouts=128", "results/forecasting"),
        )
    )
    _, printed = rows_below(RESULTS, "## Forecasts", "| generator |")
    wanted = set()
    for label in {label for rows in (many, few, long) for label, row in rows.items() if row.rank} | set(many):
        trend = f"{many[label].scores['trend.accuracy.1m'].value:.3f}" if label in many else ""
        whole = [overall(rows[label]) if label in rows else "" for rows in (many, few, long)]
        wanted.add(f"| {label} | {whole[0]} | {trend} | {whole[1]} | {whole[2]} |")
    assert len(printed) == len(wanted) + 1
    assert set(printed[:-1]) == wanted, "the last row links the boards"


@pytest.mark.parametrize("command", commands("make"))
def test_a_shown_make_target_exists(command: str) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert command.split(" ")[1] in targets


def test_every_module_of_plug_ins_is_named_where_the_paper_is_compared() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in registry.names("generators"):
        assert f"`{name}`" in readme or registry.lookup("generators", name).hidden, name
    for name in registry.names("metrics"):
        module = registry.lookup("metrics", name).__module__.rpartition(".")[2]
        assert f"`metrics/{module}.py`" in readme, name


# Examples of README


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data home in which a small market stands in for the embedded one (two instruments, two days of 90 minutes)."""
    folder = tmp_path_factory.mktemp("home") / f"reference-v{VERSION}"
    folder.mkdir()
    days = [day for profile in (0, 1) for day in two_days(profile)]
    uses = ["train", "test"] * 2
    periods = [Period(d.instrument, d.date, d.start_ns, d.end_ns, use) for d, use in zip(days, uses, strict=True)]
    write_dataset(folder, days, periods, name="reference", version=VERSION, summary="a stand-in")
    return folder.parent


@pytest.fixture
def at_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; returns it."""
    monkeypatch.setenv("MARSBENCH_DATA_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(block: Block, folder: Path) -> dict[str, Any]:
    """Run a block as a script of its own; returns its names."""
    path = folder / (block.file or "example.py")
    path.write_text(block.code)
    return runpy.run_path(str(path), run_name="__main__")


def test_the_first_example_of_the_readme_runs(at_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (first,) = [b for b in EXAMPLES if b.page == "README.md" and not b.file]
    assert len(first.code.splitlines()) <= 10
    script(first, at_home)
    said = capsys.readouterr().out
    for name in ("bootstrap", "zero-intelligence"):
        assert re.search(rf"^{name}: spread 0\.\d\d, floor 0\.\d\d, ceiling 0\.\d\d$", said, re.MULTILINE), said
    assert "scores are uninformative" in said


@pytest.fixture
def coin(at_home: Path) -> Any:
    return script(example("coin.py"), at_home)["Coin"]()


def fitted(generator: Any, folder: Path) -> SessionGenerator:
    """Fitted on the training day of one instrument."""
    folder.mkdir()
    artifact = generator.fit([two_days()[0]], folder, seed=0, budget=Budget())
    generator.load(Artifact.read(artifact.folder))
    assert isinstance(generator, SessionGenerator)
    return generator


def assert_valid(generator: SessionGenerator) -> None:
    report = validate(generator, [start_at(two_days()[1], "10:00"), start_at(two_days()[1], "10:20")], minutes=3)
    assert report.passed, str(report)


def test_the_generator_of_the_readme_keeps_the_contract(coin: Any, tmp_path: Path) -> None:
    assert_valid(fitted(coin, tmp_path / "artifact"))


def test_the_generator_of_the_readme_gets_onto_the_leaderboard(coin: Any, at_home: Path) -> None:
    report = runner.run([coin, "zero-intelligence"], limit=2, results=at_home / "results", track=False)
    assert [results.read(path).status for path in report.paths] == ["done"] * 4
    made = {(r.generator["label"], r.task["label"]) for r in map(results.read, report.done)}
    assert made == {(who, task) for who in ("coin", "zero-intelligence") for task in ("realism", "sessions")}


# Examples of CONTRIBUTING: put where it says they go


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The examples as modules of the packages that they are for, by file; gone afterwards."""
    names = {}
    for folder, package_name in FOLDERS.items():
        here = tmp_path / "checkout" / folder
        here.mkdir(parents=True)
        package = import_module(package_name)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(here)])
        for block in EXAMPLES:
            own = folder == "generators" and block.file == "coin.py"  # where an example of CONTRIBUTING finds it
            if own or (block.file and str(Path(block.file).parent) == folder):
                (here / Path(block.file).name).write_text(block.code)
                names[block.file] = f"{package_name}.{Path(block.file).stem}"
    registry.table.cache_clear()
    yield {file: import_module(name) for file, name in names.items()}
    for name in names.values():
        package_name, _, module = name.rpartition(".")
        del sys.modules[name]
        delattr(import_module(package_name), module)
    registry.table.cache_clear()


def test_the_generator_example_is_found_by_name_and_keeps_the_contract(installed: Any, tmp_path: Path) -> None:
    made = registry.generator("stationary-bootstrap,mean_seconds=20")
    assert made.parameters() == {"mean_seconds": 20}
    assert_valid(fitted(made, tmp_path / "artifact"))


def test_the_generator_example_plays_blocks_of_the_length_that_it_says(installed: Any, tmp_path: Path) -> None:
    """Recorded flow keeps its rate, whatever the blocks."""
    generator = fitted(registry.generator("stationary-bootstrap", mean_seconds=5.0), tmp_path / "artifact")
    day, start = two_days()[0], start_at(two_days()[1], "10:00")
    per_minute = len(day.orders) / 90
    runs = simulate(generator, [start], 16, 5 * MINUTE, key=1)[0]
    assert np.mean([len(t.orders) for t in runs]) == pytest.approx(5 * per_minute, rel=0.1)


def test_the_trained_generator_example_is_found_by_name_trained_and_keeps_the_contract(
    installed: Any, home: Path, tmp_path: Path
) -> None:
    data = home / f"reference-v{VERSION}"
    report = train("learned-coin", str(data), results=tmp_path, track=False, say=lambda _: None)
    made = registry.generator("learned-coin")
    assert isinstance(made, SessionGenerator)
    made.load(report.artifact)
    assert_valid(made)
    starts = [start_at(two_days()[1], "10:00")]
    sent = [len(t.orders) for t in simulate(made, starts, 8, 5 * MINUTE, key=1)[0]]
    days = [two_days(profile)[0] for profile in (0, 1)]
    per_minute = np.mean([len(day.orders) / 90 for day in days])
    assert np.mean(sent) == pytest.approx(5 * per_minute, rel=0.15)


def test_a_run_finds_the_trained_generator_example_and_says_how_to_train_it_where_it_is_not(
    installed: Any, at_home: Path
) -> None:
    def run() -> results.Result:
        report = runner.run(["learned-coin"], tasks=["realism"], limit=2, results=at_home / "results", track=False)
        (path,) = report.paths
        return results.read(path)

    assert "marsbench train learned-coin" in str(run().reason)
    assert main(["train", "learned-coin", "--results", "results", "--no-track"]) == 0
    assert run().status == "done"
    assert list(run().training) == ["train.interval", "train.total"]


def test_the_forecaster_example_states_the_shares_of_training(installed: Any, home: Path, tmp_path: Path) -> None:
    """Terciles of training: thirds, each of which costs ln 3."""
    data = str(home / f"reference-v{VERSION}")
    only = {"tasks": ["forecasting,minutes=1"], "datasets": [data], "results": tmp_path, "track": False, "limit": 6}
    (path,) = runner.run(["class-shares"], **only).done
    assert results.read(path).scores["trend.log_loss.1m"].value == pytest.approx(np.log(3), abs=0.02)


def test_the_example_of_price_paths_keeps_its_contract_and_is_scored(
    installed: Any, home: Path, tmp_path: Path
) -> None:
    data = str(home / f"reference-v{VERSION}")
    report = runner.validate("shuffled-minutes", data, results=tmp_path)
    assert report.passed, str(report)
    task = "realism,minutes=5,rollouts=2"
    only = {"tasks": [task], "datasets": [data], "results": tmp_path, "track": False, "limit": 4}
    (path,) = runner.run(["shuffled-minutes"], **only).done
    scores = results.read(path).scores
    assert scores["distribution_similarity.return_1min"].value is not None
    assert scores["facts.02_heavy_tails"].reason == "not applicable: price paths only, no trades"


def test_the_test_of_the_metric_example_passes(installed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "metrics"))
    block = example("tests/metrics/test_direction.py")
    (tmp_path / "test_direction.py").write_text(block.code)
    names = runpy.run_path(str(tmp_path / "test_direction.py"))
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


def test_the_quantity_example_is_scored_from_the_command_line(at_home: Path) -> None:
    Path("my_quantities.py").write_text(example("my_quantities.py").code)
    task = "realism,minutes=5,rollouts=2,quantities=spread+my_quantities.py:LARGE"
    assert main(["run", "-g", "bootstrap", "-t", task, "--limit", "2", "--no-track", "--results", "r"]) == 0
    (path,) = results.paths(Path("r"))
    scores = results.read(path).scores
    assert 0 < scores["distribution_similarity.large_order_share.full"].value <= 1
    assert 0 <= scores["three_class_accuracy.large_order_share.one_rollout"].value <= 1
    assert "distribution_similarity.volatility" not in scores


def test_the_metric_and_the_task_example_score_simulated_markets(installed: Any, home: Path) -> None:
    data = Dataset(home / f"reference-v{VERSION}")
    task = registry.task("short-term", minutes=3)
    starts = task.starts(data)
    assert [s.name for s in starts[:2]] == ["ZI-A 2024-01-03 09:30:00", "ZI-A 2024-01-03 10:00:00"]
    assert len(starts) == 2 * 3
    assert {s.instrument for s in starts} == {"ZI-A", "ZI-B"}

    def perfect(generator: Any, starts: Any, rollouts: int, horizon_ns: int) -> Any:
        return [[data.window(s.instrument, s.date, s.clock_ns, s.clock_ns + horizon_ns)] * rollouts for s in starts]

    evidence = task.run(None, data, TaskContext(seed=0, starts=starts, simulate=perfect))
    ((name, parameters),) = task.metrics
    (score,) = registry.metric(name, **parameters).evaluate(evidence, np.random.default_rng(0)).scores
    assert (score.key, score.value, score.clusters) == ("direction.3min", 1.0, 2)
    assert 0.5 <= score.floor <= 1


def test_the_examples_run_together_from_the_registry_to_a_result(installed: Any, at_home: Path) -> None:
    report = runner.run(
        ["stationary-bootstrap"], tasks=["short-term"], limit=3, results=at_home / "results", track=False
    )
    (result,) = map(results.read, report.done)
    score = result.scores["direction.5min"]
    assert 0 <= score.value <= 1
    assert score.n <= 3


MESSAGES = """\
time_ns,order_id,kind,price_ticks,size_shares
34201000000000,1,0,10.02,300
34260000000000,2,1,10.00,200
34261000000000,3,0,10.03,100
34800000000000,4,1,10.03,350
35400000000000,5,1,9.99,500
37000000000000,6,0,10.00,250
37500000000000,3,2,10.03,50
37600000000000,5,2,9.99,500
"""
TRADES = """\
time_ns,seq,bid_id,ask_id,price_ticks,size_shares,side
34800000000000,3,4,1,10.02,300,1
34800000000000,3,4,3,10.03,50,1
37000000000000,5,2,6,10.00,200,0
"""


@pytest.fixture
def exchange_file(installed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A day of the example exchange, whose reader is entered as CONTRIBUTING says."""
    path = tmp_path / "XMPL_2024-03-01_messages.csv"
    path.write_text(MESSAGES)
    (tmp_path / "XMPL_2024-03-01_trades.csv").write_text(TRADES)
    reader = installed["marsbench/data/example_exchange.py"].read
    entry = sources.Source("example", lambda path: path.name.startswith("XMPL"), reader, "example files are XMPL")
    monkeypatch.setitem(sources.SOURCES, "example", entry)
    return path


def test_the_data_source_example_reads_a_day_that_replay_proves(exchange_file: Path) -> None:
    found = verify(exchange_file)
    assert (found.unexplained, found.kinds, found.trades) == (0, {}, 3)
    day = sources.read(exchange_file).trajectory()
    assert replay_trajectory(day).final.resting["order_id"].tolist() == [6]


def test_a_trade_that_did_not_happen_is_found_out(exchange_file: Path) -> None:
    trades = exchange_file.with_name("XMPL_2024-03-01_trades.csv")
    trades.write_text(TRADES.replace("10.00,200,0", "10.01,150,0"))
    assert verify(exchange_file).kinds == {"trade_price": 1, "trade_size": 1}


def test_the_data_source_example_becomes_a_data_set(exchange_file: Path, tmp_path: Path) -> None:
    convert(exchange_file, name="example", out=tmp_path / "example")
    data = open_dataset(tmp_path / "example")
    (test,) = data.split("test")
    assert (test.start_ns, test.end_ns) == (clock("10:05"), clock("10:30"))
    assert len(data.trajectory(test).orders) == 3


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("35400000000000,5,1", "35400000000000,5,7", "row 6: kind"),
        ("34260000000000,2", "34200000000000,2", "row 3: time_ns"),
        ("10.00,200", "10.00,two", "two"),
        ("2,9.99,500\n", "2,9.99,500", "no line end"),
    ],
)
def test_a_damaged_file_of_the_data_source_example_is_refused(
    exchange_file: Path, old: str, new: str, said: str
) -> None:
    exchange_file.write_text(MESSAGES.replace(old, new))
    with pytest.raises(DataError, match=said):
        sources.read(exchange_file)


# Examples in docstrings


def with_examples() -> list[str]:
    """Modules that show examples."""
    tops = {"marsbench": "marsbench", **{kind: f"marsbench.{kind}" for kind in registry.BASES}}
    paths = [(ROOT / top, package, p) for top, package in tops.items() for p in sorted((ROOT / top).rglob("*.py"))]
    return [
        ".".join([package, *path.relative_to(folder).with_suffix("").parts])
        for folder, package, path in paths
        if ">>> " in path.read_text()
    ]


def test_there_are_examples_in_docstrings() -> None:
    assert "marsbench.market.clearing_house" in with_examples()


@pytest.mark.parametrize("name", with_examples())
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    outcome = doctest.testmod(import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0
