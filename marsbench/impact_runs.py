"""Evidence of the task ``market-impact``: the same moments with and without somebody who trades."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import Evidence
from marsbench.scores import Score
from marsbench.simulation.contracts import Start

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Arm:
    """N metaorders in one market: what was executed of each, and what the mid did that it does not do without it."""

    executed_shares: Ints
    """``[N]``."""
    passive_shares: Ints
    """``[N]``, of them as resting orders."""
    price_ticks: Floats
    """``[N]`` mean price of execution; NaN where nothing was."""
    path: Floats
    """``[N, M + 1]`` ``side (ln mid with the metaorder - ln mid of the control arm)`` at minutes 0, 1, ... M after the
    start; NaN after the end of a shorter run, and where either book is one-sided."""
    drift: Floats
    """``[N, M + 1]`` ``side (ln mid of the control arm - ln mid at the start)``: what somebody who sends nothing (the
    null agent) would be said to cause without a control arm. ``path + drift`` is what an unpaired look sees."""
    window_shares: Ints
    """``[N]`` shares traded by anybody while the metaorder was executed."""
    rejected: Ints
    """``[N]`` messages of the agent that the exchange refused."""


@dataclass(frozen=True)
class Before:
    """What was known at each of S starts; B whole minutes before it, the last one ends at the start."""

    mids_ticks: Floats
    """``[S, B + 1]`` mid at minutes -B, ... 0; NaN before the first two-sided book."""
    traded_shares: Floats
    """``[S, B]`` shares traded in each minute; NaN before the period began."""
    signed_shares: Floats
    """``[S, B]`` bought less sold by aggressors."""
    orders: Floats
    """``[S, B]`` messages."""
    ask_shares: Floats
    """``[S, 10]`` resting at the best ten prices, the best first, at the start; 0 where there is no such level."""
    bid_shares: Floats
    """``[S, 10]``."""
    spread_ticks: Floats
    """``[S]`` NaN where the book is one-sided."""


@dataclass(frozen=True)
class Normalisers:
    """By what impacts and sizes are divided, for each of S starts: known before it, of one and the same horizon."""

    sigma: Floats
    """``[S]`` volatility over the horizon: root of the expected squared log return."""
    shares: Floats
    """``[S]`` shares traded over the horizon."""


@dataclass(frozen=True)
class Example:
    """One metaorder in full, for a picture. Seconds count from the start."""

    start: str
    agent: str
    side: int
    executed_shares: int
    seconds: Floats
    """``[E]``."""
    mid_with: Floats
    """``[E]`` in ticks, with the metaorder ..."""
    mid_without: Floats
    """... without it, same random numbers ..."""
    mid_replay: Floats
    """... and what really came."""
    event_seconds: Floats
    """``[F]`` its executions and cancels."""
    event_price: Floats
    """``[F]`` in ticks; of a cancel the mid then."""
    event_shares: Ints
    """``[F]``, 0 for a cancel."""


@dataclass(frozen=True)
class ImpactRuns(Evidence):
    """N metaorders from S starts. Those of one start differ in agent, side, size and rollout and share a control arm.

    ``own``, ``overlay`` and ``other_truth`` hold the same N metaorders in the same order, in several
    markets.
    """

    starts: tuple[Start, ...]
    agents: tuple[str, ...]
    """Labels (``L1-P0.1``)."""
    trading_minutes: int
    """Metaorders are executed within so many minutes of the start."""
    minutes: int
    """Minutes of the longest run, M."""
    start: Ints
    """``[N]`` which start."""
    agent: Ints
    """``[N]`` index into ``agents``."""
    side: Ints
    """``[N]`` +1 buys, -1 sells."""
    rank: Ints
    """``[N]`` which of the sizes of its start, 0 the smallest."""
    target_shares: Ints
    """``[N]`` what the agent was told to trade."""
    daily: Normalisers
    """Of a whole day: over the latest training days."""
    window: Normalisers
    """Of ``trading_minutes``: over the half hour before the start."""
    replay_shares: Floats
    """``[S]`` shares that really traded in the ``trading_minutes`` after the start."""
    before: Before
    own: Arm
    """In the market of the generator."""
    overlay: Arm
    """In recorded flow, which plays on as it was: what the orders do to the book when nobody reacts."""
    truth: Arm | None = None
    """In the true market, from its hidden state, where that is known: the N metaorders of one rollout after those of
    the other."""
    other_truth: Arm | None = None
    """The same with other random numbers: how close the truth comes to itself."""
    example: Example | None = None
    single_day: bool = False
    simulations: tuple[Score, ...] = ()
    """Validity of the control arm."""

    def validity(self) -> tuple[Score, ...]:
        return self.simulations

    @cached_property
    def start_clusters(self) -> Ints:
        """Unit of inference of each start, ``[S]``: 0, 1, ..."""
        names = {c: i for i, c in enumerate(dict.fromkeys(s.cluster for s in self.starts))}
        return np.array([names[s.cluster] for s in self.starts], np.int64)

    @cached_property
    def clusters(self) -> Ints:
        """Unit of inference of each metaorder, ``[N]``: all of one start belong together."""
        return self.start_clusters[self.start]

    def rollouts(self, arm: Arm) -> int:
        """How many times an arm holds the N metaorders."""
        return len(arm.path) // max(len(self.start), 1)

    def repeated(self, times: int) -> Self:
        """The same metaorders so many times, one set after the other: what ``truth`` is about."""
        return replace(
            self,
            start=np.tile(self.start, times),
            agent=np.tile(self.agent, times),
            side=np.tile(self.side, times),
            rank=np.tile(self.rank, times),
            target_shares=np.tile(self.target_shares, times),
        )

    def sizes(self, arm: Arm, normaliser: Normalisers) -> Floats:
        """``[N]`` Q/V: executed shares over those of the normaliser."""
        return np.asarray(arm.executed_shares / normaliser.shares[self.start])

    def impacts(self, arm: Arm, normaliser: Normalisers) -> Floats:
        """``[N, M + 1]`` paths in units of the normaliser's volatility."""
        return np.asarray(arm.path / normaliser.sigma[self.start][:, None])
