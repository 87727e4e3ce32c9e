"""A conditional GAN of single orders: the world agent and its critic, each with a reading of the market of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from marsbench.learning.order_players import (
    OrderCritic,
    OrderMaker,
    OrderPlayers,
    embed_orders,
    one_hot_orders,
)
from marsbench.learning.plan import Rivalry


class WorldAgent(OrderPlayers):
    """Makes the next order, or several in a row, given the orders so far and the book; see ``CGan``."""

    def __init__(
        self, groups: int, width: int, noise: int, temperature: float, rivalry: Rivalry, unrolled: int = 1
    ) -> None:
        super().__init__(rivalry)
        self.maker = OrderMaker(groups, width, noise, temperature)
        self.critic = OrderCritic(groups, width, unrolled)
        self.unrolled = unrolled

    def given(self, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """The critic's view of what orders follow, ``[n, width]``."""
        hidden, features = self.critic.reader(batch), batch["features"][:, 1:]
        return (self._followed(self.critic.look(hidden, features)),)

    def _followed(self, values: Tensor) -> Tensor:
        """Of values after every order ``[B, T, ...]`` those where orders are made, ``[n, ...]``.

        One in a row is made after each order of a sequence, several after its last but so many.
        """
        return values.flatten(0, 1) if self.unrolled == 1 else values[:, -self.unrolled]

    def real(self, batch: dict[str, Tensor]) -> Tensor:
        """The orders that came, ``[n, unrolled, ORDER_WIDTH]``."""
        orders = one_hot_orders(batch["tokens"][:, 1:])
        return orders.flatten(0, 1)[:, None] if self.unrolled == 1 else orders[:, -self.unrolled :]

    def make(self, batch: dict[str, Tensor]) -> Tensor:
        """Orders in their place, ``[n, unrolled, ORDER_WIDTH]``."""
        if self.unrolled > 1:
            return self._roll(batch)
        hidden, features = self.maker.reader(batch), batch["features"][:, 1:]
        return self.maker.draw(self.maker.fresh_context(hidden, features)).flatten(0, 1)[:, None]

    def _roll(self, batch: dict[str, Tensor]) -> Tensor:
        """Several orders in a row, each read by the maker before it makes the next; the book stays what it was."""
        reader, features = self.maker.reader, batch["features"][:, -self.unrolled]
        known = {name: value if name == "group" else value[:, : 1 - self.unrolled] for name, value in batch.items()}
        x = reader.embed(known["tokens"].long()[:, :-1], known["features"][:, :-1], known["group"][:, None])
        out, state = reader.lstm(x)
        hidden, made = out[:, -1], []
        for _ in range(self.unrolled):
            order = self.maker.draw(self.maker.fresh_context(hidden, features))
            made.append(order)
            x = embed_orders(reader.order, order, batch["group"]) + reader.state(features)
            out, state = reader.lstm(x[:, None], state)
            hidden = out[:, 0]
        return torch.stack(made, 1)
