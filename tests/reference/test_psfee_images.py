"""EE from the FITS images that STPSF writes, and from the old radtab tables."""

import numpy as np
import pytest
from astropy.io import fits
from scipy.special import ndtr

from niriss_eestep.errors import ReferenceDataError
from niriss_eestep.psf.pupil import WEBBPSF_PUPIL
from niriss_eestep.reference import load_psf_images, load_psfee

TRANSMISSION = WEBBPSF_PUPIL.clearp_transmission()
AT = np.array([1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0])


def stpsf_file(path, name, *, scale=1.0, extensions=("OVERSAMP", "DET_SAMP"), **keywords):
    """Write the packaged PSF as STPSF does: oversampled, and summed to detector pixels around a centred star."""
    psf = load_psf_images()[name]
    over = psf.light.astype(float)
    data = {"OVER": (over, psf.oversample), "DET_": (psf.render(39.0, 39.0, (79, 79)), 1)}
    hdus = fits.HDUList()
    for extension in extensions:
        image, oversample = data[extension[:4]]
        hdu = fits.ImageHDU(image * scale, name=extension) if hdus else fits.PrimaryHDU(image * scale)
        hdu.header.update({"EXTNAME": extension, "PIXELSCL": 0.0656 / oversample, "FILTER": name, "INSTRUME": "NIRISS"})
        hdu.header.update({"HIERARCH PUPIL_INT": "jwst_pupil_RevW_npix1024.fits.gz"} | keywords)
        hdus.append(hdu)
    hdus.writeto(path)
    return sum(data[extensions[0][:4]][0].ravel()) * scale


@pytest.mark.parametrize("name", ["F090W", "F277W", "F480M"])
def test_oversampled_images_give_back_the_ee(tmp_path, name):
    stpsf_file(tmp_path / "a.fits", name, NORMALIZ="exit_pupil")
    measured = load_psfee(tmp_path)
    # the image's sub-pixels are integrated over, those of STPSF are points: 1 / (12 n^2) pix^2 more second moment
    # and a few phases instead of all at 1 pix
    assert measured.ee(name, AT)[1:] == pytest.approx(load_psfee().ee(name, AT)[1:], abs=2e-3)
    assert measured.ee(name, AT)[3:] == pytest.approx(load_psfee().ee(name, AT)[3:], abs=5e-4)
    assert np.all(measured.ee_err(name, AT) == 0)


@pytest.mark.parametrize("extension", ["OVERSAMP", "DET_SAMP", "OVERDIST", "DET_DIST"])
def test_every_extension_is_read(tmp_path, extension):
    stpsf_file(tmp_path / "a.fits", "F356W", extensions=(extension,), NORMALIZ="exit_pupil")
    # detector-sampled images have one pixel phase
    assert load_psfee(tmp_path).ee("F356W", AT[1:]) == pytest.approx(load_psfee().ee("F356W", AT[1:]), abs=4e-3)


def test_oversampled_and_distorted_is_preferred(tmp_path):
    stpsf_file(tmp_path / "a.fits", "F356W", extensions=("DET_SAMP", "OVERSAMP", "DET_DIST", "OVERDIST"))
    assert "OVERDIST, 3 per pixel" in load_psfee(tmp_path).meta["images"]["F356W"]


@pytest.mark.parametrize("keyword", [True, False], ids=["NORMALIZ", "no keyword"])
@pytest.mark.parametrize("name", ["F200W", "F380M"])
@pytest.mark.parametrize("how", ["first", "exit_pupil", "last"])
def test_every_normalisation_gives_the_same_ee(tmp_path, name, how, keyword):
    scale = {"first": TRANSMISSION if name == "F380M" else 1.0, "exit_pupil": 1.0, "last": 1.0}[how]
    if how == "last":
        scale = 1 / stpsf_file(tmp_path / "sum.fits", name)
        (tmp_path / "sum.fits").unlink()
    stpsf_file(tmp_path / "a.fits", name, scale=scale, **({"NORMALIZ": how} if keyword else {}))
    assert load_psfee(tmp_path).ee(name, AT[2:]) == pytest.approx(load_psfee().ee(name, AT[2:]), abs=1e-3)


@pytest.mark.parametrize("name", ["F200W", "F277W"])
def test_an_image_without_wing_has_no_light_beyond_it(tmp_path, name):
    sigma, half = 4.0, 40
    along = np.diff(ndtr((np.arange(-half, half + 2) - 0.5) / sigma))
    hdu = fits.PrimaryHDU(np.outer(along, along))
    hdu.header.update({"FILTER": name, "PIXELSCL": 0.0656, "NORMALIZ": "last"})
    hdu.writeto(tmp_path / "a.fits")
    radius = np.array([3.0, 6.0, 10.0, 20.0, 30.0])
    # pixels and apertures each spread the light by a pixel's variance, 1/12 per axis
    expected = -np.expm1(-0.5 * radius**2 / (sigma**2 + 2 / 12))
    assert load_psfee(tmp_path).ee(name, radius) == pytest.approx(expected, abs=1e-3)


