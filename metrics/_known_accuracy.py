"""Forecasts whose three-class accuracy is known, and how the 3-class accuracy judges a draw of them.

One draw is as large as what ``realism`` hands over: 64 windows of 25 dependent minutes (the quantities of a
minute), or one value for each of 64 starts (the returns).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from marsbench.known_answers import COVERED, MISSED, NOT_PRESENT, Claim, KnownAnswer
from marsbench.stats import paired_oracles as oracles
from marsbench.stats.classes import classify, tercile_edges
from marsbench.stats.intervals import jackknife_error
from marsbench.stats.verdicts import INCONCLUSIVE, PRESENT

from ._accuracy_scores import by_cluster, certain, share_of, statistics
from ._baselines import majority_class

Floats = NDArray[np.float64]

BEATS, ACCURACY, KAPPA = "beats its floor", "accuracy", "kappa"
TICKS = (0.6, 0.9)
"""Shares up to which a spread is one tick, or two: terciles of such values leave the middle class empty."""


def _judged(
    rho: float, clusters: int, minutes: int, rollouts: int, tied: bool, rng: np.random.Generator
) -> dict[str, Claim]:
    replay, simulated = oracles.forecasts(clusters, rollouts, minutes, rng, rho=rho)
    if tied:
        cuts = stats.norm.ppf(TICKS)
        replay, simulated = (np.digitize(x, cuts).astype(np.float64) + 1 for x in (replay, simulated))
    edges = tercile_edges(replay)
    observed = classify(replay, edges)
    shares = certain(classify(simulated, edges)).mean(axis=1)
    cluster = np.arange(clusters)
    matrix = by_cluster(observed, shares, cluster)
    constant = by_cluster(observed, certain(majority_class(observed)), cluster)
    value, interval = statistics(matrix, constant)
    accuracy, kappa = _truth(rho, tied)
    share = share_of(value, interval)
    assert interval.deleted is not None
    error, _ = jackknife_error(value, interval.deleted)
    low, high = float(interval.low[1]), float(interval.high[1])
    return {
        ACCURACY: Claim(COVERED if share.low <= accuracy <= share.high else MISSED),
        KAPPA: Claim(COVERED if low <= kappa <= high else MISSED),
        BEATS: Claim(PRESENT if interval.low[2] > 0 else INCONCLUSIVE, float(value[2] / error[2])),
    }


def _truth(rho: float, tied: bool) -> tuple[float, float]:
    """Accuracy and kappa: of ties, one tick is the low class and more the high one."""
    edges = (float(stats.norm.ppf(TICKS[0])),) if tied else None
    chance = TICKS[0] ** 2 + (1 - TICKS[0]) ** 2 if tied else 1 / 3
    accuracy = oracles.copula_accuracy(rho, edges)
    return accuracy, (accuracy - chance) / (1 - chance)


def known_accuracy() -> list[KnownAnswer]:
    """Gaussian copulas from no skill to near certainty, with ties, on many days and on one."""
    out = []
    within = "minutes AR(.8) with a level per start"
    for rho in (0.0, 0.3, 0.5, 0.7, 0.85, 0.95):
        for name, clusters, length, tied in (
            ("minutes", 64, 25, False), ("one-day", 9, 25, False), ("starts", 64, 1, False), ("ties", 64, 25, True),
        ):  # fmt: skip
            if rho not in (0.0, 0.5) and name in ("one-day", "ties"):
                continue
            accuracy, kappa = _truth(rho, tied)
            truth: Mapping[str, str] = {BEATS: PRESENT if rho else NOT_PRESENT, ACCURACY: COVERED, KAPPA: COVERED}
            law = "spreads of 1, 2, 3 ticks (.6, .3, .1), " if tied else ""
            about = f"{law}Gaussian copula of {rho:g}: accuracy {accuracy:.3f}, kappa {kappa:.3f}; {within}"
            size = f"{clusters} starts x {length} minute{'s' * (length > 1)}, 4 rollouts"
            draw = partial(_judged, rho, clusters, length, 4, tied)
            out.append(KnownAnswer(f"copula-{rho:g}.{name}", about, size, clusters, truth, draw))
    return out
