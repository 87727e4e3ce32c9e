"""What the training loop asks of a model and of its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Arrays = Mapping[str, NDArray[Any]]
"""A batch: every array ``[size, ...]``, the first row of each belonging to the first sequence."""
OnPoint = Callable[[int, Mapping[str, float]], None]
"""Called with the step and the values of a point of the curves, on the main process."""


@dataclass(frozen=True)
class Player:
    """Weights that learn at a pace of their own."""

    weights: Sequence[nn.Parameter]
    rate: float = 1.0
    """Learning rate as a multiple of the plan's."""
    betas: tuple[float, float] | None = None
    """Memory of the averages of the gradient and its square; None: the plan's."""


class Trainable(Protocol):
    """An ``nn.Module`` that knows its losses.

    Where it has a method ``players() -> Sequence[Player]``, each of them learns at its own pace, in one process; a
    weight that gets no gradient in a step is left alone there. ``unit``, if it has one, names what its losses are in.
    """

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean nats per order by field, over all orders of the batch; their sum is minimised.

        Micro-batches and processes are averaged with equal weight: sequences of a batch are equally long.
        """
        ...


class Batches(Protocol):
    """Training data by step."""

    def batch(self, step: int, size: int) -> Arrays:
        """The global batch of update ``step`` (0 is the first), ``[size, length, ...]``; a pure function of both."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """What the batches are made of (JSON-like); another description is another training."""
        ...


def count_orders(batch: Arrays) -> int:
    """Orders in a batch: size x length of its longest array."""
    return max(int(np.prod(array.shape[:2])) for array in batch.values())
