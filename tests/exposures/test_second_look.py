"""Exposures whose coordinates point where the star is not: the star is found, or the exposure fails, and says why."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from niriss_eestep.errors import ExposureError
from niriss_eestep.exposures.cut import Field, second_look
from niriss_eestep.flux.synthetic import StandardSpectrum, expected_rate
from niriss_eestep.instrument import GAIN
from niriss_eestep.measure.position import Centroid, find_sources, source_at, the_star
from niriss_eestep.measure.stamp import StarExposure
from niriss_eestep.reference import load_psf_images, load_psfee, load_spectrum, load_throughput, write_spectrum
from niriss_eestep.steps import FluxCalPipeline

RATE = 1e4  # of the star [DN/s]
NAME = "F200W"


@pytest.fixture(scope="module")
def psf():
    return load_psf_images()[NAME]


@pytest.fixture(scope="module")
def ee():
    return partial(load_psfee().ee, NAME)


def place_of(x, y):
    return Centroid(x, y, np.nan, np.nan, 0.0, "given")


def exposure_of(light, sky=1.0, seed=1, time=100.0):
    """Exposure with photon and read noise of an image of count rates."""
    variance = (light + sky) / GAIN / time + 0.01
    image = light + sky + np.random.default_rng(seed).normal(0, 1, light.shape) * np.sqrt(variance)
    bad = np.zeros(light.shape, bool)
    return StarExposure("x", image, variance, bad.astype(np.uint32), bad, 50, 50, 7, 9, 0.0656, GAIN)


@pytest.mark.parametrize("place", [(50.0, 50.0), (50.4, 49.7), (49.5, 50.5)])
@pytest.mark.parametrize("rate", [100.0, 1e4, 1e6])
def test_a_star_is_one_and_has_its_flux(psf, ee, place, rate):
    exposure = exposure_of(rate * psf.render(*place, (101, 101)))
    found = source_at(exposure, place_of(place[0] + 7, place[1] + 9), ee)
    assert found.is_star
    # the light in the sky annulus, pixel phases; and the noise
    assert abs(found.rate - rate) < 0.03 * rate + 4 * found.rate_err
    # pixels without a value in its core are allowed for, were it round
    exposure.bad[50, 50] = exposure.bad[51, 50] = True
    exposure.image[exposure.bad] = np.nan
    found = source_at(exposure, place_of(place[0] + 7, place[1] + 9), ee)
    assert found.rate == pytest.approx(rate, rel=0.25, abs=4 * found.rate_err)


def test_what_is_no_star(psf, ee):
    hot, wide = np.zeros((2, 101, 101))
    hot[50, 50] = RATE
    wide[46:55, 46:55] = RATE / 81
    for light in (hot, wide):
        found = source_at(exposure_of(light), place_of(57.0, 59.0), ee)
        assert found.is_significant
        assert not found.is_star
    noise = [source_at(exposure_of(np.zeros((101, 101)), seed=seed), place_of(57.0, 59.0), ee) for seed in range(200)]
    assert not any(found.is_significant for found in noise)
    pulls = np.array([found.rate / found.rate_err for found in noise])
    # the error of a coarse photometry: sky by the median of 20 pixels a side
    assert pulls.std() == pytest.approx(1, abs=4 / np.sqrt(400) + 0.1)
    assert not source_at(exposure_of(hot), place_of(300.0, 300.0), ee).is_significant


def test_sources_are_found_and_the_star_among_them(psf, ee):
    places = {(30.2, 70.4): 3.0, (53.0, 69.7): 1.0, (70.0, 30.0): 0.2}
    light = sum(RATE * share * psf.render(*place, (101, 101)) for place, share in places.items())
    light[20, 20] += 5 * RATE
    found = find_sources(exposure_of(light), ee)
    stars = [source for source in found if source.is_star][:3]
    assert [(round(s.x - 7), round(s.y - 9)) for s in stars] == [(30, 70), (53, 70), (70, 30)]
    # the first position is at the brighter one
    first, others = stars[0], [source for source in found if source is not stars[0]]
    assert the_star(first, others, RATE) is stars[1]
    # none has what the spectrum says, or there is none: what stands there is it
    assert the_star(first, others, 20 * RATE) is first
    assert the_star(first, others, None) is first
    # an empty place: the brightest that is like a star
    empty = replace(first, rate=0.0, is_significant=False, is_star=False)
    assert the_star(empty, found, None) is stars[0]
    assert the_star(empty, found, 0.2 * RATE) is stars[2]
    assert the_star(empty, found, 20 * RATE) is None
    assert the_star(empty, [], None) is None
    # the wing of a star that is 100 times brighter
    wing = replace(first, rate=0.02 * RATE, is_star=False)
    assert the_star(wing, found, None) is stars[0]
    assert the_star(wing, found, 20 * RATE) is None
    assert the_star(replace(wing, rate=0.5 * RATE), found, None).rate == 0.5 * RATE


def point(path, dx, dy, light=None):
    """Move the target's coordinates, and add light to the image."""
    with fits.open(path, mode="update") as hdus:
        wcs = WCS(hdus["SCI"].header)
        x, y = (float(v) for v in wcs.all_world2pix(hdus[0].header["TARG_RA"], hdus[0].header["TARG_DEC"], 0))
        ra, dec = (float(v) for v in wcs.all_pix2world(x + dx, y + dy, 0))
        hdus[0].header["TARG_RA"], hdus[0].header["TARG_DEC"] = ra, dec
        if light is not None:
            added = light(x, y, hdus["SCI"].data.shape).astype("f4")
            hdus["SCI"].data += added
            for name in ("VAR_POISSON", "ERR"):
                squares = hdus[name].data ** (1 if name == "VAR_POISSON" else 2)
                squares = np.maximum(squares + added / GAIN / hdus[0].header["EFFEXPTM"], 1e-6)
                hdus[name].data = squares if name == "VAR_POISSON" else np.sqrt(squares)


