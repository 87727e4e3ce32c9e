"""A recurrent network over order tokens: whole sequences at once in training, step by step in rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from marsbench.learning.layouts import LAYOUTS
from marsbench.learning.order_heads import STATES, OrderEmbedding, initialise
from marsbench.learning.order_steps import ReaderSteps, can_step
from marsbench.learning.token_session import Beginning
from marsbench.simulation.contracts import Rows

LAYOUT = "touch"
"""The layout of features and tokens that recurrent models take."""
FEATURES = LAYOUTS[LAYOUT].width


class OrderReader(nn.Module):
    """LSTM layers over orders, each beside the state of the market right before it.

    Parameters
    ----------
    groups
        Groups of instruments that the tokens tell apart.
    width, layers
        Of the hidden states.
    """

    def __init__(self, groups: int, width: int, layers: int = 1) -> None:
        super().__init__()
        self.order = OrderEmbedding(LAYOUT, groups, width)
        self.state = STATES[LAYOUT](width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.apply(initialise)

    def embed(self, tokens: Tensor, features: Tensor, group: Tensor) -> Tensor:
        """``[..., width]`` of orders ``[..., 4]`` beside states ``[..., F]``."""
        out: Tensor = self.order(tokens, group) + self.state(features)
        return out

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """What is known after every order of a batch but the last, ``[B, T, width]``.

        ``batch``: ``tokens`` ``[B, T + 1, 4]``, ``features`` ``[B, T + 1, F]`` right before each, ``group`` ``[B]``.
        """
        x = self.embed(batch["tokens"].long()[:, :-1], batch["features"][:, :-1], batch["group"][:, None])
        out: Tensor = self.lstm(x)[0]
        return out


class RecurrentRecall:
    """What one or several readers remember of each row; see ``marsbench.learning.token_session.Recall``.

    Unlike a window of orders it has no end: what was read long ago fades as the network lets it. There are two
    memories: of all orders, from which it follows what comes next, and of the market's own, from which it follows
    when. Intervals are those between the market's own orders, in training too; a network that finds an agent's between
    them would take them for others.
    """

    def __init__(self, readers: Sequence[OrderReader], starts: Sequence[Beginning], rollouts: int) -> None:
        self.readers = list(readers)
        self.steps = [ReaderSteps(reader) for reader in self.readers if can_step(reader)]
        self.device = next(self.readers[0].parameters()).device
        self.all = self._begun(starts, rollouts)
        self.own = [(h.clone(), c.clone()) for h, c in self.all]
        """By reader, states of the LSTM ``[layers, R, width]``; the second memory counts in ``apart`` rows alone."""
        self.apart = np.zeros(len(starts) * rollouts, np.bool_)
        """Rows in which somebody else has sent an order."""

    def known(self, rows: Rows) -> Tensor:
        """``[k, readers * width]``, last layers side by side, of all orders ..."""
        where = torch.as_tensor(rows, device=self.device)
        return torch.cat([h[-1][where] for h, _ in self.all], 1)

    def timing(self, rows: Rows) -> Tensor:
        """``[k, readers * width]``, ... and of the market's own, for rows that are ``apart``."""
        where = torch.as_tensor(rows, device=self.device)
        return torch.cat([h[-1][where] for h, _ in self.own], 1)

    def _begun(self, starts: Sequence[Beginning], rollouts: int) -> list[tuple[Tensor, Tensor]]:
        out = []
        for reader in self.readers:
            ends = [self._read_through(reader, start) for start in starts]
            h, c = (torch.cat(part, 1).repeat_interleave(rollouts, 1) for part in zip(*ends, strict=True))
            out.append((h, c))
        return out

    def _read_through(self, reader: OrderReader, start: Beginning) -> tuple[Tensor, Tensor]:
        group = np.full(len(start.tokens), start.group)
        x = reader.embed(*self._tensors(start.tokens, start.features, group))
        h, c = reader.lstm(x[None])[1]
        return h, c

    def _tensors(self, *arrays: Any) -> tuple[Tensor, ...]:
        return tuple(torch.as_tensor(a, device=self.device) for a in arrays)

    def read(
        self, rows: Rows, tokens: NDArray[np.int64], features: NDArray[Any], group: NDArray[np.int64],
        own: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        """One more order of each of some rows; ``own``: the market's."""
        leaving = rows[~own & ~self.apart[rows]]
        if len(leaving):
            where = torch.as_tensor(leaving, device=self.device)
            for theirs, mine in zip(self.all, self.own, strict=True):
                for whole, part in zip(theirs, mine, strict=True):
                    part[:, where] = whole[:, where]
            self.apart[leaving] = True
        self._step(self.all, rows, tokens, features, group)
        both = own & self.apart[rows]
        if both.any():
            self._step(self.own, rows[both], tokens[both], features[both], group[both])

    def _step(
        self, states: list[tuple[Tensor, Tensor]], rows: Rows, tokens: NDArray[np.int64], features: NDArray[Any],
        group: NDArray[np.int64],
    ) -> None:  # fmt: skip
        if self.steps:
            for step, (h, c) in zip(self.steps, states, strict=True):
                step(rows, tokens, features, group, h, c)
            return
        where = torch.as_tensor(rows, device=self.device)
        given = self._tensors(tokens, features, group)
        for reader, (h, c) in zip(self.readers, states, strict=True):
            x = reader.embed(*given)[:, None]
            h[:, where], c[:, where] = reader.lstm(x, (h[:, where], c[:, where]))[1]
