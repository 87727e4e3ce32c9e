"""exp, log, tanh and the normal quantile from + - * / and sqrt alone, so that they are the same everywhere.

IEEE 754 fixes the results of these five operations to the last bit; those of a C library's exp or log
it does not. What is computed with the functions below (compiled without fast-math, so that nothing is
fused or reordered) is bit-identical on every machine, which is what lets a content hash identify a
simulated data set.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

plain = njit(cache=True, _nrt=False, error_model="numpy", nogil=True)

_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.693147180369123816490  # the upper 32 bits of ln 2 ...
_LN2_LOW = 1.90821492927058770002e-10  # ... and the rest, so that k * ln 2 is exact in two parts
_POWERS = np.ones(513)
for _k in range(256):  # exact: 2^-256 .. 2^256
    _POWERS[257 + _k], _POWERS[255 - _k] = _POWERS[256 + _k] * 2.0, _POWERS[256 - _k] * 0.5
_HALVINGS = ((4294967296.0, 32), (65536.0, 16), (256.0, 8), (16.0, 4), (4.0, 2), (2.0, 1))
_SQRT2 = 1.4142135623730951
_EXP_TERMS = tuple(1.0 / math.factorial(k) for k in range(14))


@plain
def exp(x):
    """e^x, relative error below 3e-16 for \\|x\\| <= 170; beyond, the value at that end."""
    x = min(max(x, -170.0), 170.0)
    k = np.int64(np.floor(x * _LOG2_E + 0.5))
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    total = _EXP_TERMS[13]
    for n in range(12, -1, -1):
        total = total * r + _EXP_TERMS[n]
    return total * _POWERS[k + 256]


@plain
def log(x):
    """Natural logarithm of a positive x in [2^-63, 2^63], absolute error below 3e-16 near 1."""
    k = 0
    if x < 1.0:
        for power, bits in _HALVINGS:
            if x * power <= 1.0:
                x *= power
                k -= bits
    else:
        for power, bits in _HALVINGS:
            if x >= power:
                x /= power
                k += bits
    # x in (1/2, 2): bring it around 1
    if x > _SQRT2:
        x *= 0.5
        k += 1
    elif x * _SQRT2 < 1.0:
        x *= 2.0
        k -= 1
    s = (x - 1.0) / (x + 1.0)
    q = s * s
    total = 0.0
    for n in range(21, 1, -2):
        total = (total + 1.0 / n) * q
    return k * _LN2_HIGH + (k * _LN2_LOW + 2.0 * s * (1.0 + total))


@plain
def tanh(x):
    """Hyperbolic tangent."""
    if x < 0.0:
        return -tanh_positive(-x)
    return tanh_positive(x)


@plain
def tanh_positive(x):
    """Hyperbolic tangent of x >= 0."""
    if x > 20.0:
        return 1.0
    return 1.0 - 2.0 / (exp(2.0 * x) + 1.0)


@plain
def power(x, exponent):
    """x^exponent for positive x."""
    return exp(exponent * log(x))


@plain
def _ratio(r, top, bottom):
    over, under = 0.0, 0.0
    for k in range(7, -1, -1):
        over = over * r + top[k]
        under = under * r + bottom[k]
    return over / under


# Wichura (1988), algorithm AS 241, PPND16: coefficients for the centre and for the tails.
_A = (
    3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
    4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3,
)  # fmt: skip
_B = (
    1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
    2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3,
)  # fmt: skip
_C = (
    1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
    1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4,
)  # fmt: skip
_D = (
    1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
    1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9,
)  # fmt: skip


@plain
def normal_quantile(u):
    """Inverse of the standard normal distribution function, for u in [1e-10, 1 - 1e-10]."""
    q = u - 0.5
    if abs(q) <= 0.425:
        return q * _ratio(0.180625 - q * q, _A, _B)
    tail = u if q < 0.0 else 1.0 - u
    value = _ratio(np.sqrt(-log(tail)) - 1.6, _C, _D)
    return -value if q < 0.0 else value
