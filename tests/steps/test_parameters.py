"""Where a step's parameters come from: spec, parameter references by exposure, a file, keywords."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stdatamodels.jwst import datamodels
from stpipe import Step

from niriss_eestep import products
from niriss_eestep.errors import NirissEEError, ParameterError, ReferenceDataError
from niriss_eestep.exposures.inputs import science_metadata
from niriss_eestep.pipeline import parameters
from niriss_eestep.pipeline.parameters import CFG
from niriss_eestep.steps import EEPhotometryStep, FluxCalPipeline

pytestmark = pytest.mark.filterwarnings("ignore:'get_cache_lock' is deprecated:DeprecationWarning")

CHECKOUT = Path(__file__).parents[2]
STEP = "EEPhotometryStep"


@pytest.fixture(scope="module")
def program(simulate):
    """One exposure in each of two filters."""
    return simulate((("F090W", "SUB64"), ("F480M", "SUB64")))


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Directory in the place of the packaged references."""
    directory = tmp_path / "cfg"
    directory.mkdir()
    monkeypatch.setattr(parameters, "CFG", directory)
    return directory


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Directory of a user's references."""
    directory = tmp_path / "own"
    directory.mkdir()
    monkeypatch.setenv("NIRISS_EESTEP_PARS", str(directory))
    return directory


def recorded(path, *args, **options):
    """Parameters that a step records to have used."""
    result = EEPhotometryStep.call(str(path), *args, configure_log=False, **options)
    return result._instance["meta"]["eestep"]["parameters"]


def test_each_source_wins_over_those_before(program, packaged, own, write_pars, crds_cache, tmp_path):
    _, (path, _) = program
    names = ("low_sigma", "core_radius", "search_radius", "max_shift", "background_width", "background_skip")

    def values(n, value):
        return dict.fromkeys(names[:n], value)

    write_pars(STEP, "pars-eephotometrystep.asdf", values(5, 6.1), directory=packaged)
    crds_cache(
        {"pars-eephotometrystep": {"ANY": write_pars(STEP, "jwst_niriss_pars-eephotometrystep_1.asdf", values(4, 6.2))}}
    )
    write_pars(STEP, "pars-eephotometrystep.asdf", values(3, 6.3), directory=own)
    local = write_pars(STEP, "local.asdf", values(2, 6.4))
    found = recorded(path, config_file=str(local), low_sigma=6.5)
    assert {name: found[name] for name in names} == {
        "low_sigma": 6.5,  # keyword
        "core_radius": 6.4,  # parameter file
        "search_radius": 6.3,  # the user's directory
        "max_shift": 6.2,  # CRDS
        "background_width": 6.1,  # packaged
        "background_skip": 5.0,  # spec
    }


def test_a_keyword_equal_to_the_default_wins_too(program, own, write_pars):
    _, (path, _) = program
    write_pars(STEP, "pars-eephotometrystep.asdf", {"low_sigma": 4.0}, directory=own)
    assert recorded(path)["low_sigma"] == 4.0
    assert recorded(path, low_sigma=3.0)["low_sigma"] == 3.0


def test_what_is_set_on_a_step_of_a_pipeline_holds(program, own, write_pars, tmp_path):
    """As in jwst: ``pipeline.jump.rejection_threshold = 5``; before a run, and between two."""
    _, (path, _) = program
    write_pars(STEP, "pars-eephotometrystep.asdf", {"low_sigma": 4.0, "max_shift": 2.0}, directory=own)
    pipeline, found = FluxCalPipeline(output_dir=str(tmp_path), save_results=True), []
    for value in (5.0, 6.0):
        pipeline.ee_photometry.low_sigma, pipeline.ee_photometry.radii = value, np.array([3.0, value])
        pipeline.sb_profile.half_width = value / 2
        pipeline.run(str(path))
        names = [tmp_path / path.name.replace("rate.fits", f"{kind}profile.asdf") for kind in ("ee", "sb")]
        ee, sb = (products.open(name)._instance["meta"]["eestep"]["parameters"] for name in names)
        found.append((ee["low_sigma"], ee["radii"], ee["max_shift"], sb["half_width"]))
    assert found == [(5.0, [3.0, 5.0], 2.0, 2.5), (6.0, [3.0, 6.0], 2.0, 3.0)]


