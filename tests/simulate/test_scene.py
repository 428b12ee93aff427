from dataclasses import replace

import numpy as np
import pytest
from gaussian import GaussianPSF
from stdatamodels.jwst.datamodels.dqflags import pixel

from niriss_eestep.errors import ParameterError
from niriss_eestep.reference import load_psf_images
from niriss_eestep.simulate import scene as scene_module
from niriss_eestep.simulate.detector import Readout, get_subarray
from niriss_eestep.simulate.effects import Effects, line_noise, migrated, seen_in
from niriss_eestep.simulate.scene import (
    DO_NOT_USE,
    JUMP_DET,
    REFERENCE_PIXEL,
    SATURATED,
    Blemishes,
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
    scene = make_scene(effects=Effects(flat_error=0.01), background=1000.0)
    image = simulate_image(scene, PSF, np.random.default_rng(12))
    pull = (image.data - expected_image(scene, PSF)) / image.err
    assert pull.std() == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(np.sqrt(image.var_flat), 0.01 * np.abs(image.data), rtol=1e-4)
    first, second = simulate_integrations(
        make_scene(effects=Effects(flat_error=0.01), readout=Readout(0.2, 20, 2)), PSF, np.random.default_rng(13)
    )
    assert first.pattern is second.pattern


@pytest.mark.parametrize("settings", [(0.2, 1, 1), (0.2, 5, 0), (0.0, 5, 1)])
def test_a_readout_without_a_slope_is_refused(settings):
    with pytest.raises(ParameterError):
        Readout(*settings)


def test_one_over_f_noise_runs_along_columns_and_keeps_the_pixels_variance():
    # a sky of nothing: read noise alone
    scene = make_scene(star=Star(31.3, 29.6, 0.0), background=0.0, effects=Effects(one_over_f=10.0))
    white = replace(scene, effects=Effects())
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
        make_scene(effects=Effects(one_over_f=17.0))


def noise_of(scene, n=12):
    """Images less what is expected, over the photons' noise, shape (n, ny, nx)."""
    expected, rng = expected_image(scene, PSF), np.random.default_rng(2)
    images = [simulate_image(scene, PSF, rng, expected=expected).data - expected for _ in range(n)]
    return np.array(images) / np.sqrt(expected)


def test_ipc_correlates_the_noise_of_photons_and_leaves_the_light():
    # the PSF's images hold the capacitance already
    scene = make_scene(background=1000.0, effects=Effects(ipc=True))
    plain = replace(scene, effects=Effects())
    images = [simulate_image(each, PSF, np.random.default_rng(0), noise=False).data for each in (scene, plain)]
    np.testing.assert_array_equal(*images)
    share = {}
    for each in (scene, plain):
        noise = noise_of(each)
        pairs = (noise[:, :, 1:] * noise[:, :, :-1], noise[:, 1:] * noise[:, :-1])
        share[each is scene] = [np.mean(pair) / np.mean(noise**2) for pair in pairs]
    # neighbours share 2 * 0.98 * 0.0047 of the variance along rows, 0.0045 along columns; 45,000 pairs know it to 0.005
    assert share[True] == pytest.approx([2 * 0.98 * 0.00471, 2 * 0.98 * 0.0045], abs=0.012)
    assert np.subtract(share[True], share[False]) == pytest.approx([0.0092, 0.0088], abs=0.003)


def test_the_fast_axis_turns_the_noise_and_amplifiers_divide_it():
    columns, rows = (line_noise((40, 40), np.random.default_rng(1), fast_axis=axis) for axis in ("columns", "rows"))
    np.testing.assert_array_equal(columns, rows.T)
    four = line_noise((64, 30), np.random.default_rng(1), outputs=4)
    parts = four.reshape(4, 16, 30).mean(axis=1)
    # amplifiers are independent; of one, the halves of a column are not
    assert np.abs(np.corrcoef(parts) - np.eye(4)).max() < 0.6
    assert four.shape == (64, 30)


def test_charge_beyond_the_threshold_moves_to_the_four_neighbours():
    scene = make_scene(star=Star(31.0, 30.0, 2e5))
    threshold = 0.5 * expected_image(scene, PSF).max() * READOUT.integration_time
    images = [
        simulate_image(replace(scene, effects=effects), PSF, np.random.default_rng(0), noise=False).data.astype(float)
        for effects in (Effects(), Effects(migration=threshold))
    ]
    change = images[1] - images[0]
    assert change[30, 31] < 0 < change[30, 40] + 1e-9
    assert change[30, 33] > 0
    assert abs(change.sum()) < 1e-6 * images[0].sum()
    # the peak by straight lines through ramps that lose a tenth of what is beyond the threshold
    time = np.linspace(0, READOUT.integration_time, 2001)
    peak = expected_image(scene, PSF)[30, 31] * time
    slope = np.polyfit(time, peak - 0.1 * np.maximum(peak - threshold, 0), 1)[0]
    moved = migrated(np.array([[0.0, 0, 0], [0, images[0][30, 31], 0], [0, 0, 0]]), READOUT.integration_time, threshold)
    assert moved[1, 1] == pytest.approx(slope, rel=1e-3)
    assert moved[0, 1] == pytest.approx((images[0][30, 31] - slope) / 4, rel=0.02)


def test_the_flat_fields_error_may_be_correlated_and_unstated():
    scene = make_scene(background=1000.0, effects=Effects(flat_error=0.01, flat_scale=3.0, flat_unstated=True))
    image = simulate_image(scene, PSF, np.random.default_rng(5))
    assert not image.var_flat.any()
    error = np.array([draw_pattern(scene, np.random.default_rng(seed)).flat - 1 for seed in range(30)])
    assert error.std() == pytest.approx(0.01, rel=0.1)
    lag = np.mean(error[:, :, 3:] * error[:, :, :-3]) / np.mean(error**2)
    assert lag == pytest.approx(np.exp(-0.5), abs=0.07)


def test_a_response_is_seen_in_the_rate_and_its_subarray_is_cut_out():
    response = np.random.default_rng(3).normal(1.0, 0.025, (2048, 2048))
    response[2000, 2000] = np.nan
    array = get_subarray("SUB64")
    effects = seen_in(Effects(response=response), array, 1)
    np.testing.assert_array_equal(effects.response[:10, :10], response[1984:1994, 1984:1994])
    assert effects.response[16, 16] == 1.0
    scene = make_scene(shape=(64, 64), effects=effects)
    plain = simulate_image(replace(scene, effects=Effects()), PSF, np.random.default_rng(0), noise=False)
    image = simulate_image(scene, PSF, np.random.default_rng(0), noise=False)
    np.testing.assert_allclose(image.data, plain.data * effects.response, rtol=1e-5)
    with pytest.raises(ParameterError, match="the response has shape"):
        seen_in(Effects(response=np.ones((7, 7))), array, 1)


def test_a_snowball_is_a_plateau_in_the_first_exposure():
    scene = make_scene(effects=Effects(snowballs=1, snowball_height=8.0, snowball_width=5.0))
    added = draw_pattern(scene, np.random.default_rng(4)).added * READOUT.gain
    assert added.max() == pytest.approx(8.0, rel=0.01)
    # an edge by the logistic function of width w adds pi^2 w^2 / 3 to the square of the radius
    assert added.sum() == pytest.approx(8.0 * np.pi * (2.5**2 + np.pi**2 * 0.35**2 / 3), rel=0.02)
    row, column = np.unravel_index(np.argmax(added), added.shape)
    assert 4 < np.hypot(row - 29.6, column - 31.3) < 17
    image = simulate_image(scene, PSF, np.random.default_rng(4), noise=False)
    assert image.dq[row, column] == 0
    assert seen_in(scene.effects, get_subarray("SUB64"), 2).snowballs == 0


def test_the_sky_is_curved_structured_and_seen_by_pixels_of_unequal_area():
    scene = make_scene(star=Star(31.3, 29.6, 0.0), background=10.0, effects=Effects(curvature=5e-4))
    image = expected_image(scene, PSF)
    assert image[30, 31] == pytest.approx(10.0)
    assert image[30, 41] == pytest.approx(10.0 * (1 + 5e-4 * 100))
    area = expected_image(replace(scene, effects=Effects(area_gradient=0.02)), PSF)
    assert area[30, [0, 31, 62]] == pytest.approx([9.9, 10.0, 10.1])
    added = draw_pattern(replace(scene, effects=Effects(structure=0.1)), np.random.default_rng(1)).added
    assert 0.2 < added.std() < 2.0
    assert np.abs(np.diff(added, axis=0)).max() < 0.2


def test_pixels_that_are_not_square_see_a_star_flattened():
    psf = load_psf_images()["F480M"]
    wide = replace(psf, aspect=1.2)
    images = [each.render(30.2, 29.7, (61, 61)) for each in (psf, wide)]
    assert images[1].sum() == pytest.approx(images[0].sum(), abs=2e-3)
    j, i = np.indices((61, 61))
    near = np.hypot(j - 29.7, i - 30.2) < 8
    widths = [[np.sum(np.abs(at - centre) * near * image) for at, centre in ((j, 29.7), (i, 30.2))] for image in images]
    (tall, across), (flat, stretched) = widths
    # first moments go with the scale: 1.2 between the axes
    assert (stretched / across) / (flat / tall) == pytest.approx(1.2, rel=0.05)
    scene = make_scene(effects=Effects(aspect=1.2))
    np.testing.assert_allclose(
        expected_image(scene, psf) - scene.background,
        wide.render(31.3, 29.6, scene.shape) * scene.star.electron_rate / READOUT.gain,
    )


@pytest.mark.parametrize("wrong", [{"one_over_f": -1}, {"fast_axis": "no"}, {"aspect": 3.0}, {"structure": np.nan}])
def test_effects_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        Effects(**wrong)
