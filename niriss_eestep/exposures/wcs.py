"""Where the pixels of an image lie on the sky, how large they are there, and on which of them the target should be."""

import re
import warnings as python_warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from astropy.io.fits import Header
from astropy.time import Time
from astropy.wcs import WCS, NoConvergence

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ExposureError
from niriss_eestep.instrument import DETECTOR_SIZE, PIXEL_SOLID_ANGLE, SR_TO_ARCSEC2
from niriss_eestep.reference.stdspec import standard_star

#: keywords of a celestial WCS with SIP distortion (FITS standard 4.0, section 8; Shupe et al. 2005, ASPC 347, 491)
CARDS = re.compile(r"(crpix|crval|cdelt|ctype|cunit)[12]|(pc|cd)[12]_[12]|[ab]_(order|\d_\d)|lonpole|latpole|radesys")

#: side of the nominal pixel [arcsec]
NOMINAL_SIDE = float(np.sqrt(PIXEL_SOLID_ANGLE * SR_TO_ARCSEC2))

#: keywords may state another pixel scale than the WCS by this fraction, which is 2 % in a count rate
SCALE_TOLERANCE = 0.01
#: pixels within this fraction of the nominal side are the detector's: distortion changes them by less than 1 % (SIAF)
DISTORTION = 0.02
#: beyond this fraction a WCS does not belong to the detector's pixels, and finds no target on them
FOREIGN = 0.1

#: positions closer than this are one: the search for the star reaches further [pix]
SAME_PLACE = 2.0
#: gwcs and header of one exposure agree within this: a header without distortion is some pixels off at the edge [pix]
SAME_WCS = 10.0

DAYS_OF_YEAR, MJD_OF_2000 = 365.25, 51544.5

#: 'gwcs' or 'keywords'; the gwcs or `astropy.wcs.WCS`; ``to_sky(x, y)`` gives ra, dec [deg] at pixels, 0-indexed
Wcs = tuple[str, Any, Callable[..., Any]]
#: x, y [pix, 0-indexed] where the target may be, and how each was found
Places = list[tuple[float, float, str]]
#: warnings
Told = tuple[str, ...]


