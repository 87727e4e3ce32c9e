"""Evidence of the task ``forecasting``: three classes of what follows a start, as foretold and as it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import Ceiling, Evidence
from marsbench.questions import Target
from marsbench.scores import Score
from marsbench.simulation.contracts import Start

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Forecasts(Evidence):
    """S starts, T targets, R rollouts. Classes are 0 (down, calm), 1 (middle), 2 (up, lively), -1 where missing."""

    starts: tuple[Start, ...]
    targets: tuple[Target, ...]
    observed: Ints
    """``[S, T]``."""
    training_shares: Floats
    """``[T, 3]`` share of each class in the training periods, by which the edges were frozen."""
    before: Ints
    """``[S, T]`` class of the same number over the minutes before the start."""
    votes: Ints | None = None
    """``[S, R, T]`` class of each rollout, of a simulation."""
    stated: Floats | None = None
    """``[S, T, 3]`` probabilities, of a forecaster; NaN where it states none."""
    seconds_per_start: float | None = None
    """CPU time of a forecaster; of rollouts the result's cost says it."""
    single_day: bool = False
    ceilings: Mapping[str, Ceiling] = field(default_factory=dict)
    simulations: tuple[Score, ...] = ()
    """Validity of the simulations that the classes are taken from."""

    def __post_init__(self) -> None:
        if (self.votes is None) == (self.stated is None):
            raise ValueError("forecasts are either votes of rollouts or stated probabilities, exactly one of them")

    def validity(self) -> tuple[Score, ...]:
        return self.simulations

    @cached_property
    def clusters(self) -> Ints:
        """Unit of inference of each start, ``[S]``: 0, 1, ..."""
        names = {c: i for i, c in enumerate(dict.fromkeys(s.cluster for s in self.starts))}
        return np.array([names[s.cluster] for s in self.starts], np.int64)
