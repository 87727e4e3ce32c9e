"""Maximum likelihood for Hawkes processes with given decay rates, with a penalty that sets kernels to 0.

Since the decay rates are given, the log likelihood is concave in baselines and kernels and falls apart into one problem
per type; a weighted l1 penalty on the kernels (Hansen, Reynaud-Bouret, Rivoirard 2015; Bacry, Bompaire, Gaiffas, Muzy
2020) keeps both true. What it selects is fitted again without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.linalg.blas import dsyrk
from scipy.optimize import nnls

from marsbench.stats.hawkes import (
    FLAT,
    Design,
    Hawkes,
    Record,
    Season,
    design,
    likelihood_of,
    spectral_radius,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_BRANCHING = 0.95
"""Largest branching ratio that a fitted model keeps."""
LEAST_EVENTS = 50
"""A type with fewer events in the data gets a baseline and no kernels."""
PENALTIES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""What is tried: theory has sqrt(2 log P), 2.8 for the 49 parameters of 16 types and 3 decay rates."""
WORSE = 1e-4
"""A log likelihood per event is smaller if by more than that."""
MOST_ITERATIONS = 100
TOLERANCE = 1e-10
"""The fit stops where a step would improve the log likelihood per event by less."""
RIDGE, LEAST_SHARE = 1e-12, 1e-9
"""Added to the curvature, of its largest diagonal entry, for rounding; smallest share of a baseline."""
NOTHING = 1e-60
"""What is left of an event long ago, over the mean; less is 0, since products of such numbers slow the processor."""


@dataclass(frozen=True)
class Fit:
    """A model with how it was found."""

    model: Hawkes
    log_likelihood: float
    """Of the model as it is kept."""
    poisson_log_likelihood: float
    """Of the best model without kernels, by type."""
    found_radius: float
    """Branching ratio of the maximum of the likelihood, children weighted by their mean factor in the data, before it
    was scaled back. Where all factors are 1 it is the model's ``radius``."""
    scaled: float
    """Factor on all kernels that brought that ratio to ``MOST_BRANCHING``; 1 where nothing was done."""
    counts: Ints
    """``[D]`` events."""
    kernels: int
    """So many of the D D B children numbers are not 0."""
    iterations: int
    """Largest number over the types."""
    converged: bool


def fit(
    records: Sequence[Record],
    decays: Floats,
    dimension: int,
    *,
    season: Season = FLAT,
    mirror: Ints | None = None,
    penalty: float = 0.0,
    most_branching: float = MOST_BRANCHING,
    least_events: int = LEAST_EVENTS,
) -> Fit:
    """The process of largest likelihood with given decay rates, among those with the kernels that a penalty leaves.

    Per type a concave problem under bounds, solved with Newton steps in the shares of the type's events that each
    parameter explains (they sum to 1 at the maximum, so that the expected number of events equals the observed one).
    With a penalty it is solved twice. First minus the log likelihood per event, plus ``penalty sum_p w_p share_p`` over
    kernels: ``w_p`` is the standard deviation of the slope of the former in ``share_p`` where there are no kernels, by
    its quadratic variation, so that a kernel enters if its slope there is that many standard deviations from 0. The
    kernels that are not 0 are then fitted without a penalty (post-lasso, Belloni and Chernozhukov 2013), which undoes
    its bias. Where the branching ratio comes out above ``most_branching``, all kernels are scaled back to it by one
    factor and the baselines raised so that the expected numbers still hold; the result says so.

    Parameters
    ----------
    records
        Periods; memory goes with 16 (1 + D B) bytes per event.
    mirror
        ``[D]``, the type that each is the mirror image of (an involution): ``n_ij = n_mirror(i)mirror(j)`` is imposed.
    penalty
        0 for none; its best value is found by ``held_out``.
    least_events
        A type (with its image) with fewer events gets a baseline alone; it still causes others.

    Raises
    ------
    ValueError
        If there is no event, a decay rate is not positive, a penalty negative, or the mirror no involution.
    """
    image = np.arange(dimension) if mirror is None else np.asarray(mirror, np.int64)
    decays = np.asarray(decays, np.float64)
    if len(decays) == 0 or (decays <= 0).any() or not np.array_equal(image[image], np.arange(dimension)):
        raise ValueError(f"decay rates must be positive and a mirror its own inverse; got {decays}, {image}")
    if not penalty >= 0:
        raise ValueError(f"a penalty must not be negative, got {penalty}")
    return _fit(design(records, decays, dimension, season), decays, image, penalty, most_branching, least_events)


