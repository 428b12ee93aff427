"""Simulate a standard-star program: exposures that look like the pipeline's, their association, spectrum and truth."""

from pathlib import Path

from niriss_eestep.commands.arguments import count, number, positive, positive_count

HELP = "simulate a standard-star program with known truth"


def configure(parser):
    """Add the arguments of `niriss-ee simulate`.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of this command.
    """
    parser.add_argument("directory", type=Path, metavar="DIR", help="where to write; made where it does not exist")
    _configure_program(parser.add_argument_group("program"))
    _configure_star(parser.add_argument_group("star"))
    _configure_image(parser.add_argument_group("exposures"))


def _configure_program(group):
    from argparse import BooleanOptionalAction

    group.add_argument("--filters", nargs="+", metavar="F", help="F090W ... F480M, or all (the default)")
    group.add_argument("--subarrays", nargs="+", metavar="S", help="SUB64, SUB128 (the default), SUB256, FULL")
    group.add_argument(
        "--commissioning",
        action="store_true",
        help="the 33 filters and subarrays of the commissioning program, instead of --filters and --subarrays "
        "(none saturates with --v-mag 15.3)",
    )
    group.add_argument(
        "--dithers", type=positive_count, default=2, metavar="N", help="exposures of a group (default 2)"
    )
    group.add_argument("--seed", type=count, default=1, metavar="N", help="equal seeds give equal files (default 1)")
    group.add_argument("--date", default="2022-05-01", help="of the first exposure, yyyy-mm-dd (default 2022-05-01)")
    group.add_argument("--program", type=count, default=1094, metavar="N", help="program number (default 1094)")
    group.add_argument("--cal", action="store_true", help="write *_cal.fits instead of *_rate.fits")
    group.add_argument("--rateints", action="store_true", help="write *_rateints.fits as well")
    group.add_argument("--overwrite", action="store_true", help="replace exposures of the same names")
    group.add_argument("--progress", action=BooleanOptionalAction, default=True, help="show a progress bar")


def _configure_star(group):
    group.add_argument(
        "--target",
        default="WD1057+719",
        metavar="NAME",
        help="WD1057+719 (the default), LDS749B, P330E, BD+60 1753, which the next four options can change; "
        "or any name with all four of them",
    )
    group.add_argument("--ra", type=number, metavar="DEG", help="right ascension, ICRS")
    group.add_argument("--dec", type=number, metavar="DEG", help="declination, ICRS")
    group.add_argument("--temperature", type=number, metavar="K", help="of the black body that stands for the star")
    group.add_argument("--v-mag", type=number, metavar="MAG", help="Johnson V")
    group.add_argument("--spectrum", type=Path, metavar="FILE", help="CALSPEC file to take instead of the black body")
    group.add_argument(
        "--ratio",
        nargs="+",
        default=[],
        metavar="F=VALUE",
        help="true over predicted electron rate of a filter, such as F090W=1.02; or one value for all (default 1)",
    )


def _configure_image(group):
    from argparse import BooleanOptionalAction

    group.add_argument("--noise", action=BooleanOptionalAction, default=True, help="draw noise (default)")
    group.add_argument("--background", type=number, metavar="DN/S", help="per pixel (default: a typical sky by filter)")
    group.add_argument(
        "--gradient", type=number, nargs=2, default=(0.0, 0.0), metavar=("X", "Y"), help="of the background, per pixel"
    )
    group.add_argument("--stars", type=count, default=0, metavar="N", help="other, fainter stars in the field")
    detector_effects(group)
    group.add_argument(
        "--pointing-error", type=number, default=0.3, metavar="PIX", help="of the header's WCS, rms along each axis"
    )
    group.add_argument(
        "--electrons", type=positive, default=1e6, metavar="N", help="of the star, in an exposure (default 1e6)"
    )


def detector_effects(group):
    """Add the switches of bad pixels, and one for each of what a detector and the sky do.

    Parameters
    ----------
    group : argparse.ArgumentParser or group of arguments
    """
    from dataclasses import fields

    from niriss_eestep.simulate.switches import Effects

    group.add_argument("--nan-pixels", type=count, default=0, metavar="N", help="NaN pixels, flagged DO_NOT_USE")
    group.add_argument("--low-pixels", type=count, default=0, metavar="N", help="low pixels without a flag")
    group.add_argument("--jump-pixels", type=count, default=0, metavar="N", help="good pixels flagged JUMP_DET")
    group.add_argument("--hits", type=count, default=0, metavar="N", help="cosmic-ray hits without a flag")
    group.add_argument(
        "--bad-radii",
        type=number,
        nargs=2,
        default=(5.0, 16.0),
        metavar=("R_MIN", "R_MAX"),
        help="where these pixels lie, from the star (default 5 16)",
    )
    for each in fields(Effects):
        name, default, unit = f"--{each.name.replace('_', '-')}", each.default, each.metadata["unit"]
        if isinstance(default, bool):
            group.add_argument(name, action="store_true", help=each.metadata["help"])
            continue
        kind = {int: count, float: number, str: str}.get(type(default), Path)
        described = each.metadata["help"] + (f" [{unit}]" if unit and kind is not Path else "")
        shown = "" if default in (0, None) else f" (default {default})"
        group.add_argument(
            name, type=kind, default=default, metavar="FILE" if kind is Path else "X", help=described + shown
        )


