"""Verdicts on properties of data: present, absent or inconclusive, by tests whose error rates are measured.

A property is a set of numbers (rows), each with a region that it lies in where the property is present and
one where it is absent; between the two regions, and on their edges, nothing is claimed.

PRESENT
    Every row lies in its present region: an intersection-union test, p is the largest of the rows' p. The p
    of a row tests that the number lies outside the region; Holm's correction over the properties that are
    judged together leaves it below .05, and every row's 95% interval lies inside.
ABSENT
    One row that the property needs lies in its absent region, Bonferroni over the rows. Where the region is
    a band around zero that is two one-sided tests (TOST), so absence is shown, not merely not refuted.
INCONCLUSIVE
    Everything else: too little data, or a number near an edge.

Intervals and p are Student's t over delete-group jackknife pseudo-values of clusters. How often a verdict is
wrong on processes whose answer is known is what ``marsbench check`` measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from marsbench.stats.intervals import Statistic, deletion_weights, jackknife_error

Floats = NDArray[np.float64]
Region = tuple[tuple[float, float], ...]
"""A union of intervals."""

PRESENT, ABSENT, INCONCLUSIVE = "present", "absent", "inconclusive"
HOLDS, FAILS = "holds", "fails"
LEVEL = 0.95
ALPHA = 0.05
"""Of one-sided tests."""

PAPER, STRICT = "paper", "strict"
"""Forms of a property: as the paper has it, and the stricter one that its traps do not pass."""


@dataclass(frozen=True)
class Estimate:
    """A number (or several that share a criterion) with its standard error; NaN where there is none."""

    value: Floats
    error: Floats
    """Jackknife standard error over clusters."""
    dof: Floats
    """Degrees of freedom of Student's t."""
    method: str | None
    """How the error was made; None where there is none."""

    @property
    def low(self) -> Floats:
        """Lower end of the 95% interval."""
        return np.asarray(self.value - self._half)

    @property
    def high(self) -> Floats:
        """Upper end of the 95% interval."""
        return np.asarray(self.value + self._half)

    @property
    def _half(self) -> Floats:
        return np.asarray(stats.t.ppf((1 + LEVEL) / 2, np.maximum(self.dof, 1)) * self.error)

    def p_outside(self, region: Region) -> Floats:
        """p of each number lying outside a region: small where the data put it inside. 1 where there is no error."""
        value, error, dof = (np.atleast_1d(x) for x in (self.value, self.error, self.dof))
        found = np.ones(value.shape)
        for low, high in region:
            with np.errstate(invalid="ignore", divide="ignore"):
                below = stats.t.sf((value - low) / error, np.maximum(dof, 1)) if np.isfinite(low) else 0.0 * value
                above = stats.t.cdf((value - high) / error, np.maximum(dof, 1)) if np.isfinite(high) else 0.0 * value
            here = np.maximum(below, above) * len(region)
            found = np.minimum(found, np.where(np.isfinite(value + error) & (error > 0), here, 1.0))
        return found

    def verdict(self, region: Region) -> str:
        """Where its interval lies (``interval_verdict``)."""
        return interval_verdict(self.low, self.high, region)

    def summary(self) -> tuple[float, float, float]:
        """Value, low and high; of several numbers the value largest in size, and the hull of the intervals."""
        value = np.atleast_1d(self.value)
        worst = value[np.nanargmax(np.abs(value))] if np.isfinite(value).any() else np.nan
        return float(worst), float(np.min(self.low)), float(np.max(self.high))


def interval_verdict(low: Floats, high: Floats, region: Region) -> str:
    """``HOLDS`` where the whole interval lies inside a region, ``FAILS`` where outside, else ``INCONCLUSIVE``.

    All of several intervals must hold, and one that fails decides.
    """
    low, high = np.atleast_1d(low), np.atleast_1d(high)
    if not np.isfinite(low + high).all():
        return INCONCLUSIVE
    if np.any([(low > a) & (high < b) for a, b in region], axis=0).all():
        return HOLDS
    outside = np.all([(high <= a) | (low >= b) for a, b in region], axis=0)
    return FAILS if outside.any() else INCONCLUSIVE


