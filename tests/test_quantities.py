"""Quantities by name: what there is, what a user adds, and what a name that is unknown comes to."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from marsbench import cli, quantities
from marsbench.evidence import TrajectoryPairs
from marsbench.market.bars import MinuteBars, minute_bars
from marsbench.market.books import books_of
from marsbench.market.minutes import MarketMinutes
from marsbench.market.replay import cut
from marsbench.market.rules import MINUTE, clock
from marsbench.metrics.distribution_similarity import DistributionSimilarity
from marsbench.metrics.three_class_accuracy import ThreeClassAccuracy
from marsbench.quantities import TEN, Quantity, define, quantity, resolve, table
from marsbench.simulation.contracts import Start
from reference import days


@pytest.fixture
def day():
    return days()[0].trajectory


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quantities, "_DEFINED", {})
    yield
    quantities._installed.cache_clear()


def evidence(day, *, books: bool = False) -> TrajectoryPairs:
    """Six windows of a day, each simulated by another one."""
    at = [clock(f"{hour}:{minute:02d}") for hour, minute in ((10, 0), (10, 10), (10, 30), (10, 45), (11, 0), (11, 15))]
    windows = [cut(day, t, t + 5 * MINUTE) for t in at]
    starts = [
        Start(day.instrument, day.date, day.rules, t, w.book, cut(day, clock("09:30"), t), f"block {t}")
        for t, w in zip(at, windows, strict=True)
    ]
    other = [*windows[1:], windows[0]]
    simulated = tuple(
        (books_of(o) if books else o, books_of(w) if books else w) for o, w in zip(other, windows, strict=True)
    )
    if not books:
        moved = tuple(tuple(_moved(m, s.clock_ns) for m in row) for row, s in zip(simulated, starts, strict=True))
        simulated = moved
    return TrajectoryPairs(tuple(starts), tuple(windows), simulated, 5, single_day=True)


def _moved(market, to_ns: int):
    """The same market at another time of the day."""
    shift = to_ns - market.start_ns
    rows, fills = market.orders.copy(), market.fills.copy()
    rows["time_ns"] += shift
    fills["time_ns"] += shift
    book = replace(market.book, time_ns=market.book.time_ns + shift)
    return replace(market, start_ns=to_ns, end_ns=market.end_ns + shift, orders=rows, fills=fills, book=book)


def test_the_ten_of_table_7_come_first_and_every_series_of_the_bars_has_a_name():
    assert [q.key for q in TEN[:5]] == ["volatility", "spread", "mean_order_volume", "aggressive_order_ratio",
                                        "buy_order_ratio"]  # fmt: skip
    assert resolve("table7") == TEN
    needed = {name for q in table().values() for name in q.needs}
    assert needed == set(MinuteBars.__dataclass_fields__)


def test_every_known_quantity_gives_one_number_a_minute(day):
    window = cut(day, clock("10:00"), clock("10:25"))
    bars, market = minute_bars(window), MarketMinutes.of(window)
    for one in table().values():
        values = one.bars(bars) if one.bars else one.market(market)
        assert values.shape == (25 + (1 - one.horizon if one.horizon else 0),), one.key
        assert np.isfinite(values).mean() > 0.5, one.key


def test_derived_quantities_are_what_they_say(day):
    window = cut(day, clock("10:00"), clock("10:25"))
    bars, market = minute_bars(window), MarketMinutes.of(window)

    def of(name: str) -> np.ndarray:
        one = quantity(name)
        return one.bars(bars) if one.bars else one.market(market)

    np.testing.assert_allclose(of("cancel_ratio"), bars.n_cancels / bars.n_orders)
    np.testing.assert_allclose(of("inter_arrival") * bars.n_orders, 60)
    np.testing.assert_allclose(of("return_7min"), bars.mid_returns(7))
    traded = np.log(bars.last_trade_ticks)
    np.testing.assert_allclose(of("trade_return_2min"), traded[2:] - traded[:-2])
    np.testing.assert_array_equal(of("last_trade_ticks"), bars.last_trade_ticks[1:])
    side, size = window.fills["side"], window.fills["size_shares"].astype(float)
    minute = (window.fills["time_ns"] - window.start_ns - 1) // MINUTE
    for m in np.unique(minute):
        bought, sold = (size[(minute == m) & (side == k)].sum() for k in (1, 0))
        if bought + sold:
            assert of("trade_imbalance")[m] == pytest.approx((bought - sold) / (bought + sold))
    assert (of("depth_10") >= of("depth")).all()
    assert np.nanmax(np.abs(of("imbalance"))) <= 1
    waits = of("log_inter_arrival")
    assert np.nanmean(10**waits) < 60e9
    assert np.nanmin(waits) > 0


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown quantity 'dept'; did you mean 'depth'\? Choices: .*imbalance"):
        resolve("spread+dept")
    with pytest.raises(ValueError, match="spread is named twice"):
        resolve("table7+spread")
    with pytest.raises(ValueError, match="unknown quantity"):
        DistributionSimilarity(quantities="volume+nothing")
    with pytest.raises(ValueError, match="unknown quantity"):
        ThreeClassAccuracy(quantities="nothing")
    assert cli.main(["run", "-t", "realism,quantities=nothing", "-g", "bootstrap", "--no-track"]) == 2


def test_a_quantity_says_what_it_is_made_from():
    with pytest.raises(ValueError, match="either bars= or market="):
        Quantity("a", "A", "1")
    with pytest.raises(ValueError, match="in \\[a-z0-9_\\]"):
        Quantity("A b", "A", "1", bars=lambda b: b.n_new)


def test_a_defined_quantity_is_scored_like_the_others_and_two_of_one_name_are_refused(day):
    made = define(Quantity("double_spread", "Double spread", "ticks", bars=lambda b: 2 * b.spread_ticks))
    assert define(made) is made
    with pytest.raises(ValueError, match="there is one of that name already"):
        define(replace(made, unit="cents"))
    with pytest.raises(ValueError, match="there is one of that name already"):
        define(replace(made, key="spread"))
    given = evidence(day)
    for metric, key in (
        (
            DistributionSimilarity(quantities="spread+double_spread", splits=4, permutations=50),
            "distribution_similarity.{}",
        ),
        (ThreeClassAccuracy(quantities="spread+double_spread"), "three_class_accuracy.{}.one_rollout"),
    ):
        found = {s.key: s for s in metric.evaluate(given, np.random.default_rng(0)).scores}
        assert found[key.format("double_spread")].value is not None
        if "three" in key:
            assert found[key.format("double_spread")].value == found[key.format("spread")].value
    assert found["three_class_accuracy.spread.one_rollout.kappa"].replicates


def test_a_quantity_does_not_change_the_scores_of_another(day):
    given = evidence(day)
    alone, among = (
        {
            s.key: s
            for s in DistributionSimilarity(quantities=q, splits=4).evaluate(given, np.random.default_rng(3)).scores
        }
        for q in ("spread", "volume+depth+spread")
    )
    assert set(alone) < set(among)
    assert all(among[key] == score for key, score in alone.items())


def test_a_quantity_of_a_wrong_shape_is_refused(day):
    define(Quantity("short", "Short", "1", bars=lambda b: b.spread_ticks[..., :2]))
    define(Quantity("one_number", "One", "1", market=lambda m: np.zeros(1)))
    for name in ("short", "one_number"):
        with pytest.raises(ValueError, match=f"'{name}' gives an array of shape .* one number a minute"):
            DistributionSimilarity(quantities=name).evaluate(evidence(day), np.random.default_rng(0))


def test_persistence_of_a_market_quantity_comes_from_the_history(day):
    out = ThreeClassAccuracy(quantities="depth+spread").evaluate(evidence(day), np.random.default_rng(0))
    assert all(v is not None for v in out.tables["accuracy_summary"]["persistence_accuracy"])


def test_what_books_alone_do_not_show_is_not_applicable_and_the_rest_is_scored(day):
    given = evidence(day, books=True)
    metric = DistributionSimilarity(quantities="depth+imbalance+trade_imbalance+log_inter_arrival", splits=4)
    out = metric.evaluate(given, np.random.default_rng(0))
    found = {s.key: s for s in out.scores}
    for name in ("depth", "imbalance"):
        assert found[f"distribution_similarity.{name}.full"].value is not None
    for name in ("trade_imbalance", "log_inter_arrival"):
        assert not found[f"distribution_similarity.{name}"].applicable
    assert out.tables["similarity_summary"]["verdict"][2] is None


def test_names_come_from_files_and_from_installed_packages(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text(
        "from marsbench.quantities import Quantity\n"
        "TWICE = Quantity('twice', 'Twice', 'orders', bars=lambda b: 2 * b.n_new, needs=('n_new',))\n"
        "TAKEN = Quantity('spread', 'Mine', 'ticks', bars=lambda b: b.n_new)\n"
    )
    assert quantity(f"{file}:TWICE").key == "twice"
    assert quantity(f"{file}:TWICE") is quantity(f"{file}:TWICE")
    with pytest.raises(ValueError, match="there is no file"):
        quantity("nowhere.py:TWICE")
    with pytest.raises(ValueError, match="no Quantity of that name; the file has TWICE, TAKEN"):
        quantity(f"{file}:THRICE")
    with pytest.raises(ValueError, match="its key 'spread' is taken"):
        quantity(f"{file}:TAKEN")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("twice", "mine:TWICE", quantities.GROUP)
    monkeypatch.setattr(quantities, "entry_points", lambda group: [point])
    quantities._installed.cache_clear()
    assert quantity("twice").title == "Twice"
    monkeypatch.setattr(quantities, "entry_points", lambda group: [EntryPoint("x", "mine:Quantity", quantities.GROUP)])
    quantities._installed.cache_clear()
    with pytest.raises(TypeError, match="must be a Quantity"):
        table()


def test_results_remember_the_source_of_a_users_quantity_and_of_no_other(tmp_path):
    assert quantities.own_code("table7+volume+depth+return_7min+trade_return_3min") == {}
    assert DistributionSimilarity().outside_code() == {}
    file = tmp_path / "mine.py"
    text = (
        "from marsbench.quantities import Quantity\n"
        "FACTOR = 2\n"
        "TWICE = Quantity('twice', 'Twice', 'orders', bars=lambda b: FACTOR * b.n_new, needs=('n_new',))\n"
    )
    file.write_text(text)
    name = f"{file}:TWICE"
    before = ThreeClassAccuracy(quantities=f"spread+{name}").outside_code()
    assert set(before) == {"twice"}
    file.write_text(text.replace("FACTOR = 2", "FACTOR = 3"))
    quantities._from_file.cache_clear()  # as in a new process
    after = ThreeClassAccuracy(quantities=f"spread+{name}").outside_code()
    assert after != before
    file.write_text(text)
    quantities._from_file.cache_clear()
    assert ThreeClassAccuracy(quantities=f"spread+{name}").outside_code() == before


def test_code_without_a_file_is_known_by_what_it_was_compiled_to(monkeypatch):
    monkeypatch.setattr(quantities, "_DEFINED", {})

    def hashed(text: str) -> str:
        one = Quantity("typed", "Typed", "orders", bars=eval(text), needs=("n_new",))
        monkeypatch.setitem(quantities._DEFINED, "typed", (one, "a prompt"))
        return quantities.own_code("typed")["typed"]

    assert hashed("lambda b: 2 * b.n_new") == hashed("lambda b: 2 * b.n_new")
    assert len({hashed(f"lambda b: {text}") for text in ("2 * b.n_new", "3 * b.n_new", "2 * b.n_cancels")}) == 3


def test_the_list_names_every_quantity(capsys):
    assert cli.main(["list", "quantities", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in rows if r["table7"]] == [q.key for q in TEN]
    assert {"depth", "imbalance", "trade_count", "order_count", "cancel_ratio", "inter_arrival"} <= {
        r["name"] for r in rows
    }
    assert cli.main(["list", "quantities"]) == 0
    assert "time-weighted mean of (best ask size" in capsys.readouterr().out
