"""``zero-intelligence``: the stochastic order book of Cont, Stoikov and Talreja (2010), calibrated.

Limit orders arrive at a constant rate per side, at distances from the opposite best quote drawn from
the training distribution (so lambda(i) is the rate by level); aggressive orders arrive at rate mu;
every resting order is cancelled at a rate theta(i) that depends on its distance. All are exponential
clocks: the next event's rate is the sum over the book as it stands, and it changes as soon as somebody
else changes the book, so that the flow reacts through the book and through nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from marsbench.market.clearing_house import BookView, ClearingHouse, Events
from marsbench.market.flow import Action, order_flow
from marsbench.market.orders import MARKET, NO_PRICE, ORDER, Flag, Kind
from marsbench.market.rules import SECOND
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import NEVER, Artifact, Budget, RowOrders, Rows, Session, SessionGenerator, Start
from marsbench.simulation.randomness import Streams

SAMPLE_NS = 5 * SECOND
"""How often the standing volume is measured for the cancellation rates."""
UNIT_BINS = 16
"""Cancellation rates are per tick up to here, then per bin that widens by a factor of 1.5."""
EVENT, SIZE = 1, 2
"""Purposes of the random numbers."""


@dataclass(frozen=True)
class Law:
    """A discrete distribution as readable tables: equally long columns of values, and their weights."""

    values: dict[str, list[int]]
    weights: list[float]

    @classmethod
    def empirical(cls, **columns: NDArray[np.int64]) -> Self:
        """The joint distribution of the rows of the columns."""
        table, counts = np.unique(np.stack(list(columns.values()), 1), axis=0, return_counts=True)
        return cls({n: table[:, i].tolist() for i, n in enumerate(columns)}, counts.astype(float).tolist())

    def cumulative(self) -> NDArray[np.float64]:
        total = np.cumsum(np.asarray(self.weights, np.float64))
        return np.asarray(total / total[-1])


@dataclass(frozen=True)
class Rates:
    """Everything that the model knows about one instrument. Rates are per second and side."""

    limit_rate: float
    limit_distance: Law
    """Column ``ticks``: distance from the opposite best quote, 1 or more."""
    limit_size: Law
    """Column ``shares``."""
    market_rate: float
    market_order: Law
    """Columns ``shares`` and ``ticks`` (how far its limit lies beyond the opposite best) and ``ioc``."""
    cancel_edges_ticks: list[int]
    """J + 1 edges of distance from the opposite best."""
    cancel_rate: list[float]
    """J rates at which an average-sized order at that distance is cancelled."""
    mean_size_shares: float

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        laws = {k: Law(**values[k]) for k in ("limit_distance", "limit_size", "market_order")}
        return cls(**{**values, **laws})


def _edges(distances: NDArray[np.int64]) -> list[int]:
    edges = list(range(1, UNIT_BINS + 2))
    last = int(distances.max(initial=1))
    while edges[-1] <= last:
        edges.append(int(edges[-1] * 1.5))
    return edges


def _exposure(trajectory: Trajectory, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Integral over time of the standing volume by distance, share-seconds summed over sides, ``[J]``."""
    house = ClearingHouse(trajectory.rules, 1)
    house.load(0, trajectory.book)
    times = np.arange(trajectory.start_ns, trajectory.end_ns, SAMPLE_NS)
    trading = np.diff(trajectory.rules.trading_ns(np.append(times, trajectory.end_ns)))
    ends = np.searchsorted(trajectory.orders["time_ns"], times, side="right")
    total, done, row = np.zeros(len(edges) - 1), 0, np.zeros(1, np.int64)
    for end, length in zip(ends, trading, strict=True):
        house.submit(np.zeros(end - done, np.int64), trajectory.orders[done:end])
        done = int(end)
        view = house.view(row, row)
        ask, bid = view.quotes_ticks
        volume = view.volume_by_distance(np.stack([bid, ask], 1), edges[None, :])
        total += volume[0].sum(axis=0) * (length / SECOND)
    return total


