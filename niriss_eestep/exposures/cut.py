"""From a JWST DataModel to the stamp around the star: what it shows, where the star is, and where else it may be."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from stdatamodels.jwst.datamodels import dqflags

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.errors import ExposureError, ParameterError, ReferenceDataError, reading
from niriss_eestep.exposures.inputs import ARRAYS
from niriss_eestep.exposures.wcs import Places, Told, image_wcs, pixel_size, relative_area, target_positions
from niriss_eestep.instrument import FILTERS
from niriss_eestep.measure.background import MAD_TO_STD
from niriss_eestep.measure.position import FAR, Centroid, find_sources, find_star, source_at, the_star
from niriss_eestep.measure.stamp import Stamp
from niriss_eestep.measure.star_model import without_dead
from niriss_eestep.reference.psf import load_psfee
from niriss_eestep.reference.region import flat_region
from niriss_eestep.reference.stdspec import expected_of_first, find_spectrum_files, load_throughput

log = logging.getLogger(__name__)

#: exposure types in which a star may be imaged through the filters alone; FILTER and PUPIL say whether it was
EXP_TYPES = ("NIS_IMAGE", "NIS_EXTCAL", "NIS_AMI", "NIS_TACQ", "NIS_TACONFIRM")

RATE_UNITS = ("DN/s", "DN / s")
SB_UNITS = ("MJy/sr", "MJy / sr")
VARIANCES = ("var_poisson", "var_rnoise", "var_flat")

#: the star is looked for this far from each position where the target may be [pix]
SEARCH_RADIUS = 5.0
#: another position than the header's is believed where its source is brighter by this factor
BRIGHTER = 3.0
#: a target this far off the image at most may still be on it, its coordinates being without proper motion; a star that
#: is not where it should be is looked for this far off: proper motions of standards come to 140 pix in 20 years [pix]
REACH = 150
#: a source this near to the one measured is the same [pix]
SAME = 3.0

#: an image's arrays, each of shape (ny, nx), by their names in the data model
Layers = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """What an exposure shows, and where in it the star should be.

    Parameters
    ----------
    images : list of dict of str to ndarray, shape (ny, nx)
        By their names in the data model; one for an image, one for each integration of a cube.
    target, filter : str
        The star, and the science filter, F090W ... F480M, whichever wheel holds it.
    flat_fielded : bool
        The image has been divided by a flat field.
    bad_dq : int
        DQ bits that make a pixel bad.
    x, y : float
        First position of the star [pix of the image, 0-indexed].
    to_sky : callable, or None
        ``to_sky(x, y)`` gives ra, dec [deg] by the gwcs, which knows the detector's distortion; None where there is
        none.
    scale : float
        Side of a pixel [arcsec].
    ratio : float
        Side over that of the detector's pixels; 1 for these.
    resampled : bool
        The image has other pixels than the detector's.
    pixar_sr : float or None
        Area that the flux calibration goes with [sr]; None where the header's own is right.
    warnings : tuple of str
        What is odd about the exposure as a whole.
    outside : str
        By the WCS the target is not on the image, and the first position is the nearest on it: what to say of it.
    places : sequence of (float, float, str)
        Where the header says that the target may be; see `target_positions`.
    """

    images: list[Layers]
    target: str
    filter: str
    flat_fielded: bool
    bad_dq: int
    x: float
    y: float
    to_sky: Callable[..., Any] | None
    scale: float
    ratio: float
    resampled: bool
    pixar_sr: float | None
    warnings: Told
    outside: str = ""
    places: Sequence[tuple[float, float, str]] = ()


def bad_dq_mask(mnemonics: str | Sequence[str]) -> int:
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

    Examples
    --------
    >>> bad_dq_mask("DO_NOT_USE, SATURATED")
    3
    """
    entries = [mnemonics] if isinstance(mnemonics, str) else map(str, mnemonics)
    names = [name.strip().upper() for name in ",".join(entries).replace("+", ",").split(",")]
    bits = {"": 0, "NONE": 0, **dqflags.pixel}
    odd = next((name for name in names if name not in bits), None)
    if odd is not None:
        raise ParameterError(f"bad_dq: {odd!r} is not a JWST data-quality flag; these are {', '.join(dqflags.pixel)}")
    return sum({bits[name] for name in names})


