"""One standard-star program, end to end: as strun, as single steps, in Python; with good and with bad exposures."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from stdatamodels.jwst import datamodels

from niriss_eestep import AbsFluxStep, CombineProfilesStep, EEPhotometryStep, FluxCalPipeline, SBProfileStep, products
from niriss_eestep.errors import AssociationError, ExposureError, ParameterError, ReferenceDataError
from niriss_eestep.exposures.associations import find_exposures, write_associations
from niriss_eestep.measure import star_model
from niriss_eestep.measure.star_model import locate_star
from niriss_eestep.reference.stdspec import load_spectrum, write_spectrum
from niriss_eestep.simulate.program import Program, combinations, simulate_program, standard_star
from niriss_eestep.simulate.scene import Blemishes

GROUPS = combinations(["F090W", "F480M"], ["SUB64", "SUB128"])


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Two filters, two subarrays, two dithers, 15 NaN pixels each: 8 exposures and their association."""
    directory = tmp_path_factory.mktemp("program")
    simulate_program(directory, Program(groups=GROUPS, blemishes=Blemishes(nan=15), seed=5))
    exposures, _ = find_exposures(directory)
    write_associations(exposures, directory / "star_asn.json", single=True)
    return directory


@pytest.fixture(autouse=True)
def spectra(request, monkeypatch):
    if "program" in request.fixturenames:
        monkeypatch.setenv("PYSYN_CDBS", str(request.getfixturevalue("program")))


