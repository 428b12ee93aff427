"""Build PSFs: encircled energy with its uncertainty and modes, image, and the account of what they are built from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError
from niriss_eestep.instrument import CLEARP_FILTERS, FILTERS, PIXEL_SCALE
from niriss_eestep.psf import diffraction as optics
from niriss_eestep.psf.diffraction import RADII
from niriss_eestep.psf.pupil import GEOMETRIES, INFLIGHT_PUPIL, PupilGeometry
from niriss_eestep.psf.wavefront import WAVEFRONTS, WavefrontModel
from niriss_eestep.reference.psf import PSFEE, EETable, PSFImage, reshaped, wing_brightness
from niriss_eestep.reference.stdspec import Throughput, load_throughput

#: modes kept: fits to 40 stars of other wavefronts have pulls of 2.0 with 32, 1.1 with 64, 1.1 with 100
N_MODES = 64
#: one mode more: a part of what an index of the mid frequencies does that is far below the prior's draws. It is in the
#: error of a total that no fit corrects; a fit gives it a prior of its own, `niriss_eestep.flux.fitted.FLATTER`
FLAT_INDEX, FLAT_SHARE, N_FLAT = 2.8, 1 / 16, 4
#: the wavelengths are weighted for a star like the Sun; EE differs by < 1e-3 for a white dwarf
STAR_TEMPERATURE = 5800.0  # [K]

#: radii at which the draws from the prior are compared [pix]; beyond, what is lost falls as the mean PSF's does
MODE_RADII = np.concatenate([np.arange(0, 24) / 4, np.arange(12, 24) / 2, np.arange(12, 31)])


@dataclass(frozen=True, slots=True)
class Sampling:
    """Numerical settings.

    Parameters
    ----------
    n_pupil : int
        Pixels across the pupil, for wavelengths below 1.2 micron; half as many above, where fewer sample the field.
    n_wavelengths : int
        Wavelengths per filter.
    n_realisations : int
        Wavefronts that are averaged at full sampling: the first of the draws.
    half_size : int
        Half of the field [pix]; more than the largest radius.
    image_half_size : int
        Half of the stored image [pix].
    n_draws : int
        Wavefronts drawn from the prior, coarsely sampled, for the mean and the uncertainty.
    least_oversample : int
        Sub-pixels per pixel of the reddest filters.
    seed : int
        Seeds the wavefronts; the same ones serve every filter.
    """

    n_pupil: int = 1024
    n_wavelengths: int = 5
    n_realisations: int = 8
    half_size: int = 66
    image_half_size: int = 40
    n_draws: int = 144
    least_oversample: int = 3
    seed: int = 20210

    @property
    def coarse(self) -> Sampling:
        """Settings of the draws: their differences are within 2e-4 of the EE (F090W, 5 pix) of those at 512 pixels."""
        coarse = {"n_pupil": min(256, self.n_pupil), "n_wavelengths": 2, "half_size": 34, "least_oversample": 2}
        return replace(self, n_realisations=self.n_draws, **coarse)


#: that of the packaged reference, and a look in seconds
FINE = Sampling()
COARSE = Sampling(n_pupil=256, n_wavelengths=2, n_realisations=2, n_draws=8)


@dataclass(frozen=True, slots=True, eq=False)
class FilterPSF:
    """PSF of one filter.

    Parameters
    ----------
    radius : ndarray, shape (n_radii,)
        [pix].
    ee : ndarray, shape (n_radii,)
        Mean encircled energy over the prior; 1 at infinity.
    draws : ndarray, shape (n_draws, n_radii)
        Differences of the draws' encircled energies from it.
    flat : ndarray, shape (n_radii,)
        `FLAT_SHARE` of the change by mid frequencies of `FLAT_INDEX`; 0 where their index is known.
    image : PSFImage
        Mean image.
    """

    radius: Array
    ee: Array
    draws: Array
    flat: Array
    image: PSFImage

    @property
    def ee_err(self) -> Array:
        """Standard deviation over the prior."""
        return np.hypot(self.draws.std(axis=0, ddof=1) if len(self.draws) > 1 else 0.0, self.flat)


def build_filter(
    name: str,
    wavelength: Array,
    weight: Array,
    wavefront: WavefrontModel,
    *,
    geometry: PupilGeometry = INFLIGHT_PUPIL,
    sampling: Sampling = FINE,
    progress: Callable[[], object] = lambda: None,
) -> FilterPSF:
    """Compute the PSF of one filter.

    Parameters
    ----------
    name : str
        One of `FILTERS`.
    wavelength : ndarray, shape (n,)
        Rising [micron].
    weight : ndarray, shape (n,)
        Photon flux times throughput per unit wavelength, in any scale.
    wavefront : WavefrontModel
        Wavefront errors and their prior, jitter and detector.
    geometry : PupilGeometry, optional
        JWST's by default.
    sampling : Sampling, optional
        Numerical settings.
    progress : callable, optional
        Called after each wavefront.

    Returns
    -------
    FilterPSF

    Raises
    ------
    ParameterError
        If the filter is unknown or no light passes it.

    Notes
    -----
    The mean is one of the first wavefronts at full sampling, so weighted that these are near the mean of all draws at
    the coarse sampling, plus what is left between them (control variate): it varies from seed to seed as the mean of
    all draws does.
    """
    (name,) = check_filters([name])
    light = (1e-6 * wavelength, weight)
    grid, drawn = _spectra(name, light, wavefront, geometry, sampling, progress)
    spectra = np.array(list(drawn))
    full = optics.encircled_energy(spectra, grid, RADII)
    coarse_grid, coarse = _spectra(name, light, wavefront, geometry, sampling.coarse, progress)
    draws = optics.encircled_energy(coarse, coarse_grid, MODE_RADII)
    # the same wavefronts but for the index: what their other differences do cancels
    flatter = replace(wavefront, screen_index=FLAT_INDEX if wavefront.scatter[4] else wavefront.screen_index)
    few = replace(sampling.coarse, n_realisations=min(N_FLAT, sampling.n_draws))
    _, drawn = _spectra(name, light, flatter, geometry, few, lambda: None)
    flat = optics.encircled_energy(drawn, coarse_grid, MODE_RADII)
    flat = FLAT_SHARE * np.mean(flat - draws[: len(flat)], axis=0, keepdims=True)
    both = _extended(np.vstack([draws - draws.mean(axis=0), flat]), full.mean(axis=0))
    extended, flat = both[:-1], both[-1]
    weight = _like_the_mean(extended[: len(full)])
    near, spectrum = weight @ full, np.tensordot(weight, spectra, axes=1)
    ee = near - weight @ extended[: len(full)]
    image = reshaped(_image(spectrum, grid, sampling.image_half_size, near), ee)
    return FilterPSF(radius=RADII, ee=ee, draws=extended, flat=flat, image=image)


def _spectra(
    name: str,
    light: tuple[Array, Array],
    wavefront: WavefrontModel,
    geometry: PupilGeometry,
    sampling: Sampling,
    progress: Callable[[], object],
) -> tuple[optics.ImageGrid, Iterator[NDArray[np.complex128]]]:
    """Grid of the image, and the detected light of one wavefront after the other, centred on the star."""
    nodes, fractions = optics.wavelength_nodes(*light, sampling.n_wavelengths)
    grid = optics.ImageGrid.for_wavelength(nodes.min(), sampling.half_size, sampling.least_oversample)
    n_pupil = sampling.n_pupil if nodes.min() < 1.2e-6 else min(sampling.n_pupil, max(512, sampling.n_pupil // 2))
    pupil = geometry.sample(n_pupil, clearp=name in CLEARP_FILTERS)

    def spectra() -> Iterator[NDArray[np.complex128]]:
        for index in range(sampling.n_realisations):
            opd = _realised(wavefront, geometry, n_pupil, sampling.seed, index, sampling.n_draws)
            intensity = np.zeros((grid.size, grid.size), dtype=np.float32)
            for node, fraction in zip(nodes, fractions, strict=True):
                intensity += np.float32(fraction) * optics.monochromatic_intensity(pupil, opd, node, grid)
            x, y = optics.position_of_star(intensity, grid)
            progress()
            detected = optics.detected_spectrum(intensity, grid, blur=wavefront.blur, ipc=wavefront.ipc)
            yield optics.shifted(detected, grid, x, y)

    return grid, spectra()


# the filters share the wavefronts; 4 MB each at 1024 pixels, 1 MB at 512, 0.3 MB at 256
@lru_cache(maxsize=192)
def _realised(
    wavefront: WavefrontModel, geometry: PupilGeometry, n_pixels: int, seed: int, index: int, n_draws: int
) -> NDArray[np.float32]:
    return wavefront.drawn(seed, index, n_draws).realise(geometry, n_pixels, seed, index)


def _like_the_mean(difference: Array) -> Array:
    """Weights, of sum 1, with which some draws have nearly the mean of all; ``difference`` is theirs from it."""
    products = difference @ difference.T
    # equal weights where that is as good: 0.1 % of the draws' own variance each, which leaves 4e-4 of the EE (F090W)
    ridge = 0.001 * max(float(np.trace(products)) / len(products), 1e-12)
    weight = np.linalg.solve(products + ridge * np.eye(len(products)), np.ones(len(products)))
    return np.asarray(weight / weight.sum())


def _extended(difference: Array, ee: Array) -> Array:
    """Differences of EE at `MODE_RADII` interpolated to `RADII`; beyond, in proportion to what the mean PSF loses."""
    inside = PchipInterpolator(MODE_RADII, difference, axis=-1)(np.minimum(RADII, MODE_RADII[-1]))
    lost = (1 - ee) / (1 - np.interp(MODE_RADII[-1], RADII, ee))
    return np.asarray(inside * np.where(MODE_RADII[-1] < RADII, lost, 1.0))


def _image(spectrum: NDArray[np.complex128], grid: optics.ImageGrid, half_size: int, ee: Array) -> PSFImage:
    """Image within a circle and the azimuthal mean beyond, so that its EE is the table's at every radius."""
    light = optics.sub_pixel_light(spectrum, grid, half_size)
    centres = (np.arange(light.shape[0]) + 0.5) / grid.oversample - half_size
    distance = np.hypot(centres[:, None], centres[None, :])
    outside = distance > half_size
    light[outside] = wing_brightness(RADII, ee, distance[outside]) / grid.oversample**2
    return PSFImage(light=light.astype(np.float32), oversample=grid.oversample, radius=RADII, ee=ee)


