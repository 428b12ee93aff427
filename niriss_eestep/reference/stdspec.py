"""What a standard star should give: stars' names, motions and spectra (CALSPEC), and the filters' throughputs."""

import csv
import logging
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from astropy.units import Quantity

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ReferenceDataError, reading
from niriss_eestep.flux.synthetic import ExpectedRate, StandardSpectrum, checked_band, expected_rate, spikes
from niriss_eestep.instrument import FILTERS
from niriss_eestep.reference.guards import numbers, primary_header, read_asdf, read_ecsv, read_fits_table, read_once

log = logging.getLogger(__name__)

# <star>_<instruments or mod>_<version>.fits, as CALSPEC names its files
FILE_NAME = re.compile(r"(?P<star>.+?)(?:_(?P<source>[a-z]+))?_(?P<version>\d{2,4})\.fits(\.gz)?", re.IGNORECASE)
#: columns and their units, as CALSPEC has them
COLUMNS = {"WAVELENGTH": "ANGSTROMS", "FLUX": "FLAM", "STATERROR": "FLAM", "SYSERROR": "FLAM"}
INSTRUMENTS = ("stis", "wfc", "nic", "fos", "iue")

PACKAGED_THROUGHPUT = Path(__file__).parent / "data" / "niriss_throughput.asdf"
NIRISS_RANGE = (0.5, 6.0)  # [micron] a curve that has no light between these is in another unit


@cache
def standard_star(*names: str | None) -> dict[str, Any]:
    """Look a standard star up in the packaged table.

    Parameters
    ----------
    *names : str or None
        What the star is called, in any usual spelling.

    Returns
    -------
    dict
        ``star``: its name in the table. ``kind``, by CALSPEC's spectral type: OB, A, F, G, K, M, white dwarf, hot
        subdwarf or brown dwarf. ``pm_ra``, ``pm_dec``: proper motion, in right ascension times the cosine of the
        declination [mas/yr]. ``keys``: a frozenset of its names, each as `name_key` gives it. What is not known is
        empty, and so is all of a star that is not in the table.

    Examples
    --------
    >>> star = standard_star("GD-153")
    >>> star["kind"], star["pm_ra"], star["pm_dec"]
    ('white dwarf', '-38.41', '-202.953')
    """
    keys = {name_key(name) for name in names if name} - {""}
    text = (files("niriss_eestep.reference") / "data/standard_stars.csv").read_text()
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        known = frozenset(name_key(name) for name in (row["star"], *row["names"].split("; "))) - {""}
        if keys & known:
            return row | {"keys": known}
    return dict.fromkeys(("star", "kind", "pm_ra", "pm_dec"), "") | {"keys": frozenset(keys)}


def name_key(name: str) -> str:
    """Return a name without what spellings differ in: case, punctuation, leading zeros, the D of zone numbers.

    Parameters
    ----------
    name : str

    Returns
    -------
    str

    Examples
    --------
    >>> name_key("BD+60 1753") == name_key("bd60d1753")
    True
    """
    key = re.sub(r"[^A-Z0-9]", "", name.upper())
    key = re.sub(r"^(BD|AGK|GRW|CD)(\d+)D(\d+)$", r"\1\2\3", key)  # CALSPEC writes BD+60 1753 as bd60d1753
    key = re.sub(r"^(HD|BD)0+(?=\d)", r"\1", key)
    return re.sub(r"^J(?=\d{7}$)", "", key)  # J1743045 is 1743045


