"""The law of impact of clustered metaorders against closed forms and planted laws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from marsbench.stats.impact_law import fit_decay, fit_law, relaxed


def planted(delta: float, y: float, *, noise: float, clusters: int = 100, each: int = 40, seed: int = 0):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(clusters), each)
    size = 10 ** rng.uniform(-3.4, -1.5, len(cluster))
    shared = rng.standard_normal((clusters, 2))[cluster, rng.integers(0, 2, len(cluster))]
    impact = y * size**delta + noise * (shared + rng.standard_normal(len(cluster))) / np.sqrt(2)
    return size, impact, cluster


def test_without_noise_the_law_is_found_exactly() -> None:
    law = fit_law(*planted(0.5, 1.3, noise=0.0))
    assert law is not None
    assert law.delta == pytest.approx(0.5, abs=2e-3)
    assert law.prefactor == pytest.approx(1.3, rel=5e-3)
    assert law.r2 == pytest.approx(1, abs=1e-4)
    quiet = fit_law(*planted(0.5, 1.3, noise=0.02))
    assert quiet is not None
    assert quiet.verdict == "holds"


def test_it_is_the_least_squares_fit_that_scipy_finds() -> None:
    size, impact, cluster = planted(0.6, 2.0, noise=0.05, clusters=30)
    law = fit_law(size, impact, cluster)
    found, _ = curve_fit(lambda q, y, d: y * q**d, size, impact, p0=(1.0, 0.5))
    assert law is not None
    assert law.delta == pytest.approx(found[1], abs=2e-3)
    assert law.prefactor == pytest.approx(found[0], rel=1e-2)


def test_negative_impacts_count_and_the_interval_covers_the_truth() -> None:
    size, impact, cluster = planted(0.5, 1.0, noise=0.1)
    assert (impact < 0).mean() > 0.15
    law = fit_law(size, impact, cluster)
    assert law is not None
    assert law.delta_low < 0.5 < law.delta_high
    assert law.prefactor_low < 1.0 < law.prefactor_high
    assert law.aic_less_linear < 0


def test_a_linear_law_is_not_like_a_square_root_and_a_straight_line_does_as_well() -> None:
    law = fit_law(*planted(1.0, 10.0, noise=0.02))
    assert law is not None
    assert law.verdict == "fails"
    assert law.aic_less_linear == pytest.approx(2, abs=4)


def test_few_clusters_make_wide_intervals() -> None:
    many, few = (fit_law(*planted(0.5, 1.0, noise=0.1, clusters=c, each=4000 // c)) for c in (100, 5))
    assert many is not None
    assert few is not None
    assert few.delta_high - few.delta_low > many.delta_high - many.delta_low
    assert few.clusters == 5


@pytest.mark.parametrize(
    ("size", "impact", "cluster"),
    [
        (np.ones(5), np.ones(5), np.arange(5)),
        (np.ones(50), np.ones(50), np.zeros(50, int)),
        (np.geomspace(1e-3, 1, 50), -np.ones(50), np.arange(50)),
    ],
)
def test_there_is_no_law_of_too_little_or_of_prices_that_go_the_other_way(size, impact, cluster) -> None:  # type: ignore[no-untyped-def]
    assert fit_law(size, impact, cluster) is None


def test_the_decay_of_a_square_root_propagator_is_fitted_closely_and_a_planted_one_exactly() -> None:
    z = np.arange(5, 21) / 5
    rest, exponent = fit_decay(z, relaxed(z, 0.3, 0.7))
    assert (rest, exponent) == (pytest.approx(0.3, abs=1e-4), pytest.approx(0.7, abs=1e-4))
    propagator = np.sqrt(z) - np.sqrt(z - 1)  # .518 at z = 1.5, .414 at 2, .318 at 3, .268 at 4
    assert propagator[-1] == pytest.approx(0.268, abs=1e-3)
    rest, exponent = fit_decay(z, propagator)
    assert np.abs(relaxed(z, rest, exponent) - propagator).max() < 0.08
    assert np.isnan(fit_decay(z[:2], propagator[:2])).all()