@pytest.fixture
def visit(tmp_path, monkeypatch):
    """Make one exposure of a standard star in SUB128, and the path of its association's directory."""
    from niriss_eestep.cli import main

    assert main(["simulate", str(tmp_path), "--filters=F200W", "--dithers=1", "--seed=5", "--no-progress"]) in (0, None)
    monkeypatch.setenv("PYSYN_CDBS", str(tmp_path))
    return next(tmp_path.glob("*_rate.fits")), next(tmp_path.glob("*_asn.json"))


@pytest.mark.filterwarnings("ignore:.*datfix")
@pytest.mark.parametrize("offset", [(16, 12), (-60, 80), (120, 0)])
def test_a_star_elsewhere_is_measured_and_told(visit, offset):
    rate, asn = visit
    right = FluxCalPipeline.call(str(asn), save_results=False)
    point(rate, *offset)
    found = FluxCalPipeline.call(str(asn), save_results=False)
    assert found.table["ratio"][0] == pytest.approx(right.table["ratio"][0], rel=1e-4)
    assert found.exposures["x_center"][0] == pytest.approx(right.exposures["x_center"][0], abs=1e-3)
    assert "the star is the one at x=" in found.exposures["status"][0]
    assert right.exposures["status"][0] == "measured"


@pytest.mark.filterwarnings("ignore:.*datfix")
def test_a_brighter_star_is_not_the_target(visit, psf):
    rate, asn = visit
    star = FluxCalPipeline.call(str(asn), save_results=False).table["count_rate"][0]
    point(rate, 23, 0, lambda x, y, shape: 3 * star * psf.render(x + 23, y, shape))
    found = FluxCalPipeline.call(str(asn), save_results=False)
    assert found.table["ratio"][0] == pytest.approx(1, abs=0.02)
    assert "3 of the expected rate); the star is the one at x=" in found.exposures["status"][0]


@pytest.mark.filterwarnings("ignore:.*datfix")
@pytest.mark.parametrize("override", [False, True])
def test_a_spectrum_that_is_written_anew_counts_in_the_same_session(visit, psf, tmp_path, override):
    rate, asn = visit
    (path,) = (tmp_path / "calspec").glob("*.fits")
    steps = {"abs_flux": {"override_stdspec": str(path)} if override else {}}
    run = partial(FluxCalPipeline.call, str(asn), save_results=False, steps=steps)
    star = run().table["count_rate"][0]
    point(rate, 23, 0, lambda x, y, shape: 3 * star * psf.render(x + 23, y, shape))
    assert "3 of the expected rate); the star is the one at x=" in run().exposures["status"][0]
    # now the brighter one has the star's rate
    spectrum = load_spectrum(path)
    write_spectrum(replace(spectrum, flux=3 * spectrum.flux), path)
    found = run()
    assert "the star is the one at x=" not in found.exposures["status"][0]
    assert found.table["count_rate"][0] == pytest.approx(3 * star, rel=0.02)


