"""Order tokens: an order as (type, price, volume, interval), four small numbers.

Types are those of ``Kind`` (ask, bid, cancel), prices have 32 slots, volumes 32, intervals 16: 49,152 tokens.
Bins are fitted on training data, for each group of instruments its own (by default every instrument is a group),
for new orders and for cancels apart. Where a price counts from is a choice:

``mid``
    From the mid price, in half ticks: the paper's, and the public code's.
``touch``
    From the own best quote: below it (0 joins it), inside the spread, or beyond the opposite best; of those that
    trade, immediate-or-cancel orders have slots of their own. A slot then says whether an order trades, whatever
    the spread. A cancel counts from the best quote of the side where the order rests.

And so is what intervals are measured in:

``clock``
    Nanoseconds.
``tempo``
    Thousandths of the mean interval of the last quarter of an hour. With one set of bins for busy and for quiet
    times, what a clock's last bin holds is mostly of busier times than the quiet ones where it is drawn: these lose
    time in decoding, and each order that comes too early makes the next one do so too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from marsbench.files import write_atomic
from marsbench.learning.activity import Activity, Seen, Stretches
from marsbench.learning.bins import Bins
from marsbench.learning.order_stream import OrderStream
from marsbench.learning.round_prices import STEPS, classes
from marsbench.market.orders import Kind

Ints = NDArray[np.int64]
Tokens = NDArray[np.uint8]
"""``[n, 4]``: type, price, volume, interval."""

FORMAT = 3
FIELDS = ("type", "price", "volume", "interval")
SIZES = (3, 32, 32, 16)
TOKENS = int(np.prod(SIZES))
PRICES = ("touch", "mid")
INTERVALS = ("tempo", "clock")
BEAT = 1000
"""Parts of a mean interval that intervals are counted in, by ``tempo``."""
START = 3
"""Type of the token before the first order of a session; its other fields are 0."""

CROSSES = 1 << 20
"""``touch``: this plus the ticks beyond the opposite best, of an order that trades and may rest ..."""
TAKES = 1 << 21
"""... and of one that trades or is cancelled at once."""
_FAR = (1 << 20) - 1
_ASK, _CANCEL = int(Kind.ASK), int(Kind.CANCEL)


def index(tokens: Any) -> Ints:
    """One number in 0 .. 49,151 for each token ``[..., 4]``: type * 16384 + price * 512 + volume * 16 + interval."""
    fields = np.asarray(tokens, np.int64)
    return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(fields, -1, 0)), SIZES), np.int64)


def split(indices: Any) -> Tokens:
    """Tokens ``[..., 4]`` of their numbers."""
    return np.stack(np.unravel_index(np.asarray(indices, np.int64), SIZES), axis=-1).astype(np.uint8)


def price_coordinates(
    prices: str, kind: Ints, side: Ints, price_ticks: Ints, quotes_ticks: Ints, ioc: NDArray[np.bool_]
) -> Ints:
    """Where orders stand against the quotes ``[n, 2]`` (ask, bid) right before them; what the price bins are about."""
    where: Ints = _places(prices == "touch", kind, side, price_ticks, quotes_ticks, ioc)
    return where


@njit(cache=True)
def _place(touch, kind, side, price, ask, bid, ioc):  # type: ignore[no-untyped-def]
    if not touch:
        return 2 * price - ask - bid
    inward = ask - price if side == _ASK else price - bid  # towards the other side
    if kind == _CANCEL:
        away = max(-inward, 0)
        return away if side == _ASK else -1 - away
    beyond = bid - price if side == _ASK else price - ask
    if beyond >= 0:
        return (TAKES if ioc else CROSSES) + min(beyond, _FAR)
    return min(max(inward, -_FAR), _FAR)


@njit(cache=True)
def _places(touch, kind, side, price, quotes, ioc):  # type: ignore[no-untyped-def]
    out = np.empty(len(kind), np.int64)
    for i in range(len(kind)):
        out[i] = _place(touch, kind[i], side[i], price[i], quotes[i, 0], quotes[i, 1], ioc[i])
    return out


def interval_coordinates(intervals: str, interval_ns: Ints, tempo_ns: NDArray[np.float64]) -> Ints:
    """Intervals in the unit of their bins."""
    beats: Ints = _waits(intervals == "tempo", interval_ns, tempo_ns)
    return beats


@njit(cache=True)
def _wait(tempo, interval_ns, tempo_ns):  # type: ignore[no-untyped-def]
    return np.int64(np.rint(min(interval_ns / tempo_ns, 1e9) * BEAT)) if tempo else np.int64(interval_ns)


@njit(cache=True)
def _waits(tempo, interval_ns, tempo_ns):  # type: ignore[no-untyped-def]
    out = np.empty(len(interval_ns), np.int64)
    for i in range(len(out)):
        out[i] = _wait(tempo, interval_ns[i], tempo_ns[i])
    return out


@njit(cache=True)
def _bin(upper, value):  # type: ignore[no-untyped-def]
    """Number of the bin ``[32]`` that holds a value."""
    low, high = 0, len(upper)
    while low < high:
        middle = (low + high) >> 1
        if upper[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _encode(  # type: ignore[no-untyped-def]
    touch, tempo, upper, group, kind, side, price, size, interval_ns, tempo_ns, ioc, quotes
):
    tokens = np.empty((len(kind), 4), np.uint8)
    for i in range(len(kind)):
        own, cancel = upper[group[i]], 1 if kind[i] == _CANCEL else 0
        place = _place(touch, kind[i], side[i], price[i], quotes[i, 0], quotes[i, 1], ioc[i])
        tokens[i, 0] = kind[i]
        tokens[i, 1] = _bin(own[cancel], place)
        tokens[i, 2] = _bin(own[2 + cancel], size[i])
        tokens[i, 3] = _bin(own[4], _wait(tempo, interval_ns[i], tempo_ns[i]))
    return tokens


@dataclass(frozen=True)
class GroupBins:
    """The bins of one group of instruments."""

    new_price: Bins
    cancel_price: Bins
    new_volume: Bins
    """Shares."""
    cancel_volume: Bins
    interval: Bins
    """Nanoseconds of trading, or thousandths of the tempo."""
    roundness: tuple[tuple[int, ...], ...]
    """For each price slot of new orders, how many of its prices in ticks were multiples of each of
    ``round_prices.STEPS`` and of no larger one. What counts from a quote does not know it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        bins = {name: getattr(self, name).to_dict() for name in _PARTS}
        return {**bins, "roundness": [list(counts) for counts in self.roundness]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Back from ``to_dict``."""
        bins = {name: Bins.from_dict(values[name]) for name in _PARTS}
        return cls(**bins, roundness=tuple(map(tuple, values["roundness"])))


_PARTS = ("new_price", "cancel_price", "new_volume", "cancel_volume", "interval")
_SPLITS = {"touch": {"new_price": (1, CROSSES, TAKES), "cancel_price": (0,)}, "mid": {}}


@dataclass(frozen=True)
class Vocabulary:
    """The bins of all groups, and which instrument belongs to which."""

    prices: str
    """``touch`` or ``mid``."""
    intervals: str
    """``tempo`` or ``clock``."""
    groups: Mapping[str, str]
    """Instrument -> group."""
    bins: Mapping[str, GroupBins]
    """Group -> bins."""
    data_hash: str = ""
    """Of what they were fitted on."""
    tempo_ns: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Group -> shortest and longest tempo of training (all but one order in a thousand lie between): a simulation
    measures its intervals by none beyond them."""
    busiest: Mapping[str, Stretches] = field(default_factory=dict)
    """Group -> rates at the busiest times of training, by half hour and scale (``marsbench.learning.activity``): a
    simulation that is busier slows down in proportion."""

    def __post_init__(self) -> None:
        if self.prices not in PRICES:
            raise ValueError(f"prices count from {self.prices!r}; choose one of {', '.join(PRICES)}")
        if self.intervals not in INTERVALS:
            raise ValueError(f"intervals are measured by {self.intervals!r}; choose one of {', '.join(INTERVALS)}")

    @classmethod
    def fit(
        cls,
        streams: Iterable[OrderStream],
        *,
        prices: str = "touch",
        intervals: str = "tempo",
        groups: Mapping[str, str] | None = None,
        data_hash: str = "",
    ) -> Self:
        """Bins of training streams.

        Parameters
        ----------
        groups
            Instrument -> group; by default each instrument is a group of its own name.

        Raises
        ------
        ValueError
            If a group has no new order or no cancel.
        """
        samples: dict[str, dict[str, list[Ints]]] = {}
        members: dict[str, str] = {}
        tempos: dict[str, list[NDArray[np.float64]]] = {}
        activity = Activity()
        ticks: dict[str, list[Ints]] = {}
        for stream in streams:
            group = members.setdefault(stream.instrument, (groups or {}).get(stream.instrument, stream.instrument))
            own = samples.setdefault(group, {name: [] for name in _PARTS})
            tempos.setdefault(group, []).append(stream.tempo_ns)
            activity.add(group, Seen.of(stream))
            new = slice(None) if prices == "mid" else stream.kind != Kind.CANCEL
            ticks.setdefault(group, []).append(stream.price_ticks[new])
            for name, values in _sample(stream, prices, intervals).items():
                own[name].append(values)
        fitted = {name: _fit(name, parts, ticks[name], prices) for name, parts in sorted(samples.items())}
        ends = {g: _range(t) for g, t in sorted(tempos.items())}
        return cls(prices, intervals, members, fitted, data_hash, ends, activity.busiest())

    @cached_property
    def tempo_range_ns(self) -> NDArray[np.float64]:
        """``[G, 2]``, see ``tempo_ns``."""
        return np.array([self.tempo_ns[name] for name in self.names])

    @cached_property
    def busiest_rates(self) -> NDArray[np.float64]:
        """``[G, H, len(SCALES_S)]``, see ``busiest``; shorter sessions go on with their last half hour."""
        longest = max(map(len, self.busiest.values()))
        return np.array(
            [[*self.busiest[g], *[self.busiest[g][-1]] * (longest - len(self.busiest[g]))] for g in self.names]
        )

    @cached_property
    def names(self) -> list[str]:
        """Groups in their order of number."""
        return sorted(self.bins)

    def number(self, instrument: str) -> int:
        """The group's number of an instrument.

        Raises
        ------
        ValueError
            If the instrument took no part in fitting.
        """
        if instrument not in self.groups:
            raise ValueError(f"no bins for instrument {instrument!r}; they were fitted on {sorted(self.groups)}")
        return self.names.index(self.groups[instrument])

    def encode(
        self,
        group: Ints,
        *,
        kind: Ints,
        side: Ints,
        price_ticks: Ints,
        size_shares: Ints,
        interval_ns: Ints,
        tempo_ns: NDArray[np.float64],
        ioc: NDArray[np.bool_],
        quotes_ticks: Ints,
    ) -> Tokens:
        """Tokens of orders of groups by number; all arguments ``[n]``, quotes ``[n, 2]`` right before each."""
        tokens: Tokens = _encode(
            self.prices == "touch", self.intervals == "tempo", self._upper, group, kind, side, price_ticks,
            size_shares, interval_ns, tempo_ns, ioc, quotes_ticks,
        )  # fmt: skip
        return tokens

    @cached_property
    def _upper(self) -> Ints:
        """``[G, 5, 32]`` largest value of each bin, in the order of ``_PARTS``; of the last one it has no end."""
        table = np.full((len(self.names), len(_PARTS), 32), np.iinfo(np.int64).max)
        for g, name in enumerate(self.names):
            for p, part in enumerate(_PARTS):
                inner = getattr(self.bins[name], part).upper[:-1]
                table[g, p, : len(inner)] = inner
        return table

    def tokens(self, stream: OrderStream) -> Tokens:
        """Tokens of a stream, ``[n, 4]``."""
        return self.encode(
            np.full(len(stream), self.number(stream.instrument)),
            kind=stream.kind,
            side=stream.side,
            price_ticks=stream.price_ticks,
            size_shares=stream.size_shares,
            interval_ns=stream.interval_ns,
            tempo_ns=stream.tempo_ns,
            ioc=stream.ioc,
            quotes_ticks=stream.quotes_ticks,
        )

    @cached_property
    def used(self) -> NDArray[np.bool_]:
        """Which slots a group has at all: price of new orders, price of cancels, volumes, intervals ``[G, 5, 32]``."""
        table = np.zeros((len(self.names), len(_PARTS), 32), bool)
        for g, name in enumerate(self.names):
            for p, part in enumerate(_PARTS):
                table[g, p, : len(getattr(self.bins[name], part))] = True
        return table

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "format": FORMAT,
            "prices": self.prices,
            "intervals": self.intervals,
            "data_hash": self.data_hash,
            "groups": dict(self.groups),
            "tempo_ns": {name: list(ends) for name, ends in self.tempo_ns.items()},
            "busiest": {name: [list(rates) for rates in own] for name, own in self.busiest.items()},
            "bins": {name: bins.to_dict() for name, bins in self.bins.items()},
        }

    def save(self, path: str | Path) -> Path:
        """Write it as JSON."""
        return write_atomic(path, json.dumps(self.to_dict()) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what ``save`` wrote.

        Raises
        ------
        ValueError
            If the file is damaged or of another format.
        """
        try:
            values = json.loads(Path(path).read_text())
            if values["format"] != FORMAT:
                raise ValueError(f"format is {values['format']}, this version reads {FORMAT}")
            bins = {name: GroupBins.from_dict(parts) for name, parts in values["bins"].items()}
            tempo_ns = {name: (low, high) for name, (low, high) in values["tempo_ns"].items()}
            head = (values["prices"], values["intervals"], values["groups"], bins, values["data_hash"])
            return cls(*head, tempo_ns, {g: tuple(map(tuple, own)) for g, own in values["busiest"].items()})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged token bins ({error!r})") from error


def _sample(stream: OrderStream, prices: str, intervals: str) -> dict[str, Ints]:
    cancel = stream.kind == Kind.CANCEL
    where = price_coordinates(
        prices, stream.kind, stream.side, stream.price_ticks, stream.quotes_ticks, stream.ioc
    )  # fmt: skip
    whole = slice(None) if prices == "mid" else None  # the paper's bins are the same for all types
    new, taken = (whole, whole) if whole is not None else (~cancel, cancel)
    return {
        "new_price": where[new],
        "cancel_price": where[taken],
        "new_volume": stream.size_shares[new],
        "cancel_volume": stream.size_shares[taken],
        "interval": interval_coordinates(intervals, stream.interval_ns, stream.tempo_ns),
    }


def _range(tempos: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    low, high = np.quantile(np.concatenate(tempos), (0.0005, 0.9995))
    return float(low), float(high)


def _fit(group: str, parts: Mapping[str, Sequence[Ints]], ticks: Sequence[Ints], prices: str) -> GroupBins:
    made = {}
    for name, values in parts.items():
        sample = np.concatenate([*values, np.zeros(0, np.int64)])
        if len(sample) == 0:
            raise ValueError(f"group {group!r}: training data have no {name.replace('_', ' ')}; use more of them")
        made[name] = Bins.fit(sample, 16 if name == "interval" else 32, splits=_SPLITS[prices].get(name, ()))
    bins = made["new_price"]
    slots, steps = bins.encode(np.concatenate(parts["new_price"])), classes(np.concatenate(ticks))
    counts = np.zeros((len(bins), len(STEPS)), np.int64)
    np.add.at(counts, (slots, steps), 1)
    return GroupBins(**made, roundness=tuple(tuple(map(int, row)) for row in counts))
