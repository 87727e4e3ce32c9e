"""What DeepLOB looks at: the last hundred books before a moment, standardised; and files of such windows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from marsbench.files import write_atomic
from marsbench.learning.moments import Moments
from marsbench.market.snapshots import Snapshots

from .network import COLUMNS, WINDOW

Ints = NDArray[np.int64]
Windows = NDArray[np.float16]
LIMIT = 8.0
"""Standardised numbers are cut there."""
INDEX = "windows.json"


def raw_windows(books: Snapshots, known: Ints, lot: float) -> NDArray[np.float32]:
    """``[m, 100, 40]``: the last hundred books up to each moment; where there were fewer, the first stands in.

    Level by level come ask price, ask volume, bid price, bid volume. Prices are distances from the mid of the last
    book, in ticks; an empty level lies one tick behind the one before it. Volumes are log(1 + lots).
    """
    rows = np.maximum(known[:, None] + np.arange(1 - WINDOW, 1), 0)
    price, size = (part[rows].astype(np.float32) for part in (_filled(books), books.size_shares))  # [m, 100, 2, 10]
    mid = price[:, -1:, :, :1].mean(axis=2, keepdims=True)
    out = np.stack([price - mid, np.log1p(size / lot)], axis=-1)  # [m, 100, side, level, 2]
    return np.ascontiguousarray(out.transpose(0, 1, 3, 2, 4)).reshape(len(known), WINDOW, COLUMNS)


def _filled(books: Snapshots) -> NDArray[np.float64]:
    """Prices ``[n, 2, 10]`` with stand-ins for empty levels; an empty side begins one tick behind the other."""
    price, there = books.price_ticks.astype(np.float64), books.size_shares > 0
    for side, away in ((0, 1.0), (1, -1.0)):
        price[:, side, 0] = np.where(there[:, side, 0], price[:, side, 0], price[:, 1 - side, 0] + away)
        for level in range(1, price.shape[2]):
            behind = price[:, side, level - 1] + away
            price[:, side, level] = np.where(there[:, side, level], price[:, side, level], behind)
    price[~there.any(axis=(1, 2))] = 0.0
    return price


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of each column, by instrument."""

    mean: Mapping[str, NDArray[np.float32]]
    scale: Mapping[str, NDArray[np.float32]]

    @classmethod
    def fit(cls, windows: Iterable[tuple[str, NDArray[np.float32]]]) -> Self:
        """From raw windows of training periods, by instrument."""
        found: dict[str, list[NDArray[np.float32]]] = {}
        for name, rows in windows:
            found.setdefault(name, []).append(rows.reshape(-1, COLUMNS))
        together = {name: np.concatenate(rows).astype(np.float64) for name, rows in found.items()}
        mean = {name: rows.mean(axis=0).astype(np.float32) for name, rows in together.items()}
        scale = {name: np.maximum(rows.std(axis=0), 1e-3).astype(np.float32) for name, rows in together.items()}
        return cls(mean, scale)

    def __call__(self, instrument: str, raw: NDArray[np.float32]) -> Windows:
        """Standardised windows.

        Raises
        ------
        ValueError
            If the instrument was not among those of training.
        """
        if instrument not in self.mean:
            raise ValueError(f"deeplob was trained on {', '.join(self.mean)}, not on {instrument}")
        values = (raw - self.mean[instrument]) / self.scale[instrument]
        cut: Windows = np.clip(values, -LIMIT, LIMIT).astype(np.float16)
        return cut

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {name: {"mean": self.mean[name].tolist(), "scale": self.scale[name].tolist()} for name in self.mean}

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, Sequence[float]]]) -> Self:
        """Back from ``to_dict``."""
        mean, scale = (
            {name: np.array(own[what], np.float32) for name, own in values.items()} for what in ("mean", "scale")
        )
        return cls(mean, scale)


