"""The curve of growth of a star in an image: the measurement of encircled energy for a user with arrays."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.errors import ParameterError
from niriss_eestep.instrument import DO_NOT_USE
from niriss_eestep.measure.background import Background, measure_background
from niriss_eestep.measure.ee import sum_apertures
from niriss_eestep.measure.geometry import aperture_weights, box_about, distance_grid
from niriss_eestep.measure.repair import by_surface, repair_pixels
from niriss_eestep.measure.stamp import BOX, EEOptions, Stamp, check_radii


def _numbers(name: str, values: Any, shape: tuple[int, ...], unit: Any = 1.0) -> Array:
    """Numbers of a shape, in a unit; NaN where a masked array hides them."""
    try:
        if unit != 1.0 or hasattr(values, "unit"):
            from astropy.units import Quantity

            values = Quantity(values, copy=False, subok=True).to_value(unit)
        found = values.astype(float).filled(np.nan) if hasattr(values, "filled") else np.array(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} must be numbers, in the unit of the data: {error}") from error
    if found.shape != shape:
        raise ParameterError(f"{name} must have the shape {shape}, not {found.shape}")
    return np.asarray(found)


def _layers(data: Any, error: Any, variance: Any, mask: Any) -> tuple[Array, Array, Mask, Any]:
    """Values of the pixels, their variances, which of them are bad, and the unit, 1 where there is none."""
    if error is not None and variance is not None:
        raise ParameterError("give error or variance, not both")
    shape, unit = np.shape(data), getattr(data, "unit", 1.0)
    image, noise, flags = _numbers("data", data, shape, unit), np.zeros(shape), np.zeros(shape, dtype=bool)
    if error is not None:
        noise = _numbers("error", error, shape, unit) ** 2
    elif variance is not None:
        noise = _numbers("variance", variance, shape, unit**2)
    if mask is not None:
        flags = np.asarray(mask)
    if flags.shape != shape or flags.dtype.kind not in "biu":
        raise ParameterError(f"mask must be bool, or integers, of shape {shape}; got {flags.dtype} of {flags.shape}")
    bad = flags if flags.dtype == bool else (flags & DO_NOT_USE) != 0
    return image, noise, bad | ~np.isfinite(image) | ~(np.isfinite(noise) & (noise >= 0)), unit


class CurveOfGrowth:
    """Light of a star within circles, with the covariance between them, in the manner of photutils' class of that name.

    Parameters
    ----------
    data : array_like, shape (ny, nx)
        The image, in any unit per pixel. If it is a Quantity, so must ``error`` or ``variance`` be, and the results
        are. What a masked array hides is bad.
    xycen : (float, float)
        Position of the star (x, y) on the image [pix]; 0-indexed, pixel centres are integers. It is used as given.
    radii : array_like, shape (n_radii,)
        Radii of the circles, increasing [pix].
    error, variance : array_like, shape (ny, nx), optional
        Standard error of each pixel, or its square; give one of them. Without either the errors are NaN. Where the
        variance is negative or not finite the pixel is bad.
    mask : array_like, shape (ny, nx), optional
        True at bad pixels; or data-quality flags (integers), of which DO_NOT_USE (1) makes a pixel bad. Pixels that
        are not finite are bad too.
    sky : (float, float), optional
        Radii of an annulus whose mean is subtracted [pix]; nothing is subtracted by default.

    Attributes
    ----------
    radius : ndarray, shape (n_radii,)
        [pix].
    profile : ndarray, shape (n_radii,)
        Sum within each radius. A bad pixel further than 5 pix from the star is repaired by a surface through its
        neighbours; NaN where a circle holds a nearer one, or leaves the image.
    covariance : ndarray, shape (n_radii, n_radii)
        Of ``profile``: circles share pixels, the sky, and what repaired pixels are predicted from.
    area : ndarray, shape (n_radii,)
        Of each circle on the image [pix].
    background : float
        What was subtracted of each pixel.

    See Also
    --------
    niriss_eestep.measure.ee.measure_ee : Finds the star, and repairs bad pixels of its core by a model PSF.

    Raises
    ------
    ParameterError
        If shapes or units differ, radii do not increase, the position is not on the image, or both ``error`` and
        ``variance`` are given.
    ExposureError
        If less than a tenth of the annulus lies on good pixels, or nothing is left to repair a pixel from.

    Examples
    --------
    >>> import numpy as np
    >>> from niriss_eestep import CurveOfGrowth
    >>> j, i = np.indices((61, 61))
    >>> data = 1000 * np.exp(-((i - 30) ** 2 + (j - 31) ** 2) / 8) / (8 * np.pi) + 2.0
    >>> data[38, 36] = np.nan
    >>> growth = CurveOfGrowth(data, (30, 31), [3, 6, 9], error=np.full(data.shape, 0.1), sky=(15, 20))
    >>> growth.profile.round(0)
    array([ 666.,  988., 1000.])
    >>> growth.profile_error.round(2)
    array([0.51, 1.13, 1.88])
    >>> growth.to_table().colnames
    ['radius', 'profile', 'profile_error', 'area']
    """

    def __init__(
        self, data: ArrayLike, xycen: tuple[float, float], radii: ArrayLike, *, error: ArrayLike | None = None,
        variance: ArrayLike | None = None, mask: ArrayLike | None = None, sky: tuple[float, float] | None = None,
    ):  # fmt: skip
        image, noise, bad, unit = _layers(data, error, variance, mask)
        shape, (x, y) = image.shape, _numbers("xycen", xycen, (2,)).tolist()
        if len(shape) != 2 or not (-0.5 <= x < shape[1] - 0.5 and -0.5 <= y < shape[0] - 0.5):
            raise ParameterError(f"data must be an image, and xycen (x, y) on it; got shape {shape} and xycen {xycen}")
        self.radius = check_radii(np.atleast_1d(radii).tolist())
        annulus = () if sky is None else check_radii(_numbers("sky", sky, (2,)).tolist(), "sky").tolist()
        # what is further away than repairs look is of no use, and of a whole detector it would fill the memory
        cut = box_about(x, y, math.ceil(max(self.radius[-1], *annulus, 0)) + 2 * BOX)
        image, noise, bad, x, y = image[cut], noise[cut], bad[cut], x - cut[1].start, y - cut[0].start
        stamp = Stamp("data", image, noise, np.zeros(image.shape, np.uint32), bad, x, y, 0, 0, 1.0, 1.0)
        found = Background(0.0, method="none", weights=np.zeros(image.shape))
        if annulus:
            found = measure_background(image, noise, bad, x, y, *annulus)
        weights = aperture_weights(image.shape, x, y, self.radius)
        touched, distance = bad & (weights[-1] > 0), distance_grid(image.shape, x, y)
        todo = touched & (distance > EEOptions().core_radius)
        repairs = [repair_pixels(stamp, bad, todo, distance, by_surface)] if todo.any() else []
        values, covariance, *_ = sum_apertures(stamp, weights, found, repairs, bad)
        self.area, self.background = weights.sum(axis=(1, 2)), found.value * unit
        lost = np.any((weights > 0) & (touched & ~todo), axis=(1, 2))
        lost |= self.area < np.pi * self.radius**2 * (1 - 1e-9)
        unknown = error is None and variance is None
        self.profile = np.where(lost, np.nan, values) * unit
        self.covariance = np.where(lost[:, None] | lost | unknown, np.nan, covariance) * unit**2

    @property
    def profile_error(self) -> Array:
        """Standard error of ``profile``."""
        return np.sqrt(np.diagonal(self.covariance))

    def normalize(self, total: float | None = None) -> None:
        """Divide the profile, and its errors, by a total.

        Parameters
        ----------
        total : float, optional
            All of the star's light, as a model or an aperture correction gives it; the profile's maximum by default.
        """
        by = np.nanmax(self.profile) if total is None else total
        self.profile, self.covariance = self.profile / by, self.covariance / by**2

    def to_table(self) -> Any:
        """Return radius, profile, its error and area as a table.

        Returns
        -------
        astropy.table.QTable
        """
        from astropy.table import QTable

        names = ("radius", "profile", "profile_error", "area")
        return QTable({name: getattr(self, name) for name in names})

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the profile with its errors.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            The current ones by default.
        **kwargs
            Passed to `matplotlib.axes.Axes.errorbar`.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from matplotlib import pyplot

        ax = pyplot.gca() if ax is None else ax
        profile, err = np.asarray(self.profile), np.nan_to_num(np.asarray(self.profile_error))
        ax.errorbar(self.radius, profile, err, **{"marker": "o", "capsize": 2, **kwargs})
        ax.set_xlabel("radius [pix]")
        unit = str(getattr(self.profile, "unit", ""))
        ax.set_ylabel("light within the radius" + f" [{unit}]" * bool(unit))
        return ax
