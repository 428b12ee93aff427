"""Show what a product holds."""

HELP = "show what a product holds"


def configure(parser):
    """Declare the arguments.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    """
    parser.add_argument("products", nargs="+", metavar="PRODUCT", help="an .asdf file of this package")


def run(args):
    """Print a summary of each product.

    Parameters
    ----------
    args : argparse.Namespace

    Returns
    -------
    int
        1 where a file could not be shown; the others are.
    """
    import sys

    from niriss_eestep.errors import ProductError, printable
    from niriss_eestep.products import open as open_product
    from niriss_eestep.products.summary import summary

    failed = 0
    for number, path in enumerate(args.products):
        try:
            text = summary(open_product(path))
        except ProductError as error:
            print(f"niriss-ee show: {printable(error)}", file=sys.stderr)
            failed = 1
            continue
        print(f"\n{text}" if number else text)
    return failed
