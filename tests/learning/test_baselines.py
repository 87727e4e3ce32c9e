"""Simple models of order tokens against sources whose entropy is known."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from marsbench.learning.baselines import CHAIN, MODELS, Orders, Training, baseline_losses
from marsbench.learning.token_files import TokenFiles, write_token_files
from marsbench.learning.vocabulary import START, TOKENS, split

STATES = np.array([3, 700, 20_000, 20_001, 35_000, 40_000, 40_512, 49_151])
"""Tokens of the source, some of which share fields."""


def transition(seed: int = 1) -> np.ndarray:
    raw = np.random.default_rng(seed).exponential(size=(len(STATES),) * 2) ** 2 + 0.02
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))


def stationary(matrix: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.matrix_power(matrix, 200)[0])


def entropy(p: np.ndarray) -> float:
    return float(-(p * np.log(p)).sum())


def entropy_rate(matrix: np.ndarray) -> float:
    return float(-(stationary(matrix)[:, None] * matrix * np.log(matrix)).sum())


def drawn(orders: int, seed: int, matrix: np.ndarray) -> np.ndarray:
    """Tokens ``[n, 4]`` of the Markov source, from its stationary distribution on."""
    rng = np.random.default_rng(seed)
    cumulative = matrix.cumsum(axis=1)
    states = np.empty(orders, np.int64)
    state = int(rng.choice(len(STATES), p=stationary(matrix)))
    for t, u in enumerate(rng.random(orders)):
        states[t] = state
        state = min(int(np.searchsorted(cumulative[state], u)), len(STATES) - 1)
    return np.asarray(split(STATES[states]))


def stored(folder: Path, parts: Iterable[tuple[int, np.ndarray]]) -> TokenFiles:
    contents = [(f"period {i}", group, tokens, np.zeros((len(tokens), 1))) for i, (group, tokens) in enumerate(parts)]
    return write_token_files(folder, contents, identity="source")


def with_start(tokens: np.ndarray) -> np.ndarray:
    return np.concatenate([np.array([[START, 0, 0, 0]], np.uint8), tokens])


def sequence(rng: np.random.Generator, orders: int = 500) -> np.ndarray:
    """Orders in which few values are frequent."""
    sizes = (3, 32, 32, 16)
    columns = [(rng.random(orders) ** 3 * size).astype(np.uint8) for size in sizes]
    return np.stack(columns, axis=1)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    folder, matrix = tmp_path_factory.mktemp("source"), transition()
    train = stored(folder / "train", [(0, drawn(60_000, seed, matrix)) for seed in (1, 2, 3)])
    return baseline_losses(train, stored(folder / "validation", [(0, drawn(80_000, 4, matrix))]))


def test_the_bigram_reaches_the_entropy_rate_of_a_markov_source_and_the_unigram_its_entropy(
    losses: dict[str, dict[str, float]],
) -> None:
    matrix = transition()
    assert losses["bigram"]["total"] == pytest.approx(entropy_rate(matrix), abs=0.01)
    assert losses["unigram"]["total"] == pytest.approx(entropy(stationary(matrix)), abs=0.01)
    assert losses["uniform"]["total"] == pytest.approx(math.log(TOKENS))


def test_no_model_beats_the_entropy_rate_of_orders_that_are_typical_of_the_source(tmp_path: Path) -> None:
    matrix = transition()
    validation = drawn(60_000, 7, matrix)
    pairs = np.zeros((len(STATES),) * 2)
    position = {tuple(row): i for i, row in enumerate(split(STATES).tolist())}
    states = [position[tuple(row)] for row in validation.tolist()]
    np.add.at(pairs, (states[:-1], states[1:]), 1)
    true_cost = -(pairs * np.log(matrix)).sum() / (len(states) - 1)  # of these very orders
    found = baseline_losses(
        stored(tmp_path / "a", [(0, drawn(100_000, 8, matrix))]), stored(tmp_path / "b", [(0, validation)])
    )
    assert found["bigram"]["total"] >= true_cost - 1e-3
    assert found["field-independent"]["total"] >= found["unigram"]["total"] >= found["bigram"]["total"]


def test_each_total_is_the_sum_of_its_fields_by_the_chain_rule(losses: dict[str, dict[str, float]]) -> None:
    for found in losses.values():
        assert list(found) == [*CHAIN, "total"]
        assert found["total"] == pytest.approx(sum(found[name] for name in CHAIN))


def test_the_unigrams_split_over_the_fields_is_that_of_the_stationary_distribution(
    losses: dict[str, dict[str, float]],
) -> None:
    p, tokens = stationary(transition()), split(STATES)
    for count, name in enumerate(CHAIN):
        known = tokens[:, [3, 0, 1, 2][: count + 1]]
        before, after = (entropy(_merged(p, known[:, :k])) for k in (count, count + 1))
        assert losses["unigram"][name] == pytest.approx(after - before, abs=0.01)


def _merged(p: np.ndarray, keys: np.ndarray) -> np.ndarray:
    _, group = np.unique(keys, axis=0, return_inverse=True)
    return np.bincount(group.ravel(), weights=p)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("before", ["seen", "unseen", "start"])
def test_every_model_gives_all_tokens_together_a_probability_of_one(name: str, before: str) -> None:
    rng = np.random.default_rng(5)
    training = Training.of(Orders.of([with_start(sequence(rng)) for _ in range(3)]))
    every = np.stack(np.unravel_index(np.arange(TOKENS), (16, 3, 32, 32))).astype(np.uint8)
    previous = {"seen": training.counted.now[:, 0], "unseen": [15, 2, 31, 31], "start": [16, 3, 32, 32]}[before]
    context = np.repeat(np.array(previous, np.uint8)[:, None], TOKENS, axis=1)
    probabilities = MODELS[name](training, Orders(every, context))
    assert probabilities.prod(axis=0).sum() == pytest.approx(1)
    assert probabilities.min() > 0


def test_the_start_of_a_session_is_known_to_the_next_order_but_never_scored(tmp_path: Path) -> None:
    first, other = split(np.array([[100], [30_000]]))
    sessions = [(0, np.concatenate([first, np.repeat(other, 9, axis=0)])) for _ in range(400)]
    found = baseline_losses(stored(tmp_path / "a", sessions), stored(tmp_path / "b", sessions[:7]))
    assert found["bigram"]["total"] < 0.01
    assert found["unigram"]["total"] == pytest.approx(entropy(np.array([0.1, 0.9])), abs=0.01)


def test_groups_have_tables_of_their_own(tmp_path: Path) -> None:
    ten, twenty = (np.repeat(split(np.array([number])), 400, axis=0) for number in (10, 20))
    train = stored(tmp_path / "a", [(0, ten), (1, twenty)])
    apart = baseline_losses(train, stored(tmp_path / "b", [(0, ten[:50]), (1, twenty[:50])]))
    mixed = baseline_losses(train, stored(tmp_path / "c", [(1, ten[:50]), (0, twenty[:50])]))
    assert apart["unigram"]["total"] < 0.01
    assert mixed["unigram"]["total"] > 5


def test_a_group_without_training_orders_is_an_error(tmp_path: Path) -> None:
    tokens = np.repeat(split(np.array([10])), 40, axis=0)
    with pytest.raises(ValueError, match="group 1 of the validation data has 0 training orders"):
        baseline_losses(stored(tmp_path / "a", [(0, tokens)]), stored(tmp_path / "b", [(1, tokens)]))


def test_sparse_counts_of_unrelated_orders_cost_hardly_more_than_simpler_models() -> None:
    rng = np.random.default_rng(6)
    training = Training.of(Orders.of([with_start(sequence(rng, 20_000))]))
    scored = Orders.of([with_start(sequence(rng, 20_000))])
    cost = {name: float(-np.log(model(training, scored)).sum(axis=0).mean()) for name, model in MODELS.items()}
    assert cost["unigram"] < cost["field-independent"] + 0.01
    assert cost["bigram"] < cost["field-independent"] + 0.03
