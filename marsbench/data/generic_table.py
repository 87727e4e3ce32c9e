"""Columns of a CSV or Parquet file as exact integers: ticks, shares, nanoseconds since midnight.

Text is parsed as decimal, never as float. A float column of Parquet is read through the shortest decimal
that gives the same float back, which is what was written into it; it must lie on the grid exactly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data import tables
from marsbench.data.errors import DataError
from marsbench.data.generic_mapping import ACTIONS, Mapping
from marsbench.data.generic_values import fraction, text, times


@dataclass(frozen=True)
class Events:
    """The rows of all files, in order, in our units. Arrays ``[n]``."""

    time_ns: NDArray[np.int64]
    action: NDArray[np.int64]
    """Index into ``ACTIONS``."""
    id: NDArray[np.int64]
    new_id: NDArray[np.int64]
    """0 where none is given."""
    side: NDArray[np.int64]
    """0 ask, 1 bid, -1 where none is given."""
    price_ticks: NDArray[np.int64]
    """-1 where none is given, see ``priced``."""
    priced: NDArray[np.bool_]
    size: NDArray[np.int64]
    """-1 where none is given."""
    file: NDArray[np.int64]
    """Which file a row is from."""
    row: NDArray[np.int64]
    """Its line there (Parquet: its number), counted from 1."""
    renumbered: bool
    """Whether order ids were no numbers, and were numbered as they appear."""


def read_events(mapping: Mapping) -> Events:
    """All rows of the mapping's files.

    Raises
    ------
    DataError
        If a file is damaged, or a value is not what the mapping says; names file and row.
    """
    parts = [_File(path, mapping, k) for k, path in enumerate(mapping.files)]
    ids, renumbered = _ids([p.columns["id"] for p in parts], [p.columns.get("new_id") for p in parts], mapping)
    events = [part.events(*numbers) for part, numbers in zip(parts, ids, strict=True)]
    names = [name for name in Events.__dataclass_fields__ if name != "renumbered"]
    return Events(**{n: np.concatenate([e[n] for e in events]) for n in names}, renumbered=renumbered)


class _File:
    """One file: its wanted columns as Arrow arrays, and what errors need to name a row."""

    def __init__(self, path: Path, mapping: Mapping, number: int) -> None:
        self.name, self.mapping, self.number = path.name, mapping, number
        self.first = 1 if mapping.format == "parquet" or mapping.header is not None else 2
        table = self._csv(path) if mapping.format == "csv" else self._parquet(path)
        self.rows = np.arange(table.num_rows, dtype=np.int64) + self.first
        self.columns = {ours: table.column(theirs).combine_chunks() for ours, theirs in mapping.columns.items()}
        if mapping.symbol:
            self._only(mapping.symbol)

    def _csv(self, path: Path) -> Any:
        import pyarrow as pa
        import pyarrow.csv as pc

        content = tables.read_bytes(path)
        names = self.mapping.header
        if names is None:
            head = content.split(b"\n", 1)[0].decode("utf-8", "replace").strip("\r\ufeff")
            present = [name.strip('"') for name in head.split(self.mapping.delimiter)]
        else:
            present = list(names)
        self._require_columns(present)
        if content[-1:] not in b"\r\n":
            raise DataError(
                self.name, "the last row has no line end: the file is truncated", row=content.count(b"\n") + 1
            )
        try:
            table = pc.read_csv(
                pa.BufferReader(content),
                read_options=pc.ReadOptions(column_names=names, use_threads=False, block_size=1 << 24),
                parse_options=pc.ParseOptions(delimiter=self.mapping.delimiter),
                convert_options=pc.ConvertOptions(
                    column_types=dict.fromkeys(self.mapping.columns.values(), pa.string()),
                    include_columns=sorted(set(self.mapping.columns.values())),
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid as error:
            row = re.search(r"Row #(\d+)", str(error))
            text = re.sub(r"^.*?(Expected|CSV conversion)", r"\1", str(error))
            raise DataError(self.name, text, row=int(row[1]) if row else None) from error
        if table.num_rows == 0:
            raise DataError(self.name, "there is no row of data")
        return table

    def _parquet(self, path: Path) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        if not path.exists():
            raise DataError(self.name, "cannot be read (No such file or directory)")
        try:
            file = pq.ParquetFile(path)
            self._require_columns(file.schema_arrow.names)
            table = file.read(columns=sorted(set(self.mapping.columns.values())))
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(self.name, f"damaged, or no Parquet file ({str(error).splitlines()[0]})") from error
        if table.num_rows == 0:
            raise DataError(self.name, "there is no row of data")
        blank = pa.scalar(None, pa.string())
        for at, name in enumerate(table.column_names):
            if pa.types.is_string(table.column(name).type):
                words = table.column(name)  # an empty text is a blank, as in CSV
                table = table.set_column(at, name, pc.if_else(pc.equal(words, ""), blank, words))
        return table

    def _require_columns(self, present: list[str]) -> None:
        missing = [name for name in self.mapping.columns.values() if name not in present]
        if missing:
            reason = f"columns {missing} of {self.mapping.file} are missing; there are {present}"
            raise DataError(self.name, reason, row=1 if self.first == 2 else None)

    def _only(self, symbol: str) -> None:
        import pyarrow.compute as pc

        keep = np.asarray(pc.equal(text(self.columns["symbol"]), symbol).fill_null(False))
        if not keep.any():
            found = pc.unique(text(self.columns["symbol"]).drop_null()).to_pylist()[:5]
            raise DataError(self.name, f"no row has the symbol {symbol!r}; the first ones are {found}")
        self.rows = self.rows[keep]
        self.columns = {name: column.filter(keep) for name, column in self.columns.items()}

    def error(self, at: int, reason: str) -> DataError:
        return DataError(self.name, reason, row=int(self.rows[at]))

    def events(self, ids: NDArray[np.int64], new_ids: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        mapping = self.mapping
        action = self.codes("action", {v: ACTIONS.index(a) for v, a in mapping.actions.items()}, blank=False)
        # A row that changes nothing may say what it likes.
        idle = np.isin(action, [ACTIONS.index(a) for a in ("trade", "clear", "ignore")])
        side = self.codes("side", {v: int(s == "bid") for v, s in mapping.sides.items()}, blank=True, idle=idle)
        tick = Decimal(mapping.rules.tick_size)
        price = self.integers("price", mapping.price_unit, tick, f"a multiple of the tick {tick:f}", idle)
        size = self.integers("size", Decimal(1), mapping.size_unit, _whole(mapping.size_unit), idle)
        return {
            "time_ns": times(self.columns["time"], mapping, self.error),
            "action": action,
            "id": ids,
            "new_id": new_ids,
            "side": side,
            "price_ticks": np.where(price[1], price[0], -1),
            "priced": price[1],
            "size": np.where(size[1], size[0], -1),
            "file": np.full(len(self.rows), self.number),
            "row": self.rows,
        }

    def codes(
        self, name: str, values: dict[str, int], *, blank: bool, idle: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64]:
        """Words as numbers; -1 for a blank (where allowed) and in idle rows."""
        words = text(self.columns[name]).dictionary_encode()
        table = np.array([values.get(str(word), -2) for word in words.dictionary.to_pylist()] + [-1 if blank else -2])
        codes: NDArray[np.int64] = table[np.asarray(words.indices.fill_null(-1))]
        if idle is not None:
            codes = np.where(idle, -1, codes)
        bad = np.flatnonzero(codes == -2)
        if len(bad):
            at = int(bad[0])
            raise self.error(
                at,
                f"{name} {words[at].as_py()!r} is not in {self.mapping.file}, which knows {', '.join(values)}; "
                f"add it to '{name}s'" + (" (as 'ignore' if it means nothing)" if name == "action" else ""),
            )
        return codes

    def integers(
        self, name: str, unit: Decimal, step: Decimal, what: str, idle: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """``value * unit / step`` exactly, and where there is a value."""
        import pyarrow as pa

        column = self.columns[name]
        words = text(column).dictionary_encode()
        where = np.asarray(words.indices.fill_null(-1))
        there = (where >= 0) & ~idle
        out = np.zeros(len(words.dictionary), np.int64)
        scale = Fraction(unit) / Fraction(step)
        for k, word in enumerate(words.dictionary.to_pylist()):
            value = fraction(word)
            ratio = None if value is None else value * scale
            if ratio is not None and ratio.denominator == 1 and abs(ratio) < 2**31:
                out[k] = ratio.numerator
                continue
            used = np.flatnonzero((where == k) & there)
            if len(used):
                given = f"{word!r}" + (" (a float)" if pa.types.is_floating(column.type) else "")
                reason = "is no number" if value is None else f"must be {what}"
                reason += ", fewer than 2^31 of them" if ratio is not None and ratio.denominator == 1 else ""
                raise self.error(int(used[0]), f"{name} {given} {reason}")
        return np.where(there, out[where], 0), there


def _whole(unit: Decimal) -> str:
    return "a whole number" if unit == 1 else f"a whole number (of {unit:f})"


def _ids(
    columns: list[Any], new: list[Any], mapping: Mapping
) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.int64]]], bool]:
    """Order ids as numbers (0 for a blank): as they are, or, where any is no positive number, as they appear."""
    import pyarrow as pa

    texts = [text(c) for pair in zip(columns, new, strict=True) for c in pair if c is not None]
    try:
        plain = [np.asarray(t.cast(pa.int64()).fill_null(0)) for t in texts]
        renumbered = any((p < 0).any() or (p > 2**62).any() for p in plain)
    except pa.ArrowInvalid:
        renumbered = True
    if renumbered:
        words = pa.chunked_array(texts).combine_chunks().dictionary_encode()
        codes = np.asarray(words.indices.fill_null(-1)).astype(np.int64) + 1
        plain = np.split(codes, np.cumsum([len(t) for t in texts])[:-1])
    parts = iter(plain)
    return [
        (a, next(parts) if n is not None else np.zeros(len(a), np.int64)) for n in new for a in [next(parts)]
    ], renumbered
