"""How a fit went, for readers: what to beware of, a table, and curves for the tracking of runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from marsbench.files import markdown_table
from marsbench.simulation.contracts import REPORT
from marsbench.stats.hawkes_fit import MOST_BRANCHING
from marsbench.stats.verdicts import holm

from .fitting import Model

LEVEL = 0.001
"""Of p after Holm, below which a type is rejected. Residuals of a fit are not those of the truth, and p is too small:
of 60 fits of the right family, 100 minutes of 16 types judged by 25, 8 had a type below .05, and none below this
(``tests/generators/test_hawkes_flow.py``)."""


def rejected(model: Model) -> tuple[int, int]:
    """Of how many types residuals of held-out events are not those of the process, and of how many they were tested.

    By Holm's correction over the types.
    """
    table = model.facts["held_out"]["residuals"]
    return sum(p < LEVEL for p in holm([row["p"] for row in table.values()])), len(table)


def notes_of(models: Mapping[str, Model]) -> list[str]:
    """What whoever uses the fit should know."""
    notes = []
    for name, model in sorted(models.items()):
        facts = model.facts
        if "scaled" in facts:
            notes.append(
                f"{name}: the likelihood is largest at a branching ratio of {facts['branching_found']:.3f}; all "
                f"kernels were multiplied by {facts['scaled']:.3f} to bring it to {MOST_BRANCHING}, and the baselines "
                "raised to keep the mean rates."
            )
        many, of = rejected(model)
        if many:
            notes.append(
                f"{name}: the time-rescaling test rejects {many} of {of} types on held-out events (p < {LEVEL} by "
                "Holm): the process is not the law of these data."
            )
    return notes


def write_report(models: Mapping[str, Model], folder: Path) -> None:
    """A table as Markdown, and the held-out log likelihood of every penalty that was tried as curves."""
    head = (
        "instrument", "events", "kernels", "branching ratio", "log likelihood an event, held out: Poisson", "Hawkes",
        "on the book", "largest KS distance", "types rejected",
    )  # fmt: skip
    rows, curves = [], {}
    for name, model in sorted(models.items()):
        facts, held = model.facts, model.facts["held_out"]
        many, of = rejected(model)
        value = held["log_likelihood_per_event"]
        largest = max((row["ks"] for row in held["residuals"].values()), default=0.0)
        rows.append(
            (
                name, f"{facts['events']:,}", str(facts["kernels"]), f"{facts['branching']:.3f}",
                f"{value['poisson']:.3f}", f"{value['hawkes']:.3f}", f"{value['hawkes_and_book']:.3f}",
                f"{largest:.3f}", f"{many} of {of}",
            )
        )  # fmt: skip
        tried = [one["log_likelihood_per_event"] for one in held["by_penalty"].values()]
        curves[f"held_out_log_likelihood_by_penalty/{name}"] = {"step": [*range(len(tried))], "value": tried}
    text = (
        "## How the fit went\n\nHeld out is the end of training. Residuals: gaps after time-rescaling against Exp(1), "
        f"type by type; a type is rejected at p < {LEVEL} by Holm's correction. All of them are in `models.json`.\n\n"
    )
    (folder / REPORT).write_text(text + markdown_table(head, rows) + "\n")
    (folder / "training.json").write_text(json.dumps(curves, indent=1))
