"""Pairs of dependent samples whose overlap, Wasserstein distance and three-class accuracy are known.

All are made of Gaussian minutes with dependence inside clusters: a level that replay and simulation share
(the state from which both start), and AR(1) noise of their own.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from marsbench.stats.oracles import autoregressive

Floats = NDArray[np.float64]

LEVEL = 0.2
"""Share of the variance that lies between clusters."""


def minutes(
    clusters: int, rollouts: int, length: int, rng: np.random.Generator, *, phi: float = 0.8, shared: bool = True
) -> tuple[Floats, Floats]:
    """Replay ``[C, M]`` and simulations ``[C, R, M]`` of one law: standard normal minutes.

    Parameters
    ----------
    phi
        Lag-1 autocorrelation of the noise within a cluster.
    shared
        Whether simulations have the level of their replay; else each has its own.
    """
    burn = 50 if phi < 0.95 else 400
    noise = autoregressive((clusters * (1 + rollouts), length + burn), rng, phi=phi)[:, burn:] * np.sqrt(1 - phi * phi)
    noise = noise.reshape(clusters, 1 + rollouts, length)
    level = rng.standard_normal((clusters, 1 if shared else 1 + rollouts, 1))
    made = np.sqrt(LEVEL) * level + np.sqrt(1 - LEVEL) * noise
    return made[:, 0], made[:, 1:]


def normal_overlap(shift: float) -> float:
    """Overlap of N(0, 1) and N(shift, 1): 2 Phi(-shift / 2)."""
    return float(2 * stats.norm.cdf(-abs(shift) / 2))


def student(normal: Floats, dof: float = 2.0) -> Floats:
    """Student t values with the ranks of standard normal ones; t2 and 1.5 t2 overlap by .845."""
    return np.asarray(stats.t.ppf(stats.norm.cdf(normal), dof))


def forecasts(
    clusters: int, rollouts: int, length: int, rng: np.random.Generator, *, rho: float, phi: float = 0.8
) -> tuple[Floats, Floats]:
    """Replay ``[C, M]`` and simulations ``[C, R, M]`` of which every pair of minutes has correlation ``rho``."""
    replay, _ = minutes(clusters, 1, length, rng, phi=phi)
    own, others = minutes(clusters, rollouts, length, rng, phi=phi, shared=False)
    del own
    return replay, rho * replay[:, None] + np.sqrt(1 - rho * rho) * others


def copula_accuracy(rho: float, edges: tuple[float, ...] | None = None) -> float:
    """Chance that two standard normals of correlation ``rho`` lie in the same class, cut at ``edges`` (terciles)."""
    inner = edges if edges is not None else tuple(float(stats.norm.ppf(share)) for share in (1 / 3, 2 / 3))
    cuts = [-9.0, *inner, 9.0]
    law = stats.multivariate_normal(np.zeros(2), np.array([[1.0, rho], [rho, 1.0]]))
    return float(
        sum(law.cdf([b, b]) - law.cdf([a, b]) - law.cdf([b, a]) + law.cdf([a, a]) for a, b in itertools.pairwise(cuts))
    )
