"""Light lost in the core: what the model PSF, the star's other pixels and the PSF's own uncertainty make of it."""

from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import pytest

from niriss_eestep.errors import ExposureError
from niriss_eestep.measure import core_repair
from niriss_eestep.measure.background import Background
from niriss_eestep.measure.core_repair import psf_covariance, repair_core
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.measure.geometry import distance_grid
from niriss_eestep.measure.stamp import Stamp
from niriss_eestep.measure.star_model import PSFModel, star_at
from niriss_eestep.psf.build import Sampling, build_filter, photon_flux
from niriss_eestep.psf.wavefront import inflight
from niriss_eestep.reference import load_psf_images, load_psfee
from niriss_eestep.reference.stdspec import load_throughput

SIZE, X, Y, LEVEL = 31, 15.2, 14.7, 3.0
SKY = Background(LEVEL, method="constant", weights=np.zeros((SIZE, SIZE)))


def stamp(image, variance=0.0):
    nothing = np.zeros(image.shape, dtype=np.uint32)
    return Stamp("star", image, np.full(image.shape, variance), nothing, nothing > 0, X, Y, 0, 0, 0.0656, 1.61)


def psf_of(name):
    psfee = load_psfee()
    return PSFModel(load_psf_images()[name].render, partial(psfee.ee, name), partial(psfee.ee_err, name))


def lost_pixels(rng, n):
    bad = np.zeros((SIZE, SIZE), dtype=bool)
    bad.flat[rng.choice(np.flatnonzero(distance_grid(bad.shape, X, Y) <= 3), n, replace=False)] = True
    return bad


def repaired(image, bad, psf, variance=0.0, sky=SKY):
    return repair_core(stamp(np.where(bad, np.nan, image), variance), bad, bad, star_at(X, Y, sky, psf), 5.0)


@lru_cache
def single_wavefront(name, number):
    """PSF of one wavefront of 56 to 80 nm rms, every other one without C3's own error."""
    model, rms = inflight(), (56.0, 64.0, 72.0, 80.0)[number % 4]
    if number % 2:
        model = replace(model, segment_rms=30.0, c3_rms=0.0, global_rms=35.0, screen_rms=50.0)
    terms = {
        k: getattr(model, k) * rms / model.total_rms for k in ("segment_rms", "c3_rms", "global_rms", "screen_rms")
    }
    model = replace(model, **terms, scatter=(0.0,) * 5)
    wave, pce = load_throughput().curve(name)
    sampling = Sampling(512, 2, 1, image_half_size=18, n_draws=1, seed=90 + number)
    return build_filter(name, wave, pce * photon_flux(wave), model, sampling=sampling).image


@pytest.mark.parametrize("name", ["F090W", "F200W", "F480M"])
def test_with_the_star_s_own_psf_the_light_is_found(name):
    psf, rng = psf_of(name), np.random.default_rng(1)
    model = psf.render(X, Y, (SIZE, SIZE))
    for n in (1, 5, 10):
        bad = lost_pixels(rng, n)
        found = repaired(LEVEL + 1e4 * model, bad, psf)
        # 1e-3 of the light that is lost is 1e-4 of the star's
        assert np.sum(found.value - LEVEL) == pytest.approx(1e4 * model[bad].sum(), rel=2e-3)


@pytest.mark.parametrize("name", ["F200W", "F480M"])
def test_errors_hold_over_single_wavefronts(name):
    """A width of half or twice the right one gives pulls with 2 or 0.5."""
    psf, rng, pulls = psf_of(name), np.random.default_rng(2), []
    for number in range(8):
        image = LEVEL + 1e4 * single_wavefront(name, number).render(X, Y, (SIZE, SIZE))
        for n in (1, 2, 4, 8) * 3:
            bad = lost_pixels(rng, n)
            found = repaired(image, bad, psf)
            err = np.sqrt(np.sum(found.common_err.sum(axis=1) ** 2))
            pulls.append(np.sum(found.value - image[bad]) / err)
    # eight independent wavefronts
    assert 0.65 < np.std(pulls) < 1.4
    assert abs(np.mean(pulls)) < 4 / np.sqrt(8)


def test_noise_is_in_the_weights_alone():
    psf, rng = psf_of("F200W"), np.random.default_rng(3)
    exact = LEVEL + 1e4 * psf.render(X, Y, (SIZE, SIZE))
    bad, found, n = lost_pixels(rng, 4), [], 400
    claimed = []
    for _ in range(n):
        repair = repaired(exact + 10 * rng.standard_normal(exact.shape), bad, psf, 100.0)
        weights = repair.weights.sum(axis=0)
        found.append(np.sum(repair.value))
        claimed.append((100 * np.sum(weights**2), np.sum(repair.common_err.sum(axis=1) ** 2)))
    noise, own = np.mean(claimed, axis=0)
    # the PSF is right here, so that all the scatter is noise; four sampling errors
    assert np.std(found) == pytest.approx(np.sqrt(noise), rel=4 / np.sqrt(2 * n))
    assert own > 0.05 * noise


