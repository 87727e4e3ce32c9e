"""A simulated market that sends far more orders than the real one ever does is stopped, instead of run for hours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from marsbench.market.rules import MINUTE, MatchingRules, clock_text
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import Start

Ints = NDArray[np.int64]
FACTOR = 3
"""So many times the busiest stretch of training, of the same length, is too much."""
LEAST = 60
"""Orders a minute that are never too many."""


class Runaway(ValueError):
    """A simulation sends more orders than any market that its generator learned from."""


def busiest(periods: Iterable[Trajectory]) -> dict[str, Ints]:
    """Most messages of each instrument in any m + 1 minutes of continuous trading on end, ``[m]``.

    Longer stretches than there are in the data count at the pace of the longest.
    """
    found: dict[str, Ints] = {}
    for period in periods:
        rules = period.rules
        first, end = (int(rules.trading_ns(t)) // MINUTE for t in (period.start_ns, period.end_ns - 1))
        minute = rules.trading_ns(period.orders["time_ns"]) // MINUTE - first
        count = np.bincount(minute[(minute >= 0) & (minute <= end - first)], minlength=end - first + 1)
        until = np.concatenate([[0], np.cumsum(count)])
        most = np.array([(until[m:] - until[:-m]).max() for m in range(1, len(until))], np.int64)
        before = found.get(period.instrument, np.zeros(0, np.int64))
        length = max(len(most), len(before))
        found[period.instrument] = np.maximum(_until(most, length), _until(before, length))
    return found


def _until(most: Ints, length: int) -> Ints:
    """``most`` for stretches of up to so many minutes at least."""
    further = np.arange(len(most) + 1, length + 1)
    return np.concatenate([most, most[-1:].sum() * further // max(len(most), 1)])


class Guard:
    """Watches the number of orders in each row of a batch.

    Parameters
    ----------
    most
        Of ``busiest``; an instrument that is not in it is not watched.
    """

    def __init__(
        self, starts: Sequence[Start], rollouts: int, rules: MatchingRules, horizon_ns: int, most: Mapping[str, Ints]
    ) -> None:
        self.starts, self.rollouts, self.rules = starts, rollouts, rules
        self.begin = np.repeat([int(rules.trading_ns(s.clock_ns)) for s in starts], rollouts)
        self.sent = np.zeros(len(starts) * rollouts, np.int64)
        minutes = -(-horizon_ns // MINUTE) + 1
        limit = np.full((len(starts), minutes), np.iinfo(np.int64).max)
        for s, start in enumerate(starts):
            if start.instrument in most:
                own = _until(most[start.instrument], minutes)[:minutes]
                limit[s] = FACTOR * np.maximum(own, LEAST * np.arange(1, minutes + 1))
        self.limit = np.repeat(limit, rollouts, axis=0)

    def count(self, rows: Ints) -> None:
        """Orders of the market in these rows, one each; a row can come more than once."""
        np.add.at(self.sent, rows, 1)

    def check(self, now_ns: Ints) -> None:
        """Compare the rows with their limits at their clocks ``[R]``.

        Raises
        ------
        Runaway
            If one is beyond it.
        """
        minute = np.maximum(self.rules.trading_ns(now_ns) - self.begin, 0) // MINUTE
        limit = self.limit[np.arange(len(self.sent)), np.minimum(minute, self.limit.shape[1] - 1)]
        over = np.flatnonzero(self.sent > limit)
        if len(over):
            row = int(over[np.argmax(self.sent[over] / limit[over])])
            raise Runaway(
                f"the simulation from {self.starts[row // self.rollouts].name}, rollout {row % self.rollouts}, "
                f"runs away: {self.sent[row]:,} orders by {clock_text(int(now_ns[row]))}, where {FACTOR} times the "
                f"busiest {minute[row] + 1} minutes of training are {limit[row]:,}"
            )
