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

from marsbench.learning.vocabulary import SIZES, START, TOKENS

from .layouts import CHANGES, LAYOUTS, TIMES
from .llama import Llama
from .recipe import ModelConfig

CLASSES = 2
"""New orders and cancels have prices and volumes of their own where prices count from the touch."""
CANCEL = 2
CHUNK = 1024
"""Orders whose 49,152 logits are in memory at a time."""


class OrderEmbedding(nn.Module):
    """The sum of embeddings of an order's fields; ``touch`` tells cancels and groups apart."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.shape.width
        self.classes = CLASSES if LAYOUTS[config.layout].prices == "touch" else 1
        self.kind = nn.Embedding(SIZES[0] + 1, d)  # and the start of a session
        self.price = nn.Embedding(SIZES[1] * self.classes, d)
        self.volume = nn.Embedding(SIZES[2] * self.classes, d)
        self.interval = nn.Embedding(SIZES[3], d)
        self.group = nn.Embedding(config.groups, d) if self.classes == CLASSES else None

    def slots(self, types: Tensor, slots: Tensor) -> Tensor:
        """Rows of the price or volume table."""
        return slots + SIZES[1] * (types == CANCEL) if self.classes == CLASSES else slots

    def forward(self, tokens: Tensor, group: Tensor) -> Tensor:
        """``[..., d]`` of tokens ``[..., 4]`` and group numbers that broadcast against ``[...]``."""
        types, price, volume, interval = tokens.unbind(-1)
        out: Tensor = self.kind(types) + self.price(self.slots(types, price)) + self.interval(interval)
        out = out + self.volume(self.slots(types, volume))
        started = (types != START)[..., None]
        out = torch.where(started, out, self.kind(types))
        return out if self.group is None else out + self.group(group)


class TouchState(nn.Module):
    """Two layers on standardised states."""

    seen: Tensor
    """``[F]``, 0 for columns that the model does not see."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        layout, d = LAYOUTS[config.layout], config.shape.width
        self.inner = nn.Linear(layout.width, d)
        self.outer = nn.Linear(d, d)
        seen = torch.ones(layout.width) if config.book else 1.0 - torch.tensor(layout.book_columns, dtype=torch.float)
        self.register_buffer("seen", seen, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.outer(functional.silu(self.inner(features.to(self.inner.weight.dtype) * self.seen)))
        return out


class PaperState(nn.Module):
    """Equation 1: a linear projection of volumes, and embeddings of the mid price since the open and the time."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.shape.width
        self.book = config.book
        self.volumes = nn.Linear(LAYOUTS["paper"].width - 2, d)
        self.change = nn.Embedding(CHANGES, d)
        self.time = nn.Embedding(TIMES, d)

    def forward(self, features: Tensor) -> Tensor:
        whole = features.long()
        out: Tensor = self.time(whole[..., -1])
        if self.book:
            scaled = features[..., :-2].to(self.volumes.weight.dtype) / SIZES[2]
            out = out + self.volumes(scaled) + self.change(whole[..., -2])
        return out


class PublicState(nn.Module):
    """The public code's: embeddings of change and time, a normalised linear projection of ten volume classes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.shape.width
        self.book = config.book
        self.change = nn.Embedding(CHANGES, d)
        self.time = nn.Embedding(TIMES, d)
        self.volumes = nn.Linear(LAYOUTS["public"].width - 2, d)
        self.norm = nn.LayerNorm(d)

    def forward(self, features: Tensor) -> Tensor:
        whole = features.long()
        out: Tensor = self.time(whole[..., 1])
        if self.book:
            near = self.norm(self.volumes(features[..., 2:].to(self.volumes.weight.dtype)))
            out = out + self.change(whole[..., 0]) + near
        return out


STATES: dict[str, type[nn.Module]] = {"touch": TouchState, "paper": PaperState, "public": PublicState}


class FactorisedHead(nn.Module):
    """Interval, then type, price and volume, each given what came before and the book as it is."""

    def __init__(self, config: ModelConfig, embedding: OrderEmbedding) -> None:
        super().__init__()
        d, classes = config.shape.width, embedding.classes
        self.classes = classes
        self.state = STATES[config.layout](config)
        self.norm = nn.RMSNorm(d, eps=config.shape.eps)
        self.given_interval = nn.Embedding(SIZES[3], d)
        self.given_type = nn.Embedding(SIZES[0], d)
        self.given_price = nn.Embedding(SIZES[1] * classes, d)
        self.interval = _head(d, d, SIZES[3])
        self.kind = _head(d, d, SIZES[0])
        self.price = _head(d, 2 * d, SIZES[1] * classes)
        self.volume = _head(d, d, SIZES[2] * classes)

    def context(self, hidden: Tensor, features: Tensor) -> Tensor:
        """What everything is decided from: the decoder's ``[..., d]`` and the state as it is now ``[..., F]``."""
        out: Tensor = self.norm(hidden + self.state(features))
        return out

    def interval_logits(self, context: Tensor) -> Tensor:
        """``[..., 16]``."""
        out: Tensor = self.interval(context)
        return out

    def type_logits(self, context: Tensor, interval: Tensor) -> tuple[Tensor, Tensor]:
        """``[..., 3]``, and the context given the interval."""
        context = context + self.given_interval(interval)
        return self.kind(context), context

    def price_logits(self, context: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
        """``[..., 32]``, and the context given the type."""
        context = context + self.given_type(types)
        return self._own(self.price(context), types), context

    def volume_logits(self, context: Tensor, types: Tensor, price: Tensor) -> Tensor:
        """``[..., 32]``."""
        row = price + SIZES[1] * (types == CANCEL) if self.classes == CLASSES else price
        return self._own(self.volume(context + self.given_price(row)), types)

    def _own(self, logits: Tensor, types: Tensor) -> Tensor:
        """The half that belongs to the type."""
        if self.classes == 1:
            return logits
        new, cancel = logits.chunk(CLASSES, -1)
        return torch.where((types == CANCEL)[..., None], cancel, new)


def _head(width: int, inner: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, inner), nn.SiLU(), nn.Linear(inner, out))


class OrderModel(nn.Module):
    """Embedding, decoder and head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.order = OrderEmbedding(config)
        self.state = STATES[config.layout](config)
        self.decoder = Llama(config.shape)
        self.factorised = FactorisedHead(config, self.order) if config.head == "factorised" else None
        self.lm_head = nn.Linear(config.shape.width, TOKENS, bias=False) if config.head == "joint" else None
        self.after = LAYOUTS[config.layout].after
        self.apply(_initialise)
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
        head, (types, price, volume, interval) = self.factorised, targets.unbind(-1)
        context = head.context(hidden, batch["features"][:, 1:])
        out = {"interval": _nats(head.interval_logits(context), interval)}
        logits, context = head.type_logits(context, interval)
        out["type"] = _nats(logits, types)
        logits, context = head.price_logits(context, types)
        out["price"] = _nats(logits, price)
        out["volume"] = _nats(head.volume_logits(context, types, price), volume)
        return out


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.1)


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float().flatten(0, -2), targets.flatten())


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
