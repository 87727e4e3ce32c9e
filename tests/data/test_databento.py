"""Databento MBO: the records of each kind of event, the files that hold them, and real days of CME."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paper_databento import LAST, NQ, SECOND, Record, auction_day, random_day, tiny_day, write

from marsbench.data import databento, sources
from marsbench.data.convert import convert
from marsbench.data.dataset import Dataset
from marsbench.data.errors import DataError
from marsbench.data.verify import verify, verify_day
from marsbench.market.orders import Flag
from marsbench.market.rules import PhaseKind, clock

REPLACE, SEEDED = int(Flag.REPLACE), int(Flag.SEEDED)
ASK, BID, CANCEL = 0, 1, 2


def test_the_orders_behind_the_records(tmp_path):
    day = databento.read(write(tmp_path, tiny_day()))
    assert day.book.resting[["order_id", "kind", "price_ticks", "size_shares"]].tolist() == [
        (2, ASK, 19204 - 0, 4),
        (1, BID, 19200, 5),
    ]
    sent = day.orders[["time_ns", "order_id", "kind", "price_ticks", "size_shares", "flags"]]
    assert [(t // SECOND, *rest) for t, *rest in sent.tolist()] == [
        (1, 3, BID, 19203, 3, 0),
        (2, 4, ASK, 19205, 6, 0),
        (3, 5, ASK, 19204, 1, 0),
        (4, 6, BID, 19205, 7, 0),  # two prices, one order
        (5, 7, ASK, 19203, 5, 0),  # its fills, and what rests
        (6, 7, CANCEL, 19203, 1, 0),
        (7, 7, ASK, 19206, 1, REPLACE),
        (8, 8, BID, 19200, 1, 0),
        (9, 12, BID, 19200, 3, SEEDED),  # what the iceberg did not show
        (9, 9, ASK, 19200, 9, 0),
        (9, 1, BID, 19200, 4, SEEDED),  # what it shows next
        (10, 4, CANCEL, 0, 0, 0),
        (10, 7, CANCEL, 0, 0, 0),
        (10, 10, BID, 19206, 1, 0),
        (11, 11, ASK, 19210, 2, 0),
        (12, 11, ASK, 19206, 2, REPLACE),
        (13, 1, CANCEL, 19200, 3, 0),
    ]
    found = verify_day(day)
    assert (found.unexplained, found.kinds, found.passed_over) == (0, {}, 0)
    assert (found.best_quotes_match, found.all_levels_match, found.left_at_end) == (1.0, 1.0, 2)
    assert day.facts["hidden_orders_that_came_to_light"] == 2


def test_an_opening_auction_is_left_to_the_clearing_house(tmp_path):
    day = databento.read(write(tmp_path, auction_day()))
    assert [(p.kind, p.start_ns, p.end_ns) for p in day.rules.phases] == [
        (PhaseKind.AUCTION, 0, 60 * SECOND),
        (PhaseKind.CONTINUOUS, 60 * SECOND, 120 * SECOND),
    ]
    found = verify_day(day)
    assert (found.unexplained, found.kinds) == (0, {})
    (auction,) = found.auctions
    assert (auction.published_price_ticks, auction.published_shares) == (19200, 7)
    assert (auction.replayed_price_ticks, auction.replayed_shares) == (19200, 7)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("day.dbn.zst", {}),
        ("day.csv", {}),
        ("day.csv.zst", {}),
        ("day.csv.gz", {}),
        ("pretty.csv", {"pretty": True}),
    ],
)
def test_every_kind_of_file_gives_the_same_day(tmp_path, name, options):
    assert sources.detect(write(tmp_path, tiny_day(), name, **options)) == "databento"
    one = databento.read(write(tmp_path, tiny_day(), name, **options))
    other = databento.read(write(tmp_path, tiny_day()))
    assert one.trajectory().content_hash() == other.trajectory().content_hash()
    assert (one.instrument, one.date, one.rules.tick_size) == ("ESH4", "2023-12-26", "0.25")


def test_the_instrument_is_chosen_by_symbol_or_id(tmp_path):
    other = [Record("A", "B", 70000, 1, 1, 0, LAST, NQ)]
    path = write(tmp_path, other + tiny_day())
    for instrument in ("NQH4", str(NQ)):
        day = sources.read(path, instrument=instrument)
        assert (day.instrument, len(day.orders), day.rules.tick_size) == ("NQH4", 1, "17500")
    assert len(sources.read(path, instrument="ESH4", tick="0.05").orders) == 17


def test_the_book_may_be_cleared(tmp_path):
    cleared = [*tiny_day(), Record("R", "N", 0, 0, 0, 14 * SECOND), Record("A", "B", 19000, 1, 20, 15 * SECOND)]
    found = verify(write(tmp_path, cleared))
    assert (found.unexplained, found.left_at_end, found.facts["books_cleared"]) == (0, 1, 1)


def test_times_of_the_matching_engine_that_fall_behind_are_moved_and_counted(tmp_path):
    text = write(tmp_path, tiny_day(), "day.csv").read_text().splitlines()
    cells = text[8].split(",")
    cells[1] = str(int(cells[1]) - 2 * SECOND)
    text[8] = ",".join(cells)
    (tmp_path / "day.csv").write_text("\n".join(text) + "\n")
    found = verify(tmp_path / "day.csv")
    assert (found.unexplained, found.facts["times_moved_forward"]) == (0, 1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_replay_gives_what_a_slow_exchange_published(tmp_path_factory, seed):
    records = random_day(seed)
    found = verify(write(tmp_path_factory.mktemp("day"), records))
    assert (found.unexplained, found.kinds, found.passed_over) == (0, {}, 0)
    assert found.trades == sum(r.action == "F" for r in records)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"size": 2}, "fills_exceed_their_trade"),
        ({"quarters": 19205}, "fill_at_a_price_where_the_order_does_not_rest"),
    ],
)
def test_a_fill_that_contradicts_the_book_is_unexplained(tmp_path, change, kind):
    records = tiny_day()
    assert (records[7].action, records[7].order_id) == ("F", 5)
    for name, value in change.items():
        setattr(records[7], name, value)
    assert any(kind in name for name in verify(write(tmp_path, records)).kinds)


def test_a_fill_of_the_wrong_order_is_unexplained_or_passed_over(tmp_path):
    records = [
        Record("A", "B", 100, 1, 1, 1),
        Record("A", "B", 99, 1, 2, 2),
        Record("T", "A", 99, 1, 3, 3, 0),
        Record("F", "B", 99, 1, 2, 3, 0),
        Record("C", "B", 99, 1, 2, 3),
    ]
    assert verify(write(tmp_path, records)).kinds["trade_price"] == 1


@pytest.mark.parametrize(
    ("name", "snapshot", "orders", "trades", "left"),
    [
        ("esh4-glbx-mdp3-20231224.mbo.dbn.zst", 8725, 0, 0, 8725),
        ("esh4-glbx-mdp3-20231225.mbo.dbn.zst", 8725, 47390, 6291, 11217),
    ],
)
def test_real_days_of_cme_replay_without_a_difference(real_file, name, snapshot, orders, trades, left):
    found = verify(real_file(f"databento/{name}"))
    assert (found.unexplained, found.kinds, found.passed_over) == (0, {}, 0)
    assert found.facts["snapshot_orders"] == snapshot
    assert (found.orders, found.trades, found.left_at_end) == (orders, trades, left)
    if orders:
        assert (found.best_quotes_match, found.all_levels_match) == (1.0, 1.0)
        (auction,) = found.auctions
        assert (auction.end, auction.replayed_price_ticks, auction.replayed_shares) == ("17:00:00", 19201, 44)


def test_a_real_day_of_cme_becomes_a_data_set(real_file, tmp_path):
    convert(real_file("databento/esh4-glbx-mdp3-20231225.mbo.dbn.zst"), name="es", out=tmp_path / "es")
    (test,) = Dataset(tmp_path / "es").split("test")
    assert (test.start_ns, test.end_ns) == (clock("17:35"), clock("18:00"))


def test_options_that_make_no_sense_are_refused(tmp_path):
    path = write(tmp_path, tiny_day())
    with pytest.raises(ValueError, match="option tick='quarter'"):
        databento.read(path, tick="quarter")
    with pytest.raises(ValueError, match="no such IANA time zone"):
        databento.read(path, timezone="Chicago")
    with pytest.raises(DataError, match=r"no multiple of the tick 0\.5"):
        databento.read(path, tick="0.5")
