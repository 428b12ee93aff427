"""The data models as users meet them."""

import copy
import pickle

import numpy as np
import pytest
from asdf.exceptions import ValidationError
from astropy import units as u
from astropy.table import QTable
from stdatamodels.jwst.datamodels import JwstDataModel

import niriss_eestep.products as package
from niriss_eestep.errors import ProductError
from niriss_eestep.products import open as open_product
from niriss_eestep.products.columns import schema_of
from niriss_eestep.products.metadata import file_sha256, made_of
from niriss_eestep.products.models import MODELS

KINDS = sorted(model.kind for model in MODELS.values())


def test_package_gives_models_and_open():
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) == set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        package.Nothing  # noqa: B018


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_models_are_copied_and_pickled_with_arrays_of_their_own(products, kind, duplicate):
    model = products[kind]
    twin = duplicate(model)
    assert type(twin) is type(model)
    for name in schema_of(model.schema_url).arrays:
        _assert_equal(twin[name], model[name])
    twin.radius[:] = -1
    assert (model.radius > 0).all()
    twin.meta.filename = "twin.asdf"
    assert model.meta.filename != "twin.asdf"


def _assert_equal(first, second):
    """Compare arrays, lists of names, and tables by column: NaN equals NaN."""
    dtype = getattr(first, "dtype", None)
    if dtype is None or dtype.names is None:
        np.testing.assert_array_equal(first, second)
        return
    assert dtype == second.dtype
    for name in dtype.names:
        np.testing.assert_array_equal(first[name], second[name])


def test_wrong_value_raises_when_it_is_set(products):
    with pytest.raises(ValidationError):
        products["ee_profile"].meta.ee.status = "perhaps"


def test_wrong_array_raises_when_it_is_written(products, tmp_path):
    model = products["ee_profile"]
    model.count_rate = np.ones(7)
    with pytest.raises(ProductError, match="count_rate has 7 values along radius, radius has 3"):
        model.save(tmp_path / "wrong.asdf")
    assert not list(tmp_path.iterdir())


def test_save_takes_a_naming_function_as_stpipe_gives_it(products, tmp_path):
    model = products["ee_profile"]
    model.meta.filename = "a_rate.fits"
    path = model.save(lambda name: str(tmp_path / name.replace("_rate.fits", "_eeprofile.asdf")))
    assert open_product(path).meta.filename == "a_eeprofile.asdf"


def test_products_are_not_fits(products, tmp_path):
    with pytest.raises(ProductError, match="export"):
        products["ee_profile"].save(tmp_path / "a.fits")


def test_class_opens_its_own_files_only(products, tmp_path):
    path = products["ee_profile"].save(tmp_path / "a_eeprofile.asdf")
    assert package.EEProfileModel(path).meta.filename == "a_eeprofile.asdf"
    with pytest.raises(ProductError, match="holds EEProfileModel, expected SBProfileModel"):
        package.SBProfileModel(path)


def test_cal_logs_and_reference_names_survive(products, tmp_path):
    model = products["ee_profile"]
    model.cal_logs = {"ee_photometry": ["2026-01-01 - stpipe - INFO - done"]}
    for kind in ("psfee", "throughput", "stdspec", "gain", "psfimages", "apcorr"):
        assert hasattr(model.meta.ref_file, kind)
        getattr(model.meta.ref_file, kind).name = f"{kind}.asdf"
    found = open_product(model.save(tmp_path / "a.asdf"))
    assert found.cal_logs.ee_photometry[0].endswith("done")
    assert found.meta.ref_file.psfimages.name == "psfimages.asdf"


def test_plain_jwst_model_reads_the_tree(products, tmp_path):
    path = products["ee_profile"].save(tmp_path / "a.asdf")
    with JwstDataModel(path) as model:
        assert model.meta.target.catalog_name == "P330E"


@pytest.mark.parametrize("kind", KINDS)
def test_repr_and_info_name_file_and_content(products, kind, capsys):
    model = products[kind]
    model.meta.filename = "x.asdf"
    assert repr(model).startswith(f"<{type(model).__name__} x.asdf: ")
    model.info()
    assert "F090W" in capsys.readouterr().out
    model.info(max_rows=200)  # asdf's listing of the tree
    assert "radius" in capsys.readouterr().out


def test_to_table_has_units_and_the_values_first(products):
    table = products["ee_profile"].to_table()
    assert isinstance(table, QTable)
    assert table.colnames[:4] == ["radius", "radius_arcsec", "count_rate", "count_rate_err"]
    assert table["electron_rate"].unit == u.electron / u.s
    assert table["n_bad"].dtype == np.int64
    combined = products["combined_sb"].to_table()
    assert combined.colnames[:3] == ["radius", "surface_brightness", "surface_brightness_err"]
    assert combined["surface_brightness"].unit == u.Unit("DN / (pix s)")


def test_to_table_of_abs_flux_gives_the_groups(products):
    table = products["abs_flux"].to_table()
    assert table["filter"].tolist() == ["F090W", "F480M"]
    assert table["photmjsr"].unit == u.Unit("MJy s / (DN sr)")
    assert table["count_rate"].info.description == "Total count rate of the star"


def test_provenance_names_software_parameters_and_input(products, tmp_path):
    source = tmp_path / "a_rate.fits"
    source.write_bytes(b"abc")
    model = products["ee_profile"]
    model._instance["meta"]["eestep"], _ = made_of({"radii": (5.0, np.float64(9.0)), "source_x": None}, [source], [])
    found = open_product(model.save(tmp_path / "a.asdf")).meta.eestep
    assert found.parameters.radii == [5.0, 9.0]
    # the SHA-256 of "abc" is the standard's own test vector (FIPS 180-2)
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert found.input[0].instance == {"filename": "a_rate.fits", "sha256": expected}
    assert file_sha256(source) == expected
    assert found.jwst_version[0].isdigit()


def test_fingerprint_changes_with_parameters_input_and_references(tmp_path):
    source, reference = tmp_path / "a.fits", tmp_path / "psfee.asdf"
    source.write_bytes(b"a")
    reference.write_bytes(b"r")

    def found(r=5, references=(("psfee", reference),)):
        return made_of({"r": r}, [source], references)[0]["fingerprint"]

    first = found()
    assert found() == first
    assert found(r=6) != first
    assert found(references=()) != first
    source.write_bytes(b"b")
    second = found()
    assert second != first
    reference.write_bytes(b"s")
    assert found() != second
