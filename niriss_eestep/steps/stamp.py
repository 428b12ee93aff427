"""From a JWST DataModel to the stamp around the star."""

from __future__ import annotations

import numpy as np
from stdatamodels.jwst.datamodels import dqflags

from niriss_eestep.exceptions import ExposureError, ParameterError
from niriss_eestep.measure.centroid import find_star
from niriss_eestep.measure.exposure import StarExposure
from niriss_eestep.reference.facts import FILTERS, PIXEL_SCALE

__all__ = ["bad_dq_mask", "check_exposure", "first_position", "image_scale", "science_filter", "star_exposure"]

#: exposure types in which a star is imaged through the filters alone
EXP_TYPES = ("NIS_IMAGE",)

RATE_UNITS = ("DN/s", "DN / s")
SB_UNITS = ("MJy/sr", "MJy / sr")


def bad_dq_mask(mnemonics):
    """Translate DQ mnemonics to bits.

    Parameters
    ----------
    mnemonics : str or sequence of str
        Such as 'DO_NOT_USE, NON_SCIENCE'.

    Returns
    -------
    int

    Raises
    ------
    ParameterError
        If one is not a JWST pixel flag.
    """
    names = mnemonics.replace("+", ",").split(",") if isinstance(mnemonics, str) else list(mnemonics)
    mask = 0
    for name in (str(n).strip().upper() for n in names):
        if name in ("", "NONE"):
            continue
        if name not in dqflags.pixel:
            msg = f"bad_dq: {name!r} is not a JWST data-quality flag; these are {', '.join(dqflags.pixel)}"
            raise ParameterError(msg)
        mask |= dqflags.pixel[name]
    return mask


def science_filter(filter_wheel, pupil_wheel):
    """Name the science filter, whichever wheel holds it.

    Parameters
    ----------
    filter_wheel, pupil_wheel : str
        FILTER and PUPIL of the header.

    Returns
    -------
    str or None
        F090W ... F480M; None for other combinations (grisms, NRM, opaque).
    """
    for name, facts in FILTERS.items():
        if (filter_wheel, pupil_wheel) == (facts.header_filter, facts.header_pupil):
            return name
    return None


def check_exposure(name, meta, *, allow_nrm=False):
    """Refuse an exposure that is not NIRISS imaging of a star.

    Parameters
    ----------
    name : str
        The exposure, for the message.
    meta : stdatamodels node
        Its ``meta``.
    allow_nrm : bool
        Accept the non-redundant mask.

    Returns
    -------
    str
        The science filter.

    Raises
    ------
    ExposureError
        Naming the exposure, the keyword and its value.
    """
    instrument = meta.instrument.name
    if instrument != "NIRISS":
        msg = f"{name}: instrument is {instrument}; this pipeline measures NIRISS imaging"
        raise ExposureError(msg)
    if meta.exposure.type not in EXP_TYPES:
        msg = f"{name}: EXP_TYPE is {meta.exposure.type}; this pipeline measures {', '.join(EXP_TYPES)}"
        raise ExposureError(msg)
    if meta.target.type == "MOVING":
        msg = f"{name}: TARGTYPE is MOVING; a flux standard does not move"
        raise ExposureError(msg)
    wheels = (meta.instrument.filter, meta.instrument.pupil)
    if wheels[1] == "NRM":
        if allow_nrm and wheels[0] in FILTERS:
            return wheels[0]
        msg = f"{name}: the pupil wheel holds the NRM, whose PSF is another; allow_nrm=True measures it all the same"
        raise ExposureError(msg)
    found = science_filter(*wheels)
    if found is None:
        msg = f"{name}: FILTER={wheels[0]}, PUPIL={wheels[1]} is none of the NIRISS imaging set-ups"
        raise ExposureError(msg)
    return found


