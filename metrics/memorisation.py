"""Does a generator play its training days again? Distances to the nearest real five minutes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import Landing, Metric, TrajectoryPairs
from marsbench.market.bars import MinuteBars
from marsbench.scores import Outcome, Score
from marsbench.stats.intervals import MAX_GROUPS, Interval, jackknife_interval

from ._quantities import days
from ._scoring import number, replicates

if TYPE_CHECKING:
    from marsbench.known_answers import KnownAnswer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KEY = "memorisation.nearest_neighbour_ratio"
LEAST = 0.05
"""A distance below this part of the root mean square distance counts as this: copies differ in rounding."""


@dataclass(frozen=True)
class Memorisation(Metric):
    """How much nearer generated windows lie to the training days than real windows of other days do.

    Formula
        A window is ``window`` minutes in a row: per minute the log mid return, log(1 + volume), the spread,
        log(1 + new orders), log(1 + cancels), log mean order size and buy ratio, each standardised by mean and
        deviation over the instrument's training minutes. d(x, X) is the Euclidean distance to the nearest
        window of X of the same instrument, X being all training windows T (at every minute) or the replayed
        windows H of other days (of other clusters on a single day). ``log r(x) = log d(x, T) - log d(x, H)``,
        and the score is ``exp(mean log r over generated - mean log r over replayed windows)``; both are
        compared with exactly the same T and H, so that the sizes of T and H, and a difference between the
        days of T and H, cancel.
    Range, direction, unit
        Above 0, no direction, a ratio of distances. 1: independent of the training days, as replay is. Near
        0: copies. Above 1: farther from real windows than they are from each other.
    Floor and ceiling
        None. Not a gate: a block bootstrap or another day plays training flow again by design, says so, and is
        a baseline worth ranking; whether memory is a fault depends on the use. It stands in the
        profile of validity, for the reader to judge.
    Interval
        Jackknife t by cluster, given the training days. A cluster is left out where its windows are judged and where
        they are held out: those that are nearest to one of them then have the nearest of the other clusters.
        Means and deviations of the features are those of training.
    Reference
        Nearest-neighbour ratios as in Meehan, Chaudhuri, Dasgupta (2020), A non-parametric test to
        detect data-copying in generative models; the features are ours.
    Known failures
        It sees copies that keep to whole minutes (a copied stretch that is shifted by seconds has other
        minutes), and days among those of ``Evidence.training`` only. A copy re-anchored to another book keeps
        its orders but not its prices: the order counts and sizes give it away.
    """

    window: int = 5
    """Minutes in a window."""

    name = "memorisation"
    version = 3
    evidence = TrajectoryPairs
    summary = "nearest-neighbour distance to training windows against held-out windows; 1 is independent"
    landings = (
        Landing("control-constant", KEY, 0.9, 1.5),
        Landing("control-copy", KEY, 0.0, 0.5),
        Landing("control-shuffled", KEY, 0.5, 1.2),
        Landing("reference", KEY, 0.9, 1.1),
    )

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"memorisation: window must be at least 1 minute, got {self.window}")

    def evaluate(self, evidence: TrajectoryPairs, rng: np.random.Generator) -> Outcome:
        if not evidence.training:
            clusters = int(evidence.clusters.max()) + 1
            return Outcome((_score(None, None, 0, clusters, "the data set has no training days"),))
        day = days(evidence)
        compared = Compared(
            replay=evidence.replay_bars,
            simulated=evidence.simulated_bars,
            training=evidence.training,
            instruments=evidence.instruments,
            cluster=evidence.clusters,
            apart=evidence.clusters if len(np.unique(day)) == 1 else day,
        )
        return Outcome((nearest_neighbour_ratio(compared, self.window),))

    @classmethod
    def known_answers(cls) -> list[KnownAnswer]:
        from ._known_memorisation import known_memorisation

        return known_memorisation()


@dataclass(frozen=True)
class Compared:
    """Minute bars of S starts, and what their windows are compared with."""

    replay: MinuteBars
    """``[S, ...]``."""
    simulated: MinuteBars
    """``[S, R, ...]``."""
    training: Mapping[str, Sequence[MinuteBars]]
    instruments: tuple[str, ...]
    """``[S]``."""
    cluster: Ints
    """``[S]``: the unit of inference, 0, 1, ..."""
    apart: Ints
    """``[S]``: replayed windows of the same number are no held-out windows of each other."""


def nearest_neighbour_ratio(compared: Compared, window: int) -> Score:
    """The score; see ``Memorisation``."""
    clusters = int(compared.cluster.max()) + 1
    groups = min(clusters, MAX_GROUPS)
    sums, change = np.zeros((groups, 4)), np.zeros((groups, 4))  # generated: sum and number of log r; replayed: same
    for found, column, own in _found(compared, window, groups):
        sums[own, column] += found.log_ratio.sum()
        sums[own, column + 1] += len(found.log_ratio)
        other = found.by != own
        np.add.at(change[:, column], found.by[other], found.change[other])
        np.add.at(change[:, column + 1], found.by[other], found.lost[other])
    total = np.ones(groups) @ sums
    n = int(min(total[1], total[3]))
    if n == 0:
        why = f"no window of {window} minutes that can be compared with a training and another real window"
        return _score(None, None, 0, clusters, why)
    value = _ratio(total)
    interval = jackknife_interval(value, _ratio(total - sums + change), clusters=clusters)
    none = (
        None if number(interval.low) is not None else f"no interval: too few windows without one of {clusters} clusters"
    )
    return _score(number(value), interval, n, clusters, none)


def _ratio(sums: Floats) -> Floats:
    """``[...]``: of sums and numbers ``[..., 4]``."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.exp(sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]))


