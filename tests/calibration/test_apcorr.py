import numpy as np
import pytest

from niriss_eestep.calibration.crds_files import EE_FRACTIONS, aperture_corrections, phase_scatter
from niriss_eestep.errors import ParameterError
from niriss_eestep.measure.geometry import aperture_weights
from niriss_eestep.reference import load_psf_images
from niriss_eestep.reference.psf import PSFImage


def moffat(radius, width=1.5, beta=1.6):
    """EE of a Moffat profile, whose wing is strong."""
    return 1.0 - (1.0 + (np.asarray(radius) / width) ** 2) ** (1.0 - beta)


def test_radii_hold_the_light_that_they_say():
    for row in aperture_corrections(moffat):
        exact = 1.5 * np.sqrt((1 - row.eefraction) ** (-1 / 0.6) - 1)
        assert row.radius == pytest.approx(exact, abs=1e-5)
        assert (row.skyin, row.skyout) == (30.0, 40.0)
    assert [row.eefraction for row in aperture_corrections(moffat)] == pytest.approx(EE_FRACTIONS)


def test_corrections_return_the_total_of_a_measured_image():
    # independent derivation: photometry by photutils of a finely sampled image of the profile
    from photutils.aperture import ApertureStats, CircularAnnulus, CircularAperture, aperture_photometry

    fine = 5  # samples per pixel
    edge = (np.arange(60 * fine) + 0.5) / fine - 30
    density = 0.6 / np.pi / 1.5**2 * (1 + (edge**2 + edge[:, np.newaxis] ** 2) / 1.5**2) ** -1.6
    centre = [(30 * fine - 0.5, 30 * fine - 0.5)]
    sky = ApertureStats(density, CircularAnnulus(centre, 20.0 * fine, 25.0 * fine), sum_method="exact").mean
    for row in aperture_corrections(moffat, eefractions=(0.7, 0.8), skyin=20.0, skyout=25.0):
        flux = aperture_photometry(density, CircularAperture(centre, row.radius * fine))["aperture_sum"][0] / fine**2
        total = row.apcorr * (flux - sky * np.pi * row.radius**2)
        # samples smooth the profile as pixels do: 0.8 % at 1 pix, a 25th of that here
        assert total.item() == pytest.approx(1.0, abs=5e-4)


def test_the_annulus_makes_corrections_larger_than_the_inverse_ee():
    excess = [row.apcorr * row.eefraction - 1 for row in aperture_corrections(moffat)]
    assert np.all(np.diff(excess) > 0)
    assert excess[0] > 0
    far = aperture_corrections(moffat, skyin=2000.0, skyout=2100.0)
    assert [row.apcorr * row.eefraction for row in far] == pytest.approx(np.ones(len(far)), abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"skyin": 25.0, "skyout": 20.0}, "0 < skyin < skyout"),
        ({"eefractions": (30,)}, "EE 30 is not reached"),
        ({"eefractions": (0.99,)}, "EE 0.99 is not reached within the sky annulus"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(ParameterError, match=message):
        aperture_corrections(moffat, **change)


def test_pixel_phases_scatter_small_apertures():
    images = load_psf_images()
    # a star on one pixel: an aperture of half a pixel's radius holds pi / 4 of it, and next to nothing at the corner
    narrow = np.zeros((8, 8))
    narrow[3:5, 3:5] = 0.25
    star = PSFImage(narrow, 2, np.array([0.0, 3.0]), np.array([0.0, 1.0]))
    places = [(x, y) for x in (0.25, 0.75) for y in (0.25, 0.75)]
    by_hand = [
        np.sum(aperture_weights((5, 5), 2 + x, 2 + y, np.array([1.0]))[0] * star.render(2 + x, 2 + y, (5, 5)))
        for x, y in places
    ]
    assert phase_scatter(star, np.array([1.0]), 2)[0] == pytest.approx(np.std(by_hand) / np.mean(by_hand), abs=1e-12)
    # the wider the aperture and the redder the filter, the less
    blue, red = (phase_scatter(images[name], np.array([1.0, 2.0, 5.0])) for name in ("F090W", "F480M"))
    assert 0.01 < blue[0] < 0.03
    assert np.all(np.diff(blue) < 0)
    assert red[1] < 0.01
