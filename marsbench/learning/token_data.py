"""Bins, features and token files of the training and validation periods of a data set, made once for all models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from marsbench.files import digest
from marsbench.fitting import period_text, spread_periods
from marsbench.learning.activity import Activity, Seen
from marsbench.learning.order_stream import order_stream
from marsbench.learning.periods import each_period
from marsbench.learning.processes import main_process_first
from marsbench.learning.token_files import Content, TokenFiles, write_token_files
from marsbench.learning.tokeniser import Tokeniser, information_lost, write_report
from marsbench.simulation.contracts import Artifact

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset, Period

FITTED_ON = 8
"""So many training periods of an instrument, spread evenly, make the bins and the scales of features."""
HELD_OUT = 0.1
"""Share of the orders of each training period, its last, that is held out where a data set has no validation days."""
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
        with main_process_first():
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
