"""Which factors explain market impact beyond the root of the size: sparse regression, validated by cluster.

Everything works on sums of products per cluster, because metaorders of one start share what nobody controls: whole
clusters are resampled, left out and permuted. A pre-trade factor is one number per start, so a hundred starts are a
hundred observations of it, however many metaorders there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BASE = 2
"""Columns that every model has: 1 and sqrt(Q/V)."""
LEAST_CLUSTERS = 6
"""For a search; its halves have three."""
ALIKE = 0.999
"""Terms that correlate by more, given the base, count as one."""
JITTER = 1e-10
"""Added to the diagonal of what is solved, relative to it, for columns that depend on each other."""
_ITERATIONS = 20


@dataclass(frozen=True)
class Settings:
    """How the sparse search goes."""

    scales: tuple[float, ...] = (2.0, 2.5, 3.0, 4.0)
    """Thresholds of a coefficient to choose from, in its standard errors by cluster."""
    ridge: float = 0.1
    """Ridge penalty, as a share of the mean diagonal of the products of scaled terms."""
    resamples: int = 50
    """Halves of the clusters, in pairs that complement each other."""
    inclusion: float = 0.8
    """A term is chosen that comes into the model in at least this share of them."""
    folds: int = 5
    """Of the cross-validation that chooses the threshold."""


@dataclass(frozen=True)
class Terms:
    """Candidates: standardised factors, and their products with the centred, standardised sqrt(Q/V).

    Centred, because a factor and its plain product correlate by more than .9; what both can say together is the same.
    """

    names: tuple[str, ...]
    """``[P]``: ``<factor>`` or ``<factor> x sqrt(Q/V)``."""
    factors: tuple[str, ...]
    """``[P]``: of which factor."""
    columns: Floats
    """``[N, P]``."""
    left_out: Mapping[str, str]
    """Factor -> why it is no candidate."""


def library(factors: Mapping[str, Floats], root_size: Floats) -> Terms:
    """Candidate terms of ``factors``, each ``[N]`` and finite.

    Left out are constants, and factors that the base or an earlier factor already is.

    Raises
    ------
    ValueError
        For a factor of another length, or with values that are not finite.
    """
    size = standardised(root_size)
    base = np.stack([np.ones_like(size), size], axis=1)
    kept: list[tuple[str, Floats, Floats]] = []
    left_out: dict[str, str] = {}
    for name, values in factors.items():
        if values.shape != root_size.shape or not np.isfinite(values).all():
            raise ValueError(f"factor {name!r} must be {root_size.shape} finite numbers, got {values.shape}")
        one = standardised(values)
        rest = one - base @ np.linalg.lstsq(base, one, rcond=None)[0]
        length = float(np.linalg.norm(rest))
        if not one.any():
            left_out[name] = "the same for every metaorder"
        elif length < np.sqrt((1 - ALIKE**2) * len(one)):
            left_out[name] = "the same as sqrt(Q/V)"
        elif same := [n for n, _, other in kept if abs(other @ rest) > ALIKE * length]:
            left_out[name] = f"the same as {same[0]}"
        else:
            kept.append((name, one, rest / length))
    names = [n for n, _, _ in kept]
    columns = [c for _, c, _ in kept]
    return Terms(
        (*names, *(f"{n} x sqrt(Q/V)" for n in names)),
        (*names, *names),
        np.stack([*columns, *(c * size for c in columns)], axis=1) if kept else np.zeros((len(size), 0)),
        left_out,
    )


def standardised(x: Floats) -> Floats:
    """Mean 0 and standard deviation 1; zeros for a constant."""
    centred, spread = x - x.mean(), x.std()
    return np.asarray(centred / spread if spread > 1e-12 * max(1.0, float(np.abs(x).max())) else np.zeros_like(x))


def products(columns: Floats, clusters: Ints) -> Floats:
    """Sums of products of ``columns`` ``[N, K]`` within each of C clusters, ``[C, K, K]``."""
    order = np.argsort(clusters, kind="stable")
    ends = np.searchsorted(clusters[order], np.arange(int(clusters.max()) + 2))
    rows = columns[order]
    return np.stack([rows[a:b].T @ rows[a:b] for a, b in pairwise(ends)])


@dataclass(frozen=True)
class Problem:
    """N metaorders: impact, size, candidates, and who belongs together."""

    impact: Floats
    """``[N]`` in units of volatility."""
    root_size: Floats
    """``[N]`` sqrt(Q/V)."""
    terms: Terms
    clusters: Ints
    """``[N]`` unit of inference, 0, 1, ..."""
    start: Ints
    """``[N]``."""
    cell: Ints
    """``[N]`` which of the metaorders of its start: agent, side and rank of size."""

    @property
    def design(self) -> Floats:
        """``[N, 2 + P]``: 1, standardised sqrt(Q/V), terms."""
        return np.column_stack([np.ones(len(self.impact)), standardised(self.root_size), self.terms.columns])

    def sums(self) -> Floats:
        """``[C, 3 + P, 3 + P]`` products of the design and, last, the impact."""
        return products(np.column_stack([self.design, self.impact]), self.clusters)


@dataclass(frozen=True)
class Selection:
    """What a sparse search chose."""

    scale: float
    """Threshold in standard errors, by cross-validation."""
    errors: Floats
    """``[P]`` standard error by cluster of each term alone beside the base."""
    inclusion: Floats
    """``[P]`` share of half-samples whose model has the term."""
    chosen: Bools
    """``[P]``."""
    coefficients: Floats
    """``[2 + P]`` least squares of the base and the chosen terms."""


def search(sums: Floats, rng: np.random.Generator, settings: Settings | None = None) -> Selection:
    """Choose terms by stability selection (Meinshausen and Buehlmann 2010) of thresholded least squares.

    Terms are scaled by their standard error by cluster, so that one threshold of STLSQ (Brunton, Proctor and Kutz
    2016) asks the same of each. Cross-validation by cluster chooses the threshold; a term is chosen that passes it in
    ``inclusion`` of the models of halves of the clusters, in complementary pairs (Shah and Samworth 2013).

    Parameters
    ----------
    sums
        ``[C, 3 + P, 3 + P]`` products by cluster of 1, sqrt(Q/V), terms and impact.

    Raises
    ------
    ValueError
        For fewer than ``LEAST_CLUSTERS`` clusters.
    """
    settings = settings or Settings()
    clusters, width = len(sums), sums.shape[1] - 1
    if clusters < LEAST_CLUSTERS:
        raise ValueError(f"{clusters} clusters are too few to search: {LEAST_CLUSTERS} are needed")
    if width == BASE:
        return Selection(np.nan, np.zeros(0), np.zeros(0), np.zeros(0, bool), least_squares(sums.sum(axis=0)))
    errors = term_errors(sums)
    scale = _chosen_scale(sums, errors, rng, settings)
    inclusion = (
        _models(weighted(_halves(clusters, settings.resamples, rng), sums), errors, scale, settings) != 0
    ).mean(axis=0)
    chosen = inclusion >= settings.inclusion
    keep = np.concatenate([np.ones(BASE, bool), chosen])
    return Selection(scale, errors, inclusion, chosen, least_squares(sums.sum(axis=0), keep))


def term_errors(sums: Floats) -> Floats:
    """``[P]`` jackknife standard error by cluster of each term's coefficient, alone beside the base."""
    clusters, total = len(sums), sums.sum(axis=0)
    gamma = np.linalg.solve(firm(total[:BASE, :BASE]), total[:BASE, BASE:])  # [2, P + 1]
    base, cross = sums[:, :BASE, :BASE], sums[:, :BASE, BASE:]
    own = np.einsum("cjj->cj", sums[:, BASE:, BASE:])[:, :-1]
    g = gamma[:, :-1]
    square = own - 2 * np.einsum("bj,cbj->cj", g, cross[:, :, :-1]) + np.einsum("bj,cbd,dj->cj", g, base, g)
    rest = cross[:, :, -1] - base @ gamma[:, -1]  # [C, 2] base times the residual of the impact
    score = sums[:, BASE:-1, -1] - np.einsum("cbj,b->cj", cross[:, :, :-1], gamma[:, -1]) - rest @ g
    all_square = np.maximum(square.sum(axis=0), 1e-300)
    slope = score.sum(axis=0) / all_square
    moved = (score - square * slope) / np.maximum(all_square - square, 1e-12 * all_square)
    return np.asarray(np.sqrt((clusters - 1) / clusters * (moved**2).sum(axis=0)))


