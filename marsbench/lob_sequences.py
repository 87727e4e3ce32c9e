"""Evidence of the task ``lob-bench``: real message sequences, and generated ones that continue the same past."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from marsbench.evidence import Evidence
from marsbench.lob_validity import sequence_scores
from marsbench.scores import Score
from marsbench.stats.lob_bench import Ints, LobSequence

MANY_DAYS = 10
"""From so many days on a day is a unit of inference; with fewer a real sequence with its generated ones is one."""


@dataclass(frozen=True)
class LobPair:
    """One real sequence, and everything that was generated for the same period."""

    name: str
    day: str
    """Instrument and date."""
    real: LobSequence
    generated: tuple[LobSequence, ...]
    conditioning: LobSequence | None = None
    """The messages before it, which the generator has seen; None where they are not known."""


@dataclass(frozen=True)
class LobSequences(Evidence):
    """P pairs, in time order."""

    pairs: tuple[LobPair, ...]
    tick: float = 100.0
    """One tick in units of price (1e-4 of the currency)."""
    floors: Mapping[str, float] = field(default_factory=dict)
    """Frozen floor values by score key; empty for folders."""
    notes: tuple[str, ...] = ()
    """What was left out while they were read, and what is short."""
    simulations: tuple[Score, ...] = ()
    """Validity of the simulations that the generated rows are taken from; empty for folders."""

    @cached_property
    def days(self) -> Ints:
        """Number of the day of each pair, ``[P]``."""
        names = {d: i for i, d in enumerate(dict.fromkeys(p.day for p in self.pairs))}
        return np.array([names[p.day] for p in self.pairs], np.int64)

    @cached_property
    def units(self) -> Ints:
        """Unit of inference of each pair, ``[P]``: 0, 1, ..."""
        return self.days if self.by_day else np.arange(len(self.pairs))

    @property
    def by_day(self) -> bool:
        """Whether the unit is the day."""
        return len(self.pairs) > 0 and int(self.days.max()) + 1 >= MANY_DAYS

    @property
    def unit_name(self) -> str:
        """What a unit is, for the label of intervals."""
        return "days" if self.by_day else "sequences"

    @property
    def unusable(self) -> str | None:
        """Why nothing can be compared; None where something can."""
        sides = {"real": [p.real for p in self.pairs], "generated": [s for p in self.pairs for s in p.generated]}
        empty = [
            f"none of the {len(all_)} {side} sequences holds a message"
            for side, all_ in sides.items()
            if not any(map(len, all_))
        ]
        return "; ".join(empty) or None

    def validity(self) -> tuple[Score, ...]:
        """Faults of the generated rows beside the real ones, and of the whole simulations where they are known."""
        return (*sequence_scores(self), *self.simulations)
