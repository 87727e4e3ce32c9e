"""Trains an order model on the training periods of a data set."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from marsbench.files import digest
from marsbench.fitting import period_text, spread_periods
from marsbench.learning import training
from marsbench.learning.activity import Activity, Seen
from marsbench.learning.baselines import baseline_losses
from marsbench.learning.checkpoints import Card, load_config, load_model, save_model
from marsbench.learning.order_stream import order_stream
from marsbench.learning.periods import each_period
from marsbench.learning.token_files import Content, TokenFiles, Windows, write_token_files
from marsbench.simulation.contracts import Artifact, Work

from . import context
from .order_model import OrderModel
from .recipe import SHAPES, ModelConfig, Recipe
from .tokeniser import REPORT, Tokeniser, information_lost, write_report

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset, Period

FITTED_ON = 8
"""So many training periods of an instrument, spread evenly, make the bins and the scales of features."""
HELD_OUT = 0.1
"""Share of the orders of each training period, its last, that is held out where a data set has no validation days."""
VALIDATION_WINDOWS = 128
REPORTED_ON = 2
"""So many of the periods per instrument go into the report of what binning loses."""


@dataclass(frozen=True)
class Prepared:
    """Training data made ready."""

    tokeniser: Tokeniser
    train: TokenFiles
    validation: TokenFiles


def prepare(
    dataset: Dataset, periods: Sequence[Period], layout: str, cache: Path, start_from: Artifact | None = None
) -> Prepared:
    """Bins, features and token files of training and validation periods, made once for each layout.

    What starts from another model tells the time of day as that one does.
    """
    held = dataset.split("validation")
    names = [period_text(p) for p in (*periods, *held)]
    after = [start_from.content_hash] if start_from else []
    identity = digest(["order tokens 6", dataset.content_hash, names, layout, len(held), *after])
    folder = cache / f"tokens-{identity[:32]}"
    if not (folder / "validation" / "index.json").exists():
        with training.main_process_first():
            if not (folder / "validation" / "index.json").exists():
                _write(dataset, periods, held, layout, folder, identity, start_from)
    return Prepared(Tokeniser.load(folder), TokenFiles(folder / "train"), TokenFiles(folder / "validation"))


def _write(
    dataset: Dataset,
    periods: Sequence[Period],
    held: Sequence[Period],
    layout: str,
    folder: Path,
    identity: str,
    start_from: Artifact | None,
) -> None:
    streams = [order_stream(dataset.trajectory(p)) for p in spread_periods(periods, FITTED_ON)]
    tokeniser = Tokeniser.fit(streams, layout, data_hash=dataset.content_hash)
    if start_from is not None:
        other = Tokeniser.load(start_from.folder).layout
        tokeniser = replace(tokeniser, layout=tokeniser.layout.with_clock_of(other))
    folder.mkdir(parents=True, exist_ok=True)
    write_report(folder, information_lost(tokeniser.vocabulary, streams[:: FITTED_ON // REPORTED_ON]))
    del streams
    share, activity = 1.0 if held else 1 - HELD_OUT, Activity()
    train = _contents(dataset, tokeniser, periods, 0.0, share, activity)
    write_token_files(folder / "train", train, identity=identity)
    vocabulary = replace(tokeniser.vocabulary, busiest=activity.busiest())  # rare, so that all days are looked at
    replace(tokeniser, vocabulary=vocabulary).save(folder)
    last = _contents(dataset, tokeniser, held or periods, 0.0 if held else share, 1.0)
    write_token_files(folder / "validation", last, identity=f"{identity} validation")


def _contents(
    dataset: Dataset, tokeniser: Tokeniser, periods: Sequence[Period], first: float, last: float,
    activity: Activity | None = None,
) -> Iterator[Content]:  # fmt: skip
    """The orders of each period between two shares of it; ``activity`` is shown the whole of each."""
    work = each_period(_content, dataset, periods, tokeniser, what="tokens")
    for (name, group, tokens, features), seen in work:
        if activity is not None:
            activity.add(tokeniser.vocabulary.names[group], seen)
        a, b = int(first * len(tokens)), int(last * len(tokens))
        yield name, group, tokens[a:b], features[a : b + 1]


def _content(dataset: Dataset, period: Period, tokeniser: Tokeniser) -> tuple[Content, Seen]:
    stream = order_stream(dataset.trajectory(period))
    return tokeniser.content(period_text(period), stream), Seen.of(stream)


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
    weights = other.state_dict()
    if (known := weights.get("order.group.weight")) is not None:
        theirs = Tokeniser.load(start_from.folder).vocabulary.names
        rows = [known[theirs.index(name)] if name in theirs else known.mean(0) for name in names]
        weights["order.group.weight"] = torch.stack(rows)
    model = OrderModel(config)
    model.load_state_dict(weights)
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
