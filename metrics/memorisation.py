"""Does a generator play its training days again? Distances to the nearest real five minutes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import Landing, Metric, TrajectoryPairs
from marsbench.market.bars import MinuteBars
from marsbench.scores import Outcome, Score
from marsbench.stats.intervals import Interval, cluster_interval

from ._quantities import days
from ._scoring import number, replicates

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
        deviation over all real minutes of the instrument. d(x, X) is the Euclidean distance to the nearest
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
        By cluster, of the difference of the two means: jackknife t.
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
    version = 1
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
        clusters = int(evidence.clusters.max()) + 1
        if not evidence.training:
            return Outcome((_score(None, None, 0, clusters, "the data set has no training days"),))
        sums = np.zeros((clusters, 4))  # generated: sum and number of log r; replayed: the same
        for part, cluster in _log_ratios(evidence, self.window):
            for column, found in ((0, part[0]), (2, part[1])):
                known = found[~np.isnan(found)]
                sums[cluster, column] += known.sum()
                sums[cluster, column + 1] += len(known)

        def ratio(weights: Floats) -> Floats:
            total = weights @ sums
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.asarray(np.exp(total[:, 0] / total[:, 1] - total[:, 2] / total[:, 3]))

        n = int(min(sums[:, 1].sum(), sums[:, 3].sum()))
        if n == 0:
            why = f"no window of {self.window} minutes that can be compared with a training and another real window"
            return Outcome((_score(None, None, 0, clusters, why),))
        interval = cluster_interval(ratio, clusters)
        value = number(ratio(np.ones((1, clusters)))[0])
        missing = None if value is not None else "generated or replayed windows are all incomplete"
        return Outcome((_score(value, interval, n, clusters, missing),))


def _score(value: float | None, interval: Interval | None, n: int, clusters: int, reason: str | None) -> Score:
    known = interval is not None and number(interval.low) is not None
    without = replicates(interval) if interval is not None and value is not None else ()
    return Score(
        KEY,
        value,
        "validity",
        "none",
        unit="ratio of distances",
        ci_low=number(interval.low) if interval is not None and known else None,
        ci_high=number(interval.high) if interval is not None and known else None,
        ci_method=interval.method if interval is not None and known else None,
        n=n,
        clusters=clusters,
        reason=reason or (interval.reason if interval is not None else None),
        replicates=without,
        replicate_units=f"{clusters} clusters" if without else None,
    )


def _log_ratios(evidence: TrajectoryPairs, window: int) -> Iterator[tuple[tuple[Floats, Floats], int]]:
    """For every start log r of its generated and of its replayed windows, and its cluster."""
    day = days(evidence)
    apart = evidence.clusters if len(np.unique(day)) == 1 else day
    names = np.array(evidence.instruments)
    for name in np.unique(names):
        mine = np.flatnonzero(names == name)
        seen = [_features(bars) for bars in evidence.training.get(str(name), ())]
        real = _features(evidence.replay_bars[mine])  # [s, M, F]
        own = _features(evidence.simulated_bars[mine])  # [s, R, M, F]
        rows = np.concatenate([*seen, real.reshape(-1, real.shape[-1])])
        centre, scale = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        trained = np.concatenate(
            [_cut((x - centre) / scale, window) for x in seen] or [np.zeros((0, window * rows.shape[1]))]
        )
        held, made = (_cut((x - centre) / scale, window) for x in (real, own))  # [s, W, D], [s, R, W, D]
        for i, start in enumerate(mine):
            others = held[apart[mine] != apart[start]].reshape(-1, held.shape[-1])
            found = (_log_ratio(x.reshape(-1, held.shape[-1]), trained, others) for x in (made[i], held[i]))
            generated, replayed = found
            yield (generated, replayed), int(evidence.clusters[start])


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


def _log_ratio(x: Floats, trained: Floats, held: Floats) -> Floats:
    """``log d(x, trained) - log d(x, held)``, ``[n]``; NaN where a window is incomplete or there is nothing near."""
    return np.asarray(np.log(_nearest(x, trained)) - np.log(_nearest(x, held)))


def _nearest(x: Floats, among: Floats) -> Floats:
    """Distance to the nearest complete row of ``among``, at least ``LEAST`` of the root mean square distance."""
    among = among[~np.isnan(among).any(axis=1)]
    out = np.full(len(x), np.nan)
    whole = ~np.isnan(x).any(axis=1)
    if len(among) and whole.any():
        y = x[whole]
        squares = (y**2).sum(axis=1)[:, None] + (among**2).sum(axis=1)[None, :] - 2 * y @ among.T
        usual = 2 * x.shape[1]  # of independent standardised windows
        out[whole] = np.sqrt(np.maximum(squares.min(axis=1), LEAST**2 * usual))
    return out