def image_wcs(name: str, model: Any, shape: tuple[int, ...]) -> tuple[list[Wcs], Told]:
    """Find the WCS of an image: its gwcs, if that belongs to an image of this size, else the header's.

    Tools that cut out a part of an image move the header's reference pixel, and leave the gwcs as it was
    (spacetelescope/gwcs#422, astropy/astropy#6911).

    Parameters
    ----------
    name : str
        The exposure, for messages.
    model : stdatamodels model
    shape : (int, int)
        The image's, (ny, nx).

    Returns
    -------
    found : list of (str, object, callable)
        The one to use, and the header's after a gwcs; empty where the image has none. Each is 'gwcs' or 'keywords', the
        WCS, and ``to_sky(x, y)``, which gives ra, dec [deg] at pixels, 0-indexed.
    warnings : tuple of str
        What was odd about it.

    Raises
    ------
    ExposureError
        If the header's keywords make no WCS, or the only WCS is another image's.
    """
    meta, header = model.meta, list[Wcs]()
    gwcs = meta.wcs if meta.hasattr("wcs") else None
    keys = {k: value for k, value in meta.wcsinfo.instance.items() if CARDS.fullmatch(k) and np.isscalar(value)}
    by_cd = all(f"cd{i}_{j}" in keys for i in (1, 2) for j in (1, 2))
    # one matrix: CDELT of 1 beside CD is what is left of an older one
    unwanted = r"(pc|cdelt).*" if by_cd else r"cd\d_.*"
    cards = {k.upper(): value for k, value in keys.items() if not re.fullmatch(unwanted, k)}
    sip = "-SIP" if "a_order" in keys and "b_order" in keys else ""
    for axis, default in ((1, "RA---TAN"), (2, "DEC--TAN")):
        cards[f"CTYPE{axis}"] = str(keys.get(f"ctype{axis}") or default).removesuffix("-SIP") + sip
        cards[f"CUNIT{axis}"] = keys.get(f"cunit{axis}") or "deg"
    needed = ("crpix", "crval") if by_cd else ("crpix", "crval", "cdelt")
    try:
        if all(f"{key}{axis}" in keys for key in needed for axis in (1, 2)):
            with python_warnings.catch_warnings():
                python_warnings.simplefilter("ignore")
                wcs = WCS(Header(cards), naxis=2, fix=False)
                wcs.wcs.set()
            header = [("keywords", wcs, lambda x, y: wcs.all_pix2world(x, y, 0))]
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # astropy's WcsError is a ValueError
        if gwcs is None:
            raise ExposureError(
                f"{name}: the WCS keywords are not a valid WCS ({str(error).strip().splitlines()[-1]}); "
                "give source_x and source_y"
            ) from error
    if gwcs is None:
        return header, ()
    nx, ny = meta.subarray.xsize, meta.subarray.ysize
    # a gwcs may have no bounding box, an endless one, or one of another structure: the subarray's size stands then
    with suppress(AttributeError, KeyError, NotImplementedError, ValueError, OverflowError):
        box = gwcs.bounding_box
        nx, ny = (round(box.intervals[axis].upper - box.intervals[axis].lower) for axis in (0, 1))
    if {nx, ny} == {None} or (ny, nx) == tuple(shape):
        return [("gwcs", gwcs, partial(gwcs, with_bounding_box=False)), *header], ()
    told = f"its gwcs is of an image of {nx}x{ny} pixels, SCI has {shape[1]}x{shape[0]}: a cut-out"
    if not header:
        raise ExposureError(
            f"{name}: {told}, and the header has no WCS (CRPIX, CRVAL, CD or PC); give source_x and source_y"
        )
    return header, (f"{told}; the WCS of the SCI header (CRPIX1, CRPIX2) is used",)


def target_positions(name: str, meta: Any, wcs: list[Wcs]) -> Places:
    """List the positions where the target may be.

    TARG_RA and TARG_DEC lacked the proper motion until 23 May 2023, and had 0.365 of it until the end of that year
    (spacetelescope/jwst#7697); what the header says later has it all. Where that matters, the star decides.

    Parameters
    ----------
    name : str
        The exposure, for messages.
    meta : stdatamodels node
        Its ``meta``.
    wcs : list
        From `image_wcs`.

    Returns
    -------
    list of (float, float, str)
        x, y [pix, 0-indexed] and how each was found, the header's own first; empty where no WCS or target is known.

    Raises
    ------
    ExposureError
        If the WCS cannot be inverted.
    """
    target, exposure = meta.target, meta.exposure
    # what the proposal says has no proper motion yet; a value that is missing becomes NaN
    stated = {
        "PROP_RA, PROP_DEC": np.array([target.proposer_ra, target.proposer_dec], dtype=float),
        "TARG_RA, TARG_DEC": np.array([target.ra, target.dec], dtype=float),
    }
    own = stated["TARG_RA, TARG_DEC"]
    if not wcs or not np.isfinite(own).all():
        return []
    # proper motion [arcsec/yr] by the header, else by the table of standard stars [mas/yr]
    mu, epoch = np.array([target.proper_motion_ra, target.proper_motion_dec], dtype=float), target.proper_motion_epoch
    if not np.isfinite(mu).all() or not mu.any():
        star = standard_star(target.proposer_name, target.catalog_name)
        mu, epoch = np.array([star["pm_ra"] or np.nan, star["pm_dec"] or np.nan], dtype=float) / 1000, None
    mjd = next((m for m in (exposure.mid_time, exposure.mid_time_mjd, exposure.start_time) if m and m == m), np.nan)
    # an epoch that is a year, such as J2000.0, or a date; or missing
    year, start = re.fullmatch(r"\s*[JB]?(\d{4}(\.\d*)?)\s*", str(epoch or "2000.0")), MJD_OF_2000
    with suppress(ValueError):
        start = start + (float(year[1]) - 2000) * DAYS_OF_YEAR if year else float(Time(str(epoch).strip()).mjd)
    years = (mjd - start) / DAYS_OF_YEAR
    # by which WCS each is to be found, how it was, and how far from the others it is another [pix]
    wanted = [(wcs[0], own, wcs[0][0], 0.0)]
    wanted += [(other, own, "keywords, which disagree with the gwcs", SAME_WCS) for other in wcs[1:]]
    for keywords, (ra, dec) in stated.items():
        moved = np.array([ra + mu[0] * years / 3600 / np.cos(np.deg2rad(dec)), dec + mu[1] * years / 3600])
        wanted.append((wcs[0], moved, f"{keywords} with the proper motion of {years:.1f} years", SAME_PLACE))
    found: Places = []
    for (kind, by, _), there, how, apart in wanted:
        if not np.isfinite(there).all():
            continue
        try:
            place = by.invert(*there, with_bounding_box=False) if kind == "gwcs" else by.all_world2pix(*there, 0)
            x, y = map(float, place)
        except NoConvergence:  # far outside, where the distortion is not defined
            x, y = map(float, by.wcs_world2pix(*there, 0))
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            # whatever its transforms raise
            raise ExposureError(
                f"{name}: its WCS cannot be inverted ({type(error).__name__}: {error}); give source_x and source_y"
            ) from error
        if not found and not np.isfinite([x, y]).all():
            return []
        if np.isfinite([x, y]).all() and all(np.hypot(x - other[0], y - other[1]) > apart for other in found):
            found.append((x, y, how))
    return found


