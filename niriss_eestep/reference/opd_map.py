"""Maps of the telescope's wavefront, as the wavefront-sensing team publishes them."""

from pathlib import Path

import numpy as np

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ReferenceDataError, reading
from niriss_eestep.reference.guards import check_fits

#: metres per unit of the map
UNITS = {"m": 1.0, "meter": 1.0, "micron": 1e-6, "microns": 1e-6, "um": 1e-6, "nm": 1e-9, "nanometer": 1e-9}
#: a telescope that makes images; beyond, the unit is another [m]
LARGEST_RMS = 2e-6


def read_opd(path: str | Path) -> Array:
    """Read a map of optical path differences over the entrance pupil.

    Parameters
    ----------
    path : path
        FITS file; its first square image, of the unit BUNIT (micron where there is none, as STPSF has it), spans the
        telescope's circumscribed circle in V2 (rightward) and V3 (upward). A cube's first plane is taken.

    Returns
    -------
    ndarray, shape (n, n)
        [m].

    Raises
    ------
    ReferenceDataError
        Where the file is no such map.
    """
    from astropy.io import fits

    path = Path(path)
    check_fits(path, "map of the wavefront")
    with reading(path, "a FITS map of the wavefront"), path.open("rb") as file, fits.open(file, memmap=False) as hdus:
        found = [hdu for hdu in hdus if hdu.is_image and hdu.data is not None]
        image = np.array(found[0].data if found else [], dtype=np.float64)
        unit = str(found[0].header.get("BUNIT", "micron") if found else "").strip().lower()
    image = image[0] if image.ndim == 3 else image
    if image.ndim != 2 or image.shape[0] != image.shape[1] or image.shape[0] < 64:
        raise ReferenceDataError(f"{path}: no square map of 64 pixels or more, but shape {image.shape}")
    if unit not in UNITS:
        raise ReferenceDataError(f"{path}: BUNIT is {unit!r}, not a unit of a wavefront map: give {', '.join(UNITS)}")
    if not np.all(np.isfinite(image)):
        raise ReferenceDataError(f"{path}: {np.count_nonzero(~np.isfinite(image))} pixels of the map are not finite")
    opd = image * UNITS[unit]
    with np.errstate(over="ignore"):  # no metres, and said below
        rms = float(opd[opd != 0].std()) if np.any(opd) else 0.0
    if not 0 < rms < LARGEST_RMS:
        raise ReferenceDataError(f"{path}: {1e9 * rms:.4g} nm rms in the unit {unit}: no wavefront of the telescope")
    return opd
