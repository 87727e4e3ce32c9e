"""How figures look, wherever they are made: one style, figures without global state, columns of tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, for what stands side by side; ``MARKERS`` in the same order."""
MARKERS = "osD^vP"


@contextmanager
def style() -> Iterator[None]:
    """Seaborn's look for the figures made inside; nothing global remains."""
    import matplotlib
    import seaborn as sns

    rc: dict[Any, Any] = {
        "axes.titlesize": 10.5,
        "legend.framealpha": 0.6,
        "legend.edgecolor": "none",
        "legend.fontsize": 8.5,
    }
    with (
        sns.axes_style("ticks", {"axes.grid": True, "grid.color": "#e6e6e6"}),
        sns.plotting_context("paper", 1.1),
        matplotlib.rc_context(rc),
    ):
        yield


def figure(rows: int, columns: int, *, width: float = 4.4, height: float = 3.3) -> tuple[Figure, list[Axes]]:
    """A figure that no global state knows of, and its axes row by row."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=150)
    axes = np.atleast_1d(made.subplots(rows, columns)).ravel().tolist()
    return made, axes


def tiles(
    count: int, kinds: int = 1, *, columns: int = 4, width: float = 3.7, height: float = 2.9
) -> tuple[Figure, list[list[Axes]]]:
    """Axes ``[kinds][count]``: those of one thing above each other, so many things side by side, the rest below."""
    across = min(columns, count)
    made, axes = figure(kinds * -(-count // across), across, width=width, height=height)
    found = [[axes[(k // across * kinds + kind) * across + k % across] for k in range(count)] for kind in range(kinds)]
    for ax in axes:
        if not any(ax in own for own in found):
            ax.remove()
    return made, found


def column(table: Mapping[str, Sequence[Any]], name: str) -> Floats:
    """A column of numbers with NaN for what is missing."""
    return np.array([np.nan if v is None else v for v in table[name]], np.float64)


def empty(ax: Axes, text: str = "not enough data") -> None:
    ax.text(0.5, 0.5, text, ha="center", va="center", transform=ax.transAxes, color="#555555")
