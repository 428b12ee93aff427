"""absflux with the standard pipeline's aperture correction."""

import re

import numpy as np
import pytest

from niriss_eestep.calibration.crds_files import Provenance, apcorr_model, aperture_corrections
from niriss_eestep.errors import NirissEEError
from niriss_eestep.reference import load_psfee
from niriss_eestep.steps import FluxCalPipeline

pytestmark = pytest.mark.filterwarnings("ignore:'get_cache_lock' is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def program(simulate):
    return simulate((("F090W", "SUB64"), ("F480M", "SUB64")), n_dithers=2, seed=8)


@pytest.fixture
def apcorr(tmp_path):
    """Function that writes the reference that belongs to the packaged EE."""

    def write(skyin=20.0, skyout=25.0):
        psfee = load_psfee()
        fractions = np.arange(0.30, 0.96, 0.01)
        rows = {
            name: aperture_corrections(
                lambda r, name=name: psfee.ee(name, r),
                eefractions=[f for f in fractions if psfee.ee(name, skyin - 1) > f],
                skyin=skyin,
                skyout=skyout,
            )
            for name in ("F090W", "F480M")
        }
        path = tmp_path / "jwst_niriss_apcorr_0009.fits"
        provenance = Provenance(author="tests", pedigree="DUMMY", useafter="2022-01-01T00:00:00", description="test")
        apcorr_model(rows, provenance).save(path)
        return path

    return write


def run(program, monkeypatch, **options):
    directory, paths = program
    monkeypatch.setenv("PYSYN_CDBS", str(directory))
    return FluxCalPipeline.call([str(p) for p in paths], steps={"abs_flux": options}, configure_log=False)


def test_it_gives_what_the_ee_gives_that_it_was_made_of(program, apcorr, monkeypatch):
    by_psfee = run(program, monkeypatch, radius_min=5.0, radius_max=8.0, aperture_correction="psfee")
    path = apcorr()
    result = run(
        program, monkeypatch, radius_min=5.0, radius_max=8.0, aperture_correction="apcorr", override_apcorr=str(path)
    )
    # rows 0.01 apart in EE: interpolated to 0.1 %
    np.testing.assert_allclose(result.table["count_rate"], by_psfee.table["count_rate"], rtol=1e-3)
    assert all(status == "measured" for status in result.table["status"])
    assert np.all(result.table["err_aperture"] > 0)
    assert result._instance["meta"]["ref_file"]["apcorr"]["name"] == str(path)
    assert "psfee" not in result._instance["meta"]["ref_file"]


def test_it_comes_from_crds(program, apcorr, crds_cache, monkeypatch):
    crds_cache({"apcorr": {"ANY": apcorr()}})
    result = run(program, monkeypatch, aperture_correction="apcorr")
    assert result._instance["meta"]["ref_file"]["apcorr"]["name"] == "crds://jwst_niriss_apcorr_0009.fits"


def test_another_annulus_is_told(program, apcorr, monkeypatch):
    with pytest.raises(NirissEEError, match="for a sky annulus of 18-22 pix, but the profile has 20-25 pix"):
        run(program, monkeypatch, aperture_correction="apcorr", override_apcorr=str(apcorr(18.0, 22.0)))


def test_radii_out_of_its_reach_are_told(program, apcorr, monkeypatch):
    options = {"override_apcorr": str(apcorr()), "radius_min": 12.0, "radius_max": 15.0}
    result = run(program, monkeypatch, aperture_correction="apcorr", **options)
    # 0.95 of the light lies within 10 pix in F090W, beyond 15 in F480M
    blue, red = result.table["status"]
    assert re.search(
        r"is for 0\.\d+ to [89]\.\d+ pix; none of the radii between radius_min=12 and radius_max=15 pix", blue
    )
    assert red == "measured"


def test_without_crds_it_must_be_given(program, monkeypatch):
    with pytest.raises(NirissEEError, match="give override_apcorr"):
        run(program, monkeypatch, aperture_correction="apcorr")