def held_out(
    records: Sequence[Record],
    later: Sequence[Record],
    decays: Floats,
    dimension: int,
    *,
    season: Season = FLAT,
    mirror: Ints | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> list[tuple[float, float, Fit]]:
    """Fits with ascending penalties, until two in a row make the likelihood of later data smaller.

    Each with its penalty and the log likelihood per event of the later data. Season and factors of the records are
    given and should come from the earlier data too.
    """
    decays = np.asarray(decays, np.float64)
    image = np.arange(dimension) if mirror is None else np.asarray(mirror, np.int64)
    early, late = (design(part, decays, dimension, season) for part in (records, later))
    out: list[tuple[float, float, Fit]] = []
    for penalty in penalties:
        found = _fit(early, decays, image, penalty, MOST_BRANCHING, LEAST_EVENTS)
        out.append((penalty, likelihood_of(found.model.flat, late)[0] / max(len(late.types), 1), found))
        values = [value for _, value, _ in out]
        if len(out) > 2 and values[-1] < values[-2] - WORSE and values[-2] < values[-3] - WORSE:
            break
    return out


def _fit(data: Design, decays: Floats, image: Ints, penalty: float, most_branching: float, least: int) -> Fit:
    kinds = len(data.exposure)
    if len(data.types) == 0:
        raise ValueError("a Hawkes process cannot be fitted to no events")
    swap = np.concatenate([[0], 1 + (image[:, None] * len(decays) + np.arange(len(decays))).ravel()])
    flat, most, converged = np.zeros_like(data.exposure), 0, True
    pooled, counts = np.zeros_like(data.exposure), np.bincount(data.types, minlength=kinds)
    for i in range(kinds):
        if image[i] < i:
            flat[i], pooled[i] = flat[image[i]][swap], pooled[image[i]][swap]
            continue
        parts, pooled[i] = [data.at[data.types == i]], data.exposure[i]
        if image[i] != i:
            parts.append(data.at[data.types == image[i]][:, swap])
            pooled[i] = data.exposure[i] + data.exposure[image[i]][swap]
        flat[i], steps, done = _fit_type(np.concatenate(parts), pooled[i], penalty, least)
        most, converged = max(most, steps), converged and done
    both = np.where(image == np.arange(kinds), counts, counts + counts[image])
    return _kept(flat, data, pooled, both, decays, most_branching, most, converged)


def _fit_type(at: Floats, exposure: Floats, penalty: float, least: int) -> tuple[Floats, int, bool]:
    """Parameters ``[P]`` of one type; iterations; whether they converged."""
    count = len(at)
    theta = np.zeros(len(exposure))
    used = np.flatnonzero(exposure > 0)
    if count < least or len(used) < 2:
        theta[0] = count / exposure[0] if exposure[0] > 0 else 0.0
        return theta, 0, True
    scale = count / exposure[used]
    scaled = np.ascontiguousarray(at[:, used] * scale)
    scaled[scaled < NOTHING] = 0.0
    steps, done = 0, True
    if penalty > 0:
        seen = scaled[scaled[:, 0] > 0]
        weights = np.sqrt(((seen / seen[:, :1]) ** 2).mean(axis=0) / count)
        weights[0] = 0.0
        share, steps, done = _minimise(scaled, 1.0 + penalty * weights)
        chosen = np.flatnonzero((share > 0) | (np.arange(len(used)) == 0))
        used, scale, scaled = used[chosen], scale[chosen], np.ascontiguousarray(scaled[:, chosen])
    share, more, well = _minimise(scaled, np.ones(len(used)))
    theta[used] = share / share.sum() * scale
    return theta, max(steps, more), done and well


def _minimise(scaled: Floats, cost: Floats) -> tuple[Floats, int, bool]:
    """Shares ``[P]`` with the smallest ``cost @ share - mean log(scaled @ share)``; iterations; whether they converged.

    Proximal Newton (Lee, Sun, Saunders 2014): the quadratic model of each step is solved under the bounds, as a least
    squares problem of P unknowns (Lawson and Hanson), so that zeros are exact.
    """
    count, parameters = scaled.shape
    share = np.full(parameters, 0.5 / max(parameters - 1, 1))
    share[0] = 0.5 if parameters > 1 else 1.0
    value, at = _value(scaled, cost, share)
    for step in range(MOST_ITERATIONS):
        ratio = scaled / at[:, None]
        slope = cost - ratio.mean(axis=0)
        half = dsyrk(1.0 / count, ratio.T)  # the upper triangle; many times faster than ratio.T @ ratio in numpy's BLAS
        half[np.diag_indices(parameters)] += RIDGE * half.diagonal().max()
        root = cholesky(half)
        aim = root @ share - solve_triangular(root, slope, trans="T")
        target = nnls(root, aim, maxiter=30 * parameters)[0]
        target[0] = max(target[0], LEAST_SHARE)
        move = target - share
        gain = -float(slope @ move)
        if gain < TOLERANCE:
            return share, step, True
        length = 1.0
        while True:
            new, levels = _value(scaled, cost, share + length * move)
            if new <= value - 0.1 * length * gain:
                break
            length *= 0.5
            if length < 1e-10:
                return share, step, gain < 1e3 * TOLERANCE
        share, value, at = share + length * move, new, levels
    return share, MOST_ITERATIONS, False


def _value(scaled: Floats, cost: Floats, share: Floats) -> tuple[float, Floats]:
    """``cost @ share - mean log(levels)`` and the levels."""
    levels = scaled @ share
    if not levels.min() > 0:
        return np.inf, levels
    return float(cost @ share - np.log(levels).mean()), levels


def _kept(
    flat: Floats, data: Design, exposure: Floats, counts: Ints, decays: Floats, most: float, steps: int, converged: bool
) -> Fit:
    """The model with its branching ratio held below a bound, and what was found on the way."""
    kinds = len(flat)
    weight = np.divide(data.exposure, data.whole, out=np.ones_like(flat), where=data.whole > 0)
    found = spectral_radius((flat * weight)[:, 1:].reshape(kinds, kinds, -1).sum(axis=2))
    scaled = min(1.0, most / found) if found > 0 else 1.0
    if scaled < 1:
        flat = flat.copy()
        flat[:, 1:] *= scaled
        rest = counts - (flat[:, 1:] * exposure[:, 1:]).sum(axis=1)
        flat[:, 0] = np.divide(rest, exposure[:, 0], out=np.zeros(kinds), where=exposure[:, 0] > 0)
    own = np.bincount(data.types, minlength=kinds)
    return Fit(
        model=Hawkes(flat[:, 0].copy(), flat[:, 1:].reshape(kinds, kinds, -1).copy(), decays),
        log_likelihood=likelihood_of(flat, data)[0],
        poisson_log_likelihood=_poisson(data, own),
        found_radius=found,
        scaled=scaled,
        counts=own,
        kernels=int((flat[:, 1:] > 0).sum()),
        iterations=steps,
        converged=converged,
    )


def poisson(records: Sequence[Record], dimension: int, season: Season = FLAT, *, mirror: Ints | None = None) -> Hawkes:
    """The process of largest likelihood without kernels: a baseline per type, times season and factors."""
    data = design(records, np.ones(1), dimension, season)
    counts, exposure = np.bincount(data.types, minlength=dimension), data.exposure[:, 0]
    if mirror is not None:
        counts, exposure = counts + counts[mirror], exposure + exposure[mirror]
    base = np.divide(counts, exposure, out=np.zeros(dimension), where=exposure > 0)
    return Hawkes(base, np.zeros((dimension, dimension, 1)), np.ones(1))


def _poisson(data: Design, counts: Ints) -> float:
    """Log likelihood of the baselines alone at their best."""
    rates = np.divide(counts, data.exposure[:, 0], out=np.zeros(len(counts)), where=data.exposure[:, 0] > 0)
    at = data.at[:, 0] * rates[data.types]
    return float(np.log(at[at > 0]).sum() - counts.sum())
