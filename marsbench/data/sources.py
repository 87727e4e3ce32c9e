"""Which venue a file comes from, told by its name and content, and the reader for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from marsbench.data import lobster, shanghai, tables
from marsbench.data.day import VenueDay
from marsbench.data.errors import DataError

READERS: dict[str, Callable[..., VenueDay]] = {"lobster": lobster.read, "shanghai": shanghai.read}


def detect(path: str | Path) -> str:
    """The source of a file or folder: a key of ``READERS``.

    Raises
    ------
    DataError
        If it does not exist, or belongs to no source that we read.
    """
    path = Path(path)
    if not path.exists() and not shanghai.is_day_prefix(path):
        raise DataError(path.name, "there is no such file or folder")
    if path.suffix == ".zip":
        if lobster.is_lobster(tables.members(path)):
            return "lobster"
    else:
        names = [p.name for p in path.iterdir()] if path.is_dir() else [path.name]
        if lobster.is_lobster(names):
            return "lobster"
        if shanghai.days(path) if path.is_dir() else (not path.exists() or shanghai.is_shanghai(path)):
            return "shanghai"
    raise DataError(
        path.name,
        "of no known source; LOBSTER files are named INSTRUMENT_DATE_START_END_message_LEVELS.csv (or a zip of "
        "them), Shanghai files INSTRUMENT_DATE_orders.csv.gz, _trades and _snapshots with the vendor's header",
    )


def read(path: str | Path, **options: Any) -> VenueDay:
    """Read a day from whatever source the file is of.

    Raises
    ------
    DataError
        If it is damaged or of no known source.
    TypeError
        For an option that this source does not take.
    """
    return READERS[detect(path)](path, **options)
