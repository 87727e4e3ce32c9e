"""How the impact of metaorders grows with their size, what stays of it, and whether that is as in the true market."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import Landing, Metric
from marsbench.impact_runs import ImpactRuns
from marsbench.scores import Outcome, Score

from ._impact_statistics import Market, closeness, interval_of, weights_of
from ._impact_tables import tables_of
from ._scoring import number, numbers, replicates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from marsbench.known_answers import KnownAnswer

Floats = NDArray[np.float64]
UNITS = {
    "impact": "of the true impact",
    "path": "of the true impact",
    "exponent": "1",
    "prefactor": "ln Y",
    "decay": "of the peak",
    "monotonicity": "share of pairs",
    "fulfilment": "share of the target",
}


@dataclass(frozen=True)
class SquareRootLaw(Metric):
    """Impact of metaorders: its law, its path, its decay, and how close they are to those of the true market.

    Formula
        Impact is ``side (ln mid with the metaorder - ln mid of the control arm)`` over a day's volatility, at the end
        of trading unless said; both arms have the same random numbers, and the control arm is the null agent's. Size
        is executed shares over a day's volume. ``square_root_law.delta`` and ``.log_y``: ``I = Y (Q/V)^delta`` by
        nonlinear least squares, both free, no additive term, one metaorder one point; tables have them by agent, and
        with the window's volatility and volume. ``.relaxation``: mean impact at the end of the tail over that at the
        end of trading. ``.monotonicity``: share of pairs of neighbouring sizes, all else the same, where the larger
        one has more impact. ``.asymmetry``: buying less selling, over their mean. ``.kyle_lambda``: slope through 0 of
        the impact on Q/V.
        Closeness to the truth, where the market's hidden state is known: ``impact_gap.impact`` and ``.path`` are root
        mean squared differences of mean impacts (by agent and size; by agent and minute) over the root mean square of
        the true ones; ``.exponent``, ``.prefactor`` (of ln Y), ``.decay`` (of the relaxation), ``.monotonicity`` and
        ``.fulfilment`` (by agent) are absolute differences.
    Range, direction, unit
        Gaps are 0 or more, lower is better. What the market does is neither good nor bad in itself: an exponent near
        one half is no merit where the true one is another, and recorded flow that cannot react has one too.
    Floor and ceiling
        Of a gap: the gap of the overlay (recorded flow under the same orders: no reaction), and of the true market with
        other random numbers. Where their interval does not tell them apart the gap is uninformative.
    Interval
        Student t over a delete-group jackknife of clusters (instrument-days; on a single day blocks of 25 minutes): all
        metaorders of a start share its control arm. Percentile bootstraps of clusters cover too little.
    Reference
        MarS (ICLR 2025) sections 3.2, 4.3, appendix K; LOB-Impact (2026); Almgren et al. (2005); Gatheral (2010).
    Known failures
        Absolute gaps have an error floor: where both sides are noisy they are not 0, nor is the ceiling. delta and Y
        depend on each other: Y is the impact of a metaorder of a whole day's volume, far outside the sizes sent. Partly
        filled metaorders select small impacts. Fifteen minutes do not tell a permanent part from a slow decay.
    """

    name = "square-root-law"
    version = 2
    evidence = ImpactRuns
    floor_from_baseline = False
    summary = "law of market impact, its decay, and how close both are to the true market's"
    landings = (
        # without anybody who pushes back, what was bought stays bought
        *(
            Landing(control, score, low, high, task="market-impact")
            for control, least in (("control-constant", 0.9), ("control-copy", 0.4), ("control-shuffled", 0.4))
            for score, low, high in (
                ("square_root_law.relaxation", least, 1.5),
                ("square_root_law.monotonicity", 0.55, 1.0),
            )
        ),
        Landing("control-constant", "impact_gap.decay", 0.2, 2.0, task="market-impact"),
        Landing("reference", "square_root_law.monotonicity", 0.55, 1.0, task="market-impact"),
        Landing("reference", "impact_gap.impact", 0.0, 0.6, task="market-impact"),
        Landing("reference", "impact_gap.fulfilment", 0.0, 0.05, task="market-impact"),
    )

    def evaluate(self, evidence: ImpactRuns, rng: np.random.Generator) -> Outcome:
        own = Market(evidence, evidence.own, evidence.daily)
        weights = weights_of(own.clusters)
        scores = _described(own, weights)
        if evidence.truth is not None and evidence.other_truth is not None:
            scores += _gaps(own, evidence, weights)
        return Outcome(tuple(scores), tables_of(evidence, weights), _notes(evidence, own))

    @classmethod
    def known_answers(cls) -> Sequence[KnownAnswer]:
        from ._known_impact import known_impact

        return known_impact()

    @classmethod
    def draw(cls, tables: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, Figure]:
        from ._impact_figures import draw

        return draw(tables)


def _described(own: Market, weights: Floats) -> list[Score]:
    """What the market does, without judging it."""
    delta, log_y = own.law(weights)
    found = {
        "delta": (delta, "1"),
        "log_y": (log_y, "ln of daily volatilities"),
        "relaxation": (own.relaxation(weights), "of the peak"),
        "monotonicity": (own.monotonicity(weights), "share of pairs"),
        "asymmetry": (own.asymmetry(weights), "of the mean impact"),
        "kyle_lambda": (own.kyle(weights)[:, own.end - 1], "daily volatilities per daily volume"),
        "fulfilment": (own.fulfilment(weights).mean(axis=1), "share of the target"),
    }
    return [
        score(f"square_root_law.{name}", values, own, unit=unit, why=_why(own, name), used=_used(own, name))
        for name, (values, unit) in found.items()
    ]


def _used(own: Market, name: str) -> int | None:
    """Clusters that a statistic is about, where not all of them: what happens later is known of few."""
    return own.about(own.tail) if name in ("relaxation", "decay") else None


def _why(own: Market, name: str) -> str:
    """Why a statistic may be missing."""
    if name in ("relaxation", "decay") and not own.tail.any():
        return "no metaorder was followed after it ended"
    return "no impact that a law could be fitted to"


def score(key: str, found: Floats, own: Market, *, unit: str, why: str, used: int | None = None) -> Score:
    """A description with its interval, from its value and replicates ``[1 + G]``; ``used`` as of ``interval_of``."""
    n = int(own.known.sum())
    if number(found[0]) is None:
        return Score(key, None, "impact", "none", unit=unit, n=n, clusters=own.clusters, reason=why)
    interval = interval_of(found, own.clusters, used)
    low, high = number(interval.low), number(interval.high)
    return Score(
        key,
        float(found[0]),
        "impact",
        "none",
        unit=unit,
        ci_low=low,
        ci_high=high,
        ci_method=interval.method if low is not None else None,
        n=n,
        clusters=own.clusters,
        reason=interval.reason,
        replicates=replicates(interval),
        replicate_units=_units(own.clusters) if interval.deleted is not None else None,
    )


def _units(clusters: int) -> str:
    return f"{clusters} clusters"


def _gaps(own: Market, evidence: ImpactRuns, weights: Floats) -> list[Score]:
    """Closeness to the truth, of the generator, of the overlay and of the truth itself."""
    assert evidence.truth is not None
    assert evidence.other_truth is not None
    true, overlay, other = (
        Market(evidence, arm, evidence.daily) for arm in (evidence.truth, evidence.overlay, evidence.other_truth)
    )
    gaps, floors, ceilings = (closeness(market, true, weights) for market in (own, overlay, other))
    return [_gap(name, gaps[name], floors[name], ceilings[name], own) for name in gaps]


def _gap(name: str, found: Floats, floor: Floats, ceiling: Floats, own: Market) -> Score:
    used = _used(own, name)
    plain = score(f"impact_gap.{name}", found, own, unit=UNITS[name], why=_why(own, name), used=used)
    plain = replace(plain, direction="lower")
    if plain.value is None:
        return plain
    informative, reason = _informative(floor, ceiling, own.clusters, used)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = numbers((found - floor) / (ceiling - floor))
    return replace(
        plain,
        ci_low=None if plain.ci_low is None else max(plain.ci_low, 0.0),
        floor=number(floor[0]),
        ceiling=number(ceiling[0]),
        normalised=scaled[0] if informative else None,
        informative=informative,
        reason=plain.reason or reason,
        normalised_replicates=tuple(scaled[1:]) if informative else (),
    )


def _informative(floor: Floats, ceiling: Floats, clusters: int, used: int | None) -> tuple[bool, str | None]:
    """Whether the interval of (ceiling - floor) lies below 0, and if not, why."""
    gap = ceiling - floor
    interval = interval_of(gap, clusters, used)
    low, high = float(interval.low), float(interval.high)
    if not np.isfinite(low + high):
        return False, "uninformative: no interval of (ceiling - floor)"
    if high < 0:
        return True, None
    return False, f"uninformative: (ceiling - floor) is {gap[0]:.4g} [{low:.4g}, {high:.4g}]"


def _notes(evidence: ImpactRuns, own: Market) -> tuple[str, ...]:
    runs, total = evidence, len(evidence.start)
    followed = int(own.tail.sum())
    words = [
        f"{total:,} metaorders from {len(runs.starts)} starts in {own.clusters} clusters, {followed:,} of them "
        f"followed for {runs.minutes - runs.trading_minutes} minutes after they ended"
    ]
    if lost := int((~own.known).sum()):
        words.append(f"{lost:,} metaorders end on a one-sided book and have no impact")
    if evidence.truth is None:
        words.append("the true market's reaction is not known here: nothing to be close to")
    if evidence.single_day:
        words.append("one day: conclusions hold within it")
    return tuple(words)
