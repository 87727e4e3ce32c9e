"""MarS Figures 6 and 23: one metaorder, the law of its impact, its fulfilment, and what is left of it later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from marsbench.drawing import COLOURS, MARKERS
from marsbench.reproduce import BoardItem, Made, MissingScores, Table, interval_text, rows_of, seconds_of
from marsbench.results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH, OVERLAY = "true market", "overlay"
OTHERS = {TRUTH: "truth", OVERLAY: "overlay"}
"""Markets that every result of a data set has, by their names here and in its tables."""
ALL = "all"


def markets(found: Mapping[str, Result], name: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Rows of a table for each generator's market, then for the true one and for recorded flow."""
    for label, result in found.items():
        yield label, [row for row in rows_of(result, name) if row["market"] == "own"]
    first = next(iter(found.values()))
    for label, market in OTHERS.items():
        if rows := [row for row in rows_of(first, name) if row["market"] == market]:
            yield label, rows


# --- Figure 6a ------------------------------------------------------------------------------------------


def _fig6a(found: Mapping[str, Result]) -> Made:
    drawn: list[tuple[Any, ...]] = []
    events: list[tuple[Any, ...]] = []
    shown: list[tuple[Any, ...]] = []
    titles = {}
    for label, result in found.items():
        path = rows_of(result, "impact_example")
        drawn += [(label, r["second"], r["with"], r["without"], r["replay"]) for r in path]
        events += [(label, r["second"], r["price"], r["shares"]) for r in rows_of(result, "impact_example_events")]
        titles[label] = rows_of(result, "impact_example_title")[0]["title"]
        for row in path:
            if row["second"] % 300 == 0 and None not in row.values():
                gap = 1e4 * np.log(row["with"] / row["without"])
                shown.append((label, int(row["second"] // 60), row["with"], row["without"], row["replay"], float(gap)))
    columns = ("generator", "minute", "mid with", "mid without", "mid of replay", "gap, bps")
    return Made(
        "one metaorder in each market",
        (Table("Mid price in ticks", columns, tuple(shown)),),
        "The gap between the two simulated curves is the impact: both have the same random numbers. "
        + "; ".join(f"{label}: {title}" for label, title in titles.items())
        + ".",
        ("the paper shows a single case too; what holds on average is in Figures 6b and 23",),
        (
            Table("path", ("generator", "second", "with", "without", "replay"), tuple(drawn)),
            Table("events", ("generator", "second", "price", "shares"), tuple(events)),
        ),
    )


def _draw_6a(made: Made) -> Figure:
    from marsbench.drawing import figure, style

    path, events = made.drawn
    labels = list(dict.fromkeys(row[0] for row in path.rows))
    with style():
        drawn, axes = figure(len(labels), 1, width=7.0, height=2.4)
        for ax, label in zip(axes, labels, strict=True):
            own = np.array([row[1:] for row in path.rows if row[0] == label], np.float64)
            for column, colour, name in ((1, COLOURS[1], "with"), (2, COLOURS[0], "without"), (3, "0.55", "replay")):
                ax.step(own[:, 0] / 60, own[:, column], where="post", color=colour, lw=1, label=name)
            happened = np.array([row[1:] for row in events.rows if row[0] == label], np.float64).reshape(-1, 3)
            for kept, colour, mark, name in (
                (happened[:, 2] > 0, COLOURS[2], "^", "execution"),
                (happened[:, 2] == 0, COLOURS[3], "x", "cancel"),
            ):
                ax.scatter(
                    happened[kept, 0] / 60, happened[kept, 1], s=12, color=colour, marker=mark, label=name, zorder=3
                )
            ax.set(title=label, ylabel="mid, ticks")
        axes[-1].set(xlabel="minutes after the start")
        axes[0].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return drawn


# --- Figure 6b ------------------------------------------------------------------------------------------


def _fig6b(found: Mapping[str, Result]) -> Made:
    laws: list[tuple[Any, ...]] = []
    for label, rows in markets(found, "impact_laws"):
        laws += [
            (label, row["agent"], row["normaliser"], row["n"], row["delta"],
             interval_text(row, "delta_low", "delta_high"), row["y"], interval_text(row, "y_low", "y_high"), row["r2"],
             row["decades"], row["aic_less_linear"], row["aic_less_logarithm"], row["verdict"])
            for row in rows
            if row["agent"] == ALL or row["normaliser"] == "day"
        ]  # fmt: skip
    columns = ("market", "agent", "unit", "n", "exponent", "from, to", "Y", "from, to ", "R2", "decades",
               "AIC - linear", "AIC - log", "like a square root")  # fmt: skip
    tables = [Table("I = Y (Q/V)^exponent", columns, tuple(laws)), _gaps(found), _pairing(found), _kyle(found),
              _checks(found), _costs(found)]  # fmt: skip
    points = [
        (label, r["agent"], r["size"], r["value"], r["ci_low"], r["ci_high"], r["participation"])
        for label, rows in markets(found, "impact_points")
        for r in rows
    ]
    curves = [
        (label, r["agent"], r["y"], r["delta"])
        for label, rows in markets(found, "impact_laws")
        for r in rows
        if r["normaliser"] == "day"
    ]
    drawn = (
        Table("points", ("market", "agent", "size", "impact", "from", "to", "participation"), tuple(points)),
        Table("curves", ("market", "agent", "y", "exponent"), tuple(curves)),
    )
    return Made("impact and size", tuple(t for t in tables if t.rows), _verdict(laws), _notes(found), drawn)


def _verdict(laws: list[tuple[Any, ...]]) -> str:
    pooled = [row for row in laws if row[1] == ALL and row[2] == "day" and row[4] is not None]
    words = [f"{row[0]} {row[4]:.2f} {row[5] or ''}".strip() for row in pooled]
    like = [row[0] for row in pooled if row[-1] == "holds"]
    return (
        f"The paper draws a square root through its synthetic impacts and states no exponent. Exponents here, all "
        f"agents together: {'; '.join(words) or 'none'}. Like a square root (interval contains .5, excludes 1, is "
        f"narrower than .2): {', '.join(like) or 'none'}. Recorded flow, which cannot react, has an exponent too."
    )


def _gaps(found: Mapping[str, Result]) -> Table:
    """How close each generator's impact is to the truth."""
    rows = []
    for label, result in found.items():
        for key, score in result.scores.items():
            if key.startswith("impact_gap.") and score.value is not None:
                ends = None if score.ci_low is None else f"[{score.ci_low:.3f}, {score.ci_high:.3f}]"
                rows.append(
                    (
                        label,
                        key.split(".")[1],
                        score.value,
                        ends,
                        score.floor,
                        score.ceiling,
                        score.normalised,
                        score.unit,
                    )
                )
    columns = (
        "generator",
        "gap to the true market",
        "gap",
        "from, to",
        "overlay",
        "truth itself",
        "normalised",
        "unit",
    )
    return Table("Closeness to the true market's impact", columns, tuple(rows))


def _pairing(found: Mapping[str, Result]) -> Table:
    rows = [
        (label, r["correlation"], r["variance_saved"], r["sd_paired"], r["sd_unpaired"], r["null_drift"],
         interval_text(r, "null_low", "null_high"), r["participation"], r["rejected"])
        for label, some in markets(found, "impact_pairing")
        for r in some
    ]  # fmt: skip
    columns = ("market", "correlation of arms", "variance saved", "sd paired", "sd unpaired", "drift of null agent",
               "from, to", "participation", "rejected orders")  # fmt: skip
    return Table("Pairs and the null agent (Q = 0), at the end of trading, daily volatilities", columns, tuple(rows))


def _kyle(found: Mapping[str, Result]) -> Table:
    rows = [
        (label, r["minute"], r["value"], interval_text(r))
        for label, some in markets(found, "impact_kyle")
        for r in some
        if r["minute"] in (1, 3, 5, 10, 15, 20)
    ]
    return Table("Kyle's lambda, daily volatilities per daily volume", ("market", "minute", "lambda", "from, to"),
                 tuple(rows))  # fmt: skip


def _checks(found: Mapping[str, Result]) -> Table:
    rows = [
        (label, r["check"], r["value"], interval_text(r), r["verdict"])
        for label, some in markets(found, "impact_checks")
        for r in some
    ]
    return Table(
        "Symmetry, monotonicity, no arbitrage", ("market", "check", "value", "from, to", "verdict"), tuple(rows)
    )


def _costs(found: Mapping[str, Result]) -> Table:
    """What the metaorders of each generator took, when they were simulated."""
    rows = []
    for label, result in found.items():
        n = next(s.n for key, s in result.scores.items() if key.startswith("square_root_law."))
        spent, orders = seconds_of(result), result.cost.get("orders")
        if spent and orders:
            rows.append((label, n, orders, spent, spent / n, orders / spent))
    columns = ("generator", "metaorders", "orders", "CPU s", "a metaorder", "orders/s")
    return Table("Cost of simulating, control arms included", columns, tuple(rows))


def _draw_6b(made: Made) -> Figure:
    from marsbench.drawing import style, tiles

    points, curves = made.drawn
    labels = list(dict.fromkeys(row[0] for row in points.rows))
    with style():
        drawn, (axes,) = tiles(len(labels), columns=3, width=3.9, height=3.0)
        for ax, label in zip(axes, labels, strict=True):
            own = [row for row in points.rows if row[0] == label and row[2] is not None and row[3] is not None]
            _law(ax, own, {row[1]: row[2:] for row in curves.rows if row[0] == label})
            law = next(
                (row for row in made.tables[0].rows if row[:3] == (label, ALL, "day") and row[4] is not None), None
            )
            ax.set(title=label if law is None else f"{label}: exponent {law[4]:.2f} {law[5]}", xlabel="Q/V (day)")
        axes[0].set(ylabel="impact, daily volatilities")
        axes[0].legend(loc="upper left")
    return drawn


def _law(ax: Axes, own: list[tuple[Any, ...]], curves: Mapping[str, tuple[Any, ...]]) -> None:
    for i, agent in enumerate(dict.fromkeys(row[1] for row in own)):
        rows = np.array([[np.nan if v is None else v for v in row[2:6]] for row in own if row[1] == agent], np.float64)
        error = np.abs(np.stack([rows[:, 1] - rows[:, 2], rows[:, 3] - rows[:, 1]]))
        ax.errorbar(
            rows[:, 0],
            rows[:, 1],
            error,
            fmt=MARKERS[i % 6],
            ms=3.5,
            lw=0.8,
            capsize=2,
            color=COLOURS[i % 6],
            label=agent,
        )
        y, delta = curves.get(agent, (None, None))
        if y is not None and delta is not None:
            x = np.linspace(rows[:, 0].min() / 3, rows[:, 0].max(), 100)
            ax.plot(x, y * x**delta, lw=0.9, color=COLOURS[i % 6], alpha=0.8)
    ax.axhline(0, color="0.6", lw=0.6)


# --- Figure 23 ------------------------------------------------------------------------------------------


def _fig23(found: Mapping[str, Result]) -> Made:
    filled = [
        (label, r["agent"], r["rank"] + 1, r["size"], r["value"], interval_text(r), r["passive_share"],
         r["price_advantage_bps"])
        for label, some in markets(found, "impact_fulfilment")
        for r in some
    ]  # fmt: skip
    decay = [
        (label, r["agent"], r["n"], r["value"], interval_text(r), r["rest"], r["exponent"])
        for label, some in markets(found, "impact_decay")
        for r in some
    ]
    findings = [
        (label, r["finding"], r["value"], interval_text(r), r["verdict"])
        for label, some in markets(found, "impact_findings")
        for r in some
    ]
    path = [
        (label, r["agent"], r["minute"], r["value"], r["ci_low"], r["ci_high"])
        for label, some in markets(found, "impact_paths")
        for r in some
    ]
    tables = (
        Table("What the paper finds", ("market", "finding", "difference", "from, to", "verdict"), tuple(findings)),
        Table("Left of the impact when the run ends, over that when trading ends",
              ("market", "agent", "metaorders", "left", "from, to", "rest of the fitted decay", "its exponent"),
              tuple(decay)),
        Table("Executed share of the target",
              ("market", "agent", "size", "Q/V", "fulfilment", "from, to", "passive share", "price advantage, bps"),
              tuple(filled)),
    )  # fmt: skip
    drawn = (Table("path", ("market", "agent", "minute", "impact", "from", "to"), tuple(path)),)
    notes = (*_notes(found), "the path is that of the metaorders that were followed to the end, fulfilment that of all")
    return Made("fulfilment and long-term impact", tables, _holds(findings), notes, drawn)


def _holds(findings: list[tuple[Any, ...]]) -> str:
    words = []
    for label in dict.fromkeys(row[0] for row in findings):
        own = [row[-1] for row in findings if row[0] == label]
        words.append(f"{label} {own.count('holds')} hold, {own.count('fails')} fail, {own.count('inconclusive')} open")
    return (
        "The paper: more aggressive agents (L5) have more impact and fulfil more, agents with a larger passive ratio "
        f"leave less momentum after they end. Of these {len(findings) // max(len(words), 1)} comparisons at 5% each, "
        f"{'; '.join(words)}."
    )


def _draw_23(made: Made) -> Figure:
    from marsbench.drawing import style, tiles

    filled, (path,) = made.tables[2], made.drawn
    labels = list(dict.fromkeys(row[0] for row in path.rows))
    with style():
        drawn, (above, below) = tiles(len(labels), 2, columns=5, width=3.3, height=2.7)
        for label, left, right in zip(labels, above, below, strict=True):
            agents = list(dict.fromkeys(row[1] for row in path.rows if row[0] == label))
            for i, agent in enumerate(agents):
                rows = [row for row in filled.rows if row[:2] == (label, agent) and None not in (row[3], row[4])]
                left.plot([r[3] for r in rows], [r[4] for r in rows], marker=MARKERS[i % 6], ms=3.5, lw=1,
                          color=COLOURS[i % 6], label=agent)  # fmt: skip
                line = np.array([[np.nan if v is None else v for v in row[2:]] for row in path.rows
                                 if row[:2] == (label, agent)], np.float64)  # fmt: skip
                right.plot(line[:, 0], line[:, 1], lw=1.1, color=COLOURS[i % 6])
                right.fill_between(line[:, 0], line[:, 2], line[:, 3], color=COLOURS[i % 6], alpha=0.12, lw=0)
            left.set(title=label, xlabel="Q/V (day)")
            right.set(title=label, xlabel="minutes after the start")
            right.axhline(0, color="0.6", lw=0.6)
        above[0].set(ylabel="executed share of the target")
        below[0].set(ylabel="impact, daily volatilities")
        above[0].legend(loc="lower left")
    return drawn


def _notes(found: Mapping[str, Result]) -> tuple[str, ...]:
    about = {row["name"]: row["value"] for row in rows_of(next(iter(found.values())), "impact_about")}
    if not about:
        raise MissingScores("it says nothing about its metaorders")
    return (
        f"{about['metaorders']} metaorders from {about['starts']} starts, both sides, {about['smallest size']} to "
        f"{about['largest size']}; the paper has 624,000 of buyers, with Q/V up to .0025",
        "impact is in units of a day's volatility, where the paper's axis has none; Y is the impact of a metaorder of "
        "a whole day's volume",
        "overlay: the same orders over recorded flow that cannot react; true market: the reference market from its "
        "hidden state, where that is known",
        "intervals leave out whole instrument-days (on a single day: blocks of 25 minutes)",
    )


FIG6A = BoardItem(
    name="fig6a",
    title="Figure 6a: a metaorder and the market",
    source="MarS (ICLR 2025), section 3.2 and Figure 6a",
    task="market-impact",
    make=_fig6a,
    draw=_draw_6a,
)
FIG6B = BoardItem(
    name="fig6b",
    title="Figure 6b: the law of market impact",
    source="MarS (ICLR 2025), section 3.2 and Figure 6b; LOB-Impact (2026)",
    task="market-impact",
    make=_fig6b,
    draw=_draw_6b,
)
FIG23 = BoardItem(
    name="fig23",
    title="Figure 23: fulfilment and long-term impact",
    source="MarS (ICLR 2025), appendix K and Figure 23",
    task="market-impact",
    make=_fig23,
    draw=_draw_23,
)