def test_parameters_follow_each_exposure(program, own, write_pars):
    _, paths = program
    write_pars(STEP, "pars-eephotometrystep.asdf", {"low_sigma": 4.0, "core_radius": 4.0}, directory=own)
    red = {"selection": {"filter": "F480M", "subarray": "SUB64"}}
    write_pars(STEP, "pars-eephotometrystep_red.asdf", {"low_sigma": 6.0}, directory=own, **red)
    other = {"selection": {"filter": "F480M", "subarray": "SUB128"}}
    write_pars(STEP, "pars-eephotometrystep_other.asdf", {"low_sigma": 9.0}, directory=own, **other)
    results = EEPhotometryStep.call([str(p) for p in paths], core_radius=4.5, configure_log=False)
    used = [r._instance["meta"]["eestep"]["parameters"] for r in results]
    assert [(p["low_sigma"], p["core_radius"]) for p in used] == [(4.0, 4.5), (6.0, 4.5)]


def test_the_pipeline_looks_up_its_steps_for_each_exposure(program, own, write_pars, tmp_path):
    _, paths = program
    red = {"selection": {"filter": "F480M"}}
    write_pars(STEP, "pars-eephotometrystep_red.asdf", {"low_sigma": 6.0, "max_shift": 2.0}, directory=own, **red)
    FluxCalPipeline.call(
        [str(p) for p in paths],
        steps={"ee_photometry": {"max_shift": 2.5}},
        output_dir=str(tmp_path),
        save_results=True,
        configure_log=False,
    )
    used = []
    for path in paths:
        with products.open(tmp_path / path.name.replace("_rate.fits", "_eeprofile.asdf")) as product:
            used.append(product._instance["meta"]["eestep"]["parameters"])
    assert [(p["low_sigma"], p["max_shift"]) for p in used] == [(3.0, 2.5), (6.0, 2.5)]


def test_a_step_made_in_python_keeps_what_it_has(program, own, write_pars):
    _, (path, _) = program
    write_pars(STEP, "pars-eephotometrystep.asdf", {"low_sigma": 4.0}, directory=own)
    step = EEPhotometryStep(core_radius=4.5)
    result = step.run(str(path))
    used = result._instance["meta"]["eestep"]["parameters"]
    assert (used["low_sigma"], used["core_radius"]) == (3.0, 4.5)


def test_what_crds_said_is_gone_with_it(program, packaged, write_pars, crds_cache, monkeypatch):
    pars = write_pars(STEP, "jwst_niriss_pars-eephotometrystep_1.asdf", {"low_sigma": 6.2})
    crds_cache({"pars-eephotometrystep": {"ANY": pars}})
    step, exposure = EEPhotometryStep(), science_metadata(program[1][0])
    step.given = frozenset()  # as of a hook
    assert step.parameters_for(exposure)["low_sigma"] == 6.2
    monkeypatch.delenv("CRDS_PATH")
    assert step.parameters_for(exposure)["low_sigma"] == 3.0


def test_exposures_below_input_dir_are_checked_with_their_own_parameters(program, own, write_pars):
    directory, paths = program
    write_pars(
        STEP, "pars-eephotometrystep_f090w.asdf", {"radii": [5, 3]}, directory=own, selection={"filter": "F090W"}
    )
    with pytest.raises(ParameterError, match="radii must increase strictly"):
        FluxCalPipeline.call([path.name for path in paths], input_dir=str(directory), configure_log=False)


def test_a_list_that_is_changed_in_place(program):
    step = EEPhotometryStep(radii=[3.0, 5.0, 10.0])
    measured = [step.run(str(program[1][0]))]
    step.radii.append(12.0)
    measured.append(step.run(str(program[1][0])))
    step.radii = [3.0, 5.0, 10.0]
    measured.append(step.run(str(program[1][0])))
    assert [len(product.radius) for product in measured] == [3, 4, 3]


def test_an_override_in_memory_is_rejected_by_name(program):
    # readers remember what they read by the file and its time
    flat = datamodels.FlatModel(data=np.ones((64, 64)))
    with pytest.raises(ReferenceDataError, match="override_flat: save the FlatModel, and give its path"):
        EEPhotometryStep.call(program[1][0], override_flat=flat)


def test_a_directory_that_is_none_is_an_error(program, monkeypatch):
    _, (path, _) = program
    monkeypatch.setenv("NIRISS_EESTEP_PARS", "/nonexistent")
    with pytest.raises(ParameterError, match="NIRISS_EESTEP_PARS: /nonexistent is not a directory"):
        EEPhotometryStep.call(str(path), configure_log=False)


