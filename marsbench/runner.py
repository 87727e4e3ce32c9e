"""Runs every combination of generator, task, data set and seed, and keeps what is finished.

A unit's result is written the moment that it is done, a chunk of simulations the moment that it
is simulated: whatever interrupts a run, the same command goes on from there.
"""

from __future__ import annotations

import errno
import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import psutil

from marsbench import progress, registry, results
from marsbench.evidence import NoStarts
from marsbench.experiment import Bench, Course, DiskFull, evaluate, make, prepare
from marsbench.files import rounded
from marsbench.fitting import find_artifact, fitted, identity
from marsbench.floors import with_floors
from marsbench.parallel import in_processes
from marsbench.results import Result, ResultError, unit_name
from marsbench.simulation.contracts import (
    ROWS_TOGETHER,
    Generator,
    PathGenerator,
    SessionGenerator,
    Trained,
    TrajectoryGenerator,
)
from marsbench.suite import DEFAULT_DATASET, DEFAULT_TASKS, Entrant, Suite, visible

Overwrite = Literal["missing", "always", "never"]
UNIT_BYTES = 3 * 2**30
"""Memory that one of several units needs, generously: 2.6 GB were the most for whole sessions of 40 days."""
OVERWRITE: tuple[Overwrite, ...] = ("missing", "always", "never")


@dataclass
class Report:
    """What a run came to: paths of result files by what happened to their unit."""

    folder: Path
    suite: Suite
    done: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    failed: list[Path] = field(default_factory=list)
    not_applicable: list[Path] = field(default_factory=list)

    @property
    def paths(self) -> list[Path]:
        """Every result of the suite that there is."""
        return [*self.done, *self.kept, *self.failed, *self.not_applicable]

    def summary(self) -> str:
        """One paragraph; names what failed and why."""
        counts = [f"{len(self.done)} done", f"{len(self.kept)} kept", f"{len(self.failed)} failed"]
        if self.not_applicable:
            counts.append(f"{len(self.not_applicable)} not applicable")
        lines = [f"units: {', '.join(counts)}"]
        for path in self.failed:
            result = results.read(path)
            lines.append(f"  failed: {result.unit}: {result.reason} (traceback in {path})")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Unit:
    course: Course
    entrant: Entrant
    seed: int
    path: Path

    @property
    def name(self) -> str:
        return unit_name(self.course.dataset.name, self.course.label, self.entrant.label, self.seed, self.course.limit)


def run(
    generators: Sequence[str | Generator] | None = None,
    *,
    tasks: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    suite: Suite | None = None,
    results: str | Path = "results",
    limit: int | None = None,
    jobs: int = 1,
    overwrite: Overwrite = "missing",
    track: bool = True,
    command: str | None = None,
) -> Report:
    """Evaluate generators; returns where their results are.

    Parameters
    ----------
    generators
        Names, specifications (``"files:DIR"``, ``"label=name,parameter=value"``) or instances.
        Default: every visible generator that the task takes.
    tasks, datasets, seeds
        Default: ``realism`` and ``sessions`` on ``reference`` with seed 0. Of several tasks, those that find no starts
        in a data set are left out there.
    suite
        Where the defaults come from instead (``marsbench.suite.read``).
    results
        Results folder.
    limit
        Use only the first so many starts; such results stay apart from full ones.
    jobs
        Processes; results do not depend on it.
    overwrite
        ``missing`` runs what has no valid, current result; ``always`` runs all of it anew, caches
        included; ``never`` runs only what has no file at all.
    track
        Log to MLflow as well.
    command
        The command to record; default: the equivalent ``marsbench run`` command.

    Raises
    ------
    ValueError
        If a name, a parameter or an option is wrong.
    DiskFull
        If nothing more can be saved; what is finished stays.
    """
    if overwrite not in OVERWRITE:
        raise ValueError(f"overwrite {overwrite!r}: choose one of {', '.join(OVERWRITE)}")
    plan = (suite or Suite()).override(generators=generators, tasks=tasks, datasets=datasets, seeds=seeds, limit=limit)
    bench = _bench(plan, results, jobs, command, mode="fresh" if overwrite == "always" else "cached")
    return _execute(plan, bench, overwrite, track)


