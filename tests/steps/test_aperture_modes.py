"""The error of the aperture correction, from the modes of the PSF's prior."""

import logging

import numpy as np
import pytest

from niriss_eestep import FluxCalPipeline
from niriss_eestep.reference import PSFEE, load_psfee, write_psfee
from niriss_eestep.simulate.program import Program, simulate_program


@pytest.fixture(scope="module")
def exposure(tmp_path_factory):
    directory = tmp_path_factory.mktemp("exposure")
    simulate_program(directory, Program(groups=(("F200W", "SUB64"),), n_dithers=1, seed=4))
    return str(next(directory.glob("*_rate.fits")))


def test_err_aperture_is_the_width_of_the_modes(exposure):
    result = FluxCalPipeline.call(exposure)
    row = result.table[0]
    assert np.sqrt(np.sum(result.aperture_modes[0] ** 2)) == pytest.approx(row["err_aperture"], rel=1e-6)
    # of the EE itself, the mean over 5 to 10 pix: the annulus takes some off, for it holds light of the same modes
    radius = np.arange(5, 11)
    reference = load_psfee()
    modes = reference.modes.at("F200W", radius) / reference.ee("F200W", radius)[:, None]
    own = np.sqrt(np.sum(modes.mean(axis=0) ** 2))
    assert 0.8 * own < row["err_aperture"] < 1.3 * own


def test_reference_without_modes_says_that_its_error_is_the_scatter(exposure, tmp_path, caplog):
    reference = load_psfee()
    path = tmp_path / "old_psfee.asdf"
    write_psfee(PSFEE(reference.tables, path.name, reference.meta), path)
    with caplog.at_level(logging.WARNING):
        result = FluxCalPipeline.call(exposure, steps={"abs_flux": {"override_psfee": str(path)}})
    assert sum("old_psfee.asdf: without modes" in record.getMessage() for record in caplog.records) == 1
    assert "aperture_modes" not in result._instance
    assert result.table[0]["err_aperture"] > 0
