"""The PSF by filter: encircled energy (the `psfee` reference), from whatever form it comes in, and images."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError, ReferenceDataError, reading
from niriss_eestep.instrument import FILTERS
from niriss_eestep.reference.guards import numbers, read_asdf, read_ecsv, read_once

PACKAGED_PSFEE = Path(__file__).parent / "data" / "niriss_psfee.asdf"
PACKAGED_PSF_IMAGES = Path(__file__).parent / "data" / "niriss_psf_images.asdf"
SCHEMA = "asdf://niriss-eestep.org/schemas/psfee-1.0.0"

#: what a table may exceed 1, or fall from one radius to the next: resampled images do, light does not
TOLERANCE = 1e-3

#: encircled energy of one filter: radii [pix], rising from 0; the fraction of the star's light within each, 1 at
#: infinity; its uncertainty, 0 where the source states none; ndarrays of shape (n_radii,)
EETable = namedtuple("EETable", ("radius", "ee", "ee_err"))


@dataclass(frozen=True, slots=True, eq=False)
class PSFEE:
    """Encircled energy of the PSF, by filter, and how uncertain it is.

    The encircled energies of all filters vary together, EE = table + sum_k c_k mode_k, with independent coefficients
    c_k of mean 0 and standard deviation 1: a normal prior about the tables.

    Parameters
    ----------
    tables : mapping of str to EETable
        By filter.
    name : str
        The file or directory it comes from.
    meta : mapping, optional
        Where it is from.
    modes : mapping of str to ndarray, shape (n_modes, n_radii), optional
        By filter, the change of the encircled energy per unit of each mode; None where the source does not say.
    mode_radius : ndarray, shape (n_radii,), optional
        Radii of the modes [pix]; rising from 0.

    Raises
    ------
    ReferenceDataError
        Where it holds no filter, or something that is no encircled energy.
    """

    tables: Mapping[str, EETable]
    name: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    modes: Mapping[str, NDArray[np.float32]] | None = None
    mode_radius: Array = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        if not self.tables:
            raise ReferenceDataError(f"{self.name}: no encircled energy in it")
        if unknown := ", ".join(name for name in self.tables if name not in FILTERS):
            raise ReferenceDataError(f"{self.name}: {unknown}: no NIRISS imaging filter; they are {', '.join(FILTERS)}")
        tables = {}
        for name in (name for name in FILTERS if name in self.tables):
            of = f"encircled energy of {name}"
            where, (radius, ee, error) = f"{self.name}: {of}", numbers(self.name, of, *self.tables[name])
            if radius.ndim != 1 or radius.size < 2 or not radius.shape == ee.shape == error.shape:
                raise ReferenceDataError(f"{where}: {radius.shape} radii, {ee.shape} values and {error.shape} errors")
            if not (np.all(np.isfinite(radius)) and radius[0] >= 0 and np.all(np.diff(radius) > 0)):
                raise ReferenceDataError(f"{where}: the radii must be finite, not negative, and rise")
            if not (np.all(np.isfinite(ee)) and np.all(error >= 0)):
                raise ReferenceDataError(f"{where}: values that are not finite, or errors that are negative")
            if radius[0] > 0:
                radius, ee, error = (np.concatenate([[0.0], a]) for a in (radius, ee, error))
            if ee[0] > TOLERANCE or ee.min() < -TOLERANCE:
                least = f"{ee[0]:g} at radius 0 and at least {ee.min():g}"
                raise ReferenceDataError(f"{where}: {least}; an encircled energy starts at 0")
            if ee.max() > 1 + TOLERANCE:
                most = f"{ee.max():.6g} at {radius[np.argmax(ee)]:g} pix"
                raise ReferenceDataError(f"{where}: {most} exceeds 1; it must be normalised to 1 at infinity")
            i = int(np.argmin(np.diff(ee)))
            if ee[i + 1] - ee[i] < -TOLERANCE:
                ends = (f"{ee[k]:.6g} at {radius[k]:g} pix" for k in (i, i + 1))
                raise ReferenceDataError(f"{where}: falls from {' to '.join(ends)}")
            # read-only, and rising: within the tolerance the interpolation is monotone where the table is
            tables[name] = EETable(radius, np.maximum.accumulate(np.clip(ee, 0.0, 1.0)), error)
            for array in tables[name]:
                array.setflags(write=False)
        if self.modes is not None:
            radius, values = numbers(self.name, "modes of the PSF", self.mode_radius, [*self.modes.values()])
            if values.ndim != 3 or values.shape[2:] != radius.shape or not values.size or radius.size < 2:
                raise ReferenceDataError(f"{self.name}: modes of shape {values.shape} for {radius.size} radii")
            if missing := ", ".join(name for name in tables if name not in self.modes):
                raise ReferenceDataError(f"{self.name}: has modes, but not those of {missing}")
            rises = radius[0] == 0 and np.all(np.diff(radius) > 0)
            if not (rises and np.all(np.isfinite(values)) and np.abs(values).max() < 1):
                raise ReferenceDataError(f"{self.name}: modes not finite, or beyond 1, or radii not rising from 0")
            if not 0 <= (flatter := self.meta.get("flatter", 0.0)) <= 1000:
                raise ReferenceDataError(f"{self.name}: meta.flatter must be a number from 0 to 1000, got {flatter}")
        object.__setattr__(self, "tables", tables)

    @property
    def filters(self) -> tuple[str, ...]:
        """The filters, in order of wavelength."""
        return tuple(self.tables)

    @property
    def radius_max(self) -> float:
        """Radius that every filter's table reaches [pix]."""
        return min(float(table.radius[-1]) for table in self.tables.values())

    def table(self, filter_name: str, radius_pix: ArrayLike = ()) -> EETable:
        """Return a filter's table, as far as it reaches the radii that are wanted.

        Parameters
        ----------
        filter_name : str
            Such as ``F090W``.
        radius_pix : float or array_like, optional
            Radii that it is wanted at [pix].

        Returns
        -------
        EETable

        Raises
        ------
        ReferenceDataError
            Where the reference has no such filter, or does not reach a radius.
        ParameterError
            Where a radius is negative or not finite.
        """
        if (table := self.tables.get(filter_name.upper())) is None:
            held = ", ".join(self.filters)
            raise ReferenceDataError(f"{self.name}: no encircled energy of {filter_name}; it has {held}")
        radius, reach = np.asarray(radius_pix, dtype=np.float64), table.radius[-1]
        if (bad := radius[~(np.isfinite(radius) & (radius >= 0))]).size:
            raise ParameterError(
                f"radius of the encircled energy of {filter_name} must be finite and not negative, got {bad.flat[0]}"
            )
        if radius.size and radius.max() > reach:
            raise ReferenceDataError(
                f"{self.name}: the encircled energy of {filter_name} reaches {reach:g} pix, but {radius.max():g} pix "
                "is needed (the background annulus counts); use smaller radii or a reference that reaches further"
            )
        return table

    def ee(self, filter_name: str, radius_pix: ArrayLike) -> Array:
        """Interpolate the encircled energy, monotonically (PCHIP).

        Parameters
        ----------
        filter_name : str
            Such as ``F090W``.
        radius_pix : float or array_like
            Aperture radii [pix].

        Returns
        -------
        ndarray, shape of ``radius_pix``
            Fraction of the star's total light.

        Raises
        ------
        ReferenceDataError
            Where the reference has no such filter, or does not reach a radius.
        ParameterError
            Where a radius is negative or not finite.
        """
        self.table(filter_name, radius_pix)  # which reaches as far
        return _curve(self, filter_name.upper())(np.asarray(radius_pix, dtype=np.float64))

    def ee_err(self, filter_name: str, radius_pix: ArrayLike) -> Array:
        """Interpolate the uncertainty of the encircled energy; 0 where the source states none.

        Parameters
        ----------
        filter_name, radius_pix
            As of `ee`, with its errors.

        Returns
        -------
        ndarray
            Fraction of the star's light, in the shape of ``radius_pix``.
        """
        radius, _, error = self.table(filter_name, radius_pix)
        return np.interp(np.asarray(radius_pix, dtype=np.float64), radius, error)

    def modes_at(self, filter_name: str, radius_pix: ArrayLike) -> Array:
        """Interpolate the modes of a filter; beyond their last radius they fall as 1/r, as the light lost does.

        Parameters
        ----------
        filter_name : str
        radius_pix : array_like, shape (n,)
            [pix].

        Returns
        -------
        ndarray, shape (n, n_modes)
        """
        radius, reach = np.asarray(radius_pix, dtype=np.float64), self.mode_radius[-1]
        inside = _curve(self, filter_name, modes=True)(np.minimum(radius, reach))
        return np.asarray(inside * (reach / np.maximum(radius, reach))[..., None])

    def adjusted(self, coefficients: Array, covariance: Array, meta: Mapping[str, Any]) -> PSFEE:
        """Give the encircled energies at a point of their prior, with what is still unknown as the new prior.

        Parameters
        ----------
        coefficients : ndarray, shape (n_modes,)
        covariance : ndarray, shape (n_modes, n_modes)
            Of the coefficients.
        meta : mapping
            Entries to add.

        Returns
        -------
        PSFEE

        Raises
        ------
        ReferenceDataError
            Where the reference has no modes.
        """
        if self.modes is None:
            raise ReferenceDataError(f"{self.name}: has no modes of the PSF, nothing can be fitted")
        variance, vectors = np.linalg.eigh(covariance)
        root = (vectors * np.sqrt(np.maximum(variance, 0.0))).T[::-1]
        modes = {name: (root @ values).astype(np.float32) for name, values in self.modes.items()}
        # no mode is that of flatter mid frequencies any more
        unknown, tables = replace(self, meta={**self.meta, **meta, "flatter": 0.0}, modes=modes), {}
        for name, (radius, ee, _) in self.tables.items():
            error = np.sqrt(np.sum(unknown.modes_at(name, radius) ** 2, axis=1))
            tables[name] = EETable(radius, ee + self.modes_at(name, radius) @ coefficients, error)
        return replace(unknown, tables=tables)


