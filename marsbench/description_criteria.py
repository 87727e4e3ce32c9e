"""What is asked of a data set: which numbers, how near to the real days, and the verdict of an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marsbench.stats.verdicts import FAILS, HOLDS, INCONCLUSIVE, interval_verdict

_INF = float("inf")
SIGN_EXPONENTS = (0.4, 0.6)
STAYING = (0.5, 0.85)
"""What is left of the impact at 3 and 4 durations, relative to the end: about two thirds."""
STABLE = 0.25
"""A block's volatility may differ by this share from the instrument's mean."""


@dataclass(frozen=True)
class Quantity:
    """A row of the microstructure table, and how near an instrument must be to the real day it is modelled on."""

    key: str
    label: str
    ratio: float = 0.0
    """Between real / ratio and real * ratio ..."""
    difference: float = 0.0
    """... or within real -+ difference ..."""
    region: tuple[float, float] | None = None
    """... or inside a fixed region, whatever the real days are."""

    def around(self, real: float | None) -> tuple[float, float] | None:
        """The region that a real day's value stands for."""
        if self.region is not None:
            return self.region
        if real is None:
            return None
        if self.ratio:
            return real / self.ratio, real * self.ratio
        return real - self.difference, real + self.difference

    @property
    def tolerance(self) -> str:
        if self.region is not None:
            low, high = self.region
            return f"{low:g} to {high:g}" if np.isfinite(low) else ("0" if high < 1e-9 else f"< {high:g}")
        return f"× or ÷ {self.ratio:g}" if self.ratio else f"± {self.difference:g}"


QUANTITIES: Mapping[str, tuple[Quantity, ...]] = {
    "Activity": (
        Quantity("orders_per_min", "orders per minute", 1.5),
        Quantity("sd_log_orders", "sd of log orders per minute", 1.5),
        Quantity("u_open", "orders, first 15 min / middle third", 2.0),
        Quantity("u_close", "orders, last 15 min / middle third", 2.0),
        Quantity("sd_1min_bp", "sd of 1-min returns, bp", 2.0),
        Quantity("minutes_without_trade", "share of minutes without trade", region=(-_INF, 0.02)),
    ),
    "Order mix": (
        Quantity("limit_share", "limit orders", difference=0.1),
        Quantity("market_share", "market orders", difference=0.1),
        Quantity("cancel_share", "cancels", difference=0.1),
        Quantity("limits_inside", "limit orders inside the spread", difference=0.1),
        Quantity("limits_at_touch", "limit orders at the touch", difference=0.1),
        Quantity("cancels_at_touch", "cancels at the touch", difference=0.1),
    ),
    "Limit distance behind the touch, ticks": (
        Quantity("distance_q50_ticks", "median", 2.0),
        Quantity("distance_q75_ticks", "75%", 2.0),
        Quantity("distance_q90_ticks", "90%", 2.0),
    ),
    "Spread, ticks, by time": (
        Quantity("spread_mean_ticks", "mean", 1.5),
        Quantity("spread_q10_ticks", "10%", 2.0),
        Quantity("spread_q50_ticks", "median", 2.0),
        Quantity("spread_q90_ticks", "90%", 2.0),
    ),
    "Depth, lots, by time": (
        Quantity("depth_1_lots", "level 1", 1.5),
        Quantity("depth_5_lots", "level 5", 1.5),
        Quantity("depth_10_lots", "level 10", 1.5),
        Quantity("imbalance_sd", "sd of the touch imbalance", difference=0.1),
    ),
    "Order size, lots": (
        Quantity("size_q50_lots", "median", 2.0),
        Quantity("size_q75_lots", "75%", 2.0),
        Quantity("size_q90_lots", "90%", 2.0),
        Quantity("size_q99_lots", "99%", 2.0),
        Quantity("one_lot_share", "share of one lot or less", difference=0.1),
    ),
    "Signs of market orders": (
        Quantity("sign_acf_1", "autocorrelation, lag 1", difference=0.1),
        Quantity("sign_acf_5", "lag 5", difference=0.1),
        Quantity("sign_acf_20", "lag 20", difference=0.05),
        Quantity("sign_acf_100", "lag 100", difference=0.03),
        Quantity("sign_exponent", "power-law exponent, lags 10-100", region=SIGN_EXPONENTS),
    ),
    "Health, shares of time": (
        Quantity("one_sided_share", "one side empty", region=(-_INF, 0.001)),
        Quantity("empty_share", "both sides empty", region=(-_INF, 1e-12)),
        Quantity("crossed_share", "crossed or locked", region=(-_INF, 1e-12)),
    ),
}


def judged(values: Sequence[Any], region: tuple[float, float] | None) -> str:
    """Verdict of a value and its interval on a region; a value that is missing is inconclusive."""
    if region is None:
        return ""
    low, high = (np.asarray(np.nan if v is None else v, float) for v in values[1:3])
    return interval_verdict(low, high, (region,))


def worst(verdicts: Sequence[str | None]) -> str:
    """The one that decides."""
    return next((v for v in (FAILS, INCONCLUSIVE) if v in verdicts), HOLDS)