def test_errors_are_those_of_the_posterior_with_the_noise_counted_once():
    """A faint star: what the noise leaves unknown, by the joint precision of lost and good pixels."""
    psf, rng, bad = psf_of("F200W"), np.random.default_rng(6), lost_pixels(np.random.default_rng(6), 3)
    image = LEVEL + 300 * psf.render(X, Y, (SIZE, SIZE)) + 3 * rng.standard_normal((SIZE, SIZE))
    star, seen = star_at(X, Y, SKY, psf), np.flatnonzero(~bad & (distance_grid(bad.shape, X, Y) <= 5.0))
    found = repaired(image, bad, psf, 9.0)
    lost = np.flatnonzero(bad)
    _, prior, noise = core_repair._likeliest_prior(stamp(image, 9.0), star, lost, seen, core_repair._SHIFT)
    precision = np.linalg.inv(prior + np.diag(np.append(np.zeros(3), -noise)) + 1e-9 * np.eye(len(prior)))
    precision[3:, 3:] += np.diag(1 / noise)
    weights = found.weights.reshape(3, -1)
    stated = found.common_err.T @ found.common_err + 9.0 * weights @ weights.T
    np.testing.assert_allclose(stated, np.linalg.inv(precision)[:3, :3], rtol=1e-5, atol=1e-6)
    assert np.trace(found.common_err.T @ found.common_err) < 3 * 9.0 * np.sum(weights**2)


def test_the_sky_s_error_goes_into_the_fill():
    psf, bad = psf_of("F200W"), lost_pixels(np.random.default_rng(4), 3)
    ring = distance_grid(bad.shape, X, Y) > 12
    sky = replace(SKY, weights=ring / ring.sum())
    image = LEVEL + 1e4 * star_at(X, Y, sky, psf).model
    low = repaired(image, bad, psf, 1.0, sky)
    high = repaired(image, bad, psf, 1.0, Background(LEVEL + 0.01, method="constant", weights=sky.weights))
    by_weights = low.weights.reshape(3, -1) @ ring.ravel() * 0.01
    np.testing.assert_allclose(high.value - low.value, by_weights, rtol=1e-3)


def test_prior_by_hand():
    model = np.zeros((5, 5))
    model[2, 2], model[2, 3] = 0.4, 0.1
    distance = distance_grid(model.shape, 2.0, 2.0)
    found = psf_covariance(model, np.array([12, 13, 14]), distance, 0.05)
    sharpness = 0.17
    grown = np.minimum(1, (np.array([0, 1, 2]) / 2 * np.sqrt(4 * np.pi * sharpness)) ** 3.5)
    # the third pixel is dark beside the second
    own = np.array([0.4, 0.1, 0.15 * 0.1]) * np.hypot(1.3 * 0.05, 0.6 * np.sqrt(sharpness) * grown)
    common = sharpness * grown * [0.4, 0.1, 0.0]
    # speckles: 0.6 of it is alike over the star's size
    near = 0.6 * np.exp(-0.5 * np.array([1, 4]) * 4 * np.pi * sharpness)
    alike = np.array([[1, near[0], near[1]], [near[0], 1, near[0]], [near[1], near[0], 1]])
    np.testing.assert_allclose(found, alike * np.outer(own, own) + np.outer(common, common))


def test_no_light_is_refused():
    bad = lost_pixels(np.random.default_rng(5), 2)
    with pytest.raises(ExposureError, match="no light of the star"):
        repaired(np.zeros((SIZE, SIZE)), bad, psf_of("F200W"))


def test_a_hot_pixel_beyond_the_apertures_does_not_go_into_a_repair():
    size, x, y = 71, 35.2, 34.7
    psf = psf_of("F200W")
    light = 2000 * psf.render(x, y, (size, size)) + 0.3
    rng = np.random.default_rng(4)
    image, nothing = light + rng.normal(0, 0.01, light.shape), np.zeros(light.shape, dtype=np.uint32)
    bad = nothing > 0
    bad[35, 49] = True  # 14 pix from the star, within the last aperture of 15
    rates = []
    for hot in (0.0, 1e5, 30.0):
        seen = image.copy()
        seen[35, 52] += hot
        taken = np.full(image.shape, 0.01**2) + light / 1e4, nothing, bad, x, y, 0, 0
        rates.append(measure_ee(Stamp("star", seen, *taken, 0.0656, 1.61), EEOptions(), psf).count_rate[-1])
    # the surface of the NaN's neighbours took 1.7 % of it, 1,500 DN/s of 2,000
    np.testing.assert_allclose(rates[1:], rates[0], atol=0.02)
