"""Book snapshots written as files that ``marsbench.data.books`` reads: decimals exact, nothing lost."""

from __future__ import annotations

import gzip
import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data.books import DECIMALS, EXPECTED, MILLISECOND, name_parts
from marsbench.files import write_atomic
from marsbench.market.books import BookSeries

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


def write(series: BookSeries, folder: str | Path, *, suffix: str = "", form: str = "csv") -> Path:
    """Write books in this format; returns the path of the file.

    Parameters
    ----------
    suffix
        Tells several simulations of one period apart.
    form
        ``"csv"``, ``"csv.gz"`` or ``"parquet"``.

    Raises
    ------
    FileExistsError
        If the file is there already.
    ValueError
        If the name cannot be made: an unusual instrument or suffix, a period not in whole milliseconds.
    """
    if series.start_ns % MILLISECOND or series.end_ns % MILLISECOND:
        raise ValueError(
            f"{series}: file names give the period in whole milliseconds, this one is {series.start_ns}-"
            f"{series.end_ns} ns; cut it first (marsbench.market.books.cut_books)"
        )
    period = f"{series.start_ns // MILLISECOND}_{series.end_ns // MILLISECOND}"
    tail = f"_{suffix}" if suffix else ""
    name = f"{series.instrument}_{series.date}_{period}_book_{series.levels}{tail}.{form}"
    if name_parts(name) is None:
        raise ValueError(f"{name!r} is no name of a book file ({EXPECTED}, or .csv.gz); change instrument or suffix")
    path = Path(folder) / name
    if path.exists():
        raise FileExistsError(f"{path}: exists already; give each simulation of a period its own suffix or folder")
    table = _table(series)
    if form == "parquet":
        return write_atomic(path, _parquet_bytes(table))
    text = _csv_bytes(table)
    return write_atomic(path, gzip.compress(text, mtime=0) if form == "csv.gz" else text)


def _table(series: BookSeries) -> Any:
    """Times and prices as exact decimals, sizes as integers, null where there is no level."""
    import pyarrow as pa

    tick = Decimal(series.rules.tick_size)
    places = max(-int(tick.normalize().as_tuple().exponent), 0)
    found = {"time_s": _decimals(series.time_ns, np.zeros(len(series.time_ns), bool), DECIMALS)}
    unit = int(tick.scaleb(places))
    for k in range(series.levels):
        for s, side in enumerate(("ask", "bid")):
            size = series.books.size_shares[:, s, k]
            units = series.books.price_ticks[:, s, k].astype(np.int64) * unit
            found[f"{side}_price_{k + 1}"] = _decimals(units, size == 0, places)
            found[f"{side}_size_{k + 1}"] = pa.array(size, pa.int64(), mask=size == 0)
    return pa.table(found)


def _decimals(units: Ints, empty: Mask, places: int) -> Any:
    """Integers in units of ``10**-places`` as a column of decimals."""
    import pyarrow as pa

    halves = np.ascontiguousarray(np.stack([units, units >> 63], axis=-1), "<i8")
    valid = pa.array(~empty).buffers()[1]
    return pa.Array.from_buffers(pa.decimal128(28, places), len(units), [valid, pa.py_buffer(halves)])


def _csv_bytes(table: Any) -> bytes:
    import pyarrow.csv as pc

    out = io.BytesIO()
    out.write(",".join(table.column_names).encode() + b"\n")  # Arrow would quote the names
    pc.write_csv(table, out, pc.WriteOptions(include_header=False, quoting_style="none"))
    return out.getvalue()


def _parquet_bytes(table: Any) -> bytes:
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()
