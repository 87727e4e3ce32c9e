"""Trend labels, against the definitions written out order by order."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from markets import two_days
from marsbench.labels import CLASSES, FLAT_FI_2010, LABELS, Label, Mids, realised_volatility, shares
from marsbench.market.orders import Kind, orders
from marsbench.market.replay import make_trajectory, replay_trajectory
from marsbench.market.rules import MINUTE, SECOND, SSE_A_SHARE, clock
from marsbench.market.trajectory import BookState, Trajectory
from marsbench.stats.classes import MISSING, classify

BID, ASK = Kind.BID, Kind.ASK
NAN = float("nan")


def book(bid: int = 990, ask: int = 1010) -> BookState:
    return BookState(
        orders(kind=[BID, ASK], price_ticks=[bid, ask], size_shares=1000, order_id=[1, 2]), time_ns=clock("09:30")
    )


def market(*sent: tuple[str, Kind, int, int]) -> Trajectory:
    """A morning of orders (time, kind, price, owner) of one lot."""
    times, kinds, prices, owners = zip(*sent, strict=True)
    return make_trajectory(
        instrument="X", date="2024-01-02", rules=SSE_A_SHARE, start_ns=clock("09:30"), end_ns=clock("13:30"),
        book=book(),
        orders=orders(
            [clock(t) for t in times], kind=list(kinds), price_ticks=list(prices), size_shares=100, owner=list(owners)
        ),
    )  # fmt: skip


def day() -> Trajectory:
    """Mids in half ticks: 2000 at first; 2004 from 9:31 on, 2010 from 9:31:30, 2004 from 9:40, 2006 from 13:01."""
    return market(
        ("09:31", BID, 994, 0),
        ("09:31:30", BID, 1000, 0),
        ("09:31:45", BID, 970, 7),  # an agent's, which no mean counts
        ("09:32", BID, 980, 0),
        ("09:40", ASK, 1000, 0),
        ("13:01", BID, 996, 0),
    )


def trading(text: str) -> int:
    return int(SSE_A_SHARE.trading_ns(clock(text)))


def test_the_papers_move_is_the_mean_of_the_mids_after_each_order_against_the_mid_now() -> None:
    mids = Mids.of(day())
    assert mids.first == 2000
    assert mids.mid.tolist() == [2004, 2010, 2010, 2004, 2006]
    at = np.array([trading("09:30"), trading("09:31"), trading("09:31:10")])
    found = LABELS["mars"].moves(mids, at, 1)
    assert found == pytest.approx([2004 / 2000 - 1, 2010 / 2004 - 1, 2010 / 2004 - 1])
    assert LABELS["mars"].moves(mids, at[:1], 2) == pytest.approx([(2004 + 2010 + 2010) / 3 / 2000 - 1])


def test_by_time_a_mid_counts_as_long_as_it_stands() -> None:
    mids = Mids.of(day())
    found = LABELS["mars-time"].moves(mids, [trading("09:30:30"), trading("09:31")], 1)
    assert found == pytest.approx([(2000 + 2004) / 2 / 2000 - 1, (2004 + 2010) / 2 / 2004 - 1])


def test_where_no_order_comes_the_mid_has_not_moved() -> None:
    mids = Mids.of(day())
    for name in ("mars", "mars-time"):
        assert LABELS[name].moves(mids, [trading("09:35")], 3).tolist() == [0]


def test_lunch_takes_no_time() -> None:
    mids = Mids.of(day())
    last = 2006 / 2004 - 1
    assert LABELS["mars"].moves(mids, [trading("11:29:30")], 2) == pytest.approx([last])
    assert LABELS["mars-time"].moves(mids, [trading("11:30")], 2) == pytest.approx([last / 2])
    assert trading("11:30") == trading("13:00")


def test_what_reaches_beyond_the_path_has_no_move() -> None:
    mids = Mids.of(day())
    for name in ("mars", "mars-time"):
        assert np.isnan(LABELS[name].moves(mids, [trading("13:29:30")], 1)).all()
        assert np.isfinite(LABELS[name].moves(mids, [trading("13:29")], 1)).all()
    ends = [trading("13:00:59"), trading("13:01")]
    assert np.isnan(LABELS["fi-2010"].moves(mids, ends, 1)).tolist() == [False, True]
    early = LABELS["lse"].moves(mids, [trading("09:30:30"), trading("09:31"), trading("09:31:30")], 2)
    assert np.isnan(early).tolist() == [True, True, False]


def test_of_events_the_next_ones_are_compared_with_now_or_with_the_last_ones() -> None:
    mids = Mids.of(day())
    at = [trading("09:31:30")]
    assert LABELS["fi-2010"].moves(mids, at, 2) == pytest.approx([(2010 + 2004) / 2 / 2010 - 1])
    assert LABELS["lse"].moves(mids, at, 2) == pytest.approx([0])


def test_a_one_sided_book_has_no_mid_and_the_last_one_stands_for_now() -> None:
    emptied = market(("09:31", BID, 1010, 0), ("09:32", ASK, 1020, 0))
    bare = replace(
        emptied.book, resting=orders(kind=[BID, ASK], price_ticks=[990, 1010], size_shares=100, order_id=[1, 2])
    )
    path = Mids.of(replace(emptied, book=bare))
    assert np.isnan(path.mid).tolist() == [True, False]
    assert path.at([trading("09:30:30"), trading("09:31:30"), trading("09:32")]).tolist() == [2000, 2000, 2010]
    assert LABELS["mars"].moves(path, [trading("09:30")], 1).tolist() == [0]
    assert LABELS["mars"].moves(path, [trading("09:30")], 2) == pytest.approx([2010 / 2000 - 1])


def slow_move(label: Label, times: list[int], mids: list[float], first: float, at: int, horizon: int) -> float:
    """One move by its definition, of a path without one-sided moments."""
    so_far = [first, *(m for t, m in zip(times, mids, strict=True) if t <= at)]
    now, n = so_far[-1], len(so_far) - 1
    if label.unit == "events":
        later, past = mids[n : n + horizon], mids[max(n - horizon, 0) : n]
        if len(later) < horizon or (label.anchor == "mean" and len(past) < horizon):
            return NAN
        return float(np.mean(later) / (now if label.anchor == "now" else np.mean(past)) - 1)
    end = at + horizon * MINUTE
    inside = [(t, m) for t, m in zip(times, mids, strict=True) if at < t <= end]
    if label.weight == "event":
        return float(np.mean([m for _, m in inside]) / now - 1) if inside else 0.0
    steps = [(at, now), *inside, (end, 0.0)]
    area = sum(m * (b - a) for (a, m), (b, _) in pairwise(steps))
    return area / (end - at) / now - 1


@pytest.mark.parametrize("name", sorted(LABELS))
def test_moves_of_a_market_are_those_of_the_definition(name: str) -> None:
    whole, label = two_days()[0], LABELS[name]
    done = replay_trajectory(whole, levels=1)
    path = Mids.of(whole, done=done)
    keep = np.isfinite(path.mid)
    path = replace(path, clock_ns=path.clock_ns[keep], mid=path.mid[keep])
    rng = np.random.default_rng(0)
    at = rng.integers(path.begin_ns, path.end_ns - 6 * MINUTE, 60)
    at[:10] = path.clock_ns[rng.integers(0, len(path.mid) // 2, 10)]
    for horizon in (1, 3, 5):
        found = label.moves(path, at, horizon)
        times, mids = path.clock_ns.tolist(), path.mid.tolist()
        wanted = [slow_move(label, times, mids, path.first, int(t), horizon) for t in at]
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    assert np.isfinite(found).mean() > 0.8


def test_classes_are_terciles_of_the_training_period_and_stay_frozen() -> None:
    path, label = Mids.of(two_days()[0]), LABELS["mars"]
    at = np.arange(path.begin_ns, path.end_ns - 5 * MINUTE, 2 * SECOND)
    for horizon in (1, 3):
        training = label.moves(path, at, horizon)
        edges = label.edges(training)
        assert shares(classify(training, edges)) == pytest.approx([1 / 3] * 3, abs=0.02)
    moves = label.moves(Mids.of(two_days()[1]), at, 3)
    wanted = [MISSING if np.isnan(m) else 0 if m <= edges[0] else 2 if m > edges[1] else 1 for m in moves]
    assert classify(moves, edges).tolist() == wanted


def test_fi_2010_is_flat_within_its_threshold() -> None:
    edges = LABELS["fi-2010"].edges(np.zeros(0))
    moves = np.array([-0.0021, -FLAT_FI_2010, 0.0, FLAT_FI_2010, 0.0021, NAN])
    assert [CLASSES[c] if c >= 0 else None for c in classify(moves, edges)] == [
        "down", "flat", "flat", "flat", "up", None,
    ]  # fmt: skip


def test_realised_volatility_sums_squared_returns_of_ten_seconds() -> None:
    mids = Mids.of(day())
    found = realised_volatility(mids, [trading("09:30"), trading("09:30:55"), trading("09:34")], 2)
    steps = np.log([2004 / 2000, 2010 / 2004])
    assert found == pytest.approx([np.sqrt((steps**2).sum())] * 2 + [0])
    assert np.isnan(realised_volatility(mids, [trading("13:28:30")], 2)).all()


def test_shares_leave_out_what_is_missing() -> None:
    assert shares(np.array([0, 2, 2, MISSING, 1])).tolist() == [0.25, 0.25, 0.5]
    assert np.isnan(shares(np.array([MISSING]))).all()


def test_errors_name_what_is_wrong() -> None:
    path = Mids.of(two_days()[0])
    with pytest.raises(ValueError, match="at least 1 of minutes, got 0"):
        LABELS["mars"].moves(path, [path.begin_ns], 0)
    with pytest.raises(ValueError, match="ask for levels=1"):
        Mids.of(two_days()[0], done=replay_trajectory(two_days()[0]))
