"""Light lost in the core: the model's word, held to the curve of growth."""

import numpy as np
import pytest

from niriss_eestep.measure.core_repair import fill_scale, model_misfit

RADIUS = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15])


def ee(radius, sigma=1.5, wing=0.2):
    return (1 - wing) * -np.expm1(-0.5 * (radius / sigma) ** 2) + wing * radius**2 / (radius**2 + 25.0)


@pytest.mark.parametrize("truth", [0.7, 1.0, 1.4])
def test_the_curve_of_growth_finds_the_lost_light(truth):
    lost = 0.3 * ee(RADIUS[0]) / ee(RADIUS[0])  # a pixel at the centre: within every radius
    fill = np.full(RADIUS.shape, 1e4 * lost / truth)
    count_rate = 1e4 * (ee(RADIUS) - lost)
    scale, err = fill_scale(RADIUS, count_rate, fill, ee(RADIUS), misfit=10.0)
    # nothing but the curve of growth says anything: exact data give the exact factor
    assert scale == pytest.approx(truth, rel=1e-4)
    assert 0 < err < 0.2


def test_a_model_that_fits_is_believed():
    fill = np.full(RADIUS.shape, 3e3)
    scale, err = fill_scale(RADIUS, 1e4 * ee(RADIUS) - 2e3, fill, ee(RADIUS), misfit=1e-6)
    assert scale == pytest.approx(1.0, abs=1e-3)
    assert err == pytest.approx(1e-6, rel=1e-2)


def test_with_too_few_radii_the_model_stands():
    assert fill_scale(RADIUS[:3], np.full(3, np.nan), np.ones(3), np.ones(3), 0.1) == (1.0, 0.1)


def test_misfit_of_a_model():
    light = np.outer([0.1, 0.6, 0.3], [0.2, 0.5, 0.3])
    use = np.ones((3, 3), dtype=bool)
    assert model_misfit(7 * light, use, light) == pytest.approx(0, abs=1e-12)
    image = 7 * light
    image[1, 1] *= 1.1
    # by hand: best scale, then residuals over the fit
    scale = np.sum(image * light) / np.sum(light**2)
    by_hand = np.sqrt(np.sum((image - scale * light) ** 2) / np.sum((scale * light) ** 2))
    assert model_misfit(image, use, light) == pytest.approx(by_hand)
    assert model_misfit(image, use & False, light) == 1.0
