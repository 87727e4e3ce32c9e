"""Which factors besides the size explain the impact of metaorders: the three of MarS, and what a search finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from marsbench.evidence import Metric
from marsbench.impact_runs import ImpactRuns
from marsbench.scores import Outcome, Score
from marsbench.stats.factor_genetics import GeneticSearch, Histories
from marsbench.stats.factor_search import products, search, standardised
from marsbench.stats.factor_validation import SparseSearch, Validated, left_out_gain, validate
from marsbench.stats.impact_factors import FACTORS, PAPER
from marsbench.stats.intervals import Interval, cluster_interval, ratio_interval

from ._factor_tables import (
    AFTER_TRADE,
    Case,
    about_table,
    bin_table,
    correlation_table,
    search_table,
    term_table,
)
from ._scoring import number, replicates, within

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from marsbench.known_answers import KnownAnswer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_CLUSTERS = 10


@dataclass(frozen=True)
class ImpactFactors(Metric):
    """What factors explain of impact beyond sqrt(Q/V), of starts that they were not fitted to.

    Formula
        y is the path of a metaorder in the generator's own market at the minute when trading ends, over the daily
        volatility; the base is a + b sqrt(Q/V), Q executed, V of a day.
        ``impact_factors.gain.<factor>``: squared errors of the base less those of the base with the factor and its
        product with sqrt(Q/V), over the squared deviations of y, each cluster foretold from the others.
        ``.correlation.<factor>``: Spearman's correlation of factor and y among metaorders of one agent and rank of
        size, over all of them. ``.search_gain``: the same gain of the better of two searches, each repeated from the
        start in every fold: thresholded sparse regression with stability selection over the classic factors, and
        breeding of factor templates. Its p value is the share of searches on permuted impact that gain as much.
    Range, direction, unit
        Gains are shares of variance, up to 1 and negative where the factor misleads; correlations in [-1, 1]. None of
        them ranks a generator: real markets set no level.
    Floor and ceiling
        None.
    Interval
        Student t over the jackknife of clusters. That of ``search_gain`` takes what was found in each fold as given,
        and the better of two searches is a little too good: its p value allows for both. The interval of the gain of
        a factor that is noise is too wide (it covers in 99.8% of draws), that of a planted one with 20 clusters a
        little too narrow (92%).
    Reference
        MarS (ICLR 2025) section 4.2, appendix K, equations 5 to 11 and Figures 9a, 24, 25.
    Known failures
        A pre-trade factor is one number per start, so a hundred starts are a hundred observations of it. Factors that
        contain what was executed (``lob_pressure``, ``participation``) are known after the trade: they foretell
        nothing, whatever their gain, and enter the search only with ``after_trade``. The base itself contains what
        was executed. Terms that correlate stand in for each other, so a term that is not chosen is not absent.
    Deviation from the paper
        Weights, levels and logarithms are not stated there: equal weights, ten levels, natural logarithm. The base
        dictionary and the genetic search are ours.
    """

    permutations: int = 99
    """Searches on permuted impact; the least p value is 1 / (1 + permutations)."""
    after_trade: bool = False
    """Whether the search may use factors that contain what happened after the start."""

    name = "impact-factors"
    version = 1
    evidence = ImpactRuns
    floor_from_baseline = False
    summary = "factors that explain impact beyond the root of the size"

    def __post_init__(self) -> None:
        if self.permutations < 1:
            raise ValueError(f"permutations must be 1 or more, got {self.permutations}")

    def evaluate(self, evidence: ImpactRuns, rng: np.random.Generator) -> Outcome:
        case = Case.of(evidence, evidence.own)
        if case.count < LEAST_CLUSTERS:
            return Outcome(_missing(case), {"factor_about": about_table(case, evidence)}, _notes(case))
        problem = case.problem(after_trade=self.after_trade)
        sparse = SparseSearch.of(problem)
        genetic = GeneticSearch.of(
            Histories.of(evidence), case.start, case.side, case.root_size, case.impact, case.clusters
        )
        found, bred = search(sparse.sums, rng), genetic.search(rng)
        validated = validate(problem, {"sparse": sparse, "genetic": genetic}, rng, permutations=self.permutations)
        scores = (*_paper_gains(case), _search_gain(case, validated), *_correlations(case))
        tables = {
            "factor_about": about_table(case, evidence),
            "factor_terms": term_table(case, problem, found),
            "factor_bins": bin_table(case, evidence.agents),
            "factor_correlations": correlation_table(case),
            "factor_search": search_table(problem, found, bred, validated),
        }
        return Outcome(scores, tables, _notes(case, validated))

    @classmethod
    def known_answers(cls) -> Sequence[KnownAnswer]:
        from ._known_factors import known_factors

        return known_factors()

    @classmethod
    def draw(cls, tables: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, Figure]:
        from ._factor_figures import draw

        return draw(tables)


def factor_gain(factor: Floats, root_size: Floats, impact: Floats, clusters: Ints) -> tuple[float, Interval]:
    """Gain of R2 by a factor and its product with sqrt(Q/V), and its jackknife interval; ``[N]`` each."""
    size, one = standardised(root_size), standardised(factor)
    sums = products(np.column_stack([np.ones_like(size), size, one, one * size, impact]), clusters)
    interval = cluster_interval(lambda weights: left_out_gain(sums, weights), len(sums))
    return float(left_out_gain(sums, np.ones((1, len(sums))))[0]), interval


def rank_correlation(factor: Floats, impact: Floats, stratum: Ints, clusters: Ints) -> tuple[float, Interval]:
    """Spearman's correlation within strata, pooled over them, and its interval; ``[N]`` each.

    Ranks, scaled to the same variance in every stratum, are those of all metaorders, whichever cluster is left out.
    NaN where the factor has one value in every stratum.
    """
    x, y = np.zeros(len(factor)), np.zeros(len(factor))
    for s in np.unique(stratum):
        rows = np.flatnonzero(stratum == s)
        x[rows], y[rows] = (standardised(stats.rankdata(v[rows])) for v in (factor, impact))
    count = int(clusters.max()) + 1
    sums = np.stack([np.bincount(clusters, c, count) for c in (x * y, x * x, y * y)], axis=1)

    def correlation(weights: Floats) -> Floats:
        xy, xx, yy = (weights @ sums).T
        return np.asarray(np.divide(xy, np.sqrt(xx * yy), out=np.full(len(xy), np.nan), where=xx * yy > 0))

    return float(correlation(np.ones((1, count)))[0]), cluster_interval(correlation, count)


def _paper_gains(case: Case) -> list[Score]:
    scores = []
    for name in PAPER:
        key = f"impact_factors.gain.{name}"
        if name in case.factors:
            value, interval = factor_gain(case.factors[name], case.root_size, case.impact, case.clusters)
            scores.append(_score(key, value, within(interval, -np.inf, 1.0), case, "share of variance"))
        else:
            scores.append(_none(key, f"{name} is {case.unusable[name]}", case, "share of variance"))
    return scores


def _search_gain(case: Case, validated: Validated) -> Score:
    interval = ratio_interval(validated.saved[validated.best], validated.variance)
    value = validated.gains[validated.best]
    return _score(
        "impact_factors.search_gain", value, within(interval, -np.inf, 1.0), case, "share of variance",
        what=f", of what the {validated.best} search found in each fold",
    )  # fmt: skip


def _correlations(case: Case) -> list[Score]:
    scores = []
    for name in FACTORS:
        key = f"impact_factors.correlation.{name}"
        if name not in case.factors:
            scores.append(_none(key, f"{name} is {case.unusable[name]}", case))
            continue
        value, interval = rank_correlation(case.factors[name], case.impact, case.stratum, case.clusters)
        if np.isfinite(value):
            scores.append(_score(key, value, within(interval, -1.0, 1.0), case))
        else:
            scores.append(_none(key, f"{name} has one value in every agent and rank of size", case))
    return scores


def _score(key: str, value: float, interval: Interval, case: Case, unit: str = "1", *, what: str = "") -> Score:
    kept = replicates(interval)
    low = number(interval.low)
    return Score(
        key,
        value,
        "impact",
        "none",
        unit=unit,
        ci_low=low,
        ci_high=number(interval.high),
        ci_method=None if low is None else f"{interval.method}{what}",
        n=len(case.impact),
        clusters=case.count,
        reason=None if low is not None else "no interval",
        replicates=kept,
        replicate_units=f"{case.count} clusters" if kept else None,
    )


def _none(key: str, why: str, case: Case, unit: str = "1") -> Score:
    return Score(key, None, "impact", "none", unit=unit, n=len(case.impact), clusters=case.count, reason=why)


def _missing(case: Case) -> tuple[Score, ...]:
    many = f"{case.count} cluster{'s' * (case.count != 1)}"
    why = f"{many} of metaorders with known impact and factors: {LEAST_CLUSTERS} are needed"
    gains = [f"impact_factors.gain.{name}" for name in PAPER] + ["impact_factors.search_gain"]
    return (
        *(_none(key, why, case, "share of variance") for key in gains),
        *(_none(f"impact_factors.correlation.{name}", why, case) for name in FACTORS),
    )


def _notes(case: Case, validated: Validated | None = None) -> tuple[str, ...]:
    notes = []
    if dropped := len(case.keep) - len(case.impact):
        notes.append(f"{dropped} of {len(case.keep)} metaorders are left out: impact or a factor is missing")
    notes += [f"factor {name} is {why}, so it is left out" for name, why in case.unusable.items()]
    if validated is not None:
        many = len(next(iter(validated.permuted.values())))
        notes.append(
            f"search_gain: p = {validated.p['best']:.3g} against {many} searches on permuted impact "
            f"(no p can be below {1 / (1 + many):.3g}); the better search is the {validated.best} one"
        )
    after = ", ".join(name for name, factor in FACTORS.items() if not factor.predictive)
    notes.append(f"{after}: {AFTER_TRADE}")
    return tuple(notes)
