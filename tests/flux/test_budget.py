"""The error budget of a total, against sums over a covariance matrix of pixels that is written out."""

from dataclasses import replace

import numpy as np
import pytest
import scipy

from niriss_eestep.flux.total_rate import formal_errors
from niriss_eestep.instrument import IPC_KERNEL
from niriss_eestep.measure.background import Background
from niriss_eestep.measure.ee import sum_apertures
from niriss_eestep.measure.geometry import aperture_weights
from niriss_eestep.measure.noise import SHAPES, fit_sky, shapes_within
from niriss_eestep.measure.stamp import Stamp

SIZE, MIDDLE, RADII, RING = 27, 13.0, np.array([2.0, 4.0, 6.0]), (8.0, 12.0)
V, U = np.mgrid[:SIZE, :SIZE] - MIDDLE


def scene():
    """Noise of independent pixels and of a flat field, uneven; apertures; an annulus of which a part is not used."""
    rng = np.random.default_rng(18)
    flat = rng.uniform(0.05, 0.2, (SIZE, SIZE)) * np.exp(-np.hypot(U, V) / 4)
    variance = flat + rng.uniform(0.5, 1.5, (SIZE, SIZE))
    ring = (np.hypot(U, V) > RING[0]) & (np.hypot(U, V) < RING[1]) & (rng.random((SIZE, SIZE)) > 0.1)
    bad = np.zeros((SIZE, SIZE), dtype=bool)
    exposure = Stamp(
        "x", np.zeros((SIZE, SIZE)), variance, bad.astype(np.uint32), bad, MIDDLE, MIDDLE, 0, 0, 0.0656, 1.61,
        flat_variance=flat,
    )  # fmt: skip
    return exposure, aperture_weights((SIZE, SIZE), MIDDLE, MIDDLE, RADII), ring / ring.sum()


def correlated(amplitude):
    """Covariance of all pairs of pixels, one by one."""
    v, u = V.ravel(), U.ravel()
    return np.einsum(
        "k,kpq->pq", amplitude, shapes_within(SIZE, SIZE)[:, *(np.abs(n[:, None] - n).astype(int) for n in (v, u))]
    )


@pytest.mark.parametrize("noise", ["white", "columns", "1/f and neighbours", "drift"])
@pytest.mark.parametrize("with_shape", [False, True])
def test_each_part_of_the_budget_is_its_own(noise, with_shape):
    exposure, apertures, ring = scene()
    strength = {
        "columns": {"column": 0.6},
        "1/f and neighbours": {"column_trend": 0.4, "neighbours": 0.1},
        "drift": {"columns_drift": 0.6},
    }.get(noise, {})
    amplitude = np.array([strength.get(name, 0.0) for name in SHAPES])
    look = {"residual": U**2 + V**2, "use": np.hypot(U, V) > RING[0], "correlation": amplitude}
    sky, dark = Background(0.0, method="annulus", weights=ring, **look), np.zeros((SIZE, SIZE))
    if with_shape:
        sky = fit_sky(sky, exposure.variance, dark, (MIDDLE, MIDDLE), RING[0])
        assert not sky.is_flat
        sky = replace(sky, correlation=amplitude, wing=np.array([0.0, 0.0, 0.0, 0.02, 0.0, 0.0]))
    _, covariance, _, sky_covariance, _ = sum_apertures(exposure, apertures, sky, [], exposure.bad)

    # what a sum takes of each pixel for itself, and what the sky that is subtracted takes
    own, area = apertures.reshape(len(RADII), -1), apertures.sum(axis=(1, 2))
    for_sky, wing = area[:, None] * ring.ravel(), np.zeros(len(RADII))
    if with_shape:
        terms = np.array([term.ravel() for term in (np.ones_like(U), U, V, U**2 + V**2, U**2 - V**2, U * V)])
        fit = np.linalg.pinv((terms * sky.use.ravel()).T)
        for_sky = for_sky + (own - for_sky) @ terms.T @ fit
        wing = 0.02 / 25**2 * (own - area[:, None] * ring.ravel()) @ terms[3]
    alone, flat = np.diag(exposure.variance.ravel()), np.diag(exposure.flat_variance.ravel())
    together = correlated(amplitude)
    mean = np.full(len(RADII), 1 / len(RADII))
    photon, sky_only = mean @ own, mean @ for_sky
    expected = {
        # the light's own noise, and the correlated noise that is left of it when the sky is subtracted
        "err_photon": photon @ (alone - flat) @ photon + (photon - sky_only) @ together @ (photon - sky_only),
        "err_flat": photon @ flat @ photon,
        "err_sky": sky_only @ alone @ sky_only + (mean @ wing) ** 2,
    }
    parts = covariance, own @ flat @ own.T, sky_covariance
    found = formal_errors(parts, mean)
    assert {name: err**2 for name, err in found.items()} == pytest.approx(expected, rel=1e-8)
    assert sum(expected.values()) == pytest.approx(mean @ covariance @ mean, rel=1e-8)
    if noise == "drift" and not with_shape:
        # the sky's level by itself is less certain than the difference, of which it shares the drift
        assert sky_only @ (alone + together) @ sky_only > sum(expected.values())


def test_photons_count_by_what_apertures_see_of_their_charge():
    """Capacitance hands charge to the neighbours: within an aperture nothing is lost of it, at its edge a part."""
    exposure, apertures, _ = scene()
    photons = 0.7 * (exposure.variance - exposure.flat_variance)
    exposure = replace(exposure, photon_variance=photons, flat_variance=None)
    nothing = Background(0.0, method="none", weights=np.zeros((SIZE, SIZE)))
    look = {"residual": exposure.image, "use": np.hypot(U, V) > RING[0], "correlation": np.zeros(len(SHAPES))}
    found = sum_apertures(exposure, apertures, replace(nothing, **look), [], exposure.bad)[1]
    charge = np.array([scipy.ndimage.correlate(aperture, IPC_KERNEL, mode="constant") for aperture in apertures])
    read, charge = apertures.reshape(len(RADII), -1), charge.reshape(len(RADII), -1)
    expected = (read * (exposure.variance - photons).ravel()) @ read.T + (charge * photons.ravel()) @ charge.T
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    # without it so much more in the smallest aperture
    assert (read[0] ** 2 @ exposure.variance.ravel()) > 1.005 * found[0, 0]


def test_a_flat_that_is_correlated_counts_by_all_pairs_of_pixels():
    exposure, apertures, _ = scene()
    exposure = replace(exposure, flat_scale=1.5)
    nothing = Background(0.0, method="none", weights=np.zeros((SIZE, SIZE)))
    found, common = sum_apertures(exposure, apertures, nothing, [], exposure.bad)[1:3]
    v, u, sigma = V.ravel(), U.ravel(), np.sqrt(exposure.flat_variance).ravel()
    apart = (v[:, None] - v) ** 2 + (u[:, None] - u) ** 2
    flat = np.outer(sigma, sigma) * np.exp(-apart / (2 * 1.5**2))
    own = apertures.reshape(len(RADII), -1)
    alone = np.diag((exposure.variance - exposure.flat_variance).ravel())
    np.testing.assert_allclose(found, own @ (alone + flat) @ own.T, rtol=1e-3)
    np.testing.assert_allclose(common, own @ flat @ own.T, rtol=1e-3)
