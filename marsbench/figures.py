"""Pictures of a result, drawn from its tables alone and kept by content."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from marsbench import registry
from marsbench.files import digest, write_atomic
from marsbench.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110
COLOURS = 96
"""A drawing of lines and bars needs no more; it makes the files three times smaller."""


def render(result: Result, cache: Path | None) -> dict[str, bytes]:
    """PNG images of all figures of a result by name (``<metric>/<figure>``); drawn once, then read from ``cache``."""
    import matplotlib

    if "matplotlib.pyplot" not in sys.modules:
        matplotlib.use("Agg")  # nothing is shown, and it works outside the main thread
    images: dict[str, bytes] = {}
    names = {m["label"]: m for m in result.task["metrics"]}
    known = registry.names("metrics")
    for label, outcome in result.outcomes.items():
        metric = names.get(label)
        if metric is None or metric["name"] not in known or not outcome.tables:
            continue
        tables = result.to_dict()["tables"][label]
        folder = cache / digest([metric["name"], metric["version"], DPI, tables])[:32] if cache else None
        for name, image in _drawn(registry.lookup("metrics", metric["name"]), tables, folder).items():
            images[f"{label}/{name}"] = image
    return images


def _drawn(metric: type, tables: dict[str, dict[str, list[object]]], folder: Path | None) -> dict[str, bytes]:
    index = folder / "index.json" if folder else None
    if folder and index and index.exists():
        return {name: (folder / f"{name}.png").read_bytes() for name in json.loads(index.read_text())}
    images = {name: png(figure) for name, figure in metric.draw(tables).items()}  # type: ignore[attr-defined]
    if folder and index:
        for name, image in images.items():
            write_atomic(folder / f"{name}.png", image)
        write_atomic(index, json.dumps(list(images)))  # last: it says that the others are complete
    return images


def png(figure: Figure) -> bytes:
    """A figure as a small PNG; the figure is closed."""
    from PIL import Image

    raw = io.BytesIO()
    figure.savefig(raw, format="png", dpi=DPI, bbox_inches="tight", facecolor="white")
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close(figure)
    small = io.BytesIO()
    Image.open(raw).convert("RGB").quantize(COLOURS).save(small, format="png", optimize=True)
    return small.getvalue()
