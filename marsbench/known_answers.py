"""Known answers: processes whose truth is known, and how often a verdict or an interval is right about them.

A metric lists its ``KnownAnswer`` processes; ``marsbench check`` draws each many times. A claim that
contradicts the truth is an error. By the rule of this project a verdict may be trusted if the upper end of the
one-sided 95% Clopper-Pearson interval of its error rate is at most ``MOST_ERRORS`` in at least ``SEEDS`` draws:
an exact 5% test passes that, and one of 7% does not. Claims are counted before Holm's correction, which only
makes them rarer; how often at least one property is falsely called present after it, the family-wise error
rate, is a row of its own for every process with several of them.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from marsbench import progress
from marsbench.parallel import in_processes
from marsbench.stats.likeness import DIFFERENT, SAME, Likeness
from marsbench.stats.verdicts import ABSENT, ALPHA, INCONCLUSIVE, PRESENT, Verdict

SEEDS = 1000
MOST_ERRORS = 0.08
COVERAGE = (0.92, 0.98)
"""Where the measured coverage of a nominal 95% interval has to lie."""
ENOUGH_POWER = 0.9
FAMILY = "any of them, after Holm"
"""The row of a process that counts draws with any false presence."""

NOT_PRESENT = "not present"
"""The truth of a property that the process does not have, but that no margin tells apart from having it."""
COVERED, MISSED = "covered", "missed"
"""Claims of an interval about a number that is known."""


@dataclass(frozen=True)
class Claim:
    """What one draw said about one property."""

    word: str
    distance: float = math.nan
    """Standard errors by which the decisive number clears the criterion (negative: on the other side)."""
    margin: float = math.nan
    """Of a test of likeness: the margin in standard errors of the difference."""
    adjusted: str = ""
    """The word after the correction for several properties; empty where there is none."""


@dataclass(frozen=True)
class KnownAnswer:
    """A process, what is true of it, and how a metric judges one draw of it."""

    process: str
    about: str
    """The process in words, with its parameters."""
    size: str
    """How much data a draw is, in words."""
    units: int
    """How many independent units (days, windows) that is: what more data would multiply."""
    truth: Mapping[str, str]
    """Property -> ``PRESENT``, ``ABSENT``, ``NOT_PRESENT``; ``SAME`` or ``DIFFERENT`` of two sources;
    ``COVERED`` for an interval."""
    draw: Callable[[np.random.Generator], Mapping[str, Claim]]
    """Judge one fresh draw; must be picklable. Keys as in ``truth``; others are left out."""


@dataclass(frozen=True)
class Rates:
    """How one property fared on one process."""

    process: str
    about: str
    size: str
    property: str
    truth: str
    seeds: int
    right: float
    """Share of draws that claim the truth: the power (of an interval: its coverage)."""
    wrong: float
    """Share that claim the contrary: the type-I error."""
    wrong_high: float
    """Upper end of its one-sided 95% interval."""
    open: float
    """Share that claim nothing."""
    trusted: bool
    """Whether the error rate is low enough."""
    units: int
    units_needed: int | None
    """For 90% power, by the root law of the standard error; None where the power suffices, or where the truth lies so
    near the criterion that draws clear and miss it alike."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def claims(verdicts: Mapping[str, Verdict]) -> dict[str, Claim]:
    """What verdicts claim before Holm's correction: a one-sided test at 5% in either direction."""
    out = {}
    for key, v in verdicts.items():
        if v.p is None or v.p_absent is None:
            out[key] = Claim(INCONCLUSIVE, adjusted=v.verdict)
            continue
        present, absent = (float(stats.norm.isf(min(max(p, 1e-300), 1 - 1e-16))) for p in (v.p, v.p_absent))
        word = PRESENT if v.p < ALPHA else ABSENT if v.p_absent < ALPHA else INCONCLUSIVE
        out[key] = Claim(word, present if present >= absent else -absent, adjusted=v.verdict)
    return out


def likeness_claims(found: Mapping[str, Likeness]) -> dict[str, Claim]:
    """What likeness claims before Holm's correction: a test at 5% of no difference, and one of the margin."""
    out = {}
    for key, v in found.items():
        if v.p is None or v.p_same is None:
            out[key] = Claim(INCONCLUSIVE)
            continue
        different, same = (float(stats.norm.isf(min(max(p, 1e-300), 1 - 1e-16))) for p in (v.p, v.p_same))
        word = SAME if v.p_same < ALPHA else DIFFERENT if v.p < ALPHA else INCONCLUSIVE
        margin = same + float(stats.norm.isf(min(max(v.p / 2, 1e-300), 0.5)))
        out[key] = Claim(word, same if same >= different else -different, margin)
    return out


