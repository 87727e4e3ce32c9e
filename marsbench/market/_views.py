"""Compiled access to books between messages: load, store, copy, and what generators look up in them."""

from __future__ import annotations

import numpy as np

from marsbench.market._book import (
    AGENT_LIVE,
    BID,
    DONE,
    GROW_BOOK,
    HASHED,
    HEAD,
    N_ASK,
    N_FILLS,
    USED_LEVELS,
    USED_NODES,
    kernel,
    no_room,
    position,
    rest,
)
from marsbench.market._memory import copy
from marsbench.market.orders import NO_PRICE


@kernel
def load_book(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, resting):
    """Fill an empty book with resting orders. Returns GROW_BOOK if they do not fit."""
    for i in range(len(resting)):
        if no_room(head, b, cap_nodes, cap_levels):
            return GROW_BOOK
        rest(
            head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table,
            np.int64(resting[i].kind), np.int64(resting[i].price_ticks), np.int64(resting[i].size_shares),
            np.int64(resting[i].owner), resting[i].order_id,
        )  # fmt: skip
    return DONE


@kernel
def store_book(head, nodes, levels, keys, slots, b, cap_nodes, cap_levels, resting):
    """Write the resting orders, asks then bids, best price first, oldest first."""
    i = 0
    for side in range(2):
        for k in range(head[b, N_ASK + side] - 1, -1, -1):
            level = b * cap_levels + slots[(b * 2 + side) * cap_levels + k]
            node = levels[level].first
            while node >= 0:
                at = b * cap_nodes + node
                resting[i].order_id = nodes[at].id
                resting[i].price_ticks = levels[level].price
                resting[i].size_shares = nodes[at].size
                resting[i].owner = nodes[at].owner
                resting[i].kind = side
                node = nodes[at].next
                i += 1


@kernel
def copy_books(head, nodes, levels, keys, slots, source, rows, cap_nodes, cap_levels):
    """Copy one book into others: only what is in use; the id table is rebuilt when it is needed."""
    for r in range(len(rows)):
        b = rows[r]
        if b == source:
            continue
        fills = head[0, N_FILLS]
        for k in range(HEAD):
            head[b, k] = head[source, k]
        head[b, HASHED] = 0
        head[0, N_FILLS] = fills
        copy(nodes, b * cap_nodes, source * cap_nodes, head[source, USED_NODES])
        copy(levels, b * cap_levels, source * cap_levels, head[source, USED_LEVELS])
        for side in range(2):
            there, here = (b * 2 + side) * cap_levels, (source * 2 + side) * cap_levels
            copy(keys, there, here, head[source, N_ASK + side])
            copy(slots, there, here, head[source, N_ASK + side])


@kernel
def _owned(nodes, levels, level, node_base, owner):
    total = np.int64(0)
    node = np.int64(levels[level].first)
    while node >= 0:
        if nodes[node_base + node].owner == owner:
            total += nodes[node_base + node].size
        node = np.int64(nodes[node_base + node].next)
    return total


@kernel
def volume_by_distance(head, nodes, levels, keys, slots, cap_nodes, cap_levels, rows, anchors, edges, out):
    """The market's volume in bins of distance from ``anchors[k, side]``, into ``out[k, side, bin]``.

    Distances count upwards from the anchor on the ask side and downwards on the bid side; bin j of
    row k is ``[edges[k, side, j], edges[k, side, j + 1])``.
    """
    bins = out.shape[2]
    for k in range(len(rows)):
        b = rows[k]
        for side in range(2):
            for j in range(bins):
                out[k, side, j] = 0
            base = (b * 2 + side) * cap_levels
            anchor = np.int64(anchors[k, side])
            j = 0
            for at in range(head[b, N_ASK + side] - 1, -1, -1):
                key = np.int64(keys[base + at])
                distance = anchor - key if side == BID else -key - anchor
                while j < bins and distance >= edges[k, side, j + 1]:
                    j += 1
                if j == bins:
                    break
                if distance >= edges[k, side, j]:
                    level = b * cap_levels + slots[base + at]
                    if head[b, AGENT_LIVE] == 0:
                        out[k, side, j] += levels[level].volume
                    else:
                        out[k, side, j] += _owned(nodes, levels, level, b * cap_nodes, 0)


@kernel
def _owned_between(head, nodes, levels, keys, slots, b, cap_nodes, cap_levels, low, high, owner, place):
    """Node of the owner's order number ``place`` at prices ``low[side]`` .. ``high[side]``, and how many it has there.

    Asks before bids, from the touch outwards, oldest first at a price; -1 where there are not so many.
    """
    count = np.int64(0)
    found = np.int64(-1)
    for side in range(2):
        base = (b * 2 + side) * cap_levels
        bottom, top = (low[side], high[side]) if side == BID else (-high[side], -low[side])
        for at in range(head[b, N_ASK + side] - 1, -1, -1):
            key = np.int64(keys[base + at])
            if key > top:
                continue
            if key < bottom:
                break
            node = np.int64(levels[b * cap_levels + slots[base + at]].first)
            while node >= 0:
                if nodes[b * cap_nodes + node].owner == owner:
                    if count == place:
                        found = node
                    count += 1
                node = np.int64(nodes[b * cap_nodes + node].next)
    return found, count


