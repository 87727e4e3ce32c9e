"""Book snapshots alone, in files: the format that anybody can write who has nothing but an order book.

One file is one simulation, ``INSTRUMENT_DATE_STARTMS_ENDMS_book_LEVELS[_NAME]`` with ``.csv``, ``.csv.gz``
or ``.parquet``, the period in milliseconds after midnight. Its columns, by name and in any order:

- ``time_s``, seconds after midnight (decimal, nanoseconds kept), or ``time_ns``, an integer;
- ``ask_price_1, ask_size_1, bid_price_1, bid_size_1, ask_price_2, ...`` up to LEVELS, best first: prices
  in currency as exact decimals, sizes in shares. A level that is not there has both cells empty.

A row is the book from its time on, until the next row. The first row is the book at the start or before.
A row for every change of the best quotes gives the scores of the full simulation to the digit. Rows at
regular times do as well for mid returns, if minutes are among them; spreads need at least one a second.
"""

from __future__ import annotations

import difflib
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data.errors import DataError
from marsbench.data.tables import header, read_bytes, require
from marsbench.market.books import BookSeries
from marsbench.market.orders import NO_PRICE
from marsbench.market.rules import SECOND, MatchingRules, clock_text
from marsbench.market.snapshots import Snapshots

MILLISECOND = 1_000_000
DECIMALS = 9
"""Decimals that times and prices may have."""
NAME = re.compile(
    r"(?P<instrument>[A-Za-z0-9.-]+)_(?P<date>\d{4}-\d\d-\d\d)_(?P<start>\d+)_(?P<end>\d+)_book_(?P<levels>[1-9]\d*)"
    r"(_(?P<suffix>[A-Za-z0-9._-]+?))?\.(csv|csv\.gz|parquet)"
)
EXPECTED = "INSTRUMENT_YYYY-MM-DD_STARTMS_ENDMS_book_LEVELS.csv (or .parquet)"
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
_TIMES = ("time_s", "time_ns")


def name_parts(name: str) -> dict[str, str] | None:
    """What a file name says: instrument, date, start and end (ms), levels, suffix; None for another name."""
    found = NAME.fullmatch(name)
    return found.groupdict(default="") if found else None


def columns(levels: int) -> list[str]:
    """Names of the price and size columns, in the order in which they are written."""
    return [
        f"{side}_{what}_{k + 1}" for k in range(levels) for side in ("ask", "bid") for what in ("price", "size")
    ]  # fmt: skip


def read(path: str | Path, rules: MatchingRules) -> BookSeries:
    """Read one file of snapshots as books under the rules (the tick) of a data set.

    Rows before the start are left out but for the last one, which is the book at the start.

    Raises
    ------
    DataError
        If the file is damaged or not in the format, or shows what no book can be: times that go back,
        no book at the start, prices off the tick, negative sizes, levels out of order. Crossed, locked
        and one-sided books are read as they are.
    """
    path = Path(path)
    parts = name_parts(path.name)
    if parts is None:
        raise DataError(path.name, f"the name does not say what it is; write {EXPECTED}")
    levels, start_ns, end_ns = int(parts["levels"]), *(int(parts[k]) * MILLISECOND for k in ("start", "end"))
    if end_ns <= start_ns:
        raise DataError(path.name, f"the period in its name ends ({parts['end']}) before it starts ({parts['start']})")
    first_row = 1 if path.suffix == ".parquet" else 2
    table = _parquet(path, levels) if path.suffix == ".parquet" else _csv(path, levels)
    time = _time(table, path.name, first_row)
    price, size = _levels(table, levels, rules, path.name, first_row)
    _check_period(time, start_ns, end_ns, path.name, first_row)
    begin = int(np.searchsorted(time, start_ns, side="left"))
    if begin == len(time) or time[begin] > start_ns:
        begin -= 1
    time = np.maximum(time[begin:], start_ns)
    return BookSeries(
        instrument=parts["instrument"],
        date=parts["date"],
        rules=rules,
        start_ns=start_ns,
        end_ns=end_ns,
        time_ns=time,
        books=Snapshots(price[begin:], size[begin:]),
        labels={"source": "books"},
    )


