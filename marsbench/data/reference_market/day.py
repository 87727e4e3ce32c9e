"""Whole days of the reference market: opening auction, continuous trading around lunch, closing auction, night."""

from __future__ import annotations

import numpy as np

from marsbench.data.reference_market import clock as steps
from marsbench.data.reference_market import orders as kinds
from marsbench.data.reference_market.activity import ANEW, ARRIVAL, AUCTION, CLOSE, NIGHT, draw, wait
from marsbench.data.reference_market.portable_math import exp, log, normal_quantile, plain, power
from marsbench.data.reference_market.state import NEAR, PATIENT
from marsbench.market import _book as kb
from marsbench.market.rules import SSE_A_SHARE, clock

RULES = SSE_A_SHARE
AUCTION_NS, OPEN_NS, LUNCH_NS = clock("09:15"), clock("09:30"), clock("11:30")
UNCROSS_NS, AFTERNOON_NS, CLOSE_NS, END_NS = clock("09:25"), clock("13:00"), clock("14:57"), clock("15:00")
NO_CANCEL_NS = clock("09:20")
TRADING_NS = LUNCH_NS - OPEN_NS + CLOSE_NS - AFTERNOON_NS
"""Length of continuous trading in a day."""
_MORNING_NS = LUNCH_NS - OPEN_NS
_LUNCH_LENGTH_NS = AFTERNOON_NS - LUNCH_NS
FINISHED, GROW_HEAP, GROW_ORDERS, GROW_METAORDERS = 0, 11, 12, 13


@plain
def clock_of(trading_ns):
    """Clock time of a time in nanoseconds of continuous trading."""
    return OPEN_NS + trading_ns + (_LUNCH_LENGTH_NS if trading_ns >= _MORNING_NS else 0)


@plain
def trading_of(clock_ns):
    """Nanoseconds of continuous trading until a clock time (the inverse of ``clock_of``)."""
    if clock_ns >= AFTERNOON_NS:
        return clock_ns - OPEN_NS - _LUNCH_LENGTH_NS
    return min(max(clock_ns - OPEN_NS, 0), _MORNING_NS)


@plain
def _send(
    head, nodes, levels, keys, slots, table, cap_nodes, cap_levels, cap_table, rules, fills,
    sent, at, time, oid, price, size, kind, flags,
):  # fmt: skip
    """Record an order and let the clearing house take it."""
    kb.advance(head, nodes, levels, keys, slots, table, 0, cap_nodes, cap_levels, cap_table, rules, fills, time, at)
    reason = kb.apply(
        head, nodes, levels, keys, slots, table, 0, cap_nodes, cap_levels, cap_table, rules, fills,
        at, time, oid, price, size, 0, kind, flags,
    )  # fmt: skip
    sent[at].time_ns = time
    sent[at].order_id = head[0, kb.OUT_ID]
    sent[at].price_ticks = price
    sent[at].size_shares = size
    sent[at].owner = 0
    sent[at].kind = kind
    sent[at].flags = flags
    sent[at].pad = 0
    return reason


@plain
def _no_room(head, cap_nodes, cap_levels, fills, sent, at):
    if kb.no_room(head, 0, cap_nodes, cap_levels):
        return kb.GROW_BOOK
    if head[0, kb.N_FILLS] + head[0, kb.LIVE] > len(fills):
        return kb.GROW_FILLS
    if at >= len(sent):
        return GROW_ORDERS
    return FINISHED


@plain
def _auction_time(u_part, u):
    """Orders come in a rush at the beginning of the opening auction and another before it ends."""
    length = UNCROSS_NS - AUCTION_NS
    if u_part < 0.5:
        return AUCTION_NS + np.int64(u * 0.1 * length)
    if u_part < 0.65:
        return AUCTION_NS + np.int64((0.9 + 0.1 * u) * length)
    return AUCTION_NS + np.int64(u * length)


@plain
def auction_times(s, out):
    """Arrival times of the opening auction's orders, in no order."""
    for k in range(len(out)):
        u_part, u, _, _ = draw(s, AUCTION, 4 * k)
        out[k] = _auction_time(u_part, u)


