"""When the next event of the reference market comes, and what follows from it.

A step is ``propose`` (when, and what is pending), ``advance`` (time passes), then for a pending order
``decide`` (the order on the book as it is), the clearing house, and ``settle`` (what the traders learn
from it). Days and rollouts take the same steps.
"""

from __future__ import annotations

import numpy as np

from marsbench.data.reference_market import orders as kinds
from marsbench.data.reference_market.activity import (
    ANEW,
    ARRIVAL,
    CANCEL,
    CHILD,
    THINK,
    draw,
    excite,
    learn,
    tick,
    wait,
)
from marsbench.data.reference_market.portable_math import log, plain, power
from marsbench.data.reference_market.state import HEAPS, NEAR, PATIENT, RING, SLOTS
from marsbench.market._book import (
    BID,
    HIGH,
    LAST_TRADE,
    LOW,
    N_ASK,
    N_BID,
    REFERENCE,
    find,
)
from marsbench.market.orders import Kind

NEAR_LIMIT, PATIENT_LIMIT, NOISE, NEWS, METAORDER, CANCELLATION, TICK = range(7)
"""What can be pending; the first four are the numbers of their arrival streams."""
SECOND = 1_000_000_000
CANCEL_KIND = int(Kind.CANCEL)
NEVER = np.int64(9223372036854775807)


# --- book ------------------------------------------------------------------------------------------


@plain
def quotes(head, keys, b, cap_levels):
    """Best bid and ask, with a stand-in one tick away from the other (or the last trade) where a side is empty."""
    n_ask, n_bid = head[b, N_ASK], head[b, N_BID]
    ask = np.int64(-keys[(b * 2) * cap_levels + n_ask - 1]) if n_ask > 0 else np.int64(0)
    bid = np.int64(keys[(b * 2 + 1) * cap_levels + n_bid - 1]) if n_bid > 0 else np.int64(0)
    if n_ask == 0 and n_bid == 0:
        last = head[b, LAST_TRADE] if head[b, LAST_TRADE] != 0 else head[b, REFERENCE]
        return last, last + 1
    if n_ask == 0:
        return bid, bid + 1
    if n_bid == 0:
        return ask - 1, ask
    return bid, ask


# --- heaps of cancellations ------------------------------------------------------------------------


@plain
def push(s, when, who, base, c, due, order_id):
    """Add an entry to heap ``c``, whose first entry lies at ``base``."""
    k = s.heap[c]
    s.heap[c] = k + 1
    while k > 0:
        up = (k - 1) >> 1
        if when[base + up] <= due:
            break
        when[base + k], who[base + k] = when[base + up], who[base + up]
        k = up
    when[base + k], who[base + k] = due, order_id


@plain
def pop(s, when, who, base, c):
    """Remove the first entry of heap ``c``."""
    n = s.heap[c] - 1
    s.heap[c] = n
    if n == 0:
        return
    due, order_id = when[base + n], who[base + n]
    k = 0
    while True:
        low = 2 * k + 1
        if low >= n:
            break
        if low + 1 < n and when[base + low + 1] < when[base + low]:
            low += 1
        if when[base + low] >= due:
            break
        when[base + k], who[base + k] = when[base + low], who[base + low]
        k = low
    when[base + k], who[base + k] = due, order_id


# --- time ------------------------------------------------------------------------------------------


@plain
def _set_rates(s, p, c, bid, ask):
    """Intensities of arrivals (per second) and cancellations (per second and order) as things stand."""
    per_second = s.activity / 60.0
    wide = min((ask - bid - 1) / p.wide_spread, c.spread_cap)
    s.rate[NEAR_LIMIT] = per_second * p.limit_rate * (1.0 + c.spread_response * wide)
    s.rate[PATIENT_LIMIT] = per_second * p.patient_rate
    s.rate[NOISE] = per_second * p.noise_rate
    s.rate[NEWS] = c.news_rate / 60.0 * p.speed * min(max(s.relative, 1.0), 3.0) if s.news_left > 0.0 else 0.0
    near = per_second * p.near_cancel_rate * s.hurry
    for side in range(2):
        rushed = 3.0 if s.news_left > 0.0 and (side == BID) != (s.news_jump > 0.0) else 1.0
        s.cancel_rate[NEAR + side] = near * rushed
        s.cancel_rate[PATIENT + side] = per_second * p.patient_cancel_rate


