"""``deeplob``: DeepLOB as a forecaster of the trend, trained by ``marsbench train``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench.questions import Question, timed_labels
from marsbench.simulation.contracts import Artifact, ForecastGenerator, Start, Trained, Work

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset

EVERY_S, EVERY_S_OF_A_DAY = 20.0, 2.0
TOGETHER = 256
"""Windows in a batch of forecasting."""


class DeepLob(Trained, ForecastGenerator):
    """DeepLOB: convolutions over the levels of the last hundred books, an inception module, an LSTM.

    One network for each horizon, of 142,691 parameters. As published: the layers, their sizes, LeakyReLU .01, dropout
    .2 of whole channels, Adam, windows in random order, early stopping on later data. Otherwise here: prices are
    distances from the present mid and volumes logarithms, standardised on training days, because standardised prices
    of one month mean nothing in the next; dropout acts in training alone, not in forecasts (the authors' notebook
    leaves it on); the loss takes logits, not a softmax of a softmax (their PyTorch notebook); the learning rate falls
    from 1e-3 along a cosine where theirs stays at 1e-4 for hundreds of epochs; labels are the task's.

    Parameters
    ----------
    label, minutes
        It foretells the trend of the next 1, 2, ... minutes by this label.
    every_s
        Seconds between the moments it learns from; none: 20, or 2 where there is only one day.
    windows
        Windows to learn from for each horizon at most, repetitions counted.
    patience
        Training ends after so many looks at the validation days, of forty, without a better one.
    """

    name = "deeplob"
    version = 1
    summary = "DeepLOB: a convolutional and recurrent network on the last hundred books, one for each horizon"
    source = "Zhang, Zohren and Roberts (2019), DeepLOB"
    checkpoints = Path(__file__).parent / "checkpoints"

    def __init__(
        self,
        label: str = "mars",
        minutes: int = 5,
        every_s: float | None = None,
        windows: int = 192_000,
        batch: int = 128,
        learning_rate: float = 1e-3,
        patience: int = 8,
    ) -> None:
        if label not in timed_labels():
            raise ValueError(f"{self.name}: label={label!r}; choose one of {', '.join(timed_labels())}")
        numbers = {"minutes": minutes, "windows": windows, "batch": batch, "patience": patience}
        for name, number in numbers.items():
            if number < 1:
                raise ValueError(f"{self.name}: {name} must be at least 1, got {number}")
        if every_s is not None and every_s <= 0:
            raise ValueError(f"{self.name}: every_s must be above 0, or none; got {every_s}")
        self.every_s = every_s
        self.settings: dict[str, Any] = {"label": label, **numbers, "learning_rate": learning_rate}
        self.question: Question | None = None
        self.scaling: Any = None
        self.networks: list[Any] = []

    def parameters(self) -> Mapping[str, Any]:
        return {**self.settings, "every_s": self.every_s}

    def train(self, dataset: Dataset, folder: Path, *, seed: int, work: Work) -> Artifact:
        from marsbench.fitting import training_periods

        from .training import Recipe, train

        every_s = self.every_s or (EVERY_S_OF_A_DAY if dataset.single_day else EVERY_S)
        recipe = Recipe(**self.settings, every_s=every_s)
        periods = training_periods(self, dataset)
        return train(
            dataset, periods, recipe, folder, name=self.name, version=self.training_version, seed=seed, work=work
        )

    def load(self, artifact: Artifact) -> None:
        from marsbench.learning.checkpoints import load_model

        from .network import Network
        from .windows import Scaling

        self.question = Question.from_dict(json.loads((artifact.folder / "question.json").read_text()))
        self.scaling = Scaling.from_dict(json.loads((artifact.folder / "scaling.json").read_text()))
        self.networks = []
        for target in self.question.targets:
            network = Network()
            load_model(artifact.folder / target.key, network)
            self.networks.append(network.eval().requires_grad_(False))

    def forecast(self, starts: Sequence[Start], question: Question) -> NDArray[np.float64]:
        import torch

        from marsbench.learning.moments import moments_of

        from .windows import windows_at

        if self.question is None:
            raise ValueError(f"{self.name} has no weights yet; train it (marsbench train {self.name}), then load them")
        columns = self.question.columns(question, self.name)
        out = np.full((len(starts), len(question.targets), 3), np.nan)
        for rows, moments in moments_of(starts):
            windows = torch.from_numpy(windows_at(moments, float(starts[rows[0]].rules.lot_shares), self.scaling))
            for j, own in enumerate(columns):
                if own is not None:
                    with torch.inference_mode():
                        parts = [self.networks[own](part.float()) for part in torch.split(windows, TOGETHER)]
                    out[rows, j] = torch.cat(parts).double().softmax(1).numpy()
        return out


__all__ = ["DeepLob"]
