"""How accurate the photometry is: simulated stars of known rate, measured as the pipeline does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.combine.mean import CombinedProfile, combine_profiles, common_covariance, growth_flags
from niriss_eestep.combine.shared import with_shared_errors
from niriss_eestep.flux.aperture_correction import effective_ee
from niriss_eestep.flux.total_rate import TotalRate, total_rate
from niriss_eestep.instrument import FILTERS, GAIN, PIXEL_SCALE
from niriss_eestep.measure.ee import EEOptions, EEProfile, measure_ee
from niriss_eestep.measure.geometry import aperture_weights
from niriss_eestep.measure.psf_model import PSFModel
from niriss_eestep.measure.stamp import StarExposure
from niriss_eestep.simulate.detector import choose_readout, get_subarray, sky_background
from niriss_eestep.simulate.scene import (
    PSF,
    Blemishes,
    Scene,
    SimulatedImage,
    Star,
    draw_pattern,
    expected_image,
    simulate_image,
)

__all__ = ["CASES", "Case", "Pulls", "case_errors", "centring_effect", "combine_exposures", "pulls", "star_exposure_of"]

#: the star's rate in every filter [e-/s]: far from saturation even in the slow frames of FULL
ELECTRON_RATE = 5.0e3

#: stars are dithered by up to this about the array's centre [pix]
_DITHER = 3.0

#: a frame of FULL is cut to this about the star: a step reads less of it than that [pix]
_LARGEST = 256

Curve = Callable[[str, NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of exposure, how it is measured, and how well that must do.

    Parameters
    ----------
    name : str
    limit : float
        Largest error allowed of the total rate, as a fraction.
    blemishes : Blemishes
    options : EEOptions
    n_dithers : int
        Exposures averaged before comparing; 1 compares every single one.
    core_nan : bool
        One NaN pixel within 3 pix of the centre.
    """

    name: str
    limit: float
    blemishes: Blemishes = field(default_factory=Blemishes)
    options: EEOptions = field(default_factory=EEOptions)
    n_dithers: int = 1
    core_nan: bool = False


_SPOILT = Blemishes(nan=15, low=5)

CASES = (
    Case("clean", 0.0005),
    Case("15 NaN + 5 low, surface", 0.003, _SPOILT, EEOptions(repair_low=True), 2),
    Case("15 NaN + 5 low, psf", 0.0015, _SPOILT, EEOptions(repair_low=True, bad_pixel_method="psf"), 2),
    Case("NaN in the core, psf", 0.01, options=EEOptions(bad_pixel_method="psf", repair_core=True), core_nan=True),
)


def subarrays_of(filter_name: str) -> tuple[str, ...]:
    """Subarrays in which a filter is used.

    Parameters
    ----------
    filter_name : str

    Returns
    -------
    tuple of str
    """
    full = ("FULL",) if FILTERS[filter_name].wheel == "filter" else ()
    return ("SUB64", "SUB128", "SUB256", *full)


def _scene(
    filter_name: str, subarray: str, psf: PSF, rng: np.random.Generator, blemishes: Blemishes, offset: float = _DITHER
) -> Scene:
    """A star near the middle of a subarray, at a random pixel phase."""
    array = get_subarray(subarray)
    size = min(array.size, _LARGEST)
    x, y = (size - 1) / 2 + rng.uniform(-offset, offset, 2)
    peak = psf.render(32.0, 32.0, (65, 65)).max()
    readout = choose_readout(array, peak_rate=ELECTRON_RATE * peak, star_rate=ELECTRON_RATE)
    return Scene(
        shape=(size, size),
        star=Star(float(x), float(y), ELECTRON_RATE),
        readout=replace(readout, gain=GAIN),
        background=sky_background(filter_name),
        blemishes=blemishes,
    )


