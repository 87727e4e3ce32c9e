"""Trains FIN-GAN on the minute returns of the training periods of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from marsbench.files import pretty, write_atomic
from marsbench.learning import training
from marsbench.learning.adversarial import Adversarial, check_learned
from marsbench.learning.checkpoints import Card, save_model
from marsbench.learning.periods import each_period
from marsbench.learning.plan import Loss, Rivalry, TrainingPlan
from marsbench.market.rules import MINUTE
from marsbench.simulation.contracts import Artifact, Work

from .distances import coverage, distances
from .network import Critic, maker
from .series import Floats, Profiles, SessionReturns, WindowBatches, cut, session_returns, standardised
from .sizes import NOISE

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset, Period

HELD_OUT = 0.15
"""Share of each training period, its last, on which the weights are chosen where a data set has no validation days."""
POINTS = 40
"""So many times validation is looked at."""
JUDGED = 512
"""Series that are made for it, always from the same noise."""
MAKER_BETAS, CRITIC_BETAS = (0.5, 0.999), (0.1, 0.999)
NO_CLIPPING = 1e9


@dataclass(frozen=True)
class Recipe:
    """What FIN-GAN is trained as."""

    architecture: str
    length: int
    """Minutes of a series."""
    steps: int
    batch: int
    learning_rate: float
    critic_learning_rate: float
    loss: Loss
    critic_steps: int

    def plan(self) -> TrainingPlan:
        """Steps and schedule: Adam at constant rates, no decay, no clipping."""
        every = max(self.steps // POINTS, 1)
        return TrainingPlan(
            steps=self.steps,
            batch_size=self.batch,
            learning_rate=self.learning_rate,
            min_learning_rate_ratio=1.0,
            warm_up_steps=0,
            weight_decay=0.0,
            betas=MAKER_BETAS,
            clip_norm=NO_CLIPPING,
            largest_rise=1e3,
            validate_every=every,
            checkpoint_every=every,
        )

    def rivalry(self) -> Rivalry:
        return Rivalry(
            loss=self.loss,
            critic_steps=self.critic_steps,
            critic_rate=self.critic_learning_rate / self.learning_rate,
            maker_betas=MAKER_BETAS,
            critic_betas=CRITIC_BETAS,
        )


class FinGanModel(Adversarial):
    """Maker and critic of return series ``[n, length]``, in shares of ``SPAN`` standard deviations."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe.rivalry())
        self.maker = maker(recipe.architecture, recipe.length)
        self.critic = Critic(recipe.length)

    def make(self, batch: dict[str, Tensor]) -> Tensor:
        series = batch["series"]
        made: Tensor = self.maker(torch.randn(len(series), NOISE, device=series.device))
        return made

    def real(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["series"]

    def distances(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return distances(self.judged(batch["series"].device), batch["series"])

    @torch.no_grad()
    def judged(self, device: torch.device | str = "cpu") -> Tensor:
        """Series from a fixed seed, ``[JUDGED, length]``."""
        noise = torch.randn(JUDGED, NOISE, generator=torch.Generator().manual_seed(0)).to(device)
        return torch.cat([self.maker(part) for part in torch.split(noise, 128)])


@dataclass(frozen=True)
class Prepared:
    """Training data made ready."""

    profiles: Profiles
    train: dict[str, Floats]
    held: dict[str, Floats]
    """Series by instrument, see ``standardised``."""


def prepare(dataset: Dataset, periods: Sequence[Period]) -> Prepared:
    """Profiles of the training periods, and series of what is learned from and of what is held out."""
    known = list(each_period(_returns, dataset, periods, what="minute returns"))
    later = list(each_period(_returns, dataset, dataset.split("validation"), what="minute returns"))
    if later:
        learned = known
    else:
        learned, later = map(list, zip(*(_divided(s) for s in known), strict=True))
    profiles = Profiles.fit(learned)
    return Prepared(profiles, standardised(learned, profiles), standardised(later, profiles))


def _returns(dataset: Dataset, period: Period) -> SessionReturns:
    first = max(period.start_ns, dataset.rules(period).continuous[0].start_ns)
    minute = int(dataset.rules(period).trading_ns(first)) // MINUTE
    return session_returns(period.instrument, minute, dataset.bars(period))


def _divided(session: SessionReturns) -> tuple[SessionReturns, SessionReturns]:
    at = round(len(session.returns) * (1 - HELD_OUT))
    return (
        SessionReturns(session.instrument, session.first_minute, session.returns[:at]),
        SessionReturns(session.instrument, session.first_minute + at, session.returns[at:]),
    )


def learn(
    train: dict[str, Floats], held: dict[str, Floats], recipe: Recipe, *, seed: int, **more: Any
) -> tuple[FinGanModel, training.TrainingResult]:
    """Train on standardised series, and keep the weights that came nearest to the held-out ones."""
    batches = WindowBatches(train, recipe.length, seed)
    torch.manual_seed(seed)
    model = FinGanModel(recipe)
    result = training.train(model, batches, [{"series": cut(held, recipe.length)}], recipe.plan(), seed=seed, **more)
    check_learned(result)
    return model, result


def train(
    dataset: Dataset, periods: Sequence[Period], recipe: Recipe, folder: Path, *, name: str, version: int, seed: int,
    work: Work,
) -> Artifact:  # fmt: skip
    """Train, keep the maker alone, and seal the artifact."""
    prepared = prepare(dataset, periods)
    more = {"scratch": work.scratch, "say": work.say, "on_point": work.on_point}
    model, result = learn(prepared.train, prepared.held, recipe, seed=seed, **more)
    facts = {
        "recipe": asdict(recipe),
        "validation": dict(result.best),
        "best_step": result.best_step,
        "coverage": coverage(model.judged(), torch.from_numpy(cut(prepared.held, recipe.length))),
    }
    simpler = references(prepared, recipe.length, seed)
    notes = notes_of(result.best, simpler)
    for note in notes:
        work.say(f"{name} on {dataset.name}: {note}")
    card = _card(name, dataset, recipe, {"made": result.best, **simpler}, result, facts, seed, work, notes)
    save_model(folder, model.maker, facts, card=card)
    result.write_curves(folder)
    write_atomic(folder / "profiles.json", pretty(prepared.profiles.to_dict()) + "\n")
    seen = (dataset.trajectory(p) for p in (*periods, *dataset.split("validation")))
    return Artifact.write(
        folder, generator=name, version=version, seed=seed, data=seen, dataset_hash=dataset.content_hash, key=work.key,
        notes=notes,
    )  # fmt: skip


SHUFFLED = "training returns in random order"


def notes_of(made: Mapping[str, float], simpler: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What whoever uses it should know."""
    if made["total"] < simpler[SHUFFLED]["total"]:
        return []
    return [
        f"It has learned nothing: its series are {made['total']:.3f} from held-out ones, {SHUFFLED} "
        f"{simpler[SHUFFLED]['total']:.3f}."
    ]


def references(prepared: Prepared, length: int, seed: int) -> dict[str, dict[str, float]]:
    """What simpler makers of series come to on the held-out ones: the training returns in random order, and as they
    are."""
    held = torch.from_numpy(cut(prepared.held, length))
    real = cut(prepared.train, length)
    shuffled = np.random.default_rng(seed).permutation(real.ravel()).reshape(real.shape)
    found = {}
    for name, series in ((SHUFFLED, shuffled), ("training returns", real)):
        values = {k: float(v) for k, v in distances(torch.from_numpy(series), held).items()}
        found[name] = values | {"total": sum(values.values())}
    return found


def _table(columns: Mapping[str, Mapping[str, float]]) -> str:
    """Distances to held-out series as a table."""
    lines = ["Distances to held-out series (`generators/fin_gan/distances.py`), 0 is alike:", ""]
    lines += [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    names = next(iter(columns.values()))
    return "\n".join([*lines, *(f"| {n} | {' | '.join(f'{c[n]:.4f}' for c in columns.values())} |" for n in names)])


def _card(
    name: str, dataset: Dataset, recipe: Recipe, distances: Mapping[str, Mapping[str, float]],
    result: training.TrainingResult, facts: dict[str, Any], seed: int, work: Work, notes: Sequence[str],
) -> Card:  # fmt: skip
    covered = facts["coverage"]
    return Card(
        title=f"{name} on {dataset.name}",
        summary=f"FIN-GAN (Takahashi, Chen, Tanaka-Ishii 2019), architecture {recipe.architecture}: the maker of "
        f"{recipe.length} minute returns of a mid price. Of held-out returns {covered['returns']:.0%}, of windows by "
        f"their volatility {covered['volatility']:.0%} lie in classes that are made at least a quarter as often as "
        f"they are real.\n\n{_table(distances)}",
        command=work.command,
        dataset=f"{dataset.name} v{dataset.version}",
        dataset_hash=dataset.content_hash,
        seed=seed,
        **{**result.facts(), "losses": {}},  # they are no nats
        limits=(
            "It knows the instruments of its training data only, and their continuous trading.",
            "It makes prices at the ends of minutes, whatever the market looked like before its start.",
            *notes,
        ),
        unit="minute",
    )
