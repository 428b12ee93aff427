from dataclasses import replace

import numpy as np
import pytest
from stdatamodels.jwst.datamodels.dqflags import pixel

from niriss_eestep.errors import ParameterError
from niriss_eestep.instrument import IPC_KERNEL
from niriss_eestep.simulate import scene as scene_module
from niriss_eestep.simulate.detector import Readout
from niriss_eestep.simulate.scene import (
    DO_NOT_USE,
    JUMP_DET,
    REFERENCE_PIXEL,
    SATURATED,
    Blemishes,
    GaussianPSF,
    Scene,
    Star,
    average,
    draw_pattern,
    expected_image,
    simulate_image,
    simulate_integrations,
)

READOUT = Readout(group_time=0.2, ngroups=20, nints=5)
PSF = GaussianPSF(1.8)


def make_scene(**changes):
    settings = {"shape": (61, 63), "star": Star(31.3, 29.6, 2e4), "readout": READOUT, "background": 0.7}
    return Scene(**(settings | changes))


def at(places):
    return tuple(places.T)


@pytest.mark.parametrize("name", ["DO_NOT_USE", "SATURATED", "JUMP_DET", "REFERENCE_PIXEL"])
def test_the_flags_are_those_of_jwst(name):
    assert getattr(scene_module, name) == pixel[name]


@pytest.mark.parametrize("position", [(30.0, 30.0), (30.5, 29.5), (29.87, 31.21)])
def test_a_gaussian_keeps_its_light_and_its_centre(position):
    x, y = position
    image = PSF.render(x, y, (61, 61))
    assert image.sum() == pytest.approx(1, abs=1e-12)
    rows, columns = np.indices(image.shape)
    assert (image * columns).sum() == pytest.approx(x, abs=1e-9)
    assert (image * rows).sum() == pytest.approx(y, abs=1e-9)


def test_a_gaussians_encircled_energy_is_that_of_its_image():
    # one fine pixel grid stands for the plane: a pixel is 1/20 of sigma
    fine = GaussianPSF(20.0)
    image = fine.render(150.0, 150.0, (301, 301))
    rows, columns = np.indices(image.shape)
    inside = np.hypot(rows - 150, columns - 150) <= 40
    # the circle's edge is known to half a pixel over many directions: far better than 0.01 of the light
    assert fine.ee(40.0) == pytest.approx(image[inside].sum(), abs=2e-3)
    assert fine.ee(40.0) == pytest.approx(1 - np.exp(-2))


def test_the_expected_image_is_the_sum_of_its_parts():
    other = Star(10.0, 50.0, 3e3)
    scene = make_scene(gradient=(0.01, -0.02), others=(other,))
    image = expected_image(scene, PSF)
    rows, columns = np.indices(scene.shape)
    sky = 0.7 + 0.01 * (columns - 31) - 0.02 * (rows - 30)
    stars = 2e4 * PSF.render(31.3, 29.6, scene.shape) + 3e3 * PSF.render(10.0, 50.0, scene.shape)
    np.testing.assert_allclose(image, sky + stars / 1.61, rtol=1e-12)


def test_without_noise_the_image_is_the_expected_one_and_has_variances():
    scene = make_scene()
    image = simulate_image(scene, PSF, np.random.default_rng(1), noise=False)
    np.testing.assert_allclose(image.data, expected_image(scene, PSF), rtol=1e-6)
    assert image.var_poisson.min() > 0
    np.testing.assert_allclose(image.err**2, image.var_poisson + image.var_rnoise, rtol=1e-5)


def test_reported_variances_are_those_of_many_draws():
    scene, n = make_scene(), 400
    rng = np.random.default_rng(2)
    expected = expected_image(scene, PSF)
    draws = [simulate_image(scene, PSF, rng, expected=expected) for _ in range(n)]
    scatter = np.var([draw.data for draw in draws], axis=0, ddof=1)
    reported = np.mean([draw.err.astype(float) ** 2 for draw in draws], axis=0)
    # mean over p pixels of a variance ratio from n draws each: 1 +- sqrt(2 / (n p)); 4 of these. Pixels with starlight
    # only, since a slope of the sky that noise makes negative has VAR_POISSON 0.
    bright = expected > 20 * np.sqrt(READOUT.read_variance)
    ratio = scatter / reported
    assert ratio[bright].mean() == pytest.approx(1, abs=4 * np.sqrt(2 / (n * bright.sum())))
    # and everywhere within 2 %, the excess that VAR_POISSON may have where the read noise rules
    assert ratio.mean() == pytest.approx(1, abs=0.02)


