"""The ranking is what METHODS say, and neither mixes what differs nor flatters what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from example_results import changed, failed, not_applicable, result, score
from marsbench import leaderboard, results, verbs
from marsbench.leaderboard import NO_INTERVAL, NOT_APPLICABLE, WITHIN_DAY, Row, build, load
from marsbench.leaderboard_text import to_json, to_markdown, to_table
from marsbench.page import to_html
from marsbench.ranking import IncomparableError, MissingError, average, interquartile_mean, small_groups
from marsbench.results import Result
from marsbench.scores import Direction, Outcome, Score


@pytest.mark.parametrize("n", [4, 8, 40])
def test_the_interquartile_mean_is_the_trimmed_mean_where_quarters_are_whole(n: int) -> None:
    values = np.random.default_rng(n).standard_normal(n).tolist()
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))


def test_the_interquartile_mean_weights_fractions_and_ignores_outliers() -> None:
    assert interquartile_mean([7.0]) == 7.0
    assert interquartile_mean([1.0, 3.0]) == 2.0
    assert interquartile_mean([0.0, 1.0, 5.0]) == pytest.approx((0.25 * 0 + 1 * 1 + 0.25 * 5) / 1.5)
    assert interquartile_mean([1.0, 2.0, 3.0, 1e9]) == 2.5
    with pytest.raises(ValueError, match="of nothing"):
        interquartile_mean([])


def test_groups_are_interquartile_means_and_the_overall_is_their_plain_mean() -> None:
    scores = (
        score("facts.a", "facts", 0.0),
        score("facts.b", "facts", 0.4),
        score("similarity.a", "distributions", 1.0),
        score("similarity.noise", "distributions", None, value=0.7, informative=False, reason=None),
        score("validity.rejected", "validity", None, value=0.01, direction="lower", floor=0.05, reason=None),
    )
    board = build([result("one", scores=scores)])
    (row,) = board.rows
    assert row.groups == {"facts": pytest.approx(0.2), "distributions": pytest.approx(1.0)}
    assert row.overall == pytest.approx(0.6)
    assert board.left_out == ("similarity.noise",)
    assert set(board.keys) == {"facts.a", "facts.b", "similarity.a"}


def test_generators_are_ranked_best_first_and_seeds_are_averaged() -> None:
    seeds = [result("good", level=0.8, seed=s, scores=(score("facts.a", "facts", 0.7 + 0.2 * s),)) for s in (0, 1)]
    bad = [result("bad", seed=s, scores=(score("facts.a", "facts", 0.1),)) for s in (0, 1)]
    board = build([*bad, *seeds])
    assert [(r.label, r.rank, r.overall) for r in board.rows] == [
        ("good", (1, 1), pytest.approx(0.8)),
        ("bad", (2, 2), pytest.approx(0.1)),
    ]
    assert board.rows[0].scores["facts.a"].ci_method == "t over 24 days; ends averaged over 2 seeds"


def test_what_more_than_half_of_the_seeds_find_informative_ranks_by_these_seeds() -> None:
    """Asking all of them would take scores out with every further seed."""
    why = "uninformative: (ceiling - floor) is 0.1 [-0.1, 0.3]"
    units: Any = {"replicates": (0.5,) * 24, "replicate_units": "24 days"}
    noise = score("facts.a", "facts", None, informative=False, value=0.5, reason=why, **units)
    most = (score("facts.a", "facts", 0.8), noise, score("facts.a", "facts", 0.6))
    assert average(most).informative is True
    assert average(most).normalised == pytest.approx(0.7)
    assert average(most).value == pytest.approx((0.8 + 0.5 + 0.7) / 3)
    assert average(most).reason is None
    assert np.mean(average(most).normalised_replicates) == pytest.approx(0.7, abs=0.001)
    for scores in ((noise, noise, most[0]), (most[0], noise)):
        assert average(scores).informative is False
        assert average(scores).normalised is None
        assert average(scores).reason == why
        assert not average(scores).normalised_replicates


def test_what_ranks_by_some_of_the_seeds_is_named() -> None:
    unsure = replace(score("facts.a", "facts", None, value=0.5, informative=False, reason="noise"), normalised=None)
    made = [
        result(
            label,
            seed=seed,
            scores=(unsure if seed == 1 else score("facts.a", "facts", 0.7), score("facts.b", "facts", 0.2)),
        )
        for label in ("one", "other")
        for seed in (0, 1, 2)
    ]
    board = build(made)
    assert set(board.keys) == {"facts.a", "facts.b"}
    assert board.rows[0].groups["facts"] == pytest.approx(0.45)
    (note,) = [note for note in board.notes if "seeds" in note]
    assert note == "Informative in most seeds, and ranking by these alone: facts.a (seeds 0, 2)."
    assert note in to_markdown(board)
    assert not any("most seeds" in note for note in build(made[:1]).notes)


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_seeds_seldom_agree_on_a_difference_that_is_not_there(seeds: int, shared: float) -> None:
    """Floor and ceiling are equal; the errors of seeds share a part, since all simulate the same days."""
    rng = np.random.default_rng(seeds)
    draws = 4000
    errors = np.sqrt(shared) * rng.standard_normal((draws, 1))
    errors = errors + np.sqrt(1 - shared) * rng.standard_normal((draws, seeds))
    one = {found: score("facts.a", "facts", 0.5, informative=found) for found in (True, False)}
    found = [average([one[bool(e > stats.norm.ppf(0.975))] for e in draw]).informative for draw in errors]
    assert stats.binomtest(sum(map(bool, found)), draws, 0.05, alternative="greater").pvalue > 0.001


Change = Callable[[Result], Result]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda r: changed(r, "task", version=2), "task version"),
        (lambda r: changed(r, "task", parameters={"minutes": 5}), "task parameters"),
        (lambda r: changed(r, "task", metrics=[{**r.task["metrics"][0], "version": 2}]), "metrics"),
        (lambda r: changed(r, "dataset", content_hash="ff" * 32), "data hash"),
        (lambda r: changed(r, "floors", hash="99" * 32), "floors"),
        (lambda r: changed(changed(r, "task", starts=8), "task", starts=8), "number of starts"),
        (lambda r: replace(r, limit=8), "limit"),
    ],
    ids=["task", "parameters", "metrics", "data", "floors", "starts", "limit"],
)
def test_incomparable_results_are_refused_and_named(change: Change, what: str) -> None:
    with pytest.raises(IncomparableError, match=rf"differ in .*{what}.*alpha.*beta") as caught:
        build([result("alpha"), change(result("beta"))])
    assert "marsbench run" in str(caught.value)


def test_two_versions_of_a_generator_are_not_averaged() -> None:
    with pytest.raises(IncomparableError, match=r"results of generator alpha .* differ in version"):
        build([result("alpha"), changed(result("alpha", seed=1), "generator", version=2)])


def test_results_of_several_data_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="several data sets"):
        build([result("alpha"), changed(result("beta"), "dataset", name="another")])


def _lacking(kind: str) -> list[Result]:
    good = result("good")
    if kind == "failed":
        return [good, failed("bad")]
    if kind == "seed":
        return [good, result("good", seed=1), result("bad")]
    gone = tuple(
        replace(s, value=None, normalised=None, ci_low=None, ci_high=None, reason="no trade")
        for s in good.scores.values()
    )
    rest = list(result("bad").scores.values())
    return [good, result("bad", scores=(gone[0], *rest[1:]))]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("failed", r"realism with seed 0 failed \(ValueError: no orders\)"),
        ("seed", "no result of realism with seed 1"),
        ("score", r"score facts.absence_of_autocorrelation \(no trade\)"),
    ],
)
def test_what_is_missing_is_an_error_or_leaves_the_generator_unranked(kind: str, why: str) -> None:
    with pytest.raises(MissingError, match=f"bad: missing: {why}"):
        build(_lacking(kind))
    board = build(_lacking(kind), missing="drop")
    assert [(r.label, r.rank) for r in board.rows] == [("good", (1, 1)), ("bad", None)]
    assert f"unranked bad: missing: {why}".replace("\\", "") in to_table(board)


def test_not_applicable_is_said_and_never_blank() -> None:
    board = build([result("alpha"), not_applicable("forecaster")])
    row = board.rows[-1]
    assert set(row.groups.values()) == {NOT_APPLICABLE}
    assert row.rank is None
    assert to_table(board).count(NOT_APPLICABLE) == 4
    assert f"| {NOT_APPLICABLE} |" in to_markdown(board)


def test_a_generator_that_fails_validity_is_listed_unranked() -> None:
    def with_rejections(label: str, rate: float) -> Result:
        extra = score("validity.rejected", "validity", None, value=rate, direction="lower", floor=0.05, reason=None)
        return result(label, scores=(*result(label).scores.values(), replace(extra, informative=None)))

    board = build([with_rejections("clean", 0.01), with_rejections("messy", 0.2)])
    assert [(r.label, r.rank) for r in board.rows] == [("clean", (1, 1)), ("messy", None)]
    assert board.rows[1].unranked == "validity.rejected is 0.2, above the limit 0.05"


def test_controls_are_hidden_unless_asked_for() -> None:
    control = changed(result("control-copy"), "generator", hidden=True)
    assert [r.label for r in build([result("alpha"), control]).rows] == ["alpha"]
    assert len(build([result("alpha"), control], controls=True).rows) == 2
    with pytest.raises(ValueError, match="--controls shows them"):
        build([control])


def test_a_single_day_claims_no_significance_and_says_so() -> None:
    board = build([changed(result("alpha"), "dataset", single_day=True)])
    for text in (to_table(board), to_markdown(board)):
        assert "ithin-day inference only" in text
        assert "no significance between generators is claimed" in text
    assert WITHIN_DAY not in to_table(build([result("alpha")]))


def test_without_replicates_the_overall_has_no_interval_and_the_reason_is_given() -> None:
    bare = {k: replace(s, normalised_replicates=()) for k, s in result("alpha").scores.items()}
    board = build([result("alpha", scores=tuple(bare.values()))])
    assert NO_INTERVAL in to_table(board)
    assert json.loads(to_json([board]))["leaderboards"][0]["generators"][0]["overall_interval"] is None


def test_every_score_stands_with_floor_and_ceiling_in_markdown_and_json() -> None:
    board = build([result("alpha"), result("a|b", level=0.2)])
    text = to_markdown(board)
    for key in board.rows[0].scores:
        assert f"| {key}* | 1 | 0.4 | 0.9 |" in text
    assert "a\\|b" in text
    values = json.loads(to_json([board]))["leaderboards"][0]
    assert values["generators"][0]["scores"]["facts.leverage"]["floor"] == 0.4


def test_it_is_a_pure_function_of_the_files(tmp_path: Path) -> None:
    made = [result("alpha"), result("beta", level=0.1), result("beta", level=0.1, limit=4)]
    for one in made:
        where = {"dataset": "made-up-market", "task": "realism", "generator": one.generator["label"]}
        results.write(one, results.result_path(tmp_path, **where, seed=0, limit=one.limit))
    first, second = (to_json(leaderboard.leaderboards(tmp_path)) for _ in range(2))
    assert first == second
    assert [len(v) for v in load(tmp_path).values()] == [2]
    assert [len(v) for v in load(tmp_path, limit=4).values()] == [1]
    with pytest.raises(FileNotFoundError, match="there are some with no --limit, --limit 4"):
        load(tmp_path, limit=9)
    with pytest.raises(FileNotFoundError, match="`marsbench run` makes them"):
        load(tmp_path / "nowhere")


def test_seeds_that_are_asked_for_rank_alone(tmp_path: Path) -> None:
    """As where a run of further seeds is not done: whoever lacks one has no rank among all."""
    for label, seeds in (("alpha", (0, 1)), ("beta", (0,))):
        for seed in seeds:
            made = result(label, level=0.5 + seed, seed=seed)
            where = {"dataset": "made-up-market", "task": "realism", "generator": label}
            results.write(made, results.result_path(tmp_path, **where, seed=seed))
    (both,) = leaderboard.leaderboards(tmp_path, missing="drop")
    assert [row.label for row in both.rows if row.rank] == ["alpha"]
    (first,) = leaderboard.leaderboards(tmp_path, seeds=[0])
    assert (first.seeds, {row.label for row in first.rows if row.rank}) == ((0,), {"alpha", "beta"})
    pages = verbs.write_pages(first, tmp_path, figures=False)
    assert all("seed 0" in page.read_text() for page in pages if page.suffix == ".md")
    with pytest.raises(FileNotFoundError, match="no results of data set 'made-up-market' with seed 3"):
        load(tmp_path, dataset="made-up-market", seeds=[3])


def test_a_damaged_result_is_named_by_the_leaderboard(tmp_path: Path) -> None:
    where: dict[str, Any] = {"dataset": "d", "task": "t", "generator": "g", "seed": 0}
    path = results.write(result(), results.result_path(tmp_path, **where))
    path.write_text("{")
    with pytest.raises(results.ResultError, match=str(path)):
        load(tmp_path)


def test_a_score_wholly_below_its_floor_is_counted_even_where_it_cannot_rank() -> None:
    def bounded(key: str, low: float, high: float, direction: Direction, floor: float | None = 0.5) -> Score:
        value = (low + high) / 2
        return Score(
            key,
            value,
            "distributions",
            direction,
            ci_low=low,
            ci_high=high,
            floor=floor,
            ceiling=0.5,
            informative=False,
        )

    scores = [
        bounded("a.worse", 0.1, 0.4, "higher"),
        bounded("a.not_sure", 0.1, 0.6, "higher"),
        bounded("a.better", 0.6, 0.7, "higher"),
        bounded("a.worse_distance", 0.6, 0.7, "lower"),
        bounded("a.better_distance", 0.1, 0.4, "lower"),
        bounded("a.no_floor", 0.1, 0.4, "higher", floor=None),
    ]
    row = Row("x", None, None, {}, {s.key: s for s in scores}, ())
    assert row.below_floor == (2, 5)


def test_a_group_of_one_score_takes_no_part_beside_a_group_of_many() -> None:
    """Half of an overall must not hang on a single noisy score."""
    many = {f"distributions.q{k}": "distributions" for k in range(3)}
    assert small_groups({**many, "facts.one": "facts"}) == {"facts": 1}
    assert small_groups({**many, "facts.one": "facts", "facts.two": "facts", "facts.three": "facts"}) == {}
    assert small_groups({"facts.one": "facts", "distributions.q0": "distributions"}) == {}, "none is larger"
    assert small_groups({}) == {}


def test_the_board_says_which_group_was_too_small_and_still_prints_it() -> None:
    def scores(level: float) -> tuple[Score, ...]:
        three = (score(f"distributions.q{k}", "distributions", level) for k in range(3))
        return (*three, score("facts.one", "facts", 1 - level))

    board = build([result("a", scores=scores(0.9)), result("b", scores=scores(0.2))])
    assert board.groups == ("distributions",)
    assert [row.label for row in board.rows] == ["a", "b"]
    assert any("Group facts has 1 informative score," in note for note in board.notes)
    assert "facts.one" in to_markdown(board)


def of_task(task: str, scores: tuple[Score, ...]) -> Result:
    base = result("alpha", scores=scores)
    return replace(base, task={**base.task, "label": task, "name": task})


def test_two_tasks_with_a_score_of_the_same_key_are_refused_not_averaged() -> None:
    many = [of_task(task, (score("facts.a", "facts", 0.5),)) for task in ("realism", "sessions")]
    with pytest.raises(ValueError, match=r"tasks realism and sessions both give a score facts\.a"):
        build(many)


def test_validity_is_that_of_the_worst_task() -> None:
    def made(value: float) -> Score:
        return Score("validity.rejected", value, "validity", "lower", floor=0.1)

    ranked = (score("facts.a", "facts", 0.5), score("facts.b", "facts", 0.5), score("facts.c", "facts", 0.4))
    good = of_task("realism", (*ranked, made(0.05)))
    (row,) = build([good, of_task("sessions", (made(0.2),))]).rows
    assert row.scores["validity.rejected"].value == 0.2
    assert "validity.rejected is 0.2" in str(row.unranked)
    (row,) = build([good, of_task("sessions", (made(0.08),))]).rows
    assert row.scores["validity.rejected"].value == 0.08


# What a floor, a ceiling and a control may not do to a ranking


def _control(label: str, level: float) -> Result:
    return changed(result(label, level=level), "generator", hidden=True)


def test_listing_the_controls_changes_nobodys_rank() -> None:
    """Holm's correction is over the pairs of those that are ranked, whoever is listed beside them."""
    few = tuple(f"distributions.q{k}" for k in range(3))

    def made(label: str, level: float, spread: float, **changes: Any) -> Result:
        rng = np.random.default_rng(sum(label.encode()))
        scores = []
        for key in few:
            noise = spread * rng.standard_normal(24)
            normalised, raw = (tuple((a + b * noise).tolist()) for a, b in ((level, 1.0), (0.4 + 0.5 * level, 0.5)))
            scores.append(score(key, "distributions", level, normalised_replicates=normalised, replicates=raw))
        return result(label, scores=tuple(scores), **changes)

    ranked = [made(label, level, 0.004) for label, level in (("a", 0.9), ("b", 0.85), ("c", 0.5))]
    controls = [changed(made(f"bad-{k}", 0.88 - 0.001 * k, 0.004), "generator", hidden=True) for k in range(9)]
    alone, beside = build(ranked), build([*ranked, *controls], controls=True)

    def places(board: leaderboard.Leaderboard) -> list[tuple[str, int | None, tuple[str, ...], float | None]]:
        return [(r.label, r.rank, r.better_than, r.overall) for r in board.rows if not r.control]

    assert places(beside) == places(alone)
    assert beside.keys == alone.keys
    assert [r.label for r in beside.rows][:3] == ["a", "bad-0", "bad-1"], "they stand where their overall puts them"
    assert {(r.rank, r.better_than) for r in beside.rows if r.control} == {(None, ())}
    assert "control  bad-0" in to_table(beside)
    assert "0.880" in to_table(beside), "with their overall"
    assert leaderboard.CONTROLS in beside.notes
    assert leaderboard.CONTROLS not in alone.notes


