"""Hooks, skip, save_results, output_dir and suffix of the pipeline's steps do what they do alone."""

import gc
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from niriss_eestep import products
from niriss_eestep.errors import ExposureError, OutputError, ParameterError
from niriss_eestep.pipeline.executor import Measurement
from niriss_eestep.report.page import write_report
from niriss_eestep.simulate.scene import Blemishes
from niriss_eestep.steps import EEPhotometryStep, FluxCalPipeline, SBProfileStep

HOOKS = """
from pathlib import Path

def note(given):
    with open(Path(__file__).with_name("noted"), "a") as file:
        models = given if isinstance(given, (list, tuple)) else [given]
        file.write("".join(f"{type(model).__name__} {model.meta.filename}\\n" for model in models))

def double_image(model):
    model = model.copy()
    model.data = model.data * 2
    return model

def double_profile(model):
    model.count_rate = model.count_rate * 2
    return model

def double_mean(models):
    for model in models:
        if type(model).__name__ == "CombinedEEModel":
            model.count_rate = model.count_rate * 2
            model.exposure_count_rate = model.exposure_count_rate * 2
    return models

def strange(model):
    return "no profile"

def other_kind(model):
    from stdatamodels.jwst.datamodels import ImageModel
    return ImageModel((5, 5))

def in_a_tuple(given):
    return tuple(given) if isinstance(given, list) else (given,)

def first(models):
    return models[0]

def nothing(given):
    return []

class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")

def odd(model):
    raise Odd(1, 2)
"""

WORKERS = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture(scope="module")
def paths(simulate):
    return [str(path) for path in simulate((("F090W", "SUB64"), ("F480M", "SUB64")))[1]]


@pytest.fixture
def hooks(tmp_path, monkeypatch):
    (tmp_path / "eehooks.py").write_text(HOOKS)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("eehooks", None)
    yield tmp_path / "noted"
    sys.modules.pop("eehooks", None)


def run(paths, out, workers, **settings):
    return FluxCalPipeline.call(paths, output_dir=str(out), save_results=True, workers=workers, steps=settings)


def names(directory):
    return sorted(path.name for path in directory.glob("*.asdf"))


@pytest.fixture(scope="module")
def plain(paths, tmp_path_factory):
    out = tmp_path_factory.mktemp("plain")
    run(paths, out, 1)
    return out


@WORKERS
@pytest.mark.parametrize(
    ("step", "hook", "seen"),
    [
        ("ee_photometry", "pre_hooks", ["ImageModel"] * 2),
        ("ee_photometry", "post_hooks", ["EEProfileModel"] * 2),
        ("sb_profile", "pre_hooks", ["ImageModel"] * 2),
        ("sb_profile", "post_hooks", ["SBProfileModel"] * 2),
        ("combine_profiles", "pre_hooks", ["EEProfileModel"] * 2 + ["SBProfileModel"] * 2),
        ("combine_profiles", "post_hooks", ["CombinedEEModel"] * 2 + ["CombinedSBModel"] * 2),
        ("abs_flux", "pre_hooks", ["CombinedEEModel"] * 2),
        ("abs_flux", "post_hooks", ["AbsFluxModel"]),
    ],
)
def test_hooks_are_called(paths, plain, hooks, tmp_path, workers, step, hook, seen):
    run(paths, tmp_path / "out", workers, **{step: {hook: ["eehooks.note"]}})
    assert sorted(line.split()[0] for line in hooks.read_text().splitlines()) == seen
    assert names(tmp_path / "out") == names(plain)


@WORKERS
@pytest.mark.parametrize(
    ("step", "hook", "function"),
    [
        ("ee_photometry", "pre_hooks", "double_image"),
        ("ee_photometry", "post_hooks", "double_profile"),
        ("combine_profiles", "post_hooks", "double_mean"),
    ],
)
def test_what_a_hook_gives_goes_on(paths, plain, hooks, tmp_path, workers, step, hook, function):
    result = run(paths, tmp_path / "out", workers, **{step: {hook: [f"eehooks.{function}"]}})
    before = products.open(next(plain.glob("*_absflux.asdf")))
    np.testing.assert_allclose(result.table["count_rate"], 2 * before.table["count_rate"], rtol=3e-3)
    # the other step has the image as it is in the file
    for path in plain.glob("*_sbprofile.asdf"):
        other = products.open(tmp_path / "out" / path.name)
        np.testing.assert_array_equal(other.surface_brightness, products.open(path).surface_brightness)