def check_exposure(name: str, model: Any, *, allow_nrm: bool = False) -> tuple[str, list[Layers]]:
    """Take an exposure apart, which must be NIRISS imaging of a star.

    Parameters
    ----------
    name : str
        The exposure, for the message.
    model : stdatamodels model
    allow_nrm : bool
        Accept the non-redundant mask.

    Returns
    -------
    filter : str
        F090W ... F480M, whichever wheel holds it.
    images : list of dict of str to ndarray, shape (ny, nx)
        As for `Field`: those of `ARRAYS` that there are.

    Raises
    ------
    ExposureError
        Naming the exposure, the keyword and its value; or if there is no image, or DQ has another shape or is not made
        of flags.
    """
    meta = model.meta
    instrument, kind, wheels = meta.instrument.name, meta.exposure.type, (meta.instrument.filter, meta.instrument.pupil)
    of_star: Any = next((key for key, f in FILTERS.items() if wheels == (f.header_filter, f.header_pupil)), None)
    if wheels[1] == "NRM" and allow_nrm and wheels[0] in FILTERS:
        of_star = wheels[0]
    mask = "the pupil wheel holds the NRM, which has a different PSF; allow_nrm=True measures it anyway"
    problems = {
        f"instrument is {instrument}; this pipeline measures NIRISS imaging": instrument != "NIRISS",
        f"EXP_TYPE is {kind}; this pipeline measures {', '.join(EXP_TYPES)}; if a star was imaged through a filter, "
        "set EXP_TYPE to NIS_IMAGE": kind not in EXP_TYPES,
        "TARGTYPE is MOVING; a flux standard does not move": meta.target.type == "MOVING",
        mask: wheels[1] == "NRM" and of_star is None,
        f"FILTER={wheels[0]}, PUPIL={wheels[1]} is not a NIRISS imaging set-up (None: missing, or not a value that "
        "JWST uses)": of_star is None,
    }
    for told, applies in problems.items():
        if applies:
            raise ExposureError(f"{name}: {told}")
    with reading(name, "a JWST exposure", ExposureError):
        arrays = {key: getattr(model, key) for key in ARRAYS if model.hasattr(key)}
    data, dq = arrays.get("data"), arrays.get("dq")
    if data is None or data.ndim not in (2, 3) or 0 in data.shape:
        shape, ramps = None if data is None else data.shape, getattr(data, "ndim", 0) == 4
        needed = "run calwebb_detector1 first and give its _rate file" if ramps else "an image or a cube is needed"
        raise ExposureError(f"{name}: SCI has shape {shape}{' (ramps)' if ramps else ''}: {needed}")
    shapes = dict.fromkeys(ARRAYS, data.shape) | {"area": data.shape[-2:]}
    found = {key: array for key, array in arrays.items() if array is not None and array.shape == shapes[key]}
    # a resampled image has weights in the place of flags; a DQ array that its model makes up is all zero
    if "wht" in found:
        found.pop("dq", None)
    elif dq is not None:
        if dq.shape not in (data.shape, data.shape[1:]):
            raise ExposureError(f"{name}: DQ has shape {dq.shape}, SCI has {data.shape}")
        if dq.dtype.kind not in "ui":
            raise ExposureError(f"{name}: DQ is {dq.dtype}; flags are integers")
        found["dq"] = dq
    if "err" in found and not any(key in found for key in VARIANCES) and not np.any(found["err"]):
        # what a cube's model makes up beside an SCI that stands alone
        del found["err"]
        if "dq" in found and not np.any(dq):
            del found["dq"]
    if data.ndim == 2:
        return of_star, [found]
    each = [{key: array if array.ndim == 2 else array[k] for key, array in found.items()} for k in range(len(data))]
    return of_star, each


