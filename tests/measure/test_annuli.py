"""Means over annuli that are seen in part: the error for want of the rest."""

import numpy as np
import pytest

from niriss_eestep.measure.geometry import annuli_about, mean_weights, unseen_variance

SHAPE = (51, 51)
CENTRE = 25.0, 25.0


def sectors():
    jj, ii = np.indices(SHAPE)
    return ((np.arctan2(jj - CENTRE[1], ii - CENTRE[0]) / (2 * np.pi) + 0.5) * 12).astype(int) % 12


@pytest.mark.parametrize("n_seen", [4, 8, 11])
def test_the_unseen_part_errs_as_a_sample_without_replacement_does(n_seen):
    """Twelve sectors of random brightness, of which some are seen: the mean square error of the mean, over many draws.

    For S^2 the variance of the N sectors and n of them seen it is S^2 / n (1 - n / N) (Cochran 1977, chapter 2).
    """
    rng = np.random.default_rng(n_seen)
    (overlap,), (rings,) = annuli_about(SHAPE, *CENTRE, np.array([12.0]), np.array([18.0]))
    sector, n = sectors(), 600
    weight = overlap / overlap.sum()
    errors, claimed = np.empty((2, n))
    for k in range(n):
        image = rng.normal(0, 2.0, 12)[sector]
        available = sector < n_seen
        seen = mean_weights(rings, available)
        errors[k] = np.sum(seen * image) - np.sum(weight * image)
        claimed[k] = unseen_variance(overlap, rings, available, *CENTRE, image, np.zeros(SHAPE))
    # both about zero: the residual's own mean is known to be zero, as that of a star less its trend
    assert np.mean(claimed) == pytest.approx(np.mean(errors**2), rel=4 * np.sqrt(2 / n) + 4 * np.sqrt(2 / n / n_seen))


def test_all_seen_has_no_such_error_and_noise_is_none():
    rng = np.random.default_rng(1)
    (overlap,), (rings,) = annuli_about(SHAPE, *CENTRE, np.array([12.0]), np.array([18.0]))
    everywhere = np.ones(SHAPE, dtype=bool)
    image = rng.normal(size=SHAPE)
    assert unseen_variance(overlap, rings, everywhere, *CENTRE, image, np.ones(SHAPE)) == pytest.approx(0, abs=1e-6)
    half = sectors() < 6
    found = [unseen_variance(overlap, rings, half, *CENTRE, rng.normal(size=SHAPE), np.ones(SHAPE)) for _ in range(100)]
    # what is noise is in the mean's own variance, of some 280 pixels; half of the draws lie below zero, which becomes 0
    assert np.mean(found) < 0.5 / 280
    assert np.isnan(unseen_variance(overlap, rings, ~everywhere, *CENTRE, image, np.ones(SHAPE)))