def windows_at(moments: Moments, lot: float, scaling: Scaling) -> Windows:
    """Standardised windows of some moments."""
    stream = moments.stream
    return scaling(stream.instrument, raw_windows(stream.books, moments.known, lot))


@dataclass(frozen=True)
class WindowFiles:
    """A folder with ``windows.bin`` ``[n, 100, 40]`` and ``classes.bin`` ``[n, T]``, memory-mapped."""

    folder: Path

    @cached_property
    def head(self) -> dict[str, Any]:
        """``identity``, ``rows``, ``targets``.

        Raises
        ------
        FileNotFoundError
            If the folder was not finished.
        """
        path = self.folder / INDEX
        if not path.exists():
            raise FileNotFoundError(f"{self.folder}: no {INDEX}; the windows were not finished, make them again")
        head: dict[str, Any] = json.loads(path.read_text())
        return head

    @cached_property
    def windows(self) -> Windows:
        shape = (self.head["rows"], WINDOW, COLUMNS)
        return np.memmap(self.folder / "windows.bin", np.float16, "r", shape=shape)

    @cached_property
    def classes(self) -> NDArray[np.int8]:
        return np.memmap(self.folder / "classes.bin", np.int8, "r", shape=(self.head["rows"], self.head["targets"]))


def write_windows(folder: Path, parts: Iterable[tuple[Windows, Ints]], *, identity: str) -> WindowFiles:
    """Write windows ``[m, 100, 40]`` with their classes ``[m, T]``, the index last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    rows, targets = 0, 0
    with open(folder / "windows.bin", "wb") as windows_file, open(folder / "classes.bin", "wb") as classes_file:
        for windows, classes in parts:
            windows_file.write(np.ascontiguousarray(windows).tobytes())
            classes_file.write(classes.astype(np.int8).tobytes())
            rows, targets = rows + len(windows), classes.shape[1]
    if rows == 0:
        raise ValueError("no training period holds a moment with a horizon before its end; there is nothing to learn")
    write_atomic(folder / INDEX, json.dumps({"identity": identity, "rows": rows, "targets": targets}) + "\n")
    return WindowFiles(folder)


@lru_cache(2)
def _shuffled(seed: int, epoch: int, count: int) -> Ints:
    return np.random.default_rng([seed, epoch]).permutation(count)


@dataclass(frozen=True)
class WindowBatches:
    """Windows of one target in random order, each epoch in another; a batch is a function of its number alone."""

    files: WindowFiles
    target: int
    seed: int

    @cached_property
    def rows(self) -> Ints:
        """Windows whose class is known."""
        return np.flatnonzero(self.files.classes[:, self.target] >= 0)

    def batch(self, step: int, size: int) -> dict[str, NDArray[Any]]:
        """Batch number ``step`` of ``size`` windows."""
        epochs, places = np.divmod(np.arange(step * size, (step + 1) * size), len(self.rows))
        chosen = np.empty(size, np.int64)
        for epoch in np.unique(epochs):
            own = epochs == epoch
            chosen[own] = self.rows[_shuffled(self.seed, int(epoch), len(self.rows))[places[own]]]
        return self.take(chosen)

    def take(self, rows: Ints) -> dict[str, NDArray[Any]]:
        """Some rows."""
        rows = np.sort(rows)  # in the order of the file
        return {"windows": self.files.windows[rows], "classes": self.files.classes[rows, self.target]}

    def every(self, count: int, size: int) -> list[dict[str, NDArray[Any]]]:
        """About ``count`` windows spread evenly over all of them, in batches: for validation."""
        places = np.unique(np.linspace(0, len(self.rows) - 1, min(count, len(self.rows))).round().astype(int))
        chosen = self.rows[places]
        return [self.take(chosen[i : i + size]) for i in range(0, len(chosen), size)]

    def describe(self) -> dict[str, Any]:
        """What resuming must find unchanged."""
        return {"data": self.files.head["identity"], "target": self.target, "seed": self.seed}
