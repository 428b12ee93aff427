"""The tables ``*_psf.radtab`` of the CAP-020 scripts (2021): encircled energy against radius, one file per filter."""

import os
import re
from pathlib import Path

import numpy as np

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ReferenceDataError, reading, regular_file
from niriss_eestep.instrument import CLEARP_FILTERS, FILTERS
from niriss_eestep.psf.pupil import WEBBPSF_PUPIL


def read_radtab(path: str | os.PathLike[str]) -> tuple[str, Array, Array]:
    """Read one table: radius [pix] and encircled energy in its first two columns.

    The tables of the filters behind CLEARP hold EE times the transmission of that element. It belongs to the
    throughput, so it is divided out here, once: by the transmission of the element as WebbPSF draws it (0.846), not
    by the rounded 0.84, which leaves the EE 0.7 % too high. A table that exceeds the transmission has had it divided
    out before.

    Parameters
    ----------
    path : path
        Its name holds the filter's; lines that begin with # are skipped.

    Returns
    -------
    filter_name : str
        From the file's name.
    radius, ee : ndarray, shape (n_radii,)
        [pix], and the fraction of the star's light.

    Raises
    ------
    ReferenceDataError
        Where the name holds no filter, or the file no table.
    """
    path = Path(path)
    found = re.findall(r"f\d{3}[mw]", path.name.lower())
    if len(found) != 1 or found[0].upper() not in FILTERS:
        raise ReferenceDataError(
            f"{path}: the file's name holds no NIRISS imaging filter, such as f090w_psf.radtab does"
        )
    name = found[0].upper()
    regular_file(path, "radtab")
    with reading(path, "a table of radius and encircled energy"):
        lines = [line.split() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
        radius, ee = np.array([[float(line[0]), float(line[1])] for line in lines]).T
    if name in CLEARP_FILTERS:
        transmission = WEBBPSF_PUPIL.clearp_transmission()
        if ee.max() <= transmission:
            ee = ee / transmission
    return name, radius, ee
