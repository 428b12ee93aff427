"""Light lost in the core: the model's word, held to the curve of growth."""

import numpy as np
import pytest

from niriss_eestep.measure.core_repair import FillScale, fill_scale, model_misfit, scaled
from niriss_eestep.measure.repair import Repair

RADIUS = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15])
NO_NOISE = np.zeros((12, 12))


def ee(radius, sigma=1.5, wing=0.2):
    return (1 - wing) * -np.expm1(-0.5 * (radius / sigma) ** 2) + wing * radius**2 / (radius**2 + 25.0)


@pytest.mark.parametrize("truth", [0.7, 1.0, 1.4])
def test_the_curve_of_growth_finds_the_lost_light(truth):
    lost = 0.3 * ee(RADIUS[0]) / ee(RADIUS[0])  # a pixel at the centre: within every radius
    fill = np.full(RADIUS.shape, 1e4 * lost / truth)
    count_rate = 1e4 * (ee(RADIUS) - lost)
    scale = fill_scale(RADIUS, count_rate, NO_NOISE, fill, ee(RADIUS), misfit=10.0)
    # nothing but the curve of growth says anything: exact data give the exact factor
    assert scale.value == pytest.approx(truth, rel=1e-4)
    assert 0 < scale.err < 0.2


def test_a_model_that_fits_is_believed():
    fill = np.full(RADIUS.shape, 3e3)
    scale = fill_scale(RADIUS, 1e4 * ee(RADIUS) - 2e3, NO_NOISE, fill, ee(RADIUS), misfit=1e-6)
    assert scale.value == pytest.approx(1.0, abs=1e-3)
    # the curve of growth wants a third less, and makes the error of what is believed a few times larger
    assert 1e-6 < scale.err < 1e-5


@pytest.mark.parametrize("off", [0.003, 0.01, 0.03])
def test_an_ee_that_is_not_the_star_s_is_in_the_error(off):
    # noise of 1e-4 of the light; the EE is wrong by a fraction that fades with the radius, as its error says
    covariance = np.minimum.outer(RADIUS, RADIUS) / 15
    fill = np.full(RADIUS.shape, 3e3)
    wrong = ee(RADIUS) * (1 - off * np.exp(-RADIUS / 4))
    count_rate, err = 1e4 * ee(RADIUS) - fill, ee(RADIUS) - wrong
    scale = fill_scale(RADIUS, count_rate, covariance, fill, wrong, 2.0, err)
    assert abs(scale.value - 1) < 3 * scale.err


def test_an_ee_of_another_shape_makes_the_error_larger():
    covariance = np.minimum.outer(RADIUS, RADIUS) / 15
    fill = np.full(RADIUS.shape, 3e3)
    count_rate = 1e4 * ee(RADIUS) - fill
    right, wrong = (
        fill_scale(RADIUS, count_rate, covariance, fill, ee(RADIUS) * (1 + off * np.cos(RADIUS)), 2.0)
        for off in (0.0, 0.03)
    )
    assert right.value == pytest.approx(1.0)
    assert abs(wrong.value - 1) < 3 * wrong.err
    assert wrong.err > 3 * right.err


def test_with_too_few_radii_the_model_stands():
    scale = fill_scale(RADIUS[:3], np.full(3, np.nan), np.zeros((3, 3)), np.ones(3), np.ones(3), 0.1)
    assert (scale.value, scale.err, scale.slope.tolist()) == (1.0, 0.1, [0.0, 0.0, 0.0])


@pytest.mark.parametrize("noise", [10.0, 300.0])
def test_the_factor_follows_the_noise_of_the_curve_of_growth(noise):
    n = 4000
    rng = np.random.default_rng(8)
    fill = np.full(RADIUS.shape, 3e3)
    # each ring between two radii has its own noise, which every aperture around it shares
    ring = noise * np.sqrt(np.diff(RADIUS**2, prepend=0.0) / 9)
    covariance = np.array([[np.sum(ring[: min(i, j) + 1] ** 2) for j in range(12)] for i in range(12)])
    exact = 1e4 * ee(RADIUS) - fill
    slope = fill_scale(RADIUS, exact, covariance, fill, ee(RADIUS), misfit=0.3).slope
    noisy = exact + np.cumsum(ring * rng.standard_normal((n, 12)), axis=1)
    values = np.array([fill_scale(RADIUS, c, covariance, fill, ee(RADIUS), misfit=0.3).value for c in noisy])
    err = np.sqrt(slope @ covariance @ slope)
    # noise does not bias the factor; four sampling errors
    assert np.mean(values) == pytest.approx(1.0, abs=4 * err / np.sqrt(n))
    assert np.std(values) == pytest.approx(err, rel=4 / np.sqrt(2 * n))
    # what the curve of growth cannot say for noise is left to the model
    assert err < 0.3


