"""Public classes are found under the names that their modules had before they moved."""

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from niriss_eestep.moved import MOVED

#: what somebody may have imported
NAMES = {
    "exceptions": ["NirissEEError", "ExposureError"],
    "associations": ["find_exposures", "write_associations"],
    "campaign": ["run_campaign"],
    "reference.facts": ["FILTERS", "GAIN"],
    "reference.throughput": ["Throughput", "load_throughput"],
    "steps.ee_photometry": ["EEPhotometryStep"],
    "steps.sb_profile": ["SBProfileStep"],
    "steps.combine_profiles": ["CombineProfilesStep"],
    "steps.abs_flux": ["AbsFluxStep"],
    "steps.calibrate_visits": ["CalibrateVisitsStep"],
    "steps.pipeline": ["FluxCalPipeline"],
    "steps.hook": ["EEPhotometryHook"],
    "measure.exposure": ["StarExposure"],
    "measure.ee_profile": ["EEOptions", "EEProfile", "measure_ee"],
    "measure.sb_profile": ["SBOptions", "SBProfile", "measure_sb"],
    "measure.neighbours": ["find_neighbour"],
    "calibrate.combine": ["combine_profiles"],
    "calibrate.abs_flux": ["total_rate"],
    "calibrate.synthetic": ["expected_rate"],
    "calibrate.visits": ["calibrate"],
    "optics.psf_image": ["PSFImage"],
    "products.io": ["open", "save_product"],
    "simulate.accuracy": ["pulls"],
}


@pytest.mark.parametrize("old", NAMES)
def test_old_names_are_found(old):
    new, told = (
        import_module(f"niriss_eestep.{MOVED[old]}"),
        rf"niriss_eestep\.{old} has moved: import niriss_eestep\.{MOVED[old]}",
    )
    for name in NAMES[old]:
        with pytest.warns(DeprecationWarning, match=told):
            assert getattr(import_module(f"niriss_eestep.{old}"), name) is getattr(new, name)
    assert new.__name__ == f"niriss_eestep.{MOVED[old]}"


@pytest.mark.parametrize("old", MOVED)
def test_every_new_name_exists(old):
    assert find_spec(f"niriss_eestep.{MOVED[old]}")


def test_a_program_that_uses_an_old_name():
    code = """
from niriss_eestep import exceptions, steps
from niriss_eestep.steps.ee_photometry import EEPhotometryStep
import niriss_eestep.measure.exposure as e
assert exceptions.ExposureError and e.StarExposure and steps.SBProfileStep
"""
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("has moved: import niriss_eestep.") >= 3


def test_nothing_else_is_found():
    with pytest.raises(ModuleNotFoundError):
        import_module("niriss_eestep.nowhere")


def test_the_package_does_not_use_them():
    code = "import sys, niriss_eestep.steps as s, warnings; warnings.simplefilter('error'); s.FluxCalPipeline()"
    subprocess.run([sys.executable, "-c", code], check=True)
