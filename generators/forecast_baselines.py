"""Forecasters to beat: the commonest class, the last direction, imbalance of the book, boosted trees on its state.

All learn from the training days that freeze the classes, at moments ``EVERY_S`` apart, and see a market as the order
flow up to the moment (``marsbench.learning.order_stream``).
"""

from __future__ import annotations

import json
import pickle
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from marsbench.files import pretty, write_atomic
from marsbench.labels import Mids
from marsbench.learning.moments import Moments, moments_of
from marsbench.learning.order_stream import STATE
from marsbench.market.rules import MINUTE
from marsbench.market.trajectory import Trajectory
from marsbench.questions import TRAINING_DAYS, Question, clocks_within, numbers, targets_up_to, timed_labels
from marsbench.simulation.contracts import Artifact, Budget, ForecastGenerator, Start
from marsbench.stats.classes import MISSING, classify

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EVERY_S = 20
LEVELS_OF_IMBALANCE = (1, 5, 10)
SEEN_FIRST = 0.75
"""Share of the training moments, the earlier ones, on which trees are grown to see how many are good."""
PRIOR = 1.0
"""Added to each count before it becomes a probability."""


@dataclass(frozen=True)
class Examples:
    """Moments of training periods in the order of time within each instrument."""

    instrument: NDArray[np.str_]
    """``[m]``."""
    day: NDArray[np.str_]
    """``[m]`` date."""
    clock_ns: Ints
    """``[m]``."""
    states: NDArray[np.float32]
    """``[m, STATE]``."""
    before: Ints
    """``[m, T]`` class of each target over as many minutes before."""
    classes: Ints
    """``[m, T]`` class that came."""


def examples(data: Sequence[Trajectory], question: Question) -> Examples:
    """What can be learned from training periods."""
    parts: list[tuple[Any, ...]] = []
    for period in sorted(data, key=lambda p: (p.instrument, p.date, p.start_ns)):
        step_ns = EVERY_S * 10**9
        clocks = clocks_within(period.rules, period.start_ns + MINUTE, period.end_ns, 1, step_ns)
        if len(clocks) == 0:
            continue
        moments = Moments.of(period, clocks)
        names = np.full((2, len(clocks)), [[period.instrument], [period.date]])
        before = _before(question, period.instrument, Mids.of(period), period.rules.trading_ns(clocks))
        states = moments.stream.states[moments.known]
        parts.append((*names, clocks, states, before, question.classes_after(period, clocks)))
    if not parts:
        raise ValueError("no training period holds a minute to learn from")
    return Examples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _before(question: Question, instrument: str, mids: Mids, at_ns: Any) -> Ints:
    """``[m, T]``: class of each target over as many minutes up to now."""
    at = np.asarray(at_ns, np.int64)
    found = [
        numbers(question.label, (target,), mids, at - target.minutes * MINUTE)[:, 0] for target in question.targets
    ]
    return classify(np.stack(found, axis=1), question.edges[instrument])


