"""Damaged files are told, whatever the damage: see mutations.py for what must hold."""

import logging

import pytest
from mutations import REFERENCES, Files

#: cases of each target: a few thousand in all, in less than a minute
CASES = {"exposure": 300, "product": 500, "association": 1500} | dict.fromkeys(REFERENCES, 60)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("mutations"))


@pytest.fixture(autouse=True)
def _quiet():
    # thousands of expected errors would only slow the tests down
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


PARTS = {"exposure": 4, "product": 4}


# stdatamodels and astropy leave a file open that they cannot read
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("target", "part"), [(t, part) for t in CASES for part in range(PARTS.get(t, 1))])
def test_damage_is_told(files, target, part):
    parts = PARTS.get(target, 1)
    outcomes = [files.check(target, case) for case in range(part, CASES[target], parts)]
    # damage that matters and damage that does not both occur
    assert len(set(outcomes)) > 1
