"""``fin-gan``: paths of the mid price from two networks that were trained against each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from marsbench.learning.plan import Loss
from marsbench.market.rules import MINUTE
from marsbench.simulation.contracts import Artifact, PathGenerator, Start, Trained, Work
from marsbench.simulation.randomness import Streams

from .sizes import NOISE, check

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset

_NOISE, _PLACE = 1, 2
"""Purposes of random numbers."""


class FinGan(Trained, PathGenerator):
    """FIN-GAN: series of returns that a critic cannot tell from real ones, as paths of the mid price.

    As published (paper and the authors' code): the three makers and their sizes, the critic, first weights, 100 normal
    numbers as noise, cross-entropy, Adam with 2e-4 and beta1 .5 for the maker, 1e-5 and .1 for the critic, 24 series a
    step, windows at any place of the histories of several instruments, one network for all of them.

    Otherwise here:

    - Returns of the mid in the minutes of continuous trading, not of daily closes. Days of an instrument follow each
      other in one history, without the return of the night, as the paper's days do.
    - A return is divided by the standard deviation of its instrument and minute of the day (training days, and seven
      minutes to either side); a path gets it back at its own time of day. The authors leave returns as they are. Series
      are a tenth of that, cut at ten deviations, since tanh ends at 1.
    - 64 minutes instead of 8192 days: the 128 numbers of the first layer are 128 channels of one place for the
      convolutions, not one channel of 128 places. At ``length=8192`` every layer is the published one.
    - 3,072 steps, not 10,240; of forty points the weights are kept that make what is nearest to validation days
      (``distances.py``). Both players move at once, and labels are 1 and 0, where the authors' are noisy.
    - A path is a part of a series at a place by chance, or several series one after the other. Its prices are rounded
      to half ticks, where mids lie.
    - Nothing of the market before the start goes in but price and time of day: the model has no condition, so that a
      path does not know how restless the market has just been.

    Measured: on GARCH(1, 1) three seeds cut the distance of clustering from .174 (the same returns in random order) to
    .028, .037 and .124, with all classes covered (``results/gan-known-answers.md``). On the reference market's
    validation days clustering is .061 (random order .144, training days .010), all distances together .161 (.217,
    .072; the card of the checkpoint); the critic hardly leaves chance and distances go up and down to the end, so which
    step is kept matters.

    Known failures: one network mixes instruments, so one with wide ticks (half of its minutes without a move) and one
    with fine ticks are made alike, but for the rounding. Volatility does not persist from one joined series to the
    next. A single day is too short: at least eight times the length in minutes is asked for.

    Parameters
    ----------
    architecture
        ``"mlp"``, ``"cnn"`` or ``"mlp-cnn"``, the product of a convolutional and a fully connected maker.
    length
        Minutes of a series; the convolutional makers take 64, 128, 256, ... 8192.
    steps, batch
        Updates of both players, and series in each.
    learning_rate, critic_learning_rate
        Of the maker and of the critic.
    loss, critic_steps
        ``"cross-entropy"`` or ``"wasserstein"`` (with gradient penalty); updates of the critic for one of the maker.
    """

    name = "fin-gan"
    version = 1
    summary = "FIN-GAN: a generative adversarial network of minute returns; price paths only"
    source = "Takahashi, Chen and Tanaka-Ishii (2019), Modeling financial time-series with GANs"
    checkpoints = Path(__file__).parent / "checkpoints"

    def __init__(
        self,
        architecture: str = "mlp-cnn",
        length: int = 64,
        steps: int = 3_072,
        batch: int = 24,
        learning_rate: float = 2e-4,
        critic_learning_rate: float = 1e-5,
        loss: str = "cross-entropy",
        critic_steps: int = 1,
    ) -> None:
        check(architecture, length)
        if loss not in get_args(Loss):
            raise ValueError(f"{self.name}: loss={loss!r}; choose one of {', '.join(get_args(Loss))}")
        for name, number in (("steps", steps), ("batch", batch), ("critic_steps", critic_steps)):
            if number < 1:
                raise ValueError(f"{self.name}: {name} must be at least 1, got {number}")
        for name, rate in (("learning_rate", learning_rate), ("critic_learning_rate", critic_learning_rate)):
            if not rate > 0:
                raise ValueError(f"{self.name}: {name} must be above 0, got {rate}")
        self.settings: dict[str, Any] = {
            "architecture": architecture,
            "length": length,
            "steps": steps,
            "batch": batch,
            "learning_rate": learning_rate,
            "critic_learning_rate": critic_learning_rate,
            "loss": loss,
            "critic_steps": critic_steps,
        }
        self.profiles: Any = None
        self.maker: Any = None

    def parameters(self) -> Mapping[str, Any]:
        return dict(self.settings)

    def train(self, dataset: Dataset, folder: Path, *, seed: int, work: Work) -> Artifact:
        from marsbench.fitting import training_periods

        from .training import Recipe, train

        recipe, periods = Recipe(**self.settings), training_periods(self, dataset)
        return train(
            dataset, periods, recipe, folder, name=self.name, version=self.training_version, seed=seed, work=work
        )

    def load(self, artifact: Artifact) -> None:
        from marsbench.learning.checkpoints import load_model

        from .network import maker
        from .series import Profiles

        self.profiles = Profiles.from_dict(json.loads((artifact.folder / "profiles.json").read_text()))
        network = maker(self.settings["architecture"], self.settings["length"])
        load_model(artifact.folder, network)
        self.maker = network.eval().requires_grad_(False)

    def paths(self, starts: Sequence[Start], rollouts: int, minutes: int, *, key: int) -> NDArray[np.float64]:
        if self.maker is None:
            raise ValueError(f"{self.name} has no weights yet; train it (marsbench train {self.name}), then load them")
        streams = Streams.of(key, [s.uid for s in starts], rollouts)
        out = np.empty((len(starts), rollouts, minutes))
        for i, start in enumerate(starts):
            first = int(start.rules.trading_ns(start.clock_ns)) // MINUTE
            spread = self.profiles.at(start.instrument, first, minutes)
            for r in range(rollouts):
                moves = np.cumsum(spread * self._returns(streams, i * rollouts + r, minutes))
                out[i, r] = np.maximum(np.round(2 * start.mid_ticks * np.exp(moves)), 1) / 2  # mids are on half ticks
        return out

    def _returns(self, streams: Streams, row: int, minutes: int) -> NDArray[np.float64]:
        """Returns of one path in standard deviations, ``[minutes]``: a part of a series, at a place by chance, or
        several series one after the other. Each is made by itself, since the size of a batch moves last digits."""
        import torch
        from scipy.special import ndtri

        from .series import SPAN

        length = self.settings["length"]
        made = []
        for k in range(-(-minutes // length)):
            noise = ndtri(streams.uniforms(np.array([row]), np.array([k]), _NOISE, NOISE))
            with torch.inference_mode():
                made.append(self.maker(torch.from_numpy(noise).float())[0].double().numpy())
        series = np.concatenate(made) * SPAN
        place = int(streams.uniforms(np.array([row]), np.array([0]), _PLACE, 1)[0, 0] * (len(series) - minutes + 1))
        return np.asarray(series[place : place + minutes])


__all__ = ["FinGan"]
