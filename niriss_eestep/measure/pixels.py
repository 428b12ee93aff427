"""What became of each pixel around the star: for figures, and for people who ask why."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.instrument import SATURATED as DQ_SATURATED
from niriss_eestep.measure.background import Sky
from niriss_eestep.measure.geometry import distance_grid
from niriss_eestep.measure.repair import Repair
from niriss_eestep.measure.stamp import Stamp

#: bits of `PixelMap.kind`: one of the chosen DQ flags; no finite value or error; unflagged, but lower than the sky
#: can be; repaired; left out of the background as an outlier; saturated; unflagged, but not what a star can show
FLAGGED, NO_VALUE, LOW, REPAIRED, OUTLIER, SATURATED, UNEXPLAINED = (1 << bit for bit in range(7))

PIXEL_KINDS = {
    "flagged": FLAGGED,
    "no value": NO_VALUE,
    "low": LOW,
    "repaired": REPAIRED,
    "sky outlier": OUTLIER,
    "saturated": SATURATED,
    "unexplained": UNEXPLAINED,
}
"""The bits by name."""

#: beyond the sky annulus [pix]
_MARGIN = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class PixelMap:
    """The pixels that a measurement looked at, before and after the repair.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Count rates as they came [DN/s].
    repaired : ndarray, shape (ny, nx)
        The same with the values that were put in the place of bad pixels [DN/s].
    kind : ndarray of uint8, shape (ny, nx)
        Bits of `PIXEL_KINDS`.
    x_origin, y_origin : int
        Position of the first pixel in the exposure's array [pix].
    flat_err : ndarray, shape (ny, nx), optional
        Error of each pixel from the flat field [DN/s]; None where that is not known.
    flat_scale : float
        Scale over which those errors are correlated [pix].
    """

    image: NDArray[np.float32]
    repaired: NDArray[np.float32]
    kind: NDArray[np.uint8]
    x_origin: int
    y_origin: int
    flat_err: NDArray[np.float32] | None = None
    flat_scale: float = 0.0


def _kinds(exposure: Stamp, bad: Mask, sky: Sky, distance: Array) -> NDArray[np.uint8]:
    """Bits of each pixel of the stamp, without the repair's."""
    no_value = exposure.bad & ~(np.isfinite(exposure.image) & np.isfinite(exposure.variance))
    unexplained = np.zeros(bad.shape, dtype=bool) if exposure.unexplained is None else exposure.unexplained
    background = sky.background
    in_annulus = (distance >= background.r_in) & (distance <= background.r_out)
    unused = np.zeros(bad.shape, dtype=bool)
    if sky.weights.any():
        unused = in_annulus & ~bad & (sky.weights == 0)
    kind = np.zeros(bad.shape, dtype=np.uint8)
    for bit, mask in (
        (FLAGGED, exposure.bad & ~no_value & ~unexplained),
        (UNEXPLAINED, unexplained),
        (NO_VALUE, no_value),
        (LOW, bad & ~exposure.bad),
        (OUTLIER, unused),
        (SATURATED, (exposure.dq & DQ_SATURATED) != 0),
    ):
        kind[mask] |= bit
    return kind


def pixel_map(
    exposure: Stamp, x: float, y: float, bad: Mask, sky: Sky, repairs: Sequence[Repair] = (), *, reach: float
) -> PixelMap:
    """Say what became of each pixel near the star.

    Parameters
    ----------
    exposure : Stamp
    x, y : float
        The star in the stamp's frame [pix].
    bad : ndarray of bool, shape (ny, nx)
        Bad pixels of the stamp, the low ones that were found included.
    sky : Sky
    repairs : sequence of Repair
        What was put in the place of bad pixels.
    reach : float
        How far from the star the map should go, where the sky annulus does not reach further [pix].

    Returns
    -------
    PixelMap
        Cut to the sky annulus.
    """
    kind = _kinds(exposure, bad, sky, distance_grid(bad.shape, x, y))
    repaired = exposure.image.copy()
    for repair in repairs:
        repaired.ravel()[repair.index] = repair.value
        kind.ravel()[repair.index] |= REPAIRED
    reach = max(reach, sky.background.r_out) + _MARGIN
    (j, rows), (i, columns) = (_cut(at, reach, size) for at, size in zip((y, x), bad.shape, strict=True))
    with np.errstate(over="ignore"):  # a pixel brighter than single precision can hold is infinite in a figure
        before, after = (image[rows, columns].astype(np.float32) for image in (exposure.image, repaired))
    flat = exposure.flat_variance
    flat_err = None if flat is None or not flat.any() else np.sqrt(flat[rows, columns]).astype(np.float32)
    origin = exposure.x_origin + i, exposure.y_origin + j
    return PixelMap(before, after, kind[rows, columns], *origin, flat_err, exposure.flat_scale)


def _cut(at: float, reach: float, size: int) -> tuple[int, slice]:
    """First pixel, and slice, of the part of an axis within reach; one pixel at least."""
    first = min(max(0, round(at - reach)), size - 1)
    return first, slice(first, max(first, round(at + reach)) + 1)
