"""Several processes give the products of one, whatever happens to the processes."""

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from niriss_eestep import products
from niriss_eestep.errors import ExposureError, OutputError
from niriss_eestep.exposures.inputs import Member
from niriss_eestep.pipeline.executor import AHEAD, Measurement, Processes, outcomes
from niriss_eestep.steps import FluxCalPipeline

# what differs from run to run
TIMES = ("meta.date", "cal_logs")


@pytest.fixture(scope="module")
def paths(simulate):
    return simulate((("F090W", "SUB64"), ("F480M", "SUB64")), n_dithers=2)[1]


def run(paths, out, **parameters):
    """Products of a run, and what it logged."""
    out.mkdir()
    records = SimpleQueue()
    handler = QueueHandler(records)
    logger = logging.getLogger("niriss_eestep")
    logger.addHandler(handler)
    try:
        result = FluxCalPipeline.call([str(p) for p in paths], output_dir=str(out), save_results=True, **parameters)
    finally:
        logger.removeHandler(handler)
    found = [records.get() for _ in range(records.qsize())]
    return result, [(r.name, r.levelname, r.getMessage().replace(f"{out}", "")) for r in found]


@pytest.fixture(scope="module")
def bad(paths, tmp_path_factory):
    path = tmp_path_factory.mktemp("bad") / "jw01094009001_02101_00001_nis_rate.fits"
    path.write_text("no image")
    return path


@pytest.fixture(scope="module")
def runs(paths, bad, tmp_path_factory):
    """The same exposures, one of them bad, measured by one process and by two."""
    directory = tmp_path_factory.mktemp("runs")
    one = run([*paths, bad], directory / "one")
    two = run([*paths, bad], directory / "two", workers=2)
    return directory, one, two


def assert_same(found, expected):
    assert type(found) is type(expected)
    other = found.to_flat_dict()
    for key, value in expected.to_flat_dict().items():
        if not key.startswith(TIMES):
            if isinstance(value, np.ndarray):
                assert other[key].tobytes() == value.tobytes(), key
            else:
                assert other[key] == value or (value != value and other[key] != other[key]), key


def test_products_are_bit_identical(runs):
    directory, (one, _), (two, _) = runs
    assert_same(two, one)
    names = sorted(path.name for path in (directory / "one").iterdir())
    assert names == sorted(path.name for path in (directory / "two").iterdir())
    assert len(names) == 2 * 4 + 2 * 2 + 1
    for name in names:
        assert_same(products.open(directory / "two" / name), products.open(directory / "one" / name))


def lines(model):
    # without the time
    return [line.split(" - ", 1)[1] for line in model.cal_logs.niriss_fluxcal]


def test_logs_come_from_the_workers(runs):
    directory, (_, in_one), (_, in_two) = runs
    assert in_two == in_one
    assert len(in_one) > 10
    # the log in a product is about its exposure only
    for path in (directory / "one").glob("*profile.asdf"):
        own = lines(products.open(path))
        assert own == lines(products.open(directory / "two" / path.name))
        assert own
        assert all(path.name.rsplit("_", 1)[0] in line for line in own)


def _association(paths, directory):
    members = [{"expname": str(path), "exptype": "science"} for path in paths]
    path = directory / "two_asn.json"
    path.write_text(json.dumps({"products": [{"name": "two", "members": members}]}))
    return path


def test_nothing_is_printed_twice(paths, tmp_path):
    # in a process of its own, where the workers are forked
    command = [Path(sys.executable).parent / "strun", "niriss_fluxcal", _association(paths[:2], tmp_path)]
    run = subprocess.run(
        [*command, f"--output_dir={tmp_path}", "--workers=2"], capture_output=True, text=True, check=True
    )
    # by each of two steps
    assert (run.stdout + run.stderr).count("_00001_nis: measured") == 2


def test_an_exposure_that_fails_is_recorded(runs):
    _, _, (result, _) = runs
    status = dict(zip(result.exposures["exposure"], result.exposures["status"], strict=True))
    assert "not a FITS file" in status["jw01094009001_02101_00001_nis"]
    assert sum(value == "measured" for value in status.values()) == 4


def test_an_exposure_that_fails_stops_the_run_if_so_wished(paths, bad, tmp_path):
    with pytest.raises(ExposureError, match="not a FITS file"):
        run([*paths, bad], tmp_path / "out", workers=2, on_error="raise")


