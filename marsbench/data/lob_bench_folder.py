"""The folder layout of LOB-Bench: ``data_real``, ``data_gen`` and (optional) ``data_cond``.

Each holds pairs of LOBSTER files without header::

    data_real/GOOG_2023-01-03_message_real_id_0.csv             data_real/GOOG_2023-01-03_orderbook_real_id_0.csv
    data_gen/GOOG_2023-01-03_message_real_id_0_gen_id_0.csv     ... _orderbook_real_id_0_gen_id_0.csv
    data_cond/GOOG_2023-01-03_message_real_id_0.csv             ... _orderbook_real_id_0.csv

What stands before ``_message`` (instrument, date, anything more) and the ``real_id`` tell which belong together;
anything may stand between ``message`` and ``_real_id``. All generated files of a real one count. Every file is read
once. Prices of absent levels are +-9999999999 or -1. Empty files are empty sequences: counted, not refused. The five
numbers of a message are read as exact 64-bit integers (``1.0`` is one): identifiers above 2**53 stay apart.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from marsbench.data.errors import DataError
from marsbench.data.lobster import ABSENT
from marsbench.lob_sequences import LobPair, LobSequences
from marsbench.stats.lob_bench import WINDOW, Floats, Ints, LobSequence

REAL, GENERATED, CONDITIONING = "data_real", "data_gen", "data_cond"
_NAME = re.compile(
    r"(?P<head>.+?)_(?P<table>message|orderbook)(?P<middle>.*?)"
    r"_real_id_(?P<real>\d+)(?:_gen_id_(?P<gen>\d+))?(?P<tail>.*)\.csv"
)
_COLUMNS = 6
_NONE = -1
_EXACT = 2**53
"""Up to here a float is the whole number that was written."""
_WHOLE = re.compile(r"\s*([+-]?\d+)(?:\.0*)?\s*")
_TIME = re.compile(r"\s*(\d{1,9})(?:\.(\d*))?\s*")


@dataclass(frozen=True)
class _Files:
    """A pair of files."""

    head: str
    real_id: int
    gen_id: int
    message: Path
    book: Path

    @property
    def key(self) -> tuple[str, int]:
        return self.head, self.real_id


def is_lob_bench_folder(folder: str | Path) -> bool:
    """Whether a folder has the layout."""
    return (Path(folder) / REAL).is_dir() and (Path(folder) / GENERATED).is_dir()


def read(folder: str | Path, *, tick: float = 100.0) -> LobSequences:
    """Read the sequences of a folder, each file once.

    Parameters
    ----------
    folder
        The one that holds ``data_real``.
    tick
        One tick in the unit of its prices, 1e-4 of the currency.

    Raises
    ------
    ValueError
        If the folder does not have the layout, or holds no real or no generated sequences.
    DataError
        If a file is damaged; names file and line.
    """
    folder = Path(folder).expanduser()
    for name in (REAL, GENERATED):
        if not (folder / name).is_dir():
            raise ValueError(
                f"{folder}: there is no folder {name} in it; LOB-Bench's layout is {REAL}, {GENERATED}, {CONDITIONING}"
            )
    real, generated = (_pairs(folder / name) for name in (REAL, GENERATED))
    conditioning = _pairs(folder / CONDITIONING) if (folder / CONDITIONING).is_dir() else []
    if not real:
        raise ValueError(f"{folder / REAL}: no files named INSTRUMENT_DATE_message_real_id_N.csv with their orderbook")
    made: dict[tuple[str, int], list[_Files]] = {}
    for one in generated:
        made.setdefault(one.key, []).append(one)
    before = {one.key: one for one in conditioning}
    known = {one.key for one in real}
    used = [one for one in real if one.key in made]
    if not used:
        raise ValueError(
            f"{folder / GENERATED}: none of its {len(generated)} generated sequences belongs to one of the {len(real)} "
            "real ones; names must agree up to '_message', and in real_id"
        )
    pairs = tuple(
        LobPair(
            name=f"{one.head} {one.real_id}",
            day=" ".join(one.head.split("_")[:2]),
            real=_sequence(one),
            generated=tuple(_sequence(each) for each in sorted(made[one.key], key=lambda f: f.gen_id)),
            conditioning=_sequence(before[one.key]) if one.key in before else None,
        )
        for one in sorted(used, key=lambda f: f.key)
    )
    return LobSequences(pairs, tick=tick, notes=tuple(_notes(pairs, len(real) - len(used), set(made) - known)))


def _notes(pairs: tuple[LobPair, ...], alone: int, strange: set[tuple[str, int]]) -> Iterable[str]:
    counts = sorted({len(p.generated) for p in pairs})
    made = [s for p in pairs for s in p.generated]
    span = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    yield f"{len(pairs)} real sequences, {len(made)} generated ones ({span} for each)"
    if alone:
        yield f"{alone} real sequences have no generated one and are left out"
    if strange:
        yield f"generated sequences of {len(strange)} real_ids have no real one and are left out, {min(strange)} too"
    lacking = sum(p.conditioning is None for p in pairs)
    if lacking:
        yield f"{lacking} of {len(pairs)} real sequences have no conditioning data"
    for side, sequences in (("real", [p.real for p in pairs]), ("generated", made)):
        empty, short = sum(not len(s) for s in sequences), sum(0 < len(s) <= WINDOW for s in sequences)
        if empty:
            yield f"{empty} of {len(sequences)} {side} sequences are empty"
        if short:
            yield f"{short} of {len(sequences)} {side} sequences have up to {WINDOW} messages: no order flow imbalance"


def _pairs(folder: Path) -> list[_Files]:
    """Pairs of message and order book files of a folder."""
    found: dict[tuple[str, int, int], dict[str, Path]] = {}
    for path in sorted(folder.glob("*.csv")):
        name = _NAME.fullmatch(path.name)
        if name is None:
            if "message" in path.name or "orderbook" in path.name:
                raise ValueError(f"{path}: its name has no _real_id_N; write INSTRUMENT_DATE_message_real_id_N.csv")
            continue
        is_generated = name["gen"] is not None
        if is_generated != (folder.name == GENERATED):
            wanted = "needs" if folder.name == GENERATED else "must not have"
            raise ValueError(f"{path}: a file in {folder.name} {wanted} a _gen_id_N in its name")
        tables = found.setdefault((name["head"], int(name["real"]), int(name["gen"] or _NONE)), {})
        if name["table"] in tables:
            raise ValueError(f"{path}: a second {name['table']} file beside {tables[name['table']].name}; remove one")
        tables[name["table"]] = path
    out = []
    for (head, real_id, gen_id), tables in found.items():
        missing = {"message", "orderbook"} - set(tables)
        if missing:
            there = next(iter(tables.values()))
            raise ValueError(f"{there}: its {missing.pop()} file is missing; each sequence needs both")
        out.append(_Files(head, real_id, gen_id, tables["message"], tables["orderbook"]))
    return out


def _sequence(files: _Files) -> LobSequence:
    times, columns = _messages(files.message)
    book = _numbers(files.book)
    if len(book) != len(times):
        raise DataError(files.book, f"{len(book)} rows, its message file {files.message.name} has {len(times)}")
    if len(book) and book.shape[1] % 4:
        raise DataError(files.book, f"{book.shape[1]} columns, must be 4 for each level", row=1)
    event, order_id, size, price, direction = columns
    return LobSequence(times, event, order_id, size, price, direction, _levels(book if len(book) else np.zeros((0, 4))))


def _levels(cells: Floats) -> Floats:
    """``[n, L, 4]`` with absent levels as NaN and 0."""
    book = cells.reshape(len(cells), cells.shape[1] // 4, 4).copy()
    for price, size in ((0, 1), (2, 3)):
        absent = (np.abs(book[:, :, price]) == ABSENT) | (book[:, :, price] <= 0)
        book[:, :, price][absent] = np.nan
        book[:, :, size][absent] = 0.0
    return book


def _bytes(path: Path) -> bytes:
    """The content of a file: the only place that opens one."""
    return path.read_bytes()


def _messages(path: Path) -> tuple[Ints, list[Ints]]:
    """Nanoseconds since midnight, and the five whole numbers of each message."""
    import pyarrow as pa

    data = _bytes(path)
    if not data.strip():
        return np.zeros(0, np.int64), [np.zeros(0, np.int64)] * (_COLUMNS - 1)
    try:
        table = _table(data, {"f0": pa.string()})
        if table.num_columns < _COLUMNS:
            raise DataError(path, f"{table.num_columns} columns, a message has {_COLUMNS}", row=1)
        columns = [_whole(table.column(k), data, k) for k in range(1, _COLUMNS)]
        times = np.array([_nanoseconds(t) for t in table.column(0).to_pylist()], np.int64)
    except (pa.ArrowInvalid, ValueError) as error:
        raise error if isinstance(error, DataError) else _explained(path, data, error, message=True) from error
    return times, columns


def _numbers(path: Path) -> Floats:
    """The cells of a book."""
    import pyarrow as pa

    data = _bytes(path)
    if not data.strip():
        return np.zeros((0, 0))
    try:
        table = _table(data, {})
        if not all(pa.types.is_integer(c.type) or pa.types.is_floating(c.type) for c in table.columns):
            raise pa.ArrowInvalid("a column holds text")
        numbers = np.column_stack([c.to_numpy() for c in table.columns]).astype(np.float64, copy=False)
        if not np.isfinite(numbers).all():
            raise pa.ArrowInvalid("a cell is empty")
    except (pa.ArrowInvalid, ValueError) as error:
        raise _explained(path, data, error, message=False) from error
    return numbers


def _table(data: bytes, types: dict[str, Any]) -> Any:
    """The cells as Arrow sees them, columns named f0, f1, ..."""
    from pyarrow import csv

    return csv.read_csv(
        io.BytesIO(data),
        read_options=csv.ReadOptions(autogenerate_column_names=True, use_threads=False),
        convert_options=csv.ConvertOptions(column_types=types),
    )


def _whole(column: Any, data: bytes, k: int) -> Ints:
    """Column k as exact integers. Where Arrow made floats of it, large ones are read again from their text."""
    import pyarrow as pa

    if pa.types.is_integer(column.type) and not column.null_count:
        return np.asarray(column.to_numpy(), np.int64)
    found = column.to_numpy()
    if pa.types.is_floating(column.type) and not column.null_count and (np.abs(found) < _EXACT).all():
        if (found != np.rint(found)).any():
            raise ValueError("a cell is no whole number")
        return np.asarray(found, np.int64)
    texts = _table(data, {f"f{k}": pa.string()}).column(k).to_pylist()
    return np.array([_integer(text) for text in texts], np.int64)


def _integer(text: str) -> int:
    """A whole number of 64 bits.

    Raises
    ------
    ValueError
        If it is none, saying what it must be.
    """
    found = _WHOLE.fullmatch(text)
    if found is None:
        try:
            number = float(text)
        except ValueError:
            number = np.nan
        if not np.isfinite(number):
            raise ValueError("must be a number")
        if not number.is_integer() or abs(number) >= _EXACT:
            raise ValueError("must be a whole number, written out")
        return int(number)
    value = int(found[1])
    if not -(2**63) <= value < 2**63:
        raise ValueError("must lie below 2**63 (64-bit integers)")
    return value


def _nanoseconds(text: str) -> int:
    """Seconds after midnight, written as a decimal, in nanoseconds."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError("must be seconds after midnight, a decimal number from 0")
    return int(found[1]) * 1_000_000_000 + int(f"{(found[2] or '')[:9]:0<9}")


def _explained(path: Path, data: bytes, error: Exception, *, message: bool) -> DataError:
    """Which line is wrong, and how; the error as it is where none is found."""
    width = None
    for row, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        cells = line.split(",")
        width = width or len(cells)
        if len(cells) != width:
            return DataError(path, f"{len(cells)} columns, the first line has {width}", row=row)
        for k, cell in enumerate(cells[: _COLUMNS if message else None]):
            try:
                if not message:
                    if not np.isfinite(float(cell)):
                        raise ValueError
                elif k:
                    _integer(cell)
                else:
                    _nanoseconds(cell)
            except ValueError as why:
                return DataError(
                    path, f"column {k + 1} is {cell!r}, {str(why) if message else 'must be a number'}", row=row
                )
    return DataError(path, str(error))
