"""A table of order events becomes the orders that somebody sent: exact, and the same whatever it is written in."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paper_table import HEADER, MAPPING, OPEN_NS, Book, table_day

from marsbench.data import generic, lobster, sources
from marsbench.data.day import VenueDay
from marsbench.data.errors import DataError
from marsbench.data.verify import states, verify, verify_day
from marsbench.market.orders import AUCTION, NO_PRICE, Flag, Kind
from marsbench.market.replay import replay

LEVELS = 40
START = [f"34199.0,A,{k},{'SB'[k % 2]},{price},5" for k, price in enumerate(("9.99", "10.01"), start=1)]
FAST = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


def books_after(day: VenueDay, rows: list[int]) -> list[Book]:
    """Replayed books after rows of the source."""
    result = replay(day.rules, day.book, day.orders, levels=LEVELS, end_ns=day.end_ns)
    price, size = states(day, result, np.array(rows), LEVELS)
    return [
        tuple(
            [(int(p), int(z)) for p, z in zip(*side, strict=True) if p != NO_PRICE] for side in zip(*book, strict=True)
        )
        for book in zip(price, size, strict=True)
    ]  # type: ignore[misc]


def read(folder: Path, *lines: str, mapping: str = MAPPING, header: str = HEADER) -> VenueDay:
    """A day from lines of a table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "day.csv").write_text("\n".join([header, *lines] if header else lines) + "\n")
    (folder / "day.yaml").write_text(mapping.format(file="day.csv"))
    return generic.read(folder / "day.yaml")


def orders(day: VenueDay) -> list[tuple[int, int, int, int, int]]:
    """(id, kind, price, size, flags) of each message."""
    names = ("order_id", "kind", "price_ticks", "size_shares", "flags")
    return list(zip(*(day.orders[n].tolist() for n in names), strict=True))


# One day in every format


@FAST
@given(seed=st.integers(0, 10**6))
def test_a_day_as_csv_as_parquet_and_as_lobster_is_the_same_evolution_of_the_book(tmp_path_factory, seed):
    made = table_day(seed, events=150)
    folder = tmp_path_factory.mktemp("day")
    rows, messages = (list(x) for x in zip(*made.ends, strict=True))
    truth = [made.books[row] for row in rows]
    table = generic.read(made.write_csv(folder / "csv"))
    assert books_after(table, rows) == truth
    for price in ("float", "decimal", "text", "integer"):
        same = generic.read(made.write_parquet(folder / price, price=price))
        assert same.trajectory().content_hash() == table.trajectory().content_hash()
    other = lobster.read(made.lobster.write(folder / "lobster"))
    assert books_after(other, messages) == truth
    for day in (table, other):
        result = verify_day(day)
        assert (result.kinds, result.unexplained) == ({}, 0)
    fills = [[(f["price_ticks"], f["size_shares"], f["side"]) for f in d.trajectory().fills] for d in (table, other)]
    assert fills[0] == fills[1]


@FAST
@given(seed=st.integers(0, 10**6), choice=st.integers(0, 10**6), more=st.integers(1, 5))
def test_a_row_that_takes_more_than_the_order_has_is_always_found(tmp_path_factory, seed, choice, more):
    made = table_day(seed, events=150, modify=False)
    left: dict[int, int] = {}
    last = []
    for k, (time, event, order, _, _, size) in enumerate(made.rows):
        left[order] = left.get(order, 0) + (size if event == "A" else -size)
        if left[order] == 0 and time >= OPEN_NS:
            last.append(k)
    row = last[choice % len(last)]
    made.rows[row] = (*made.rows[row][:5], made.rows[row][5] + more)
    result = verify(made.write_csv(tmp_path_factory.mktemp("day")))
    assert result.unexplained == 1
    assert next(iter(result.kinds)).endswith("_of_more_than_is_left")


# What was sent


def test_executions_and_the_rest_are_one_aggressive_order(tmp_path):
    day = read(
        tmp_path,
        "34199,A,1,S,10.01,5", "34199,A,2,S,10.02,5", "34199,A,3,S,10.02,9",
        "34201,E,1,S,10.01,5", "34201,E,2,S,10.02,5", "34201,A,4,B,10.02,7",
    )  # fmt: skip
    assert orders(day) == [(4, Kind.BID, 1002, 17, 0)]
    result = verify_day(day)
    assert result.kinds["trade_not_published"] == 1  # order 3 stood in the way of the rest


