"""Is the fit any good? It is repeated without the end of training, which judges it and chooses the penalty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kstest

from marsbench.stats.hawkes import Hawkes, Record, Season, intensities, log_likelihood, residuals
from marsbench.stats.hawkes_fit import held_out, poisson

from .events import CLASSES, MIRROR, TYPES, Class, Tape, Track
from .factors import Factors

Floats = NDArray[np.float64]

HELD_OUT = 0.2
"""Of the events, held out at the end, where the last period has more of them than all before."""


def split(tapes: Sequence[Tape], tracks: Sequence[Track]) -> tuple[list[Tape], list[Track], Track]:
    """Training without its end, and the end: the last period, or the last fifth of its events if it is most of them."""
    last, before = tracks[-1], sum(map(len, tracks[:-1]))
    if before >= len(last):
        return list(tapes[:-1]), list(tracks[:-1]), last
    counted = last.times_s[last.times_s > last.since_s]
    cut = float(counted[int((1.0 - HELD_OUT) * (len(counted) - 1))])
    return (
        [*tapes[:-1], tapes[-1].until(cut)],
        [*tracks[:-1], last.until(cut)],
        replace(last, since_s=cut),
    )


def judge(
    early: Sequence[Track], late: Track, season: Season, decays: Sequence[float], *, symmetric: bool
) -> tuple[float, dict[str, Any]]:
    """The penalty that is best for what comes later, and log likelihoods per event and residuals there."""
    mirror, rates = MIRROR if symmetric else None, np.array(decays)
    records, later = [t.record() for t in early], [late.record()]
    tried = held_out(records, later, rates, TYPES, season=season, mirror=mirror)
    penalty, value, found = max(tried, key=lambda one: one[1])
    calm = poisson(records, TYPES, season, mirror=mirror)
    count = max(len(late), 1)
    factors = Factors.fit(early, at_events(found.model, early, season), symmetric=symmetric)
    gain = factors.log_gain([late], at_events(found.model, [late], season)) / count
    return penalty, {
        "events": len(late),
        "fitted_on_events": sum(map(len, early)),
        "log_likelihood_per_event": {
            "poisson": log_likelihood(calm, later, season) / count,
            "hawkes_unpenalised": tried[0][1],
            "hawkes": value,
            "hawkes_and_book": value + gain,
        },
        "by_penalty": {f"{p:g}": {"log_likelihood_per_event": v, "kernels": f.kernels} for p, v, f in tried},
        "residuals": residual_table(found.model, later[0], season),
    }


def at_events(process: Hawkes, tracks: Sequence[Track], season: Season) -> list[Floats]:
    """Intensities of all types right before the events that count, ``[n, TYPES]`` each, never 0."""
    floor = 1e-12
    return [np.maximum(intensities(process, t.record(), season)[t.times_s > t.since_s], floor) for t in tracks]


def residual_table(process: Hawkes, record: Record, season: Season) -> dict[str, dict[str, float]]:
    """Time-rescaled gaps of each type against Exp(1): Kolmogorov-Smirnov statistic, p, lag-1 correlation, number.

    Under the true process, and data that it was not fitted to, gaps are independent and p is exact for types apart.
    Away from it gaps depend on each other: the correlation (of ``exp(-gap)``) shows it, and p is no probability then.
    """
    table = {}
    for number, gaps in enumerate(residuals(process, record, season)):
        if len(gaps) < 3:
            continue
        test, level = kstest(gaps, "expon"), np.exp(-gaps)
        side, what = divmod(number, CLASSES)
        name = f"{'ask' if side == 0 else 'bid'} {Class(what).name.lower().replace('_', ' ')}"
        spread = level.std() > 0
        table[name] = {
            "events": len(gaps),
            "ks": float(test.statistic),
            "p": float(test.pvalue),
            "lag_1": float(np.corrcoef(level[1:], level[:-1])[0, 1]) if spread else 0.0,
        }
    return table
