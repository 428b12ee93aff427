"""Correlated noise, flat sky, and the flat field's errors: closed forms and small Monte Carlo."""

import numpy as np
import pytest

from niriss_eestep.instrument import IPC_KERNEL
from niriss_eestep.measure.background import Background
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.measure.geometry import distance_grid
from niriss_eestep.measure.noise import (
    SHAPES,
    corrected,
    correlated_covariance,
    estimate_correlation,
    fit_sky,
    flat_covariance,
    seen_through,
    shapes_within,
    sky_pixels,
)
from niriss_eestep.measure.stamp import Stamp
from niriss_eestep.measure.star_model import PSFModel
from niriss_eestep.reference import load_psf_images
from niriss_eestep.simulate.effects import line_noise

N = 64
SHAPE = (N, N)


def sums_of_circles(radii=(3.0, 8.0)):
    """Sums over circles, less the mean of an annulus."""
    distance = distance_grid(SHAPE, 31.3, 31.8)
    annulus = (distance > 20) & (distance < 25)
    inside = np.array([distance <= r for r in radii], dtype=float)
    return inside - inside.sum(axis=(1, 2))[:, None, None] * annulus / annulus.sum()


def sky_of(residual, use, **changes):
    """A sky without noise in common."""
    return Background(0.0, residual=residual, use=use, correlation=np.zeros(len(SHAPES)), **changes)


def test_covariance_of_sums_is_the_sum_over_all_pairs_of_pixels():
    rng = np.random.default_rng(1)
    correlation = rng.uniform(size=len(SHAPES))
    reach = rng.normal(size=(2, 6, 7))
    y, x = (axis.ravel() for axis in np.indices((6, 7)))
    between = np.einsum("k,kpq->pq", correlation, shapes_within(6, 7)[:, *(np.abs(n[:, None] - n) for n in (y, x))])
    flat = reach.reshape(2, -1)
    np.testing.assert_allclose(correlated_covariance(reach, correlation), flat @ between @ flat.T, rtol=1e-10)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_errors_of_sums_follow_line_noise(share):
    reach, use = sums_of_circles(), distance_grid(SHAPE, 31.3, 31.8) > 20
    variance, drawn, claimed = np.ones(SHAPE), [], []
    white = np.einsum("iyx,iyx->i", reach, reach)
    for seed in range(150):
        rng = np.random.default_rng([7, seed])
        image = np.sqrt(1 - share**2) * rng.normal(size=SHAPE) + share * line_noise(SHAPE, rng)
        drawn.append(np.einsum("iyx,yx->i", reach, image))
        more = np.diagonal(correlated_covariance(reach, estimate_correlation(image, variance, use)))
        claimed.append(np.sqrt(white + more))
    pulls = np.array(drawn) / np.array(claimed)
    # 150 draws: 0.058; without the correlation the larger sum's are 1.5 and 2.5
    assert np.all(np.abs(pulls.std(axis=0) - 1) < 0.2)
    # white noise stays white: errors not more than some per cent larger
    if share == 0:
        assert np.all(np.median(claimed, axis=0) < 1.05 * np.sqrt(white))


def test_offsets_of_columns_are_found_with_their_variance():
    found = []
    for seed in range(20):
        rng = np.random.default_rng([8, seed])
        image = rng.normal(size=SHAPE) + rng.normal(scale=0.5, size=N)
        found.append(estimate_correlation(image, np.ones(SHAPE), np.ones(SHAPE, dtype=bool)))
    # of 64 columns the variance 0.25 is known to 18 %, of 20 images to 4 %
    assert np.mean(found, axis=0)[:3].sum() == pytest.approx(0.25, rel=0.15)
    assert np.mean(found, axis=0)[3:6].sum() < 0.02


