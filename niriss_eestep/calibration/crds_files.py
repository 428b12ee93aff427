"""Reference files that the standard pipeline takes: `photom` and `apcorr` for NIRISS imaging, as CRDS wants them."""

import math
import re
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy import units
from scipy.optimize import brentq
from stdatamodels.jwst.datamodels import NisImgApcorrModel, NisImgPhotomModel

from niriss_eestep.arrays import Array
from niriss_eestep.calibration.model import YEAR, TimeShape
from niriss_eestep.errors import ParameterError, ProductError
from niriss_eestep.flux.total_rate import Curve, effective_ee
from niriss_eestep.instrument import FILTERS, PHOTMJSR_2022_ERR, PIXEL_SOLID_ANGLE, filter_facts
from niriss_eestep.measure.geometry import aperture_weights
from niriss_eestep.reference.psf import PSFImage

EE_FRACTIONS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Encircled energies tabulated; jwst's source catalogue asks for 0.3, 0.5 and 0.7 by default."""

LEAST_RADIUS = 0.1  # where the search for a radius begins [pix]
SKY_IN, SKY_OUT = 30.0, 40.0
"""Sky annulus [pix]: far enough out that mean and median of the starlight in it differ by little in every filter."""
#: which of a factor's values PHOTMJSR is, and what that stands for
CONVENTIONS = {
    "band": ("photmjsr", "photon-weighted mean of F_nu over the band, at the pivot wavelength"),
    "mono": ("photmjsr_mono", "monochromatic F_nu of the standard stars at the pivot wavelength"),
}
PEDIGREE = re.compile(r"INFLIGHT( \d{4}-\d\d-\d\d){2}|GROUND|MODEL|SIMULATION|DUMMY")
USEAFTER = "%Y-%m-%dT%H:%M:%S"
# What the tables of time coefficients hold for a filter that does not change
STEADY = {
    "linear": {"lossperyear": 0.0},
    "exponential": {"amplitude": 0.0, "tau": 365.0, "const": 1.0},
    "powerlaw": {"year1value": 1.0, "tsoft": 365.0, "alpha": 0.0},
}


@dataclass(frozen=True, slots=True)
class TimeDependence:
    """How a filter's sensitivity changes, as `jwst.photom.time_dependence` has it; 1 on day ``t0``.

    Parameters
    ----------
    form : str
        ``constant``, ``linear``, ``exponential`` or ``powerlaw``.
    t0 : float
        Reference day [MJD].
    parameters : mapping of str to float
        The form's parameters; times in days.
    status : str
        What was found.
    """

    form: str
    t0: float
    parameters: Mapping[str, float] = field(default_factory=dict)
    status: str = ""


@dataclass(frozen=True, slots=True)
class Factor:
    """The flux calibration of one filter.

    Parameters
    ----------
    filter : str
    photmjsr, photmjsr_err, photmjsr_mono : float
        [MJy/sr per DN/s] on day ``time.t0``: from the band-averaged F_nu, its standard error, from the monochromatic.
    time : TimeDependence
    """

    filter: str
    photmjsr: float
    photmjsr_err: float
    photmjsr_mono: float
    time: TimeDependence


def time_dependence(shape: TimeShape, name: str) -> tuple[TimeDependence, float]:
    """Give a filter's change in time in the form of the photom file.

    Parameters
    ----------
    shape : TimeShape
    name : str
        Filter.

    Returns
    -------
    time : TimeDependence
        Its t0 is a whole day, which a photom file can keep in 32 bits.
    response : float
        On t0, relative to that on the date of the calibration.
    """
    if shape.form == "constant" or name not in shape.amplitude:
        day = float(np.round(shape.date)) if np.isfinite(shape.date) else math.nan
        return TimeDependence("constant", day, status="no change in time is claimed"), 1.0
    a, t0 = shape.amplitude[name], float(np.floor(shape.first))
    response = float(np.exp(shape.log_response(t0, a)))
    if shape.form == "linear":
        parameters = {"lossperyear": float(-a / (1 + a * shape.basis(t0)))}
    elif shape.form == "exponential":
        here = a * float(shape.basis(t0))
        parameters = {"amplitude": here / (1 + here), "tau": shape.scale, "const": 1 / (1 + here)}
    else:
        tsoft = shape.scale + t0 - shape.first
        parameters = {"year1value": (1 + YEAR / tsoft) ** a, "tsoft": tsoft, "alpha": a}
    return TimeDependence(shape.form, t0, parameters, f"{shape.form}, found in the visits"), response


