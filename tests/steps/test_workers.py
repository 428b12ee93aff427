"""Several processes give the products of one, whatever happens to the processes."""

import json
import logging
import os
import signal
import subprocess
import sys
from functools import partial
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from niriss_eestep import products
from niriss_eestep.errors import ExposureError, OutputError
from niriss_eestep.exposures.inputs import Member
from niriss_eestep.pipeline.executor import AHEAD, ProcessCrew, Worker, hand_out, measure_by_workers
from niriss_eestep.pipeline.exposure_job import Outcome
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


class Dying(Worker):
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
    members = [Member(path.name.removesuffix("_rate.fits"), path) for path in paths]
    worker = Dying(pipeline, members[2].name, tmp_path / "died" if once else None)
    crew = ProcessCrew(worker, 2)
    with caplog.at_level(logging.INFO, "niriss_eestep"):
        outcomes = list(measure_by_workers(crew, members))
    crew.dismiss()
    assert "a worker process died" in caplog.text
    failed = [member.name for member, outcome in zip(members, outcomes, strict=True) if outcome.failure]
    assert failed == ([] if once else [members[2].name])
    measured = [member for member in members if member.name not in failed]
    assert {path.name for path in tmp_path.glob("*_eeprofile.asdf")} == {f"{m.name}_eeprofile.asdf" for m in measured}
    if not once:
        assert "died twice" in outcomes[2].failure


def test_no_more_is_handed_out_than_needed(paths):
    handed_out = []

    class Counting:
        n_workers = 2
        worker = Worker(FluxCalPipeline())

        def submit(self, member):
            handed_out.append(member)
            return partial(self.worker, member)

        def result(self, member, future):
            return future()

    members = [Member(f"{k}", paths[0]) for k in range(2 * (2 + AHEAD))]
    outcomes = measure_by_workers(Counting(), members)
    next(outcomes)
    assert len(handed_out) == 2 * (1 + AHEAD)


def test_the_crew_is_dismissed_whatever_happens(paths, monkeypatch):
    dismissed = []

    class Idle:
        n_workers = 1

        def submit(self, member):
            raise KeyboardInterrupt

        def dismiss(self):
            dismissed.append(True)

    pipeline = FluxCalPipeline()
    pipeline.make_crew = lambda worker: Idle()
    with pytest.raises(KeyboardInterrupt):
        pipeline.run([str(path) for path in paths])
    assert dismissed == [True]


def test_what_was_handed_out_early_comes_in_its_place():
    handed_out = []

    class Echo:
        n_workers = 1

        def submit(self, member):
            handed_out.append(member)
            return Outcome((member,))

        def result(self, member, future):
            return future, []

    members = [Member(f"{k}", Path(f"{k}.fits")) for k in range(3 * (1 + AHEAD))]
    begun = hand_out(Echo(), members)
    assert list(begun) == members[: 1 + AHEAD]
    by_group = members[::-1]
    outcomes = list(measure_by_workers(Echo(), by_group, begun))
    assert [outcome.products[0] for outcome in outcomes] == by_group
    assert len(handed_out) == len(set(handed_out)) == len(members)
