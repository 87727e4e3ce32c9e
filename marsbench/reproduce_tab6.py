"""MarS Table 6: which of the eleven stylized facts are there, in history and in simulation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from marsbench.reproduce import Item, Made, MissingScores, Table
from marsbench.results import Result

PRESENT_IN_PAPER = frozenset({1, 2, 4, 5, 6, 7, 8, 10, 11})
"""Facts that MarS (ICLR 2025), Table 6, finds in historical and in simulated data; the others in neither."""

Rows = list[dict[str, Any]]


def _make(result: Result) -> Made:
    verdicts, alike = _rows(result, "facts_verdicts"), _rows(result, "facts_alike")
    numbers, about = _rows(result, "facts_numbers"), {r["name"]: r["value"] for r in _rows(result, "facts_about")}
    tables = (_presence(verdicts, alike), _control(verdicts), _numbers(numbers))
    return Made(result.generator["label"], tables, _summary(verdicts, alike), _notes(result, about))


def _rows(result: Result, name: str) -> Rows:
    for outcome in result.outcomes.values():
        if name in outcome.tables:
            table = outcome.tables[name]
            return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    raise MissingScores(f"it has no table {name!r}")


def _of(rows: Rows, **where: Any) -> Iterator[dict[str, Any]]:
    return (row for row in rows if all(row[name] == value for name, value in where.items()))


def _presence(verdicts: Rows, alike: Rows) -> Table:
    rows = []
    for likeness in alike:
        number = likeness["number"]
        cells: list[Any] = [f"{number} {likeness['title']}", "present" if number in PRESENT_IN_PAPER else "absent"]
        for source in ("replay", "simulation"):
            (loose,) = _of(verdicts, source=source, form="paper", number=number)
            (strict,) = _of(verdicts, source=source, form="strict", number=number)
            cells += [loose["verdict"], strict["verdict"], _number(strict, "value"), strict["p_holm"]]
        cells += [likeness["verdict"], _number(likeness, "difference"), likeness["margin"]]
        rows.append(tuple(cells))
    columns = ("fact", "paper", "replay, paper's form", "replay, strict", "effect", "p", "simulation, paper's form",
               "simulation, strict", "effect ", "p ", "as in replay", "difference", "margin")  # fmt: skip
    return Table(
        "Presence of the stylized facts; effects with 95% intervals, p of presence by Holm", columns, tuple(rows)
    )


def _number(row: Mapping[str, Any], name: str) -> str | None:
    if row[name] is None:
        return None
    inside = "" if row["ci_low"] is None else f" [{row['ci_low']:.2g}, {row['ci_high']:.2g}]"
    return f"{row[name]:.2g}{inside}"


def _control(verdicts: Rows) -> Table:
    found = [row for row in verdicts if row["source"] not in ("replay", "simulation")]
    rows = tuple(
        (row["title"], f"{row['form']} form", row["verdict"], row["statistic"], _number(row, "value")) for row in found
    )
    columns = ("fact", "form", "verdict", "statistic", "value")
    return Table("Replay's windows as Gaussian returns of constant volatility: what pooling alone makes", columns, rows)


def _numbers(numbers: Rows) -> Table:
    sources = ("replay", "simulation")
    rows = []
    for row in _of(numbers, source="replay"):
        cells = [next(_of(numbers, source=s, row=row["row"], number=row["number"]), None) for s in sources]
        forms = row["forms"] or "shown only"
        rows.append((row["number"], row["label"], forms, *(_number(c, "value") if c else None for c in cells)))
    return Table("The numbers behind (d: time of day taken off)", ("fact", "number", "decides", *sources), tuple(rows))


def _summary(verdicts: Rows, alike: Rows) -> str:
    def count(source: str) -> str:
        words = [row["verdict"] for row in _of(verdicts, source=source, form="strict")]
        return ", ".join(f"{words.count(w)} {w}" for w in ("present", "absent", "inconclusive"))

    alikes = [row["verdict"] for row in alike]
    likeness = ", ".join(f"{alikes.count(w)} {w}" for w in ("same", "different", "inconclusive"))
    return (
        f"In the strict form, replay: {count('replay')}; simulation: {count('simulation')}. As in replay: {likeness}."
    )


def _notes(result: Result, about: Mapping[str, str]) -> tuple[str, ...]:
    data = result.dataset
    return (
        "Data: the paper has 11,591 trajectories of 25 minutes from 500 Chinese stocks; here free-running sessions of "
        f"{data['name']} ({data['summary']}): {about['starts']} of {about['minutes']} minutes, "
        f"{about['instruments']} instrument(s), {about['clusters']} clusters.",
        "Verdicts: the paper marks what it sees in its figures. Here a fact is present where tests say so, absent "
        "where tests show that, and inconclusive otherwise (error rates: `marsbench check stylized-facts`).",
        "The paper's form judges the statistic of its appendix I. The strict form adds what pooling, the time of day "
        "and single extreme returns cannot make: criteria in `marsbench/stats/session_facts.py`.",
        "Fact 5 is counted by the hour, fact 7 judged on GARCH(1,1) residuals, fact 8 by a fit up to lag 100.",
    )


TAB6 = Item(
    "tab6",
    "Presence of the eleven stylized facts",
    "MarS (ICLR 2025), appendix I, Table 6; Cont (2001)",
    "sessions",
    _make,
)
