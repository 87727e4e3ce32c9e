"""Repeats the published experiment of DeepLOB on FI-2010, where its files are:

    python -m marsbench.generators.deeplob.fi2010 FOLDER --horizon 10

``FOLDER`` holds the files of setup 2 (seven days to learn from, three to be judged on), normalised by z-score, without
auctions: ``Train_Dst_NoAuction_ZScore_CF_7.txt`` and ``Test_Dst_NoAuction_ZScore_CF_7.txt``, ``_8`` and ``_9`` (or
``DecPre`` instead of ``ZScore``, by ``--normalised DecPre``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from marsbench.data.fi2010 import HORIZONS, Fi2010, read
from marsbench.files import digest
from marsbench.learning.plan import TrainingPlan
from marsbench.learning.training import train
from marsbench.progress import bar, say
from marsbench.stats.classes import accuracy, confusion

from .network import WINDOW, Network

Ints = NDArray[np.int64]
PUBLISHED: Mapping[int, tuple[float, float]] = {10: (0.8340, 0.8447), 20: (0.7282, 0.7485), 50: (0.8035, 0.8051)}
"""Horizon -> F1 and accuracy of setup 2 in Zhang, Zohren and Roberts (2019)."""
TRAIN_SHARE = 0.8
"""Of the training file, its first part; the rest stops training."""


@dataclass(frozen=True)
class Moments:
    """Windows of a file that end at some of its rows."""

    data: Fi2010
    ends: Ints
    """``[n]``, row of the last book of each window."""
    horizon: int
    """Number of the label."""
    seed: int = 0

    def take(self, ends: Ints) -> dict[str, NDArray[Any]]:
        """Windows ``[k, 100, 40]`` and classes ``[k]``."""
        rows = ends[:, None] + np.arange(1 - WINDOW, 1)
        return {"windows": self.data.levels[rows], "classes": self.data.classes[ends, self.horizon]}

    def batch(self, step: int, size: int) -> dict[str, NDArray[Any]]:
        """A pure function of its number; ends are drawn anew for each batch."""
        return self.take(np.random.default_rng([self.seed, step]).choice(self.ends, size))

    def describe(self) -> dict[str, Any]:
        """What resuming must find unchanged."""
        what = [self.data.levels.shape, float(self.data.levels.sum()), self.ends[[0, -1]].tolist(), self.horizon]
        return {"data": digest(what), "seed": self.seed}


def split(data: Fi2010, horizon: int, seed: int) -> tuple[Moments, Moments]:
    """The earlier and the later part, with as many events between them as a label looks ahead."""
    cut = int(TRAIN_SHARE * len(data.levels))
    early = np.arange(WINDOW - 1, cut - HORIZONS[horizon])
    late = np.arange(cut + WINDOW - 1, len(data.levels))
    if len(early) == 0 or len(late) == 0:
        raise ValueError(f"{len(data.levels)} moments are too few to learn from and to stop by")
    return Moments(data, early, horizon, seed), Moments(data, late, horizon, seed)


def judged(network: Network, tests: Sequence[Fi2010], horizon: int) -> NDArray[np.float64]:
    """Confusion matrix ``[3, 3]`` over all windows of the test files, class that came first."""
    total = np.zeros((3, 3))
    with torch.inference_mode():
        for data in tests:
            moments = Moments(data, np.arange(WINDOW - 1, len(data.levels)), horizon)
            for i in bar(range(0, len(moments.ends), 512), desc="test", unit="batch"):
                batch = moments.take(moments.ends[i : i + 512])
                found = network(torch.tensor(batch["windows"])).argmax(1).numpy()
                total += confusion(found, batch["classes"].astype(np.int64))
    return total


def weighted_f1(matrix: NDArray[np.float64]) -> float:
    """F1 of each class, weighted by how often it came."""
    hits, came, told = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    f1 = np.divide(2 * hits, came + told, out=np.zeros(3), where=came + told > 0)
    return float((f1 * came).sum() / came.sum())


def run(folder: Path, *, horizon: int, normalised: str, windows: int, patience: int, seed: int) -> str:
    """Train, test, and say what came out beside what was published."""
    number = HORIZONS.index(horizon)
    early, late = split(read(folder / f"Train_Dst_NoAuction_{normalised}_CF_7.txt"), number, seed)
    tests = [read(folder / f"Test_Dst_NoAuction_{normalised}_CF_{k}.txt") for k in (7, 8, 9)]
    torch.manual_seed(seed)
    network, steps = Network(), max(windows // 64, 1)
    every = max(steps // 40, 1)
    plan = TrainingPlan(
        steps=steps, batch_size=64, learning_rate=1e-3, warm_up_steps=min(100, steps // 10), weight_decay=0.0,
        betas=(0.9, 0.999), validate_every=every, checkpoint_every=every, patience=patience,
    )  # fmt: skip
    held = [late.take(part) for part in np.array_split(late.ends[:: max(len(late.ends) // 8192, 1)], 16)]
    result = train(network, early, held, plan, seed=seed, say=say)
    matrix = judged(network, tests, number)
    f1, right = weighted_f1(matrix), float(accuracy(matrix))
    text = f"FI-2010, setup 2, k = {horizon}: weighted F1 {f1:.4f}, accuracy {right:.4f} (best step {result.best_step})"
    if horizon in PUBLISHED:
        text += "; published F1 {:.4f}, accuracy {:.4f}".format(*PUBLISHED[horizon])
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m marsbench.generators.deeplob.fi2010", description=__doc__.split("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="where the files are")
    parser.add_argument("--horizon", type=int, default=10, choices=HORIZONS, help="in events (default: %(default)s)")
    parser.add_argument("--normalised", default="ZScore", help="ZScore, MinMax or DecPre (default: %(default)s)")
    parser.add_argument("--windows", type=int, default=2_000_000, help="to learn from at most (default: %(default)s)")
    parser.add_argument("--patience", type=int, default=8, help="looks at the later part without a better one")
    parser.add_argument("--seed", type=int, default=0)
    asked = vars(parser.parse_args(arguments))
    try:
        print(run(asked.pop("folder"), **asked))
    except (OSError, ValueError) as error:
        print(f"fi2010: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
