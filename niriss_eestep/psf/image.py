"""The PSF as an image that renders a star at any position, conserving its light."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator, RectBivariateSpline

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError


@dataclass(frozen=True, eq=False)
class PSFImage:
    """PSF of one filter, pixel response included where it is rendered.

    Within ``half_size`` of the star the image is used, beyond it the azimuthal mean of the wing.

    Parameters
    ----------
    light : ndarray, shape (n, n)
        Fraction of the star's total light on each sub-pixel; the star stands on the corner between the four middle
        ones. Beyond ``half_size`` of the star the sub-pixels hold the wing.
    oversample : int
        Sub-pixels per detector pixel.
    radius : ndarray, shape (n_radii,)
        Radii of the encircled energy [pix]; rising, to beyond ``half_size``.
    ee : ndarray, shape (n_radii,)
        Encircled energy.
    aspect : float
        Height over width of the detector's pixels on the sky, whose area is that of the unit.
    """

    light: NDArray[np.floating]
    oversample: int
    radius: Array
    ee: Array
    aspect: float = 1.0

    def __post_init__(self) -> None:
        n = self.light.shape[0]
        if self.light.shape != (n, n) or n % (2 * self.oversample):
            raise ParameterError(
                f"light must be square, of an even number of pixels of {self.oversample}, got {self.light.shape}"
            )
        if self.radius[-1] < self.half_size:
            raise ParameterError(
                f"the encircled energy reaches {self.radius[-1]} pix, less than the image's {self.half_size} pix"
            )

    @property
    def half_size(self) -> int:
        """Distance from the star to the image's sides [pix]."""
        return self.light.shape[0] // (2 * self.oversample)

    @cached_property
    def _cumulative(self) -> RectBivariateSpline:
        """Light below and left of a point, as a function of the point [pix from the star].

        It is known exactly on the corners of the sub-pixels. Differences of an interpolation of it conserve the light
        whatever the interpolation does between them.
        """
        n = self.light.shape[0]
        total = np.zeros((n + 1, n + 1))
        np.cumsum(self.light, axis=0, dtype=float, out=total[1:, 1:])
        np.cumsum(total[1:, 1:], axis=1, out=total[1:, 1:])
        corners = np.arange(n + 1) / self.oversample - self.half_size
        return RectBivariateSpline(corners, corners, total, kx=5, ky=5)

    def wing(self, distance: Array) -> Array:
        """Azimuthal mean of the light per pixel.

        Beyond the table 1 - EE falls as 1/r, as diffraction by the edges of any pupil gives.

        Parameters
        ----------
        distance : ndarray
            From the star [pix]; not 0.

        Returns
        -------
        ndarray
            Fraction of the total light [1/pix2].
        """
        return wing_brightness(self.radius, self.ee, distance)

    @cached_property
    def mean_ee(self) -> PchipInterpolator:
        """Encircled energy at radii [pix], averaged over pixel phases."""
        return PchipInterpolator(self.radius, self.ee)

    def render(self, x: float, y: float, shape: tuple[int, int]) -> Array:
        """Integrate a star over detector pixels.

        Parameters
        ----------
        x, y : float
            Position of the star [pix]; 0-indexed, pixel centres are integers.
        shape : tuple of int
            Rows and columns of the image.

        Returns
        -------
        ndarray, shape ``shape``
            Fraction of the star's total light on each pixel; it sums to 1 over the infinite plane.
        """
        height = np.sqrt(self.aspect)
        rows, columns = (np.arange(shape[0]) - y) * height, (np.arange(shape[1]) - x) / height
        row_in, column_in = self._inside(rows), self._inside(columns)
        if row_in.size == shape[0] and column_in.size == shape[1]:
            return self._integrate(rows, columns)
        image = self.wing(np.maximum(np.hypot(rows[:, None], columns[None, :]), 0.5))
        if row_in.size and column_in.size:
            image[np.ix_(row_in, column_in)] = self._integrate(rows[row_in], columns[column_in])
        return image

    def _inside(self, offset: NDArray[np.floating]) -> NDArray[np.intp]:
        """Indices of the pixels that lie wholly on the image."""
        return np.flatnonzero(np.abs(offset) + 0.5 <= self.half_size)

    def _integrate(self, rows: NDArray[np.floating], columns: NDArray[np.floating]) -> Array:
        """Light on pixels centred at consecutive offsets from the star."""
        halves = np.sqrt(self.aspect) / 2, 0.5 / np.sqrt(self.aspect)
        edges = [np.append(at - half, at[-1] + half) for at, half in zip((rows, columns), halves, strict=True)]
        return np.diff(np.diff(self._cumulative(*edges), axis=0), axis=1)


def wing_brightness(radius: Array, ee: Array, distance: Array) -> Array:
    """Azimuthal mean brightness that belongs to an encircled energy.

    Parameters
    ----------
    radius, ee : ndarray, shape (n_radii,)
        Encircled energy [pix].
    distance : ndarray
        From the star [pix]; not 0.

    Returns
    -------
    ndarray
        Fraction of the total light [1/pix2].
    """
    fine = np.arange(0.0, radius[-1] + 0.25, 0.25)
    slope = PchipInterpolator(radius, ee)(np.minimum(fine, radius[-1]), 1)
    reach, beyond = radius[-1], 1.0 - ee[-1]
    growth = np.where(distance <= reach, np.interp(distance, fine, slope), beyond * reach / distance**2)
    return growth / (2 * np.pi * distance)


def reshaped(image: PSFImage, ee: Array) -> PSFImage:
    """Scale a PSF image from radius to radius so that its encircled energy is another.

    Parameters
    ----------
    image : PSFImage
    ee : ndarray, shape (n_radii,)
        At ``image.radius``; near the image's own.

    Returns
    -------
    PSFImage
    """
    fine = np.arange(0.0, image.radius[-1], 0.25)[1:]
    growth = [PchipInterpolator(image.radius, curve)(fine, 1) for curve in (ee, image.ee)]
    ratio = np.divide(growth[0], growth[1], out=np.ones(fine.size), where=growth[1] > 0)
    n = image.light.shape[0]
    centres = (np.arange(n) + 0.5) / image.oversample - image.half_size
    distance = np.hypot(centres[:, None], centres[None, :])
    light = image.light * np.interp(distance, fine, ratio)
    # the sub-pixels of the core have less of the pixel's smoothing than the table: keep the light of the whole
    inside, edge = distance <= image.half_size, float(image.half_size)
    reached = [np.interp(edge, image.radius, curve) for curve in (ee, image.ee)]
    light[inside] *= image.light[inside].sum(dtype=float) * reached[0] / reached[1] / light[inside].sum()
    return PSFImage(light.astype(np.float32), image.oversample, image.radius, ee)
