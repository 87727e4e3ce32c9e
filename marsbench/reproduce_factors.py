"""MarS Figures 9 and 24 to 26: factors beyond the size, and the learned ODE of long-term impact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from marsbench.drawing import COLOURS, MARKERS
from marsbench.reproduce import BoardItem, Made, MissingScores, Table, interval_text, rows_of
from marsbench.results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONSTANT = "1"
"""The factor that all metaorders have in common; it is much larger than the others, so colours leave it out."""
NAMES = {"resiliency": "resiliency", "lob_pressure": "LOB pressure", "lob_depth": "LOB depth"}


def _tables(found: Mapping[str, Result], name: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of a table by generator, of those that have it.

    Raises
    ------
    MissingScores
        If nobody has it.
    """
    out, why = {}, ""
    for label, result in found.items():
        try:
            out[label] = rows_of(result, name)
        except MissingScores as error:
            why = str(error)
    if not out:
        family = "impact_ode." if name.startswith("ode_") else "impact_factors."
        missing = {s.reason for r in found.values() for key, s in r.scores.items() if key.startswith(family)}
        raise MissingScores("; ".join([why, *sorted(reason for reason in missing if reason)]))
    return out


def _bins(found: Mapping[str, Result], factor: str) -> Table:
    rows = [
        (label, r["agent"], r["bin"] + 1, r["mean_factor"], r["mean_impact"], r["ci_low"], r["ci_high"], r["count"])
        for label, some in _tables(found, "factor_bins").items()
        for r in some
        if r["factor"] == factor
    ]
    columns = ("generator", "agent", "bin", "factor", "impact", "from", "to", "metaorders")
    return Table(f"Impact by {NAMES[factor]}", columns, tuple(rows))


def _gains(found: Mapping[str, Result]) -> Table:
    """What the three factors, and a search, gain over the size alone."""
    rows = []
    for label, result in found.items():
        for key, score in result.scores.items():
            if key.startswith(("impact_factors.gain.", "impact_factors.search_gain")) and score.value is not None:
                ends = None if score.ci_low is None else f"[{score.ci_low:.4f}, {score.ci_high:.4f}]"
                rows.append((label, key.split(".", 1)[1], score.value, ends))
    return Table(
        "Share of variance gained over sqrt(Q/V), held out", ("generator", "by", "gain", "from, to"), tuple(rows)
    )


def _searches(found: Mapping[str, Result]) -> Table:
    rows = [
        (label, r["search"], r["expression"], r["gain"], r["p"])
        for label, some in _tables(found, "factor_search").items()
        for r in some
    ]
    columns = ("generator", "search", "what it finds", "held-out gain", "p of the whole search")
    return Table("What the searches find", columns, tuple(rows))


def _gain_words(found: Mapping[str, Result]) -> str:
    words = []
    for label, result in found.items():
        helps = [
            name
            for name in NAMES
            if (s := result.scores.get(f"impact_factors.gain.{name}")) is not None
            and s.ci_low is not None
            and s.ci_low > 0
        ]
        words.append(f"{label}: {', '.join(NAMES[h] for h in helps) or 'none'}")
    return (
        "The paper shows impact against its three factors and states no test. Factors that explain more than the size "
        f"alone on held-out starts, by their intervals (each at 5%): {'; '.join(words)}. LOB pressure contains what "
        "was executed, so it foretells nothing."
    )


def _about(found: Mapping[str, Result]) -> tuple[str, ...]:
    starts = {result.task["starts"] for result in found.values()}
    return (
        f"{', '.join(map(str, sorted(starts)))} starts: a factor that was known before a start is one number for all "
        "its metaorders",
        "weights, levels and logarithm are ours where the paper states none (equal weights, ten levels, natural)",
    )


def _by_factor(factors: tuple[str, ...]) -> Callable[[Mapping[str, Result]], Made]:
    def make(found: Mapping[str, Result]) -> Made:
        tables = [_bins(found, factor) for factor in factors]
        return Made("impact by factor", (*tables, _gains(found), _searches(found)), _gain_words(found), _about(found))

    return make


def _draw_bins(made: Made) -> Figure:
    from marsbench.drawing import style, tiles

    tables = [t for t in made.tables if t.title.startswith("Impact by ")]
    labels = list(dict.fromkeys(row[0] for t in tables for row in t.rows))
    with style():
        drawn, kinds = tiles(len(labels), len(tables))
        axes = [ax for own in kinds for ax in own]
        for ax, (table, label) in zip(axes, product(tables, labels), strict=True):
            own = [row for row in table.rows if row[0] == label]
            for i, agent in enumerate(dict.fromkeys(row[1] for row in own)):
                rows = np.array([[np.nan if v is None else v for v in row[3:7]] for row in own if row[1] == agent])
                error = np.nan_to_num(np.abs(np.stack([rows[:, 1] - rows[:, 2], rows[:, 3] - rows[:, 1]])))
                ax.errorbar(rows[:, 0], rows[:, 1], error, marker=MARKERS[i % 6], ms=3.5, lw=0.9, capsize=2,
                            color=COLOURS[i % 6], label=agent)  # fmt: skip
            ax.set(title=label, xlabel=table.title.removeprefix("Impact by "), ylabel="impact, daily vol.")
        axes[0].legend(loc="best")
    return drawn


