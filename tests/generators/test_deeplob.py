"""DeepLOB: the published network, what it looks at, what it learns, and the mistakes of public versions."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch

from markets import start_at, two_days
from marsbench import registry
from marsbench.data.catalogue import open_dataset
from marsbench.generators.deeplob.network import COLUMNS, WINDOW, Network
from marsbench.generators.deeplob.training import Recipe, prepare
from marsbench.generators.deeplob.windows import Scaling, WindowBatches, WindowFiles, raw_windows, write_windows
from marsbench.learning.moments import Moments
from marsbench.learning.training import TrainingPlan
from marsbench.learning.training import train as train_network
from marsbench.market.rules import MINUTE, clock
from marsbench.market.snapshots import Snapshots
from marsbench.questions import Question, targets_up_to
from marsbench.simulation.contracts import Artifact
from marsbench.train import train
from trained import one_day_market

RECIPE = Recipe("mars", minutes=2, every_s=10.0, windows=256, batch=32, learning_rate=1e-3, patience=3)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@cache
def artifact() -> Artifact:
    """Trained for a moment on one day."""
    spec = "deeplob,minutes=2,every_s=10,windows=256,batch=32,patience=3"
    return train(spec, str(one_day_market()), results=mkdtemp(), track=False, say=lambda _: None).artifact


def loaded() -> Any:
    made = registry.generator("deeplob")
    made.load(artifact())  # type: ignore[attr-defined]
    return made


# The network


def test_it_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in Network().parameters()) == 142_691


def test_convolutions_over_time_keep_all_hundred_steps() -> None:
    """Unpadded ones, as in a public version, would leave 82."""
    network, lengths = Network(), []
    network.lstm.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape))
    network(torch.zeros(2, WINDOW, COLUMNS))
    assert lengths == [(2, WINDOW, 192)]


def test_it_gives_logits_and_the_loss_softmaxes_them_once() -> None:
    network, windows = Network().eval(), torch.randn(64, WINDOW, COLUMNS)
    with torch.no_grad():
        network.head.weight.mul_(20)
        logits = network(windows)
        found = network.losses({"windows": windows, "classes": torch.zeros(64)})["class"]
    assert not torch.allclose(logits.sum(1), torch.ones(64), atol=0.1)
    assert float(found) == pytest.approx(float(-torch.log(logits.softmax(1)[:, 0]).mean()), rel=1e-5)


def test_dropout_acts_in_training_alone() -> None:
    network, windows = Network(), torch.randn(4, WINDOW, COLUMNS)
    assert not torch.equal(network(windows), network(windows))
    network.eval()
    assert torch.equal(network(windows), network(windows))


# What it looks at


def slow_window(books: Snapshots, known: int, lot: int) -> np.ndarray:
    """By its definition, one number at a time."""
    out = np.zeros((WINDOW, COLUMNS))

    def price(book: int, side: int, level: int) -> float:
        if books.size_shares[book, side, level] > 0:
            return float(books.price_ticks[book, side, level])
        away = 1 if side == 0 else -1
        return price(book, side, level - 1) + away if level else float(books.price_ticks[book, 1 - side, 0]) + away

    mid = (price(known, 0, 0) + price(known, 1, 0)) / 2
    for row in range(WINDOW):
        book = max(known - WINDOW + 1 + row, 0)
        for level in range(10):
            for side in range(2):
                out[row, 4 * level + 2 * side] = price(book, side, level) - mid
                out[row, 4 * level + 2 * side + 1] = np.log(1 + books.size_shares[book, side, level] / lot)
    return out


def test_windows_are_the_last_hundred_books_by_their_definition() -> None:
    day = two_days()[0]
    moments = Moments.of(day, np.array([clock("09:31"), clock("10:10")]))
    books = moments.stream.books
    books.size_shares[moments.known[1] - 3, 1] = 0  # a side without orders, and levels without
    books.size_shares[moments.known[1] - 2, 0, 6:] = 0
    known = np.array([5, *moments.known])
    found = raw_windows(books, known, float(day.rules.lot_shares))
    for rows, at in zip(found, known, strict=True):
        np.testing.assert_allclose(rows, slow_window(books, int(at), day.rules.lot_shares), rtol=1e-5, atol=1e-4)


def test_an_instrument_that_was_not_trained_on_is_an_error() -> None:
    scaling = Scaling({"A": np.zeros(COLUMNS, np.float32)}, {"A": np.ones(COLUMNS, np.float32)})
    with pytest.raises(ValueError, match="deeplob was trained on A, not on B"):
        scaling("B", np.zeros((1, WINDOW, COLUMNS), np.float32))


# What it learns from


def test_what_it_is_judged_on_comes_later_and_no_label_of_training_reaches_into_it(tmp_path: Path) -> None:
    data = open_dataset(one_day_market())
    (period,) = data.split("train")
    prepared = prepare(data, [period], RECIPE, tmp_path)
    step = 10 * 10**9
    every = list(range(period.start_ns + step, period.end_ns - MINUTE + 1, step))
    cut = round(0.85 * len(every))
    assert len(prepared.train.windows) == cut
    assert len(prepared.validation.windows) == len(every) - cut
    for number, minutes in enumerate((1, 2)):
        known = np.flatnonzero(prepared.train.classes[:, number] >= 0)
        assert every[known[-1]] + minutes * MINUTE <= every[cut] < every[known[-1] + 1] + minutes * MINUTE


def test_scaling_and_classes_come_from_training_alone(tmp_path: Path) -> None:
    data = open_dataset(one_day_market())
    (period,) = data.split("train")
    prepared = prepare(data, [period], RECIPE, tmp_path)
    day = data.trajectory(period)
    assert prepared.question.to_dict() == Question.freeze("mars", RECIPE.targets, [day]).to_dict()
    step = 10 * 10**9
    clocks = np.arange(period.start_ns + step, period.end_ns - MINUTE + 1, step)
    moments = Moments.of(day, clocks[: int(0.85 * len(clocks))])
    rows = raw_windows(moments.stream.books, moments.known, float(day.rules.lot_shares)).reshape(-1, COLUMNS)
    np.testing.assert_allclose(prepared.scaling.mean[day.instrument], rows.mean(0), rtol=1e-3, atol=1e-3)


def files(folder: Path, windows: np.ndarray, classes: np.ndarray) -> WindowFiles:
    return write_windows(folder, [(windows.astype(np.float16), classes[:, None])], identity="made")


def test_an_epoch_shows_every_window_once_and_each_epoch_in_another_order(tmp_path: Path) -> None:
    windows = np.zeros((10, WINDOW, COLUMNS))
    windows[:, 0, 0] = np.arange(10)
    batches = WindowBatches(files(tmp_path, windows, np.array([0, 1, 2, -1, 1, 2, 0, 1, -1, 0])), 0, seed=1)
    seen = [batches.batch(step, 4)["windows"][:, 0, 0].astype(int).tolist() for step in range(4)]
    whole = [sorted(seen[0] + seen[1]), sorted(seen[2] + seen[3])]
    assert whole == [[0, 1, 2, 4, 5, 6, 7, 9]] * 2  # those without a class are left out
    assert seen[0] != seen[2]
    assert np.array_equal(batches.batch(3, 4)["windows"], batches.batch(3, 4)["windows"])


def planted(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise in which the volumes of the last twenty books tell the class."""
    windows, classes = rng.standard_normal((rows, WINDOW, COLUMNS)), rng.integers(0, 3, rows)
    windows[:, -20:, 1::4] += 2.0 * (classes - 1)[:, None, None]
    return windows, classes


