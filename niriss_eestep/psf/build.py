"""Build the PSF of a filter: encircled energy with its uncertainty, and the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.errors import ParameterError
from niriss_eestep.instrument import CLEARP_FILTERS, FILTERS, PIXEL_SCALE
from niriss_eestep.psf.diffraction import (
    ImageGrid,
    detected_spectrum,
    encircled_energy,
    monochromatic_intensity,
    position_of_star,
    shifted,
    sub_pixel_light,
    wavelength_nodes,
)
from niriss_eestep.psf.image import PSFImage, wing_brightness
from niriss_eestep.psf.pupil import PupilGeometry
from niriss_eestep.psf.wavefront import WavefrontModel

__all__ = ["RADII", "FilterPSF", "Sampling", "build_filter"]

#: radii of the tables [pix]: dense where the EE bends, so that PCHIP interpolation holds to 1e-4
RADII = np.concatenate([np.arange(0, 100) / 10, np.arange(40, 120) / 4, np.arange(60, 121) / 2])


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
        Wavefronts that are averaged.
    half_size : int
        Half of the field [pix]; more than the largest radius.
    image_half_size : int
        Half of the stored image [pix].
    """

    n_pupil: int = 1024
    n_wavelengths: int = 5
    n_realisations: int = 16
    half_size: int = 66
    image_half_size: int = 40


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
        Mean encircled energy over the wavefronts; 1 at infinity.
    ee_err : ndarray, shape (n_radii,)
        Standard deviation from wavefront to wavefront.
    image : PSFImage
        Mean image.
    """

    filter: str
    radius: NDArray[np.float64]
    ee: NDArray[np.float64]
    ee_err: NDArray[np.float64]
    image: PSFImage


def build_filter(
    name: str,
    wavelength: NDArray[np.float64],
    weight: NDArray[np.float64],
    wavefront: WavefrontModel,
    *,
    geometry: PupilGeometry | None = None,
    sampling: Sampling | None = None,
    seed: int = 20210,
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
        Wavefront errors, jitter and charge diffusion.
    geometry : PupilGeometry, optional
        JWST's by default.
    sampling : Sampling, optional
        Numerical settings.
    seed : int, optional
        Seeds the wavefronts; the same ones serve every filter.
    progress : callable, optional
        Called after each wavefront.

    Returns
    -------
    FilterPSF

    Raises
    ------
    ParameterError
        If the filter is unknown or no light passes it.
    """
    if name not in FILTERS:
        raise ParameterError(f"{name!r} is no NIRISS imaging filter; they are {', '.join(FILTERS)}")
    geometry, sampling = geometry or PupilGeometry(), sampling or Sampling()
    nodes, fractions = wavelength_nodes(1e-6 * wavelength, weight, sampling.n_wavelengths)
    grid = ImageGrid.for_wavelength(nodes.min(), sampling.half_size)
    n_pupil = sampling.n_pupil if nodes.min() < 1.2e-6 else sampling.n_pupil // 2
    pupil = geometry.sample(n_pupil, clearp=name in CLEARP_FILTERS)
    blur = float(np.hypot(wavefront.jitter / PIXEL_SCALE, wavefront.diffusion))
    spectra = []
    for realisation in range(sampling.n_realisations):
        opd = _realised(wavefront, geometry, n_pupil, seed, realisation)
        intensity = np.zeros((grid.size, grid.size), dtype=np.float32)
        for node, fraction in zip(nodes, fractions, strict=True):
            intensity += np.float32(fraction) * monochromatic_intensity(pupil, opd, node, grid)
        x, y = position_of_star(intensity, grid)
        spectra.append(shifted(detected_spectrum(intensity, grid, blur=blur), grid, x, y))
        progress()
    ee = encircled_energy(np.array(spectra), grid, RADII)
    mean = np.mean(spectra, axis=0)
    image = _image(mean, grid, sampling.image_half_size, ee.mean(axis=0))
    spread = ee.std(axis=0, ddof=1) if len(ee) > 1 else np.zeros(RADII.size)
    return FilterPSF(filter=name, radius=RADII, ee=ee.mean(axis=0), ee_err=spread, image=image)


# the filters share the wavefronts; 4 MB each at 1024 pixels
@lru_cache(maxsize=16)
def _realised(
    wavefront: WavefrontModel, geometry: PupilGeometry, n_pixels: int, seed: int, index: int
) -> NDArray[np.float32]:
    return wavefront.realise(geometry, n_pixels, seed, index)


def _image(spectrum: NDArray[np.complex128], grid: ImageGrid, half_size: int, ee: NDArray[np.float64]) -> PSFImage:
    """Image within a circle and the azimuthal mean beyond, so that its EE is the table's at every radius."""
    light = sub_pixel_light(spectrum, grid, half_size)
    centres = (np.arange(light.shape[0]) + 0.5) / grid.oversample - half_size
    distance = np.hypot(centres[:, None], centres[None, :])
    outside = distance > half_size
    light[outside] = wing_brightness(RADII, ee, distance[outside]) / grid.oversample**2
    return PSFImage(light=light.astype(np.float32), oversample=grid.oversample, radius=RADII, ee=ee)
