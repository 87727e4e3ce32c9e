"""What ``to_lobster`` writes is what LOBSTER would have written, and reads back as the same market."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from paper_exchange import lobster_day

from markets import known_generator, start_at, two_days
from marsbench.data import lobster
from marsbench.data.export import to_lobster
from marsbench.data.verify import verify
from marsbench.market.orders import Flag, Kind, orders
from marsbench.market.replay import cut, make_trajectory, replay_trajectory
from marsbench.market.rules import CONTINUOUS, MINUTE, SECOND, SSE_A_SHARE, SelfTrade, clock
from marsbench.market.trajectory import BookState, Trajectory
from marsbench.simulation.rollout import simulate

OPEN = clock("09:30")


def a_trajectory(sent: np.ndarray, book: np.ndarray | None = None, rules=CONTINUOUS) -> Trajectory:
    """Orders sent one second apart from 09:30 on."""
    sent["time_ns"] = OPEN + SECOND * np.arange(1, len(sent) + 1)
    resting = BookState(time_ns=OPEN) if book is None else BookState(book, next_id=100, time_ns=OPEN)
    return make_trajectory(
        instrument="TEST",
        date="2024-01-02",
        rules=rules,
        start_ns=OPEN,
        end_ns=OPEN + MINUTE,
        book=resting,
        orders=sent,
    )


def rows(path: Path) -> list[list[int]]:
    """Rows of a message file without the first (the seed) and without times, or of a book file."""
    table = [line.split(",") for line in path.read_text().splitlines()]
    return (
        [[int(v) for v in line[1:]] for line in table[1:]]
        if "message" in path.name
        else [[*map(int, r)] for r in table]
    )


@pytest.mark.parametrize("levels", [1, 2, 3, 10, 30])
@pytest.mark.parametrize("seed", range(4))
def test_a_file_of_another_writer_is_written_again_as_it_was(tmp_path, seed, levels):
    """The paper exchange shares no code with the library. Hidden executions are no orders of ours."""
    file, _ = lobster_day(seed, levels=levels)
    source = file.write(tmp_path / "source")
    message, book = to_lobster(lobster.read(source).trajectory(), tmp_path / "again", levels=levels)
    visible = [i for i, row in enumerate(file.messages) if i > 0 and row[1] != 5]
    expected = [",".join(map(str, file.messages[i])) for i in visible]
    written = message.read_text().splitlines()[1:]
    # Where the rest of an order was never in view, the source cannot say that a cancel was a partial one.
    different = [(a.split(","), b.split(",")) for a, b in zip(written, expected, strict=True) if a != b]
    assert all(a[:1] + a[2:] == b[:1] + b[2:] and (a[1], b[1]) == ("3", "2") for a, b in different)
    if levels == 30:
        assert not different
    assert rows(book) == [file.books[0], *(file.books[i] for i in visible)]


@pytest.mark.parametrize("levels", [1, 3, 10, 500])
def test_a_simulated_market_reads_back_and_replay_equals_the_written_book(tmp_path, levels):
    [[made]] = simulate(known_generator(), [start_at(two_days()[1], "10:00")], 1, 10 * MINUTE, key=4)
    message, _ = to_lobster(made, tmp_path, levels=levels)
    assert message.name == f"ZI-A_2024-01-03_36000000_36600000_message_{levels}.csv"
    result = verify(tmp_path)
    assert (result.unexplained, result.kinds, result.passed_over) == (0, {}, 0)
    back = lobster.read(tmp_path).trajectory()
    for name in ("time_ns", "price_ticks", "size_shares", "side"):
        assert back.fills[name].tolist() == made.fills[name].tolist()
    resting = made.fills["side"] == Kind.BID
    assert back.fills["ask_id"][resting].tolist() == made.fills["ask_id"][resting].tolist()
    if levels == 500:  # nothing lies beyond: not one order is lost, and every book is the same
        assert result.window_edge == 0
        ours, theirs = (replay_trajectory(t, levels=levels).snapshots for t in (made, back))
        assert ours.price_ticks[-1].tolist() == theirs.price_ticks[-1].tolist()
        assert ours.size_shares[-1].tolist() == theirs.size_shares[-1].tolist()
        sent = made.orders[made.orders["kind"] != Kind.CANCEL]
        assert len(back.orders[back.orders["kind"] != Kind.CANCEL]) == len(sent)


def test_an_aggressive_order_shows_as_its_executions_and_its_rest(tmp_path):
    book = orders(kind=[0, 0, 1], price_ticks=[1001, 1002, 999], size_shares=[5, 6, 7], order_id=[1, 2, 3])
    sent = orders(kind=1, price_ticks=1002, size_shares=20)
    message, books = to_lobster(a_trajectory(sent, book), tmp_path, levels=2)
    assert rows(message) == [[4, 1, 5, 100100, -1], [4, 2, 6, 100200, -1], [1, 100, 9, 100200, 1]]
    none = [9999999999, 0]
    assert rows(books) == [
        [100100, 5, 99900, 7, 100200, 6, -9999999999, 0],
        [100200, 6, 99900, 7, *none, -9999999999, 0],
        [*none, 99900, 7, *none, -9999999999, 0],
        [*none, 100200, 9, *none, 99900, 7],
    ]


def test_the_first_row_is_a_message_that_moves_nothing_beside_the_starting_book(tmp_path):
    book = orders(kind=[0, 1], price_ticks=[1001, 999], size_shares=[5, 7], order_id=[1, 3])
    quiet = a_trajectory(orders(kind=1, price_ticks=1002, size_shares=20)[:0], book)
    message, books = to_lobster(quiet, tmp_path, levels=1)
    assert message.read_text() == "34200.000000000,7,0,0,1,-1\n"
    assert books.read_text() == "100100,5,99900,7\n"
    assert (verify(tmp_path).unexplained, len(lobster.read(tmp_path).orders)) == (0, 0)


def test_cancels_are_partial_until_nothing_is_left_and_those_by_level_name_each_order(tmp_path):
    book = orders(kind=1, price_ticks=999, size_shares=[5, 6, 7], order_id=[1, 2, 3])
    sent = orders(
        kind=[2, 2, 2],
        order_id=[1, 0, 1],
        price_ticks=[0, 999, 0],
        size_shares=[2, 9, 0],
        flags=[0, int(Flag.BY_LEVEL), 0],
    )
    message, _ = to_lobster(a_trajectory(sent, book), tmp_path)
    assert rows(message) == [[2, 1, 2, 99900, 1], [3, 3, 7, 99900, 1], [2, 2, 2, 99900, 1], [3, 1, 3, 99900, 1]]
    assert verify(tmp_path).unexplained == 0


def test_a_replaced_order_comes_back_under_a_new_id_and_is_followed(tmp_path):
    book = orders(kind=1, price_ticks=[999, 998], size_shares=[5, 6], order_id=[1, 2])
    replace_ = int(Flag.REPLACE)
    sent = orders(
        kind=[1, 1, 0],
        order_id=[1, 1, 0],
        price_ticks=[998, 999, 999],
        size_shares=[4, 3, 2],
        flags=[replace_] * 2 + [0],
    )
    message, _ = to_lobster(a_trajectory(sent, book), tmp_path)
    assert [row[:2] for row in rows(message)] == [[3, 1], [1, 101], [3, 101], [1, 102], [4, 102]]
    assert verify(tmp_path).unexplained == 0


def test_what_never_reached_the_published_levels_gives_no_row(tmp_path):
    book = orders(kind=[0, 1, 1], price_ticks=[1001, 999, 998], size_shares=[5, 6, 7], order_id=[1, 2, 3])
    ioc = int(Flag.IOC)
    sent = orders(
        kind=[1, 2, 1, 2], order_id=[0, 3, 0, 50], price_ticks=[997, 0, 1000, 0], size_shares=[4, 0, 4, 1],
        flags=[0, 0, ioc, 0],
    )  # fmt: skip
    message, _ = to_lobster(a_trajectory(sent, book), tmp_path, levels=1)
    assert rows(message) == []


def test_a_finer_tick_is_written_in_its_own_price(tmp_path):
    sent = orders(kind=[1, 0], price_ticks=[1999, 2001], size_shares=3)
    fine = a_trajectory(sent, rules=replace(CONTINUOUS, tick_size="0.005"))
    message, _ = to_lobster(fine, tmp_path)
    assert [row[3] for row in rows(message)] == [99950, 100050]


def test_several_simulations_of_one_period_are_told_apart_and_never_overwritten(tmp_path):
    quiet = a_trajectory(orders(kind=1, price_ticks=1002, size_shares=20))
    to_lobster(quiet, tmp_path)
    with pytest.raises(FileExistsError, match="its own suffix or folder"):
        to_lobster(quiet, tmp_path)
    message, book = to_lobster(quiet, tmp_path, suffix="gen_id_7")
    assert message.name.endswith("_message_10_gen_id_7.csv")
    assert lobster.read(message).trajectory().content_hash() == lobster.read(book).trajectory().content_hash()


def test_what_the_format_cannot_say_is_an_error_that_says_what_to_do(tmp_path):
    sent = orders(kind=1, price_ticks=1000, size_shares=100)
    good = a_trajectory(sent)
    cases = {
        "no multiple of 0.0001": replace(good, rules=replace(CONTINUOUS, tick_size="0.00001")),
        "whole milliseconds": replace(good, start_ns=good.start_ns + 1),
        "instrument 'A_B'": replace(good, instrument="A_B"),
        "positive prices only": a_trajectory(orders(kind=1, price_ticks=-5, size_shares=1)),
        "self-trade rule CANCEL_RESTING": a_trajectory(
            orders(kind=1, price_ticks=5, size_shares=1, owner=1),
            rules=replace(CONTINUOUS, self_trade=SelfTrade.CANCEL_RESTING),
        ),
    }
    for message, trajectory in cases.items():
        with pytest.raises(ValueError, match=message):
            to_lobster(trajectory, tmp_path)
    for wrong in ({"levels": 0}, {"suffix": "a/b"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            to_lobster(good, tmp_path, **wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_call_auction_is_refused_and_the_session_after_it_is_written(tmp_path):
    sent = orders(kind=[0, 1, 1], price_ticks=[1000, 1001, 990], size_shares=100)
    sent["time_ns"] = [clock("09:16"), clock("09:17"), clock("09:31")]
    day = make_trajectory(
        instrument="600000", date="2024-01-02", rules=SSE_A_SHARE, start_ns=clock("09:15"), end_ns=clock("09:40"),
        book=BookState(reference_ticks=1000), orders=sent,
    )  # fmt: skip
    with pytest.raises(ValueError, match="call auction or a halt"):
        to_lobster(day, tmp_path)
    message, _ = to_lobster(cut(day, OPEN, clock("09:40")), tmp_path)
    assert [row[0] for row in rows(message)] == [1]


def test_google_is_written_as_lobster_itself_wrote_it(tmp_path, real_file):
    source = real_file("lobster/LOBSTER_SampleFile_GOOG_2012-06-21_10.zip")
    raw = lobster.parse(source)
    to_lobster(lobster.read(source).trajectory(), tmp_path)
    again = lobster.parse(tmp_path)
    visible = np.flatnonzero(raw.type != 5)
    assert (again.book_price == raw.book_price[visible]).all()
    assert (again.book_size == raw.book_size[visible]).all()
    for name in ("time_ns", "type", "id", "size", "price", "direction"):
        assert (getattr(again, name)[1:] == getattr(raw, name)[visible][1:]).all(), name
    assert Counter(again.type.tolist())[7] == 1
    result = verify(tmp_path)
    assert (result.best_quotes_match, result.window_edge, result.unexplained) == (1.0, 6_279, 0)


def test_aggressive_orders_at_one_time_are_kept_apart_where_they_meet_the_same_order(tmp_path):
    book = orders(kind=0, price_ticks=[1001, 1002], size_shares=[5, 6], order_id=[1, 2])
    sent = orders(kind=1, price_ticks=[1001, 1002, 1002], size_shares=[3, 4, 4])
    made = a_trajectory(sent, book)
    made.orders["time_ns"] = OPEN + SECOND
    made.fills["time_ns"] = OPEN + SECOND
    message, _ = to_lobster(made, tmp_path)
    assert [row[1:3] for row in rows(message)] == [[1, 3], [1, 2], [2, 2], [2, 4]]
    assert lobster.read(tmp_path).orders["size_shares"].tolist() == [3, 4, 4]
    assert verify(tmp_path).unexplained == 0
