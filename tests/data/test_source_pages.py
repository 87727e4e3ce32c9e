"""The pages on LOBSTER and Shanghai name their error cases with the messages that the readers give, and no others."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import FOLDER, error_table
from paper_exchange import lobster_day, shanghai_day
from test_damaged_files import BOOK, MESSAGE, cell, columns, edit, shuffled

from marsbench.data.errors import DataError
from marsbench.data.sources import SOURCES
from marsbench.data.verify import verify

Damage = Callable[[Path], Path | None]
"""Damages a good day in a folder; may return another path to read than the folder."""


def rows(file: str, change: Callable[[list[str]], list[str]]) -> Damage:
    return lambda folder: edit(folder / file, change)


def cut(file: str, count: int) -> Damage:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:-count]) and None


def reversed_columns(lines: list[str]) -> list[str]:
    return [",".join(reversed(line.split(","))) for line in lines]


def rename(old: str, new: str) -> Damage:
    return lambda folder: (folder / old).rename(folder / new) and None


def broken_zip(folder: Path) -> Path:
    path = lobster_day(7, events=60)[0].write_zip(folder / "day.zip")
    path.write_bytes(path.read_bytes()[:-100])
    return path


def second_day(folder: Path) -> None:
    for name in (MESSAGE, BOOK):
        (folder / name.replace("06-21", "06-22")).write_bytes((folder / name).read_bytes())


LOBSTER: dict[str, Damage] = {
    "no such file": lambda folder: folder / "nothing.zip",
    "the order book file is missing": lambda folder: (folder / BOOK).unlink(),
    "one file given, its partner is missing": lambda folder: (folder / BOOK).unlink() or folder / MESSAGE,
    "two days in one folder": second_day,
    "the two files are of different days": rename(BOOK, BOOK.replace("06-21", "06-22")),
    "an empty file": lambda folder: (folder / MESSAGE).write_text("") and None,
    "a zip archive cut off": broken_zip,
    "a row cut off": cut(MESSAGE, 3),
    "one file shorter than the other": rows(MESSAGE, lambda lines: lines[:70]),
    "a column too many": rows(MESSAGE, lambda lines: [line + ",0" for line in lines]),
    "a value that is no number": rows(MESSAGE, cell(20, 4, "abc")),
    "a time finer than a nanosecond": rows(MESSAGE, cell(20, 0, "34201.0000000001")),
    "a time outside the period of the name": rows(MESSAGE, cell(20, 0, "90000.0")),
    "rows out of order": rows(MESSAGE, cell(50, 0, "34200.5")),
    "an unknown type": rows(MESSAGE, cell(20, 1, 9)),
    "a direction that is none": rows(MESSAGE, cell(20, 5, 0)),
    "a negative size": rows(MESSAGE, cell(20, 3, -4)),
    "a price of zero": rows(MESSAGE, cell(20, 4, 0)),
    "an order without id": rows(MESSAGE, cell(20, 2, 0)),
    "a negative size in the book": rows(BOOK, cell(33, 3, -1)),
    "a level with a size and no price": rows(BOOK, cell(33, 0, 9999999999)),
    "levels not sorted": rows(BOOK, cell(33, 4, 1)),
    "a crossed book": rows(BOOK, cell(33, 0, 10)),
    "books of another order than the messages": rows(BOOK, shuffled),
}

ORDERS, TRADES = "600000_2023-02-07_orders.csv.gz", "600000_2023-02-07_trades.csv.gz"
SNAPSHOTS = "600000_2023-02-07_snapshots.csv.gz"


def price(file: str, value: object) -> Damage:
    return lambda folder: edit(
        folder / file, cell(12, [n in ("Price", "LastPx") for n in columns(folder / file)].index(True), value)
    )


def vendor(folder: Path) -> Path:
    """The other layout, which has columns for day and instrument."""
    for path in folder.iterdir():
        path.unlink()
    return shanghai_day(folder, 4, layout="vendor", events=60)


def vendor_cell(row: int, column: int, value: object) -> Damage:
    def damage(folder: Path) -> Path:
        path = vendor(folder)
        edit(path, cell(row, column % len(columns(path)), value))
        return path

    return damage


def both_layouts(folder: Path) -> None:
    shanghai_day(folder, 4, layout="vendor", events=20)


def trades_of_another_day(folder: Path) -> None:
    other = shanghai_day(folder.parent / "other", 5, layout="exchange", events=60)
    (folder / TRADES).write_bytes((other.parent / TRADES).read_bytes())


def early(folder: Path) -> None:
    lines = gzip.decompress((folder / ORDERS).read_bytes()).decode().splitlines()
    edit(folder / ORDERS, cell(30, 0, lines[1].split(",")[0]))


SHANGHAI: dict[str, Damage] = {
    "two days in one folder": both_layouts,
    "the trades are missing": lambda folder: (folder / TRADES).unlink(),
    "an empty file": lambda folder: (folder / TRADES).write_bytes(b"") and None,
    "only a header": rows(TRADES, lambda lines: lines[:1]),
    "an archive cut off": cut(ORDERS, 40),
    "a header of no known layout": rows(ORDERS, lambda lines: [lines[0].replace("Price", "Px"), *lines[1:]]),
    "a field is missing": rows(ORDERS, lambda lines: [*lines[:9], lines[9].rsplit(",", 1)[0], *lines[10:]]),
    "a price that is no number": price(TRADES, "abc"),
    "a price of zero": price(ORDERS, 0),
    "a price off the tick": price(ORDERS, 50.005),
    "a time that does not exist": rows(ORDERS, cell(12, 0, 99999999)),
    "times out of order": early,
    "rows out of order": rows(ORDERS, shuffled),
    "an unknown code": rows(ORDERS, cell(25, 4, "M")),
    "a row of another day": vendor_cell(25, 0, "2023.07.12"),
    "a row of another instrument": vendor_cell(25, -1, "600001.SH"),
    "trades of another day": trades_of_another_day,
    "fewer trades than the snapshots count": rows(TRADES, lambda lines: lines[:20]),
    "snapshots of another instrument": rows(SNAPSHOTS, cell(6, 0, 600001)),
    "snapshots of mixed days": rows(SNAPSHOTS, cell(6, 2, 49990)),
    "a snapshot price off the tick": rows(SNAPSHOTS, cell(6, 4, 50005)),
}
PAGES = {"lobster.md": LOBSTER, "shanghai.md": SHANGHAI}
CASES = {f"{page}: {what}": damage for page, cases in PAGES.items() for what, damage in cases.items()}


def good(page: str, folder: Path) -> Path:
    if page == "lobster.md":
        return lobster_day(7, events=120, levels=5)[0].write(folder / "day")
    return shanghai_day(folder / "day", 4, layout="exchange", events=60).parent


def message(case: str, folder: Path) -> str:
    path = good(case.split(": ")[0], folder)
    path = CASES[case](path) or path
    with pytest.raises(DataError) as caught:
        verify(path)
    return str(caught.value)


@pytest.mark.parametrize("case", CASES)
def test_an_error_case_gives_the_message_of_its_page(tmp_path, case):
    page, what = case.split(": ", 1)
    assert message(case, tmp_path) == error_table(page)[what]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_lists_these_error_cases_and_no_other(page):
    assert list(error_table(page)) == list(PAGES[page])


def test_every_source_has_a_page_that_the_index_links_to():
    index = (FOLDER / "README.md").read_text()
    for name in SOURCES:
        assert (FOLDER / f"{name}.md").exists()
        assert f"]({name}.md)" in index
