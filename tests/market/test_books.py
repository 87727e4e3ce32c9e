"""Book snapshots alone: what they show is what the full simulation shows, and the rest is absent with a reason."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from markets import two_days
from marsbench.market.bars import MinuteBars, minute_bars
from marsbench.market.books import LACKS, BookSeries, book_bars, books_of, cut_books, faults, sample_books
from marsbench.market.orders import NO_PRICE
from marsbench.market.replay import cut
from marsbench.market.rules import CONTINUOUS, MINUTE, SECOND, SSE_A_SHARE, clock
from marsbench.market.snapshots import Snapshots

SHOWN = ("mid_half_ticks", "spread_ticks", "one_sided_share")


def series(rows: list[tuple[float, int | None, int | None]], *, minutes: int = 2, **changes: Any) -> BookSeries:
    """Books of one level from (seconds after the start, ask, bid); None for a side that is not there."""
    price, size = np.full((len(rows), 2, 1), NO_PRICE, np.int32), np.zeros((len(rows), 2, 1), np.int64)
    for i, (_, *quotes) in enumerate(rows):
        for side, quote in enumerate(quotes):
            if quote is not None:
                price[i, side, 0], size[i, side, 0] = quote, 100
    start = changes.get("start_ns", clock("10:00"))
    values: dict[str, Any] = {
        "instrument": "X", "date": "2024-01-02", "rules": SSE_A_SHARE, "start_ns": start,
        "end_ns": start + minutes * MINUTE, "time_ns": start + np.array([int(t * SECOND) for t, *_ in rows], np.int64),
        "books": Snapshots(price, size),
    }  # fmt: skip
    return BookSeries(**{**values, **changes})


@pytest.mark.parametrize("levels", [1, 10])
def test_mid_and_spread_are_those_of_the_full_simulation_to_the_digit(levels):
    day = two_days()[1]
    for part in (day, cut(day, clock("10:00"), clock("10:25"))):
        full, alone = minute_bars(part), book_bars(books_of(part, levels=levels))
        for name in SHOWN:
            np.testing.assert_array_equal(getattr(alone, name), getattr(full, name), err_msg=name)
        np.testing.assert_array_equal(alone.mid_returns(5), full.mid_returns(5))


def test_what_needs_messages_is_absent_and_nothing_else_is():
    bars = book_bars(books_of(cut(two_days()[1], clock("10:00"), clock("10:05"))))
    absent = {f.name for f in fields(MinuteBars) if np.isnan(getattr(bars, f.name)).all()}
    assert absent == set(LACKS) == {f.name for f in fields(MinuteBars)} - set(SHOWN)
    assert not any(np.isnan(getattr(bars, name)).any() for name in SHOWN)
    shapes = {f.name: getattr(bars, f.name).shape for f in fields(MinuteBars)}
    assert shapes == {name: (6,) if name.endswith("_ticks") and name != "spread_ticks" else (5,) for name in shapes}


def test_a_book_holds_until_the_next_one():
    found = book_bars(series([(0, 105, 100), (15, 103, 100), (45, 103, 102), (60, 110, 102), (90, None, 102)]))
    assert found.spread_ticks.tolist() == [(15 * 5 + 30 * 3 + 15 * 1) / 60, 8.0]
    assert found.mid_half_ticks[:2].tolist() == [205.0, 212.0]  # the book of the very end of a minute belongs to it
    assert np.isnan(found.mid_half_ticks[2])
    assert found.one_sided_share.tolist() == [0.0, 0.5]


def test_of_several_books_at_one_time_the_last_one_holds():
    found = book_bars(series([(0, 105, 100), (30, 104, 100), (30, 107, 101)], minutes=1))
    assert found.spread_ticks.tolist() == [5.5]
    assert found.mid_half_ticks.tolist() == [205.0, 208.0]


def test_lunch_is_no_time():
    rows = [(0, 102, 100), (92 * 60, 104, 100)]  # from 11:29 on; the second book is of 13:01
    found = book_bars(series(rows, start_ns=clock("11:29"), end_ns=clock("13:02")))
    assert found.spread_ticks.tolist() == [2.0, 2.0, 4.0]


def test_a_cut_starts_from_the_book_that_was_there_and_gives_the_bars_of_its_part():
    day = two_days()[1]
    whole, begin, end = books_of(day), clock("10:00"), clock("10:07")
    part = cut_books(whole, begin, end)
    assert (part.start_ns, part.end_ns, int(part.time_ns[0])) == (begin, end, begin)
    full = minute_bars(cut(day, begin, end))
    for name in SHOWN:
        np.testing.assert_array_equal(getattr(book_bars(part), name), getattr(full, name), err_msg=name)
    with pytest.raises(ValueError, match="cannot cut"):
        cut_books(whole, begin, day.end_ns + 1)


def test_sampling_gives_the_book_of_that_moment():
    books = sample_books(
        series([(0, 105, 100), (10, 106, 100), (20, 107, 100)]), clock("10:00") + np.array([-1, 0, 10, 19, 99]) * SECOND
    )
    assert books.price_ticks[:, 0, 0].tolist() == [105, 105, 106, 106, 107]


def test_faults_are_shares_of_trading_time():
    rows = [(0, 102, 100), (30, 100, 102), (60, 101, 101), (90, None, 101), (100, 102, None), (120, 103, 101)]
    found = faults(series(rows, minutes=4))
    assert found == {"crossed": 30 / 240, "locked": 30 / 240, "one_sided": 30 / 240, "silent": 2 / 4}
    over_lunch = [(0, 102, 100), (60, 100, 102), (92 * 60, 102, 100)]
    shares = faults(series(over_lunch, start_ns=clock("11:28"), end_ns=clock("13:02")))
    assert shares["crossed"] == 60 / 240
    assert faults(books_of(two_days()[1])) == dict.fromkeys(("crossed", "locked", "one_sided", "silent"), 0.0)


def test_books_at_regular_times_have_a_spread_only_if_they_are_dense():
    def regular(step_s: float) -> BookSeries:
        return series([(i * step_s, 101, 100) for i in range(int(120 / step_s))])

    assert regular(1).grid_ns == SECOND
    assert "spread_ticks" not in regular(1).lacks
    assert regular(3).lacks["spread_ticks"].startswith("with one book in 3 s, the mean spread of a minute is not")
    late = series([(0, 101, 100), *((2.5 + 3 * i, 101, 100) for i in range(30))])
    assert late.grid_ns == 3 * SECOND  # the book at the start is off the grid
    assert books_of(two_days()[1]).grid_ns is None
    assert set(books_of(two_days()[1]).lacks) == set(LACKS)
    assert two_days()[1].lacks == {}


def test_the_identity_is_the_content():
    one = series([(0, 101, 100), (5, 102, 100)])
    assert one.content_hash() == one.with_labels(file="x").content_hash()
    others = [
        series([(0, 101, 100), (5, 103, 100)]),
        series([(0, 101, 100), (6, 102, 100)]),
        replace(one, rules=CONTINUOUS),
        replace(one, end_ns=one.end_ns + 1),
        replace(one, instrument="Y"),
    ]
    assert len({s.content_hash() for s in [one, *others]}) == 6


def test_books_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="no book at the start: the first one is 10:00:01, the start 10:00:00"):
        series([(1, 101, 100)])
    with pytest.raises(ValueError, match="no book at the start"):
        series([])
    with pytest.raises(ValueError, match="must ascend"):
        series([(0, 101, 100), (5, 101, 100), (4, 101, 100)])
    with pytest.raises(ValueError, match="not lie after the end"):
        series([(0, 101, 100), (121, 101, 100)])
    with pytest.raises(ValueError, match="ends before it starts"):
        series([(0, 101, 100)], minutes=-1)
    with pytest.raises(ValueError, match=r"2 times need books of shape \[2, 2, L\]"):
        replace(series([(0, 101, 100)]), time_ns=np.array([1, 2]))
    with pytest.raises(ValueError, match="levels must be at least 1"):
        books_of(two_days()[1], levels=0)
