"""The average over dithers, against the textbook and against many realisations."""

from dataclasses import replace

import numpy as np
import pytest
from gaussian import GaussianPSF
from hypothesis import given, settings
from hypothesis import strategies as st

from niriss_eestep.combine.mean import (
    SCATTER_PROBABILITY,
    combine_profiles,
    common_covariance,
    extra_light,
    growth_flags,
    outlier_flags,
)
from niriss_eestep.errors import ParameterError
from niriss_eestep.measure.ee import EEOptions, failed_ee, measure_ee
from niriss_eestep.measure.stamp import StarExposure

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
    # 30 apart with an error of 2 each: chi2 = 112.5; half the difference is 15, and Student's t of one degree of
    # freedom for 95 % is tan(0.475 pi) = 12.706
    student = np.tan(0.475 * np.pi) / 1.959964
    assert found.inflation[0] == pytest.approx(np.sqrt(112.5) * student)
    assert found.err[0] == pytest.approx(15 * student)
    assert found.err_formal[0] == pytest.approx(np.sqrt(2))
    assert found.inflation[1] == 1
    np.testing.assert_allclose(found.err[1:], found.err_formal[1:])


@pytest.mark.parametrize("n_dithers", [2, 3, 4, 8])
@pytest.mark.parametrize("scatter", [0.003, 0.01, 0.05])
def test_intervals_hold_what_they_say_where_dithers_scatter(n_dithers, scatter):
    """Real scatter far beyond the errors of 1e-4: 95 % intervals hold 95 %."""
    rng, n = np.random.default_rng([9, n_dithers]), 1000
    radius, covariance = RADIUS[:1], np.array([[1e-8]])
    pulls = np.empty(n)
    for k in range(n):
        values = list(rng.normal(1.0, scatter, (n_dithers, 1)))
        found = combine_profiles(list("abcdefgh"[:n_dithers]), radius, values, [covariance] * n_dithers)
        pulls[k] = ((found.value - 1) / found.err)[0]
    # where chance makes the scatter look like noise (for two: a difference below 2.8e-4) the error is the noise's
    missed = 2.8e-4 / scatter / np.sqrt(np.pi) if n_dithers == 2 else 0.0
    assert np.mean(np.abs(pulls) < 1.96) == pytest.approx(
        0.95 - missed / 2, abs=4 * np.sqrt(0.05 * 0.95 / n) + missed / 2
    )
    if n_dithers == 8:
        # t of 7 degrees of freedom has the variance 7 / 5, its 95 % are at 2.365
        assert pulls.std() == pytest.approx(np.sqrt(7 / 5) * 1.96 / 2.365, abs=4 / np.sqrt(n))


def with_one_off(n_dithers, off, seed, scatter=0.0016):
    """Curves of growth of n dithers with noise common to all radii, the last of them off."""
    rng, radius = np.random.default_rng([12, seed]), np.array([1.0, 3.0, 5.0, 10.0])
    light = np.array([0.4, 0.8, 0.9, 0.95])
    values = [light * rng.normal(1.0, scatter) for _ in range(n_dithers)]
    values[-1] = values[-1] * (1 + off)
    covariances = [np.outer(light, light) * 0.0016**2] * n_dithers
    return radius, values, covariances, np.ones((n_dithers, 4), dtype=np.int64)


@pytest.mark.parametrize(("n_dithers", "off"), [(3, 0.03), (3, -0.1), (4, 0.05), (8, 0.05), (8, -0.03)])
def test_the_one_that_disagrees_is_left_out_of_the_mean(n_dithers, off):
    found = []
    for seed in range(100):
        radius, values, covariances, flags = with_one_off(n_dithers, off, seed)
        flags = outlier_flags(radius, np.array(values), np.array(covariances), flags)
        # 1 pix depends on the pixel phase
        assert flags[:, 0].all()
        assert flags[:-1].all()
        found.append(not flags[-1, 1:].any())
        if found[-1]:
            mean = combine_profiles(list("abcdefgh"[:n_dithers]), radius, values, covariances, flags=flags)
            assert abs(mean.value[3] / 0.95 - 1) < 5 * 0.0016 / np.sqrt(n_dithers - 1)
    # where the others differ beyond chance (1 in 20) it may be one of a scattering lot
    assert np.mean(found) > 0.95 - 4 * np.sqrt(0.05 * 0.95 / 100)


