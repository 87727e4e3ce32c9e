"""The agents of ``chiarella`` order what their utility says; the market has the paper's facts; the fit finds them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import kurtosis

from markets import start_at, two_days
from marsbench.generators.chiarella import Chiarella
from marsbench.generators.chiarella.agents import (
    DRAWS,
    MOST_RATIO,
    PRICE,
    demand,
    expected_return,
    lowest_price,
    order_of,
    ratio_of,
    satisfied_price,
)
from marsbench.generators.chiarella.calibration import Settings, calibrate, volatilities
from marsbench.generators.chiarella.model import Behaviour, Model, OrderFlow, estimate, published
from marsbench.generators.chiarella.moments import MOMENTS, SUMS, moments, window_sums
from marsbench.generators.chiarella.report import notes_of, write_report
from marsbench.generators.chiarella.session import MEMORIES, STEP_S, Past, log_mids
from marsbench.market.bars import MinuteBars, minute_bars
from marsbench.market.flow import Action, order_flow
from marsbench.market.orders import Kind
from marsbench.market.rules import MINUTE, SECOND
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.agents import far_orders, market_buyer
from marsbench.simulation.contracts import REPORT, Artifact, Budget, Session
from marsbench.simulation.rollout import simulate

CALM = {"noise": 0.0005, "spread": 0.006, "sigma_1": 1.0, "sigma_2": 0.2, "tau_minutes": 5.0}
"""A market that stays near its start."""


@cache
def flow() -> OrderFlow:
    sums = dict(zip(SUMS, window_sums(two_days()[0], 15).sum(axis=0), strict=True))
    return estimate([two_days()[0]], season_minutes=15.0, **volatilities(sums))


def start(text: str = "10:00") -> Any:
    return start_at(two_days()[1], text)


class Shifted(Chiarella):
    """The fundamental value lies elsewhere than the price of the start, and stays there."""

    shift = 0.0

    def open(self, *args: Any, **options: Any) -> Session:
        session: Any = super().open(*args, **options)
        session.value += self.shift
        return session


def market(*, shift: float = 0.0, still: bool = False, **behaviour: float) -> Chiarella:
    """A generator with the flow of training and a behaviour of our own; ``still``: no news."""
    made = Shifted()
    made.shift = shift
    value = replace(flow(), value_per_root_s=1e-12) if still else flow()
    made.publish({"ZI-A": Model(value, Behaviour(**{**CALM, **behaviour}))})
    return made


def rollouts(generator: Chiarella, count: int, minutes: int, key: int = 5) -> list[Trajectory]:
    return simulate(generator, [start()], count, minutes * MINUTE, key=key)[0]


def minute_returns(runs: list[Trajectory]) -> Any:
    """``[rollouts, minutes]`` of the mid; NaN where a book is one-sided."""
    return MinuteBars.stack([minute_bars(t) for t in runs]).mid_returns(1)


# --- the agents -----------------------------------------------------------------------------------


def test_demand_is_the_log_distance_to_the_expected_price_over_the_price_of_risk() -> None:
    assert demand(100.0, 110.0, 1e-4) == pytest.approx(9.531017980432486)  # ln 1.1 / (1e-4 * 100)
    assert demand(110.0, 110.0, 1e-4) == 0.0
    assert demand(200.0, 100.0, 1e-3) == pytest.approx(-3.4657359027997265)  # -ln 2 / (1e-3 * 200)


def test_an_agent_is_satisfied_where_demand_equals_its_stock() -> None:
    assert satisfied_price(110.0, 1e-4, 9.531017980432486) == pytest.approx(100.0, rel=1e-12)
    assert satisfied_price(110.0, 1e-4, 0.0) == 110.0


def test_the_lowest_price_is_where_the_cash_is_spent() -> None:
    assert lowest_price(110.0, 1e-4, 0.0, 500.0) == pytest.approx(110 * math.exp(-0.05), rel=1e-12)
    price = lowest_price(110.0, 1e-4, 9.0, 500.0)
    assert price * (demand(price, 110.0, 1e-4) - 9.0) == pytest.approx(500.0, rel=1e-9)
    assert lowest_price(110.0, 1e-4, 9.0, 0.0) == pytest.approx(satisfied_price(110.0, 1e-4, 9.0))


def test_expectations_are_weighted_means_and_horizons_grow_with_fundamentalism() -> None:
    assert expected_return(2.0, 1.0, 1.0, 0.02, -0.01, 0.006) == pytest.approx(0.009)
    assert expected_return(0.0, 0.0, 0.0, 0.02, -0.01, 0.006) == 0.0
    assert ratio_of(3.0, 1.0) == 2.0
    assert ratio_of(1000.0, 0.0) == MOST_RATIO


def slow_order(u: Any, mid: float, ask: float, bid: float, gap: float, trend: Any, heat: Any, wealth: float) -> Any:
    """The same by brute force: the weights, then every price by bisection of its equation."""
    g1, g2, n = (-mean * math.log(x) for mean, x in zip((2.0, 0.7, 1.0), u[:3], strict=True))
    ratio = min(max((1 + g1) / (1 + g2), 1 / MOST_RATIO), MOST_RATIO)
    k = int(np.argmin(np.abs(np.log2(MEMORIES) - np.log2(ratio))))
    normal = math.sqrt(-2 * math.log(u[3])) * math.cos(2 * math.pi * u[4])
    x = (g1 * gap + g2 * trend[k] + n * 0.002 * ratio * normal) / (g1 + g2 + n)
    stock, cash = wealth * u[5], wealth * mid * u[6]
    risk = 0.004 * ratio * min(max(heat[k], 1 / 4), 4.0) / (wealth * mid)
    top = mid * math.exp(x + risk * (stock * mid + cash) / 2)
    pi = lambda p: math.log(top / p) / (risk * p)  # noqa: E731
    own = brentq(lambda p: pi(p) - stock, top / 4, top, xtol=1e-10)
    low = brentq(lambda p: p * (pi(p) - stock) - cash, top / 4, top, xtol=1e-10)
    price = low + u[7] * (top - low)
    if price < own:
        return 1, price, min(pi(min(price, ask)) - stock, cash / min(price, ask))
    return 0, price, min(stock - pi(max(price, bid)), stock)


def test_orders_are_those_of_a_slow_twin() -> None:
    rng, out = np.random.default_rng(3), np.empty(3)
    sides = []
    for _ in range(300):
        u, trend, heat = rng.uniform(size=DRAWS), 0.01 * rng.standard_normal(9), rng.exponential(size=9)
        mid = rng.uniform(500, 2000)
        book = (mid, mid + 1.5, mid - 1.5, 0.01 * rng.standard_normal())
        order_of(u, *book, trend, heat, 0.002, 0.004, np.array([2.0, 0.7]), MEMORIES, 500.0, out)
        assert out == pytest.approx(np.array(slow_order(u, *book, trend, heat, 500.0)), rel=1e-6, abs=1e-5)
        sides.append(out[0])
    assert 0.35 < np.mean(sides) < 0.65


def test_nobody_sells_more_than_it_has_or_buys_for_more_than_its_cash() -> None:
    """An agent that expects ten percent more, or less, finds the quotes so good that it would like more than it can."""
    u, out = np.full(DRAWS, 0.49), np.empty(3)
    for gap, most in ((0.1, 49.0 * 1000 / 1001), (-0.1, 49.0)):
        u[PRICE] = 0.4 if gap > 0 else 0.6
        order_of(u, 1e3, 1001.0, 999.0, gap, np.zeros(9), np.ones(9), 0.0, 1e-3, np.ones(2), MEMORIES, 100.0, out)
        assert out[0] == (gap > 0)
        assert out[2] == pytest.approx(most)


def test_orders_have_on_average_the_size_of_training() -> None:
    sent = np.concatenate([t.orders for t in rollouts(market(), 24, 10)])
    sizes = sent["size_shares"][sent["kind"] != Kind.CANCEL]
    error = float(np.std(sizes)) / math.sqrt(len(sizes))
    assert np.mean(sizes) == pytest.approx(flow().mean_size_shares, abs=4 * error + 0.1 * flow().mean_size_shares)


def test_agents_know_the_past_of_their_start() -> None:
    at, model = start(), market().models["ZI-A"]
    path, tau_s = log_mids(at), 60 * CALM["tau_minutes"]
    assert len(path) == 30 * 60 / STEP_S + 1
    past, k = Past(path, model), 4
    keep = math.exp(-STEP_S / (tau_s * MEMORIES[k]))
    weights = keep ** np.arange(len(path) - 2, -1, -1)
    average = keep ** (len(path) - 1) * path[0] + (1 - keep) * (weights * path[1:]).sum()
    squares = np.diff(path) ** 2 / model.flow.step_variance
    assert past.average[k] == pytest.approx(average, rel=1e-9)
    assert past.heat[k] == pytest.approx(keep ** (len(path) - 1) + (1 - keep) * (weights * squares).sum(), rel=1e-9)


# --- the market -----------------------------------------------------------------------------------


def test_arrivals_and_lifetimes_are_those_of_training() -> None:
    runs = rollouts(market(), 24, 10)
    flows = [order_flow(t) for t in runs]
    arrivals = np.array([(f.action != Action.CANCEL).sum() for f in flows]) / 600
    assert arrivals.mean() == pytest.approx(flow().order_rate, rel=0.15)  # the season of these ten minutes
    assert all((f.size_shares[f.action != Action.CANCEL] % 100 == 0).all() for f in flows)
    assert runs[0].labels["notes"]["rejected_per_order"] == 0


def test_fundamentalists_pull_the_mid_to_its_value_and_noise_traders_do_not() -> None:
    """Value 1% above the start: with fundamentalists the mid goes there, with noise traders alone it stays around."""

    def drift(**behaviour: float) -> tuple[float, float]:
        runs = rollouts(market(shift=0.01, still=True, **behaviour), 24, 20)
        ends = np.log([t.fills["price_ticks"][-1] / t.fills["price_ticks"][0] for t in runs])
        return float(ends.mean()), float(ends.std(ddof=1) / math.sqrt(len(ends)))

    (pulled, error), (left, other) = drift(sigma_1=10.0), drift(sigma_1=0.0, sigma_2=0.0)
    assert pulled == pytest.approx(0.01, abs=max(4 * error, 0.002))
    assert abs(left) < 4 * other + 0.001
    assert pulled - left > 4 * math.hypot(error, other)


def test_chartists_make_prices_more_volatile() -> None:
    """The paper's parameters without chartists and with many; rollouts are independent of each other."""

    def log_variance(sigma_2: float) -> Any:
        own = vars(replace(published(flow()), sigma_2=sigma_2))
        return np.log(np.nanmean(minute_returns(rollouts(market(**own), 32, 20)) ** 2, axis=1))

    calm, wild = log_variance(0.0), log_variance(5.0)
    error = math.hypot(calm.std(ddof=1), wild.std(ddof=1)) / math.sqrt(32)
    assert wild.mean() - calm.mean() > 4 * error


