"""Counter-based random numbers against the published vectors of their generator."""

import numpy as np
import pytest
from scipy import stats

from marsbench.simulation.randomness import Streams, philox

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter_and_key", "words"),
    [
        ((0, 0, 0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 6, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_words(counter_and_key: tuple[int, ...], words: tuple[int, ...]) -> None:
    assert tuple(int(w) for w in philox(*counter_and_key)) == words


def test_a_draw_depends_on_its_address_alone() -> None:
    many = Streams.of(3, [10, 11, 12], 4)
    alone = Streams.of(3, [11], 4)
    index = np.array([5, 6])
    assert np.array_equal(many.uniforms(np.array([5, 7]), index, 1, 3), alone.uniforms(np.array([1, 3]), index, 1, 3))


def test_more_draws_of_an_event_begin_with_the_fewer() -> None:
    streams = Streams.of(3, [10], 1)
    row, index = np.zeros(1, np.int64), np.zeros(1, np.int64)
    assert streams.uniforms(row, index, 1, 5)[0, :3].tolist() == streams.uniforms(row, index, 1, 3)[0].tolist()


@pytest.mark.parametrize("other", ["key", "start", "rollout", "index", "purpose"])
def test_every_part_of_the_address_matters(other: str) -> None:
    at = {"key": 1, "start": 2, "rollout": 3, "index": 4, "purpose": 5}

    def draw(address: dict[str, int]) -> float:
        streams = Streams(address["key"], np.array([address["start"]]), np.array([address["rollout"]]))
        return float(streams.uniforms(np.zeros(1, np.int64), np.array([address["index"]]), address["purpose"], 1)[0, 0])

    assert draw(at) != draw({**at, other: at[other] + 1})


def test_draws_are_uniform_and_uncorrelated_from_event_to_event() -> None:
    streams = Streams.of(7, [1], 1)
    draws = streams.uniforms(np.zeros(100_000, np.int64), np.arange(100_000), 1, 2)
    assert draws.min() > 0
    assert draws.max() < 1
    assert stats.kstest(draws[:, 0], "uniform").pvalue > 0.001
    lag = np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]
    pair = np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]
    assert max(abs(lag), abs(pair)) < 4 / np.sqrt(100_000)


def test_a_key_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2\^62"):
        Streams.of(-1, [1], 1)
