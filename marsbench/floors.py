"""The frozen floor: what the calibrated zero-intelligence generator scores, stored with the data set.

It is made once for a data set, a task version and the versions of its metrics, with seed 0, and
everything else is measured against it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from marsbench import registry
from marsbench.experiment import Bench, Course, evaluate
from marsbench.files import digest, pretty, rounded, write_atomic
from marsbench.fitting import identity
from marsbench.results import Result
from marsbench.suite import Entrant

FLOOR_GENERATOR = "zero-intelligence"
FLOOR_SEED = 0


def with_floors(course: Course, bench: Bench) -> Course:
    """The course with its frozen floor values; they are made first where they are missing or out of date.

    A course that the floor generator cannot run has none, and its results say why.
    """
    known = FLOOR_GENERATOR in registry.names("generators")
    if not known or registry.lookup("generators", FLOOR_GENERATOR).kind not in course.task.kinds:
        reason = f"{FLOOR_GENERATOR} cannot run task {course.task.name}, so there is no frozen floor"
        return replace(course, floors={}, floors_facts={"hash": None, "reason": reason})
    wanted = _wanted(course, registry.generator(FLOOR_GENERATOR))
    for path in _places(course, bench):
        stored = _read(path, wanted, bench.say)
        if stored is not None:
            return _use(course, stored)
    bench.say(f"floors of {course.label} on {course.dataset.name}: running {FLOOR_GENERATOR} once")
    mode = "cached" if bench.mode == "stored" else bench.mode
    result = evaluate(course, Entrant.of(FLOOR_GENERATOR), FLOOR_SEED, replace(bench, mode=mode))
    if result.status != "done":
        reason = f"{FLOOR_GENERATOR} failed ({result.reason}), so there is no frozen floor"
        bench.say(f"floors of {course.label} on {course.dataset.name}: {reason}")
        return replace(course, floors={}, floors_facts={"hash": None, "reason": reason})
    return _use(course, _store(course, bench, wanted, result))


def _wanted(course: Course, generator: Any) -> dict[str, Any]:
    """What stored floors must agree with."""
    task = course.task_facts()
    wanted: dict[str, Any] = rounded(
        {
            "dataset": course.dataset.name,
            "content_hash": course.dataset.content_hash,
            "task": {k: task[k] for k in ("name", "version", "parameters", "metrics")},
            "limit": course.limit,
            "generator": identity(generator),
            "seed": FLOOR_SEED,
        }
    )
    return wanted


def _places(course: Course, bench: Bench) -> list[Path]:
    """With the data set, or in the results' cache where the data set's folder cannot be written."""
    name = f"{course.task.name}-v{course.task.version}"
    if course.limit is not None or course.label != course.task.name:
        name += f"-{digest([course.label, course.limit])[:8]}"
    folders = (Path(course.dataset.folder) / "floors", bench.folder / "cache" / "floors" / course.dataset.name)
    return [folder / f"{name}.json" for folder in folders]


def _read(path: Path, wanted: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        stored: dict[str, Any] = json.loads(path.read_bytes())
        if stored["for"] == wanted and stored["hash"] == digest(stored["values"]):
            return stored
        say(f"{path.name}: floors were made for another version or data; they are made again")
    except (ValueError, KeyError, TypeError) as error:
        say(f"{path.name}: damaged floors ({error}); they are made again")
    return None


def _store(course: Course, bench: Bench, wanted: dict[str, Any], result: Result) -> dict[str, Any]:
    scores = {key: s for key, s in result.scores.items() if s.value is not None}
    values = rounded({key: s.value for key, s in scores.items() if s.group != "validity"})  # their floor is a limit
    content = {
        "for": wanted,
        "command": bench.command,
        "created": result.finished,
        "artifact": result.artifact and result.artifact["content_hash"],
        "environment": result.environment,
        "hash": digest(values),
        "values": values,
    }
    with_data, in_cache = _places(course, bench)
    try:
        write_atomic(with_data, pretty(content) + "\n")
    except PermissionError:
        write_atomic(in_cache, pretty(content) + "\n")
    return content


def _use(course: Course, stored: dict[str, Any]) -> Course:
    generator = stored["for"]["generator"]
    facts = {
        "hash": stored["hash"],
        "generator": f"{generator['name']} version {generator['version']}",
        "command": stored["command"],
        "reason": None,
    }
    return replace(course, floors=stored["values"], floors_facts=facts)
