"""Build the PSF of a filter: encircled energy with its uncertainty, and the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError
from niriss_eestep.instrument import CLEARP_FILTERS, FILTERS
from niriss_eestep.psf.detector import detected_spectrum
from niriss_eestep.psf.diffraction import (
    ImageGrid,
    encircled_energy,
    monochromatic_intensity,
    position_of_star,
    shifted,
    sub_pixel_light,
    wavelength_nodes,
)
from niriss_eestep.psf.pupil import PupilGeometry
from niriss_eestep.psf.wavefront import MeasuredWavefront, WavefrontModel
from niriss_eestep.reference.psf_images import PSFImage, reshaped, wing_brightness

Wavefront = WavefrontModel | MeasuredWavefront

#: radii of the tables [pix]: dense where the EE bends, so that PCHIP interpolation holds to 1e-4
RADII = np.concatenate([np.arange(0, 100) / 10, np.arange(40, 120) / 4, np.arange(60, 121) / 2])


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
        n_pupil = min(256, self.n_pupil)
        return replace(
            self, n_pupil=n_pupil, n_wavelengths=2, n_realisations=self.n_draws, half_size=34, least_oversample=2
        )


#: a look in seconds
COARSE = Sampling(n_pupil=256, n_wavelengths=2, n_realisations=2, n_draws=8)


@dataclass(frozen=True, slots=True, eq=False)
class FilterPSF:
    """PSF of one filter.

    Parameters
    ----------
    filter : str
        Filter.
    radius : ndarray, shape (n_radii,)
        [pix].
    ee : ndarray, shape (n_radii,)
        Mean encircled energy over the prior; 1 at infinity.
    draws : ndarray, shape (n_draws, n_radii)
        Differences of the draws' encircled energies from it.
    image : PSFImage
        Mean image.
    """

    filter: str
    radius: Array
    ee: Array
    draws: Array
    image: PSFImage

    @property
    def ee_err(self) -> Array:
        """Standard deviation over the prior."""
        return self.draws.std(axis=0, ddof=1) if len(self.draws) > 1 else np.zeros(self.radius.size)


def build_filter(
    name: str,
    wavelength: Array,
    weight: Array,
    wavefront: Wavefront,
    *,
    geometry: PupilGeometry | None = None,
    sampling: Sampling | None = None,
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
    wavefront : WavefrontModel or MeasuredWavefront
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
    if name not in FILTERS:
        raise ParameterError(f"{name!r} is not a NIRISS imaging filter; they are {', '.join(FILTERS)}")
    geometry, sampling = geometry or PupilGeometry(), sampling or Sampling()
    light = (1e-6 * wavelength, weight)
    grid, drawn = _spectra(name, light, wavefront, geometry, sampling, progress)
    spectra = np.array(list(drawn))
    full = encircled_energy(spectra, grid, RADII)
    coarse_grid, coarse = _spectra(name, light, wavefront, geometry, sampling.coarse, progress)
    draws = encircled_energy(coarse, coarse_grid, MODE_RADII)
    extended = _extended(draws - draws.mean(axis=0), full.mean(axis=0))
    weight = _like_the_mean(extended[: len(full)])
    near, spectrum = weight @ full, np.tensordot(weight, spectra, axes=1)
    ee = near - weight @ extended[: len(full)]
    image = reshaped(_image(spectrum, grid, sampling.image_half_size, near), ee)
    return FilterPSF(filter=name, radius=RADII, ee=ee, draws=extended, image=image)


def _spectra(
    name: str,
    light: tuple[Array, Array],
    wavefront: Wavefront,
    geometry: PupilGeometry,
    sampling: Sampling,
    progress: Callable[[], object],
) -> tuple[ImageGrid, Iterator[NDArray[np.complex128]]]:
    """Grid of the image, and the detected light of one wavefront after the other, centred on the star."""
    nodes, fractions = wavelength_nodes(*light, sampling.n_wavelengths)
    grid = ImageGrid.for_wavelength(nodes.min(), sampling.half_size, sampling.least_oversample)
    n_pupil = sampling.n_pupil if nodes.min() < 1.2e-6 else min(sampling.n_pupil, max(512, sampling.n_pupil // 2))
    pupil = geometry.sample(n_pupil, clearp=name in CLEARP_FILTERS)

    def spectra() -> Iterator[NDArray[np.complex128]]:
        for index in range(sampling.n_realisations):
            opd = _realised(wavefront, geometry, n_pupil, sampling.seed, index, sampling.n_draws)
            intensity = np.zeros((grid.size, grid.size), dtype=np.float32)
            for node, fraction in zip(nodes, fractions, strict=True):
                intensity += np.float32(fraction) * monochromatic_intensity(pupil, opd, node, grid)
            x, y = position_of_star(intensity, grid)
            progress()
            yield shifted(detected_spectrum(intensity, grid, blur=wavefront.blur, ipc=wavefront.ipc), grid, x, y)

    return grid, spectra()


# the filters share the wavefronts; 4 MB each at 1024 pixels, 1 MB at 512, 0.3 MB at 256
@lru_cache(maxsize=192)
def _realised(
    wavefront: Wavefront, geometry: PupilGeometry, n_pixels: int, seed: int, index: int, n_draws: int
) -> NDArray[np.float32]:
    return wavefront.drawn(seed, index, n_draws).realise(geometry, n_pixels, seed, index)


def _like_the_mean(difference: Array) -> Array:
    """Weights, of sum 1, with which some draws have nearly the mean of all; ``difference`` is theirs from it."""
    products = difference @ difference.T
    # equal weights where that is as good: 1 % of the draws' own variance each
    ridge = 0.01 * max(float(np.trace(products)) / len(products), 1e-12)
    weight = np.linalg.solve(products + ridge * np.eye(len(products)), np.ones(len(products)))
    return np.asarray(weight / weight.sum())


def _extended(difference: Array, ee: Array) -> Array:
    """Differences of EE at `MODE_RADII` interpolated to `RADII`; beyond, in proportion to what the mean PSF loses."""
    inside = PchipInterpolator(MODE_RADII, difference, axis=-1)(np.minimum(RADII, MODE_RADII[-1]))
    lost = (1 - ee) / (1 - np.interp(MODE_RADII[-1], RADII, ee))
    return np.asarray(inside * np.where(MODE_RADII[-1] < RADII, lost, 1.0))


def _image(spectrum: NDArray[np.complex128], grid: ImageGrid, half_size: int, ee: Array) -> PSFImage:
    """Image within a circle and the azimuthal mean beyond, so that its EE is the table's at every radius."""
    light = sub_pixel_light(spectrum, grid, half_size)
    centres = (np.arange(light.shape[0]) + 0.5) / grid.oversample - half_size
    distance = np.hypot(centres[:, None], centres[None, :])
    outside = distance > half_size
    light[outside] = wing_brightness(RADII, ee, distance[outside]) / grid.oversample**2
    return PSFImage(light=light.astype(np.float32), oversample=grid.oversample, radius=RADII, ee=ee)
