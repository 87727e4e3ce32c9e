"""MarS Figure 7a and Table 8: does rolling the market forward foretell the trend better than a model trained for it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from marsbench.jackknife import Replicated
from marsbench.reproduce import BoardItem, Made, Table, rows_of, seconds_of
from marsbench.results import Result
from marsbench.scores import Score
from marsbench.stats.intervals import deletion_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORECASTER = "deeplob"
"""What everybody is compared with, as in the paper."""
PALETTE = ("#2a6f97", "#bc4b51", "#5b8e7d", "#f4a259", "#8e6c8a", "#222222", "#9c755f", "#76b7b2", "#b6992d", "#d37295",
           "#a0a0a0", "#4e79a7")  # fmt: skip
_ACCURACY, _PAIRS, _COST = "Accuracy of the trend", f"Against {FORECASTER}, the same starts", "What each is, and costs"


def _horizons(found: Mapping[str, Result]) -> list[int]:
    """Minutes of the trends that were asked for."""
    rows = [row for result in found.values() for row in rows_of(result, "forecast_summary")]
    return sorted({row["minutes"] for row in rows if row["kind"] == "trend"})


def _score(result: Result, minutes: int, statistic: str = "accuracy", kind: str = "trend") -> Score | None:
    score = result.scores.get(f"{kind}.{statistic}.{minutes}m")
    return score if score is not None and score.value is not None else None


def _outcomes(result: Result, minutes: int) -> dict[str, tuple[int, float]]:
    """Start -> (cluster, whether the forecast class came)."""
    rows = rows_of(result, "forecast_outcomes")
    return {row["start"]: (row["cluster"], row["right"]) for row in rows if row["target"] == f"trend.{minutes}m"}


def mcnemar(gap: Any) -> float:
    """Exact two-sided p of McNemar's test from differences of being right, 1, 0 or -1 a start; ties of classes between.

    Starts count as independent, which they are not within a day.
    """
    first, second = int((np.asarray(gap) > 0).sum()), int((np.asarray(gap) < 0).sum())
    return float(stats.binomtest(first, first + second).pvalue) if first + second else 1.0


def paired(one: Mapping[str, tuple[int, float]], other: Mapping[str, tuple[int, float]]) -> dict[str, Any] | None:
    """The gap in accuracy over the starts that both have, McNemar's p, interval and p that leave clusters out."""
    both = sorted(one.keys() & other.keys())
    if not both:
        return None
    gap = np.array([one[s][1] - other[s][1] for s in both])
    cluster = np.unique([one[s][0] for s in both], return_inverse=True)[1]
    found: dict[str, Any] = {"starts": len(both), "gap": float(gap.mean()), "mcnemar_p": mcnemar(gap)}
    total, size = np.bincount(cluster, gap), np.bincount(cluster).astype(np.float64)
    weights = deletion_weights(len(size), np.random.default_rng(len(size)))
    replicated = Replicated(found["gap"], {"clusters": (weights @ total) / (weights @ size)})
    low, high = replicated.interval or (None, None)
    return {**found, "low": low, "high": high, "p": replicated.p}


def _accuracies(found: Mapping[str, Result], horizons: list[int]) -> Table:
    rows: list[tuple[Any, ...]] = []
    for label, result in found.items():
        for k in horizons:
            if (score := _score(result, k)) is None:
                rows.append((label, k, *[None] * 8))
                continue
            more = [_score(result, k, name) for name in ("f1", "kappa", "log_loss")]
            rows.append(
                (label, k, score.value, score.ci_low, score.ci_high, score.floor, score.ceiling,
                 *(m.value if m else None for m in more))
            )  # fmt: skip
    columns = ("generator", "minutes", "accuracy", "from", "to", "floor", "ceiling", "macro F1", "kappa", "log-loss")
    return Table(_ACCURACY, columns, tuple(rows))


def _pairs(found: Mapping[str, Result], horizons: list[int]) -> Table:
    rows: list[tuple[Any, ...]] = []
    if FORECASTER in found:
        for label, result in found.items():
            for k in horizons if label != FORECASTER else []:
                pair = paired(_outcomes(result, k), _outcomes(found[FORECASTER], k))
                if pair is not None:
                    rows.append((label, k, *pair.values()))
    columns = ("generator", "minutes", "starts", "gap in accuracy", "McNemar's p", "from", "to", "p by day")
    return Table(_PAIRS, columns, tuple(rows))