def test_pulls_of_an_aperture_are_standard_normal():
    scene, n = make_scene(), 2000
    rng = np.random.default_rng(3)
    expected = expected_image(scene, PSF)
    rows, columns = np.indices(scene.shape)
    inside = np.hypot(rows - 29.6, columns - 31.3) < 8
    pulls = []
    for _ in range(n):
        draw = simulate_image(scene, PSF, rng, expected=expected)
        error = np.sqrt((draw.var_poisson[inside] + draw.var_rnoise[inside]).sum(dtype=float))
        pulls.append((draw.data[inside].sum(dtype=float) - expected[inside].sum()) / error)
    # sampling errors of mean and standard deviation: 1 / sqrt(n) and 1 / sqrt(2 n)
    assert np.mean(pulls) == pytest.approx(0, abs=3 / np.sqrt(n))
    assert np.std(pulls) == pytest.approx(1, abs=3 / np.sqrt(2 * n))


def test_the_read_noise_is_that_of_lines_fitted_to_ramps():
    readout, n = Readout(group_time=0.3, ngroups=7, nints=1, read_noise=10.0, gain=2.0), 20000
    ramps = np.random.default_rng(4).normal(scale=5.0, size=(7, n))  # 10 e- are 5 DN
    slopes = np.polyfit(0.3 * np.arange(7), ramps, 1)[0]
    # a variance from n draws is known to sqrt(2 / n)
    assert slopes.var() == pytest.approx(readout.read_variance, rel=4 * np.sqrt(2 / n))


def test_blemishes_lie_in_their_ring_on_different_pixels():
    blemishes = Blemishes(nan=15, low=5, jump=10, hits=4, r_min=5, r_max=16)
    scene = make_scene(blemishes=blemishes)
    pattern = draw_pattern(scene, np.random.default_rng(5))
    every = np.concatenate([pattern.nan, pattern.low, pattern.jump, pattern.hits])
    assert [len(part) for part in (pattern.nan, pattern.low, pattern.jump, pattern.hits)] == [15, 5, 10, 4]
    assert len(np.unique(every, axis=0)) == 34
    distance = np.hypot(every[:, 1] - 31.3, every[:, 0] - 29.6)
    assert distance.min() >= 5
    assert distance.max() <= 16


def test_blemishes_do_what_they_say():
    scene = make_scene(blemishes=Blemishes(nan=15, low=5, jump=10, hits=4))
    image = simulate_image(scene, PSF, np.random.default_rng(6), noise=False)
    pattern, expected = image.pattern, expected_image(scene, PSF)
    assert np.isnan(image.data[at(pattern.nan)]).all()
    assert (image.dq[at(pattern.nan)] == DO_NOT_USE).all()
    assert np.isnan(image.data).sum() == 15
    for layer in (image.err, image.var_poisson, image.var_rnoise):
        np.testing.assert_array_equal(np.isnan(layer), np.isnan(image.data))
    assert (image.data[at(pattern.low)] < scene.background - 3 * np.sqrt(READOUT.read_variance)).all()
    assert (image.dq[at(pattern.low)] == 0).all()
    np.testing.assert_allclose(image.data[at(pattern.jump)], expected[at(pattern.jump)], rtol=1e-6)
    assert (image.dq[at(pattern.jump)] == JUMP_DET).all()
    assert (image.data[at(pattern.hits)] > 1.5 * expected[at(pattern.hits)]).all()
    assert (image.dq[at(pattern.hits)] == 0).all()


def test_the_places_do_not_depend_on_the_noise():
    scene = make_scene(blemishes=Blemishes(nan=15))
    clean, noisy = (simulate_image(scene, PSF, np.random.default_rng(7), noise=noise) for noise in (False, True))
    np.testing.assert_array_equal(clean.dq, noisy.dq)


def test_more_blemishes_than_pixels_are_refused():
    scene = make_scene(blemishes=Blemishes(nan=20, r_min=5, r_max=5.2))
    with pytest.raises(ParameterError, match="20 bad pixels do not fit"):
        draw_pattern(scene, np.random.default_rng(8))


def test_a_core_that_fills_within_two_groups_is_saturated():
    scene = make_scene(star=Star(31.0, 30.0, 5e6))
    image = simulate_image(scene, PSF, np.random.default_rng(9))
    full = expected_image(scene, PSF) * 1.61 * 0.4 > READOUT.full_well
    assert full.any()
    np.testing.assert_array_equal((image.dq & SATURATED) != 0, full)
    np.testing.assert_array_equal(np.isnan(image.data), full)


def test_reference_pixels_are_flagged_and_hold_nothing():
    image = simulate_image(make_scene(reference_border=(1, 4, 0, 2)), PSF, np.random.default_rng(10))
    mask = np.zeros((61, 63), dtype=bool)
    mask[:, :1] = mask[:, -4:] = mask[-2:] = True
    np.testing.assert_array_equal(image.dq != 0, mask)
    assert (image.dq[mask] == (REFERENCE_PIXEL | DO_NOT_USE)).all()
    assert np.isnan(image.data[mask]).all()