def _check_names(present: list[str], levels: int, file: str) -> str:
    """The name of the time column, once all columns are known to be there and no others."""
    row = None if file.endswith(".parquet") else 1
    times = [name for name in _TIMES if name in present]
    if len(times) != 1:
        what = "both time_s and time_ns are there" if times else f"no column of times; the columns are {present[:6]}"
        raise DataError(file, f"{what}; write one of time_s (seconds after midnight) and time_ns (an integer)", row=row)
    wanted = [times[0], *columns(levels)]
    missing = [name for name in wanted if name not in present]
    if missing:
        near = difflib.get_close_matches(missing[0], [p for p in present if p not in wanted], 1)
        hint = f" (there is {near[0]!r})" if near else ""
        raise DataError(
            file, f"{len(missing)} columns are missing for {levels} levels, first {missing[0]!r}{hint}", row=row
        )
    extra = [name for name in present if name not in wanted]
    twice = sorted({name for name in present if present.count(name) > 1})
    if extra or twice:
        what = f"unknown columns {extra[:4]}" if extra else f"columns {twice[:4]} stand there twice"
        raise DataError(
            file, f"{what}; its name promises {levels} levels, whose columns are {', '.join(wanted[:5])} ...", row=row
        )
    return times[0]


def _types(time: str, levels: int) -> dict[str, Any]:
    import pyarrow as pa

    exact = pa.decimal128(28, DECIMALS)
    return {time: exact if time == "time_s" else pa.int64()} | dict.fromkeys(columns(levels), exact)


def _csv(path: Path, levels: int) -> Any:
    import pyarrow as pa
    import pyarrow.csv as pc

    content, file = read_bytes(path), path.name
    names = [name.strip('"') for name in header(content, file)]
    types = _types(_check_names(names, levels, file), levels)
    if content[-1:] not in b"\r\n":
        raise DataError(file, "the last row has no line end: the file is truncated", row=content.count(b"\n") + 1)
    try:
        return pc.read_csv(
            pa.BufferReader(content),
            read_options=pc.ReadOptions(column_names=names, skip_rows=1, use_threads=False, block_size=1 << 24),
            convert_options=pc.ConvertOptions(column_types=types, null_values=["", "nan", "NaN"]),
        )
    except pa.ArrowInvalid as error:
        row, column = (re.search(f"{what} #(\\d+)", str(error)) for what in ("Row", "column"))
        text = re.sub(r"^.*Row #\d+: ", "", str(error))
        if column:
            text = f"{names[int(column.group(1))]}: {text}; times and prices have at most {DECIMALS} decimals"
        raise DataError(file, text, row=int(row.group(1)) if row else None) from error


def _parquet(path: Path, levels: int) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(path.name, f"damaged or no Parquet file ({error})") from error
    types = _types(_check_names(table.column_names, levels, path.name), levels)
    try:
        # as doubles, 10.01 and 10.010000000000002 are the same price to nine decimals
        return pa.table({name: _without_nan(table.column(name)).cast(kind) for name, kind in types.items()})
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            path.name, f"a column holds something else than numbers with at most {DECIMALS} decimals ({error})"
        ) from error


