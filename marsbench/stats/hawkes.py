"""Multivariate Hawkes processes with exponential kernels: likelihood, fit, residuals, simulation.

The intensity of type i is::

    lambda_i(t) = Y_i(t) (mu_i s(t) + sum_j sum_b sum_{t_k^j < t} n_ijb beta_b exp(-beta_b (t - t_k^j)))

with decay rates beta_b that are given, numbers of children n_ijb (``alpha_ijb = n_ijb beta_b``), a piecewise constant
season s of mean 1, and a known factor Y_i >= 0, constant between events, that says what the state of the world makes
of it, 0 where type i is impossible (Aalen's multiplicative intensity; always 1 where nothing is said). The kernels are
sums of exponentials, so one pass over the events gives every intensity (Ogata 1981). ``hawkes_fit`` estimates (mu, n).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Season:
    """Level of the baseline by time: constant in bins that begin at 0; the last goes on for ever."""

    width_s: float = 3600.0
    values: Floats = field(default_factory=lambda: np.ones(1))
    """``[K]``, mean 1 over what they were estimated on."""


FLAT = Season()


@dataclass(frozen=True)
class Hawkes:
    """The parameters of a process of D types with B decay rates."""

    base: Floats
    """``[D]`` mu, events per second."""
    branching: Floats
    """``[D, D, B]`` n_ijb: mean number of events of type i that one of type j causes directly."""
    decays: Floats
    """``[B]`` beta, per second."""

    @property
    def radius(self) -> float:
        """The branching ratio: spectral radius of the matrix of direct children; the process is stationary below 1."""
        return spectral_radius(self.branching.sum(axis=2))

    def stationary_rates(self) -> Floats:
        """Mean rates ``[D]`` per second, ``(I - N)^-1 mu``, if every factor is 1.

        Raises
        ------
        ValueError
            If the branching ratio is 1 or more.
        """
        if self.radius >= 1:
            raise ValueError(f"branching ratio {self.radius:.3f}: a process has stationary rates only below 1")
        return np.asarray(np.linalg.solve(np.eye(len(self.base)) - self.branching.sum(axis=2), self.base))

    @property
    def flat(self) -> Floats:
        """``[D, 1 + D B]``: base, then children by causing type and decay rate."""
        return np.concatenate([self.base[:, None], self.branching.reshape(len(self.base), -1)], axis=1)


@dataclass(frozen=True)
class Record:
    """What was seen in one period ``(start_s, end_s]``; nothing is known to have happened before it.

    Events up to ``since_s`` only excite: they are no part of likelihoods, designs and residuals.
    """

    times_s: Floats
    """``[n]`` ascending. Events at equal times excite each other in their order."""
    types: Ints
    """``[n]``."""
    start_s: float
    end_s: float
    factor: NDArray[Any] | None = None
    """``[n + 1, D]``: Y between event k - 1 and event k, event k included. None: 1."""
    since_s: float = -np.inf


@dataclass(frozen=True)
class Design:
    """Everything the likelihood needs of the data, P = 1 + D B parameters per type."""

    types: Ints
    """``[n]``, of the events that count."""
    at: Floats
    """``[n, P]``: the intensity at event k of a type with parameters ``theta [P]`` is ``at[k] @ theta``."""
    exposure: Floats
    """``[D, P]``: the integral of the intensity of type i is ``exposure[i] @ theta``."""
    whole: Floats
    """``[P]``: what the exposure of every type would be with a factor of 1."""


def spectral_radius(matrix: Floats) -> float:
    """Largest modulus of an eigenvalue."""
    return float(np.abs(np.linalg.eigvals(matrix)).max(initial=0.0))


@njit(cache=True)
def season_level(season, width, now):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Level of the season at a time."""
    return season[min(max(int(now // width), 0), len(season) - 1)]


@njit(cache=True)
def season_integral(season, width, now, then):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Integral of the season over ``(now, then]``."""
    bins = len(season)
    k = min(max(int(now // width), 0), bins - 1)
    total = 0.0
    while k < bins - 1 and (k + 1) * width < then:
        total += season[k] * ((k + 1) * width - now)
        now = (k + 1) * width
        k += 1
    return total + season[k] * (then - now)


@njit(cache=True)
def wait(hazard, base, excited, decays, season, width, now):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Seconds until ``base s(t) + sum_b excited_b exp(-beta_b t)`` has integrated to ``hazard``; infinity if never.

    Exact but for rounding: season bin by season bin, and within one by Newton's method, which comes up from below and
    cannot overshoot, because the integral is concave there.
    """
    bins, passed = len(season), 0.0
    k = min(max(int(now // width), 0), bins - 1)
    while True:
        last = k == bins - 1
        rate = base * season[k]
        length = np.inf if last else max((k + 1) * width - now - passed, 0.0)
        whole = 0.0
        for b in range(len(decays)):
            whole += excited[b] * np.exp(-decays[b] * passed) / decays[b] * (1.0 - np.exp(-decays[b] * length))
        if rate > 0:
            whole += rate * length
        if whole > hazard:
            break
        if last:
            return np.inf
        hazard -= whole
        passed += length
        k += 1
    gone = 0.0
    for _ in range(100):
        value, slope = rate * gone, rate
        for b in range(len(decays)):
            level = excited[b] * np.exp(-decays[b] * passed)
            left = np.exp(-decays[b] * gone)
            value += level / decays[b] * (1.0 - left)
            slope += level * left
        step = (hazard - value) / slope
        gone += step
        if step < 1e-11 * (1.0 + gone):
            break
    return passed + max(gone, 0.0)


@njit(cache=True)
def _design(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    times, types, factor, start, end, since, decays, season, width, at, exposure, whole
):  # fmt: skip
    """One pass over the events of a period, adding to ``exposure`` and ``whole``."""
    kinds, rates = exposure.shape[0], len(decays)
    state, mass = np.zeros((kinds, rates)), np.empty(1 + kinds * rates)
    now, row = start, 0
    for k in range(len(times) + 1):
        then = times[k] if k < len(times) else end
        if now < since:
            stop = min(since, then)
            for b in range(rates):
                state[:, b] *= np.exp(-decays[b] * (stop - now))
            now = stop
        if then > now:
            mass[0] = season_integral(season, width, now, then)
            for b in range(rates):
                left = np.exp(-decays[b] * (then - now))
                for j in range(kinds):
                    mass[1 + j * rates + b] = state[j, b] * (1.0 - left)
                    state[j, b] *= left
            whole += mass
            for i in range(kinds):
                if factor[k, i] > 0:
                    for p in range(len(mass)):
                        exposure[i, p] += factor[k, i] * mass[p]
            now = then
        if k < len(times):
            if times[k] > since:
                level = factor[k, types[k]]
                at[row, 0] = level * season_level(season, width, now)
                for j in range(kinds):
                    for b in range(rates):
                        at[row, 1 + j * rates + b] = level * decays[b] * state[j, b]
                row += 1
            for b in range(rates):
                state[types[k], b] += 1.0


@njit(cache=True, fastmath={"reassoc", "contract"})
def log_sum(at, theta, gradient):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Sum of ``log(at[k] @ theta)``; adds its gradient to ``gradient``."""
    total = 0.0
    for k in range(at.shape[0]):
        value = 0.0
        for p in range(at.shape[1]):
            value += at[k, p] * theta[p]
        total += np.log(value)
        inverse = 1.0 / value
        for p in range(at.shape[1]):
            gradient[p] += at[k, p] * inverse
    return total


@njit(cache=True)
def _compensators(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    times, types, factor, start, end, since, base, kick, decays, season, width, out
):  # fmt: skip
    """Integral of every type's intensity up to the next event, from ``since`` on, into ``out [n + 1, D]``."""
    kinds, rates = len(base), len(decays)
    excited = np.zeros((kinds, rates))
    now = start
    for k in range(len(times) + 1):
        then = times[k] if k < len(times) else end
        if now < since:
            stop = min(since, then)
            for b in range(rates):
                excited[:, b] *= np.exp(-decays[b] * (stop - now))
            now = stop
        calm = season_integral(season, width, now, then) if then > now else 0.0
        for i in range(kinds):
            total = base[i] * calm
            for b in range(rates):
                left = np.exp(-decays[b] * (then - now))
                total += excited[i, b] * (1.0 - left) / decays[b]
                excited[i, b] *= left
                if k < len(times):
                    excited[i, b] += kick[i, types[k], b]
            out[k, i] = total * factor[k, i]
        now = then


@njit(cache=True)
def _simulate(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    base, kick, decays, season, width, horizon, most, rng
):  # fmt: skip
    kinds, rates = len(base), len(decays)
    times, types = np.empty(1024), np.empty(1024, np.int64)
    excited, total = np.zeros((kinds, rates)), np.zeros(rates)
    now, count = 0.0, 0
    while count < most:
        gap = wait(rng.standard_exponential(), base.sum(), total, decays, season, width, now)
        if not now + gap <= horizon:
            break
        now += gap
        level = season_level(season, width, now)
        for b in range(rates):
            excited[:, b] *= np.exp(-decays[b] * gap)
        intensity = base * level + excited.sum(axis=1)
        target, kind = rng.random() * intensity.sum(), 0
        while kind < kinds - 1 and target > intensity[kind]:
            target -= intensity[kind]
            kind += 1
        if count == len(times):
            times, types = np.append(times, np.empty(count)), np.append(types, np.empty(count, np.int64))
        times[count], types[count] = now, kind
        count += 1
        for b in range(rates):
            excited[:, b] += kick[:, kind, b]
            total[b] = excited[:, b].sum()
    return times[:count], types[:count]


def simulate(
    model: Hawkes, horizon_s: float, rng: np.random.Generator, *, season: Season = FLAT, most: int = 10_000_000
) -> Record:
    """The process from an empty past over ``(0, horizon_s]``, by inversion of the exact waiting times.

    At most ``most`` events: a process of branching ratio 1 or more has no bound of its own. The period then ends with
    the last of them.
    """
    times, types = _simulate(
        *_arrays(model.base, model.branching * model.decays, model.decays), *_coded(season), horizon_s, most, rng
    )
    return Record(times, types, 0.0, float(times[-1]) if len(times) == most else float(horizon_s))


def design(records: Sequence[Record], decays: Floats, dimension: int, season: Season = FLAT) -> Design:
    """What the likelihood needs of periods of D = ``dimension`` types: one pass, O(n D B) and O(n D D B) for exposure.

    Raises
    ------
    ValueError
        If times descend or leave their period, or a type is not in 0 .. D - 1.
    """
    decays = np.asarray(decays, np.float64)
    checked = [_checked(r, dimension) for r in records]
    counted = [c[1][c[0] > r.since_s] for c, r in zip(checked, records, strict=True)]
    parameters = 1 + dimension * len(decays)
    at, whole = np.empty((sum(map(len, counted)), parameters)), np.zeros(parameters)
    exposure, first = np.zeros((dimension, parameters)), 0
    for arrays, own in zip(checked, counted, strict=True):
        last = first + len(own)
        _design(*arrays, decays, *_coded(season), at[first:last], exposure, whole)
        first = last
    types = np.concatenate([np.zeros(0, np.int64), *counted])
    return Design(types, at, exposure, whole)


def log_likelihood_and_gradient(
    model: Hawkes, records: Sequence[Record], season: Season = FLAT
) -> tuple[float, Floats]:
    """``sum_k log lambda(t_k) - integral lambda`` over all types, and its gradient ``[D, 1 + D B]`` (as ``flat``)."""
    return likelihood_of(model.flat, design(records, model.decays, len(model.base), season))


def likelihood_of(flat: Floats, data: Design) -> tuple[float, Floats]:
    """Log likelihood of parameters ``[D, P]``, summed over types, and its gradient."""
    gradient = -data.exposure
    value = -float((data.exposure * flat).sum())
    for i, theta in enumerate(flat):
        value += float(log_sum(data.at[data.types == i], theta, gradient[i]))
    return value, gradient


def log_likelihood(model: Hawkes, records: Sequence[Record], season: Season = FLAT) -> float:
    """``sum_k log lambda(t_k) - integral lambda``, over all types; minus infinity if an event was impossible."""
    return log_likelihood_and_gradient(model, records, season)[0]


def intensities(model: Hawkes, record: Record, season: Season = FLAT) -> Floats:
    """Intensities of all types right before each event, ``[n, D]``, without factors, also before ``since_s``."""
    plain = replace(record, factor=None, since_s=-np.inf)
    return np.asarray(design([plain], model.decays, len(model.base), season).at @ model.flat.T)


def residuals(model: Hawkes, record: Record, season: Season = FLAT) -> list[Floats]:
    """Integrals of each type's intensity between its events, ``[D]`` arrays: Exp(1) draws under the true model.

    Time rescaling (Ogata 1988; Brown et al. 2002). The stretch after a type's last event is left out.
    """
    passed = np.cumsum(compensators(model, record, season), axis=0)[:-1]
    types = np.where(record.times_s > record.since_s, record.types, -1)
    return [np.diff(passed[types == i, i], prepend=0.0) for i in range(len(model.base))]


def compensators(model: Hawkes, record: Record, season: Season = FLAT) -> Floats:
    """Integral of every type's intensity from event k - 1 (or ``since_s``) to event k, ``[n + 1, D]``."""
    out = np.empty((len(record.times_s) + 1, len(model.base)))
    kick = model.branching * model.decays
    _compensators(*_checked(record, len(model.base)), *_arrays(model.base, kick, model.decays), *_coded(season), out)
    return out


def _checked(record: Record, dimension: int) -> tuple[Any, ...]:
    """The arrays of a period as compiled code takes them."""
    times, types = _arrays(record.times_s)[0], np.ascontiguousarray(record.types, np.int64)
    if len(times) and ((np.diff(times) < 0).any() or times[0] < record.start_s or times[-1] > record.end_s):
        raise ValueError(f"event times must ascend within {record.start_s} .. {record.end_s} s")
    if len(types) != len(times) or (len(types) and (types.min() < 0 or types.max() >= dimension)):
        raise ValueError(f"{len(times)} times need as many types in 0 .. {dimension - 1}")
    factor = np.ones((len(times) + 1, dimension)) if record.factor is None else record.factor
    if factor.shape != (len(times) + 1, dimension):
        raise ValueError(f"{len(times)} times and {dimension} types need factors of shape {len(times) + 1, dimension}")
    return times, types, *_arrays(factor), float(record.start_s), float(record.end_s), float(record.since_s)


def _arrays(*values: Floats) -> tuple[Floats, ...]:
    return tuple(np.ascontiguousarray(v, np.float64) for v in values)


def _coded(season: Season) -> tuple[Floats, float]:
    return np.ascontiguousarray(season.values, np.float64), float(season.width_s)
