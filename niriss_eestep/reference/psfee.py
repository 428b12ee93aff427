"""Encircled energy of the PSF by filter: the `psfee` reference, from whatever form it comes in."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from niriss_eestep.errors import ParameterError, ReferenceDataError, reading
from niriss_eestep.guard import read_asdf, regular_file
from niriss_eestep.instrument import FILTERS
from niriss_eestep.reference.cache import read_once

__all__ = ["PACKAGED_PSFEE", "PSFEE", "EETable", "load_psfee", "write_psfee"]

PACKAGED_PSFEE = Path(__file__).parent / "data" / "niriss_psfee.asdf"
SCHEMA = "asdf://niriss-eestep.org/schemas/psfee-1.0.0"
#: what a table may exceed 1, or fall from one radius to the next: resampled images do, light does not
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class EETable:
    """Encircled energy of one filter.

    Parameters
    ----------
    radius : ndarray, shape (n_radii,)
        Aperture radii [pix], rising from 0.
    ee : ndarray, shape (n_radii,)
        Fraction of the star's total light within each radius; 1 at infinity.
    ee_err : ndarray, shape (n_radii,)
        Its uncertainty; 0 where the source states none.
    """

    radius: NDArray[np.float64]
    ee: NDArray[np.float64]
    ee_err: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PSFEE:
    """Encircled energy of the PSF, by filter.

    Parameters
    ----------
    tables : mapping of str to EETable
        By filter.
    name : str
        The file or directory it comes from.
    meta : mapping, optional
        Where it is from.

    Raises
    ------
    ReferenceDataError
        Where it holds no filter, or something that is no encircled energy.
    """

    tables: Mapping[str, EETable]
    name: str
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tables:
            raise ReferenceDataError(f"{self.name}: no encircled energy in it")
        unknown = [name for name in self.tables if name not in FILTERS]
        if unknown:
            raise ReferenceDataError(
                f"{self.name}: {', '.join(unknown)}: no NIRISS imaging filter; they are {', '.join(FILTERS)}"
            )
        tables = {name: _checked(self.name, name, self.tables[name]) for name in FILTERS if name in self.tables}
        object.__setattr__(self, "tables", tables)

    @property
    def filters(self) -> tuple[str, ...]:
        """The filters, in order of wavelength."""
        return tuple(self.tables)

    @property
    def radius_max(self) -> float:
        """Radius that every filter's table reaches [pix]."""
        return min(float(table.radius[-1]) for table in self.tables.values())

    def table(self, filter_name: str) -> EETable:
        """Return a filter's table.

        Parameters
        ----------
        filter_name : str
            Such as ``F090W``.

        Returns
        -------
        EETable

        Raises
        ------
        ReferenceDataError
            Where the reference has no such filter.
        """
        try:
            return self.tables[filter_name.upper()]
        except KeyError:
            raise ReferenceDataError(
                f"{self.name}: no encircled energy of {filter_name}; it has {', '.join(self.filters)}"
            ) from None

    def ee(self, filter_name: str, radius_pix: ArrayLike) -> NDArray[np.float64]:
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
        table = self.table(filter_name)
        return _interpolator(table)(self._radius(filter_name, radius_pix))

    def ee_err(self, filter_name: str, radius_pix: ArrayLike) -> NDArray[np.float64]:
        """Interpolate the uncertainty of the encircled energy; 0 where the source states none.

        Parameters and errors are those of `ee`.
        """
        table = self.table(filter_name)
        return np.interp(self._radius(filter_name, radius_pix), table.radius, table.ee_err)

    def _radius(self, filter_name: str, radius_pix: ArrayLike) -> NDArray[np.float64]:
        """Return the radii, or say which of them cannot be used."""
        radius = np.asarray(radius_pix, dtype=np.float64)
        bad = radius[~(np.isfinite(radius) & (radius >= 0))]
        if bad.size:
            raise ParameterError(
                f"radius of the encircled energy of {filter_name} must be finite and not negative, got {bad.flat[0]}"
            )
        reach = self.table(filter_name).radius[-1]
        if radius.size and radius.max() > reach:
            raise ReferenceDataError(
                f"{self.name}: the encircled energy of {filter_name} reaches {reach:g} pix, but {radius.max():g} pix "
                "is needed (the background annulus counts); use smaller radii or a reference that reaches further"
            )
        return radius


@lru_cache(maxsize=64)
def _interpolator(table: EETable) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Make the interpolator of a table once: every exposure asks for several radii."""
    return scipy.interpolate.PchipInterpolator(table.radius, table.ee)


def load_psfee(path: str | os.PathLike[str] | None = None) -> PSFEE:
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
    """
    if path is None:
        path = PACKAGED_PSFEE
    path = Path(path)
    if not path.exists():
        raise ReferenceDataError(f"{path}: no such file or directory (psfee reference)")
    if path.is_dir():
        return _from_directory(path)
    if path.suffix == ".ecsv":
        return _from_table(path)
    return _from_asdf(path)


