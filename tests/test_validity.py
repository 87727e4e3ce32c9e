"""The validity gate finds every fault that it names, and lets replay itself through, whatever replay is like."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from example_results import result
from marsbench import leaderboard
from marsbench.evidence import TrajectoryPairs
from marsbench.experiment import score
from marsbench.market.orders import NO_PRICE, Flag, Kind, orders
from marsbench.market.replay import make_trajectory, replay_trajectory
from marsbench.market.rules import CONTINUOUS, MINUTE, SECOND
from marsbench.market.snapshots import Snapshots
from marsbench.market.trajectory import BookState, Trajectory
from marsbench.ranking import invalid
from marsbench.scores import Outcome
from marsbench.simulation.contracts import Start
from marsbench.validity import Health, health

MINUTES = 4
END = MINUTES * MINUTE
BOOK = BookState(
    resting=orders(kind=[Kind.ASK, Kind.BID], price_ticks=[1010, 990], size_shares=100, order_id=[1, 2]),
    last_trade_ticks=1000,
    next_id=3,
)


def flow(rows: list[tuple[float, int, int, int, int]], book: BookState = BOOK) -> Trajectory:
    """A trajectory of messages ``(second, kind, price, size, order id)``."""
    columns = [np.array(column) for column in zip(*rows, strict=True)] if rows else [np.zeros(0, int)] * 5
    second, kind, price, size, number = columns
    made = orders(
        (np.asarray(second, float) * SECOND).astype(np.int64),
        kind=kind, price_ticks=price, size_shares=size, order_id=number,
    )  # fmt: skip
    return make_trajectory(
        instrument="X", date="2024-01-02", rules=CONTINUOUS, start_ns=0, end_ns=END, book=book, orders=made
    )


def lively(step: int = 2) -> Trajectory:
    """The best bid walks up by ``step`` once a minute and an order is cancelled each minute: nothing is wrong."""
    rows = []
    for m in range(MINUTES):
        rows += [(60 * m + 10, Kind.BID, 991 + step * m, 10, 0), (60 * m + 20, Kind.BID, 980, 10, 100 + m)]
        rows += [(60 * m + 30, Kind.CANCEL, 0, 0, 100 + m)]
    return flow(rows)


def pairs(replay: Trajectory, simulated: Trajectory) -> TrajectoryPairs:
    start = Start("X", "2024-01-02", CONTINUOUS, 0, BOOK, flow([]), "X 2024-01-02")
    return TrajectoryPairs((start,), (replay,), ((simulated,),), MINUTES)


def faults(replay: Trajectory, simulated: Trajectory) -> set[str]:
    """Names of the limits that a simulation breaks."""
    found = {s.key: s for s in pairs(replay, simulated).validity()}
    return {sentence.split(" is ")[0].removeprefix("validity.") for sentence in invalid(found)}


def one_sided() -> Trajectory:
    """The best ask is taken away at once: no ask for nearly the whole time."""
    return flow([(1, Kind.CANCEL, 0, 0, 1)])


def wall() -> Trajectory:
    return flow([(5, Kind.ASK, 1012, 100_000, 0), *([(60 * m + 10, Kind.BID, 991 + m, 10, 0) for m in range(4)])])


def backwards() -> Trajectory:
    return flow([(100, Kind.BID, 992, 10, 0), (50, Kind.BID, 993, 10, 0)])


def sizeless() -> Trajectory:
    return flow([(10, Kind.BID, 992, 0, 0), (20, Kind.BID, 993, -5, 0), (30, Kind.BID, 993, 5, 0)])


def orphan() -> Trajectory:
    return flow([(10 * k, Kind.CANCEL, 0, 0, 5000 + k) for k in range(1, 5)])


CASES: dict[str, tuple[Trajectory, set[str]]] = {
    "lively": (lively(), set()),
    "silent": (flow([]), {"book_frozen"}),
    "one-sided": (one_sided(), {"book_one_sided", "cancel_gap"}),
    "wall": (wall(), {"walls", "cancel_gap"}),
    "time back": (backwards(), {"time_back", "rejected", "cancel_gap", "book_frozen"}),
    "bad sizes": (sizeless(), {"bad_sizes", "rejected", "cancel_gap", "book_frozen"}),
    "orphans": (orphan(), {"orphan_cancels", "rejected", "cancel_gap", "book_frozen"}),
    "runs away": (lively(step=-1), set()),
}


@pytest.mark.parametrize("name", [n for n in CASES if n != "runs away"])
def test_every_fault_is_found_by_its_own_name(name: str) -> None:
    simulated, wanted = CASES[name]
    if name in ("time back", "bad sizes"):  # too few moves to say that the mid is frozen or not
        assert faults(lively(), simulated) | {"book_frozen"} == wanted
    else:
        assert faults(lively(), simulated) == wanted


@pytest.mark.parametrize("name", CASES)
def test_replay_passes_as_a_simulation_of_itself_whatever_it_is_like(name: str) -> None:
    """A real day that is frozen, one-sided or full of rejected messages does not fail its own copy."""
    assert faults(CASES[name][0], CASES[name][0]) == set()


def test_a_price_that_runs_away_drifts() -> None:
    book = replace(BOOK, resting=orders(kind=[0, 1], price_ticks=[9000, 990], size_shares=100, order_id=[1, 2]))
    rows = [(60 * m + 10, Kind.BID, 1000 + 400 * m, 10, 0) for m in range(MINUTES)]
    rows += [(60 * m + 30, Kind.CANCEL, 0, 0, 2 if m == 0 else 2 + m) for m in range(2)]
    assert "drift" in faults(lively(), flow(rows, book))


def test_the_counts_of_a_known_stream() -> None:
    made = flow(
        [
            (10, Kind.BID, 991, 10, 0),
            (20, Kind.BID, 992, 0, 0),  # no size
            (15, Kind.BID, 992, 5, 0),  # earlier than the message before
            (30, Kind.CANCEL, 0, 0, 999),  # nothing there
            (40, Kind.CANCEL, 0, 0, 3),
            (50, Kind.ASK, 1010, 7, 0),  # joins 100 shares at the best ask
        ]
    )
    found = health(made, replay_trajectory(made, levels=1))
    assert found == Health(
        messages=6, rejected=3, bad_size=1, time_back=1, cancels=2, orphans=1, largest_level_shares=107
    )


def test_seeded_volume_and_agents_are_not_the_generators_messages() -> None:
    bad = orders(SECOND, kind=Kind.BID, price_ticks=990, size_shares=0, owner=[1, 0], flags=[0, int(Flag.SEEDED)])
    made = make_trajectory(
        instrument="X", date="2024-01-02", rules=CONTINUOUS, start_ns=0, end_ns=END, book=BOOK, orders=bad
    )
    assert health(made, replay_trajectory(made, levels=1)).messages == 0


def test_crossed_and_locked_time_is_measured_to_the_second() -> None:
    """A matching book never crosses, so the snapshots are made by hand: 1 minute locked, 2 crossed, of 4."""
    made = flow([(60, Kind.BID, 500, 1, 0), (180, Kind.BID, 500, 1, 0)])
    done = replay_trajectory(made, levels=1)
    assert done.snapshots is not None
    price = np.full((3, 2, 1), NO_PRICE, np.int32)
    price[:, :, 0] = [[100, 100], [100, 101], [100, 99]]
    odd: Any = replace(done, snapshots=Snapshots(price, np.ones((3, 2, 1), np.int64)))
    found = health(made, odd)
    assert (found.crossed, found.locked) == (0.5, 0.25)


def test_validity_comes_first_and_an_invalid_generator_is_listed_unranked_with_the_reason() -> None:
    found = score(pairs(lively(), flow([])), {}, 0)
    assert list(found) == ["validity"]
    frozen = result("frozen")
    frozen = replace(frozen, outcomes={**frozen.outcomes, "validity": Outcome(found["validity"].scores)})
    board = leaderboard.build([frozen])
    assert board.rows[0].rank is None
    assert "validity.book_frozen is 1, above the limit" in (board.rows[0].unranked or "")
