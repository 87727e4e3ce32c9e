"""Four recurrent networks, one for each field of an order, each given the fields that come before it.

Each has its own reading of the orders so far, its own look at the book as it is, and learns from its own loss alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from marsbench.learning.compiled_layers import two_layers
from marsbench.learning.order_heads import (
    CANCEL,
    CLASSES,
    STATES,
    OrderHead,
    chain_losses,
    initialise,
    mlp,
    of_class,
)
from marsbench.learning.order_steps import LookSteps, can_step, given, half, price_rows, weights_of
from marsbench.learning.recurrent import LAYOUT, OrderReader
from marsbench.learning.vocabulary import SIZES

TYPES, PRICES, VOLUMES, INTERVALS = SIZES


@dataclass(frozen=True)
class Shape:
    """Everything that the architecture depends on."""

    groups: int
    """Groups of instruments that the tokens tell apart."""
    width: int
    layers: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


class Look(nn.Module):
    """What one field is decided from: its reading of the orders so far and of the book as it is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.state = STATES[LAYOUT](width)
        self.norm = nn.RMSNorm(width)

    def forward(self, hidden: Tensor, features: Tensor) -> Tensor:
        out: Tensor = self.norm(hidden + self.state(features))
        return out


class FourNetworks(nn.Module):
    """Interval, type, price and volume, see the module."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, d = shape, shape.width
        self.readers = nn.ModuleList(OrderReader(shape.groups, d, shape.layers) for _ in SIZES)
        self.looks = nn.ModuleList(Look(d) for _ in SIZES)
        self.interval = mlp(d, d, INTERVALS)
        self.kind = mlp(d, d, TYPES)
        self.price = mlp(d, 2 * d, PRICES * CLASSES)
        self.volume = mlp(d, d, VOLUMES * CLASSES)
        self.interval_for = nn.ModuleList(nn.Embedding(INTERVALS, d) for _ in range(3))
        """Of type, price and volume: what they make of the interval ..."""
        self.kind_for = nn.ModuleList(nn.Embedding(TYPES, d) for _ in range(2))
        """... price and volume of the type ..."""
        self.price_for = nn.Embedding(PRICES * CLASSES, d)
        """... and the volume of the price."""
        for part in (*self.looks, self.interval, self.kind, self.price, self.volume):
            part.apply(initialise)
        for table in (*self.interval_for, *self.kind_for, self.price_for):
            initialise(table)

    def for_rollouts(self) -> OrderHead:
        """Without torch where that can be."""
        return FourSteps(self) if can_step(self) else self

    def context(self, hidden: Tensor, features: Tensor) -> Tensor:
        """``[..., 4 d]``: the looks of the four fields side by side."""
        parts = hidden.chunk(len(SIZES), -1)
        return torch.cat([look(part, features) for look, part in zip(self.looks, parts, strict=True)], -1)

    def interval_logits(self, context: Tensor) -> Tensor:
        """``[..., 16]``."""
        out: Tensor = self.interval(context.chunk(4, -1)[0])
        return out

    def type_logits(self, context: Tensor, interval: Tensor) -> tuple[Tensor, Tensor]:
        """``[..., 3]``, and the context of what is left."""
        _, *rest = context.chunk(4, -1)
        kind, price, volume = (part + own(interval) for part, own in zip(rest, self.interval_for, strict=True))
        return self.kind(kind), torch.cat([price, volume], -1)

    def price_logits(self, context: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
        """``[..., 32]``, and the context of what is left."""
        price, volume = (part + own(types) for part, own in zip(context.chunk(2, -1), self.kind_for, strict=True))
        return of_class(self.price(price), types), volume

    def volume_logits(self, context: Tensor, types: Tensor, price: Tensor) -> Tensor:
        """``[..., 32]``."""
        return of_class(self.volume(context + self.price_for(price + PRICES * (types == CANCEL))), types)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean nats per order of each field given those before it.

        ``batch``: ``tokens`` ``[B, T + 1, 4]``, ``features`` ``[B, T + 1, F]`` right before each, ``group`` ``[B]``.
        """
        hidden = torch.cat([reader(batch) for reader in self.readers], -1)
        return chain_losses(self, self.context(hidden, batch["features"][:, 1:]), batch["tokens"].long()[:, 1:])


class FourSteps:
    """``FourNetworks`` as rollouts go through them, without torch; an ``OrderHead``."""

    def __init__(self, networks: FourNetworks) -> None:
        of_kind, *rest = networks.interval_for
        self.looks = [LookSteps(look.state, look.norm) for look in networks.looks]  # type: ignore[arg-type]
        self.interval = weights_of(networks.interval)
        self.kind = weights_of(of_kind, networks.kind)
        self.interval_for = weights_of(*rest)
        self.price = weights_of(networks.kind_for[0], networks.price)
        self.kind_for_volume = weights_of(networks.kind_for[1])[0]
        self.volume = weights_of(networks.price_for, networks.volume)

    def context(self, hidden: Tensor, features: Tensor) -> Tensor:
        """``[k, 4 d]``."""
        states = features.float().numpy()
        looked = [look(part, states) for look, part in zip(self.looks, _parts(hidden, 4), strict=True)]
        return torch.from_numpy(np.concatenate(looked, 1))

    def interval_logits(self, context: Tensor) -> Tensor:
        """``[k, 16]``."""
        return torch.from_numpy(two_layers(_parts(context, 4)[0], *self.interval))

    def type_logits(self, context: Tensor, interval: Tensor) -> tuple[Tensor, Tensor]:
        """``[k, 3]``, and the context of what is left."""
        _, kind, *rest = _parts(context, 4)
        slots = interval.numpy()
        left = [part + table[slots] for part, table in zip(rest, self.interval_for, strict=True)]
        return torch.from_numpy(given(kind, slots, *self.kind)[0]), torch.from_numpy(np.concatenate(left, 1))

    def price_logits(self, context: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
        """``[k, 32]``, and the context of what is left."""
        price, volume = _parts(context, 2)
        kinds = types.numpy()
        logits = half(given(price, kinds, *self.price)[0], kinds)
        return torch.from_numpy(logits), torch.from_numpy(volume + self.kind_for_volume[kinds])

    def volume_logits(self, context: Tensor, types: Tensor, price: Tensor) -> Tensor:
        """``[k, 32]``."""
        kinds = types.numpy()
        logits, _ = given(context.numpy(), price_rows(price.numpy(), kinds), *self.volume)
        return torch.from_numpy(half(logits, kinds))


def _parts(x: Tensor, count: int) -> list[NDArray[np.float32]]:
    """Equal parts of columns, each in one piece."""
    return [np.ascontiguousarray(part) for part in np.split(x.numpy(), count, 1)]
