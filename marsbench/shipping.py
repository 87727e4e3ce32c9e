"""Artifacts that go with the code: in a folder of their own, weights as float16, with a card."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from marsbench.simulation.contracts import REPORT, Artifact


@dataclass(frozen=True)
class FitCard:
    """What the card says of a generator that is fitted in passing."""

    generator: str
    summary: str
    command: str
    where: str
    dataset: str
    """Name and version."""
    dataset_hash: str
    seconds: float | None

    def text(self, artifact: Artifact, report: str) -> str:
        from marsbench.learning.checkpoints import Card

        card = Card(
            title=f"{self.generator} on {self.where}",
            summary=f"{self.summary[:1].upper()}{self.summary[1:]}.",
            command=self.command,
            dataset=self.dataset,
            dataset_hash=self.dataset_hash,
            seed=artifact.seed,
            seconds=self.seconds,
            hardware=platform.machine(),
            limits=["It knows the instruments of its training data only.", *artifact.notes],
        )
        return f"{card.to_markdown()}\n{report}" if report else card.to_markdown()


def ship(artifact: Artifact, target: Path, *, card: FitCard | None, key: str, say: Callable[[str], None]) -> Path:
    """Copy an artifact to a folder, replacing an earlier one there, with weights as float16.

    Parameters
    ----------
    card
        Of a fit; None where the artifact has one.
    key
        What it was made as.

    Raises
    ------
    ValueError
        If the folder holds something else.
    """
    from marsbench.learning.checkpoints import CARD, copy_stored

    if target.exists() and not (target / "artifact.json").exists() and any(target.iterdir()):
        raise ValueError(f"{target} holds something that is no artifact; name a new folder")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        error = copy_stored(artifact.folder, temporary, stored="float16")
        if card is not None and not (temporary / CARD).exists():
            report = temporary / REPORT
            (temporary / CARD).write_text(card.text(artifact, report.read_text() if report.exists() else ""))
            report.unlink(missing_ok=True)
        replace(artifact, key=key).resealed(temporary)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    say(f"shipped to {target}" + (f": weights as float16, largest rounding error {error:.2g}" if card is None else ""))
    return target


def take_over(shipped: Path, own: Path, *, within: Path) -> Artifact:
    """Use a shipped artifact from now on: where our own lies in the cache ``within``, the shipped one takes its place.

    Otherwise results here would be of other weights than results elsewhere.
    """
    if own.parent.resolve() == within.resolve():
        temporary = own.with_name(f".{own.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(shipped, temporary)
        shutil.rmtree(own)
        os.replace(temporary, own)
        return Artifact.read(own)
    return Artifact.read(shipped)