@plain
def propose(
    s, p, c, metaorders, when, who, capacity,
    head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table,
):  # fmt: skip
    """Nanoseconds of trading time at which the next event comes; what it is, is left in ``s.pending``."""
    bid, ask = quotes(head, keys, b, cap_levels)
    s.mid = 0.5 * (bid + ask)
    _set_rates(s, p, c, bid, ask)
    tick_ns = s.second * SECOND
    soonest = (tick_ns - s.now_ns) * 1e-9
    s.pending = TICK
    for k in range(4):
        if s.rate[k] > 0.0 and s.rate[k] * soonest > s.left[k]:
            soonest, s.pending = s.left[k] / s.rate[k], k
    pace = s.activity / 60.0
    for k in range(b * SLOTS, (b + 1) * SLOTS):
        if metaorders[k].id != 0 and metaorders[k].rate * pace * soonest > metaorders[k].left:
            soonest, s.pending, s.pending_slot = metaorders[k].left / (metaorders[k].rate * pace), METAORDER, k
    for k in range(HEAPS):
        base = (b * HEAPS + k) * capacity
        while s.heap[k] > 0:
            left = when[base] - s.hazard[k]
            if left >= s.cancel_rate[k] * soonest:
                break
            node = find(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, who[base])
            if node >= 0:
                soonest, s.pending, s.pending_slot = max(left, 0.0) / s.cancel_rate[k], CANCELLATION, k
                break
            pop(s, when, who, base, k)  # it was filled meanwhile
    if s.pending == TICK:
        return tick_ns
    return min(s.now_ns + np.int64(max(soonest, 0.0) * 1e9) + 1, tick_ns)


@plain
def advance(s, metaorders, first_slot, now_ns):
    """Let time pass until ``now_ns``, at the intensities that were set last."""
    seconds = (now_ns - s.now_ns) * 1e-9
    s.now_ns = now_ns
    if seconds <= 0.0:
        return
    for k in range(4):
        s.left[k] -= s.rate[k] * seconds
    for k in range(HEAPS):
        s.hazard[k] += s.cancel_rate[k] * seconds
    pace = s.activity / 60.0
    for k in range(first_slot, first_slot + SLOTS):
        if metaorders[k].id != 0:
            metaorders[k].left -= metaorders[k].rate * pace * seconds


# --- events ----------------------------------------------------------------------------------------


@plain
def _clip(s, head, b):
    s.price = min(max(s.price, head[b, LOW]), head[b, HIGH])


@plain
def _thought(s):
    """Number of the next second thought: it counts from 0 in every second, so that a shift stays there."""
    s.thoughts += 1
    return (s.second << 12) + s.thoughts


@plain
def _thinks_twice(s, p, k, head, nodes, levels, slots, b, cap_nodes, cap_levels, node):
    """Whether a trader at the best price stays after all: for the place in the queue, or not to leave it empty."""
    at = b * cap_nodes + node
    level = b * cap_levels + nodes[at].level
    side = levels[level].side
    if slots[(b * 2 + side) * cap_levels + head[b, N_ASK + side] - 1] != nodes[at].level:
        return False
    u, _, _, _ = draw(s, THINK, _thought(s))
    if k < PATIENT:
        return u < p.touch_loyalty
    return levels[level].first == levels[level].last and u < 0.5