@kernel
def any_owned(
    head, nodes, levels, keys, slots, cap_nodes, cap_levels, rows, low, high, uniforms, owner, out
):  # fmt: skip
    """One of an owner's orders at prices ``low[k, side]`` .. ``high[k, side]``, each as likely as another.

    ``out[k]``: its price (NO_PRICE if there is none), size and id.
    """
    for k in range(len(rows)):
        b = rows[k]
        _, count = _owned_between(
            head, nodes, levels, keys, slots, b, cap_nodes, cap_levels, low[k], high[k], owner, -1
        )
        out[k, 0] = NO_PRICE
        out[k, 1] = 0
        out[k, 2] = 0
        if count > 0:
            place = min(np.int64(uniforms[k] * count), count - 1)
            node, _ = _owned_between(
                head, nodes, levels, keys, slots, b, cap_nodes, cap_levels, low[k], high[k], owner, place
            )
            at = b * cap_nodes + node
            out[k, 0] = levels[b * cap_levels + nodes[at].level].price
            out[k, 1] = nodes[at].size
            out[k, 2] = nodes[at].id


@kernel
def level_at_volume(
    head, nodes, levels, keys, slots, cap_nodes, cap_levels, rows, sides, anchors, near, far, targets, out
):  # fmt: skip
    """The level where the market's volume at distances ``[near, far)`` from an anchor passes a target.

    ``out[k, 0]`` is its price (NO_PRICE if the volume does not reach ``targets[k]``), ``out[k, 1]``
    the size of the market's newest order there.
    """
    for k in range(len(rows)):
        b, side = rows[k], sides[k]
        base = (b * 2 + side) * cap_levels
        out[k, 0] = NO_PRICE
        out[k, 1] = 0
        passed = 0.0
        for at in range(head[b, N_ASK + side] - 1, -1, -1):
            key = np.int64(keys[base + at])
            distance = anchors[k] - key if side == BID else -key - anchors[k]
            if distance < near[k]:
                continue
            if distance >= far[k]:
                break
            level = b * cap_levels + slots[base + at]
            if head[b, AGENT_LIVE] == 0:
                passed += levels[level].volume
            else:
                passed += _owned(nodes, levels, level, b * cap_nodes, 0)
            if passed >= targets[k]:
                node = np.int64(levels[level].last)
                while nodes[b * cap_nodes + node].owner != 0:
                    node = np.int64(nodes[b * cap_nodes + node].prev)
                out[k, 0] = key if side == BID else -key
                out[k, 1] = nodes[b * cap_nodes + node].size
                break


@kernel
def nearest_owned(
    head, nodes, levels, keys, slots, cap_nodes, cap_levels, rows, sides, prices, low, high, owner, out
):  # fmt: skip
    """Level nearest to ``prices[k]`` where ``owner`` has an order, at ``low[k]`` .. ``high[k]``.

    ``out[k, 0]`` is its price (NO_PRICE if there is none), ``out[k, 1]`` the owner's newest size there; of two equally
    near levels the one nearer to the touch.
    """
    for k in range(len(rows)):
        b, side = rows[k], sides[k]
        base = (b * 2 + side) * cap_levels
        n = head[b, N_ASK + side]
        key = np.int64(prices[k]) if side == BID else -np.int64(prices[k])
        bottom, top = (low[k], high[k]) if side == BID else (-high[k], -low[k])
        out[k, 0] = NO_PRICE
        out[k, 1] = 0
        better = position(keys, base, n, key)
        worse = better - 1
        while True:
            if better < n and keys[base + better] > top:
                better = n
            if worse >= 0 and keys[base + worse] < bottom:
                worse = -1
            if better >= n and worse < 0:
                break
            up = np.int64(keys[base + better]) - key if better < n else np.int64(1) << 40
            down = key - np.int64(keys[base + worse]) if worse >= 0 else np.int64(1) << 40
            if up <= down:
                at = better
                better += 1
            else:
                at = worse
                worse -= 1
            price = np.int64(keys[base + at])
            if price < bottom or price > top:
                continue
            level = b * cap_levels + slots[base + at]
            node = np.int64(levels[level].last)
            while node >= 0 and nodes[b * cap_nodes + node].owner != owner:
                node = np.int64(nodes[b * cap_nodes + node].prev)
            if node < 0:
                continue
            out[k, 0] = price if side == BID else -price
            out[k, 1] = nodes[b * cap_nodes + node].size
            break
