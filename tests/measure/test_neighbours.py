"""Light that is not the star's is found, and the star's own is not taken for it."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from niriss_eestep.errors import ExposureError
from niriss_eestep.instrument import FILTERS
from niriss_eestep.measure.background import Background
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.measure.quality import find_neighbour
from niriss_eestep.measure.stamp import StarExposure
from niriss_eestep.measure.star_model import PSFModel, star_at
from niriss_eestep.psf.build import Sampling, build_filter, photon_flux
from niriss_eestep.psf.wavefront import INFLIGHT
from niriss_eestep.reference import load_psf_images, load_throughput

SHAPE = (71, 71)
#: what each warning about the surroundings says
SIGNS = ("neighbour", "two stars")


@cache
def psfs():
    return load_psf_images()


def star(name, rng, *, others=(), rate=1e5, time=100.0, noise=True, background=0.5):
    """A star with Poisson noise at a random pixel phase, and other stars (dx, dy, flux relative to it)."""
    x, y = 35 + rng.uniform(-0.5, 0.5, 2)
    image = np.full(SHAPE, background)
    for dx, dy, flux in ((0, 0, 1), *others):
        image += rate * flux * psfs()[name].render(x + dx, y + dy, SHAPE)
    variance = image / (1.61 * time)
    if noise:
        image = image + np.sqrt(variance) * rng.normal(size=SHAPE)
    layers = image, variance, np.zeros(SHAPE, np.uint32), np.zeros(SHAPE, bool)
    return StarExposure("x", *layers, x, y, 0, 0, 0.0656, 1.61)


def signs(profile):
    return [warning for warning in profile.warnings if any(sign in warning for sign in SIGNS)]


@pytest.mark.parametrize("name", FILTERS)
def test_a_star_alone_is_no_neighbour_of_itself(name):
    """Bright and faint, with noise and without, whatever the pixel phase and the centroid."""
    rng = np.random.default_rng(3)
    for settings in ({"noise": False}, {}, {"time": 1e4}, {"rate": 500.0}, {"rate": 500.0, "background": 20.0}):
        for method in ("com", "com", "quadratic", "2dg"):
            assert not signs(measure_ee(star(name, rng, **settings), EEOptions(centroid_method=method)))


@pytest.mark.parametrize("name", ["F090W", "F200W", "F277W", "F480M"])
@pytest.mark.parametrize("flux", [0.1, 1.0, 10.0])
def test_neighbours_are_flagged(name, flux):
    """Of 10, 100 and 1000 % of the star's light, from the core to the outer edge of the sky annulus."""
    rng = np.random.default_rng(4)
    for distance in (4, 5, 7, 10, 12, 15, 18, 20, 22.5, 25):
        angle = rng.uniform(0, 2 * np.pi)
        other = distance * np.cos(angle), distance * np.sin(angle), flux
        try:
            profile = measure_ee(star(name, rng, others=[other]))
        except ExposureError:
            # two stars as bright as each other within 5 pix have no centre in F480M
            assert (name, flux) == ("F480M", 1.0)
            assert distance <= 5
            continue
        assert signs(profile), distance


def test_a_neighbour_is_measured():
    """Where it is, to a pixel, and how bright, to the PSF's wing of a bright star under it."""
    exposure = star("F150W", np.random.default_rng(5), others=[(11.3, -4.4, 0.25)], background=0.0)
    nowhere = Background(0.0, 0.0, weights=np.zeros(SHAPE))
    fraction, x, y, distance = find_neighbour(exposure, star_at(exposure.x, exposure.y, nowhere, PSFModel()), 25.0)
    # the circles' centres are pixels, so the neighbour's light is not all in the best of them
    assert fraction == pytest.approx(0.25, rel=0.1)
    assert (x, y) == (pytest.approx(exposure.x + 11.3, abs=1), pytest.approx(exposure.y - 4.4, abs=1))
    assert distance == pytest.approx(np.hypot(11.3, 4.4), abs=1)