@WORKERS
def test_a_later_step_measures_what_its_own_hook_gives(paths, plain, hooks, tmp_path, workers):
    run(paths, tmp_path / "out", workers, sb_profile={"pre_hooks": ["eehooks.double_image"]})
    for path in plain.glob("*_sbprofile.asdf"):
        before, after = products.open(path), products.open(tmp_path / "out" / path.name)
        np.testing.assert_allclose(after.surface_brightness[0], 2 * before.surface_brightness[0], rtol=0.01)
    for path in plain.glob("*_eeprofile.asdf"):
        before, after = products.open(path), products.open(tmp_path / "out" / path.name)
        np.testing.assert_array_equal(after.count_rate, before.count_rate)


def test_a_hook_that_gives_no_profile_is_told(paths, hooks, tmp_path):
    with pytest.raises(ExposureError, match="post-hook gave a str"):
        run(paths[:1], tmp_path / "out", 1, ee_photometry={"post_hooks": ["eehooks.strange"]})


@pytest.mark.parametrize("step", ["ee_photometry", "combine_profiles", "abs_flux"])
def test_a_hook_that_gives_an_empty_list(paths, hooks, tmp_path, step):
    with pytest.raises((ExposureError, ParameterError), match="post-hook gave an empty list"):
        run(paths[:1], tmp_path / "out", 1, **{step: {"post_hooks": ["eehooks.nothing"]}})


@pytest.mark.parametrize("step", ["ee_photometry", "combine_profiles"])
def test_what_is_no_product_is_not_saved_as_one(paths, hooks, tmp_path, step):
    with pytest.raises((ExposureError, ParameterError), match="post-hook gave a ImageModel"):
        run(paths[:1], tmp_path / "out", 1, **{step: {"post_hooks": ["eehooks.other_kind"]}})
    assert not [name for name in names(tmp_path / "out") if "step_" in name]


@WORKERS
@pytest.mark.parametrize("step", ["ee_photometry", "sb_profile", "combine_profiles", "abs_flux"])
@pytest.mark.parametrize("hook", ["pre_hooks", "post_hooks"])
def test_commands_see_models_as_files_of_their_names(paths, plain, tmp_path, monkeypatch, workers, step, hook):
    monkeypatch.chdir(tmp_path)
    run(paths, tmp_path / "out", workers, **{step: {hook: ["ls {0} >> seen"]}})
    # neither the exposures nor the products take the name of the file that the command sees
    assert names(tmp_path / "out") == names(plain)
    seen = sorted(Path(line).name for line in (tmp_path / "seen").read_text().split())
    of_files = [Path(path).name for path in paths]
    wanted = {
        "ee_photometry": (of_files, "_eeprofile"), "sb_profile": (of_files, "_sbprofile"),
        "combine_profiles": ("profile", "combined"), "abs_flux": ("eecombined", "absflux"),
    }[step][hook == "post_hooks"]  # fmt: skip
    assert seen == (wanted if wanted is of_files else [name for name in names(plain) if wanted in name])
    # nothing is left where the program was started
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "seen"]


def test_a_command_of_a_step_alone(paths, tmp_path):
    post_hooks = [f"cp {{0}} {tmp_path}"]
    result = EEPhotometryStep.call(paths[0], output_dir=str(tmp_path / "out"), save_results=True, post_hooks=post_hooks)
    assert names(tmp_path / "out") == names(tmp_path) == [result.meta.filename]
    assert result.meta.filename == Path(paths[0]).name.replace("_rate.fits", "_eeprofile.asdf")


@pytest.mark.parametrize(
    ("step", "function", "missing"),
    [
        ("ee_photometry", "in_a_tuple", "nothing"),
        ("combine_profiles", "in_a_tuple", "nothing"),
        ("combine_profiles", "first", "_sbcombined"),
        ("abs_flux", "in_a_tuple", "nothing"),
    ],
)
def test_hooks_may_give_one_model_or_a_tuple(paths, plain, hooks, tmp_path, step, function, missing):
    result = run(paths, tmp_path / "out", 1, **{step: {"post_hooks": [f"eehooks.{function}"]}})
    assert names(tmp_path / "out") == [name for name in names(plain) if missing not in name]
    before = products.open(next(plain.glob("*_absflux.asdf")))
    assert result.table["count_rate"].tobytes() == before.table["count_rate"].tobytes()


