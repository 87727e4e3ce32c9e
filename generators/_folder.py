"""What a folder of simulations that were made elsewhere holds, found by file names and Parquet heads alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from marsbench.data import books, lobster
from marsbench.data.export import MILLISECOND
from marsbench.market.trajectory import read_heads
from marsbench.progress import say

Key = tuple[str, str, int]
"""Instrument, date and start in ns."""


@dataclass(frozen=True)
class Entry:
    """One simulation in the folder."""

    path: Path
    where: str
    """The file as errors name it."""
    key: Key
    end_ns: int
    place: int = 0
    """Position in a Parquet file of trajectories."""
    levels: int | None = None
    """Published levels of a LOBSTER pair or of book snapshots; None for trajectories."""
    books: bool = False
    """Whether it is book snapshots alone."""


@dataclass(frozen=True)
class Index:
    """What a folder holds."""

    entries: Mapping[Key, tuple[Entry, ...]]
    content_hash: str
    """SHA-256 (hex) of the names and bytes of all files that count."""

    @property
    def books(self) -> bool:
        """Whether there are book snapshots alone (they do not stand beside simulations with orders)."""
        return any(entry.books for of_start in self.entries.values() for entry in of_start)


def _files(folder: Path) -> list[Path]:
    """Parquet and CSV files below a folder by name, nothing hidden among them."""
    found = (p for p in folder.rglob("*") if p.name.endswith((".parquet", ".csv", ".csv.gz")) and p.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def signature(folder: Path) -> tuple[tuple[Path, int, int], ...]:
    """Name, size and time of change of every file: while this is the same, nothing is read again."""
    stats = ((p, p.stat()) for p in _files(folder))
    return tuple((p, s.st_size, s.st_mtime_ns) for p, s in stats)


@lru_cache(16)
def index(folder: Path, signed: tuple[tuple[Path, int, int], ...]) -> Index:
    """Find every trajectory in the files of a folder, and hash them."""
    entries: dict[Key, list[Entry]] = {}
    digest = hashlib.sha256()
    ignored = []
    for path, _, _ in signed:
        where = path.relative_to(folder).as_posix()
        found = _books(path, where) or (_heads(path, where) if path.suffix == ".parquet" else _pair(path, where))
        if found is None:
            ignored.append(where)
            continue
        with open(path, "rb") as file:
            digest.update(where.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
        for entry in found:
            entries.setdefault(entry.key, []).append(entry)
    if ignored:
        say(f"files:{folder}: {len(ignored)} CSV files are left out, such as {ignored[0]}; {_EXPECTED}")
    if not entries:
        raise ValueError(f"files:{folder}: holds no trajectories; {_EXPECTED}")
    every = [entry for of_start in entries.values() for entry in of_start]
    with_orders = [entry for entry in every if not entry.books]
    if 0 < len(with_orders) < len(every):
        books = next(entry for entry in every if entry.books)
        raise ValueError(
            f"files:{folder}: holds book snapshots alone ({books.where}) beside simulations with orders "
            f"({with_orders[0].where}), and what needs orders could not be scored for both; put them into two folders"
        )
    return Index({key: tuple(many) for key, many in entries.items()}, digest.hexdigest())


_EXPECTED = (
    "expected are *.parquet written by marsbench.market.trajectory.save, LOBSTER pairs "
    "INSTRUMENT_YYYY-MM-DD_STARTMS_ENDMS_message_LEVELS.csv and ..._orderbook_LEVELS.csv, or book snapshots alone "
    "..._book_LEVELS.csv (a suffix _NAME before .csv tells simulations of one period apart)"
)


def _heads(path: Path, where: str) -> Sequence[Entry]:
    """The trajectories of a Parquet file, without reading their rows."""
    try:
        heads = read_heads(path)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{where}: {error}; write it with marsbench.market.trajectory.save, or move it away"
        ) from error
    return [
        Entry(path, where, (h["instrument"], h["date"], int(h["start_ns"])), int(h["end_ns"]), place)
        for place, h in enumerate(heads)
    ]


def _pair(path: Path, where: str) -> Sequence[Entry] | None:
    """The trajectory of a LOBSTER message file; nothing for its book file, None for a CSV of another name."""
    found = lobster.name_parts(path.name)
    if found is None:
        return None
    partner = path.with_name(lobster.partner(path.name))
    if not partner.is_file():
        alone = (
            ". A LOBSTER order book alone does not say when its rows hold: if there are no messages, write the books "
            f"with their times as {books.EXPECTED} (columns time_s, ask_price_1, ask_size_1, bid_price_1, ...; see "
            "marsbench.data.books)"
        )
        raise ValueError(
            f"{where}: {partner.name} must lie beside it; put both files of the pair into the folder"
            + (alone if found["what"] == "orderbook" else "")
        )
    if found["what"] == "orderbook":
        return ()
    key = (found["instrument"], found["date"], int(found["start"]) * MILLISECOND)
    return [Entry(path, where, key, int(found["end"]) * MILLISECOND, levels=int(found["levels"]))]


def _books(path: Path, where: str) -> Sequence[Entry] | None:
    """The simulation of a file of book snapshots; None for a file of another name."""
    found = books.name_parts(path.name)
    if found is None:
        return None
    key = (found["instrument"], found["date"], int(found["start"]) * MILLISECOND)
    return [Entry(path, where, key, int(found["end"]) * MILLISECOND, levels=int(found["levels"]), books=True)]
