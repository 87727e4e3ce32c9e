"""What the traders send: limit orders around the touch and far from it, market orders, slices of metaorders."""

from __future__ import annotations

import numpy as np

from marsbench.data.reference_market.activity import CHILD, TRADE, draw, signal
from marsbench.data.reference_market.portable_math import log, plain, power, tanh
from marsbench.data.reference_market.state import NEAR, PATIENT
from marsbench.market.orders import Flag

IOC = int(Flag.IOC)
LOT = 100


@plain
def lots(p, u):
    """Order size: a cut power law on whole lots."""
    return np.int64(min(1.0 + np.floor(p.size_scale * (power(u, -1.0 / p.size_exponent) - 1.0)), p.size_cap))


@plain
def distance(p, u):
    """Distance behind the own best price in ticks, 1 or more."""
    return np.int64(
        min(1.0 + np.floor(p.distance_scale * (power(u, -1.0 / p.distance_exponent) - 1.0)), p.distance_cap)
    )


@plain
def rounded(p, price, u):
    """Some traders prefer round prices."""
    if u < p.round_hundreds:
        return (price + 50) // 100 * 100
    if u < p.round_hundreds + p.round_tens:
        return (price + 5) // 10 * 10
    return price


@plain
def near_limit(s, p, c, index, bid, ask):
    """A limit order around the touch: inside the spread, at the best price, or behind it."""
    u_side, u_in, u_how, u_far = draw(s, 0, 2 * index)
    u_size, u_touch, u_round, u_step = draw(s, 0, 2 * index + 1)
    if s.news_left > 0.0:
        buys = (u_side < 0.9) == (s.news_jump > 0.0)
    else:
        buys = u_side < 0.5 + 0.5 * tanh(c.limit_lean * tanh(c.anchor_slope * signal(s, c)))
    own, sign = (bid, 1) if buys else (ask, -1)
    spread = ask - bid
    s.kind, s.size, s.flags, s.id, s.group = (1 if buys else 0), lots(p, u_size) * LOT, 0, 0, NEAR
    if spread > 1 and u_in < p.inside_share * min(1.0, (spread - 1) / p.wide_spread):
        step = 1
        if u_how >= 1.0 - p.closing_share:
            step = spread - 1
        elif u_how >= 0.5:
            step = 1 + np.int64(u_step * (spread - 1))
        elif p.wide_spread > 8.0:
            step = 1 + np.int64(min(-log(u_step) * p.wide_spread / 8.0, spread - 2.0))
        s.price = own + sign * step
    elif u_touch < p.touch_share:
        s.price = own
    else:
        ticks = distance(p, u_far)
        s.price = rounded(p, own - sign * ticks, u_round)
        if ticks > p.near_distance:
            s.group = PATIENT


@plain
def patient_limit(s, p, c, index, bid, ask):
    """A limit order anywhere in the book."""
    u_side, u_far, u_size, u_round = draw(s, 1, index)
    buys = u_side < 0.5 + 0.5 * tanh(c.limit_lean * tanh(c.anchor_slope * signal(s, c)))
    own, sign = (bid, 1) if buys else (ask, -1)
    s.kind, s.size, s.flags, s.id, s.group = (1 if buys else 0), lots(p, u_size) * LOT, 0, 0, PATIENT
    s.price = own - sign * np.int64(u_far * p.book_width)
    if s.price != own:
        s.price = rounded(p, s.price, u_round)


@plain
def _market(s, p, buys, size, u_style, u_walk, bid, ask, rests):
    """A market order: at the best price only, or with a limit a little deeper."""
    best, sign = (ask, 1) if buys else (bid, -1)
    s.kind, s.size, s.id, s.group = (1 if buys else 0), size, 0, NEAR
    if u_style < p.touch_taker_share:
        s.price, s.flags = best, IOC
    else:
        s.price, s.flags = best + sign * np.int64(1.0 + u_walk * p.walk), (0 if rests else IOC)


@plain
def noise_market(s, p, c, index, bid, ask):
    """A market order that follows the signal, the trend, or the one before."""
    u_repeat, u_side, u_size, u_style = draw(s, 2, index)
    u_walk, _, _, _ = draw(s, TRADE, index)
    if s.last_side >= 0 and u_repeat < p.repeat_share:
        buys = s.last_side == 1
    else:
        lean = c.market_lean * tanh(c.anchor_slope * signal(s, c)) + c.trend_lean * s.trend
        buys = u_side < 0.5 + 0.5 * tanh(lean)
    _market(s, p, buys, lots(p, u_size) * LOT, u_style, u_walk, bid, ask, True)


@plain
def news_market(s, p, index, bid, ask):
    """A market order in the direction of the news."""
    u_size, u_style, u_walk, _ = draw(s, 3, index)
    _market(s, p, s.news_jump > 0.0, lots(p, u_size) * LOT, u_style, u_walk, bid, ask, True)


@plain
def child(s, p, m, bid, ask):
    """The next slice of a metaorder; what does not trade at once goes back to its trader."""
    u_size, u_style, u_walk, _ = draw(s, CHILD, (m.id << 16) + 1 + 2 * m.children)
    size = min(lots(p, u_size), max(np.int64(m.target) - m.executed // LOT, 1))
    _market(s, p, m.side == 1, size * LOT, u_style, u_walk, bid, ask, False)
