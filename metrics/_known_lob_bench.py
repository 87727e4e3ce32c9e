"""Message sequences of a known law, and whether the intervals of LOB-Bench's scores cover what they estimate.

A draw is 40 real and 40 generated sequences of 200 messages; the mean size of a sequence is log-normal (sigma .3), so
that its observations depend on each other as those of one period do. Where the unit is the day, sequences of a day
depend on each other too: they share most of the level of sizes, of waiting times and of the direction of moves. What
prediction is judged by are sequences whose moves follow a hidden AR(1), which tilts the touch, by a strength that
differs between days and sequences. Distances are biased up in small samples, and models that learn from few sequences
predict worse: what an interval has to cover is the mean of the score over independent draws of the same size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench import jackknife
from marsbench.known_answers import COVERED, MISSED, Claim, KnownAnswer
from marsbench.lob_sequences import LobPair, LobSequences
from marsbench.scores import Score
from marsbench.stats.lob_bench import LobSequence
from marsbench.stats.lob_bench_oracles import TICK, random_sequence
from marsbench.stats.oracles import autoregressive

from ._lob_bench_learned import discriminator_scores, predictive_scores
from ._lob_bench_response import response_scores
from ._lob_bench_scores import distance_scores, divergence, measure_all, summary_scores
from ._lob_bench_units import Grouped, grouped

Floats = NDArray[np.float64]

PAIRS, MESSAGES, SIGMA, SPLITS, BLOCK = 40, 200, 0.3, 8, 100
DAYS, OF_DAY, DAY_SIGMA, OWN_SIGMA = 12, 4, 0.3, 0.15
PHI, TILT, STRENGTH = 0.9, 0.5, 2.0
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
PREDICTED = ("lobbench.predictive.real_to_real.auc", "lobbench.predictive.synthetic_to_real.auc")
GAP = "synthetic_to_real less real_to_real"

Found = dict[str, tuple[float, float, float]]
"""Value and interval of each score."""


@dataclass(frozen=True)
class Law:
    """How generated sequences differ from real ones, and what depends on what."""

    factor: float = 1.0
    """Generated sizes over real ones."""
    up: float = 0.5
    """Probability that a generated move goes up; of one day only."""
    days: int = 1
    """More than one: so many days of ``OF_DAY`` sequences, which share a level."""
    own_level: bool = False
    """Whether the generated sequences of a day have another level than the real ones, as another day's flow has."""


@dataclass(frozen=True)
class Signal:
    """How strongly moves follow the hidden state, typically; 0: not at all."""

    real: float = STRENGTH
    made: float = STRENGTH
    days: int = 1
    sequences: int = PAIRS
    """Of a day."""


def _draw(law: Law, rng: np.random.Generator) -> Grouped:
    return _of_days(law, rng) if law.days > 1 else _of_one_day(law, rng)


def _of_one_day(law: Law, rng: np.random.Generator) -> Grouped:
    def one(k: int, size: float, rises: float) -> LobSequence:
        level = size * np.exp(rng.normal(-(SIGMA**2) / 2, SIGMA))
        return random_sequence(rng, MESSAGES, start_s=36_000.0 + 60 * k, size=level, up=rises)

    day, size = "X 2024-01-02", 50.0 * law.factor
    pairs = tuple(LobPair(f"{day} {k}", day, one(k, 50.0, 0.5), (one(k, size, law.up),)) for k in range(PAIRS))
    return grouped(LobSequences(pairs))


