"""Pairs of samples whose overlap is known, and how the distribution similarity judges a draw of them.

One draw is as large as what ``realism`` hands over: 64 windows of 25 dependent minutes with 4 rollouts each, unless
it says another size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from marsbench.known_answers import COVERED, MISSED, Claim, KnownAnswer
from marsbench.stats import paired_oracles as oracles
from marsbench.stats.likeness import DIFFERENT, SAME
from marsbench.stats.verdicts import ALPHA, INCONCLUSIVE, PRESENT

from ._samples import Compared, compare
from ._scoring import Units
from ._told_apart import DISTINGUISHABLE, INDISTINGUISHABLE

Floats = NDArray[np.float64]
Pair = Callable[[tuple[Floats, Floats]], tuple[Floats, Floats]]
"""Turns replay and simulations of one law into a pair whose distance is known."""

MINUTES, BINS, SPLITS, PERMUTATIONS = 25, 50, 32, 199
LAW, TOLD_APART = "same law", "told apart"
EXPECTED_FROM = 300
"""Draws behind the expected value that an interval has to cover."""


@dataclass(frozen=True)
class Size:
    """How much data a draw is, and how dependent."""

    clusters: int = 64
    starts: int = 1
    """Starts of a cluster."""
    rollouts: int = 4
    phi: float = 0.8
    shared: bool = True
    """Whether a simulation starts from the state of its replay, as a session does; another day's does not."""

    @property
    def words(self) -> str:
        starts = f" of {self.starts} starts" if self.starts > 1 else ""
        return (
            f"{self.clusters} clusters{starts} x {MINUTES} minutes, {self.rollouts} rollout{'s' * (self.rollouts > 1)}"
        )


DEFAULT = Size()


