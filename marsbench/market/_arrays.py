"""The arrays behind compiled order books, and how they grow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.market import _book as kb
from marsbench.market import _views as views
from marsbench.market.orders import FILL, ORDER, Kind
from marsbench.market.rules import MatchingRules
from marsbench.market.trajectory import BookState

Ints = NDArray[np.int64]
_FOREVER = np.iinfo(np.int64).max


def compile_rules(rules: MatchingRules) -> Ints:
    head = [
        rules.lot_shares,
        rules.price_step_ticks,
        int(rules.odd_lot_asks),
        int(rules.self_trade),
        int(rules.tie),
        len(rules.phases),
        len(rules.circuit_breakers),
    ]
    for p in rules.phases:
        head += [p.start_ns, p.end_ns, int(p.kind), _FOREVER if p.no_cancel_from_ns is None else p.no_cancel_from_ns]
    for c in rules.circuit_breakers:
        head += [round(c.threshold * 10_000), c.halt_ns]
    return np.array(head, np.int64)


def check_state(state: BookState) -> None:
    resting = state.resting
    if resting.dtype != ORDER:
        raise TypeError(f"resting orders must have dtype ORDER, got {resting.dtype}")
    if len(resting) == 0:
        return
    if (resting["size_shares"] <= 0).any():
        raise ValueError(f"resting orders must have positive sizes, got {resting['size_shares'].min()}")
    if (resting["kind"] > Kind.BID).any():
        raise ValueError("resting orders must be of kind ASK or BID")
    if (resting["order_id"] == 0).any():
        raise ValueError("resting orders need an id other than 0")
    if len(np.unique(resting["order_id"])) != len(resting):
        raise ValueError("resting orders must have distinct ids")


class Books:
    """The arrays behind B books, and their growth."""

    def __init__(self, rules: MatchingRules, count: int, orders: int = 256, levels: int = 64) -> None:
        self.count = count
        self.rules = rules
        self.code = compile_rules(rules)
        self.head = np.zeros((count, kb.HEAD), np.int64)
        self.cap_nodes = self.cap_levels = self.cap_table = 0
        self.nodes = np.zeros(0, kb.NODE)
        self.levels = np.zeros(0, kb.LEVEL)
        self.keys = np.zeros(0, np.int32)
        self.slots = np.zeros(0, np.int32)
        self.table = np.zeros(0, np.int32)
        self._allocate(max(orders, 16), max(levels, 16))
        for b in range(count):
            self.clear(b)

    def _allocate(self, cap_nodes: int, cap_levels: int) -> None:
        def grown(array: NDArray[Any], blocks: int, old: int, new: int) -> NDArray[Any]:
            out = np.zeros(blocks * new, array.dtype)
            if old:
                out.reshape(blocks, new)[:, :old] = array.reshape(blocks, old)
            return out

        count = self.count
        self.nodes = grown(self.nodes, count, self.cap_nodes, cap_nodes)
        self.levels = grown(self.levels, count, self.cap_levels, cap_levels)
        self.keys = grown(self.keys, count * 2, self.cap_levels, cap_levels)
        self.slots = grown(self.slots, count * 2, self.cap_levels, cap_levels)
        self.cap_nodes, self.cap_levels = cap_nodes, cap_levels
        self.cap_table = 1 << (2 * cap_nodes - 1).bit_length()
        self.table = np.full(count * self.cap_table, -1, np.int32)
        self.head[:, kb.HASHED] = 0

    def grow(self) -> None:
        """Double what is nearly full in some book."""
        nodes_full = ((self.head[:, kb.FREE_NODE] < 0) & (self.head[:, kb.USED_NODES] >= self.cap_nodes)).any()
        levels_full = ((self.head[:, kb.FREE_LEVEL] < 0) & (self.head[:, kb.USED_LEVELS] >= self.cap_levels)).any()
        self._allocate(self.cap_nodes * (2 if nodes_full else 1), self.cap_levels * (2 if levels_full else 1))

    def reserve(self, orders: int) -> None:
        """Make sure that a book of that many orders fits."""
        if orders > self.cap_nodes:
            self._allocate(1 << (orders - 1).bit_length(), self.cap_levels)

    def clear(self, b: int) -> None:
        row = self.head[b]
        fills = self.head[0, kb.N_FILLS]
        row[:] = 0
        row[kb.FREE_NODE] = row[kb.FREE_LEVEL] = row[kb.HALT_END] = -1
        row[kb.NEXT_ID] = 1
        row[kb.LOW], row[kb.HIGH] = self.rules.limits_ticks(0)
        self.head[0, kb.N_FILLS] = fills

    @property
    def arrays(self) -> tuple[Any, ...]:
        return self.head, self.nodes, self.levels, self.keys, self.slots, self.table

    @property
    def capacities(self) -> tuple[int, int, int]:
        return self.cap_nodes, self.cap_levels, self.cap_table

    def load(self, b: int, state: BookState) -> None:
        check_state(state)
        self.reserve(len(state.resting) + 16)
        while True:
            self.clear(b)
            row = self.head[b]
            row[kb.CLOCK] = state.time_ns
            row[kb.LAST_TRADE] = state.last_trade_ticks
            row[kb.REFERENCE] = state.reference_ticks
            row[kb.LOW], row[kb.HIGH] = self.rules.limits_ticks(state.reference_ticks)
            row[kb.PHASE] = sum(p.end_ns <= state.time_ns for p in self.rules.phases)
            resting_next = int(state.resting["order_id"].max()) + 1 if len(state.resting) else 1
            row[kb.NEXT_ID] = max(state.next_id, resting_next)
            if views.load_book(*self.arrays, b, *self.capacities, state.resting) == kb.DONE:
                return
            self.grow()

    def store(self, b: int) -> BookState:
        row = self.head[b]
        resting = np.zeros(int(row[kb.LIVE]), ORDER)
        head, nodes, levels, keys, slots, _ = self.arrays
        views.store_book(head, nodes, levels, keys, slots, b, self.cap_nodes, self.cap_levels, resting)
        return BookState(
            resting=resting,
            last_trade_ticks=int(row[kb.LAST_TRADE]),
            reference_ticks=int(row[kb.REFERENCE]),
            next_id=int(row[kb.NEXT_ID]),
            time_ns=int(row[kb.CLOCK]),
        )


class Fills:
    """A fills buffer that grows; the kernels count in ``head[0, N_FILLS]``."""

    def __init__(self, books: Books, size: int) -> None:
        self.books = books
        self.fills = np.empty(size, FILL)
        self.rows = np.empty(size, np.int64)
        self.used = 0

    def reset(self) -> None:
        self.books.head[0, kb.N_FILLS] = 0

    def grow(self) -> None:
        size = 2 * len(self.fills) + int(self.books.head[:, kb.LIVE].max())
        self.fills, self.rows = extended(self.fills, size), extended(self.rows, size)


def extended(array: NDArray[Any], size: int) -> NDArray[Any]:
    out = np.empty(size, array.dtype)
    out[: len(array)] = array
    return out


def run(books: Books, fills: Fills, call: Callable[[int], tuple[int, int]]) -> None:
    """Call a kernel until it is done, making room whenever it asks for it."""
    first = 0
    while True:
        status, first = call(first)
        if status == kb.DONE:
            return
        if status == kb.GROW_BOOK:
            books.grow()
        else:
            fills.grow()
