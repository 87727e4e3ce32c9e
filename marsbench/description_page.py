"""A description as a self-contained HTML page, as Markdown, and as text."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import marsbench
from marsbench.description import Description
from marsbench.description_figures import draw
from marsbench.description_tables import Cell, Table, headline, tables
from marsbench.figures import png
from marsbench.files import file_safe, markdown_table, write_atomic
from marsbench.stats.verdicts import FAILS, HOLDS, INCONCLUSIVE

MARKS = {HOLDS: "✓", FAILS: "✗", INCONCLUSIVE: "?"}
LEGEND = "✓ within its criterion, ✗ outside, ? too wide an interval to tell, or none. In brackets: 95% intervals."


def pictures(found: Description, besides: Sequence[Description]) -> dict[str, bytes]:
    """PNG images of all figures by title."""
    return {title: png(figure) for title, figure in draw(found, besides).items()}


def to_html(found: Description, besides: Sequence[Description], images: dict[str, bytes]) -> str:
    """The page: tables, and the images inside it."""
    return str(
        _template().render(
            found=found,
            besides=besides,
            tables=tables(found, besides),
            headline=headline(found),
            images={t: "data:image/png;base64," + base64.b64encode(i).decode() for t, i in images.items()},
            provenance=provenance(found, besides),
            version=marsbench.__version__,
        )
    )


def write(found: Description, besides: Sequence[Description], folder: str | Path) -> list[Path]:
    """Write ``description-<name>.html`` and ``.md`` into a folder; returns their paths."""
    base = Path(folder) / f"description-{file_safe(found.name)}"
    return [
        write_atomic(f"{base}.html", to_html(found, besides, pictures(found, besides))),
        write_atomic(f"{base}.md", to_markdown(found, besides)),
    ]


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files("marsbench").joinpath("description.html").read_text())


def provenance(found: Description, besides: Sequence[Description]) -> dict[str, str]:
    """Where the numbers are from."""
    rows = {
        "data set": f"{found.name} version {found.version}: {found.summary}",
        "data hash": found.content_hash,
        "days": f"{found.days} instrument-days of split {found.split!r}, {found.dates[0]} to {found.dates[1]}, "
        f"{found.minutes} minutes of continuous trading each",
        "command": found.command,
    }
    return rows | {f"beside: {b.name}": f"{b.summary}; data hash {b.content_hash}; {b.command}" for b in besides}


def _words(cell: Cell) -> str:
    shown = " ".join(filter(None, (cell.text, cell.interval)))
    return f"{shown} {MARKS[cell.verdict]}" if cell.verdict and cell.verdict != cell.text else shown


def to_markdown(found: Description, besides: Sequence[Description]) -> str:
    """The same tables, without the figures."""
    out = [f"# {found.name}", "", found.summary, "", LEGEND, ""]
    for table in tables(found, besides):
        out += [f"## {table.title}", "", table.note, ""]
        rows = []
        for line in table.lines:
            cells = [f"**{line.label}**" if line.head else line.label, *(_words(c) for c in line.cells)]
            rows.append(cells + [""] * (len(table.columns) - len(cells)))
        out += [markdown_table(table.columns, rows)] * bool(rows) + [""]
    out += ["## Provenance", "", *(f"- {k}: {v}" for k, v in provenance(found, besides).items())]
    return "\n".join(out) + "\n"


def to_text(found: Description, besides: Sequence[Description]) -> str:
    """The tables for a terminal."""
    return "\n\n".join([*(_text(table) for table in tables(found, besides)), LEGEND]) + "\n"


def _text(table: Table) -> str:
    rows = [list(table.columns)] + [[line.label, *(_words(c) for c in line.cells)] for line in table.lines]
    width = len(table.columns)
    full = [row for row in rows if len(row) == width]
    widths = [max(len(row[i]) for row in full) for i in range(width)] if full else [0] * width
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=False)).rstrip() for row in rows]
    return "\n".join([table.title.upper(), *(lines if table.lines else [table.note])])
