"""What somebody who trades has executed in one market, and where the mid went meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marsbench.market.orders import MARKET, Kind, Reason
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import MINUTE
from marsbench.market.trajectory import Trajectory
from marsbench.stats.metaorders import MidPath

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Executed:
    """One metaorder in one market."""

    shares: int
    passive_shares: int
    """Of them as resting orders."""
    price_ticks: float
    """Mean price; NaN where nothing was executed."""
    window_shares: int
    """Traded by anybody within the first minutes."""
    rejected: int
    """Messages of the agent that were refused."""
    log_mid: Floats
    """``[M + 1]`` at the start and after each minute, in ticks; NaN where the book is one-sided or time is over."""


def executed(trajectory: Trajectory, side: int, *, trading_minutes: int, minutes: int) -> Executed:
    """Measure the orders of whoever is not the market, of one side (+1 buys), and the mid at each minute."""
    done = replay_trajectory(trajectory, levels=1)
    own_kind = int(Kind.BID if side > 0 else Kind.ASK)
    fills, orders = trajectory.fills, trajectory.orders
    own = fills["bid_owner" if side > 0 else "ask_owner"] != MARKET
    shares = fills["size_shares"].astype(np.int64)
    total = int(shares[own].sum())
    paid = int((shares * fills["price_ticks"])[own].sum())
    until = _clock(trajectory, trading_minutes)
    return Executed(
        shares=total,
        passive_shares=int(shares[own & (fills["side"] != own_kind)].sum()),
        price_ticks=paid / total if total else float("nan"),
        window_shares=int(shares[fills["time_ns"] <= until].sum()),
        rejected=int(((orders["owner"] != MARKET) & (done.reason != Reason.OK)).sum()),
        log_mid=log_mids(MidPath(trajectory, done=done), trajectory, minutes),
    )


def log_mids(path: MidPath, trajectory: Trajectory, minutes: int) -> Floats:
    """``[minutes + 1]`` log mid in ticks at the start and after each minute; NaN after the end."""
    at = np.array([_clock(trajectory, m) for m in range(minutes + 1)])
    out = np.concatenate([path.before(at[:1]), path.after(at[1:])])
    out[at > trajectory.end_ns] = np.nan
    return out


def _clock(trajectory: Trajectory, minutes: int) -> int:
    """Clock time so many minutes of trading after the start."""
    rules = trajectory.rules
    return int(rules.clock_ns(rules.trading_ns(trajectory.start_ns) + minutes * MINUTE))
