"""From files of an exchange to a data set of ours: read, prove, split into training and test, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from marsbench.data.catalogue import EMBEDDED, NAME, data_home, lock
from marsbench.data.dataset import Period, building, write_dataset
from marsbench.market.rules import MINUTE, clock
from marsbench.market.trajectory import Trajectory

HALF_HOUR = 30 * MINUTE


@dataclass(frozen=True)
class Split:
    """How days are divided. Nothing is used for both training and testing, and an embargo lies between."""

    train_until: str | None = None
    """On a single day: clock time at which training ends. None: at lunch if there is one, else the half
    hour at or before the middle of the session (the minute, in sessions under three hours)."""
    embargo_minutes: int = 5
    """On a single day: trading minutes between training and test."""
    validation_days: float = 0.1
    """With several days: share of the days for validation, before those for test."""
    test_days: float = 0.3
    """With several days: share of the days for test, the last ones (at least one)."""

    def __post_init__(self) -> None:
        if self.embargo_minutes < 0:
            raise ValueError(f"embargo_minutes must be 0 or more, got {self.embargo_minutes}")
        if not (0 <= self.validation_days < 1 and 0 < self.test_days < 1 and self.validation_days + self.test_days < 1):
            raise ValueError(f"shares of days must leave some for training, got {self}")


@dataclass(frozen=True)
class Conversion:
    """What ``convert`` wrote."""

    name: str
    folder: str
    content_hash: str
    days: tuple[dict[str, Any], ...]
    """Instrument, date, file, number of orders and fills, content hash of each."""
    periods: tuple[str, ...]
    verification: tuple[dict[str, Any], ...]
    """For each source file what ``verify`` found."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return asdict(self)


def convert(
    path: str | Path | Sequence[str | Path],
    *,
    name: str,
    out: str | Path | None = None,
    version: int = 1,
    summary: str | None = None,
    split: Split | None = None,
    replace: bool = False,
    **options: Any,
) -> Conversion:
    """Read source files, verify each by replay, and write them as one data set.

    Parameters
    ----------
    path
        One source file or folder as ``verify`` takes it, or several of them.
    name
        Name of the data set: lower-case letters, digits, dot, dash, underscore.
    out
        Its folder; by default ``name`` in the data home, where ``open_dataset(name)`` finds it.
    split
        How to divide it, see ``Split``.
    replace
        Whether an existing folder may be replaced.
    **options
        Passed to the reader of the source.

    Raises
    ------
    DataError
        If a file is damaged or of no known source.
    ValueError
        For a name that is not allowed, or a day too short to be divided.
    FileExistsError
        If the folder exists and ``replace`` is not set.
    """
    from marsbench.data.sources import read
    from marsbench.data.verify import verify_day

    if not NAME.match(name) or name in EMBEDDED:
        raise ValueError(
            f"data set name {name!r}: use lower-case letters, digits, '.', '-' and '_', and none of {sorted(EMBEDDED)}"
        )
    folder = data_home() / name if out is None else Path(out)
    paths = [path] if isinstance(path, (str, Path)) else list(path)
    with lock(folder), building(folder, replace=replace) as temporary:
        days: list[Trajectory] = []
        proofs = []
        for source in paths:
            day = read(source, **options)
            proofs.append(verify_day(day).to_dict())
            days.append(day.trajectory())
        facts = {"sources": sorted({p["source"] for p in proofs}), "verification": proofs}
        listed = ", ".join(sorted({d.instrument for d in days}))
        dates = sorted({d.date for d in days})
        data = write_dataset(
            temporary,
            days,
            periods(days, split or Split()),
            name=name,
            version=version,
            summary=summary or f"{listed}, {dates[0] if len(dates) == 1 else f'{dates[0]} to {dates[-1]}'}",
            facts=facts,
        )
    return Conversion(
        name=name,
        folder=str(folder),
        content_hash=data.content_hash,
        days=tuple(data.days),
        periods=tuple(map(str, data.periods)),
        verification=tuple(proofs),
    )


def periods(days: Sequence[Trajectory], split: Split) -> list[Period]:
    """Divide days into periods: a single date by the clock, several dates by whole days.

    Raises
    ------
    ValueError
        If a day has no continuous trading, or is too short for what ``split`` asks.
    """
    dates = sorted({d.date for d in days})
    if len(dates) == 1:
        return [p for day in days for p in _within_day(day, split)]
    test = max(1, round(split.test_days * len(dates)))
    validation = round(split.validation_days * len(dates))
    if test + validation >= len(dates):
        validation = 0
    uses = ["train"] * (len(dates) - test - validation) + ["validation"] * validation + ["test"] * test
    use = dict(zip(dates, uses, strict=True))
    return [Period(d.instrument, d.date, s[0][0], s[-1][1], use[d.date]) for d in days for s in [sessions(d)]]


def sessions(day: Trajectory) -> list[tuple[int, int]]:
    """Continuous sessions of a day, as far as its data reach: (start, end) in ns."""
    spans = [(max(p.start_ns, day.start_ns), min(p.end_ns, day.end_ns)) for p in day.rules.continuous]
    spans = [(start, end) for start, end in spans if start < end]
    if not spans:
        raise ValueError(f"{day.instrument} {day.date}: no continuous trading between its first and last data")
    return spans


def _within_day(day: Trajectory, split: Split) -> list[Period]:
    spans = sessions(day)
    opening, close = spans[0][0], spans[-1][1]
    if split.train_until is not None:
        train_end = clock(split.train_until)
    elif len(spans) > 1:
        train_end = spans[0][1]
    else:
        unit = HALF_HOUR if close - opening >= 6 * HALF_HOUR else MINUTE
        train_end = (opening + close) // 2 // unit * unit
    later = [start for start, end in spans if end > train_end]
    test_start = max(train_end, later[0]) + split.embargo_minutes * MINUTE if later else close
    if not opening < train_end < close or test_start >= close:
        raise ValueError(
            f"{day.instrument} {day.date}: cannot train until {split.train_until or 'the middle'} and test after "
            f"{split.embargo_minutes} minutes in a session of {(close - opening) // MINUTE} minutes"
        )
    return [
        Period(day.instrument, day.date, opening, train_end, "train"),
        Period(day.instrument, day.date, test_start, close, "test"),
    ]