def build_psfs(
    filters: Sequence[str] = tuple(FILTERS),
    *,
    wavefront: str | WavefrontModel = "inflight",
    throughput: Throughput | None = None,
    sampling: Sampling = FINE,
    progress: Callable[[], object] = lambda: None,
) -> dict[str, FilterPSF]:
    """Compute the PSFs of some filters.

    Parameters
    ----------
    filters : sequence of str, optional
        All imaging filters by default.
    wavefront : str or WavefrontModel, optional
        ``inflight``, ``prelaunch``, or a model of one's own.
    throughput : Throughput, optional
        Weights the wavelengths; the packaged one by default.
    sampling : Sampling, optional
        Numerical settings.
    progress : callable, optional
        Called after each wavefront of each filter.

    Returns
    -------
    dict of str to FilterPSF

    Raises
    ------
    ParameterError
        Where a filter or the wavefront is unknown.
    """
    model, geometry = _model(wavefront)
    throughput, psfs = throughput or load_throughput(), {}
    how: dict[str, Any] = {"geometry": geometry, "sampling": sampling, "progress": progress}
    for name in check_filters(filters):
        wavelength, pce = throughput.curve(name)
        psfs[name] = build_filter(name, wavelength, pce * photon_flux(wavelength), model, **how)
    return psfs


