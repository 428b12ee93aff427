"""Many visits' measurements in, the standard pipeline's `photom` and `apcorr` reference files out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table, vstack
from stdatamodels.jwst.datamodels import NisImgApcorrModel, NisImgPhotomModel

from niriss_eestep.calibration import crds_files
from niriss_eestep.calibration.effects import Calibration
from niriss_eestep.calibration.model import Visits, day_of
from niriss_eestep.calibration.observed_ee import Group, fit_visit, observed_modes, splice_ee
from niriss_eestep.errors import ParameterError, ProductError, reading
from niriss_eestep.instrument import FILTERS, PIXEL_SOLID_ANGLE
from niriss_eestep.products.convert import combined_profile
from niriss_eestep.products.metadata import GROUP_KEYS, exposure_backgrounds
from niriss_eestep.products.models import AbsFluxModel, CombinedEEModel
from niriss_eestep.products.models import open as open_product
from niriss_eestep.reference import load_psf_images, load_psfee, write_psfee
from niriss_eestep.reference.psf import PSFEE

MODES = "modes of the PSF"  # columns of this name, until all tables are together
OWN_TERMS = ("err_photon", "err_scatter", "err_radii", "err_flat", "err_sky")  # independent from visit to visit
NUMBERS = ("mjd", "count_rate", "count_rate_err", "ratio", "ratio_err", "spectrum_err")
NEEDED = ("filter", "target", "subarray", *NUMBERS)
COVARIATES = ("count_rate", "well_depth", "background")
OPTIONAL = (*COVARIATES[1:], "spectrum_err_common", "err_aperture")
#: of columns that may have another unit, which is then converted; fractions have none, or percent
UNITS = {"mjd": "d", "count_rate": "DN / s", "count_rate_err": "DN / s"}
UNITS |= dict.fromkeys(("ratio", "ratio_err", "spectrum_err", "spectrum_err_common", "err_aperture"), "")
VISIT_KEYS = ("target", "filter", "subarray", "mjd")
#: what `value` is in effects.ecsv
VALUE = (
    "fraction: response of a subarray over that of reference_subarray, less 1; star over its spectrum, less 1; "
    "scatter of epochs; per factor of ten in count rate; time: a in 1 + a (t - mjd) / 365 d, "
    "1 + a exp(-(t - first) / scale), (1 + (t - first) / scale)^a"
)
LATEST = 1e5  # [MJD] the year 2132: a larger number is a Julian date
#: what a status says of a ratio that may be another star's, and how far it is then off from those of other visits
DOUBT, RATIO_OFF = "measured / expected", 0.1
LEAST = 5.0  # total over its error: below it there may be no star


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
        ``err_aperture``, ``aperture_modes``, ``spectrum_err`` and ``product``, the file.

    Raises
    ------
    ProductError
        Where there is no source, one is not a table of visits, or a visit is given twice.
    """
    if not len(sources):
        raise ProductError("no visits: give at least one absolute-flux product (*_absflux.asdf), or a table (*.ecsv)")
    tables = [_read_table(source) if str(source).endswith(".ecsv") else _read_product(source) for source in sources]
    for table in tables:
        # modes of the PSF of one reference are common to visits, those of two are not; what a fit of the PSF adds to
        # the reference's modes, and its noise, is the product's own
        if "aperture_modes" in table.colnames:
            given = np.asarray(table["aperture_modes"], dtype=np.float64)
            common = table.meta.get("n_modes", given.shape[1])
            table[f"{MODES} {table.meta.get('psfee', '')} {common}"] = given[:, :common]
            table[f"{MODES} {id(table)}"] = given[:, common:]
            table.remove_column("aperture_modes")
    table = vstack(tables, metadata_conflicts="silent")
    if not len(table):
        raise ProductError(f"no visits: no rows in {', '.join(map(str, sources))}")
    for name, column in table.columns.items():
        if hasattr(column, "filled"):
            text = column.dtype.kind in "UO"
            table[name] = column.filled("") if text else column.astype(np.float64).filled(np.nan)
    modes = [name for name in table.colnames if name.startswith(MODES)]
    if modes:
        table["aperture_modes"] = np.nan_to_num(np.hstack([table[name] for name in modes]))
        table.remove_columns(modes)
    _reject_repeats(table)
    return table


