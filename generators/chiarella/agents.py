"""What one agent wants: expectation, demand under constant absolute risk aversion, prices between which it quotes.

Names follow Chiarella, Iori and Perello (2009), section 2. Prices in ticks, stock in shares, cash in ticks times
shares; ``risk`` is the product of an agent's risk aversion and the variance it expects, per tick and share.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .model import Behaviour

Floats = NDArray[np.float64]

MOST_RATIO = 16.0
"""Horizons and risk aversions lie within this factor of their reference levels."""
MOST_VARIANCE = 4.0
"""The variance that an agent expects lies within this factor of that of training."""
MOST_RETURN = 0.2
"""Largest logarithmic return that an agent expects over its horizon."""
_NEWTON = 40

# The draws of one agent, uniforms in (0, 1).
G1, G2, NOISE, SHOCK, ANGLE, STOCK, CASH, PRICE, WEALTH, DRAWS = range(10)


@njit(cache=True)
def ratio_of(g1, g2):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """``(1 + g1) / (1 + g2)``: horizon over its reference level, and risk aversion over its own; bounded."""
    return min(max((1.0 + g1) / (1.0 + g2), 1.0 / MOST_RATIO), MOST_RATIO)


@njit(cache=True)
def expected_return(g1, g2, n, gap, trend, shock):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Logarithmic return over the horizon that an agent expects: the weighted mean of its three components.

    Parameters
    ----------
    gap
        ln(fundamental value / price).
    trend
        Mean past return times the horizon.
    shock
        The noise component times the horizon.
    """
    total = g1 + g2 + n
    if total <= 0.0:
        return 0.0
    return min(max((g1 * gap + g2 * trend + n * shock) / total, -MOST_RETURN), MOST_RETURN)


@njit(cache=True)
def demand(price, expected, risk):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Shares that an agent wants to hold at a price: ``ln(expected / price) / (risk price)``."""
    return math.log(expected / price) / (risk * price)


@njit(cache=True)
def _fall(load, constant):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """The root d >= 0 of ``d = load exp(-d) + constant``: Newton's method from 0 comes up from below."""
    d = 0.0
    for _ in range(_NEWTON):
        pull = load * math.exp(-d)
        step = (pull + constant - d) / (1.0 + pull)
        d += step
        if step < 1e-13 * (1.0 + d):
            break
    return d


@njit(cache=True)
def satisfied_price(expected, risk, stock):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """p*, at which demand equals what the agent holds."""
    return expected * math.exp(-_fall(risk * stock * expected, 0.0))


@njit(cache=True)
def lowest_price(expected, risk, stock, cash):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """p_m, at which buying what the agent wants to hold takes all its cash."""
    return expected * math.exp(-_fall(risk * stock * expected, risk * cash))


@njit(cache=True)
def order_of(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    draws, mid, ask, bid, gap, trends, variances, noise, spread, sigma, taus, wealth, out
):  # fmt: skip
    """One agent's order: ``out`` is side (0 ask, 1 bid), price in ticks and size in shares, neither rounded.

    Parameters
    ----------
    draws
        ``[DRAWS]`` uniforms.
    mid, ask, bid
        Quotes in ticks.
    trends, variances
        ``[K]``: log mid over its moving average, and variance over that of training, by memory.
    noise, spread
        Standard deviation of the noise component, and width of the quoting range of an agent with the reference risk
        aversion that holds one unit of wealth, both as logarithmic returns over the reference horizon.
    sigma
        ``[2]``: mean fundamentalist and chartist weight; that of noise is 1.
    taus
        ``[K]``: memories over the reference horizon.
    wealth
        Largest stock in shares.
    """
    g1, g2, n = -sigma[0] * math.log(draws[G1]), -sigma[1] * math.log(draws[G2]), -math.log(draws[NOISE])
    ratio = ratio_of(g1, g2)
    k = min(max(int(np.searchsorted(taus, ratio * 0.7071067811865476)), 0), len(taus) - 1)
    normal = math.sqrt(-2.0 * math.log(draws[SHOCK])) * math.cos(2.0 * math.pi * draws[ANGLE])
    x = expected_return(g1, g2, n, gap, trends[k], noise * ratio * normal)
    heat = min(max(variances[k], 1.0 / MOST_VARIANCE), MOST_VARIANCE)
    stock, cash = wealth * draws[STOCK], wealth * mid * draws[CASH]
    risk = spread * ratio * heat / (wealth * mid)
    highest = mid * math.exp(x + 0.5 * risk * (stock * mid + cash))
    lowest = lowest_price(highest, risk, stock, cash)
    own = satisfied_price(highest, risk, stock)
    price = lowest + draws[PRICE] * (highest - lowest)
    out[1] = price
    if price < own:
        met = min(price, ask)
        out[0] = 1.0
        out[2] = min(demand(met, highest, risk) - stock, cash / met)
    else:
        out[0] = 0.0
        out[2] = min(stock - demand(max(price, bid), highest, risk), stock)


@njit(cache=True)
def _mean_size(draws, half, noise, spread, sigma, taus):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    total, out, still, usual, mid = 0.0, np.empty(3), np.zeros(len(taus)), np.ones(len(taus)), 1e6
    ask, bid = mid * math.exp(half), mid * math.exp(-half)
    for one in draws:
        order_of(one, mid, ask, bid, 0.0, still, usual, noise, spread, sigma, taus, 1.0, out)
        total += out[2]
    return total / len(draws)


def mean_size_per_wealth(behaviour: Behaviour, half_spread: float, memories: Floats) -> float:
    """Mean size of an order over the agent's largest stock, in a market without a past.

    Parameters
    ----------
    half_spread
        Of the quotes, as a logarithmic return.
    """
    draws = np.random.default_rng(2009).uniform(size=(4096, DRAWS))
    sigma = np.array([behaviour.sigma_1, behaviour.sigma_2])
    return float(_mean_size(draws, half_spread, behaviour.noise, behaviour.spread, sigma, memories))
