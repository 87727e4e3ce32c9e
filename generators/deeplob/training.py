"""Trains DeepLOB on the training periods of a data set, one network for each horizon."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from marsbench.files import digest, pretty, write_atomic
from marsbench.fitting import latest_days, period_text, spread_periods
from marsbench.learning import training
from marsbench.learning.checkpoints import Card, save_model
from marsbench.learning.moments import Moments
from marsbench.learning.periods import each_period
from marsbench.learning.plan import TrainingPlan
from marsbench.market.rules import MINUTE
from marsbench.questions import TRAINING_DAYS, Question, Target, clocks_within, training_numbers
from marsbench.simulation.contracts import Artifact, Work

from .network import Network
from .windows import Scaling, WindowBatches, WindowFiles, Windows, raw_windows, windows_at, write_windows

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset, Period

Ints = NDArray[np.int64]
HELD_OUT = 0.15
"""Share of each training period, its last, on which training is stopped where a data set has no validation days."""
FITTED_ON = 8
"""So many training periods of an instrument, spread evenly, make the scaling."""
VALIDATED = 4096
POINTS = 40
"""So many times validation is looked at, if training does not end early."""


@dataclass(frozen=True)
class Recipe:
    """What DeepLOB is trained as."""

    label: str
    minutes: int
    every_s: float
    """Seconds between the moments of training."""
    windows: int
    """Windows to learn from for each horizon at most, repetitions counted."""
    batch: int
    learning_rate: float
    patience: int

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(Target("trend", k) for k in range(1, self.minutes + 1))

    def plan(self) -> TrainingPlan:
        """Steps and schedule; Adam without decay of weights."""
        steps = max(self.windows // self.batch, 1)
        every = max(steps // POINTS, 1)
        return TrainingPlan(
            steps=steps,
            batch_size=self.batch,
            learning_rate=self.learning_rate,
            warm_up_steps=min(100, steps // 10),
            weight_decay=0.0,
            betas=(0.9, 0.999),
            validate_every=every,
            checkpoint_every=every,
            patience=self.patience,
        )


@dataclass(frozen=True)
class Prepared:
    """Training data made ready."""

    question: Question
    scaling: Scaling
    train: WindowFiles
    validation: WindowFiles


def prepare(dataset: Dataset, periods: Sequence[Period], recipe: Recipe, cache: Path) -> Prepared:
    """Classes, scaling, and windows of training and validation moments, made once."""
    held = dataset.split("validation")
    latest = latest_days(dataset.split("train"), TRAINING_DAYS)
    question = Question.of(recipe.label, recipe.targets, each_period(_numbers, dataset, latest, recipe, what="classes"))
    scaling = Scaling.fit(each_period(_raw, dataset, spread_periods(periods, FITTED_ON), recipe, what="scaling"))
    names = [period_text(p) for p in (*periods, *held)]
    what = ["deeplob windows 1", dataset.content_hash, names, recipe.every_s, question.to_dict(), scaling.to_dict()]
    identity = digest(what)
    folder = cache / f"windows-{identity[:32]}"
    if not (folder / "validation" / "windows.json").exists():
        with training.main_process_first():
            if not (folder / "validation" / "windows.json").exists():
                share = 1.0 if held else 1 - HELD_OUT
                parts = each_period(_part, dataset, periods, recipe, question, scaling, (0.0, share), what="windows")
                write_windows(folder / "train", parts, identity=identity)
                more = (recipe, question, scaling, (0.0 if held else share, 1.0))
                parts = each_period(_part, dataset, held or periods, *more, what="windows")
                write_windows(folder / "validation", parts, identity=f"{identity} validation")
    return Prepared(question, scaling, WindowFiles(folder / "train"), WindowFiles(folder / "validation"))


def _clocks(dataset: Dataset, period: Period, recipe: Recipe) -> Ints:
    step_ns = round(recipe.every_s * 1e9)
    return clocks_within(dataset.rules(period), period.start_ns + step_ns, period.end_ns, 1, step_ns)


def _raw(dataset: Dataset, period: Period, recipe: Recipe) -> tuple[str, NDArray[np.float32]]:
    """Windows of the part of a period that is learned from, whether or not a later part is held out."""
    clocks = _clocks(dataset, period, recipe)
    moments = Moments.of(dataset.trajectory(period), clocks[: max(int(len(clocks) * (1 - HELD_OUT)), 1)])
    return period.instrument, raw_windows(moments.stream.books, moments.known, float(dataset.rules(period).lot_shares))


def _numbers(dataset: Dataset, period: Period, recipe: Recipe) -> tuple[str, NDArray[np.float64]]:
    return period.instrument, training_numbers(recipe.label, recipe.targets, dataset.trajectory(period))


def _part(
    dataset: Dataset, period: Period, recipe: Recipe, question: Question, scaling: Scaling, share: tuple[float, float]
) -> tuple[Windows, Ints]:
    """Windows and classes of a period between two shares of its moments.

    What is learned from ends before the next share begins, horizon included: no label of training reaches into what
    it is judged on.
    """
    flow, clocks = dataset.trajectory(period), _clocks(dataset, period, recipe)
    classes = question.classes_after(flow, clocks)
    a, b = (round(part * len(clocks)) for part in share)
    if b < len(clocks):
        ends = clocks[:, None] + np.array([t.minutes for t in question.targets]) * MINUTE
        classes[ends > clocks[b]] = -1
    moments = Moments.of(flow, clocks[a:b])
    return windows_at(moments, float(flow.rules.lot_shares), scaling), classes[a:b]


def train(
    dataset: Dataset, periods: Sequence[Period], recipe: Recipe, folder: Path, *, name: str, version: int, seed: int,
    work: Work,
) -> Artifact:  # fmt: skip
    """Train a network for each horizon, one after the other, and seal the artifact."""
    prepared = prepare(dataset, periods, recipe, work.cache)
    curves: dict[str, Any] = {}
    for number, target in enumerate(recipe.targets):
        work.say(f"{name}: {target.key}")
        network, result = _train_one(prepared, number, recipe, seed, work, target)
        curves |= {f"{target.key}.{curve}": points for curve, points in result.curves.items()}
        card = _card(name, dataset, prepared, number, result, seed, work, target)
        config = {"recipe": asdict(recipe), "validation": dict(result.best), "best_step": result.best_step}
        save_model(folder / target.key, network, config, card=card)
    write_atomic(folder / "training.json", json.dumps(curves))
    write_atomic(folder / "question.json", pretty(prepared.question.to_dict()) + "\n")
    write_atomic(folder / "scaling.json", pretty(prepared.scaling.to_dict()) + "\n")
    seen = (dataset.trajectory(p) for p in (*periods, *dataset.split("validation")))
    return Artifact.write(
        folder, generator=name, version=version, seed=seed, data=seen, dataset_hash=dataset.content_hash, key=work.key
    )


def _train_one(
    prepared: Prepared, number: int, recipe: Recipe, seed: int, work: Work, target: Target
) -> tuple[Network, training.TrainingResult]:
    torch.manual_seed(seed)
    network = Network()
    batches = WindowBatches(prepared.train, number, seed)
    held = WindowBatches(prepared.validation, number, seed).every(VALIDATED, 2 * recipe.batch)
    result = training.train(
        network,
        batches,
        held,
        recipe.plan(),
        seed=seed,
        scratch=work.scratch / target.key,
        say=work.say,
        on_point=lambda step, values: work.on_point(step, {f"{target.key}.{k}": v for k, v in values.items()}),
    )
    return network, result


def _card(
    name: str, dataset: Dataset, prepared: Prepared, number: int, result: training.TrainingResult, seed: int,
    work: Work, target: Target,
) -> Card:  # fmt: skip
    shares = prepared.question.training_shares[number]
    classes = prepared.validation.classes[:, number]
    came = np.bincount(classes[classes >= 0], minlength=3) / max((classes >= 0).sum(), 1)
    prior = {"class": float(-(came * np.log(shares)).sum())}
    windows = result.tokens // prepared.train.windows.shape[1]
    return Card(
        title=f"{name} on {dataset.name}: {target.key}",
        summary=f"DeepLOB (Zhang, Zohren, Roberts 2019) for the trend of the next {target.minutes} minute(s), label "
        f"{prepared.question.label}: {sum(p.numel() for p in Network().parameters()):,} parameters.",
        command=work.command,
        dataset=f"{dataset.name} v{dataset.version}",
        dataset_hash=dataset.content_hash,
        seed=seed,
        **{**result.facts(), "tokens": windows},
        baselines={"class shares of training": prior | {"total": prior["class"]}},
        limits=("It knows the instruments of its training data only.", "It knows continuous trading only."),
        unit="window",
    )