def calibrate(trajectories: Sequence[Trajectory]) -> Rates:
    """Rates of one instrument from its training periods.

    Raises
    ------
    ValueError
        If there is too little flow of any of the three kinds.
    """
    flows = [order_flow(t) for t in trajectories]
    seconds = sum(float(t.rules.trading_ns(t.end_ns) - t.rules.trading_ns(t.start_ns)) / SECOND for t in trajectories)

    def column(name: str, action: Action) -> NDArray[np.int64]:
        return np.concatenate([getattr(f, name)[(f.action == action) & f.quoted] for f in flows]).astype(np.int64)

    limits = np.maximum(column("from_opposite", Action.LIMIT), 1)
    cancels = np.maximum(column("from_opposite", Action.CANCEL), 1)
    aggressive = column("size_shares", Action.AGGRESSIVE)
    if min(len(limits), len(cancels), len(aggressive)) < 10 or seconds <= 0:
        raise ValueError(
            f"{trajectories[0].instrument}: {len(limits)} limit orders, {len(aggressive)} aggressive orders and "
            f"{len(cancels)} cancels in training; at least 10 of each are needed to calibrate zero-intelligence"
        )
    sizes = column("size_shares", Action.LIMIT)
    mean_size = float(sizes.mean())
    edges = np.array(_edges(np.concatenate([limits, cancels])), np.int64)
    exposure = sum((_exposure(t, edges) for t in trajectories), np.zeros(len(edges) - 1)) / mean_size
    counts = np.histogram(cancels, edges)[0]
    rate = np.divide(counts, exposure, out=np.zeros(len(counts)), where=exposure > 0)
    return Rates(
        limit_rate=len(limits) / (2 * seconds),
        limit_distance=Law.empirical(ticks=limits),
        limit_size=Law.empirical(shares=sizes),
        market_rate=len(aggressive) / (2 * seconds),
        market_order=Law.empirical(
            shares=aggressive,
            ticks=np.maximum(-column("from_opposite", Action.AGGRESSIVE), 0),
            ioc=column("ioc", Action.AGGRESSIVE),
        ),
        cancel_edges_ticks=edges.tolist(),
        cancel_rate=rate.tolist(),
        mean_size_shares=mean_size,
    )


class _Tables:
    """The rates of I instruments as arrays that compiled code reads, padded to equal lengths."""

    def __init__(self, rates: Sequence[Rates]) -> None:
        bins = max(len(r.cancel_rate) for r in rates)
        far = max(r.cancel_edges_ticks[-1] for r in rates) + 1
        self.base = np.array([[r.limit_rate] * 2 + [r.market_rate] * 2 for r in rates])
        """``[I, 4]``: limit ask, limit bid, market ask, market bid."""
        self.edges = np.array([_padded(r.cancel_edges_ticks, bins + 1, far) for r in rates], np.int64)
        """``[I, J + 1]``."""
        self.theta = np.array([_padded(np.array(r.cancel_rate) / r.mean_size_shares, bins, 0.0) for r in rates])
        """``[I, J]``, per share."""
        self.distance = _stacked([r.limit_distance for r in rates])
        self.size = _stacked([r.limit_size for r in rates])
        self.market = _stacked([r.market_order for r in rates])


def _padded(values: Any, length: int, fill: float) -> NDArray[Any]:
    return np.append(values, np.full(length - len(values), fill))


