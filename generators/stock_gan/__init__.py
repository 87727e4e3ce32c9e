"""``stock-gan``: the conditional Wasserstein GAN of Li et al. (2020), with a network for the double auction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from marsbench.learning.order_gan import OrderGan
from marsbench.learning.order_generator import FRESH

if TYPE_CHECKING:
    from torch import nn


class StockGanOrders(OrderGan):
    """Orders from history, book and noise, judged by a critic together with what the auction makes of them.

    Li, Wang, Lin, Sinha and Wellman (2020), "Generating realistic stock market order streams": a conditional
    Wasserstein GAN whose maker and critic read the orders so far by an LSTM and see the best quotes, and in which a
    network that was trained beforehand stands for the continuous double auction, so that the critic sees what an
    order does to the book and the maker gets a gradient for it. Otherwise than there:

    - An order is one-hot fields of ``marsbench.learning.vocabulary`` drawn with straight-through Gumbel-softmax, one
      after the other; the paper's are continuous numbers, rounded after training, over the shares of a period of the
      day. Cancels are orders of their own, as in the paper.
    - The auction network estimates spread, volumes at the best quotes and the move of the mid after an order, from
      the order and the whole state before it; the paper's gives best bid and ask. It trains for ``auction_steps``
      steps within the same run and stays fixed from then on.
    - Both players see ten levels and recent activity besides the quotes, and ``context`` orders of history, where the
      paper has the latest 20.
    - Noise is 16 normal numbers, the paper's 100 uniform ones. Fully connected layers take the place of one such and
      four convolutions in the maker, of one and three in the auction network: fields have no neighbours.
    - The gradient penalty is two-sided, five critic steps for one of the maker, Adam with averages 0 and 0.9 (Gulrajani
      et al. 2017); it weighs 1 instead of 10. Both players move from the same weights in one step, and rates fall along
      a cosine to a tenth. Weight of the penalty, learning rate, batch and widths are ours.
    - The trained maker gets biases, fitted in ``rounds`` of its own simulations, as ``cgan`` does.
    - In simulation the real book takes the auction's place. A cancel takes an order whole, and a simulation is held to
      states that training knew (``marsbench.learning.token_session``): ``notes`` tells how often.

    Parameters
    ----------
    auction_steps
        Steps in which the auction network alone learns.
    width, noise, temperature, critic_steps, penalty, tokens, context, batch, rounds, init, device
        As of ``cgan``.
    """

    name = "stock-gan"
    version = 3
    training_version = 3
    summary = "conditional Wasserstein GAN of orders with a pre-trained network for the double auction"
    source = "Li, Wang, Lin, Sinha, Wellman (2020), Generating realistic stock market order streams"
    checkpoints = Path(__file__).parent / "checkpoints"
    architecture = ("width", "noise")

    def __init__(
        self,
        width: int = 128,
        noise: int = 16,
        temperature: float = 1.0,
        critic_steps: int = 5,
        penalty: float = 1.0,
        auction_steps: int = 1000,
        tokens: int = 110_000_000,
        context: int = 128,
        batch: int = 64,
        learning_rate: float = 1e-3,
        rounds: int = 9,
        init: str = FRESH,
        device: str = "auto",
    ) -> None:
        if width < 1 or noise < 1 or temperature <= 0 or min(auction_steps, rounds) < 0 or context < 2:
            raise ValueError(
                f"{self.name}: width and noise from 1, temperature above 0, auction_steps and rounds from 0, context "
                f"from 2; got width={width}, noise={noise}, temperature={temperature}, "
                f"auction_steps={auction_steps}, rounds={rounds}, context={context}"
            )
        super().__init__(
            width=width, noise=noise, temperature=temperature, critic_steps=critic_steps, penalty=penalty,
            auction_steps=auction_steps, tokens=tokens, context=context, batch=batch, learning_rate=learning_rate,
            rounds=rounds, init=init, device=device,
        )  # fmt: skip
        self.rivalry()

    def network(self, groups: int) -> nn.Module:
        from .network import StockGan

        own = self.options
        return StockGan(groups, own["width"], own["noise"], own["temperature"], self.rivalry(), own["auction_steps"])

    def describe(self, model: nn.Module) -> str:
        weights = sum(p.numel() for p in model.parameters())
        return (
            f"Stock-GAN after Li et al. (2020): {weights:,} weights of maker, critic and auction network, "
            f"{self.options['auction_steps']} steps for the auction, then {self.options['critic_steps']} steps of the "
            f"critic for one of the maker, sequences of {self.options['context']} orders; {self.balanced}."
        )


__all__ = ["StockGanOrders"]
