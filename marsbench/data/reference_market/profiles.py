"""The five instruments of the reference market: what is particular to each, and what they share.

Units: prices in ticks, sizes in lots, rates per minute at activity 1.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from marsbench.data.reference_market.portable_math import exp


@dataclass(frozen=True)
class Profile:
    """One instrument's parameters."""

    price_ticks: float
    """Where the first day opens, and where prices are pulled back to over months."""
    speed: float
    """Mean activity."""
    limit_rate: float
    """Limit orders near the touch."""
    patient_rate: float
    """Limit orders spread over the book."""
    noise_rate: float
    """Market orders that follow no plan."""
    near_cancel_rate: float
    """Per live order near the touch."""
    patient_cancel_rate: float
    """Per live patient order."""
    metaorders: float
    """Expected number a day at activity 1."""
    smallest_lots: float
    """Metaorders follow a Pareto law from here ..."""
    largest_lots: float
    """... up to here."""
    daily_lots: float
    """Nominal daily volume."""
    size_scale: float
    """Order sizes: lots = 1 + floor(scale (U^(-1/exponent) - 1)), cut at ``size_cap``."""
    size_exponent: float
    size_cap: float
    inside_share: float
    """Largest share of limit orders placed inside the spread ..."""
    wide_spread: float
    """... reached where the spread is this wide; also the scale of the response of limit orders to it."""
    closing_share: float
    """Share of them that leave a spread of one tick; the others lie anywhere inside."""
    touch_share: float
    """Share of the remaining limit orders that join the best price."""
    distance_scale: float
    """Distance from the own best: 1 + floor(scale (U^(-1/exponent) - 1)), cut at ``distance_cap``."""
    distance_exponent: float
    distance_cap: float
    near_distance: float
    """Orders farther away than this are patient."""
    book_width: float
    """Patient orders are uniform over so many ticks."""
    touch_taker_share: float
    """Share of market orders that are immediate-or-cancel at the best price; others are limit orders
    up to ``walk`` ticks deeper, whose rest rests."""
    walk: float
    minute_ticks: float
    """Typical standard deviation of a minute's price change."""
    fundamental_daily: float
    """Standard deviation of a day's change of the fundamental value, relative."""
    repeat_share: float
    """Share of noise market orders that repeat the side of the last market order."""
    touch_loyalty: float
    """Chance that a trader who is about to leave the best price stays."""
    round_hundreds: float
    """Share of limit orders behind the touch at multiples of 100 ticks ..."""
    round_tens: float
    """... and of 10 ticks."""
    auction_orders: float
    """Orders in the opening auction."""
    auction_width: float
    """Scale of their distance from the expected price, in ticks."""