@read_once
def load_spectrum(path: str | Path) -> StandardSpectrum:
    """Read a standard star's spectrum.

    Parameters
    ----------
    path : path
        A CALSPEC FITS file (``.fits`` or ``.fits.gz``): a table with the columns WAVELENGTH and FLUX and, where stated,
        STATERROR and SYSERROR. Any unit of length and of flux density that synphot knows is taken.

    Returns
    -------
    StandardSpectrum
        Its name is the header's TARGETID, or else the file's.

    Raises
    ------
    ReferenceDataError
        Where the file is missing, is no spectrum, has other units, or a flux that is not finite.
    """
    path = Path(path)
    header, columns = read_fits_table(path, "spectrum of a standard star (FITS table)")
    units = {name: unit for name, (_, unit) in columns.items()}
    with reading(path, "a spectrum of a standard star"):
        values = {name: np.asarray(columns[name][0], dtype=np.float64) for name in COLUMNS if name in columns}
    for column in ("WAVELENGTH", "FLUX"):
        if column not in values:
            raise ReferenceDataError(f"{path}: no column {column}; it has {', '.join(units) or 'none'}")
    shapes = {name: value.shape for name, value in values.items()}
    if any(len(shape) != 1 or shape[0] < 2 for shape in shapes.values()):
        raise ReferenceDataError(
            f"{path}: columns of shape {shapes}; one value a row (no arrays in cells) and two rows at least are needed"
        )
    meta = {"file": str(path)}
    meta |= {key.lower(): str(header[key]).strip() for key in ("DESCRIP", "SOURCE", "PEDIGREE") if key in header}
    for column in values:  # wavelengths first
        unit = units[column] or (units["FLUX"] if column.endswith("ERROR") else None)
        if unit != COLUMNS[column]:
            values[column] = _converted(path, column, values[column], unit, values["WAVELENGTH"])
    if not np.all(np.isfinite(values["WAVELENGTH"])):
        raise ReferenceDataError(f"{path}: wavelengths that are not finite")
    # some files repeat a wavelength at a join
    _, order = np.unique(values["WAVELENGTH"], return_index=True)
    values = {column: value[order] for column, value in values.items()}
    # what has no value is not covered; the rest may be
    known = np.isfinite(values["FLUX"])
    if not known.all() and known.sum() > 1:
        log.warning("%s: %d values of FLUX are not finite: not covered there", path.name, (~known).sum())
        values = {column: value[known] for column, value in values.items()}
    missing = " and no ".join(column for column in COLUMNS if column not in values)
    if missing:
        meta["errors"] = f"the file states no {missing}"
        log.info("%s: no %s; the expected rate's error is without", path.name, missing)
    for column in filter(values.__contains__, ("STATERROR", "SYSERROR")):
        # CALSPEC uses zero for 'not stated'
        bad = ~(np.isfinite(values[column]) & (values[column] >= 0))
        if bad.any():
            text = "%s: %d values of %s are negative or not finite; taken as not stated"
            log.warning(text, path.name, bad.sum(), column)
            values[column] = np.where(bad, 0.0, values[column])
    try:
        name = str(header.get("TARGETID") or path.name).strip()
        errors = values.get("STATERROR"), values.get("SYSERROR")
        return StandardSpectrum(name, values["WAVELENGTH"], values["FLUX"], *errors, meta)
    except ReferenceDataError as error:
        raise ReferenceDataError(f"{path}: {error}") from error


def find_spectrum(target: str, directory: str | Path | None = None) -> StandardSpectrum:
    """Read the newest spectrum of a star in a CALSPEC directory.

    Parameters
    ----------
    target : str
        The star, in any usual spelling: "WD1057+719", "WD 1057+719", "P330-E", "GSC 02581-02323".
    directory : path, optional
        ``$PYSYN_CDBS/calspec`` by default.

    Returns
    -------
    StandardSpectrum

    Raises
    ------
    ReferenceDataError
        Where there is no such directory, or no such star in it; the message then names those of the nearest names.

    Examples
    --------
    >>> star = find_spectrum("WD 1057+719", "calspec")  # doctest: +SKIP
    >>> star.wavelength, star.flux  # [Angstrom], [erg/s/cm2/Angstrom]  # doctest: +SKIP
    """
    return load_spectrum(find_spectrum_files(target, directory)[0])


