"""Training an order model end to end: what the artifact holds, and what starting from another one is worth."""

from __future__ import annotations

import json
import math
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch

from markets import start_at, two_days
from marsbench import registry
from marsbench.data.catalogue import Period, open_dataset, write_dataset
from marsbench.fitting import LeakError, training_key
from marsbench.generators.lmm import SIZES
from marsbench.generators.lmm.order_model import OrderModel
from marsbench.generators.lmm.recipe import HEADS, ModelConfig, Shape
from marsbench.learning.baselines import MODELS
from marsbench.learning.checkpoints import load_config, load_model, read_config
from marsbench.learning.layouts import LAYOUTS
from marsbench.learning.order_stream import STATE, order_stream
from marsbench.learning.tokeniser import Tokeniser
from marsbench.learning.vocabulary import Vocabulary
from marsbench.market.rules import MINUTE, SECOND
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import Artifact
from marsbench.simulation.rollout import simulate
from marsbench.train import train
from trained import one_day_market, trained

FIELDS = ["interval", "type", "price", "volume"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return trained("lmm-order-1m")[1]


def text(artifact: Artifact, name: str) -> str:
    return (artifact.folder / name).read_text()


# What the artifact holds


def test_the_artifact_holds_weights_bins_layout_losses_and_a_card(artifact: Artifact) -> None:
    held = {path.name for path in artifact.folder.iterdir()}
    assert held == {
        "artifact.json", "README.md", "bins.json", "config.json", "information_lost.json", "layout.json",
        "model.safetensors", "training.json",
    }  # fmt: skip
    assert Artifact.read(artifact.folder) == artifact
    assert artifact.trained_on == ("ZI-A 2024-01-02 09:30:00-11:00:00",)


def test_bins_and_layout_are_those_of_the_training_day(artifact: Artifact) -> None:
    day = order_stream(two_days()[0])
    vocabulary = Vocabulary.load(artifact.folder / "bins.json")
    assert vocabulary == Vocabulary.fit([day], data_hash=open_dataset(one_day_market()).content_hash)
    assert json.loads(text(artifact, "layout.json"))["name"] == "touch"
    lost = json.loads(text(artifact, "information_lost.json"))
    assert list(lost["groups"]) == ["ZI-A"]
    assert set(lost["groups"]["ZI-A"]) == {"new_price", "cancel_price", "new_volume", "cancel_volume", "interval"}
    assert 3.9 < lost["groups"]["ZI-A"]["interval"]["bits"] <= 4


def test_losses_by_step_fall_and_sum_to_their_total(artifact: Artifact) -> None:
    curves = json.loads(text(artifact, "training.json"))
    assert set(curves) == {f"{part}.{name}" for part in ("train", "validation") for name in [*FIELDS, "total"]}
    for part in ("train", "validation"):
        whole = np.array(curves[f"{part}.total"]["value"])
        assert np.allclose(sum(np.array(curves[f"{part}.{name}"]["value"]) for name in FIELDS), whole)
        assert whole[-1] < whole[0] - 0.3
    assert curves["validation.total"]["step"] == list(range(17))


def test_the_configuration_says_what_the_model_is_and_what_it_reached(artifact: Artifact) -> None:
    stored, curves = read_config(artifact.folder), json.loads(text(artifact, "training.json"))
    config = stored["config"]
    assert config["recipe"]["tokens"] == 8192
    assert config["tokens_seen"] == pytest.approx(8192, rel=0.02)
    assert config["started_from"] is None
    best = curves["validation.total"]["step"].index(config["best_step"])
    assert config["validation"]["total"] == curves["validation.total"]["value"][best]
    assert config["validation"]["total"] == min(curves["validation.total"]["value"])
    assert list(config["baselines"]) == list(MODELS)
    assert config["baselines"]["uniform"]["total"] == pytest.approx(math.log(49_152))
    model = OrderModel(ModelConfig.from_dict(config["model"]))
    load_model(artifact.folder, model)
    assert sum(p.numel() for p in model.parameters()) == stored["parameters"]


def test_the_card_shows_losses_in_nats_beside_those_of_simple_models(artifact: Artifact) -> None:
    card, config = text(artifact, "README.md"), load_config(artifact.folder)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line[:1] == "|"]
    table = {row[0]: row[1:] for row in rows}
    assert table["field"][0] == "this model"
    assert table["field"][-len(MODELS) :] == list(MODELS)
    for name in [*FIELDS, "total"]:
        assert table[name][0] == f"{config['validation'][name]:.4f}"
        assert table[name][-len(MODELS) :] == [f"{config['baselines'][model][name]:.4f}" for model in MODELS]
    assert "Nats per order" in card
    assert "marsbench train lmm-order-1m,batch=8,context=64,tokens=8192 -d" in card
    assert table["orders seen"] == [f"{config['tokens_seen']:,}"]
    assert "auctions" in card


