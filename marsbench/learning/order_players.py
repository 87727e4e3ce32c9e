"""Maker and critic of single orders: what two players of order flow are built from.

An order that is made is a row of one-hot fields, drawn one after the other with the gradient of their relaxation
(``adversarial.one_hot_draw``): interval, type given it, price given both, volume given all three, so that the same
order can be decided again on another book. Noise moves what all of them are drawn from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from marsbench.learning.adversarial import Adversarial, mode_coverage, one_hot_draw, overlap_distance
from marsbench.learning.balance import Balance
from marsbench.learning.order_heads import CANCEL, CLASSES, STATES, FactorisedHead, OrderEmbedding, initialise
from marsbench.learning.order_stream import STATE
from marsbench.learning.recurrent import LAYOUT, OrderReader
from marsbench.learning.vocabulary import SIZES, START

TYPES, PRICES, VOLUMES, INTERVALS = SIZES
FIELD_WIDTHS = [INTERVALS, TYPES, PRICES * CLASSES, VOLUMES * CLASSES]
ORDER_WIDTH = sum(FIELD_WIDTHS)
"""Columns of an order: interval, type, price and volume, the last two of new orders and of cancels apart."""
_SPREAD = STATE.index("spread")


def one_hot_orders(tokens: Tensor) -> Tensor:
    """``[..., ORDER_WIDTH]`` of tokens ``[..., 4]``."""
    types, price, volume, interval = tokens.long().unbind(-1)
    gone = types == CANCEL
    places = (interval, types, price + PRICES * gone, volume + VOLUMES * gone)
    return torch.cat([functional.one_hot(p, n).float() for p, n in zip(places, FIELD_WIDTHS, strict=True)], -1)


def tokens_of(orders: Tensor) -> Tensor:
    """Tokens ``[..., 4]`` of one-hot orders."""
    interval, types, price, volume = (part.argmax(-1) for part in torch.split(orders, FIELD_WIDTHS, -1))
    return torch.stack([types, price % PRICES, volume % VOLUMES, interval], -1)


class OrderMaker(nn.Module):
    """Makes the next order of each of many histories.

    Parameters
    ----------
    groups
        Groups of instruments that the tokens tell apart.
    width
        Of the LSTM that reads the orders so far.
    noise
        Normal numbers for each order.
    temperature
        Of the relaxation that the gradient is of.
    """

    def __init__(self, groups: int, width: int, noise: int, temperature: float) -> None:
        super().__init__()
        self.reader = OrderReader(groups, width)
        self.head = FactorisedHead(LAYOUT, width)
        self.head.apply(initialise)
        self.noise = nn.Linear(noise, width, bias=False)
        self.balance = Balance(groups)
        self.temperature = temperature

    def context(self, hidden: Tensor, features: Tensor, noise: Tensor) -> Tensor:
        """What an order is drawn from, ``[n, width]``."""
        return self.head.context(hidden + self.noise(noise), features)

    def fresh_context(self, hidden: Tensor, features: Tensor) -> Tensor:
        """The same with new noise."""
        noise = torch.randn(*hidden.shape[:-1], self.noise.in_features, device=hidden.device)
        return self.context(hidden, features, noise)

    def draw(self, context: Tensor) -> Tensor:
        """One-hot orders ``[..., ORDER_WIDTH]``."""
        head = self.head
        interval = one_hot_draw(head.interval_logits(context), self.temperature)
        context = context + interval @ head.given_interval.weight
        types = one_hot_draw(head.kind(context), self.temperature)
        context, gone = context + types @ head.given_type.weight, types[..., CANCEL:]
        price = one_hot_draw(_mixed(head.price(context), gone), self.temperature)
        price = torch.cat([price * (1 - gone), price * gone], -1)
        volume = one_hot_draw(_mixed(head.volume(context + price @ head.given_price.weight), gone), self.temperature)
        return torch.cat([interval, types, price, volume * (1 - gone), volume * gone], -1)


def _mixed(logits: Tensor, gone: Tensor) -> Tensor:
    """Of logits ``[..., 2 n]`` those of new orders or of cancels."""
    new, cancel = logits.chunk(CLASSES, -1)
    return (1 - gone) * new + gone * cancel


class OrderCritic(nn.Module):
    """Judges orders, ``orders`` of them in a row, with a reading of its own of the orders before them.

    ``beside`` numbers come with each order, such as what the book is like after it.
    """

    def __init__(self, groups: int, width: int, orders: int = 1, beside: int = 0) -> None:
        super().__init__()
        self.reader = OrderReader(groups, width)
        self.state = STATES[LAYOUT](width)
        self.order = nn.Linear(orders * (ORDER_WIDTH + beside), width)
        self.body = nn.Sequential(
            nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )  # fmt: skip

    def look(self, hidden: Tensor, features: Tensor) -> Tensor:
        """What orders are judged against, ``[..., width]``."""
        out: Tensor = hidden + self.state(features)
        return out

    def forward(self, orders: Tensor, context: Tensor) -> Tensor:
        """``[n]`` of orders ``[n, orders, ORDER_WIDTH + beside]`` and ``[n, width]``."""
        out: Tensor = self.body(self.order(orders.flatten(1)) + context)[:, 0]
        return out


def embed_orders(embedding: OrderEmbedding, orders: Tensor, group: Tensor) -> Tensor:
    """What ``embedding`` makes of one-hot orders ``[..., ORDER_WIDTH]``, with a gradient for them."""
    interval, types, price, volume = torch.split(orders, FIELD_WIDTHS, -1)
    out: Tensor = (
        types @ embedding.kind.weight[:START] + price @ embedding.price.weight + volume @ embedding.volume.weight
    )
    out = out + interval @ embedding.interval.weight
    return out if embedding.group is None else out + embedding.group(group)


def order_distances(made: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Total variation between tokens made ``[B, T, 4]`` and those that came, by field.

    Types go with the type of the order before, prices with whether the spread was wide, intervals with the type.
    ``batch`` as in ``OrderReader``.
    """
    real, before = batch["tokens"].long()[:, 1:], batch["tokens"].long()[:, :-1, 0]
    wide = (batch["features"][:, 1:, _SPREAD] > 0).long()

    def apart(classes: int, code: int, *beside: Tensor) -> Tensor:
        both = [_coded(tokens, code) for tokens in (made, real)]
        for other, n in ((b, int(b.max()) + 1) for b in beside):
            both = [own * n + other for own in both]
            classes *= n
        return overlap_distance(both[0], both[1], classes)

    return {
        "interval": overlap_distance(
            made[..., 3] * TYPES + made[..., 0], real[..., 3] * TYPES + real[..., 0], INTERVALS * TYPES
        ),
        "type": apart(TYPES, 0, before),
        "price": apart(PRICES * CLASSES, 1, wide),
        "volume": apart(VOLUMES * CLASSES, 2),
    }


