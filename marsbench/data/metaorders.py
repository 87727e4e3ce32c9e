"""Lists of metaorders: the large orders that traders of an embedded market worked off in small ones.

Nobody trains on them; they are there to measure impact, because on a real market nobody knows them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data.dataset import SPLITS, Dataset
from marsbench.files import write_atomic
from marsbench.market.rules import MINUTE

COLUMNS = ("instrument", "metaorders", "buys", "median_minutes", "median_shares", "largest_shares", "median_fills")


def of_split(data: Dataset, split: str) -> NDArray[np.void]:
    """The metaorders of the days of one split, or of ``"all"``.

    Raises
    ------
    ValueError
        If the data set does not know its metaorders, or the split is unknown.
    """
    table = data.metaorders()
    if table is None:
        raise ValueError(f"data set {data.name!r} does not know its metaorders; only embedded markets do")
    if split == "all":
        return table
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; there are {', '.join(SPLITS)} and all")
    days = {(p.instrument, p.date) for p in data.split(split)}
    pairs = zip(table["instrument"].tolist(), table["date"].tolist(), strict=True)
    own: NDArray[np.void] = table[np.fromiter((pair in days for pair in pairs), bool, len(table))]
    return own


def records(table: NDArray[np.void]) -> list[dict[str, Any]]:
    """One dictionary for each metaorder."""
    names = table.dtype.names or ()
    return [dict(zip(names, row, strict=True)) for row in table.tolist()]


def summary(table: NDArray[np.void]) -> list[dict[str, Any]]:
    """One row for each instrument, with the columns ``COLUMNS``."""
    rows = []
    for name in np.unique(table["instrument"]):
        own = table[table["instrument"] == name]
        length = (own["end_ns"] - own["start_ns"]) / MINUTE
        values = (
            str(name),
            len(own),
            int((own["side"] > 0).sum()),
            f"{np.median(length):.2f}",
            int(np.median(own["executed_shares"])),
            int(own["executed_shares"].max()),
            int(np.median(own["fills"])),
        )
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def write(table: NDArray[np.void], path: str | Path) -> Path:
    """Write a table to a ``.csv`` or ``.parquet`` file, atomically.

    Raises
    ------
    ValueError
        For another ending.
    """
    import io

    import pandas as pd

    path = Path(path)
    frame = pd.DataFrame({name: table[name] for name in table.dtype.names or ()})
    if path.suffix == ".csv":
        return write_atomic(path, frame.to_csv(index=False))
    if path.suffix != ".parquet":
        raise ValueError(f"{path}: write metaorders to a file that ends in .csv or .parquet")
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return write_atomic(path, buffer.getvalue())