def score(
    generators: Sequence[str | Generator] | None = None,
    *,
    tasks: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    suite: Suite | None = None,
    results: str | Path = "results",
    limit: int | None = None,
    track: bool = True,
    command: str | None = None,
) -> Report:
    """Score stored trajectories again, without simulating (only missing floors are simulated).

    Parameters are those of ``run``; the default generators are those that have results.
    """
    plan = (suite or Suite()).override(generators=generators, tasks=tasks, datasets=datasets, seeds=seeds, limit=limit)
    if not plan.generators:
        plan = plan.override(generators=_with_results(Path(results), plan))
    bench = _bench(plan, results, 1, command, mode="stored", verb="score")
    return _execute(plan, bench, "always", track)


def validate(generator: str, dataset: str = DEFAULT_DATASET, *, results: str | Path = "results", seed: int = 0) -> Any:
    """Hold a generator, fitted on a data set, to the contract of sessions or of price paths; returns the checks.

    Of simulations that were made elsewhere (``files:DIR``) it checks what they hold, for every start.

    Raises
    ------
    ValueError
        If the generator neither simulates order by order nor makes price paths nor holds simulations.
    """
    from marsbench.data.catalogue import open_dataset
    from marsbench.simulation.validate import validate as check
    from marsbench.simulation.validate_files import validate_files
    from marsbench.simulation.validate_paths import validate_paths

    made = make(Entrant.of(generator))
    if not isinstance(made, (SessionGenerator, PathGenerator, TrajectoryGenerator)):
        raise ValueError(
            f"generator {generator!r} is of kind {made.kind}; the contracts are about sessions, price paths and files"
        )
    data = open_dataset(dataset)
    task = registry.task(DEFAULT_TASKS[0])
    course = prepare(DEFAULT_TASKS[0], data, None if isinstance(made, TrajectoryGenerator) else 2)
    starts = course.starts_for(made)
    if isinstance(made, TrajectoryGenerator):
        return validate_files(made, starts, minutes=getattr(task, "minutes", 25))
    cache = Path(results) / "cache" / "artifacts"
    artifact = fitted(made, data, seed, cache, fresh=False, stored=False, say=progress.say)
    if artifact is not None:
        made.load(artifact)
    if isinstance(made, PathGenerator):
        return validate_paths(made, starts, minutes=getattr(task, "minutes", 25))
    return check(made, starts)


def _bench(plan: Suite, folder: str | Path, jobs: int, command: str | None, *, mode: Any, verb: str = "run") -> Bench:
    if jobs < 1:
        raise ValueError(f"jobs {jobs}: write at least 1 process")
    return Bench(
        folder=Path(folder),
        jobs=jobs,
        mode=mode,
        say=progress.say,
        command=command or _command(plan, verb),
        suite={"name": plan.name, "id": plan.id},
    )


def _command(plan: Suite, verb: str) -> str:
    """The command line that does the same."""
    words = ["marsbench", verb]
    named = [str(e.spec) if e.label == str(e.spec) else f"{e.label}={e.spec}" for e in plan.generators]
    for flag, values in (("-g", named), ("-t", plan.tasks), ("-d", plan.datasets), ("--seeds", plan.seeds)):
        words += [flag, *map(str, values)] if values else []
    return shlex.join(words + (["--limit", str(plan.limit)] if plan.limit else []))


def _with_results(folder: Path, plan: Suite) -> list[Entrant]:
    """The generators that have results of this plan's data sets and tasks."""
    from marsbench.data.catalogue import open_dataset

    names = {open_dataset(name).name for name in plan.datasets}
    found: dict[str, Entrant] = {}
    for path in results.paths(folder):
        result = results.read(path)
        if result.dataset["name"] in names and result.task["label"] in plan.tasks:
            found[result.generator["label"]] = Entrant.of(
                {"spec": result.generator["spec"], "label": result.generator["label"]}
            )
    if not found:
        raise FileNotFoundError(f"{folder}: no results of {', '.join(plan.datasets)} yet; start with `marsbench run`")
    return list(found.values())


