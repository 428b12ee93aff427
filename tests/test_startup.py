"""What the commands import before they do anything; the benchmark has the times."""

import subprocess
import sys

import pytest

HEAVY = ("matplotlib", "dask", "distributed", "poppy", "synphot", "photutils", "scipy.stats", "scipy.ndimage", "jinja2")
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
MEASURE = """
import sys
import numpy as np
from niriss_eestep.measure.ee import measure_ee
from niriss_eestep.measure.sb import measure_sb
from niriss_eestep.measure.stamp import Stamp
light = 5000 * np.exp(-0.5 * np.sum(np.square(np.mgrid[-35:36, -35:36] / 2.0), axis=0)) + 0.5
data = light + np.sqrt(light) / 10 * np.random.default_rng(1).standard_normal(light.shape)
bad = np.zeros(light.shape, dtype=bool)
stamp = Stamp("star", data, light / 100, bad.astype("u4"), bad, 35.0, 35.0, 0, 0, 0.0656, 1.61, photmjsr=None)
assert not measure_ee(stamp).failure and np.isfinite(measure_sb(stamp).surface_brightness).all()
print("usage:")
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


def test_a_measurement_does_not_import_photutils():
    """It takes 0.3 s, and only its centroids are wanted, by their names."""
    assert "photutils" not in imported(MEASURE)


def test_the_package_itself_imports_nothing():
    code = "import sys, niriss_eestep, niriss_eestep.pipeline.integration as i; i.get_steps(); print('usage:');"
    assert not imported(code) & {*HEAVY, *LIGHT}
