"""The PSF as an image that renders a star at any position, conserving its light; and the files of such images."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator, RectBivariateSpline

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError, ReferenceDataError, reading
from niriss_eestep.reference.guards import numbers, read_asdf, read_once


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


PACKAGED_PSF_IMAGES = Path(__file__).parent / "data" / "niriss_psf_images.asdf"


class PSFImages(Mapping[str, PSFImage]):
    """PSF images by filter; each is read when it is first asked for.

    Parameters
    ----------
    path : path
        ASDF file as `write_psf_images` makes.

    Raises
    ------
    ReferenceDataError
        Where the file is missing or holds no PSF images.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._images: dict[str, PSFImage] = {}
        tree = read_asdf(self.path, "file of PSF images")
        if not all(isinstance(tree.get(key), dict) for key in ("images", "meta")) or "radius" not in tree:
            raise ReferenceDataError(
                f"{self.path}: not a file of PSF images; make one with 'niriss-ee psfee build --images'"
            )
        self._tree, self.filters, self.meta = tree, tuple(tree["images"]), tree["meta"]

    def __getitem__(self, filter_name: str) -> PSFImage:
        if filter_name not in self.filters:
            raise KeyError(filter_name)
        if filter_name not in self._images:
            with reading(self.path, "a file of PSF images"):
                image = dict(self._tree["images"][filter_name])
                oversample = int(image["oversample"])
            where = f"PSF image of {filter_name}"
            light, ee, radius = numbers(self.path, where, image.get("light"), image.get("ee"), self._tree["radius"])
            if light.ndim != 2 or radius.ndim != 1 or not radius.size or ee.shape != radius.shape or oversample < 1:
                raise ReferenceDataError(f"{self.path}: {where}: its arrays do not belong together")
            try:
                light = light.astype(np.float32)  # as it is stored
                self._images[filter_name] = PSFImage(light=light, oversample=oversample, radius=radius, ee=ee)
            except ParameterError as error:
                raise ReferenceDataError(f"{self.path}: {where}: {error}") from error
        return self._images[filter_name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.filters)

    def __len__(self) -> int:
        return len(self.filters)


def load_psf_images(path: str | os.PathLike[str] | None = None) -> PSFImages:
    """Open PSF images.

    Parameters
    ----------
    path : path, optional
        ASDF file as `write_psf_images` makes; the packaged one by default.

    Returns
    -------
    PSFImages
        Mapping of filter to `PSFImage`.

    Raises
    ------
    ReferenceDataError
        Where the file is missing or holds no PSF images.
    """
    return _open_images(PACKAGED_PSF_IMAGES if path is None else path)


_open_images = read_once(PSFImages)


def write_psf_images(
    images: Mapping[str, PSFImage], path: str | os.PathLike[str], *, meta: Mapping | None = None
) -> None:
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

    radius = next(iter(images.values())).radius
    tree = {
        "meta": {"reftype": "psfimages", "instrument": "NIRISS", **(meta or {})},
        "radius": radius,
        "images": {
            name: {"light": image.light, "oversample": image.oversample, "ee": image.ee}
            for name, image in images.items()
        },
    }
    asdf.AsdfFile(tree).write_to(path, all_array_compression="zlib")
