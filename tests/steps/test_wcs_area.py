"""Where the star is by CD, PC and SIP, in cut-outs, and what the pixels' areas do."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from stdatamodels.jwst import datamodels

from niriss_eestep.errors import ExposureError
from niriss_eestep.exposures.cut import star_field
from niriss_eestep.exposures.inputs import open_exposure
from niriss_eestep.steps import EEPhotometryStep, FluxCalPipeline


def rewritten(path, target, change):
    with fits.open(path) as hdus:
        change(hdus)
        hdus.writeto(target, overwrite=True)
    return target


def as_pc_in_degrees(hdus):
    header = hdus["SCI"].header
    for i in (1, 2):
        for j in (1, 2):
            header[f"PC{i}_{j}"] *= header[f"CDELT{i}"]
    header["CDELT1"] = header["CDELT2"] = 1.0


def as_cd(hdus):
    as_pc_in_degrees(hdus)
    header = hdus["SCI"].header
    for i in (1, 2):
        for j in (1, 2):
            header[f"CD{i}_{j}"] = header.pop(f"PC{i}_{j}")
        del header[f"CDELT{i}"]


@pytest.fixture(scope="module")
def rate(simulate):
    return simulate()[1][0]


@pytest.fixture(scope="module")
def cal(simulate):
    return simulate(kinds=("cal",))[1][0]


@pytest.mark.parametrize("change", [as_pc_in_degrees, as_cd])
def test_one_wcs_written_in_other_keywords_is_the_same(rate, tmp_path, change):
    field = star_field("a", open_exposure(rate), bad_dq=1)
    other = star_field("a", open_exposure(rewritten(rate, tmp_path / "a_rate.fits", change)), bad_dq=1)
    assert (other.x, other.y) == pytest.approx((field.x, field.y), abs=1e-3)
    assert other.scale == pytest.approx(field.scale, rel=1e-6)
    assert not other.warnings


def test_a_gwcs_of_the_full_frame_is_not_believed_in_a_cut_out(cal, tmp_path):
    def cut(hdus):
        for hdu in hdus[1:-1]:
            hdu.data = hdu.data[5:60, 7:60]
        hdus["SCI"].header["CRPIX1"] -= 7
        hdus["SCI"].header["CRPIX2"] -= 5

    field = star_field("a", open_exposure(cal), bad_dq=1)
    part = star_field("a", open_exposure(rewritten(cal, tmp_path / "a_cal.fits", cut)), bad_dq=1)
    assert (part.x, part.y) == pytest.approx((field.x - 7, field.y - 5), abs=0.01)
    assert any("64x64" in warning and "53x55" in warning for warning in part.warnings)


def test_stale_pixel_area_is_told_and_not_used(cal, tmp_path):
    def stale(hdus):
        hdus["SCI"].header["PIXAR_SR"] *= 4

    field = star_field("a", open_exposure(rewritten(cal, tmp_path / "a_cal.fits", stale)), bad_dq=1)
    assert field.ratio == 1
    assert any("PIXAR_SR" in warning for warning in field.warnings)


def test_a_count_rate_image_with_another_pixel_scale_is_refused(rate, tmp_path):
    def coarse(hdus):
        hdus["SCI"].header["CDELT1"] *= 2
        hdus["SCI"].header["CDELT2"] *= 2

    with pytest.raises(ExposureError, match="CDELT"):
        star_field("a", open_exposure(rewritten(rate, tmp_path / "a_rate.fits", coarse)), bad_dq=1)


def test_areas_multiply_a_flat_fielded_star(cal, tmp_path):
    def area(hdus):
        hdus.insert(2, fits.ImageHDU(np.full((64, 64), 0.9955, np.float32), name="AREA"))

    plain = EEPhotometryStep.call(str(cal), configure_log=False)
    weighed = EEPhotometryStep.call(str(rewritten(cal, tmp_path / "a_cal.fits", area)), configure_log=False)
    np.testing.assert_allclose(weighed.count_rate / plain.count_rate, 0.9955, rtol=1e-5)


@pytest.mark.parametrize("applied", [False, True])
def test_the_star_decides_whether_the_header_has_the_proper_motion(rate, tmp_path, applied):
    """1.5 arcsec in all: 23 pix, of which TARG_RA, TARG_DEC have all or nothing."""

    def move(hdus):
        header = hdus[0].header
        header["MU_RA"], header["MU_DEC"], header["MU_EPOCH"] = 0.0, 0.075, "2002-05-01 00:00:00"
        shift = header["MU_DEC"] * (header["EXPMID"] - 52395.0) / 365.25 / 3600
        header["PROP_DEC"] = header["TARG_DEC"] - shift
        if not applied:
            header["TARG_DEC"] -= shift

    field = star_field("a", open_exposure(rate), bad_dq=1)
    moved = star_field("a", open_exposure(rewritten(rate, tmp_path / "a_rate.fits", move)), bad_dq=1)
    assert (moved.x, moved.y) == pytest.approx((field.x, field.y), abs=0.05)
    assert any("proper motion" in warning for warning in moved.warnings) is not applied


def test_a_standard_star_s_proper_motion_is_in_the_table(rate, tmp_path):
    """GD 153 by name, coordinates of 2000: (-38.41, -202.953) mas/yr for 22 years are 4.6 arcsec, out of SUB64."""

    def of_2000(hdus):
        header = hdus[0].header
        years = (header["EXPMID"] - 51544.5) / 365.25
        header["TARGPROP"] = "GD-153"
        header["TARG_DEC"] += 0.202953 * years / 3600
        header["TARG_RA"] += 0.03841 * years / 3600 / np.cos(np.deg2rad(header["TARG_DEC"]))

    field = star_field("a", open_exposure(rate), bad_dq=1)
    moved = star_field("a", open_exposure(rewritten(rate, tmp_path / "a_rate.fits", of_2000)), bad_dq=1)
    assert (moved.x, moved.y) == pytest.approx((field.x, field.y), abs=0.05)
    assert any("proper motion of 22." in warning for warning in moved.warnings)


def test_sip_is_that_of_astropy(rate, tmp_path):
    """A target put on the star by astropy's WCS with SIP, which moves it by more than 5 pix."""
    field = star_field("a", open_exposure(rate), bad_dq=1)

    def distorted(hdus):
        header = hdus["SCI"].header
        header["CRPIX1"], header["CRPIX2"] = field.x - 600, field.y + 500
        header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
        header["A_ORDER"] = header["B_ORDER"] = 2
        header["A_2_0"], header["A_1_1"], header["B_0_2"] = 2e-5, 1e-6, -1e-5
        wcs = WCS(header, naxis=2)
        hdus[0].header["TARG_RA"], hdus[0].header["TARG_DEC"] = map(float, wcs.all_pix2world(field.x, field.y, 0))
        linear = wcs.wcs_world2pix(hdus[0].header["TARG_RA"], hdus[0].header["TARG_DEC"], 0)
        assert np.hypot(linear[0] - field.x, linear[1] - field.y) > 5

    found = star_field("a", open_exposure(rewritten(rate, tmp_path / "a_rate.fits", distorted)), bad_dq=1)
    assert (found.x, found.y) == pytest.approx((field.x, field.y), abs=1e-4)