def image_scale(name, meta):
    """Factor that brings an image to DN/s, and the exposure's flux calibration.

    Parameters
    ----------
    name : str
    meta : stdatamodels node

    Returns
    -------
    factor : float
        1 for a count-rate image; 1/PHOTMJSR for a surface-brightness image.
    photmjsr : float or None
        [MJy/sr per DN/s].

    Raises
    ------
    ExposureError
        If the unit is another, or PHOTMJSR is missing.
    """
    unit = meta.bunit_data
    photmjsr = meta.photometry.conversion_megajanskys
    if photmjsr is not None and not (np.isfinite(photmjsr) and photmjsr > 0):
        photmjsr = None
    if unit in RATE_UNITS:
        return 1.0, photmjsr
    if unit in SB_UNITS:
        if photmjsr is None:
            msg = f"{name}: image in {unit} without a usable PHOTMJSR ({meta.photometry.conversion_megajanskys})"
            raise ExposureError(msg)
        return 1.0 / photmjsr, photmjsr
    msg = f"{name}: BUNIT is {unit!r}; count rates [DN/s] and surface brightnesses [MJy/sr] can be measured"
    raise ExposureError(msg)


def pixel_scale(meta):
    """Mean pixel scale [arcsec/pix]: of the header's WCS, of its pixel area, else the nominal one."""
    steps = meta.wcsinfo.cdelt1, meta.wcsinfo.cdelt2
    areas = [3600**2 * abs(steps[0] * steps[1])] if None not in steps else []
    areas.append(meta.photometry.pixelarea_arcsecsq or 0.0)
    return next((float(np.sqrt(area)) for area in areas if 0 < area < np.inf), PIXEL_SCALE)


def _by_gwcs(name, wcs, ra, dec):
    """Position of a point of the sky by the gwcs."""
    try:
        x, y = wcs.invert(ra, dec, with_bounding_box=False)
        return float(x), float(y)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # whatever its transforms raise
        msg = f"{name}: its WCS cannot be inverted ({type(error).__name__}: {error}); give source_x and source_y"
        raise ExposureError(msg) from error


