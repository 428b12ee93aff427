"""The standard calwebb_image2 on simulated rates, and this pipeline on what it writes."""

import numpy as np
import pytest
from astropy.io import fits
from jwst.pipeline import Image2Pipeline
from photutils.aperture import CircularAnnulus, CircularAperture
from stdatamodels.jwst import datamodels

from niriss_eestep.errors import ReferenceDataError
from niriss_eestep.steps import EEPhotometryStep, FluxCalPipeline, SBProfileStep

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


@pytest.fixture
def seen_through(simulate, tmp_path):
    """Function that writes a simulated rate as pixels of another response show it."""
    _, (path,) = simulate(seed=3)

    def write(response):
        seen = tmp_path / path.name
        with datamodels.open(path) as model:
            for name, power in (("data", 1), ("err", 1), ("var_poisson", 2), ("var_rnoise", 2)):
                setattr(model, name, getattr(model, name) * response**power)
            model.save(seen)
        return seen

    return write


def flat_of(steps):
    """The references of the standard pipeline's steps that a rate takes too."""
    return {"override_flat": steps["flat_field"]["override_flat"], "override_area": steps["photom"]["override_area"]}


@pytest.mark.parametrize("full_frame", [False, True])
def test_a_rate_is_divided_by_the_flat_as_the_standard_pipeline_does(seen_through, calibrate, image2_steps, full_frame):
    rng = np.random.default_rng(3)
    flat = rng.normal(1.0, 0.025, (64, 64)).astype(np.float32)
    flat[20, 20] = np.nan
    seen = seen_through(np.nan_to_num(flat, nan=1.0))
    cal = calibrate(seen, flat=flat, flat_err=0.01)
    references = flat_of(image2_steps(flat=flat, flat_err=0.01))
    if full_frame:
        with datamodels.open(references["override_flat"]) as own:
            start = own.meta.subarray.ystart - 1
            whole = {name: np.ones((2048, 2048), np.float32) for name in ("data", "err")}
            for name, image in whole.items():
                image[start : start + 64, start : start + 64] = getattr(own, name)
            model = datamodels.FlatModel(**whole, dq=np.zeros((2048, 2048), np.uint32))
            model.update(own)
            model.meta.subarray.xstart = model.meta.subarray.ystart = 1
            model.meta.subarray.xsize = model.meta.subarray.ysize = 2048
            references["override_flat"] = str(seen.parent / "whole_flat.fits")
            model.save(references["override_flat"])
    expected = EEPhotometryStep.call(str(cal), configure_log=False)
    result = EEPhotometryStep.call(str(seen), configure_log=False, **references)
    np.testing.assert_allclose(result.count_rate, expected.count_rate, rtol=2e-6)
    np.testing.assert_allclose(result.covariance, expected.covariance, rtol=2e-5)
    assert result.meta.ref_file.flat.name.endswith("flat.fits" if full_frame else ".fits")
    # ... and without it the response stays in, and is told
    without = EEPhotometryStep.call(str(seen), configure_log=False)
    assert without.meta.ref_file.flat.name == "none: not flat-fielded"
    assert np.abs(without.count_rate[9] / expected.count_rate[9] - 1) > 1e-3


def test_a_detector_s_rate_without_a_flat_has_the_scatter_of_its_response(seen_through, tmp_path):
    """Whose header names the references of its detector; 400 stars on such pixels scatter by as much as stated."""
    rng = np.random.default_rng(5)
    seen = seen_through(np.ones((64, 64), np.float32))
    with datamodels.open(seen) as model:
        model.meta.ref_file.linearity.name = "crds://jwst_niriss_linearity_0017.fits"
        model.save(seen)
    result = EEPhotometryStep.call(str(seen), configure_log=False)
    assert result.meta.ref_file.flat.name == "none: not flat-fielded"
    at = list(result.radius).index(7.0)
    with datamodels.open(seen) as model:
        image = np.nan_to_num(np.asarray(model.data, float)) - result.meta.ee.background
    aperture = CircularAperture((result.meta.ee.x_center, result.meta.ee.y_center), 7.0)
    weights = aperture.to_mask(method="exact").to_image(image.shape)
    found = [np.sum(weights * image * rng.normal(1, 0.025, image.shape)) for _ in range(400)]
    plain = EEPhotometryStep.call(str(seen), configure_log=False, flat_err=1e-9)
    added = result.covariance[at, at] - plain.covariance[at, at]
    # a standard deviation of 400 is known to 1/sqrt(800)
    assert np.sqrt(added) == pytest.approx(np.std(found), rel=4 / np.sqrt(800))
    assert 0.006 < np.sqrt(added) / result.count_rate[at] < 0.012

    # so has its surface brightness
    sb, plain = (SBProfileStep.call(str(seen), configure_log=False, flat_err=err) for err in (0.0, 1e-9))
    at, place = list(sb.radius).index(9.0), (sb.meta.sb.x_center, sb.meta.sb.y_center)
    rings = [
        CircularAnnulus(place, *radii).to_mask(method="exact").to_image(image.shape) for radii in ((7, 11), (20, 25))
    ]
    weights, image = rings[0] / rings[0].sum() - rings[1] / rings[1].sum(), image + result.meta.ee.background
    found = [np.sum(weights * image * rng.normal(1, 0.025, image.shape)) for _ in range(400)]
    added = sb.covariance[at, at] - plain.covariance[at, at]
    assert np.sqrt(added) == pytest.approx(np.std(found), rel=4 / np.sqrt(800))


