"""The order model: sizes, proper distributions, losses by field, and what it may and may not see."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from marsbench.generators.lmm import order_model
from marsbench.generators.lmm.llama import Llama
from marsbench.generators.lmm.order_model import OrderModel, joint_losses
from marsbench.generators.lmm.recipe import HEADS, SHAPES, ModelConfig, Shape
from marsbench.learning.layouts import LAYOUTS
from marsbench.learning.vocabulary import SIZES, START, TOKENS, index, split

TINY = Shape(width=16, layers=2, heads=2, kv_heads=1, hidden=24)
GROUPS, ROWS, LENGTH = 3, 4, 9
FIELDS = ["interval", "type", "price", "volume"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def model(layout: str = "touch", head: str = "factorised", book: bool = True) -> OrderModel:
    return OrderModel(ModelConfig(TINY, layout, head, GROUPS, book))


def batch(layout: str = "touch", length: int = LENGTH) -> dict[str, Tensor]:
    """Random orders beside random features; the first row begins with the start of a session."""
    rng = np.random.default_rng(1)
    tokens = split(rng.integers(TOKENS, size=(ROWS, length + 1)))
    tokens[0, 0] = START, 0, 0, 0
    features = random_features(rng, layout, (ROWS, length + 1))
    return {"tokens": torch.as_tensor(tokens), "features": features, "group": torch.tensor([0, 1, 2, 1])}


def random_features(rng: np.random.Generator, layout: str, shape: tuple[int, int]) -> Tensor:
    kind = LAYOUTS[layout]
    if layout == "touch":
        return torch.as_tensor(rng.standard_normal((*shape, kind.width)).astype(kind.dtype))
    classes = rng.integers(32, size=(*shape, kind.width))
    return torch.as_tensor(classes.astype(kind.dtype))


@torch.no_grad()
def log_probabilities(made: OrderModel, hidden: Tensor, features: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """Of tokens ``[n, 4]`` after the decoder's ``[n, d]``, of each field given those before."""
    head = made.factorised
    assert head is not None
    types, price, volume, interval = tokens.long().unbind(-1)
    context = head.context(hidden, features)
    found = {"interval": _of(head.interval_logits(context), interval)}
    logits, context = head.type_logits(context, interval)
    found["type"] = _of(logits, types)
    logits, context = head.price_logits(context, types)
    found["price"] = _of(logits, price)
    found["volume"] = _of(head.volume_logits(context, types, price), volume)
    return found


def added(parts: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(parts.values())).sum(dim=0)


def _of(logits: Tensor, chosen: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1).gather(-1, chosen[..., None])[..., 0]


@pytest.mark.parametrize("name", SHAPES)
def test_a_name_counts_the_weights_of_the_decoder(name: str) -> None:
    promised = float(name[:-1]) * {"m": 1e6, "b": 1e9}[name[-1]]
    assert SHAPES[name].weights == pytest.approx(promised, rel=0.07)


@pytest.mark.parametrize("shape", [TINY, SHAPES["1m"]])
def test_the_number_of_weights_is_that_of_the_module(shape: Shape) -> None:
    assert sum(p.numel() for p in Llama(shape).parameters()) == shape.weights


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_factorised_probabilities_of_all_tokens_sum_to_one(layout: str) -> None:
    made, data, every = model(layout), batch(layout), torch.as_tensor(split(np.arange(TOKENS)))
    for seen in made.hidden(data)[0, :2]:
        hidden, features = seen.expand(TOKENS, -1), data["features"][0, 1].expand(TOKENS, -1)
        parts = log_probabilities(made, hidden, features, every)
        assert float(added(parts).double().exp().sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_factorised_losses_are_the_mean_cost_of_each_field_on_the_book_before_the_next_order(layout: str) -> None:
    made, data = model(layout), batch(layout)
    parts = log_probabilities(made, made.hidden(data), data["features"][:, 1:], data["tokens"][:, 1:])
    losses = made.losses(data)
    assert list(losses) == FIELDS
    for name, loss in losses.items():
        torch.testing.assert_close(loss, -parts[name].mean())


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_an_untrained_model_knows_about_as_much_as_the_uniform_distribution(head: str) -> None:
    losses = model(head=head).losses(batch())
    assert float(sum(losses.values())) == pytest.approx(np.log(TOKENS), abs=2)


def joint_inputs(orders: int = 30) -> tuple[Tensor, Tensor, Tensor]:
    hidden = torch.randn(orders, TINY.width, requires_grad=True)
    weight = torch.nn.Parameter(torch.randn(TOKENS, TINY.width) / 4)
    return hidden, weight, torch.as_tensor(split(np.random.default_rng(2).integers(TOKENS, size=orders))).long()


def test_joint_losses_sum_to_the_cross_entropy_of_whole_tokens_and_have_its_gradient() -> None:
    hidden, weight, targets = joint_inputs()
    total = added(joint_losses(hidden, weight, targets))
    plain = functional.cross_entropy(hidden @ weight.T, torch.as_tensor(index(targets)))
    torch.testing.assert_close(total, plain)
    found, wanted = (torch.autograd.grad(loss, (hidden, weight)) for loss in (total, plain))
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-4)


