"""What a real detector and a real sky add to an exposure: each a switch, all off by default.

The order is that of nature: light falls on pixels of unequal response, charge moves to neighbours, pixels are read. An
exposure's `FixedPattern` holds what is drawn once for it; the rest is drawn with the noise.
"""

from dataclasses import replace

import numpy as np
import scipy

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError
from niriss_eestep.instrument import DETECTOR_SIZE, IPC_KERNEL
from niriss_eestep.simulate.detector import LINE_OVERHEAD, Subarray
from niriss_eestep.simulate.switches import Effects

#: share of the charge beyond the threshold that a pixel loses: makes the peak of a star of 30,000 DN one or two per
#: cent low, as the brighter-fatter effect does in early data (jwst, charge_migration step)
_MIGRATION_SHARE = 0.1
_SNOWBALL_EDGE = 0.35  # [pix]


def seen_in(effects: Effects, subarray: Subarray, dither: int) -> Effects:
    """Effects on one exposure of a group.

    Parameters
    ----------
    effects : Effects
    subarray : Subarray
    dither : int
        Counted from 1.

    Returns
    -------
    Effects
        With the part of the response that lies under the subarray, 1 where it is not known, and with snowballs in the
        first exposure only.

    Raises
    ------
    ParameterError
        If the response has neither the detector's shape nor the subarray's.
    """
    response = effects.response
    if response is not None:
        if response.shape == (DETECTOR_SIZE, DETECTOR_SIZE):
            cut = slice(subarray.start - 1, subarray.start - 1 + subarray.size)
            response = response[cut, cut]
        if response.shape != subarray.shape:
            raise ParameterError(f"the response has shape {response.shape}, not the detector's nor {subarray.name}'s")
        response = np.where(np.isfinite(response) & (response > 0), response, 1.0)
    return replace(effects, response=response, snowballs=effects.snowballs if dither == 1 else 0)


def line_noise(
    shape: tuple[int, int], rng: np.random.Generator, *, fast_axis: str = "columns", outputs: int = 1
) -> Array:
    """Noise with a power of 1/f in the order in which pixels are read, of variance 1.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx)
    rng : numpy.random.Generator
    fast_axis : {'columns', 'rows'}
        Lines along which the pixels are read.
    outputs : int
        Amplifiers, each reading an equal part of every line.

    Returns
    -------
    ndarray, shape (ny, nx)
    """
    length, lines = shape if fast_axis == "columns" else shape[::-1]
    part = -(-length // outputs)
    n = lines * (part + LINE_OVERHEAD)
    amplitude = np.zeros(n // 2 + 1)
    amplitude[1:] = np.arange(1, n // 2 + 1) ** -0.5
    drawn = rng.normal(size=(outputs, 2, n // 2 + 1))
    series = np.fft.irfft(amplitude * (drawn[:, 0] + 1j * drawn[:, 1]), n) * n / np.sqrt(4 * np.sum(amplitude**2))
    image = np.concatenate(series.reshape(outputs, lines, -1)[:, :, :part], axis=1)[:, :length]
    return image.T if fast_axis == "columns" else image


def smooth_noise(shape: tuple[int, int], rng: np.random.Generator, scale: float) -> Array:
    """Normal noise of variance 1 of which pixels d apart have a correlation of exp(-d^2 / 2 scale^2).

    Parameters
    ----------
    shape : tuple of int
        (ny, nx)
    rng : numpy.random.Generator
    scale : float
        0 for independent pixels [pix].

    Returns
    -------
    ndarray, shape (ny, nx)
    """
    drawn = rng.normal(size=shape)
    if not scale:
        return drawn
    # a Gaussian convolved with itself is wider by the root of 2
    return scipy.ndimage.gaussian_filter(drawn, scale / np.sqrt(2), mode="wrap") * (np.sqrt(2 * np.pi) * scale)


def pixel_area(shape: tuple[int, int], gradient: float) -> Array:
    """Relative area of pixels that grows from left to right, 1 in the middle, shape (ny, nx).

    Parameters
    ----------
    shape : tuple of int
        (ny, nx).
    gradient : float
        Relative change from left to right.

    Returns
    -------
    ndarray, shape (ny, nx)
    """
    return np.broadcast_to(1.0 + gradient * (np.arange(shape[1]) / max(shape[1] - 1, 1) - 0.5), shape)


def snowball(shape: tuple[int, int], x: float, y: float, effects: Effects) -> Array:
    """A round plateau with a soft edge [e-/s], shape (ny, nx).

    Parameters
    ----------
    shape : tuple of int
        (ny, nx).
    x, y : float
        Centre [pix].
    effects : Effects
        With height [e-/s/pix] and width [pix].

    Returns
    -------
    ndarray, shape (ny, nx)
    """
    away = np.hypot(np.arange(shape[1]) - x, np.arange(shape[0])[:, np.newaxis] - y)
    return effects.snowball_height * scipy.special.expit((effects.snowball_width / 2 - away) / _SNOWBALL_EDGE)


def migrated(rate: Array, full_ramp: float, threshold: float) -> Array:
    """Slopes of ramps that lose a tenth of what they hold beyond a threshold to the four neighbours.

    Parameters
    ----------
    rate : ndarray, shape (ny, nx)
        [DN/s].
    full_ramp : float
        Time from the reset to the last group [s].
    threshold : float
        [DN]; 0 moves nothing.

    Returns
    -------
    ndarray, shape (ny, nx)
        [DN/s]; no charge is lost but at the edge. A straight line through a ramp that bends at a share t of its length
        sees (1 - t)^2 (1 + 2 t) of the bend (least squares on equally spaced reads).
    """
    if not threshold:
        return rate
    bend = np.clip(threshold / np.maximum(rate * full_ramp, 1e-30), 0.0, 1.0)
    return rate + share_moved(rate * (1 - bend) ** 2 * (1 + 2 * bend))


def share_moved(beyond: Array) -> Array:
    """Change by a tenth of the charge beyond the threshold that moves to the four neighbours, shape (..., ny, nx).

    Parameters
    ----------
    beyond : ndarray, shape (..., ny, nx)
        Charge beyond the threshold.

    Returns
    -------
    ndarray, shape (..., ny, nx)
        In the unit of ``beyond``.
    """
    sides = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]) / 4 * _MIGRATION_SHARE
    return scipy.ndimage.convolve(beyond, sides.reshape((1,) * (beyond.ndim - 2) + (3, 3)), mode="constant")


def with_ipc(image: Array) -> Array:
    """Show each pixel's charge in its neighbours too; none is lost.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)

    Returns
    -------
    ndarray, shape (ny, nx)
    """
    return scipy.ndimage.convolve(image, np.array(IPC_KERNEL) / np.sum(IPC_KERNEL), mode="nearest")
