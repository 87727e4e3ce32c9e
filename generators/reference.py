"""``reference``: the reference market itself, continued from its hidden state. The oracle.

It knows at every start what nobody in the market knows (fundamental value, activity, metaorders under
way, who will cancel what), draws everything that is still to come anew, and reacts to agents as the
market does: their executions are one more large trader's. No generator can do better on this data set
except by luck, so its scores are what a score can reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marsbench.data.reference_market.session import ReferenceSession
from marsbench.data.reference_market.state import Snapshot
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import ORACLE, Artifact, Budget, Session, SessionGenerator, Start


class Reference(SessionGenerator):
    """The reference market from its true state, with fresh random numbers."""

    name = ORACLE
    version = 1
    reacts = True
    fits = False
    summary = "oracle: the reference market continued from its hidden state; runs on that data set alone"
    source = "marsbench.data.reference"

    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        """There is nothing to learn: the artifact is empty."""
        del budget
        folder.mkdir(parents=True, exist_ok=True)
        return Artifact.write(folder, generator=self.name, version=self.version, seed=seed, data=data)

    def load(self, artifact: Artifact) -> None:
        """Nothing was learned."""

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        for start in starts:
            if not isinstance(start.oracle, Snapshot):
                raise ValueError(
                    f"start {start.name} has no hidden state; `reference` runs on the data set `reference`"
                )
            lost = ~np.isin(start.book.resting["order_id"], np.concatenate(start.oracle.who))
            if lost.any():
                raise ValueError(
                    f"start {start.name}: {lost.sum()} of {len(lost)} resting orders belong to nobody in the hidden "
                    "state, so it is that of another market; remove the data set and build it again"
                )
        return ReferenceSession(
            [s.oracle for s in starts], [s.clock_ns for s in starts], rollouts, [(key, s.uid) for s in starts]
        )
