import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from niriss_eestep.errors import ReferenceDataError
from niriss_eestep.flux.synthetic import StandardSpectrum, blackbody_spectrum
from niriss_eestep.reference import find_spectrum, load_spectrum, write_spectrum
from niriss_eestep.reference.stdspec import find_spectrum_files, standard_star

CALSPEC = Path(__file__).parents[2] / "../shared/reference/calspec"


def write_table(path, *, flux_unit="FLAM", wave_unit="ANGSTROMS", flux=(1e-15, 2e-15, 1.5e-15), errors=(), target=None):
    columns = [
        fits.Column(name="WAVELENGTH", format="D", unit=wave_unit, array=[1e4, 2e4, 3e4]),
        fits.Column(name="FLUX", format="D", unit=flux_unit, array=flux),
    ]
    columns += [fits.Column(name=name, format="D", unit=flux_unit, array=values) for name, values in errors]
    primary = fits.PrimaryHDU()
    if target:
        primary.header["TARGETID"] = target
    fits.HDUList([primary, fits.BinTableHDU.from_columns(columns)]).writeto(path)
    return path


@pytest.fixture
def star():
    dwarf = blackbody_spectrum("WD1057+719", temperature=42000, v_mag=14.68, meta={"source": "a test"})
    flux = dwarf.flux
    return StandardSpectrum(dwarf.name, dwarf.wavelength, flux, 0.01 * flux, 0.02 * flux, meta=dwarf.meta)


def test_write_and_load_give_the_same_spectrum(tmp_path, star):
    write_spectrum(star, tmp_path / "star.fits")
    again = load_spectrum(tmp_path / "star.fits")
    assert again.name == "WD1057+719"
    assert again.meta["source"] == "a test"
    for column in ("wavelength", "flux", "staterr", "syserr"):
        assert np.allclose(getattr(again, column), getattr(star, column), rtol=1e-14)


def test_gzipped_files_are_read(tmp_path, star):
    write_spectrum(star, tmp_path / "star.fits")
    with open(tmp_path / "star.fits", "rb") as plain, gzip.open(tmp_path / "star.fits.gz", "wb") as packed:
        shutil.copyfileobj(plain, packed)
    assert np.array_equal(load_spectrum(tmp_path / "star.fits.gz").flux, load_spectrum(tmp_path / "star.fits").flux)


def test_units_are_converted(tmp_path):
    # F_nu = 1 Jy is 1e-23 c / lambda^2 per unit wavelength; at 1 micron 2.99792458e-13 erg/s/cm2/Angstrom
    errors = [("STATERROR", [0.1, 0.1, 0.1])]
    path = write_table(tmp_path / "jy.fits", flux_unit="Jy", wave_unit="ANGSTROMS", flux=[1.0, 4.0, 9.0], errors=errors)
    spectrum = load_spectrum(path)
    assert np.allclose(spectrum.flux, 2.99792458e-13, rtol=1e-6)
    assert np.allclose(spectrum.staterr, 2.99792458e-14 / np.array([1.0, 4.0, 9.0]), rtol=1e-6)


def test_files_without_errors_say_so(tmp_path):
    spectrum = load_spectrum(write_table(tmp_path / "star_mod_001.fits"))
    assert spectrum.name == "star_mod_001.fits"
    assert "no STATERROR and no SYSERROR" in spectrum.meta["errors"]
    assert not spectrum.staterr.any()


def test_errors_that_are_none_are_zero_and_logged(tmp_path, caplog):
    path = write_table(tmp_path / "star.fits", errors=[("STATERROR", [1e-17, -1.0, np.nan])])
    assert np.array_equal(load_spectrum(path).staterr, [1e-17, 0.0, 0.0])
    assert "2 values of STATERROR" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flux_unit": "mag"}, "unit 'mag' of FLUX is not a flux density"),
        ({"flux_unit": None}, "unit None of FLUX"),
        ({"flux_unit": "m"}, "of FLUX"),
        ({"wave_unit": "s"}, "unit 's' of WAVELENGTH"),
        ({"wave_unit": None}, "unit None of WAVELENGTH"),
        ({"flux": [1.0, np.nan, np.nan]}, "not finite"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, change, message):
    with pytest.raises(ReferenceDataError, match=message):
        load_spectrum(write_table(tmp_path / "bad.fits", **change))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ReferenceDataError, match="no such file"):
        load_spectrum(tmp_path / "gone.fits")
    (tmp_path / "text.fits").write_text("not FITS")
    with pytest.raises(ReferenceDataError, match="not a FITS file"):
        load_spectrum(tmp_path / "text.fits")
    fits.HDUList(
        [fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column(name="FLUX", format="D", array=[1.0])])]
    ).writeto(tmp_path / "column.fits")
    with pytest.raises(ReferenceDataError, match="no column WAVELENGTH; it has FLUX"):
        load_spectrum(tmp_path / "column.fits")