def _by_keywords(name, info, ra, dec):
    """Position of a point of the sky by the FITS keywords in meta.wcsinfo; None where they are not all there."""
    from astropy.wcs import WCS

    keys = [f"{key}{axis}" for key in ("crpix", "crval", "cdelt") for axis in (1, 2)]
    keys += [f"pc{i}_{j}" for i in (1, 2) for j in (1, 2)]
    values = {key: getattr(info, key) for key in keys}
    if any(value is None for value in values.values()):
        return None
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [info.ctype1 or "RA---TAN", info.ctype2 or "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    for key in ("crpix", "crval", "cdelt"):
        setattr(wcs.wcs, key, [values[f"{key}1"], values[f"{key}2"]])
    wcs.wcs.pc = [[values["pc1_1"], values["pc1_2"]], [values["pc2_1"], values["pc2_2"]]]
    try:
        x, y = wcs.wcs_world2pix([[ra, dec]], 0)[0]
    except (TypeError, ValueError) as error:  # astropy's WcsError is a ValueError
        msg = f"{name}: the WCS keywords make no WCS ({error}); give source_x and source_y"
        raise ExposureError(msg) from error
    return float(x), float(y)


def first_position(name, model, data, bad_at):
    """First position of the star: the target through the WCS, else the brightest compact source.

    Parameters
    ----------
    name : str
    model : stdatamodels model
    data : ndarray, shape (ny, nx)
    bad_at : callable
        Gives the bad pixels of the whole image; called only to look for the brightest source.

    Returns
    -------
    x, y : float
        0-indexed [pix].
    how : str
        'gwcs', 'keywords' or 'brightest'.

    Raises
    ------
    ExposureError
        If the target falls outside the image, or there is no source.
    """
    ra, dec = model.meta.target.ra, model.meta.target.dec
    found, how = None, ""
    if ra is not None and dec is not None:
        if model.meta.hasattr("wcs") and model.meta.wcs is not None:
            found, how = _by_gwcs(name, model.meta.wcs, ra, dec), "gwcs"
        else:
            found, how = _by_keywords(name, model.meta.wcsinfo, ra, dec), "keywords"
    if found is None or not np.all(np.isfinite(found)):
        return (*find_star(np.asarray(data, dtype=float), bad_at()), "brightest")
    ny, nx = data.shape
    if not (-0.5 <= found[0] <= nx - 0.5 and -0.5 <= found[1] <= ny - 0.5):
        msg = (
            f"{name}: by its WCS ({how}) the target falls on x={found[0]:.1f}, y={found[1]:.1f}, outside the "
            f"{nx}x{ny} image; give source_x and source_y if the WCS is wrong"
        )
        raise ExposureError(msg)
    return *found, how


def _variance(model, cut, scale):
    """Sum of the variances within a cut, and what was odd: [(DN/s)^2]."""
    terms = [getattr(model, key) for key in ("var_poisson", "var_rnoise", "var_flat") if model.hasattr(key)]
    shape = model.data.shape
    terms = [term for term in terms if term is not None and term.shape == shape]
    err = model.err if model.hasattr("err") and model.err is not None and model.err.shape == shape else None
    warnings = []
    if len(terms) >= 2:
        total = np.sum([np.asarray(term[cut], dtype=float) for term in terms], axis=0)
        usable = np.isfinite(total) & np.all([~(np.asarray(term[cut]) < 0) for term in terms], axis=0)
        if err is not None and not usable.all():
            # a pixel that lost its variances may still have its error
            total = np.where(usable, total, np.square(np.asarray(err[cut], dtype=float)))
        elif not usable.all():
            total = np.where(usable, total, np.nan)
    elif err is not None:
        warnings.append("no variance arrays: the errors are from ERR")
        total = np.square(np.asarray(err[cut], dtype=float))
    else:
        warnings.append("neither variances nor ERR: the errors are unknown")
        total = np.zeros(model.data[cut].shape)
    return total * scale**2, tuple(warnings)


def _flags(name, model):
    """DQ array of the model; None where it has none."""
    dq = model.dq if model.hasattr("dq") else None
    if dq is None:
        return None
    if dq.shape != model.data.shape:
        msg = f"{name}: DQ has shape {dq.shape}, SCI has {model.data.shape}"
        raise ExposureError(msg)
    if dq.dtype.kind not in "ui":
        msg = f"{name}: DQ is {dq.dtype}; flags are integers"
        raise ExposureError(msg)
    return dq


def star_exposure(
    name, model, *, half_size, bad_dq, gain, position=None, allow_nrm=False
):  # shape (ny, nx) images only; cubes are split before
    """Cut the stamp around the star out of an exposure.

    Parameters
    ----------
    name : str
    model : stdatamodels model
        Two-dimensional image with its metadata; not changed.
    half_size : int
        The stamp reaches this far from the first position [pix].
    bad_dq : int
        DQ bits that make a pixel bad.
    gain : float
        [e-/DN].
    position : (float, float), optional
        First position of the star, 0-indexed; found by `first_position` if not given.
    allow_nrm : bool
        Accept the non-redundant mask.

    Returns
    -------
    StarExposure

    Raises
    ------
    ExposureError
        Naming the exposure and what is wrong with it.
    """
    check_exposure(name, model.meta, allow_nrm=allow_nrm)
    data = model.data
    if data is None or data.ndim != 2 or 0 in data.shape:
        msg = f"{name}: SCI has shape {None if data is None else data.shape}; an image is needed"
        raise ExposureError(msg)
    scale, photmjsr = image_scale(name, model.meta)
    dq = _flags(name, model)

    def bad_at(cut=...):
        flagged = ~np.isfinite(data[cut])
        return flagged if dq is None else flagged | ((dq[cut].astype(np.uint32) & np.uint32(bad_dq)) != 0)

    if position is None:
        x, y, how = first_position(name, model, data, bad_at)
    else:
        (x, y), how = position, "given"
    ny, nx = data.shape
    if not (-0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5):
        msg = f"{name}: source_x={x:g}, source_y={y:g} lies outside the {nx}x{ny} image (0-indexed)"
        raise ExposureError(msg)
    i0, j0 = max(0, round(x) - half_size), max(0, round(y) - half_size)
    cut = (slice(j0, min(ny, round(y) + half_size + 1)), slice(i0, min(nx, round(x) + half_size + 1)))
    variance, warnings = _variance(model, cut, scale)
    bad = bad_at(cut) | ~np.isfinite(variance) | (variance < 0)
    if dq is None:
        warnings += ("no DQ array: only pixels without a value are taken as bad",)
    if how == "brightest":
        warnings += ("no WCS or target coordinates: the star is the brightest compact source",)
    return StarExposure(
        name=name,
        image=np.asarray(data[cut], dtype=float) * scale,
        variance=variance,
        dq=np.zeros(bad.shape, np.uint32) if dq is None else dq[cut].astype(np.uint32),
        bad=bad,
        x=x,
        y=y,
        x_origin=i0,
        y_origin=j0,
        pixel_scale=pixel_scale(model.meta),
        gain=gain,
        photmjsr=photmjsr,
        warnings=warnings,
    )
