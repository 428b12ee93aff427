import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from niriss_eestep.errors import ParameterError, ReferenceDataError
from niriss_eestep.psf.stpsf import image_encircled_energy
from niriss_eestep.reference import load_psf_images, load_psfee, write_psf_images
from niriss_eestep.reference.psf import PSFImage

SIGMA, OVERSAMPLE, HALF = 0.8, 4, 12
phases = st.floats(-0.5, 0.5)


def gaussian_psf():
    """Gaussian that holds 0.9 of the light, and a wing of 0.1 beyond 12 pix that falls as 1/r^3."""
    edges = np.arange(2 * HALF * OVERSAMPLE + 1) / OVERSAMPLE - HALF
    part = np.diff(0.5 * erf(edges / SIGMA / np.sqrt(2)))
    light = 0.9 * np.outer(part, part)
    centres = 0.5 * (edges[1:] + edges[:-1])
    distance = np.hypot(centres[:, None], centres[None, :])
    light[distance > HALF] += 1.2 / (2 * np.pi * distance[distance > HALF] ** 3) / OVERSAMPLE**2
    radius = np.arange(0, 401) / 20
    ee = 0.9 * (1 - np.exp(-0.5 * (radius / SIGMA) ** 2)) + 0.1 * (1 - 12 / np.maximum(radius, 12))
    return PSFImage(light.astype(np.float32), OVERSAMPLE, radius, ee)


def pixel_light(x, y, n):
    edges = np.arange(n + 1) - 0.5
    return 0.9 * np.outer(*(np.diff(0.5 * erf((edges - p) / SIGMA / np.sqrt(2))) for p in (y, x)))


@pytest.fixture(scope="module")
def gaussian():
    return gaussian_psf()


@pytest.fixture(scope="module")
def images():
    return load_psf_images()


@given(dx=phases, dy=phases)
@settings(max_examples=25, deadline=None)
def test_pixels_are_integrated_exactly_at_any_phase(gaussian, dx, dy):
    # a spline of the 5th degree through samples every 0.31 sigma: 1e-6 of the peak
    assert gaussian.render(7 + dx, 7 + dy, (15, 15)) == pytest.approx(pixel_light(7 + dx, 7 + dy, 15), abs=2e-6)


@given(dx=phases, dy=phases)
@settings(max_examples=25, deadline=None)
def test_light_is_conserved_at_any_phase(gaussian, dx, dy):
    stamp = gaussian.render(7 + dx, 7 + dy, (15, 15))
    assert stamp.sum() == pytest.approx(0.9, abs=1e-6)


def test_whole_pixels_move_the_image(gaussian):
    stamp = gaussian.render(9.3, 8.6, (20, 22))
    assert gaussian.render(11.3, 9.6, (20, 22))[1:, 2:] == pytest.approx(stamp[:-1, :-2], abs=1e-12)


def test_star_off_the_stamp_leaves_its_wing(gaussian):
    stamp = gaussian.render(-30.0, 5.0, (11, 11))
    distance = np.hypot(np.arange(11)[None, :] + 30, np.arange(11)[:, None] - 5)
    # 1 - EE = 1.2 / r beyond 12 pix: brightness 1.2 / (2 pi r^3)
    assert stamp == pytest.approx(1.2 / (2 * np.pi * distance**3), rel=1e-3)


def test_the_wing_carries_the_rest_of_the_light(gaussian):
    n = 1201
    x = np.arange(n) - n // 2
    inside = np.hypot(x[:, None], x[None, :]) < 600
    # 1 - EE(600 pix) is 1.2 / 600; the circle of 12 pix and the sky's pixels do not meet exactly
    assert gaussian.render(600.0, 600.0, (n, n))[inside].sum() == pytest.approx(1 - 1.2 / 600, abs=5e-4)


def test_rendering_is_the_same_in_a_stamp_and_in_a_larger_image(gaussian):
    large = gaussian.render(30.2, 31.4, (64, 64))
    assert large[22:42, 21:41] == pytest.approx(gaussian.render(9.2, 9.4, (20, 20)), abs=1e-12)


