"""What is known about one instrument: how orders arrive and expire, and how its agents behave."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.market.clearing_house import ClearingHouse
from marsbench.market.flow import Action, Flow, order_flow
from marsbench.market.rules import SECOND
from marsbench.market.trajectory import Trajectory

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SAMPLE_NS = 10 * SECOND
"""How often the standing volume is measured for the cancellation rates."""
UNIT_BINS = 16
"""Cancellation rates are per tick up to here, then per bin that widens by a factor of 1.5."""
ATOMS = 1024
"""So many sizes are kept, evenly spaced among those of training."""
LEAST_SEASON = 0.05
"""Lowest activity of a time of day."""
LEAST_OF_EACH = 10


@dataclass(frozen=True)
class OrderFlow:
    """What is estimated directly. Rates are per second of average activity."""

    order_rate: float
    """New orders, both sides together."""
    sizes_shares: list[int]
    """``[ATOMS]``, ascending."""
    mean_size_shares: float
    cancel_edges_ticks: list[int]
    """J + 1 edges of distance from the opposite best."""
    cancel_rate: list[float]
    """J rates at which an order of average size at that distance is cancelled."""
    season_width_s: float
    season: list[float]
    """Activity by trading time of day, mean 1 over training."""
    step_variance: float
    """Mean squared logarithmic return of the mid over a step of ten seconds."""
    half_spread: float
    """Half the mean spread over the mid."""
    value_per_root_s: float
    """Volatility of the fundamental value: that of the mid over a window, per root second."""


@dataclass(frozen=True)
class Behaviour:
    """What the simulated moments decide."""

    noise: float
    """Standard deviation of the noise component over the reference horizon, a logarithmic return."""
    spread: float
    """Width of the range in which an agent of reference risk aversion and one unit of wealth quotes, likewise."""
    sigma_1: float
    """Mean fundamentalist weight; that of noise is 1."""
    sigma_2: float
    """Mean chartist weight."""
    tau_minutes: float
    """Reference horizon."""


NAMES = ("noise", "spread", "sigma_1", "sigma_2", "tau_minutes")


@dataclass(frozen=True)
class Model:
    """Everything that is known about one instrument."""

    flow: OrderFlow
    behaviour: Behaviour
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How the fit went: moments of training and simulated, their weights, J and the budget."""


def published(flow: OrderFlow) -> Behaviour:
    """The parameters of the paper's example in an instrument's units, its step being one arrival of an agent.

    There, as re-implementations quote it, tau = 200 steps, sigma_eps = 1e-4, alpha = 0.1, a largest stock of N_S = 50
    and cash of 50 x 300, a fundamental value with a volatility of 1e-3 per step, sigma_1 = 10, sigma_2 = 1.2 and
    sigma_n = 1. So the noise component is 200 x 1e-4 = 20 volatilities of a step, and the range 0.1 x 1e-6 x 50 x 300
    = 1.5 of them.
    """
    step_s = 1.0 / flow.order_rate
    volatility = flow.value_per_root_s * step_s**0.5
    return Behaviour(20 * volatility, 1.5 * volatility, 10.0, 1.2, 200 * step_s / 60)


