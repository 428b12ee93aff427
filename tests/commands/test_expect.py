from dataclasses import replace

import numpy as np
import pytest
from astropy.table import QTable, Table

from niriss_eestep.cli import main
from niriss_eestep.flux.synthetic import blackbody_spectrum, expected_rate
from niriss_eestep.instrument import FILTERS, GAIN
from niriss_eestep.reference import load_throughput, write_spectrum, write_throughput


@pytest.fixture
def calspec(tmp_path, monkeypatch):
    monkeypatch.delenv("NIS_SYNPHOT", raising=False)
    monkeypatch.setenv("PYSYN_CDBS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "calspec").mkdir()
    write_spectrum(
        blackbody_spectrum("WD1057+719", temperature=42000, v_mag=14.68),
        tmp_path / "calspec" / "wd1057_719_mod_001.fits",
    )
    write_spectrum(blackbody_spectrum("Vega", temperature=9600, v_mag=0.03), tmp_path / "vega.fits")
    return tmp_path


def test_twelve_filters_are_printed_and_written(calspec, capsys):
    assert main(["expect", "WD 1057+719", "--output", "wd.ecsv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[3:]] == list(FILTERS)
    table = Table.read("wd.ecsv")
    star, throughput = blackbody_spectrum("WD1057+719", temperature=42000, v_mag=14.68), load_throughput()
    rates = [expected_rate(star, *throughput.curve(name)).electron_rate for name in FILTERS]
    assert list(table["filter"]) == list(FILTERS)
    assert np.allclose(table["expected_electron_rate"], rates, rtol=1e-12)
    assert np.allclose(table["expected_count_rate"] * GAIN, rates, rtol=1e-12)
    assert str(QTable.read("wd.ecsv")["fnu_band"].unit) == "Jy"
    assert "vega_mag" not in table.colnames


def test_zero_points_belong_to_the_magnitudes(calspec):
    assert main(["expect", "calspec/wd1057_719_mod_001.fits", "--output", "wd.ecsv", "--vega", "vega.fits"]) == 0
    table = Table.read("wd.ecsv")
    counts = -2.5 * np.log10(table["expected_count_rate"])
    assert np.allclose(table["zeropoint_ab"] + counts, table["ab_mag"], atol=1e-9)
    assert np.allclose(table["zeropoint_vega"] + counts, table["vega_mag"], atol=1e-9)
    vega = blackbody_spectrum("Vega", temperature=9600, v_mag=0.03)
    wave = 1e4 * np.asarray(table["pivot"])
    jansky = np.interp(wave, vega.wavelength, vega.flux) * wave**2 / 2.99792458e18 / 1e-23
    # The flux density at the pivot stands for the mean of the band: within 3 % for so steep a spectrum
    assert np.allclose(table["ab_mag"] - table["vega_mag"], -2.5 * np.log10(jansky / 3630.78), atol=0.03)


def test_throughput_is_chosen(calspec, capsys):
    packaged = load_throughput()
    one = type(packaged)({"F430M": packaged.curve("F430M")}, "one")
    write_throughput(one, "one.asdf")
    assert main(["expect", "WD1057+719", "--throughput", "one.asdf"]) == 0
    out = capsys.readouterr().out
    assert "one.asdf" in out
    assert "F430M" in out
    assert "F480M" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["P330E"], "no spectrum of 'P330E'"),
        (["gone.fits"], "no such file"),
        (["WD1057+719", "--throughput", "gone"], "no such file or directory"),
        (["WD1057+719", "--output", "table.txt"], "ends in .ecsv"),
        (["WD1057+719", "--output", "gone/table.ecsv"], "gone/table.ecsv: No such file or directory"),
    ],
)
def test_errors_are_one_line_and_exit_code_1(calspec, capsys, arguments, message):
    assert main(["expect", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_file_that_covers_a_filter_is_taken(calspec, capsys):
    whole = blackbody_spectrum("WD1057+719", temperature=42000, v_mag=14.68)
    part = whole.wavelength < 2.5e4
    parts = {key: getattr(whole, key)[part] for key in ("wavelength", "flux", "staterr", "syserr")}
    write_spectrum(replace(whole, **parts), calspec / "calspec" / "wd1057_719_stiswfcnic_001.fits")
    assert main(["expect", "WD1057+719", "--output", "wd.ecsv"]) == 0
    out = capsys.readouterr().out
    assert "F480M: spectrum wd1057_719_mod_001.fits taken: spectrum of WD1057+719 covers" in out
    assert "F090W: spectrum" not in out
    table = Table.read("wd.ecsv")
    rates = [expected_rate(whole, *load_throughput().curve(name)).electron_rate for name in FILTERS]
    # the last point of the cut file lies within no band
    assert np.allclose(table["expected_electron_rate"], rates, rtol=1e-9)
