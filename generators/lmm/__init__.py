"""The order model of MarS: ``lmm-order-SIZE``, trained by ``marsbench train``, and ``mars-order:NAME``, public weights.

Of the first there is one class for each size; the size counts the weights of the decoder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marsbench.learning.order_generator import FRESH, beginning_of, check_device, device_of
from marsbench.learning.sampling import Sampling
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import (
    Artifact,
    Budget,
    Session,
    SessionGenerator,
    Start,
    Trained,
    Work,
)
from marsbench.simulation.randomness import Streams

from .recipe import HEADS, LAYOUT_NAMES, SHAPES, Recipe

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset

SHIPPED_SIZES = ("1m", "2m")
"""They come with weights, and take part in runs that name no generators."""
SMALL_TRAINING, SMALL_BATCH, LARGE_BATCH = 20_000_000, 16, 64
"""Orders to learn from, and sequences in a step up to so many and beyond."""
PUBLIC = "microsoft/mars-order-model"
"""The authors' weights on the Hugging Face hub."""


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
    batch
        Sequences in a step of training; none: 16, or 64 where it learns from more than 20 million orders.
    init
        Name of a data set whose trained model of the same kind it starts from (``reference``), or ``none``.
    temperature, top_p
        Of sampling; 1 and 1 are the model's own distribution.
    compile
        Rollouts go through ``torch.compile``: the same up to rounding, a little faster, and for the first time on a
        machine up to a minute late. Without a C++ compiler a warning says so, and they go on as they are.
    device
        Where rollouts are computed: ``cpu``, ``cuda`` or ``auto``, which takes a GPU where there is one.
    """

    version = 4
    training_version = 2
    reacts = True
    by_default = False
    source = "MarS (ICLR 2025), sections 2.1, 2.2 and appendix B"
    checkpoints = Path(__file__).parent / "checkpoints"
    size: str

    def __init__(
        self,
        layout: str = "touch",
        head: str = "factorised",
        book: bool = True,
        tokens: int = 132_000_000,
        days: int | None = None,
        context: int = 256,
        batch: int | None = None,
        learning_rate: float = 2e-3,
        dropout: float = 0.0,
        init: str = FRESH,
        temperature: float = 1.0,
        top_p: float = 1.0,
        compile: bool = False,
        device: str = "auto",
    ) -> None:
        check_device(self.name, device)
        chosen = (("layout", layout, LAYOUT_NAMES), ("head", head, HEADS))
        for name, value, choices in chosen:
            if value not in choices:
                raise ValueError(f"{self.name}: {name} {value!r}: choose one of {', '.join(choices)}")
        if batch is None:
            batch = SMALL_BATCH if tokens <= SMALL_TRAINING else LARGE_BATCH
        for name, number in (("tokens", tokens), ("context", context), ("batch", batch), ("days", days or 1)):
            if number < 1:
                raise ValueError(f"{self.name}: {name} must be at least 1, got {number}")
        self.recipe = Recipe(self.size, layout, head, book, tokens, context, batch, learning_rate, dropout)
        self.sampling = Sampling(temperature, top_p)
        self.days, self.init = days, init
        self.compile, self.device = compile, device
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
        return {**self.training_parameters(), **asdict(self.sampling), "compile": self.compile, "device": self.device}

    def train(self, dataset: Dataset, folder: Path, *, seed: int, work: Work) -> Artifact:
        from marsbench.fitting import training_periods

        from .training import train

        untouched = type(self)(layout=self.recipe.layout, head=self.recipe.head, book=self.recipe.book)
        return train(
            dataset,
            training_periods(self, dataset),
            self.recipe,
            folder,
            name=self.name,
            version=self.training_version,
            seed=seed,
            work=work,
            start_from=beginning_of(self, untouched, self.init, dataset, work),
        )

    def load(self, artifact: Artifact) -> None:
        from marsbench.learning.checkpoints import load_config, load_model
        from marsbench.learning.tokeniser import Tokeniser

        from .order_model import OrderModel
        from .recipe import ModelConfig

        self.tokeniser = Tokeniser.load(artifact.folder)
        self.model = OrderModel(ModelConfig.from_dict(load_config(artifact.folder)["model"]))
        load_model(artifact.folder, self.model)
        self.model.eval().requires_grad_(False).to(device_of(self.name, self.device))
        self.model.decoder.compile_steps = self.compile

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


class MarsOrder(SessionGenerator):
    """The authors' public weights, ``microsoft/mars-order-model`` on the Hugging Face hub or a folder of that layout.

    The weights come without their bins. Those that they are used with here are fitted on the training periods, equal
    in frequency as theirs were; where the two differ, the model is told and says something else than it was trained
    for, which a result of this generator must be read with.

    Parameters
    ----------
    checkpoint
        Name on the hub, or a local folder.
    context
        Orders that it looks back on; none: as many as it was trained on.
    temperature, top_p, compile, device
        As of ``lmm-order``.
    """

    name = "mars-order"
    version = 3
    reacts = True
    by_default = False
    training_days = 10
    summary = "the authors' public order model, with bins fitted on the training periods"
    source = "MarS (ICLR 2025), public code and weights"

    def __init__(
        self,
        checkpoint: str = PUBLIC,
        context: int | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        compile: bool = False,
        device: str = "auto",
    ) -> None:
        check_device(self.name, device)
        if context is not None and context < 1:
            raise ValueError(f"{self.name}: context must be at least 1, or none for the model's own; got {context}")
        self.checkpoint, self.context = checkpoint, context
        self.compile, self.device = compile, device
        self.sampling = Sampling(temperature, top_p)
        self.tokeniser: Any = None
        self.public: Any = None

    def parameters(self) -> Mapping[str, Any]:
        how = {"compile": self.compile, "device": self.device}
        return {"checkpoint": self._identity(), "context": self.context, **asdict(self.sampling), **how}

    def _identity(self) -> str:
        """The name on the hub; of a folder its name and what its weights are."""
        weights = Path(self.checkpoint) / "model.safetensors"
        if not weights.is_file():
            return self.checkpoint
        return f"{Path(self.checkpoint).name} {hashlib.sha256(weights.read_bytes()).hexdigest()[:16]}"

    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        from marsbench.learning.order_stream import order_stream
        from marsbench.learning.tokeniser import Tokeniser

        folder.mkdir(parents=True, exist_ok=True)
        Tokeniser.fit([order_stream(t) for t in data], "public").save(folder)
        return Artifact.write(folder, generator=self.name, version=self.version, seed=seed, data=data)

    def load(self, artifact: Artifact) -> None:
        from marsbench.learning.tokeniser import Tokeniser

        from .public import load_public

        self.tokeniser, self.public = Tokeniser.load(artifact.folder), load_public(self.checkpoint)
        self.public.model.requires_grad_(False).to(device_of(self.name, self.device))
        self.public.model.decoder.compile_steps = self.compile

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        from .session import OrderModelSession

        if self.public is None:
            raise ValueError(f"{self.name} has neither weights nor bins yet; fit and load it first")
        return OrderModelSession(
            self.public.model,
            self.tokeniser,
            starts,
            rollouts,
            Streams.of(key, [s.uid for s in starts], rollouts),
            context=self.context or self.public.context,
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
            "by_default": size in SHIPPED_SIZES,
            "summary": f"order model of MarS: a LLaMA decoder of {weights / 1e6:,.1f}M weights over order tokens",
            "__doc__": LmmOrder.__doc__,
            "__module__": __name__,
        },
    )


SIZES: dict[str, type[LmmOrder]] = {size: _sized(size) for size in SHAPES}
globals().update({cls.__name__: cls for cls in SIZES.values()})
