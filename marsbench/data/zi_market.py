"""``zi-market``: an embedded market of zero-intelligence order flow with published rates.

Four instruments under Shanghai rules, each a Cont-Stoikov-Talreja order book whose rates stand
below, rolled through the clearing house from a book in its stationary state. The rates are constant
in business time; the business clock runs at a speed that follows the time of day and wanders from
one five-minute slot to the next (``speed``). It needs no download and its law is known: prices know
nothing but the book, and volatility clusters only because activity does. It tests the harness; what it
says about a generator is little.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from marsbench.market.orders import FILL, ORDER, Kind
from marsbench.market.replay import make_trajectory
from marsbench.market.rules import CONTINUOUS, MINUTE, SSE_A_SHARE
from marsbench.market.trajectory import BookState, Trajectory
from marsbench.simulation.contracts import Start
from marsbench.simulation.randomness import Streams
from marsbench.simulation.rollout import simulate, skip_breaks

VERSION = 1
SEED = 20_100_101
FIRST_DAY = datetime.date(2024, 1, 2)
SPLITS = {"train": 4, "validation": 1, "test": 8}
"""Days of each split, in time order."""
_LOTS = 100
_SEEDING, _SPEED = 7, 9
"""Purposes of the random numbers that fill the opening book and set the business clock."""
SLOT_MINUTES = 5
PERSISTENCE = 0.8
"""Correlation of the logarithm of the speed from slot to slot ..."""
SPREAD = 0.5
"""... and its standard deviation."""


@dataclass(frozen=True)
class Profile:
    """One instrument's published rates, per second of business time and side of the book."""

    name: str
    price_ticks: int
    limit_rate: float
    """Limit orders, at distance i from the opposite best with weight i^-alpha, i = 1 .. depth."""
    alpha: float
    depth: int
    market_rate: float
    cancel_near: float
    """Cancellation rate of a resting order at distance 1 ..."""
    cancel_far: float
    """... and at the largest, falling in between with the square root of the distance."""
    lots: tuple[float, ...]
    """Weights of sizes of 1, 2, 3, ... lots, for limit and market orders alike."""

    def distances(self) -> NDArray[np.int64]:
        return np.arange(1, self.depth + 1)

    def cancel_edges(self) -> NDArray[np.int64]:
        """Bins of distance with one cancellation rate each: single ticks near the touch, wider behind."""
        edges = [1, 2, 3, 5, 9, 17, 33, 65, 129]
        return np.array([*(e for e in edges if e <= self.depth), self.depth * 8], np.int64)

    def cancel_rates(self) -> NDArray[np.float64]:
        """Rate of each bin, at its near edge."""
        share = (np.sqrt(self.cancel_edges()[:-1]) - 1) / max(np.sqrt(self.depth) - 1, 1.0)
        return np.asarray(self.cancel_near + (self.cancel_far - self.cancel_near) * share)

    def cancel_rate_at(self, distance: NDArray[np.int64]) -> NDArray[np.float64]:
        """Rate at each distance in ticks."""
        return self.cancel_rates()[np.searchsorted(self.cancel_edges(), distance, side="right") - 1]

    def weights(self) -> NDArray[np.float64]:
        raw = 1.0 / np.power(self.distances(), self.alpha)
        return np.asarray(raw / raw.sum())

    def mean_size_shares(self) -> float:
        lots = np.arange(1, len(self.lots) + 1)
        return float(_LOTS * (lots * self.lots).sum() / sum(self.lots))


PROFILES = (
    Profile("ZI-A", 2000, 1.00, 0.52, 30, 0.25, 0.025, 0.010, (0.5, 0.25, 0.15, 0.06, 0.04)),
    Profile("ZI-B", 5000, 0.90, 0.40, 60, 0.22, 0.030, 0.008, (0.6, 0.2, 0.1, 0.06, 0.04)),
    Profile("ZI-C", 12000, 1.10, 0.30, 120, 0.30, 0.040, 0.010, (0.7, 0.2, 0.1)),
    Profile("ZI-D", 900, 0.95, 0.80, 15, 0.20, 0.018, 0.008, (0.4, 0.3, 0.2, 0.1)),
)


def published_rates(profile: Profile) -> dict[str, Any]:
    """The profile in the form of the zero-intelligence generator's calibrated rates."""
    sizes = (_LOTS * np.arange(1, len(profile.lots) + 1)).tolist()
    zeros = [0] * len(sizes)
    return {
        "limit_rate": profile.limit_rate,
        "limit_distance": {"values": {"ticks": profile.distances().tolist()}, "weights": profile.weights().tolist()},
        "limit_size": {"values": {"shares": sizes}, "weights": list(profile.lots)},
        "market_rate": profile.market_rate,
        "market_order": {"values": {"shares": sizes, "ticks": zeros, "ioc": zeros}, "weights": list(profile.lots)},
        "cancel_edges_ticks": profile.cancel_edges().tolist(),
        "cancel_rate": profile.cancel_rates().tolist(),
        "mean_size_shares": profile.mean_size_shares(),
    }


