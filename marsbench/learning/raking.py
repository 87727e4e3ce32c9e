"""Additive biases on logits with which every slot comes as often as it should, in each cell of several partitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SWEEPS = 2
"""Through all partitions; more would follow the noise of few draws."""
PRIOR = 6000.0
"""A cell with so many draws moves half way in a sweep. Draws of one simulation depend on each other, and what is drawn
next depends on what was."""
MOST = 3.0
"""No bias is larger."""


@dataclass(frozen=True)
class Draws:
    """What ``n`` draws were made from."""

    cells: NDArray[np.int32]
    """``[n, P]``, in which cell of each partition, counted through."""
    logits: NDArray[np.float32]
    """``[n, slots]`` without biases; -inf where nothing could be drawn."""

    @classmethod
    def joined(cls, parts: Any) -> Draws:
        """Several, one after the other."""
        every = list(parts)
        return cls(np.concatenate([d.cells for d in every]), np.concatenate([d.logits for d in every]))

    def shares(self, bias: Floats, partition: int) -> tuple[Floats, Floats]:
        """How often each slot is drawn in the cells of a partition ``[C, slots]``, and how many draws lie there."""
        sums = _sums(self.cells, self.logits, bias, partition)
        count = sums.sum(axis=1)
        return sums / np.maximum(count, 1.0)[:, None], count


def rake(draws: Draws, wanted: Floats, bias: Floats) -> Floats:
    """Better biases ``[C, slots]`` than ``bias``.

    Every partition in turn is corrected by the logarithm of how often a slot should come over how often it does
    (iterative proportional fitting), less where a cell has few draws.

    Parameters
    ----------
    wanted
        ``[C, slots]`` counts of what should come; cells without any are left alone.
    """
    known = wanted.sum(axis=1)
    goal, own = wanted / np.maximum(known, 1.0)[:, None], bias.copy()
    for _ in range(SWEEPS):
        for p in range(draws.cells.shape[1]):
            share, count = draws.shares(own, p)
            there = np.minimum(count, known)
            weight = (there / (there + PRIOR))[:, None]
            step = np.log1p(weight * (np.divide(goal, share, out=np.ones_like(goal), where=share > 0) - 1.0))
            own = np.clip(own + step - (share * step).sum(axis=1, keepdims=True), -MOST, MOST)
    return own


def apart(draws: Draws, wanted: Floats, bias: Floats) -> float:
    """Total variation between how often slots come and should, averaged over draws and partitions."""
    known, total, partitions = wanted.sum(axis=1), 0.0, draws.cells.shape[1]
    goal = wanted / np.maximum(known, 1.0)[:, None]
    for p in range(partitions):
        share, count = draws.shares(bias, p)
        total += float((0.5 * np.abs(share - goal).sum(axis=1) * count)[known > 0].sum()) / len(draws.cells)
    return float(total / partitions)


@njit(cache=True)
def _sums(cells, logits, bias, partition):  # type: ignore[no-untyped-def]
    n, slots = logits.shape
    out, p = np.zeros(bias.shape), np.empty(slots)
    for i in range(n):
        highest = -np.inf
        for s in range(slots):
            p[s] = logits[i, s]
            for c in range(cells.shape[1]):
                p[s] += bias[cells[i, c], s]
            highest = max(highest, p[s])
        if highest == -np.inf:
            continue
        total = 0.0
        for s in range(slots):
            p[s] = np.exp(p[s] - highest)
            total += p[s]
        own = cells[i, partition]
        for s in range(slots):
            out[own, s] += p[s] / total
    return out
