"""Scores of group ``validity``: what is wrong with simulations whatever the metrics make of them.

Each has a limit, which stands as its floor; a generator beyond one is listed without a rank, with the
reason. A property that real markets have as well (a frozen mid price, an empty side, a large order, a
cancel rate) is judged against replay of the same starts, with limits such that replay, and therefore a
copy of it, passes by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marsbench.market.bars import MinuteBars
from marsbench.market.books import BookSeries, faults
from marsbench.market.orders import MARKET, Flag, Kind, Reason
from marsbench.market.replay import Replay
from marsbench.market.trajectory import Trajectory
from marsbench.scores import Score

MOST_CROSSED = 0.01
"""Share of trading time that books may be crossed, or locked, beyond what replay's are."""
MOST_REJECTED = 0.05
"""Share of messages that may be rejected, and of cancels that may name nothing, beyond replay's."""
MOST_MALFORMED = 0.01
"""Share of messages that may have a bad size, or an earlier time than the message before, beyond replay's."""
LEAST_MOVING = 0.25
"""The mid must move in so large a part of the minutes, relative to replay."""
ONE_SIDED_TIMES, ONE_SIDED_MORE = 2.0, 0.05
"""The share of one-sided time may be so many times replay's, and so much more."""
WALL_TIMES, MOST_WALLS = 5.0, 0.10
"""A wall is a price level so many times larger than any of replay; share of rollouts that may end with one."""
DRIFT_TIMES, DRIFT_MORE_TICKS = 5.0, 2.0
"""The mid may move over the period so many times as far as replay's, and so many ticks more, in the mean."""
MOST_CANCEL_GAP = 0.15
"""The share of cancels in all messages may differ so much from replay's."""
NEAREST = 10
"""Price levels of each side, from the best quote, that are looked at for walls."""


@dataclass(frozen=True)
class Health:
    """Counts of one stretch of one market: the market's own messages, what the rules refused, odd books."""

    messages: int = 0
    rejected: int = 0
    bad_size: int = 0
    """Rejected because the size is 0, negative, or no multiple of the lot."""
    time_back: int = 0
    """Rejected because the time lies before that of an earlier message."""
    cancels: int = 0
    orphans: int = 0
    """Cancels of an order, or at a level, where the market owns nothing."""
    crossed: float = 0.0
    """Share of trading time with the bid above the ask ..."""
    locked: float = 0.0
    """... and at the ask."""
    largest_level_shares: int = 0
    """Of the nearest price levels of both sides when the stretch ends."""


def health(trajectory: Trajectory, done: Replay) -> Health:
    """Counts of a trajectory from its replay, which must hold snapshots of at least one level."""
    orders = trajectory.orders
    mine = (orders["owner"] == MARKET) & ((orders["flags"] & int(Flag.SEEDED)) == 0)
    reasons = np.bincount(done.reason[mine], minlength=256)
    cancel = mine & (orders["kind"] == Kind.CANCEL)
    refused = np.bincount(done.reason[cancel], minlength=256)
    nothing = [Reason.UNKNOWN_ORDER, Reason.NOT_OWNER, Reason.EMPTY_LEVEL]
    crossed, locked = _meeting(trajectory, done)
    return Health(
        messages=int(mine.sum()),
        rejected=int(reasons[1:].sum()),
        bad_size=int(reasons[[Reason.BAD_SIZE, Reason.OFF_LOT]].sum()),
        time_back=int(reasons[Reason.TIME_BACKWARDS]),
        cancels=int(cancel.sum()),
        orphans=int(refused[nothing].sum()),
        crossed=crossed,
        locked=locked,
        largest_level_shares=_largest_level(done.final.resting),
    )


