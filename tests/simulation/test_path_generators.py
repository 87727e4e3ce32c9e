"""Generators of price paths: what they are held to, and what becomes of those that break it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from markets import start_at, two_days
from marsbench.market.bars import minute_bars
from marsbench.market.replay import cut
from marsbench.market.rules import MINUTE
from marsbench.market.trajectory import BookState
from marsbench.rollouts import Rollouts, Source, make_paths
from marsbench.simulation.agents import far_orders
from marsbench.simulation.contracts import PathGenerator, Start
from marsbench.simulation.validate_paths import validate_paths
from toy_paths import RandomWalk


@cache
def starts() -> tuple[Start, ...]:
    return tuple(start_at(two_days()[1], text) for text in ("10:00", "10:10", "10:20"))


def test_a_start_knows_the_mid_that_replay_departs_from() -> None:
    for start in starts():
        replay = minute_bars(cut(two_days()[1], start.clock_ns, start.clock_ns + MINUTE))
        assert start.mid_ticks == replay.mid_half_ticks[0] / 2
    assert replace(starts()[0], book=BookState(last_trade_ticks=77)).mid_ticks == 77.0


def test_a_sound_generator_passes() -> None:
    report = validate_paths(RandomWalk(), starts(), minutes=10)
    assert report.passed, str(report)
    assert "float64 [3, 2, 10]" in str(report)


class Wrong(RandomWalk):
    def __init__(self, change: Any) -> None:
        self.change, self.calls = change, 0

    def paths(self, starts: Sequence[Start], rollouts: int, minutes: int, *, key: int) -> NDArray[np.float64]:
        self.calls += 1
        made = super().paths(starts, rollouts, minutes, key=key)
        return np.asarray(self.change(made, self.calls))


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (lambda made, calls: made[:, :1], "an array of starts x rollouts x minutes"),
        (lambda made, calls: np.rint(made).astype(np.int64), "an array of starts x rollouts x minutes"),
        (lambda made, calls: np.where(made == made.max(), np.nan, made), "prices are finite and above 0"),
        (lambda made, calls: made / 100, "the first minute moves the mid of the start, in ticks, by less than 20%"),
        (lambda made, calls: made + calls, "the same key gives the same paths"),
        (lambda made, calls: np.full_like(made, 5000.0), "another key gives other paths"),
        (lambda made, calls: np.repeat(made[:, :1], 2, axis=1), "rollouts of a start differ"),
        (lambda made, calls: made + len(made), "a start's paths do not depend on the others"),
        (lambda made, calls: made + np.arange(len(made))[:, None, None], "nor on their order"),
    ],
)
def test_what_breaks_the_contract_is_found(change: Any, failed: str) -> None:
    report = validate_paths(Wrong(change), starts(), minutes=10)
    assert failed in {c.name for c in report.checks if not c.passed}, str(report)


def rollouts(generator: PathGenerator, folder: Path, **more: Any) -> Rollouts:
    settings: dict[str, Any] = {"artifact": None, "dataset_hash": "x", "seed": 3, "folder": folder, **more}
    return Rollouts(generator, Source(generator, None, "key"), **settings)


def test_paths_are_kept_and_the_same_with_any_number_of_processes(tmp_path: Path) -> None:
    generator = RandomWalk()
    one = rollouts(generator, tmp_path / "one")
    made = one.simulate(generator, starts(), 64, 5 * MINUTE)
    assert len(list((tmp_path / "one").iterdir())) == 2  # two starts make a chunk of 128 rows
    again = rollouts(Wrong(lambda made, calls: 1 / 0), tmp_path / "one", mode="stored")
    kept = again.simulate(again.generator, starts(), 64, 5 * MINUTE)
    two = rollouts(generator, tmp_path / "two", jobs=2)
    both = two.simulate(generator, starts(), 64, 5 * MINUTE)
    hashes = [[p.content_hash() for p in row] for row in made]
    assert hashes == [[p.content_hash() for p in row] for row in kept] == [[p.content_hash() for p in r] for r in both]
    assert one.orders is None
    assert one.orders_per_s() is None
    assert one.simulate_s > 0


def test_what_is_damaged_is_made_again(tmp_path: Path) -> None:
    generator, said = RandomWalk(), []
    before = rollouts(generator, tmp_path).simulate(generator, starts(), 2, MINUTE)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    after = rollouts(generator, tmp_path, say=said.append).simulate(generator, starts(), 2, MINUTE)
    assert "stored trajectories are damaged" in said[0]
    assert [p.content_hash() for row in before for p in row] == [p.content_hash() for row in after for p in row]


def test_wrong_shapes_and_agents_are_refused(tmp_path: Path) -> None:
    generator = Wrong(lambda made, calls: made[..., 1:])
    with pytest.raises(ValueError, match=r"paths of shape \(3, 2, 4\), must be \(3, 2, 5\)"):
        make_paths(generator, starts(), 2, 5 * MINUTE, key=0)
    with pytest.raises(TypeError, match="price paths only: no agent can trade"):
        rollouts(generator, tmp_path).simulate(generator, starts(), 2, MINUTE, agents=[far_orders(MINUTE)])
