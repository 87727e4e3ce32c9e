"""A first-order Markov source of known entropy rate, and the smallest models that can learn it.

As a script it trains such a model, so that tests can kill it, continue it, or start it as several processes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from marsbench.learning.plan import TrainingPlan
from marsbench.learning.training import TrainingResult, leave, train

STATES = 8
LENGTH = 32


def transition() -> np.ndarray:
    """Transition probabilities ``[from, to]``, each row a different mixture of likely and rare."""
    raw = np.random.default_rng(1).exponential(size=(STATES, STATES)) ** 2 + 0.05
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))


def entropy_rate() -> float:
    """Entropy of the next token given the one before, in nats: what no model can beat."""
    matrix = transition()
    return float(-(stationary()[:, None] * matrix * np.log(matrix)).sum())


def stationary() -> np.ndarray:
    values, vectors = np.linalg.eig(transition().T)
    vector = np.real(vectors[:, np.argmax(np.real(values))])
    return np.asarray(vector / vector.sum())


@dataclass(frozen=True)
class MarkovBatches:
    """Sequences from the source, drawn by step."""

    seed: int = 0
    length: int = LENGTH
    wait_s: float = 0.0

    def batch(self, step: int, size: int) -> dict[str, np.ndarray]:
        time.sleep(self.wait_s)
        rng = np.random.default_rng([self.seed, step])
        tokens = np.empty((size, self.length + 1), np.int64)
        tokens[:, 0] = rng.choice(STATES, size=size, p=stationary())
        cumulative = transition().cumsum(axis=1)
        for t, u in enumerate(rng.random((self.length, size))):
            tokens[:, t + 1] = (cumulative[tokens[:, t]] < u[:, None]).sum(axis=1).clip(max=STATES - 1)
        return {"tokens": tokens[:, :-1], "next": tokens[:, 1:]}

    def describe(self) -> dict[str, Any]:
        return {"source": "markov", "seed": self.seed, "length": self.length}


class Tiny(nn.Module):
    """Two losses of each next token: is it in the upper half, and which is it there."""

    def __init__(self, width: int = 16, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Embedding(STATES, width)
        self.body = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Dropout(dropout), nn.LayerNorm(32))
        self.side = nn.Linear(32, 2)
        self.which = nn.Linear(32, STATES)

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        hidden, target = self.body(self.embed(batch["tokens"])), batch["next"]
        upper = target >= STATES // 2
        logits = self.which(hidden)
        outside = (torch.arange(STATES) >= STATES // 2) != upper[..., None]
        logits = logits.masked_fill(outside, float("-inf"))
        side = nn.functional.cross_entropy(self.side(hidden).flatten(0, 1), upper.long().flatten())
        return {"side": side, "which": nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())}


PLAN = TrainingPlan(steps=60, batch_size=8, learning_rate=1e-2, warm_up_steps=5, validate_every=20, checkpoint_every=15)


def held_out(batches: int = 2, size: int = 16) -> list[dict[str, np.ndarray]]:
    return [MarkovBatches(seed=99).batch(i, size) for i in range(batches)]


def model(seed: int = 0, dropout: float = 0.2) -> Tiny:
    torch.manual_seed(seed)
    return Tiny(dropout=dropout)


def fingerprint(trained: Tiny) -> str:
    """The weights, exactly."""
    return json.dumps({k: v.tolist() for k, v in trained.state_dict().items()})


def main() -> None:
    """Train, and write what came of it as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--wait", type=float, default=0.0)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--accumulate", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan = TrainingPlan(**{**vars(PLAN), "accumulate": options.accumulate})
    trained = model(dropout=options.dropout)
    points: list[int] = []
    result: TrainingResult = train(
        trained,
        MarkovBatches(wait_s=options.wait),
        held_out(),
        plan,
        seed=3,
        scratch=options.scratch,
        on_point=lambda step, values: points.append(step),
    )
    if points:  # the main process
        values = {"weights": fingerprint(trained), "curves": result.curves, "processes": result.processes}
        options.out.write_text(json.dumps({**values, "best_step": result.best_step, "points": points}))
    leave()


if __name__ == "__main__":
    main()
