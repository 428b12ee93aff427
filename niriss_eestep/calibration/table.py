"""Many visits' measurements in, the standard pipeline's `photom` and `apcorr` reference files out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table, vstack
from astropy.time import Time
from stdatamodels.jwst.datamodels import NisImgApcorrModel, NisImgPhotomModel

from niriss_eestep.calibration.apcorr import SKY_IN, SKY_OUT, aperture_corrections
from niriss_eestep.calibration.crds_files import Factor, Provenance, apcorr_model, photom_model, time_dependence
from niriss_eestep.calibration.effects import Calibration
from niriss_eestep.calibration.fitted_psf import Group, fit_visit
from niriss_eestep.calibration.model import Visits
from niriss_eestep.calibration.observed_ee import splice_ee
from niriss_eestep.errors import ParameterError, ProductError, reading, regular_file
from niriss_eestep.instrument import FILTERS, PIXEL_SOLID_ANGLE
from niriss_eestep.products.convert import combined_profile
from niriss_eestep.products.groups import exposure_backgrounds
from niriss_eestep.products.models import AbsFluxModel, CombinedEEModel
from niriss_eestep.products.models import open as open_product
from niriss_eestep.reference import load_psfee, write_psfee
from niriss_eestep.reference.ee_table import PSFEE, EETable

OWN_TERMS = ("err_photon", "err_scatter", "err_radii", "err_flat", "err_sky")  # independent from visit to visit
NEEDED = ("filter", "target", "subarray", "mjd", "count_rate", "count_rate_err", "ratio", "ratio_err", "spectrum_err")
GROUP = ("target", "filter", "pupil", "subarray")
VISIT_KEYS = ("target", "filter", "subarray", "mjd")
LEAST_SIGNIFICANCE = 5.0  # total over its error: below, it may be no star


def read_visits(sources: Sequence) -> Table:
    """Read visits: the rows of absolute-flux products, or of ECSV tables.

    Parameters
    ----------
    sources : sequence of str, Path or DataModel
        Files ending in ``.ecsv`` are tables of visits measured by anybody.

    Returns
    -------
    astropy.table.Table
        All rows, with the columns ``own`` (fractional error without those of spectrum and aperture correction),
        ``err_aperture``, ``spectrum_err`` and ``product``, the file.

    Raises
    ------
    ProductError
        Where there is no source, one is not a table of visits, or a visit is given twice.
    """
    if not len(sources):
        raise ProductError("no visits: give at least one absolute-flux product (*_absflux.asdf), or a table (*.ecsv)")
    tables = [_read_table(source) if str(source).endswith(".ecsv") else _read_product(source) for source in sources]
    if not sum(map(len, tables)):
        raise ProductError(f"no visits: {', '.join(map(str, sources))}: without rows")
    _join_modes(tables)
    table = vstack(tables, metadata_conflicts="silent")
    for name in table.colnames:
        if hasattr(table[name], "filled"):
            table[name] = table[name].filled("" if table[name].dtype.kind in "UO" else np.nan)
    _refuse_repeats(table)
    return table


def _read_table(source: str | Path) -> Table:
    """Read a table of visits."""
    regular_file(source, "table of visits", ProductError)
    with reading(source, "an ECSV table of visits", ProductError):
        table = Table.read(str(source), format="ascii.ecsv")
    missing = [name for name in NEEDED if name not in table.colnames]
    if missing:
        raise ProductError(f"{source}: no column {', '.join(missing)}; a table of visits has {', '.join(NEEDED)}")
    for name in ("filter", "target", "subarray"):
        table[name] = np.array([str(value) for value in table[name]])
    try:
        for name in NEEDED[3:]:
            table[name] = _numbers(table[name])
    except (ValueError, TypeError) as error:
        raise ProductError(f"{source}: column {name} has a value that is not a number: {error}") from error
    with np.errstate(divide="ignore", invalid="ignore"):
        table["own"] = np.abs(table["ratio_err"] / table["ratio"])
    table["product"] = Path(source).name
    return table


def _join_modes(tables: Sequence[Table]) -> None:
    """Give all tables the modes of all PSF references: those of one are common, those of two are not.

    What a fit of the PSF adds to the reference's modes, and its noise, is the product's own.
    """
    have = [table for table in tables if "aperture_modes" in table.colnames]
    blocks: list[dict[str, np.ndarray]] = [{} for _ in tables]
    for table, mine in zip(tables, blocks, strict=True):
        if "aperture_modes" in table.colnames:
            modes = np.nan_to_num(np.asarray(table["aperture_modes"], dtype=float))
            reference, common = str(table.meta.get("psfee", "")), table.meta.get("n_modes", modes.shape[1])
            mine[reference], mine[f"{reference} {id(table)}"] = modes[:, :common], modes[:, common:]
    width: dict[str, int] = {}
    for mine in blocks:
        width |= {key: max(width.get(key, 0), modes.shape[1]) for key, modes in mine.items()}
    for table, mine in zip(tables if have else (), blocks, strict=False):
        padded = [np.zeros((len(table), n)) for n in width.values()]
        for modes, whole in zip((mine.get(key) for key in width), padded, strict=True):
            if modes is not None:
                whole[:, : modes.shape[1]] = modes
        table["aperture_modes"] = np.hstack(padded)


def _numbers(column: Any) -> np.ndarray:
    """Return a column as numbers, NaN where it is masked."""
    values = column.filled(np.nan) if hasattr(column, "filled") and column.dtype.kind == "f" else column
    return np.array(np.asarray(values), dtype=np.float64)


def _read_product(source: Any) -> Table:
    """Read the rows of an absolute-flux product."""
    given = isinstance(source, (str, Path))
    model = open_product(source) if given else source
    name = Path(source).name if given else str(model.meta.filename or "a model in memory")
    if not isinstance(model, AbsFluxModel):
        raise ProductError(f"{name}: holds {type(model).__name__}, absolute flux (*_absflux.asdf) is needed")
    table = Table(model.table)
    terms = [np.nan_to_num(table[term]) ** 2 for term in OWN_TERMS if term in table.colnames]
    table["own"] = np.sqrt(np.sum(terms, axis=0))
    table["spectrum_err"] = table["err_spectrum"]
    table["product"] = name
    # PHOTMJSR goes with a pixel area: brought to one, it is the star's flux density in all products
    scale = np.where(np.isfinite(table["pixar_sr"]), table["pixar_sr"], PIXEL_SOLID_ANGLE) / PIXEL_SOLID_ANGLE
    for column in ("photmjsr", "photmjsr_err", "photmjsr_mono"):
        table[column] *= scale
    table["pixar_sr"] = PIXEL_SOLID_ANGLE
    if "aperture_modes" in model._instance:
        table["aperture_modes"] = np.array(model.aperture_modes)
        table.meta["psfee"] = str(model.meta.ref_file.psfee.name)
        if "psf_modes" in model._instance:
            table.meta["n_modes"] = model.psf_modes.shape[1]
    table["exposures"], table["sky"], table.meta["dithers"] = "", np.nan, []
    table["exposures"] = table["exposures"].astype(object)
    for row in table:
        mine = [e for e in Table(model.exposures) if all(e[key] == row[key] for key in GROUP)]
        row["exposures"] = " ".join(sorted(str(e["exposure"]) for e in mine))
        row["sky"] = np.mean([e["background"] for e in mine] or [np.nan])
        table.meta["dithers"] += [_dither(row, e) for e in mine if e["total_count_rate"] > 0]
    table["exposures"] = table["exposures"].astype(str)
    return table


def _dither(row: Any, exposure: Any) -> dict[str, Any]:
    """Return one exposure of a group: where the star was, and its total over the group's."""
    total, err = float(exposure["total_count_rate"]), float(exposure["total_count_rate_err"])
    place = {"x": float(exposure["x_center"]), "y": float(exposure["y_center"])}
    residual = {"part_residual": float(np.log(total / row["count_rate"])), "own": err / total}
    return {key: str(row[key]) for key in GROUP} | place | residual


