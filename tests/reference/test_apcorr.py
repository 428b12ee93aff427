"""The standard pipeline's apcorr reference as the aperture correction."""

import re

import numpy as np
import pytest
from stdatamodels.jwst.datamodels import NisImgApcorrModel

from niriss_eestep.errors import ParameterError, ReferenceDataError
from niriss_eestep.reference import load_apcorr

COLUMNS = ("filter", "pupil", "eefraction", "radius", "apcorr", "skyin", "skyout")
ROWS = [
    ("CLEAR", "F090W", 0.3, 1.0, 3.4, 20.0, 25.0),
    ("CLEAR", "F090W", 0.7, 4.0, 1.45, 20.0, 25.0),
    ("CLEAR", "F090W", 0.5, 2.0, 2.05, 20.0, 25.0),
    ("CLEAR", "F090W", 0.5, 2.0, 2.03, 30.0, 40.0),
    ("F480M", "CLEARP", 0.5, 3.0, 2.1, 20.0, 25.0),
]


@pytest.fixture
def write(tmp_path):
    def make(rows=ROWS, name="jwst_niriss_apcorr_0001.fits"):
        model = NisImgApcorrModel()
        model.apcorr_table = np.array(rows, dtype=model.get_dtype("apcorr_table"))
        model.save(tmp_path / name)
        return tmp_path / name

    return make


def test_the_rows_are_met_and_the_interpolation_is_between_them(write):
    effective = load_apcorr(write()).effective("F090W", 20.0, 25.0)
    np.testing.assert_allclose(effective.curve([1.0, 2.0, 4.0]), [1 / 3.4, 1 / 2.05, 1 / 1.45], rtol=1e-6)
    np.testing.assert_allclose(effective.err([1.0, 2.0, 4.0]), 0.0, atol=1e-9)
    assert 1 / 2.05 < effective.curve(3.0) < 1 / 1.45
    # by hand: the straight line between 2 and 4 pix
    line = (1 / 2.05 + 1 / 1.45) / 2
    assert effective.err(3.0) == pytest.approx(abs(float(effective.curve(3.0)) - line), rel=1e-5)
    assert np.isnan(effective.curve([0.9, 4.1])).all()


def test_another_annulus_is_refused(write):
    apcorr = load_apcorr(write())
    with pytest.raises(
        ParameterError, match=re.escape("for a sky annulus of 20-25, 30-40 pix, but the profile has 15-20 pix")
    ):
        apcorr.effective("F090W", 15.0, 20.0)
    # a single radius is no curve
    with pytest.raises(ParameterError):
        apcorr.effective("F090W", 30.0, 40.0)


def test_a_missing_filter_is_named(write):
    with pytest.raises(
        ReferenceDataError, match="no aperture correction of F200W; it has FILTER/PUPIL CLEAR/F090W, F480M"
    ):
        load_apcorr(write()).effective("F200W", 20.0, 25.0)


def test_other_files_are_refused(tmp_path, write):
    text = tmp_path / "text.fits"
    text.write_text("no FITS")
    with pytest.raises(ReferenceDataError, match="not a FITS file"):
        load_apcorr(text)
    with pytest.raises(ReferenceDataError, match="not positive numbers"):
        load_apcorr(write([(*ROWS[0][:4], -1.0, 20.0, 25.0)], "negative.fits"))
