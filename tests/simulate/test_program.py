from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table
from gaussian import GaussianPSF
from stdatamodels.jwst import datamodels

from niriss_eestep.errors import ParameterError
from niriss_eestep.flux.synthetic import blackbody_spectrum, expected_rate
from niriss_eestep.instrument import FILTERS
from niriss_eestep.reference import find_spectrum, load_psf_images, load_throughput
from niriss_eestep.simulate.program import (
    COMMISSIONING,
    STARS,
    Program,
    combinations,
    plan_exposures,
    scene_of,
    simulate_program,
    standard_star,
)
from niriss_eestep.simulate.scene import Blemishes

# sums to 1 within the smallest subarray, and is broad enough not to saturate
PSFS = dict.fromkeys(FILTERS, GaussianPSF(2.5))
RATES = dict.fromkeys(FILTERS, 2e4)


def make_program(**changes):
    settings = {"groups": combinations(["F090W", "F480M"], ["SUB64"]), "electrons": 1e5}
    return Program(**(settings | changes))


def test_the_commissioning_program_has_66_exposures():
    planned = plan_exposures(Program(COMMISSIONING), RATES, PSFS)
    assert len(planned) == 66
    assert len({exposure.name.root for exposure in planned}) == 66
    assert sum(exposure.subarray.name == "FULL" for exposure in planned) == 12
    starts = [exposure.start for exposure in planned]
    assert starts == sorted(starts)


def test_a_star_of_v_15_3_saturates_nowhere_in_the_commissioning_program():
    psfs, throughput = load_psf_images(), load_throughput()
    star = replace(STARS["WD1057+719"], v_mag=15.3)
    spectrum = blackbody_spectrum(star.name, temperature=star.temperature, v_mag=star.v_mag)
    rates = {name: expected_rate(spectrum, *throughput.curve(name)).electron_rate for name in FILTERS}
    for planned in plan_exposures(Program(COMMISSIONING, star=star), rates, psfs):
        # the core is fullest with the star on a pixel's centre; the ramp fit needs two groups
        peak = psfs[planned.filter_name].render(4.0, 4.0, (9, 9)).max() * planned.electron_rate
        assert peak * 2 * planned.readout.group_time < planned.readout.full_well


def test_stars_lie_within_the_subarray_and_apart_from_one_another():
    planned = plan_exposures(Program(COMMISSIONING), RATES, PSFS)
    for exposure in planned:
        size = {"SUB64": 64, "SUB128": 128, "SUB256": 256, "FULL": 2048}[exposure.subarray.name]
        reach = min(20, size / 20)
        assert abs(exposure.x - (size - 1) / 2) <= reach
        assert abs(exposure.y - (size - 1) / 2) <= reach
    phases = np.array([(exposure.x % 1, exposure.y % 1) for exposure in planned])
    # 132 uniform phases: their mean is known to 1 / sqrt(12 * 132)
    assert phases.mean() == pytest.approx(0.5, abs=4 / np.sqrt(12 * 132))
    errors = np.array([(exposure.header_x - exposure.x, exposure.header_y - exposure.y) for exposure in planned])
    assert errors.std() == pytest.approx(0.3, rel=4 / np.sqrt(2 * 132))


def test_the_files_hold_the_truth(tmp_path):
    program = make_program(ratio={"F090W": 1.02}, noise=False, blemishes=Blemishes(nan=0), background=0.5)
    truth = simulate_program(tmp_path, program, psfs=PSFS)
    assert len(truth) == 4
    for row in truth:
        path = tmp_path / f"{row['exposure']}_rate.fits"
        with datamodels.open(path) as model:
            image = np.where(np.isnan(model.data), 0.5, model.data) - 0.5
        # single precision pixels; 4096 of them
        assert image.sum(dtype=float) == pytest.approx(row["count_rate"], rel=1e-5)
        rows, columns = np.indices(image.shape)
        assert (columns * image).sum() / image.sum() == pytest.approx(row["x"], abs=1e-3)
        assert (rows * image).sum() / image.sum() == pytest.approx(row["y"], abs=1e-3)
        assert row["ratio"] == pytest.approx(1.02 if row["filter"] == "F090W" else 1.0)


def test_the_header_puts_the_star_where_the_truth_says(tmp_path):
    truth = simulate_program(tmp_path, make_program(n_dithers=1), psfs=PSFS, kinds=("cal",))
    star = STARS["WD1057+719"]
    for row in truth:
        with datamodels.open(tmp_path / f"{row['exposure']}_cal.fits") as model:
            x, y = model.meta.wcs.invert(star.ra, star.dec)
        assert (float(x), float(y)) == pytest.approx((row["header_x"], row["header_y"]), abs=1e-5)


