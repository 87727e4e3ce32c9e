"""Evidence of market impact made of arrays: planted paths of metaorders, without simulating orders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from pairs_of_arrays import OPEN, empty_trajectory

from marsbench.impact_runs import Arm, Before, ImpactRuns, Normalisers
from marsbench.market.rules import MINUTE, NASDAQ
from marsbench.market.trajectory import BookState
from marsbench.simulation.contracts import Start

Path = Callable[[ImpactRuns, np.random.Generator], np.ndarray]
"""Paths ``[N, M + 1]`` in daily volatility, signed by the side of the metaorder, of evidence that has none yet."""


def square_root(runs: ImpactRuns, rng: np.random.Generator, *, noise: float = 0.02) -> np.ndarray:
    """sqrt(Q/V), reached at the end of trading as the root of time, and half of it lost in the end."""
    minute = np.arange(runs.minutes + 1) / runs.trading_minutes
    shape = np.where(minute < 1, np.sqrt(minute), 0.5 + 0.5 / np.sqrt(np.maximum(minute, 1)))
    walk = np.cumsum(noise * rng.standard_normal((len(runs.start), runs.minutes + 1)), axis=1)
    walk -= walk[:, :1]
    return np.sqrt(runs.sizes(runs.own, runs.daily))[:, None] * shape + walk


def nothing(runs: ImpactRuns, rng: np.random.Generator) -> np.ndarray:
    """No impact at all."""
    del rng
    return np.zeros((len(runs.start), runs.minutes + 1))


def impact_runs(
    path: Path = square_root,
    *,
    starts: int = 20,
    per_cluster: int = 2,
    agents: tuple[str, ...] = ("L1-P0.1", "L5-P0.1", "L1-P0.9", "L5-P0.9"),
    sides: tuple[int, ...] = (1, -1),
    sizes: int = 3,
    minutes: int = 20,
    trading_minutes: int = 5,
    tail_every: int = 1,
    filled: float = 0.9,
    overlay: Path | None = None,
    truth: Path | None = None,
    other_truth: Path | None = None,
    minutes_before: int = 30,
    single_day: bool = False,
    seed: int = 0,
) -> ImpactRuns:
    """Metaorders of every start, agent, side and size, N = starts x agents x sides x sizes, in that order.

    Parameters
    ----------
    per_cluster
        Starts of one cluster.
    sizes
        Of a start, spread evenly in logarithms over two decades of daily volume.
    tail_every
        Only the runs of every so many starts go on after trading; the other paths are NaN from there.
    filled
        Share of the target that is executed.
    overlay, truth, other_truth
        Paths in the other markets; the overlay is without impact where none is given, the truth is not there.
    minutes_before
        B, whole minutes known before each start.
    """
    rng = np.random.default_rng(seed)
    index = np.indices((starts, len(agents), len(sides), sizes)).reshape(4, -1)
    start, agent, side, rank = index[0], index[1], np.array(sides)[index[2]], index[3]
    daily = Normalisers(0.02 * rng.lognormal(0, 0.2, starts), np.round(1e7 * rng.lognormal(0, 0.3, starts)))
    share = np.geomspace(2e-5, 2e-3, sizes) if sizes > 1 else np.array([2e-4])
    target = np.maximum(np.round(share[rank] * daily.shares[start]), 1).astype(np.int64)
    whole = ImpactRuns(
        starts=tuple(_start(i, per_cluster, single_day) for i in range(starts)),
        agents=agents,
        trading_minutes=trading_minutes,
        minutes=minutes,
        start=start,
        agent=agent,
        side=side,
        rank=rank,
        target_shares=target,
        daily=daily,
        window=Normalisers(daily.sigma * np.sqrt(trading_minutes / 390), daily.shares * trading_minutes / 390),
        replay_shares=np.round(daily.shares * trading_minutes / 390 * rng.lognormal(0, 0.3, starts)),
        before=_before(starts, minutes_before, daily, rng),
        own=_arm(target, minutes, filled, daily.shares[start] * trading_minutes / 390, rng),
        overlay=_arm(target, minutes, filled, daily.shares[start] * trading_minutes / 390, rng),
        single_day=single_day,
    )
    short = start % tail_every != 0

    def arm(plan: Path) -> Arm:
        moved = plan(whole, rng) * daily.sigma[start][:, None]
        moved[short, trading_minutes + 1 :] = np.nan
        drift = np.cumsum(1e-4 * rng.standard_normal(moved.shape), axis=1)
        return replace(whole.own, path=moved, drift=np.where(np.isfinite(moved), drift - drift[:, :1], np.nan))

    return replace(
        whole,
        own=arm(path),
        overlay=arm(overlay or nothing),
        truth=None if truth is None else arm(truth),
        other_truth=None if other_truth is None else arm(other_truth),
    )


def _start(i: int, per_cluster: int, single_day: bool) -> Start:
    cluster, at = divmod(i, per_cluster)
    date = "2024-01-02" if single_day else f"2024-{1 + cluster // 28:02d}-{1 + cluster % 28:02d}"
    begin = OPEN + (30 + 25 * (i if single_day else at)) * MINUTE
    history = empty_trajectory("X0", date, OPEN, begin)
    label = f"X0 {date} {cluster}" if single_day else f"X0 {date}"
    return Start("X0", date, NASDAQ, begin, BookState(time_ns=begin), history, label)


def _before(starts: int, minutes: int, daily: Normalisers, rng: np.random.Generator) -> Before:
    steps = 2e-3 * rng.standard_normal((starts, minutes + 1))
    per_minute = daily.shares[:, None] / 390
    return Before(
        mids_ticks=10_000 * np.exp(0.1 * rng.standard_normal((starts, 1)) + np.cumsum(steps, axis=1)),
        traded_shares=np.round(per_minute * rng.lognormal(0, 0.5, (starts, minutes))),
        signed_shares=np.round(per_minute * rng.uniform(-0.5, 0.5, (starts, minutes))),
        orders=rng.poisson(500, (starts, minutes)).astype(float),
        ask_shares=np.round(2000 * rng.lognormal(0, 0.5, (starts, 10))),
        bid_shares=np.round(2000 * rng.lognormal(0, 0.5, (starts, 10))),
        spread_ticks=1.0 + rng.poisson(1, starts),
    )


def _arm(target: np.ndarray, minutes: int, filled: float, volume: np.ndarray, rng: np.random.Generator) -> Arm:
    count, executed = len(target), np.maximum(np.round(filled * target), 1).astype(np.int64)
    return Arm(
        executed_shares=executed,
        passive_shares=executed // 10,
        price_ticks=10_000 + rng.standard_normal(count),
        path=np.zeros((count, minutes + 1)),
        drift=np.zeros((count, minutes + 1)),
        window_shares=np.round(volume * rng.lognormal(0, 0.3, count)).astype(np.int64) + executed,
        rejected=np.zeros(count, np.int64),
    )
