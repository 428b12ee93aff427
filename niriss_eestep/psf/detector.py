"""What the detector does to the light: charge diffusion, inter-pixel capacitance, and jitter before both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.psf.diffraction import ImageGrid

__all__ = ["CHARGE_DIFFUSION", "IPC_KERNEL", "detected_spectrum"]

CHARGE_DIFFUSION = 0.0202
"""Gaussian sigma of the charge diffusion, per axis [arcsec] (STPSF 2.2, constants; fitted there to effective PSFs)."""

IPC_KERNEL = np.array(
    [
        [-6e-06, 9e-06, 2.9e-05, 9e-06, -6e-06],
        [9e-06, 3.09e-04, 3.980e-03, 3.09e-04, 9e-06],
        [2.9e-05, 4.710e-03, 0.980177, 4.710e-03, 2.9e-05],
        [9e-06, 3.09e-04, 5.028e-03, 3.09e-04, 9e-06],
        [-6e-06, 9e-06, 2.9e-05, 9e-06, -6e-06],
    ]
)
"""Share of a pixel's signal that is read in its neighbours, rows y-2 ... y+2: inter-pixel capacitance of SUB80
(LouisDesdoigts/amigo, src/amigo/data/SUB80_ipc.npy). It adds up to 1.0000; no light is lost."""


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
        spectrum *= phase @ (IPC_KERNEL / IPC_KERNEL.sum()) @ phase.T
    return spectrum
