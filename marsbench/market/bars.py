"""One-minute bars of a trajectory: prices, volume and the per-minute quantities of MarS Table 7.

Bar m covers ``(start + 60 m s, start + 60 (m + 1) s]`` of continuous trading: breaks such as lunch
are cut out, messages in call auctions before the open or after the close belong to no bar. A minute
without a trade carries the last price forward; what does not exist (a mid of a one-sided book, a
ratio of nothing) is NaN, never a stand-in number.

Order-flow statistics count the market's own accepted messages: rejected ones, volume that a source
merely seeded, and (unless asked for) agents' orders are left out. Prices, spread and volume are
those of the whole market, agents included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from marsbench.market.orders import MARKET, ORDER, Flag, Kind
from marsbench.market.replay import Replay, replay_trajectory
from marsbench.market.rules import MINUTE, SECOND, MatchingRules
from marsbench.market.snapshots import Snapshots
from marsbench.market.trajectory import Trajectory

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MIN_MIDS = 10
"""A minute with fewer two-sided mids has no volatility (METHODS: Table 7's ten quantities)."""


@dataclass(frozen=True)
class MinuteBars:
    """Bars with the minute on the last axis: ``[..., M]``, price series ``[..., M + 1]``.

    Entry 0 of a price series is bar -1, the state at the start. All arrays are float64; NaN is missing.
    """

    last_trade_ticks: Floats
    """``[..., M + 1]`` price of the last trade, carried forward; NaN before any trade."""
    mean_trade_ticks: Floats
    """``[..., M + 1]`` plain mean of the trade prices of the minute, carried forward; entry 0 is the last trade."""
    mid_half_ticks: Floats
    """``[..., M + 1]`` bid + ask in ticks (twice the mid) when the minute ends; NaN if one-sided."""
    volume_shares: Floats
    """Shares traded."""
    n_trades: Floats
    """Fills."""
    n_orders: Floats
    """Counted messages: new orders and cancels; a replace is one new order."""
    n_new: Floats
    """New orders (ASK and BID)."""
    n_cancels: Floats
    volatility: Floats
    """Standard deviation (ddof 1) of the log mid returns between consecutive counted messages of the
    minute times the square root of their number; NaN below ``MIN_MIDS`` two-sided mids."""
    spread_ticks: Floats
    """Time-weighted mean of ask - bid over two-sided time; NaN if there was none."""
    mean_order_lots: Floats
    """Mean size of new orders in lots; NaN without any."""
    aggressive_ratio: Floats
    """New orders that traded at once / new orders, in [0, 1]."""
    buy_ratio: Floats
    """BID / (ASK + BID) new orders by count, in [0, 1]."""
    one_sided_share: Floats
    """Share of the minute's time without a bid or without an ask, in [0, 1]."""

    @property
    def minutes(self) -> int:
        return int(self.volume_shares.shape[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes, such as ``[S]`` or ``[S, R]``."""
        return self.volume_shares.shape[:-1]

    def mid_returns(self, k: int = 1) -> Floats:
        """``log(last mid at t + k min / mid at t)``, ``[..., max(M + 1 - k, 0)]``; entry 0 departs from the start."""
        if k < 1:
            raise ValueError(f"a return needs a horizon of at least 1 minute, got {k}")
        log_mid = np.log(self.mid_half_ticks)
        return np.asarray(log_mid[..., k:] - log_mid[..., : max(log_mid.shape[-1] - k, 0)])

    @classmethod
    def stack(cls, many: Sequence[Self]) -> Self:
        """Join bars of the same shape along a new first axis.

        Raises
        ------
        ValueError
            If there is nothing to join, or the lengths differ.
        """
        if not many:
            raise ValueError("no bars to stack; give at least one trajectory")
        shapes = {b.volume_shares.shape for b in many}
        if len(shapes) > 1:
            raise ValueError(f"bars of different shapes {sorted(shapes)}; cut the periods to one length first")
        return cls(**{f.name: np.stack([getattr(b, f.name) for b in many]) for f in fields(cls)})

    def __getitem__(self, index: Any) -> Self:
        """Select along the leading axes."""
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True)
class _Pieces:
    """Bars as pieces of clock time; a bar that spans a break has several."""

    start_ns: Ints
    end_ns: Ints
    bar: Ints
    opens: NDArray[np.bool_]
    """Whether the piece begins where its phase does: then a message at that very instant belongs to it."""
    closes: NDArray[np.bool_]
    """Whether the piece ends where its phase does: phases are half-open, so that instant is not in it."""

    def bounds(self, time_ns: Ints) -> tuple[Ints, Ints]:
        """First and past-the-last index of the sorted times that lie in each piece."""
        low, low_open = (np.searchsorted(time_ns, self.start_ns, side) for side in ("right", "left"))
        high, high_closed = (np.searchsorted(time_ns, self.end_ns, side) for side in ("right", "left"))
        return np.where(self.opens, low_open, low), np.where(self.closes, high_closed, high)


def _pieces(rules: MatchingRules, edges: Ints) -> _Pieces:
    """Cut bars, given by their edges in trading time, at the breaks of the day."""
    rows, done = [], 0
    for phase in rules.continuous:
        length = phase.end_ns - phase.start_ns
        low, high = np.maximum(edges[:-1], done), np.minimum(edges[1:], done + length)
        begins = phase.start_ns - done
        rows += [
            (begins + low[bar], begins + high[bar], bar, low[bar] == done, high[bar] == done + length)
            for bar in np.flatnonzero(high > low)
        ]
        done += length
    table = np.array(rows, np.int64).reshape(-1, 5)
    return _Pieces(table[:, 0], table[:, 1], table[:, 2], table[:, 3] == 1, table[:, 4] == 1)


@njit(cache=True)
def _accumulate(  # type: ignore[no-untyped-def]
    time_ns, kinds, sizes, counted, traded, ask, bid, two_sided, piece_start, piece_end, low, high, bar, out
):  # pragma: no cover - compiled
    """Walk the messages of all pieces once. ``ask[i]`` etc. are the book right before message i."""
    mid = 0.0
    current = -1
    for p in range(len(bar)):
        m = bar[p]
        if m != current:
            mid, current = 0.0, m
        at = piece_start[p]
        for i in range(low[p], high[p] + 1):
            until = min(time_ns[i], piece_end[p]) if i < high[p] else piece_end[p]
            if two_sided[i]:
                out[m, 0] += until - at
                out[m, 1] += (until - at) * (ask[i] - bid[i])
            out[m, 2] += until - at
            at = until
            if i == high[p] or not counted[i]:
                continue
            if kinds[i] == 2:
                out[m, 3] += 1
            else:
                out[m, 4 + kinds[i]] += 1
                out[m, 6] += sizes[i]
                out[m, 7] += traded[i] > 0
            if two_sided[i + 1]:
                now = float(ask[i + 1]) + float(bid[i + 1])
                if mid > 0.0:
                    # log1p of the relative change: exact 0 for an unchanged mid, full precision for small moves
                    r = np.log1p((now - mid) / mid)
                    out[m, 9] += r
                    out[m, 10] += r * r
                out[m, 8] += 1
                mid = now


def _period(rules: MatchingRules, start_ns: int, end_ns: int, shift_ns: int = 0) -> tuple[int, _Pieces]:
    """How many bars a period has, and their pieces."""
    begin, end = int(rules.trading_ns(start_ns)), int(rules.trading_ns(end_ns))
    bars = (end - begin) // MINUTE
    return bars, _pieces(rules, np.minimum(begin + shift_ns + np.arange(bars + 1) * MINUTE, end))


def _quotes(books: Snapshots, pieces: _Pieces, low: Ints, high: Ints, out: Floats) -> dict[str, Floats]:
    """Series that the best quotes alone give; ``out`` as ``_accumulate`` left it."""
    ask, bid = books.best()
    mids = np.where(books.two_sided, ask.astype(np.float64) + bid, np.nan)
    mid_half = np.full(len(out) + 1, mids[low[0] if len(low) else 0])
    mid_half[1 + pieces.bar] = mids[high]
    two_sided_ns, spread_ns, all_ns = out.T[:3]
    return {
        "mid_half_ticks": mid_half,
        "spread_ticks": _ratio(spread_ns, two_sided_ns),
        "one_sided_share": 1 - _ratio(two_sided_ns, all_ns),
    }


def _ratio(above: Floats, below: Floats) -> Floats:
    """``above / below``, NaN where there is nothing below."""
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0))


def _volatility(mids: Floats, total: Floats, squares: Floats) -> Floats:
    n = np.maximum(mids - 1, 2)
    variance = np.maximum(squares - total * total / n, 0) / (n - 1)
    return np.where(mids >= MIN_MIDS, np.sqrt(variance * n), np.nan)


def _trades(fills: NDArray[np.void], pieces: _Pieces, bars: int, start: float) -> dict[str, Floats]:
    """Price series, volume and number of the fills; bar -1 is the last fill before the bars, else ``start``."""
    low, high = pieces.bounds(np.ascontiguousarray(fills["time_ns"]))
    price = fills["price_ticks"].astype(np.float64)
    sums = np.zeros((3, bars + 1))
    last, first = np.full(bars, -1, np.int64), (int(low[0]) if len(low) else 0)
    for row, values in zip(sums, (np.ones(len(fills)), price, fills["size_shares"].astype(np.float64)), strict=True):
        total = np.concatenate([[0.0], np.cumsum(values)])
        np.add.at(row, pieces.bar, total[high] - total[low])
    np.maximum.at(last, pieces.bar, high - 1)
    series = np.concatenate([[start if first == 0 else price[first - 1]], np.full(bars, np.nan)])
    mean = series.copy()
    n = sums[0, :bars]
    traded = n > 0
    series[1:][traded] = price[last[traded]]
    mean[1:] = _ratio(sums[1, :bars], n)
    return {
        "last_trade_ticks": _carry_forward(series),
        "mean_trade_ticks": _carry_forward(mean),
        "volume_shares": sums[2, :bars],
        "n_trades": n,
    }


def _carry_forward(series: Floats) -> Floats:
    seen = np.maximum.accumulate(np.where(np.isnan(series), 0, np.arange(len(series))))
    return np.asarray(series[seen])


def minute_bars(
    trajectory: Trajectory,
    *,
    last_trade_ticks: int = 0,
    minute: Literal["floor", "mars"] = "floor",
    agents: bool = False,
    done: Replay | None = None,
) -> MinuteBars:
    """Bars ``[M]`` of a trajectory, M being the whole minutes of continuous trading in its period.

    Parameters
    ----------
    last_trade_ticks
        Price of the last trade before the start; 0 takes the one of the starting book.
    minute
        ``"floor"``: bars as above. ``"mars"``: a clock minute collects what lies within half a minute
        of it, as MarS's public code does by rounding, so bar m covers (start + 60 m + 30 s,
        start + 60 (m + 1) + 30 s] and the last one is cut short by the end of the period.
    agents
        Count agents' orders in the order-flow statistics as well.
    done
        Its replay with at least one level, where it is there already; else it is replayed here.
    """
    if minute not in ("floor", "mars"):
        raise ValueError(f"minute={minute!r}: choose 'floor' or 'mars'")
    rules, orders = trajectory.rules, trajectory.orders
    shift = 30 * SECOND if minute == "mars" else 0
    bars, pieces = _period(rules, trajectory.start_ns, trajectory.end_ns, shift)

    replay = replay_trajectory(trajectory, levels=1) if done is None else done
    if replay.snapshots is None:
        raise ValueError("bars need a replay with snapshots; ask for levels=1")
    ask, bid = replay.snapshots.best()
    two_sided = replay.snapshots.two_sided
    counted = (replay.reason == 0) & ((orders["flags"] & int(Flag.SEEDED)) == 0) & (orders["kind"] <= Kind.CANCEL)
    if not agents:
        counted &= orders["owner"] == MARKET
    # A rejected message may carry a time that runs backwards; it changes nothing and has no place of its own.
    time_ns = np.ascontiguousarray(np.maximum.accumulate(orders["time_ns"]) if len(orders) else orders["time_ns"])

    low, high = pieces.bounds(time_ns)
    out = np.zeros((bars, 11))
    _accumulate(
        time_ns, orders["kind"], orders["size_shares"], counted, replay.traded_shares, ask, bid, two_sided,
        pieces.start_ns, pieces.end_ns, low, high, pieces.bar, out,
    )  # fmt: skip
    cancels, asks, bids, shares, aggressive, n_mids, total, squares = out.T[3:]
    n_new = asks + bids
    start = float(last_trade_ticks or trajectory.book.last_trade_ticks) or np.nan
    return MinuteBars(
        **_trades(trajectory.fills, pieces, bars, start),
        **_quotes(replay.snapshots, pieces, low, high, out),
        n_orders=n_new + cancels,
        n_new=n_new,
        n_cancels=cancels,
        volatility=_volatility(n_mids, total, squares),
        mean_order_lots=_ratio(shares, n_new * rules.lot_shares),
        aggressive_ratio=_ratio(aggressive, n_new),
        buy_ratio=_ratio(bids, n_new),
    )


def mid_and_spread(
    rules: MatchingRules, start_ns: int, end_ns: int, time_ns: Ints, books: Snapshots
) -> dict[str, Floats]:
    """Those series of the bars of a period that need no messages: mid, spread and one-sided time.

    Parameters
    ----------
    time_ns
        ``[n]``, ascending: when the book changes.
    books
        ``[n + 1]``: entry i is the book right before change i, entry n the book at the end.
    """
    bars, pieces = _period(rules, start_ns, end_ns)
    nobody = np.zeros(len(time_ns), ORDER)
    ask, bid = books.best()
    low, high = pieces.bounds(time_ns)
    out = np.zeros((bars, 11))
    _accumulate(
        time_ns, nobody["kind"], nobody["size_shares"], np.zeros(len(time_ns), bool), np.zeros(len(time_ns), np.int64),
        ask, bid, books.two_sided, pieces.start_ns, pieces.end_ns, low, high, pieces.bar, out,
    )  # fmt: skip
    return _quotes(books, pieces, low, high, out)
