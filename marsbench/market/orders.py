"""Orders, fills and reason codes: the vocabulary that every other module speaks.

Messages are rows of NumPy structured arrays, so that a whole day is one block of memory that
compiled code walks without a Python object per order. The position of a row in its array is the
order's sequence number: it decides between equal timestamps.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

import numpy as np
from numpy.typing import NDArray

NO_PRICE = int(np.iinfo(np.int32).min)
"""Stands where a price level does not exist; its size is 0."""

MARKET = 0
"""Owner of every order that does not belong to an agent. Agents are 1, 2, ..."""


class Kind(IntEnum):
    """What a message asks for. The numbers are those of the published order tokens."""

    ASK = 0
    BID = 1
    CANCEL = 2


class Flag(IntFlag):
    """Options of a message, combined with ``|``."""

    NONE = 0
    IOC = 1
    """Immediate or cancel: what does not trade at once does not rest."""
    REPLACE = 2
    """Atomic cancel of the live order ``order_id`` and new order under the same id (loses its place)."""
    BY_LEVEL = 4
    """CANCEL by price and size instead of by id: takes the sender's newest orders at that price."""
    SEEDED = 8
    """Volume that a source shows although its order was never seen. Left out of order-flow statistics."""


class Reason(IntEnum):
    """Why a message was rejected; ``OK`` when it was not. Checked in this order."""

    OK = 0
    BAD_KIND = 1
    """Unknown kind, or flags that do not belong to the kind."""
    TIME_BACKWARDS = 2
    CLOSED = 3
    """No session at that time (before the open, lunch, after the close)."""
    BAD_SIZE = 4
    OFF_LOT = 5
    OFF_TICK = 6
    PRICE_LIMIT = 7
    NOT_CONTINUOUS = 8
    """Immediate-or-cancel during a call auction or a halt."""
    NO_CANCEL = 9
    """Cancel or replace inside a no-cancel window."""
    DUPLICATE_ID = 10
    UNKNOWN_ORDER = 11
    NOT_OWNER = 12
    WRONG_SIDE = 13
    """A replace that would change the side."""
    EMPTY_LEVEL = 14
    """Cancel by level where the sender owns nothing."""


AUCTION = 2
"""``side`` of a fill that has no aggressor because a call auction made it."""

ORDER = np.dtype(
    [
        ("time_ns", "<i8"),  # nanoseconds since local midnight
        ("order_id", "<i8"),  # 0 on a new order: the clearing house gives the next free id
        ("price_ticks", "<i4"),
        ("size_shares", "<i4"),  # CANCEL by id: 0 means all of it
        ("owner", "<i4"),  # 0 the market, 1.. agents
        ("kind", "u1"),
        ("flags", "u1"),
        ("pad", "<u2"),
    ]
)
"""One message, 32 bytes."""

FILL = np.dtype(
    [
        ("time_ns", "<i8"),
        ("bid_id", "<i8"),
        ("ask_id", "<i8"),
        ("seq", "<i4"),  # index of the message that caused it (auctions: of the next message)
        ("price_ticks", "<i4"),
        ("size_shares", "<i4"),
        ("bid_owner", "<i4"),
        ("ask_owner", "<i4"),
        ("side", "<i4"),  # the aggressor's kind: ASK, BID, or AUCTION
    ]
)
"""One execution, 48 bytes. Trades at the resting order's price, or at the auction's."""


def orders(
    time_ns: object = 0,
    *,
    kind: object,
    price_ticks: object = 0,
    size_shares: object = 0,
    order_id: object = 0,
    owner: object = MARKET,
    flags: object = 0,
) -> NDArray[np.void]:
    """Build an ``ORDER`` array; scalars are broadcast against arrays.

    >>> orders(kind=[Kind.ASK, Kind.BID], price_ticks=[101, 99], size_shares=5)["size_shares"].tolist()
    [5, 5]

    Returns
    -------
    ndarray of ``ORDER``, shape ``[n]``.
    """
    columns = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(c)) for c in (time_ns, order_id, price_ticks, size_shares, owner, kind, flags))
    )
    out = np.zeros(columns[0].shape, ORDER)
    for name, column in zip(
        ("time_ns", "order_id", "price_ticks", "size_shares", "owner", "kind", "flags"), columns, strict=True
    ):
        out[name] = column
    return out
