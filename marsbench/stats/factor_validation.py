"""Whether what a search of impact factors found holds: on clusters that it did not see, and against permuted impact.

The whole search is repeated in every fold and on every permutation, so that its freedom to choose is paid for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.factor_search import (
    BASE,
    Problem,
    Settings,
    firm,
    fold_labels,
    least_squares,
    products,
    search,
    squared_errors,
    weighted,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Search(Protocol):
    """Anything that finds a model on some clusters and is judged on others."""

    def with_impact(self, impact: Floats) -> Search:
        """The same with another impact, ``[N]``."""

    def held_out(self, train: Bools, rng: np.random.Generator) -> Floats:
        """``[C']`` squared errors, on each cluster outside ``train`` ``[C]``, of what was found inside."""


@dataclass(frozen=True)
class SparseSearch:
    """The sparse search, as something to be validated."""

    problem: Problem
    sums: Floats
    settings: Settings

    @classmethod
    def of(cls, problem: Problem, settings: Settings | None = None) -> SparseSearch:
        return cls(problem, problem.sums(), settings or Settings())

    def with_impact(self, impact: Floats) -> SparseSearch:
        design, clusters = self.problem.design, self.problem.clusters
        count = len(self.sums)
        cross = np.stack([np.bincount(clusters, c * impact, count) for c in design.T], axis=1)
        sums = self.sums.copy()
        sums[:, :-1, -1] = sums[:, -1, :-1] = cross
        sums[:, -1, -1] = np.bincount(clusters, impact**2, count)
        return replace(self, sums=sums)

    def held_out(self, train: Bools, rng: np.random.Generator) -> Floats:
        found = search(self.sums[train], rng, self.settings)
        return squared_errors(self.sums[~train], found.coefficients)


@dataclass(frozen=True)
class Validated:
    """What searches explain beyond the base, of clusters that they did not see."""

    gains: Mapping[str, float]
    """Search -> its gain: squared errors less than those of the base, as a share of the impact's variance."""
    saved: Mapping[str, Floats]
    """Search -> ``[C]`` squared errors saved in each cluster."""
    variance: Floats
    """``[C]`` squared deviations of the impact from its mean."""
    p: Mapping[str, float]
    """Search, and ``best``: (1 + permuted searches that gain as much) / (1 + permutations); NaN without any."""
    permuted: Mapping[str, Floats]
    """Search -> ``[B]`` gains with permuted impact."""

    @property
    def best(self) -> str:
        """The search that gains most."""
        return max(self.gains, key=lambda name: self.gains[name])


def validate(
    problem: Problem, searches: Mapping[str, Search], rng: np.random.Generator, *, permutations: int, folds: int = 5
) -> Validated:
    """Gain of each search by cross-validation over clusters, against the same search on permuted impact.

    The whole search is nested: in every fold of the data, and in every fold of every permutation, which exchanges
    what the base leaves of the impact between clusters, within the same agent, side and rank of size.
    """
    count = int(problem.clusters.max()) + 1
    fold = fold_labels(count, folds, rng)
    design = problem.design[:, :BASE]
    fitted = design @ np.linalg.lstsq(design, problem.impact, rcond=None)[0]
    shuffle = Permutation.of(problem)

    def gains(impact: Floats) -> tuple[dict[str, Floats], Floats]:
        of_base = products(np.column_stack([design, impact]), problem.clusters)
        these = {name: one.with_impact(impact) for name, one in searches.items()}
        saved = {name: np.zeros(count) for name in searches}
        for k in range(folds):
            train = fold != k
            base = squared_errors(of_base[~train], least_squares(of_base[train].sum(axis=0)))
            for name, one in these.items():
                saved[name][~train] = base - one.held_out(train, rng)
        return saved, np.bincount(problem.clusters, (impact - impact.mean()) ** 2, count).astype(np.float64)

    saved, variance = gains(problem.impact)
    drawn = [gains(fitted + shuffle.draw(problem.impact - fitted, rng)) for _ in range(permutations)]
    found = {name: float(s.sum() / variance.sum()) for name, s in saved.items()}
    permuted = {name: np.array([s[name].sum() / v.sum() for s, v in drawn]) for name in searches}
    highest = np.max(list(permuted.values()), axis=0) if permutations else np.zeros(0)
    p = {name: p_value(found[name], permuted[name]) for name in searches}
    return Validated(found, saved, variance, {**p, "best": p_value(max(found.values()), highest)}, permuted)


def p_value(found: float, permuted: Floats) -> float:
    """(1 + permuted at least as large) / (1 + permutations); NaN without permutations."""
    return (1 + int((permuted >= found - 1e-12).sum())) / (1 + len(permuted)) if len(permuted) else float("nan")


@dataclass(frozen=True)
class Permutation:
    """Exchanges whole clusters, so that what metaorders of a start, or starts of a cluster, share stays shared."""

    row: Ints
    """``[C, K, M]`` row of the k-th start of a cluster and each cell; -1 where there is none."""
    place: tuple[Ints, Ints, Ints]
    """Of each row, ``[N]`` each: cluster, number of its start there, cell."""

    @classmethod
    def of(cls, problem: Problem) -> Permutation:
        clusters, (_, cell) = problem.clusters, np.unique(problem.cell, return_inverse=True)
        starts, first = np.unique(problem.start, return_index=True)
        of_start = clusters[first]
        order = np.argsort(of_start, kind="stable")
        number = np.empty(len(starts), np.int64)
        number[order] = np.arange(len(starts)) - np.searchsorted(of_start[order], of_start[order])
        which = number[np.searchsorted(starts, problem.start)]
        cell = cell * (1 + np.max(again := _repeats(problem.start, cell))) + again
        row = np.full((clusters.max() + 1, number.max() + 1, cell.max() + 1), -1, np.int64)
        row[clusters, which, cell] = np.arange(len(clusters))
        return cls(row, (clusters, which, np.asarray(cell)))

    def draw(self, residual: Floats, rng: np.random.Generator) -> Floats:
        """``[N]`` the residual of the same cell in another cluster; of any cluster where that one lacks it."""
        clusters, which, cell = self.place
        source = self.row[rng.permutation(len(self.row))[clusters], which, cell]
        for c in np.unique(cell[source < 0]):
            lacking = np.flatnonzero((source < 0) & (cell == c))
            source[lacking] = rng.choice(np.flatnonzero(cell == c), len(lacking))
        return np.asarray(residual[source])


def _repeats(start: Ints, cell: Ints) -> Ints:
    """``[N]`` how many metaorders of the same start and cell come earlier: rollouts of one and the same."""
    order = np.lexsort((cell, start))
    new = np.r_[True, (np.diff(start[order]) != 0) | (np.diff(cell[order]) != 0)]
    at = np.arange(len(order))
    out = np.empty(len(order), np.int64)
    out[order] = at - np.maximum.accumulate(np.where(new, at, 0))
    return out


def left_out_gain(sums: Floats, weights: Floats) -> Floats:
    """``[B]`` gain of all terms over the base, each cluster foretold from the others (no search).

    Parameters
    ----------
    sums
        ``[C, 3 + P, 3 + P]`` products by cluster of 1, sqrt(Q/V), terms and impact.
    weights
        ``[B, C]`` of the clusters.

    Returns
    -------
    Squared errors less than those of the base, over the squared deviations from the mean; negative where the terms
    foretell worse than the base alone.
    """
    total = weighted(weights, sums)
    train = total[:, None] - weights[:, :, None, None] * sums  # [B, C, K, K]
    base = [0, 1, sums.shape[1] - 1]
    alone = _errors_of(train[..., base, :][..., base], sums[:, base][:, :, base])
    saved = (weights * (alone - _errors_of(train, sums))).sum(axis=1)
    return np.asarray(saved / (total[:, -1, -1] - total[:, 0, -1] ** 2 / total[:, 0, 0]))


def _errors_of(train: Floats, test: Floats) -> Floats:
    """``[B, C]`` squared errors on products ``[C, K, K]`` of least squares on each of ``[B, C, K, K]``."""
    fit = np.linalg.solve(firm(train[..., :-1, :-1]), train[..., :-1, -1:])[..., 0]
    v = np.concatenate([-fit, np.ones((*fit.shape[:-1], 1))], axis=-1)
    return np.asarray(np.einsum("bci,cij,bcj->bc", v, test, v, optimize=True))