# a damaged number of any kind becomes NaN or infinite, and its pixel bad
@np.errstate(invalid="ignore", over="ignore")
def star_field(name: str, model: Any, *, bad_dq: int, position: Any = None, allow_nrm: bool = False) -> Field:
    """Find the star in an exposure.

    Parameters
    ----------
    name : str
    model : stdatamodels model
        Image, or cube of integrations, with its metadata; not changed.
    bad_dq : int
        DQ bits that make a pixel bad.
    position : (float, float), optional
        First position of the star, 0-indexed; by default the target's by the WCS, else the brightest compact source.
    allow_nrm : bool
        Accept the non-redundant mask.

    Returns
    -------
    Field

    Raises
    ------
    ExposureError
        Naming the exposure and what is wrong with it.
    """
    if hasattr(model, "kind"):
        raise ExposureError(
            f"{name}: is a product ({type(model).__name__}), not an exposure; give _rate, _cal or _rateints files"
        )
    meta = model.meta
    filter_name, images = check_exposure(name, model, allow_nrm=allow_nrm)
    # a surface brightness is taken as flat-fielded where nothing is said
    state, unit = meta.cal_step.flat_field, meta.bunit_data
    flat_fielded = state == "COMPLETE" or (state is None and unit in SB_UNITS)
    ny, nx = images[0]["data"].shape
    wcs, told = image_wcs(name, model, (ny, nx))
    places = target_positions(name, meta, wcs) if position is None else [(*position, "as given")]
    inside = [place for place in places if -0.5 <= place[0] <= nx - 0.5 and -0.5 <= place[1] <= ny - 0.5]
    if position is not None and not inside:
        x, y = position
        raise ExposureError(f"{name}: source_x={x:g}, source_y={y:g} lies outside the {nx}x{ny} image (0-indexed)")
    warnings: Told = ()
    (x, y), outside = places[0][:2] if places else (np.nan, np.nan), ""
    if not len(places) == len(inside) == 1:
        x, y, outside, warnings = _first_position(name, images[0], bad_dq, places, inside)
    how, _, to_sky = wcs[0] if wcs else ("", None, None)
    size, odd = pixel_size(name, meta, to_sky, x, y, given=position is not None)
    if size["resampled"]:
        warnings += (
            f"resampled to pixels {size['ratio']:.3g} times the detector's: its PSF is broader; prefer _cal images",
        )
    if "dq" not in images[0] and "wht" not in images[0]:
        warnings += ("no DQ array: only pixels without a value are taken as bad",)
    target = meta.target.proposer_name or meta.target.catalog_name or ""
    return Field(
        images, target, filter_name, flat_fielded, bad_dq, x, y, to_sky if how == "gwcs" else None,
        **size, warnings=told + odd + warnings, outside=outside, places=places,
    )  # fmt: skip


def bad_pixels(image: Layers, bad_dq: int, window: Any = ...) -> Mask:
    """Find the pixels that cannot be used: a chosen flag, a reference pixel, no value, or no weight.

    Parameters
    ----------
    image : dict of str to ndarray
        One of those of `Field`.
    bad_dq : int
        DQ bits that make a pixel bad.
    window : (slice, slice), optional
        Rows and columns.

    Returns
    -------
    ndarray of bool
    """
    data = image["data"][window]
    bad = ~np.isfinite(data)
    if "dq" in image:
        dq = image["dq"][window].astype(np.uint32)
        # saturated from the first group on: the ramp fit has nothing to fit
        saturated, reference = (np.uint32(dqflags.pixel[name]) for name in ("SATURATED", "REFERENCE_PIXEL"))
        bad |= ((dq & (np.uint32(bad_dq) | reference)) != 0) | (((dq & saturated) != 0) & (data == 0))
    if "wht" in image:
        bad |= ~(image["wht"][window] > 0)
    return bad