@dataclass(frozen=True, slots=True)
class Provenance:
    """What CRDS requires of a reference file.

    Parameters
    ----------
    author : str
        Who made it.
    pedigree : str
        ``INFLIGHT yyyy-mm-dd yyyy-mm-dd`` (first and last observation), or ``GROUND``, ``MODEL``, ``SIMULATION``,
        ``DUMMY``.
    useafter : str
        From which observing date on it holds, ``yyyy-mm-ddThh:mm:ss``.
    description : str
        One line.
    history : tuple of str
        How it was made: inputs, versions, what was left out.

    Raises
    ------
    ParameterError
        Where an entry is empty, or not as CRDS takes it.
    """

    author: str
    pedigree: str
    useafter: str
    description: str
    history: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("author", "pedigree", "useafter", "description"):
            if not getattr(self, name).strip():
                raise ParameterError(f"a reference file needs its {name}")
        if not PEDIGREE.fullmatch(self.pedigree):
            kinds = "INFLIGHT yyyy-mm-dd yyyy-mm-dd, GROUND, MODEL, SIMULATION or DUMMY"
            raise ParameterError(f"pedigree {self.pedigree!r}: CRDS takes {kinds}")
        try:
            datetime.strptime(self.useafter, USEAFTER)
        except ValueError as error:
            raise ParameterError(f"useafter {self.useafter!r}: CRDS takes a date as 2022-08-01T00:00:00") from error


def photom_model(
    factors: Iterable[Factor], provenance: Provenance, *, convention: str = "band", fill_missing: bool = False
) -> NisImgPhotomModel:
    """Make a `photom` reference file's model.

    Parameters
    ----------
    factors : iterable of Factor
        One per filter.
    provenance : Provenance
    convention : str, optional
        Which F_nu PHOTMJSR stands for: ``band`` (photon-weighted mean over the band) or ``mono`` (the star's own at the
        pivot wavelength).
    fill_missing : bool, optional
        Take filters without a factor from the calibration of August 2022; the history then says so.

    Returns
    -------
    stdatamodels.jwst.datamodels.NisImgPhotomModel

    Raises
    ------
    ParameterError
        Where no factor is given, a filter comes twice, or the convention is not known.
    """
    if convention not in CONVENTIONS:
        raise ParameterError(f"convention {convention!r}: it must be one of {', '.join(CONVENTIONS)}")
    given = _by_filter((factor.filter, factor) for factor in factors)
    missing = [name for name in FILTERS if name not in given]
    steady = TimeDependence("constant", math.nan)
    for name in missing if fill_missing else ():
        value = FILTERS[name].photmjsr
        given[name] = Factor(name, value, PHOTMJSR_2022_ERR * value, value, steady)
    chosen = [given[name] for name in FILTERS if name in given]
    attribute, meaning = CONVENTIONS[convention]
    rows = []
    for factor in chosen:
        facts, value = FILTERS[factor.filter], getattr(factor, attribute)
        # both conventions are known equally well: they differ by a ratio within the spectrum
        error = value * factor.photmjsr_err / factor.photmjsr
        rows.append((facts.header_filter, facts.header_pupil, value, error))
    model = NisImgPhotomModel(strict_validation=True)
    model.phot_table = np.array(rows, dtype=model.get_dtype("phot_table"))
    for form in STEADY.keys() & {factor.time.form for factor in chosen}:
        name, rows = f"timecoeff_{form}", []
        steady = TimeDependence(form, next(each.time.t0 for each in chosen if each.time.form == form), STEADY[form])
        # row by row as the factors: the linear form's table has no columns for filter and pupil
        for factor in chosen:
            facts, time = FILTERS[factor.filter], factor.time if factor.time.form == form else steady
            values = {"filter": facts.header_filter, "pupil": facts.header_pupil, "t0": time.t0, **time.parameters}
            rows.append(tuple(values[column] for column in model.get_dtype(name).names))
        setattr(model, name, np.array(rows, model.get_dtype(name)))
    notes = [f"PHOTMJSR is of the {meaning}; uncertainty is one standard error, absolute."]
    if missing:
        action = "taken from the calibration of August 2022" if fill_missing else "not in this file"
        notes.append(f"No standard star in {', '.join(missing)}: {action}.")
    notes += [f"{each.filter} time dependence: {each.time.status}" for each in chosen if each.filter not in missing]
    _describe(model, "photom", provenance, notes)
    model.meta.photometry.pixelarea_steradians = PIXEL_SOLID_ANGLE
    model.meta.photometry.pixelarea_arcsecsq = (PIXEL_SOLID_ANGLE * units.sr).to_value(units.arcsec**2)
    return model


