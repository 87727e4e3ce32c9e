"""The ten per-minute quantities of MarS Table 7, read from bars, and the labels of starts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import TrajectoryPairs
from marsbench.market.bars import MinuteBars
from marsbench.market.rules import MINUTE
from marsbench.stats.windows import Windows, codes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Quantity:
    """One row of Table 7."""

    key: str
    title: str
    unit: str
    horizon: int = 0
    """Minutes of a return; 0 for a quantity of one minute."""

    def of(self, bars: MinuteBars) -> Floats:
        """Its values, ``[..., M]``; ``[..., M + 1 - k]`` for the k-minute return, entry 0 from the start."""
        if self.horizon:
            return bars.mid_returns(self.horizon)
        return np.asarray(getattr(bars, _ATTRIBUTE[self.key]))

    def not_applicable(self, evidence: TrajectoryPairs) -> str | None:
        """Why the simulations cannot have it, whatever they do; None where they can."""
        return evidence.lacking.get(_ATTRIBUTE.get(self.key, "mid_half_ticks"))

    def title_for(self, evidence: TrajectoryPairs) -> str:
        """Its title in figures, which says where it is not applicable."""
        return self.title if self.not_applicable(evidence) is None else f"{self.title} (not applicable)"


_ATTRIBUTE = {
    "volatility": "volatility",
    "spread": "spread_ticks",
    "mean_order_volume": "mean_order_lots",
    "aggressive_order_ratio": "aggressive_ratio",
    "buy_order_ratio": "buy_ratio",
}

QUANTITIES: tuple[Quantity, ...] = (
    Quantity("volatility", "Volatility", "log return"),
    Quantity("spread", "Spread", "ticks"),
    Quantity("mean_order_volume", "Mean order volume", "lots"),
    Quantity("aggressive_order_ratio", "Aggressive order ratio", "share of new orders"),
    Quantity("buy_order_ratio", "Buy order ratio", "share of new orders"),
    *(Quantity(f"return_{k}min", f"{k}-minute return", "log return", k) for k in range(1, 6)),
)


def start_minutes(evidence: TrajectoryPairs) -> Ints:
    """Minute of the trading day, breaks cut out, at which each start lies, ``[S]``."""
    return np.array([int(s.rules.trading_ns(s.clock_ns)) // MINUTE for s in evidence.starts], np.int64)


def days(evidence: TrajectoryPairs) -> Ints:
    """Number of the trading date of each start, ``[S]``."""
    return codes([s.date for s in evidence.starts])


def windows(evidence: TrajectoryPairs, bars: MinuteBars) -> Windows:
    """Bars ``[S, ...]`` or ``[S, R, ...]`` of the evidence as windows with the labels of their starts."""
    return Windows.from_prices(
        bars.last_trade_ticks,
        mean=bars.mean_trade_ticks,
        volume=bars.volume_shares,
        instrument=codes(evidence.instruments),
        cluster=evidence.clusters,
        day=days(evidence),
        minute=start_minutes(evidence),
    )


def about(evidence: TrajectoryPairs) -> dict[str, list[str]]:
    """What stands behind the figures, as a table of words."""
    facts = {
        "starts": len(evidence.starts),
        "rollouts": evidence.rollouts,
        "minutes": evidence.minutes,
        "instruments": len(set(evidence.instruments)),
        "clusters": len(set(evidence.clusters.tolist())),
        "single_day": "yes" if evidence.single_day else "no",
    }
    return {"name": list(facts), "value": [str(v) for v in facts.values()]}


def notes(evidence: TrajectoryPairs) -> tuple[str, ...]:
    """Caveats that belong beside every number of this evidence."""
    found = []
    if evidence.single_day:
        found.append(
            "within-day inference only: all starts lie on one instrument and day, clusters are blocks of that day, "
            "and no difference between generators is claimed"
        )
    if evidence.lacking:
        found.append(
            "the simulations are book snapshots alone: what needs orders or trades is not applicable, and between "
            "two snapshots the book is taken to stand still"
        )
    return tuple(found)
