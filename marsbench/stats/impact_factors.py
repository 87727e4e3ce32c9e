"""Factors that may explain market impact beyond the square root of the size: three of MarS, and the classic ones.

The three are equations 5 to 11 of MarS (ICLR 2025, appendix K). The classic ones describe prices, volumes and the
book before the trade. Those that contain anything from after the start are marked, because they foretell nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from marsbench.impact_runs import Arm, ImpactRuns

Floats = NDArray[np.float64]

FLAT_TICKS = 0.1
"""A momentum of mids counts as no smaller than so many ticks over the mid: the logarithm of a flat mid is endless."""
MINUTES = (1, 5, 10)
"""Windows of the classic factors, in whole minutes before the start."""
LEVELS = (1, 5, 10)
"""Depths of the classic factors, in price levels from the best."""


def resiliency(mids_ticks: ArrayLike, *, weights: ArrayLike | None = None) -> Floats:
    """1 - ln |m|, m the weighted mean of earlier mids over the last mid, less 1: large where the price stood still.

    MarS equations 5 and 8. ``|m|`` is clamped at ``FLAT_TICKS`` over the last mid.

    Parameters
    ----------
    mids_ticks
        ``[N, B + 1]`` mids by minute, in ticks; the last column is the minute before the start.
    weights
        ``[B]`` weights of the earlier minutes, each in (0, 1), of sum 1. Equal if None.

    Returns
    -------
    ``[N]``; NaN where a mid is missing.

    Raises
    ------
    ValueError
        For fewer than 3 minutes without and 2 earlier ones with these weights, for weights outside (0, 1) or of
        another sum, and for mids that are not positive.
    """
    mids = np.asarray(mids_ticks, np.float64)
    if mids.ndim != 2 or mids.shape[1] < 3:
        raise ValueError(f"mids_ticks has shape {mids.shape}; it must be [N, B + 1] with B of 2 or more")
    if (mids <= 0).any():
        raise ValueError(f"mids_ticks must be positive, the least is {np.nanmin(mids):g}")
    earlier, last = mids[:, :-1], mids[:, -1]
    moment = earlier @ _minute_weights(weights, earlier.shape[1]) / last - 1
    return np.asarray(1 - np.log(np.maximum(np.abs(moment), FLAT_TICKS / last)))


def _minute_weights(weights: ArrayLike | None, minutes: int) -> Floats:
    if weights is None:
        return np.full(minutes, 1 / minutes)
    given = np.asarray(weights, np.float64)
    if given.shape != (minutes,):
        raise ValueError(f"weights has shape {given.shape}; {minutes} earlier minutes need ({minutes},)")
    if not ((given > 0) & (given < 1)).all() or abs(given.sum() - 1) > 1e-9:
        raise ValueError(f"weights must lie in (0, 1) and sum to 1, got {given.tolist()} of sum {given.sum():g}")
    return given


def lob_pressure(
    executed_shares: ArrayLike, ask_shares: ArrayLike, bid_shares: ArrayLike, *, alpha: float = 0.5
) -> Floats:
    """How much of each side the agent traded, times how lopsided the book was, in [0, 1].

    MarS equations 6 and 9 to 11: ``(alpha A / (A + ask) + (1 - alpha) A / (A + bid)) |ask - bid| / (ask + bid)``.
    The text lost the sign between the two parts; a product fits the range of its Figure 24a. It contains what was
    executed, so it is known only after the trade; with the target in its place it foretells.

    Parameters
    ----------
    executed_shares
        ``[N]`` A, what the agent traded.
    ask_shares, bid_shares
        ``[N]`` shares resting on each side at the start.
    alpha
        Weight of the ask side, in (0, 1).

    Returns
    -------
    ``[N]``: 0 where nothing was executed; a side that is empty counts as traded whole; NaN where both are empty.

    Raises
    ------
    ValueError
        For an ``alpha`` outside (0, 1), or negative shares.
    """
    _in_unit("alpha", alpha)
    executed, ask, bid = _shares(executed_shares=executed_shares, ask_shares=ask_shares, bid_shares=bid_shares)
    taken = alpha * _share(executed, ask) + (1 - alpha) * _share(executed, bid)
    return np.asarray(taken * np.abs(imbalance(ask, bid)))


def lob_depth(ask_shares: ArrayLike, bid_shares: ArrayLike, *, beta: float = 0.5) -> Floats:
    """ln(beta ask + (1 - beta) bid), MarS equation 7.

    Parameters
    ----------
    ask_shares, bid_shares
        ``[N]`` shares resting on each side at the start.
    beta
        Weight of the ask side, in (0, 1).

    Returns
    -------
    ``[N]``; NaN where both sides are empty.

    Raises
    ------
    ValueError
        For a ``beta`` outside (0, 1), or negative shares.
    """
    _in_unit("beta", beta)
    ask, bid = _shares(ask_shares=ask_shares, bid_shares=bid_shares)
    return _log(beta * ask + (1 - beta) * bid)


def imbalance(ahead: ArrayLike, behind: ArrayLike) -> Floats:
    """(ahead - behind) / (ahead + behind) in [-1, 1]; NaN where both are 0."""
    a, b = np.asarray(ahead, np.float64), np.asarray(behind, np.float64)
    out = np.full(np.broadcast(a, b).shape, np.nan)
    return np.asarray(np.divide(a - b, a + b, out=out, where=a + b > 0))


def _share(executed: Floats, resting: Floats) -> Floats:
    total = executed + resting
    return np.divide(executed, total, out=np.where(np.isnan(total), np.nan, 0.0), where=total > 0)


def _in_unit(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {value}")


def _shares(**columns: ArrayLike) -> list[Floats]:
    out = [np.asarray(column, np.float64) for column in columns.values()]
    for name, column in zip(columns, out, strict=True):
        if (column < 0).any():
            raise ValueError(f"{name} must not be negative, the least is {np.nanmin(column):g}")
    return out


def _log(x: Floats) -> Floats:
    """ln x; NaN where x is not positive."""
    return np.log(x, out=np.full(np.shape(x), np.nan), where=x > 0)


@dataclass(frozen=True)
class Factor:
    """One number about each metaorder that may say how large its impact is."""

    compute: Callable[[ImpactRuns, Arm], Floats]
    """``[N]`` of the evidence and one of its arms; NaN where it does not exist."""
    predictive: bool
    """False where it contains anything that happened after the start."""
    about: str


def _return(runs: ImpactRuns, arm: Arm, *, minutes: int) -> Floats:
    """Log return over the minutes before, in its own volatility, towards the agent's side."""
    del arm
    mids = np.log(_minutes(runs.before.mids_ticks, minutes + 1))
    unit = runs.window.sigma * np.sqrt(minutes / runs.trading_minutes)
    return np.asarray(runs.side * _over(mids[:, -1] - mids[:, 0], unit)[runs.start])


