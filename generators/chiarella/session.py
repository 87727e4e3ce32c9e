"""A market of heterogeneous agents under way: when the next order or cancel comes, and which it is.

The waiting time is kept as an amount of hazard, an Exp(1) draw. Whatever changes the book, the hazard that has passed
at the old rate is subtracted and the rest runs at the new one: exact for a state-dependent Poisson process, without a
second draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from marsbench.market.clearing_house import BookView, Events
from marsbench.market.orders import MARKET, NO_PRICE, ORDER, Flag, Kind, Reason
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import SECOND, MatchingRules
from marsbench.simulation.contracts import NEVER, RowOrders, Rows, Session, Start
from marsbench.simulation.randomness import Streams
from marsbench.stats.hawkes import season_integral, wait

from .agents import DRAWS, MOST_VARIANCE, WEALTH, mean_size_per_wealth, order_of
from .model import Model

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

STEP_S = 10.0
"""Agents look at past prices in steps of this many seconds."""
OCTAVES = 9
MEMORIES = np.exp2(np.arange(OCTAVES, dtype=np.float64) - 4.0)
"""Memories of past returns over the reference horizon; an agent takes the one nearest to its own horizon."""
EVENT, MARKS, VALUE = 1, 2, 3
"""Purposes of the random numbers."""


class Tables:
    """The models of I instruments as arrays that compiled code reads, padded to equal lengths."""

    def __init__(self, models: Sequence[Model]) -> None:
        bins = max(len(m.flow.cancel_rate) for m in models)
        far = max(m.flow.cancel_edges_ticks[-1] for m in models) + 1
        self.arrival = np.array([m.flow.order_rate for m in models])
        """``[I]``, per second of average activity."""
        self.edges = np.array([_padded(m.flow.cancel_edges_ticks, bins + 1, far) for m in models], np.int64)
        """``[I, J + 1]``."""
        self.theta = np.array(
            [_padded(np.array(m.flow.cancel_rate) / m.flow.mean_size_shares, bins, 0.0) for m in models]
        )
        """``[I, J]``, per share."""
        slots = max(len(m.flow.season) for m in models)
        self.season = np.array([_padded(m.flow.season, slots, m.flow.season[-1]) for m in models])
        """``[I, T]``."""
        self.width = models[0].flow.season_width_s
        per_wealth = [mean_size_per_wealth(m.behaviour, m.flow.half_spread, MEMORIES) for m in models]
        self.sizes = np.array([m.flow.sizes_shares for m in models]) / np.array(per_wealth)[:, None]
        """``[I, N]``: largest stocks to draw from, shares."""
        self.noise = np.array([m.behaviour.noise for m in models])
        self.spread = np.array([m.behaviour.spread for m in models])
        self.sigma = np.array([[m.behaviour.sigma_1, m.behaviour.sigma_2] for m in models])
        self.variance = np.array([m.flow.step_variance for m in models])
        """``[I]``: mean squared logarithmic return of the mid over a step, in training."""
        self.value_step = np.array([m.flow.value_per_root_s * math.sqrt(STEP_S) for m in models])
        self.keep = np.array([np.exp(-STEP_S / (60.0 * m.behaviour.tau_minutes * MEMORIES)) for m in models])
        """``[I, OCTAVES]``: share of a moving average that a step leaves."""


def _padded(values: Sequence[float] | Floats, length: int, fill: float) -> Floats:
    return np.append(np.asarray(values, np.float64), np.full(length - len(values), fill))


@njit(cache=True)
def _rates(volume, theta, arrival, season, width, kind, now, hazard, total, waits):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Total rate of each row, per second of average activity, and seconds until its hazard is used up."""
    nothing, decays = np.zeros(1), np.ones(1)
    for k in range(len(kind)):
        i = kind[k]
        rate = arrival[i]
        for side in range(2):
            for j in range(theta.shape[1]):
                rate += volume[k, side, j] * theta[i, j]
        total[k] = rate
        waits[k] = wait(hazard[k], rate, nothing, decays, season[i], width, now[k])


