"""``verify`` must not be kind: every fact that is changed by hand shows up as unexplained."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from paper_exchange import lobster_day, shanghai_day

from marsbench.data import lobster, shanghai, sources
from marsbench.data.day import VenueDay
from marsbench.data.errors import DataError
from marsbench.data.verify import verify, verify_day
from marsbench.market.orders import Kind
from marsbench.market.replay import replay


@pytest.fixture
def day(tmp_path) -> VenueDay:
    return lobster.read(lobster_day(3, levels=5)[0].write(tmp_path / "day"))


def changed_books(day: VenueDay, row: int, side: int, level: int, *, price: int = 0, size: int = 0) -> VenueDay:
    prices, sizes = day.books.price_ticks.copy(), day.books.size_shares.copy()
    prices[row, side, level] += price
    sizes[row, side, level] += size
    return replace(day, books=replace(day.books, price_ticks=prices, size_shares=sizes))


@pytest.mark.parametrize(("level", "kind"), [(0, "book_best_quotes"), (3, "book_deeper_levels")])
@pytest.mark.parametrize("side", [0, 1])
def test_a_wrong_size_in_one_published_book_is_one_mismatch(day, level, kind, side):
    result = verify_day(changed_books(day, 77, side, level, size=1))
    assert result.kinds == {kind: 1}
    assert result.unexplained == 1
    assert round(result.best_quotes_match * result.rows) == result.rows - (level == 0)


def test_a_wrong_price_in_one_published_book_is_one_mismatch(day):
    result = verify_day(changed_books(day, 77, 0, 0, price=-1))
    assert result.kinds["book_best_quotes"] == 1


@pytest.mark.parametrize(
    ("field", "kind"), [("size_shares", "trade_size"), ("price_ticks", "trade_price"), ("ask_id", "trade_ids")]
)
def test_a_wrong_fact_of_one_published_trade_is_one_mismatch(day, field, kind):
    trades = day.trades.copy()
    trades[field][np.flatnonzero(trades["ask_id"])[5]] += 1
    assert verify_day(replace(day, trades=trades)).kinds == {kind: 1}


def test_trades_that_one_side_does_not_have_are_counted(day):
    assert verify_day(replace(day, trades=day.trades[:-1])).kinds == {"trade_not_published": 1}
    more = np.concatenate([day.trades, day.trades[-1:]])
    assert verify_day(replace(day, trades=more)).kinds == {"trade_missing": 1}


def test_a_lost_message_shows(day):
    keep = np.ones(len(day.orders), bool)
    at = int(np.flatnonzero((day.orders["kind"] < 2) & (day.orders["flags"] == 0))[40])
    keep[at] = False
    result = verify_day(
        replace(
            day,
            orders=day.orders[keep],
            row_message=day.row_message - (day.row_message >= at),
            seed_message=day.seed_message - (day.seed_message > at),
        )
    )
    assert result.unexplained > 0


def test_volume_taken_over_inside_the_published_window_is_not_excused(day):
    """The same takeover, but the level was in view a row earlier."""
    books = day.books
    row = int(day.seed_row[0])
    prices, sizes = books.price_ticks.copy(), books.size_shares.copy()
    prices[row - 1], sizes[row - 1] = prices[row], sizes[row]
    result = verify_day(replace(day, books=replace(books, price_ticks=prices, size_shares=sizes)))
    assert result.kinds["takeover_inside_window"] > 0


def test_a_file_that_contradicts_itself_inside_the_window_is_unexplained(tmp_path):
    """A level's size changes without a message: the reader must not take that over."""
    file, _ = lobster_day(5, levels=5)
    for book in file.books[100:]:
        book[1] += 1
    result = verify(file.write(tmp_path / "day"))
    assert result.unexplained > 0
    assert result.best_quotes_match < 0.9


def test_volume_that_is_added_without_being_declared_as_a_takeover_is_not_excused(day):
    result = verify_day(replace(day, seed_message=day.seed_message[:-1], seed_row=day.seed_row[:-1]))
    assert result.kinds["takeover_inside_window"] == 1


def test_a_takeover_that_names_another_row_is_not_excused(day):
    rows = day.seed_row.copy()
    rows[0] += 40
    assert verify_day(replace(day, seed_row=rows)).kinds["takeover_inside_window"] > 0


def test_an_order_that_should_be_gone_is_counted(day):
    left = replay(day.rules, day.book, day.orders).final.resting["order_id"]
    assert verify_day(replace(day, deleted_ids=left[:1])).kinds == {"delete_left_a_rest": 1}


def test_a_cancel_of_more_than_is_left_is_counted(day):
    orders = day.orders.copy()
    deletes = np.isin(orders["order_id"], day.deleted_ids) & (orders["kind"] == Kind.CANCEL) & (orders["flags"] == 0)
    orders["size_shares"][np.flatnonzero(deletes)[-1]] += 5
    assert verify_day(replace(day, orders=orders)).kinds == {"cancel_of_more_than_was_left": 1}


def test_a_snapshot_with_a_wrong_size_is_counted(tmp_path):
    day = shanghai.read(shanghai_day(tmp_path, 2, layout="exchange"))
    result = verify_day(changed_books(day, 60, 1, 0, size=100))
    assert result.kinds == {"book_best_quotes": 1}
    assert result.all_levels_match == pytest.approx(143 / 144)


def test_the_report_is_plain_json(tmp_path):
    result = verify(shanghai_day(tmp_path, 2, layout="exchange"))
    values = json.loads(json.dumps(result.to_dict()))
    for field in ("best_quotes_match", "all_levels_match", "rows", "window_edge", "unexplained", "kinds"):
        assert field in values


def test_the_source_is_told_by_name_and_content(tmp_path):
    file, _ = lobster_day(0, events=30)
    assert sources.detect(file.write(tmp_path / "a")) == "lobster"
    assert sources.detect(file.write_zip(tmp_path / "a.zip")) == "lobster"
    orders = shanghai_day(tmp_path / "b", 0, layout="vendor", events=20)
    assert sources.detect(orders) == "shanghai"
    assert sources.detect(orders.parent) == "shanghai"
    assert sources.detect(orders.with_name("600000_2023-07-11")) == "shanghai"
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    for path in (tmp_path / "notes.csv", tmp_path / "nowhere.zip", tmp_path):
        with pytest.raises(DataError, match=path.name):
            sources.detect(path)


def test_a_file_of_no_source_is_told_what_each_source_expects(tmp_path):
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError) as caught:
        sources.detect(tmp_path / "notes.csv")
    for source in sources.SOURCES.values():
        assert source.expected in caught.value.reason


def test_an_option_that_a_source_does_not_take_is_an_error_that_lists_those_it_does(tmp_path):
    orders = shanghai_day(tmp_path, 0, layout="vendor", events=20)
    with pytest.raises(ValueError, match=r"'tick'.*'shanghai'.*reference_ticks"):
        sources.read(orders, tick="1")
    with pytest.raises(ValueError, match=r"'ten'.*not a whole number"):
        sources.read(orders, reference_ticks="ten")
    assert sources.read(orders, reference_ticks="5000").book.reference_ticks == 5000
