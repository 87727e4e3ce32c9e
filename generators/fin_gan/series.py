"""Minute returns of the mid price as the network sees them: the volatility of the time of day taken out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from marsbench.market.bars import MinuteBars

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SPAN = 10.0
"""A return of so many standard deviations is the largest that the network can make; larger ones are cut."""
NEIGHBOURS = 7
"""The volatility of a minute of the day is taken over so many minutes before and after it, too."""
LEAST_LENGTHS = 8
"""So many times the length of a series is the least of minutes to learn from."""


@dataclass(frozen=True)
class SessionReturns:
    """The returns of one period of one instrument."""

    instrument: str
    first_minute: int
    """Minute of the trading day, breaks cut out, in which the period begins."""
    returns: Floats
    """``[M]`` log returns of the mid."""


def session_returns(instrument: str, first_minute: int, bars: MinuteBars) -> SessionReturns:
    """Minute returns; a minute that ends on a one-sided book keeps the mid before it.

    Raises
    ------
    ValueError
        If there is no mid at all.
    """
    mids = bars.mid_half_ticks
    known = np.flatnonzero(np.isfinite(mids))
    if not len(known):
        raise ValueError(f"fin-gan: {instrument} has no minute with a bid and an ask")
    last = np.maximum.accumulate(np.where(np.isfinite(mids), np.arange(len(mids)), known[0]))
    return SessionReturns(instrument, first_minute, np.diff(np.log(mids[last])))


@dataclass(frozen=True)
class Profiles:
    """Standard deviation of the minute returns of each instrument by minute of the trading day."""

    by_instrument: Mapping[str, Floats]
    """``[minutes of the day]`` each."""

    @classmethod
    def fit(cls, sessions: Iterable[SessionReturns]) -> Self:
        """Root mean squares over days and neighbouring minutes.

        Raises
        ------
        ValueError
            If an instrument's price never moves.
        """
        own: dict[str, list[SessionReturns]] = {}
        for session in sessions:
            own.setdefault(session.instrument, []).append(session)
        return cls({name: cls._of(name, many) for name, many in own.items()})

    @staticmethod
    def _of(name: str, sessions: Sequence[SessionReturns]) -> Floats:
        minutes = max(s.first_minute + len(s.returns) for s in sessions)
        squares, count = np.zeros(minutes), np.zeros(minutes)
        for s in sessions:
            at = slice(s.first_minute, s.first_minute + len(s.returns))
            squares[at] += s.returns**2
            count[at] += 1
        if not squares.any():
            raise ValueError(f"fin-gan: the mid price of {name} never moves in training")
        window = np.ones(2 * NEIGHBOURS + 1)
        near, days = (
            np.convolve(values, window, "full")[NEIGHBOURS : NEIGHBOURS + minutes] for values in (squares, count)
        )
        overall = squares.sum() / count.sum()
        return np.sqrt(np.where(near > 0, near, overall) / np.where(near > 0, days, 1.0))

    def at(self, instrument: str, first_minute: int, minutes: int) -> Floats:
        """Standard deviation of so many minutes from one on, ``[minutes]``; beyond the last known minute it is that.

        Raises
        ------
        ValueError
            For an instrument that was not trained on.
        """
        if instrument not in self.by_instrument:
            known = ", ".join(sorted(self.by_instrument)) or "none"
            raise ValueError(f"fin-gan was not trained on {instrument!r}; it knows {known}")
        own = self.by_instrument[instrument]
        return np.asarray(own[np.clip(np.arange(first_minute, first_minute + minutes), 0, len(own) - 1)])

    def to_dict(self) -> dict[str, list[float]]:
        return {name: [float(f"{v:.6g}") for v in own] for name, own in self.by_instrument.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Sequence[float]]) -> Self:
        return cls({name: np.array(own, np.float64) for name, own in values.items()})


def standardised(sessions: Iterable[SessionReturns], profiles: Profiles) -> dict[str, Floats]:
    """One long series by instrument, sessions one after the other, as shares of ``SPAN`` standard deviations."""
    parts: dict[str, list[Floats]] = {}
    for s in sessions:
        spread = profiles.at(s.instrument, s.first_minute, len(s.returns))
        parts.setdefault(s.instrument, []).append(np.clip(s.returns / (SPAN * spread), -1.0, 1.0))
    return {name: np.concatenate(own) for name, own in parts.items()}


class WindowBatches:
    """Windows of a length at any place of any instrument's series, each as likely, by step."""

    def __init__(self, series: Mapping[str, Floats], length: int, seed: int) -> None:
        self.length, self.seed = length, seed
        self.series = {name: own.astype(np.float32) for name, own in series.items() if len(own) >= length}
        minutes = sum(map(len, self.series.values()))
        if minutes < LEAST_LENGTHS * length:
            there = sum(map(len, series.values()))
            raise ValueError(
                f"fin-gan: {there:,} minutes are too few to learn series of {length} from, which takes at least "
                f"{LEAST_LENGTHS * length:,} of instruments with {length} each; train on more days, or give a shorter "
                "length"
            )
        self._every = [(name, k) for name, own in self.series.items() for k in range(len(own) - length + 1)]

    def batch(self, step: int, size: int) -> dict[str, NDArray[np.float32]]:
        chosen = np.random.default_rng([self.seed, step]).integers(len(self._every), size=size)
        places = (self._every[i] for i in chosen)
        return {"series": np.stack([self.series[name][k : k + self.length] for name, k in places])}

    def describe(self) -> Mapping[str, Any]:
        return {
            "minutes": {name: len(own) for name, own in self.series.items()},
            "length": self.length,
            "seed": self.seed,
            "sum": [float(own.astype(np.float64) @ np.arange(len(own))) for own in self.series.values()],
        }


def cut(series: Mapping[str, Floats], length: int) -> NDArray[np.float32]:
    """All windows that follow each other without overlap, ``[n, length]``.

    Raises
    ------
    ValueError
        If there is none.
    """
    parts = [own[: len(own) // length * length].reshape(-1, length) for own in series.values()]
    windows = np.concatenate(parts) if parts else np.zeros((0, length))
    if not len(windows):
        raise ValueError(f"fin-gan: no instrument has {length} minutes held out to choose the weights on")
    return windows.astype(np.float32)
