"""Biases that keep a maker in balance: where states lie, and that fitting them in simulations ends a planted drift."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from marsbench.data.catalogue import open_dataset
from marsbench.learning import balancing, raking
from marsbench.learning.balance import (
    BY_TYPE,
    CELLS,
    HOUR,
    PACE,
    PARTITIONS,
    SHARES,
    SLOTS,
    Balance,
    Edges,
    cells_of,
    shape,
)
from marsbench.learning.balancing import EVERY_MINUTES, STAGES, Stage, Wanted, balance, round_starts, stages_for
from marsbench.learning.noisy_session import NoisySession
from marsbench.learning.order_players import OrderMaker
from marsbench.learning.order_stream import STATE
from marsbench.learning.token_data import Prepared, prepare
from marsbench.learning.token_files import Windows
from marsbench.market.rules import MINUTE
from marsbench.simulation.contracts import Session, Start
from marsbench.simulation.randomness import Streams
from marsbench.simulation.rollout import simulate
from marsbench.simulation.training_starts import start_within
from trained import one_day_market

GROUPS = 2


def states(n: int = 4000, seed: int = 0) -> tuple[Any, Any, Any]:
    """Features, groups and tokens."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, len(STATE))).astype(np.float16)
    tokens = np.stack([rng.integers(k, size=n) for k in (3, 32, 32, 16)], 1)
    return features, rng.integers(GROUPS, size=n), tokens


def edges() -> Edges:
    features, group, _ = states()
    return Edges.fit(features, group, np.tile(np.float32([-1, -0.3, 0.1, 0.3, 1]), (GROUPS, 1)))


