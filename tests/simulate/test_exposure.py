import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from gaussian import GaussianPSF
from stcal.ramp_fitting.ramp_fit import ramp_fit
from stdatamodels.jwst import datamodels
from stdatamodels.jwst.datamodels.dqflags import pixel

from niriss_eestep.instrument import FILTERS
from niriss_eestep.simulate.detector import (
    SUBARRAYS,
    ExposureName,
    ExposureSetup,
    Readout,
    Subarray,
    Target,
    choose_readout,
)
from niriss_eestep.simulate.effects import Effects
from niriss_eestep.simulate.exposure import cal_model, rate_model, rateints_model, sky_wcs, write_model
from niriss_eestep.simulate.scene import (
    Blemishes,
    Scene,
    Star,
    average,
    draw_pattern,
    expected_image,
    simulate_image,
    simulate_integrations,
)

TARGET = Target("WD1057+719", 165.142679, 71.634147)
READOUT = Readout(0.05016, 10, 3)
NAME = ExposureName(1094, 3, visit_group=4, exposure=2)


def make_setup(subarray="SUB64", filter_name="F090W", x=30.2, y=33.7, **changes):
    return ExposureSetup(NAME, TARGET, filter_name, SUBARRAYS[subarray], READOUT, x, y, **changes)


def make_image(seed=1, **changes):
    return simulate_image(make_scene(**changes), GaussianPSF(1.5), np.random.default_rng(seed))


def make_scene(**changes):
    settings = {"shape": (64, 64), "star": Star(30.0, 34.0, 1e5), "readout": READOUT, "background": 0.8}
    settings["blemishes"] = Blemishes(nan=9, jump=4)
    return Scene(**(settings | changes))


def wcs_of(path):
    header = fits.getheader(path, "SCI")
    keys = ("WCSAXES", "CRPIX", "CRVAL", "CDELT", "CTYPE", "CUNIT", "PC1", "PC2")
    return WCS(fits.Header([card for card in header.cards if card.keyword.startswith(keys)]))


@pytest.fixture
def rate_file(tmp_path):
    return write_model(rate_model(make_image(), make_setup()), tmp_path, NAME, "rate")


def test_the_name_is_the_archives(rate_file):
    assert rate_file.name == "jw01094003001_04101_00002_nis_rate.fits"
    assert fits.getval(rate_file, "FILENAME") == rate_file.name


def test_the_data_model_is_recognised_and_valid(rate_file):
    # warnings are errors here, so a keyword with a value that the schema refuses would fail
    with datamodels.open(rate_file, strict_validation=True) as model:
        assert type(model) is datamodels.ImageModel
        model.validate()
        image = make_image()
        for name in ("data", "err", "dq", "var_poisson", "var_rnoise"):
            np.testing.assert_array_equal(getattr(model, name), getattr(image, name))
        assert model.dq.dtype == np.uint32
        assert model.meta.bunit_data == "DN/s"


@pytest.mark.parametrize("filter_name", FILTERS)
def test_the_wheels_are_those_of_the_filter(filter_name):
    model = rate_model(make_image(), make_setup(filter_name=filter_name))
    facts = FILTERS[filter_name]
    expected = ("CLEAR", filter_name) if facts.wheel == "pupil" else (filter_name, "CLEARP")
    assert (model.meta.instrument.filter, model.meta.instrument.pupil) == expected


def test_the_header_has_what_the_pipelines_has(rate_file):
    header = fits.getheader(rate_file)
    expected = {
        "TELESCOP": "JWST",
        "INSTRUME": "NIRISS",
        "DETECTOR": "NIS",
        "EXP_TYPE": "NIS_IMAGE",
        "PROGRAM": "01094",
        "OBSERVTN": "003",
        "VISITGRP": "04",
        "EXPOSURE": "00002",
        "TARGPROP": "WD1057+719",
        "SUBARRAY": "SUB64",
        "SUBSTRT1": 1985,
        "SUBSTRT2": 1985,
        "SUBSIZE1": 64,
        "SUBSIZE2": 64,
        "FASTAXIS": -2,
        "SLOWAXIS": -1,
        "READPATT": "NISRAPID",
        "NGROUPS": 10,
        "NINTS": 3,
        "APERNAME": "NIS_SUB64",
        "S_RAMP": "COMPLETE",
    }
    assert {key: header[key] for key in expected} == expected
    assert header["EFFINTTM"] == pytest.approx(0.5016)
    assert header["EFFEXPTM"] == pytest.approx(1.5048)
    # three resets of a frame each come on top; dates in days
    assert (header["EXPEND"] - header["EXPSTART"]) * 86400 == pytest.approx(1.5048 + 3 * 0.05016, abs=1e-5)
    assert "CRDS_CTX" not in header


