"""Folders that bring their own real data, such as LOB-Bench's, scored without a data set of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from marsbench import registry
from marsbench.experiment import score
from marsbench.ranking import Verdict
from marsbench.results import Status
from marsbench.scores import Outcome
from marsbench.suite import Entrant


@runtime_checkable
class ReadsFolders(Protocol):
    """A task whose evidence can be read from such a folder."""

    def has_layout(self, folder: Path) -> bool:
        """Whether a folder holds real and generated data in its layout."""

    def read_folder(self, folder: Path) -> Any:
        """The evidence in a folder, with ``unusable``: why nothing in it can be compared, or None."""


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


@dataclass(frozen=True)
class FolderScores:
    """What came of one folder."""

    unit: str
    outcomes: Mapping[str, Outcome]
    validity: Verdict | None
    reason: str | None
    """Why nothing could be scored; None where something was."""

    @property
    def status(self) -> Status:
        return "failed" if self.reason else "done"

    @property
    def notes(self) -> list[str]:
        return [note for outcome in self.outcomes.values() for note in outcome.notes]

    @property
    def scores(self) -> list[dict[str, Any]]:
        return [{"metric": label, **asdict(s)} for label, outcome in self.outcomes.items() for s in outcome.scores]

    def to_dict(self) -> dict[str, Any]:
        validity = self.validity.to_dict() if self.validity else None
        return {
            "unit": self.unit, "status": self.status, "reason": self.reason, "validity": validity, "notes": self.notes,
            "scores": self.scores,
        }  # fmt: skip


def score_folder(entrant: Entrant, task: Any, seed: int = 0) -> FolderScores:
    """Scores of one folder; a folder in which nothing can be compared has failed.

    Raises
    ------
    ValueError
        If the folder does not have the layout, or a file in it is damaged (named with its line).
    """
    evidence = task.read_folder(Path(entrant.spec.argument or "").expanduser())
    outcomes = score(evidence, registry.metrics_of(task), seed)
    reason = evidence.unusable
    found = {s.key: s for outcome in outcomes.values() for s in outcome.scores}
    verdict = Verdict.of(found, *([reason] if reason else []))
    return FolderScores(f"folder/{task.name}/{entrant.label}/{seed}", outcomes, verdict, reason)