class Baseline(ForecastGenerator):
    """Fits one rule for each instrument (or all) and target.

    Parameters
    ----------
    label, minutes
        It foretells 1, 2, ... minutes; trends by this label.
    """

    training_days = TRAINING_DAYS
    kinds: tuple[str, ...] = ("trend", "volatility")
    """Kinds of target that it foretells."""
    source = "baseline"

    def __init__(self, label: str = "mars", minutes: int = 5) -> None:
        if label not in timed_labels():
            raise ValueError(f"{self.name}: label={label!r}; choose one of {', '.join(timed_labels())}")
        if minutes < 1:
            raise ValueError(f"{self.name}: minutes must be at least 1, got {minutes}")
        self.label, self.minutes = label, minutes
        self.question: Question | None = None
        self.rules: Any = None

    def parameters(self) -> Mapping[str, Any]:
        return {"label": self.label, "minutes": self.minutes}

    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        question = Question.freeze(self.label, targets_up_to(self.minutes, self.kinds), data)
        write_atomic(folder / "question.json", pretty(question.to_dict()) + "\n")
        with threadpool_limits(1):  # threads that wait for each other are slower than one wherever cores are shared
            rules = self.learn(examples(data, question), question, seed)
        write_atomic(folder / "rules.pickle", pickle.dumps(rules))
        return Artifact.write(folder, generator=self.name, version=self.version, seed=seed, data=data)

    def load(self, artifact: Artifact) -> None:
        self.question = Question.from_dict(json.loads((artifact.folder / "question.json").read_text()))
        self.rules = pickle.loads((artifact.folder / "rules.pickle").read_bytes())  # sealed by its own hash

    def forecast(self, starts: Sequence[Start], question: Question) -> Floats:
        if self.question is None:
            raise ValueError(f"{self.name} has learned nothing yet; fit and load it first")
        columns = self.question.columns(question, self.name)
        out = np.full((len(starts), len(question.targets), 3), np.nan)
        with threadpool_limits(1):
            self._tell_all(starts, columns, out)
        return out

    def _tell_all(self, starts: Sequence[Start], columns: list[int | None], out: Floats) -> None:
        assert self.question is not None
        for rows, moments in moments_of(starts):
            last = max((starts[i] for i in rows), key=lambda s: s.clock_ns)
            name, day = last.instrument, last.history
            at = np.asarray(last.rules.trading_ns(np.array([starts[i].clock_ns for i in rows])), np.int64)
            before = _before(self.question, name, Mids.of(day), at)
            states = moments.stream.states[moments.known]
            for j, own in enumerate(columns):
                if own is not None:
                    out[rows, j] = self.tell(own, name, states, before[:, own])

    @abstractmethod
    def learn(self, seen: Examples, question: Question, seed: int) -> Any:
        """Whatever ``tell`` needs."""

    @abstractmethod
    def tell(self, target: int, instrument: str, states: NDArray[np.float32], before: Ints) -> Floats:
        """Probabilities ``[m, 3]`` of a target at some moments of one instrument."""


def _frequencies(classes: Ints) -> list[float]:
    counts = np.bincount(classes[classes != MISSING], minlength=3) + PRIOR
    return [float(share) for share in counts / counts.sum()]


class CommonestClass(Baseline):
    """How often each class came in training, by instrument: what is known without looking."""

    name = "commonest-class"
    summary = "shares of the classes in training, the same for every start"

    def learn(self, seen: Examples, question: Question, seed: int) -> Any:
        names = np.unique(seen.instrument)
        return {str(n): [_frequencies(column) for column in seen.classes[seen.instrument == n].T] for n in names}

    def tell(self, target: int, instrument: str, states: NDArray[np.float32], before: Ints) -> Floats:
        return np.tile(self.rules[instrument][target], (len(states), 1))


class LastDirection(Baseline):
    """How often each class came after that of as many minutes before, by instrument."""

    name = "last-direction"
    summary = "shares of the classes in training after the class of the minutes before"

    def learn(self, seen: Examples, question: Question, seed: int) -> Any:
        rules: dict[str, list[list[list[float]]]] = {}
        for name in np.unique(seen.instrument):
            own = seen.instrument == name
            rules[str(name)] = [
                [_frequencies(came[last == c]) for c in range(3)] + [_frequencies(came)]  # the last: nothing before
                for last, came in zip(seen.before[own].T, seen.classes[own].T, strict=True)
            ]
        return rules

    def tell(self, target: int, instrument: str, states: NDArray[np.float32], before: Ints) -> Floats:
        return np.array(self.rules[instrument][target])[before]


class ImbalanceLogistic(Baseline):
    """Multinomial logistic regression of the trend on log ratios of bid to ask volume over 1, 5 and 10 levels."""

    name = "imbalance-logistic"
    kinds = ("trend",)
    summary = "logistic regression on the imbalance of the book"

    def learn(self, seen: Examples, question: Question, seed: int) -> Any:
        from sklearn.linear_model import LogisticRegression

        rules: dict[str, list[Any]] = {}
        for name in np.unique(seen.instrument):
            own = seen.instrument == name
            x = _imbalance(seen.states[own])
            rules[str(name)] = []
            for column in seen.classes[own].T:
                known = column != MISSING
                few = len(np.unique(column[known])) < 2
                made = _frequencies(column) if few else LogisticRegression(max_iter=500).fit(x[known], column[known])
                rules[str(name)].append(made)
        return rules

    def tell(self, target: int, instrument: str, states: NDArray[np.float32], before: Ints) -> Floats:
        return _told(self.rules[instrument][target], _imbalance(states))


