import numpy as np
import pytest

from niriss_eestep.cli import main
from niriss_eestep.products.convert import abs_flux_model


@pytest.fixture
def absflux(tmp_path):
    """An absolute-flux product alone: what it was made of is not there."""
    row = {"target": "P330E", "filter": "F090W", "pupil": "F090W", "subarray": "SUB128", "status": "failed: nothing"}
    exposure = row | {"exposure": "jw01_nis", "product": "a_f090w_sub128_eecombined.asdf"}
    nan = np.full((1, 2), np.nan)
    model = abs_flux_model(
        [row],
        radius=[5.0, 10.0],
        radius_used=np.zeros((1, 2)),
        total_count_rate=nan,
        total_count_rate_err=nan,
        ee_effective=nan,
        exposures=[exposure],
    )
    path = tmp_path / "a_absflux.asdf"
    model.save(str(path))
    return path


def test_report_beside_the_product(absflux, capsys):
    assert main(["report", str(absflux)]) == 0
    page = absflux.with_name("a_report.html")
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text(encoding="utf-8")
    assert "a_f090w_sub128_eecombined.asdf" in text
    # the group, whose exposure failed for the same reason, and the product that is missing
    assert "2 problems" in text


def test_report_of_a_directory_elsewhere(absflux, tmp_path, capsys):
    elsewhere = tmp_path / "new" / "pages"
    assert main(["report", str(tmp_path), "--output-dir", str(elsewhere)]) == 0
    assert [path.name for path in elsewhere.iterdir()] == ["a_report.html"]
    assert not list(tmp_path.glob("*.html"))


def test_one_bad_file_does_not_stop_the_others(absflux, tmp_path, capsys):
    broken = tmp_path / "0_absflux.asdf"
    broken.write_bytes(b"")
    assert main(["report", str(broken), str(absflux)]) == 1
    assert "0_absflux.asdf: empty file" in capsys.readouterr().err
    assert absflux.with_name("a_report.html").is_file()


def test_directory_without_products(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "no *_absflux.asdf" in capsys.readouterr().err


def test_directory_that_cannot_be_written(absflux, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["report", str(absflux), "--output-dir", str(tmp_path / "file")]) == 1
    assert f"report: {tmp_path / 'file'}: File exists" in capsys.readouterr().err
