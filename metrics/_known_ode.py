"""Trajectories of impact whose ODE is known, and how its weights and its gain over the base ODE are judged.

Factors are normal, half of their variance common to a cluster, and paths walk at random about the solution, half of
the variance again common. Three weights are known: those planted, those that the penalty makes of them with endless
data, which its intervals are about, and the expected gain, a mean over other draws at the same penalty.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from marsbench.known_answers import COVERED, MISSED, NOT_PRESENT, Claim, KnownAnswer
from marsbench.stats.impact_decays import PAPER, basis
from marsbench.stats.impact_ode import Trajectories, fit, weight_interval
from marsbench.stats.impact_ode_errors import LEARNED, HeldOut, held_out
from marsbench.stats.intervals import jackknife_error
from marsbench.stats.lasso import lasso
from marsbench.stats.verdicts import INCONCLUSIVE, PRESENT

Floats = NDArray[np.float64]

TIMES = np.arange(1.0, 9.0)
SPREAD = 0.3
"""Standard deviation of what drives the base ODE, whose mean is 1."""
PLANTED = ((0.4, -0.3), (0.0, 0.2), (0.0, 0.0), (-0.3, 0.5))
"""Weights of three factors and of the factor 1, by 1/t and 1/sqrt(t)."""
BASE = ((0.0, SPREAD), (0.0, 0.0), (0.0, 0.0), (0.0, 1.0))
"""Those of the base ODE itself, dY/dt = X_1 / sqrt(t)."""
LOOKED_AT = (0, 1)
"""The weight that intervals are judged by."""
EXPECTED_FROM = 1500
"""Draws behind the expected gain."""
GAIN, BEATS = "gain", "beats the base of free amplitude"
PENALISED, FREE = "weight at this penalty", "weight without penalty"


@dataclass(frozen=True)
class Law:
    """How much data a draw is, and what is planted."""

    clusters: int = 20
    each: int = 10
    """Trajectories of a cluster."""
    weights: tuple[tuple[float, float], ...] = PLANTED
    noise: float = 0.3
    """Standard deviation of the step of a minute."""
    penalty: float = 0.01
    folds: int = 5


def draw(law: Law, rng: np.random.Generator) -> Trajectories:
    """One set of trajectories; the first factor is sqrt(Q/V), in units of its mean."""
    cluster = np.repeat(np.arange(law.clusters), law.each)

    def normal(columns: int) -> Floats:  # half of its variance is the cluster's
        common = rng.standard_normal((law.clusters, columns))[cluster]
        return np.asarray((common + rng.standard_normal((len(cluster), columns))) / np.sqrt(2))

    z = normal(3)
    drive = np.concatenate([z, np.ones((len(z), 1))], axis=1) @ np.array(law.weights)
    walk = np.cumsum(law.noise * normal(len(TIMES)), axis=1)
    paths = walk + drive @ basis(TIMES, list(PAPER.values())).T
    factors = z.copy()
    factors[:, 0] = 1 + SPREAD * z[:, 0]
    return Trajectories(paths, factors, TIMES, cluster, ("sqrt(Q/V)", "b", "c"))


def penalised(law: Law) -> Floats:
    """``[4, 2]``: what the penalty makes of the planted weights with endless data."""
    part = basis(TIMES, list(PAPER.values()))[1:]
    planted = np.array(law.weights)
    gram = np.kron(np.eye(len(planted)), part.T @ part) / len(part)
    found = lasso(gram, gram @ planted.ravel(), np.array([law.penalty]))
    return np.asarray(found.reshape(planted.shape))


def judged(law: Law, rng: np.random.Generator, *, expected_from: int = EXPECTED_FROM) -> dict[str, Claim]:
    """What one draw says."""
    data = draw(law, rng)
    gain, interval = _held(law, data).gain("free.inverse_sqrt")
    assert interval.deleted is not None
    error, _ = jackknife_error(np.asarray(gain), interval.deleted)
    said = {BEATS: Claim(PRESENT if interval.low > 0 else INCONCLUSIVE, float(gain / error))}
    if law.weights != BASE:
        expected = _expected(law, expected_from)
        said[GAIN] = Claim(COVERED if interval.low <= expected <= interval.high else MISSED)
    for name, truth in ((PENALISED, penalised(law)), (FREE, np.array(law.weights))):
        penalty = law.penalty if name == PENALISED else 0.0
        said[name] = Claim(COVERED if covers(data, penalty, truth) else MISSED)
    return said


def covers(data: Trajectories, penalty: float, truth: Floats) -> bool:
    """Whether the interval of the weight that is looked at holds its truth."""
    found = weight_interval(data, fit(data, penalty=penalty))
    return bool(found.low[LOOKED_AT] <= truth[LOOKED_AT] <= found.high[LOOKED_AT])


def _held(law: Law, data: Trajectories) -> HeldOut:
    return held_out(data, data.factors[:, 0], penalty=law.penalty, folds=law.folds)


@cache
def _expected(law: Law, draws: int) -> float:
    """The mean gain over draws that no check uses."""
    drawn = (_held(law, draw(law, np.random.default_rng([611, i]))) for i in range(draws))
    return float(np.mean([held.error("free.inverse_sqrt") - held.error(LEARNED) for held in drawn]))


def known_odes() -> list[KnownAnswer]:
    """Coverage of the gain and of weights, and how often the learned ODE beats a base that is the truth.

    Of the base itself the coverage of the gain is not asked: nearly all of it is what fits to few clusters lose, and
    the interval was measured to hold it in 99% of draws.
    """
    covered = dict.fromkeys((PENALISED, FREE), COVERED)
    gained = {GAIN: COVERED, BEATS: PRESENT}
    laws = (
        ("planted", "weights planted on two factors and on what all have in common", gained, Law()),
        ("planted.8", "the same, few clusters", gained, Law(clusters=8, each=25)),
        ("planted.100", "the same, more clusters than groups", gained, Law(clusters=100, each=5)),
        ("base", "the base ODE itself: nothing to gain", {BEATS: NOT_PRESENT}, Law(weights=BASE)),
    )
    return [
        KnownAnswer(
            name, f"{about}; penalty {law.penalty:g}",
            f"{law.clusters} clusters x {law.each} trajectories of 8 minutes", law.clusters, claims | covered,
            partial(judged, law),
        )
        for name, about, claims, law in laws
    ]  # fmt: skip
