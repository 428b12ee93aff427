"""Parameters and references chosen by CRDS, from a small cache that the tests build; no server."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

from niriss_eestep.errors import ReferenceDataError
from niriss_eestep.pipeline.parameters import OFF, ON, UNREACHABLE, crds_state
from niriss_eestep.reference import (
    PSFEE,
    EETable,
    Throughput,
    load_psfee,
    load_throughput,
    write_psfee,
    write_throughput,
)
from niriss_eestep.steps import EEPhotometryStep, FluxCalPipeline

# crds 14.0.3 calls a function of its own that it has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:'get_cache_lock' is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def program(simulate):
    """One exposure in each of two filters."""
    return simulate((("F090W", "SUB64"), ("F480M", "SUB64")))


@pytest.fixture
def gain(tmp_path):
    """Function that writes a gain reference of one value."""

    def write(value):
        model = datamodels.GainModel(data=np.full((2048, 2048), value, np.float32))
        model.meta.subarray.xstart = model.meta.subarray.ystart = 1
        path = tmp_path / f"jwst_niriss_gain_{round(100 * value)}.fits"
        model.save(path)
        return path

    return write


def ref_file(model, kind):
    return model._instance["meta"]["ref_file"][kind]["name"]


def test_parameters_and_gain_of_each_filter(program, crds_cache, write_pars, gain):
    crds_cache(
        {
            "pars-eephotometrystep": {
                "F090W": write_pars(
                    "EEPhotometryStep", "jwst_niriss_pars-eephotometrystep_0001.asdf", {"radii": [2.0, 5.0]}
                ),
                "F480M": write_pars(
                    "EEPhotometryStep", "jwst_niriss_pars-eephotometrystep_0002.asdf", {"radii": [3.0, 8.0]}
                ),
            },
            "gain": {"ANY": gain(1.75)},
        }
    )
    assert crds_state() == ON
    _, (blue, red) = program
    results = EEPhotometryStep.call([str(blue), str(red)], configure_log=False)
    assert [r.radius.tolist() for r in results] == [[2.0, 5.0], [3.0, 8.0]]
    for result in results:
        assert result.meta.ee.gain == pytest.approx(1.75)
        assert ref_file(result, "gain") == "crds://jwst_niriss_gain_175.fits"
        assert result.meta.ref_file.crds.context_used == "jwst_0001.pmap"
    given = EEPhotometryStep.call([str(blue), str(red)], background_skip=4.0, radii=[2, 7], configure_log=False)
    assert [r.radius.tolist() for r in given] == [[2.0, 7.0], [2.0, 7.0]]
    assert all(r.meta.ee.background_r_in == pytest.approx(11.0) for r in given)


def test_references_of_this_package_from_crds(program, crds_cache, tmp_path, monkeypatch):
    directory, (path, _) = program
    packaged = load_psfee()
    tables = {name: EETable(t.radius, t.ee / 1.01, t.ee_err) for name, t in packaged.tables.items()}
    psfee, throughput = tmp_path / "jwst_niriss_psfee_0001.asdf", tmp_path / "jwst_niriss_throughput_0001.asdf"
    write_psfee(PSFEE(tables, "psfee"), psfee)
    full = load_throughput()
    halved = {name: (full.curve(name)[0], full.curve(name)[1] / 2) for name in full.filters}
    write_throughput(Throughput(halved, "halved"), throughput)
    monkeypatch.setenv("PYSYN_CDBS", str(directory))
    # without modes a reference is not fitted to the star
    as_it_is = {"abs_flux": {"aperture_correction": "psfee"}}
    before = FluxCalPipeline.call(str(path), configure_log=False, steps=as_it_is)
    crds_cache({"psfee": {"ANY": psfee}, "throughput": {"F090W": throughput}})
    after = FluxCalPipeline.call(str(path), configure_log=False, steps=as_it_is)
    assert float(after.table["count_rate"][0]) == pytest.approx(1.01 * float(before.table["count_rate"][0]), rel=1e-5)
    expected = "expected_electron_rate"
    assert float(after.table[expected][0]) == pytest.approx(float(before.table[expected][0]) / 2, rel=1e-5)
    assert ref_file(after, "psfee") == "crds://jwst_niriss_psfee_0001.asdf"
    assert ref_file(after, "throughput") == "crds://jwst_niriss_throughput_0001.asdf"
    assert ref_file(before, "psfee").startswith("packaged")
    assert after.meta.ref_file.crds.context_used == "jwst_0001.pmap"
    # CRDS has no gain: nominal, without a word of error
    assert "gain" not in after.meta.ref_file.instance or not ref_file(after, "gain").startswith("crds")


def test_an_override_wins_over_crds(program, crds_cache, gain):
    crds_cache({"gain": {"ANY": gain(1.75)}})
    _, (path, _) = program
    other = gain(1.5)
    result = EEPhotometryStep.call(str(path), override_gain=str(other), configure_log=False)
    assert result.meta.ee.gain == pytest.approx(1.5)
    assert ref_file(result, "gain") == str(other)
    result = EEPhotometryStep.call(str(path), gain=1.4, configure_log=False)
    assert result.meta.ee.gain == 1.4


def test_nothing_configured_is_silent(program, caplog):
    _, (path, _) = program
    assert crds_state() == OFF
    with caplog.at_level(logging.DEBUG):
        result = EEPhotometryStep.call(str(path), configure_log=False)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert ref_file(result, "gain").startswith("nominal")


@pytest.fixture
def unreachable(monkeypatch):
    """A server that nobody runs: port 9 of this machine."""
    monkeypatch.setenv("CRDS_SERVER_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("CRDS_PATH", "/nonexistent")


def test_a_server_out_of_reach_is_an_error(program, unreachable):
    _, (path, _) = program
    assert crds_state() == UNREACHABLE
    with pytest.raises(ReferenceDataError, match=r"http://127\.0\.0\.1:9 does not answer.*allow_packaged"):
        EEPhotometryStep.call(str(path), configure_log=False)


def test_a_server_out_of_reach_may_be_done_without(program, unreachable, caplog, monkeypatch):
    directory, (path, _) = program
    monkeypatch.setenv("PYSYN_CDBS", str(directory))
    result = FluxCalPipeline.call(str(path), allow_packaged=True, configure_log=False)
    assert ref_file(result, "psfee").startswith("packaged")
    assert "CRDS does not answer" in caplog.text


def test_a_cache_stands_in_for_a_server(program, crds_cache, gain, monkeypatch):
    crds_cache({"gain": {"ANY": gain(1.75)}})
    monkeypatch.setenv("CRDS_SERVER_URL", "http://127.0.0.1:9")
    _, (path, _) = program
    result = EEPhotometryStep.call(str(path), configure_log=False)
    assert result.meta.ee.gain == pytest.approx(1.75)


def test_strun_with_a_cache(program, crds_cache, write_pars, gain, tmp_path):
    crds_cache(
        {
            "pars-eephotometrystep": {
                "F480M": write_pars(
                    "EEPhotometryStep", "jwst_niriss_pars-eephotometrystep_0002.asdf", {"radii": [3.0, 8.0]}
                )
            },
            "gain": {"ANY": gain(1.75)},
        }
    )
    directory, paths = program
    out = tmp_path / "out"
    done = subprocess.run(
        [Path(sys.executable).with_name("strun"), "ee_photometry", str(paths[1]), f"--output_dir={out}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"PYSYN_CDBS": str(directory)},
    )
    assert done.returncode == 0, done.stderr
    assert "PARS-EEPHOTOMETRYSTEP parameters found: " in done.stderr
    assert "ERROR" not in done.stderr
    from niriss_eestep import products

    with products.open(out / paths[1].name.replace("_rate.fits", "_eeprofile.asdf")) as result:
        assert result.radius.tolist() == [3.0, 8.0]
        assert result.meta.ref_file.crds.context_used == "jwst_0001.pmap"


@pytest.mark.parametrize("allowed", [False, True])
def test_a_server_lost_on_the_way_is_an_error(program, crds_cache, gain, monkeypatch, caplog, allowed):
    import crds
    from crds.core.exceptions import ServiceError

    _, (path, _) = program
    crds_cache({"gain": {"ANY": gain(1.75)}})
    assert crds_state() == ON
    monkeypatch.setenv("CRDS_SERVER_URL", "http://127.0.0.1:9")

    def silent(*_args, **_kwargs):
        raise ServiceError("CRDS jsonrpc failure 'get_best_references' Connection refused")

    monkeypatch.setattr(crds, "getrecommendations", silent)
    monkeypatch.setenv("STPIPE_DISABLE_CRDS_STEPPARS", "true")
    if allowed:
        result = EEPhotometryStep.call(str(path), allow_packaged=True, configure_log=False)
        assert ref_file(result, "gain").startswith("nominal")
        assert "CRDS cannot be asked for gain" in caplog.text
        return
    with pytest.raises(ReferenceDataError, match=r"CRDS cannot be asked for gain: .*Connection refused"):
        EEPhotometryStep.call(str(path), configure_log=False)
