"""What the Hawkes generator learns of one instrument: the process, its season, and the laws of sizes and prices."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.market.flow import Action
from marsbench.market.rules import MINUTE, SECOND
from marsbench.market.trajectory import Trajectory
from marsbench.stats.hawkes import MOST_BRANCHING, Fit, Hawkes, Season, fit

from .events import MIRROR, TYPES, Class, Tape, record_of, types_of

Ints = NDArray[np.int64]

ATOMS = 1024
"""So many orders of each type are kept, evenly spaced among those of training in order of price, then size."""
REACH = 0.99
"""Of the limit orders of training so many rest no further away; an agent's beyond is no event."""
LEAST_OF_EACH = 10


@dataclass(frozen=True)
class Settings:
    """Options of the fit."""

    events: int
    """Likelihood of the latest so many events; everything else of all of them."""
    decays: tuple[float, ...]
    """Per second."""
    season_minutes: float
    symmetric: bool


@dataclass(frozen=True)
class Model:
    """Everything that is known about one instrument."""

    process: Hawkes
    season: Season
    near_ticks: int
    reach_ticks: int
    atoms: NDArray[np.int32]
    """``[TYPES, ATOMS, 3]``: ticks, shares, immediate-or-cancel, ascending. Ticks count from the opposite best quote
    for ``INSIDE``, beyond it for ``MARKET``, else from the own best quote."""
    facts: Mapping[str, Any]
    """How the fit went."""


def calibrate(periods: Sequence[Trajectory], settings: Settings) -> Model:
    """The model of one instrument from its training periods.

    Raises
    ------
    ValueError
        If there is too little flow of any of the three kinds.
    """
    periods = sorted(periods, key=lambda t: (t.date, t.start_ns))
    tapes = [Tape.of(t) for t in periods]
    flow = {name: np.concatenate([t.columns[name] for t in tapes]) for name in tapes[0].columns}
    counts = {action.name: int((flow["action"] == action).sum()) for action in Action}
    if min(counts.values()) < LEAST_OF_EACH:
        raise ValueError(
            f"{periods[0].instrument}: training has {counts}; at least {LEAST_OF_EACH} of each are needed to fit hawkes"
        )
    limit, behind = flow["action"] == Action.LIMIT, (flow["action"] != Action.AGGRESSIVE) & (flow["from_own"] > 0)
    near = max(int(np.median(flow["from_own"][behind])), 1) if behind.any() else 1
    season = season_of(tapes, settings.season_minutes * MINUTE / SECOND)
    found = fit(
        list(_latest(periods, tapes, near, settings.events)),
        np.array(settings.decays),
        TYPES,
        season=season,
        mirror=MIRROR if settings.symmetric else None,
    )
    atoms, known = atoms_of(flow, near)
    base = np.where(known, found.model.base, 0.0)
    branching = found.model.branching * known[:, None, None]
    return Model(
        process=replace(found.model, base=base, branching=branching),
        season=season,
        near_ticks=near,
        reach_ticks=max(int(np.quantile(flow["from_own"][limit], REACH)), near),
        atoms=atoms,
        facts=facts_of(found),
    )


def _latest(periods: Sequence[Trajectory], tapes: Sequence[Tape], near: int, most: int) -> Any:
    """Records of the latest periods, until so many events are together."""
    for period, tape in zip(reversed(periods), reversed(tapes), strict=True):
        if most > 0:
            yield record_of(period, tape, near, most)
            most -= len(tape)


def season_of(tapes: Sequence[Tape], width_s: float) -> Season:
    """Rate of events by time of day over their mean rate; 1 where training has no exposure."""
    bins = max(int(np.ceil(max(t.end_s for t in tapes) / width_s)), 1)
    edges = np.arange(bins + 1) * width_s
    counts = sum((np.histogram(t.trading_s, edges)[0] for t in tapes), np.zeros(bins))
    exposure = sum((np.diff(np.clip(edges, t.start_s, t.end_s)) for t in tapes), np.zeros(bins))
    level = np.divide(counts, exposure, out=np.zeros(bins), where=exposure > 0) * exposure.sum() / counts.sum()
    return Season(width_s, np.where(exposure > 0, level, 1.0))


