"""Statistics of metaorders in one market as functions of weights of clusters, so that all of them can be compared.

Whatever is computed with weights ``[B, C]`` has shape ``[B, ...]``; the first row of ``weights_of`` takes everything,
each further one leaves a group of clusters out.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from marsbench.impact_runs import Arm, ImpactRuns, Normalisers
from marsbench.stats.impact_law import Sample
from marsbench.stats.intervals import Interval, deletion_weights, jackknife_interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def weights_of(clusters: int) -> Floats:
    """``[1 + G, C]``."""
    left_out = deletion_weights(clusters, np.random.default_rng(clusters))
    return np.concatenate([np.ones((1, clusters)), left_out])


def interval_of(found: Floats, clusters: int, used: int | None = None) -> Interval:
    """Interval of a statistic from its value and replicates ``[1 + G]``.

    ``used`` is how many of the clusters it is about, where not all: leaving out the others says nothing.
    """
    count = clusters if used is None else used
    if count < 2:
        nothing = np.asarray(np.nan)
        return Interval(nothing, nothing, None, count, f"{count} cluster{'s' * (count != 1)}: an interval needs 2")
    made = jackknife_interval(np.asarray(found[0]), found[1:], clusters=clusters, most_dof=count - 1)
    return made if count == clusters else replace(made, method=f"{made.method}, {count} of which it is about")


class Market:
    """The metaorders of one arm, in units of one normaliser."""

    def __init__(self, runs: ImpactRuns, arm: Arm, normaliser: Normalisers) -> None:
        times = runs.rollouts(arm)
        runs = runs.repeated(times) if times > 1 else runs
        self.runs, self.arm = runs, arm
        self.impact = runs.impacts(arm, normaliser)  # [N, M + 1]
        self.drift = arm.drift / normaliser.sigma[runs.start][:, None]
        self.size = runs.sizes(arm, normaliser)
        self.clusters = int(runs.start_clusters.max()) + 1
        self.end = runs.trading_minutes
        self.known = np.isfinite(self.impact[:, self.end]) & np.isfinite(self.size)
        self.tail = self.known & np.isfinite(self.impact[:, -1])

    def about(self, keep: NDArray[np.bool_]) -> int:
        """How many clusters some metaorders come from."""
        return len(np.unique(self.runs.clusters[keep]))

    def mean(self, values: Floats, keep: NDArray[np.bool_], weights: Floats, cell: Ints | None = None) -> Floats:
        """Weighted mean of ``[N]`` or ``[N, K]`` values over kept metaorders; by ``cell`` ``[N]`` where given.

        Values that are NaN do not count. ``[B, ...]``, cells before columns.
        """
        columns = values.reshape(len(values), -1)
        cells = np.zeros(len(values), np.int64) if cell is None else cell
        count = 1 if cell is None else int(cell.max()) + 1
        there = keep[:, None] & np.isfinite(columns)
        shape = (self.clusters, count, columns.shape[1])
        total, number = np.zeros(shape), np.zeros(shape)
        np.add.at(total, (self.runs.clusters, cells), np.where(there, columns, 0.0))
        np.add.at(number, (self.runs.clusters, cells), there)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.tensordot(weights, total, 1) / np.tensordot(weights, number, 1)
        found = found[..., 0] if values.ndim == 1 else found
        return np.asarray(found[:, 0] if cell is None else found)

    # --- what happens while it trades ------------------------------------------------------------------

    def peaks(self, weights: Floats) -> Floats:
        """Mean impact when trading ends, by agent and size, ``[B, A * K]``."""
        runs = self.runs
        cell = runs.agent * (int(runs.rank.max()) + 1) + runs.rank
        return self.mean(self.impact[:, self.end], self.known, weights, cell)

    def paths(self, weights: Floats, *, same: bool = False) -> Floats:
        """Mean impact by agent and minute 1, 2, ... ``[B, A, M]``; after trading of those that are followed further.

        With ``same`` all minutes are of the latter, where there are any: one curve of the same metaorders.
        """
        keep = self.tail if same and self.tail.any() else self.known
        return self.mean(self.impact[:, 1:], keep, weights, self.runs.agent)

    def fulfilment(self, weights: Floats) -> Floats:
        """Executed share of the target by agent, ``[B, A]``."""
        share = self.arm.executed_shares / np.maximum(self.runs.target_shares, 1)
        return self.mean(share, np.ones(len(share), bool), weights, self.runs.agent)

    def sample(self, keep: NDArray[np.bool_] | None = None) -> Sample:
        """Points of the law: those that executed anything."""
        good = self.known & (self.size > 0) & (True if keep is None else keep)
        end = self.impact[:, self.end]
        return Sample(self.size[good], end[good], self.runs.clusters[good], self.clusters)

    @cached_property
    def _pooled(self) -> Sample:
        return self.sample()

    def law(self, weights: Floats) -> tuple[Floats, Floats]:
        """delta and ln Y of all agents together, ``[B]`` each."""
        delta = self._pooled.exponent(weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            return delta, np.log(self._pooled.prefactor(weights, delta))

    def kyle(self, weights: Floats) -> Floats:
        """Kyle's lambda at each minute, ``[B, M]``: slope through 0 of the impact on Q/V."""
        size = np.where(self.known, self.size, np.nan)[:, None]
        over = self.mean(self.impact[:, 1:] * size, self.known, weights)
        there = np.where(np.isfinite(self.impact[:, 1:]), size**2, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(over / self.mean(there, self.known, weights))

    def monotonicity(self, weights: Floats) -> Floats:
        """How often the larger one of two neighbouring sizes has the larger impact, ``[B]``; all else is the same."""
        runs, end = self.runs, self.impact[:, self.end]
        ranks = int(runs.rank.max()) + 1
        same = (runs.agent * 2 + (runs.side > 0)) * len(runs.starts) + runs.start
        groups = int(np.unique(same).size)
        rows = np.lexsort((runs.rank, same)).reshape(groups, ranks, -1)  # rollouts in the order in which they stand
        step = np.diff(end[rows], axis=1)
        value = np.full(len(end), np.nan)
        value[rows[:, :-1]] = np.where(np.isfinite(step), (step > 0) + 0.5 * (step == 0), np.nan)
        return self.mean(value, np.isfinite(value), weights)

    def asymmetry(self, weights: Floats) -> Floats:
        """Mean impact of buying less that of selling, over their mean, ``[B]``."""
        end = self.impact[:, self.end]
        buy, sell = (self.mean(end, self.known & (self.runs.side == side), weights) for side in (1, -1))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((buy - sell) / ((buy + sell) / 2))

    # --- and after -------------------------------------------------------------------------------------

    def relaxation(self, weights: Floats, keep: NDArray[np.bool_] | None = None) -> Floats:
        """Mean impact at the end of the run over that when trading ended, ``[B]``, same metaorders."""
        kept = self.tail if keep is None else self.tail & keep
        late, peak = (self.mean(self.impact[:, m], kept, weights) for m in (-1, self.end))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(late / peak)

    def momentum(self, weights: Floats, keep: NDArray[np.bool_]) -> Floats:
        """Mean change of the impact from the end of trading to the end of the run, ``[B]``."""
        return self.mean(self.impact[:, -1] - self.impact[:, self.end], self.tail & keep, weights)

    def afterwards(self, weights: Floats) -> Floats:
        """Mean impact of those that are followed further, over its value when trading ended, ``[B, M + 1]``."""
        found = self.mean(self.impact, self.tail, weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(found / found[:, [self.end]])


def relative_error(own: Floats, true: Floats) -> Floats:
    """Root mean squared difference over the root mean square of the truth, over all but the first axis, ``[B]``.

    Cells that either side lacks do not count.
    """
    axes = tuple(range(1, own.ndim))
    there = np.isfinite(own) & np.isfinite(true)
    above = np.where(there, (own - true) ** 2, 0).sum(axis=axes)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(above / np.where(there, true**2, 0).sum(axis=axes)))


def apart(own: Floats, true: Floats) -> Floats:
    """Mean absolute difference over all but the first axis, ``[B]``."""
    return np.asarray(np.abs(own - true).reshape(len(own), -1).mean(axis=1))


def closeness(own: Market, true: Market, weights: Floats) -> dict[str, Floats]:
    """How far one market's impact is from another's, ``[B]`` each; 0 where they agree."""
    (delta, log_y), (true_delta, true_log_y) = own.law(weights), true.law(weights)
    return {
        "impact": relative_error(own.peaks(weights), true.peaks(weights)),
        "path": relative_error(own.paths(weights), true.paths(weights)),
        "exponent": apart(delta, true_delta),
        "prefactor": apart(log_y, true_log_y),
        "decay": apart(own.relaxation(weights), true.relaxation(weights)),
        "monotonicity": apart(own.monotonicity(weights), true.monotonicity(weights)),
        "fulfilment": apart(own.fulfilment(weights), true.fulfilment(weights)),
    }