def _model(wavefront: str | WavefrontModel) -> tuple[WavefrontModel, PupilGeometry]:
    """Model of that name, or the one given, and the pupil that goes with it."""
    if isinstance(wavefront, str) and wavefront not in WAVEFRONTS:
        raise ParameterError(f"wavefront {wavefront!r} is unknown; choose from {', '.join(WAVEFRONTS)}")
    model = WAVEFRONTS[wavefront] if isinstance(wavefront, str) else wavefront
    return model, GEOMETRIES.get(model.name, INFLIGHT_PUPIL)


def psfee_of(psfs: Mapping[str, FilterPSF], meta: Mapping[str, Any], *, name: str = "computed") -> PSFEE:
    """Collect the encircled energies of PSFs.

    Parameters
    ----------
    psfs : mapping of str to FilterPSF
        From `build_psfs`.
    meta : mapping
        From `provenance`.
    name : str, optional
        What messages call it.

    Returns
    -------
    PSFEE
    """
    tables = {key: EETable(psf.radius, psf.ee, psf.ee_err) for key, psf in psfs.items()}
    # not where their index is known
    if any(np.any(psf.flat) for psf in psfs.values()):
        meta = {**meta, "flatter": 1 / FLAT_SHARE}
    return PSFEE(tables, name, meta, modes_of(psfs), MODE_RADII)


