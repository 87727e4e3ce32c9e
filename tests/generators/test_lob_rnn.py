"""The recurrent model: it reaches the entropy of a known source, and simulates what it learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from markov_orders import PRICES, SWITCH, VOLUMES, MarkovOrders, batch_of, chain, tensors

from markets import start_at, two_days
from marsbench import registry
from marsbench.generators.lob_rnn.network import FourNetworks, Shape
from marsbench.learning.order_stream import WIDTH, order_stream
from marsbench.learning.plan import TrainingPlan
from marsbench.learning.recurrent import RecurrentRecall
from marsbench.learning.token_session import Beginning
from marsbench.learning.training import train
from marsbench.market.rules import SECOND
from marsbench.simulation.rollout import simulate
from trained import trained

PLAN = TrainingPlan(steps=250, batch_size=64, learning_rate=1e-2, warm_up_steps=20, validate_every=50)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def entropy(p: np.ndarray) -> np.ndarray:
    return -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(-1)


def test_it_reaches_the_entropy_of_a_known_source_field_by_field() -> None:
    torch.manual_seed(0)
    model = FourNetworks(Shape(1, 24, 1))
    held = [batch_of(chain(np.random.default_rng(5), 1024))]
    result = train(model, MarkovOrders(), held, PLAN, seed=0, say=lambda _: None)
    values, vectors = np.linalg.eig(SWITCH.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    stationary /= stationary.sum()
    known = {
        "type": float(stationary @ entropy(SWITCH)),
        "price": float(stationary @ entropy(PRICES)),
        "volume": float(entropy(VOLUMES)),
        "interval": float(np.log(3)),
    }
    for name, least in known.items():
        assert least - 0.02 < result.best[name] < least + 0.04, (name, least, result.best[name])


def test_each_field_is_learned_by_its_own_network_alone() -> None:
    model = FourNetworks(Shape(1, 8, 1))
    batch = tensors(MarkovOrders().batch(0, 4))
    for number, name in enumerate(("interval", "type", "price", "volume")):
        for weight in model.parameters():
            weight.grad = None
        model.losses(batch)[name].backward()  # type: ignore[no-untyped-call]
        learned = [any(w.grad is not None and bool(w.grad.any()) for w in r.parameters()) for r in model.readers]
        assert learned == [k == number for k in range(4)]


def test_what_it_knows_in_a_simulation_is_what_training_would_make_of_the_same_orders() -> None:
    made, _ = trained("lob-rnn")
    begin = start_at(two_days()[1], "10:00")
    session = made.open([begin], 2, key=0)

    tokeniser = made.tokeniser
    stream = order_stream(begin.history)
    _, group, tokens, features = tokeniser.content("", stream.last(made.options["context"]))
    features = tokeniser.layout.within(features, group)
    n = len(tokens)
    batch = {
        "tokens": torch.as_tensor(np.concatenate([tokens, tokens[-1:]])[None]),
        "features": torch.as_tensor(features[: n + 1][None]),
        "group": torch.tensor([group]),
    }
    hidden = torch.cat([reader(batch)[:, -1] for reader in made.model.readers], 1)
    beside = np.concatenate([features[:1], features[:n]])[-n:]
    batch["features"] = torch.as_tensor(np.concatenate([beside, features[-1:]])[None])
    shifted = torch.cat([reader(batch)[:, -1] for reader in made.model.readers], 1)
    known = session.recall.known(np.arange(2))
    assert known.shape == (2, hidden.shape[1])
    torch.testing.assert_close(known[:1], shifted)


def test_a_step_of_some_rows_is_a_longer_sequence_and_leaves_the_others_alone() -> None:

    torch.manual_seed(0)
    model = FourNetworks(Shape(1, 8, 2)).eval()
    tokens, features = chain(np.random.default_rng(0), 1)[0], np.random.default_rng(1).normal(size=(17, WIDTH))
    features = features.astype(np.float32)
    with torch.inference_mode():
        recall = RecurrentRecall(model.readers, [Beginning(tokens[:10], features[:10], 0)], 3)
        before = recall.known(np.arange(3))
        recall.read(np.array([0, 2]), tokens[[10, 10]], features[[10, 10]], np.zeros(2, np.int64), np.ones(2, bool))
        whole = RecurrentRecall(model.readers, [Beginning(tokens[:11], features[:11], 0)], 1)
    torch.testing.assert_close(recall.known(np.array([0, 2])), whole.known(np.zeros(1, np.int64)).expand(2, -1))
    assert torch.equal(recall.known(np.array([1]))[0], before[1])


def test_it_simulates_orders_cancels_and_trades() -> None:
    made, _ = trained("lob-rnn")
    (run,) = simulate(made, [start_at(two_days()[1], "10:00")], 1, 60 * SECOND, key=0)[0]
    assert len(run.orders) > 50
    assert set(np.unique(run.orders["kind"])) == {0, 1, 2}


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="width and layers must be at least 1, got 0 and 1"):
        registry.generator("lob-rnn", width=0)
