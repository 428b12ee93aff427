import json

import pytest
from astropy.io import fits

from niriss_eestep.cli import main


@pytest.fixture
def directory(tmp_path):
    keywords = {
        "INSTRUME": "NIRISS",
        "EXP_TYPE": "NIS_IMAGE",
        "PROGRAM": "01094",
        "OBSERVTN": "001",
        "FILTER": "CLEAR",
        "PUPIL": "F090W",
    }
    for number, target in enumerate(("WD1057+719", "LDS749B"), start=1):
        for suffix in ("rate", "cal"):
            header = fits.Header(keywords | {"TARGPROP": target})
            fits.PrimaryHDU(header=header).writeto(tmp_path / f"jw01094001001_02101_{number:05d}_nis_{suffix}.fits")
    fits.PrimaryHDU(header=fits.Header({"INSTRUME": "MIRI"})).writeto(tmp_path / "jw1_mirimage_rate.fits")
    return tmp_path


def test_one_association_for_each_target(directory, capsys):
    assert main(["asn", str(directory)]) == 0
    said = capsys.readouterr().out
    assert "left out: jw1_mirimage_rate.fits: INSTRUME is 'MIRI'" in said
    assert "jw01094-o001_t002_niriss, 1 exposures of WD1057+719" in said
    assert len(list(directory.glob("*_asn.json"))) == 2


def test_one_file_for_all(directory, tmp_path):
    output = tmp_path / "all.json"
    assert main(["asn", str(directory), "--output", str(output), "--suffix", "cal"]) == 0
    association = json.loads(output.read_text())
    members = [member["expname"] for product in association["products"] for member in product["members"]]
    assert members == ["jw01094001001_02101_00002_nis_cal.fits", "jw01094001001_02101_00001_nis_cal.fits"]


def test_an_empty_directory_is_an_error(tmp_path, capsys):
    assert main(["asn", str(tmp_path)]) == 1
    assert "no NIRISS imaging exposure" in capsys.readouterr().err
