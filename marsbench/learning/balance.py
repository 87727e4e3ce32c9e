"""Biases that keep a maker of orders in balance: how often it does something, given how the market stands.

A critic that judges one order at a time leaves errors of a few percent in how often something comes. In a simulation
they add up: intervals a little too short make a market that is busier and busier, a bid too many for each ask one that
only rises, a cancel too few a wall. So every slot of every field has biases on its logit, one for each cell of a few
partitions of the state (time of day and tempo, spread, volumes at the quotes, what lately happened), and of each group
of instruments. A state lies in one cell of each partition, and their biases add up. They are fitted inside the maker's
own simulations (``marsbench.learning.balancing``), where the errors are made; until then they are 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn

from marsbench.learning.order_stream import STATE
from marsbench.learning.vocabulary import SIZES

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TYPES, PRICES, VOLUMES, INTERVALS = SIZES
SHARES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
"""The cells of a partition begin at these quantiles of a group's training states."""
CELLS = len(SHARES) + 1
SINCE_OPEN_S = (900.0, 1800.0, 3600.0, 7200.0, 10800.0)
"""Edges of the times of day."""
HOUR, PACE = "hour", "pace"
"""The partitions by group and time of day, and by group and tempo, as it ranks at that time of day."""
SIDES = ("spread", "ask_volume_1", "bid_volume_1")
TOKENS = {"type": 0, "price": 1, "volume": 2, "interval": 3}
"""Columns of tokens."""
SLOTS = {"interval": INTERVALS, "type": TYPES, "price": PRICES, "volume": VOLUMES}
PARTITIONS: dict[str, tuple[str, ...]] = {
    "interval": (HOUR, PACE, "orders_3s", "orders_30s", "orders_180s"),
    "type": (
        HOUR, "interval", PACE, *SIDES, "ask_volume", "bid_volume", "ask_levels", "bid_levels", "flow_30s",
        "displacement_180s",
    ),
    "price": (*SIDES, "ask_gap_2", "bid_gap_2", "flow_30s"),
    "volume": ("price", *SIDES),
}  # fmt: skip
"""By what states are told apart, for each field; what is drawn later may depend on what was drawn before."""
BY_TYPE = ("price", "volume")
"""Fields whose biases are those of a type and of a group of instruments, whose slots are its own."""
COLUMNS = tuple(dict.fromkeys(n for names in PARTITIONS.values() for n in names if n in STATE))
_COLUMNS = np.array([STATE.index(name) for name in COLUMNS])
_SINCE, _TEMPO = STATE.index("seconds_since_open"), STATE.index("tempo_ns")


def cells_of(partition: str, groups: int) -> int:
    """How many cells it has."""
    if partition == HOUR:
        return (len(SINCE_OPEN_S) + 1) * groups
    if partition == PACE:
        return CELLS * groups
    return SLOTS.get(partition, CELLS)


@dataclass(frozen=True)
class Edges:
    """Where the cells of each group begin, in features."""

    columns: NDArray[np.float32]
    """``[G, len(COLUMNS), len(SHARES)]``."""
    since: NDArray[np.float32]
    """``[G, len(SINCE_OPEN_S)]``, of the time of day."""
    tempo: NDArray[np.float32]
    """``[G, len(SINCE_OPEN_S) + 1, len(SHARES)]``, of the tempo at each time of day."""

    @classmethod
    def fit(cls, features: NDArray[np.float16], group: Ints, since: NDArray[np.float32]) -> Edges:
        """From training features ``[n, F]`` of groups ``[n]``, and the edges of the times of day ``[G, ...]``."""
        groups, stretches = since.shape[0], since.shape[1] + 1
        columns = np.zeros((groups, len(COLUMNS), len(SHARES)), np.float32)
        tempo = np.zeros((groups, stretches, len(SHARES)), np.float32)
        since = since.astype(np.float16).astype(np.float32)
        for g in range(groups):
            own = features[group == g].astype(np.float32)
            if len(own) == 0:
                continue
            columns[g] = np.quantile(own[:, _COLUMNS], SHARES, axis=0, method="lower").T
            stretch = (own[:, _SINCE, None] > since[g]).sum(axis=1)
            for s in range(stretches):
                there = own[stretch == s, _TEMPO]
                tempo[g, s] = np.quantile(there if len(there) else own[:, _TEMPO], SHARES, method="lower")
        return cls(columns, since, tempo)

    def cells(self, field: str, features: NDArray[Any], group: Ints, tokens: Ints) -> Ints:
        """In which cells of the partitions of a field states lie, ``[n, partitions]``, counted through.

        Parameters
        ----------
        features
            ``[n, F]`` right before each order.
        tokens
            ``[n, 4]``, of which only what is drawn before the field counts.
        """
        known = features.astype(np.float32)
        found: Ints = _cells(
            _PLANS[field], field in BY_TYPE, known, group, tokens, self.columns, self.since, self.tempo
        )
        return found