def _meeting(trajectory: Trajectory, done: Replay) -> tuple[float, float]:
    """Shares of trading time with a crossed and with a locked book."""
    assert done.snapshots is not None
    ask, bid = done.snapshots.best()
    met = done.snapshots.two_sided & (bid >= ask)
    if not met.any():  # nearly always: a matching book never is
        return 0.0, 0.0
    times = np.maximum.accumulate(trajectory.orders["time_ns"].astype(np.int64))
    edges = np.clip(np.concatenate([[trajectory.start_ns], times, [trajectory.end_ns]]), trajectory.start_ns, None)
    held = np.diff(trajectory.rules.trading_ns(edges)).astype(np.float64)  # auctions are no trading time
    total = max(float(held.sum()), 1.0)
    return float(held[met & (bid > ask)].sum()) / total, float(held[met & (bid == ask)].sum()) / total


def _largest_level(resting: NDArray[np.void]) -> int:
    """Shares of the largest of the ``NEAREST`` price levels of either side."""
    largest = 0
    for kind, step in ((Kind.ASK, 1), (Kind.BID, -1)):
        own = resting[resting["kind"] == kind]
        if len(own):
            levels, place = np.unique(step * own["price_ticks"].astype(np.int64), return_inverse=True)
            near = np.bincount(place, own["size_shares"], minlength=len(levels))[:NEAREST]
            largest = max(largest, int(near.max()))
    return largest


@dataclass(frozen=True)
class Side:
    """Replay or the simulations: bars ``[N, M]`` and, where there are orders, health ``[N]``."""

    bars: MinuteBars
    health: Sequence[Health]
    instruments: Sequence[str]
    """``[N]``."""

    def share(self, part: str, whole: str) -> float | None:
        """Sum of one count over the sum of another; None where there is nothing to count."""
        below = sum(getattr(h, whole) for h in self.health)
        return sum(getattr(h, part) for h in self.health) / below if below else None


def order_scores(replay: Side, simulated: Side, clusters: int) -> tuple[Score, ...]:
    """Validity of simulations that hold orders. Lower is better throughout; the floor is the limit.

    ``validity.rejected``, ``.bad_sizes``, ``.time_back``: shares of the market's messages;
    ``.orphan_cancels``: share of its cancels. ``.book_crossed``, ``.book_locked``: shares of trading
    time. ``.walls``: share of rollouts that end with a price level (of the nearest ten of a side) more
    than ``WALL_TIMES`` as large as the largest that replay of that instrument ends with. ``.cancel_gap``:
    absolute difference of the share of cancels in all messages from replay's. Then those of ``bar_scores``.
    """

    def rate(name: str, part: str, whole: str, more: float, unit: str) -> Score:
        base = replay.share(part, whole) or 0.0
        return _score(name, simulated.share(part, whole), base + more, unit, len(simulated.health), clusters)

    largest: dict[str, int] = {}
    for name, h in zip(replay.instruments, replay.health, strict=True):
        largest[name] = max(largest.get(name, 0), h.largest_level_shares)
    walls = [
        h.largest_level_shares > WALL_TIMES * max(largest[name], 1)
        for name, h in zip(simulated.instruments, simulated.health, strict=True)
    ]
    cancel = [side.share("cancels", "messages") for side in (replay, simulated)]
    gap = None if cancel[0] is None or cancel[1] is None else abs(cancel[1] - cancel[0])
    return (
        rate("rejected", "rejected", "messages", MOST_REJECTED, "share of messages"),
        rate("bad_sizes", "bad_size", "messages", MOST_MALFORMED, "share of messages"),
        rate("time_back", "time_back", "messages", MOST_MALFORMED, "share of messages"),
        rate("orphan_cancels", "orphans", "cancels", MOST_REJECTED, "share of cancels"),
        *_met(
            {name: float(np.mean([getattr(h, name) for h in simulated.health])) for name in ("crossed", "locked")},
            {name: float(np.mean([getattr(h, name) for h in replay.health])) for name in ("crossed", "locked")},
            len(simulated.health),
            clusters,
        ),
        _score("walls", float(np.mean(walls)), MOST_WALLS, "share of rollouts", len(walls), clusters),
        _score("cancel_gap", gap, MOST_CANCEL_GAP, "share of messages", len(simulated.health), clusters),
        *bar_scores(replay, simulated, clusters),
    )


