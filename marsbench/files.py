"""Files that are either whole or not there, names that any file system takes, and text that goes into them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SIGNIFICANT_DIGITS = 6


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write a file by temporary, fsync and rename; a crash or a full disk leaves the old one or none.

    Raises
    ------
    OSError
        If the disk is full or cannot be written; nothing half-written stays behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


class Busy(RuntimeError):
    """Another process holds what only one may hold."""


@contextmanager
def exclusive(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file while a block runs; a killed process gives it back.

    Raises
    ------
    Busy
        With the words of ``refusal``, if another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Busy(refusal) from error
        yield


def require_writable(folder: str | Path) -> None:
    """Make a folder if it is not there, and a file in it that is gone again.

    Raises
    ------
    OSError
        If either cannot be done; names the folder.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"{folder}: nothing can be written there ({error.strerror or error}); name another folder"
        ) from error


def set_aside(path: Path) -> Path:
    """Rename a damaged file or folder to ``<name>.damaged`` (numbered where that exists); returns the new path."""
    number = 0
    while True:
        other = path.with_name(f"{path.name}.damaged{number or ''}")
        if not other.exists():
            os.replace(path, other)
            return other
        number += 1


def file_safe(name: str) -> str:
    """``name`` as one path component: unusual characters become ``-`` and a short hash keeps names apart."""
    safe = re.sub(r"[^A-Za-z0-9._,=+-]+", "-", name).strip("-.")[:80]
    if safe == name:
        return name
    return f"{safe or 'x'}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON-like value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def rounded(value: Any) -> Any:
    """The same JSON-like value with floats at six significant digits; a float that is not finite is an error."""
    if isinstance(value, dict):
        return {str(k): rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v) for v in value]
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    elif hasattr(value, "tolist"):
        return rounded(value.tolist())
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be stored; a missing number is None")
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
    return value


def pretty(value: Any, *, indent: int = 0) -> str:
    """JSON with one line per field and every list of plain values on one line: small and readable in a diff."""
    pad = " " * (indent + 1)
    if isinstance(value, dict) and value:
        inner = ",\n".join(f"{pad}{json.dumps(str(k))}: {pretty(v, indent=indent + 1)}" for k, v in value.items())
        return f"{{\n{inner}\n{' ' * indent}}}"
    if isinstance(value, list) and any(isinstance(v, (dict, list)) for v in value):
        inner = ",\n".join(f"{pad}{json.dumps(v, allow_nan=False, ensure_ascii=False)}" for v in value)
        return f"[\n{inner}\n{' ' * indent}]"
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], rules: Sequence[str] = ()) -> str:
    """A table in Markdown, whose columns are aligned by ``rules`` (``---``, or ``--:`` for numbers).

    >>> print(markdown_table(("a", "b"), [("x | y", "2")], ("---", "--:")))
    | a | b |
    | --- | --: |
    | x \\| y | 2 |
    """
    lines = [head, rules or ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
