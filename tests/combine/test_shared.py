"""What the flat field's error is worth when dithers share pixels."""

from dataclasses import replace

import numpy as np
import pytest
from gaussian import GaussianPSF

from niriss_eestep.combine.mean import (
    REPAIR_SHARE,
    REPAIRS,
    combine_profiles,
    common_covariance,
    repair_covariance,
    with_shared_errors,
)
from niriss_eestep.instrument import GAIN
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.measure.star_model import PSFModel
from niriss_eestep.simulate.detector import Readout
from niriss_eestep.simulate.scene import Scene, Star, simulate_image
from niriss_eestep.validate.accuracy import star_exposure_of


def group(corners, scale=0.0, second=1.0):
    """Mean of two exposures of a bright star without noise, its array at ``corners`` of the detector."""
    readout = Readout(1.0, 50, 1000, gain=GAIN)
    scene = Scene((64, 64), Star(31.3, 31.8, 1e5), readout)
    image = simulate_image(scene, GaussianPSF(1.5), np.random.default_rng(1), noise=False)
    options = EEOptions(flat_err=0.01, flat_err_scale=scale)
    profiles = [measure_ee(replace(star_exposure_of(image, scene), name=name), options) for name in "ab"]
    values, covariances = [profiles[0].count_rate, second * profiles[1].count_rate], [p.covariance for p in profiles]
    radius, common = profiles[0].radius, np.zeros_like(covariances[0])  # each has a background of its own
    combined = combine_profiles(["a", "b"], radius, values, covariances, common=common)
    exposures = [
        {name: getattr(profile, name) for name in ("stamp_flat_err", "stamp_x0", "stamp_y0", "flat_err_scale")}
        | {"x_center": profile.centroid.x, "y_center": profile.centroid.y, "first_pixel": (y, x)}
        for profile, (x, y) in zip(profiles, corners, strict=True)
    ]
    return profiles[0], combined, with_shared_errors(combined, covariances, common, exposures)


def test_errors_of_the_flat_stay_on_the_same_pixels_and_halve_on_others():
    one, before, same = group([(0, 0), (0, 0)])
    # the pixels of the star: variance 0.01^2 times the sum of squares of its light
    light = one.stamp_flat_err.astype(float)
    expected = np.nansum(light**2)
    at_10 = list(one.radius).index(10)
    assert same.flat_covariance[at_10, at_10] == pytest.approx(expected, rel=0.01)
    _, _, apart = group([(0, 0), (100, 0)])
    assert apart.flat_covariance[at_10, at_10] == pytest.approx(expected / 2, rel=0.01)
    # what the exposures' own covariance holds averages down; the difference is added
    np.testing.assert_allclose(apart.covariance, before.covariance, rtol=1e-6)
    gained = (same.err_formal**2 - before.err_formal**2)[at_10]
    assert gained == pytest.approx(expected / 2, rel=0.01)


def test_the_error_of_one_background_for_all_is_the_sky_s_and_does_not_average_down():
    rates, radius = [np.array([100.0, 120.0]), np.array([101.0, 122.0])], np.array([5.0, 10.0])
    areas = np.tile(np.pi * radius**2, (2, 1))
    given = common_covariance([("constant", 0.5, 0.01)] * 2, areas)
    np.testing.assert_allclose(given, 1e-4 * np.outer(areas[0], areas[0]))
    covariances = [np.diag([4.0, 9.0]) + given, np.diag([2.0, 3.0]) + given]
    combined = combine_profiles(["a", "b"], radius, rates, covariances, common=given)
    found = with_shared_errors(combined, covariances, given, [{"sky_covariance": given}] * 2)
    np.testing.assert_allclose(found.sky_covariance, given, rtol=1e-12)
    # each with a sky of its own: their mean's error by the weights
    zero, own = np.zeros_like(given), [np.diag([1.0, 2.0]), np.diag([0.5, 1.0])]
    combined = combine_profiles(["a", "b"], radius, rates, covariances)
    found = with_shared_errors(combined, covariances, zero, [{"sky_covariance": sky} for sky in own])
    expected = sum(w**2 * np.diagonal(sky) for w, sky in zip(combined.exposure_weight, own, strict=True))
    np.testing.assert_allclose(np.diagonal(found.sky_covariance), expected, rtol=1e-12)


def test_a_flat_that_both_share_does_not_hide_that_they_differ():
    # 0.5 % apart, 0.13 % of noise each; the flat's error of 0.3 % is that of the same pixels
    one, before, same = group([(0, 0), (0, 0)], second=1.005)
    at_10 = list(one.radius).index(10)
    assert before.inflation[at_10] == 1
    assert same.inflation[at_10] > 1
    half = 0.0025 * one.count_rate[at_10]
    expected = (half * 12.706 / 1.96) ** 2 + same.flat_covariance[at_10, at_10]
    assert same.covariance[at_10, at_10] == pytest.approx(expected, rel=0.02)
    # equal ones have the formal error
    assert group([(0, 0), (0, 0)])[2].inflation[at_10] == 1