@WORKERS
def test_an_exception_of_a_hook_is_told_whatever_its_kind(paths, hooks, tmp_path, workers):
    # what cannot be unpickled was taken for a worker that died
    with pytest.raises(Exception, match="1 and 2"):
        run(paths, tmp_path / "out", workers, ee_photometry={"post_hooks": ["eehooks.odd"]})


@pytest.mark.parametrize("step", ["ee_photometry", "sb_profile", "combine_profiles", "abs_flux"])
def test_results_that_cannot_be_written_are_told_before_anything_is_measured(paths, tmp_path, step):
    (tmp_path / "file").touch()
    directory = str(tmp_path / "file" / "out")
    with pytest.raises(OutputError, match=rf"cannot be made: .*; give another --steps\.{step}\.output_dir"):
        run(paths, tmp_path / "out", 1, **{step: {"output_dir": directory}})
    with pytest.raises(ParameterError, match=rf"--steps\.{step}\.output_ext=\.fits: no product is of this kind"):
        run(paths, tmp_path / "out", 1, **{step: {"output_ext": ".fits"}})
    with pytest.raises(ParameterError, match="--output_ext=fits: no product is of this kind"):
        FluxCalPipeline.call(paths, output_dir=str(tmp_path / "out"), save_results=True, output_ext="fits")
    assert not names(tmp_path / "out")


def test_an_output_file_that_is_not_used_is_told(paths, plain, tmp_path, caplog):
    run(paths, tmp_path / "out", 1, sb_profile={"output_file": "mine.asdf"})
    assert names(tmp_path / "out") == names(plain)
    assert "mine.asdf is not used: its products are named after the exposures" in caplog.text


def test_suffix_of_the_pipeline(paths, plain, tmp_path):
    FluxCalPipeline.call(paths, output_dir=str(tmp_path), save_results=True, suffix="mine")
    assert names(tmp_path) == sorted(name.replace("_absflux.", "_mine.") for name in names(plain))


@WORKERS
@pytest.mark.parametrize(
    ("step", "suffixes"),
    [
        ("ee_photometry", ("eeprofile",)),
        ("sb_profile", ("sbprofile",)),
        ("combine_profiles", ("eecombined", "sbcombined")),
    ],
)
def test_results_that_are_not_saved_or_go_elsewhere(paths, plain, tmp_path, workers, step, suffixes):
    theirs = [name for name in names(plain) if name.endswith(tuple(f"_{suffix}.asdf" for suffix in suffixes))]
    others = [name for name in names(plain) if name not in theirs]
    run(paths, tmp_path / "out", workers, **{step: {"save_results": False}})
    assert names(tmp_path / "out") == others
    run(paths, tmp_path / "out2", workers, **{step: {"output_dir": str(tmp_path / "elsewhere")}})
    assert names(tmp_path / "out2") == others
    assert names(tmp_path / "elsewhere") == theirs


@WORKERS
@pytest.mark.parametrize(
    ("step", "suffix"),
    [("ee_photometry", "eeprofile"), ("sb_profile", "sbprofile"), ("combine_profiles", "eecombined")],
)
def test_suffix(paths, plain, tmp_path, workers, step, suffix):
    result = run(paths, tmp_path / "out", workers, **{step: {"suffix": "mine"}})
    assert names(tmp_path / "out") == sorted(name.replace(f"_{suffix}.", "_mine.") for name in names(plain))
    # the exposures keep their names
    before = products.open(next(plain.glob("*_absflux.asdf")))
    assert result.exposures["exposure"].tolist() == before.exposures["exposure"].tolist()


@pytest.mark.parametrize("step", ["ee_photometry", "combine_profiles", "abs_flux"])
def test_the_report_has_the_products_whatever_their_suffixes(paths, tmp_path, step):
    for suffix in ({}, {step: {"suffix": "mine"}}):
        FluxCalPipeline.call(paths[:1], output_dir=str(tmp_path), save_results=True, save_report=True, steps=suffix)
        page = next(tmp_path.glob("*_report.html")).read_text()
        found = page.count('alt="Encircled energy'), page.count('alt="Surface brightness'), page.count('alt="Stamps of')
        assert found == (1, 1, 1)
    if step == "combine_profiles":
        written = write_report(next(tmp_path.glob("*_absflux.asdf")))
        assert written.read_text().count('alt="Surface brightness') == 1


