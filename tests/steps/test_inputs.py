"""What the steps can be given, and what they refuse."""

import json
import shutil

import numpy as np
import pytest
from jwst.associations import load_asn
from jwst.associations.asn_from_list import asn_from_list
from jwst.associations.lib.rules_level3_base import DMS_Level3_Base
from jwst.datamodels import ModelContainer, ModelLibrary
from stdatamodels.jwst import datamodels

from niriss_eestep.errors import AssociationError, ExposureError, NirissEEError
from niriss_eestep.exposures.associations import find_exposures, write_associations
from niriss_eestep.exposures.inputs import exposure_root, gather, science_metadata
from niriss_eestep.steps import EEPhotometryStep, FluxCalPipeline


@pytest.fixture(scope="module")
def program(simulate):
    return simulate(n_dithers=2)


@pytest.fixture
def write_asn(tmp_path, program):
    """Function that writes an association beside the program's exposures; expname, exptype pairs by product."""
    _, paths = program
    for path in paths:
        shutil.copy(path, tmp_path)

    def write(products=None, **extra):
        products = products or {"jw01094-o001_t001_niriss": [(p.name, "science") for p in paths]}
        table = {
            "asn_type": "image3",
            "asn_rule": "DMS_Level3_Base",
            "asn_pool": "none",
            "asn_id": "a3001",
            "program": "01094",
            "products": [
                {"name": name, "members": [{"expname": e, "exptype": t} for e, t in members]}
                for name, members in products.items()
            ],
        }
        path = tmp_path / "jw01094_asn.json"
        path.write_text(json.dumps(table | extra))
        return path

    return write


def names(products):
    return [(product.name, [member.name for member in product.members]) for product in products]


ROOTS = ["jw01094001001_02101_00001_nis", "jw01094001001_02101_00002_nis"]


@pytest.mark.parametrize(
    "name",
    [
        "jw1_nis_rate.fits",
        "jw1_nis_cal.fits",
        "a/b/jw1_nis_rateints.fits",
        "jw1_nis_i2d.fits",
        "jw1_nis_eeprofile.asdf",
    ],
)
def test_the_root_of_a_name(name):
    assert exposure_root(name) == "jw1_nis"


def test_lists_and_patterns_of_files(program):
    directory, paths = program
    expected = [(None, ROOTS)]
    assert names(gather([[str(p) for p in paths]])) == expected
    assert names(gather([str(directory / "*_rate.fits")])) == expected
    assert names(gather([paths[0], [paths[1]]])) == expected
    assert names(gather(["*_rate.fits"], input_dir=str(directory))) == expected
    with pytest.raises(ExposureError, match="no file fits this pattern"):
        gather([str(directory / "*_cal.fits")])


def test_a_pattern_may_be_in_the_directory(program):
    directory, _ = program
    pattern = directory.parent / f"{directory.name[:-1]}[{directory.name[-1]}]" / "*_rate.fits"
    assert names(gather([str(pattern)])) == [(None, ROOTS)]


@pytest.mark.parametrize("exptype", ["science", "SCIENCE", "Science"])
def test_exptypes_in_any_case(write_asn, program, exptype):
    _, paths = program
    asn = write_asn({"p": [(p.name, exptype) for p in paths]})
    assert names(gather([asn])) == [("p", ROOTS)]


def test_background_members_are_not_used(write_asn, program, caplog):
    _, paths = program
    asn = write_asn({"p": [(paths[0].name, "science"), (paths[1].name, "background")]})
    with caplog.at_level("INFO"):
        assert names(gather([asn])) == [("p", ROOTS[:1])]
    assert "members other than science are not used: 1 background" in caplog.text


def test_several_products(write_asn, program):
    _, paths = program
    asn = write_asn({"a": [(paths[0].name, "science")], "b": [(p.name, "science") for p in paths]})
    assert names(gather([asn])) == [("a", ROOTS[:1]), ("b", ROOTS)]


def test_what_asn_from_list_makes(program, monkeypatch, write_asn, tmp_path):
    directory, paths = program
    monkeypatch.chdir(directory)
    table = asn_from_list([p.name for p in paths], product_name="standard", rule=DMS_Level3_Base)
    assert names(gather([table])) == [("standard", ROOTS)]
    assert FluxCalPipeline.call(table, configure_log=False).meta.filename == "standard_absflux.asdf"
    text = table.dump()[1]
    path = tmp_path / "listed_asn.json"
    path.write_text(text)
    assert names(gather([path])) == [("standard", ROOTS)]
    assert science_metadata(str(path))["meta.instrument.pupil"] == "F090W"


def test_associations_of_this_package_are_read_by_the_standard_loaders(program, tmp_path):
    directory, paths = program
    exposures, _ = find_exposures(directory)
    (path,) = write_associations(exposures, directory)
    with path.open() as file:
        table = load_asn(file)
    assert [member["expname"] for member in table["products"][0]["members"]] == [p.name for p in paths]
    library = ModelLibrary(str(path))
    assert len(library) == 2
    assert names(gather([library])) == [(table["products"][0]["name"], ROOTS)]
    container = ModelContainer(str(path))
    assert names(gather([container])) == [(table["products"][0]["name"], ROOTS)]