@pytest.mark.parametrize(
    ("shape", "radius", "message"),
    [
        ((30, 32), [0.0, 50.0], r"light must be square, of an even number of pixels of 4, got \(30, 32\)"),
        ((36, 36), [0.0, 50.0], "light must be square"),
        ((32, 32), [0.0, 3.0], "must rise, to the image's 4 pix or more"),
        ((32, 32), [0.0, 8.0, 8.0], "must rise"),
        ((32, 32), [0.0, np.nan, 8.0], "must rise"),
        ((32, 32), [8.0], "must rise"),
    ],
)
def test_images_that_cannot_be_are_refused_when_they_are_read(tmp_path, shape, radius, message):
    image = PSFImage(np.zeros(shape, np.float32), 4, np.array(radius), np.linspace(0.0, 0.9, len(radius)))
    write_psf_images({"F200W": image}, tmp_path / "odd.asdf")
    with pytest.raises(ReferenceDataError, match=rf"odd\.asdf: PSF image of F200W: .*{message}"):
        load_psf_images(tmp_path / "odd.asdf")


def measured(image, x, y, radii):
    from photutils.geometry import circular_overlap_grid

    ny, nx = image.shape
    return np.array(
        [
            np.vdot(image, circular_overlap_grid(-0.5 - x, nx - 0.5 - x, -0.5 - y, ny - 0.5 - y, nx, ny, r, 1, 1))
            for r in radii
        ]
    )


@pytest.mark.parametrize("name", load_psfee().filters)
def test_packaged_ee_recovers_the_light_of_a_rendered_star(images, name):
    """A star of any pixel phase, divided by the EE at 5 to 10 pix, gives its total within 0.05 %."""
    rng = np.random.default_rng(8)
    radii = np.arange(5.0, 11.0)
    ee = load_psfee().ee(name, radii)
    for x, y in 12 + rng.uniform(-0.5, 0.5, (12, 2)):
        total = np.mean(measured(images[name].render(x, y, (25, 25)), x, y, radii) / ee)
        assert total == pytest.approx(1, abs=5e-4)


@pytest.mark.parametrize("name", ["F090W", "F277W", "F480M"])
def test_packaged_image_has_the_packaged_ee_on_average_over_phases(images, name):
    radii = np.array([2.0, 3.0, 5.0, 10.0, 25.0, 45.0, 55.0])

    def mean_over_phases(n, middle, radii):
        phases = (np.arange(n) + 0.5) / n - 0.5
        at = [(middle + dx, middle + dy) for dx in phases for dy in phases]
        size = 2 * middle + 1
        return np.mean([measured(images[name].render(x, y, (size, size)), x, y, radii) for x, y in at], axis=0)

    table = load_psfee()
    # n x n phases leave the nth harmonic, which at 1 pix is 2e-4 for n = 6 in F090W and half of it for n = 12
    assert np.abs(mean_over_phases(12, 4, np.array([1.0])) - table.ee(name, [1.0]))[0] < 5e-4
    # beyond the image's 40 pix the wing is a mean over azimuth; scaling the image to the table's EE leaves 1.0e-4 at
    # 2 pix of F090W (12 or 18 phases), less than 0.3e-4 elsewhere
    assert np.abs(mean_over_phases(6, 58, radii) - table.ee(name, radii)).max() < 1.2e-4


def test_image_ee_is_the_mean_over_phases_of_exact_photometry():
    image = gaussian_psf().light.astype(float)
    radii = np.array([0.7, 1.0, 2.0, 4.0])
    expected = np.mean(
        [
            measured(pixel_light(10 + i / 4, 10 + j / 4, 21), 10 + i / 4, 10 + j / 4, radii)
            for i in range(4)
            for j in range(4)
        ],
        axis=0,
    )
    # the phases differ by an eighth of a pixel between the two
    assert image_encircled_energy(image, OVERSAMPLE, radii) == pytest.approx(expected, abs=1e-3)


def test_image_ee_beyond_the_image_is_refused():
    with pytest.raises(ParameterError, match="a radius of 12 pix does not fit"):
        image_encircled_energy(gaussian_psf().light.astype(float), OVERSAMPLE, np.array([12.0]))


def test_importing_the_image_brings_no_optics():
    code = "import sys, niriss_eestep.reference.psf; sys.exit('poppy' in sys.modules or 'asdf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
