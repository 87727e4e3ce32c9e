"""The realism metrics on evidence whose answer is known, and on evidence that can hardly be scored."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from pairs_of_arrays import OPEN, bars_of, missing, pairs

from marsbench.evidence import Metric, TrajectoryPairs
from marsbench.market.bars import MinuteBars
from marsbench.market.orders import orders
from marsbench.market.replay import cut, make_trajectory
from marsbench.market.rules import MINUTE, NASDAQ, SECOND
from marsbench.market.trajectory import BookState
from marsbench.metrics.distribution_similarity import DistributionSimilarity
from marsbench.metrics.stylized_facts import StylizedFacts
from marsbench.metrics.three_class_accuracy import ThreeClassAccuracy
from marsbench.simulation.contracts import Start
from marsbench.stats import oracles
from marsbench.stats.facts import FACTS

M = 25
METRICS: tuple[Metric, ...] = (StylizedFacts(), DistributionSimilarity(), ThreeClassAccuracy())
SMALL: tuple[Metric, ...] = (StylizedFacts(splits=4, shuffles=2), DistributionSimilarity(splits=4),
                             ThreeClassAccuracy())  # fmt: skip
IDS = [m.name for m in METRICS]


def market(count: int, rng: np.random.Generator, **garch: float) -> MinuteBars:
    """``count`` windows of a GARCH market whose volume moves with volatility."""
    r = oracles.garch((count, M), rng, **{"alpha": 0.3, "beta": 0.6, **garch})
    return bars_of(4e-4 * r, rng, activity=0.3 + r**2)


def reshaped(bars: MinuteBars, *shape: int) -> MinuteBars:
    return MinuteBars(**{k: v.reshape(*shape, v.shape[-1]) for k, v in bars.__dict__.items()})


def rollouts(starts: int, count: int, rng: np.random.Generator, **garch: float) -> MinuteBars:
    return reshaped(market(starts * count, rng, **garch), starts, count)


def scores(metric: Metric, evidence: TrajectoryPairs, seed: int = 0) -> dict:
    return {s.key: s for s in metric.evaluate(evidence, np.random.default_rng(seed)).scores}


def shuffled(bars: MinuteBars, rng: np.random.Generator) -> MinuteBars:
    """Replay with the minutes of each window in another order: what the floor is made of."""
    r = np.diff(np.log(bars.last_trade_ticks), axis=-1)
    order = np.argsort(rng.random(r.shape), axis=-1)
    again = bars_of(np.take_along_axis(r, order, -1), rng)
    return replace(again, volume_shares=np.take_along_axis(bars.volume_shares, order, -1))


def test_a_perfect_generator_reaches_the_ceiling_and_shuffled_replay_the_floor():
    rng = np.random.default_rng(1)
    truth = market(300, rng)
    perfect = scores(StylizedFacts(), pairs(truth, rollouts(300, 4, rng)))["facts.06_volatility_clustering"]
    poor = scores(StylizedFacts(), pairs(truth, reshaped(shuffled(truth, rng), 300, 1)))[
        "facts.06_volatility_clustering"
    ]
    for score in (perfect, poor):
        assert score.informative
        assert score.ceiling < score.floor
    assert perfect.normalised == pytest.approx(1, abs=0.3)
    assert poor.normalised == pytest.approx(0, abs=0.3)


def test_a_generator_of_another_distribution_scores_below_the_ceiling_and_the_right_one_at_it():
    rng = np.random.default_rng(2)
    truth, right = market(200, rng), rollouts(200, 2, rng)
    wrong = replace(right, spread_ticks=right.spread_ticks + 1.0)
    found = [
        scores(DistributionSimilarity(), pairs(truth, b))["distribution_similarity.spread"] for b in (right, wrong)
    ]
    assert found[0].value == pytest.approx(found[0].ceiling, abs=0.02)
    assert found[1].value < found[0].value - 0.2
    assert found[1].ci_high < found[1].ceiling


def test_a_frozen_floor_normalises_and_without_it_there_is_no_normalised_score():
    rng = np.random.default_rng(3)
    truth, simulated = market(60, rng), rollouts(60, 2, rng)
    key = "distribution_similarity.spread"
    with_floor = scores(DistributionSimilarity(), pairs(truth, simulated, floors={key: 0.4}))[key]
    assert with_floor.informative
    assert with_floor.normalised == pytest.approx((with_floor.value - 0.4) / (with_floor.ceiling - 0.4))
    without = scores(DistributionSimilarity(), pairs(truth, simulated))[key]
    assert (without.normalised, without.informative, without.floor) == (None, None, None)
    assert "no floor" in without.reason
    close = scores(DistributionSimilarity(), pairs(truth, simulated, floors={key: without.ceiling}))[key]
    assert close.informative is False
    assert close.normalised is None
    assert "uninformative" in close.reason


def test_facts_whose_order_cannot_be_shuffled_take_the_frozen_floor():
    rng = np.random.default_rng(4)
    floors = {f"facts.{f.key}": 9.0 for f in FACTS}
    found = scores(StylizedFacts(splits=8), pairs(market(40, rng), rollouts(40, 1, rng), floors=floors))
    for fact in FACTS:
        assert (found[f"facts.{fact.key}"].floor == 9.0) is not fact.temporal


def test_a_shuffle_cannot_change_bursts_so_fact_five_says_that_it_is_uninformative():
    rng = np.random.default_rng(5)
    found = scores(StylizedFacts(), pairs(market(80, rng), rollouts(80, 2, rng)))["facts.05_intermittency"]
    assert found.floor == pytest.approx(found.ceiling)
    assert found.informative is False
    assert "uninformative" in found.reason


def test_foresight_is_rewarded_and_its_absence_is_chance():
    rng = np.random.default_rng(6)
    truth = market(120, rng)
    blind = rollouts(120, 3, rng)
    seeing = reshaped(truth[np.repeat(np.arange(120), 3)], 120, 3)
    known, unknown = (scores(ThreeClassAccuracy(), pairs(truth, b)) for b in (seeing, blind))
    for key, score in known.items():
        assert score.value == 1.0, key
    for key, score in unknown.items():
        if key.endswith(".kappa"):
            assert score.value == pytest.approx(0, abs=0.2), key
            continue
        assert score.value == pytest.approx(1 / 3, abs=0.15), key
        assert score.floor >= 1 / 3 - 1e-9
        assert score.normalised is None
    one = unknown["three_class_accuracy.buy_order_ratio.one_rollout"]
    assert one.ci_low < 1 / 3 < one.ci_high
    assert one.n == 120 * M
    assert unknown["three_class_accuracy.return_1min.majority_vote"].n == 120


def test_averaging_paths_hides_a_sign_that_the_vote_sees():
    """Two rollouts of three have the right sign, one is far off: the vote is right, the mean is not."""
    rng = np.random.default_rng(7)
    r = 4e-4 * rng.standard_normal((60, M))
    truth = bars_of(r, rng)
    paths = np.stack([r, r, -3 * r], axis=1)
    found = scores(ThreeClassAccuracy(), pairs(truth, bars_of(paths, rng)))
    assert found["three_class_accuracy.return_1min.majority_vote"].value == 1.0
    assert found["three_class_accuracy.return_1min.mean_of_rollouts"].value < 0.6


def test_terciles_are_per_instrument_unless_asked_otherwise():
    rng = np.random.default_rng(8)
    bars = market(60, rng)
    wide = replace(bars, spread_ticks=bars.spread_ticks + 100 * (np.arange(60) % 2)[:, None])
    other = market(60, rng)
    simulated = reshaped(replace(other, spread_ticks=other.spread_ticks + 100 * (np.arange(60) % 2)[:, None]), 60, 1)
    key = "three_class_accuracy.spread.one_rollout"
    evidence = pairs(wide, simulated, instruments=2)
    assert scores(ThreeClassAccuracy(), evidence)[key].value == pytest.approx(1 / 3, abs=0.05)
    assert scores(ThreeClassAccuracy(edges="pooled"), evidence)[key].value > 0.5
    with pytest.raises(ValueError, match="choose"):
        ThreeClassAccuracy(edges="day")


def test_the_time_of_day_is_learned_on_other_days():
    rng = np.random.default_rng(9)
    bars = market(80, rng)
    busy = np.where(np.arange(80) % 2, 5.0, 0.0)[:, None]  # every second window of a day is busy
    evidence = pairs(replace(bars, spread_ticks=bars.spread_ticks + busy), rollouts(80, 1, rng), per_day=2)
    out = ThreeClassAccuracy().evaluate(evidence, rng)
    table = out.tables["accuracy_summary"]
    row = table["quantity"].index("spread")
    assert table["time_of_day_accuracy"][row] > 0.55
    found = {score.key: score for score in out.scores}
    assert found["three_class_accuracy.spread.one_rollout"].floor == table["time_of_day_accuracy"][row]
    assert table["floor_name"][row] == "time_of_day"


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
def test_results_are_reproducible_and_depend_on_the_generator_given(metric):
    rng = np.random.default_rng(10)
    evidence = pairs(market(24, rng), rollouts(24, 2, rng))
    first, again = (metric.evaluate(evidence, np.random.default_rng(1)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
def test_a_single_day_is_called_within_day_inference(metric):
    rng = np.random.default_rng(11)
    evidence = pairs(market(8, rng), rollouts(8, 2, rng), per_day=8, single_day=True)
    out = metric.evaluate(evidence, rng)
    assert any("within-day inference only" in note for note in out.notes)
    labels = {s.ci_method for s in out.scores if s.ci_method}
    assert all("t interval, 8 clusters" in label for label in labels)


def degenerate(case: str) -> TrajectoryPairs:
    """Evidence of which little can be said."""
    rng = np.random.default_rng(12)
    truth, simulated = market(6, rng), rollouts(6, 2, rng)
    prices = ("last_trade_ticks", "mean_trade_ticks", "mid_half_ticks")
    if case == "one start, one rollout":
        return pairs(truth[:1], simulated[:1, :1])
    if case == "two starts":
        return pairs(truth[:2], simulated[:2])
    if case == "three clusters":
        return pairs(truth, simulated, per_day=2)
    if case == "one cluster":
        return pairs(truth, simulated, per_day=6)
    if case == "frozen mid":
        frozen = bars_of(np.zeros((6, 2, M)), rng)
        return pairs(truth, replace(frozen, volatility=np.zeros((6, 2, M)), spread_ticks=np.ones((6, 2, M))))
    if case == "constant market and constant generator":
        flat = {k: np.ones_like(v) for k, v in truth.__dict__.items()}
        return pairs(MinuteBars(**flat), reshaped(MinuteBars(**{k: np.repeat(v, 2, 0) for k, v in flat.items()}), 6, 2))
    if case == "no trades":
        return pairs(truth, replace(missing(simulated, *prices[:2]), volume_shares=np.zeros((6, 2, M))))
    if case == "one-sided book":
        return pairs(truth, missing(simulated, "mid_half_ticks", "spread_ticks", "volatility"))
    if case == "empty replay":
        return pairs(missing(truth, *truth.__dict__), simulated)
    if case == "nothing at all":
        return pairs(missing(truth, *truth.__dict__), missing(simulated, *simulated.__dict__))
    if case == "no orders in one window":
        gone = {k: np.where(np.arange(6)[:, None] == 0, np.nan, v) for k, v in truth.__dict__.items()}
        return pairs(MinuteBars(**gone), simulated)
    if case == "three minutes":
        short = {k: v[..., : 3 + (k in prices)] for k, v in truth.__dict__.items()}
        return pairs(
            MinuteBars(**short), reshaped(MinuteBars(**{k: np.repeat(v, 2, 0) for k, v in short.items()}), 6, 2)
        )
    raise AssertionError(case)


CASES = [
    "one start, one rollout", "two starts", "three clusters", "one cluster", "frozen mid",
    "constant market and constant generator", "no trades", "one-sided book", "empty replay", "nothing at all",
    "no orders in one window", "three minutes",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("metric", SMALL, ids=IDS)
def test_too_little_data_is_missing_with_a_reason_and_can_be_drawn(metric, case):
    out = metric.evaluate(degenerate(case), np.random.default_rng(13))
    assert len(out.scores) in (11, 15, 30, 40)
    for score in out.scores:
        assert re.fullmatch(r"[a-z0-9_.\-]+", score.key)
        if score.value is None or score.ci_low is None:
            assert score.reason
        if score.normalised is not None:
            assert score.informative
    tables = json.loads(json.dumps(out.tables, allow_nan=False))
    figures = metric.draw(tables)
    assert figures
    for figure in figures.values():
        figure.canvas.draw()
    if case in ("empty replay", "nothing at all"):
        assert all(s.value is None for s in out.scores)


def test_one_start_still_has_its_full_sample_scores():
    found = scores(DistributionSimilarity(), degenerate("one start, one rollout"))
    assert found["distribution_similarity.spread"].value is None
    assert "at least 2" in found["distribution_similarity.spread"].reason
    assert found["distribution_similarity.spread.full"].value > 0.2
    assert "at least 2" in found["distribution_similarity.spread.full"].reason


def test_the_metrics_run_on_real_orders_and_persistence_comes_from_the_history():
    """A day of random orders, replayed: the minute before the start is read from the day's own bars."""
    rng = np.random.default_rng(14)
    n = 12_000
    times = np.sort(rng.integers(OPEN + 1, OPEN + 60 * MINUTE, n))
    rows = orders(
        times,
        kind=rng.integers(0, 2, n),
        price_ticks=10_000 + rng.integers(-5, 6, n),
        size_shares=rng.integers(1, 9, n),
    )
    day = make_trajectory(
        instrument="X",
        date="2024-01-02",
        rules=NASDAQ,
        start_ns=OPEN,
        end_ns=OPEN + 60 * MINUTE,
        book=BookState(),
        orders=rows,
    )
    starts, truth = [], []
    for begin in range(OPEN + 5 * MINUTE, OPEN + 50 * MINUTE, 10 * MINUTE):
        window = cut(day, begin, begin + 5 * MINUTE)
        # as recordings do, the history begins a little after the minute
        history = replace(cut(day, OPEN + SECOND, begin))
        starts.append(Start("X", day.date, NASDAQ, begin, window.book, history, f"block {begin}"))
        truth.append(window)
    evidence = TrajectoryPairs(
        starts=tuple(starts), replay=tuple(truth), simulated=tuple((t, t) for t in truth), minutes=5, single_day=True
    )
    out = ThreeClassAccuracy().evaluate(evidence, rng)
    table = out.tables["accuracy_summary"]
    assert all(s.value == 1 for s in out.scores)  # kappa too
    assert all(v is not None for v in table["persistence_accuracy"])
    from marsbench.market.bars import minute_bars
    from marsbench.metrics._baselines import histories, value_before_start
    from marsbench.quantities import TEN as QUANTITIES

    whole = minute_bars(day)
    before = histories(evidence)
    for quantity, expected in (
        (QUANTITIES[4], whole.buy_ratio[[4, 14, 24]]),
        (QUANTITIES[6], whole.mid_returns(2)[[3, 13, 23]]),
    ):
        np.testing.assert_allclose(value_before_start(quantity, before)[:3], expected)
    for metric in SMALL:
        assert metric.evaluate(evidence, rng).scores


@pytest.mark.parametrize("metric", METRICS, ids=IDS)
def test_intervals_stay_in_the_range_that_a_score_can_take(metric):
    rng = np.random.default_rng(15)
    evidence = pairs(market(5, rng), rollouts(5, 2, rng), per_day=5, single_day=True)
    for score in metric.evaluate(evidence, rng).scores:
        if score.ci_low is not None:
            assert (-1 if score.key.endswith(".kappa") else 0) <= score.ci_low <= score.ci_high
            assert score.direction == "lower" or score.ci_high <= 1
