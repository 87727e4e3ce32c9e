"""The eleven stylized facts of Cont (2001): which are there, in replay and simulation, and how close the two are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import Landing, Metric, TrajectoryPairs
from marsbench.scores import OF_MIDS, Outcome, Score
from marsbench.stats.facts import CURVES, FACTS, TAIL_FRACTIONS, Fact, distance
from marsbench.stats.intervals import cluster_interval
from marsbench.stats.nulls import shuffle_within_windows
from marsbench.stats.pooling import Pool
from marsbench.stats.session_facts import LONG
from marsbench.stats.sessions import about_an_hour, sliced
from marsbench.stats.splits import Comparison, split_half
from marsbench.stats.windows import Windows, sliding_sum

from ._fact_verdicts import verdict_tables
from ._quantities import about, notes, windows
from ._scoring import Units, number, numbers, split_score, split_units

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from marsbench.known_answers import KnownAnswer

Floats = NDArray[np.float64]
Table = dict[str, list[Any]]

RETURN_BINS = np.linspace(-6, 6, 61)
"""Bins of the return histogram, in standard deviations."""


def _in_sessions() -> list[Landing]:
    """A whole day shows the shuffle where 25 minutes cannot: nothing clusters or decays, volume foretells nothing."""

    def at(generator: str, key: str, low: float, high: float) -> Landing:
        return Landing(generator, f"session_facts.{key}", low, high, "above_ceiling", task="sessions")

    clustering, decay, volume = (
        "06_volatility_clustering",
        "08_slow_decay_of_absolute_autocorrelation",
        "10_volume_volatility_correlation",
    )
    return [
        Landing("control-constant", f"session_facts.{clustering}", missing=True, task="sessions"),
        at("control-copy", clustering, -0.05, 0.05),
        at("control-copy", decay, -0.06, 0.1),
        at("control-shuffled", clustering, 0.01, 0.15),
        at("control-shuffled", decay, 0.0, 0.3),
        at("control-shuffled", volume, 0.08, 0.4),
        at("reference", "01_absence_of_autocorrelation", -0.05, 0.05),
        at("reference", clustering, -0.05, 0.05),
        at("reference", decay, -0.08, 0.08),
        at("reference", volume, -0.08, 0.08),
    ]


@dataclass(frozen=True)
class StylizedFacts(Metric):
    """Distance between the curves of simulation and replay, for each of the eleven facts, and verdicts on each.

    Formula
        Curves are MarS's (appendix I): one-minute log returns of the last trade price, windows pooled
        within an instrument, curves averaged over instruments. Score ``<family>.<nn-name>`` =
        D(simulation on A, replay on B), D the mean absolute difference over lags, A | B random halves
        of the clusters, one rollout per start, mean over ``splits`` halves.
    Compared
        1: autocorrelation of returns, lags 1-5, within windows net of the shuffle mean. 2: Hill's 1 / alpha,
        both tails, at 1, 2.5 and 5%. 3: skewness, 1-20 minutes. 4: asinh excess kurtosis, 1-20 minutes. 5: log
        Fano factor of the counts of |r| above its 99% quantile in a window, of whole sessions by the hour. 6:
        autocorrelation of |r|, lags 1-5, within windows net of the shuffle mean. 7: as 4, returns divided by
        the deviation of their time of day (from other days where there are any). 8: autocorrelation of |r|,
        lags 1-20. 9: corr(r(t), |r(t + lag)|), 1-20. 10: corr(V(t), |r(t + lag)|), 1-20. 11: rho(lag) -
        rho(-lag) of fine and coarse volatility, lags 5-10.
    Range, direction, unit
        0 or more, lower is better, in units of the compared curve.
    Floor and ceiling
        Ceiling: D(replay on A, replay on B). Floor: for 1, 4, 5, 6, 8, 9, 10, 11 the same with A shuffled
        within windows; for 2, 3, 7 the frozen value of the calibrated zero-intelligence generator.
        Normalised = (value - floor) / (ceiling - floor), 1 being as close as replay is to itself.
    Verdicts
        Tables ``facts_verdicts`` (present, absent or inconclusive in the paper's form and a strict one, Holm over
        the eleven; of replay, simulation, and for facts 2 and 6 of replay's windows with constant volatility),
        ``facts_alike`` (same as in replay, different or inconclusive: paired difference by start against a
        margin) and ``facts_numbers`` (each number behind them). Criteria: ``marsbench.stats.session_facts``.
        Error rates: ``marsbench check stylized-facts``. They do not enter the score.
    Interval
        Jackknife t over clusters for the scores, whose coverage is measured by ``marsbench check intervals``.
        The same for curves and statistics.
    Reference
        Cont (2001); MarS (ICLR 2025) appendix I; Ratliff-Crain et al. (2023); Takahashi et al. (2019).
    Deviates
        Minutes are half-open clock minutes instead of rounded ones; facts 1 and 6 are scored within
        windows, because pooling windows of different volatility manufactures clustering (the pooled
        curves are drawn as well); fact 5's bucket in short windows is the window, all equally exposed.
    Price paths
        Without trades there are no such returns: ``<family>.*`` is not applicable. ``mid_<family>.*`` are the same
        distances of one-minute log returns of the mid price, of replay too, whose facts are others (no bounce between
        bid and ask): they are not compared with anybody's ``<family>.*``, and never rank. Fact 10 needs volume.
    Known failures
        A shuffle within windows cannot change fact 5's counts there: it comes out uninformative. A 25-minute
        window carries no long memory (the task ``sessions`` does): fact 8 is about lags up to 20 minutes only.
        Pooled curves (4, 8, 9, 10) feel differences of volatility between windows, in the shuffle too. Price
        ticks tie returns.
    """

    splits: int = 32
    """Random halves that a score averages over."""
    shuffles: int = 16
    """Different shuffles of replay behind a floor."""
    family: str = "facts"
    """First part of the scores' keys: scores of several tasks stand side by side on the leaderboard."""

    name = "stylized-facts"
    version = 2
    evidence = TrajectoryPairs
    takes_books = True
    summary = "closeness of the eleven stylized facts' curves to replay"
    landings = (
        Landing("control-constant", "facts.02_heavy_tails", missing=True),  # a frozen price has no returns
        # another day has the facts of any day: a copy must not stand out here, that is what memorisation is for
        Landing("control-copy", "facts.02_heavy_tails", -0.1, 0.15, "above_ceiling"),
        Landing("control-shuffled", "facts.07_conditional_heavy_tails", 0.0, np.inf, "above_ceiling"),
        # volume without its volatility is seen; that |r| no longer clusters or decays is not, in 25 minutes
        Landing("control-shuffled", "facts.10_volume_volatility_correlation", 0.01, 0.3, "above_ceiling"),
        Landing("control-shuffled", "facts.06_volatility_clustering", -0.05, 0.05, "above_ceiling"),
        Landing("control-shuffled", "facts.08_slow_decay_of_absolute_autocorrelation", -0.05, 0.05, "above_ceiling"),
        Landing("reference", "facts.01_absence_of_autocorrelation", -0.1, 0.05, "above_ceiling"),
        Landing("reference", "facts.02_heavy_tails", -0.1, 0.05, "above_ceiling"),
        Landing("reference", "facts.06_volatility_clustering", -0.05, 0.03, "above_ceiling"),
        *_in_sessions(),
    )

    def evaluate(self, evidence: TrajectoryPairs, rng: np.random.Generator) -> Outcome:
        absent = self._not_applicable(evidence)
        if absent and not evidence.prices_alone:
            return Outcome(absent, notes=notes(evidence))
        family = f"{OF_MIDS}{self.family}" if evidence.prices_alone else self.family
        replay = windows(evidence, evidence.replay_bars)
        simulated = windows(evidence, evidence.simulated_bars)
        shuffled = shuffle_within_windows(replay, self.shuffles, rng)
        units = split_units(evidence)
        pools = {
            source: {name: _pool(name, w) for name in CURVES}
            for source, w in (("replay", replay), ("simulation", simulated))
        }
        tables: dict[str, Table] = {"facts_about": about(evidence), **verdict_tables(evidence, rng)}
        tables |= self._curves(pools, rng)
        scores, rows = [], []
        for fact in FACTS:
            compare = _comparison(fact, *(replace(w, cluster=units.label) for w in (replay, simulated, shuffled)))
            found = split_half(compare, units.stratum, self.splits, rng, what=units.what)
            scores.append(self._score(f"{family}.{fact.key}", fact, found, evidence, replay, units))
            rows.append(self._statistic(fact, pools, scores[-1], rng))
            if evidence.prices_alone:
                rows[-1]["statistic"] = fact.statistic_name.replace("last price", "mid price")
        tables["facts_summary"] = {column: [row[column] for row in rows] for column in rows[0]}
        tables["facts_fano_instruments"] = _fano_table(pools)
        tables["facts_returns"] = _returns_table({"replay": replay, "simulation": simulated})
        return Outcome((*absent, *scores), tables, notes(evidence))

    def _not_applicable(self, evidence: TrajectoryPairs) -> tuple[Score, ...]:
        """The scores that simulations without trades cannot have; none where there are trades."""
        if (why := evidence.lacking.get("last_trade_ticks")) is None:
            return ()
        clusters = int(evidence.clusters.max()) + 1
        empty = (
            Score(f"{self.family}.{fact.key}", None, "facts", "lower", clusters=clusters, reason=why) for fact in FACTS
        )
        return tuple(score.not_applicable(why) for score in empty)

    def _score(
        self, key: str, fact: Fact, found: Any, evidence: TrajectoryPairs, replay: Windows, units: Units
    ) -> Score:
        score = split_score(
            found,
            key,
            group="facts",
            direction="lower",
            floor=evidence.floors.get(key),
            shuffled=fact.temporal,
            n=int((~np.isnan(replay.returns)).sum()) // 2,
            units=units,
            missing=f"{fact.title}: the curve does not exist for replay or for the simulation "
            "(no trades, a frozen price, or too few minutes)",
        )
        why = evidence.lacking.get("volume_shares") if fact.curve == "volume_volatility" else None
        return score if why is None else score.not_applicable(why)

    def _curves(self, pools: Mapping[str, Mapping[str, Pool]], rng: np.random.Generator) -> dict[str, Table]:
        tables = {}
        for name, curve in CURVES.items():
            table: Table = {"source": [], "x": [], "value": [], "ci_low": [], "ci_high": [], "ci_method": []}
            for source, of_source in pools.items():
                pool = of_source[name]
                found = cluster_interval(pool.curve, pool.clusters)
                table["source"] += [source] * len(curve.x)
                table["x"] += [float(x) for x in curve.x]
                table["value"] += numbers(pool.curve()[0])
                table["ci_low"] += numbers(found.low)
                table["ci_high"] += numbers(found.high)
                table["ci_method"] += [found.method] * len(curve.x)
            if name == "tail_xi":
                tails = [
                    f"{side} {f:.1%}" for side, f in zip(["left"] * 3 + ["right"] * 3, TAIL_FRACTIONS, strict=True)
                ]
                table["label"] = tails * len(pools)
            tables[f"facts_{name}"] = table
        return tables

    def _statistic(
        self, fact: Fact, pools: Mapping[str, Mapping[str, Pool]], score: Score, rng: np.random.Generator
    ) -> dict[str, Any]:
        row: dict[str, Any] = {"fact": fact.key, "title": fact.title, "statistic": fact.statistic_name}
        for source, of_source in pools.items():
            pool = of_source[fact.statistic_curve]

            def statistic(weights: Floats, pool: Pool = pool) -> Floats:
                return fact.statistic(pool.curve(weights))

            found = cluster_interval(statistic, pool.clusters)
            row[source] = number(statistic(np.ones((1, pool.clusters)))[0])
            row[f"{source}_ci_low"], row[f"{source}_ci_high"] = number(found.low), number(found.high)
        for name in ("value", "ci_low", "ci_high", "floor", "ceiling", "normalised"):
            row[f"distance_{name}"] = getattr(score, name)
        row["informative"] = None if score.informative is None else float(score.informative)
        return row

    @classmethod
    def known_answers(cls) -> list[KnownAnswer]:
        """GARCH and its kin, Roll's bounce, a Hawkes process and others, at the sizes of both tasks."""
        from ._known_facts import known_facts

        return known_facts()

    @classmethod
    def draw(cls, tables: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, Figure]:
        """Table 6 and Figures 5 and 17 to 21 of MarS, and the scores between their floors and ceilings."""
        from ._facts_figures import draw

        return draw(tables)


def _pool(name: str, w: Windows) -> Pool:
    """A curve's pool; extremes are counted by window, in whole sessions by the hour."""
    minutes = int(w.returns.shape[-1])
    whole = name == "fano" and minutes >= LONG
    return CURVES[name].pool(sliced(w, about_an_hour(minutes)) if whole else w)


def _comparison(fact: Fact, replay: Windows, simulated: Windows, shuffled: Windows) -> Comparison:
    truth, generated = _pool(fact.curve, replay), _pool(fact.curve, simulated)
    null = _pool(fact.curve, shuffled) if fact.temporal else None

    def compare(a: Floats, b: Floats, k: int) -> tuple[Floats, Floats, Floats]:
        target = fact.part(truth.curve(b))
        value = distance(fact.part(generated.curve(a, rollout=k % generated.rollouts)), target)
        ceiling = distance(fact.part(truth.curve(a)), target)
        if null is None:
            return value, ceiling, np.full(len(a), np.nan)
        return value, ceiling, distance(fact.part(null.curve(a, rollout=k % null.rollouts)), target)

    return compare


def _fano_table(pools: Mapping[str, Mapping[str, Pool]]) -> Table:
    """Fano factor of every instrument (the paper's box plot is over them)."""
    table: Table = {"source": [], "instrument": [], "fano": []}
    for source, of_source in pools.items():
        found = of_source["fano"].by_instrument()[:, 0, 0]
        table["source"] += [source] * len(found)
        table["instrument"] += list(range(len(found)))
        table["fano"] += numbers(found)
    return table


def _returns_table(sources: Mapping[str, Windows]) -> Table:
    """Histogram of 1- and 5-minute returns in their own standard deviations."""
    table: Table = {"source": [], "period": [], "x": [], "probability": [], "n": []}
    for source, w in sources.items():
        for period in (1, 5):
            r = sliding_sum(w.returns, period)
            r = r[~np.isnan(r)]
            spread = r.std() if r.size else 0.0
            shown = np.clip(r / spread, RETURN_BINS[0], RETURN_BINS[-1]) if spread > 0 else np.zeros(0)
            counts = np.histogram(shown, RETURN_BINS)[0]
            table["source"] += [source] * len(counts)
            table["period"] += [period] * len(counts)
            table["x"] += [float(x) for x in (RETURN_BINS[:-1] + RETURN_BINS[1:]) / 2]
            table["probability"] += numbers(counts / counts.sum()) if counts.sum() else [None] * len(counts)
            table["n"] += [int(counts.sum())] * len(counts)
    return table