def _fig25(found: Mapping[str, Result]) -> Made:
    rows = [
        (label, r["row"], r["column"], r["correlation"], r["paper"])
        for label, some in _tables(found, "factor_correlations").items()
        for r in some
        if r["row"] < r["column"]
    ]
    columns = ("generator", "factor", "and", "ours", "paper")
    gaps = [abs(r[3]) for r in rows if r[3] is not None]
    summary = (
        f"The paper calls the correlations of its new factors with those of the square-root law low (at most .4). Here "
        f"the largest of all is {max(gaps):.2f} in absolute value."
        if gaps
        else "No correlation could be computed."
    )
    whole = [
        (label, r["row"], r["column"], r["correlation"], r["paper"])
        for label, some in _tables(found, "factor_correlations").items()
        for r in some
    ]
    return Made("correlations of factors", (Table("Correlations", columns, tuple(rows)),), summary, _about(found),
                (Table("matrix", columns, tuple(whole)),))  # fmt: skip


def _numbers(ax: Axes, matrix: Any, text: str, dark: float) -> None:
    """The values of a coloured matrix, white where the colour is dark."""
    for i, j in np.ndindex(matrix.shape):
        value = matrix[i, j]
        colour = "white" if abs(value) > dark else "black"
        ax.text(j, i, text.format(value) if np.isfinite(value) else "-", ha="center", va="center", size=8, color=colour)


def _draw_25(made: Made) -> Figure:
    from marsbench.drawing import style, tiles

    (whole,) = made.drawn
    labels = list(dict.fromkeys(row[0] for row in whole.rows))
    names = list(dict.fromkeys(row[1] for row in whole.rows))
    panels = [*((label, label, 3) for label in labels), ("MarS, Figure 25", labels[0], 4)]
    with style():
        drawn, (axes,) = tiles(len(panels), columns=3, width=3.6, height=3.7)
        for ax, (title, label, column) in zip(axes, panels, strict=True):
            values = [np.nan if row[column] is None else row[column] for row in whole.rows if row[0] == label]
            matrix = np.array(values, np.float64).reshape(len(names), -1)
            ax.imshow(matrix, cmap="coolwarm", vmin=-1, vmax=1)
            _numbers(ax, matrix, "{:.2f}", 0.6)
            ax.set_xticks(range(len(names)), names, rotation=35, ha="right")
            ax.set_yticks(range(len(names)), names)
            ax.grid(False)
            ax.set_title(title)
    return drawn


# --- the learned ODE ------------------------------------------------------------------------------------


def _fig9b(found: Mapping[str, Result]) -> Made:
    rows = [
        (label, r["factor"], r["decay"], r["weight"], interval_text(r), r["free_weight"], r["paper"])
        for label, some in _tables(found, "ode_weights").items()
        for r in some
    ]
    clear = {
        label: sum(r["ci_low"] is not None and (r["ci_low"] > 0 or r["ci_high"] < 0) for r in some)
        for label, some in _tables(found, "ode_weights").items()
    }
    words = "; ".join(f"{label} {n}" for label, n in clear.items())
    columns = ("generator", "factor", "decay", "weight", "from, to", "without penalty", "paper")
    notes = (
        "weights are of standardised factors, so only signs and order compare with the paper's, whose rows are printed "
        "without certain labels",
        "intervals are about penalised weights: the planted ones are covered less often than stated",
    )
    return Made("weights of the learned ODE", (Table("W", columns, tuple(rows)),),
                f"Weights whose interval excludes 0: {words}.", notes)  # fmt: skip