def measure(known: Sequence[KnownAnswer], seeds: int = SEEDS, *, jobs: int = 1) -> list[Rates]:
    """Draw every process ``seeds`` times and count. The same seeds give the same counts, whatever ``jobs`` is.

    Raises
    ------
    ValueError
        For fewer than one seed, or a draw that says nothing about a property whose truth is known.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be 1 or more, got {seeds}")
    todo = [(k, block) for k in known for block in _blocks(seeds)]
    found = in_processes(jobs, _draws, todo)
    drawn: dict[str, list[dict[str, Claim]]] = {}
    for (k, _), part in zip(todo, progress.bar(found, total=len(todo), desc="drawing processes"), strict=True):
        drawn.setdefault(k.process, []).extend(part)
    rows = []
    for k in known:
        rows += [_rates(k, name, drawn[k.process]) for name in k.truth]
        rows += _family(k, drawn[k.process])
    return rows


def _family(known: KnownAnswer, draws: Sequence[Mapping[str, Claim]]) -> list[Rates]:
    """How often any property that is not there is called present, after the correction for their number."""
    without = [name for name, truth in known.truth.items() if truth in (ABSENT, NOT_PRESENT)]
    if len(without) < 2 or not all(d[name].adjusted for d in draws for name in without):
        return []
    falsely = [any(d[name].adjusted == PRESENT for name in without) for d in draws]
    judged = [{FAMILY: Claim(PRESENT if any_ else INCONCLUSIVE)} for any_ in falsely]
    return [_rates(replace(known, truth={FAMILY: NOT_PRESENT}), FAMILY, judged)]


def _blocks(seeds: int, size: int = 20) -> Iterable[range]:
    return (range(first, min(first + size, seeds)) for first in range(0, seeds, size))


def _draws(known: KnownAnswer, seeds: range) -> list[dict[str, Claim]]:
    out = []
    for seed in seeds:
        rng = np.random.default_rng([zlib.crc32(known.process.encode()), seed])
        said = known.draw(rng)
        lacking = set(known.truth) - set(said)
        if lacking:
            raise ValueError(f"process {known.process!r}: nothing was said about {', '.join(sorted(lacking))}")
        out.append({name: said[name] for name in known.truth})
    return out


def _rates(known: KnownAnswer, name: str, draws: Sequence[Mapping[str, Claim]]) -> Rates:
    truth = known.truth[name]
    words = [d[name].word for d in draws]
    n = len(words)
    contrary = {
        PRESENT: ABSENT,
        ABSENT: PRESENT,
        NOT_PRESENT: PRESENT,
        SAME: DIFFERENT,
        DIFFERENT: SAME,
        COVERED: MISSED,
    }[truth]
    right, wrong = words.count(truth), words.count(contrary)
    high = float(stats.beta.ppf(0.95, wrong + 1, n - wrong)) if wrong < n else 1.0
    trusted = COVERAGE[0] <= right / n <= COVERAGE[1] if truth == COVERED else high <= MOST_ERRORS
    return Rates(
        known.process,
        known.about,
        known.size,
        name,
        truth,
        n,
        right / n,
        wrong / n,
        high,
        words.count(INCONCLUSIVE) / n,
        trusted,
        known.units,
        _needed(known, truth, right / n, [d[name] for d in draws]),
    )


def _needed(known: KnownAnswer, truth: str, power: float, draws: Sequence[Claim]) -> int | None:
    """Units for 90% power by the root law: standard errors shrink with the root of the number of units.

    What grows with it is the distance of the truth from the criterion; of two sources that are the same, the margin
    in standard errors, which two one-sided tests want twice their critical value for: the difference itself shrinks.
    """
    if truth not in (PRESENT, ABSENT, SAME, DIFFERENT) or power >= ENOUGH_POWER:
        return None
    critical = float(stats.norm.isf(ALPHA))
    if truth == SAME and (margins := [d.margin for d in draws if math.isfinite(d.margin)]):
        typical, wanted = float(np.median(margins)), critical + float(stats.norm.ppf((1 + ENOUGH_POWER) / 2))
    else:
        distances = [d.distance for d in draws if math.isfinite(d.distance)]
        typical = float(np.median(distances)) * (1 if truth in (PRESENT, SAME) else -1) if distances else 0.0
        wanted = critical + float(stats.norm.ppf(ENOUGH_POWER))
    return math.ceil(known.units * (wanted / typical) ** 2) if typical > 0.1 else None
