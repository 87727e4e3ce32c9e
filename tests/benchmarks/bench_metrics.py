"""Speed of the metrics' parts on 10 million events (bars, long series) and of a whole evaluation."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from marsbench.market import bars as bars_module
from marsbench.market.bars import minute_bars
from marsbench.market.orders import FILL, ORDER
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import NASDAQ
from marsbench.market.snapshots import Snapshots
from marsbench.market.trajectory import BookState, Trajectory
from marsbench.metrics.distribution_similarity import DistributionSimilarity
from marsbench.metrics.memorisation import Memorisation
from marsbench.metrics.stylized_facts import StylizedFacts
from marsbench.metrics.three_class_accuracy import ThreeClassAccuracy
from marsbench.stats import oracles
from marsbench.stats.autocorrelation import acf
from marsbench.stats.facts import CURVES
from marsbench.stats.histogram import Bins
from marsbench.stats.intervals import cluster_interval
from marsbench.stats.overlap import overlap
from marsbench.stats.wasserstein import wasserstein
from marsbench.stats.windows import Windows
from marsbench.validity import health

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "metrics"))
from pairs_of_arrays import bars_of, pairs
from test_memorisation import replace_training

from markets import two_days

N = 10_000_000


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As metrics are run: CPU time would count threads that wait for small matrices."""
    with threadpool_limits(1):
        yield


def day_of_events(rng: np.random.Generator) -> tuple[Trajectory, SimpleNamespace]:
    """A day of N messages and what a replay of it would return (replay has its own benchmark)."""
    rows = np.zeros(N, ORDER)
    phase = NASDAQ.phases[0]
    rows["time_ns"] = np.sort(rng.integers(phase.start_ns + 1, phase.end_ns, N))
    rows["kind"] = rng.integers(0, 3, N)
    rows["size_shares"] = 100
    fills = np.zeros(N // 10, FILL)
    fills["time_ns"], fills["price_ticks"], fills["size_shares"] = rows["time_ns"][::10], 10_000, 100
    price = np.empty((N + 1, 2, 1), np.int32)
    price[:, 1, 0] = 10_000 + rng.integers(-3, 4, N + 1)
    price[:, 0, 0] = price[:, 1, 0] + rng.integers(1, 4, N + 1)
    traded = (np.arange(N) % 10 == 0) * 100
    snapshots = Snapshots(price, np.ones_like(price, np.int64))
    replay = SimpleNamespace(reason=np.zeros(N, np.uint8), traded_shares=traded, fills=fills, snapshots=snapshots)
    day = Trajectory("X", "2024-01-02", NASDAQ, phase.start_ns, phase.end_ns, BookState(), rows, fills)
    return day, replay


def test_one_minute_bars_of_a_replayed_day(benchmark, monkeypatch):
    day, replay = day_of_events(np.random.default_rng(0))
    monkeypatch.setattr(bars_module, "replay_trajectory", lambda trajectory, levels: replay)
    minute_bars(day)
    assert benchmark.pedantic(minute_bars, (day,), rounds=3).minutes == 390


def test_autocorrelation_to_lag_100(benchmark):
    x = np.random.default_rng(1).standard_normal(N)
    assert benchmark.pedantic(acf, (x, 100), rounds=2)[0] == 1


def test_overlap_on_frozen_bins(benchmark):
    x, y = np.random.default_rng(2).standard_normal((2, N))
    bins = Bins.frozen(x[: N // 10])
    bins.count(x[:10])
    assert benchmark.pedantic(lambda: overlap(bins.count(x), bins.count(y)), rounds=3) > 0.99


@pytest.mark.parametrize("kind", ["integers", "floats", "unequal"])
def test_wasserstein_distance(benchmark, kind):
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 1000, (2, N)) if kind == "integers" else rng.standard_normal((2, N))
    x = x[: N - N // 10] if kind == "unequal" else x
    wasserstein(x[:10], y[:9])
    benchmark.pedantic(wasserstein, (x, y), rounds=2)


def test_the_interval_of_a_curve(benchmark):
    """500 day x instrument clusters of 10 instruments, autocorrelation of |r| at 20 lags."""
    rng = np.random.default_rng(4)
    r = 4e-4 * oracles.garch((1000, 25), rng)
    price = 100 * np.exp(np.concatenate([np.zeros((1000, 1)), np.cumsum(r, axis=1)], axis=1))
    windows = Windows.from_prices(price, cluster=np.arange(1000) // 2, instrument=np.arange(1000) // 100)
    pool = CURVES["absolute_autocorrelation"].pool(windows)
    found = benchmark.pedantic(lambda: cluster_interval(pool.curve, pool.clusters), rounds=3)
    assert "500 clusters" in found.method


def test_the_interval_of_an_overlap(benchmark):
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((2, 500, 1, 25))
    bins, cluster = Bins.frozen(x), np.arange(500)
    p, q = (bins.count_clusters(v, cluster, 500)[0] for v in (x, y))
    benchmark.pedantic(lambda: cluster_interval(lambda w: overlap(w @ p, w @ q), 500), rounds=3)


@pytest.mark.parametrize(
    "metric", [StylizedFacts(), DistributionSimilarity(), ThreeClassAccuracy()], ids=lambda m: m.name
)
def test_a_whole_evaluation(benchmark, metric):
    """64 starts of 25 minutes, 16 rollouts each."""
    rng = np.random.default_rng(6)
    truth, simulated = (4e-4 * oracles.garch((64 * k, 25), rng) for k in (1, 16))
    evidence = pairs(bars_of(truth, rng), bars_of(simulated.reshape(64, 16, 25), rng))
    metric.evaluate(evidence, rng)
    assert benchmark.pedantic(metric.evaluate, (evidence, rng), rounds=2).scores


def test_memorisation_against_ten_training_days(benchmark):
    """64 starts of 25 minutes, 16 rollouts each, of five instruments, against ten days of 240 minutes of each."""
    rng = np.random.default_rng(7)
    truth, simulated = (4e-4 * oracles.garch((64 * k, 25), rng) for k in (1, 16))
    days = 4e-4 * oracles.garch((50, 240), rng)
    training = {f"X{i}": [bars_of(day, rng) for day in days[10 * i : 10 * i + 10]] for i in range(5)}
    made = pairs(bars_of(truth, rng), bars_of(simulated.reshape(64, 16, 25), rng), instruments=5)
    evidence = replace_training(made, training)
    metric = Memorisation()
    metric.evaluate(evidence, rng)
    assert benchmark.pedantic(metric.evaluate, (evidence, rng), rounds=2).scores


def test_the_validity_report_of_a_trajectory(benchmark):
    """Ninety minutes of a zero-intelligence market; beyond the replay that the bars need anyway."""
    day = two_days()[0]
    done = replay_trajectory(day, levels=1)
    health(day, done)
    assert benchmark.pedantic(health, (day, done), rounds=5) is not None
