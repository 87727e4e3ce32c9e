"""Databento's files of the schema ``mbo`` as columns: DBN (``.dbn``, ``.dbn.zst``) and CSV (also ``.zst``, ``.gz``).

Record layout: https://databento.com/docs/schemas-and-data-formats/mbo. DBN is decoded by Databento's own
package ``databento-dbn``. CSV holds integers (price in 1e-9, times in nanoseconds since 1970), or, as
``pretty_px`` and ``pretty_ts`` write them, decimal prices and ISO times; either may be pretty alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data import tables
from marsbench.data.errors import DataError

UNDEFINED_PRICE = int(np.iinfo(np.int64).max)
ENDINGS = (".dbn", ".dbn.zst", ".csv", ".csv.zst", ".csv.gz")
_RECORD = np.dtype(
    [
        ("length", "u1"), ("rtype", "u1"), ("publisher_id", "<u2"), ("instrument_id", "<u4"), ("ts_event", "<u8"),
        ("order_id", "<u8"), ("price", "<i8"), ("size", "<u4"), ("flags", "u1"), ("channel_id", "u1"),
        ("action", "S1"), ("side", "S1"), ("ts_recv", "<u8"), ("ts_in_delta", "<i4"), ("sequence", "<u4"),
    ]
)  # fmt: skip
COLUMNS = (
    "ts_recv", "ts_event", "publisher_id", "instrument_id", "action", "side", "price", "size", "order_id", "flags"
)  # fmt: skip
_INTEGERS = ("publisher_id", "instrument_id", "size", "order_id", "flags")
_CHUNK = 1 << 22
_PRICE = re.compile(r"-?\d+(\.\d{1,9})?")


@dataclass(frozen=True)
class Records:
    """The records of a file in its order."""

    columns: dict[str, NDArray[Any]]
    """By name of ``COLUMNS``: int64, or one-character text for ``action`` and ``side``."""
    symbols: dict[int, str]
    """Symbol of each instrument id that the file names."""
    dataset: str
    """Databento's code of the venue's feed, such as GLBX.MDP3; empty if the file does not say."""
    first_row: int
    """The row that errors name for the first record."""


def claims(path: Path) -> bool:
    """Whether a file is Databento's: DBN by its name, CSV by the columns in its header."""
    if not path.is_file() or not path.name.endswith(ENDINGS):
        return False
    if ".dbn" in path.suffixes[-2:]:
        return True
    try:
        with _opened(path) as stream:
            names = set(tables.header(stream.read(1 << 12), path.name))
    except (OSError, DataError):
        return False
    return set(COLUMNS) <= names


def read_records(path: Path) -> Records:
    """All records of a file.

    Raises
    ------
    DataError
        If it is empty, truncated, not compressed as its name says, or not of the schema ``mbo``.
    """
    try:
        if path.stat().st_size == 0:
            raise DataError(path.name, "the file is empty")
        if ".dbn" in path.suffixes[-2:]:
            return _read_dbn(path)
        with _opened(path) as stream:
            content = stream.read()
    except OSError as error:
        wrong = (
            "damaged, truncated, or not compressed as its name says" if path.suffix in (".zst", ".gz") else "damaged"
        )
        raise DataError(path.name, f"cannot be read: {wrong} ({error})") from error
    if not content:
        raise DataError(path.name, "the file is empty")
    return _read_csv(path.name, content)


def _opened(path: Path) -> Any:
    import pyarrow as pa

    codec = {".zst": "zstd", ".gz": "gzip"}.get(path.suffix)
    source = pa.OSFile(str(path))
    return source if codec is None else pa.CompressedInputStream(source, codec)


def _read_dbn(path: Path) -> Records:
    import databento_dbn as dbn

    decoder = dbn.DBNDecoder()
    metadata, parts, symbols = None, [], {}
    try:
        with _opened(path) as stream:
            while chunk := stream.read(_CHUNK):
                decoder.write(chunk)
                for record in decoder.decode():
                    if isinstance(record, dbn.MBOMsg):
                        parts.append(bytes(record))
                    elif isinstance(record, dbn.Metadata):
                        metadata = _checked(record, path.name)
                    elif isinstance(record, dbn.SymbolMappingMsg):
                        symbols[record.instrument_id] = record.stype_out_symbol
                    elif isinstance(record, dbn.ErrorMsg):
                        raise DataError(path.name, f"holds an error of the gateway: {record.err}", row=len(parts) + 1)
    except dbn.DBNError as error:
        raise DataError(path.name, f"not a DBN file, or damaged ({error})", row=len(parts) or None) from error
    left = len(decoder.buffer())
    if metadata is None or left:
        where = f"{left} bytes are left after record {len(parts)}" if metadata is not None else "the header is cut"
        raise DataError(path.name, f"the file is truncated: {where}")
    if not parts:
        raise DataError(path.name, "there is no record of an order in it")
    rows = np.frombuffer(b"".join(p[: _RECORD.itemsize] for p in parts), _RECORD)
    columns = {name: rows[name] for name in COLUMNS}
    for name in ("action", "side"):
        columns[name] = columns[name].astype("U1")
    return _records(columns, path.name, _symbols(metadata) | symbols, str(metadata.dataset), 1)


