"""The joint head in rollouts: scores of all 49,152 tokens, of which only those with the drawn interval are kept.

Tokens with the same interval are every sixteenth; they go through the head together, so that their scores are still in
the processor's cache when they are summed up.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from marsbench.learning.vocabulary import SIZES

ROWS = 128
"""Rows whose scores are in memory at a time."""
INTERVALS = SIZES[3]


def interval_scores(hidden: Tensor, weight: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Of each interval, and of what comes with it.

    Parameters
    ----------
    hidden
        The decoder's, ``[k, d]``.
    weight
        The head's, ``[49152, d]``.
    temperature
        Scores of tokens are divided by it.

    Returns
    -------
    intervals
        ``[k, 16]``, the logarithm of the sum of exp(score) over all tokens with an interval.
    scores
        ``[16, k, 3072]``, by interval: scores of types, prices and volumes in the order of the tokens.
    """
    parts = _by_interval(weight)
    scores = hidden.new_empty(INTERVALS, len(hidden), len(weight) // INTERVALS)
    intervals = hidden.new_empty(len(hidden), INTERVALS)
    for slot, own in enumerate(parts):
        found = torch.matmul(hidden, own.t(), out=scores[slot])
        if temperature != 1:
            found /= temperature
        highest = found.amax(1, keepdim=True)
        intervals[:, slot] = (found - highest).exp_().sum(1).log_() + highest[:, 0]
    return intervals, scores


def scores_given(hidden: Tensor, weight: Tensor, temperature: float, slots: NDArray[np.int64]) -> Tensor:
    """Scores ``[k, 3072]`` of types, prices and volumes with the interval of each row."""
    parts = _by_interval(weight)
    scores = hidden.new_empty(len(hidden), len(weight) // INTERVALS)
    for slot in np.unique(slots):
        rows = torch.as_tensor(np.flatnonzero(slots == slot), device=hidden.device)
        scores[rows] = torch.matmul(hidden[rows], parts[slot].t()) / temperature
    return scores


def _by_interval(weight: Tensor) -> tuple[Tensor, ...]:
    """The rows ``[3072, d]`` of each interval."""
    return weight.view(-1, INTERVALS, weight.shape[1]).unbind(1)
