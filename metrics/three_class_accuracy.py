"""Three-class accuracy of MarS Table 7 and Figure 22: does a simulation forecast low, middle or high?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import Landing, Metric, TrajectoryPairs
from marsbench.scores import Outcome, Score
from marsbench.stats.bootstrap import cluster_interval, share_interval
from marsbench.stats.classes import MISSING, accuracy, classify, kappa, tercile_edges, vote_shares
from marsbench.stats.windows import codes

from ._baselines import history_bars, left_out_groups, majority_class, time_of_day_class, value_before_start
from ._density import add_density, density_table
from ._quantities import QUANTITIES, Quantity, about, notes, start_minutes
from ._scoring import number, within

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Table = dict[str, list[Any]]

_FLOORS = ("majority_class", "time_of_day")
"""The baselines of which the better is the floor."""
ENOUGH = 30
"""An instrument with fewer replayed values is classed by the terciles of all instruments."""


@dataclass(frozen=True)
class _Case:
    """Observed classes and one kind of prediction, with what is needed to weigh them by cluster."""

    variant: str
    observed: Ints
    """``[S, T]``."""
    shares: Floats
    """``[S, T, 3]`` predicted share of each class; all 0 where nothing is predicted."""


@dataclass(frozen=True)
class ThreeClassAccuracy(Metric):
    """Share of minutes whose class (low, middle, high by replay's terciles) the simulation meets.

    Formula
        Terciles of all replayed minutes of the instrument. ``three_class_accuracy.<quantity>.one_rollout``
        for the five per-minute quantities: same minute of the same start, one rollout (mean over
        rollouts). ``.mean_of_rollouts`` for the k-minute returns from each start, k = 1 to 5, once per
        start: the mean return over rollouts is classed (the paper aggregates 128). ``.majority_vote``:
        the commonest class over rollouts, ties shared. Both conventions stand side by side because a mean
        of paths shrinks to the middle class where the sign is uncertain; the vote does not.
    Range, direction, unit
        [0, 1], higher is better, share of pairs; chance is about 1/3. Cohen's kappa in the table.
    Floor and ceiling
        Floor: the better of the commonest class and the commonest class at that half hour of the day on
        other days (other clusters on a single day). No ceiling, so never normalised: nobody knows how
        predictable the market is. Persistence (the class of the minute, or the k minutes, before the
        start, held) stands in the table.
    Interval
        Jackknife t over clusters, of the logit for the accuracy.
    Reference
        MarS (ICLR 2025) appendix J, Figure 22, Table 7.
    Deviates
        Terciles are per instrument (``edges="pooled"``: over all), otherwise knowing which instrument has a
        wide spread would count as forecasting it. The paper states neither this nor how it aggregates.
    Known failures
        Ties (zero returns, one-tick spreads) make classes unequal; shares are reported. Overlapping
        starts are not independent: the cluster is the unit.
    """

    edges: str = "instrument"
    """``"instrument"`` or ``"pooled"`` terciles."""

    name = "three-class-accuracy"
    version = 1
    evidence = TrajectoryPairs
    takes_books = True
    summary = "3-class accuracy of the ten per-minute quantities, same minute of the same start"
    landings = (
        Landing("control-constant", "three_class_accuracy.volatility.one_rollout", 0.28, 0.38),
        Landing("control-copy", "three_class_accuracy.volatility.one_rollout", 0.28, 0.40),
        Landing("control-shuffled", "three_class_accuracy.volatility.one_rollout", 0.28, 0.38),
        Landing("reference", "three_class_accuracy.volatility.one_rollout", 0.38, 0.6),
    )

    def __post_init__(self) -> None:
        if self.edges not in ("instrument", "pooled"):
            raise ValueError(f"three-class-accuracy: edges={self.edges!r}; choose 'instrument' or 'pooled'")

    def evaluate(self, evidence: TrajectoryPairs, rng: np.random.Generator) -> Outcome:
        scores: list[Score] = []
        summary: list[dict[str, Any]] = []
        matrices: Table = {"quantity": [], "variant": [], "observed": [], "predicted": [], "count": []}
        density = density_table()
        before = history_bars(evidence)
        for quantity in QUANTITIES:
            replay, simulated = quantity.of(evidence.replay_bars), quantity.of(evidence.simulated_bars)
            edges = self._edges(replay, codes(evidence.instruments))
            baselines = _baselines(quantity, replay, edges, before, evidence)
            for case in _cases(quantity, replay, simulated, edges):
                score, row, matrix = self._score(quantity, case, baselines, evidence, rng)
                why = quantity.not_applicable(evidence)
                scores.append(score if why is None else score.not_applicable(why))
                summary.append(row | {"title": quantity.title_for(evidence)})
                for i in range(3):
                    for j in range(3):
                        for column, value in zip(
                            matrices.values(), (quantity.key, case.variant, i, j, float(matrix[i, j])), strict=True
                        ):
                            column.append(value)
            if not quantity.horizon:
                add_density(density, quantity, replay[:, None], simulated)
        tables = {
            "accuracy_about": about(evidence),
            "accuracy_summary": {column: [row[column] for row in summary] for column in summary[0]},
            "accuracy_confusion": matrices,
            "accuracy_density": density,
        }
        return Outcome(tuple(scores), tables, notes(evidence))

    def _edges(self, replay: Floats, instrument: Ints) -> Floats:
        """Tercile edges of each start, ``[S, 2]``."""
        everything = tercile_edges(replay)
        out = np.tile(everything, (len(replay), 1))
        if self.edges == "instrument":
            for i in np.unique(instrument):
                values = replay[instrument == i]
                if (~np.isnan(values)).sum() >= ENOUGH:
                    out[instrument == i] = tercile_edges(values)
        return out

    def _score(
        self, quantity: Quantity, case: _Case, baselines: Mapping[str, Ints], evidence: TrajectoryPairs,
        rng: np.random.Generator,
    ) -> tuple[Score, dict[str, Any], Floats]:  # fmt: skip
        matrix = _by_cluster(case.observed, case.shares, evidence.clusters)  # [C, 3, 3]
        total = matrix.sum(axis=0)
        shape = case.observed.shape
        others = {
            name: _by_cluster(case.observed, _certain(held[:, : shape[1]]), evidence.clusters)
            for name, held in baselines.items()
        }
        values = {name: number(accuracy(m.sum(axis=0))) for name, m in others.items()}
        best = max(_FLOORS, key=lambda name: -1.0 if (found := values[name]) is None else found)
        floor = values[best]

        def statistics(weights: Floats) -> Floats:
            """Accuracy, kappa and the gain over the floor, ``[B, 3]``."""
            found, base = (np.tensordot(weights, m, 1) for m in (matrix, others[best]))
            return np.stack([accuracy(found), kappa(found), accuracy(found) - accuracy(base)], axis=-1)

        interval = cluster_interval(statistics, len(matrix))
        interval = within(interval, np.array([0.0, -1.0, -1.0]), np.array([1.0, 1.0, 1.0]))
        value, agreement, gain = statistics(np.ones((1, len(matrix))))[0]
        of_share = None if interval.deleted is None else interval.deleted[:, 0]
        share = share_interval(value, replace(interval, low=interval.low[0], high=interval.high[0], deleted=of_share))
        n = round(float(total.sum()))
        missing = None
        if number(value) is None:
            missing = f"{quantity.title}: no minute where both replay and the simulation have one"
        score = Score(
            f"three_class_accuracy.{quantity.key}.{case.variant}",
            number(value),
            "prediction",
            ci_low=number(share.low),
            ci_high=number(share.high),
            ci_method=share.method if number(share.low) is not None else None,
            floor=floor,
            n=n,
            clusters=interval.clusters,
            reason=missing or interval.reason or "no ceiling: the market's own predictability is unknown",
        )
        row: dict[str, Any] = {"quantity": quantity.key, "title": quantity.title, "variant": case.variant}
        row |= {name: getattr(score, name) for name in ("value", "ci_low", "ci_high", "floor", "n", "clusters")}
        row |= {
            "kappa": number(agreement),
            "kappa_ci_low": number(interval.low[1]),
            "kappa_ci_high": number(interval.high[1]),
        }
        row |= {"gain": number(gain), "gain_ci_low": number(interval.low[2]), "gain_ci_high": number(interval.high[2])}
        row |= {f"{name}_accuracy": value for name, value in values.items()}
        shares = total.sum(axis=1) / max(total.sum(), 1), total.sum(axis=0) / max(total.sum(), 1)
        for side, share in zip(("observed", "predicted"), shares, strict=True):
            row |= {f"{side}_{name}": float(share[i]) for i, name in enumerate(("low", "middle", "high"))}
        return score, row, total

    @classmethod
    def draw(cls, tables: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, Figure]:
        """Figure 22 for the five per-minute quantities, and all accuracies beside their baselines."""
        from ._accuracy_figures import draw

        return draw(tables)


def _certain(classes: Ints) -> Floats:
    """Shares ``[..., 3]`` of a prediction that is one class."""
    return np.asarray(classes[..., None] == np.arange(3), np.float64)


def _cases(quantity: Quantity, replay: Floats, simulated: Floats, edges: Floats) -> list[_Case]:
    if not quantity.horizon:
        observed = classify(replay, edges[:, None])
        votes = classify(simulated, edges[:, None, None])  # [S, R, M]
        shares = _certain(votes).sum(axis=1)
        return [_Case("one_rollout", observed, shares / np.maximum(shares.sum(axis=-1, keepdims=True), 1))]
    observed = classify(replay[:, :1], edges[:, None])
    paths = simulated[..., :1]
    known = ~np.isnan(paths)
    mean = np.where(known, paths, 0.0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    votes = classify(paths, edges[:, None, None])
    return [
        _Case("mean_of_rollouts", observed, _certain(classify(mean, edges[:, None]))),
        _Case("majority_vote", observed, vote_shares(np.moveaxis(votes, 1, -1))),
    ]


def _by_cluster(observed: Ints, shares: Floats, cluster: Ints) -> Floats:
    """Confusion matrices ``[C, 3, 3]``, observed class first, predictions counted by their shares."""
    out = np.zeros((int(cluster.max()) + 1, 3, 3))
    which = np.broadcast_to(cluster[:, None], observed.shape)
    ok = observed != MISSING
    np.add.at(out, (which[ok], observed[ok]), shares[ok])
    return out


def _baselines(
    quantity: Quantity, replay: Floats, edges: Floats, before: list[Any], evidence: TrajectoryPairs
) -> dict[str, Ints]:
    """Predicted classes ``[S, T]`` of each baseline; for returns T = 1, the one from the start."""
    scored = replay[:, :1] if quantity.horizon else replay
    observed = classify(scored, edges[:, None])
    group = left_out_groups(evidence)
    minute = start_minutes(evidence)[:, None] + np.arange(observed.shape[1])
    held = classify(value_before_start(quantity, before), edges)
    return {
        "majority_class": majority_class(observed),
        "time_of_day": time_of_day_class(observed, minute, group) if observed.size else observed,
        "persistence": np.repeat(held[:, None], observed.shape[1], axis=1),
    }
