"""The PSF as an image that renders a star at any position, conserving its light; and the files of such images."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator, RectBivariateSpline

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError, ReferenceDataError, reading
from niriss_eestep.reference.guards import numbers, read_asdf, read_once

PACKAGED_PSF_IMAGES = Path(__file__).parent / "data" / "niriss_psf_images.asdf"


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
        # the pixels that lie wholly on the image
        row_in, column_in = (np.flatnonzero(np.abs(axis) + 0.5 <= self.half_size) for axis in (rows, columns))
        light = np.zeros((0, 0))
        if row_in.size and column_in.size:
            halves = height / 2, 0.5 / height
            inside = (rows[row_in], halves[0]), (columns[column_in], halves[1])
            edges = [np.append(at - half, at[-1] + half) for at, half in inside]
            light = np.diff(np.diff(self._cumulative(*edges), axis=0), axis=1)
        if light.shape == tuple(shape):
            return light
        image = wing_brightness(self.radius, self.ee, np.maximum(np.hypot(rows[:, None], columns[None, :]), 0.5))
        if light.size:
            image[np.ix_(row_in, column_in)] = light
        return image


def wing_brightness(radius: Array, ee: Array, distance: Array) -> Array:
    """Azimuthal mean brightness that belongs to an encircled energy.

    Beyond the table 1 - EE falls as 1/r, as diffraction by the edges of any pupil gives.

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


@partial(read_once, default=PACKAGED_PSF_IMAGES)
def load_psf_images(path: Path) -> Mapping[str, PSFImage]:
    """Open PSF images.

    Parameters
    ----------
    path : path, optional
        ASDF file as `write_psf_images` makes; the packaged one by default.

    Returns
    -------
    mapping of str to PSFImage
        By filter.

    Raises
    ------
    ReferenceDataError
        Where the file is missing or holds no PSF images.

    Examples
    --------
    >>> from niriss_eestep.reference import load_psf_images
    >>> star = load_psf_images()["F444W"].render(20.3, 19.8, (41, 41))  # of count rate 1, at x = 20.3, y = 19.8
    """
    tree = read_asdf(path, "file of PSF images")
    if not all(isinstance(tree.get(key), dict) for key in ("images", "meta")) or "radius" not in tree:
        raise ReferenceDataError(f"{path}: not a file of PSF images; make one with 'niriss-ee psfee build --images'")
    images = {}
    for name, entry in tree["images"].items():
        where = f"PSF image of {name}"
        with reading(path, "a file of PSF images"):
            light, ee, oversample = entry.get("light"), entry.get("ee"), int(entry["oversample"])
        light, ee, radius = numbers(path, where, light, ee, tree["radius"])
        if light.ndim != 2 or radius.ndim != 1 or not radius.size or ee.shape != radius.shape or oversample < 1:
            raise ReferenceDataError(f"{path}: {where}: its arrays do not belong together")
        try:
            images[name] = PSFImage(light.astype(np.float32), oversample, radius, ee)  # as it is stored
        except ParameterError as error:
            raise ReferenceDataError(f"{path}: {where}: {error}") from error
    return MappingProxyType(images)


def write_psf_images(images: Mapping[str, PSFImage], path: str | Path, *, meta: Mapping | None = None) -> None:
    """Write PSF images as an ASDF file that `load_psf_images` reads.

    Parameters
    ----------
    images : mapping of str to PSFImage
        By filter; all with the same radii.
    path : path
        The file; an existing one is replaced.
    meta : mapping, optional
        Where they are from.
    """
    import asdf

    entries = {
        name: {"light": image.light, "oversample": image.oversample, "ee": image.ee} for name, image in images.items()
    }
    meta = {"reftype": "psfimages", "instrument": "NIRISS", **(meta or {})}
    tree = {"meta": meta, "radius": next(iter(images.values())).radius, "images": entries}
    asdf.AsdfFile(tree).write_to(path, all_array_compression="zlib")
