"""States of a market as numbers that a network can take: on a log scale, standardised by group.

Every column is signed log(1 + |x|), minus its training mean, over its training standard deviation, cut at
eight of them, and kept in half precision, so that a file of training data and a simulation hold the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from marsbench.learning.order_stream import STATE

LIMIT = 8.0
RANGE = (0.0005, 0.9995)
"""Shares of training states that lie below and above what a simulation may show (``Scaler.within``)."""
SAMPLED = 5000
"""So many states of each day, evenly spread, tell that range."""
_DISPLACEMENT = [i for i, name in enumerate(STATE) if name.startswith("displacement_")]
FLAT = 1e-3
"""Columns that hardly vary in training are only centred."""


@dataclass(frozen=True)
class Scaler:
    """Mean and standard deviation of each column, by group."""

    mean: NDArray[np.float32]
    """``[G, WIDTH]``."""
    scale: NDArray[np.float32]
    """``[G, WIDTH]``."""
    low: NDArray[np.float16]
    """``[G, WIDTH]`` smallest features of training, but for one in two thousand ..."""
    high: NDArray[np.float16]
    """... and largest ones."""

    @classmethod
    def fit(cls, states: Iterable[tuple[int, NDArray[np.float32]]], groups: int) -> Self:
        """From states ``[n, WIDTH]`` with the number of their group."""
        count = np.zeros(groups)
        total, square = np.zeros((groups, len(STATE))), np.zeros((groups, len(STATE)))
        samples: list[list[NDArray[np.float32]]] = [[] for _ in range(groups)]
        for group, rows in states:
            samples[group].append(rows[:: max(len(rows) // SAMPLED, 1)])
            values = _log(rows).astype(np.float64)
            count[group] += len(rows)
            total[group] += values.sum(axis=0)
            square[group] += (values**2).sum(axis=0)
        mean = total / np.maximum(count, 1)[:, None]
        deviation = np.sqrt(np.maximum(square / np.maximum(count, 1)[:, None] - mean**2, 0))
        ends = np.zeros((2, groups, len(STATE)), np.float16)
        made = cls(mean.astype(np.float32), np.where(deviation < FLAT, 1, deviation).astype(np.float32), *ends)
        for group, sample in enumerate(samples):
            if sample:
                ends[:, group] = np.quantile(made(np.concatenate(sample), group).astype(np.float32), RANGE, axis=0)
        return replace(made, low=ends[0], high=ends[1])

    def __call__(self, states: NDArray[np.float32], groups: Any) -> NDArray[np.float16]:
        """Features ``[n, WIDTH]`` of states, for one group or one for each row."""
        values = (_log(states) - self.mean[groups]) / self.scale[groups]
        cut: NDArray[np.float16] = np.minimum(np.maximum(values, -LIMIT), LIMIT).astype(np.float16)
        return cut

    def column(self, name: str, values: Sequence[float]) -> NDArray[np.float32]:
        """Features ``[G, n]`` of values of one column."""
        at, plain = STATE.index(name), _log(np.asarray(values, np.float32))
        standard: NDArray[np.float32] = (plain - self.mean[:, at, None]) / self.scale[:, at, None]
        return standard

    def within(self, features: NDArray[np.float16], groups: Any) -> NDArray[np.float16]:
        """Features that lie beyond those of training as the nearest ones: a model knows nothing of what lies there."""
        cut: NDArray[np.float16] = np.minimum(np.maximum(features, self.low[groups]), self.high[groups])
        return cut

    def moved(self, features: NDArray[np.float16], groups: Any) -> NDArray[np.int8]:
        """``[n]``: 1 where the mid is further above where it lately was than ever in training, on some time scale; -1
        where it is further below."""
        at = _DISPLACEMENT
        up = (features[:, at] > self.high[groups][..., at]).any(axis=1)
        down = (features[:, at] < self.low[groups][..., at]).any(axis=1)
        found: NDArray[np.int8] = up.astype(np.int8) - down.astype(np.int8)
        return found

    def with_columns_of(self, other: Scaler, names: Sequence[str]) -> Scaler:
        """A copy that scales some columns as another one does, by the mean of its groups.

        For data that hold a morning only: what a model learned of afternoons elsewhere keeps its meaning.
        """
        at = [STATE.index(name) for name in names]
        mean, scale = self.mean.copy(), self.scale.copy()
        mean[:, at], scale[:, at] = other.mean[:, at].mean(axis=0), other.scale[:, at].mean(axis=0)
        low, high = self.low.copy(), self.high.copy()
        low[:, at], high[:, at] = other.low[:, at].min(axis=0), other.high[:, at].max(axis=0)
        return Scaler(mean, scale, low, high)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        ends = {"low": self.low.tolist(), "high": self.high.tolist()}
        return {"columns": list(STATE), "mean": self.mean.tolist(), "scale": self.scale.tolist(), **ends}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Back from ``to_dict``.

        Raises
        ------
        ValueError
            If it was fitted on other columns.
        """
        if tuple(values["columns"]) != STATE:
            raise ValueError(f"features were fitted on other columns of the state: {values['columns']}")
        ends = (np.array(values[name], np.float16) for name in ("low", "high"))
        return cls(np.array(values["mean"], np.float32), np.array(values["scale"], np.float32), *ends)


def _log(states: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sign(states) * np.log1p(np.abs(states))