def _refuse_repeats(table: Table) -> None:
    """Reject a visit that is given twice: it would count as two, with too small an error."""
    seen: dict = {}
    for row in table[np.isfinite(table["count_rate"])]:
        names = str(row["exposures"]).split() if "exposures" in table.colnames else []
        # an exposure that is in two products is measured twice, whatever else is in them
        dated = [tuple(str(row[name]) for name in VISIT_KEYS)] if np.isfinite(row["mjd"]) else []
        keys = [(name, str(row["target"])) for name in names] or dated
        for key in keys:
            other = seen.setdefault(key, row)
            if other is not row:
                what = f"{row['target']} in {row['filter']} and {row['subarray']} at MJD {row['mjd']:.5f}"
                rates = row["count_rate"], other["count_rate"]
                differ = f"; their count rates differ, {rates[0]:.6g} and {rates[1]:.6g} DN/s" if np.ptp(rates) else ""
                raise ProductError(
                    f"{row['product']} repeats a visit of {other['product']}: {what}{differ}; give each visit once"
                )


def usable_visits(table: Table) -> tuple[Visits, np.ndarray, list[str]]:
    """Choose the rows that a calibration can use.

    Parameters
    ----------
    table : astropy.table.Table
        From `read_visits`.

    Returns
    -------
    visits : Visits
    index : ndarray of int
        Their rows.
    reason : list of str
        Per row why it cannot be used; empty where it can.

    Raises
    ------
    ParameterError
        Where not one can be used.
    """
    reason = [_unusable(row) for row in table]
    index = np.array([i for i, text in enumerate(reason) if not text], dtype=int)
    if not index.size:
        listed = "; ".join(sorted(set(reason))[:5])
        raise ParameterError(f"none of the {len(table)} rows can be used: {listed}")
    rows = table[index]
    covariates = {}
    for name in ("count_rate", "well_depth", "background"):
        if name in rows.colnames and np.isfinite(_numbers(rows[name])).all():
            covariates[name] = _numbers(rows[name])
    kind = np.array([str(k) for k in rows["star_type"]]) if "star_type" in rows.colnames else np.full(len(rows), "star")
    spectrum = np.maximum(_numbers(rows["spectrum_err"]), 1e-4)
    common = _numbers(rows["spectrum_err_common"]) if "spectrum_err_common" in rows.colnames else np.zeros(len(rows))
    text = {name: np.array([str(value) for value in rows[name]]) for name in ("filter", "target", "subarray")}
    visits = Visits(
        **text,
        mjd=_numbers(rows["mjd"]),
        value=np.log(_numbers(rows["ratio"])),
        err=_numbers(rows["own"]),
        spectrum=spectrum,
        common=np.minimum(np.nan_to_num(common), spectrum),
        kind=kind,
        covariates=covariates,
        wavelength=_wavelengths(set(text["filter"])),
        aperture=_aperture(rows),
    )
    return visits, index, reason


