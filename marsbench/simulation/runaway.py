"""A simulated market that sends far more orders than the real one ever does is stopped, instead of run for hours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from marsbench.market.rules import MINUTE, MatchingRules, clock_text
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import NEVER, Start

Ints = NDArray[np.int64]
STRETCH = 30
"""Minutes that are counted together."""
FACTOR = 3
"""So many times the busiest stretch of training is too much."""
LEAST = 60
"""Orders a minute that are never too many."""


class Runaway(ValueError):
    """A simulation sends more orders than any market that its generator learned from."""


def busiest(periods: Iterable[Trajectory]) -> dict[str, int]:
    """Most messages of each instrument in any ``STRETCH`` whole minutes of continuous trading on end.

    A period that is shorter counts at its pace.
    """
    found: dict[str, int] = {}
    for period in periods:
        rules = period.rules
        first, end = (int(rules.trading_ns(t)) // MINUTE for t in (period.start_ns, period.end_ns - 1))
        minute = rules.trading_ns(period.orders["time_ns"]) // MINUTE - first
        count = np.bincount(minute[(minute >= 0) & (minute <= end - first)], minlength=end - first + 1)
        until = np.concatenate([[0], np.cumsum(count)])
        width = min(STRETCH, len(count))
        most = int((until[width:] - until[:-width]).max()) * STRETCH // width
        found[period.instrument] = max(most, found.get(period.instrument, 0))
    return found


class Guard:
    """Watches the number of orders in each row of a batch.

    Parameters
    ----------
    most
        Of ``busiest``; an instrument that is not in it is not watched.
    """

    def __init__(
        self, starts: Sequence[Start], rollouts: int, rules: MatchingRules, horizon_ns: int, most: Mapping[str, int]
    ) -> None:
        self.starts, self.rollouts, self.rules = starts, rollouts, rules
        self.begin = np.repeat([int(rules.trading_ns(s.clock_ns)) for s in starts], rollouts)
        limit = [FACTOR * max(most[s.instrument], LEAST * STRETCH) if s.instrument in most else NEVER for s in starts]
        self.limit = np.repeat(np.array(limit, np.int64), rollouts)
        self.sent = np.zeros(len(self.limit), np.int64)
        self.by_then = np.zeros((len(self.limit), STRETCH + horizon_ns // MINUTE + 2), np.int64)
        """Orders by the end of each minute, the first ``STRETCH`` of them before the start."""

    def count(self, rows: Ints) -> None:
        """Orders of the market in these rows, one each; a row can come more than once."""
        np.add.at(self.sent, rows, 1)

    def check(self, now_ns: Ints) -> None:
        """Hold the last ``STRETCH`` minutes of each row, at their clocks ``[R]``, against the limit.

        Raises
        ------
        Runaway
            If one is beyond it.
        """
        minute = np.maximum(self.rules.trading_ns(now_ns) - self.begin, 0) // MINUTE
        later = self.by_then[:, STRETCH:]
        np.copyto(later, self.sent[:, None], where=np.arange(later.shape[1]) >= minute[:, None])
        lately = self.sent - self.by_then[np.arange(len(self.sent)), minute]
        over = np.flatnonzero(lately > self.limit)
        if len(over):
            row = int(over[np.argmax(lately[over] / self.limit[over])])
            raise Runaway(
                f"the simulation from {self.starts[row // self.rollouts].name}, rollout {row % self.rollouts}, runs "
                f"away: {lately[row]:,} orders in the {STRETCH} minutes up to {clock_text(int(now_ns[row]))}, where "
                f"{FACTOR} times the busiest {STRETCH} minutes of training are {self.limit[row]:,}"
            )
