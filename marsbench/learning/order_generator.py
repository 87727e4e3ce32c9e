"""Base of trained generators that give orders one by one from tokens: training, loading and rolling out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from marsbench.simulation.contracts import Artifact, Session, SessionGenerator, Start, Trained, Work
from marsbench.simulation.randomness import Streams

if TYPE_CHECKING:
    from torch import nn

    from marsbench.data.catalogue import Dataset, Period
    from marsbench.learning.plan import TrainingPlan
    from marsbench.learning.token_data import Prepared
    from marsbench.learning.training import TrainingResult

FRESH = "none"
"""``init``: weights start at random."""
DEVICES = ("auto", "cpu", "cuda")


def device_of(who: str, asked: str) -> str:
    """Where rollouts of a generator are computed.

    Raises
    ------
    ValueError
        If a GPU is asked for that is not there.
    """
    import torch

    found = torch.cuda.is_available()
    if asked == "cuda" and not found:
        raise ValueError(f"{who}: device 'cuda': torch {torch.__version__} finds no GPU here; write device=auto")
    return "cuda" if found and asked != "cpu" else "cpu"


def check_device(who: str, asked: str) -> None:
    """Make sure that a device is one of those that can be asked for.

    Raises
    ------
    ValueError
        If it is not.
    """
    if asked not in DEVICES:
        raise ValueError(f"{who}: device {asked!r}: choose one of {', '.join(DEVICES)}")


def beginning_of(generator: Trained, untouched: Trained, init: str, dataset: Dataset, work: Work) -> Artifact | None:
    """The trained model that training starts from; None for ``FRESH``.

    Parameters
    ----------
    untouched
        The same generator with ``init`` left out, as it would have been trained on the data set ``init``.

    Raises
    ------
    ValueError
        If it was not trained there.
    LeakError
        If it saw a test period of ``dataset``.
    """
    if init == FRESH:
        return None
    from marsbench.data.catalogue import open_dataset
    from marsbench.fitting import check_no_overlap

    name = generator.name
    found = work.artifact_of(untouched, open_dataset(init))
    if found is None:
        raise ValueError(
            f"{name}: init {init!r}: no {name} has been trained on that data set; train it first: "
            f"marsbench train {name} -d {init}"
        )
    who = f"{name} of {init!r}, from which training would start,"
    check_no_overlap(found.trained_on, dataset.split("test"), who=who)
    return found


def adopt(
    model: nn.Module, other: nn.Module, theirs: Sequence[str], ours: Sequence[str], *, keep: tuple[str, ...] = ()
) -> None:
    """Give a model the weights of another one; groups that it did not know begin with the mean of its own.

    Parameters
    ----------
    theirs, ours
        Names of the groups of the other model and of this one.
    keep
        Prefixes of the names of weights that stay this model's own.
    """
    import torch

    weights = {**other.state_dict(), **{n: w for n, w in model.state_dict().items() if n.startswith(keep)}}
    for name, known in weights.items():
        if name.endswith("order.group.weight"):
            rows = [known[list(theirs).index(own)] if own in theirs else known.mean(0) for own in ours]
            weights[name] = torch.stack(rows)
    model.load_state_dict(weights)


class OrderByOrder(Trained, SessionGenerator):
    """A trained model over order tokens; subclasses say what network it is and how it is rolled out."""

    reacts = True
    layout = "touch"
    validation_windows = 128
    architecture: tuple[str, ...] = ()
    """Options that the shape of the network depends on: what starts from another model has them in common with it."""
    of_the_data: tuple[str, ...] = ()
    """Prefixes of the names of weights that every data set has of its own."""
    limits: tuple[str, ...] = (
        "It knows the instruments of its training data only, and their bins.",
        "It knows continuous trading only: no auctions, no halts.",
    )

    def __init__(self, *, tokens: int, context: int, batch: int, init: str, device: str, **options: Any) -> None:
        check_device(self.name, device)
        for name, number in (("tokens", tokens), ("context", context), ("batch", batch)):
            if number < 1:
                raise ValueError(f"{self.name}: {name} must be at least 1, got {number}")
        self.options: dict[str, Any] = {"tokens": tokens, "context": context, "batch": batch, **options}
        self.init, self.device = init, device
        self.model: Any = None
        self.tokeniser: Any = None

    @property
    def steps(self) -> int:
        """Updates of the weights."""
        return max(int(self.options["tokens"]) // int(self.options["batch"] * self.options["context"]), 1)

    def training_parameters(self) -> Mapping[str, Any]:
        return {**self.options, "init": self.init}

    def parameters(self) -> Mapping[str, Any]:
        return {**self.training_parameters(), "device": self.device}

    @abstractmethod
    def network(self, groups: int) -> nn.Module:
        """With fresh weights, for so many groups of instruments."""

    @abstractmethod
    def plan(self) -> TrainingPlan:
        """Steps and schedule."""

    @abstractmethod
    def session(self, starts: Sequence[Start], rollouts: int, streams: Streams) -> Session:
        """Rows of the loaded model."""

    def check(self, dataset: Dataset, periods: Sequence[Period]) -> None:
        """Make sure, before anything is learned, that the training periods will do; a ValueError where not."""
        del dataset, periods

    def checked(self, result: TrainingResult) -> None:
        """Make sure that training came to something."""
        del result

    def finish(
        self, model: nn.Module, dataset: Dataset, periods: Sequence[Period], prepared: Prepared, seed: int, work: Work
    ) -> Mapping[str, Any]:
        """What follows when the weights are learned; returns facts for the artifact."""
        del model, dataset, periods, prepared, seed, work
        return {}

    def facts(self, model: nn.Module, held: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """What else is measured on held-out windows, for the artifact."""
        del model, held
        return {}

    @abstractmethod
    def describe(self, model: nn.Module) -> str:
        """One sentence for the model card."""

    def train(self, dataset: Dataset, folder: Path, *, seed: int, work: Work) -> Artifact:
        import torch

        from marsbench.fitting import training_periods
        from marsbench.learning import training
        from marsbench.learning.baselines import baseline_losses
        from marsbench.learning.checkpoints import Card, load_config, load_model, save_model
        from marsbench.learning.token_data import prepare
        from marsbench.learning.token_files import Windows
        from marsbench.learning.tokeniser import Tokeniser

        untouched = type(self)(**{name: self.options[name] for name in self.architecture})
        start_from = beginning_of(self, untouched, self.init, dataset, work)
        periods = training_periods(self, dataset)
        self.check(dataset, periods)
        prepared = prepare(dataset, periods, self.layout, work.cache, start_from)
        names = prepared.tokeniser.vocabulary.names
        torch.manual_seed(seed)
        model = self.network(len(names))
        if start_from is not None:
            theirs = Tokeniser.load(start_from.folder).vocabulary.names
            other = self.network(int(load_config(start_from.folder)["groups"]))
            load_model(start_from.folder, other)
            adopt(model, other, theirs, names, keep=self.of_the_data)
        length = self.options["context"]
        windows = Windows(prepared.train, length, seed)
        held = Windows(prepared.validation, length, seed).every(self.validation_windows, self.validation_windows)
        result = training.train(
            cast(Any, model), windows, held, self.plan(), seed=seed, scratch=work.scratch, say=work.say,
            on_point=work.on_point,
        )  # fmt: skip
        self.checked(result)
        finished = self.finish(model, dataset, periods, prepared, seed, work)
        in_nats = getattr(model, "unit", "nats") == "nats"
        baselines = baseline_losses(prepared.train, prepared.validation) if in_nats else {}
        config = {
            "groups": len(names),
            "options": dict(self.options),
            "started_from": start_from.content_hash if start_from else None,
            "validation": dict(result.best),
            "baselines": baselines,
            "best_step": result.best_step,
            "tokens_seen": result.tokens,
            **self.facts(model, held),
            **finished,
        }
        begun = f" Fine-tuned from {start_from.generator} ({start_from.content_hash[:12]})." if start_from else ""
        facts = result.facts() if in_nats else {**result.facts(), "losses": {}}
        card = Card(
            title=f"{self.name} on {dataset.name}",
            summary=self.describe(model) + begun,
            command=work.command,
            dataset=f"{dataset.name} v{dataset.version}",
            dataset_hash=dataset.content_hash,
            seed=seed,
            **facts,
            baselines=baselines,
            limits=self.limits,
        )
        prepared.tokeniser.save(folder)
        result.write_curves(folder)
        save_model(folder, model, config, card=card)
        return Artifact.write(
            folder,
            generator=self.name,
            version=self.training_version,
            seed=seed,
            data=(dataset.trajectory(p) for p in (*periods, *dataset.split("validation"))),
            dataset_hash=dataset.content_hash,
            key=work.key,
        )

    def load(self, artifact: Artifact) -> None:
        from marsbench.learning.checkpoints import load_config, load_model
        from marsbench.learning.tokeniser import Tokeniser

        self.tokeniser = Tokeniser.load(artifact.folder)
        self.model = self.network(int(load_config(artifact.folder)["groups"]))
        load_model(artifact.folder, self.model)
        self.model.eval().requires_grad_(False).to(device_of(self.name, self.device))

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        if self.model is None:
            raise ValueError(f"{self.name} has no weights yet; train it (marsbench train {self.name}), then load them")
        return self.session(starts, rollouts, Streams.of(key, [s.uid for s in starts], rollouts))
