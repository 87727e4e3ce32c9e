"""``lob-rnn``: the recurrent model of Hultin et al. (2023), an order as a product of four conditional laws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marsbench.learning.order_generator import FRESH, OrderByOrder
from marsbench.simulation.contracts import Session, Start
from marsbench.simulation.randomness import Streams

if TYPE_CHECKING:
    from torch import nn

    from marsbench.learning.plan import TrainingPlan


class LobRnn(OrderByOrder):
    """Order flow from four recurrent networks, one for each field of an order.

    Hultin, Hult, Proutiere, Samama and Tarighati (2023) write the probability of the next transition of the book as a
    product of conditional probabilities, of order type, price level, order size and time delay, and model each by a
    recurrent network of its own, trained by maximum likelihood. So here. Otherwise than there:

    - The time comes first in the chain, not last: what an order is, is decided when it is due, on the book as it then
      is, so that agents can act in between. The product is the same.
    - Fields are the tokens of ``marsbench.learning.vocabulary``: 3 types, 32 slots of prices counted from the quotes
      and of volumes for new orders and for cancels apart, 16 slots of intervals counted in mean intervals, within
      which values are drawn from training; the paper has levels of a book of fixed depth, and laws of its own for
      sizes and delays.
    - Each network sees, beside the orders, the market state of the order models here: ten levels of each side, what
      lately happened on five time scales, time of day.
    - When the next order comes is read from the market's own orders alone, what it is from everybody's (see
      ``marsbench.learning.recurrent``).
    - A cancel takes an order whole, and a simulation is held to states that training knew, as described in
      ``marsbench.learning.token_session``.
    - Widths, learning rate and schedule are ours; the paper tunes them for each data set.

    Parameters
    ----------
    width, layers
        Of each of the four LSTMs.
    tokens
        Orders to learn from, repetitions counted.
    context
        Orders in a sequence of training, and of a starting sequence that are read.
    batch
        Sequences in a step.
    init
        Name of a data set whose trained model it starts from (``reference``), or ``none``.
    device
        Where rollouts are computed: ``cpu``, ``cuda`` or ``auto``, which takes a GPU where there is one.
    """

    name = "lob-rnn"
    version = 1
    summary = "four LSTMs for time, type, price and size of the next order, maximum likelihood"
    source = "Hultin, Hult, Proutiere, Samama, Tarighati (2023), A generative model of a limit order book"
    checkpoints = Path(__file__).parent / "checkpoints"
    architecture = ("width", "layers")

    def __init__(
        self,
        width: int = 128,
        layers: int = 1,
        tokens: int = 105_000_000,
        context: int = 256,
        batch: int = 64,
        learning_rate: float = 2e-3,
        init: str = FRESH,
        device: str = "auto",
    ) -> None:
        if width < 1 or layers < 1:
            raise ValueError(f"{self.name}: width and layers must be at least 1, got {width} and {layers}")
        super().__init__(
            width=width, layers=layers, tokens=tokens, context=context, batch=batch, learning_rate=learning_rate,
            init=init, device=device,
        )  # fmt: skip

    def network(self, groups: int) -> nn.Module:
        from .network import FourNetworks, Shape

        return FourNetworks(Shape(groups, self.options["width"], self.options["layers"]))

    def plan(self) -> TrainingPlan:
        from marsbench.learning.plan import TrainingPlan

        every = max(min(self.steps // 20, 250), 1)
        return TrainingPlan(
            steps=self.steps,
            batch_size=self.options["batch"],
            learning_rate=self.options["learning_rate"],
            warm_up_steps=min(200, self.steps // 10),
            validate_every=every,
            checkpoint_every=every,
        )

    def describe(self, model: nn.Module) -> str:
        weights = sum(p.numel() for p in model.parameters())
        return (
            f"Recurrent model of Hultin et al. (2023): four LSTMs of width {self.options['width']}, {weights:,} "
            f"weights, sequences of {self.options['context']} orders."
        )

    def session(self, starts: Sequence[Start], rollouts: int, streams: Streams) -> Session:
        from marsbench.learning.recurrent_session import RecurrentSession

        model: Any = self.model
        return RecurrentSession(
            list(model.readers), model, self.tokeniser, starts, rollouts, streams, context=self.options["context"]
        )


__all__ = ["LobRnn"]
