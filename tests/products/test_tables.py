"""Products as tables and as files of other formats: what is written reads back, by those who read such files."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.io import ascii as astropy_ascii
from astropy.io import fits
from astropy.table import QTable, Table

from niriss_eestep.errors import ProductError
from niriss_eestep.products.tables import FORMATS, export, product_table

KINDS = ["ee_profile", "sb_profile", "combined_ee", "combined_sb", "abs_flux"]


@pytest.mark.parametrize("kind", KINDS)
def test_ecsv_reads_back_with_units(products, kind):
    found = QTable.read(export(products[kind], "ecsv").decode(), format="ascii.ecsv")
    expected = product_table(products[kind])
    assert found.colnames == expected.colnames
    for name in expected.colnames:
        assert found[name].unit == expected[name].unit
        np.testing.assert_array_equal(np.ma.filled(found[name], ""), expected[name])


@pytest.mark.parametrize("kind", KINDS)
def test_csv_reads_back(products, kind):
    found = Table.read(export(products[kind], "csv").decode(), format="ascii.csv")
    expected = product_table(products[kind])
    assert found.colnames == expected.colnames
    np.testing.assert_array_equal(found.columns[0], getattr(expected.columns[0], "value", expected.columns[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_fits_reads_back_with_units_of_the_standard(products, kind):
    expected = product_table(products[kind])
    with fits.open(io.BytesIO(export(products[kind], "fits"))) as hdus:
        hdus.verify("exception")
        table = hdus[1]
        assert table.columns.names == expected.colnames
        for name in expected.colnames:
            values = getattr(expected[name], "value", expected[name])
            np.testing.assert_array_equal(table.data[name], values, err_msg=name)
        units = dict(zip(table.columns.names, table.columns.units, strict=True))
        assert units["count_rate" if "count_rate" in units else "radius"] in ("adu s-1", "pix")
        assert table.header["TITLE"]


def test_fits_holds_text_beyond_ascii(products):
    model = products["abs_flux"]
    model.table["target"][:] = "Öpik"
    with fits.open(io.BytesIO(export(model, "fits"))) as hdus:
        assert hdus[1].data["target"][0] == r"\xd6pik"


def test_latex_joins_values_and_errors_and_escapes_text(products):
    model = products["abs_flux"]
    model.table["target"][:] = "A_&%"
    model.table["electron_rate"], model.table["electron_rate_err"] = 15778.04, 4.83
    text = export(model, "latex").decode()
    assert r"A\_\&\%" in text
    assert r"$15778.0 \pm 4.8$" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({line.replace(r"\&", "").count("&") for line in rows}) == 1
    assert len(rows) == 2 + len(model.table)


def test_exposures_are_a_table_of_their_own(products):
    table = product_table(products["combined_ee"], "exposures")
    assert table.colnames[:3] == ["names", "filenames", "status"]
    assert len(table) == 2
    assert table["mjd"].unit == u.day
    assert product_table(products["abs_flux"], "exposures")["exposure"][0].endswith("_nis")
    with pytest.raises(ProductError, match="no table of exposures"):
        product_table(products["ee_profile"], "exposures")


def test_columns_and_rows_are_chosen(products):
    text = export(products["abs_flux"], "csv", columns=["filter", "ratio"], subarray="sub128").decode()
    assert text.split() == ["filter,ratio", "F090W,1.001", "F480M,nan"]
    with pytest.raises(ProductError, match="no such column: colour"):
        export(products["abs_flux"], "csv", columns=["colour"])
    with pytest.raises(ProductError, match="no row has the target Vega"):
        export(products["abs_flux"], "csv", target="Vega")
    with pytest.raises(ProductError, match="no target to choose by"):
        export(products["ee_profile"], "csv", target="Vega")


def test_radtab_is_the_electron_rate_in_the_old_columns(products):
    model = products["ee_profile"]
    # as the old scripts read it: guessed format, four names of their own
    found = astropy_ascii.read(export(model, "radtab").decode(), names=["rad", "rad_as", "flux", "fluxerr"])
    np.testing.assert_array_equal(found["rad"], [1, 5, 10])
    # half a unit of the fifth digit, as '%.4e' rounds
    np.testing.assert_allclose(found["flux"], 1.61 * model.count_rate, rtol=5e-5)
    np.testing.assert_allclose(found["fluxerr"], 1.61 * model.count_rate_err, rtol=5e-5)
    assert export(model, "radtab").split()[:4] == [b"Radius", b"Rad_arcsec", b"CountRate", b"errCountRate"]


def test_radtab_of_surface_brightness(products):
    found = astropy_ascii.read(export(products["sb_profile"], "radtab").decode())
    assert found.colnames == ["Radius", "SB", "errSB"]
    np.testing.assert_allclose(found["SB"], products["sb_profile"].surface_brightness, atol=5e-6)


def test_avtab_has_the_exposures_and_their_mean(products):
    model = products["combined_ee"]
    found = astropy_ascii.read(export(model, "avtab").decode())
    exposures = ["Flux0", "Fluxerr0", "Flag0", "Flux1", "Fluxerr1", "Flag1"]
    assert found.colnames == ["Rad_Pix", "Arcsec", *exposures, "avFlux", "avFluxerr", "n_Good"]
    np.testing.assert_allclose(found["avFlux"], 1.61 * model.count_rate, rtol=5e-5)
    np.testing.assert_array_equal(found["Flag1"], [1, 1, 0])
    np.testing.assert_array_equal(found["n_Good"], [2, 2, 1])


def test_avtab_of_surface_brightness(products):
    found = astropy_ascii.read(export(products["combined_sb"], "avtab").decode())
    assert found.colnames == ["Rad_Pix", "sb0", "sberr0", "sb1", "sberr1", "av_sb", "av_sberr"]


def test_totfluxes_has_one_line_per_filter_of_one_subarray(products):
    model = products["abs_flux"]
    model.table["electron_rate"] = [15778.0, 120.0]
    model.table["electron_rate_err"] = [4.8, 0.5]
    found = astropy_ascii.read(export(model, "totfluxes").decode())
    assert found.colnames == ["Filter", "CountRate", "CountRateErr"]
    assert found["Filter"].tolist() == ["f090w", "f480m"]
    np.testing.assert_allclose(found["CountRate"], [15778.0, 120.0], rtol=5e-4)
    model.table["subarray"] = ["SUB128", "SUB64"]
    with pytest.raises(ProductError, match="choose --subarray from SUB128, SUB64"):
        export(model, "totfluxes")
    assert len(export(model, "totfluxes", subarray="SUB64").splitlines()) == 2


def test_old_tables_are_of_their_kind_of_product(products):
    with pytest.raises(ProductError, match="avtab is of another kind of product"):
        export(products["ee_profile"], "avtab")
    with pytest.raises(ProductError, match="columns of its own"):
        export(products["ee_profile"], "radtab", columns=["radius"])


def test_unknown_format(products):
    with pytest.raises(ProductError, match=f"choose from {', '.join(FORMATS)}"):
        export(products["ee_profile"], "xls")


@pytest.mark.parametrize("form", ["ecsv", "csv", "latex"])
def test_text_from_headers_cannot_break_out_of_a_table(products, form):
    model = products["abs_flux"]
    table = model.table.astype([(n, "U40" if n == "target" else model.table.dtype[n]) for n in model.table.dtype.names])
    table["target"] = 'x\n\x1b[31mpurple, "&\\'
    model._instance["table"] = table
    text = export(model, form).decode()
    assert "\x1b" not in text
    lines = [line for line in text.splitlines() if "purple" in line]
    assert len(lines) == 2
    if form == "csv":
        assert Table.read(text, format="ascii.csv")["target"][0] == r"x\n\x1b[31mpurple, " + '"&\\'


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["fits", "votable"])
def test_units_are_read_back_without_a_warning(products, tmp_path, kind, form):
    path = tmp_path / f"table.{form}"
    path.write_bytes(export(products[kind], form))
    expected, found = product_table(products[kind]), Table.read(path, format=form)  # a warning is an error
    for name in expected.colnames:
        unit = expected[name].unit
        wanted = u.Unit(str(unit).replace("DN", "adu").replace("electron", "ct")) if unit else None
        assert found[name].unit == wanted, name


#: astropy 8.0's own writer of such rows put a byte behind its buffer, which some later statement crashed upon
ROWS_OF_ALL_LENGTHS = """
from niriss_eestep.products.tables import FORMATS, ProductTable

