"""Trains an order model on the training periods of a data set."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from marsbench.learning import training
from marsbench.learning.baselines import baseline_losses
from marsbench.learning.checkpoints import Card, load_config, load_model, save_model
from marsbench.learning.order_generator import adopt
from marsbench.learning.token_data import prepare
from marsbench.learning.token_files import TokenFiles, Windows
from marsbench.learning.tokeniser import REPORT, Tokeniser
from marsbench.simulation.contracts import Artifact, Work

from . import context
from .order_model import OrderModel
from .recipe import SHAPES, ModelConfig, Recipe

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset, Period

VALIDATION_WINDOWS = 128


def train(
    dataset: Dataset,
    periods: Sequence[Period],
    recipe: Recipe,
    folder: Path,
    *,
    name: str,
    version: int,
    seed: int,
    work: Work,
    start_from: Artifact | None,
) -> Artifact:
    """Train, and seal the artifact: weights, bins, layout, losses by step, baselines, model card."""
    prepared = prepare(dataset, periods, recipe.layout, work.cache, start_from)
    model = _model(recipe, prepared.tokeniser, seed, start_from)
    windows = Windows(prepared.train, recipe.context, seed)
    held = Windows(prepared.validation, recipe.context, seed).every(VALIDATION_WINDOWS, recipe.batch)
    result = training.train(
        model, windows, held, recipe.plan(), seed=seed, scratch=work.scratch, say=work.say, on_point=work.on_point
    )
    baselines = baseline_losses(prepared.train, prepared.validation)
    beyond = _context_effect(model, prepared.validation, recipe.context, seed)
    config = {
        "model": model.config.to_dict(),
        "recipe": asdict(recipe),
        "started_from": start_from.content_hash if start_from else None,
        "validation": dict(result.best),
        "baselines": baselines,
        "best_step": result.best_step,
        "tokens_seen": result.tokens,
        "context_effect": beyond,
    }
    prepared.tokeniser.save(folder)
    shutil.copy(prepared.train.folder.parent / REPORT, folder / REPORT)
    result.write_curves(folder)
    card = _card(name, dataset, recipe, result, baselines, seed, work, start_from)
    if beyond:
        card = replace(card, limits=(*card.limits, context.sentence(beyond)))
    save_model(folder, model, config, card=card)
    held_periods = dataset.split("validation")
    data = (dataset.trajectory(p) for p in (*periods, *held_periods))
    return Artifact.write(
        folder, generator=name, version=version, seed=seed, data=data, dataset_hash=dataset.content_hash, key=work.key
    )


def _context_effect(model: OrderModel, files: TokenFiles, orders: int, seed: int) -> dict[str, Any]:
    """On the device of the training."""
    model.to(torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu")
    found = context.report(model, files, orders, seed)
    model.to("cpu")
    return found


def _model(recipe: Recipe, tokeniser: Tokeniser, seed: int, start_from: Artifact | None) -> OrderModel:
    """With fresh weights, or those of another artifact; groups that it did not know begin with the mean of its own."""
    torch.manual_seed(seed)
    names = tokeniser.vocabulary.names
    config = recipe.config(len(names))
    if start_from is None:
        return OrderModel(config)
    stored = ModelConfig.from_dict(load_config(start_from.folder)["model"])
    other = OrderModel(stored)
    load_model(start_from.folder, other)
    model = OrderModel(config)
    adopt(model, other, Tokeniser.load(start_from.folder).vocabulary.names, names)
    return model


def _card(
    name: str,
    dataset: Dataset,
    recipe: Recipe,
    result: training.TrainingResult,
    baselines: dict[str, dict[str, float]],
    seed: int,
    work: Work,
    start_from: Artifact | None,
) -> Card:
    shape = SHAPES[recipe.size]
    begun = f", fine-tuned from {start_from.generator} ({start_from.content_hash[:12]})" if start_from else ""
    return Card(
        title=f"{name} on {dataset.name}",
        summary=f"Order model of MarS (ICLR 2025): {shape.weights:,} decoder weights, layout {recipe.layout}, "
        f"{recipe.head} head, {recipe.context} orders of context{begun}.",
        command=work.command,
        dataset=f"{dataset.name} v{dataset.version}",
        dataset_hash=dataset.content_hash,
        seed=seed,
        **result.facts(),
        baselines=baselines,
        limits=(
            "It knows the instruments of its training data only, and their bins.",
            "It knows continuous trading only: no auctions, no halts.",
            "What lies longer ago than its context reaches it through sums over the day so far; earlier days do not.",
        ),
    )