def atoms_of(flow: Mapping[str, Ints], near_ticks: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Orders of each type to draw from, ``[TYPES, ATOMS, 3]``, and of which types there are any.

    A type that training lacks takes those of its mirror image.
    """
    types = types_of(flow["action"], flow["side"], flow["from_own"], near_ticks)
    what = types % len(Class)
    ticks = np.select(
        [what == Class.INSIDE, what == Class.MARKET],
        [np.maximum(flow["from_opposite"], 1), np.maximum(-flow["from_opposite"], 0)],
        np.maximum(flow["from_own"], 0),
    )
    out, known = np.zeros((TYPES, ATOMS, 3), np.int32), np.zeros(TYPES, np.bool_)
    for number in range(TYPES):
        mine = types == number if (types == number).any() else types == MIRROR[number]
        if not mine.any():
            continue
        rows = np.stack([ticks[mine], flow["size_shares"][mine], flow["ioc"][mine]], 1)
        rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
        out[number] = rows[((np.arange(ATOMS) + 0.5) * len(rows) / ATOMS).astype(np.int64)]
        known[number] = True
    return out, known


def facts_of(found: Fit) -> dict[str, Any]:
    """How a fit went, for the artifact."""
    count = max(int(found.counts.sum()), 1)
    facts: dict[str, Any] = {
        "events": int(found.counts.sum()),
        "events_by_type": found.counts.tolist(),
        "branching": found.model.radius,
        "branching_found": found.found_radius,
        "branching_realised": found.realised_radius,
        "log_likelihood_per_event": found.log_likelihood / count,
        "poisson_log_likelihood_per_event": found.poisson_log_likelihood / count,
        "iterations": found.iterations,
        "converged": found.converged,
    }
    if found.scaled < 1:
        facts["warning"] = (
            f"the likelihood is largest at a branching ratio of {found.found_radius:.3f}; all kernels were multiplied "
            f"by {found.scaled:.3f} to bring it to {MOST_BRANCHING}, and the baselines raised to keep the mean rates"
        )
    return facts


def save(models: Mapping[str, Model], folder: Path) -> None:
    """Write ``models.json`` (readable) and ``arrays.npz``."""
    folder.mkdir(parents=True, exist_ok=True)
    heads: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for number, (name, m) in enumerate(sorted(models.items())):
        heads[name] = {
            "near_ticks": m.near_ticks,
            "reach_ticks": m.reach_ticks,
            "season_width_s": m.season.width_s,
            "season": m.season.values.tolist(),
            "base": m.process.base.tolist(),
            "decays": m.process.decays.tolist(),
            "facts": dict(m.facts),
        }
        arrays[f"atoms_{number}"], arrays[f"branching_{number}"] = m.atoms, m.process.branching
    (folder / "models.json").write_text(json.dumps(heads, indent=1))
    np.savez_compressed(folder / "arrays.npz", **arrays)


def load(folder: Path) -> dict[str, Model]:
    """Inverse of ``save``."""
    heads = json.loads((folder / "models.json").read_text())
    out = {}
    with np.load(folder / "arrays.npz") as arrays:
        for number, (name, head) in enumerate(sorted(heads.items())):
            base, decays = np.array(head["base"]), np.array(head["decays"])
            out[name] = Model(
                process=Hawkes(base, arrays[f"branching_{number}"], decays),
                season=Season(head["season_width_s"], np.array(head["season"])),
                near_ticks=head["near_ticks"],
                reach_ticks=head["reach_ticks"],
                atoms=arrays[f"atoms_{number}"],
                facts=head["facts"],
            )
    return out
