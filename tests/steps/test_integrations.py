"""Exposures given as integrations."""

import numpy as np
import pytest
from stdatamodels.jwst import datamodels

from niriss_eestep import products
from niriss_eestep.steps import EEPhotometryStep, FluxCalPipeline, SBProfileStep


@pytest.fixture(scope="module")
def program(simulate):
    # no integration has by chance a sky that is not flat, as one in 30 has, or a radius that scatters beyond its errors
    return simulate(kinds=("rateints", "rate"), n_dithers=2, seed=7)


def test_integrations_give_what_their_mean_gives(program):
    _, (path, _) = program
    result = EEPhotometryStep.call(str(path), configure_log=False)
    rate = EEPhotometryStep.call(str(path).replace("_rateints", "_rate"), configure_log=False)
    # centroids and weights of one integration are noisier: far less than the error
    assert np.all(np.abs(result.count_rate - rate.count_rate) < 0.05 * rate.count_rate_err)
    with datamodels.open(path) as model:
        n = len(model.data)
    assert result.integration_count_rate.shape == (n, len(result.radius))
    # the scatter of n integrations is known to 1 / sqrt(2 (n - 1)): 4 of its standard errors
    ratio = result.integration_scatter / np.sqrt(n) / rate.count_rate_err
    np.testing.assert_allclose(ratio, 1.0, atol=4 / np.sqrt(2 * (n - 1)))
    assert result.meta.filename == path.name.replace("_rateints.fits", "_eeprofile.asdf")


def test_surface_brightness_of_integrations(program):
    _, (path, _) = program
    result = SBProfileStep.call(str(path), configure_log=False)
    rate = SBProfileStep.call(str(path).replace("_rateints", "_rate"), configure_log=False)
    # clipping at -3 standard deviations, of a single integration here, would move a mean by 0.0044 of them if that were
    # not taken off; what is left out is another part of the noise, a quarter of the error at 21 pix, where that is
    # smallest since the annulus shares its pixels with the sky's: four of its standard deviations
    shift = 0.0044 * rate.meta.sb.background_std * np.sqrt(len(result.integration_surface_brightness))
    limit = np.minimum(2 * shift, 4 / 4 * rate.surface_brightness_err)
    assert np.all(np.abs(result.surface_brightness - rate.surface_brightness) < limit)
    assert result.integration_scatter.shape == rate.radius.shape


def test_surface_brightness_units(program, tmp_path):
    _, (path, _) = program
    with datamodels.open(path) as model:
        rate = EEPhotometryStep.call(model, configure_log=False)
        photmjsr = 0.25
        for name, power in (("data", 1), ("err", 1), ("var_poisson", 2), ("var_rnoise", 2)):
            setattr(model, name, getattr(model, name) * photmjsr**power)
        model.meta.bunit_data = "MJy/sr"
        model.meta.photometry.conversion_megajanskys = photmjsr
        calints = tmp_path / path.name.replace("_rateints", "_calints")
        model.save(calints)
    result = EEPhotometryStep.call(str(calints), configure_log=False)
    np.testing.assert_allclose(result.count_rate, rate.count_rate, rtol=1e-5)


def test_the_product_keeps_the_integrations(program, tmp_path):
    _, (path, _) = program
    result = EEPhotometryStep.call(str(path), output_dir=str(tmp_path), save_results=True, configure_log=False)
    with products.open(tmp_path / result.meta.filename) as read:
        np.testing.assert_array_equal(read.integration_count_rate, result.integration_count_rate)
        assert str(read.to_table()["integration_scatter"].unit) == "DN / s"


def test_the_pipeline_takes_integrations(program, monkeypatch):
    directory, paths = program
    monkeypatch.setenv("PYSYN_CDBS", str(directory))
    # the fit of the PSF weighs radii by their errors, which integrations have of their own
    for kind, share in (("psfee", 0.01), ("fitted", 0.3)):
        options = {"configure_log": False, "steps": {"abs_flux": {"aperture_correction": kind}}}
        from_ints = FluxCalPipeline.call([str(p) for p in paths], **options)
        from_rate = FluxCalPipeline.call([str(p).replace("_rateints", "_rate") for p in paths], **options)
        apart = abs(from_ints.table["ratio"][0] - from_rate.table["ratio"][0])
        assert apart < share * from_rate.table["ratio_err"][0]
        assert kind == "fitted" or apart < 1e-5


@pytest.mark.parametrize(("step", "name"), [(EEPhotometryStep, "count_rate"), (SBProfileStep, "surface_brightness")])
def test_the_flat_fields_error_is_common_to_the_integrations(program, tmp_path, step, name):
    _, (path, _) = program
    errors = []
    for kind, unit in (("rateints", 1.0), ("calints", 0.25), ("rate", 1.0)):
        with datamodels.open(str(path).replace("_rateints", "_rate" if kind == "rate" else "_rateints")) as model:
            model.var_flat = (0.05 * model.data) ** 2
            for key, power in (("data", 1), ("err", 1), ("var_poisson", 2), ("var_rnoise", 2), ("var_flat", 2)):
                setattr(model, key, getattr(model, key) * unit**power)
            model.meta.bunit_data = "DN/s" if unit == 1 else "MJy/sr"
            model.meta.photometry.conversion_megajanskys = unit
            changed = tmp_path / path.name.replace("_rateints", f"_{kind}")
            model.save(changed)
        # beyond 24 pix a part of the annulus lies off the image, and is judged by each noisy integration anew
        result = step.call(str(changed), configure_log=False)
        errors.append(result[f"{name}_err"][result.radius < 24])
    # each integration's own flat variance is that of its noisy image
    # where the integrations scatter as chance does in one case of twenty, the error of their mean is larger
    ratio = errors[0] / errors[2]
    assert ratio[0] == pytest.approx(1, rel=0.02)
    assert np.median(ratio) == pytest.approx(1, rel=0.02)
    assert np.all(ratio > 0.98)
    np.testing.assert_allclose(errors[1], errors[0], rtol=1e-4)
