"""The background of a star's annulus, against closed forms and many images."""

import numpy as np
import pytest

from niriss_eestep.errors import ExposureError
from niriss_eestep.measure.background import Background, measure_background
from niriss_eestep.measure.ee import measure_ee, sum_apertures
from niriss_eestep.measure.geometry import aperture_weights, distance_grid
from niriss_eestep.measure.quality import sector_asymmetry
from niriss_eestep.measure.stamp import Stamp
from niriss_eestep.measure.star_model import PSFModel
from niriss_eestep.reference import load_psf_images

SHAPE = (64, 64)
CENTRE = 31.3, 32.2
ANNULUS = 15.0, 20.0
NONE = np.zeros(SHAPE, dtype=bool)


def test_the_background_is_the_mean_over_the_exact_annulus():
    image = np.random.default_rng(1).normal(5.0, 0.1, SHAPE)
    inner, outer = aperture_weights(SHAPE, *CENTRE, np.array(ANNULUS))
    sky = measure_background(image, np.full(SHAPE, 0.01), NONE, *CENTRE, *ANNULUS)
    assert sky.value == pytest.approx(np.sum((outer - inner) * image) / np.sum(outer - inner))
    np.testing.assert_allclose(sky.ring_coverage, 1.0, rtol=1e-9)
    assert sky.weights.sum() == pytest.approx(1.0)


def test_pulls_of_the_background():
    """Mean 0 and standard deviation 1, with bad pixels, for the noise that the variances state."""
    rng = np.random.default_rng(2)
    variance = rng.uniform(0.5, 2.0, SHAPE)
    bad = rng.random(SHAPE) < 0.2
    n, pulls = 600, []
    for _ in range(n):
        image = np.where(bad, np.nan, 4.0 + np.sqrt(variance) * rng.normal(size=SHAPE))
        found = measure_background(image, variance, bad, *CENTRE, *ANNULUS)
        pulls.append((found.value - 4.0) / found.err)
    assert abs(np.mean(pulls)) < 3 / np.sqrt(n)
    assert abs(np.std(pulls) - 1) < 3 / np.sqrt(2 * n)


def test_which_part_of_each_ring_was_used():
    """One half of the annulus, and a ring of it, on bad pixels."""
    distance = distance_grid(SHAPE, *CENTRE)
    half = np.indices(SHAPE)[1] < CENTRE[0] - 0.5
    ring = (distance > 17) & (distance < 18)
    coverage = measure_background(np.ones(SHAPE), np.ones(SHAPE), half, *CENTRE, *ANNULUS).ring_coverage
    np.testing.assert_allclose(coverage, 0.5, atol=0.03)
    coverage = measure_background(np.ones(SHAPE), np.ones(SHAPE), ring, *CENTRE, *ANNULUS).ring_coverage
    assert coverage[2] < 0.35 < 0.5 < coverage[[0, 4]].min()


def test_outliers_are_left_out_and_the_scatter_is_the_noise_s():
    rng = np.random.default_rng(3)
    image = rng.normal(4.0, 0.5, SHAPE)
    clean = measure_background(image, np.full(SHAPE, 0.25), NONE, *CENTRE, *ANNULUS)
    image[32, 48] += 1e3
    hit = measure_background(image, np.full(SHAPE, 0.25), NONE, *CENTRE, *ANNULUS)
    assert (clean.n_rejected, hit.n_rejected) == (0, 1)
    assert hit.value == pytest.approx(clean.value, abs=3 * clean.err)
    # 550 pixels: 3 %
    assert hit.std == pytest.approx(0.5, rel=0.1)
    assert hit.dark == pytest.approx(0.5, rel=0.15)


def test_too_little_of_the_annulus():
    with pytest.raises(ExposureError, match="only 0 % of the sky annulus"):
        measure_background(np.ones(SHAPE), np.ones(SHAPE), ~NONE, *CENTRE, *ANNULUS)


