"""The measurement for a user with arrays, against photutils and the analytic star."""

import doctest
import tracemalloc

import numpy as np
import pytest
from astropy import units as u
from gaussian import GaussianPSF
from photutils import profiles

from niriss_eestep import CurveOfGrowth
from niriss_eestep.errors import ParameterError
from niriss_eestep.measure import curve_of_growth

SHAPE, RADII = (61, 61), [2, 4, 6, 9, 12]
STAR = 1e4 * GaussianPSF(2.0).render(30.3, 31.2, SHAPE)


def test_equal_to_photutils():
    rng = np.random.default_rng(1)
    error = rng.uniform(0.5, 1.5, SHAPE)
    data = STAR + 3.0 + error * rng.normal(size=SHAPE)
    theirs = profiles.CurveOfGrowth(data, (30.3, 31.2), RADII, error=error)
    for ours in (
        CurveOfGrowth(data, (30.3, 31.2), RADII, error=error),
        CurveOfGrowth(data, (30.3, 31.2), RADII, variance=error**2),
    ):
        np.testing.assert_allclose(ours.profile, theirs.profile, rtol=1e-10)
        np.testing.assert_allclose(ours.area, theirs.area, rtol=1e-10)
        # photutils takes w var for a cut pixel's share, and w^2 var is its variance: less, by the cut pixels' part
        assert np.all(ours.profile_error <= theirs.profile_error)
        assert np.all(ours.profile_error[2:] > 0.93 * theirs.profile_error[2:])


def test_pulls_with_a_sky_and_bad_pixels():
    """Mean 0 and standard deviation 1 of the profile's errors, for NaN, a mask and flags alike."""
    rng, n = np.random.default_rng(2), 300
    bad = np.zeros(SHAPE, dtype=bool)
    bad[[38, 24, 31], [30, 35, 22]] = True
    truth = CurveOfGrowth(STAR, (30.3, 31.2), RADII, sky=(15, 20)).profile
    pulls = []
    for k in range(n):
        data = STAR + 3.0 + rng.normal(size=SHAPE)
        mask = {0: None, 1: bad, 2: bad.astype(np.uint32) | 4}[k % 3]
        data[bad] = np.nan if mask is None else 1e5
        found = CurveOfGrowth(data, (30.3, 31.2), RADII, error=np.ones(SHAPE), mask=mask, sky=(15, 20))
        pulls.append((found.profile - truth) / found.profile_error)
    np.testing.assert_array_less(np.abs(np.mean(pulls, axis=0)), 3.5 / np.sqrt(n))
    np.testing.assert_allclose(np.std(pulls, axis=0), 1.0, atol=3.5 / np.sqrt(2 * n))


def test_what_cannot_be_measured_is_nan():
    data = STAR.copy()
    data[33, 30] = np.nan
    found = CurveOfGrowth(data, (30.3, 31.2), [1, 3, 40])
    # 1 pix does not reach the bad pixel of the core, 3 does, 40 leaves the image
    assert np.isfinite(found.profile).tolist() == [True, False, False]
    assert np.isnan(found.profile_error).all()
    with pytest.raises(ParameterError, match="not both"):
        CurveOfGrowth(data, (30, 31), [1, 3], error=data, variance=data)
    with pytest.raises(ParameterError, match="error must have the shape"):
        CurveOfGrowth(data, (30, 31), [1, 3], error=np.ones((3, 3)))