def _read_table(source: str | Path) -> Table:
    """Read a table of visits."""
    with reading(Path(source), "an ECSV table of visits", ProductError):
        table = Table.read(str(source), format="ascii.ecsv")
    missing = [name for name in NEEDED if name not in table.colnames]
    if missing:
        raise ProductError(f"{source}: no column {', '.join(missing)}; a table of visits has {', '.join(NEEDED)}")
    for name in NEEDED[:3]:
        text = ["" if value is np.ma.masked else str(value) for value in table[name]]
        table[name] = np.array([each or "-" * (name == "subarray") for each in text], dtype=np.str_)
    try:
        for name in [name for name in table.colnames if name in NUMBERS + OPTIONAL]:
            table[name] = table[name].astype(np.float64)
            if name in UNITS and table[name].unit is not None:
                table[name].convert_unit_to(UNITS[name])
    except (ValueError, TypeError) as error:
        wanted = f" in {UNITS[name]}" if UNITS.get(name) else ""
        raise ProductError(f"{source}: column {name} must be numbers{wanted}: {error}") from error
    with np.errstate(divide="ignore", invalid="ignore"):
        table["own"] = table["ratio_err"] / table["ratio"]
    table["product"] = Path(source).name
    return table


def _read_product(source: Any) -> Table:
    """Read the rows of an absolute-flux product."""
    given = isinstance(source, (str, Path))
    model = open_product(source) if given else source
    name = Path(source).name if given else str(model.meta.filename or "a model in memory")
    if not isinstance(model, AbsFluxModel):
        raise ProductError(f"{name}: holds {type(model).__name__}, absolute flux (*_absflux.asdf) is needed")
    table, exposures = Table(model.table), Table(model.exposures)
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
    mine = [exposures[np.all([exposures[key] == row[key] for key in GROUP_KEYS], axis=0)] for row in table]
    table["exposures"] = [" ".join(sorted(map(str, each["exposure"]))) for each in mine]
    table["sky"] = [np.mean(each["background"]) if len(each) else np.nan for each in mine]
    table.meta["dithers"] = [_dithers(*pair) for pair in zip(table, mine, strict=True)]
    return table


def _dithers(row: Any, exposures: Table) -> Table:
    """Return the exposures of a group: where the star was, and its total over the group's."""
    seen = exposures[exposures["total_count_rate"] > 0]
    found = Table(seen[[*GROUP_KEYS, "x_center", "y_center"]], names=[*GROUP_KEYS, "x", "y"])
    found["part_residual"] = np.log(seen["total_count_rate"] / row["count_rate"])
    found["own"] = seen["total_count_rate_err"] / seen["total_count_rate"]
    return found


def _reject_repeats(table: Table) -> None:
    """Reject a visit that is given twice: it would count as two, with too small an error."""
    seen: dict = {}
    visits = list(zip(*(table[name].tolist() for name in VISIT_KEYS), strict=True))
    named = table["exposures"] if "exposures" in table.colnames else [""] * len(table)
    for i in np.nonzero(np.isfinite(table["count_rate"]))[0].tolist():
        # an exposure that is in two products is measured twice, whatever else is in them
        names = [(name, visits[i][0]) for name in str(named[i]).split()]
        for key in names or ([visits[i]] if np.isfinite(visits[i][-1]) else ()):
            if seen.setdefault(key, i) != i:
                row, other = table[i], table[seen[key]]
                what = f"{row['target']} in {row['filter']} and {row['subarray']} at MJD {row['mjd']:.5f}"
                rates = row["count_rate"], other["count_rate"]
                differ = f"; their count rates differ, {rates[0]:.6g} and {rates[1]:.6g} DN/s" if np.ptp(rates) else ""
                raise ProductError(
                    f"{row['product']} repeats a visit of {other['product']}: {what}{differ}; give each visit once"
                )


def usable_visits(table: Table, *, keep_all: bool = False) -> tuple[Visits, np.ndarray, list[str]]:
    """Choose the rows that a calibration can use.

    Parameters
    ----------
    table : astropy.table.Table
        From `read_visits`.
    keep_all : bool
        Keep the visits whose own status doubts their ratio, too.

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
        Where no row can be used.
    """
    reason = _unusable(table, keep_all=keep_all)
    index = np.nonzero([not text for text in reason])[0]
    if not index.size:
        listed = "; ".join(sorted(set(reason))[:5])
        raise ParameterError(f"no row of {len(table)} can be used: {listed}")
    have: dict[str, Any] = {name: np.asarray(table[name])[index] for name in table.colnames}
    spectrum = np.maximum(have["spectrum_err"], 1e-4)
    common = np.minimum(np.nan_to_num(have.get("spectrum_err_common", 0 * spectrum)), spectrum)
    given = {name: have[name].astype(str) for name in ("filter", "target", "subarray")}
    given |= {"mjd": have["mjd"], "value": np.log(have["ratio"]), "err": have["own"]}
    digits = {str(name): "".join(filter(str.isdigit, str(name))) for name in set(have["filter"])}
    if all(name in FILTERS or (name.startswith("F") and len(digits[name]) >= 3) for name in digits):
        # by their names, as all of JWST have them
        pivot = {name: FILTERS[name].pivot if name in FILTERS else int(each) / 100 for name, each in digits.items()}
        given["wavelength"] = pivot
    given |= {"spectrum": spectrum, "common": common}
    given["kind"] = have.get("star_type", np.full(index.size, "star")).astype(str)
    given["covariates"] = {name: have[name] for name in COVARIATES if name in have and np.isfinite(have[name]).all()}
    if "err_aperture" in have:
        # what the aperture corrections of visits share: modes of the PSF, and the rest by filter
        modes = have.get("aperture_modes", np.zeros((index.size, 0)))
        rest = np.sqrt(np.maximum(np.nan_to_num(have["err_aperture"]) ** 2 - np.sum(modes**2, axis=1), 0.0))
        alike = have["filter"][:, np.newaxis] == np.unique(have["filter"])
        given["aperture"] = np.hstack([modes, rest[:, np.newaxis] * alike])
    return Visits(**given), index, reason


