"""Compiled loops over messages: a whole stream into one book, or one batch into many.

Consecutive messages of a batch go to different books, whose memory is cold; it is fetched several
messages ahead, in three stages because one address depends on the one before.
"""

from __future__ import annotations

import numpy as np

from marsbench.market._book import (
    BID,
    CHANGED,
    CLOCK,
    DONE,
    FREE_NODE,
    GROW_BOOK,
    GROW_FILLS,
    HEAD,
    LIVE,
    N_ASK,
    N_FILLS,
    OUT_ID,
    OUT_TRADED,
    USED_NODES,
    VOLUME_ASK,
    advance,
    apply,
    kernel,
    no_room,
    slot_of,
)
from marsbench.market._memory import copy, prefetch
from marsbench.market.orders import NO_PRICE


@kernel
def _write_side(head, levels, keys, slots, b, side, cap_levels, prices, sizes, row, depth):
    n = head[b, N_ASK + side]
    base = (b * 2 + side) * cap_levels
    for k in range(min(depth, n)):
        key = keys[base + n - 1 - k]
        prices[row, side, k] = key if side == BID else -key
        sizes[row, side, k] = levels[b * cap_levels + slots[base + n - 1 - k]].volume
    for k in range(n, depth):
        prices[row, side, k] = NO_PRICE
        sizes[row, side, k] = 0


@kernel
def write_snapshot(head, levels, keys, slots, b, cap_levels, prices, sizes, row, depth):
    """Best ``depth`` levels of both sides into ``prices[row]`` and ``sizes[row]``, ``[2, depth]``."""
    for side in range(2):
        _write_side(head, levels, keys, slots, b, side, cap_levels, prices, sizes, row, depth)


@kernel
def write_totals(head, b, totals, row):
    """Number of levels and resting shares of both sides into ``totals[row]``, ``[2, 2]``."""
    for side in range(2):
        totals[row, side, 0] = head[b, N_ASK + side]
        totals[row, side, 1] = head[b, VOLUME_ASK + side]


@kernel
def _next_snapshot(head, levels, keys, slots, cap_levels, prices, sizes, row, depth):
    """Snapshot of book 0 in a row after the first: a side that did not change is copied from before."""
    changed = head[0, CHANGED] if row > 0 else 3
    head[0, CHANGED] = 0
    for side in range(2):
        if (changed >> side) & 1 == 1:
            _write_side(head, levels, keys, slots, 0, side, cap_levels, prices, sizes, row, depth)
        else:
            there, here = (row * 2 + side) * depth, ((row - 1) * 2 + side) * depth
            copy(prices, there, here, depth)
            copy(sizes, there, here, depth)


@kernel
def replay_stream(
    head, nodes, levels, keys, slots, table, cap_nodes, cap_levels, cap_table,
    rules, orders, first, reasons, outs, fills, prices, sizes, totals, depth,
):  # fmt: skip
    """Send ``orders[first:]`` to book 0. Returns (status, index of the message it stopped before)."""
    for i in range(first, len(orders)):
        if no_room(head, 0, cap_nodes, cap_levels):
            return GROW_BOOK, i
        if head[0, N_FILLS] + head[0, LIVE] > len(fills):
            return GROW_FILLS, i
        time = orders[i].time_ns
        advance(head, nodes, levels, keys, slots, table, 0, cap_nodes, cap_levels, cap_table, rules, fills, time, i)
        if depth > 0:
            _next_snapshot(head, levels, keys, slots, cap_levels, prices, sizes, i, depth)
            write_totals(head, 0, totals, i)
        reasons[i] = apply(
            head, nodes, levels, keys, slots, table, 0, cap_nodes, cap_levels, cap_table, rules, fills, i, time,
            orders[i].order_id, np.int64(orders[i].price_ticks), np.int64(orders[i].size_shares),
            np.int64(orders[i].owner), np.int64(orders[i].kind), np.int64(orders[i].flags),
        )  # fmt: skip
        for k in range(5):
            outs[i, k] = head[0, OUT_TRADED + k]
    return DONE, len(orders)


