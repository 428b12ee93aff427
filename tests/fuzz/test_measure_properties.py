"""Random images, flags, positions and options: a finite result with an error, or an error of this package."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from niriss_eestep.errors import NirissEEError, ParameterError
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.measure.sb import SBOptions, measure_sb
from niriss_eestep.measure.stamp import CHOICES, StarExposure
from niriss_eestep.measure.star_model import PSFModel

#: the same cases in every run of the tests; ``FUZZ_EXAMPLES=20000 pytest tests/fuzz`` looks for others, at random
EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
FUZZ = settings(
    max_examples=int(EXAMPLES or 250),
    deadline=None,
    derandomize=EXAMPLES is None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

numbers = st.one_of(
    st.sampled_from([0.0, -1.0, 0.5, 1.0, 3.0, 5.0, 20.0, 1e-9, 1e9, np.nan, np.inf]), st.floats(0.1, 40)
)
radii = st.one_of(
    st.lists(st.floats(0.2, 40), min_size=1, max_size=8, unique=True).map(sorted), st.lists(numbers, max_size=5)
)


def _image(kind, shape, rng, x, y):
    jj, ii = np.indices(shape)
    star = 1000 * np.exp(-0.5 * ((ii - x) ** 2 + (jj - y) ** 2) / 1.5**2)
    match kind:
        case "star":
            return star
        case "noisy star":
            return star + rng.normal(size=shape)
        case "noise":
            return rng.normal(size=shape)
        case "constant":
            return np.full(shape, 3.0)
        case "zero":
            return np.zeros(shape)
        case "huge":
            return 1e30 * star
        case "tiny":
            return 1e-30 * star
        case "negative":
            return -star
        case _:
            return rng.choice([0.0, 1.0, -1e10, 1e10, 1e-300], size=shape)


@st.composite
def exposures(draw):
    """Stamps as the steps make them: what cannot be used is flagged."""
    shape = draw(st.sampled_from([(1, 1), (1, 40), (3, 3), (9, 12), (30, 41), (61, 61)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x, y = draw(st.floats(-0.5, shape[1] - 0.5)), draw(st.floats(-0.5, shape[0] - 0.5))
    kinds = ["star", "noisy star", "noise", "constant", "zero", "huge", "tiny", "negative", "mixed"]
    image = _image(draw(st.sampled_from(kinds)), shape, rng, x, y)
    variance = draw(st.sampled_from([0.0, 1e-30, 1.0, 1e30])) * (1 + rng.random(shape))
    for layer in (image, variance):
        share = draw(st.sampled_from([0.0, 0.0, 0.01, 0.3, 0.95]))
        layer[rng.random(shape) < share] = draw(st.sampled_from([np.nan, np.inf, -np.inf, -1.0]))
    dq = rng.choice([0, 0, 0, 0, 1, 2, 4, 3], size=shape).astype(np.uint32)
    if draw(st.booleans()):
        dq[:] = 0
    bad = ((dq & 1) != 0) | ~np.isfinite(image) | ~np.isfinite(variance) | (variance < 0)
    return StarExposure("x", image, variance, dq, bad, x, y, 0, 0, 0.0656, 1.61, 0.5)


ee_options = st.fixed_dictionaries(
    {},
    optional={
        "radii": radii,
        "background_skip": numbers,
        "background_width": numbers,
        "background_method": st.sampled_from(CHOICES["background_method"]),
        "background_value": numbers,
        "background_value_err": numbers,
        "bad_pixel_method": st.sampled_from(["surface", "median", "psf", "none", "magic"]),
        "repair_low": st.booleans(),
        "repair_core": st.booleans(),
        "low_sigma": numbers,
        "core_radius": numbers,
        "centroid_method": st.sampled_from(["com", "quadratic", "1dg", "2dg", "none"]),
        "centroid_box": st.sampled_from([0, 3, 5, 6, 7, 31]),
        "search_radius": numbers,
        "max_shift": numbers,
    },
)
sb_options = st.fixed_dictionaries(
    {},
    optional={
        "radii": radii,
        "half_width": numbers,
        "clip_low": st.booleans(),
        "low_sigma": numbers,
        "core_radius": numbers,
        "background_inner": numbers,
        "background_width": numbers,
        "search_radius": numbers,
    },
)


def _gaussian(x, y, shape):
    jj, ii = np.indices(shape)
    return np.exp(-0.5 * ((ii - x) ** 2 + (jj - y) ** 2) / 1.5**2) / (2 * np.pi * 1.5**2)


def _gaussian_ee(radius):
    return 1 - np.exp(-0.5 * radius**2 / 1.5**2)


def check(value, err, covariance, status):
    """Whatever is given as a number has an error, and a profile without numbers says why."""
    measured = np.isfinite(value)
    assert not np.isinf(value).any()
    assert np.isfinite(err[measured]).all()
    assert (err[measured] >= 0).all()
    assert np.isfinite(covariance[np.ix_(measured, measured)]).all()
    assert status.startswith(("measured", "failed: "))


@FUZZ
@given(
    exposure=exposures(),
    options=ee_options,
    psf=st.sampled_from([(None,), (_gaussian,), (_gaussian, _gaussian_ee, lambda radius: 0.01 * radius)]),
)
def test_ee_of_anything(exposure, options, psf):
    before = exposure.image.copy(), exposure.variance.copy(), exposure.bad.copy()
    try:
        profile = measure_ee(exposure, EEOptions(**options), PSFModel(*psf))
    except NirissEEError:
        return
    finally:
        for was, array in zip(before, (exposure.image, exposure.variance, exposure.bad), strict=True):
            np.testing.assert_array_equal(was, array)
    check(profile.count_rate, profile.count_rate_err, profile.covariance, profile.status)
    assert np.isfinite(profile.count_rate).any() or profile.failure
    again = measure_ee(exposure, EEOptions(**options), PSFModel(*psf))
    np.testing.assert_array_equal(profile.count_rate, again.count_rate)
    np.testing.assert_array_equal(profile.covariance, again.covariance)


@FUZZ
@given(exposure=exposures(), options=sb_options)
def test_sb_of_anything(exposure, options):
    try:
        profile = measure_sb(exposure, SBOptions(**options))
    except NirissEEError:
        return
    check(profile.surface_brightness, profile.surface_brightness_err, profile.covariance, profile.status)


@pytest.mark.parametrize("label", ["variance", "dq", "bad"])
def test_a_stamp_of_two_shapes_is_refused(label):
    layers = {name: np.zeros((9, 9)) for name in ("image", "variance", "dq", "bad")} | {label: np.zeros((9, 8))}
    with pytest.raises(ParameterError, match=rf"{label} has shape \(9, 8\), the image has \(9, 9\)"):
        StarExposure("x", *layers.values(), 4.0, 4.0, 0, 0, 0.0656, 1.61)
