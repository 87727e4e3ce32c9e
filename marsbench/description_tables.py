"""A description as tables: every number beside its criterion, the real days and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marsbench.description import ALL, BLOCK_DAYS, Description
from marsbench.description_criteria import QUANTITIES, SIGN_EXPONENTS, STABLE, STAYING, Quantity, judged, worst
from marsbench.stats import session_facts as facts
from marsbench.stats.verdicts import ABSENT, FAILS, HOLDS, INCONCLUSIVE, PRESENT, Property

NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table."""

    text: str
    interval: str = ""
    verdict: str = ""
    """``holds``, ``fails``, ``inconclusive``, or nothing."""


@dataclass(frozen=True)
class Line:
    """A row; ``head`` rows begin a group."""

    label: str
    cells: tuple[Cell, ...]
    head: bool = False


@dataclass(frozen=True)
class Table:
    """A titled table; the first column is the label of its lines."""

    key: str
    title: str
    note: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


def number(value: float | None, digits: int = 3) -> str:
    """A number as a reader wants it; a dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
    if abs(value) < 5e-4 and value:
        text = f"{value:.1e}" if abs(value) < 1e-5 else f"{value:.2g}"
    return text.replace("-", "−")  # a true minus sign


def interval(values: Sequence[Any]) -> str:
    """``[low, high]``, or nothing."""
    low, high = values[1], values[2]
    return f"[{number(low)}, {number(high)}]" if low is not None and high is not None else ""


def cell(values: Sequence[Any] | None, verdict: str | None = None) -> Cell:
    """A value with its interval beneath."""
    if values is None:
        return Cell("–")
    return Cell(number(values[0]), interval(values), verdict or "")


def tables(found: Description, besides: Sequence[Description]) -> list[Table]:
    """All tables of the page."""
    out = [fact_table(found, besides), number_table(found, besides), microstructure_table(found, besides)]
    return [*out, *impact_tables(found), stability_table(found)]


def _names(found: Description) -> list[str]:
    return [ALL, *found.instruments] if len(found.instruments) > 1 else [ALL]


def fact_table(found: Description, besides: Sequence[Description]) -> Table:
    """One line for each criterion, with the verdict of all instruments together and of each."""
    names = _names(found)
    lines = [
        Line(f"{f.number} {f.title}", (Cell(f.criterion), *(_fact_word(f, found.facts[n]) for n in names)))
        for f in facts.FACTS
    ]
    ratios = [row.key for row in facts.SIGNATURE_ROWS if row.present]
    ((low, high),) = next(row.present for row in facts.SIGNATURE_ROWS if row.present)
    lines.append(
        Line("Flat signature plot", (
            Cell(f"variance ratio of the mid {low:g} to {high:g} at 5, 20 and 60 minutes"),
            *(_word(worst([found.facts[n][k][3] for k in ratios])) for n in names),
        ))
    )  # fmt: skip
    lines.append(
        Line("Long memory of signs", (
            Cell("power-law exponent {:g} to {:g}".format(*SIGN_EXPONENTS)),
            *(_word(judged(found.microstructure[n]["sign_exponent"], SIGN_EXPONENTS)) for n in names),
        ))
    )  # fmt: skip
    criterion = "exponent's interval contains 1/2, excludes 1, is narrower than 0.2, on 1.5 decades"
    lines.append(Line("Square-root impact", (Cell(criterion), *_of_impact(found, lambda part: part["verdict"]))))
    criterion = "{:g} to {:g} of it left after 3 and 4 durations".format(*STAYING)
    decays = _of_impact(found, lambda part: _staying(part["path"]))
    lines.append(Line("Impact decays to about two thirds", (Cell(criterion), *decays)))
    lines.append(Line("Resemblance to the real day", (
        Cell("quantities within their tolerance, of those that have one"),
        *(Cell(resemblance(found, besides, n)) for n in names),
    )))  # fmt: skip
    note = (
        "A fact is present when every number of its strict form lies beyond its margin (Holm's correction over the "
        "eleven, and the whole 95% interval), absent when one is shown to lie on the other side, and inconclusive "
        "otherwise, for want of days; the verdict in the paper's form stands beside it where it is another. The other "
        "criteria are regions: they hold when the whole 95% interval lies inside, and fail when it lies outside."
    )
    return Table("verdicts", "Verdicts", note, ("", "criterion", *names), tuple(lines))


def _of_impact(found: Description, verdict: Callable[[dict[str, Any]], str]) -> list[Cell]:
    """A verdict on the impact in all instruments together and in each; a dash where one has no metaorders."""
    if found.impact is None:
        return [Cell(NOT_APPLICABLE)] * len(_names(found))
    return [_word(verdict(found.impact[n])) if n in found.impact else Cell("–") for n in _names(found)]


def _staying(path: Mapping[str, Any]) -> str:
    rows = [row for x, *row in _path(path) if x in (3, 4)]
    return worst([judged(row, STAYING) for row in rows])


def _path(path: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """``x, value, low, high`` of each point of a path."""
    return list(zip(path["x"], path["value"], path["low"], path["high"], strict=True))


def _word(verdict: str) -> Cell:
    return Cell(verdict, verdict=verdict)


def _fact_word(fact: Property, measured: Mapping[str, Sequence[Any]]) -> Cell:
    """The strict verdict, green where the paper finds the same, and that of the paper's form where it is another."""
    strict, paper = (str(measured[key][3]) for key in (f"fact_{fact.number}", f"fact_{fact.number}_paper"))
    expected = ABSENT if fact.expected_absent else PRESENT
    mark = INCONCLUSIVE if strict == INCONCLUSIVE else HOLDS if strict == expected else FAILS
    return Cell(strict if strict == paper else f"{strict} (paper's form: {paper})", verdict=mark)