def _first_position(
    name: str, image: Layers, bad_dq: int, positions: Places, inside: Places
) -> tuple[float, float, str, Told]:
    """First position of the star where it is not clear: among several, of which some are on the image, or none.

    Gives what to say of a target that is not on the image, and what is odd about it.
    """
    if not positions:
        place = find_star(np.asarray(image["data"], dtype=float), bad_pixels(image, bad_dq))
        return (*place, "", ("no WCS or target coordinates: the star is the brightest compact source",))
    if not inside:
        (ny, nx), (x, y, how) = image["data"].shape, positions[0]
        outside = f"by its WCS ({how}) the target falls on x={x:.1f}, y={y:.1f}, outside the {nx}x{ny} image"
        nearest = float(np.clip(x, 0, nx - 1)), float(np.clip(y, 0, ny - 1))
        if np.hypot(x - nearest[0], y - nearest[1]) > REACH:
            raise ExposureError(f"{name}: {outside}; give source_x and source_y if the WCS is wrong")
        return (*nearest, outside, ())
    # of several positions where the target may be, the one where a star is; the header's own if both have one
    own, bad = positions[0], bad_pixels(image, bad_dq)
    found: list[tuple[float, float, float, tuple[float, float, str]]] = []
    data = np.where(bad, np.nan, np.asarray(image["data"], dtype=float))
    for there in inside:
        try:
            i, j = find_star(data, bad, near=there[:2], radius=SEARCH_RADIUS)
        except ExposureError:
            found.append((0.0, *there[:2], there))
            continue
        around, box = (data[max(0, j - n) : j + n + 1, max(0, i - n) : i + n + 1] for n in (10, 1))
        found.append((max(0.0, float(np.nanmean(box) - np.nanmedian(around))), i, j, there))
    best = max(found, key=lambda source: source[0])
    if inside[0] is own and best[0] <= BRIGHTER * found[0][0]:
        best = found[0]
    light, at_x, at_y, (x, y, how) = best
    # the same source may stand near several of the positions
    apart = [s for s in found if np.hypot(s[1] - at_x, s[2] - at_y) > SAME and light > 0 and s[0] >= light / BRIGHTER]
    warnings = tuple(
        f"two places for the star: a source is also at x={s[1]}, y={s[2]}, where {s[3][2]} puts it; set source_x and "
        "source_y if that is the star"
        for s in apart[:1]
    )
    if (x, y, how) == own:
        return x, y, "", warnings
    log.info("%s: the star is at x=%.1f, y=%.1f: %s; not at x=%.1f, y=%.1f", name, x, y, how, *own[:2])
    return x, y, "", (f"the star is not where {own[2]} and TARG_RA, TARG_DEC say, but where {how} puts it", *warnings)