@pytest.fixture(scope="module")
def pipeline(program, tmp_path_factory):
    """The products of one run of strun."""
    out = tmp_path_factory.mktemp("products")
    environment = {"PATH": str(Path(sys.executable).parent), "PYSYN_CDBS": str(program), "HOME": str(out)}
    command = [Path(sys.executable).parent / "strun", "niriss_fluxcal", "star_asn.json", f"--output_dir={out}"]
    run = subprocess.run(command, cwd=program, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return out, run


def test_files_of_the_contract(program, pipeline):
    out, run = pipeline
    product = json.loads((program / "star_asn.json").read_text())["products"][0]["name"]
    exposures = [path.name.removesuffix("_rate.fits") for path in program.glob("*_rate.fits")]
    expected = {f"{name}_{suffix}.asdf" for name in exposures for suffix in ("eeprofile", "sbprofile")}
    expected |= {
        f"{product}_{name.lower()}_{sub.lower()}_{suffix}.asdf"
        for name, sub in GROUPS
        for suffix in ("eecombined", "sbcombined")
    }
    expected.add(f"{product}_absflux.asdf")
    assert {path.name for path in out.glob("*.asdf")} == expected
    # the last lines say what became of the exposures, and nothing was logged as an error
    assert "8 measured, 0 measured with warnings, 0 failed" in run.stdout + run.stderr
    assert "ERROR" not in run.stdout + run.stderr


def test_rates_agree_with_the_injected_ones(program, pipeline):
    out, _ = pipeline
    (path,) = out.glob("*_absflux.asdf")
    table = products.open(path).table
    truth = Table.read(program / "truth.ecsv")
    assert len(table) == len(GROUPS)
    for row in table:
        injected = truth["electron_rate"][(truth["filter"] == row["filter"]) & (truth["subarray"] == row["subarray"])][
            0
        ]
        # noise, and the 0.3 % that 15 repaired pixels may cost (README: accuracy)
        assert abs(row["electron_rate"] / injected - 1) < 4 * row["count_rate_err"] / row["count_rate"] + 0.003
        assert row["status"] == "measured"
        assert row["n_exposures"] == row["n_measured"] == 2
        assert row["expected_electron_rate"] == pytest.approx(injected, rel=1e-9)
        # jwst gives PHOTMJSR for the nominal pixel area: 1.01148e-13 sr
        assert row["photmjsr"] == pytest.approx(row["fnu_band"] / 1e6 / (row["count_rate"] * 1.01148e-13), rel=1e-12)


def same_tables(first, second):
    assert first.dtype.names == second.dtype.names
    for name in first.dtype.names:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_single_steps_one_after_the_other_give_the_same_table(program, pipeline, tmp_path):
    out, _ = pipeline
    asn = str(program / "star_asn.json")
    for step in (EEPhotometryStep, SBProfileStep):
        step.call(asn, output_dir=str(tmp_path), save_results=True)
    CombineProfilesStep.call(
        [str(p) for p in sorted(tmp_path.glob("*profile.asdf"))], output_dir=str(tmp_path), save_results=True
    )
    AbsFluxStep.call(
        [str(p) for p in sorted(tmp_path.glob("*_eecombined.asdf"))], output_dir=str(tmp_path), save_results=True
    )
    assert len(list(tmp_path.glob("*.asdf"))) == len(list(out.glob("*.asdf")))
    (first,), (second,) = (list(folder.glob("*_absflux.asdf")) for folder in (out, tmp_path))
    same_tables(products.open(first).table, products.open(second).table)
    # in the pipeline SB goes on from where EE has found the star
    for path in out.glob("*_sbprofile.asdf"):
        first, second = products.open(path), products.open(tmp_path / path.name)
        np.testing.assert_array_equal(first.surface_brightness, second.surface_brightness)
        np.testing.assert_array_equal(first.covariance, second.covariance)


@pytest.mark.parametrize(("box", "times"), [(7, 1), (9, 2)])
def test_a_star_is_looked_for_once_where_both_steps_look_alike(program, monkeypatch, box, times):
    found = []
    monkeypatch.setattr(star_model, "locate_star", lambda *how: found.append(how) or locate_star(*how))
    path = min(program.glob("*_rate.fits"))
    pipeline = FluxCalPipeline(steps={"sb_profile": {"centroid_box": box}})
    for _ in range(2):
        found.clear()
        pipeline.run(str(path))
        assert len(found) == times
        assert not pipeline.known
        # of another exposure nothing is taken over
        path = max(program.glob("*_rate.fits"))


def test_output_file_names_a_single_product(pipeline, tmp_path, caplog):
    out, _ = pipeline
    combined = [str(path) for path in sorted(out.glob("*_eecombined.asdf"))]
    AbsFluxStep.call(combined, output_dir=str(tmp_path), output_file="mine.asdf", save_results=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine_absflux.asdf"]
    profiles = [str(path) for path in sorted(out.glob("*eeprofile.asdf"))]
    CombineProfilesStep.call(profiles, output_dir=str(tmp_path), output_file="mine", save_results=True)
    assert len(list(tmp_path.glob("mine_f???w_sub???_eecombined.asdf"))) >= 1
    names = [{"name": name, "members": [{"expname": p, "exptype": "science"} for p in combined]} for name in "ab"]
    AbsFluxStep.call({"products": names}, output_dir=str(tmp_path), output_file="mine", save_results=True)
    assert "output_file=mine is not used: there are 2 products" in caplog.text
    assert {path.name for path in tmp_path.glob("*_absflux.asdf")} == {f"{n}_absflux.asdf" for n in ("a", "b", "mine")}


def test_python_gives_the_same_and_changes_no_model(program, pipeline):
    out, _ = pipeline
    paths = sorted(program.glob("*_rate.fits"))
    models = [datamodels.open(path) for path in paths]
    before = [model.data.copy() for model in models]
    result = FluxCalPipeline.call(models)
    (path,) = out.glob("*_absflux.asdf")
    same_tables(result.table, products.open(path).table)
    for model, data in zip(models, before, strict=True):
        np.testing.assert_array_equal(model.data, data)
        model.close()


def test_products_record_what_made_them(program, pipeline):
    out, _ = pipeline
    profile = products.open(next(iter(sorted(out.glob("*_eeprofile.asdf")))))
    record = profile.meta.eestep
    assert record.version
    assert record.jwst_version
    assert record.parameters.radii[-1] == 15
    assert record.input[0].filename.endswith("_rate.fits")
    assert profile.meta.target.proposer_name == "WD1057+719"
    assert profile.meta.observation.program_number == "01094"
    assert profile.meta.instrument.pupil == "F090W"
    assert "1.61" in profile.meta.ref_file.gain.name
    assert profile.cal_logs.niriss_fluxcal
    absflux = products.open(next(iter(out.glob("*_absflux.asdf"))))
    assert "psfee" in absflux.meta.ref_file.psfee.name
    assert absflux.meta.ref_file.stdspec.name.startswith("wd1057_719_mod_001")
    assert absflux.meta.ref_file.throughput.name


def test_a_product_records_no_other_product_s_references(pipeline, tmp_path):
    out, _ = pipeline
    known = next(iter(sorted(out.glob("*_eecombined.asdf"))))
    stranger = products.open(known)
    stranger.meta.group.target = stranger.meta.target.proposer_name = "NO STANDARD"
    unknown = tmp_path / "stranger_f090w_sub64_eecombined.asdf"
    stranger.save(str(unknown))
    association = {
        "products": [
            {"name": name, "members": [{"expname": str(path), "exptype": "science"}]}
            for name, path in (("a", known), ("b", unknown))
        ]
    }
    first, second = AbsFluxStep.call(association)
    assert first.meta.ref_file.stdspec.name.startswith("wd1057_719_mod_001")
    assert second.table["status"][0].startswith("measured with warnings: no expected rate")
    assert second.meta.ref_file.stdspec.name is None


def test_a_product_records_the_spectra_of_all_its_stars(program, pipeline, tmp_path, monkeypatch):
    out, _ = pipeline
    known = next(iter(sorted(out.glob("*_eecombined.asdf"))))
    other = products.open(known)
    other.meta.group.target = other.meta.target.proposer_name = "P330E"
    other.save(str(tmp_path / "other_eecombined.asdf"))
    simulate_program(tmp_path / "p330e", Program(groups=GROUPS[:1], n_dithers=1, star=standard_star("P330E")))
    shutil.copytree(program / "calspec", tmp_path / "calspec")
    shutil.copytree(tmp_path / "p330e" / "calspec", tmp_path / "calspec", dirs_exist_ok=True)
    monkeypatch.setenv("PYSYN_CDBS", str(tmp_path))
    result = AbsFluxStep.call([str(known), str(tmp_path / "other_eecombined.asdf")])
    names = result.meta.ref_file.stdspec.name.split(", ")
    assert sorted(name.split("_mod")[0] for name in names) == ["p330e", "wd1057_719"]


def test_a_spectrum_that_ends_within_the_band_costs_the_ratio_only(program, pipeline, tmp_path, monkeypatch):
    out, _ = pipeline
    red = next(out.glob("*_f480m_sub64_eecombined.asdf"))
    (spectrum,) = (program / "calspec").iterdir()
    (tmp_path / "calspec").mkdir()
    with fits.open(spectrum) as hdus:
        hdus[1].data = hdus[1].data[hdus[1].data["WAVELENGTH"] < 4.7e4]
        hdus.writeto(tmp_path / "calspec" / spectrum.name)
    monkeypatch.setenv("PYSYN_CDBS", str(tmp_path))
    (row,) = AbsFluxStep.call(str(red)).table
    assert row["count_rate"] > 0
    assert np.isnan(row["ratio"])
    assert "no expected rate: spectrum of " in row["status"]


def test_the_file_that_covers_the_band_is_taken_and_named_and_spikes_are_told(program, tmp_path, monkeypatch):
    calspec = tmp_path / "calspec"
    shutil.copytree(program / "calspec", calspec)
    monkeypatch.setenv("PYSYN_CDBS", str(tmp_path))
    whole = next(calspec.iterdir())
    paths = [str(sorted(program.glob("*_rate.fits"))[k]) for k in (0, -1)]
    truth = FluxCalPipeline.call(paths).table["expected_electron_rate"]
    spectrum = load_spectrum(whole)
    part = spectrum.wavelength < 2.5e4
    short = replace(spectrum, **{k: getattr(spectrum, k)[part] for k in ("wavelength", "flux", "staterr", "syserr")})
    write_spectrum(short, calspec / whole.name.replace("_mod_", "_stiswfcnic_"))
    table = FluxCalPipeline.call(paths).table
    np.testing.assert_allclose(table["expected_electron_rate"], truth, rtol=1e-6)
    by_filter = dict(zip(table["filter"], table["status"], strict=True))
    assert whole.name not in by_filter["F090W"]
    assert f"spectrum {whole.name} taken: spectrum of WD1057+719 covers" in by_filter["F480M"]
    flux = spectrum.flux.copy()
    flux[np.argmin(np.abs(spectrum.wavelength - 0.9e4))] *= 10
    write_spectrum(replace(spectrum, flux=flux), calspec / whole.name.replace("_mod_", "_stiswfcnic_"))
    table = FluxCalPipeline.call(paths).table
    by_filter = dict(zip(table["filter"], table["status"], strict=True))
    assert "1 values stand out, the first at 0.9" in by_filter["F090W"]
    assert "spikes" not in by_filter["F480M"]


def test_a_member_whose_name_no_file_can_have_does_not_stop_the_others(program):
    (path,) = sorted(program.glob("*_rate.fits"))[:1]
    names = [str(path), "x" * 300 + "_rate.fits"]
    members = [{"expname": name, "exptype": "science"} for name in names]
    result = FluxCalPipeline.call({"products": [{"name": "star", "members": members}]})
    assert sorted(status.split(":")[0] for status in result.exposures["status"]) == ["failed", "measured"]


def test_a_list_leaves_no_trace_in_a_step_that_is_used_again(program, tmp_path):
    paths = [str(path) for path in sorted(program.glob("*_rate.fits"))[:2]]
    step = EEPhotometryStep(save_results=True, output_dir=str(tmp_path))
    step.run(paths)
    step.output_file = "mine"
    step.run(paths[0])
    assert (tmp_path / "mine_eeprofile.asdf").is_file()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"abs_flux": {"gain_err": -1.0}}, "gain_err=-1.0: a standard error must be 0 or more"),
        ({"abs_flux": {"throughput_err": float("nan")}}, "throughput_err=nan"),
        ({"abs_flux": {"radius_min": 12.0, "radius_max": 8.0}}, "radius_min=12, radius_max=8"),
        ({"ee_photometry": {"radii": [5.0, 3.0]}}, "radii"),
        ({"ee_photometry": {"bad_dq": ["DO_NOT_US"]}}, "'DO_NOT_US' is not a JWST data-quality flag"),
    ],
)
def test_wrong_settings_are_told_before_anything_is_measured(program, tmp_path, settings, message):
    with pytest.raises(ParameterError, match=message):
        FluxCalPipeline.call(
            str(program / "star_asn.json"), steps=settings, output_dir=str(tmp_path), save_results=True
        )
    assert list(tmp_path.iterdir()) == []


