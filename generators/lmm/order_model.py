"""The order model: an embedding of orders and market states, a LLaMA decoder, a head over the next order.

The head is factorised or joint. Factorised, the next order's interval comes first, given all orders so far and the
book as it stands; then type, price and volume, each given what came before it, on the book as it is when the order is
due. That is the whole joint distribution by the chain rule, and the same order can be decided again on a book that
somebody else has changed meanwhile. Joint, one softmax runs over all 49,152 tokens, as in the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from marsbench.learning.layouts import LAYOUTS
from marsbench.learning.order_heads import STATES, FactorisedHead, OrderEmbedding, chain_losses, initialise
from marsbench.learning.vocabulary import SIZES, TOKENS

from .llama import Llama
from .recipe import ModelConfig

CHUNK = 1024
"""Orders whose 49,152 logits are in memory at a time."""


class OrderModel(nn.Module):
    """Embedding, decoder and head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width, layout = config.shape.width, config.layout
        self.order = OrderEmbedding(layout, config.groups, width)
        self.state = STATES[layout](width, config.book)
        self.decoder = Llama(config.shape)
        factorised = config.head == "factorised"
        self.factorised = FactorisedHead(layout, width, book=config.book, eps=config.shape.eps) if factorised else None
        self.lm_head = None if factorised else nn.Linear(width, TOKENS, bias=False)
        self.after = LAYOUTS[config.layout].after
        self.apply(initialise)
        for layer in self.decoder.stack:
            for end in (layer.self_attn.o_proj, layer.mlp.down_proj):
                end.weight.data *= (2 * config.shape.layers) ** -0.5

    def embed(self, tokens: Tensor, features: Tensor, group: Tensor) -> Tensor:
        """Input embeddings ``[..., d]`` of orders ``[..., 4]`` beside the features ``[..., F]`` of their layout."""
        out: Tensor = self.order(tokens, group) + self.state(features)
        return out

    def hidden(self, batch: dict[str, Tensor]) -> Tensor:
        """The decoder's output for every order of a batch but the last, ``[B, T, d]``."""
        tokens, features = batch["tokens"].long(), batch["features"]
        beside = features[:, 1:] if self.after else features[:, :-1]
        out: Tensor = self.decoder(self.embed(tokens[:, :-1], beside, batch["group"][:, None]))
        return out

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean nats per order of each field, given the fields before it: interval, type, price, volume.

        ``batch``: ``tokens`` ``[B, T + 1, 4]``, ``features`` ``[B, T + 1, F]`` right before each, ``group`` ``[B]``.
        """
        hidden, targets = self.hidden(batch), batch["tokens"].long()[:, 1:]
        if self.lm_head is not None:
            return joint_losses(hidden.flatten(0, 1), self.lm_head.weight, targets.flatten(0, 1))
        assert self.factorised is not None
        return chain_losses(self.factorised, self.factorised.context(hidden, batch["features"][:, 1:]), targets)


def joint_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Losses of the joint head on orders ``[n, d]``, targets ``[n, 4]``, a chunk of logits at a time.

    By field as of the factorised head (interval, type, price, volume, each given those before); the sum is the cross
    entropy of the whole token, and it alone carries the gradient.
    """
    sums = [
        checkpoint(_joint_chunk, hidden[i : i + CHUNK], weight, targets[i : i + CHUNK], use_reentrant=False)
        for i in range(0, len(hidden), CHUNK)
    ]
    total, parts = sum(s[0] for s in sums) / len(hidden), sum(s[1] for s in sums) / len(hidden)
    interval, types, price = parts.unbind()
    return {"interval": interval, "type": types, "price": price, "volume": total - parts.sum()}


def _joint_chunk(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of cross entropies of a chunk, and its parts for interval, type and price (without gradient)."""
    logits = functional.linear(hidden, weight).float()
    types, price, volume, interval = targets.unbind(-1)
    index = ((types * SIZES[1] + price) * SIZES[2] + volume) * SIZES[3] + interval
    total = functional.cross_entropy(logits, index, reduction="sum")
    with torch.no_grad():
        table = torch.log_softmax(logits, -1).view(-1, *SIZES)
        of_interval = table.logsumexp((1, 2, 3)).gather(1, interval[:, None])[:, 0]
        table = table[torch.arange(len(table)), :, :, :, interval]  # [n, 3, 32, 32]
        of_type = table.logsumexp((2, 3)).gather(1, types[:, None])[:, 0]
        table = table[torch.arange(len(table)), types]
        of_price = table.logsumexp(2).gather(1, price[:, None])[:, 0]
        parts = torch.stack([-of_interval.sum(), (of_interval - of_type).sum(), (of_type - of_price).sum()])
    return total, parts
