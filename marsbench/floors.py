"""Frozen floors and ceilings: what the calibrated zero-intelligence generator and the oracle score.

Both are made once for a data set, a task version and the versions of its metrics, and stored with the data set;
everything else is measured against them. Ceilings of the oracle (rolled from the market's true state) are for
metrics that ask for them (``Metric.ceiling_from_oracle``) on data sets that know their truth. Its seed is nobody
else's, so that the oracle on the leaderboard is not measured against itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from marsbench import registry
from marsbench.evidence import Ceiling
from marsbench.experiment import Bench, Course, evaluate
from marsbench.files import digest, pretty, rounded, write_atomic
from marsbench.fitting import identity
from marsbench.results import Result
from marsbench.simulation.contracts import ORACLE
from marsbench.suite import Entrant

FLOOR_GENERATOR = "zero-intelligence"
FLOOR_SEED = 0
CEILING_SEED = 1_000_003


@dataclass(frozen=True)
class _Yardstick:
    """A generator whose scores are frozen."""

    what: str
    generator: str
    seed: int
    suffix: str
    """Of the file's name."""
    values: Callable[[Course, Result], dict[str, Any]]


def _floor_values(course: Course, result: Result) -> dict[str, Any]:
    """Every value; of validity the floor is a limit."""
    del course
    scores = result.scores.items()
    return {key: s.value for key, s in scores if s.value is not None and s.group != "validity"}


def _ceiling_values(course: Course, result: Result) -> dict[str, Any]:
    """Value and replicates of the scores of those metrics that ask for them."""
    asking = {label for label, metric in course.metrics.items() if metric.ceiling_from_oracle}
    return {
        s.key: {"value": s.value, "replicates": list(s.replicates), "units": s.replicate_units}
        for label, outcome in result.outcomes.items()
        if label in asking
        for s in outcome.scores
        if s.value is not None and (s.floor is not None or s.direction == "none")
    }


FLOORS = _Yardstick("floors", FLOOR_GENERATOR, FLOOR_SEED, "", _floor_values)
CEILINGS = _Yardstick("ceilings", ORACLE, CEILING_SEED, "-oracle", _ceiling_values)


def with_floors(course: Course, bench: Bench) -> Course:
    """The course with its frozen floors and ceilings; they are made first where they are missing or out of date.

    A course that the floor generator cannot run has none, and its results say why.
    """
    if any(metric.floor_from_baseline for metric in course.metrics.values()):
        stored, facts = _frozen(FLOORS, course, bench)
    else:
        stored, facts = {}, {"hash": None, "reason": None}  # they measure their floors themselves
    course = replace(course, floors=stored, floors_facts=facts)
    if not any(metric.ceiling_from_oracle for metric in course.metrics.values()):
        return course
    stored, facts = _frozen(CEILINGS, course, bench)
    ceilings = {key: Ceiling(v["value"], tuple(v["replicates"]), v["units"]) for key, v in stored.items()}
    return replace(course, ceilings=ceilings, floors_facts={**course.floors_facts, "ceilings": facts})


def _frozen(stick: _Yardstick, course: Course, bench: Bench) -> tuple[dict[str, Any], dict[str, Any]]:
    """Stored values, and what a result says about them."""
    place = f"{stick.what} of {course.label} on {course.dataset.name}"
    known = stick.generator in registry.names("generators")
    if not known or registry.lookup("generators", stick.generator).kind not in course.task.kinds:
        reason = f"{stick.generator} cannot run task {course.task.name}, so there is no frozen {stick.what[:-1]}"
        return {}, {"hash": None, "reason": reason}
    if stick is CEILINGS and not course.dataset.has_truth:
        return {}, {"hash": None, "reason": f"data set {course.dataset.name} does not know its hidden state"}
    wanted = _wanted(stick, course)
    for path in _places(stick, course, bench):
        stored = _read(path, wanted, bench.say)
        if stored is not None:
            return stored["values"], _facts(stored)
    bench.say(f"{place}: running {stick.generator} once")
    mode = "cached" if bench.mode == "stored" else bench.mode
    result = evaluate(course, Entrant.of(stick.generator), stick.seed, replace(bench, mode=mode))
    if result.status != "done":
        reason = f"{stick.generator} failed ({result.reason}), so there is no frozen {stick.what[:-1]}"
        bench.say(f"{place}: {reason}")
        return {}, {"hash": None, "reason": reason}
    made = _store(stick, course, bench, wanted, result)
    return made["values"], _facts(made)


def _wanted(stick: _Yardstick, course: Course) -> dict[str, Any]:
    """What stored values must agree with."""
    task = course.task_facts()
    wanted: dict[str, Any] = rounded(
        {
            "dataset": course.dataset.name,
            "content_hash": course.dataset.content_hash,
            "task": {k: task[k] for k in ("name", "version", "parameters", "metrics")},
            "limit": course.limit,
            "generator": identity(registry.generator(stick.generator)),
            "seed": stick.seed,
        }
    )
    return wanted


def _places(stick: _Yardstick, course: Course, bench: Bench) -> list[Path]:
    """With the data set, or in the results' cache where the data set's folder cannot be written."""
    name = f"{course.task.name}-v{course.task.version}"
    if course.limit is not None or course.label != course.task.name:
        name += f"-{digest([course.label, course.limit])[:8]}"
    folders = (Path(course.dataset.folder) / "floors", bench.folder / "cache" / "floors" / course.dataset.name)
    return [folder / f"{name}{stick.suffix}.json" for folder in folders]


def _read(path: Path, wanted: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        stored: dict[str, Any] = json.loads(path.read_bytes())
        if stored["for"] == wanted and stored["hash"] == digest(stored["values"]):
            return stored
        say(f"{path.name}: they were made for another version or data, and are made again")
    except (ValueError, KeyError, TypeError) as error:
        say(f"{path.name}: damaged ({error}); they are made again")
    return None


def _store(
    stick: _Yardstick, course: Course, bench: Bench, wanted: Mapping[str, Any], result: Result
) -> dict[str, Any]:
    values: dict[str, Any] = rounded(stick.values(course, result))
    content = {
        "for": wanted,
        "command": bench.command,
        "created": result.finished,
        "artifact": result.artifact and result.artifact["content_hash"],
        "environment": result.environment,
        "hash": digest(values),
        "values": values,
    }
    with_data, in_cache = _places(stick, course, bench)
    try:
        write_atomic(with_data, pretty(content) + "\n")
    except PermissionError:
        write_atomic(in_cache, pretty(content) + "\n")
    return content


def _facts(stored: Mapping[str, Any]) -> dict[str, Any]:
    generator = stored["for"]["generator"]
    return {
        "hash": stored["hash"],
        "generator": f"{generator['name']} version {generator['version']}",
        "command": stored["command"],
        "reason": None,
    }
