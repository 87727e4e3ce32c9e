"""NASDAQ TotalView-ITCH 5.0 files: every message of the specification, of one stock, as tables.

Specification: https://www.nasdaqtrader.com/content/technicalsupport/specifications/dataproducts/NQTVITCHspecification.pdf.
A file is a row of messages, each behind two bytes with its length; all numbers are big-endian, prices in
1e-4 dollar, times in nanoseconds since midnight in New York.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from marsbench.data.errors import DataError

_STOCK, _PRICE, _SHARES, _ID, _FLAG = "S8", ">u4", ">u4", ">u8", "S1"
_HEAD = [("type", "S1"), ("stock_locate", ">u2"), ("tracking_number", ">u2"), ("time_high", ">u2"), ("time_low", ">u4")]
_ADD = [("order", _ID), ("side", _FLAG), ("shares", _SHARES), ("stock", _STOCK), ("price", _PRICE)]
_EXECUTED = [("order", _ID), ("shares", _SHARES), ("match", _ID)]
_FIELDS: dict[str, list[tuple[str, str]]] = {
    "S": [("event", _FLAG)],
    "R": [
        ("stock", _STOCK), ("market_category", _FLAG), ("financial_status", _FLAG), ("round_lot", ">u4"),
        ("round_lots_only", _FLAG), ("classification", _FLAG), ("sub_type", "S2"), ("authenticity", _FLAG),
        ("short_sale_threshold", _FLAG), ("ipo_flag", _FLAG), ("price_tier", _FLAG), ("etp_flag", _FLAG),
        ("etp_leverage", ">u4"), ("inverse", _FLAG),
    ],
    "H": [("stock", _STOCK), ("state", _FLAG), ("reserved", _FLAG), ("reason", "S4")],
    "Y": [("stock", _STOCK), ("action", _FLAG)],
    "L": [("mpid", "S4"), ("stock", _STOCK), ("primary", _FLAG), ("mode", _FLAG), ("state", _FLAG)],
    "V": [("level_1", ">u8"), ("level_2", ">u8"), ("level_3", ">u8")],
    "W": [("breached", _FLAG)],
    "K": [("stock", _STOCK), ("release_time", ">u4"), ("release_qualifier", _FLAG), ("price", _PRICE)],
    "J": [("stock", _STOCK), ("reference", _PRICE), ("upper", _PRICE), ("lower", _PRICE), ("extension", ">u4")],
    "h": [("stock", _STOCK), ("market", _FLAG), ("action", _FLAG)],
    "A": _ADD,
    "F": [*_ADD, ("attribution", "S4")],
    "E": _EXECUTED,
    "C": [*_EXECUTED, ("printable", _FLAG), ("price", _PRICE)],
    "X": [("order", _ID), ("shares", _SHARES)],
    "D": [("order", _ID)],
    "U": [("order", _ID), ("new_order", _ID), ("shares", _SHARES), ("price", _PRICE)],
    "P": [*_ADD, ("match", _ID)],
    "Q": [("shares", ">u8"), ("stock", _STOCK), ("price", _PRICE), ("match", _ID), ("cross", _FLAG)],
    "B": [("match", _ID)],
    "I": [
        ("paired", ">u8"), ("imbalance", ">u8"), ("direction", _FLAG), ("stock", _STOCK), ("far", _PRICE),
        ("near", _PRICE), ("reference", _PRICE), ("cross", _FLAG), ("variation", _FLAG),
    ],
    "N": [("stock", _STOCK), ("interest", _FLAG)],
    "O": [
        ("stock", _STOCK), ("open_eligible", _FLAG), ("lowest", _PRICE), ("highest", _PRICE), ("near", _PRICE),
        ("near_time", ">u8"), ("lower_collar", _PRICE), ("upper_collar", _PRICE),
    ],
}  # fmt: skip
LAYOUT = {kind: np.dtype(_HEAD + fields) for kind, fields in _FIELDS.items()}
"""The record of each message type, packed as on the wire."""
_LONGEST = max(layout.itemsize for layout in LAYOUT.values())
_SIZES = np.zeros(256, np.int64)
for _kind, _layout in LAYOUT.items():
    _SIZES[ord(_kind)] = _layout.itemsize
_CHUNK = 1 << 25
_OF_ALL_STOCKS = "SVW"
DONE, UNKNOWN_TYPE, BAD_LENGTH = 0, 1, 2


@dataclass(frozen=True)
class Messages:
    """The messages of one stock, and those for all stocks, in the order of the file."""

    stock: str
    type: NDArray[Any]
    """``[n]``, one letter each."""
    time_ns: NDArray[np.int64]
    """``[n]``."""
    number: NDArray[np.int64]
    """``[n]``: which message of the file it is, counted from 1."""
    tables: dict[str, NDArray[np.void]]
    """For each type that occurs its messages, ``LAYOUT[type]``, in the same order."""


def read_messages(path: Path, stock: str | None) -> Messages:
    """The messages of a stock; None takes the only one in the file.

    Raises
    ------
    DataError
        If the file is empty, truncated, damaged, not in the format, or the stock cannot be chosen.
    """
    stocks: dict[int, str] = {}
    rows, numbers = [], []
    left, seen, position = b"", 0, 0
    try:
        if path.stat().st_size == 0:
            raise DataError(path.name, "the file is empty")
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while block := file.read(_CHUNK):
                buffer = np.frombuffer(left + block, np.uint8)
                directory, _, _, _ = _scan(buffer, seen, position, path.name, ord("R"), -1)
                for message in directory.view(
                    np.dtype({"names": ["r"], "formats": [LAYOUT["R"]], "itemsize": _LONGEST})
                ):
                    stocks[int(message["r"]["stock_locate"][0])] = message["r"]["stock"][0].decode("latin-1").strip()
                found, at, count, used = _scan(buffer, seen, position, path.name, -1, _locate(stocks, stock))
                rows.append(found)
                numbers.append(at)
                seen, position, left = seen + count, position + used, bytes(buffer[used:])
    except (OSError, EOFError, zlib.error) as error:
        packed = path.suffix == ".gz"
        wrong = "damaged, truncated, or not compressed as its name says" if packed else "damaged"
        raise DataError(path.name, f"cannot be read: {wrong} ({error})") from error
    if left:
        raise DataError(path.name, f"the file is truncated: it ends {len(left)} bytes into a message", row=seen + 1)
    name = _choose(stocks, stock, path.name)
    return _tables(name, np.concatenate(rows), np.concatenate(numbers))


def _scan(
    buffer: NDArray[np.uint8], seen: int, position: int, file: str, kind: int, locate: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], int, int]:
    """Messages of a type or of a stock as rows ``[k, longest]``, their numbers, how many there were, bytes used."""
    room = 1024
    while True:
        rows, numbers = np.zeros((room, _LONGEST), np.uint8), np.zeros(room, np.int64)
        found, count, used, status = _walk(buffer, _SIZES, kind, locate, rows, numbers)
        if status != DONE:
            head: list[int] = buffer[used : used + 3].tolist()
            length, code = head[0] << 8 | head[1], head[2]
            if status == UNKNOWN_TYPE:
                reason = (
                    f"unknown message type {chr(code)!r} at byte {position + used}; ITCH 5.0 has {', '.join(LAYOUT)}"
                )
            else:
                reason = f"a message of type {chr(code)!r} has {length} bytes, ITCH 5.0 says {_SIZES[code]}"
            raise DataError(file, reason + " (not an ITCH 5.0 file, or damaged)", row=seen + count + 1)
        if found <= room:
            return rows[:found], numbers[:found] + seen + 1, count, used
        room = found


@numba.njit(cache=True)
def _walk(buffer, sizes, kind, locate, rows, numbers):  # type: ignore[no-untyped-def]
    """Walk over whole messages; copy those wanted as far as there is room, and count all that are."""
    at = count = found = 0
    while at + 3 <= len(buffer):
        length = int(buffer[at]) << 8 | int(buffer[at + 1])
        code = buffer[at + 2]
        if sizes[code] == 0:
            return found, count, at, UNKNOWN_TYPE
        if length != sizes[code]:
            return found, count, at, BAD_LENGTH
        if at + 2 + length > len(buffer):
            break
        of = int(buffer[at + 3]) << 8 | int(buffer[at + 4])
        general = code == 83 or code == 86 or code == 87  # S V W
        if (kind >= 0 and code == kind) or (kind < 0 and locate >= 0 and (general or of == locate)):
            if found < len(rows):
                rows[found, :length] = buffer[at + 2 : at + 2 + length]
                numbers[found] = count
            found += 1
        at += 2 + length
        count += 1
    return found, count, at, DONE


def _locate(stocks: dict[int, str], wanted: str | None) -> int:
    """The number of the stock, 0 (for messages to all) while it is not known."""
    return next((locate for locate, name in stocks.items() if wanted in (None, name)), 0)


def _choose(stocks: dict[int, str], wanted: str | None, file: str) -> str:
    names = sorted(stocks.values())
    if (wanted is None and len(names) == 1) or wanted in names:
        return wanted or names[0]
    if not names:
        raise DataError(file, "lists no stock (message type R); the file must begin with the day's stock directory")
    many = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    what = f"holds {len(names)} stocks" if wanted is None else f"holds no stock {wanted!r}"
    raise DataError(file, f"{what}; choose one with the option instrument: {many}")


def _tables(stock: str, rows: NDArray[np.uint8], numbers: NDArray[np.int64]) -> Messages:
    kinds = np.array([chr(c) for c in range(256)])[rows[:, 0]] if len(rows) else np.zeros(0, "U1")
    time = np.zeros(len(rows), np.int64)
    for k in range(6):
        time = time << 8 | rows[:, 5 + k].astype(np.int64)
    tables = {}
    for kind in np.unique(kinds).tolist():
        size = LAYOUT[kind].itemsize
        tables[kind] = np.ascontiguousarray(rows[kinds == kind, :size]).view(LAYOUT[kind]).reshape(-1)
    return Messages(stock, kinds, time, numbers, tables)
