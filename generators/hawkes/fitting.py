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
from marsbench.stats.hawkes import Hawkes, Season
from marsbench.stats.hawkes_fit import Fit, fit

from .events import MIRROR, TYPES, Class, Tape, Track, types_of
from .factors import Factors
from .judging import at_events, judge, split

Ints = NDArray[np.int64]

ATOMS = 1024
"""So many orders of each type are kept, evenly spaced among those of training in order of their four numbers."""
REACH = 0.95
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
    factors: Factors
    near_ticks: int
    reach_ticks: int
    atoms: NDArray[np.int32]
    """``[TYPES, ATOMS, 4]``: what the order met (``INSIDE`` the spread, ``MARKET`` the shares at the other side's best
    quote, else 0), ticks, shares, what of them rested after trading (of ``MARKET``, else 0), ascending. Ticks are by
    how much ``INSIDE`` improves its own best quote, ``MARKET`` passes the other side's, the rest lie behind."""
    facts: Mapping[str, Any]
    """How the fit went."""


def calibrate(periods: Sequence[Trajectory], settings: Settings) -> Model:
    """The model of one instrument from its training periods.

    Raises
    ------
    ValueError
        If there is too little flow of any of the three kinds.
    RuntimeError
        If the likelihood does not converge.
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
    width_s = settings.season_minutes * MINUTE / SECOND
    tracks = _latest(periods, tapes, near, settings.events)
    early_tapes, early, late = split(tapes, tracks)
    penalty, held = judge(early, late, season_of(early_tapes, width_s), settings.decays, symmetric=settings.symmetric)
    season, mirror = season_of(tapes, width_s), MIRROR if settings.symmetric else None
    records = [track.record() for track in tracks]
    found = fit(records, np.array(settings.decays), TYPES, season=season, mirror=mirror, penalty=penalty)
    if not found.converged:
        raise RuntimeError(
            f"{periods[0].instrument}: the likelihood of hawkes has not converged after {found.iterations} iterations; "
            "take fewer decays, or more events"
        )
    factors = Factors.fit(tracks, at_events(found.model, tracks, season), symmetric=settings.symmetric)
    atoms, known = atoms_of(flow, near)
    base = np.where(known, found.model.base, 0.0)
    branching = found.model.branching * known[:, None, None]
    return Model(
        process=replace(found.model, base=base, branching=branching),
        season=season,
        factors=factors,
        near_ticks=near,
        reach_ticks=max(int(np.quantile(flow["from_own"][limit], REACH)), near),
        atoms=atoms,
        facts={**facts_of(found), "penalty": penalty, "held_out": held},
    )


def _latest(periods: Sequence[Trajectory], tapes: Sequence[Tape], near: int, most: int) -> list[Track]:
    """The latest periods in order of time, from as late on that so many events count."""
    tracks: list[Track] = []
    for period, tape in zip(reversed(periods), reversed(tapes), strict=True):
        if most > 0:
            track = Track.of(period, tape, near)
            if len(tape) > most:
                track = replace(track, since_s=float(track.times_s[-most - 1]))
            tracks.insert(0, track)
            most -= len(tape)
    return tracks


def season_of(tapes: Sequence[Tape], width_s: float) -> Season:
    """Rate of events by time of day over their mean rate; 1 where training has no exposure."""
    bins = max(int(np.ceil(max(t.end_s for t in tapes) / width_s)), 1)
    edges = np.arange(bins + 1) * width_s
    counts = sum((np.histogram(t.trading_s, edges)[0] for t in tapes), np.zeros(bins))
    exposure = sum((np.diff(np.clip(edges, t.start_s, t.end_s)) for t in tapes), np.zeros(bins))
    level = np.divide(counts, exposure, out=np.zeros(bins), where=exposure > 0) * exposure.sum() / counts.sum()
    return Season(width_s, np.where(exposure > 0, level, 1.0))


def atoms_of(flow: Mapping[str, Ints], near_ticks: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Orders of each type to draw from, ``[TYPES, ATOMS, 4]``, and of which types there are any.

    A type that training lacks takes those of its mirror image.
    """
    types = types_of(flow["action"], flow["side"], flow["from_own"], near_ticks)
    what, spread = types % len(Class), flow["from_opposite"] - flow["from_own"]
    inside, trades = what == Class.INSIDE, what == Class.MARKET
    ticks = np.where(trades, np.maximum(-flow["from_opposite"], 0), np.maximum(flow["from_own"], 0))
    ticks = np.where(inside, -flow["from_own"], ticks)
    rest = np.where(trades & (flow["ioc"] == 0), flow["size_shares"] - flow["traded_shares"], 0)
    met = np.select([inside, trades], [spread, flow["opposite_shares"]], 0)
    table = np.stack([met, ticks, flow["size_shares"], rest], 1)
    out, known = np.zeros((TYPES, ATOMS, 4), np.int32), np.zeros(TYPES, np.bool_)
    for number in range(TYPES):
        mine = types == number if (types == number).any() else types == MIRROR[number]
        if not mine.any():
            continue
        rows = table[mine]
        rows = rows[np.lexsort(rows.T[::-1])]
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
        "log_likelihood_per_event": found.log_likelihood / count,
        "poisson_log_likelihood_per_event": found.poisson_log_likelihood / count,
        "kernels": found.kernels,
        "iterations": found.iterations,
        "converged": found.converged,
    }
    if found.scaled < 1:
        facts["scaled"] = found.scaled
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
            "factors": {name: table.tolist() for name, table in vars(m.factors).items()},
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
                factors=Factors(**{name: np.array(table) for name, table in head["factors"].items()}),
                near_ticks=head["near_ticks"],
                reach_ticks=head["reach_ticks"],
                atoms=arrays[f"atoms_{number}"],
                facts=head["facts"],
            )
    return out