def test_what_is_loaded_simulates_and_knows_its_instrument(artifact: Artifact) -> None:
    made, _ = trained("lmm-order-1m")
    (run,) = simulate(made, [start_at(two_days()[1], "10:00")], 1, 20 * SECOND, key=0)[0]
    assert 5 < len(run.orders) < 500
    with pytest.raises(ValueError, match="no bins for instrument 'ZI-B'"):
        simulate(made, [start_at(two_days(1, 20)[1], "09:40")], 1, MINUTE, key=0)


def test_a_generator_without_weights_says_how_to_get_them() -> None:
    fresh: Any = registry.generator("lmm-order-5m")
    with pytest.raises(ValueError, match=r"lmm-order-5m has no weights yet; train it \(marsbench train lmm-order-5m\)"):
        fresh.open([], 1, key=0)


def test_a_step_takes_more_sequences_where_there_is_more_to_learn_from() -> None:
    generator: Any = partial(registry.generator, "lmm-order-2m")
    sizes = [generator(tokens=n).training_parameters()["batch"] for n in (10**6, 10**8)]
    assert sizes == [16, 64]
    assert generator(batch=3).training_parameters()["batch"] == 3
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        generator(batch=0)


@pytest.mark.parametrize("option", [{"temperature": 0.7}, {"top_p": 0.9}])
def test_how_it_is_sampled_changes_what_it_is_and_not_what_it_was_trained_as(option: dict[str, float]) -> None:
    plain, other = registry.generator("lmm-order-1m"), registry.generator("lmm-order-1m", **option)
    data = open_dataset(one_day_market())
    assert plain.parameters() != other.parameters()
    assert training_key(plain, data, 0) == training_key(other, data, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "option",
    [
        {"layout": "paper"}, {"head": "joint"}, {"book": False}, {"tokens": 1}, {"days": 3}, {"context": 5},
        {"batch": 2}, {"learning_rate": 1e-3}, {"dropout": 0.1}, {"init": "reference"},
    ],
    ids=str,
)  # fmt: skip
def test_everything_else_does(option: dict[str, Any]) -> None:
    plain, other = registry.generator("lmm-order-1m"), registry.generator("lmm-order-1m", **option)
    data = open_dataset(one_day_market())
    assert training_key(plain, data, 0) != training_key(other, data, 0)  # type: ignore[arg-type]


# Small trainings


OneMillion: Any = SIZES["1m"]


class Small(OneMillion):
    """The smallest recipe; what another one starts from has the same defaults."""

    def __init__(self, tokens: int = 8192, context: int = 64, batch: int = 8, **more: Any) -> None:
        super().__init__(tokens=tokens, context=context, batch=batch, **more)


@cache
def market(*profiles: int, minutes: int = 30, first: str = "train", second: str = "test") -> Path:
    """A data set of two days of some instruments."""
    days = [day for profile in profiles for day in two_days(profile, minutes)]
    uses = [first, second] * len(profiles)
    periods = [Period(d.instrument, d.date, d.start_ns, d.end_ns, use) for d, use in zip(days, uses, strict=True)]
    folder = Path(mkdtemp()) / "-".join(map(str, ["market", *profiles, first, second]))
    folder.mkdir()
    write_dataset(folder, days, periods, name=folder.name, version=1, summary="two days of some instruments")
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


def made(generator: Any, data: Path, results: Path) -> Artifact:
    return train(generator, str(data), results=results, track=False, say=lambda _: None).artifact


def curve(of: Artifact) -> list[float]:
    found: list[float] = json.loads(text(of, "training.json"))["validation.total"]["value"]
    return found


@pytest.fixture(scope="module")
def base(results: Path) -> Artifact:
    """Trained on two instruments."""
    torch.set_num_threads(1)
    return made(Small(), market(0, 1), results)


@pytest.fixture(scope="module")
def tuned(base: Artifact, results: Path) -> Artifact:
    """Continued on one that it knew and one that it did not."""
    return made(Small(tokens=1024, init=str(market(0, 1))), market(0, 2), results)


def test_starting_from_another_data_sets_model_begins_with_a_lower_loss_than_random_weights(
    base: Artifact, tuned: Artifact, results: Path
) -> None:
    fresh = made(Small(tokens=1024), market(0, 2), results)
    assert curve(tuned)[0] < curve(fresh)[0] - 0.3
    assert load_config(tuned.folder)["started_from"] == base.content_hash
    assert f"fine-tuned from lmm-order-1m ({base.content_hash[:12]})" in text(tuned, "README.md")


