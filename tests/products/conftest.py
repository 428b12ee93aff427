"""Products made by hand, small and of every kind."""

import numpy as np
import pytest
from stdatamodels.jwst.datamodels import ImageModel

from niriss_eestep.combine.mean import CombinedProfile
from niriss_eestep.measure.background import Background
from niriss_eestep.measure.ee import EEProfile
from niriss_eestep.measure.position import Centroid
from niriss_eestep.measure.sb import SBProfile
from niriss_eestep.products import convert

RADIUS = np.array([1.0, 5.0, 10.0])


def _common(**changes):
    background = Background(0.12, 0.001, 0.02, 700, 3, 15.0, 20.0, np.array([15.0, 17.5, 20.0]), np.array([1.0, 0.98]))
    centroid = Centroid(63.2, 64.1, 0.01, 0.02, 0.4, "com")
    return {"centroid": centroid, "background": background, "pixel_scale": 0.0655} | changes


@pytest.fixture
def exposure():
    """Give an exposure's metadata as a rate file has it; its image does not matter here."""
    model = ImageModel((4, 4))
    model.meta.filename = "jw01094001001_02101_00001_nis_rate.fits"
    model.meta.instrument.name = "NIRISS"
    model.meta.instrument.filter = "CLEAR"
    model.meta.instrument.pupil = "F090W"
    model.meta.subarray.name = "SUB128"
    model.meta.target.catalog_name = "P330E"
    model.meta.target.proposer_name = "P330E"
    model.meta.exposure.mid_time = 59700.5
    model.meta.photometry.conversion_megajanskys = 0.5
    return model


@pytest.fixture
def ee_profile():
    return EEProfile(
        radius=RADIUS,
        count_rate=np.array([4000.0, 9000.0, 9500.0]),
        covariance=np.array([[4.0, 3.0, 2.0], [3.0, 9.0, 8.0], [2.0, 8.0, 25.0]]),
        area=np.pi * RADIUS**2,
        n_bad=np.array([0, 0, 2]),
        n_repaired=np.array([0, 0, 2]),
        core_do_not_use=1,
        core_flagged=2,
        gain=1.61,
        bad_pixel_method="surface",
        warnings=("2 flagged pixels in the core",),
        **_common(),
    )


@pytest.fixture
def sb_profile():
    return SBProfile(
        radius=RADIUS,
        half_width=2.0,
        surface_brightness=np.array([100.0, 1.5, 0.2]),
        covariance=np.diag([1.0, 0.01, 0.0025]),
        n_used=np.array([20, 125, 250]),
        n_clipped=np.array([0, 1, 0]),
        photmjsr=0.5,
        **_common(),
    )


@pytest.fixture
def combined():
    value = np.array([[4000.0, 9000.0, 9500.0], [4010.0, 9006.0, 9504.0]])
    return CombinedProfile(
        radius=RADIUS,
        value=value.mean(axis=0),
        covariance=np.diag([4.0, 9.0, 16.0]),
        err_formal=np.array([1.5, 3.0, 4.0]),
        inflation=np.array([4 / 3, 1.0, 1.0]),
        scatter=value.std(axis=0, ddof=1),
        chi2_dof=np.array([1.8, 0.9, 0.7]),
        n_good=np.array([2, 2, 1]),
        names=("jw01094001001_02101_00001_nis", "jw01094001001_02101_00002_nis"),
        exposure_value=value,
        exposure_err=np.full((2, 3), 2.0),
        exposure_flag=np.array([[1, 1, 1], [1, 1, 0]]),
        exposure_weight=np.array([[0.5, 0.5, 1.0], [0.5, 0.5, 0.0]]),
    )


@pytest.fixture
def products(exposure, ee_profile, sb_profile, combined):
    """Give one product of each kind, by kind."""
    ee = convert.profile_model(ee_profile, exposure)
    sb = convert.profile_model(sb_profile, exposure)
    row = {"target": "P330E", "filter": "F090W", "pupil": "F090W", "subarray": "SUB128", "n_exposures": 2}
    rows = [
        row | {"n_measured": 2, "count_rate": 9800.0, "count_rate_err": 3.0, "ratio": 1.001, "status": "measured"},
        row | {"filter": "F480M", "pupil": "CLEARP", "status": "failed: no exposure could be measured"},
    ]
    abs_flux = convert.abs_flux_model(
        rows,
        radius=[5.0, 10.0],
        radius_used=[[1, 1], [0, 0]],
        total_count_rate=[[9799.0, 9801.0], [np.nan, np.nan]],
        total_count_rate_err=[[3.0, 4.0], [np.nan, np.nan]],
        ee_effective=[[0.92, 0.97], [0.8, 0.9]],
        exposures=[{"exposure": "jw01094001001_02101_00001_nis", "x_center": 63.2, "status": "measured"}],
    )
    return {
        "ee_profile": ee,
        "sb_profile": sb,
        "combined_ee": convert.combined_model(combined, [ee, ee], product="p330e"),
        "combined_sb": convert.combined_model(combined, [sb, sb], product="p330e"),
        "abs_flux": abs_flux,
    }