def test_what_belongs_to_another_aggressive_order_begins_a_new_one(tmp_path):
    day = read(
        tmp_path,
        "34199,A,1,S,10.01,5", "34199,A,2,S,10.02,5", "34199,A,3,B,10.00,5", "34199,A,4,B,9.99,5",
        "34201,E,1,S,10.01,2",
        "34201,E,1,S,10.01,1",  # the same order again
        "34202,E,1,S,10.01,1",  # later
        "34202,E,3,B,10.00,1",  # the other side
        "34203,E,1,S,10.01,1", "34203,E,2,S,10.02,1",  # a worse price: the same
        "34203,A,9,B,10.01,1",  # does not reach the last price: not its rest
    )  # fmt: skip
    assert [(kind, price, size) for _, kind, price, size, _ in orders(day)] == [
        (Kind.BID, 1001, 2), (Kind.BID, 1001, 1), (Kind.BID, 1001, 1), (Kind.ASK, 1000, 1), (Kind.BID, 1002, 2),
        (Kind.BID, 1001, 1),
    ]  # fmt: skip
    assert verify_day(day).unexplained == 0


def test_hidden_trades_between_executions_do_not_part_them(tmp_path):
    day = read(
        tmp_path, "34199,A,1,S,10.01,5", "34199,A,2,S,10.02,5",
        "34201,E,1,S,10.01,5", "34201,P,,,10.015,3", "34201,E,2,S,10.02,1", "34201,P,,,,1", "34201,A,3,B,10.02,1",
    )  # fmt: skip
    assert len(day.orders) == 1
    assert day.facts["trade_rows"] == 2


def test_a_modified_order_keeps_its_place_only_if_it_gets_smaller(tmp_path):
    start = ["34199,A,1,S,10.01,5", "34199,A,2,S,10.01,5", "34199,A,3,B,9.99,5"]
    smaller = read(tmp_path / "a", *start, "34201,M,1,S,10.01,3", "34202,E,1,S,10.01,3")
    assert orders(smaller)[0] == (1, Kind.CANCEL, 1001, 2, 0)
    larger = read(tmp_path / "b", *start, "34201,M,1,S,10.01,6", "34202,E,2,S,10.01,5")
    assert orders(larger)[0] == (1, Kind.ASK, 1001, 6, Flag.REPLACE)
    moved = read(tmp_path / "c", *start, "34201,M,1,S,10.00,5", "34202,E,1,S,10.00,5")
    assert orders(moved)[0] == (1, Kind.ASK, 1000, 5, Flag.REPLACE)
    unchanged = read(tmp_path / "d", *start, "34201,M,1,S,10.01,5", "34202,E,1,S,10.01,5")
    assert len(unchanged.orders) == 1
    for day in (smaller, larger, moved, unchanged):
        assert (verify_day(day).unexplained, verify_day(day).passed_over) == (0, 0)


def test_an_order_modified_into_the_other_side_trades_and_rests(tmp_path):
    day = read(
        tmp_path, "34199,A,1,S,10.01,5", "34199,A,2,B,9.99,8",
        "34201,E,1,S,10.01,5", "34201,M,2,B,10.01,3",
    )  # fmt: skip
    assert orders(day) == [(2, Kind.BID, 1001, 8, Flag.REPLACE)]
    assert verify_day(day).unexplained == 0


def test_a_modified_order_may_get_a_new_id(tmp_path):
    mapping = MAPPING.replace("size: qty}}", "size: qty, new_id: new}}")
    day = read(
        tmp_path, "34199,A,1,S,10.01,5,", "34201,M,1,S,10.01,4,7", "34202,X,7,S,10.01,1,", "34203,E,7,S,10.01,3,",
        mapping=mapping, header=HEADER + ",new",
    )  # fmt: skip
    assert [o[:2] for o in orders(day)][:2] == [(1, Kind.CANCEL), (7, Kind.ASK)]
    assert verify_day(day).unexplained == 0


def test_clear_cancels_everything(tmp_path):
    day = read(tmp_path, *START, "34201,R,,,,", "34202,A,1,S,10.05,5", "34203,E,1,S,10.05,5")
    assert [o[1] for o in orders(day)] == [Kind.CANCEL, Kind.CANCEL, Kind.ASK, Kind.BID]
    assert verify_day(day).unexplained == 0


