"""The pages on Databento and ITCH: every error is worded as they say, and their commands run."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pages import block, error_table
from paper_databento import (
    NQ,
    Record,
    auction_day,
    csv_text,
    dbn_bytes,
    pack,
    tiny_day,
)
from paper_itch import OPEN, directory, every_message, message

from marsbench.cli import main
from marsbench.data import sources


def records(*, at: int, **change: object) -> list[Record]:
    """The small day with one record changed."""
    day = tiny_day()
    day[at] = replace(day[at], **change)
    return day


def csv(row: int, column: int, value: object) -> bytes:
    """The small day as CSV with one cell changed; rows count from 1, the header included."""
    lines = [line.split(",") for line in csv_text(tiny_day()).splitlines()]
    lines[row - 1][column] = str(value)
    return "".join(",".join(line) + "\n" for line in lines).encode()


PLAIN = dbn_bytes(tiny_day())
SHORT = [directory(), message("A", OPEN, 1, "B", 100, "TEST", 99_900)]
UNKNOWN = struct.pack(">H", 12) + b"Z" + b"\0" * 11
ITCH_NAME = "01302020.NASDAQ_ITCH50"
Case = tuple[str, bytes, dict[str, str]]
"""File name, content before it is packed, options."""

DATABENTO: dict[str, Callable[[], Case]] = {
    "an empty file": lambda: ("day.dbn", b"", {}),
    "not DBN": lambda: ("day.dbn", b"ts_recv,ts_event\n" * 9, {}),
    "a newer version of DBN": lambda: ("day.dbn", b"DBN\x09" + PLAIN[4:], {}),
    "the header is cut": lambda: ("day.dbn", PLAIN[:40], {}),
    "a record is cut": lambda: ("day.dbn", PLAIN[:-10], {}),
    "not compressed as named": lambda: ("day.dbn.zst", PLAIN, {"packed": "no"}),
    "a compressed file is cut": lambda: ("day.dbn.zst", PLAIN, {"packed": "cut"}),
    "another schema": lambda: ("day.dbn", dbn_bytes([], schema="trades"), {}),
    "no record": lambda: ("day.dbn", dbn_bytes([]), {}),
    "several instruments": lambda: (
        "day.dbn", dbn_bytes([*tiny_day(), Record("A", "B", 70000, 1, 1, 10**12, instrument_id=NQ)]), {},
    ),
    "an unknown instrument": lambda: ("day.dbn", PLAIN, {"instrument": "ESM4"}),
    "an unknown action": lambda: ("day.dbn", dbn_bytes(records(at=3, action="Z")), {}),
    "an order without a side": lambda: ("day.dbn", dbn_bytes(records(at=3, side="N")), {}),
    "sums instead of orders": lambda: ("day.dbn", dbn_bytes(records(at=3, flags=128 | 64)), {}),
    "a size of 0": lambda: ("day.dbn", dbn_bytes(records(at=3, size=0)), {}),
    "records out of order": lambda: ("day.dbn", dbn_bytes(records(at=3, time_ns=0)), {}),
    "a cancel of an unknown order": lambda: ("day.dbn", dbn_bytes(records(at=34, order_id=99)), {}),
    "a modify of an unknown order": lambda: ("day.dbn", dbn_bytes(records(at=17, order_id=99)), {}),
    "a cancel of more than rests": lambda: ("day.dbn", dbn_bytes(records(at=34, size=7)), {}),
    "a fill of an unknown order": lambda: ("day.dbn", dbn_bytes(records(at=6, order_id=99)), {}),
    "a fill without a trade": lambda: ("day.dbn", dbn_bytes(records(at=13, action="N")), {}),
    "an order that is added twice": lambda: ("day.dbn", dbn_bytes(records(at=3, order_id=3)), {}),
    "the last event has no end": lambda: ("day.dbn", dbn_bytes(tiny_day()[:10]), {}),
    "the snapshot has no end": lambda: ("day.dbn", dbn_bytes(tiny_day()[:1]), {}),
    "a tick that does not fit": lambda: ("day.dbn", PLAIN, {"tick": "0.5"}),
    "CSV: a price that is no number": lambda: ("day.csv", csv(4, 7, "4800,25".replace(",", ";")), {}),
    "CSV: a text instead of a number": lambda: ("day.csv", csv(5, 8, "six"), {}),
    "CSV: only the header": lambda: ("day.csv", csv_text([]).encode(), {}),
    "CSV: the last row is cut": lambda: ("day.csv", csv_text(tiny_day()).encode()[:-4], {}),
    "CSV: an unknown publisher": lambda: ("day.csv", csv_text(tiny_day()).replace(",160,1,", ",160,77,").encode(), {}),
    "an option that does not exist": lambda: ("day.dbn", PLAIN, {"symbol": "ESH4"}),
    "a tick that is no number": lambda: ("day.dbn", PLAIN, {"tick": "quarter"}),
    "an unknown time zone": lambda: ("day.dbn", PLAIN, {"timezone": "Chicago"}),
}  # fmt: skip


def itch(*messages: bytes, **options: str) -> Callable[[], Case]:
    return lambda: (ITCH_NAME, b"".join(messages), options)


ITCH: dict[str, Callable[[], Case]] = {
    "an empty file": itch(),
    "not ITCH": itch(b"time,type,order\n" * 9),
    "an unknown type": itch(*SHORT, UNKNOWN),
    "a wrong length (another version)": itch(struct.pack(">H", 30) + b"A" + b"\0" * 29),
    "the last message is cut": itch(*SHORT[:1], SHORT[1][:-3]),
    "not compressed as named": lambda: (ITCH_NAME + ".gz", b"".join(SHORT), {"packed": "no"}),
    "a compressed file is cut": lambda: (ITCH_NAME + ".gz", b"".join(SHORT), {"packed": "cut"}),
    "no stock directory": itch(SHORT[1]),
    "several stocks": itch(*every_message()),
    "an unknown stock": itch(*every_message(), instrument="NONE"),
    "a stock without orders": itch(directory()),
    "time goes back": itch(*SHORT, message("A", OPEN - 1, 2, "B", 100, "TEST", 99_900)),
    "an execution of an unknown order": itch(*SHORT, message("E", OPEN, 7, 50, 1)),
    "a cancel of an unknown order": itch(*SHORT, message("D", OPEN, 7)),
    "a replace of an unknown order": itch(*SHORT, message("U", OPEN, 7, 8, 100, 99_900)),
    "an execution of more than rests": itch(*SHORT, message("E", OPEN, 1, 101, 1)),
    "a cancel of more than rests": itch(*SHORT, message("X", OPEN, 1, 101)),
    "an order that is added twice": itch(*SHORT, SHORT[1]),
    "a price of 0": itch(*SHORT, message("A", OPEN, 2, "B", 100, "TEST", 0)),
    "a price between cents": itch(*SHORT, message("A", OPEN, 2, "B", 1, "TEST", 99_950), tick="0.01"),
    "another tick": itch(*SHORT, tick="0.05"),
    "no date in the name": lambda: ("day.itch", b"".join(SHORT), {}),
    "an impossible date in the name": lambda: ("13302020.NASDAQ_ITCH50", b"".join(SHORT), {}),
}


def said(folder: Path, case: Case) -> str:
    """The message of the error that reading the case's file raises."""
    name, content, options = case
    packed = options.pop("packed", "yes")
    path = folder / name
    if packed == "no" or not content:
        path.write_bytes(content)
    else:
        pack(path, content)
    if packed == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError) as caught:
        sources.read(path, **options)
    return str(caught.value)


