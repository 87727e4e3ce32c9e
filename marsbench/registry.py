"""Finds generators, metrics and tasks by name.

Built-ins are discovered by walking ``marsbench.generators``, ``marsbench.metrics`` and
``marsbench.tasks`` (modules whose name starts with ``_`` are helpers); third parties register a
class or a module under the entry-point group of the same name. A plug-in on the command line is a
specification: ``name``, ``name,parameter=value,...`` or ``name:argument`` (``files:DIR``).
"""

from __future__ import annotations

import difflib
import inspect
import json
import pkgutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from numbers import Real
from types import ModuleType
from typing import Any, Literal, cast

from marsbench.evidence import Metric, Task
from marsbench.simulation.contracts import Generator, Trained

PluginKind = Literal["generators", "metrics", "tasks"]

NONE = "none"
"""How a missing value is written in a specification."""
BASES: dict[str, type] = {"generators": Generator, "metrics": Metric, "tasks": Task}


@dataclass(frozen=True)
class Entry:
    """One registered class and where it came from."""

    name: str
    cls: type
    origin: str


class EvidenceError(TypeError):
    """A metric takes another type of evidence than its task produces."""

    user_error = True


def nearest(word: str, choices: Iterable[str], *, what: str) -> str:
    """The sentence for an unknown name: what was wrong, the nearest match, and all choices."""
    choices = sorted(choices)
    match = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    hint = f"; did you mean {match[0]!r}?" if match else "."
    return f"unknown {what} {word!r}{hint} Choices: {', '.join(choices) or 'none'}"


