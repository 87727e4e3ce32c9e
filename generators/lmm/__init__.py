"""``lmm-order-SIZE``: the order model of MarS, trained by ``marsbench train`` on the training periods of a data set.

One class for each size; the size counts the weights of the decoder. ``lmm-order-2m`` takes part in runs that name no
generators, the others when they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marsbench.simulation.contracts import Artifact, Session, SessionGenerator, Start, Trained, Work
from marsbench.simulation.randomness import Streams

from .recipe import HEADS, LAYOUT_NAMES, SHAPES, Recipe
from .sampling import Sampling

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset

FRESH = "none"
"""``init``: weights start at random."""


class LmmOrder(Trained, SessionGenerator):
    """The order model: a LLaMA decoder over order tokens beside the state of the market.

    Parameters
    ----------
    layout
        What it is told beside the orders: ``touch`` (ours), ``paper`` or ``public``, see ``layouts``.
    head
        ``factorised`` (interval, then type, price, volume) or ``joint`` (one softmax over 49,152 tokens).
    book
        Whether it sees the book.
    tokens
        Orders to learn from, repetitions counted.
    days
        It learns from so many days of each instrument, the latest; none: from all.
    context
        Orders that it looks back on, in training and in rollouts.
    init
        Name of a data set whose trained model of the same kind it starts from (``reference``), or ``none``.
    temperature, top_p
        Of sampling; 1 and 1 are the model's own distribution.
    """

    version = 1
    reacts = True
    source = "MarS (ICLR 2025), sections 2.1, 2.2 and appendix B"
    checkpoints = Path(__file__).parent / "checkpoints"
    size: str

    def __init__(
        self,
        layout: str = "touch",
        head: str = "factorised",
        book: bool = True,
        tokens: int = 18_000_000,
        days: int | None = None,
        context: int = 256,
        batch: int = 16,
        learning_rate: float = 2e-3,
        dropout: float = 0.0,
        init: str = FRESH,
        temperature: float = 1.0,
        top_p: float = 1.0,
    ) -> None:
        for name, value, choices in (("layout", layout, LAYOUT_NAMES), ("head", head, HEADS)):
            if value not in choices:
                raise ValueError(f"{self.name}: {name} {value!r}: choose one of {', '.join(choices)}")
        for name, number in (("tokens", tokens), ("context", context), ("batch", batch), ("days", days or 1)):
            if number < 1:
                raise ValueError(f"{self.name}: {name} must be at least 1, got {number}")
        self.recipe = Recipe(self.size, layout, head, book, tokens, context, batch, learning_rate, dropout)
        self.sampling = Sampling(temperature, top_p)
        self.days, self.init = days, init
        self.model: Any = None
        self.tokeniser: Any = None

    @property
    def training_days(self) -> int | None:  # type: ignore[override]
        """See ``days``."""
        return self.days

    def training_parameters(self) -> Mapping[str, Any]:
        recipe = {name: value for name, value in asdict(self.recipe).items() if name != "size"}
        return {**recipe, "days": self.days, "init": self.init}

    def parameters(self) -> Mapping[str, Any]:
        return {**self.training_parameters(), **asdict(self.sampling)}

    def train(self, dataset: Dataset, folder: Path, *, seed: int, work: Work) -> Artifact:
        from marsbench.fitting import training_periods

        from .training import train

        return train(
            dataset,
            training_periods(self, dataset),
            self.recipe,
            folder,
            name=self.name,
            version=self.version,
            seed=seed,
            work=work,
            start_from=self._start(work),
        )

    def _start(self, work: Work) -> Artifact | None:
        """The trained model that training starts from."""
        if self.init == FRESH:
            return None
        from marsbench.data.catalogue import open_dataset
        from marsbench.fitting import find_trained

        other = type(self)(layout=self.recipe.layout, head=self.recipe.head, book=self.recipe.book)
        found = find_trained(other, open_dataset(self.init), 0, work.cache, work.say)
        if found is None:
            raise ValueError(
                f"{self.name}: init {self.init!r}: no {self.name} has been trained on that data set; train it first: "
                f"marsbench train {self.name} -d {self.init}"
            )
        return found

    def load(self, artifact: Artifact) -> None:
        from marsbench.learning.checkpoints import load_config, load_model

        from .order_model import OrderModel
        from .recipe import ModelConfig
        from .tokeniser import Tokeniser

        self.tokeniser = Tokeniser.load(artifact.folder)
        self.model = OrderModel(ModelConfig.from_dict(load_config(artifact.folder)["model"]))
        load_model(artifact.folder, self.model)
        self.model.eval().requires_grad_(False)

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        from .session import OrderModelSession

        if self.model is None:
            raise ValueError(f"{self.name} has no weights yet; train it (marsbench train {self.name}), then load them")
        streams = Streams.of(key, [s.uid for s in starts], rollouts)
        return OrderModelSession(
            self.model,
            self.tokeniser,
            starts,
            rollouts,
            streams,
            context=self.recipe.context,
            sampling=self.sampling,
        )


def _sized(size: str) -> type[LmmOrder]:
    """The class of one size."""
    weights = SHAPES[size].weights
    return type(
        f"LmmOrder{size.upper()}",
        (LmmOrder,),
        {
            "name": f"lmm-order-{size}",
            "size": size,
            "by_default": size == "2m",
            "summary": f"order model of MarS: a LLaMA decoder of {weights / 1e6:,.1f}M weights over order tokens",
            "__doc__": LmmOrder.__doc__,
            "__module__": __name__,
        },
    )


SIZES: dict[str, type[LmmOrder]] = {size: _sized(size) for size in SHAPES}
globals().update({cls.__name__: cls for cls in SIZES.values()})
