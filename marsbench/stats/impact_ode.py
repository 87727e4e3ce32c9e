"""The learned ODE of market impact: dY/dt = sum_ij W_ij X_i F_j(t), with m factors X and n decay functions F.

The right side does not hold Y, so that the solution is linear in W,

    Y(t) = Y(t0) + sum_ij W_ij X_i (G_j(t) - G_j(t0)),    G_j the integral of F_j,

and the loss of the paper, mean squared error + penalty |W|_1, is a lasso: it has one minimum, which is found
exactly from sums over clusters. ``impact_ode_solver`` does it the paper's way, by gradients through an ODE solver, as
a check of that. Source: MarS (ICLR 2025), equation 2, Figure 9b and appendix K.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.impact_decays import PAPER, Decay, basis
from marsbench.stats.intervals import LEVEL, Interval, cluster_interval
from marsbench.stats.lasso import lasso

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CONSTANT = "1"
"""Name of the factor that is 1 for every trajectory: what all of them have in common."""
FOLDS = 10
"""Clusters are held out in at most so many groups."""
PENALTIES = np.geomspace(1, 1e-4, 25)
"""Tried by cross-validation, as shares of the least penalty at which every weight is 0."""


@dataclass(frozen=True)
class Trajectories:
    """N trajectories of impact on one grid of T times.

    Raises
    ------
    ValueError
        If shapes disagree, a number is not finite, or the times are not ascending from above 0 (the integral of 1/t
        has no value at 0).
    """

    paths: Floats
    """``[N, T]`` impact Y at each time; the first column is the initial value Y(t0)."""
    factors: Floats
    """``[N, m]``, each in its own unit."""
    times: Floats
    """``[T]`` minutes."""
    cluster: Ints
    """``[N]`` unit of inference, any labels."""
    names: tuple[str, ...]
    """Of the m factors."""

    def __post_init__(self) -> None:
        count, length = len(self.paths), len(self.times)
        wanted = {"paths": (count, length), "factors": (count, len(self.names)), "cluster": (count,)}
        for name, shape in wanted.items():
            found = getattr(self, name)
            if found.shape != shape:
                raise ValueError(f"{name} {found.shape}: with these paths, times and names it must be {shape}")
            if not np.isfinite(found).all():
                raise ValueError(f"{name} holds numbers that are not finite: leave those trajectories out")
        if length < 2 or not (np.isfinite(self.times).all() and (np.diff(self.times) > 0).all()):
            raise ValueError(f"times {self.times}: write at least two, ascending, in minutes")
        if self.times[0] <= 0:
            raise ValueError(f"t0 = {self.times[0]:g}: must be above 0, where 1/t has an integral; start at 1 minute")
        if not count:
            raise ValueError("no trajectories: at least one is needed")

    @cached_property
    def label(self) -> Ints:
        """``[N]`` number of the cluster: 0, 1, ... C - 1."""
        return np.asarray(np.unique(self.cluster, return_inverse=True)[1], np.int64)

    @property
    def clusters(self) -> int:
        return int(self.label.max()) + 1


@dataclass(frozen=True)
class LearnedOde:
    """Weights, with all that is needed to apply them to other trajectories."""

    weights: Floats
    """``[m, n]``, on standardised factors, in units of Y; with ``constant`` the last row is that of the factor 1."""
    names: tuple[str, ...]
    """Of the rows."""
    decays: tuple[Decay, ...]
    """Of the columns."""
    mean: Floats
    """``[m]``: what was subtracted from each factor, the factor 1 apart; 0 where they are not centred."""
    scale: Floats
    """``[m]``: by what it was then divided."""
    penalty: float
    centre: bool
    constant: bool

    def standardised(self, factors: Floats) -> Floats:
        """``[N, m]`` factors in the units of the weights, the factor 1 appended where there is one."""
        found = (np.asarray(factors, np.float64) - self.mean) / self.scale
        return np.concatenate([found, np.ones((len(found), 1))], axis=1) if self.constant else found

    def paths(self, factors: Floats, start: Floats, times: Floats) -> Floats:
        """``[N, T]`` solution of the ODE for these factors ``[N, m]`` from Y(t0) = ``start`` ``[N]``, in closed form.

        Raises
        ------
        ValueError
            For t0 <= 0, or factors that are not those of the fit.
        """
        factors, times = np.asarray(factors, np.float64), np.asarray(times, np.float64)
        if factors.ndim != 2 or factors.shape[1] != len(self.mean):
            raise ValueError(f"factors {factors.shape}: the ODE was fitted to {len(self.mean)} of them")
        if times[0] <= 0:
            raise ValueError(f"t0 = {times[0]:g}: must be above 0, where 1/t has an integral")
        drive = self.standardised(factors) @ self.weights
        return np.asarray(np.asarray(start)[:, None] + drive @ basis(times, self.decays).T)


@dataclass(frozen=True)
class Sums:
    """Sums over the trajectories of each of C clusters: a fit without some of them needs no look at the data."""

    squares: Floats
    """``[C, m + 1, m + 1]`` of (1, factors)."""
    cross: Floats
    """``[C, m + 1, n]`` of (1, factors) and the projections of Y - Y(t0) on the basis."""
    energy: Floats
    """``[C]`` of (Y - Y(t0))^2."""
    points: Floats
    """``[C]`` values of Y after t0."""
    basis: Floats
    """``[n, n]`` products of the basis, over the times of one trajectory."""
    shift: Floats
    unit: Floats
    """``[m]``: here factors are (X - shift) / unit, so that sums of squares lose no digits."""
    centre: bool
    constant: bool

    @classmethod
    def of(cls, data: Trajectories, decays: Sequence[Decay], *, centre: bool = True, constant: bool = True) -> Sums:
        moved = data.paths[:, 1:] - data.paths[:, :1]
        part = basis(data.times, decays)[1:]
        shift = data.factors.mean(axis=0) if centre else np.zeros(data.factors.shape[1])
        spread = np.sqrt(((data.factors - shift) ** 2).mean(axis=0))
        unit = _scale(spread, 1e-9 * np.abs(data.factors).max(axis=0))
        x = np.concatenate([np.ones((len(moved), 1)), (data.factors - shift) / unit], axis=1)
        return cls(
            squares=by_cluster(x[:, :, None] * x[:, None, :], data.label),
            cross=by_cluster(x[:, :, None] * (moved @ part)[:, None, :], data.label),
            energy=by_cluster((moved**2).sum(axis=1), data.label),
            points=by_cluster(np.full(len(moved), float(len(part))), data.label),
            basis=part.T @ part, shift=shift, unit=unit, centre=centre, constant=constant,
        )  # fmt: skip

    @property
    def clusters(self) -> int:
        return len(self.energy)

    def standardiser(self, weights: Floats) -> Floats:
        """``[m, m + 1]``: takes (1, factors) to the standardised factors of these clusters, ``weights`` ``[C]``."""
        squares = np.tensordot(weights, self.squares, 1)
        square = np.diag(squares)[1:] / squares[0, 0]
        mean = squares[0, 1:] / squares[0, 0] if self.centre else np.zeros(len(square))
        scale = _scale(np.sqrt(np.maximum(square - mean**2, 0)), 1e-6)
        found = np.concatenate([-(mean / scale)[:, None], np.diag(1 / scale)], axis=1)
        return np.concatenate([found, np.eye(1, len(mean) + 1)]) if self.constant else found

    def equations(self, weights: Floats, standardiser: Floats) -> tuple[Floats, Floats, float]:
        """Gram matrix ``[p, p]``, right side ``[p]`` and energy, means over points; p = m n, row by row of W."""
        points = weights @ self.points
        squares, cross = (np.tensordot(weights, s, 1) for s in (self.squares, self.cross))
        gram = np.kron(standardiser @ squares @ standardiser.T, self.basis) / points
        return gram, (standardiser @ cross).ravel() / points, float(weights @ self.energy / points)


def by_cluster(values: Floats, label: Ints) -> Floats:
    """``[C, ...]`` sums of ``[N, ...]`` values over those of each label."""
    out = np.zeros((int(label.max()) + 1, *values.shape[1:]))
    np.add.at(out, label, values)
    return out


def _scale(spread: Floats, least: Floats | float) -> Floats:
    """The spread to divide by: 1 for a factor that does not vary, which so becomes 0 and has no weight."""
    return np.where(spread > least, spread, 1.0)


def fold_labels(clusters: int, folds: int = FOLDS) -> Ints:
    """``[C]`` fold of each cluster: one after the other, whole clusters only."""
    return np.arange(clusters) % min(folds, clusters)


def choose_penalty(sums: Sums, weights: Floats, *, folds: int = FOLDS) -> float:
    """The penalty with the least squared error on clusters left out, among those of weight 1 (``weights`` ``[C]``).

    Raises
    ------
    ValueError
        With fewer than 2 clusters.
    """
    there = np.flatnonzero(weights)
    if len(there) < 2:
        raise ValueError(f"{len(there)} cluster: cross-validation needs at least 2; write a penalty instead")
    _, right, _ = sums.equations(weights, sums.standardiser(weights))
    penalties = PENALTIES * max(2 * float(np.abs(right).max()), 1e-300)
    label, total = fold_labels(len(there), folds), np.zeros(len(penalties))
    for k in range(int(label.max()) + 1):
        held = np.zeros(sums.clusters)
        held[there[label == k]] = 1.0
        standard = sums.standardiser(weights - held)
        gram, right, _ = sums.equations(weights - held, standard)
        found = lasso(gram, right, penalties)
        gram, right, energy = sums.equations(held, standard)
        errors = energy - 2 * found @ right + np.einsum("ap,pq,aq->a", found, gram, found)
        total += errors * (held @ sums.points)
    return float(penalties[int(np.argmin(total))])


def fit(
    data: Trajectories,
    *,
    decays: Mapping[str, Decay] = PAPER,
    penalty: float | None = None,
    centre: bool = True,
    constant: bool = True,
) -> LearnedOde:
    """The learned ODE: minimiser of the mean over trajectories and times of (Y - model)^2, plus penalty |W|_1.

    Parameters
    ----------
    decays
        Any dictionary of decay functions.
    penalty
        In squared units of Y over units of W; None chooses it by cross-validation over whole clusters.
    centre
        Standard factors are (X - mean) / standard deviation; without, X / root mean square. The level of a factor that
        hardly varies, such as the mid price, would otherwise be a second constant.
    constant
        Whether a factor 1 is appended; the penalty holds for it as for all. With centred factors it is what all
        trajectories have in common, and leaving it out would say that the average trajectory stays where it is. The
        paper's form is ``centre=False, constant=False``.

    Raises
    ------
    ValueError
        For a negative penalty, or without one for fewer than 2 clusters.
    """
    if penalty is not None and not penalty >= 0:
        raise ValueError(f"penalty {penalty}: must be 0 or more, or None to choose it by cross-validation")
    sums = Sums.of(data, tuple(decays.values()), centre=centre, constant=constant)
    everything = np.ones(sums.clusters)
    chosen = choose_penalty(sums, everything) if penalty is None else penalty
    return fit_sums(sums, everything, chosen, data.names, tuple(decays.values()))


def fit_sums(
    sums: Sums, weights: Floats, penalty: float, names: tuple[str, ...], decays: tuple[Decay, ...]
) -> LearnedOde:
    """The learned ODE of some clusters, ``weights`` ``[C]``."""
    standard = sums.standardiser(weights)
    gram, right, _ = sums.equations(weights, standard)
    found = lasso(gram, right, np.array([penalty]))[0].reshape(len(standard), len(decays))
    m = len(names)
    scale = 1 / np.diagonal(standard[:m, 1:])
    mean = -standard[:m, 0] * scale
    return LearnedOde(
        weights=found, names=(*names, CONSTANT) if sums.constant else names, decays=decays,
        mean=sums.shift + sums.unit * mean, scale=sums.unit * scale,
        penalty=penalty, centre=sums.centre, constant=sums.constant,
    )  # fmt: skip


def weight_interval(data: Trajectories, ode: LearnedOde, *, level: float = LEVEL) -> Interval:
    """Intervals ``[m, n]`` of the weights: Student's t over a delete-group jackknife of clusters.

    The lasso and the standardisation are repeated without each group, at the penalty of ``ode``. An interval is
    about the weight that the same penalty gives with endless data, and covers that. It is no interval of the true
    weight: the penalty draws weights to 0 and moves them between decay functions that are alike. At a penalty chosen
    by cross-validation, about half of the intervals of weights other than 0 were measured to cover the true one; of
    a fit with ``penalty=0`` they cover it as stated.
    """
    sums = Sums.of(data, ode.decays, centre=ode.centre, constant=ode.constant)

    def refitted(weights: Floats) -> Floats:
        return np.stack([fit_sums(sums, w, ode.penalty, data.names, ode.decays).weights for w in weights])

    return cluster_interval(refitted, sums.clusters, level=level)