def test_a_full_disk_stops_the_run(paths, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    out = tmp_path / "out"
    out.mkdir(mode=0o500)
    with pytest.raises(OutputError):
        FluxCalPipeline.call([str(p) for p in paths], output_dir=str(out), save_results=True, workers=2)


class Dying(Measurement):
    """Its process is killed over one exposure: the first time, or each time."""

    def __init__(self, pipeline, name, marker):
        super().__init__(pipeline)
        self.name, self.marker = name, marker

    def __call__(self, member):
        if member.name == self.name and not (self.marker and self.marker.exists()):
            if self.marker:
                self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(member)


@pytest.mark.parametrize("once", [True, False])
def test_a_worker_that_is_killed_loses_nothing(paths, tmp_path, caplog, monkeypatch, once):
    # a process that is spawned imports this file for `Dying`, by the name that pytest gave it
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parents[2])])
    pipeline = FluxCalPipeline(save_results=True, output_dir=str(tmp_path))
    members = [Member(path.name.removesuffix("_rate.fits"), path, path.name) for path in paths]
    processes = Processes(Dying(pipeline, members[2].name, tmp_path / "died" if once else None), 2)
    with caplog.at_level(logging.INFO, "niriss_eestep"):
        found = list(outcomes(processes, members))
    processes.shutdown()
    assert "a worker process died" in caplog.text
    failed = [member.name for member, (_, failure) in zip(members, found, strict=True) if failure]
    assert failed == ([] if once else [members[2].name])
    measured = [member for member in members if member.name not in failed]
    assert {path.name for path in tmp_path.glob("*_eeprofile.asdf")} == {f"{m.name}_eeprofile.asdf" for m in measured}
    if not once:
        assert "died twice" in found[2][1]


def test_no_more_is_handed_out_than_needed(paths):
    handed_out = []

    class Counting:
        n_workers = 2

        def submit(self, member):
            handed_out.append(member)
            return [member], ""

        def result(self, member, future):
            return future, []

        def shutdown(self):
            pass

    members = [Member(f"{k}", paths[0], paths[0].name) for k in range(3 * AHEAD)]
    found = outcomes(Counting(), members)
    first = next(found)
    assert len(handed_out) == 2 * AHEAD
    assert [products[0] for products, _ in (first, *found)] == members


def test_the_executor_is_shut_down_whatever_happens(paths):
    ended = []

    class Idle:
        n_workers = 1

        def submit(self, member):
            raise KeyboardInterrupt

        def shutdown(self):
            ended.append(True)

    pipeline = FluxCalPipeline()
    pipeline.make_executor = lambda measurement: Idle()
    with pytest.raises(KeyboardInterrupt):
        pipeline.run([str(path) for path in paths])
    assert ended == [True]


def _calibrate_in_a_pool(path):
    return len(FluxCalPipeline.call([str(path)] * 1 + [str(path).replace("00001", "00002")], workers=2).exposures)


def test_a_daemonic_process_measures_by_itself(paths, capfd):
    # the processes of a pool may not have any of their own
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_calibrate_in_a_pool, (paths[0],)) == 2
    assert "workers=2: a daemonic process" in "".join(capfd.readouterr())


#: a run with workers whose first exposure takes for ever
ENDLESS = """
import sys, time
from niriss_eestep.steps import FluxCalPipeline, SBProfileStep

def endless(*args):
    open(sys.argv[2], "w").close()
    time.sleep(600)

SBProfileStep.process = endless
sys.argv[0] = "strun"
FluxCalPipeline.call(sys.argv[1], workers=2)
"""


def children(pid):
    """Processes of a parent."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


def running(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_its_parent(paths, tmp_path, end):
    command = [sys.executable, "-c", ENDLESS, str(_association(paths[:2], tmp_path)), str(tmp_path / "begun")]
    # a background job ignores SIGINT, and hands that on to its children
    interruptible = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, **pipes, preexec_fn=interruptible) as run:
        deadline = time.monotonic() + 60
        while not (tmp_path / "begun").exists():
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        workers = children(run.pid)
        assert len(workers) == 2
        os.kill(run.pid, end)
        started = time.monotonic()
        output = run.stdout.read()  # ends when nobody has the pipe any more
        # a process lets go of its files a moment before it is gone
        while any(map(running, workers)) and time.monotonic() - started < 5:
            time.sleep(0.01)
        assert time.monotonic() - started < 5
    assert "Traceback" not in output
    if end != signal.SIGKILL:
        assert output.rstrip().endswith("interrupted")
        assert run.returncode == -signal.SIGINT
