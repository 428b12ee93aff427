"""The exact overlap of pixels with circles, against photutils and against closed forms."""

import numpy as np
import pytest
from photutils.geometry import circular_overlap_grid

from niriss_eestep.measure.geometry import aperture_weights


def by_photutils(shape, x, y, radius):
    edges = -0.5 - x, shape[1] - 0.5 - x, -0.5 - y, shape[0] - 0.5 - y
    return circular_overlap_grid(*edges, shape[1], shape[0], radius, 1, 1)


@pytest.mark.parametrize("largest", [0.7, 3.0, 20.0, 60.0])
@pytest.mark.parametrize("grid", [0.0, 0.5, 1.0])  # centres anywhere; on sides, corners and centres of pixels
def test_equal_to_photutils(largest, grid):
    rng = np.random.default_rng(8)
    for _ in range(40):
        shape = tuple(map(int, rng.integers(1, 60, 2)))
        x, y = rng.uniform(-5, 65, 2)  # the image need not hold the centre
        radii = rng.uniform(0.01, largest, 3)
        if grid:
            x, y, radii[0] = (round(at / grid) * grid for at in (x, y, radii[0]))
        radii[1] += 1e-9
        expected = [by_photutils(shape, x, y, r) if r else np.zeros(shape) for r in radii]
        # the areas below an arc are up to 60 pix wide: 4 roundings of 60 eps
        np.testing.assert_allclose(aperture_weights(shape, x, y, radii), expected, rtol=0, atol=6e-14)


def test_a_whole_circle_has_its_area_and_pixels_inside_count_once():
    radii = np.array([1e-6, 0.3, 1.0, 4.5, 17.0])
    for x, y in ((20.0, 20.0), (20.5, 19.5), (20.31, 19.77), (20.5 + 1e-12, 20.0)):
        weights = aperture_weights((41, 41), x, y, radii)
        np.testing.assert_allclose(weights.sum(axis=(1, 2)), np.pi * radii**2, rtol=1e-13)
        j, i = np.mgrid[:41, :41]
        corner = np.hypot(np.abs(i - x) + 0.5, np.abs(j - y) + 0.5)
        assert np.all(weights[:, corner < 17.0 - 1e-9][-1] == 1.0)
        assert weights.min() == 0.0


def test_no_circle_is_no_light():
    assert not aperture_weights((9, 9), 4.0, 4.0, np.array([0.0, -1.0])).any()
    assert not aperture_weights((9, 9), 40.0, 4.0, np.array([3.0])).any()
    assert aperture_weights((9, 9), 4.0, 4.0, np.zeros(0)).shape == (0, 9, 9)