@pytest.mark.parametrize("what", DATABENTO)
def test_an_error_of_databento_files_is_worded_as_the_page_says(tmp_path, what):
    assert said(tmp_path, DATABENTO[what]()) == error_table("databento.md")[what]


@pytest.mark.parametrize("what", ITCH)
def test_an_error_of_itch_files_is_worded_as_the_page_says(tmp_path, what):
    assert said(tmp_path, ITCH[what]()) == error_table("itch.md")[what]


@pytest.mark.parametrize(("page", "cases"), [("databento.md", DATABENTO), ("itch.md", ITCH)])
def test_the_page_lists_exactly_the_cases_that_are_tested(page, cases):
    assert list(error_table(page)) == list(cases)


@pytest.mark.parametrize(
    ("page", "name", "content"),
    [
        (
            "databento.md",
            "esh4-20231226.mbo.dbn.zst",
            dbn_bytes([*auction_day(), Record("A", "B", 19190, 1, 6, 7200 * 10**9)]),
        ),
        ("itch.md", ITCH_NAME + ".gz", b"".join(every_message())),
    ],
)
def test_the_commands_of_the_page_run(tmp_path, monkeypatch, capsys, page, name, content):
    pack(tmp_path / name, content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARSBENCH_DATA_HOME", str(tmp_path / "home"))
    commands = block(page, "sh").splitlines()
    for command in commands:
        assert main(command.split()[1:]) == 0
    assert "unexplained: 0" in capsys.readouterr().out
