"""Write an HTML report of absolute-flux products that have been saved."""

import sys
from argparse import Namespace

from niriss_eestep.errors import OutputError, ProductError, printable
from niriss_eestep.pipeline.progress import progress
from niriss_eestep.report.page import write_report


def run(args: Namespace) -> int:
    """Write the reports.

    Parameters
    ----------
    args : argparse.Namespace

    Returns
    -------
    int
        1 where a report could not be written; the others are.
    """
    if args.output_dir is not None:
        args.output_dir.mkdir(parents=True, exist_ok=True)
    failed, products = 0, []
    for path in args.products:
        found = sorted(path.glob("*_absflux.asdf")) if path.is_dir() else [path]
        if not found:
            raise ProductError(f"{path}: no *_absflux.asdf in this directory")
        products += found
    for path in progress(products, desc="report", unit="product"):
        try:
            print(write_report(path, args.output_dir), flush=True)
        except OutputError:
            raise
        except ProductError as error:
            print(f"niriss-ee report: {printable(error)}", file=sys.stderr)
            failed = 1
    return failed
