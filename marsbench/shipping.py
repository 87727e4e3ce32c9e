"""Artifacts that go with the code: in a folder of their own, weights as float16, with a card."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from marsbench.simulation.contracts import REPORT, Artifact

if TYPE_CHECKING:
    from marsbench.learning.checkpoints import Card


def ship(artifact: Artifact, target: Path, *, card: Card | None, key: str, say: Callable[[str], None]) -> Path:
    """Copy an artifact to a folder, replacing an earlier one there, with weights as float16.

    Parameters
    ----------
    card
        Of a fit, which ends with its report; None where the artifact has one.
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
            text = card.to_markdown() + (f"\n{report.read_text()}" if report.exists() else "")
            (temporary / CARD).write_text(text)
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
