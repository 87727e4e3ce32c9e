"""Playing recorded order flow again on another book: what bootstrap, other-day and two controls share.

Recorded messages keep their recorded waiting times and sizes. Their prices are re-anchored to the book
that they meet: an aggressive order keeps how far its limit reaches beyond the opposite best quote, a
resting order its distance from the opposite best quote, a cancel its distance from its own best quote, and takes the
market's order nearest to there. With resting orders anchored to their own best quote instead, orders
that improve a wide spread pile up in a narrow one and the spread collapses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.market.clearing_house import BookView, Events
from marsbench.market.flow import Action, order_flow
from marsbench.market.orders import NO_PRICE, ORDER, Flag, Kind
from marsbench.market.rules import MatchingRules
from marsbench.market.trajectory import Trajectory, load_all, save
from marsbench.simulation.contracts import Artifact, Budget, RowOrders, Rows, Session, SessionGenerator, Start
from marsbench.simulation.randomness import Streams

BLOCK = 1
"""Purpose of the random numbers that choose blocks."""
_ANYWHERE = 1 << 40


@dataclass(frozen=True)
class Tape:
    """The training flow of one instrument, period after period, ``[n]`` each."""

    trading_ns: NDArray[np.int64]
    """Trading time within the recorded day (lunch removed)."""
    columns: dict[str, NDArray[np.int64]]
    period_first: NDArray[np.int64]
    """``[P + 1]``: period p is messages ``[first[p], first[p + 1])``."""
    period_start_ns: NDArray[np.int64]
    period_end_ns: NDArray[np.int64]
    """``[P]``, trading time."""

    @classmethod
    def of(cls, trajectories: Sequence[Trajectory]) -> Tape:
        flows = [order_flow(t) for t in trajectories]
        names = ("action", "side", "size_shares", "from_opposite", "from_own", "ioc")
        kept = [f.quoted for f in flows]
        clocks = [t.rules.trading_ns(f.time_ns[k]) for t, f, k in zip(trajectories, flows, kept, strict=True)]
        return cls(
            trading_ns=np.concatenate(clocks),
            columns={
                n: np.concatenate([getattr(f, n)[k] for f, k in zip(flows, kept, strict=True)]).astype(np.int64)
                for n in names
            },
            period_first=np.concatenate([[0], np.cumsum([len(c) for c in clocks])]),
            period_start_ns=np.array([t.rules.trading_ns(t.start_ns) for t in trajectories], np.int64),
            period_end_ns=np.array([t.rules.trading_ns(t.end_ns) for t in trajectories], np.int64),
        )

    def messages(self, period: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64]) -> Any:
        """First and last-plus-one message with trading time in ``(start, end]`` of a period, ``[k]`` each."""
        first, last = np.empty(len(period), np.int64), np.empty(len(period), np.int64)
        for p in np.unique(period):
            here = period == p
            low, high = self.period_first[p], self.period_first[p + 1]
            clock = self.trading_ns[low:high]
            first[here] = low + np.searchsorted(clock, start[here], side="right")
            last[here] = low + np.searchsorted(clock, end[here], side="right")
        return first, last


@dataclass(frozen=True)
class Blocks:
    """Stretches of tape for k rows, ``[k]`` each; times are ns."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    lead_ns: NDArray[np.int64]
    """From the block's beginning to its first message."""
    length_ns: NDArray[np.int64]


class Chooser(ABC):
    """Chooses the next block of every row; one subclass per generator."""

    @abstractmethod
    def choose(self, tape: Tape, rows: Rows, number: NDArray[np.int64], trading_ns: NDArray[np.int64]) -> Blocks:
        """Blocks number ``number[k]`` of the rows, which begin at ``trading_ns[k]`` of the simulated day."""


