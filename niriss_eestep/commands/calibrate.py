"""Combine many visits into flux calibration factors, and write the pipeline's photom and apcorr reference files."""

HELP = "calibration factors and reference files from many visits"

NAMES = {
    "factors": "niriss_calibration.ecsv",
    "visits": "niriss_calibration_visits.ecsv",
    "ratios": "niriss_calibration_ratios.ecsv",
    "mjd": "niriss_calibration_date.png",
    "count_rate": "niriss_calibration_count_rate.png",
    "photom": "niriss_photom.fits",
    "apcorr": "niriss_apcorr.fits",
    "psfee": "niriss_psfee_observed.asdf",
}


def configure(parser):
    """Add the arguments of ``niriss-ee calibrate``.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    """
    parser.add_argument(
        "absflux", nargs="+", metavar="ABSFLUX", help="*_absflux.asdf products, of any number of visits"
    )
    parser.add_argument("--output-dir", default=".", metavar="DIR", help="made where it does not exist (default: here)")
    _configure_combination(parser.add_argument_group("combination"))
    _configure_apertures(parser.add_argument_group("aperture corrections"))
    _configure_files(parser.add_argument_group("reference files"))


def _configure_combination(group):
    group.add_argument("--clip-sigma", type=float, default=3.0, metavar="N", help="leave out visits beyond (default 3)")
    group.add_argument(
        "--delta-bic",
        type=float,
        default=10.0,
        metavar="X",
        help="fall of the Bayesian information criterion asked for before a time dependence is taken (default 10)",
    )
    group.add_argument("--convention", choices=("band", "mono"), default="band", help="F_nu of the photom file")
    group.add_argument("--fill-missing", action="store_true", help="take filters without visits from August 2022")


def _configure_apertures(group):
    group.add_argument("--psfee", metavar="PATH", help="encircled energy of the PSF (default: the packaged one)")
    group.add_argument(
        "--observed-ee",
        nargs="+",
        default=[],
        metavar="EECOMBINED",
        help="splice these *_eecombined.asdf products with it, write the result and take the apertures from it",
    )
    group.add_argument("--join-radius", type=float, metavar="PIX", help="where to splice (default: by signal-to-noise)")
    group.add_argument(
        "--sky-annulus", type=float, nargs=2, default=(30.0, 40.0), metavar=("IN", "OUT"), help="[pix] (default 30 40)"
    )


def _configure_files(group):
    group.add_argument("--author", default="niriss_eestep", help="AUTHOR of the reference files")
    group.add_argument("--pedigree", help="PEDIGREE (default: INFLIGHT and the dates of the visits)")
    group.add_argument("--useafter", metavar="DATE", help="USEAFTER (default: the date of the first visit)")


def run(args):
    """Run ``niriss-ee calibrate``.

    Parameters
    ----------
    args : argparse.Namespace
    """
    from niriss_eestep.calibration.table import read_visits
    from niriss_eestep.calibration.visits import combine_visits

    table = read_visits(args.absflux)
    calibration = combine_visits(table, clip_sigma=args.clip_sigma, delta_bic=args.delta_bic)
    directory = _directory(args.output_dir)
    psfee = _psfee(args, directory)
    written = [directory / NAMES["psfee"]] if args.observed_ee else []
    written += _write_tables(directory, table, calibration)
    written += _write_figures(directory, table, calibration)
    written += _write_references(args, directory, table, calibration, psfee)
    print(_as_text(calibration))
    for line in _remarks(table, calibration, psfee):
        print(line)
    print("\n".join(f"wrote {path}" for path in written))


def _remarks(table, calibration, psfee):
    """What the factors rest on that needs a person's eye."""
    for row in table[calibration.kept]:
        if str(row["status"]) != "measured":
            yield f"used, {row['status']}: {row['target']} {row['filter']} {row['subarray']} of {row['product']}"
    lacking = [factor.filter for factor in calibration.factors if factor.filter not in psfee.filters]
    if lacking:
        yield f"no aperture corrections for {', '.join(lacking)}: {psfee.name} does not have them"


