"""Speed of the order model on one core: rollouts, the public code's design beside them, starts, training.

Weights are random, as speed does not depend on them; order books, features and sampling are the real ones. Rollouts are
timed in their steady state: a full context, every row active. Run it alone, as any other work on the machine takes
memory bandwidth away from it: ``make bench``, or this file with the same options.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from markets import start_at, two_days
from marsbench import registry
from marsbench.generators.lmm import few_rows
from marsbench.generators.lmm.llama import Llama, Ring
from marsbench.generators.lmm.order_model import OrderModel
from marsbench.generators.lmm.recipe import Shape
from marsbench.learning.layouts import CHANGES, TIMES
from marsbench.learning.order_stream import order_stream
from marsbench.learning.tokeniser import Tokeniser
from marsbench.learning.vocabulary import SIZES, TOKENS, split
from marsbench.market.rules import MINUTE
from marsbench.simulation.contracts import SessionGenerator, Start
from marsbench.simulation.rollout import simulate

ROLLOUTS, CONTEXT, ROUNDS = 128, 256, 3
WARM_UP, STEPS = 8, 30
DESIGNS = {
    "factorised head": ({"head": "factorised"}, False, 4000),
    "factorised head, compiled": ({"head": "factorised"}, True, 6000),
    "joint head": ({"head": "joint"}, False, 900),
}
"""Parameters, whether steps are compiled, and the target in orders per second."""


class Enough(Exception):
    """Ends a simulation."""


class Timed:
    """A session that notes the CPU time of some of its steps, and then ends the simulation."""

    def __init__(self, session: Any, rows: int) -> None:
        self.session, self.rows, self.steps, self.orders = session, rows, 0, 0
        self.notes, self.propose, self.observe = session.notes, session.propose, session.observe

    def decide(self, rows: Any, book: Any) -> Any:
        if self.steps == WARM_UP:
            self.began = time.process_time()
        if self.steps == WARM_UP + STEPS:
            self.orders_per_second = self.orders / (time.process_time() - self.began)
            raise Enough
        assert len(rows) == self.rows
        self.steps += 1
        self.orders += len(rows) if self.steps > WARM_UP else 0
        return self.session.decide(rows, book)


class TimedGenerator:
    """Opens such a session."""

    name = "timed"

    def __init__(self, generator: SessionGenerator) -> None:
        self.generator = generator

    def open(self, starts: Any, rollouts: int, **more: Any) -> Any:
        self.session = Timed(self.generator.open(starts, rollouts, **more), len(starts) * rollouts)
        return self.session


def generator(compiled: bool, **parameters: Any) -> Any:
    """``lmm-order-2m`` with random weights, and the bins of one day."""
    made: Any = registry.generator("lmm-order-2m", context=CONTEXT, **parameters)
    made.tokeniser = Tokeniser.fit([order_stream(two_days()[0])], made.recipe.layout)
    made.model = OrderModel(made.recipe.config(1)).eval().requires_grad_(False)
    made.model.decoder.compile_steps = compiled
    return made


def orders_per_second(made: Any, start: Start, rollouts: int = ROLLOUTS) -> float:
    """In the steady state of so many rollouts."""
    timed: Any = TimedGenerator(made)
    try:
        simulate(timed, [start], rollouts, 25 * MINUTE, key=0)
    except Enough:
        return float(timed.session.orders_per_second)
    raise AssertionError("the simulation ended before it was timed")


class PublicDesign(nn.Module):
    """The public code's way to an order, at our size: the whole window through the decoder, one softmax, multinomial.

    Order books are left out, and logits are those of the last position only; both are in its favour.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d = shape.width
        self.fields = nn.ModuleList(nn.Embedding(size, d) for size in SIZES)
        self.change, self.time = nn.Embedding(CHANGES, d), nn.Embedding(TIMES, d)
        self.volumes = nn.Sequential(nn.Linear(10, d), nn.LayerNorm(d))
        config = LlamaConfig(
            vocab_size=TOKENS,
            bos_token_id=None,
            eos_token_id=None,
            hidden_size=d,
            intermediate_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
        )
        self.decoder = LlamaModel(config)
        self.head = nn.Linear(d, TOKENS, bias=False)

    @torch.inference_mode()
    def order(self, tokens: Tensor, features: Tensor) -> Tensor:
        """The next order ``[B, 4]`` after windows ``[B, W, 4]`` beside features ``[B, W, 12]``."""
        x = sum(table(tokens[..., i]) for i, table in enumerate(self.fields))
        x = x + self.change(features[..., 0]) + self.time(features[..., 1]) + self.volumes(features[..., 2:].float())
        hidden = self.decoder(inputs_embeds=x, use_cache=False).last_hidden_state[:, -1]
        drawn = torch.multinomial(torch.softmax(self.head(hidden), -1), 1)[:, 0]
        return torch.as_tensor(split(drawn.numpy())).long()


