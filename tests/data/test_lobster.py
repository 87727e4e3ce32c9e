"""LOBSTER files: orders are put together again, unseen volume is seeded, and replay equals the published book."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from paper_exchange import ASK, BID, LobsterFile, lobster_day

from marsbench.data import lobster
from marsbench.data.verify import verify
from marsbench.market.orders import Flag, Kind

SECOND = 1_000_000_000
OPEN = 34_200 * SECOND


def small_file(rows, levels: int = 2) -> LobsterFile:
    """Rows of (time ns after the open, type, id, size, price, direction, book row)."""
    file = LobsterFile(levels)
    for time, *message, book in rows:
        file.add(OPEN + time, *message, book)
    return file


def read(file: LobsterFile, folder: Path):
    return lobster.read(file.write(folder / "day"))


@pytest.mark.parametrize("seed", range(6))
def test_a_day_that_is_published_entirely_is_reproduced_without_taking_anything_over(tmp_path, seed):
    file, _ = lobster_day(seed, levels=30)
    result = verify(file.write(tmp_path / "day"))
    assert (result.best_quotes_match, result.all_levels_match) == (1.0, 1.0)
    assert (result.window_edge, result.window_edge_identity, result.unexplained, result.passed_over) == (0, 0, 0, 0)
    assert result.rows == len(file.messages) - 1


@pytest.mark.parametrize("seed", range(6))
def test_the_order_stream_is_what_was_sent(tmp_path, seed):
    file, sent = lobster_day(seed, levels=30)
    rows_of_first = {row[0] for row in file.messages[:1]}
    sent = sent[1:]  # the first event gives the first row, which is the starting book
    assert sum(row[0] in rows_of_first for row in file.messages) == 1
    orders = lobster.read(file.write(tmp_path / "day")).orders
    for (kind, order_id, side, price, size), order in zip(sent, orders, strict=True):
        assert order["size_shares"] == size
        assert order["kind"] == (Kind.CANCEL if kind == "cancel" else side)
        if order_id:  # of an order that trades entirely neither its id nor its limit can be known
            assert (order["order_id"], order["price_ticks"]) == (order_id, price)


@pytest.mark.parametrize("levels", [1, 2, 3, 10])
@pytest.mark.parametrize("seed", range(8))
def test_behind_a_window_of_levels_only_its_edge_is_taken_over(tmp_path, levels, seed):
    file, _ = lobster_day(seed, levels=levels)
    result = verify(file.write(tmp_path / "day"))
    assert result.unexplained == 0
    assert result.kinds == {}
    assert round(result.all_levels_match * result.rows) + result.window_edge == result.rows
    if levels > 1:
        assert result.best_quotes_match == 1.0


def test_executions_at_one_time_and_their_rest_are_one_order(tmp_path):
    empty, none = 9999999999, -9999999999
    file = small_file(
        [
            (1, 1, 10, 5, 1000100, -1, [1000100, 5, none, 0]),
            (2, 1, 11, 7, 1000200, -1, [1000100, 5, none, 0]),
            (3, 4, 10, 5, 1000100, -1, [1000200, 7, none, 0]),
            (3, 4, 11, 7, 1000200, -1, [empty, 0, none, 0]),
            (3, 1, 12, 4, 1000300, 1, [empty, 0, 1000300, 4]),
        ],
        levels=1,
    )
    file.levels = 1
    day = read(file, tmp_path)
    last = day.orders[-1]
    assert (last["order_id"], last["kind"], last["price_ticks"], last["size_shares"]) == (12, BID, 10003, 16)
    assert day.row_fills[-3:].tolist() == [1, 2, -1]
    assert day.trajectory().fills["size_shares"].tolist() == [5, 7]


def test_executions_at_worse_then_better_prices_are_two_orders(tmp_path):
    none = -9999999999
    file = small_file(
        [
            (1, 1, 10, 9, 1000200, -1, [1000200, 9, none, 0]),
            (2, 4, 10, 1, 1000200, -1, [1000200, 8, none, 0]),
            (2, 1, 11, 2, 1000100, -1, [1000100, 2, none, 0]),
            (2, 4, 11, 2, 1000100, -1, [1000200, 8, none, 0]),
        ],
        levels=1,
    )
    assert [int(o["size_shares"]) for o in read(file, tmp_path).orders] == [1, 2, 2]
    assert verify(tmp_path / "day").unexplained == 0


def test_resting_volume_from_before_the_start_is_split_by_what_is_known_later(tmp_path):
    """100 shares stand in the first row: order 3 has 30 (executed), order 5 has 20 (deleted), 50 nobody names."""
    none = -9999999999

    def book(size: int) -> list[int]:
        return [1000100, size, none, 0]

    file = small_file(
        [
            (1, 1, 9, 40, 1000100, -1, book(100 + 40)),
            (2, 3, 5, 20, 1000100, -1, book(120)),
            (3, 4, 3, 30, 1000100, -1, book(90)),
            (4, 3, 9, 40, 1000100, -1, book(50)),
        ],
        levels=1,
    )
    day = read(file, tmp_path)
    seeded = [(int(o["order_id"]), int(o["size_shares"])) for o in day.book.resting]
    assert seeded == [(3, 30), (5, 20), (9, 40), (10, 50)]
    assert (day.book.resting["flags"] == Flag.SEEDED).all()
    assert verify(tmp_path / "day").unexplained == 0


def test_an_order_that_the_venue_passes_over_keeps_its_volume_and_loses_its_place(tmp_path):
    none = -9999999999
    file = small_file(
        [
            (1, 1, 20, 5, 999900, 1, [1000100, 8, 999900, 5]),
            (2, 1, 21, 6, 999900, 1, [1000100, 8, 999900, 11]),
            (3, 4, 21, 6, 999900, 1, [1000100, 8, 999900, 5]),  # 20 stood before 21
            (4, 3, 20, 5, 999900, 1, [1000100, 8, none, 0]),
        ],
        levels=1,
    )
    day = read(file, tmp_path)
    assert day.orders["flags"].tolist().count(int(Flag.SEEDED | Flag.REPLACE)) == 1
    result = verify(tmp_path / "day")
    assert (result.unexplained, result.passed_over, result.best_quotes_match) == (0, 1, 1.0)


def test_hidden_executions_between_ticks_are_exact_and_move_nothing(tmp_path):
    book = [1000100, 8, 999900, 5]
    file = small_file([(1, 1, 20, 5, 999900, 1, book), (2, 5, 0, 33, 1000050, -1, book)], levels=1)
    day = read(file, tmp_path)
    assert len(day.orders) == 0
    assert day.facts["hidden_off_tick"] == 1
    assert day.facts["hidden_shares"] == 33
    hidden = lobster.hidden_executions(tmp_path / "day")
    assert hidden["price_e4"].tolist() == [1000050]
    assert hidden["time_ns"].tolist() == [OPEN + 2]
    assert verify(tmp_path / "day").unexplained == 0


def test_halt_messages_move_nothing(tmp_path):
    book = [1000100, 8, 999900, 5]
    rows = [(1, 1, 20, 5, 999900, 1, book), (2, 7, 0, 0, -1, -1, book), (3, 7, 0, 0, 1, -1, book)]
    day = read(small_file(rows, levels=1), tmp_path)
    assert (len(day.orders), day.facts["halt_messages"]) == (0, 2)
    assert verify(tmp_path / "day").unexplained == 0


def test_a_visible_price_between_cents_makes_the_tick_finer_instead_of_being_rounded(tmp_path):
    file = small_file([(1, 1, 1, 5, 4251, -1, [4251, 5, 4250, 3]), (2, 1, 2, 5, 4250, 1, [4251, 5, 4250, 8])], levels=1)
    day = read(file, tmp_path)
    assert day.rules.tick_size == "0.0001"
    assert day.orders["price_ticks"].tolist() == [4250]
    assert day.books.price_ticks[1, :, 0].tolist() == [4251, 4250]


def test_times_are_exact_to_the_nanosecond(tmp_path):
    book = [1000100, 8, 999900, 5]
    file = small_file(
        [(1, 1, 20, 5, 999900, 1, book), (123_456_789, 1, 21, 1, 999900, 1, [1000100, 8, 999900, 6])], levels=1
    )
    assert read(file, tmp_path).orders["time_ns"].tolist() == [OPEN + 123_456_789]


def test_a_file_beyond_the_regular_session_gets_extended_hours(tmp_path):
    file, _ = lobster_day(0, events=50)
    file.name = "TEST_2012-06-21_14400000_72000000"
    day = lobster.read(file.write(tmp_path / "day"))
    assert day.rules.name == "NASDAQ_EXTENDED"
    assert verify(tmp_path / "day").unexplained == 0


def test_zip_folder_and_either_file_are_the_same_day(tmp_path):
    file, _ = lobster_day(1, events=80)
    folder = file.write(tmp_path / "day")
    expected = lobster.read(folder).trajectory().content_hash()
    names = sorted(file.texts())
    for path in (file.write_zip(tmp_path / "x.zip"), folder / names[0], folder / names[1]):
        assert lobster.read(path).trajectory().content_hash() == expected
    packed = tmp_path / "packed"
    packed.mkdir()
    for name, text in file.texts().items():
        (packed / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    assert lobster.read(packed).trajectory().content_hash() == expected


def test_ids_that_the_clearing_house_will_give_are_free(tmp_path):
    day = lobster.read(lobster_day(2, levels=2)[0].write(tmp_path / "day"))
    used = np.r_[day.orders["order_id"], day.book.resting["order_id"]]
    assert day.book.next_id > used.max()
    assert (used > 0).all()


def test_google_on_the_public_sample(real_file):
    result = verify(real_file("lobster/LOBSTER_SampleFile_GOOG_2012-06-21_10.zip"))
    assert result.rows == 147_915
    assert result.best_quotes_match == 1.0
    assert (result.unexplained, result.kinds) == (0, {})
    assert result.window_edge == 6_279
    assert round((1 - result.all_levels_match) * result.rows) == 6_279
    assert result.passed_over == 4
    assert result.trades == 7_764  # the first of 7,765 is the seed row
    assert result.facts["hidden_executions"] == 3_913


def test_apple_on_the_public_sample_with_one_level(real_file):
    result = verify(real_file("lobster/LOBSTER_SampleFile_AAPL_2012-06-21_1.zip"))
    assert result.rows == 118_496
    assert (result.unexplained, result.kinds) == (0, {})
    assert result.best_quotes_match == pytest.approx(0.854, abs=5e-4)
    assert result.facts["hidden_off_tick"] == 372


def test_both_sides_are_named_alike_everywhere():
    assert (ASK, BID) == (Kind.ASK, Kind.BID)