def test_a_group_begins_as_the_other_model_knew_it_and_a_new_one_as_the_mean(base: Artifact, results: Path) -> None:
    from marsbench.generators.lmm.training import _model

    recipe = Small().recipe
    known = weights(base, 2)
    tokeniser = Tokeniser.fit([order_stream(two_days(p, 20)[0]) for p in (0, 1, 2)], "touch")
    begun = _model(recipe, tokeniser, 0, base)
    assert begun.order.group is not None
    theirs, names = Tokeniser.load(base.folder).vocabulary.names, tokeniser.vocabulary.names
    assert set(theirs) < set(names)
    for name, row in zip(names, begun.order.group.weight, strict=True):
        before = known.order.group.weight
        torch.testing.assert_close(row, before[theirs.index(name)] if name in theirs else before.mean(dim=0))
    other = dict(begun.state_dict())
    for name, value in known.state_dict().items():
        assert name == "order.group.weight" or torch.equal(value, other[name])


def weights(of: Artifact, groups: int) -> Any:
    model = OrderModel(Small().recipe.config(groups))
    load_model(of.folder, model)
    return model


def test_the_time_of_day_keeps_the_meaning_that_it_had_and_other_columns_are_fitted(
    base: Artifact, tuned: Artifact
) -> None:
    before, after = (np.array(json.loads(text(a, "layout.json"))["mean"]) for a in (base, tuned))
    clock = np.array([name in ("seconds_since_open", "seconds_to_close") for name in STATE])
    assert np.allclose(after[:, clock], before[:, clock].mean(axis=0))
    assert (after[1, ~clock] != before[1, ~clock]).mean() > 0.8


def test_starting_from_what_nobody_has_trained_is_an_error_with_the_command_that_trains_it(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no lmm-order-1m has been trained on that data set; train it first: marsbench"
    ):
        made(Small(init=str(market(0, 1))), market(0, 2), tmp_path)


def test_starting_from_a_model_that_has_seen_the_test_days_is_refused(base: Artifact, results: Path) -> None:
    turned = market(0, first="test", second="train")
    with pytest.raises(LeakError, match=r"lmm-order-1m of .*, from which training would start, was trained on ZI-A"):
        made(Small(init=str(market(0, 1))), turned, results)


def test_validation_days_are_used_where_there_are_some(results: Path) -> None:
    data = market(0, second="validation")
    found = made(Small(tokens=1024), data, results)
    assert found.trained_on == ("ZI-A 2024-01-02 09:30:00-10:00:00", "ZI-A 2024-01-03 09:30:00-10:00:00")
    index = next(results.glob("cache/shared/*/validation/index.json"))
    assert index.exists()
    seen = {p["period"] for f in results.glob("cache/shared/*/validation/index.json")
            for p in json.loads(f.read_text())["parts"]}  # fmt: skip
    assert "ZI-A 2024-01-03 09:30:00-10:00:00" in seen


def test_without_validation_days_the_last_tenth_of_each_training_day_is_held_out(base: Artifact, results: Path) -> None:
    from marsbench.learning.token_files import TokenFiles

    for folder in results.glob("cache/shared/tokens-*"):
        files = [TokenFiles(folder / part) for part in ("train", "validation")]
        if [p.period[:4] for p in files[0].parts] != ["ZI-A", "ZI-B"]:
            continue
        for at, profile in enumerate((0, 1)):
            whole = Tokeniser.load(folder).vocabulary.tokens(order_stream(two_days(profile, 30)[0]))
            kept = [f.tokens[f.parts[at].first + 1 : f.parts[at].first + f.parts[at].rows] for f in files]
            assert (np.concatenate(kept) == whole).all()
            assert len(kept[1]) == pytest.approx(0.1 * len(whole), abs=1)
        return
    raise AssertionError("no token files of two instruments")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_and_head_is_trained_loaded_and_run(
    layout: str, head: str, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from marsbench.generators.lmm import recipe

    monkeypatch.setitem(recipe.SHAPES, "1m", Shape(16, 1, 2, 1, 24))
    generator = Small(tokens=512, layout=layout, head=head, batch=4)
    artifact = made(generator, market(0), results)
    generator.load(artifact)
    start = start_at(two_days(0, 30)[1], "09:40")
    (run,) = simulate(generator, [start], 1, 3 * SECOND, key=0)[0]
    assert isinstance(run, Trajectory)
    assert len(run.orders) > 0
