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
for line in sys.stdin:
    output, delay = line.split()
    start, pid = time.monotonic(), os.fork()
    if pid == 0:
        code = 1
        try:
            calibrate(output)
            code = 0
        finally:
            os._exit(code)
    if delay != "None":
        time.sleep(float(delay))
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(code, time.monotonic() - start, flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Start the process, with two groups of two exposures to run on."""
    folder = tmp_path_factory.mktemp("kill")
    simulate_program(folder / "sim", Program(groups=(("F090W", "SUB64"), ("F480M", "SUB64")), seed=2))
    members = [{"expname": str(path), "exptype": "science"} for path in sorted((folder / "sim").glob("*_rate.fits"))]
    asn = folder / "sim" / "asn.json"
    asn.write_text(json.dumps({"products": [{"name": "p", "members": members}]}))
    environment = os.environ | {"PYSYN_CDBS": str(folder / "sim"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SERVER, str(asn), str(folder / "whole")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as process:
        yield process
        process.stdin.close()


def run(server, output, kill_after=None):
    """Run the pipeline; kill it after some seconds. How it ended, and how long it took."""
    print(output, kill_after, file=server.stdin, flush=True)
    code, seconds = server.stdout.readline().split()
    return int(code), float(seconds)


def arrays(folder):
    """All numbers of all products; opening them shows that each is whole."""
    return {
        path.name: {k: v.tobytes() for k, v in products.open(path)._instance.items() if isinstance(v, np.ndarray)}
        for path in sorted(folder.glob("*.asdf"))
    }


def test_killed_runs_leave_whole_products_and_can_be_completed(server, tmp_path):
    codes, times = zip(*(run(server, tmp_path / name) for name in ("first", "second", "third")), strict=True)
    assert codes == (0, 0, 0)
    expected = arrays(tmp_path / "first")
    assert len(expected) == 4 * 2 + 2 * 2 + 1
    rng, left, killed = np.random.default_rng(8), [], 0
    for k in range(KILLS):
        output = tmp_path / str(k)
        code, _ = run(server, output, kill_after=rng.uniform(0, min(times)))
        killed += code == -signal.SIGKILL
        left.append(len(arrays(output)))
        # what is not whole is hidden
        assert {path.suffix for path in output.glob("[!.]*")} <= {".asdf"}
        assert run(server, output)[0] == 0
        assert arrays(output) == expected, k
        assert {path.suffix for path in output.iterdir()} == {".asdf"}
    # the kills fell everywhere: before the first product, between products, and hardly after the last
    assert killed > 0.8 * KILLS
    assert len(set(left)) > 5
