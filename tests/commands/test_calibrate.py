import argparse
import os
import re

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from stdatamodels.jwst import datamodels

from niriss_eestep.cli import main
from niriss_eestep.combine.mean import CombinedProfile
from niriss_eestep.commands import calibrate
from niriss_eestep.commands.arguments import COMMANDS
from niriss_eestep.errors import NirissEEError, ProductError
from niriss_eestep.instrument import GAIN, PIXEL_SOLID_ANGLE
from niriss_eestep.products import save_product
from niriss_eestep.reference import load_psfee

MJD = 59800.3


def run(*arguments):
    parser = argparse.ArgumentParser()
    COMMANDS["calibrate"][0](parser)
    return calibrate.run(parser.parse_args([str(argument) for argument in arguments]))


def test_all_files_are_written_and_agree(tmp_path, visits, capsys):
    out = tmp_path / "new" / "out"
    run(*visits, "--output-dir", out, "--author", "A. Calibrator")
    printed = capsys.readouterr().out
    written = {path.name for path in out.iterdir()}
    assert written == {f"{name}.ecsv" for name in ("calibration", "effects", "stars", "visits")} | {
        "calibration.html",
        "niriss_photom.fits",
        "niriss_apcorr.fits",
    }
    table = Table.read(out / "calibration.ecsv")
    assert list(table["filter"]) == ["F090W", "F277W"]
    assert list(table["n_visits"]) == [8, 8]
    effects = Table.read(out / "effects.ecsv")
    assert set(effects["effect"]) >= {"time", "subarray", "star", "epoch"}
    time = effects[(effects["effect"] == "time") & (effects["filter"] == "F277W")][0]
    assert time["value"] == pytest.approx(-0.03, abs=0.004)
    assert "one star" in printed
    with datamodels.NisImgPhotomModel(out / "niriss_photom.fits", strict_validation=True) as model:
        # of 0.2 % over eight visits, and a change in time
        assert model.phot_table["photmjsr"] == pytest.approx([0.24, 0.26], rel=0.01)
        assert model.meta.author == "A. Calibrator"
        assert model.meta.pedigree == "INFLIGHT 2022-08-09 2024-08-08"
        assert model.meta.useafter == "2022-08-09T00:00:00"
    with datamodels.NisImgApcorrModel(out / "niriss_apcorr.fits", strict_validation=True) as model:
        assert set(model.apcorr_table["pupil"]) >= {"F090W", "CLEARP"}
    assert Table.read(out / "visits.ecsv")["used"].all()
    page = (out / "calibration.html").read_text()
    assert "F277W" in page
    assert page.count("<img") >= 4


def observed_profile(path, filter_name="F277W", broader=0.03):
    """A combined EE product of a star whose core holds less than the packaged reference says."""
    psfee = load_psfee()
    radius = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15])
    area = np.tile(np.pi * radius**2, (2, 1))
    lost = np.pi * radius**2 * np.diff(psfee.ee(filter_name, [20.0, 25.0]))[0] / (np.pi * (25.0**2 - 20.0**2))
    true = psfee.ee(filter_name, radius) * (1 - broader * np.exp(-((radius / 3) ** 2)))
    value = 1e5 * (true - lost)
    each = np.tile(value, (2, 1))
    nothing = np.zeros(radius.size)
    profile = CombinedProfile(
        radius=radius,
        value=value,
        covariance=np.diag(np.full(radius.size, 10.0**2)),
        err_formal=nothing + 10.0,
        inflation=nothing + 1.0,
        scatter=nothing,
        chi2_dof=nothing,
        n_good=np.full(radius.size, 2),
        names=("a", "b"),
        exposure_value=each,
        exposure_err=np.full(each.shape, 14.0),
        exposure_flag=np.ones(each.shape, dtype=int),
        exposure_weight=np.full(each.shape, 0.5),
    )
    return profile, area, true, path


