"""Copies of training days are told from independent markets, however much or little is copied."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pairs_of_arrays import bars_of, missing, pairs

from marsbench.evidence import TrajectoryPairs
from marsbench.market.bars import MinuteBars
from marsbench.metrics.memorisation import KEY, Memorisation
from marsbench.scores import Score

MINUTES, DAYS, ROLLOUTS = 25, 24, 2


def market(rng: np.random.Generator, *shape: int, volatility: float = 1e-3) -> MinuteBars:
    return bars_of(volatility * rng.standard_normal((*shape, MINUTES)), rng)


def evidence(rng: np.random.Generator, simulated: MinuteBars, training: MinuteBars) -> TrajectoryPairs:
    made = pairs(market(rng, DAYS), simulated, days=DAYS)
    return replace_training(made, {"X0": [training[i] for i in range(training.shape[0])]})


def replace_training(made: TrajectoryPairs, training: dict[str, list[MinuteBars]]) -> TrajectoryPairs:
    kept = {name: made.__dict__[name] for name in ("replay_bars", "simulated_bars")}
    out = replace(made, training=training)
    out.__dict__.update(kept)
    return out


def scored(found: TrajectoryPairs) -> Score:
    (score,) = Memorisation().evaluate(found, np.random.default_rng(0)).scores
    assert score.key == KEY
    return score


def copy_of(training: MinuteBars, share: float, rng: np.random.Generator) -> MinuteBars:
    """Rollouts of which so many are training days, minute by minute, and the others are new."""
    new = market(rng, DAYS, ROLLOUTS)
    picked = rng.integers(0, training.shape[0], (DAYS, ROLLOUTS))
    copied = rng.random((DAYS, ROLLOUTS)) < share
    values = {}
    for name in new.__dataclass_fields__:
        old, fresh = getattr(training, name)[picked], getattr(new, name)
        values[name] = np.where(copied[..., None], old, fresh)
    return MinuteBars(**values)


@pytest.mark.parametrize("seed", range(3))
def test_an_independent_generator_lands_at_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    score = scored(evidence(rng, market(rng, DAYS, ROLLOUTS), market(rng, 40)))
    assert score.value == pytest.approx(1, abs=0.02)
    assert score.ci_low is not None
    assert score.ci_high is not None
    assert score.ci_low - 0.01 < 1 < score.ci_high + 0.01


def test_replay_itself_is_exactly_one() -> None:
    rng = np.random.default_rng(0)
    found = evidence(rng, market(rng, DAYS, 1), market(rng, 40))
    found.__dict__["simulated_bars"] = replace_axis(found.replay_bars)
    assert scored(found).value == pytest.approx(1, abs=1e-12)


def replace_axis(bars: MinuteBars) -> MinuteBars:
    return bars[:, None]


def test_copies_fall_the_further_the_more_is_copied() -> None:
    rng = np.random.default_rng(1)
    training = market(rng, 40)
    none, some, half, all_of_it = (
        scored(evidence(rng, copy_of(training, share, rng), training)).value or 0.0 for share in (0, 0.2, 0.5, 1)
    )
    assert none > some > half > all_of_it
    assert all_of_it < 0.15
    assert half == pytest.approx(np.sqrt(none * all_of_it), rel=0.25), "the mean of logs is linear in the share"


def test_days_that_differ_from_training_days_do_not_look_like_independence_lost() -> None:
    """Twice the volatility in all test days: ratios of raw distances would move, the difference to replay does not."""
    rng = np.random.default_rng(2)
    made = pairs(market(rng, DAYS, volatility=2e-3), market(rng, DAYS, ROLLOUTS, volatility=2e-3), days=DAYS)
    training = market(rng, 40)
    found = replace_training(made, {"X0": [training[i] for i in range(40)]})
    assert scored(found).value == pytest.approx(1, abs=0.03)


def test_it_does_not_gate_and_without_training_days_it_is_missing_with_the_reason() -> None:
    rng = np.random.default_rng(3)
    score = scored(pairs(market(rng, DAYS), market(rng, DAYS, ROLLOUTS), days=DAYS))
    assert (score.value, score.reason) == (None, "the data set has no training days")
    assert (score.group, score.direction, score.floor) == ("validity", "none", None)


def test_windows_without_a_mid_are_left_out_and_nothing_left_is_said() -> None:
    rng = np.random.default_rng(4)
    found = evidence(rng, market(rng, DAYS, ROLLOUTS), market(rng, 40))
    found.__dict__["simulated_bars"] = missing(found.simulated_bars, "mid_half_ticks")
    score = scored(found)
    assert score.value is None
    assert "no window of 5 minutes" in (score.reason or "")
    with pytest.raises(ValueError, match="at least 1 minute, got 0"):
        Memorisation(window=0)
