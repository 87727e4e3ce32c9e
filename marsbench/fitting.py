"""Fits generators on training periods only, and keeps what they learned under its own hash."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marsbench.files import digest, set_aside
from marsbench.market.rules import clock, clock_text
from marsbench.registry import Spec
from marsbench.simulation.contracts import (
    Artifact,
    Budget,
    ForecastGenerator,
    Generator,
    PathGenerator,
    SessionGenerator,
    Trained,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from marsbench.data.catalogue import Dataset, Period

LISTED = 20
"""So many training periods are listed in a result; the rest is covered by their hash."""


class LeakError(ValueError):
    """A generator saw, or would see, a period that it is tested on."""


class NotTrained(FileNotFoundError):
    """There is no artifact of a generator that must be trained first; the message says how."""


def period_text(period: Period) -> str:
    """``instrument date HH:MM:SS-HH:MM:SS``, as artifacts list what they saw."""
    return f"{period.instrument} {period.date} {clock_text(period.start_ns)}-{clock_text(period.end_ns)}"


def _parse(text: str) -> tuple[str, str, int, int]:
    match = re.fullmatch(r"(.*) (\S+) (\d\d:\d\d:\d\d)-(\d\d:\d\d:\d\d)", text)
    if match is None:
        raise ValueError(f"training period {text!r}: write 'instrument date HH:MM:SS-HH:MM:SS'")
    return match.group(1), match.group(2), clock(match.group(3)), clock(match.group(4))


def check_no_overlap(seen: Iterable[str], test: Sequence[Period], *, who: str) -> None:
    """Make sure that no training period overlaps a test period of the same instrument and day.

    Raises
    ------
    LeakError
        Naming both periods.
    """
    tests: dict[tuple[str, str], list[Period]] = {}
    for period in test:
        tests.setdefault((period.instrument, period.date), []).append(period)
    for text in seen:
        instrument, date, start_ns, end_ns = _parse(text)
        for period in tests.get((instrument, date), []):
            if start_ns < period.end_ns and period.start_ns < end_ns:
                raise LeakError(
                    f"{who} was trained on {text}, which overlaps the test period {period_text(period)}; fit it again "
                    "on the training periods of this data set"
                )


def identity(generator: Generator) -> dict[str, Any]:
    """What a generator is: name, version and parameters."""
    return {"name": generator.name, "version": generator.version, "parameters": dict(generator.parameters())}


def training_periods(generator: Generator, dataset: Dataset) -> list[Period]:
    """The training periods that a generator learns from: all, or those of each instrument's latest days."""
    periods = dataset.split("train")
    if generator.training_days is None:
        return periods
    return latest_days(periods, generator.training_days)


def latest_days(periods: Iterable[Period], days: int) -> list[Period]:
    """The periods of the latest so many days of each instrument."""
    every = list(periods)
    dates: dict[str, set[str]] = {}
    for period in every:
        dates.setdefault(period.instrument, set()).add(period.date)
    latest = {name: sorted(own)[-days:] for name, own in dates.items()}
    return [p for p in every if p.date in latest[p.instrument]]


def spread_periods(periods: Iterable[Period], count: int) -> list[Period]:
    """So many periods of each instrument, evenly over time; all where there are fewer."""
    by_name: dict[str, list[Period]] = {}
    for period in sorted(periods, key=lambda p: (p.instrument, p.date, p.start_ns)):
        by_name.setdefault(period.instrument, []).append(period)
    chosen = []
    for own in by_name.values():
        places = [round(i * (len(own) - 1) / max(count - 1, 1)) for i in range(min(count, len(own)))]
        chosen += [own[i] for i in (places if count < len(own) else range(len(own)))]
    return chosen


def artifact_key(generator: Generator, dataset: Dataset, seed: int) -> str:
    """Name of the cache folder: generator, training data and seed."""
    train = [period_text(p) for p in training_periods(generator, dataset)]
    return digest([identity(generator), dataset.content_hash, train, seed])[:32]


