"""Databento MBO (``.dbn``, ``.dbn.zst``, ``.csv``, also compressed): one instrument of one file as a day of orders.

How records become orders stands in ``databento_orders``, what files hold in ``databento_files``.

**Time.** Files are cut at midnight UTC, sessions of futures begin the evening before their trading date.
A day is therefore dated by the local calendar date of its first live record, and ``time_ns`` counts from
that date's midnight on the exchange's clock (its offset from UTC as of that record) and simply goes on past
24:00. It is the matching engine's time (``ts_event``); where that falls behind the record before, the record
before counts (``facts["times_moved_forward"]``). Records must be in order of ``ts_recv``, as Databento gives them.

**Book.** The snapshot at the beginning of the file is the starting book. Its place in time is right before
the first live record.

**Sessions.** No record says when trading opens. A trade without a side (T, side N) is the uncross of a call
auction: the time from the last trade before it (or from the first live record) up to it is an auction, all
else is continuous. A file of nothing but a crossed snapshot is an auction that did not end.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from marsbench.data.databento_files import UNDEFINED_PRICE, Records, read_records
from marsbench.data.databento_orders import MBP, SNAPSHOT, TOB, Rebuilder
from marsbench.data.day import VenueDay
from marsbench.data.errors import DataError
from marsbench.market.rules import MINUTE, SECOND, MatchingRules, Phase, PhaseKind, Tie
from marsbench.market.trajectory import BookState

TIMEZONES = {
    "GLBX": "America/Chicago", "IFEU": "Europe/London", "NDEX": "Europe/London", "IFLL": "Europe/London",
    "IFUS": "America/New_York", "XEUR": "Europe/Berlin", "XEEE": "Europe/Berlin", "OPRA": "America/New_York",
    "XNAS": "America/New_York", "XBOS": "America/New_York", "XPSX": "America/New_York", "XNYS": "America/New_York",
    "ARCX": "America/New_York", "XASE": "America/New_York", "XCHI": "America/New_York", "XCIS": "America/New_York",
    "BATS": "America/New_York", "BATY": "America/New_York", "EDGA": "America/New_York", "EDGX": "America/New_York",
    "IEXG": "America/New_York", "MEMX": "America/New_York", "EPRL": "America/New_York", "DBEQ": "America/New_York",
}  # fmt: skip
"""The exchange's clock, by the first part of Databento's code of the dataset."""
PUBLISHERS = {1: "GLBX.MDP3", 2: "XNAS.ITCH"}
"""Datasets by ``publisher_id``, for CSV files, which do not name theirs."""
_DAY = 86_400 * SECOND
_PRICED = ("A", "M", "T", "F")


def read(
    path: str | Path, *, instrument: str | None = None, tick: str | None = None, timezone: str | None = None,
    levels: int = 10,
) -> VenueDay:  # fmt: skip
    """One instrument's day in a Databento file of the schema ``mbo``.

    Parameters
    ----------
    path
        The file.
    instrument
        Symbol or instrument id; may be left out where the file holds one.
    tick
        Tick size as a decimal, such as ``"0.25"``. None: the largest step of which all prices are multiples
        (``facts["tick_origin"]`` says which it was); prices are exact either way.
    timezone
        IANA name of the exchange's clock; None takes it from the dataset.
    levels
        Depth of the published books that ``verify`` compares.

    Raises
    ------
    DataError
        If the file is damaged, truncated, out of order, of another schema, or contradicts itself.
    """
    path = Path(path)
    records = read_records(path)
    name, rows = _choose(records, instrument, path.name)
    _check(rows, path.name)
    rows["price_ticks"], size, origin = _ticks(rows, tick, path.name)
    dataset = records.dataset or PUBLISHERS.get(int(rows["publisher_id"][0]), "")
    midnight, time, moved = _clock(rows, _zone(timezone, dataset, path.name))
    rebuilder = Rebuilder(rows, time, path.name, levels=levels)
    first = rebuilder.start()
    stream = rebuilder.stream
    begin = int(time[first]) if first < len(time) else int(time[-1])
    book = stream.published.orders(begin)
    crossed = stream.published.crossed
    rebuilder.run(first)
    start, end = begin // MINUTE * MINUTE, (int(time[-1]) // MINUTE + 1) * MINUTE
    phases = _phases(rebuilder.auctions, start, end, crossed and first == len(time))
    result = stream.result()
    facts = {
        "snapshot_orders": len(book), "records": len(time), "tick_origin": origin, "dataset": dataset or "not named",
        "times_moved_forward": moved, **stream.facts,
    }  # fmt: skip
    return VenueDay(
        source="databento",
        file=path.name,
        instrument=name,
        date=str(np.datetime64(midnight, "ns").astype("datetime64[D]")),
        rules=MatchingRules(dataset or "DATABENTO", phases, tick_size=size, tie=Tie.NEAREST_REFERENCE),
        start_ns=start,
        end_ns=end,
        book=BookState(resting=book, next_id=stream.fresh_id, time_ns=begin),
        deleted_ids=np.setdiff1d(rows["order_id"], result["resting_at_end"]["order_id"]),
        facts=facts,
        **result,
    )


def _choose(records: Records, wanted: str | None, file: str) -> tuple[str, dict[str, NDArray[Any]]]:
    """The name of the instrument, and its records with their lines in the file."""
    ids = np.unique(records.columns["instrument_id"]).tolist()
    names = {i: records.symbols.get(i, str(i)) for i in ids}
    found = [i for i in ids if wanted in (None, names[i], str(i))]
    if len(found) != 1:
        listed = ", ".join(f"{names[i]} ({i})" if names[i] != str(i) else names[i] for i in ids[:20])
        many = f"{listed} and {len(ids) - 20} more" if len(ids) > 20 else listed
        what = f"holds {len(ids)} instruments" if wanted is None else f"holds no instrument {wanted!r}"
        raise DataError(file, f"{what}; choose one with the option instrument: {many}")
    at = np.flatnonzero(records.columns["instrument_id"] == found[0])
    rows = {name: values[at] for name, values in records.columns.items()}
    rows["line"] = at + records.first_row
    return names[found[0]], rows


def _check(rows: dict[str, NDArray[Any]], file: str) -> None:
    def require(ok: Any, reason: str) -> None:
        bad = np.flatnonzero(~ok)
        if len(bad):
            raise DataError(file, reason, row=int(rows["line"][bad[0]]))

    action, side = rows["action"], rows["side"]
    bad = ~np.isin(action, list("ACMRTFN"))
    require(~bad, f"action {str(action[bad][0]) if bad.any() else ''!r}: must be one of A, C, M, R, T, F, N")
    require(np.isin(side, list("ABN")), "side must be A, B or N")
    require((side != "N") | ~np.isin(action, list("ACM")), "an order needs a side, A or B")
    require(rows["flags"] & (TOB | MBP) == 0, "holds sums over orders (flag TOB or MBP), not single orders")
    sized = np.isin(action, list("ACMTF"))
    require(~sized | ((rows["size"] > 0) & (rows["size"] < 1 << 31)), "size must be positive and fit into 31 bits")
    require(~np.isin(action, _PRICED) | (rows["price"] != UNDEFINED_PRICE), "the price is not defined")
    back = np.r_[True, np.diff(rows["ts_recv"]) >= 0]
    require(back, "ts_recv goes back; records must be in the order of Databento (shuffled file?)")


def _ticks(rows: dict[str, NDArray[Any]], tick: str | None, file: str) -> tuple[NDArray[np.int64], str, str]:
    """Prices in ticks, the tick size, and where it is from."""
    priced = rows["price"] != UNDEFINED_PRICE
    prices = rows["price"][priced & np.isin(rows["action"], [*_PRICED, "C"])]
    if tick is None:
        unit, origin = int(np.gcd.reduce(prices)) or 10**9, "derived: largest step of which all prices are multiples"
    else:
        unit, origin = _unit(tick), "given by the caller"
    off = priced & (rows["price"] % unit != 0)
    if off.any():
        at = int(np.flatnonzero(off)[0])
        raise DataError(
            file, f"price {_text(int(rows['price'][at]))} is no multiple of the tick {_text(unit)}; give another with "
            "the option tick", row=int(rows["line"][at]),
        )  # fmt: skip
    ticks = np.where(priced, rows["price"] // unit, 0)
    if np.abs(ticks).max(initial=0) > np.iinfo(np.int32).max:
        raise DataError(file, f"a price does not fit into 32 bits of ticks of {_text(unit)}")
    return ticks, _text(unit), origin


def _unit(tick: str) -> int:
    try:
        value = Decimal(tick) * 10**9
    except InvalidOperation:
        value = Decimal(0)
    if value <= 0 or value != value.to_integral_value():
        raise ValueError(f"option tick={tick!r}: a positive decimal with at most 9 places, such as 0.25")
    return int(value)


def _text(nanos: int) -> str:
    """A number of 1e-9 as a decimal without trailing zeros."""
    text = f"{Decimal(nanos) / 10**9:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _zone(timezone: str | None, dataset: str, file: str) -> ZoneInfo:
    name = timezone or TIMEZONES.get(dataset.split(".")[0])
    if name is None:
        raise DataError(
            file, f"the exchange's clock is unknown (dataset {dataset or 'not named'}); give it with the option "
            "timezone, such as America/Chicago",
        )  # fmt: skip
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"option timezone={name!r}: no such IANA time zone ({error})") from error


def _clock(rows: dict[str, NDArray[Any]], zone: ZoneInfo) -> tuple[int, NDArray[np.int64], int]:
    """Local midnight of the day (ns since 1970, local), times since then, and how many were moved forward."""
    live = np.flatnonzero(rows["flags"] & SNAPSHOT == 0)
    first = int(rows["ts_event"][live[0]] if len(live) else rows["ts_recv"][-1])
    offset = datetime.fromtimestamp(first // SECOND, UTC).astimezone(zone).utcoffset()
    assert offset is not None
    shift = int(offset.total_seconds()) * SECOND
    midnight = (first + shift) // _DAY * _DAY
    times = np.where(rows["flags"] & SNAPSHOT == 0, rows["ts_event"], np.minimum(first, rows["ts_recv"]))
    times = times + shift - midnight
    ordered = np.maximum.accumulate(np.maximum(times, 0))
    return midnight, ordered, int((ordered[live] != times[live]).sum())


def _phases(auctions: list[tuple[int, int]], start: int, end: int, unfinished: bool) -> tuple[Phase, ...]:
    """Auctions where one was uncrossed, continuous trading elsewhere."""
    if unfinished:
        return (Phase(start, end, PhaseKind.AUCTION),)
    phases, at = [], start
    for begin, stop in auctions:
        begin = max(begin, at)
        if begin > at:
            phases.append(Phase(at, begin, PhaseKind.CONTINUOUS))
        if stop > begin:
            phases.append(Phase(begin, stop, PhaseKind.AUCTION))
        at = max(stop, at)
    return (*phases, Phase(at, max(end, at + 1), PhaseKind.CONTINUOUS))
