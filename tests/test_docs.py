"""The pages say what is so: their blocks run in order, their links lead somewhere, their tables are the package's."""

import ast
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from niriss_eestep.commands.arguments import COMMANDS

TOP = Path(__file__).parents[1]
DOCS = TOP / "niriss_eestep" / "docs"
PAGES = [TOP / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
RUN = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


def page_name(page):
    return str(page.relative_to(TOP))


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """Directory of commands that start fast."""
    directory = tmp_path_factory.mktemp("bin")
    server = runpy.run_path(str(Path(__file__).with_name("docs_server.py")))["start"](directory)
    yield directory
    server.kill()
    server.wait()
    server.stdout.close()


def test_readme_names_all_commands():
    text = PAGES[0].read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"`{name}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_pictures_and_links_are_there(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_generated_parts_are_those_of_the_package():
    run = subprocess.run(
        [sys.executable, str(DOCS / "_generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_notebook_runs_and_holds_its_outputs(tmp_path, commands):
    """Every cell in order, as a kernel would run it: what a cell ends with is shown."""
    cells = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    script = []
    for cell in (cell for cell in cells if cell["cell_type"] == "code"):
        lines = ast.parse("".join(cell["source"]).replace("%matplotlib inline", "")).body
        script += [ast.unparse(line) for line in lines[:-1]]
        last = ast.unparse(lines[-1])
        script.append(f"show({last})" if isinstance(lines[-1], ast.Expr) else last)
        assert bool(cell["outputs"]) == isinstance(lines[-1], (ast.Expr, ast.For)), cell["source"]
    shown = "def show(value):\n    getattr(value, '_repr_html_', lambda: repr(value))()\n"
    run_script(["python notebook.py"], tmp_path, commands, {"notebook.py": shown + "\n".join(script)})


@pytest.mark.parametrize("page", RUN, ids=page_name)
def test_blocks_run_in_order(page, tmp_path, commands):
    """Every sh and python block, in the order of the page, as a reader would run them."""
    script, files = [], {}
    for k, (kind, block) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
        if kind == "python":
            files[f"block{k}.py"], block = block, f"python block{k}.py\n"
        script.append(block)
    run_script(script, tmp_path, commands, files)


def run_script(lines, directory, commands, files):
    """Run shell lines that all have to succeed, beside some files, where nothing is set up."""
    for name, text in files.items():
        (directory / name).write_text(text)
    drop = ("CRDS_PATH", "CRDS_SERVER_URL", "CRDS_CONTEXT", "PYSYN_CDBS", "NIS_SYNPHOT", "NIRISS_EESTEP_PARS")
    environment = {k: v for k, v in os.environ.items() if k not in drop}
    environment["PATH"] = f"{commands}{os.pathsep}{environment['PATH']}"
    command = ["bash", "-c", "\n".join(["set -e", *lines])]
    run = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    assert "Traceback" not in run.stdout + run.stderr
