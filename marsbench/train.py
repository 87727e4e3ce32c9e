"""Trains a generator: what is there already stays, what was interrupted goes on.

The finished artifact lies where ``marsbench run`` looks for it; states and other things that survive an
interruption lie beside the cache until then. One that ``marsbench run`` fits in passing is fitted here in the same way,
so that its fit can be shipped too. What is shipped takes the place of what it was made from: results are of weights
that others have as well.
"""

from __future__ import annotations

import errno
import os
import platform
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marsbench import progress, shipping, system
from marsbench.data.catalogue import Dataset, open_dataset
from marsbench.experiment import DiskFull, make
from marsbench.files import exclusive
from marsbench.fitting import (
    artifact_key,
    check_no_overlap,
    find_artifact,
    find_trained,
    fitted,
    period_text,
    training_command,
    training_key,
    training_periods,
)
from marsbench.simulation.contracts import Artifact, Generator, Trained, Work
from marsbench.suite import DEFAULT_DATASET, Entrant

if TYPE_CHECKING:
    from marsbench.learning.checkpoints import Card


@dataclass(frozen=True)
class TrainReport:
    """What training came to."""

    generator: str
    dataset: str
    seed: int
    artifact: Artifact
    trained: bool
    """False for one that was there already."""
    wall_s: float
    shipped: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "generator": self.generator,
            "dataset": self.dataset,
            "seed": self.seed,
            "artifact": str(self.artifact.folder),
            "key": self.artifact.key,
            "content_hash": self.artifact.content_hash,
            "trained": self.trained,
            "wall_s": self.wall_s,
            "shipped": str(self.shipped) if self.shipped else None,
        }


@dataclass(frozen=True)
class _Job:
    """One training: what, on which data, and where everything lies."""

    generator: Generator
    dataset: Dataset
    seed: int
    results: Path
    command: str
    say: Callable[[str], None]

    @property
    def key(self) -> str:
        if isinstance(self.generator, Trained):
            return training_key(self.generator, self.dataset, self.seed)
        return artifact_key(self.generator, self.dataset, self.seed)

    @property
    def artifacts(self) -> Path:
        return self.results / "cache" / "artifacts"

    @property
    def scratch(self) -> Path:
        return self.results / "cache" / "training" / self.key

    def work(self, on_point: Callable[[int, Mapping[str, float]], None]) -> Work:
        return Work(
            scratch=self.scratch,
            cache=self.results / "cache" / "shared",
            key=self.key,
            command=self.equivalent,
            say=self.say,
            on_point=on_point,
            artifact_of=self.artifact_of,
        )

    def artifact_of(self, generator: Generator, dataset: Dataset | None = None) -> Artifact | None:
        if not isinstance(generator, Trained):
            return None
        return find_trained(generator, dataset or self.dataset, self.seed, self.artifacts, self.say)

    @property
    def equivalent(self) -> str:
        """The command that trains the same."""
        return f"{training_command(self.generator, self.dataset)} --seed {self.seed}"

    def card(self, artifact: Artifact, seconds: float | None) -> Card | None:
        """Of a fit; who is trained writes its card itself."""
        from marsbench.learning.checkpoints import Card

        made, data = self.generator, self.dataset
        if isinstance(made, Trained):
            return None
        return Card(
            title=f"{made.name} on {data.name}",
            summary=f"{made.summary[:1].upper()}{made.summary[1:]}.",
            command=self.equivalent,
            dataset=f"{data.name} v{data.version}",
            dataset_hash=data.content_hash,
            seed=artifact.seed,
            seconds=seconds,
            hardware=platform.machine(),
            limits=["It knows the instruments of its training data only.", *artifact.notes],
        )

    def facts(self) -> dict[str, Any]:
        """What MLflow is told about it."""
        made = self.generator
        parameters = dict(made.training_parameters() if isinstance(made, Trained) else made.parameters())
        return {
            "generator": {"name": made.name, "version": made.version, "parameters": parameters},
            "dataset": {"name": self.dataset.name, "content_hash": self.dataset.content_hash},
            "seed": self.seed,
            "key": self.key,
            "command": self.command,
            "environment": system.environment(),
        }


