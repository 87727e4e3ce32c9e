"""Decay functions of the learned ODE of market impact, with their integrals: a dictionary that anybody may extend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Decay:
    """A decay function of time in minutes, and its integral, both of arrays of times."""

    name: str
    rate: Callable[[Any], Any]
    """F(t)."""
    integral: Callable[[Any], Any]
    """G(t) with dG/dt = F; only differences of it count."""


def power(exponent: float, name: str | None = None) -> Decay:
    """t^-exponent."""
    return Decay(name or f"t^-{exponent:g}", partial(_power, -exponent), partial(_power_integral, -exponent))


def exponential(rate: float) -> Decay:
    """exp(-rate t), the rate per minute.

    Raises
    ------
    ValueError
        For a rate that is not positive.
    """
    if not rate > 0:
        raise ValueError(f"rate {rate} of an exponential decay: must be positive; rate 0 is the decay 'constant'")
    name = "exp(-t)" if rate == 1 else f"exp(-{rate:g} t)"
    return Decay(name, partial(_exponential, -rate, 1.0), partial(_exponential, -rate, -1 / rate))


def _power(exponent: float, t: Any) -> Any:
    return np.asarray(t, np.float64) ** exponent


def _power_integral(exponent: float, t: Any) -> Any:
    return np.log(t) if exponent == -1 else np.asarray(t, np.float64) ** (exponent + 1) / (exponent + 1)


def _exponential(rate: float, factor: float, t: Any) -> Any:
    return factor * np.exp(rate * np.asarray(t))


DECAYS: Mapping[str, Decay] = {
    d.name: d for d in (power(1.0, "1/t"), power(0.5, "1/sqrt(t)"), exponential(1.0), power(0.0, "constant"))
}
PAPER: Mapping[str, Decay] = {name: DECAYS[name] for name in ("1/t", "1/sqrt(t)")}
"""The decay functions of the paper."""


def basis(times: Floats, decays: Sequence[Decay]) -> Floats:
    """``[T, n]``: G_j(t) - G_j(t0)."""
    values = np.stack([np.broadcast_to(d.integral(times), np.shape(times)) for d in decays], axis=1)
    return np.asarray(values - values[0])
