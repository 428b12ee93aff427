from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from niriss_eestep.calibration.observed_ee import observed_modes, splice_ee
from niriss_eestep.combine.mean import CombinedProfile
from niriss_eestep.errors import ExposureError, ParameterError
from niriss_eestep.flux.total_rate import effective_ee
from niriss_eestep.reference.psf import PSFEE, EETable

RADIUS = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15])
RINGS = [(np.pi * RADIUS**2, np.array([20.0, 25.0]), np.ones(1))] * 2
GRID = np.linspace(0.0, 60.0, 601)
TOTAL = 5.0e4  # [DN/s]


def model_curve(radius):
    return 1.0 - (1.0 + (np.asarray(radius) / 1.5) ** 2) ** -0.8


def true_curve(radius):
    """The flight's PSF: a broader core, and the model's wing from 10 pix on."""
    radius = np.asarray(radius)
    return model_curve(radius) * (1 - 0.08 * np.exp(-((radius / 3) ** 2)))


def no_err(radius):
    return np.zeros(np.shape(radius))


def combined(curve, *, background_err=1e-4, seed=None, flag_from=None):
    """A group of two exposures, with photon noise and a common background error."""
    effective = effective_ee(curve, RADIUS, *RINGS[0])
    light = TOTAL * effective
    shared = np.minimum.outer(light, light) / 1e4  # photons of the smaller aperture are in the larger one too
    covariance = shared + np.outer(RINGS[0][0], RINGS[0][0]) * background_err**2
    value = light if seed is None else np.random.default_rng(seed).multivariate_normal(light, covariance)
    n_good = np.full(RADIUS.size, 2)
    if flag_from is not None:
        n_good[flag_from:] = 0
    each, nothing = np.tile(value, (2, 1)), np.full(RADIUS.size, np.nan)
    return CombinedProfile(
        radius=RADIUS,
        value=value,
        covariance=covariance,
        err_formal=np.sqrt(np.diagonal(covariance)),
        inflation=np.ones(RADIUS.size),
        scatter=nothing,
        chi2_dof=nothing,
        n_good=n_good,
        names=("a", "b"),
        exposure_value=each,
        exposure_err=each,
        exposure_flag=np.ones(each.shape, dtype=int),
        exposure_weight=np.full(each.shape, 0.5),
    )


def splice(profile, **kwargs):
    curve_err = kwargs.pop("curve_err", no_err)
    spliced, observed, total, covariance = splice_ee(
        profile, model_curve, curve_err, model_radius=GRID, rings=RINGS, **kwargs
    )
    return SimpleNamespace(
        ee=spliced.ee,
        ee_err=spliced.ee_err,
        observed=observed,
        join_radius=observed.radius[-1],
        count_rate=total,
        covariance=covariance,
    )


def test_the_true_curve_comes_back():
    result = splice(combined(true_curve))
    assert result.join_radius == 15.0
    # the two curves differ at the join by 0.08 exp(-25), and the sky's starlight is the model's: nothing else is lost
    assert result.observed.ee == pytest.approx(true_curve(RADIUS), abs=1e-6)
    assert result.count_rate == pytest.approx(TOTAL, rel=1e-6)
    assert np.array_equal(result.ee[GRID > 15], model_curve(GRID[GRID > 15]))
    outside = GRID >= 1
    # between the radii the ratio to the model is interpolated: its curvature over 1 pix, 0.08 * 2 / 9 / 8
    assert result.ee[outside] == pytest.approx(true_curve(GRID[outside]), abs=0.003)
    assert np.all(np.diff(result.ee) >= 0)


def test_an_observed_model_is_the_model():
    assert splice(combined(model_curve)).ee == pytest.approx(model_curve(GRID), abs=1e-9)


