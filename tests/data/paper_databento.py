"""A small writer of Databento's MBO records, as DBN and as CSV, and a slow exchange's day told by them."""

from __future__ import annotations

import datetime
import gzip
import struct
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import databento_dbn as dbn
import numpy as np
import pyarrow as pa
from paper_exchange import ASK, BID, Exchange, random_event

SECOND = 10**9
MIDNIGHT = int(np.datetime64("2023-12-26T06:00:00", "ns").astype(np.int64))
"""Midnight in Chicago."""
LAST, SNAPSHOT = 128, 32
ES, NQ = 17077, 750
SIDES = {ASK: "A", BID: "B"}
HEADER = (
    "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,price,size,channel_id,order_id,flags,"
    "ts_in_delta,sequence,symbol\n"
)


@dataclass
class Record:
    """One record; the price is in quarters of a point."""

    action: str
    side: str
    quarters: int
    size: int
    order_id: int
    time_ns: int
    """Since midnight in Chicago."""
    flags: int = LAST
    instrument_id: int = ES

    @property
    def ts(self) -> int:
        return MIDNIGHT + self.time_ns

    @property
    def price(self) -> int:
        return self.quarters * 250_000_000


def dbn_bytes(records: list[Record], *, schema: str = "mbo", symbols: dict[int, str] | None = None) -> bytes:
    symbols = {ES: "ESH4", NQ: "NQH4"} if symbols is None else symbols
    day = datetime.date(2023, 12, 26)
    mappings = [
        SimpleNamespace(
            raw_symbol=symbol,
            intervals=[SimpleNamespace(start_date=day, end_date=day + datetime.timedelta(1), symbol=str(number))],
        )
        for number, symbol in symbols.items()
    ]
    metadata = dbn.Metadata(
        dataset="GLBX.MDP3", start=MIDNIGHT, stype_in=dbn.SType.RAW_SYMBOL, stype_out=dbn.SType.INSTRUMENT_ID,
        schema=dbn.Schema.from_str(schema), symbols=list(symbols.values()), mappings=mappings,
    )  # fmt: skip
    return bytes(metadata) + b"".join(
        struct.pack(
            "<BBHIQQqIBBccQiI", 14, 160, 1, r.instrument_id, r.ts, r.order_id, r.price, r.size, r.flags, 0,
            r.action.encode(), r.side.encode(), r.ts, 0, k,
        )
        for k, r in enumerate(records)
    )  # fmt: skip


def csv_text(records: list[Record], *, pretty: bool = False) -> str:
    lines = [HEADER]
    for k, r in enumerate(records):
        time = f"{np.datetime64(r.ts, 'ns')}Z" if pretty else str(r.ts)
        price = f"{r.quarters * 25 // 100}.{r.quarters * 25 % 100:02d}0000000" if pretty else str(r.price)
        symbol = "ESH4" if r.instrument_id == ES else "NQH4"
        cells = [time, time, 160, 1, r.instrument_id, r.action, r.side, price, r.size, 0, r.order_id, r.flags, 0, k]
        lines.append(",".join(map(str, [*cells, symbol])) + "\n")
    return "".join(lines)


def write(folder: Path, records: list[Record], name: str = "day.dbn", **options: object) -> Path:
    """Write records as the name says: DBN or CSV, plain, ``.zst`` or ``.gz``."""
    content = csv_text(records, **options).encode() if ".csv" in name else dbn_bytes(records, **options)
    return pack(folder / name, content)


