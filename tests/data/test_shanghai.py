"""Shanghai level 2: orders and trades become one stream whose replay equals what the exchange published."""

from __future__ import annotations

import numpy as np
import pytest
from paper_exchange import gzipped, shanghai_day

from marsbench.data import shanghai
from marsbench.data.verify import AuctionCheck, verify
from marsbench.market.orders import AUCTION, Kind
from marsbench.market.replay import replay
from marsbench.market.rules import clock

ORDERS = "TransactTime,ApplSeqNum,BizIndex,OrderNo,OrdType,Side,Price,OrderQty"
TRADES = "TransactTime,ApplSeqNum,BizIndex,BidApplSeqNum,OfferApplSeqNum,LastPx,LastQty,ExecType"


def write(folder, orders: list[str], trades: list[str]):
    folder.mkdir(exist_ok=True)
    gzipped(folder / "600000_2023-02-07_trades.csv.gz", [TRADES, *trades])
    return gzipped(folder / "600000_2023-02-07_orders.csv.gz", [ORDERS, *orders])


@pytest.mark.parametrize("layout", ["exchange", "vendor"])
@pytest.mark.parametrize("seed", range(8))
def test_a_random_day_with_both_auctions_is_reproduced_entirely(tmp_path, layout, seed):
    result = verify(shanghai_day(tmp_path, seed, layout=layout))
    assert (result.unexplained, result.kinds) == (0, {})
    assert result.trades > 100
    for auction in result.auctions:
        assert auction.published_price_ticks == auction.replayed_price_ticks > 0
        assert auction.published_shares == auction.replayed_shares > 0
    if layout == "exchange":
        assert result.books == 144
        assert (result.best_quotes_match, result.all_levels_match) == (1.0, 1.0)
    else:
        assert (result.books, result.best_quotes_match) == (0, None)


def test_trades_and_the_rest_after_them_are_one_order(tmp_path):
    """Order 3 buys 100 + 200 and rests with 400; order 4 sells 50 of them and is gone."""
    path = write(
        tmp_path / "day",
        ["9310000,1,10,1,A,S,10.01,100.0", "9310000,2,11,2,A,S,10.02,200.0", "9320000,3,14,3,A,B,10.05,400.0"],
        ["9320000,1,12,3,1,10.01,100.0,B", "9320000,2,13,3,2,10.02,200.0,B", "9330000,3,15,3,4,10.05,50.0,S"],
    )
    day = shanghai.read(path)
    kept = [tuple(int(o[n]) for n in ("order_id", "kind", "price_ticks", "size_shares")) for o in day.orders[2:]]
    assert kept == [(3, Kind.BID, 1005, 700), (4, Kind.ASK, 1005, 50)]
    assert verify(path).unexplained == 0
    fills = day.trajectory().fills
    assert fills["bid_id"].tolist() == [3, 3, 3]
    assert fills["ask_id"].tolist() == [1, 2, 4]


def test_a_later_order_of_somebody_else_is_not_mistaken_for_the_rest(tmp_path):
    path = write(
        tmp_path / "day",
        ["9310000,1,10,1,A,S,10.01,100.0", "9320000,3,14,5,A,B,10.00,400.0"],
        ["9320000,1,12,3,1,10.01,100.0,B"],
    )
    assert [int(o["size_shares"]) for o in shanghai.read(path).orders] == [100, 100, 400]
    assert verify(path).unexplained == 0


def test_odd_lots_may_be_sold(tmp_path):
    path = write(
        tmp_path / "day",
        ["9310000,1,10,1,A,B,10.00,100.0", "9310000,2,11,2,A,S,10.01,37.0"],
        ["9320000,1,12,1,3,10.00,51.0,S"],
    )
    result = verify(path)
    assert (result.unexplained, result.kinds) == (0, {})


def test_a_message_stamped_just_behind_the_morning_session_still_belongs_to_it(tmp_path):
    path = write(
        tmp_path / "day",
        ["9310000,1,10,1,A,B,10.00,100.0", "11300012,2,11,2,A,S,10.01,100.0"],
        ["13000000,1,12,3,2,10.01,100.0,B"],
    )
    day = shanghai.read(path)
    assert day.orders["time_ns"][1] == clock("11:30") - 1
    assert day.facts["messages_moved_into_their_session"] == 1
    assert verify(path).unexplained == 0


