"""Synthetic photometry: what a standard star should give through a filter.

The integral of spectrum times throughput is made as synphot makes it, without its 7 ms a filter: linear in photons
between the wavelengths of both. Definitions follow Bohlin, Gordon & Tremblay (2014, PASP 126,
711) and Koornneef et al. (1986, Highlights of Astronomy 7, 833).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError, ReferenceDataError
from niriss_eestep.instrument import AB_ZERO_FLUX, COLLECTING_AREA

MICRON = 1.0e4  # [Angstrom]
PLANCK = 6.62607015e-27  # [erg s], exact (SI 2019)
LIGHT_SPEED_ANGSTROM = 2.99792458e10 * 1.0e8  # [Angstrom/s], exact
JANSKY = 1.0e-23  # [erg/s/cm2/Hz]
# [e-/s] of 1 Jy for an efficiency of 1: F_nu dnu / (h nu) photons, for a constant F_nu F_nu / h per unit of ln(lambda)
UNIT_RATE = COLLECTING_AREA * JANSKY / PLANCK
UNCOVERED_MAX = 1.0e-4  # part of a band (of int R dlnlambda) that a spectrum may leave out: 0.01 % in the rate
GAP_MIN, GAP_STEPS = 0.01, 5.0  # a gap: step in ln(wavelength), and in steps of the grid beside it
# of 6,274 values of CALSPEC's bd60d1753, p330e and wd1057_719 beyond 0.65 micron none is over 1.05 times both beside
# it or the median of the 11 about it, or below 1 / 1.05 of both; one of 1.2 times is 0.2 % of a band of a hundred
# values. In steps of more than a hundredth of the wavelength a continuum bends by as much
SPIKE, SPIKE_WINDOW, SPIKE_STEP = 1.2, 11, 0.01
# jumps in ln(flux) from one value to the next, as where several values are off alike, or two parts do not join: the
# largest of bd60d1753, p330e and grw_70d5824 is 0.075 (where STIS ends), and a line's jumps have others beside them
JUMP, JUMP_ALONE = 0.085, 6.0
V_WAVELENGTH = 5450.0  # [Angstrom] effective wavelength of V: Bessell, Castelli & Plez (1998, A&A 333, 231), table A2
V_ZERO_FLUX = 363.1e-11  # [erg/s/cm2/Angstrom] flux density at V = 0: the same table
SECOND_RADIATION = 1.438776877e8  # [Angstrom K] h c / k (CODATA 2018)


#: no wavelength [Angstrom] or flux [erg/s/cm2/Angstrom] is so large, and its square is still a number
ABSURD = 1e100


@dataclass(frozen=True, slots=True, eq=False)
class StandardSpectrum:
    """Flux density of a standard star against wavelength.

    Parameters
    ----------
    name : str
        The star.
    wavelength : ndarray, shape (n,)
        Vacuum wavelengths, increasing [Angstrom].
    flux : ndarray, shape (n,)
        [erg/s/cm2/Angstrom].
    staterr : ndarray, shape (n,), optional
        Statistical error of ``flux``, independent from one wavelength to the next; zero by default.
    syserr : ndarray, shape (n,), optional
        Systematic error of ``flux``, common to all wavelengths; zero by default.
    meta : mapping, optional
        Where the spectrum comes from.

    Raises
    ------
    ReferenceDataError
        Where the arrays are not of one shape, the wavelengths do not increase, or a flux is not finite.
    """

    name: str
    wavelength: Array
    flux: Array
    staterr: Array | None = None
    syserr: Array | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        of = f"spectrum of {self.name}"
        for column in ("wavelength", "flux", "staterr", "syserr"):
            given = getattr(self, column)
            values = np.zeros(np.shape(self.flux)) if given is None else np.array(given, dtype=np.float64)
            object.__setattr__(self, column, values)
            if values.ndim != 1 or values.shape != self.wavelength.shape or values.size < 2:
                raise ReferenceDataError(f"{of}: {column} has shape {values.shape}; one value per wavelength is needed")
            if not np.all(usable := np.abs(values) < ABSURD):
                raise ReferenceDataError(f"{of}: {np.sum(~usable)} values of {column} are not finite, or far too large")
            # readers hand one spectrum to many users
            values.setflags(write=False)
        if self.wavelength[0] <= 0 or np.any(np.diff(self.wavelength) <= 0):
            raise ReferenceDataError(f"{of}: the wavelengths must be positive and increase")
        if np.any(self.staterr < 0) or np.any(self.syserr < 0):  # type: ignore[operator]
            raise ReferenceDataError(f"{of}: an error is negative")


@dataclass(frozen=True, slots=True)
class ExpectedRate:
    """What a star should give through one filter.

    Parameters
    ----------
    electron_rate : float
        Total electron rate [e-/s].
    electron_rate_err_stat, electron_rate_err_sys : float
        Its standard errors from the spectrum's statistical and systematic error [e-/s].
    pivot : float
        Pivot wavelength of the filter, sqrt(int R lambda dlambda / int R dlambda / lambda) [micron].
    fnu_band : float
        Photon-weighted mean of F_nu over the band [Jy]: the flux density of the source of constant F_nu that gives the
        same electron rate, quoted at the pivot wavelength. The rate per fnu_band depends on the throughput alone.
    fnu_mono : float
        The star's own F_nu at the pivot wavelength [Jy], interpolated in its spectrum.
    zeropoint_ab : float
        AB magnitude of a source that gives 1 e-/s.
    electron_rate_err : float
        Standard error of the electron rate: both terms in quadrature [e-/s].
    """

    electron_rate: float
    electron_rate_err_stat: float
    electron_rate_err_sys: float
    pivot: float
    fnu_band: float
    fnu_mono: float
    zeropoint_ab: float
    electron_rate_err: float


def expected_rate(
    spectrum: StandardSpectrum, wavelength: ArrayLike, pce: ArrayLike, *, name: str = "the band"
) -> ExpectedRate:
    """Return the electron rate and the flux density of a star in a band.

    Parameters
    ----------
    spectrum : StandardSpectrum
    wavelength : array_like, shape (m,)
        Wavelengths of the throughput, increasing [micron].
    pce : array_like, shape (m,)
        Photon-to-electron conversion efficiency, telescope to detector; zero outside ``wavelength``.
    name : str, optional
        What error messages call the band.

    Returns
    -------
    ExpectedRate

    Raises
    ------
    ReferenceDataError
        Where the spectrum does not cover the band, its flux there is negative, or the throughput is not a curve.

    Examples
    --------
    >>> from niriss_eestep.reference import load_throughput
    >>> star = blackbody_spectrum("hot", temperature=40000, v_mag=14.7)
    >>> expected = expected_rate(star, *load_throughput().curve("F200W"))
    >>> round(expected.electron_rate), round(expected.pivot, 3)  # [e-/s], [micron]
    (28214, 1.987)
    """
    wave, response, of = *checked_band(wavelength, pce, name), f"spectrum of {spectrum.name}"
    per_wave = np.trapezoid(response / wave, wave)
    pivot = float(np.sqrt(np.trapezoid(response * wave, wave) / per_wave)) / MICRON
    unit_rate = float(UNIT_RATE * per_wave)
    seen = spectrum.flux != 0  # where it is exactly zero nothing was measured
    if not seen.all() and seen.sum() > 1:
        parts = {key: getattr(spectrum, key)[seen] for key in ("wavelength", "flux", "staterr", "syserr")}
        spectrum = replace(spectrum, **parts)
    wave, response = _covered_band(spectrum, wave, response, name)
    # the spectrum's grid in the band, and one point on either side
    first, last = np.searchsorted(spectrum.wavelength, [wave[0], wave[-1]])
    inside = slice(max(first - 1, 0), last + 1)
    grid, flux = spectrum.wavelength[inside], spectrum.flux[inside]
    staterr, syserr = spectrum.staterr[inside], spectrum.syserr[inside]  # type: ignore[index]
    if flux.min() < 0:
        raise ReferenceDataError(f"{of}: flux is negative ({flux.min():g} erg/s/cm2/Angstrom) within {name}")
    if not np.any(flux > 0):
        raise ReferenceDataError(f"{of}: no flux in {name}, so that nothing can be calibrated with it")
    # d(rate)/d(flux) at each wavelength of the spectrum, which is linear in photons between them
    fine = np.union1d(wave, grid)
    fine = fine[(fine >= wave[0]) & (fine <= wave[-1])]
    steps, after = np.diff(fine), np.clip(np.searchsorted(grid, fine, side="right"), 1, grid.size - 1)
    width = 0.5 * (np.pad(steps, (1, 0)) + np.pad(steps, (0, 1)))
    share = (fine - grid[after - 1]) / (grid[after] - grid[after - 1])
    photons = width * np.interp(fine, wave, response) * COLLECTING_AREA / (PLANCK * LIGHT_SPEED_ANGSTROM)
    weight = np.zeros(grid.size)
    np.add.at(weight, after, photons * share)
    np.add.at(weight, after - 1, photons * (1.0 - share))
    weight *= grid
    rate, err_stat, err_sys = float(weight @ flux), np.sqrt(np.sum((weight * staterr) ** 2)), np.sum(weight * syserr)
    to_jansky = (pivot * MICRON) ** 2 / LIGHT_SPEED_ANGSTROM / JANSKY
    return ExpectedRate(
        electron_rate=rate, electron_rate_err_stat=float(err_stat), electron_rate_err_sys=float(err_sys),
        electron_rate_err=float(np.hypot(err_stat, err_sys)), pivot=pivot, fnu_band=rate / unit_rate,
        fnu_mono=float(np.interp(pivot * MICRON, spectrum.wavelength, spectrum.flux)) * to_jansky,
        zeropoint_ab=float(2.5 * np.log10(AB_ZERO_FLUX * unit_rate)),
    )  # fmt: skip


def electron_rate_of_unit_fnu(wavelength: ArrayLike, pce: ArrayLike) -> float:
    """Return the electron rate of a source with F_nu = 1 Jy at all wavelengths.

    Parameters
    ----------
    wavelength, pce : array_like, shape (m,)
        Wavelengths [micron] and photon-to-electron conversion efficiency.

    Returns
    -------
    float
        [e-/s per Jy].

    Raises
    ------
    ReferenceDataError
        Where the throughput is no throughput.

    Examples
    --------
    >>> wavelength, pce = np.linspace(1.8, 2.2, 5), np.full(5, 0.6)
    >>> f"{electron_rate_of_unit_fnu(wavelength, pce):.4g}"
    '4.618e+07'
    """
    wave, response = checked_band(wavelength, pce)
    return float(UNIT_RATE * np.trapezoid(response / wave, wave))


def zeropoint_vega(
    vega: StandardSpectrum, wavelength: ArrayLike, pce: ArrayLike, *, magnitude: float = 0.0, name: str = "the band"
) -> float:
    """Return the Vega magnitude of a source that gives 1 e-/s.

    Parameters
    ----------
    vega : StandardSpectrum
        Spectrum of Vega, such as CALSPEC's alpha_lyr.
    wavelength, pce : array_like, shape (m,)
        Wavelengths [micron] and photon-to-electron conversion efficiency.
    magnitude : float, optional
        Magnitude of Vega in the system; 0 by default, as the JWST pipeline has it.
    name : str, optional
        What error messages call the band.

    Returns
    -------
    float
        [mag].
    """
    return float(magnitude + 2.5 * np.log10(expected_rate(vega, wavelength, pce, name=name).electron_rate))


def predicted_photmjsr(wavelength: ArrayLike, pce: ArrayLike, *, gain: float, pixel_solid_angle: float) -> float:
    """Return the PHOTMJSR that a throughput predicts.

    It does not depend on the source: F_nu is the band's photon-weighted mean.

    Parameters
    ----------
    wavelength, pce : array_like, shape (m,)
        Wavelengths [micron] and photon-to-electron conversion efficiency.
    gain : float
        [e-/DN].
    pixel_solid_angle : float
        [sr].

    Returns
    -------
    float
        [MJy/sr per DN/s].

    Raises
    ------
    ParameterError
        Where the gain or a size is not positive.
    """
    for quantity, value in (("gain", gain), ("pixel solid angle", pixel_solid_angle)):
        if not value > 0:
            raise ParameterError(f"{quantity} must be positive, not {value}")
    return 1.0e-6 * gain / electron_rate_of_unit_fnu(wavelength, pce) / pixel_solid_angle


def blackbody_spectrum(
    name: str, *, temperature: float, v_mag: float, meta: Mapping[str, Any] | None = None
) -> StandardSpectrum:
    """Return a black body of a star's temperature and V magnitude.

    For simulations: beyond 0.6 micron a hot white dwarf is a Rayleigh-Jeans tail with weak lines.

    Parameters
    ----------
    name : str
        The star.
    temperature : float
        [K].
    v_mag : float
        Johnson V [mag], taken as a flux density at 5450 Angstrom.
    meta : mapping, optional
        Where temperature and magnitude come from.

    Returns
    -------
    StandardSpectrum
        0.1 to 32 micron, without errors.

    Raises
    ------
    ParameterError
        Where the temperature is not positive.
    """
    if not temperature > 0:
        raise ParameterError(f"temperature of {name} must be positive, not {temperature} K")
    wavelength = np.geomspace(1.0e3, 3.2e5, 4001)
    shape = wavelength**-5.0 / np.expm1(SECOND_RADIATION / (wavelength * temperature))
    at_v = V_WAVELENGTH**-5.0 / np.expm1(SECOND_RADIATION / (V_WAVELENGTH * temperature))
    flux = V_ZERO_FLUX * 10 ** (-0.4 * v_mag) * shape / at_v
    return StandardSpectrum(name, wavelength, flux, meta={} if meta is None else meta)


def checked_band(wavelength: ArrayLike, pce: ArrayLike, name: str = "the band") -> tuple[Array, Array]:
    """Check a throughput.

    Parameters
    ----------
    wavelength, pce : array_like, shape (m,)
        Wavelengths, increasing [micron], and photon-to-electron conversion efficiency.
    name : str
        What error messages call the band.

    Returns
    -------
    wavelength, pce : ndarray, shape (k,)
        [Angstrom], and efficiency; cut to where there is any, and one point on either side.

    Raises
    ------
    ReferenceDataError
        Where it is no curve, or not between 0 and 1, or 0 everywhere.
    """
    of = f"throughput of {name}"
    wave, response = np.asarray(wavelength, dtype=np.float64), np.asarray(pce, dtype=np.float64)
    if wave.ndim != 1 or wave.shape != response.shape or wave.size < 2:
        raise ReferenceDataError(f"{of}: wavelength {wave.shape} and efficiency {response.shape} must be of one length")
    if not np.all(np.isfinite(wave)) or not np.all(np.isfinite(response)):
        raise ReferenceDataError(f"{of}: not all values are finite")
    if wave[0] <= 0 or np.any(np.diff(wave) <= 0):
        raise ReferenceDataError(f"{of}: the wavelengths must be positive and increase")
    if np.any(response < 0) or np.any(response > 1) or not np.any(response > 0):
        raise ReferenceDataError(f"{of}: efficiencies outside 0 to 1 ({response.min():g} to {response.max():g})")
    (used,) = np.nonzero(response)
    cut = slice(max(used[0] - 1, 0), used[-1] + 2)
    return wave[cut] * MICRON, response[cut]


def _covered_band(spectrum: StandardSpectrum, wave: Array, response: Array, name: str) -> tuple[Array, Array]:
    """Return the part of a band that a spectrum covers; raise where that is not (nearly) all of it."""
    first, last = spectrum.wavelength[0], spectrum.wavelength[-1]
    fine = np.union1d(wave, np.clip([first, last], wave[0], wave[-1]))
    fine_response = np.interp(fine, wave, response)
    per_wave = fine_response / fine
    # steps of its grid that are gaps: over 1 %, and five times the steps on both sides; over less, a linear
    # interpolation of a star's continuum is good to 1e-3 of that part
    steps, parts = np.diff(np.log(spectrum.wavelength)), [(0.0, first)]
    for k in np.nonzero(steps > GAP_MIN)[0]:
        near = [np.median(side) for side in (steps[max(0, k - 10) : k], steps[k + 1 : k + 11]) if side.size]
        if near and steps[k] > GAP_STEPS * max(near):
            parts.append((float(spectrum.wavelength[k]), float(spectrum.wavelength[k + 1])))
    for low, high in [*parts, (last, np.inf)]:
        part = np.union1d(fine[(fine > low) & (fine < high)], np.clip([low, high], fine[0], fine[-1]))
        unseen = np.trapezoid(np.interp(part, fine, per_wave), part) / np.trapezoid(per_wave, fine)
        if unseen > UNCOVERED_MAX:
            raise ReferenceDataError(
                f"spectrum of {spectrum.name} covers {first / MICRON:.4g} to {last / MICRON:.4g} micron; no values "
                f"from {part[0] / MICRON:.4g} to {part[-1] / MICRON:.4g} micron (none sampled, or zero): {unseen:.2%} "
                f"of {name} is missing; give one that covers it"
            )
    covered = (fine >= first) & (fine <= last)
    return fine[covered], fine_response[covered]


def spikes(spectrum: StandardSpectrum, wavelength: ArrayLike) -> Array:
    """Find values of a spectrum that stand out in a band: a line of a star is resolved or shallower.

    Parameters
    ----------
    spectrum : StandardSpectrum
    wavelength : array_like, shape (m,)
        Wavelengths of the band, increasing [micron].

    Returns
    -------
    ndarray
        Wavelengths [micron] of those over `SPIKE` times both beside them or the median about them, which up to five
        side by side do not move, or as far below both; and of the first after a jump of over `JUMP` that is
        `JUMP_ALONE` times the typical one and those beside it.
    """
    band, seen = np.asarray(wavelength, dtype=np.float64)[[0, -1]] * MICRON, spectrum.flux > 0
    at, value = spectrum.wavelength[seen], np.log(spectrum.flux[seen])
    median = partial(scipy.ndimage.median_filter, mode="nearest")
    step, width = np.diff(value), np.diff(np.log(at))
    about, continuum = (np.abs(step - width * median(step / width, size=n)) for n in (5, 41))
    beside = np.maximum(np.pad(about, 1)[:-2], np.pad(about, 1)[2:])
    odd = np.append(False, about > np.maximum(JUMP, JUMP_ALONE * np.maximum(median(continuum, size=41), beside)))
    odd[1:-1] |= (step[:-1] * step[1:] < 0) & (np.minimum(np.abs(step[:-1]), np.abs(step[1:])) > np.log(SPIKE))
    odd |= (value - median(value, size=SPIKE_WINDOW) > np.log(SPIKE)) & (np.median(width) < SPIKE_STEP)
    return np.asarray(at[odd & (at >= band[0]) & (at <= band[1])] / MICRON)
