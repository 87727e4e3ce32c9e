"""States of an interrupted training run on disk: the last one that is whole, and the one before it.

Each state is a folder that appears by one rename, with the hash of its file beside it; the older
ones go only after the new one is there. Whatever moment a process is killed at, a whole state is left.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from marsbench.files import digest
from marsbench.learning.contracts import Arrays, Batches
from marsbench.learning.plan import TrainingPlan

FORMAT = 1
"""Of what is in a state; one of another format is another training."""
KEPT = 2
"""So many states stay on disk."""
_FILE, _HASH = "state.pt", "sha256"


def save_state(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write the state after ``step`` updates, then drop all but the newest two; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:09d}"
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        torch.save(state, temporary / _FILE)
        (temporary / _HASH).write_text(_sha256(temporary / _FILE))
        for path in (temporary / _FILE, temporary / _HASH, temporary):
            _flush(path)
        if final.exists():
            shutil.rmtree(final)
        os.replace(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in _folders(folder)[:-KEPT]:
        shutil.rmtree(old)
    return final


def load_state(folder: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """The newest whole state, on the CPU; None where there is none.

    A damaged one is reported and removed.
    """
    for left in folder.glob(".step-*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    for path in reversed(_folders(folder)):
        try:
            return _read(path)
        except Exception as error:  # noqa: BLE001 - damaged bytes may raise anything; it is reported, and an older one read
            say(f"training state {path.name} is damaged, going back to the one before it: {error}")
            shutil.rmtree(path)
    return None


def _folders(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _read(path: Path) -> dict[str, Any]:
    if _sha256(path / _FILE) != (path / _HASH).read_text():
        raise ValueError(f"{_FILE} is not what was written")
    state: dict[str, Any] = torch.load(path / _FILE, map_location="cpu", weights_only=True)
    return state


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Make sure that a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name != "posix":
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def identity_of(
    module: nn.Module, batches: Batches, validation: Sequence[Arrays], plan: TrainingPlan, seed: int
) -> dict[str, Any]:
    """What a state must agree with, as plain JSON values."""
    tensors = {name: [list(t.shape), str(t.dtype)] for name, t in module.state_dict().items()}
    content = hashlib.sha256()
    for batch in validation:
        for name, array in sorted(batch.items()):
            content.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    identity = {
        "format": FORMAT,
        "plan": asdict(plan),
        "model": {"class": type(module).__qualname__, "tensors": digest(tensors)},
        "data": dict(batches.describe()),
        "validation": {"batches": len(validation), "content": content.hexdigest()},
        "seed": seed,
    }
    plain: dict[str, Any] = json.loads(json.dumps(identity, default=str))
    return plain


def check_same(stored: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Make sure that a state is of this training.

    Raises
    ------
    ValueError
        Naming everything that differs.
    """
    before, after = dict(_flat(stored)), dict(_flat(now))
    differs = [
        f"{key} was {before.get(key, 'absent')!r} and is {after.get(key, 'absent')!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    if differs:
        raise ValueError(
            f"{folder}: the state there is of another training: {'; '.join(differs)}. Train with what it was begun "
            "with, or start anew in an empty folder (`marsbench train --fresh`)"
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