def train(
    generator: str | Generator,
    dataset: str = DEFAULT_DATASET,
    *,
    seed: int = 0,
    results: str | Path = "results",
    fresh: bool = False,
    ship: str | Path | None = None,
    track: bool = True,
    command: str | None = None,
    say: Callable[[str], None] = progress.say,
) -> TrainReport:
    """Train a generator on a data set unless its artifact is there; returns where that is.

    Parameters
    ----------
    generator
        A name, a specification or an instance of a generator that learns from training periods.
    seed
        Of the training: initial weights, order of the data. Seeds of simulations are another matter.
    fresh
        Train anew, forgetting a finished artifact and an interrupted state.
    ship
        Also write the artifact, its weights as float16, to this folder, and use what lies there from now on.
    track
        Log to MLflow as well.
    command
        The command to record; default: the equivalent ``marsbench train`` command.

    Raises
    ------
    ValueError
        If the generator has nothing to learn, or the data set has no training periods.
    LeakError
        If a training or validation period overlaps a test period.
    Diverged
        If training diverged.
    Busy
        If another process is training the same.
    DiskFull
        If nothing more can be saved.
    """
    began = time.perf_counter()
    entrant = Entrant.of(generator)
    main = is_main()
    say = say if main else (lambda text: None)
    job = _job(entrant, dataset, seed, Path(results), command, say)
    lock = job.scratch.with_name(f".{job.key}.lock")
    refusal = f"another process is training {job.generator.name!r} with this recipe and seed; wait for it"
    with exclusive(lock, refusal) if main else nullcontext():
        found = None if fresh else _exact(job)
        artifact = found or (_train if isinstance(job.generator, Trained) else _fit)(job, fresh, main, track)
    if found is not None:
        say(f"{entrant.label} is trained already: {found.folder} (--fresh trains it anew)")
    wall_s = time.perf_counter() - began
    shipped = None
    if ship is not None and main:
        seconds = wall_s if found is None else None
        shipped = shipping.ship(artifact, Path(ship), card=job.card(artifact, seconds), key=job.key, say=say)
        artifact = shipping.take_over(shipped, artifact.folder, within=job.artifacts)
    return TrainReport(entrant.label, job.dataset.name, seed, artifact, found is None, wall_s, shipped)


def _job(
    entrant: Entrant, dataset: str, seed: int, results: Path, command: str | None, say: Callable[[str], None]
) -> _Job:
    made = make(entrant)
    if not made.fits:
        raise ValueError(f"generator {made.name!r} has nothing to learn: `marsbench run` takes it as it is")
    data = open_dataset(dataset)
    if not training_periods(made, data):
        raise ValueError(f"data set {data.name!r} has no training periods")
    seen = [*training_periods(made, data), *data.split("validation")]
    check_no_overlap(map(period_text, seen), data.split("test"), who=f"generator {made.name!r}")
    equivalent = shlex.join(["marsbench", "train", str(entrant.spec), "-d", dataset, "--seed", str(seed)])
    return _Job(made, data, seed, results, command or equivalent, say)


def is_main() -> bool:
    """Whether this is the one of several processes (``torchrun``, ``accelerate launch``) that keeps the artifact."""
    return int(os.environ.get("RANK", "0")) == 0


def leave_others() -> None:
    """At the end of one of several processes, part from the others in good order; nothing for a single one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from marsbench.learning.processes import leave

        leave()


def _exact(job: _Job) -> Artifact | None:
    """The finished artifact of this very seed."""
    found = find_artifact(job.generator, job.dataset, job.seed, job.artifacts, job.say)
    return found if found is not None and found.seed == job.seed else None


def _fit(job: _Job, fresh: bool, main: bool, track: bool) -> Artifact:
    """Fit what ``marsbench run`` fits in passing; runs log such a fit."""
    del fresh, main, track
    made = fitted(job.generator, job.dataset, job.seed, job.artifacts, fresh=True, stored=False, say=job.say)
    assert made is not None  # it has something to learn
    return made


def _train(job: _Job, fresh: bool, main: bool, track: bool) -> Artifact:
    from marsbench.track_training import TrainingRun

    if fresh and main:
        shutil.rmtree(job.scratch, ignore_errors=True)
    job.scratch.mkdir(parents=True, exist_ok=True)
    run = TrainingRun(
        job.results,
        job.scratch,
        name=f"train {job.generator.name} {job.dataset.name} {job.seed}",
        dataset=job.dataset,
        facts=job.facts,
        enabled=track and main,
        say=job.say,
    )
    try:
        artifact = _into_place(job, run.point, keep=main)
    except KeyboardInterrupt:
        run.stop("KILLED", "interrupted")
        raise
    except Exception as error:
        run.stop("FAILED", str(error))
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            text = f"no space left under {job.results}; after freeing some the same command goes on"
            raise DiskFull(errno.ENOSPC, text) from error
        raise
    if main:
        run.finish(artifact)
        shutil.rmtree(job.scratch)
    return artifact


def _into_place(job: _Job, on_point: Callable[[int, Mapping[str, float]], None], *, keep: bool) -> Artifact:
    """Train into a temporary folder, then move it to its place in one step; other processes throw theirs away."""
    folder = job.artifacts / job.key
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    assert isinstance(job.generator, Trained)
    try:
        made = job.generator.train(job.dataset, temporary, seed=job.seed, work=job.work(on_point))
        _check_sealed(job, made, temporary)
        if keep:
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return replace(made, folder=folder)


def _check_sealed(job: _Job, made: Artifact, folder: Path) -> None:
    sealed = made.folder == folder and (folder / "artifact.json").exists()
    if not sealed or (made.key, made.dataset_hash) != (job.key, job.dataset.content_hash):
        raise ValueError(
            f"generator {job.generator.name!r}: train must seal the folder it was given with Artifact.write(..., "
            "dataset_hash=dataset.content_hash, key=work.key)"
        )
    check_no_overlap(made.trained_on, job.dataset.split("test"), who=f"generator {made.generator!r}")