def blemishes_and_effects(args):
    """Make `Blemishes` and `Effects` of the switches of `detector_effects`.

    Parameters
    ----------
    args : argparse.Namespace

    Returns
    -------
    blemishes : Blemishes
    effects : Effects
    """
    from dataclasses import fields

    from astropy.io import fits

    from niriss_eestep.errors import ParameterError, reading
    from niriss_eestep.reference.guards import check_fits
    from niriss_eestep.simulate.scene import Blemishes
    from niriss_eestep.simulate.switches import Effects

    given = {each.name: getattr(args, each.name) for each in fields(Effects)}
    if args.response is not None:
        check_fits(args.response, "flat field", ParameterError)
        with reading(args.response, "flat field with an image SCI", ParameterError):
            given["response"] = fits.getdata(args.response, "SCI").astype(float)
    blemishes = Blemishes(args.nan_pixels, args.low_pixels, args.jump_pixels, args.hits, *args.bad_radii)
    return blemishes, Effects(**given)


def run(args):
    """Simulate, write, and say what was written.

    Parameters
    ----------
    args : argparse.Namespace
        Arguments of the command.
    """
    from functools import partial

    from niriss_eestep.exposures.associations import find_exposures, write_associations
    from niriss_eestep.pipeline.progress import progress
    from niriss_eestep.simulate.program import simulate_program

    program = make_program(args)
    kinds = ("rateints",) * args.rateints + (("cal",) if args.cal else ("rate",))
    bar = partial(progress, desc="simulate", enabled=args.progress)
    truth = simulate_program(args.directory, program, kinds=kinds, overwrite=args.overwrite, progress=bar)
    names = set(truth["exposure"])
    exposures, _ = find_exposures(args.directory, kinds[-1])
    ours = [exposure for exposure in exposures if exposure.root in names]
    associations = write_associations(ours, args.directory)
    _print_summary(args.directory, truth, kinds, associations)


def make_program(args):
    """Turn the arguments into a program.

    Parameters
    ----------
    args : argparse.Namespace
        Arguments of the command.

    Returns
    -------
    niriss_eestep.simulate.program.Program
    """
    from niriss_eestep.errors import ParameterError
    from niriss_eestep.instrument import FILTERS
    from niriss_eestep.reference import load_spectrum
    from niriss_eestep.simulate.program import COMMISSIONING, Program, combinations

    if args.commissioning and (args.filters or args.subarrays):
        raise ParameterError(
            "--commissioning has filters and subarrays of its own: leave out --filters and --subarrays, or it"
        )
    filters = _words(args.filters or ["all"])
    filters = list(FILTERS) if [name.lower() for name in filters] == ["all"] else filters
    subarrays = _words(args.subarrays or ["SUB128"])
    groups = COMMISSIONING if args.commissioning else combinations(filters, subarrays)
    blemishes, effects = blemishes_and_effects(args)
    return Program(
        groups=groups,
        n_dithers=args.dithers,
        star=_star(args),
        spectrum=None if args.spectrum is None else load_spectrum(args.spectrum),
        blemishes=blemishes,
        ratio=_ratios(args.ratio),
        background=args.background,
        gradient=tuple(args.gradient),
        n_stars=args.stars,
        effects=effects,
        noise=args.noise,
        pointing_error=args.pointing_error,
        electrons=args.electrons,
        seed=args.seed,
        number=args.program,
        start=_start(args.date),
    )


def _start(date):
    from astropy.time import Time

    from niriss_eestep.errors import ParameterError

    try:
        return Time(date, scale="utc").mjd
    except ValueError as error:
        raise ParameterError(f"--date {date}: give a date as yyyy-mm-dd") from error


def _words(values):
    """Split at blanks and commas."""
    return [word for value in values for word in value.replace(",", " ").split()]


def _star(args):
    from dataclasses import replace

    from niriss_eestep.errors import ParameterError
    from niriss_eestep.simulate.program import StandardStar, standard_star

    fields = ("ra", "dec", "temperature", "v_mag")
    given = {name: getattr(args, name) for name in fields if getattr(args, name) is not None}
    if len(given) == len(fields):
        return StandardStar(args.target, **given)
    try:
        star = standard_star(args.target)
    except ParameterError as error:
        missing = ", ".join(f"--{name.replace('_', '-')}" for name in fields if name not in given)
        raise ParameterError(f"{error} (missing: {missing})") from error
    return replace(star, **given)


def _ratios(values):
    from niriss_eestep.errors import ParameterError
    from niriss_eestep.instrument import FILTERS, filter_facts

    ratios = {}
    for word in _words(values):
        name, _, number = word.rpartition("=")
        try:
            ratio = float(number)
        except ValueError:
            ratio = 0.0
        if not ratio > 0:
            raise ParameterError(f"--ratio {word}: give a positive number, or FILTER=number")
        ratios |= {filter_facts(name).name: ratio} if name else dict.fromkeys(FILTERS, ratio)
    return ratios


def _print_summary(directory, truth, kinds, associations):
    from niriss_eestep.simulate.program import TRUTH_FILE

    groups = dict.fromkeys(zip(truth["filter"], truth["subarray"], strict=True))
    print(
        f"{len(truth)} exposures ({', '.join(f'*_{kind}.fits' for kind in kinds)}) "
        f"of {truth['target'][0]} in {len(groups)} groups: {directory}"
    )
    saturated = sorted({f"{row['filter']} {row['subarray']}" for row in truth if row["n_saturated"]})
    if saturated:
        print(f"saturated in the star's core: {', '.join(saturated)}")
    print(f"truth: {directory / TRUTH_FILE}")
    print(f"spectrum: {directory / truth.meta['spectrum']} (PYSYN_CDBS={directory} lets the pipeline find it)")
    for path in associations:
        print(f"association: {path}")
