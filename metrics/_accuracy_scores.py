"""One accuracy with its kappa: confusion matrices by cluster, floor, ceiling and interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import Ceiling, TrajectoryPairs
from marsbench.quantities import Quantity
from marsbench.scores import Score
from marsbench.stats.classes import MISSING, accuracy, kappa
from marsbench.stats.intervals import Interval, deletion_weights, jackknife_interval, share_interval

from ._scoring import number, numbers, replicates, within

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FLOORS = ("majority_class", "time_of_day")
"""The baselines of which the better is the floor."""


@dataclass(frozen=True)
class Case:
    """Observed classes and one kind of prediction, with what is needed to weigh them by cluster."""

    variant: str
    observed: Ints
    """``[S, T]``."""
    shares: Floats
    """``[S, T, 3]`` predicted share of each class; all 0 where nothing is predicted."""


def certain(classes: Ints) -> Floats:
    """Shares ``[..., 3]`` of a prediction that is one class."""
    return np.asarray(classes[..., None] == np.arange(3), np.float64)


def by_cluster(observed: Ints, shares: Floats, cluster: Ints) -> Floats:
    """Confusion matrices ``[C, 3, 3]``, observed class first, predictions counted by their shares."""
    out = np.zeros((int(cluster.max()) + 1, 3, 3))
    which = np.broadcast_to(cluster[:, None], observed.shape)
    ok = observed != MISSING
    np.add.at(out, (which[ok], observed[ok]), shares[ok])
    return out


def score_case(
    quantity: Quantity, case: Case, baselines: Mapping[str, Ints], evidence: TrajectoryPairs
) -> tuple[list[Score], dict[str, Any], Floats]:
    """Accuracy and kappa, their row of the table, and the confusion matrix."""
    matrix = by_cluster(case.observed, case.shares, evidence.clusters)  # [C, 3, 3]
    length = case.observed.shape[1]
    others = {
        name: by_cluster(case.observed, certain(held[:, :length]), evidence.clusters)
        for name, held in baselines.items()
    }
    values = {name: number(accuracy(m.sum(axis=0))) for name, m in others.items()}
    best = max(FLOORS, key=lambda name: -1.0 if (found := values[name]) is None else found)
    value, interval = statistics(matrix, others[best])
    key = f"three_class_accuracy.{quantity.key}.{case.variant}"
    missing = None
    if number(value[0]) is None:
        missing = f"{quantity.title}: no minute where both replay and the simulation have one"
    ceiling = evidence.ceilings.get(key)
    scale = Scale.of(values[best], ceiling, value, interval)
    total = matrix.sum(axis=0)
    n, clusters = round(float(total.sum())), len(matrix)
    plain = within(interval, np.array([0.0, -1.0, -1.0, 0.0]), np.array([1.0, 1.0, 1.0, 1.0]))
    deleted = interval.deleted
    share = share_interval(
        value[0],
        replace(plain, low=plain.low[0], high=plain.high[0], deleted=None if deleted is None else deleted[:, 0]),
    )
    common: dict[str, Any] = {"group": "prediction", "n": n, "clusters": clusters}
    units = f"{clusters} clusters"
    kept = [replicates(interval, i) if number(value[i]) is not None else () for i in (0, 1)]
    found = Score(
        key,
        number(value[0]),
        ci_low=number(share.low),
        ci_high=number(share.high),
        ci_method=share.method if number(share.low) is not None else None,
        floor=values[best],
        ceiling=None if ceiling is None else ceiling.value,
        normalised=scale.normalised if missing is None else None,
        informative=scale.informative,
        reason=missing or interval.reason or scale.reason,
        replicates=kept[0],
        normalised_replicates=scale.replicates if missing is None else (),
        replicate_units=units if kept[0] else None,
        **common,
    )
    undefined = None if number(value[1]) is not None else f"{quantity.title}: all pairs lie in one class"
    agreement = Score(
        f"{key}.kappa",
        number(value[1]),
        ci_low=number(plain.low[1]),
        ci_high=number(plain.high[1]),
        ci_method=plain.method if number(plain.low[1]) is not None else None,
        reason=missing or undefined or interval.reason or "the accuracy is normalised, not kappa",
        replicates=kept[1],
        replicate_units=units if kept[1] else None,
        **common,
    )
    row: dict[str, Any] = {"quantity": quantity.key, "title": quantity.title, "variant": case.variant}
    names = ("value", "ci_low", "ci_high", "floor", "ceiling", "normalised", "n", "clusters")
    row |= {name: getattr(found, name) for name in names}
    for i, name in ((1, "kappa"), (2, "gain")):
        row |= {
            name: number(value[i]),
            f"{name}_ci_low": number(plain.low[i]),
            f"{name}_ci_high": number(plain.high[i]),
        }
    row |= {f"{name}_accuracy": share for name, share in values.items()}
    row["floor_name"] = best
    shares = total.sum(axis=1) / max(total.sum(), 1), total.sum(axis=0) / max(total.sum(), 1)
    for side, part in zip(("observed", "predicted"), shares, strict=True):
        row |= {f"{side}_{name}": float(part[i]) for i, name in enumerate(("low", "middle", "high"))}
    return [found, agreement], row, total


def statistics(matrix: Floats, floor: Floats) -> tuple[Floats, Interval]:
    """Accuracy, kappa, gain over the floor, and the floor, ``[4]``, with their interval by cluster."""
    clusters = len(matrix)

    def statistics(weights: Floats) -> Floats:
        found, base = (np.tensordot(weights, m, 1) for m in (matrix, floor))
        right, least = accuracy(found), accuracy(base)
        return np.stack([right, kappa(found), right - least, least], axis=-1)

    value = statistics(np.ones((1, clusters)))[0]
    if clusters < 2:
        nothing = np.full(4, np.nan)
        return value, Interval(nothing, nothing, None, clusters, "1 cluster: an interval needs at least 2")
    left_out = deletion_weights(clusters, np.random.default_rng(clusters))  # as in halves: paired with them
    return value, jackknife_interval(value, statistics(left_out), clusters=clusters)


def share_of(value: Floats, interval: Interval) -> Interval:
    """The interval of the accuracy alone, which knows that it is a share."""
    deleted = None if interval.deleted is None else interval.deleted[:, 0]
    return share_interval(value[0], replace(interval, low=interval.low[0], high=interval.high[0], deleted=deleted))


@dataclass(frozen=True)
class Scale:
    """Where an accuracy lies between floor and ceiling."""

    normalised: float | None = None
    informative: bool | None = None
    replicates: tuple[float | None, ...] = ()
    reason: str | None = None

    @classmethod
    def of(cls, floor: float | None, ceiling: Ceiling | None, value: Floats, interval: Interval) -> Scale:
        """Normalised only where the interval of (ceiling - floor) lies above 0."""
        if ceiling is None:
            return cls(reason="no ceiling: the market's own predictability is unknown")
        if floor is None or interval.deleted is None:
            return cls(reason="no floor, or no interval of it: not normalised")
        units = f"{interval.clusters} clusters"
        if ceiling.units != units or len(ceiling.replicates) != len(interval.deleted):
            return cls(reason=f"the ceiling was made from {ceiling.units}, this score from {units}: not normalised")
        best = np.array([np.nan if x is None else x for x in ceiling.replicates])
        least = interval.deleted[:, 3]
        gap = jackknife_interval(np.asarray(ceiling.value - floor), best - least, clusters=interval.clusters)
        low, high = float(gap.low), float(gap.high)
        if not low > 0:
            span = f"{ceiling.value - floor:.4g} [{low:.4g}, {high:.4g}]"
            return cls(informative=False, reason=f"uninformative: (ceiling - floor) is {span}")
        with np.errstate(invalid="ignore", divide="ignore"):
            kept = (interval.deleted[:, 0] - least) / (best - least)
        return cls(float((value[0] - floor) / (ceiling.value - floor)), True, tuple(numbers(kept)))
