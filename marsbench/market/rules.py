"""Matching rules: what an exchange accepts, when it trades, and how its call auctions clear.

``MatchingRules`` is the MTCH_R condition of MarS (section 2.1.1, appendix F): a plain, frozen
description that the clearing house obeys. The full semantics, which the compiled book and its slow
twin in the tests both implement:

**Time.** Phases are half-open ``[start, end)``. A message earlier than the clock of the book is
TIME_BACKWARDS and changes nothing; any other sets the clock. Before a message at time t is looked
at, every phase that ended at or before t is closed; closing an AUCTION phase uncrosses the book.
Outside all phases a message is CLOSED.

**Continuous trading.** Price-time priority. An order that crosses trades at the resting prices,
best first and oldest first within a price; its rest rests, unless it is immediate-or-cancel. An
order of an agent that meets an order of the same owner follows the self-trade rule; the market
(owner 0) is many people and trades with itself.

**Call auction.** Orders rest without trading, the book may be crossed, immediate-or-cancel is
refused. The uncross considers the prices of all live orders p with D(p) shares bid at p or higher
and S(p) offered at p or lower: largest V = min(D, S), among them the prices at which every bid above
and every ask below is filled entirely (neither side holds more than V strictly better than p), then
smallest ``|D - S|``, then the exchange's tie rule over the remaining prices. Nothing trades if the
largest volume is 0. Bids at p or higher meet asks at p or lower in price-time order, all at the
auction's price; what is left stays.

**Cancels.** By id: takes ``size_shares`` off the order and keeps its place (0 or more than is left:
all). By level: the sender's newest orders at that price, up to ``size_shares``; the bid side if
the sender owns anything there on the bid side, else the ask side. A replace is validated as a new order first, then
as a cancel of the named order; if either fails nothing changes.

**Circuit breaker.** After a message that traded in continuous trading: of the levels that have not
fired today and whose ``threshold`` the last trade price has reached (relative distance from the
reference price, whole basis points), the last in the tuple fires, and it and those before it are
used up. Trading halts for ``halt_ns``, at most until the phase ends; 0 lasts until then. A halt is
a call auction in which cancels are allowed; its end uncrosses, and continuous trading resumes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import Any, Self

import numpy as np

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


def clock(text: str) -> int:
    """Nanoseconds since midnight of ``"HH:MM"`` or ``"HH:MM:SS"``.

    >>> clock("09:30") // MINUTE
    570
    """
    parts = [int(p) for p in text.split(":")]
    if len(parts) not in (2, 3):
        raise ValueError(f"time of day {text!r}: write HH:MM or HH:MM:SS")
    hours, minutes, seconds = (*parts, 0)[:3]
    if not (0 <= hours <= 24 and 0 <= minutes < 60 and 0 <= seconds < 60):
        raise ValueError(f"time of day {text!r} does not exist; write HH:MM or HH:MM:SS up to 24:00")
    return (hours * 3600 + minutes * 60 + seconds) * SECOND


def clock_text(time_ns: int) -> str:
    """``HH:MM:SS`` of a time in nanoseconds since midnight."""
    seconds = int(time_ns) // SECOND
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


class PhaseKind(IntEnum):
    AUCTION = 0
    CONTINUOUS = 1


class Tie(IntEnum):
    """Which of several equally good auction prices is taken."""

    MIDDLE = 0
    """The middle of the lowest and the highest, rounded up to a tick (Shanghai)."""
    NEAREST_REFERENCE = 1
    """Nearest to the last trade, or to the reference price before the first; of two, the higher (Shenzhen, NASDAQ)."""


class SelfTrade(IntEnum):
    """What happens when an agent's order meets an order of the same agent."""

    ALLOW = 0
    CANCEL_RESTING = 1
    CANCEL_INCOMING = 2


@dataclass(frozen=True)
class Phase:
    """A stretch of the trading day, ``[start_ns, end_ns)``."""

    start_ns: int
    end_ns: int
    kind: PhaseKind
    no_cancel_from_ns: int | None = None
    """From here to the end of the phase orders can be neither cancelled nor replaced; None: never so."""


@dataclass(frozen=True)
class CircuitBreaker:
    """One level of a circuit breaker, measured against the reference price."""

    threshold: float
    """Relative move that triggers it, such as 0.05."""
    halt_ns: int
    """Length of the halt; 0 halts until the phase ends."""