class RecordedSession(Session):
    """Plays blocks of tape one after the other; takes agents' orders without reacting to them."""

    def __init__(
        self, tapes: list[Tape], tape: NDArray[np.int64], chooser: Chooser, rules: MatchingRules, clock_ns: Any
    ):
        rows = len(tape)
        self.tapes, self.tape, self.chooser, self.rules = tapes, tape, chooser, rules
        self.block = np.full(rows, -1, np.int64)
        self.next, self.last = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
        self.shift = np.zeros(rows, np.int64)
        """Simulated minus recorded trading time."""
        self.block_end = np.asarray(rules.trading_ns(clock_ns), np.int64).copy()
        self.empty = 0

    def propose(self, rows: Rows, book: BookView) -> NDArray[np.int64]:
        hungry = rows[self.next[rows] >= self.last[rows]]
        for _ in range(10_000):
            if len(hungry) == 0:
                break
            self._next_block(hungry)
            hungry = hungry[self.next[hungry] >= self.last[hungry]]
        else:
            raise ValueError("the training flow has no messages in 10,000 blocks; it is too thin to play again")
        times = np.empty(len(rows), np.int64)
        for number, tape in enumerate(self.tapes):
            mine = self.tape[rows] == number
            times[mine] = tape.trading_ns[self.next[rows[mine]]]
        return np.asarray(np.maximum(self.rules.clock_ns(times + self.shift[rows]), book.now_ns))

    def _next_block(self, rows: Rows) -> None:
        self.block[rows] += 1
        for number, tape in enumerate(self.tapes):
            mine = rows[self.tape[rows] == number]
            if len(mine) == 0:
                continue
            begin = self.block_end[mine]
            blocks = self.chooser.choose(tape, mine, self.block[mine], begin)
            self.next[mine], self.last[mine] = blocks.first, blocks.last
            self.block_end[mine] = begin + blocks.length_ns
            full = blocks.first < blocks.last
            self.shift[mine[full]] = (begin + blocks.lead_ns)[full] - tape.trading_ns[blocks.first[full]]

    def decide(self, rows: Rows, book: BookView) -> RowOrders:
        here = {name: np.empty(len(rows), np.int64) for name in self.tapes[0].columns}
        for number, tape in enumerate(self.tapes):
            mine = np.flatnonzero(self.tape[rows] == number)
            for name, column in tape.columns.items():
                here[name][mine] = column[self.next[rows[mine]]]
        self.next[rows] += 1
        ask, bid = book.quotes_ticks
        up = here["side"] == Kind.ASK
        aggressive, cancel = here["action"] == Action.AGGRESSIVE, here["action"] == Action.CANCEL
        away = np.where(aggressive, np.minimum(here["from_opposite"], 0), np.maximum(here["from_opposite"], 1))
        price = np.where(up, bid + away, ask - away)
        at = np.flatnonzero(cancel)
        if len(at):
            own = here["from_own"][at]
            target = np.where(up[at], ask[at] + own, bid[at] - own)
            anywhere = np.full(len(at), _ANYWHERE)
            price[at], _ = book.of(at).nearest_owned(here["side"][at], target, -anywhere, anywhere)
        low, high = book.limits_ticks
        sent = price != NO_PRICE
        out = np.zeros(len(rows), ORDER)
        out["kind"] = np.where(cancel, int(Kind.CANCEL), here["side"])
        out["flags"] = np.where(cancel, int(Flag.BY_LEVEL), np.where(aggressive & (here["ioc"] > 0), int(Flag.IOC), 0))
        out["price_ticks"] = np.clip(price, np.maximum(low, 1), high)
        out["size_shares"] = here["size_shares"]
        return RowOrders(rows[sent], out[sent])

    def observe(self, events: Events) -> Rows:
        return np.zeros(0, np.int64)


class RecordedFlow(SessionGenerator):
    """Base of the generators that play training flow; the artifact is the training flow itself."""

    reacts = False

    def __init__(self) -> None:
        self.tapes: dict[str, Tape] = {}

    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        del budget
        if not data:
            raise ValueError(f"{self.name} needs at least one training period")
        folder.mkdir(parents=True, exist_ok=True)
        save(list(data), folder / "training.parquet")
        return Artifact.write(folder, generator=self.name, version=self.version, seed=seed, data=data)

    def load(self, artifact: Artifact) -> None:
        by_instrument: dict[str, list[Trajectory]] = {}
        for trajectory in load_all(artifact.folder / "training.parquet"):
            by_instrument.setdefault(trajectory.instrument, []).append(trajectory)
        self.tapes = {name: Tape.of(parts) for name, parts in by_instrument.items()}

    @abstractmethod
    def chooser(self, streams: Streams) -> Chooser:
        """How this generator cuts the tape."""

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        missing = {s.instrument for s in starts} - set(self.tapes)
        if missing:
            raise ValueError(f"{self.name} saw no training flow of {sorted(missing)}; it knows {sorted(self.tapes)}")
        names = sorted({s.instrument for s in starts})
        streams = Streams.of(key, [s.uid for s in starts], rollouts)
        return RecordedSession(
            [self.tapes[n] for n in names],
            np.repeat([names.index(s.instrument) for s in starts], rollouts).astype(np.int64),
            self.chooser(streams),
            starts[0].rules.without_auctions(),
            np.repeat(np.array([s.clock_ns for s in starts], np.int64), rollouts),
        )