def _score(value: float | None, interval: Interval | None, n: int, clusters: int, reason: str | None) -> Score:
    known = interval if interval is not None and number(interval.low) is not None else None
    without = replicates(known) if known is not None else ()
    return Score(
        KEY,
        value,
        "validity",
        "none",
        unit="ratio of distances",
        ci_low=number(known.low) if known is not None else None,
        ci_high=number(known.high) if known is not None else None,
        ci_method=known.method if known is not None else None,
        n=n,
        clusters=clusters,
        reason=reason,
        replicates=without,
        replicate_units=f"{clusters} clusters" if without else None,
    )


@dataclass(frozen=True)
class Found:
    """Of n windows that can be compared."""

    log_ratio: Floats
    """``[n]``: log r."""
    by: Ints
    """``[n]``: the group of clusters that holds the nearest held-out window."""
    change: Floats
    """``[n]``: what the sum of log r gains without that group."""
    lost: Ints
    """``[n]``: -1 where no held-out window is left without it, else 0."""


def _found(compared: Compared, window: int, groups: int) -> Iterator[tuple[Found, int, int]]:
    """For every start what came of its generated (column 0) and replayed windows (column 2), and its group."""
    names, group = np.array(compared.instruments), compared.cluster % groups
    for name in np.unique(names):
        mine = np.flatnonzero(names == name)
        seen = [_features(bars) for bars in compared.training.get(str(name), ())]
        if not seen:
            continue
        real = _features(compared.replay[mine])  # [s, M, F]
        own = _features(compared.simulated[mine])  # [s, R, M, F]
        rows = np.concatenate(seen)
        centre, scale = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        trained = np.concatenate([_cut((x - centre) / scale, window) for x in seen])
        held, made = (_cut((x - centre) / scale, window) for x in (real, own))  # [s, W, D], [s, R, W, D]
        for i, start in enumerate(mine):
            others = compared.apart[mine] != compared.apart[start]
            for column, x in ((0, made[i]), (2, held[i])):
                found = _compare(x.reshape(-1, held.shape[-1]), trained, held[others], group[mine][others])
                yield found, column, int(group[start])


def _features(bars: MinuteBars) -> Floats:
    """``[..., M, F]``: what a minute looks like; NaN only where there is no mid price."""
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.log(bars.mean_order_lots)
    columns = [
        bars.mid_returns(),
        np.log1p(bars.volume_shares),
        bars.spread_ticks,
        np.log1p(bars.n_new),
        np.log1p(bars.n_cancels),
        np.where(np.isfinite(size), size, 0.0),
        np.where(np.isnan(bars.buy_ratio), 0.5, bars.buy_ratio),
    ]
    return np.stack(columns, axis=-1)


def _cut(rows: Floats, window: int) -> Floats:
    """Windows that begin at every minute, flattened: ``[..., M, F]`` to ``[..., M + 1 - window, window F]``."""
    if rows.shape[-2] < window:
        return np.zeros((*rows.shape[:-2], 0, window * rows.shape[-1]))
    cut = np.lib.stride_tricks.sliding_window_view(rows, window, axis=-2)  # [..., W, F, window]
    return np.ascontiguousarray(cut).reshape(*cut.shape[:-2], -1)


def _compare(x: Floats, trained: Floats, held: Floats, group: Ints) -> Found:
    """Windows ``[n, D]`` against the nearest of ``trained`` ``[k, D]`` and ``held`` ``[s, W, D]``, s in groups."""
    starts, length, size = held.shape
    squares = _squares(held.reshape(starts * length, size), x).reshape(starts, length, len(x))
    near = _distance(squares.min(axis=1, initial=np.inf), size).T  # [n, s]
    to_trained = _distance(_squares(trained, x).min(axis=0, initial=np.inf), size)
    known = np.isfinite(to_trained) & np.isfinite(near.min(axis=1, initial=np.inf))
    if not known.any():
        nothing = np.zeros(0, np.int64)
        return Found(np.zeros(0), nothing, np.zeros(0), nothing)
    near = near[known]
    by, nearest = group[near.argmin(axis=1)], near.min(axis=1)
    other = np.where(by[:, None] == group, np.inf, near).min(axis=1)
    log_ratio = np.log(to_trained[known]) - np.log(nearest)
    left = np.isfinite(other)
    change = np.where(left, np.log(nearest) - np.log(np.where(left, other, 1.0)), -log_ratio)
    return Found(log_ratio, by, change, np.where(left, 0, -1))


def _squares(among: Floats, x: Floats) -> Floats:
    """Squared distances ``[k, n]`` of rows; infinite from an incomplete row of ``among``, else NaN to one of x."""
    whole = np.asarray(~np.isnan(among).any(axis=1))
    rows = np.where(whole[:, None], among, 0.0)
    squares = (x**2).sum(axis=1)[None, :] + (rows**2).sum(axis=1)[:, None] - 2 * rows @ x.T
    squares[~whole] = np.inf
    return np.asarray(squares)


def _distance(squares: Floats, size: int) -> Floats:
    """At least ``LEAST`` of the root mean square distance of two windows of so many numbers."""
    usual = 2 * size  # of independent standardised windows
    return np.asarray(np.sqrt(np.maximum(squares, LEAST**2 * usual)))
