"""Minutes of a known law, some of them copied from training days, and whether the interval of memorisation covers.

The log activity of a minute is a slow AR(1) (.995, deviation .5: the level of a day) and a fast one (.8, .3); volume,
orders, cancels, spread and squared returns follow it. The training days are drawn once for all draws: the interval is
given them, and so is what it has to cover. That is 1 where simulations obey the law of replay and the days are
independent; else it is the mean of the score over independent draws.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from marsbench.known_answers import COVERED, MISSED, Claim, KnownAnswer
from marsbench.market.bars import MinuteBars
from marsbench.scores import Score
from marsbench.stats.oracles import autoregressive

from .memorisation import KEY, Compared, nearest_neighbour_ratio

Floats = NDArray[np.float64]

MINUTES, WINDOW = 25, 5
PHI, DEVIATION = (0.995, 0.8), (0.5, 0.3)
TRAINING_DAYS, TRAINING_MINUTES, MORNING, EMBARGO, APART = 10, 60, 100, 5, 60
EXPECTED_FROM = 300
"""Draws behind the expected value that an interval has to cover."""


@dataclass(frozen=True)
class Law:
    """How much data a draw is, and how simulations are made."""

    days: int = 40
    starts: int = 1
    """Of each day, an hour from the end of one to the next; on one day blocks that follow each other."""
    rollouts: int = 4
    one_day: bool = False
    """The afternoon of a day whose morning is the training period."""
    own_state: bool = False
    """Simulations start from a state of their own, as another day's flow does, instead of that of their start."""
    livelier: float = 1.0
    """Activity of simulations over that of replay."""
    copied: float = 0.0
    """Share of simulations that are stretches of training days."""

    @property
    def clusters(self) -> int:
        return self.starts if self.one_day else self.days

    @property
    def size(self) -> str:
        what = f"{self.starts} blocks of a day" if self.one_day else f"{self.days} days x {self.starts}"
        return f"{what} x {MINUTES} minutes, {self.rollouts} rollouts"


