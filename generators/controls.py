"""Generators that are known to be bad, to show that the metrics notice. Hidden from the leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.market.clearing_house import BookView, Events
from marsbench.market.orders import ORDER
from marsbench.market.rules import SECOND
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import Artifact, Budget, RowOrders, Rows, Session, SessionGenerator, Start
from marsbench.simulation.randomness import Streams

from ._recorded import BLOCK, Blocks, Chooser, RecordedFlow, Tape
from .other_day import OneLongBlock


class _ConstantSession(Session):
    """One lot joins the best ask, a second later one lot joins the best bid, and so on for ever."""

    def __init__(self, rows: int, lot: int) -> None:
        self.sent = np.zeros(rows, np.int64)
        self.lot = lot

    def propose(self, rows: Rows, book: BookView) -> NDArray[np.int64]:
        return book.now_ns + SECOND

    def decide(self, rows: Rows, book: BookView) -> RowOrders:
        ask, bid = book.quotes_ticks
        out = np.zeros(len(rows), ORDER)
        out["kind"] = self.sent[rows] % 2
        out["price_ticks"] = np.where(out["kind"] == 0, ask, bid)
        out["size_shares"] = self.lot
        self.sent[rows] += 1
        return RowOrders(rows, out)

    def observe(self, events: Events) -> Rows:
        return np.zeros(0, np.int64)


class ControlConstant(SessionGenerator):
    """The same order for ever; prices never move."""

    name = "control-constant"
    training_days = 10
    hidden = True
    summary = "one lot at the touch every second; no trade, no price change"

    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        del budget
        folder.mkdir(parents=True, exist_ok=True)
        return Artifact.write(folder, generator=self.name, version=self.version, seed=seed, data=data)

    def load(self, artifact: Artifact) -> None:
        """Nothing was learnt."""

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        return _ConstantSession(len(starts) * rollouts, starts[0].rules.lot_shares)


class ControlCopy(RecordedFlow):
    """The last training day again, in every rollout the same: perfect memory, no knowledge."""

    name = "control-copy"
    training_days = 10
    hidden = True
    summary = "copies its last training day, identically in every rollout"

    def chooser(self, streams: Streams) -> Chooser:
        return OneLongBlock(None)


class _SingleMessages(Chooser):
    """Messages and waiting times drawn independently of each other."""

    def __init__(self, streams: Streams) -> None:
        self.streams = streams

    def choose(self, tape: Tape, rows: Rows, number: NDArray[np.int64], trading_ns: NDArray[np.int64]) -> Blocks:
        draws = self.streams.uniforms(rows, number, BLOCK, 2)
        count = len(tape.trading_ns)
        message = (draws[:, 0] * count).astype(np.int64)
        other = np.maximum((draws[:, 1] * count).astype(np.int64), 1)
        first_of_period = np.isin(other, tape.period_first)
        wait = np.where(first_of_period, 0, tape.trading_ns[other] - tape.trading_ns[other - 1])
        return Blocks(message, message + 1, wait, wait)


class ControlShuffled(RecordedFlow):
    """Training messages in random order with shuffled waiting times: right marginals, no memory."""

    name = "control-shuffled"
    training_days = 10
    hidden = True
    summary = "training messages and waiting times, independently drawn"

    def chooser(self, streams: Streams) -> Chooser:
        return _SingleMessages(streams)
