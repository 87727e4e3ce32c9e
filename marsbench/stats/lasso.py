"""Least squares with a penalty on the sum of absolute weights, from the normal equations alone."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_RANK = 1e-12
_TOLERANCE = 1e-6
_ROUGHLY = 1e-2
"""Violations of a minimum, as shares of the penalty: where the other method is asked, and where a warning is due."""


def lasso(gram: Floats, right: Floats, penalties: Floats) -> Floats:
    """``[P, p]``: minimisers of w' gram w - 2 right' w + penalty |w|_1 for each of P penalties, 0 among them allowed.

    ``gram`` ``[p, p]`` and ``right`` ``[p]`` are means over observations of products of features, and of features and
    aims. With half the penalty as its alpha, because it halves the mean squared error, scikit-learn's ``Lasso`` has
    the same minimum. Minimisers are piecewise linear in the penalty, so that least-angle regression gives all of them
    exactly; coordinate descent was measured not to converge where features are correlated to .9999. It takes over
    where least angles fail: with features that are the same.
    """
    out = np.zeros((len(penalties), len(right)))
    positive = penalties > 0
    if positive.any() and right.any():
        asked = penalties[positive]
        found = _least_angles(gram, right, asked)
        if _optimality(gram, right, asked, found) > _TOLERANCE:
            found = _descended(*_root(gram, right), asked)
            if (off := _optimality(gram, right, asked, found)) > _ROUGHLY:
                warnings.warn(
                    f"lasso: weights violate the conditions of a minimum by {off:.2g} of the penalty", stacklevel=2
                )
        out[positive] = found
    if not positive.all():
        rows, aim = _root(gram, right)
        out[~positive] = np.linalg.lstsq(rows, aim)[0]
    return out


def _root(gram: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Rows ``[k, p]`` and aims ``[k]`` of a regression with this Gram matrix and right side, k its rank."""
    values, vectors = np.linalg.eigh(gram)
    keep = values > max(values[-1] * _RANK, 1e-300)
    root, vectors = np.sqrt(values[keep]), vectors[:, keep]
    return root[:, None] * vectors.T, (vectors.T @ right) / root


def _least_angles(gram: Floats, right: Floats, penalties: Floats) -> Floats:
    from sklearn import config_context
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lars_path_gram

    with warnings.catch_warnings(), config_context(skip_parameter_validation=True):  # which takes as long as the fit
        warnings.simplefilter("ignore", ConvergenceWarning)  # what it finds is looked at
        alphas, _, path = lars_path_gram(
            right.copy(), gram.copy(), n_samples=1, method="lasso", alpha_min=penalties.min() / 2, max_iter=10_000
        )
    return np.stack([np.interp(penalties / 2, alphas[::-1], row[::-1]) for row in path], axis=1)


def _optimality(gram: Floats, right: Floats, penalties: Floats, found: Floats) -> float:
    """By how much weights ``[P, p]`` violate the conditions of a minimum, as a share of the penalty."""
    slope, by = 2 * (found @ gram - right), penalties[:, None]
    wrong = np.where(found != 0, np.abs(slope + by * np.sign(found)), np.maximum(np.abs(slope) - by, 0))
    return float((wrong / by).max())


def _descended(rows: Floats, aim: Floats, penalties: Floats) -> Floats:
    """By coordinate descent in these rows ``[k, p]`` and aims ``[k]``."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lasso_path

    alphas = penalties / (2 * len(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what it finds is looked at
        found = lasso_path(np.asfortranarray(rows), aim, alphas=alphas, tol=1e-9, max_iter=200_000)[1].T
    out = np.zeros(found.shape)
    out[np.argsort(-alphas, kind="stable")] = found  # the order in which they come back
    return out
