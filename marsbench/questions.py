"""What is asked about the minutes after a moment: targets, and the classes that training periods freeze for them.

The task ``forecasting`` asks, generators of forecasts answer, and both take the classes from here: terciles (or what
the label says) of each instrument, over every clock minute of its latest training days from which the horizon fits
into trading without a break in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from marsbench.labels import LABELS, Mids, realised_volatility, shares
from marsbench.market.rules import MINUTE, MatchingRules
from marsbench.market.trajectory import Trajectory
from marsbench.stats.classes import classify, tercile_edges

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KINDS = ("trend", "volatility")
TRAINING_DAYS = 20
"""So many of an instrument's latest training days freeze the classes."""


@dataclass(frozen=True)
class Target:
    """One number about the minutes after a start, of which the class is foretold."""

    kind: str
    """``trend``, the move of the mid price, or ``volatility``, realised."""
    minutes: int

    @property
    def key(self) -> str:
        return f"{self.kind}.{self.minutes}m"


def targets_up_to(minutes: int, kinds: Sequence[str] = KINDS) -> tuple[Target, ...]:
    """Each kind over horizons of 1, 2, ... minutes."""
    return tuple(Target(kind, k) for kind in kinds for k in range(1, minutes + 1))


def clocks_within(
    rules: MatchingRules, start_ns: int, end_ns: int, minutes: int, step_ns: int = MINUTE
) -> NDArray[np.int64]:
    """Clock times in ``[start_ns, end_ns]``, multiples of a step, from which so many minutes fit into trading without
    a break in them."""
    horizon = minutes * MINUTE
    clocks = np.arange(-(-start_ns // step_ns) * step_ns, end_ns - horizon + 1, step_ns)
    fits = np.zeros(len(clocks), bool)
    for phase in rules.continuous:
        fits |= (phase.start_ns <= clocks) & (clocks + horizon <= phase.end_ns)
    return clocks[fits]


def timed_labels() -> list[str]:
    """Labels that count in minutes, which is what can be asked for."""
    return [name for name, label in LABELS.items() if label.unit == "minutes"]


def numbers(label: str, targets: Sequence[Target], mids: Mids, at: Any) -> Floats:
    """``[m, T]``: what targets are about, after times of trading ``[m]``; NaN where the path ends too soon."""
    found = [
        LABELS[label].moves(mids, at, t.minutes) if t.kind == "trend" else realised_volatility(mids, at, t.minutes)
        for t in targets
    ]
    return np.stack(found, axis=-1)


@dataclass(frozen=True)
class Question:
    """Targets with the edges of their classes by instrument; classes are 0, 1, 2 from low to high, -1 where unknown."""

    label: str
    """How a trend is measured."""
    targets: tuple[Target, ...]
    edges: Mapping[str, Floats]
    """Instrument -> ``[T, 2]``."""
    training_shares: Floats
    """``[T, 3]`` share of each class in the training periods."""

    @classmethod
    def freeze(cls, label: str, targets: Sequence[Target], training: Iterable[Trajectory]) -> Self:
        """Take the classes from training periods.

        Raises
        ------
        ValueError
            If the label is unknown or does not count in minutes.
        """
        return cls.of(label, targets, ((p.instrument, training_numbers(label, targets, p)) for p in training))

    @classmethod
    def of(cls, label: str, targets: Sequence[Target], training: Iterable[tuple[str, Floats]]) -> Self:
        """The same from ``training_numbers`` of each training period, with the name of its instrument."""
        found: dict[str, list[Floats]] = {}
        for name, own in training:
            found.setdefault(name, []).append(own)
        rows = {name: np.concatenate(parts) for name, parts in found.items()}
        edges = {name: _edges(label, targets, own) for name, own in rows.items()}
        classes = [classify(own, edges[name]) for name, own in rows.items()]
        together = np.concatenate(classes) if classes else np.zeros((0, len(targets)), np.int64)
        return cls(label, tuple(targets), edges, np.stack([shares(column) for column in together.T]))

    def classes_after(self, period: Trajectory, clocks: Ints) -> Ints:
        """``[m, T]``: what came after clock times of a period."""
        found = numbers_after(self.label, self.targets, period, clocks, Mids.of(period))
        return classify(found, self.edges[period.instrument])

    def columns(self, asked: Question, who: str) -> list[int | None]:
        """Where each target of another question stands in this one, None where it does not.

        Raises
        ------
        ValueError
            If the other one means other classes by a target of the same name.
        """
        if asked.label != self.label:
            raise ValueError(
                f"{who} was fitted for trends by label {self.label!r}, the task asks for {asked.label!r}; write "
                f"label={asked.label} for one of them"
            )
        found = [self.targets.index(t) if t in self.targets else None for t in asked.targets]
        for name, edges in asked.edges.items():
            own = self.edges.get(name)
            same = own is not None and all(
                np.array_equal(own[i], edges[j], equal_nan=True) for j, i in enumerate(found) if i is not None
            )
            if not same:
                raise ValueError(
                    f"{who} was fitted for other classes of {name} than the task asks for; both must take them from "
                    "the same training days"
                )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "label": self.label,
            "targets": [[t.kind, t.minutes] for t in self.targets],
            "edges": {name: edges.tolist() for name, edges in self.edges.items()},
            "training_shares": self.training_shares.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Back from ``to_dict``."""
        return cls(
            values["label"],
            tuple(Target(kind, minutes) for kind, minutes in values["targets"]),
            {name: np.array(edges) for name, edges in values["edges"].items()},
            np.array(values["training_shares"]),
        )


def training_numbers(label: str, targets: Sequence[Target], period: Trajectory) -> Floats:
    """``[m, T]`` after every clock minute of a period, NaN where a target's horizon does not fit into trading.

    Raises
    ------
    ValueError
        If the label is unknown or does not count in minutes.
    """
    if label not in timed_labels():
        raise ValueError(f"label={label!r}; choose one of {', '.join(timed_labels())}")
    at = clocks_within(period.rules, period.start_ns, period.end_ns, 1)
    return numbers_after(label, targets, period, at, Mids.of(period))


def numbers_after(label: str, targets: Sequence[Target], period: Trajectory, clocks: Ints, mids: Mids) -> Floats:
    """``[m, T]`` after clock times of a period, NaN where a target's horizon does not fit into trading."""
    rules = period.rules
    found = numbers(label, targets, mids, np.asarray(rules.trading_ns(clocks), np.int64))
    for j, target in enumerate(targets):
        ends = clocks + target.minutes * MINUTE
        inside = np.zeros(len(clocks), bool)
        for phase in rules.continuous:
            inside |= (phase.start_ns <= clocks) & (ends <= min(phase.end_ns, period.end_ns))
        found[~inside, j] = np.nan
    return found


def _edges(label: str, targets: Sequence[Target], rows: Floats) -> Floats:
    return np.stack(
        [
            LABELS[label].edges(column) if target.kind == "trend" else tercile_edges(column)
            for target, column in zip(targets, rows.T, strict=True)
        ]
    )
