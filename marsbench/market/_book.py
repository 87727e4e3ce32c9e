"""Compiled order book: flat arrays, one function per step of the matching algorithm.

Layout, for B books in one set of arrays (capacities grow together, see ``clearing_house``):

- ``nodes``: live orders, one pool per book, linked into one FIFO queue per price level;
- ``levels``: price levels, one pool per book;
- ``keys`` and ``slots``: per book and side the levels sorted from worst to best, so that the best is
  last, activity near the touch moves little memory and the ten best are neighbours. ``keys`` holds the
  price, negated on the ask side, hence larger is better on both;
- ``table``: open-addressing hash from order id to node, built when an id is first asked for, so that
  books whose orders are only ever cancelled by level never pay for it;
- ``head``: the scalars of each book.

Nothing here depends on how far a price is from the touch, and nothing overflows: a kernel that runs
out of room stops before the message, says so, and is called again with larger arrays. Everything is
compiled without reference counting, which would cost more than the matching itself.

The semantics are those of ``marsbench.market.rules``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from marsbench.market.orders import AUCTION, NO_PRICE, Flag, Kind, Reason
from marsbench.market.rules import PhaseKind, SelfTrade, Tie

NODE = np.dtype(
    [
        ("id", "<i8"),
        ("size", "<i4"),
        ("next", "<i4"),  # younger order of the same level; also chains free nodes
        ("prev", "<i4"),
        ("level", "<i4"),
        ("owner", "<i4"),
        ("pad", "<i4"),
    ]
)
LEVEL = np.dtype(
    [
        ("volume", "<i8"),
        ("price", "<i4"),
        ("side", "<i4"),
        ("first", "<i4"),  # oldest order
        ("last", "<i4"),  # newest order; also chains free levels
    ]
)

# Columns of ``head``.
(
    CLOCK,
    NEXT_ID,
    LAST_TRADE,
    REFERENCE,
    LOW,
    HIGH,
    USED_NODES,
    FREE_NODE,
    USED_LEVELS,
    FREE_LEVEL,
    N_ASK,  # number of ask levels; N_ASK + side is that of a side
    N_BID,
    LIVE,
    PHASE,
    HALT_END,  # -1 when not halted
    BREAKERS_USED,
    HASHED,
    OUT_TRADED,  # results of the last message
    OUT_ID,
    OUT_CUT,  # shares cancelled, and the price and side they rested at
    OUT_CUT_PRICE,
    OUT_CUT_SIDE,
    AGENT_LIVE,  # live orders that are not the market's
    CHANGED,  # bit per side: levels differ from the last snapshot
    N_FILLS,  # of book 0: fills written so far by the running kernel
    HEAD,
) = range(26)

# Layout of the ``rules`` array; phases (start, end, kind, no-cancel) and breakers (bps, halt) follow.
LOT, STEP, ODD_ASKS, SELF, TIE, N_PHASES, N_BREAKERS, RULES = range(8)

DONE, GROW_BOOK, GROW_FILLS = range(3)

ASK, BID, CANCEL = int(Kind.ASK), int(Kind.BID), int(Kind.CANCEL)
IOC, REPLACE, BY_LEVEL, SEEDED = int(Flag.IOC), int(Flag.REPLACE), int(Flag.BY_LEVEL), int(Flag.SEEDED)
OK = int(Reason.OK)
BAD_KIND, TIME_BACKWARDS, CLOSED = int(Reason.BAD_KIND), int(Reason.TIME_BACKWARDS), int(Reason.CLOSED)
BAD_SIZE, OFF_LOT, OFF_TICK = int(Reason.BAD_SIZE), int(Reason.OFF_LOT), int(Reason.OFF_TICK)
PRICE_LIMIT, NOT_CONTINUOUS = int(Reason.PRICE_LIMIT), int(Reason.NOT_CONTINUOUS)
NO_CANCEL, DUPLICATE_ID = int(Reason.NO_CANCEL), int(Reason.DUPLICATE_ID)
UNKNOWN_ORDER, NOT_OWNER = int(Reason.UNKNOWN_ORDER), int(Reason.NOT_OWNER)
WRONG_SIDE, EMPTY_LEVEL = int(Reason.WRONG_SIDE), int(Reason.EMPTY_LEVEL)
SELF_ALLOW, SELF_RESTING = int(SelfTrade.ALLOW), int(SelfTrade.CANCEL_RESTING)
TIE_MIDDLE, PHASE_AUCTION = int(Tie.MIDDLE), int(PhaseKind.AUCTION)

kernel = njit(cache=True, _nrt=False, error_model="numpy")


@intrinsic
def _prefetch(typing: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of ``array.flat[index]`` ahead of its use."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        shape = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, shape, "llvm.prefetch.p0")
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [args[1]]), pointer)
        builder.call(function, [address, word(0), word(3), word(1)])  # for reading, keep, data
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


# --- ids ------------------------------------------------------------------------------------------


@kernel
def _slot(order_id, mask):
    mixed = np.uint64(order_id) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64(mixed >> np.uint64(32)) & mask


@kernel
def _table_insert(table, base, mask, order_id, node):
    at = _slot(order_id, mask)
    while table[base + at] >= 0:
        at = (at + 1) & mask
    table[base + at] = node


@kernel
def _table_find(nodes, table, node_base, base, mask, order_id):
    at = _slot(order_id, mask)
    while True:
        node = table[base + at]
        if node < 0:
            return -1
        if nodes[node_base + node].id == order_id:
            return node
        at = (at + 1) & mask


@kernel
def _table_remove(nodes, table, node_base, base, mask, order_id):
    """Remove by shifting later entries of the run back (no tombstones)."""
    at = _slot(order_id, mask)
    while nodes[node_base + table[base + at]].id != order_id:
        at = (at + 1) & mask
    gap = at
    while True:
        at = (at + 1) & mask
        node = table[base + at]
        if node < 0:
            break
        home = _slot(nodes[node_base + node].id, mask)
        if ((at - home) & mask) >= ((at - gap) & mask):
            table[base + gap] = node
            gap = at
    table[base + gap] = -1


@kernel
def _build_table(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table):
    base, mask = b * cap_table, cap_table - 1
    for i in range(cap_table):
        table[base + i] = -1
    for side in range(2):
        for k in range(head[b, N_ASK + side]):
            node = levels[b * cap_levels + slots[(b * 2 + side) * cap_levels + k]].first
            while node >= 0:
                _table_insert(table, base, mask, nodes[b * cap_nodes + node].id, node)
                node = nodes[b * cap_nodes + node].next
    head[b, HASHED] = 1


@kernel
def _find(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, order_id):
    if head[b, HASHED] == 0:
        _build_table(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table)
    return _table_find(nodes, table, b * cap_nodes, b * cap_table, cap_table - 1, order_id)


# --- levels and queues ----------------------------------------------------------------------------


@kernel
def _position(keys, base, n, key):
    """Index of the first level at least as good as ``key`` among the n sorted from worst to best."""
    low, high = 0, n
    near = n - 8
    if near > 0:
        if keys[base + near] < key:
            low = near + 1
        else:
            high = near
            while low < high:
                middle = (low + high) >> 1
                if keys[base + middle] < key:
                    low = middle + 1
                else:
                    high = middle
            return low
    at = n
    while at > low and keys[base + at - 1] >= key:
        at -= 1
    return at


@kernel
def _drop_level(head, levels, keys, slots, b, cap_levels, slot):
    side = levels[b * cap_levels + slot].side
    base = (b * 2 + side) * cap_levels
    n = head[b, N_ASK + side]
    price = levels[b * cap_levels + slot].price
    at = _position(keys, base, n, price if side == BID else -price)
    for k in range(at, n - 1):
        keys[base + k] = keys[base + k + 1]
        slots[base + k] = slots[base + k + 1]
    head[b, N_ASK + side] = n - 1
    levels[b * cap_levels + slot].last = head[b, FREE_LEVEL]
    head[b, FREE_LEVEL] = slot


@kernel
def _remove(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, node):
    """Take a whole order out of its queue, its level and the id table."""
    at = b * cap_nodes + node
    slot = nodes[at].level
    level = b * cap_levels + slot
    before, after = nodes[at].prev, nodes[at].next
    if before >= 0:
        nodes[b * cap_nodes + before].next = after
    else:
        levels[level].first = after
    if after >= 0:
        nodes[b * cap_nodes + after].prev = before
    else:
        levels[level].last = before
    levels[level].volume -= nodes[at].size
    head[b, CHANGED] |= 1 << levels[level].side
    if head[b, HASHED] == 1:
        _table_remove(nodes, table, b * cap_nodes, b * cap_table, cap_table - 1, nodes[at].id)
    nodes[at].next = head[b, FREE_NODE]
    head[b, FREE_NODE] = node
    head[b, LIVE] -= 1
    if nodes[at].owner != 0:
        head[b, AGENT_LIVE] -= 1
    if levels[level].first < 0:
        _drop_level(head, levels, keys, slots, b, cap_levels, slot)


@kernel
def _rest(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, side, price, size, owner, oid):
    """Append an order to the queue at its price. The caller has made sure that there is room."""
    base = (b * 2 + side) * cap_levels
    n = head[b, N_ASK + side]
    key = price if side == BID else -price
    at = _position(keys, base, n, key)
    if at < n and keys[base + at] == key:
        slot = np.int64(slots[base + at])
    else:
        slot = head[b, FREE_LEVEL]
        if slot >= 0:
            head[b, FREE_LEVEL] = levels[b * cap_levels + slot].last
        else:
            slot = head[b, USED_LEVELS]
            head[b, USED_LEVELS] = slot + 1
        for k in range(n, at, -1):
            keys[base + k] = keys[base + k - 1]
            slots[base + k] = slots[base + k - 1]
        keys[base + at] = key
        slots[base + at] = slot
        head[b, N_ASK + side] = n + 1
        fresh = b * cap_levels + slot
        levels[fresh].volume = 0
        levels[fresh].price = price
        levels[fresh].side = side
        levels[fresh].first = -1
        levels[fresh].last = -1
    node = head[b, FREE_NODE]
    if node >= 0:
        head[b, FREE_NODE] = nodes[b * cap_nodes + node].next
    else:
        node = head[b, USED_NODES]
        head[b, USED_NODES] = node + 1
    level, here = b * cap_levels + slot, b * cap_nodes + node
    last = levels[level].last
    nodes[here].id = oid
    nodes[here].size = size
    nodes[here].next = -1
    nodes[here].prev = last
    nodes[here].level = slot
    nodes[here].owner = owner
    if last >= 0:
        nodes[b * cap_nodes + last].next = node
    else:
        levels[level].first = node
    levels[level].last = node
    levels[level].volume += size
    head[b, LIVE] += 1
    head[b, CHANGED] |= 1 << side
    if owner != 0:
        head[b, AGENT_LIVE] += 1
    if head[b, HASHED] == 1:
        _table_insert(table, b * cap_table, cap_table - 1, oid, node)


# --- trading --------------------------------------------------------------------------------------


@kernel
def _take(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, node, size):
    """Reduce an order by ``size``, removing it when nothing is left."""
    at = b * cap_nodes + node
    if nodes[at].size == size:
        _remove(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, node)
    else:
        level = b * cap_levels + nodes[at].level
        nodes[at].size -= size
        levels[level].volume -= size
        head[b, CHANGED] |= 1 << levels[level].side


@kernel
def _fill(head, fills, time, seq, price, size, side, bid_id, ask_id, bid_owner, ask_owner):
    k = head[0, N_FILLS]
    fills[k].time_ns = time
    fills[k].bid_id = bid_id
    fills[k].ask_id = ask_id
    fills[k].seq = seq
    fills[k].price_ticks = price
    fills[k].size_shares = size
    fills[k].bid_owner = bid_owner
    fills[k].ask_owner = ask_owner
    fills[k].side = side
    head[0, N_FILLS] = k + 1


@kernel
def _match(
    head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table,
    rules, fills, time, seq, side, price, size, owner, oid,
):  # fmt: skip
    """Trade an incoming order against the other side; returns what is left of it."""
    other = 1 - side
    base = (b * 2 + other) * cap_levels
    worst = -price if side == BID else price  # key that a resting level must reach
    while size > 0:
        n = head[b, N_ASK + other]
        if n == 0 or keys[base + n - 1] < worst:
            break
        level = b * cap_levels + slots[base + n - 1]
        node = levels[level].first
        at = b * cap_nodes + node
        if owner != 0 and nodes[at].owner == owner and rules[SELF] != SELF_ALLOW:
            if rules[SELF] == SELF_RESTING:
                _remove(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, node)
                continue
            return 0
        traded = min(size, np.int64(nodes[at].size))
        if side == BID:
            _fill(head, fills, time, seq, levels[level].price, traded, side, oid, nodes[at].id, owner, nodes[at].owner)
        else:
            _fill(head, fills, time, seq, levels[level].price, traded, side, nodes[at].id, oid, nodes[at].owner, owner)
        head[b, LAST_TRADE] = levels[level].price
        head[b, OUT_TRADED] += traded
        size -= traded
        _take(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, node, traded)
    return size


@kernel
def _auction_price(head, levels, keys, slots, b, cap_levels, rules):
    """Price and volume of a call auction on the book as it stands; volume 0 if it does not cross."""
    n_ask, n_bid = head[b, N_ASK], head[b, N_BID]
    asks, bids = (b * 2) * cap_levels, (b * 2 + 1) * cap_levels
    if n_ask == 0 or n_bid == 0:
        return np.int64(0), np.int64(0)
    best_ask, best_bid = np.int64(-keys[asks + n_ask - 1]), np.int64(keys[bids + n_bid - 1])
    if best_bid < best_ask:
        return np.int64(0), np.int64(0)
    target = head[b, LAST_TRADE] if head[b, LAST_TRADE] != 0 else head[b, REFERENCE]
    first_bid = _position(keys, bids, n_bid, best_ask)
    demand = np.int64(0)
    for k in range(first_bid, n_bid):
        demand += levels[b * cap_levels + slots[bids + k]].volume
    supply = np.int64(0)
    ask, bid, found = n_ask - 1, first_bid, False
    volume, imbalance, low, high, near = np.int64(0), np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    while bid < n_bid:
        price = np.int64(keys[bids + bid])
        if ask >= 0 and -keys[asks + ask] < price:
            price = np.int64(-keys[asks + ask])
        below, above = supply, demand
        if ask >= 0 and -keys[asks + ask] == price:
            supply += levels[b * cap_levels + slots[asks + ask]].volume
            ask -= 1
        if keys[bids + bid] == price:
            above -= levels[b * cap_levels + slots[bids + bid]].volume
            bid += 1
        here, gap = min(demand, supply), abs(demand - supply)
        if here > volume:
            volume, found = here, False
        if here == volume and below <= here and above <= here:
            if not found or gap < imbalance:
                found, imbalance, low, high, near = True, gap, price, price, price
            elif gap == imbalance:
                high = price
                if abs(price - target) <= abs(near - target):
                    near = price
        demand = above
    return ((low + high + 1) >> 1 if rules[TIE] == TIE_MIDDLE else near), volume


@kernel
def _uncross(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, rules, fills, time, seq):
    """Hold the call auction: all its trades at one price."""
    price, volume = _auction_price(head, levels, keys, slots, b, cap_levels, rules)
    asks, bids = (b * 2) * cap_levels, (b * 2 + 1) * cap_levels
    if volume > 0:
        head[b, LAST_TRADE] = price
    while volume > 0:
        ask = np.int64(levels[b * cap_levels + slots[asks + head[b, N_ASK] - 1]].first)
        bid = np.int64(levels[b * cap_levels + slots[bids + head[b, N_BID] - 1]].first)
        a, c = b * cap_nodes + ask, b * cap_nodes + bid
        traded = min(volume, min(np.int64(nodes[a].size), np.int64(nodes[c].size)))
        _fill(head, fills, time, seq, price, traded, AUCTION, nodes[c].id, nodes[a].id, nodes[c].owner, nodes[a].owner)
        volume -= traded
        _take(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, ask, traded)
        _take(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, bid, traded)


@kernel
def _advance(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, rules, fills, time, seq):
    """Close the halt and the phases that ended at or before ``time``."""
    while head[b, PHASE] < rules[N_PHASES]:
        phase = RULES + 4 * head[b, PHASE]
        if head[b, HALT_END] >= 0:
            if head[b, HALT_END] > time:
                return
            _uncross(
                head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table,
                rules, fills, head[b, HALT_END], seq,
            )  # fmt: skip
            head[b, HALT_END] = -1
        if rules[phase + 1] > time:
            return
        if rules[phase + 2] == PHASE_AUCTION:
            _uncross(
                head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table,
                rules, fills, rules[phase + 1], seq,
            )  # fmt: skip
        head[b, PHASE] += 1


@kernel
def _check_breakers(head, b, rules, time):
    reference = head[b, REFERENCE]
    if reference == 0:
        return
    moved = abs(head[b, LAST_TRADE] - reference) * 10_000
    first = RULES + 4 * rules[N_PHASES]
    for k in range(rules[N_BREAKERS] - 1, head[b, BREAKERS_USED] - 1, -1):
        if moved >= rules[first + 2 * k] * abs(reference):
            head[b, BREAKERS_USED] = k + 1
            end = rules[RULES + 4 * head[b, PHASE] + 1]
            halt = rules[first + 2 * k + 1]
            head[b, HALT_END] = end if halt == 0 else min(end, time + halt)
            return


# --- messages -------------------------------------------------------------------------------------


@kernel
def _bad_kind(kind, flags):
    if kind == CANCEL:
        return flags & ~(BY_LEVEL | SEEDED) != 0
    return kind > CANCEL or flags & ~(IOC | REPLACE | SEEDED) != 0


@kernel
def _refuse_new(head, b, rules, kind, price, size, flags, auction):
    """Reason to refuse a new order (or the new half of a replace) for what it asks."""
    if size <= 0:
        return BAD_SIZE
    if size % rules[LOT] != 0 and not (kind == ASK and rules[ODD_ASKS] == 1):
        return OFF_LOT
    if price % rules[STEP] != 0:
        return OFF_TICK
    if price < head[b, LOW] or price > head[b, HIGH]:
        return PRICE_LIMIT
    if auction and flags & IOC != 0:
        return NOT_CONTINUOUS
    return OK


@kernel
def _cancel_level(
    head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, price, size, owner
):  # fmt: skip
    """Cancel the sender's newest orders at a price, up to ``size``; returns what was cancelled."""
    for side in (BID, ASK):
        base = (b * 2 + side) * cap_levels
        n = head[b, N_ASK + side]
        key = price if side == BID else -price
        at = _position(keys, base, n, key)
        if at == n or keys[base + at] != key:
            continue
        left = size
        node = np.int64(levels[b * cap_levels + slots[base + at]].last)
        while node >= 0 and left > 0:
            older = np.int64(nodes[b * cap_nodes + node].prev)
            if nodes[b * cap_nodes + node].owner == owner:
                amount = min(left, np.int64(nodes[b * cap_nodes + node].size))
                left -= amount
                _take(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, node, amount)
            node = older
        if left < size:
            head[b, OUT_CUT] = size - left
            head[b, OUT_CUT_PRICE] = price
            head[b, OUT_CUT_SIDE] = side
            return size - left
    return 0


