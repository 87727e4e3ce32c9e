"""How well classes of what follows a start are foretold: accuracy, F1, kappa, log-loss, Brier score, calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench.evidence import Ceiling, Landing, Metric
from marsbench.forecasts import Forecasts
from marsbench.questions import Target
from marsbench.scores import Direction, Outcome, Score
from marsbench.stats.classes import MISSING, accuracy, kappa, vote_shares
from marsbench.stats.intervals import Interval, deletion_weights, jackknife_interval, share_interval

from ._accuracy_scores import Scale, by_cluster, certain
from ._scoring import number, replicates, within

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from marsbench.known_answers import KnownAnswer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Table = dict[str, list[Any]]

PRIOR = 0.5
"""Added to the votes of each class before a logarithm is taken (Krichevsky and Trofimov)."""
LEAST = 1e-6
"""A forecaster's probability counts as no smaller."""
BINS = 10
"""Of the calibration curve."""
POWER = 2.8
"""Standard errors of a difference that is found in 80% of cases at the 5% level."""


@dataclass(frozen=True)
class ForecastAccuracy(Metric):
    """Three-class forecasts of trend and volatility against what came.

    Formula
        The forecast is the commonest class among the rollouts (MarS takes 128), ties shared; of a forecaster, its
        likeliest class. ``<kind>.accuracy.<horizon>``: share of starts where it comes. ``.f1``: mean over classes of
        2 hits / (foretold + came). ``.kappa``: Cohen's. ``.log_loss``: mean of -log p of the class that came, in
        nats, p = (votes + 1/2) / (rollouts + 3/2); ``.brier``: mean of the squared distance between the shares of
        votes and what came, summed over classes. ``.expected_accuracy``: what the rollouts themselves expect, half
        of them choosing the class and the other half saying how often it comes, both ways round: unbiased for half
        the rollouts, where the largest of estimated probabilities would be too large. Above the accuracy, the
        generator is too sure of itself.
    Range, direction, unit
        Accuracy and F1 in [0, 1], kappa in [-1, 1], higher is better; log-loss and Brier score from 0, lower is
        better. ``.expected_accuracy`` has no direction.
    Floor and ceiling
        Floor of accuracy and F1: the better of always the commonest class of training and persistence (the class of
        as many minutes before the start); of kappa 0; of log-loss and Brier score the class shares of training as
        probabilities. Ceiling of the accuracy: the frozen expected accuracy of the oracle, rolled from the market's
        true state; of the others the oracle's frozen score. Without an oracle there is none.
    Interval
        Student t over the jackknife of clusters, of the logit for accuracy and F1. Classes are frozen on training
        periods and count as known.
    Reference
        MarS (ICLR 2025) section 4.1 and Figure 7a; Brier (1950); Cohen (1960).
    Known failures
        Overlapping horizons share most of what they are about: scores of different horizons are no independent
        evidence. The Brier score of R rollouts is larger than that of the probabilities behind them, by about
        (1 - sum p^2) / R. On a single day blocks depend on each other.
    """

    name = "forecast-accuracy"
    version = 1
    evidence = Forecasts
    ceiling_from_oracle = True
    summary = "accuracy, F1, kappa, log-loss and calibration of three-class forecasts"
    landings = (
        *(  # a frozen price, and what happened on another day, foretell nothing, and are sure of it
            Landing(control, score, low, high, task="forecasting")
            for control, kappa in (("control-constant", 0.01), ("control-copy", 0.35))
            for score, low, high in (
                ("trend.kappa.1m", -kappa, kappa),
                ("volatility.kappa.1m", -kappa, kappa),
                ("trend.expected_accuracy.1m", 0.99, 1.0),
                ("trend.log_loss.1m", 1.3, 5.0),
            )
        ),
        Landing("control-shuffled", "volatility.kappa.1m", -0.2, 0.4, task="forecasting"),
        Landing("reference", "trend.kappa.1m", 0.2, 0.8, task="forecasting"),
        Landing("reference", "volatility.kappa.1m", 0.2, 0.8, task="forecasting"),
        Landing("reference", "trend.log_loss.1m", 0.5, 0.95, task="forecasting"),
    )

    def evaluate(self, evidence: Forecasts, rng: np.random.Generator) -> Outcome:
        scores: list[Score] = []
        tables = _Tables()
        for t, target in enumerate(evidence.targets):
            case = Case.of(evidence, t)
            own = [_score(statistic, case, target, evidence) for statistic in STATISTICS]
            scores += own
            tables.add(target, case, own, evidence)
        found = [gap for gap in tables.summary["detectable"] if gap is not None]
        return Outcome(tuple(scores), {"forecast_about": _about(evidence), **tables.done()}, _notes(evidence, found))

    @classmethod
    def known_answers(cls) -> Sequence[KnownAnswer]:
        from ._known_forecasts import known_forecasts

        return known_forecasts()

    @classmethod
    def draw(cls, tables: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, Figure]:
        from ._forecast_figures import draw

        return draw(tables)