def test_the_number_of_ranking_scores_stands_under_every_table() -> None:
    many, few = build([result("alpha")]), build([result("alpha", scores=(score("facts.a", "facts", 0.5),))])
    for text in (to_table(many), to_markdown(many), to_html(many, draw=False)):
        assert "12 scores rank: 4 of facts, 5 of distributions, 3 of prediction." in text
        assert "So few" not in text
    for text in (to_table(few), to_markdown(few), to_html(few, draw=False)):
        assert "1 score ranks: 1 of facts. So few carry an order badly: facts.a." in text


def test_a_control_does_not_decide_which_scores_rank() -> None:
    extra = score("facts.only_the_control", "facts", 0.5)
    control = _control("bad", 0.1)
    control = replace(control, outcomes={"m": Outcome((*control.scores.values(), extra))})
    assert "facts.only_the_control" not in build([result("alpha"), control], controls=True).keys


def test_controls_alone_are_ranked_among_themselves() -> None:
    board = build([_control("bad", 0.1), _control("worse", 0.0)], controls=True)
    assert [row.rank for row in board.rows] == [(1, 1), (2, 2)]


def test_a_floor_with_an_error_of_its_own_is_judged_by_the_paired_gain() -> None:
    """An accuracy whose interval clears the floor as a point, and whose gain does not."""
    keys = [f"three_class_accuracy.{q}.one_rollout" for q in ("volatility", "spread", "buy_order_ratio")]
    scores = tuple(
        score(
            key, "prediction", None, value=0.36, floor=0.33, ci_low=0.34, ci_high=0.38, informative=False, reason=None
        )
        for key in keys
    )
    table = {
        "quantity": ["volatility", "spread", "buy_order_ratio"],
        "variant": ["one_rollout"] * 3,
        "gain_ci_low": [0.01, -0.01, None],
        "gain_ci_high": [0.05, 0.07, None],
    }
    metric = {"label": "three-class-accuracy", "name": "three-class-accuracy", "version": 2, "parameters": {}}
    facts = tuple(score(f"facts.f{k}", "facts", 0.5) for k in range(3))

    def board(tables: dict[str, dict[str, list[Any]]]) -> Row:
        made = changed(result("alpha"), "task", metrics=[metric])
        (row,) = build([replace(made, outcomes={"three-class-accuracy": Outcome((*facts, *scores), tables)})]).rows
        return row

    assert board({}).above_floor("prediction") == (3, 3)
    assert board({"accuracy_summary": table}).above_floor("prediction") == (2, 3), "one has no gain on file"
    table["gain_ci_high"] = [0.05, -0.005, None]
    assert board({"accuracy_summary": table}).below_floor == (1, 6)


