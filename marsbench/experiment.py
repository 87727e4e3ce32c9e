"""One unit of work: fit, simulate, score, and say everything about it in a ``Result``."""

from __future__ import annotations

import copy
import errno
import re
import time
import traceback
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from marsbench import registry, system
from marsbench.evidence import Ceiling, Evidence, Metric, NoStarts, NotApplicable, Task, TaskContext, TrajectoryPairs
from marsbench.files import rounded
from marsbench.fitting import NotTrained, facts, fitted, identity, latest_days, period_text, training_curves
from marsbench.results import Result, Status
from marsbench.rollouts import Mode, Rollouts, Source
from marsbench.scores import NOT_APPLICABLE, Outcome
from marsbench.simulation.contracts import (
    ORACLE,
    ForecastGenerator,
    Generator,
    Kind,
    PathGenerator,
    SessionGenerator,
    Start,
    Trained,
)
from marsbench.simulation.runaway import busiest
from marsbench.suite import Entrant

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset


WATCHED_DAYS = 10
"""Training days of each instrument that tell how busy a market can be."""


class DiskFull(OSError):
    """No space left: nothing more can be saved."""


@dataclass
class Bench:
    """Where results and caches live, and how work is done."""

    folder: Path
    jobs: int = 1
    mode: Mode = "cached"
    say: Callable[[str], None] = print
    command: str = ""
    suite: Mapping[str, Any] = field(default_factory=lambda: {"name": "default", "id": ""})
    refreshed: set[tuple[str, str, int]] = field(default_factory=set)
    """What was already fitted anew in this run, where everything is done anew."""
    simulated: set[str] = field(default_factory=set)
    """Chunks that this run has simulated."""
    took: dict[str, float] = field(default_factory=dict)
    """Seconds that the last unit of each label took."""

    @property
    def artifacts(self) -> Path:
        return self.folder / "cache" / "artifacts"

    @property
    def trajectories(self) -> Path:
        return self.folder / "cache" / "trajectories"


@dataclass(frozen=True)
class Course:
    """A task made ready on a data set: what every generator is put through."""

    task: Task
    label: str
    dataset: Dataset
    starts: tuple[Start, ...]
    metrics: Mapping[str, Metric]
    limit: int | None
    floors: Mapping[str, float] = field(default_factory=dict)
    ceilings: Mapping[str, Ceiling] = field(default_factory=dict)
    floors_facts: Mapping[str, Any] = field(default_factory=dict)

    def starts_for(self, generator: Generator) -> tuple[Start, ...]:
        """The starts; for the oracle alone, and nobody else, with the hidden state of the market."""
        if not _is_oracle(generator):
            return self.starts
        data = self.dataset
        return tuple(replace(s, oracle=data.truth(s.instrument, s.date, s.clock_ns)) for s in self.starts)

    def task_facts(self) -> dict[str, Any]:
        """What a result says about the task."""
        return {
            "label": self.label,
            "name": self.task.name,
            "version": self.task.version,
            "parameters": _parameters(self.task),
            "summary": self.task.summary,
            "starts": len(self.starts),
            "metrics": [
                {"label": label, "name": m.name, "version": m.version, "parameters": _parameters(m), **_outside(m)}
                for label, m in self.metrics.items()
            ],
        }

    def dataset_facts(self) -> dict[str, Any]:
        """What a result says about the data set."""
        data = self.dataset
        return {
            "name": data.name,
            "version": data.version,
            "content_hash": data.content_hash,
            "single_day": bool(data.single_day),
            "summary": data.summary,
            "test": [period_text(p) for p in data.split("test")][:20],
        }


def _parameters(plugin: Any) -> dict[str, Any]:
    """Fields of a task or metric, JSON-like."""
    if not is_dataclass(plugin):
        return {}
    plain: dict[str, Any] = rounded({f.name: _plain(getattr(plugin, f.name)) for f in fields(plugin)})
    return plain


