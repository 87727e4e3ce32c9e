"""What an order model is and how it is trained, as plain values; needs no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from marsbench.learning.plan import TrainingPlan

LAYOUT_NAMES = ("touch", "paper", "public")
HEADS = ("factorised", "joint")


@dataclass(frozen=True)
class Shape:
    """Dimensions of a decoder."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    """Heads of keys and values; fewer than ``heads`` is grouped-query attention, as in the largest LLaMA 2."""
    hidden: int
    """Inner width of the feed-forward part."""
    theta: float = 10_000.0
    eps: float = 1e-5
    dropout: float = 0.0
    """Of attention weights, in training."""

    def __post_init__(self) -> None:
        if self.width % self.heads or self.heads % self.kv_heads or (self.width // self.heads) % 2:
            raise ValueError(f"{self}: width must be an even multiple of heads, and heads a multiple of kv_heads")

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def weights(self) -> int:
        """Number of weights in the decoder (no embedding, no head)."""
        attention = self.width * self.head_width * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.hidden + 2 * self.width) + self.width


SHAPES: dict[str, Shape] = {
    "1m": Shape(128, 4, 2, 1, 512),
    "2m": Shape(192, 4, 3, 1, 704),
    "5m": Shape(256, 6, 4, 1, 896),
    "10m": Shape(384, 6, 6, 2, 1152),
    "20m": Shape(512, 8, 8, 2, 1216),
    "50m": Shape(768, 8, 12, 4, 2048),
    "100m": Shape(1024, 10, 16, 4, 2560),
    "200m": Shape(1280, 12, 20, 5, 3328),
    "500m": Shape(1792, 16, 28, 7, 4352),
    "1b": Shape(2304, 20, 36, 9, 5504),
}
"""By name; the name counts the weights of the decoder, which leaves out embeddings and heads."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything that the architecture depends on."""

    shape: Shape
    layout: str
    """A key of ``LAYOUT_NAMES``."""
    head: str
    """``factorised`` or ``joint``."""
    groups: int
    """Groups of instruments that the bins tell apart."""
    book: bool = True
    """Whether the model sees the book; without, only the order, the time of day and what happened lately."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUT_NAMES:
            raise ValueError(f"layout {self.layout!r}: choose one of {', '.join(LAYOUT_NAMES)}")
        if self.head not in HEADS:
            raise ValueError(f"head {self.head!r}: choose one of {', '.join(HEADS)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Back from ``to_dict``."""
        return cls(**{**values, "shape": Shape(**values["shape"])})


@dataclass(frozen=True)
class Recipe:
    """What an order model is trained as; every field is part of the artifact's key."""

    size: str
    """A key of ``SHAPES``."""
    layout: str
    head: str
    book: bool
    tokens: int
    """Orders to learn from, repetitions counted."""
    context: int
    """Orders in a sequence."""
    batch: int
    """Sequences in a step."""
    learning_rate: float
    dropout: float
    """Of attention weights."""

    def plan(self) -> TrainingPlan:
        """Steps and schedule."""
        steps = max(self.tokens // (self.batch * self.context), 1)
        every = max(min(steps // 20, 250), 1)
        return TrainingPlan(
            steps=steps,
            batch_size=self.batch,
            learning_rate=self.learning_rate,
            warm_up_steps=min(200, steps // 10),
            validate_every=every,
            checkpoint_every=every,
        )

    def config(self, groups: int) -> ModelConfig:
        """The architecture."""
        shape = SHAPES[self.size]
        return ModelConfig(
            shape=replace(shape, dropout=self.dropout),
            layout=self.layout,
            head=self.head,
            groups=groups,
            book=self.book,
        )
