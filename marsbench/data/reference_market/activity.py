"""The hidden clock: once a second activity, fundamental value, news and metaorder arrivals move on."""

from __future__ import annotations

import numpy as np

from marsbench.data.reference_market.portable_math import exp, log, normal_quantile, plain, power, tanh
from marsbench.data.reference_market.state import RING, SLOTS
from marsbench.simulation.randomness import philox

# Purposes of random numbers; arrivals use their stream's number, 0 to 3.
METAORDER_ARRIVAL, WAVES, VALUE, CHILD, CANCEL, AUCTION, CLOSE, NIGHT, ARRIVAL, TRADE, THINK, ANEW = range(8, 20)

SECONDS = 14_400.0
"""Seconds of a trading day that daily numbers refer to."""
_UNIT = 1.0 / 4294967296.0


@plain
def draw(s, purpose, index):
    """Four uniforms in (0, 1) that belong to (market, purpose, index)."""
    a, b, c, d = philox(index, purpose, s.rollout, s.start, s.key & 0xFFFFFFFF, (s.key >> 32) & 0xFFFFFFFF)
    return (float(a) + 0.5) * _UNIT, (float(b) + 0.5) * _UNIT, (float(c) + 0.5) * _UNIT, (float(d) + 0.5) * _UNIT


@plain
def wait(s, purpose, index):
    """A unit exponential draw."""
    u, _, _, _ = draw(s, purpose, index)
    return -log(u)


@plain
def _student(u1, u2, u3, u4):
    """Student t(3) variable cut at +-3."""
    z, a, b, c = normal_quantile(u1), normal_quantile(u2), normal_quantile(u3), normal_quantile(u4)
    value = z / np.sqrt((a * a + b * b + c * c) / 3.0)
    return min(max(value, -3.0), 3.0)


@plain
def _waves(s, c):
    """Move the slow components of activity on by a second; returns the exponential of their sum, mean 1."""
    u = draw(s, WAVES, s.second)
    level = 0.0
    for k in range(4):
        s.waves[k] = s.waves[k] * c.wave_keep[k] + c.wave_kick[k] * normal_quantile(u[k])
        level += c.wave_weights[k] * s.waves[k] - 0.5 * c.wave_weights[k] * c.wave_weights[k]
    return exp(level)


@plain
def _coarse(s, c, mids, base, shape):
    """Response to coarse price moves: mean sum of the weights, whatever the level of volatility."""
    total = 0.0
    for k in range(4):
        seconds = np.int64(c.coarse_minutes[k] * 60.0)
        if s.second < seconds:
            total += c.coarse_weights[k]
            continue
        move = s.mid - 0.5 * mids[base + (s.second - seconds) % RING]
        ratio = min(move * move / (shape * s.norm[k]), c.coarse_cap)
        total += c.coarse_weights[k] * ratio
        s.norm[k] += (ratio - 1.0) * s.norm[k] / (60.0 * c.coarse_memory)
    return total


@plain
def _news(s, c, u_arrival, jump, unit, shape):
    """Open and close the window in which traders react to news."""
    if s.news_left > 0.0:
        s.news_left -= 1.0
        gap = s.value - s.mid
        if abs(gap) < 0.3 * abs(s.news_jump) or gap * s.news_jump < 0.0:
            s.news_left = 0.0
    elif u_arrival < c.news_per_day * shape / SECONDS:
        s.news_jump = jump
        s.value += jump
        s.news_left = c.news_seconds
        s.excitement += c.news_excitement * min(abs(jump) / unit, 5.0)


@plain
def signal(s, c):
    """Distance of the fundamental value from the price: 1 is ``anchor_width`` of the price."""
    return (s.value - s.mid) / (c.anchor_width * s.day_ticks)


@plain
def _metaorder(s, p, c, metaorders, base):
    """Perhaps a trader arrives with a large order to work off."""
    u, u_side, u_size, u_style = draw(s, METAORDER_ARRIVAL, s.second)
    if u >= p.metaorders * s.activity / SECONDS:
        return
    for k in range(base, base + SLOTS):
        if metaorders[k].id == 0:
            buys = u_side < 0.5 + 0.5 * tanh(c.metaorder_lean * signal(s, c))
            low, high = power(p.smallest_lots, -c.metaorder_exponent), power(p.largest_lots, -c.metaorder_exponent)
            target = power(low - u_size * (low - high), -1.0 / c.metaorder_exponent)
            share = c.participation * exp(c.participation_spread * normal_quantile(u_style))
            share = min(share * power(target / p.smallest_lots, c.participation_slope), c.participation_cap)
            mean_size = 1.0 + 0.85 * p.size_scale / (p.size_exponent - 1.0)
            m = metaorders[k]
            m.id = 1 + s.second
            m.side = 1 if buys else 0
            m.target = np.floor(target)
            m.rate = share * p.daily_lots / (SECONDS / 60.0 * mean_size)
            m.children = 0
            m.executed = 0
            m.fills = 0
            m.start_ns = 0
            m.end_ns = 0
            m.left = wait(s, CHILD, m.id << 16)
            return


@plain
def tick(s, p, c, metaorders, first_slot, mids, first_mid):
    """One second of the hidden clock is over. ``s.mid`` is the mid price of now."""
    minute = min(s.second // 60, 239)
    shape = c.shape[minute]
    mids[first_mid + s.second % RING] = np.int32(2.0 * s.mid)
    level = _waves(s, c)
    coarse = _coarse(s, c, mids, first_mid, shape)
    baseline = (1.0 - c.branching) * level * (1.0 - _total(c.coarse_weights) + coarse)
    s.relative = min(c.activity_cap / np.sqrt(shape), baseline + s.excitement)
    s.activity = p.speed * shape * s.relative
    s.excitement *= c.excitement_keep
    u_value, u_news, u1, u2 = draw(s, VALUE, 2 * s.second)
    u3, u4, _, _ = draw(s, VALUE, 2 * s.second + 1)
    sd = p.fundamental_daily * s.day_ticks * np.sqrt(s.activity / SECONDS)
    s.value += sd * normal_quantile(u_value)
    unit = c.news_scale * p.fundamental_daily * s.day_ticks
    _news(s, c, u_news, unit * np.sqrt(shape) * _student(u1, u2, u3, u4), unit, shape)
    _metaorder(s, p, c, metaorders, first_slot)
    s.trend = 0.0
    if s.second >= 300:
        move = s.mid - 0.5 * mids[first_mid + (s.second - 300) % RING]
        s.trend = move / (p.minute_ticks * np.sqrt(5.0 * s.activity))
    s.second += 1
    s.thoughts = 0


@plain
def _total(weights):
    out = 0.0
    for k in range(4):
        out += weights[k]
    return out


@plain
def _known(p, lots):
    """Impact of a net purchase in the public's mind, by the square root of its size."""
    root = np.sqrt(abs(lots) / p.daily_lots)
    return root if lots >= 0.0 else -root


@plain
def learn(s, p, c, before_lots, after_lots):
    """Executions of a large trader (net purchase so far) move the fundamental value: the permanent part of impact."""
    change = _known(p, after_lots) - _known(p, before_lots)
    s.value += c.learning * p.fundamental_daily * s.day_ticks * change


@plain
def excite(s, p, c, side):
    """A market order excites others, and traders remember its side."""
    s.excitement += c.branching / (c.excitement_seconds * (p.noise_rate + 40.0) / 60.0)
    s.last_side = side
