"""SB profiles of stars whose annuli are not all seen: bad pixels, edges of the image, pixels left out as low."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from gaussian import GaussianPSF
from scipy.stats import truncnorm

from niriss_eestep.combine.mean import combine_integrations
from niriss_eestep.errors import ExposureError
from niriss_eestep.measure.ee import measure_ee
from niriss_eestep.measure.position import find_star
from niriss_eestep.measure.sb import SBOptions, kept_noise, measure_sb
from niriss_eestep.measure.stamp import EEOptions, StarExposure
from niriss_eestep.measure.star_model import PSFModel, locate_star
from niriss_eestep.reference import load_psf_images

RADII = (5, 9, 13, 17, 21, 25)
GAIN = 1.61


@cache
def psf(name):
    return load_psf_images()[name]


def star(image, variance, x, y, bad=None):
    bad = np.zeros(image.shape, bool) if bad is None else bad
    image = np.where(bad, np.nan, image)
    return StarExposure("x", image, variance, bad.astype(np.uint32), bad, x, y, 0, 0, 0.0656, GAIN)


def scene(model, x, y, *, electrons, read_noise, shape=(64, 64), sky=1e-4):
    """Expected image [DN/s] of a star of 1 DN/s, and its variance: photons and a noise of the same size everywhere."""
    image = model.render(x, y, shape) + sky
    return image, (image + read_noise) / electrons


def pulls(n, model, make, *, electrons=1e6, read_noise=1e-3, options=None, seed=1):
    """Pulls of n exposures against the noise-free star in the middle of an image without a flaw."""
    rng = np.random.default_rng(seed)
    options = options or SBOptions(clip_low=False)
    found = []
    for _ in range(n):
        x, y, bad = make(rng)
        image, variance = scene(model, x, y, electrons=electrons, read_noise=read_noise)
        whole, flat = scene(model, x + 16, y + 16, electrons=electrons, read_noise=read_noise, shape=(96, 96))
        truth = measure_sb(star(whole, flat, x + 16, y + 16), SBOptions(clip_low=False)).surface_brightness
        noisy = image + rng.normal(0, np.sqrt(variance))
        profile = measure_sb(star(noisy, variance, x, y, bad), options)
        found.append((profile.surface_brightness - truth) / profile.surface_brightness_err)
    return np.array(found)


def in_the_middle(rng):
    x, y = rng.uniform(29, 35, 2)
    j, i = np.indices((64, 64))
    # none in the centroid's box, whose warning is another matter
    return x, y, (rng.uniform(size=(64, 64)) < 0.015) & (np.hypot(i - x, j - y) > 3.5 * np.sqrt(2))


def unflawed(rng):
    return *rng.uniform(29, 35, 2), np.zeros((64, 64), bool)


def near_a_corner(rng):
    x, y = rng.uniform(14, 30, 2)
    return x, y, np.zeros((64, 64), bool)


@pytest.mark.parametrize("name", ["F200W", "F480M"])
@pytest.mark.parametrize("make", [in_the_middle, near_a_corner])
def test_the_error_covers_what_is_not_seen(name, make):
    n = 90
    found = pulls(n, psf(name), make)
    # F480M's spikes that a corner cuts off make 13 pix 0.2 to 0.3 of an error too faint, on the mean of 290 places
    assert np.all(np.abs(found.mean(axis=0)) < 0.1 + 4 / np.sqrt(n)), found.mean(axis=0)
    assert np.all(np.abs(found.std(axis=0) - 1) < 4 / np.sqrt(2 * n)), found.std(axis=0)


def test_a_bad_pixel_does_not_move_a_steep_annulus():
    # a round star's ring tells what is missing from it: each of 60 pixels within the annulus in turn
    image, variance = scene(GaussianPSF(3.0), 32.3, 31.6, electrons=1e10, read_noise=0.0)
    clean = measure_sb(star(image, variance, 32.3, 31.6), SBOptions(clip_low=False)).surface_brightness
    j, i = np.indices(image.shape)
    ring = np.flatnonzero(np.abs(np.hypot(i - 32.3, j - 31.6) - 5.75) < 1)
    for pixel in ring:
        bad = np.zeros(image.shape, bool)
        bad.flat[pixel] = True
        found = measure_sb(star(image, variance, 32.3, 31.6, bad), SBOptions(clip_low=False)).surface_brightness
        # leaving it out moves the annulus's mean by up to 1 %
        assert found[0] == pytest.approx(clean[0], rel=1e-4)


def test_annuli_that_leave_the_image_are_those_of_the_whole_star():
    def profile(size, x):
        image = 1e4 * GaussianPSF(8.0).render(x, x, (size, size)) + 3.0
        return measure_sb(star(image, np.full(image.shape, 1e-6), x, x), SBOptions(clip_low=False))

    whole, cut = profile(96, 48.2), profile(64, 16.2)
    assert whole.status == "measured"
    # of a round star only the curvature within a ring 1 pix wide is lost: 1/24 (pix / sigma)^2 of the profile's scale
    np.testing.assert_allclose(
        cut.surface_brightness, whole.surface_brightness, atol=1e-3 * whole.surface_brightness[0]
    )
    assert cut.status == "measured with warnings: less than half of the annulus at 25 pix could be used"


def test_bad_pixels_in_the_core_are_told():
    image, variance = scene(GaussianPSF(1.5), 32.0, 32.0, electrons=1e6, read_noise=1e-3)
    bad = np.zeros(image.shape, bool)
    bad[33, 34] = True
    profile = measure_sb(star(image, variance, 32.0, 32.0, bad))
    assert profile.status == "measured with warnings: 1 bad pixel(s) within 5 pix of the centre, which they may move"


def test_annuli_without_a_good_pixel_are_nan():
    image, variance = scene(GaussianPSF(1.5), 32.0, 32.0, electrons=1e6, read_noise=1e-3)
    j, i = np.indices(image.shape)
    r = np.hypot(i - 32, j - 32)
    profile = measure_sb(star(image, variance, 32.0, 32.0, (r > 10) & (r < 16)))
    np.testing.assert_array_equal(np.isnan(profile.surface_brightness), [False, False, True, False, False, False])
    np.testing.assert_array_equal(profile.n_used == 0, np.isnan(profile.surface_brightness_err))


def test_good_pixels_at_one_distance_only():
    # no parabola goes through a single distance; the profile says what it does not know
    image, variance = scene(GaussianPSF(1.5), 32.0, 32.0, electrons=1e6, read_noise=1e-3)
    j, i = np.indices(image.shape)
    r = np.hypot(i - 32, j - 32)
    profile = measure_sb(star(image, variance, 32.0, 32.0, (r > 6) & (r < 20) & (np.abs(r - 13) > 0.05)))
    assert profile.surface_brightness[2] == pytest.approx(0.0, abs=5 * profile.surface_brightness_err[2])
    assert "less than half of the annulus at 9, 13, 17 pix could be used" in profile.status


def test_mean_noise_of_kept_pixels_is_that_of_a_cut_normal_distribution():
    expected, sigma, level = np.linspace(-2.0, 40.0, 15), 1.5, -3.0
    truth = truncnorm((level - expected) / sigma, np.inf, scale=sigma).mean()
    found = kept_noise(expected, np.full(15, sigma**2), expected, level)
    np.testing.assert_allclose(found, truth, rtol=1e-6, atol=1e-12)
    quiet = np.array([level, 1.0])
    np.testing.assert_array_equal(kept_noise(quiet, np.zeros(2), quiet, level), 0.0)


def test_counted_electrons_have_a_shorter_low_tail():
    rng = np.random.default_rng(5)
    n, read_noise, step = 2_000_000, 6.0, 0.01  # [e-], [DN/s per electron]
    electrons = np.repeat([100.0, 140.0], n // 2)
    image = step * (rng.poisson(electrons) + rng.normal(0, read_noise, n))
    variance = step * image + (step * read_noise) ** 2
    expected = step * electrons
    sigma = step * np.sqrt(100 + read_noise**2)
    level = 1.0 - 3 * sigma
    found = kept_noise(image, variance, expected, level)[electrons == 100]
    # each pixel's is that of the noise that it has at its expected rate, whatever its own
    normal, skewness = truncnorm(-3, np.inf, scale=sigma).mean(), step**3 * 100 / sigma**3
    np.testing.assert_allclose(found, normal * (1 - skewness * 3**3 / 6), rtol=1e-4)
    # all noise together has mean 0: what is cut off says, with less scatter, what the rest has
    cut = (image - expected)[(electrons == 100) & (image < level)]
    mean, err = (size / (n / 2 - cut.size) for size in (-cut.sum(), np.sqrt(np.sum(cut**2))))
    # the terms beyond the first are of the order of the skewness squared, (0.063 * 27 / 6)^2 / 2 of the normal's
    assert abs(found[0] - mean) < 4 * err + 0.04 * normal
    assert abs(normal - mean) > 8 * err


@pytest.mark.parametrize("electrons", [1e4, 1e6])
def test_leaving_out_low_pixels_moves_no_mean(electrons):
    n = 100
    settings = {"electrons": electrons, "read_noise": 1e-3, "seed": 3}
    clipped = pulls(n, psf("F200W"), unflawed, options=SBOptions(), **settings)
    kept = pulls(n, psf("F200W"), unflawed, **settings)
    difference = (clipped - kept)[:, 1:]  # of the same exposures; a bright star hides the level at 5 pix
    assert np.all(np.abs(difference.mean(axis=0)) < 4 * difference.std(axis=0) / np.sqrt(n)), difference.mean(axis=0)
    assert np.all(np.abs(clipped.mean(axis=0)) < 4 / np.sqrt(n))


def test_a_dead_pixel_does_no_harm():
    image, variance = scene(psf("F480M"), 32.3, 31.6, electrons=1e6, read_noise=1e-3)
    clean = measure_sb(star(image, variance, 32.3, 31.6))
    dead = image.copy()
    for k, radius in enumerate(RADII[1:]):  # one in each annulus outside the core, on all sides
        dead[round(31.6 + radius * np.sin(k)), round(32.3 + radius * np.cos(k))] = -0.05
    found = measure_sb(star(dead, variance, 32.3, 31.6))
    np.testing.assert_array_equal(found.n_clipped, [0, 1, 1, 1, 1, 1])
    # without noise in the image what is left is what the repair claims for itself, a part of the error
    np.testing.assert_array_less(
        np.abs(found.surface_brightness - clean.surface_brightness), 0.5 * found.surface_brightness_err
    )


@pytest.mark.parametrize(("distance", "value"), [(11, 1e15), (11, -1e15), (29, 1e27), (35, 1e36), (24, 1e4)])
def test_a_pixel_that_no_star_explains_is_bad(distance, value):
    """Also beyond the annuli, where the trend looks that repairs of flagged pixels begin with."""
    render = load_psf_images()["F200W"].render
    image, flagged = 0.5 + 1e4 * render(40.0, 40.0, (81, 81)), np.zeros((81, 81), dtype=bool)
    flagged[38, 66] = True
    variance = np.full(image.shape, 0.03) + image / 1000
    clean = measure_sb(star(image, variance, 40.0, 40.0, flagged), psf=PSFModel(render))
    image[40, 40 + distance] = value
    found = measure_sb(star(image, variance, 40.0, 40.0, flagged), psf=PSFModel(render))
    assert found.surface_brightness == pytest.approx(clean.surface_brightness, abs=np.sqrt(np.max(clean.covariance)))
    assert f"x={40 + distance}, y=40" in found.status


def settles_nowhere(render):
    """The first of 64 places on a pixel where what is left of a saturated star has no centre of mass, and its scene."""
    for x, y in 39.5 + np.array(np.meshgrid(np.arange(8) / 8, np.arange(8) / 8)).reshape(2, -1).T:
        image = 0.5 + 2e5 * render(x, y, (81, 81))
        bad = image >= np.sort(image.ravel())[-18]
        scene = star(np.where(bad, np.nan, image), np.full(image.shape, 0.03) + image / 1000, 40.5, 40.5, bad)
        try:
            locate_star(scene, EEOptions())
        except ExposureError:
            # the model PSF is fitted up to 2 pix from the brightest good pixels
            if np.hypot(*np.subtract(find_star(scene.image, bad, near=(40.5, 40.5), radius=5.0), (x, y))) < 1.9:
                return x, y, scene
    return pytest.fail("a centre of mass settles everywhere")


def test_a_saturated_core_has_its_centre_from_the_model():
    render = load_psf_images()["F480M"].render
    x, y, exposure = settles_nowhere(render)
    sb, ee = measure_sb(exposure, psf=PSFModel(render)), measure_ee(exposure, psf=PSFModel(render))
    for profile in (sb, ee):
        assert (profile.centroid.x, profile.centroid.y) == pytest.approx((x, y), abs=2e-3)
    assert "fitted by the model PSF" in sb.status


@pytest.mark.parametrize("factor", [1.3, 0.75])
@pytest.mark.parametrize("name", ["F090W", "F200W", "F480M"])
def test_a_damaged_peak_is_repaired_in_both_measurements(name, factor):
    """A peak a little too bright draws the centre of mass to itself; SB measures the stamp that EE has repaired."""
    model = PSFModel(psf(name).render, mean_ee=psf(name).mean_ee)
    image, variance = scene(psf(name), 32.2, 31.8, electrons=1e6, read_noise=1e-4, sky=1e-5)
    clean = measure_sb(star(image, variance, 32.0, 32.0), psf=model)
    image[32, 32] *= factor
    stamp = star(image, variance, 32.0, 32.0)
    ee, sb = measure_ee(stamp, psf=model), measure_sb(stamp, psf=model)
    for profile in (ee, sb):
        assert "1 unflagged pixel(s) that do not fit the star were treated as bad: x=32, y=32" in profile.status
    # the model PSF's centroid is that of the clean star within the centre of mass's own error
    assert (sb.centroid.x, sb.centroid.y) == pytest.approx((clean.centroid.x, clean.centroid.y), abs=0.02)
    assert sb.surface_brightness[1:] == pytest.approx(
        clean.surface_brightness[1:], abs=np.sqrt(np.max(clean.covariance))
    )


def test_a_star_that_is_known_is_not_looked_for_again():
    """What EE has found of a stamp serves SB; not where the stamp is another, or options or model are."""
    model = PSFModel(psf("F200W").render)
    stamp = star(*scene(psf("F200W"), 32.2, 31.8, electrons=1e6, read_noise=1e-4), 32.0, 32.0)
    known = {}
    measure_ee(stamp, psf=model, known=known)
    # a mark that no search leaves
    for _, stars, _ in known.values():
        stars.update({bad: (replace(centroid, shift=99.0), at) for bad, (centroid, at) in stars.items()})

    def is_taken(stamp=stamp, options=None, model=model):
        return measure_sb(stamp, options, model, known).centroid.shift == 99.0

    assert is_taken()
    image, bad = stamp.image.copy(), stamp.bad.copy()
    image[40, 40], bad[40, 41] = 1.01 * image[40, 40], True
    others = {"image": image, "bad": bad, "dq": stamp.dq + bad, "variance": 1.1 * stamp.variance, "x": 31.0}
    others |= {"x_origin": 1, "gain": 1.7, "photmjsr": 0.1, "warnings": ("another",)}
    for name, value in others.items():
        assert not is_taken(stamp=replace(stamp, **{name: value})), name
    assert not is_taken(options=SBOptions(centroid_box=9))
    assert not is_taken(options=SBOptions(background_inner=21.0))
    assert not is_taken(model=PSFModel(psf("F150W").render))


def test_a_model_may_be_any_callable():
    class Model:
        __hash__ = None

        def __call__(self, *where):
            return psf("F200W").render(*where)

    stamp = star(*scene(psf("F200W"), 32.2, 31.8, electrons=1e6, read_noise=1e-4), 32.0, 32.0)
    found, expected = (measure_sb(stamp, psf=PSFModel(render)) for render in (Model(), psf("F200W").render))
    np.testing.assert_array_equal(found.surface_brightness, expected.surface_brightness)


def test_sb_does_not_depend_on_the_psf_error_that_ee_was_given():
    """A pixel beside the peak is 12 % too bright: possible only where little is known of the PSF."""
    model = PSFModel(psf("F200W").render)
    vague = replace(model, ee=lambda radius: 0.2 + 0.0 * radius, ee_err=lambda radius: 0.2 + 0.0 * radius)
    image, variance = scene(psf("F200W"), 32.2, 31.8, electrons=1e6, read_noise=1e-4)
    image[32, 33] *= 1.12
    stamp, known = star(image, variance, 32.0, 32.0), {}
    assert "x=33, y=32" not in measure_ee(stamp, psf=vague, known=known).status
    assert "x=33, y=32" in measure_sb(stamp, psf=model, known=known).status


@pytest.mark.parametrize("at", [(32, 32), (40, 40), (34, 52)])
def test_sb_does_not_depend_on_what_ee_has_found(at):
    """Of a bad pixel on the core, within EE's reach, and beyond it."""
    model = PSFModel(psf("F200W").render)
    image, variance = scene(psf("F200W"), 32.2, 31.8, electrons=1e6, read_noise=1e-4)
    image[at] = 1.3 * image[at] if at == (32, 32) else image.max()
    stamp = star(image, variance, 32.0, 32.0)
    known = {}
    measure_ee(stamp, psf=model, known=known)
    alone, after = measure_sb(stamp, psf=model), measure_sb(stamp, psf=model, known=known)
    assert f"x={at[1]}, y={at[0]}" in alone.status
    assert after.status == alone.status
    np.testing.assert_array_equal(after.surface_brightness, alone.surface_brightness)
    np.testing.assert_array_equal(after.covariance, alone.covariance)