def _stacked(laws: Sequence[Law]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Cumulative weights ``[I, N]`` and values ``[I, columns, N]``."""
    longest = max(len(law.weights) for law in laws)
    cumulative = np.array([_padded(law.cumulative(), longest, 1.0) for law in laws])
    values = np.array([[_padded(column, longest, column[-1]) for column in law.values.values()] for law in laws])
    return cumulative, values.astype(np.int64)


@njit(cache=True)
def _waits(volume, theta, base, kind, hazard, rates, waits):  # type: ignore[no-untyped-def]
    """Rates ``[k, 4 + 2 J]`` of every event on each book, and seconds until the hazard is used up."""
    bins = theta.shape[1]
    for k in range(len(kind)):
        total = 0.0
        for j in range(4):
            rates[k, j] = base[kind[k], j]
            total += rates[k, j]
        for side in range(2):
            for j in range(bins):
                rate = volume[k, side, j] * theta[kind[k], j]
                rates[k, 4 + side * bins + j] = rate
                total += rate
        waits[k] = hazard[k] / total


@njit(cache=True)
def _choose(rates, draws, kind, ask, bid, distance, size, market, out, cancelled):  # type: ignore[no-untyped-def]
    """Draw what happens: new orders go into ``out``, for cancels ``cancelled[k]`` is side * J + bin, else -1."""
    for k in range(len(kind)):
        i = kind[k]
        total = 0.0
        for j in range(rates.shape[1]):
            total += rates[k, j]
        target, passed, event = draws[k, 0] * total, 0.0, 0
        while event < rates.shape[1] - 1 and passed + rates[k, event] < target:
            passed += rates[k, event]
            event += 1
        cancelled[k] = event - 4 if event >= 4 else -1
        if event >= 4:
            continue
        side = event % 2
        if event < 2:
            at = min(np.searchsorted(distance[0][i], draws[k, 1], side="right"), distance[0].shape[1] - 1)
            away = distance[1][i, 0, at]
            at = min(np.searchsorted(size[0][i], draws[k, 2], side="right"), size[0].shape[1] - 1)
            shares, ioc = size[1][i, 0, at], 0
        else:
            at = min(np.searchsorted(market[0][i], draws[k, 1], side="right"), market[0].shape[1] - 1)
            shares, away, ioc = market[1][i, 0, at], -market[1][i, 1, at], market[1][i, 2, at]
        out[k].kind = side
        out[k].price_ticks = bid[k] + away if side == 0 else ask[k] - away
        out[k].size_shares = shares
        out[k].flags = ioc


class ZeroIntelligenceSession(Session):
    """Exponential clocks on every row's book.

    The waiting time of an event is kept as an amount of hazard, an Exp(1) draw. Whatever changes the
    book, the hazard that has passed at the old rate is subtracted and the rest runs at the new rate:
    exact for a state-dependent Poisson process, without a second draw.
    """

    def __init__(self, tables: _Tables, kinds: NDArray[np.int64], streams: Streams) -> None:
        self.tables, self.kind, self.streams = tables, kinds, streams
        rows, bins = len(kinds), tables.theta.shape[1]
        self.now = np.zeros(rows, np.int64)
        """Up to when the hazard has been subtracted."""
        self.index = np.full(rows, -1, np.int64)
        self.hazard = np.zeros(rows)
        self.fresh = np.ones(rows, bool)
        self.rates = np.zeros((rows, 4 + 2 * bins))
        self.volume = np.zeros((rows, 2, bins), np.int64)

    def propose(self, rows: Rows, book: BookView) -> NDArray[np.int64]:
        new = rows[self.fresh[rows]]
        if len(new):
            self.index[new] += 1
            self.hazard[new] = -np.log(self.streams.uniforms(new, self.index[new], EVENT, 1)[:, 0])
            self.fresh[new] = False
        kind = self.kind[rows]
        ask, bid = book.quotes_ticks
        volume = book.volume_by_distance(np.stack([bid, ask], 1), self.tables.edges[kind])
        rates, waits = np.empty((len(rows), self.rates.shape[1])), np.empty(len(rows))
        _waits(volume, self.tables.theta, self.tables.base, kind, self.hazard[rows], rates, waits)
        self.now[rows], self.volume[rows], self.rates[rows] = book.now_ns, volume, rates
        return np.where(waits < 1e6, book.now_ns + np.maximum(waits * SECOND, 1.0).astype(np.int64), NEVER)

    def decide(self, rows: Rows, book: BookView) -> RowOrders:
        self.fresh[rows] = True
        draws = self.streams.uniforms(rows, self.index[rows], SIZE, 4)
        out, cancelled = np.zeros(len(rows), ORDER), np.empty(len(rows), np.int64)
        ask, bid = book.quotes_ticks
        t = self.tables
        _choose(self.rates[rows], draws, self.kind[rows], ask, bid, t.distance, t.size, t.market, out, cancelled)
        self._cancel(out, rows, np.flatnonzero(cancelled >= 0), cancelled, book, draws)
        low, high = book.limits_ticks
        out["price_ticks"] = np.clip(out["price_ticks"], np.maximum(low, 1), high)
        sent = out["size_shares"] > 0
        return RowOrders(rows[sent], out[sent])

    def _cancel(self, out: Any, rows: Rows, pick: Any, cancelled: Any, book: BookView, draws: Any) -> None:
        """Cancel the newest order of a level that is drawn in proportion to its volume within the bin."""
        if len(pick) == 0:
            return
        side, where = np.divmod(cancelled[pick], self.tables.theta.shape[1])
        row = rows[pick]
        edges = self.tables.edges[self.kind[row]]
        k = np.arange(len(pick))
        ask, bid = (q[pick] for q in book.quotes_ticks)
        target = draws[pick, 3] * self.volume[row, side, where]
        price, size = book.of(pick).level_at_volume(
            side, np.where(side == Kind.ASK, bid, ask), edges[k, where], edges[k, where + 1], target
        )
        out["kind"][pick] = Kind.CANCEL
        out["flags"][pick] = Flag.BY_LEVEL
        out["price_ticks"][pick] = np.where(price == NO_PRICE, 1, price)
        out["size_shares"][pick] = size

    def observe(self, events: Events) -> Rows:
        foreign = events.orders["owner"] != MARKET
        rows, first = np.unique(events.rows[foreign], return_index=True)
        then = events.orders["time_ns"][foreign][first]
        passed = (then - self.now[rows]) / SECOND * self.rates[rows].sum(axis=1)
        self.hazard[rows] = np.maximum(self.hazard[rows] - passed, 1e-12)
        return rows


class ZeroIntelligence(SessionGenerator):
    """Calibrated zero-intelligence order flow."""

    name = "zero-intelligence"
    version = 1
    training_days = 10
    reacts = True
    summary = "Poisson limit, market and cancel flow with rates by level, calibrated"
    source = "Cont, Stoikov, Talreja (2010), A stochastic model for order book dynamics"

    def __init__(self) -> None:
        self.rates: dict[str, Rates] = {}

    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        del budget
        by_instrument: dict[str, list[Trajectory]] = {}
        for trajectory in data:
            by_instrument.setdefault(trajectory.instrument, []).append(trajectory)
        rates = {name: asdict(calibrate(parts)) for name, parts in by_instrument.items()}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rates.json").write_text(json.dumps(rates))
        return Artifact.write(folder, generator=self.name, version=self.version, seed=seed, data=data)

    def load(self, artifact: Artifact) -> None:
        self.publish(json.loads((artifact.folder / "rates.json").read_text()))

    def publish(self, rates: Mapping[str, Mapping[str, Any]]) -> None:
        """Use given rates by instrument (the fields of ``Rates``) instead of calibrated ones."""
        self.rates = {name: Rates.from_dict(values) for name, values in rates.items()}

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        missing = {s.instrument for s in starts} - set(self.rates)
        if missing:
            raise ValueError(
                f"zero-intelligence was not calibrated for {sorted(missing)}; it knows {sorted(self.rates)}"
            )
        names = sorted({s.instrument for s in starts})
        kinds = np.repeat([names.index(s.instrument) for s in starts], rollouts).astype(np.int64)
        streams = Streams.of(key, [s.uid for s in starts], rollouts)
        return ZeroIntelligenceSession(_Tables([self.rates[n] for n in names]), kinds, streams)