@pytest.mark.parametrize("wrong", ["header", "gwcs"])
def test_where_gwcs_and_header_disagree_the_star_decides(cal, tmp_path, wrong):
    """By 20 pix: the one that is wrong points at empty sky."""

    def apart(hdus):
        hdus["SCI"].header["CRPIX2"] += 20
        if wrong == "gwcs":
            # the header's then is right, and the gwcs has the target 20 pix below
            x, y = field.x, field.y - 20
            ra, dec = model.meta.wcs(x, y, with_bounding_box=False)
            hdus[0].header["TARG_RA"], hdus[0].header["TARG_DEC"] = float(ra), float(dec)

    with datamodels.open(cal) as model:
        field = star_field("a", open_exposure(cal), bad_dq=1)
        path = rewritten(cal, tmp_path / "a_cal.fits", apart)
    found = star_field("a", open_exposure(path), bad_dq=1)
    assert (found.x, found.y) == pytest.approx((field.x, field.y), abs=0.5)
    assert any("keywords, which disagree with the gwcs" in w for w in found.warnings) is (wrong == "gwcs")


def test_a_header_without_its_set_up_is_of_the_group_of_its_dithers(simulate, tmp_path):
    """FILTER, PUPIL and SUBARRAY are in the ASDF extension too: one group of two, not two of one name."""
    _, paths = simulate(n_dithers=2)

    def stripped(hdus):
        for key in ("FILTER", "PUPIL", "SUBARRAY"):
            del hdus[0].header[key]

    bare = rewritten(paths[1], tmp_path / paths[1].name, stripped)
    with fits.open(bare) as hdus:
        assert "ASDF" in hdus
    table = FluxCalPipeline.call([str(paths[0]), str(bare)], configure_log=False).table
    assert list(table["n_exposures"]) == [2]
    assert list(table["n_measured"]) == [2]


