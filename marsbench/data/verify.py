"""Proof that replay equals the exchange: a day's orders through the clearing house, compared with what was published.

Every published fact that replay does not reproduce counts as ``unexplained``. The one thing that is
not an error, volume beyond the published levels which nobody outside the exchange can know, is
counted as ``window_edge``, and each such takeover is checked here against the published rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data.day import VenueDay
from marsbench.data.lobster_window import window_edges
from marsbench.market.orders import AUCTION, NO_PRICE, Flag, Kind, Reason
from marsbench.market.replay import Replay, replay
from marsbench.market.rules import PhaseKind, clock_text

_BOTH_IDS = ("bid_id", "ask_id")


@dataclass(frozen=True)
class AuctionCheck:
    """One call auction: what the exchange published, and what our own uncross gave (0 where no trade)."""

    end: str
    """``HH:MM:SS`` at which the auction ends."""
    published_price_ticks: int
    replayed_price_ticks: int
    published_shares: int
    replayed_shares: int


@dataclass(frozen=True)
class Verification:
    """How far a replay agrees with what the exchange published. Rates are fractions of compared books."""

    file: str
    source: str
    instrument: str
    date: str
    rows: int
    """Published rows that were compared (LOBSTER: books after the first; Shanghai: orders, trades, and snapshots)."""
    books: int
    """Published books that were compared."""
    best_quotes_match: float | None
    """Rate at which best bid and ask agree in price and size, nothing taken over at that row; None without books."""
    all_levels_match: float | None
    """The same for all published levels."""
    window_edge: int
    """Books with a level that had to be taken over at that row because it came into the published window."""
    unexplained: int
    """Published facts that replay does not reproduce: the sum of ``kinds``."""
    kinds: dict[str, int]
    """Each kind of mismatch that occurred, counted."""
    passed_over: int = 0
    """Orders that the venue passed over in time priority (sent to the back of their level, volume unchanged)."""
    window_edge_identity: int = 0
    """Rows of takeovers that changed no volume, only which orders stand in the queue."""
    trades: int = 0
    """Published executions that were compared with fills (price, size, order ids)."""
    orders: int = 0
    """Messages replayed, takeovers included."""
    left_at_end: int = 0
    """Orders left at the end that were compared in id, side, price and size, where the source names them all."""
    auctions: tuple[AuctionCheck, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    """What the source holds besides: hidden executions, halts, the origin of the previous close ..."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return asdict(self)


def verify(path: str | Path, **options: Any) -> Verification:
    """Replay a source file and compare with everything that the exchange published.

    Parameters
    ----------
    path
        A LOBSTER archive, folder or CSV; or a Shanghai order, trade or snapshot file, or their folder.
    **options
        Passed to the reader (``reference_ticks`` for Shanghai).

    Raises
    ------
    DataError
        If the file is damaged or of no known source.
    """
    from marsbench.data.sources import read

    return verify_day(read(path, **options))


def verify_day(day: VenueDay) -> Verification:
    """Like ``verify``, for a day that has been read."""
    deeper = _most_levels_taken(day.trades)
    levels = max(day.books.levels, 1) + deeper
    result = replay(day.rules, day.book, day.orders, levels=levels, end_ns=day.end_ns)
    kinds = {f"source_{name}": count for name, count in day.problems.items()}
    for reason, count in zip(*np.unique(result.reason[result.reason > 0], return_counts=True), strict=True):
        kinds[f"rejected_{Reason(int(reason)).name.lower()}"] = int(count)
    kinds |= _compare_fills(day.trades, result.fills)
    kinds |= _compare_deletes(day, result)
    kinds |= _compare_end(day, result)
    books = _compare_books(day, result)
    kinds |= books.pop("kinds")
    kinds = {name: count for name, count in kinds.items() if count}
    lobster = day.source == "lobster"
    return Verification(
        file=day.file,
        source=day.source,
        instrument=day.instrument,
        date=day.date,
        rows=books["books"] if lobster else len(day.row_message) + books["books"],
        unexplained=sum(kinds.values()),
        kinds=kinds,
        trades=len(day.trades),
        orders=len(day.orders),
        passed_over=len(day.requeued),
        left_at_end=0 if day.resting_at_end is None else len(day.resting_at_end),
        auctions=_auctions(day, result.fills),
        facts=dict(day.facts),
        **books,
    )


