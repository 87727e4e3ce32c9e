"""The bins of all groups as arrays, in which rows of different groups are looked up together, in compiled loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from marsbench.learning.bins import Bins
from marsbench.learning.round_prices import STEPS, round_price
from marsbench.learning.sampling import pick_one
from marsbench.learning.vocabulary import CROSSES, TAKES, Vocabulary
from marsbench.market.clearing_house import BookView
from marsbench.market.orders import Kind

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FAR = np.int64(1) << 40
"""Beyond all prices, sizes and intervals."""
_ASK, _BID, _CANCEL = int(Kind.ASK), int(Kind.BID), int(Kind.CANCEL)


class Stack:
    """Bins of several groups, padded to ``n`` slots."""

    def __init__(self, bins: Sequence[Bins], n: int) -> None:
        longest = max(b.table[0].shape[1] for b in bins)
        self.values = np.zeros((len(bins), n, longest), np.int64)
        self.mass = np.zeros((len(bins), n, longest))
        self.used = np.zeros((len(bins), n), bool)
        self.upper = np.full((len(bins), n), FAR)
        self.lower = np.zeros((len(bins), n), np.int64)
        """First value of a slot: right above the one before, of the first the smallest of training."""
        for g, own in enumerate(bins):
            values, cumulative = own.table
            k = values.shape[1]
            self.values[g, : len(own)] = np.pad(values, ((0, 0), (0, longest - k)), mode="edge")
            self.mass[g, : len(own), :k] = np.diff(cumulative, axis=1, prepend=0.0)
            self.used[g, : len(own)] = True
            self.upper[g, : len(own) - 1] = own.upper[:-1]
            self.lower[g, : len(own)] = [own.lower[0], *(u + 1 for u in own.upper[:-1])]

    def draw(self, group: Ints, slot: Ints, uniforms: Floats) -> Ints:
        """A value of each slot."""
        drawn: Ints = _draw(self.values, self.mass, group, slot, uniforms)
        return drawn

    def draw_between(self, group: Ints, slot: Ints, low: Ints, high: Ints, uniforms: Floats) -> Ints:
        """A value of each slot above ``low`` and up to ``high``; where there is none, the nearest bound's."""
        drawn: Ints = _draw_between(self.values, self.mass, group, slot, low, high, uniforms)
        return drawn

    def keep_above(self, p: Floats, group: Ints, low: Ints) -> None:
        """Take from probabilities ``[k, n]`` of the slots the share of their values up to ``low`` (below 0: none).

        What has waited longer than any value gets the last slot.
        """
        _keep_above(self.values, self.mass, self.used, p, group, low)


