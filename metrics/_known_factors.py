"""Impacts of which one factor is planted: how often a search finds it, and others that are noise.

A start has metaorders of two sides and five sizes, which share its factors and its noise: the drift of the control
arm, whose sign is that of the side, and how strongly that start reacts at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from marsbench.known_answers import COVERED, MISSED, NOT_PRESENT, Claim, KnownAnswer
from marsbench.stats.factor_search import Problem, Settings, library, search
from marsbench.stats.factor_validation import SparseSearch, validate
from marsbench.stats.verdicts import ALPHA, INCONCLUSIVE, PRESENT

Floats = NDArray[np.float64]

SIZES, COPIES = 5, 2
"""Sizes of each start and side, and agents."""
FACTORS = 8
RELATED = 0.5
"""Correlation between unsigned factors; the planted one is the first."""
PLANTED, NOISE, SIGNED, ANY, SEARCH = "planted", "noise", "noise towards the side", "any noise", "search"
GAIN, CORRELATION = "gain", "correlation"
EXPECTED_FROM = 400
"""Draws behind the expected values that intervals have to cover."""


@dataclass(frozen=True)
class Law:
    """How much data a draw is, and what depends on what."""

    clusters: int = 100
    starts: int = 1
    """Of each cluster."""
    strength: float = 0.4
    """A standard deviation of the planted factor changes the impact by this share."""
    shared: float = 0.5
    """Standard deviation of the noise that metaorders of one cluster share; the mean impact is 1."""
    slope: float = 0.3
    """Standard deviation between clusters of the strength of their reaction."""
    noise: float = 0.5


def draw(law: Law, rng: np.random.Generator) -> tuple[Problem, dict[str, Floats]]:
    """One set of metaorders, and its factors: half of them point towards the side of the metaorder."""
    starts = law.clusters * law.starts
    start = np.repeat(np.arange(starts), 2 * SIZES * COPIES)
    side = np.tile(np.repeat([1, -1], SIZES * COPIES), starts)
    cell = np.tile(np.arange(2 * SIZES * COPIES), starts)
    cluster = start // law.starts
    spread = np.exp(0.15 * rng.standard_normal(starts))[start]
    root = np.asarray(10.0 ** (-1.5 + 0.125 * (cell % SIZES)) * spread, np.float64)
    common = rng.standard_normal(starts)
    factors = {}
    for j in range(FACTORS):
        own = rng.standard_normal(starts)
        if j < FACTORS // 2:
            factors[f"factor {j}"] = (np.sqrt(RELATED) * common + np.sqrt(1 - RELATED) * own)[start]
        else:
            factors[f"factor {j}"] = own[start] * side
    size = root / root.mean()
    drift, reaction = (s * rng.standard_normal(law.clusters)[cluster] for s in (law.shared, law.slope))
    impact = size * (1 + law.strength * factors["factor 0"] + reaction) + side * drift
    impact = impact + law.noise * rng.standard_normal(len(start))
    return Problem(impact, root, library(factors, root), cluster, start, cell), factors


def _found(law: Law, rng: np.random.Generator) -> dict[str, Claim]:
    problem, _ = draw(law, rng)
    found = search(problem.sums(), rng)
    names = {f for f, c in zip(problem.terms.factors, found.chosen, strict=True) if c}
    others = names - ({"factor 0"} if law.strength else set())
    said = {
        PLANTED: "factor 0" in names,
        NOISE: "factor 1" in names,
        SIGNED: f"factor {FACTORS - 1}" in names,
        ANY: bool(others),
    }
    return {name: Claim(PRESENT if there else INCONCLUSIVE) for name, there in said.items()}


def _searched(law: Law, rng: np.random.Generator) -> dict[str, Claim]:
    problem, _ = draw(law, rng)
    one = SparseSearch.of(problem, Settings(resamples=20, folds=2))
    p = validate(problem, {"sparse": one}, rng, permutations=19, folds=2).p["best"]
    return {SEARCH: Claim(PRESENT if p <= ALPHA else INCONCLUSIVE)}


def _intervals(law: Law, rng: np.random.Generator) -> dict[str, tuple[float, float, float]]:
    from .impact_factors import factor_gain, rank_correlation

    problem, factors = draw(law, rng)
    one = factors["factor 0"]
    found = {
        GAIN: factor_gain(one, problem.root_size, problem.impact, problem.clusters),
        CORRELATION: rank_correlation(one, problem.impact, problem.cell // (SIZES * 2), problem.clusters),
    }
    return {name: (value, float(interval.low), float(interval.high)) for name, (value, interval) in found.items()}


@cache
def _expected(law: Law, draws: int) -> dict[str, float]:
    drawn = [_intervals(law, np.random.default_rng([707, i])) for i in range(draws)]
    return {name: float(np.mean([d[name][0] for d in drawn])) for name in (GAIN, CORRELATION)}


def _covered(law: Law, rng: np.random.Generator, *, expected_from: int = EXPECTED_FROM) -> dict[str, Claim]:
    truth = _expected(law, expected_from)
    found = _intervals(law, rng)
    return {n: Claim(COVERED if low <= truth[n] <= high else MISSED) for n, (_, low, high) in found.items()}


def known_factors() -> list[KnownAnswer]:
    """What the search finds, whether its p value keeps its level, and the coverage of intervals."""
    nothing = dict.fromkeys((NOISE, SIGNED, ANY), NOT_PRESENT)
    laws = (
        ("factors.shared", "metaorders of a start share noise", Law()),
        ("factors.independent", "no shared noise, and a weaker factor", Law(strength=0.15, shared=0, slope=0)),
        ("factors.days", "5 starts to a cluster, which share noise", Law(clusters=30, starts=5)),
        ("factors.none", "shared noise and no factor", Law(strength=0)),
    )
    found = [
        KnownAnswer(
            name, about, _size(law), law.clusters, {**nothing, **({PLANTED: PRESENT} if law.strength else {})},
            partial(_found, law),
        )
        for name, about, law in laws
    ]  # fmt: skip
    searches = [
        KnownAnswer(
            name, f"p of the whole sparse search, 19 permutations; {about}", _size(law), law.clusters, {SEARCH: truth},
            partial(_searched, law),
        )
        for name, about, law, truth in (
            ("search.planted", "metaorders of a start share noise", Law(clusters=60), PRESENT),
            ("search.none", "shared noise and no factor", Law(clusters=60, strength=0), NOT_PRESENT),
        )
    ]  # fmt: skip
    covered = [
        KnownAnswer(
            name, f"intervals of {about}", _size(law), law.clusters, dict.fromkeys((GAIN, CORRELATION), COVERED),
            partial(_covered, law),
        )
        for name, about, law in (
            ("gain.planted", "a planted factor", Law()),
            ("gain.none", "a factor that is noise", Law(strength=0)),
            ("gain.few", "a planted factor, few clusters", Law(clusters=20)),
        )
    ]  # fmt: skip
    return found + searches + covered


def _size(law: Law) -> str:
    each = 2 * SIZES * COPIES
    return f"{law.clusters} clusters x {law.starts} starts x {each} metaorders, {FACTORS} factors"