def training_key(generator: Trained, dataset: Dataset, seed: int) -> str:
    """Name of the artifact of a trained generator: ``<recipe>-<seed>``, the recipe being all but the seed."""
    train = [period_text(p) for p in training_periods(generator, dataset)]
    version, learned = generator.training_version, dict(generator.training_parameters())
    recipe = [generator.name, version, learned, dataset.content_hash, train]
    return f"{digest(recipe)[:32]}-{seed}"


def training_command(generator: Generator, dataset: Dataset) -> str:
    """The command that trains a generator on a data set."""
    defaults = {name: p.default for name, p in inspect.signature(type(generator)).parameters.items()}
    given = {k: v for k, v in generator.parameters().items() if k in defaults and v != defaults[k]}
    return shlex.join(["marsbench", "train", str(Spec(generator.name, given)), "-d", _dataset_text(dataset)])


def _dataset_text(dataset: Dataset) -> str:
    """How a data set is named on the command line: by its name where that opens it, else by its folder."""
    from marsbench.data.catalogue import open_dataset

    try:
        same = open_dataset(dataset.name).folder == dataset.folder
    except (ValueError, OSError):
        same = False
    return dataset.name if same else os.path.relpath(dataset.folder)


def find_artifact(
    generator: Generator, dataset: Dataset, seed: int, cache: Path, say: Callable[[str], None]
) -> Artifact | None:
    """The artifact that a generator would use, if it is there: of our own, or shipped with it."""
    if isinstance(generator, Trained):
        return find_trained(generator, dataset, seed, cache, say)
    return _find_fitted(generator, dataset, seed, cache, say)


def find_trained(
    generator: Trained, dataset: Dataset, seed: int, cache: Path, say: Callable[[str], None]
) -> Artifact | None:
    """The artifact of a trained generator: of our own or shipped with it, of this training seed or else another.

    What is trained once serves simulations of every seed; which training seed it was stands in the artifact.
    """
    wanted = training_key(generator, dataset, seed)
    recipe = wanted.rpartition("-")[0]
    candidates: dict[str, Path] = {}
    for folder in [*_sealed(generator.checkpoints), *_sealed(cache)]:  # our own replaces the shipped one
        key = _key(folder, say)
        if key.rpartition("-")[0] == recipe:
            candidates[key] = folder
    for key in sorted(candidates, key=lambda k: (k != wanted, int(k.rpartition("-")[2]))):
        if artifact := _intact(candidates[key], say):
            return artifact
    return None


def _find_fitted(
    generator: Generator, dataset: Dataset, seed: int, cache: Path, say: Callable[[str], None]
) -> Artifact | None:
    """Of a generator that is fitted in passing: our own artifact with this seed, or one shipped with any."""
    if own := _stored(cache / artifact_key(generator, dataset, seed), say):
        return own
    for folder in _sealed(generator.checkpoints):
        shipped = _intact(folder, say)
        if shipped is not None and shipped.key == artifact_key(generator, dataset, shipped.seed):
            return shipped
    return None


def _sealed(parent: Path | None) -> Iterator[Path]:
    """Folders with an artifact in them, but not those under way."""
    if parent is not None and parent.is_dir():
        yield from (f for f in sorted(parent.iterdir()) if f.name[0] != "." and (f / "artifact.json").is_file())


def _key(folder: Path, say: Callable[[str], None]) -> str:
    """The key in an artifact's head; empty for one that was fitted, or whose head is damaged."""
    try:
        return str(json.loads((folder / "artifact.json").read_text()).get("key", ""))
    except ValueError as error:
        say(f"{folder / 'artifact.json'} is damaged and not used: {error}")
        return ""


def _intact(folder: Path, say: Callable[[str], None]) -> Artifact | None:
    try:
        return Artifact.read(folder)
    except (ValueError, KeyError, FileNotFoundError) as error:
        say(f"artifact is damaged and not used: {error}")
        return None