def test_a_cancel_without_size_or_by_setting_takes_the_whole_order(tmp_path):
    lines = ["34199,A,1,S,10.01,5", "34199,A,2,S,10.02,5"]
    blank = read(tmp_path / "a", *lines, "34201,X,1,,,", "34202,D,2,S,0,0")
    setting = read(
        tmp_path / "b", *lines, "34201,X,1,S,10.01,2", "34202,D,2,S,10.02,5", mapping=MAPPING + "cancel_size: all\n"
    )
    assert orders(blank) == orders(setting)
    assert verify_day(setting).unexplained == 0
    assert blank.deleted_ids.tolist() == [1, 2]


def test_the_opening_auction_builds_the_book_and_the_closing_one_is_left_out(tmp_path):
    day = read(
        tmp_path, "34000,A,1,B,10.05,5", "34000,A,2,S,9.95,3", "34100,E,1,B,10.00,3", "34100,E,2,S,10.00,3",
        "34201,E,1,B,10.05,2", "57600,A,9,S,1.00,1",
    )  # fmt: skip
    assert [(int(o["order_id"]), int(o["size_shares"])) for o in day.book.resting] == [(1, 2)]
    assert not (day.trajectory().fills["side"] == AUCTION).any()
    assert (day.facts["rows_before_trading"], day.facts["rows_after_trading"]) == (4, 1)
    assert day.problems["execute_at_another_price_than_the_order"] == 0


# What verify finds


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("34201,X,7,S,10.01,1", "source_cancel_of_an_order_that_is_not_there"),
        ("34201,M,7,S,10.01,1", "source_modify_of_an_order_that_is_not_there"),
        ("34201,E,7,S,10.01,1", "source_execute_of_an_order_that_is_not_there"),
        ("34201,X,1,S,9.99,6", "source_cancel_of_more_than_is_left"),
        ("34201,E,1,S,9.99,6", "source_execute_of_more_than_is_left"),
        ("34201,X,1,B,9.99,1", "source_cancel_on_another_side_than_the_order"),
        ("34201,X,1,S,9.98,1", "source_cancel_at_another_price_than_the_order"),
        ("34201,E,1,S,9.98,1", "source_execute_at_another_price_than_the_order"),
        ("34201,M,1,B,9.98,1", "source_modify_that_changes_the_side"),
        ("34201,A,1,S,10.05,1", "source_new_order_under_the_id_of_a_live_one"),
        ("34201,A,9,B,10.07,1", "trade_not_published"),  # crosses, and nothing says that it trades
    ],
)
def test_a_row_that_contradicts_the_book_is_unexplained(tmp_path, line, kind):
    result = verify_day(read(tmp_path, "34199,A,1,S,9.99,5", "34199,A,2,B,9.90,5", line))
    assert result.kinds[kind] == 1


def test_an_order_that_was_passed_over_in_the_queue_is_counted(tmp_path):
    result = verify_day(read(tmp_path, "34199,A,1,S,10.01,5", "34199,A,2,S,10.01,5", "34201,E,2,S,10.01,5"))
    assert (result.unexplained, result.passed_over) == (0, 1)


def test_a_row_outside_the_sessions_is_a_rejection(tmp_path):
    mapping = MAPPING + "sessions: [[09:30, 11:30], [13:00, 15:00]]\n"
    result = verify_day(read(tmp_path, *START, "43200,X,1,B,9.99,5", mapping=mapping))
    assert result.kinds["rejected_closed"] == 1


# Numbers and times


@pytest.mark.parametrize("written", ["585.33", "585.3300", "5.8533e2", "0585.33", "+585.33"])
def test_a_decimal_price_is_read_exactly_however_it_is_written(tmp_path, written):
    day = read(tmp_path, f"34201,A,1,S,{written},5")
    assert day.orders["price_ticks"].tolist() == [58533]


