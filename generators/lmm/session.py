"""Rollouts of an order model: the ring of keys and values as its memory, and the joint head.

Beyond its context a row forgets its oldest order with each new one: keys and values stay as they were computed, so
that a kept order still carries what it once read in those that are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from marsbench.learning.sampling import Sampling, allowed, pick
from marsbench.learning.token_session import Beginning, TokenSession
from marsbench.learning.tokeniser import Tokeniser
from marsbench.learning.vocabulary import SIZES
from marsbench.simulation.contracts import Rows, Start
from marsbench.simulation.randomness import Streams

from . import joint
from .llama import Ring
from .order_model import OrderModel

Ints = NDArray[np.int64]


class RingRecall:
    """Keys and values of the last orders of each row."""

    def __init__(self, model: OrderModel, starts: Sequence[Beginning], rollouts: int, context: int) -> None:
        self.model, self.device = model, next(model.parameters()).device
        rings, hidden = [], []
        for start in starts:
            ring = Ring(model.config.shape, 1, context, like=model.order.kind.weight)
            x = self._embed(start.tokens, start.features, np.full(len(start.tokens), start.group))
            hidden.append(model.decoder(x[None], ring=ring)[:, -1])
            rings.append(ring)
        self.ring = Ring.joined(rings).spread(rollouts)
        self.hidden = torch.cat(hidden).repeat_interleave(rollouts, 0)

    def _embed(self, tokens: Ints, features: NDArray[Any], group: Ints) -> torch.Tensor:
        x: torch.Tensor = self.model.embed(*(torch.as_tensor(v, device=self.device) for v in (tokens, features, group)))
        return x

    def known(self, rows: Rows) -> torch.Tensor:
        """``[k, width]``, what is known after the last order of some rows."""
        return self.hidden[torch.as_tensor(rows, device=self.device)]

    def read(self, rows: Rows, tokens: Ints, features: NDArray[Any], group: Ints, own: NDArray[np.bool_]) -> None:
        """One more order of each of some rows, whoever sent it."""
        del own
        self.hidden[rows] = self.model.decoder.step(self._embed(tokens, features, group), self.ring, rows)


class OrderModelSession(TokenSession):
    """See the module."""

    def __init__(
        self,
        model: OrderModel,
        tokeniser: Tokeniser,
        starts: Sequence[Start],
        rollouts: int,
        streams: Streams,
        *,
        context: int,
        sampling: Sampling,
    ) -> None:
        super().__init__(
            model.factorised,
            tokeniser,
            starts,
            rollouts,
            streams,
            recall=lambda read, copies: RingRecall(model, read, copies, context),
            context=context,
            sampling=sampling,
        )
        self.lm_head = model.lm_head
        self.table: torch.Tensor | None = None
        if self.lm_head is not None:
            self.table = torch.zeros((len(self.group), 3, 32, 32), device=self.device)

    def _time(self, rows: Rows, now_ns: Ints, features: NDArray[Any]) -> None:
        """Of the joint head, which gives the scores of all that can come with the interval; else as ever."""
        if self.lm_head is None:
            super()._time(rows, now_ns, features)
            return
        assert self.table is not None
        weight, temperature, fresh = self.lm_head.weight, self.sampling.temperature, self.fresh[rows]
        new = np.flatnonzero(fresh)
        for at in (new[i : i + joint.ROWS] for i in range(0, len(new), joint.ROWS)):
            where = torch.as_tensor(rows[at], device=self.device)
            intervals, scores = joint.interval_scores(self.recall.known(rows[at]), weight, temperature)
            self._draw_intervals(rows[at], now_ns[at], (intervals * temperature).double().cpu().numpy())
            drawn = torch.as_tensor(self.slot[rows[at]], device=self.device)
            self.table[where] = scores[drawn, torch.arange(len(at), device=self.device)].view(-1, *SIZES[:3])
        if not fresh.all():
            old = rows[~fresh]
            where = torch.as_tensor(old, device=self.device)
            scores = joint.scores_given(self.recall.known(old), weight, temperature, self.slot[old])
            self.table[where] = scores.view(-1, *SIZES[:3])

    def _marks(
        self, rows: Rows, open_slots: NDArray[np.bool_], uniforms: NDArray[np.float64]
    ) -> tuple[Ints, Ints, Ints]:
        """Of the joint head from the logits of all tokens with the interval that was drawn; else as ever."""
        if self.table is None:
            return super()._marks(rows, open_slots, uniforms)
        logits = self.table[torch.as_tensor(rows, device=self.device)].flatten(1).double().cpu().numpy()
        whole = Sampling(1.0, self.sampling.top_p).probabilities(logits).reshape(-1, 3, 32, 32)
        by_price = whole.sum(axis=3)
        total = by_price.sum(axis=(1, 2))
        kept = np.where(open_slots, by_price, 0.0)
        none = kept.sum(axis=(1, 2)) <= 0
        kept[none] = open_slots[none]
        self.report.masked_price += float((1 - kept.sum(axis=(1, 2)) / total)[~none].sum() + none.sum())
        at = pick(kept.reshape(len(rows), -1), uniforms[:, 0])
        types, price = at // 32, at % 32
        p, _ = allowed(whole[np.arange(len(rows)), types, price], self._volumes(rows, types))
        return types, price, pick(p, uniforms[:, 2])
