"""`niriss-ee show` and `niriss-ee export`."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from niriss_eestep.commands import export, show
from niriss_eestep.commands.arguments import COMMANDS
from niriss_eestep.errors import NirissEEError, ProductError
from niriss_eestep.products.convert import abs_flux_model


def _run(command, *arguments):
    parser = argparse.ArgumentParser()
    COMMANDS[command.__name__.rpartition(".")[2]][0](parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


def _abs_flux(target="P330E"):
    row = {
        "target": target,
        "filter": "F090W",
        "subarray": "SUB128",
        "electron_rate": 15778.0,
        "electron_rate_err": 4.8,
    }
    rows = [row | {"n_exposures": 2, "n_measured": 2, "ratio": 1.00123, "status": "measured"}]
    one = np.ones((1, 1))
    arrays = {"radius_used": one, "total_count_rate": one, "total_count_rate_err": one, "ee_effective": one}
    return abs_flux_model(rows, radius=[5.0], **arrays)


@pytest.fixture
def product(tmp_path):
    return _abs_flux().save(tmp_path / "p330e_absflux.asdf")


def test_text_is_no_formula_in_a_spreadsheet(tmp_path):
    from niriss_eestep.products.tables import FORMATS

    table = Table({"target": ["=HYPERLINK(1)", "@SUM(A1)", "WD1057+719"], "x": [-1.0, 2, 3]})
    lines = FORMATS["csv"](table).decode().splitlines()
    assert lines == ["target,x", "'=HYPERLINK(1),-1.0", "'@SUM(A1),2.0", "WD1057+719,3.0"]
    assert list(table["target"]) == ["=HYPERLINK(1)", "@SUM(A1)", "WD1057+719"]


@pytest.mark.parametrize("redirect", [">/dev/full", ">&-"])
def test_no_traceback_where_nothing_can_be_printed(tmp_path, redirect):
    script = Path(sys.executable).with_name("niriss-ee")
    done = subprocess.run(
        f"{script} expect --help {redirect}; {script} simulate x --filters F200W --subarrays SUB64 {redirect}",
        shell=True, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_show_names_product_numbers_and_status(product, capsys):
    assert _run(show, product) == 0
    text = capsys.readouterr().out
    assert text.startswith("p330e_absflux.asdf: Absolute flux calibration")
    line = next(line for line in text.splitlines() if "P330E" in line)
    assert " ".join(line.split()) == "P330E F090W SUB128 2 2 15778 4.8 nan 1.00123 nan nan nan nan measured"


def test_show_aligns_its_columns(product, capsys):
    _run(show, product)
    lines = capsys.readouterr().out.splitlines()
    head, units, row = lines[next(k for k, line in enumerate(lines) if "zeropoint_ab" in line) :][:3]
    # numbers end where their heading ends, words begin where it begins
    assert row.index("15778") + len("15778") == head.index("electron_rate ") + len("electron_rate")
    assert row.index("measured") == head.index("status")
    assert "electron / s" in units


def test_show_goes_on_after_a_file_that_is_no_product(product, tmp_path, capsys):
    assert _run(show, tmp_path / "missing.asdf", product) == 1
    captured = capsys.readouterr()
    assert "missing.asdf: no such file" in captured.err
    assert "P330E" in captured.out


def test_header_text_cannot_control_the_terminal(tmp_path, capsys):
    model = _abs_flux("\x1b[2Jevil\nmeasured\u202e")
    model.meta.program.title = "\x1b]0;title\x07"
    _run(show, model.save(tmp_path / "evil_absflux.asdf"))
    text = capsys.readouterr().out
    assert not any(character in text for character in "\x1b\x07\u202e")
    assert r"\x1b[2Jevil\nmeasured\u202e" in text
    assert "\x1b" not in repr(model)


def test_export_writes_a_file_or_to_standard_output(product, tmp_path, capsys):
    target = tmp_path / "table.ecsv"
    _run(export, product, "--format", "ecsv", "--output", target)
    assert Table.read(target)["ratio"][0] == 1.00123
    _run(export, product, "--format", "csv", "--columns", "filter,ratio")
    assert capsys.readouterr().out.split() == ["filter,ratio", "F090W,1.00123"]


def test_every_format_is_offered(product, tmp_path):
    for form in ("ecsv", "csv", "fits", "latex", "totfluxes"):
        _run(export, product, "--format", form, "--output", tmp_path / f"table.{form}")
        assert (tmp_path / f"table.{form}").stat().st_size > 50


def test_fits_needs_a_file(product):
    with pytest.raises(NirissEEError, match="needs --output"):
        _run(export, product, "--format", "fits")


def test_export_says_what_cannot_be_written(product, tmp_path):
    with pytest.raises(ProductError, match="No such file or directory"):
        _run(export, product, "--output", tmp_path / "missing" / "table.ecsv")
    with pytest.raises(ProductError, match="radtab is of another kind"):
        _run(export, product, "--format", "radtab")


def test_show_gives_the_verdict_and_the_error_budget(product, tmp_path, capsys):
    model = _abs_flux()
    model.table["ratio_err"], model.table["err_aperture"], model.table["err_photon"] = 0.002, 0.0017, 0.001
    _run(show, model.save(tmp_path / "budget_absflux.asdf"))
    text = capsys.readouterr().out
    assert "1 of 1 filters agree with 1 within 3 sigma; largest difference +0.12 % (F090W SUB128, 0.6 sigma)" in text
    assert "errors dominated by the aperture correction" in text
    head, _, row, left_out = text.splitlines()[-4:]
    assert row[: head.index("aperture correction") + len("aperture correction")].endswith(" 0.17")
    assert row.endswith(" 0.2")
    assert left_out.strip().startswith("Not included: gain (gain_err is 0), throughput")


def test_the_shell_completes_commands_and_options(tmp_path):
    def completed(line):
        answer = tmp_path / "answer"
        environment = os.environ | {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}
        environment |= {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
        subprocess.run([Path(sys.executable).with_name("niriss-ee")], env=environment, check=True)
        return {word.strip() for word in answer.read_text().splitlines()}

    assert completed("niriss-ee exp") == {"expect", "export"}
    assert "votable" in completed("niriss-ee export x.asdf --format v")
