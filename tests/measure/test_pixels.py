import numpy as np
import pytest

from niriss_eestep.instrument import SATURATED as DQ_SATURATED
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.measure.repair import PIXEL_KINDS
from niriss_eestep.measure.stamp import StarExposure

SHAPE = (81, 91)
CENTRE = (44.3, 40.6)
ORIGIN = (100, 200)
# no noise of 3,000 pixels reaches 10 standard deviations
FLAGGED, NO_VALUE, LOW, REPAIRED, OUTLIER, SATURATED, _ = PIXEL_KINDS.values()
OPTIONS = EEOptions(repair_low=True, low_sigma=10.0)


@pytest.fixture
def exposure():
    """A Gaussian star on a flat sky, with one pixel of each kind; noise far below the differences between kinds."""
    rng = np.random.default_rng(7)
    jj, ii = np.indices(SHAPE)
    square = (ii - CENTRE[0]) ** 2 + (jj - CENTRE[1]) ** 2
    image = 1.0 + 500 * np.exp(-square / 8) + rng.normal(0, 0.01, SHAPE)
    dq = np.zeros(SHAPE, np.uint32)
    bad = np.zeros(SHAPE, bool)
    bad[48, 44] = True  # flagged, 7.4 pix from the star
    bad[30, 44] = True  # without value
    image[30, 44] = np.nan
    image[40, 55] = -5.0  # low
    image[40, 67] = 50.0  # in the annulus, and nothing at the mirrored place
    dq[41, 44] = DQ_SATURATED
    variance = np.full(SHAPE, 0.01**2)
    return StarExposure("e", image, variance, dq, bad, *np.add(CENTRE, ORIGIN), *ORIGIN, 0.0656, 1.61)


def at(profile, j, i):
    return profile.stamp_kind[j - (profile.stamp_y0 - ORIGIN[1]), i - (profile.stamp_x0 - ORIGIN[0])]


def test_every_kind_is_told(exposure):
    profile = measure_ee(exposure, OPTIONS)
    assert at(profile, 48, 44) == FLAGGED | REPAIRED
    assert at(profile, 30, 44) == NO_VALUE | REPAIRED
    assert at(profile, 40, 55) == LOW | REPAIRED
    assert at(profile, 40, 67) == OUTLIER
    assert at(profile, 41, 44) == SATURATED
    assert np.count_nonzero(profile.stamp_kind) == 5


def test_values_before_and_after(exposure):
    profile = measure_ee(exposure, OPTIONS)
    repaired = (profile.stamp_kind & REPAIRED) > 0
    cut = tuple(
        slice(start, start + n)
        for start, n in zip(
            (profile.stamp_y0 - ORIGIN[1], profile.stamp_x0 - ORIGIN[0]), profile.stamp.shape, strict=True
        )
    )
    np.testing.assert_array_equal(profile.stamp, exposure.image[cut].astype(np.float32))
    np.testing.assert_array_equal(profile.stamp_repaired[~repaired], profile.stamp[~repaired])
    jj, ii = np.nonzero(repaired)
    square = (ii + profile.stamp_x0 - exposure.x) ** 2 + (jj + profile.stamp_y0 - exposure.y) ** 2
    # five times the noise of one pixel, which a fit to 48 neighbours does not reach
    np.testing.assert_allclose(profile.stamp_repaired[repaired], 1 + 500 * np.exp(-square / 8), atol=0.05)


def test_a_failed_profile_shows_what_failed_it(exposure):
    bad = exposure.bad.copy()
    bad[42, 45] = True
    broken = StarExposure(**{name: getattr(exposure, name) for name in exposure.__slots__} | {"bad": bad})
    profile = measure_ee(broken)
    assert profile.failure
    assert at(profile, 42, 45) == FLAGGED
    assert not (profile.stamp_kind & REPAIRED).any()


def test_map_reaches_the_annulus_and_stays_on_the_image(exposure):
    profile = measure_ee(exposure, EEOptions(background_skip=15.0, background_width=20.0))
    assert profile.stamp.shape == SHAPE  # 50 pix reach beyond this image on every side
    assert (profile.stamp_x0, profile.stamp_y0) == ORIGIN
