"""The house is as it says: who imports whom, what stpipe and asdf are told, parameters as documented."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from stpipe import config_parser

import niriss_eestep
from niriss_eestep import instrument, integration, steps
from niriss_eestep.pipeline.base import _BOOKKEEPING
from niriss_eestep.pipeline.parameters import cfg_directory

PACKAGE = Path(niriss_eestep.__file__).parent

#: lower rooms may not import from higher ones
FLOORS = {
    "exceptions": 0,
    "text": 0,
    "measure": 1,
    "optics": 1,
    "calibrate": 2,
    "progress": 2,
    "reference": 3,
    "products": 4,
    "simulate": 4,
    "associations": 4,
    "report": 5,
    "steps": 6,
    "campaign": 7,
    "cluster": 7,
    "commands": 8,
    "cli": 9,
}
#: read by name, and importing nothing of the package
APART = ("__init__", "integration")
PURE = ("measure", "optics", "calibrate")
OUTSIDE = {"jwst", "stpipe", "stdatamodels", "asdf", "crds"}


def imports_of(path):
    """Modules that a file imports, wherever in it, with what it takes of the package itself."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "niriss_eestep":
            yield from (f"niriss_eestep.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def files_of(room):
    directory = PACKAGE / room
    return list(directory.rglob("*.py")) if directory.is_dir() else [PACKAGE / f"{room}.py"]


def upward(room, names):
    """Imports from higher rooms than a room."""
    for name in names:
        parts = name.split(".")
        if parts[0] == "niriss_eestep" and len(parts) > 1 and parts[1] in FLOORS:
            lazily = room == "products" and parts[1] == "report"  # .plot()
            if FLOORS[parts[1]] > FLOORS[room] and not lazily:
                yield name


@pytest.mark.parametrize("room", PURE)
def test_pure_modules_know_no_files_and_no_pipeline(room):
    for path in (PACKAGE / room).glob("*.py"):
        roots = {name.split(".")[0] for name in imports_of(path)}
        assert not roots & OUTSIDE, path
        assert "open(" not in re.sub(r'""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.DOTALL), path


@pytest.mark.parametrize("room", FLOORS)
def test_nothing_imports_upward(room):
    for path in files_of(room):
        assert not list(upward(room, imports_of(path))), path


def test_every_file_has_its_floor():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or list(path.glob("*.py"))}
    assert rooms == {*FLOORS, *APART}


def test_an_import_upward_is_found(tmp_path):
    path = tmp_path / "sinner.py"
    path.write_text(
        "from niriss_eestep import steps, exceptions\nfrom niriss_eestep.pipeline.campaign import run_campaign\n"
    )
    assert list(upward("measure", imports_of(path))) == ["niriss_eestep.steps", "niriss_eestep.pipeline.campaign"]


def test_integration_names_agree():
    listed = {name.rpartition(".")[2]: (alias, is_pipeline) for name, alias, is_pipeline in integration.get_steps()}
    for name, (alias, is_pipeline) in listed.items():
        step = getattr(steps, name)
        assert step.class_alias == alias
        assert bool(getattr(step, "step_defs", None)) == is_pipeline
        assert getattr(niriss_eestep, name) is step
    assert set(listed) <= set(steps.__all__)


def test_integration_imports_nothing_heavy():
    code = "import sys, niriss_eestep.integration as i; i.get_steps(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "astropy", "jwst", "stpipe", "asdf"} & set(loaded)


def test_dq_bits_are_those_of_jwst():
    from stdatamodels.jwst.datamodels import dqflags

    for name in ("DO_NOT_USE", "SATURATED", "JUMP_DET", "REFERENCE_PIXEL"):
        assert getattr(instrument, name) == dqflags.pixel[name]


STEPS = [name.rpartition(".")[2] for name, _, _ in integration.get_steps()]


@pytest.mark.parametrize("name", STEPS)
def test_parameter_references_hold_the_defaults_of_every_parameter(name):
    step = getattr(steps, name)
    path = cfg_directory() / f"{step.get_config_reftype()}.asdf"
    config = config_parser.load_config_file(str(path))
    assert config.pop("class") == f"niriss_eestep.steps.{name}"
    config.pop("name")
    config.pop("steps", None)
    defaults = {k: v for k, v in step().get_pars().items() if k not in _BOOKKEEPING and not k.startswith("override_")}
    # positions, a gain of one's own and the way out when a server is down belong on a command line
    personal = {"steps", "source_x", "source_y", "source_name", "gain", "allow_packaged"}
    assert dict(config) == {k: v for k, v in defaults.items() if k not in personal}


@pytest.mark.parametrize("name", STEPS)
def test_every_parameter_says_what_it_is(name):
    spec = getattr(steps, name).load_spec_file()
    for key in spec.scalars:
        assert spec.inline_comments[key], key
