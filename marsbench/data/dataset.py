"""A data set on disk: a folder with ``dataset.json`` and one Parquet file per instrument-day.

``dataset.json`` holds name, version, summary, where the data are from, the days with their content
hashes, and the periods with their split. It is written last, and the folder gets its name only
when everything is in it, so a folder that exists is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.files import file_safe, write_atomic
from marsbench.market import trajectory as trajectories
from marsbench.market.rules import MatchingRules, clock_text
from marsbench.market.trajectory import Trajectory

FORMAT = 1
HEAD = "dataset.json"
SPLITS = ("train", "validation", "test")
_KEPT_DAYS = 6
_KEPT_PARTS = 256
_WRITERS = 2
"""Threads that write days."""


@dataclass(frozen=True)
class Period:
    """A stretch ``(start_ns, end_ns]`` of one instrument's day, and what it is for."""

    instrument: str
    date: str
    """ISO date."""
    start_ns: int
    end_ns: int
    split: str
    """``"train"``, ``"validation"`` or ``"test"``."""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split is {self.split!r}; it must be one of {SPLITS}")
        if self.end_ns <= self.start_ns:
            raise ValueError(f"{self}: ends before it starts")

    def __str__(self) -> str:
        return f"{self.instrument} {self.date} {clock_text(self.start_ns)}-{clock_text(self.end_ns)} ({self.split})"


