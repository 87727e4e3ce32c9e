"""Multivariate Hawkes processes with exponential kernels: likelihood, fit, residuals, simulation.

The intensity of type i is::

    lambda_i(t) = Y_i(t) (mu_i s(t) + sum_j sum_b sum_{t_k^j < t} n_ijb beta_b exp(-beta_b (t - t_k^j)))

with decay rates beta_b that are given, numbers of children n_ijb (``alpha_ijb = n_ijb beta_b``), a piecewise constant
season s of mean 1, and an indicator Y_i in {0, 1} that says when type i is possible at all (Aalen's multiplicative
intensity; always 1 where nothing is said). The kernels are sums of exponentials, so one pass over the events gives
every intensity (Ogata 1981), and since beta is fixed the log likelihood is concave in (mu, n) >= 0 and falls apart
into one problem per type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_BRANCHING = 0.95
"""Largest spectral radius that a fitted model keeps."""
LEAST_EVENTS = 50
"""A type with fewer events in the data gets a baseline and no kernels."""
MOST_ITERATIONS = 500
GRADIENT_TOLERANCE, VALUE_TOLERANCE = 1e-6, 1e-11
"""The fit stops where the projected gradient of the log likelihood per event is smaller, by share of the events that a
parameter explains, or where an iteration improves it by less."""


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
        """Mean rates ``[D]`` per second, ``(I - N)^-1 mu``, if every type is always possible.

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
    """What was seen in one period ``(start_s, end_s]``; nothing is known to have happened before it."""

    times_s: Floats
    """``[n]`` ascending. Events at equal times excite each other in their order."""
    types: Ints
    """``[n]``."""
    start_s: float
    end_s: float
    possible: NDArray[np.bool_] | None = None
    """``[n + 1, D]``: whether a type was possible between event k - 1 and event k. None: always."""


@dataclass(frozen=True)
class Design:
    """Everything the likelihood needs of the data, P = 1 + D B parameters per type."""

    types: Ints
    """``[n]``."""
    at: Floats
    """``[n, P]``: the intensity at event k of a type with parameters ``theta [P]`` is ``at[k] @ theta``."""
    exposure: Floats
    """``[D, P]``: the integral of the intensity of type i is ``exposure[i] @ theta``."""


@dataclass(frozen=True)
class Fit:
    """A model with how it was found."""

    model: Hawkes
    log_likelihood: float
    """Of the model as it is kept."""
    poisson_log_likelihood: float
    """Of the best model without kernels, by type."""
    found_radius: float
    """Branching ratio of the maximum of the likelihood, before it was scaled back."""
    scaled: float
    """Factor on all kernels that brought the branching ratio to ``MOST_BRANCHING``; 1 where nothing was done."""
    realised_radius: float
    """The same ratio counting only children that fell where their type was possible, and into the period."""
    counts: Ints
    """``[D]`` events."""
    iterations: int
    """Largest number over the types."""
    converged: bool


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
    times, types, possible, start, end, decays, season, width, at, exposure
):  # fmt: skip
    """One pass over the events of a period, adding to ``exposure``."""
    kinds, rates = exposure.shape[0], len(decays)
    state, mass = np.zeros((kinds, rates)), np.empty(1 + kinds * rates)
    now = start
    for k in range(len(times) + 1):
        then = times[k] if k < len(times) else end
        if then > now:
            mass[0] = season_integral(season, width, now, then)
            for b in range(rates):
                left = np.exp(-decays[b] * (then - now))
                for j in range(kinds):
                    mass[1 + j * rates + b] = state[j, b] * (1.0 - left)
                    state[j, b] *= left
            for i in range(kinds):
                if possible[k, i]:
                    for p in range(len(mass)):
                        exposure[i, p] += mass[p]
            now = then
        if k < len(times):
            at[k, 0] = season_level(season, width, now)
            for j in range(kinds):
                for b in range(rates):
                    at[k, 1 + j * rates + b] = decays[b] * state[j, b]
            for b in range(rates):
                state[types[k], b] += 1.0