def _aperture(rows: Table) -> np.ndarray | None:
    """Return the errors that the aperture corrections of visits share: modes of the PSF, and the rest by filter."""
    if "err_aperture" not in rows.colnames:
        return None
    modes = (
        np.nan_to_num(_numbers(rows["aperture_modes"]))
        if "aperture_modes" in rows.colnames
        else np.zeros((len(rows), 0))
    )
    rest = np.nan_to_num(_numbers(rows["err_aperture"])) ** 2 - np.sum(modes**2, axis=1)
    own = np.sqrt(np.maximum(rest, 0.0))[:, np.newaxis] * (rows["filter"][:, np.newaxis] == np.unique(rows["filter"]))
    return np.hstack([modes, own])


def _unusable(row: Any) -> str:
    """Say why a row cannot be used; empty where it can."""
    status = str(row["status"]) if "status" in row.colnames else ""
    if status.startswith("failed"):
        return status
    rate, err = float(row["count_rate"]), float(row["count_rate_err"])
    if not np.isfinite(rate):
        return f"count rate is {rate:g}"
    if not err > 0:
        return "its count rate has no error"
    if rate < LEAST_SIGNIFICANCE * err:
        return f"total of {rate:.4g} +- {err:.2g} DN/s is below {LEAST_SIGNIFICANCE:g} sigma: no star"
    if not np.isfinite(row["ratio"]):
        return f"no expected rate: the spectrum of {row['target']} is not known"
    if not row["ratio"] > 0:
        return f"ratio is {row['ratio']:g}"
    if not (np.isfinite(row["own"]) and row["own"] > 0):
        return "no error of its own"
    if not (np.isfinite(row["spectrum_err"]) and row["spectrum_err"] >= 0):
        return f"spectrum of {row['target']} has no error: give spectrum_err"
    return ""


def _wavelengths(names: set[str]) -> Mapping[str, float]:
    """Return the filters' wavelengths by their names, as all of JWST have them; empty where one has not."""
    digits = {name: "".join(filter(str.isdigit, name)) for name in map(str, names)}
    if any(name not in FILTERS and not (name.startswith("F") and len(digits[name]) >= 3) for name in digits):
        return {}
    return {name: FILTERS[name].pivot if name in FILTERS else int(each) / 100 for name, each in digits.items()}


