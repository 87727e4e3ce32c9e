"""Processes whose stylized facts are known, alone and in pairs, and how the verdicts judge a draw of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from marsbench.known_answers import NOT_PRESENT, Claim, KnownAnswer, claims, likeness_claims
from marsbench.stats import oracles
from marsbench.stats.fact_pools import FactPools
from marsbench.stats.likeness import DIFFERENT, SAME, alike
from marsbench.stats.session_facts import FACTS, estimate, wanted
from marsbench.stats.verdicts import ABSENT, PRESENT, STRICT, judge
from marsbench.stats.windows import Windows

Floats = NDArray[np.float64]
Process = Callable[[tuple[int, int], np.random.Generator], Floats | tuple[Floats, Floats]]
"""Returns ``[series, minutes]``, or returns and volume."""

INSTRUMENTS, DAY = 5, 240
KEYS = {fact.number: fact.key for fact in FACTS}


@dataclass(frozen=True)
class Shape:
    """How much data a draw is."""

    name: str
    words: str
    days: int
    """Of every instrument."""
    minutes: int
    """Length of a window, one a day."""


SESSIONS = Shape("sessions", "40 sessions of 240 minutes, 5 instruments", 8, 240)
"""What the task ``sessions`` hands over by default."""
WINDOWS = Shape("windows", "65 windows of 25 minutes, 5 instruments", 13, 25)
"""What the task ``realism`` hands over by default, nearly."""


def _places(shape: Shape, rng: np.random.Generator) -> NDArray[np.int64]:
    """Where in its day each window lies: anywhere, as the starts of rollouts do."""
    return rng.integers(0, DAY - shape.minutes + 1, INSTRUMENTS * shape.days)


def _drawn(process: Process, shape: Shape, first: NDArray[np.int64], rng: np.random.Generator) -> Windows:
    """One draw, each instrument one long series cut into windows."""
    made = process((INSTRUMENTS, shape.days * DAY), rng)
    returns, volume = made if isinstance(made, tuple) else (made, rng.poisson(50, made.shape).astype(float))
    r, v = (_cut(x, first, shape.minutes) for x in (returns, volume))
    prices = 100 * np.exp(np.concatenate([np.zeros((len(r), 1)), np.cumsum(1e-4 * r, axis=1)], axis=1))
    return Windows.from_prices(
        prices,
        volume=v,
        instrument=np.repeat(np.arange(INSTRUMENTS), shape.days),
        day=np.tile(np.arange(shape.days), INSTRUMENTS),
        minute=first,
    )


def _judged(process: Process, shape: Shape, numbers: tuple[int, ...], rng: np.random.Generator) -> dict[str, Claim]:
    """The strict verdicts on one draw."""
    windows = _drawn(process, shape, _places(shape, rng), rng)
    facts = tuple(f for f in FACTS if f.number in numbers)
    pools = FactPools(windows)
    rows = tuple(row for fact in facts for row in fact.rows if STRICT in row.forms)
    found = {row.key: estimate(pools, row) for row in wanted(pools, rows)}
    return claims(judge(facts, found, minutes=shape.minutes))


def _compared(
    a: Process, b: Process, shape: Shape, numbers: tuple[int, ...], rng: np.random.Generator
) -> dict[str, Claim]:
    """Whether a draw of b is as one of a, in the same windows of the day."""
    first = _places(shape, rng)
    pools = [FactPools(_drawn(process, shape, first, rng)) for process in (a, b)]
    facts = tuple(f for f in FACTS if f.number in numbers)
    leads = {f.leads for f in facts}
    rows = tuple(row for fact in facts for row in fact.rows if row.key in leads)
    differences = {row.key: estimate(pools[1], row, pools[0]) for row in wanted(pools[1], rows)}
    return likeness_claims(alike(facts, differences, minutes=shape.minutes))


def _cut(series: Floats, first: NDArray[np.int64], minutes: int) -> Floats:
    days = series.reshape(-1, DAY)
    return np.take_along_axis(days, first[:, None] + np.arange(minutes), axis=1)


def _gaussian(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    return rng.standard_normal(shape)


def _u_shaped(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    return np.asarray(rng.standard_normal(shape) * np.tile(oracles.u_shape(DAY), shape[1] // DAY))


def _roll(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    return np.diff(oracles.roll_prices((shape[0], shape[1] + 1), rng, sigma=1.0, half_spread=0.5))


def _working(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    return np.diff(oracles.working_means((shape[0], shape[1] + 1), rng))


def _blocks(shape: tuple[int, int], rng: np.random.Generator, *, minutes: int) -> Floats:
    """Volatility constant in so many minutes, blocks beginning anew every day."""
    return oracles.block_volatility((shape[0] * shape[1] // DAY, DAY), rng, block=minutes).reshape(shape)


def _listed(shape: Shape) -> list[tuple[str, str, Process, Mapping[int, str]]]:
    """Processes with the facts whose truth is known.

    Of volatility that is constant in blocks, 2 and 6 are asked because pooling makes them where there are none. 4, 5
    and 8 are not: they have no form within a block. Its extremes do come in clusters by the hour (a Fano factor of 3.4
    against the criterion's 1.2), so that present would be no error of pooling; its kurtosis falls from 5.5 at one
    minute to 4.1 at twenty, for the length of the blocks; and |r| decays linearly: no power, no exponential.
    """
    nothing = {2: ABSENT, 3: ABSENT, 4: ABSENT, 5: ABSENT, 6: ABSENT, 7: ABSENT, 8: NOT_PRESENT, 9: ABSENT,
               10: ABSENT, 11: NOT_PRESENT}  # fmt: skip
    return [
        ("gaussian", "independent Gaussian", _gaussian, {1: PRESENT, **nothing}),
        ("u-shaped", "Gaussian, deviation three times higher at both ends of the session",
         _u_shaped, {1: PRESENT, **nothing}),
        ("student", "independent Student t, 5 degrees of freedom", partial(oracles.student, dof=5.0),
         {1: PRESENT, 2: PRESENT, 3: ABSENT, 4: PRESENT, 5: ABSENT, 6: ABSENT, 7: NOT_PRESENT, 9: ABSENT}),
        ("block-volatility", "Gaussian, volatility constant within windows, exp(Z / 2) between them",
         partial(_blocks, minutes=25 if shape is SESSIONS else DAY),
         {1: PRESENT, 2: ABSENT, 3: ABSENT, 6: ABSENT, 9: ABSENT}),
        ("garch", "GARCH(1,1), .08, .90, Gaussian", oracles.garch,
         {1: PRESENT, 3: ABSENT, 5: PRESENT, 7: ABSENT, 8: NOT_PRESENT, 9: ABSENT, 11: NOT_PRESENT}),
        ("garch-fast", "GARCH(1,1), .30, .60, Gaussian", partial(oracles.garch, alpha=0.3, beta=0.6),
         {6: PRESENT, 8: NOT_PRESENT, 11: NOT_PRESENT}),
        ("garch-student", "GARCH(1,1), .08, .90, Student t of 5 degrees of freedom", partial(oracles.garch, dof=5.0),
         {2: PRESENT, 7: PRESENT}),
        ("gjr", "GJR-GARCH, .02, .10, .91", partial(oracles.garch, alpha=0.02, gamma=0.1, beta=0.91), {9: PRESENT}),
        ("gjr-strong", "GJR-GARCH, .01, .16, .89", partial(oracles.garch, alpha=0.01, gamma=0.16, beta=0.89),
         {9: PRESENT}),
        ("harch", "HARCH, 1, 5, 20 and 60 minutes, .15 each", oracles.harch, {11: PRESENT, 9: ABSENT}),
        ("roll", "random walk seen through a bid-ask bounce: rho(1) = -1/6", _roll, {1: PRESENT}),
        ("working", "minute means of a random walk: rho(1) = +1/4", _working, {1: PRESENT}),
        ("autoregressive", "AR(1), .4: rho(2) = .16", partial(oracles.autoregressive, phi=0.4), {1: ABSENT}),
        ("skewed", "minus a gamma variable: skewness -1", oracles.skewed, {3: PRESENT, 6: ABSENT}),
        ("hawkes", "minutes with an event of a Hawkes process (branching .7) six times larger",
         oracles.clustered_extremes, {5: PRESENT}),
        ("long-memory", "log volatility with autocorrelation (1 + k)^-.3", oracles.long_memory,
         {5: PRESENT, 6: PRESENT, 8: PRESENT, 9: ABSENT, 11: NOT_PRESENT}),
        ("mixture", "volume Poisson(50 G), returns sqrt(G) Z, G persistent", oracles.mixture, {10: PRESENT}),
    ]  # fmt: skip


def _pairs() -> list[tuple[str, str, Process, Process, Mapping[int, str]]]:
    fast: Process = partial(oracles.garch, alpha=0.3, beta=0.6)
    tailed: Process = partial(oracles.garch, dof=5.0)
    return [
        ("alike-gaussian", "two draws of independent Gaussian returns", _gaussian, _gaussian,
         dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 9, 10, 11), SAME)),
        ("alike-garch", "two draws of GARCH(1,1), .08, .90, Student t of 5 degrees of freedom", tailed, tailed,
         dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), SAME)),
        ("unlike-garch", "GARCH(1,1), .30, .60, against independent Gaussian returns", _gaussian, fast,
         {5: DIFFERENT, 6: DIFFERENT}),  # of fact 2 the difference within windows is that of the margin
        ("unlike-student", "independent Student t, 5 degrees of freedom, against Gaussian returns", _gaussian,
         partial(oracles.student, dof=5.0), {2: DIFFERENT}),
        ("unlike-gjr", "GJR-GARCH, .01, .16, .89, against GARCH", oracles.garch,
         partial(oracles.garch, alpha=0.01, gamma=0.16, beta=0.89), {9: DIFFERENT}),
        ("unlike-skew", "minus a gamma variable against Gaussian returns", _gaussian, oracles.skewed, {3: DIFFERENT}),
        ("unlike-volume", "volume that goes with volatility against volume that does not", _gaussian, oracles.mixture,
         {10: DIFFERENT}),
        ("unlike-autoregressive", "AR(1), .4, against independent returns", _gaussian,
         partial(oracles.autoregressive, phi=0.4), {1: DIFFERENT}),
    ]  # fmt: skip


def known_facts() -> list[KnownAnswer]:
    """Every process at the sizes of both tasks; 25-minute windows are not asked what they cannot carry."""
    out = []
    for shape in (SESSIONS, WINDOWS):
        listed: list[tuple[str, str, Callable[..., dict[str, Claim]], Mapping[int, str]]] = [
            *((name, about, partial(_judged, process), truth) for name, about, process, truth in _listed(shape)),
            *((name, about, partial(_compared, a, b), truth) for name, about, a, b, truth in _pairs()),
        ]
        for name, about, judged, truth in listed:
            asked = {n: word for n, word in truth.items() if shape is SESSIONS or n not in (4, 5, 7, 8)}
            if not asked:
                continue
            out.append(
                KnownAnswer(
                    f"{name}.{shape.name}",
                    about,
                    shape.words,
                    shape.days * INSTRUMENTS,
                    {KEYS[n]: word for n, word in asked.items()},
                    partial(judged, shape, tuple(asked)),
                )
            )
    return out
