"""The learned ODE of market impact: does it foretell how impact goes on, where the square-root process does not?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import Metric
from marsbench.impact_runs import ImpactRuns
from marsbench.scores import Direction, Outcome, Score
from marsbench.stats.impact_factors import lob_depth, lob_pressure, resiliency
from marsbench.stats.impact_ode import CONSTANT, LearnedOde, Trajectories, fit, weight_interval
from marsbench.stats.impact_ode_errors import LAGS, LEARNED, READINGS, HeldOut, autocorrelation, held_out
from marsbench.stats.intervals import Interval

from ._scoring import number, replicates, within

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from marsbench.known_answers import KnownAnswer

Floats = NDArray[np.float64]
Table = dict[str, list[Any]]

FACTORS = ("sqrt(Q/V)", "mid_price", "agent_replay", "agent_rollout", "LOB_depth", "LOB_pressure", "resiliency")
PAPER_WEIGHTS: Mapping[str, tuple[float, ...]] = {
    "1/t": (-0.05, 0.02, 0.04, -0.02, -0.78, 0.42, 1.65),
    "1/sqrt(t)": (-0.94, -0.07, 0.02, -0.24, 0.09, 1.67, -0.95),
}
"""Figure 9b, in the order of ``FACTORS``; which row is which is not certain in the source."""
LEAST_TRAJECTORIES = 10
LEAST_CLUSTERS = 3
MSE = "impact_ode.held_out_mse"
_SQUARED = "squared daily volatility"
_NO_CEILING = "no ceiling: how well impact can be foretold at best is unknown"


@dataclass(frozen=True)
class ImpactOde(Metric):
    """How much better than the square-root process a learned ODE foretells the impact of metaorders.

    Formula
        Y(t) is the path of a metaorder in the generator's own market over the daily volatility, t minutes after the
        start, from Y(t0) on, t0 = ``first_minute``. dY/dt = sum_ij W_ij X_i F_j(t) with F = (1/t, 1/sqrt(t)) and seven
        factors: sqrt(Q/V) by daily volume, the mid price before the start, executed shares over those that really
        traded in the same minutes (agent_replay) and over those of the rollout (agent_rollout), depth, pressure and
        resiliency; and a factor 1, because all are centred and in standard deviations. W minimises the mean squared
        error plus a penalty on |W|_1 that is chosen by cross-validation (``marsbench.stats.impact_ode``).
        ``impact_ode.held_out_mse``: mean of (Y - model)^2 over trajectories and minutes after t0, on clusters that
        neither weights nor penalty have seen (10 folds). ``.gain_over_base.<reading>``: the mean squared error of the
        paper's equation 14, dY/dt = sigma sqrt(Q/V) F(t), less that; the text lost a radical, so F is 1/sqrt(t)
        (``inverse_sqrt``) or 1/t (``inverse``). ``.gain_over_free_base.<reading>``: the same of that base times one
        amplitude, fitted to the training clusters. ``.autocorrelation.lag<k>``: correlation over trajectories of Y(t)
        and Y(t + k minutes), mean over t; of what came, not of a model.
    Range, direction, unit
        The error from 0, lower is better, in squared daily volatility; the others have no direction.
    Floor and ceiling
        Floor: the error of the better base with a free amplitude, on the same trajectories. There is no ceiling, so
        nothing is normalised.
    Interval
        Student t over the jackknife of clusters: without each group of them the cross-validation, or the fit of the
        weights, is repeated at the same penalties.
    Reference
        MarS (ICLR 2025) equations 2 and 5 to 14, section 4.3, Figures 9b and 26; Gatheral (2010).
    Known failures
        A generator in which orders have no impact has little error: read it beside its floor. Intervals of weights are
        about the penalised weights. The penalty shrinks weights and moves them from one decay function to the other,
        which are correlated to .99: with a penalty chosen by cross-validation, 95% intervals were measured to cover
        planted weights other than 0 in only 47% to 87% of draws (20 clusters). Weights without a penalty stand beside
        (``free_weight``), whose intervals cover 92% to 98%.
        Four factors know what was executed after the start. Only metaorders whose path is known to the last minute
        count, about a tenth where few runs have a tail. While trading lasts, impact grows, and an ODE from minute 1
        has to describe both. The paper states no loss weight, optimiser, split or grid, and leaves the
        auto-correlation undefined.
    """

    agent: str = "L1-P0.1"
    """Label of the agent whose metaorders count, that of the paper by default."""
    first_minute: int = 1
    """t0, minutes after the start of trading."""

    name = "impact-ode"
    version = 1
    evidence = ImpactRuns
    floor_from_baseline = False
    summary = "held-out error of a learned ODE of market impact beside the square-root process"

    def __post_init__(self) -> None:
        if self.first_minute < 1:
            raise ValueError(f"first_minute {self.first_minute}: must be 1 or more, 1/t has no integral from 0")

    def evaluate(self, evidence: ImpactRuns, rng: np.random.Generator) -> Outcome:
        del rng  # clusters are held out one after the other
        found = cases(evidence, self.agent, self.first_minute)
        if found.data is None:
            return Outcome(_missing(found), {"ode_about": _about(evidence, found)}, (found.reason,))
        data = found.data
        held = held_out(data, found.drive)
        ode = fit(data)
        tables = {
            "ode_about": _about(evidence, found, ode),
            "ode_weights": _weights(data, ode),
            "ode_autocorrelation": _autocorrelations(data, held),
            "ode_errors": _errors(held),
            "ode_paths": _paths(data, held),
        }
        return Outcome(_scores(data, held, evidence), tables, _notes(evidence, found))

    @classmethod
    def gains(cls, tables: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, tuple[float, float]]:
        """Paired by cluster: the floor is the better base with a free amplitude, on the same trajectories."""
        table = tables.get("ode_errors", {})
        columns = (table.get(name, ()) for name in ("model", "mse", "gain_ci_low", "gain_ci_high"))
        free = [row for row in zip(*columns, strict=True) if row[0].startswith("free.") and row[2] is not None]
        if not free:
            return {}
        _, _, low, high = min(free, key=lambda row: float(row[1]))
        return {MSE: (-high, -low)}

    @classmethod
    def known_answers(cls) -> Sequence[KnownAnswer]:
        from ._known_ode import known_odes

        return known_odes()

    @classmethod
    def draw(cls, tables: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, Figure]:
        from ._ode_figures import draw

        return draw(tables)


@dataclass(frozen=True)
class Cases:
    """Trajectories of one agent, and how many were left out."""

    agent: str
    metaorders: int
    """Of the agent."""
    known: int
    """Of these, with a path that is known from t0 to the last minute."""
    used: int
    """Of these, with every factor finite."""
    clusters: int
    """Of those used."""
    data: Trajectories | None
    """None where they are too few."""
    drive: Floats
    """``[N]`` sqrt(Q/V): what drives the base ODE, in units of the volatility."""
    reason: str
    """Why they are too few; empty where they are not."""


def cases(evidence: ImpactRuns, agent: str, first_minute: int = 1) -> Cases:
    """The trajectories that the ODE is fitted to."""
    own = np.array([label == agent for label in evidence.agents])[evidence.agent]
    paths = evidence.impacts(evidence.own, evidence.daily)[:, first_minute:]
    if paths.shape[1] < 2:
        why = f"runs of {evidence.minutes} minutes have no path after minute {first_minute}"
        return Cases(agent, int(own.sum()), 0, 0, 0, None, np.zeros(0), why)
    known = own & np.isfinite(paths).all(axis=1)
    factors = factors_of(evidence)
    keep = known & np.isfinite(factors).all(axis=1)
    clusters = len(np.unique(evidence.clusters[keep]))
    counts = (agent, int(own.sum()), int(known.sum()), int(keep.sum()), clusters)
    reason = _too_few(evidence, *counts)
    if reason:
        return Cases(*counts, None, np.zeros(0), reason)
    times = np.arange(first_minute, evidence.minutes + 1, dtype=np.float64)
    data = Trajectories(paths[keep], factors[keep], times, evidence.clusters[keep], FACTORS)
    return Cases(*counts, data, factors[keep, 0], "")


def factors_of(evidence: ImpactRuns) -> Floats:
    """``[N, 7]``: the factors of the paper, in the order of ``FACTORS``; NaN or infinite where they do not exist."""
    before, executed, start = evidence.before, evidence.own.executed_shares, evidence.start
    ask, bid = (np.asarray(side).sum(axis=1)[start] for side in (before.ask_shares, before.bid_shares))
    ticks = np.array([float(s.rules.tick_size) for s in evidence.starts])
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = (
            np.sqrt(evidence.sizes(evidence.own, evidence.daily)),
            (before.mids_ticks[:, -1] * ticks)[start],
            executed / evidence.replay_shares[start],
            executed / evidence.own.window_shares,
            lob_depth(ask, bid),
            lob_pressure(executed, ask, bid),
            resiliency(before.mids_ticks)[start],
        )
    return np.stack(columns, axis=1)


def _too_few(evidence: ImpactRuns, agent: str, metaorders: int, known: int, used: int, clusters: int) -> str:
    if not metaorders:
        return f"no metaorders of agent {agent!r}; there are some of {', '.join(evidence.agents) or 'none'}"
    if used >= LEAST_TRAJECTORIES and clusters >= LEAST_CLUSTERS:
        return ""
    where = f"{clusters} cluster{'s' * (clusters != 1)}"
    return (
        f"{used} of {metaorders} metaorders of {agent}, in {where}, have all factors and a path to minute "
        f"{evidence.minutes} ({known} have the path): at least {LEAST_TRAJECTORIES} in {LEAST_CLUSTERS} are needed"
    )


def _keys() -> dict[str, tuple[Direction, str]]:
    gains = [f"impact_ode.gain_over_{base}.{reading}" for base in ("base", "free_base") for reading in READINGS]
    lags = [f"impact_ode.autocorrelation.lag{k}" for k in LAGS]
    return {
        MSE: ("lower", _SQUARED),
        **dict.fromkeys(gains, ("none", _SQUARED)),
        **dict.fromkeys(lags, ("none", "1")),
    }


def _missing(found: Cases) -> tuple[Score, ...]:
    return tuple(
        Score(key, None, "impact", direction, unit=unit, n=found.used, clusters=found.clusters, reason=found.reason)
        for key, (direction, unit) in _keys().items()
    )


def _scores(data: Trajectories, held: HeldOut, evidence: ImpactRuns) -> tuple[Score, ...]:
    floor = min(held.mse(f"free.{reading}")[0] for reading in READINGS)
    found = {MSE: held.mse(LEARNED)}
    for base, kind in (("base", "base"), ("free_base", "free")):
        for reading in READINGS:
            found[f"impact_ode.gain_over_{base}.{reading}"] = held.gain(f"{kind}.{reading}")
    value, interval = autocorrelation(data.paths, data.label)
    for i, k in enumerate(LAGS):
        found[f"impact_ode.autocorrelation.lag{k}"] = float(value[i]), _at(interval, i)
    every = data.clusters == len(np.unique(evidence.start_clusters))
    return tuple(_score(key, *found[key], data, floor=floor if key == MSE else None, paired=every) for key in _keys())


def _at(interval: Interval, i: int) -> Interval:
    deleted = None if interval.deleted is None else interval.deleted[:, i]
    return Interval(interval.low[i], interval.high[i], interval.method, interval.clusters, interval.reason, deleted)


def _score(
    key: str, value: float, interval: Interval, data: Trajectories, *, floor: float | None, paired: bool
) -> Score:
    direction, unit = _keys()[key]
    limits = (0.0, np.inf) if key == MSE else (-1.0, 1.0) if unit == "1" else (-np.inf, np.inf)
    shown = within(interval, *limits)
    low, high = number(shown.low), number(shown.high)
    reason = interval.reason or (_NO_CEILING if key == MSE else None)
    if number(value) is None:
        reason = "runs are too short for this lag, or all trajectories agree"
    kept = replicates(interval) if paired and number(value) is not None else ()  # pairs need the same clusters
    return Score(
        key, number(value), "impact", direction, unit=unit, ci_low=low, ci_high=high,
        ci_method=interval.method if low is not None else None, floor=floor, n=len(data.paths),
        clusters=data.clusters, reason=reason, replicates=kept,
        replicate_units=f"{data.clusters} clusters" if kept else None,
    )  # fmt: skip


def _weights(data: Trajectories, ode: LearnedOde) -> Table:
    """Weights with and without the penalty, beside those of the paper."""
    free = fit(data, penalty=0.0)
    intervals = weight_interval(data, ode), weight_interval(data, free)
    rows = []
    for i, factor in enumerate(ode.names):
        for j, decay in enumerate(ode.decays):
            row: dict[str, Any] = {"factor": factor, "decay": decay.name}
            for prefix, model, interval in zip(("", "free_"), (ode, free), intervals, strict=True):
                ends = {"ci_low": number(interval.low[i, j]), "ci_high": number(interval.high[i, j])}
                row |= {f"{prefix}{name}": x for name, x in ({"weight": float(model.weights[i, j])} | ends).items()}
            ours = factor == CONSTANT
            row["paper"] = None if ours else PAPER_WEIGHTS[decay.name][i]
            row["mean"], row["scale"] = (None, None) if ours else (number(ode.mean[i]), number(ode.scale[i]))
            rows.append(row)
    return _columns(rows)


def _autocorrelations(data: Trajectories, held: HeldOut) -> Table:
    value, interval = autocorrelation(data.paths, data.label)
    models = {model: autocorrelation(held.paths[model], data.label)[0] for model in _shown()}
    return _columns([
        {"lag": k, "truth": number(value[i]), "ci_low": number(interval.low[i]), "ci_high": number(interval.high[i])}
        | {name: number(models[model][i]) for model, name in _shown().items()}
        for i, k in enumerate(LAGS)
    ])  # fmt: skip


def _shown() -> dict[str, str]:
    """Models of figures and the columns of tables that they are in."""
    return {LEARNED: "learned", **{f"base.{reading}": f"base_{reading}" for reading in READINGS}}


def _errors(held: HeldOut) -> Table:
    rows = []
    for model in held.models:
        (mse, interval), (gain, over) = held.mse(model), held.gain(model)
        shown = within(interval, 0.0, np.inf)
        row = {"model": model, "mse": mse, "ci_low": number(shown.low), "ci_high": number(shown.high)}
        ends = {"gain": gain, "gain_ci_low": number(over.low), "gain_ci_high": number(over.high)}
        rows.append(row | (ends if model != LEARNED else dict.fromkeys(ends)))
    return _columns(rows)


def _paths(data: Trajectories, held: HeldOut) -> Table:
    means = {"truth": data.paths.mean(axis=0)}
    means |= {name: held.paths[model].mean(axis=0) for model, name in _shown().items()}
    return {
        "minute": [float(t) for t in data.times],
        **{name: [number(x) for x in values] for name, values in means.items()},
    }


def _columns(rows: Sequence[Mapping[str, Any]]) -> Table:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _about(evidence: ImpactRuns, found: Cases, ode: LearnedOde | None = None) -> Table:
    facts = {
        "agent": found.agent,
        "metaorders": f"{found.metaorders:,}",
        "path_known": f"{found.known:,}",
        "trajectories": f"{found.used:,}",
        "clusters": str(found.clusters),
        "minutes": str(evidence.minutes),
        "trading_minutes": str(evidence.trading_minutes),
        "single_day": "yes" if evidence.single_day else "no",
    }
    if ode is not None:
        facts["penalty"] = f"{ode.penalty:.4g}"
    return {"name": list(facts), "value": list(facts.values())}


def _notes(evidence: ImpactRuns, found: Cases) -> tuple[str, ...]:
    words = [
        f"{found.used:,} trajectories in {found.clusters} clusters, of {found.metaorders:,} metaorders of "
        f"{found.agent}: {found.metaorders - found.known:,} have no path to minute {evidence.minutes}, "
        f"{found.known - found.used:,} lack a factor",
        "rows of the paper's Figure 9b are printed without certain labels: its weights are a qualitative target",
    ]
    if evidence.single_day:
        words.append("one day: blocks depend on each other, and conclusions hold within it")
    return tuple(words)
