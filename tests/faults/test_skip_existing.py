"""`skip_existing` keeps what would be made again bit by bit, and nothing else."""

import os

import numpy as np
import pytest
from lab import GOOD

from niriss_eestep import products
from niriss_eestep.products import metadata

EE = GOOD.replace("_rate.fits", "_eeprofile.asdf")
SB = GOOD.replace("_rate.fits", "_sbprofile.asdf")


@pytest.fixture
def done(lab):
    """A run that is complete."""
    lab.calibrate(lab.exposure(GOOD))
    for name in (EE, SB):
        # a time that no writing gives
        os.utime(lab.out / name, (1e9, 1e9))
    return lab


def again(lab, **parameters):
    """Names of the products that the second run wrote anew."""
    lab.calibrate(lab.folder / GOOD, skip_existing=True, **parameters)
    return {name for name in (EE, SB) if (lab.out / name).stat().st_mtime != 1e9}


def test_products_up_to_date_are_kept(done):
    first = products.open(next(done.out.glob("*_absflux.asdf")))
    assert again(done) == set()
    second = products.open(next(done.out.glob("*_absflux.asdf")))
    np.testing.assert_array_equal(first.total_count_rate, second.total_count_rate)
    assert first.table.tobytes() == second.table.tobytes()


def test_without_it_all_are_made(done):
    done.calibrate(done.folder / GOOD)
    assert all((done.out / name).stat().st_mtime != 1e9 for name in (EE, SB))


def test_a_product_that_is_missing_is_made(done):
    (done.out / EE).unlink()
    assert again(done) == {EE}


def test_another_parameter(done):
    assert again(done, steps={"ee_photometry": {"background_width": 6.0}}) == {EE}


def test_a_parameter_of_a_parameter_reference(done, tmp_path, monkeypatch):
    import asdf

    tree = {
        "meta": {"reftype": "pars-sbprofilestep"},
        "name": "sb_profile",
        "class": "niriss_eestep.steps.SBProfileStep",
        "parameters": {"half_width": 1.5},
    }
    asdf.AsdfFile(tree).write_to(tmp_path / "pars-sbprofilestep-x.asdf")
    monkeypatch.setenv("NIRISS_EESTEP_PARS", str(tmp_path))
    assert again(done) == {SB}


def test_another_gain(done):
    assert again(done, steps={"ee_photometry": {"gain": 1.7}}) == {EE}


def test_another_image(done):
    from astropy.io import fits

    with fits.open(done.folder / GOOD, mode="update") as hdus:
        hdus["SCI"].data[round(done.y), round(done.x)] *= 1.001
    assert again(done) == {EE, SB}


def test_another_header(done):
    from astropy.io import fits

    with fits.open(done.folder / GOOD, mode="update") as hdus:
        hdus[0].header["TARGPROP"] = "ANOTHER"
    assert again(done) == {EE, SB}


def test_another_reference(done):
    from astropy.io import fits

    path = done.folder / "gain.fits"
    for value in (1.6, 1.7):
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.full((2048, 2048), value, "f4"), name="SCI")]).writeto(
            path, overwrite=True
        )
        override = {"steps": {"ee_photometry": {"override_gain": str(path)}}}
        assert EE in again(done, **override)
        os.utime(done.out / EE, (1e9, 1e9))
        assert EE not in again(done, **override)


def test_another_version(done, monkeypatch):
    monkeypatch.setitem(metadata.SOFTWARE, "niriss_eestep", "99")
    assert again(done) == {EE, SB}


def test_a_product_of_another_exposure_under_its_name(done, lab):
    other = lab.exposure()
    next(lab.out.glob("*_absflux.asdf")).unlink()  # one of other exposures would not be replaced
    lab.calibrate(other)
    next(lab.out.glob("*_absflux.asdf")).unlink()
    (lab.out / other.name.replace("_rate.fits", "_eeprofile.asdf")).replace(lab.out / EE)
    assert again(done) == {EE}


@pytest.mark.parametrize("content", [b"", b"#ASDF 1.0.0\n", None])
def test_a_damaged_product(done, content):
    path = done.out / EE
    path.write_bytes(path.read_bytes()[:5000] if content is None else content)
    assert again(done) == {EE}
    assert products.open(path).meta.ee.status == "measured"


def test_a_product_whose_numbers_were_changed(done):
    path = done.out / EE
    data = bytearray(path.read_bytes())
    data[data.rindex(b"\xd3BLK") + 80] ^= 1
    path.write_bytes(data)
    os.utime(path, (1e9, 1e9))
    assert again(done) == {EE}
