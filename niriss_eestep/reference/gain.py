"""The gain of the detector region that an exposure read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from astropy.io import fits

from niriss_eestep.errors import ReferenceDataError, reading
from niriss_eestep.guards.fits_file import check_fits
from niriss_eestep.reference.cache import read_once

__all__ = ["mean_gain"]


def mean_gain(path: str | os.PathLike[str], subarray) -> float:
    """Median gain over the pixels that an exposure read.

    Parameters
    ----------
    path : str or Path
        Gain reference (FITS image of the full detector, or of the subarray) [e-/DN].
    subarray : stdatamodels node
        The exposure's ``meta.subarray``.

    Returns
    -------
    float
        [e-/DN].

    Raises
    ------
    ReferenceDataError
        If the file holds no gain image.
    """
    # stored one-indexed in the detector's frame; an absent origin is the detector's corner
    origin = subarray.xstart or 1, subarray.ystart or 1
    return _median_gain(path, *origin, subarray.xsize or 2048, subarray.ysize or 2048)


@read_once
def _median_gain(path: Path, xstart: int, ystart: int, xsize: int, ysize: int) -> float:
    """Median gain of a region."""
    check_fits(path, "gain reference")
    with reading(path, "a gain reference"):
        with Path(path).open("rb") as file, fits.open(file, memmap=True, disable_image_compression=True) as hdus:
            name = "SCI" if "SCI" in hdus else 0
            if not isinstance(hdus[name], (fits.PrimaryHDU, fits.ImageHDU)):
                raise ReferenceDataError(f"{path}: its extension {name} is not an image of the gain")
            x0 = xstart - (hdus[0].header.get("SUBSTRT1") or 1)
            y0 = ystart - (hdus[0].header.get("SUBSTRT2") or 1)
            image = np.asarray(hdus[name].section[y0 : y0 + ysize, x0 : x0 + xsize], dtype=np.float64)
        good = image[np.isfinite(image) & (image > 0)]
    if good.size == 0:
        raise ReferenceDataError(f"{path}: no positive gain in the exposure's subarray")
    return float(np.median(good))