def _absolute_return(runs: ImpactRuns, arm: Arm, *, minutes: int) -> Floats:
    return np.abs(_return(runs, arm, minutes=minutes))


def _recent_volatility(runs: ImpactRuns, arm: Arm) -> Floats:
    del arm
    steps = np.diff(np.log(_minutes(runs.before.mids_ticks, MINUTES[-1] + 1)), axis=1)
    spread = np.sqrt((steps**2).mean(axis=1) * runs.trading_minutes)
    floor = np.sqrt(runs.trading_minutes) * FLAT_TICKS / runs.before.mids_ticks[:, -1]
    return _log(_over(np.maximum(spread, floor), runs.window.sigma))[runs.start]


def _volatility_ratio(runs: ImpactRuns, arm: Arm) -> Floats:
    del arm
    return _log(_over(runs.window.sigma, runs.daily.sigma))[runs.start]


def _volume_ratio(runs: ImpactRuns, arm: Arm) -> Floats:
    del arm
    traded = _minutes(runs.before.traded_shares, MINUTES[-1]).sum(axis=1)
    return np.asarray((np.log1p(traded) - _log(runs.daily.shares))[runs.start])


def _flow(runs: ImpactRuns, arm: Arm, *, minutes: int) -> Floats:
    """Bought less sold over traded, towards the agent's side; 0 where nothing traded."""
    del arm
    signed, traded = (
        _minutes(series, minutes).sum(axis=1) for series in (runs.before.signed_shares, runs.before.traded_shares)
    )
    leaning = np.divide(signed, traded, out=np.where(traded == 0, 0.0, np.nan), where=traded > 0)
    return np.asarray(runs.side * leaning[runs.start])