@plain
def decide(
    s, p, c, metaorders, when, who, capacity, mids,
    head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table,
):  # fmt: skip
    """Make the pending order on the book as it is, in ``s.kind``, ``s.price`` ...; False if there is none."""
    bid, ask = quotes(head, keys, b, cap_levels)
    s.mid = 0.5 * (bid + ask)
    what = s.pending
    if what == TICK:
        tick(s, p, c, metaorders, b * SLOTS, mids, b * RING)
        s.hurry = power(max(s.relative, 1e-6), c.cancel_hurry)
        return False
    if what == CANCELLATION:
        k = s.pending_slot
        base = (b * HEAPS + k) * capacity
        order_id = who[base]
        pop(s, when, who, base, k)
        node = find(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, order_id)
        if node < 0:
            return False
        if _thinks_twice(s, p, k, head, nodes, levels, slots, b, cap_nodes, cap_levels, node):
            _, u, _, _ = draw(s, THINK, _thought(s))
            push(s, when, who, base, k, s.hazard[k] - log(u), order_id)
            return False
        s.kind, s.price, s.size, s.flags, s.id = CANCEL_KIND, 0, 0, 0, order_id
        return True
    if what == METAORDER:
        m = metaorders[s.pending_slot]
        kinds.child(s, p, m, bid, ask)
        m.children += 1
        m.left = wait(s, CHILD, (m.id << 16) + 2 * m.children)
    else:
        index = s.count[what]
        s.count[what] = index + 1
        s.left[what] = wait(s, ARRIVAL, ((index + 1) << 2) + what)
        if what == NEAR_LIMIT:
            kinds.near_limit(s, p, c, index, bid, ask)
        elif what == PATIENT_LIMIT:
            kinds.patient_limit(s, p, c, index, bid, ask)
        elif what == NOISE:
            kinds.noise_market(s, p, c, index, bid, ask)
        else:
            kinds.news_market(s, p, index, bid, ask)
    if what >= NOISE and head[b, N_ASK + 1 - s.kind] == 0:
        return False  # nobody to trade with: a market order is not even sent
    _clip(s, head, b)
    return True


@plain
def settle(s, p, c, metaorders, when, who, first_heap, capacity, order_id, traded):
    """What follows from the market's own order, once the clearing house has taken it."""
    if s.kind == CANCEL_KIND:
        return
    rest = s.size - traded
    if rest > 0 and s.flags & kinds.IOC == 0:
        k = s.group + s.kind
        index = ((s.count[s.pending] - 1) << 2) + s.pending  # of the arrival: metaorders' orders never rest
        push(s, when, who, first_heap + k * capacity, k, s.hazard[k] + wait(s, CANCEL, index), order_id)
    if s.pending == NEAR_LIMIT or s.pending == PATIENT_LIMIT:
        return
    excite(s, p, c, s.kind)
    if s.pending == METAORDER and traded > 0:
        m = metaorders[s.pending_slot]
        sign = 1.0 if s.kind == BID else -1.0
        learn(s, p, c, sign * m.executed / kinds.LOT, sign * (m.executed + traded) / kinds.LOT)
        if m.fills == 0:
            m.start_ns = s.now_ns
        m.executed += traded
        m.fills += 1
        m.end_ns = s.now_ns


@plain
def finished(s, metaorders):
    """Whether the metaorder whose child was just settled is done."""
    if s.pending != METAORDER:
        return False
    m = metaorders[s.pending_slot]
    return m.executed >= m.target * kinds.LOT


@plain
def settle_agent(s, p, c, kind, traded):
    """What traders make of an agent's aggressive order: that of one more large trader.

    They learn from what agents have bought net of what they have sold, so that nobody moves prices by trading to
    and fro. What an agent gets passively was sold to it by others, who have their own reasons.
    """
    if traded == 0:
        return
    excite(s, p, c, kind)
    before = s.outside
    s.outside = before + (traded if kind == BID else -traded) / kinds.LOT
    learn(s, p, c, before, s.outside)


@plain
def fresh_waits(s, metaorders, when, who, capacity, b):
    """Draw all waiting times under way anew. They are exponential, so this leaves the law as it is."""
    for k in range(4):
        s.left[k] = wait(s, ARRIVAL, (s.count[k] << 2) + k)
    for k in range(b * SLOTS, (b + 1) * SLOTS):
        if metaorders[k].id != 0:
            metaorders[k].left = wait(s, CHILD, (metaorders[k].id << 16) + 2 * metaorders[k].children)
    for k in range(HEAPS):
        base = (b * HEAPS + k) * capacity
        n = s.heap[k]
        s.heap[k] = 0
        for j in range(n):  # entry j is read before any of the first j + 1 places is written
            order_id = who[base + j]
            push(s, when, who, base, k, s.hazard[k] + wait(s, ANEW, order_id), order_id)


@plain
def room(s, capacity):
    """Whether every heap has room for one more entry."""
    return max(max(s.heap[0], s.heap[1]), max(s.heap[2], s.heap[3])) < capacity
