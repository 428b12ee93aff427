"""A slip on the command line of strun ends in one line that says what to write; elsewhere an exception says it."""

import json
import os
import signal
import subprocess
import sys
from functools import partial

import pytest

from niriss_eestep.errors import AssociationError, ParameterError
from niriss_eestep.pipeline import parameters
from niriss_eestep.simulate.program import Program, simulate_program
from niriss_eestep.steps import EEPhotometryStep, FluxCalPipeline

RADII = "steps.ee_photometry.radii"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Two exposures of one group, and their association."""
    from niriss_eestep.exposures.associations import find_exposures, write_associations

    path = tmp_path_factory.mktemp("two")
    simulate_program(path, Program(groups=(("F480M", "SUB64"),), n_dithers=2, seed=5))
    write_associations(find_exposures(path)[0], path)
    return path


def run(*arguments, cwd):
    """Run strun in a process of its own, which alone shows what it prints."""
    command = [os.path.join(os.path.dirname(sys.executable), "strun"), *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CRDS")}
    environment["PYSYN_CDBS"] = str(cwd)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def association(directory):
    return next(directory.glob("*_asn.json")).name


@pytest.mark.parametrize(
    ("step", "option", "line"),
    [
        ("ee_photometry", "--radii=5", "--radii=5: a list needs a comma: --radii=5,"),
        ("ee_photometry", "--radii=", "--radii=: a list needs a comma: --radii=5,"),
        ("ee_photometry", "--radii=5,a", "--radii=['5', 'a']: must be a list of numbers"),
        ("niriss_fluxcal", "--workers=0", "--workers=0: must be an integer, at least 1"),
        ("niriss_fluxcal", "--on_error=ignore", "--on_error=ignore: must be one of record, raise"),
        ("niriss_fluxcal", "--save_report=maybe", "--save_report=maybe: must be true or false"),
        ("niriss_fluxcal", "--max_size=0", "--max_size=0: must be a number, at least 1"),
        ("niriss_fluxcal", "--wrokers=2", "there is no option --wrokers; did you mean --workers?"),
        ("niriss_fluxcal", "--nothing_like_it=2", "there is no option --nothing_like_it; --help lists all"),
        ("niriss_fluxcal", "--workers", "argument --workers: expected one argument"),
        ("niriss_fluxcal", ("--workers=1", "a.json"), "a.json: write the files before the options"),
        ("niriss_fluxcal", "--output_dir='a", "--output_dir='a: a quotation mark is not closed"),
        (
            "niriss_fluxcal",
            "--radii=5,",
            f"there is no option --radii; did you mean --{RADII} or --steps.sb_profile.radii?",
        ),
    ],
)
def test_a_slip_is_one_line(monkeypatch, capfd, association, directory, step, option, line):
    from stpipe._cli.strun import main

    monkeypatch.chdir(directory)
    arguments = [step, association, option] if isinstance(option, str) else [step, *option]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/strun", *arguments])
    monkeypatch.setattr(parameters, "IN_STRUN", True)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == f"strun {step}: {line}"
    assert "Traceback" not in "".join(capfd.readouterr())


def test_in_processes_of_its_own(directory, association):
    done = run("niriss_fluxcall", association, cwd=directory)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "strun: there is no step niriss_fluxcall; did you mean niriss_fluxcal?\n"
    done = run("nothing_like_it", association, cwd=directory)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "strun: there is no step nothing_like_it; `stpipe list` lists all\n"
    done = run("niriss_fluxcal", str(directory), cwd=directory)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"{directory}: is a directory: make its associations (niriss-ee asn {directory})" in done.stderr


def test_slips_that_stpipe_finds_before_it_knows_the_step(directory, association):
    done = run("niriss_fluxcal", association, "--log-level=LOUD", cwd=directory)
    line = "strun niriss_fluxcal: --log-level=LOUD: must be DEBUG, INFO, WARNING, ERROR or CRITICAL\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)
    (directory / "bad.cfg").write_text("name = a\n[5\n")
    for name in ("bad.cfg", next(directory.glob("*_rate.fits")).name):
        done = run(name, association, cwd=directory)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith(f"strun: {name}: the first argument names a step")
    (directory / "good.cfg").write_text('class = "niriss_eestep.steps.EEPhotometryStep"\nradii = 5,\n')
    assert run("good.cfg", next(directory.glob("*_rate.fits")).name, "--log-level=error", cwd=directory).returncode == 0


def test_the_log_of_two_exposures_has_the_ratio_and_no_listing(directory, association):
    done = run("niriss_fluxcal", association, "--output_dir=out", cwd=directory)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert len(lines) < 16
    (group,) = [line for line in lines if "F480M SUB64: 2 of 2, ratio " in line]
    assert "%)" in group
    assert "parameters are" not in done.stderr
    assert "radius_max: 10.0" in run("abs_flux", "out/p_f480m_sub64_eecombined.asdf", "-v", cwd=directory).stderr


def test_an_interrupt_ends_without_traceback(directory, association):
    listed = json.loads((directory / association).read_text())
    (product,) = listed["products"]
    first = product["members"][0]["expname"]
    product["members"] = []
    for k in range(40):  # enough to be interrupted
        name = first.replace("_00001_", f"_{k + 1:05d}_")
        if not (directory / name).exists():
            os.link(directory / first, directory / name)
        product["members"].append({"expname": name, "exptype": "science"})
    (directory / "many.json").write_text(json.dumps(listed))
    command = [os.path.join(os.path.dirname(sys.executable), "strun"), "niriss_fluxcal", "many.json", "--output_dir=o"]
    # where the tests are a background job, interrupts would be ignored by all that they start
    interruptible = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, cwd=directory, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible
    ) as process:
        said = ""
        while "Saved model in" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert rest.endswith("strun niriss_fluxcal: interrupted\n")
    assert "Traceback" not in rest


def test_in_python_an_exception_says_it(directory, association):
    path = str(directory / association)
    with pytest.raises(ParameterError, match=r"^radii=5: must be a list: radii=\[5\]$"):
        EEPhotometryStep.call(path, radii=5)
    with pytest.raises(ParameterError, match=r"^workers=0: must be an integer, at least 1$"):
        FluxCalPipeline.call(path, workers=0)
    with pytest.raises(ParameterError, match=r"steps\.abs_flux\.aperture_correction=none: must be one of"):
        FluxCalPipeline.call(path, steps={"abs_flux": {"aperture_correction": "none"}})
    with pytest.raises(ParameterError, match="nothing: there is no such parameter"):
        FluxCalPipeline.call(path, nothing=1)
    with pytest.raises(AssociationError, match="is a directory"):
        FluxCalPipeline.call(str(directory))
