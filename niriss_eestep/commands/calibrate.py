"""Combine many visits into flux calibration factors, and write the pipeline's photom and apcorr reference files."""

HELP = "calibration factors and reference files from many visits"

#: arguments that are the step's parameters
PARAMETERS = (
    *("reference_subarray", "keep_all", "observed_ee", "join_radius"),
    *("author", "pedigree", "useafter", "convention", "fill_missing"),
)


def configure(parser):
    """Add the arguments of ``niriss-ee calibrate``.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    """
    add = parser.add_argument
    add("visits", nargs="*", metavar="FILE", help="*_absflux.asdf products, or a table of visits (*.ecsv)")
    add("--output-dir", default=".", metavar="DIR", help="made where it does not exist (default: here)")
    add = parser.add_argument_group("combination").add_argument
    add("--reference-subarray", metavar="NAME", help="for which the factors hold (default: FULL where it was used)")
    add("--keep-all", action="store_true", help="leave out no visit as an outlier")
    text = "photom files to compare with; two and no visits: the first with the others"
    add("--compare", metavar="PHOTOM", nargs="+", default=[], help=text)
    add("--figures", choices=("png", "svg", "pdf"), help="write the figures as files, too")
    add("--convention", choices=("band", "mono"), default="band", help="F_nu of the photom file")
    add("--fill-missing", action="store_true", help="take filters without visits from August 2022")
    add = parser.add_argument_group("aperture corrections").add_argument
    add("--psfee", metavar="PATH", help="encircled energy of the PSF (default: the packaged one)")
    text = "splice these *_eecombined.asdf products with it, write the result and take the apertures from it"
    add("--observed-ee", nargs="+", default=[], metavar="EECOMBINED", help=text)
    add("--join-radius", type=float, metavar="PIX", help="where to splice (default: by signal-to-noise)")
    sky = {"type": float, "nargs": 2, "default": (30.0, 40.0), "metavar": ("IN", "OUT")}
    add("--sky-annulus", **sky, help="[pix] (default 30 40)")
    add = parser.add_argument_group("reference files").add_argument
    add("--author", default="niriss_eestep", help="AUTHOR of the reference files")
    add("--pedigree", help="PEDIGREE (default: INFLIGHT and the dates of the visits)")
    add("--useafter", metavar="DATE", help="USEAFTER (default: the date of the first visit)")


def run(args):
    """Run ``niriss-ee calibrate``.

    Parameters
    ----------
    args : argparse.Namespace
    """
    from pathlib import Path

    from niriss_eestep.calibration.step import CalibrateVisitsStep
    from niriss_eestep.errors import ParameterError
    from niriss_eestep.products.files import write_atomically
    from niriss_eestep.report.calibration import calibration_html, figures_of

    if not args.visits and len(args.compare) > 1:
        print("\n".join(map(_compared, compare([], args.compare))))
        return
    directory = Path(args.output_dir)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(f"--output-dir {directory}: {error.strerror or error}") from error
    sky_inner, sky_outer = args.sky_annulus
    given = {name: getattr(args, name) for name in PARAMETERS}
    step = CalibrateVisitsStep(**given, sky_inner=sky_inner, sky_outer=sky_outer, output_dir=str(directory))
    if args.psfee:
        step.override_psfee = args.psfee
    models = step.calibrate(args.visits)
    written = [directory / "niriss_psfee_observed.asdf"] if args.observed_ee else []
    for name, table in step.tables.items():
        written.append(directory / f"{name}.ecsv")
        table.write(written[-1], format="ascii.ecsv", overwrite=True)
    for model in models:
        model.meta.filename = f"niriss_{model.meta.reftype.lower()}.fits"
        written.append(Path(step.save_model(model, force=True)))
    comparison = compare(models, args.compare)
    for name, figure in figures_of(step.tables, step.calibration) if args.figures else ():
        written.append(directory / f"calibration_{name}.{args.figures}")
        figure.savefig(written[-1], dpi=150)
    written.append(directory / "calibration.html")
    page = calibration_html(step.tables, step.calibration, comparison, [path.name for path in written])
    write_atomically(written[-1], page.encode())
    print("\n".join([*_lines(step.tables, step.calibration), *map(_compared, comparison)]))
    print("\n".join(f"wrote {path}" for path in written))


def compare(models, paths):
    """Compare the new PHOTMJSR with those of photom files.

    Parameters
    ----------
    models : list of NisImgPhotomModel and NisImgApcorrModel
        Without a photom model the first file is compared with the others.
    paths : list of str
        Photom files of any instrument's imaging.

    Returns
    -------
    list of dict
        ``file``, ``filter``, ``new``, ``old``, ``percent``.

    Raises
    ------
    ProductError
        Where a file is no photom file.
    """
    from pathlib import Path

    from stdatamodels.jwst import datamodels

    from niriss_eestep.errors import ProductError, reading
    from niriss_eestep.reference.guards import check_fits

    tables = {}
    for path in paths:
        check_fits(Path(path), "photom file", ProductError)
        with reading(path, "photom file", ProductError), datamodels.open(path) as model:
            if "photmjsr" not in getattr(getattr(model, "phot_table", None), "names", ()):
                raise ProductError(f"--compare {path}: no table of PHOTMJSR in it")
            tables[path] = _factors(model)
    new = next((_factors(model) for model in models if model.meta.reftype == "PHOTOM"), None)
    if new is None and len(paths) > 1:
        new = tables.pop(paths[0])
    return [
        {"file": path, "filter": name, "new": new[name], "old": old[name], "percent": 100 * (new[name] / old[name] - 1)}
        for path, old in tables.items()
        for name in new or ()
        if name in old
    ]


def _factors(model):
    """PHOTMJSR of a photom file by science filter, and whatever else tells its rows."""
    table = model.phot_table
    kinds = [name for name in table.dtype.names if table[name].dtype.kind in "SU"]
    keys = [[str(row[name]).strip() for name in kinds] for row in table]
    names = [" ".join(x for x in key if x not in ("CLEAR", "CLEARP", "N/A", "ANY", "")) or key[0] for key in keys]
    return dict(zip(names, map(float, table["photmjsr"]), strict=True))


def _compared(row):
    return f"{row['file']}: {row['filter']} PHOTMJSR {row['new']:.5f} against {row['old']:.5f}, {row['percent']:+.2f} %"


def _lines(tables, calibration):
    """Return the result as text: factors, effects that are claimed, what is not constrained."""
    from niriss_eestep.report.calibration import verdict

    lines = [f"{'filter':9}{'factor':>9}{'+-':>9}{'visits':>8}{'stars':>7}{'scatter':>9}"]
    for row in tables["calibration"]:
        scatter = f"{100 * row['scatter']:8.2f}%" if row["scatter"] == row["scatter"] else f"{'-':>9}"
        values = f"{row['factor']:9.5f}{row['factor_err']:9.5f}{row['n_visits']:8d}{row['n_stars']:7d}"
        lines.append(f"{row['filter']:9}{values}{scatter}")
    lines += verdict(tables, calibration)
    lines += [f"note: {text}" for text in calibration.messages]
    for row in tables["visits"][~tables["visits"]["used"]]:
        lines.append(f"not used: {row['product']} {row['target']} {row['filter']} {row['subarray']}: {row['reason']}")
    return lines
