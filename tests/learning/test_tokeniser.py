"""What turns a market into numbers and back: files, and how much is lost, on values whose entropy is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from markets import two_days
from marsbench.learning.layouts import LAYOUTS
from marsbench.learning.order_stream import OrderStream, order_stream
from marsbench.learning.tokeniser import Tokeniser, information_lost, write_report
from marsbench.learning.vocabulary import Vocabulary
from marsbench.market.orders import Kind

ASK, BID, CANCEL = int(Kind.ASK), int(Kind.BID), int(Kind.CANCEL)
COUNT = 6400


def stream(
    *, kind: int | np.ndarray = BID, price: int | np.ndarray = 0, size: int | np.ndarray = 100,
    interval: int | np.ndarray = 1000, tempo: float = 1000.0, immediate: bool = False,
) -> OrderStream:  # fmt: skip
    """As many orders again as cancels of them; prices in ticks above the bid of 1000, below the ask of 1100."""
    real = order_stream(two_days(0, 20)[0])
    kinds, prices, sizes, intervals = (
        np.concatenate([np.broadcast_to(x, COUNT)] * 2) for x in (kind, price, size, interval)
    )
    gone = np.arange(2 * COUNT) >= COUNT
    return replace(
        real,
        kind=np.where(gone, CANCEL, kinds),
        side=kinds,
        price_ticks=1000 + prices,
        size_shares=sizes,
        interval_ns=intervals,
        tempo_ns=np.full(2 * COUNT, tempo),
        ioc=~gone & immediate,
        clock_ns=np.cumsum(intervals),
        quotes_ticks=np.tile([1100, 1000], (2 * COUNT, 1)),
    )


def lost(of: OrderStream, *, intervals: str = "clock") -> dict[str, dict[str, float]]:
    return information_lost(Vocabulary.fit([of], intervals=intervals), [of])["ZI-A"]


def evenly(values: int) -> np.ndarray:
    """So many values, equally often, in no order."""
    return np.random.default_rng(0).permutation(np.arange(COUNT) % values)


def test_values_with_bins_of_their_own_lose_nothing() -> None:
    found = lost(stream(size=100 * (1 + evenly(8))))["new_volume"]
    assert found == pytest.approx({"values": 8, "bits": 3, "bits_lost": 0, "exact": 1, "error_sd": 0}, abs=1e-9)


def test_two_values_to_a_bin_lose_a_bit() -> None:
    found = lost(stream(size=100 * (1 + evenly(64))))["new_volume"]
    spread = np.sqrt((64**2 - 1) / 12)  # of 64 evenly spaced values, which a draw misses by one in half of the cases
    assert found["values"] == 64
    assert found["bits"] == pytest.approx(5)
    assert found["bits_lost"] == pytest.approx(1)
    assert found["exact"] == 0
    assert found["error_sd"] == pytest.approx(np.sqrt(1 / 2) / spread, rel=0.03)


def test_a_frequent_value_among_rare_ones_is_exact() -> None:
    rare = 1000 + evenly(64)
    size = 100 * np.where(np.arange(COUNT) % 2 == 0, 1, rare)
    found = lost(stream(size=size))["new_volume"]
    assert 0.5 <= found["exact"] < 0.55
    assert found["bits_lost"] == pytest.approx(0.5 * np.log2(64 / 31), abs=0.05)  # 64 rare values share 31 bins


def test_prices_are_measured_by_their_distance_whether_they_trade_or_not() -> None:
    """Orders that trade stand far away on the scale of coordinates, which must not count as spread."""
    places = evenly(64)
    passive, crossing = lost(stream(price=-places)), lost(stream(price=100 + places))
    mixed = lost(stream(price=np.where(np.arange(COUNT) % 2 == 0, -places, 100 + places)))
    for found in (passive, crossing):
        assert found["new_price"]["bits"] == pytest.approx(5)
        assert found["new_price"]["bits_lost"] == pytest.approx(1)
        assert found["new_price"]["error_sd"] == pytest.approx(passive["new_price"]["error_sd"], rel=0.1)
    assert mixed["new_price"]["values"] == 128
    off, spread = np.sqrt(2 * (4**2 - 1) / 12), np.sqrt((128**2 - 1) / 12)  # four values to a bin, drawn at random
    assert mixed["new_price"]["error_sd"] == pytest.approx(off / spread, rel=0.05)


def test_immediate_orders_are_told_apart_from_those_that_may_rest() -> None:
    mixed = stream(price=100)
    mixed = replace(mixed, ioc=(mixed.kind != CANCEL) & (np.arange(2 * COUNT) % 2 == 0))
    assert lost(mixed)["new_price"]["bits"] == pytest.approx(1)
    assert lost(stream(price=100, immediate=True))["new_price"]["bits"] == 0


def test_intervals_are_told_to_a_sixteenth_of_an_octave() -> None:
    octave = np.round(1e6 * 2.0 ** (evenly(16 * 8) / 8)).astype(np.int64)  # 16 octaves in steps of an eighth
    by_clock = lost(stream(interval=octave))["interval"]
    assert (by_clock["bits"], by_clock["bits_lost"]) == pytest.approx((4, 3))
    by_tempo = lost(stream(interval=octave, tempo=1e6), intervals="tempo")["interval"]
    assert by_tempo["bits"] == pytest.approx(4)
    finer = np.round(1e9 * 2.0 ** (evenly(COUNT) / COUNT)).astype(np.int64)  # all different, within one octave
    assert lost(stream(interval=finer))["interval"]["bits_lost"] < 1


def test_a_constant_has_no_entropy_and_no_error() -> None:
    found = lost(stream())["cancel_volume"]
    assert found == {"values": 1, "bits": 0, "bits_lost": 0, "exact": 1, "error_sd": 0}


def test_each_group_is_reported_by_itself(tmp_path: Path) -> None:
    one = stream(size=100 * (1 + evenly(8)))
    two = replace(stream(size=100 * (1 + evenly(4))), instrument="ANOTHER")
    found = information_lost(Vocabulary.fit([one, two]), [one, two])
    assert {g: round(parts["new_volume"]["bits"], 6) for g, parts in found.items()} == {"ZI-A": 3, "ANOTHER": 2}
    write_report(tmp_path, found)
    stored = json.loads((tmp_path / "information_lost.json").read_text())
    assert stored == {"fields": ["type", "price", "volume", "interval"], "groups": found}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tokeniser_comes_back_from_its_files(layout: str, tmp_path: Path) -> None:
    first, second = (order_stream(day) for day in two_days(0, 20))
    made = Tokeniser.fit([first], layout, data_hash="abc")
    made.save(tmp_path)
    again = Tokeniser.load(tmp_path)
    assert again.vocabulary == made.vocabulary
    name, group, tokens, features = made.content("a day", second)
    assert (name, group) == ("a day", 0)
    for ours, theirs in zip((tokens, features), again.content("a day", second)[2:], strict=True):
        assert ours.dtype == theirs.dtype
        assert (ours == theirs).all()
    assert len(features) == len(tokens) + 1


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "moon"}', '{"name": "paper"}'])
def test_a_damaged_layout_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    Tokeniser.fit([order_stream(two_days(0, 20)[0])], "paper").save(tmp_path)
    (tmp_path / "layout.json").write_text(text)
    with pytest.raises(ValueError, match=r"layout\.json: damaged layout .*train again or restore it"):
        Tokeniser.load(tmp_path)


def test_damaged_bins_are_an_error_that_names_them(tmp_path: Path) -> None:
    Tokeniser.fit([order_stream(two_days(0, 20)[0])], "touch").save(tmp_path)
    (tmp_path / "bins.json").write_text("{}")
    with pytest.raises(ValueError, match=r"bins\.json: damaged token bins"):
        Tokeniser.load(tmp_path)
