"""Which venue a file comes from, told by its name and content, and the reader for it.

Each source is entered once, in ``SOURCES``: ``detect``, ``read`` and their messages follow from the entries.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from marsbench.data import databento, databento_files, generic, itch, lobster, shanghai, tables
from marsbench.data.day import VenueDay
from marsbench.data.errors import DataError


@dataclass(frozen=True)
class Source:
    """One source of market data."""

    name: str
    claims: Callable[[Path], bool]
    """Whether a path (a file, a folder, or what only names a day) is of this source."""
    read: Callable[..., VenueDay]
    """Its reader: the path, and options by keyword."""
    expected: str
    """How its files are recognised: a clause that ends a sentence, such as ``X files are named Y``."""

    def options(self) -> dict[str, Any]:
        """The options that the reader takes, with their types."""
        hints = get_type_hints(self.read)
        parameters = list(inspect.signature(self.read).parameters)[1:]
        return {name: hints.get(name, str) for name in parameters}


def _names(path: Path) -> list[str]:
    """The names of the files in an archive or folder, or of the file itself."""
    if path.suffix == ".zip" and path.exists():
        return tables.members(path)
    return [p.name for p in path.iterdir()] if path.is_dir() else [path.name]


def _is_lobster(path: Path) -> bool:
    return path.exists() and lobster.is_lobster(_names(path))


def _is_shanghai(path: Path) -> bool:
    if path.is_dir():
        return bool(shanghai.days(path))
    return shanghai.is_shanghai(path) if path.exists() else shanghai.is_day_prefix(path)


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            "lobster",
            _is_lobster,
            lobster.read,
            "LOBSTER files are named INSTRUMENT_DATE_START_END_message_LEVELS.csv (or a zip of them)",
        ),
        Source(
            "shanghai",
            _is_shanghai,
            shanghai.read,
            "Shanghai files INSTRUMENT_DATE_orders.csv.gz, _trades and _snapshots with the vendor's header",
        ),
        Source(
            "databento",
            databento_files.claims,
            databento.read,
            "Databento MBO files end in .dbn or .dbn.zst, or are CSV with its columns (ts_recv, ts_event, action ...)",
        ),
        Source(
            "itch",
            itch.claims,
            itch.read,
            "NASDAQ ITCH 5.0 files are named MMDDYYYY.NASDAQ_ITCH50, SMMDDYY-v50.txt or end in .itch (also .gz)",
        ),
        Source(
            "generic",
            generic.is_generic,
            generic.read,
            "any other table of order events needs a YAML file of the same name beside it that says how to read it",
        ),
    )
}
"""Asked in this order: the first that claims a path reads it."""


def detect(path: str | Path) -> str:
    """The source of a file or folder: a key of ``SOURCES``.

    Raises
    ------
    DataError
        If it does not exist, or belongs to no source that we read.
    """
    path = Path(path)
    for source in SOURCES.values():
        if source.claims(path):
            return source.name
    if not path.exists():
        raise DataError(path.name, "there is no such file or folder")
    raise DataError(path.name, "of no known source; " + "; ".join(s.expected for s in SOURCES.values()))


def read(path: str | Path, **options: Any) -> VenueDay:
    """Read a day from whatever source the file is of.

    Parameters
    ----------
    **options
        Passed to the reader; text for a whole number, as the command line gives it, is converted.

    Raises
    ------
    DataError
        If it is damaged or of no known source.
    ValueError
        For an option that this source does not take.
    """
    source = SOURCES[detect(path)]
    return source.read(path, **_checked(source, options))


def _checked(source: Source, options: dict[str, Any]) -> dict[str, Any]:
    allowed = source.options()
    out = {}
    for name, value in options.items():
        if name not in allowed:
            raise ValueError(f"option {name!r}: the source {source.name!r} takes {sorted(allowed) or 'no options'}")
        if isinstance(value, str) and allowed[name] in (int, int | None):
            try:
                value = int(value)
            except ValueError:
                raise ValueError(f"option {name}={value!r} of the source {source.name!r}: not a whole number") from None
        out[name] = value
    return out
