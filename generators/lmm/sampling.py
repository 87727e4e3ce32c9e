"""Drawing slots from logits by inverse distribution function, so that equal uniforms give paired draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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
        scaled = logits / self.temperature
        p: Floats = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        if self.top_p < 1:
            order = np.argsort(-p, axis=1, kind="stable")
            ranked = np.take_along_axis(p, order, 1)
            beyond = np.cumsum(ranked, axis=1) - ranked >= self.top_p
            np.put_along_axis(p, order, np.where(beyond, 0.0, ranked), 1)
            p /= p.sum(axis=1, keepdims=True)
        return p


def pick(weights: Floats, uniforms: Floats) -> Ints:
    """Slot of each row ``[k, n]`` where its cumulated weights pass its uniform's share of their sum."""
    cumulative = np.cumsum(weights, axis=1)
    at = (cumulative <= (uniforms * cumulative[:, -1])[:, None]).sum(axis=1)
    last = weights.shape[1] - 1 - (weights[:, ::-1] > 0).argmax(axis=1)
    slots: Ints = np.minimum(at, last)
    return slots


def allowed(p: Floats, mask: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Probabilities of what is possible, and the mass ``[k]`` of what is not.

    Where the model gives no mass to anything possible, all that is possible is equally likely.
    """
    kept = np.where(mask, p, 0.0)
    lost = 1.0 - kept.sum(axis=1)
    none = kept.sum(axis=1) <= 0
    kept[none] = mask[none]
    return kept, lost
