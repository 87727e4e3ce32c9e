"""A third party's generator that must be trained: which side comes after which, learned by a tiny torch model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from toy_plugin import _WalkSession

from marsbench.learning.plan import TrainingPlan
from marsbench.simulation.contracts import Artifact, Session, SessionGenerator, Start, Trained, Work


class ToyLearner(Trained, SessionGenerator):
    name = "toy-learner"
    summary = "one order every four seconds, after hours of training"
    by_default = False

    def __init__(self, steps: int = 20, lots: int = 1, broken: bool = False) -> None:
        self.steps = steps
        self.lots = lots
        self.broken = broken
        self.size = 0

    def parameters(self) -> Mapping[str, Any]:
        return {"steps": self.steps, "lots": self.lots, "broken": self.broken}

    def training_parameters(self) -> Mapping[str, Any]:
        return {"steps": self.steps, "broken": self.broken}

    def train(self, dataset: Any, folder: Path, *, seed: int, work: Work) -> Artifact:
        import os

        import torch

        from marsbench.learning.checkpoints import Card, save_model
        from marsbench.learning.training import train

        torch.set_num_threads(1)
        torch.manual_seed(seed)
        plan = TrainingPlan(self.steps, 4, warm_up_steps=2, validate_every=5, checkpoint_every=5)
        days = [dataset.trajectory(p) for p in dataset.split("train")]
        sides = np.concatenate([day.orders["kind"] for day in days]).astype(np.int64) % 2
        batches = _Sides(sides, float(os.environ.get("TOY_STEP_S", "0")))
        model = _model(self.broken)
        result = train(
            model, batches, [batches.batch(0, 8)], plan, seed=seed, scratch=work.scratch, say=work.say,
            on_point=work.on_point,
        )  # fmt: skip
        result.write_curves(folder)
        card = Card("A toy", self.summary, work.command, seed=seed, losses=result.best)
        save_model(folder, model, {"steps": self.steps}, card=card)
        return Artifact.write(
            folder, generator=self.name, version=self.version, seed=seed, data=days,
            dataset_hash=dataset.content_hash, key=work.key,
        )  # fmt: skip

    def load(self, artifact: Artifact) -> None:
        from marsbench.learning.checkpoints import load_model

        load_model(artifact.folder, _model())
        self.size = 100 * self.lots

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        return _WalkSession(starts, rollouts, key, self.size)


class _Sides:
    """Stretches of the sequence of sides."""

    def __init__(self, sides: Any, step_s: float) -> None:
        self.sides, self.step_s = sides, step_s

    def batch(self, step: int, size: int) -> dict[str, Any]:
        time.sleep(self.step_s)
        first = np.random.default_rng(step).integers(len(self.sides) - 17, size=size)
        rows = self.sides[first[:, None] + np.arange(17)]
        return {"now": rows[:, :-1], "next": rows[:, 1:]}

    def describe(self) -> dict[str, Any]:
        return {"sides": len(self.sides)}


def _model(broken: bool = False) -> Any:
    """Made here, not at import: listing generators must not wait for torch."""
    from torch import nn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(2, 8)
            self.head = nn.Linear(8, 2)

        def losses(self, batch: Any) -> Any:
            logits = self.head(self.table(batch["now"]))
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch["next"].flatten())
            return {"side": loss * (float("nan") if broken and self.training else 1.0)}

    return Model()