class Slots:
    """The bins of all groups ``[G, ...]``."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        bins = [vocabulary.bins[name] for name in vocabulary.names]
        self.touch = vocabulary.prices == "touch"
        self.new_price = Stack([b.new_price for b in bins], 32)
        self.cancel_price = Stack([b.cancel_price for b in bins], 32)
        self.new_volume = Stack([b.new_volume for b in bins], 32)
        self.cancel_volume = Stack([b.cancel_volume for b in bins], 32)
        self.interval = Stack([b.interval for b in bins], 16)
        self.roundness = np.zeros((len(bins), 32, len(STEPS)))
        """How often each step of prices came in each slot of new orders."""
        for g, own in enumerate(bins):
            self.roundness[g, : len(own.roundness)] = own.roundness

    def cancel_ranges(self, group: Ints, quotes: Ints) -> tuple[Ints, Ints, Ints]:
        """Where the slots of cancels lie on each side, by distance from its best quote.

        Returns
        -------
        low, high
            ``[k, 2, 32]``, first and last distance of each slot (first > last: none).
        edges
            ``[k, 2, 33]`` between slots, from the best quote on: on the bid side the last slot is the first.
        """
        low, high, edges = _cancel_ranges(group, quotes, self.cancel_price.upper, self.cancel_price.used, self.touch)
        return low, high, edges

    def open(
        self, group: Ints, quotes: Ints, edges: Ints, moved: NDArray[np.int8], book: BookView
    ) -> NDArray[np.bool_]:
        """Price slots ``[k, 3, 32]`` that can be ordered at: by type ask, bid, cancel.

        Where the mid has ``moved`` too far up nobody buys at once, too far down nobody sells at once.
        """
        low, high = book.limits_ticks
        found: NDArray[np.bool_] = _open(
            group, quotes, moved, low, high, book.ten.size_shares, book.volume_by_distance(quotes, edges),
            self.new_price.values, self.new_price.used, self.touch,
        )  # fmt: skip
        return found

    def new_prices(
        self, group: Ints, side: Ints, slot: Ints, quotes: Ints, limits: tuple[Ints, Ints], uniforms: Any
    ) -> tuple[Ints, NDArray[np.bool_]]:
        """Prices in ticks of new orders, and which are immediate or cancelled; ``uniforms`` ``[k, 2]``."""
        bins = self.new_price
        ticks, takes = _new_prices(
            group, side, slot, quotes, *limits, uniforms, bins.values, bins.mass, bins.lower, bins.upper,
            self.roundness, self.touch,
        )  # fmt: skip
        return ticks, takes


@njit(cache=True)
def _draw(values, mass, group, slot, uniforms):  # type: ignore[no-untyped-def]
    out = np.empty(len(slot), np.int64)
    for k in range(len(slot)):
        g, s = group[k], slot[k]
        out[k] = values[g, s, pick_one(mass[g, s], uniforms[k])]
    return out


@njit(cache=True)
def _between(values, mass, low, high, uniform):  # type: ignore[no-untyped-def]
    """One of a slot's values ``[n]`` above ``low`` and up to ``high``; where there is none, the nearest bound's."""
    inside = np.where((values > low) & (values <= high), mass, 0.0)
    found = values[pick_one(inside, uniform)]
    return found if inside.sum() > 0.0 else min(max(found, low + 1), high)


@njit(cache=True)
def _draw_between(values, mass, group, slot, low, high, uniforms):  # type: ignore[no-untyped-def]
    out = np.empty(len(slot), np.int64)
    for k in range(len(slot)):
        g, s = group[k], slot[k]
        out[k] = _between(values[g, s], mass[g, s], low[k], high[k], uniforms[k])
    return out


@njit(cache=True)
def _keep_above(values, mass, used, p, group, low):  # type: ignore[no-untyped-def]
    for k in range(len(group)):
        if low[k] < 0:
            continue
        g, total, last = group[k], 0.0, 0
        for s in range(p.shape[1]):
            share = 0.0
            for v in range(values.shape[2]):
                if values[g, s, v] > low[k]:
                    share += mass[g, s, v]
            p[k, s] *= share
            total += p[k, s]
            if used[g, s]:
                last = s
        if total <= 0.0:
            p[k, last] = 1.0


@njit(cache=True)
def _cancel_ranges(group, quotes, upper, used, touch):  # type: ignore[no-untyped-def]
    count, n = len(group), upper.shape[1]
    low, high = np.empty((count, 2, n), np.int64), np.empty((count, 2, n), np.int64)
    edges = np.empty((count, 2, n + 1), np.int64)
    for k in range(count):
        g, spread = group[k], quotes[k, 0] - quotes[k, 1]
        for s in range(n):
            below, last = upper[g, s - 1] if s > 0 else -FAR, upper[g, s]  # coordinates (below, last]
            if not used[g, s]:
                low[k, 0, s], high[k, 0, s] = FAR, FAR - 1
                low[k, 1, s], high[k, 1, s] = -FAR, -FAR - 1
            elif touch:
                low[k, 0, s], high[k, 0, s] = below + 1, last
                low[k, 1, s], high[k, 1, s] = -1 - last, -2 - below
            else:  # 2 d + spread, or minus that on the bid side
                low[k, 0, s], high[k, 0, s] = (below - spread) // 2 + 1, (last - spread) // 2
                low[k, 1, s], high[k, 1, s] = -((last + spread) // 2), -((below + spread) // 2) - 1
        for side in range(2):
            furthest = np.int64(0)
            for s in range(n):
                at = s if side == 0 else n - 1 - s
                furthest = max(furthest, low[k, side, at])
                edges[k, side, s] = furthest
            edges[k, side, n] = max(furthest, high[k, side, n - 1 if side == 0 else 0] + 1)
    return low, high, edges


@njit(cache=True)
def _open(group, quotes, moved, low, high, sizes, resting, values, used, touch):  # type: ignore[no-untyped-def]
    count, n = len(group), used.shape[1]
    out = np.zeros((count, 3, n), np.bool_)
    for k in range(count):
        g, ask, bid = group[k], quotes[k, 0], quotes[k, 1]
        room = (bid < high[k], ask > max(low[k], 1))  # none at a price limit
        for s in range(n):
            lowest = values[g, s, 0]
            for side in range(2):
                if not touch:
                    out[k, side, s] = used[g, s]
                elif lowest >= CROSSES:
                    follows = moved[k] == (-1 if side == _ASK else 1)
                    out[k, side, s] = used[g, s] and sizes[k, 1 - side, 0] > 0 and not follows
                else:
                    out[k, side, s] = used[g, s] and lowest < ask - bid and room[side]
            out[k, _CANCEL, s] = resting[k, 0, s] > 0 or resting[k, 1, n - 1 - s] > 0
    return out


@njit(cache=True)
def _new_prices(  # type: ignore[no-untyped-def]
    group, side, slot, quotes, low, high, uniforms, values, mass, lower, upper, roundness, touch
):
    ticks, takes = np.empty(len(group), np.int64), np.zeros(len(group), np.bool_)
    for k in range(len(group)):
        g, s, ask, bid = group[k], slot[k], quotes[k, 0], quotes[k, 1]
        up = side[k] == _ASK
        if not touch:
            where = values[g, s, pick_one(mass[g, s], uniforms[k, 0])]
            twice = where + ask + bid
            price = (twice + 1 if where < 0 else twice) // 2
        elif values[g, s, 0] >= CROSSES:
            where = values[g, s, pick_one(mass[g, s], uniforms[k, 0])]
            takes[k] = where >= TAKES
            beyond = where - (TAKES if takes[k] else CROSSES)
            price = bid - beyond if up else ask + beyond
        else:
            inside = ask - bid - 1
            where = _between(values[g, s], mass[g, s], -FAR, inside, uniforms[k, 0])
            first, last = lower[g, s], min(upper[g, s], inside)
            step = pick_one(roundness[g, s], uniforms[k, 1])
            if up:
                price = round_price(ask - where, ask - last, ask - first, step)
            else:
                price = round_price(bid + where, bid + first, bid + last, step)
        ticks[k] = min(max(price, max(low[k], 1)), high[k])
    return ticks, takes