@dataclass(frozen=True)
class MatchingRules:
    """The rules of one exchange. Prices are in ticks, sizes in shares, times in ns since midnight.

    Raises
    ------
    ValueError
        If phases overlap or are out of order, or a number is outside its range.
    """

    name: str
    phases: tuple[Phase, ...]
    tick_size: str = "0.01"
    """Currency per tick, as a decimal string (exact)."""
    price_step_ticks: int = 1
    """Prices must be a multiple of this."""
    lot_shares: int = 1
    """New orders must be a multiple of this ..."""
    odd_lot_asks: bool = False
    """... unless they sell and this is set (odd lots may be sold, never bought)."""
    price_limit: float = 0.0
    """Largest relative distance from the reference price, 0 for none."""
    tie: Tie = Tie.MIDDLE
    circuit_breakers: tuple[CircuitBreaker, ...] = ()
    self_trade: SelfTrade = SelfTrade.ALLOW

    def __post_init__(self) -> None:
        if not self.phases:
            raise ValueError(f"rules {self.name!r}: at least one phase is needed")
        last = -1
        for phase in self.phases:
            if phase.start_ns < max(last, 0) or phase.end_ns <= phase.start_ns:
                raise ValueError(f"rules {self.name!r}: phases must be ordered and not overlap, see {phase}")
            last = phase.end_ns
        if self.lot_shares < 1 or self.price_step_ticks < 1:
            raise ValueError(f"rules {self.name!r}: lot_shares and price_step_ticks must be at least 1")
        if not 0 <= self.price_limit < 1:
            raise ValueError(f"rules {self.name!r}: price_limit is a fraction in [0, 1), got {self.price_limit}")
        if float(self.tick_size) <= 0:
            raise ValueError(f"rules {self.name!r}: tick_size must be positive, got {self.tick_size}")
        if any(b.threshold <= 0 or b.halt_ns < 0 for b in self.circuit_breakers):
            raise ValueError(f"rules {self.name!r}: a circuit breaker needs threshold > 0 and halt_ns >= 0")
        thresholds = [b.threshold for b in self.circuit_breakers]
        if thresholds != sorted(thresholds):
            raise ValueError(f"rules {self.name!r}: circuit breakers must be ordered by threshold")

    def limits_ticks(self, reference_ticks: int) -> tuple[int, int]:
        """Lowest and highest price allowed, rounded half up to a tick, inclusive.

        Without a limit (or a reference price of 0) these are the ends of int32.
        """
        info = np.iinfo(np.int32)
        if self.price_limit == 0 or reference_ticks == 0:
            return int(info.min) + 1, int(info.max)
        per_mille = round(self.price_limit * 1000)
        low = (reference_ticks * (1000 - per_mille) * 2 + 1000) // 2000
        high = (reference_ticks * (1000 + per_mille) * 2 + 1000) // 2000
        return low, high

    def market_price_ticks(self, kind: int, reference_ticks: int) -> int:
        """The price of a market order: immediate-or-cancel at the limit (ASK low, BID high)."""
        low, high = self.limits_ticks(reference_ticks)
        return low if kind == 0 else high

    @cached_property
    def continuous(self) -> tuple[Phase, ...]:
        """The continuous phases in time order."""
        return tuple(p for p in self.phases if p.kind == PhaseKind.CONTINUOUS)

    def trading_ns(self, time_ns: Any) -> Any:
        """Nanoseconds of continuous trading up to a clock time: lunch is removed.

        >>> int(SSE_A_SHARE.trading_ns(clock("13:05"))) // MINUTE
        125
        """
        time_ns = np.asarray(time_ns, np.int64)
        total = np.zeros_like(time_ns)
        for phase in self.continuous:
            total = total + np.minimum(np.maximum(time_ns - phase.start_ns, 0), phase.end_ns - phase.start_ns)
        return total

    def clock_ns(self, trading_ns: Any) -> Any:
        """The clock time at which that much continuous trading is over (inverse of ``trading_ns``).

        At a break it is the end of the earlier phase; beyond the last phase, its end plus the excess.
        """
        trading_ns = np.asarray(trading_ns, np.int64)
        out = np.zeros_like(trading_ns)
        done, phases = 0, self.continuous
        for i, phase in enumerate(phases):
            length = phase.end_ns - phase.start_ns
            inside = trading_ns > done if i else np.ones(trading_ns.shape, bool)
            out = np.where(inside, phase.start_ns + trading_ns - done, out)
            done += length
        return out

    def without_auctions(self) -> Self:
        """The same rules with the continuous phases only, as lockstep rollouts use them."""
        return replace(self, phases=self.continuous, circuit_breakers=())

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Inverse of ``to_dict``; unknown fields are an error."""
        values = dict(values)
        values["phases"] = tuple(Phase(**{**p, "kind": PhaseKind(p["kind"])}) for p in values["phases"])
        values["circuit_breakers"] = tuple(CircuitBreaker(**c) for c in values["circuit_breakers"])
        values["tie"] = Tie(values["tie"])
        values["self_trade"] = SelfTrade(values["self_trade"])
        return cls(**values)


def _china(name: str, tie: Tie) -> MatchingRules:
    """Chinese A shares: 10% limits, lots of 100, lunch, auctions with no-cancel windows."""
    auction, continuous = PhaseKind.AUCTION, PhaseKind.CONTINUOUS
    return MatchingRules(
        name=name,
        phases=(
            Phase(clock("09:15"), clock("09:25"), auction, no_cancel_from_ns=clock("09:20")),
            Phase(clock("09:30"), clock("11:30"), continuous),
            Phase(clock("13:00"), clock("14:57"), continuous),
            Phase(clock("14:57"), clock("15:00"), auction, no_cancel_from_ns=clock("14:57")),
        ),
        lot_shares=100,
        odd_lot_asks=True,
        price_limit=0.1,
        tie=tie,
    )


SSE_A_SHARE = _china("SSE_A_SHARE", Tie.MIDDLE)
SZSE_A_SHARE = _china("SZSE_A_SHARE", Tie.NEAREST_REFERENCE)
NASDAQ = MatchingRules(
    name="NASDAQ",
    phases=(Phase(clock("09:30"), clock("16:00"), PhaseKind.CONTINUOUS),),
    tie=Tie.NEAREST_REFERENCE,
)
CONTINUOUS = MatchingRules(name="CONTINUOUS", phases=(Phase(0, clock("24:00"), PhaseKind.CONTINUOUS),))

PRESETS = {rules.name: rules for rules in (SSE_A_SHARE, SZSE_A_SHARE, NASDAQ, CONTINUOUS)}
