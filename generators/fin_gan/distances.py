"""How far made series lie from real ones: what weights are chosen by, and what a card says of them."""

from __future__ import annotations

import torch
from torch import Tensor

from marsbench.learning.adversarial import mode_coverage

LEVELS = 400
"""Quantiles that the distance of returns is taken over."""
LAGS, ABSOLUTE_LAGS = 5, 20
"""Minutes up to which autocorrelations of returns and of their size are compared."""
KURTOSIS_WEIGHT = 0.1
MODES = 20
"""Classes of returns that coverage is counted over, equally likely in real data."""
VOLATILITY_MODES = 10
"""The same for the volatility of whole windows."""
MOST = 8.0
"""Standard deviations beyond which the kurtosis does not look."""


def autocorrelation(series: Tensor, lags: int) -> Tensor:
    """Autocorrelation at lags 1, 2, ... of series ``[n, length]`` with a common mean and variance, ``[lags]``."""
    x = series.double() - series.double().mean()
    variance = (x * x).mean().clamp_min(1e-12)
    return torch.stack([(x[:, k:] * x[:, :-k]).mean() for k in range(1, lags + 1)]) / variance


def kurtosis(series: Tensor) -> Tensor:
    """Excess kurtosis of all values, cut at ``MOST`` standard deviations."""
    x = series.double().flatten()
    x = ((x - x.mean()) / x.std().clamp_min(1e-12)).clamp(-MOST, MOST)
    return (x**4).mean() / (x**2).mean() ** 2 - 3


def distances(made: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Distances between series ``[n, length]`` and ``[m, length]``, by name; 0 is alike.

    ``returns``: Wasserstein's first distance of the distribution of returns, in real standard deviations.
    ``autocorrelation``: mean absolute difference of that of returns at lags 1 to 5. ``clustering``: the same of that
    of absolute returns at lags 1 to 20. ``kurtosis``: a tenth of the difference of asinh excess kurtosis.
    """
    most = real.shape[1] // 2
    levels = (torch.arange(LEVELS, dtype=torch.float64, device=real.device) + 0.5) / LEVELS
    a, b = (torch.quantile(x.double().flatten()[: 2**24], levels) for x in (made, real))
    found = {
        "returns": (a - b).abs().mean() / real.double().std().clamp_min(1e-12),
        "autocorrelation": _apart(made, real, min(LAGS, most)),
        "clustering": _apart(made.abs(), real.abs(), min(ABSOLUTE_LAGS, most)),
        "kurtosis": KURTOSIS_WEIGHT * (torch.asinh(kurtosis(made)) - torch.asinh(kurtosis(real))).abs(),
    }
    return {name: value.float() for name, value in found.items()}


def _apart(made: Tensor, real: Tensor, lags: int) -> Tensor:
    return (autocorrelation(made, lags) - autocorrelation(real, lags)).abs().mean()


def coverage(made: Tensor, real: Tensor) -> dict[str, float]:
    """Share of real returns, and of windows by their volatility, in classes that are made at least a quarter as often
    as they are real (``mode_coverage``): 1 is all, and less says which part of the data is never made."""
    own, other = (x.double().pow(2).mean(dim=1).sqrt() for x in (made, real))
    return {
        "returns": _covered(made.flatten(), real.flatten(), MODES),
        "volatility": _covered(own, other, VOLATILITY_MODES),
    }


def _covered(made: Tensor, real: Tensor, classes: int) -> float:
    edges = torch.quantile(real.double(), torch.linspace(0, 1, classes + 1, dtype=torch.float64)[1:-1])
    a, b = (torch.bucketize(x.double(), edges) for x in (made, real))
    return mode_coverage(a, b, classes)
