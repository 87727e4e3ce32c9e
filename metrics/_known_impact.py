"""Metaorders whose law of impact is planted, or follows from a propagator, and how the metric judges them.

Half of the noise of an impact is common to all metaorders of a start and side, as that of a shared control arm is: they
are not independent. Of a propagator ``dP = f(v) G(t)`` with ``G = (1 + t)^-1/2`` and a fixed time of trading the
exponent is that of f, and what is left of the impact later is a ratio of sums of G.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from marsbench.impact_runs import Arm, Before, ImpactRuns, Normalisers
from marsbench.known_answers import COVERED, MISSED, NOT_PRESENT, Claim, KnownAnswer
from marsbench.stats.impact_law import fit_law
from marsbench.stats.verdicts import INCONCLUSIVE, PRESENT

from ._impact_statistics import Market, weights_of
from ._impact_tables import HOLDS, above, contains, differences, ends_of
from ._known_forecasts import start_without_market

Floats = NDArray[np.float64]

AGENTS = ("L1-P0.1", "L5-P0.1", "L1-P0.9", "L5-P0.9")
TRADING, MINUTES, SIZES = 5, 20, 5
SMALLEST, LARGEST = 0.0004, 0.03
NOISE = 0.06
"""Standard deviation of an impact, in daily volatilities."""
DELTA, PREFACTOR, LEFT, LIKE_ROOT, MORE, ALIKE = (
    "exponent", "prefactor", "relaxation", "like a square root", "L5-P0.1 has more impact than L1-P0.1", "sides alike",
)  # fmt: skip


@dataclass(frozen=True)
class Planted:
    """What is true, and how much data a draw is."""

    delta: float = 0.5
    prefactor: float = 1.0
    clusters: int = 100
    each: int = 1
    """Starts of a cluster."""
    tail_every: int = 1
    """One start in so many is followed after trading."""
    propagator: bool = False
    """Whether the path follows from one, with ``f(v) = v^delta``; else it stays where trading left it."""

    def path(self) -> Floats:
        """``[M + 1]``: the share of the final impact that is there at each minute."""
        minute = np.arange(MINUTES + 1, dtype=np.float64)
        if not self.propagator:
            return np.minimum(minute / TRADING, 1.0)
        kernel = (1 + np.arange(MINUTES * 60) / 60.0) ** -0.5
        trading = (np.arange(MINUTES * 60) < TRADING * 60).astype(np.float64)
        price = np.concatenate([[0.0], np.convolve(trading, kernel)[: MINUTES * 60]])[::60]
        return np.asarray(price / price[TRADING])


def draw(law: Planted, rng: np.random.Generator) -> ImpactRuns:
    """One experiment."""
    starts = law.clusters * law.each
    agent, side, rank, start = (x.ravel() for x in np.indices((len(AGENTS), 2, SIZES, starts)))
    side = 1 - 2 * side
    within = rng.random(starts)
    share = SMALLEST * (LARGEST / SMALLEST) ** ((rank + within[start]) / SIZES)
    peak = law.prefactor * share**law.delta
    common = rng.standard_normal((starts, 2, MINUTES + 1))[start, (side < 0).astype(int)]
    own = rng.standard_normal((len(start), MINUTES + 1))
    walk = NOISE * np.cumsum((common + own) / np.sqrt(2 * TRADING), axis=1)
    path = peak[:, None] * law.path() + walk - walk[:, :1]
    path[start % law.tail_every > 0, TRADING + 1 :] = np.nan
    shares = np.full(starts, 1e9)
    executed = np.rint(share * shares[start]).astype(np.int64)
    nothing = np.zeros(len(start), np.int64)
    arm = Arm(executed, nothing, np.full(len(start), 1000.0), path, np.zeros_like(path), 10 * executed, nothing)
    whole = Normalisers(np.ones(starts), shares)
    return ImpactRuns(
        starts=tuple(start_without_market(f"cluster {i // law.each}") for i in range(starts)), agents=AGENTS,
        trading_minutes=TRADING, minutes=MINUTES, start=start, agent=agent, side=side, rank=rank,
        target_shares=executed, daily=whole, window=whole, replay_shares=shares, before=_before(starts), own=arm,
        overlay=arm,
    )  # fmt: skip


def _before(starts: int) -> Before:
    flat, deep = np.full((starts, 31), 1000.0), np.ones((starts, 10))
    return Before(flat, flat[:, 1:], flat[:, 1:], flat[:, 1:], deep, deep, np.ones(starts))


def _judge(law: Planted, rng: np.random.Generator) -> dict[str, Claim]:
    runs = draw(law, rng)
    market = Market(runs, runs.own, runs.daily)
    weights = weights_of(market.clusters)
    found = fit_law(market.size, market.impact[:, TRADING], runs.clusters, market.clusters)
    left = ends_of(market.relaxation(weights), market.clusters, market.about(market.tail))
    more = above(0.0)(ends_of(differences(market, weights)[MORE], market.clusters))
    alike = contains(0.0)(ends_of(market.asymmetry(weights), market.clusters))
    claims = {
        LEFT: _cover(left["ci_low"], left["ci_high"], float(law.path()[-1])),
        MORE: Claim(PRESENT if more == HOLDS else INCONCLUSIVE),
        ALIKE: Claim(COVERED if alike == HOLDS else MISSED),
    }
    if found is None:
        nothing = Claim(INCONCLUSIVE)
        return claims | {DELTA: nothing, PREFACTOR: nothing, LIKE_ROOT: nothing}
    return claims | {
        DELTA: _cover(found.delta_low, found.delta_high, law.delta),
        PREFACTOR: _cover(found.prefactor_low, found.prefactor_high, law.prefactor),
        LIKE_ROOT: Claim(PRESENT if found.verdict == HOLDS else INCONCLUSIVE),
    }


def _cover(low: float | None, high: float | None, truth: float) -> Claim:
    if low is None or high is None or not np.isfinite(low + high):
        return Claim(INCONCLUSIVE)
    return Claim(COVERED if low <= truth <= high else MISSED)


def known_impact() -> list[KnownAnswer]:
    """Planted laws and propagators, of many instrument-days and of a single day's few blocks."""
    all_covered = {DELTA: COVERED, PREFACTOR: COVERED, LEFT: COVERED, ALIKE: COVERED, MORE: NOT_PRESENT}
    cases: list[tuple[str, str, Planted, dict[str, str]]] = [
        ("square-root", "I = (Q/V)^.5", Planted(), {**all_covered, LIKE_ROOT: PRESENT}),
        ("square-root.8", "the same, 8 clusters of 5 starts", Planted(clusters=8, each=5), all_covered),
        ("square-root.tails", "the same, one start in ten is followed further", Planted(tail_every=10), all_covered),
        ("square-root.tails.4", "the same, four starts are", Planted(tail_every=25), all_covered),
        ("three-quarters", "I = 3 (Q/V)^.75", Planted(0.75, 3.0), {**all_covered, LIKE_ROOT: NOT_PRESENT}),
        ("linear", "I = 10 Q/V", Planted(1.0, 10.0), {**all_covered, LIKE_ROOT: NOT_PRESENT}),
        ("propagator.root", "propagator, f(v) = v^.5", Planted(propagator=True), all_covered),
        ("propagator.linear", "propagator, f(v) = v", Planted(1.0, 10.0, propagator=True), all_covered),
    ]
    return [_known(*case) for case in cases]


def _known(process: str, about: str, law: Planted, truth: dict[str, str]) -> KnownAnswer:
    count = law.clusters * law.each * len(AGENTS) * 2 * SIZES
    judge: Callable[[np.random.Generator], dict[str, Claim]] = partial(_judge, law)
    return KnownAnswer(
        process, f"{about}, noise of {NOISE:g} daily volatilities, half of it shared by a start and side",
        f"{count:,} metaorders of {law.clusters} clusters", law.clusters, truth, judge,
    )  # fmt: skip
