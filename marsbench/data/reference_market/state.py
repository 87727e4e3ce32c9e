"""Hidden state of the reference market: what its traders know and plan, for many rows side by side.

One row is one market. Scalars are a record (``STATE``), metaorders under way have ``SLOTS`` records a
row, mid prices of the last hour lie in a ring, and four heaps a row hold when each resting order will be
cancelled. Times inside are nanoseconds of continuous trading since the open: lunch does not exist here.

Waiting is counted in hazard: an arrival comes when its intensity has added up to a unit exponential draw,
an order is cancelled when the cancel intensity of its class has. The draws belong to the arrival and to the
order (by their numbers in the market's own count), not to the moment at which something happens, so that
another order in the book leaves the others' draws as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from marsbench.data.reference_market.portable_math import exp
from marsbench.data.reference_market.profiles import SHARED, Shared, day_shape

SLOTS = 64
"""Metaorders that can be under way at once."""
RING = 3601
"""Mid prices kept, one a second."""
HEAPS = 4
"""Classes of resting orders: near ask, near bid, patient ask, patient bid."""
NEAR, PATIENT = 0, 2
"""Heap of a class of resting orders is the class plus the side."""

STATE = np.dtype(
    [
        # where its random numbers come from
        ("key", "<i8"),
        ("start", "<i8"),
        ("rollout", "<i8"),
        ("profile", "<i8"),
        # clock
        ("now_ns", "<i8"),
        ("second", "<i8"),  # ticks of the hidden clock that are over
        ("thoughts", "<i8"),  # traders who thought twice about leaving in this second
        # arrivals: near limits, patient limits, noise market orders, news market orders
        ("count", "<i8", (4,)),
        ("rate", "<f8", (4,)),  # per second
        ("left", "<f8", (4,)),  # hazard until the next one
        ("hazard", "<f8", (HEAPS,)),  # cancel hazard added up so far
        ("cancel_rate", "<f8", (HEAPS,)),
        ("heap", "<i8", (HEAPS,)),  # entries of each heap
        ("pending", "<i8"),  # what comes next, see ``clock``
        ("pending_slot", "<i8"),
        # activity
        ("activity", "<f8"),
        ("relative", "<f8"),  # activity over that of the time of day
        ("hurry", "<f8"),  # how much faster than activity near orders are cancelled
        ("waves", "<f8", (4,)),
        ("excitement", "<f8"),
        ("norm", "<f8", (4,)),  # running means of squared moves over each window
        # value
        ("day_ticks", "<f8"),  # the price that the day opened around
        ("value", "<f8"),  # fundamental value in ticks
        ("news_left", "<f8"),  # seconds
        ("news_jump", "<f8"),
        ("trend", "<f8"),
        ("mid", "<f8"),
        ("last_side", "<i8"),
        ("outside", "<f8"),  # lots that agents have bought aggressively, net of those sold
        # the order that is due
        ("kind", "<i8"),
        ("price", "<i8"),
        ("size", "<i8"),
        ("flags", "<i8"),
        ("id", "<i8"),
        ("group", "<i8"),  # NEAR or PATIENT
    ]
)
METAORDER = np.dtype(
    [
        ("id", "<i8"),  # 0: the slot is free; otherwise 1 + second of arrival
        ("side", "<i8"),  # Kind of its orders
        ("target", "<f8"),  # lots
        ("rate", "<f8"),  # children per minute at activity 1
        ("left", "<f8"),
        ("children", "<i8"),
        ("executed", "<i8"),  # shares
        ("fills", "<i8"),
        ("start_ns", "<i8"),  # first and last execution
        ("end_ns", "<i8"),
    ]
)
SHARED_TABLE = np.dtype(
    [(f.name, "<f8", (4,) if isinstance(getattr(SHARED, f.name), tuple) else ()) for f in fields(Shared)]
    + [("wave_keep", "<f8", (4,)), ("wave_kick", "<f8", (4,)), ("excitement_keep", "<f8"), ("shape", "<f8", (240,))]
)


def shared_table(shared: Shared = SHARED) -> NDArray[np.void]:
    """Shared parameters and what follows from them, as one record for the kernels."""
    out = np.zeros(1, SHARED_TABLE)
    for f in fields(Shared):
        out[f.name] = np.asarray(getattr(shared, f.name), float)
    for k, minutes in enumerate(shared.wave_times):
        keep = exp(-1.0 / (60.0 * minutes))
        out["wave_keep"][0, k] = keep
        out["wave_kick"][0, k] = np.sqrt(1.0 - keep * keep)
    out["excitement_keep"] = exp(-1.0 / shared.excitement_seconds)
    out["shape"] = day_shape(shared)
    return out


class Arrays(NamedTuple):
    """The arrays of all rows, as the kernels take them."""

    state: NDArray[np.void]
    """``STATE`` ``[rows]``."""
    metaorders: NDArray[np.void]
    """``METAORDER`` ``[rows * SLOTS]``."""
    mids: NDArray[np.int32]
    """``[rows * RING]``, half ticks (ask + bid)."""
    when: NDArray[np.float64]
    """``[rows * HEAPS * capacity]``: hazard at which each entry of a heap is due ..."""
    who: NDArray[np.int64]
    """... and the order it cancels."""
    capacity: int
    profiles: NDArray[np.void]
    shared: NDArray[np.void]


@dataclass
class Hidden:
    """The hidden states of some rows, and their growth."""

    arrays: Arrays

    @classmethod
    def empty(cls, rows: int, profiles: NDArray[np.void], shared: NDArray[np.void], capacity: int = 1024) -> Self:
        """States with nothing in them."""
        return cls(
            Arrays(
                np.zeros(rows, STATE),
                np.zeros(rows * SLOTS, METAORDER),
                np.zeros(rows * RING, np.int32),
                np.zeros(rows * HEAPS * capacity),
                np.zeros(rows * HEAPS * capacity, np.int64),
                capacity,
                profiles,
                shared,
            )
        )

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` entries in each heap."""
        old = self.arrays
        if capacity <= old.capacity:
            return
        blocks = len(old.state) * HEAPS

        def grown(array: NDArray[Any]) -> NDArray[Any]:
            out = np.zeros((blocks, capacity), array.dtype)
            out[:, : old.capacity] = array.reshape(blocks, old.capacity)
            return out.ravel()

        self.arrays = old._replace(when=grown(old.when), who=grown(old.who), capacity=capacity)

    def snapshot(self, row: int) -> Snapshot:
        """A copy of one row."""
        a = self.arrays
        base = row * HEAPS * a.capacity
        heaps = [base + c * a.capacity + np.arange(a.state["heap"][row, c]) for c in range(HEAPS)]
        return Snapshot(
            a.state[row : row + 1].copy(),
            a.metaorders[row * SLOTS : (row + 1) * SLOTS].copy(),
            a.mids[row * RING : (row + 1) * RING].copy(),
            tuple(a.when[h].copy() for h in heaps),
            tuple(a.who[h].copy() for h in heaps),
        )

    def restore(self, row: int, snapshot: Snapshot) -> None:
        """Put a copy into a row."""
        longest = max(len(ids) for ids in snapshot.who)
        if longest + 64 > self.arrays.capacity:
            self.grow(1 << (2 * longest + 64).bit_length())
        a = self.arrays
        a.state[row] = snapshot.state[0]
        a.metaorders[row * SLOTS : (row + 1) * SLOTS] = snapshot.metaorders
        a.mids[row * RING : (row + 1) * RING] = snapshot.mids
        for c in range(HEAPS):
            base = (row * HEAPS + c) * a.capacity
            a.when[base : base + len(snapshot.when[c])] = snapshot.when[c]
            a.who[base : base + len(snapshot.who[c])] = snapshot.who[c]


@dataclass(frozen=True)
class Snapshot:
    """The hidden state of one market at one time: fundamental value, activity, metaorders, who queues where."""

    state: NDArray[np.void]
    metaorders: NDArray[np.void]
    mids: NDArray[np.int32]
    when: tuple[NDArray[np.float64], ...]
    who: tuple[NDArray[np.int64], ...]
