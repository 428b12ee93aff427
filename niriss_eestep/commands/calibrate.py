"""Combine many visits into flux calibration factors, and write the pipeline's photom and apcorr reference files."""

HELP = "calibration factors and reference files from many visits"

NAMES = {
    "calibration": "calibration.ecsv",
    "effects": "effects.ecsv",
    "stars": "stars.ecsv",
    "visits": "visits.ecsv",
    "page": "calibration.html",
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
        "visits", nargs="+", metavar="FILE", help="*_absflux.asdf products, or a table of visits (*.ecsv)"
    )
    parser.add_argument("--output-dir", default=".", metavar="DIR", help="made where it does not exist (default: here)")
    _configure_combination(parser.add_argument_group("combination"))
    _configure_apertures(parser.add_argument_group("aperture corrections"))
    _configure_files(parser.add_argument_group("reference files"))


def _configure_combination(group):
    group.add_argument(
        "--reference-subarray", metavar="NAME", help="for which the factors hold (default: FULL where it was used)"
    )
    group.add_argument("--keep-all", action="store_true", help="leave out no visit as an outlier")
    group.add_argument("--compare", metavar="PHOTOM", nargs="+", default=[], help="photom files to compare with")
    group.add_argument("--figures", choices=("png", "svg", "pdf"), help="write the figures as files, too")
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
    from niriss_eestep.calibration.step import CalibrateVisitsStep
    from niriss_eestep.products.files import write_atomically
    from niriss_eestep.report.calibration import calibration_html, figures_of

    directory = _directory(args.output_dir)
    sky_inner, sky_outer = args.sky_annulus
    step = CalibrateVisitsStep(
        reference_subarray=args.reference_subarray,
        keep_all=args.keep_all,
        convention=args.convention,
        fill_missing=args.fill_missing,
        sky_inner=sky_inner,
        sky_outer=sky_outer,
        observed_ee=list(args.observed_ee),
        join_radius=args.join_radius,
        author=args.author,
        pedigree=args.pedigree,
        useafter=args.useafter,
        output_dir=str(directory),
    )
    if args.psfee:
        step.override_psfee = args.psfee
    models = step.calibrate(args.visits)
    written = [directory / NAMES["psfee"]] if args.observed_ee else []
    for name, table in step.tables.items():
        table.write(directory / NAMES[name], format="ascii.ecsv", overwrite=True)
        written.append(directory / NAMES[name])
    for model in models:
        model.meta.filename = NAMES[model.meta.reftype.lower()]
        written.append(step.save_model(model, force=True))
    comparison = compare(step.tables["calibration"], models, args.compare)
    written.append(directory / NAMES["page"])
    page = calibration_html(step.tables, step.calibration, comparison, [path.name for path in map(_path, written)])
    write_atomically(written[-1], page.encode())
    for name, figure in figures_of(step.tables, step.calibration) if args.figures else ():
        written.append(directory / f"calibration_{name}.{args.figures}")
        figure.savefig(written[-1], dpi=150)
    print(_as_text(step.tables, step.calibration, comparison))
    print("\n".join(f"wrote {path}" for path in written))


def _path(name):
    from pathlib import Path

    return Path(name)


def compare(factors, models, paths):
    """Compare the new PHOTMJSR with those of photom files.

    Parameters
    ----------
    factors : astropy.table.Table
        The calibration.
    models : list of NisImgPhotomModel and NisImgApcorrModel
    paths : list of str
        Photom files of any instrument's imaging.

    Returns
    -------
    list of dict
        ``file``, ``filter``, ``new``, ``old``, ``percent``.
    """
    from stdatamodels.jwst import datamodels

    from niriss_eestep.errors import ProductError

    rows = []
    tables = {}
    for path in paths:
        try:
            with datamodels.open(path) as model:
                table = model.phot_table
                tables[path] = {_science(row): float(row["photmjsr"]) for row in table}
        except Exception as error:  # whatever a file of another makes the library raise
            raise ProductError(f"--compare {path}: cannot be read as a photom file: {error}") from error
    new = {}
    for model in models:
        if model.meta.reftype == "PHOTOM":
            new = {_science(row): float(row["photmjsr"]) for row in model.phot_table}
    if not new and len(paths) > 1:
        new = tables.pop(paths[0])
    for path, old in tables.items():
        for name in new:
            if name in old:
                percent = 100 * (new[name] / old[name] - 1)
                rows.append({"file": path, "filter": name, "new": new[name], "old": old[name], "percent": percent})
    return rows


def _science(row):
    """The science filter of a photom file's row."""
    name = str(row["filter"]).strip()
    pupil = str(row["pupil"]).strip() if "pupil" in row.array.names else ""
    return pupil if name == "CLEAR" and pupil else name


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


def _as_text(tables, calibration, comparison):
    """Return the result as text: factors, effects that are claimed, what is not constrained."""
    lines = [f"{'filter':9}{'factor':>9}{'+-':>9}{'visits':>8}{'stars':>7}{'scatter':>9}"]
    for row in tables["calibration"]:
        scatter = f"{100 * row['scatter']:8.2f}%" if row["scatter"] == row["scatter"] else f"{'-':>9}"
        values = f"{row['factor']:9.5f}{row['factor_err']:9.5f}{row['n_visits']:8d}{row['n_stars']:7d}"
        lines.append(f"{row['filter']:9}{values}{scatter}")
    for effect in calibration.effects:
        if effect.significant and (effect.filter == "all" or effect.effect == "time"):
            value = f"{100 * effect.value:+.3f} +- {100 * effect.err:.3f} %"
            scale = f", {effect.scale:.0f} +- {effect.scale_err:.0f} d" if effect.scale == effect.scale else ""
            lines.append(f"found: {effect.effect} {effect.level}, {effect.filter}: {value}{scale}")
    lines += [f"note: {text}" for text in calibration.messages]
    for row in tables["visits"][~tables["visits"]["used"]]:
        lines.append(f"not used: {row['product']} {row['target']} {row['filter']} {row['subarray']}: {row['reason']}")
    for row in comparison:
        lines.append(
            f"{row['file']}: {row['filter']} PHOTMJSR {row['new']:.5f} against {row['old']:.5f}, "
            f"{row['percent']:+.2f} %"
        )
    return "\n".join(lines)