def test_integrations_average_to_the_exposure():
    scene = make_scene(blemishes=Blemishes(nan=7, low=3))
    integrations = simulate_integrations(scene, PSF, np.random.default_rng(11))
    image = average(integrations)
    assert len(integrations) == 5
    for integration in integrations:
        np.testing.assert_array_equal(integration.dq, image.dq)
    np.testing.assert_allclose(image.var_rnoise[~np.isnan(image.data)], READOUT.read_variance, rtol=1e-5)
    good = image.dq == 0
    good[at(image.pattern.low)] = False
    pull = ((image.data - expected_image(scene, PSF)) / image.err)[good]
    # 3800 pixels: their standard deviation is known to 1.2 %
    assert pull.std() == pytest.approx(1, abs=0.05)


def test_the_flat_fields_error_is_one_pattern_with_its_variance():
    scene = make_scene(flat_error=0.01, background=1000.0)
    image = simulate_image(scene, PSF, np.random.default_rng(12))
    pull = (image.data - expected_image(scene, PSF)) / image.err
    assert pull.std() == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(np.sqrt(image.var_flat), 0.01 * np.abs(image.data), rtol=1e-4)
    first, second = simulate_integrations(
        make_scene(flat_error=0.01, readout=Readout(0.2, 20, 2)), PSF, np.random.default_rng(13)
    )
    assert first.pattern is second.pattern


@pytest.mark.parametrize("settings", [(0.2, 1, 1), (0.2, 5, 0), (0.0, 5, 1)])
def test_a_readout_without_a_slope_is_refused(settings):
    with pytest.raises(ParameterError):
        Readout(*settings)


def test_one_over_f_noise_runs_along_columns_and_keeps_the_pixels_variance():
    # a sky of nothing: read noise alone
    scene = make_scene(star=Star(31.3, 29.6, 0.0), background=0.0, one_over_f=10.0)
    white = replace(scene, one_over_f=0.0)
    share = (10.0 / (np.sqrt(2) * READOUT.read_noise)) ** 2
    of_columns, of_rows, pixels = [], [], []
    for seed in range(40):
        noise = simulate_image(scene, PSF, np.random.default_rng(seed)).data / np.sqrt(READOUT.read_variance)
        pixels.append(np.mean(noise**2))
        of_columns.append(np.mean(np.diff(noise.mean(axis=0)) ** 2))
        of_rows.append(np.mean(np.diff(noise.mean(axis=1)) ** 2))
    # the slowest wave, 1/18 of the power, is a variance that scatters: 2 % of 40 images
    assert np.mean(pixels) == pytest.approx(1, abs=0.05)
    # means of neighbouring columns of white noise differ by 2 / 61; equal ones with the share of 1/f noise more
    assert np.mean(of_columns) > 2 / 61 * (1 + 3 * share)
    assert np.mean(of_rows) == pytest.approx(2 / 63 * (1 - share), rel=0.15)
    plain = simulate_image(white, PSF, np.random.default_rng(1)).data / np.sqrt(READOUT.read_variance)
    assert np.mean(np.diff(plain.mean(axis=0)) ** 2) == pytest.approx(2 / 61, rel=0.5)


def test_more_one_over_f_noise_than_noise_is_refused():
    with pytest.raises(ParameterError, match="one_over_f must be between 0 and"):
        make_scene(one_over_f=17.0)


def test_ipc_shows_a_share_of_the_charge_in_the_neighbours():
    scene = make_scene(background=100.0, ipc=True)
    sharp = simulate_image(replace(scene, ipc=False), PSF, np.random.default_rng(0), noise=False).data
    image = simulate_image(scene, PSF, np.random.default_rng(0), noise=False).data
    light = sharp[1:-1, 1:-1]
    kernel = np.array(IPC_KERNEL)
    seen = sum(
        kernel[1 + dy, 1 + dx] * sharp[1 - dy : 60 - dy, 1 - dx : 62 - dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)
    )
    np.testing.assert_allclose(image[1:-1, 1:-1], seen / kernel.sum(), rtol=1e-5)
    assert image[1:-1, 1:-1].sum() == pytest.approx(light.sum(), rel=1e-4)
    # photons' noise is correlated between neighbours by 2 * 0.98 * 0.0044 of its variance
    noise = simulate_image(scene, PSF, np.random.default_rng(2)).data - image
    noise /= np.sqrt(image)
    side = np.mean(noise[:, 1:] * noise[:, :-1]) / np.mean(noise**2)
    # 3,800 pairs: 0.016
    assert side == pytest.approx(2 * 0.98 * 0.0047, abs=0.05)
