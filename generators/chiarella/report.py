"""How a calibration went, for readers: what to beware of, a table, and curves for the tracking of runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from marsbench.files import markdown_table
from marsbench.simulation.contracts import REPORT

from .model import NAMES, Model

NEAR = 1e-3
"""A parameter lies at a bound if it is so near, over the width of the box, in logarithms."""


def at_bounds(model: Model) -> list[str]:
    """Parameters at a bound of their search."""
    out = []
    for name in NAMES:
        low, high = np.log(model.facts["bounds"][name])
        place = (np.log(getattr(model.behaviour, name)) - low) / (high - low)
        if min(place, 1 - place) < NEAR:
            out.append(name)
    return out


def notes_of(models: Mapping[str, Model]) -> list[str]:
    """What whoever uses the fit should know."""
    notes = []
    for name, model in sorted(models.items()):
        facts = model.facts
        if bounds := at_bounds(model):
            notes.append(f"{name}: {', '.join(bounds)} at a bound of the search; J is {facts['J']:.1f}.")
        if facts["budget"]["best_simulation"] == 0:
            notes.append(f"{name}: no simulation came nearer to training than the published parameters.")
    return notes


def write_report(models: Mapping[str, Model], folder: Path) -> None:
    """A table as Markdown, and J of every simulation and of the best so far as curves."""
    head = ("instrument", *NAMES, "J", "J of the published parameters", "moment that is furthest off")
    rows, curves = [], {}
    for name, model in sorted(models.items()):
        facts = model.facts
        off = {m: _deviation(v) for m, v in facts["moments"].items()}
        worst = max(off, key=lambda m: abs(off[m]))
        values = (f"{getattr(model.behaviour, n):.3g}" for n in NAMES)
        scores = (f"{facts['J']:.1f}", f"{facts['J_of_published_parameters']:.1f}")
        rows.append((name, *values, *scores, f"{worst}, by {off[worst]:+.1f} standard errors"))
        scored = facts["J_by_simulation"]
        steps = [*range(len(scored))]
        curves[f"J/{name}"] = {"step": steps, "value": scored}
        curves[f"J_best/{name}"] = {"step": steps, "value": np.minimum.accumulate(scored).tolist()}
    text = (
        "## How the calibration went\n\nJ is the sum over nine moments of squared deviations in standard errors; five "
        "parameters were searched.\n\n" + markdown_table(head, rows) + "\n"
    )
    (folder / REPORT).write_text(text)
    (folder / "training.json").write_text(json.dumps(curves, indent=1))


def _deviation(moment: Mapping[str, float | None]) -> float:
    """Simulated less training's, in standard errors; infinite where the simulation has none."""
    simulated, training, error = (moment[k] for k in ("simulated", "training", "standard_error"))
    if simulated is None or training is None or not error:
        return float("inf")
    return float((simulated - training) / error)
