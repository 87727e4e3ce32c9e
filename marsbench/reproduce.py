"""``marsbench reproduce ITEM``: what a paper published beside what the result files of this folder say.

An item is a table or a figure. It names what it is made from, the results of a task or trained models, and turns
that into tables; it simulates and trains nothing, and says the command where something is missing. New items enter
``ITEMS``: one line, and a module with a function to ``Made``.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from marsbench import progress, registry
from marsbench import results as store
from marsbench.data.catalogue import open_dataset
from marsbench.figures import png
from marsbench.files import markdown_table, write_atomic
from marsbench.fitting import NotTrained, find_trained
from marsbench.registry import nearest, parse
from marsbench.results import Result
from marsbench.simulation.contracts import Artifact, Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL = "all"


@dataclass(frozen=True)
class Table:
    """Columns of one table of a reproduction; numbers are None where there are none."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Made:
    """One item for one generator on one data set."""

    generator: str
    tables: tuple[Table, ...]
    summary: str
    """What the comparison comes to, in a sentence or two."""
    notes: tuple[str, ...]
    """What differs from the paper."""
    drawn: tuple[Table, ...] = ()
    """What only the picture shows."""


@dataclass(frozen=True)
class Item:
    """A published table or figure."""

    name: str
    title: str
    source: str
    task: str
    """Whose results it is made from."""
    make: Callable[[Result], Made]
    """From one result; raises ``MissingScores`` where it lacks what the item shows."""


@dataclass(frozen=True)
class BoardItem:
    """A published table or figure that sets generators side by side."""

    name: str
    title: str
    source: str
    task: str
    """Whose results it is made from."""
    make: Callable[[Mapping[str, Result]], Made]
    """From the results by label; raises ``MissingScores`` where one lacks what the item shows."""
    draw: Callable[[Made], Figure] | None = None
    """The picture, from the tables alone."""


@dataclass(frozen=True)
class TrainedItem:
    """A published figure about the training of models."""

    name: str
    title: str
    source: str
    arms: Mapping[str, str]
    """What is compared: label -> specification of a generator that is trained."""
    seeds: tuple[int, ...]
    make: Callable[[Mapping[str, Sequence[Artifact]]], Made]
    """From the artifacts of each arm, one for each seed in order."""
    draw: Callable[[Made], Figure]
    """The picture, from the tables alone."""


class MissingScores(ValueError):
    """A result without the scores that an item needs: made by other metrics, or by an older version of them."""


def rows_of(result: Result, name: str) -> list[dict[str, Any]]:
    """The rows of a table of any of its metrics.

    Raises
    ------
    MissingScores
        If none has it.
    """
    for outcome in result.outcomes.values():
        if name in outcome.tables:
            table = outcome.tables[name]
            return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    raise MissingScores(f"it has no table {name!r}")


ITEMS: dict[str, str] = {
    "fig11": "marsbench.reproduce_fig11:FIG11",
    "fig23": "marsbench.reproduce_impact:FIG23",
    "fig24": "marsbench.reproduce_factors:FIG24",
    "fig25": "marsbench.reproduce_factors:FIG25",
    "fig26": "marsbench.reproduce_factors:FIG26",
    "fig6a": "marsbench.reproduce_impact:FIG6A",
    "fig6b": "marsbench.reproduce_impact:FIG6B",
    "fig7a": "marsbench.reproduce_forecasts:FIG7A",
    "fig9a": "marsbench.reproduce_factors:FIG9A",
    "fig9b": "marsbench.reproduce_factors:FIG9B",
    "tab6": "marsbench.reproduce_tab6:TAB6",
    "tab7": "marsbench.reproduce_tab7:TAB7",
    "tab8": "marsbench.reproduce_forecasts:TAB8",
}
"""Name -> module:object."""


def interval_text(row: Mapping[str, Any], low: str = "ci_low", high: str = "ci_high") -> str | None:
    """``[low, high]`` of a row of a table; None where there is no interval."""
    return None if row[low] is None or row[high] is None else f"[{row[low]:.3f}, {row[high]:.3f}]"


def seconds_of(result: Result) -> float | None:
    """CPU seconds of its simulations; None where there were none, or an older result does not tell them."""
    spent = result.cost.get("simulate_cpu_s")
    return float(spent) if spent else None