@pytest.fixture
def directory(tmp_path):
    for name in (
        "p330e_stisnic_008.fits",
        "p330e_stiswfcnic_005.fits",
        "p330e_stiswfcnic_006.fits",
        "p330e_mod_008.fits",
        "wd1057_719_stisnic_008.fits",
        "wd1057_719_stisnic_010.fits",
        "bd60d1753_stiswfc_004.fits",
        "bd_17d4708_stisnic_007.fits",
        "bd02d3375_stis_008.fits",
        "hd009051_stis_009.fits",
        "1743045_stisnic_009.fits",
        "alpha_lyr_stis_011.fits",
        "gd71_mod_012.fits",
    ):
        write_table(tmp_path / name)
    write_table(tmp_path / "odd_name_stis_001.fits", target="MY-STAR")
    (tmp_path / "readme.txt").write_text("not a spectrum")
    (tmp_path / "broken_stis_001.fits").write_text("not FITS")
    return tmp_path


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("P330E", "p330e_stiswfcnic_006.fits"),
        ("P330-E", "p330e_stiswfcnic_006.fits"),
        ("GSC 02581-02323", "p330e_stiswfcnic_006.fits"),
        ("gsc_02581-02323", "p330e_stiswfcnic_006.fits"),
        ("2MASS J16313382+3008465", "p330e_stiswfcnic_006.fits"),
        ("WD1057+719", "wd1057_719_stisnic_010.fits"),
        ("WD 1057+719", "wd1057_719_stisnic_010.fits"),
        ("BD+60 1753", "bd60d1753_stiswfc_004.fits"),
        ("BD+60-1753", "bd60d1753_stiswfc_004.fits"),
        ("BD+17 4708", "bd_17d4708_stisnic_007.fits"),
        ("BD+02 3375", "bd02d3375_stis_008.fits"),
        ("HD 9051", "hd009051_stis_009.fits"),
        ("J1743045", "1743045_stisnic_009.fits"),
        ("Vega", "alpha_lyr_stis_011.fits"),
        ("WD0549+158", "gd71_mod_012.fits"),
        ("MY STAR", "odd_name_stis_001.fits"),
    ],
)
def test_names_find_the_newest_file(directory, target, file):
    assert find_spectrum_files(target, directory)[0].name == file


def test_unknown_names_list_the_nearest(directory):
    with pytest.raises(ReferenceDataError, match=r"'WD1057\+718' .*nearest names: wd1057_719"):
        find_spectrum("WD1057+718", directory)
    with pytest.raises(ReferenceDataError, match="nearest names"):
        find_spectrum("", directory)


def test_directory_comes_from_the_environment(directory, tmp_path_factory, monkeypatch):
    base = tmp_path_factory.mktemp("cdbs")
    monkeypatch.setenv("PYSYN_CDBS", str(base))
    with pytest.raises(ReferenceDataError, match="no such directory"):
        find_spectrum("P330E")
    directory.rename(base / "calspec")
    assert find_spectrum("P330E").meta["file"].endswith("p330e_stiswfcnic_006.fits")
    monkeypatch.delenv("PYSYN_CDBS")
    with pytest.raises(ReferenceDataError, match="PYSYN_CDBS"):
        find_spectrum("P330E")


def test_an_empty_directory_is_said(tmp_path):
    with pytest.raises(ReferenceDataError, match="nearest names: none"):
        find_spectrum("P330E", tmp_path)


@pytest.mark.skipif(not CALSPEC.is_dir(), reason="CALSPEC spectra are not beside the checkout")
@pytest.mark.parametrize(("target", "name"), [("GSC 02581-02323", "P330E"), ("BD+60 1753", "BD60D1753")])
def test_calspec_files_are_read_with_their_errors(target, name):
    spectrum = find_spectrum(target, CALSPEC)
    assert spectrum.name == name
    # beyond the observations both files are models, for which CALSPEC states 2 %
    assert np.interp(4.4e4, spectrum.wavelength, spectrum.syserr / spectrum.flux) == pytest.approx(0.02, rel=1e-3)


def test_array_cells_are_a_clear_error(tmp_path):
    wave = np.linspace(5e3, 6e4, 100)
    columns = [
        fits.Column(name="WAVELENGTH", format="100D", unit="ANGSTROMS", array=wave[None]),
        fits.Column(name="FLUX", format="100D", unit="FLAM", array=wave[None] ** -4),
    ]
    path = tmp_path / "star_001.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path)
    with pytest.raises(ReferenceDataError, match=r"columns of shape .*no arrays in cells"):
        load_spectrum(path)


@pytest.mark.parametrize(
    ("target", "kind"),
    [("WD1057+719", "white dwarf"), ("GSPC P330-E", "G"), ("BD+60 1753", "A"), ("J1743045", "A"), ("NGC 6397", "")],
)
def test_kinds_of_stars(target, kind):
    assert standard_star(target)["kind"] == kind