def _states(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """``[..., 2]``: the slow and the fast part of the log activity at some moment."""
    return np.asarray(rng.standard_normal((*shape, 2)) * DEVIATION)


def _go_on(state: Floats, minutes: int, rng: np.random.Generator) -> Floats:
    """``[..., M, 2]``: the minutes after a state ``[..., 2]``."""
    ahead = np.arange(1, minutes + 1)
    parts = []
    for k, (phi, deviation) in enumerate(zip(PHI, DEVIATION, strict=True)):
        noise = autoregressive((state[..., k].size, minutes), rng, phi=phi).reshape(*state.shape[:-1], minutes)
        parts.append(state[..., k, None] * phi**ahead + deviation * np.sqrt(1 - phi * phi) * noise)
    return np.stack(parts, axis=-1)


def _bars(path: Floats, rng: np.random.Generator) -> MinuteBars:
    """Bars ``[..., M]`` of a path ``[..., M, 2]``; what memorisation does not look at is 0."""
    activity = np.exp(path.sum(axis=-1))
    returns = 1e-3 * np.sqrt(activity) * rng.standard_normal(activity.shape)
    walk = np.concatenate([np.zeros((*activity.shape[:-1], 1)), np.cumsum(returns, axis=-1)], axis=-1)
    n_new = np.maximum(rng.poisson(100 * activity), 1)
    nothing = np.zeros(activity.shape)
    return MinuteBars(
        last_trade_ticks=np.zeros(walk.shape),
        mean_trade_ticks=np.zeros(walk.shape),
        mid_half_ticks=20_000 * np.exp(walk),
        volume_shares=rng.poisson(1000 * activity).astype(np.float64),
        n_trades=nothing,
        n_orders=nothing,
        n_new=n_new.astype(np.float64),
        n_cancels=rng.poisson(60 * activity).astype(np.float64),
        volatility=nothing,
        spread_ticks=1 + rng.gamma(2, activity) / 2,
        mean_order_lots=rng.gamma(4, 2, activity.shape),
        aggressive_ratio=nothing,
        buy_ratio=rng.binomial(n_new, 0.5) / n_new,
        one_sided_share=nothing,
    )


def _stretch(bars: MinuteBars, first: int) -> MinuteBars:
    """``MINUTES`` of a day."""
    cut = {}
    for field in fields(bars):
        series = getattr(bars, field.name)
        cut[field.name] = series[first : first + MINUTES + len(series) - bars.minutes]
    return MinuteBars(**cut)


@cache
def _training(one_day: bool) -> tuple[tuple[MinuteBars, ...], Floats]:
    """Training periods, and the state when the last one ends."""
    rng = np.random.default_rng(808)
    days, minutes = (1, MORNING) if one_day else (TRAINING_DAYS, TRAINING_MINUTES)
    paths = _go_on(_states((days,), rng), minutes, rng)
    return tuple(_bars(path, rng) for path in paths), paths[-1, -1]


def _draw(law: Law, rng: np.random.Generator) -> Compared:
    training, morning = _training(law.one_day)
    gap = 0 if law.one_day else APART
    at = EMBARGO + (MINUTES + gap) * np.arange(law.starts)
    days = _go_on(morning[None] if law.one_day else _states((law.days,), rng), int(at[-1]) + MINUTES, rng)
    replay = np.stack([days[:, k : k + MINUTES] for k in at], axis=1).reshape(-1, MINUTES, 2)
    count = len(replay)
    state = np.repeat(days[:, at - 1].reshape(-1, 1, 2), law.rollouts, axis=1)
    if law.own_state:
        state = _states((count, law.rollouts), rng)
    simulated = _bars(_go_on(state, MINUTES, rng) + np.log(law.livelier) / 2, rng)
    if law.copied:
        simulated = _with_copies(simulated, training, law.copied, rng)
    cluster = np.arange(count) if law.one_day else np.repeat(np.arange(law.days), law.starts)
    return Compared(_bars(replay, rng), simulated, {"X": training}, ("X",) * count, cluster, cluster)


def _with_copies(
    simulated: MinuteBars, training: tuple[MinuteBars, ...], share: float, rng: np.random.Generator
) -> MinuteBars:
    """Simulations ``[S, R, ...]`` of which so many are stretches of training days."""
    shape = simulated.shape
    stretches = []
    for _ in range(int(np.prod(shape))):
        day = training[rng.integers(len(training))]
        stretches.append(_stretch(day, int(rng.integers(day.minutes - MINUTES + 1))))
    copies, copied = MinuteBars.stack(stretches), (rng.random(shape) < share)[..., None]
    values = {}
    for field in fields(simulated):
        own = getattr(simulated, field.name)
        values[field.name] = np.where(copied, getattr(copies, field.name).reshape(own.shape), own)
    return MinuteBars(**values)


def _score(law: Law, rng: np.random.Generator) -> Score:
    return nearest_neighbour_ratio(_draw(law, rng), WINDOW)


@cache
def _expected(law: Law, draws: int) -> float:
    """The mean of the score over draws that no check uses."""
    values = [_score(law, np.random.default_rng([707, i])).value for i in range(draws)]
    return float(np.mean([v for v in values if v is not None]))


def _covered(law: Law, rng: np.random.Generator, *, expected_from: int = EXPECTED_FROM) -> dict[str, Claim]:
    independent = law == Law(days=law.days, starts=law.starts, rollouts=law.rollouts, own_state=law.own_state)
    truth = 1.0 if independent else _expected(law, expected_from)
    score = _score(law, rng)
    if score.ci_low is None or score.ci_high is None:
        raise ValueError(f"{score.key} has no interval: {score.reason}")
    return {KEY: Claim(COVERED if score.ci_low <= truth <= score.ci_high else MISSED)}


def known_memorisation() -> list[KnownAnswer]:
    """Simulations of replay's law, livelier ones, and copies of training days; many days, few, and a single one."""
    same, some = "simulations of replay's law", "three simulations of ten are stretches of training days"
    one, two = Law(days=1, starts=8, rollouts=16, one_day=True), "simulations of which all are stretches of training"
    laws = (
        ("independent", same, Law()),
        ("independent.two-starts", same, Law(days=20, starts=2)),
        ("independent.own-state", f"{same}, not from the state of their start", Law(own_state=True)),
        ("independent.10", same, Law(days=10)),
        ("independent.one-day", same, one),
        ("independent.half-day", same, Law(days=1, starts=4, rollouts=16, one_day=True)),
        ("livelier", "simulations twice as active as replay", Law(livelier=2.0)),
        ("copies", some, Law(copied=0.3)),
        ("copies.10", some, Law(days=10, copied=0.3)),
        ("copies.one-day", some, Law(days=1, starts=8, rollouts=16, one_day=True, copied=0.3)),
        ("copies.all", f"{two} days", Law(copied=1.0)),
        ("copies.all.one-day", f"{two} morning", Law(days=1, starts=8, rollouts=16, one_day=True, copied=1.0)),
    )  # fmt: skip
    return [
        KnownAnswer(name, about, law.size, law.clusters, {KEY: COVERED}, partial(_covered, law))
        for name, about, law in laws
    ]
