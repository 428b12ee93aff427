"""What the detector does to the light: charge diffusion, inter-pixel capacitance, and jitter before both."""

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.instrument import IPC_KERNEL
from niriss_eestep.psf.diffraction import ImageGrid

CHARGE_DIFFUSION = 0.0202
"""Gaussian sigma of the charge diffusion, per axis [arcsec] (STPSF 2.2, constants; fitted there to effective PSFs)."""


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
    from scipy.fft import fft2, ifftshift

    f = grid.frequencies
    gauss = np.exp(-2 * (np.pi * blur * f) ** 2)
    spectrum = fft2(ifftshift(intensity)) / grid.oversample**2 * np.outer(gauss, gauss)
    if ipc:
        phase = np.exp(-2j * np.pi * np.outer(f, np.arange(-2, 3)))
        spectrum *= phase @ (np.array(IPC_KERNEL) / np.sum(IPC_KERNEL)) @ phase.T
    return spectrum