@pytest.mark.parametrize("subarray", SUBARRAYS)
@pytest.mark.parametrize("roll", [0.0, 45.0, 200.0])
def test_the_wcs_of_the_header_puts_the_target_on_its_pixel(tmp_path, subarray, roll):
    # the header alone matters here; the pixels are those of a small array
    path = write_model(rate_model(make_image(), make_setup(subarray, roll=roll)), tmp_path, NAME, "rate")
    x, y = wcs_of(path).world_to_pixel_values(TARGET.ra, TARGET.dec)
    # 1e-6 pix is 7e-8 arcsec, what double precision leaves of an RA of 165 deg
    assert (x, y) == (pytest.approx(30.2, abs=1e-6), pytest.approx(33.7, abs=1e-6))


def test_the_sky_is_seen_as_from_niriss():
    wcs = sky_wcs(make_setup(roll=0.0))
    (ra, dec), (ra_x, _), (ra_y, dec_y) = wcs.wcs_pix2world([[30, 30], [31, 30], [30, 31]], 0)
    cos_dec = np.cos(np.deg2rad(dec))
    # y runs along V3, north at roll 0, but for the angle of 0.57 deg; x runs west, as V2's parity -1 says
    assert (dec_y - dec) * 3600 == pytest.approx(0.06588855 * np.cos(np.deg2rad(0.57)), rel=1e-4)
    assert (ra_x - ra) * cos_dec * 3600 == pytest.approx(-0.06539297 * np.cos(np.deg2rad(0.57)), rel=1e-3)
    # position angle of +y from north through east is roll + V3I_YANG
    angle = np.rad2deg(np.arctan2((ra_y - ra) * cos_dec, dec_y - dec))
    assert angle == pytest.approx(0.57, abs=0.01)


def test_a_seed_gives_the_same_file(tmp_path):
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        path = write_model(cal_model(make_image(), make_setup()), tmp_path / name, NAME, "cal")
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


def test_a_cal_exposure_is_the_rate_in_megajansky_per_steradian(tmp_path):
    image = make_image(effects=Effects(flat_error=0.002))
    path = write_model(cal_model(image, make_setup(filter_name="F480M")), tmp_path, NAME, "cal")
    with datamodels.open(path) as model:
        assert model.meta.bunit_data == "MJy/sr"
        factor = model.meta.photometry.conversion_megajanskys
        assert factor == pytest.approx(1.3251)
        # single precision, twice rounded
        np.testing.assert_allclose(model.data / factor, image.data, rtol=2e-7)
        total = (model.var_poisson + model.var_rnoise + model.var_flat) / factor**2
        np.testing.assert_allclose(total, image.err**2, rtol=1e-5)
        assert model.meta.photometry.pixelarea_steradians == 1.01148e-13
        x, y = model.meta.wcs.invert(TARGET.ra, TARGET.dec)
        assert (float(x), float(y)) == (pytest.approx(30.2, abs=1e-5), pytest.approx(33.7, abs=1e-5))


def test_a_cal_exposure_is_divided_by_response_and_area_and_holds_the_area(tmp_path):
    response = np.random.default_rng(1).normal(1, 0.025, (64, 64))
    image = make_image(effects=Effects(response=response, area_gradient=0.1))
    path = write_model(cal_model(image, make_setup()), tmp_path, NAME, "cal")
    with datamodels.open(path) as model:
        factor = model.meta.photometry.conversion_megajanskys
        np.testing.assert_allclose(model.area[0, [0, 63]], [0.95, 1.05])
        np.testing.assert_allclose(model.data * response * model.area / factor, image.data, rtol=1e-6)
        np.testing.assert_allclose(model.err * response * model.area / factor, image.err, rtol=1e-6)


def test_integrations_are_planes(tmp_path):
    integrations = simulate_integrations(make_scene(), GaussianPSF(), np.random.default_rng(2))
    path = write_model(rateints_model(integrations, make_setup()), tmp_path, NAME, "rateints")
    with datamodels.open(path) as model:
        assert type(model) is datamodels.CubeModel
        assert model.data.shape == (3, 64, 64)
        np.testing.assert_allclose(model.data.mean(axis=0), average(integrations).data, rtol=1e-5, atol=1e-5)
        assert (model.meta.exposure.integration_start, model.meta.exposure.integration_end) == (1, 3)