def factor_tables(table: Table, index: np.ndarray, calibration: Calibration) -> dict[str, Table]:
    """Return the results as tables.

    Parameters
    ----------
    table : astropy.table.Table
    index : ndarray of int
        Rows that `usable_visits` chose.
    calibration : Calibration

    Returns
    -------
    dict of str to astropy.table.Table
        ``calibration``, ``effects``, ``stars``, ``visits``.
    """
    effects = Table([asdict(effect) for effect in calibration.effects])
    for column in ("value", "err"):
        effects[column][~effects["constrained"]] = np.nan
    effects.rename_column("err", "value_err")
    visits = table.copy()
    dithers = Table(rows=visits.meta.pop("dithers", []))
    if "aperture_modes" in visits.colnames:
        visits.remove_column("aperture_modes")
    reason, used = np.full(len(table), "", dtype=object), np.zeros(len(table), dtype=bool)
    reason[index], used[index] = calibration.reason, calibration.kept
    visits["used"], visits["reason"] = used, list(reason)
    for name, part in calibration.parts.items():
        visits[f"part_{name}"] = np.full(len(table), np.nan)
        visits[f"part_{name}"][index] = part
    kept, stars = visits[visits["used"]], []
    for group in kept.group_by(["target", "filter"]).groups:
        weight = group["part_err"] ** -2.0
        offset = np.average(group["part_residual"] + group["part_epoch"] + group["part_star"], weights=weight)
        stars.append((*group["target", "filter"][0], offset, np.sum(weight) ** -0.5, len(group)))
    stars = Table(rows=stars, names=("target", "filter", "offset", "offset_err", "n_visits"))
    tables = {"calibration": _factors(kept, calibration), "effects": effects, "stars": stars, "visits": visits}
    return tables | ({"dithers": dithers} if len(dithers) else {})


def _factors(kept: Table, calibration: Calibration) -> Table:
    """Return the factors as a table."""
    mine = [kept[kept["filter"] == name] for name in calibration.filters]
    value, total = calibration.factor, calibration.factor_err
    aperture = value * np.sqrt(np.diagonal(calibration.aperture))
    table = Table({"filter": calibration.filters, "factor": value, "factor_err": total})
    table["n_visits"], table["n_stars"] = [len(rows) for rows in mine], [len(set(rows["target"])) for rows in mine]
    table["scatter"] = [np.std(rows["part_residual"], ddof=1) if len(rows) > 1 else np.nan for rows in mine]
    table["err_visits_stars"], table["err_aperture"] = np.sqrt(np.maximum(total**2 - aperture**2, 0.0)), aperture
    table["mjd"], table["reference_subarray"] = calibration.date, calibration.reference
    table.meta = {"covariance_of_ln_factor": calibration.covariance.tolist(), "messages": list(calibration.messages)}
    return table


def _photom_factors(kept: Table, calibration: Calibration) -> list[Factor]:
    """Return the factors of the filters that a photom file can hold, as PHOTMJSR."""
    found = []
    for i, name in enumerate(calibration.filters):
        mine = kept[kept["filter"] == name]
        if name not in FILTERS or "photmjsr" not in kept.colnames or not np.isfinite(mine["photmjsr"]).any():
            continue
        # PHOTMJSR x ratio is the throughput's, whatever the star
        unit = float(np.nanmedian(mine["photmjsr"] * mine["ratio"]))
        mono = float(np.nanmedian(mine["photmjsr_mono"] / mine["photmjsr"]))
        time, response = time_dependence(calibration.shape, name)
        value = unit / (float(calibration.factor[i]) * response)
        err = float(calibration.factor_err[i] / calibration.factor[i])
        found.append(Factor(name, value, value * err, value * mono, time))
    return found