@np.errstate(invalid="ignore", over="ignore")
def star_exposures(
    name: str, model: Any, field: Field, *, half_size: int, gain: float, references: dict[str, Any] | None = None
) -> list[Stamp]:
    """Cut the stamp around the star out of an exposure.

    Parameters
    ----------
    name : str
    model : stdatamodels model
        As given to `star_field`.
    field : Field
    half_size : int
        The stamp reaches this far from the first position [pix of the image].
    gain : float
        [e-/DN].
    references : dict of str to (str or None), optional
        Paths of the ``flat`` to divide by and of the pixels' ``area``.

    Returns
    -------
    list of Stamp
        One for an image; one for each integration of a cube, all with the same stamp.

    Raises
    ------
    ExposureError
        Naming the exposure and what is wrong with it.

    Examples
    --------
    >>> field = star_field("star", model, bad_dq=bad_dq_mask("DO_NOT_USE"))  # doctest: +SKIP
    >>> (stamp,) = star_exposures("star", model, field, half_size=35, gain=1.61)  # doctest: +SKIP
    """
    meta, n_images = model.meta, len(field.images)
    unit, said = meta.bunit_data, meta.photometry.conversion_megajanskys
    photmjsr: Any = said if said is not None and np.isfinite(said) and said > 0 else None
    if unit in SB_UNITS and photmjsr is None:
        raise ExposureError(f"{name}: image in {unit} without a usable PHOTMJSR ({said})")
    if unit not in RATE_UNITS + SB_UNITS:
        raise ExposureError(f"{name}: BUNIT is {unit!r}; count rates [DN/s] and brightnesses [MJy/sr] can be measured")
    # to DN/s; a resampled pixel of another size holds other counts at the same surface brightness
    scale = (1.0 if unit in RATE_UNITS else 1.0 / photmjsr) * field.ratio**2
    ny, nx = field.images[0]["data"].shape
    i, j = round(field.x), round(field.y)
    i0, j0 = max(0, i - half_size), max(0, j - half_size)
    window = (slice(j0, min(ny, j + half_size + 1)), slice(i0, min(nx, i + half_size + 1)))
    flat_path, flat_err = (references or {}).get("flat"), None
    if (flat_path is not None or field.flat_fielded) and not field.resampled:
        response, flat_err = _response(meta, field, window, flat_path, (references or {}).get("area"))
        scale = scale / response
    # from the first group of an integration to the last [s]; 0 where it is not known
    time = (meta.exposure.group_time or 0.0) * max((meta.exposure.ngroups or 0) - 1, 0) * (meta.exposure.nints or 1)
    stamps = []
    for k, image in enumerate(field.images, start=1):
        rates = np.asarray(image["data"][window], dtype=float) * scale
        variance, flat_variance, photon_variance, more = _variance(image, window, scale, gain * time / n_images)
        if flat_err is not None:
            flat_variance = (rates * flat_err) ** 2 + (0.0 if flat_variance is None else flat_variance)
            variance = variance + (rates * flat_err) ** 2
        bad = bad_pixels(image, field.bad_dq, window) | ~np.isfinite(variance) | (variance < 0)
        # neither a value nor an error, where others have one
        bad |= (image["data"][window] == 0) & (variance == 0) & np.any(variance > 0)
        dq = image["dq"][window].astype(np.uint32) if "dq" in image else np.zeros(bad.shape, np.uint32)
        stamps.append(Stamp(
            name=name if n_images == 1 else f"{name} integration {k}", image=rates, variance=variance, dq=dq, bad=bad,
            x=field.x, y=field.y, x_origin=i0, y_origin=j0, pixel_scale=field.scale, gain=gain, photmjsr=photmjsr,
            warnings=field.warnings + more, flat_variance=flat_variance, photon_variance=photon_variance,
            resampled=field.resampled,
        ))  # fmt: skip
    return stamps


def _variance(image: Layers, window: tuple[slice, slice], scale: Any, exposed: float) -> tuple[Array, Any, Any, Told]:
    """Sum of the variances within a window, the parts of flat field and photons [(DN/s)^2], and what was odd.

    A part is None where it is not known. ``exposed`` [e- per DN/s] is gain times the time of a ramp.
    """
    layers = {key: np.asarray(image[key][window], dtype=float) for key in (*VARIANCES, "err") if key in image}
    terms = {key: layer for key, layer in layers.items() if np.any(layer >= 0)}
    if not any(np.any(layer > 0) for layer in terms.values()):
        terms = {}  # nobody filled them
    # a pixel that lost its variances may still have its error
    by_err = np.square(terms.pop("err")) if "err" in terms else None
    if lost := [key for key in ("var_poisson", "var_rnoise") if key not in terms]:
        lost += ["err"] if by_err is None else []
        reasons = (
            ("missing or of another shape", [key.upper() for key in lost if key not in layers]),
            ("zero, NaN or negative everywhere", [key.upper() for key in lost if key in layers]),
        )
        why = " and ".join(f"{', '.join(names)} {what}" for what, names in reasons if names)
        if by_err is not None:
            return by_err * scale**2, None, None, (f"{why}: the errors are from ERR",)
        data = np.asarray(image["data"][window], dtype=float)
        # most pixels hold sky; that neighbours differ by noise alone is nearly true in a star's wing too
        values = data[np.isfinite(data)] if np.isfinite(data).sum() > 1 else np.zeros(2)
        scatter = MAD_TO_STD * np.median(np.abs(np.diff(values))) / np.sqrt(2)
        unknown, told = np.full(data.shape, scatter**2), "the pixels' scatter"
        if np.all(scale * exposed > 0):
            unknown += np.maximum(data - np.median(values), 0.0) / (scale * exposed)
            told += " and the count rate"
        return unknown * scale**2, None, None, (f"{why}: the errors are from {told}",)
    total = np.sum(list(terms.values()), axis=0)
    usable = np.isfinite(total) & np.all([~(term < 0) for term in terms.values()], axis=0)
    if by_err is not None and not (total > 0).any():
        usable[:] = False  # arrays that nobody filled
    parts = {key: np.where(usable, term, 0.0) * scale**2 for key, term in terms.items()}
    warnings: Told = ()
    other = np.nan if by_err is None else by_err
    total = np.where(usable, total, other)
    if usable.mean() < 0.5 and by_err is not None:
        lost = 100 * (1 - usable.mean())
        warnings = (f"{lost:.0f} % of the pixels have no usable variances: their errors are from ERR",)
    elif "var_poisson" in terms and not np.any(terms["var_poisson"] > 0):
        told = "the errors are without the star's photon noise"
        if np.any(other > 1.01 * total):
            total, told = np.where(np.isfinite(other), other, total), "the errors are from ERR"
        elif np.all(scale * exposed > 0):
            photons = np.maximum(np.asarray(image["data"][window], dtype=float), 0.0) / (scale * exposed)
            total, told = total + photons, "the photon noise is from the count rate"
        warnings = (f"VAR_POISSON is zero everywhere: {told}",)
    return total * scale**2, parts.get("var_flat"), parts.get("var_poisson"), warnings


