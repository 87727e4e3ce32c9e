"""Three classes by terciles of replay, and agreement between predicted and observed classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MISSING = -1
"""Class of a missing value."""


def tercile_edges(reference: Floats) -> Floats:
    """``[2]``: low is ``v <= e0``, high is ``v > e1``. NaN without values.

    Where many values tie with a quantile they go to the side that brings the share nearer to a
    third; classes of tied data can still be unequal, or empty.
    """
    x = np.sort(np.asarray(reference, np.float64).ravel())
    x = x[np.isfinite(x)]
    if not x.size:
        return np.full(2, np.nan)
    edges = []
    for share in (1 / 3, 2 / 3):
        q = np.quantile(x, share, method="inverted_cdf")
        upto, below = (np.searchsorted(x, q, side) / len(x) for side in ("right", "left"))
        edges.append(q if abs(upto - share) <= abs(below - share) else np.nextafter(q, -np.inf))
    return np.array(edges)


def classify(values: Floats, edges: Floats) -> Ints:
    """0 low, 1 middle, 2 high, ``MISSING`` for NaN; ``edges[..., 2]`` broadcast against the values."""
    values = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):
        found = (values > edges[..., 0]).astype(np.int64) + (values > edges[..., 1])
    return np.where(np.isnan(values) | np.isnan(edges).any(axis=-1), MISSING, found)


def confusion(predicted: Ints, observed: Ints) -> Floats:
    """Counts ``[3, 3]``, observed class first; pairs with a missing side are left out."""
    ok = (predicted >= 0) & (observed >= 0)
    return np.bincount(3 * observed[ok] + predicted[ok], minlength=9).reshape(3, 3).astype(np.float64)


def vote_shares(votes: Ints) -> Floats:
    """Share of each class among the most frequent of the votes ``[..., R]``, ``[..., 3]``.

    A tie is shared equally: the expected outcome of breaking it at random. All 0 without votes.
    """
    counts = np.stack([(votes == c).sum(axis=-1) for c in range(3)], axis=-1)
    top = (counts == counts.max(axis=-1, keepdims=True)) & (counts > 0)
    return np.asarray(top / np.maximum(top.sum(axis=-1, keepdims=True), 1))


def accuracy(matrix: Floats) -> Floats:
    """Share of agreement of confusion matrices ``[..., 3, 3]``, in [0, 1]; NaN if empty."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum(axis=(-2, -1)))


def kappa(matrix: Floats) -> Floats:
    """Cohen's kappa ``(p_o - p_e) / (1 - p_e)`` of ``[..., 3, 3]``: 0 is chance, 1 perfect; NaN if p_e is 1."""
    with np.errstate(invalid="ignore", divide="ignore"):
        p = matrix / matrix.sum(axis=(-2, -1), keepdims=True)
        expected = (p.sum(axis=-1) * p.sum(axis=-2)).sum(axis=-1)
        value = (np.trace(p, axis1=-2, axis2=-1) - expected) / (1 - expected)
    return np.where(expected < 1 - 1e-12, value, np.nan)