def test_positions_for_nobody_are_told(program, caplog):
    path = str(sorted(program.glob("*_rate.fits"))[0])
    EEPhotometryStep.call(path, source_name=["jw_typo_rate.fits"], source_x=[5.0], source_y=[5.0])
    assert "source_name: no exposure is called jw_typo: the position is not used" in caplog.text
    with pytest.raises(ParameterError, match="source_name gives an exposure twice"):
        EEPhotometryStep.call(path, source_name=["a", "a"], source_x=[5.0, 6.0], source_y=[5.0, 6.0])


def test_groups_without_an_expected_rate_are_counted(program, monkeypatch, caplog):
    monkeypatch.delenv("PYSYN_CDBS")
    path = str(sorted(program.glob("*_rate.fits"))[0])
    FluxCalPipeline.call(path)
    assert "0 failed, 1 of 1 groups without expected rate" in caplog.text


def test_require_expected_fails_where_no_group_has_an_expected_rate(program, monkeypatch, tmp_path):
    path = str(sorted(program.glob("*_rate.fits"))[0])
    settings = {"output_dir": str(tmp_path), "save_results": True, "require_expected": True}
    FluxCalPipeline.call(path, **settings)
    monkeypatch.delenv("PYSYN_CDBS")
    with pytest.raises(ReferenceDataError, match=r"no group has an expected rate.*PYSYN_CDBS"):
        FluxCalPipeline.call(path, **settings)