def pixel_size(name: str, meta: Any, to_sky: Any, x: float, y: float, *, given: bool = False) -> tuple[Any, Told]:
    """Find the size of an image's pixels at a position: by its WCS, else by the keywords.

    Parameters
    ----------
    name : str
        The exposure, for messages.
    meta : stdatamodels node
        Its ``meta``.
    to_sky : callable, or None
        Of its WCS; see `image_wcs`.
    x, y : float
        [pix, 0-indexed].
    given : bool
        The position is the user's, and needs no WCS.

    Returns
    -------
    size : dict
        Of `niriss_eestep.exposures.cut.Field`: ``scale``, ``ratio``, ``resampled`` and ``pixar_sr``.
    warnings : tuple of str
        Keywords that say otherwise.

    Raises
    ------
    ExposureError
        If a resampled image does not say how large its pixels are, or a count-rate image's WCS is not the detector's.
    """
    resampled = meta.cal_step.resample == "COMPLETE" or meta.resample.pixel_scale_ratio is not None
    area = meta.photometry.pixelarea_steradians
    stated = {"PXSCLRT": meta.resample.pixel_scale_ratio}
    stated["PIXAR_SR"] = float(np.sqrt(area / PIXEL_SOLID_ANGLE)) if area and 0 < area < np.inf else None
    warnings: Told = ()
    ratio = np.nan
    if to_sky is not None:
        ra, dec = to_sky(np.array([x, x + 1, x]), np.array([y, y, y + 1]))
        right = (np.asarray(ra[1:] - ra[0]) + 180) % 360 - 180
        u, v = 3600 * right * np.cos(np.deg2rad(dec[0])), 3600 * np.asarray(dec[1:] - dec[0])
        ratio = float(abs(u[0] * v[1] - u[1] * v[0])) ** 0.5 / NOMINAL_SIDE
    is_known, scale = 0 < ratio < np.inf, ratio * NOMINAL_SIDE
    told = f"its WCS has {scale:.4g} arcsec/pix, NIRISS's pixels {NOMINAL_SIDE:.4g}"
    if resampled:
        if not is_known:
            ratio = _stated_ratio(name, stated)
            scale, warnings = ratio * NOMINAL_SIDE, ("no WCS: the pixel scale is the one that its keywords state",)
    elif not is_known:
        scale, ratio = NOMINAL_SIDE, 1.0
    elif abs(ratio - 1) <= DISTORTION:
        ratio = 1.0
    elif "sr" in str(meta.bunit_data):
        resampled, warnings = True, (f"{told}: taken as resampled, though S_RESAMP does not say so",)
    elif abs(ratio - 1) > FOREIGN and not given:
        raise ExposureError(
            f"{name}: {told}: a count-rate image of the detector's own pixels is expected; correct CDELT, PC or CD in "
            "the SCI header (or S_RESAMP, if it is resampled), or give source_x and source_y"
        )
    else:
        scale, ratio = NOMINAL_SIDE, 1.0
        warnings = (f"{told}: taken as the detector's own pixels; correct CDELT, PC or CD",)
    odd = [key for key, value in stated.items() if value and not abs(value / ratio - 1) <= SCALE_TOLERANCE]
    if odd:
        says = ", ".join(f"{key} says {stated[key] * NOMINAL_SIDE:.4g} arcsec/pix" for key in odd)
        warnings += (f"{says}, and the image has {ratio * NOMINAL_SIDE:.4g}, which is used; correct {', '.join(odd)}",)
    area = PIXEL_SOLID_ANGLE if odd or ratio != 1 else None
    return {"scale": scale, "ratio": ratio, "resampled": resampled, "pixar_sr": area}, warnings


