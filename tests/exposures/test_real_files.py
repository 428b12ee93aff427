"""Files that a telescope took, with the keywords of their instrument set to NIRISS's."""

from pathlib import Path

import jwst
import numpy as np
import pytest
from astropy.io import fits

from niriss_eestep.errors import ExposureError
from niriss_eestep.exposures.cut import star_exposures, star_field
from niriss_eestep.exposures.inputs import open_exposure
from niriss_eestep.measure.geometry import aperture_weights
from niriss_eestep.steps import EEPhotometryStep

REAL = Path(__file__).parents[2] / "../shared/real"
ACQUISITION = Path(jwst.__file__).parent / "lib/tests/data/add_wcs_default_acq1.fits"
NIRISS = {"INSTRUME": "NIRISS", "DETECTOR": "NIS", "EXP_TYPE": "NIS_IMAGE"}

needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="real files are not beside the checkout")


@pytest.fixture
def star(tmp_path):
    """Function that writes the NIRCam star as NIRISS's."""

    def write(*, gwcs=True, **keywords):
        path = tmp_path / "star_cal.fits"
        with fits.open(REAL / "nircam_f444w_star_cal.fits") as hdus:
            hdus[0].header.update(NIRISS | {"FILTER": "F444W", "PUPIL": "CLEARP"} | keywords)
            for key in ("CHANNEL", "MODULE"):
                del hdus[0].header[key]
            if not gwcs:
                del hdus["ASDF"]
            hdus.writeto(path)
        return path

    return write


@pytest.fixture
def acquisition(tmp_path):
    """Function that writes the acquisition's double samples, six integrations or their mean, as SCI alone."""

    def write(rates, name):
        path = tmp_path / name
        with fits.open(ACQUISITION) as hdus:
            samples = hdus["SCI"].data.astype(float)
            data = (samples[:, 1] - samples[:, 0]) / hdus[0].header["TGROUP"]
            hdus[0].header.update(NIRISS | {"FILTER": "CLEAR", "PUPIL": "F150W", "SUBARRAY": "SUB128"})
            del hdus[0].header["DATAMODL"]
            hdus["SCI"].header["BUNIT"] = "DN/s"
            image = fits.ImageHDU(rates(data).astype("f4"), hdus["SCI"].header, name="SCI")
            fits.HDUList([fits.PrimaryHDU(header=hdus[0].header), image]).writeto(path)
        return path

    return write


@needs_real
@pytest.mark.parametrize("gwcs", [True, False])
def test_nircam_star_grows_as_its_webbpsf(star, gwcs):
    """From 3 to 10 pix within 0.8 % of the light within 6 pix; WebbPSF's wavefront is not that of the day."""
    radii = np.arange(3.0, 11.0)
    target = {"TARG_RA": 14.770720, "TARG_DEC": -72.151460}
    product = EEPhotometryStep.call(
        str(star(gwcs=gwcs, **target)), radii=radii.tolist(), background_skip=4, background_width=6
    )
    # the header's WCS finds the star; the gwcs, of the full frame, puts it 400 pix away
    assert ("its gwcs is of an image of 2048x2048 pixels" in product.meta.ee.status) == gwcs
    assert np.hypot(product.meta.ee.x_center - 50.9, product.meta.ee.y_center - 27.5) < 0.1
    psf = fits.getdata(REAL / "nircam_f444w_webbpsf.fits")
    # radii are in NIRISS's pixels, and the file's have 0.06373 arcsec there by its distortion
    in_file = np.array([*radii, 14.0, 20.0]) * 0.065602 / 0.06373
    light = np.array([np.sum(w * psf) for w in aperture_weights(psf.shape, 39.0, 39.0, in_file)])
    area = in_file**2
    growth = light[:-2] - (light[-1] - light[-2]) / (area[-1] - area[-2]) * area[:-2]
    np.testing.assert_allclose(product.count_rate / product.count_rate[3], growth / growth[3], atol=0.008)


@needs_real
def test_a_cut_out_without_the_target_is_not_measured_elsewhere(star):
    with pytest.raises(ExposureError, match=r"target falls on x=1052\.7, y=-55\.9, outside the 100x100 image"):
        EEPhotometryStep.call(str(star()))


@pytest.mark.parametrize(
    ("rates", "name"), [(lambda data: data, "acq_rateints.fits"), (lambda data: data.mean(axis=0), "acq_rate.fits")]
)
def test_an_acquisition_of_a_saturated_star_fails(acquisition, rates, name):
    """The double sample has no light where the star saturates, and nothing flags it."""
    path = acquisition(rates, name)
    with pytest.raises(ExposureError, match=r"of the light within 5 pix is within 2 pix, where a star has \d\d %"):
        EEPhotometryStep.call(str(path))
    # the same is missing in a cube as in an image
    with open_exposure(path) as model:
        stamps = star_exposures("acq", model, star_field("acq", model, bad_dq=1), half_size=30, gain=1.61)
    for told in ("no DQ array", "VAR_POISSON, VAR_RNOISE, ERR missing", "its WCS has 0.06881 arcsec/pix"):
        assert all(any(told in warning for warning in stamp.warnings) for stamp in stamps)


def test_a_raw_acquisition_is_refused_by_its_shape(tmp_path):
    path = tmp_path / "acq_uncal.fits"
    with fits.open(ACQUISITION) as hdus:
        hdus[0].header.update(NIRISS | {"FILTER": "CLEAR", "PUPIL": "F150W", "SUBARRAY": "SUB128"})
        hdus.writeto(path)
    with pytest.raises(ExposureError, match=r"SCI has shape \(6, 2, 128, 128\) \(ramps\): run calwebb_detector1"):
        EEPhotometryStep.call(str(path))