@kernel
def _new(
    head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table,
    rules, fills, time, seq, kind, price, size, owner, oid, flags, auction,
):  # fmt: skip
    """Enter an order that passed all checks: trade, then rest."""
    if oid == 0:
        oid = head[b, NEXT_ID]
    if oid >= head[b, NEXT_ID]:
        head[b, NEXT_ID] = oid + 1
    head[b, OUT_ID] = oid
    if not auction:
        size = _match(
            head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table,
            rules, fills, time, seq, kind, price, size, owner, oid,
        )  # fmt: skip
    if size > 0 and flags & IOC == 0:
        _rest(
            head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, kind, price, size, owner, oid
        )
    if not auction and rules[N_BREAKERS] > 0 and head[b, OUT_TRADED] > 0:
        _check_breakers(head, b, rules, time)


@kernel
def apply(
    head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table,
    rules, fills, seq, time, oid, price, size, owner, kind, flags,
):  # fmt: skip
    """Process one message on book b; returns the reason code. Room has been made sure of."""
    head[b, OUT_TRADED] = 0
    head[b, OUT_CUT] = 0
    head[b, OUT_ID] = oid
    bad = _bad_kind(kind, flags)
    if time < head[b, CLOCK]:
        return BAD_KIND if bad else TIME_BACKWARDS
    head[b, CLOCK] = time
    if bad:
        return BAD_KIND
    phase = RULES + 4 * head[b, PHASE]
    if head[b, PHASE] >= rules[N_PHASES] or time < rules[phase]:
        return CLOSED
    halted = head[b, HALT_END] >= 0
    auction = halted or rules[phase + 2] == PHASE_AUCTION
    if kind == CANCEL:
        by_level = flags & BY_LEVEL != 0
        if size < 0 or (by_level and size == 0):
            return BAD_SIZE
        if time >= rules[phase + 3] and not halted:
            return NO_CANCEL
        if by_level:
            taken = _cancel_level(
                head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, price, size, owner
            )
            return OK if taken > 0 else EMPTY_LEVEL
    else:
        reason = _refuse_new(head, b, rules, kind, price, size, flags, auction)
        if reason != OK:
            return reason
        if flags & REPLACE == 0:
            if oid != 0 and (
                _find(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, oid) >= 0
            ):
                return DUPLICATE_ID
            _new(
                head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table,
                rules, fills, time, seq, kind, price, size, owner, oid, flags, auction,
            )  # fmt: skip
            return OK
        if time >= rules[phase + 3] and not halted:
            return NO_CANCEL
    node = _find(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, oid)
    if node < 0:
        return UNKNOWN_ORDER
    at = b * cap_nodes + node
    if nodes[at].owner != owner:
        return NOT_OWNER
    level = b * cap_levels + nodes[at].level
    if kind != CANCEL and levels[level].side != kind:
        return WRONG_SIDE
    amount = np.int64(nodes[at].size)
    if kind == CANCEL and size != 0:
        amount = min(size, amount)
    head[b, OUT_CUT] = amount
    head[b, OUT_CUT_PRICE] = levels[level].price
    head[b, OUT_CUT_SIDE] = levels[level].side
    if kind == CANCEL:
        _take(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, node, amount)
        return OK
    _remove(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, node)
    _new(
        head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table,
        rules, fills, time, seq, kind, price, size, owner, oid, flags, auction,
    )  # fmt: skip
    return OK


