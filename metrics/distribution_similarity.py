"""Distribution similarity of per-minute quantities (MarS Table 7): overlap, Wasserstein distance, permutation test."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import Landing, Metric, TrajectoryPairs
from marsbench.quantities import TABLE_7, TEN, Quantity, own_code, resolve
from marsbench.scores import Direction, Outcome, Score
from marsbench.stats.histogram import Bins
from marsbench.stats.intervals import Interval
from marsbench.stats.overlap import null_overlap
from marsbench.stats.verdicts import holm

from ._density import add_density, density_table
from ._quantities import about, measure, measured, not_applicable, notes, title_for
from ._samples import compare
from ._scoring import Units, number, replicates, split_score, split_units, within
from ._told_apart import ToldApart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from marsbench.known_answers import KnownAnswer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Table = dict[str, list[Any]]


@dataclass(frozen=True)
class DistributionSimilarity(Metric):
    """Overlap coefficient of simulated and replayed minutes, for each quantity.

    Formula
        ``OVL = sum_b min(p_b, q_b)`` over bins frozen on replay (50 quantile bins with open ends; one per
        value where replay takes at most 50; every edge is a bin of its own). ``.<quantity>`` is
        OVL(simulation on A, replay on B), A | B random halves of the clusters, one rollout per start, so
        that n is equal; mean over ``splits`` halves. ``.<quantity>.full`` uses all minutes, ``.w1`` is the
        Wasserstein-1 distance of all minutes in standard deviations of replay.
    Range, direction, unit
        OVL in [0, 1], higher is better. W1 0 or more, lower is better, in replay standard deviations.
    Floor and ceiling
        Ceiling: OVL(replay on A, replay on B), same n. Floor: the frozen value of the calibrated
        zero-intelligence generator by this same metric. ``.full`` and ``.w1`` are not normalised.
    Interval
        Jackknife t over clusters, about the value expected at this size, bias included. For laws that are equal
        it is wider than need be. A percentile bootstrap repeats clusters, which lowers the overlap.
    Verdict
        ``.exchange_p``: the p of a permutation test in which one of the rollouts takes replay's place, cluster by
        cluster; of the distances overlap and W1 the one that stands out more counts, in standard deviations. In the
        table: *distinguishable* where p is at most .05; *indistinguishable* where it is more, the overlap is at
        least the 5th percentile of its ceiling, and the test would have noticed laws that overlap by .8
        (normals half a standard deviation apart); else *inconclusive*, with the reason. Not corrected for the
        number of quantities; Holm's adjusted p stands beside it. ``marsbench check distribution-similarity``
        measures how often it is wrong.
    Quantities
        ``quantities``: names joined by ``+`` (``table7`` is its ten), see ``marsbench list quantities``.
    Reference
        MarS (ICLR 2025) appendix J, Table 7; bins by ours, as the paper states none.
    Known failures
        The overlap is biased down in small samples (``null_overlap`` in the table), so read it beside its
        ceiling; W1 is biased up (``w1_exchanged``: what one law shows at this size). The overlap does not see how far
        apart the mass lies; W1 does. Minutes are pooled over starts and instruments: agreement of the pool does
        not mean agreement minute by minute. Rollouts that are more alike to each other than to replay are told
        apart, even if all of them together have its law: 17% of the time instead of 5%, if half of the variance of
        four rollouts is common to them.
    """

    splits: int = 32
    """Random halves that a score averages over."""
    bins: int = 50
    quantities: str = TABLE_7
    """Names of quantities, joined by ``+``."""
    permutations: int = 999
    """Random exchanges of the permutation test."""

    name = "distribution-similarity"
    version = 2
    evidence = TrajectoryPairs
    takes_books = True
    summary = "overlap and Wasserstein distance of per-minute quantities with replay; can they be told apart?"
    landings = (
        Landing("control-constant", "distribution_similarity.volatility", 0.0, 0.2),
        Landing("control-copy", "distribution_similarity.volatility", -0.3, -0.01, "above_ceiling"),
        Landing("control-shuffled", "distribution_similarity.volatility", -0.5, -0.05, "above_ceiling"),
        *(Landing("reference", f"distribution_similarity.{q.key}", -0.06, 0.06, "above_ceiling") for q in TEN),
    )

    def __post_init__(self) -> None:
        resolve(self.quantities)
        for name in ("splits", "bins", "permutations"):
            if getattr(self, name) < 1:
                raise ValueError(f"distribution-similarity: {name} must be at least 1, got {getattr(self, name)}")

    def outside_code(self) -> Mapping[str, str]:
        return own_code(self.quantities)

    def evaluate(self, evidence: TrajectoryPairs, rng: np.random.Generator) -> Outcome:
        units = split_units(evidence)
        scores: list[Score] = []
        summary: list[dict[str, Any]] = []
        density = density_table()
        quantities = resolve(self.quantities)
        measure(evidence, quantities)
        base = int(rng.integers(2**63))
        for quantity in quantities:  # numbers of its own for each: they do not depend on what else is asked for
            own = np.random.default_rng([base, zlib.crc32(quantity.key.encode())])
            found, row = self._judge(quantity, evidence, units, own)
            scores += found
            summary.append(row)
            replay, simulated = measured(evidence, quantity)
            add_density(density, quantity, replay, simulated)
        _adjust(summary)
        return Outcome(
            tuple(scores),
            {
                "similarity_about": about(evidence),
                "similarity_summary": {column: [row[column] for row in summary] for column in summary[0]},
                "similarity_density": density,
            },
            notes(evidence),
        )

    def _judge(
        self, quantity: Quantity, evidence: TrajectoryPairs, units: Units, rng: np.random.Generator
    ) -> tuple[list[Score], dict[str, Any]]:
        """Scores and the row of the table of one quantity."""
        replay, simulated = measured(evidence, quantity)
        key = f"distribution_similarity.{quantity.key}"
        missing = _why_missing(quantity, replay, simulated)
        n = int(min((~np.isnan(replay)).sum(), (~np.isnan(simulated[:, 0])).sum()))
        found = compare(
            replay, simulated, evidence.clusters, units, rng, splits=self.splits, bins=self.bins,
            permutations=self.permutations,
        )  # fmt: skip
        split = split_score(
            found.halves,
            key,
            group="distributions",
            direction="higher",
            floor=evidence.floors.get(key),
            shuffled=False,
            n=n // 2,
            units=units,
            missing=missing or f"{quantity.title}: a half of replay or simulation is empty",
        )
        scores = [
            split,
            _unscaled(f"{key}.full", "higher", "1", *found.full, n, missing),
            _unscaled(
                f"{key}.w1", "lower", "replay standard deviations", *found.w1, n, missing or "replay does not vary"
            ),
            _p_score(f"{key}.exchange_p", found.test, n, missing),
        ]
        if (why := not_applicable(quantity, evidence)) is not None:
            scores = [score.not_applicable(why) for score in scores]
        row = _summary(quantity, replay, simulated, scores, self.bins)
        verdict, reason = found.verdict
        row |= {
            "p": scores[3].value,
            "verdict": None if why else verdict,
            "verdict_reason": why or missing or reason,
            "ceiling_p05": number(found.least),
            "detects_below": number(found.test.detects_below),
            "w1_exchanged": _in_units(found.test.w1_exchanged, row["replay_sd"]),
            "title": title_for(quantity, evidence),
        }
        return scores, row

    @classmethod
    def known_answers(cls) -> list[KnownAnswer]:
        from ._known_similarity import known_similarity

        return known_similarity()

    @classmethod
    def draw(cls, tables: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, Figure]:
        """Bars between floor and ceiling, and the ten distributions."""
        from ._similarity_figures import draw

        return draw(tables)


def _unscaled(
    key: str, direction: Direction, unit: str, value: float, interval: Interval, n: int, missing: str | None
) -> Score:
    """A score that has no floor and no ceiling."""
    found = number(value)
    interval = within(interval, 0.0, 1.0 if direction == "higher" else np.inf)
    return Score(
        key,
        found,
        "distributions",
        direction,
        unit=unit,
        ci_low=number(interval.low),
        ci_high=number(interval.high),
        ci_method=interval.method if number(interval.low) is not None else None,
        n=n,
        clusters=interval.clusters,
        reason=(missing or "nothing to compare") if found is None else interval.reason,
        replicates=() if found is None else replicates(interval),
        replicate_units=f"{interval.clusters} clusters" if found is not None and replicates(interval) else None,
    )


def _p_score(key: str, test: ToldApart, n: int, missing: str | None) -> Score:
    p = number(test.p)
    why = "a p has no interval" if p is not None else missing or test.verdict(np.nan, np.nan)[1]
    return Score(key, p, "distributions", "none", unit="p", n=n, clusters=test.clusters, reason=why)


def _in_units(distance: float, spread: float | None) -> float | None:
    return number(distance / spread) if spread else None


def _adjust(summary: list[dict[str, Any]]) -> None:
    """Holm's p over the quantities that have one."""
    known = [row for row in summary if row["p"] is not None]
    for row in summary:
        row["p_adjusted"] = None
    for row, p in zip(known, holm([row["p"] for row in known]), strict=True):
        row["p_adjusted"] = p


