"""Order tokens: numbers, where prices count from, what intervals are measured in, groups, and files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from markets import two_days
from marsbench.learning.activity import Activity, Seen
from marsbench.learning.order_stream import STATE, OrderStream, order_stream
from marsbench.learning.vocabulary import (
    CROSSES,
    SIZES,
    START,
    TAKES,
    TOKENS,
    Vocabulary,
    index,
    interval_coordinates,
    price_coordinates,
    split,
)
from marsbench.market.orders import Flag, Kind, orders
from marsbench.market.replay import make_trajectory
from marsbench.market.rules import CONTINUOUS, SECOND
from marsbench.market.trajectory import BookState

ASK, BID, CANCEL = int(Kind.ASK), int(Kind.BID), int(Kind.CANCEL)


@cache
def streams(minutes: int = 20) -> tuple[OrderStream, ...]:
    """A training day and a test day."""
    return tuple(order_stream(day) for day in two_days(0, minutes))


def coordinate(
    prices: str, kind: int, price: int, *, side: int | None = None, ioc: bool = False, ask: int = 103, bid: int = 100
) -> int:
    """Of one order in a book of bid 100 and ask 103, where nothing else is said."""
    kinds, sides, ticks = (np.array([x]) for x in (kind, kind if side is None else side, price))
    return int(price_coordinates(prices, kinds, sides, ticks, np.array([[ask, bid]]), np.array([ioc]))[0])


def coordinates(prices: str, stream: OrderStream) -> np.ndarray:
    return price_coordinates(
        prices, stream.kind, stream.side, stream.price_ticks, stream.quotes_ticks, stream.ioc
    )  # fmt: skip


def test_every_token_has_a_number_of_its_own_and_every_number_a_token() -> None:
    assert TOKENS == 49_152
    tokens = split(np.arange(TOKENS))
    assert tokens.dtype == np.uint8
    assert (index(tokens) == np.arange(TOKENS)).all()
    assert len(np.unique(tokens, axis=0)) == TOKENS
    assert (tokens.min(axis=0) == 0).all()
    assert tuple(tokens.max(axis=0) + 1) == SIZES


def test_a_tokens_number_is_that_of_the_paper() -> None:
    tokens = np.random.default_rng(0).integers(SIZES, size=(5, 7, 4))
    kind, price, volume, interval = np.moveaxis(tokens, -1, 0)
    assert (index(tokens) == kind * 16_384 + price * 512 + volume * 16 + interval).all()
    assert (split(index(tokens)) == tokens).all()


def test_the_start_of_a_session_has_no_number() -> None:
    with pytest.raises(ValueError, match="invalid entry"):
        index([START, 0, 0, 0])


@pytest.mark.parametrize(
    ("kind", "price", "expected"),
    [
        (BID, 100, 0),  # joins
        (BID, 98, -2),  # behind
        (BID, 101, 1),  # improves
        (BID, 102, 2),
        (BID, 103, CROSSES),
        (BID, 105, CROSSES + 2),
        (ASK, 103, 0),
        (ASK, 107, -4),
        (ASK, 102, 1),
        (ASK, 101, 2),
        (ASK, 100, CROSSES),
        (ASK, 99, CROSSES + 1),
    ],
)
def test_from_the_touch_a_new_order_stands_behind_at_or_inside_the_best_or_beyond_the_opposite_one(
    kind: int, price: int, expected: int
) -> None:
    assert coordinate("touch", kind, price) == expected


@pytest.mark.parametrize(
    ("kind", "price", "expected"),
    [(BID, 104, TAKES + 1), (BID, 103, TAKES), (ASK, 98, TAKES + 2), (BID, 102, 2), (ASK, 105, -2)],
)
def test_from_the_touch_an_immediate_order_that_trades_has_slots_of_its_own(
    kind: int, price: int, expected: int
) -> None:
    assert coordinate("touch", kind, price, ioc=True) == expected


@pytest.mark.parametrize(("side", "price", "expected"), [(ASK, 103, 0), (ASK, 106, 3), (BID, 100, -1), (BID, 97, -4)])
def test_from_the_touch_a_cancel_counts_from_the_best_quote_of_its_side(side: int, price: int, expected: int) -> None:
    assert coordinate("touch", CANCEL, price, side=side) == expected


def test_with_a_spread_of_one_tick_an_order_joins_or_crosses() -> None:
    found = [coordinate("touch", BID, price, ask=101) for price in (99, 100, 101, 102)]
    assert found == [-1, 0, CROSSES, CROSSES + 1]


def test_prices_however_far_stay_on_their_side_of_the_splits() -> None:
    far = 2**31 - 1
    assert coordinate("touch", BID, 1 - far) < 0
    assert coordinate("touch", ASK, far) < 0
    assert CROSSES < coordinate("touch", BID, far) < TAKES < coordinate("touch", BID, far, ioc=True)


@pytest.mark.parametrize(
    ("kind", "price", "expected"), [(BID, 100, -3), (ASK, 103, 3), (BID, 102, 1), (CANCEL, 101, -1), (ASK, 98, -7)]
)
def test_from_the_mid_prices_count_in_half_ticks_whatever_the_order(kind: int, price: int, expected: int) -> None:
    assert coordinate("mid", kind, price, side=ASK) == expected
    assert coordinate("mid", kind, price, side=ASK, ioc=True) == expected


@pytest.mark.parametrize(
    ("interval_ns", "tempo_ns", "expected"),
    [(0, 5e8, 0), (500, 1e3, 500), (3 * SECOND, 1e9, 3000), (1, 3.0, 333), (23_400 * SECOND, 1.0, 10**12)],
)
def test_by_tempo_an_interval_is_thousandths_of_the_mean_one_and_by_clock_itself(
    interval_ns: int, tempo_ns: float, expected: int
) -> None:
    one = np.array([interval_ns]), np.array([tempo_ns])
    assert interval_coordinates("tempo", *one).tolist() == [expected]
    assert interval_coordinates("clock", *one).tolist() == [interval_ns]


@pytest.mark.parametrize(("prices", "intervals"), [("touch", "tempo"), ("touch", "clock"), ("mid", "clock")])
def test_each_field_of_a_real_orders_token_is_the_bin_that_holds_its_value(prices: str, intervals: str) -> None:
    first, second = streams()
    vocabulary = Vocabulary.fit([first], prices=prices, intervals=intervals)
    bins = vocabulary.bins["ZI-A"]
    for stream in (first, second):
        tokens, where = vocabulary.tokens(stream), coordinates(prices, stream)
        assert tokens.shape == (len(stream), 4)
        assert tokens.dtype == np.uint8
        assert (tokens[:, 0] == stream.kind).all()
        assert (tokens < SIZES).all()
        for i in range(0, len(stream), 7):
            cancel = stream.kind[i] == CANCEL
            price, volume = (bins.cancel_price, bins.cancel_volume) if cancel else (bins.new_price, bins.new_volume)
            passed = stream.interval_ns[i]
            if intervals == "tempo":
                passed = round(1000 * float(passed) / float(stream.tempo_ns[i]))
            fields = ((price, where[i]), (volume, stream.size_shares[i]), (bins.interval, passed))
            assert tokens[i, 1:].tolist() == [int(own.encode(value)) for own, value in fields]


@pytest.mark.parametrize("intervals", ["tempo", "clock"])
def test_an_order_made_of_what_its_token_decodes_to_has_the_same_token(intervals: str) -> None:
    stream = streams()[0]
    vocabulary = Vocabulary.fit([stream], intervals=intervals)
    bins, tokens = vocabulary.bins["ZI-A"], vocabulary.tokens(stream)
    cancel, uniforms = stream.kind == CANCEL, np.random.default_rng(0).random((3, len(stream)))
    new = bins.new_price.decode(np.where(cancel, 0, tokens[:, 1]), uniforms[0])
    taken = bins.cancel_price.decode(np.where(cancel, tokens[:, 1], 0), uniforms[0])
    ask, bid = stream.quotes_ticks.T
    bought = stream.side == BID
    ticks = np.where(new >= CROSSES, new - CROSSES, new)  # nobody takes at once in this market
    crossing, passive = (np.where(bought, ask + ticks, bid - ticks), np.where(bought, bid + ticks, ask - ticks))
    price = np.where(
        cancel, np.where(bought, bid + 1 + taken, ask + taken), np.where(new >= CROSSES, crossing, passive)
    )
    volume = np.where(
        cancel,
        bins.cancel_volume.decode(np.where(cancel, tokens[:, 2], 0), uniforms[1]),
        bins.new_volume.decode(np.where(cancel, 0, tokens[:, 2]), uniforms[1]),
    )
    again = replace(
        stream, price_ticks=price, size_shares=volume, interval_ns=decoded_intervals(vocabulary, stream, uniforms[2])
    )
    fits = cancel | (new <= 0) | (new >= CROSSES) | (new < ask - bid)  # an improvement may be wider than this spread
    assert fits.mean() > 0.9
    assert (vocabulary.tokens(again) == tokens)[fits].all()


def decoded_intervals(vocabulary: Vocabulary, stream: OrderStream, uniforms: np.ndarray) -> np.ndarray:
    """Intervals in nanoseconds drawn for the tokens of a stream."""
    bins = vocabulary.bins[vocabulary.groups[stream.instrument]].interval
    drawn = bins.decode(vocabulary.tokens(stream)[:, 3], uniforms)
    return drawn if vocabulary.intervals == "clock" else np.rint(drawn * stream.tempo_ns / 1000).astype(np.int64)


HOURS = 12
"""A cycle from quiet to busy and back takes two of them."""


def busy(time_ns: np.ndarray) -> np.ndarray:
    """From 0 in the quietest moments to 1 in the busiest ones."""
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * time_ns / (3600 * SECOND)))


def varying(seed: int, times: float = 10.0) -> OrderStream:
    """A Poisson process: one order in two seconds at the quietest moments, so many times as many at the busiest."""
    grid = np.arange(HOURS * 3600 + 1) * SECOND
    expected = np.cumsum(0.5 * times ** busy(grid))
    rng = np.random.default_rng(seed)
    time_ns = np.interp(rng.uniform(expected[0], expected[-1], rng.poisson(expected[-1])), expected, grid)
    count = len(time_ns) // 4 * 4
    kinds = np.tile([BID, ASK, CANCEL, CANCEL], count // 4)
    sent = orders(
        np.sort(time_ns[:count]).astype(np.int64),
        kind=kinds,
        price_ticks=np.tile([99, 101, 99, 101], count // 4),
        size_shares=100,
        flags=np.where(kinds == CANCEL, int(Flag.BY_LEVEL), 0),
    )
    day = make_trajectory(
        instrument="X", date="2024-01-02", rules=CONTINUOUS, start_ns=0, end_ns=CONTINUOUS.phases[0].end_ns,
        book=BookState(), orders=sent,
    )  # fmt: skip
    return order_stream(day)


def kept(intervals: str, times: float = 10.0) -> tuple[float, float]:
    """How much of the time of quiet and of busy moments comes back when intervals are drawn for their tokens."""
    vocabulary, stream = Vocabulary.fit([varying(1, times)], intervals=intervals), varying(2, times)
    drawn = decoded_intervals(vocabulary, stream, np.random.default_rng(3).random(len(stream)))
    moments = (busy(stream.clock_ns) < 0.1, busy(stream.clock_ns) > 0.9)
    quiet, hectic = (drawn[own].sum() / stream.interval_ns[own].sum() for own in moments)
    return float(quiet), float(hectic)


def test_where_the_rate_varies_tenfold_tempo_keeps_the_time_of_quiet_moments_and_a_clock_loses_some() -> None:
    assert kept("tempo") == pytest.approx((1, 1), abs=0.05)
    quiet, _ = kept("clock")
    assert quiet < 0.9


def test_where_the_rate_is_constant_tempo_and_clock_keep_the_time() -> None:
    for intervals in ("tempo", "clock"):
        assert kept(intervals, times=1.0) == pytest.approx((1, 1), abs=0.05)


def test_from_the_touch_a_price_slot_says_whether_an_order_trades() -> None:
    first, second = streams()
    vocabulary = Vocabulary.fit([first])
    bins, tokens = vocabulary.bins["ZI-A"].new_price, vocabulary.tokens(second)
    new = second.kind != CANCEL
    assert ((bins.lower[tokens[new, 1]] >= CROSSES) == (second.traded_shares[new] > 0)).all()


def test_instruments_have_bins_of_their_own_unless_a_group_unites_them() -> None:
    first = streams()[0]
    other = replace(first, instrument="ANOTHER", size_shares=first.size_shares * 1000)
    apart = Vocabulary.fit([first, other])
    assert apart.names == ["ANOTHER", "ZI-A"]
    assert (apart.number("ANOTHER"), apart.number("ZI-A")) == (0, 1)
    assert (apart.tokens(first) == apart.tokens(other)).all()
    together = Vocabulary.fit([first, other], groups={"ANOTHER": "all", "ZI-A": "all"})
    assert together.names == ["all"]
    assert together.number("ANOTHER") == together.number("ZI-A") == 0
    assert (together.tokens(first)[:, 2] < together.tokens(other)[:, 2]).all()


def test_slots_in_use_are_those_that_a_groups_bins_have() -> None:
    vocabulary = Vocabulary.fit([streams()[0]])
    bins = vocabulary.bins["ZI-A"]
    parts = (bins.new_price, bins.cancel_price, bins.new_volume, bins.cancel_volume, bins.interval)
    assert vocabulary.used.shape == (1, 5, 32)
    assert vocabulary.used[0].sum(axis=1).tolist() == [len(part) for part in parts]
    assert len(bins.interval) == 16
    assert max(map(len, parts)) <= 32


def test_the_range_of_tempos_leaves_out_one_order_in_a_thousand_of_each_group() -> None:
    first = replace(
        streams()[0], tempo_ns=5 + np.random.default_rng(0).permutation(len(streams()[0])).astype(np.float64)
    )
    other = replace(first, instrument="ANOTHER", tempo_ns=2 * first.tempo_ns)
    vocabulary = Vocabulary.fit([first, other])
    (low, high), count = vocabulary.tempo_ns["ZI-A"], len(first)
    outside = ((first.tempo_ns < low) | (first.tempo_ns > high)).sum()
    assert outside == pytest.approx(count / 1000, abs=2)
    assert (low - 5, count + 5 - 1 - high) == pytest.approx((count / 2000, count / 2000), abs=1)
    assert vocabulary.tempo_range_ns.tolist() == [[2 * low, 2 * high], [low, high]]


def test_the_busiest_times_are_those_of_each_groups_streams_and_shorter_sessions_are_filled_up() -> None:
    first = streams()[0]
    states = first.states.copy()
    states[:, STATE.index("seconds_to_close")] += 3600  # its session is two half hours longer
    vocabulary = Vocabulary.fit([first, replace(first, instrument="ANOTHER", states=2 * states)])
    activity = Activity()
    activity.add("ZI-A", Seen.of(first))
    assert vocabulary.busiest["ZI-A"] == activity.busiest()["ZI-A"]
    own, longest = (len(vocabulary.busiest[name]) for name in ("ZI-A", "ANOTHER"))
    assert longest > own
    rates = vocabulary.busiest_rates
    assert rates.shape == (2, longest, 5)
    assert rates[1, :own].tolist() == [list(row) for row in vocabulary.busiest["ZI-A"]]
    assert (rates[1, own:] == rates[1, own - 1]).all()


@pytest.mark.parametrize("prices", ["touch", "mid"])
def test_how_round_the_prices_of_each_slot_of_new_orders_are_is_counted(prices: str) -> None:
    stream = streams()[0]
    vocabulary = Vocabulary.fit([stream], prices=prices)
    bins = vocabulary.bins["ZI-A"]
    new = stream.kind != CANCEL
    slots, ticks = vocabulary.tokens(stream)[new, 1], stream.price_ticks[new]
    if prices == "mid":  # whose bins are those of all types
        slots, ticks = (
            bins.new_price.encode(2 * stream.price_ticks - stream.quotes_ticks.sum(axis=1)),
            stream.price_ticks,
        )
    wanted = np.zeros((len(bins.new_price), 5), int)
    for slot, price in zip(slots, ticks, strict=True):
        wanted[slot, next(k for k, step in enumerate((100, 50, 10, 5, 1)) if price % step == 0)] += 1
    assert [list(counts) for counts in bins.roundness] == wanted.tolist()


def test_a_vocabulary_comes_back_from_its_file(tmp_path: Path) -> None:
    for intervals in ("tempo", "clock"):
        vocabulary = Vocabulary.fit([streams()[0]], prices="mid", intervals=intervals, data_hash="abc")
        assert Vocabulary.load(vocabulary.save(tmp_path / "bins.json")) == vocabulary


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "damaged"), ('{"prices": "mid"}', "KeyError"), ('{"format": 99}', "format is 99"), ("[]", "damaged")],
)
def test_a_damaged_file_and_one_of_another_format_are_errors_that_name_it(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "bins.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"bins\.json: .*{message}"):
        Vocabulary.load(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("prices", "prices count from 'moon'; choose one of touch, mid"),
        ("intervals", "intervals are measured by 'moon'; choose one of tempo, clock"),
    ],
)
def test_a_file_with_another_origin_of_prices_or_measure_of_intervals_is_an_error(
    tmp_path: Path, name: str, message: str
) -> None:
    path = Vocabulary.fit([streams()[0]]).save(tmp_path / "bins.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), name: "moon"}))
    with pytest.raises(ValueError, match=rf"bins\.json.*{message}"):
        Vocabulary.load(path)


def test_an_instrument_that_took_no_part_in_fitting_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no bins for instrument 'XYZ'; they were fitted on \['ZI-A'\]"):
        Vocabulary.fit([streams()[0]]).number("XYZ")


@pytest.mark.parametrize(("kinds", "lacking"), [((ASK, BID), "cancel price"), ((CANCEL,), "new price")])
def test_training_data_without_new_orders_or_without_cancels_are_an_error(kinds: Sequence[int], lacking: str) -> None:
    with pytest.raises(ValueError, match=f"group 'ZI-A': training data have no {lacking}"):
        Vocabulary.fit([some(streams()[0], np.isin(streams()[0].kind, kinds))])


def some(stream: OrderStream, chosen: np.ndarray) -> OrderStream:
    """Some orders of a stream (what stands beside them is left as it is)."""
    names = ("kind", "side", "price_ticks", "size_shares", "interval_ns", "tempo_ns", "ioc", "quotes_ticks", "clock_ns")
    return replace(stream, **{name: getattr(stream, name)[chosen] for name in names})