def test_variance_beyond_the_stated_one_is_found():
    image = np.random.default_rng(9).normal(scale=1.2, size=SHAPE)
    found = estimate_correlation(image, np.ones(SHAPE), np.ones(SHAPE, dtype=bool))
    # 4,096 pixels: 2.2 % of 1.44
    assert found[SHAPES.index("excess")] == pytest.approx(0.44, abs=0.1)


def test_noise_of_lines_is_no_shape_of_the_sky():
    psf, shape, errors, needed = load_psf_images()["F200W"], (71, 71), [], 0
    light, bad = 200 * psf.render(35.2, 34.9, shape), np.zeros((71, 71), dtype=bool)
    for seed in range(60):
        rng = np.random.default_rng([21, seed])
        noise = np.sqrt(0.84) * rng.normal(size=shape) + 0.4 * line_noise((128, 128), rng)[20:91, 30:101]
        stamp = Stamp("", light + noise, np.ones(shape), bad.astype("u4"), bad, 35.0, 35.0, 0, 0, 0.0656, 1.61)
        found = measure_ee(stamp, EEOptions(radii=(5, 10)), PSFModel(psf.render))
        errors.append(found.count_rate_err)
        needed += not found.background.is_flat
    # 3 % by chance: 1.8, and 6 only once in a hundred times; with the errors of white noise all have one
    assert needed < 6
    # to 9 % of it: what one image tells of its noise would scatter by a fifth more without the waves that are as long
    # as the sky's shape
    assert np.std(np.log(errors), axis=0)[1] < 0.2


def test_too_few_pixels_tell_nothing():
    use = np.zeros(SHAPE, dtype=bool)
    use[0, :50] = True
    found = estimate_correlation(np.ones(SHAPE), np.ones(SHAPE), use)
    assert not found.any()
    assert not correlated_covariance(sums_of_circles(), found).any()


def test_destriping_removes_offsets_of_columns_and_leaves_constant_sums():
    rng = np.random.default_rng(10)
    offsets = np.broadcast_to(rng.normal(size=N), SHAPE)
    reach, use = sums_of_circles(), distance_grid(SHAPE, 31.3, 31.8) > 12
    after, change, _ = corrected(sky_of(offsets, use, destripe="columns"), reach)
    np.testing.assert_allclose(np.einsum("iyx,yx->i", reach, offsets) + change, 0, atol=1e-9)
    # the sums are linear: what is added is what the new weights say of any noise
    np.testing.assert_allclose(np.einsum("iyx,yx->i", after - reach, offsets), change, atol=1e-9)


def test_a_photon_seen_in_the_neighbours_counts_by_the_kernel():
    reach = np.zeros((1, 5, 5))
    reach[0, 2, 2] = 1.0
    # the pixel read at (2, 2) holds what its neighbours' charge shows in it: from above by the kernel's lower row
    np.testing.assert_allclose(seen_through(reach)[0, 1:4, 1:4], np.array(IPC_KERNEL)[1:4, 1:4][::-1, ::-1])
    # a sum over all pixels sees each photon whole
    assert seen_through(np.ones((1, 9, 9)))[0, 4, 4] == pytest.approx(np.sum(IPC_KERNEL), abs=3e-4)


def test_errors_of_a_flat_that_is_correlated():
    rng = np.random.default_rng(11)
    reach, sigma = rng.normal(size=(2, 6, 7)), rng.uniform(1, 2, size=(6, 7))
    y, x = (axis.ravel() for axis in np.indices((6, 7)))
    apart = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    each = (reach * sigma).reshape(2, -1)
    for scale, between in ((0.0, np.eye(42)), (1.5, np.exp(-apart / (2 * 1.5**2)))):
        np.testing.assert_allclose(flat_covariance(reach, sigma, scale), each @ between @ each.T, rtol=1e-6)


def test_hits_and_the_wing_are_not_sky():
    image, light = np.random.default_rng(12).normal(size=SHAPE), np.zeros(SHAPE)
    image[20, 20], light[40, 40], bad = 30.0, 3.0, np.zeros(SHAPE, dtype=bool)
    bad[50, 50] = True
    expected = np.ones(SHAPE, dtype=bool)
    expected[19:22, 19:22] = expected[40, 40] = expected[50, 50] = False
    np.testing.assert_array_equal(sky_pixels(image, np.ones(SHAPE), bad, light), expected)