def test_units_and_masked_arrays():
    """Units are converted and kept; what a masked array hides is bad, in data and error alike."""
    hidden = np.zeros(SHAPE, dtype=bool)
    hidden[38, 36] = True
    data, error = np.where(hidden, 1e5, STAR + 3.0), np.full(SHAPE, 0.1)
    plain = CurveOfGrowth(data, (30.3, 31.2), RADII, error=error, mask=hidden, sky=(15, 20))
    found = CurveOfGrowth(data * u.mJy, (30.3, 31.2), RADII, error=error * 1e3 * u.uJy, mask=hidden, sky=(15, 20))
    assert found.profile.unit == found.profile_error.unit == found.to_table()["profile"].unit == u.mJy
    np.testing.assert_allclose(found.profile.value, plain.profile, rtol=1e-13)
    np.testing.assert_allclose(found.covariance.to_value(u.mJy**2), plain.covariance, rtol=1e-12)
    np.testing.assert_allclose(found.background.to_value(u.uJy), 1e3 * plain.background, rtol=1e-13)
    found = CurveOfGrowth(data * u.mJy, (30.3, 31.2), RADII, variance=error**2 * u.mJy**2, mask=hidden, sky=(15, 20))
    np.testing.assert_allclose(found.profile_error.value, plain.profile_error, rtol=1e-12)
    for masked in ({"error": error}, {"error": np.ma.array(error, mask=hidden)}):
        image = np.ma.array(data, mask=hidden) if masked["error"] is error else data
        found = CurveOfGrowth(image, (30.3, 31.2), RADII, sky=(15, 20), **masked)
        np.testing.assert_array_equal(found.profile, plain.profile)
        np.testing.assert_array_equal(found.covariance, plain.covariance)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xycen": (300.0, 31)}, r"xycen \(x, y\) on it"),
        ({"xycen": (np.nan, 31)}, r"xycen \(x, y\) on it"),
        ({"xycen": 30.0}, r"xycen must have the shape \(2,\)"),
        ({"data": STAR[None], "error": None}, "data must be an image"),
        ({"data": "none", "error": None}, "data must be numbers"),
        ({"error": 0.1}, "error must have the shape"),
        ({"error": np.ones(SHAPE) * u.mJy}, "not convertible"),
        ({"data": STAR * u.mJy}, "not convertible"),
        ({"mask": np.zeros(SHAPE)}, "mask must be bool, or integers"),
        ({"mask": np.zeros((3, 3), dtype=bool)}, "mask must be bool, or integers"),
        ({"sky": (20, 15)}, "sky must increase"),
        ({"sky": 20}, r"sky must have the shape \(2,\)"),
        ({"radii": [3, 2]}, "radii must increase"),
    ],
)
def test_a_slip_is_named(change, message):
    given = {"data": STAR, "xycen": (30.3, 31.2), "radii": RADII, "error": np.ones(SHAPE)} | change
    with pytest.raises(ParameterError, match=message):
        CurveOfGrowth(given.pop("data"), given.pop("xycen"), given.pop("radii"), **given)


def test_a_whole_detector_costs_no_more_than_its_part():
    """The same numbers; the rest of the image is checked, but neither copied for each circle nor for each bad pixel."""
    rng = np.random.default_rng(3)
    part = STAR + 3.0 + rng.normal(size=SHAPE)
    part[rng.integers(0, 61, 40), rng.integers(0, 61, 40)] = np.nan
    part[27:36, 26:35] = STAR[27:36, 26:35]
    whole = np.full((1024, 1024), 3.0)
    whole[400:461, 500:561] = part
    small = CurveOfGrowth(part, (30.3, 31.2), RADII, error=np.ones(SHAPE), sky=(14, 18))
    tracemalloc.start()
    large = CurveOfGrowth(whole, (530.3, 431.2), RADII, error=np.ones(whole.shape), sky=(14, 18))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * whole.nbytes
    np.testing.assert_allclose(large.profile, small.profile, rtol=1e-11)
    np.testing.assert_allclose(large.covariance, small.covariance, rtol=1e-9)


def test_normalized_table_and_plot():
    from matplotlib.figure import Figure

    found = CurveOfGrowth(STAR, (30.3, 31.2), RADII, error=np.ones(SHAPE))
    relative = found.profile_error / found.profile
    found.normalize(1e4)
    np.testing.assert_allclose(found.profile, -np.expm1(-0.5 * np.square(RADII) / (4 + 1 / 6)), atol=2e-3)
    np.testing.assert_allclose(found.profile_error / found.profile, relative)
    assert found.to_table()["radius"].tolist() == RADII
    axes = Figure().add_subplot()
    assert found.plot(axes) is axes
    found.normalize()
    assert found.profile.max() == 1


def test_the_example_runs():
    assert doctest.testmod(curve_of_growth).failed == 0