@pytest.mark.slow
def test_a_planted_rule_is_learned_and_shuffled_classes_are_not(tmp_path: Path) -> None:
    rng, right = np.random.default_rng(0), []
    windows, classes = planted(rng, 640)
    fresh, came = planted(rng, 256)
    for name, told in (("rule", classes), ("noise", rng.permutation(classes))):
        network = Network()
        held = WindowBatches(files(tmp_path / f"{name}-held", fresh, came), 0, 0).every(256, 64)
        batches = WindowBatches(files(tmp_path / name, windows, told), 0, 0)
        plan = TrainingPlan(steps=60, batch_size=32, warm_up_steps=5, weight_decay=0.0, validate_every=20)
        train_network(network, batches, held, plan, seed=0, say=lambda _: None)
        with torch.no_grad():
            found = network(torch.tensor(fresh, dtype=torch.float32)).argmax(1).numpy()
        right.append(float((found == came).mean()))
    assert right[0] > 0.9
    assert abs(right[1] - 1 / 3) < 0.15


# What it states


def test_it_states_probabilities_of_trends_over_the_horizons_that_it_was_trained_for() -> None:
    starts = [start_at(two_days()[1], clock) for clock in ("09:45", "10:05", "10:30")]
    question = Question.freeze("mars", targets_up_to(3), [two_days()[0]])
    stated = loaded().forecast(starts, question)
    assert np.isfinite(stated[:, :2]).all()
    assert np.isnan(stated[:, 2:]).all()
    np.testing.assert_allclose(stated[:, :2].sum(axis=2), 1)
    alone = np.concatenate([loaded().forecast([s], question) for s in starts])
    np.testing.assert_allclose(stated, alone, atol=1e-5, equal_nan=True)


