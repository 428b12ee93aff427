"""References that are images: gain, flat field and pixel area, of which a region is read; maps of the wavefront."""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ReferenceDataError
from niriss_eestep.instrument import DETECTOR_SIZE, DO_NOT_USE
from niriss_eestep.reference.guards import open_fits, read_once

Wheels = tuple[str | None, str | None]

#: metres per unit of a map of the wavefront
UNITS = {"m": 1.0, "meter": 1.0, "micron": 1e-6, "microns": 1e-6, "um": 1e-6, "nm": 1e-9, "nanometer": 1e-9}
#: wavefront of a telescope that makes images; beyond, the unit is another [m]
LARGEST_RMS = 2e-6

#: what a header says where a reference is for any value
ANY = ("", "ANY", "N/A")


@read_once
def read_region(
    path: Path, what: str, start: tuple[int, int], shape: tuple[int, int], wheels: Wheels, names: tuple[str, ...]
) -> dict[str, Array]:
    """Read a region of a reference's images.

    Parameters
    ----------
    path : str or Path
        FITS file of the full detector, or of the subarray that its SUBSTRT1 and SUBSTRT2 say.
    what : str
        What it should be, for messages.
    start : (int, int)
        Column and row of the region's first pixel on the detector, one-indexed.
    shape : (int, int)
        Rows and columns.
    wheels : (str or None, str or None)
        FILTER and PUPIL that it must be for, where it says what it is for; None for any.
    names : tuple of str
        Extensions to read.

    Returns
    -------
    dict of str to ndarray
        Those that the file has; smaller than asked for where it does not reach as far. DQ is 1 where DQ_DEF, else the
        usual bit, says DO_NOT_USE.

    Raises
    ------
    ReferenceDataError
        If the file holds no such image, or is of another kind, instrument, detector or filter.
    """
    found = {}
    with open_fits(path, what) as hdus:
        setup = zip(("INSTRUME", "DETECTOR", "FILTER", "PUPIL"), ("NIRISS", "NIS", *wheels), strict=True)
        for keyword, wanted in setup:
            # CRDS keeps the values of one that is for several in P_...
            said = str(hdus[0].header.get(f"P_{keyword[:6]}") or hdus[0].header.get(keyword) or "").strip().upper()
            if wanted is not None and said not in ANY and wanted not in said.split("|"):
                raise ReferenceDataError(
                    f"{path}: {what} of {keyword}={said}, where the exposure has {wanted}; give that of its own set-up"
                )
        said = str(hdus[0].header.get("REFTYPE") or "")
        if said and not any(kind in what and kind in said.lower() for kind in ("gain", "flat", "area")):
            raise ReferenceDataError(f"{path}: not {what}: its REFTYPE is {said}")
        x, y = (first - (hdus[0].header.get(f"SUBSTRT{axis}") or 1) for axis, first in enumerate(start, start=1))
        part = slice(max(y, 0), max(y + shape[0], 0)), slice(max(x, 0), max(x + shape[1], 0))
        for name in names:
            hdu = hdus[name] if name in hdus else hdus[0]
            if name == "SCI" and not (isinstance(hdu, (fits.PrimaryHDU, fits.ImageHDU)) and len(hdu.shape) == 2):
                raise ReferenceDataError(f"{path}: its extension {hdu.name} is not an image of the detector")
            if name in hdus or name == "SCI":
                found[name] = np.asarray(hdu.section[part])
        if "DQ" in found:
            rows = [(DO_NOT_USE, "DO_NOT_USE")]
            if "DQ_DEF" in hdus and len(hdus["DQ_DEF"].data):
                rows = list(zip(hdus["DQ_DEF"].data["VALUE"], hdus["DQ_DEF"].data["NAME"], strict=True))
            bits = sum(int(value) for value, flag in rows if flag == "DO_NOT_USE")
            found["DQ"] = (found["DQ"].astype(np.uint32) & np.uint32(bits)) != 0
    return {name: image.astype(np.float64) for name, image in found.items()}


def mean_gain(path: str | Path, subarray: Any) -> float:
    """Median gain over the pixels that an exposure read.

    Parameters
    ----------
    path : str or Path
        Gain reference (FITS image of the full detector, or of the subarray) [e-/DN].
    subarray : stdatamodels node
        The exposure's ``meta.subarray``; an absent origin is the detector's corner.

    Returns
    -------
    float
        [e-/DN].

    Raises
    ------
    ReferenceDataError
        If the file holds no gain image.
    """
    start = subarray.xstart or 1, subarray.ystart or 1
    shape = subarray.ysize or DETECTOR_SIZE, subarray.xsize or DETECTOR_SIZE
    image = read_region(path, "a gain reference", start, shape, (None, None), ("SCI",))["SCI"]
    good = image[np.isfinite(image) & (image > 0)]
    if good.size == 0:
        raise ReferenceDataError(f"{path}: no positive gain in the exposure's subarray")
    return float(np.median(good))


def flat_region(
    path: str | Path, what: str, start: tuple[int, int], shape: tuple[int, int], wheels: Wheels = (None, None)
) -> tuple[Array, Array]:
    """Flat field, or pixel area, of a stamp.

    Parameters
    ----------
    path : str or Path
    what, start, shape, wheels
        As for `read_region`.

    Returns
    -------
    value, err : ndarray
        NaN where the value is not positive or DO_NOT_USE, as jwst's flat_field takes them; the error is 0 where the
        file states none.

    Raises
    ------
    ReferenceDataError
        If the file does not hold the stamp's pixels, or is of another filter.
    """
    # through the mask an exposure has the flat field of its filter
    wheels = wheels[0], wheels[1] if wheels[1] != "NRM" else None
    found = read_region(path, what, start, shape, wheels, ("SCI", "ERR", "DQ"))
    value = found["SCI"]
    if value.shape != shape:
        raise ReferenceDataError(
            f"{path}: does not hold the {shape[1]}x{shape[0]} pixels from x={start[0]}, y={start[1]} of the detector "
            "(SUBSTRT1, SUBSTRT2): it is of another subarray"
        )
    unusable = ~(value > 0) | (found.get("DQ", np.zeros(shape)) > 0)
    return np.where(unusable, np.nan, value), np.nan_to_num(found.get("ERR", np.zeros(shape)))


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
    with open_fits(path, "map of the wavefront") as hdus:
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
