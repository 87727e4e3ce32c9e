"""A generator of price paths for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import Artifact, Budget, PathGenerator, Start
from marsbench.simulation.randomness import Streams


class RandomWalk(PathGenerator):
    """Steps of half a tick, up or down."""

    name = "random-walk"
    fits = False

    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        raise AssertionError("it has nothing to learn")

    def load(self, artifact: Artifact) -> None:
        raise AssertionError("it has nothing to load")

    def paths(self, starts: Sequence[Start], rollouts: int, minutes: int, *, key: int) -> NDArray[np.float64]:
        rows = np.arange(len(starts) * rollouts)
        streams = Streams.of(key, [s.uid for s in starts], rollouts)
        steps = np.where(streams.uniforms(rows, np.zeros(len(rows), np.int64), 1, minutes) < 0.5, -0.5, 0.5)
        mids = np.array([s.mid_ticks for s in starts])[:, None, None]
        return np.asarray(mids + steps.reshape(len(starts), rollouts, minutes).cumsum(axis=-1))
