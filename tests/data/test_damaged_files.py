"""A file that is not what it should be gets an error that names file, row and reason."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
from paper_exchange import lobster_day, shanghai_day

from marsbench.data.errors import DataError
from marsbench.data.verify import verify

MESSAGE = "TEST_2012-06-21_34200000_57600000_message_5.csv"
BOOK = "TEST_2012-06-21_34200000_57600000_orderbook_5.csv"


@pytest.fixture
def folder(tmp_path) -> Path:
    return lobster_day(7, events=120, levels=5)[0].write(tmp_path / "day")


def edit(path: Path, change) -> None:
    """Change the lines of a text file, packed or not."""
    packed = path.suffix == ".gz"
    text = gzip.decompress(path.read_bytes()).decode() if packed else path.read_text()
    lines = change(text.splitlines())
    raw = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(raw) if packed else raw)


def cell(row: int, column: int, value: object):
    """Change one cell; the row counts from 1."""

    def change(lines: list[str]) -> list[str]:
        cells = lines[row - 1].split(",")
        cells[column] = str(value)
        lines[row - 1] = ",".join(cells)
        return lines

    return change


def shuffled(lines: list[str]) -> list[str]:
    head, body = lines[:1], lines[1:]
    random.Random(1).shuffle(body)
    return head + body


def raised(path: Path) -> DataError:
    with pytest.raises(DataError) as error:
        verify(path)
    assert error.value.file in str(error.value)
    if error.value.row is not None:
        assert f"row {error.value.row}" in str(error.value)
    return error.value


@pytest.mark.parametrize(
    ("file", "change", "row", "reason"),
    [
        (MESSAGE, shuffled, None, "must be in order"),
        (MESSAGE, cell(50, 0, "34200.5"), 50, "must be in order"),
        (MESSAGE, lambda lines: [",".join(reversed(x.split(","))) for x in lines], None, ""),
        (MESSAGE, lambda lines: [x + ",0" for x in lines], 1, "Expected 6 columns, got 7"),
        (MESSAGE, cell(20, 1, 9), 20, "type must be 1 to 7"),
        (MESSAGE, cell(20, 5, 0), 20, "direction must be 1 or -1"),
        (MESSAGE, cell(20, 3, -4), 20, "size must be positive"),
        (MESSAGE, cell(20, 4, "abc"), 20, "abc"),
        (MESSAGE, cell(20, 0, "90000.0"), 20, ""),
        (MESSAGE, cell(20, 0, "34201.0000000001"), 20, "more than 9 decimals"),
        (MESSAGE, lambda lines: lines[:70], 70, "truncated"),
        (BOOK, lambda lines: lines[:70], 70, "truncated"),
        (BOOK, lambda lines: [",".join(reversed(x.split(","))) for x in lines], None, ""),
        (BOOK, lambda lines: [",".join(x.split(",")[2:] + x.split(",")[:2]) for x in lines], 1, ""),
        (BOOK, shuffled, None, "do not follow from their messages"),
        (BOOK, cell(33, 3, -1), 33, "negative"),
        (BOOK, cell(33, 0, 10), 33, "crossed"),
        (BOOK, cell(33, 4, 1), 33, "sorted"),
        (BOOK, lambda lines: [x.rsplit(",", 1)[0] for x in lines], 1, "Expected 20 columns, got 19"),
    ],
)
def test_a_damaged_lobster_file_names_file_row_and_reason(folder, file, change, row, reason):
    edit(folder / file, change)
    error = raised(folder)
    assert error.file in (MESSAGE, BOOK)
    assert reason in error.reason
    assert error.row is not None
    if row is not None:
        assert error.row == row
        assert error.file == file


def test_a_lobster_row_cut_in_the_middle_is_truncated(folder):
    for name in (MESSAGE, BOOK):
        path = folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-3])
        assert "truncated" in raised(folder).reason
        assert raised(folder).row == whole.count(b"\n")
        path.write_bytes(whole)


def test_an_empty_lobster_file_is_said_to_be_empty(folder):
    (folder / MESSAGE).write_text("")
    assert raised(folder).reason == "the file is empty"


def test_lobster_files_of_two_days_are_not_mixed(folder):
    (folder / BOOK).rename(folder / BOOK.replace("06-21", "06-22"))
    assert "not the same day" in raised(folder).reason


def test_a_lobster_file_without_its_partner_says_which_is_missing(folder):
    (folder / BOOK).unlink()
    assert "orderbook" in raised(folder / MESSAGE).reason
    assert "orderbook" in raised(folder).reason


def test_two_lobster_days_in_one_folder_are_an_error(folder):
    for name in (MESSAGE, BOOK):
        (folder / name.replace("06-21", "06-22")).write_bytes((folder / name).read_bytes())
    assert "exactly one" in raised(folder).reason


def test_a_damaged_zip_is_said_to_be_damaged(tmp_path):
    path = lobster_day(7, events=60)[0].write_zip(tmp_path / "day.zip")
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    assert "zip" in raised(path).reason
    middle = bytearray(raw)
    for at in range(200, 260):
        middle[at] ^= 0xFF
    path.write_bytes(bytes(middle))
    assert "zip" in raised(path).reason


@pytest.fixture(params=["exchange", "vendor"])
def orders(request, tmp_path) -> Path:
    return shanghai_day(tmp_path / "day", 4, layout=request.param, events=60)


def columns(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().split("\n", 1)[0].split(",")


@pytest.mark.parametrize("what", ["orders", "trades"])
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("shuffle", "must be in order"),
        ("header", "header"),
        ("empty", "empty"),
        ("only header", "no row"),
        ("archive", "gzip"),
        ("row", "Expected"),
        ("price", "price in ticks must be positive"),
        ("text", "abc"),
        ("half a tick", "more than 2 decimals"),
    ],
)
def test_a_damaged_shanghai_file_names_file_row_and_reason(orders, what, damage, reason):
    path = orders.with_name(orders.name.replace("orders", what))
    names = columns(path)
    price = next(k for k, n in enumerate(names) if n in ("Price", "LastPx", "OrderPrice", "TradePrice"))
    row = None
    if damage == "shuffle":
        edit(path, shuffled)
    elif damage == "header":
        edit(path, lambda lines: [lines[0].replace(names[price], "Nonsense"), *lines[1:]])
        row = 1
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "only header":
        edit(path, lambda lines: lines[:1])
    elif damage == "archive":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "row":
        edit(path, lambda lines: [*lines[:9], lines[9].rsplit(",", 2)[0], *lines[10:]])
        row = 10
    else:
        edit(path, cell(12, price, {"price": 0, "text": "abc", "half a tick": 50.005}[damage]))
        row = 12
    error = raised(orders)
    assert error.file == path.name
    assert reason in error.reason
    if row is not None:
        assert error.row == row


def test_shanghai_times_out_of_order_name_the_row(orders):
    lines = gzip.decompress(orders.read_bytes()).decode().splitlines()
    at = next(k for k, n in enumerate(columns(orders)) if n in ("TransactTime", "MDTime"))
    edit(orders, cell(30, at, lines[1].split(",")[at]))
    error = raised(orders)
    assert (error.file, error.row) == (orders.name, 30)


def test_a_shanghai_file_of_mixed_days_names_the_row(tmp_path):
    orders = shanghai_day(tmp_path, 4, layout="vendor", events=60)
    edit(orders, cell(25, 0, "2023.07.12"))
    error = raised(orders)
    assert (error.row, "mixed days" in error.reason) == (25, True)


def test_a_shanghai_file_of_another_instrument_names_the_row(tmp_path):
    orders = shanghai_day(tmp_path, 4, layout="vendor", events=60)
    edit(orders, cell(25, len(columns(orders)) - 1, "600001.SH"))
    assert raised(orders).row == 25


def test_unknown_codes_name_the_row_and_what_is_allowed(tmp_path):
    orders = shanghai_day(tmp_path, 4, layout="exchange", events=60)
    edit(orders, cell(25, 4, "M"))
    error = raised(orders)
    assert (error.row, "OrdType must be one of ['A', 'D']" in error.reason) == (25, True)


def test_trades_of_another_day_do_not_fit_the_orders(tmp_path):
    orders = shanghai_day(tmp_path / "a", 4, layout="exchange", events=60)
    other = shanghai_day(tmp_path / "b", 5, layout="exchange", events=60)
    name = orders.name.replace("orders", "trades")
    (orders.parent / name).write_bytes((other.parent / name).read_bytes())
    assert raised(orders).row is not None


def test_a_trade_file_shorter_than_the_snapshots_count_is_truncated(tmp_path):
    orders = shanghai_day(tmp_path, 4, layout="exchange", events=60)
    edit(orders.with_name(orders.name.replace("orders", "trades")), lambda lines: lines[:20])
    error = raised(orders)
    assert "truncated" in error.reason
    assert "snapshots" in error.file


def test_snapshots_of_another_instrument_or_day_are_refused(tmp_path):
    orders = shanghai_day(tmp_path, 4, layout="exchange", events=60)
    pictures = orders.with_name(orders.name.replace("orders", "snapshots"))
    whole = pictures.read_bytes()
    edit(pictures, shuffled)
    assert "must be in order" in raised(orders).reason
    pictures.write_bytes(whole)
    for column, value, reason in ((0, 600001, "SecurityID"), (2, 49990, "mixed days"), (4, 50005, "off the tick")):
        edit(pictures, cell(6, column, value))
        error = raised(orders)
        assert (error.file, error.row, reason in error.reason) == (pictures.name, 6, True)
        pictures.write_bytes(whole)


def test_a_missing_trade_file_is_named(tmp_path):
    orders = shanghai_day(tmp_path, 4, layout="exchange", events=60)
    orders.with_name(orders.name.replace("orders", "trades")).unlink()
    assert "_trades.csv.gz" in raised(orders).reason


def test_a_folder_with_several_days_asks_for_one(tmp_path):
    shanghai_day(tmp_path, 4, layout="exchange", events=20)
    shanghai_day(tmp_path, 4, layout="vendor", events=20)
    assert "2 days" in raised(tmp_path).reason