def _why_missing(quantity: Quantity, replay: Floats, simulated: Floats) -> str | None:
    for source, values in (("replay", replay), ("the simulation", simulated)):
        if np.isnan(values).all():
            return f"{quantity.title}: no minute of {source} has one (no orders, or a one-sided book)"
    return None


def _summary(quantity: Quantity, replay: Floats, simulated: Floats, scores: list[Score], bins: int) -> dict[str, Any]:
    split, full, w1 = scores[:3]
    counts = Bins.frozen(replay, bins).count(replay)
    row: dict[str, Any] = {"quantity": quantity.key, "title": quantity.title, "unit": quantity.unit}
    for name in ("value", "ci_low", "ci_high", "floor", "ceiling", "normalised", "n"):
        row[name] = getattr(split, name)
    row |= {"full": full.value, "w1": w1.value, "w1_ci_low": w1.ci_low, "w1_ci_high": w1.ci_high}
    row["null_overlap"] = (
        number(null_overlap(counts.astype(np.float64), split.n, split.n)) if split.n and counts.sum() else None
    )
    for source, values in (("replay", replay), ("simulation", simulated)):
        known = values[~np.isnan(values)]
        row[f"{source}_mean"] = number(known.mean()) if known.size else None
        row[f"{source}_sd"] = number(known.std()) if known.size else None
        row[f"{source}_missing"] = number(np.isnan(values).mean()) if values.size else None
    return row