@FAST
@given(ticks=st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=50), exponent=st.integers(0, 6))
def test_a_float_that_was_written_from_a_decimal_is_that_decimal(tmp_path_factory, ticks, exponent):
    folder = tmp_path_factory.mktemp("floats")
    tick = Decimal(1).scaleb(-exponent)
    floats = [float(t * tick) for t in ticks]
    n = len(ticks)
    columns = {"ts": [OPEN_NS] * n, "event": ["A"] * n, "order": range(1, n + 1), "side": ["S"] * n, "qty": [1] * n}
    pq.write_table(pa.table({**{k: pa.array(v) for k, v in columns.items()}, "px": floats}), folder / "day.parquet")
    text = MAPPING.format(file="day.parquet").replace("format: s", "format: ns") + f"tick_size: {tick:f}\n"
    (folder / "day.yaml").write_text(text)
    assert generic.read(folder).orders["price_ticks"].tolist() == ticks


def test_single_precision_is_read_through_its_own_shortest_decimal(tmp_path):
    made = table_day(1, events=40)
    path = made.write_parquet(tmp_path / "a")
    table = made.table()
    at = table.schema.get_field_index("px")
    pq.write_table(table.set_column(at, "px", table["px"].cast(pa.float32())), tmp_path / "a" / "day.parquet")
    same = generic.read(made.write_csv(tmp_path / "b")).trajectory().content_hash()
    assert generic.read(path).trajectory().content_hash() == same


def test_units_and_ticks_are_settings(tmp_path):
    mapping = MAPPING.replace("rules: NASDAQ", "sessions: [[00:00, 24:00]]\ntick_size: 0.25\nlot_shares: 10")
    mapping += 'price: {{unit: "0.01"}}\nsize: {{unit: "0.001"}}\n'
    day = read(tmp_path, "34201,A,1,S,475025,0.05", mapping=mapping)
    assert (day.orders["price_ticks"].tolist(), day.orders["size_shares"].tolist()) == ([19001], [50])
    assert (day.rules.tick_size, day.rules.lot_shares, day.rules.name) == ("0.25", 10, "CUSTOM")
    with pytest.raises(DataError, match=r"row 2: size '0.0505' must be a whole number \(of 0.001\)"):
        read(tmp_path, "34201,A,1,S,475025,0.0505", mapping=mapping)


def test_price_limits_need_the_previous_close(tmp_path):
    mapping = MAPPING.replace("NASDAQ", "SSE_A_SHARE") + "reference_price: 10.00\n"
    day = read(tmp_path, "34201,A,1,S,11.01,100", mapping=mapping)
    assert verify_day(day).kinds["rejected_price_limit"] == 1
    assert all(phase.kind == 1 for phase in day.rules.phases)
    with pytest.raises(DataError, match="reference_price: must be a multiple of the tick"):
        read(tmp_path, "34201,A,1,S,11.01,100", mapping=mapping.replace("10.00", "10.005"))


@pytest.mark.parametrize(
    ("setting", "time"),
    [
        ("format: s", "34200.000000125"),
        ("format: ms", "34200000.000125"),
        ("format: us", "34200000000.125"),
        ("format: ns", "34200000000125"),
        ("format: iso", "09:30:00.000000125"),
        ("format: iso", "2012-06-21T09:30:00.000000125"),
        ("format: iso", "2012-06-21 09:30:00.000000125"),
        ("format: iso, zone: America/New_York", "2012-06-21T13:30:00.000000125Z"),
        ("format: iso, zone: America/New_York", "2012-06-21T09:30:00.000000125-04:00"),
        ("format: ns, since: epoch, zone: America/New_York", "1340285400000000125"),
        ("format: s, since: epoch, zone: America/New_York", "1340285400.000000125"),
    ],
)
def test_a_time_is_the_same_nanosecond_however_it_is_written(tmp_path, setting, time):
    day = read(tmp_path, f"{time},A,1,S,10.01,5", mapping=MAPPING.replace("format: s", setting))
    assert day.orders["time_ns"].tolist() == [OPEN_NS + 125]


