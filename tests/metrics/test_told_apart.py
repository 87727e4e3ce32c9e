"""Whether simulated minutes can be told from replay's: verdicts, and the scores beside them, of known laws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pairs_of_arrays import bars_of, pairs

from marsbench.metrics._told_apart import ToldApart, tell_apart
from marsbench.metrics.distribution_similarity import DistributionSimilarity
from marsbench.scores import Score
from marsbench.stats.paired_oracles import minutes, normal_overlap


def judged(
    shift: float, *, starts: int = 64, per_day: int = 1, seed: int = 1
) -> tuple[dict[str, Any], dict[str, Score]]:
    """The row of the table and the scores of spreads that are N(0, 1) and N(shift, 1)."""
    rng = np.random.default_rng(1)
    replay, simulated = minutes(starts, 4, 25, rng)
    truth, guess = (bars_of(4e-4 * rng.standard_normal(x.shape), rng) for x in (replay, simulated))
    truth, guess = replace(truth, spread_ticks=replay), replace(guess, spread_ticks=simulated + shift)
    metric = DistributionSimilarity(quantities="spread+volume", splits=16, permutations=199)
    out = metric.evaluate(pairs(truth, guess, per_day=per_day), np.random.default_rng(0))
    table = out.tables["similarity_summary"]
    return {k: v[0] for k, v in table.items()}, {
        s.key.removeprefix("distribution_similarity.spread"): s for s in out.scores[:4]
    }


def test_one_law_is_indistinguishable_and_its_overlap_lies_at_the_ceiling() -> None:
    row, scores = judged(0.0)
    assert row["verdict"] == "indistinguishable"
    assert row["p"] > 0.05
    assert row["p_adjusted"] >= row["p"]
    assert row["value"] == pytest.approx(row["ceiling"], abs=0.03)
    assert row["ceiling_p05"] < row["ceiling"]
    assert row["detects_below"] > 0.8
    assert row["w1"] == pytest.approx(row["w1_exchanged"], rel=0.8)
    assert scores[".exchange_p"].value == row["p"]


@pytest.mark.parametrize("shift", [0.5, 1.0])
def test_laws_that_are_apart_are_distinguishable_by_the_known_overlap_and_distance(shift: float) -> None:
    row, scores = judged(shift)
    assert row["verdict"] == "distinguishable"
    assert row["p"] == pytest.approx(1 / 200)
    assert scores[".full"].value == pytest.approx(normal_overlap(shift), abs=0.06)
    assert scores[".w1"].value == pytest.approx(shift / row["replay_sd"], abs=0.1)
    assert row["w1_exchanged"] < 0.4 * row["w1"]
    for key in ("", ".full", ".w1"):
        assert len(scores[key].replicates) == 64
        assert scores[key].replicate_units == "64 clusters"


def test_few_clusters_say_nothing_rather_than_something_wrong() -> None:
    row, scores = judged(0.0, starts=8, per_day=2)
    assert (row["verdict"], row["p"]) == ("inconclusive", None)
    assert "4 clusters: the permutation test needs at least 6" in row["verdict_reason"]
    assert "at least 6" in str(scores[".exchange_p"].reason)
    row, _ = judged(0.0, starts=8)
    assert row["verdict"] == "inconclusive"
    assert "so few data that only an overlap below" in row["verdict_reason"]


def test_a_verdict_needs_all_of_its_conditions() -> None:
    good = ToldApart(p=0.4, detects_below=0.85, clusters=64)
    assert good.verdict(0.84, 0.82) == ("indistinguishable", "")
    assert good.verdict(0.80, 0.82)[0] == "inconclusive"
    assert "5th percentile" in good.verdict(0.80, 0.82)[1]
    assert replace(good, p=0.05).verdict(0.84, 0.82)[0] == "distinguishable"
    assert replace(good, detects_below=0.79).verdict(0.84, 0.82)[0] == "inconclusive"
    assert good.verdict(float("nan"), 0.82) == ("inconclusive", "no overlap on halves")


def test_the_bins_of_the_test_do_not_know_which_side_is_replay() -> None:
    """Replay and one rollout may change their names, and nothing changes."""
    rng = np.random.default_rng(3)
    replay, simulated = minutes(20, 1, 25, rng)
    cluster = np.arange(20)
    one = tell_apart(replay, simulated + 0.3, cluster, np.random.default_rng(0), bins=50, permutations=300)
    other = tell_apart(
        simulated[:, 0] + 0.3, replay[:, None], cluster, np.random.default_rng(0), bins=50, permutations=300
    )
    assert one.p == other.p
    assert one.detects_below == pytest.approx(other.detects_below)


def test_missing_minutes_are_left_out_and_a_side_without_any_has_no_p() -> None:
    rng = np.random.default_rng(4)
    replay, simulated = minutes(30, 2, 25, rng)
    cluster = np.arange(30)
    holes = np.where(rng.random(simulated.shape) < 0.4, np.nan, simulated)
    assert tell_apart(replay, holes, cluster, rng, bins=50, permutations=99).p > 0.01
    assert np.isnan(tell_apart(replay, np.full_like(holes, np.nan), cluster, rng, bins=50, permutations=99).p)


def test_rollouts_alike_to_each_other_are_told_apart_more_often_as_the_docstring_says() -> None:
    def p(share: float, seed: int) -> float:
        rng = np.random.default_rng([11, seed])
        replay, own = minutes(64, 4, 25, rng, shared=False)
        common, _ = minutes(64, 1, 25, rng, shared=False)
        simulated = np.sqrt(share) * common[:, None] + np.sqrt(1 - share) * own
        return tell_apart(replay, simulated, np.arange(64), rng, bins=50, permutations=99).p

    assert np.mean([p(0.0, seed) <= 0.05 for seed in range(200)]) < 0.11
    assert 0.09 < np.mean([p(0.5, seed) <= 0.05 for seed in range(200)]) < 0.26
    assert "17% of the time instead of 5%" in " ".join((DistributionSimilarity.__doc__ or "").split())
