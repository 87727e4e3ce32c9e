"""LOB-Bench's quantities and distances against values found by hand, and against slow twins."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, wasserstein_distance

from lob_arrays import sequence
from marsbench.stats.lob_bench import BY_KEY, CONDITIONS, QUANTITIES, LobSequence, volatility
from marsbench.stats.lob_bench_distances import Sample, conditional_distances, deciles, distances
from marsbench.stats.lob_bench_oracles import random_sequence

NAN = float("nan")


def values(key: str, s: LobSequence) -> list[float]:
    return BY_KEY[key].values(s).tolist()


@pytest.fixture
def five() -> LobSequence:
    """A new bid, a new best ask, its partial cancel, a trade with a bid, a deleted bid."""
    return sequence(
        [
            (34200.0, 1, 7, 50, 990, 1),
            (34200.5, 1, 8, 30, 1010, -1),
            (34200.5, 2, 8, 10, 1010, -1),
            (34201.0, 4, 5, 20, 1000, 1),
            (34202.0, 3, 7, 50, 990, 1),
        ],
        [
            (1020, 40, 1000, 20, 1030, 5, 990, 60),
            (1010, 30, 1000, 20, 1020, 40, 990, 60),
            (1010, 20, 1000, 20, 1020, 40, 990, 60),
            (1010, 20, 990, 60, 1020, 40, 980, 9),
            (1010, 20, 990, 10, 1020, 40, 980, 9),
        ],
    )


def test_spread_volume_and_imbalance_are_those_of_the_book_after_the_message(five: LobSequence) -> None:
    assert values("spread", five) == [20, 10, 10, 20, 20]
    assert values("ask_volume_touch", five) == [40, 30, 20, 20, 20]
    assert values("bid_volume_touch", five) == [20, 20, 20, 60, 10]
    assert values("ask_volume", five) == [45, 70, 60, 60, 60]
    assert values("bid_volume", five) == [80, 80, 80, 69, 19]
    assert values("orderbook_imbalance", five) == pytest.approx([-1 / 3, -0.2, 0, 0.5, -1 / 3])


def test_waiting_times_are_milliseconds_and_times_to_cancel_seconds(five: LobSequence) -> None:
    assert values("log_inter_arrival_time", five) == pytest.approx(np.log([500, 1e-9, 500, 1000]).tolist())
    assert values("log_time_to_cancel", five) == pytest.approx(np.log([2.0, 1e-9]).tolist())


def test_a_depth_is_on_the_side_of_the_mid_and_a_level_where_the_book_holds_the_price(five: LobSequence) -> None:
    assert values("limit_ask_order_depth", five) == [5]
    assert values("limit_bid_order_depth", five) == [20]
    assert values("ask_cancellation_depth", five) == [5]
    assert values("bid_cancellation_depth", five) == [10]
    assert values("limit_ask_order_levels", five) == [1]
    assert values("limit_bid_order_levels", five) == [2]
    assert values("ask_cancellation_levels", five) == [1]
    assert values("bid_cancellation_levels", five) == [1], "the book before it, where 990 is the best bid"


def test_an_empty_side_has_no_mid_and_no_spread() -> None:
    s = sequence([(1.0, 1, 1, 5, 100, 1)], [(NAN, 0, 100, 5)])
    assert np.isnan(values("spread", s)).all()
    assert np.isnan(s.mid).all()
    assert values("limit_bid_order_depth", s) == []
    assert values("ask_volume_touch", s) == [0]


def trades(*rows: tuple[float, int]) -> LobSequence:
    return sequence([(t, 4, 1, size, 100, 1) for t, size in rows], [(101, 1, 100, 1)] * len(rows))


def test_volume_per_minute_scales_or_drops_the_seconds_at_the_ends() -> None:
    assert values("vol_per_min", trades((10.2, 7))) == [420], "one trade alone stands for its second"
    assert values("vol_per_min", trades((10.2, 7), (10.25, 7))) == [], "50 ms are too short"
    assert values("vol_per_min", trades((10.2, 7), (10.7, 7))) == pytest.approx([14 * 2 * 60])
    early = trades((10.2, 7), (12.1, 3), (13.5, 5))
    assert values("vol_per_min", early) == pytest.approx([180, 600]), "the first second begins too early"
    late = trades((10.95, 7), (12.1, 3), (13.05, 5))
    assert values("vol_per_min", late) == pytest.approx([7 / 0.05 * 60, 180]), "the last one ends too early"
    assert values("vol_per_min", sequence([(1.0, 1, 1, 5, 100, 1)], [(101, 1, 100, 1)])) == []


def test_order_flow_imbalance_is_a_mean_over_a_hundred_events() -> None:
    n = 103
    rows = [(float(i), 1, i, 1, 100, 1) for i in range(n)]
    books = [(110, 10, 100, 5 + i) for i in range(n - 1)] + [(110, 10, 101, 50)]
    s = sequence(rows, books)
    assert values("ofi", s) == pytest.approx([1, 1, (99 + 50) / 100])
    assert values("ofi_stay", s) == pytest.approx([1]), "the move after the first window"
    assert values("ofi_up", s) == pytest.approx([1]), "and the one after the second"
    assert values("ofi_down", s) == []
    for short in (s.part(0, 100), s.part(0, 1), s.part(0, 0)):
        assert not values("ofi", short)
        assert not values("ofi_stay", short)


def slow_flow(s: LobSequence) -> list[float]:
    """One event after the other, by the definition of Cont, Kukanov and Stoikov."""
    out = []
    for before, now in zip(s.book[:-1, 0], s.book[1:, 0], strict=True):
        e = 0.0
        e += now[3] if now[2] >= before[2] else 0
        e -= before[3] if now[2] <= before[2] else 0
        e -= now[1] if now[0] <= before[0] else 0
        e += before[1] if now[0] >= before[0] else 0
        out.append(e)
    return out


def test_order_flow_imbalance_equals_its_slow_twin() -> None:
    s = random_sequence(np.random.default_rng(0), 300)
    flow = slow_flow(s)
    means = [sum(flow[i : i + 100]) / 100 for i in range(len(flow) - 99)]
    assert values("ofi", s) == pytest.approx(means)
    moves = np.sign(np.diff(s.mid))
    for key, sign in (("ofi_up", 1), ("ofi_stay", 0), ("ofi_down", -1)):
        assert values(key, s) == pytest.approx([m for i, m in enumerate(means[:-1]) if moves[i + 100] == sign])


def test_volatility_takes_neighbouring_tenths_of_a_second_only() -> None:
    times, bids = (0.0, 0.05, 0.1, 0.2, 0.9, 1.15), (100, 200, 300, 300, 999, 500)
    s = sequence([(t, 1, 1, 1, 100, 1) for t in times], [(b, 1, b, 1) for b in bids])
    assert volatility(s) == pytest.approx(np.std([np.log(300 / 200), 0.0], ddof=1))
    assert volatility(s.part(0, 2)) == 0
    assert volatility(s.part(0, 0)) == 0


@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda q: q.key)
@pytest.mark.parametrize("n", [0, 1, 2, 101])
def test_short_sequences_give_no_error(quantity: object, n: int) -> None:
    s = random_sequence(np.random.default_rng(0), 101).part(0, n)
    assert BY_KEY[quantity.key].values(s).ndim == 1  # type: ignore[attr-defined]


def samples(x: np.ndarray, y: np.ndarray, groups: int = 20) -> tuple[Sample, Sample]:
    return tuple(Sample.of(v, np.arange(len(v)) * groups // len(v)) for v in (x, y))  # type: ignore[return-value]


def z_scored(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pooled = np.concatenate([x, y])
    scaled = (pooled - pooled.mean()) / pooled.std(ddof=1)
    return scaled[: len(x)], scaled[len(x) :]


def test_distances_of_a_shifted_normal_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal(200_000), rng.standard_normal(200_000) + 0.5
    found = distances(*samples(x, y), 20, discrete=False)
    assert found.w1 == pytest.approx(0.5 / np.sqrt(1 + 0.25**2), abs=0.01), "pooled sd of N(0, 1) and N(.5, 1)"
    assert found.l1 == pytest.approx(1 - 2 * norm.cdf(-0.25), abs=0.01)


def test_identical_laws_give_the_sampling_noise_of_the_bins_and_no_w1() -> None:
    rng = np.random.default_rng(2)
    share, n, draws = np.full(10, 0.1), 2000, []
    for _ in range(200):
        x, y = rng.choice(10, (2, n), p=share).astype(float)
        draws.append(distances(*samples(x, y), 20, discrete=True).l1)
    expected = 0.5 * np.sqrt(2 / np.pi) * np.sqrt(2 / n) * np.sqrt(share * (1 - share)).sum()
    assert np.mean(draws) == pytest.approx(expected, rel=0.05)
    x = rng.standard_normal(1000)
    same = distances(*samples(x, x), 20, discrete=False)
    assert (same.l1, same.w1) == (0, pytest.approx(0, abs=1e-12))


@pytest.mark.parametrize("discrete", [False, True])
def test_distances_and_replicates_equal_slow_twins(discrete: bool) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.poisson(5, 400).astype(float) ** 2, rng.poisson(6, 300).astype(float) ** 2
    a, b = samples(x, y, 5)
    found = distances(a, b, 5, discrete=discrete)
    pooled = np.concatenate([x, y])
    edges = np.unique(pooled) if discrete else np.histogram_bin_edges(pooled, "fd")
    code = np.searchsorted(edges, pooled, side="right")

    def slow(keep_x: np.ndarray, keep_y: np.ndarray) -> tuple[float, float]:
        p, q = (np.bincount(c, minlength=len(edges) + 2) for c in (code[:400][keep_x], code[400:][keep_y]))
        w1 = wasserstein_distance(*z_scored(x[keep_x], y[keep_y]))
        return 0.5 * float(np.abs(p / p.sum() - q / q.sum()).sum()), w1

    assert (found.l1, found.w1) == pytest.approx(slow(np.ones(400, bool), np.ones(300, bool)))
    for g in range(5):
        assert (found.l1_without[g], found.w1_without[g]) == pytest.approx(slow(a.group != g, b.group != g))


def test_a_conditional_distance_is_the_mean_of_its_bins_by_size() -> None:
    real = Sample(np.array([0.0, 1.0, 5.0, 5.0]), np.arange(4), np.array([1.0, 1.0, 2.0, 2.0]))
    made = Sample(np.array([1.0, 1.0, 5.0, 7.0]), np.arange(4), np.array([1.0, 1.0, 2.0, 3.0]))
    found = conditional_distances(real, made, 4, discrete=True, bins="values")
    assert found.l1 == pytest.approx((4 * 0.5 + 3 * 0.0 + 1 * 1.0) / 8)
    sd = np.std([0, 1, 1, 1], ddof=1)
    assert found.w1 == pytest.approx(4 * (0.5 / sd) / 8), "a bin that one side lacks adds nothing to W1"
    assert found.matched == pytest.approx(7 / 8)


def test_an_empty_side_has_no_distance() -> None:
    x = np.arange(5.0)
    for pair in (samples(x, x[:0]), samples(x[:0], x)):
        assert np.isnan([distances(*pair, 3, discrete=False).l1, distances(*pair, 3, discrete=True).w1]).all()


def test_deciles_that_repeat_are_kept_twice() -> None:
    x = np.array([0.0] * 50 + [1.0] * 30 + list(range(2, 22)))
    assert deciles(x).tolist()[:51] == [1] * 50 + [4], "edges are 0, 0.01, 0.5, 1, 1.01, 1.2, 11.1"


def test_heavy_tails_do_not_need_an_edge_for_every_bin() -> None:
    x = np.concatenate([np.arange(1000.0), [1e12]])
    found = distances(*samples(x, x), 20, discrete=False)
    assert found.l1 == 0


def test_the_three_conditions_are_those_of_the_benchmark() -> None:
    assert [c.key for c in CONDITIONS] == ["ask_volume_spread", "spread_time", "spread_volatility"]
    s = random_sequence(np.random.default_rng(4), 50, start_s=34_200)
    assert all(34_200 <= t < 34_300 for t in CONDITIONS[1].given(s))
    assert set(CONDITIONS[2].given(s)) == {volatility(s)}
    assert len(QUANTITIES) == 21