@kernel
def _no_room(head, b, cap_nodes, cap_levels):
    full_nodes = head[b, FREE_NODE] < 0 and head[b, USED_NODES] >= cap_nodes
    full_levels = head[b, FREE_LEVEL] < 0 and head[b, USED_LEVELS] >= cap_levels
    return full_nodes or full_levels


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
def _next_snapshot(head, levels, keys, slots, cap_levels, prices, sizes, row, depth):
    """Snapshot of book 0 in a row after the first: a side that did not change is copied from before."""
    changed = head[0, CHANGED] if row > 0 else 3
    head[0, CHANGED] = 0
    for side in range(2):
        if (changed >> side) & 1 == 1:
            _write_side(head, levels, keys, slots, 0, side, cap_levels, prices, sizes, row, depth)
        else:
            for k in range(depth):
                prices[row, side, k] = prices[row - 1, side, k]
                sizes[row, side, k] = sizes[row - 1, side, k]


@kernel
def replay_stream(
    head, nodes, levels, keys, slots, table, cap_nodes, cap_levels, cap_table,
    rules, orders, first, reasons, outs, fills, prices, sizes, depth,
):  # fmt: skip
    """Send ``orders[first:]`` to book 0. Returns (status, index of the message it stopped before)."""
    for i in range(first, len(orders)):
        if _no_room(head, 0, cap_nodes, cap_levels):
            return GROW_BOOK, i
        if head[0, N_FILLS] + head[0, LIVE] > len(fills):
            return GROW_FILLS, i
        time = orders[i].time_ns
        _advance(head, nodes, levels, keys, slots, table, 0, cap_nodes, cap_levels, cap_table, rules, fills, time, i)
        if depth > 0:
            _next_snapshot(head, levels, keys, slots, cap_levels, prices, sizes, i, depth)
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
    _advance(head, nodes, levels, keys, slots, table, 0, cap_nodes, cap_levels, cap_table, rules, fills, time, seq)
    return DONE


