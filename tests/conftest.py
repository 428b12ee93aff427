"""Absolute-flux products of visits whose calibration is known."""

import numpy as np
import pytest

MJD = 59800.3  # of the first visit


@pytest.fixture(scope="session")
def abs_flux_row():
    """Function that makes a row as the abs_flux step does, of a visit whose PHOTMJSR is known."""
    from niriss_eestep.flux.synthetic import ExpectedRate
    from niriss_eestep.flux.total_rate import TotalRate, calibrate_rate
    from niriss_eestep.instrument import FILTERS, GAIN, PIXEL_SOLID_ANGLE

    def make(filter_name, photmjsr, mjd=MJD, *, subarray="SUB64", pixar_sr=PIXEL_SOLID_ANGLE):
        # one star, whose light does not change: PHOTMJSR is what its count rate makes it
        fnu = 2.5e9 * PIXEL_SOLID_ANGLE
        rate = fnu / (photmjsr * pixar_sr * 1e6)
        expected = fnu / (FILTERS[filter_name].photmjsr * PIXEL_SOLID_ANGLE * 1e6)
        one, each = np.ones(1), rate + np.array([-30.0, 0.0, 30.0])
        errors = 20.0, 10.0, 5.0  # photon, radii, aperture [DN/s]
        total = TotalRate(
            one, one > 0, rate * one, one, one, rate, *errors, each, 0 * each, 0 * each, each > 0, 0 * each[:, None]
        )
        electrons = expected * GAIN
        star = ExpectedRate(
            electrons, 0.01 * electrons, 0.0, FILTERS[filter_name].pivot, fnu, 1.01 * fnu, 0.0, 0.01 * electrons
        )
        row = calibrate_rate(total, star, gain=GAIN, pixar_sr=pixar_sr)
        group = {"target": "WD1057+719", "filter": filter_name, "pupil": FILTERS[filter_name].header_pupil}
        group |= {"subarray": subarray, "n_exposures": 4, "n_measured": 4, "status": "measured", "mjd": mjd}
        return group | {"gain": GAIN, "pixar_sr": pixar_sr} | row

    return make


@pytest.fixture(scope="session")
def write_visit():
    """Function that writes rows as an absolute-flux product and returns its path."""
    from niriss_eestep.products import convert, save_product

    def write(path, *rows):
        nothing = np.ones((len(rows), 1))
        names = ("radius_used", "total_count_rate", "total_count_rate_err", "ee_effective")
        model = convert.abs_flux_model(rows, radius=[5.0], **dict.fromkeys(names, nothing))
        return str(save_product(model, path))

    return write


@pytest.fixture
def visits(tmp_path, abs_flux_row, write_visit):
    """Eight visits over two years; F277W loses 3 % a year."""
    rng = np.random.default_rng(11)
    paths = []
    for i, days in enumerate(np.linspace(0, 730, 8)):
        noise = 1 + rng.normal(0, 0.002, 2)
        rows = [
            abs_flux_row("F090W", 0.24 * noise[0], MJD + days, subarray=("SUB64", "SUB128")[i % 2]),
            abs_flux_row("F277W", 0.26 * noise[1] / (1 - 0.03 * (days + 0.3) / 365), MJD + days),
        ]
        paths.append(write_visit(tmp_path / f"visit{i}_absflux.asdf", *rows))
    return paths


@pytest.fixture(scope="session")
def simulate(tmp_path_factory):
    """Function that simulates a program and returns its directory and the exposures' paths."""

    from niriss_eestep.simulate.program import Program, simulate_program
    from niriss_eestep.simulate.scene import Blemishes

    def make(groups=(("F090W", "SUB64"),), *, kinds=("rate",), blemishes=None, **settings):
        directory = tmp_path_factory.mktemp("program")
        settings = {"n_dithers": 1, "blemishes": blemishes or Blemishes()} | settings
        truth = simulate_program(directory, Program(groups=groups, **settings), kinds=kinds)
        return directory, [directory / f"{name}_{kinds[0]}.fits" for name in truth["exposure"]]

    return make
