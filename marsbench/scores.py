"""What metrics return: scores with their floor, ceiling and interval, and the tables behind figures."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

_KEY = re.compile(r"[a-z0-9_\-]+(\.[a-z0-9_\-]+)+")

Group = Literal["facts", "distributions", "conditional", "response", "prediction", "impact", "validity", "cost"]
Direction = Literal["higher", "lower", "none"]

NOT_APPLICABLE = "not applicable"
"""How the reason of a score begins that the generator cannot have, whatever it does."""


OF_MIDS = "mid_"
"""How the family begins of scores that only price paths have, which lack the prices of trades that others are judged
on. They are shown and never rank."""


@dataclass(frozen=True)
class Score:
    """One number about one generator. Missing values are None with a reason, never a default.

    Raises
    ------
    ValueError
        If the key is not ``<family>.<quantity>[.<param>]`` in ``[a-z0-9_.-]``, or a value is missing
        without a reason.
    """

    key: str
    value: float | None
    group: Group
    direction: Direction = "higher"
    unit: str = "1"
    ci_low: float | None = None
    ci_high: float | None = None
    ci_method: str | None = None
    """How the interval was made and what its clusters are."""
    floor: float | None = None
    ceiling: float | None = None
    normalised: float | None = None
    """(value - floor) / (ceiling - floor), only where the score is informative."""
    informative: bool | None = None
    """Whether the interval of (ceiling - floor) excludes 0; None where there is no floor or ceiling."""
    n: int = 0
    """Observations behind the value (the smaller side of a comparison)."""
    clusters: int = 0
    """Independent units behind the interval."""
    reason: str | None = None
    """Why the value, or the interval, is missing."""
    replicates: tuple[float | None, ...] = ()
    """The value without unit g of inference, for each g (delete-one jackknife): what differences between
    generators are paired by. One vector for each score is the least that gives joint intervals of scores
    that depend on each other. Values per unit would not do: most scores are no means over units."""
    normalised_replicates: tuple[float | None, ...] = ()
    """The same of ``normalised``, floor and ceiling recomputed without unit g; empty where not informative."""
    replicate_units: str | None = None
    """Which units were left out, one after the other; replicates of other units cannot be paired."""

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ValueError(f"score key {self.key!r}: write <family>.<quantity>[.<param>] in [a-z0-9_.-]")
        for name in ("value", "ci_low", "ci_high", "floor", "ceiling", "normalised"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"score {self.key}: {name} is {number}; a missing number is None with a reason")
        if self.replicates and not self.replicate_units:
            raise ValueError(f"score {self.key}: replicates need replicate_units, the name of what was left out")
        if self.value is None and not self.reason:
            raise ValueError(f"score {self.key}: a missing value needs a reason")

    @property
    def applicable(self) -> bool:
        """False where the generator gives nothing that this could be computed from; unlike a value that is missing."""
        return self.value is not None or not (self.reason or "").startswith(NOT_APPLICABLE)

    def not_applicable(self, why: str) -> Self:
        """This score without any number, because the generator cannot have it."""
        return replace(
            self, value=None, ci_low=None, ci_high=None, ci_method=None, floor=None, ceiling=None, normalised=None,
            informative=None, n=0, reason=f"{NOT_APPLICABLE}: {why}", replicates=(), normalised_replicates=(),
            replicate_units=None,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """What one metric returns: scores, and the tables from which alone its figures are drawn."""

    scores: tuple[Score, ...]
    tables: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    """Name -> column -> values; columns of one table are equally long, missing numbers are None."""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keys = [s.key for s in self.scores]
        twice = {k for k in keys if keys.count(k) > 1}
        if twice:
            raise ValueError(f"scores with the same key: {sorted(twice)}")
        for name, table in self.tables.items():
            if len({len(column) for column in table.values()}) > 1:
                raise ValueError(f"table {name!r}: columns differ in length")
