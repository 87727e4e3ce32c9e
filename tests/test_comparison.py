"""Differences are tested jointly and paired; what is not significant shares a rank; nothing missing is passed over."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from example_results import changed, failed, result, score
from marsbench import cli, results
from marsbench.comparison import ONE_DAY, compare, to_text
from marsbench.jackknife import Replicated, combine, difference, estimate
from marsbench.leaderboard import build
from marsbench.ranking import MissingError
from marsbench.results import Result
from marsbench.scores import Score
from marsbench.significance import rank_ranges
from null_comparison import false_alarms


def of_units(label: str, units: np.ndarray, **changes: Any) -> Result:
    """A result with one ranking score for each column: the mean over units ``[C, K]``."""
    without = (units.sum(axis=0) - units) / (len(units) - 1)
    scores = tuple(
        score(
            f"similarity.q{k}", "distributions", float(units[:, k].mean()),
            replicates=tuple(without[:, k].tolist()), normalised_replicates=tuple(without[:, k].tolist()),
            replicate_units=f"{len(units)} days", value=float(units[:, k].mean()), floor=0.0, ceiling=1.0,
        )
        for k in range(units.shape[1])
    )  # fmt: skip
    return result(label, scores=scores, **changes)


def market(seed: int = 0, units: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three generators that share hard and easy days; the third is worse by a little."""
    rng = np.random.default_rng(seed)
    day = rng.normal(0.5, 0.3, (units, 1))
    a, b, c = (day + rng.normal(0, 0.05, (units, 1)) for _ in range(3))
    return a, b, c - 0.1


def test_the_jackknife_of_a_mean_is_the_paired_t_test() -> None:
    a, b, _ = market()
    found = compare([of_units("a", a), of_units("b", b)], "a", "b")
    wanted = stats.ttest_rel(a[:, 0], b[:, 0])
    for line in found.differences:
        assert line.p == pytest.approx(wanted.pvalue, rel=1e-6)
        assert line.units == 30
        assert (line.ci_low, line.ci_high) == pytest.approx(tuple(wanted.confidence_interval()), rel=1e-6)


def test_pairing_finds_what_the_intervals_of_each_alone_do_not() -> None:
    a, _, c = market()
    found = compare([of_units("a", a), of_units("c", c)], "a", "c")
    (overall,) = found.of("overall")
    assert overall.better == "a"
    board = build([of_units("a", a), of_units("c", c)])
    first, second = board.rows
    assert first.interval is not None
    assert second.interval is not None
    assert second.interval[1] > first.interval[0], "the intervals of the two overlap"
    assert [board.place(row) for row in board.rows] == ["1", "2"]
    assert first.better_than == ("c",)


def test_generators_that_do_not_differ_share_a_rank() -> None:
    board = build([of_units(name, units) for name, units in zip("abc", market(), strict=True)])
    assert [row.rank for row in board.rows] == [(1, 2), (1, 2), (3, 3)]
    assert [board.place(row) for row in board.rows] == ["1-2", "1-2", "3"]
    assert all(row.better_than == ("c",) for row in board.rows[:2])


def estimate_of(units: np.ndarray) -> Replicated:
    return Replicated(float(units.mean()), {"40 days": (units.sum() - units) / 39})


def test_who_is_between_two_that_differ_shares_a_rank_with_either() -> None:
    noise = 0.5 * np.random.default_rng(1).standard_normal((3, 40))
    noise -= noise.mean(axis=1, keepdims=True)
    chain = {
        name: estimate_of(mean + noise[i]) for i, (name, mean) in enumerate(zip("abc", (0.36, 0.18, 0), strict=True))
    }
    ranks = rank_ranges(["a", "b", "c"], chain)
    assert ranks.better_than["a"] == ("c",)
    assert ranks.rank == {"a": (1, 2), "b": (1, 3), "c": (2, 3)}


def test_the_ranges_of_ranks_hold_at_once_as_often_as_they_say() -> None:
    """Five generators on the same 40 days, two of them equal: a miss is any range without the true rank."""
    truth = np.array([0.4, 0.3, 0.3, 0.1, 0.0])
    best = np.array([1 + (truth > one).sum() for one in truth])
    worst = np.array([len(truth) - (truth < one).sum() for one in truth])
    rng, draws, misses, told = np.random.default_rng(0), 1_000, 0, 0
    for _ in range(draws):
        units = truth[:, None] + rng.normal(0, 0.5, 40) + rng.normal(0, 0.3, (5, 40)) * rng.uniform(0.5, 1.5, (5, 1))
        found = {str(i): estimate_of(row) for i, row in enumerate(units)}
        ranks = rank_ranges(sorted(found, key=lambda label: -found[label].value), found).rank
        low, high = np.array([ranks[str(i)] for i in range(5)]).T
        misses += bool(np.any((low > best) | (high < worst)))
        told += int((high - low < 4).sum())
    assert misses / draws <= 0.05 + 2 * (0.05 * 0.95 / draws) ** 0.5
    assert told > 2 * draws, "ranges that say nothing miss nothing"


