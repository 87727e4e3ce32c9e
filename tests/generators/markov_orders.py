"""Orders from a first-order Markov chain of types, with prices that go with the type: a source that is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marsbench.learning.order_stream import WIDTH

SWITCH = np.array([[0.7, 0.1, 0.2], [0.1, 0.7, 0.2], [0.45, 0.45, 0.1]])
"""From each type (ask, bid, cancel) to the next."""
PRICES = np.array([[0.6, 0.3, 0.1, 0.0], [0.1, 0.3, 0.6, 0.0], [0.0, 0.5, 0.0, 0.5]])
"""Of four price slots, by type."""
VOLUMES = np.array([0.8, 0.2])
LENGTH = 16


def chain(rng: np.random.Generator, rows: int, length: int = LENGTH + 1) -> np.ndarray:
    """Tokens ``[rows, length, 4]``."""
    tokens = np.zeros((rows, length, 4), np.int64)
    types = rng.integers(3, size=rows)
    for t in range(length):
        tokens[:, t, 0] = types
        tokens[:, t, 1] = _draw(rng, PRICES[types])
        types = _draw(rng, SWITCH[types])
    tokens[..., 2] = rng.choice(2, size=(rows, length), p=VOLUMES)
    tokens[..., 3] = rng.choice(3, size=(rows, length))
    return tokens


def _draw(rng: np.random.Generator, p: np.ndarray) -> np.ndarray:
    return (p.cumsum(1) < rng.random(len(p))[:, None]).sum(1).clip(max=p.shape[1] - 1)


def batch_of(tokens: np.ndarray) -> dict[str, Any]:
    """As readers take it: nothing is known of the book."""
    rows, length = tokens.shape[:2]
    features = np.zeros((rows, length, WIDTH), np.float32)
    return {"tokens": tokens.astype(np.uint8), "features": features, "group": np.zeros(rows, np.int64)}


def tensors(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: torch.as_tensor(values) for name, values in batch.items()}


class MarkovOrders:
    """Training batches from the chain, by step."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def batch(self, step: int, size: int) -> dict[str, Any]:
        return batch_of(chain(np.random.default_rng([self.seed, step]), size))

    def describe(self) -> Mapping[str, Any]:
        return {"source": "Markov orders", "seed": self.seed}


def pairs(tokens: np.ndarray) -> np.ndarray:
    """Frequencies of each type with the one that follows it, ``[9]``."""
    both = tokens[:, :-1, 0] * 3 + tokens[:, 1:, 0]
    return np.asarray(np.bincount(both.ravel(), minlength=9) / both.size)


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).sum() / 2)
