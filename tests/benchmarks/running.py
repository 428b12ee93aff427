"""What the benchmarks share: running processes and measuring them, and sets of names for the same exposures."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Cost:
    """What a process and its children took: wall and CPU time [s], the largest one's peak memory [MB]."""

    wall: float
    cpu: float
    memory: float

    def __str__(self):
        return f"{self.wall:8.2f} s wall {self.cpu:8.2f} s CPU {self.memory:6.0f} MB peak"


def environment(**variables):
    """Environment of the measured processes: one thread each, neither CRDS nor paths of this machine."""
    return {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1", **variables}


def run(*command, cwd=None, **variables):
    """Run a process to its end and measure it."""
    started = time.perf_counter()
    command = [str(part) for part in command]
    log = Path(cwd or ".") / "benchmark.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment(**variables), cwd=cwd, stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}\n{log.read_text()[-3000:]}")
    return Cost(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def simulate(directory, *options):
    """Simulate a program once; a directory that has its association is taken as it is."""
    if not list(directory.glob("*_asn.json")):
        run(BIN / "niriss-ee", "simulate", directory, *options)
    return directory


def under_other_names(directory, n_sets):
    """Link the exposures of a program under several sets of names, and make one association of them.

    Returns
    -------
    Path
        The association.
    """
    if n_sets == 1:
        return next(directory.glob("*_asn.json"))
    sets = directory / f"times_{n_sets}"
    shutil.rmtree(sets, ignore_errors=True)
    sets.mkdir()
    association = json.loads(next(directory.glob("*_asn.json")).read_text())
    product = association["products"][0]
    members = []
    for k in range(1, n_sets + 1):
        for member in product["members"]:
            name = member["expname"]
            # jwPPPPPOOOVVV_...: the visit is counted
            renamed = f"{name[:10]}{k:03d}{name[13:]}"
            os.link(directory / name, sets / renamed)
            members.append(member | {"expname": renamed})
    product["members"] = members
    path = sets / "all_asn.json"
    path.write_text(json.dumps(association))
    return path


def warm(directory):
    """Have every file in the page cache: disks are not what is compared."""
    for path in directory.glob("*.fits"):
        with path.open("rb") as file:
            while file.read(2**24):
                pass


def load():
    """Say how busy the machine is; the ratios are within one run, but a busy machine blurs them."""
    return f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