def simulate_ramps(scene, psf, rng, setup):
    """Make an exposure as the ramp fit of calwebb_detector1 reads it, and say where its blemishes are.

    Electrons arrive as a Poisson process in each group; each read adds its own normal noise. A pixel that is to have a
    jump gets one, flagged, of 20 times the read noise, somewhere in each integration.
    """
    expected, pattern, readout = expected_image(scene, psf), draw_pattern(scene, rng), scene.readout
    shape = (readout.nints, readout.ngroups, *scene.shape)
    arrivals = rng.poisson(np.maximum(expected * pattern.flat, 0) * readout.gain * readout.group_time, shape)
    charge = np.cumsum(arrivals, axis=1, dtype=np.float64)
    groupdq = np.zeros(shape, dtype=np.uint8)
    for y, x in pattern.jump:
        # the first group has no difference to the one before in which a jump could show
        for integration, group in enumerate(rng.integers(1, readout.ngroups, readout.nints)):
            charge[integration, group:, y, x] += 20 * readout.read_noise
            groupdq[integration, group, y, x] = pixel["JUMP_DET"]
    groupdq[charge > readout.full_well] |= np.uint8(pixel["SATURATED"])
    charge = np.minimum(charge, readout.full_well) + rng.normal(scale=readout.read_noise, size=shape)
    pixeldq = np.zeros(scene.shape, dtype=np.uint32)
    pixeldq[tuple(pattern.nan.T)] = pixel["DO_NOT_USE"]
    data = (charge / readout.gain).astype(np.float32)
    model = datamodels.RampModel(data=data, pixeldq=pixeldq, groupdq=groupdq)
    model.update(rate_model(simulate_image(scene, psf, np.random.default_rng(0)), setup), only="PRIMARY")
    model.meta.cal_step.ramp_fit = None
    return model, pattern


def test_the_ramp_fit_of_jwst_finds_the_slopes_and_variances_that_are_simulated():
    # The scene's short cut from rates to slopes with variances, against the algorithm of calwebb_detector1
    readout = Readout(0.2, 20, 4)
    scene = make_scene(readout=readout, star=Star(30.0, 34.0, 2e4), background=30.0)
    setup = ExposureSetup(NAME, TARGET, "F090W", SUBARRAYS["SUB64"], readout, 30.0, 34.0)
    model, pattern = simulate_ramps(scene, GaussianPSF(1.5), np.random.default_rng(30), setup)
    # the reference holds the noise of a difference of two reads, in DN
    noise = np.full(scene.shape, np.sqrt(2) * readout.read_noise / readout.gain, dtype=np.float32)
    gain = np.full(scene.shape, readout.gain, dtype=np.float32)
    fitted, _, _ = ramp_fit(model, False, noise, gain, "OLS_C", "optimal", "none", pixel)
    dq = fitted["dq"]
    expected = expected_image(scene, GaussianPSF(1.5))
    good = dq == 0
    assert (~good).sum() == 9 + 4  # NaN and jump pixels
    assert (dq[tuple(pattern.jump.T)] == pixel["JUMP_DET"]).all()
    assert np.isnan(fitted["slope"][dq & 1 != 0]).all()
    pull = (fitted["slope"] - expected)[good] / np.sqrt(fitted["var_poisson"] + fitted["var_rnoise"])[good]
    # 4083 pixels: mean known to 0.016, standard deviation to 0.011; four of these. The fit's own variances are up to
    # 5 % too small in standard deviation where both kinds of noise count, since its weights are not quite optimal.
    assert pull.mean() == pytest.approx(0, abs=0.063)
    assert 1 - 0.045 < pull.std() < 1.05 + 0.045
    image = simulate_image(scene, GaussianPSF(1.5), np.random.default_rng(4))
    both = good & (image.dq == 0)
    np.testing.assert_allclose(fitted["var_rnoise"][both], image.var_rnoise[both], rtol=1e-4)
    # two noisy estimates of one Poisson variance: their means over the sky agree within 1 %
    sky = both & (expected < 31)
    assert fitted["var_poisson"][sky].mean() == pytest.approx(image.var_poisson[sky].mean(), rel=0.01)


@pytest.mark.parametrize(
    ("subarray", "published"),
    # frame times in JDox, NIRISS detector subarrays [s]
    [(SUBARRAYS["FULL"], 10.73677), (Subarray("SUB80", 80, 1, 0, 0), 0.07544)],
)
def test_frame_times_are_the_published_ones(subarray, published):
    assert subarray.frame_time == pytest.approx(published, abs=1e-5)


def test_subarrays_share_the_detectors_corner_and_its_reference_pixels():
    for name in ("SUB64", "SUB128", "SUB256"):
        subarray = SUBARRAYS[name]
        assert subarray.start + subarray.size - 1 == 2048
        assert subarray.reference_border == (0, 4, 0, 4)
    assert SUBARRAYS["FULL"].reference_border == (4, 4, 4, 4)


@pytest.mark.parametrize("subarray", SUBARRAYS)
@pytest.mark.parametrize("star_rate", [900.0, 1e5])
def test_a_chosen_readout_does_not_saturate_and_collects_the_light(subarray, star_rate):
    peak_rate = 0.3 * star_rate
    readout = choose_readout(SUBARRAYS[subarray], peak_rate=peak_rate, star_rate=star_rate)
    if readout.ngroups > 2:
        assert peak_rate * readout.integration_time <= 0.6 * readout.full_well
    assert readout.exposure_time < 1100
    if readout.exposure_time < 900:
        assert star_rate * readout.slope_time >= 1e6


def test_writing_warns_of_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_model(rate_model(make_image(), make_setup()), tmp_path, NAME, "rate")
