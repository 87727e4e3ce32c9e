"""Small trained generators for tests: real training, on one day of the zero-intelligence market."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch

from markets import two_days
from marsbench import registry
from marsbench.data.catalogue import Period, write_dataset
from marsbench.learning import balancing
from marsbench.simulation.contracts import Artifact, Trained
from marsbench.train import train
from public_checkpoint import random_checkpoint

SMALL: dict[str, dict[str, Any]] = {
    "lmm-order-1m": {"tokens": 8_192, "context": 64, "batch": 8},
    "lob-rnn": {"tokens": 8_192, "context": 64, "batch": 8, "width": 32},
    "cgan": {"tokens": 120_000, "context": 32, "batch": 16, "width": 32, "learning_rate": 3e-3, "critic_steps": 2,
        "rounds": 1,
    },
    "stock-gan": {
        "tokens": 120_000, "context": 32, "batch": 16, "width": 32, "learning_rate": 3e-3, "critic_steps": 2,
        "auction_steps": 20, "rounds": 1,
    },
}  # fmt: skip
"""Parameters with which training takes a few seconds; other sizes are the same class."""


@cache
def parameters(name: str) -> dict[str, Any]:
    """What a generator needs here to be made without hours of training and without a network."""
    if name == "mars-order":
        return {"checkpoint": str(random_checkpoint(Path(mkdtemp()))), "context": 32}
    return SMALL.get(name, {})


@cache
def one_day_market() -> Path:
    """A data set of one instrument: a training day and a test day."""
    days = two_days()
    periods = [
        Period(d.instrument, d.date, d.start_ns, d.end_ns, split)
        for d, split in zip(days, ("train", "test"), strict=True)
    ]
    folder = Path(mkdtemp()) / "one-day"
    folder.mkdir()
    write_dataset(folder, days, periods, name="one-day", version=1, summary="a training day and a test day")
    return folder


@cache
def trained(name: str, *, seed: int = 0, copy: int = 0) -> tuple[Any, Artifact]:
    """A loaded generator and its artifact; another ``copy`` is trained anew, with an interruption.

    It is interrupted before the biases are fitted, where it has such.
    """
    spec = registry.Spec(name, SMALL[name])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(balancing, "STAGES", (balancing.Stage(2, 8),))
            given: dict[str, Any] = {"seed": seed, "results": mkdtemp(), "track": False, "say": lambda _: None}
            if copy and "rounds" in SMALL[name]:
                _interrupt(str(spec), given)
            report = train(str(spec), str(one_day_market()), **given)
    finally:
        torch.set_num_threads(threads)
    made = registry.generator(spec)
    assert isinstance(made, Trained)
    made.load(Artifact.read(report.artifact.folder))
    return made, report.artifact


def _interrupt(spec: str, given: dict[str, Any]) -> None:
    """Train until biases are fitted in simulations, and no further."""

    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(balancing, "in_processes", stop)
        with pytest.raises(KeyboardInterrupt):
            train(spec, str(one_day_market()), **given)
