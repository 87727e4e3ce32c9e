"""Drawing slots from logits by inverse distribution function, so that equal uniforms give paired draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sampling:
    """How far draws depart from the model's own distribution; the defaults do not."""

    temperature: float = 1.0
    """Logits are divided by it."""
    top_p: float = 1.0
    """Only the likeliest slots that together reach this probability are drawn (nucleus sampling)."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature {self.temperature}: write a number above 0 (1 is the model's own)")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p}: write a number above 0 and at most 1 (1 is the model's own)")

    def probabilities(self, logits: Floats) -> Floats:
        """``[k, n]``, rows summing to 1."""
        p: Floats = np.empty(logits.shape)
        _softmax(logits, self.temperature, p)
        if self.top_p < 1:
            _nucleus(p, self.top_p)
        return p


@njit(cache=True)
def _softmax(logits, temperature, out):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        highest, total = -np.inf, 0.0
        for j in range(out.shape[1]):
            out[i, j] = np.float64(logits[i, j]) / temperature
            highest = max(highest, out[i, j])
        for j in range(out.shape[1]):
            out[i, j] = np.exp(out[i, j] - highest)
            total += out[i, j]
        for j in range(out.shape[1]):
            out[i, j] /= total


@njit(cache=True)
def _nucleus(p, share):  # type: ignore[no-untyped-def]
    """Leave the likeliest slots of each row that together reach a share, of equal ones the first."""
    for i in range(p.shape[0]):
        before, kept = 0.0, 0.0
        for j in np.argsort(-p[i], kind="mergesort"):
            own = p[i, j]
            if before >= share:
                p[i, j] = 0.0
            before += own
            kept += p[i, j]
        for j in range(p.shape[1]):
            p[i, j] /= kept


@njit(cache=True)
def pick_one(weights, uniform):  # type: ignore[no-untyped-def]
    """Slot ``[n]`` where the cumulated weights pass a uniform's share of their sum."""
    target, passed, last = uniform * weights.sum(), 0.0, 0
    for j in range(len(weights)):
        passed += weights[j]
        if weights[j] > 0.0:
            last = j
            if passed > target:
                break
    return last


@njit(cache=True)
def pick(weights, uniforms):  # type: ignore[no-untyped-def]
    """``pick_one`` for each row of ``[k, n]``."""
    slots = np.empty(len(weights), np.int64)
    for i in range(len(weights)):
        slots[i] = pick_one(weights[i], uniforms[i])
    return slots


@njit(cache=True)
def allowed(p, mask):  # type: ignore[no-untyped-def]
    """Probabilities ``[k, n]`` of what is possible, and the mass ``[k]`` of what is not.

    Where the model gives no mass to anything possible, all that is possible is equally likely.
    """
    kept, lost = np.empty(p.shape), np.empty(len(p))
    for i in range(len(p)):
        total = 0.0
        for j in range(p.shape[1]):
            kept[i, j] = p[i, j] if mask[i, j] else 0.0
            total += kept[i, j]
        lost[i] = 1.0 - total
        if total <= 0.0:
            for j in range(p.shape[1]):
                kept[i, j] = 1.0 if mask[i, j] else 0.0
    return kept, lost
