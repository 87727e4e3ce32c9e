"""Tables of impact factors: terms of the search, bins by agent, correlations, what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.impact_runs import Arm, ImpactRuns
from marsbench.stats.factor_genetics import Found
from marsbench.stats.factor_search import Problem, Selection, library, sparse_fit
from marsbench.stats.factor_validation import Validated
from marsbench.stats.impact_factors import FACTORS, PAPER
from marsbench.stats.intervals import Interval, deletion_weights, jackknife_interval

from ._scoring import number, numbers

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Table = dict[str, list[Any]]

BINS = 5
"""Of each factor and agent, equally full."""
MOST_MISSING = 0.25
"""A factor that more metaorders lack is left out, instead of the metaorders."""
AFTER_TRADE = "contains what happened after the start: foretells nothing"
CORRELATED = ("sqrt(Q/V)", "volatility", "resiliency", "LOB_depth", "LOB_pressure")
PAPER_CORRELATIONS = (
    (1.0, -0.0, -0.0, 0.1, 0.4),
    (-0.0, 1.0, -0.0, 0.0, 0.0),
    (-0.0, -0.0, 1.0, 0.1, -0.1),
    (0.1, 0.0, 0.1, 1.0, -0.2),
    (0.4, 0.0, -0.1, -0.2, 1.0),
)
"""Figure 25, in the order of ``CORRELATED``, as printed."""


@dataclass(frozen=True)
class Case:
    """N metaorders of which impact, size and all usable factors are known."""

    impact: Floats
    """``[N]`` at the end of trading, in daily volatility."""
    root_size: Floats
    """``[N]`` sqrt(Q/V)."""
    factors: Mapping[str, Floats]
    """``[N]`` each."""
    unusable: Mapping[str, str]
    """Factor -> why it is not among them."""
    keep: Bools
    """Which metaorders of the evidence they are."""
    clusters: Ints
    """``[N]`` 0, 1, ..."""
    start: Ints
    side: Ints
    agent: Ints
    stratum: Ints
    """``[N]`` agent and rank of size."""
    volatility: Floats
    """``[N]`` of a day."""

    @classmethod
    def of(cls, runs: ImpactRuns, arm: Arm) -> Case:
        """Of one arm of the evidence."""
        impact = runs.impacts(arm, runs.daily)[:, runs.trading_minutes]
        root = np.sqrt(runs.sizes(arm, runs.daily))
        keep = np.isfinite(impact) & np.isfinite(root)
        factors, unusable = {}, {}
        for name, factor in FACTORS.items():
            values = factor.compute(runs, arm)
            missing = float(np.mean(~np.isfinite(values[keep]))) if keep.any() else 1.0
            if missing > MOST_MISSING:
                unusable[name] = f"missing for {missing:.0%} of the metaorders"
            else:
                factors[name] = values
        for values in factors.values():
            keep = keep & np.isfinite(values)
        _, clusters = np.unique(runs.clusters[keep], return_inverse=True)
        return cls(
            impact[keep],
            root[keep],
            {name: values[keep] for name, values in factors.items()},
            unusable,
            keep,
            np.asarray(clusters, np.int64),
            runs.start[keep],
            runs.side[keep],
            runs.agent[keep],
            runs.agent[keep] * (1 + int(runs.rank.max(initial=0))) + runs.rank[keep],
            runs.daily.sigma[runs.start][keep],
        )

    @property
    def count(self) -> int:
        """Clusters."""
        return int(self.clusters.max(initial=-1)) + 1

    def problem(self, *, after_trade: bool) -> Problem:
        """What a search works on: predictive factors, or all."""
        candidates = {n: v for n, v in self.factors.items() if after_trade or FACTORS[n].predictive}
        cell = self.stratum * 2 + (self.side > 0)
        terms = library(candidates, self.root_size)
        return Problem(self.impact, self.root_size, terms, self.clusters, self.start, np.asarray(cell, np.int64))


def term_table(case: Case, problem: Problem, found: Selection) -> Table:
    """Every term of the search, then factors that were no candidates, and why."""
    alone = sparse_fit(problem, found)
    names = ("term", "factor", "predictive", "inclusion", "one_fit", "coefficient", "chosen", "about")
    table: Table = {name: [] for name in names}
    terms = problem.terms
    for j, (term, factor) in enumerate(zip(terms.names, terms.factors, strict=True)):
        chosen = bool(found.chosen[j])
        coefficient = number(found.coefficients[2 + j]) if chosen else None
        _row(table, term, factor, number(found.inclusion[j]), number(alone[j]), coefficient, chosen, "")
    for name in FACTORS:
        if name in terms.factors:
            continue
        why = case.unusable.get(name) or terms.left_out.get(name) or f"no candidate: {AFTER_TRADE}"
        _row(table, name, name, None, None, None, None, why)
    return table


def _row(table: Table, term: str, factor: str, *values: Any) -> None:
    *numbers_of, chosen, why = values
    about = FACTORS[factor].about + (f" ({why})" if why else "")
    predictive = "yes" if FACTORS[factor].predictive else "no"
    for name, value in zip(table, (term, factor, predictive, *numbers_of, chosen, about), strict=True):
        table[name].append(value)


def bin_table(case: Case, agents: tuple[str, ...]) -> Table:
    """Mean impact by agent in equally full bins of the three factors of MarS, with intervals by cluster."""
    names = ("factor", "agent", "predictive", "bin", "mean_factor", "mean_impact", "ci_low", "ci_high", "count")
    table: Table = {name: [] for name in names}
    for name in PAPER:
        for a, label in enumerate(agents):
            rows = np.flatnonzero(case.agent == a)
            if name not in case.factors or not len(rows):
                continue
            x = case.factors[name][rows]
            edges = np.unique(np.quantile(x, np.arange(1, BINS) / BINS))
            bins = np.searchsorted(edges, x, side="right")
            for b in np.unique(bins):
                inside = rows[bins == b]
                interval = mean_interval(case.impact[inside], case.clusters[inside])
                values = (
                    name, label, "yes" if FACTORS[name].predictive else "no", int(b), number(x[bins == b].mean()),
                    number(case.impact[inside].mean()), number(interval.low), number(interval.high), len(inside),
                )  # fmt: skip
                for column, value in zip(table, values, strict=True):
                    table[column].append(value)
    return table


def mean_interval(values: Floats, clusters: Ints) -> Interval:
    """Of a mean, by the clusters that there are among ``values``; NaN with fewer than 2."""
    _, label = np.unique(clusters, return_inverse=True)
    count = int(label.max()) + 1
    if count < 2:
        return Interval(np.array(np.nan), np.array(np.nan), None, count, "fewer than 2 clusters")
    sums, sizes = np.bincount(label, values, count), np.bincount(label, minlength=count)
    weights = deletion_weights(count)
    return jackknife_interval(np.asarray(values.mean()), weights @ sums / (weights @ sizes), clusters=count)


def correlation_table(case: Case) -> Table:
    """Pearson correlations of the factors of the square-root law and those of MarS, beside the printed ones."""
    ours = {
        "sqrt(Q/V)": case.root_size,
        "volatility": case.volatility,
        **{
            name: case.factors[key]
            for name, key in zip(CORRELATED[2:], ("resiliency", "lob_depth", "lob_pressure"), strict=True)
            if key in case.factors
        },
    }
    table: Table = {"row": [], "column": [], "correlation": [], "paper": []}
    for i, row in enumerate(CORRELATED):
        for j, column in enumerate(CORRELATED):
            both = row in ours and column in ours and np.std(ours[row]) > 0 and np.std(ours[column]) > 0
            table["row"].append(row)
            table["column"].append(column)
            table["correlation"].append(number(np.corrcoef(ours[row], ours[column])[0, 1]) if both else None)
            table["paper"].append(PAPER_CORRELATIONS[i][j])
    return table


def search_table(problem: Problem, found: Selection, bred: Found, validated: Validated) -> Table:
    """What each search found, its gain on clusters that it did not see, and the p value of the whole search."""
    chosen = [n for n, c in zip(problem.terms.names, found.chosen, strict=True) if c]
    searches = ("sparse", "genetic", "best")
    expressions = {"sparse": " + ".join(chosen) or "none", "genetic": str(bred.template)}
    permutations = len(next(iter(validated.permuted.values())))
    gains = dict(validated.gains)
    expressions["best"], gains["best"] = expressions[validated.best], gains[validated.best]
    before = all(FACTORS[f].predictive for f, c in zip(problem.terms.factors, found.chosen, strict=True) if c)
    predictive = {"sparse": "yes" if before else "no", "genetic": "yes"}
    predictive["best"] = predictive[validated.best]
    return {
        "search": list(searches),
        "expression": [expressions[s] for s in searches],
        "predictive": [predictive[s] for s in searches],
        "gain": numbers(gains[s] for s in searches),
        "p": numbers(validated.p[s] for s in searches),
        "permutations": [permutations] * 3,
        "least_p": [1 / (1 + permutations)] * 3,
    }


def about_table(case: Case, runs: ImpactRuns) -> Table:
    """What stands behind the figures."""
    about = {
        "metaorders": str(len(case.impact)),
        "dropped": str(len(case.keep) - len(case.impact)),
        "starts": str(len(np.unique(case.start))),
        "clusters": str(case.count),
        "single_day": "yes" if runs.single_day else "no",
        "impact": f"at minute {runs.trading_minutes}, over daily volatility",
        "not predictive": ", ".join(name for name, factor in FACTORS.items() if not factor.predictive),
    }
    return {"name": list(about), "value": list(about.values())}