def test_bad_pixels_are_no_neighbours():
    rng = np.random.default_rng(6)
    exposure = star("F200W", rng)
    bad = rng.random(SHAPE) < 0.03
    bad[30:41, 30:41] = False
    image = np.where(bad, rng.choice([np.nan, 1e6, -1e6], SHAPE), exposure.image)
    spoiled = StarExposure("x", image, exposure.variance, exposure.dq, bad, exposure.x, exposure.y, 0, 0, 0.0656, 1.61)
    assert not signs(measure_ee(spoiled))


@pytest.mark.parametrize("name", ["F090W", "F480M"])
def test_hits_in_the_sky_annulus_change_nothing(name):
    """Three unflagged pixels as bright as the star's peak are left out, and are no neighbours."""
    exposure = star(name, np.random.default_rng(7), noise=False)
    image = exposure.image.copy()
    for dx, dy in ((21, 5), (-16, 16), (3, -23)):
        image[35 + dy, 35 + dx] = image.max()
    hit = StarExposure(
        "x", image, exposure.variance, exposure.dq, exposure.bad, exposure.x, exposure.y, 0, 0, 0.0656, 1.61
    )
    clean, profile = measure_ee(exposure), measure_ee(hit)
    assert profile.background.n_rejected - clean.background.n_rejected == 3
    assert not signs(profile)
    # three of 700 pixels less of a background whose starlight is worth up to 4 % of the star within 15 pix
    np.testing.assert_allclose(profile.count_rate, clean.count_rate, rtol=0.04 * 3 / 700)


@cache
def single_wavefronts(name, n):
    """PSFs of single wavefronts in flight, which are not as symmetric as their mean."""
    wavelength, pce = load_throughput().curve(name)
    light = pce * photon_flux(wavelength)
    samplings = [Sampling(n_wavelengths=3, n_realisations=1, n_draws=1, seed=s) for s in range(n)]
    return [build_filter(name, wavelength, light, INFLIGHT, sampling=sampling).image for sampling in samplings]


@pytest.mark.parametrize("name", ["F480M", "F277W"])
def test_one_wavefront_makes_no_neighbour(name):
    """Bright and faint stars, each through a telescope of its own: light on one side that is no neighbour's."""
    rng = np.random.default_rng(8)
    for psf in single_wavefronts(name, 8):
        for rate, time in ((2.5e4 / 1.61, 100.0), (2.5e4 / 1.61, 1e4), (1e3 / 1.61, 100.0)):
            x, y = 35 + rng.uniform(-0.5, 0.5, 2)
            image = 0.5 + rate * psf.render(x, y, SHAPE)
            variance = image / (1.61 * time)
            image = image + np.sqrt(variance) * rng.normal(size=SHAPE)
            layers = image, variance, np.zeros(SHAPE, np.uint32), np.zeros(SHAPE, bool)
            assert not signs(measure_ee(StarExposure("x", *layers, x, y, 0, 0, 0.0656, 1.61)))


@pytest.mark.parametrize("name", ["F480M", "F200W"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_repaired_pixels_of_a_faint_star_are_no_neighbours(name, value):
    """A repaired pixel is as noisy as what it is predicted from, whatever its variance was in the file."""
    rng = np.random.default_rng(9)
    jj, ii = np.indices(SHAPE)
    near = np.flatnonzero(np.abs(np.hypot(jj - 35, ii - 35) - 9.75) < 4.25)
    for _ in range(20):
        exposure = star(name, rng, rate=100 / 1.61, background=0.05)
        image, variance, bad = exposure.image.copy(), exposure.variance.copy(), np.zeros(SHAPE, bool)
        bad.flat[rng.choice(near, 15, replace=False)] = True
        image[bad], variance[bad] = np.nan, value
        assert not signs(measure_ee(replace(exposure, image=image, variance=variance, bad=bad)))
