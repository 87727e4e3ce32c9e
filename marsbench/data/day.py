"""One instrument's day as a source gives it: the orders that were sent, and what the exchange published.

The second part is the yardstick: ``marsbench.data.verify`` replays the first and compares.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.market.orders import FILL
from marsbench.market.rules import MatchingRules
from marsbench.market.trajectory import BookState, Trajectory


def _empty_books() -> NDArray[np.int32]:
    return np.zeros((0, 2, 0), np.int32)


@dataclass(frozen=True)
class PublishedBooks:
    """Books that the exchange published. Axis 1: 0 = ask side, 1 = bid side; best level first."""

    price_ticks: NDArray[np.int32] = field(default_factory=_empty_books)
    """``[k, 2, L]``, NO_PRICE where there is no level."""
    size_shares: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2, 0), np.int64))
    """``[k, 2, L]``, 0 where there is no level."""
    first_row: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """``[k]``: the first row of the source after which book i may have been taken."""
    last_row: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """``[k]``: the last such row, inclusive; equal to ``first_row`` where the moment is exact."""

    @property
    def levels(self) -> int:
        return int(self.price_ticks.shape[2])

    def __len__(self) -> int:
        return len(self.price_ticks)


@dataclass(frozen=True)
class VenueDay:
    """A day of one instrument from one source file.

    ``orders`` is what somebody sent; ``row_message`` and ``row_fills`` say where each row of the
    source lies in that stream: after the first ``row_fills[i]`` fills of message ``row_message[i]``,
    or after all of it when ``row_fills[i]`` is -1.
    """

    source: str
    file: str
    instrument: str
    date: str
    rules: MatchingRules
    start_ns: int
    end_ns: int
    book: BookState
    orders: NDArray[np.void]
    row_message: NDArray[np.int64]
    row_fills: NDArray[np.int64]
    trades: NDArray[np.void]
    """Published executions of visible orders as ``FILL`` rows in file order; ``seq`` is the message
    that should cause it, and an id of 0 was not published."""
    books: PublishedBooks
    deleted_ids: NDArray[np.int64]
    """Orders that the source says were deleted entirely."""
    seed_message: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Messages that take over volume at the edge of the published window ..."""
    seed_row: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """... and the row of the source at which it came into the window."""
    requeued: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Messages that send an order to the back of its level, because the venue passed it over in the
    queue; price and size stay the same."""
    revealed: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Messages that bring hidden volume to light, because the source shows it now or says that it traded."""
    resting_at_end: NDArray[np.void] | None = None
    """All orders that rest at the end by the source's own account (``ORDER`` rows), where it names every order."""
    problems: dict[str, int] = field(default_factory=dict)
    """Rows that contradict each other within the source, by kind."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Counts worth knowing (hidden executions, halts ...)."""

    def trajectory(self) -> Trajectory:
        """The day as a trajectory; its fills come from replay through the clearing house."""
        from marsbench.market.replay import replay

        result = replay(self.rules, self.book, self.orders, end_ns=self.end_ns)
        return Trajectory(
            instrument=self.instrument,
            date=self.date,
            rules=self.rules,
            start_ns=self.start_ns,
            end_ns=self.end_ns,
            book=self.book,
            orders=self.orders,
            fills=result.fills,
            labels={"source": self.source, "file": self.file, **self.facts},
        )


def published_fills(**columns: Any) -> NDArray[np.void]:
    """``FILL`` rows from columns; those left out are 0."""
    length = len(columns["time_ns"])
    out = np.zeros(length, FILL)
    for name, values in columns.items():
        out[name] = values
    return out