def read_noise_of_lines(shape, rng):
    """Noise of variance 1 with a power of 1/f in the order of reading, along columns, 12 pixel times between them."""
    n = shape[1] * (shape[0] + 12)
    power = np.append(0.0, 1 / np.arange(1, n // 2 + 1))
    drawn = rng.normal(size=(2, len(power))) * np.sqrt(power / power.sum()) * n / 2
    return np.fft.irfft(drawn[0] + 1j * drawn[1], n).reshape(shape[1], -1)[:, : shape[0]].T


@pytest.mark.parametrize("modelled", [True, False])
def test_errors_hold_with_noise_that_pixels_have_in_common(modelled):
    n, model, found = 40, psf("F480M"), []
    rng, known = np.random.default_rng(4), PSFModel(model.render) if modelled else PSFModel()
    for _ in range(n):
        x, y = rng.uniform(29, 35, 2)
        image, variance = scene(model, x, y, electrons=1e4, read_noise=1e-3)
        truth = measure_sb(star(image, variance, x, y), SBOptions(clip_low=False), known).surface_brightness
        noise = rng.normal(size=image.shape) * np.sqrt(variance)
        # 1/f noise of 6 beside read noise of 15, of one double sample
        noise += 0.4 * np.sqrt(1e-3 / 1e4) * read_noise_of_lines(image.shape, rng)
        profile = measure_sb(star(image + noise, variance, x, y), SBOptions(clip_low=False), known)
        found.append((profile.surface_brightness - truth) / profile.surface_brightness_err)
    spread = np.std(found, axis=0)
    # by the pixels' own noise alone 1.4 to 1.8
    assert np.all(np.abs(spread - 1) < 3.5 / np.sqrt(2 * n)), spread


def test_both_measurements_of_a_star_study_its_sky_once():
    image, variance = scene(psf("F200W"), 32.0, 32.0, electrons=1e6, read_noise=1e-3)
    exposure, known = star(image + 0.01 * np.sqrt(variance), variance, 32.0, 32.0), {}
    ee, sb = (measure(exposure, None, PSFModel(), known) for measure in (measure_ee, measure_sb))
    assert ee.background.correlation is sb.background.correlation is not None


def test_the_flat_fields_error_may_be_given():
    image, variance = scene(psf("F200W"), 32.0, 32.0, electrons=1e6, read_noise=1e-3)
    flat = (0.1 * image) ** 2
    plain = star(image, variance, 32.0, 32.0)
    stated = replace(plain, variance=variance + flat, flat_variance=flat, flat_scale=3.0)
    for scale in (0.0, 3.0):
        given = measure_sb(plain, SBOptions(flat_err=0.1, flat_err_scale=scale))
        expected = measure_sb(stated, SBOptions(flat_err_scale=scale))
        np.testing.assert_allclose(given.covariance, expected.covariance, rtol=1e-12)
        # all integrations of an exposure share it
        np.testing.assert_allclose(given.common, expected.common, rtol=1e-12)
        assert given.surface_brightness_err[0] > 2 * measure_sb(plain).surface_brightness_err[0]


def test_the_scatter_of_the_sky_s_level_is_its_error():
    n, rng = 100, np.random.default_rng(3)
    image, variance = scene(GaussianPSF(1.5), 32.3, 31.6, electrons=1e4, read_noise=1e-3, sky=0.01)
    noisy = [image + rng.normal(0, np.sqrt(variance)) for _ in range(n)]
    found = [measure_sb(star(each, variance, 32.3, 31.6), SBOptions(clip_low=False)).background for each in noisy]
    scatter, err = np.std([each.value for each in found]), np.mean([each.err for each in found])
    assert abs(scatter / err - 1) < 4 / np.sqrt(2 * n)


def test_what_is_not_seen_of_annuli_does_not_average_down_over_integrations():
    rng, bad = np.random.default_rng(3), np.zeros((64, 64), bool)
    bad[33:] = True
    bad[33:45, 25:40] = False
    image, variance = scene(psf("F480M"), 32.0, 32.0, electrons=1e9, read_noise=1e-3)
    noisy = [image + rng.normal(0, np.sqrt(variance)) for _ in range(4)]
    each = [measure_sb(star(image, variance, 32.0, 32.0, bad), SBOptions(clip_low=False)) for image in noisy]
    mean, _ = combine_integrations(each)
    assert np.all(mean.surface_brightness_err > 0.95 * each[0].surface_brightness_err)


def test_a_sky_annulus_that_lacks_a_sector_errs_in_all_annuli():
    n, rng, options = 60, np.random.default_rng(5), SBOptions(radii=(5, 9, 13), clip_low=False)
    (j, i), found = np.indices((64, 64)), []
    for _ in range(n):
        x, y = rng.uniform(31, 33, 2)
        image, variance = scene(psf("F480M"), x, y, electrons=1e8, read_noise=1e-3)
        truth = measure_sb(star(image, variance, x, y), options).surface_brightness
        turned = np.arctan2(j - y, i - x) - rng.uniform(0, 2 * np.pi)
        sector = np.abs(np.angle(np.exp(1j * turned))) < np.pi * rng.uniform(0.3, 0.7)
        noisy = image + rng.normal(0, np.sqrt(variance))
        profile = measure_sb(star(noisy, variance, x, y, sector & (np.hypot(i - x, j - y) > 16)), options)
        found.append((profile.surface_brightness - truth) / profile.surface_brightness_err)
    assert np.all(np.abs(np.std(found, axis=0) - 1) < 4 / np.sqrt(2 * n)), np.std(found, axis=0)