@njit(cache=True)
def _log_sum(at, theta, gradient):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
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
    times, types, possible, start, end, base, kick, decays, season, width, out
):  # fmt: skip
    """Integral of every type's intensity up to the next event, into ``out [n + 1, D]``."""
    kinds, rates = len(base), len(decays)
    excited = np.zeros((kinds, rates))
    now = start
    for k in range(len(times) + 1):
        then = times[k] if k < len(times) else end
        calm = season_integral(season, width, now, then)
        for i in range(kinds):
            total = base[i] * calm
            for b in range(rates):
                left = np.exp(-decays[b] * (then - now))
                total += excited[i, b] * (1.0 - left) / decays[b]
                excited[i, b] *= left
                if k < len(times):
                    excited[i, b] += kick[i, types[k], b]
            out[k, i] = total if possible[k, i] else 0.0
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
    total = sum(len(r.times_s) for r in records)
    at, exposure = np.empty((total, 1 + dimension * len(decays))), np.zeros((dimension, 1 + dimension * len(decays)))
    first = 0
    for record in records:
        last = first + len(record.times_s)
        _design(*_checked(record, dimension), decays, *_coded(season), at[first:last], exposure)
        first = last
    types = np.concatenate([np.zeros(0, np.int64), *(np.asarray(r.types, np.int64) for r in records)])
    return Design(types, at, exposure)


def log_likelihood_and_gradient(
    model: Hawkes, records: Sequence[Record], season: Season = FLAT
) -> tuple[float, Floats]:
    """``sum_k log lambda(t_k) - integral lambda`` over all types, and its gradient ``[D, 1 + D B]`` (as ``flat``)."""
    data = design(records, model.decays, len(model.base), season)
    gradient = -data.exposure
    value = -float((data.exposure * model.flat).sum())
    for i, theta in enumerate(model.flat):
        value += float(_log_sum(data.at[data.types == i], theta, gradient[i]))
    return value, gradient


def log_likelihood(model: Hawkes, records: Sequence[Record], season: Season = FLAT) -> float:
    """``sum_k log lambda(t_k) - integral lambda``, over all types; minus infinity if an event was impossible."""
    return log_likelihood_and_gradient(model, records, season)[0]


def residuals(model: Hawkes, record: Record, season: Season = FLAT) -> list[Floats]:
    """Integrals of each type's intensity between its events, ``[D]`` arrays: Exp(1) draws under the true model.

    Time rescaling (Ogata 1988; Brown et al. 2002). The stretch after a type's last event is left out.
    """
    kinds = len(model.base)
    checked = _checked(record, kinds)
    out = np.empty((len(record.times_s) + 1, kinds))
    _compensators(*checked, *_arrays(model.base, model.branching * model.decays, model.decays), *_coded(season), out)
    passed = np.cumsum(out, axis=0)[:-1]
    return [np.diff(passed[checked[1] == i, i], prepend=0.0) for i in range(kinds)]


def fit(
    records: Sequence[Record],
    decays: Floats,
    dimension: int,
    *,
    season: Season = FLAT,
    mirror: Ints | None = None,
    most_branching: float = MOST_BRANCHING,
    least_events: int = LEAST_EVENTS,
) -> Fit:
    """The process of largest likelihood with given decay rates.

    Per type a concave problem under bounds, solved with L-BFGS-B in the shares of the type's events that each
    parameter explains (they sum to 1 at the maximum, so that the expected number of events equals the observed one).
    Where the branching ratio comes out above ``most_branching``, all kernels are scaled back to it by one factor and
    the baselines raised so that the expected numbers still hold; the result says so.

    Parameters
    ----------
    records
        Periods; memory goes with 16 (1 + D B) bytes per event.
    mirror
        ``[D]``, the type that each is the mirror image of (an involution): ``n_ij = n_mirror(i)mirror(j)`` is imposed.
    least_events
        A type (with its image) with fewer events gets a baseline alone; it still causes others.

    Raises
    ------
    ValueError
        If there is no event, a decay rate is not positive, or the mirror is no involution.
    """
    decays = np.asarray(decays, np.float64)
    image = np.arange(dimension) if mirror is None else np.asarray(mirror, np.int64)
    if len(decays) == 0 or (decays <= 0).any() or not np.array_equal(image[image], np.arange(dimension)):
        raise ValueError(f"decay rates must be positive and a mirror its own inverse; got {decays}, {image}")
    data = design(records, decays, dimension, season)
    if len(data.types) == 0:
        raise ValueError("a Hawkes process cannot be fitted to no events")
    swap = np.concatenate([[0], 1 + (image[:, None] * len(decays) + np.arange(len(decays))).ravel()])
    flat, most, converged = np.zeros_like(data.exposure), 0, True
    pooled, counts = np.zeros_like(data.exposure), np.bincount(data.types, minlength=dimension)
    for i in range(dimension):
        if image[i] < i:
            flat[i], pooled[i] = flat[image[i]][swap], pooled[image[i]][swap]
            continue
        parts, pooled[i] = [data.at[data.types == i]], data.exposure[i]
        if image[i] != i:
            parts.append(data.at[data.types == image[i]][:, swap])
            pooled[i] = data.exposure[i] + data.exposure[image[i]][swap]
        flat[i], steps, done = _fit_type(np.concatenate(parts), pooled[i], least_events)
        most, converged = max(most, steps), converged and done
    both = np.where(image == np.arange(dimension), counts, counts + counts[image])
    return _kept(flat, data, pooled, both, decays, most_branching, most, converged)


