"""Table 6 from result files: which facts are there, in the paper, in replay and in the simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pairs_of_arrays import bars_of, pairs

from example_results import result
from marsbench import reproduce, results
from marsbench.metrics.stylized_facts import StylizedFacts
from marsbench.reproduce import MissingScores
from marsbench.reproduce_tab6 import PRESENT_IN_PAPER, TAB6
from marsbench.results import Result
from marsbench.scores import Outcome
from marsbench.stats import oracles
from marsbench.stats.session_facts import FACTS

NAME = "reference"


def made(task: str = "sessions") -> Result:
    """A result of sessions: GARCH days in replay, Gaussian ones in the simulation."""
    rng = np.random.default_rng(0)
    days, minutes = 24, 230
    truth = 4e-4 * oracles.garch((days, minutes), rng, alpha=0.3, beta=0.6)
    simulated = 4e-4 * rng.standard_normal((days, 1, minutes))
    evidence = pairs(bars_of(truth, rng), bars_of(simulated, rng))
    outcome = StylizedFacts(splits=4, shuffles=2).evaluate(evidence, rng)
    base = result("toy")
    return replace(
        base,
        outcomes={"stylized-facts": outcome},
        task={**base.task, "label": task, "name": "sessions"},
        dataset={**base.dataset, "name": NAME},
    )


@pytest.fixture(scope="module")
def one() -> Result:
    return made()


def test_the_paper_finds_nine_facts_and_not_the_two_that_are_expected_absent():
    assert {fact.number for fact in FACTS if fact.expected_absent} == set(range(1, 12)) - PRESENT_IN_PAPER


def test_every_fact_stands_beside_the_papers_with_both_forms_and_likeness(one: Result):
    presence, control, numbers = TAB6.make(one).tables
    assert len(presence.rows) == 11
    rows = {row[0]: dict(zip(presence.columns, row, strict=True)) for row in presence.rows}
    clustering = rows["6 Volatility clustering"]
    assert (clustering["paper"], clustering["replay, strict"]) == ("present", "present")
    assert clustering["simulation, strict"] == "absent"
    assert clustering["as in replay"] == "different"
    assert rows["9 Leverage effect"]["paper"] == "absent"
    assert {row[0] for row in control.rows} == {"Heavy tails", "Volatility clustering"}
    assert "mean correlation of |r|, lags 1-20, d" in {row[1] for row in numbers.rows}


def test_results_of_the_task_with_other_parameters_can_be_asked_for(one: Result, tmp_path):
    spec = "sessions,most_sessions=none"
    for label, task in (("sessions", "sessions"), (spec, spec)):
        of_it = replace(one, task={**one.task, "label": task})
        results.write(
            of_it, results.result_path(tmp_path, dataset=NAME, task=label, generator="toy", seed=0, limit=None)
        )
    (found,) = reproduce.reproduce(["tab6"], dataset=NAME, results=tmp_path, task=spec)
    assert [m.generator for m in found.made] == [one.generator["label"]]
    page = reproduce.to_markdown([found])
    assert "| 6 Volatility clustering | present |" in page
    with pytest.raises(ValueError, match="made from task sessions, not realism"):
        reproduce.reproduce(["tab6"], dataset=NAME, results=tmp_path, task="realism")


def test_results_without_verdicts_say_how_to_get_them(one: Result):
    bare = {"stylized-facts": Outcome(one.outcomes["stylized-facts"].scores)}
    with pytest.raises(MissingScores, match="facts_verdicts"):
        TAB6.make(replace(one, outcomes=bare))
