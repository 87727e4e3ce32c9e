"""Shanghai level 2: orders and trades of the exchange's tick-by-tick feed, read as the orders that somebody sent.

Only the resting rest of an aggressive order is published as an order, right after its trades; one that is
filled entirely is published as trades alone. Trades in a row with the same aggressor (the side of
flag B or S) and the rest that follows are therefore put together as one order. In the call auctions
orders rest; the trades (flag N) are left to the clearing house's own uncross and only compared.

Two vendor layouts are told apart by their headers (``shanghai_tables``). Orders and trades are merged by the
sequence number that both tables share: BizIndex in the exchange's own layout, ApplSeqNum of the
channel in the other (its OrderIndex and TradeIndex count each table for itself).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data.day import PublishedBooks, VenueDay, published_fills
from marsbench.data.errors import DataError
from marsbench.data.shanghai_tables import Layout, Table, find_layout, merge, read_snapshots, read_table
from marsbench.market.orders import AUCTION, ORDER, Kind
from marsbench.market.rules import SECOND, SSE_A_SHARE, MatchingRules, PhaseKind
from marsbench.market.trajectory import BookState

ASK, BID, CANCEL = int(Kind.ASK), int(Kind.BID), int(Kind.CANCEL)
_NAME = re.compile(
    r"(?P<prefix>(?P<instrument>\d{6})_(?P<date>\d{4}-\d{2}-\d{2}))_(?P<what>orders|trades|snapshots)\.csv(\.gz)?$"
)
_PREFIX = re.compile(r"\d{6}_\d{4}-\d{2}-\d{2}$")
_MAX_LATE_NS = 5 * SECOND
"""How far behind the end of a session a message may be stamped and still belong to it."""


def is_shanghai(path: Path) -> bool:
    """Whether a file has the name of a Shanghai order, trade or snapshot file."""
    return _NAME.search(path.name) is not None


def is_day_prefix(path: Path) -> bool:
    """Whether a path names a day (``.../600519_2023-02-07``) whose order file lies there."""
    return _PREFIX.search(path.name) is not None and bool(days(path.parent) & {path.name})


def days(folder: Path) -> set[str]:
    """The days (``INSTRUMENT_DATE``) that a folder holds order or trade files of."""
    if not folder.is_dir():
        return set()
    return {found["prefix"] for p in folder.iterdir() if (found := _NAME.search(p.name))}


def read(path: str | Path, *, reference_ticks: int | None = None) -> VenueDay:
    """The day that an order, trade or snapshot file belongs to.

    Parameters
    ----------
    path
        One of the files of the day (the others must lie beside it), the common beginning of their
        names, or a folder that holds one day.
    reference_ticks
        Previous close in ticks of 0.01 yuan, from which price limits are measured. None takes it from
        the snapshots, else from orders that stand exactly at both price limits, else sets 0
        (no limits); ``facts["reference"]`` tells which.

    Raises
    ------
    DataError
        If a file is missing, damaged, truncated, shuffled, of several days, or in neither layout.
    """
    files, instrument, date = _locate(Path(path))
    layout = find_layout(files["orders"])
    orders = read_table(files["orders"], layout, "orders", instrument, date)
    trades = read_table(files["trades"], layout, "trades", instrument, date)
    merged = merge(files, orders, trades)
    rules = SSE_A_SHARE
    books, close = PublishedBooks(), None
    if "snapshots" in files:
        books, close = read_snapshots(files["snapshots"], instrument, merged["is_trade"], rules)
    reference, origin = _reference(reference_ticks, close, orders["price"], rules)
    stream = _rebuild(layout, orders, trades, merged, rules)
    largest = max(int(orders["id"].max()), int(trades["bid"].max()), int(trades["ask"].max()))
    start, end = rules.phases[0].start_ns, rules.phases[-1].end_ns
    facts = stream.pop("facts") | {"reference": origin, "reference_ticks": reference}
    return VenueDay(
        source="shanghai",
        file=files["orders"].name,
        instrument=instrument,
        date=date,
        rules=rules,
        start_ns=start,
        end_ns=end,
        book=BookState(reference_ticks=reference, next_id=largest + 1, time_ns=start),
        books=books,
        deleted_ids=orders["id"][orders["kind"] == layout.delete],
        facts=facts,
        **stream,
    )


def _locate(path: Path) -> tuple[dict[str, Path], str, str]:
    if path.is_dir():
        found = sorted(days(path))
        if len(found) != 1:
            raise DataError(path.name, f"holds {len(found)} days, expected one; name one of them: {found}")
        path = path / found[0]
    match = _NAME.search(path.name)
    prefix = match["prefix"] if match else path.name
    if not _PREFIX.fullmatch(prefix):
        raise DataError(path.name, "not named INSTRUMENT_YYYY-MM-DD_orders.csv.gz (or _trades, _snapshots)")
    files: dict[str, Path] = {}
    for what in ("orders", "trades", "snapshots"):
        for ending in (".csv.gz", ".csv"):
            candidate = path.with_name(f"{prefix}_{what}{ending}")
            if candidate.exists():
                files.setdefault(what, candidate)
    for what in ("orders", "trades"):
        if what not in files:
            raise DataError(path.name, f"{prefix}_{what}.csv.gz must lie beside it")
    return files, prefix[:6], prefix[7:]


def _reference(given: int | None, close: int | None, prices: NDArray[Any], rules: MatchingRules) -> tuple[int, str]:
    """Previous close in ticks, and where it is from."""
    if given is not None:
        return given, "given by the caller"
    if close is not None:
        return close, "previous close in the snapshots"
    low, high = int(prices.min()), int(prices.max())
    middle = (low + high) // 2
    fits = [r for r in range(max(middle - 20, 1), middle + 21) if rules.limits_ticks(r) == (low, high)]
    if len(fits) == 1:
        return fits[0], "derived: lowest and highest order stand exactly at its price limits"
    return 0, "unknown: price limits are not checked"


def _late(
    time: NDArray[np.int64], is_auction: NDArray[np.bool_], rules: MatchingRules
) -> tuple[NDArray[np.int64], int]:
    """Times of messages stamped just behind the end of a session, moved to its last nanosecond."""
    time, moved = time.copy(), 0
    for k, phase in enumerate(rules.phases):
        following = rules.phases[k + 1].start_ns if k + 1 < len(rules.phases) else np.iinfo(np.int64).max
        late = (time >= phase.end_ns) & (time < min(phase.end_ns + _MAX_LATE_NS, following)) & ~is_auction
        if phase.kind == PhaseKind.AUCTION and late.any():
            crossed = np.flatnonzero(is_auction & (time >= phase.end_ns))
            if len(crossed):
                late[crossed[0] :] = False
        time[late] = phase.end_ns - 1
        moved += int(late.sum())
    return time, moved


def _rebuild(
    layout: Layout, orders: Table, trades: Table, merged: Table,
    rules: MatchingRules,
) -> dict[str, Any]:  # fmt: skip
    """The fields of a ``VenueDay`` that describe the order stream."""
    is_trade, index = merged["is_trade"].tolist(), merged["index"].tolist()
    auction = np.zeros(len(is_trade), bool)
    auction[merged["is_trade"]] = trades["flag"] == layout.flags[2]
    times, moved = _late(merged["time"], auction, rules)
    time: list[int] = times.tolist()
    adds: list[bool] = (orders["kind"] == layout.add).tolist()
    side: list[int] = np.where(orders["side"] == layout.buy, BID, ASK).tolist()
    number, price, size = (orders[k].tolist() for k in ("id", "price", "size"))
    bids, asks = trades["bid"].tolist(), trades["ask"].tolist()
    paid, shares = trades["price"].tolist(), trades["size"].tolist()
    taker = np.select(
        [trades["flag"] == layout.flags[0], trades["flag"] == layout.flags[1]], [ASK, BID], AUCTION
    ).tolist()
    out: list[tuple[int, ...]] = []
    cause = [0] * len(bids)
    message, done = [0] * len(is_trade), [-1] * len(is_trade)
    older = row = 0
    while row < len(is_trade):
        k = index[row]
        if not is_trade[row]:
            message[row] = len(out)
            out.append((time[row], number[k], price[k], size[k], 0, side[k] if adds[k] else CANCEL, 0, 0))
        elif taker[k] == AUCTION:
            cause[k], message[row], done[row] = len(out), len(out), 0
        else:
            own = bids if taker[k] == BID else asks
            older += own[k] < (asks if taker[k] == BID else bids)[k]
            start, total, worst, aggressor, way = row, 0, paid[k], own[k], taker[k]
            while row < len(is_trade) and is_trade[row] and taker[index[row]] == way and own[index[row]] == aggressor:
                total, worst, cause[index[row]] = total + shares[index[row]], paid[index[row]], len(out)
                message[row], done[row] = len(out), row - start + 1
                row += 1
            rest = index[row] if row < len(is_trade) and not is_trade[row] else -1
            if rest >= 0 and adds[rest] and number[rest] == aggressor and side[rest] == way:
                total, worst, message[row] = total + size[rest], price[rest], len(out)
            else:
                row -= 1
                done[row] = -1
            out.append((time[start], aggressor, worst, total, 0, way, 0, 0))
        row += 1
    return {
        "orders": np.array(out, ORDER),
        "row_message": np.array(message, np.int64),
        "row_fills": np.array(done, np.int64),
        "trades": published_fills(
            time_ns=trades["time"], bid_id=trades["bid"], ask_id=trades["ask"], seq=np.array(cause),
            price_ticks=trades["price"], size_shares=trades["size"], side=np.array(taker),
        ),
        "problems": {"aggressor_older_than_resting_order": older},
        "facts": {"messages_moved_into_their_session": moved},
    }  # fmt: skip
