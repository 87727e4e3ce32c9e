"""Overlap coefficient of two histograms (MarS's distribution similarity), and its sampling bias."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def overlap(p: Floats, q: Floats) -> Floats:
    """``OVL = sum_b min(p_b, q_b) = 1 - total variation`` over the last axis, in [0, 1]; 1 is the same law.

    Counts are normalised here; NaN where a side is empty. Biased down in finite samples even for one
    law (``null_overlap``), so it is read beside replay against replay at the same n.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        p, q = p / p.sum(axis=-1, keepdims=True), q / q.sum(axis=-1, keepdims=True)
    return np.asarray(np.minimum(p, q).sum(axis=-1))


def null_overlap(p: Floats, n1: int, n2: int) -> float:
    """Expected overlap of two independent samples of one law with bin probabilities ``p``.

    ``1 - sqrt(2 / pi) / 2 sqrt(1 / n1 + 1 / n2) sum sqrt(p (1 - p))``: the normal approximation of each
    bin's mean absolute difference.
    """
    p = np.asarray(p, np.float64) / np.sum(p)
    return float(1 - 0.5 * np.sqrt(2 / np.pi) * np.sqrt(1 / n1 + 1 / n2) * np.sqrt(p * (1 - p)).sum())
