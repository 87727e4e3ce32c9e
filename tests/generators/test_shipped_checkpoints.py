"""What is shipped can be used: every checkpoint is whole, loads, and belongs to a recipe that the code still has."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from marsbench import registry
from marsbench.generators.lmm import LmmOrder
from marsbench.learning.order_generator import OrderByOrder
from marsbench.learning.vocabulary import SIZES
from marsbench.simulation.contracts import Artifact

FOLDERS = sorted(p.parent for p in LmmOrder.checkpoints.glob("*/artifact.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_a_shipped_checkpoint_is_whole_small_and_better_than_its_baselines(folder: Path) -> None:
    artifact = Artifact.read(folder)  # the hash of its files
    generator = registry.generator(artifact.generator)
    assert isinstance(generator, LmmOrder)
    generator.load(artifact)
    assert sum(f.stat().st_size for f in folder.iterdir()) < 8e6
    config = json.loads((folder / "config.json").read_text())["config"]
    losses = {name: total["total"] for name, total in config["baselines"].items()}
    assert config["validation"]["total"] < min(losses.values())
    assert f"marsbench train {artifact.generator}" in (folder / "README.md").read_text()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_a_shipped_checkpoint_gives_finite_losses(folder: Path) -> None:
    artifact = Artifact.read(folder)
    generator = registry.generator(artifact.generator)
    assert isinstance(generator, LmmOrder)
    generator.load(artifact)
    rng = np.random.default_rng(0)
    tokens = np.stack([rng.integers(n, size=(1, 17)) for n in SIZES], axis=-1)
    features = rng.standard_normal((1, 17, generator.tokeniser.layout.width))
    batch = {"tokens": torch.as_tensor(tokens), "features": torch.as_tensor(features, dtype=torch.float32)}
    losses = generator.model.losses({**batch, "group": torch.zeros(1, dtype=torch.long)})
    assert all(torch.isfinite(value) for value in losses.values())


def test_the_default_recipe_is_the_one_that_is_shipped_for_the_reference_market() -> None:
    """Or a run that names it would ask for training."""
    (folder,) = (f for f in FOLDERS if f.name == "lmm-order-2m-reference")
    stored = json.loads((folder / "config.json").read_text())["config"]["recipe"]
    default = registry.generator("lmm-order-2m")
    assert isinstance(default, LmmOrder)
    assert stored == asdict(default.recipe)
    assert Artifact.read(folder).seed == 0


@pytest.mark.parametrize("name", ["lob-rnn", "cgan", "stock-gan"])
def test_a_rivals_checkpoint_is_whole_small_of_the_default_recipe_and_better_than_simple_ones(name: str) -> None:
    made = registry.generator(name)
    assert isinstance(made, OrderByOrder)
    assert made.checkpoints is not None
    folder = made.checkpoints / f"{name}-reference"
    artifact = Artifact.read(folder)
    made.load(artifact)
    assert (artifact.seed, artifact.generator) == (0, name)
    assert sum(f.stat().st_size for f in folder.iterdir()) < 8e6
    config = json.loads((folder / "config.json").read_text())["config"]
    assert config["options"] == made.options
    if "rounds" in made.options:
        assert {len(off) for off in config["balance"].values()} == {config["options"]["rounds"]}
        assert f"fitted in {config['options']['rounds']} rounds" in (folder / "README.md").read_text()
    assert f"marsbench train {name}" in (folder / "README.md").read_text()
    if name == "lob-rnn":
        assert config["validation"]["total"] < min(losses["total"] for losses in config["baselines"].values())
    else:
        curve = json.loads((folder / "training.json").read_text())["validation.total"]["value"]
        assert config["validation"]["total"] == min(curve) < 0.2 * curve[0]
        assert config["mode_coverage"] > 0.9
