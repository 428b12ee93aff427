"""From a pupil and a wavefront to the PSF on a sub-pixel grid, as the detector shows it, and to its EE."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fft2, fftshift, ifft2, ifftshift
from scipy.special import j1

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError
from niriss_eestep.instrument import IPC_KERNEL, PIXEL_SCALE
from niriss_eestep.psf.pupil import CIRCUMSCRIBED_DIAMETER, pixel_centres

#: radii of the tables [pix]: dense where the EE bends, so that PCHIP interpolation holds to 1e-4
RADII = np.concatenate([np.arange(0, 100) / 10, np.arange(40, 120) / 4, np.arange(60, 121) / 2])
_RADIAN = np.pi / 180 / 3600  # [rad/arcsec]


@dataclass(frozen=True, slots=True)
class ImageGrid:
    """Sub-pixels on which the intensity is computed, centred on the origin.

    Parameters
    ----------
    oversample : int
        Sub-pixels per detector pixel.
    half_size : int
        Half of the field [pix].
    """

    oversample: int
    half_size: int

    @property
    def size(self) -> int:
        """Sub-pixels across; odd, so that one is centred on the origin."""
        return 2 * self.half_size * self.oversample + 1

    @property
    def coordinates(self) -> Array:
        """Centres of the sub-pixels along either axis [pix]."""
        return (np.arange(self.size) - self.size // 2) / self.oversample

    @property
    def frequencies(self) -> NDArray[np.floating]:
        """Spatial frequencies of the grid's discrete Fourier transform [cycles/pix]."""
        return np.fft.fftfreq(self.size) * self.oversample

    @classmethod
    def for_wavelength(cls, shortest: float, half_size: int, least: int = 3) -> ImageGrid:
        """Choose the oversampling that a diffraction image needs.

        Parameters
        ----------
        shortest : float
            Shortest wavelength that matters [m].
        half_size : int
            Half of the field [pix].
        least : int, optional
            Oversampling of the reddest filters, where 2 would do for the light and an image wants more.

        Returns
        -------
        ImageGrid
        """
        # the intensity's highest frequency is D / wavelength; sampled twice per period, but for the last 4 %, where the
        # modulation transfer is below 1e-3 and the pixel's nearly 0
        nyquist = 2 * PIXEL_SCALE * _RADIAN * CIRCUMSCRIBED_DIAMETER / shortest
        return cls(oversample=max(least, int(np.ceil(0.96 * nyquist))), half_size=half_size)


def wavelength_nodes(wavelength: Array, weight: Array, n_nodes: int) -> tuple[Array, Array]:
    """Represent a passband by a few wavelengths.

    The band is cut into parts of equal light; each is represented by its mean wavelength.

    Parameters
    ----------
    wavelength : ndarray, shape (n,)
        Rising.
    weight : ndarray, shape (n,)
        Detected electrons per unit wavelength: photon flux times throughput, in any scale.
    n_nodes : int
        Number of wavelengths.

    Returns
    -------
    nodes, fractions : ndarray, shape (n_nodes,)
        Wavelengths, in the unit given, and the fraction of the light that each stands for.

    Raises
    ------
    ParameterError
        If no light is detected.
    """
    light = np.clip(weight, 0.0, None) * np.gradient(wavelength)
    if not light.sum() > 0:
        raise ParameterError("throughput times spectrum is zero everywhere: the star gives no light in this filter")
    edges = np.concatenate([[0.0], np.cumsum(light / light.sum())])
    moment = np.concatenate([[0.0], np.cumsum(wavelength * light / light.sum())])
    cuts = np.interp(np.linspace(0.0, 1.0, n_nodes + 1), edges, moment)
    return np.diff(cuts) * n_nodes, np.full(n_nodes, 1.0 / n_nodes)


def monochromatic_intensity(
    pupil: Array, opd: NDArray[np.float32], wavelength: float, grid: ImageGrid
) -> NDArray[np.float32]:
    """Fraunhofer diffraction by a matrix Fourier transform (Soummer et al. 2007, Opt. Express 15, 15935).

    Parameters
    ----------
    pupil : ndarray, shape (n, n)
        Clear fraction of each pupil pixel.
    opd : ndarray, shape (n, n)
        Optical path difference on the same pixels [m].
    wavelength : float
        [m].
    grid : ImageGrid
        Where the intensity is wanted.

    Returns
    -------
    ndarray, shape (grid.size, grid.size)
        Fraction of the light that passes the pupil, per square pixel: 1 over the infinite plane.
    """
    field = pupil.astype(np.complex64)
    field *= np.exp(np.complex64(2j * np.pi / wavelength) * opd)
    kernel = _kernel(wavelength, grid, len(pupil))
    image = kernel @ field @ kernel.T
    # [m2] of field sums to [1/pix2] of intensity; Parseval gives the clear area
    pixel_area = (CIRCUMSCRIBED_DIAMETER / len(pupil)) ** 2
    scale = pixel_area * PIXEL_SCALE * _RADIAN / wavelength
    return (image.real**2 + image.imag**2) * np.float32(scale**2 / (float(pupil.sum()) * pixel_area))


# the wavefronts of a filter share those of its wavelengths; 5 MB each at most
@lru_cache(maxsize=8)
def _kernel(wavelength: float, grid: ImageGrid, n_pupil: int) -> NDArray[Any]:
    frequency = PIXEL_SCALE * _RADIAN * grid.coordinates / wavelength  # [cycles/m] on the primary
    return np.exp(-2j * np.pi * np.outer(frequency, pixel_centres(n_pupil))).astype(np.complex64)