@pytest.mark.parametrize("kind", ["NIS_EXTCAL", "NIS_AMI", "NIS_TACQ"])
def test_a_star_through_a_filter_is_measured_whatever_the_type(rate, tmp_path, kind):
    path = rewritten(rate, tmp_path / "a_rate.fits", lambda hdus: hdus[0].header.set("EXP_TYPE", kind))
    assert star_field("a", open_exposure(path), bad_dq=1).x > 0


def measured(path):
    product = EEPhotometryStep.call(str(path))
    return product.meta.ee.status, float(product.count_rate[9]), float(product.covariance[9, 9] ** 0.5)


def test_variances_that_disagree_with_the_scatter_are_told(rate, tmp_path):
    """Absurd ones are left out, in the sky and at the peak; wrong ones everywhere are told; a lost one is from ERR."""
    status, value, err = measured(rate)
    assert "scatter" not in status

    def absurd(hdus):
        hdus["VAR_POISSON"].data[np.arange(20, 28), 12] = 2041.0**2
        hdus["VAR_POISSON"].data.flat[np.nanargmax(hdus["SCI"].data)] = 2e4**2

    def scaled(factor):
        def change(hdus):
            for name in ("VAR_POISSON", "VAR_RNOISE"):
                hdus[name].data *= factor
            hdus["ERR"].data *= np.sqrt(factor)

        return change

    def no_photons(hdus):
        hdus["VAR_POISSON"].data[:] = 0

    def nowhere(hdus):
        no_photons(hdus)
        hdus["ERR"].data[:] = np.sqrt(hdus["VAR_RNOISE"].data)

    def everywhere(hdus):
        hdus["VAR_POISSON"].data[:] = 2041.0**2

    status, found, found_err = measured(rewritten(rate, tmp_path / "a_rate.fits", absurd))
    assert "9 pixels have implausible variances" in status
    assert abs(found - value) < err
    assert found_err == pytest.approx(err, rel=0.05)
    for factor in (9.0, 1 / 9.0):
        status, *_ = measured(rewritten(rate, tmp_path / "b_rate.fits", scaled(factor)))
        assert "and their variances say" in status
    for factor in (2.0, 0.5):
        status, *_ = measured(rewritten(rate, tmp_path / "b_rate.fits", scaled(factor)))
        assert "and their variances say" not in status
    status, *_ = measured(rewritten(rate, tmp_path / "b_rate.fits", everywhere))
    assert "and their variances say" in status
    for change, told in ((no_photons, "the errors are from ERR"), (nowhere, "the photon noise is from the count rate")):
        status, _, found_err = measured(rewritten(rate, tmp_path / "c_rate.fits", change))
        assert f"VAR_POISSON is zero everywhere: {told}" in status
        assert found_err == pytest.approx(err, rel=0.02)

    def as_surface_brightness(hdus):
        nowhere(hdus)
        for name, power in (("SCI", 1), ("ERR", 1), ("VAR_RNOISE", 2)):
            hdus[name].data *= 0.26**power
        hdus["SCI"].header.update({"BUNIT": "MJy/sr", "PHOTMJSR": 0.26})

    _, found, found_err = measured(rewritten(rate, tmp_path / "d_rate.fits", as_surface_brightness))
    assert found == pytest.approx(value, rel=1e-4)
    assert found_err == pytest.approx(err, rel=0.02)


