"""Order flow as it looks from the book: every accepted message with where it stood to the touch.

What generators are calibrated on. Prices are expressed against the best quotes right before the
message, so that the same flow can be counted by level or played again on another book.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from marsbench.market.orders import MARKET, Flag, Kind, Reason
from marsbench.market.replay import replay_trajectory
from marsbench.market.trajectory import Trajectory


class Action(IntEnum):
    """What a message did."""

    LIMIT = 0
    """Rested without trading."""
    AGGRESSIVE = 1
    """Traded at once (the rest may rest)."""
    CANCEL = 2


@dataclass(frozen=True)
class Flow:
    """One row per accepted message of the market, ``[n]`` each. A replace counts as cancel and order.

    Distances are in ticks. ``from_opposite`` counts away from the opposite best quote (1 is one tick
    inside of it; 0 or less trades); ``from_own`` counts away from the own best (0 joins it, negative
    improves it). Rows whose book lacked the quote in question are marked in ``quoted``.
    """

    time_ns: NDArray[np.int64]
    action: NDArray[np.int64]
    side: NDArray[np.int64]
    """The side the order rests on or would: ASK or BID; for a cancel that of the cancelled order."""
    size_shares: NDArray[np.int64]
    traded_shares: NDArray[np.int64]
    """Of an order, what of it traded at once; of a cancel 0."""
    from_opposite: NDArray[np.int64]
    from_own: NDArray[np.int64]
    quoted: NDArray[np.bool_]
    """Whether both sides were there."""
    opposite_shares: NDArray[np.int64]
    """What rested at the opposite best quote, 0 if there was none."""
    ioc: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.time_ns)


def order_flow(trajectory: Trajectory) -> Flow:
    """The market's flow in a trajectory. Seeded volume, rejected messages and agents are left out."""
    done = replay_trajectory(trajectory, levels=1)
    assert done.snapshots is not None
    sent = trajectory.orders
    ask, bid = (q[:-1].astype(np.int64) for q in done.snapshots.best())
    quoted = done.snapshots.two_sided[:-1]
    kept = (done.reason == Reason.OK) & (sent["owner"] == MARKET) & ((sent["flags"] & Flag.SEEDED) == 0)
    cancels = np.flatnonzero(kept & (done.cancelled_shares > 0))
    enters = np.flatnonzero(kept & (sent["kind"] != Kind.CANCEL))
    index = np.concatenate([cancels, enters])
    is_cancel = np.arange(len(index)) < len(cancels)
    index, is_cancel = index[(rank := np.lexsort((~is_cancel, index)))], is_cancel[rank]
    side = np.where(is_cancel, done.cancelled_side[index], sent["kind"][index]).astype(np.int64)
    price = np.where(is_cancel, done.cancelled_price_ticks[index], sent["price_ticks"][index]).astype(np.int64)
    size = np.where(is_cancel, done.cancelled_shares[index], sent["size_shares"][index]).astype(np.int64)
    traded = np.where(is_cancel, 0, done.traded_shares[index])
    up = side == Kind.ASK
    return Flow(
        time_ns=sent["time_ns"][index].copy(),
        action=np.where(is_cancel, Action.CANCEL, np.where(traded > 0, Action.AGGRESSIVE, Action.LIMIT)).astype(
            np.int64
        ),
        side=side,
        size_shares=size,
        traded_shares=traded,
        from_opposite=np.where(up, price - bid[index], ask[index] - price),
        from_own=np.where(up, price - ask[index], bid[index] - price),
        quoted=quoted[index],
        opposite_shares=done.snapshots.size_shares[index, 1 - side, 0].astype(np.int64),
        ioc=(sent["flags"][index] & Flag.IOC) != 0,
    )
