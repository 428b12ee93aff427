"""Sums over apertures: the errors that several pixels share."""

import numpy as np
import pytest

from niriss_eestep.measure.background import Background
from niriss_eestep.measure.ee import repaired_stamp, sum_apertures
from niriss_eestep.measure.repair import Repair
from niriss_eestep.measure.stamp import Stamp

SHAPE = (5, 5)
SKY = Background(0.0, method="constant", weights=np.zeros(SHAPE))


def stamp(image, bad, variance):
    return Stamp("x", image, variance, np.zeros(SHAPE, np.uint32), bad, 2.0, 2.0, 0, 0, 0.0656, 1.61)


def test_sums_of_repaired_pixels_scatter_as_claimed():
    """Two bad pixels, predicted from good ones, with an error of each and one that is the same for both."""
    rng = np.random.default_rng(1)
    bad = np.zeros(SHAPE, dtype=bool)
    bad.flat[[7, 12]] = True
    variance = rng.uniform(0.5, 2.0, SHAPE)
    weights = np.zeros((2, *SHAPE))
    weights[0].flat[[6, 8]] = 0.5
    weights[1].flat[[8, 13]] = 0.7, 0.3
    own, common = np.array([0.3, 0.5]), np.array([0.8, 1.2])
    apertures = rng.uniform(0, 1, (3, *SHAPE))
    n = 40_000
    drawn = np.empty((n, 3))
    for k in range(n):
        image = np.sqrt(variance) * rng.normal(size=SHAPE)
        value = np.einsum("kji,ji->k", weights, image) + np.sqrt(own) * rng.normal(size=2) + common * rng.normal()
        image[bad] = value
        drawn[k] = np.einsum("kji,ji->k", apertures, image)
    repair = Repair(np.array([7, 12]), np.zeros(2), weights, own, common[None])
    zero = np.where(bad, np.nan, 0.0)
    values, covariance, *_ = sum_apertures(stamp(zero, bad, variance), apertures, SKY, [repair], bad)
    np.testing.assert_allclose(values, 0.0)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, rtol=4 * np.sqrt(2 / n))
    # and each repaired pixel's own variance
    found = repaired_stamp(stamp(zero, bad, np.where(bad, np.nan, variance)), [repair], SKY, bad)
    expected = np.einsum("kji,ji->k", weights**2, variance) + own + common**2
    np.testing.assert_allclose(found.variance[bad], expected)
    assert not found.bad.any()


def test_an_error_that_two_pixels_share_is_not_averaged():
    bad = np.zeros(SHAPE, dtype=bool)
    bad.flat[[7, 12]] = True
    repair = Repair(np.array([7, 12]), np.ones(2), np.zeros((2, *SHAPE)), np.zeros(2), np.array([[1.0, 2.0]]))
    quiet = stamp(np.zeros(SHAPE), bad, np.zeros(SHAPE))
    _, covariance, common, *_ = sum_apertures(quiet, np.ones((1, *SHAPE)), SKY, [repair], bad)
    # 1 + 2 = 3 DN/s together, not the root of 1 + 4; all integrations have it
    assert covariance[0, 0] == common[0, 0] == pytest.approx(9.0)


def test_a_pixel_without_an_error_stays_bad():
    bad = np.zeros(SHAPE, dtype=bool)
    bad.flat[[7, 12]] = True
    repair = Repair(np.array([7]), np.ones(1), np.zeros((1, *SHAPE)), np.array([np.nan]), np.zeros((0, 1)))
    found = repaired_stamp(stamp(np.zeros(SHAPE), bad, np.ones(SHAPE)), [repair], SKY, bad)
    assert np.flatnonzero(found.bad).tolist() == [7, 12]
