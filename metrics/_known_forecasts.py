"""Forecasts whose truth is known: class probabilities of a Dirichlet law, rollouts and outcomes drawn from them.

With independent starts the best forecast is right in .565 of cases, and the vote of 1, 8, 32 or 128 rollouts in .457,
.521, .555 and .559. What an interval has to cover is the mean of the score over independent draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.forecasts import Forecasts
from marsbench.known_answers import COVERED, MISSED, Claim, KnownAnswer
from marsbench.market.rules import CONTINUOUS
from marsbench.market.trajectory import BookState, Trajectory
from marsbench.questions import Target
from marsbench.simulation.contracts import Start

Floats = NDArray[np.float64]

CONCENTRATION = 1.5
TREND = Target("trend", 1)
EXPECTED_FROM = 300
"""Draws behind the expected value that an interval has to cover."""
STATISTICS = ("accuracy", "f1", "kappa", "log_loss", "brier", "expected_accuracy")


@dataclass(frozen=True)
class Law:
    """How much data a draw is, and what depends on what."""

    clusters: int = 40
    starts: int = 30
    """Of each cluster."""
    rollouts: int = 32
    dependent: float = 0.0
    """Standard deviation of what the log odds of a cluster have in common."""
    blind: bool = False
    """Whether rollouts know nothing: drawn from the mean probabilities."""


def draw(law: Law, rng: np.random.Generator) -> Forecasts:
    """One set of forecasts."""
    count = law.clusters * law.starts
    p = rng.dirichlet([CONCENTRATION] * 3, count)
    shift = law.dependent * rng.standard_normal((law.clusters, 3))
    p = p * np.exp(np.repeat(shift, law.starts, axis=0))
    p /= p.sum(axis=1, keepdims=True)
    known = np.full_like(p, 1 / 3) if law.blind else p
    votes = _classes(known[:, None], rng.random((count, law.rollouts)))
    observed = _classes(p, rng.random(count))
    before = rng.integers(0, 3, count)
    return Forecasts(
        starts=tuple(start_without_market(f"cluster {i // law.starts}") for i in range(count)),
        targets=(TREND,),
        observed=observed[:, None],
        training_shares=np.full((1, 3), 1 / 3),
        before=before[:, None],
        votes=votes[:, :, None],
    )


def _classes(p: Floats, uniforms: Floats) -> Any:
    return (uniforms[..., None] > np.cumsum(p, axis=-1)[..., :2]).sum(axis=-1)


@cache
def start_without_market(cluster: str) -> Start:
    """A start of which only the cluster matters."""
    book = BookState()
    nothing = Trajectory("X", "2024-01-02", CONTINUOUS, 0, 0, book, *_NO_ORDERS, {})
    return Start("X", "2024-01-02", CONTINUOUS, 0, book, nothing, cluster)


def _no_orders() -> tuple[Any, Any]:
    from marsbench.market.orders import FILL, ORDER

    return np.zeros(0, ORDER), np.zeros(0, FILL)


_NO_ORDERS = _no_orders()


def scores(law: Law, rng: np.random.Generator) -> dict[str, tuple[float, float, float]]:
    """Value and interval of each statistic."""
    from .forecast_accuracy import ForecastAccuracy

    found = {}
    for score in ForecastAccuracy().evaluate(draw(law, rng), rng).scores:
        if score.value is None or score.ci_low is None or score.ci_high is None:
            raise ValueError(f"{score.key} has no interval: {score.reason}")
        found[score.key.split(".")[1]] = (score.value, score.ci_low, score.ci_high)
    return found


@cache
def _expected(law: Law, draws: int) -> dict[str, float]:
    """The mean of each statistic over draws that no check uses."""
    drawn = [scores(law, np.random.default_rng([606, i])) for i in range(draws)]
    return {name: float(np.mean([d[name][0] for d in drawn])) for name in STATISTICS}


def _covered(law: Law, rng: np.random.Generator, *, expected_from: int = EXPECTED_FROM) -> dict[str, Claim]:
    truth = _expected(law, expected_from)
    return {
        name: Claim(COVERED if low <= truth[name] <= high else MISSED)
        for name, (_, low, high) in scores(law, rng).items()
    }


def known_forecasts() -> list[KnownAnswer]:
    """Coverage of every statistic's interval."""
    laws = (
        ("dirichlet", "class probabilities of a Dirichlet law (1.5), which the rollouts know", Law()),
        ("dirichlet.clusters", "the same, starts of a cluster depend on each other", Law(dependent=0.8)),
        ("dirichlet.8", "the same, few clusters", Law(clusters=8, dependent=0.8)),
        ("dirichlet.200", "the same, more clusters than groups", Law(clusters=200, starts=6, dependent=0.8)),
        ("blind", "rollouts know nothing", Law(dependent=0.8, blind=True)),
    )
    return [
        KnownAnswer(
            name, about, f"{law.clusters} clusters x {law.starts} starts, {law.rollouts} rollouts", law.clusters,
            dict.fromkeys(STATISTICS, COVERED), partial(_covered, law),
        )
        for name, about, law in laws
    ]  # fmt: skip
