"""Reader of FI-2010 (Ntakaris et al. 2018): ten days of five stocks of Nasdaq Nordic, as their authors normalised them.

A file is a matrix of text, 149 rows by N columns, one column for every tenth order of a day and stock, all one after
the other. Rows 0 to 39 are ten levels (ask price, ask volume, bid price and bid volume of the first, then of the second
and so on), rows 40 to 143 features made of them, and rows 144 to 148 the labels for 10, 20, 30, 50 and 100 events: 1
up, 2 stationary, 3 down.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from marsbench.data.errors import DataError

ROWS, LEVEL_ROWS, LABEL_ROWS = 149, 40, slice(144, 149)
HORIZONS = (10, 20, 30, 50, 100)
"""In events, as labels are named."""


@dataclass(frozen=True)
class Fi2010:
    """One file; N moments in the order of the file."""

    levels: NDArray[np.float32]
    """``[N, 40]``."""
    classes: NDArray[np.int8]
    """``[N, 5]``: 0 down, 1 stationary, 2 up, by horizon."""


def read(path: str | Path) -> Fi2010:
    """Read a file.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    DataError
        If it is not 149 rows of equally many numbers, or a label is none of 1, 2, 3.
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        whole = pd.read_csv(path, sep=r"\s+", header=None, dtype=np.float32).to_numpy()
    except (ValueError, pd.errors.ParserError) as error:
        raise DataError(path, f"not a matrix of numbers ({error})") from error
    if len(whole) != ROWS:
        raise DataError(path, f"{len(whole)} rows; a file of FI-2010 has {ROWS}")
    if not np.isfinite(whole).all():
        row, column = np.argwhere(~np.isfinite(whole))[0]
        raise DataError(path, f"column {column + 1} holds no number; the file may be cut off", row=int(row) + 1)
    labels = whole[LABEL_ROWS]
    if wrong := set(np.unique(labels).tolist()) - {1.0, 2.0, 3.0}:
        raise DataError(path, f"labels must be 1, 2 or 3, found {sorted(wrong)[:3]}")
    return Fi2010(np.ascontiguousarray(whole[:LEVEL_ROWS].T), (3 - labels.T).astype(np.int8))