def test_a_scaled_fill_depends_on_what_the_factor_depends_on():
    # the last two of five pixels are repaired from the first; one aperture holds all but the fourth
    weights = np.array([[[2.0, 0, 0, 0, 0]], [[3.0, 0, 0, 0, 0]]])
    repair = Repair(np.array([3, 4]), np.array([21.0, 31.0]), weights, np.array([9.0, 9.0]), np.zeros(2))

    def reach(repair):
        return np.array([[1.0, 1.0, 1.0, 0.0, 0.0]]) + repair.weights[1]

    found = scaled(repair, 1.0, FillScale(0.5, 0.1, np.array([0.01])), reach)
    assert found.value.tolist() == [11.0, 16.0]
    # by hand: half of the fill's own weight, and the light times what the aperture's count rate does to the factor
    np.testing.assert_allclose(found.weights[0, 0], [1.0 + 20 * 0.01 * 2.5, 0.2, 0.2, 0, 0])
    np.testing.assert_allclose(found.weights[1, 0], [1.5 + 30 * 0.01 * 2.5, 0.3, 0.3, 0, 0])
    # both err together
    np.testing.assert_allclose(found.common_err, [2.0, 3.0])
    assert found.variance.tolist() == [0.0, 0.0]


def test_misfit_of_a_model():
    light = np.outer([0.1, 0.6, 0.3], [0.2, 0.5, 0.3])
    use, quiet = np.ones((3, 3), dtype=bool), np.zeros((3, 3))
    assert model_misfit(7 * light, quiet, use, light, 0.3) == pytest.approx(0, abs=1e-12)
    image = 7 * light
    image[1, 1] *= 1.1
    # by hand: best scale, then residuals over the fit
    scale = np.sum(image * light) / np.sum(light**2)
    by_hand = np.sqrt(np.sum((image - scale * light) ** 2) / np.sum((scale * light) ** 2))
    assert model_misfit(image, quiet, use, light, 0.3) == pytest.approx(by_hand)
    assert model_misfit(image, quiet, use & False, light, 0.3) == 1.0
    assert model_misfit(0 * image, quiet, use, light, 0.3) == 1.0


def test_misfit_is_that_of_pixels_about_as_bright():
    light = np.array([[0.4, 0.4, 0.02, 0.02, 0.02]])
    image = light * [1.0, 1.0, 1.5, 0.5, 1.5]
    use, quiet = np.ones((1, 5), dtype=bool), np.zeros((1, 5))
    # twenty times fainter counts 1/400
    assert model_misfit(image, quiet, use, light, 0.4) == pytest.approx(0.5 * np.sqrt(3 / 802), rel=0.05)
    assert model_misfit(image, quiet, use, light, 0.02) == pytest.approx(0.5, rel=0.01)


def test_noise_is_no_misfit():
    rng = np.random.default_rng(4)
    light = np.outer(np.hanning(7)[1:-1], np.hanning(7)[1:-1])
    use, variance = np.ones(light.shape, dtype=bool), 0.02**2 + 0.01 * light
    image = light * (1 + 0.1 * (-1.0) ** np.arange(25).reshape(5, 5))
    square = [
        model_misfit(image + np.sqrt(variance) * rng.standard_normal(light.shape), variance, use, light, 0.5) ** 2
        for _ in range(2000)
    ]
    quiet = model_misfit(image, 0 * variance, use, light, 0.5)
    # the noise, 0.1 to 0.2 of the light, would double it
    assert np.mean(square) == pytest.approx(quiet**2, rel=0.15)


@pytest.mark.parametrize("n_radii", [3, 6])
def test_an_error_that_honours_the_misfit_is_the_scatter_of_the_factor(n_radii):
    """All noise ten times what is claimed, the model's too: the claimed variance becomes that of the factor.

    There are n radii and the model's own word, and two unknowns: n - 1 degrees of freedom.
    """
    rng, n, k, misfit = np.random.default_rng(12), 4000, 10.0, 0.05
    radius = RADIUS[2 : 2 + n_radii]
    fill, noise = np.full(n_radii, 3e3), np.diag(np.full(n_radii, 5.0**2))
    square, claimed = np.empty((2, n))
    # what the pixel phase may do to the apertures is part of what is claimed
    phase = (1e4 * (0.02 * np.abs(np.gradient(ee(radius), radius)) + 2e-4)) ** 2
    for i in range(n):
        truth = 1 + k * misfit * rng.standard_normal()
        rate = 1e4 * ee(radius) - truth * fill + k * np.sqrt(25.0 + phase) * rng.standard_normal(n_radii)
        scale = fill_scale(radius, rate, noise, fill, ee(radius), misfit)
        square[i] = (scale.value - truth) ** 2
        claimed[i] = scale.err**2 + scale.slope @ noise @ scale.slope
    # where chi2 happens to be small the formal error stands: a little more, never less
    assert np.mean(claimed) == pytest.approx(np.mean(square), rel=0.1)