@lru_cache(maxsize=16)
def _curve(psfee: PSFEE, filter_name: str, modes: bool = False) -> scipy.interpolate.PchipInterpolator:
    """Interpolation of a filter's encircled energy, or of its modes, which takes 0.3 ms to make, and 0.1 MB."""
    if modes:
        values = np.transpose((psfee.modes or {})[filter_name]).astype(np.float64)
        return scipy.interpolate.PchipInterpolator(psfee.mode_radius, values)
    return scipy.interpolate.PchipInterpolator(psfee.tables[filter_name].radius, psfee.tables[filter_name].ee)


@partial(read_once, default=PACKAGED_PSFEE)
def load_psfee(path: Path) -> PSFEE:
    """Read the encircled energy of the PSF.

    Parameters
    ----------
    path : path, optional
        An ASDF file as `write_psfee` makes; an ECSV table with the columns ``radius`` [pix] and one per filter; or a
        directory of STPSF/WebbPSF FITS images or of ``*_psf.radtab`` tables. By default the packaged reference.

    Returns
    -------
    PSFEE

    Raises
    ------
    ReferenceDataError
        Where the file or directory is missing or is no psfee reference.

    Examples
    --------
    >>> from niriss_eestep.reference import load_psfee
    >>> load_psfee().ee("F200W", np.array([2.0, 5.0, 10.0])).round(4)
    array([0.7554, 0.8774, 0.9312])
    """
    import asdf

    if path.is_dir():
        return _from_directory(path)
    if path.suffix == ".ecsv":
        return _from_table(path)
    tree = read_asdf(path, "psfee reference")
    with reading(path, "a psfee reference"):
        asdf.AsdfFile(
            {key: tree[key] for key in ("meta", "psfee", "modes") if key in tree}, custom_schema=SCHEMA
        ).validate()
        tables = {name: EETable(*map(table.get, EETable._fields)) for name, table in tree["psfee"].items()}
        modes, radius = None, np.zeros(0)
        if (held := tree.get("modes")) is not None:
            names, values, radius = held["filters"], np.array(held["values"]), np.array(held["radius"])
            if len(names) != len(values):
                raise ReferenceDataError(f"{path}: modes of shape {values.shape} for {len(names)} filters")
            modes = dict(zip(names, values, strict=True))
    return PSFEE(tables, path.name, dict(tree["meta"]), modes, radius)


