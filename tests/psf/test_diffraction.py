import numpy as np
import pytest
from scipy.special import erf, j0, j1

from niriss_eestep.errors import ParameterError
from niriss_eestep.psf.diffraction import (
    PIXEL_SCALE,
    ImageGrid,
    detected_spectrum,
    encircled_energy,
    monochromatic_intensity,
    position_of_star,
    shifted,
    sub_pixel_light,
    wavelength_nodes,
)
from niriss_eestep.psf.pupil import PupilGeometry, pixel_centres

RADIAN = np.pi / 180 / 3600


def circular_pupil(diameter, n=512, fine=8):
    """Unobstructed circular aperture, each pixel its clear fraction."""
    x = pixel_centres(n * fine)
    return (x[:, None] ** 2 + x[None, :] ** 2 < (0.5 * diameter) ** 2).reshape(n, fine, n, fine).mean(axis=(1, 3))


@pytest.fixture(scope="module")
def airy():
    """Intensity of a 6 m circle at 4.8 micron, and the Airy argument of each sub-pixel."""
    wavelength, diameter, grid = 4.8e-6, 6.0, ImageGrid(oversample=3, half_size=40)
    pupil = circular_pupil(diameter)
    intensity = monochromatic_intensity(pupil, np.zeros((512, 512), dtype=np.float32), wavelength, grid)
    x = grid.coordinates * PIXEL_SCALE * RADIAN * np.pi * diameter / wavelength
    return intensity, grid, np.hypot(x[:, None], x[None, :]), np.pi * diameter / wavelength * PIXEL_SCALE * RADIAN


def test_circle_gives_the_airy_pattern(airy):
    intensity, _, v, scale = airy
    expected = np.where(v > 0, 2 * j1(v) / np.where(v > 0, v, 1), 1.0) ** 2 * scale**2 / (4 * np.pi)
    # single precision, and the edge's sampling
    assert intensity == pytest.approx(expected, abs=2e-5 * expected.max())


def test_encircled_energy_of_the_airy_pattern(airy):
    intensity, grid, _, scale = airy
    radius = np.array([5.0, 10.0, 20.0, 30.0])
    spectrum = detected_spectrum(intensity, grid, blur=0.0, ipc=False)
    # the two pixels of the definition are taken off, to compare with the formula of a point (Born & Wolf)
    pixel = np.sinc(grid.frequencies)
    ok = np.abs(pixel) > 0.1
    inverse = np.where(ok, 1 / np.where(ok, pixel, 1) ** 2, 0)
    ee = encircled_energy(np.array([spectrum * np.outer(inverse, inverse)]), grid, radius)[0]
    v = scale * radius
    # beyond 0.9 cycles/pix, which the mask drops, 4.8 micron has no light
    assert ee == pytest.approx(1 - j0(v) ** 2 - j1(v) ** 2, abs=2e-4)


def test_gaussian_measured_on_detector_pixels_of_any_phase():
    """The EE is the mean over pixel phases of exact-aperture photometry; the pixels come from the error function."""
    from photutils.geometry import circular_overlap_grid

    sigma, grid, radius = 1.1, ImageGrid(oversample=5, half_size=20), np.array([0.5, 1.0, 2.0, 3.0, 5.0])
    x = grid.coordinates
    gauss = np.exp(-0.5 * (x / sigma) ** 2) / np.sqrt(2 * np.pi) / sigma
    ee = encircled_energy(
        np.array([detected_spectrum(np.outer(gauss, gauss), grid, blur=0.0, ipc=False)]), grid, radius
    )[0]
    n, phases, measured = 31, np.arange(-0.45, 0.5, 0.1), np.zeros(radius.size)
    edges = np.arange(n + 1) - 15.5
    for dy in phases:
        for dx in phases:
            light = [np.diff(0.5 * erf((edges - d) / sigma / np.sqrt(2))) for d in (dy, dx)]
            image = np.outer(*light)
            for i, r in enumerate(radius):
                overlap = circular_overlap_grid(-15.5 - dx, 15.5 - dx, -15.5 - dy, 15.5 - dy, n, n, r, 1, 1)
                measured[i] += np.sum(overlap * image) / phases.size**2
    # 10 x 10 phases average all harmonics of the phase but the tenth, of which the aperture's edge leaves a few 1e-5
    assert ee == pytest.approx(measured, abs=5e-5)


def test_blur_adds_in_quadrature():
    grid, x = ImageGrid(5, 20), ImageGrid(5, 20).coordinates
    narrow, wide = (np.exp(-0.5 * (x / s) ** 2) / np.sqrt(2 * np.pi) / s for s in (1.0, np.hypot(1.0, 0.4)))
    blurred = detected_spectrum(np.outer(narrow, narrow), grid, blur=0.4, ipc=False)
    assert blurred == pytest.approx(detected_spectrum(np.outer(wide, wide), grid, blur=0.0, ipc=False), abs=1e-9)


def test_star_is_found_and_moved_to_the_origin():
    grid = ImageGrid(5, 20)
    x = grid.coordinates
    image = np.outer(np.exp(-0.5 * (x - 0.31) ** 2), np.exp(-0.5 * (x + 0.22) ** 2)).astype(np.float32) / (2 * np.pi)
    px, py = position_of_star(image, grid)
    # symmetric, so the window does not pull it
    assert (px, py) == pytest.approx((-0.22, 0.31), abs=1e-4)
    light = sub_pixel_light(shifted(detected_spectrum(image, grid, blur=0.0, ipc=False), grid, px, py), grid, 10)
    assert light == pytest.approx(light[::-1, ::-1], abs=1e-6)
    assert light.sum() == pytest.approx(1, abs=1e-5)


def test_halving_the_pupil_pixels_moves_no_ee():
    """The figures of the README are for all filters; here one wavelength without wavefront error."""
    grid, radius = ImageGrid(3, 40), np.array([2.0, 5.0, 10.0, 25.0, 35.0])
    ee = []
    for n in (512, 1024):
        pupil = PupilGeometry().sample(n, clearp=True)
        intensity = monochromatic_intensity(pupil, np.zeros((n, n), dtype=np.float32), 4.3e-6, grid)
        ee.append(
            encircled_energy(np.array([detected_spectrum(intensity, grid, blur=0.2, ipc=False)]), grid, radius)[0]
        )
    assert ee[0] == pytest.approx(ee[1], abs=2e-4)


def test_nodes_keep_the_mean_wavelength_and_the_light():
    wavelength = np.linspace(1.0, 2.0, 301)
    weight = np.exp(-0.5 * ((wavelength - 1.4) / 0.1) ** 2) * wavelength
    nodes, fractions = wavelength_nodes(wavelength, weight, 5)
    assert fractions.sum() == pytest.approx(1)
    assert np.all(np.diff(nodes) > 0)
    # the last cuts fall between samples of the band: one step, 1/300, of an edge's light
    assert nodes @ fractions == pytest.approx(np.average(wavelength, weights=weight), rel=1e-3)


def test_band_without_light_is_refused():
    with pytest.raises(ParameterError, match="zero everywhere"):
        wavelength_nodes(np.linspace(1, 2, 10), np.zeros(10), 3)
