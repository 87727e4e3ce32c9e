"""NASDAQ TotalView-ITCH 5.0: one stock of one day's binary file, read as the orders that somebody sent.

ITCH names every displayed order and what happens to it, but no aggressive order. As in LOBSTER files
(which are made from ITCH), executions in a row at one time against one side belong to one aggressive
order, and an order added right behind them at that time, on the other side, at the worst price or beyond
is its rest. The messages mean:

- A, F: a new order. X, D: shares, or all of it, are cancelled. U: the old order goes, a new one with a new
  id comes to the back of its level.
- E: an execution at the order's price. C: at another price; that does not come from an aggressive order (it
  comes from a cross), so the shares go as a cancel and are counted in ``facts``; likewise
  executions while trading is halted.
- P, Q, B: hidden executions, crosses and broken trades touch no displayed order; they are counted.
- H: between a halt and the resumption orders may cross without trading (a call auction for our rules).
- all others say nothing about orders; they are parsed (``itch_file``) and counted.

The file does not say its date: it is taken from the name (``01302020.NASDAQ_ITCH50``, ``S013020-v50.txt``,
or any with YYYY-MM-DD that ends in ``.itch``), or from an option.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import date as Date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data.day import VenueDay
from marsbench.data.errors import DataError
from marsbench.data.itch_file import Messages, read_messages
from marsbench.data.itch_orders import Rebuilder
from marsbench.data.lobster import EXTENDED_NS
from marsbench.market.rules import NASDAQ, MatchingRules, Phase, PhaseKind
from marsbench.market.trajectory import BookState

_NAMES = (
    (re.compile(r"(?P<m>\d\d)(?P<d>\d\d)(?P<y>\d{4})\.[A-Z]+_ITCH50(\.gz)?$"), 0),
    (re.compile(r"S(?P<m>\d\d)(?P<d>\d\d)(?P<y>\d\d)-v50(\.txt)?(\.gz)?$"), 2000),
    (re.compile(r"(?P<y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d).*\.itch(50)?(\.gz)?$"), 0),
    (re.compile(r"\.itch(50)?(\.gz)?$"), 0),
)
_COUNTED = {
    "P": "hidden_executions", "Q": "cross_trades", "B": "broken_trades", "H": "trading_actions",
    "I": "imbalance_messages", "C": "executions_at_another_price",
}  # fmt: skip


def claims(path: Path) -> bool:
    """Whether a file has the name of an ITCH 5.0 file."""
    return path.is_file() and any(pattern.search(path.name) for pattern, _ in _NAMES)


def read(
    path: str | Path, *, instrument: str | None = None, date: str | None = None, tick: str | None = None,
    levels: int = 10,
) -> VenueDay:  # fmt: skip
    """One stock's day in an ITCH 5.0 file, plain or ``.gz``.

    Parameters
    ----------
    path
        The file.
    instrument
        The stock; may be left out where the file holds one.
    date
        Trading date as YYYY-MM-DD; None takes it from the name of the file.
    tick
        ``"0.01"`` or ``"0.0001"``. None: a cent, unless a displayed order of the day stands between cents.
    levels
        Depth of the books that ``verify`` compares.

    Raises
    ------
    DataError
        If the file is damaged, truncated, out of order, or contradicts itself.
    ValueError
        For an option that does not fit.
    """
    path = Path(path)
    day = _date(path.name, date)
    messages = read_messages(path, instrument)
    _check(messages, path.name)
    rows = _rows(messages)
    size, unit = _tick(rows, messages, tick, path.name)
    rebuilder = Rebuilder(rows, messages, path.name, unit=unit, levels=levels)
    rebuilder.run()
    stream, time = rebuilder.stream, messages.time_ns
    at = np.isin(messages.type, list("AFECXDUPQ"))
    if not at.any():
        raise DataError(path.name, f"holds no order of {messages.stock!r}")
    rules = _rules(int(time[at].min()), int(time[at].max()), size, rebuilder.halts)
    result = stream.result()
    kinds = Counter(messages.type.tolist())
    facts: dict[str, Any] = {name: kinds.get(kind, 0) for kind, name in _COUNTED.items()}
    facts |= {"messages": {kind: kinds[kind] for kind in sorted(kinds)}, **stream.facts}
    start, end = rules.phases[0].start_ns, rules.phases[-1].end_ns
    return VenueDay(
        source="itch",
        file=path.name,
        instrument=messages.stock,
        date=day,
        rules=rules,
        start_ns=start,
        end_ns=end,
        book=BookState(next_id=stream.fresh_id, time_ns=start),
        deleted_ids=np.setdiff1d(rows["order"][rows["order"] > 0], result["resting_at_end"]["order_id"]),
        facts=facts,
        **result,
    )


def _date(file: str, given: str | None) -> str:
    if given is not None:
        return Date.fromisoformat(given).isoformat()
    for pattern, century in _NAMES:
        found = pattern.search(file)
        if found and found.groupdict():
            year, month, day = (int(found[k]) for k in "ymd")
            try:
                return Date(year + century, month, day).isoformat()
            except ValueError as error:
                raise DataError(file, f"its name holds no date ({error}); give one with the option date") from error
    raise DataError(file, "its name holds no date; give one with the option date, such as 2020-01-30")


def _check(messages: Messages, file: str) -> None:
    back = np.flatnonzero(np.diff(messages.time_ns) < 0)
    if len(back):
        at = int(back[0]) + 1
        raise DataError(
            file, f"time goes back from {messages.time_ns[at - 1]} to {messages.time_ns[at]} ns (shuffled file?)",
            row=int(messages.number[at]),
        )  # fmt: skip
    if (messages.time_ns >= 86_400 * 10**9).any():
        at = int(np.argmax(messages.time_ns >= 86_400 * 10**9))
        raise DataError(file, f"time {messages.time_ns[at]} ns lies beyond midnight", row=int(messages.number[at]))


def _rows(messages: Messages) -> dict[str, NDArray[np.int64]]:
    """The fields that orders need, one entry for each message; 0 where it has none."""
    rows = {name: np.zeros(len(messages.type), np.int64) for name in ("order", "new_order", "side", "shares", "price")}
    for kind, table in messages.tables.items():
        at = messages.type == kind
        for name in rows.keys() & set(table.dtype.names or ()):
            rows[name][at] = table[name] == b"B" if name == "side" else table[name].astype(np.int64)
    return rows


def _tick(rows: dict[str, NDArray[np.int64]], messages: Messages, tick: str | None, file: str) -> tuple[str, int]:
    """Tick size, and what it is worth in 1e-4 dollar."""
    resting = np.isin(messages.type, list("AFU"))
    between = resting & (rows["price"] % 100 != 0)
    if tick not in (None, "0.01", "0.0001"):
        raise ValueError(f"option tick={tick!r}: must be 0.01 or 0.0001")
    if tick == "0.01" and between.any():
        at = int(np.argmax(between))
        price = f"{rows['price'][at] / 10_000:.4f}"
        raise DataError(
            file, f"price {price} lies between cents; leave the option tick out or set it to 0.0001",
            row=int(messages.number[at]),
        )  # fmt: skip
    return ("0.0001", 1) if tick == "0.0001" or between.any() else ("0.01", 100)


def _rules(first: int, last: int, tick: str, halts: list[tuple[int, int]]) -> MatchingRules:
    """NASDAQ's rules over the regular session, or the extended one if orders lie outside."""
    session = NASDAQ.phases[0]
    rules = replace(NASDAQ, tick_size=tick)
    if first < session.start_ns or last >= session.end_ns:
        begin, end = min(EXTENDED_NS[0], first), max(EXTENDED_NS[1], last + 1)
        session = Phase(begin, end, PhaseKind.CONTINUOUS)
        rules = replace(rules, name="NASDAQ_EXTENDED", phases=(session,))
    phases, at = [], session.start_ns
    for begin, stop in halts:
        begin, stop = max(begin, at), min(stop, session.end_ns)
        if begin < stop:
            phases += [Phase(at, begin, PhaseKind.CONTINUOUS)] if begin > at else []
            phases.append(Phase(begin, stop, PhaseKind.AUCTION))
            at = stop
    if at < session.end_ns:
        phases.append(Phase(at, session.end_ns, PhaseKind.CONTINUOUS))
    return replace(rules, phases=tuple(phases))