def test_the_artifact_holds_a_network_for_each_horizon_with_card_and_curves() -> None:
    held = {str(p.relative_to(artifact().folder)) for p in artifact().folder.rglob("*") if p.is_file()}
    each = {f"trend.{k}m/{name}" for k in (1, 2) for name in ("README.md", "config.json", "model.safetensors")}
    assert held == each | {"artifact.json", "question.json", "scaling.json", "training.json"}
    curves = json.loads((artifact().folder / "training.json").read_text())
    assert curves["trend.2m.validation.total"]["step"][0] == 0
    card = (artifact().folder / "trend.1m" / "README.md").read_text()
    assert "marsbench train deeplob,batch=32,every_s=10,minutes=2,patience=3,windows=256" in card
    assert "Nats per window" in card


def test_without_weights_it_says_how_to_get_them_and_wrong_parameters_are_errors() -> None:
    made: Any = registry.generator("deeplob")
    with pytest.raises(ValueError, match="no weights yet; train it"):
        made.forecast([], Question.freeze("mars", targets_up_to(1), [two_days()[0]]))
    for wrong, message in (
        ({"label": "lse"}, "label='lse'; choose one of mars, mars-time"),
        ({"windows": 0}, "windows must be at least 1, got 0"),
        ({"every_s": 0}, "every_s must be above 0, or none; got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            registry.generator("deeplob", **wrong)


SHIPPED = sorted(p.parent for p in type(registry.generator("deeplob")).checkpoints.glob("*/artifact.json"))  # type: ignore[attr-defined]


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda f: f.name)
def test_a_shipped_checkpoint_is_whole_and_small(folder: Path) -> None:
    made: Any = registry.generator("deeplob")
    made.load(Artifact.read(folder))
    assert len(made.networks) == len(made.question.targets)
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) < 4e6
    for target in made.question.targets:
        assert "marsbench train deeplob" in (folder / target.key / "README.md").read_text()


def test_the_shipped_one_of_the_reference_market_has_not_seen_its_test_days() -> None:
    (folder,) = (f for f in SHIPPED if f.name == "deeplob-reference")
    found = Artifact.read(folder)
    assert len(found.trained_on) == 350
    assert max(text.split()[1] for text in found.trained_on) < "2024-04-09"