def _absolute_flow(runs: ImpactRuns, arm: Arm, *, minutes: int) -> Floats:
    return np.abs(_flow(runs, arm, minutes=minutes))


def _message_rate(runs: ImpactRuns, arm: Arm) -> Floats:
    del arm
    return np.asarray(np.log1p(_minutes(runs.before.orders, MINUTES[-1]).mean(axis=1))[runs.start])


def _spread_ticks(runs: ImpactRuns, arm: Arm) -> Floats:
    del arm
    return _log(runs.before.spread_ticks)[runs.start]


def _spread_relative(runs: ImpactRuns, arm: Arm) -> Floats:
    """Spread over the mid, in the volatility of a minute."""
    del arm
    minute = runs.window.sigma / np.sqrt(runs.trading_minutes)
    return _log(_over(runs.before.spread_ticks / runs.before.mids_ticks[:, -1], minute))[runs.start]


def sides(runs: ImpactRuns, levels: int) -> tuple[Floats, Floats]:
    """Shares within the best ``levels`` prices ahead of the agent (asks, for a buy) and behind it, each ``[N]``."""
    ask, bid = (side[:, :levels].sum(axis=1)[runs.start] for side in (runs.before.ask_shares, runs.before.bid_shares))
    buys = runs.side > 0
    return np.where(buys, ask, bid), np.where(buys, bid, ask)


def _book_imbalance(runs: ImpactRuns, arm: Arm, *, levels: int) -> Floats:
    del arm
    return imbalance(*sides(runs, levels))


def _depth(runs: ImpactRuns, arm: Arm, *, levels: int) -> Floats:
    del arm
    return lob_depth(*sides(runs, levels))


def _depth_to_target(runs: ImpactRuns, arm: Arm, *, levels: int, ahead: bool) -> Floats:
    del arm
    return _log(_over(sides(runs, levels)[0 if ahead else 1], runs.target_shares))


def _size(runs: ImpactRuns, arm: Arm) -> Floats:
    return runs.sizes(arm, runs.daily)


def _root_size(runs: ImpactRuns, arm: Arm) -> Floats:
    return np.sqrt(runs.sizes(arm, runs.daily))


def _target_size(runs: ImpactRuns, arm: Arm) -> Floats:
    del arm
    return np.asarray(runs.target_shares / runs.daily.shares[runs.start])


def _root_target(runs: ImpactRuns, arm: Arm) -> Floats:
    return np.sqrt(_target_size(runs, arm))


def _participation(runs: ImpactRuns, arm: Arm) -> Floats:
    return _over(arm.executed_shares, arm.window_shares)


def _target_participation(runs: ImpactRuns, arm: Arm) -> Floats:
    del arm
    return _over(runs.target_shares, runs.window.shares[runs.start])


def _resiliency(runs: ImpactRuns, arm: Arm) -> Floats:
    del arm
    return resiliency(runs.before.mids_ticks)[runs.start]


def _pressure(runs: ImpactRuns, arm: Arm, *, of_target: bool) -> Floats:
    shares = runs.target_shares if of_target else arm.executed_shares
    ask, bid = (side.sum(axis=1)[runs.start] for side in (runs.before.ask_shares, runs.before.bid_shares))
    return lob_pressure(shares, ask, bid)


