"""Photon-to-electron conversion curves of the filters, from whatever form they come in."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.units import Quantity

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ReferenceDataError, reading
from niriss_eestep.instrument import FILTERS
from niriss_eestep.reference.guards import numbers, read_asdf, read_ecsv, read_fits_table, read_once

PACKAGED_THROUGHPUT = Path(__file__).parent / "data" / "niriss_throughput.asdf"
NIRISS_RANGE = (0.5, 6.0)  # [micron] a curve that has no light between these is in another unit
WAVELENGTH_UNITS = {"micron": 1.0, "um": 1.0, "micrometer": 1.0, "nm": 1e-3, "nanometer": 1e-3, "m": 1e6, "meter": 1e6}
WAVELENGTH_UNITS |= {"angstrom": 1e-4, "a": 1e-4, "aa": 1e-4}  # [micron] per unit; plurals lose their s


@dataclass(frozen=True, slots=True, eq=False)
class Throughput:
    """Photon-to-electron conversion efficiency of the filters, telescope to detector.

    That of the filter-wheel filters includes the CLEARP element, in which they are always used for imaging.

    Parameters
    ----------
    curves : mapping of str to (ndarray, ndarray)
        Per filter the wavelengths [micron] and the efficiencies (0 to 1).
    name : str
        The file or directory it comes from.
    meta : mapping, optional
        Its source.

    Raises
    ------
    ReferenceDataError
        Where it holds no filter, or something that is no efficiency.
    """

    curves: Mapping[str, tuple[Array, Array]]
    name: str
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.curves:
            raise ReferenceDataError(f"{self.name}: no throughput curve in it")
        curves = {}
        for name, curve in self.curves.items():
            wave, values = numbers(self.name, f"throughput of {name}", *curve)
            where = f"{self.name}: throughput of {name}"
            if wave.ndim != 1 or wave.shape != values.shape or wave.size < 2:
                raise ReferenceDataError(f"{where}: {wave.shape} wavelengths and {values.shape} efficiencies")
            if not np.all(np.isfinite(wave)) or np.any(np.diff(wave) <= 0):
                raise ReferenceDataError(f"{where}: the wavelengths must be finite and increase")
            if not np.all((values >= 0) & (values <= 1)):
                raise ReferenceDataError(
                    f"{where}: efficiencies outside 0 to 1 ({np.min(values):g} to {np.max(values):g})"
                )
            low, high = NIRISS_RANGE
            if not np.any(values[(wave > low) & (wave < high)] > 0):
                raise ReferenceDataError(
                    f"{where}: nothing passes between {low} and {high} micron; check the wavelength unit"
                )
            # readers hand one curve to many users
            wave.setflags(write=False)
            values.setflags(write=False)
            curves[name.upper()] = wave, values
        object.__setattr__(self, "curves", {name: curves[name] for name in (*FILTERS, *curves) if name in curves})

    @property
    def filters(self) -> tuple[str, ...]:
        """The filters, in order of wavelength."""
        return tuple(self.curves)

    def curve(self, filter_name: str) -> tuple[Array, Array]:
        """Return a filter's wavelengths and efficiencies.

        Parameters
        ----------
        filter_name : str
            Such as ``F090W``.

        Returns
        -------
        wavelength, pce : ndarray, shape (n,)
            [micron], and electrons per photon.

        Raises
        ------
        ReferenceDataError
            Where the reference has no such filter.
        """
        try:
            return self.curves[filter_name.upper()]
        except KeyError:
            raise ReferenceDataError(
                f"{self.name}: no throughput of {filter_name}; it has {', '.join(self.filters)}"
            ) from None


@partial(read_once, default=lambda: os.environ.get("NIS_SYNPHOT") or PACKAGED_THROUGHPUT)
def load_throughput(path: Path) -> Throughput:
    """Read throughput curves.

    Parameters
    ----------
    path : path, optional
        An ASDF file as `write_throughput` makes; an ECSV table with the columns ``wavelength`` and one per filter; or a
        directory of synphot FITS files (``jwst_nis_f090w_clear.fits``, ``jwst_nis_clearp_f277w.fits``, ...). By default
        the directory that the environment variable NIS_SYNPHOT names, or else the packaged in-flight curves.

    Returns
    -------
    Throughput

    Raises
    ------
    ReferenceDataError
        Where the file or directory is missing or is no throughput.

    Examples
    --------
    >>> from niriss_eestep.reference import load_throughput
    >>> wavelength, pce = load_throughput().curve("F200W")  # [micron], and electrons per photon
    >>> round(float(pce.max()), 2)
    0.69
    """
    if not path.exists():
        raise ReferenceDataError(
            f"{path}: no such file or directory (throughput reference; NIS_SYNPHOT names the default directory)"
        )
    if path.is_dir():
        files = {name: path / synphot_file_name(name) for name in FILTERS}
        curves = {name: _fits_curve(file) for name, file in files.items() if file.is_file()}
        if not curves:
            raise ReferenceDataError(
                f"{path}: no throughput in this directory; files such as {synphot_file_name('F090W')} are looked for"
            )
        return Throughput(curves, str(path), {"source": f"synphot files of {path}"})
    if path.suffix == ".ecsv":
        columns, unit, source = read_ecsv(path, "table of throughputs", "wavelength")
        with reading(path, "a table with a column 'wavelength' in a unit of length"):
            wave = np.asarray(Quantity(columns["wavelength"], unit or "").to_value("micron"), dtype=np.float64)
        curves = {name: (wave, columns[name]) for name in columns if name.upper() in FILTERS}
        return Throughput(curves, str(path), {"source": source})
    tree = read_asdf(path, "throughput reference")
    with reading(path, "a throughput reference"):
        curves = {name: (curve["wavelength"], curve["pce"]) for name, curve in tree["throughput"].items()}
        meta = dict(tree["meta"])
    return Throughput(curves, path.name, meta)


def write_throughput(throughput: Throughput, path: str | Path) -> None:
    """Write throughput curves as an ASDF file that `load_throughput` reads.

    Parameters
    ----------
    throughput : Throughput
    path : path
        The file; an existing one is replaced.
    """
    import asdf

    curves = {name: {"wavelength": wave, "pce": pce} for name, (wave, pce) in throughput.curves.items()}
    meta = {"reftype": "throughput", "instrument": "NIRISS", "wavelength_unit": "micron", **throughput.meta}
    asdf.AsdfFile({"meta": meta, "throughput": curves}).write_to(path, all_array_compression="zlib")


def synphot_file_name(filter_name: str) -> str:
    """Return the name of a filter's file in a directory of synphot throughputs.

    Parameters
    ----------
    filter_name : str
        Such as ``F090W``.

    Returns
    -------
    str
        ``jwst_nis_f090w_clear.fits`` for a filter of the pupil wheel, ``jwst_nis_clearp_f277w.fits`` for one of the
        filter wheel.
    """
    name, in_pupil = filter_name.lower(), FILTERS[filter_name.upper()].wheel == "pupil"
    return f"jwst_nis_{name}_clear.fits" if in_pupil else f"jwst_nis_clearp_{name}.fits"


def _fits_curve(path: Path) -> tuple[Array, Array]:
    """Read one synphot throughput file: wavelengths [micron] and efficiencies."""
    what = "synphot throughput with the columns WAVELENGTH and THROUGHPUT"
    _, columns = read_fits_table(path, what)
    if not {"WAVELENGTH", "THROUGHPUT"} <= set(columns):
        raise ReferenceDataError(f"{path}: not a {what}; it has {', '.join(columns)}")
    wavelength, pce = numbers(path, what, columns["WAVELENGTH"][0], columns["THROUGHPUT"][0])
    # synphot's convention: Angstrom where a file does not say
    unit = (columns["WAVELENGTH"][1] or "angstrom").lower()
    scale = WAVELENGTH_UNITS.get(unit, WAVELENGTH_UNITS.get(unit.rstrip("s")))
    if scale is None:
        raise ReferenceDataError(f"{path}: wavelength unit {unit!r} is not known; use micron or Angstrom")
    order = np.argsort(wavelength)
    return wavelength[order] * scale, pce[order]