def _unusable(table: Table, *, keep_all: bool) -> list[str]:
    """Say why rows cannot be used; empty where they can."""
    status = table["status"].tolist() if "status" in table.colnames else [""] * len(table)
    mjd, rate, err, ratio, _, spectrum, own = (np.asarray(table[name]) for name in (*NUMBERS, "own"))
    doubted = _doubted(status, table["filter"], ratio)
    checks = (
        ([str(each).startswith("failed") for each in status], "{status}"),
        (table["filter"] == "", "it names no filter"),
        (table["target"] == "", "it names no target"),
        (mjd > LATEST, "its mjd is a Julian date: give it less 2400000.5"),
        (np.isnan(mjd) & np.isfinite(mjd).any(), "it has no date, as others have: give mjd"),
        (~np.isfinite(rate), "count rate is {count_rate:g}"),
        (~(err > 0), "its count rate has no error"),
        (rate < LEAST * err, f"{{count_rate:.4g}} +- {{count_rate_err:.2g}} DN/s is below {LEAST:g} sigma: no star"),
        (np.isnan(ratio), "no expected rate: the spectrum of {target} is not known"),
        (~(np.isfinite(ratio) & (ratio > 0)), "ratio is {ratio:g}"),
        (doubted & (not keep_all), "its status doubts the ratio of {ratio:.3g}, and other visits' in {filter} differ"),
        (~(np.isfinite(own) & (own > 0)), "no error of its own: ratio_err must be above 0"),
        (~(np.isfinite(spectrum) & (spectrum >= 0)), "spectrum of {target} has no error: give spectrum_err"),
    )
    reason = [""] * len(table)
    for wrong, text in reversed(checks):
        for i in np.nonzero(wrong)[0]:
            reason[i] = text.format_map(table[i])
    return reason


