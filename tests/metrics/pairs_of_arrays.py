"""Evidence made of arrays: windows of a market whose properties are known, without simulating orders."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from marsbench.evidence import TrajectoryPairs
from marsbench.market.bars import MinuteBars
from marsbench.market.orders import FILL, ORDER
from marsbench.market.rules import MINUTE, NASDAQ, clock
from marsbench.market.trajectory import BookState, Trajectory
from marsbench.simulation.contracts import Start

OPEN = clock("09:30")


def empty_trajectory(instrument: str, date: str, start_ns: int, end_ns: int) -> Trajectory:
    return Trajectory(
        instrument, date, NASDAQ, start_ns, end_ns, BookState(), np.zeros(0, ORDER), np.zeros(0, FILL)
    )  # fmt: skip


def bars_of(returns: np.ndarray, rng: np.random.Generator, *, activity: np.ndarray | None = None) -> MinuteBars:
    """Bars ``[..., M]`` around one-minute log returns; the other quantities move with ``activity`` (default iid)."""
    shape = returns.shape
    walk = np.concatenate([np.zeros((*shape[:-1], 1)), np.cumsum(returns, axis=-1)], axis=-1)
    price = 10_000 * np.exp(walk)
    activity = rng.lognormal(0, 0.4, shape) if activity is None else activity
    n_new = np.maximum(rng.poisson(100 * activity), 1).astype(float)
    return MinuteBars(
        last_trade_ticks=price,
        mean_trade_ticks=price,
        mid_half_ticks=2 * price,
        volume_shares=rng.poisson(1000 * activity).astype(float),
        n_trades=rng.poisson(20 * activity).astype(float),
        n_orders=n_new + 50,
        n_new=n_new,
        n_cancels=np.full(shape, 50.0),
        volatility=np.abs(returns) + 1e-4 * rng.random(shape),
        spread_ticks=1 + rng.gamma(2, activity),
        mean_order_lots=rng.gamma(4, 50, shape),
        aggressive_ratio=rng.binomial(n_new.astype(int), 0.3) / n_new,
        buy_ratio=rng.binomial(n_new.astype(int), 0.5 + 0.05 * np.sign(returns)) / n_new,
        one_sided_share=np.zeros(shape),
    )


def pairs(
    replay: MinuteBars,
    simulated: MinuteBars,
    *,
    days: int | None = None,
    per_day: int = 1,
    instruments: int = 1,
    floors: dict[str, float] | None = None,
    single_day: bool = False,
) -> TrajectoryPairs:
    """Evidence with these bars: starts run over instruments, days and ``per_day`` windows of each day."""
    (count,), minutes = replay.shape, replay.minutes
    days = days if days is not None else -(-count // (per_day * instruments))
    starts, truth = [], []
    for s in range(count):
        instrument, day, at = s % instruments, s // instruments // per_day, s // instruments % per_day
        name, date = f"X{instrument}", "2024-01-02" if single_day else f"2024-{1 + day // 28:02d}-{1 + day % 28:02d}"
        begin = OPEN + (1 + at * max(minutes, 1)) * MINUTE
        cluster = f"{name} {date} {at}" if single_day else f"{name} {date}"
        history = empty_trajectory(name, date, OPEN, begin)
        starts.append(Start(name, date, NASDAQ, begin, BookState(time_ns=begin), history, cluster))
        truth.append(empty_trajectory(name, date, begin, begin + minutes * MINUTE))
    evidence = TrajectoryPairs(
        starts=tuple(starts),
        replay=tuple(truth),
        simulated=tuple((t,) * simulated.shape[1] for t in truth),
        minutes=minutes,
        floors=floors or {},
        single_day=single_day,
    )
    evidence.__dict__["replay_bars"] = replay
    evidence.__dict__["simulated_bars"] = simulated
    return evidence


def missing(bars: MinuteBars, *names: str) -> MinuteBars:
    """The same bars without these quantities."""
    return replace(bars, **{name: np.full_like(getattr(bars, name), np.nan) for name in names})