def _response(meta: Any, field: Field, window: Any, flat_path: Any, area_path: Any) -> tuple[Any, Array | None]:
    """What a star's counts are divided by, and its relative error where a reference says it: flat over pixel area.

    A flat field makes the sky even, so that a star's counts want the pixels' areas, each over the nominal one.
    """
    rows, columns = window
    start = columns.start + (meta.subarray.xstart or 1), rows.start + (meta.subarray.ystart or 1)
    place = start, field.images[0]["data"][window].shape, (meta.instrument.filter, meta.instrument.pupil)
    flat, err = (1.0, None) if flat_path is None else flat_region(flat_path, "a flat field", *place)
    area = field.images[0].get("area")
    if area is not None:
        area = np.asarray(area[window], dtype=float)
        area = np.where(area > 0, area, np.nan)
    elif area_path is not None:
        area = flat_region(area_path, "a map of pixel areas", *place)[0]
    else:
        area = relative_area(field.to_sky, meta.subarray, window) if field.to_sky is not None else 1.0
    return flat / area, None if err is None else err / flat


@lru_cache(maxsize=64)
def _electron_rate(target: str, name: str, spectrum: Any, throughput: Any, state: Any) -> float | None:
    """Expected rate [e-/s] of a star in a filter, as long as the state of its files stays; None where it is not known.

    Without this memory the directory of spectra would be gone through for every exposure.
    """
    try:
        paths = find_spectrum_files(target) if spectrum is None else [spectrum]
        return expected_of_first(paths, *load_throughput(throughput).curve(name), name)[1].electron_rate
    except ReferenceDataError:
        return None