def _draw_9b(made: Made) -> Figure:
    from marsbench.drawing import figure, style

    rows = made.tables[0].rows
    labels = list(dict.fromkeys(row[0] for row in rows))
    with style():
        drawn, axes = figure(len(labels) + 1, 1, width=8.2, height=1.9)
        for ax, (title, label, column) in zip(
            axes, [*((label, label, 3) for label in labels), ("MarS, Figure 9b", labels[0], 6)], strict=True
        ):
            own = [row for row in rows if row[0] == label]
            factors, decays = (list(dict.fromkeys(row[k] for row in own)) for k in (1, 2))
            matrix = np.full((len(decays), len(factors)), np.nan)
            for row in own:
                matrix[decays.index(row[2]), factors.index(row[1])] = np.nan if row[column] is None else row[column]
            scaled = matrix[:, [f != CONSTANT for f in factors]]
            most = float(np.nanmax(np.abs(scaled))) or 1.0
            ax.imshow(matrix, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
            _numbers(ax, matrix, "{:.3g}", 0.6 * most)
            ax.set_xticks(range(len(factors)), factors)
            ax.set_yticks(range(len(decays)), decays)
            ax.grid(False)
            ax.set_title(title)
    return drawn


def _fig26(found: Mapping[str, Result]) -> Made:
    lags = [
        (label, r["lag"], r["truth"], interval_text(r), r["learned"], r["base_inverse_sqrt"], r["base_inverse"])
        for label, some in _tables(found, "ode_autocorrelation").items()
        for r in some
    ]
    errors = [
        (label, r["model"], r["mse"], interval_text(r), r["gain"],
         None if r["gain_ci_low"] is None else f"[{r['gain_ci_low']:.5f}, {r['gain_ci_high']:.5f}]")
        for label, some in _tables(found, "ode_errors").items()
        for r in some
    ]  # fmt: skip
    beaten = {
        label: [r["model"] for r in some if r["gain_ci_low"] is not None and r["gain_ci_low"] > 0]
        for label, some in _tables(found, "ode_errors").items()
    }
    words = "; ".join(f"{label}: {', '.join(m) or 'none'}" for label, m in beaten.items())
    tables = (
        Table("Correlation of the impact with that k minutes later",
              ("generator", "lag", "ours", "from, to", "learned ODE", "base 1/sqrt(t)", "base 1/t"), tuple(lags)),
        Table("Held-out mean squared error, squared daily volatilities",
              ("generator", "model", "error", "from, to", "learned ODE better by", "from, to "), tuple(errors)),
    )  # fmt: skip
    notes = (
        "the paper leaves its auto-correlation undefined; here it is over trajectories, of Y(t) and Y(t + k), averaged",
        "only metaorders of L1-P0.1 that were followed for fifteen minutes after they ended",
    )
    return Made(
        "long-term impact", tables, f"Baselines that the learned ODE beats on held-out clusters: {words}.", notes
    )


def _draw_26(made: Made) -> Figure:
    from marsbench.drawing import style, tiles

    rows = made.tables[0].rows
    labels = list(dict.fromkeys(row[0] for row in rows))
    names = {2: "simulated", 4: "learned ODE, held out", 5: "base ODE, 1/sqrt(t)", 6: "base ODE, 1/t"}
    with style():
        drawn, (axes,) = tiles(len(labels), height=3.2)
        for ax, label in zip(axes, labels, strict=True):
            own = [row for row in rows if row[0] == label]
            for i, (column, name) in enumerate(names.items()):
                values = [np.nan if row[column] is None else row[column] for row in own]
                ax.plot([row[1] for row in own], values, marker=MARKERS[i], ms=4, lw=1, color=COLOURS[i], label=name)
            ax.set(title=label, xlabel="lag, minutes", ylabel="correlation")
        axes[0].legend(loc="best")
    return drawn


FIG9A = BoardItem(
    name="fig9a",
    title="Figure 9a: market impact and resiliency",
    source="MarS (ICLR 2025), section 4.3, equations 5 and 8, Figure 9a",
    task="market-impact",
    make=_by_factor(("resiliency",)),
    draw=_draw_bins,
)
FIG24 = BoardItem(
    name="fig24",
    title="Figure 24: market impact, LOB pressure and LOB depth",
    source="MarS (ICLR 2025), appendix K, equations 6, 7 and 9 to 11, Figure 24",
    task="market-impact",
    make=_by_factor(("lob_pressure", "lob_depth")),
    draw=_draw_bins,
)
FIG25 = BoardItem(
    name="fig25",
    title="Figure 25: correlations of impact factors",
    source="MarS (ICLR 2025), appendix K, Figure 25",
    task="market-impact",
    make=_fig25,
    draw=_draw_25,
)
FIG9B = BoardItem(
    name="fig9b",
    title="Figure 9b: weights of the learned ODE",
    source="MarS (ICLR 2025), section 4.3, equation 2, Figure 9b",
    task="market-impact",
    make=_fig9b,
    draw=_draw_9b,
)
FIG26 = BoardItem(
    name="fig26",
    title="Figure 26: auto-correlation of long-term impact",
    source="MarS (ICLR 2025), appendix K, equation 14, Figure 26",
    task="market-impact",
    make=_fig26,
    draw=_draw_26,
)