def test_libraries_and_containers(program, write_asn):
    _, paths = program
    asn = write_asn({"p": [(paths[0].name, "science"), (paths[1].name, "background")]})
    for library in (ModelLibrary(str(asn), on_disk=True), ModelLibrary(str(asn)), ModelContainer(str(asn))):
        assert names(gather([library])) == [("p", ROOTS[:1])]
    models = [datamodels.open(p) for p in paths]
    for library in (ModelLibrary(models), ModelContainer(models), models):
        assert names(gather([library])) == [(None, ROOTS)]


def test_a_library_on_disk_gives_what_the_files_give(program, write_asn):
    _, paths = program
    asn = write_asn()
    library = ModelLibrary(str(asn), on_disk=True)
    from_library = EEPhotometryStep.call(library, configure_log=False)
    from_files = EEPhotometryStep.call([str(p) for p in paths], configure_log=False)
    for one, other in zip(from_library, from_files, strict=True):
        assert one.meta.filename == other.meta.filename
        np.testing.assert_array_equal(one.count_rate, other.count_rate)


def test_models_in_memory_are_not_changed(program):
    _, (path, _) = program
    with datamodels.open(path) as model:
        before = model.copy()
        EEPhotometryStep.call(model, configure_log=False)
        for name in ("data", "err", "dq", "var_poisson", "var_rnoise"):
            np.testing.assert_array_equal(getattr(model, name), getattr(before, name))
        assert model.to_flat_dict(include_arrays=False) == before.to_flat_dict(include_arrays=False)


def test_exposures_of_one_name_in_two_folders_are_refused(program, tmp_path):
    _, paths = program
    other = tmp_path / paths[0].name
    shutil.copy(paths[0], other)
    with pytest.raises(AssociationError, match=f"{tmp_path}.*same exposure name {ROOTS[0]}"):
        EEPhotometryStep.call([str(paths[0]), str(other)], configure_log=False)


def test_rate_and_cal_of_one_exposure_are_refused(simulate):
    _, (path,) = simulate(kinds=("rate", "cal"))
    with pytest.raises(AssociationError, match=r"_cal\.fits and .*_rate\.fits have the same exposure name"):
        gather([str(path), str(path).replace("_rate", "_cal")])


def test_one_name_in_two_products_is_refused_only_for_other_files(write_asn, program, tmp_path):
    _, paths = program
    write_asn({"a": [(paths[0].name, "science")], "b": [(str(paths[0]), "science")]})
    with pytest.raises(AssociationError, match="same exposure name"):
        gather([tmp_path / "jw01094_asn.json"])


def test_two_products_of_one_name_are_refused(write_asn, program, tmp_path):
    asn = write_asn()
    copy = tmp_path / "other_asn.json"
    shutil.copy(asn, copy)
    with pytest.raises(AssociationError, match="2 products are called jw01094-o001_t001_niriss"):
        gather([asn, copy])


@pytest.mark.parametrize("kind", ["tso3", "TSO-image2"])
def test_time_series_associations_are_refused(write_asn, kind):
    with pytest.raises(AssociationError, match=f"association type {kind}: time series"):
        gather([write_asn(asn_type=kind)])


def change(path, target, changes):
    """Copy an exposure with other metadata."""
    with datamodels.open(path) as model:
        for name, value in changes.items():
            model[name] = value
        model.save(target)
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meta.bunit_data": "ELECTRONS/S"}, "BUNIT is 'ELECTRONS/S'; count rates"),
        ({"meta.bunit_data": "MJy/sr"}, "image in MJy/sr without a usable PHOTMJSR"),
        ({"meta.target.type": "MOVING"}, "TARGTYPE is MOVING"),
        ({"meta.instrument.name": "NIRCAM"}, "instrument is NIRCAM"),
        ({"meta.exposure.type": "NIS_WFSS"}, "EXP_TYPE is NIS_WFSS"),
        ({"meta.exposure.type": "NIS_SOSS"}, "EXP_TYPE is NIS_SOSS"),
        ({"meta.instrument.pupil": "GR700XD"}, "FILTER=CLEAR, PUPIL=GR700XD"),
    ],
)
def test_exposures_of_other_kinds_are_refused(program, tmp_path, changes, message):
    _, (path, _) = program
    wrong = change(path, tmp_path / path.name, changes)
    with pytest.raises(ExposureError, match=message):
        EEPhotometryStep.call(str(wrong), configure_log=False)


def test_an_exposure_of_another_detector_is_recorded(program, tmp_path):
    _, paths = program
    wrong = change(
        paths[1], tmp_path / paths[1].name, {"meta.instrument.name": "NIRCAM", "meta.instrument.detector": "NRCA1"}
    )
    result = FluxCalPipeline.call([str(paths[0]), str(wrong)], configure_log=False)
    status = dict(zip(result.exposures["exposure"], result.exposures["status"], strict=True))
    assert status[ROOTS[0]] == "measured"
    assert "instrument is NIRCAM" in status[ROOTS[1]]
    with pytest.raises(NirissEEError, match="instrument is NIRCAM"):
        FluxCalPipeline.call([str(paths[0]), str(wrong)], on_error="raise", configure_log=False)
