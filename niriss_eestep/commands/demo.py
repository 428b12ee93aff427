"""Simulate a standard-star program, run the pipeline on it, and compare what it finds with the truth."""

import shlex
import shutil
import time
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

from astropy.table import Table

from niriss_eestep import FluxCalPipeline
from niriss_eestep import products as product_io
from niriss_eestep.errors import ParameterError
from niriss_eestep.exposures.associations import find_exposures, write_associations
from niriss_eestep.instrument import FILTERS
from niriss_eestep.pipeline.progress import progress
from niriss_eestep.simulate.program import Program, combinations, simulate_program
from niriss_eestep.simulate.scene import Blemishes
from niriss_eestep.simulate.switches import REAL

#: Ratios of measured to injected rates beyond this make the demo fail.
TOLERANCE = 0.01
# marks a directory as made by an earlier demo: others may hold the user's files
_MARKER = ".niriss_ee_demo"
_LOG = "niriss_fluxcal.log"


def run(args: Namespace) -> int:
    """Simulate, calibrate, compare.

    Parameters
    ----------
    args : argparse.Namespace
        Arguments of the command.

    Returns
    -------
    int
        0 where every ratio is within 1 % of 1.
    """
    started, directory = time.monotonic(), args.directory
    prepare_directory(directory)
    exposures, products = directory / "exposures", directory / "products"
    groups = combinations(list(FILTERS), ["SUB128"])
    program = Program(groups, blemishes=Blemishes(nan=15), effects=REAL, seed=args.seed)
    truth = simulate_program(exposures, program, progress=partial(progress, desc="simulate"))
    (association,) = write_associations(find_exposures(exposures)[0], exposures)
    arguments = ["niriss_fluxcal", str(association), f"--output_dir={products}", "--save_report=True"]
    arguments.append(f"--steps.abs_flux.override_stdspec={exposures / truth.meta['spectrum']}")
    print(shlex.join(["strun", *arguments]), flush=True)
    # as a user would, its log lines in a file
    FluxCalPipeline.from_cmdline([*arguments, f"--log-file={directory / _LOG}", "--log-stream=null"])
    (path,) = products.glob("*_absflux.asdf")
    rows = compare(truth, product_io.open(path).table)
    print("\n" + as_text(rows) + "\n")
    print(f"exposures: {exposures} (association {association.name}, truth truth.ecsv)")
    number = len(list(products.glob("*.asdf")))
    print(f"products:  {products} ({number} files; read one with niriss-ee show FILE)")
    for path in sorted(products.glob("*.html")):
        print(f"report:    {path}")
    print(f"log:       {directory / _LOG}")
    print(f"{time.monotonic() - started:.0f} s")
    failed = beyond_tolerance(rows)
    if failed:
        print(f"NOT within {100 * TOLERANCE:g} % of the injected rate: {', '.join(failed)}")
        return 1
    worst = max(abs(row["ratio"] - 1) for row in rows)
    print(f"all {len(rows)} filters within {100 * TOLERANCE:g} % of the injected rate; largest difference {worst:.2%}")
    return 0


def prepare_directory(directory: Path) -> None:
    """Make the directory, or empty the one of an earlier demo.

    Parameters
    ----------
    directory : pathlib.Path
        Where the demo writes.

    Raises
    ------
    ParameterError
        It is not a directory, or holds what no demo wrote.
    """
    if directory.exists() and not directory.is_dir():
        raise ParameterError(f"{directory} is not a directory; name another one")
    if directory.is_dir() and any(directory.iterdir()):
        if not (directory / _MARKER).is_file():
            raise ParameterError(f"{directory} is not empty and no earlier demo made it; name another directory")
        for name in ("exposures", "products"):
            shutil.rmtree(directory / name, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _MARKER).touch()
    (directory / "products").mkdir()


def compare(truth: Table, result: Any) -> list[dict[str, Any]]:
    """Put measured beside injected rates.

    Parameters
    ----------
    truth : astropy.table.Table
        From `niriss_eestep.simulate.program.simulate_program`.
    result : structured ndarray
        Table of the absolute flux product.

    Returns
    -------
    list of dict
        One row per filter in the order of the truth: ``filter``, ``injected``, ``measured``, ``measured_err`` [e-/s],
        ``ratio``, ``ratio_err``, ``photmjsr``, ``status``; NaN where a filter was not measured.
    """
    measured = {str(row["filter"]): row for row in result}
    names = ("electron_rate", "electron_rate_err", "ratio", "ratio_err", "photmjsr")
    missing = dict.fromkeys(names, float("nan")) | {"status": "missing"}
    rows = []
    for name, injected in dict(zip(truth["filter"], truth["electron_rate"], strict=True)).items():
        found = measured.get(name, missing)
        rate, rate_err, ratio, ratio_err, photmjsr = (float(found[column]) for column in names)
        row = {"filter": str(name), "injected": float(injected), "measured": rate, "measured_err": rate_err}
        # the ratio's error has the aperture correction's, as the product and the report have it
        row |= {"ratio": rate / injected, "ratio_err": ratio_err / ratio * rate / injected, "photmjsr": photmjsr}
        rows.append(row | {"status": str(found["status"])})
    return rows


def beyond_tolerance(rows: list[dict[str, Any]]) -> list[str]:
    """Name the filters whose measured rate is not the injected one.

    Parameters
    ----------
    rows : list of dict
        From `compare`.

    Returns
    -------
    list of str
        Those off by more than `TOLERANCE`, or not measured.
    """
    return [row["filter"] for row in rows if not abs(row["ratio"] - 1) <= TOLERANCE]


def as_text(rows: list[dict[str, Any]]) -> str:
    """Set the comparison as text.

    Parameters
    ----------
    rows : list of dict
        From `compare`.

    Returns
    -------
    str
        One line per filter, under two of headings.
    """
    lines = [
        f"{'filter':<8}{'injected':>12}{'measured':>12}{'+/-':>8}{'ratio':>10}{'+/-':>9}{'PHOTMJSR':>11}  status",
        f"{'':<8}{'e-/s':>12}{'e-/s':>12}{'e-/s':>8}{'':>10}{'':>9}{'MJy/sr':>11}",
    ]
    lines += [
        f"{row['filter']:<8}{row['injected']:>12.1f}{row['measured']:>12.1f}{row['measured_err']:>8.1f}"
        f"{row['ratio']:>10.4f}{row['ratio_err']:>9.4f}{row['photmjsr']:>11.4f}  {row['status']}"
        for row in rows
    ]
    return "\n".join(lines)