@dataclass(frozen=True)
class Case:
    """One target: sums over the starts of each of C clusters."""

    hits: Floats
    """``[C, 3, 3]`` confusion matrix, class that came first."""
    constant: Floats
    """The same of always the commonest class of training."""
    persistence: Floats
    """The same of the class before the start."""
    sums: Floats
    """``[C, 6]``: starts with probabilities; log-loss, Brier score; those of the class shares of training; expected."""
    halves: Floats
    """``[C]``: starts whose rollouts can be halved."""
    shares: Floats
    """``[S, 3]``: the forecast's share of each class."""
    p: Floats
    """``[S, 3]`` probabilities, NaN where there are none."""
    observed: Ints
    """``[S]``."""

    @classmethod
    def of(cls, evidence: Forecasts, t: int) -> Case:
        """Of target number ``t``."""
        observed, cluster = evidence.observed[:, t], evidence.clusters
        shares, raw, smooth = _probabilities(evidence, t)
        commonest = int(evidence.training_shares[t].argmax())
        known = (observed != MISSING) & np.isfinite(raw).all(axis=1)
        came = certain(observed)
        prior = np.broadcast_to(evidence.training_shares[t], raw.shape)
        expected = _expected(evidence, t)
        halved = known & np.isfinite(expected)
        columns = [
            np.ones(len(observed)), _log_loss(smooth, observed), _brier(raw, came), _log_loss(prior, observed),
            _brier(prior, came),
        ]  # fmt: skip
        count = int(cluster.max()) + 1
        sums = [np.bincount(cluster[known], column[known], minlength=count) for column in columns]
        sums.append(np.bincount(cluster[halved], expected[halved], minlength=count))

        def matrix(predicted: Floats) -> Floats:
            return by_cluster(np.where(known, observed, MISSING)[:, None], predicted[:, None], cluster)

        return cls(
            hits=matrix(shares),
            constant=matrix(certain(np.full_like(observed, commonest))),
            persistence=matrix(certain(evidence.before[:, t])),
            sums=np.stack(sums, axis=1),
            halves=np.bincount(cluster[halved], minlength=count).astype(np.float64),
            shares=shares,
            p=np.where(known[:, None], raw, np.nan),
            observed=observed,
        )


def _probabilities(evidence: Forecasts, t: int) -> tuple[Floats, Floats, Floats]:
    """Shares of the forecast class, probabilities, and probabilities for logarithms, each ``[S, 3]``."""
    if evidence.votes is None:
        assert evidence.stated is not None
        raw = evidence.stated[:, t]
        top = raw == np.nanmax(np.where(np.isfinite(raw), raw, -1.0), axis=1, keepdims=True)
        return top / np.maximum(top.sum(axis=1, keepdims=True), 1), raw, np.maximum(raw, LEAST)
    votes = evidence.votes[:, :, t]
    counts = np.stack([(votes == c).sum(axis=1) for c in range(3)], axis=1).astype(np.float64)
    total = counts.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return vote_shares(votes), counts / total, (counts + PRIOR) / (total + 3 * PRIOR)


def _expected(evidence: Forecasts, t: int) -> Floats:
    """``[S]``: how often the class that half of the rollouts choose comes among the others; NaN without both halves."""
    if evidence.votes is None:
        assert evidence.stated is not None
        return np.asarray(evidence.stated[:, t].max(axis=1))
    halves = [evidence.votes[:, k::2, t] for k in (0, 1)]
    share = [
        np.stack([(half == c).sum(axis=1) for c in range(3)], axis=1)
        / np.maximum((half != MISSING).sum(axis=1), 1)[:, None]
        for half in halves
    ]
    both = [(vote_shares(a) * b).sum(axis=1) for a, b in ((halves[0], share[1]), (halves[1], share[0]))]
    there = np.all([(half != MISSING).any(axis=1) for half in halves], axis=0)
    return np.where(there, np.mean(both, axis=0), np.nan)


