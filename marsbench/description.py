"""What a data set looks like, in numbers: the figures that ``describe`` measures, and files of them.

A ``Description`` holds figures only, no data, so it can be kept as JSON and printed beside others: those of
three real days are in ``marsbench/data/real_days.json``, for users who do not have the files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from marsbench.files import pretty, rounded, write_atomic

Number = list[float | None]
"""Value, and the ends of its 95% interval."""

FORMAT = 2
ALL = "all instruments"
"""Stands for the mean over instruments."""
BLOCK_DAYS = 50
TAIL_EDGES = np.geomspace(0.5, 16, 41)
"""Multiples of the standard deviation at which the tails of returns are recorded."""
PRICE_MINUTES = 30


@dataclass(frozen=True)
class Description:
    """Figures of one data set. Inner keys ``ALL`` are means over instruments; None is missing."""

    name: str
    version: int
    summary: str
    content_hash: str
    split: str
    command: str
    """What made it."""
    days: int
    """Instrument-days."""
    dates: list[str]
    """First and last."""
    minutes: int
    """Of continuous trading in a day."""
    seasonal_minutes: int
    """Width of the time-of-day buckets behind what is deseasonalised."""
    instruments: list[str]
    lots: dict[str, int]
    """Shares of a lot, by instrument."""
    resembles: dict[str, str]
    """Which real day an instrument is modelled on."""
    microstructure: dict[str, dict[str, Number]]
    curves: dict[str, dict[str, list[float | None]]]
    facts: dict[str, dict[str, list[Any]]]
    """Value, low, high, and the verdict or None."""
    lines: dict[str, dict[str, list[float | None]]]
    """``x, value, low, high`` of each of ``LINES``."""
    tails: dict[str, list[float | None]]
    """Share of standardised returns beyond ``TAIL_EDGES`` in size."""
    impact: dict[str, dict[str, Any]] | None
    """None where the data set lists no metaorders."""
    blocks: list[dict[str, Any]]
    """Stability: one row per instrument and ``BLOCK_DAYS`` days."""
    prices: dict[str, list[float | None]]
    """Last price every ``PRICE_MINUTES`` minutes, relative to the first."""
    format: int = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, floats at six digits."""
        return dict(rounded(_plain(asdict(self))))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Description:
        """Inverse of ``to_dict``.

        Raises
        ------
        ValueError
            If a field is missing or unknown, or the format is another one.
        """
        if values.get("format") != FORMAT:
            raise ValueError(f"description format {values.get('format')!r}, this version reads {FORMAT}; describe anew")
        names = {f.name for f in fields(cls)}
        if set(values) != names:
            odd = ", ".join(sorted(set(values) ^ names))
            raise ValueError(f"damaged description: field {odd} is missing or unknown; describe the data set anew")
        return cls(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value


def stored(path: str | Path | None = None) -> dict[str, Description]:
    """Descriptions kept in a file, by name of the data set; by default those of the real days.

    Raises
    ------
    ValueError
        If the file is damaged or of another format.
    """
    where = Path(path) if path else files("marsbench.data").joinpath("real_days.json")
    if not where.is_file():
        return {}
    try:
        held = json.loads(where.read_text())
        return {name: Description.from_dict(values) for name, values in held.items()}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{where}: damaged descriptions ({error}); store them again") from error


def store(description: Description, path: str | Path) -> Path:
    """Add a description to a file of them, in the place of an earlier one of that name."""
    held = stored(path) | {description.name: description}
    return write_atomic(path, pretty({name: held[name].to_dict() for name in sorted(held)}) + "\n")
