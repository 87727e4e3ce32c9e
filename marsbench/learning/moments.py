"""Moments of a market at which something is asked, and what was known of its order flow then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marsbench.learning.order_stream import OrderStream, order_stream
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import Start

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Moments:
    """Some moments of one instrument's day."""

    stream: OrderStream
    known: Ints
    """``[m]``: so many of its orders had come. Book and state number ``known`` are those of the moment."""

    @classmethod
    def of(cls, flow: Trajectory, clocks_ns: Ints) -> Moments:
        """At clock times; what comes at that very nanosecond is known."""
        stream = order_stream(flow)
        at = np.asarray(flow.rules.trading_ns(clocks_ns), np.int64)
        return cls(stream, np.searchsorted(stream.clock_ns, at, side="right"))


def moments_of(starts: Sequence[Start]) -> Iterator[tuple[Ints, Moments]]:
    """The moments of starts, by day: which starts, and what was known at each.

    A day is gone through once, as far as its last start; an earlier one takes what came before it.
    """
    days: dict[tuple[str, str], list[int]] = {}
    for i, start in enumerate(starts):
        days.setdefault((start.instrument, start.date), []).append(i)
    for own in days.values():
        clocks = np.array([starts[i].clock_ns for i in own], np.int64)
        yield np.array(own), Moments.of(starts[own[int(clocks.argmax())]].history, clocks)
