"""Reading the CSV tables of the venues: strict types, exact decimals, and errors that name the row."""

from __future__ import annotations

import gzip
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data.errors import DataError

Columns = dict[str, NDArray[Any]]


def read_bytes(path: Path) -> bytes:
    """The content of a file, decompressed when its name ends in ``.gz``.

    Raises
    ------
    DataError
        If it does not exist, is empty, or is a damaged archive.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(path.name, f"cannot be read ({error.strerror})") from error
    if not raw:
        raise DataError(path.name, "the file is empty")
    if path.suffix != ".gz":
        return raw
    try:
        content = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(path.name, f"damaged or truncated gzip archive ({error})") from error
    if not content:
        raise DataError(path.name, "the file is empty")
    return content


def read_member(archive: Path, member: str) -> bytes:
    """One file of a zip archive, its checksum verified.

    Raises
    ------
    DataError
        If the archive or the member is damaged or empty.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            content = opened.read(member)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        raise DataError(f"{archive.name}:{member}", f"damaged or truncated zip archive ({error})") from error
    if not content:
        raise DataError(f"{archive.name}:{member}", "the file is empty")
    return content


def members(archive: Path) -> list[str]:
    """Names of the files in a zip archive.

    Raises
    ------
    DataError
        If it is not a readable archive.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            return [info.filename for info in opened.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(archive.name, f"damaged or truncated zip archive ({error})") from error


def header(content: bytes, file: str) -> list[str]:
    """The column names in the first line."""
    line = content.split(b"\n", 1)[0].strip().lstrip(b"\xef\xbb\xbf")
    try:
        return [name.strip() for name in line.decode().split(",")]
    except UnicodeDecodeError as error:
        raise DataError(file, "the header is not text", row=1) from error


def parse(content: bytes, file: str, types: dict[str, str], *, names: Sequence[str] | None = None) -> Columns:
    """Parse CSV text into arrays.

    Parameters
    ----------
    content, file
        The text, and the name that errors show.
    types
        For each wanted column ``"int"``, ``"text"``, or ``"decimal:N"`` (a number with at most N
        decimals, returned exactly as int64 in units of ``10**-N``).
    names
        All column names of a file without header; None reads them from the first line.

    Returns
    -------
    dict of arrays ``[rows]``: int64, or object for text.

    Raises
    ------
    DataError
        On a missing column, a row with another number of fields, a value of another type, or no rows.
    """
    import pyarrow as pa
    import pyarrow.csv as pc

    if names is None:
        present = header(content, file)
        missing = [name for name in types if name not in present]
        if missing:
            raise DataError(file, f"columns {missing} are missing; the header has {present}", row=1)
    if content[-1:] not in b"\r\n":
        lines = content.count(b"\n") + 1
        raise DataError(file, "the last row has no line end: the file is truncated", row=lines)
    arrow = {
        name: pa.int64() if kind == "int" else pa.string() if kind == "text" else pa.decimal128(28, int(kind[8:]))
        for name, kind in types.items()
    }
    try:
        table = pc.read_csv(
            pa.BufferReader(content),
            read_options=pc.ReadOptions(column_names=names, use_threads=False, block_size=1 << 24),
            convert_options=pc.ConvertOptions(
                column_types=arrow, include_columns=list(types), null_values=[], strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        row = re.search(r"Row #(\d+)", str(error))
        reason = _in_words(str(error), content, list(names) if names else present, types)
        raise DataError(file, reason, row=int(row[1]) if row else None) from error
    if table.num_rows == 0:
        raise DataError(file, "there is no row of data")
    return {name: _array(table.column(name), kind, file) for name, kind in types.items()}


def _in_words(text: str, content: bytes, names: list[str], types: dict[str, str]) -> str:
    """What is wrong with a cell, from an error of the CSV parser and the line that it names."""
    found = re.search(r"In CSV column #(\d+): Row #(\d+)", text)
    if found is None:
        return re.sub(r"^.*?Expected", "Expected", text)
    at, row = int(found[1]), int(found[2])
    name, kind = names[at], types[names[at]]
    value = content.split(b"\n", row)[row - 1].decode("utf-8", "replace").strip().split(",")[at]
    if kind == "int":
        return f"{name} {value!r} is no whole number of 64 bits"
    if kind == "text":
        return f"{name} {value!r} is not UTF-8 text"
    plain = re.fullmatch(r"[+-]?\d*\.?\d*(e[+-]?\d+)?", value, re.IGNORECASE) and re.search(r"\d", value)
    return (
        f"{name} {value!r} has more than {kind[8:]} decimals, or is too large"
        if plain
        else f"{name} {value!r} is no number"
    )


def _array(column: Any, kind: str, file: str) -> NDArray[Any]:
    if kind in ("int", "text"):
        return np.asarray(column.to_numpy())
    # Decimals are stored as 128-bit integers in units of the last decimal; ours fit the lower half.
    halves = [np.frombuffer(c.buffers()[1], "<i8").reshape(-1, 2)[c.offset : c.offset + len(c)] for c in column.chunks]
    both = np.concatenate(halves)
    bad = np.flatnonzero(both[:, 1] != both[:, 0] >> 63)
    if len(bad):
        raise DataError(file, "a number is too large", row=int(bad[0]) + 1)
    return np.ascontiguousarray(both[:, 0])


def require(ok: Any, file: str, reason: str, *, first_row: int = 1, got: Any = None) -> None:
    """Raise a ``DataError`` at the first row where ``ok`` is False.

    ``first_row`` is the line of entry 0; ``got`` are the values, of which the message gives the bad one.
    """
    bad = np.flatnonzero(~ok)
    if len(bad):
        at = int(bad[0])
        raise DataError(file, reason if got is None else f"{reason}, got {got[at]}", row=at + first_row)


def require_sorted(values: NDArray[Any], file: str, what: str, *, first_row: int = 1, strict: bool = False) -> None:
    """Raise a ``DataError`` at the first row that is earlier than (or, if strict, equal to) the one before."""
    step = np.diff(values)
    bad = np.flatnonzero(step <= 0 if strict else step < 0)
    if len(bad):
        at = int(bad[0]) + 1
        raise DataError(
            file,
            f"{what} goes from {values[at - 1]} to {values[at]}; rows must be in order (shuffled file?)",
            row=at + first_row,
        )