def test_suffix_and_directory_of_the_last_step(paths, plain, tmp_path):
    settings = {"suffix": "mine", "output_dir": str(tmp_path / "elsewhere")}
    run(paths, tmp_path / "out", 1, abs_flux=settings)
    assert names(tmp_path / "out") == names(plain)  # the pipeline saves its own result
    assert [name.rpartition("_")[2] for name in names(tmp_path / "elsewhere")] == ["mine.asdf"]


def test_a_step_that_saves_where_the_pipeline_does_not(paths, tmp_path):
    settings = {"save_results": True, "output_dir": str(tmp_path)}
    FluxCalPipeline.call(paths[:1], steps={"ee_photometry": settings})
    assert [name.rpartition("_")[2] for name in names(tmp_path)] == ["eeprofile.asdf"]


@WORKERS
def test_skip(paths, plain, tmp_path, workers):
    run(paths, tmp_path / "out", workers, sb_profile={"skip": True})
    assert names(tmp_path / "out") == [name for name in names(plain) if "_sb" not in name]


@WORKERS
@pytest.mark.parametrize(
    ("step", "left"),
    [
        ("ee_photometry", {"sbprofile", "sbcombined"}),
        ("combine_profiles", {"eeprofile", "sbprofile"}),
        ("abs_flux", {"eeprofile", "sbprofile", "eecombined", "sbcombined"}),
    ],
)
def test_without_a_step_the_calibration_needs_the_others_give_their_products(
    paths, plain, tmp_path, step, left, workers
):
    results = run(paths, tmp_path / "out", workers, **{step: {"skip": True}})
    kinds = [name.rpartition("_")[2].removesuffix(".asdf") for name in names(plain)]
    assert names(tmp_path / "out") == [name for name, kind in zip(names(plain), kinds, strict=True) if kind in left]
    last = {kind for kind in left if "combined" in kind} or left
    assert {model.meta.filename.rpartition("_")[2] for model in results} == {f"{kind}.asdf" for kind in last}
    for what in ("save_report", "require_expected"):
        with pytest.raises(ParameterError, match=rf"steps\.{step}\.skip: {what} needs this step"):
            FluxCalPipeline.call(paths[:1], steps={step: {"skip": True}}, **{what: True})


@WORKERS
def test_profiles_that_are_returned_are_whole_and_independent(paths, workers):
    results = FluxCalPipeline.call(paths, steps={"combine_profiles": {"skip": True}}, workers=workers)
    alone = EEPhotometryStep.call(paths[0])
    first, *others = results
    np.testing.assert_array_equal(first.stamp, alone.stamp)
    before = [model.meta.target.catalog_name for model in others]
    first.meta.target.catalog_name = "another"
    assert [model.meta.target.catalog_name for model in others] == before


def test_profiles_of_a_group_that_failed_are_returned_with_the_others(paths, tmp_path):
    empty = tmp_path / Path(paths[1]).name
    with fits.open(paths[1]) as hdus:
        hdus["SCI"].data[:] = np.nan
        hdus.writeto(empty)
    given = {"save_results": True, "output_dir": str(tmp_path)}
    results = FluxCalPipeline.call([paths[0], str(empty)], steps={"combine_profiles": {"skip": True}}, **given)
    assert sorted(model.meta.filename for model in results) == names(tmp_path)
    assert len(results) == 4


def test_an_absflux_product_that_is_not_made_anew_stops_nothing(paths, tmp_path, caplog):
    settings = {"output_dir": str(tmp_path), "save_results": True, "output_file": "star"}
    FluxCalPipeline.call(paths[:1], **settings)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*_absflux.asdf")}
    FluxCalPipeline.call(paths[1:], steps={"abs_flux": {"skip": True}}, **settings)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*_absflux.asdf")} == before
    assert len(before) == 1
    assert len(list(tmp_path.glob("*_eecombined.asdf"))) == 2
    assert "replaced" not in caplog.text


def test_a_pipeline_with_commands_runs_on_other_processes_twice(paths):
    hooks = {name: {"post_hooks": ["ls {0}"]} for name in ("ee_photometry", "combine_profiles", "abs_flux")}
    pipeline = FluxCalPipeline.from_config_section(FluxCalPipeline.build_config(paths[0], steps=hooks)[0])
    pipeline.run(paths[0])
    pipeline.make_executor = lambda measurement: None  # as a client of a cluster, it cannot be pickled
    assert pickle.loads(pickle.dumps(Measurement(pipeline))).pipeline.make_executor is None


