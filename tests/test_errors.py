"""What a library raises where a file is read names the file; the package's own mistakes come out as they are."""

import json
import shutil

import pytest

from niriss_eestep import errors
from niriss_eestep.errors import ExposureError, ProductError, ReferenceDataError, reading
from niriss_eestep.exposures import cut
from niriss_eestep.exposures.inputs import check_metadata
from niriss_eestep.steps import EEPhotometryStep, FluxCalPipeline


def test_an_error_of_a_library_names_the_file():
    told = r"visits\.json: not a table of visits: JSONDecodeError: "
    with pytest.raises(ReferenceDataError, match=told), reading("visits.json", "a table of visits"):
        json.loads("{")


def test_an_error_of_this_package_passes():
    with pytest.raises(ProductError, match="mine"), reading("a.asdf", "a product", ExposureError):
        raise ProductError("mine")


def test_a_mistake_of_this_package_passes(monkeypatch):
    def read():
        with reading("a.fits", "an exposure"):
            return None.no_such_attribute

    with pytest.raises(ReferenceDataError, match="AttributeError"):
        read()
    # as if this file were one of the package
    monkeypatch.setattr(errors, "_PACKAGE", __file__)
    with pytest.raises(AttributeError, match="no_such_attribute"):
        read()


@pytest.mark.parametrize("where", ["pixel_size", "_variance", "target_positions", "check_exposure"])
def test_a_mistake_in_the_cutting_of_the_stamp_is_a_traceback(simulate, monkeypatch, where):
    rate = simulate()[1][0]

    def mistaken(*_, **__):
        return None.no_such_attribute

    monkeypatch.setattr(cut, where, mistaken)
    with pytest.raises(AttributeError, match="no_such_attribute"):
        EEPhotometryStep().run(str(rate))
    with pytest.raises(AttributeError, match="no_such_attribute"):
        FluxCalPipeline(on_error="record").run(str(rate))


def test_metadata_of_another_kind_name_the_file():
    with pytest.raises(ExposureError, match=r"a_rate\.fits: .*wcsinfo is 'lost'"):
        check_metadata("a_rate.fits", {"meta": {"wcsinfo": "lost"}})


def test_a_value_of_another_type_does_not_count():
    tree = {"meta": {"target": {"ra": "unknown", "dec": 71.6}}}
    check_metadata("a_rate.fits", tree)
    assert tree == {"meta": {"target": {"dec": 71.6}}}


def test_a_damaged_array_names_the_file(simulate, tmp_path):
    rate = simulate()[1][0]
    path = tmp_path / rate.name
    shutil.copy(rate, path)
    path.write_bytes(path.read_bytes()[:-30000])
    with pytest.raises(ExposureError, match=r"rate\.fits: truncated"):
        EEPhotometryStep().run(str(path))
