"""The standard calwebb_detector1 on a simulated ramp, and this pipeline on what it writes.

Steps whose references only calibration data can give (superbias, linearity, dark, persistence) are skipped: the ramp is
linear and has neither bias nor dark current.
"""

import numpy as np
import pytest
from astropy.io import fits
from jwst.pipeline import Detector1Pipeline
from stdatamodels.jwst import datamodels
from stdatamodels.jwst.datamodels import dqflags

from niriss_eestep.instrument import GAIN
from niriss_eestep.reference import load_psf_images, load_psfee
from niriss_eestep.simulate.detector import READ_NOISE, SUBARRAYS, ExposureName, ExposureSetup, Readout, Target
from niriss_eestep.simulate.exposure import rate_model
from niriss_eestep.simulate.scene import Scene, Star, simulate_image
from niriss_eestep.steps import EEPhotometryStep

SUB64 = SUBARRAYS["SUB64"]
READOUT = Readout(0.05016, 12, 4)
NAME = ExposureName(1094, 1)
FILTER = "F480M"
X, Y, RATE, SKY = 31.3, 30.8, 2e5, 2.0  # [pix, pix, e-/s, DN/s/pix]
DEAD, HIT = (36, 36), (22, 28)  # (y, x): a dead pixel, and one that a cosmic ray hits in the second integration
FULL_WELL = 60000.0  # [DN], above all but the hit

SKIPPED = (
    "superbias", "refpix", "linearity", "dark_current", "persistence", "ipc", "charge_migration", "group_scale",
    "clean_flicker_noise", "picture_frame", "gain_scale",
    # MIRI's, which have references too
    "emicorr", "firstframe", "lastframe", "reset", "rscd",
)  # fmt: skip


def make_ramp(rng):
    """Counts of every group [DN]: photons as they arrive, then read noise and rounding."""
    star = RATE * load_psf_images()[FILTER].render(X, Y, SUB64.shape) + SKY * GAIN
    shape = (READOUT.nints, READOUT.ngroups, *SUB64.shape)
    electrons = np.cumsum(rng.poisson(star * READOUT.group_time, shape), axis=1)
    electrons[1, 5:, *HIT] += 20000
    counts = 1000 + (electrons + rng.normal(0, READ_NOISE, shape)) / GAIN
    return np.clip(np.round(counts), 0, 65535).astype(np.uint16)


@pytest.fixture(scope="module")
def setup():
    return ExposureSetup(NAME, Target("WD1057+719", 165.142679, 71.634147), FILTER, SUB64, READOUT, X, Y)


@pytest.fixture(scope="module")
def uncal(tmp_path_factory, setup):
    scene = Scene(shape=SUB64.shape, star=Star(X, Y, RATE), readout=READOUT, background=SKY)
    header = rate_model(simulate_image(scene, load_psf_images()[FILTER], np.random.default_rng(1)), setup)
    ramp = datamodels.Level1bModel(data=make_ramp(np.random.default_rng(11)))
    ramp.update(header)
    ramp.meta.bunit_data = "DN"
    for step in ("dq_init", "saturation", "superbias", "refpix", "linearity", "dark_sub", "jump", "ramp_fit"):
        setattr(ramp.meta.cal_step, step, None)
    path = tmp_path_factory.mktemp("uncal") / f"{NAME.root}_uncal.fits"
    ramp.save(path)
    return path


def references(directory):
    """Mask, saturation, read noise and gain of the subarray."""
    mask = datamodels.MaskModel(dq=np.zeros(SUB64.shape, np.uint32))
    mask.dq[DEAD] = dqflags.pixel["DO_NOT_USE"] | dqflags.pixel["DEAD"]
    models = {
        "mask": mask,
        "saturation": datamodels.SaturationModel(
            data=np.full(SUB64.shape, FULL_WELL, np.float32), dq=np.zeros(SUB64.shape, np.uint32)
        ),
        # of two reads, as this reference is: sqrt(2) times that of one [DN]
        "readnoise": datamodels.ReadnoiseModel(data=np.full(SUB64.shape, 2**0.5 * READ_NOISE / GAIN, np.float32)),
        "gain": datamodels.GainModel(data=np.full(SUB64.shape, GAIN, np.float32)),
    }
    for name, model in models.items():
        model.meta.description, model.meta.author, model.meta.pedigree = name, "tests", "DUMMY"
        model.meta.useafter, model.meta.instrument.name, model.meta.reftype = "2022-01-01T00:00:00", "NIRISS", name
        model.meta.instrument.detector = "NIS"
        region = model.meta.subarray
        region.name, region.fastaxis, region.slowaxis = SUB64.name, -2, -1
        region.xstart = region.ystart = SUB64.start
        region.xsize = region.ysize = SUB64.size
        model.save(directory / f"{name}.fits")
    return {name: str(directory / f"{name}.fits") for name in models}


@pytest.fixture
def rates(uncal, offline_crds, tmp_path):
    """Paths of the _rate and _rateints files that calwebb_detector1 writes."""
    paths = references(tmp_path)
    both = {"override_gain": paths["gain"], "override_readnoise": paths["readnoise"]}
    steps = {name: {"skip": True} for name in SKIPPED}
    steps |= {
        "dq_init": {"override_mask": paths["mask"]},
        "saturation": {"override_saturation": paths["saturation"], "override_superbias": "N/A"},
        "jump": both | {"maximum_cores": "none"},
        "ramp_fit": both | {"maximum_cores": "none"},
    }
    Detector1Pipeline.call(str(uncal), steps=steps, save_results=True, output_dir=str(tmp_path), configure_log=False)
    return [tmp_path / f"{NAME.root}_{kind}.fits" for kind in ("rate", "rateints")]


def test_the_stars_rate_from_the_ramps(rates):
    rate, rateints = rates
    with fits.open(rate) as hdus:
        # what the real pipeline writes: the forms that the simulator imitates
        assert hdus["DQ"].data.dtype.kind == "u"
        assert np.isnan(hdus["SCI"].data[DEAD])
        assert "ASDF" in hdus
        assert {"VAR_POISSON", "VAR_RNOISE"} <= {hdu.name for hdu in hdus}
        assert hdus["DQ"].data[HIT] & dqflags.pixel["JUMP_DET"]
    result = EEPhotometryStep.call(str(rate), configure_log=False)
    assert result.meta.ee.status == "measured"
    assert result.n_bad[list(result.radius).index(8.0)] == result.n_repaired[list(result.radius).index(8.0)] == 1
    assert result.meta.ee.x_center == pytest.approx(X, abs=0.05)
    assert result.meta.ee.y_center == pytest.approx(Y, abs=0.05)
    psfee = load_psfee()
    sky = (psfee.ee(FILTER, 25.0) - psfee.ee(FILTER, 20.0)) / (np.pi * (25**2 - 20**2))
    truth = RATE / GAIN * (psfee.ee(FILTER, result.radius) - result.area * sky)
    outer = result.radius >= 5
    # 4 standard errors, and 0.1 % of the repaired pixel and of the image's sampling
    tolerance = 4 * result.count_rate_err[outer] + 1e-3 * truth[outer]
    assert np.all(np.abs(result.count_rate - truth)[outer] < tolerance)
    by_integration = EEPhotometryStep.call(str(rateints), configure_log=False)
    assert by_integration.integration_count_rate.shape == (READOUT.nints, len(result.radius))
    assert np.all(np.abs(by_integration.count_rate - result.count_rate)[outer] < result.count_rate_err[outer])
