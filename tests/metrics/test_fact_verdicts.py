"""Verdicts in the evidence of tasks: replay, simulation, control, likeness, and the table that draws them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pairs_of_arrays import bars_of, pairs

from marsbench.evidence import TrajectoryPairs
from marsbench.metrics._fact_verdicts import CONTROL, verdict_tables
from marsbench.metrics._style import rows
from marsbench.metrics.stylized_facts import StylizedFacts
from marsbench.stats import oracles
from marsbench.stats.likeness import DIFFERENT, SAME
from marsbench.stats.verdicts import ABSENT, INCONCLUSIVE, PRESENT

CLUSTERING = "06_volatility_clustering"
TAILS = "02_heavy_tails"


def blocks(rng: np.random.Generator, starts: int = 80) -> np.ndarray:
    """Gaussian windows of 25 minutes, each of its own volatility."""
    return np.exp(0.5 * rng.standard_normal((starts, 1))) * rng.standard_normal((starts, 25))


def evidence(replay: np.ndarray, simulated: np.ndarray) -> TrajectoryPairs:
    rng = np.random.default_rng(5)
    return pairs(bars_of(4e-4 * replay, rng), bars_of(4e-4 * simulated, rng))


@pytest.fixture(scope="module")
def tables() -> dict:
    """Replay clusters quickly, the simulation has blocks of constant volatility: four rollouts of 80 starts."""
    rng = np.random.default_rng(1)
    fast = oracles.garch((80, 25), rng, alpha=0.3, beta=0.6)
    simulated = np.stack([blocks(rng) for _ in range(4)], axis=1)
    return verdict_tables(evidence(fast, simulated), rng)


def word(tables: dict, source: str, form: str, fact: str) -> str:
    (found,) = rows(tables["facts_verdicts"], source=source, form=form, fact=fact)["verdict"]
    return str(found)


def test_pooling_alone_makes_clustering_in_the_papers_form_and_not_in_the_strict_one(tables: dict) -> None:
    assert word(tables, "replay", "strict", CLUSTERING) == PRESENT
    assert word(tables, "simulation", "paper", CLUSTERING) == PRESENT
    assert word(tables, "simulation", "strict", CLUSTERING) == ABSENT
    assert word(tables, "simulation", "paper", TAILS) == PRESENT
    assert word(tables, "simulation", "strict", TAILS) != PRESENT


def test_the_control_shows_what_pooling_makes_of_replay(tables: dict) -> None:
    assert set(rows(tables["facts_verdicts"], source=CONTROL)["fact"]) == {TAILS, CLUSTERING}
    assert word(tables, CONTROL, "strict", CLUSTERING) != PRESENT
    assert word(tables, CONTROL, "strict", TAILS) != PRESENT
    pooled = rows(tables["facts_numbers"], source=CONTROL, row="absolute")["value"][0]
    within = rows(tables["facts_numbers"], source=CONTROL, row="within")["value"][0]
    assert pooled > 0.05 > abs(within)


def test_likeness_is_a_verdict_of_its_own(tables: dict) -> None:
    (clustering,) = rows(tables["facts_alike"], fact=CLUSTERING)["verdict"]
    assert clustering == DIFFERENT
    rng = np.random.default_rng(2)
    truth = oracles.garch((80, 25), rng, alpha=0.3, beta=0.6)
    itself = verdict_tables(evidence(truth, truth[:, None]), rng)["facts_alike"]
    carried = [r is None for r in itself["reason"]]
    assert {v for v, ok in zip(itself["verdict"], carried, strict=True) if ok} == {SAME}
    assert rows(itself, fact=CLUSTERING)["difference"] == [0.0]


def test_what_windows_do_not_carry_says_so(tables: dict) -> None:
    decay = rows(tables["facts_verdicts"], source="replay", form="strict", number=8)
    assert decay["verdict"] == [INCONCLUSIVE]
    assert "25 minutes do not carry it: it needs 200" in decay["reason"][0]
    assert decay["p"] == [None]


def test_every_verdict_has_an_effect_an_interval_and_an_adjusted_p(tables: dict) -> None:
    table = tables["facts_verdicts"]
    for i, p in enumerate(table["p_holm"]):
        if p is None:
            assert table["reason"][i]
            continue
        assert p >= table["p"][i]
        assert table["ci_low"][i] <= table["value"][i] <= table["ci_high"][i]
    assert json.dumps(tables)  # no NaN in disguise, no NumPy numbers
    assert "NaN" not in json.dumps(tables)


def test_deseasonalised_and_within_window_numbers_stand_beside_the_raw_ones(tables: dict) -> None:
    found = set(rows(tables["facts_numbers"], source="replay")["row"])
    assert {"absolute", "absolute_d", "within", "kurtosis_1", "kurtosis_d", "kurtosis_within", "acf_mid_1"} <= found


def test_table_6_is_drawn_from_the_tables_alone() -> None:
    rng = np.random.default_rng(3)
    made = evidence(rng.standard_normal((12, 25)), rng.standard_normal((12, 2, 25)))
    out = StylizedFacts(splits=4, shuffles=2).evaluate(made, rng)
    figure = StylizedFacts.draw(out.tables)["table_6"]
    words = {text.get_text() for text in figure.axes[0].texts}
    assert {"Replay", "Simulation", "As in replay?", "Volatility clustering", INCONCLUSIVE} <= words


def test_whole_sessions_count_extremes_by_the_hour() -> None:
    # volatility changes by the hour: a shuffle within the session moves extremes between its four hours
    rng = np.random.default_rng(4)
    truth = oracles.block_volatility((60, 240), rng, block=60, spread=0.8)
    out = StylizedFacts(splits=8, shuffles=4).evaluate(evidence(truth, truth[:, None]), rng)
    (score,) = (s for s in out.scores if s.key == "facts.05_intermittency")
    assert score.informative
    short = StylizedFacts(splits=8, shuffles=4).evaluate(evidence(truth[:, :25], truth[:, None, :25]), rng)
    (score,) = (s for s in short.scores if s.key == "facts.05_intermittency")
    assert not score.informative