def test_chartists_make_fat_tails_and_clusters_of_volatility() -> None:
    """In the paper's parameters without chartists minutes are Gaussian and independent; with many neither."""

    def facts(sigma_2: float) -> tuple[Any, float]:
        own = vars(replace(published(flow()), sigma_2=sigma_2))
        returns = minute_returns(rollouts(market(**own), 64, 40))
        size = np.abs(returns) - np.nanmean(np.abs(returns))
        clustering = float(np.nanmean(size[:, 1:] * size[:, :-1]) / np.nanvar(np.abs(returns)))
        return kurtosis(returns, axis=1, nan_policy="omit"), clustering

    (calm, alone), (wild, clustered) = facts(0.0), facts(5.0)
    error = math.hypot(np.std(calm), np.std(wild)) / 8
    assert np.mean(wild) - np.mean(calm) > 2.5 * error
    assert clustered > 0.15 > 0.05 > abs(alone)


def test_the_market_follows_a_buyer_through_quotes_and_price() -> None:
    """With the same random numbers, agents' own orders of the next half minute are dearer than without the buyer."""
    calm = rollouts(market(), 32, 1)
    bought = simulate(market(), [start()], 32, MINUTE, key=5, agents=[market_buyer(5_000)])[0]

    def price(run: Trajectory) -> float:
        own = run.orders[(run.orders["owner"] == 0) & (run.orders["kind"] != Kind.CANCEL)]
        after = (own["time_ns"] > run.start_ns + SECOND) & (own["time_ns"] < run.start_ns + 31 * SECOND)
        return float(own["price_ticks"][after].mean())

    change = np.array([price(two) - price(one) for one, two in zip(calm, bought, strict=True)])
    assert change.mean() > max(4 * change.std(ddof=1) / math.sqrt(32), 1.0)