def test_joint_losses_by_field_are_the_costs_of_the_fields_given_those_before() -> None:
    hidden, weight, targets = joint_inputs()
    losses = joint_losses(hidden, weight, targets)
    assert list(losses) == FIELDS
    table = torch.softmax(hidden @ weight.T, -1).view(-1, *SIZES).permute(0, 4, 1, 2, 3)  # the chain's order
    chain = targets[:, [3, 0, 1, 2]]
    sums = [_mass(table, chain[:, :known]) for known in range(5)]
    for name, (before, after) in zip(FIELDS, pairwise(sums), strict=True):
        torch.testing.assert_close(losses[name], (before.log() - after.log()).mean(), atol=1e-5, rtol=1e-5)


def _mass(table: Tensor, known: Tensor) -> Tensor:
    """Probability ``[n]`` of the first fields."""
    return torch.stack([row[tuple(fields)].sum() for row, fields in zip(table, known.tolist(), strict=True)])


@pytest.mark.parametrize("chunk", [1, 7, 30])
def test_joint_losses_do_not_depend_on_how_they_are_cut_into_chunks(
    monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    hidden, weight, targets = joint_inputs()
    whole = joint_losses(hidden, weight, targets)
    gradients = torch.autograd.grad(added(whole), (hidden, weight))
    monkeypatch.setattr(order_model, "CHUNK", chunk)
    cut = joint_losses(hidden, weight, targets)
    for name in FIELDS:
        torch.testing.assert_close(cut[name], whole[name])
    for ours, theirs in zip(torch.autograd.grad(added(cut), (hidden, weight)), gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_a_start_is_one_embedding_beside_the_state_whatever_its_other_fields(layout: str) -> None:
    made, features, group = model(layout), batch(layout)["features"][0, 0], torch.tensor(2)
    plain = made.embed(torch.tensor([START, 0, 0, 0]), features, group)
    assert torch.equal(made.embed(torch.tensor([START, 5, 6, 7]), features, group), plain)
    wanted = made.order.kind.weight[START] + made.state(features)
    if made.order.group is not None:
        wanted = wanted + made.order.group.weight[2]
    torch.testing.assert_close(plain, wanted)


@torch.no_grad()
def test_prices_and_volumes_of_cancels_are_their_own_where_prices_count_from_the_touch() -> None:
    group, order, cancel = torch.tensor(0), torch.tensor([1, 4, 5, 6]), torch.tensor([2, 4, 5, 6])
    for layout, own in (("touch", True), ("paper", False)):
        embedding = model(layout).order
        difference = embedding(cancel, group) - embedding(order, group)
        kinds = embedding.kind.weight[2] - embedding.kind.weight[1]
        assert torch.allclose(difference, kinds, atol=1e-6) != own


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_without_the_book_nothing_about_the_book_changes_the_losses(layout: str, head: str) -> None:
    data = batch(layout)
    other = random_features(np.random.default_rng(9), layout, (ROWS, LENGTH + 1))
    columns = torch.as_tensor(LAYOUTS[layout].book_columns)
    assert columns.any()
    assert not columns.all()
    for book in (True, False):
        made = model(layout, head, book)
        for changed, matters in ((columns, book), (~columns, True)):
            moved = {**data, "features": torch.where(changed, other, data["features"])}
            before, after = (torch.stack(list(made.losses(d).values())) for d in (data, moved))
            assert torch.equal(before, after) != matters


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_the_decoder_sees_the_past_only(layout: str) -> None:
    made, data, at = model(layout), batch(layout), 5
    hidden = made.hidden(data)
    later = {**data, "tokens": data["tokens"].clone(), "features": data["features"].clone()}
    later["tokens"][:, at:] = torch.as_tensor(split(np.arange(LENGTH + 1 - at)))
    later["features"][:, at + made.after :] = 1
    assert torch.equal(made.hidden(later)[:, :at], hidden[:, :at])
    assert not torch.equal(made.hidden(later)[:, at:], hidden[:, at:])


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_an_order_stands_beside_the_book_before_it_or_after_it_as_its_layout_says(layout: str) -> None:
    made, data, at = model(layout), batch(layout), 5
    hidden = made.hidden(data)
    moved = {**data, "features": data["features"].clone()}
    moved["features"][:, at] = 1
    first = at - made.after
    assert torch.equal(made.hidden(moved)[:, :first], hidden[:, :first])
    assert not torch.equal(made.hidden(moved)[:, first], hidden[:, first])


@torch.no_grad()
def test_groups_are_told_apart_where_prices_count_from_the_touch() -> None:
    data = batch()
    other = {**data, "group": torch.tensor([1, 1, 2, 1])}
    made = model()
    assert not torch.equal(made.hidden(other)[0], made.hidden(data)[0])
    assert torch.equal(made.hidden(other)[1:], made.hidden(data)[1:])


@pytest.mark.parametrize("head", HEADS)
def test_every_weight_takes_part_in_learning(head: str) -> None:
    made = model(head=head)
    added(made.losses(batch(length=40))).backward()  # type: ignore[no-untyped-call]
    assert [name for name, p in made.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_configuration_comes_back_from_its_plain_form_and_unknown_choices_name_those_that_there_are() -> None:
    config = ModelConfig(TINY, "paper", "joint", 2, book=False)
    assert ModelConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="layout 'middle': choose one of touch, paper, public"):
        replace(config, layout="middle")
    with pytest.raises(ValueError, match="head 'two': choose one of factorised, joint"):
        replace(config, head="two")