def _stated_ratio(name: str, stated: dict[str, float | None]) -> float:
    """Ratio of the pixels' sides that the keywords of a resampled image state, if they agree."""
    told, values = f"{name}: a resampled image without WCS", [v for v in stated.values() if v and 0 < v < np.inf]
    if not values:
        raise ExposureError(
            f"{told}, PXSCLRT and PIXAR_SR: the size of its pixels is not known; give it a WCS (CRPIX, CRVAL, CD), or "
            "PXSCLRT"
        )
    if max(values) / min(values) > 1 + SCALE_TOLERANCE:
        says = ", ".join(f"{key} {value:.4g} detector pixels" for key, value in stated.items() if value)
        raise ExposureError(f"{told}, whose keywords disagree about the pixels' size: {says}; correct the wrong one")
    return values[0]


def relative_area(to_sky: Callable[..., Any], subarray: Any, window: tuple[slice, slice]) -> Array:
    """Areas of pixels on the sky over that of the detector's central one, by the distortion in the gwcs.

    Parameters
    ----------
    to_sky : callable
        Of the gwcs; see `image_wcs`.
    subarray : stdatamodels node
        The exposure's ``meta.subarray``.
    window : (slice, slice)
        Rows and columns.

    Returns
    -------
    ndarray, shape (ny, nx)
    """
    # number of the exposure's first pixel on the detector, from 1
    start = [[[subarray.ystart or 1]], [[subarray.xstart or 1]]]
    centre = np.mgrid[:2, :2] + (DETECTOR_SIZE - 1) / 2 - start + 1
    areas = []
    for y, x in (np.mgrid[window[0].start : window[0].stop + 1, window[1].start : window[1].stop + 1], centre):
        ra, dec = (np.asarray(axis, dtype=float) for axis in to_sky(x - 0.5, y - 0.5))
        ra = (ra - ra[0, 0] + 180) % 360 - 180
        # each pixel by the diagonals between its corners
        (u1, u2), (v1, v2) = ((a[1:, 1:] - a[:-1, :-1], a[1:, :-1] - a[:-1, 1:]) for a in (ra, dec))
        areas.append(np.abs(u1 * v2 - u2 * v1) * np.cos(np.deg2rad((dec[1:, 1:] + dec[:-1, :-1]) / 2)))
    area = areas[0] / areas[1]
    return np.ones_like(area) if np.all(np.abs(area - 1) < 1e-6) else area