def estimate(
    periods: Sequence[Trajectory],
    *,
    season_minutes: float,
    step_variance: float,
    half_spread: float,
    value_per_root_s: float,
) -> OrderFlow:
    """Arrivals, sizes, lifetimes and season of one instrument from its training periods.

    Raises
    ------
    ValueError
        If there is too little flow of any of the three kinds, or the mid never moves.
    """
    name, flows = periods[0].instrument, [order_flow(t) for t in periods]
    counts = {a.name: sum(int(((f.action == a) & f.quoted).sum()) for f in flows) for a in Action}
    if min(counts.values()) < LEAST_OF_EACH or not step_variance > 0 or not value_per_root_s > 0:
        raise ValueError(
            f"{name}: training has {counts} and a mid with variance {step_variance:.3g} per ten seconds; at least "
            f"{LEAST_OF_EACH} of each and a mid that moves are needed to fit chiarella"
        )

    def column(which: str, cancels: bool) -> Ints:
        parts = [getattr(f, which)[((f.action == Action.CANCEL) == cancels) & f.quoted] for f in flows]
        return np.concatenate(parts).astype(np.int64)

    width_s = 60.0 * season_minutes
    season = _season(periods, flows, width_s)
    distance, sizes = np.maximum(column("from_opposite", True), 1), np.sort(column("size_shares", False))
    mean_size = float(sizes.mean())
    edges = np.array(_edges(np.append(distance, column("from_opposite", False))), np.int64)
    exposure, busy_s = np.zeros(len(edges) - 1), 0.0
    for period in periods:
        volume, seconds = _exposure(period, edges, season, width_s)
        exposure += volume / mean_size
        busy_s += seconds
    expired = np.histogram(distance, edges)[0]
    rate = np.divide(expired, exposure, out=np.zeros(len(expired)), where=exposure > 0)
    return OrderFlow(
        order_rate=len(sizes) / busy_s,
        sizes_shares=sizes[((np.arange(ATOMS) + 0.5) * len(sizes) / ATOMS).astype(np.int64)].tolist(),
        mean_size_shares=mean_size,
        cancel_edges_ticks=edges.tolist(),
        cancel_rate=rate.tolist(),
        season_width_s=width_s,
        season=season.tolist(),
        step_variance=step_variance,
        half_spread=half_spread,
        value_per_root_s=value_per_root_s,
    )


def _edges(distances: Ints) -> list[int]:
    edges, last = list(range(1, UNIT_BINS + 2)), int(distances.max(initial=1))
    while edges[-1] <= last:
        edges.append(int(edges[-1] * 1.5))
    return edges


def _season(periods: Sequence[Trajectory], flows: Sequence[Flow], width_s: float) -> Floats:
    """Messages by trading time of day over their mean rate ``[T]``; 1 where training has no exposure."""
    spans = [(t.rules.trading_ns(t.start_ns) / SECOND, t.rules.trading_ns(t.end_ns) / SECOND) for t in periods]
    bins = max(int(np.ceil(max(end for _, end in spans) / width_s)), 1)
    edges = np.arange(bins + 1) * width_s
    counts, exposure = np.zeros(bins), np.zeros(bins)
    for period, flow, (start, end) in zip(periods, flows, spans, strict=True):
        counts += np.histogram(period.rules.trading_ns(flow.time_ns) / SECOND, edges)[0]
        exposure += np.diff(np.clip(edges, start, end))
    level = np.divide(counts, exposure, out=np.zeros(bins), where=exposure > 0) * exposure.sum() / counts.sum()
    return np.where(exposure > 0, np.maximum(level, LEAST_SEASON), 1.0)


def _exposure(period: Trajectory, edges: Ints, season: Floats, width_s: float) -> tuple[Floats, float]:
    """Integral of the standing volume by distance over active time ``[J]``, both sides; and the active time, s."""
    house = ClearingHouse(period.rules.without_auctions(), 1)
    house.load(0, period.book)
    times = np.arange(period.start_ns, period.end_ns, SAMPLE_NS)
    trading = period.rules.trading_ns(np.append(times, period.end_ns)) / SECOND
    slot = np.minimum((trading[:-1] / width_s).astype(np.int64), len(season) - 1)
    active = np.diff(trading) * season[slot]
    ends = np.searchsorted(period.orders["time_ns"], times, side="right")
    total, done, row = np.zeros(len(edges) - 1), 0, np.zeros(1, np.int64)
    for end, length in zip(ends, active, strict=True):
        house.submit(np.zeros(end - done, np.int64), period.orders[done:end])
        done = int(end)
        view = house.view(row, row)
        ask, bid = view.quotes_ticks
        total += view.volume_by_distance(np.stack([bid, ask], 1), edges[None, :])[0].sum(axis=0) * length
    return total, float(active.sum())


def save(models: Mapping[str, Model], folder: Path) -> None:
    """Write ``models.json``: parameters, moments, J and budget of each instrument."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {name: asdict(m) for name, m in sorted(models.items())}
    (folder / "models.json").write_text(json.dumps(content, indent=1))


def load(folder: Path) -> dict[str, Model]:
    """Inverse of ``save``."""
    content = json.loads((folder / "models.json").read_text())
    return {name: Model(OrderFlow(**m["flow"]), Behaviour(**m["behaviour"]), m["facts"]) for name, m in content.items()}
