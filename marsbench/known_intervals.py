"""Every interval method of the library on dependent data whose true value is known: nominal coverage 95%.

The processes are what the intervals meet in use: values that share a cluster effect (a day, a start), clusters
of unequal size, skewed clusters, statistics that are no means, neighbouring blocks of one day, halves of replay,
differences of two generators from the same starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from marsbench import jackknife as joint
from marsbench.known_answers import COVERED, MISSED, Claim, KnownAnswer
from marsbench.stats.intervals import (
    Interval,
    cluster_interval,
    deletion_weights,
    jackknife_interval,
    ratio_interval,
    share_interval,
)
from marsbench.stats.oracles import autoregressive
from marsbench.stats.splits import split_half
from marsbench.stats.verdicts import Estimate, jackknife

Floats = NDArray[np.float64]
Draw = Callable[[int, np.random.Generator], Mapping[str, Claim]]
"""Number of clusters and randomness in, what each method says out."""

SIZE = 25
"""Values in a cluster: minutes of a window."""
SHIFT = 1.0
"""How far the bad generator of the split halves is off."""
COPULA = 0.5
"""Correlation of the pairs whose sample correlation is estimated."""


def _claim(low: Floats | float, high: Floats | float, truth: float) -> Claim:
    return Claim(COVERED if float(low) <= truth <= float(high) else MISSED)


def _clustered(clusters: int, rng: np.random.Generator, size: int = SIZE) -> Floats:
    """``[C, size]`` of mean 0 with intraclass correlation 1/2."""
    return np.asarray(rng.standard_normal((clusters, 1)) + rng.standard_normal((clusters, size)))


def _both(statistic: Callable[[Floats], Floats], clusters: int, truth: float) -> dict[str, Claim]:
    """The interval that scores get at this number of clusters, and the one that verdicts get."""
    shown: Interval = cluster_interval(statistic, clusters)
    judged: Estimate = jackknife(statistic, clusters)
    return {
        "cluster_interval": _claim(shown.low, shown.high, truth),
        "verdicts.jackknife": _claim(judged.low, judged.high, truth),
    }


def _mean(clusters: int, rng: np.random.Generator) -> dict[str, Claim]:
    x = _clustered(clusters, rng).mean(axis=1)
    return _both(lambda w: w @ x / w.sum(axis=1), clusters, 0.0)


def _unequal(clusters: int, rng: np.random.Generator) -> dict[str, Claim]:
    """Clusters of 5 to 45 values: ratio of sums."""
    sizes = rng.integers(5, 46, clusters)
    sums = np.array([_clustered(1, rng, n).sum() for n in sizes])
    return _both(lambda w: (w @ sums) / (w @ sizes.astype(np.float64)), clusters, 0.0)


def _skewed(clusters: int, rng: np.random.Generator) -> dict[str, Claim]:
    """Clusters whose means are gamma variables, skewness 1."""
    x = rng.gamma(4.0, 0.25, clusters) + 0.2 * rng.standard_normal((clusters, SIZE)).mean(axis=1)
    return _both(lambda w: w @ x / w.sum(axis=1), clusters, 1.0)


def _correlation(clusters: int, rng: np.random.Generator) -> dict[str, Claim]:
    """Correlation of pairs, both with a cluster effect: no mean."""
    noise = [_clustered(clusters, rng) for _ in range(2)]
    x, y = noise[0], COPULA * noise[0] + np.sqrt(1 - COPULA**2) * noise[1]
    sums = np.stack([v.sum(axis=1) for v in (np.ones_like(x), x, y, x * x, y * y, x * y)], axis=1)

    def statistic(w: Floats) -> Floats:
        n, sx, sy, xx, yy, xy = (w @ sums).T
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((xy - sx * sy / n) / np.sqrt((xx - sx * sx / n) * (yy - sy * sy / n)))

    return _both(statistic, clusters, COPULA)


def _blocks(blocks: int, rng: np.random.Generator) -> dict[str, Claim]:
    """Blocks of 25 minutes of one series with memory, AR(1) of .8: neighbours depend a little on each other."""
    x = autoregressive((1, (blocks + 4) * SIZE), rng, phi=0.8)[0, -blocks * SIZE :].reshape(blocks, SIZE).mean(axis=1)
    return _both(lambda w: w @ x / w.sum(axis=1), blocks, 0.0)


def _share(clusters: int, rng: np.random.Generator) -> dict[str, Claim]:
    """A share of events of 2%, a beta variable between clusters."""
    hits = rng.binomial(100, rng.beta(1.0, 49.0, clusters)) / 100
    found = share_interval(np.asarray(hits.mean()), ratio_interval(hits, np.ones(clusters)))
    return {"share_interval": _claim(found.low, found.high, 0.02)}


def _halves(clusters: int, rng: np.random.Generator) -> dict[str, Claim]:
    """|mean of simulation on A - mean of replay on B|, whose expected value is that of a folded normal variable."""
    replay, simulated = (_clustered(clusters, rng).mean(axis=1) + shift for shift in (0.0, SHIFT))

    def compare(a: Floats, b: Floats, k: int) -> tuple[Floats, Floats, Floats]:
        def gap(x: Floats, y: Floats) -> Floats:
            return np.asarray(np.abs((a @ x) / a.sum(axis=1) - (b @ y) / b.sum(axis=1)))

        return gap(simulated, replay), gap(replay, replay), np.ones(len(a))

    found = split_half(compare, np.zeros(clusters, np.int64), 16, rng)
    if found is None:
        raise ValueError(f"{clusters} clusters cannot be halved")
    spread = np.sqrt((1 + 1 / SIZE) * 4 / clusters)
    truth = float(stats.foldnorm.mean(SHIFT / spread, scale=spread))
    return {"split_half": _claim(found.value_interval.low, found.value_interval.high, truth)}


def _paired(clusters: int, rng: np.random.Generator) -> dict[str, Claim]:
    """Mean of three scores of one generator less that of another from the same starts, from replicates alone."""
    common = rng.standard_normal((clusters, 1))
    scores = [common + rng.standard_normal((clusters, 3)) + shift for shift in (0.3, 0.0)]
    left_out = deletion_weights(clusters)
    shares = left_out / left_out.sum(axis=1, keepdims=True)

    def overall(x: Floats) -> joint.Replicated:
        parts = [joint.Replicated(float(x[:, j].mean()), {"starts": shares @ x[:, j]}) for j in range(3)]
        return joint.combine(lambda values: float(np.mean(values)), parts)

    found = joint.difference(overall(scores[0]), overall(scores[1]))
    interval = found.interval or (np.nan, np.nan)
    alone = jackknife_interval(np.asarray(scores[0][:, 0].mean()), shares @ scores[0][:, 0])
    return {
        "jackknife.difference": _claim(*interval, 0.3),
        "jackknife_interval": _claim(alone.low, alone.high, 0.3),
    }


_BOTH = ("cluster_interval", "verdicts.jackknife")
_LISTED: tuple[tuple[str, str, Draw, tuple[str, ...], tuple[int, ...]], ...] = (
    ("mean", "mean of values with intraclass correlation 1/2", _mean, _BOTH, (5, 10, 19, 20, 40, 64, 200)),
    ("unequal", "the same, clusters of 5 to 45 values", _unequal, _BOTH, (10, 40)),
    ("skewed", "mean of clusters whose means are gamma variables of skewness 1", _skewed, _BOTH, (10, 40)),
    ("correlation", "correlation of .5 of pairs that both have a cluster effect", _correlation, _BOTH, (10, 40)),
    ("blocks", "mean over 25-minute blocks of one AR(1) series of .8", _blocks, _BOTH, (9, 40)),
    ("share", "a share of 2%, a beta variable between clusters", _share, ("share_interval",), (10, 40)),
    ("halves", "a distance between halves of replay and simulation", _halves, ("split_half",), (8, 40, 64)),
    ("paired", "a mean of scores, and its difference between generators from the same starts", _paired,
     ("jackknife.difference", "jackknife_interval"), (10, 40, 64)),
)  # fmt: skip


def known_intervals() -> list[KnownAnswer]:
    """Every process at every number of clusters."""
    return [
        KnownAnswer(f"{name}.{n}", about, f"{n} clusters", n, dict.fromkeys(methods, COVERED), partial(draw, n))
        for name, about, draw, methods, sizes in _LISTED
        for n in sizes
    ]
