"""A run keeps what is finished, whatever happens, and ends with the same scores as an undisturbed one."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marsbench import fitting, registry, results, rollouts, runner, suite
from marsbench.data.dataset import Period
from marsbench.evidence import NoStarts
from marsbench.experiment import DiskFull
from marsbench.fitting import LeakError, check_no_overlap
from marsbench.market.trajectory import load_all
from marsbench.simulation.contracts import Kind, Trained
from third_party.toy_plugin import ToyWalk
from toys import cli, command, environment, interruptible, run, scores_of

pytestmark = pytest.mark.usefixtures("third_party")


def test_a_unit_says_everything_about_itself(market: Path, tmp_path: Path) -> None:
    report = run(market, tmp_path / "results")
    assert report.paths == [tmp_path / "results" / "runs" / "toy-market" / "toy" / "toy-walk" / "0.json"]
    made = results.read(report.paths[0])
    assert made.status == "done"
    assert made.generator["version"] == 3
    assert made.artifact is not None
    assert made.artifact["trained_on"]["list"][0].endswith("2024-01-02 09:30:00-10:15:00")
    assert made.task["starts"] == 6
    assert [m["label"] for m in made.task["metrics"]] == ["toy-flow", "toy-flow,side=1"]
    assert made.training["loss"]["value"] == [3.0, 2.0, 1.5]
    assert made.cost["orders"] == 6 * 64 * 15
    assert made.cost["orders_per_s"] > 0
    assert 0 < made.cost["simulate_cpu_s"] < 60
    assert made.cost["peak_memory_bytes"] > 2**20
    assert made.command == f"marsbench run -g toy-walk -t toy -d {market} --seeds 0"
    assert made.environment["packages"]["numpy"] == np.__version__


def test_floors_are_frozen_with_the_data_set_and_handed_to_the_metrics(own_market: Path, tmp_path: Path) -> None:
    run(own_market, tmp_path / "a", "zero-intelligence")
    path = own_market / "floors" / "toy-v2.json"
    floors = json.loads(path.read_text())
    assert floors["for"]["generator"]["name"] == "zero-intelligence"
    made = results.read(tmp_path / "a" / "runs" / "toy-market" / "toy" / "zero-intelligence" / "0.json")
    assert made.floors["hash"] == floors["hash"]
    assert set(floors["values"]) == {key for key, one in made.scores.items() if one.group != "validity"}
    for key, value in floors["values"].items():
        assert made.scores[key].floor == value
        assert made.scores[key].normalised == pytest.approx(0.0, abs=1e-3)
    before = path.read_bytes()
    run(own_market, tmp_path / "b", "zero-intelligence", overwrite="always")
    assert path.read_bytes() == before
    floors["for"]["task"]["version"] = 1
    path.write_text(json.dumps(floors))
    run(own_market, tmp_path / "a")
    assert json.loads(path.read_text())["for"]["task"]["version"] == 2


def test_what_is_there_is_kept_and_what_is_outdated_is_run_again(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(market, tmp_path)
    content = first.paths[0].read_bytes()
    second = run(market, tmp_path)
    assert (second.kept, second.done) == (first.done, [])
    assert first.paths[0].read_bytes() == content
    from toy_plugin import ToyWalk

    monkeypatch.setattr(ToyWalk, "version", 4)
    assert run(market, tmp_path, overwrite="never").kept == first.paths
    assert run(market, tmp_path).done == first.paths
    assert "the result is of another generator; run again" in capsys.readouterr().err
    assert results.read(first.paths[0]).generator["version"] == 4


def test_a_result_of_a_users_code_that_was_edited_since_is_run_again(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from toy_plugin import ToyFlow

    monkeypatch.setattr(ToyFlow, "outside_code", lambda self: {"mine": "before"}, raising=False)
    first = run(market, tmp_path)
    assert results.read(first.paths[0]).task["metrics"][0]["outside_code"] == {"mine": "before"}
    assert run(market, tmp_path).kept == first.done
    monkeypatch.setattr(ToyFlow, "outside_code", lambda self: {"mine": "after"})
    assert run(market, tmp_path).done == first.paths
    assert "the result is of another metrics; run again" in capsys.readouterr().err


def test_rerunning_always_simulates_anew_and_gives_the_same_scores(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    (path,) = run(market, tmp_path).paths
    scores = scores_of(path)
    monkeypatch.setenv("TOY_LOG", str(log))
    run(market, tmp_path, overwrite="always")
    assert len(log.read_text().splitlines()) == 3  # 6 starts of 64 rollouts: 2 starts to a chunk
    assert scores_of(path) == scores


def test_results_do_not_depend_on_the_number_of_processes(market: Path, tmp_path: Path) -> None:
    (one,) = run(market, tmp_path / "r1").paths
    arguments = ["-g", "toy-walk", "-t", "toy", "-d", market, "--jobs", 2, "--results", "r2", "--no-track"]
    done = cli("run", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    two = tmp_path / "r2" / "runs" / "toy-market" / "toy" / "toy-walk" / "0.json"
    assert scores_of(one) == scores_of(two)
    names = [sorted(p.name for p in (tmp_path / r / "cache" / "trajectories").iterdir()) for r in ("r1", "r2")]
    assert set(names[1]) <= set(names[0])


def test_one_failure_does_not_stop_the_others(market: Path, tmp_path: Path) -> None:
    report = run(market, tmp_path, "toy-broken", "toy-forecast", "toy-walk")
    assert [p.parent.name for p in report.done] == ["toy-walk"]
    (broken,) = (results.read(p) for p in report.failed)
    assert broken.reason == "RuntimeError: this generator never works"
    assert broken.error is not None
    assert "toy_plugin.py" in broken.error["traceback"]
    assert str(Path(__file__).parent) not in broken.error["traceback"]
    (other,) = (results.read(p) for p in report.not_applicable)
    assert other.reason == "a generator of kind forecast; task toy takes session, trajectories"
    assert "failed: toy-market / toy / toy-broken / seed 0: RuntimeError" in report.summary()


def test_a_generator_that_saw_a_test_period_is_refused(market: Path, tmp_path: Path) -> None:
    report = run(market, tmp_path, "toy-peek")
    assert "LeakError" in (results.read(report.failed[0]).reason or "")


def test_a_generator_may_ask_for_the_latest_training_days_of_each_instrument() -> None:
    def day(instrument: str, date: str, split: str = "train") -> Period:
        return Period(instrument, date, 0, 60 * 10**9, split)

    class Data:
        periods = [day(i, f"2024-01-0{d}") for i in ("A", "B") for d in (2, 3, 4)] + [day("B", "2024-01-05")]

        def split(self, name: str) -> list[Period]:
            return [p for p in self.periods if p.split == name]

    class Recent(ToyWalk):
        training_days = 2

    chosen = fitting.training_periods(Recent(), Data())  # type: ignore[arg-type]
    assert [(p.instrument, p.date[-1]) for p in chosen] == [("A", "3"), ("A", "4"), ("B", "4"), ("B", "5")]
    assert len(fitting.training_periods(ToyWalk(), Data())) == 7  # type: ignore[arg-type]


def test_overlap_is_judged_by_instrument_day_and_time() -> None:
    from marsbench.data.catalogue import Period
    from marsbench.market.rules import clock

    test = [Period("X", "2024-01-03", clock("10:00"), clock("11:00"), "test")]
    for seen in ("X 2024-01-02 10:00:00-11:00:00", "Y 2024-01-03 10:00:00-11:00:00", "X 2024-01-03 09:00:00-10:00:00"):
        check_no_overlap([seen], test, who="it")
    with pytest.raises(LeakError, match=r"it was trained on X 2024-01-03 10:30:00-10:31:00, which overlaps"):
        check_no_overlap(["X 2024-01-03 10:30:00-10:31:00"], test, who="it")


def test_a_limited_run_stays_apart_from_a_full_one(market: Path, tmp_path: Path) -> None:
    full, limited = run(market, tmp_path).paths[0], run(market, tmp_path, limit=2).paths[0]
    assert (full.name, limited.name) == ("0.json", "0-limit2.json")
    assert results.read(limited).task["starts"] == 2
    assert results.read(limited).floors["hash"] != results.read(full).floors["hash"]


def test_scoring_again_needs_no_simulation(market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = run(market, tmp_path).paths
    scores = scores_of(path)
    path.write_text(path.read_text().replace('"value": ', '"value": 9', 1))

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("simulated")

    monkeypatch.setattr(rollouts, "_simulate", never)
    monkeypatch.setattr(fitting, "_fit", never)
    report = runner.score(tasks=["toy"], datasets=[str(market)], results=tmp_path, track=False)
    assert report.done == [path]
    assert scores_of(path) == scores


def test_scoring_what_was_never_simulated_says_what_to_do(market: Path, tmp_path: Path) -> None:
    run(market, tmp_path)
    shutil.rmtree(tmp_path / "cache" / "trajectories")
    report = runner.score(["toy-walk"], tasks=["toy"], datasets=[str(market)], results=tmp_path, track=False)
    assert "3 of 3 chunks of trajectories are not stored; `marsbench run` simulates them" in report.summary()
    with pytest.raises(FileNotFoundError, match="no results of"):
        runner.score(tasks=["toy"], datasets=[str(market)], results=tmp_path / "empty", track=False)


@pytest.mark.parametrize("damage", ["cut", "overwritten", "empty"])
def test_damaged_trajectories_are_reported_set_aside_and_simulated_again(
    damage: str, market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = run(market, tmp_path).paths
    scores = scores_of(path)
    chunk = sorted((tmp_path / "cache" / "trajectories").glob("*.parquet"))[0]
    content = bytearray(chunk.read_bytes())
    if damage == "overwritten":
        content[len(content) // 4 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
    chunk.write_bytes(content[: {"cut": len(content) // 2, "overwritten": len(content), "empty": 0}[damage]])
    path.unlink()
    run(market, tmp_path)
    assert "stored trajectories are damaged, set aside as" in capsys.readouterr().err
    assert chunk.with_name(chunk.name + ".damaged").exists()
    assert load_all(chunk)
    assert scores_of(path) == scores


def test_a_damaged_fit_is_reported_and_made_again(
    market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = run(market, tmp_path).paths
    scores = scores_of(path)
    (artifact,) = (p for p in (tmp_path / "cache" / "artifacts").iterdir() if (p / "size.json").exists())
    (artifact / "size.json").write_text("[]")
    path.unlink()
    run(market, tmp_path)
    assert "stored fit is damaged" in capsys.readouterr().err
    assert scores_of(path) == scores


def test_a_damaged_result_is_reported_and_run_again(
    market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = run(market, tmp_path).paths
    path.write_text(path.read_text()[:1000])
    assert run(market, tmp_path).done == [path]
    assert f"{path}: damaged result file" in capsys.readouterr().err


def test_an_instance_can_be_run_without_being_registered(market: Path, tmp_path: Path) -> None:
    from toy_plugin import ToyWalk

    class Unknown(ToyWalk):
        name = "unknown"

    (path,) = run(market, tmp_path, Unknown(lots=2)).paths
    made = results.read(path)
    assert made.generator["label"] == "unknown,lots=2"
    assert made.status == "done"


def test_a_disk_that_fills_up_while_simulating_loses_nothing(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = run(market, tmp_path).paths
    real, calls = rollouts.save, []

    def fills_up(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(rollouts, "save", fills_up)
    with pytest.raises(DiskFull, match=r"disk full: 0 results of this run and 1 earlier ones are saved"):
        run(market, tmp_path, seeds=[0, 1])
    assert results.read(first).status == "done"
    assert not list(tmp_path.rglob("*.tmp"))
    monkeypatch.setattr(rollouts, "save", real)
    assert len(run(market, tmp_path, seeds=[0, 1]).done) == 1


def test_a_disk_that_is_really_full_gives_one_clear_line(market: Path, tmp_path: Path) -> None:
    tiny = tmp_path / "tiny"
    tiny.mkdir()
    mount = f"mount -t tmpfs -o size=400k tmpfs {tiny}"
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("this machine does not let us mount a small file system")
    line = " ".join(command("run", "-g", "toy-walk", "-t", "toy", "-d", market, "--results", tiny, "--no-track"))
    script = f"{mount} && {line}; code=$?; find {tiny} -name '*.tmp*' | wc -l; exit $code"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "disk full: 0 results of this run" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip() == "0"


@pytest.mark.slow
def test_a_run_killed_at_random_moments_goes_on_and_ends_with_the_same_scores(own_market: Path, tmp_path: Path) -> None:
    arguments = ["run", "-g", "toy-walk,pause_s=0.15", "zero-intelligence", "-t", "toy", "-d", own_market]
    arguments += ["--seeds", 0, 1, "--no-track", "--results"]
    quiet = tmp_path / "undisturbed"
    began = time.monotonic()
    done = cli(*arguments, quiet, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    whole = time.monotonic() - began
    shutil.rmtree(own_market / "floors")
    rng = np.random.default_rng()
    moments = rng.uniform(0.3, 0.95, 4) * whole
    killed, finished = tmp_path / "killed", {}
    for moment in moments:
        process = subprocess.Popen(command(*arguments, killed), env=environment(), stderr=subprocess.DEVNULL)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path, content in finished.items():
            assert path.read_bytes() == content, f"{path} was finished and has changed, moments {moments}"
        finished |= {path: path.read_bytes() for path in results.paths(killed)}
        for path in finished:
            results.read(path)
    done = cli(*arguments, killed, cwd=tmp_path)
    assert done.returncode == 0, f"{done.stderr}, moments {moments}"
    own, others = list(results.paths(quiet)), list(results.paths(killed))
    assert len(own) == len(others) == 4
    for one, other in zip(own, others, strict=True):
        assert scores_of(one) == scores_of(other), f"moments {moments}"
    for path, content in finished.items():
        assert path.read_bytes() == content


def test_an_interrupt_says_what_is_saved_and_exits_with_130(market: Path, tmp_path: Path) -> None:
    arguments = ["run", "-g", "toy-walk,pause_s=60", "-t", "toy", "-d", market, "--no-track"]
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment(), "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(*arguments), **options, preexec_fn=interruptible)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("results/cache/artifacts/.*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted: 0 results of this run and 0 earlier ones are saved under results" in stderr
    assert "Traceback" not in stderr


def test_the_paper_suite_is_every_task_with_three_seeds_and_takes_in_the_default_one() -> None:
    paper, whole = suite.read("paper"), suite.Suite()
    assert set(paper.tasks) == {name for name in registry.names("tasks") if not name.startswith("toy")}
    assert set(whole.tasks) < set(paper.tasks)
    assert len(paper.seeds) == 3
    assert paper.generators == whole.generators == ()


def test_units_of_few_chunks_run_side_by_side_and_come_to_the_same(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["zero-intelligence", "bootstrap", "other-day"]
    asked: dict[str, Any] = {"datasets": [str(market)], "tasks": ["realism,rollouts=1,minutes=10"], "track": False}
    alone = runner.run(names, results=tmp_path / "alone", **asked)
    here = []
    monkeypatch.setattr(runner, "evaluate", lambda *_: here.append(1))  # workers have their own
    together = runner.run(names, results=tmp_path / "together", jobs=2, **asked)
    assert not here
    assert len(together.done) == len(alone.done) == 3
    assert {p.parent.name: scores_of(p) for p in together.done} == {p.parent.name: scores_of(p) for p in alone.done}


def test_who_took_longest_in_the_task_before_comes_first(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task that comes last on two processes would end with one of them."""
    turns: list[list[str]] = []

    def counted(processes: int, work: Any, calls: Any, *, ordered: bool) -> Any:
        found = list(calls)
        turns.append([unit.entrant.label for _, unit, _ in found])
        for number, unit, bench in found:
            result = runner.evaluate(unit.course, unit.entrant, unit.seed, bench)
            took = {"zero-intelligence": 2.0, "bootstrap": 9.0, "other-day": 5.0}[unit.entrant.label]
            yield number, replace(result, cost={**result.cost, "wall_s": took}), set(), set()

    monkeypatch.setattr(runner, "in_processes", counted)
    names = ["zero-intelligence", "bootstrap", "other-day"]
    asked: dict[str, Any] = {"datasets": [str(market)], "track": False, "jobs": 2}
    first, second = "realism,rollouts=1,minutes=10", "realism,rollouts=1,minutes=11"
    runner.run(names, results=tmp_path, tasks=[first, second], **asked)
    assert turns == [names, ["bootstrap", "other-day", "zero-intelligence"]]
    turns.clear()
    for label in names:  # kept results tell it as well
        shutil.rmtree(next(tmp_path.glob(f"runs/*/*minutes=11*/{label}")))
    runner.run(names, results=tmp_path, tasks=[first, second], **asked)
    assert turns == [["bootstrap", "other-day", "zero-intelligence"]]