def test_an_auction_order_stamped_behind_its_end_is_part_of_the_uncross(tmp_path):
    path = write(
        tmp_path / "day",
        ["9200000,1,10,1,A,S,10.00,100.0", "9250002,2,11,2,A,B,10.00,100.0"],
        ["9250010,1,12,2,1,10.00,100.0,N", "9310000,2,13,3,4,10.00,100.0,B"],
    )
    result = verify(path)
    assert result.auctions[0] == AuctionCheck("09:25:00", 1000, 1000, 100, 100)
    assert result.kinds == {"source_aggressor_older_than_resting_order": 1, "trade_missing": 1}  # nobody rests for it


def test_the_previous_close_comes_from_snapshots_argument_limits_or_is_unknown(tmp_path):
    path = shanghai_day(tmp_path / "with", 0, layout="exchange")
    assert shanghai.read(path).book.reference_ticks == 5000
    path = shanghai_day(tmp_path / "without", 0, layout="exchange", snapshots=False)
    derived = shanghai.read(path)  # two orders stand at 45.00 and 55.00
    assert derived.book.reference_ticks == 5000
    assert "derived" in derived.facts["reference"]
    assert shanghai.read(path, reference_ticks=4990).book.reference_ticks == 4990
    unknown = shanghai.read(
        write(tmp_path / "no", ["9310000,1,10,1,A,S,10.01,100.0"], ["9320000,1,12,3,1,10.01,50.0,B"])
    )
    assert unknown.book.reference_ticks == 0
    assert "unknown" in unknown.facts["reference"]


def test_a_wrong_previous_close_shows_as_rejected_orders(tmp_path):
    path = shanghai_day(tmp_path, 0, layout="exchange", snapshots=False)
    result = verify(path, reference_ticks=6500)
    assert result.kinds["rejected_price_limit"] > 0
    assert result.unexplained > 0


def test_any_file_of_the_day_its_prefix_and_its_folder_are_the_same_day(tmp_path):
    orders = shanghai_day(tmp_path / "day", 3, layout="exchange")
    expected = shanghai.read(orders).trajectory().content_hash()
    for path in (
        orders.with_name(orders.name.replace("orders", "trades")),
        orders.with_name(orders.name.replace("orders", "snapshots")),
        orders.with_name("600000_2023-02-07"),
        orders.parent,
    ):
        assert shanghai.read(path).trajectory().content_hash() == expected


def test_the_day_begins_with_an_empty_book_and_ends_with_the_closing_auction(tmp_path):
    day = shanghai.read(shanghai_day(tmp_path, 1, layout="vendor"))
    assert len(day.book.resting) == 0
    fills = day.trajectory().fills
    assert fills["side"][0] == AUCTION
    assert fills["side"][-1] == AUCTION
    assert np.array_equal(replay(day.rules, day.book, day.orders, end_ns=day.end_ns).fills, fills)


def test_moutai_on_the_public_sample(real_file):
    result = verify(real_file("sse/600519_2023-02-07_orders.csv.gz"))
    assert result.books == 4_767
    assert (result.best_quotes_match, result.all_levels_match) == (1.0, 1.0)
    assert (result.unexplained, result.kinds) == (0, {})
    assert result.auctions == (
        AuctionCheck("09:25:00", 180_808, 180_808, 42_718, 42_718),
        AuctionCheck("15:00:00", 179_700, 179_700, 40_203, 40_203),
    )
    assert result.trades == 18_685
    assert result.facts["reference_ticks"] == 179_500


def test_china_software_on_the_public_sample_in_another_layout(real_file):
    result = verify(real_file("sse/600536_2023-07-11_orders.csv.gz"))
    assert (result.unexplained, result.kinds) == (0, {})
    assert result.trades == 33_553
    assert result.rows == 49_583 + 33_553
    assert result.facts["reference_ticks"] == 5_120
