"""The star's position."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Centroid"]


@dataclass(frozen=True, slots=True)
class Centroid:
    """A star's measured position, 0-indexed in the exposure's array.

    Parameters
    ----------
    x, y : float
        Position [pix].
    x_err, y_err : float
        Standard errors from the pixels' variances [pix]; NaN where the method gives none.
    shift : float
        Distance from the first position [pix].
    method : str
        Name of the centroid method.
    """

    x: float
    y: float
    x_err: float
    y_err: float
    shift: float
    method: str
