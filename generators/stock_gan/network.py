"""Stock-GAN: an order and what the auction makes of it, judged together.

A network of its own learns first what an order does to the top of the book (``Auction``). Then it stays as it is, and
maker and critic train: the critic is shown an order together with the book after it, which for an order that was made
is the auction's estimate, through which the gradient goes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from marsbench.learning.contracts import Player
from marsbench.learning.order_heads import initialise
from marsbench.learning.order_players import (
    ORDER_WIDTH,
    OrderCritic,
    OrderMaker,
    OrderPlayers,
    one_hot_orders,
)
from marsbench.learning.order_stream import STATE
from marsbench.learning.plan import Rivalry
from marsbench.learning.recurrent import FEATURES

TOP = ("spread", "ask_volume_1", "bid_volume_1", "displacement_3s")
"""What is known of the book after an order: spread, volumes at the best quotes, and where the mid went."""
_TOP = [STATE.index(name) for name in TOP]


class Auction(nn.Module):
    """What an order ``[..., ORDER_WIDTH]`` makes of the top of a book ``[..., F]``: ``[..., len(TOP)]``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(ORDER_WIDTH + FEATURES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, len(TOP)),
        )  # fmt: skip
        self.apply(initialise)

    def forward(self, orders: Tensor, features: Tensor) -> Tensor:
        state = features.to(orders.dtype)
        out: Tensor = state[..., _TOP] + self.body(torch.cat([orders, state], -1))
        return out


class StockGan(OrderPlayers):
    """See the module."""

    def __init__(
        self, groups: int, width: int, noise: int, temperature: float, rivalry: Rivalry, auction_steps: int
    ) -> None:
        super().__init__(rivalry)
        self.maker = OrderMaker(groups, width, noise, temperature)
        self.critic = OrderCritic(groups, width, beside=len(TOP))
        self.auction = Auction(width)
        self.auction_steps = auction_steps

    def players(self) -> tuple[Player, ...]:
        """Maker, critic and the auction, which no other is moved with."""
        return (*super().players(), Player(tuple(self.auction.parameters()), betas=(0.9, 0.999)))

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """In the first steps the auction's alone, then the players'; in evaluation the distances."""
        if not self.training:
            return self.distances(batch)
        if int(self.updates) < self.auction_steps:
            self.updates += 1
            nothing = batch["features"].new_zeros((), dtype=torch.float32)
            return {"critic": nothing, "maker": nothing, "auction": self.auction_loss(batch)}
        with torch.no_grad():
            auction = self.auction_loss(batch)
        return {**super().losses(batch), "auction": auction}

    def auction_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Mean square error of the top of the book after each order, in standard deviations of its columns."""
        orders = one_hot_orders(batch["tokens"][:, 1:-1])
        return functional.mse_loss(self.auction(orders, batch["features"][:, 1:-1]), _after(batch))

    def given(self, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """The critic's view of what orders follow, ``[n, width]``."""
        hidden = self.critic.reader(batch)[:, :-1]
        return (self.critic.look(hidden, batch["features"][:, 1:-1]).flatten(0, 1),)

    def real(self, batch: dict[str, Tensor]) -> Tensor:
        """Orders that came and the top of the book after them, ``[n, 1, ORDER_WIDTH + len(TOP)]``."""
        orders = one_hot_orders(batch["tokens"][:, 1:-1])
        return torch.cat([orders, _after(batch)], -1).flatten(0, 1)[:, None]

    def make(self, batch: dict[str, Tensor]) -> Tensor:
        """Orders in their place and what the auction would make of them."""
        hidden, features = self.maker.reader(batch)[:, :-1], batch["features"][:, 1:-1]
        orders = self.maker.draw(self.maker.fresh_context(hidden, features))
        fixed = {name: weight.detach() for name, weight in self.auction.named_parameters()}
        after = torch.func.functional_call(self.auction, fixed, (orders, features))
        return torch.cat([orders, after], -1).flatten(0, 1)[:, None]


def _after(batch: dict[str, Tensor]) -> Tensor:
    """The top of the book after each order but the last, ``[B, T - 1, len(TOP)]``."""
    return batch["features"][:, 2:, _TOP].float()
