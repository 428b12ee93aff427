"""The house is as it says: who imports whom, what stpipe and asdf are told, parameters as documented."""

import ast
import dataclasses
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from stpipe import config_parser

import niriss_eestep
from niriss_eestep import instrument, steps
from niriss_eestep.pipeline import integration
from niriss_eestep.pipeline.parameters import CFG

PACKAGE = Path(niriss_eestep.__file__).parent

#: lower rooms may not import from higher ones; a module's own floor, where it has one, counts before its room's
FLOORS = {
    "errors": 0,
    "arrays": 0,
    "reference.guards": 0,
    "moved": 0,
    "instrument": 0,
    "measure": 1,
    "psf": 3,
    "combine": 2,
    "flux": 2,
    "calibration": 2,
    "reference": 3,
    "products": 4,
    "calibration.observed_ee": 3,
    "calibration.table": 5,
    "calibration.crds_files": 5,
    "exposures": 5,
    "simulate": 5,
    "validate": 6,
    "report": 6,
    "pipeline": 7,
    "measure.step": 8,
    "combine.step": 8,
    "flux.step": 8,
    "calibration.step": 8,
    "pipeline.executor": 9,
    "pipeline.cluster": 9,
    "pipeline.hook": 9,
    "pipeline.fluxcal": 9,
    "pipeline.campaign": 9,
    "steps": 10,
    "commands": 11,
    "cli": 12,
}
#: read by name, and importing nothing of the package
APART = ("__init__",)
PURE = ("measure", "combine", "flux", "psf")
#: modules of the pure rooms that read files or make steps
NOT_PURE = ("step.py", "stpsf.py")
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


def name_of(path):
    """Dotted name of a module within the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py") if "docs" not in path.parts}


def floor_of(name):
    """Floor of a module or of what is imported from one; None for the package itself and what stands apart."""
    parts = name.split(".")
    return next((FLOORS[key] for n in (2, 1) if (key := ".".join(parts[:n])) in FLOORS), None)


def upward(module, names):
    """Imports from higher floors than a module's."""
    for name in names:
        target = name.removeprefix("niriss_eestep.")
        if target != name and floor_of(target) is not None:
            lazily = (module, target) == ("products.models", "report")  # .plot()
            if floor_of(target) > floor_of(module) and not lazily:
                yield name


@pytest.mark.parametrize("room", PURE)
def test_pure_modules_know_no_files_and_no_pipeline(room):
    for path in (PACKAGE / room).glob("*.py"):
        if path.name in NOT_PURE:
            continue
        roots = {name.split(".")[0] for name in imports_of(path)}
        assert not roots & OUTSIDE, path
        assert "open(" not in re.sub(r'""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.DOTALL), path


@pytest.mark.parametrize("module", [name for name in MODULES if name and name.split(".")[0] not in APART])
def test_nothing_imports_upward(module):
    assert not list(upward(module, imports_of(MODULES[module])))


def test_every_file_has_its_floor():
    rooms = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in MODULES.values()}
    assert rooms == {*(name for name in FLOORS if "." not in name), *APART}
    assert {name for name in FLOORS if "." in name} <= set(MODULES)


def test_an_import_upward_is_found(tmp_path):
    path = tmp_path / "sinner.py"
    path.write_text(
        "from niriss_eestep import steps, errors\nfrom niriss_eestep.pipeline.campaign import run_campaign\n"
    )
    assert list(upward("measure", imports_of(path))) == ["niriss_eestep.steps", "niriss_eestep.pipeline.campaign"]


def circles(graph):
    """Strongly connected parts of a graph, of more than one node."""

    def reached(start):
        found, pending = set(), [start]
        while pending:
            new = graph[pending.pop()] - found
            found |= new
            pending += new
        return found

    reach = {node: reached(node) for node in graph}
    return {frozenset(other for other in reach[node] if node in reach[other]) for node in graph if node in reach[node]}


def test_no_import_circles():
    graph = {}
    for module, path in MODULES.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        graph[module] = ({name.removeprefix("niriss_eestep.") for name in names} & set(MODULES)) - {module}
    assert circles(graph) == set()


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {frozenset("abc")}


def test_integration_names_agree():
    listed = {name.rpartition(".")[2]: (alias, is_pipeline) for name, alias, is_pipeline in integration.get_steps()}
    for name, (alias, is_pipeline) in listed.items():
        step = getattr(steps, name)
        assert step.class_alias == alias
        assert bool(getattr(step, "step_defs", None)) == is_pipeline
        assert getattr(niriss_eestep, name) is step
    assert set(listed) <= set(steps.__all__)


def test_integration_imports_nothing_heavy():
    code = "import sys, niriss_eestep.pipeline.integration as i; i.get_steps(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "astropy", "jwst", "stpipe", "asdf"} & set(loaded)


def test_dq_bits_are_those_of_jwst():
    from stdatamodels.jwst.datamodels import dqflags

    for name in ("DO_NOT_USE", "SATURATED", "JUMP_DET", "REFERENCE_PIXEL"):
        assert getattr(instrument, name) == dqflags.pixel[name]


STEPS = [name.rpartition(".")[2] for name, _, _ in integration.get_steps()]


@pytest.mark.parametrize("name", STEPS)
def test_parameter_references_hold_defaults(name):
    """The spec declares a parameter and its default; the files hold those that a scientist would change."""
    step = getattr(steps, name)
    path = CFG / f"{step.get_config_reftype()}.asdf"
    config = config_parser.load_config_file(str(path))
    assert config.pop("class") == f"niriss_eestep.steps.{name}"
    config.pop("name")
    config.pop("steps", None)
    defaults = step().get_pars()
    assert {key: defaults[key] for key in config} == dict(config)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ("niriss_eestep.measure.stamp.EEOptions", "EEPhotometryStep"),
        ("niriss_eestep.measure.stamp.SBOptions", "SBProfileStep"),
    ],
)
def test_options_have_the_defaults_of_the_spec(options, name):
    module, _, options = options.rpartition(".")
    defaults = getattr(import_module(module), options)()
    parameters = getattr(steps, name)().get_pars()
    for field in (each for each in dataclasses.fields(defaults) if each.init):
        assert parameters[field.name] == pytest.approx(getattr(defaults, field.name)), field.name


@pytest.mark.parametrize("name", STEPS)
def test_every_parameter_says_what_it_is(name):
    spec = getattr(steps, name).load_spec_file()
    for key in spec.scalars:
        assert spec.inline_comments[key], key
