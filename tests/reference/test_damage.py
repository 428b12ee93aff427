"""Damaged reference files give an error that names them."""

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from niriss_eestep.errors import ReferenceDataError
from niriss_eestep.psf.radtab import read_radtab
from niriss_eestep.reference import load_psf_images, load_psfee, load_spectrum, load_throughput

BROKEN_YAML = b"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n--- \nmeta: {a: [1\n...\n"


@pytest.mark.parametrize("load", [load_psfee, load_throughput, load_psf_images])
@pytest.mark.parametrize("content", [BROKEN_YAML, b"", b"\x00\xff" * 100, b"#ASDF 1.0.0\n"])
def test_no_asdf(tmp_path, load, content):
    path = tmp_path / "reference.asdf"
    path.write_bytes(content)
    with pytest.raises(ReferenceDataError, match=r"reference\.asdf: not a"):
        load(path)


@pytest.mark.parametrize("load", [load_psfee, load_throughput])
def test_no_table(tmp_path, load):
    path = tmp_path / "reference.ecsv"
    path.write_text("# %ECSV 1.0\n# ---\n# datatype: [\nradius F090W\n1 2\n")
    with pytest.raises(ReferenceDataError, match=r"reference\.ecsv"):
        load(path)


def test_no_text(tmp_path):
    path = tmp_path / "f090w_psf.radtab"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReferenceDataError, match=r"f090w_psf\.radtab: not a table"):
        read_radtab(path)


def test_a_spectrum_is_the_same_for_every_user(tmp_path):
    path = tmp_path / "star_001.fits"
    flux = np.ones(50) * u.erg / u.s / u.cm**2 / u.AA
    Table({"WAVELENGTH": np.linspace(5e3, 6e4, 50) * u.AA, "FLUX": flux}).write(path)
    with pytest.raises(ValueError, match="read-only"):
        load_spectrum(path).flux[:] *= 2