def test_observed_ee_becomes_a_reference_and_the_aperture_corrections(tmp_path, visits, monkeypatch):
    from niriss_eestep.products import CombinedEEModel

    profile, area, true, path = observed_profile(tmp_path / "group_eecombined.asdf")
    tree = {
        "radius": profile.radius,
        "count_rate": profile.value,
        "count_rate_err": profile.err,
        "count_rate_err_formal": profile.err_formal,
        "exposure_count_rate": profile.exposure_value,
        "exposure_count_rate_err": profile.exposure_err,
        "exposure_area": area,
        "exposure_covariance": np.array([np.diag(err**2) for err in profile.exposure_err]),
        "exposure_ring_edges": np.tile([20.0, 25.0], (2, 1)),
        "exposure_ring_coverage": np.ones((2, 1)),
        "exposure_names": list(profile.names),
        "exposure_filenames": ["a.fits", "b.fits"],
        "exposure_status": ["measured"] * 2,
        "exposure_mjd": np.full(2, MJD),
        "meta": {"group": {"filter": "F277W", "pupil": "CLEARP", "target": "WD1057+719", "subarray": "SUB64"}},
    }
    for name in ("covariance", "inflation", "scatter", "chi2_dof", "n_good", "exposure_flag", "exposure_weight"):
        tree[name] = getattr(profile, name)
    for name in ("x_center", "y_center", "background", "background_err"):
        tree[f"exposure_{name}"] = np.zeros(2)
    tree["meta"]["group"] |= {"product": "group", "pixel_scale": 0.0656, "pixar_sr": PIXEL_SOLID_ANGLE, "gain": GAIN}
    save_product(CombinedEEModel(tree), path)
    out = tmp_path / "out"
    run(*visits, "--output-dir", out, "--observed-ee", path)
    observed = load_psfee(out / "niriss_psfee_observed.asdf")
    off = observed.ee("F277W", profile.radius) - true
    packaged = load_psfee()
    # known exactly but for what no mode explains; the total that scales it is five times better than the prior's
    assert np.all(np.abs(off) < observed.ee_err("F277W", profile.radius))
    assert np.abs(off).max() < packaged.ee_err("F277W", 5.0) / 5
    # outside the join, and in filters that were not observed, the packaged reference fitted to what was observed
    assert abs(observed.ee("F277W", 30.0) - packaged.ee("F277W", 30.0)) < 3 * observed.ee_err("F277W", 30.0)
    # this star's core is no sum of the modes: they are widened, so that only what was observed is known better
    assert observed.ee_err("F277W", 10.0) < packaged.ee_err("F277W", 10.0)
    assert observed.ee_err("F277W", 30.0) < 2 * packaged.ee_err("F277W", 30.0)
    assert abs(observed.ee("F090W", 3.0) - packaged.ee("F090W", 3.0)) < 3 * packaged.ee_err("F090W", 3.0)
    with datamodels.NisImgApcorrModel(out / "niriss_apcorr.fits") as model:
        row = next(row for row in model.apcorr_table if row["filter"] == "F277W" and round(row["eefraction"], 2) == 0.5)
    assert observed.ee("F277W", row["radius"]) == pytest.approx(0.5, abs=1e-5)
    told = [line for line in fits.getheader(out / "niriss_apcorr.fits")["HISTORY"] if line.startswith("F277W: ")]
    # EE of 0.2 to 0.8: 5 % and more at the smallest radius, next to nothing at the largest
    scatter = [float(each) for each in told[0].removesuffix(".").split(": ")[1].split(", ")]
    assert len(scatter) == 7
    assert scatter[0] > 1 > 5 * scatter[-1]


def test_photom_files_are_compared_with_the_visits_and_with_one_another(tmp_path, visits, capsys):
    run(*visits, "--output-dir", tmp_path / "a")
    first = tmp_path / "a" / "niriss_photom.fits"
    with datamodels.NisImgPhotomModel(first) as model:
        model.phot_table["photmjsr"] *= 0.98
        model.save(tmp_path / "old.fits")
    lines = list(fits.getheader(first)["HISTORY"])
    assert "No standard star in F115W, F140M, F150W, F158M, F200W, F356W, F380M," in lines
    capsys.readouterr()
    run("--compare", first, tmp_path / "old.fits")
    alone = capsys.readouterr().out
    assert re.findall(r"(F\d+W) PHOTMJSR \S+ against \S+, (\S+) %", alone) == [("F090W", "+2.04"), ("F277W", "+2.04")]
    run(*visits, "--output-dir", tmp_path / "b", "--compare", tmp_path / "old.fits")
    assert "F277W PHOTMJSR" in capsys.readouterr().out
    assert "+2.04" in (tmp_path / "b" / "calibration.html").read_text()
    with pytest.raises(NirissEEError, match="no visits"):
        run("--compare", first)
    with pytest.raises(ProductError, match=r"niriss_apcorr\.fits: no table of PHOTMJSR"):
        run("--compare", first, tmp_path / "a" / "niriss_apcorr.fits")
    os.mkfifo(tmp_path / "pipe.fits")
    with pytest.raises(ProductError, match=r"pipe\.fits: is a device, pipe or socket"):
        run("--compare", first, tmp_path / "pipe.fits")


def test_bad_input_is_told(tmp_path, visits, abs_flux_row, write_visit, capsys):
    with pytest.raises(ProductError):
        run(tmp_path / "gone_absflux.asdf")
    with pytest.raises(ProductError, match=r"_eecombined.asdf\) is needed"):
        run(*visits, "--output-dir", tmp_path / "out", "--observed-ee", visits[0])
    failed = abs_flux_row("F090W", 0.24) | {"status": "failed: no star"}
    with pytest.raises(NirissEEError, match="no row of 1 can be used"):
        run(write_visit(tmp_path / "failed_absflux.asdf", failed))
    undated = write_visit(tmp_path / "undated_absflux.asdf", abs_flux_row("F090W", 0.24, np.nan))
    with pytest.raises(NirissEEError, match="give pedigree and useafter"):
        run(undated, "--output-dir", tmp_path / "undated")
    given = ("--pedigree", "SIMULATION", "--useafter", "2022-08-01T00:00:00")
    run(undated, "--output-dir", tmp_path / "dated", *given)
    with datamodels.NisImgPhotomModel(tmp_path / "dated" / "niriss_photom.fits") as model:
        assert (model.meta.pedigree, model.meta.useafter) == ("SIMULATION", "2022-08-01T00:00:00")
    (tmp_path / "file").write_text("in the way")
    assert main(["calibrate", *map(str, visits), "--output-dir", str(tmp_path / "file" / "out")]) == 1
    assert f"calibrate: {tmp_path / 'file' / 'out'}: Not a directory" in capsys.readouterr().err
