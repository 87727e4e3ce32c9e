"""Rollouts of recurrent models: what comes next follows from all orders, when it comes from the market's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from marsbench.learning.order_heads import LearnedHead
from marsbench.learning.recurrent import OrderReader, RecurrentRecall
from marsbench.learning.sampling import Sampling
from marsbench.learning.token_session import TokenSession
from marsbench.learning.tokeniser import Tokeniser
from marsbench.simulation.contracts import Rows, Start
from marsbench.simulation.randomness import Streams


class RecurrentSession(TokenSession):
    """See the module; ``readers`` are those of the head, and ``context`` orders of a starting sequence are read."""

    recall: RecurrentRecall

    def __init__(
        self,
        readers: Sequence[OrderReader],
        head: LearnedHead,
        tokeniser: Tokeniser,
        starts: Sequence[Start],
        rollouts: int,
        streams: Streams,
        *,
        context: int,
    ) -> None:
        super().__init__(
            head,
            tokeniser,
            starts,
            rollouts,
            streams,
            recall=lambda read, copies: RecurrentRecall(readers, read, copies),
            context=context,
            sampling=Sampling(),
        )

    def _timing(self, rows: Rows, context: torch.Tensor, features: NDArray[Any]) -> torch.Tensor:
        at = np.flatnonzero(self.recall.apart[rows])
        if len(at) == 0:
            return context
        out, where = context.clone(), torch.as_tensor(at, device=self.device)
        hidden = self.recall.timing(rows[at])
        out[where] = self._context(rows[at], hidden, torch.as_tensor(features[at], device=self.device))
        return out