def jackknife(statistic: Statistic, clusters: int, *, what: str = "clusters") -> Estimate:
    """``statistic`` of all clusters with its delete-group jackknife error; fewer than 2 clusters have none."""
    full = np.asarray(statistic(np.ones((1, clusters)))[0]) if clusters else np.asarray(np.nan)
    missing = np.full(full.shape, np.nan)
    if clusters < 2:
        return Estimate(full, missing, missing, None)
    deleted = np.asarray(statistic(deletion_weights(clusters, np.random.default_rng(0))))
    error, dof = jackknife_error(full, deleted)
    method = f"delete-group jackknife t interval, {len(deleted)} groups of {clusters} {what}"
    return Estimate(full, error, dof, method)


@dataclass(frozen=True)
class Row:
    """One number behind a property."""

    key: str
    label: str
    curve: str
    """Name of the pool it is taken from; two, joined by " - ", are a difference."""
    statistic: Callable[[Floats], Floats]
    present: Region | None = None
    """Where it lies if the property is present; None for a number that is only printed."""
    absent: Region | None = None
    """Where it lies if the property is absent; None if it cannot show absence."""
    forms: tuple[str, ...] = ()
    """The forms of the property that it decides."""
    least_minutes: int = 0
    """Shorter windows do not carry it: there it does not decide."""


@dataclass(frozen=True)
class Property:
    """What is judged as a whole."""

    number: int
    key: str
    title: str
    criterion: str
    """The strict form in words."""
    rows: tuple[Row, ...]
    leads: str
    """Key of the row that is its effect size."""
    margin: float
    """Two sources are alike where that number differs by less."""
    expected_absent: bool = False


@dataclass(frozen=True)
class Verdict:
    """One property judged in one form."""

    verdict: str
    p: float | None
    """Of presence, before Holm's correction; None where nothing could be tested."""
    p_holm: float | None
    p_absent: float | None
    value: float
    low: float
    high: float
    """Effect size and its 95% interval: those of the row that leads."""
    leads: str
    """Key of that row: the property's, or the first that decides in this form."""
    reason: str | None = None
    """Why it is inconclusive."""


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the given order."""
    order = np.argsort(p, kind="stable")
    out, running = np.empty(len(p)), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        out[i] = running
    return [float(x) for x in out]


def judge(
    properties: Sequence[Property], found: Mapping[str, Estimate], *, minutes: int, form: str = STRICT
) -> dict[str, Verdict]:
    """The verdict on each property by key, Holm-corrected over all of them.

    Parameters
    ----------
    found
        Estimates by the key of their row.
    minutes
        Length of the windows behind them.
    """
    tests = [_test(prop, found, minutes, form) for prop in properties]
    adjusted = holm([present for present, _, _ in tests])
    out = {}
    for prop, (present, absent, why), p_holm in zip(properties, tests, adjusted, strict=True):
        rows = _deciding(prop, found, minutes, form)
        leads = prop.leads if not rows or prop.leads in {row.key for row in rows} else rows[0].key
        value, low, high = found[leads].summary() if leads in found else (np.nan, np.nan, np.nan)
        inside = bool(rows) and all(found[row.key].verdict(row.present or ()) == HOLDS for row in rows)
        if p_holm < ALPHA and inside:
            word, why = PRESENT, None
        elif absent < ALPHA:
            word, why = ABSENT, None
        else:
            word = INCONCLUSIVE
            why = why or "the interval reaches over an edge of the criterion: too few days, or a number near the edge"
        tested = why is None or bool(rows)
        out[prop.key] = Verdict(
            word, present if tested else None, p_holm if tested else None, absent if tested else None,
            value, low, high, leads, why,
        )  # fmt: skip
    return out


def _deciding(prop: Property, found: Mapping[str, Estimate], minutes: int, form: str) -> list[Row]:
    return [r for r in prop.rows if form in r.forms and r.least_minutes <= minutes and r.key in found]


def _test(prop: Property, found: Mapping[str, Estimate], minutes: int, form: str) -> tuple[float, float, str | None]:
    """p of presence, p of absence, and why neither can be tested."""
    rows = _deciding(prop, found, minutes, form)
    if not rows:
        need = min((r.least_minutes for r in prop.rows if form in r.forms), default=0)
        return 1.0, 1.0, f"windows of {minutes} minutes do not carry it: it needs {need}"
    present = max(float(found[r.key].p_outside(r.present or ()).max()) for r in rows)
    against = [found[r.key].p_outside(r.absent) for r in rows if r.absent is not None]
    tests = sum(len(p) for p in against)
    absent = min((float(p.min()) * tests for p in against), default=1.0)
    if not all(np.isfinite(found[r.key].error).all() for r in rows):
        return present, min(absent, 1.0), "a number or its interval is missing: too few days, or no variation"
    return present, min(absent, 1.0), None
