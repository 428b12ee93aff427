"""The average over dithers, against the textbook and against many realisations."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from niriss_eestep.combine.mean import SCATTER_PROBABILITY, combine_profiles, common_covariance, growth_flags
from niriss_eestep.errors import ParameterError
from niriss_eestep.measure.ee import EEOptions, failed_ee, measure_ee
from niriss_eestep.measure.stamp import StarExposure
from niriss_eestep.simulate.scene import GaussianPSF

RADIUS = np.array([5.0, 6.0, 7.0])
COVARIANCE = np.array([[4.0, 3.0, 3.0], [3.0, 5.0, 4.0], [3.0, 4.0, 6.0]])


def combine(values, covariances, names=None, **kwargs):
    names = names or [f"e{k}" for k in range(len(values))]
    return combine_profiles(names, RADIUS, [np.array(v, dtype=float) for v in values], covariances, **kwargs)


def test_inverse_variance_mean_by_hand():
    found = combine([[100, 110, 120], [103, 113, 123]], [COVARIANCE, 2 * COVARIANCE])
    # weights 2/3 and 1/3 at every radius
    np.testing.assert_allclose(found.value, [101, 111, 121])
    np.testing.assert_allclose(found.covariance, (4 / 9 + 2 / 9) * COVARIANCE)
    np.testing.assert_allclose(found.scatter, np.full(3, 3 / np.sqrt(2)))
    np.testing.assert_allclose(found.chi2_dof, 9 / (3 * np.diag(COVARIANCE)))
    assert found.n_good.tolist() == [2, 2, 2]
    assert found.inflation.tolist() == [1, 1, 1]


def test_growth_flags_without_errors_are_the_literal_rule():
    rates = np.array([[10.0, 12.0, 12.0, 15.0], [10.0, 9.0, 11.0, np.nan]])
    assert growth_flags(rates, np.zeros((2, 4, 4))).tolist() == [[1, 1, 0, 1], [1, 0, 1, 0]]
    assert growth_flags(np.array([[np.nan, 3.0, 2.0]]), np.zeros((1, 3, 3))).tolist() == [[0, 1, 0]]


def test_growth_flags_of_a_lone_exposure_and_of_a_group_that_falls():
    # apertures whose differences have an error of 1
    nested = np.minimum.outer(np.arange(1.0, 4.0), np.arange(1.0, 4.0))
    falling = np.array([10.0, 12.0, 11.5])
    assert growth_flags(falling[None], [nested]).tolist() == [[1, 1, 0]]
    # of four that fall by 0.5 +- 1 the mean falls by one standard error: chance; by 2 +- 1, by four
    assert growth_flags(np.tile(falling, (4, 1)), [nested] * 4).min() == 1
    falling[2] = 10.0
    assert growth_flags(np.tile(falling, (4, 1)), [nested] * 4).tolist() == [[1, 1, 0]] * 4
    # one of four falls by 8 where the others rise: far behind the mean, as by a negative cosmic ray
    rates = np.array([[10.0, 12.0, 13.0]] * 3 + [[10.0, 12.0, 4.0]])
    assert growth_flags(rates, [nested] * 4).tolist() == [[1, 1, 1]] * 3 + [[1, 1, 0]]


def test_growth_flags_do_not_select_by_noise():
    rng = np.random.default_rng(3)
    n, n_dithers, n_radii = 500, 8, 6
    nested = np.minimum.outer(np.arange(1.0, n_radii + 1), np.arange(1.0, n_radii + 1))
    truth = 1000.0 + 0.1 * np.arange(n_radii)  # grows by a tenth of the noise
    pulls, flagged = np.empty((n, n_radii)), 0
    for k in range(n):
        values = truth + np.cumsum(rng.normal(size=(n_dithers, n_radii)), axis=1)
        flags = growth_flags(values, [nested] * n_dithers)
        found = combine_profiles(list("abcdefgh"), np.arange(n_radii), list(values), [nested] * n_dithers, flags=flags)
        pulls[k] = (found.value - truth) / found.err
        flagged += np.sum(flags == 0)
    # beyond 3 standard deviations lie 0.13 % of the exposures: too few to move the mean by what 500 groups can tell
    assert np.abs(pulls.mean(axis=0)).max() < 3 / np.sqrt(n)
    assert np.abs(pulls.std(axis=0) - 1).max() < 3 / np.sqrt(2 * n)
    assert flagged < 2 * 0.00135 * n * n_dithers * n_radii


def test_flagged_exposures_are_left_out_and_without_good_ones_the_plain_mean_stands():
    flags = np.array([[1, 0, 1], [1, 0, 0]])
    found = combine([[100, 90, 120], [103, 80, 50]], [COVARIANCE, 2 * COVARIANCE], flags=flags)
    np.testing.assert_allclose(found.value, [101, 85, 120])
    assert found.n_good.tolist() == [2, 0, 1]
    # plain mean of two: (5 + 10) / 4
    assert found.covariance[1, 1] == pytest.approx(15 / 4)


def test_an_exposure_without_value_counts_for_nothing():
    nothing = np.full((3, 3), np.nan)
    found = combine([[100, 110, 120], [np.nan] * 3], [COVARIANCE, nothing])
    np.testing.assert_array_equal(found.value, [100, 110, 120])
    np.testing.assert_allclose(found.covariance, COVARIANCE)
    assert found.n_good.tolist() == [1, 1, 1]
    none = combine([[np.nan] * 3], [nothing])
    assert np.isnan(none.value).all()
    assert np.isnan(none.err).all()


def test_the_error_honours_a_scatter_beyond_chance():
    found = combine([[100, 110, 120], [130, 111, 121]], [COVARIANCE, COVARIANCE])
    # 30 apart with an error of 2 each: chi2 = 112.5; the mean's error becomes half the difference
    assert found.inflation[0] == pytest.approx(np.sqrt(112.5))
    assert found.err[0] == pytest.approx(15)
    assert found.err_formal[0] == pytest.approx(np.sqrt(2))
    assert found.inflation[1] == 1
    np.testing.assert_allclose(found.err[1:], found.err_formal[1:])


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(4)), st.floats(1e-3, 1e6))
def test_order_and_scale(order, scale):
    rng = np.random.default_rng(1)
    values = rng.normal(100, 2, (4, 3))
    covariances = [COVARIANCE * f for f in (1.0, 2.0, 0.5, 1.5)]
    names = list("abcd")
    first = combine(values, covariances, names)
    second = combine([values[k] for k in order], [covariances[k] for k in order], [names[k] for k in order])
    np.testing.assert_array_equal(first.value, second.value)
    np.testing.assert_array_equal(first.covariance, second.covariance)
    assert first.names == second.names
    scaled = combine(scale * values, [scale**2 * c for c in covariances], names)
    np.testing.assert_allclose(scaled.value, scale * first.value, rtol=1e-12)
    np.testing.assert_allclose(scaled.err, scale * first.err, rtol=1e-9)


def test_pulls_of_the_mean():
    rng = np.random.default_rng(7)
    n = 4000
    root = np.linalg.cholesky(COVARIANCE)
    pulls, inflated = np.empty((n, 3)), 0
    for k in range(n):
        draws = [100 + root @ rng.normal(size=3), 100 + np.sqrt(2) * root @ rng.normal(size=3)]
        found = combine(draws, [COVARIANCE, 2 * COVARIANCE])
        pulls[k] = (found.value - 100) / found.err
        inflated += found.inflation[0] > 1
    assert np.abs(pulls.mean(axis=0)).max() < 3 / np.sqrt(n)
    # the rare inflations make the pulls smaller by less than their rate
    assert np.abs(pulls.std(axis=0) - 1).max() < 3 / np.sqrt(2 * n) + SCATTER_PROBABILITY
    expected = n * SCATTER_PROBABILITY
    assert abs(inflated - expected) < 4 * np.sqrt(expected)


def test_what_all_share_is_not_averaged_down():
    shared = np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    values = [[100, 110, 120], [130, 113, 123]]
    alone = combine(values, [COVARIANCE, 2 * COVARIANCE])
    found = combine(values, [COVARIANCE + shared, 2 * COVARIANCE + shared], common=shared)
    # weights and chi-squared are those of what differs between the exposures; an inflation is of that alone
    for name in ("value", "exposure_weight", "chi2_dof", "scatter"):
        np.testing.assert_allclose(getattr(found, name), getattr(alone, name), rtol=1e-12)
    assert alone.inflation[0] > 1
    np.testing.assert_allclose(found.err**2, alone.err**2 + np.diag(shared), rtol=1e-12)
    np.testing.assert_allclose(found.err_formal**2, alone.err_formal**2 + np.diag(shared), rtol=1e-12)
    np.testing.assert_allclose(found.covariance[1:, 1:], (alone.covariance + shared)[1:, 1:], rtol=1e-12)
    np.testing.assert_allclose(found.exposure_err[1], np.sqrt(np.diag(2 * COVARIANCE + shared)))


def test_pulls_of_the_mean_with_an_error_that_all_share():
    rng = np.random.default_rng(8)
    n, n_dithers, area = 2000, 8, np.pi * RADIUS**2
    shared = 0.02**2 * np.outer(area, area)
    root = np.linalg.cholesky(COVARIANCE)
    pulls = np.empty((n, 3))
    for k in range(n):
        draws = 100 + rng.normal(size=(n_dithers, 3)) @ root.T + 0.02 * rng.normal() * area
        found = combine(draws, [COVARIANCE + shared] * n_dithers, common=shared)
        pulls[k] = (found.value - 100) / found.err
    assert np.abs(pulls.mean(axis=0)).max() < 3 / np.sqrt(n)
    assert np.abs(pulls.std(axis=0) - 1).max() < 3 / np.sqrt(2 * n) + SCATTER_PROBABILITY


def test_a_group_that_falls_by_no_more_than_all_share_is_not_flagged():
    nested = np.minimum.outer(np.arange(1.0, 4.0), np.arange(1.0, 4.0))
    falling = np.tile([10.0, 12.0, 10.0], (4, 1))
    assert growth_flags(falling, [nested] * 4).min() == 0
    shared = np.diag([0.0, 0.0, 1.0])
    assert growth_flags(falling, [nested + shared] * 4, shared).min() == 1


def test_only_a_background_given_once_is_common():
    image = 5000 * GaussianPSF(1.5).render(30.0, 30.0, (61, 61)) + 1.0
    mask = np.zeros(image.shape, bool)
    star = StarExposure("x", image, np.full(image.shape, 4.0), mask.astype(np.uint32), mask, 30, 30, 0, 0, 0.0656, 1.6)
    options = EEOptions(
        radii=tuple(RADIUS), background_method="constant", background_value=1.0, background_value_err=0.1
    )
    one, lost = measure_ee(star, options), failed_ee(star, options, "no star")
    area = np.pi * RADIUS**2
    np.testing.assert_allclose(common_covariance([lost, one, one]), 0.1**2 * np.outer(area, area), rtol=1e-9)
    other = measure_ee(star, replace(options, background_value=1.1))
    measured = measure_ee(star, replace(options, background_method="annulus"))
    for profiles in ([one, other], [one, measured], [measured, measured], [lost]):
        assert not common_covariance(profiles).any()


def test_bad_input():
    with pytest.raises(ParameterError, match="at least one"):
        combine([], [])
    with pytest.raises(ParameterError, match="3 radii"):
        combine([[1, 2]], [np.eye(2)])
