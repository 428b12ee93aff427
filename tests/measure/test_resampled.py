"""An image of other pixels: the same light gives the same profile and the same errors."""

import numpy as np
import pytest
from gaussian import GaussianPSF

from niriss_eestep.errors import ParameterError
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.measure.profile import image_options, native_profile
from niriss_eestep.measure.sb import SBOptions, measure_sb
from niriss_eestep.measure.stamp import Stamp

SIZE, RATE, SKY, VARIANCE = 71, 1e5, 2.0, 0.5
SCALE = 0.5


def stamps():
    """A star on detector pixels, and on pixels of half their side; the same variance per area."""
    found = []
    for split in (1, 2):
        size = SIZE * split
        centre = (35 + 0.5) * split - 0.5
        shape = (size, size)
        image = RATE * GaussianPSF(2.5 * split).render(centre, centre, shape) + SKY / split**2
        layers = np.full(shape, VARIANCE / split**2), np.zeros(shape, np.uint32), np.zeros(shape, bool)
        found.append(Stamp("x", image, *layers, centre, centre, 0, 0, 0.0656 / split, 1.61))
    return found


def ee(radius, scale):
    """EE of the Gaussian as apertures see it: a pixel integrates, and an aperture spreads its value over it."""
    return -np.expm1(-0.5 * radius**2 / (2.5**2 + 2 * scale**2 / 12))


def measured(measure, options):
    native, fine = stamps()
    in_image = measure(fine, image_options(options, SCALE))
    return measure(native, options), native_profile(in_image, options, SCALE)


def test_surface_brightness_and_its_covariance_are_per_detector_pixel():
    native, fine = measured(measure_sb, SBOptions())
    np.testing.assert_array_equal(fine.radius, native.radius)
    light = RATE * (ee(7.0, SCALE) - ee(3.0, SCALE))
    assert fine.surface_brightness[0] == pytest.approx(light / (np.pi * (7**2 - 3**2)), rel=5e-3)
    # each annulus holds the same noise; its edges, where pixels are cut, hold a few per cent less of it in large pixels
    errs = [profile.surface_brightness_err[:4] for profile in (fine, native)]  # those beyond share pixels with the sky
    np.testing.assert_allclose(*errs, rtol=0.04)
    assert fine.background.value == pytest.approx(native.background.value, rel=1e-3)
    assert fine.background.err == pytest.approx(native.background.err, rel=0.05)
    assert fine.pixel_scale == pytest.approx(native.pixel_scale)


@pytest.mark.parametrize("method", ["annulus", "constant"])
def test_encircled_energy_and_its_covariance_are_the_same_light_s(method):
    options = EEOptions(background_method=method, background_value=SKY, background_value_err=0.1)
    native, fine = measured(measure_ee, options)
    np.testing.assert_allclose(native.count_rate[2:], RATE * ee(native.radius[2:], 1.0), rtol=4e-3)
    np.testing.assert_allclose(fine.count_rate[2:], RATE * ee(fine.radius[2:], SCALE), rtol=4e-3)
    np.testing.assert_allclose(fine.area, native.area)
    # at 1 pix the cut pixels are most of the aperture
    np.testing.assert_allclose(fine.covariance[2:, 2:], native.covariance[2:, 2:], rtol=0.1)
    assert fine.background.err == pytest.approx(native.background.err, rel=0.05)
    if method == "constant":
        # 0.1 DN/s per detector pixel over 15 pix, beside which all other noise is small
        assert fine.count_rate_err[-1] == pytest.approx(0.1 * np.pi * 15**2, rel=0.05)


@pytest.mark.parametrize(("measure", "options"), [(measure_ee, EEOptions), (measure_sb, SBOptions)])
def test_a_flat_field_s_error_is_correlated_over_the_same_length(measure, options):
    native, fine = measured(measure, options(flat_err=0.02, flat_err_scale=3.0))
    # pixels beside the core differ by what a pixel of twice the side averages
    np.testing.assert_allclose(fine.err[2:4], native.err[2:4], rtol=0.05)
    np.testing.assert_allclose(fine.err[:2], native.err[:2], rtol=0.12)


def test_options_of_the_model_psf_are_rejected():
    for options in (EEOptions(bad_pixel_method="psf"),):
        with pytest.raises(ParameterError, match="the model PSF has detector pixels"):
            image_options(options, SCALE)