def _execute(plan: Suite, bench: Bench, overwrite: Overwrite, track: bool) -> Report:
    """Run the units of a plan one after the other."""
    from marsbench.tracking import Tracker

    report = Report(bench.folder, plan)
    with Tracker(bench.folder, enabled=track, say=bench.say) as tracker:
        try:
            for units, finished in _courses(plan, bench):
                todo = []
                for unit in units:
                    stored = _stored(unit, bench, overwrite)
                    if stored is None:
                        todo.append(unit)
                        continue
                    (report.failed if stored.status == "failed" else report.kept).append(unit.path)
                    _note(unit, stored, bench)
                    tracker.log(unit.path)
                    finished()
                for unit, result in _evaluated(todo, bench):
                    _file(unit, result, bench, report)
                    _note(unit, result, bench)
                    tracker.log(unit.path)
                    finished()
        except KeyboardInterrupt:
            bench.say(f"\ninterrupted: {_saved(report, bench)}")
            raise
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise DiskFull(errno.ENOSPC, f"disk full: {_saved(report, bench)} (after freeing space)") from error
    return report


def _saved(report: Report, bench: Bench) -> str:
    return (
        f"{len(report.done)} results of this run and {len(report.kept)} earlier ones are saved under {bench.folder}, "
        "and so is every finished chunk of simulations; the same command goes on from there"
    )


def _courses(plan: Suite, bench: Bench) -> Iterator[tuple[list[_Unit], Callable[[], None]]]:
    """The units of each task on each data set, made ready when its turn comes, and what tells that one is done.

    A task without starts in a data set is left out there.

    Raises
    ------
    NoStarts
        If that is so of every task.
    """
    from marsbench.data.catalogue import open_dataset

    for entrant in plan.generators:
        make(entrant)  # a wrong name or parameter is an error now, not after hours
    entrants = {spec: plan.generators or visible(registry.task(spec).kinds) for spec in plan.tasks}
    datasets = {name: open_dataset(name) for name in plan.datasets}  # last: it may have to build one
    total = len(datasets) * len(plan.seeds) * sum(map(len, entrants.values()))
    with progress.bar(total=total, desc="units", unit="unit") as units:
        for dataset in datasets.values():
            without: list[NoStarts] = []
            for spec in plan.tasks:
                try:
                    prepared = prepare(spec, dataset, plan.limit)
                except NoStarts as problem:
                    without.append(problem)
                    bench.say(f"left out: {problem}")
                    units.update(len(plan.seeds) * len(entrants[spec]))
                    continue
                course = with_floors(prepared, bench)
                many = [(entrant, seed) for entrant in entrants[spec] for seed in plan.seeds]
                yield [_Unit(course, *each, _path(course, *each, bench.folder)) for each in many], units.update
            if len(without) == len(plan.tasks):
                raise without[0]


def _path(course: Course, entrant: Entrant, seed: int, folder: Path) -> Path:
    return results.result_path(
        folder,
        dataset=course.dataset.name,
        task=course.label,
        generator=entrant.label,
        seed=seed,
        limit=course.limit,
    )


def _evaluated(units: Sequence[_Unit], bench: Bench) -> Iterator[tuple[_Unit, Result]]:
    """Units of one course with their results: side by side where that keeps as many processes busy as chunks would."""
    processes = min(bench.jobs, len(units), _room())
    if processes < 2 or _chunks(units[0].course) > processes:
        for unit in units:
            yield unit, evaluate(unit.course, unit.entrant, unit.seed, bench)
        return
    long_first = sorted(range(len(units)), key=lambda i: -_expected_s(units[i].entrant, bench))
    calls = ((i, units[i], replace(bench, jobs=1)) for i in long_first)
    for i, result, refreshed, simulated in in_processes(processes, _work, calls, ordered=False):
        bench.refreshed.update(refreshed)
        bench.simulated.update(simulated)
        yield units[i], result


