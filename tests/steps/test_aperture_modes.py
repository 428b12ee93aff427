"""The error of the aperture correction, from the modes of the PSF's prior."""

import logging

import numpy as np
import pytest

from niriss_eestep import AbsFluxStep, CombineProfilesStep, EEPhotometryStep, FluxCalPipeline
from niriss_eestep.errors import ParameterError
from niriss_eestep.reference import PSFEE, load_psfee, write_psfee
from niriss_eestep.simulate.program import Program, simulate_program


@pytest.fixture(scope="module")
def exposure(tmp_path_factory):
    directory = tmp_path_factory.mktemp("exposure")
    simulate_program(directory, Program(groups=(("F200W", "SUB64"),), n_dithers=1, seed=4))
    return str(next(directory.glob("*_rate.fits")))


def test_err_aperture_is_the_width_of_the_modes(exposure):
    result = FluxCalPipeline.call(exposure, steps={"abs_flux": {"aperture_correction": "psfee"}})
    row = result.table[0]
    assert np.sqrt(np.sum(result.aperture_modes[0] ** 2)) == pytest.approx(row["err_aperture"], rel=1e-6)
    # of the EE itself, the mean over 5 to 10 pix: the annulus takes some off, for it holds light of the same modes
    radius = np.arange(5, 11)
    reference = load_psfee()
    modes = reference.modes_at("F200W", radius) / reference.ee("F200W", radius)[:, None]
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
    again = FluxCalPipeline.call(
        exposure, steps={"abs_flux": {"override_psfee": str(path), "aperture_correction": "psfee"}}
    )
    assert again.table[0]["count_rate"] == result.table[0]["count_rate"]
    assert "psf_modes" not in again._instance


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    """Combined profiles of four filters."""
    directory = tmp_path_factory.mktemp("visit")
    groups = tuple((name, "SUB128") for name in ("F090W", "F150W", "F277W", "F480M"))
    truth = simulate_program(directory, Program(groups=groups, n_dithers=2, seed=7))
    profiles = [EEPhotometryStep.call(str(p)) for p in sorted(directory.glob("*_rate.fits"))]
    return CombineProfilesStep.call(profiles), {row["filter"]: row["electron_rate"] for row in truth}


def test_filters_together_know_the_psf_better_than_the_prior(visit):
    visit, truth = visit
    prior, found = (AbsFluxStep.call(visit, aperture_correction=kind) for kind in ("psfee", "fitted"))
    assert found.aperture_modes.shape == (4, 65 + 4)
    assert found.psf_modes.shape == (4, 65)
    for k, (before, after) in enumerate(zip(prior.table, found.table, strict=True)):
        assert after["err_aperture"] == pytest.approx(np.sqrt(np.sum(found.aperture_modes[k] ** 2)), rel=1e-6)
        assert after["err_aperture"] < 0.5 * before["err_aperture"]
        # rendered with the reference's own PSF, which neither the prior nor the fit may leave
        assert abs(after["electron_rate"] / truth[after["filter"]] - 1) < 3 * np.hypot(
            after["electron_rate_err"] / after["electron_rate"], after["err_aperture"]
        )
        assert list(found.radius[np.isfinite(found.psf_residual[k])]) == [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15]
        assert list(found.radius[found.radius_used[k] == 1]) == [5, 6, 7, 8, 9, 10]
    assert found.table["psf_chi2_dof"] == pytest.approx(found.table["psf_chi2_dof"][0])
    assert np.isnan(prior.table["psf_chi2_dof"]).all()


def test_a_chi_squared_beyond_reason_is_told(visit):
    spoiled = [model.copy() for model in visit[0]]
    # a neighbour of 3 % at 9 pix, in one filter
    add = 0.03 * np.where(spoiled[0].radius >= 9, spoiled[0].count_rate[9], 0)
    spoiled[0].count_rate = spoiled[0].count_rate + add
    spoiled[0].exposure_count_rate = spoiled[0].exposure_count_rate + add
    found = AbsFluxStep.call(spoiled, aperture_correction="fitted")
    for row in found.table:
        assert row["status"].startswith("measured with warnings")
        assert "the fitted PSF leaves chi2/dof" in row["status"]


def test_wrong_radii_of_the_fit_are_refused(visit):
    with pytest.raises(ParameterError, match="fit_radius_min=15, fit_radius_max=2: must be positive"):
        AbsFluxStep.call(visit[0], aperture_correction="fitted", fit_radius_min=15.0, fit_radius_max=2.0)