def _trained(generator: Trained, dataset: Dataset, seed: int, cache: Path, say: Callable[[str], None]) -> Artifact:
    found = find_trained(generator, dataset, seed, cache, say)
    if found is None:
        raise NotTrained(
            f"generator {generator.name!r} has not been trained on data set {dataset.name!r}; train it (this can take "
            f"hours): {training_command(generator, dataset)}"
        )
    check_no_overlap(found.trained_on, dataset.split("test"), who=f"generator {generator.name!r}")
    return found


def fitted(
    generator: Generator,
    dataset: Dataset,
    seed: int,
    cache: Path,
    *,
    fresh: bool,
    stored: bool,
    say: Callable[[str], None],
) -> Artifact | None:
    """The artifact of a generator on a data set, fitted on its training periods unless it is stored or shipped.

    One that must be trained (``Trained``) is only looked up.

    Parameters
    ----------
    cache
        Folder of all artifacts.
    fresh
        Fit again even where a stored artifact is there.
    stored
        Never fit.

    Returns
    -------
    Artifact or None
        None for a generator that has nothing to learn.

    Raises
    ------
    LeakError
        If what it was trained on overlaps a test period.
    FileNotFoundError
        If ``stored`` and there is no stored artifact.
    NotTrained
        If it must be trained first.
    """
    if isinstance(generator, Trained):
        return _trained(generator, dataset, seed, cache, say)
    if not generator.fits or not isinstance(generator, (SessionGenerator, PathGenerator, ForecastGenerator)):
        return None
    test = dataset.split("test")
    periods = training_periods(generator, dataset)
    if not periods:
        raise ValueError(f"data set {dataset.name!r} has no training periods, and {generator.name!r} must be fitted")
    check_no_overlap(map(period_text, periods), test, who=f"generator {generator.name!r}")
    folder = cache / artifact_key(generator, dataset, seed)
    artifact = None if fresh else _find_fitted(generator, dataset, seed, cache, say)
    if artifact is None:
        if stored:
            raise FileNotFoundError(
                f"no stored fit of {generator.name!r} on {dataset.name!r}; `marsbench run` makes it"
            )
        artifact = _fit(generator, [dataset.trajectory(p) for p in periods], seed, folder)
        for note in artifact.notes:
            say(f"{generator.name} fitted on {dataset.name}: {note}")
    check_no_overlap(artifact.trained_on, test, who=f"generator {generator.name!r}")
    return artifact


def _stored(folder: Path, say: Callable[[str], None]) -> Artifact | None:
    if not folder.exists():
        return None
    try:
        return Artifact.read(folder)
    except (ValueError, KeyError, FileNotFoundError) as error:
        say(f"stored fit is damaged, set aside as {set_aside(folder).name} and fitted again: {error}")
        return None


def _fit(
    generator: SessionGenerator | PathGenerator | ForecastGenerator, data: Sequence[Any], seed: int, folder: Path
) -> Artifact:
    """Fit into a temporary folder, then move it to its place in one step."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        artifact = generator.fit(data, temporary, seed=seed, budget=Budget())
        if artifact.folder != temporary or not (temporary / "artifact.json").exists():
            raise ValueError(f"generator {generator.name!r}: fit must seal the folder it was given with Artifact.write")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return replace(artifact, folder=folder)


def facts(artifact: Artifact | None) -> dict[str, Any] | None:
    """What a result says about the artifact."""
    if artifact is None:
        return None
    seen = list(artifact.trained_on)
    return {
        "content_hash": artifact.content_hash,
        "seed": artifact.seed,
        "data_hash": artifact.data_hash,
        "trained_on": {"periods": len(seen), "list": seen[:LISTED], "hash": digest(seen)},
    }


def training_curves(artifact: Artifact | None) -> Mapping[str, Mapping[str, list[float]]]:
    """Losses by step, where the generator left ``training.json`` (curve -> step, value) in its artifact."""
    path = artifact.folder / "training.json" if artifact else None
    if path is None or not path.exists():
        return {}
    curves: dict[str, dict[str, list[float]]] = json.loads(path.read_text())
    return curves
