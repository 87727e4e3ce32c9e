"""What to run: generators, tasks, data sets and seeds, from a TOML file or the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from marsbench.files import digest
from marsbench.registry import Spec, describe, nearest, parse
from marsbench.simulation.contracts import Generator, Kind

DEFAULT_DATASET = "reference"
DEFAULT_TASKS = ("realism", "sessions")
SUITES = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class Entrant:
    """A generator under the name that it has on the leaderboard."""

    spec: Spec
    label: str
    instance: Generator | None = field(default=None, compare=False, repr=False)
    """A generator made in Python that is not registered; None for one that is found by name."""
    named: bool = field(default=True, compare=False)
    """Whether somebody asked for it; False where a run takes every generator that there is."""

    @classmethod
    def of(cls, value: str | Generator | Mapping[str, Any]) -> Self:
        """From ``[LABEL=]SPEC``, a generator instance, or a table of a suite (spec, label, parameters).

        Raises
        ------
        ValueError
            If a table has unknown fields or no ``spec``.
        """
        if isinstance(value, Generator):
            spec = Spec(value.name, dict(value.parameters()))
            return cls(spec, str(spec), value)
        if isinstance(value, str):
            named = re.fullmatch(r"([\w.+-]+)=(.+)", value)
            spec = parse(named.group(2) if named else value)
            return cls(spec, named.group(1) if named else str(spec))
        unknown = set(value) - {"spec", "label", "parameters"}
        if unknown:
            raise ValueError(nearest(min(unknown), ["spec", "label", "parameters"], what="field of a generator"))
        if "spec" not in value:
            raise ValueError(f"a generator of the suite has no 'spec': {dict(value)!r}")
        spec = parse(value["spec"])
        spec = replace(spec, parameters={**spec.parameters, **value.get("parameters", {})})
        return cls(spec, value.get("label", str(spec)))


@dataclass(frozen=True)
class Suite:
    """Every combination of these is one unit of work."""

    name: str = "default"
    generators: tuple[Entrant, ...] = ()
    """Empty: every registered generator that is not hidden and fits the task."""
    tasks: tuple[str, ...] = DEFAULT_TASKS
    datasets: tuple[str, ...] = (DEFAULT_DATASET,)
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    """Use only the first so many starts of every task."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit {self.limit}: write at least 1 start, or leave it out for all of them")
        for what in ("tasks", "datasets", "seeds"):
            if not getattr(self, what):
                raise ValueError(f"suite {self.name!r}: no {what}; name at least one")
        labels = [e.label for e in self.generators]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"generators with the same label: {', '.join(twice)}; write LABEL=SPEC to tell them apart")

    @property
    def id(self) -> str:
        """Identity by content, the same for a run that is continued."""
        values = [self.name, [e.label for e in self.generators], self.tasks, self.datasets, self.seeds, self.limit]
        return digest(values)[:16]

    def override(self, **values: Any) -> Self:
        """The suite with the fields that are given (not None) replaced."""
        given = {k: v for k, v in values.items() if v is not None}
        if "generators" in given:
            given["generators"] = tuple(v if isinstance(v, Entrant) else Entrant.of(v) for v in given["generators"])
        for name in ("tasks", "datasets", "seeds"):
            if name in given:
                given[name] = tuple(dict.fromkeys(given[name]))
        return replace(self, **given)


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str, "generators": list, "tasks": list, "datasets": list, "seeds": list, "limit": int,
}  # fmt: skip


def shipped() -> dict[str, Path]:
    """Suites that come with the package, by name."""
    return {path.stem: path for path in sorted(SUITES.glob("*.toml"))}


def read(path: str | Path) -> Suite:
    """Read a suite from TOML (fields: name, generators, tasks, datasets, seeds, limit), or one of ``shipped`` by name.

    A generator is a string ``[LABEL=]SPEC`` or a table with ``spec``, ``label`` and ``parameters``.

    Raises
    ------
    FileNotFoundError
        If the file is not there.
    ValueError
        If it is not TOML, or a field is unknown or of the wrong type.
    """
    path = shipped().get(str(path), Path(path))
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such suite file, and no suite of that name ({', '.join(shipped())})")
    try:
        values = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not valid TOML ({error})") from error
    for name, value in values.items():
        if name not in _FIELDS:
            raise ValueError(f"{path}: {nearest(name, _FIELDS, what='field')}")
        if not isinstance(value, _FIELDS[name]):
            raise ValueError(f"{path}: {name} must be a {_FIELDS[name].__name__}, got {value!r}")  # type: ignore[union-attr]
    for name, kind in (("tasks", str), ("datasets", str), ("seeds", int)):
        wrong = [v for v in values.get(name, []) if not isinstance(v, kind)]
        if wrong:
            raise ValueError(f"{path}: {name} must hold {kind.__name__} values, got {wrong[0]!r}")
    return Suite(name=path.stem).override(**values)


def visible(kinds: Iterable[Kind]) -> tuple[Entrant, ...]:
    """Every registered generator of these kinds that is not hidden, needs no argument, and takes part by default."""
    wanted = {str(k) for k in kinds} - {str(Kind.TRAJECTORIES)}  # files need a folder, nobody can guess it
    rows: Sequence[dict[str, Any]] = describe("generators")
    chosen = (r["name"] for r in rows if r["by_default"] and not r["hidden"] and r["kind"] in wanted)
    return tuple(replace(Entrant.of(name), named=False) for name in chosen)
