import json
from pathlib import Path

import pytest
from astropy.io import fits
from jwst.associations import load_asn
from jwst.associations.load_as_asn import LoadAsLevel2Asn
from jwst.datamodels import ModelLibrary

from niriss_eestep.errors import AssociationError, ParameterError
from niriss_eestep.exposures.associations import find_exposures, group_exposures, product_names, write_associations

KEYWORDS = {
    "TELESCOP": "JWST",
    "INSTRUME": "NIRISS",
    "EXP_TYPE": "NIS_IMAGE",
    "PROGRAM": "01094",
    "OBSERVTN": "001",
    "TARGPROP": "WD1057+719",
    "TARGTYPE": "FIXED",
    "FILTER": "CLEAR",
    "PUPIL": "F090W",
    "SUBARRAY": "SUB64",
    "BKGDTARG": False,
}


def put(directory, name, **changes):
    keywords = {key: value for key, value in (KEYWORDS | changes).items() if value is not None}
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(keywords))]).writeto(directory / name)


def rate(number, observation="001", suffix="rate", program="01094"):
    return f"jw{program}{observation}001_02101_{number:05d}_nis_{suffix}.fits"


def written(directory, **options):
    exposures, _ = find_exposures(directory)
    return write_associations(exposures, directory, **options)


def test_one_program_and_target_is_one_product(tmp_path):
    for number in (2, 1):
        put(tmp_path, rate(number))
    ((path, association),) = written(tmp_path).items()
    assert path.name == "jw01094-o001_t001_niriss_asn.json"
    (product,) = association["products"]
    assert product["name"] == "jw01094-o001_t001_niriss"
    assert product["members"] == [
        {"expname": rate(1), "exptype": "science"},
        {"expname": rate(2), "exptype": "science"},
    ]
    assert json.loads(path.read_text()) == association


def test_several_observations_are_a_combination(tmp_path):
    put(tmp_path, rate(1))
    put(tmp_path, rate(1, "002"), OBSERVTN="002")
    ((path, association),) = written(tmp_path).items()
    assert path.name == "jw01094-c1001_t001_niriss_asn.json"
    assert association["asn_id"] == "c1001"


def test_targets_and_programs_are_apart(tmp_path):
    put(tmp_path, rate(1))
    put(tmp_path, rate(2), TARGPROP="LDS749B")
    put(tmp_path, rate(1, program="01501"), PROGRAM="01501")
    names = [path.name.removesuffix("_asn.json") for path in written(tmp_path)]
    # targets are numbered within their program, by name
    assert names == ["jw01094-o001_t001_niriss", "jw01094-o001_t002_niriss", "jw01501-o001_t001_niriss"]
    targets = [association["target"] for association in written(tmp_path).values()]
    assert targets == ["LDS749B", "WD1057+719", "WD1057+719"]


def test_one_file_can_hold_all_targets_of_a_program(tmp_path):
    put(tmp_path, rate(1))
    put(tmp_path, rate(2), TARGPROP="LDS749B")
    exposures, _ = find_exposures(tmp_path)
    output = tmp_path / "elsewhere" / "all.json"
    ((path, association),) = write_associations(exposures, output, single=True).items()
    assert path == output
    assert [product["name"] for product in association["products"]] == [
        "jw01094-o001_t001_niriss",
        "jw01094-o001_t002_niriss",
    ]
    # members are named relative to the association, never absolutely
    members = [member["expname"] for product in association["products"] for member in product["members"]]
    assert sorted(members) == [f"../{rate(1)}", f"../{rate(2)}"]


def test_programs_do_not_share_a_file(tmp_path):
    put(tmp_path, rate(1))
    put(tmp_path, rate(1, program="01501"), PROGRAM="01501")
    exposures, _ = find_exposures(tmp_path)
    with pytest.raises(AssociationError, match="01094, 01501"):
        write_associations(exposures, tmp_path / "all.json", single=True)


def test_a_name_spelled_otherwise_is_the_same_target(tmp_path):
    put(tmp_path, rate(1))
    put(tmp_path, rate(2), TARGPROP="wd 1057+719")
    put(tmp_path, rate(3), TARGPROP=None, TARGNAME="WD1057+719")
    exposures, _ = find_exposures(tmp_path)
    groups = group_exposures(exposures)
    assert list(groups) == [("01094", "WD1057+719")]
    assert product_names(groups) == ["jw01094-o001_t001_niriss"]