def test_both_measurements_skipped(paths):
    with pytest.raises(ParameterError, match="nothing is measured"):
        FluxCalPipeline.call(paths[:1], steps={name: {"skip": True} for name in ("ee_photometry", "sb_profile")})


@pytest.mark.parametrize(
    ("ee", "sb"),
    [
        ({"gain": 2.0}, {}),
        ({}, {"gain": 2.0, "centroid_method": "2dg"}),
        ({"destripe": "rows", "bad_pixel_method": "psf"}, {"bad_dq": ["DO_NOT_USE"], "clip_low": False}),
        ({"background_method": "constant"}, {"background_inner": 15.0, "radii": [4.0, 30.0], "search_radius": 2.0}),
    ],
)
def test_the_steps_of_a_pipeline_measure_what_they_measure_alone(simulate, tmp_path, ee, sb):
    (path,) = simulate(blemishes=Blemishes(nan=15, jump=5, hits=3, r_min=1.0), seed=7)[1]
    run([str(path)], tmp_path / "out", 1, ee_photometry=ee, sb_profile=sb)
    for step, settings, suffix in ((EEPhotometryStep, ee, "eeprofile"), (SBProfileStep, sb, "sbprofile")):
        alone = step.call(str(path), **settings)
        inside = products.open(tmp_path / "out" / path.name.replace("_rate.fits", f"_{suffix}.asdf"))
        assert inside[alone.y_name].tobytes() == alone[alone.y_name].tobytes()
        assert inside.covariance.tobytes() == alone.covariance.tobytes()
        assert inside.meta.eestep.fingerprint == alone.meta.eestep.fingerprint


@WORKERS
def test_what_a_hook_has_done_is_kept_and_not_done_again(paths, hooks, tmp_path, workers):
    settings = {"ee_photometry": {"post_hooks": ["eehooks.double_profile"]}}
    first = run(paths, tmp_path / "out", workers, **settings)
    pipeline = {"output_dir": str(tmp_path / "out"), "save_results": True, "workers": workers, "skip_existing": True}
    again = FluxCalPipeline.call(paths, **pipeline, steps=settings)
    assert again.table["count_rate"].tobytes() == first.table["count_rate"].tobytes()
    without = FluxCalPipeline.call(paths, **pipeline)
    np.testing.assert_allclose(without.table["count_rate"], first.table["count_rate"] / 2, rtol=3e-3)


def test_on_the_command_line(paths, hooks, tmp_path):
    options = ["--workers=2", "--steps.ee_photometry.post_hooks=eehooks.note,", "--steps.combine_profiles.suffix=mean"]
    options += ["--steps.sb_profile.save_results=false", f"--output_dir={tmp_path / 'out'}"]
    command = [str(Path(sys.executable).parent / "strun"), "niriss_fluxcal", paths[0], *options]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert hooks.read_text().startswith("EEProfileModel")
    found = sorted(name.rpartition("_")[2] for name in names(tmp_path / "out"))
    assert found == ["absflux.asdf", "eeprofile.asdf", "mean.asdf", "sbcombined.asdf"]


@pytest.mark.parametrize("frozen", [False, True])
def test_a_run_leaves_the_garbage_collector_as_it_was(paths, tmp_path, frozen):
    assert gc.get_freeze_count() == 0
    if frozen:
        gc.freeze()
    try:
        run(paths[:1], tmp_path, 1)
        assert (gc.get_freeze_count() > 0) == frozen
    finally:
        gc.unfreeze()


def test_a_step_of_a_pipeline_that_failed_knows_nothing_of_the_exposure_before(paths, tmp_path):
    empty = tmp_path / "jw09999001001_02101_00001_nis_rate.fits"
    with fits.open(paths[0]) as file:
        file["SCI"].data = np.random.default_rng(1).normal(1.0, 0.05, file["SCI"].data.shape).astype("f4")
        file.writeto(empty)
    pipeline = FluxCalPipeline()
    pipeline.on_error = "raise"
    with pytest.raises(ExposureError, match="no star"):
        pipeline.run([str(empty)])
    profile, alone = pipeline.ee_photometry.run(paths[-1]), EEPhotometryStep.call(paths[-1])
    np.testing.assert_array_equal(profile.count_rate, alone.count_rate)
