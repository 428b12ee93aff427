"""README says what is so: its parameters are the steps', its commands and code run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from niriss_eestep import integration, steps
from niriss_eestep.cli import COMMANDS
from niriss_eestep.pipeline.base import _BOOKKEEPING

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def shown(value):
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@pytest.mark.parametrize(("name", "alias"), [(n.rpartition(".")[2], a) for n, a, _ in integration.get_steps()])
def test_parameter_table(name, alias):
    step = getattr(steps, name)
    section = TEXT.split(f"**`{alias}`**")[1].split("**`")[0].split("\nReferences")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, flags=re.MULTILINE))
    pars = step().get_pars()
    expected = {
        key: shown(value)
        for key, value in pars.items()
        if key not in _BOOKKEEPING and not key.startswith("override_") and key not in ("steps", "allow_packaged")
    }
    assert rows == expected


def test_all_commands_are_named():
    for name in COMMANDS:
        assert f"`{name}`" in TEXT


def test_pictures_and_links_are_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (README.parent / target).exists(), target


def test_commands_and_code_run(tmp_path):
    """Every sh and python block, in the order of the page, as a reader would run them."""
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    script = ["set -e"]
    for k, (kind, block) in enumerate(blocks):
        if kind == "python":
            (tmp_path / f"block{k}.py").write_text(block)
            block = f"{sys.executable} block{k}.py\n"
        script.append(block)
    drop = ("CRDS_PATH", "CRDS_SERVER_URL", "CRDS_CONTEXT", "PYSYN_CDBS", "NIS_SYNPHOT", "NIRISS_EESTEP_PARS")
    environment = {k: v for k, v in os.environ.items() if k not in drop}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    run = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    assert "Traceback" not in run.stdout + run.stderr