@pytest.mark.parametrize("lost", ["missing", "truncated", "no header"])
def test_a_member_that_cannot_be_read_counts_in_its_group(program, tmp_path, lost):
    for path in program.glob("*.fits"):
        shutil.copy(path, tmp_path)
    victim = sorted(tmp_path.glob("*_rate.fits"))[0]
    with fits.open(victim) as hdus:
        group = hdus[0].header["SUBARRAY"]
    whole = victim.read_bytes()
    victim.unlink() if lost == "missing" else victim.write_bytes(whole[: 40000 if lost == "truncated" else 1000])
    shutil.copy(program / "star_asn.json", tmp_path)
    result = FluxCalPipeline.call(str(tmp_path / "star_asn.json"))
    rows = {(row["filter"], row["subarray"]): row for row in result.table}
    assert set(rows) == set(GROUPS)
    lacking = [row for row in result.table if "1 of 2 exposures failed" in row["status"]]
    assert len(lacking) == 1
    assert lacking[0]["subarray"] == group
    assert all(row["n_exposures"] == 2 for row in result.table)


def test_jobs_of_other_exposures_do_not_replace_each_other(program, tmp_path, caplog):
    first, second, *_ = sorted(str(path) for path in program.glob("*_rate.fits"))
    settings = {"output_dir": str(tmp_path), "save_results": True}
    name = FluxCalPipeline.call(first, **settings).meta.filename
    before = (tmp_path / name).read_bytes()
    with pytest.raises(ParameterError, match=r"_00001_nis.*_00002_nis: not replaced"):
        FluxCalPipeline.call(second, **settings)
    assert (tmp_path / name).read_bytes() == before
    assert not list(tmp_path.glob("*_00002_nis_eecombined.asdf"))
    # the same again, and more, replace it; fewer too, with a word
    FluxCalPipeline.call(first, **settings)
    FluxCalPipeline.call([first, second], **settings)
    assert "replaced, without" not in caplog.text
    FluxCalPipeline.call(first, **settings)
    assert "replaced, without" in caplog.text