def _of_days(law: Law, rng: np.random.Generator) -> Grouped:
    def one(k: int, size: float, of_day: Floats) -> LobSequence:
        level, pace, tilt = of_day + OWN_SIGMA * rng.standard_normal(3)
        rises = 1 / (1 + np.exp(-2 * tilt))
        s = random_sequence(rng, MESSAGES, start_s=36_000.0 + 600 * k, size=size * np.exp(level), up=rises)
        since = np.rint((s.time_ns - s.time_ns[0]) * np.exp(pace)).astype(np.int64)
        return replace(s, time_ns=s.time_ns[0] + since)

    pairs: list[LobPair] = []
    for d in range(law.days):
        real = DAY_SIGMA * rng.standard_normal(3)
        made = DAY_SIGMA * rng.standard_normal(3) if law.own_level else real
        both = [(one(k, 50.0, real), one(k, 50.0 * law.factor, made)) for k in range(OF_DAY)]
        pairs += [LobPair(f"{_day(d)} {k}", _day(d), a, (b,)) for k, (a, b) in enumerate(both)]
    return grouped(LobSequences(tuple(pairs)))


def _day(d: int) -> str:
    return f"X 2024-{1 + d // 28:02d}-{1 + d % 28:02d}"


def _signalling(signal: Signal, rng: np.random.Generator) -> Grouped:
    def one(k: int, typical: float, of_day: float) -> LobSequence:
        size, own = 50 * np.exp(SIGMA * rng.standard_normal()), SIGMA * rng.standard_normal()
        s = random_sequence(rng, MESSAGES, start_s=36_000.0 + 60 * k, size=size)
        return _moved(s, size, typical * np.exp(of_day + own), rng)

    pairs: list[LobPair] = []
    for d in range(signal.days):
        of_day = DAY_SIGMA * rng.standard_normal() if signal.days > 1 else 0.0
        both = [(one(k, signal.real, of_day), one(k, signal.made, of_day)) for k in range(signal.sequences)]
        pairs += [LobPair(f"{_day(d)} {k}", _day(d), a, (b,)) for k, (a, b) in enumerate(both)]
    return grouped(LobSequences(tuple(pairs)))


def _moved(s: LobSequence, size: float, strength: float, rng: np.random.Generator) -> LobSequence:
    """The sequence with moves that follow an AR(1) z: up with probability ``1 / (1 + exp(-strength z))``, and with
    touch sizes of mean ``size exp(TILT z)`` (bid) and ``size exp(-TILT z)`` (ask)."""
    n = len(s)
    z = np.sqrt(1 - PHI * PHI) * autoregressive((1, n + 50), rng, phi=PHI)[0, 50:]
    step = np.where(rng.random(n) < 1 / (1 + np.exp(-strength * z)), TICK, -TICK)
    step = np.where(rng.random(n) < 0.1, step, 0)
    shift = s.book[0, 0, 0] + np.cumsum(step) - s.book[:, 0, 0]
    book = s.book.copy()
    book[:, :, 0::2] += shift[:, None, None]
    book[:, 0, 1], book[:, 0, 3] = (rng.poisson(size * np.exp(sign * TILT * z)) + 1 for sign in (-1, 1))
    return replace(s, book=book, price=s.price + shift.astype(np.int64))


def _ends(score: Score) -> tuple[float, float, float]:
    if score.value is None or score.ci_low is None or score.ci_high is None:
        raise ValueError(f"{score.key} has no interval: {score.reason}")
    return score.value, score.ci_low, score.ci_high


def _distances(law: Law, rng: np.random.Generator) -> Found:
    data = _draw(law, rng)
    measured, seed = measure_all(data), int(rng.integers(2**31))
    listed = [one for one in measured if f"lobbench.{one.key}.l1" in DISTANCES]
    found = [
        *distance_scores(listed, data, SPLITS, seed),
        *summary_scores(measured, data),
        *divergence(data, BLOCK)[0],
        *response_scores(data, SPLITS, seed)[0],
    ]
    return {s.key: _ends(s) for s in found if s.key in DISTANCES}


def _predictions(signal: Signal, rng: np.random.Generator) -> Found:
    """Both AUC, and their difference paired by unit."""
    real, made = predictive_scores(_signalling(signal, rng))
    gap = jackknife.difference(*(jackknife.estimate(score, normalised=False) for score in (made, real)))
    return {
        real.key: _ends(real),
        made.key: _ends(made),
        GAP: (gap.value, *(gap.interval or (np.nan, np.nan))),
    }


