"""NASDAQ ITCH 5.0: every message type, the orders behind them, and the same day as LOBSTER tells it."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paper_itch import FORMATS, OPEN, directory, every_message, message, twin_days

from marsbench.data import itch, lobster, sources
from marsbench.data.errors import DataError
from marsbench.data.itch_file import LAYOUT, read_messages
from marsbench.data.verify import states, verify, verify_day
from marsbench.market.replay import replay
from marsbench.market.rules import PhaseKind

NAME = "01302020.NASDAQ_ITCH50"


def write(folder, messages, name=NAME):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    content = messages if isinstance(messages, bytes) else b"".join(messages)
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def test_every_message_type_of_the_specification_is_parsed_and_stands_in_the_file(tmp_path):
    path = write(tmp_path, every_message())
    messages = read_messages(path, "TEST")
    assert set(messages.tables) == set(FORMATS) == set(LAYOUT)
    assert messages.tables["R"]["stock"].tolist() == [b"TEST    "]
    assert messages.tables["R"]["round_lot"].tolist() == [100]
    assert messages.tables["I"]["reference"].tolist() == [100_200]
    assert messages.tables["V"]["level_3"].tolist() == [7 * 10**8]
    assert messages.tables["O"]["upper_collar"].tolist() == [105_000]
    assert messages.tables["Q"]["cross"].tolist() == [b"H"]
    assert messages.number.tolist() == [k + 1 for k in range(len(every_message())) if k not in (2, 14)]


def test_blocks_of_any_length_give_the_same_messages(tmp_path, monkeypatch):
    path = write(tmp_path, every_message())
    whole = read_messages(path, "TEST")
    monkeypatch.setattr("marsbench.data.itch_file._CHUNK", 7)
    parts = read_messages(path, "TEST")
    assert (parts.type == whole.type).all()
    assert (parts.time_ns == whole.time_ns).all()
    assert (parts.number == whole.number).all()


def test_the_walk_over_a_file_finds_what_a_loop_over_its_messages_finds(tmp_path):
    content = b"".join(every_message())
    slow, at = [], 0
    while at < len(content):
        length = int.from_bytes(content[at : at + 2], "big")
        body = content[at + 2 : at + 2 + length]
        if int.from_bytes(body[1:3], "big") == 1 or chr(body[0]) in "SVW":
            slow.append((chr(body[0]), int.from_bytes(body[5:11], "big")))
        at += 2 + length
    fast = read_messages(write(tmp_path, content), "TEST")
    assert list(zip(fast.type.tolist(), fast.time_ns.tolist(), strict=True)) == slow


def test_the_orders_behind_the_messages(tmp_path):
    day = itch.read(write(tmp_path, every_message()), instrument="TEST")
    assert (day.date, day.instrument, day.rules.tick_size) == ("2020-01-30", "TEST", "0.01")
    sent = day.orders[["time_ns", "order_id", "kind", "price_ticks", "size_shares"]]
    assert sent.tolist() == [
        (OPEN, 1, 1, 999, 500),
        (OPEN + 1, 2, 0, 1001, 300),
        (OPEN + 2, 3, 0, 1001, 200),
        (OPEN + 3, 4, 0, 1003, 400),
        (OPEN + 4, 8, 1, 1001, 400),  # two executions at one time: one buyer
        (OPEN + 5, 5, 1, 1001, 150),  # an execution and the order behind it: one buyer, whose rest rests
        (OPEN + 6, 1, 2, 999, 100),
        (OPEN + 8, 4, 2, 0, 0),  # a replace: the old order goes,
        (OPEN + 8, 6, 0, 1002, 350),  # a new one comes
        (OPEN + 9, 6, 2, 1002, 50),
        (OPEN + 10, 9, 1, 1002, 100),
        (OPEN + 21, 7, 1, 1004, 80),
        (OPEN + 24, 7, 2, 0, 0),
        (OPEN + 24, 6, 2, 1002, 80),
        (OPEN + 30, 10, 0, 1001, 50),
        (OPEN + 31, 1, 2, 0, 0),
    ]
    halt = [(p.start_ns, p.end_ns) for p in day.rules.phases if p.kind == PhaseKind.AUCTION]
    assert halt == [(OPEN + 20, OPEN + 25)]
    assert day.facts["hidden_executions"] == 1
    assert day.facts["cross_trades"] == 1
    assert day.facts["shares_executed_in_crosses"] == 50 + 80 + 80


def test_replay_agrees_with_every_message(tmp_path):
    found = verify(write(tmp_path, every_message()), instrument="TEST")
    assert (found.unexplained, found.kinds) == (0, {})
    assert (found.trades, found.left_at_end) == (5, 1)
    assert found.best_quotes_match == found.all_levels_match == 1.0


def test_an_execution_that_time_priority_forbids_is_passed_over_and_said(tmp_path):
    day = [
        directory(),
        message("A", OPEN, 1, "B", 100, "TEST", 99_900),
        message("A", OPEN + 1, 2, "B", 100, "TEST", 99_900),
        message("E", OPEN + 2, 2, 100, 1),
    ]
    found = verify(write(tmp_path, day))
    assert (found.unexplained, found.passed_over) == (0, 1)


def test_an_execution_behind_a_better_price_is_unexplained(tmp_path):
    day = [
        directory(),
        message("A", OPEN, 1, "B", 100, "TEST", 99_900),
        message("A", OPEN + 1, 2, "B", 100, "TEST", 99_800),
        message("E", OPEN + 2, 2, 100, 1),
    ]
    found = verify(write(tmp_path, day))
    assert found.kinds["trade_price"] == 1
    assert found.kinds["order_left_at_the_end"] == 2


def test_an_added_order_that_crosses_is_unexplained(tmp_path):
    day = [
        directory(),
        message("A", OPEN, 1, "B", 100, "TEST", 99_900),
        message("A", OPEN + 1, 2, "S", 60, "TEST", 99_800),
    ]
    assert verify(write(tmp_path, day)).kinds["trade_not_published"] == 1


def test_a_stock_below_a_dollar_has_a_finer_tick(tmp_path):
    day = [directory(), message("A", OPEN, 1, "B", 100, "TEST", 4_321), message("A", OPEN, 2, "S", 100, "TEST", 4_400)]
    found = itch.read(write(tmp_path, day))
    assert (found.rules.tick_size, found.orders["price_ticks"].tolist()) == ("0.0001", [4321, 4400])
    with pytest.raises(DataError, match=r"row 2: price 0\.4321 lies between cents"):
        itch.read(write(tmp_path, day), tick="0.01")


def test_the_date_is_taken_from_the_name_or_given(tmp_path):
    for name in ("01302020.NASDAQ_ITCH50.gz", "S013020-v50.txt", "TEST-2020-01-30.itch"):
        path = write(tmp_path, every_message(), name)
        assert sources.detect(path) == "itch"
        assert sources.read(path, instrument="TEST").date == "2020-01-30"
    assert (
        itch.read(write(tmp_path, every_message(), "day.itch"), instrument="TEST", date="2021-02-03").date
        == "2021-02-03"
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_day_written_as_itch_and_as_lobster_is_the_same_day(tmp_path_factory, seed):
    content, twin = twin_days(seed)
    folder = tmp_path_factory.mktemp("day")
    one = itch.read(write(folder, content))
    other = lobster.read(twin.write(folder))
    for day in (one, other):
        found = verify_day(day)
        assert (found.unexplained, found.kinds) == (0, {})
    first, second = (replay(day.rules, day.book, day.orders, levels=60, end_ns=day.end_ns) for day in (one, other))
    columns = ["time_ns", "price_ticks", "size_shares", "side"]
    assert first.fills[columns].tolist() == second.fills[columns].tolist()
    for id_of, aggressor in (("bid_id", 0), ("ask_id", 1)):
        resting = [f[id_of][f["side"] == aggressor].tolist() for f in (first.fills, second.fills)]
        assert resting[0] == resting[1]
    sent = ["time_ns", "kind", "size_shares"]
    both = [np.repeat(0, 0), np.repeat(0, 0)]
    for k, day in enumerate((one, other)):
        new = day.orders[day.orders["kind"] != 2]
        both[k] = new[[*sent, "price_ticks"]].tolist()
    assert both[0] == both[1]
    ends = [states(day, run, np.arange(len(day.row_message)), 10) for day, run in ((one, first), (other, second))]
    assert (ends[0][0][-1] == ends[1][0][-1]).all()
    assert (ends[0][1][-1] == ends[1][1][-1]).all()
    books = [_by_time(day, run) for day, run in ((one, first), (other, second))]
    assert books[0] == books[1]


def _by_time(day, run):
    """The replayed book after the last message of each time."""
    times = day.orders["time_ns"]
    last = np.flatnonzero(np.r_[times[1:] != times[:-1], True]) + 1
    shots = run.snapshots
    return {int(times[k - 1]): (shots.price_ticks[k].tolist(), shots.size_shares[k].tolist()) for k in last.tolist()}
