"""Folders that bring their own real data, such as LOB-Bench's, scored without a data set of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from marsbench import registry
from marsbench.experiment import score
from marsbench.suite import Entrant


@runtime_checkable
class ReadsFolders(Protocol):
    """A task whose evidence can be read from such a folder."""

    def has_layout(self, folder: Path) -> bool:
        """Whether a folder holds real and generated data in its layout."""

    def read_folder(self, folder: Path) -> Any:
        """The evidence in a folder."""


def matching(generators: Sequence[str], tasks: Sequence[str]) -> list[tuple[Entrant, Any]]:
    """Generator and task for each of the generators ``files:DIR``, if all of them and all tasks are of that kind.

    Otherwise nothing: such generators are scored against a data set.
    """
    entrants = [Entrant.of(text) for text in generators]
    found = []
    for text in tasks:
        task: Any = registry.task(registry.parse(text))
        for one in entrants:
            folder = Path(one.spec.argument or "").expanduser()
            ours = one.spec.name == "files" and one.spec.argument is not None and isinstance(task, ReadsFolders)
            if not (ours and task.has_layout(folder)):
                return []
            found.append((one, task))
    return found


def score_folder(entrant: Entrant, task: Any, seed: int = 0) -> dict[str, Any]:
    """Scores of one folder, JSON-like: unit, status, notes, scores.

    Raises
    ------
    ValueError
        If the folder does not have the layout, or a file in it is damaged (named with its line).
    """
    evidence = task.read_folder(Path(entrant.spec.argument or "").expanduser())
    outcomes = score(evidence, registry.metrics_of(task), seed)
    return {
        "unit": f"folder/{task.name}/{entrant.label}/{seed}",
        "status": "done",
        "notes": [note for outcome in outcomes.values() for note in outcome.notes],
        "scores": [{"metric": label, **asdict(s)} for label, outcome in outcomes.items() for s in outcome.scores],
    }
