"""How a model is trained: one frozen plan, checked when it is made. Needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Precision = Literal["no", "bf16", "fp16"]
Loss = Literal["wasserstein", "cross-entropy"]


@dataclass(frozen=True)
class TrainingPlan:
    """The settings of a training run that change what comes out of it."""

    steps: int
    """Updates of the weights."""
    batch_size: int
    """Sequences per step, over all processes and micro-batches."""
    accumulate: int = 1
    """Micro-batches that each process divides its share of a step into; saves memory, changes only rounding."""
    learning_rate: float = 1e-3
    """Peak of the learning rate, reached at the end of the warm-up."""
    min_learning_rate_ratio: float = 0.1
    """Where the cosine ends at the last step, as a share of the peak."""
    warm_up_steps: int = 100
    """Steps over which the learning rate rises linearly from zero."""
    weight_decay: float = 0.1
    """Decoupled decay of weight matrices; biases, norms and embeddings do not decay."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Memory of AdamW's averages of the gradient and of its square."""
    clip_norm: float = 1.0
    """Largest norm of the gradient of all weights together."""
    precision: Precision = "no"
    """Arithmetic of forward and backward pass; "no" is float32. On CPUs without bf16 units, bf16 is the slower one."""
    compile: bool = False
    """Run the losses through ``torch.compile``."""
    largest_rise: float = 1.0
    """Losses that stay above those of the beginning by more than this for a hundred steps have diverged."""
    validate_every: int = 500
    """Steps between two points of the curves: losses on the validation data, and the average over the steps since."""
    checkpoint_every: int = 500
    """Steps between two states on disk, from which an interrupted run goes on."""
    patience: int | None = None
    """Training ends early after so many points without a better validation loss; None: never."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises
        ------
        ValueError
            Naming the field, its value and what is allowed.
        """
        for name in ("steps", "batch_size", "accumulate", "validate_every", "checkpoint_every"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("learning_rate", 0 < self.learning_rate < math.inf, "a positive number")
        self._require("min_learning_rate_ratio", 0 <= self.min_learning_rate_ratio <= 1, "from 0 to 1")
        self._require("warm_up_steps", 0 <= self.warm_up_steps < self.steps, f"from 0 to below {self.steps} steps")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more")
        self._require("betas", len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas), "two from 0 to below 1")
        self._require("clip_norm", 0 < self.clip_norm < math.inf, "a positive number")
        self._require("largest_rise", 0 < self.largest_rise < math.inf, "a positive number")
        self._require("precision", self.precision in get_args(Precision), f"one of {', '.join(get_args(Precision))}")
        self._require("patience", self.patience is None or self.patience >= 1, "at least 1, or None")
        self._require("batch_size", self.batch_size % self.accumulate == 0, f"a multiple of {self.accumulate}")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise ValueError(f"training plan: {name} {getattr(self, name)!r}: write {allowed}")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of update ``step`` (0 is the first): linear warm-up, then half a cosine."""
        if step < self.warm_up_steps:
            return self.learning_rate * (step + 1) / self.warm_up_steps
        along = (step - self.warm_up_steps) / max(self.steps - 1 - self.warm_up_steps, 1)
        low = self.min_learning_rate_ratio
        return self.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(along, 1.0))))


@dataclass(frozen=True)
class Rivalry:
    """How the two players learn from each other."""

    loss: Loss = "wasserstein"
    critic_steps: int = 5
    """Updates of the critic for one of the maker."""
    penalty: float = 10.0
    """Weight of the gradient penalty (``wasserstein``)."""
    critic_rate: float = 1.0
    """Learning rate of the critic as a multiple of the maker's."""
    maker_betas: tuple[float, float] | None = None
    critic_betas: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Check every value.

        Raises
        ------
        ValueError
            Naming the field.
        """
        if self.loss not in get_args(Loss):
            raise ValueError(f"loss {self.loss!r}: choose one of {', '.join(get_args(Loss))}")
        if self.critic_steps < 1 or self.penalty < 0 or self.critic_rate <= 0:
            raise ValueError(f"{self}: critic_steps from 1, penalty from 0, critic_rate above 0")
