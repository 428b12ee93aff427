"""Simulate a standard-star program: exposures that look like the pipeline's, their association, spectrum and truth."""

from argparse import Namespace
from collections.abc import Iterable
from dataclasses import fields, replace
from functools import partial
from typing import Any

from astropy.io import fits
from astropy.time import Time

from niriss_eestep.errors import ParameterError, reading
from niriss_eestep.exposures.associations import find_exposures, write_associations
from niriss_eestep.instrument import FILTERS, filter_facts
from niriss_eestep.pipeline.progress import progress
from niriss_eestep.reference import load_spectrum
from niriss_eestep.reference.guards import check_fits
from niriss_eestep.simulate import program as plan
from niriss_eestep.simulate.scene import Blemishes
from niriss_eestep.simulate.switches import Effects

#: arguments that are the program's fields as they are
_FIELDS = ("n_dithers", "background", "n_stars", "noise", "pointing_error", "electrons", "seed", "number")


def run(args: Namespace) -> None:
    """Simulate, write, and say what was written.

    Parameters
    ----------
    args : argparse.Namespace
        Arguments of the command.
    """
    directory, program = args.directory, make_program(args)
    kinds = ("rateints",) * args.rateints + (("cal",) if args.cal else ("rate",))
    bar = partial(progress, desc="simulate", enabled=args.progress)
    truth = plan.simulate_program(directory, program, kinds=kinds, overwrite=args.overwrite, progress=bar)
    names = set(truth["exposure"])
    ours = [exposure for exposure in find_exposures(directory, kinds[-1])[0] if exposure.root in names]
    associations = write_associations(ours, directory)
    groups = dict.fromkeys(zip(truth["filter"], truth["subarray"], strict=True))
    files = ", ".join(f"*_{kind}.fits" for kind in kinds)
    in_groups = f"in {len(groups)} group{'s' * (len(groups) > 1)}"
    print(f"{len(truth)} exposures ({files}) of {truth['target'][0]} {in_groups}: {directory}")
    saturated = sorted({f"{row['filter']} {row['subarray']}" for row in truth if row["n_saturated"]})
    if saturated:
        print(f"saturated in the star's core: {', '.join(saturated)}")
    print(f"truth: {directory / plan.TRUTH_FILE}")
    print(f"spectrum: {directory / truth.meta['spectrum']} (PYSYN_CDBS={directory} lets the pipeline find it)")
    for path in associations:
        print(f"association: {path}")


def make_program(args: Namespace) -> plan.Program:
    """Turn the arguments into a program.

    Parameters
    ----------
    args : argparse.Namespace
        Arguments of the command.

    Returns
    -------
    niriss_eestep.simulate.program.Program

    Raises
    ------
    ParameterError
        Naming the option, if arguments do not go together or have no sense.
    """
    if args.commissioning and (args.filters or args.subarrays):
        raise ParameterError("--commissioning has its own filters and subarrays: leave out --filters and --subarrays")
    filters = _words(args.filters or ["all"])
    filters = list(FILTERS) if [name.lower() for name in filters] == ["all"] else filters
    groups = plan.combinations(filters, _words(args.subarrays or ["SUB128"]))
    groups = plan.COMMISSIONING if args.commissioning else groups
    blemishes, effects = blemishes_and_effects(args)
    spectrum = None if args.spectrum is None else load_spectrum(args.spectrum)
    same: dict[str, Any] = {"effects": effects, "gradient": tuple(args.gradient)}
    same |= {name: getattr(args, name) for name in _FIELDS}
    star, ratio = _star(args), _ratios(args.ratio)
    try:
        start = Time(args.date, scale="utc").mjd
    except ValueError as error:
        raise ParameterError(f"--date {args.date}: give a date as yyyy-mm-dd") from error
    return plan.Program(groups, star=star, spectrum=spectrum, blemishes=blemishes, ratio=ratio, start=start, **same)


def blemishes_and_effects(args: Namespace) -> tuple[Blemishes, Effects]:
    """Make `Blemishes` and `Effects` of the switches of what the detector and the sky do.

    Parameters
    ----------
    args : argparse.Namespace

    Returns
    -------
    blemishes : Blemishes
    effects : Effects
    """
    given = {each.name: getattr(args, each.name) for each in fields(Effects)}
    if args.response is not None:
        check_fits(args.response, "flat field", ParameterError)
        with reading(args.response, "flat field with an image SCI", ParameterError):
            given["response"] = fits.getdata(args.response, "SCI").astype(float)
    blemishes = Blemishes(args.nan_pixels, args.low_pixels, args.jump_pixels, args.hits, *args.bad_radii)
    return blemishes, Effects(**given)


def _words(values: Iterable[str]) -> list[str]:
    """Split at blanks and commas."""
    return [word for value in values for word in value.replace(",", " ").split()]


def _star(args: Namespace) -> plan.StandardStar:
    names = ("ra", "dec", "temperature", "v_mag")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if len(given) == len(names):
        return plan.StandardStar(args.target, **given)
    try:
        known = plan.standard_star(args.target)
    except ParameterError as error:
        missing = ", ".join(f"--{name.replace('_', '-')}" for name in names if name not in given)
        raise ParameterError(f"{error} (missing: {missing})") from error
    return replace(known, **given)


def _ratios(values: Iterable[str]) -> dict[str, float]:
    ratios: dict[str, float] = {}
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
