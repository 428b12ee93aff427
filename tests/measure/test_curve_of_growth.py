"""The measurement for a user with arrays, against photutils and the analytic star."""

import doctest

import numpy as np
import pytest
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
    with pytest.raises(ParameterError, match="one shape"):
        CurveOfGrowth(data, (30, 31), [1, 3], error=np.ones((3, 3)))


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
