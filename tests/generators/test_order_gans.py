"""The GANs of orders: each learns a source whose dependence is known, beyond what shuffling keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from markov_orders import SWITCH, MarkovOrders, apart, batch_of, chain, pairs, tensors

from marsbench import registry
from marsbench.generators.cgan.network import WorldAgent
from marsbench.generators.stock_gan.network import TOP, Auction, StockGan
from marsbench.learning.order_gan import OrderGan
from marsbench.learning.order_generator import adopt
from marsbench.learning.order_players import (
    ORDER_WIDTH,
    embed_orders,
    one_hot_orders,
    order_coverage,
    order_distances,
    tokens_of,
)
from marsbench.learning.order_stream import STATE
from marsbench.learning.plan import Rivalry, TrainingPlan
from marsbench.learning.recurrent import FEATURES
from marsbench.learning.training import train
from resuming import check_resumes

RIVALRY = Rivalry(critic_steps=4, penalty=1.0)
PLAN = TrainingPlan(
    steps=700, batch_size=64, learning_rate=3e-3, min_learning_rate_ratio=0.1, warm_up_steps=0, weight_decay=0.0,
    betas=(0.0, 0.9), clip_norm=1e3, largest_rise=1e4, validate_every=50, checkpoint_every=700,
)  # fmt: skip
WIDTH = 32
SEEDS = (0, 1, 2)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def world_agent(unrolled: int = 1) -> WorldAgent:
    return WorldAgent(1, WIDTH, 4, 1.0, RIVALRY, unrolled)


def stock_gan() -> StockGan:
    return StockGan(1, WIDTH, 4, 1.0, RIVALRY, 30)


MODELS: dict[str, Any] = {
    "cgan": world_agent,
    "cgan, unrolled": lambda: world_agent(3),
    "stock-gan": stock_gan,
}


def learned(name: str, seed: int) -> Any:
    torch.manual_seed(seed)
    model = MODELS[name]()
    held = [batch_of(chain(np.random.default_rng([9, seed]), 512))]
    plan = replace(PLAN, steps=2 * PLAN.steps) if "unrolled" in name else PLAN
    train(model, MarkovOrders(seed), held, plan, seed=seed, say=lambda _: None)
    return model


@torch.no_grad()
def generated(model: Any, rows: int = 512, length: int = 24) -> np.ndarray:
    """Tokens that follow one another as in a simulation, ``[rows, length, 4]``."""
    torch.manual_seed(123)
    maker = model.maker
    token = torch.as_tensor(chain(np.random.default_rng(3), rows, 1))
    features, group = torch.zeros(rows, 1, FEATURES), torch.zeros(rows, 1, dtype=torch.long)
    out, state = [], None
    for _ in range(length):
        hidden, state = maker.reader.lstm(maker.reader.embed(token, features, group), state)
        token = tokens_of(maker.draw(maker.fresh_context(hidden, features)))
        out.append(token)
    return np.concatenate([t.numpy() for t in out], axis=1)


def shuffled(source: np.ndarray) -> np.ndarray:
    """The same types in random order."""
    types = np.random.default_rng(1).permuted(source[..., 0], axis=None)[..., None]
    return np.broadcast_to(types, (*types.shape[:2], 4))


@pytest.mark.parametrize("name", ["cgan", "cgan, unrolled", "stock-gan"])
def test_it_learns_which_type_follows_which_where_shuffled_orders_do_not(name: str) -> None:
    """Over three seeds: types that follow one another are less than half as far from the source as in a shuffled copy
    of it, and no mode is lost. Unrolled, a sequence gives one sample instead of sixteen, and training is longer."""
    source = chain(np.random.default_rng(77), 2000, 25)
    control = apart(pairs(shuffled(source)), pairs(source))
    assert control > 0.2
    distances, coverage = [], []
    for seed in SEEDS:
        model = learned(name, seed)
        made = generated(model)
        distances.append(apart(pairs(made), pairs(source)))
        coverage.append(order_coverage(torch.as_tensor(made), torch.as_tensor(source)))
    assert max(distances) < 0.5 * control, (distances, control)
    assert min(coverage) > 0.9, coverage


@pytest.mark.parametrize("stopped_after", [20, 50])
@pytest.mark.parametrize("name", MODELS)
def test_continued_equals_uninterrupted_bit_for_bit(name: str, stopped_after: int, tmp_path: Path) -> None:
    """Of ``stock-gan`` also where the network of the auction is still learning, which takes 30 steps."""
    plan = replace(PLAN, steps=60, batch_size=4, validate_every=10, checkpoint_every=10)
    held = [batch_of(chain(np.random.default_rng(9), 32))]

    def trained(**more: Any) -> tuple[Any, Any]:
        torch.manual_seed(0)
        model = MODELS[name]()
        result = train(model, MarkovOrders(0), held, plan, seed=0, say=lambda _: None, **more)
        return model.state_dict(), result.curves

    check_resumes(trained, stopped_after, tmp_path)


def test_one_hot_orders_and_tokens_are_the_same_thing() -> None:
    tokens = torch.as_tensor(chain(np.random.default_rng(0), 5))
    orders = one_hot_orders(tokens)
    assert orders.shape == (5, 17, ORDER_WIDTH)
    assert torch.equal(orders.sum(-1), torch.full((5, 17), 4.0))
    assert torch.equal(tokens_of(orders), tokens)


def test_orders_that_are_made_are_read_like_tokens() -> None:
    model, tokens = world_agent(), torch.as_tensor(chain(np.random.default_rng(0), 5))
    group = torch.zeros(5, 1, dtype=torch.long)
    embedding = model.maker.reader.order
    torch.testing.assert_close(embed_orders(embedding, one_hot_orders(tokens), group), embedding(tokens, group))


def test_what_is_drawn_is_an_order_and_carries_a_gradient_to_every_part_of_the_maker() -> None:
    for model in (world_agent(), world_agent(3), stock_gan()):
        made = model.make(tensors(MarkovOrders().batch(0, 8)))
        orders = made[..., :ORDER_WIDTH]
        assert torch.equal(one_hot_orders(tokens_of(orders)), orders.detach().round())
        made.square().sum().backward()  # type: ignore[no-untyped-call]
        assert all(w.grad is not None for w in model.maker.parameters())


def test_the_same_draws_every_time_leave_other_random_numbers_alone() -> None:
    model, batch = world_agent().eval(), tensors(MarkovOrders().batch(0, 8))
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    first, second = model.sample(batch), model.sample(batch)
    assert torch.equal(first, second)
    assert torch.equal(torch.rand(3), expected)


def test_distances_are_zero_for_what_came_and_one_for_what_never_does() -> None:
    batch = tensors(MarkovOrders().batch(0, 64))
    real = batch["tokens"].long()[:, 1:]
    assert all(float(d) == 0 for d in order_distances(real, batch).values())
    other = real.clone()
    other[..., 1:] = torch.tensor([20, 20, 12])
    found = order_distances(other, batch)
    assert float(found["type"]) == 0
    assert all(float(found[name]) == 1 for name in ("price", "volume", "interval"))


def test_unrolled_orders_are_judged_against_the_book_before_the_first_of_them() -> None:
    model, batch = world_agent(3), tensors(MarkovOrders().batch(0, 8))
    real, made, (given,) = model.real(batch), model.make(batch), model.given(batch)
    assert real.shape == made.shape == (8, 3, ORDER_WIDTH)
    assert torch.equal(tokens_of(real), batch["tokens"].long()[:, -3:])
    before = batch["features"].clone()
    batch["features"][:, -2:] += 1  # the books after the first of them
    assert torch.equal(model.given(batch)[0], given)
    batch["features"] = before.clone()
    batch["features"][:, -3] += 1
    assert not torch.equal(model.given(batch)[0], given)


def test_the_auction_learns_what_orders_do_to_the_book_and_then_stays_as_it_is() -> None:
    torch.manual_seed(0)
    model = stock_gan().train()
    optimizer = torch.optim.Adam(model.auction.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)
    first = last = 0.0
    for _ in range(120):
        batch = tensors(moved(rng))
        loss = model.auction_loss(batch)
        first, last = (first or loss.item()), loss.item()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert last < 0.2 * first
    model.updates += model.auction_steps
    for weight in model.parameters():
        weight.grad = None
    losses = model.losses(tensors(moved(rng)))
    torch.stack(tuple(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(w.grad is None for w in model.auction.parameters())
    assert all(w.grad is not None for w in model.critic.parameters())


def moved(rng: np.random.Generator) -> dict[str, Any]:
    """A market in which a bid narrows the spread by one and a cancel widens it by as much."""
    batch = batch_of(chain(rng, 64))
    step = np.select([batch["tokens"][..., 0] == 1, batch["tokens"][..., 0] == 2], [-1.0, 1.0], 0.0)
    spread = np.cumsum(step, axis=1) - step
    batch["features"][..., STATE.index("spread")] = spread
    return batch


def test_what_starts_from_another_model_has_its_weights_and_biases_of_its_own() -> None:
    other, model = WorldAgent(1, WIDTH, 4, 1.0, RIVALRY), WorldAgent(2, WIDTH, 4, 1.0, RIVALRY)
    other.maker.balance.bias_type += 1.0
    adopt(model, other, ["A"], ["A", "B"], keep=OrderGan.of_the_data)
    assert torch.equal(model.maker.noise.weight, other.maker.noise.weight)
    rows = model.maker.reader.order.group
    assert rows is not None
    assert torch.equal(rows.weight[0], rows.weight[1])
    assert all((bias == 0).all() for bias in model.maker.balance.biases().values())


def test_in_its_first_steps_nothing_but_the_auction_learns() -> None:
    model = stock_gan().train()
    losses = model.losses(tensors(MarkovOrders().batch(0, 8)))
    assert {name: float(value) for name, value in losses.items() if name != "auction"} == {"critic": 0.0, "maker": 0.0}
    torch.stack(tuple(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(w.grad is None for part in (model.maker, model.critic) for w in part.parameters())
    assert int(model.updates) == 1


def test_the_auction_starts_from_the_book_as_it_is() -> None:
    auction = Auction(8)
    for weight in auction.parameters():
        weight.data.zero_()
    features = torch.randn(3, FEATURES)
    assert auction(torch.zeros(3, ORDER_WIDTH), features).shape == (3, len(TOP))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("cgan,temperature=0", "temperature above 0"),
        ("cgan,unrolled=200", "unrolled from 1 and below context"),
        ("cgan,critic_steps=0", "critic_steps"),
        ("stock-gan,context=1", "context from 2"),
        ("cgan,batch=0", "batch must be at least 1"),
        ("stock-gan,device=gpu", "choose one of auto, cpu, cuda"),
    ],
)
def test_options_that_cannot_be_are_refused(spec: str, said: str) -> None:
    name, _, options = spec.partition(",")
    key, _, value = options.partition("=")
    with pytest.raises(ValueError, match=said):
        registry.generator(name, **{key: value if key == "device" else int(value)})


def test_the_source_is_what_it_says() -> None:
    tokens = chain(np.random.default_rng(0), 4000)
    seen = pairs(tokens).reshape(3, 3)
    np.testing.assert_allclose(seen / seen.sum(1, keepdims=True), SWITCH, atol=0.02)
