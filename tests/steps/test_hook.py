"""The hook that measures beside a standard step."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jwst.photom import PhotomStep
from jwst.pipeline import Image2Pipeline
from stdatamodels.jwst import datamodels

from niriss_eestep import products
from niriss_eestep.errors import ParameterError
from niriss_eestep.steps import EEPhotometryHook, EEPhotometryStep

HOOK = "niriss_eestep.steps.EEPhotometryHook"


@pytest.fixture
def photom(image2_steps, offline_crds, tmp_path):
    """Function that runs the standard photom step with post-hooks, in a directory of its own."""

    def run(model, hooks, **options):
        return PhotomStep.call(
            model,
            **image2_steps()["photom"],
            post_hooks=hooks,
            output_dir=str(tmp_path / "out"),
            configure_log=False,
            **options,
        )

    return run


def test_the_hook_measures_and_leaves_the_result_alone(simulate, photom, tmp_path):
    _, (path,) = simulate()
    plain = photom(str(path), [])
    hooked = photom(str(path), [HOOK])
    np.testing.assert_array_equal(hooked.data, plain.data)
    assert hooked.meta.cal_step.photom == "COMPLETE"
    assert type(hooked) is type(plain)
    with products.open(tmp_path / "out" / path.name.replace("_rate.fits", "_eeprofile.asdf")) as product:
        rate = EEPhotometryStep.call(str(path), configure_log=False)
        np.testing.assert_allclose(product.count_rate, rate.count_rate, rtol=1e-4)
        assert "ee_photometry" not in hooked.meta.cal_step.instance


def test_the_hook_in_a_pipeline_from_python(simulate, image2_steps, offline_crds, tmp_path):
    _, (path,) = simulate()
    steps = image2_steps()
    steps["photom"]["post_hooks"] = [EEPhotometryHook]
    steps["resample"] = {"post_hooks": [EEPhotometryHook]}
    (result,) = Image2Pipeline.call(
        str(path), steps=steps, save_results=True, output_dir=str(tmp_path), configure_log=False
    )
    assert result.meta.bunit_data == "MJy/sr"
    written = sorted(p.name for p in tmp_path.glob("*nis_*"))
    root = path.name.removesuffix("_rate.fits")
    suffixes = ("cal.fits", "eeprofile.asdf", "i2d.fits", "i2d_eeprofile.asdf")
    assert written == [f"{root}_{suffix}" for suffix in suffixes]
    with products.open(tmp_path / written[1]) as cal, products.open(tmp_path / written[3]) as i2d:
        assert i2d.count_rate[-1] == pytest.approx(cal.count_rate[-1], rel=2e-3)
        assert cal.meta.filename == written[1]
        assert i2d.meta.filename == written[3]


def test_the_hook_has_parameters(simulate, photom, tmp_path):
    _, (path,) = simulate()
    photom(str(path), [f"{HOOK}(radii=[2, 5], output_dir={str(tmp_path)!r})"])
    with products.open(tmp_path / path.name.replace("_rate.fits", "_eeprofile.asdf")) as product:
        assert product.radius.tolist() == [2.0, 5.0]


def test_a_parameter_of_no_use_is_an_error(simulate, photom):
    _, (path,) = simulate()
    with pytest.raises(ParameterError, match="radii"):
        photom(str(path), [f"{HOOK}(radii=[5, 2])"])


def test_an_exposure_without_star_does_not_stop_the_pipeline(simulate, photom, caplog):
    _, (path,) = simulate()
    with datamodels.open(path) as model:
        model.data = np.full_like(model.data, np.nan)
        with caplog.at_level(logging.ERROR, "niriss_eestep"):
            result = photom(model, [HOOK])
    assert result.meta.cal_step.photom == "COMPLETE"
    assert "not measured" in caplog.text


def test_the_hook_from_the_command_line(simulate, image2_steps, offline_crds, tmp_path):
    _, (path,) = simulate()
    options = [f"--{name}={value}" for name, value in image2_steps()["photom"].items()]
    out, strun = tmp_path / "out", Path(sys.executable).with_name("strun")
    done = subprocess.run(
        [strun, "photom", str(path), *options, f"--post_hooks={HOOK},", f"--output_dir={out}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    root = path.name.removesuffix("_rate.fits")
    assert sorted(p.name for p in out.iterdir()) == [f"{root}_eeprofile.asdf", f"{root}_photomstep.fits"]
    # the log lines of this package are shown, though the standard step chose the loggers
    assert f"{root}: measured" in done.stderr
    assert done.stderr.count(f"Saved {out}/{root}_eeprofile.asdf") == 1
