"""Verdicts on whether two sources have the same number: same, different or inconclusive.

SAME
    The difference lies within the property's margin: two one-sided tests (TOST), so likeness is shown, not merely
    not refuted.
DIFFERENT
    The difference is not zero, by a two-sided test after Holm's correction over the properties that are judged
    together, and likeness is not shown.
INCONCLUSIVE
    Everything else.

Differences are paired: both sources start from the same states, whose clusters are left out together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from marsbench.stats.verdicts import ALPHA, INCONCLUSIVE, Estimate, Property, holm

SAME, DIFFERENT = "same", "different"


@dataclass(frozen=True)
class Likeness:
    """One property of two sources compared."""

    verdict: str
    p: float | None
    """Two-sided, of no difference, before Holm's correction; None where nothing could be tested."""
    p_holm: float | None
    p_same: float | None
    """Of a difference that reaches the margin."""
    difference: float
    low: float
    high: float
    margin: float
    reason: str | None = None
    """Why it is inconclusive."""


def alike(properties: Sequence[Property], differences: Mapping[str, Estimate], *, minutes: int) -> dict[str, Likeness]:
    """The likeness of each property by key.

    Parameters
    ----------
    differences
        Paired differences by the key of their row; those of the rows that lead are looked at.
    minutes
        Length of the windows behind them: a row that needs longer ones is not compared.
    """
    tests = [_test(prop, differences, minutes) for prop in properties]
    adjusted = holm([different for different, _, _ in tests])
    out = {}
    for prop, (different, same, why), p_holm in zip(properties, tests, adjusted, strict=True):
        found = differences.get(prop.leads)
        value, low, high = found.summary() if found is not None else (np.nan, np.nan, np.nan)
        if why is not None:
            out[prop.key] = Likeness(INCONCLUSIVE, None, None, None, value, low, high, prop.margin, why)
            continue
        word = SAME if same < ALPHA else DIFFERENT if p_holm < ALPHA else INCONCLUSIVE
        open_ = "neither a difference nor likeness within the margin is shown: too few days"
        out[prop.key] = Likeness(
            word, different, p_holm, same, value, low, high, prop.margin, open_ if word == INCONCLUSIVE else None
        )
    return out


def _test(prop: Property, differences: Mapping[str, Estimate], minutes: int) -> tuple[float, float, str | None]:
    """p of no difference, p of a difference that reaches the margin, and why neither can be tested."""
    row = next(row for row in prop.rows if row.key == prop.leads)
    if row.least_minutes > minutes:
        return 1.0, 1.0, f"windows of {minutes} minutes do not carry it: it needs {row.least_minutes}"
    found = differences.get(prop.leads)
    if found is None or not np.isfinite(found.value + found.error).all():
        return 1.0, 1.0, "a number or its interval is missing: too few days, or no variation"
    value, error, dof = (np.atleast_1d(x) for x in (found.value, found.error, found.dof))
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.where(error > 0, np.abs(value) / error, np.where(value == 0, 0.0, np.inf))
    p = np.asarray(2 * stats.t.sf(apart, dof))
    different = min(1.0, float(p.min()) * len(value))  # Bonferroni over several numbers
    identical = bool((error == 0).all() and (np.abs(value) < prop.margin).all())
    same = 0.0 if identical else float(found.p_outside(((-prop.margin, prop.margin),)).max())
    return different, same, None
