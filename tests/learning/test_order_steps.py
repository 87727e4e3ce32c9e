"""Parts of order models without torch are the same functions as with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import Tensor, nn

from marsbench.generators.lob_rnn.network import FourNetworks, FourSteps, Shape
from marsbench.learning.compiled_layers import sigmoid
from marsbench.learning.order_heads import FactorisedHead, OrderHead, initialise
from marsbench.learning.order_steps import FactorisedSteps, ReaderSteps, can_step
from marsbench.learning.recurrent import FEATURES, OrderReader
from marsbench.learning.vocabulary import SIZES, START

ROWS, WIDTH, GROUPS = 9, 24, 3
LIMITS = {"rtol": 0, "atol": 2e-5}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def fields(rows: int = ROWS) -> Tensor:
    return torch.stack([torch.randint(n, (rows,)) for n in SIZES], 1)


def states(rows: int = ROWS) -> Tensor:
    return (2 * torch.randn(rows, FEATURES)).half()


def factorised(**options: Any) -> FactorisedHead:
    head = FactorisedHead("touch", WIDTH, **options)
    head.apply(initialise)
    nn.init.uniform_(head.norm.weight, 0.5, 2.0)
    for part in (head.interval, head.kind, head.price, head.volume, head.state):
        nn.init.normal_(list(part.parameters())[-1])  # biases are 0 at first
    return head


def four_networks() -> FourNetworks:
    networks = FourNetworks(Shape(GROUPS, WIDTH, 1))
    for look in networks.looks:
        nn.init.uniform_(look.norm.weight, 0.5, 2.0)
    return networks


def decided(head: OrderHead, hidden: Tensor, features: Tensor, tokens: Tensor) -> list[Tensor]:
    """Everything that a head says on the way to orders."""
    types, price, _, interval = tokens.unbind(1)
    context = head.context(hidden, features)
    found = [context, head.interval_logits(context)]
    logits, context = head.type_logits(context, interval)
    found += [logits, context]
    logits, context = head.price_logits(context, types)
    return [*found, logits, context, head.volume_logits(context, types, price)]


@pytest.mark.parametrize(
    ("head", "width", "steps"),
    [
        (factorised, WIDTH, FactorisedSteps),
        (lambda: factorised(book=False), WIDTH, FactorisedSteps),
        (four_networks, 4 * WIDTH, FourSteps),
    ],
    ids=["factorised", "factorised without the book", "four networks"],
)
@pytest.mark.parametrize("rows", [1, ROWS])
@torch.inference_mode()
def test_a_head_says_the_same(head: Any, width: int, steps: type, rows: int) -> None:
    made = head()
    compiled = made.for_rollouts()
    assert isinstance(compiled, steps)
    asked = torch.randn(rows, width), states(rows), fields(rows)
    for plain, other in zip(decided(made, *asked), decided(compiled, *asked), strict=True):
        torch.testing.assert_close(other, plain, **LIMITS)


@torch.inference_mode()
def test_what_is_given_stays_as_it_was() -> None:
    """Contexts are kept, and decided from again where a book has changed."""
    for made, width in ((factorised(), WIDTH), (four_networks(), 4 * WIDTH)):
        head, tokens, context = made.for_rollouts(), fields(), torch.randn(ROWS, width)
        before = context.clone()
        head.interval_logits(context)
        _, later = head.type_logits(context, tokens[:, 3])
        known = later.clone()
        _, last = head.price_logits(later, tokens[:, 0])
        head.volume_logits(last, tokens[:, 0], tokens[:, 1])
        assert torch.equal(context, before)
        assert torch.equal(later, known)


def test_other_layouts_and_precisions_stay_with_torch() -> None:
    for head in (FactorisedHead("paper", 8), factorised().double(), four_networks().double()):
        assert head.for_rollouts() is head
    assert not can_step(OrderReader(GROUPS, WIDTH).double())


@pytest.mark.parametrize("layers", [1, 2])
@torch.inference_mode()
def test_a_reader_moves_the_states_of_its_rows_alone(layers: int) -> None:
    reader = OrderReader(GROUPS, WIDTH, layers)
    for name, weight in reader.lstm.named_parameters():
        if "bias" in name:
            nn.init.normal_(weight)
    h, c = torch.randn(2, layers, 2 * ROWS, WIDTH)
    c *= 3
    rows = np.random.default_rng(0).permutation(2 * ROWS)[:ROWS]
    tokens, features, group = fields(), states(), torch.randint(GROUPS, (ROWS,))
    tokens[4] = torch.tensor([START, 0, 0, 0])
    own_h, own_c = h.clone(), c.clone()
    ReaderSteps(reader)(rows, tokens.numpy(), features.numpy(), group.numpy(), own_h, own_c)
    x = reader.embed(tokens, features, group)[:, None]
    h[:, rows], c[:, rows] = reader.lstm(x, (h[:, rows], c[:, rows]))[1]
    torch.testing.assert_close(own_h, h, **LIMITS)
    torch.testing.assert_close(own_c, c, **LIMITS)
    others = np.setdiff1d(np.arange(2 * ROWS), rows)
    assert torch.equal(own_h[:, others], h[:, others])


@torch.inference_mode()
def test_rows_do_not_depend_on_what_is_computed_beside_them() -> None:
    head, asked = factorised().for_rollouts(), (torch.randn(ROWS, WIDTH), states(), fields())
    whole = decided(head, *asked)
    for row in range(ROWS):
        alone = decided(head, *(part[row : row + 1] for part in asked))
        for one, other in zip(alone, whole, strict=True):
            torch.testing.assert_close(one[0], other[row], **LIMITS)


def test_the_sigmoid_is_one_at_every_size() -> None:
    x = np.concatenate([np.linspace(-120, 120, 4001), np.linspace(-1, 1, 4001), [1e-30, -1e-30, 3e38, -3e38]])
    x = x.astype(np.float32)[None]
    found, true = sigmoid(x)[0], expit(x[0].astype(np.float64))
    usual = np.abs(x[0]) < 80
    np.testing.assert_allclose(found[usual], true[usual], rtol=5e-7)
    np.testing.assert_allclose(found[~usual], true[~usual], atol=1e-34)