def second_look(
    stamps: list[Stamp], centre: Centroid, field: Field, references: Any, stamps_about: Any, *, is_given: bool
) -> Any:
    """Look at what was measured, and elsewhere where that cannot be the star.

    Parameters
    ----------
    stamps : list of Stamp
        Those that were measured, without dead pixels.
    centre : Centroid
        Where; the first position where the measurement failed.
    field : Field
    references : dict of str to (path or None)
        ``psfee``, ``stdspec`` and ``throughput``; by default the packaged ones, and the spectra in
        ``$PYSYN_CDBS/calspec``.
    stamps_about : callable
        ``stamps_about(field, half_size=n)`` gives stamps about a field's position.
    is_given : bool
        The user gave the position: no other is taken.

    Returns
    -------
    Field, str or None
        None where the star was measured, as far as can be told; the field with the position of the star, where it is
        elsewhere; why there is none.
    """
    spectrum, throughput = references.get("stdspec"), references.get("throughput")
    calspec = os.environ.get("PYSYN_CDBS") and Path(os.environ["PYSYN_CDBS"], "calspec")
    files = [Path(p) for p in (spectrum, throughput, os.environ.get("NIS_SYNPHOT"), calspec) if p]
    # a directory changes with the names in it, and with a file that is written anew in the place of another
    state = tuple((file, file.stat().st_mtime_ns if file.exists() else None) for file in files)
    electron_rate = _electron_rate(field.target, field.filter, spectrum, throughput, state)
    # [DN/s]; None where it is not to be had
    expected = None if electron_rate is None else electron_rate / stamps[0].gain
    ee = partial(load_psfee(references.get("psfee")).ee, field.filter)
    stamp = stamps[0] if len(stamps) == 1 else _mean(stamps)
    first = source_at(stamp, centre, ee, field.ratio)
    if not np.isfinite(first.rate_err) and not field.outside:
        return None  # no pixel to judge by: the measurement says why
    if first.is_significant and not field.outside:
        is_usual = first.is_star if expected is None else 1 / FAR < first.rate / expected < FAR
        if is_given or is_usual:
            return None
    found = find_sources(without_dead(_mean(stamps_about(field, half_size=REACH))), ee, field.ratio)
    others = [source for source in found if np.hypot(source.x - first.x, source.y - first.y) > SAME]
    if field.outside:  # nothing is known of what stands at the edge
        first = replace(first, rate=0.0, is_significant=False)
    star = first if is_given or (field.outside and expected is None) else the_star(first, others, expected)
    if star is None or not star.is_significant:
        return _no_star(first, others, field.outside, expected)
    if star is first:
        return None
    told: list[str] = []
    if expected is None:
        # nothing tells of several which it is: the header's positions do, else the brightness
        alike = [source for source in others if source.is_star and source.rate >= star.rate / BRIGHTER]
        at_places = [s for s in alike if any(np.hypot(s.x - x, s.y - y) < SEARCH_RADIUS for x, y, _ in field.places)]
        star = at_places[0] if at_places else star
        rivals = [source for source in alike if source is not star]
        if rivals:
            told = [
                f"no spectrum tells the star from the source at {_brightness(rivals[0], None)}: set PYSYN_CDBS or "
                "override_stdspec, or source_x and source_y"
            ]
    place = field.outside or (
        f"not the star: {_brightness(first, expected)}"
        if first.is_significant
        else f"no star at x={first.x:.1f}, y={first.y:.1f}"
    )
    warnings = (*field.warnings, f"{place}; the star is the one at {_brightness(star, expected)}", *told)
    return replace(field, x=star.x, y=star.y, warnings=warnings, outside="")


def _mean(stamps: list[Stamp]) -> Stamp:
    """The mean of integrations, as one stamp."""
    image = np.mean([stamp.image for stamp in stamps], axis=0)
    variance = np.mean([stamp.variance for stamp in stamps], axis=0) / len(stamps)
    bad = np.any([stamp.bad for stamp in stamps], axis=0)
    return replace(stamps[0], image=image, variance=variance, bad=bad)


def _brightness(source: Centroid, expected: float | None) -> str:
    """Where a source is, and how bright."""
    share = f", {source.rate / expected:.2g} of the expected rate" if expected is not None else ""
    return f"x={source.x:.1f}, y={source.y:.1f} ({source.rate:.3g} DN/s{share})"


def _no_star(first: Centroid, others: list[Centroid], outside: str, expected: float | None) -> str:
    """Say that there is no star, and what there is."""
    told = outside or f"no star at x={first.x:.1f}, y={first.y:.1f}: {first.rate:.2g} +- {first.rate_err:.2g} DN/s"
    brightest = next((source for source in others if source.is_star), others[0] if others else None)
    if brightest is None:
        return f"{told}; no source within {REACH} pix"
    away = np.hypot(brightest.x - first.x, brightest.y - first.y)
    return (
        f"{told}; the brightest source is at {_brightness(brightest, expected)}, {away:.0f} pix away; set source_x and "
        "source_y, or mend the target's coordinates or proper motion"
    )