def _plan(field: str) -> Ints:
    """Partitions of a field as numbers: a column of ``COLUMNS``, or below 0 another kind."""
    other = {HOUR: _HOUR, PACE: _PACE, **{name: _TOKEN - column for name, column in TOKENS.items()}}
    return np.array([other[n] if n in other else COLUMNS.index(n) for n in PARTITIONS[field]])


_HOUR, _PACE, _TOKEN = -1, -2, -3
_PLANS = {field: _plan(field) for field in PARTITIONS}


@njit(cache=True)
def _passed(edges, value):  # type: ignore[no-untyped-def]
    """How many edges a value lies above."""
    count = 0
    for edge in edges:
        count += value > edge
    return count


@njit(cache=True)
def _cells(plan, by_type, features, group, tokens, columns, since, tempo):  # type: ignore[no-untyped-def]
    groups, stretches = since.shape[0], since.shape[1] + 1
    out = np.empty((len(features), len(plan)), np.int64)
    for i in range(len(features)):
        g, first = group[i], 0
        stretch = _passed(since[g], features[i, _SINCE])
        for p in range(len(plan)):
            which = plan[p]
            if which == _HOUR:
                own, size = g * stretches + stretch, groups * stretches
            elif which == _PACE:
                own, size = g * CELLS + _passed(tempo[g, stretch], features[i, _TEMPO]), groups * CELLS
            elif which < 0:
                own, size = tokens[i, _TOKEN - which], SIZES[_TOKEN - which]
            else:
                own, size = _passed(columns[g, which], features[i, _COLUMNS[which]]), CELLS
            out[i, p] = first + own
            first += size
        if by_type:
            for p in range(len(plan)):
                out[i, p] += first * (g * TYPES + tokens[i, 0])
    return out


def shape(field: str, groups: int) -> tuple[int, int]:
    """Of a table over the cells of a field: cells, slots."""
    cells = sum(cells_of(name, groups) for name in PARTITIONS[field])
    return cells * (groups * TYPES if field in BY_TYPE else 1), SLOTS[field]


@njit(cache=True)
def with_biases(logits, bias, cells):  # type: ignore[no-untyped-def]
    """Logits ``[n, slots]`` and the biases ``[C, slots]`` of the cells ``[n, P]`` that they lie in."""
    out = logits.copy()
    for i in range(len(cells)):
        for p in range(cells.shape[1]):
            out[i] += bias[cells[i, p]]
    return out


class Balance(nn.Module):
    """The biases, kept with the weights of a model: ``bias_<field>`` ``[cells, slots]``, and the edges of the cells.

    Parameters
    ----------
    groups
        Groups of instruments that the tokens tell apart.
    """

    columns: Tensor
    since: Tensor
    tempo: Tensor

    def __init__(self, groups: int) -> None:
        super().__init__()
        nobody, opened = np.zeros(0, np.int64), np.zeros((groups, len(SINCE_OPEN_S)), np.float32)
        empty = Edges.fit(np.zeros((0, len(STATE)), np.float16), nobody, opened)
        for name, values in vars(empty).items():
            self.register_buffer(name, torch.as_tensor(values))
        for field in PARTITIONS:
            self.register_buffer(f"bias_{field}", torch.zeros(shape(field, groups)))

    @property
    def edges(self) -> Edges:
        """Copies of those that are kept."""
        return Edges(*(getattr(self, name).float().cpu().numpy() for name in ("columns", "since", "tempo")))

    def biases(self) -> dict[str, NDArray[np.float32]]:
        """``[cells, slots]`` by field, copied."""
        return {field: getattr(self, f"bias_{field}").float().cpu().numpy().copy() for field in PARTITIONS}

    def put(self, edges: Edges, biases: Mapping[str, NDArray[Any]]) -> None:
        """Keep others."""
        for name, values in vars(edges).items():
            getattr(self, name).copy_(torch.as_tensor(values))
        for field, values in biases.items():
            getattr(self, f"bias_{field}").copy_(torch.as_tensor(values))