def _coded(tokens: Tensor, field: int) -> Tensor:
    """A field of tokens; of prices and volumes those of cancels apart from those of new orders."""
    value = tokens[..., field]
    return value if field == 0 else value + PRICES * (tokens[..., 0] == CANCEL)


def order_coverage(made: Tensor, real: Tensor) -> float:
    """Share of real orders ``[..., 4]`` whose type and price slot come at least a quarter as often among those made."""
    both = [_coded(tokens, 1) * TYPES + tokens[..., 0] for tokens in (made, real)]
    return mode_coverage(both[0], both[1], PRICES * CLASSES * TYPES)


@contextmanager
def same_draws(like: Tensor) -> Iterator[None]:
    """Draws that are the same every time, and leave all others as they were."""
    with torch.random.fork_rng(devices=[like.device] if like.device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


class OrderPlayers(Adversarial):
    """A maker of orders and its critic, judged by single orders in place of those that came."""

    maker: OrderMaker
    critic: OrderCritic

    def distances(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """See ``order_distances``."""
        return order_distances(self.sample(batch), batch)

    def sample(self, batch: dict[str, Tensor]) -> Tensor:
        """One order in place of each of a batch ``[B, T, 4]``, the same every time."""
        with same_draws(batch["tokens"]):
            context = self.maker.fresh_context(self.maker.reader(batch), batch["features"][:, 1:])
            return tokens_of(self.maker.draw(context))

    def coverage(self, batch: dict[str, Tensor]) -> float:
        """See ``order_coverage``."""
        return order_coverage(self.sample(batch), batch["tokens"].long()[:, 1:])