def opening_book(profile: Profile, start: Start) -> BookState:
    """Queues in the stationary state of the model away from the touch, Poisson(lambda / theta) orders."""
    mean = profile.limit_rate * profile.weights() / profile.cancel_rate_at(profile.distances())
    streams = Streams.of(SEED, [start.uid], 1)
    rows = []
    for side in (Kind.ASK, Kind.BID):
        level = np.zeros(1, np.int64)
        for i, expected in enumerate(mean, 1):
            u = streams.uniforms(level, np.array([i]), _SEEDING + side, 1)[0, 0]
            price = profile.price_ticks + (i if side == Kind.ASK else -i)
            rows += [(price, int(side))] * max(_poisson(float(expected), float(u)), 1 if i == 1 else 0)
    resting = np.zeros(len(rows), ORDER)
    resting["price_ticks"], resting["kind"] = np.array(rows).T
    resting["order_id"] = np.arange(1, len(rows) + 1)
    resting["size_shares"] = max(_LOTS, round(profile.mean_size_shares() / _LOTS) * _LOTS)
    return BookState(
        resting=resting,
        last_trade_ticks=profile.price_ticks,
        reference_ticks=profile.price_ticks,
        next_id=len(rows) + 1,
        time_ns=start.clock_ns,
    )


def _poisson(mean: float, uniform: float) -> int:
    """Inverse of the Poisson distribution function."""
    count, term = 0, float(np.exp(-mean))
    total = term
    while total < uniform and count < 10_000:
        count += 1
        term *= mean / count
        total += term
    return count


def trading_days() -> list[tuple[str, str]]:
    """Date and split of every day: weekdays from ``FIRST_DAY`` on."""
    out: list[tuple[str, str]] = []
    day = FIRST_DAY
    for split, count in SPLITS.items():
        for _ in range(count):
            while day.weekday() >= 5:
                day += datetime.timedelta(days=1)
            out.append((day.isoformat(), split))
            day += datetime.timedelta(days=1)
    return out


def speed(start: Start) -> NDArray[np.float64]:
    """Speed of the business clock in every minute of trading of one instrument-day, mean 1.

    A U-shaped day, about 3 : 1, times the exponential of an autoregression over five-minute slots.
    """
    minutes = int(SSE_A_SHARE.trading_ns(SSE_A_SHARE.continuous[-1].end_ns)) // MINUTE
    minute = np.arange(minutes) + 0.5
    shape = 1 + 1.6 * np.exp(-minute / 25) + 0.8 * np.exp(-(minutes - minute) / 20)
    slots = -(-minutes // SLOT_MINUTES)
    draws = Streams.of(SEED, [start.uid], 1).uniforms(np.zeros(slots, np.int64), np.arange(slots), _SPEED, 1)[:, 0]
    shocks = ndtri(draws)
    level = np.empty(slots)
    level[0] = shocks[0]
    for k in range(1, slots):
        level[k] = PERSISTENCE * level[k - 1] + np.sqrt(1 - PERSISTENCE**2) * shocks[k]
    raw = shape * np.exp(SPREAD * np.repeat(level, SLOT_MINUTES)[:minutes])
    return np.asarray(raw / raw.mean())


def _on_the_clock(business: Trajectory, start: Start) -> Trajectory:
    """Move a trajectory from business time, counted from midnight, to the exchange's clock."""
    pace = speed(start)
    passed = np.concatenate([[0.0], np.cumsum(pace)]) * MINUTE
    trading = np.interp(business.orders["time_ns"], passed, np.arange(len(passed)) * float(MINUTE)).astype(np.int64)
    orders = business.orders.copy()
    orders["time_ns"] = skip_breaks(SSE_A_SHARE, SSE_A_SHARE.clock_ns(trading))
    orders = orders[orders["time_ns"] < SSE_A_SHARE.continuous[-1].end_ns]
    return make_trajectory(
        instrument=start.instrument,
        date=start.date,
        rules=SSE_A_SHARE,
        start_ns=start.clock_ns,
        end_ns=SSE_A_SHARE.continuous[-1].end_ns,
        book=start.book,
        orders=orders,
        labels={"source": "zi-market", "version": VERSION, "seed": SEED},
    )


def opening(profile: Profile, date: str) -> Start:
    """The open of one instrument-day."""
    open_ns = SSE_A_SHARE.continuous[0].start_ns
    empty = BookState(time_ns=open_ns)
    history = Trajectory(
        profile.name, date, SSE_A_SHARE, open_ns, open_ns, empty, np.zeros(0, ORDER), np.zeros(0, FILL)
    )
    start = Start(profile.name, date, SSE_A_SHARE, open_ns, empty, history)
    book = opening_book(profile, start)
    return replace(start, book=book, history=replace(history, book=book))


def days() -> list[Trajectory]:
    """All instrument-days, simulated; the same on every run."""
    from marsbench import registry

    generator: Any = registry.generator("zero-intelligence")
    generator.publish({p.name: published_rates(p) for p in PROFILES})
    starts = [opening(profile, date) for profile in PROFILES for date, _ in trading_days()]
    # Business time has no lunch: it is simulated on a clock that starts at midnight.
    rules = replace(CONTINUOUS, lot_shares=_LOTS, price_limit=SSE_A_SHARE.price_limit)
    timeless = [replace(s, rules=rules, clock_ns=0, book=replace(s.book, time_ns=0)) for s in starts]
    horizon = int(SSE_A_SHARE.trading_ns(SSE_A_SHARE.continuous[-1].end_ns))
    rows = simulate(generator, timeless, 1, horizon, key=SEED)
    return [_on_the_clock(row[0], start) for row, start in zip(rows, starts, strict=True)]


def build(folder: Path) -> None:
    """Write the data set into ``folder``."""
    from marsbench.data.catalogue import Period, write_dataset

    split = dict(trading_days())
    many = days()
    periods = [Period(t.instrument, t.date, t.start_ns, t.end_ns, split[t.date]) for t in many]
    write_dataset(
        folder,
        many,
        periods,
        name="zi-market",
        version=VERSION,
        summary="embedded: four zero-intelligence order books with published rates, 4 + 1 + 8 days",
    )
