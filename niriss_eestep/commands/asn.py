"""Group the NIRISS imaging exposures of a directory into associations for `strun niriss_fluxcal`."""

from pathlib import Path

HELP = "make the associations of a directory's exposures"


def configure(parser):
    """Add the arguments of `niriss-ee asn`.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of this command.
    """
    parser.add_argument("directory", type=Path, metavar="DIR", help="directory that holds *_rate.fits or *_cal.fits")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="one association of all targets, in this file (default: one for each program and target, in DIR)",
    )
    parser.add_argument(
        "--suffix",
        choices=("rate", "cal", "rateints", "calints"),
        help="which kind of exposure to take where there are several (default: the first of these)",
    )


def run(args):
    """Write the associations and say what is in them.

    Parameters
    ----------
    args : argparse.Namespace
        Arguments of the command.
    """
    from niriss_eestep.exposures.associations import find_exposures, write_associations

    exposures, left_out = find_exposures(args.directory, args.suffix)
    single = args.output is not None
    written = write_associations(exposures, args.output if single else args.directory, single=single)
    for header in left_out:
        print(f"left out: {header.path.name}: {header.problem}")
    for path, association in written.items():
        for product in association["products"]:
            print(f"{path}: {product['name']}, {len(product['members'])} exposures of {association['target']}")
