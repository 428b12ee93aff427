import gzip

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels

from niriss_eestep.errors import ExposureError
from niriss_eestep.exposures.inputs import ARRAYS, Pixels, open_exposure, read_exposure

CUTS = [..., (slice(3, 40), slice(0, 64)), (slice(0, 0), slice(5, 9)), (slice(60, 64), slice(63, 64))]


@pytest.fixture(scope="module")
def rate(simulate):
    return simulate()[1][0]


@pytest.fixture
def edited(rate, tmp_path):
    """Function that changes a copy of an exposure with astropy and returns its path."""

    def make(change):
        path = tmp_path / rate.name
        with fits.open(rate) as hdus:
            change(hdus)
            hdus.writeto(path)
        return path

    return make


def metadata(model):
    # the rest of the ASDF extension says which library wrote it
    flat = model.to_flat_dict(include_arrays=False)
    return {key: value for key, value in flat.items() if key.startswith(("meta.", "cal_logs."))}


def rounded(found):
    # a header has 15 digits of some numbers
    return {key: float(f"{value:.12g}") if isinstance(value, float) else value for key, value in found.items()}


def test_metadata_are_those_of_the_data_model(rate):
    with datamodels.open(rate) as expected:
        assert metadata(open_exposure(rate)) == metadata(expected)


def test_pieces_are_those_of_the_arrays(rate):
    found = open_exposure(rate)
    assert isinstance(found.data, Pixels)
    with datamodels.open(rate) as expected:
        for name in ARRAYS:
            assert found.hasattr(name) == (expected.hasattr(name) and getattr(expected, name) is not None)
            if not found.hasattr(name):
                continue
            pixels, array = getattr(found, name), getattr(expected, name)
            assert (pixels.shape, pixels.ndim) == (array.shape, array.ndim)
            assert pixels.dtype == array.dtype.newbyteorder("=")
            for cut in CUTS:
                np.testing.assert_array_equal(pixels[cut], array[cut])
                assert pixels[cut].dtype == pixels.dtype
            np.testing.assert_array_equal(np.asarray(pixels, dtype=float), array.astype(float))


def test_flags_beyond_the_sign_bit_are_kept(edited):
    def flag(hdus):
        hdus["DQ"].data[0, 0] = 2**31 + 1  # REFERENCE_PIXEL and DO_NOT_USE
        hdus["DQ"].data[0, 1] = 2**32 - 1

    found = open_exposure(edited(flag))
    assert found.dq[0:1, 0:3].tolist() == [[2**31 + 1, 2**32 - 1, found.dq[...][0, 2]]]


def test_headers_win_over_the_asdf_extension(edited):
    def rename(hdus):
        hdus[0].header["TARGPROP"] = "ANOTHER STAR"
        hdus["SCI"].header["PHOTMJSR"] = 0.25
        del hdus[0].header["TITLE"]

    path = edited(rename)
    found = open_exposure(path)
    assert found.meta.target.proposer_name == "ANOTHER STAR"
    assert found.meta.photometry.conversion_megajanskys == 0.25
    with datamodels.open(path) as expected:
        assert rounded(metadata(found)) == rounded(metadata(expected))


@pytest.mark.filterwarnings("ignore::stdatamodels.exceptions.ValidationWarning")
def test_a_keyword_of_a_wrong_type_or_value_does_not_count(edited):
    def spoil(hdus):
        hdus["SCI"].header["PHOTMJSR"] = "bright"
        hdus[0].header["NINTS"] = "many"
        hdus[0].header["READPATT"] = "SLOWEST"
        hdus[0].header["BKGDTARG"] = 3

    path = edited(spoil)
    found = open_exposure(path)
    assert found.meta.exposure.readpatt == "NISRAPID"
    with datamodels.open(path) as expected:
        assert rounded(metadata(found)) == rounded(metadata(expected))


@pytest.mark.parametrize("keyword", ["INSTRUME", "FILTER", "PUPIL", "EXP_TYPE"])
def test_a_set_up_that_the_data_model_drops_is_refused(edited, keyword):
    def spoil(hdus):
        hdus[0].header[keyword] = "F999X"

    with pytest.raises(ExposureError, match=f"{keyword} is 'F999X'"):
        open_exposure(edited(spoil))


def test_the_wcs_is_that_of_the_file(rate, tmp_path):
    gwcs = pytest.importorskip("gwcs")
    from astropy import coordinates, units
    from astropy.modeling import models

    sky = gwcs.coordinate_frames.CelestialFrame(reference_frame=coordinates.ICRS(), unit=(units.deg, units.deg))
    detector = gwcs.coordinate_frames.Frame2D(name="detector", unit=(units.pix, units.pix))
    with datamodels.open(rate) as model:
        model.meta.wcs = gwcs.WCS([(detector, models.Shift(-3) & models.Shift(-4)), (sky, None)])
        model.save(tmp_path / rate.name)
    found = open_exposure(tmp_path / rate.name)
    assert isinstance(found.data, Pixels)
    assert found.meta.wcs(10, 20) == (7, 16)


@pytest.mark.parametrize(
    "change",
    [
        lambda hdus: hdus[0].header.set("DATAMODL", "CubeModel"),
        lambda hdus: hdus["SCI"].header.set("BSCALE", 2.0),
        lambda hdus: hdus.append(fits.ImageHDU(np.zeros((2, 2), np.float32), name="SCI", ver=2)),
        lambda hdus: setattr(hdus["SCI"], "data", np.zeros((2, 64, 64), np.float32)),
    ],
    ids=["another model", "scaled", "two images", "a cube"],
)
def test_anything_unusual_is_left_to_stdatamodels(edited, change):
    path = edited(change)
    assert read_exposure(path, 600)[1] is None


def test_a_compressed_file_is_left_to_stdatamodels(rate, tmp_path):
    packed = tmp_path / f"{rate.name}.gz"
    packed.write_bytes(gzip.compress(rate.read_bytes()))
    found = open_exposure(packed)
    assert isinstance(found.data, np.ndarray)
    np.testing.assert_array_equal(found.data, open_exposure(rate).data)


def test_a_file_that_is_cut_off_while_it_is_read(edited):
    path = edited(lambda hdus: None)
    found = open_exposure(path)
    with path.open("r+b") as file:
        file.truncate(found.data.offset + 1000)
    assert found.data[0:1, 0:64].shape == (1, 64)
    with pytest.raises(ExposureError, match=r"has become shorter while it was read \(SCI\)"):
        found.data[...]


def test_it_is_saved_and_copied_as_any_model(rate, tmp_path):
    open_exposure(rate).copy().save(tmp_path / "a.fits")
    with datamodels.open(rate) as expected, datamodels.open(tmp_path / "a.fits") as found:
        changed = {"meta.date", "meta.filename"}
        assert {k: v for k, v in metadata(found).items() if k not in changed} == {
            k: v for k, v in metadata(expected).items() if k not in changed
        }
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(found, name, None), getattr(expected, name, None))
