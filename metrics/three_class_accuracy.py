"""Three-class accuracy of MarS Table 7 and Figure 22: does a simulation forecast low, middle or high?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import Landing, Metric, TrajectoryPairs
from marsbench.quantities import TABLE_7, TEN, Quantity, own_code, resolve
from marsbench.scores import Outcome, Score
from marsbench.stats.classes import classify, tercile_edges, vote_shares
from marsbench.stats.windows import codes

from ._accuracy_scores import Case, certain, score_case
from ._baselines import History, histories, left_out_groups, majority_class, time_of_day_class, value_before_start
from ._density import add_density, density_table
from ._quantities import about, measure, measured, not_applicable, notes, start_minutes, title_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from marsbench.known_answers import KnownAnswer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Table = dict[str, list[Any]]

ENOUGH = 30
"""An instrument with fewer replayed values is classed by the terciles of all instruments."""


@dataclass(frozen=True)
class ThreeClassAccuracy(Metric):
    """Share of minutes whose class (low, middle, high by replay's terciles) the simulation meets.

    Formula
        Terciles of all replayed minutes of the instrument. ``three_class_accuracy.<quantity>.one_rollout``
        for quantities of a minute: same minute of the same start, one rollout (mean over rollouts).
        ``.mean_of_rollouts`` for the k-minute returns from each start, once per start: the mean return over
        rollouts is classed (the paper aggregates 128). ``.majority_vote``: the commonest class over rollouts,
        ties shared. Both conventions stand side by side because a mean of paths shrinks to the middle class
        where the sign is uncertain; the vote does not. ``<each>.kappa`` is Cohen's kappa,
        (accuracy - chance) / (1 - chance), chance being that of the two sides' class shares.
    Range, direction, unit
        Accuracy in [0, 1], chance is about 1/3; kappa in [-1, 1], chance is 0. Higher is better, share of pairs.
    Floor and ceiling
        Floor of the accuracy: the better of the commonest class and the commonest class at that half hour of the
        day on other days (other clusters on a single day). Ceiling: the frozen accuracy of the oracle, rolled from
        the market's true state with the same number of rollouts, where the data set has one; elsewhere none, and
        no normalised score, because nobody knows how predictable the market is. Persistence (the class of the
        minute, or the k minutes, before the start, held) stands in the table. Kappa is not normalised.
    Interval
        Student t over the jackknife of clusters, of the logit for accuracies. The terciles count as known, so that
        above an accuracy of .65 it covers 91 to 92% instead of 95% (``marsbench check three-class-accuracy``).
    Quantities
        ``quantities``: names joined by ``+`` (``table7`` is its ten), see ``marsbench list quantities``.
    Reference
        MarS (ICLR 2025) appendix J, Figure 22, Table 7.
    Deviates
        Terciles are per instrument (``edges="pooled"``: over all), otherwise knowing which instrument has a
        wide spread would count as forecasting it. The paper states neither this nor how it aggregates.
    Known failures
        Ties (zero returns, one-tick spreads) make classes unequal; shares are reported. Overlapping
        starts are not independent: the cluster is the unit. The commonest class is learned on what it
        predicts, so with few starts it lies above 1/3 (returns have one value per start).
    """

    edges: str = "instrument"
    """``"instrument"`` or ``"pooled"`` terciles."""
    quantities: str = TABLE_7
    """Names of quantities, joined by ``+``."""

    name = "three-class-accuracy"
    version = 2
    evidence = TrajectoryPairs
    takes_books = True
    ceiling_from_oracle = True
    summary = "3-class accuracy and kappa of per-minute quantities, same minute of the same start"
    landings = (
        Landing("control-constant", "three_class_accuracy.volatility.one_rollout", 0.28, 0.38),
        *(  # of minutes, neither yesterday's nor those in another order foretell anything
            Landing(control, f"three_class_accuracy.{q.key}.one_rollout", 0.28, 0.40)
            for control in ("control-copy", "control-shuffled")
            for q in TEN
            if not q.horizon
        ),
        Landing("reference", "three_class_accuracy.volatility.one_rollout", 0.38, 0.6),
    )

    def __post_init__(self) -> None:
        if self.edges not in ("instrument", "pooled"):
            raise ValueError(f"three-class-accuracy: edges={self.edges!r}; choose 'instrument' or 'pooled'")
        resolve(self.quantities)

    def outside_code(self) -> Mapping[str, str]:
        return own_code(self.quantities)

    def evaluate(self, evidence: TrajectoryPairs, rng: np.random.Generator) -> Outcome:
        scores: list[Score] = []
        summary: list[dict[str, Any]] = []
        matrices: Table = {"quantity": [], "variant": [], "observed": [], "predicted": [], "count": []}
        density = density_table()
        before = histories(evidence)
        quantities = resolve(self.quantities)
        measure(evidence, quantities)
        for quantity in quantities:
            replay, simulated = measured(evidence, quantity)
            edges = self._edges(replay, codes(evidence.instruments))
            baselines = _baselines(quantity, replay, edges, before, evidence)
            why = not_applicable(quantity, evidence)
            for case in _cases(quantity, replay, simulated, edges):
                found, row, matrix = score_case(quantity, case, baselines, evidence)
                scores += found if why is None else [score.not_applicable(why) for score in found]
                summary.append(row | {"title": title_for(quantity, evidence), "unit": quantity.unit})
                _add_matrix(matrices, quantity.key, case.variant, matrix)
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

    @classmethod
    def gains(cls, tables: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, tuple[float, float]]:
        """Paired by cluster: the floor is a baseline on the same minutes."""
        table = tables.get("accuracy_summary", {})
        columns = (table.get(name, ()) for name in ("quantity", "variant", "gain_ci_low", "gain_ci_high"))
        return {
            f"three_class_accuracy.{quantity}.{variant}": (low, high)
            for quantity, variant, low, high in zip(*columns, strict=False)
            if low is not None and high is not None
        }

    @classmethod
    def known_answers(cls) -> list[KnownAnswer]:
        from ._known_accuracy import known_accuracy

        return known_accuracy()

    @classmethod
    def draw(cls, tables: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, Figure]:
        """Figure 22 for the five per-minute quantities, and all accuracies beside their baselines."""
        from ._accuracy_figures import draw

        return draw(tables)


def _add_matrix(table: Table, quantity: str, variant: str, matrix: Floats) -> None:
    for i in range(3):
        for j in range(3):
            row = (quantity, variant, i, j, float(matrix[i, j]))
            for column, value in zip(table.values(), row, strict=True):
                column.append(value)


def _cases(quantity: Quantity, replay: Floats, simulated: Floats, edges: Floats) -> list[Case]:
    if not quantity.horizon:
        observed = classify(replay, edges[:, None])
        votes = classify(simulated, edges[:, None, None])  # [S, R, M]
        shares = certain(votes).sum(axis=1)
        return [Case("one_rollout", observed, shares / np.maximum(shares.sum(axis=-1, keepdims=True), 1))]
    observed = classify(replay[:, :1], edges[:, None])
    paths = simulated[..., :1]
    known = ~np.isnan(paths)
    mean = np.where(known, paths, 0.0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    votes = classify(paths, edges[:, None, None])
    return [
        Case("mean_of_rollouts", observed, certain(classify(mean, edges[:, None]))),
        Case("majority_vote", observed, vote_shares(np.moveaxis(votes, 1, -1))),
    ]


def _baselines(
    quantity: Quantity, replay: Floats, edges: Floats, before: Sequence[History | None], evidence: TrajectoryPairs
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
