"""Forecasters to beat: what they state is what training says, and they find what is planted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from markets import start_at, two_days
from marsbench import registry
from marsbench.generators.forecast_baselines import Baseline, Examples, GradientBoosting, examples
from marsbench.learning.moments import moments_of
from marsbench.learning.order_stream import STATE, order_stream
from marsbench.market.rules import MINUTE
from marsbench.questions import Question, targets_up_to
from marsbench.simulation.contracts import Artifact, Budget, Start
from marsbench.stats.classes import MISSING

NAMES = ("commonest-class", "last-direction", "imbalance-logistic", "gradient-boosting")
CLOCKS = ("09:45", "10:05", "10:40")


def fitted(name: str, folder: Path, **parameters: Any) -> Any:
    made = registry.generator(name, **({"minutes": 2} | parameters))
    assert isinstance(made, Baseline)
    folder.mkdir(exist_ok=True)
    made.fit([two_days()[0]], folder, seed=0, budget=Budget())
    made.load(Artifact.read(folder))
    return made


def asked(minutes: int = 2, label: str = "mars") -> Question:
    return Question.freeze(label, targets_up_to(minutes), [two_days()[0]])


def starts() -> list[Start]:
    return [start_at(two_days()[1], clock) for clock in CLOCKS]


@pytest.mark.parametrize("name", NAMES)
def test_each_states_probabilities_of_the_targets_that_it_knows(name: str, tmp_path: Path) -> None:
    made = fitted(name, tmp_path)
    stated = made.forecast(starts(), asked(3))
    known = [t.kind in made.kinds and t.minutes <= 2 for t in asked(3).targets]
    assert stated.shape == (3, 6, 3)
    assert np.isnan(stated[:, ~np.array(known)]).all()
    np.testing.assert_allclose(stated[:, known].sum(axis=2), 1)
    assert (stated[:, known] > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_forecast_is_the_same_whatever_other_starts_are_asked_with_it(name: str, tmp_path: Path) -> None:
    made, every = fitted(name, tmp_path), starts()
    together = made.forecast(every, asked())
    alone = np.concatenate([made.forecast([s], asked()) for s in every])
    np.testing.assert_allclose(together, alone, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_after_a_start_goes_into_its_forecast(name: str, tmp_path: Path) -> None:
    """The first start's forecast stays, though later starts of the day bring a longer history."""
    made, (first, *_, last) = fitted(name, tmp_path), starts()
    known = [m.known[0] for rows, m in moments_of([first, last])]
    assert known == [len(order_stream(first.history))]
    np.testing.assert_allclose(
        made.forecast([first, last], asked())[0], made.forecast([first], asked())[0], equal_nan=True
    )


def test_other_classes_than_those_of_training_are_refused(tmp_path: Path) -> None:
    made = fitted("commonest-class", tmp_path)
    with pytest.raises(ValueError, match="fitted for trends by label 'mars', the task asks for 'mars-time'"):
        made.forecast(starts(), asked(label="mars-time"))
    other = Question.freeze("mars", targets_up_to(2), [two_days()[1]])
    with pytest.raises(ValueError, match="fitted for other classes of ZI-A than the task asks for"):
        made.forecast(starts(), other)


@pytest.mark.parametrize("name", NAMES)
def test_without_having_learned_it_says_so_and_wrong_parameters_are_errors(name: str) -> None:
    made: Any = registry.generator(name)
    with pytest.raises(ValueError, match="has learned nothing yet"):
        made.forecast(starts(), asked())
    with pytest.raises(ValueError, match="label='lse'; choose one of mars, mars-time"):
        registry.generator(name, label="lse")
    with pytest.raises(ValueError, match="minutes must be at least 1"):
        registry.generator(name, minutes=0)