def write_psfee(psfee: PSFEE, path: str | Path) -> None:
    """Write a psfee reference as an ASDF file that `load_psfee` reads.

    Parameters
    ----------
    psfee : PSFEE
        What to write.
    path : path
        The file; an existing one is replaced.
    """
    import asdf

    tables = {name: table._asdict() for name, table in psfee.tables.items()}
    tree = {"meta": {"reftype": "psfee", "instrument": "NIRISS", "radius_unit": "pixel", **psfee.meta}, "psfee": tables}
    if psfee.modes is not None:
        values = np.array([*psfee.modes.values()])
        tree["modes"] = {"filters": list(psfee.modes), "radius": psfee.mode_radius, "values": values}
    with asdf.AsdfFile(tree, custom_schema=SCHEMA) as file:
        file.write_to(path, all_array_compression="zlib")


def _from_directory(path: Path) -> PSFEE:
    """Read a directory of STPSF FITS images, or of radtab tables, one per filter."""
    from niriss_eestep.psf.stpsf import read_psf_image, read_radtab

    names = sorted(p.name for p in path.iterdir())
    images = [name for name in names if name.endswith((".fits", ".fits.gz"))]
    files = images or [name for name in names if name.endswith(".radtab")]
    if not files:
        raise ReferenceDataError(
            f"{path}: neither FITS images of STPSF/WebbPSF nor *_psf.radtab tables in this directory (psfee reference)"
        )
    tables: dict[str, EETable] = {}
    origin: dict[str, str] = {}
    model = load_psfee() if images else None
    for file in files:
        name, radius, ee, note = read_psf_image(path / file, model) if model else (*read_radtab(path / file), "radtab")
        if name in tables:
            raise ReferenceDataError(f"{path}: {origin[name].split(':')[0]} and {file} are both of {name}; keep one")
        tables[name], origin[name] = EETable(radius, ee, np.zeros(radius.size)), f"{file}: {note}"
    source = "STPSF/WebbPSF images" if images else "radtab tables, CLEARP transmission removed"
    return PSFEE(tables, str(path), {"source": f"{source}, of {path.name}", "images": origin})