def _drawn(pair: Pair, size: Size, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Replay ``[S, M]`` and simulations ``[S, R, M]``."""
    length = MINUTES * size.starts
    replay, simulated = pair(
        oracles.minutes(size.clusters, size.rollouts, length, rng, phi=size.phi, shared=size.shared)
    )
    simulated = np.moveaxis(simulated.reshape(size.clusters, size.rollouts, size.starts, MINUTES), 1, 2)
    return replay.reshape(-1, MINUTES), simulated.reshape(-1, size.rollouts, MINUTES)


def _compared(pair: Pair, size: Size, permutations: int, rng: np.random.Generator) -> Compared:
    replay, simulated = _drawn(pair, size, rng)
    cluster = np.repeat(np.arange(size.clusters), size.starts)
    units = Units(cluster, np.zeros(size.clusters, np.int64), "clusters")
    return compare(replay, simulated, cluster, units, rng, splits=SPLITS, bins=BINS, permutations=permutations)


def _judged(pair: Pair, size: Size, rng: np.random.Generator) -> dict[str, Claim]:
    """The verdict, and what its permutation test alone says."""
    found = _compared(pair, size, PERMUTATIONS, rng)
    word = {DISTINGUISHABLE: DIFFERENT, INDISTINGUISHABLE: SAME}.get(found.verdict[0], INCONCLUSIVE)
    apart = PRESENT if found.test.p <= ALPHA else INCONCLUSIVE
    # in standard errors of a normal test with this p: the exchange's own spread grows with the difference
    distance = float(stats.norm.isf(min(max(found.test.p, 1e-12), 1 - 1e-12)))
    return {LAW: Claim(word, -distance), TOLD_APART: Claim(apart, distance)}


def _values(found: Compared) -> dict[str, tuple[float, float, float]]:
    """Value and interval of each score."""
    out = {}
    for name, (value, interval) in (("full", found.full), ("w1", found.w1)):
        out[name] = (value, float(interval.low), float(interval.high))
    if found.halves is not None:
        of_halves = found.halves.value_interval
        out["halves"] = (found.halves.value, float(of_halves.low), float(of_halves.high))
    return out


@cache
def _expected(pair: Pair, size: Size) -> dict[str, float]:
    """What each score is on average at this size: its bias belongs to it, as the ceiling's does."""
    drawn = [_values(_compared(pair, size, 1, np.random.default_rng([606, i]))) for i in range(EXPECTED_FROM)]
    return {name: float(np.mean([d[name][0] for d in drawn])) for name in drawn[0]}


def _covered(pair: Pair, size: Size, rng: np.random.Generator) -> dict[str, Claim]:
    expected = _expected(pair, size)
    found = _values(_compared(pair, size, 1, rng))
    return {k: Claim(COVERED if low <= expected[k] <= high else MISSED) for k, (_, low, high) in found.items()}


def same(drawn: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Two samples of one normal law."""
    return drawn


def shifted(drawn: tuple[Floats, Floats], by: float) -> tuple[Floats, Floats]:
    """N(0, 1) and N(by, 1)."""
    return drawn[0], drawn[1] + by


def ticks(drawn: tuple[Floats, Floats], by: float = 0.0) -> tuple[Floats, Floats]:
    """Spreads of whole ticks, 1 to about 4, the simulation's wider by ``by`` before rounding."""
    replay, simulated = drawn
    return np.maximum(np.round(replay + 1), 1.0), np.maximum(np.round(simulated + 1 + by), 1.0)


def heavy(drawn: tuple[Floats, Floats], scale: float = 1.0) -> tuple[Floats, Floats]:
    """Student t of 2 degrees of freedom, the simulation's so many times as wide."""
    return oracles.student(drawn[0]), scale * oracles.student(drawn[1])


def _entry(
    name: str, about: str, size: Size, truth: Mapping[str, str], draw: Callable[..., Mapping[str, Claim]], pair: Pair
) -> KnownAnswer:
    return KnownAnswer(name, about, size.words, size.clusters, truth, partial(draw, pair, size))


def known_similarity() -> list[KnownAnswer]:
    """Laws that are equal, near, and far apart; under dependence; and intervals."""
    within = "AR(.8) minutes and a level shared with the start (a fifth of the variance)"
    one, few, day = Size(rollouts=1), Size(clusters=40, starts=2), Size(clusters=9, rollouts=16)
    strong, other = Size(phi=0.98), Size(shared=False)
    out = [
        _entry(f"same.{name}", f"one law, {about}", size, {LAW: SAME}, _judged, pair)
        for name, about, size, pair in (
            ("normal", f"normal, {within}", DEFAULT, same),
            ("one-rollout", f"normal, {within}", one, same),
            ("two-starts", f"normal, {within}, starts of a day dependent", few, same),
            ("other-day", "normal, AR(.8), simulations on levels of their own", other, same),
            ("strong", "normal, AR(.98): minutes of a window nearly alike", strong, same),
            ("ticks", f"rounded to whole ticks, {within}", DEFAULT, ticks),
            ("heavy", f"Student t of 2 degrees of freedom, {within}", DEFAULT, heavy),
            ("one-day", f"normal, {within}: blocks of a single day", day, same),
        )
    ]
    for shift in (0.1, 0.25):
        about = f"N(0, 1) and N({shift:g}, 1), overlap {oracles.normal_overlap(shift):.3f}, {within}"
        out.append(
            _entry(f"near.{shift:g}", about, DEFAULT, {TOLD_APART: PRESENT}, _judged, partial(shifted, by=shift))
        )
    for name, size, shift in (
        ("0.5", DEFAULT, 0.5), ("1", DEFAULT, 1.0), ("0.5-one-rollout", one, 0.5), ("0.5-two-starts", few, 0.5),
        ("0.5-other-day", other, 0.5), ("0.5-strong", strong, 0.5), ("0.5-one-day", day, 0.5),
    ):  # fmt: skip
        about = f"N(0, 1) and N({shift:g}, 1), overlap {oracles.normal_overlap(shift):.3f}, otherwise as `same`"
        out.append(_entry(f"far.{name}", about, size, {LAW: DIFFERENT}, _judged, partial(shifted, by=shift)))
    out.append(_entry("near.heavy", f"t2 and 1.5 t2, overlap .845, {within}", DEFAULT, {TOLD_APART: PRESENT}, _judged,
                      partial(heavy, scale=1.5)))  # fmt: skip
    out.append(_entry("near.ticks", f"whole ticks, .4 wider before rounding, {within}", DEFAULT,
                      {TOLD_APART: PRESENT}, _judged, partial(ticks, by=0.4)))  # fmt: skip
    covered = dict.fromkeys(("full", "w1", "halves"), COVERED)
    for name, size, shift in (("64", DEFAULT, 0.5), ("40", few, 0.5), ("same", DEFAULT, 0.0), ("one-day", day, 0.5)):
        about = f"intervals of the overlap and of W1, N(0, 1) and N({shift:g}, 1), {within}"
        out.append(_entry(f"interval.{name}", about, size, covered, _covered, partial(shifted, by=shift)))
    return out