def _directory(name):
    """Return the output directory, made where it does not exist."""
    from pathlib import Path

    from niriss_eestep.errors import ParameterError

    directory = Path(name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(f"--output-dir {name}: {error.strerror or error}") from error
    return directory


def _psfee(args, directory):
    """Return the EE that the aperture corrections come from; write the observed one."""
    from dataclasses import replace
    from functools import partial

    from niriss_eestep.errors import ProductError
    from niriss_eestep.products import CombinedEEModel
    from niriss_eestep.products import open as open_product
    from niriss_eestep.reference import load_psfee, write_psfee

    psfee = load_psfee(args.psfee)
    tables = dict(psfee.tables)
    sources = []
    for path in args.observed_ee:
        model = open_product(path)
        if not isinstance(model, CombinedEEModel):
            raise ProductError(f"{path}: holds {type(model).__name__}, combined EE (*_eecombined.asdf) is needed")
        name = model.meta.group.filter
        if name in sources:
            raise ProductError(f"{path}: a second profile of {name}; give one per filter to --observed-ee")
        tables[name] = _observed(model, partial(psfee.ee, name), partial(psfee.ee_err, name), psfee, args.join_radius)
        sources.append(name)
    if not sources:
        return psfee
    meta = {"name": "observed", "source": f"{', '.join(sources)} observed, spliced with {psfee.name}"}
    observed = replace(psfee, tables=tables, name=NAMES["psfee"], meta=meta)
    write_psfee(observed, directory / NAMES["psfee"])
    return observed


def _observed(model, curve, curve_err, psfee, join_radius):
    """Return a filter's observed EE as a table."""
    from niriss_eestep.calibration.observed_ee import splice_ee
    from niriss_eestep.products.convert import combined_profile
    from niriss_eestep.products.groups import exposure_backgrounds
    from niriss_eestep.reference import EETable

    edges, coverage = zip(*exposure_backgrounds(model), strict=True)
    spliced = splice_ee(
        combined_profile(model),
        curve,
        curve_err,
        model_radius=psfee.table(model.meta.group.filter).radius,
        area=model.exposure_area,
        ring_edges=edges,
        ring_coverage=coverage,
        join_radius=join_radius,
    )
    return EETable(spliced.radius, spliced.ee, spliced.ee_err)


def _write_tables(directory, table, calibration):
    """Write factors, visits and ratios as ECSV."""
    from dataclasses import asdict

    from astropy.table import Table

    visits = table.copy()
    visits["kept"], visits["reason"] = calibration.kept, list(calibration.reason)
    ratios = Table([asdict(ratio) for ratio in calibration.ratios]) if calibration.ratios else Table(names=["kind"])
    ratios.meta["contents"] = "PHOTMJSR of the first over that of the second"
    tables = {"factors": factor_table(calibration), "visits": visits, "ratios": ratios}
    paths = [directory / NAMES[name] for name in tables]
    for path, each in zip(paths, tables.values(), strict=True):
        each.write(path, format="ascii.ecsv", overwrite=True)
    return paths


def factor_table(calibration):
    """Return the factors as a table, one row per filter.

    Parameters
    ----------
    calibration : niriss_eestep.calibration.visits.VisitCalibration

    Returns
    -------
    astropy.table.Table
        Time coefficients that a filter does not have are NaN.
    """
    from dataclasses import asdict

    from astropy.table import Table

    rows = []
    for factor, slope in zip(calibration.factors, calibration.slopes, strict=True):
        row = asdict(factor)
        time = row.pop("time")
        row |= {"targets": " + ".join(factor.targets), "subarrays": " + ".join(factor.subarrays)}
        row |= {"time_form": time["form"], "t0": time["t0"], "time_status": time["status"]}
        for name in ("lossperyear", "amplitude", "tau", "const", "year1value", "tsoft", "alpha"):
            row[name] = time["parameters"].get(name, float("nan"))
            row[f"{name}_err"] = time["errors"].get(name, float("nan"))
        row |= {"count_rate_slope": slope.slope, "count_rate_slope_err": slope.err, "count_rate_status": slope.status}
        rows.append(row)
    table = Table(rows)
    for name, unit in {"photmjsr": "MJy s / (DN sr)", "photuja2": "uJy s / (arcsec2 DN)"}.items():
        for column in (name, f"{name}_err", f"{name}_mono"):
            if column in table.colnames:
                table[column].unit = unit
    for column in ("t0", "tau", "tau_err", "tsoft", "tsoft_err"):
        table[column].unit = "d"
    return table


def _write_figures(directory, table, calibration):
    """Write the figures against date and count rate."""
    from niriss_eestep.report.calibration import plot_against

    paths = []
    for quantity in ("mjd", "count_rate"):
        paths.append(directory / NAMES[quantity])
        plot_against(table, calibration, quantity).savefig(paths[-1], dpi=120)
    return paths


def _write_references(args, directory, table, calibration, psfee):
    """Write the photom and apcorr files."""
    from niriss_eestep.calibration.crds_files import save_reference
    from niriss_eestep.calibration.table import reference_models

    sky_inner, sky_outer = args.sky_annulus
    models = reference_models(
        table,
        calibration,
        psfee,
        author=args.author,
        pedigree=args.pedigree,
        useafter=args.useafter,
        convention=args.convention,
        fill_missing=args.fill_missing,
        sky_inner=sky_inner,
        sky_outer=sky_outer,
    )
    return [save_reference(model, directory / NAMES[model.meta.reftype.lower()]) for model in models]


def _as_text(calibration):
    """Return the factors as text, one line per filter."""
    lines = [f"{'filter':8}{'PHOTMJSR':>10}{'+-':>9}{'visits':>8}{'clipped':>8}{'scatter':>9}  time dependence"]
    for factor in calibration.factors:
        scatter = f"{100 * factor.scatter:8.2f}%" if factor.n_visits > 1 else f"{'-':>9}"
        lines.append(
            f"{factor.filter:8}{factor.photmjsr:10.5f}{factor.photmjsr_err:9.5f}{factor.n_visits:8d}"
            f"{factor.n_clipped:8d}{scatter}  {factor.time.status}"
        )
    return "\n".join(lines)