def _outside(metric: Metric) -> dict[str, Any]:
    """Hashes of a user's code in the metric; nothing where there is none."""
    found = dict(metric.outside_code())
    return {"outside_code": found} if found else {}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def prepare(spec: str, dataset: Dataset, limit: int | None) -> Course:
    """Make a task ready: its metrics resolved, its starts found once for all generators.

    Raises
    ------
    ValueError
        If the task or a metric is unknown.
    NoStarts
        If the data set has no starts of the task.
    """
    parsed = registry.parse(spec)
    task = registry.task(parsed)
    starts = list(task.starts(dataset))[:limit]
    if not starts:
        raise NoStarts(
            f"task {task.name!r} finds no starts in data set {dataset.name!r}; its test period may be too short"
        )
    return Course(task, str(parsed), dataset, tuple(starts), registry.metrics_of(task), limit)


def make(entrant: Entrant) -> Generator:
    """A new, unloaded generator."""
    return registry.generator(entrant.spec) if entrant.instance is None else copy.deepcopy(entrant.instance)


def evaluate(course: Course, entrant: Entrant, seed: int, bench: Bench) -> Result:
    """Run one unit. A failure of the generator, the task or a metric is a result too.

    Raises
    ------
    DiskFull
        If nothing more can be saved.
    """
    started = _now()
    with system.Meter() as meter:
        status: Status = "done"
        reason, error, made = None, None, _Made()
        try:
            made.generator = make(entrant)
            reason = _not_applicable(course, made.generator)
            if reason is None:
                _run(course, made, seed, bench, label=entrant.label)
            else:
                status = "not-applicable"
        except NotApplicable as problem:
            status, reason = "not-applicable", str(problem)
        except NotTrained as problem:
            named = entrant.named  # who asked for it by name must learn of it
            status, reason = ("failed" if named else "not-applicable"), str(problem)
            error = _error(problem) if named else None
        except Exception as problem:  # whatever a plug-in raises is reported; the others go on
            if isinstance(problem, OSError) and problem.errno == errno.ENOSPC:
                raise DiskFull(errno.ENOSPC, f"no space left under {bench.folder}") from problem
            status, reason, error = "failed", f"{type(problem).__name__}: {problem}", _error(problem)
            made.outcomes = {}
    return Result(
        status=status,
        generator=_generator_facts(entrant, made.generator),
        task=course.task_facts(),
        dataset=course.dataset_facts(),
        seed=seed,
        limit=course.limit,
        outcomes=made.outcomes,
        reason=reason,
        error=error,
        artifact=made.artifact,
        floors=course.floors_facts,
        training=made.training,
        cost={**meter.report(), **made.cost},
        environment=system.environment(),
        suite=bench.suite,
        command=bench.command,
        started=started,
        finished=_now(),
    )


@dataclass
class _Made:
    """What a unit has come to so far; stays readable when it fails half-way."""

    generator: Generator | None = None
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    artifact: dict[str, Any] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)


def _run(course: Course, made: _Made, seed: int, bench: Bench, *, label: str) -> None:
    generator, dataset = made.generator, course.dataset
    assert generator is not None
    unloaded = copy.deepcopy(generator)
    begin = time.perf_counter()
    key = (str(identity(generator)), dataset.content_hash, seed)
    artifact = fitted(
        generator,
        dataset,
        seed,
        bench.artifacts,
        fresh=bench.mode == "fresh" and key not in bench.refreshed,
        stored=bench.mode == "stored",
        say=bench.say,
    )
    bench.refreshed.add(key)
    made.artifact, made.training = facts(artifact), training_curves(artifact)
    if artifact is not None and isinstance(generator, (SessionGenerator, PathGenerator, ForecastGenerator, Trained)):
        generator.load(artifact)
    made.cost["fit_s"] = time.perf_counter() - begin
    rollouts = Rollouts(
        generator=generator,
        source=Source(unloaded, artifact.folder if artifact else None, str((key, artifact and artifact.content_hash))),
        artifact=artifact,
        dataset_hash=dataset.content_hash,
        seed=seed,
        folder=bench.trajectories,
        jobs=bench.jobs,
        mode=bench.mode,
        say=bench.say,
        label=label,
        busiest=partial(_busiest, dataset),
        simulated=bench.simulated,
    )
    context = TaskContext(
        seed=seed,
        starts=course.starts_for(generator),
        simulate=rollouts.simulate,
        floors=course.floors,
        ceilings=course.ceilings,
    )
    evidence = course.task.run(generator, dataset, context)
    begin = time.perf_counter()
    made.outcomes = score(evidence, course.metrics, seed)
    made.cost |= {
        "score_s": time.perf_counter() - begin,
        "orders": rollouts.orders,
        "simulate_s": rollouts.simulate_s,
        "simulate_cpu_s": rollouts.simulate_cpu_s,
        "orders_per_s": rollouts.orders_per_s(),
        **({"notes": rollouts.notes} if rollouts.notes else {}),
        "reason": None if rollouts.rates else _no_rate(generator),
    }