def _doubted(status: Sequence[Any], filters: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Find the rows whose status doubts their ratio, and whose ratio differs from those without such doubts."""
    doubtful = np.array([DOUBT in str(each) for each in status])
    found = doubtful.copy()
    for i in np.flatnonzero(doubtful):
        others = ratio[~doubtful & (filters == filters[i]) & (ratio > 0)]
        found[i] = others.size > 0 and abs(ratio[i] / np.median(others) - 1) > RATIO_OFF
    return found


def warned_rows(used: Table) -> list[str]:
    """Say how many rows have warnings beyond those of their exposures, and give one.

    Parameters
    ----------
    used : astropy.table.Table
        Rows of `read_visits`.

    Returns
    -------
    list of str
        One message, or none.
    """
    status = used["status"].tolist() if "status" in used.colnames else []
    own = [[t for t in str(each).partition(": ")[2].split("; ") if t and "exposures have" not in t] for each in status]
    found = [f"{row['product']}, {row['filter']}: {text[0]}" for row, text in zip(used, own, strict=False) if text]
    return [f"{len(found)} of {len(used)} rows used have warnings (status in visits.ecsv): {found[0]}"] if found else []


def factor_tables(table: Table, index: np.ndarray, reason: list[str], calibration: Calibration) -> dict[str, Table]:
    """Return the results as tables.

    Parameters
    ----------
    table : astropy.table.Table
    index : ndarray of int
        Rows that `usable_visits` chose.
    reason : list of str
        Why it did not choose the others.
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
    effects.meta = {"value": VALUE, "mjd": calibration.shape.date, "reference_subarray": calibration.reference}
    visits = table[[name for name in table.colnames if name != "aperture_modes"]]
    dithers = vstack(visits.meta.pop("dithers", [Table()]))
    for number, text in zip(index, calibration.reason, strict=True):
        reason[number] = text
    visits["used"], visits["reason"] = np.isin(np.arange(len(table)), index[calibration.kept]), reason
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
    table["mjd"], table["reference_subarray"] = calibration.shape.date, calibration.reference
    table.meta = {"covariance_of_ln_factor": calibration.covariance.tolist(), "messages": list(calibration.messages)}
    return table


def _photom_factors(kept: Table, calibration: Calibration) -> list[crds_files.Factor]:
    """Return the factors of the filters that a photom file can hold, as PHOTMJSR."""
    found = []
    for i, name in enumerate(calibration.filters):
        mine = kept[kept["filter"] == name]
        if name not in FILTERS or "photmjsr" not in kept.colnames or not np.isfinite(mine["photmjsr"]).any():
            continue
        # PHOTMJSR x ratio is the throughput's, whatever the star
        unit = float(np.nanmedian(mine["photmjsr"] * mine["ratio"]))
        mono = float(np.nanmedian(mine["photmjsr_mono"] / mine["photmjsr"]))
        time, response = crds_files.time_dependence(calibration.shape, name)
        value = unit / (float(calibration.factor[i]) * response)
        err = float(calibration.factor_err[i] / calibration.factor[i])
        found.append(crds_files.Factor(name, value, value * err, value * mono, time))
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
        ``author``; ``pedigree`` (None: ``INFLIGHT`` with the dates of the first and last visit used); ``useafter``
        (None: the date of the first visit used); ``convention`` and ``fill_missing`` as `photom_model`;
        ``sky_inner``, ``sky_outer`` [pix].

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
    kept = table[calibration.kept]
    dates = kept["mjd"][np.isfinite(kept["mjd"])]
    pedigree, useafter = options["pedigree"], options["useafter"]
    if not (pedigree and useafter):
        if not len(dates):
            raise ParameterError("no visit has a date; give pedigree and useafter")
        first, last = day_of(dates.min()), day_of(dates.max())
        pedigree, useafter = pedigree or f"INFLIGHT {first} {last}", useafter or f"{first}T00:00:00"
    provenance = partial(crds_files.Provenance, options["author"], pedigree, useafter)
    photom, factors = None, _photom_factors(kept, calibration)
    if factors:
        history = [f"Visits: {name}" for name in dict.fromkeys(kept["product"])]
        history += [f"{len(kept)} of {len(table)} rows used.", f"Factors hold for subarray {calibration.reference}."]
        for e in calibration.effects:
            if (e.effect, e.filter) == ("subarray", "all") and e.significant:
                history.append(f"Divide rates in {e.level} by {1 + e.value:.5f}: no column here holds subarrays.")
        made = provenance("NIRISS imaging flux calibration from standard stars", tuple(history))
        chosen = {name: options[name] for name in ("convention", "fill_missing")}
        photom = crds_files.photom_model(factors, made, **chosen)
    sky = {"skyin": options["sky_inner"], "skyout": options["sky_outer"]}
    corrections = {name: crds_files.aperture_corrections(partial(psfee.ee, name), **sky) for name in psfee.filters}
    history, images = [f"Encircled energy: {psfee.name}"], load_psf_images()
    history.append("Scatter of apcorr over pixel phases [%], in this order:")
    for name in (name for name in corrections if name in images):
        scatter = crds_files.phase_scatter(images[name], np.array([row.radius for row in corrections[name]]))
        history.append(f"{name}: {', '.join(f'{100 * each:.2g}' for each in scatter)}.")
    made = provenance("NIRISS imaging aperture corrections", tuple(history))
    return photom, crds_files.apcorr_model(corrections, made)


def visit_group(model: CombinedEEModel) -> Group:
    """Give what `fit_visit` takes of a combined product.

    Parameters
    ----------
    model : CombinedEEModel

    Returns
    -------
    tuple
        Label, filter, combined profile, areas of its apertures, rings of its exposures' annuli.
    """
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
    tables, modes = dict(psfee.tables), psfee.modes
    for name, model in models.items():
        rings = [(area, *ring) for area, ring in zip(model.exposure_area, exposure_backgrounds(model), strict=True)]
        curves = partial(psfee.ee, name), partial(psfee.ee_err, name)
        how = {"model_radius": psfee.table(name).radius, "rings": rings, "join_radius": join_radius}
        tables[name], at, _, part = splice_ee(combined_profile(model), *curves, **how)
        if psfee.modes is not None:
            modes = observed_modes(replace(psfee, modes=modes), name, at, part)
    meta = {"name": "observed", "source": f"{', '.join(models)} observed, spliced with {psfee.name}"}
    observed = replace(psfee, tables=tables, modes=modes, name="niriss_psfee_observed.asdf", meta=meta)
    write_psfee(observed, Path(directory or ".") / observed.name)
    return observed