def _verdict(pairs: Table, horizons: list[int]) -> str:
    """What the paper found, and whether it holds here."""
    if not pairs.rows:
        return f"There is no result of {FORECASTER} to compare with."
    parts = []
    for label in dict.fromkeys(row[0] for row in pairs.rows):
        own = {row[1]: row for row in pairs.rows if row[0] == label}
        better = [k for k, row in own.items() if row[5] is not None and row[5] > 0]
        worse = [k for k, row in own.items() if row[6] is not None and row[6] < 0]
        if not label.startswith("lmm-"):
            continue
        words = {True: f"better over {_listed(better)}", False: ""}[bool(better)]
        words += (" and " if better and worse else "") + (f"worse over {_listed(worse)}" if worse else "")
        parts.append(f"{label} is {words or 'not told apart'}" + (f" of {len(own)} horizons" if words else ""))
    told = "; ".join(parts) or "no order model was asked for"
    return (
        f"The paper sees rollouts of its model above DeepLOB over 1 to 5 minutes, further with size. Here, against "
        f"{FORECASTER} by intervals of the gap that leave days out (each horizon at 5%): {told}."
    )


def _listed(minutes: list[int]) -> str:
    return f"{', '.join(map(str, minutes))} min"


def _notes(found: Mapping[str, Result]) -> tuple[str, ...]:
    starts = {result.task["starts"] for result in found.values()}
    return (
        f"{', '.join(f'{n:,}' for n in sorted(starts))} starts of the data set's test days, where the paper has the "
        "Chinese stock market; models of millions of weights, where its largest have a billion",
        "the oracle `reference`, rolled from the market's true state, says how much can be foretold at all",
        "McNemar's test counts starts as independent; the interval and p beside it leave out whole days (on a single "
        "day: blocks)",
    )


def _fig7a(found: Mapping[str, Result]) -> Made:
    horizons = _horizons(found)
    pairs = _pairs(found, horizons)
    tables = (_accuracies(found, horizons), pairs)
    return Made("forecasts of the trend", tables, _verdict(pairs, horizons), _notes(found))


def _draw(made: Made) -> Figure:
    from marsbench.drawing import figure, style

    table = made.tables[0]
    best: dict[str, float] = {}
    for label, _, value, *_ in table.rows:
        best[label] = max(best.get(label, 0.0), value or 0.0)
    labels = sorted(best, key=lambda label: -best[label])
    with style():
        drawn, (ax,) = figure(1, 1, width=7.6, height=4.2)
        _lines(ax, table, labels)
    return drawn


def _lines(ax: Any, table: Table, labels: list[str]) -> None:
    for i, label in enumerate(labels):
        rows = [row for row in table.rows if row[0] == label and row[2] is not None]
        if not rows:
            continue
        at = np.array([row[1] for row in rows]) + (i - len(labels) / 2) * 0.05
        value = np.array([row[2] for row in rows])
        ends = np.array([[row[2] - (row[3] or row[2]), (row[4] or row[2]) - row[2]] for row in rows]).T
        again, colour = divmod(i, len(PALETTE))
        ax.errorbar(at, value, ends, marker="os^"[again % 3], ls=("-", "--", "-.")[again % 3], lw=1.2, ms=4, capsize=2,
                    color=PALETTE[colour], label=label)  # fmt: skip
    floors = {row[1]: row[5] for row in table.rows if row[5] is not None}
    ax.plot(list(floors), list(floors.values()), color="0.5", ls=":", label="commonest class or persistence")
    ax.set(xlabel="horizon, minutes", ylabel="accuracy, three classes", xticks=sorted(floors))
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))


def _tab8(found: Mapping[str, Result]) -> Made:
    horizons = _horizons(found)
    rows: list[tuple[Any, ...]] = []
    for label, result in found.items():
        about = {row["name"]: row["value"] for row in rows_of(result, "forecast_about")}
        told = about.get("core_seconds_per_start")
        spent = seconds_of(result)
        cost = float(told) if told else (spent / result.task["starts"] if spent else None)
        scores = [_score(result, k) for k in horizons]
        known = [s.value for s in scores if s is not None and s.value is not None]
        mean = float(np.mean(known)) if len(known) == len(horizons) else None
        targets = {row["target"] for row in rows_of(result, "forecast_outcomes")}
        volatility = any(name.startswith("volatility") for name in targets)
        simulates = result.generator["kind"] == "session"
        rows.append(
            (label, "simulation, any target" if simulates else "its targets only", about["forecast"], len(targets),
             "yes" if volatility else "no", cost, mean)
        )  # fmt: skip
    columns = ("generator", "answers", "by", "targets", "volatility too", "CPU s a start", "accuracy of trends")
    summary = (
        "One set of rollouts answers every horizon and both kinds of target; a forecaster is trained for each. The CPU "
        "seconds of a start are for all its answers together."
    )
    return Made("forecasters and simulations", (Table(_COST, columns, tuple(rows)),), summary, _notes(found))


FIG7A = BoardItem(
    name="fig7a",
    title="Figure 7a: the trend foretold by simulation and by DeepLOB",
    source="MarS (ICLR 2025), section 4.1 and Figure 7a",
    task="forecasting",
    make=_fig7a,
    draw=_draw,
)
TAB8 = BoardItem(
    name="tab8",
    title="Table 8: a model trained for a forecast and a simulation",
    source="MarS (ICLR 2025), appendix L, Table 8",
    task="forecasting",
    make=_tab8,
)
