"""A run killed at any moment leaves only whole products, and running again completes it with the same numbers."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from niriss_eestep import products
from niriss_eestep.simulate.program import Program, simulate_program

KILLS = 50

#: a process that has imported and loaded all, and forks for each run: starting anew takes seconds, a run 0.3 s
SERVER = """
import logging, os, signal, sys, time
from niriss_eestep.steps import FluxCalPipeline

logging.disable(logging.CRITICAL)

def calibrate(output):
    FluxCalPipeline.call(sys.argv[1], output_dir=output, save_results=True, skip_existing=True)

calibrate(sys.argv[2])
def products(output):
    return [name for name in os.listdir(output) if name[0] != "."] if os.path.isdir(output) else []

for line in sys.stdin:
    output, kill, count, delay = line.split()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            calibrate(output)
            code = 0
        finally:
            os._exit(code)
    if kill == "kill":
        # the process is not waited for before it is killed, or another could have its number
        running = lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None
        while running() and len(products(output)) < int(count):
            time.sleep(0.001)
        time.sleep(float(delay))
        os.kill(pid, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Start the process, with three exposures to run on."""
    folder = tmp_path_factory.mktemp("kill")
    simulate_program(folder / "sim", Program(groups=(("F480M", "SUB64"),), n_dithers=3, seed=2))
    members = [{"expname": str(path), "exptype": "science"} for path in sorted((folder / "sim").glob("*_rate.fits"))]
    asn = folder / "sim" / "asn.json"
    asn.write_text(json.dumps({"products": [{"name": "p", "members": members}]}))
    environment = os.environ | {"PYSYN_CDBS": str(folder / "sim"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SERVER, str(asn), str(folder / "whole")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as process:
        yield process
        process.stdin.close()


def run(server, output, *, kill=None):
    """Run the pipeline; kill it some seconds after it has so many products: (products, seconds). How it ended."""
    print(output, *(("let", 0, 0) if kill is None else ("kill", *kill)), file=server.stdin, flush=True)
    return int(server.stdout.readline())


def arrays(folder):
    """All numbers of all products; opening them shows that each is whole."""
    return {
        path.name: {k: v.tobytes() for k, v in products.open(path)._instance.items() if isinstance(v, np.ndarray)}
        for path in sorted(folder.glob("*.asdf"))
    }


def test_killed_runs_leave_whole_products_and_can_be_completed(server, tmp_path):
    assert run(server, tmp_path / "first") == 0
    expected = arrays(tmp_path / "first")
    written = [path.stat().st_mtime for path in (tmp_path / "first").glob("*.asdf")]
    each = (max(written) - min(written)) / (len(written) - 1)
    assert len(expected) == 3 * 2 + 2 + 1
    rng, left, killed = np.random.default_rng(8), [], 0
    for k in range(KILLS):
        output = tmp_path / str(k)
        code = run(server, output, kill=(rng.integers(len(expected)), rng.uniform(0, 2 * each)))
        killed += code == -signal.SIGKILL
        left.append(len(arrays(output)))
        # what is not whole is hidden
        assert {path.suffix for path in output.glob("[!.]*")} <= {".asdf"}
        assert run(server, output) == 0
        assert arrays(output) == expected, k
        assert {path.suffix for path in output.iterdir()} == {".asdf"}
    # the kills fell everywhere: before the first product, between products, and hardly after the last
    assert killed > 0.6 * KILLS, killed
    assert len(set(left)) > 5, left
