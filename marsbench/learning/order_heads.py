"""Parts of models over order tokens: what embeds orders and market states, and a head over the next order.

The head is factorised: the next order's interval comes first, given all orders so far and the book as it stands; then
type, price and volume, each given what came before it, on the book as it is when the order is due. That is the whole
joint distribution by the chain rule, and the same order can be decided again on a book that somebody else has changed
meanwhile.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from marsbench.learning.layouts import CHANGES, LAYOUTS, TIMES
from marsbench.learning.vocabulary import SIZES, START

CLASSES = 2
"""New orders and cancels have prices and volumes of their own where prices count from the touch."""
CANCEL = 2


class OrderEmbedding(nn.Module):
    """The sum of embeddings of an order's fields; ``touch`` tells cancels and groups apart."""

    def __init__(self, layout: str, groups: int, d: int) -> None:
        super().__init__()
        self.classes = CLASSES if LAYOUTS[layout].prices == "touch" else 1
        self.kind = nn.Embedding(SIZES[0] + 1, d)  # and the start of a session
        self.price = nn.Embedding(SIZES[1] * self.classes, d)
        self.volume = nn.Embedding(SIZES[2] * self.classes, d)
        self.interval = nn.Embedding(SIZES[3], d)
        self.group = nn.Embedding(groups, d) if self.classes == CLASSES else None

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

    def __init__(self, d: int, book: bool = True) -> None:
        super().__init__()
        layout = LAYOUTS["touch"]
        self.inner = nn.Linear(layout.width, d)
        self.outer = nn.Linear(d, d)
        seen = torch.ones(layout.width) if book else 1.0 - torch.tensor(layout.book_columns, dtype=torch.float)
        self.register_buffer("seen", seen, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.outer(functional.silu(self.inner(features.to(self.inner.weight.dtype) * self.seen)))
        return out


class PaperState(nn.Module):
    """Equation 1: a linear projection of volumes, and embeddings of the mid price since the open and the time."""

    def __init__(self, d: int, book: bool = True) -> None:
        super().__init__()
        self.book = book
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

    def __init__(self, d: int, book: bool = True) -> None:
        super().__init__()
        self.book = book
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


class OrderHead(Protocol):
    """What draws the next order, a field after the other."""

    def context(self, hidden: Tensor, features: Tensor) -> Tensor:
        """What everything is decided from ``[..., c]``: the orders so far and the state as it is now ``[..., F]``."""
        ...

    def interval_logits(self, context: Tensor) -> Tensor:
        """``[..., 16]``."""
        ...

    def type_logits(self, context: Tensor, interval: Tensor) -> tuple[Tensor, Tensor]:
        """``[..., 3]``, and the context given the interval."""
        ...

    def price_logits(self, context: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
        """``[..., 32]``, and the context given the type."""
        ...

    def volume_logits(self, context: Tensor, types: Tensor, price: Tensor) -> Tensor:
        """``[..., 32]``."""
        ...


class LearnedHead(OrderHead, Protocol):
    """A head that is trained."""

    def for_rollouts(self) -> OrderHead:
        """The same up to rounding, made for the few rows of a step."""
        ...


def chain_losses(head: OrderHead, context: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Mean nats per order of each field given those before it, of orders ``[..., 4]``."""
    types, price, volume, interval = targets.unbind(-1)
    out = {"interval": nats(head.interval_logits(context), interval)}
    logits, context = head.type_logits(context, interval)
    out["type"] = nats(logits, types)
    logits, context = head.price_logits(context, types)
    out["price"] = nats(logits, price)
    out["volume"] = nats(head.volume_logits(context, types, price), volume)
    return out


class FactorisedHead(nn.Module):
    """Interval, then type, price and volume, each given what came before and the book as it is."""

    def __init__(self, layout: str, d: int, *, book: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        classes = CLASSES if LAYOUTS[layout].prices == "touch" else 1
        self.classes = classes
        self.state = STATES[layout](d, book)
        self.norm = nn.RMSNorm(d, eps=eps)
        self.given_interval = nn.Embedding(SIZES[3], d)
        self.given_type = nn.Embedding(SIZES[0], d)
        self.given_price = nn.Embedding(SIZES[1] * classes, d)
        self.interval = mlp(d, d, SIZES[3])
        self.kind = mlp(d, d, SIZES[0])
        self.price = mlp(d, 2 * d, SIZES[1] * classes)
        self.volume = mlp(d, d, SIZES[2] * classes)

    def for_rollouts(self) -> OrderHead:
        """Without torch where that can be."""
        from marsbench.learning.order_steps import FactorisedSteps, can_step

        return FactorisedSteps(self) if can_step(self) else self

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
        return logits if self.classes == 1 else of_class(logits, types)


def of_class(logits: Tensor, types: Tensor) -> Tensor:
    """Of logits ``[..., 64]`` the half of new orders or of cancels, by type, ``[..., 32]``."""
    new, cancel = logits.chunk(CLASSES, -1)
    return torch.where((types == CANCEL)[..., None], cancel, new)


def mlp(width: int, inner: int, out: int) -> nn.Module:
    """Two layers."""
    return nn.Sequential(nn.Linear(width, inner), nn.SiLU(), nn.Linear(inner, out))


def initialise(module: nn.Module) -> None:
    """First weights of a module, for ``apply``."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.1)


def nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy of logits ``[..., n]``."""
    return functional.cross_entropy(logits.float().flatten(0, -2), targets.flatten())