def _log_loss(p: Floats, observed: Ints) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(np.take_along_axis(p, np.maximum(observed, 0)[:, None], 1)[:, 0]))


def _brier(p: Floats, came: Floats) -> Floats:
    return np.asarray(((p - came) ** 2).sum(axis=1))


def macro_f1(matrix: Floats) -> Floats:
    """Mean over classes of 2 hits / (foretold + came) of ``[..., 3, 3]``; 0 for a class that is neither."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    both = matrix.sum(axis=-1) + matrix.sum(axis=-2)
    return np.asarray(np.divide(2 * hits, both, out=np.zeros_like(both), where=both > 0).mean(axis=-1))


@dataclass(frozen=True)
class Statistic:
    """One score of a target, with its floor, from sums over clusters weighted ``[B, C]``."""

    name: str
    direction: Direction
    unit: str
    low: float
    high: float
    value: Callable[[Case, Floats], Floats]
    floors: tuple[Callable[[Case, Floats], Floats], ...] = ()
    """The best of them is the floor."""
    ceiling: str = ""
    """The oracle's score that is the ceiling; its own if empty."""
    share: bool = False


def _of(statistic: Callable[[Floats], Floats], field: str) -> Callable[[Case, Floats], Floats]:
    return lambda case, weights: statistic(np.tensordot(weights, getattr(case, field), 1))


def _mean(column: int) -> Callable[[Case, Floats], Floats]:
    def mean(case: Case, weights: Floats) -> Floats:
        total = weights @ case.sums
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(total[:, column] / total[:, 0])

    return mean


