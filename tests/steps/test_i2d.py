"""Images resampled by the standard pipeline."""

import numpy as np
import pytest
from jwst.pipeline import Image2Pipeline
from jwst.resample import ResampleStep
from stdatamodels.jwst import datamodels

from niriss_eestep.steps import EEPhotometryStep, FluxCalPipeline, SBProfileStep


@pytest.fixture
def cal(simulate, image2_steps, offline_crds):
    _, (path,) = simulate((("F480M", "SUB64"),), seed=5)
    return Image2Pipeline.call(str(path), steps=image2_steps(), configure_log=False)[0]


@pytest.fixture
def resample(cal, tmp_path):
    """Function that resamples the _cal image and returns the file."""

    def run(ratio):
        path = tmp_path / "jw01094001001_02101_00001_nis_i2d.fits"
        ResampleStep.call(cal, pixel_scale_ratio=ratio, configure_log=False).save(path)
        return path

    return run


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.5])
def test_radii_and_rates_are_in_detector_pixels(cal, resample, ratio):
    native = EEPhotometryStep.call(cal, configure_log=False)
    path = resample(ratio)
    result = EEPhotometryStep.call(str(path), configure_log=False)
    assert result.meta.filename == "jw01094001001_02101_00001_nis_eeprofile.asdf"
    assert result.radius.tolist() == native.radius.tolist()
    np.testing.assert_allclose(result.area, native.area, rtol=1e-6)
    # the drizzle's kernel moves light across an aperture's edge: a tenth of it at 2 pix, 0.1 % at 8, and as much noise
    outer = result.radius >= 8
    np.testing.assert_allclose(result.count_rate[outer], native.count_rate[outer], rtol=4e-3)
    assert result.meta.ee.pixel_scale == pytest.approx(native.meta.ee.pixel_scale, rel=1e-3)
    assert result.meta.ee.background == pytest.approx(native.meta.ee.background, abs=3 * native.meta.ee.background_err)
    assert result.meta.photometry.pixelarea_steradians == pytest.approx(1.012e-13, rel=2e-3)
    # the drizzled variances lose up to a tenth of the error to the pixels' common noise
    np.testing.assert_allclose(result.count_rate_err[outer], native.count_rate_err[outer], rtol=0.15)
    assert "resampled" in result.meta.ee.status


def test_a_resampled_image_that_does_not_say_so_is_told_by_its_wcs(resample):
    path = resample(0.5)
    marked = EEPhotometryStep.call(str(path), configure_log=False)
    with datamodels.open(path) as model:
        model.meta.cal_step.resample = model.meta.resample.pixel_scale_ratio = None
        model.save(path)
    found = EEPhotometryStep.call(str(path), configure_log=False)
    assert "taken as resampled, though S_RESAMP does not say so" in found.meta.ee.status
    np.testing.assert_allclose(found.count_rate, marked.count_rate, rtol=1e-6)
    np.testing.assert_allclose(found.count_rate_err, marked.count_rate_err, rtol=1e-6)


def test_surface_brightness_is_per_detector_pixel(cal, resample):
    native = SBProfileStep.call(cal, configure_log=False)
    result = SBProfileStep.call(str(resample(0.5)), configure_log=False)
    # within the errors of the rings: they do not hold the same pixels
    difference = result.surface_brightness - native.surface_brightness
    assert np.all(np.abs(difference) < 3 * native.surface_brightness_err + 0.03 * native.surface_brightness[0])
    np.testing.assert_array_equal(result.radius, native.radius)


def test_pixels_without_weight_are_bad(resample):
    path = resample(1.0)
    with datamodels.open(path) as model:
        model.data[:, 40:] = 0.0
        model.wht[:, 40:] = 0.0
        model.meta.filename = path.name
        result = EEPhotometryStep.call(model, configure_log=False)
        assert result.n_bad[list(result.radius).index(10.0)] > 0


def test_calibration_factor_of_a_resampled_image(simulate, image2_steps, offline_crds, tmp_path, monkeypatch):
    directory, (path,) = simulate((("F480M", "SUB64"),), seed=6)
    monkeypatch.setenv("PYSYN_CDBS", str(directory))
    (cal,) = Image2Pipeline.call(str(path), steps=image2_steps(), configure_log=False)
    fine = ResampleStep.call(cal, pixel_scale_ratio=0.5, configure_log=False)
    fine.meta.filename = path.name.replace("_rate", "_i2d")
    expected = FluxCalPipeline.call(cal, configure_log=False)
    found = FluxCalPipeline.call(fine, configure_log=False)
    for name in ("count_rate", "photmjsr"):
        # the WCS's pixels are 0.12 % larger than the nominal area, which a _cal image carries
        assert float(found.table[name][0]) == pytest.approx(float(expected.table[name][0]), rel=3e-3)