@cache
def _expected(found: Callable[[Any, np.random.Generator], Found], law: Any, draws: int) -> dict[str, float]:
    """The mean of each score over draws that no check uses."""
    drawn = [found(law, np.random.default_rng([707, i])) for i in range(draws)]
    return {key: float(np.mean([d[key][0] for d in drawn])) for key in drawn[0]}


def _covered(
    found: Callable[[Any, np.random.Generator], Found],
    law: Any,
    rng: np.random.Generator,
    *,
    expected_from: int = EXPECTED_FROM,
) -> dict[str, Claim]:
    truth = _expected(found, law, expected_from)
    return {k: _claim(low, high, truth[k]) for k, (_, low, high) in found(law, rng).items()}


def _claim(low: float, high: float, truth: float) -> Claim:
    return Claim(COVERED if low <= truth <= high else MISSED)


def _told_apart(law: Law, rng: np.random.Generator) -> dict[str, Claim]:
    found = discriminator_scores(_draw(law, rng), rng)
    return {score.key: _claim(*_ends(score)[1:], 0.5) for score in found}


def known_lob_bench() -> list[KnownAnswer]:
    """Intervals of distances and responses, of discriminators that have nothing to find, and of predictions."""
    larger, own = "generated sizes 1.5 times the real ones", "days of generated sequences have levels of their own"
    out = [
        _entry(f"interval.{name}", about, law, DISTANCES, partial(_covered, _distances, law))
        for name, about, law in (
            ("same", "one law", Law()),
            ("sizes", larger, Law(factor=1.5)),
            ("trend", "the generated mid moves up three times of four", Law(up=0.75)),
            ("days.same", "one law, sequences of a day depend on each other", Law(days=DAYS)),
            ("days.sizes", f"{larger}, sequences of a day depend on each other", Law(1.5, days=DAYS)),
            ("days.own-level", f"{larger}, {own}", Law(1.5, days=DAYS, own_level=True)),
        )
    ]
    out += [
        _entry(name, f"{about}: the AUC is .5", law, TOLD, partial(_told_apart, law))
        for name, about, law in (
            ("exchangeable", "one law", Law()),
            ("exchangeable.days", "one law, sequences of a day depend on each other", Law(days=DAYS)),
            ("exchangeable.own-level", f"one law, {own}", Law(days=DAYS, own_level=True)),
        )
    ]
    few, many = Signal(days=DAYS, sequences=OF_DAY), Signal(days=40, sequences=2)
    same, untaught = "both sides follow the hidden state alike", "only real moves follow the hidden state"
    out += [
        _entry(f"prediction.{name}", about, law, (*PREDICTED, GAP), partial(_covered, _predictions, law))
        for name, about, law in (
            ("same", same, Signal()),
            ("weak", "generated moves follow the hidden state a third as much", Signal(made=STRENGTH / 3)),
            ("none", "no side follows a hidden state", Signal(0.0, 0.0)),
            ("untaught", untaught, Signal(made=0.0)),
            ("days.same", same, few),
            ("days.untaught", untaught, replace(few, made=0.0)),
            ("days.40.untaught", untaught, replace(many, made=0.0)),
        )
    ]
    return out


def _entry(
    name: str,
    about: str,
    law: Law | Signal,
    keys: Sequence[str],
    draw: Callable[[np.random.Generator], dict[str, Claim]],
) -> KnownAnswer:
    of_day = law.sequences if isinstance(law, Signal) else OF_DAY if law.days > 1 else PAIRS
    days = f"{law.days} days x " if law.days > 1 else ""
    size = f"{days}{of_day} + {of_day} sequences of {MESSAGES} messages"
    return KnownAnswer(name, about, size, law.days if days else of_day, dict.fromkeys(keys, COVERED), draw)
