"""``files:DIR``: simulations that were made elsewhere, read from a folder.

Two formats, side by side and in subfolders as you like, recognised by their names:

- ``*.parquet``: one or many trajectories each, written by ``marsbench.market.trajectory.save``.
- LOBSTER pairs ``INSTRUMENT_DATE_STARTMS_ENDMS_message_LEVELS.csv`` and ``..._orderbook_LEVELS.csv`` (also
  ``.csv.gz``). Several simulations of one period are told apart by a suffix (``..._message_10_3.csv``) or
  by their subfolders. The first book row is the starting book. ``marsbench.data.export.to_lobster``
  writes such pairs.

A trajectory belongs to the start with its instrument, date and clock; all of them are its rollouts,
ordered by file name and place in the file. It must cover the task's horizon; what lies beyond is cut off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data import lobster
from marsbench.data.day import VenueDay
from marsbench.data.errors import DataError
from marsbench.data.export import MILLISECOND, price_unit
from marsbench.data.verify import verify_day
from marsbench.market.orders import Kind
from marsbench.market.replay import cut, make_trajectory, replay_trajectory
from marsbench.market.rules import MINUTE, MatchingRules, clock_text
from marsbench.market.trajectory import BookState, Trajectory, load_all, read_heads
from marsbench.progress import say
from marsbench.simulation.contracts import Start, TrajectoryGenerator

KEPT_FILES = 64
"""So many Parquet files stay in memory: one file often serves many starts."""
Key = tuple[str, str, int]
"""Instrument, date and start in ns."""


@dataclass(frozen=True)
class Entry:
    """One trajectory in the folder."""

    path: Path
    where: str
    """The file as errors name it."""
    key: Key
    end_ns: int
    place: int = 0
    """Position in a Parquet file."""
    levels: int | None = None
    """Published levels of a LOBSTER pair; None for Parquet."""


@dataclass(frozen=True)
class Index:
    """What a folder holds."""

    entries: Mapping[Key, tuple[Entry, ...]]
    content_hash: str
    """SHA-256 (hex) of the names and bytes of all files that count."""


class Files(TrajectoryGenerator):
    """Anything that was simulated elsewhere, as Parquet or LOBSTER files.

    Parameters
    ----------
    folder
        Where the files lie; subfolders count, names that begin with a dot do not.

    Raises
    ------
    ValueError
        If there is no such folder, it holds no trajectories, or a file in it cannot be read.
    """

    name = "files"
    version = 1
    reacts = False
    summary = "simulations made elsewhere: files:DIR with Parquet trajectories or LOBSTER pairs"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise ValueError(f"files:{folder}: there is no such folder; write files:DIR with the folder of your files")
        self.index = _index(self.folder, _signature(self.folder))
        self._said: set[str] = set()
        self._load = lru_cache(KEPT_FILES)(load_all)

    def __reduce__(self) -> tuple[type[Files], tuple[Path]]:
        return Files, (self.folder,)  # A copy reads for itself; what is in memory stays here.

    def parameters(self) -> dict[str, Any]:
        """A hash of all files, so that results are known to be outdated when a file changes."""
        return {"content_hash": self.index.content_hash}

    def trajectories(self, start: Start, horizon_ns: int) -> list[Trajectory]:
        """Every simulation of this start, cut to the horizon (trading time).

        Raises
        ------
        ValueError
            If one of them is too short, has another tick or lot, or is damaged.
        """
        found = self.index.entries.get((start.instrument, start.date, start.clock_ns), ())
        if not found:
            self._say("start", f"files:{self.folder} holds nothing for {start.name}; it holds {self._holdings()}")
        return [self._one(entry, start, horizon_ns) for entry in found]

    def _one(self, entry: Entry, start: Start, horizon_ns: int) -> Trajectory:
        end_ns = int(start.rules.clock_ns(start.rules.trading_ns(start.clock_ns) + horizon_ns))
        if entry.end_ns < end_ns:
            raise ValueError(
                f"{entry.where}: ends at {clock_text(entry.end_ns)}, but from {start.name} the task needs "
                f"{horizon_ns / MINUTE:g} minutes, until {clock_text(end_ns)}: {(end_ns - entry.end_ns) / MINUTE:g} "
                "minutes are missing; simulate the whole horizon, or shorten the task (realism,minutes=N)"
            )
        made = self._from_parquet(entry, start) if entry.levels is None else self._from_lobster(entry, start)
        same = _depth(made.book, entry.levels) == _depth(start.book, entry.levels)
        if not same:
            self._say(
                "book",
                f"{entry.where}: starts from another book than {start.name}: {_touch(made.book)}, the real one "
                f"{_touch(start.book)}. It is scored as it is; further files like this are not reported",
            )
        made = made if made.end_ns == end_ns else cut(made, start.clock_ns, end_ns)
        return made.with_labels(file=entry.where, starts_from_real_book=same)

    def _from_parquet(self, entry: Entry, start: Start) -> Trajectory:
        try:
            made = self._load(entry.path)[entry.place]
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(f"{entry.where}: damaged ({error}); write it again") from error
        _check_rules(entry, made, start.rules)
        fills = replay_trajectory(made).fills
        if len(fills) != len(made.fills) or (fills != made.fills).any():
            raise ValueError(
                f"{entry.where}: trajectory {entry.place} records {len(made.fills)} fills that are not those that its "
                f"orders make ({len(fills)}); build it with marsbench.market.replay.make_trajectory"
            )
        return made

    def _from_lobster(self, entry: Entry, start: Start) -> Trajectory:
        try:
            day = lobster.read(entry.path)
        except DataError as error:
            raise ValueError(f"{entry.where}: {error}") from error
        unexplained = verify_day(day).unexplained
        if unexplained:
            self._say(
                "unexplained",
                f"{entry.where}: {unexplained} published facts do not follow from the messages (marsbench data verify "
                "lists them). The messages are scored; further files like this are not reported",
            )
        made = _lobster_trajectory(entry, day, start)
        return made.with_labels(**day.facts, unexplained=unexplained)

    def _holdings(self) -> str:
        keys = sorted(self.index.entries)
        listed = ", ".join(f"{i} {d} {clock_text(t)}" for i, d, t in keys[:5])
        return f"{sum(map(len, self.index.entries.values()))} trajectories, from {listed}{' ...' * (len(keys) > 5)}"

    def _say(self, what: str, text: str) -> None:
        """Report something that is no error, once."""
        if what not in self._said:
            self._said.add(what)
            say(text)


def _check_rules(entry: Entry, made: Trajectory, rules: MatchingRules) -> None:
    """Raise a ``ValueError`` unless tick, lot and trading time are those of the start."""
    own = made.rules
    pairs = (
        ("tick", Decimal(own.tick_size), Decimal(rules.tick_size)),
        ("lot", own.lot_shares, rules.lot_shares),
        ("trading time in ns", _trading(own, made), _trading(rules, made)),
    )
    for what, ours, expected in pairs:
        if ours != expected:
            raise ValueError(
                f"{entry.where}: its rules ({own.name}) give a {what} of {ours}, those of {made.instrument} on "
                f"{made.date} ({rules.name}) {expected}; simulate under the rules of the data set (Dataset.rules)"
            )


def _trading(rules: MatchingRules, made: Trajectory) -> int:
    return int(rules.trading_ns(made.end_ns) - rules.trading_ns(made.start_ns))


def _lobster_trajectory(entry: Entry, day: VenueDay, start: Start) -> Trajectory:
    """The day of a LOBSTER pair as a simulation from a start: in its ticks, under its rules."""
    rules = start.rules.without_auctions()
    orders, resting = day.orders.copy(), day.book.resting.copy()
    for rows in (orders, resting):
        rows["price_ticks"] = _in_ticks(rows["price_ticks"], day.rules, rules, entry)
    last = _in_ticks(np.array([day.book.last_trade_ticks]), day.rules, rules, entry)
    book = BookState(
        resting=resting,
        last_trade_ticks=int(last[0]) or start.book.last_trade_ticks,
        reference_ticks=start.book.reference_ticks,
        next_id=day.book.next_id,
        time_ns=start.clock_ns,
    )
    return make_trajectory(
        instrument=start.instrument,
        date=start.date,
        rules=rules,
        start_ns=start.clock_ns,
        end_ns=entry.end_ns,
        book=book,
        orders=orders,
        labels={"source": "lobster"},
    )


def _in_ticks(ticks: NDArray[Any], given: MatchingRules, wanted: MatchingRules, entry: Entry) -> NDArray[np.int64]:
    """Prices in ticks of one size as ticks of another."""
    price_e4, unit = ticks.astype(np.int64) * price_unit(given), price_unit(wanted)
    off = price_e4[price_e4 % unit != 0]
    if len(off):
        raise ValueError(
            f"{entry.where}: price {Decimal(int(off[0])) / 10_000} is no multiple of the tick {wanted.tick_size} of "
            f"{wanted.name}; simulate with the tick of the data set"
        )
    return np.asarray(price_e4 // unit)


def _depth(book: BookState, levels: int | None) -> tuple[list[tuple[int, int]], ...]:
    """Price and size of the best levels (None: all) of each side, ask side first."""
    sides = []
    for kind in (Kind.ASK, Kind.BID):
        own = book.resting[book.resting["kind"] == kind]
        prices, level = np.unique(own["price_ticks"], return_inverse=True)
        sizes = np.bincount(level, weights=own["size_shares"], minlength=len(prices)).astype(np.int64)
        pairs = list(zip(prices.tolist(), sizes.tolist(), strict=True))
        sides.append((pairs if kind == Kind.ASK else pairs[::-1])[:levels])
    return tuple(sides)


def _touch(book: BookState) -> str:
    ask, bid = ((f"{side[0][1]} @ {side[0][0]}" if side else "none") for side in _depth(book, 1))
    return f"best ask {ask} ticks, best bid {bid} ticks, {len(book.resting)} resting orders"


def _files(folder: Path) -> list[Path]:
    """Parquet and CSV files below a folder by name, nothing hidden among them."""
    found = (p for p in folder.rglob("*") if p.name.endswith((".parquet", ".csv", ".csv.gz")) and p.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def _signature(folder: Path) -> tuple[tuple[Path, int, int], ...]:
    """Name, size and time of change of every file: while this is the same, nothing is read again."""
    stats = ((p, p.stat()) for p in _files(folder))
    return tuple((p, s.st_size, s.st_mtime_ns) for p, s in stats)


@lru_cache(16)
def _index(folder: Path, signature: tuple[tuple[Path, int, int], ...]) -> Index:
    """Find every trajectory in the files of a folder, and hash them."""
    entries: dict[Key, list[Entry]] = {}
    digest = hashlib.sha256()
    ignored = []
    for path, _, _ in signature:
        where = path.relative_to(folder).as_posix()
        found = _heads(path, where) if path.suffix == ".parquet" else _pair(path, where)
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
    return Index({key: tuple(many) for key, many in entries.items()}, digest.hexdigest())


_EXPECTED = (
    "expected are *.parquet written by marsbench.market.trajectory.save, or LOBSTER pairs "
    "INSTRUMENT_YYYY-MM-DD_STARTMS_ENDMS_message_LEVELS.csv and ..._orderbook_LEVELS.csv (a suffix _NAME before "
    ".csv tells simulations of one period apart)"
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
        raise ValueError(f"{where}: {partner.name} must lie beside it; put both files of the pair into the folder")
    if found["what"] == "orderbook":
        return ()
    key = (found["instrument"], found["date"], int(found["start"]) * MILLISECOND)
    return [Entry(path, where, key, int(found["end"]) * MILLISECOND, levels=int(found["levels"]))]