@kernel
def close_phases(
    head, nodes, levels, keys, slots, table, cap_nodes, cap_levels, cap_table, rules, fills, time, seq
):  # fmt: skip
    """Let time pass on book 0; returns GROW_FILLS if the fills might not have room."""
    if head[0, N_FILLS] + head[0, LIVE] > len(fills):
        return GROW_FILLS
    head[0, CLOCK] = max(head[0, CLOCK], time)
    advance(head, nodes, levels, keys, slots, table, 0, cap_nodes, cap_levels, cap_table, rules, fills, time, seq)
    return DONE


@kernel
def _prefetch_book(head, table, b, cap_table, order_id):
    """First stage: the scalars of a book, and where an id would be in its table."""
    for word in range(0, HEAD, 8):
        prefetch(head, b * HEAD + word)
    if order_id != 0:
        prefetch(table, b * cap_table + slot_of(order_id, cap_table - 1))


@kernel
def _prefetch_orders(head, nodes, keys, slots, table, b, cap_nodes, cap_levels, cap_table, order_id):
    """Second stage: both touches, the node that a new order would take, the order that an id names."""
    for side in range(2):
        best = (b * 2 + side) * cap_levels + head[b, N_ASK + side] - 1
        prefetch(keys, best)
        prefetch(slots, best)
    node = head[b, FREE_NODE] if head[b, FREE_NODE] >= 0 else head[b, USED_NODES]
    prefetch(nodes, b * cap_nodes + node)
    if order_id != 0:
        named = table[b * cap_table + slot_of(order_id, cap_table - 1)]
        if named >= 0:
            prefetch(nodes, b * cap_nodes + named)


@kernel
def _prefetch_levels(head, nodes, levels, slots, b, cap_nodes, cap_levels, table, cap_table, order_id):
    """Third stage: the best level of each side, and that of the named order."""
    for side in range(2):
        n = head[b, N_ASK + side]
        if n > 0:
            prefetch(levels, b * cap_levels + slots[(b * 2 + side) * cap_levels + n - 1])
    if order_id != 0:
        named = table[b * cap_table + slot_of(order_id, cap_table - 1)]
        if named >= 0:
            prefetch(levels, b * cap_levels + nodes[b * cap_nodes + named].level)


@kernel
def submit_batch(
    head, nodes, levels, keys, slots, table, cap_nodes, cap_levels, cap_table,
    rules, rows, orders, first, reasons, traded, fills, fill_rows,
):  # fmt: skip
    """Send ``orders[k]`` to book ``rows[k]`` for all k >= first; ids are written into the orders."""
    count = len(orders)
    for k in range(first, count):
        # Consecutive messages go to different books, whose memory is cold: fetch three steps ahead.
        if k + 9 < count:
            _prefetch_book(head, table, rows[k + 9], cap_table, orders[k + 9].order_id)
        if k + 6 < count:
            _prefetch_orders(
                head, nodes, keys, slots, table, rows[k + 6], cap_nodes, cap_levels, cap_table, orders[k + 6].order_id
            )
        if k + 3 < count:
            _prefetch_levels(
                head, nodes, levels, slots, rows[k + 3], cap_nodes, cap_levels, table, cap_table, orders[k + 3].order_id
            )
        b = rows[k]
        if no_room(head, b, cap_nodes, cap_levels):
            return GROW_BOOK, k
        if head[0, N_FILLS] + head[b, LIVE] > len(fills):
            return GROW_FILLS, k
        before = head[0, N_FILLS]
        time = orders[k].time_ns
        advance(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, rules, fills, time, k)
        reasons[k] = apply(
            head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, rules, fills, k, time,
            orders[k].order_id, np.int64(orders[k].price_ticks), np.int64(orders[k].size_shares),
            np.int64(orders[k].owner), np.int64(orders[k].kind), np.int64(orders[k].flags),
        )  # fmt: skip
        traded[k] = head[b, OUT_TRADED]
        orders[k].order_id = head[b, OUT_ID]
        for f in range(before, head[0, N_FILLS]):
            fill_rows[f] = b
    return DONE, len(orders)


@kernel
def snapshot_batch(head, levels, keys, slots, cap_levels, rows, prices, sizes, depth):
    """Snapshots of many books, ``prices`` and ``sizes`` ``[len(rows), 2, depth]``."""
    for k in range(len(rows)):
        write_snapshot(head, levels, keys, slots, rows[k], cap_levels, prices, sizes, k, depth)