class ApertureCorrection(NamedTuple):
    """One row of an aperture-correction table.

    Parameters
    ----------
    eefraction : float
        Encircled energy within the aperture, as a fraction of the star's total light.
    radius : float
        [pix].
    apcorr : float
        Total over background-subtracted aperture flux.
    skyin, skyout : float
        Sky annulus [pix].
    """

    eefraction: float
    radius: float
    apcorr: float
    skyin: float
    skyout: float


def aperture_corrections(
    curve: Curve, *, eefractions: Sequence[float] = EE_FRACTIONS, skyin: float = SKY_IN, skyout: float = SKY_OUT
) -> tuple[ApertureCorrection, ...]:
    """Tabulate aperture corrections.

    The sky annulus holds starlight, which the subtraction takes from the aperture: apcorr is 1 / EE_eff, not 1 / EE.
    This is for the annulus's mean. jwst's source catalogue takes a sigma-clipped median, which tends to the mean
    where noise dominates the annulus, and lies below it around a bright star.

    Parameters
    ----------
    curve : callable
        EE of the PSF at radii [pix]; 1 at infinity.
    eefractions : sequence of float, optional
        Encircled energies.
    skyin, skyout : float, optional
        Sky annulus [pix].

    Returns
    -------
    tuple of ApertureCorrection
        In the order of ``eefractions``.

    Raises
    ------
    ParameterError
        Where an EE's radius reaches the annulus, or the annulus's radii do not rise.
    """
    if not 0 < skyin < skyout:
        raise ParameterError(f"sky annulus from {skyin:g} to {skyout:g} pix: it must have 0 < skyin < skyout")
    rows, sky = [], (np.array([skyin, skyout]), np.ones(1))
    least, most = curve(np.array([LEAST_RADIUS, skyin]))
    for each in eefractions:
        if not least < each < most:
            raise ParameterError(f"EE {each:g} is not reached within the sky annulus, at {skyin:g} pix (EE {most:.4f})")
        radius = brentq(lambda r, ee=each: float(curve(np.array([r]))[0]) - ee, LEAST_RADIUS, skyin, xtol=1e-6)
        effective = effective_ee(curve, np.array([radius]), np.array([np.pi * radius**2]), *sky)
        rows.append(ApertureCorrection(each, radius, float(1.0 / effective[0]), skyin, skyout))
    return tuple(rows)


