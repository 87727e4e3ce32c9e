"""Per-minute quantities by name: the ten of MarS Table 7, more of ours, and any that a user defines.

A quantity turns a market into one number a minute. It reads the one-minute bars (``bars=``), or, where these do
not hold what it needs, the orders, fills and ten book levels themselves (``market=``). Names come from ``define``
(in Python), from the entry-point group ``marsbench.quantities`` (an installed package names ``Quantity`` objects
there), or are written ``FILE.py:NAME`` (an object in a file). Several are joined by ``+``. A result remembers the
source of a user's quantity: once that is edited, the result is outdated and ``marsbench run`` makes it again.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.market.bars import MinuteBars
from marsbench.market.minutes import MarketMinutes
from marsbench.market.orders import Kind

Floats = NDArray[np.float64]

GROUP = "marsbench.quantities"
TABLE_7 = "table7"
"""Stands for the ten quantities of MarS Table 7."""
_KEY = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Quantity:
    """One number a minute.

    Raises
    ------
    ValueError
        If the key is not in ``[a-z0-9_]``, or there is not exactly one of ``bars`` and ``market``.
    """

    key: str
    title: str
    unit: str
    bars: Callable[[MinuteBars], Floats] | None = None
    """From bars ``[..., M]`` to ``[..., M]``; to ``[..., M + 1 - k]`` for a k-minute return."""
    market: Callable[[MarketMinutes], Floats] | None = None
    """From one market period to ``[M]``."""
    needs: tuple[str, ...] = ()
    """Series of ``MinuteBars`` without which there is none, for simulations of which only books are known:
    ``n_orders`` for anything about orders, ``volume_shares`` about trades, ``spread_ticks`` about means over time."""
    horizon: int = 0
    """Minutes of a return from the start of a minute; 0 for a quantity of one minute."""
    about: str = ""
    """Its definition in one line."""

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise ValueError(f"quantity {self.key!r}: write its key in [a-z0-9_], beginning with a letter")
        if (self.bars is None) == (self.market is None):
            raise ValueError(f"quantity {self.key!r}: give either bars= or market=, what it is computed from")


def _returns(k: int, bars: MinuteBars) -> Floats:
    return bars.mid_returns(k)


def _trade_returns(k: int, bars: MinuteBars) -> Floats:
    log = np.log(bars.last_trade_ticks)
    return np.asarray(log[..., k:] - log[..., : max(log.shape[-1] - k, 0)])


def _series(name: str, bars: MinuteBars) -> Floats:
    """A series of the bars; of prices, those at the end of each minute."""
    values = np.asarray(getattr(bars, name), np.float64)
    return values[..., 1:] if values.shape[-1] > bars.minutes else values


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0))


def _sizes(market: MarketMinutes, levels: int) -> Floats:
    """Lots resting on each side of the first levels, ``[n + 1, 2]``."""
    return np.asarray(market.books.size_shares[..., :levels].sum(axis=-1) / market.rules.lot_shares, np.float64)


def _depth(levels: int, market: MarketMinutes) -> Floats:
    return market.time_mean(_sizes(market, levels).mean(axis=1))


def _imbalance(levels: int, market: MarketMinutes) -> Floats:
    ask, bid = _sizes(market, levels).T
    return market.time_mean(_ratio(bid - ask, bid + ask))


def _trade_imbalance(market: MarketMinutes) -> Floats:
    size, side = market.fills["size_shares"].astype(np.float64), market.fills["side"]
    bought, sold = (market.fill_sum(size * (side == kind)) for kind in (Kind.BID, Kind.ASK))
    return _ratio(bought - sold, bought + sold)


def _log_wait(market: MarketMinutes) -> Floats:
    """Mean of log10(1 + nanoseconds since the counted message before); the first one has none."""
    at = np.flatnonzero(market.counted)
    values = np.full(len(market.time_ns), np.nan)
    values[at[1:]] = np.log10(1.0 + np.diff(market.time_ns[at]))
    return market.message_mean(values)


def _of_bars(key: str, series: str, title: str, unit: str, about: str) -> Quantity:
    return Quantity(key, title, unit, bars=partial(_series, series), needs=(series,), about=about)


def _mid_return(k: int) -> Quantity:
    return Quantity(f"return_{k}min", f"{k}-minute return", "log return", bars=partial(_returns, k),
                    needs=("mid_half_ticks",), horizon=k, about=f"log(mid at t + {k} min / mid at t)")  # fmt: skip


def _trade_return(k: int) -> Quantity:
    return Quantity(f"trade_return_{k}min", f"{k}-minute trade return", "log return", bars=partial(_trade_returns, k),
                    needs=("last_trade_ticks",), horizon=k,
                    about=f"log(last trade price at t + {k} min / at t)")  # fmt: skip


TEN: tuple[Quantity, ...] = (
    _of_bars("volatility", "volatility", "Volatility", "log return",
             "deviation of log mid returns from order to order x root of their number"),
    _of_bars("spread", "spread_ticks", "Spread", "ticks", "time-weighted mean of ask - bid over two-sided time"),
    _of_bars("mean_order_volume", "mean_order_lots", "Mean order volume", "lots", "mean size of new orders"),
    _of_bars("aggressive_order_ratio", "aggressive_ratio", "Aggressive order ratio", "share of new orders",
             "new orders that trade at once / new orders"),
    _of_bars("buy_order_ratio", "buy_ratio", "Buy order ratio", "share of new orders", "new BID / new orders"),
    *map(_mid_return, range(1, 6)),
)  # fmt: skip
"""MarS Table 7, in its order."""

_MORE: tuple[Quantity, ...] = (
    _of_bars("volume", "volume_shares", "Traded volume", "shares", "shares traded"),
    _of_bars("trade_count", "n_trades", "Number of trades", "fills", "fills"),
    _of_bars("order_count", "n_orders", "Number of messages", "messages", "new orders and cancels"),
    _of_bars("new_order_count", "n_new", "Number of new orders", "orders", "ASK and BID orders"),
    _of_bars("cancel_count", "n_cancels", "Number of cancels", "cancels", "cancels"),
    _of_bars("one_sided_share", "one_sided_share", "One-sided time", "share of time", "time without a bid or an ask"),
    _of_bars("mid_half_ticks", "mid_half_ticks", "Twice the mid price", "half ticks", "bid + ask when a minute ends"),
    _of_bars("last_trade_ticks", "last_trade_ticks", "Last trade price", "ticks", "price of the last trade"),
    _of_bars("mean_trade_ticks", "mean_trade_ticks", "Mean trade price", "ticks", "mean of the trade prices"),
    Quantity("cancel_ratio", "Cancel ratio", "share of messages", bars=lambda b: _ratio(b.n_cancels, b.n_orders),
             needs=("n_orders",), about="cancels / messages"),
    Quantity("mean_trade_size", "Mean trade size", "shares", bars=lambda b: _ratio(b.volume_shares, b.n_trades),
             needs=("volume_shares",), about="shares traded / fills"),
    Quantity("absolute_return", "Absolute 1-minute return", "log return", bars=lambda b: np.abs(b.mid_returns(1)),
             needs=("mid_half_ticks",), about="|log(mid at t + 1 min / mid at t)|"),
    Quantity("inter_arrival", "Mean inter-arrival time", "seconds",
             bars=lambda b: _ratio(np.full_like(b.n_orders, 60.0), b.n_orders), needs=("n_orders",),
             about="60 s / messages"),
    Quantity("log_inter_arrival", "Log inter-arrival time", "log10 ns", market=_log_wait, needs=("n_orders",),
             about="mean of log10(1 + ns since the message before)"),
    Quantity("depth", "Depth at the touch", "lots", market=partial(_depth, 1), needs=("spread_ticks",),
             about="time-weighted mean of (best ask size + best bid size) / 2"),
    Quantity("depth_10", "Depth of ten levels", "lots", market=partial(_depth, 10), needs=("spread_ticks",),
             about="the same, ten levels a side"),
    Quantity("imbalance", "Imbalance at the touch", "share", market=partial(_imbalance, 1), needs=("spread_ticks",),
             about="time-weighted mean of (bid size - ask size) / (bid size + ask size) at the best quotes"),
    Quantity("imbalance_10", "Imbalance of ten levels", "share", market=partial(_imbalance, 10),
             needs=("spread_ticks",), about="the same, ten levels a side"),
    Quantity("trade_imbalance", "Trade imbalance", "share", market=_trade_imbalance, needs=("volume_shares",),
             about="(shares bought - shares sold) / shares, by aggressor"),
)  # fmt: skip

_FAMILIES: tuple[tuple[re.Pattern[str], Callable[[int], Quantity]], ...] = (
    (re.compile(r"return_([1-9]\d?)min"), _mid_return),
    (re.compile(r"trade_return_([1-9]\d?)min"), _trade_return),
)
_DEFINED: dict[str, tuple[Quantity, str]] = {}


def define(quantity: Quantity, *, origin: str = "this process") -> Quantity:
    """Make a quantity known by its key in this process; returns it.

    Raises
    ------
    ValueError
        If another quantity has that key.
    """
    other = table().get(quantity.key)
    if other is not None and other != quantity:
        raise ValueError(
            f"quantity {quantity.key!r} of {origin}: there is one of that name already; choose another key"
        )
    _DEFINED[quantity.key] = (quantity, origin)
    return quantity


@cache
def _installed() -> dict[str, Quantity]:
    found = {q.key: q for q in (*TEN, *_MORE)}
    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name, p.value)):
        one = point.load()
        if not isinstance(one, Quantity):
            raise TypeError(
                f"entry point {point.name!r} = {point.value!r} in group {GROUP} must be a Quantity, got {one!r}"
            )
        if found.setdefault(one.key, one) is not one:
            raise ValueError(f"quantity {one.key!r} of {point.value}: there is one of that name already; rename one")
    return found


def table() -> dict[str, Quantity]:
    """Every known quantity by key."""
    return _installed() | {key: quantity for key, (quantity, _) in _DEFINED.items()}


def quantity(name: str) -> Quantity:
    """A quantity by name, or ``FILE.py:NAME``.

    Raises
    ------
    ValueError
        If there is none; lists the known ones.
    """
    known = table()
    if name in known:
        return known[name]
    for pattern, make in _FAMILIES:
        if found := pattern.fullmatch(name):
            return make(int(found[1]))
    path, colon, attribute = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _from_file(path, attribute)
    from marsbench.registry import nearest

    families = ["return_<k>min", "trade_return_<k>min", "FILE.py:NAME"]
    raise ValueError(nearest(name, [*known, *families], what="quantity"))


@lru_cache(None)
def _from_file(path: str, attribute: str) -> Quantity:
    place = Path(path)
    if not place.is_file():
        raise ValueError(f"quantity {path}:{attribute}: there is no file {path}")
    spec = spec_from_file_location(place.stem, place)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Any = getattr(module, attribute, None)
    if not isinstance(found, Quantity):
        own = [name for name, value in vars(module).items() if isinstance(value, Quantity)]
        raise ValueError(
            f"quantity {path}:{attribute}: no Quantity of that name; the file has {', '.join(own) or 'none'}"
        )
    other = table().get(found.key)
    if other is not None and other != found:
        raise ValueError(f"quantity {path}:{attribute}: its key {found.key!r} is taken; choose another")
    return found


def resolve(names: str | Iterable[str]) -> tuple[Quantity, ...]:
    """Quantities from names, a sequence or joined by ``+``; ``table7`` stands for its ten.

    Raises
    ------
    ValueError
        If there is none, one is unknown, or one is named twice.
    """
    parts = names.split("+") if isinstance(names, str) else list(names)
    found: list[Quantity] = []
    for name in map(str.strip, parts):
        found += TEN if name == TABLE_7 else [quantity(name)]
    keys = [q.key for q in found]
    twice = sorted({k for k in keys if keys.count(k) > 1})
    if twice or not found:
        raise ValueError(
            f"quantities {names!r}: {', '.join(twice) + ' is named twice' if twice else 'name at least one'}"
        )
    return tuple(found)


def own_code(names: str | Iterable[str]) -> dict[str, str]:
    """Of the named quantities those that a user wrote -> SHA-256 (hex) of their source: of its whole file, where
    there is one, since a quantity may call what stands beside it."""
    built_in = {q.key for q in (*TEN, *_MORE)}
    mine = [q for q in resolve(names) if q.key not in built_in and not any(p.fullmatch(q.key) for p, _ in _FAMILIES)]
    return {q.key: hashlib.sha256(_source(q)).hexdigest() for q in mine}


def _source(one: Quantity) -> bytes:
    function: Any = one.bars or one.market
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function)
    try:
        file = Path(inspect.getsourcefile(function) or "")
        return file.read_bytes() if file.is_file() else inspect.getsource(function).encode()
    except (OSError, TypeError):  # typed at a prompt, compiled, or a callable object: what it was made of
        code = getattr(function, "__code__", None)
        return repr((code.co_code, code.co_consts, code.co_names) if code else type(function).__qualname__).encode()


def describe() -> list[dict[str, Any]]:
    """One JSON-like row for each known quantity."""
    ten = {q.key for q in TEN}
    return [
        {
            "name": q.key,
            "unit": q.unit,
            "table7": q.key in ten,
            "from": "bars" if q.market is None else "orders and book",
            "summary": q.about or q.title,
        }
        for q in table().values()
    ]
