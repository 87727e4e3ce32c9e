"""Search for factors: the slow twins of its sums, planted factors that are found, and noise that is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from marsbench.metrics._known_factors import Law, draw
from marsbench.stats.factor_genetics import DECAYS, TRANSFORMS, Breeding, GeneticSearch, Grammar, Histories, Template
from marsbench.stats.factor_search import (
    Problem,
    Settings,
    library,
    products,
    search,
    sparse_fit,
    squared_errors,
    standardised,
    stlsq,
    term_errors,
    thresholded,
)
from marsbench.stats.factor_validation import Permutation, SparseSearch, left_out_gain, p_value, validate

Floats = NDArray[np.float64]


def least_squares(x: Floats, y: Floats) -> Floats:
    return np.asarray(np.linalg.lstsq(x, y, rcond=None)[0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 1.5), st.floats(0.001, 50.0))
def test_thresholding_of_products_is_pysindys_stlsq_on_the_rows(seed: int, threshold: float, ridge: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((3, 60, 9)) @ (np.eye(9) + 0.15 * rng.standard_normal((9, 9)))
    y = x @ (rng.standard_normal(9) * (rng.random(9) < 0.5)) + rng.standard_normal((3, 60))
    xx, xy = np.einsum("bni,bnj->bij", x, x), np.einsum("bni,bn->bi", x, y)
    fast = thresholded(xx, xy, threshold, np.full(3, ridge))
    slow = np.stack([stlsq(a, b, threshold, ridge) for a, b in zip(x, y, strict=True)])
    assert fast == pytest.approx(slow, rel=1e-6, abs=1e-6)


def test_a_threshold_that_nothing_passes_leaves_nothing() -> None:
    x, y = np.eye(4), np.full(4, 0.1)
    assert not stlsq(x, y, 5.0, 0.0).any()
    assert not thresholded((x.T @ x)[None], (x.T @ y)[None], 5.0, np.zeros(1)).any()


def test_errors_of_terms_are_the_jackknife_that_leaves_each_cluster_out() -> None:
    problem, _ = draw(Law(clusters=40), np.random.default_rng(0))
    design, count = problem.design, 40
    for j in (0, 3, 9):
        columns = design[:, [0, 1, 2 + j]]
        slopes = [
            least_squares(columns[rows], problem.impact[rows])[2]
            for rows in (problem.clusters != c for c in range(count))
        ]
        full = least_squares(columns, problem.impact)[2]
        wanted = np.sqrt((count - 1) / count * ((np.array(slopes) - full) ** 2).sum())
        assert term_errors(problem.sums())[j] == pytest.approx(wanted, rel=0.08)  # base of all clusters, not of each


def test_products_and_errors_of_clusters_are_those_of_their_rows() -> None:
    rng = np.random.default_rng(1)
    columns, clusters = rng.standard_normal((40, 3)), rng.permutation(np.arange(40) % 4)
    sums = products(columns, clusters)
    one = columns[clusters == 2]
    assert sums[2] == pytest.approx(one.T @ one)
    assert squared_errors(sums, np.array([0.5, -1]))[2] == pytest.approx(
        ((one[:, 2] - one[:, :2] @ [0.5, -1]) ** 2).sum()
    )


def test_the_library_leaves_out_what_says_nothing_new() -> None:
    rng = np.random.default_rng(2)
    size, one = rng.random(200) + 1, rng.standard_normal(200)
    factors = {"one": one, "again": 3 - 2 * one, "size": 5 * size, "flat": np.ones(200), "other": rng.random(200)}
    terms = library(factors, size)
    assert terms.names == ("one", "other", "one x sqrt(Q/V)", "other x sqrt(Q/V)")
    assert dict(terms.left_out) == {
        "again": "the same as one",
        "size": "the same as sqrt(Q/V)",
        "flat": "the same for every metaorder",
    }
    assert terms.columns[:, 2] == pytest.approx(standardised(one) * standardised(size))
    with pytest.raises(ValueError, match="'bad' must be"):
        library({"bad": np.full(200, np.nan)}, size)


def test_a_planted_factor_is_found_and_its_coefficient_recovered() -> None:
    problem, _ = draw(Law(strength=0.4), np.random.default_rng(3))
    found = search(problem.sums(), np.random.default_rng(0))
    names = np.array(problem.terms.names)
    assert "factor 0" in names[found.chosen]
    assert found.coefficients[2] == pytest.approx(0.4, abs=0.12)
    alone = sparse_fit(problem, found)
    assert alone[0] == pytest.approx(0.4, abs=0.12)
    assert set(names[found.chosen]) <= set(names[alone != 0]) | {"factor 0 x sqrt(Q/V)"}


def test_the_planted_formula_of_the_methods_is_recovered() -> None:
    """.8 sqrt(Q/V) (1 + .5 imbalance): coefficients .8 and .4 before standardising."""
    rng = np.random.default_rng(4)
    start = np.repeat(np.arange(100), 40)
    root, lean = np.sqrt(rng.uniform(1e-4, 1e-2, 4000)), rng.uniform(-1, 1, 100)[start]
    impact = 0.8 * root * (1 + 0.5 * lean) + 0.01 * rng.standard_normal(4000)
    terms = library({"imbalance": lean, "noise": rng.standard_normal(100)[start]}, root)
    problem = Problem(impact, root, terms, start, start, np.tile(np.arange(40), 100))
    found = search(problem.sums(), rng)
    assert np.array(terms.names)[found.chosen].tolist() == ["imbalance", "imbalance x sqrt(Q/V)"]
    at_the_mean = 0.8 * (1 + 0.5 * lean.mean())
    assert found.coefficients[1] / root.std() == pytest.approx(at_the_mean, rel=0.03)
    product = found.coefficients[2 + 2] / root.std() / lean.std()
    assert product == pytest.approx(0.4, rel=0.03)


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_planted_factors_are_found_in_most_draws_and_noise_in_few(shared: float) -> None:
    hits, false, draws = 0, 0, 40
    for i in range(draws):
        rng = np.random.default_rng([5, i])
        problem, _ = draw(Law(shared=shared), rng)
        names = {f for f, c in zip(problem.terms.factors, search(problem.sums(), rng).chosen, strict=True) if c}
        hits += "factor 0" in names
        false += len(names - {"factor 0"})
    assert hits >= 0.95 * draws
    assert false <= 0.05 * 7 * draws  # of seven noise factors


def test_a_search_without_candidates_is_the_base_and_too_few_clusters_are_refused() -> None:
    problem, _ = draw(Law(clusters=8), np.random.default_rng(6))
    sums = problem.sums()
    none = search(sums[:, [0, 1, -1]][:, :, [0, 1, -1]], np.random.default_rng(0))
    assert none.coefficients == pytest.approx(least_squares(problem.design[:, :2], problem.impact))
    with pytest.raises(ValueError, match="5 clusters are too few"):
        search(sums[:5], np.random.default_rng(0))


def test_the_gain_leaves_each_cluster_out_in_turn() -> None:
    problem, factors = draw(Law(clusters=9), np.random.default_rng(7))
    size, one = standardised(problem.root_size), standardised(factors["factor 0"])
    x, y, c = np.column_stack([np.ones_like(size), size, one, one * size]), problem.impact, problem.clusters
    weights = np.ones((2, 9))
    weights[1, 4] = 0
    found = left_out_gain(products(np.column_stack([x, y]), c), weights)
    for row, inside in zip(found, (c >= 0, c != 4), strict=True):
        saved = 0.0
        for k in np.unique(c[inside]):
            train, test = inside & (c != k), c == k
            full, base = (
                ((y[test] - x[test][:, :w] @ least_squares(x[train][:, :w], y[train])) ** 2).sum() for w in (4, 2)
            )
            saved += base - full
        assert row == pytest.approx(saved / ((y[inside] - y[inside].mean()) ** 2).sum())


def test_permutations_exchange_whole_clusters_within_agent_side_and_rank() -> None:
    problem, _ = draw(Law(clusters=6, starts=2), np.random.default_rng(8))
    mark = problem.start * 1000.0 + problem.cell
    drawn = Permutation.of(problem).draw(mark, np.random.default_rng(0))
    assert np.array_equal(np.sort(drawn), np.sort(mark))
    assert np.array_equal(drawn % 1000, problem.cell)
    came_from = (drawn // 1000).astype(int)
    assert all(len(np.unique(came_from[problem.start == s])) == 1 for s in range(12))
    assert all(len(np.unique(came_from[problem.clusters == c] // 2)) == 1 for c in range(6))


def test_permutations_take_another_metaorder_of_the_same_cell_where_one_is_missing() -> None:
    problem, _ = draw(Law(clusters=6), np.random.default_rng(9))
    kept = np.random.default_rng(0).random(len(problem.impact)) < 0.8
    part = Problem(
        problem.impact[kept], problem.root_size[kept], problem.terms, problem.clusters[kept], problem.start[kept],
        problem.cell[kept],
    )  # fmt: skip
    drawn = Permutation.of(part).draw(part.cell.astype(float), np.random.default_rng(1))
    assert np.array_equal(drawn, part.cell)
    twice = Problem(  # two rollouts of the same metaorder stay apart
        *(np.tile(x, 2) for x in (part.impact, part.root_size)), part.terms, *(np.tile(x, 2) for x in
        (part.clusters, part.start, part.cell)),
    )  # fmt: skip
    marks = np.arange(len(twice.cell)) / len(twice.cell)
    assert len(np.unique(Permutation.of(twice).draw(marks, np.random.default_rng(2)))) > 0.8 * len(marks)


def test_p_counts_permutations_that_gain_as_much() -> None:
    assert p_value(0.1, np.array([0.0, 0.1, 0.2])) == 0.75
    assert p_value(0.3, np.zeros(39)) == pytest.approx(1 / 40)
    assert np.isnan(p_value(0.1, np.zeros(0)))


def test_the_whole_search_is_validated_on_clusters_that_it_did_not_see() -> None:
    problem, _ = draw(Law(clusters=60), np.random.default_rng(10))
    one = SparseSearch.of(problem, Settings(resamples=20, folds=3))
    found = validate(problem, {"sparse": one}, np.random.default_rng(0), permutations=19, folds=3)
    assert found.best == "sparse"
    assert found.gains["sparse"] > 0.05
    assert found.p["best"] == found.p["sparse"] == 0.05
    assert found.saved["sparse"].sum() / found.variance.sum() == pytest.approx(found.gains["sparse"])
    noise, _ = draw(Law(clusters=60, strength=0), np.random.default_rng(11))
    none = validate(noise, {"sparse": SparseSearch.of(noise)}, np.random.default_rng(0), permutations=9, folds=3)
    assert none.gains["sparse"] < 0.02
    assert none.p["best"] > 0.05


def histories(rng: np.random.Generator, starts: int = 100, minutes: int = 30) -> Histories:
    steps = rng.standard_normal((starts, minutes))
    traded = rng.gamma(2, 0.5, (starts, minutes))
    mids = np.concatenate([np.zeros((starts, 1)), np.cumsum(steps, axis=1)], axis=1)
    series = {
        "return": steps,
        "gap": mids[:, :-1] - mids[:, -1:],
        "square": steps**2,
        "flow": traded * rng.uniform(-1, 1, traded.shape),
        "traded": traded,
        "orders": rng.poisson(50, traded.shape).astype(float),
    }
    ask, bid = rng.gamma(2, 100, (2, starts, 10))
    return Histories(series, ask, bid, np.full(starts, 1000.0))


def bred(
    template: Template | None, rng: np.random.Generator, *, strength: float = 0.5
) -> tuple[Problem, GeneticSearch]:
    """Impact with a planted template, or without."""
    problem, _ = draw(Law(strength=0), rng)
    known, side = histories(rng), np.where(problem.cell < 10, 1, -1)
    impact = problem.impact
    if template is not None:
        factor = standardised(template.values(known).ravel())[2 * problem.start + (side > 0)]
        impact = impact + strength * factor * problem.root_size / problem.root_size.mean()
    one = GeneticSearch.of(known, problem.start, side, problem.root_size, impact, problem.clusters)
    return problem, one


def test_templates_are_what_they_say() -> None:
    known = histories(np.random.default_rng(12), starts=5)
    mean = Template("window", "traded", window=3).values(known)
    assert mean[:, 0] == pytest.approx(known.series["traded"][:, -3:].mean(axis=1))
    weights = np.exp(-0.3 * np.array([1, 0]))
    late = Template("window", "return", window=2, decay=0.3, transform="abs").values(known)[:, 1]
    assert late == pytest.approx(np.abs(known.series["return"][:, -2:] @ weights / weights.sum()))
    lean = Template("imbalance", levels=1, sided=True)
    ask, bid = known.ask_shares[:, 0], known.bid_shares[:, 0]
    assert lean.values(known)[:, 1] == pytest.approx((ask - bid) / (ask + bid))
    assert lean.values(known)[:, 0] == pytest.approx(-(ask - bid) / (ask + bid))
    ratio = Template("ratio", "orders", window=1, long=5).values(known)[:, 0]
    assert ratio == pytest.approx(known.series["orders"][:, -1] / known.series["orders"][:, -5:].mean(axis=1))
    known.series["gap"][0] = np.nan
    logs = Template("window", "gap", window=2, transform="log").values(known)
    assert np.isnan(logs[:, 0]).tolist() == [True, False, False, False, False]  # of that start alone
    assert str(lean) == "side * imbalance of 1 levels"
    assert str(Template("window", "gap", window=10, transform="log")) == "log(mean of gap over 10 min)"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_templates_that_are_drawn_crossed_or_mutated_are_well_typed(seed: int, minutes: int) -> None:
    rng, grammar = np.random.default_rng(seed), Grammar(minutes)
    a, b = grammar.draw(rng), grammar.draw(rng)
    known = histories(np.random.default_rng(0), starts=4, minutes=minutes)
    for t in (a, b, grammar.crossed(a, b, rng), grammar.mutated(a, rng)):
        assert np.isfinite(t.values(known)).all()
        assert grammar.typed(t, rng) == t
        assert t.transform in TRANSFORMS
        assert t.decay in DECAYS
        assert str(t)


def test_products_of_units_are_those_of_the_metaorders() -> None:
    problem, one = bred(Template("depth", levels=3), np.random.default_rng(13))
    template = Template("window", "flow", window=5, sided=True)
    factor = one.values(template)[one.unit]
    impact = problem.impact * 2
    rows = np.column_stack([np.ones_like(factor), one.size, factor, factor * one.size, impact])
    found = one.with_impact(impact).products(one.values(template)[None], one.clusters, 100)[0]
    assert found == pytest.approx(products(rows, problem.clusters))


def test_a_planted_template_is_bred_again_and_the_same_generator_breeds_the_same() -> None:
    planted = Template("window", "gap", window=10, decay=0.1, transform="log")
    _, one = bred(planted, np.random.default_rng(14))
    found = one.search(np.random.default_rng(0))
    same = np.corrcoef(one.values(found.template), one.values(planted))[0, 1]
    assert abs(same) > 0.9
    assert found.fitness > 0.1
    assert one.search(np.random.default_rng(0)) is not found
    assert one.search(np.random.default_rng(0)).template == found.template


def test_what_is_bred_from_noise_gains_nothing_where_it_was_not_bred() -> None:
    small = Breeding(population=20, generations=4)
    problem, one = bred(None, np.random.default_rng(15))
    one = GeneticSearch(one.histories, one.unit, one.size, one.clusters, one.sums, small)
    none = validate(problem, {"genetic": one}, np.random.default_rng(0), permutations=9, folds=3)
    assert none.gains["genetic"] < 0.02
    assert none.p["genetic"] > 0.1


def test_histories_with_gaps_leave_only_templates_that_do_not_need_them() -> None:
    _, one = bred(None, np.random.default_rng(16))
    for values in one.histories.series.values():
        values[:3, :25] = np.nan
    small = GeneticSearch(
        one.histories, one.unit, one.size, one.clusters, one.sums, Breeding(population=20, generations=3)
    )
    template = small.search(np.random.default_rng(0)).template
    assert max(template.window, template.long) <= 5
    one.histories.ask_shares[:] = np.nan
    for values in one.histories.series.values():
        values[:] = np.nan
    with pytest.raises(ValueError, match="no template has a value"):
        GeneticSearch(one.histories, one.unit, one.size, one.clusters, one.sums).search(np.random.default_rng(0))
