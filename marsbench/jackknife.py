"""Joint uncertainty of many scores from the replicates in result files.

Scores of one generator come from the same windows and depend on each other, and so do those of two
generators that were started from the same states. Leaving out the same unit of inference everywhere
keeps that dependence: any function of scores, or of the scores of two generators, is computed again
without unit g, and the spread of those values gives its standard error (delete-one jackknife).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from marsbench.scores import Score

Floats = NDArray[np.float64]

LEVEL = 0.95


class UnpairedError(ValueError):
    """Replicates that are missing or left out other units; the message says which."""


@dataclass(frozen=True)
class Replicated:
    """A value and its replicates, by what was left out."""

    value: float
    without: Mapping[str, Floats]
    """Units that were left out -> ``[G]``."""

    @property
    def error(self) -> float:
        """Standard error; NaN where fewer than half of the replicates exist.

        Of replicates by several kinds of units (days here, blocks of messages there) it is the sum of
        their standard errors, the largest that it can be however they depend on each other.
        """
        return sum(map(_error, self.without.values()))

    @property
    def units(self) -> int:
        """Units of inference, the fewest of all kinds."""
        return min((int(np.isfinite(x).sum()) for x in self.without.values()), default=0)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student t interval at ``LEVEL``; None where there is no standard error."""
        if self.units < 2 or not np.isfinite(self.error):
            return None
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.units - 1)) * self.error
        return self.value - half, self.value + half

    @property
    def p(self) -> float | None:
        """Two-sided p of the value being 0, Student t; None where there is no spread to judge it by."""
        if self.units < 2 or not np.isfinite(self.error):
            return None
        if self.error == 0:
            return 1.0 if self.value == 0 else None
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.units - 1))


def _error(without: Floats) -> float:
    known = without[np.isfinite(without)]
    n = len(known)
    if n < max(2, len(without) // 2):
        return float("nan")
    return float(np.sqrt((n - 1) / n * ((known - known.mean()) ** 2).sum()))


def estimate(score: Score, *, normalised: bool, given_scale: bool = False) -> Replicated:
    """The value of a score, raw or normalised, with its replicates.

    ``given_scale`` takes floor and ceiling as they are. That is right for differences between generators,
    who share them: under no difference their noise cancels, and else it would only blunt the test. An interval
    of one generator needs it.

    Raises
    ------
    UnpairedError
        If the result file holds none.
    """
    value = score.normalised if normalised else score.value
    found = score.normalised_replicates if normalised else score.replicates
    if value is None or not found or score.replicate_units is None:
        raise UnpairedError(f"the result file holds no replicates of {score.key}; `marsbench score` writes them")
    if normalised and given_scale:
        if score.floor is None or score.ceiling is None or not score.replicates:
            raise UnpairedError(f"{score.key} has no floor and ceiling, or no replicates, to be normalised by")
        raw = np.array([np.nan if x is None else x for x in score.replicates], np.float64)
        return Replicated(value, {score.replicate_units: (raw - score.floor) / (score.ceiling - score.floor)})
    replicates = np.array([np.nan if x is None else x for x in found], np.float64)
    return Replicated(value, {score.replicate_units: replicates})


def combine(function: Callable[[Sequence[float]], float], parts: Sequence[Replicated]) -> Replicated:
    """A function of several estimates; unit by unit, what was not computed without it stays as it is."""
    lengths: dict[str, int] = {}
    for part in parts:
        for units, x in part.without.items():
            if lengths.setdefault(units, len(x)) != len(x):
                raise UnpairedError(f"{units}: {lengths[units]} replicates here and {len(x)} there cannot be paired")
    without = {}
    for units, length in lengths.items():
        rows = np.stack([part.without.get(units, np.full(length, part.value)) for part in parts], axis=1)
        without[units] = np.array([function(row) if np.isfinite(row).all() else np.nan for row in rows.tolist()])
    return Replicated(function([part.value for part in parts]), without)


def difference(a: Replicated, b: Replicated) -> Replicated:
    """a - b, paired by unit.

    Raises
    ------
    UnpairedError
        If their replicates leave out different units.
    """
    if set(a.without) != set(b.without):
        left, right = (", ".join(sorted(e.without)) for e in (a, b))
        raise UnpairedError(f"replicates leave out {left} here and {right} there: differences cannot be paired")
    return combine(lambda values: values[0] - values[1], [a, b])
