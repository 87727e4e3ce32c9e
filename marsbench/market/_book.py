"""Compiled order book: flat arrays, one function per step of the matching algorithm.

Layout, for B books in one set of arrays (capacities grow together, see ``_arrays``):

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

import numpy as np
from numba import njit

from marsbench.market._memory import move
from marsbench.market.orders import AUCTION, Flag, Kind, Reason
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
    VOLUME_ASK,  # resting shares; VOLUME_ASK + side is that of a side
    VOLUME_BID,
    N_FILLS,  # of book 0: fills written so far by the running kernel
    HEAD,
) = range(28)

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


# --- ids ------------------------------------------------------------------------------------------


@kernel
def slot_of(order_id, mask):
    mixed = np.uint64(order_id) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64(mixed >> np.uint64(32)) & mask


@kernel
def _table_insert(table, base, mask, order_id, node):
    at = slot_of(order_id, mask)
    while table[base + at] >= 0:
        at = (at + 1) & mask
    table[base + at] = node


@kernel
def _table_find(nodes, table, node_base, base, mask, order_id):
    at = slot_of(order_id, mask)
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
    at = slot_of(order_id, mask)
    while nodes[node_base + table[base + at]].id != order_id:
        at = (at + 1) & mask
    gap = at
    while True:
        at = (at + 1) & mask
        node = table[base + at]
        if node < 0:
            break
        home = slot_of(nodes[node_base + node].id, mask)
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
def find(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, order_id):
    if head[b, HASHED] == 0:
        _build_table(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table)
    return _table_find(nodes, table, b * cap_nodes, b * cap_table, cap_table - 1, order_id)


# --- levels and queues ----------------------------------------------------------------------------


@kernel
def position(keys, base, n, key):
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
    at = position(keys, base, n, price if side == BID else -price)
    move(keys, base + at, base + at + 1, n - 1 - at)
    move(slots, base + at, base + at + 1, n - 1 - at)
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
    head[b, VOLUME_ASK + levels[level].side] -= nodes[at].size
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
def rest(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, side, price, size, owner, oid):
    """Append an order to the queue at its price. The caller has made sure that there is room."""
    base = (b * 2 + side) * cap_levels
    n = head[b, N_ASK + side]
    key = price if side == BID else -price
    at = position(keys, base, n, key)
    if at < n and keys[base + at] == key:
        slot = np.int64(slots[base + at])
    else:
        slot = head[b, FREE_LEVEL]
        if slot >= 0:
            head[b, FREE_LEVEL] = levels[b * cap_levels + slot].last
        else:
            slot = head[b, USED_LEVELS]
            head[b, USED_LEVELS] = slot + 1
        move(keys, base + at + 1, base + at, n - at)
        move(slots, base + at + 1, base + at, n - at)
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
    head[b, VOLUME_ASK + side] += size
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
        head[b, VOLUME_ASK + levels[level].side] -= size
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
    first_bid = position(keys, bids, n_bid, best_ask)
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
def advance(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, rules, fills, time, seq):
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
        at = position(keys, base, n, key)
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
        rest(
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
                find(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, oid) >= 0
            ):
                return DUPLICATE_ID
            _new(
                head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table,
                rules, fills, time, seq, kind, price, size, owner, oid, flags, auction,
            )  # fmt: skip
            return OK
        if time >= rules[phase + 3] and not halted:
            return NO_CANCEL
    node = find(head, nodes, levels, keys, slots, table, b, cap_nodes, cap_levels, cap_table, oid)
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
def no_room(head, b, cap_nodes, cap_levels):
    full_nodes = head[b, FREE_NODE] < 0 and head[b, USED_NODES] >= cap_nodes
    full_levels = head[b, FREE_LEVEL] < 0 and head[b, USED_LEVELS] >= cap_levels
    return full_nodes or full_levels