def test_an_unknown_selection_is_an_error(program, own, write_pars):
    _, (path, _) = program
    write_pars(STEP, "pars-eephotometrystep.asdf", {"low_sigma": 4.0}, directory=own, selection={"fliter": "F090W"})
    with pytest.raises(ParameterError, match="selection has fliter; it may have filter, "):
        EEPhotometryStep.call(str(path), configure_log=False)


def test_single_values_of_lists_on_the_command_line(program, tmp_path):
    _, (path, _) = program
    saved = tmp_path / "saved.asdf"
    given = ["--source_x=31.5", "--source_y=32.5", "--bad_dq=HOT", f"--save-parameters={saved}"]
    Step.from_cmdline(["ee_photometry", str(path), f"--output_dir={tmp_path}", *given])
    (product,) = tmp_path.glob("*_eeprofile.asdf")
    found = products.open(product)._instance["meta"]["eestep"]["parameters"]
    assert (found["source_x"], found["source_y"], found["bad_dq"]) == ([31.5], [32.5], ["HOT"])
    again = recorded(path, config_file=str(saved))
    assert all(again[name] == found[name] for name in ("source_x", "source_y", "bad_dq"))


@pytest.mark.parametrize("number", [np.float64, np.float32, np.int64])
def test_numbers_of_numpy(program, number):
    _, (path, _) = program
    plain = recorded(path, source_x=31, source_y=32, radii=[3, 5, 10], gain=2)
    radii = np.array([3, 5, 10], dtype=number)
    for given in (radii, list(radii)):
        found = recorded(path, source_x=number(31), source_y=number(32), radii=given, gain=number(2))
        assert found == plain
    step = EEPhotometryStep()
    step.source_x, step.source_y, step.radii = number(31), number(32), radii
    assert step.run(str(path)).radius.tolist() == [3, 5, 10]


def test_the_command_line_with_a_parameter_file(program, tmp_path):
    directory, paths = program
    out = tmp_path / "out"
    command = [Path(sys.executable).with_name("strun"), str(CFG / "pars-fluxcalpipeline.asdf")]
    done = subprocess.run(
        [*command, *map(str, paths), f"--output_dir={out}", "--steps.ee_photometry.low_sigma=4.5"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"PYSYN_CDBS": str(directory)},
    )
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr
    (path,) = out.glob("*_absflux.asdf")
    with products.open(path) as result:
        assert result.table["status"].tolist() == ["measured", "measured"]
    with products.open(out / paths[1].name.replace("_rate.fits", "_eeprofile.asdf")) as product:
        assert product._instance["meta"]["eestep"]["parameters"]["low_sigma"] == 4.5


def test_a_file_that_is_edited_is_read_again(program, own, write_pars):
    _, (path, _) = program
    for low_sigma in (4.0, 5.25):
        write_pars(STEP, "pars-eephotometrystep.asdf", {"low_sigma": low_sigma}, directory=own)
        result = EEPhotometryStep.call(str(path), configure_log=False)
        assert result._instance["meta"]["eestep"]["parameters"]["low_sigma"] == low_sigma


def test_an_unknown_parameter_for_some_exposures_fails_them(program, own, write_pars):
    _, paths = program
    some = {"selection": {"filter": "F480M"}}
    write_pars(STEP, "pars-eephotometrystep_some.asdf", {"radi": [3.0]}, directory=own, **some)
    exposures = FluxCalPipeline.call([str(p) for p in paths], configure_log=False).exposures
    status = dict(zip(exposures["filter"], exposures["status"], strict=True))
    assert status["F090W"] == "measured"
    assert status["F480M"].endswith("_some.asdf: ee_photometry has no parameter radi")


def test_a_damaged_file_is_an_error_that_names_it(program, own):
    _, (path, _) = program
    broken = own / "pars-eephotometrystep.asdf"
    broken.write_bytes(b"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n--- \nmeta: {a: [1\n...\n")
    with pytest.raises(NirissEEError, match=rf"{broken}: not a parameter file"):
        EEPhotometryStep.call(str(path), configure_log=False)


def test_strun_names_the_step_that_was_typed(program, own):
    association, _ = program
    broken = own / "pars-eephotometrystep.asdf"
    broken.write_bytes(b"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n--- \nmeta: {a: [1\n...\n")
    strun = Path(sys.executable).with_name("strun")
    done = subprocess.run([strun, "niriss_fluxcal", association], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"strun niriss_fluxcal: {broken}: not a parameter file")