def find_spectrum_files(target: str, directory: str | Path | None = None) -> list[Path]:
    """Return the spectrum files of a star in a CALSPEC directory, the one to prefer first.

    Of several files, spectra with observations are preferred to pure models (``mod``), composites of more instruments
    to those of fewer (``stiswfcnic`` superseded ``stisnic``: their versions count apart), then the highest version.

    Parameters
    ----------
    target : str
        The star, in any usual spelling.
    directory : path, optional
        ``$PYSYN_CDBS/calspec`` by default.

    Returns
    -------
    list of Path
        One at least.

    Raises
    ------
    ReferenceDataError
        Where there is no such directory, or no such star in it.
    """
    above = os.environ.get("PYSYN_CDBS")
    if directory is None and not above:
        raise ReferenceDataError(
            "the CALSPEC spectra were not found: give a spectrum file, or set the environment variable PYSYN_CDBS to "
            "the directory that holds calspec/"
        )
    folder = Path(above or "", "calspec") if directory is None else Path(directory)
    if not folder.is_dir():
        raise ReferenceDataError(f"{folder}: no such directory; set PYSYN_CDBS to the directory above calspec/")
    files = sorted(path for path in folder.iterdir() if path.name.lower().endswith((".fits", ".fits.gz")))
    # under whatever name the star is filed
    wanted = standard_star(target)["keys"]
    named = {path: FILE_NAME.fullmatch(path.name) for path in files}
    stars = {path: match["star"] if match else path.name.split(".fits")[0] for path, match in named.items()}
    found = [path for path in files if name_key(stars[path]) in wanted]
    for path in () if found else files:
        with suppress(ReferenceDataError):  # a file in the directory that is no FITS file is not the star's
            if name_key(str(primary_header(path, "spectrum", ["TARGETID"]).get("TARGETID", ""))) in wanted:
                found.append(path)
    if not found:
        by_key = {name_key(star): star for star in stars.values()}
        near = [by_key[name] for name in get_close_matches(name_key(target), list(by_key), n=5, cutoff=0.0)]
        raise ReferenceDataError(f"no spectrum of {target!r} in {folder}; nearest names: {', '.join(near) or 'none'}")
    ranks = {}
    for path in found:
        match = named[path]
        source = ((match and match["source"]) or "").lower()
        n_instruments = sum(instrument in source for instrument in INSTRUMENTS)
        ranks[path] = bool(match) and source != "mod", n_instruments, int(match["version"]) if match else -1, path.name
    return sorted(found, key=ranks.__getitem__, reverse=True)


def expected_of_first(
    paths: Iterable[str | Path], wavelength: np.ndarray, pce: np.ndarray, name: str
) -> tuple[StandardSpectrum, ExpectedRate, tuple[str, ...]]:
    """Return what a star should give in a band, by the first of its spectra that covers the band.

    Parameters
    ----------
    paths : iterable of path
        Its files, the one to prefer first; one at least.
    wavelength, pce : ndarray, shape (m,)
        The band's throughput; see `expected_rate`.
    name : str
        What messages call the band.

    Returns
    -------
    spectrum : StandardSpectrum
    expected : ExpectedRate
    notes : tuple of str
        Why a file was passed over; single values that stand out.

    Raises
    ------
    ReferenceDataError
        Where none can be read and covers the band: of the first.
    """
    first: ReferenceDataError | None = None
    for path in paths:
        try:
            spectrum = load_spectrum(path)
            expected = expected_rate(spectrum, wavelength, pce, name=name)
        except ReferenceDataError as error:
            first = first or error
            continue
        file = Path(path).name
        notes = [f"spectrum {file} taken: {first}"] if first is not None else []
        odd = spikes(spectrum, wavelength)
        if odd.size:
            notes.append(f"{file}: {odd.size} values stand out, the first at {odd[0]:.4g} micron: spikes, or a jump?")
        return spectrum, expected, tuple(notes)
    raise first or ReferenceDataError(f"no spectrum for {name}")