def test_units_run_in_order_where_their_chunks_keep_more_processes_busy(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three chunks of each of two units, on three processes."""
    here: list[str] = []

    def counted(course: Any, entrant: Any, *others: Any) -> results.Result:
        here.append(entrant.label)
        return real(course, entrant, *others)

    real = runner.evaluate
    monkeypatch.setattr(runner, "evaluate", counted)
    run(market, tmp_path, "zero-intelligence", "bootstrap", jobs=3)
    assert here == ["zero-intelligence", "bootstrap"]


def test_of_several_tasks_one_without_starts_is_left_out(
    market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(market, tmp_path, tasks=["sessions,warm_up=200", "toy"])
    assert [results.read(path).task["label"] for path in report.paths] == ["toy"]
    assert "left out: task sessions needs at least 2 whole test days; toy-market has" in capsys.readouterr().err
    with pytest.raises(NoStarts, match="task sessions needs at least 2 whole test days"):
        run(market, tmp_path, tasks=["sessions,warm_up=200"])


def test_who_comes_with_weights_takes_part_by_default() -> None:
    took = {e.spec.name for e in suite.visible([Kind.SESSION, Kind.PATHS, Kind.FORECAST])}
    for name in registry.names("generators"):
        cls = registry.lookup("generators", name)
        shipped = issubclass(cls, Trained) and bool(cls.checkpoints)
        if shipped and not name.startswith("lmm-order"):
            assert name in took
    assert {n for n in took if n.startswith("lmm-order")} == {"lmm-order-1m", "lmm-order-2m"}


def test_the_quick_suite_is_found_by_name_and_takes_every_start_with_fewer_rollouts() -> None:
    plan, whole = suite.read("quick"), suite.Suite()
    quick: Any
    default: Any
    quick, default = (registry.task(p.tasks[0]) for p in (plan, whole))
    assert plan.name == "quick"
    assert replace(quick, rollouts=default.rollouts) == default
    assert quick.rollouts < default.rollouts
    with pytest.raises(FileNotFoundError, match=r"slow: no such suite file, .*name \(paper, quick\)"):
        suite.read("slow")


def test_a_suite_file_is_read_and_flags_override_it(tmp_path: Path) -> None:
    path = tmp_path / "nightly.toml"
    path.write_text(
        'generators = ["bootstrap", {spec = "toy-walk", label = "big", parameters = {lots = 5}}]\n'
        'tasks = ["toy"]\ndatasets = ["zi-market"]\nseeds = [0, 1]\nlimit = 4\n'
    )
    plan = suite.read(path)
    assert (plan.name, plan.seeds, plan.limit) == ("nightly", (0, 1), 4)
    assert [(e.label, str(e.spec)) for e in plan.generators] == [("bootstrap", "bootstrap"), ("big", "toy-walk,lots=5")]
    assert plan.override(seeds=[7], limit=None).seeds == (7,)
    assert plan.override(seeds=[7]).limit == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('generator = ["bootstrap"]', "unknown field 'generator'; did you mean 'generators'"),
        ("seeds = [0", "not valid TOML"),
        ('seeds = ["0"]', "seeds must hold int values, got '0'"),
        ("seeds = 0", "seeds must be a list, got 0"),
        ('generators = ["a", "a"]', "generators with the same label: a"),
        ("limit = 0", "limit 0: write at least 1"),
        ('generators = [{name = "a"}]', "unknown field of a generator 'name'"),
    ],
)
def test_a_wrong_suite_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        suite.read(path)


def test_wrong_names_are_errors_before_anything_runs(market: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'toy-walk'"):
        run(market, tmp_path, "bootstrap", "toy-wlak")
    with pytest.raises(ValueError, match="unknown task 'tyo'"):
        run(market, tmp_path, tasks=["tyo"])
    with pytest.raises(ValueError, match="jobs 0"):
        run(market, tmp_path, jobs=0)
    with pytest.raises(ValueError, match="choose one of missing, always, never"):
        run(market, tmp_path, overwrite="maybe")
    assert not list(tmp_path.iterdir())
