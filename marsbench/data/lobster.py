"""LOBSTER: NASDAQ messages and books, read as the orders that somebody sent.

Format: https://lobsterdata.com/info/DataStructure.php. A message row is time (s), type (1 new, 2 partial
cancel, 3 delete, 4 execution of a visible order, 5 of a hidden one, 6 cross trade, 7 halt), order
id, size, price (1e-4 dollar), direction of the resting order (1 bid, -1 ask); row i of the book file
is the book after message i, level by level ask price, ask size, bid price, bid size.

The first book row is the starting book. An aggressive order is not in the file; it is put together
again from its executions. What the file cannot show, volume outside the published levels, is taken
over when it comes into view, see ``marsbench.data.lobster_window``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from marsbench.data import tables
from marsbench.data.day import PublishedBooks, VenueDay
from marsbench.data.errors import DataError
from marsbench.market.orders import NO_PRICE
from marsbench.market.rules import NASDAQ, SECOND, Phase, PhaseKind, clock

ABSENT = 9_999_999_999
"""Price (with either sign) that LOBSTER writes where a level does not exist."""
MOST_UNEXPLAINED = 0.1
"""Share of books that do not follow from their messages above which a file is refused, not just reported on."""
EXTENDED_NS = (clock("04:00"), clock("20:00"))
_NAME = re.compile(
    r"(?P<instrument>[A-Za-z0-9.\-]+)_(?P<date>\d{4}-\d{2}-\d{2})_(?P<start>\d+)_(?P<end>\d+)"
    r"_(?P<what>message|orderbook)_(?P<levels>\d+)(?:_(?P<suffix>[A-Za-z0-9._-]+?))?\.csv(\.gz)?$"
)
"""A suffix after the number of levels tells several simulations of one period apart."""
_MESSAGE = {"time": "decimal:9", "type": "int", "id": "int", "size": "int", "price": "int", "direction": "int"}


@dataclass(frozen=True)
class Raw:
    """Both files as columns; prices still in 1e-4 dollar. Rows of the two correspond."""

    message_file: str
    book_file: str
    instrument: str
    date: str
    start_ns: int
    end_ns: int
    time_ns: NDArray[np.int64]
    type: NDArray[np.int64]
    id: NDArray[np.int64]
    size: NDArray[np.int64]
    price: NDArray[np.int64]
    direction: NDArray[np.int64]
    book_price: NDArray[np.int64]
    """``[rows, 2, L]``, ask side first, ``ABSENT`` (either sign) where there is no level."""
    book_size: NDArray[np.int64]
    """``[rows, 2, L]``."""


def is_lobster(names: list[str]) -> bool:
    """Whether file names are those of a LOBSTER message or book file."""
    return any(_NAME.search(name) for name in names)


def name_parts(name: str) -> dict[str, str] | None:
    """What a file name says: instrument, date, start and end (ms), what (message or orderbook), levels, suffix.

    None if it is not the name of a LOBSTER file.
    """
    found = _NAME.fullmatch(name)
    return found.groupdict(default="") if found else None


def partner(name: str) -> str:
    """The name of the order book file that belongs to a message file, and the other way round."""
    what = _match(name)["what"]
    return name.replace(f"_{what}_", "_orderbook_" if what == "message" else "_message_")


def read(path: str | Path) -> VenueDay:
    """The day in a LOBSTER zip archive, folder, or pair of CSV files (either one is given).

    Raises
    ------
    DataError
        If a file is missing, damaged, truncated, shuffled, or not in the format.
    """
    from marsbench.data.lobster_window import rebuild

    raw = parse(Path(path))
    visible = np.isin(raw.type, (1, 2, 3, 4))
    levels = raw.book_size > 0
    tick = 100 if not (raw.price[visible] % 100).any() and not (raw.book_price[levels] % 100).any() else 1
    prices = np.where(levels, raw.book_price // tick, NO_PRICE)
    if np.abs(prices[levels]).max(initial=0) > np.iinfo(np.int32).max:
        raise DataError(raw.book_file, "a price does not fit into 32 bits of ticks")
    rules = NASDAQ
    inside = raw.start_ns >= NASDAQ.phases[0].start_ns and raw.end_ns <= NASDAQ.phases[0].end_ns
    if not inside or int(raw.time_ns[-1]) >= NASDAQ.phases[0].end_ns:
        rules = replace(rules, name="NASDAQ_EXTENDED", phases=(Phase(*EXTENDED_NS, PhaseKind.CONTINUOUS),))
    if tick == 1:
        rules = replace(rules, tick_size="0.0001")
    books = PublishedBooks(
        price_ticks=prices.astype(np.int32),
        size_shares=raw.book_size,
        first_row=np.arange(len(raw.type)),
        last_row=np.arange(len(raw.type)),
    )
    rebuilt = rebuild(raw, books, tick)
    hidden = raw.type == 5
    return VenueDay(
        source="lobster",
        file=Path(path).name,
        instrument=raw.instrument,
        date=raw.date,
        rules=rules,
        start_ns=raw.start_ns,
        end_ns=raw.end_ns,
        books=books,
        deleted_ids=raw.id[1:][raw.type[1:] == 3],
        facts={
            "hidden_executions": int(hidden.sum()),
            "hidden_shares": int(raw.size[hidden].sum()),
            "hidden_off_tick": int((raw.price[hidden] % 100 != 0).sum()),
            "cross_trades": int((raw.type == 6).sum()),
            "halt_messages": int((raw.type == 7).sum()),
        },
        **rebuilt,
    )


def hidden_executions(path: str | Path) -> dict[str, NDArray[np.int64]]:
    """Executions of hidden orders, which touch no visible volume and so are in no order stream.

    Returns
    -------
    dict of int64 arrays ``[k]``
        ``time_ns``, ``price_e4`` (1e-4 dollar, exact: they may lie between ticks), ``size_shares``,
        ``direction`` of the hidden order (1 bid, -1 ask).
    """
    raw = parse(Path(path))
    at = raw.type == 5
    return {
        "time_ns": raw.time_ns[at],
        "price_e4": raw.price[at],
        "size_shares": raw.size[at],
        "direction": raw.direction[at],
    }


def parse(path: Path) -> Raw:
    """Both files, checked; see ``read`` for what may be given and what is raised."""
    files = _locate(path)
    message_name, book_name = _pair(files, path)
    head, other = _match(message_name), _match(book_name)
    for field in ("instrument", "date", "start", "end", "levels"):
        if head[field] != other[field]:
            raise DataError(
                message_name, f"{field} is {head[field]}, but {book_name} has {other[field]}: not the same day"
            )
    levels = int(head["levels"])
    columns = tables.parse(_content(files[message_name]), message_name, _MESSAGE, names=list(_MESSAGE))
    names = [f"{side}_{what}_{k}" for k in range(levels) for side in ("ask", "bid") for what in ("price", "size")]
    values = tables.parse(_content(files[book_name]), book_name, dict.fromkeys(names, "int"), names=names)
    raw = Raw(
        message_file=message_name,
        book_file=book_name,
        instrument=head["instrument"],
        date=head["date"],
        start_ns=int(head["start"]) * 1_000_000,
        end_ns=int(head["end"]) * 1_000_000,
        time_ns=columns["time"],
        **{name: columns[name] for name in ("type", "id", "size", "price", "direction")},
        book_price=_sides(values, levels, "price"),
        book_size=_sides(values, levels, "size"),
    )
    _check(raw)
    return raw


def _sides(values: tables.Columns, levels: int, what: str) -> NDArray[np.int64]:
    return np.stack(
        [np.stack([values[f"{side}_{what}_{k}"] for k in range(levels)], axis=1) for side in ("ask", "bid")], axis=1
    )


def _check(raw: Raw) -> None:
    file, rows = raw.message_file, len(raw.type)
    if rows != len(raw.book_size):
        short, long = sorted([(rows, file), (len(raw.book_size), raw.book_file)])
        raise DataError(short[1], f"has {short[0]} rows, {long[1]} has {long[0]}: the file is truncated", row=short[0])
    inside = (raw.time_ns >= max(raw.start_ns, 0)) & (raw.time_ns <= min(raw.end_ns, 86_400 * SECOND - 1))
    tables.require(
        inside, file, "time in ns lies outside the period in the file's name, or beyond one day", got=raw.time_ns
    )
    tables.require_sorted(raw.time_ns, file, "time in ns")
    tables.require((raw.type >= 1) & (raw.type <= 7), file, "type must be 1 to 7 (wrong columns?)", got=raw.type)
    order = np.isin(raw.type, (1, 2, 3, 4, 5))
    tables.require(
        ~order | (np.abs(raw.direction) == 1), file, "direction must be 1 or -1 (wrong columns?)", got=raw.direction
    )
    tables.require(~order | (raw.size > 0), file, "size must be positive", got=raw.size)
    tables.require(~order | (raw.price > 0), file, "price must be positive", got=raw.price)
    tables.require(~np.isin(raw.type, (1, 2, 3, 4)) | (raw.id > 0), file, "a visible order needs an id", got=raw.id)
    there = raw.book_size > 0
    tables.require(
        (raw.book_size >= 0).all(axis=(1, 2)),
        raw.book_file,
        "sizes must not be negative",
        got=raw.book_size.min(axis=(1, 2)),
    )
    padded = np.abs(raw.book_price) == ABSENT
    tables.require(
        (there != padded).all(axis=(1, 2)), raw.book_file, "a level has a size but no price, or a price but no size"
    )
    better, worse = raw.book_price[:, :, :-1], raw.book_price[:, :, 1:]
    falls = np.stack([worse[:, 0] > better[:, 0], worse[:, 1] < better[:, 1]], axis=1)
    tables.require((falls | ~there[:, :, 1:]).all(axis=(1, 2)), raw.book_file, "levels are not sorted from the touch")
    both = there[:, 0, 0] & there[:, 1, 0]
    crossed = raw.book_price[:, 0, 0] <= raw.book_price[:, 1, 0]
    tables.require(~(both & crossed), raw.book_file, "the book is crossed (wrong columns?)")
    bad = _unexplained_steps(raw)
    if bad.mean() > MOST_UNEXPLAINED:
        reason = f"{bad.mean():.0%} of the books do not follow from their messages (shuffled, or of another day?)"
        raise DataError(raw.book_file, reason, row=int(np.flatnonzero(bad)[0]) + 1)


def _unexplained_steps(raw: Raw) -> NDArray[np.bool_]:
    """Rows whose message does not explain how the size at its price changed, the level being in view all the time."""
    side = np.where(raw.direction == 1, 1, 0)
    rows = np.arange(len(side))
    away = np.where(side == 1, -1, 1)

    def at_price(shift: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        book = np.maximum(rows - shift, 0)
        price, size = raw.book_price[book, side], raw.book_size[book, side]
        in_view = (size[:, -1] == 0) | (away * (price[:, -1] - raw.price) >= 0)
        return np.where(price == raw.price[:, None], size, 0).sum(axis=1), in_view

    (now, seen_now), (before, seen_before) = at_price(0), at_price(1)
    change = np.select([raw.type == 1, np.isin(raw.type, (2, 3, 4))], [raw.size, -raw.size], 0)
    bad = (now - before != change) & seen_now & seen_before & (raw.type <= 4)
    bad[0] = False
    return np.asarray(bad)


def _locate(path: Path) -> dict[str, tuple[Path, str]]:
    """Files by name: (path, member of the archive or empty)."""
    if not path.exists():
        raise DataError(path.name, "there is no such file or folder")
    if path.is_dir():
        return {p.name: (p, "") for p in sorted(path.iterdir()) if _NAME.search(p.name)}
    if path.suffix == ".zip":
        return {Path(name).name: (path, name) for name in tables.members(path) if _NAME.search(name)}
    if not _NAME.search(path.name):
        raise DataError(path.name, "not a LOBSTER name: INSTRUMENT_YYYY-MM-DD_START_END_message_LEVELS.csv")
    other = path.with_name(partner(path.name))
    if not other.exists():
        raise DataError(path.name, f"{other.name} must lie beside it")
    return {path.name: (path, ""), other.name: (other, "")}


def _pair(files: dict[str, tuple[Path, str]], path: Path) -> tuple[str, str]:
    by_kind: dict[str, list[str]] = {"message": [], "orderbook": []}
    for name in files:
        by_kind[_match(name)["what"]].append(name)
    for kind, names in by_kind.items():
        if len(names) != 1:
            raise DataError(path.name, f"must hold exactly one {kind} file, found {names or 'none'}")
    return by_kind["message"][0], by_kind["orderbook"][0]


def _match(name: str) -> re.Match[str]:
    found = _NAME.search(name)
    assert found is not None
    return found


def _content(where: tuple[Path, str]) -> bytes:
    return tables.read_member(*where) if where[1] else tables.read_bytes(where[0])