for length in range(260):
    FORMATS["votable"](ProductTable({"text": ["x" * length]}, meta={"title": "", "product": ""}))
"""


def test_a_votable_s_rows_of_any_length_leave_the_memory_as_it_was():
    environment = os.environ | {"PYTHONMALLOC": "debug"}  # every byte behind a buffer is looked at
    subprocess.run([sys.executable, "-c", ROWS_OF_ALL_LENGTHS], env=environment, check=True)


def test_a_table_shows_few_digits_and_is_written_with_all(products):
    model = products["abs_flux"]
    model.table["ratio"], model.table["ratio_err"] = 1.00123456789, 0.0012345
    table = product_table(model)
    for text in (str(table), repr(table), table._repr_html_(), model._repr_html_()):
        assert "1.00123" in text
        assert "1.001234" not in text
    buffer = io.StringIO()
    table.write(buffer, format="ascii.ecsv")
    assert QTable.read(buffer.getvalue(), format="ascii.ecsv")["ratio"][0] == 1.00123456789


def test_markup_in_a_name_is_text_in_a_notebook(products):
    model = products["abs_flux"]
    model.table["target"][:] = "<b>x"
    model.meta.filename = "<script>_absflux.asdf"
    assert "<b>x" not in model._repr_html_()
    assert "<script>" not in model._repr_html_()
    assert "in memory" in type(model)()._repr_html_()


def test_ds9_regions(products):
    model = products["ee_profile"]
    record = model._instance["meta"]["ee"]
    record.update(x_center=30.25, y_center=40.5, background_r_in=20.0, background_r_out=25.0)
    record["warnings"] = ["possible neighbour at x=44, y=43 (14 pix away), 2 % of the star's light"]
    record.update(stamp_x0=3, stamp_y0=10)
    kind = np.zeros((61, 61), dtype=np.uint8)
    kind[31, 28] = 1  # flagged: x = 31, y = 41, in DS9's count from 1: 32, 42
    kind[0, 0] = 1  # beyond the annulus
    model._instance["stamp_kind"] = kind
    lines = export(model, "ds9").decode().splitlines()
    assert lines[:2] == ["# Region file format: DS9 version 4.1", "image"]
    assert f"circle(31.250,41.500,{model.radius[-1]:g}) # color=blue" in lines
    assert "annulus(31.250,41.500,20,25) # color=green dash=1 text={sky}" in lines
    assert [line for line in lines if line.startswith("box")] == ["box(32,42,1,1) # color=red tag={flagged}"]
    assert lines[-1] == "point(45,44) # point=diamond 15 color=orange text={neighbour}"
    with pytest.raises(ProductError, match="one exposure"):
        export(products["abs_flux"], "ds9")
