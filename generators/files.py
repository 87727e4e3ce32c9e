"""``files:DIR``: simulations that were made elsewhere, read from a folder.

Three formats, in subfolders as you like, recognised by their names:

- ``*.parquet``: one or many trajectories each, written by ``marsbench.market.trajectory.save``.
- LOBSTER pairs ``INSTRUMENT_DATE_STARTMS_ENDMS_message_LEVELS.csv`` and ``..._orderbook_LEVELS.csv`` (also
  ``.csv.gz``). Several simulations of one period are told apart by a suffix (``..._message_10_3.csv``) or
  by their subfolders. The first book row is the starting book. ``marsbench.data.export.to_lobster``
  writes such pairs.
- Book snapshots alone, where a generator gives nothing else: ``INSTRUMENT_DATE_STARTMS_ENDMS_book_LEVELS.csv``
  (also ``.csv.gz``, ``.parquet``; the same suffix), which must not stand beside the other two formats::

      time_s,ask_price_1,ask_size_1,bid_price_1,bid_size_1,ask_price_2,ask_size_2,bid_price_2,bid_size_2
      34200.000000000,20.01,1400,19.99,1200,20.02,400,19.98,800
      34200.517000000,20.01,1300,19.99,1200,20.02,400,19.98,800

  A row is the book from its time (seconds after midnight, or integers in a column ``time_ns``) until the next
  row, and the first row is the book at the start. Prices are exact decimals in currency, sizes shares; a level
  that is not there has both cells empty. Write a row for every change of the best quotes if you can; rows
  at regular times need at least one a second, otherwise the spread is not applicable either.
  ``marsbench.data.export.to_books`` writes such files. Spread and mid returns are scored; what needs orders or
  trades is "not applicable", which is why such a folder is listed without a rank wherever that ranks others.
  Books that are crossed or locked for more than 1% of the time are invalid. All rules: ``marsbench.data.books``.

A simulation belongs to the start with its instrument, date and clock; all of them are its rollouts,
ordered by file name and place in the file. It must cover the task's horizon; what lies beyond is cut off.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data import books, lobster
from marsbench.data.day import VenueDay
from marsbench.data.errors import DataError
from marsbench.data.export import price_unit
from marsbench.data.verify import verify_day
from marsbench.market.books import BookSeries, Market, cut_books, faults
from marsbench.market.orders import Kind
from marsbench.market.replay import cut, make_trajectory, replay_trajectory
from marsbench.market.rules import MINUTE, MatchingRules, clock_text
from marsbench.market.trajectory import BookState, Trajectory, load_all
from marsbench.progress import say
from marsbench.simulation.contracts import Start, TrajectoryGenerator

from ._folder import Entry, index, signature

KEPT_FILES = 64
"""So many Parquet files stay in memory: one file often serves many starts."""


class Files(TrajectoryGenerator):
    """Anything that was simulated elsewhere, as Parquet files, LOBSTER files or book snapshots alone.

    Parameters
    ----------
    folder
        Where the files lie; subfolders count, names that begin with a dot do not.

    Raises
    ------
    ValueError
        If there is no such folder, it holds no trajectories, or a file in it cannot be read.
    """

    name = "files"
    version = 1
    reacts = False
    summary = "simulations made elsewhere: files:DIR with Parquet trajectories, LOBSTER pairs or book snapshots"

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise ValueError(f"files:{folder}: there is no such folder; write files:DIR with the folder of your files")
        self.index = index(self.folder, signature(self.folder))
        self._said: set[str] = set()
        self._load = lru_cache(KEPT_FILES)(load_all)

    def __reduce__(self) -> tuple[type[Files], tuple[Path]]:
        return Files, (self.folder,)  # A copy reads for itself; what is in memory stays here.

    def parameters(self) -> dict[str, Any]:
        """A hash of all files, so that results are known to be outdated when a file changes."""
        return {"content_hash": self.index.content_hash}

    def trajectories(self, start: Start, horizon_ns: int) -> list[Market]:
        """Every simulation of this start, cut to the horizon (trading time).

        Raises
        ------
        ValueError
            If one of them is too short, has another tick or lot, is damaged, or (book snapshots alone)
            shows what no book can be.
        """
        found = self.index.entries.get((start.instrument, start.date, start.clock_ns), ())
        if not found:
            self._say("start", f"files:{self.folder} holds nothing for {start.name}; it holds {self._holdings()}")
        return [self._one(entry, start, horizon_ns) for entry in found]

    def _one(self, entry: Entry, start: Start, horizon_ns: int) -> Market:
        end_ns = int(start.rules.clock_ns(start.rules.trading_ns(start.clock_ns) + horizon_ns))
        if entry.end_ns < end_ns:
            raise ValueError(
                f"{entry.where}: ends at {clock_text(entry.end_ns)}, but from {start.name} the task needs "
                f"{horizon_ns / MINUTE:g} minutes, until {clock_text(end_ns)}: {(end_ns - entry.end_ns) / MINUTE:g} "
                "minutes are missing; simulate the whole horizon, or shorten the task (realism,minutes=N)"
            )
        if entry.books:
            series = self._from_books(entry, start)
            same = self._starts_alike(entry, start, _first_book(series))
            series = series if series.end_ns == end_ns else cut_books(series, start.clock_ns, end_ns)
            return series.with_labels(file=entry.where, starts_from_real_book=same)
        made = self._from_parquet(entry, start) if entry.levels is None else self._from_lobster(entry, start)
        same = self._starts_alike(entry, start, _depth(made.book, entry.levels))
        made = made if made.end_ns == end_ns else cut(made, start.clock_ns, end_ns)
        return made.with_labels(file=entry.where, starts_from_real_book=same)

    def _starts_alike(self, entry: Entry, start: Start, depth: Depth) -> bool:
        """Whether a simulation departs from the real book; if not, it is said once."""
        real = _depth(start.book, entry.levels)
        if depth != real:
            self._say(
                "book",
                f"{entry.where}: starts from another book than {start.name}: {_touch(depth)}, the real one "
                f"{_touch(real)}. It is scored as it is; further files like this are not reported",
            )
        return depth == real

    def _from_books(self, entry: Entry, start: Start) -> BookSeries:
        try:
            series = books.read(entry.path, start.rules.without_auctions())
        except DataError as error:
            row = f", row {error.row}" if error.row else ""
            raise ValueError(f"{entry.where}{row}: {error.reason}") from error
        bad = {name: share for name, share in faults(series).items() if name in ("crossed", "locked") and share > 0}
        for name, share in bad.items():
            self._say(
                name,
                f"{entry.where}: the book is {name} for {share:.2%} of the time. It is scored as it is, and counted in "
                f"validity.book_{name}; further files like this are not reported",
            )
        return series

    def _from_parquet(self, entry: Entry, start: Start) -> Trajectory:
        try:
            made = self._load(entry.path)[entry.place]
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(f"{entry.where}: damaged ({error}); write it again") from error
        _check_rules(entry, made, start.rules)
        fills = replay_trajectory(made).fills
        if len(fills) != len(made.fills) or (fills != made.fills).any():
            raise ValueError(
                f"{entry.where}: trajectory {entry.place} records {len(made.fills)} fills that are not those that its "
                f"orders make ({len(fills)}); build it with marsbench.market.replay.make_trajectory"
            )
        return made

    def _from_lobster(self, entry: Entry, start: Start) -> Trajectory:
        try:
            day = lobster.read(entry.path)
        except DataError as error:
            raise ValueError(f"{entry.where}: {error}") from error
        unexplained = verify_day(day).unexplained
        if unexplained:
            self._say(
                "unexplained",
                f"{entry.where}: {unexplained} published facts do not follow from the messages (marsbench data verify "
                "lists them). The messages are scored; further files like this are not reported",
            )
        made = _lobster_trajectory(entry, day, start)
        return made.with_labels(**day.facts, unexplained=unexplained)

    def _holdings(self) -> str:
        keys = sorted(self.index.entries)
        listed = ", ".join(f"{i} {d} {clock_text(t)}" for i, d, t in keys[:5])
        return f"{sum(map(len, self.index.entries.values()))} trajectories, from {listed}{' ...' * (len(keys) > 5)}"

    def _say(self, what: str, text: str) -> None:
        """Report something that is no error, once."""
        if what not in self._said:
            self._said.add(what)
            say(text)


def _check_rules(entry: Entry, made: Trajectory, rules: MatchingRules) -> None:
    """Raise a ``ValueError`` unless tick, lot and trading time are those of the start."""
    own = made.rules
    pairs = (
        ("tick", Decimal(own.tick_size), Decimal(rules.tick_size)),
        ("lot", own.lot_shares, rules.lot_shares),
        ("trading time in ns", _trading(own, made), _trading(rules, made)),
    )
    for what, ours, expected in pairs:
        if ours != expected:
            raise ValueError(
                f"{entry.where}: its rules ({own.name}) give a {what} of {ours}, those of {made.instrument} on "
                f"{made.date} ({rules.name}) {expected}; simulate under the rules of the data set (Dataset.rules)"
            )


def _trading(rules: MatchingRules, made: Trajectory) -> int:
    return int(rules.trading_ns(made.end_ns) - rules.trading_ns(made.start_ns))


def _lobster_trajectory(entry: Entry, day: VenueDay, start: Start) -> Trajectory:
    """The day of a LOBSTER pair as a simulation from a start: in its ticks, under its rules."""
    rules = start.rules.without_auctions()
    orders, resting = day.orders.copy(), day.book.resting.copy()
    for rows in (orders, resting):
        rows["price_ticks"] = _in_ticks(rows["price_ticks"], day.rules, rules, entry)
    last = _in_ticks(np.array([day.book.last_trade_ticks]), day.rules, rules, entry)
    book = BookState(
        resting=resting,
        last_trade_ticks=int(last[0]) or start.book.last_trade_ticks,
        reference_ticks=start.book.reference_ticks,
        next_id=day.book.next_id,
        time_ns=start.clock_ns,
    )
    return make_trajectory(
        instrument=start.instrument,
        date=start.date,
        rules=rules,
        start_ns=start.clock_ns,
        end_ns=entry.end_ns,
        book=book,
        orders=orders,
        labels={"source": "lobster"},
    )


def _in_ticks(ticks: NDArray[Any], given: MatchingRules, wanted: MatchingRules, entry: Entry) -> NDArray[np.int64]:
    """Prices in ticks of one size as ticks of another."""
    price_e4, unit = ticks.astype(np.int64) * price_unit(given), price_unit(wanted)
    off = price_e4[price_e4 % unit != 0]
    if len(off):
        raise ValueError(
            f"{entry.where}: price {Decimal(int(off[0])) / 10_000} is no multiple of the tick {wanted.tick_size} of "
            f"{wanted.name}; simulate with the tick of the data set"
        )
    return np.asarray(price_e4 // unit)


Depth = tuple[list[tuple[int, int]], ...]
"""Price and size of the levels of each side, best first, ask side first."""


def _first_book(series: BookSeries) -> Depth:
    price, size = series.books.price_ticks[0], series.books.size_shares[0]
    return tuple([(p, s) for p, s in zip(price[k].tolist(), size[k].tolist(), strict=True) if s] for k in (0, 1))


def _depth(book: BookState, levels: int | None) -> Depth:
    """Price and size of the best levels (None: all) of each side, ask side first."""
    sides = []
    for kind in (Kind.ASK, Kind.BID):
        own = book.resting[book.resting["kind"] == kind]
        prices, level = np.unique(own["price_ticks"], return_inverse=True)
        sizes = np.bincount(level, weights=own["size_shares"], minlength=len(prices)).astype(np.int64)
        pairs = list(zip(prices.tolist(), sizes.tolist(), strict=True))
        sides.append((pairs if kind == Kind.ASK else pairs[::-1])[:levels])
    return tuple(sides)


def _touch(depth: Depth) -> str:
    ask, bid = ((f"{side[0][1]} @ {side[0][0]}" if side else "none") for side in depth)
    return f"best ask {ask} ticks, best bid {bid} ticks, {sum(map(len, depth))} price levels"