def test_commonest_class_and_last_direction_are_counts(tmp_path: Path) -> None:
    question = asked()
    seen = examples([two_days()[0]], question)
    column, before = seen.classes[:, 0], seen.before[:, 0]
    counts = np.array([(column == c).sum() for c in range(3)]) + 1.0
    stated = fitted("commonest-class", tmp_path / "a").forecast(starts(), question)
    np.testing.assert_allclose(stated[:, 0], np.tile(counts / counts.sum(), (3, 1)))
    made = fitted("last-direction", tmp_path / "b")
    for last in (0, 1, 2, MISSING):
        own = column[before == last] if last != MISSING else column
        counts = np.array([(own == c).sum() for c in range(3)]) + 1.0
        np.testing.assert_allclose(made.tell(0, "ZI-A", seen.states[:1], np.array([last])), [counts / counts.sum()])


def test_the_class_before_is_that_of_as_many_minutes_up_to_the_moment() -> None:
    """By the definition of the class that came, asked so many minutes earlier."""
    seen = examples([two_days()[0]], asked())
    at = {int(t): i for i, t in enumerate(seen.clock_ns)}
    for j, minutes in enumerate((1, 2)):
        pairs = [(at[t - minutes * MINUTE], i) for t, i in at.items() if t - minutes * MINUTE in at]
        assert len(pairs) > 50
        assert all(seen.classes[earlier, j] == seen.before[now, j] for earlier, now in pairs)


def planted(rng: np.random.Generator, rows: int = 4000) -> tuple[Examples, Question]:
    """Ten days on which the imbalance of the first level tells the class of the next minute nine times in ten."""
    question = replace(asked(1), targets=targets_up_to(1, ("trend",)))
    states = np.zeros((rows, len(STATE)), np.float32)
    volume = rng.integers(1, 50, (rows, 2))
    states[:, [STATE.index("ask_volume_1"), STATE.index("bid_volume_1")]] = volume
    told = np.digitize(np.log((volume[:, 1] + 1) / (volume[:, 0] + 1)), [-0.5, 0.5])
    came = np.where(rng.random(rows) < 0.9, told, rng.integers(0, 3, rows))[:, None]
    day = np.array([f"2024-01-{i * 10 // rows + 1:02d}" for i in range(rows)])
    clock = np.tile(np.arange(rows // 10), 10) * MINUTE
    return Examples(np.full(rows, "ZI-A"), day, clock, states, np.full((rows, 1), MISSING), came), question


@pytest.mark.parametrize(("name", "least"), [("imbalance-logistic", 0.75), ("gradient-boosting", 0.85)])
def test_a_planted_rule_is_found_and_a_shuffled_one_is_not(name: str, least: float) -> None:
    rng = np.random.default_rng(3)
    seen, question = planted(rng)
    fresh, _ = planted(rng)
    shuffled = replace(seen, classes=rng.permutation(seen.classes))
    right = []
    for one in (seen, shuffled):
        made: Any = registry.generator(name, minutes=1)
        with threadpool_limits(1):
            made.rules = made.learn(one, question, 0)
            p = made.tell(0, "ZI-A", fresh.states, fresh.before[:, 0])
        right.append(float((p.argmax(axis=1) == fresh.classes[:, 0]).mean()))
    assert right[0] > least
    assert right[1] < 0.5


def test_on_a_single_day_no_label_of_the_earlier_moments_reaches_into_the_later_ones() -> None:
    from marsbench.generators.forecast_baselines import _reaches, _split

    seen, _ = planted(np.random.default_rng(0), 400)
    one_day = replace(seen, day=np.full(400, "2024-01-01"), clock_ns=np.arange(400) * MINUTE)
    early, late = _split(one_day)
    kept = early & ~_reaches(one_day, early, 5)
    assert early.sum() == 300
    assert one_day.clock_ns[kept].max() + 5 * MINUTE <= one_day.clock_ns[late].min()
    assert kept.sum() == 296
    early, _ = _split(seen)
    assert not _reaches(seen, early, 5).any()  # days of their own


def test_trees_must_be_at_least_one() -> None:
    with pytest.raises(ValueError, match="trees must be at least 1, got 0"):
        GradientBoosting(trees=0)