def test_a_move_by_less_than_the_scale_shares_the_error():
    _, _, same = group([(0, 0), (0, 0)], scale=2.0)
    _, _, near = group([(0, 0), (1, 0)], scale=2.0)
    _, _, apart = group([(0, 0), (100, 0)], scale=2.0)
    variances = [found.flat_covariance[9, 9] for found in (same, near, apart)]
    # Gaussian light of sigma 1.5 (and a pixel): exp(-1 / (2 (scale^2 + 2 sigma^2))) of the shared half is left
    left = np.exp(-1 / (2 * (2.0**2 + 2 * (1.5**2 + 1 / 12))))
    assert variances[2] == pytest.approx(variances[0] / 2, rel=1e-6)
    assert variances[1] == pytest.approx(variances[0] * (1 + left) / 2, rel=0.01)


def test_repairs_of_the_same_pixels_of_a_star_err_together():
    radius, rates, err = np.array([1.0, 5.0]), [np.array([80.0, 100.0]), np.array([81.0, 102.0])], np.array([1.0, 3.0])
    own = np.outer(err, err) + np.diag([0.5, 0.7])

    def mean(x, y):
        """Of two exposures: one's repaired pixel at (0, 0), the other's elsewhere; two more are faint."""
        repairs = [[err, np.array([0.0, 4.0]), np.zeros(2), np.array([50.0, 1e-3])] for _ in "ab"]
        repairs[1][1:3] = np.array([x, 4.0]), np.array([y, 0.0])
        combined = combine_profiles(["a", "b"], radius, rates, [own, own])
        exposures = [dict(zip(REPAIRS, repair, strict=True)) for repair in repairs]
        return combined, with_shared_errors(combined, [own, own], np.zeros((2, 2)), exposures)

    before, same = mean(0.0, 0.0)
    # half of the error of either is that of both
    np.testing.assert_allclose(same.covariance, own / 2 + REPAIR_SHARE * np.outer(err, err) / 2, rtol=1e-6)
    np.testing.assert_allclose(same.err_formal, same.err)
    # what exposures share is not in what each has for itself
    np.testing.assert_allclose(same.parts()[3], REPAIR_SHARE * np.outer(err, err), rtol=1e-6)
    np.testing.assert_allclose(before.parts()[3], 0.0, atol=1e-12)
    np.testing.assert_allclose(mean(2.0, 0.0)[1].covariance, before.covariance, rtol=1e-6)
    assert before.err[1] < mean(0.3, -0.2)[1].err[1] < same.err[1]


def test_repairs_common_error_grows_with_the_scatter_as_the_others_do():
    radius, err = np.array([1.0, 5.0]), np.array([1.0, 3.0])
    own, repair = np.outer(err, err) + np.diag([0.5, 0.7]), [err, np.zeros(1), np.zeros(1), np.ones(1)]
    rates = [np.array([80.0, 100.0]), np.array([90.0, 130.0])]
    before = combine_profiles(["a", "b"], radius, rates, [own, own])
    found = with_shared_errors(before, [own, own], np.zeros((2, 2)), [dict(zip(REPAIRS, repair, strict=True))] * 2)
    assert (found.inflation > 2).all()
    between = REPAIR_SHARE * np.outer(err, err) / 2
    added = between * np.outer(found.inflation, found.inflation)
    np.testing.assert_allclose(found.covariance - before.covariance, added, rtol=1e-9)
    np.testing.assert_allclose(found.err_formal**2, np.diagonal(own) / 2 + np.diagonal(between), rtol=1e-9)


def test_repairs_of_one_exposure_of_a_group_are_shared_with_none():
    weight = np.full((3, 2), 1 / 3)
    one = [np.array([1.0, 2.0]), np.zeros(1), np.zeros(1), np.array([5.0])]
    assert not repair_covariance(weight, [one, [None] * 4, [None] * 4]).any()
    both = repair_covariance(weight, [one, [None] * 4, one])
    np.testing.assert_allclose(both, REPAIR_SHARE * 2 / 9 * np.outer(one[0], one[0]))


def test_what_a_repair_may_share_is_told():
    readout = Readout(1.0, 50, 1000, gain=GAIN)
    scene = Scene((64, 64), Star(31.3, 31.8, 1e5), readout)
    image = simulate_image(scene, GaussianPSF(1.5), np.random.default_rng(1), noise=False)
    exposure = star_exposure_of(image, scene)
    exposure = replace(exposure, image=exposure.image + 500.0)  # of the sky
    bad = np.zeros(exposure.bad.shape, dtype=bool)
    bad[32 - exposure.y_origin, [31 - exposure.x_origin, 44 - exposure.x_origin]] = True
    psf = PSFModel(GaussianPSF(1.5).render)
    profile = measure_ee(replace(exposure, bad=bad), EEOptions(), psf)
    # the peak's value is the PSF's; one in the wing is its neighbours'
    star = profile.centroid
    np.testing.assert_allclose([profile.repair_x, profile.repair_y], [[31 - star.x], [32 - star.y]], atol=1e-9)
    lost = exposure.image[32 - exposure.y_origin, 31 - exposure.x_origin] - profile.background.value
    np.testing.assert_allclose(profile.repair_light, lost, rtol=0.01)
    assert 0 < profile.repair_err[9] <= profile.count_rate_err[9]
    assert measure_ee(exposure, EEOptions(), psf).repair_err is None
