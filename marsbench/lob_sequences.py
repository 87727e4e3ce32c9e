"""Evidence of the task ``lob-bench``: real message sequences, and generated ones that continue the same past."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import stats

from marsbench.evidence import Evidence
from marsbench.scores import Score
from marsbench.stats.lob_bench import ADD, EXECUTE, Ints, LobSequence

MANY_DAYS = 10
"""From so many days on a day is a unit of inference; with fewer a real sequence with its generated ones is one."""


MORE_ROWS = 0.01
"""A share of faulty rows may exceed replay's by so much."""
SURE = 0.99
"""How sure it must be that replay's own share of sequences lies below the limit."""


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

    def validity(self) -> tuple[Score, ...]:
        """Shares of faulty rows, and of sequences without a move, among what was generated.

        The limit of a share of rows is replay's and a hundredth; that of a share of sequences, which are few, is the
        upper end of the one-sided 99% Clopper-Pearson interval of replay's.
        """
        generated = [s for p in self.pairs for s in p.generated if len(s)]
        real = [p.real for p in self.pairs if len(p.real)]
        scores = []
        for name, unit, count in _FAULTS:
            bad, of = (sum(x) for x in zip(*map(count, generated), strict=True)) if generated else (0, 0)
            own, rows = (sum(x) for x in zip(*map(count, real), strict=True)) if real else (0, 0)
            limit = _limit(name, own, rows) if rows else None
            none = None if of else "no generated rows"
            scores.append(
                Score(
                    f"validity.lob_{name}", bad / of if of else None, "validity", "lower", unit=unit, floor=limit, n=of,
                    clusters=int(self.units.max(initial=-1)) + 1, reason=none,
                )
            )  # fmt: skip
        return tuple(scores)


def _limit(name: str, own: int, of: int) -> float:
    if name != "frozen":
        return own / of + MORE_ROWS
    return float(stats.beta.ppf(SURE, own + 1, of - own)) if own < of else 1.0


def _crossed(s: LobSequence) -> tuple[int, int]:
    return int((s.book[:, 0, 0] < s.book[:, 0, 2]).sum()), len(s)


def _locked(s: LobSequence) -> tuple[int, int]:
    return int((s.book[:, 0, 0] == s.book[:, 0, 2]).sum()), len(s)


def _one_sided(s: LobSequence) -> tuple[int, int]:
    return int((~np.isfinite(s.mid)).sum()), len(s)


def _time_back(s: LobSequence) -> tuple[int, int]:
    return int((np.diff(s.time_ns) < 0).sum()), len(s)


def _bad_size(s: LobSequence) -> tuple[int, int]:
    return int((((s.event >= ADD) & (s.event <= EXECUTE)) & (s.size <= 0)).sum()), len(s)


def _frozen(s: LobSequence) -> tuple[int, int]:
    mid = s.mid[np.isfinite(s.mid)]
    return int(len(mid) < 2 or (mid == mid[0]).all()), 1


_FAULTS = (
    ("crossed", "share of rows", _crossed),
    ("locked", "share of rows", _locked),
    ("one_sided", "share of rows", _one_sided),
    ("time_back", "share of rows", _time_back),
    ("bad_size", "share of rows", _bad_size),
    ("frozen", "share of sequences", _frozen),
)
