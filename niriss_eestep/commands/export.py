"""Write a product as a table or as regions."""

import sys
from argparse import Namespace

from niriss_eestep.errors import ParameterError
from niriss_eestep.products import open as open_product
from niriss_eestep.products.files import write_atomically
from niriss_eestep.products.tables import export


def run(args: Namespace) -> None:
    """Write the table.

    Parameters
    ----------
    args : argparse.Namespace
    """
    if args.format == "fits" and args.output is None:
        raise ParameterError("--format fits needs --output FILE")
    columns = args.columns.split(",") if args.columns else None
    rows = {"target": args.target, "subarray": args.subarray}
    data = export(open_product(args.product), args.format, table=args.table, columns=columns, **rows)
    if args.output is None:
        sys.stdout.write(data.decode())
    else:
        write_atomically(args.output, data)
