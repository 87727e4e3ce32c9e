"""Histograms of replay and simulation on common bins, as table columns for the figures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.quantities import Quantity

from ._scoring import numbers

Floats = NDArray[np.float64]
Table = dict[str, list[Any]]

BINS = 40


def density_table() -> Table:
    return {"quantity": [], "source": [], "x": [], "width": [], "probability": []}


def add_density(table: Table, quantity: Quantity, replay: Floats, simulated: Floats) -> None:
    """Append probabilities on equal bins over the inner 99% of both; the rest goes to the outer bins."""
    edges = _edges(replay, simulated)
    if edges is None:
        return
    for source, values in (("replay", replay), ("simulation", simulated)):
        known = values[~np.isnan(values)]
        counts = np.histogram(np.clip(known, edges[0], edges[-1]), edges)[0]
        table["quantity"] += [quantity.key] * len(counts)
        table["source"] += [source] * len(counts)
        table["x"] += numbers((edges[:-1] + edges[1:]) / 2)
        table["width"] += numbers(np.diff(edges))
        table["probability"] += numbers(counts / max(counts.sum(), 1))


def _edges(replay: Floats, simulated: Floats) -> Floats | None:
    """Edges of the bins; None where nothing is known."""
    known = [v for v in (v[~np.isnan(v)] for v in (replay, simulated)) if v.size]
    if not known:
        return None
    low, high = min(np.quantile(v, 0.005) for v in known), max(np.quantile(v, 0.995) for v in known)
    pad = max(1e-9, abs(low) * 1e-6) if high <= low else 0.0
    return np.linspace(low - pad, high + pad, BINS + 1)
