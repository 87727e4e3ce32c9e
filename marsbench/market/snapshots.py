"""Snapshots of order books: their best price levels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Snapshots:
    """Price levels of n book states, best first. Axis 1 is the side: 0 ask, 1 bid (``Kind``)."""

    price_ticks: NDArray[np.int32]
    """``[n, 2, L]``, ``NO_PRICE`` where there is no such level."""
    size_shares: Ints
    """``[n, 2, L]``, 0 where there is no such level."""

    @cached_property
    def two_sided(self) -> NDArray[np.bool_]:
        """``[n]``, whether there is an ask and a bid."""
        return np.asarray((self.size_shares[:, 0, 0] > 0) & (self.size_shares[:, 1, 0] > 0))

    @cached_property
    def mid_half_ticks(self) -> Ints:
        """``[n]``, ask + bid in ticks (twice the mid price); meaningful where ``two_sided``, else 0."""
        total = self.price_ticks[:, 0, 0].astype(np.int64) + self.price_ticks[:, 1, 0]
        return np.where(self.two_sided, total, 0)

    def best(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Best ask and best bid in ticks, each ``[n]``."""
        return self.price_ticks[:, 0, 0], self.price_ticks[:, 1, 0]
