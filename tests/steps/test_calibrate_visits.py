"""The step that makes reference files of many visits."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from stdatamodels.jwst import datamodels

from niriss_eestep import cli, products
from niriss_eestep.errors import NirissEEError, ParameterError, ProductError
from niriss_eestep.reference import load_psfee, write_psfee
from niriss_eestep.steps import CalibrateVisitsStep

STRUN = Path(sys.executable).with_name("strun")


def call(*inputs, **parameters):
    return CalibrateVisitsStep.call(*inputs, configure_log=False, **parameters)


def assert_same_file(found, expected):
    """Same tables and headers, but for when they were made."""
    difference = fits.FITSDiff(found, expected, ignore_keywords=["DATE"], ignore_hdus=["ASDF"])
    assert difference.identical, difference.report()


def test_strun_writes_what_the_command_writes(tmp_path, visits):
    options = ("--author=A. Calibrator", "--convention=mono")
    assert cli.main(["calibrate", *visits, f"--output-dir={tmp_path / 'command'}", *options]) == 0
    given = [*options, f"--output_dir={tmp_path / 'step'}", "--fill_missing=false"]
    subprocess.run([STRUN, "calibrate_visits", *visits, *given], check=True, capture_output=True)
    assert sorted(path.name for path in (tmp_path / "step").iterdir()) == ["niriss_apcorr.fits", "niriss_photom.fits"]
    for path in (tmp_path / "step").iterdir():
        assert_same_file(path, tmp_path / "command" / path.name)
        with datamodels.open(path, strict_validation=True) as model:
            assert model.meta.author == "A. Calibrator"
            assert model.meta.filename == path.name


def test_files_models_and_associations_give_the_same(tmp_path, visits):
    photom, apcorr = call(visits)
    assert isinstance(photom, datamodels.NisImgPhotomModel)
    assert isinstance(apcorr, datamodels.NisImgApcorrModel)
    assert not list(tmp_path.glob("*.fits"))
    # 0.2 % over eight visits, 4 sigma; at t0 the line is known twice as badly as the mean
    assert photom.phot_table["photmjsr"] == pytest.approx([0.24, 0.26], rel=0.006)
    members = [{"expname": Path(path).name, "exptype": "science"} for path in visits]
    association = tmp_path / "visits_asn.json"
    association.write_text(json.dumps({"products": [{"name": "cycle1", "members": members}]}))
    for same in (call([products.open(path) for path in visits]), call(str(association))):
        assert np.array_equal(same[0].phot_table, photom.phot_table)
        assert np.array_equal(same[1].apcorr_table, apcorr.apcorr_table)
    assert [model.meta.filename for model in same] == ["cycle1_photom.fits", "cycle1_apcorr.fits"]


def test_files_are_named_and_replaced_whole(tmp_path, visits, monkeypatch):
    call(visits, output_file="cycle2.fits", output_dir=str(tmp_path / "out"))
    names = ["cycle2_apcorr.fits", "cycle2_photom.fits"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    before = (tmp_path / "out" / names[1]).read_bytes()
    monkeypatch.setattr(datamodels.NisImgPhotomModel, "save", full_disk)
    with pytest.raises(ProductError, match="No space left on device"):
        call(visits[:4], output_file="cycle2", output_dir=str(tmp_path / "out"))
    assert (tmp_path / "out" / names[1]).read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def full_disk(_, path):
    Path(path).write_bytes(b"SIMPLE")
    raise OSError(28, "No space left on device", path)


def test_visits_of_one_name_in_two_directories(tmp_path, abs_flux_row, write_visit):
    """Epochs of one program: the pipeline calls their products alike."""
    paths = []
    for i in range(2):
        (tmp_path / str(i)).mkdir()
        row = abs_flux_row("F090W", 0.24, 59800.0 + 200 * i)
        paths.append(write_visit(tmp_path / str(i) / "jw01094_absflux.asdf", row))
    photom, _ = call(paths)
    assert photom.phot_table["photmjsr"] == pytest.approx([0.24])


def test_encircled_energy_of_ones_own(tmp_path, visits):
    psfee = load_psfee()
    write_psfee(psfee, tmp_path / "mine.asdf")
    _, packaged = call(visits)
    _, own = call(visits, override_psfee=str(tmp_path / "mine.asdf"), sky_inner=25.0, sky_outer=35.0)
    assert set(own.apcorr_table["skyin"]) == {25.0}
    # the same EE at the same radius; more starlight in the nearer annulus, so a larger correction
    assert own.apcorr_table["radius"] == pytest.approx(packaged.apcorr_table["radius"], rel=1e-6)
    assert np.all(own.apcorr_table["apcorr"] > packaged.apcorr_table["apcorr"])
    assert "Encircled energy: mine.asdf" in str(own._instance["history"])


def test_what_is_left_out_is_told(tmp_path, visits, abs_flux_row, write_visit, caplog):
    failed = abs_flux_row("F090W", 0.24) | {"status": "failed: no star", "count_rate": np.nan}
    with caplog.at_level(logging.INFO, logger="niriss_eestep"):
        call([*visits, write_visit(tmp_path / "lost_absflux.asdf", failed)])
    assert "lost_absflux.asdf F090W SUB64: not used: failed: no star" in caplog.text
    assert "F090W: factor 1.0" in caplog.text


def test_bad_input_is_told(tmp_path, visits, abs_flux_row, write_visit):
    with pytest.raises(ProductError, match=r"gone_absflux.asdf: no such file"):
        call(str(tmp_path / "gone_absflux.asdf"))
    with pytest.raises(ProductError, match="no visits"):
        CalibrateVisitsStep().run([])
    with pytest.raises(ProductError, match="repeats a visit"):
        call([*visits, visits[0]])
    image = datamodels.ImageModel((4, 4))
    image.meta.filename = "a_rate.fits"
    with pytest.raises(ProductError, match=r"a_rate.fits: holds ImageModel, absolute flux"):
        call(image)
    with pytest.raises(ParameterError, match="no visit used it"):
        call(visits, reference_subarray="SUB80")
    with pytest.raises(ParameterError, match="sky annulus from 40 to 30 pix"):
        call(visits, sky_inner=40.0, sky_outer=30.0)
    with pytest.raises(ParameterError, match="useafter 'yesterday'"):
        call(visits, useafter="yesterday")
    with pytest.raises(NirissEEError, match="does not exist"):
        call(visits, override_psfee=str(tmp_path / "gone.asdf"))
    with pytest.raises(NirissEEError, match="give pedigree and useafter"):
        call(write_visit(tmp_path / "undated_absflux.asdf", abs_flux_row("F090W", 0.24, np.nan)))
    with pytest.raises(ParameterError, match=r"output_ext=\.asdf: no product is of this kind"):
        call(visits, output_ext=".asdf", output_dir=str(tmp_path), save_results=True)