@pytest.mark.parametrize("curvature", [0.0, 2e-3])
def test_curvature_of_the_sky_is_found_where_it_is(curvature):
    distance, everywhere, needed, pulls = distance_grid(SHAPE, 31.3, 31.8), np.ones(SHAPE, dtype=bool), [], []
    for seed in range(60):
        image = np.random.default_rng([13, seed]).normal(size=SHAPE) + curvature * distance**2
        around = sky_of(image, everywhere)
        around = fit_sky(around, np.ones(SHAPE), np.zeros(SHAPE), (31.3, 31.8), 20.0)
        needed.append(not around.is_flat)
        pulls.append((around.curvature - curvature) / around.curvature_err)
    assert np.std(pulls) == pytest.approx(1, abs=0.35)
    assert abs(np.mean(pulls)) < 4 / np.sqrt(60)
    # two tests by a chance of 1.2 % each
    assert sum(needed) == 60 if curvature else sum(needed) < 7


def test_a_wing_that_the_model_has_a_fifth_too_faint_is_an_error_of_the_curvature():
    distance, everywhere = distance_grid(SHAPE, 31.3, 31.8), np.ones(SHAPE, dtype=bool)
    light, nothing = (20 / np.maximum(distance, 5)) ** 3, np.zeros(SHAPE)
    image = np.random.default_rng(14).normal(size=SHAPE) + 0.2 * light
    around = sky_of(image, everywhere)
    found, sure = (fit_sky(around, np.ones(SHAPE), model, (31.3, 31.8), 20.0) for model in (light, nothing))
    assert abs(found.curvature) < 1.5 * found.curvature_err
    # more, were the model known to be right: what the wing has for a curvature is one standard error
    assert abs(sure.curvature) > 2 * sure.curvature_err
    of_wing = fit_sky(sky_of(0.2 * light, everywhere), np.ones(SHAPE), nothing, (31.3, 31.8), 20.0)
    assert found.curvature_err**2 == pytest.approx(sure.curvature_err**2 + of_wing.curvature**2, rel=1e-6)


def test_a_sky_that_is_not_flat_leaves_nothing_in_sums():
    v, u = np.indices(SHAPE) - np.array([31.8, 31.3])[:, None, None]
    image, reach = 0.03 * u - 0.02 * v + 2e-3 * (u**2 + v**2) + 1e-3 * u * v, sums_of_circles()
    given, variance = sky_of(image, np.hypot(u, v) > 12), np.full(SHAPE, 0.01)
    around = fit_sky(given, variance, np.zeros(SHAPE), (31.3, 31.8), 15.0)
    after, change, slope = corrected(around, reach)
    light = np.einsum("iyx,yx->i", reach, image)
    # r^2 is half the radius squared in a circle, and 512 in the annulus, on the average
    expected = [2e-3 * np.pi * r**2 * (r**2 / 2 - 512) for r in (3.0, 8.0)]
    np.testing.assert_allclose(light, expected, rtol=0.05)
    assert not around.is_flat
    assert around.curvature == pytest.approx(2e-3)
    np.testing.assert_allclose(light + change, 0, atol=1e-9)
    # what is left of any image is what the new weights say, and no shape of the sky is seen by them
    np.testing.assert_allclose(np.einsum("iyx,yx->i", after, image), 0, atol=1e-9)
    np.testing.assert_allclose(slope @ [0, 0, 0, 2e-3 * 25**2, 0, 0], expected, rtol=0.05)
    # of a star's wing of that shape a fifth may be wrong
    assert fit_sky(given, variance, image, (31.3, 31.8), 15.0).wing[3] == pytest.approx(0.2 * 2e-3 * 25**2)