_BUSIEST: dict[str, dict[str, int]] = {}


def _busiest(dataset: Dataset) -> dict[str, int]:
    """The busiest stretch of each instrument's latest training days; read once in a process."""
    key = dataset.content_hash
    if key not in _BUSIEST:
        periods = latest_days(dataset.split("train"), WATCHED_DAYS)
        _BUSIEST[key] = busiest(dataset.trajectory(period) for period in periods)
    return _BUSIEST[key]


def _no_rate(generator: Generator) -> str:
    """Why there are no orders per second."""
    return "price paths have no orders" if generator.kind == Kind.PATHS else "the trajectories were made elsewhere"


def score(evidence: Any, metrics: Mapping[str, Metric], seed: int) -> dict[str, Outcome]:
    """Validity of the evidence first, under the label ``validity``, then metrics, each on its own random numbers.

    Raises
    ------
    ValueError
        If two metrics give scores with the same key.
    """
    outcomes: dict[str, Outcome] = {}
    owner: dict[str, str] = {}
    if isinstance(evidence, Evidence) and (found := evidence.validity()):
        outcomes["validity"] = Outcome(found)
        owner |= {score.key: "validity" for score in found}
    for label, metric in metrics.items():
        if isinstance(evidence, TrajectoryPairs) and evidence.lacking and not metric.takes_books:
            why = f"{NOT_APPLICABLE}: {label} needs orders, and the simulations are {evidence.alone} alone"
            outcomes[label] = Outcome((), notes=(why,))
            continue
        with threadpool_limits(1):  # small matrices: threads cost more than they save, and change last digits
            outcome = metric.evaluate(evidence, np.random.default_rng([seed, zlib.crc32(label.encode())]))
        for one in outcome.scores:
            if one.key in owner:
                raise ValueError(f"metrics {owner[one.key]!r} and {label!r} both give score {one.key!r}")
            owner[one.key] = label
        outcomes[label] = outcome
    return outcomes


def _is_oracle(generator: Generator) -> bool:
    """Whether it is the registered oracle itself, not something that took its name."""
    return generator.name == ORACLE and type(generator) is registry.lookup("generators", ORACLE)


def _not_applicable(course: Course, generator: Generator) -> str | None:
    """Why this generator cannot do this task on this data set, or None."""
    task = course.task
    if generator.kind not in task.kinds:
        kinds: Sequence[Kind] = sorted(task.kinds)
        return f"a generator of kind {generator.kind}; task {task.name} takes {', '.join(map(str, kinds))}"
    if _is_oracle(generator) and not course.dataset.has_truth:
        return f"{ORACLE} continues from the market's hidden state, which data set {course.dataset.name} does not have"
    return None


def _generator_facts(entrant: Entrant, generator: Generator | None) -> dict[str, Any]:
    cls: Any = generator or registry.lookup("generators", entrant.spec.name)
    return {
        "label": entrant.label,
        "spec": str(entrant.spec),
        "name": cls.name,
        "version": cls.version,
        "kind": str(cls.kind),
        "reacts": cls.reacts,
        "hidden": cls.hidden,
        "fits": cls.fits,
        "parameters": _plain(generator.parameters() if generator else entrant.spec.parameters),
        "summary": cls.summary,
        "source": cls.source,
    }


def _error(problem: Exception) -> dict[str, Any]:
    """Type, message and traceback, with file names from the package down (results are shared with others)."""
    lines = "".join(traceback.format_exception(problem))
    short = re.sub(r'File "[^"]*?([^"/\\]+[/\\][^"/\\]+)"', r'File "\1"', lines)
    return {"type": type(problem).__name__, "message": str(problem), "traceback": short[-4000:]}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
