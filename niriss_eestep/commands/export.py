"""Write a product as a table: ECSV (with units), CSV, FITS, VOTable, LaTeX, or as the earlier analysis scripts did.

ds9 writes the apertures, sky annulus, bad pixels and neighbour of one exposure as regions for SAOImage DS9.

radtab is one exposure's profile (EE: Radius, Rad_arcsec, CountRate, errCountRate [e-/s]; SB: Radius, SB, errSB
[DN/s/pix]). avtab is a group's profile with those of its exposures (EE: Rad_Pix, Arcsec, Flux0, Fluxerr0, Flag0, ...,
avFlux, avFluxerr, n_Good [e-/s]; SB: Rad_Pix, sb0, sberr0, ..., av_sb, av_sberr [DN/s/pix]). totfluxes is the absolute
flux calibration of one target and subarray (Filter, CountRate, CountRateErr [e-/s]).
"""

HELP = "write a product as a table (ECSV, CSV, FITS, VOTable, LaTeX, ...) or as DS9 regions"


def configure(parser):
    """Declare the arguments.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    """
    formats = ("ecsv", "csv", "fits", "votable", "latex", "ds9", "radtab", "avtab", "totfluxes")
    parser.add_argument("product", metavar="PRODUCT", help="an .asdf file of this package")
    parser.add_argument("--format", choices=formats, default="ecsv", help="default: ecsv")
    parser.add_argument("--output", metavar="FILE", help="default: standard output, except for fits")
    parser.add_argument(
        "--table", choices=("table", "exposures"), default="table", help="the profile or the groups, or the exposures"
    )
    parser.add_argument("--columns", metavar="A,B,...", help="columns to write; default: all")
    parser.add_argument("--target", help="rows of the absolute flux table to write; default: all")
    parser.add_argument("--subarray", help="rows of the absolute flux table to write; default: all")


def run(args):
    """Write the table.

    Parameters
    ----------
    args : argparse.Namespace
    """
    import sys

    from niriss_eestep.errors import ParameterError
    from niriss_eestep.products import open as open_product
    from niriss_eestep.products.files import write_atomically
    from niriss_eestep.products.tables import export

    if args.format == "fits" and args.output is None:
        raise ParameterError("--format fits needs --output FILE")
    data = export(
        open_product(args.product),
        args.format,
        table=args.table,
        columns=args.columns.split(",") if args.columns else None,
        target=args.target,
        subarray=args.subarray,
    )
    if args.output is None:
        sys.stdout.write(data.decode())
    else:
        write_atomically(args.output, data)
