"""Damaged files are told, whatever the damage: see mutations.py for what must hold."""

import logging

import pytest
from mutations import Files

#: cases of each target: a few thousand in all, in less than a minute
CASES = {"exposure": 400, "product": 800, "association": 2000}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("mutations"))


@pytest.fixture(autouse=True)
def _quiet():
    # thousands of expected errors would only slow the tests down
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    ("target", "part"), [(target, part) for target in CASES for part in range(1 if target == "association" else 4)]
)
def test_damage_is_told(files, target, part):
    parts = 1 if target == "association" else 4
    outcomes = [files.check(target, case) for case in range(part, CASES[target], parts)]
    # damage that matters and damage that does not both occur
    assert len(set(outcomes)) > 1