def test_a_variance_of_another_shape_is_not_left_out_silently(rate, tmp_path):
    """Beside VAR_FLAT the read noise alone would pass for the whole."""

    def cut(hdus):
        hdus["VAR_POISSON"].data = hdus["VAR_POISSON"].data[:30]
        if "VAR_FLAT" not in hdus:
            hdus.append(fits.ImageHDU(np.zeros_like(hdus["ERR"].data), name="VAR_FLAT"))

    _, _, err = measured(rate)
    status, _, found = measured(rewritten(rate, tmp_path / "a_rate.fits", cut))
    assert "VAR_POISSON missing or of another shape: the errors are from ERR" in status
    assert found == pytest.approx(err, rel=0.02)


@pytest.mark.parametrize("value", [np.nan, -1.0, 0.0])
def test_variances_that_are_nothing_are_named(rate, tmp_path, value):
    def nothing(*names):
        def change(hdus):
            for name in names:
                hdus[name].data[:] = value

        return change

    _, count, err = measured(rate)
    if value != 0:
        status, found, found_err = measured(rewritten(rate, tmp_path / "a_rate.fits", nothing("VAR_POISSON")))
        assert "VAR_POISSON zero, NaN or negative everywhere: the errors are from ERR" in status
        assert (found, found_err) == (pytest.approx(count, abs=0.1 * err), pytest.approx(err, rel=0.02))
    names = "VAR_POISSON", "VAR_RNOISE", "ERR"
    status, found, found_err = measured(rewritten(rate, tmp_path / "b_rate.fits", nothing(*names)))
    told = "zero, NaN or negative everywhere: the errors are from the pixels' scatter and the count rate"
    assert f"{', '.join(names)} {told}" in status
    assert found == pytest.approx(count, abs=err)
    # the scatter of 4,900 pixels is known to 2 %; the median takes pixels of the star's wing along
    assert found_err == pytest.approx(err, rel=0.1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("keyword", ["crpix1", "crval2", "cdelt1", "pc1_1"])
def test_a_keyword_of_the_wcs_without_a_value_is_told(rate, keyword, value):
    """FITS knows no such value; a model in memory and an ASDF extension may have one."""
    with datamodels.open(rate) as model:
        setattr(model.meta.wcsinfo, keyword, value)
        with pytest.raises(
            ExposureError, match=r"a: the WCS keywords are not a valid WCS .*give source_x and source_y"
        ):
            star_field("a", model, bad_dq=1)


def test_numbers_that_are_none_are_not_used(rate):
    with datamodels.open(rate) as model:
        field, target = star_field("a", model, bad_dq=1), model.meta.target
        target.proper_motion_ra, target.proper_motion_dec, target.proposer_dec = np.nan, 0.1, np.nan
        model.meta.exposure.mid_time = np.nan
        model.meta.photometry.pixelarea_steradians = np.nan
        again = star_field("a", model, bad_dq=1)
        assert (again.x, again.y, again.warnings) == (field.x, field.y, ())
        target.ra = np.nan
        assert "no WCS or target coordinates" in star_field("a", model, bad_dq=1).warnings[0]