def register(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Entries by name.

    Raises
    ------
    ValueError
        If two different classes have the same name; both are named.
    """
    table: dict[str, Entry] = {}
    for entry in entries:
        other = table.get(entry.name)
        if other is not None and other.cls is not entry.cls:
            raise ValueError(
                f"two plug-ins are named {entry.name!r}: {_path(other)} (from {other.origin}) and {_path(entry)} "
                f"(from {entry.origin}); rename one or uninstall it"
            )
        table[entry.name] = entry
    return table


def _path(entry: Entry) -> str:
    return f"{entry.cls.__module__}.{entry.cls.__qualname__}"


def _classes(module: ModuleType, base: type) -> Iterator[type]:
    """Concrete plug-in classes that a module (or its folder) defines itself."""
    for value in list(vars(module).values()):
        if not inspect.isclass(value) or not issubclass(value, base) or inspect.isabstract(value):
            continue
        inside = value.__module__ == module.__name__ or value.__module__.startswith(f"{module.__name__}.")
        if inside and isinstance(getattr(value, "name", None), str):
            yield value


def _built_in(kind: str) -> Iterator[Entry]:
    package = import_module(f"marsbench.{kind}")
    for info in pkgutil.iter_modules(package.__path__):
        if not info.name.startswith("_"):
            module = import_module(f"{package.__name__}.{info.name}")
            yield from (Entry(cls.name, cls, "marsbench") for cls in _classes(module, BASES[kind]))  # type: ignore[attr-defined]


def _third_party(kind: str) -> Iterator[Entry]:
    for point in sorted(entry_points(group=f"marsbench.{kind}"), key=lambda p: (p.name, p.value)):
        origin = point.dist.name if point.dist else point.value
        try:
            loaded = point.load()
        except Exception as error:  # noqa: BLE001 - a stranger's module may raise anything; the rest must still work
            warnings.warn(_broken(point, origin, error), stacklevel=2)
            continue
        yield from (Entry(cls.name, cls, origin) for cls in _offered(loaded, point, kind))


def _broken(point: EntryPoint, origin: str, error: Exception) -> str:
    return (
        f"plug-in {point.name!r} of {origin} ({point.value}) cannot be imported and is left out: "
        f"{type(error).__name__}: {error}"
    )


def _offered(loaded: Any, point: EntryPoint, kind: str) -> list[Any]:
    if isinstance(loaded, ModuleType):
        return list(_classes(loaded, BASES[kind]))
    if not (inspect.isclass(loaded) and issubclass(loaded, BASES[kind])):
        raise TypeError(
            f"entry point {point.name!r} = {point.value!r} in group marsbench.{kind} must be a module or a subclass of "
            f"{BASES[kind].__name__}, got {loaded!r}"
        )
    return [loaded]


@cache
def table(kind: PluginKind) -> dict[str, Entry]:
    """Every registered plug-in of one kind by name; found once per process."""
    if kind not in BASES:
        raise ValueError(nearest(kind, BASES, what="kind of plug-in"))
    found = register([*_built_in(kind), *_third_party(kind)])
    return dict(sorted(found.items()))


def names(kind: PluginKind) -> list[str]:
    """Names of all plug-ins of a kind, sorted."""
    return list(table(kind))


def lookup(kind: PluginKind, name: str) -> Any:
    """The class registered under a name.

    Raises
    ------
    ValueError
        If there is none; lists the choices and the nearest match.
    """
    entries = table(kind)
    if name not in entries:
        raise ValueError(nearest(name, entries, what=kind.removesuffix("s")))
    return entries[name].cls


@dataclass(frozen=True)
class Spec:
    """A plug-in with its parameters, as written on the command line or in a suite."""

    name: str
    parameters: Mapping[str, Any]
    argument: str | None = None
    """What follows the colon, as the directory in ``files:DIR``."""

    def __str__(self) -> str:
        if self.argument is not None:
            return f"{self.name}:{self.argument}"
        return ",".join([self.name, *(f"{k}={_value_text(v)}" for k, v in sorted(self.parameters.items()))])


def _value_text(value: Any) -> str:
    if value is None:
        return NONE
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def parse(text: str) -> Spec:
    """Read ``name``, ``name,parameter=value,...`` or ``name:argument``; values are JSON where they can be, or none.

    >>> parse("bootstrap,block_seconds=30").parameters
    {'block_seconds': 30}
    >>> parse("realism,most_starts=none").parameters
    {'most_starts': None}
    >>> parse("files:simulations").argument
    'simulations'

    Raises
    ------
    ValueError
        If a parameter is not written ``parameter=value``, or is given twice.
    """
    head, colon, argument = text.partition(":")
    if colon and "," not in head:
        return Spec(head, {}, argument)
    name, *rest = text.split(",")
    parameters: dict[str, Any] = {}
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"{text!r}: write parameters as name,parameter=value, got {part!r}")
        if key in parameters:
            raise ValueError(f"{text!r}: parameter {key!r} is given twice")
        try:
            parameters[key] = None if value == NONE else json.loads(value)
        except ValueError:
            parameters[key] = value
    return Spec(name, parameters)


def _build(kind: PluginKind, spec: str | Spec, parameters: Mapping[str, Any]) -> Any:
    spec = parse(spec) if isinstance(spec, str) else spec
    cls = lookup(kind, spec.name)
    arguments = {**spec.parameters, **parameters}
    positional = () if spec.argument is None else (spec.argument,)
    signature = inspect.signature(cls)
    try:
        signature.bind(*positional, **arguments)
    except TypeError as error:
        allowed = ", ".join(str(p) for p in signature.parameters.values()) or "no parameters"
        raise ValueError(f"{kind.removesuffix('s')} {str(spec)!r}: {error}. It takes: {allowed}") from error
    for name, value in arguments.items():
        annotation = getattr(signature.parameters.get(name), "annotation", "")
        if not _may_be(value, str(annotation)):
            raise ValueError(f"{kind.removesuffix('s')} {str(spec)!r}: {name} takes {annotation}, got {value!r}")
    return cls(*positional, **arguments)


def _may_be(value: Any, annotation: str) -> bool:
    """Whether a value is one that an annotation of numbers takes; of others, parameters judge for themselves."""
    kinds = {part.strip() for part in annotation.split("|")}
    if not kinds <= {"int", "float", "None"}:
        return True
    if value is None:
        return "None" in kinds
    return isinstance(value, Real) and not isinstance(value, bool)


def generator(spec: str | Spec, **parameters: Any) -> Generator:
    """A new generator, for example ``generator("bootstrap")`` or ``generator("files:DIR")``.

    Raises
    ------
    ValueError
        If the name or a parameter is unknown.
    """
    return cast(Generator, _build("generators", spec, parameters))


def metric(name: str | Spec, **parameters: Any) -> Metric:
    """A metric with its parameters.

    Raises
    ------
    ValueError
        If the name or a parameter is unknown.
    """
    return cast(Metric, _build("metrics", name, parameters))


def task(name: str | Spec, **parameters: Any) -> Task:
    """A task with its parameters, whose metrics are known to exist and to take its evidence.

    Raises
    ------
    ValueError
        If the name or a parameter is unknown, or a metric is.
    EvidenceError
        If a metric takes another type of evidence than the task produces.
    """
    made = cast(Task, _build("tasks", name, parameters))
    metrics_of(made)
    return made


def metrics_of(task: Task) -> dict[str, Metric]:
    """The metrics that score a task's evidence, by their label (name and parameters).

    Raises
    ------
    ValueError
        If a metric is unknown, or named twice with the same parameters.
    EvidenceError
        If a metric takes another type of evidence than the task produces.
    """
    found: dict[str, Metric] = {}
    for name, parameters in task.metrics:
        made = metric(name, **parameters)
        if not issubclass(task.evidence, made.evidence):
            raise EvidenceError(
                f"task {task.name!r} produces {task.evidence.__name__}, but its metric {name!r} takes "
                f"{made.evidence.__name__}; choose a metric for {task.evidence.__name__}"
            )
        label = str(Spec(name, parameters))
        if label in found:
            raise ValueError(f"task {task.name!r} names metric {label!r} twice")
        found[label] = made
    return found


def describe(kind: PluginKind) -> list[dict[str, Any]]:
    """What ``marsbench list`` prints: one row per plug-in."""
    rows: list[dict[str, Any]] = []
    for entry in table(kind).values():
        cls: Any = entry.cls
        row = {"name": entry.name, "version": cls.version, "summary": cls.summary, "origin": entry.origin}
        if kind == "generators":
            row |= {"kind": str(cls.kind), "reacts": cls.reacts, "hidden": cls.hidden, "source": cls.source}
            row |= {"by_default": cls.by_default, "trained": issubclass(cls, Trained)}
        elif kind == "metrics":
            row |= {"evidence": cls.evidence.__name__}
        else:
            row |= {
                "kinds": sorted(str(k) for k in cls.kinds),
                "evidence": cls.evidence.__name__,
                "conditions": list(cls.conditions),
                "source": cls.source,
            }
        rows.append(row)
    return rows
