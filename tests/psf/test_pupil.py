from dataclasses import replace

import numpy as np
import pytest

from niriss_eestep.errors import ParameterError
from niriss_eestep.psf.pupil import (
    CIRCUMSCRIBED_DIAMETER,
    INFLIGHT_PUPIL,
    SEGMENT_CENTRES,
    SEGMENT_CORNERS,
    WEBBPSF_PUPIL,
    pixel_centres,
)

GEOMETRY = INFLIGHT_PUPIL
#: of the fixture `telescope` [m]
PIXEL = CIRCUMSCRIBED_DIAMETER / 512


def polygon_area(corners):
    """Shoelace formula."""
    x, y = np.moveaxis(corners, -1, 0)
    return 0.5 * np.sum(x * np.roll(y, -1, axis=-1) - y * np.roll(x, -1, axis=-1), axis=-1)


@pytest.fixture(scope="module")
def telescope():
    return GEOMETRY.sample(512)


def test_segments_fill_the_mirror_as_drawn():
    distance = np.hypot(*np.moveaxis(SEGMENT_CORNERS, -1, 0))
    # STPSF 2.2 gives both circles: around the outermost segments, and through the notches between them
    assert 2 * distance.max() == pytest.approx(CIRCUMSCRIBED_DIAMETER, abs=1e-5)
    assert 2 * np.hypot(1.892896, 1.976441) == pytest.approx(5.47334, abs=1e-4)
    assert np.all(polygon_area(SEGMENT_CORNERS) > 0)  # counter-clockwise
    # a segment with its gap is 1.32 m wide; the inner ring lies nearly flat (cos 4.8 degrees, 0.9965)
    pitch = np.hypot(*(SEGMENT_CENTRES[:6] - np.roll(SEGMENT_CENTRES[:6], 1, axis=0)).T)
    assert pitch == pytest.approx(1.32, abs=0.004)
    gap = SEGMENT_CORNERS[6][:, 1].min() - SEGMENT_CORNERS[0][:, 1].max()
    assert 0.007 <= gap < 0.008


def test_area_is_that_of_the_segments_less_what_stands_before_them(telescope):
    # a strut covers its width from the edge of the missing central segment, but for two gaps, to the outer edge: the
    # upper one from 0.668 to 3.280 m, the lower ones from 0.764 to 3.0 m
    upper, lower, _ = GEOMETRY.strut_widths
    struts = upper * (2.612 - 0.008) + 2 * lower * 2.25
    hardware = sum((width - upper) * (end - begin) for _, begin, end, width in GEOMETRY.strut_hardware)
    area = telescope.sum() * PIXEL**2
    # 0.03 m in where each strut leaves the mirror are 0.05 %
    assert area == pytest.approx(polygon_area(SEGMENT_CORNERS).sum() - struts - hardware, rel=1e-3)
    # the telescope's 25.4 m2 leave out a rim of 4 mm around each segment, which does not reflect
    assert area - 18 * 6 * 0.7585 * 0.004 == pytest.approx(25.4, rel=5e-3)


@pytest.mark.parametrize("geometry", [INFLIGHT_PUPIL, WEBBPSF_PUPIL], ids=["inflight", "webbpsf"])
def test_clearp_transmits_what_its_geometry_says(telescope, geometry):
    transmission = geometry.clearp_transmission(512)
    # second derivation: clear area within the disc and the vanes, from random points
    rng = np.random.default_rng(4)
    n, size = 400_000, CIRCUMSCRIBED_DIAMETER / 39
    i = rng.integers(0, 512, (2, n))
    x, y = (pixel_centres(512)[k] + rng.uniform(-0.5, 0.5, n) * PIXEL for k in i)
    weight = telescope[i[1], i[0]]
    x, y = x - 0.0243 * CIRCUMSCRIBED_DIAMETER, y - 0.0141 * CIRCUMSCRIBED_DIAMETER
    outer = {INFLIGHT_PUPIL: 1.04 * 19.5, WEBBPSF_PUPIL: 19.5}[geometry]
    blocked = (np.hypot(x, y) < 6 * size) | (np.hypot(x, y) > outer * size)
    for angle in np.deg2rad([0, 120, 240]):
        along, across = -np.sin(angle) * x + np.cos(angle) * y, np.cos(angle) * x + np.sin(angle) * y
        blocked |= (along > 0) & (np.abs(across) < size)
    expected = weight[~blocked].sum() / weight.sum()
    # n points give sqrt(0.85 * 0.15 / (0.6 n)) = 0.0007; 3 sigma
    assert transmission == pytest.approx(expected, abs=0.0022)


def test_vane_lies_along_the_upper_strut(telescope):
    """Turned by half a turn, the element's vanes block more, since none of them hides a strut."""
    turned = replace(GEOMETRY, clearp_vane_angles=(60.0, 180.0, 300.0)).clearp_transmission(512)
    assert GEOMETRY.clearp_transmission(512) > turned + 0.003


def test_missing_central_segment_and_circumscribed_circle(telescope):
    x = pixel_centres(512)
    rho = np.hypot(x[:, None], x[None, :])
    assert not telescope[rho < 0.5].any()
    assert not telescope[rho > 0.5 * CIRCUMSCRIBED_DIAMETER + PIXEL].any()


def test_segment_centres_are_clear_but_for_those_behind_a_strut(telescope):
    index = np.rint(SEGMENT_CENTRES / PIXEL + 0.5 * (512 - 1)).astype(int)
    clear = telescope[index[:, 1], index[:, 0]] == 1
    # the upper strut crosses the middle of two segments; the lower ones, at 30 degrees, that of one each
    assert np.count_nonzero(~clear) == 4


def test_coarser_sampling_keeps_the_area(telescope):
    assert GEOMETRY.sample(256).sum() * (2 * PIXEL) ** 2 == pytest.approx(telescope.sum() * PIXEL**2, rel=1e-12)


@pytest.mark.parametrize("n_pixels", [32, 300, 4096])
def test_sampling_that_cannot_be_had_is_refused(n_pixels):
    with pytest.raises(ParameterError, match="n_pixels must divide 2048"):
        GEOMETRY.sample(n_pixels)