def test_rate_and_cal_give_the_same_rates(tmp_path):
    program = Program(groups=(("F356W", "SUB64"),), n_dithers=1, seed=2)
    simulate_program(tmp_path, program, kinds=("rate", "cal"))
    rate, cal = (EEPhotometryStep.call(str(next(tmp_path.glob(f"*_{kind}.fits")))) for kind in ("rate", "cal"))
    # _cal files hold float32: 6e-8 per pixel
    np.testing.assert_allclose(rate.count_rate, cal.count_rate, rtol=1e-6)
    np.testing.assert_allclose(rate.count_rate_err, cal.count_rate_err, rtol=1e-5)


def test_explicit_positions_win_and_are_matched_by_name(program):
    paths = sorted(program.glob("*_rate.fits"))[:2]
    truth = Table.read(program / "truth.ecsv")
    names = [path.name.removesuffix("_rate.fits") for path in paths]
    rows = [truth[list(truth["exposure"]).index(name)] for name in names]
    given = EEPhotometryStep.call(
        [str(p) for p in paths],
        source_name=names[::-1],
        source_x=[row["x"] + 0.4 for row in rows[::-1]],
        source_y=[row["y"] for row in rows[::-1]],
    )
    for model, row in zip(given, rows, strict=True):
        assert model.meta.ee.shift == pytest.approx(0.4, abs=0.1)
        assert model.meta.ee.x_center == pytest.approx(row["x"], abs=0.1)
    with pytest.raises(ExposureError, match="outside the 64x64 image"):
        EEPhotometryStep.call(str(paths[0]), source_x=200, source_y=10)
    with pytest.raises(ParameterError, match="as many names as positions"):
        EEPhotometryStep.call(str(paths[0]), source_x=[30, 31], source_y=[30, 31])


