"""Simulated method of moments: the behaviour whose simulated moments lie nearest to those of training.

Arrivals, sizes, lifetimes and season are estimated first and stay. Every candidate is simulated from the same starts
with the same random numbers, so that the objective is a function of the parameters alone. The candidates of a
generation run side by side, as arms of the same starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.market.rules import MINUTE
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import Artifact, Budget, Session, SessionGenerator, Start
from marsbench.simulation.rollout import simulate
from marsbench.simulation.training_starts import clocks_within, start_within

from .model import NAMES, Behaviour, Model, estimate, published
from .moments import BACK, MOMENTS, SUMS, by_day, moments, standard_errors, window_sums
from .session import ChiarellaSession, Past, log_mids

Floats = NDArray[np.float64]

LEAST_DAYS = 5
"""With fewer training days, blocks are windows."""
LEAST_WINDOWS = 4
HISTORY_MINUTES = 60
"""So much of the past a start of the calibration carries, where training has it."""
FLOOR = 0.1
"""Added to the standard error of every moment, in quadrature: a model this simple shall not spend its few parameters on
the last percents of what training knows best (spread, share that trades) at the price of the rest (volatility)."""
MISSING = 100.0
"""What a moment that a simulation does not have adds to J."""
BOUNDS = {
    "noise": (0.1, 30.0),
    "spread": (0.02, 20.0),
    "sigma_1": (0.1, 20.0),
    "sigma_2": (0.05, 10.0),
    "tau_minutes": (1.0, 30.0),
}
"""Where candidates lie; the first two in units of the standard deviation of a minute's return in training."""
NARROWING = (0.5, 0.35, 0.25, 0.15)
"""Widths of the boxes of the local search over that of the whole one."""
DAMPING = 10.0 ** np.arange(-2, 3)
"""Of the Gauss-Newton steps, over the mean curvature."""
TOGETHER = 512
"""So many rows are simulated side by side."""
GLOBAL_SHARE = 0.5
"""Of the simulations so many explore the whole box."""


@dataclass(frozen=True)
class Settings:
    """Options of the fit."""

    simulations: int
    """Simulations of each instrument, all of them."""
    starts: int
    """Training windows that every simulation departs from."""
    minutes: int
    """Length of a window."""
    season_minutes: float


@dataclass(frozen=True)
class _Task:
    """One instrument under calibration."""

    model: Model
    starts: tuple[Start, ...]
    low: Floats
    """Logarithms of the bounds, ``[len(NAMES)]`` ..."""
    high: Floats
    first: Floats
    """... and of the published parameters, moved into them: the first candidate."""
    wanted: Floats
    """``[len(MOMENTS)]``."""
    paths: Mapping[int, Floats]
    """Log mids before each start, by its uid."""
    errors: Floats
    """Standard errors of training's moments, with ``FLOOR``."""


class _Arms(SessionGenerator):
    """Sessions in which every start has the candidate of its arm."""

    name = "chiarella"

    def __init__(self, candidates: Mapping[str, Sequence[Model]], pasts: Mapping[int, Floats]) -> None:
        self.candidates, self.pasts = candidates, pasts

    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        raise TypeError("candidates of a calibration are made, not fitted")

    def load(self, artifact: Artifact) -> None:
        raise TypeError("candidates of a calibration are made, not fitted")

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        models = [self.candidates[s.instrument][s.arm] for s in starts]
        pasts = [Past(self.pasts[s.uid], m) for s, m in zip(starts, models, strict=True)]
        return ChiarellaSession(models, starts, pasts, rollouts, key)


def calibrate(by_instrument: Mapping[str, Sequence[Trajectory]], settings: Settings, *, seed: int) -> dict[str, Model]:
    """Models of all instruments.

    Raises
    ------
    ValueError
        If an instrument has too little flow, or fewer than ``LEAST_WINDOWS`` windows.
    """
    tasks = {
        name: _task(sorted(periods, key=lambda t: (t.date, t.start_ns)), settings)
        for name, periods in sorted(by_instrument.items())
    }
    points = _points(settings.simulations, seed)
    at: dict[str, list[Floats]] = {name: [] for name in tasks}
    found: dict[str, list[Floats]] = {name: [] for name in tasks}
    scores: dict[str, list[float]] = {name: [] for name in tasks}
    for first, last, width in _generations(settings.simulations):
        for name, task in tasks.items():
            at[name] += _candidates(task, points[first:last], width, at[name], found[name], scores[name])
        models = {
            name: [replace(t.model, behaviour=_behaviour(x)) for x in at[name][first:]] for name, t in tasks.items()
        }
        simulated = _simulate(models, tasks, settings.minutes, seed)
        for name, task in tasks.items():
            found[name] += list(moments(simulated[name]))
            scores[name] += [distance(x, task.wanted, task.errors) for x in found[name][first:]]
    return {name: _best(t, at[name], found[name], scores[name], settings, seed) for name, t in tasks.items()}


