"""The catalogue: which data sets there are, by name, and where they are kept.

Embedded data sets are built the first time they are opened, into the data home (environment
variable ``MARSBENCH_DATA_HOME``, by default ``~/.cache/marsbench``). Two processes that ask for the
same one wait for each other; an interrupted build leaves nothing behind that could be mistaken
for a data set.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from marsbench.data.dataset import HEAD, Dataset, Period, building, write_dataset

__all__ = ["Dataset", "DatasetInfo", "Period", "data_home", "list_datasets", "open_dataset", "write_dataset"]

EMBEDDED = {"reference": "marsbench.data.reference", "zi-market": "marsbench.data.zi_market"}
"""Data sets that we make ourselves: name -> module with ``build(folder)`` and ``VERSION``."""
FIXTURES = {"zi-market"}
"""Those that are there to test the harness and say little about a generator."""
OPTIONS = {"reference": {"days"}}
"""Whole numbers that may follow a name, as in ``reference,days=250``: arguments of its ``build``."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*$")
"""What a data set may be called."""


@dataclass(frozen=True)
class DatasetInfo:
    """One line of the catalogue."""

    name: str
    version: int | None
    """None for a data set that is damaged."""
    summary: str
    kind: str
    """``"embedded"`` (built on first use), ``"fixture"`` (embedded, for tests) or ``"converted"``."""
    folder: str | None
    """Where it lies; None for one that has not been built yet."""
    days: int = 0
    periods: dict[str, int] | None = None
    """Number of periods by split."""
    content_hash: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return asdict(self)


def data_home() -> Path:
    """The folder where data sets are kept, ``MARSBENCH_DATA_HOME`` or ``~/.cache/marsbench``."""
    return Path(os.environ.get("MARSBENCH_DATA_HOME") or Path.home() / ".cache" / "marsbench").expanduser()


def open_dataset(name: str | Path) -> Dataset:
    """Open a data set by its name in the catalogue, or by its folder.

    An embedded one is built now if it has not been; ``reference,days=250`` asks for another length.

    Raises
    ------
    ValueError
        For an unknown name (the message lists the names and the nearest one), or a damaged data set.
    FileNotFoundError
        For a path that holds no data set.
    """
    text = os.fspath(name)
    if text.split(",")[0] in EMBEDDED:
        return _embedded(text)
    stored = data_home() / text
    if NAME.match(text) and (stored / HEAD).is_file():
        return Dataset(stored)
    path = Path(text)
    if path.is_dir():
        return Dataset(path)
    if path.exists():
        raise ValueError(f"{path} is a file, not a data set; convert it: marsbench data convert {path} --name NAME")
    if isinstance(name, Path) or os.sep in text:
        raise FileNotFoundError(f"{path}: there is no such folder")
    known = [info.name for info in list_datasets()]
    near = difflib.get_close_matches(text, known, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown data set {text!r}.{hint} There are: {', '.join(known)}; or give the folder of one")


def list_datasets() -> list[DatasetInfo]:
    """Every data set of the catalogue: the embedded ones, then those in the data home, by name."""
    out = []
    for name, module in sorted(EMBEDDED.items()):
        folder = _embedded_folder(name, {})
        kind = "fixture" if name in FIXTURES else "embedded"
        if (folder / HEAD).is_file():
            out.append(_describe(folder, name, kind))
        else:
            recipe = importlib.import_module(module)
            summary = (recipe.__doc__ or "").strip().split("\n", 1)[0].removeprefix(f"``{name}``: ")
            out.append(DatasetInfo(name, int(recipe.VERSION), summary, kind, None))
    built = {_embedded_folder(name, {}).name for name in EMBEDDED}
    folders = sorted(data_home().iterdir()) if data_home().is_dir() else []
    stored = [f for f in folders if NAME.match(f.name) and f.name not in built and (f / HEAD).is_file()]
    return out + [_describe(folder, folder.name, _kind(folder.name)) for folder in stored]


def _kind(folder_name: str) -> str:
    """Embedded data sets of another length lie in folders of their own, ``reference-v2-days250``."""
    return "embedded" if re.match(rf"({'|'.join(OPTIONS)})-v\d+-", folder_name) else "converted"


def _describe(folder: Path, name: str, kind: str) -> DatasetInfo:
    try:
        data = Dataset(folder)
    except ValueError as error:
        return DatasetInfo(name, None, f"damaged: {error}", kind, str(folder))
    counts = {split: len(data.split(split)) for split in ("train", "validation", "test")}
    return DatasetInfo(name, data.version, data.summary, kind, str(folder), len(data.days), counts, data.content_hash)


def _parse(text: str) -> tuple[str, dict[str, int]]:
    """Name and options of ``name,option=number,...``."""
    name, *rest = text.split(",")
    options: dict[str, int] = {}
    for item in rest:
        key, _, value = item.partition("=")
        known = OPTIONS.get(name, set())
        if key not in known or not value.isdigit():
            allowed = ", ".join(f"{k}=NUMBER" for k in sorted(known)) or "none"
            raise ValueError(f"data set {text!r}: {item!r} is no option of {name}; there are: {allowed}")
        options[key] = int(value)
    return name, options


def _embedded_folder(name: str, options: dict[str, int]) -> Path:
    version = int(importlib.import_module(EMBEDDED[name]).VERSION)
    tail = "".join(f"-{key}{value}" for key, value in sorted(options.items()))
    return data_home() / f"{name}-v{version}{tail}"


def _embedded(text: str) -> Dataset:
    name, options = _parse(text)
    folder = _embedded_folder(name, options)
    if not (folder / HEAD).is_file():
        with lock(folder):
            for left in folder.parent.glob(f".{folder.name}.*.building"):
                shutil.rmtree(left, ignore_errors=True)  # of a build that was killed: we hold the lock
            if not (folder / HEAD).is_file():
                with building(folder, replace=True) as temporary:
                    importlib.import_module(EMBEDDED[name]).build(temporary, **options)
    return Dataset(folder)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the right to build ``folder``; other processes wait. A killed process gives it back."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w") as file:
        try:
            import fcntl
        except ImportError:  # No such locks on Windows: the rename still keeps the folder whole.
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
