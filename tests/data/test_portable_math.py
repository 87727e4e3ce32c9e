"""exp, log, tanh and the normal quantile from five operations: right to the last digits, the same everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtri

from marsbench.data.reference_market import portable_math as pm


def test_exp_and_log_are_right_to_a_few_units_in_the_last_place() -> None:
    draws = np.random.default_rng(0)
    for x in draws.uniform(-100, 100, 2000):
        assert pm.exp(x) == pytest.approx(math.exp(x), rel=1e-15)
    for x in np.exp(draws.uniform(-40, 40, 2000)):
        assert pm.log(x) == pytest.approx(math.log(x), rel=1e-15, abs=3e-16)
    assert pm.exp(0.0) == 1.0
    assert pm.log(1.0) == 0.0


def test_tanh_and_powers_follow() -> None:
    for x in np.linspace(-25, 25, 501):
        assert pm.tanh(x) == pytest.approx(math.tanh(x), abs=3e-16)
    assert pm.power(2.0, 10.0) == pytest.approx(1024.0, rel=1e-14)


def test_the_normal_quantile_is_right_far_into_the_tails() -> None:
    tails = 10.0 ** -np.linspace(1, 9.9, 50)
    for u in [*np.linspace(0.001, 0.999, 999), *tails, *(1 - tails)]:
        assert pm.normal_quantile(u) == pytest.approx(ndtri(u), rel=1e-9, abs=1e-14)


def test_the_bits_of_some_values_are_those_that_every_machine_gives() -> None:
    values = [pm.exp(1.0), pm.exp(-0.3), pm.log(10.0), pm.log(1e-9), pm.normal_quantile(0.975), pm.tanh(0.7)]
    assert [v.hex() for v in values] == HEX


HEX = [
    "0x1.5bf0a8b14576ap+1",
    "0x1.7b4c869c37c05p-1",
    "0x1.26bb1bbb55516p+1",
    "-0x1.4b927f32bffb8p+4",
    "0x1.f5c0331eeff82p+0",
    "0x1.356fb17af2e91p-1",
]
"""Committed bits: a change of any of them changes the reference market."""