def bar_scores(replay: Side, simulated: Side, clusters: int) -> tuple[Score, ...]:
    """Validity that the best quotes alone show.

    ``validity.book_one_sided``: share of time without a bid or an ask. ``.book_frozen``: share of
    minutes over which the mid price did not move. ``.drift``: mean over rollouts of how far the mid
    moved from the first to the last minute with one, in ticks.
    """
    base, own = ([_mean(b.one_sided_share), _frozen(b), _drift(b)] for b in (replay.bars, simulated.bars))
    limits = [
        ONE_SIDED_TIMES * (base[0] or 0.0) + ONE_SIDED_MORE,
        None if base[1] is None else 1 - LEAST_MOVING * (1 - base[1]),
        None if base[2] is None else DRIFT_TIMES * base[2] + DRIFT_MORE_TICKS,
    ]
    words = (("book_one_sided", "share of time"), ("book_frozen", "share of minutes"), ("drift", "ticks"))
    n = len(simulated.instruments)
    return tuple(
        _score(name, value, limit, unit, n, clusters)
        for (name, unit), value, limit in zip(words, own, limits, strict=True)
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def _frozen(bars: MinuteBars) -> float | None:
    """Share of minutes, among those with a mid at either end, over which it stood still."""
    moved = np.diff(bars.mid_half_ticks, axis=-1)
    return _mean(np.where(np.isnan(moved), np.nan, moved == 0))


def _drift(bars: MinuteBars) -> float | None:
    mids = bars.mid_half_ticks.reshape(-1, bars.minutes + 1) / 2
    ends = [known[[0, -1]] for row in mids if len(known := row[~np.isnan(row)]) > 1]
    return float(np.mean([abs(last - first) for first, last in ends])) if ends else None


def path_scores(replay: Side, simulated: Side, clusters: int) -> tuple[Score, ...]:
    """Validity of price paths: ``.book_frozen`` and ``.drift`` of ``bar_scores``, which prices alone show."""
    return tuple(s for s in bar_scores(replay, simulated, clusters) if s.key != "validity.book_one_sided")


def book_faults(many: Sequence[BookSeries]) -> dict[str, float]:
    """What ``marsbench.market.books.faults`` counts, mean over many series."""
    found = [faults(series) for series in many]
    return {name: float(np.mean([f[name] for f in found])) for name in found[0]}


def book_scores(many: Sequence[BookSeries], replay: Side, simulated: Side, clusters: int) -> tuple[Score, ...]:
    """Validity of simulations that are book snapshots alone: means over all rollouts; lower is better.

    ``validity.book_crossed`` (bid above ask) and ``.book_locked`` (bid at ask): shares of trading time;
    ``.book_silent``: share of minutes without a new book, which has no limit, because real markets show
    such minutes and snapshots do not say whether messages came. Then those of ``bar_scores``.
    """
    mean = book_faults(many)
    base = {name: float(np.mean([getattr(h, name) for h in replay.health])) for name in ("crossed", "locked")}
    return (
        *_met(mean, base, len(many), clusters),
        _score("book_silent", mean["silent"], None, "share of minutes", len(many), clusters),
        *bar_scores(replay, simulated, clusters),
    )


def _met(own: Mapping[str, float], base: Mapping[str, float], n: int, clusters: int) -> list[Score]:
    """Crossed and locked books."""
    return [
        _score(f"book_{name}", own[name], base[name] + MOST_CROSSED, "share of trading time", n, clusters)
        for name in ("crossed", "locked")
    ]


def _score(name: str, value: float | None, limit: float | None, unit: str, n: int, clusters: int) -> Score:
    why = "a figure of all simulated time: no interval" if value is not None else "nothing to count it on"
    return Score(
        f"validity.{name}", value, "validity", "lower", unit=unit, floor=limit, n=n, clusters=clusters, reason=why
    )  # fmt: skip