def test_orders_far_from_the_touch_leave_the_flow_as_it_is() -> None:
    calm = rollouts(market(), 4, 2)
    busy = simulate(market(), [start()], 4, 2 * MINUTE, key=5, agents=[far_orders(SECOND // 4)])[0]
    for one, two in zip(calm, busy, strict=True):
        own = two.orders[two.orders["owner"] == 0]
        assert len(two.orders) - len(own) == 480
        for name in ("kind", "price_ticks", "size_shares"):
            assert np.array_equal(own[name], one.orders[name])
        assert np.abs(own["time_ns"] - one.orders["time_ns"]).max() < 10_000


def test_the_same_key_gives_the_same_trajectories() -> None:
    one, two, other = (rollouts(market(), 2, 1, key) for key in (1, 1, 2))
    assert [t.content_hash() for t in one] == [t.content_hash() for t in two]
    assert one[0].content_hash() != other[0].content_hash()


# --- the fit --------------------------------------------------------------------------------------


def test_moments_are_those_of_a_known_walk() -> None:
    """A day whose minutes are counted by hand: no moment moves when windows are pooled, and missing ones are NaN."""
    sums = window_sums(two_days()[0], 15)
    assert sums.shape == (6, len(SUMS))
    found = dict(zip(MOMENTS, moments(sums.sum(axis=0)), strict=True))
    returns = minute_returns([two_days()[0]])[0]
    assert found["log_volatility"] == pytest.approx(math.log(math.sqrt(np.mean(returns**2))), abs=1e-9)
    fills = two_days()[0].fills["size_shares"].sum() / 90
    assert found["log_volume"] == pytest.approx(math.log(fills), rel=1e-9)
    assert np.isnan(moments(np.zeros(len(SUMS)))).all()


@cache
def planted() -> tuple[Model, tuple[Trajectory, ...]]:
    """A model whose markets are as volatile as its agents take for usual, and three hours that it made."""
    behaviour = Behaviour(noise=0.002, spread=0.006, sigma_1=1.0, sigma_2=0.2, tau_minutes=5.0)
    model, at = Model(flow(), behaviour), replace(start(), history=two_days()[0])
    for _ in range(2):
        sums = sum(window_sums(t, 10).sum(axis=0) for t in hours(model, at, 2))
        found = volatilities(dict(zip(SUMS, sums, strict=True)))["step_variance"]
        usual = math.sqrt(found * model.flow.step_variance)
        model = replace(model, flow=replace(model.flow, step_variance=usual))
    return model, tuple(hours(model, at, 3))


def hours(model: Model, at: Any, count: int) -> list[Trajectory]:
    return simulate(Chiarella.of({"ZI-A": model}), [at], count, 60 * MINUTE, key=11)[0]


def noise_of(behaviour: Behaviour) -> float:
    """Root mean square of what noise contributes to the expected return of an agent."""
    g1, g2, n = np.random.default_rng(0).exponential(size=(3, 20_000)) * [
        [behaviour.sigma_1],
        [behaviour.sigma_2],
        [1.0],
    ]
    ratio = np.clip((1 + g1) / (1 + g2), 1 / MOST_RATIO, MOST_RATIO)
    return float(np.sqrt(np.mean((n * ratio * behaviour.noise / (g1 + g2 + n)) ** 2)))


def test_the_fit_finds_planted_parameters_in_markets_of_its_own_making() -> None:
    """Each of three hours by itself: quoting range per variance, and noise, within a factor of 5, and J far below."""
    model, days = planted()
    markets = {str(n): [replace(t, instrument=str(n))] for n, t in enumerate(days)}
    wanted = model.behaviour.spread / model.flow.step_variance
    for found in calibrate(markets, Settings(32, 6, 10, 30.0), seed=0).values():
        spread = found.behaviour.spread / found.flow.step_variance
        print(spread / wanted, noise_of(found.behaviour) / noise_of(model.behaviour), found.facts["J"], found.behaviour)
        assert 1 / 5 < spread / wanted < 5
        assert 1 / 5 < noise_of(found.behaviour) / noise_of(model.behaviour) < 5
        assert found.facts["J"] < found.facts["J_of_published_parameters"] / 3


def test_an_artifact_can_be_read_and_gives_back_the_model(tmp_path: Path) -> None:
    generator = Chiarella(simulations=3, starts=2, minutes=10)
    artifact = generator.fit([two_days()[0]], tmp_path, seed=0, budget=Budget())
    generator.load(Artifact.read(artifact.folder))
    model = generator.models["ZI-A"]
    assert model.flow.order_rate == flow().order_rate
    assert set(model.facts["moments"]) == set(MOMENTS)
    assert model.facts["budget"]["simulations"] == 3
    assert model.facts["J"] <= model.facts["J_of_published_parameters"]
    again = Chiarella(simulations=3, starts=2, minutes=10).fit([two_days()[0]], tmp_path, seed=0, budget=Budget())
    assert again.content_hash == artifact.content_hash


def test_a_calibration_says_what_to_beware_of_and_leaves_a_table_and_curves(tmp_path: Path) -> None:
    model = Model(flow(), Behaviour(**CALM))
    facts = {
        "J": 7.0, "J_of_published_parameters": 9.0, "J_by_simulation": [9.0, 12.0, 7.0],
        "bounds": {n: [0.5 * x, 2.0 * x] for n, x in vars(model.behaviour).items()} | {
            "noise": [model.behaviour.noise, 2.0 * model.behaviour.noise]
        },
        "moments": {
            "a": {"training": 1.0, "simulated": 2.0, "standard_error": 0.5},
            "b": {"training": 1.0, "simulated": None, "standard_error": 0.5},
        },
        "budget": {"best_simulation": 2},
    }  # fmt: skip
    found = {"ZI-A": replace(model, facts=facts)}
    assert notes_of(found) == ["ZI-A: noise at a bound of the search; J is 7.0."]
    first = replace(model, facts={**facts, "budget": {"best_simulation": 0}})
    assert "no simulation came nearer" in notes_of({"ZI-A": first})[1]
    write_report(found, tmp_path)
    assert "b, by +inf standard errors" in (tmp_path / REPORT).read_text()
    assert json.loads((tmp_path / "training.json").read_text())["J_best/ZI-A"]["value"] == [9.0, 9.0, 7.0]


def test_too_little_training_is_an_error_that_says_how_much_there_was() -> None:
    day = two_days()[0]
    with pytest.raises(ValueError, match="3 windows of 30 minutes"):
        calibrate({"ZI-A": [day]}, Settings(2, 2, 30, 15.0), seed=0)
    thin = replace(day, orders=day.orders[:5], fills=day.fills[:0])
    with pytest.raises(ValueError, match="at least 10 of each"):
        calibrate({"ZI-A": [thin]}, Settings(2, 2, 15, 15.0), seed=0)


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="minutes >= 6"):
        Chiarella(minutes=5)
