"""The accuracy that README states, with fewer realisations."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from gaussian import GaussianPSF

from niriss_eestep.flux.total_rate import total_rate
from niriss_eestep.instrument import GAIN
from niriss_eestep.measure.ee import measure_ee
from niriss_eestep.measure.stamp import Stamp
from niriss_eestep.measure.star_model import PSFModel
from niriss_eestep.reference import load_psf_images, load_psfee
from niriss_eestep.simulate.effects import Effects
from niriss_eestep.simulate.scene import Blemishes
from niriss_eestep.validate.accuracy import (
    CASES,
    Trial,
    case_errors,
    centring_effect,
    combine_exposures,
    noisy_group,
    pulls,
)

PSFS = load_psf_images()


@pytest.mark.parametrize("subarray", ["SUB64", "SUB128"])
@pytest.mark.parametrize("filter_name", list(PSFS))
def test_clean_exposures(filter_name, subarray):
    errors = case_errors(CASES[0], filter_name, subarray, PSFS[filter_name], load_psfee().ee, n=3)
    assert np.abs(errors).max() < CASES[0].limit


@pytest.mark.parametrize("case", CASES[1:], ids=lambda case: case.name)
@pytest.mark.parametrize("filter_name", ["F090W", "F277W", "F480M"])
def test_spoilt_exposures(filter_name, case):
    errors = case_errors(case, filter_name, "SUB64", PSFS[filter_name], load_psfee().ee, n=4)
    assert np.abs(errors).max() < case.limit


@pytest.mark.parametrize(("filter_name", "n_nan"), [("F090W", 0), ("F444W", 0), ("F158M", 15)])
def test_pulls(filter_name, n_nan):
    n = 150
    found = pulls(
        filter_name, PSFS[filter_name], load_psfee().ee, Trial(subarray="SUB64", blemishes=Blemishes(nan=n_nan)), n=n
    )
    every = np.column_stack([found.group, found.total])
    # 13 figures that share their noise, in three cases: four sampling errors leave a chance below 1e-3
    assert np.abs(every.mean(axis=0)).max() < 4 / np.sqrt(n)
    assert np.abs(every.std(axis=0) - 1).max() < 4 / np.sqrt(2 * n)


@pytest.mark.parametrize("effects", [{"one_over_f": 12.0}, {"flat_error": 0.01}, {"ipc": True}])
def test_pulls_know_what_the_detector_does(effects):
    n = 25
    trial = Trial(subarray="SUB64", effects=Effects(**effects))
    found = pulls("F200W", PSFS["F200W"], load_psfee().ee, trial, n=n).total
    assert abs(found.std() - 1) < 4 / np.sqrt(2 * n)
    plain = pulls("F200W", PSFS["F200W"], load_psfee().ee, Trial(subarray="SUB64"), n=1).total
    assert found[0] != pytest.approx(plain[0])


def test_what_no_error_holds_moves_the_pulls():
    # each exposure alone: what the effect brings is far beyond the noise of a bright star
    star, places = {"electron_rate": 2e5, "subarray": "SUB64"}, {}
    for name, value in (
        ("migration", 1e3),
        ("persistence", 0.05),
        ("snowballs", 1),
        ("curvature", 1e-2),
        ("structure", 90.0),
        ("aspect", 1.1),
        ("area_gradient", 1.0),
        ("response", np.random.default_rng(1).normal(1, 0.05, (64, 64))),
    ):
        extra = {"snowball_height": 2e3} if name == "snowballs" else {}
        trial = Trial(**star, effects=Effects(**{name: value}, **extra))
        places[name] = pulls("F200W", PSFS["F200W"], load_psfee().ee, trial, n=1).group[0]
    plain = pulls("F200W", PSFS["F200W"], load_psfee().ee, Trial(**star), n=1).group[0]
    moved = {name: np.nanmax(np.abs(found - plain)) for name, found in places.items()}
    # pixel areas that grow from left to right are the same on average in aperture and annulus, a snowball stands out
    # and is taken out: what moves is the noise, of two pulls
    for name in ("area_gradient", "snowballs"):
        assert 0 < moved.pop(name) < 3 * np.sqrt(2), name
    # the measurement sees a sky that is not flat, and takes its error for larger
    assert min(moved.pop("curvature"), moved.pop("structure")) > 1
    assert min(moved.values()) > 3, moved


def test_another_psf_with_its_exact_ee():
    # a wider star, with closed-form EE; a pixel and an aperture's edge blur it by 1/6 pix^2 together
    psf = GaussianPSF(1.6)
    seen = GaussianPSF(np.sqrt(1.6**2 + 1 / 6))
    for case in (CASES[0], CASES[1]):
        errors = case_errors(case, "F356W", "SUB64", psf, lambda _, r: seen.ee(r), n=4)
        assert np.abs(errors).max() < case.limit


def test_centring_effect_of_a_gaussian():
    radius = np.array([4.0, 6.0])
    seen2 = 3.0**2 + 1 / 6
    # the disc's mean of d^2/4 times the Laplacian: dEE = -d^2 r^2 / (4 s^4) exp(-r^2 / 2 s^2)
    ee = -np.expm1(-(radius**2) / (2 * seen2))
    expected = 0.5**2 * radius**2 / (4 * seen2**2) * np.exp(-(radius**2) / (2 * seen2)) / ee
    found = centring_effect(GaussianPSF(3.0), radius, offset=0.5)
    # next order d^2/s^2 = 3 %, and what the pixel grid adds
    np.testing.assert_allclose(found, expected, rtol=0.08)


def test_totals_at_small_radii_use_the_ee_of_the_star_s_own_pixel_phase():
    # a bright star within 1 pix of F090W: the EE averaged over phases is off by 1 % rms, the noise is 0.09 %
    name, rate = "F090W", 1e5
    star, rng, found = Trial(electron_rate=rate, subarray="SUB64"), np.random.default_rng(3), {True: [], False: []}
    for _ in range(12):
        profiles, _ = noisy_group(name, PSFS[name], star, rng)
        for own in found:
            seen = profiles if own else [replace(profile, phase=None) for profile in profiles]
            combined, _ = combine_exposures(seen, partial(load_psfee().ee, name))
            total = total_rate(
                combined,
                partial(load_psfee().ee, name),
                np.zeros_like,
                area=np.array([p.area for p in seen]),
                rings=[(p.background.ring_edges, p.background.ring_coverage) for p in seen],
                radii=(1.0, 1.0),
            )
            found[own].append([total.count_rate * GAIN / rate - 1, total.err_photon * GAIN / rate])
    errors, stated = np.array(found[True]).T
    assert np.sqrt(np.mean(errors**2)) < 0.0015
    # twelve pulls: their standard deviation is known to 0.2
    assert 0.5 < np.sqrt(np.mean((errors / stated) ** 2)) < 1.6
    assert np.sqrt(np.mean(np.array(found[False])[:, 0] ** 2)) > 4 * np.sqrt(np.mean(errors**2))


def test_the_sky_s_part_of_the_error_is_that_of_the_annulus_s_mean():
    # pixels of equal variance: the sky's error is that of the mean of the annulus, times the apertures' areas
    psf, ee, variance = PSFS["F200W"], partial(load_psfee().ee, "F200W"), 4.0
    light = 1e5 * psf.render(35.2, 34.9, (71, 71)) + 3.0
    layers = light, np.full((71, 71), variance), np.zeros((71, 71), np.uint32), np.zeros((71, 71), dtype=bool)
    profile = measure_ee(Stamp("star", *layers, 35.0, 35.0, 0, 0, 0.0656, GAIN), psf=PSFModel(psf.render))
    _, total = combine_exposures([profile], ee)
    radius = np.arange(5.0, 11.0)
    effective = ee(radius) - radius**2 / (25**2 - 20**2) * (ee(np.array(25.0)) - ee(np.array(20.0)))
    area = np.pi * (25**2 - 20**2)
    # of pixels that an edge cuts it takes a part, whose square is on average 1/6 less than the part itself
    square = area - 2 * np.pi * (20 + 25) / 6
    expected = np.mean(np.pi * radius**2 / effective) * np.sqrt(variance * square) / area
    assert total.err_sky == pytest.approx(expected, rel=0.01)
    assert total.err_flat == 0.0
    # the rest is that of the pixels of the apertures, which hold each other
    own = np.pi * np.minimum.outer(radius, radius) ** 2 - np.diag(2 * np.pi * radius / 6)
    assert total.err_photon == pytest.approx(
        np.sqrt(variance * np.mean(own / np.outer(effective, effective))), rel=0.01
    )
