"""The tables of the law of impact, from which its figures are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.impact_runs import Arm, ImpactRuns
from marsbench.simulation.execution import price_advantage_bps
from marsbench.stats.impact_law import Law, fit_decay, fit_law

from ._impact_statistics import Market, interval_of
from ._scoring import number

Floats = NDArray[np.float64]
Table = dict[str, list[Any]]
ALL = "all"
MARKETS = {"own": "own", "overlay": "overlay", "truth": "truth", "other_truth": "truth again"}
HOLDS, FAILS, OPEN = "holds", "fails", "inconclusive"
LESS = "leaves less momentum after it ends than"


def tables_of(runs: ImpactRuns, weights: Floats) -> dict[str, Table]:
    """All of them; see each function."""
    arms = {words: arm for name, words in MARKETS.items() if (arm := getattr(runs, name)) is not None}
    markets = {name: Market(runs, arm, runs.daily) for name, arm in arms.items()}
    found = {
        "impact_laws": _laws(runs, arms),
        "impact_points": _points(markets, weights),
        "impact_paths": _paths(markets, weights),
        "impact_fulfilment": _fulfilment(markets, weights),
        "impact_decay": _decay(markets, weights),
        "impact_kyle": _kyle(markets, weights),
        "impact_checks": _checks(markets, weights),
        "impact_pairing": _pairing(markets, weights),
        "impact_findings": _findings(markets, weights),
        "impact_about": _about(runs),
    }
    return found | _example(runs)


def _rows(rows: list[dict[str, Any]]) -> Table:
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}


def ends_of(found: Floats, clusters: int, used: int | None = None) -> dict[str, float | None]:
    """Value and interval from value and replicates ``[1 + G]``; see ``interval_of``."""
    value = number(found[0])
    if value is None:
        return {"value": None, "ci_low": None, "ci_high": None}
    interval = interval_of(found, clusters, used)
    return {"value": value, "ci_low": number(interval.low), "ci_high": number(interval.high)}


def _agents(runs: ImpactRuns) -> dict[str, NDArray[np.bool_]]:
    """Metaorders of all agents, and of each."""
    own = {name: runs.agent == a for a, name in enumerate(runs.agents)}
    return {ALL: np.ones(len(runs.agent), bool), **own}


def _laws(runs: ImpactRuns, arms: Mapping[str, Arm]) -> Table:
    """The law in each market, by agent and pooled, with both normalisers."""
    rows = []
    for name, arm in arms.items():
        for words, normaliser in (("day", runs.daily), ("window", runs.window)):
            market = Market(runs, arm, normaliser)
            for agent, keep in _agents(market.runs).items():
                good = keep & market.known & (market.size > 0)
                law = fit_law(
                    market.size[good], market.impact[good, market.end], market.runs.clusters[good], market.clusters
                )
                rows.append({"market": name, "agent": agent, "normaliser": words, **_law(law, int(good.sum()))})
    return _rows(rows)


def _law(law: Law | None, n: int) -> dict[str, Any]:
    if law is None:
        names = ("delta", "delta_low", "delta_high", "y", "y_low", "y_high", "r2", "decades", "aic_less_linear",
                 "aic_less_logarithm")  # fmt: skip
        return {"n": n, **dict.fromkeys(names), "verdict": OPEN}
    values = {
        "delta": law.delta, "delta_low": law.delta_low, "delta_high": law.delta_high, "y": law.prefactor,
        "y_low": law.prefactor_low, "y_high": law.prefactor_high, "r2": law.r2, "decades": law.decades,
        "aic_less_linear": law.aic_less_linear, "aic_less_logarithm": law.aic_less_logarithm,
    }  # fmt: skip
    return {"n": n, **{name: number(v) for name, v in values.items()}, "verdict": law.verdict}


def _points(markets: Mapping[str, Market], weights: Floats) -> Table:
    """Mean size and impact of each agent's sizes, with the participation in what traded meanwhile."""
    rows = []
    for name, market in markets.items():
        runs = market.runs
        ranks = int(runs.rank.max()) + 1
        cell = runs.agent * ranks + runs.rank
        share = market.arm.executed_shares / np.maximum(market.arm.window_shares, 1)
        impact = market.peaks(weights)
        size, participation = (market.mean(x, market.known, weights, cell)[0] for x in (market.size, share))
        for c in range(impact.shape[1]):
            row = {"market": name, "agent": runs.agents[c // ranks], "rank": c % ranks}
            row |= {"size": number(size[c]), "participation": number(participation[c])}
            rows.append({**row, **ends_of(impact[:, c], market.clusters), "n": int((market.known & (cell == c)).sum())})
    return _rows(rows)


def _paths(markets: Mapping[str, Market], weights: Floats) -> Table:
    """Mean impact by agent and minute, of the metaorders that are followed to the end."""
    rows = []
    for name, market in markets.items():
        paths = market.paths(weights, same=True)
        used = market.about(market.tail if market.tail.any() else market.known)
        for a, agent in enumerate(market.runs.agents):
            rows.append({"market": name, "agent": agent, "minute": 0, "value": 0.0, "ci_low": 0.0, "ci_high": 0.0})
            rows += [
                {"market": name, "agent": agent, "minute": m + 1, **ends_of(paths[:, a, m], market.clusters, used)}
                for m in range(paths.shape[2])
            ]
    return _rows(rows)


def _fulfilment(markets: Mapping[str, Market], weights: Floats) -> Table:
    """Executed share of the target by agent and size, and how much better than the mid at the start it was."""
    rows = []
    for name, market in markets.items():
        runs, arm = market.runs, market.arm
        ranks = int(runs.rank.max()) + 1
        cell = runs.agent * ranks + runs.rank
        filled = arm.executed_shares / np.maximum(runs.target_shares, 1)
        passive = arm.passive_shares / np.maximum(arm.executed_shares, 1)
        gain = price_advantage_bps(runs.side, arm.price_ticks, runs.before.mids_ticks[runs.start, -1])
        everything = np.ones(len(filled), bool)
        found = market.mean(filled, everything, weights, cell)
        size, rest, better = (market.mean(x, everything, weights, cell)[0] for x in (market.size, passive, gain))
        for c in range(found.shape[1]):
            row = {"market": name, "agent": runs.agents[c // ranks], "rank": c % ranks, "size": number(size[c])}
            more = {"passive_share": number(rest[c]), "price_advantage_bps": number(better[c])}
            rows.append({**row, **ends_of(found[:, c], market.clusters), **more})
    return _rows(rows)


def _decay(markets: Mapping[str, Market], weights: Floats) -> Table:
    """What is left of the impact at the end of the tail, by agent, and the curve fitted to it."""
    rows = []
    for name, market in markets.items():
        after = market.afterwards(weights)
        z = np.arange(after.shape[1]) / market.end
        late = z >= 1
        fits = np.array([fit_decay(z[late], row[late]) for row in after])
        for agent, keep in _agents(market.runs).items():
            used = market.about(market.tail & keep)
            row = {"market": name, "agent": agent, **ends_of(market.relaxation(weights, keep), market.clusters, used)}
            curve = dict.fromkeys(("rest", "rest_low", "rest_high", "exponent", "exponent_low", "exponent_high"))
            if agent == ALL:
                for k, part in enumerate(("rest", "exponent")):
                    ends = ends_of(fits[:, k], market.clusters, used)
                    curve |= {part: ends["value"], f"{part}_low": ends["ci_low"], f"{part}_high": ends["ci_high"]}
            rows.append({**row, **curve, "n": int((market.tail & keep).sum())})
    return _rows(rows)


def _kyle(markets: Mapping[str, Market], weights: Floats) -> Table:
    """Kyle's lambda by horizon: daily volatilities per daily volume."""
    rows = []
    for name, market in markets.items():
        found, used = market.kyle(weights), (market.about(market.known), market.about(market.tail))
        rows += [
            {"market": name, "minute": m + 1, **ends_of(found[:, m], market.clusters, used[m >= market.end])}
            for m in range(found.shape[1])
        ]
    return _rows(rows)


def _checks(markets: Mapping[str, Market], weights: Floats) -> Table:
    """Symmetry of sides, monotonicity in size, and what rules out making money by trading to and fro."""
    rows = []
    for name, market in markets.items():
        decay = _gatheral(market, weights)
        checks = {
            "sides alike: (buy - sell) / mean": (market.asymmetry(weights), contains(0.0)),
            "larger sizes move more: share of pairs": (market.monotonicity(weights), above(0.5)),
            "trading costs: mean of side ln(price / mid at the start)": (_cost(market, weights), above(0.0)),
            "no-arbitrage: gamma + delta, at least 1": (decay, above(1.0)),
        }
        for check, (found, judge) in checks.items():
            ends = ends_of(found, market.clusters, market.about(market.tail) if found is decay else None)
            rows.append({"market": name, "check": check, **ends, "verdict": judge(ends)})
    return _rows(rows)


def contains(value: float) -> Any:
    """Judges whether an interval contains a value."""

    def judge(ends: Mapping[str, float | None]) -> str:
        low, high = ends["ci_low"], ends["ci_high"]
        return OPEN if low is None or high is None else HOLDS if low <= value <= high else FAILS

    return judge


def above(value: float) -> Any:
    """Judges whether an interval lies above a value, below it, or on both sides."""

    def judge(ends: Mapping[str, float | None]) -> str:
        low, high = ends["ci_low"], ends["ci_high"]
        if low is None or high is None:
            return OPEN
        return HOLDS if low > value else FAILS if high < value else OPEN

    return judge


def _cost(market: Market, weights: Floats) -> Floats:
    """Mean cost of execution against the mid at the start, in daily volatilities; drifts cancel between the sides."""
    runs = market.runs
    with np.errstate(invalid="ignore", divide="ignore"):
        paid = runs.side * np.log(market.arm.price_ticks / runs.before.mids_ticks[runs.start, -1])
    return market.mean(paid / runs.daily.sigma[runs.start], market.known, weights)


def _gatheral(market: Market, weights: Floats) -> Floats:
    """Exponents of the decay to nothing and of the law, added (Gatheral 2010: at least 1 without manipulation)."""
    after = market.afterwards(weights)
    z = np.arange(after.shape[1]) / market.end
    late = z > 1
    x = np.log(z[late])
    with np.errstate(invalid="ignore", divide="ignore"):
        decay = -(np.log(after[:, late]) * x).sum(axis=1) / (x**2).sum()
    return np.asarray(decay + market.law(weights)[0])


def _pairing(markets: Mapping[str, Market], weights: Floats) -> Table:
    """The null agent, what pairing saves, and what was refused."""
    rows = []
    for name, market in markets.items():
        end = market.end
        paired, null = market.impact[:, end], market.drift[:, end]
        good = np.isfinite(paired) & np.isfinite(null)
        alone = paired[good] + null[good]
        both = np.array([alone.var(), null[good].var(), paired[good].var()])
        two = bool(good.sum() > 2 and both[:2].min() > 0)
        moved = market.runs.side * null  # the control arm's own return, which is no impact
        drift = ends_of(market.mean(moved, market.known, weights), market.clusters)
        rows.append({
            "market": name,
            "null_drift": drift["value"], "null_low": drift["ci_low"], "null_high": drift["ci_high"],
            "correlation": number(np.corrcoef(alone, null[good])[0, 1]) if two else None,
            "variance_saved": number(1 - both[2] / (both[0] + both[1])) if two else None,
            "sd_paired": number(np.sqrt(both[2])) if good.any() else None,
            "sd_unpaired": number(np.sqrt(both[0] + both[1])) if good.any() else None,
            "participation": number(_participation(market)),
            "rejected": int(market.arm.rejected.sum()),
        })  # fmt: skip
    return _rows(rows)


def _participation(market: Market) -> float:
    """Executed shares over all that traded meanwhile."""
    return float(market.arm.executed_shares.sum() / max(int(market.arm.window_shares.sum()), 1))


def _findings(markets: Mapping[str, Market], weights: Floats) -> Table:
    """What MarS finds about its agents, here: differences between agents that else do the same."""
    rows = []
    for name, market in markets.items():
        for finding, found in differences(market, weights).items():
            ends = ends_of(found, market.clusters, market.about(market.tail) if LESS in finding else None)
            rows.append({"market": name, "finding": finding, **ends, "verdict": above(0.0)(ends)})
    return _rows(rows)


def differences(market: Market, weights: Floats) -> dict[str, Floats]:
    """What MarS finds, as differences that are positive where it holds, each ``[B]``."""
    runs = market.runs
    number_of = {name: a for a, name in enumerate(runs.agents)}
    end, filled = market.impact[:, market.end], market.arm.executed_shares / np.maximum(runs.target_shares, 1)

    def of(values: Floats, agent: str) -> Floats:
        return market.mean(values, market.known & (runs.agent == number_of[agent]), weights)

    found: dict[str, Floats] = {}
    for ratio in ("0.1", "0.9"):
        far, near = f"L5-P{ratio}", f"L1-P{ratio}"
        if far in number_of and near in number_of:
            found[f"{far} has more impact than {near}"] = of(end, far) - of(end, near)
            found[f"{far} fulfils more than {near}"] = of(filled, far) - of(filled, near)
    for level in ("L1", "L5"):
        little, much = f"{level}-P0.1", f"{level}-P0.9"
        if little in number_of and much in number_of:
            pair = [market.momentum(weights, runs.agent == number_of[a]) for a in (little, much)]
            found[f"{much} {LESS} {little}"] = pair[0] - pair[1]
    return found


def _about(runs: ImpactRuns) -> Table:
    sizes = runs.target_shares / runs.daily.shares[runs.start]
    facts = {
        "metaorders": f"{len(runs.start):,}",
        "starts": f"{len(runs.starts):,}",
        "clusters": str(len(np.unique(runs.start_clusters))),
        "smallest size": f"{sizes.min():.5f} of a day's volume",
        "largest size": f"{sizes.max():.5f} of a day's volume",
        "decades of sizes": f"{np.log10(np.quantile(sizes, 0.99) / np.quantile(sizes, 0.01)):.2f}",
        "daily normaliser": "volatility and volume of a day, from the latest training days",
        "window normaliser": f"the same of {runs.trading_minutes} minutes, from the half hour before the start",
        "true rollouts": str(runs.rollouts(runs.truth)) if runs.truth is not None else "not known",
        "single_day": "yes" if runs.single_day else "no",
    }
    return {"name": list(facts), "value": list(facts.values())}


def _example(runs: ImpactRuns) -> dict[str, Table]:
    """One metaorder in full."""
    if runs.example is None:
        return {}
    one = runs.example
    columns = {"second": one.seconds, "with": one.mid_with, "without": one.mid_without, "replay": one.mid_replay}
    events = {"second": one.event_seconds, "price": one.event_price, "shares": one.event_shares}
    titles = {
        "title": f"{one.agent} {'buys' if one.side > 0 else 'sells'} {one.executed_shares:,} shares from {one.start}"
    }
    return {
        "impact_example": {name: [number(v) for v in values] for name, values in columns.items()},
        "impact_example_events": {name: [number(v) for v in values] for name, values in events.items()},
        "impact_example_title": {name: [value] for name, value in titles.items()},
    }