@kernel
def _prefetch_book(head, table, b, cap_table, order_id):
    """First stage: the scalars of a book, and where an id would be in its table."""
    for word in range(0, HEAD, 8):
        _prefetch(head, b * HEAD + word)
    if order_id != 0:
        _prefetch(table, b * cap_table + _slot(order_id, cap_table - 1))


@kernel
def _prefetch_orders(head, nodes, keys, slots, table, b, cap_nodes, cap_levels, cap_table, order_id):
    """Second stage: both touches, the node that a new order would take, the order that an id names."""
    for side in range(2):
        best = (b * 2 + side) * cap_levels + head[b, N_ASK + side] - 1
        _prefetch(keys, best)
        _prefetch(slots, best)
    node = head[b, FREE_NODE] if head[b, FREE_NODE] >= 0 else head[b, USED_NODES]
    _prefetch(nodes, b * cap_nodes + node)
    if order_id != 0:
        named = table[b * cap_table + _slot(order_id, cap_table - 1)]
        if named >= 0:
            _prefetch(nodes, b * cap_nodes + named)


@kernel
def _prefetch_levels(head, nodes, levels, slots, b, cap_nodes, cap_levels, table, cap_table, order_id):
    """Third stage: the best level of each side, and that of the named order."""
    for side in range(2):
        n = head[b, N_ASK + side]
        if n > 0:
            _prefetch(levels, b * cap_levels + slots[(b * 2 + side) * cap_levels + n - 1])
    if order_id != 0:
        named = table[b * cap_table + _slot(order_id, cap_table - 1)]
        if named >= 0:
            _prefetch(levels, b * cap_levels + nodes[b * cap_nodes + named].level)


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
        if _no_room(head, b, cap_nodes, cap_levels):
            return GROW_BOOK, k
        if head[0, N_FILLS] + head[b, LIVE] > len(fills):
            return GROW_FILLS, k
        before = head[0, N_FILLS]
        time = orders[k].time_ns
        _advance(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, rules, fills, time, k)
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