class Dataset:
    """An opened data set. Trajectories are read when asked for and kept in memory (least recently used go).

    Parameters
    ----------
    folder
        Where ``dataset.json`` lies.

    Raises
    ------
    FileNotFoundError
        If the folder holds no data set.
    ValueError
        If ``dataset.json`` is damaged, of another format, or does not fit its own hash.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / HEAD
        if not path.is_file():
            raise FileNotFoundError(f"{folder}: no {HEAD}; convert a source into it, or name another folder")
        try:
            head: dict[str, Any] = json.loads(path.read_text())
            if head["format"] != FORMAT:
                raise ValueError(f"format is {head['format']}, this version reads {FORMAT}")
            self.name: str = head["name"]
            self.version: int = head["version"]
            self.summary: str = head["summary"]
            self.facts: dict[str, Any] = head["facts"]
            self.days: list[dict[str, Any]] = head["days"]
            self.periods = tuple(Period(**p) for p in head["periods"])
            stored = head["content_hash"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: damaged data set description ({error!r}); convert the source again") from error
        self._files = {(d["instrument"], d["date"]): d for d in self.days}
        if stored != self.content_hash:
            raise ValueError(f"{path}: does not fit its own content hash; it was edited, convert the source again")
        self.day = lru_cache(_KEPT_DAYS)(self._day)
        self.window = lru_cache(_KEPT_PARTS)(self._window)
        self.beside = lru_cache(None)(self._beside)
        self.bars = lru_cache(None)(self._bars)

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) of the days' content and the periods; names, folders and summaries do not count."""
        return _content_hash(self.days, self.periods)

    @property
    def single_day(self) -> bool:
        """Whether all test periods lie on one instrument's one day."""
        return len({(p.instrument, p.date) for p in self.split("test")}) == 1

    def split(self, name: str) -> list[Period]:
        """The periods of one split.

        Raises
        ------
        ValueError
            If it is none of ``SPLITS``.
        """
        if name not in SPLITS:
            raise ValueError(f"unknown split {name!r}; there are {', '.join(SPLITS)}")
        return [p for p in self.periods if p.split == name]

    def rules(self, period: Period) -> MatchingRules:
        """The exchange's rules on that day."""
        return self.day(period.instrument, period.date).rules

    def trajectory(self, period: Period) -> Trajectory:
        """Exactly that period, with the book as it stood at its start."""
        return self.window(period.instrument, period.date, period.start_ns, period.end_ns)

    def history(self, instrument: str, date: str, until_ns: int) -> Trajectory:
        """From the open of continuous trading (or the first data, if later) to ``until_ns``."""
        day = self.day(instrument, date)
        phases = day.rules.continuous
        opening = phases[0].start_ns if phases else day.start_ns
        return self.window(instrument, date, max(opening, day.start_ns), until_ns)

    @property
    def has_truth(self) -> bool:
        """Whether the hidden state of its market is known at every time (embedded markets only)."""
        return "truth" in self.facts

    def truth(self, instrument: str, date: str, clock_ns: int) -> Any:
        """Hidden state of the market at a clock time, for ``Start.oracle``.

        Raises
        ------
        ValueError
            If the data set has none, or there is no such day.
        """
        return self._source().truth(self, instrument, date, clock_ns)

    def metaorders(self) -> NDArray[np.void] | None:
        """The large orders behind the flow, where they are known (embedded markets only), else None."""
        if not self.has_truth:
            return None
        table: NDArray[np.void] = self._source().metaorders(self)
        return table

    def _beside(self, file: str) -> NDArray[Any]:
        """An array that is kept beside the days.

        Raises
        ------
        ValueError
            If it is missing or is not the one that was written.
        """
        path = self.folder / file
        wanted = self.facts.get("beside", {}).get(file)
        if wanted is None or not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            raise ValueError(f"{path}: is missing or not the file that {HEAD} lists; build the data set again")
        array: NDArray[Any] = np.load(path, allow_pickle=False)
        return array

    def _source(self) -> Any:
        """The module that knows the hidden side of this data set."""
        if not self.has_truth:
            raise ValueError(f"data set {self.name!r} has no hidden state; only embedded markets have")
        source: str = self.facts["truth"]
        if not source.startswith("marsbench.data."):
            raise ValueError(f"data set {self.name!r}: {source!r} is no source of hidden states of ours")
        return import_module(source)

    def _day(self, instrument: str, date: str) -> Trajectory:
        """The whole day as stored.

        Raises
        ------
        ValueError
            If there is no such day, or its file is damaged.
        """
        entry = self._files.get((instrument, date))
        if entry is None:
            have = ", ".join(f"{i} {d}" for i, d in list(self._files)[:10])
            raise ValueError(f"data set {self.name!r} has no day {instrument} {date}; it has {have}")
        day = trajectories.load(self.folder / entry["file"])
        if day.content_hash() != entry["content_hash"]:
            raise ValueError(f"{self.folder / entry['file']}: is not the file that {HEAD} lists; convert it again")
        return day

    def _window(self, instrument: str, date: str, start_ns: int, end_ns: int) -> Trajectory:
        """Any stretch ``(start_ns, end_ns]`` of a day; the book at its start comes from replay."""
        from marsbench.market.replay import cut

        return cut(self.day(instrument, date), start_ns, end_ns)

    def _bars(self, period: Period) -> Any:
        """One-minute bars of a period (``MinuteBars``), kept: they are small, the orders behind them are not."""
        from marsbench.market.bars import minute_bars
        from marsbench.market.rules import MINUTE

        whole = self.trajectory(period)  # a recording may begin within a minute: bars lie on clock minutes
        return minute_bars(replace(whole, start_ns=whole.start_ns // MINUTE * MINUTE))

    def __reduce__(self) -> tuple[type[Dataset], tuple[Path]]:
        return Dataset, (self.folder,)  # Workers open it for themselves; what is in memory stays here.

    def __repr__(self) -> str:
        return f"Dataset({self.name!r} v{self.version}, {len(self.days)} days, {len(self.periods)} periods)"


def _content_hash(days: Iterable[dict[str, Any]], periods: Iterable[Period]) -> str:
    content = {
        "days": sorted([d["instrument"], d["date"], d["content_hash"]] for d in days),
        "periods": sorted([p.instrument, p.date, p.start_ns, p.end_ns, p.split] for p in periods),
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def write_dataset(
    folder: str | Path,
    days: Iterable[Trajectory],
    periods: Sequence[Period],
    *,
    name: str,
    version: int,
    summary: str,
    facts: dict[str, Any] | None = None,
    beside: Callable[[], Mapping[str, NDArray[Any]]] | None = None,
) -> Dataset:
    """Write a data set into an existing empty folder, the description last.

    Parameters
    ----------
    days
        Whole days, one trajectory per instrument and date; may be a generator.
    periods
        Stretches of those days. Periods of different splits must not overlap.
    facts
        Where the data are from, how they were made, how replay was verified.
    beside
        Gives arrays to keep beside the days, by file name (``.npy``); called when the last day is written. They
        are no part of the content hash.

    Raises
    ------
    ValueError
        If a day comes twice, a period lies on no day, or splits overlap.
    """
    folder = Path(folder)
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    spans: dict[tuple[str, str], tuple[int, int]] = {}
    for entry, span in _written(folder, _each_once(days, name)):
        key = (entry["instrument"], entry["date"])
        entries[key], spans[key] = entry, span
    check_periods(periods, spans)
    kept = {}
    for file, array in (beside() if beside else {}).items():
        np.save(folder / file, array, allow_pickle=False)
        kept[file] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    listed = [entries[key] for key in sorted(entries)]
    head = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "summary": summary,
        "facts": {**(facts or {}), **({"beside": kept} if kept else {})},
        "days": listed,
        "periods": [asdict(p) for p in periods],
        "content_hash": _content_hash(listed, periods),
    }
    write_atomic(folder / HEAD, json.dumps(head, indent=1) + "\n")
    return Dataset(folder)


def _each_once(days: Iterable[Trajectory], name: str) -> Iterator[Trajectory]:
    seen = set()
    for day in days:
        if (day.instrument, day.date) in seen:
            raise ValueError(f"data set {name!r}: {day.instrument} {day.date} comes twice")
        seen.add((day.instrument, day.date))
        yield day


def _written(folder: Path, days: Iterable[Trajectory]) -> Iterator[tuple[dict[str, Any], tuple[int, int]]]:
    """Write days while the next ones are made; gives what ``dataset.json`` says of each, and its span."""
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="marsbench-days") as pool:
        waiting: deque[Future[tuple[dict[str, Any], tuple[int, int]]]] = deque()
        for day in days:
            waiting.append(pool.submit(_write_day, folder, day))
            if len(waiting) > 2 * _WRITERS:  # so many days are in memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _write_day(folder: Path, day: Trajectory) -> tuple[dict[str, Any], tuple[int, int]]:
    file = f"{file_safe(day.instrument)}_{day.date}.parquet"
    trajectories.save(day, folder / file)
    entry = {
        "instrument": day.instrument,
        "date": day.date,
        "file": file,
        "orders": len(day.orders),
        "fills": len(day.fills),
        "content_hash": day.content_hash(),
    }
    return entry, (day.start_ns, day.end_ns)


def check_periods(periods: Sequence[Period], spans: dict[tuple[str, str], tuple[int, int]]) -> None:
    """Raise a ``ValueError`` unless every period lies on a day that exists and no two overlap.

    ``spans`` gives the first and last nanosecond of each (instrument, date).
    """
    by_day: dict[tuple[str, str], list[Period]] = {}
    for period in periods:
        span = spans.get((period.instrument, period.date))
        if span is None:
            raise ValueError(f"period {period} lies on a day that the data set does not hold")
        if period.start_ns < span[0] or period.end_ns > span[1]:
            raise ValueError(f"period {period} reaches beyond its day, {clock_text(span[0])}-{clock_text(span[1])}")
        by_day.setdefault((period.instrument, period.date), []).append(period)
    for own in by_day.values():
        own.sort(key=lambda p: p.start_ns)
        for earlier, later in pairwise(own):
            if later.start_ns < earlier.end_ns:
                raise ValueError(f"periods overlap: {earlier} and {later}")


@contextmanager
def building(folder: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` when the block ends well, and vanishes when it does not.

    Raises
    ------
    FileExistsError
        If ``folder`` exists and ``replace`` is not set.
    """
    folder = Path(folder)
    if folder.exists() and not replace:
        raise FileExistsError(f"{folder}: exists already; choose another folder, or ask to replace it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".building", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".building", dir=folder.parent))
            os.replace(folder, old / "old")
            os.replace(temporary, folder)
            shutil.rmtree(old)
        else:
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