def test_what_depends_on_replay_alone_is_a_ceiling_and_credits_nobody() -> None:
    real, made = (f"lobbench.predictive.{which}_to_real.auc" for which in ("real", "synthetic"))
    metric = {"label": "lob-bench", "name": "lob-bench", "version": 2, "parameters": {}}
    facts = tuple(score(f"facts.f{k}", "facts", 0.5) for k in range(3))
    auc = tuple(
        score(key, "prediction", None, value=v, floor=0.5, ceiling=None, ci_low=v - 0.01, ci_high=v + 0.01,
              informative=None, reason=None)
        for key, v in ((real, 0.7), (made, 0.6))
    )  # fmt: skip
    one = replace(changed(result("alpha"), "task", metrics=[metric]), outcomes={"lob-bench": Outcome((*facts, *auc))})
    board = build([one])
    (row,) = board.rows
    assert row.above_floor("prediction") == (1, 1)
    assert (row.scores[made].ceiling, row.scores[made].value) == (0.7, 0.6)
    assert (row.scores[real].direction, row.scores[real].floor) == ("none", None)
    assert f"the ceiling of {made}" in str(row.scores[real].reason)
    assert f"| {made} | 1 | 0.5 | 0.7 |" in to_markdown(board)


@pytest.mark.parametrize("informative", [True, False])
def test_a_fact_that_whole_sessions_judge_does_not_rank_from_windows(informative: bool) -> None:
    windows = tuple(score(f"facts.0{k}_f", "facts", 0.9) for k in range(4))
    normalised = 0.1 if informative else None
    sessions = tuple(
        score(f"session_facts.0{k}_f", "facts", normalised, value=0.4, informative=informative, reason=None)
        for k in range(3)
    )
    both = build([of_task("realism", windows), of_task("sessions", sessions)])
    wanted = {s.key for s in sessions if informative} | {"facts.03_f"}
    assert set(both.keys) == wanted, "the fourth has no session that judges it"
    assert any(note.startswith("Judged by whole sessions") and "facts.00_f" in note for note in both.notes)
    alone = build([of_task("realism", windows)])
    assert set(alone.keys) == {s.key for s in windows}
    assert not any(note.startswith("Judged by whole sessions") for note in alone.notes)