@pytest.mark.filterwarnings("ignore:.*datfix")
def test_without_a_star_the_exposure_fails_for_ee_and_sb_and_says_why(visit, psf):
    from niriss_eestep.steps import SBProfileStep

    rate, asn = visit
    star = FluxCalPipeline.call(str(asn), save_results=False).table["count_rate"][0]
    point(rate, 30, 0, lambda x, y, shape: -0.9 * star * psf.render(x, y, shape))
    with pytest.raises(
        ExposureError, match=r"no star at x=.*the brightest source is at x=.*(2[5-9]|3[0-5]) pix away.*source_x"
    ):
        FluxCalPipeline.call(str(asn), save_results=False)
    with pytest.raises(ExposureError, match="no star at x="):
        SBProfileStep.call(str(rate))
    # a position that the user gives is not left for another
    with pytest.raises(ExposureError, match=r"no star at x=(1[5-9]|2[0-5])\."):
        SBProfileStep.call(str(rate), source_x=20, source_y=20)


def test_without_a_spectrum_the_header_decides_between_stars_and_the_other_is_told(psf, tmp_path):
    """The coordinates point at empty sky; of two stars elsewhere the brighter is not where the header says."""
    exposure = exposure_of(RATE * sum(s * psf.render(*p, (101, 101)) for p, s in (((30, 70), 1.0), ((70, 30), 2.0))))
    field = Field(
        [], "a star", NAME, True, 1, 57.0, 59.0, None, 0.0656, 1.0, False, None, (),
        places=[(57, 59, "gwcs"), (38, 80, "moved")],
    )  # fmt: skip
    wavelength, spectrum = np.linspace(1e4, 3e4, 1000), tmp_path / "star_mod_001.fits"
    flat = StandardSpectrum("a star", wavelength, np.ones(1000))
    flux = RATE * GAIN / expected_rate(flat, *load_throughput().curve(NAME), name=NAME).electron_rate
    write_spectrum(replace(flat, flux=flux * flat.flux), spectrum)

    def look(places, path=tmp_path / "none.fits"):
        first, field_there = place_of(57.0, 59.0), replace(field, places=places)
        return second_look([exposure], first, field_there, {"stdspec": path}, cut, is_given=False)

    def cut(_, half_size):
        return [exposure]

    found = look(field.places)
    assert (round(found.x), round(found.y)) == (37, 79)
    assert "the star is the one at x=37" in found.warnings[0]
    assert "no spectrum tells the star from the source at x=77.0, y=39.0" in found.warnings[1]
    # nobody but the brightness says which, and that is told; a spectrum decides by itself
    brightest = look(field.places[:1])
    assert (round(brightest.x), round(brightest.y)) == (77, 39)
    assert "no spectrum tells the star from the source at x=37.0, y=79.0" in brightest.warnings[1]
    by_spectrum = look(field.places[:1], spectrum)
    assert (round(by_spectrum.x), round(by_spectrum.y)) == (37, 79)
    assert len(by_spectrum.warnings) == 1


@pytest.mark.filterwarnings("ignore:.*datfix")
def test_two_stars_where_the_star_may_be_are_told(visit, psf):
    """One where the header has the target, one where its proper motion puts it."""
    rate, asn = visit
    star = FluxCalPipeline.call(str(asn), save_results=False).table["count_rate"][0]
    point(rate, 0, 0, lambda x, y, shape: 0.8 * star * psf.render(x + 15, y, shape))
    with fits.open(rate, mode="update") as hdus:
        header, wcs = hdus[0].header, WCS(hdus["SCI"].header)
        x, y = (float(v) for v in wcs.all_world2pix(header["TARG_RA"], header["TARG_DEC"], 0))
        ra, dec = (float(v) for v in wcs.all_pix2world(x + 15, y, 0))
        years = (header["EXPMID"] - 51544.5) / 365.25
        header["MU_RA"] = (ra - header["TARG_RA"]) * np.cos(np.deg2rad(dec)) * 3600 / years
        header["MU_DEC"], header["MU_EPOCH"] = (dec - header["TARG_DEC"]) * 3600 / years, "2000.0"
        header["PROP_RA"], header["PROP_DEC"] = header["TARG_RA"], header["TARG_DEC"]
    found = FluxCalPipeline.call(str(asn), save_results=False)
    assert found.exposures["x_center"][0] == pytest.approx(x, abs=1)
    assert "two places for the star: a source is also at x=" in found.exposures["status"][0]