def test_transmission_that_is_divided_out_already_is_not_divided_again(tmp_path):
    stpsf_file(tmp_path / "a.fits", "F380M", NORMALIZ="first")
    assert load_psfee(tmp_path).ee("F380M", 10) == pytest.approx(load_psfee().ee("F380M", 10), abs=1e-3)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"FILTER": "F187N"}, "FILTER = 'F187N' is not a NIRISS imaging filter"),
        ({"FILTER": ""}, "no keyword FILTER"),
        ({"PIXELSCL": ""}, "no pixel scale"),
        ({"PIXELSCL": 0.11}, "not a whole fraction of a NIRISS pixel"),
        ({"INSTRUME": "NIRCam"}, "a PSF of NIRCAM"),
        ({"HIERARCH PUPIL_INT": "MASK_NRM.fits"}, "PUPIL_INT = MASK_NRM.fits: the non-redundant mask"),
        ({"PUPIL": "MASK_NRM"}, "non-redundant mask"),
    ],
)
def test_headers_of_no_niriss_imaging_psf_are_refused(tmp_path, keywords, message):
    stpsf_file(tmp_path / "a.fits", "F444W", extensions=("DET_SAMP",), **keywords)
    with pytest.raises(ReferenceDataError, match=f"a.fits: {message}|{message}"):
        load_psfee(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "no PSF image in it"),
        (np.ones((61, 61)), "pixels sum to 3721"),
        (np.full((61, 61), np.nan), "not finite"),
        (np.full((61, 51), 3e-4), "square"),
        (np.full((3, 3), 0.1), "reaches 1.5 pix from its centre"),
    ],
)
def test_pixels_of_no_psf_are_refused(tmp_path, data, message):
    hdu = fits.PrimaryHDU(data)
    hdu.header.update({"FILTER": "F090W", "PIXELSCL": 0.0656})
    hdu.writeto(tmp_path / "a.fits")
    with pytest.raises(ReferenceDataError, match=message):
        load_psfee(tmp_path)


def test_damaged_fits_and_two_of_one_filter_are_refused(tmp_path):
    stpsf_file(tmp_path / "a.fits", "F444W", extensions=("DET_SAMP",))
    stpsf_file(tmp_path / "b.fits", "F444W", extensions=("DET_SAMP",))
    with pytest.raises(ReferenceDataError, match=r"a.fits and b.fits are both of F444W"):
        load_psfee(tmp_path)
    (tmp_path / "b.fits").write_text("not FITS")
    with pytest.raises(ReferenceDataError, match=r"b.fits: not a FITS file"):
        load_psfee(tmp_path)


def test_image_too_small_for_the_sky_annulus_is_refused_when_it_is_used(tmp_path):
    stpsf_file(tmp_path / "a.fits", "F444W", extensions=("DET_SAMP",))
    with pytest.raises(ReferenceDataError, match=r"F444W reaches 38 pix, but 45 pix is needed"):
        load_psfee(tmp_path).ee("F444W", 45)


def radtab(path, radius, ee):
    lines = [f"{r:8.3f} {e:10.6f}" for r, e in zip(radius, ee, strict=True)]
    path.write_text("\n".join(["# radius EE", *lines]))


def test_radtab_tables_lose_the_transmission_of_clearp_once(tmp_path):
    radius = np.arange(1.0, 31.0)
    for name, factor in (("F090W", 1.0), ("F430M", TRANSMISSION)):
        radtab(tmp_path / f"niriss_{name.lower()}_psf.radtab", radius, factor * load_psfee().ee(name, radius))
    psfee = load_psfee(tmp_path)
    assert psfee.filters == ("F090W", "F430M")
    for name in psfee.filters:
        # six digits
        assert psfee.ee(name, radius) == pytest.approx(load_psfee().ee(name, radius), abs=2e-6)


def test_radtab_that_was_divided_before_is_left_alone(tmp_path):
    radius = np.arange(1.0, 31.0)
    radtab(tmp_path / "f430m_psf.radtab", radius, load_psfee().ee("F430M", radius))
    assert load_psfee(tmp_path).ee("F430M", 30) == pytest.approx(load_psfee().ee("F430M", 30), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("psf.radtab", "1 0.5", "holds no NIRISS imaging filter"),
        ("f200w_psf.radtab", "1 0.5\n2 nan", "not finite"),
        ("f090w_psf.radtab", "1 0.5\nend", "not a table of radius and encircled energy"),
        ("f090w_psf.radtab", "", "empty file"),
        ("f090w_psf.radtab", "1 0.5\n2 0.4", "falls from 0.5 at 1 pix"),
    ],
)
def test_radtab_that_is_none_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ReferenceDataError, match=message):
        load_psfee(tmp_path)


def test_without_stpsf_the_message_says_what_to_install():
    from importlib.util import find_spec

    from niriss_eestep.psf.stpsf import compute_with_stpsf

    if find_spec("stpsf"):
        pytest.skip("stpsf is installed")
    with pytest.raises(ReferenceDataError, match=r"pip install 'niriss_eestep\[stpsf\]'"):
        compute_with_stpsf(["F090W"], load_psfee())