def test_of_one_exposure_one_kind_is_taken(tmp_path):
    put(tmp_path, rate(1, suffix="cal"))
    put(tmp_path, rate(1))
    put(tmp_path, rate(2, suffix="cal"))
    put(tmp_path, rate(2, suffix="i2d"))
    exposures, _ = find_exposures(tmp_path)
    assert [exposure.suffix for exposure in exposures] == ["rate", "cal"]
    exposures, _ = find_exposures(tmp_path, "cal")
    assert [exposure.suffix for exposure in exposures] == ["cal", "cal"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"INSTRUME": "NIRCAM"}, "INSTRUME is 'NIRCAM'"),
        ({"EXP_TYPE": "NIS_WFSS"}, "EXP_TYPE is 'NIS_WFSS'"),
        ({"FILTER": "GR150C"}, "FILTER is 'GR150C'"),
        ({"PUPIL": "NRM"}, "PUPIL is 'NRM'"),
        ({"TARGTYPE": "MOVING"}, "MOVING"),
        ({"TSOVISIT": True}, "time-series"),
        ({"PROGRAM": None}, "no PROGRAM"),
        ({"TARGPROP": None}, "TARGPROP"),
    ],
)
def test_what_cannot_be_measured_is_left_out_with_its_reason(tmp_path, changes, reason):
    put(tmp_path, rate(1))
    put(tmp_path, rate(2), **changes)
    exposures, (left_out,) = find_exposures(tmp_path)
    assert [exposure.path.name for exposure in exposures] == [rate(1)]
    assert reason in left_out.problem


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty file"),
        (b"no image", "not a FITS file"),
        (b"SIMPLE  = T", "truncated within a header"),
        (b"\xff\x80" * 2000, "not a FITS file"),
    ],
)
def test_a_file_that_is_not_fits_is_left_out(tmp_path, content, problem):
    put(tmp_path, rate(1))
    (tmp_path / rate(2)).write_bytes(content)
    _, (left_out,) = find_exposures(tmp_path)
    assert problem in left_out.problem


def test_background_exposures_are_members_of_their_kind(tmp_path):
    put(tmp_path, rate(1))
    put(tmp_path, rate(2), BKGDTARG=True)
    ((_, association),) = written(tmp_path).items()
    kinds = [member["exptype"] for member in association["products"][0]["members"]]
    assert kinds == ["science", "background"]


def test_two_exposures_of_one_name_are_refused(tmp_path):
    exposures = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        put(tmp_path / folder, rate(1))
        exposures += find_exposures(tmp_path / folder)[0]
    with pytest.raises(AssociationError, match="two exposures named jw01094001001_02101_00001_nis"):
        group_exposures(exposures)


def test_a_directory_without_exposures_is_an_error_that_says_so(tmp_path):
    with pytest.raises(AssociationError, match="not a directory"):
        find_exposures(tmp_path / "nowhere")
    with pytest.raises(AssociationError, match="no NIRISS imaging exposure"):
        find_exposures(tmp_path)
    put(tmp_path, rate(1), EXP_TYPE="NIS_SOSS")
    with pytest.raises(AssociationError, match="NIS_SOSS"):
        find_exposures(tmp_path)


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="uncal"):
        find_exposures(tmp_path, "uncal")


def test_only_our_own_associations_are_replaced(tmp_path):
    put(tmp_path, rate(1))
    ((path, _),) = written(tmp_path).items()
    put(tmp_path, rate(2))
    ((_, association),) = written(tmp_path).items()
    assert len(association["products"][0]["members"]) == 2
    path.write_text(json.dumps({"asn_pool": "jw01094_pool.csv"}))
    with pytest.raises(AssociationError, match="not written by niriss-ee"):
        written(tmp_path)


@pytest.fixture
def simulated(tmp_path):
    from gaussian import GaussianPSF

    from niriss_eestep.instrument import FILTERS
    from niriss_eestep.simulate.program import Program, simulate_program

    program = Program((("F090W", "SUB64"),), electrons=1e5)
    simulate_program(tmp_path, program, psfs=dict.fromkeys(FILTERS, GaussianPSF(2.0)))
    ((path, _),) = written(tmp_path).items()
    return path


def test_jwst_loads_it(simulated):
    with simulated.open() as file:
        association = load_asn(file)
    assert association["products"][0]["name"] == "jw01094-o001_t001_niriss"


def test_jwst_loads_it_as_level_2(simulated):
    association = LoadAsLevel2Asn.load(str(simulated))
    assert association["program"] == "01094"
    assert len(association["products"][0]["members"]) == 2


def test_a_model_library_opens_its_members(simulated, monkeypatch):
    # members are found beside the association, wherever the process runs
    monkeypatch.chdir(Path("/"))
    library = ModelLibrary(str(simulated))
    with library:
        model = library.borrow(1)
        assert model.meta.filename == "jw01094001001_02101_00002_nis_rate.fits"
        library.shelve(model, 1, modify=False)
