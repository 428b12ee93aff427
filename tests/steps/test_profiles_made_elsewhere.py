"""Profiles that hold the documented tree and no more are averaged and calibrated like the steps' own."""

import copy

import numpy as np
import pytest

from niriss_eestep.errors import ProductError
from niriss_eestep.products import EEProfileModel, SBProfileModel
from niriss_eestep.products import open as open_product
from niriss_eestep.reference import load_psfee
from niriss_eestep.steps import AbsFluxStep, CombineProfilesStep

RADIUS = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15])
RATE, ERR, GAIN, SCALE = 2e4, 4.0, 1.61, 0.0656


def about(model, visit, kind):
    model.meta.filename = f"jw01094{visit:03d}001_02101_00001_nis_{kind}.asdf"
    model.meta.instrument.name, model.meta.instrument.filter = "NIRISS", "F444W"
    model.meta.instrument.pupil, model.meta.subarray.name = "CLEARP", "SUB64"
    model.meta.target.proposer_name, model.meta.observation.program_number = "STAR", "01094"
    return model


def ee_profile(visit, factor):
    """A star of known rate: the EE of the packaged PSF less the starlight that its annulus holds."""
    ee = load_psfee()
    sky = float(np.diff(ee.ee("F444W", [20.0, 25.0]))[0]) / (np.pi * (25.0**2 - 20.0**2))
    model = about(EEProfileModel(), visit, "eeprofile")
    area = np.pi * RADIUS**2
    model.radius, model.radius_arcsec, model.area = RADIUS, SCALE * RADIUS, area
    model.count_rate = factor * RATE * (ee.ee("F444W", RADIUS) - area * sky)
    model.count_rate_err = np.full(RADIUS.size, ERR)
    model.electron_rate, model.electron_rate_err = GAIN * model.count_rate, GAIN * model.count_rate_err
    model.n_bad = model.n_repaired = np.zeros(RADIUS.size, dtype=int)
    for name, value in {
        "x_center": 31.0, "y_center": 32.0, "gain": GAIN, "pixel_scale": SCALE, "background": 0.1,
        "background_err": 0.001, "background_std": 0.02, "background_npix": 700, "background_r_in": 20.0,
        "background_r_out": 25.0, "core_saturated": 0, "core_do_not_use": 0, "core_flagged": 0,
        "bad_pixel_method": "surface", "status": "measured",
    }.items():  # fmt: skip
        setattr(model.meta.ee, name, value)
    return model


@pytest.fixture(params=["in memory", "from files"])
def profiles(request, tmp_path):
    made = [ee_profile(1, 1.0), ee_profile(2, 1.0)]
    if request.param == "from files":
        return [open_product(model.save(tmp_path / model.meta.filename)) for model in made]
    return made


def test_ee_profiles_give_the_total_rate(profiles):
    before = [model.to_flat_dict().keys() for model in profiles]
    (combined,) = CombineProfilesStep.call(profiles)
    assert combined.n_good.tolist() == [2] * RADIUS.size
    assert combined.count_rate_err == pytest.approx(np.full(RADIUS.size, ERR / np.sqrt(2)))
    (row,) = AbsFluxStep.call(combined, aperture_correction="psfee").table
    assert row["count_rate"] == pytest.approx(RATE, rel=1e-9)
    # independent radii: six between 5 and 10 pix, each divided by its EE
    assert 0 < row["count_rate_err"] < ERR
    assert [model.to_flat_dict().keys() for model in profiles] == before


#: the documented tree of eecombined, and the annuli
DOCUMENTED = (
    "radius", "count_rate", "count_rate_err", "scatter", "n_good", "exposure_count_rate", "exposure_count_rate_err",
    "exposure_flag", "exposure_names", "exposure_ring_edges", "exposure_ring_coverage", "meta",
)  # fmt: skip


@pytest.fixture
def combined():
    (model,) = CombineProfilesStep.call([ee_profile(1, 1.0), ee_profile(2, 1.0)])
    return model


def with_only(model, names):
    return type(model)({name: copy.deepcopy(model._instance[name]) for name in names})


def test_a_mean_with_the_documented_tree_alone_gives_the_same_table(combined):
    expected = AbsFluxStep.call(combined)
    found = AbsFluxStep.call(with_only(combined, DOCUMENTED))
    for name in expected.table.dtype.names:
        if expected.table[name].dtype.kind == "f":
            # an error squared and its root: one rounding, which the fit of the PSF enlarges by the squared ratio of the
            # prior's width to the noise, some hundreds here
            np.testing.assert_allclose(found.table[name], expected.table[name], rtol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(found.table[name], expected.table[name], err_msg=name)
    np.testing.assert_allclose(
        found.exposures["total_count_rate_err"], expected.exposures["total_count_rate_err"], rtol=1e-15
    )


@pytest.mark.parametrize(
    ("name", "told"), [("exposure_ring_edges", "which annulus"), ("exposure_count_rate", "nothing to calibrate")]
)
def test_a_mean_that_lacks_what_nothing_stands_for_is_refused(combined, name, told):
    with pytest.raises(ProductError, match=rf"f444w_sub64_eecombined.asdf: has no .*{name}.*{told}"):
        AbsFluxStep.call(with_only(combined, [key for key in DOCUMENTED if key != name]))


def test_a_mean_without_gain_is_refused(combined):
    bare = with_only(combined, DOCUMENTED)
    del bare._instance["meta"]["group"]["gain"]
    with pytest.raises(ProductError, match=r"eecombined\.asdf: has no meta\.group\.gain"):
        AbsFluxStep.call(bare)


def test_the_covariance_of_the_mean_tells_how_an_exposure_s_radii_are_correlated(combined):
    correlated = with_only(combined, (*DOCUMENTED, "covariance"))
    correlated.covariance = np.full((RADIUS.size, RADIUS.size), ERR**2 / 2)
    rows = AbsFluxStep.call(correlated).exposures
    # one error for all radii: the mean over radii has it, divided by the EE of about 0.9
    assert np.all(rows["total_count_rate_err"] > ERR)


def test_a_failed_profile_stays_failed():
    bad = ee_profile(2, 1.0)
    bad.count_rate = np.full(RADIUS.size, np.nan)
    bad.meta.ee.status = "failed: no star"
    (combined,) = CombineProfilesStep.call([ee_profile(1, 1.0), bad])
    assert combined.n_good.tolist() == [1] * RADIUS.size
    assert combined._instance["exposure_status"] == ["measured", "failed: no star"]


def test_sb_profiles_are_averaged():
    made = []
    for visit, level in ((1, 1.0), (2, 3.0)):
        model = about(SBProfileModel(), visit, "sbprofile")
        radius = np.array([5.0, 9.0, 13.0])
        model.radius, model.radius_arcsec = radius, SCALE * radius
        model.surface_brightness, model.surface_brightness_err = level / radius**2, np.full(3, 1e-3)
        model.surface_brightness_mjysr = 0.25 * model.surface_brightness
        model.n_used, model.n_clipped = np.full(3, 100), np.zeros(3, dtype=int)
        made.append(model)
    (combined,) = CombineProfilesStep.call(made)
    assert combined.surface_brightness == pytest.approx(2.0 / radius**2)
