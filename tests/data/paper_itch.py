"""A small writer of NASDAQ ITCH 5.0, and a slow exchange's day written as ITCH and as LOBSTER.

It shares no code with the library: layouts are given as format strings, field by field.
"""

from __future__ import annotations

import struct

import numpy as np
from paper_exchange import ASK, BID, Exchange, LobsterFile, random_event

FORMATS = {
    "S": "c", "R": "8sccIcc2scccccIc", "H": "8scc4s", "Y": "8sc", "L": "4s8sccc", "V": "QQQ", "W": "c", "K": "8sIcI",
    "J": "8sIIII", "h": "8scc", "A": "QcI8sI", "F": "QcI8sI4s", "E": "QIQ", "C": "QIQcI", "X": "QI", "D": "Q",
    "U": "QQII", "P": "QcI8sIQ", "Q": "Q8sIQc", "B": "Q", "I": "QQc8sIIIcc", "N": "8sc", "O": "8scIIIQII",
}  # fmt: skip
"""What follows the head of each message: type, stock locate, tracking number, six bytes of time."""
OPEN = 34_200 * 10**9


def message(kind: str, time_ns: int, *fields: object, locate: int = 1) -> bytes:
    """One message with its length in front; text is padded with blanks."""
    parts = struct.Struct(">" + FORMATS[kind])
    sizes = [int(n or 1) for n, code in _codes(FORMATS[kind]) if code in "sc"]
    texts = iter(sizes)
    padded = [field.encode().ljust(next(texts)) if isinstance(field, str) else field for field in fields]
    body = kind.encode() + struct.pack(">HH", locate, 0) + time_ns.to_bytes(6, "big") + parts.pack(*padded)
    return struct.pack(">H", len(body)) + body


def _codes(text: str) -> list[tuple[str, str]]:
    out, number = [], ""
    for letter in text:
        if letter.isdigit():
            number += letter
        else:
            out.append((number, letter))
            number = ""
    return out


def directory(stock: str = "TEST", *, locate: int = 1) -> bytes:
    return message(
        "R", 3 * 3600 * 10**9, stock, "Q", "N", 100, "N", "C", "Z", "P", "N", "N", "1", "N", 0, "N", locate=locate
    )


def side(which: int) -> str:
    return "B" if which == BID else "S"


def twin_days(seed: int, *, events: int = 200) -> tuple[bytes, LobsterFile]:
    """A random day as ITCH and as LOBSTER. The LOBSTER file shows every level."""
    rng = np.random.default_rng(seed)
    exchange, lobster, out = Exchange(), LobsterFile(60), [message("S", 3 * 3600 * 10**9, "O", locate=0), directory()]
    next_id, match, time, mid = 1, 1, OPEN, 1000
    lobster.add(time, 7, 0, 0, 1, -1, lobster.book(exchange))

    def row(kind: int, order_id: int, size: int, price: int, which: int) -> None:
        direction = 1 if which == BID else -1
        lobster.add(time, kind, order_id, size, price * 100, direction, lobster.book(exchange))

    def rest(order_id: int, which: int, price: int, size: int) -> None:
        exchange.live[order_id] = [which, price, size]
        row(1, order_id, size, price, which)

    for _ in range(events):
        time += int(rng.integers(1, 30_000_000_000))
        if rng.random() < 0.05:
            mid += int(rng.integers(-3, 4))
        kind, first, price, size = random_event(rng, exchange, mid)
        if kind == "cancel":
            which, level, left = exchange.live[first]
            exchange.take(first, size)
            row(3 if size == left else 2, first, size, level, which)
            if size < left:
                out.append(message("X", time, first, size))
            elif rng.random() < 0.5:
                out.append(message("D", time, first))
            else:  # replaced: farther from the touch, so that it cannot trade
                moved = level + int(rng.integers(1, 5)) * (1 if which == ASK else -1)
                rest(next_id, which, moved, size)
                out.append(message("U", time, first, next_id, size, moved * 100))
                next_id += 1
            continue
        which, traded = first, 0
        for resting, level, part in exchange.fills(which, price, size):
            traded += part
            row(4, resting, part, level, 1 - which)
            out.append(message("E", time, resting, part, match))
            match += 1
        if traded < size:
            rest(next_id, which, price, size - traded)
            fields = (next_id, side(which), size - traded, "TEST", price * 100)
            out.append(message("F", time, *fields, "ABCD") if rng.random() < 0.2 else message("A", time, *fields))
        next_id += 1
    return b"".join(out), lobster


def every_message() -> list[bytes]:
    """A day in which every message type of ITCH 5.0 occurs, with a halt and crosses."""
    t = OPEN
    early = 4 * 3600 * 10**9
    return [
        message("S", 3 * 3600 * 10**9, "O", locate=0),
        directory("TEST"),
        directory("OTHR", locate=2),
        message("H", early, "TEST", "T", " ", ""),
        message("Y", early, "TEST", "0"),
        message("L", early, "ABCD", "TEST", "Y", "N", "A"),
        message("V", early, 9 * 10**8, 8 * 10**8, 7 * 10**8, locate=0),
        message("W", early, "1", locate=0),
        message("K", early, "TEST", 34_500, "A", 100_000),
        message("J", early, "TEST", 100_000, 105_000, 95_000, 0),
        message("h", early, "TEST", "Q", "H"),
        message("N", early, "TEST", "A"),
        message("O", early, "TEST", "Y", 90_000, 110_000, 100_000, early, 95_000, 105_000),
        message("A", t, 1, "B", 500, "TEST", 99_900),
        message("A", t, 9, "B", 500, "OTHR", 55_500, locate=2),
        message("A", t + 1, 2, "S", 300, "TEST", 100_100),
        message("F", t + 2, 3, "S", 200, "TEST", 100_100, "ABCD"),
        message("A", t + 3, 4, "S", 400, "TEST", 100_300),
        message("E", t + 4, 2, 300, 101),  # one buyer takes 300 and 100, and the rest of 50 rests
        message("E", t + 4, 3, 100, 102),
        message("E", t + 5, 3, 100, 103),
        message("A", t + 5, 5, "B", 50, "TEST", 100_100),
        message("X", t + 6, 1, 100),
        message("P", t + 7, 0, "B", 70, "TEST", 100_150, 104),  # hidden, between the ticks
        message("U", t + 8, 4, 6, 350, 100_200),
        message("C", t + 9, 6, 50, 105, "Y", 100_150),  # at a better price than the order's
        message("C", t + 10, 6, 100, 106, "Y", 100_200),  # at its own: as an E
        message("B", t + 11, 104),
        message("H", t + 20, "TEST", "H", " ", "LUDP"),
        message("A", t + 21, 7, "B", 80, "TEST", 100_400),  # crosses without trading
        message("I", t + 22, 80, 0, "N", "TEST", 100_200, 100_200, 100_200, "H", "L"),
        message("H", t + 23, "TEST", "Q", " ", "LUDP"),
        message("C", t + 24, 7, 80, 107, "N", 100_200),
        message("C", t + 24, 6, 80, 107, "N", 100_200),
        message("Q", t + 24, 80, "TEST", 100_200, 107, "H"),
        message("H", t + 25, "TEST", "T", " ", ""),
        message("E", t + 30, 5, 50, 108),
        message("D", t + 31, 1),
        message("S", t + 40, "M", locate=0),
    ]
