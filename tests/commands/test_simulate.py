import json
from itertools import combinations

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from stdatamodels.jwst import datamodels

from niriss_eestep.cli import main

SMALL = ["--subarrays", "SUB64", "--electrons", "1e4", "--no-progress"]


def simulate(directory, *options):
    return main(["simulate", str(directory), *SMALL, *options])


def test_it_writes_what_it_says(tmp_path, capsys):
    directory = tmp_path / "program"
    assert simulate(directory, "--filters", "F200W,F277W", "--nan-pixels", "15", "--low-pixels", "5") == 0
    said = capsys.readouterr().out
    assert "4 exposures (*_rate.fits) of WD1057+719 in 2 groups" in said
    truth = Table.read(directory / "truth.ecsv")
    assert list(truth["filter"]) == ["F200W", "F200W", "F277W", "F277W"]
    association = json.loads((directory / "jw01094-o001_t001_niriss_asn.json").read_text())
    members = [member["expname"] for member in association["products"][0]["members"]]
    assert members == [f"{root}_rate.fits" for root in truth["exposure"]]
    with datamodels.open(directory / members[0]) as model:
        # the reference pixels of a SUB64 are flagged too
        assert np.isnan(model.data[:60, :60]).sum() == 15


def test_each_switch_of_detector_and_sky_changes_the_exposures(tmp_path):
    flat = np.random.default_rng(1).normal(1, 0.02, (2048, 2048)).astype(np.float32)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(flat, name="SCI")]).writeto(tmp_path / "flat.fits")
    images = {}
    switches = (
        "", "--one-over-f 12", "--one-over-f 12 --fast-axis rows", "--ipc", "--migration 50", "--flat-error 0.01",
        "--flat-error 0.01 --flat-scale 5", f"--response {tmp_path / 'flat.fits'}", "--snowballs 1",
        "--snowballs 1 --snowball-height 9", "--snowballs 1 --snowball-width 9", "--persistence 0.1",
        "--curvature 0.001", "--structure 0.5", "--aspect 1.005", "--area-gradient 0.1", "--hits 3",
    )  # fmt: skip
    for options in map(str.split, switches):
        directory = tmp_path / "_".join(options).replace("/", "")
        number = "2" if "--persistence" in options else "1"
        assert simulate(directory, "--filters", "F200W", "--dithers", number, *options) == 0
        with datamodels.open(sorted(directory.glob("*_rate.fits"))[-1]) as model:
            images[str(options)] = np.nan_to_num(model.data[:60, :60])
    found = list(images.values())
    alike = [(a, b) for a, b in combinations(range(len(found)), 2) if np.allclose(found[a], found[b], rtol=1e-5)]
    assert not alike


def test_reference_pixels_can_be_left_out(tmp_path):
    for options in ((), ("--no-reference-pixels",)):
        assert simulate(tmp_path / str(len(options)), "--filters", "F200W", "--dithers", "1", *options) == 0
    with_them, without = (fits.getdata(next((tmp_path / n).glob("*_rate.fits")), "DQ") for n in ("0", "1"))
    assert (with_them[60:] & (1 << 31) != 0).all()
    assert not without.any()


def test_a_flat_fields_error_is_that_of_the_detector(tmp_path):
    assert simulate(tmp_path, "--filters", "F200W", "--flat-error", "0.05", "--background", "1e4", "--v-mag", "30") == 0
    images = [fits.getdata(path)[:60, :60] for path in sorted(tmp_path.glob("*_rate.fits"))]
    assert np.corrcoef(*(image.ravel() for image in images))[0, 1] > 0.95


def test_a_response_that_is_no_flat_field_is_refused(tmp_path, capsys):
    (tmp_path / "flat.fits").write_text("no FITS")
    assert simulate(tmp_path / "out", "--filters", "F200W", "--response", str(tmp_path / "flat.fits")) == 1
    assert "flat.fits" in capsys.readouterr().err


def test_cal_and_rateints(tmp_path):
    assert simulate(tmp_path, "--filters", "F480M", "--dithers", "1", "--cal", "--rateints") == 0
    names = sorted(path.name for path in tmp_path.glob("*.fits"))
    assert names == ["jw01094001001_02101_00001_nis_cal.fits", "jw01094001001_02101_00001_nis_rateints.fits"]
    (association,) = tmp_path.glob("*_asn.json")
    assert "_cal.fits" in association.read_text()


def test_the_ratio_is_the_truths(tmp_path):
    assert simulate(tmp_path, "--filters", "F090W", "F115W", "--ratio", "0.98", "F115W=1.03") == 0
    truth = Table.read(tmp_path / "truth.ecsv")
    np.testing.assert_allclose(truth["ratio"], [0.98, 0.98, 1.03, 1.03])


def test_a_star_of_ones_own(tmp_path):
    star = ["--target", "MY STAR", "--ra", "10", "--dec", "-20", "--temperature", "6000", "--v-mag", "14"]
    assert simulate(tmp_path, "--filters", "F480M", "--dithers", "1", *star) == 0
    assert (tmp_path / "calspec" / "my_star_mod_001.fits").is_file()
    assert list(Table.read(tmp_path / "truth.ecsv")["target"]) == ["MY STAR"]


def test_a_spectrum_of_ones_own(tmp_path):
    assert simulate(tmp_path / "a", "--filters", "F480M", "--dithers", "1") == 0
    spectrum = tmp_path / "a" / "calspec" / "wd1057_719_mod_001.fits"
    other = ["--filters", "F480M", "--dithers", "1", "--v-mag", "12", "--spectrum", str(spectrum)]
    assert simulate(tmp_path / "b", *other) == 0
    first, second = (Table.read(tmp_path / name / "truth.ecsv") for name in "ab")
    np.testing.assert_allclose(first["electron_rate"], second["electron_rate"])


def test_a_known_star_made_fainter(tmp_path):
    for name, options in (("a", ()), ("b", ("--v-mag", "17.3"))):
        assert simulate(tmp_path / name, "--filters", "F480M", "--dithers", "1", *options) == 0
    first, second = (Table.read(tmp_path / name / "truth.ecsv") for name in "ab")
    # 2.5 magnitudes are a factor of ten
    assert first["electron_rate"][0] / second["electron_rate"][0] == pytest.approx(10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--filters", "F999W"], "F999W"),
        (["--filters", "F090W", "--subarrays", "SUB80"], "SUB80"),
        (["--target", "Sirius"], "--ra, --dec, --temperature, --v-mag"),
        (["--ratio", "F090W=big"], "F090W=big"),
        (["--ratio", "-1"], "-1"),
        (["--filters", "F480M", "--nan-pixels", "100000"], "do not fit"),
        (["--spectrum", "nowhere.fits"], "nowhere.fits"),
    ],
)
def test_what_cannot_be_simulated_is_an_error_that_names_it(tmp_path, capsys, options, message):
    assert simulate(tmp_path / "program", *options) == 1
    assert message in capsys.readouterr().err


def test_a_second_run_replaces_nothing_unasked(tmp_path, capsys):
    options = ["--filters", "F480M", "--dithers", "1"]
    assert simulate(tmp_path, *options) == 0
    assert simulate(tmp_path, *options) == 1
    assert "exists" in capsys.readouterr().err
    assert simulate(tmp_path, *options, "--overwrite") == 0