def _most_levels_taken(trades: NDArray[np.void]) -> int:
    """Largest number of price levels that one aggressive order reached (1 if there is no trade)."""
    own = trades[trades["side"] != AUCTION]
    if len(own) == 0:
        return 1
    changes = (np.diff(own["seq"]) == 0) & (np.diff(own["price_ticks"]) != 0)
    return int(np.bincount(own["seq"][1:][changes]).max(initial=0)) + 1


def states(
    day: VenueDay, result: Replay, rows: NDArray[np.int64], levels: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Replayed books after given rows of the source: prices and sizes ``[k, 2, levels]``, ask side first.

    Within an aggressive order the exchange shows a book after each of its executions: that is the
    book before the order, less the shares executed so far, taken from the touch.
    """
    assert result.snapshots is not None
    message, fills = day.row_message[rows], day.row_fills[rows]
    partial = fills >= 0
    entry = np.where(partial, message, message + 1)
    price, size = result.snapshots.price_ticks[entry], result.snapshots.size_shares[entry]
    at = np.flatnonzero(partial & (fills > 0))
    if len(at):
        continuous = result.fills[result.fills["side"] != AUCTION]
        total = np.r_[0, np.cumsum(continuous["size_shares"].astype(np.int64))]
        first = np.searchsorted(continuous["seq"], message[at])
        taken = total[np.minimum(first + fills[at], len(total) - 1)] - total[first]
        side = np.where(day.orders["kind"][message[at]] == Kind.BID, int(Kind.ASK), int(Kind.BID))
        own = size[at, side]
        before = np.cumsum(own, axis=1) - own
        left = own - np.clip(taken[:, None] - before, 0, own)
        # Emptied levels stand first: move the rest up.
        shift = np.argsort(left == 0, axis=1, kind="stable")
        size[at, side] = np.take_along_axis(left, shift, axis=1)
        price[at, side] = np.take_along_axis(np.where(left > 0, price[at, side], NO_PRICE), shift, axis=1)
    return price[:, :, :levels], size[:, :, :levels]


def _compare_fills(published: NDArray[np.void], fills: NDArray[np.void]) -> dict[str, int]:
    """Executions one by one in the order within their message (auctions: by order ids)."""
    kinds = dict.fromkeys(("trade_missing", "trade_not_published", "trade_price", "trade_size", "trade_ids"), 0)
    published, fills = _by_order(published, fills)
    for auction in (False, True):
        there, ours = published[(published["side"] == AUCTION) == auction], fills[(fills["side"] == AUCTION) == auction]
        if auction:
            there, ours = np.sort(there, order=["seq", *_BOTH_IDS]), np.sort(ours, order=["seq", *_BOTH_IDS])
            keys = [[*zip(*(a[n].tolist() for n in ("seq", *_BOTH_IDS)), strict=True)] for a in (there, ours)]
        else:
            keys = [[*zip(a["seq"].tolist(), _ranks(a["seq"]).tolist(), strict=True)] for a in (there, ours)]
        where = {key: i for i, key in enumerate(keys[1])}
        pairs = np.array([(i, where[key]) for i, key in enumerate(keys[0]) if key in where], np.int64).reshape(-1, 2)
        a, b = there[pairs[:, 0]], ours[pairs[:, 1]]
        kinds["trade_missing"] += len(there) - len(a)
        kinds["trade_not_published"] += len(ours) - len(b)
        kinds["trade_price"] += int((a["price_ticks"] != b["price_ticks"]).sum())
        kinds["trade_size"] += int((a["size_shares"] != b["size_shares"]).sum())
        wrong = np.zeros(len(a), bool)
        for name in _BOTH_IDS:
            wrong |= (a[name] != 0) & (a[name] != b[name])
        kinds["trade_ids"] += int((wrong | (a["side"] != b["side"])).sum())
    return kinds


def _by_order(published: NDArray[np.void], fills: NDArray[np.void]) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Both with auction trades split by order, where the source does not say who met whom."""
    auction = published["side"] == AUCTION
    if not auction.any() or (np.minimum(published["bid_id"], published["ask_id"])[auction] != 0).any():
        return published, fills
    out = []
    for rows in (published, fills):
        at = rows["side"] == AUCTION
        legs = []
        for own, other in (_BOTH_IDS, _BOTH_IDS[::-1]):
            leg = rows[at & (rows[own] != 0)]
            leg[other] = 0
            keys, first, index = np.unique(leg[["seq", own]], return_index=True, return_inverse=True)
            total = np.zeros(len(keys), np.int64)
            np.add.at(total, index, leg["size_shares"])
            leg = leg[first]
            leg["size_shares"] = total
            legs.append(leg)
        out.append(np.concatenate([rows[~at], *legs]))
    return out[0], out[1]


def _compare_end(day: VenueDay, result: Replay) -> dict[str, int]:
    """Whether exactly the orders that rest at the end by the source's account are left, at price and size."""
    if day.resting_at_end is None:
        return {}
    names = ("order_id", "kind", "price_ticks", "size_shares")
    there, ours = (
        set(zip(*(a[n].tolist() for n in names), strict=True)) for a in (day.resting_at_end, result.final.resting)
    )
    return {"order_left_at_the_end": len({i for i, *_ in there ^ ours})}


def _ranks(values: NDArray[Any]) -> NDArray[np.int64]:
    """Position of each entry within its run of equal values."""
    if len(values) == 0:
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    return np.arange(len(values)) - np.repeat(starts, np.diff(np.r_[starts, len(values)]))


def _compare_deletes(day: VenueDay, result: Replay) -> dict[str, int]:
    """Whether every order that was deleted is gone, and no cancel asks for more than is left."""
    new = (day.orders["kind"] != Kind.CANCEL) & (result.reason == Reason.OK)
    new[day.requeued] = False  # A change of place must not change volume, or the balance is off.
    replaced = np.where(day.orders["flags"][new] & int(Flag.REPLACE), result.cancelled_shares[new], 0)
    new = day.orders[new]
    done = (day.orders["kind"] == Kind.CANCEL) & (result.reason == Reason.OK)
    cancels = day.orders[done]
    asked = np.where(cancels["size_shares"] > 0, cancels["size_shares"], result.cancelled_shares[done])  # 0 means all
    ids = np.r_[day.book.resting["order_id"], new["order_id"], result.fills["bid_id"], result.fills["ask_id"]]
    ids = np.r_[ids, cancels["order_id"], result.final.resting["order_id"]]
    parts = [day.book.resting["size_shares"], new["size_shares"] - replaced]
    parts += [-result.fills["size_shares"]] * 2 + [-asked, -result.final.resting["size_shares"]]
    distinct, index = np.unique(ids, return_inverse=True)
    balance = np.bincount(index, weights=np.concatenate(parts), minlength=len(distinct))
    return {
        "delete_left_a_rest": int(np.isin(day.deleted_ids, result.final.resting["order_id"]).sum()),
        "cancel_of_more_than_was_left": int((balance != 0).sum()),
    }


def _compare_books(day: VenueDay, result: Replay) -> dict[str, Any]:
    """Rates and counts of the published books, as fields of ``Verification``."""
    books = day.books
    first = 1 if day.source == "lobster" else 0  # The first LOBSTER book is the seed.
    count = len(books) - first
    if count <= 0:
        return {"books": 0, "best_quotes_match": None, "all_levels_match": None, "window_edge": 0, "kinds": {}}
    volume_rows, identity, inside, best_taken = _takeovers(day)
    touch, every = _matches(day, result, first)
    taken = np.isin(np.arange(first, len(books)), volume_rows)
    touch_taken = np.isin(np.arange(first, len(books)), best_taken)
    kinds = {
        "book_best_quotes": int((~touch).sum()),
        "book_deeper_levels": int((touch & ~every).sum()),
        "takeover_inside_window": inside,
    }
    return {
        "books": count,
        "best_quotes_match": float((touch & ~touch_taken).mean()),
        "all_levels_match": float((every & ~taken).mean()),
        "window_edge": int((every & taken).sum()),
        "window_edge_identity": identity,
        "kinds": kinds,
    }


def _matches(day: VenueDay, result: Replay, first: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each published book from ``first`` on: whether the touch agrees, and whether every level does.

    A book whose moment is not exact may agree with any state in its range of rows, but no book with
    an earlier state than the one before it.
    """
    books, levels = day.books, day.books.levels
    if (books.first_row == books.last_row).all():
        price, size = states(day, result, books.first_row[first:], levels)
        same = (price == books.price_ticks[first:]) & (size == books.size_shares[first:])
        return same[:, :, 0].all(axis=1), same.all(axis=(1, 2))
    touch, every = np.zeros(len(books) - first, bool), np.zeros(len(books) - first, bool)
    price, size = states(day, result, np.arange(len(day.row_message)), levels)
    reached = 0
    for k in range(first, len(books)):
        low, high = max(int(books.first_row[k]), reached), int(books.last_row[k]) + 1
        same = (price[low:high] == books.price_ticks[k]) & (size[low:high] == books.size_shares[k])
        touch[k - first] = same[:, :, 0].all(axis=1).any()
        whole = np.flatnonzero(same.all(axis=(1, 2)))
        if len(whole):
            every[k - first], reached = True, low + int(whole[0])
    return touch, every


def _takeovers(day: VenueDay) -> tuple[NDArray[np.int64], int, int, NDArray[np.int64]]:
    """Rows where volume was taken over, number of rows where only identity was, takeovers that were
    not allowed because the level was in view a row earlier, and rows whose touch was taken over."""
    none = np.zeros(0, np.int64)
    if not (day.orders["flags"] & int(Flag.SEEDED)).any():
        return none, 0, 0, none
    seeds, row, resting = day.orders[day.seed_message], day.seed_row, day.book.resting
    new = np.r_[resting, day.orders[day.orders["kind"] != Kind.CANCEL]]
    by_id = np.argsort(new["order_id"], kind="stable")
    found = np.searchsorted(new["order_id"][by_id], seeds["order_id"])
    side = np.where(seeds["kind"] == Kind.CANCEL, new["kind"][by_id][found.clip(max=len(new) - 1)], seeds["kind"])
    ask_edge, bid_edge = window_edges(day.books)
    price = seeds["price_ticks"].astype(np.int64)
    # A takeover stands right before the message of the row that it is for, and hides behind no other flag.
    messages = np.unique(day.row_message)
    at = np.searchsorted(messages, day.row_message[row])
    in_place = (day.seed_message > messages[at - 1]) & (day.seed_message <= day.row_message[row])
    flagged = np.flatnonzero(day.orders["flags"] & int(Flag.SEEDED))
    undeclared = len(np.setdiff1d(flagged, np.r_[day.seed_message, day.requeued, day.revealed]))
    outside = in_place & np.where(side == Kind.ASK, price > ask_edge[row - 1], price < bid_edge[row - 1])
    key, index = np.unique(np.stack([row, side, price], axis=1), axis=0, return_inverse=True)
    net = np.zeros(len(key), np.int64)
    np.add.at(net, index.ravel(), np.where(seeds["kind"] == Kind.CANCEL, -1, 1) * seeds["size_shares"].astype(np.int64))
    volume = key[net != 0]
    volume_rows = np.unique(volume[:, 0])
    best = day.books.price_ticks[volume[:, 0], volume[:, 1], 0]
    none_left = day.books.size_shares[volume[:, 0], volume[:, 1], 0] == 0
    better = np.where(volume[:, 1] == Kind.ASK, volume[:, 2] <= best, volume[:, 2] >= best)
    touch = better | none_left
    identity = len(np.setdiff1d(key[:, 0], volume_rows))
    return volume_rows, identity, int((~outside).sum()) + undeclared, np.unique(volume[touch, 0])


def _auctions(day: VenueDay, fills: NDArray[np.void]) -> tuple[AuctionCheck, ...]:
    """Price and volume of each call auction of the day, published and replayed."""
    out = []
    phases = day.rules.phases
    for k, phase in enumerate(phases):
        if phase.kind != PhaseKind.AUCTION:
            continue
        until = max(phases[k + 1].start_ns, phase.end_ns + 1) if k + 1 < len(phases) else np.iinfo(np.int64).max
        values: list[int] = []
        for trades in (day.trades, fills):
            at = (trades["side"] == AUCTION) & (trades["time_ns"] >= phase.end_ns) & (trades["time_ns"] < until)
            prices = np.unique(trades["price_ticks"][at])
            bought = at & (trades["bid_id"] != 0) if (trades["bid_id"][at] != 0).any() else at
            values += [int(prices[0]) if len(prices) else 0, int(trades["size_shares"][bought].sum())]
        out.append(AuctionCheck(clock_text(phase.end_ns), values[0], values[2], values[1], values[3]))
    return tuple(out)