def test_without_wcs_the_brightest_source_is_the_star(program):
    path = sorted(program.glob("*_rate.fits"))[0]
    expected = EEPhotometryStep.call(str(path))
    with datamodels.open(path) as model:
        model.meta.target.ra = None
        found = EEPhotometryStep.call(model)
    assert "brightest compact source" in found.meta.ee.status
    np.testing.assert_allclose(found.count_rate, expected.count_rate, rtol=1e-9)


def test_several_targets_and_products(tmp_path, monkeypatch):
    for name, number in (("WD1057+719", 1094), ("P330E", 1536)):
        star = standard_star(name)
        program = Program(groups=(("F200W", "SUB64"), ("F444W", "SUB64")), n_dithers=1, star=star, number=number)
        simulate_program(tmp_path / name, program)
        shutil.copytree(tmp_path / name, tmp_path / "data", dirs_exist_ok=True)
    monkeypatch.setenv("PYSYN_CDBS", str(tmp_path / "data"))
    files = sorted(path.name for path in (tmp_path / "data").glob("*_rate.fits"))
    members = [{"expname": f"data/{name}", "exptype": "SCIENCE"} for name in files]
    asn = {"products": [{"name": "both", "members": members}, {"name": "first", "members": members[:2]}]}
    (tmp_path / "asn.json").write_text(json.dumps(asn))
    results = FluxCalPipeline.call(str(tmp_path / "asn.json"), output_dir=str(tmp_path / "out"), save_results=True)
    assert [len(result.table) for result in results] == [4, 2]
    assert sorted(set(results[0].table["target"])) == ["P330E", "WD1057+719"]
    names = {path.name for path in (tmp_path / "out").glob("*combined.asdf")}
    assert "both_p330e_f200w_sub64_eecombined.asdf" in names
    assert "first_f444w_sub64_sbcombined.asdf" in names
    assert {"both_absflux.asdf", "first_absflux.asdf"} <= {path.name for path in (tmp_path / "out").iterdir()}


def broken(path, tmp_path, name, change):
    """Copy an exposure under another name, with a changed header."""
    target = tmp_path / name
    shutil.copy(path, target)
    with datamodels.open(target) as model:
        change(model)
        model.save(str(target))
    return name


def test_bad_exposures_are_recorded_and_the_rest_measured(program, tmp_path):
    good = sorted(program.glob("*_rate.fits"))
    for path in good:
        shutil.copy(path, tmp_path)

    def grism(model):
        model.meta.instrument.filter = "GR150C"

    def mask(model):
        model.meta.instrument.pupil = "NRM"

    def elsewhere(model):
        model.meta.instrument.name = "NIRCAM"

    def away(model):
        model.meta.target.ra += 0.05

    bad = [
        broken(good[0], tmp_path, f"jw01094009001_02101_0000{k}_nis_rate.fits", change)
        for k, change in enumerate((grism, mask, elsewhere, away), start=1)
    ]
    (tmp_path / "jw01094009001_02101_00005_nis_rate.fits").write_text("no image")
    bad += ["jw01094009001_02101_00005_nis_rate.fits", "jw01094009001_02101_00006_nis_rate.fits"]
    members = [{"expname": name, "exptype": "science"} for name in [path.name for path in good] + bad]
    (tmp_path / "asn.json").write_text(json.dumps({"products": [{"name": "mixed", "members": members}]}))
    result = FluxCalPipeline.call(str(tmp_path / "asn.json"))
    status = dict(zip(result.exposures["exposure"], result.exposures["status"], strict=True))
    assert sum(value == "measured" for value in status.values()) == len(good)
    expected = ["FILTER=GR150C", "NRM", "NIRCAM", "outside the 64x64 image", "not a FITS file", "no such file"]
    for name, reason in zip(bad, expected, strict=True):
        assert status[name.removesuffix("_rate.fits")].startswith("failed: ")
        assert reason in status[name.removesuffix("_rate.fits")]
        with pytest.raises(ExposureError, match=reason):
            EEPhotometryStep.call(str(tmp_path / name))
    measured = result.table[[s.startswith("measured") for s in result.table["status"]]]
    assert len(measured) == len(GROUPS)
    # exposures are measured group by group: the first bad one is in the first good one's
    with pytest.raises(ExposureError, match="instrument is NIRCAM"):
        FluxCalPipeline.call(str(tmp_path / "asn.json"), on_error="raise")