@plain
def opening_auction(
    s, p, times, rank, head, nodes, levels, keys, slots, table, cap_nodes, cap_levels, cap_table,
    rules, fills, sent, first,
):  # fmt: skip
    """Send the auction's orders ``first ...``, ``times`` ascending; some are withdrawn while that is allowed."""
    for k in range(first, len(times)):
        status = _no_room(head, cap_nodes, cap_levels, fills, sent, k)
        if status != FINISHED:
            return status, k
        u_side, u_cross, u_far, u_size = draw(s, AUCTION, 4 * rank[k] + 1)
        u_cancel, u_which, u_wide, u_round = draw(s, AUCTION, 4 * rank[k] + 2)
        order_id, kind, size, flags, price = 0, (1 if u_side < 0.5 else 0), kinds.lots(p, u_size) * kinds.LOT, 0, 0
        if k > 20 and u_cancel < 0.04 and times[k] < NO_CANCEL_NS:
            order_id, kind, size = 1 + np.int64(u_which * k), steps.CANCEL_KIND, 0
            if kb.find(head, nodes, levels, keys, slots, table, 0, cap_nodes, cap_levels, cap_table, order_id) < 0:
                order_id, kind, size = 0, (1 if u_side < 0.5 else 0), kinds.lots(p, u_size) * kinds.LOT
        if kind != steps.CANCEL_KIND:
            behind = power(u_far, -1.0 / 0.9) - 1.0
            ticks = 1.0 + p.auction_width * behind
            if u_cross < 0.22:
                ticks = -0.5 * p.auction_width * min(behind, 6.0)
            elif u_wide < 0.25:
                ticks = u_far * 0.09 * s.day_ticks
            sign = 1 if kind == 1 else -1
            price = np.int64(s.day_ticks) - sign * np.int64(min(ticks, 0.2 * s.day_ticks))
            price = min(max(kinds.rounded(p, price, u_round), head[0, kb.LOW]), head[0, kb.HIGH])
        _send(
            head, nodes, levels, keys, slots, table, cap_nodes, cap_levels, cap_table, rules, fills,
            sent, k, times[k], order_id, price, size, kind, flags,
        )  # fmt: skip
    return FINISHED, len(times)


@plain
def take_places(s, p, when, who, capacity, head, nodes, levels, keys, slots, cap_nodes, cap_levels):
    """After the opening auction: every order that is left gets its class and its waiting time."""
    for side in range(2):
        base = side * cap_levels
        n = head[0, kb.N_ASK + side]
        for k in range(n - 1, -1, -1):
            level = np.int64(slots[base + k])
            group = PATIENT if abs(np.int64(keys[base + n - 1]) - keys[base + k]) > p.near_distance else NEAR
            heap = group + side
            node = levels[level].first
            while node >= 0:
                steps.push(
                    s, when, who, heap * capacity, heap, s.hazard[heap] + wait(s, ANEW, nodes[node].id), nodes[node].id
                )
                node = nodes[node].next


@plain
def continuous(
    s, p, c, metaorders, when, who, capacity, mids, finished, n_finished,
    head, nodes, levels, keys, slots, table, cap_nodes, cap_levels, cap_table,
    rules, fills, sent, at, until_ns,
):  # fmt: skip
    """Continuous trading until ``until_ns`` of trading time. Returns (status, orders sent, metaorders finished).

    The hidden state stays at the last event: where trading is cut into parts leaves no trace in its rounding.
    """
    while True:
        status = _no_room(head, cap_nodes, cap_levels, fills, sent, at)
        if not steps.room(s, capacity):
            status = GROW_HEAP
        elif n_finished >= len(finished):
            status = GROW_METAORDERS
        if status != FINISHED:
            return status, at, n_finished
        due_ns = steps.propose(
            s, p, c, metaorders, when, who, capacity,
            head, nodes, levels, keys, slots, table, 0, cap_nodes, cap_levels, cap_table,
        )  # fmt: skip
        if due_ns > until_ns:
            return FINISHED, at, n_finished
        steps.advance(s, metaorders, 0, due_ns)
        if not steps.decide(
            s, p, c, metaorders, when, who, capacity, mids,
            head, nodes, levels, keys, slots, table, 0, cap_nodes, cap_levels, cap_table,
        ):  # fmt: skip
            continue
        _send(
            head, nodes, levels, keys, slots, table, cap_nodes, cap_levels, cap_table, rules, fills,
            sent, at, clock_of(due_ns), s.id, s.price, s.size, s.kind, s.flags,
        )  # fmt: skip
        steps.settle(
            s, p, c, metaorders, when, who, 0, capacity, head[0, kb.OUT_ID], head[0, kb.OUT_TRADED]
        )  # fmt: skip
        at += 1
        if steps.finished(s, metaorders):
            finished[n_finished] = metaorders[s.pending_slot]
            n_finished += 1
            metaorders[s.pending_slot].id = 0