def _fit_type(at: Floats, exposure: Floats, least: int) -> tuple[Floats, int, bool]:
    """Parameters ``[P]`` of one type; iterations; whether they converged."""
    count = len(at)
    theta = np.zeros(len(exposure))
    used = np.flatnonzero(exposure > 0)
    if count < least or len(used) < 2:
        theta[0] = count / exposure[0] if exposure[0] > 0 else 0.0
        return theta, 0, True
    scale = count / exposure[used]
    scaled = np.ascontiguousarray(at[:, used] * scale)

    def objective(share: Floats) -> Any:
        gradient = np.zeros(len(share))
        value = _log_sum(scaled, share, gradient)
        return float(share.sum() - value / count), 1.0 - gradient / count

    start = np.full(len(used), 0.5 / (len(used) - 1))
    start[0] = 0.5
    options: Any = {"maxiter": MOST_ITERATIONS, "gtol": GRADIENT_TOLERANCE, "ftol": VALUE_TOLERANCE, "maxcor": 20}
    bounds: Any = [(1e-9, None)] + [(0.0, None)] * (len(used) - 1)
    found: Any = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    theta[used] = found.x / found.x.sum() * scale
    return theta, int(found.nit), bool(found.success)


def _kept(
    flat: Floats, data: Design, exposure: Floats, counts: Ints, decays: Floats, most: float, steps: int, converged: bool
) -> Fit:
    """The model with its branching ratio held below a bound, and what was found on the way."""
    kinds = len(flat)
    found = spectral_radius(flat[:, 1:].reshape(kinds, kinds, -1).sum(axis=2))
    scaled = min(1.0, most / found) if found > 0 else 1.0
    if scaled < 1:
        flat = flat.copy()
        flat[:, 1:] *= scaled
        rest = counts - (flat[:, 1:] * exposure[:, 1:]).sum(axis=1)
        flat[:, 0] = np.divide(rest, exposure[:, 0], out=np.zeros(kinds), where=exposure[:, 0] > 0)
    own = np.bincount(data.types, minlength=kinds)
    children = (flat * data.exposure)[:, 1:].reshape(kinds, kinds, -1).sum(axis=2)
    value = -float((data.exposure * flat).sum())
    for i, theta in enumerate(flat):
        value += float(_log_sum(data.at[data.types == i], theta, np.zeros(len(theta))))
    return Fit(
        model=Hawkes(flat[:, 0].copy(), flat[:, 1:].reshape(kinds, kinds, -1).copy(), decays),
        log_likelihood=value,
        poisson_log_likelihood=_poisson(data, own),
        found_radius=found,
        scaled=scaled,
        realised_radius=spectral_radius(children / np.maximum(own, 1)),
        counts=own,
        iterations=steps,
        converged=converged,
    )


def _poisson(data: Design, counts: Ints) -> float:
    """Log likelihood of the baselines alone at their best."""
    rates = np.divide(counts, data.exposure[:, 0], out=np.zeros(len(counts)), where=data.exposure[:, 0] > 0)
    at = data.at[:, 0] * rates[data.types]
    return float(np.log(at[at > 0]).sum() - counts.sum())


def _checked(record: Record, dimension: int) -> tuple[Any, ...]:
    """The arrays of a period as compiled code takes them."""
    times, types = _arrays(record.times_s)[0], np.ascontiguousarray(record.types, np.int64)
    if len(times) and ((np.diff(times) < 0).any() or times[0] < record.start_s or times[-1] > record.end_s):
        raise ValueError(f"event times must ascend within {record.start_s} .. {record.end_s} s")
    if len(types) != len(times) or (len(types) and (types.min() < 0 or types.max() >= dimension)):
        raise ValueError(f"{len(times)} times need as many types in 0 .. {dimension - 1}")
    possible = record.possible
    if possible is None:
        possible = np.ones((len(times) + 1, dimension), np.bool_)
    return times, types, np.ascontiguousarray(possible), float(record.start_s), float(record.end_s)


def _arrays(*values: Floats) -> tuple[Floats, ...]:
    return tuple(np.ascontiguousarray(v, np.float64) for v in values)


def _coded(season: Season) -> tuple[Floats, float]:
    return np.ascontiguousarray(season.values, np.float64), float(season.width_s)