def _from_table(path: Path) -> PSFEE:
    """Read an ECSV table with the columns ``radius`` and one per filter."""
    columns, unit, source = read_ecsv(path, "psfee reference (ECSV table of encircled energy)", "radius")
    if unit not in (None, "pix", "pixel"):
        raise ReferenceDataError(f"{path}: the column 'radius' is in {unit}; it must be in detector pixels")
    radius = columns["radius"]
    names, none = [name for name in columns if name.upper() in FILTERS], np.zeros(radius.shape)
    tables = {name.upper(): EETable(radius, columns[name], columns.get(f"{name}_err", none)) for name in names}
    return PSFEE(tables, path.name, {"source": source})


@dataclass(frozen=True, eq=False)
class PSFImage:
    """PSF of one filter, pixel response included where it is rendered.

    On the image the light is as it says, beyond its sides it is the azimuthal mean of the wing.

    Parameters
    ----------
    light : ndarray, shape (n, n)
        Fraction of the star's total light on each sub-pixel; the star stands on the corner between the four middle
        ones. Further from it than the sides are, the sub-pixels hold the wing.
    oversample : int
        Sub-pixels per detector pixel.
    radius : ndarray, shape (n_radii,)
        Radii of the encircled energy [pix]; rising, to the image's sides or beyond.
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

    def mean_ee(self, radius_pix: ArrayLike) -> Array:
        """Interpolate the encircled energy, averaged over pixel phases.

        Parameters
        ----------
        radius_pix : float or array_like
            Aperture radii [pix].

        Returns
        -------
        ndarray, shape of ``radius_pix``
            Fraction of the star's total light.
        """
        return scipy.interpolate.pchip_interpolate(self.radius, self.ee, radius_pix)

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
        height, half = np.sqrt(self.aspect), self.light.shape[0] // (2 * self.oversample)
        rows, columns = (np.arange(shape[0]) - y) * height, (np.arange(shape[1]) - x) / height
        # the pixels that lie wholly on the image
        row_in, column_in = (np.flatnonzero(np.abs(axis) + 0.5 <= half) for axis in (rows, columns))
        light = np.zeros((0, 0))
        if row_in.size and column_in.size:
            halves = height / 2, 0.5 / height
            inside = (rows[row_in], halves[0]), (columns[column_in], halves[1])
            edges = [np.append(at - half, at[-1] + half) for at, half in inside]
            light = np.diff(np.diff(_cumulative(self)(*edges), axis=0), axis=1)
        if light.shape == tuple(shape):
            return light
        image = wing_brightness(self.radius, self.ee, np.maximum(np.hypot(rows[:, None], columns[None, :]), 0.5))
        if light.size:
            image[np.ix_(row_in, column_in)] = light
        return image


@lru_cache(maxsize=2)
def _cumulative(image: PSFImage) -> scipy.interpolate.RectBivariateSpline:
    """Light below and left of a point, as a function of the point [pix from the star].

    It is known exactly on the corners of the sub-pixels. Differences of an interpolation of it conserve the light
    whatever the interpolation does between them. It takes 3 ms to make, and 0.6 MB: exposures of one filter follow
    each other.
    """
    n = image.light.shape[0]
    total = np.zeros((n + 1, n + 1))
    np.cumsum(image.light, axis=0, dtype=float, out=total[1:, 1:])
    np.cumsum(total[1:, 1:], axis=1, out=total[1:, 1:])
    corners = np.arange(n + 1) / image.oversample - n // (2 * image.oversample)
    return scipy.interpolate.RectBivariateSpline(corners, corners, total, kx=5, ky=5)


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
    slope = scipy.interpolate.PchipInterpolator(radius, ee)(np.minimum(fine, radius[-1]), 1)
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
    growth = [scipy.interpolate.PchipInterpolator(image.radius, curve)(fine, 1) for curve in (ee, image.ee)]
    ratio = np.divide(growth[0], growth[1], out=np.ones(fine.size), where=growth[1] > 0)
    n = image.light.shape[0]
    half = n // (2 * image.oversample)
    centres = (np.arange(n) + 0.5) / image.oversample - half
    distance = np.hypot(centres[:, None], centres[None, :])
    light = image.light * np.interp(distance, fine, ratio)
    # the sub-pixels of the core have less of the pixel's smoothing than the table: keep the light of the whole
    inside = distance <= half
    reached = [np.interp(float(half), image.radius, curve) for curve in (ee, image.ee)]
    light[inside] *= image.light[inside].sum(dtype=float) * reached[0] / reached[1] / light[inside].sum()
    return PSFImage(light.astype(np.float32), image.oversample, image.radius, ee)


@partial(read_once, default=PACKAGED_PSF_IMAGES)
def load_psf_images(path: Path, *filters: str) -> Mapping[str, PSFImage]:
    """Open PSF images.

    Parameters
    ----------
    path : path, optional
        ASDF file as `write_psf_images` makes; the packaged one by default.
    *filters : str
        Those to read: an image takes 3 ms and 0.3 MB. All by default.

    Returns
    -------
    mapping of str to PSFImage
        By filter.

    Raises
    ------
    ReferenceDataError
        Where the file is missing, or holds no PSF images or not those of the filters.

    Examples
    --------
    >>> from niriss_eestep.reference import load_psf_images
    >>> star = load_psf_images()["F444W"].render(20.3, 19.8, (41, 41))  # of count rate 1, at x = 20.3, y = 19.8
    """
    tree = read_asdf(path, "file of PSF images", part=("images", filters) if filters else None)
    if not all(isinstance(tree.get(key), dict) for key in ("images", "meta")) or "radius" not in tree:
        raise ReferenceDataError(f"{path}: not a file of PSF images; make one with 'niriss-ee psfee build --images'")
    images, held = {}, tree["images"]
    if missing := ", ".join(name for name in filters if name not in held):
        raise ReferenceDataError(f"{path}: no PSF image of {missing}; it has {', '.join(held)}")
    for name in filters or held:
        where, entry = f"PSF image of {name}", held[name]
        parts = [entry.get(key) if isinstance(entry, dict) else None for key in ("light", "ee", "oversample")]
        light, ee, oversample, radius = numbers(path, where, *parts, tree["radius"])
        belong = light.ndim == 2 and radius.ndim == 1 and radius.size and ee.shape == radius.shape
        if not belong or oversample.ndim or not 1 <= oversample < np.inf:
            raise ReferenceDataError(f"{path}: {where}: its arrays do not belong together")
        n, half = int(oversample), light.shape[0] // (2 * int(oversample))
        if light.shape != (2 * half * n, 2 * half * n):
            even = f"of an even number of pixels of {n}"
            raise ReferenceDataError(f"{path}: {where}: light must be square, {even}, got {light.shape}")
        if not (radius.size > 1 and np.all(np.diff(radius) > 0) and radius[-1] >= half):
            reach = f"to the image's {half} pix or more"
            raise ReferenceDataError(f"{path}: {where}: the radii of its encircled energy must rise, {reach}")
        images[name] = PSFImage(light.astype(np.float32), n, radius, ee)  # as it is stored
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