@njit(cache=True)
def _spend(rows, kind, total, now, then, season, width, hazard):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Subtract the hazard that passed between two trading times."""
    for k in range(len(rows)):
        r = rows[k]
        if then[k] > now[r]:
            hazard[r] -= total[r] * season_integral(season[kind[r]], width, now[r], then[k])
            hazard[r] = max(hazard[r], 1e-12)
            now[r] = then[k]


@njit(cache=True)
def _step(rows, kind, log_mid, seen, average, heat, value, shocks, keep, variance, value_step):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """One step of the past: moving averages take in the mid, the fundamental value moves."""
    for k in range(len(rows)):
        r, i = rows[k], kind[rows[k]]
        change = log_mid[r] - seen[r]
        seen[r] = log_mid[r]
        for b in range(keep.shape[1]):
            average[r, b] += (1.0 - keep[i, b]) * (log_mid[r] - average[r, b])
            heat[r, b] += (1.0 - keep[i, b]) * (change * change / variance[i] - heat[r, b])
        normal = math.sqrt(-2.0 * math.log(shocks[k, 0])) * math.cos(2.0 * math.pi * shocks[k, 1])
        value[r] += value_step[i] * normal


@njit(cache=True)
def _remember(path, keep, variance, average, heat):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Moving averages after a whole path of the past."""
    for j in range(1, len(path)):
        change = path[j] - path[j - 1]
        for b in range(len(keep)):
            average[b] += (1.0 - keep[b]) * (path[j] - average[b])
            heat[b] += (1.0 - keep[b]) * (change * change / variance - heat[b])


@njit(cache=True)
def _choose(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    rows, kind, draws, total, volume, theta, arrival, ask, bid, log_mid, average, heat, value, noise, spread, sigma,
    memories, sizes, lot, grid, out, cancelled, target,
):  # fmt: skip
    """What happens in each row: an agent's order into ``out``, or in ``cancelled[k]`` side * J + bin, else -1."""
    bins, wish, trends = theta.shape[1], np.empty(3), np.empty(average.shape[1])
    for k in range(len(rows)):
        r, i = rows[k], kind[rows[k]]
        left = draws[k, DRAWS] * total[r] - arrival[i]
        cancelled[k] = -1
        if left >= 0.0:
            for at in range(2 * bins):
                side, j = at // bins, at % bins
                rate = volume[r, side, j] * theta[i, j]
                if rate > 0.0:
                    cancelled[k] = at
                    target[k] = min(left / rate, 1.0) * volume[r, side, j]
                    if left < rate:
                        break
                    left -= rate
        if cancelled[k] >= 0:
            continue
        number = sizes.shape[1]
        wealth = sizes[i, min(int(draws[k, WEALTH] * number), number - 1)]
        for b in range(len(trends)):
            trends[b] = log_mid[r] - average[r, b]
        order_of(
            draws[k], math.exp(log_mid[r]), float(ask[k]), float(bid[k]), value[r] - log_mid[r], trends, heat[r],
            noise[i], spread[i], sigma[i], memories, wealth, wish,
        )  # fmt: skip
        ticks = math.floor(wish[1] / grid) if wish[0] > 0 else math.ceil(wish[1] / grid)
        out[k].kind = int(wish[0])
        out[k].price_ticks = max(int(ticks), 1) * grid
        out[k].size_shares = max(int(wish[2] / lot + 0.5), 1) * lot


