"""What the state of the book makes of the flow: how likely each type is, given that something happens.

The type of an event is drawn in proportion to ``lambda_i f_i(spread) g_i(volume)``, lambda_i the Hawkes intensities: a
ratio model (Toke and Yoshida 2020) around a Hawkes process with a state-dependent factor (Sfendourakis and Toke 2023;
Morariu-Patrichi and Pakkanen 2022). f and g are step functions.

They change types, never times, and an event excites as the type that it was meant to be: as the process without a book
drew it, which the book leaves alone as often as it can. Factors on intensities, tried first, make a stable process
explode in states where fertile types are likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .events import CLASSES, MIRROR, TYPES, ZONES, Class, State, Track

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
"""Of the spreads and volumes that events of training met: edges of the steps."""
STEPS = len(QUANTILES) + 1
PRIOR_EVENTS = 10.0
"""Each step of each factor is updated as if so many more events had been seen, just as many as expected."""
ROUNDS = 20
_ZONE = np.array([0, 0, 1, 2, 0, 0, 1, 2], np.int64)
"""Which volume a class looks at, on its own side, but that of the other side for orders that trade."""
_MARKET = int(Class.MARKET)


@dataclass(frozen=True)
class Factors:
    """Step functions of one instrument; a state on an edge belongs to the step above it."""

    spread_edges: Ints
    """``[STEPS - 1]`` ticks."""
    volume_edges: Ints
    """``[ZONES, STEPS - 1]`` shares."""
    by_spread: Floats
    """``[TYPES, STEPS]``."""
    by_volume: Floats
    """``[TYPES, STEPS]``."""

    @classmethod
    def flat(cls, tracks: Sequence[Track]) -> Self:
        """All 1, with edges from training."""
        spread = np.concatenate([t.state.spread for t in tracks])
        volume = np.concatenate([t.state.volume.reshape(-1, ZONES) for t in tracks])
        edges = [np.quantile(v[v > 0], QUANTILES) if (v > 0).any() else np.ones(len(QUANTILES)) for v in volume.T]
        ticks, ones = np.quantile(spread, QUANTILES), np.ones((TYPES, STEPS))
        return cls(np.ceil(ticks).astype(np.int64), np.ceil(np.array(edges)).astype(np.int64), ones, ones)

    @classmethod
    def fit(cls, tracks: Sequence[Track], intensities: Sequence[Floats], *, symmetric: bool) -> Self:
        """The likeliest factors given the intensities of all types at events, drawn to 1.

        The likelihood of types given times is concave in the logarithms; f and g take turns in a step of generalised
        iterative scaling (Darroch and Ratcliff 1972), observed over expected numbers, which never makes it smaller.

        Parameters
        ----------
        intensities
            ``[n, TYPES]`` each, of the events that count.
        """
        start = cls.flat(tracks)
        can, spread, volume, types = (
            np.concatenate(parts) for parts in zip(*[_counted(t) for t in tracks], strict=True)
        )
        steps = np.searchsorted(start.spread_edges, spread, side="right"), _volume_steps(volume, start.volume_edges)
        weights = np.concatenate(intensities) * can
        tables = [np.ones((TYPES, STEPS)), np.ones((TYPES, STEPS))]
        for turn in range(2 * ROUNDS):
            seen, expected = np.zeros((2, TYPES, STEPS)), np.zeros((2, TYPES, STEPS))
            _tally(types, weights, *steps, *tables, seen, expected)
            one, two = seen[turn % 2], expected[turn % 2]
            if symmetric:
                one, two = one + one[MIRROR], two + two[MIRROR]
            tables[turn % 2] *= (one + PRIOR_EVENTS) / (two + PRIOR_EVENTS)
        return cls(start.spread_edges, start.volume_edges, *tables)

    def log_gain(self, tracks: Sequence[Track], intensities: Sequence[Floats]) -> float:
        """Their part of the log likelihood: sum of ``log(factor_i sum_j lambda_j / sum_j factor_j lambda_j)``."""
        gain = 0.0
        for track, intensity in zip(tracks, intensities, strict=True):
            can, spread, volume, types = _counted(track)
            factor = factors_at(State(can, spread, volume), np.zeros(len(types), np.int64), stacked([self]))
            own = factor[np.arange(len(types)), types]
            gain += float(np.log(own * intensity.sum(axis=1) / (factor * intensity).sum(axis=1)).sum())
        return gain


def _counted(track: Track) -> tuple[Bools, Ints, Ints, Ints]:
    """What was possible, spread and volume right before the events that count, and their types."""
    counts, state = track.times_s > track.since_s, track.state
    return state.can[:-1][counts], state.spread[:-1][counts], state.volume[:-1][counts], track.types[counts]


def _volume_steps(volume: Ints, edges: Ints) -> Ints:
    """Step of the volume that each type looks at, ``[k, TYPES]``."""
    steps = np.stack([np.searchsorted(edges[z], volume[:, :, z], side="right") for z in range(ZONES)], 2)
    side, what = np.divmod(np.arange(TYPES), CLASSES)
    return np.asarray(steps[:, np.where(what == _MARKET, 1 - side, side), _ZONE[what]])


@njit(cache=True)
def _tally(types, weights, by_s, by_v, f, g, seen, expected):  # type: ignore[no-untyped-def]
    """Observed and expected numbers of events by step of spread (0) and of volume (1) and by type."""
    shares = np.empty(weights.shape[1])
    for k in range(len(types)):
        s, total = by_s[k], 0.0
        for j in range(len(shares)):
            shares[j] = weights[k, j] * f[j, s] * g[j, by_v[k, j]]
            total += shares[j]
        seen[0, types[k], s] += 1.0
        seen[1, types[k], by_v[k, types[k]]] += 1.0
        for j in range(len(shares)):
            expected[0, j, s] += shares[j] / total
            expected[1, j, by_v[k, j]] += shares[j] / total


def stacked(factors: Sequence[Factors]) -> tuple[Ints, Ints, Floats, Floats]:
    """The tables of I instruments as compiled code takes them, instrument first."""
    names = ("spread_edges", "volume_edges", "by_spread", "by_volume")
    a, b, c, d = (np.stack([getattr(f, name) for f in factors]) for name in names)
    return a, b, c, d


def factors_at(state: State, kind: Ints, tables: tuple[Ints, Ints, Floats, Floats]) -> Floats:
    """Factors of all types in k states, ``[k, TYPES]``, of instruments ``kind [k]``; 0 where a type is impossible."""
    out = np.empty(state.can.shape)
    _factors(state.can, state.spread, state.volume, kind, *tables, out)
    return out


@njit(cache=True)
def _factors(can, spread, volume, kind, spread_edges, volume_edges, by_spread, by_volume, out):  # type: ignore[no-untyped-def]
    for k in range(len(spread)):
        n = kind[k]
        s = np.searchsorted(spread_edges[n], spread[k], side="right")
        for side in range(2):
            for c in range(CLASSES):
                j, z = side * CLASSES + c, _ZONE[c]
                out[k, j] = 0.0
                if can[k, j]:
                    shares = volume[k, 1 - side if c == _MARKET else side, z]
                    v = np.searchsorted(volume_edges[n, z], shares, side="right")
                    out[k, j] = by_spread[n, j, s] * by_volume[n, j, v]
