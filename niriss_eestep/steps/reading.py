"""Opening exposures, with errors that say what is wrong."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

from astropy.io import fits
from stdatamodels.jwst import datamodels

from niriss_eestep.exceptions import ExposureError

__all__ = ["open_exposure"]

log = logging.getLogger(__name__)

#: what stdatamodels, astropy and asdf raise on files that are missing, truncated, or something else
DAMAGE = (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, MemoryError)


def open_exposure(source):
    """Open an exposure's file as a JWST data model.

    Parameters
    ----------
    source : Path or DataModel
        A model is handed back.

    Returns
    -------
    DataModel

    Raises
    ------
    ExposureError
        If the file is missing or no JWST data model.
    """
    if not isinstance(source, Path):
        return source
    if source.suffix == ".asdf":
        from niriss_eestep import products

        return products.open(source)
    if not source.is_file():
        msg = f"{source}: no such file" if not source.exists() else f"{source}: not a file"
        raise ExposureError(msg)
    try:
        with warnings.catch_warnings():
            # a keyword of another version is no reason not to measure; what matters is checked when it is used
            warnings.simplefilter("ignore")
            _check_fits(source)
            return datamodels.open(source)
    except DAMAGE as error:
        msg = f"{source}: cannot be opened as a JWST data model: {type(error).__name__}: {str(error)[:200]}"
        raise ExposureError(msg) from error


def _check_fits(path):
    """Refuse what is no FITS image, before anything large is read."""
    size = path.stat().st_size
    if size == 0:
        msg = f"{path}: empty file"
        raise ExposureError(msg)
    with path.open("rb") as file:
        start = file.read(10)
    if not start.startswith(b"SIMPLE  =") and start[:2] != b"\x1f\x8b":
        msg = f"{path}: not a FITS file"
        raise ExposureError(msg)
    with fits.open(path, memmap=True) as hdus:
        if "SCI" not in hdus:
            msg = f"{path}: no SCI extension: not an image of the JWST pipeline"
            raise ExposureError(msg)
        for hdu in hdus:
            # declared size against the file's: a truncated file, or one that would exhaust the memory
            end = hdu.fileinfo()["datLoc"] + hdu.size
            if start[:2] != b"\x1f\x8b" and end > size:
                msg = (
                    f"{path}: truncated: extension {hdu.name or 'PRIMARY'} should reach byte {end}, the file has {size}"
                )
                raise ExposureError(msg)