def test_timestamps_of_parquet_keep_their_zone(tmp_path):
    table = pa.table(
        {
            "ts": pa.array([1340285400000001], pa.timestamp("us", "UTC")), "event": ["A"], "order": [1], "side": ["S"],
            "px": [10.01], "qty": [5],
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "day.parquet")
    text = MAPPING.format(file="day.parquet").replace("format: s", "format: iso, zone: America/New_York")
    (tmp_path / "day.yaml").write_text(text)
    assert generic.read(tmp_path).orders["time_ns"].tolist() == [OPEN_NS + 1000]


@pytest.mark.parametrize("time", ["34200.0000000001", "1e", "12:00"])
def test_a_time_that_is_no_nanosecond_names_row_and_value(tmp_path, time):
    with pytest.raises(DataError, match=rf"day.csv, row 3: time '{time}' is"):
        read(tmp_path, START[0], f"{time},A,3,S,10.01,5")


def test_times_of_another_unit_are_too_large(tmp_path):
    with pytest.raises(DataError, match="row 2: the time is too large"):
        read(tmp_path, "34200000000000000000,A,1,S,10.01,5")
    with pytest.raises(DataError, match=r"mixed days, another time\.format"):
        read(tmp_path, "34200000,A,1,S,10.01,5")


# How tables are laid out


def test_a_table_without_header_with_another_delimiter_packed_and_in_parts_is_read(tmp_path):
    made = table_day(4, events=60)
    expected = generic.read(made.write_csv(tmp_path / "plain")).trajectory().content_hash()
    lines = [line.replace(",", ";") for line in made.lines()]
    for name, part in (("a", lines[:50]), ("b", lines[50:])):
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(("\n".join(part) + "\n").encode()))
    mapping = MAPPING.format(file="[a.csv.gz, b.csv.gz]")
    (tmp_path / "day.yaml").write_text(mapping + 'delimiter: ";"\nheader: [ts, event, order, side, px, qty]\n')
    assert generic.read(tmp_path / "day.yaml").trajectory().content_hash() == expected
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"34200.5;A;1;S;x;1\n"))
    with pytest.raises(DataError, match=r"b.csv.gz, row 1: price 'x' is no number"):
        generic.read(tmp_path / "day.yaml")


def test_rows_of_other_symbols_are_left_out(tmp_path):
    mapping = MAPPING.replace("size: qty}}", "size: qty, symbol: sym}}") + "symbol: ABC\n"
    lines = ["34199,A,1,S,10.01,5,ABC", "34199,A,1,S,x,5,XYZ", "34201,E,1,S,10.01,5,ABC", "34201,A,2,S,10.005,1,ABC"]
    day = read(tmp_path, *lines[:3], mapping=mapping, header=HEADER + ",sym")
    assert (len(day.trades), len(day.row_message)) == (1, 2)
    with pytest.raises(DataError, match=r"day.csv, row 5: price '10.005'"):  # the line in the file
        read(tmp_path, *lines, mapping=mapping, header=HEADER + ",sym")
    with pytest.raises(DataError, match=r"'symbol' and 'columns\.symbol' belong together"):
        read(tmp_path, *lines, mapping=MAPPING + "symbol: ABC\n")


def test_order_ids_may_be_any_text(tmp_path):
    made = table_day(5, events=60)
    plain = generic.read(made.write_csv(tmp_path / "plain"))
    lines = [line.split(",") for line in made.lines()]
    named = [",".join([t, e, f"o-{order}", *rest]) for t, e, order, *rest in lines]
    day = read(tmp_path / "named", *named)
    assert day.facts["order_ids"] == "numbered as they appear"
    assert (day.orders["price_ticks"] == plain.orders["price_ticks"]).all()
    assert verify_day(day).unexplained == 0


def test_parquet_blanks_and_dictionaries_are_read(tmp_path):
    made = table_day(6, events=60)
    path = made.write_parquet(tmp_path)
    expected = generic.read(path).trajectory().content_hash()
    table = made.table()
    gone = pa.array(
        [None if e == "X" else s for e, s in zip(*(table[n].to_pylist() for n in ("event", "side")), strict=True)]
    )
    table = table.set_column(3, "side", gone.dictionary_encode()).set_column(
        1, "event", table["event"].dictionary_encode()
    )
    pq.write_table(table, tmp_path / "day.parquet")
    assert generic.read(path).trajectory().content_hash() == expected


def test_the_source_is_recognised_by_its_yaml_file(tmp_path):
    path = table_day(0, events=20).write_csv(tmp_path)
    for each in (path, tmp_path, tmp_path / "day.csv"):
        assert sources.detect(each) == "generic"
    path.rename(tmp_path / "other.yaml")
    with pytest.raises(DataError, match="needs a YAML file of the same name"):
        sources.detect(tmp_path / "day.csv")