@plain
def closing_auction(
    s, p, times, rank, head, nodes, levels, keys, slots, table, cap_nodes, cap_levels, cap_table,
    rules, fills, sent, before, first,
):  # fmt: skip
    """Send the closing auction's orders ``first ...``; ``before`` orders were sent earlier in the day."""
    for k in range(first, len(times)):
        status = _no_room(head, cap_nodes, cap_levels, fills, sent, before + k)
        if status != FINISHED:
            return status, k
        u_side, u_price, u_size, _ = draw(s, CLOSE, 2 * rank[k] + 1)
        kind = 1 if u_side < 0.5 else 0
        shift = np.int64(0.5 * p.minute_ticks * normal_quantile(u_price))
        price = min(max(np.int64(s.mid) + shift, head[0, kb.LOW]), head[0, kb.HIGH])
        _send(
            head, nodes, levels, keys, slots, table, cap_nodes, cap_levels, cap_table, rules, fills,
            sent, before + k, times[k], 0, price, kinds.lots(p, u_size) * kinds.LOT, kind, 0,
        )  # fmt: skip
    return FINISHED, len(times)


@plain
def closing_times(s, out):
    """Arrival times of the closing auction's orders, in no order."""
    for k in range(len(out)):
        u, _, _, _ = draw(s, CLOSE, 2 * k)
        out[k] = CLOSE_NS + np.int64(u * (END_NS - CLOSE_NS))


@plain
def night(s, p, c, close_ticks, metaorders):
    """From one day's close to the next day's opening auction: what is carried, what is forgotten."""
    for k in range(len(metaorders)):
        metaorders[k].id = 0
    u = draw(s, NIGHT, 0)
    v = draw(s, NIGHT, 1)
    z, chi = normal_quantile(u[0]), 0.0
    for k in range(1, 4):
        chi += normal_quantile(u[k]) * normal_quantile(u[k])
    chi += normal_quantile(v[0]) * normal_quantile(v[0])
    student = min(max(z / np.sqrt(chi / 4.0), -8.0), 8.0)
    gap = exp(c.gap_scale * student - c.pull * log(close_ticks / p.price_ticks))
    ahead = min(max(s.value / close_ticks, 0.97), 1.03) if s.value > 0.0 else 1.0
    s.day_ticks = np.floor(close_ticks * min(max(gap, 0.92), 1.08) + 0.5)
    s.value = s.day_ticks * ahead
    for k in range(4):
        w = draw(s, NIGHT, 2 + k)
        keep = exp(-c.night_minutes / c.wave_times[k])
        s.waves[k] = s.waves[k] * keep + np.sqrt(1.0 - keep * keep) * normal_quantile(w[0])
    s.excitement = 0.0
    s.news_left = 0.0
    s.last_side = -1
    s.now_ns = 0
    s.second = 0
    s.thoughts = 0
    s.mid = s.day_ticks
    s.trend = 0.0
    s.hurry = 1.0
    for k in range(4):
        s.count[k] = 0
        s.hazard[k] = 0.0
        s.heap[k] = 0
        s.rate[k] = 0.0
        s.left[k] = wait(s, ARRIVAL, k)
    s.outside = 0.0