def thresholded(xx: Floats, xy: Floats, threshold: float, ridge: Floats) -> Floats:
    """Sequentially thresholded ridge regression (STLSQ) of many products at once, unbiased on what is left.

    Parameters
    ----------
    xx, xy
        ``[B, P, P]`` and ``[B, P]`` products of terms with each other and with the impact.
    threshold
        Coefficients below it are dropped, and the rest fitted anew, until none is.
    ridge
        ``[B]`` penalty of the squared coefficients; least squares on the terms left at the end has none.

    Returns
    -------
    ``[B, P]`` coefficients, as pysindy's ``STLSQ`` finds from the rows behind the products.
    """
    mask = np.ones(xy.shape, bool)
    moving = np.arange(len(xy))
    for _ in range(_ITERATIONS):
        fitted = _masked(xx[moving], xy[moving], mask[moving], ridge[moving])
        large = np.abs(fitted) >= threshold
        changed = (large & mask[moving] != mask[moving]).any(axis=1)
        mask[moving] &= large
        moving = moving[changed]
        if not len(moving):
            break
    return _masked(xx, xy, mask, np.zeros(len(xy)))


def stlsq(columns: Floats, impact: Floats, threshold: float, ridge: float) -> Floats:
    """``[P]`` coefficients of pysindy's STLSQ on rows ``[N, P]``; zeros where nothing passes the threshold."""
    import warnings

    from pysindy import STLSQ

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparsity parameter is too big")
        return np.asarray(STLSQ(threshold=threshold, alpha=ridge).fit(columns, impact[:, None]).coef_[0], np.float64)


