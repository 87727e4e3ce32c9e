"""The learned ODE of market impact: closed forms, planted weights, a second way of fitting, held-out errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from marsbench.metrics import _known_ode as known
from marsbench.stats.impact_decays import DECAYS, PAPER, Decay, basis, exponential, power
from marsbench.stats.impact_ode import LearnedOde, Sums, Trajectories, fit, weight_interval
from marsbench.stats.impact_ode_errors import READINGS, autocorrelation, base_paths, held_out
from marsbench.stats.impact_ode_solver import fit_by_solver, solve
from marsbench.stats.lasso import lasso

TIMES = np.arange(1.0, 16.0)
PLANTED = np.array([[0.5, -0.3], [0.0, 0.2], [0.0, 0.0], [-0.2, 0.4]])
"""Weights of three standardised factors and the factor 1."""


def planted(
    count: int = 400, *, weights: np.ndarray = PLANTED, noise: float = 0.02, seed: int = 0, times: np.ndarray = TIMES
) -> Trajectories:
    """Trajectories of the paper's decay functions, with factors of very different scales; 10 to a cluster."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((count, 3))
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    drive = np.concatenate([z, np.ones((count, 1))], axis=1) @ weights
    paths = rng.standard_normal((count, 1)) + drive @ basis(times, list(PAPER.values())).T
    paths[:, 1:] += noise * rng.standard_normal((count, len(times) - 1))
    factors = np.array([0.05, 25.0, 10.0]) + np.array([0.01, 0.3, 2.0]) * z
    return Trajectories(paths, factors, times, np.arange(count) // 10, ("size", "price", "depth"))


def stacked(data: Trajectories, ode: LearnedOde) -> tuple[np.ndarray, np.ndarray]:
    """The features ``[N (T - 1), m n]`` and aims ``[N (T - 1)]`` of an ordinary regression."""
    part = basis(data.times, ode.decays)[1:]
    features = np.einsum("im,tn->itmn", ode.standardised(data.factors), part)
    return features.reshape(-1, ode.weights.size), (data.paths[:, 1:] - data.paths[:, :1]).ravel()


def test_planted_weights_are_recovered_and_those_that_are_zero_stay_near_it():
    ode = fit(planted())
    assert ode.names == ("size", "price", "depth", "1")
    assert np.abs(ode.weights - PLANTED).max() < 0.02
    assert np.abs(ode.weights[PLANTED == 0]).max() < 0.01
    np.testing.assert_allclose(ode.mean, [0.05, 25, 10], rtol=1e-9)
    np.testing.assert_allclose(ode.scale, [0.01, 0.3, 2], rtol=1e-9)


def test_the_closed_form_solves_the_equation():
    decays = {**PAPER, "exp(-t)": DECAYS["exp(-t)"], "constant": DECAYS["constant"], "slow": exponential(0.1)}
    decays["steep"] = power(1.5)
    data = planted(20)
    ode = fit(data, decays=decays, penalty=1e-4)
    found = ode.paths(data.factors, data.paths[:, 0], TIMES)
    drive = ode.standardised(data.factors) @ ode.weights
    for i in (0, 7):
        done = solve_ivp(
            lambda t, y, i=i: drive[i] @ [d.rate(t) for d in ode.decays], (1, 15), data.paths[i, :1], t_eval=TIMES,
            rtol=1e-9, atol=1e-10,
        )  # fmt: skip
        np.testing.assert_allclose(found[i], done.y[0], atol=1e-5)


@pytest.mark.parametrize("decay", [*DECAYS.values(), exponential(0.3), power(2.0)], ids=lambda d: d.name)
def test_every_decay_is_the_slope_of_its_integral(decay: Decay):
    step = 1e-5
    slope = (decay.integral(TIMES + step) - decay.integral(TIMES - step)) / (2 * step)
    np.testing.assert_allclose(slope, decay.rate(TIMES), rtol=1e-6, atol=1e-9)
    assert float(decay.rate(2.0)) == pytest.approx(decay.rate(np.array([2.0]))[0])


def test_any_dictionary_of_decay_functions_can_be_fitted():
    mine = {"bend": Decay("bend", lambda t: 1 / (1 + t), lambda t: np.log(1 + t)), "constant": DECAYS["constant"]}
    data = planted(50)
    truth = np.array([[1.0, 0.0], [0.0, -0.1], [0.0, 0.0], [0.3, 0.0]])
    z = fit(data, penalty=0.0).standardised(data.factors)
    paths = data.paths[:, :1] + z @ truth @ basis(TIMES, list(mine.values())).T
    ode = fit(replace(data, paths=paths), decays=mine, penalty=0.0)
    np.testing.assert_allclose(ode.weights, truth, atol=1e-8)
    assert [d.name for d in ode.decays] == ["bend", "constant"]


@pytest.mark.filterwarnings("ignore:Objective did not converge")  # the slow twin, without centring
@pytest.mark.parametrize("penalty", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("form", [{}, {"centre": False}, {"constant": False}, {"centre": False, "constant": False}])
def test_sums_over_clusters_give_the_lasso_of_the_stacked_features(penalty: float, form: dict[str, bool]):
    from sklearn.linear_model import Lasso

    data = planted(100, noise=0.3)
    ode = fit(data, penalty=penalty, **form)
    features, aims = stacked(data, ode)
    slow = Lasso(alpha=penalty / 2, fit_intercept=False, tol=1e-6, max_iter=100_000, warm_start=True)
    slow.fit(features, aims)

    def loss(weights: np.ndarray) -> float:
        return float(((aims - features @ weights) ** 2).mean() + penalty * np.abs(weights).sum())

    assert loss(ode.weights.ravel()) <= loss(slow.coef_) + 1e-12
    if ode.centre:  # coordinate descent hardly converges otherwise
        np.testing.assert_allclose(ode.weights.ravel(), slow.coef_, atol=5e-3)


def test_without_a_penalty_it_is_least_squares():
    data = planted(100, noise=0.3)
    ode = fit(data, penalty=0.0)
    np.testing.assert_allclose(ode.weights.ravel(), np.linalg.lstsq(*stacked(data, ode))[0], atol=1e-8)


def test_factors_that_are_the_same_share_their_weight_and_the_loss_is_still_the_least():
    data = planted(100, noise=0.3)
    twice = replace(data, factors=data.factors[:, [0, 1, 2, 0]], names=(*data.names, "again"))
    for penalty in (0.1, 0.01, 0.001):
        one, two = fit(data, penalty=penalty), fit(twice, penalty=penalty)
        np.testing.assert_allclose(two.weights[0] + two.weights[3], one.weights[0], atol=1e-3)


def test_a_path_of_penalties_gives_what_each_of_them_gives_alone_in_any_order():
    sums = Sums.of(planted(60, noise=0.3), tuple(PAPER.values()))
    gram, right, _ = sums.equations(np.ones(6), sums.standardiser(np.ones(6)))
    penalties = np.array([0.001, 0.0, 0.1, 0.01])
    together = lasso(gram, right, penalties)
    for one, row in zip(penalties, together, strict=True):
        np.testing.assert_allclose(row, lasso(gram, right, np.array([one]))[0], atol=1e-4)
    assert (np.abs(together).sum(axis=1).argsort() == [2, 3, 0, 1]).all()


@pytest.mark.parametrize("penalty", [0.01, 0.001])
def test_gradients_through_an_ode_solver_find_the_same_weights(penalty: float):
    pytest.importorskip("torchdiffeq")
    data = planted(40, noise=0.2, times=np.arange(1.0, 9.0))
    ode = fit(data, penalty=penalty)
    slow = fit_by_solver(data, penalty=penalty)
    assert np.abs(slow.weights - ode.weights).max() < 1e-2
    start = data.paths[:, 0]
    for method in ("dopri5", "rk4"):
        solved = solve(ode, data.factors, start, data.times, method=method)
        np.testing.assert_allclose(solved, ode.paths(data.factors, start, data.times), atol=1e-4)


def test_base_odes_are_those_of_equation_14():
    start, drive = np.array([0.1, -0.2]), 0.02 * np.sqrt(np.array([0.01, 0.0004]))
    root = base_paths(start, drive, TIMES, READINGS["inverse_sqrt"])
    np.testing.assert_allclose(root, start[:, None] + 2 * drive[:, None] * (np.sqrt(TIMES) - 1))
    log = base_paths(start, drive, TIMES, READINGS["inverse"], amplitude=3.0)
    np.testing.assert_allclose(log, start[:, None] + 3 * drive[:, None] * np.log(TIMES))


def test_a_free_amplitude_is_found_on_the_other_clusters():
    data = planted(40)
    drive = np.abs(data.factors[:, 0])
    paths = base_paths(data.paths[:, 0], drive, TIMES, READINGS["inverse"], amplitude=3.0)
    held = held_out(replace(data, paths=paths), drive)
    assert held.mse("free.inverse")[0] == pytest.approx(0, abs=1e-20)
    np.testing.assert_allclose(held.paths["free.inverse"], paths)
    assert held.mse("base.inverse")[0] > 1e-3
    still = held_out(data, np.zeros(40))  # what nothing drives stays where it is
    assert (still.paths["free.inverse"] == data.paths[:, :1]).all()


def test_errors_without_a_cluster_are_those_of_a_cross_validation_that_never_saw_it():
    data = known.draw(known.Law(clusters=6), np.random.default_rng(0))
    whole = held_out(data, data.factors[:, 0], penalty=0.01)
    keep = data.cluster != 2
    part = replace(data, paths=data.paths[keep], factors=data.factors[keep], cluster=data.cluster[keep])
    alone = held_out(part, part.factors[:, 0], penalty=0.01)
    np.testing.assert_allclose(whole.deleted[2], [alone.mse(m)[0] for m in alone.models], rtol=1e-9)


def test_the_learned_ode_beats_every_base_where_more_is_planted():
    data = known.draw(known.Law(), np.random.default_rng(1))
    held = held_out(data, data.factors[:, 0])
    assert held.models == ("learned", "base.inverse_sqrt", "base.inverse", "free.inverse_sqrt", "free.inverse")
    for base in held.models[1:]:
        gain, interval = held.gain(base)
        assert gain == pytest.approx(held.mse(base)[0] - held.mse("learned")[0])
        assert interval.low > 0


def test_the_learned_ode_does_not_beat_a_base_that_is_the_truth():
    gains, clear = [], 0
    for seed in range(6):
        data = known.draw(known.Law(weights=known.BASE), np.random.default_rng([7, seed]))
        held = held_out(data, data.factors[:, 0])
        gain, interval = held.gain("free.inverse_sqrt")
        gains.append(gain / held.mse("free.inverse_sqrt")[0])
        clear += int(interval.low > 0)
        assert held.gain("base.inverse")[1].low > 0  # the other reading is wrong here
    assert np.mean(gains) < 0.01
    assert clear <= 1


def test_no_cluster_helps_to_foretell_itself():
    data = planted(60, noise=0.1)
    held = held_out(data, np.ones(60), penalty=0.001)
    assert len(held.penalties) == 6
    alone = fit(
        replace(data, paths=data.paths[10:], factors=data.factors[10:], cluster=data.cluster[10:]), penalty=0.001
    )
    np.testing.assert_allclose(
        held.paths["learned"][:10], alone.paths(data.factors[:10], data.paths[:10, 0], TIMES), atol=1e-5
    )
    squares = (held.paths["learned"] - data.paths)[:10, 1:] ** 2
    assert held.squares[0, 0] == pytest.approx(squares.sum())
    assert (held.points == 10 * 14).all()


def test_intervals_without_a_penalty_hold_planted_weights_and_those_of_penalised_ones_do_not():
    """What the penalty does to a weight is no noise: only the weight that it leads to is covered."""
    law = known.Law(each=5)
    counted = np.zeros(3)
    for i in range(60):
        data = known.draw(law, np.random.default_rng([5, i]))
        truth = np.array(law.weights)
        counted += [
            known.covers(data, 0.0, truth),
            known.covers(data, law.penalty, known.penalised(law)),
            known.covers(data, law.penalty, truth),
        ]
    assert counted[0] >= 52
    assert counted[1] >= 50
    assert counted[2] <= 20


def test_intervals_have_the_shape_of_the_weights_and_need_two_clusters():
    data = planted(60, noise=0.1)
    ode = fit(data)
    interval = weight_interval(data, ode)
    assert interval.low.shape == ode.weights.shape
    assert (interval.low <= ode.weights + 1e-12).all()
    assert interval.method == "delete-one jackknife t interval, 6 clusters"
    one = replace(data, cluster=np.zeros(60, np.int64))
    assert "at least 2" in str(weight_interval(one, fit(one, penalty=0.01)).reason)
    with pytest.raises(ValueError, match="cross-validation needs at least 2"):
        fit(one)


def test_a_factor_that_does_not_vary_has_no_weight():
    data = planted(60, noise=0.1)
    flat = replace(data, factors=np.column_stack([data.factors[:, :2], np.full(60, 7.0)]))
    ode = fit(flat, penalty=0.0)
    assert (np.abs(ode.weights[2]) < 1e-9).all()
    moved = flat.factors + np.array([0, 0, 5.0])
    np.testing.assert_allclose(ode.paths(moved, np.zeros(60), TIMES), ode.paths(flat.factors, np.zeros(60), TIMES))


def test_autocorrelation_over_trajectories_is_that_of_a_random_walk():
    rng = np.random.default_rng(3)
    paths = np.cumsum(rng.standard_normal((20_000, 15)), axis=1)
    value, interval = autocorrelation(paths, np.arange(20_000) // 500)
    t = np.arange(1, 16)
    wanted = [np.sqrt(t[:-k] / t[k:]).mean() for k in range(1, 6)]
    np.testing.assert_allclose(value, wanted, atol=0.01)
    assert (interval.low < value).all()
    by_hand = np.mean([np.corrcoef(paths[:, i], paths[:, i + 3])[0, 1] for i in range(12)])
    assert value[2] == pytest.approx(by_hand)


def test_autocorrelation_of_paths_that_agree_or_are_too_short_is_missing():
    same = np.tile(np.arange(4.0), (5, 1))
    assert np.isnan(autocorrelation(same, np.arange(5))[0]).all()
    short = np.random.default_rng(0).standard_normal((50, 3))
    assert np.isfinite(autocorrelation(short, np.arange(50))[0]).tolist() == [True, True, False, False, False]


def test_what_cannot_be_fitted_says_why():
    data = planted(20)
    with pytest.raises(ValueError, match="t0 = 0: must be above 0"):
        replace(data, times=TIMES - 1)
    with pytest.raises(ValueError, match="ascending"):
        replace(data, times=TIMES[::-1])
    with pytest.raises(ValueError, match="paths holds numbers that are not finite"):
        replace(data, paths=np.where(data.paths > 0, np.nan, data.paths))
    with pytest.raises(ValueError, match=r"factors \(20, 2\).*must be \(20, 3\)"):
        replace(data, factors=data.factors[:, :2])
    with pytest.raises(ValueError, match="penalty -1"):
        fit(data, penalty=-1)
    with pytest.raises(ValueError, match="must be positive"):
        exponential(0)
    ode = fit(data, penalty=0.01)
    with pytest.raises(ValueError, match="t0 = 0"):
        ode.paths(data.factors, data.paths[:, 0], TIMES - 1)
    with pytest.raises(ValueError, match="fitted to 3"):
        ode.paths(data.factors[:, :2], data.paths[:, 0], TIMES)
    with pytest.raises(ValueError, match="t0 = 0"):
        base_paths(data.paths[:, 0], np.ones(20), TIMES - 1, READINGS["inverse"])
    with pytest.raises(ValueError, match="at least 3 clusters"):
        held_out(data, np.ones(20))
    with pytest.raises(ValueError, match="drive"):
        held_out(planted(40), np.ones(3))
    with pytest.raises(ValueError, match="unknown model 'x'"):
        held_out(planted(40), np.ones(40), penalty=0.1).gain("x")
