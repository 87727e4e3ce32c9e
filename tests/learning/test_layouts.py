"""What an order model is told about the market, worked out by hand from states and books."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

from markets import two_days
from marsbench.generators.lmm.recipe import LAYOUT_NAMES
from marsbench.learning.bins import Bins
from marsbench.learning.layouts import LAYOUTS, Layout, PaperLayout, PublicLayout, TouchLayout
from marsbench.learning.order_stream import LEVELS, STATE, OrderStream, order_stream
from marsbench.learning.state_features import LIMIT, Scaler
from marsbench.market.orders import NO_PRICE
from marsbench.market.snapshots import Snapshots

VOLUMES = Bins.fit(np.arange(1, 32), 31)
"""A class for each number of lots."""


@cache
def stream() -> OrderStream:
    return order_stream(two_days(0, 20)[0])


def fitted(name: str) -> Layout:
    return LAYOUTS[name].fit([(0, stream())], 1)


def state(**values: float) -> np.ndarray:
    """A state ``[1, WIDTH]`` in which all that is not said is 0."""
    out = np.zeros((1, len(STATE)), np.float32)
    for name, value in values.items():
        out[0, STATE.index(name)] = value
    return out


def book(asks: dict[int, int], bids: dict[int, int]) -> tuple[Snapshots, dict[str, float]]:
    """A book of lots by price, and its volumes as a state has them."""
    price, size = np.full((1, 2, LEVELS), NO_PRICE, np.int32), np.zeros((1, 2, LEVELS), np.int64)
    names: dict[str, float] = {}
    for side, (word, levels) in enumerate((("ask", asks), ("bid", bids))):
        for k, (ticks, lots) in enumerate(levels.items()):
            price[0, side, k], size[0, side, k] = ticks, 100 * lots
            names[f"{word}_volume_{k + 1}"] = lots
    return Snapshots(price, size), names


BOOK, LOTS = book({1002: 3, 1004: 40, 1009: 5}, {1000: 2, 999: 1, 995: 7})


def test_the_names_that_a_recipe_knows_are_those_of_the_layouts() -> None:
    assert tuple(LAYOUTS) == LAYOUT_NAMES


@pytest.mark.parametrize("name", LAYOUTS)
def test_features_of_a_day_have_the_width_and_type_of_their_layout_and_survive_json(name: str) -> None:
    layout = fitted(name)
    found = layout.features(stream().states, stream().books, 0)
    assert found.shape == (len(stream()) + 1, layout.width)
    assert found.dtype == layout.dtype
    assert layout.book_columns.shape == (layout.width,)
    again = type(layout).from_dict(json.loads(json.dumps(layout.to_dict())))
    assert (again.features(stream().states, stream().books, 0) == found).all()


@pytest.mark.parametrize("name", LAYOUTS)
def test_features_of_one_group_for_each_row_are_those_of_each_row_alone(name: str) -> None:
    layout = LAYOUTS[name].fit([(0, stream()), (1, order_stream(two_days(1, 20)[0]))], 2)
    states, books = stream().states[:50], stream().books
    books = Snapshots(books.price_ticks[:50], books.size_shares[:50])
    groups = np.arange(50) % 2
    mixed = layout.features(states, books, groups)
    for group in (0, 1):
        assert (mixed[groups == group] == layout.features(states, books, group)[groups == group]).all()


def test_touch_features_are_standardised_on_the_training_day() -> None:
    found = fitted("touch").features(stream().states, stream().books, 0).astype(float)
    varies = stream().states.std(axis=0) > 0.1
    uncut = np.abs(found).max(axis=0) < LIMIT
    assert varies.sum() > 30
    assert np.abs(found.mean(axis=0)[varies & uncut]).max() < 0.01
    assert np.abs(found.std(axis=0)[varies & uncut] - 1).max() < 0.01
    assert np.abs(found).max() <= LIMIT


def test_touch_features_are_on_a_log_scale_with_the_sign_kept() -> None:
    names = np.array(STATE)
    low, high = np.full((2, 1, len(names)), 1.2, np.float16) * np.array([-1, 1], np.float16)[:, None, None]
    scaler = Scaler(np.zeros((1, len(names)), np.float32), np.full((1, len(names)), 2, np.float32), low, high)
    values = state(flow_3s=-(np.e**3 - 1), spread=np.e**2 - 1, seconds_since_open=np.e**30)
    found = dict(zip(names, TouchLayout(scaler).features(values, BOOK, 0)[0].tolist(), strict=True))
    assert {k: v for k, v in found.items() if v} == pytest.approx(
        {"flow_3s": -1.5, "spread": 1.0, "seconds_since_open": LIMIT}, abs=1e-3
    )
    layout = TouchLayout(scaler)
    cut = dict(zip(names, layout.within(layout.features(values, BOOK, 0), 0)[0].tolist(), strict=True))
    assert {k: v for k, v in cut.items() if v} == pytest.approx(
        {"flow_3s": -1.2, "spread": 1.0, "seconds_since_open": 1.2}, abs=1e-3
    )


def test_the_range_of_training_holds_all_but_a_thousandth_of_its_states() -> None:
    layout = fitted("touch")
    found = layout.features(stream().states, stream().books, 0)
    beyond = (layout.within(found, 0) != found).mean(axis=0)
    assert beyond.max() < 0.002
    assert beyond.max() > 0


def test_what_touch_calls_the_book_is_volumes_gaps_totals_and_spread() -> None:
    names = set(np.array(STATE)[TouchLayout.book_columns].tolist())
    volumes = {f"{side}_volume_{k}" for side in ("ask", "bid") for k in range(1, LEVELS + 1)}
    gaps = {f"{side}_gap_{k}" for side in ("ask", "bid") for k in (2, 3, 5, 10)}
    totals = {f"{side}_{what}" for side in ("ask", "bid") for what in ("levels", "volume")}
    assert names == volumes | gaps | totals | {"spread"}


def test_features_fitted_on_other_columns_are_an_error() -> None:
    values = fitted("touch").to_dict()
    with pytest.raises(ValueError, match="features were fitted on other columns"):
        TouchLayout.from_dict({**values, "columns": values["columns"][1:]})


def test_paper_features_are_classes_of_volumes_then_ticks_since_the_open_then_steps_of_five_seconds() -> None:
    values = state(**LOTS, mid_since_open=-7, seconds_since_open=3604.9)
    found = PaperLayout((VOLUMES,)).features(values, BOOK, 0)[0].tolist()
    assert found == [3, 31, 5, *[0] * 7, 2, 1, 7, *[0] * 7, 2000 - 4, 720]


def test_public_features_are_basis_points_then_steps_of_five_seconds_then_volumes_around_the_mid() -> None:
    values = state(**LOTS, mid_since_open=2, seconds_since_open=4)
    found = PublicLayout((VOLUMES,)).features(values, BOOK, 0)[0].tolist()
    around = {996: 0, 997: 0, 998: 0, 999: 1, 1000: 2, 1001: 0, 1002: 3, 1003: 0, 1004: 31, 1005: 0}
    assert found == [2000 + round(2 / 2000 * 1e4), 0, *around.values()]  # the mid is 1001, and was 1000


@pytest.mark.parametrize("side", ["asks", "bids"])
def test_public_features_of_a_book_without_a_mid_know_the_time_only(side: str) -> None:
    one_sided, lots = book(**{"asks": {}, "bids": {}, side: {1000: 5}})
    values = state(**lots, mid_since_open=40, seconds_since_open=12)
    assert PublicLayout((VOLUMES,)).features(values, one_sided, 0)[0].tolist() == [2000, 2, *[0] * 10]


@pytest.mark.parametrize(("moved", "expected"), [(1e5, 4000), (-1e5, 0)])
def test_moves_and_times_beyond_the_last_class_belong_to_it(moved: float, expected: int) -> None:
    paper = PaperLayout((VOLUMES,)).features(state(mid_since_open=moved, seconds_since_open=1e6), BOOK, 0)[0]
    assert paper[-2:].tolist() == [expected, 2880]
    moved_half_ticks = moved / 100  # of a mid of 1001 ticks
    public = PublicLayout((VOLUMES,)).features(state(mid_since_open=moved_half_ticks), BOOK, 0)[0]
    assert public[0] == expected


def test_volume_classes_share_the_volumes_of_the_training_day_evenly() -> None:
    layout = fitted("paper")
    found = layout.features(stream().states, stream().books, 0)[:, : 2 * LEVELS]
    assert ((found > 0) == (stream().states[:, : 2 * LEVELS] > 0)).all()
    assert found.max() <= 31
    order = np.argsort(stream().states[:, : 2 * LEVELS].ravel(), kind="stable")
    assert (np.diff(found.ravel()[order].astype(int)) >= 0).all()