def position_of_star(intensity: NDArray[np.float32], grid: ImageGrid, *, box: float = 7.0) -> tuple[float, float]:
    """Centre of mass of the light in a square window that follows it.

    Parameters
    ----------
    intensity : ndarray, shape (grid.size, grid.size)
        In any scale.
    grid : ImageGrid
        Its sub-pixels.
    box : float, optional
        Width of the window [pix]; that of the measured centroid, so that the EE is counted from the same position.

    Returns
    -------
    x, y : float
        [pix] from the grid's centre.
    """
    position, at = np.zeros(2), grid.coordinates
    for _ in range(20):
        # the part of each sub-pixel within the window, so that the result is continuous
        cover = [np.clip((0.5 * box - np.abs(at - p)) * grid.oversample + 0.5, 0.0, 1.0) for p in position]
        rows, columns = cover[1] @ intensity, intensity @ cover[0]
        light = rows @ cover[0]
        moved = np.array([(rows * cover[0]) @ at, (columns * cover[1]) @ at]) / light
        if np.abs(moved - position).max() < 1e-5:
            break
        position = moved
    return float(moved[0]), float(moved[1])


def detected_spectrum(
    intensity: NDArray[np.floating], grid: ImageGrid, *, blur: float, ipc: bool = True
) -> NDArray[np.complex128]:
    """Fourier transform of the light that the detector pixel centred anywhere reads.

    Parameters
    ----------
    intensity : ndarray, shape (grid.size, grid.size)
        [1/pix2].
    grid : ImageGrid
        Its sub-pixels.
    blur : float
        Gaussian sigma of jitter and charge diffusion together [pix].
    ipc : bool, optional
        With inter-pixel capacitance: a convolution with deltas on whole pixels, exact between the pixel centres too.

    Returns
    -------
    ndarray, shape (grid.size, grid.size)
        At the frequencies of the grid; 1 at frequency 0 would be all light. The pixel's own width is not in it.
    """
    f = grid.frequencies
    gauss = np.exp(-2 * (np.pi * blur * f) ** 2)
    spectrum = fft2(ifftshift(intensity)) / grid.oversample**2 * np.outer(gauss, gauss)
    if ipc:
        phase = np.exp(-2j * np.pi * np.outer(f, np.arange(-2, 3)))
        spectrum *= phase @ (np.array(IPC_KERNEL) / np.sum(IPC_KERNEL)) @ phase.T
    return spectrum


def encircled_energy(spectra: Iterable[NDArray[np.complex128]], grid: ImageGrid, radius: Array) -> Array:
    """EE that exact circular apertures on detector pixels measure, averaged over the star's pixel phase.

    A measurement sums pixels, each the light on it spread evenly over it, in proportion to the aperture's overlap. Its
    average over pixel phases is the light of the PSF convolved twice with the pixel: once where the detector
    integrates, once where the overlap spreads.

    Parameters
    ----------
    spectra : iterable of ndarray, shape (grid.size, grid.size)
        From `detected_spectrum`, centred on the star.
    grid : ImageGrid
        Its sub-pixels.
    radius : ndarray, shape (n_radii,)
        [pix]; smaller than the grid's half size.

    Returns
    -------
    ndarray, shape (n, n_radii)
        Fraction of all light.
    """
    f = grid.frequencies
    pixel = np.sinc(f) ** 2
    index2 = np.rint((f * grid.size / grid.oversample) ** 2).astype(np.int64)
    group = (index2[:, None] + index2[None, :]).ravel()
    weight = np.outer(pixel, pixel)
    radial = np.array([np.bincount(group, weights=(s.real * weight).ravel()) for s in spectra])
    used = np.flatnonzero(np.bincount(group))
    radial = radial[:, used]
    frequency = np.sqrt(used) * grid.oversample / grid.size
    area = (grid.size / grid.oversample) ** 2
    ee = np.empty((len(radial), radius.size))
    for i, r in enumerate(radius):
        # transform of a disc: r J1(2 pi f r) / f, and pi r^2 at f = 0
        disc = np.full(frequency.size, np.pi * r**2)
        disc[1:] = r * j1(2 * np.pi * r * frequency[1:]) / frequency[1:]
        ee[:, i] = radial @ disc / area
    return ee


def sub_pixel_light(spectrum: NDArray[np.complex128], grid: ImageGrid, half_size: int) -> Array:
    """Light on each sub-pixel of a square around the star.

    Parameters
    ----------
    spectrum : ndarray, shape (grid.size, grid.size)
        From `detected_spectrum`, centred on the star.
    grid : ImageGrid
        Its sub-pixels.
    half_size : int
        Half of the square [pix].

    Returns
    -------
    ndarray, shape (2 * half_size * oversample,) * 2
        Fraction of all light; the star stands on the corner between the four middle sub-pixels.
    """
    f = grid.frequencies / grid.oversample
    # half a sub-pixel aside: an even number of sub-pixels has its centre on a corner
    box = np.sinc(f) * np.exp(1j * np.pi * f)
    image = fftshift(ifft2(spectrum * np.outer(box, box)).real)
    middle, n = grid.size // 2, half_size * grid.oversample
    return image[middle - n : middle + n, middle - n : middle + n]


def shifted(spectrum: NDArray[np.complex128], grid: ImageGrid, x: float, y: float) -> NDArray[np.complex128]:
    """Move what stands at (x, y) [pix] to the origin.

    Parameters
    ----------
    spectrum : ndarray of complex, shape (n, n)
    grid : ImageGrid
    x, y : float
        [pix].

    Returns
    -------
    ndarray of complex, shape (n, n)
    """
    f = grid.frequencies
    return spectrum * np.outer(np.exp(2j * np.pi * f * y), np.exp(2j * np.pi * f * x))
