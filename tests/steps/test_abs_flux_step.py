"""Rows of the exposures in the table of the absolute flux calibration."""

from dataclasses import replace

import numpy as np
import pytest

from niriss_eestep.combine.mean import combine_profiles, growth_flags
from niriss_eestep.flux.total_rate import effective_ee
from niriss_eestep.measure.background import Background
from niriss_eestep.measure.ee import EEProfile
from niriss_eestep.measure.position import Centroid
from niriss_eestep.products import convert
from niriss_eestep.products.metadata import error_terms, group_line
from niriss_eestep.reference import load_psfee
from niriss_eestep.steps import AbsFluxStep

RADIUS = np.arange(5.0, 11.0)
RATE = 100.0  # [DN/s]
EDGES = np.linspace(15.0, 20.0, 6)


def profiles(n, *, pixel_err, seed=0):
    """Profiles of a faint star, all noise being the sky's, in apertures that hold each other."""
    rng = np.random.default_rng(seed)
    area = np.pi * RADIUS**2
    covariance = pixel_err**2 * np.minimum.outer(area, area)
    root = np.linalg.cholesky(covariance)
    truth = RATE * effective_ee(lambda r: load_psfee().ee("F200W", r), RADIUS, area, EDGES, np.ones(5))
    none = np.zeros(len(RADIUS), dtype=int)
    shared = {
        "covariance": covariance,
        "area": area,
        "n_bad": none,
        "n_repaired": none,
        "centroid": Centroid(32.0, 32.0, 0.1, 0.1, 0.0, "com"),
        "background": Background(0.0, 0.0, 0.1, 500, 0, 15.0, 20.0, EDGES, np.ones(5)),
        "gain": 1.61,
        "pixel_scale": 0.0656,
        "bad_pixel_method": "surface",
    }
    return [
        EEProfile(radius=RADIUS, count_rate=truth + root @ rng.normal(size=len(RADIUS)), **shared) for _ in range(n)
    ]


def calibrated(members, seconds=None):
    models = [convert.profile_model(profile) for profile in members]
    for k, model in enumerate(models):
        model.meta.exposure.integration_time = seconds and seconds[k]
        model.meta.instrument.filter, model.meta.instrument.pupil = "CLEAR", "F200W"
        model.meta.target.proposer_name, model.meta.subarray.name = "P330E", "SUB64"
    names = [f"e{k:03d}" for k in range(len(members))]
    values, covariances = [p.count_rate for p in members], [p.covariance for p in members]
    flags = growth_flags(np.array(values), covariances)
    combined = combine_profiles(names, RADIUS, values, covariances, flags=flags)
    return AbsFluxStep.call(convert.combined_model(combined, models, product="x"), configure_log=False)


def test_pulls_of_the_exposures_totals():
    n = 300
    rows = calibrated(profiles(n, pixel_err=0.3)).exposures
    pulls = (rows["total_count_rate"] - RATE) / rows["total_count_rate_err"]
    assert abs(pulls.mean()) < 3 / np.sqrt(n)
    assert abs(pulls.std() - 1) < 3 / np.sqrt(2 * n)


def test_the_total_of_a_lone_exposure_is_its_groups():
    found = calibrated(profiles(1, pixel_err=0.3))
    row, exposure = found.table[0], found.exposures[0]
    assert exposure["total_count_rate"] == pytest.approx(row["count_rate"], rel=1e-12)
    assert exposure["total_count_rate_err"] == pytest.approx(row["err_photon"] * row["count_rate"], rel=1e-12)


def test_an_exposures_total_leaves_out_the_radii_that_it_flags():
    """Half of one exposure's light is missing at 7 pix only: each total is the star's, within its error."""
    members = profiles(3, pixel_err=0.003)
    members[1] = replace(members[1], count_rate=np.where(RADIUS == 7, 0.5, 1.0) * members[1].count_rate)
    found = calibrated(members)
    assert abs(found.table[0]["count_rate"] - RATE) < 4 * found.table[0]["count_rate_err"]
    assert np.all(abs(found.exposures["total_count_rate"] - RATE) < 4 * found.exposures["total_count_rate_err"])


def test_the_table_has_what_a_factor_may_depend_on():
    row = calibrated(profiles(2, pixel_err=1e-4), seconds=(10.0, 30.0)).table[0]
    assert row["star_type"] == "G"
    assert row["integration_time"] == 20.0
    # charge within 5 pix, spread over its pixels, of 72000 e- that one holds
    effective = effective_ee(lambda r: load_psfee().ee("F200W", r), RADIUS, np.pi * RADIUS**2, EDGES, np.ones(5))[0]
    assert row["well_depth"] == pytest.approx(RATE * effective / (np.pi * 25) * 20 * 1.61 / 72000, rel=1e-3)
    assert np.isnan(calibrated(profiles(2, pixel_err=1e-4)).table["integration_time"][0])


def test_a_group_says_how_many_exposures_show_a_neighbour():
    beside = "possible neighbour at x=40, y=32 (8 pix away), 3 % of the star's light"
    members = profiles(3, pixel_err=0.3)
    members[:2] = [replace(member, warnings=(told,)) for member, told in zip(members, (beside, "other"), strict=False)]
    (status,) = calibrated(members).table["status"]
    assert "2 of 3 exposures have warnings; 1 of 3 exposures show a possible neighbour" in status
    assert "neighbour" not in calibrated(profiles(3, pixel_err=0.3)).table["status"][0]


def test_the_line_of_a_group_tells_what_one_filter_cannot_know_of_the_psf():
    row = dict.fromkeys(error_terms(), 0.001) | dict.fromkeys(("target", "filter", "subarray"), "x")
    row |= {"ratio": 1.0, "ratio_err": 0.002, "n_measured": 1, "n_exposures": 1, "status": "measured"}
    assert "index" not in group_line(row)
    assert "index" not in group_line(row | {"psf_index_shift": 0.003})
    assert "not counting -0.5 % if the PSF's mid frequencies have an index of 2.8" in group_line(
        row | {"psf_index_shift": -0.005}
    )