@pytest.mark.parametrize("field", PARTITIONS)
def test_every_state_lies_in_one_cell_of_each_partition(field: str) -> None:
    features, group, tokens = states(seed=1)
    cells = edges().cells(field, features, group, tokens)
    table = shape(field, GROUPS)
    assert table[1] == SLOTS[field]
    assert cells.min() >= 0
    assert cells.max() < table[0]
    within, first = cells % (table[0] // (GROUPS * 3)) if field in BY_TYPE else cells, 0
    for p, name in enumerate(PARTITIONS[field]):
        assert (within[:, p] >= first).all()
        first += cells_of(name, GROUPS)
        assert (within[:, p] < first).all()
    if field in BY_TYPE:
        owner = cells // (table[0] // (GROUPS * 3))
        np.testing.assert_array_equal(owner, np.broadcast_to((group * 3 + tokens[:, 0])[:, None], owner.shape))


def test_cells_hold_the_shares_of_training_that_they_are_made_for() -> None:
    features, group, tokens = states()
    cells = edges().cells("type", features, group, tokens)
    expected = np.diff([0, *SHARES, 1])
    first = 0
    for p, name in enumerate(PARTITIONS["type"]):
        share = np.bincount(cells[:, p] - first, minlength=cells_of(name, GROUPS)) / len(cells)
        if name in STATE:
            np.testing.assert_allclose(share, expected, atol=0.005)
        elif name == PACE:
            by_group = share.reshape(-1, CELLS)
            np.testing.assert_allclose(by_group / by_group.sum(axis=1, keepdims=True), [expected] * GROUPS, atol=0.01)
        elif name == HOUR:
            assert (share > 0).all()
        first += cells_of(name, GROUPS)


def test_what_is_stored_in_half_precision_tells_the_same_cells() -> None:
    features, group, tokens = states(seed=2)
    kept = Balance(GROUPS)
    kept.put(edges(), {field: np.zeros(shape(field, GROUPS)) for field in PARTITIONS})
    half = kept.half().edges
    for field in PARTITIONS:
        np.testing.assert_array_equal(
            half.cells(field, features, group, tokens), edges().cells(field, features, group, tokens)
        )


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    data = open_dataset(str(one_day_market()))
    return prepare(data, data.split("train"), "touch", tmp_path_factory.mktemp("cache"))


def hasty(groups: int) -> OrderMaker:
    """A maker that knows nothing and is in a hurry: short intervals, bids above all."""
    torch.manual_seed(0)
    maker = OrderMaker(groups, 16, 4, 1.0).eval().requires_grad_(False)
    last: Any = maker.head.interval
    last[-1].bias[:8] += 1.0
    kinds: Any = maker.head.kind
    kinds[-1].bias[1] += 0.5
    return maker


class Rolled:
    """Opens sessions of a maker."""

    name = "rolled"

    def __init__(self, maker: OrderMaker, prepared: Prepared) -> None:
        self.maker, self.prepared = maker, prepared

    def open(self, starts: list[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        streams = Streams.of(key, [s.uid for s in starts], rollouts)
        return NoisySession(self.maker, self.prepared.tokeniser, starts, rollouts, streams, context=32)


def test_a_hasty_maker_comes_to_the_pace_and_the_sides_of_training(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulations that count here begin elsewhere than those that the biases were fitted in, and last twice as long."""
    monkeypatch.setattr(raking, "PRIOR", 100.0)
    data = open_dataset(str(one_day_market()))
    periods = data.split("train")
    maker = hasty(len(prepared.tokeniser.vocabulary.names))
    said: list[str] = []
    rounds = 4
    found = balance(
        maker, prepared.tokeniser, prepared.train, partial(round_starts, data, periods, rounds=rounds),
        [Stage(5, 16)], rounds=rounds, context=32, seed=0, say=said.append,
    )  # fmt: skip
    assert len(said) == rounds
    assert all(len(own) == rounds for own in found.values())
    assert found["interval"][-1] < 0.5 * found["interval"][0]
    assert found["type"][-1] < 0.5 * found["type"][0]

    day = data.trajectory(periods[0])
    starts = [start_within(day, day.start_ns + m * MINUTE) for m in (15, 33, 48)]
    wanted = Wanted(prepared.train, prepared.tokeniser)
    sides = wanted.counts["type"][: cells_of(HOUR, 1)].sum(axis=0)
    begin = day.start_ns + 15 * MINUTE
    time = day.orders["time_ns"]
    real = np.count_nonzero((time >= begin) & (time < begin + 60 * MINUTE)) / 60
    fresh = hasty(len(prepared.tokeniser.vocabulary.names))
    counts, kinds = [], []
    for own in (fresh, maker):
        made: Any = Rolled(own, prepared)
        runs = [run for row in simulate(made, starts, 5, 10 * MINUTE, key=9) for run in row]
        counts.append(np.mean([len(run.orders) for run in runs]) / 10)
        kind = np.concatenate([run.orders["kind"] for run in runs])
        kinds.append(np.bincount(kind, minlength=3)[:3] / len(kind))
    goal = sides / sides.sum()
    assert abs(np.log(counts[0] / real)) > 0.25, (counts, real)
    assert abs(np.log(counts[1] / real)) < 0.15, (counts, real)
    assert np.abs(kinds[1] - goal).sum() < 0.25 * np.abs(kinds[0] - goal).sum(), (kinds, goal)


def test_training_that_is_too_short_to_simulate_says_so() -> None:
    data = open_dataset(str(one_day_market()))
    (period,) = data.split("train")
    short, longer, whole = (replace(period, end_ns=period.start_ns + m * MINUTE) for m in (29, 60, 90))
    assert stages_for(data, [short, whole]) == STAGES
    assert [stage.minutes for stage in stages_for(data, [short, longer])] == [5, 20, 50]
    with pytest.raises(ValueError, match="no training period lasts 30 minutes"):
        stages_for(data, [short])


def test_a_simulation_without_orders_is_no_ground_for_biases(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balancing, "in_processes", lambda _, work, calls: [work(*call) for call in calls])
    monkeypatch.setattr(balancing, "simulate", lambda *_, **__: [])
    data = open_dataset(str(one_day_market()))
    stage = Stage(5, 1)
    starts = round_starts(data, data.split("train"), 0, stage, rounds=1)
    with pytest.raises(ValueError, match="no order came in 5 minutes"):
        balance(
            hasty(1), prepared.tokeniser, prepared.train, lambda *_: starts, [stage], rounds=1, context=32, seed=0,
            say=lambda _: None,
        )  # fmt: skip


def drawn(inside: Any, field: str, n: int) -> None:
    """As if so many of a field had been drawn."""
    cells = np.zeros((n, len(PARTITIONS[field])), np.int32)
    inside.kept[field].append(raking.Draws(cells, np.zeros((n, SLOTS[field]), np.float32)))


def test_simulations_in_which_nothing_came_do_not_hide_those_of_other_parts(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interval is drawn at the start; whether the order comes within the horizon is another matter."""

    def one_part_is_busy(inside: Any, starts: list[Start], *_: Any, **__: Any) -> None:
        drawn(inside, "interval", 3)
        if starts[0] is busy:
            for field in ("type", "price", "volume"):
                drawn(inside, field, 2)

    monkeypatch.setattr(balancing, "in_processes", lambda _, work, calls: [work(*call) for call in calls])
    monkeypatch.setattr(balancing, "simulate", one_part_is_busy)
    data = open_dataset(str(one_day_market()))
    stage = Stage(5, 4)
    starts = round_starts(data, data.split("train"), 0, stage, rounds=1)
    assert len(starts) == 4

    def found() -> dict[str, int]:
        made = balancing._simulated(balancing._Inside(hasty(1), prepared.tokeniser, 32), starts, stage, 0)
        return {field: len(draws.cells) for field, draws in made.items()}

    busy: Any = starts[2]
    counts = found()
    assert counts["type"] == counts["price"] == counts["volume"] > 0
    busy = None
    with pytest.raises(ValueError, match="no order came in 5 minutes"):
        found()


def test_a_morning_too_short_and_lunch_are_not_enough() -> None:
    data = open_dataset(str(one_day_market()))
    (period,) = data.split("train")
    begin = period.start_ns + 80 * MINUTE  # at ten to eleven; lunch is from half past eleven to one
    late = replace(period, start_ns=begin, end_ns=begin + 150 * MINUTE)
    day = data.trajectory(period)
    lone: Any = SimpleNamespace(name=data.name, trajectory=lambda p: replace(day, start_ns=p.start_ns, end_ns=p.end_ns))
    with pytest.raises(ValueError, match="do 80 minutes of trading follow the first 10"):
        round_starts(lone, [late], 0, STAGES[-1], rounds=1)


def test_starts_of_rounds_lie_within_training_and_leave_time_to_go_on() -> None:
    data = open_dataset(str(one_day_market()))
    (period,) = data.split("train")
    starts = round_starts(data, [period], 3, Stage(20, 120), rounds=4)
    clocks = [start.clock_ns for start in starts]
    assert clocks == sorted(set(clocks))
    assert min(clocks) >= period.start_ns + 10 * MINUTE
    assert max(clocks) + 20 * MINUTE <= period.end_ns
    assert all(start.date == period.date and len(start.history.orders) > 0 for start in starts)


def test_nothing_is_fitted_in_no_rounds(prepared: Prepared) -> None:
    maker = hasty(1)
    found = balance(
        maker, prepared.tokeniser, prepared.train, lambda *_: [], STAGES, rounds=0, context=32, seed=0,
        say=lambda _: None,
    )  # fmt: skip
    assert found == {field: [] for field in PARTITIONS}
    assert all((bias == 0).all() for bias in maker.balance.biases().values())


def test_single_starts_of_many_instruments_are_not_all_at_the_same_time() -> None:
    data = open_dataset(str(one_day_market()))
    (period,) = data.split("train")
    many = [replace(period, instrument=f"{period.instrument}-{k}") for k in range(12)]
    lone: Any = SimpleNamespace(
        name=data.name, trajectory=lambda p: replace(data.trajectory(period), instrument=p.instrument)
    )
    times = {
        number: [start.clock_ns for start in round_starts(lone, many, number, Stage(20, 12), rounds=3)]
        for number in range(3)
    }
    assert all(len(own) == len(many) and len(set(own)) >= len(many) // 2 for own in times.values())
    assert len({tuple(own) for own in times.values()}) == len(times)


def test_orders_before_the_first_simulation_do_not_count(prepared: Prepared) -> None:
    """The first minutes of a session have frequencies of their own, and no simulation goes through them."""
    wanted = Wanted(prepared.train, prepared.tokeniser)
    (part,) = prepared.train.parts
    since = STATE.index("seconds_since_open")
    edge = prepared.tokeniser.layout.scaler.column("seconds_since_open", (60.0 * EVERY_MINUTES,))[0, 0]
    windows = Windows(prepared.train, min(balancing.LENGTH, part.rows - 1), 0)
    batch = windows.batch(0, windows.per_epoch)
    later = int((batch["features"][:, 1:, since].astype(np.float32) > edge).sum())
    whole = batch["tokens"][:, 1:, 0].size
    hours = wanted.counts["type"][: cells_of(HOUR, 1)]
    assert 0 < later < whole
    assert hours.sum() == later
