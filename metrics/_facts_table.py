"""The verdicts in the layout of MarS's Table 6."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._style import Tables, figure, footer, rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "present": "#009E73", "absent": "#0072B2", "inconclusive": "#777777", "same": "#009E73", "different": "#D55E00",
}  # fmt: skip
"""Okabe and Ito's; the words stand there too."""
HEADS = ("Replay", "Simulation")
COLUMNS = (
    ("replay", "paper", 5.0),
    ("replay", "strict", 6.45),
    ("simulation", "paper", 9.0),
    ("simulation", "strict", 10.45),
)
EFFECTS = (("replay", 7.95), ("simulation", 11.95))
ALIKE = 13.7
WIDTH = 17.6


def table_6(tables: Tables) -> Figure:
    """Facts down, sources and forms across, with the effect size of the strict form and the difference."""
    fig, (ax,) = figure(1, 1, width=11.5)
    facts = rows(tables["facts_alike"])
    count = len(facts["fact"])
    fig.set_size_inches(11.5, 0.34 * count + 1.9)
    ax.set(xlim=(0, WIDTH), ylim=(count + 0.1, -2.1))
    ax.axis("off")
    _heads(ax)
    for i in range(count):
        if i % 2 == 0:
            ax.axhspan(i - 0.5, i + 0.5, color="#f4f4f4", zorder=0)
        _text(ax, 0.1, i, f"{facts['number'][i]}", color="#777777")
        _text(ax, 0.6, i, facts["title"][i])
        for source, form, x in COLUMNS:
            _word(
                ax, x, i, rows(tables["facts_verdicts"], source=source, form=form, fact=facts["fact"][i])["verdict"][0]
            )
        for source, x in EFFECTS:
            row = rows(tables["facts_verdicts"], source=source, form="strict", fact=facts["fact"][i])
            _text(ax, x, i, _short(row["value"][0]), color="#333333")
        _word(ax, ALIKE, i, facts["verdict"][i])
        ends = [facts[name][i] for name in ("difference", "ci_low", "ci_high")]
        inside = "" if None in ends[1:] else f" [{_short(ends[1])}, {_short(ends[2])}]"
        _text(ax, ALIKE + 1.35, i, _short(ends[0]) + inside, color="#333333")
    footer(
        fig,
        tables["facts_about"],
        "present, absent or inconclusive: one-sided 5% tests, Holm over the eleven; effect: the number that leads the "
        "strict form; same: within the margin (TOST)",
    )
    return fig


def _heads(ax: Axes) -> None:
    for text, x in zip(HEADS, (5.0, 9.0), strict=True):
        _text(ax, x, -1.6, text, weight="bold")
    _text(ax, ALIKE, -1.6, "As in replay?", weight="bold")
    for _, form, x in COLUMNS:
        _text(ax, x, -0.85, form, color="#555555")
    for _, x in EFFECTS:
        _text(ax, x, -0.85, "effect", color="#555555")
    _text(ax, 0.6, -0.85, "Fact", color="#555555")
    _text(ax, ALIKE + 1.35, -0.85, "difference", color="#555555")
    ax.axhline(-0.5, color="#333333", linewidth=0.8)


def _word(ax: Axes, x: float, y: float, word: str) -> None:
    _text(ax, x, y, word, color=COLOURS[word], weight="normal" if word == "inconclusive" else "bold")


def _text(ax: Axes, x: float, y: float, text: str, **style: Any) -> None:
    ax.text(x, y, text, va="center", ha="left", fontsize=8.5, **style)


def _short(value: float | None) -> str:
    if value is None:
        return "–"
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}"
    return text.replace("-", "\u2212")