def test_several_that_disagree_are_left_out_while_they_are_the_fewer():
    radius, values, covariances, flags = with_one_off(8, 0.05, 3)
    values[:2] = [values[0] * 0.9, values[1] * 0.93]
    kept = outlier_flags(radius, np.array(values), np.array(covariances), flags)[:, 2]
    assert kept.tolist() == [0, 0, 1, 1, 1, 1, 1, 0]
    radius, values, covariances, flags = with_one_off(4, 0.05, 3)
    values[0] = values[0] * 1.05
    assert outlier_flags(radius, np.array(values), np.array(covariances), flags).all()


def with_a_spot(n_dithers, share, at, seed=0, noise=1e-4):
    """Curves of growth of a star of 1000 DN/s whose first exposure has light beside the star, each ring with noise."""
    rng, radius = np.random.default_rng([13, seed]), np.arange(1.0, 13.0)
    light = radius**2 / (radius**2 + 1)
    nested = noise**2 * np.minimum.outer(radius, radius)
    values = [1000 * (light + np.cumsum(rng.normal(0, noise, len(radius)))) for _ in range(n_dithers)]
    values[0] = values[0] * 1.01 + 1000 * share * (radius > at)
    return radius, values, np.array([1e6 * nested] * n_dithers)


@pytest.mark.parametrize("n_dithers", [2, 3, 8])
def test_light_that_one_has_and_the_others_have_not(n_dithers):
    for seed in range(50):
        radius, values, covariances = with_a_spot(n_dithers, 0.003, 5.5, seed)
        found = extra_light(radius, values, covariances)
        # it is told where the first radius that it may lie beyond says so: what is beyond 4 pix is 6 % of the light
        assert np.count_nonzero(found[0]) == 1
        assert found[0].max() == pytest.approx(0.003, abs=4 * 1e-4 * np.sqrt(2 * 6))
        assert 5 <= radius[np.argmax(found[0])] <= 6
        assert not found[1:].any()
        # noise alone, and a star brighter by 1 %, are none; nor what moves the edge by 0.02 pix
        assert not extra_light(*with_a_spot(n_dithers, 0.0, 5.5, seed)).any()
        moved = np.array(with_a_spot(n_dithers, 0.0, 5.5, seed, 1e-6)[1])
        moved[0] = np.interp(radius - 0.02, radius, moved[0])
        assert not extra_light(radius, moved, covariances * 1e-4).any()
    # a core that is known to 2 % is no light of others, whose share of the total it moves by 0.1 %
    radius, values, covariances = with_a_spot(n_dithers, 0.0, 5.5, 1)
    values[0], covariances[0] = values[0] - 30.0, covariances[0] + 20.0**2
    assert not extra_light(radius, values, covariances).any()
    # what was not measured says nothing
    values[0] = values[0] * np.nan
    assert not extra_light(radius, values, covariances)[0].any()
    assert not extra_light(radius[:1], np.ones((2, 1)), np.ones((2, 1, 1))).any()
    assert not extra_light(radius, values[:1], covariances[:1]).any()


def test_noise_and_usual_scatter_make_no_outliers():
    for scatter in (0.0016, 0.003):
        for n_dithers in (2, 3, 4, 8):
            for seed in range(100):
                given = with_one_off(n_dithers, 0.0, seed, scatter)
                assert outlier_flags(*map(np.array, given)).all()
    # of two nothing tells which is right; what is flagged already stays so
    given = with_one_off(2, 0.1, 0)
    assert outlier_flags(*map(np.array, given)).all()
    radius, values, covariances, flags = with_one_off(4, 0.0, 0)
    flags[1, 2], values[1] = 0, values[1] * np.array([1, 1, np.nan, 1])
    np.testing.assert_array_equal(outlier_flags(radius, np.array(values), np.array(covariances), flags), flags)


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

    def common(profiles):
        used = [profile for profile in profiles if not profile.failure]
        given = [(p.background.method, p.background.value, p.background.err) for p in used]
        return common_covariance(given, np.array([p.area for p in used]).reshape(-1, len(RADIUS)))

    np.testing.assert_allclose(common([lost, one, one]), 0.1**2 * np.outer(area, area), rtol=1e-9)
    other = measure_ee(star, replace(options, background_value=1.1))
    measured = measure_ee(star, replace(options, background_method="annulus"))
    for profiles in ([one, other], [one, measured], [measured, measured], [lost]):
        assert not common(profiles).any()


def test_bad_input():
    with pytest.raises(ParameterError, match="at least one"):
        combine([], [])
    with pytest.raises(ParameterError, match="3 radii"):
        combine([[1, 2]], [np.eye(2)])