def phase_scatter(image: PSFImage, radius: Array, n_phases: int = 6) -> Array:
    """Scatter of the light within apertures over the pixel phases of a star.

    Parameters
    ----------
    image : PSFImage
    radius : ndarray, shape (n_radii,)
        [pix].
    n_phases : int
        Along each axis.

    Returns
    -------
    ndarray, shape (n_radii,)
        Standard deviation, as a fraction of the mean.

    Examples
    --------
    >>> from niriss_eestep.reference import load_psf_images
    >>> bool(0.01 < phase_scatter(load_psf_images()["F090W"], np.array([1.0]))[0] < 0.02)
    True
    """
    half = int(max(radius)) + 2
    shape, at = (2 * half + 1, 2 * half + 1), half + (np.arange(n_phases) + 0.5) / n_phases - 0.5
    stars = [(aperture_weights(shape, x, y, radius), image.render(x, y, shape)) for y in at for x in at]
    light = np.array([np.einsum("iyx,yx->i", *star) for star in stars])
    return np.asarray(light.std(axis=0) / light.mean(axis=0))


def apcorr_model(corrections: Mapping[str, Sequence[ApertureCorrection]], provenance: Provenance) -> NisImgApcorrModel:
    """Make an `apcorr` reference file's model.

    Parameters
    ----------
    corrections : mapping of str to sequence of ApertureCorrection
        By filter.
    provenance : Provenance

    Returns
    -------
    stdatamodels.jwst.datamodels.NisImgApcorrModel

    Raises
    ------
    ParameterError
        Where no filter is given.
    """
    rows = []
    for name, mine in _by_filter(corrections.items()).items():
        rows += [(FILTERS[name].header_filter, FILTERS[name].header_pupil, *row) for row in mine]
    model = NisImgApcorrModel(strict_validation=True)
    model.apcorr_table = np.array(rows, dtype=model.get_dtype("apcorr_table"))
    note = "apcorr allows for starlight in the sky annulus: 1 / (EE(r) - pi r^2 times its mean light per pixel)."
    _describe(model, "apcorr", provenance, [note])
    return model


def save_reference(model: NisImgPhotomModel | NisImgApcorrModel, path: str | Path) -> Path:
    """Validate a reference file's model and write it, whole or not at all.

    Parameters
    ----------
    model : NisImgPhotomModel or NisImgApcorrModel
    path : str or Path
        Its name ends in ``.fits``; an existing file is replaced.

    Returns
    -------
    Path

    Raises
    ------
    ProductError
        Where the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".fits":
        raise ProductError(f"{path}: a reference file's name ends in .fits")
    model.validate()
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as directory:
            # under its final name, which the header records
            Path(model.save(str(Path(directory) / path.name))).replace(path)
    except OSError as error:
        raise ProductError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def _by_filter(items: Iterable[tuple[str, object]]) -> dict:
    """Return a mapping by filter, in the order of wavelength."""
    pairs = [(filter_facts(name).name, item) for name, item in items]
    if not pairs:
        raise ParameterError("no filter: a reference file needs at least one")
    for name, number in Counter(name for name, _ in pairs).items():
        if number > 1:
            raise ParameterError(f"{name} is given twice; a reference file has one row per filter")
    return {name: dict(pairs)[name] for name in FILTERS if name in dict(pairs)}


def _describe(model: Any, reftype: str, provenance: Provenance, notes: Sequence[str]) -> None:
    """Fill in the metadata that CRDS requires."""
    from niriss_eestep import __version__

    meta = model.meta
    meta.reftype = reftype.upper()
    for name in ("author", "pedigree", "useafter", "description"):
        setattr(meta, name, getattr(provenance, name))
    meta.origin = "niriss_eestep"
    meta.instrument.name, meta.instrument.detector = "NIRISS", "NIS"
    meta.exposure.type, meta.exposure.p_exptype = "NIS_IMAGE", "NIS_IMAGE|"
    made = f"Made by niriss_eestep {__version__}."
    # a HISTORY card holds 72 characters, and the next word would be broken
    wrap = partial(textwrap.wrap, width=72, break_long_words=False, break_on_hyphens=False)
    for text in (line for entry in (made, *provenance.history, *notes) for line in wrap(entry)):
        model.add_history_entry(text, software={"name": "niriss_eestep", "version": __version__})