def sparse_fit(problem: Problem, found: Selection, settings: Settings | None = None) -> Floats:
    """``[P]`` pysindy's STLSQ on all metaorders at the threshold that was found: what one fit alone would keep."""
    if not len(found.errors):
        return np.zeros(0)
    settings = settings or Settings()
    design = problem.design
    both = np.column_stack([design[:, BASE:], problem.impact])
    rest = both - design[:, :BASE] @ np.linalg.lstsq(design[:, :BASE], both, rcond=None)[0]
    scaled = rest[:, :-1] * found.errors
    ridge = settings.ridge * float((scaled**2).sum() / len(found.errors))
    return stlsq(scaled, rest[:, -1], found.scale, ridge) * found.errors


def _masked(xx: Floats, xy: Floats, mask: Bools, ridge: Floats) -> Floats:
    """Solve for the terms in each mask, 0 for the others: ``[B, P]``. Only as wide as the widest mask."""
    out = np.zeros(xy.shape)
    widest = int(mask.sum(axis=1).max(initial=0))
    if not widest:
        return out
    front = np.argsort(~mask, axis=1, kind="stable")[:, :widest]  # the terms in the mask come first
    inside = np.take_along_axis(mask, front, 1)
    small = np.take_along_axis(np.take_along_axis(xx, front[:, :, None], 1), front[:, None, :], 2)
    small = np.where(inside[:, :, None] & inside[:, None, :], small, 0.0)
    at = np.arange(widest)
    diagonal = small[:, at, at]
    lift = ridge[:, None] + JITTER * diagonal.max(axis=1, keepdims=True)
    small[:, at, at] = np.where(inside, diagonal + lift, 1.0)
    right = np.where(inside, np.take_along_axis(xy, front, 1), 0.0)
    np.put_along_axis(out, front, np.linalg.solve(small, right[..., None])[..., 0], 1)
    return out