class GradientBoosting(Baseline):
    """Boosted trees on the whole state of the market: ten levels a side, what lately happened, time of day, instrument.

    Trees are grown on the first three quarters of the training moments (by date, on a single day by clock) until those
    after them are foretold no better; as many are then grown on all.
    """

    name = "gradient-boosting"
    summary = "boosted trees on the state of the book and of the order flow"
    source = "Friedman (2001), scikit-learn's HistGradientBoostingClassifier"

    def __init__(self, label: str = "mars", minutes: int = 5, trees: int = 200) -> None:
        super().__init__(label, minutes)
        if trees < 1:
            raise ValueError(f"{self.name}: trees must be at least 1, got {trees}")
        self.trees = trees

    def parameters(self) -> Mapping[str, Any]:
        return {**super().parameters(), "trees": self.trees}

    def learn(self, seen: Examples, question: Question, seed: int) -> Any:
        names = sorted(set(map(str, seen.instrument)))
        number = {name: i for i, name in enumerate(names)}
        x = np.column_stack([seen.states, [number[str(n)] for n in seen.instrument]])
        early, late = _split(seen)
        models = []
        for target, column in zip(question.targets, seen.classes.T, strict=True):
            known = column != MISSING
            fits = early & known & ~_reaches(seen, early, target.minutes)
            models.append(self._grown(x, column, fits, late & known, known, seed))
        return {"instruments": number, "models": models}

    def _grown(
        self, x: Floats, y: Ints, early: NDArray[np.bool_], late: NDArray[np.bool_], every: NDArray[np.bool_], seed: int
    ) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        if len(np.unique(y[early])) < 3 or not late.any():
            return _frequencies(y)
        settings: dict[str, Any] = {
            "learning_rate": 0.05,
            "max_leaf_nodes": 15,
            "min_samples_leaf": 100 if early.sum() > 10_000 else 20,
            "early_stopping": False,
            "random_state": seed,
            "categorical_features": [x.shape[1] - 1],
        }
        tried = HistGradientBoostingClassifier(max_iter=self.trees, **settings).fit(x[early], y[early])
        losses = [
            -np.log(np.maximum(p[np.arange(len(p)), y[late]], 1e-12)).mean()
            for p in tried.staged_predict_proba(x[late])
        ]
        count = int(np.argmin(losses)) + 1
        return HistGradientBoostingClassifier(max_iter=count, **settings).fit(x[every], y[every])

    def tell(self, target: int, instrument: str, states: NDArray[np.float32], before: Ints) -> Floats:
        which = np.full(len(states), self.rules["instruments"][instrument])
        return _told(self.rules["models"][target], np.column_stack([states, which]))


def _told(model: Any, x: Floats) -> Floats:
    """Probabilities of all three classes ``[m, 3]`` of a fitted classifier, or of fixed shares."""
    if isinstance(model, list):
        return np.tile(model, (len(x), 1))
    out = np.zeros((len(x), 3))
    out[:, model.classes_] = model.predict_proba(x)
    return out


def _imbalance(states: NDArray[np.float32]) -> Floats:
    """``[m, 3]``: log of bid over ask volume, one lot added to each."""
    columns = []
    for levels in LEVELS_OF_IMBALANCE:
        bid, ask = (
            states[:, [STATE.index(f"{side}_volume_{k + 1}") for k in range(levels)]].sum(axis=1, dtype=np.float64)
            for side in ("bid", "ask")
        )
        columns.append(np.log((bid + 1) / (ask + 1)))
    return np.stack(columns, axis=1)


def _split(seen: Examples) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The earlier moments and the later ones."""
    days = np.unique(seen.day)
    if len(days) > 1:
        first = np.isin(seen.day, days[: max(int(SEEN_FIRST * len(days)), 1)])
    else:
        first = seen.clock_ns < np.quantile(seen.clock_ns, SEEN_FIRST)
    return first, ~first


def _reaches(seen: Examples, early: NDArray[np.bool_], minutes: int) -> NDArray[np.bool_]:
    """Whether a moment's horizon reaches into the later moments of its own day."""
    later = ~early & np.isin(seen.day, np.unique(seen.day[early]))
    if not later.any():
        return np.zeros(len(early), bool)
    return np.asarray(seen.clock_ns + minutes * MINUTE > seen.clock_ns[later].min())
