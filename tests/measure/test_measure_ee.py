"""EE and SB profiles of analytic stars, against closed forms and against photutils."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photutils.profiles import CurveOfGrowth
from scipy.special import ndtr

from niriss_eestep.errors import ExposureError, ParameterError
from niriss_eestep.instrument import CHARGELOSS, DO_NOT_USE, JUMP_DET, SATURATED
from niriss_eestep.measure.ee import EEOptions, failed_ee, measure_ee
from niriss_eestep.measure.geometry import aperture_weights
from niriss_eestep.measure.sb import SBOptions, measure_sb
from niriss_eestep.measure.stamp import Stamp, StarExposure, check_radii
from niriss_eestep.measure.star_model import PSFModel
from niriss_eestep.reference import load_psf_images

SIGMA = 1.5
RADII = (2, 3, 4, 5, 6, 8, 10)


def render(x, y, shape, sigma=SIGMA):
    """A round Gaussian integrated over pixels exactly."""

    def along(centre, size):
        return np.diff(ndtr((np.arange(size + 1) - 0.5 - centre) / sigma))

    return np.outer(along(y, shape[0]), along(x, shape[1]))


def gaussian_ee(radius, sigma=SIGMA):
    return -np.expm1(-0.5 * (np.asarray(radius) / sigma) ** 2)


def exposure(x=32.3, y=30.6, *, flux=1e5, sky=0.0, size=64, variance=1e-4, bad=(), sigma=SIGMA):
    image = flux * render(x, y, (size, size), sigma) + sky
    mask = np.zeros(image.shape, dtype=bool)
    for j, i in bad:
        mask[j, i] = True
    image[mask] = np.nan
    dq = np.where(mask, DO_NOT_USE, 0).astype(np.uint32)
    return StarExposure("star", image, np.full(image.shape, variance), dq, mask, round(x), round(y), 0, 0, 0.0656, 1.61)


def blurred(sigma):
    """Width of a Gaussian as apertures see it on pixels.

    A pixel integrates over its area, and an aperture takes the value as spread evenly over it: two pixels' worth of
    blur, 1/12 each in variance, on the mean over pixel phases.
    """
    return np.sqrt(sigma**2 + 2 / 12)


def test_gaussian_star_equals_the_analytic_integral():
    phases = np.linspace(-0.4, 0.4, 5)
    profiles = [
        measure_ee(exposure(32 + dx, 31 + dy, sky=3.0), EEOptions(radii=RADII)) for dx in phases for dy in phases
    ]
    mean = np.mean([p.count_rate for p in profiles], axis=0) / 1e5
    # the phases' mean stands for the integral over a pixel; 25 of them leave 1e-3 where the profile is steepest
    np.testing.assert_allclose(mean, gaussian_ee(RADII, blurred(SIGMA)), atol=1e-3)
    # at 10 pix the star is whole, 1 - EE = 2e-10, at any phase
    for profile in profiles:
        assert profile.status == "measured"
        assert profile.count_rate[-1] == pytest.approx(1e5, rel=1e-6)
        assert profile.background.value == pytest.approx(3.0, abs=1e-9)


@pytest.mark.parametrize(("x", "y"), [(32.0, 32.0), (31.5, 30.25), (33.21, 29.87)])
def test_equal_to_photutils_curve_of_growth(x, y):
    star = exposure(x, y, sky=2.0)
    profile = measure_ee(star, EEOptions(radii=RADII))
    at = (profile.centroid.x, profile.centroid.y)
    growth = CurveOfGrowth(star.image - profile.background.value, at, np.array(RADII, dtype=float), method="exact")
    np.testing.assert_allclose(profile.count_rate, growth.profile, rtol=1e-6)
    np.testing.assert_allclose(profile.area, growth.area, rtol=1e-12)


def test_centroid_is_right_at_any_phase():
    # the window follows the star, so that a symmetric star has no bias at all: only the convergence of 1e-4 pix is left
    for x, y in np.random.default_rng(3).uniform(30, 33, (20, 2)):
        found = measure_ee(exposure(x, y), EEOptions(radii=RADII)).centroid
        assert np.hypot(found.x - x, found.y - y) < 0.01


def test_covariance_against_many_realisations():
    rng = np.random.default_rng(11)
    star = exposure(sky=1.0, variance=4.0)
    n = 400
    options = EEOptions(radii=RADII, background_skip=8)
    rates = np.array(
        [
            measure_ee(replace(star, image=star.image + rng.normal(0, 2.0, star.image.shape)), options).count_rate
            for _ in range(n)
        ]
    )
    claimed = measure_ee(star, options).covariance
    found = np.cov(rates.T)
    # the sampling error of a variance is sqrt(2/n) of it, and of a covariance less than that times the two errors'
    # product; the centroid's own noise adds less than 1e-3
    scale = np.sqrt(np.outer(np.diag(claimed), np.diag(claimed)))
    assert np.max(np.abs(found - claimed) / scale) < 4 * np.sqrt(2 / n)


def test_fractional_pixels_count_with_the_square_of_their_weight():
    # within 1 pix of a pixel's corner only cut pixels lie: sum(w) = pi, sum(w^2) is less
    star = exposure(31.5, 31.5, variance=1.0)
    profile = measure_ee(star, EEOptions(radii=(1, 10), background_method="none"))
    quarter = np.pi / 4  # each of the four pixels is covered by a quarter of the circle
    assert profile.covariance[0, 0] == pytest.approx(4 * quarter**2, rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(0.1, 1e4))
def test_constant_and_scale(constant, scale):
    star = exposure(sky=1.0)
    base = measure_ee(star, EEOptions(radii=RADII)).count_rate
    shifted = measure_ee(replace(star, image=star.image + constant), EEOptions(radii=RADII)).count_rate
    scaled = measure_ee(
        replace(star, image=scale * star.image, variance=scale**2 * star.variance), EEOptions(radii=RADII)
    ).count_rate
    # rounding: the constant is subtracted from up to 314 pixels; the centroid settles to 1e-4 pix
    np.testing.assert_allclose(shifted, base, rtol=1e-6, atol=314 * 1e3 * 1e-12)
    np.testing.assert_allclose(scaled, scale * base, rtol=1e-6)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotation_does_not_matter(turns):
    star = exposure(33.2, 29.7, sky=1.0, bad=[(36, 36), (24, 33)])
    x, y = star.x, star.y
    for _ in range(turns):
        x, y = y, 63 - x
    turned = replace(
        star,
        x=x,
        y=y,
        **{key: np.rot90(getattr(star, key), turns).copy() for key in ("image", "variance", "dq", "bad")},
    )
    first, second = (measure_ee(s, EEOptions(radii=RADII)) for s in (star, turned))
    np.testing.assert_allclose(first.count_rate, second.count_rate, rtol=1e-6)
    np.testing.assert_allclose(first.covariance, second.covariance, rtol=1e-5)


def test_a_flagged_pixel_with_a_value_is_treated_like_its_nan_twin():
    twin = exposure(bad=[(37, 33)])
    image = twin.image.copy()
    image[37, 33] = 1e6
    flagged = replace(twin, image=image)
    for method in ("surface", "median", "psf", "none"):
        options = EEOptions(radii=RADII, bad_pixel_method=method)
        first, second = (measure_ee(s, options, PSFModel(render)) for s in (twin, flagged))
        np.testing.assert_array_equal(first.count_rate, second.count_rate)
        np.testing.assert_array_equal(first.covariance, second.covariance)


def test_bad_pixels_are_counted_in_each_aperture():
    # 6 and 8 pix from the star along a row: they begin at 5.5 and at 7.5 pix
    profile = measure_ee(exposure(32, 30, bad=[(30, 38), (30, 40)]), EEOptions(radii=(5, 6, 7, 9)))
    assert profile.n_bad.tolist() == [0, 1, 1, 2]
    np.testing.assert_array_equal(profile.n_bad, profile.n_repaired)


def test_method_none_leaves_the_apertures_that_touch_a_bad_pixel_without_value():
    profile = measure_ee(exposure(32, 30, bad=[(30, 39)]), EEOptions(radii=(5, 6, 8, 10), bad_pixel_method="none"))
    assert np.isfinite(profile.count_rate).tolist() == [True, True, False, False]
    assert np.isfinite(profile.count_rate_err).tolist() == [True, True, False, False]
    assert profile.n_repaired.tolist() == [0, 0, 0, 0]


def test_a_model_psf_fills_pixels_exactly_where_it_is_the_truth():
    bad = [(35, 36), (25, 33), (31, 39)]
    clean = measure_ee(exposure(sky=2.0), EEOptions(radii=RADII))
    filled = measure_ee(exposure(sky=2.0, bad=bad), EEOptions(radii=RADII, bad_pixel_method="psf"), PSFModel(render))
    np.testing.assert_allclose(filled.count_rate, clean.count_rate, rtol=1e-5)


def winged(x, y, shape):
    """A star with a wing that fills the sky annulus."""
    return 0.8 * render(x, y, shape) + 0.2 * render(x, y, shape, 12.0)


def with_bad(star, bad):
    mask = np.zeros(star.image.shape, dtype=bool)
    mask[tuple(np.transpose(bad))] = True
    return replace(star, image=np.where(mask, np.nan, star.image), bad=mask)


def test_starlight_in_the_sky_annulus_is_not_missing_from_the_core_s_fill():
    star = exposure()
    fraction = winged(32.3, 30.6, star.image.shape)
    at, sky = (aperture_weights(fraction.shape, 32.3, 30.6, np.array(r, dtype=float)) for r in (RADII, (15, 20)))
    ring = sky[1] - sky[0]
    exact = np.sum(at * (fraction - np.sum(ring * fraction) / ring.sum()), axis=(1, 2))
    spoilt = with_bad(replace(star, image=1e5 * fraction), [(30, 32), (31, 32), (30, 33)])
    filled = measure_ee(spoilt, EEOptions(radii=RADII, repair_core=True), PSFModel(winged))
    # the model is fitted 1e-5 pix from the truth
    np.testing.assert_allclose(filled.count_rate, 1e5 * exact, rtol=2e-5)


def test_starlight_in_the_sky_annulus_is_not_missing_from_the_wing_s_fill():
    star = exposure()
    star = replace(star, image=1e5 * winged(32.3, 30.6, star.image.shape))
    options = EEOptions(radii=RADII, bad_pixel_method="psf")
    clean, filled = (measure_ee(s, options, PSFModel(winged)) for s in (star, with_bad(star, [(38, 32)])))
    # the pixel holds 1e-3 of the light, and the centre of mass is 0.004 pix off
    np.testing.assert_allclose(filled.count_rate, clean.count_rate, rtol=1e-5)


def test_core_pixel_fails_the_profile_unless_repair_core():
    star = exposure(32.3, 30.6, bad=[(30, 32)])
    profile = measure_ee(star, EEOptions(radii=RADII))
    assert profile.status.startswith("failed: 1 bad pixel(s) within 5 pix of the centre")
    assert np.isnan(profile.count_rate).all()
    assert profile.core_do_not_use == 1
    repaired = measure_ee(star, EEOptions(radii=RADII, repair_core=True), PSFModel(render))
    assert repaired.status == "measured"
    # the model's position and flux come from the 80 other pixels of the core, without noise
    np.testing.assert_allclose(
        repaired.count_rate, measure_ee(exposure(), EEOptions(radii=RADII)).count_rate, rtol=2e-3
    )


def test_a_bad_pixel_just_beyond_the_core_fails_no_exposure():
    # 5 pix from the star, and by the centroid a little less
    star = exposure(32.0, 31.0, bad=[(31, 37), (27, 29)])
    profile = measure_ee(replace(star, image=star.image + 0.01), EEOptions(radii=RADII))
    assert profile.status == "measured"
    assert profile.n_repaired.tolist() == [0, 0, 0, 2, 2, 2, 2]


def test_a_repaired_core_is_not_taken_for_two_stars():
    # the peak and what lies beside it are lost: half of the light
    lost = [(j, i) for j in (30, 31) for i in (31, 32, 33)]
    star = exposure(32.3, 30.6, bad=lost)
    repaired = measure_ee(star, EEOptions(radii=RADII, repair_core=True), PSFModel(render))
    assert repaired.status == "measured"


def test_a_failure_tells_how_many_pixels_are_saturated():
    star = exposure(32.3, 30.6, bad=[(30, 32), (30, 33), (32, 35)])
    dq = star.dq.copy()
    dq[30, 32:34] |= SATURATED
    profile = measure_ee(replace(star, dq=dq), EEOptions(radii=RADII))
    assert profile.status.startswith("failed: 3 bad pixel(s) within 5 pix of the centre, 2 of them saturated; ")
    nothing = failed_ee(replace(star, dq=dq), EEOptions(), "no star")
    assert nothing.status == "failed: no star (2 saturated pixel(s) within 5 pix of the first position)"
    assert nothing.core_saturated == 2


def test_bad_pixels_of_the_core_beyond_the_apertures_count_too():
    # the centroid may need them; they are told, whatever the radii
    star = exposure(32.0, 31.0, bad=[(31, 36)])
    profile = measure_ee(star, EEOptions(radii=(1, 2, 3)))
    assert profile.status.startswith("failed: 1 bad pixel(s) within 5 pix")
    psf = PSFModel(render)
    repaired = measure_ee(star, EEOptions(radii=(1, 2, 3), repair_core=True), psf)
    assert repaired.status == "measured"
    assert repaired.n_bad.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("noise", "warned"), [(0.0, True), (100.0, False)])
def test_a_fall_of_the_curve_of_growth_is_told_unless_noise_explains_it(noise, warned):
    star = exposure(variance=noise**2 + 1e-4)
    # 150 DN/s are missing between 8 and 10 pix, which 113 pixels have together
    image = star.image.copy()
    image[30, 41] -= 150.0
    profile = measure_ee(replace(star, image=image), EEOptions(radii=(2, 5, 8, 10)))
    assert ("does not rise" in profile.status) is warned


def test_errors_of_a_faint_star_hold_that_of_its_position():
    n, options, noise = 400, EEOptions(radii=(1, 2, 3, 5)), np.sqrt(0.5)
    rng = np.random.default_rng(23)
    pulls = []
    for _ in range(n):
        # a signal-to-noise ratio of 40 within 2 pix, and a position that is known to 0.09 pix
        true = exposure(*(20 + rng.uniform(-0.5, 0.5, 2)), flux=100.0, size=40, variance=noise**2, sigma=0.7)
        noisy = replace(true, image=true.image + noise * rng.standard_normal(true.image.shape))
        profile = measure_ee(noisy, options)
        pulls.append((profile.count_rate - measure_ee(true, options).count_rate) / profile.count_rate_err)
    # 4 radii: four sampling errors; without the position's error 1.4 at 1 pix
    assert np.abs(np.std(pulls, axis=0) - 1).max() < 4 / np.sqrt(2 * n)


def test_a_position_in_the_middle_of_the_light_costs_nothing():
    star = exposure(32.0, 31.0)
    profile = measure_ee(star, EEOptions(radii=RADII))
    weights = aperture_weights(star.image.shape, 32.0, 31.0, profile.radius)
    pixels = np.sum(weights**2 * 1e-4, axis=(1, 2)) + (profile.area * profile.background.err) ** 2
    # the count rate is at its maximum there
    np.testing.assert_allclose(profile.count_rate_err, np.sqrt(pixels), rtol=1e-6)


@pytest.mark.parametrize(("flux", "lost"), [(100.0, 1), (100.0, 3), (2e4, 1)])
def test_errors_of_a_repaired_core(flux, lost):
    n, gain = 400, 1.61
    rng = np.random.default_rng([17, lost])
    options = EEOptions(radii=RADII, repair_core=True)
    pulls = []
    for _ in range(n):
        x, y = 32 + rng.uniform(-0.5, 0.5, 2)
        true = exposure(x, y, flux=flux, sky=1.0, size=48)
        # photons of 100 s, and read noise
        variance = true.image / (gain * 100) + 0.01
        image = true.image + np.sqrt(variance) * rng.standard_normal(true.image.shape)
        j, i = np.indices(image.shape)
        bad = np.zeros(image.shape, dtype=bool)
        bad.flat[rng.choice(np.flatnonzero(np.hypot(j - y, i - x) < 2), lost, replace=False)] = True
        star = replace(true, image=np.where(bad, np.nan, image), variance=variance, bad=bad)
        profile = measure_ee(star, options, PSFModel(render))
        pulls.append((profile.count_rate - measure_ee(true, options).count_rate) / profile.count_rate_err)
    # 7 radii that share their noise: four sampling errors
    assert np.abs(np.mean(pulls, axis=0)).max() < 4 / np.sqrt(n)
    assert np.abs(np.std(pulls, axis=0) - 1).max() < 4 / np.sqrt(2 * n)


def test_core_report_changes_nothing():
    star = exposure()
    dq = star.dq.copy()
    dq[31, 32] = SATURATED
    dq[30, 33] = JUMP_DET
    flagged = measure_ee(replace(star, dq=dq), EEOptions(radii=RADII))
    np.testing.assert_array_equal(flagged.count_rate, measure_ee(star, EEOptions(radii=RADII)).count_rate)
    assert (flagged.core_saturated, flagged.core_do_not_use, flagged.core_flagged) == (1, 0, 1)
    assert "1 saturated pixel(s) in the core" in flagged.status


def test_low_pixels_are_repaired_only_when_asked():
    star = exposure(sky=5.0)
    image = star.image.copy()
    image[37, 36] = -50.0
    low = replace(star, image=image)
    clean = measure_ee(star, EEOptions(radii=RADII)).count_rate
    left = measure_ee(low, EEOptions(radii=RADII))
    assert left.count_rate[-1] == pytest.approx(clean[-1] - 55.0, abs=1.0)
    repaired = measure_ee(low, EEOptions(radii=RADII, repair_low=True))
    assert repaired.n_repaired[-1] == 1
    assert repaired.count_rate[-1] == pytest.approx(clean[-1], rel=1e-4)


def test_the_method_median_repairs_low_pixels_by_itself():
    star = exposure(sky=3.0)
    star.image[:] += np.random.default_rng(7).normal(0, 1e-2, star.image.shape)
    star.image[31, 39] = -5.0
    assert measure_ee(star, EEOptions(radii=RADII, bad_pixel_method="median")).n_repaired[-1] == 1
    assert measure_ee(star, EEOptions(radii=RADII, bad_pixel_method="surface")).n_repaired[-1] == 0


@pytest.mark.parametrize("sky", [0.0, 0.1, 0.3, 0.5, 2.0, 17.3])
def test_no_pixel_of_a_flat_sky_without_noise_is_low(sky):
    star = exposure(sky=sky)
    plain = measure_ee(star, EEOptions(radii=RADII))
    asked = measure_ee(star, EEOptions(radii=RADII, repair_low=True))
    assert asked.n_repaired[-1] == 0
    np.testing.assert_array_equal(asked.count_rate, plain.count_rate)
    assert np.all(measure_sb(star, SBOptions(radii=(5, 9, 13, 17, 21, 25))).n_clipped == 0)


def test_two_hits_that_face_each_other_are_left_out():
    star = exposure(32.0, 32.0, sky=3.0, variance=1e-2)
    star.image[:] += np.random.default_rng(3).normal(0, 0.1, star.image.shape)
    clean = measure_ee(star, EEOptions(radii=(3, 10), background_skip=8)).background
    for dx, dy in ((20, 7), (-20, -7)):
        star.image[32 + dy, 32 + dx] += 200.0
    hit = measure_ee(star, EEOptions(radii=(3, 10), background_skip=8)).background
    assert (clean.n_rejected, hit.n_rejected) == (0, 2)
    # two of 700 pixels less
    assert abs(hit.value - clean.value) < 3 * hit.err * np.sqrt(2 / hit.npix) + 1e-3


def test_repaired_pixels_add_their_error():
    rng = np.random.default_rng(5)
    star = exposure(sky=5.0, variance=1.0)
    star = replace(star, image=star.image + rng.normal(0, 1, star.image.shape))
    bad = star.bad.copy()
    bad[37, 36] = True
    spoilt = replace(star, image=np.where(bad, np.nan, star.image), bad=bad)
    for method in ("surface", "median", "psf"):
        before, after = (
            measure_ee(s, EEOptions(radii=RADII, bad_pixel_method=method), PSFModel(render)) for s in (star, spoilt)
        )
        # at most the variance of one pixel of the 314 in the aperture is gone; the noise's correlation is measured
        # without 49 pixels of 5,000 around it, and its part of 3 % differs by a tenth
        assert after.count_rate_err[-1] ** 2 > (1 - 1 / 314 - 0.03 / 10) * before.count_rate_err[-1] ** 2
        assert abs(after.count_rate[-1] - before.count_rate[-1]) < 5 * after.count_rate_err[-1]


@pytest.mark.parametrize(("method", "value", "expected"), [("none", 0.0, 7.0), ("constant", 3.0, 4.0)])
def test_background_from_elsewhere(method, value, expected):
    options = EEOptions(radii=RADII, background_method=method, background_value=value, background_value_err=0.1)
    profile = measure_ee(exposure(sky=7.0), options)
    left = profile.count_rate[-1] - 1e5
    assert left == pytest.approx(expected * profile.area[-1], rel=1e-3)
    assert profile.background.err == (0.1 if method == "constant" else 0.0)
    if method == "constant":
        # 1e-4 variance per pixel, and the background's error over the whole aperture
        assert profile.count_rate_err[-1] == pytest.approx(np.hypot(0.1 * profile.area[-1], 0.01 * 17.7), rel=1e-2)


def test_apertures_that_leave_the_image_have_no_value():
    star = exposure(12.0, 32.0, sky=1.0)
    profile = measure_ee(star, EEOptions(radii=(5, 10, 12, 13, 15)))
    assert np.isfinite(profile.count_rate).tolist() == [True, True, True, False, False]
    assert "apertures from 13 pix extend beyond the image" in profile.status


def test_annulus_cut_by_the_edge_records_what_was_used():
    profile = measure_ee(exposure(25.0, 32.0, sky=1.0), EEOptions())
    # 25.5 pix to the left edge: all of the annulus, 20 to 25 pix, is on the image
    np.testing.assert_allclose(profile.background.ring_coverage, 1, atol=1e-9)
    cut = measure_ee(exposure(21.0, 32.0, sky=1.0), EEOptions()).background.ring_coverage
    # 21.5 pix to it: of a circle of radius r the part beyond is r^2 acos(d / r) - d sqrt(r^2 - d^2)
    r, d = np.arange(20, 26.0), 21.5
    beyond = np.where(r > d, r**2 * np.arccos(np.minimum(d / r, 1)) - d * np.sqrt(np.maximum(r**2 - d**2, 0)), 0)
    ring = np.pi * np.diff(r**2)
    # the centroid is right to 1e-3 pix, worth 43 of its thousandths of a pixel's area
    np.testing.assert_allclose(cut, 1 - np.diff(beyond) / ring, atol=1e-3)


def test_too_little_sky_is_an_error():
    with pytest.raises(ExposureError, match=r"only 0 % of the sky annulus \(60 to 65 pix\)"):
        measure_ee(exposure(), EEOptions(radii=(1, 15), background_skip=45))


def test_cosmic_ray_in_the_annulus_is_left_out():
    star = exposure(32.0, 32.0, sky=2.0)
    image = star.image.copy()
    image[32, 54] = 500.0
    hit = measure_ee(replace(star, image=image), EEOptions())
    assert hit.background.n_rejected == 1
    assert hit.background.value == pytest.approx(2.0, abs=1e-9)


def test_neighbour_in_the_annulus_is_told():
    star = exposure(32.0, 32.0, sky=2.0, variance=1.0)
    # its light is left out as outliers, which keeps the sky right, but an aperture nearby may hold some of it too
    neighbour = replace(star, image=star.image + 3e4 * render(53.0, 37.0, star.image.shape, 2.0))
    profile = measure_ee(neighbour, EEOptions())
    assert any("left out of the sky annulus: possible neighbour" in w for w in profile.warnings)
    assert profile.background.value == pytest.approx(2.0, abs=0.1)
    assert measure_ee(star, EEOptions()).warnings == ()


@pytest.mark.parametrize(
    ("radii", "message"),
    [
        ((1, 2, 2), "must increase strictly"),
        ((3, 2), "must increase strictly"),
        ((0, 1), "positive"),
        ((-1, 1), "positive"),
        ((1, np.nan), "positive"),
        ((), "one or more"),
        (("a", 1), "must be numbers"),
    ],
)
def test_bad_radii(radii, message):
    with pytest.raises(ParameterError, match=message):
        check_radii(radii)


@pytest.mark.parametrize(
    "options",
    [
        {"bad_pixel_method": "magic"},
        {"background_method": "magic"},
        {"background_width": 0},
        {"background_skip": -1},
        {"low_sigma": 0},
    ],
)
def test_bad_options(options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        EEOptions(**options)


def test_surface_brightness_of_a_gaussian():
    sigma = 6.0  # wide, so that the annuli have light
    star = exposure(32.0, 32.0, flux=1e6, sky=3.0, sigma=sigma)
    options = SBOptions(radii=(5, 9, 13), background_inner=26.0, background_width=5.0)
    profile = measure_sb(star, options)
    inner, outer = np.array(options.radii) - 2, np.array(options.radii) + 2
    area = np.pi * (outer**2 - inner**2)
    seen = blurred(sigma)
    truth = 1e6 * (gaussian_ee(outer, seen) - gaussian_ee(inner, seen)) / area
    sky = 1e6 * (gaussian_ee(31, seen) - gaussian_ee(26, seen)) / (np.pi * (31**2 - 26**2))
    # the blur is second order in pixel / sigma; the next order is its square, (1 / 12 / 36)^2, the phase's is smaller
    np.testing.assert_allclose(profile.surface_brightness, truth - sky, rtol=1e-3)
    err = np.sqrt(1e-4 / area + profile.background.err**2)
    # cut pixels count with the square of their weight: a few per cent less
    np.testing.assert_allclose(profile.surface_brightness_err, err, rtol=0.05)


def test_the_dark_parts_of_a_bright_star_s_wing_are_not_low():
    star = exposure(32.0, 31.0)
    j, i = np.indices(star.image.shape)
    # a cross of light through the sky annulus, ten times its clipped scatter above the rest
    noise = np.random.default_rng(2).normal(0, 0.1, star.image.shape)
    image = star.image + np.where((abs(i - 32) < 2) | (abs(j - 31) < 2), 50.0, 0.0) + noise
    star = replace(star, image=image, variance=np.full(image.shape, 0.01))
    options = SBOptions(radii=(9, 13, 17), background_inner=20)
    clipped, plain = (measure_sb(star, replace(options, clip_low=clip)) for clip in (True, False))
    assert clipped.n_clipped.tolist() == [0, 0, 0]
    np.testing.assert_allclose(clipped.surface_brightness, plain.surface_brightness, rtol=1e-12)


def test_surface_brightness_leaves_out_low_pixels_only_when_asked():
    star = exposure(32.0, 32.0, sky=3.0)
    image = star.image.copy()
    image[32, 45] = -100.0
    low = replace(star, image=image)
    clipped, kept = (measure_sb(low, SBOptions(clip_low=flag)) for flag in (True, False))
    assert clipped.n_clipped[2] == 1
    assert kept.n_clipped.sum() == 0
    # one pixel at -100 of the 327 in the annulus
    assert kept.surface_brightness[2] == pytest.approx(clipped.surface_brightness[2] - 103 / 327, abs=0.01)


def test_migrated_charge_shows_beside_the_model_image_and_its_flags_are_told():
    psf = load_psf_images()["F200W"]
    light = 1e5 * psf.render(35.2, 34.9, (71, 71))
    change, flags = np.zeros((71, 71)), np.zeros((71, 71), np.uint32)
    # 2 % of the peak's light moves to its four neighbours
    change[35, 35] = -0.02 * light[35, 35]
    sides = np.array([[34, 36, 35, 35], [35, 35, 34, 36]])
    change[*sides] = 0.005 * light[35, 35]
    flags[35, 35] = flags[*sides] = CHARGELOSS
    model, layers = PSFModel(psf.render, mean_ee=psf.mean_ee), (np.full((71, 71), 1.0), np.zeros((71, 71), dtype=bool))
    found = [
        measure_ee(
            Stamp("star", light + moved + 0.5, layers[0], dq, layers[1], 35.0, 35.0, 0, 0, 0.0656, 1.61), psf=model
        )
        for moved, dq in ((0.0, 0 * flags), (change, flags))
    ]
    plain, lossy = found
    # light within 3 pix is that of the star, and the centroid is off the star by less than 0.01 pix
    assert (plain.core_peak, plain.core_sides, plain.core_charge_loss) == (
        pytest.approx(0, abs=2e-3),
        pytest.approx(0, abs=3e-3),
        0,
    )
    assert lossy.core_peak - plain.core_peak == pytest.approx(-0.02, abs=1e-3)
    assert lossy.core_sides - plain.core_sides == pytest.approx(0.02 * light[35, 35] / light[*sides].sum(), abs=1e-3)
    assert lossy.core_peak_err == pytest.approx(1 / light[35, 35], rel=0.05)
    assert lossy.core_charge_loss == 5
    assert not any("charge migration" in text for text in found[0].warnings)
    (text,) = (text for text in found[1].warnings if "charge migration" in text)
    assert "5 pixel(s) in the core flagged CHARGELOSS" in text
    assert "the peak is -2." in text or "the peak is -1.9" in text
    np.testing.assert_allclose(found[1].count_rate[2:], found[0].count_rate[2:], rtol=2e-4)