def write_psfee(psfee: PSFEE, path: str | os.PathLike[str]) -> None:
    """Write a psfee reference as an ASDF file that `load_psfee` reads.

    Parameters
    ----------
    psfee : PSFEE
        What to write.
    path : path
        The file; an existing one is replaced.
    """
    import asdf

    tables = {
        name: {"radius": table.radius, "ee": table.ee, "ee_err": table.ee_err} for name, table in psfee.tables.items()
    }
    meta = {"reftype": "psfee", "instrument": "NIRISS", "radius_unit": "pixel", **psfee.meta}
    with asdf.AsdfFile({"meta": meta, "psfee": tables}, custom_schema=SCHEMA) as file:
        file.write_to(path, all_array_compression="zlib")


@read_once
def _from_asdf(path: Path) -> PSFEE:
    """Read an ASDF file as `write_psfee` makes."""
    import asdf

    tree = read_asdf(path, "psfee reference")
    with reading(path, "a psfee reference"):
        asdf.AsdfFile({key: tree[key] for key in ("meta", "psfee")}, custom_schema=SCHEMA).validate()
        tables = {
            name: EETable(*(np.array(table[key], dtype=np.float64) for key in ("radius", "ee", "ee_err")))
            for name, table in tree["psfee"].items()
        }
        meta = dict(tree["meta"])
    return PSFEE(tables, path.name, meta)


@read_once
def _from_directory(path: Path) -> PSFEE:
    """Read a directory of STPSF FITS images, or of radtab tables."""
    from niriss_eestep.psf.radtab import psfee_from_radtabs
    from niriss_eestep.psf.stpsf import psfee_from_images

    names = [p.name for p in path.iterdir()]
    if any(name.endswith((".fits", ".fits.gz")) for name in names):
        return psfee_from_images(path)
    if any(name.endswith(".radtab") for name in names):
        return psfee_from_radtabs(path)
    raise ReferenceDataError(
        f"{path}: neither FITS images of STPSF/WebbPSF nor *_psf.radtab tables in this directory (psfee reference)"
    )


@read_once
def _from_table(path: Path) -> PSFEE:
    """Read an ECSV table with the columns ``radius`` and one per filter."""
    from astropy.table import Table

    regular_file(path, "psfee reference")
    with reading(path, "an ECSV table of encircled energy"):
        table = Table.read(path, format="ascii.ecsv")
        columns = {name: np.asarray(table[name]) for name in table.colnames}
        source = "; ".join(table.meta.get("comments", []))
    if "radius" not in columns:
        raise ReferenceDataError(f"{path}: no column 'radius' [pix]; it has {', '.join(columns)}")
    unit = str(table["radius"].unit or "pix")
    if unit not in ("pix", "pixel"):
        raise ReferenceDataError(f"{path}: the column 'radius' is in {unit}; it must be in detector pixels")
    radius, tables = columns["radius"], {}
    for name in columns:
        if name.upper() in FILTERS:
            error = columns.get(f"{name}_err", np.zeros(radius.shape))
            tables[name.upper()] = EETable(radius, columns[name], error)
    return PSFEE(tables, path.name, {"source": source or str(path)})


def _checked(source: str, filter_name: str, table: EETable) -> EETable:
    """Return a table as read-only arrays that start at radius 0, or say what is wrong with it."""
    where = f"{source}: encircled energy of {filter_name}"
    with reading(source, f"a table of numbers for {filter_name}"):
        radius, ee, error = (np.array(a, dtype=np.float64) for a in (table.radius, table.ee, table.ee_err))
    if radius.ndim != 1 or radius.size < 2 or not radius.shape == ee.shape == error.shape:
        raise ReferenceDataError(f"{where}: {radius.shape} radii, {ee.shape} values and {error.shape} errors")
    if not (np.all(np.isfinite(radius)) and radius[0] >= 0 and np.all(np.diff(radius) > 0)):
        raise ReferenceDataError(f"{where}: the radii must be finite, not negative, and rise")
    if not (np.all(np.isfinite(ee)) and np.all(error >= 0)):
        raise ReferenceDataError(f"{where}: values that are not finite, or errors that are negative")
    if radius[0] > 0:
        radius, ee, error = (np.concatenate([[0.0], a]) for a in (radius, ee, error))
    _check_is_ee(where, radius, ee)
    # within the tolerance: the interpolation is monotone where the table is
    ee = np.maximum.accumulate(np.clip(ee, 0.0, 1.0))
    for array in (radius, ee, error):
        array.setflags(write=False)
    return EETable(radius, ee, error)


def _check_is_ee(where: str, radius: NDArray[np.float64], ee: NDArray[np.float64]) -> None:
    """Raise where the values cannot be an encircled energy."""
    if ee[0] > TOLERANCE or ee.min() < -TOLERANCE:
        raise ReferenceDataError(
            f"{where}: {ee[0]:g} at radius 0 and at least {ee.min():g}; an encircled energy starts at 0"
        )
    if ee.max() > 1 + TOLERANCE:
        at = radius[np.argmax(ee)]
        raise ReferenceDataError(
            f"{where}: {ee.max():.6g} at {at:g} pix exceeds 1; it must be normalised to 1 at infinity"
        )
    fall = np.diff(ee)
    if fall.min() < -TOLERANCE:
        i = int(np.argmin(fall))
        raise ReferenceDataError(
            f"{where}: falls from {ee[i]:.6g} at {radius[i]:g} pix to {ee[i + 1]:.6g} at {radius[i + 1]:g} pix"
        )