def number_table(found: Description, besides: Sequence[Description]) -> Table:
    """The numbers behind the facts."""
    names = _names(found)
    lines: list[Line] = []
    groups = [(f"{f.number} {f.title}: {f.criterion}", f.rows) for f in facts.FACTS]
    groups.append(("Signature plot", facts.SIGNATURE_ROWS))
    for title, rows in groups:
        lines.append(Line(title, (), head=True))
        for row in rows:
            own = [found.facts[n][row.key] for n in names]
            real = [b.facts[ALL].get(row.key) for b in besides]
            lines.append(Line(row.label, (*(cell(v, v[3]) for v in own), *(cell(v) for v in real))))
    note = (
        "One-minute log returns of the last price over whole days, days pooled within an instrument, averaged over "
        f"instruments. d: divided by the root mean square of the time of day, in buckets of {found.seasonal_minutes} "
        "minutes, other days only. The intervals are over instrument-days. One real day is one draw: its numbers carry "
        "no interval and scatter widely."
    )
    return Table("facts", "Stylized facts on whole days", note, ("", *names, *(b.name for b in besides)), tuple(lines))


def _target(found: Description, instrument: str, besides: Sequence[Description]) -> Description | None:
    return next((b for b in besides if b.name == found.resembles.get(instrument)), None)


def _micro_verdict(
    found: Description, instrument: str, quantity: Quantity, besides: Sequence[Description]
) -> tuple[Sequence[Any], str]:
    values = found.microstructure[instrument][quantity.key]
    target = _target(found, instrument, besides)
    real = target.microstructure[ALL][quantity.key][0] if target else None
    return values, judged(values, quantity.around(real))


def resemblance(found: Description, besides: Sequence[Description], instrument: str) -> str:
    """How many quantities lie within the tolerance of the real day that the instrument is modelled on."""
    if _target(found, instrument, besides) is None:
        return "–"
    verdicts = [_micro_verdict(found, instrument, q, besides)[1] for part in QUANTITIES.values() for q in part]
    judged_ones = [v for v in verdicts if v]
    return f"{judged_ones.count(HOLDS)} of {len(judged_ones)}"


def microstructure_table(found: Description, besides: Sequence[Description]) -> Table:
    """Instruments beside real days."""
    names = found.instruments if len(found.instruments) > 1 else [ALL]
    lines: list[Line] = []
    for title, quantities in QUANTITIES.items():
        lines.append(Line(title, (), head=True))
        for q in quantities:
            own = [cell(*_micro_verdict(found, n, q, besides)) for n in names]
            real = [cell(b.microstructure[ALL][q.key]) for b in besides]
            lines.append(Line(q.label, (*own, *real, Cell(q.tolerance))))
    like = [f"{i} is modelled on {r}" for i, r in found.resembles.items() if i in found.instruments]
    note = (
        "Continuous trading only, means over days. A limit order is a new order that does not trade at once, a market "
        "order one that does. " + (f"{'; '.join(like)}: those are held to the tolerance." if like else "")
    )
    columns = ("", *(n if n != ALL else found.instruments[0] for n in names), *(b.name for b in besides), "tolerance")
    return Table("microstructure", "Inside the book", note.strip(), columns, tuple(lines))