class ChiarellaSession(Session):
    """Rows of an order-driven market of fundamentalists, chartists and noise traders."""

    def __init__(
        self, models: Sequence[Model], starts: Sequence[Start], pasts: Sequence[Past], each: int, key: int
    ) -> None:
        known = {id(m): m for m in models}
        tables, places = Tables(list(known.values())), {number: place for place, number in enumerate(known)}
        self.tables = tables
        self.kind = np.repeat(np.array([places[id(m)] for m in models], np.int64), each)
        """``[R]``: which model."""
        self.streams = Streams.of(key, [s.uid for s in starts], each)
        self.rules: MatchingRules = starts[0].rules
        rows = len(self.kind)
        clock = np.array([s.clock_ns for s in starts], np.int64)
        self.begin = np.repeat(self.rules.trading_ns(clock), each) / SECOND
        self.now = self.begin.copy()
        """Trading time up to which hazard has been used up, seconds."""
        self.steps = np.zeros(rows, np.int64)
        """Steps of the past since the start."""
        self.log_mid = np.repeat([p.log_mid for p in pasts], each)
        self.seen = np.repeat([p.seen for p in pasts], each)
        """Log mid at the last step."""
        self.average = np.repeat(np.stack([p.average for p in pasts]), each, axis=0)
        self.heat = np.repeat(np.stack([p.heat for p in pasts]), each, axis=0)
        """``[R, OCTAVES]``: moving averages of the log mid, and of the squared return over that of training."""
        self.value = self.log_mid.copy()
        """Logarithm of the fundamental value in ticks."""
        self.index, self.fresh = np.full(rows, -1, np.int64), np.ones(rows, np.bool_)
        self.hazard, self.total = np.zeros(rows), np.zeros(rows)
        self.volume = np.zeros((rows, 2, tables.theta.shape[1]), np.int64)
        self.own = self.rejected = self.hot = self.cold = 0

    def propose(self, rows: Rows, book: BookView) -> NDArray[np.int64]:
        self._pass(rows, book.now_ns)
        new = rows[self.fresh[rows]]
        if len(new):
            self.index[new] += 1
            self.hazard[new] = -np.log(self.streams.uniforms(new, self.index[new], EVENT, 1)[:, 0])
            self.fresh[new] = False
        t, kind = self.tables, self.kind[rows]
        ask, bid = book.quotes_ticks
        there = book.touch.two_sided
        self.log_mid[rows[there]] = np.log(0.5 * (ask[there] + bid[there]))
        volume = book.volume_by_distance(np.stack([bid, ask], 1), t.edges[kind])
        total, waits = np.empty(len(rows)), np.empty(len(rows))
        _rates(volume, t.theta, t.arrival, t.season, t.width, kind, self.now[rows], self.hazard[rows], total, waits)
        self.total[rows], self.volume[rows] = total, volume
        soon = np.minimum(waits, 1e6)
        return np.where(waits < 1e6, book.now_ns + np.maximum(soon * SECOND, 1.0).astype(np.int64), NEVER)

    def decide(self, rows: Rows, book: BookView) -> RowOrders:
        self._pass(rows, book.now_ns)
        self.fresh[rows] = True
        t, draws = self.tables, self.streams.uniforms(rows, self.index[rows], MARKS, DRAWS + 1)
        ask, bid = book.quotes_ticks
        out, cancelled, target = np.zeros(len(rows), ORDER), np.empty(len(rows), np.int64), np.zeros(len(rows))
        _choose(
            rows, self.kind, draws, self.total, self.volume, t.theta, t.arrival, ask, bid, self.log_mid, self.average,
            self.heat, self.value, t.noise, t.spread, t.sigma, MEMORIES, t.sizes, self.rules.lot_shares,
            self.rules.price_step_ticks, out, cancelled, target,
        )  # fmt: skip
        self._cancel(out, rows, np.flatnonzero(cancelled >= 0), cancelled, target, book)
        low, high = book.limits_ticks
        out["price_ticks"] = np.clip(out["price_ticks"], np.maximum(low, 1), high)
        heat = self.heat[rows, OCTAVES // 2]
        self.hot += int((heat > MOST_VARIANCE).sum())
        self.cold += int((heat < 1 / MOST_VARIANCE).sum())
        sent = out["size_shares"] > 0
        return RowOrders(rows[sent], out[sent])

    def _cancel(
        self, out: NDArray[np.void], rows: Rows, pick: Ints, cancelled: Ints, target: Floats, book: BookView
    ) -> None:
        """The newest order of a level, drawn in proportion to its volume within the bin, expires."""
        if len(pick) == 0:
            return
        side, where = np.divmod(cancelled[pick], self.tables.theta.shape[1])
        edges, k = self.tables.edges[self.kind[rows[pick]]], np.arange(len(pick))
        ask, bid = (q[pick] for q in book.quotes_ticks)
        price, size = book.of(pick).level_at_volume(
            side, np.where(side == Kind.ASK, bid, ask), edges[k, where], edges[k, where + 1], target[pick]
        )
        out["kind"][pick], out["flags"][pick] = Kind.CANCEL, Flag.BY_LEVEL
        out["price_ticks"][pick] = np.where(price == NO_PRICE, 1, price)
        out["size_shares"][pick] = size

    def observe(self, events: Events) -> Rows:
        market = events.orders["owner"] == MARKET
        self.own += int(market.sum())
        self.rejected += int((market & (events.reason != Reason.OK)).sum())
        foreign = ~market & (events.reason == Reason.OK)
        rows, first = np.unique(events.rows[foreign], return_index=True)
        if len(rows):
            self._pass(rows, events.orders["time_ns"][foreign][first])
        return rows

    def _pass(self, rows: Rows, now_ns: NDArray[np.int64]) -> None:
        """Bring rows to a clock time: hazard is used up, steps of the past that are over are taken in."""
        t, then = self.tables, np.asarray(self.rules.trading_ns(now_ns), np.float64) / SECOND
        _spend(rows, self.kind, self.total, self.now, then, t.season, t.width, self.hazard)
        due = np.floor((then - self.begin[rows]) / STEP_S).astype(np.int64)
        while len(late := rows[self.steps[rows] < due]):
            self.steps[late] += 1
            shocks = self.streams.uniforms(late, self.steps[late], VALUE, 2)
            _step(
                late, self.kind, self.log_mid, self.seen, self.average, self.heat, self.value, shocks, t.keep,
                t.variance, t.value_step,
            )  # fmt: skip

    def notes(self) -> Mapping[str, float]:
        """Per order: the rejected, and how often the expected variance lay beyond its upper and its lower bound."""
        orders = max(self.own, 1)
        return {
            "rejected_per_order": self.rejected / orders,
            "variance_above_bound": self.hot / orders,
            "variance_below_bound": self.cold / orders,
        }


class Past:
    """What agents know of past prices at a start: one row's moving averages."""

    def __init__(self, path: Floats, model: Model) -> None:
        """``path``: log mids in steps up to the start, ``[n]``, see ``log_mids``."""
        keep = np.exp(-STEP_S / (60.0 * model.behaviour.tau_minutes * MEMORIES))
        self.log_mid = float(path[-1])
        self.seen, self.average, self.heat = float(path[-1]), np.full(OCTAVES, path[0]), np.ones(OCTAVES)
        _remember(path, keep, model.flow.step_variance, self.average, self.heat)


def log_mids(start: Start) -> Floats:
    """Log mids of a start's history in steps up to its clock; of its book alone where the history has none.

    Raises
    ------
    ValueError
        If neither ever had both quotes nor a trade.
    """
    history, rules = start.history, start.rules
    done = replay_trajectory(history, levels=1)
    assert done.snapshots is not None
    end = float(rules.trading_ns(start.clock_ns))
    begin = float(rules.trading_ns(history.start_ns))
    back = np.arange(int((end - begin) / (STEP_S * SECOND)), -1, -1)
    edges = end - back * STEP_S * SECOND
    at = np.searchsorted(rules.trading_ns(history.orders["time_ns"]), edges, side="right")
    there = np.flatnonzero(done.snapshots.two_sided)
    place = np.searchsorted(there, at, side="right") - 1
    known = there[place[place >= 0]]
    if len(known):
        return np.asarray(np.log(0.5 * done.snapshots.mid_half_ticks[known]))
    if start.book.last_trade_ticks > 0:
        return np.full(1, np.log(float(start.book.last_trade_ticks)))
    raise ValueError(f"start {start.name}: no two-sided book and no trade before it, so agents know no price")
