"""Message sequences of a known law, for checks of what LOB-Bench's scores say about them."""

from __future__ import annotations

import numpy as np

from marsbench.stats.lob_bench import ADD, SECOND, LobSequence

LEVELS, TICK = 10, 100
REMOVE, DELETE, TRADE = 2, 3, 4


def random_sequence(
    rng: np.random.Generator, n: int = 500, *, start_s: float = 36_000.0, size: float = 100.0, up: float = 0.5
) -> LobSequence:
    """n messages with waits of .05 s on average, around a mid that moves a tick at one message in ten.

    A move goes up with probability ``up``. The book has ten levels a tick apart; sizes of levels and orders are
    Poisson of mean ``size``, plus one. Nothing but the mid depends on the past.
    """
    time = np.cumsum(rng.exponential(0.05, n)) + start_s
    event = rng.choice([ADD, REMOVE, DELETE, TRADE], n, p=[0.5, 0.05, 0.35, 0.1])
    step = np.where(rng.random(n) < 0.1, np.where(rng.random(n) < up, TICK, -TICK), 0)
    ask = 1_000_100 + np.cumsum(step)
    book = np.empty((n, LEVELS, 4))
    book[:, :, 0] = ask[:, None] + TICK * np.arange(LEVELS)
    book[:, :, 2] = ask[:, None] - TICK * (1 + np.arange(LEVELS))
    book[:, :, 1::2] = rng.poisson(size, (n, LEVELS, 2)) + 1
    direction = rng.choice([-1, 1], n)
    level = np.minimum(rng.geometric(0.4, n) - 1, LEVELS - 1)
    price = np.where(direction == 1, ask - TICK - TICK * level, ask + TICK * level)
    ids = rng.integers(1, n // 2 + 2, n)
    return LobSequence(
        np.rint(time * SECOND).astype(np.int64), event, ids, rng.poisson(size, n) + 1, price, direction, book
    )