def _note(unit: _Unit, result: Result, bench: Bench) -> None:
    """How long it took; what failed says nothing."""
    if result.status != "failed":
        bench.took[unit.entrant.label] = result.cost.get("wall_s", 0.0)


def _expected_s(entrant: Entrant, bench: Bench) -> float:
    """How long a unit may take, by the task before; not known, what is trained takes longest."""
    unknown = math.inf if isinstance(make(entrant), Trained) else 0.0
    return bench.took.get(entrant.label, unknown)


def _chunks(course: Course) -> float:
    """Into how many work chunks the simulations of a unit fall; endless where the task does not say."""
    rollouts = getattr(course.task, "rollouts", math.inf)
    return math.ceil(len(course.starts) * rollouts / ROWS_TOGETHER) if rollouts < math.inf else math.inf


def _room() -> int:
    """For how many units there is memory."""
    return int(psutil.virtual_memory().available // UNIT_BYTES)


def _work(number: int, unit: _Unit, bench: Bench) -> tuple[int, Result, set[tuple[str, str, int]], set[str]]:
    """One unit in a worker process; returns its number and result, and what was fitted and simulated anew."""
    progress.in_worker()
    result = evaluate(unit.course, unit.entrant, unit.seed, bench)
    return number, result, bench.refreshed, bench.simulated


def _file(unit: _Unit, result: Result, bench: Bench, report: Report) -> None:
    """Keep a result, say it, and file it in the report."""
    results.write(result, unit.path)
    took = f"{result.cost['wall_s']:.1f} s"
    bench.say(f"{unit.name}: {result.status} in {took}" + (f": {result.reason}" if result.reason else ""))
    filed = {"done": report.done, "failed": report.failed, "not-applicable": report.not_applicable}
    filed[result.status].append(unit.path)


def _stored(unit: _Unit, bench: Bench, overwrite: Overwrite) -> Result | None:
    """The result that is there and is to be kept."""
    if overwrite == "always" or not unit.path.exists():
        return None
    try:
        result = results.read(unit.path)
    except ResultError as error:
        if overwrite == "never":
            raise
        bench.say(f"{error}")
        return None
    if overwrite == "never":
        return result
    changed = _changes(result, unit)
    changed += _trained_since(result, unit, bench)
    if changed:
        bench.say(f"{unit.name}: the result is of another {', '.join(changed)}; run again")
    return None if changed or result.status == "failed" else result


def _trained_since(result: Result, unit: _Unit, bench: Bench) -> list[str]:
    """Whether who comes with weights has other ones now; a result whose weights are gone stays."""
    generator = make(unit.entrant)
    if not (isinstance(generator, Trained) or generator.checkpoints) or generator.kind not in unit.course.task.kinds:
        return []
    found = find_artifact(generator, unit.course.dataset, unit.seed, bench.artifacts, bench.say)
    if found is None:
        return ["training"] if unit.entrant.named and result.status == "not-applicable" else []
    before = result.artifact["content_hash"] if result.artifact else None
    return ["training"] if found.content_hash != before else []


def _changes(result: Result, unit: _Unit) -> list[str]:
    """What has changed since a result was made."""
    course, generator = unit.course, identity(make(unit.entrant))
    task, dataset = course.task_facts(), course.dataset_facts()
    recipe = ("version", "parameters", "starts")
    pairs: dict[str, tuple[Any, Any]] = {
        "generator": ({k: result.generator[k] for k in generator}, generator),
        "task": ({k: result.task[k] for k in recipe}, {k: task[k] for k in recipe}),
        "metrics": (result.task["metrics"], task["metrics"]),
        "data": (result.dataset["content_hash"], dataset["content_hash"]),
        "floors": (result.floors.get("hash"), course.floors_facts.get("hash")),
        "ceilings": tuple(facts.get("ceilings", {}).get("hash") for facts in (result.floors, course.floors_facts)),
    }  # fmt: skip
    return [what for what, (stored, now) in pairs.items() if rounded(stored) != rounded(now)]


__all__ = ["OVERWRITE", "DiskFull", "Overwrite", "Report", "run", "score", "validate"]