def write_spectrum(spectrum: StandardSpectrum, path: str | Path) -> None:
    """Write a spectrum as a FITS file with CALSPEC's columns and units.

    Parameters
    ----------
    spectrum : StandardSpectrum
    path : path
        The file, replaced where it exists. `find_spectrum` finds it under a name such as ``wd1057_719_mod_001.fits``.
    """
    from astropy.io import fits

    arrays = (spectrum.wavelength, spectrum.flux, spectrum.staterr, spectrum.syserr)
    columns = [fits.Column(n, "D", u, array=a) for (n, u), a in zip(COLUMNS.items(), arrays, strict=True)]
    primary = fits.PrimaryHDU()
    primary.header["TARGETID"] = spectrum.name
    for key in ("descrip", "source", "pedigree"):
        if key in spectrum.meta:
            primary.header[key.upper()] = str(spectrum.meta[key])
    fits.HDUList([primary, fits.BinTableHDU.from_columns(columns, name="SCI")]).writeto(path, overwrite=True)


def _converted(path: Path, column: str, values: np.ndarray, unit: str | None, wavelength: np.ndarray) -> np.ndarray:
    """Convert a column to Angstrom, or to erg/s/cm2/Angstrom at wavelengths [Angstrom]; or raise."""
    # what CALSPEC's own units do not need; synphot takes 0.1 s to import
    from astropy import units as u
    from synphot.exceptions import SynphotError
    from synphot.units import FLAM, convert_flux, validate_unit

    try:
        # synphot knows ANGSTROMS, FLAM, FNU, PHOTLAM, and leaves the rest to astropy
        given: Any = validate_unit(unit or "")
        if column == "WAVELENGTH":
            return (values * given).to_value(u.AA)
        if given.physical_type == "dimensionless" or not isinstance(given, u.UnitBase):
            raise u.UnitsError(str(given))
        return convert_flux(wavelength * u.AA, values * given, FLAM).value
    except (u.UnitsError, SynphotError, TypeError, ValueError) as error:
        kind = "one of length" if column == "WAVELENGTH" else "a flux density"
        raise ReferenceDataError(
            f"{path}: unit {unit!r} of {column} is not {kind}; state TUNIT, such as {COLUMNS[column]}"
        ) from error


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
        curves, (low, high) = {}, NIRISS_RANGE
        for name, curve in self.curves.items():
            wave, values = numbers(self.name, f"throughput of {name}", *curve)
            try:
                checked_band(wave, values, name)
            except ReferenceDataError as error:
                raise ReferenceDataError(f"{self.name}: {error}") from None
            if not np.any(values[(wave > low) & (wave < high)] > 0):
                raise ReferenceDataError(
                    f"{self.name}: throughput of {name}: nothing passes between {low} and {high} micron; check the "
                    "wavelength unit"
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
        if filter_name.upper() not in self.curves:
            raise ReferenceDataError(f"{self.name}: no throughput of {filter_name}; it has {', '.join(self.filters)}")
        return self.curves[filter_name.upper()]


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
    meta, found = tree.get("meta", ""), tree.get("throughput", "")
    parts = [meta, *found.values()] if isinstance(found, dict) else [found]
    if not all(isinstance(part, dict) for part in parts):
        raise ReferenceDataError(f"{path}: not a throughput reference")
    curves = {name: (curve.get("wavelength"), curve.get("pce")) for name, curve in found.items()}
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

    Examples
    --------
    >>> synphot_file_name("F090W"), synphot_file_name("F277W")
    ('jwst_nis_f090w_clear.fits', 'jwst_nis_clearp_f277w.fits')
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
    unit = columns["WAVELENGTH"][1] or COLUMNS["WAVELENGTH"]
    if unit != COLUMNS["WAVELENGTH"]:
        wavelength = _converted(path, "WAVELENGTH", wavelength, unit, wavelength)
    order = np.argsort(wavelength)
    return 1e-4 * wavelength[order], pce[order]
