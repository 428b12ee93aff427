"""Campaigns: on processes, on a local Dask cluster, and on a scheduler with two workers of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from niriss_eestep import products
from niriss_eestep.cli import main
from niriss_eestep.errors import AssociationError
from niriss_eestep.exposures.associations import find_exposures, write_associations
from niriss_eestep.pipeline.campaign import EXPOSURES_FILE, GROUPS_FILE, run_campaign
from niriss_eestep.simulate.program import Program, simulate_program
from niriss_eestep.steps import FluxCalPipeline

TIMES = ("meta.date", "cal_logs")
BIN = Path(sys.executable).parent


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Neither CRDS nor spectra, and one thread for each process."""
    for name in ("CRDS_SERVER_URL", "CRDS_PATH", "CRDS_CONTEXT", "NIRISS_EESTEP_PARS", "NIS_SYNPHOT", "PYSYN_CDBS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Directories of two programs of one star each: 6 and 4 exposures."""
    directory = tmp_path_factory.mktemp("exposures")
    for number, n_dithers in ((1094, 3), (1095, 2)):
        groups = (("F090W", "SUB64"), ("F480M", "SUB64"))
        simulate_program(directory / f"{number}", Program(groups=groups, n_dithers=n_dithers, number=number))
    return [directory / "1094", directory / "1095"]


@pytest.fixture(scope="module")
def expected(programs, tmp_path_factory):
    """Products of one process."""
    out = tmp_path_factory.mktemp("expected")
    run_campaign(programs, out)
    return out


def assert_same_products(out, expected):
    names = sorted(path.name for path in expected.glob("*.asdf"))
    assert sorted(path.name for path in out.glob("*.asdf")) == names
    for name in names:
        found, reference = (products.open(folder / name).to_flat_dict() for folder in (out, expected))
        for key, value in reference.items():
            if isinstance(value, np.ndarray):
                assert found[key].tobytes() == value.tobytes(), (name, key)
            elif not key.startswith(TIMES):
                assert found[key] == value or (value != value and found[key] != found[key]), (name, key)
    for name in (GROUPS_FILE, EXPOSURES_FILE):
        assert (out / name).read_text() == (expected / name).read_text()


def test_directory_grouped_by_program(expected):
    groups, exposures = (Table.read(expected / name) for name in (GROUPS_FILE, EXPOSURES_FILE))
    assert sorted(zip(groups["product"], groups["filter"], groups["n_measured"], strict=True)) == [
        ("jw01094-o001_t001_niriss", "F090W", 3),
        ("jw01094-o001_t001_niriss", "F480M", 3),
        ("jw01095-o001_t001_niriss", "F090W", 2),
        ("jw01095-o001_t001_niriss", "F480M", 2),
    ]
    assert len(exposures) == 10
    assert set(exposures["status"]) == {"measured"}
    assert str(groups["electron_rate"].unit) == "electron / s"
    # both are the same star
    rates = [groups["electron_rate"][groups["filter"] == name] for name in ("F090W", "F480M")]
    for pair in rates:
        assert pair[0] == pytest.approx(pair[1], rel=0.005)


def test_processes_make_the_same(programs, expected, tmp_path, capsys):
    assert main(["campaign", *map(str, programs), "--output-dir", str(tmp_path), "--workers", "2"]) == 0
    printed, logged = capsys.readouterr()
    assert "jw01095-o001_t001_niriss       2          4         4         0       0  calibrated" in printed
    assert logged.count("_nis: measured") == 2 * 10
    assert_same_products(tmp_path, expected)


def test_a_second_run_keeps_what_is_up_to_date(programs, expected, tmp_path, capsys):
    run_campaign(programs, tmp_path)
    changed = next(tmp_path.glob("jw01094*_eeprofile.asdf"))
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*profile.asdf")}
    changed.unlink()
    assert main(["campaign", *map(str, programs), "--output-dir", str(tmp_path), "--skip-existing"]) == 0
    assert capsys.readouterr().err.count("kept: same input") == 2 * 10 - 1
    now = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*profile.asdf")}
    assert [name for name in times if now[name] != times[name]] == [changed.name]
    assert_same_products(tmp_path, expected)


def test_a_product_that_fails_is_told_and_the_others_made(programs, tmp_path, capsys):
    bad = tmp_path / "bad"
    bad.mkdir()
    for program in programs:
        write_associations(find_exposures(program)[0], tmp_path)
    association = tmp_path / "jw01095-o001_t001_niriss_asn.json"
    members = json.loads(association.read_text())["products"][0]["members"]
    for member in members:
        (bad / Path(member["expname"]).name).write_text("no image")
    folder = str(Path(members[0]["expname"]).parent)
    association.write_text(association.read_text().replace(folder, "bad"))
    out = tmp_path / "out"
    assert main(["campaign", *map(str, tmp_path.glob("*_asn.json")), "--output-dir", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "1 of 2 products failed" in printed
    assert "failed: jw01095-o001_t001_niriss: none of 4 exposures could be measured" in printed
    groups = Table.read(out / GROUPS_FILE)
    failed = groups[groups["product"] == "jw01095-o001_t001_niriss"]
    assert len(failed) == 1
    assert failed["n_exposures"][0] == 4
    assert (out / "jw01094-o001_t001_niriss_absflux.asdf").is_file()


def test_nothing_to_run(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(AssociationError, match=r"nothing to run in .*empty"):
        run_campaign([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(AssociationError, match="neither an association"):
        run_campaign([tmp_path / "none"], tmp_path / "out")


# ---- on Dask


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def processes():
    """Function that starts processes, which are ended at the end."""
    started = []

    def start(*command):
        # little more than PATH, as a worker on another machine would have; but the same kernels of linear algebra as
        # here, whose last digits differ from one kind of processor to the next
        environment = {"PATH": str(BIN), "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1"}
        environment |= {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")}
        started.append(subprocess.Popen([str(part) for part in command], env=environment, stderr=subprocess.DEVNULL))
        return started[-1]

    try:
        yield start
    finally:
        # a worker whose scheduler is gone does not heed a polite request for half a minute
        for process in started:
            process.kill()
            process.wait(30)


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers on the loopback: its address, and the workers' processes."""
    pytest.importorskip("distributed")
    address = f"tcp://127.0.0.1:{free_port()}"
    with processes() as start:
        start(BIN / "dask", "scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard")
        options = ("--nthreads", 1, "--no-nanny", "--no-dashboard", "--local-directory", tmp_path / "dask")
        workers = [start(BIN / "dask", "worker", address, *options, "--name", f"w{k}") for k in range(2)]
        yield address, workers


def test_local_cluster_makes_the_same(programs, expected, tmp_path):
    distributed = pytest.importorskip("distributed")
    from functools import partial

    from niriss_eestep.pipeline.cluster import DaskWorkers

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, dashboard_address=None, local_directory=str(tmp_path / "dask")
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        make_executor = partial(DaskWorkers, client=client)
        run_campaign(programs, tmp_path / "out", make_executor=make_executor)
        # hooks of a step go to the workers with it, and are not the client's
        paths, seen = sorted(str(path) for path in programs[0].glob("*_rate.fits")), tmp_path / "seen"
        steps = {"ee_photometry": {"pre_hooks": [f"ls {{0}} >> {seen}"]}}
        config, _ = FluxCalPipeline.build_config(paths[0], steps=steps)
        pipeline = FluxCalPipeline.from_config_section(config, name="niriss_fluxcal")
        pipeline.make_executor = make_executor
        pipeline.run(paths)
    assert_same_products(tmp_path / "out", expected)
    assert sorted(Path(line).name for line in seen.read_text().split()) == [Path(path).name for path in paths]


def test_a_worker_killed_in_mid_run_loses_nothing(programs, expected, cluster, tmp_path, capsys):
    address, workers = cluster
    command = [BIN / "niriss-ee", "campaign", *programs, "--output-dir", tmp_path / "out"]
    with processes() as start:
        campaign = start(*command, "--scheduler", address)
        deadline = time.monotonic() + 120
        while not list((tmp_path / "out").glob("*_eeprofile.asdf")):
            assert campaign.poll() is None, "the campaign ended before anything was measured"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        workers[0].send_signal(signal.SIGKILL)
        assert campaign.wait(120) == 0
    assert workers[0].wait(10) == -signal.SIGKILL
    assert_same_products(tmp_path / "out", expected)


def test_a_scheduler_out_of_reach_is_a_clear_error(programs, tmp_path, capsys):
    pytest.importorskip("distributed")
    from niriss_eestep.pipeline.cluster import ClusterError, connect

    address = f"tcp://127.0.0.1:{free_port()}"
    started = time.monotonic()
    told = f"{address}: no Dask scheduler answers there within 1 s"
    with pytest.raises(ClusterError, match=told), connect(address, timeout=1):
        pass
    assert time.monotonic() - started < 5
    with pytest.raises(ClusterError, match="no Dask scheduler answers"), connect("no address", timeout=1):
        pass


def test_a_scheduler_that_is_lost_is_told_soon_and_without_tracebacks(programs, tmp_path):
    pytest.importorskip("distributed")
    address = f"tcp://127.0.0.1:{free_port()}"
    command = [BIN / "niriss-ee", "campaign", *programs, "--output-dir", tmp_path / "out", "--scheduler", address]
    with processes() as start:
        options = ("--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard")
        scheduler = start(BIN / "dask", "scheduler", *options)
        start(
            BIN / "dask",
            "worker",
            address,
            "--nthreads",
            1,
            "--no-nanny",
            "--no-dashboard",
            "--local-directory",
            tmp_path,
        )
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as campaign:
            deadline = time.monotonic() + 60
            while not list((tmp_path / "out").glob("*_eeprofile.asdf")):
                assert campaign.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            scheduler.kill()
            started = time.monotonic()
            output = campaign.communicate()[0]
            assert time.monotonic() - started < 10
    assert campaign.returncode == 1
    assert "the Dask scheduler is lost; run again with --skip-existing" in output
    assert "Traceback" not in output


def test_what_an_exposure_raises_is_not_taken_for_the_cluster_s(monkeypatch):
    distributed = pytest.importorskip("distributed")
    from niriss_eestep.pipeline import cluster

    monkeypatch.setattr(cluster, "NOTICE", 0.2)

    def stale():
        raise OSError(116, "Stale file handle")

    def slow():
        raise TimeoutError(110, "Connection timed out")

    with distributed.Client(processes=False, n_workers=1, dashboard_address=None, set_as_default=False) as client:
        workers = cluster.DaskWorkers("measurement", client)
        for task, told in ((stale, "OSError: [Errno 116] Stale file handle"), (slow, "Connection timed out")):
            (_, failure), _ = workers.result(None, workers.executor.submit(task))
            assert told in failure
