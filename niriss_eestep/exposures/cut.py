"""From a JWST DataModel to the stamp around the star."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from stdatamodels.jwst.datamodels import dqflags

from niriss_eestep.errors import ExposureError, ParameterError, reading
from niriss_eestep.instrument import FILTERS, PIXEL_SCALE, PIXEL_SOLID_ANGLE
from niriss_eestep.measure.position import find_star
from niriss_eestep.measure.stamp import StarExposure

__all__ = [
    "Layers",
    "bad_dq_mask",
    "check_exposure",
    "first_position",
    "image_layers",
    "image_scale",
    "is_resampled",
    "pixel_ratio",
    "science_filter",
    "star_exposures",
]

#: what a measurement reads of a data model
ARRAYS = ("data", "err", "dq", "var_poisson", "var_rnoise", "var_flat", "wht")

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
    entries = [mnemonics] if isinstance(mnemonics, str) else mnemonics
    names = [name for entry in entries for name in str(entry).replace("+", ",").split(",")]
    mask = 0
    for name in (str(n).strip().upper() for n in names):
        if name in ("", "NONE"):
            continue
        if name not in dqflags.pixel:
            raise ParameterError(
                f"bad_dq: {name!r} is not a JWST data-quality flag; these are {', '.join(dqflags.pixel)}"
            )
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
        raise ExposureError(f"{name}: instrument is {instrument}; this pipeline measures NIRISS imaging")
    if meta.exposure.type not in EXP_TYPES:
        raise ExposureError(f"{name}: EXP_TYPE is {meta.exposure.type}; this pipeline measures {', '.join(EXP_TYPES)}")
    if meta.target.type == "MOVING":
        raise ExposureError(f"{name}: TARGTYPE is MOVING; a flux standard does not move")
    wheels = (meta.instrument.filter, meta.instrument.pupil)
    if wheels[1] == "NRM":
        if allow_nrm and wheels[0] in FILTERS:
            return wheels[0]
        raise ExposureError(
            f"{name}: the pupil wheel holds the NRM, whose PSF is another; allow_nrm=True measures it all the same"
        )
    found = science_filter(*wheels)
    if found is None:
        raise ExposureError(
            f"{name}: FILTER={wheels[0]}, PUPIL={wheels[1]} is none of the NIRISS imaging set-ups "
            "(None: missing, or no value of JWST's)"
        )
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
            raise ExposureError(
                f"{name}: image in {unit} without a usable PHOTMJSR ({meta.photometry.conversion_megajanskys})"
            )
        return 1.0 / photmjsr, photmjsr
    raise ExposureError(
        f"{name}: BUNIT is {unit!r}; count rates [DN/s] and surface brightnesses [MJy/sr] can be measured"
    )


def is_resampled(meta):
    """Tell whether an image has other pixels than the detector's.

    Parameters
    ----------
    meta : stdatamodels node

    Returns
    -------
    bool
    """
    return meta.cal_step.resample == "COMPLETE" or meta.resample.pixel_scale_ratio is not None


def pixel_ratio(meta):
    """Side of the image's pixels over that of the detector's.

    Parameters
    ----------
    meta : stdatamodels node

    Returns
    -------
    float
        1 for an image of the detector's own pixels.
    """
    if not is_resampled(meta):
        return 1.0
    if meta.resample.pixel_scale_ratio:
        return float(meta.resample.pixel_scale_ratio)
    area = meta.photometry.pixelarea_steradians
    return float(np.sqrt(area / PIXEL_SOLID_ANGLE)) if area else 1.0


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
        raise ExposureError(
            f"{name}: its WCS cannot be inverted ({type(error).__name__}: {error}); give source_x and source_y"
        ) from error


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
        raise ExposureError(
            f"{name}: the WCS keywords make no WCS ({str(error).strip().splitlines()[-1]}); give source_x and source_y"
        ) from error
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
        raise ExposureError(
            f"{name}: by its WCS ({how}) the target falls on x={found[0]:.1f}, y={found[1]:.1f}, outside the "
            f"{nx}x{ny} image; give source_x and source_y if the WCS is wrong"
        )
    return *found, how


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """The arrays of one image, or of one integration.

    Parameters
    ----------
    data : ndarray, shape (ny, nx)
    dq : ndarray, shape (ny, nx), or None
    err : ndarray, shape (ny, nx), or None
    variances : dict of str to ndarray, shape (ny, nx)
        As many of ``var_poisson``, ``var_rnoise`` and ``var_flat`` as there are.
    weight : ndarray, shape (ny, nx), or None
        Of a resampled image.
    """

    data: np.ndarray
    dq: np.ndarray | None
    err: np.ndarray | None
    variances: dict[str, np.ndarray]
    weight: np.ndarray | None = None

    def bad(self, bad_dq, cut=...):
        """Tell which pixels cannot be used: a chosen flag, no value, or no weight."""
        bad = ~np.isfinite(self.data[cut])
        if self.dq is not None:
            bad |= (self.dq[cut].astype(np.uint32) & np.uint32(bad_dq)) != 0
        if self.weight is not None:
            bad |= ~(self.weight[cut] > 0)
        return bad


def image_layers(name, model):
    """Take an exposure's arrays apart.

    Parameters
    ----------
    name : str
    model : stdatamodels model

    Returns
    -------
    list of Layers
        One for an image; one for each integration of a cube.

    Raises
    ------
    ExposureError
        If there is no image, or an array has another shape.
    """
    with reading(name, "a JWST exposure", ExposureError):
        arrays = {key: getattr(model, key) for key in ARRAYS if model.hasattr(key)}
    data = arrays.get("data")
    if data is None or data.ndim not in (2, 3) or 0 in data.shape:
        raise ExposureError(
            f"{name}: SCI has shape {None if data is None else data.shape}; an image or a cube of them is needed"
        )
    of_shape = {key: array for key, array in arrays.items() if array is not None and array.shape == data.shape}
    weight = of_shape.get("wht")
    # a resampled image has weights in the place of flags; a DQ array that its model makes up is all zero
    dq = arrays.get("dq") if weight is None else None
    if dq is not None and dq.shape not in (data.shape, data.shape[1:]):
        raise ExposureError(f"{name}: DQ has shape {dq.shape}, SCI has {data.shape}")
    if dq is not None and dq.dtype.kind not in "ui":
        raise ExposureError(f"{name}: DQ is {dq.dtype}; flags are integers")
    err = of_shape.get("err")
    variances = {key: of_shape[key] for key in ("var_poisson", "var_rnoise", "var_flat") if key in of_shape}
    if data.ndim == 2:
        return [Layers(data, dq, err, variances, weight)]
    return [
        Layers(
            data[k],
            dq if dq is None or dq.ndim == 2 else dq[k],
            None if err is None else err[k],
            {key: array[k] for key, array in variances.items()},
        )
        for k in range(len(data))
    ]


def _variance(layers, cut, scale):
    """Sum of the variances within a cut, the parts of flat field and photons [(DN/s)^2], and what was odd.

    A part is None where it is not known.
    """
    warnings, parts = [], {}
    if len(layers.variances) >= 2:
        terms = {key: np.asarray(term[cut], dtype=float) for key, term in layers.variances.items()}
        total = np.sum(list(terms.values()), axis=0)
        usable = np.isfinite(total) & np.all([~(term < 0) for term in terms.values()], axis=0)
        if layers.err is not None and not (total > 0).any():
            usable[:] = False  # arrays that nobody filled
        parts = {key: np.where(usable, term, 0.0) * scale**2 for key, term in terms.items()}
        # a pixel that lost its variances may still have its error
        other = np.nan if layers.err is None else np.square(np.asarray(layers.err[cut], dtype=float))
        total = np.where(usable, total, other)
        if usable.mean() < 0.5 and layers.err is not None:
            lost = 100 * (1 - usable.mean())
            warnings.append(f"{lost:.0f} % of the pixels have no usable variances: their errors are from ERR")
    elif layers.err is not None:
        warnings.append("no variance arrays: the errors are from ERR")
        total = np.square(np.asarray(layers.err[cut], dtype=float))
    else:
        warnings.append("neither variances nor ERR: the errors are unknown")
        total = np.zeros(layers.data[cut].shape)
    return total * scale**2, parts.get("var_flat"), parts.get("var_poisson"), tuple(warnings)


# a damaged number of any kind becomes NaN or infinite, and its pixel bad
@np.errstate(invalid="ignore", over="ignore")
def star_exposures(name, model, *, half_size, bad_dq, gain, position=None, allow_nrm=False):
    """Cut the stamp around the star out of an exposure.

    Parameters
    ----------
    name : str
    model : stdatamodels model
        Image, or cube of integrations, with its metadata; not changed.
    half_size : int
        The stamp reaches this far from the first position [pix of the image].
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
    list of StarExposure
        One for an image; one for each integration of a cube, all with the same stamp.

    Raises
    ------
    ExposureError
        Naming the exposure and what is wrong with it.
    """
    if hasattr(model, "kind"):
        raise ExposureError(
            f"{name}: is a product ({type(model).__name__}); exposures can be measured: _rate, _cal, _rateints"
        )
    check_exposure(name, model.meta, allow_nrm=allow_nrm)
    layers = image_layers(name, model)
    first = layers[0]
    ny, nx = first.data.shape
    if position is None:
        x, y, how = first_position(name, model, first.data, partial(first.bad, bad_dq))
    else:
        (x, y), how = position, "given"
    if not (-0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5):
        raise ExposureError(f"{name}: source_x={x:g}, source_y={y:g} lies outside the {nx}x{ny} image (0-indexed)")
    warnings = _first_warnings(first, how, pixel_ratio(model.meta))
    make = partial(_stamp, model, x, y, half_size=half_size, bad_dq=bad_dq, gain=gain, warnings=warnings)
    if len(layers) == 1:
        return [make(name, first)]
    return [make(f"{name} integration {k}", layer) for k, layer in enumerate(layers, start=1)]


def _first_warnings(layers, how, scale):
    """What is odd about the exposure as a whole."""
    warnings = ()
    if layers.weight is not None:
        warnings += (f"resampled to pixels {scale:.3g} times the detector's: its PSF is broader; prefer _cal images",)
    if layers.dq is None and layers.weight is None:
        warnings += ("no DQ array: only pixels without a value are taken as bad",)
    if how == "brightest":
        warnings += ("no WCS or target coordinates: the star is the brightest compact source",)
    return warnings


def _stamp(model, x, y, name, layers, *, half_size, bad_dq, gain, warnings):
    """Cut the stamp out of one image."""
    scale, photmjsr = image_scale(name, model.meta)
    # a resampled pixel of another size holds other counts at the same surface brightness
    scale *= pixel_ratio(model.meta) ** 2
    ny, nx = layers.data.shape
    i0, j0 = max(0, round(x) - half_size), max(0, round(y) - half_size)
    cut = (slice(j0, min(ny, round(y) + half_size + 1)), slice(i0, min(nx, round(x) + half_size + 1)))
    variance, flat_variance, photon_variance, more = _variance(layers, cut, scale)
    bad = layers.bad(bad_dq, cut) | ~np.isfinite(variance) | (variance < 0)
    return StarExposure(
        name=name,
        image=np.asarray(layers.data[cut], dtype=float) * scale,
        variance=variance,
        dq=np.zeros(bad.shape, np.uint32) if layers.dq is None else layers.dq[cut].astype(np.uint32),
        bad=bad,
        x=x,
        y=y,
        x_origin=i0,
        y_origin=j0,
        pixel_scale=pixel_scale(model.meta),
        gain=gain,
        photmjsr=photmjsr,
        warnings=warnings + more,
        flat_variance=flat_variance,
        photon_variance=photon_variance,
    )
