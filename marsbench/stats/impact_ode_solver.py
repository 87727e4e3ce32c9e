"""The learned ODE the paper's way: a numerical solver, and weights by gradients through it. A check, not the estimator.

With the same penalty the weights must be those of the closed form (``impact_ode.fit``) to .01, which they are not
with Adam: it was measured to be off by .67 after 400 steps, because decay functions of the paper are correlated to
.99. Here W is split into its positive and its negative part, which makes |W|_1 smooth, and both are found by L-BFGS
within bounds. Gradients go through Runge-Kutta steps of fixed length, whose solution is linear in W; the adaptive
``dopri5`` chooses its steps by the state, and in that noise line searches were seen to fail. Needs torchdiffeq,
which is no dependency of the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.impact_decays import PAPER, Decay
from marsbench.stats.impact_ode import LearnedOde, Trajectories, fit

Floats = NDArray[np.float64]

STEP = 0.25
"""Minutes, of fixed steps."""
TOLERANCE = 1e-7
"""Relative, of adaptive steps; a hundredth of it absolute."""


def solve(ode: LearnedOde, factors: Floats, start: Floats, times: Floats, *, method: str = "dopri5") -> Floats:
    """``[N, T]``: as ``LearnedOde.paths``, by torchdiffeq's solver ``method``."""
    import torch

    drive = torch.as_tensor(ode.standardised(factors) @ ode.weights)
    return np.asarray(_integrate(drive, torch.as_tensor(np.asarray(start)), times, ode.decays, method).numpy())


def fit_by_solver(
    data: Trajectories,
    *,
    penalty: float,
    decays: Mapping[str, Decay] = PAPER,
    centre: bool = True,
    constant: bool = True,
    method: str = "rk4",
) -> LearnedOde:
    """As ``impact_ode.fit`` with this penalty, by minimising the loss of the solver's trajectories.

    Raises
    ------
    ModuleNotFoundError
        Without torchdiffeq.
    RuntimeError
        Where the minimiser does not converge.
    """
    import torch
    from scipy.optimize import minimize

    ode = fit(data, decays=decays, penalty=0.0, centre=centre, constant=constant)  # for its standardisation
    z = torch.as_tensor(ode.standardised(data.factors))
    aim, start = torch.as_tensor(data.paths), torch.as_tensor(data.paths[:, 0])
    shape = ode.weights.shape

    def loss(parts: Floats) -> tuple[float, Floats]:
        both = torch.tensor(parts.reshape(2, *shape), requires_grad=True)
        found = _integrate(z @ (both[0] - both[1]), start, data.times, ode.decays, method)
        total = ((found - aim)[:, 1:] ** 2).mean() + penalty * both.sum()
        total.backward()
        assert both.grad is not None
        return float(total.detach()), both.grad.numpy().ravel()

    size = 2 * ode.weights.size
    options: Any = {"maxiter": 1000, "ftol": 0.0, "gtol": 1e-7}
    done = minimize(loss, np.zeros(size), jac=True, method="L-BFGS-B", bounds=[(0, None)] * size, options=options)
    if not done.success:
        raise RuntimeError(f"gradients through the solver do not converge: {done.message}")
    positive, negative = done.x.reshape(2, *shape)
    return replace(ode, weights=positive - negative, penalty=penalty)


def _integrate(drive: Any, start: Any, times: Floats, decays: tuple[Decay, ...], method: str) -> Any:
    """``[N, T]`` from ``drive`` ``[N, n]`` (factors times weights), differentiable."""
    import torch
    from torchdiffeq import odeint

    def rate(t: Any, state: Any) -> Any:
        return drive @ torch.tensor([float(d.rate(float(t.detach()))) for d in decays], dtype=torch.float64)

    options = None if method == "dopri5" else {"step_size": STEP}
    at = torch.as_tensor(times)
    return odeint(rate, start, at, method=method, rtol=TOLERANCE, atol=TOLERANCE / 100, options=options).T