def item(name: str) -> Item | BoardItem | TrainedItem:
    """An item by name.

    Raises
    ------
    ValueError
        If there is none; lists the known ones.
    """
    if name not in ITEMS:
        raise ValueError(nearest(name, [*ITEMS, ALL], what="item"))
    module, _, attribute = ITEMS[name].partition(":")
    found: Item | BoardItem | TrainedItem = getattr(import_module(module), attribute)
    return found


@dataclass(frozen=True)
class Reproduction:
    """One item on one data set, for every generator asked for."""

    item: str
    title: str
    source: str
    dataset: str
    limit: int | None
    command: str
    made: tuple[Made, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def reproduce(
    names: Sequence[str],
    *,
    dataset: str,
    generators: Sequence[str] = (),
    task: str | None = None,
    results: str | Path = "results",
    limit: int | None = None,
    command: str = "",
) -> list[Reproduction]:
    """Make items from the result files of a data set.

    Parameters
    ----------
    names
        Items, or ``all``.
    generators
        Labels as on the leaderboard; default: all that have results and are not hidden.
    task
        Other parameters of the item's task, such as ``sessions,most_sessions=none``.
    limit
        Take the limited results of the first so many starts.

    Raises
    ------
    ValueError
        For an unknown item or generator without results; the message has the command that makes them.
    FileNotFoundError
        If there are no results at all.
    """
    out = []
    for name in wanted(names):
        asked = item(name)
        if isinstance(asked, TrainedItem):
            made = [asked.make(_artifacts(asked, dataset, Path(results)))]
            out.append(Reproduction(name, asked.title, asked.source, dataset, None, command, tuple(made)))
            continue
        one = _with_task(asked, task)
        found = _results(one, dataset, results, limit)
        labels = list(generators) or [label for label, r in found.items() if not r.generator.get("hidden")]
        lacking = [label for label in labels if label not in found]
        if lacking or not labels:
            there = f"there are {', '.join(found)}" if found else "there are none"
            which = f"generator{'s' * (len(lacking) > 1)} {', '.join(lacking)}" if lacking else "any visible generator"
            raise _error(found)(
                f"{name} needs results of task {one.task} on data set {dataset!r} for {which}; {there} in {results}. "
                f"Make them: {_run(one, dataset, lacking, results, limit)}"
            )
        made = []
        for own in [labels] if isinstance(one, BoardItem) else [[label] for label in labels]:
            try:
                made.append(_made(one, {label: found[label] for label in own}))
            except MissingScores as error:
                again = _run(one, dataset, own, results, limit, verb="score")
                raise ValueError(f"{', '.join(own)}: {error}. Score it anew: {again}") from error
        out.append(Reproduction(name, one.title, one.source, dataset, limit, command, tuple(made)))
    return out


def _made(one: Item | BoardItem, found: Mapping[str, Result]) -> Made:
    if isinstance(one, BoardItem):
        return one.make(found)
    (result,) = found.values()
    return one.make(result)


def _artifacts(one: TrainedItem, dataset: str, folder: Path) -> dict[str, list[Artifact]]:
    """The trained models of every arm and seed.

    Raises
    ------
    NotTrained
        With the commands that train what is missing.
    """
    data, cache = open_dataset(dataset), folder / "cache" / "artifacts"
    found: dict[str, list[Artifact]] = {arm: [] for arm in one.arms}
    missing = []
    for arm, spec in one.arms.items():
        model = cast(Trained, registry.generator(spec))
        for seed in one.seeds:
            artifact = find_trained(model, data, seed, cache, progress.say)
            if artifact is None or artifact.seed != seed:
                words = ["marsbench", "train", spec, "-d", dataset, "--seed", str(seed)]
                missing.append(shlex.join(words + (["--results", str(folder)] if str(folder) != "results" else [])))
            else:
                found[arm].append(artifact)
    if missing:
        raise NotTrained(f"{one.name} needs models that are not trained yet:\n  " + "\n  ".join(missing))
    return found


def wanted(names: Sequence[str]) -> list[str]:
    """The items that are asked for, each once; ``all`` stands for every one."""
    return list(ITEMS) if ALL in names else list(dict.fromkeys(names))


def _with_task(one: Item | BoardItem, task: str | None) -> Item | BoardItem:
    if task is None:
        return one
    spec = parse(task)
    if spec.name != one.task:
        raise ValueError(f"{one.name} is made from task {one.task}, not {spec.name}; write {one.task},parameter=value")
    return replace(one, task=str(spec))


def _error(found: dict[str, Result]) -> type[Exception]:
    return ValueError if found else FileNotFoundError


def _results(one: Item | BoardItem, dataset: str, folder: str | Path, limit: int | None) -> dict[str, Result]:
    """Results of the item's task by generator; of several seeds the lowest."""
    out: dict[str, Result] = {}
    for path in store.paths(Path(folder), dataset=dataset):
        result = store.read(path)
        if result.status != "done" or result.task["label"] != one.task or result.limit != limit:
            continue
        label = result.generator["label"]
        if label not in out or result.seed < out[label].seed:
            out[label] = result
    return out


def _run(
    one: Item | BoardItem, dataset: str, generators: Sequence[str], folder: str | Path, limit: int | None, *,
    verb: str = "run",
) -> str:  # fmt: skip
    """The command that makes what is missing."""
    words = ["marsbench", verb, *(["-g", *generators] if generators else []), "-t", one.task, "-d", dataset]
    words += ["--results", str(folder)] if str(folder) != "results" else []
    return shlex.join(words + (["--limit", str(limit)] if limit else []))


def to_text(found: Sequence[Reproduction]) -> str:
    """Aligned tables, one item after the other."""
    return "\n\n".join(_text(one) for one in found) + "\n" if found else ""


def _text(one: Reproduction) -> str:
    blocks = [f"{one.item}: {one.title}\n{one.source}; data set {one.dataset}{_limited(one)}"]
    for made in one.made:
        blocks.append(f"{made.generator}\n{'=' * len(made.generator)}\n{made.summary}")
        for table in made.tables:
            lines = [list(table.columns), *([_cell(v) for v in row] for row in table.rows)]
            widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
            lines.insert(1, ["-" * w for w in widths])
            body = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
            blocks.append("\n".join([table.title, *body]))
        blocks.append("\n".join(["What differs from the paper:", *(f"- {note}" for note in made.notes)]))
    return "\n\n".join(blocks)


def to_markdown(found: Sequence[Reproduction], path: Path | None = None) -> str:
    """The page that ``-o`` writes, with the pictures that lie beside ``path``."""
    blocks = []
    for one in found:
        blocks.append(f"# {one.title}\n\n{one.source}. Data set `{one.dataset}`{_limited(one)}.")
        for number, made in enumerate(one.made):
            blocks.append(f"## {made.generator}\n\n{made.summary}")
            if path is not None and _drawn(one) is not None:
                blocks.append(f"![{one.title}]({_picture_name(path, one, number)})")
            for table in made.tables:
                rows = ([_cell(v) for v in row] for row in table.rows)
                blocks += [f"### {table.title}", markdown_table(table.columns, rows)]
            blocks.append("\n".join(["What differs from the paper:", "", *(f"- {note}" for note in made.notes)]))
        if one.command:
            blocks.append(f"Made by `{one.command}`.")
    return "\n\n".join(blocks) + "\n"


def _limited(one: Reproduction) -> str:
    return f" (trial: the first {one.limit} starts only)" if one.limit else ""


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:z.3f}" if isinstance(value, float) else str(value)


def write(found: Sequence[Reproduction], path: str | Path) -> Path:
    """Write the page as Markdown, pictures beside it; returns its path."""
    path = Path(path)
    for one in found:
        for number, image in enumerate(_pictures(one)):
            write_atomic(path.with_name(_picture_name(path, one, number)), image)
    return write_atomic(path, to_markdown(found, path))


def _pictures(one: Reproduction) -> list[bytes]:
    draw = _drawn(one)
    return [] if draw is None else [png(draw(made)) for made in one.made]


def _drawn(one: Reproduction) -> Callable[[Made], Figure] | None:
    asked = item(one.item)
    return None if isinstance(asked, Item) else asked.draw


def _picture_name(path: Path, one: Reproduction, number: int) -> str:
    return f"{path.stem}{'' if path.stem.startswith(one.item) else '-' + one.item}{'' if number == 0 else number}.png"
