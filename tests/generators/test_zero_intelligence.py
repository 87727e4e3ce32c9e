"""Calibration gives back the rates that made the data; the flow follows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from markets import known_generator, opening, start_at, two_days
from marsbench.data.zi_market import PROFILES
from marsbench.generators.zero_intelligence import Law, calibrate
from marsbench.market.clearing_house import BookView
from marsbench.market.flow import Action, order_flow
from marsbench.market.orders import ORDER
from marsbench.market.rules import MINUTE, SECOND
from marsbench.simulation.agents import PeriodicAgent, market_buyer
from marsbench.simulation.contracts import AgentFactory, Artifact, Budget, RowOrders, Rows
from marsbench.simulation.rollout import simulate

PROFILE = PROFILES[0]


@pytest.fixture(scope="module")
def rates() -> object:
    return calibrate(list(two_days()))


def test_calibration_recovers_the_arrival_rates(rates) -> None:  # type: ignore[no-untyped-def]
    seconds = 2 * 90 * 60
    error = np.sqrt(PROFILE.limit_rate / (2 * seconds))
    assert rates.limit_rate == pytest.approx(PROFILE.limit_rate, abs=4 * error)
    assert rates.market_rate == pytest.approx(PROFILE.market_rate, abs=4 * error)


def test_calibration_recovers_the_rate_by_level(rates) -> None:  # type: ignore[no-untyped-def]
    counts = np.array(rates.limit_distance.weights)
    assert rates.limit_distance.values["ticks"] == PROFILE.distances().tolist()
    expected = PROFILE.weights() * counts.sum()
    assert ((counts - expected) ** 2 / expected).sum() < len(counts) + 5 * np.sqrt(2 * len(counts))


def test_calibration_recovers_the_cancellation_rates_near_the_touch(rates) -> None:  # type: ignore[no-untyped-def]
    near = PROFILE.cancel_rate_at(np.arange(1, 4))
    assert rates.cancel_rate[:3] == pytest.approx(near, rel=0.15)


def test_sizes_are_those_of_training(rates) -> None:  # type: ignore[no-untyped-def]
    assert rates.mean_size_shares == pytest.approx(PROFILE.mean_size_shares(), rel=0.03)


def test_too_little_training_flow_is_an_error_that_says_how_much_there_was(tmp_path: Path) -> None:
    day = two_days()[0]
    thin = replace(day, orders=day.orders[:5], fills=day.fills[:0])
    with pytest.raises(ValueError, match="at least 10 of each"):
        calibrate([thin])


def test_a_law_draws_its_values_with_their_weights() -> None:
    law = Law.empirical(a=np.array([3, 3, 7]), b=np.array([1, 1, 2]))
    assert law.values == {"a": [3, 7], "b": [1, 2]}
    assert law.cumulative().tolist() == [2 / 3, 1.0]


def test_an_artifact_gives_back_the_rates(tmp_path: Path) -> None:
    generator = known_generator()
    artifact = generator.fit(list(two_days()), tmp_path, seed=0, budget=Budget())
    generator.load(Artifact.read(artifact.folder))
    assert generator.rates["ZI-A"] == calibrate(list(two_days()))


def test_event_counts_are_poisson_with_the_published_rates() -> None:
    runs = simulate(known_generator(), [opening()], 16, 10 * MINUTE, key=2)[0]
    flows = [order_flow(t) for t in runs]
    limits = sum(int((f.action == Action.LIMIT).sum()) for f in flows)
    markets = sum(int((f.action == Action.AGGRESSIVE).sum()) for f in flows)
    exposure = 16 * 600 * 2
    assert abs(limits - PROFILE.limit_rate * exposure) < 4 * np.sqrt(PROFILE.limit_rate * exposure)
    assert abs(markets - PROFILE.market_rate * exposure) < 4 * np.sqrt(PROFILE.market_rate * exposure)


def test_waiting_times_pass_through_agents_orders_without_a_second_draw() -> None:
    """Orders outside the model's reach, sent often, must not change when the market acts (to rounding)."""

    class Nuisance(PeriodicAgent):
        def act(self, rows: Rows, book: BookView) -> RowOrders:
            super().act(rows, book)
            out = np.zeros(len(rows), ORDER)
            out["kind"] = 1
            out["price_ticks"] = 1801
            out["size_shares"] = 100
            return RowOrders(rows, out)

    start = start_at(two_days()[1], "10:00")
    factory = AgentFactory(lambda s, r: Nuisance(s, r, every_ns=SECOND // 10), "nuisance")
    calm = simulate(known_generator(), [start], 2, 2 * MINUTE, key=4)[0]
    busy = simulate(known_generator(), [start], 2, 2 * MINUTE, key=4, agents=[factory])[0]
    for one, two in zip(calm, busy, strict=True):
        market = two.orders[two.orders["owner"] == 0]
        assert len(two.orders) - len(market) == 1200
        assert len(market) == len(one.orders)
        for name in ("kind", "price_ticks", "size_shares"):
            assert np.array_equal(market[name], one.orders[name])
        assert np.abs(market["time_ns"] - one.orders["time_ns"]).max() < 10_000


def test_the_flow_reacts_to_an_agent_through_the_book() -> None:
    start = start_at(two_days()[1], "10:00")
    calm = simulate(known_generator(), [start], 32, 2 * MINUTE, key=4)[0]
    bought = simulate(known_generator(), [start], 32, 2 * MINUTE, key=4, agents=[market_buyer(5_000)])[0]

    def last_trade(runs) -> float:  # type: ignore[no-untyped-def]
        return float(np.mean([t.fills["price_ticks"][-1] for t in runs]))

    assert last_trade(bought) > last_trade(calm) + 0.5
