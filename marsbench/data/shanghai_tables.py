"""The tables of Shanghai level 2 as vendors lay them out: parsing, checks, and the merged sequence."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data import tables
from marsbench.data.day import PublishedBooks
from marsbench.data.errors import DataError
from marsbench.market.orders import NO_PRICE
from marsbench.market.rules import SECOND, MatchingRules

Table = dict[str, NDArray[Any]]
"""Columns by our names."""


@dataclass(frozen=True)
class Layout:
    """Column names and codes of one vendor. Types are those of ``tables.parse``."""

    orders: dict[str, tuple[str, str]]
    """Our name: (column, type); ours are time, seq, kind, side, id, price, size."""
    trades: dict[str, tuple[str, str]]
    """Ours are time, seq, bid, ask, price, size, flag."""
    add: object
    delete: object
    buy: object
    sell: object
    flags: tuple[object, object, object]
    """Of a trade: sold into the bid (seller is the aggressor), bought, auction."""
    clock: Callable[[NDArray[Any], str], NDArray[np.int64]]
    day: str = ""
    """Column with the date, if any."""
    instrument: str = ""
    """Column with the instrument, if any."""


def _hundredths(values: NDArray[Any], file: str) -> NDArray[np.int64]:
    """``HHMMSSss`` as an integer, in hundredths of a second, to nanoseconds."""
    hours, minutes, rest = values // 1_000_000, values // 10_000 % 100, values % 10_000
    tables.require(
        (values >= 0) & (hours < 24) & (minutes < 60) & (rest < 6000),
        file,
        "not a time HHMMSSss",
        first_row=2,
        got=values,
    )
    return np.asarray((hours * 3600 + minutes * 60) * SECOND + rest * 10_000_000)


def _text_time(values: NDArray[Any], file: str) -> NDArray[np.int64]:
    """``HH:MM:SS.mmm`` to nanoseconds."""
    pattern = re.compile(r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d)\.(\d{3})")
    found = [pattern.fullmatch(v) for v in values]
    tables.require(np.array([f is not None for f in found]), file, "not a time HH:MM:SS.mmm", first_row=2, got=values)
    parts = np.array([f.groups() for f in found if f], np.int64)
    return np.asarray(parts @ np.array([3_600_000, 60_000, 1_000, 1]) * 1_000_000)


EXCHANGE = Layout(
    orders={
        "time": ("TransactTime", "int"), "seq": ("BizIndex", "int"), "kind": ("OrdType", "text"),
        "side": ("Side", "text"), "id": ("OrderNo", "int"), "price": ("Price", "decimal:2"),
        "size": ("OrderQty", "decimal:0"),
    },
    trades={
        "time": ("TransactTime", "int"), "seq": ("BizIndex", "int"), "bid": ("BidApplSeqNum", "int"),
        "ask": ("OfferApplSeqNum", "int"), "price": ("LastPx", "decimal:2"), "size": ("LastQty", "decimal:0"),
        "flag": ("ExecType", "text"),
    },
    add="A", delete="D", buy="B", sell="S", flags=("S", "B", "N"), clock=_hundredths,
)  # fmt: skip
VENDOR = Layout(
    orders={
        "time": ("MDTime", "text"), "seq": ("ApplSeqNum", "int"), "kind": ("OrderType", "int"),
        "side": ("OrderBSFlag", "int"), "id": ("OrderNO", "int"), "price": ("OrderPrice", "decimal:2"),
        "size": ("OrderQty", "decimal:0"), "day": ("MDDate", "text"), "instrument": ("SecurityID", "text"),
    },
    trades={
        "time": ("MDTime", "text"), "seq": ("ApplSeqNum", "int"), "bid": ("TradeBuyNo", "int"),
        "ask": ("TradeSellNo", "int"), "price": ("TradePrice", "decimal:2"), "size": ("TradeQty", "decimal:0"),
        "flag": ("TradeBSFlag", "int"), "day": ("MDDate", "text"), "instrument": ("SecurityID", "text"),
    },
    add=2, delete=10, buy=1, sell=2, flags=(2, 1, 0), clock=_text_time, day="MDDate", instrument="SecurityID",
)  # fmt: skip
LAYOUTS = {"exchange": EXCHANGE, "vendor": VENDOR}


def find_layout(path: Path) -> Layout:
    """The layout that the header of an order file fits.

    Raises
    ------
    DataError
        If it fits none.
    """
    file = path.name
    head = tables.header(tables.read_bytes(path), file)
    for layout in LAYOUTS.values():
        if all(column in head for column, _ in layout.orders.values()):
            return layout
    wanted = {name: [c for c, _ in layout.orders.values()] for name, layout in LAYOUTS.items()}
    raise DataError(file, f"the header {head} fits no layout; they need {wanted}", row=1)


def read_table(path: Path, layout: Layout, what: str, instrument: str, date: str) -> Table:
    """Orders or trades by our column names: times in ns, prices in ticks, checked and in sequence.

    Raises
    ------
    DataError
        At the first row that is out of order, of another day or instrument, or not possible.
    """
    columns = layout.orders if what == "orders" else layout.trades
    values = tables.parse(tables.read_bytes(path), path.name, dict(columns.values()))
    out = {ours: values[column] for ours, (column, _) in columns.items()}
    out["time"] = layout.clock(out["time"], path.name)
    if layout.day:
        tables.require(
            out["day"] == date.replace("-", "."),
            path.name,
            f"{layout.day} is not {date}: mixed days",
            first_row=2,
            got=out["day"],
        )
        ours = np.array([str(v).split(".")[0] for v in out["instrument"]])
        tables.require(ours == instrument, path.name, f"{layout.instrument} is not {instrument}", first_row=2, got=ours)
    tables.require_sorted(out["seq"], path.name, columns["seq"][0], first_row=2, strict=True)
    tables.require_sorted(out["time"], path.name, columns["time"][0] + " in ns", first_row=2)
    tables.require(out["price"] > 0, path.name, "price in ticks must be positive", first_row=2, got=out["price"])
    tables.require(out["size"] > 0, path.name, "quantity must be positive", first_row=2, got=out["size"])
    tables.require(
        out["price"] < np.iinfo(np.int32).max,
        path.name,
        "price in ticks must be below 2^31",
        first_row=2,
        got=out["price"],
    )
    _check_codes(out, layout, columns, path.name)
    return out


def _check_codes(out: Table, layout: Layout, columns: dict[str, tuple[str, str]], file: str) -> None:
    codes = {"kind": (layout.add, layout.delete), "side": (layout.buy, layout.sell), "flag": layout.flags}
    for name, allowed in codes.items():
        if name in out:
            reason = f"{columns[name][0]} must be one of {list(allowed)}"
            tables.require(np.isin(out[name], np.array(allowed)), file, reason, first_row=2, got=out[name])
    for name in ("id", "bid", "ask"):
        if name in out:
            tables.require(out[name] > 0, file, f"{columns[name][0]} must be positive", first_row=2, got=out[name])


def merge(files: dict[str, Path], orders: Table, trades: Table) -> Table:
    """Rows of both tables in the exchange's sequence: ``index`` into its table, ``is_trade``, ``time``.

    Raises
    ------
    DataError
        If the two tables do not fit together.
    """
    seq = np.r_[orders["seq"], trades["seq"]]
    by_seq = np.argsort(seq, kind="stable")
    is_trade = by_seq >= len(orders["seq"])
    index = np.where(is_trade, by_seq - len(orders["seq"]), by_seq)
    time = np.r_[orders["time"], trades["time"]][by_seq]
    for bad, reason in (
        (np.flatnonzero(np.diff(seq[by_seq]) == 0), "has the sequence number of a row in the other file"),
        (np.flatnonzero(np.diff(time) < 0), "is earlier than the row before it in the other file: not the same day?"),
    ):
        if len(bad):
            at = int(bad[0]) + 1
            raise DataError(files["trades" if is_trade[at] else "orders"].name, reason, row=int(index[at]) + 2)
    return {"is_trade": is_trade, "index": index, "time": time}


def read_snapshots(
    path: Path, instrument: str, is_trade: NDArray[np.bool_], rules: MatchingRules
) -> tuple[PublishedBooks, int]:
    """Ten-level books of the continuous session, and the previous close in ticks.

    A snapshot tells how many trades there had been (NumTrades), so it was taken after some row
    between that trade and the next.

    Raises
    ------
    DataError
        As for ``read``; also if it counts more trades than the trade file holds.
    """
    file = path.name
    names = [f"{side}Level[{k}].{what}" for side in ("Ask", "Bid") for k in range(10) for what in ("Price", "Qty")]
    wanted = dict.fromkeys(["SecurityID", "NumTrades", "PrevClosePx", "DataTimeStamp", *names], "int")
    values = tables.parse(tables.read_bytes(path), file, wanted)
    tables.require(
        values["SecurityID"] == int(instrument),
        file,
        f"SecurityID is not {instrument}",
        first_row=2,
        got=values["SecurityID"],
    )
    tables.require_sorted(values["DataTimeStamp"], file, "DataTimeStamp", first_row=2)
    tables.require_sorted(values["NumTrades"], file, "NumTrades", first_row=2)
    close = values["PrevClosePx"]
    tables.require(
        (close == close[0]) & (close % 10 == 0), file, "PrevClosePx changes: mixed days", first_row=2, got=close
    )
    done = np.cumsum(is_trade)
    tables.require(
        values["NumTrades"] <= done[-1],
        file,
        f"counts more trades than the {done[-1]} of the trade file: truncated",
        first_row=2,
        got=values["NumTrades"],
    )
    time = _hundredths(values["DataTimeStamp"] * 100, file)
    inside = np.zeros(len(time), bool)
    for phase in rules.continuous:
        inside |= (time >= phase.start_ns) & (time < phase.end_ns)
    price = np.stack([values[n] for n in names[0::2]], axis=1).reshape(-1, 2, 10)
    size = np.stack([values[n] for n in names[1::2]], axis=1).reshape(-1, 2, 10)
    exact = (price % 10 == 0).all(axis=(1, 2)) & (size % 1000 == 0).all(axis=(1, 2))
    tables.require(exact, file, "a price is off the tick of 0.01, or a quantity is no whole share", first_row=2)
    count = values["NumTrades"][inside]
    books = PublishedBooks(
        price_ticks=np.where(size > 0, price // 10, NO_PRICE)[inside].astype(np.int32),
        size_shares=size[inside] // 1000,
        first_row=np.searchsorted(done, count, side="left"),
        last_row=np.searchsorted(done, count, side="right") - 1,
    )
    return books, int(close[0]) // 10