def star_exposure_of(image: SimulatedImage, scene: Scene, name: str = "simulated") -> StarExposure:
    """Put a simulated image as what a step cuts out of its file.

    Parameters
    ----------
    image : SimulatedImage
    scene : Scene
    name : str

    Returns
    -------
    StarExposure
    """
    variance = np.asarray(image.var_poisson, dtype=float) + image.var_rnoise + image.var_flat
    data = np.asarray(image.data, dtype=float)
    return StarExposure(
        name=name,
        image=data,
        variance=variance,
        dq=image.dq,
        bad=~np.isfinite(data) | ~np.isfinite(variance) | ((image.dq & 1) != 0),
        x=round(scene.star.x),
        y=round(scene.star.y),
        x_origin=0,
        y_origin=0,
        pixel_scale=PIXEL_SCALE,
        gain=scene.readout.gain,
        flat_variance=np.asarray(image.var_flat, dtype=float),
        photon_variance=np.asarray(image.var_poisson, dtype=float),
    )


def combine_exposures(
    profiles: list[EEProfile], curve: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> tuple[CombinedProfile, TotalRate]:
    """Average profiles and correct them to infinity, as the steps do.

    Parameters
    ----------
    profiles : list of EEProfile
    curve : callable
        EE of the PSF at radii [pix].

    Returns
    -------
    combined : CombinedProfile
    total : TotalRate
    """
    values, covariances = [p.count_rate for p in profiles], [p.covariance for p in profiles]
    common = common_covariance(profiles)
    combined = combine_profiles(
        [f"exposure {k:03d}" for k in range(len(profiles))],
        profiles[0].radius,
        values,
        covariances,
        common=common,
        flags=growth_flags(np.array(values), covariances, common),
    )
    combined = with_shared_errors(combined, profiles, [(0, 0)] * len(profiles))
    total = total_rate(
        combined,
        curve,
        np.zeros_like,
        area=np.array([p.area for p in profiles]),
        rings=[(p.background.ring_edges, p.background.ring_coverage) for p in profiles],
    )
    return combined, total


def _with_core_nan(exposure: StarExposure, scene: Scene, rng: np.random.Generator) -> StarExposure:
    """Lose one pixel within 3 pix of the centre."""
    j, i = np.indices(exposure.image.shape)
    candidates = np.flatnonzero(np.hypot(i - scene.star.x, j - scene.star.y) <= 3)
    image, bad = exposure.image.copy(), exposure.bad.copy()
    lost = rng.choice(candidates)
    image.flat[lost], bad.flat[lost] = np.nan, True
    return replace(exposure, image=image, bad=bad)


def case_errors(
    case: Case,
    filter_name: str,
    subarray: str,
    psf: PSF,
    ee: Curve,
    *,
    model: PSF | None = None,
    n: int = 20,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Relative errors of the total rate of noise-free stars.

    Parameters
    ----------
    case : Case
    filter_name, subarray : str
    psf : object with ``render(x, y, shape)``
        The star's PSF.
    ee : callable
        ``ee(filter_name, radius)``: its exact EE.
    model : object with ``render``, optional
        PSF that the method 'psf' uses; the star's own by default.
    n : int
        Realisations: single exposures, or groups of ``case.n_dithers``.
    seed : int

    Returns
    -------
    ndarray, shape (n,)
        Measured over injected rate, less 1.
    """
    rng = np.random.default_rng([seed, *map(ord, filter_name + subarray + case.name)])
    errors = np.empty(n)
    render = (model or psf).render
    for k in range(n):
        profiles = []
        for _ in range(case.n_dithers):
            scene = _scene(filter_name, subarray, psf, rng, case.blemishes)
            exposure = star_exposure_of(simulate_image(scene, psf, rng, noise=False), scene)
            if case.core_nan:
                exposure = _with_core_nan(exposure, scene, rng)
            profiles.append(
                measure_ee(exposure, case.options, PSFModel(render, partial(effective_ee, partial(ee, filter_name))))
            )
        _, total = combine_exposures(profiles, partial(ee, filter_name))
        errors[k] = total.count_rate * GAIN / ELECTRON_RATE - 1
    return errors


@dataclass(frozen=True, slots=True, eq=False)
class Pulls:
    """(measured - true) / error of many noisy realisations.

    Parameters
    ----------
    radius : ndarray, shape (n_radii,)
        [pix].
    group : ndarray, shape (n, n_radii)
        Of the group's mean at each radius.
    total : ndarray, shape (n,)
        Of the total rate.
    """

    radius: NDArray[np.float64]
    group: NDArray[np.float64]
    total: NDArray[np.float64]


def pulls(
    filter_name: str,
    psf: PSF,
    ee: Curve,
    *,
    n: int = 2000,
    n_dithers: int = 2,
    subarray: str = "SUB128",
    blemishes: Blemishes | None = None,
    effects: Mapping[str, Any] | None = None,
    options: EEOptions | None = None,
    seed: int = 0,
    progress: Callable[[range], object] = iter,
) -> Pulls:
    """Compare errors with what they claim to be, on many noisy groups of exposures.

    The truth at a radius is the same exposure's noise-free profile, without blemishes; that of the total rate is the
    injected rate.

    Parameters
    ----------
    filter_name : str
    psf, ee
        As `case_errors`.
    n, n_dithers : int
        Groups, and exposures in each.
    subarray : str
    blemishes : Blemishes, optional
        None by default.
    effects : mapping, optional
        ``one_over_f``, ``ipc`` and ``flat_error`` of the `Scene`; the error of the flat is the same in all dithers.
    options : EEOptions, optional
    seed : int
    progress : callable
        Wraps the range over groups.

    Returns
    -------
    Pulls
    """
    options = options or EEOptions()
    rng = np.random.default_rng([seed, *map(ord, filter_name)])
    group, totals = [], np.empty(n)
    for k in progress(range(n)):  # type: ignore[attr-defined]
        noisy, exact, flat = [], [], None
        for _ in range(n_dithers):
            scene = replace(_scene(filter_name, subarray, psf, rng, blemishes or Blemishes()), **(effects or {}))
            expected, pattern = expected_image(scene, psf), draw_pattern(scene, rng)
            # a response belongs to the detector: the first dither's is that of all
            flat = pattern.flat if flat is None else flat
            perfect = replace(scene, blemishes=Blemishes(), flat_error=0.0)
            image = simulate_image(perfect, psf, rng, noise=False, expected=expected)
            exact.append(measure_ee(star_exposure_of(image, scene), options, PSFModel(psf.render)).count_rate)
            image = simulate_image(scene, psf, rng, expected=expected, pattern=replace(pattern, flat=flat))
            noisy.append(measure_ee(star_exposure_of(image, scene), options, PSFModel(psf.render)))
        combined, total = combine_exposures(noisy, partial(ee, filter_name))
        truth = np.sum(combined.exposure_weight * np.array(exact), axis=0)
        group.append((combined.value - truth) / combined.err_formal)
        totals[k] = (total.count_rate * GAIN - ELECTRON_RATE) / (GAIN * total.count_rate_err)
    return Pulls(combined.radius, np.array(group), totals)


def centring_effect(
    psf: PSF, radius: NDArray[np.float64], *, offset: float = 0.1, n_phases: int = 3, n_directions: int = 8
) -> NDArray[np.float64]:
    """Change of the count rate within apertures that are off the star's centre.

    Parameters
    ----------
    psf : object with ``render(x, y, shape)``
    radius : ndarray, shape (n_radii,)
        [pix].
    offset : float
        Distance of the apertures' centre from the star's [pix].
    n_phases : int
        Pixel phases along each axis.
    n_directions : int

    Returns
    -------
    ndarray, shape (n_radii,)
        Root mean square over phases and directions, as a fraction of the count rate within the radius.
    """
    half = int(radius[-1]) + 4
    shape = (2 * half + 1, 2 * half + 1)
    changes = []
    phases = (np.arange(n_phases) + 0.5) / n_phases - 0.5
    for x, y in ((half + dx, half + dy) for dx in phases for dy in phases):
        image = psf.render(x, y, shape)
        centred = np.sum(aperture_weights(shape, x, y, radius) * image, axis=(1, 2))
        for angle in 2 * np.pi * np.arange(n_directions) / n_directions:
            weights = aperture_weights(shape, x + offset * np.cos(angle), y + offset * np.sin(angle), radius)
            changes.append(np.sum(weights * image, axis=(1, 2)) / centred - 1)
    return np.sqrt(np.mean(np.square(changes), axis=0))


def filter_psfs() -> Mapping[str, PSF]:
    """PSFs that come with the package.

    Returns
    -------
    mapping of str to PSFImage
    """
    from niriss_eestep.reference import load_psf_images

    return load_psf_images()
