"""Tokens and features of training data in memory-mapped files, and windows of them as training batches.

A folder holds ``tokens.bin`` (uint8) and ``features.bin`` (any dtype), one row per order, periods one after the other,
and ``index.json``, which is written last. Each period begins with a row that stands for its start: type ``START``,
and the features of the first order. Row i > 0 is order i with the features of the state right before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.files import write_atomic
from marsbench.learning.vocabulary import FIELDS, START, Tokens

FORMAT = 1
INDEX = "index.json"


@dataclass(frozen=True)
class Part:
    """Where a period lies in the files."""

    period: str
    group: int
    first: int
    rows: int
    """One more than there are orders."""


class TokenFiles:
    """Memory-mapped tokens ``[N, 4]`` and features ``[N, F]`` of some periods.

    Raises
    ------
    FileNotFoundError
        If the folder was not finished.
    ValueError
        If the index is damaged or of another format, or the files do not fit it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / INDEX
        if not path.exists():
            raise FileNotFoundError(f"{folder}: no {INDEX}; the token files were not finished, make them again")
        try:
            head = json.loads(path.read_text())
            format_ = int(head["format"])
            self.identity = str(head["identity"])
            """What they were made from; the same identity, the same content."""
            self.parts = tuple(Part(**p) for p in head["parts"])
            self.width, self.dtype = int(head["width"]), np.dtype(head["dtype"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged ({error!r}); make the token files again") from error
        if format_ != FORMAT:
            raise ValueError(f"{path}: token files of format {format_}, this version reads {FORMAT}")
        self.rows = sum(p.rows for p in self.parts)
        self._check_sizes()

    def _check_sizes(self) -> None:
        for name, size in (("tokens.bin", len(FIELDS)), ("features.bin", self.width * self.dtype.itemsize)):
            path, expected = self.folder / name, self.rows * size
            found = path.stat().st_size if path.exists() else 0
            if found != expected:
                raise ValueError(f"{path} has {found} bytes, expected {expected}; make it again")

    @cached_property
    def tokens(self) -> Tokens:
        """``[N, 4]``."""
        return np.memmap(self.folder / "tokens.bin", np.uint8, "r", shape=(self.rows, len(FIELDS)))

    @cached_property
    def features(self) -> NDArray[Any]:
        """``[N, F]``."""
        return np.memmap(self.folder / "features.bin", self.dtype, "r", shape=(self.rows, self.width))

    @property
    def orders(self) -> int:
        """Orders in all periods."""
        return self.rows - len(self.parts)

    def __reduce__(self) -> tuple[type[TokenFiles], tuple[Path]]:
        return TokenFiles, (self.folder,)


Content = tuple[str, int, Tokens, NDArray[Any]]
"""Name of a period, number of its group, tokens ``[n, 4]`` and features ``[n or more, F]`` before each order."""


def write_token_files(folder: str | Path, contents: Iterable[Content], *, identity: str) -> TokenFiles:
    """Write token files into a folder, the index last; what was there before is replaced.

    Raises
    ------
    ValueError
        If no period holds an order, or features are fewer than orders or not alike in all periods.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    parts: list[Part] = []
    width, dtype, first = 0, np.dtype(np.float16), 0
    with open(folder / "tokens.bin", "wb") as tokens_file, open(folder / "features.bin", "wb") as features_file:
        for period, group, tokens, features in contents:
            if len(tokens) == 0:
                continue
            _check_features(period, len(tokens), features, (width, dtype) if parts else None)
            width, dtype = features.shape[1], features.dtype
            rows = len(tokens) + 1
            start = np.array([[START, 0, 0, 0]], np.uint8)
            tokens_file.write(np.concatenate([start, tokens]).tobytes())
            features_file.write(np.concatenate([features[:1], features[: len(tokens)]]).tobytes())
            parts.append(Part(period, group, first, rows))
            first += rows
    if not parts:
        raise ValueError("no period holds an order; there is nothing to train on")
    head = {"format": FORMAT, "identity": identity, "width": width, "dtype": dtype.str}
    write_atomic(folder / INDEX, json.dumps({**head, "parts": [asdict(p) for p in parts]}, indent=1) + "\n")
    return TokenFiles(folder)


def _check_features(period: str, orders: int, features: NDArray[Any], before: tuple[int, np.dtype[Any]] | None) -> None:
    found = (features.shape[1], features.dtype)
    if before is not None and found != before:
        raise ValueError(f"{period}: features are {found[0]} x {found[1]}, those before were {before[0]} x {before[1]}")
    if len(features) < orders:
        raise ValueError(f"{period}: {len(features)} rows of features for {orders} orders")


@dataclass(frozen=True)
class Windows:
    """Training batches: windows of ``length`` orders in random order, each epoch cut at other places.

    A batch is a function of its number alone, so that a run that is continued sees what it would have seen.
    ``tokens`` ``[B, length + 1, 4]``: row i is an order, row i + 1 the one that follows it; ``features``
    ``[B, length + 1, F]``: the states right before them; ``group`` ``[B]``.
    """

    files: TokenFiles
    length: int
    seed: int

    def __post_init__(self) -> None:
        if self.per_epoch == 0:
            raise ValueError(
                f"no period holds {self.length} orders, one window's length; use a shorter one or more data"
            )

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Windows in each period and epoch."""
        return np.array([(p.rows - 1) // self.length for p in self.files.parts], np.int64)

    @property
    def per_epoch(self) -> int:
        """Windows in an epoch."""
        return int(self.counts.sum())

    def batch(self, step: int, size: int) -> dict[str, NDArray[Any]]:
        """Batch number ``step`` of ``size`` windows."""
        number = np.arange(step * size, (step + 1) * size)
        epochs, places = np.divmod(number, self.per_epoch)
        where = np.empty(size, np.int64)
        groups = np.empty(size, np.int64)
        for epoch in np.unique(epochs):
            own = epochs == epoch
            starts, group = self._epoch(int(epoch))
            where[own], groups[own] = starts[places[own]], group[places[own]]
        return self._cut(where, groups)

    def _epoch(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First rows of the windows of an epoch in their order, and their groups."""
        rng = np.random.default_rng([self.seed, epoch])
        starts, groups = [], []
        for part, count in zip(self.files.parts, self.counts, strict=True):
            if count == 0:
                continue
            spare = part.rows - 1 - int(count) * self.length
            starts.append(part.first + int(rng.integers(spare + 1)) + self.length * np.arange(count))
            groups.append(np.full(count, part.group))
        order = rng.permutation(self.per_epoch)
        return np.concatenate(starts)[order], np.concatenate(groups)[order]

    def _cut(self, where: NDArray[np.int64], groups: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        rows = where[:, None] + np.arange(self.length + 1)
        return {"tokens": self.files.tokens[rows], "features": self.files.features[rows], "group": groups}

    def every(self, count: int, size: int) -> Sequence[dict[str, NDArray[Any]]]:
        """About ``count`` windows spread evenly over all of them, in batches of ``size``: for validation."""
        starts = [
            (part.first + self.length * k, part.group)
            for part, own in zip(self.files.parts, self.counts, strict=True)
            for k in range(int(own))
        ]
        chosen = np.unique(np.linspace(0, len(starts) - 1, min(count, len(starts))).round().astype(int))
        where = np.array([starts[i][0] for i in chosen], np.int64)
        groups = np.array([starts[i][1] for i in chosen], np.int64)
        return [self._cut(where[i : i + size], groups[i : i + size]) for i in range(0, len(where), size)]

    def describe(self) -> dict[str, Any]:
        """What resuming must find unchanged."""
        return {"data": self.files.identity, "length": self.length, "seed": self.seed, "windows": self.per_epoch}
