"""The error of the centre of mass in a window that follows the star."""

import numpy as np
import pytest
from scipy.special import ndtr

from niriss_eestep.errors import ExposureError, ParameterError
from niriss_eestep.measure.position import centre_of_mass, fit_psf
from niriss_eestep.measure.stamp import EEOptions


def gaussian(x, y, sigma, size=25):
    along = [np.diff(ndtr((np.arange(size + 1) - 0.5 - centre) / sigma)) for centre in (y, x)]
    return np.outer(*along)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("flux", [1e3, 1e5])
def test_pulls_of_the_position(flux, sigma):
    n = 1500
    rng = np.random.default_rng([int(flux), int(sigma)])
    pulls = []
    for _ in range(n):
        x, y = 12 + rng.uniform(-0.5, 0.5, 2)
        image = flux * gaussian(x, y, sigma)
        variance = image + 1.0
        exact = centre_of_mass(image, variance, 12.0, 12.0)
        noisy = centre_of_mass(image + np.sqrt(variance) * rng.standard_normal(image.shape), variance, 12.0, 12.0)
        pulls.append([(noisy[k] - exact[k]) / exact[k + 2] for k in (0, 1)])
    # a position settles to 1e-4 pix or, where the window's edges are bright, a few times that: less than the bright
    # star's error of 3e-3 pix
    assert np.abs(np.mean(pulls, axis=0)).max() < 4 / np.sqrt(n)
    assert np.abs(np.std(pulls, axis=0) - 1).max() < 4 / np.sqrt(2 * n)


def test_error_against_its_closed_form():
    image = 1e4 * gaussian(12.0, 12.0, 2.0)
    _, _, x_err, y_err = centre_of_mass(image, np.full(image.shape, 0.01), 12.0, 12.0, box=6.0)
    # the window holds the pixels at -2 ... 2 and halves of those at -3 and 3
    share = np.array([0.5, 1, 1, 1, 1, 1, 0.5])
    middle = np.array([-2.75, -2, -1, 0, 1, 2, 2.75])
    light = share[:, None] * image[9:16, 9:16] * share
    fixed = 0.1 * np.sqrt(np.sum(share**2) * np.sum((share * middle) ** 2)) / light.sum()
    # moved by d, it gains d of the pixels at 3 and loses d of those at -3, each 3 pix from the centre
    k = 3 * 2 * np.sum(2 * light[:, 0]) / light.sum()
    assert k > 0.3
    assert (x_err, y_err) == pytest.approx((fixed / (1 - k), fixed / (1 - k)), rel=1e-9)


def test_even_light_holds_no_position():
    flat = np.ones((25, 25))
    assert centre_of_mass(flat, flat, 12.0, 12.0) == (12.0, 12.0, np.inf, np.inf)


def round_star(x, y, shape, sigma=1.5):
    return gaussian(x, y, sigma, shape[0])


def test_a_model_psf_finds_position_and_flux_without_the_peak():
    image = 1e4 * gaussian(12.3, 11.8, 1.5)
    bad = image > 400
    assert bad.sum() == 8
    x, y, flux = fit_psf(np.where(bad, np.nan, image), bad, 12.8, 12.2, round_star)
    # without noise, to the tolerances of the fit: 1e-5 pix, whose effect on the flux is of second order
    assert (x, y) == pytest.approx((12.3, 11.8), abs=3e-5)
    assert flux == pytest.approx(1e4, rel=1e-4)


def test_a_model_psf_that_runs_off_is_an_error():
    image = 1e4 * gaussian(15.2, 12.0, 1.5)
    with pytest.raises(ExposureError, match="runs 2 pix off"):
        fit_psf(image, np.zeros(image.shape, dtype=bool), 12.0, 12.0, round_star)


@pytest.mark.parametrize(
    ("method", "box", "message"),
    [("centroid_com", 7, "centroid_method must be one of com, quadratic"), ("com", 4, "odd"), ("com", 1, "3 or more")],
)
def test_how_a_centroid_is_measured_is_checked(method, box, message):
    with pytest.raises(ParameterError, match=message):
        EEOptions(centroid_method=method, centroid_box=box)
