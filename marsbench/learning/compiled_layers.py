"""Layers of small networks, compiled without torch, for the steps of rollouts.

For a few rows much of a step of torch's is the calls of its many small operations. Here a whole part of a network is
one call, with BLAS for its products. Equal up to rounding. Weights are laid out as torch's, ``[out, in]``; all of it is
single precision.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  numba's products; here before anybody limits the threads of BLAS
from numba import njit

_F = np.float32
_LOG2_E, _LN2_HIGH, _LN2_LOW = _F(1.44269504), _F(0.693359375), _F(-2.12194440e-4)
_MOST = _F(87.0)
"""exp of more, up or down, does not fit into single precision."""


@njit(cache=True, error_model="numpy")
def exponential(x):  # type: ignore[no-untyped-def]
    """``[d]``, in place; unlike the library's it is computed for many numbers at once.

    exp(z) = 2^k exp(r) with whole k and |r| at most log(2) / 2; the polynomial for exp(r) is that of Cephes (expf).
    """
    power = np.empty(len(x), np.int32)
    scale = power.view(np.float32)
    for j in range(len(x)):
        z = min(max(x[j], -_MOST), _MOST)
        k = np.floor(z * _LOG2_E + _F(0.5))
        r = z - k * _LN2_HIGH - k * _LN2_LOW
        p = _F(1.9875691500e-4)
        p = p * r + _F(1.3981999507e-3)
        p = p * r + _F(8.3334519073e-3)
        p = p * r + _F(4.1665795894e-2)
        p = p * r + _F(1.6666665459e-1)
        p = p * r + _F(5.0000001201e-1)
        x[j] = p * r * r + r + _F(1)
        power[j] = (np.int32(k) + np.int32(127)) << np.int32(23)
    for j in range(len(x)):
        x[j] *= scale[j]


@njit(cache=True, error_model="numpy")
def sigmoid(x):  # type: ignore[no-untyped-def]
    """``[n, d]``."""
    out = np.empty(x.shape, np.float32)
    for i in range(x.shape[0]):
        own = out[i]
        for j in range(x.shape[1]):
            own[j] = -x[i, j]
        exponential(own)
        for j in range(x.shape[1]):
            own[j] = _F(1) / (_F(1) + own[j])
    return out


@njit(cache=True)
def linear(x, weight, bias):  # type: ignore[no-untyped-def]
    """``[n, out]``."""
    out = np.dot(x, weight.T)
    out += bias
    return out


@njit(cache=True)
def two_layers(x, inner, inner_bias, outer, outer_bias):  # type: ignore[no-untyped-def]
    """A linear layer, SiLU, and another linear layer."""
    hidden = linear(x, inner, inner_bias)
    hidden *= sigmoid(hidden)
    return linear(hidden, outer, outer_bias)


@njit(cache=True)
def rms_norm(x, weight, eps):  # type: ignore[no-untyped-def]
    """x / sqrt(mean(x^2) + eps) times a weight, in place."""
    for i in range(x.shape[0]):
        total = _F(0)
        for j in range(x.shape[1]):
            total += x[i, j] * x[i, j]
        scale = _F(1) / np.sqrt(total / _F(x.shape[1]) + _F(eps))
        for j in range(x.shape[1]):
            x[i, j] *= scale * weight[j]


@njit(cache=True)
def lstm(x, rows, h, c, given, kept, bias):  # type: ignore[no-untyped-def]
    """One step of a layer for some rows of its states ``[R, d]``, which it moves on; returns ``[k, d]``, the new h.

    Parameters
    ----------
    given, kept
        Weights ``[4 d, in]`` on what comes in and ``[4 d, d]`` on h: input, forget, cell and output gates.
    bias
        ``[4 d]``, the sum of both.
    """
    d = h.shape[1]
    gates = linear(x, given, bias)
    before = np.empty((len(rows), d), np.float32)
    for i in range(len(rows)):
        before[i] = h[rows[i]]
    gates += np.dot(before, kept.T)
    for i in range(len(rows)):
        for j in range(2 * d, 3 * d):
            gates[i, j] *= _F(2)  # tanh(x) = 2 sigmoid(2 x) - 1
    gates = sigmoid(gates)
    cells = np.empty((len(rows), d), np.float32)
    for i in range(len(rows)):
        own, gate = c[rows[i]], gates[i]
        for j in range(d):
            own[j] = gate[d + j] * own[j] + gate[j] * (_F(2) * gate[2 * d + j] - _F(1))
            cells[i, j] = _F(2) * own[j]
    cells = sigmoid(cells)
    for i in range(len(rows)):
        for j in range(d):
            before[i, j] = gates[i, 3 * d + j] * (_F(2) * cells[i, j] - _F(1))
        h[rows[i]] = before[i]
    return before