def test_nothing_measured_is_an_error_of_strun(program, tmp_path):
    asn = {"products": [{"name": "lost", "members": [{"expname": "absent_rate.fits", "exptype": "science"}]}]}
    (tmp_path / "asn.json").write_text(json.dumps(asn))
    command = [Path(sys.executable).parent / "strun", "niriss_fluxcal", "asn.json"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "absent_rate.fits: no such file" in run.stdout + run.stderr
    with pytest.raises(AssociationError, match="no products"):
        FluxCalPipeline.call(str(_empty_association(tmp_path)))


def _empty_association(tmp_path):
    path = tmp_path / "empty.json"
    path.write_text("{}")
    return path


def test_total_rate_uses_the_radii_asked_for(program):
    result = FluxCalPipeline.call(
        [str(p) for p in sorted(program.glob("*_rate.fits"))[:2]],
        steps={"abs_flux": {"radius_min": 6, "radius_max": 8}, "ee_photometry": {"radii": [3, 6, 7, 8, 12]}},
    )
    assert result.radius.tolist() == [3, 6, 7, 8, 12]
    assert result.radius_used[0].tolist() == [0, 1, 1, 1, 0]
    # the sky annulus follows the largest radius: 17 to 22 pix
    assert result.exposures["radius"][0] == 8


def test_overriding_references(program, tmp_path):
    path = str(sorted(program.glob("*_rate.fits"))[0])
    radius = np.arange(0, 31, 0.25)
    table = Table({"radius": radius, "F090W": 1 - np.exp(-radius)})
    table.write(tmp_path / "ee.ecsv")
    result = FluxCalPipeline.call(path, steps={"abs_flux": {"override_psfee": str(tmp_path / "ee.ecsv")}})
    light = (np.exp(-20) - np.exp(-25)) / (25**2 - 20**2)
    expected = 1 - np.exp(-result.radius) - result.radius**2 * light
    # beside it the star's own pixel phase, by the packaged image: 1.7 % rms at 1 pix, nothing from 5 pix on
    np.testing.assert_allclose(result.ee_effective[0][4:], expected[4:], rtol=1e-4)
    np.testing.assert_allclose(result.ee_effective[0], expected, atol=0.03)
    assert result.meta.ref_file.psfee.name.endswith("ee.ecsv")
    assert result.table["err_aperture"][0] == 0


def test_the_error_of_a_background_given_for_all_dithers_is_not_averaged_down(program):
    paths = [str(p) for p in sorted(program.glob("*_rate.fits"))[:2]]
    err = 0.05
    profiles = [
        EEPhotometryStep.call(path, background_method="constant", background_value=1.0, background_value_err=err)
        for path in paths
    ]
    (combined,) = CombineProfilesStep.call(profiles)
    assert len(combined.exposure_names) == 2
    shared = (np.pi * combined.radius**2 * err) ** 2
    own = np.sum(combined.exposure_weight**2 * (combined.exposure_count_rate_err**2 - shared), axis=0)
    np.testing.assert_allclose(combined.count_rate_err_formal, np.sqrt(own + shared), rtol=1e-6)
