"""What the commands import before they do anything; the benchmark has the times."""

import subprocess
import sys

import pytest

HEAVY = (
    *("matplotlib", "dask", "distributed", "poppy", "synphot", "photutils", "jinja2"),
    *("scipy.stats", "scipy.ndimage", "scipy.interpolate", "scipy.optimize", "scipy.special"),
)
LIGHT = ("numpy", "astropy", "asdf", "jwst", "stpipe", "stdatamodels", "yaml")

STRUN = """
import sys
from stpipe._cli.strun import main
sys.argv = ["strun", "niriss_fluxcal", "--help"]
try:
    main()
except SystemExit:
    pass
"""
NIRISS_EE = """
import sys
from niriss_eestep.cli import main
try:
    main({arguments})
except SystemExit:
    pass
"""
LIST = "print('MODULES', *sys.modules)"


def imported(code):
    run = subprocess.run([sys.executable, "-c", code + LIST], capture_output=True, text=True, check=True)
    assert "usage:" in run.stdout
    return set(run.stdout.rpartition("MODULES ")[2].split())


def test_help_of_the_pipeline_imports_only_what_a_step_needs():
    modules = imported(STRUN)
    assert "niriss_eestep.pipeline.fluxcal" in modules
    assert not modules & set(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["campaign", "--help"], ["simulate", "--help"]], ids=" ".join)
def test_help_of_the_command_imports_nothing_heavy(arguments):
    modules = imported(NIRISS_EE.format(arguments=arguments))
    assert not modules & {*HEAVY, *LIGHT}


def test_the_package_itself_imports_nothing():
    code = "import sys, niriss_eestep, niriss_eestep.pipeline.integration as i; i.get_steps(); print('usage:');"
    assert not imported(code) & {*HEAVY, *LIGHT}