def pack(path: Path, content: bytes) -> Path:
    if path.suffix == ".zst":
        content = pa.Codec("zstd").compress(content, asbytes=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def tiny_day() -> list[Record]:
    """A snapshot, and one event of every kind that CME's feed knows."""
    s = SECOND
    event = 0
    return [
        Record("A", "B", 19200, 5, 1, 0, SNAPSHOT),
        Record("A", "A", 19204, 4, 2, 0, SNAPSHOT | LAST),
        Record("A", "B", 19203, 3, 3, 1 * s),  # a new order
        Record("A", "A", 19205, 6, 4, 2 * s),
        Record("A", "A", 19204, 1, 5, 3 * s),
        Record("T", "B", 19204, 5, 6, 4 * s, event),  # a buyer takes two sellers at 19204 and a part of one at 19205
        Record("F", "A", 19204, 4, 2, 4 * s, event),
        Record("F", "A", 19204, 1, 5, 4 * s, event),
        Record("T", "B", 19205, 2, 6, 4 * s, event),
        Record("F", "A", 19205, 2, 4, 4 * s, event),
        Record("C", "A", 19204, 4, 2, 4 * s, event),
        Record("C", "A", 19204, 1, 5, 4 * s, event),
        Record("M", "A", 19205, 4, 4, 4 * s),
        Record("T", "A", 19203, 3, 7, 5 * s, event),  # a seller takes all at 19203, and his rest of 2 rests there
        Record("F", "B", 19203, 3, 3, 5 * s, event),
        Record("C", "B", 19203, 3, 3, 5 * s, event),
        Record("A", "A", 19203, 2, 7, 5 * s),
        Record("M", "A", 19203, 1, 7, 6 * s),  # smaller: keeps its place
        Record("M", "A", 19206, 1, 7, 7 * s),  # moved: loses it
        Record("A", "B", 19200, 1, 8, 8 * s),
        Record("T", "A", 19200, 9, 9, 9 * s, event),  # an iceberg: 5 shown, 8 traded, 4 shown afterwards
        Record("F", "B", 19200, 1, 8, 9 * s, event),
        Record("F", "B", 19200, 8, 1, 9 * s, event),
        Record("C", "B", 19200, 1, 8, 9 * s, event),
        Record("M", "B", 19200, 4, 1, 9 * s),
        Record("A", "B", 19206, 1, 10, 10 * s, event),  # self-match prevention: what stood in the way goes
        Record("C", "A", 19205, 4, 4, 10 * s, event),
        Record("C", "A", 19206, 1, 7, 10 * s),
        Record("A", "A", 19210, 2, 11, 11 * s),
        Record("T", "A", 19206, 1, 11, 12 * s, event),  # a resting seller moves to where he trades
        Record("F", "A", 19206, 1, 11, 12 * s, event),
        Record("F", "B", 19206, 1, 10, 12 * s, event),
        Record("C", "B", 19206, 1, 10, 12 * s, event),
        Record("M", "A", 19206, 1, 11, 12 * s),
        Record("C", "B", 19200, 3, 1, 13 * s),  # a part is cancelled
    ]


def auction_day() -> list[Record]:
    """Orders cross before the opening; one that was never shown trades too."""
    s = SECOND
    return [
        Record("A", "B", 19201, 5, 1, 1 * s),
        Record("A", "A", 19199, 3, 2, 2 * s),
        Record("A", "A", 19200, 4, 3, 3 * s),
        Record("T", "N", 19200, 7, 0, 60 * s, 0),
        Record("F", "N", 19200, 5, 1, 60 * s, 0),
        Record("F", "N", 19200, 3, 2, 60 * s, 0),
        Record("F", "N", 19200, 2, 4, 60 * s, 0),
        Record("F", "N", 19200, 4, 3, 60 * s, 0),
        Record("C", "B", 19201, 5, 1, 60 * s, 0),
        Record("C", "A", 19199, 3, 2, 60 * s, 0),
        Record("C", "A", 19200, 4, 3, 60 * s),
        Record("A", "B", 19198, 1, 5, 61 * s),
    ]


def random_day(seed: int, *, events: int = 300) -> list[Record]:
    """What a slow exchange would publish of random orders."""
    rng = np.random.default_rng(seed)
    exchange, out, time, mid, next_id = Exchange(), [], 0, 19200, 1
    for _ in range(events):
        time += int(rng.integers(1, SECOND))
        if rng.random() < 0.05:
            mid += int(rng.integers(-3, 4))
        kind, first, price, size = random_event(rng, exchange, mid)
        if kind == "cancel":
            side, level, left = exchange.live[first]
            if size < left and rng.random() < 0.5:
                exchange.take(first, size)
                out.append(Record("M", SIDES[side], level, left - size, first, time))
            elif rng.random() < 0.3:  # more shares or farther away: to the back of the queue
                level += int(rng.integers(0, 3)) * (1 if side == ASK else -1)
                del exchange.live[first]
                exchange.live[first] = [side, level, left + 1]
                out.append(Record("M", SIDES[side], level, left + 1, first, time))
            else:
                exchange.take(first, size)
                out.append(Record("C", SIDES[side], level, size, first, time))
            continue
        side, before = first, {i: z for i, (_, _, z) in exchange.live.items()}
        fills = list(exchange.fills(side, price, size))
        for resting, level, part in fills:
            out.append(Record("T", SIDES[side], level, part, next_id, time, 0))
            out.append(Record("F", SIDES[1 - side], level, part, resting, time, 0))
        for resting, level, part in fills:
            gone = part == before[resting]
            left = part if gone else before[resting] - part
            out.append(Record("C" if gone else "M", SIDES[1 - side], level, left, resting, time, 0))
        if (left := size - sum(part for *_, part in fills)) > 0:
            exchange.live[next_id] = [side, price, left]
            out.append(Record("A", SIDES[side], price, left, next_id, time, 0))
        out[-1].flags = LAST
        next_id += 1
    return out
