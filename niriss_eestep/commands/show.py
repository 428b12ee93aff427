"""Show what a product holds."""

import sys
from argparse import Namespace

from niriss_eestep.errors import ProductError, printable
from niriss_eestep.products import open as open_product
from niriss_eestep.products.summary import summary


def run(args: Namespace) -> int:
    """Print a summary of each product.

    Parameters
    ----------
    args : argparse.Namespace

    Returns
    -------
    int
        1 where a file could not be shown; the others are.
    """
    failed = 0
    for number, path in enumerate(args.products):
        try:
            text = summary(open_product(path))
        except ProductError as error:
            print(f"niriss-ee show: {printable(error)}", file=sys.stderr)
            failed = 1
        else:
            print(f"\n{text}" if number else text)
    return failed