def _generations(simulations: int) -> list[tuple[int, int, float]]:
    """First and past-the-last candidate of each generation, and the width of its box over that of the whole."""
    edges = np.linspace(max(int(GLOBAL_SHARE * simulations), 1), simulations, len(NARROWING) + 1).astype(int)
    every = [(0, int(edges[0]), 1.0)]
    every += [(int(a), int(b), w) for a, b, w in zip(edges[:-1], edges[1:], NARROWING, strict=True)]
    return [g for g in every if g[1] > g[0]]


def _task(periods: Sequence[Trajectory], settings: Settings) -> _Task:
    windows, blocks = by_day(periods, settings.minutes, LEAST_DAYS)
    if len(windows) < LEAST_WINDOWS:
        raise ValueError(
            f"{periods[0].instrument}: training has {len(windows)} windows of {settings.minutes} minutes; at least "
            f"{LEAST_WINDOWS} are needed to fit chiarella: give more, or a smaller minutes="
        )
    total = windows.sum(axis=0)
    sums = dict(zip(SUMS, total, strict=True))
    flow = estimate(periods, season_minutes=settings.season_minutes, **volatilities(sums))
    starts = _starts(periods, settings)
    wanted = moments(total)
    if not np.isfinite(wanted).all():
        lacking = [m for m, x in zip(MOMENTS, wanted, strict=True) if not np.isfinite(x)]
        raise ValueError(f"{periods[0].instrument}: training has no {lacking}; chiarella needs a market that trades")
    errors = np.sqrt(standard_errors(blocks) ** 2 + FLOOR**2)
    first = np.log([getattr(published(flow), n) for n in NAMES])
    scale = 0.5 * np.log(sums["squares"] / sums["returns"])  # of the log volatility of a minute
    low = np.array([scale, scale, 0.0, 0.0, 0.0]) + np.log([b[0] for b in BOUNDS.values()])
    high = np.array([scale, scale, 0.0, 0.0, 0.0]) + np.log([b[1] for b in BOUNDS.values()])
    model = Model(flow, published(flow))
    paths = {s.uid: log_mids(s) for s in starts}
    return _Task(model, starts, low, high, np.clip(first, low, high), wanted, paths, errors)


def volatilities(sums: Mapping[str, float]) -> dict[str, float]:
    """What ``estimate`` wants to know of prices, from the sums of all training windows."""
    return {
        "step_variance": sums["step_squares"] / max(sums["steps"], 1.0),
        "half_spread": sums["half_spreads"] / max(sums["quotes"], 1.0),
        "value_per_root_s": float(np.sqrt(sums["long_squares"] / max(sums["longs"], 1.0) / (60.0 * BACK))),
    }


def _starts(periods: Sequence[Trajectory], settings: Settings) -> tuple[Start, ...]:
    """Windows spread evenly over training, as starts with some of the past."""
    length = settings.minutes
    places = [(p, clock) for p in periods for clock in clocks_within(p, minutes=length, every=length)]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(settings.starts, len(places))).round().astype(int))
    return tuple(start_within(period, clock, HISTORY_MINUTES) for period, clock in (places[i] for i in chosen))


def _points(simulations: int, seed: int) -> Floats:
    """Scrambled Sobol points, ``[2^m, len(NAMES)]``."""
    from scipy.stats import qmc  # listing generators must not wait for it

    sampler = qmc.Sobol(len(NAMES), scramble=True, rng=np.random.default_rng([seed, 2009]))
    return np.asarray(sampler.random_base2(max(int(np.ceil(np.log2(max(simulations, 2)))), 1)))


