"""Verdicts on the eleven facts: of replay, of the simulation, of a control, and whether the two are alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import TrajectoryPairs
from marsbench.market.bars import MinuteBars
from marsbench.stats.fact_pools import WINDOW_MINUTES, FactPools
from marsbench.stats.likeness import alike
from marsbench.stats.nulls import constant_volatility
from marsbench.stats.session_facts import FACTS, LONG, estimate, wanted
from marsbench.stats.verdicts import PAPER, STRICT, Estimate, Property, Row, judge
from marsbench.stats.windows import Windows

from ._quantities import windows
from ._scoring import number

Floats = NDArray[np.float64]
Table = dict[str, list[Any]]

CONTROL = "constant volatility"
"""Replay's windows as Gaussian returns of their own volatility: what pooling alone manufactures."""
CONTROLLED = (2, 6)
"""The facts that pooling manufactures."""


@dataclass(frozen=True)
class Source:
    """One source of windows, its numbers and the facts that it is judged on."""

    name: str
    pools: FactPools
    facts: tuple[Property, ...]
    numbers: Mapping[str, Estimate]


def verdict_tables(evidence: TrajectoryPairs, rng: np.random.Generator) -> dict[str, Table]:
    """Tables ``facts_verdicts``, ``facts_alike`` and ``facts_numbers``.

    Time and volume of the simulation are deseasonalised by its own time of day, those of replay by replay's.
    """
    minutes = evidence.minutes
    replay = windows(evidence, evidence.replay_bars)
    controlled = tuple(fact for fact in FACTS if fact.number in CONTROLLED)
    sources = [
        _source("replay", replay, _mid(evidence.replay_bars), FACTS, minutes),
        _source(
            "simulation", windows(evidence, evidence.simulated_bars), _mid(evidence.simulated_bars), FACTS, minutes
        ),
        _source(CONTROL, constant_volatility(replay, WINDOW_MINUTES, rng), None, controlled, minutes),
    ]
    return {
        "facts_verdicts": _verdicts(sources, minutes),
        "facts_alike": _alike(sources[0], sources[1], minutes),
        "facts_numbers": _numbers(sources),
    }


def _mid(bars: MinuteBars) -> Floats:
    returns = np.asarray(bars.mid_returns(1))
    return returns[:, None] if returns.ndim == 2 else returns


def _source(name: str, w: Windows, mid: Floats | None, facts: tuple[Property, ...], minutes: int) -> Source:
    pools = FactPools(w, mid)
    rows = _carried(pools, facts, minutes)
    return Source(name, pools, facts, {row.key: estimate(pools, row) for row in rows})


def _carried(pools: FactPools, facts: tuple[Property, ...], minutes: int) -> list[Row]:
    """The rows that windows of that many minutes carry."""
    rows = [row for fact in facts for row in fact.rows if row.least_minutes <= minutes]
    return [row for row in wanted(pools, tuple(rows)) if minutes >= LONG or "garch" not in row.curve]


def _verdicts(sources: list[Source], minutes: int) -> Table:
    columns = ("source", "form", "number", "fact", "title", "verdict", "value", "ci_low", "ci_high", "p", "p_holm",
               "p_absent", "statistic", "reason")  # fmt: skip
    table: Table = {name: [] for name in columns}
    for source in sources:
        for form in (PAPER, STRICT):
            found = judge(source.facts, source.numbers, minutes=minutes, form=form)
            for fact in source.facts:
                v = found[fact.key]
                label = next(row.label for row in fact.rows if row.key == v.leads)
                line = (source.name, form, fact.number, fact.key, fact.title, v.verdict, number(v.value),
                        number(v.low), number(v.high), v.p, v.p_holm, v.p_absent, label, v.reason)  # fmt: skip
                for name, value in zip(columns, line, strict=True):
                    table[name].append(value)
    return table


def _alike(replay: Source, simulation: Source, minutes: int) -> Table:
    leads = [row for row in _carried(replay.pools, FACTS, minutes) if row.key in {fact.leads for fact in FACTS}]
    differences = {row.key: estimate(simulation.pools, row, replay.pools) for row in leads}
    found = alike(FACTS, differences, minutes=minutes)
    columns = ("number", "fact", "title", "verdict", "difference", "ci_low", "ci_high", "margin", "p", "p_holm",
               "p_same", "statistic", "reason")  # fmt: skip
    table: Table = {name: [] for name in columns}
    for fact in FACTS:
        v = found[fact.key]
        label = next(row.label for row in fact.rows if row.key == fact.leads)
        line = (fact.number, fact.key, fact.title, v.verdict, number(v.difference), number(v.low), number(v.high),
                v.margin, v.p, v.p_holm, v.p_same, label, v.reason)  # fmt: skip
        for name, value in zip(columns, line, strict=True):
            table[name].append(value)
    return table


def _numbers(sources: list[Source]) -> Table:
    """Every number behind the verdicts: raw and deseasonalised ("d"), pooled and within windows."""
    columns = ("source", "number", "row", "label", "forms", "value", "ci_low", "ci_high", "ci_method")
    table: Table = {name: [] for name in columns}
    for source in sources:
        for fact in source.facts:
            for row in fact.rows:
                if (found := source.numbers.get(row.key)) is None:
                    continue
                value, low, high = map(number, found.summary())
                line = (source.name, fact.number, row.key, row.label, ", ".join(row.forms), value, low, high,
                        found.method)  # fmt: skip
                for name, cell in zip(columns, line, strict=True):
                    table[name].append(cell)
    return table
