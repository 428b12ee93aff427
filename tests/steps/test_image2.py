"""The standard calwebb_image2 on simulated rates, and this pipeline on what it writes."""

import numpy as np
import pytest
from jwst.pipeline import Image2Pipeline
from photutils.aperture import CircularAperture
from stdatamodels.jwst import datamodels

from niriss_eestep.steps import EEPhotometryStep, FluxCalPipeline

# float32 images, scaled by PHOTMJSR and back: 24 bits
RELATIVE = 1e-4


@pytest.fixture
def calibrate(image2_steps, offline_crds, tmp_path):
    """Function that runs calwebb_image2 and returns the path of the _cal file."""

    def run(path, *, steps=None, **references):
        options = image2_steps(**references)
        for name, entries in (steps or {}).items():
            options[name] |= entries
        (tmp_path / "cal").mkdir(exist_ok=True)
        Image2Pipeline.call(
            str(path), steps=options, save_results=True, output_dir=str(tmp_path / "cal"), configure_log=False
        )
        return tmp_path / "cal" / path.name.replace("_rate", "_cal")

    return run


def row(result, name):
    return float(result.table[name][0])


def test_absflux_of_cal_files_is_that_of_the_rates(simulate, calibrate, tmp_path, monkeypatch):
    directory, paths = simulate(n_dithers=2)
    monkeypatch.setenv("PYSYN_CDBS", str(directory))
    cal = [calibrate(path) for path in paths]
    from_rate = FluxCalPipeline.call([str(p) for p in paths], configure_log=False)
    from_cal = FluxCalPipeline.call([str(p) for p in cal], configure_log=False)
    with datamodels.open(cal[0]) as model:
        assert model.meta.bunit_data == "MJy/sr"
        assert model.meta.hasattr("wcs")
    for name in ("count_rate", "count_rate_err", "ratio", "photmjsr"):
        assert row(from_cal, name) == pytest.approx(row(from_rate, name), rel=RELATIVE)
    assert from_cal.table["status"][0] == "measured"
    np.testing.assert_allclose(from_cal.exposures["x_center"], from_rate.exposures["x_center"], atol=1e-3)


def test_flat_field_is_undone_and_its_variance_counted(simulate, calibrate, tmp_path):
    _, (path,) = simulate(seed=3)
    rng = np.random.default_rng(3)
    flat = rng.normal(1.0, 0.03, (64, 64)).astype(np.float32)
    with datamodels.open(path) as model:
        for name, power in (("data", 1), ("err", 1), ("var_poisson", 2), ("var_rnoise", 2)):
            setattr(model, name, getattr(model, name) * flat**power)
        seen = tmp_path / path.name
        model.save(seen)
    cal = calibrate(seen, flat=flat, flat_err=0.01)
    plain = EEPhotometryStep.call(str(path), configure_log=False)
    result = EEPhotometryStep.call(str(cal), configure_log=False)
    np.testing.assert_allclose(result.count_rate, plain.count_rate, rtol=RELATIVE)
    with datamodels.open(cal) as model:
        var_flat = np.asarray(model.var_flat, float) / model.meta.photometry.conversion_megajanskys**2
    aperture = CircularAperture((result.meta.ee.x_center, result.meta.ee.y_center), 10.0)
    expected = aperture.do_photometry(var_flat, method="exact")[0][0]
    at_10 = list(result.radius).index(10.0)
    added = result.covariance[at_10, at_10] - plain.covariance[at_10, at_10]
    # the rest is the flat's share in the background: the annulus is dark
    assert added == pytest.approx(expected, rel=0.01)
