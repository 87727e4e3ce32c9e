"""Files of book snapshots: written and read back exactly, and every mistake is named with its row."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from markets import two_days
from marsbench.data import books
from marsbench.data.book_export import write
from marsbench.data.errors import DataError
from marsbench.data.export import to_books
from marsbench.market.books import books_of
from marsbench.market.replay import cut
from marsbench.market.rules import CONTINUOUS, MINUTE, SECOND, SSE_A_SHARE, clock

NAME = "X_2024-01-02_36000000_36060000_book_2.csv"
HEAD = "time_s,ask_price_1,ask_size_1,bid_price_1,bid_size_1,ask_price_2,ask_size_2,bid_price_2,bid_size_2\n"
GOOD = HEAD + "36000,10.02,300,10.00,100,10.03,5,9.99,200\n36030.000000001,10.02,300,10.01,100,,,10.00,100\n"


def part():
    return cut(two_days()[1], clock("10:00"), clock("10:05"))


def written(folder: Path, text: str, name: str = NAME) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
@pytest.mark.parametrize("levels", [1, 10])
def test_what_is_written_is_read_back_exactly(tmp_path, form, levels):
    [path] = to_books(part(), tmp_path, levels=levels, form=form)
    assert path.name == f"ZI-A_2024-01-03_36000000_36300000_book_{levels}.{form}"
    assert books.read(path, part().rules).content_hash() == books_of(part(), levels=levels).content_hash()


@pytest.mark.parametrize("tick", ["0.05", "0.0001", "0.25", "1", "10"])
def test_prices_are_exact_for_any_tick(tmp_path, tick):
    made = replace(books_of(part(), levels=2), rules=replace(CONTINUOUS, tick_size=tick))
    for form in ("csv", "parquet"):
        path = write(made, tmp_path, form=form)
        assert books.read(path, made.rules).content_hash() == made.content_hash()


def test_simulations_of_one_period_are_numbered_and_nothing_is_written_over(tmp_path):
    other = cut(two_days()[1], clock("10:10"), clock("10:15"))
    paths = to_books([part(), other, part()], tmp_path)
    assert [p.name.rsplit("_book_")[1] for p in paths] == ["10_0.csv", "10.csv", "10_1.csv"]
    with pytest.raises(FileExistsError, match="its own suffix or folder"):
        to_books(other, tmp_path)
    with pytest.raises(ValueError, match="whole milliseconds"):
        to_books(cut(two_days()[1], clock("10:00"), clock("10:01") + 1), tmp_path)
    with pytest.raises(ValueError, match="is no name of a book file"):
        write(replace(books_of(part()), instrument="a b"), tmp_path)
    with pytest.raises(ValueError, match="is no name of a book file"):
        write(books_of(part()), tmp_path, suffix="x", form="xlsx")


def test_a_file_by_hand_says_what_it_says(tmp_path):
    found = books.read(written(tmp_path, GOOD), SSE_A_SHARE)
    assert found.time_ns.tolist() == [36000 * SECOND, 36030 * SECOND + 1]
    assert found.books.price_ticks[0].tolist() == [[1002, 1003], [1000, 999]]
    assert found.books.size_shares[1].tolist() == [[300, 0], [100, 100]]
    assert (found.instrument, found.date, found.end_ns - found.start_ns) == ("X", "2024-01-02", MINUTE)


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.replace(",300,", ",300.0,"),
        GOOD.replace(",,,", ",nan,NaN,"),
        GOOD.replace(",,,", ",,0,"),
        GOOD.replace("time_s", '"time_s"'),
        GOOD.replace("time_s", "time_ns").replace("\n36000,", "\n36000000000000,").replace("36030.", "36030"),
        GOOD.replace("\n36000,", "\n35000,11.02,3,10.00,1,,,,\n35999.5,"),
    ],
    ids=["CRLF", "BOM", "sizes as floats", "NaN", "size 0", "quoted names", "nanoseconds", "rows before the start"],
)
def test_ways_of_writing_the_same(tmp_path, text):
    good = books.read(written(tmp_path, GOOD), SSE_A_SHARE)
    assert books.read(written(tmp_path, text), SSE_A_SHARE).content_hash() == good.content_hash()


def test_parquet_may_hold_doubles_and_columns_in_any_order(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    good = books.read(written(tmp_path, GOOD), SSE_A_SHARE)
    columns = {
        "bid_price_1": [10.00, 10.010000000000002], "bid_size_1": [100, 100], "ask_size_1": [300.0, 300.0],
        "ask_price_1": [10.02, 10.02], "ask_price_2": [10.03, None], "ask_size_2": [5.0, float("nan")],
        "bid_price_2": [9.99, 10.0], "bid_size_2": [200, 100], "time_ns": good.time_ns,
    }  # fmt: skip
    path = tmp_path / NAME.replace(".csv", "_a.parquet")
    pq.write_table(pa.table(columns), path)
    assert books.read(path, SSE_A_SHARE).content_hash() == good.content_hash()
    pq.write_table(pa.table({**columns, "ask_price_1": ["ten", "10.02"]}), path)
    with pytest.raises(DataError, match=r"_a\.parquet: a column holds something else than numbers"):
        books.read(path, SSE_A_SHARE)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="damaged or no Parquet file"):
        books.read(path, SSE_A_SHARE)


def row(text: str) -> str:
    """A good file whose second row is this one."""
    return GOOD.split("36030.")[0] + text + "\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", r"book_2\.csv: the file is empty"),
        (HEAD, "there is no row of data"),
        (GOOD[:-9], "row 3: the last row has no line end: the file is truncated"),
        (GOOD.replace("time_s", "time"), r"row 1: no column of times; the columns are \['time', 'ask_price_1'"),
        (GOOD.replace("time_s,", "time_s,time_ns,"), "row 1: both time_s and time_ns are there"),
        (GOOD.replace("bid_size_2", "bid_sizes_2"), r"for 2 levels, first 'bid_size_2' \(there is 'bid_sizes_2'"),
        (GOOD.replace("bid_size_2\n", "bid_size_2,mid\n"), r"row 1: unknown columns \['mid'\]; its name promises 2"),
        (GOOD.replace("time_s,", "time_s,bid_size_1,"), r"row 1: columns \['bid_size_1'\] stand there twice"),
        (row("36030,10.02,300,10.00"), "row 3: Expected 9 columns, got 4"),
        (row("36030,ten,300,10.00,100,,,,"), "row 3: ask_price_1: .*'ten'.*at most 9 decimals"),
        (row("36030,10.0200000001,300,10.00,100,,,,"), "row 3: ask_price_1: .*at most 9 decimals"),
        (row(",10.02,300,10.00,100,,,,"), "row 3: time_s is empty"),
        (row("35999,10.02,300,10.00,100,,,,"), r"row 3: time goes back from 36000\.0+ to 35999\.0+ s; sort the rows"),
        (row("36060.1,10.02,300,10.00,100,,,,"), "row 3: this book is of 10:01:00.1.*ends at 10:01:00; leave out"),
        (GOOD.replace("\n36000,", "\n36001,"), "row 2: the first book is of 10:00:01, but .* starts at 10:00:00"),
        (row("36030,10.025,300,10.00,100,,,,"), r"row 3: ask_price_1 10\.025 is no multiple of the tick 0\.01 of SSE"),
        (row("36030,10.02,-300,10.00,100,,,,"), "row 3: ask_size_1 is negative"),
        (row("36030,10.02,0.5,10.00,100,,,,"), "row 3: ask_size_1 is no whole number of shares"),
        (row("36030,10.02,,10.00,100,,,,"), "row 3: one of ask_price_1 and ask_size_1 is missing or 0"),
        (row("36030,10.02,0,10.00,100,,,,"), "row 3: one of ask_price_1 and ask_size_1 is missing or 0"),
        (row("36030,,300,10.00,100,,,,"), "row 3: one of ask_price_1 and ask_size_1 is missing or 0"),
        (row("36030,10.02,300,-10.00,100,,,,"), "row 3: bid_price_1 is not positive"),
        (row("36030,99999999999.02,300,10.00,100,,,,"), "row 3: a number is too large"),
        (row("36030,999999999.02,300,10.00,100,,,,"), "row 3: ask_price_1 is too large"),
        (row("36030,,,10.00,100,10.03,5,,"), "row 3: ask level 2 is there and level 1 is not"),
        (row("36030,10.02,300,10.00,100,10.02,5,,"), "row 3: ask level 2 is not above level 1"),
        (row("36030,10.02,300,10.00,100,,,10.01,5"), "row 3: bid level 2 is not below level 1"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path, text, error):
    with pytest.raises(DataError, match=error):
        books.read(written(tmp_path, text), SSE_A_SHARE)


def test_names_and_archives(tmp_path):
    with pytest.raises(DataError, match=r"the name does not say what it is; write INSTRUMENT_YYYY-MM-DD_STARTMS_ENDMS"):
        books.read(written(tmp_path, GOOD, "x.csv"), SSE_A_SHARE)
    with pytest.raises(DataError, match=r"ends \(36000000\) before it starts \(36060000\)"):
        books.read(written(tmp_path, GOOD, "X_2024-01-02_36060000_36000000_book_2.csv"), SSE_A_SHARE)
    packed = tmp_path / f"{NAME}.gz"
    packed.write_bytes(gzip.compress(GOOD.encode())[:-12])
    with pytest.raises(DataError, match="damaged or truncated gzip archive"):
        books.read(packed, SSE_A_SHARE)
    assert books.name_parts("X_2024-01-02_1_2_book_0.csv") is None
    assert books.name_parts("X_2024-01-02_1_2_orderbook_10.csv") is None
    assert books.name_parts("600519_2023-02-07_1_2_book_10_my.model-7.csv.gz")["suffix"] == "my.model-7"


def test_crossed_locked_and_one_sided_books_are_read_as_they_are(tmp_path):
    rows = ["36010,10.00,1,10.01,1,,,,", "36020,10.00,1,10.00,1,,,,", "36030,,,10.00,1,,,9.99,1", "36040,,,,,,,,"]
    found = books.read(written(tmp_path, row("\n".join(rows))), SSE_A_SHARE).books
    np.testing.assert_array_equal(found.two_sided, [True, True, True, False, False])
    assert found.price_ticks[1, :, 0].tolist() == [1000, 1001]