def _candidates(
    task: _Task,
    points: Floats,
    width: float,
    at: Sequence[Floats],
    found: Sequence[Floats],
    scores: Sequence[float],
) -> list[Floats]:
    """Published values first and the whole box; then a box around the best so far, half of it Gauss-Newton steps.

    ``points`` lie in the unit cube; as many candidates come back.
    """
    if not at:
        return [task.first, *(task.low + points[1:] * (task.high - task.low))]
    span = task.high - task.low
    best = int(np.argmin(scores))
    steps = _newton_steps(task, (np.array(at) - at[best]) / span, np.array(found), best, width)
    boxes = (points - 0.5) * width
    chosen = np.concatenate([steps[: (len(points) + 1) // 2], boxes])[: len(points)]
    return list(np.clip(at[best] + chosen * span, task.low, task.high))


def _newton_steps(task: _Task, away: Floats, found: Floats, best: int, width: float) -> Floats:
    """Steps from the best candidate by a linear model of the moments, from the least damped on, ``[len(DAMPING), P]``.

    Parameters
    ----------
    away
        ``[n, P]``: candidates less the best one, over the box; the closer, the more they weigh.
    found
        ``[n, len(MOMENTS)]``.
    """
    use = np.asarray(np.isfinite(found).all(axis=1))
    if not use[best] or use.sum() <= len(NAMES):
        return np.zeros((0, len(NAMES)))
    near = np.exp(-0.5 * (away[use] ** 2).sum(axis=1) / width**2)
    x, y = away[use] * near[:, None], (found[use] - found[best]) / task.errors * near[:, None]
    gram = x.T @ x
    slope = np.linalg.solve(gram + 1e-2 * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ y)  # [P, moments]
    curve, pull = slope @ slope.T, slope @ ((found[best] - task.wanted) / task.errors)
    level = np.trace(curve) / len(curve)
    steps = [-np.linalg.solve(curve + d * level * np.eye(len(curve)), pull) for d in DAMPING]
    return np.asarray(np.clip(np.array(steps), -0.5 * width, 0.5 * width))


def _behaviour(logs: Floats) -> Behaviour:
    return Behaviour(**{n: float(x) for n, x in zip(NAMES, np.exp(logs), strict=True)})


def _simulate(
    models: Mapping[str, Sequence[Model]], tasks: Mapping[str, _Task], minutes: int, seed: int
) -> dict[str, Floats]:
    """Pooled sums of the candidates of every instrument, ``[candidates, len(SUMS)]``."""
    generator = _Arms(models, {uid: path for t in tasks.values() for uid, path in t.paths.items()})
    groups: dict[Any, list[Start]] = {}
    for name, task in tasks.items():
        for arm in range(len(models[name])):
            for start in task.starts:
                groups.setdefault(start.rules, []).append(replace(start, arm=arm))
    out = {name: np.zeros((len(models[name]), len(SUMS))) for name in tasks}
    for starts in groups.values():
        for first in range(0, len(starts), TOGETHER):
            some = starts[first : first + TOGETHER]
            for start, (run,) in zip(some, simulate(generator, some, 1, minutes * MINUTE, key=seed), strict=True):
                out[start.instrument][start.arm] += window_sums(run, minutes).sum(axis=0)
    return out


def distance(found: Floats, wanted: Floats, errors: Floats) -> float:
    """J: the sum of squared deviations over their variances; a moment that is missing counts as ``MISSING``."""
    squares = ((found - wanted) / errors) ** 2
    return float(np.where(np.isfinite(squares), np.minimum(squares, 10 * MISSING), MISSING).sum())


def _best(
    task: _Task, at: Sequence[Floats], found: Sequence[Floats], scores: Sequence[float], settings: Settings, seed: int
) -> Model:
    best = int(np.argmin(scores))
    facts = {
        "J": scores[best],
        "J_by_simulation": [float(s) for s in scores],
        "degrees_of_freedom": len(MOMENTS) - len(NAMES),
        "J_of_published_parameters": scores[0],
        "moments": {
            name: {
                "training": float(task.wanted[i]),
                "simulated": float(found[best][i]) if np.isfinite(found[best][i]) else None,
                "standard_error": float(task.errors[i]),
            }
            for i, name in enumerate(MOMENTS)
        },
        "bounds": {n: [float(np.exp(task.low[i])), float(np.exp(task.high[i]))] for i, n in enumerate(NAMES)},
        "budget": {**asdict(settings), "starts": len(task.starts), "best_simulation": best, "seed": seed},
    }
    return replace(task.model, behaviour=_behaviour(at[best]), facts=facts)
