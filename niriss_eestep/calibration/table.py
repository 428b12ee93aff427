"""Many visits' absolute-flux products in, the standard pipeline's `photom` and `apcorr` reference files out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack
from astropy.time import Time
from stdatamodels.jwst.datamodels import NisImgApcorrModel, NisImgPhotomModel

from niriss_eestep.calibration.apcorr import SKY_IN, SKY_OUT, aperture_corrections
from niriss_eestep.calibration.crds_files import Provenance, apcorr_model, photom_model
from niriss_eestep.calibration.visits import VisitCalibration
from niriss_eestep.errors import ParameterError, ProductError
from niriss_eestep.products.models import AbsFluxModel
from niriss_eestep.products.models import open as open_product
from niriss_eestep.psf.ee_table import PSFEE

__all__ = ["read_visits", "reference_models"]

PER_AREA = ("photmjsr", "photmjsr_err", "photmjsr_mono", "photuja2", "photuja2_err")
VISIT_KEYS = ("target", "filter", "subarray", "mjd", "count_rate")


def read_visits(sources: Sequence) -> Table:
    """Read the rows of absolute-flux products.

    Parameters
    ----------
    sources : sequence of str, Path or DataModel

    Returns
    -------
    astropy.table.Table
        All rows, with the column ``product``. PHOTMJSR goes with one pixel area, the first that is known.

    Raises
    ------
    ProductError
        Where there is none, a source is no absolute-flux product, or a visit is given twice.
    """
    if not sources:
        raise ProductError("no visits: give at least one absolute-flux product (*_absflux.asdf)")
    tables = []
    for source in sources:
        model = open_product(source) if isinstance(source, (str, Path)) else source
        name = str(model.meta.filename or "a model in memory")
        if not isinstance(model, AbsFluxModel):
            label = source if isinstance(source, (str, Path)) else name
            raise ProductError(f"{label}: holds {type(model).__name__}, absolute flux (*_absflux.asdf) is needed")
        tables.append(Table(model.table))
        tables[-1]["product"] = name
    table = vstack(tables, metadata_conflicts="silent")
    _refuse_repeats(table)
    _to_one_pixel_area(table)
    return table


def _refuse_repeats(table: Table) -> None:
    """Refuse a visit that is given twice: it would count as two, with too small an error."""
    seen: dict = {}
    for row in table[np.isfinite(table["count_rate"])]:
        key = tuple(str(row[name]) for name in VISIT_KEYS)
        if key in seen:
            what = f"{row['target']} in {row['filter']} and {row['subarray']} at MJD {row['mjd']:.5f}"
            raise ProductError(f"{row['product']} repeats a visit of {seen[key]}: {what}; give each visit once")
        seen[key] = row["product"]


def _to_one_pixel_area(table: Table) -> None:
    """Bring PHOTMJSR to one pixel area, where headers state several: its product with the area is the star's flux."""
    area = np.array(table["pixar_sr"])
    known = area[np.isfinite(area)]
    if known.size:
        for name in PER_AREA:
            table[name] *= area / known[0]
        table["pixar_sr"] = known[0]


def reference_models(
    table: Table,
    calibration: VisitCalibration,
    psfee: PSFEE,
    *,
    author: str,
    pedigree: str | None = None,
    useafter: str | None = None,
    convention: str = "band",
    fill_missing: bool = False,
    sky_inner: float = SKY_IN,
    sky_outer: float = SKY_OUT,
) -> tuple[NisImgPhotomModel, NisImgApcorrModel]:
    """Make the models of the reference files.

    Parameters
    ----------
    table : astropy.table.Table
        From `read_visits`.
    calibration : VisitCalibration
        What `combine_visits` made of it.
    psfee : PSFEE
        Encircled energy that the aperture corrections come from.
    author : str
    pedigree : str, optional
        By default ``INFLIGHT`` with the dates of the first and last visit used.
    useafter : str, optional
        By default the date of the first visit used.
    convention, fill_missing
        As `photom_model`.
    sky_inner, sky_outer : float, optional
        Sky annulus [pix].

    Returns
    -------
    photom : NisImgPhotomModel
    apcorr : NisImgApcorrModel

    Raises
    ------
    ParameterError
        Where a parameter cannot be used, or no visit has a date and none is given.
    """
    corrections = {
        name: aperture_corrections(partial(psfee.ee, name), skyin=sky_inner, skyout=sky_outer) for name in psfee.filters
    }
    pedigree, useafter = _dates(table["mjd"][calibration.kept], pedigree, useafter)
    provenance = partial(Provenance, author, pedigree, useafter)
    photom = photom_model(
        calibration.factors,
        provenance("NIRISS imaging flux calibration from standard stars", _history(table, calibration)),
        convention=convention,
        fill_missing=fill_missing,
        pixel_solid_angle=float(table["pixar_sr"][0]),
    )
    history = (f"Encircled energy: {psfee.name}",)
    return photom, apcorr_model(corrections, provenance("NIRISS imaging aperture corrections", history))


def _history(table: Table, calibration: VisitCalibration) -> tuple[str, ...]:
    """Tell which visits the factors rest on."""
    inputs = [f"Visits: {name}" for name in dict.fromkeys(table["product"][calibration.kept])]
    clipped = sum(factor.n_clipped for factor in calibration.factors)
    return (*inputs, f"{calibration.kept.sum()} of {len(table)} rows used, {clipped} clipped.")


def _dates(mjd: Sequence[float], pedigree: str | None, useafter: str | None) -> tuple[str, str]:
    """Return pedigree and useafter, from the visits' dates where they are not given."""
    if pedigree and useafter:
        return pedigree, useafter
    dates = np.asarray(mjd, dtype=float)
    dates = dates[np.isfinite(dates)]
    if not dates.size:
        raise ParameterError("no visit has a date; give pedigree and useafter")
    first, last = (Time(date, format="mjd").strftime("%Y-%m-%d") for date in (dates.min(), dates.max()))
    return pedigree or f"INFLIGHT {first} {last}", useafter or f"{first}T00:00:00"
