"""Scores of the event response functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.scores import Score
from marsbench.stats.lob_bench_response import EVENTS, LAGS, response, response_distance, response_sums
from marsbench.stats.splits import Comparison, split_half

from ._lob_bench_units import Grouped, lob_score
from ._scoring import number, split_score

Floats = NDArray[np.float64]

TITLES = (
    "Market orders that leave prices", "Market orders that move prices", "New orders that leave prices",
    "New orders that move prices", "Cancels that leave prices", "Cancels that move prices",
)  # fmt: skip


def response_scores(data: Grouped, splits: int, seed: int) -> tuple[list[Score], dict[str, list[Any]]]:
    """Distances in ticks by event type, pooled and on halves (floor: types and signs shuffled), and the curves."""
    rng = np.random.default_rng(seed)
    real, shuffled, made = (np.zeros((data.count, 2, len(EVENTS), len(LAGS))) for _ in range(3))
    for pair, g in zip(data.pairs, data.group, strict=True):
        real[g] += response_sums(pair.real, data.tick)
        shuffled[g] += response_sums(pair.real, data.tick, rng)
        for s in pair.generated:
            made[g] += response_sums(s, data.tick)
    total = real.sum(axis=0), made.sum(axis=0)
    value = response_distance(*total)
    without = response_distance(total[0] - real, total[1] - made)
    seen = np.minimum(total[0][1, :, 0], total[1][1, :, 0])
    scores = []
    for k, name in enumerate(EVENTS):
        key, title = f"lobbench.response.{name}", TITLES[k].lower()
        missing = f"{title}: real or generated sequences have none"
        scores.append(
            lob_score(
                key, value[k], without[:, k], data, group="response", unit="ticks", n=int(seen[k]), missing=missing
            )
        )
        scores.append(_halves(f"{key}.halves", k, real, made, shuffled, data, splits, seed, int(seen[k]) // 2, missing))
    known = np.isfinite(value)
    mean = value.mean() if known.all() else np.nan
    none = "of " + ", ".join(n for n, ok in zip(EVENTS, known, strict=True) if not ok) + " there are none"
    scores.append(
        lob_score("lobbench.response.mean", mean, without.mean(axis=1), data, group="response", unit="ticks",
                  n=int(seen.min()), missing=none)
    )  # fmt: skip
    return scores, _curves(total)


def _halves(
    key: str, k: int, real: Floats, made: Floats, shuffled: Floats, data: Grouped, splits: int, seed: int, n: int,
    missing: str,
) -> Score:  # fmt: skip
    units = data.units

    def compare(a: Floats, b: Floats, _: int) -> tuple[Floats, Floats, Floats]:
        target = np.tensordot(b, real, 1)
        sides = (np.tensordot(a, x, 1) for x in (made, real, shuffled))
        value, ceiling, floor = (response_distance(x, target)[:, k] for x in sides)
        return value, ceiling, floor

    comparison: Comparison = compare
    found = split_half(comparison, units.stratum, splits, np.random.default_rng(seed), what=units.what)
    return split_score(
        found, key, group="response", direction="lower", floor=None, shuffled=True, n=n, units=units, missing=missing
    )


def _curves(total: tuple[Floats, Floats]) -> dict[str, list[Any]]:
    """R(l) of both sides."""
    table: dict[str, list[Any]] = {"event": [], "lag": [], "real": [], "generated": []}
    curves = [response(x) for x in total]
    for e, name in enumerate(EVENTS):
        for k, lag in enumerate(LAGS):
            table["event"].append(name)
            table["lag"].append(lag)
            table["real"].append(number(curves[0][e, k]))
            table["generated"].append(number(curves[1][e, k]))
    return table