def _checked(metadata: Any, file: str) -> Any:
    schema = str(metadata.schema) if metadata.schema is not None else "mbo"
    if schema != "mbo":
        raise DataError(file, f"its schema is {schema!r}; orders one by one are in 'mbo' alone, ask Databento for that")
    return metadata


def _symbols(metadata: Any) -> dict[int, str]:
    """Symbol by instrument id, as the header maps them (in either direction)."""
    found = {}
    for symbol, intervals in metadata.mappings.items():
        for interval in intervals:
            number, name = str(interval["symbol"]), str(symbol)
            if name.isdecimal() and not number.isdecimal():
                number, name = name, number
            if number.isdecimal():
                found[int(number)] = name
    return found


def _read_csv(file: str, content: bytes) -> Records:
    lines = content.split(b"\n", 2)
    names = tables.header(content, file)
    if len(lines) < 2 or not lines[1].strip():
        raise DataError(file, "there is no row of data")
    first = dict(zip(names, lines[1].decode(errors="replace").split(","), strict=False))
    kinds = dict.fromkeys(_INTEGERS, "int") | dict.fromkeys(("action", "side", "price"), "text")
    for name in ("ts_recv", "ts_event"):
        kinds[name] = "text" if "T" in first.get(name, "") else "int"
    if "symbol" in names:
        kinds["symbol"] = "text"
    columns = tables.parse(content, file, kinds)
    columns["price"] = _prices(columns["price"], file, pretty="." in first.get("price", ""))
    for name in ("ts_recv", "ts_event"):
        if kinds[name] == "text":
            columns[name] = _times(columns[name], file, name)
    symbols = {}
    if "symbol" in names:
        ids, at = np.unique(columns["instrument_id"], return_index=True)
        symbols = {int(i): str(columns["symbol"][k]) for i, k in zip(ids, at, strict=True)}
    return _records({name: columns[name] for name in COLUMNS}, file, symbols, "", 2)


def _prices(text: NDArray[Any], file: str, *, pretty: bool) -> NDArray[np.int64]:
    """Exact prices in 1e-9; empty where there is none."""
    distinct, index = np.unique(text.astype(str), return_inverse=True)
    values = np.zeros(len(distinct), np.int64)
    for k, word in enumerate(distinct.tolist()):
        if word == "":
            values[k] = UNDEFINED_PRICE
        elif not _PRICE.fullmatch(word) or (not pretty and "." in word):
            row = int(np.flatnonzero(index == k)[0]) + 2
            raise DataError(file, f"price {word!r} is no {'decimal' if pretty else 'whole number of 1e-9'}", row=row)
        else:
            whole, _, part = word.lstrip("-").partition(".")
            value = int(whole) * 10**9 + int(part.ljust(9, "0")) if pretty else int(whole)
            values[k] = -value if word.startswith("-") else value
    return values[index]


def _times(text: NDArray[Any], file: str, name: str) -> NDArray[np.int64]:
    """Nanoseconds since 1970 of ISO times in UTC."""
    words = text.astype(str)
    good = np.char.endswith(words, "Z")
    tables.require(good, file, f"{name} must be a time in UTC such as 2023-12-25T00:00:00.000000000Z", first_row=2)
    try:
        return np.char.rstrip(words, "Z").astype("datetime64[ns]").astype(np.int64)
    except ValueError as error:
        raise DataError(file, f"{name}: {error}") from error


def _records(
    columns: dict[str, NDArray[Any]], file: str, symbols: dict[int, str], dataset: str, first_row: int
) -> Records:
    most = np.uint64(np.iinfo(np.int64).max)
    for name in columns.keys() - {"action", "side"}:
        values = columns[name]
        if values.dtype == np.uint64:
            if name != "order_id":
                values = np.minimum(values, most)  # an undefined time is the largest number
            tables.require(values <= most, file, f"{name} does not fit into 63 bits", first_row=first_row)
        columns[name] = values.astype(np.int64)
    return Records(columns, symbols, dataset, first_row)