def impact_tables(found: Description) -> list[Table]:
    """Exponents, and what stays of the impact."""
    if found.impact is None:
        note = "Not applicable: the data set lists no metaorders."
        return [Table("impact", "Impact of metaorders", note, ("",), ())]
    law, path = [], []
    for name, part in found.impact.items():
        prefactor = part["prefactor"]
        scale = number(prefactor[0]) if len(prefactor) == 1 else "own for each"
        aic = (part["aic_less_linear"], part["aic_less_logarithm"])
        law.append(Line(name, (
            cell(part["delta"], part["verdict"]), Cell(scale), Cell(f"{part['n']:,}"), Cell(str(part["days"])),
            Cell(number(part["decades"])), *(Cell(number(v)) for v in aic),
        )))  # fmt: skip
        points = [cell(row, judged(row, STAYING) if x in (3, 4) else None) for x, *row in _path(part["path"])]
        path.append(Line(name, (Cell(f"{part['path']['n']:,}"), *points)))
    times = tuple(f"{x:g} T" for x in next(iter(found.impact.values()))["path"]["x"])
    about = (
        "I / sigma = Y (Q/V) ^ delta: the move of the mid between start and end of a metaorder in units of the day's "
        "volatility, against executed shares over the day's volume; least squares on single metaorders, Y and delta "
        "free. AIC: of the power law less that of the other shape; negative speaks for the power law."
    )
    columns = ("", "delta", "Y", "metaorders", "days", "decades of Q/V", "AIC less linear", "AIC less logarithm")
    later = (
        "Mean move of the mid from the start of the metaorder, over that at its end (T); metaorders of at least two "
        "minutes whose sixfold time lies within the day."
    )
    return [
        Table("impact", "Impact of metaorders", about, columns, tuple(law)),
        Table("decay", "What stays of the impact", later, ("", "metaorders", *times), tuple(path)),
    ]


@dataclass(frozen=True)
class _Column:
    key: str
    title: str
    forbidden: bool = False
    """Whether anything but 0 is a failure."""
    spread: float = 0.0
    """By which share it may differ from the instrument's mean over blocks."""


_STABILITY = (
    _Column("days", "days"),
    _Column("sd_1min_bp", "sd of 1-min returns, bp", spread=STABLE),
    _Column("orders_per_min", "orders per minute"),
    _Column("worst_mean_spread_ticks", "mean spread of the worst day, ticks"),
    _Column("worst_spread_ticks", "widest spread, ticks"),
    _Column("price_range", "highest / lowest price"),
    _Column("days_without_trade", "days without trade", True),
    _Column("days_one_sided", "days with a one-sided book"),
    _Column("days_empty", "days with an empty book", True),
    _Column("days_crossed", "days with a crossed book", True),
)


def stability_table(found: Description) -> Table:
    """Blocks of days of each instrument."""
    lines = []
    for block in found.blocks:
        mine = [b["sd_1min_bp"] for b in found.blocks if b["instrument"] == block["instrument"]]
        cells = []
        for c in _STABILITY:
            value, verdict = block[c.key], ""
            if c.forbidden:
                verdict = FAILS if value else HOLDS
            elif c.spread and len(mine) > 1 and None not in mine:
                verdict = HOLDS if abs(value / np.mean(mine) - 1) <= c.spread else FAILS
            cells.append(Cell(number(value), verdict=verdict))
        lines.append(Line(f"{block['instrument']} {block['first']} to {block['last']}", tuple(cells)))
    note = (
        f"Blocks of {BLOCK_DAYS} days. No day may be without trade, empty or crossed; volatility may differ by "
        f"{STABLE:.0%} from the instrument's mean over blocks."
    )
    return Table("stability", "Stability", note, ("", *(c.title for c in _STABILITY)), tuple(lines))


def headline(found: Description) -> str:
    """How many of the eleven facts are present, absent, or inconclusive."""
    verdicts = [found.facts[ALL][f"fact_{f.number}"][3] for f in facts.FACTS]
    return ", ".join(f"{verdicts.count(v)} {v}" for v in (PRESENT, ABSENT, INCONCLUSIVE) if v in verdicts)
