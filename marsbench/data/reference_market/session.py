"""The reference market rolled forward from a hidden state: what may happen next, given what is true now."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marsbench.data.reference_market import clock as steps
from marsbench.data.reference_market.day import clock_of, trading_of
from marsbench.data.reference_market.portable_math import plain
from marsbench.data.reference_market.profiles import PROFILES, SHARED, profile_table
from marsbench.data.reference_market.state import HEAPS, SLOTS, Hidden, Snapshot, shared_table
from marsbench.market.clearing_house import BookView, Events
from marsbench.market.orders import MARKET, ORDER
from marsbench.simulation.contracts import RowOrders, Rows, Session


@plain
def _propose(  # type: ignore[no-untyped-def]
    rows, state, metaorders, when, who, capacity, profiles, shared,
    head, nodes, levels, keys, slots, table, cap_nodes, cap_levels, cap_table, out,
):  # fmt: skip
    for i in range(len(rows)):
        b = rows[i]
        s = state[b]
        due_ns = steps.propose(
            s, profiles[s.profile], shared[0], metaorders, when, who, capacity,
            head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table,
        )  # fmt: skip
        out[i] = clock_of(due_ns)


@plain
def _decide(  # type: ignore[no-untyped-def]
    rows, now_ns, state, metaorders, when, who, capacity, mids, profiles, shared,
    head, nodes, levels, keys, slots, table, cap_nodes, cap_levels, cap_table, out, sent,
):  # fmt: skip
    for i in range(len(rows)):
        b = rows[i]
        s = state[b]
        steps.advance(s, metaorders, b * SLOTS, trading_of(now_ns[i]))
        sent[i] = steps.decide(
            s, profiles[s.profile], shared[0], metaorders, when, who, capacity, mids,
            head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table,
        )  # fmt: skip
        out[i].order_id = s.id
        out[i].price_ticks = s.price
        out[i].size_shares = s.size
        out[i].kind = s.kind
        out[i].flags = s.flags


@plain
def _observe(  # type: ignore[no-untyped-def]
    rows, orders, traded, state, metaorders, when, who, capacity, profiles, shared, foreign
):  # fmt: skip
    for i in range(len(rows)):
        b = rows[i]
        s = state[b]
        p = profiles[s.profile]
        foreign[i] = orders[i].owner != MARKET
        if foreign[i]:
            steps.advance(s, metaorders, b * SLOTS, trading_of(orders[i].time_ns))
            steps.settle_agent(s, p, shared[0], orders[i].kind, traded[i])
        else:
            steps.settle(
                s, p, shared[0], metaorders, when, who, b * HEAPS * capacity, capacity, orders[i].order_id, traded[i]
            )
            if steps.finished(s, metaorders):
                metaorders[s.pending_slot].id = 0


@plain
def _anew(row, now_ns, state, metaorders, when, who, capacity):  # type: ignore[no-untyped-def]
    """Let a restored row forget its waiting times, as of now."""
    s = state[row]
    steps.advance(s, metaorders, row * SLOTS, trading_of(now_ns))
    steps.fresh_waits(s, metaorders, when, who, capacity, row)


class ReferenceSession(Session):
    """Rows of the reference market, each continued from a true hidden state.

    Parameters
    ----------
    truths
        Hidden state at each start.
    clocks_ns
        Clock of each start.
    streams
        For each start: key and start number of its random numbers, the rollouts count from 0; None continues
        with those of the truth, which gives what really happened.
    """

    def __init__(
        self,
        truths: Sequence[Snapshot],
        clocks_ns: Sequence[int],
        rollouts: int,
        streams: Sequence[tuple[int, int]] | None,
    ) -> None:
        self.hidden = Hidden.empty(len(truths) * rollouts, profile_table(PROFILES), shared_table(SHARED))
        for k, (truth, clock_ns) in enumerate(zip(truths, clocks_ns, strict=True)):
            for rollout in range(rollouts):
                row = k * rollouts + rollout
                self.hidden.restore(row, truth)
                if streams is not None:
                    a = self.hidden.arrays
                    a.state["key"][row], a.state["start"][row] = streams[k]
                    a.state["rollout"][row] = rollout
                    _anew(row, clock_ns, a.state, a.metaorders, a.when, a.who, a.capacity)

    def propose(self, rows: Rows, book: BookView) -> NDArray[np.int64]:
        self._make_room()
        a = self.hidden.arrays
        out = np.empty(len(rows), np.int64)
        _propose(
            rows, a.state, a.metaorders, a.when, a.who, a.capacity, a.profiles, a.shared, *book.compiled, out
        )  # fmt: skip
        return out

    def decide(self, rows: Rows, book: BookView) -> RowOrders:
        a = self.hidden.arrays
        out, sent = np.zeros(len(rows), ORDER), np.zeros(len(rows), np.bool_)
        _decide(
            rows, book.now_ns, a.state, a.metaorders, a.when, a.who, a.capacity, a.mids, a.profiles, a.shared,
            *book.compiled, out, sent,
        )  # fmt: skip
        return RowOrders(rows[sent], out[sent])

    def observe(self, events: Events) -> Rows:
        a = self.hidden.arrays
        foreign = np.zeros(len(events.rows), np.bool_)
        _observe(
            events.rows, events.orders, events.traded_shares,
            a.state, a.metaorders, a.when, a.who, a.capacity, a.profiles, a.shared, foreign,
        )  # fmt: skip
        return np.unique(events.rows[foreign])

    def _make_room(self) -> None:
        """Keep room for one more entry in every heap."""
        a = self.hidden.arrays
        if int(a.state["heap"].max()) + 1 >= a.capacity:
            self.hidden.grow(2 * a.capacity)