def test_the_join_is_where_the_signal_to_noise_ends():
    # 0.1 % of 4.8e4 DN/s is reached by a background error of 0.2 DN/s/pix at pi r^2 = 240 pix, r = 8.7
    result = splice(combined(true_curve, background_err=0.2))
    assert result.join_radius == 8.0
    assert splice(combined(true_curve, background_err=0.2), join_radius=5.0).join_radius == 5.0
    assert splice(combined(true_curve, flag_from=6)).join_radius == 6.0


def test_errors_are_those_of_many_draws():
    results = [splice(combined(true_curve, background_err=0.1, seed=seed), join_radius=10.0) for seed in range(200)]
    scatter = np.std([result.observed.ee for result in results], axis=0)
    # 200 draws: 5 %, 4 sigma; at the join the EE is the model's by construction
    assert results[0].observed.ee_err[:-1] == pytest.approx(scatter[:-1], rel=0.2)
    assert scatter[-1] == pytest.approx(0.0, abs=1e-12)


def test_modes_inside_the_join_are_those_of_many_draws():
    # one mode of the model: 0.5 % within 4 pix, 0.2 % at 10 pix
    grid = np.arange(31.0)
    tables = dict.fromkeys(("F200W", "F480M"), EETable(GRID, model_curve(GRID), no_err(GRID)))
    mode = (0.02 / np.maximum(grid, 4)).astype(np.float32)[None]
    psfee = PSFEE(tables, "model", modes=dict.fromkeys(tables, mode), mode_radius=grid)
    draws, rng = [], np.random.default_rng(8)
    for seed in range(400):
        profile, coefficient = combined(true_curve, background_err=0.1, seed=seed), rng.standard_normal()

        def drawn(radius, c=coefficient):
            return model_curve(radius) + c * 0.02 / np.maximum(np.asarray(radius), 4.0)

        draws.append(splice_ee(profile, drawn, no_err, model_radius=GRID, rings=RINGS, join_radius=10.0)[1].ee)
    result = splice(combined(true_curve, background_err=0.1), join_radius=10.0)
    found = replace(psfee, modes=observed_modes(psfee, "F200W", result.observed, result.covariance))
    at = found.modes_at("F200W", result.observed.radius)
    # 400 draws: 3.5 % of each error, and 0.05 of a correlation; four times that. The sky's starlight is the model's too
    assert np.sqrt(np.sum(at**2, axis=1)) == pytest.approx(np.std(draws, axis=0), rel=0.14)
    width = np.linalg.norm(at, axis=1)
    assert np.abs(at @ at.T / np.outer(width, width) - np.corrcoef(np.transpose(draws))).max() < 0.2
    # beyond the join, and in the other filter, the model's
    np.testing.assert_array_equal(found.modes_at("F480M", GRID)[:, :1], psfee.modes_at("F480M", GRID))
    assert not found.modes_at("F480M", GRID)[:, 1:].any()
    beyond = np.arange(11.0, 31)
    np.testing.assert_allclose(found.modes_at("F200W", beyond)[:, :1], psfee.modes_at("F200W", beyond), rtol=1e-6)
    assert not found.modes_at("F200W", beyond)[:, 1:].any()


def test_the_models_own_error_is_carried():
    result = splice(combined(true_curve, background_err=1e-6), curve_err=lambda r: np.full(np.shape(r), 0.005))
    assert result.observed.ee_err[-1] == pytest.approx(0.005, rel=1e-6)
    assert result.ee_err[-1] == 0.005


def test_what_cannot_be_spliced_is_refused():
    with pytest.raises(ParameterError, match=r"join_radius 5.5 pix was not measured"):
        splice(combined(true_curve), join_radius=5.5)
    with pytest.raises(ExposureError, match="fewer than two radii"):
        splice(combined(true_curve, background_err=100.0))
    with pytest.raises(ExposureError, match="fewer than two radii"):
        splice(combined(true_curve, flag_from=1))
    with pytest.raises(ExposureError, match="do not fit together"):
        splice(combined(lambda r: np.where(np.asarray(r) < 6, 1.3, 1.0) * model_curve(r) ** 0.2), join_radius=7.0)