def public_orders_per_second(shape: Shape, steps: int = 2) -> float:
    """Of that design, for 128 rollouts."""
    rng = np.random.default_rng(0)
    made = PublicDesign(shape).eval()
    tokens = torch.as_tensor(split(rng.integers(TOKENS, size=(ROLLOUTS, CONTEXT)))).long()
    features = torch.as_tensor(rng.integers(32, size=(ROLLOUTS, CONTEXT, 12)))

    def run() -> None:
        window = tokens
        for _ in range(steps):
            window = torch.cat([window[:, 1:], made.order(window, features)[:, None]], 1)

    return ROLLOUTS * steps / seconds(run)


def seconds(run: Callable[[], Any]) -> float:
    """CPU time."""
    began = time.process_time()
    run()
    return time.process_time() - began


@torch.inference_mode()
def start_seconds(decoder: Llama) -> tuple[float, float]:
    """To read one start sequence for 128 rollouts: once, and 128 times."""
    x = torch.randn(ROLLOUTS, CONTEXT, decoder.shape.width)

    def once() -> None:
        ring = Ring(decoder.shape, 1, CONTEXT, like=x)
        decoder(x[:1], ring=ring)
        ring.spread(ROLLOUTS)

    def each() -> None:
        decoder(x, ring=Ring(decoder.shape, ROLLOUTS, CONTEXT, like=x))

    once()
    return median(seconds(once) for _ in range(5)), seconds(each)


@torch.inference_mode()
def step_seconds(decoder: Llama, rows: int, *, few: bool, steps: int = 40) -> float:
    """A step of so few rows from a full ring, without torch or with it."""
    x = torch.randn(rows, CONTEXT, decoder.shape.width)
    ring, own = Ring(decoder.shape, rows, CONTEXT, like=x), np.arange(rows)
    decoder(x, ring=ring)
    before, few_rows.MOST = few_rows.MOST, rows if few else 0
    try:
        decoder.step(x[:, -1], ring, own)
        return min(seconds(lambda: [decoder.step(x[:, -1], ring, own) for _ in range(steps)]) for _ in range(3)) / steps
    finally:
        few_rows.MOST = before


def training_tokens_per_second(made: Any, steps: int = 2, batch: int = 8) -> float:
    """Losses, gradients and AdamW on windows of 256 orders."""
    rng = np.random.default_rng(0)
    model = OrderModel(made.model.config)
    data = {
        "tokens": torch.as_tensor(split(rng.integers(TOKENS, size=(batch, CONTEXT + 1)))),
        "features": torch.as_tensor(rng.standard_normal((batch, CONTEXT + 1, made.tokeniser.layout.width))).half(),
        "group": torch.zeros(batch, dtype=torch.long),
    }
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        sum(model.losses(data).values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    return batch * CONTEXT * steps / seconds(lambda: [step() for _ in range(steps)])


def test_orders_per_second() -> None:
    """All in one run, as ratios hold where absolute numbers drift."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    start = start_at(two_days()[1], "10:50")
    made = {name: generator(compiled, **parameters) for name, (parameters, compiled, _) in DESIGNS.items()}
    orders_per_second(made["factorised head, compiled"], start)  # compiles
    reached: dict[str, list[float]] = {name: [] for name in DESIGNS}
    for _ in range(ROUNDS):
        for name in DESIGNS:
            reached[name].append(orders_per_second(made[name], start))
    plain = made["factorised head"]
    shape = plain.model.config.shape
    public = public_orders_per_second(shape)
    once, each = start_seconds(plain.model.decoder)
    print(f"\n  lmm-order-2m, {ROLLOUTS} rollouts, context {CONTEXT}, one core")
    print(f"  {'':52}{'reached':>12}{'target':>9}")
    for name, (_, _, target) in DESIGNS.items():
        line(f"{name}, orders/s", f"{median(reached[name]):,.0f}", f"{target:,}")
    line("the public code's design, orders/s", f"{public:,.1f}")
    for name in ("factorised head", "joint head"):
        line(f"  {name}, times as fast", f"{median(reached[name]) / public:,.0f}")
    line("one start read for all rollouts, ms", f"{1e3 * once:,.1f}")
    line("  once for each, ms", f"{1e3 * each:,.0f}")
    line("  times as fast", f"{each / once:,.0f}")
    for rows in (1, 4, few_rows.MOST):
        ways = [1e3 * step_seconds(plain.model.decoder, rows, few=few) for few in (True, False)]
        line(f"the decoder's step of {rows} row(s), ms; by torch", f"{ways[0]:.2f}; {ways[1]:.2f}")
    for name in ("factorised head", "joint head"):
        line(f"training, {name}, tokens/s", f"{training_tokens_per_second(made[name]):,.0f}")


def line(what: str, found: str, target: str = "") -> None:
    print(f"  {what:<52}{found:>12}{target:>9}")
