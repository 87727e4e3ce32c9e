"""A stretch of one market: its starting book, its orders and its fills.

Book snapshots are not stored: replaying the orders from the starting book gives every one of them
back (``marsbench.market.replay.replay``). Its identity is a hash of the array content, so
that a file rewritten by another Parquet version is still the same trajectory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from marsbench.market.orders import FILL, ORDER
from marsbench.market.rules import MatchingRules, clock_text

FORMAT = 1
_ORDER_FIELDS = [n for n in ORDER.names or () if n != "pad"]
_FILL_FIELDS = list(FILL.names or ())
_FIELDS = list(dict.fromkeys([*_ORDER_FIELDS, *_FILL_FIELDS]))
_SMOOTH = ["time_ns", "order_id", "bid_id", "ask_id", "seq", "price_ticks", "size_shares"]
"""Columns whose rows differ little from one to the next: stored as differences."""


@dataclass(frozen=True)
class BookState:
    """Everything a book needs to go on: resting orders, prices, clock."""

    resting: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, ORDER))
    """``ORDER`` array ``[n]`` (kind ASK or BID, size = what is left), oldest first within each price."""
    last_trade_ticks: int = 0
    """Price of the last trade, 0 before the first."""
    reference_ticks: int = 0
    """Previous close, from which price limits and circuit breakers are measured; 0 for none."""
    next_id: int = 1
    """Next order id that the clearing house gives out by itself."""
    time_ns: int = 0


@dataclass(frozen=True)
class Trajectory:
    """The orders and fills of one period ``(start_ns, end_ns]`` of one instrument's day.

    ``orders[i]`` is message i of the period, rejected ones included; ``fills["seq"]`` points into it.
    """

    instrument: str
    date: str
    """ISO date of the trading day."""
    rules: MatchingRules
    start_ns: int
    end_ns: int
    book: BookState
    orders: NDArray[np.void]
    fills: NDArray[np.void]
    labels: dict[str, Any] = field(default_factory=dict)
    """Provenance (source file, generator, rollout number ...); not part of the identity."""

    def __post_init__(self) -> None:
        if self.orders.dtype != ORDER or self.book.resting.dtype != ORDER:
            raise TypeError(f"orders must have dtype ORDER, got {self.orders.dtype}")
        if self.fills.dtype != FILL:
            raise TypeError(f"fills must have dtype FILL, got {self.fills.dtype}")
        if self.end_ns < self.start_ns:
            raise ValueError(f"period ends before it starts: {self.start_ns} .. {self.end_ns}")

    @property
    def lacks(self) -> Mapping[str, str]:
        """Series of its bars that it cannot give -> why: none, unlike a ``BookSeries``."""
        return {}

    @property
    def n_orders(self) -> int:
        return len(self.orders)

    @property
    def tick_size(self) -> float:
        return float(self.rules.tick_size)

    def content_hash(self) -> str:
        """SHA-256 (hex) of the market content: instrument, date, rules, period, book, orders, fills."""
        digest = hashlib.sha256()
        head = {
            "format": FORMAT,
            "instrument": self.instrument,
            "date": self.date,
            "rules": self.rules.to_dict(),
            "period": [int(self.start_ns), int(self.end_ns)],
            "book": [
                int(self.book.last_trade_ticks),
                int(self.book.reference_ticks),
                int(self.book.next_id),
                int(self.book.time_ns),
            ],
        }
        digest.update(json.dumps(head, sort_keys=True).encode())
        for array, names in (
            (self.book.resting, _ORDER_FIELDS),
            (self.orders, _ORDER_FIELDS),
            (self.fills, _FILL_FIELDS),
        ):
            digest.update(len(array).to_bytes(8, "little"))
            for name in names:
                digest.update(np.ascontiguousarray(array[name]).tobytes())
        return digest.hexdigest()

    def with_labels(self, **labels: Any) -> Self:
        return replace(self, labels={**self.labels, **labels})

    def __repr__(self) -> str:
        return (
            f"Trajectory({self.instrument} {self.date} {clock_text(self.start_ns)}-{clock_text(self.end_ns)}, "
            f"{len(self.orders)} orders, {len(self.fills)} fills)"
        )


def _head(trajectory: Trajectory) -> dict[str, Any]:
    book = trajectory.book
    return {
        "instrument": trajectory.instrument,
        "date": trajectory.date,
        "rules": trajectory.rules.to_dict(),
        "start_ns": int(trajectory.start_ns),
        "end_ns": int(trajectory.end_ns),
        "book": {
            "last_trade_ticks": int(book.last_trade_ticks),
            "reference_ticks": int(book.reference_ticks),
            "next_id": int(book.next_id),
            "time_ns": int(book.time_ns),
        },
        "rows": [len(book.resting), len(trajectory.orders), len(trajectory.fills)],
        "labels": trajectory.labels,
        "content_hash": trajectory.content_hash(),
    }


def save(trajectories: Trajectory | Sequence[Trajectory], path: str | Path) -> Path:
    """Write one or many trajectories as one Parquet file, atomically; returns the path.

    For each trajectory in turn come the resting orders of its starting book, its orders and its
    fills (column ``table``: 0, 1, 2). Periods, rules, labels and content hashes stand in the
    file's metadata under ``marsbench`` as JSON.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    many = [trajectories] if isinstance(trajectories, Trajectory) else list(trajectories)
    parts = [p for t in many for p in (t.book.resting, t.orders, t.fills)]
    tables = np.tile(np.arange(3, dtype=np.int8), len(many))
    columns: dict[str, Any] = {"table": pa.array(np.repeat(tables, [len(p) for p in parts]))}
    for name in _FIELDS:
        kind = ORDER[name] if name in _ORDER_FIELDS else FILL[name]
        values = [p[name] if name in (p.dtype.names or ()) else np.zeros(len(p), kind) for p in parts]
        columns[name] = pa.array(np.concatenate(values) if values else np.zeros(0, kind))
    head = json.dumps({"format": FORMAT, "trajectories": [_head(t) for t in many]})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        pq.write_table(
            pa.table(columns).replace_schema_metadata({"marsbench": head}),
            temporary,
            compression="zstd",
            use_dictionary=[name for name in columns if name not in _SMOOTH],
            column_encoding=dict.fromkeys(_SMOOTH, "DELTA_BINARY_PACKED"),
        )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read_heads(path: str | Path) -> list[dict[str, Any]]:
    """The metadata of the trajectories in a file (period, rules, labels, hash ...), without their rows.

    Raises
    ------
    ValueError
        If the file is not a trajectory file of ours, or is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
        head: dict[str, Any] = json.loads(metadata[b"marsbench"])
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a marsbench trajectory file, or damaged ({error})") from error
    if head.get("format") != FORMAT:
        raise ValueError(f"{path}: trajectory format {head.get('format')!r}, this version reads {FORMAT}")
    return list(head["trajectories"])


def load_all(path: str | Path, *, check: bool = True) -> list[Trajectory]:
    """Read every trajectory of a file; ``check`` verifies the content hashes.

    Raises
    ------
    ValueError
        If the file is not ours, is damaged, or its content does not match its hash.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    heads = read_heads(path)
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: damaged trajectory file ({error})") from error
    values = {name: table.column(name).to_numpy() for name in _FIELDS}
    out, at = [], 0
    for head in heads:
        arrays = []
        for length, dtype, names in zip(
            head["rows"], (ORDER, ORDER, FILL), (_ORDER_FIELDS, _ORDER_FIELDS, _FILL_FIELDS), strict=True
        ):
            rows = np.zeros(length, dtype)
            for name in names:
                rows[name] = values[name][at : at + length]
            arrays.append(rows)
            at += length
        trajectory = Trajectory(
            instrument=head["instrument"],
            date=head["date"],
            rules=MatchingRules.from_dict(head["rules"]),
            start_ns=head["start_ns"],
            end_ns=head["end_ns"],
            book=BookState(resting=arrays[0], **head["book"]),
            orders=arrays[1],
            fills=arrays[2],
            labels=head["labels"],
        )
        if check and trajectory.content_hash() != head["content_hash"]:
            raise ValueError(f"{path}: content does not match its hash; the file was changed or damaged")
        out.append(trajectory)
    return out


def load(path: str | Path, *, check: bool = True) -> Trajectory:
    """Read a file that holds exactly one trajectory (see ``load_all``)."""
    many = load_all(path, check=check)
    if len(many) != 1:
        raise ValueError(f"{path}: holds {len(many)} trajectories, expected one; read it with load_all")
    return many[0]
