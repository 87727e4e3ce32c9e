"""Per-minute quantities of replay and simulations, and the labels of starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import TrajectoryPairs
from marsbench.market.bars import MinuteBars
from marsbench.market.books import Market
from marsbench.market.minutes import MarketMinutes
from marsbench.market.rules import MINUTE
from marsbench.market.trajectory import Trajectory
from marsbench.quantities import TEN, Quantity
from marsbench.stats.windows import Windows, codes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

QUANTITIES = TEN


def measured(evidence: TrajectoryPairs, quantity: Quantity) -> tuple[Floats, Floats]:
    """The quantity in replay ``[S, M]`` and in the simulations ``[S, R, M]``; computed once for all metrics.

    A k-minute return has ``M + 1 - k`` entries, the first from the start.

    Raises
    ------
    ValueError
        If its function gives another shape.
    """
    if quantity.key not in evidence.measured:
        measure(evidence, [quantity])
    found: tuple[Floats, Floats] = evidence.measured[quantity.key]
    return found


def measure(evidence: TrajectoryPairs, quantities: Sequence[Quantity]) -> None:
    """Compute several quantities at once: every market is replayed at most one more time, for all of them."""
    new = [q for q in quantities if q.key not in evidence.measured]
    for quantity in new:
        if quantity.bars is not None:
            both = (of_bars(quantity, bars) for bars in (evidence.replay_bars, evidence.simulated_bars))
            evidence.measured[quantity.key] = tuple(both)
    from_markets = [q for q in new if q.market is not None]
    if not from_markets:
        return
    replay = [_of_market(from_markets, market) for market in evidence.replay]
    able = [q for q in from_markets if not_applicable(q, evidence) is None]
    simulated = [[_of_market(able, market) for market in row] for row in evidence.simulated]
    for quantity in from_markets:
        truth = np.stack([found[quantity.key] for found in replay])
        nothing = np.full((len(truth), evidence.rollouts, truth.shape[-1]), np.nan)
        values = (
            np.stack([[found[quantity.key] for found in row] for row in simulated]) if quantity in able else nothing
        )
        evidence.measured[quantity.key] = truth, values


def of_bars(quantity: Quantity, bars: MinuteBars) -> Floats:
    """The quantity of bars ``[..., M]``."""
    assert quantity.bars is not None
    found = np.asarray(quantity.bars(bars), np.float64)
    length = max(bars.minutes + 1 - quantity.horizon, 0) if quantity.horizon else bars.minutes
    return _checked(quantity, found, (*bars.shape, length))


def of_history(quantity: Quantity, history: Trajectory, bars: MinuteBars) -> Floats:
    """The quantity of a period of which the bars are there already, ``[M]``."""
    return of_bars(quantity, bars) if quantity.bars is not None else _of_market([quantity], history)[quantity.key]


def _of_market(quantities: Sequence[Quantity], market: Market) -> dict[str, Floats]:
    """Quantities of one market period, each ``[M]``, from one replay."""
    if not quantities:
        return {}
    minutes = MarketMinutes.of(market)
    found = {}
    for quantity in quantities:
        assert quantity.market is not None
        found[quantity.key] = _checked(quantity, np.asarray(quantity.market(minutes), np.float64), (minutes.minutes,))
    return found


def _checked(quantity: Quantity, values: Floats, shape: tuple[int, ...]) -> Floats:
    if values.shape != shape:
        raise ValueError(
            f"quantity {quantity.key!r} gives an array of shape {values.shape}, must be {shape}: one number a minute "
            "(give horizon=k for a return over k minutes)"
        )
    return np.where(np.isfinite(values), values, np.nan)


def not_applicable(quantity: Quantity, evidence: TrajectoryPairs) -> str | None:
    """Why the simulations cannot have it, whatever they do; None where they can."""
    needs = quantity.needs if quantity.market is None else (*quantity.needs, "one_sided_share")  # at least a book
    return next((why for name in needs if (why := evidence.lacking.get(name))), None)


def title_for(quantity: Quantity, evidence: TrajectoryPairs) -> str:
    """Its title in figures, which says where it is not applicable."""
    return quantity.title if not_applicable(quantity, evidence) is None else f"{quantity.title} (not applicable)"


def start_minutes(evidence: TrajectoryPairs) -> Ints:
    """Minute of the trading day, breaks cut out, at which each start lies, ``[S]``."""
    return np.array([int(s.rules.trading_ns(s.clock_ns)) // MINUTE for s in evidence.starts], np.int64)


def days(evidence: TrajectoryPairs) -> Ints:
    """Number of the trading date of each start, ``[S]``."""
    return codes([s.date for s in evidence.starts])


def windows(evidence: TrajectoryPairs, bars: MinuteBars) -> Windows:
    """Bars ``[S, ...]`` or ``[S, R, ...]`` of the evidence as windows with the labels of their starts.

    Of the prices of trades; where simulations are price paths, of the mid price, in replay too.
    """
    mids = evidence.prices_alone
    return Windows.from_prices(
        bars.mid_half_ticks if mids else bars.last_trade_ticks,
        mean=None if mids else bars.mean_trade_ticks,
        volume=bars.volume_shares,
        instrument=codes(evidence.instruments),
        cluster=evidence.clusters,
        day=days(evidence),
        minute=start_minutes(evidence),
    )


def about(evidence: TrajectoryPairs) -> dict[str, list[str]]:
    """What stands behind the figures, as a table of words."""
    facts: dict[str, Any] = {
        "starts": len(evidence.starts),
        "rollouts": evidence.rollouts,
        "minutes": evidence.minutes,
        "instruments": len(set(evidence.instruments)),
        "clusters": len(set(evidence.clusters.tolist())),
        "single_day": "yes" if evidence.single_day else "no",
    }
    if evidence.prices_alone:
        facts["prices"] = "mid"
    return {"name": list(facts), "value": [str(v) for v in facts.values()]}


def notes(evidence: TrajectoryPairs) -> tuple[str, ...]:
    """Caveats that belong beside every number of this evidence."""
    found = []
    if evidence.single_day:
        found.append(
            "within-day inference only: all starts lie on one instrument and day, clusters are blocks of that day, "
            "and no difference between generators is claimed"
        )
    if evidence.prices_alone:
        found.append(
            "the simulations are price paths alone, mids at the ends of minutes: what needs a book, orders or trades "
            "is not applicable"
        )
    elif evidence.lacking:
        found.append(
            "the simulations are book snapshots alone: what needs orders or trades is not applicable, and between "
            "two snapshots the book is taken to stand still"
        )
    return tuple(found)
