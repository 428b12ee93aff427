"""The curve of growth of a star in an image: the measurement of encircled energy for a user with arrays."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError
from niriss_eestep.instrument import DO_NOT_USE
from niriss_eestep.measure.background import Background, Sky, measure_background
from niriss_eestep.measure.ee import sum_apertures
from niriss_eestep.measure.geometry import aperture_weights, distance_grid
from niriss_eestep.measure.repair import by_surface, repair_pixels
from niriss_eestep.measure.stamp import EEOptions, Stamp, check_radii


class CurveOfGrowth:
    """Light of a star within circles, with the covariance between them, in the manner of photutils' class of that name.

    Parameters
    ----------
    data : array_like, shape (ny, nx)
        The image, in any unit per pixel.
    xycen : (float, float)
        Position of the star (x, y) [pix]; 0-indexed, pixel centres are integers. It is used as given.
    radii : array_like, shape (n_radii,)
        Radii of the circles, increasing [pix].
    error, variance : array_like, shape (ny, nx), optional
        Standard error of each pixel, or its square; give one of them. Without either the errors are NaN.
    mask : array_like, shape (ny, nx), optional
        True at bad pixels; or data-quality flags (integers), of which DO_NOT_USE makes a pixel bad. Pixels that are
        not finite are bad too.
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

    Raises
    ------
    ParameterError
        If shapes differ, radii do not increase, or both ``error`` and ``variance`` are given.
    ExposureError
        If less than a tenth of the annulus lies on good pixels.

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
        if error is not None and variance is not None:
            raise ParameterError("give error or variance, not both")
        image, (x, y), self.radius = np.array(data, dtype=float), xycen, check_radii(np.atleast_1d(radii).tolist())
        known = error is not None or variance is not None
        noise = np.zeros(image.shape) if error is None else np.square(np.asarray(error, dtype=float))
        noise = noise if variance is None else np.asarray(variance, dtype=float)
        flags = np.zeros(image.shape, dtype=bool) if mask is None else np.asarray(mask)
        bad = flags if flags.dtype == bool else (flags & DO_NOT_USE) != 0
        if not image.shape == noise.shape == bad.shape:
            raise ParameterError(f"data, error and mask: one shape, not {image.shape}, {noise.shape} and {bad.shape}")
        bad = bad | ~np.isfinite(image) | ~np.isfinite(noise)
        stamp = Stamp("data", image, noise, np.zeros(image.shape, np.uint32), bad, x, y, 0, 0, 1.0, 1.0)
        nothing = Sky(Background(0.0, method="none"), np.zeros(image.shape))
        found = nothing if sky is None else measure_background(image, noise, bad, x, y, *sky)
        weights = aperture_weights(image.shape, x, y, self.radius)
        self.area, self.background = weights.sum(axis=(1, 2)), found.background.value
        touched, distance = bad & (weights[-1] > 0), distance_grid(image.shape, x, y)
        todo = touched & (distance > EEOptions().core_radius)
        repairs = [repair_pixels(stamp, bad, todo, distance, by_surface)] if todo.any() else []
        sums = sum_apertures(stamp, weights, found, repairs, bad)
        lost = np.any((weights > 0) & (touched & ~todo), axis=(1, 2))
        lost |= self.area < np.pi * self.radius**2 * (1 - 1e-9)
        self.profile = np.where(lost, np.nan, sums.values)
        self.covariance = np.where(lost[:, None] | lost | (not known), np.nan, sums.covariance)

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
        by = float(np.nanmax(self.profile)) if total is None else total
        self.profile, self.covariance = self.profile / by, self.covariance / by**2

    def to_table(self) -> Any:
        """Return radius, profile, its error and area as an `astropy.table.Table`.

        Returns
        -------
        astropy.table.Table
        """
        from astropy.table import Table

        names = ("radius", "profile", "profile_error", "area")
        return Table({name: getattr(self, name) for name in names})

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
        err = np.nan_to_num(self.profile_error)
        ax.errorbar(self.radius, self.profile, err, **{"marker": "o", "capsize": 2, **kwargs})
        ax.set_xlabel("radius [pix]")
        ax.set_ylabel("light within the radius")
        return ax
