"""``cgan``: the conditional GAN world agent of Coletta et al. (2021, 2022)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from marsbench.learning.order_gan import OrderGan
from marsbench.learning.order_generator import FRESH

if TYPE_CHECKING:
    from torch import nn


class CGan(OrderGan):
    """A world agent: given the market as it is and noise, it gives the next order, and a critic learns to tell.

    Coletta, Prata, Conti, Mercanti, Bartolini, Moulin, Vyetrenko and Balch (2021), "Towards realistic market
    simulations: a generative adversarial networks approach", for limit orders; Coletta, Moulin, Vyetrenko and Balch
    (2022), "Learning to simulate realistic limit order book markets from data as a world agent", for market orders,
    cancels and replacements and for unrolled training. Otherwise than there:

    - An order is one-hot fields instead of continuous numbers that are rounded afterwards: tokens of
      ``marsbench.learning.vocabulary`` (type, price slot from the quotes, volume slot, interval slot, within which
      values are drawn from training), drawn with straight-through Gumbel-softmax at ``temperature``, so that the
      gradient goes through the choice of a type, which a threshold after the fact cuts. Where slots are impossible on
      the book they are left out of the draw in simulation.
    - A replacement is a cancel and a new order at once, a market order one that crosses the spread.
    - Fields are drawn one after the other (interval, type, price, volume), so that what an order is can be decided
      when it is due, on the book as it then is. Fully connected layers take the place of convolutions along the
      vector of an order, whose fields have no neighbours.
    - The state is that of the order models here (ten levels, recent activity on five time scales, time of day) and an
      LSTM over the orders so far; the papers give a few hand-made features of book and flow.
    - The critic is Wasserstein's with a gradient penalty, as in Gulrajani et al. (2017): five of its steps for one of
      the maker's, Adam with averages 0 and 0.9; the penalty weighs 1 instead of 10. Both players move from the same
      weights in one step, and rates fall along a cosine to a tenth. The papers' rates, widths, noise, batches and
      lengths of history are not published in full; these and the weight of the penalty are ours, rates and widths
      chosen on validation days.
    - Only single orders are judged in training, and errors of a few percent in how often what comes add up over
      a session. So the trained maker gets biases, fitted in ``rounds`` of its own simulations from training starts
      (see ``marsbench.learning.balance``).
    - A cancel takes an order whole, and a simulation is held to states that training knew, as described in
      ``marsbench.learning.token_session``: ``notes`` tells how often.
    - ``unrolled`` orders in a row are made in training as in the paper of 2022, each read before the next; but the
      book stays as it was before the first of them, for the critic too, since matching is no part of the network.

    Weights are those with the least total variation between orders made and held-out ones (see
    ``marsbench.learning.order_players.order_distances``).

    Parameters
    ----------
    width
        Of the LSTMs and layers of both players.
    noise
        Normal numbers for each order.
    temperature
        Of the relaxation whose gradient the maker gets.
    critic_steps, penalty
        Of the critic.
    unrolled
        Orders in a row that are made, and judged together, in training.
    tokens, context, batch
        Orders seen by the critic, repetitions counted; in a sequence; sequences in a step.
    rounds
        Of simulations in which biases are fitted; 0: none.
    init, device
        As of ``lob-rnn``.
    """

    name = "cgan"
    version = 3
    training_version = 3
    summary = "conditional GAN world agent: next order from market state and noise, Wasserstein critic"
    source = "Coletta et al. (2021), Towards realistic market simulations; Coletta et al. (2022), World agent"
    checkpoints = Path(__file__).parent / "checkpoints"
    architecture = ("width", "noise", "unrolled")

    def __init__(
        self,
        width: int = 128,
        noise: int = 16,
        temperature: float = 1.0,
        critic_steps: int = 5,
        penalty: float = 1.0,
        unrolled: int = 1,
        tokens: int = 60_000_000,
        context: int = 128,
        batch: int = 64,
        learning_rate: float = 1e-3,
        rounds: int = 9,
        init: str = FRESH,
        device: str = "auto",
    ) -> None:
        if width < 1 or noise < 1 or temperature <= 0 or rounds < 0 or not 1 <= unrolled < context:
            raise ValueError(
                f"{self.name}: width and noise from 1, temperature above 0, rounds from 0, unrolled from 1 and below "
                f"context; got width={width}, noise={noise}, temperature={temperature}, rounds={rounds}, "
                f"unrolled={unrolled}, context={context}"
            )
        super().__init__(
            width=width, noise=noise, temperature=temperature, critic_steps=critic_steps, penalty=penalty,
            unrolled=unrolled, tokens=tokens, context=context, batch=batch, learning_rate=learning_rate, rounds=rounds,
            init=init, device=device,
        )  # fmt: skip
        self.rivalry()

    def network(self, groups: int) -> nn.Module:
        from .network import WorldAgent

        own = self.options
        return WorldAgent(groups, own["width"], own["noise"], own["temperature"], self.rivalry(), own["unrolled"])

    def describe(self, model: nn.Module) -> str:
        weights = sum(p.numel() for p in model.parameters())
        return (
            f"Conditional GAN of single orders after Coletta et al. (2021, 2022): {weights:,} weights of both players, "
            f"{self.options['critic_steps']} steps of the critic for one of the maker, sequences of "
            f"{self.options['context']} orders; {self.balanced}."
        )


__all__ = ["CGan"]
