"""Event response functions (Eisler, Bouchaud and Kockelkoren 2012) as LOB-Bench computes them.

``R(l) = E[(m(t + l - 1) - m(t - 1)) * sign(t)]`` in ticks, where t counts the events at the touch (messages of types 1
to 4 that change price or size of the best quotes), for market orders (MO), new limit orders (LO) and cancels (CA) that
leave both best prices where they are (0) or not (1). The sign is 1 for what pushes the price up: a new bid, a cancelled
or executed ask. Executions in a row at one price and side that are at most a microsecond apart are one market order,
with the book after the last of them. Definitions read in the source of ``peernagy/lob_bench`` (its ``impact.py`` in a
stored copy); its score is the sum over a lag grid in which 3 stands twice, ours the mean over the same grid without
repeated lags.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.lob_bench import ADD, EXECUTE, Floats, Ints, LobSequence

EVENTS = ("mo_0", "mo_1", "lo_0", "lo_1", "ca_0", "ca_1")
LAGS: tuple[int, ...] = tuple(int(x) for x in np.unique((10 ** np.arange(0.3, 2.4, step=0.1)).astype(int)))
"""Logarithmic, from 1 to about 200 events at the touch."""


SAME_ORDER_NS = 1000
"""Executions at one price that are so close together belong to one market order."""


def market_orders_merged(s: LobSequence) -> LobSequence:
    """The sequence with one row for each market order and price: the last of its executions, of the size of all."""
    if not len(s):
        return s
    goes_on = (
        (s.event[1:] == EXECUTE)
        & (s.event[:-1] == EXECUTE)
        & (s.direction[1:] == s.direction[:-1])
        & (s.price[1:] == s.price[:-1])
        & (np.diff(s.time_ns) <= SAME_ORDER_NS)
    )
    last = np.flatnonzero(np.append(~goes_on, True))
    size = np.add.reduceat(s.size, np.append(0, last[:-1] + 1))
    return replace(
        s, time_ns=s.time_ns[last], event=s.event[last], order_id=s.order_id[last], size=size, price=s.price[last],
        direction=s.direction[last], book=s.book[last],
    )  # fmt: skip


def touch_events(s: LobSequence) -> tuple[Floats, Ints, Ints]:
    """Mid after each event at the touch, what it is (place in ``EVENTS``) and its sign, ``[k]`` each."""
    s = market_orders_merged(s)
    top = s.book[:, 0, :]
    changed = np.ones(len(s), bool)
    if len(s):
        changed[1:] = ~((top[1:] == top[:-1]) | (np.isnan(top[1:]) & np.isnan(top[:-1]))).all(axis=1)
    at = np.flatnonzero(changed & (s.event >= ADD) & (s.event <= EXECUTE))
    event, price = s.event[at], top[at][:, [0, 2]]
    moves = np.ones(len(at), bool)
    if len(at):
        moves[1:] = (price[1:] != price[:-1]).any(axis=1)
    family = np.where(event == EXECUTE, 0, np.where(event == ADD, 1, 2))
    sign = np.where(event == ADD, s.direction[at], -s.direction[at])
    return s.mid[at], 2 * family + moves, sign


def response_sums(s: LobSequence, tick: float, rng: np.random.Generator | None = None) -> NDArray[np.float64]:
    """``[2, 6, L]``: sums of signed moves in ticks, and their number, by event type and lag.

    With ``rng`` types and signs are shuffled together among the events, so that none of them says anything about
    the moves beside it: the floor.
    """
    mid, kind, sign = touch_events(s)
    if rng is not None:
        order = rng.permutation(len(kind))
        kind, sign = kind[order], sign[order]
    out = np.zeros((2, len(EVENTS), len(LAGS)))
    for k, lag in enumerate(LAGS):
        if len(mid) <= lag:
            break
        move = (mid[lag:] - mid[:-lag]) * sign[1 : len(mid) - lag + 1] / tick
        ok = np.isfinite(move)
        of = kind[1 : len(mid) - lag + 1][ok]
        out[0, :, k] = np.bincount(of, weights=move[ok], minlength=len(EVENTS))
        out[1, :, k] = np.bincount(of, minlength=len(EVENTS))
    return out


def response(sums: Floats) -> Floats:
    """R(l) from sums ``[..., 2, 6, L]``; NaN where there is no such event."""
    total, count = sums[..., 0, :, :], sums[..., 1, :, :]
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def response_distance(real: Floats, made: Floats) -> Floats:
    """``[..., 6]``: mean over the lags that both have of ``|R - R'|``, in ticks; NaN where there is none."""
    gap = np.abs(response(real) - response(made))
    ok = np.isfinite(gap)
    n = ok.sum(axis=-1)
    return np.asarray(np.divide(np.where(ok, gap, 0).sum(axis=-1), n, out=np.full(n.shape, np.nan), where=n > 0))
