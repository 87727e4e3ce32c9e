"""Message sequences of a known law, and whether the intervals of LOB-Bench's scores cover what they estimate.

A draw is 40 real and 40 generated sequences of 200 messages; the mean size of a sequence is log-normal (sigma .3), so
that its observations depend on each other as those of one period do. Distances are biased up in small samples: what an
interval has to cover is the mean of the score over independent draws of the same size.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from marsbench.known_answers import COVERED, MISSED, Claim, KnownAnswer
from marsbench.lob_sequences import LobPair, LobSequences
from marsbench.scores import Score
from marsbench.stats.lob_bench import LobSequence
from marsbench.stats.lob_bench_oracles import random_sequence

from ._lob_bench_learned import discriminator_scores
from ._lob_bench_response import response_scores
from ._lob_bench_scores import distance_scores, divergence, measure_all, summary_scores
from ._lob_bench_units import Grouped, grouped

PAIRS, MESSAGES, SIGMA, SPLITS, BLOCK = 40, 200, 0.3, 8, 100
EXPECTED_FROM = 300
"""Draws behind the expected value that an interval has to cover."""

DISTANCES = (
    "lobbench.ask_volume_touch.l1",
    "lobbench.ask_volume_touch.l1.halves",
    "lobbench.ask_volume_touch.w1",
    "lobbench.log_inter_arrival_time.l1",
    "lobbench.log_inter_arrival_time.w1",
    "lobbench.ask_volume_spread.l1",
    "lobbench.ask_volume_spread.w1",
    "lobbench.summary.l1.mean",
    "lobbench.summary.l1.median",
    "lobbench.summary.l1.iqm",
    "lobbench.summary.w1.mean",
    "lobbench.divergence.h100",
    "lobbench.divergence.growth",
    "lobbench.response.lo_0",
    "lobbench.response.mean",
)
TOLD = ("lobbench.discriminator.auc", "lobbench.discriminator.logistic.auc")


def _draw(factor: float, up: float, rng: np.random.Generator) -> Grouped:
    """Generated sizes are ``factor`` times the real ones, generated moves go up with probability ``up``."""

    def one(k: int, size: float, rises: float) -> LobSequence:
        level = size * np.exp(rng.normal(-(SIGMA**2) / 2, SIGMA))
        return random_sequence(rng, MESSAGES, start_s=36_000.0 + 60 * k, size=level, up=rises)

    day = "X 2024-01-02"
    pairs = tuple(LobPair(f"{day} {k}", day, one(k, 50.0, 0.5), (one(k, 50.0 * factor, up),)) for k in range(PAIRS))
    return grouped(LobSequences(pairs))


def _scores(factor: float, up: float, rng: np.random.Generator) -> dict[str, Score]:
    data = _draw(factor, up, rng)
    measured, seed = measure_all(data), int(rng.integers(2**31))
    found = [
        *distance_scores(measured, data, SPLITS, seed),
        *summary_scores(measured, data),
        *divergence(data, BLOCK)[0],
        *response_scores(data, SPLITS, seed)[0],
    ]
    return {s.key: s for s in found if s.key in DISTANCES}


def _claim(score: Score, truth: float) -> Claim:
    if score.value is None or score.ci_low is None or score.ci_high is None:
        raise ValueError(f"{score.key} has no interval: {score.reason}")
    return Claim(COVERED if score.ci_low <= truth <= score.ci_high else MISSED)


@cache
def _expected(factor: float, up: float) -> dict[str, float]:
    """The mean of each score over draws that no check uses."""
    drawn = [_scores(factor, up, np.random.default_rng([707, i])) for i in range(EXPECTED_FROM)]
    return {key: float(np.mean([d[key].value for d in drawn if d[key].value is not None])) for key in DISTANCES}


def _covered(factor: float, up: float, rng: np.random.Generator) -> dict[str, Claim]:
    truth = _expected(factor, up)
    return {key: _claim(score, truth[key]) for key, score in _scores(factor, up, rng).items()}


def _told_apart(rng: np.random.Generator) -> dict[str, Claim]:
    found = discriminator_scores(_draw(1.0, 0.5, rng), rng)
    return {score.key: _claim(score, 0.5) for score in found}


def known_lob_bench() -> list[KnownAnswer]:
    """Intervals of distances and responses of three pairs of laws, and of discriminators that have nothing to find."""
    size = f"{PAIRS} + {PAIRS} sequences of {MESSAGES} messages"
    laws = (
        ("same", "one law", 1.0, 0.5),
        ("sizes", "generated sizes 1.5 times the real ones", 1.5, 0.5),
        ("trend", "the generated mid moves up three times of four", 1.0, 0.75),
    )
    intervals = dict.fromkeys(DISTANCES, COVERED)
    known = [
        KnownAnswer(f"interval.{name}", about, size, PAIRS, intervals, partial(_covered, factor, up))
        for name, about, factor, up in laws
    ]
    truth = dict.fromkeys(TOLD, COVERED)
    return [*known, KnownAnswer("exchangeable", "one law: the AUC is .5", size, PAIRS, truth, _told_apart)]
