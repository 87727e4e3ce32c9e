"""Processes whose stylized facts are known, to test statistics against: the answers stand in their docstrings."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def roll_prices(shape: tuple[int, int], rng: np.random.Generator, *, sigma: float, half_spread: float) -> Floats:
    """Log last-trade prices that bounce between bid and ask: rho(1) = -c^2 / (s^2 + 2 c^2), 0 beyond (Roll 1984)."""
    walk = np.cumsum(sigma * rng.standard_normal(shape), axis=-1)
    return np.asarray(walk + half_spread * rng.choice([-1.0, 1.0], size=shape))


def working_means(shape: tuple[int, int], rng: np.random.Generator, *, steps: int = 60) -> Floats:
    """Minute means of a random walk: rho(1) of their changes tends to +1/4 (Working 1960)."""
    walk = np.cumsum(rng.standard_normal((*shape, steps)).reshape(shape[0], -1), axis=-1)
    return np.asarray(walk.reshape(*shape, steps).mean(axis=-1))


def student(shape: tuple[int, int], rng: np.random.Generator, *, dof: float) -> Floats:
    """Independent Student t values of unit variance, excess kurtosis 6 / (dof - 4); Gaussian at infinity."""
    if np.isinf(dof):
        return rng.standard_normal(shape)
    return np.asarray(rng.standard_t(dof, shape) / np.sqrt(dof / (dof - 2)))


@njit(cache=True)
def _garch(z, omega, alpha, beta, gamma, start):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    out = np.empty_like(z)
    for s in range(z.shape[0]):
        variance = start
        for t in range(z.shape[1]):
            r = np.sqrt(variance) * z[s, t]
            out[s, t] = r
            variance = omega + (alpha + (gamma if r < 0 else 0.0)) * r * r + beta * variance
    return out


def garch(
    shape: tuple[int, int], rng: np.random.Generator, *, alpha: float = 0.08, beta: float = 0.90, gamma: float = 0.0,
    dof: float = np.inf, burn: int = 500,
) -> Floats:  # fmt: skip
    """GARCH(1,1) returns of unit variance; ``gamma`` > 0 is GJR's leverage, ``dof`` makes innovations Student's t.

    Without leverage rho_1(r^2) = a (1 - a b - b^2) / (1 - 2 a b - b^2), rho_k = rho_1 (a + b)^(k - 1).
    """
    omega = 1 - alpha - beta - gamma / 2
    z = student((shape[0], shape[1] + burn), rng, dof=dof)
    return np.asarray(_garch(z, omega, alpha, beta, gamma, 1.0))[:, burn:]


@njit(cache=True)
def _harch(z, widths, weight, base):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    out = np.zeros_like(z)
    for s in range(z.shape[0]):
        for t in range(z.shape[1]):
            variance = base
            for w in widths:
                total = 0.0
                for i in range(max(t - w, 0), t):
                    total += out[s, i]
                variance += weight * total * total / w
            out[s, t] = np.sqrt(variance) * z[s, t]
    return out


def harch(
    shape: tuple[int, int], rng: np.random.Generator, *, widths: tuple[int, ...] = (1, 5, 20, 60), weight: float = 0.15,
    burn: int = 500,
) -> Floats:  # fmt: skip
    """HARCH returns of unit variance (Mueller et al. 1997): coarse volatility drives fine volatility."""
    z = rng.standard_normal((shape[0], shape[1] + burn))
    return np.asarray(_harch(z, np.array(widths), weight, 1 - weight * len(widths)))[:, burn:]


def hawkes_times(horizon: float, rng: np.random.Generator, *, rate: float, branching: float, decay: float) -> Floats:
    """Event times of a Hawkes process with an exponential kernel, made as clusters of offspring.

    Fano factor of counts in long bins: 1 / (1 - n)^2 for the branching ratio n.
    """
    parents = rng.uniform(0, horizon, rng.poisson(rate * (1 - branching) * horizon))
    found = [parents]
    while len(parents):
        parents = np.repeat(parents, rng.poisson(branching, len(parents)))
        parents = parents + rng.exponential(1 / decay, len(parents))
        parents = parents[parents < horizon]
        found.append(parents)
    return np.sort(np.concatenate(found))


def u_shape(minutes: int, depth: float = 2.0) -> Floats:
    """Deviation over a trading day of that many minutes: high at both ends, mean square 1."""
    x = np.linspace(-1, 1, minutes)
    s = 1 + depth * x**4
    return np.asarray(s / np.sqrt(np.mean(s * s)))


def autoregressive(shape: tuple[int, int], rng: np.random.Generator, *, phi: float) -> Floats:
    """AR(1) returns: rho(k) = phi^k."""
    from scipy.signal import lfilter

    return np.asarray(lfilter([1.0], [1.0, -phi], rng.standard_normal(shape), axis=-1))


def block_volatility(shape: tuple[int, int], rng: np.random.Generator, *, block: int, spread: float = 0.5) -> Floats:
    """Gaussian returns whose volatility is constant in blocks, exp(spread Z) from one to the next.

    Pooled they have heavy tails and clustering; within a block they have neither.
    """
    blocks = -(-shape[1] // block)
    scale = np.exp(spread * rng.standard_normal((shape[0], blocks)))
    return np.asarray(np.repeat(scale, block, axis=1)[:, : shape[1]] * rng.standard_normal(shape))


def long_memory(shape: tuple[int, int], rng: np.random.Generator, *, beta: float = 0.3, spread: float = 0.6) -> Floats:
    """Returns exp(spread G) Z with Gaussian G of autocorrelation (1 + k)^-beta: |r| decays as a power law of beta.

    G is made exactly, by circulant embedding (the autocorrelation is convex, so the embedding is positive).
    """
    length = shape[1]
    lags = np.arange(length + 1, dtype=np.float64)
    first = (1 + lags) ** -beta
    spectrum = np.fft.rfft(np.concatenate([first, first[-2:0:-1]])).real.clip(min=0)
    noise = rng.standard_normal((shape[0], 2 * length))
    g = np.fft.irfft(np.sqrt(spectrum) * np.fft.rfft(noise, axis=-1), n=2 * length, axis=-1)[:, :length]
    return np.asarray(np.exp(spread * g) * rng.standard_normal(shape))


def skewed(shape: tuple[int, int], rng: np.random.Generator, *, gamma_shape: float = 4.0) -> Floats:
    """Independent returns of unit variance, minus a centred gamma variable: skewness -2 / sqrt(gamma_shape)."""
    return np.asarray((gamma_shape - rng.gamma(gamma_shape, size=shape)) / np.sqrt(gamma_shape))


def clustered_extremes(shape: tuple[int, int], rng: np.random.Generator, *, branching: float = 0.7) -> Floats:
    """Gaussian returns, six times larger in minutes with an event of a Hawkes process (1.5% of the minutes)."""
    out = rng.standard_normal(shape)
    for row in out:
        times = hawkes_times(float(shape[1]), rng, rate=0.015, branching=branching, decay=0.2)
        row[np.unique(times.astype(np.int64))] *= 6
    return out


def mixture(shape: tuple[int, int], rng: np.random.Generator, *, memory: float = 0.95) -> tuple[Floats, Floats]:
    """Returns sqrt(G) Z and volume Poisson(50 G) with persistent lognormal G: volume goes with volatility."""
    g = np.exp(0.6 * np.sqrt(1 - memory**2) * autoregressive(shape, rng, phi=memory))
    return np.sqrt(g) * rng.standard_normal(shape), rng.poisson(50 * g).astype(np.float64)
