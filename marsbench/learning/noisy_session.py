"""Rollouts of a maker of orders: noise of its own for each order, the same where an order is decided again.

What it draws from is kept in balance by the biases of its state (``marsbench.learning.balance``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri

from marsbench.learning.balance import with_biases
from marsbench.learning.order_players import OrderMaker
from marsbench.learning.recurrent_session import RecurrentSession
from marsbench.learning.tokeniser import Tokeniser
from marsbench.simulation.contracts import Rows, Start
from marsbench.simulation.randomness import Streams

Ints = NDArray[np.int64]
NOISE = 3
"""Purpose of the random numbers."""


class NoisySession(RecurrentSession):
    """See the module."""

    def __init__(
        self,
        maker: OrderMaker,
        tokeniser: Tokeniser,
        starts: Sequence[Start],
        rollouts: int,
        streams: Streams,
        *,
        context: int,
    ) -> None:
        super().__init__([maker.reader], maker.head, tokeniser, starts, rollouts, streams, context=context)
        self.maker = maker
        self.edges, self.biases = maker.balance.edges, maker.balance.biases()

    def _context(self, rows: Rows, hidden: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        number = self.index[rows] + self.fresh[rows]
        uniforms = self.streams.uniforms(rows, number, NOISE, self.maker.noise.in_features)
        noise = torch.as_tensor(ndtri(uniforms).astype(np.float32), device=self.device)
        return super()._context(rows, hidden + self.maker.noise(noise), features)

    def _weighed(
        self, field: str, rows: Rows, logits: NDArray[np.float64], possible: NDArray[np.bool_], drawn: Ints
    ) -> NDArray[np.float64]:
        del possible
        biased: NDArray[np.float64] = with_biases(logits, self.biases[field], self._cells(field, rows, drawn))
        return biased

    def _cells(self, field: str, rows: Rows, drawn: Ints) -> Ints:
        """Where the states of some rows lie, ``[k, partitions]``."""
        return self.edges.cells(field, self.features[rows], self.group[rows], drawn)
