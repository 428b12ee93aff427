"""The examples in the docstrings."""

import doctest
from importlib import import_module

import pytest

MODULES = [
    "measure.curve_of_growth",
    "measure.ee",
    "measure.geometry",
    "measure.noise",
    "measure.position",
    "measure.profile",
    "measure.sb",
    "measure.stamp",
    "combine.mean",
    "exposures.cut",
    "exposures.inputs",
    "flux.fitted",
    "flux.synthetic",
    "flux.total_rate",
    "reference.psf",
    "reference.stdspec",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    found = doctest.testmod(import_module(f"niriss_eestep.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