def reference_models(
    table: Table, calibration: Calibration, psfee: PSFEE, options: Mapping[str, Any]
) -> tuple[NisImgPhotomModel | None, NisImgApcorrModel]:
    """Make the models of the reference files.

    Parameters
    ----------
    table : astropy.table.Table
        The rows that the calibration was made of.
    calibration : Calibration
    psfee : PSFEE
        Encircled energy that the aperture corrections come from.
    options : mapping
        ``author``; ``pedigree`` (by default ``INFLIGHT`` with the dates of the first and last visit used);
        ``useafter`` (by default the date of the first visit used); ``convention`` and ``fill_missing`` as
        `photom_model`; ``sky_inner``, ``sky_outer`` [pix].

    Returns
    -------
    photom : NisImgPhotomModel or None
        None where the visits have no flux densities, as those of tables, or are not of NIRISS.
    apcorr : NisImgApcorrModel

    Raises
    ------
    ParameterError
        Where a parameter cannot be used, or no visit has a date and none is given.
    """
    sky = {"skyin": options.get("sky_inner", SKY_IN), "skyout": options.get("sky_outer", SKY_OUT)}
    corrections = {name: aperture_corrections(partial(psfee.ee, name), **sky) for name in psfee.filters}
    kept = table[calibration.kept]
    pedigree, useafter = _dates(kept["mjd"], options.get("pedigree"), options.get("useafter"))
    provenance = partial(Provenance, options.get("author", "niriss_eestep"), pedigree, useafter)
    factors = _photom_factors(kept, calibration)
    photom = None
    if factors:
        photom = photom_model(
            factors,
            provenance("NIRISS imaging flux calibration from standard stars", _history(table, calibration)),
            convention=options.get("convention", "band"),
            fill_missing=options.get("fill_missing", False),
        )
    history = (f"Encircled energy: {psfee.name}",)
    return photom, apcorr_model(corrections, provenance("NIRISS imaging aperture corrections", history))


def _history(table: Table, calibration: Calibration) -> tuple[str, ...]:
    """Say which visits the factors rest on, and what the file cannot hold."""
    inputs = [f"Visits: {Path(name).name}" for name in dict.fromkeys(table["product"][calibration.kept])]
    lines = [*inputs, f"{calibration.kept.sum()} of {len(table)} rows used."]
    lines.append(f"Factors hold for subarray {calibration.reference}.")
    for effect in calibration.effects:
        if effect.effect == "subarray" and effect.significant and effect.filter == "all":
            lines.append(
                f"Divide rates in {effect.level} by {np.exp(effect.value):.5f}: no column here holds subarrays."
            )
    return tuple(lines)


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


def visit_group(model: CombinedEEModel) -> Group:
    """Give what `fit_visit` takes of a combined product."""
    group = model.meta.group
    profile, rings = combined_profile(model), exposure_backgrounds(model)
    return f"{group.filter} {group.subarray}", group.filter, profile, model.exposure_area, rings


def observed_psfee(
    path: str | Path | None, combined: Sequence[str], join_radius: float | None, directory: str | Path | None
) -> PSFEE:
    """Splice observed EE with a PSF's, whose modes are fitted to it first, and write the result.

    Parameters
    ----------
    path : str, Path or None
        The PSF's EE; None for the packaged one.
    combined : sequence of str
        Combined EE products, one per filter.
    join_radius : float or None
        As `splice_ee`.
    directory : str, Path or None
        Where ``niriss_psfee_observed.asdf`` is written.

    Returns
    -------
    PSFEE

    Raises
    ------
    ProductError
        Where a file is of another kind, or a filter comes twice.
    """
    psfee, models = load_psfee(path), {}
    for source in combined:
        model = open_product(source)
        if not isinstance(model, CombinedEEModel):
            raise ProductError(f"{source}: holds {type(model).__name__}, combined EE (*_eecombined.asdf) is needed")
        if model.meta.group.filter in models:
            raise ProductError(f"{source}: a second profile of {model.meta.group.filter}; give one per filter")
        models[model.meta.group.filter] = model
    if not models:
        return psfee
    if psfee.modes is not None:
        # beyond the radii observed, the most probable PSF stands
        psfee, *_ = fit_visit(psfee, [visit_group(model) for model in models.values()])
    tables = dict(psfee.tables)
    for name, model in models.items():
        spliced = splice_ee(
            combined_profile(model),
            partial(psfee.ee, name),
            partial(psfee.ee_err, name),
            model_radius=psfee.table(name).radius,
            rings=((area, *ring) for area, ring in zip(model.exposure_area, exposure_backgrounds(model), strict=True)),
            join_radius=join_radius,
        )
        tables[name] = EETable(spliced.radius, spliced.ee, spliced.ee_err)
    file = "niriss_psfee_observed.asdf"
    meta = {"name": "observed", "source": f"{', '.join(models)} observed, spliced with {psfee.name}"}
    observed = replace(psfee, tables=tables, name=file, meta=meta)
    write_psfee(observed, Path(directory or ".") / file)
    return observed
