import numpy as np
import pytest

from niriss_eestep.exceptions import ParameterError
from niriss_eestep.optics.pupil import CIRCUMSCRIBED_DIAMETER, PupilGeometry, segment_centres

GEOMETRY = PupilGeometry()


@pytest.fixture(scope="module")
def telescope():
    return GEOMETRY.sample(512)


@pytest.fixture(scope="module")
def with_clearp():
    return GEOMETRY.sample(512, clearp=True)


def test_area_is_that_of_18_hexagons_less_the_struts(telescope):
    hexagons = 18 * np.sqrt(0.75) * GEOMETRY.segment_flat_to_flat**2
    # a strut covers its width from the edge of the missing central segment (0.66 m) to about 3.1 m, less the gaps
    struts = sum(GEOMETRY.strut_widths) * 2.4
    # 0.5 % for where exactly the struts leave the outer edge
    assert telescope.clear_area == pytest.approx(hexagons - struts, rel=5e-3)


def test_area_is_near_the_published_one(telescope):
    # 25.4 m2 counts the segments' unpolished rims as lost; the geometry has none
    assert telescope.clear_area == pytest.approx(25.4, rel=0.05)


def test_clearp_transmits_what_its_geometry_says(telescope, with_clearp):
    transmission = with_clearp.clear_area / telescope.clear_area
    assert transmission == pytest.approx(GEOMETRY.clearp_transmission(512), rel=1e-12)
    # second derivation: clear area within the disc and the vanes, from random points
    rng = np.random.default_rng(4)
    n, size = 400_000, CIRCUMSCRIBED_DIAMETER / 39
    i = rng.integers(0, 512, (2, n))
    x, y = (telescope.coordinates[k] + rng.uniform(-0.5, 0.5, n) * telescope.pixel_size for k in i)
    blocked = (np.hypot(x, y) < 6 * size) | (np.hypot(x, y) > 19.5 * size)
    for angle in np.deg2rad(GEOMETRY.clearp_vane_angles):
        along, across = -np.sin(angle) * x + np.cos(angle) * y, np.cos(angle) * x + np.sin(angle) * y
        blocked |= (along > 0) & (np.abs(across) < size)
    weight = telescope.amplitude[i[1], i[0]]
    expected = weight[~blocked].sum() / weight.sum()
    # n points give sqrt(0.85 * 0.15 / (0.6 n)) = 0.0007; 3 sigma
    assert transmission == pytest.approx(expected, abs=0.0022)
    assert transmission == pytest.approx(0.849, abs=0.001)


def test_missing_central_segment_and_circumscribed_circle(telescope):
    x = telescope.coordinates
    rho = np.hypot(x[:, None], x[None, :])
    assert not telescope.amplitude[rho < 0.5].any()
    assert not telescope.amplitude[rho > 0.5 * CIRCUMSCRIBED_DIAMETER + telescope.pixel_size].any()


def test_segment_centres_are_clear_but_for_those_behind_a_strut(telescope):
    centres = segment_centres(GEOMETRY)
    assert centres.shape == (18, 2)
    index = np.rint(centres / telescope.pixel_size + 0.5 * (telescope.n_pixels - 1)).astype(int)
    clear = telescope.amplitude[index[:, 1], index[:, 0]] == 1
    # the upper strut crosses the middle of two segments; the lower ones, at 30 degrees, that of one each
    assert np.count_nonzero(~clear) == 4
    distance = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    assert np.sort(distance, axis=1)[:, 1] == pytest.approx(GEOMETRY.segment_pitch)


def test_coarser_sampling_keeps_the_area(telescope):
    assert GEOMETRY.sample(256).clear_area == pytest.approx(telescope.clear_area, rel=1e-12)


@pytest.mark.parametrize("n_pixels", [32, 300, 4096])
def test_sampling_that_cannot_be_had_is_refused(n_pixels):
    with pytest.raises(ParameterError, match="n_pixels must divide 2048"):
        GEOMETRY.sample(n_pixels)
