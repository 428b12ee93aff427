"""Combine many visits into flux calibration factors, and write the pipeline's photom and apcorr reference files."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stdatamodels.jwst import datamodels

from niriss_eestep.calibration.step import CalibrateVisitsStep
from niriss_eestep.errors import ProductError, reading
from niriss_eestep.products.files import write_atomically
from niriss_eestep.reference.guards import check_fits
from niriss_eestep.report.calibration import calibration_html, figures_of, verdict


def run(args: Namespace) -> None:
    """Run ``niriss-ee calibrate``.

    Parameters
    ----------
    args : argparse.Namespace
    """
    if not args.visits and len(args.compare) > 1:
        print("\n".join(map(_compared, compare([], args.compare))))
        return
    directory = Path(args.output_dir)
    directory.mkdir(parents=True, exist_ok=True)
    spec = CalibrateVisitsStep.load_spec_file()
    given = {name: value for name, value in vars(args).items() if name in spec} | {"output_dir": str(directory)}
    inner, outer = args.sky_annulus
    step: Any = CalibrateVisitsStep(**given, sky_inner=inner, sky_outer=outer)
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


def compare(models: Sequence[Any], paths: Sequence[str]) -> list[dict[str, Any]]:
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
        Where a file is not a photom file.
    """
    tables = {}
    for path in paths:
        check_fits(Path(path), "photom file", ProductError)
        with reading(path, "photom file", ProductError), datamodels.open(path) as model:
            if "photmjsr" not in getattr(getattr(model, "phot_table", None), "names", ()):
                raise ProductError(f"--compare {path}: no table of PHOTMJSR in it")
            tables[path] = _factors(model)
    new = next((_factors(model) for model in models if model.meta.reftype == "PHOTOM"), {})
    if not new and len(paths) > 1:
        new = tables.pop(paths[0])
    return [
        {"file": path, "filter": name, "new": new[name], "old": old[name], "percent": 100 * (new[name] / old[name] - 1)}
        for path, old in tables.items()
        for name in new
        if name in old
    ]


def _factors(model: Any) -> dict[str, float]:
    """PHOTMJSR of a photom file by filter and whatever else distinguishes its rows."""
    table = model.phot_table
    kinds = [name for name in table.dtype.names if table[name].dtype.kind in "SU"]
    keys = [[str(row[name]).strip() for name in kinds] for row in table]
    names = [" ".join(x for x in key if x not in ("CLEAR", "CLEARP", "N/A", "ANY", "")) or key[0] for key in keys]
    return dict(zip(names, map(float, table["photmjsr"]), strict=True))


def _compared(row: dict[str, Any]) -> str:
    return f"{row['file']}: {row['filter']} PHOTMJSR {row['new']:.5f} against {row['old']:.5f}, {row['percent']:+.2f} %"


def _lines(tables: dict[str, Any], calibration: Any) -> list[str]:
    """Return the result as text: factors, effects that are claimed, what is not constrained."""
    lines = [f"{'filter':9}{'factor':>9}{'+-':>9}{'visits':>8}{'stars':>7}{'scatter':>9}"]
    for row in tables["calibration"]:
        scatter = f"{100 * row['scatter']:8.2f}%" if row["scatter"] == row["scatter"] else f"{'-':>9}"
        values = f"{row['factor']:9.5f}{row['factor_err']:9.5f}{row['n_visits']:8d}{row['n_stars']:7d}"
        lines.append(f"{row['filter']:9}{values}{scatter}")
    lines += [*verdict(tables, calibration), *(f"note: {text}" for text in calibration.messages)]
    for row in tables["visits"][~tables["visits"]["used"]]:
        lines.append(f"not used: {row['product']} {row['target']} {row['filter']} {row['subarray']}: {row['reason']}")
    return lines
