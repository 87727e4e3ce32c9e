"""Bins of an integer quantity, for any sample and any number of bins."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marsbench.learning.bins import KEPT, Bins

VALUES = st.integers(-(10**12), 10**12)
SAMPLES = st.one_of(
    st.lists(VALUES, min_size=1, max_size=200),
    st.lists(st.integers(-3, 12), min_size=1, max_size=300),  # few distinct values, often repeated
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 50)), min_size=1, max_size=30).map(
        lambda pairs: [value for value, times in pairs for _ in range(times)]
    ),
)
COUNTS = st.integers(1, 40)
any_machine = settings(deadline=None, derandomize=True)


def made(sample: list[int], bins: int, splits: tuple[int, ...] = ()) -> Bins:
    return Bins.fit(np.array(sample, np.int64), bins, splits=splits)


def grid(points: int) -> np.ndarray:
    """Uniforms spread evenly over (0, 1)."""
    return np.asarray((np.arange(points) + 0.5) / points)


@any_machine
@given(SAMPLES, COUNTS)
def test_every_value_encodes_into_the_bin_whose_interval_holds_it(sample: list[int], count: int) -> None:
    bins = made(sample, count)
    assert 1 <= len(bins) <= min(count, len(set(sample)))
    assert all(a < b for a, b in pairwise(bins.upper))
    for value, code in zip(sample, bins.encode(sample).tolist(), strict=True):
        below = bins.upper[code - 1] if code else min(sample) - 1
        assert below < value <= bins.upper[code]
        assert bins.lower[code] <= value


@any_machine
@given(SAMPLES, COUNTS, st.lists(VALUES, min_size=1, max_size=20))
def test_unseen_values_encode_into_the_next_bin_above_or_the_last(
    sample: list[int], count: int, new: list[int]
) -> None:
    bins = made(sample, count)
    for value, code in zip(new, bins.encode(new).tolist(), strict=True):
        assert code == next((i for i, upper in enumerate(bins.upper) if value <= upper), len(bins) - 1)


@any_machine
@given(SAMPLES, COUNTS, st.lists(st.floats(1e-9, 1 - 1e-9), min_size=1, max_size=5))
def test_a_decoded_value_encodes_into_its_bin_and_was_in_the_sample(
    sample: list[int], count: int, uniforms: list[float]
) -> None:
    bins = made(sample, count)
    every = np.repeat(np.arange(len(bins))[:, None], len(uniforms), axis=1)
    decoded = bins.decode(every, np.array(uniforms))
    assert (bins.encode(decoded) == every).all()
    assert set(decoded.ravel().tolist()) <= set(sample)


@any_machine
@given(SAMPLES, COUNTS)
def test_decoding_keeps_the_distribution_within_each_bin(sample: list[int], count: int) -> None:
    bins, values = made(sample, count), np.array(sample)
    codes = bins.encode(values)
    for code in range(len(bins)):
        inside = np.sort(values[codes == code])
        if len(set(inside.tolist())) <= KEPT:
            decoded = bins.decode(np.full(len(inside), code), grid(len(inside)))
            assert decoded.tolist() == inside.tolist()


def test_of_many_values_in_a_bin_a_hundred_keep_its_quantiles() -> None:
    values = np.random.default_rng(0).lognormal(20, 2, 50_000).astype(np.int64)
    bins = Bins.fit(values, 16)
    assert max(map(len, bins.values)) == KEPT
    for code, inside in enumerate(np.array_split(np.sort(values), 16)):
        decoded = bins.decode(np.full(1000, code), grid(1000))
        quantiles = np.quantile(inside, grid(1000))
        assert np.abs(np.searchsorted(inside, decoded) - np.searchsorted(inside, quantiles)).max() <= len(inside) / 90


@any_machine
@given(SAMPLES, COUNTS)
def test_a_value_heavier_than_a_bins_share_is_alone_if_all_such_fit(sample: list[int], count: int) -> None:
    values, counts = np.unique(sample, return_counts=True)
    heavy = counts >= len(sample) / count
    between = sum(not own and (i == 0 or heavy[i - 1]) for i, own in enumerate(heavy))
    bins = made(sample, count)
    if heavy.sum() + between <= count:
        for value in values[heavy].tolist():
            assert bins.values[int(bins.encode(value))] == (value,)


def test_where_heavy_values_do_not_all_fit_the_heaviest_is_alone() -> None:
    sample = [0] * 5 + [1] * 40 + [2] * 5 + [3] * 30 + [4] * 5
    assert made(sample, 3).values == ((0,), (1,), (2, 3, 4))


@any_machine
@given(st.integers(2, 40), st.integers(0, 1000))
def test_without_heavy_values_no_bin_is_far_from_its_share(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).permutation(5000)
    masses = np.bincount(Bins.fit(values, count).encode(values))
    assert len(masses) == count
    assert np.abs(masses - 5000 / count).max() <= 1


@any_machine
@given(SAMPLES, st.integers(3, 40), st.lists(st.integers(-3, 40), max_size=2))
def test_no_bin_reaches_across_a_split(sample: list[int], count: int, splits: list[int]) -> None:
    bins = made(sample, count, tuple(splits))
    assert len(bins) <= count
    for values in bins.values:
        for split in splits:
            assert len({value >= split for value in values}) == 1


def test_a_region_between_splits_gets_more_bins_the_more_of_the_sample_it_holds() -> None:
    bins = made([*range(90), *range(1000, 1010)], 10, (500,))
    assert (np.array(bins.upper) < 500).sum() == 9


def test_one_distinct_value_makes_one_bin_that_takes_everything() -> None:
    bins = made([7] * 5, 32)
    assert len(bins) == 1
    assert bins.encode([-100, 7, 100]).tolist() == [0, 0, 0]
    assert bins.decode([0, 0], [0.01, 0.99]).tolist() == [7, 7]


def test_with_more_bins_than_values_each_value_has_its_own() -> None:
    bins = made([5, 1, 9, 9, 9], 32)
    assert bins.upper == (1, 5, 9)
    assert bins.encode([1, 5, 9]).tolist() == [0, 1, 2]
    assert bins.encode([0, 2, 8, 10]).tolist() == [0, 1, 2, 2]


@any_machine
@given(SAMPLES, COUNTS)
def test_bins_come_back_from_json(sample: list[int], count: int) -> None:
    bins = made(sample, count)
    assert Bins.from_dict(json.loads(json.dumps(bins.to_dict()))) == bins


def test_codes_keep_the_shape_of_the_values() -> None:
    bins = made([1, 2, 3, 4], 4)
    codes = bins.encode([[1, 2], [3, 4]])
    assert codes.dtype == np.uint8
    assert codes.tolist() == [[0, 1], [2, 3]]


def test_an_empty_sample_and_more_regions_than_bins_are_errors() -> None:
    with pytest.raises(ValueError, match="the sample is empty"):
        made([], 4)
    with pytest.raises(ValueError, match="3 regions do not fit into 2 bins"):
        made([1, 5, 9], 2, (3, 7))
