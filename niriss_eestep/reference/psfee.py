"""Encircled energy of the PSF by filter: the `psfee` reference, from whatever form it comes in."""

import os
from pathlib import Path

import numpy as np

from niriss_eestep.errors import ReferenceDataError, reading, regular_file
from niriss_eestep.instrument import FILTERS
from niriss_eestep.reference.ee_table import PSFEE, EETable, Modes
from niriss_eestep.reference.guards import read_asdf, read_once

PACKAGED_PSFEE = Path(__file__).parent / "data" / "niriss_psfee.asdf"
SCHEMA = "asdf://niriss-eestep.org/schemas/psfee-1.0.0"


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
    tree = {"meta": {"reftype": "psfee", "instrument": "NIRISS", "radius_unit": "pixel", **psfee.meta}, "psfee": tables}
    if psfee.modes is not None:
        modes = psfee.modes
        tree["modes"] = {"filters": list(modes.filters), "radius": modes.radius, "values": modes.values}
    with asdf.AsdfFile(tree, custom_schema=SCHEMA) as file:
        file.write_to(path, all_array_compression="zlib")


@read_once
def _from_asdf(path: Path) -> PSFEE:
    """Read an ASDF file as `write_psfee` makes."""
    import asdf

    tree = read_asdf(path, "psfee reference")
    with reading(path, "a psfee reference"):
        asdf.AsdfFile(
            {key: tree[key] for key in ("meta", "psfee", "modes") if key in tree}, custom_schema=SCHEMA
        ).validate()
        tables = {
            name: EETable(*(np.array(table[key], dtype=np.float64) for key in ("radius", "ee", "ee_err")))
            for name, table in tree["psfee"].items()
        }
        meta, modes = dict(tree["meta"]), None
        if "modes" in tree:
            radius, values = np.array(tree["modes"]["radius"]), np.array(tree["modes"]["values"])
            modes = Modes(tuple(tree["modes"]["filters"]), radius, values)
    return PSFEE(tables, path.name, meta, modes)


@read_once
def _from_directory(path: Path) -> PSFEE:
    """Read a directory of STPSF FITS images, or of radtab tables, one per filter."""
    from niriss_eestep.psf.radtab import read_radtab
    from niriss_eestep.psf.stpsf import read_psf_image

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
        name, table, note = read_psf_image(path / file, model) if model else (*read_radtab(path / file), "radtab")
        if name in tables:
            raise ReferenceDataError(
                f"{path}: {origin[name].split(':')[0]} and {file} are both PSFs of {name}; leave one of them"
            )
        tables[name], origin[name] = table, f"{file}: {note}"
    source = "STPSF/WebbPSF images" if images else "radtab tables, CLEARP transmission removed"
    return PSFEE(tables, str(path), {"source": f"{source}, of {path.name}", "images": origin})


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
