"""Distribution similarity of the ten per-minute quantities of MarS Table 7: overlap and Wasserstein distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import Landing, Metric, TrajectoryPairs
from marsbench.scores import Direction, Outcome, Score
from marsbench.stats.bootstrap import Interval, deletion_weights, jackknife_interval
from marsbench.stats.histogram import Bins
from marsbench.stats.overlap import null_overlap, overlap
from marsbench.stats.splits import Comparison, split_half
from marsbench.stats.wasserstein import cdf_grid, grid_wasserstein, wasserstein

from ._density import add_density, density_table
from ._quantities import QUANTITIES, Quantity, about, notes
from ._scoring import Units, number, split_score, split_units, within

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Table = dict[str, list[Any]]


@dataclass(frozen=True)
class DistributionSimilarity(Metric):
    """Overlap coefficient of simulated and replayed minutes, for each of the ten quantities.

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
        Jackknife t over clusters, whose coverage the tests of intervals measure on a mean gap, not on the
        overlap itself. A percentile bootstrap repeats clusters, which lowers the overlap.
    Reference
        MarS (ICLR 2025) appendix J, Table 7; bins by ours, as the paper states none.
    Known failures
        The overlap is biased down in small samples (``null_overlap`` in the table), so read it beside its
        ceiling. It does not see how far apart the mass lies; W1 does. Minutes are pooled over starts and
        instruments: agreement of the pool does not mean agreement minute by minute.
    """

    splits: int = 32
    """Random halves that a score averages over."""
    bins: int = 50

    name = "distribution-similarity"
    version = 1
    evidence = TrajectoryPairs
    takes_books = True
    summary = "overlap and Wasserstein distance of the ten per-minute quantities with replay"
    landings = (
        Landing("control-constant", "distribution_similarity.volatility", 0.0, 0.2),
        Landing("control-copy", "distribution_similarity.volatility", -0.3, -0.01, "above_ceiling"),
        Landing("control-shuffled", "distribution_similarity.volatility", -0.5, -0.08, "above_ceiling"),
        Landing("reference", "distribution_similarity.volatility", -0.05, 0.1, "above_ceiling"),
    )

    def evaluate(self, evidence: TrajectoryPairs, rng: np.random.Generator) -> Outcome:
        units = split_units(evidence)
        scores: list[Score] = []
        summary: list[dict[str, Any]] = []
        density = density_table()
        for quantity in QUANTITIES:
            replay = quantity.of(evidence.replay_bars)[:, None]
            simulated = quantity.of(evidence.simulated_bars)
            found = self._scores(quantity, replay, simulated, evidence, units, rng)
            if (why := quantity.not_applicable(evidence)) is not None:
                found = [score.not_applicable(why) for score in found]
            scores += found
            row = _summary(quantity, replay, simulated, found, self.bins)
            summary.append(row | {"title": quantity.title_for(evidence)})
            add_density(density, quantity, replay, simulated)
        return Outcome(
            tuple(scores),
            {
                "similarity_about": about(evidence),
                "similarity_summary": {column: [row[column] for row in summary] for column in summary[0]},
                "similarity_density": density,
            },
            notes(evidence),
        )

    def _scores(
        self, quantity: Quantity, replay: Floats, simulated: Floats, evidence: TrajectoryPairs, units: Units,
        rng: np.random.Generator,
    ) -> list[Score]:  # fmt: skip
        key = f"distribution_similarity.{quantity.key}"
        n = int(min((~np.isnan(replay)).sum(), (~np.isnan(simulated)).sum()))
        bins = Bins.frozen(replay, self.bins)
        missing = _why_missing(quantity, replay, simulated)
        compare = _comparison(bins, replay, simulated, units)
        split = split_score(
            split_half(compare, units.stratum, self.splits, rng, what=units.what),
            key,
            group="distributions",
            direction="higher",
            floor=evidence.floors.get(key),
            shuffled=False,
            n=n // 2,
            units=units,
            missing=missing or f"{quantity.title}: a half of replay or simulation is empty",
        )
        w1 = self._wasserstein(quantity, replay, simulated, evidence, rng)
        full = _weighted(bins, overlap, replay, simulated, evidence, rng)
        return [
            split,
            _unscaled(f"{key}.full", "higher", "1", *full, n, missing),
            _unscaled(f"{key}.w1", "lower", "replay standard deviations", *w1, n, missing or "replay does not vary"),
        ]

    def _wasserstein(
        self, quantity: Quantity, replay: Floats, simulated: Floats, evidence: TrajectoryPairs, rng: np.random.Generator
    ) -> tuple[float, Interval]:
        """W1 in standard deviations of replay; its interval from distribution functions on a grid."""
        known = replay[~np.isnan(replay)]
        spread = float(known.std()) if known.size else 0.0
        spread = spread if spread > 1e-12 * np.abs(known).max(initial=0.0) else float("nan")
        grid = cdf_grid(replay, simulated)

        def compare(p: Floats, q: Floats) -> Floats:
            return grid_wasserstein(p, q, grid) / spread

        _, interval = _weighted(Bins(grid, False), compare, replay, simulated, evidence, rng)
        return wasserstein(replay, simulated) / spread, interval

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
    )


def _why_missing(quantity: Quantity, replay: Floats, simulated: Floats) -> str | None:
    for source, values in (("replay", replay), ("the simulation", simulated)):
        if np.isnan(values).all():
            return f"{quantity.title}: no minute of {source} has one (no orders, or a one-sided book)"
    return None


def _comparison(bins: Bins, replay: Floats, simulated: Floats, units: Units) -> Comparison:
    truth = bins.count_clusters(replay, units.label, units.count)[0]
    generated = bins.count_clusters(simulated, units.label, units.count)

    def compare(a: Floats, b: Floats, k: int) -> tuple[Floats, Floats, Floats]:
        target = b @ truth
        value = overlap(a @ generated[k % len(generated)], target)
        return value, overlap(a @ truth, target), np.full(len(a), np.nan)

    return compare


def _weighted(
    bins: Bins, compare: Any, replay: Floats, simulated: Floats, evidence: TrajectoryPairs, rng: np.random.Generator,
) -> tuple[float, Interval]:  # fmt: skip
    """A comparison of all minutes, and its interval by cluster."""
    cluster: Ints = evidence.clusters
    clusters = int(cluster.max()) + 1
    truth, generated = (bins.count_clusters(v, cluster, clusters).sum(axis=0) for v in (replay, simulated))

    def statistic(weights: Floats) -> Floats:
        return np.asarray(compare(weights @ generated, weights @ truth))

    full = statistic(np.ones((1, clusters)))[0]
    if clusters < 2:
        nothing = np.asarray(np.nan)
        return float(full), Interval(nothing, nothing, None, clusters, "1 cluster: an interval needs at least 2")
    return float(full), jackknife_interval(full, statistic(deletion_weights(clusters, rng)))


def _summary(quantity: Quantity, replay: Floats, simulated: Floats, scores: list[Score], bins: int) -> dict[str, Any]:
    split, full, w1 = scores
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
