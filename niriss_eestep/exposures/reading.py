"""Opening exposures, with errors that say what is wrong."""

from __future__ import annotations

import warnings
from pathlib import Path

from stdatamodels.jwst import datamodels

from niriss_eestep.errors import ExposureError, reading
from niriss_eestep.exposures.fits_image import check_metadata, exposure_extensions, fits_image
from niriss_eestep.guards.fits_file import SIZE_MAX
from niriss_eestep.products.models import open as open_product

__all__ = ["open_exposure"]


def open_exposure(source, max_size=SIZE_MAX, *, whole=False):
    """Open an exposure's file as a JWST data model.

    Parameters
    ----------
    source : Path or DataModel
        A model is handed back.
    max_size : float
        Largest exposure that is opened, when unpacked [MB].
    whole : bool
        Read the arrays, so that the model can be changed, copied and saved.

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
        return open_product(source)
    with reading(source, "a JWST exposure", ExposureError), warnings.catch_warnings():
        # a keyword of another version is no reason not to measure; what matters is checked when it is used
        warnings.simplefilter("ignore")
        extensions = exposure_extensions(source, max_size)
        model = None if whole else fits_image(source, extensions)
        if model is None:
            model = datamodels.open(source)
            check_metadata(source, model._instance)
    _check_set_up(source, extensions[0].header, model.meta)
    return model


def _check_set_up(source, header, meta):
    """Refuse keywords that the data model does not take.

    stdatamodels drops a value that is none of JWST's with a warning, and falls back on what the ASDF extension says: an
    exposure behind an unknown filter would be measured as one behind another.
    """
    found = {
        "INSTRUME": meta.instrument.name,
        "FILTER": meta.instrument.filter,
        "PUPIL": meta.instrument.pupil,
        "EXP_TYPE": meta.exposure.type,
    }
    for keyword, taken in found.items():
        value = header.get(keyword)
        if isinstance(value, str) and value.strip() and value.strip() != taken:
            raise ExposureError(
                f"{source.name}: {keyword} is {value.strip()!r}, which is no value of JWST's; correct the header"
            )