def modes_of(psfs: Mapping[str, FilterPSF]) -> dict[str, NDArray[np.float32]] | None:
    """Principal components of the draws, of all filters together, and the change by flatter mid frequencies.

    Each filter counts alike, by the scatter of its EE between 2 and 15 pix.

    Parameters
    ----------
    psfs : mapping of str to FilterPSF
        The same wavefronts in each.

    Returns
    -------
    dict of str to ndarray, shape (n_modes, n_radii), or None
        By filter, at `MODE_RADII`; None of a single draw.
    """
    at = np.searchsorted(RADII, MODE_RADII)
    draws = np.array([psf.draws[:, at] for psf in psfs.values()])
    n_draws = draws.shape[1]
    if n_draws < 2:
        return None
    middle = (MODE_RADII >= 2) & (MODE_RADII <= 15)
    scale = np.maximum(np.sqrt(np.mean(draws[..., middle] ** 2, axis=(1, 2))), 1e-9)[:, None, None]
    columns = (draws / scale).transpose(1, 0, 2).reshape(n_draws, -1)
    _, singular, rows = np.linalg.svd(columns / np.sqrt(n_draws - 1), full_matrices=False)
    kept = min(N_MODES, n_draws - 1, len(rows))
    values = (singular[:kept, None] * rows[:kept]).reshape(kept, len(psfs), MODE_RADII.size).transpose(1, 0, 2)
    flat = np.array([psf.flat[at] for psf in psfs.values()])
    values = np.concatenate([values * scale, flat[:, None]], axis=1)
    return dict(zip(psfs, values.astype(np.float32), strict=True))


def provenance(
    wavefront: str | WavefrontModel, *, throughput: Throughput | None = None, sampling: Sampling = FINE
) -> dict[str, Any]:
    """Write down what PSFs are built from; the arguments are those of `build_psfs`.

    Parameters
    ----------
    wavefront, throughput, sampling
        As of `build_psfs`.

    Returns
    -------
    dict of str to object
        For the metadata of a reference.

    Raises
    ------
    ParameterError
        If the wavefront is unknown.
    """
    throughput = throughput or load_throughput()
    model, geometry = _model(wavefront)
    return {
        "source": f"niriss-ee psfee build, wavefront {model.name}: Fraunhofer diffraction by the JWST pupil",
        "wavefront": _plain(asdict(model)) | {"total_rms": round(model.total_rms, 3)},
        "geometry": _plain(asdict(geometry)) | {"clearp_transmission": round(geometry.clearp_transmission(), 5)},
        "sampling": asdict(sampling), "seed": sampling.seed, "pixel_scale": PIXEL_SCALE,
        "throughput": f"{throughput.name}: {throughput.meta.get('source', '')}",
        "spectrum": f"Planck function of {STAR_TEMPERATURE:g} K",
        "versions": {package: version(package) for package in ("niriss_eestep", "poppy", "numpy", "scipy")},
    }  # fmt: skip


def photon_flux(wavelength: Array) -> Array:
    """Photons per unit wavelength of a star like the Sun (Planck function), in an arbitrary scale.

    Parameters
    ----------
    wavelength : ndarray
        [micron].

    Returns
    -------
    ndarray
    """
    # the second radiation constant [micron K], CODATA 2018
    return wavelength**-4 / np.expm1(14387.77 / (wavelength * STAR_TEMPERATURE))


def check_filters(filters: Sequence[str]) -> tuple[str, ...]:
    """Return the filters in upper case and in order of wavelength, or say which of them is unknown.

    Parameters
    ----------
    filters : sequence of str
        Names.

    Returns
    -------
    tuple of str

    Raises
    ------
    ParameterError
        Where a name is not an imaging filter's.
    """
    names = {name.upper() for name in filters}
    if "NRM" in names:
        raise ParameterError("NRM is the non-redundant mask; its PSF is not that of imaging")
    if unknown := sorted(names - set(FILTERS)):
        raise ParameterError(f"{', '.join(unknown)}: no NIRISS imaging filter; they are {', '.join(FILTERS)}")
    return tuple(name for name in FILTERS if name in names)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples as lists, which ASDF writes; without a map of the wavefront."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items() if key != "opd"}
