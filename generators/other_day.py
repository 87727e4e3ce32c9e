"""``other-day``: the order flow of another day at the same time of day, re-anchored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from marsbench.market.rules import MINUTE
from marsbench.simulation.contracts import Rows
from marsbench.simulation.randomness import Streams

from ._recorded import BLOCK, Blocks, Chooser, RecordedFlow, Tape

HEADROOM_NS = 25 * MINUTE
"""Where the time of day is not in the training data, start at least this long before a period's end."""


class OneLongBlock(Chooser):
    """A training period from the same time of day on, to its end; where no period has it, from anywhere."""

    def __init__(self, draw: Streams | None) -> None:
        self.streams = draw
        """None: always the last training period, and from as late as the headroom allows."""

    def choose(self, tape: Tape, rows: Rows, number: NDArray[np.int64], trading_ns: NDArray[np.int64]) -> Blocks:
        if self.streams is None:
            draws = np.full((len(rows), 2), 1 - 1e-12)
        else:
            draws = self.streams.uniforms(rows, number, BLOCK, 2)
        covers = (tape.period_start_ns[None, :] <= trading_ns[:, None]) & (
            tape.period_end_ns[None, :] >= trading_ns[:, None] + MINUTE
        )
        known = np.asarray(covers.any(axis=1))
        usable = covers | ~known[:, None]
        rank = np.cumsum(usable, axis=1)
        period = (rank <= (draws[:, :1] * rank[:, -1:]).astype(np.int64)).sum(axis=1)
        room = np.maximum(tape.period_end_ns[period] - tape.period_start_ns[period] - HEADROOM_NS, 0)
        anywhere = tape.period_start_ns[period] + (draws[:, 1] * room).astype(np.int64)
        begin = np.where(known, trading_ns, anywhere)
        end = tape.period_end_ns[period]
        first, last = tape.messages(period, begin, end)
        lead = np.where(first < last, tape.trading_ns[np.minimum(first, len(tape.trading_ns) - 1)] - begin, 0)
        return Blocks(first, last, lead, np.maximum(end - begin, MINUTE))


class OtherDay(RecordedFlow):
    """What a random training day did at this time of day (on one day of data: a random stretch of it)."""

    name = "other-day"
    training_days = 10
    summary = "order flow of a random training day at the same time of day, re-anchored"

    def chooser(self, streams: Streams) -> Chooser:
        return OneLongBlock(streams)