@kernel
def load_book(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, resting):
    """Fill an empty book with resting orders. Returns GROW_BOOK if they do not fit."""
    for i in range(len(resting)):
        if _no_room(head, b, cap_nodes, cap_levels):
            return GROW_BOOK
        _rest(
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
def copy_books(head, node_words, level_words, keys, slots, source, rows, cap_nodes, cap_levels):
    """Copy one book into others: only the words in use; the id table is rebuilt when it is needed."""
    used_nodes, used_levels = head[source, USED_NODES], head[source, USED_LEVELS]
    node_size, level_size = 4, 3  # in 8-byte words
    for r in range(len(rows)):
        b = rows[r]
        if b == source:
            continue
        fills = head[0, N_FILLS]
        for k in range(HEAD):
            head[b, k] = head[source, k]
        head[b, HASHED] = 0
        head[0, N_FILLS] = fills
        here, there = source * cap_nodes * node_size, b * cap_nodes * node_size
        for k in range(used_nodes * node_size):
            node_words[there + k] = node_words[here + k]
        here, there = source * cap_levels * level_size, b * cap_levels * level_size
        for k in range(used_levels * level_size):
            level_words[there + k] = level_words[here + k]
        for side in range(2):
            here, there = (source * 2 + side) * cap_levels, (b * 2 + side) * cap_levels
            for k in range(head[source, N_ASK + side]):
                keys[there + k] = keys[here + k]
                slots[there + k] = slots[here + k]


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
    row k is ``[edges[k, j], edges[k, j + 1])``.
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
                while j < bins and distance >= edges[k, j + 1]:
                    j += 1
                if j == bins:
                    break
                if distance >= edges[k, j]:
                    level = b * cap_levels + slots[base + at]
                    if head[b, AGENT_LIVE] == 0:
                        out[k, side, j] += levels[level].volume
                    else:
                        out[k, side, j] += _owned(nodes, levels, level, b * cap_nodes, 0)


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
def nearest_owned(head, nodes, levels, keys, slots, cap_nodes, cap_levels, rows, sides, prices, reach, owner, out):
    """Level nearest to ``prices[k]`` on ``sides[k]`` where ``owner`` has volume, within ``reach`` ticks.

    ``out[k, 0]`` is its price (NO_PRICE if there is none), ``out[k, 1]`` the owner's newest size there;
    of two equally near levels the one nearer to the touch.
    """
    for k in range(len(rows)):
        b, side = rows[k], sides[k]
        base = (b * 2 + side) * cap_levels
        n = head[b, N_ASK + side]
        key = np.int64(prices[k]) if side == BID else -np.int64(prices[k])
        out[k, 0] = NO_PRICE
        out[k, 1] = 0
        better = _position(keys, base, n, key)
        worse = better - 1
        while better < n or worse >= 0:
            up = np.int64(keys[base + better]) - key if better < n else np.int64(1) << 40
            down = key - np.int64(keys[base + worse]) if worse >= 0 else np.int64(1) << 40
            if min(up, down) > reach[k]:
                break
            if up <= down:
                at = better
                better += 1
            else:
                at = worse
                worse -= 1
            node = np.int64(levels[b * cap_levels + slots[base + at]].last)
            while node >= 0 and nodes[b * cap_nodes + node].owner != owner:
                node = np.int64(nodes[b * cap_nodes + node].prev)
            if node >= 0:
                price = np.int64(keys[base + at])
                out[k, 0] = price if side == BID else -price
                out[k, 1] = nodes[b * cap_nodes + node].size
                break