def _minutes(series: Floats, count: int) -> Floats:
    """The last ``count`` columns; NaN where there are fewer."""
    return series[:, -count:] if series.shape[1] >= count else np.full((len(series), count), np.nan)


def _over(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """The ratio; NaN where the denominator is not positive."""
    n, d = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.asarray(np.divide(n, d, out=np.full(np.broadcast(n, d).shape, np.nan), where=d > 0))


_BEFORE = (
    ("return_{}m", _return, "log return over {} min before, towards the agent's side, in its volatility"),
    ("abs_return_{}m", _absolute_return, "absolute log return over {} min before, in its volatility"),
    ("flow_{}m", _flow, "bought less sold by aggressors over traded, {} min before, towards the agent's side"),
    ("abs_flow_{}m", _absolute_flow, "the same without sign, {} min before"),
)

PAPER: Mapping[str, Factor] = {
    "resiliency": Factor(_resiliency, True, "1 - ln |mean of earlier mids over the last - 1|, MarS equation 5"),
    "lob_pressure": Factor(
        partial(_pressure, of_target=False), False,
        "share of the book that the agent traded, times the imbalance of the book, MarS equation 6",
    ),
    "lob_depth": Factor(partial(_depth, levels=10), True, "ln of the mean shares of both sides over 10 levels, MarS "
                        "equation 7"),
}  # fmt: skip
"""The three factors of MarS, with equal weights."""

CLASSIC: Mapping[str, Factor] = {
    **{
        name.format(k): Factor(partial(compute, minutes=k), True, about.format(k))
        for name, compute, about in _BEFORE
        for k in (MINUTES if "return" in name else MINUTES[-1:])
    },
    "recent_volatility": Factor(_recent_volatility, True, "ln of the volatility of 10 min over that of half an hour"),
    "volatility_ratio": Factor(_volatility_ratio, True, "ln of the volatility of half an hour over that of days"),
    "volume_ratio": Factor(_volume_ratio, True, "ln of shares traded in 10 min over those of a day"),
    "message_rate": Factor(_message_rate, True, "ln of 1 + messages a minute, over 10 min"),
    "spread_ticks": Factor(_spread_ticks, True, "ln of the spread in ticks"),
    "spread_relative": Factor(_spread_relative, True, "ln of the spread over the mid, in the volatility of a minute"),
    **{
        f"book_imbalance_{k}": Factor(
            partial(_book_imbalance, levels=k), True, f"shares ahead less behind over their sum, {k} levels"
        )
        for k in LEVELS
    },
    **{
        f"depth_{k}": Factor(partial(_depth, levels=k), True, f"ln of the mean shares of both sides, {k} levels")
        for k in LEVELS[:-1]  # that of ten is lob_depth
    },
    **{
        f"depth_{where}_{k}_to_target": Factor(
            partial(_depth_to_target, levels=k, ahead=where == "ahead"), True,
            f"ln of shares {where} of the agent over the shares that it is to trade, {k} levels",
        )
        for where in ("ahead", "behind")
        for k in (1, 10)
    },
    "lob_pressure_target": Factor(
        partial(_pressure, of_target=True), True, "lob_pressure of what the agent is to trade, known before"
    ),
    "target_size": Factor(_target_size, True, "shares to trade over those of a day"),
    "root_target": Factor(_root_target, True, "root of shares to trade over those of a day"),
    "target_participation": Factor(_target_participation, True, "shares to trade over those of half an hour before, "
                                   "per trading time"),
    "size": Factor(_size, False, "Q/V: shares executed over those of a day"),
    "root_size": Factor(_root_size, False, "sqrt(Q/V)"),
    "participation": Factor(_participation, False, "shares executed over those that traded meanwhile"),
}  # fmt: skip
"""Factors of prices, volumes and the book; signed ones are positive towards the side of the agent."""

FACTORS: Mapping[str, Factor] = {**PAPER, **CLASSIC}
