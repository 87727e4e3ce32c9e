"""One JSON per (generator, task, dataset, seed): everything that is known about one unit of work.

A result is written whole or not at all. It holds the scores, the tables from which every figure is
drawn, and what is needed to judge and repeat it: versions, hashes, seeds, command, machine, cost.
Numbers are kept at six significant digits. The schema is ``result.schema.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

from marsbench.files import digest, file_safe, pretty, rounded, write_atomic
from marsbench.scores import Outcome, Score

FORMAT = 1

Status = Literal["done", "failed", "not-applicable"]


class ResultError(ValueError):
    """A result file that cannot be used; the message names the file."""


@dataclass(frozen=True)
class Result:
    """One unit of work. Mappings are JSON-like; see ``result.schema.json`` for their fields."""

    status: Status
    generator: Mapping[str, Any]
    """label, spec, name, version, kind, reacts, hidden, parameters, summary, source."""
    task: Mapping[str, Any]
    """label, name, version, parameters, summary, starts, rollouts and metrics (label, name, version, parameters)."""
    dataset: Mapping[str, Any]
    """name, version, content_hash, single_day, summary."""
    seed: int
    limit: int | None = None
    """Only the first so many starts were used; such results are never mixed with full ones."""
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    """Metric label -> what it returned."""
    reason: str | None = None
    """Why there are no scores (status failed or not-applicable)."""
    error: Mapping[str, Any] | None = None
    """type, message, traceback of a failure."""
    artifact: Mapping[str, Any] | None = None
    """content_hash, seed, data_hash, trained_on; None where nothing is fitted."""
    floors: Mapping[str, Any] = field(default_factory=dict)
    """Which frozen floors were used: hash, generator, command; or the reason why there are none."""
    training: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    """Curve name -> {"step": [...], "value": [...]}, where the generator leaves ``training.json`` in its artifact."""
    cost: Mapping[str, Any] = field(default_factory=dict)
    """wall_s, cpu_s, peak_memory_bytes, orders, orders_per_s, and samples of the machine's use."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """python, platform, packages, hardware, repository state."""
    suite: Mapping[str, Any] = field(default_factory=dict)
    """name and id of the suite that it was run in."""
    command: str = ""
    started: str = ""
    finished: str = ""
    path: Path | None = field(default=None, compare=False)
    """Where it was read from; not part of the content."""

    @property
    def scores(self) -> dict[str, Score]:
        """All scores by key."""
        return {score.key: score for outcome in self.outcomes.values() for score in outcome.scores}

    @property
    def unit(self) -> str:
        """``dataset / task / generator / seed`` for messages."""
        return unit_name(self.dataset["name"], self.task["label"], self.generator["label"], self.seed, self.limit)

    def to_dict(self) -> dict[str, Any]:
        """The JSON-like form, rounded."""
        values: dict[str, Any] = rounded(
            {
                "format": FORMAT,
                "status": self.status,
                "reason": self.reason,
                "generator": dict(self.generator),
                "task": dict(self.task),
                "dataset": dict(self.dataset),
                "seed": self.seed,
                "limit": self.limit,
                "artifact": self.artifact,
                "floors": dict(self.floors),
                "command": self.command,
                "suite": dict(self.suite),
                "started": self.started,
                "finished": self.finished,
                "cost": dict(self.cost),
                "environment": dict(self.environment),
                "error": self.error,
                "scores": [{"metric": m, **asdict(s)} for m, o in self.outcomes.items() for s in o.scores],
                "notes": {m: list(o.notes) for m, o in self.outcomes.items()},
                "training": dict(self.training),
                "tables": {m: o.tables for m, o in self.outcomes.items()},
            }
        )
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, path: Path | None = None) -> Self:
        """Inverse of ``to_dict``; the values must fulfil the schema."""
        values = dict(values)
        values.pop("format")
        notes, tables = values.pop("notes"), values.pop("tables")
        rows: dict[str, list[Score]] = {label: [] for label in tables}
        for row in values.pop("scores"):
            row = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
            rows.setdefault(row.pop("metric"), []).append(Score(**row))
        outcomes = {m: Outcome(tuple(rows[m]), tables.get(m, {}), tuple(notes.get(m, ()))) for m in rows}
        return cls(outcomes=outcomes, path=path, **values)

    def content_hash(self) -> str:
        """SHA-256 (hex) of the whole content: the identity under which it is tracked."""
        return digest(self.to_dict())


def unit_name(dataset: str, task: str, generator: str, seed: int, limit: int | None = None) -> str:
    """``dataset / task / generator / seed`` for messages."""
    return f"{dataset} / {task} / {generator} / seed {seed}{f' (first {limit} starts)' if limit else ''}"


def result_path(
    folder: str | Path, *, dataset: str, task: str, generator: str, seed: int, limit: int | None = None
) -> Path:
    """Where the result of one unit lives under a results folder."""
    name = f"{seed}.json" if limit is None else f"{seed}-limit{limit}.json"
    return Path(folder) / "runs" / file_safe(dataset) / file_safe(task) / file_safe(generator) / name


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of result files."""
    loaded: dict[str, Any] = json.loads(files("marsbench").joinpath("result.schema.json").read_text())
    return loaded


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema())


def write(result: Result, path: str | Path) -> Path:
    """Write a result atomically; returns the path.

    Raises
    ------
    OSError
        If the disk is full; nothing half-written stays behind.
    """
    values = result.to_dict()
    problem = _problem(values)
    assert problem is None, f"a result of ours breaks its own schema: {problem}"
    return write_atomic(path, pretty(values) + "\n")


def _problem(values: Any) -> str | None:
    errors = sorted(_validator().iter_errors(values), key=lambda e: list(map(str, e.path)))
    if not errors:
        return None
    where = ".".join(map(str, errors[0].path)) or "the top level"
    return f"at {where}: {errors[0].message[:300]}"


def read(path: str | Path) -> Result:
    """Read one result file.

    Raises
    ------
    ResultError
        If the file is damaged, of another format, or breaks the schema; the message names it.
    FileNotFoundError
        If it is not there.
    """
    path = Path(path)
    again = "delete it and run the unit again"
    try:
        values = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ResultError(f"{path}: damaged result file ({error}); {again}") from error
    if isinstance(values, dict) and values.get("format") != FORMAT:
        raise ResultError(
            f"{path}: result format {values.get('format')!r}, this version reads {FORMAT}; run the unit again"
        )
    problem = _problem(values)
    if problem is None:
        try:
            return Result.from_dict(values, path=path)
        except ValueError as error:
            problem = str(error)
    raise ResultError(f"{path}: not a valid result ({problem}); {again}")


def paths(folder: str | Path, *, dataset: str | None = None) -> Iterator[Path]:
    """Every result file under a results folder, sorted."""
    base = Path(folder) / "runs"
    yield from sorted(base.glob(f"{file_safe(dataset) if dataset else '*'}/*/*/*.json"))


def file_hash(path: str | Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