def test_rate_and_cal_agree_where_flat_and_area_are_one(simulate, calibrate, image2_steps):
    _, (path,) = simulate(seed=4)
    cal = EEPhotometryStep.call(str(calibrate(path)), configure_log=False)
    for references in ({}, flat_of(image2_steps())):
        rate = EEPhotometryStep.call(str(path), configure_log=False, **references)
        np.testing.assert_allclose(rate.count_rate, cal.count_rate, rtol=1e-6)


def test_rate_and_cal_differ_by_the_flat_over_the_area(simulate, calibrate, image2_steps, tmp_path):
    """A flat that makes the sky even holds the areas: a cal has counts / flat * area, a rate without flat counts."""
    _, (path,) = simulate(seed=4)
    area = tmp_path / "area.fits"
    references = flat_of(image2_steps(flat=np.full((64, 64), 0.98, np.float32)))
    with datamodels.open(references["override_area"]) as model:
        model.data = model.data * np.float32(0.9955)
        model.save(area)
    steps = {"photom": {"override_area": str(area)}}
    cal = calibrate(path, steps=steps, flat=np.full((64, 64), 0.98, np.float32))
    cal = EEPhotometryStep.call(str(cal), configure_log=False)
    rate = EEPhotometryStep.call(str(path), configure_log=False)
    divided = EEPhotometryStep.call(
        str(path), configure_log=False, override_flat=references["override_flat"], override_area=str(area)
    )
    np.testing.assert_allclose(cal.count_rate / rate.count_rate, 0.9955 / 0.98, rtol=1e-6)
    np.testing.assert_allclose(divided.count_rate / rate.count_rate, 0.9955 / 0.98, rtol=1e-6)


def test_a_flat_s_error_is_relative_to_the_flat(simulate, image2_steps):
    """A pixel of response 0.8 +- 0.01 has an error of 1.25 % of its count rate from it."""
    _, (path,) = simulate(seed=4)
    references = flat_of(image2_steps(flat=np.full((64, 64), 0.8, np.float32), flat_err=0.01))
    found = EEPhotometryStep.call(str(path), configure_log=False, **references)
    light, err = (found._instance[name].astype(float) for name in ("stamp", "stamp_flat_err"))
    known = np.isfinite(light) & (err > 0)
    assert known.mean() > 0.9
    np.testing.assert_allclose(err[known], 0.0125 * np.abs(light[known]), rtol=1e-5)


def test_a_flat_of_another_subarray_is_refused(simulate, image2_steps):
    _, (path,) = simulate(seed=4)
    references = flat_of(image2_steps("SUB128"))
    with datamodels.open(references["override_flat"]) as model:
        model.meta.subarray.xstart = model.meta.subarray.ystart = 1
        model.save(path.parent / "elsewhere_flat.fits")
    with pytest.raises(ReferenceDataError, match=r"does not hold the \d+x\d+ pixels from x=\d+, y=\d+ of the detector"):
        EEPhotometryStep.call(str(path), configure_log=False, override_flat=str(path.parent / "elsewhere_flat.fits"))


@pytest.mark.parametrize(
    ("keyword", "value"), [("PUPIL", "F150W"), ("FILTER", "F277W"), ("DETECTOR", "NRCA1"), ("INSTRUME", "NIRCAM")]
)
def test_a_flat_of_another_set_up_is_refused(simulate, image2_steps, keyword, value):
    """A flat that names none, or several with the exposure's, is taken."""
    _, (path,) = simulate(seed=4)
    target = str(path.parent / "other_flat.fits")
    with datamodels.open(flat_of(image2_steps())["override_flat"]) as model:
        model.save(target)
    with fits.open(target, mode="update") as hdus:
        hdus[0].header[keyword] = value
    with pytest.raises(
        ReferenceDataError, match=rf"other_flat\.fits: a flat field of {keyword}={value}, where the exposure"
    ):
        EEPhotometryStep.call(str(path), configure_log=False, override_flat=target)
    with fits.open(target, mode="update") as hdus:
        hdus[0].header[keyword] = "ANY"
        hdus[0].header["P_PUPIL"] = f"F150W|{fits.getval(path, 'PUPIL')}|"
    EEPhotometryStep.call(str(path), configure_log=False, override_flat=target)


@pytest.mark.parametrize("kind", ["flat", "area", "gain"])
def test_a_reference_of_another_kind_is_refused(simulate, image2_steps, kind):
    _, (path,) = simulate(seed=4)
    target, others = str(path.parent / "other.fits"), {"flat": "GAIN", "area": "FLAT", "gain": "FLAT"}
    references = flat_of(image2_steps())
    with datamodels.open(references["override_flat"]) as model:
        model.save(target)
    with fits.open(target, mode="update") as hdus:
        hdus[0].header["REFTYPE"] = others[kind]
    with pytest.raises(ReferenceDataError, match=rf"other\.fits: not a .*{kind}.*: its REFTYPE is {others[kind]}"):
        EEPhotometryStep.call(str(path), configure_log=False, **(references | {f"override_{kind}": target}))


def test_in_the_pipeline_an_override_of_ee_serves_sb_too(seen_through, image2_steps):
    rng = np.random.default_rng(3)
    flat = rng.normal(1.0, 0.025, (64, 64)).astype(np.float32)
    seen = seen_through(flat)
    flat_path = flat_of(image2_steps(flat=flat))["override_flat"]
    FluxCalPipeline.call(
        str(seen),
        configure_log=False,
        output_dir=str(seen.parent),
        steps={
            "ee_photometry": {"override_flat": flat_path, "save_results": True},
            "sb_profile": {"save_results": True},
        },
    )
    from niriss_eestep.products.models import open as open_product

    names = [
        open_product(next(seen.parent.glob(f"*_{suffix}.asdf"))).meta.ref_file.flat.name
        for suffix in ("eeprofile", "sbprofile")
    ]
    assert names == [flat_path, flat_path]