def test_a_given_background_errs_in_all_apertures_together():
    nothing, weights = np.zeros(SHAPE), np.zeros((2, *SHAPE))
    weights[0, 30, :10] = weights[1, 31, :20] = 1.0
    stamp = Stamp("", nothing, nothing, nothing.astype("u4"), NONE, *CENTRE, 0, 0, 0.0656, 1.61)
    sky = Background(3.0, 0.1, method="constant", weights=nothing)
    _, *parts, _ = sum_apertures(stamp, weights, sky, [], NONE)
    # 0.1 DN/s/pix over 10 and 20 pix: 1 and 2 DN/s, fully correlated
    for part in parts:
        np.testing.assert_allclose(part, [[1.0, 2.0], [2.0, 4.0]])


@pytest.mark.parametrize("sector", range(8))
def test_the_bias_of_an_asymmetry_is_what_it_adds_to_the_mean(sector):
    """One sector of eight brighter by 0.5: what the mean of the annulus has too much, and how sure that is."""
    jj, ii = np.indices(SHAPE)
    angle = np.arctan2(jj - CENTRE[1], ii - CENTRE[0])
    distance = distance_grid(SHAPE, *CENTRE)
    use = (distance > 15) & (distance < 20)
    lit = np.floor((angle + np.pi) / (2 * np.pi) * 8).astype(int) % 8 == sector
    image, variance = np.where(lit, 0.5, 0.0), np.full(SHAPE, 0.04)
    bias, significance = sector_asymmetry(image, variance, use, *CENTRE)
    # sectors of 62 to 70 pixels
    assert bias == pytest.approx(image[use].mean(), rel=0.1)
    # the difference of two means of some 68 pixels each
    n = use.sum() / 8
    assert significance == pytest.approx(0.5 / np.sqrt(2 * 0.04 / n), rel=0.05)


def test_columns_with_an_offset_are_no_gradient():
    """1/f noise makes one side brighter: what columns have in common is in the error of the difference."""
    distance = distance_grid(SHAPE, *CENTRE)
    use, variance = (distance > 15) & (distance < 20), np.full(SHAPE, 0.04)
    columns = np.array([0.09, 0, 0, 0, 0, 0, 0, 0])
    pulls = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        image = rng.normal(0, 0.2, SHAPE) + rng.normal(0, 0.3, SHAPE[1])
        pulls.append([sector_asymmetry(image, variance, use, *CENTRE, noise)[1] for noise in (None, columns)])
    alone, together = np.max(pulls, axis=0)
    # the largest of 4 differences, 60 times: 3.5 standard deviations
    assert alone > 6
    assert together < 4.2


@pytest.mark.parametrize(("name", "wing"), [("F200W", 4e-4), ("F480M", 1e-3)])
def test_spikes_that_are_missing_in_the_annulus_do_not_move_the_sums(name, wing):
    psf = load_psf_images()[name]
    image = 1e5 * psf.render(35.2, 34.9, (71, 71)) + 0.5
    j, i = np.indices(image.shape)
    # five columns at 8 pix from the star, where they cross the annulus
    lost = (i >= 43) & (i < 48) & (np.hypot(i - 35, j - 35) > 18)

    def measured(bad, model):
        stamp = Stamp(
            "s", np.where(bad, np.nan, image), np.ones(image.shape), bad * 1, bad, 35.0, 35.0, 0, 0, 0.0656, 1
        )
        return measure_ee(stamp, psf=model)

    by_model, blind = PSFModel(psf.render), PSFModel()
    whole, cut = (measured(bad, by_model) for bad in (np.zeros(image.shape, dtype=bool), lost))
    assert abs(whole.background.uneven) < 1e-12
    # seen blindly the sky has 1e-3 of the star's light within 15 pix too much or too little
    assert abs(measured(lost, blind).count_rate[-1] - whole.count_rate[-1]) > wing * 1e5
    np.testing.assert_allclose(cut.count_rate, whole.count_rate, atol=1e-4 * 1e5)
    # what a fifth of it is worth is in the error, in that of the sky, and common to integrations
    worth = 0.2 * abs(cut.background.uneven) * cut.area[-1]
    for part in (cut.covariance, cut.sky_covariance, cut.common):
        assert part[-1, -1] > 0.999 * worth**2 > 0