def test_on_a_single_day_nothing_is_significant_and_all_share_a_rank() -> None:
    made = [changed(of_units(n, u), "dataset", single_day=True) for n, u in zip("abc", market(), strict=True)]
    assert [row.rank for row in build(made).rows] == [(1, 3)] * 3
    found = compare(made, "a", "c")
    assert {d.p for d in found.differences} == {None}
    assert ONE_DAY in to_text(found)


def test_p_values_are_adjusted_by_holm_within_scores() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.5, 0.1, (2, 30, 4))
    b[:, 0] -= 0.2
    lines = compare([of_units("a", a), of_units("b", b)], "a", "b").of("score")
    p = [d.p or 0.0 for d in lines]
    assert lines[0].p_adjusted == pytest.approx(4 * p[0])
    assert all((d.p_adjusted or 0) >= (d.p or 0) for d in lines)
    assert lines[0].better == "a"


def test_replicates_by_other_units_add_up_to_the_largest_error_there_can_be() -> None:
    x = np.random.default_rng(0).standard_normal(10)
    one, other = Replicated(0.0, {"days": x}), Replicated(0.0, {"blocks": x})
    both = combine(sum, [one, other])
    assert both.error == pytest.approx(one.error + other.error)
    assert combine(sum, [one, one]).error == pytest.approx(2 * one.error)
    with pytest.raises(ValueError, match="leave out days here and blocks there"):
        difference(one, other)


def test_a_generator_does_not_differ_from_its_own_results_under_another_name() -> None:
    found = compare([result("x"), changed(result("x"), "generator", label="y")], "x", "y")
    assert {d.p for d in found.differences} == {1.0}


def test_what_is_missing_is_an_error_unless_it_is_to_be_dropped() -> None:
    with pytest.raises(MissingError, match="bad: missing: realism with seed 0 failed"):
        compare([result("good"), failed("bad")], "good", "bad")
    rest = list(result("b").scores.values())
    gone = replace(
        rest[0], value=None, normalised=None, ci_low=None, ci_high=None, reason="no trade", replicates=(),
        normalised_replicates=(), replicate_units=None,
    )  # fmt: skip
    lacking = result("b", scores=(gone, *rest[1:]))
    with pytest.raises(MissingError, match=r"score facts.absence_of_autocorrelation \(no trade\)"):
        compare([result("a"), lacking], "a", "b")
    found = compare([result("a"), lacking], "a", "b", missing="drop")
    assert any("left out, because one of the two lacks it: facts.absence" in note for note in found.notes)
    assert "b: missing: no trade" in to_text(found)


def test_results_without_replicates_say_how_to_get_them() -> None:
    def bare(made: Result) -> Result:
        plain: list[Score] = [
            replace(s, replicates=(), normalised_replicates=(), replicate_units=None) for s in made.scores.values()
        ]
        return result(made.generator["label"], scores=tuple(plain))

    text = to_text(compare([bare(result("a")), bare(result("b"))], "a", "b"))
    assert "no test: the result file holds no replicates of" in text
    assert "`marsbench score` writes them" in text


def test_wrong_names_are_named() -> None:
    with pytest.raises(ValueError, match="no results of generator 'z'; there are a, b"):
        compare([result("a"), result("b")], "a", "z")
    with pytest.raises(ValueError, match="cannot be compared with itself"):
        compare([result("a")], "a", "a")


def test_replicates_survive_the_result_file_and_the_command_line_compares(tmp_path: Path, capsys: Any) -> None:
    for name, units in zip("abc", market(), strict=True):
        made = of_units(name, units)
        where = {"dataset": "made-up-market", "task": "realism", "generator": name}
        path = results.write(made, results.result_path(tmp_path, **where, seed=0))
        stored, held = results.read(path).scores["similarity.q0"], made.scores["similarity.q0"]
        assert stored.replicates == pytest.approx(held.replicates, rel=1e-5)
        assert estimate(stored, normalised=True).units == 30
    assert cli.main(["compare", "a", "c", "--results", str(tmp_path), "--json"]) == 0
    (values,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert values["differences"][0]["better"] == "a"
    assert cli.main(["compare", "a", "c", "--results", str(tmp_path)]) == 0
    assert "a against c · made-up-market · realism" in capsys.readouterr().out
    assert cli.main(["compare", "a", "nobody", "--results", str(tmp_path)]) == 2
    assert "no results of generator 'nobody'; there are a, b, c" in capsys.readouterr().err


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_two_equal_generators_are_rarely_told_apart(shift: float) -> None:
    """A few seeds here; ``python tests/null_comparison.py`` measures it over 1,000."""
    found = false_alarms(range(60), units=24, shift=shift)
    for level in ("overall", "group", "score"):
        assert found[level] <= 9, found  # P(more than 9 of 60 at 5%) < 0.1%