def _expected_mean(case: Case, weights: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(weights @ case.sums[:, 5] / (weights @ case.halves))


def _zero(case: Case, weights: Floats) -> Floats:
    del case
    return np.zeros(len(weights))


STATISTICS = (
    Statistic(
        "accuracy", "higher", "share of starts", 0.0, 1.0, _of(accuracy, "hits"),
        (_of(accuracy, "constant"), _of(accuracy, "persistence")), "expected_accuracy", share=True,
    ),
    Statistic(
        "f1", "higher", "1", 0.0, 1.0, _of(macro_f1, "hits"), (_of(macro_f1, "constant"), _of(macro_f1, "persistence")),
        share=True,
    ),
    Statistic("kappa", "higher", "1", -1.0, 1.0, _of(kappa, "hits"), (_zero,)),
    Statistic("log_loss", "lower", "nats", 0.0, np.inf, _mean(1), (_mean(3),)),
    Statistic("brier", "lower", "1", 0.0, 2.0, _mean(2), (_mean(4),)),
    Statistic("expected_accuracy", "none", "share of starts", 0.0, 1.0, _expected_mean, share=True),
)  # fmt: skip


def key_of(statistic: str, target: Target) -> str:
    """``<kind>.<statistic>.<horizon>``."""
    return f"{target.kind}.{statistic}.{target.minutes}m"


def _score(statistic: Statistic, case: Case, target: Target, evidence: Forecasts) -> Score:
    clusters = len(case.hits)
    everything = np.ones((1, clusters))
    sign = -1.0 if statistic.direction == "lower" else 1.0
    bases = [float(floor(case, everything)[0]) for floor in statistic.floors]
    best = statistic.floors[int(np.nanargmax(sign * np.array(bases)))] if np.isfinite(bases).any() else None

    def both(weights: Floats) -> Floats:  # as Scale wants them: the value first, the floor fourth
        base = np.full(len(weights), np.nan) if best is None else best(case, weights)
        value = statistic.value(case, weights)
        return np.stack([sign * value, sign * value, sign * (value - base), sign * base], axis=-1)

    found = both(everything)[0]
    if clusters < 2:
        empty = np.full(4, np.nan)
        interval = Interval(empty, empty, None, clusters, "1 cluster: an interval needs at least 2")
    else:
        left_out = deletion_weights(clusters, np.random.default_rng(clusters))  # as the oracle's: paired with them
        interval = jackknife_interval(found, both(left_out), clusters=clusters)
    value = sign * float(found[0])
    key, n = key_of(statistic.name, target), round(float(case.sums[:, 0].sum()))
    if n == 0 or number(value) is None:
        why = "no start with both a forecast and an outcome"
        return Score(
            key, None, "prediction", statistic.direction, unit=statistic.unit, n=n, clusters=clusters, reason=why
        )
    plain = replace(
        interval,
        low=np.minimum(sign * interval.low[:1], sign * interval.high[:1]),
        high=np.maximum(sign * interval.low[:1], sign * interval.high[:1]),
        deleted=None if interval.deleted is None else sign * interval.deleted[:, :1],
    )
    shown = within(plain, statistic.low, statistic.high)
    if statistic.share and interval.deleted is not None:
        shown = share_interval(np.array([value]), plain)
    oracle = evidence.ceilings.get(key_of(statistic.ceiling or statistic.name, target))
    scale = Scale(reason=None)
    if statistic.floors:
        signed = None if oracle is None else _signed(oracle, sign)
        scale = Scale.of(number(found[3]), signed, found, interval)
    kept = replicates(plain, 0)
    low, high = number(shown.low[0]), number(shown.high[0])
    return Score(
        key,
        value,
        "prediction",
        statistic.direction,
        unit=statistic.unit,
        ci_low=low,
        ci_high=high,
        ci_method=shown.method if low is not None else None,
        floor=number(sign * found[3]) if statistic.floors else None,
        ceiling=oracle.value if oracle is not None and statistic.floors else None,
        normalised=scale.normalised,
        informative=scale.informative,
        n=n,
        clusters=clusters,
        reason=interval.reason or scale.reason,
        replicates=kept,
        normalised_replicates=scale.replicates,
        replicate_units=f"{clusters} clusters" if kept else None,
    )


def _signed(ceiling: Ceiling, sign: float) -> Ceiling:
    return Ceiling(
        sign * ceiling.value, tuple(None if r is None else sign * r for r in ceiling.replicates), ceiling.units
    )


class _Tables:
    """What figures are drawn from."""

    def __init__(self) -> None:
        names = (
            "target",
            "kind",
            "minutes",
            "statistic",
            "value",
            "ci_low",
            "ci_high",
            "floor",
            "ceiling",
            "detectable",
        )
        self.summary: Table = {name: [] for name in names}
        self.confusion: Table = {name: [] for name in ("target", "came", "foretold", "count")}
        self.shares: Table = {name: [] for name in ("target", "class", "training", "came", "foretold")}
        self.calibration: Table = {name: [] for name in ("target", "probability", "came", "ci_low", "ci_high", "count")}
        self.outcomes: Table = {name: [] for name in ("target", "start", "cluster", "right")}
        """``right``: 1 where the forecast class came, 0 where it did not, a share where classes are tied."""
        self.rollouts: Table = {name: [] for name in ("target", "rollouts", "accuracy", "ci_low", "ci_high")}

    def done(self) -> dict[str, Table]:
        """By name."""
        return {
            "forecast_summary": self.summary,
            "forecast_confusion": self.confusion,
            "forecast_shares": self.shares,
            "forecast_calibration": self.calibration,
            "forecast_rollouts": self.rollouts,
            "forecast_outcomes": self.outcomes,
        }

    def add(self, target: Target, case: Case, scores: Sequence[Score], evidence: Forecasts) -> None:
        """One target's rows."""
        for score in scores:
            row = {
                "target": target.key,
                "kind": target.kind,
                "minutes": target.minutes,
                "statistic": score.key.split(".")[1],
                "detectable": _detectable(case) if ".accuracy." in score.key else None,
                **{name: getattr(score, name) for name in ("value", "ci_low", "ci_high", "floor", "ceiling")},
            }
            _append(self.summary, row)
        total = case.hits.sum(axis=0)
        for came in range(3):
            for foretold in range(3):
                row = {"target": target.key, "came": came, "foretold": foretold, "count": float(total[came, foretold])}
                _append(self.confusion, row)
            parts = [part / max(total.sum(), 1) for part in (total.sum(axis=1)[came], total.sum(axis=0)[came])]
            training = float(evidence.training_shares[evidence.targets.index(target), came])
            row = {"target": target.key, "class": came, "training": training}
            _append(self.shares, row | {"came": float(parts[0]), "foretold": float(parts[1])})
        known = np.flatnonzero(np.isfinite(case.p).all(axis=1))
        for i, right in zip(known, case.shares[known, case.observed[known]], strict=True):
            row = {"target": target.key, "start": evidence.starts[i].name, "cluster": int(evidence.clusters[i])}
            _append(self.outcomes, row | {"right": round(float(right), 4)})
        self._calibrate(target, case, evidence)
        if evidence.votes is not None:
            self._by_rollouts(target, evidence)

    def _calibrate(self, target: Target, case: Case, evidence: Forecasts) -> None:
        """All three classes together: how often a class comes that so large a share foretold."""
        known = np.isfinite(case.p).all(axis=1)
        p, came = case.p[known], certain(case.observed)[known]
        where = np.minimum((p * BINS).astype(np.int64), BINS - 1)
        cluster = np.broadcast_to(evidence.clusters[known][:, None], p.shape)
        for b in range(BINS):
            own = where == b
            if own.any():
                interval = _share_by_cluster(came[own], cluster[own])
                row = {"target": target.key, "probability": float(p[own].mean()), "came": float(came[own].mean())}
                ends = {"ci_low": number(interval.low), "ci_high": number(interval.high)}
                _append(self.calibration, row | ends | {"count": int(own.sum())})

    def _by_rollouts(self, target: Target, evidence: Forecasts) -> None:
        """Accuracy of the commonest class among 1, 2, 4, ... rollouts, over all groups of so many."""
        assert evidence.votes is not None
        votes = evidence.votes[:, :, evidence.targets.index(target)]
        observed, size = evidence.observed[:, evidence.targets.index(target)], 1
        while size <= votes.shape[1]:
            groups = votes.shape[1] // size
            shares = vote_shares(votes[:, : groups * size].reshape(len(votes), groups, size))
            known = (observed != MISSING) & (shares.sum(axis=(1, 2)) > 0)
            right = np.take_along_axis(shares, np.maximum(observed, 0)[:, None, None], 2)[:, :, 0].mean(axis=1)
            interval = _share_by_cluster(right[known], evidence.clusters[known])
            row = {
                "target": target.key,
                "rollouts": size,
                "accuracy": number(right[known].mean()) if known.any() else None,
            }
            _append(self.rollouts, row | {"ci_low": number(interval.low), "ci_high": number(interval.high)})
            size *= 2


def _share_by_cluster(values: Floats, cluster: Ints) -> Interval:
    """Interval of the mean of values in [0, 1]."""
    names, label = np.unique(cluster, return_inverse=True)
    total, count = (np.bincount(label, weights, minlength=len(names)) for weights in (values, None))
    if len(names) < 2:
        nothing = np.asarray(np.nan)
        return Interval(nothing, nothing, None, len(names))
    weights = deletion_weights(len(names), np.random.default_rng(len(names)))
    full = np.asarray(total.sum() / count.sum())
    interval = jackknife_interval(full, (weights @ total) / (weights @ count), clusters=len(names))
    return share_interval(full, interval)


def _detectable(case: Case) -> float | None:
    """A gap between the accuracy and its commonest-class floor that would be found in 80% of cases."""
    clusters = len(case.hits)
    if clusters < 2:
        return None
    weights = deletion_weights(clusters, np.random.default_rng(clusters))
    gaps = [accuracy(np.tensordot(weights, m, 1)) for m in (case.hits, case.constant)]
    gap = gaps[0] - gaps[1]
    return number(POWER * np.sqrt((len(gap) - 1) * gap.var()))


def _append(table: Table, row: Mapping[str, Any]) -> None:
    for name, values in table.items():
        values.append(row[name])


def _how(evidence: Forecasts) -> str:
    return "stated probabilities" if evidence.votes is None else f"{evidence.votes.shape[1]} rollouts"


def _about(evidence: Forecasts) -> Table:
    facts = {
        "starts": f"{len(evidence.starts):,}",
        "clusters": str(len(np.unique(evidence.clusters))),
        "forecast": _how(evidence),
        "single_day": "yes" if evidence.single_day else "no",
    }
    if evidence.seconds_per_start is not None:
        facts["core_seconds_per_start"] = f"{evidence.seconds_per_start:.4g}"
    return {"name": list(facts), "value": list(facts.values())}


def _notes(evidence: Forecasts, gaps: Sequence[float]) -> tuple[str, ...]:
    clusters = len(np.unique(evidence.clusters))
    words = [f"{len(evidence.starts):,} starts in {clusters} clusters, {_how(evidence)}"]
    if gaps:
        words.append(
            f"gaps to the commonest class of {min(gaps):.3f} to {max(gaps):.3f} would be found in 80% of cases"
        )
    if evidence.single_day:
        words.append("one day: blocks depend on each other, and conclusions hold within it")
    return tuple(words)
