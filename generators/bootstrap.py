"""``bootstrap``: a block bootstrap of real order flow, re-anchored to the current book."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.market.rules import SECOND
from marsbench.simulation.contracts import Rows
from marsbench.simulation.randomness import Streams

from ._recorded import BLOCK, Blocks, Chooser, RecordedFlow, Tape


class _RandomBlocks(Chooser):
    """Blocks of fixed length, uniform over the training time."""

    def __init__(self, streams: Streams, length_ns: int) -> None:
        self.streams, self.length_ns = streams, length_ns

    def choose(self, tape: Tape, rows: Rows, number: NDArray[np.int64], trading_ns: NDArray[np.int64]) -> Blocks:
        draws = self.streams.uniforms(rows, number, BLOCK, 2)
        length = min(self.length_ns, int((tape.period_end_ns - tape.period_start_ns).max()))
        room = np.maximum(tape.period_end_ns - tape.period_start_ns - length, -1) + 1
        period = np.searchsorted(np.cumsum(room) / room.sum(), draws[:, 0], side="right")
        period = np.minimum(period, len(room) - 1)
        begin = tape.period_start_ns[period] + (draws[:, 1] * room[period]).astype(np.int64)
        first, last = tape.messages(period, begin, begin + length)
        lead = np.where(first < last, tape.trading_ns[np.minimum(first, len(tape.trading_ns) - 1)] - begin, 0)
        return Blocks(first, last, lead, np.full(len(rows), length))


class Bootstrap(RecordedFlow):
    """Real order flow in blocks, drawn at random from the training periods."""

    name = "bootstrap"
    training_days = 10
    summary = "blocks of training order flow, re-anchored to the current book"
    source = "block bootstrap (Kuensch 1989) of order flow"

    def __init__(self, block_seconds: float = 60.0) -> None:
        super().__init__()
        if block_seconds <= 0:
            raise ValueError(f"block_seconds must be positive, got {block_seconds}")
        self.block_seconds = block_seconds

    def parameters(self) -> Mapping[str, Any]:
        return {"block_seconds": self.block_seconds}

    def chooser(self, streams: Streams) -> Chooser:
        return _RandomBlocks(streams, int(self.block_seconds * SECOND))
