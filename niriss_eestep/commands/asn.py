"""Group the NIRISS imaging exposures of a directory into associations for `strun niriss_fluxcal`."""

from argparse import Namespace

from niriss_eestep.exposures.associations import find_exposures, write_associations


def run(args: Namespace) -> None:
    """Write the associations and say what is in them.

    Parameters
    ----------
    args : argparse.Namespace
        Arguments of the command.
    """
    exposures, left_out = find_exposures(args.directory, args.suffix)
    single = args.output is not None
    written = write_associations(exposures, args.output if single else args.directory, single=single)
    for header in left_out:
        print(f"left out: {header.path.name}: {header.problem}")
    for path, association in written.items():
        for product in association["products"]:
            print(f"{path}: {product['name']}, {len(product['members'])} exposures of {association['target']}")