NAMES = ("REF-A", "REF-B", "REF-C", "REF-D", "REF-E")
PROFILES: dict[str, Profile] = {
    "REF-A": Profile(
        price_ticks=5000, speed=0.86, limit_rate=105, patient_rate=6, noise_rate=30, near_cancel_rate=2,
        patient_cancel_rate=1 / 90, metaorders=500, smallest_lots=30, largest_lots=15_000, daily_lots=130_000,
        size_scale=2.5, size_exponent=1.4, size_cap=500, inside_share=0.25, wide_spread=2, closing_share=0.0,
        touch_share=0.4, distance_scale=2.4, distance_exponent=0.6, distance_cap=475, near_distance=8, book_width=150,
        touch_taker_share=0.8, walk=6, minute_ticks=4.6, fundamental_daily=0.0121, repeat_share=0.45,
        touch_loyalty=0.4, round_hundreds=0.0, round_tens=0.0, auction_orders=900, auction_width=40,
    ),
    "REF-B": Profile(
        price_ticks=2500, speed=0.896, limit_rate=132, patient_rate=6, noise_rate=22, near_cancel_rate=1.4,
        patient_cancel_rate=1 / 90, metaorders=300, smallest_lots=60, largest_lots=30_000, daily_lots=90_000,
        size_scale=6, size_exponent=1.4, size_cap=800, inside_share=0.5, wide_spread=1.5, closing_share=0.0,
        touch_share=0.4, distance_scale=1.95, distance_exponent=0.6, distance_cap=238, near_distance=8, book_width=80,
        touch_taker_share=0.8, walk=6, minute_ticks=2.2, fundamental_daily=0.0066, repeat_share=0.45,
        touch_loyalty=0.4, round_hundreds=0.0, round_tens=0.0, auction_orders=900, auction_width=20,
    ),
    "REF-C": Profile(
        price_ticks=12_000, speed=0.728, limit_rate=132, patient_rate=6, noise_rate=30, near_cancel_rate=1.8,
        patient_cancel_rate=1 / 90, metaorders=620, smallest_lots=16, largest_lots=8000, daily_lots=65_000,
        size_scale=1.2, size_exponent=1.5, size_cap=500, inside_share=0.4, wide_spread=3, closing_share=0.0,
        touch_share=0.4, distance_scale=5.2, distance_exponent=0.6, distance_cap=1140, near_distance=16, book_width=300,
        touch_taker_share=0.8, walk=12, minute_ticks=9, fundamental_daily=0.00662, repeat_share=0.2,
        touch_loyalty=0.4, round_hundreds=0.0, round_tens=0.0, auction_orders=900, auction_width=60,
    ),
    "REF-D": Profile(
        price_ticks=180_000, speed=0.88, limit_rate=102, patient_rate=11, noise_rate=30, near_cancel_rate=2.5,
        patient_cancel_rate=1 / 90, metaorders=600, smallest_lots=8, largest_lots=4000, daily_lots=25_000,
        size_scale=0.6, size_exponent=1.5, size_cap=200, inside_share=0.245, wide_spread=60, closing_share=0.14,
        touch_share=0.4, distance_scale=34, distance_exponent=0.55, distance_cap=17_100, near_distance=300,
        book_width=3500, touch_taker_share=0.6, walk=120, minute_ticks=110, fundamental_daily=0.00776, repeat_share=0.2,
        touch_loyalty=0.4, round_hundreds=0.55, round_tens=0.35, auction_orders=1300, auction_width=800,
    ),
    "REF-E": Profile(
        price_ticks=3500, speed=0.84, limit_rate=132, patient_rate=6, noise_rate=30, near_cancel_rate=1.7,
        patient_cancel_rate=1 / 90, metaorders=500, smallest_lots=40, largest_lots=20_000, daily_lots=160_000,
        size_scale=3.5, size_exponent=1.4, size_cap=500, inside_share=0.5, wide_spread=2, closing_share=0.0,
        touch_share=0.4, distance_scale=2.6, distance_exponent=0.6, distance_cap=332, near_distance=8, book_width=150,
        touch_taker_share=0.8, walk=6, minute_ticks=3.6, fundamental_daily=0.0113, repeat_share=0.3,
        touch_loyalty=0.4, round_hundreds=0.0, round_tens=0.0, auction_orders=900, auction_width=30,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Shared:
    """Parameters of the whole market: activity, news, how traders learn. Times in minutes of trading."""

    open_boost: float = 3.6
    """Shape of the day: 1 + boost e^(-m / decay) after the open ..."""
    open_decay: float = 18.0
    close_boost: float = 0.9
    """... + boost e^(-(end - m) / decay) before the close ..."""
    close_decay: float = 15.0
    lunch_boost: float = 0.25
    """... + boost e^(-(m - 120) / decay) after lunch, scaled to mean 1."""
    lunch_decay: float = 10.0
    wave_times: tuple[float, ...] = (4.0, 40.0, 240.0, 2400.0)
    """Activity wanders: the exponential of Ornstein-Uhlenbeck processes with these times ..."""
    wave_weights: tuple[float, ...] = (0.10, 0.22, 0.42, 0.12)
    """... and standard deviations of the logarithm."""
    night_minutes: float = 60.0
    """What a night is worth for their decay."""
    coarse_minutes: tuple[int, ...] = (1, 5, 20, 60)
    """Activity answers to price moves over these windows (HARCH) ..."""
    coarse_weights: tuple[float, ...] = (0.02, 0.17, 0.22, 0.18)
    """... with these shares; each squared move is divided by its own running mean ..."""
    coarse_cap: float = 4.5
    """... and cut here."""
    coarse_memory: float = 720.0
    """Time constant of the running mean."""
    branching: float = 0.2
    """Share of the activity that market orders themselves excite (Hawkes)."""
    excitement_seconds: float = 25.0
    activity_cap: float = 6.5
    """Largest activity relative to the time of day."""
    news_per_day: float = 6.0
    news_scale: float = 0.15
    """Jump of the fundamental value: its daily standard deviation times this, times a Student t(3) variable cut at
    +-3, times the root of the activity of that time of day."""
    news_excitement: float = 0.5
    news_seconds: float = 45.0
    news_rate: float = 120.0
    """Market orders per minute right after news."""
    learning: float = 1.06
    """How far the fundamental value follows metaorders (permanent impact)."""
    gap_scale: float = 0.004
    """Overnight change of price: this times a Student t(4) variable cut at +-8."""
    pull: float = 0.01
    """Share of the logarithmic distance from the first price that a night takes back."""
    anchor_width: float = 0.02
    """Relative distance of price and fundamental value that is a signal of 1 ..."""
    anchor_slope: float = 2.35
    """... times this, inside a hyperbolic tangent."""
    limit_lean: float = 1.15
    """How strongly limit orders follow that signal ..."""
    market_lean: float = 2.3
    """... and noise market orders, which also follow the last five minutes' trend:"""
    trend_lean: float = 0.08
    metaorder_lean: float = 0.3
    metaorder_exponent: float = 1.52
    participation: float = 0.25
    """Median participation rate of the smallest metaorders ..."""
    participation_spread: float = 0.9
    """... its standard deviation of the logarithm ..."""
    participation_slope: float = -0.15
    """... and its power of the size."""
    participation_cap: float = 0.5
    spread_response: float = 0.4
    """How much more limit orders come per ``wide_spread`` of spread above a tick ..."""
    spread_cap: float = 5.0
    """... counting at most so many."""
    cancel_hurry: float = 0.1
    """Near orders are cancelled with relative activity to this power, on top of activity itself."""


SHARED = Shared()
MINUTES = 240
"""Minutes of a trading day that rates refer to."""


def profile_table(profiles: dict[str, Profile]) -> NDArray[np.void]:
    """All profiles as records, for the kernels."""
    dtype = np.dtype([(f.name, "<f8") for f in fields(Profile)])
    return np.array([astuple(p) for p in profiles.values()], dtype)


def day_shape(shared: Shared = SHARED) -> NDArray[np.float64]:
    """Activity by minute of the trading day ``[240]``, mean 1."""
    raw = np.empty(MINUTES)
    for k in range(MINUTES):
        m = k + 0.5
        raw[k] = 1.0 + shared.open_boost * exp(-m / shared.open_decay)
        raw[k] += shared.close_boost * exp(-(MINUTES - m) / shared.close_decay)
        if m >= MINUTES / 2:
            raw[k] += shared.lunch_boost * exp(-(m - MINUTES / 2) / shared.lunch_decay)
    total = 0.0
    for k in range(MINUTES):
        total += raw[k]
    return raw * (MINUTES / total)