def _without_nan(column: Any) -> Any:
    """Doubles with null for NaN, as pandas means it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)


def _numbers(column: Any, file: str, first_row: int) -> tuple[Ints, Mask]:
    """Values as integers (decimals in units of the last one) and which of them are missing."""
    import pyarrow as pa

    empty = np.asarray(column.is_null().to_numpy(), bool)
    if pa.types.is_integer(column.type):
        return np.asarray(column.fill_null(0).to_numpy(), np.int64), empty
    filled = column.fill_null(0).chunks
    halves = [np.frombuffer(c.buffers()[1], "<i8").reshape(-1, 2)[c.offset : c.offset + len(c)] for c in filled]
    both = np.concatenate([np.zeros((0, 2), np.int64), *halves])
    require(both[:, 1] == both[:, 0] >> 63, file, "a number is too large", first_row=first_row)
    return np.ascontiguousarray(both[:, 0]), empty


def _time(table: Any, file: str, first_row: int) -> Ints:
    if table.num_rows == 0:
        raise DataError(file, "there is no row of data")
    name = next(n for n in _TIMES if n in table.column_names)
    time, empty = _numbers(table.column(name), file, first_row)  # nine decimals of a second are nanoseconds
    require(~empty, file, f"{name} is empty; every row needs its time", first_row=first_row)
    back = np.flatnonzero(np.diff(time) < 0)
    if len(back):
        at = int(back[0]) + 1
        raise DataError(
            file,
            f"time goes back from {time[at - 1] / SECOND:.9f} to {time[at] / SECOND:.9f} s; sort the rows by time",
            row=at + first_row,
        )
    return time


def _levels(table: Any, levels: int, rules: MatchingRules, file: str, first_row: int) -> tuple[NDArray[np.int32], Ints]:
    """Prices in ticks and sizes in shares, each ``[n, 2, L]``."""
    n = table.num_rows
    price, size = np.full((n, 2, levels), NO_PRICE, np.int32), np.zeros((n, 2, levels), np.int64)
    for s, side in enumerate(("ask", "bid")):
        for k in range(levels):
            ticks, shares = _one_level(table, f"{side}_price_{k + 1}", f"{side}_size_{k + 1}", rules, file, first_row)
            here = shares > 0
            price[here, s, k], size[:, s, k] = ticks[here], shares
            if k:
                above = size[:, s, k - 1] > 0
                gap = f"{side} level {k + 1} is there and level {k} is not; write the best level first, without gaps"
                require(above | ~here, file, gap, first_row=first_row)
                step = (price[:, s, k].astype(np.int64) - price[:, s, k - 1]) * (1 if s == 0 else -1)
                order = f"{side} level {k + 1} is not {'above' if s == 0 else 'below'} level {k}; write the best first"
                require((step > 0) | ~here, file, order, first_row=first_row)
    return price, size


def _one_level(
    table: Any, price: str, size: str, rules: MatchingRules, file: str, first_row: int
) -> tuple[Ints, Ints]:  # fmt: skip
    scale = 10**DECIMALS
    value, no_price = _numbers(table.column(price), file, first_row)
    shares, no_size = _numbers(table.column(size), file, first_row)
    require(shares >= 0, file, f"{size} is negative", first_row=first_row)
    require(shares % scale == 0, file, f"{size} is no whole number of shares", first_row=first_row)
    half = f"one of {price} and {size} is missing or 0; a level that is not there has both cells empty"
    require(no_price == (no_size | (shares == 0)), file, half, first_row=first_row)
    require(no_price | (value > 0), file, f"{price} is not positive", first_row=first_row)
    tick = int(Decimal(rules.tick_size) * scale)
    off = np.flatnonzero(~no_price & (value % tick != 0))
    if len(off):
        shown = f"{Decimal(int(value[off[0]])) / scale:f}".rstrip("0")
        text = f"{price} {shown} is no multiple of the tick {rules.tick_size} of {rules.name}; round to the tick"
        raise DataError(file, text, row=int(off[0]) + first_row)
    ticks = value // tick
    require(ticks < np.iinfo(np.int32).max, file, f"{price} is too large", first_row=first_row)
    return np.where(no_price, 0, ticks), np.where(no_size, 0, shares // scale)


def _moment(time_ns: np.int64) -> str:
    """The clock with the fraction of the second, if there is one."""
    fraction = int(time_ns) % SECOND
    return clock_text(int(time_ns)) + (f".{fraction:09d}".rstrip("0") if fraction else "")


def _check_period(time: Ints, start_ns: int, end_ns: int, file: str, first_row: int) -> None:
    if time[0] > start_ns:
        raise DataError(
            file,
            f"the first book is of {_moment(time[0])}, but the period in its name starts at "
            f"{clock_text(start_ns)}; the first row must be the book at the start or before it",
            row=first_row,
        )
    late = np.flatnonzero(time > end_ns)
    if len(late):
        raise DataError(
            file,
            f"this book is of {_moment(time[late[0]])}, the period in the name ends at {clock_text(end_ns)}; "
            "leave out what comes later, or name the whole period",
            row=int(late[0]) + first_row,
        )