def _models(sums: Floats, errors: Floats, scale: float, settings: Settings) -> Floats:
    """``[B, P]`` coefficients of STLSQ in standard errors, from ``[B, 3 + P, 3 + P]`` products."""
    xx, xy = _beside_base(sums)
    xx, xy = xx * errors[:, None] * errors, xy * errors
    ridge = settings.ridge * np.einsum("bjj->bj", xx).mean(axis=1)
    return thresholded(xx, xy, scale, ridge)


def _beside_base(sums: Floats) -> tuple[Floats, Floats]:
    """Products of terms, and with the impact, of what the base leaves of them: ``[B, P, P]``, ``[B, P]``."""
    rest = sums[:, BASE:, :BASE] @ np.linalg.solve(firm(sums[:, :BASE, :BASE]), sums[:, :BASE, BASE:])
    left = sums[:, BASE:, BASE:] - rest
    return left[:, :-1, :-1], left[:, :-1, -1]


def _chosen_scale(sums: Floats, errors: Floats, rng: np.random.Generator, settings: Settings) -> float:
    """The threshold whose models foretell clusters that they were not fitted to best; the higher of equals."""
    folds = min(settings.folds, len(sums) // 2)
    fold = fold_labels(len(sums), folds, rng)
    train = weighted(np.asarray(fold[None, :] != np.arange(folds)[:, None], np.float64), sums)
    test = sums.sum(axis=0) - train
    loss = []
    for scale in settings.scales:
        keep = _models(train, errors, scale, settings) != 0
        fits = [least_squares(a, np.concatenate([np.ones(BASE, bool), k])) for a, k in zip(train, keep, strict=True)]
        loss.append(sum(float(squared_errors(b[None], f)[0]) for b, f in zip(test, fits, strict=True)))
    return settings.scales[int(np.flatnonzero(np.array(loss) <= min(loss) * (1 + 1e-12))[-1])]


def fold_labels(clusters: int, folds: int, rng: np.random.Generator) -> Ints:
    """``[C]`` fold of each cluster, as even as can be."""
    return rng.permutation(np.arange(clusters) % folds)


def _halves(clusters: int, resamples: int, rng: np.random.Generator) -> Floats:
    """``[B, C]`` 0 and 1: halves of the clusters, each followed by its complement."""
    first = np.argsort(rng.random(((resamples + 1) // 2, clusters)), axis=1) < clusters // 2
    return np.stack([first, ~first], axis=1).reshape(-1, clusters)[:resamples].astype(np.float64)


def weighted(weights: Floats, sums: Floats) -> Floats:
    return np.asarray(np.tensordot(weights, sums, 1))


def firm(xx: Floats) -> Floats:
    size = xx.shape[-1]
    return np.asarray(xx + JITTER * np.trace(xx, axis1=-2, axis2=-1)[..., None, None] / size * np.eye(size))


def least_squares(total: Floats, keep: Bools | None = None) -> Floats:
    """``[K - 1]`` coefficients on the columns kept, 0 on the others, from ``[K, K]`` products; the impact is last."""
    keep = np.ones(len(total) - 1, bool) if keep is None else keep
    out = np.zeros(len(total) - 1)
    out[keep] = np.linalg.solve(firm(total[:-1, :-1][np.ix_(keep, keep)]), total[:-1, -1][keep])
    return out


def squared_errors(sums: Floats, coefficients: Floats) -> Floats:
    """``[C]`` sum of squared residuals of each cluster, from its products ``[C, K, K]``."""
    v = np.append(-coefficients, 1.0)
    return np.asarray(v @ sums @ v)