def test_the_truth_is_written_beside(tmp_path):
    truth = simulate_program(tmp_path, make_program(), psfs=PSFS)
    stored = Table.read(tmp_path / "truth.ecsv")
    assert stored.colnames == truth.colnames
    np.testing.assert_allclose(stored["electron_rate"], truth["electron_rate"])
    assert stored["electron_rate"].unit == "electron / s"


def test_the_spectrum_gives_the_expected_rates(tmp_path):
    truth = simulate_program(tmp_path, make_program(), psfs=PSFS)
    spectrum, throughput = find_spectrum("WD 1057+719", tmp_path / "calspec"), load_throughput()
    for row in truth:
        rate = expected_rate(spectrum, *throughput.curve(row["filter"])).electron_rate
        assert rate == pytest.approx(row["expected_electron_rate"], rel=1e-9)


def test_a_seed_gives_the_same_files_whatever_else_is_simulated(tmp_path):
    first = make_program(seed=5, blemishes=Blemishes(nan=5, low=2))
    simulate_program(tmp_path / "a", first, psfs=PSFS)
    simulate_program(tmp_path / "b", first, psfs=PSFS, kinds=("rate", "cal"))
    other = make_program(seed=6)
    simulate_program(tmp_path / "c", other, psfs=PSFS)
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(names) == 6
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    rate = "jw01094001001_02101_00001_nis_rate.fits"
    assert (tmp_path / "a" / rate).read_bytes() != (tmp_path / "c" / rate).read_bytes()


def test_rate_and_cal_are_the_same_exposure(tmp_path):
    truth = simulate_program(tmp_path, make_program(n_dithers=1), psfs=PSFS, kinds=("rateints", "rate", "cal"))
    for root in truth["exposure"]:
        with (
            datamodels.open(tmp_path / f"{root}_rate.fits") as rate,
            datamodels.open(tmp_path / f"{root}_cal.fits") as cal,
            datamodels.open(tmp_path / f"{root}_rateints.fits") as cube,
        ):
            photmjsr = cal.meta.photometry.conversion_megajanskys
            np.testing.assert_allclose(cal.data / photmjsr, rate.data, rtol=2e-7)
            np.testing.assert_allclose(cube.data.mean(axis=0), rate.data, rtol=1e-4, atol=1e-4)


def test_other_stars_stay_clear_of_the_standard():
    program = make_program(groups=(("F090W", "SUB256"),), n_stars=8)
    for planned in plan_exposures(program, RATES, PSFS):
        scene = scene_of(planned, program)
        assert len(scene.others) == 8
        for star in scene.others:
            assert np.hypot(star.x - planned.x, star.y - planned.y) > 30
            assert star.electron_rate <= 0.1 * planned.electron_rate


def test_nothing_is_replaced_unasked(tmp_path):
    simulate_program(tmp_path, make_program(), psfs=PSFS)
    with pytest.raises(ParameterError, match="exists"):
        simulate_program(tmp_path, make_program(), psfs=PSFS)
    simulate_program(tmp_path, make_program(), psfs=PSFS, overwrite=True)


def test_the_packaged_psfs_are_the_default(tmp_path):
    truth = simulate_program(tmp_path, make_program(groups=(("F356W", "SUB64"),), n_dithers=1, noise=False))
    with datamodels.open(tmp_path / f"{truth['exposure'][0]}_rate.fits") as model:
        image = np.nan_to_num(model.data) - truth["background"][0]
    light = image[:60, :60].sum(dtype=float) / truth["count_rate"][0]
    # a SUB64 holds most of the light, but not all of it
    assert 0.8 < light < 1


@pytest.mark.parametrize(
    "changes",
    [
        {"groups": ()},
        {"groups": (("F999W", "SUB64"),)},
        {"groups": (("F090W", "SUB1"),)},
        {"n_dithers": 0},
        {"pointing_error": -1.0},
    ],
)
def test_a_program_that_cannot_be_is_refused(changes):
    with pytest.raises(ParameterError):
        make_program(**changes)


def test_an_unknown_kind_of_exposure_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="uncal"):
        simulate_program(tmp_path, make_program(), psfs=PSFS, kinds=("uncal",))


def test_stars_are_found_by_name():
    assert standard_star("wd 1057+719") is STARS["WD1057+719"]
    with pytest.raises(ParameterError, match="not among"):
        standard_star("Sirius")
