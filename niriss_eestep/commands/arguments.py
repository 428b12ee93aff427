"""What each command of ``niriss-ee`` takes; ``--help`` and completion import nothing else of the package.

A command's docstring here is the description that its ``--help`` prints; `run` of the module of its name does the work.
"""

import math
from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from niriss_eestep.simulate.switches import Effects

Add = Callable[..., Any]

#: more exposures, workers or realisations than this are a typing error
MANY = 1_000_000


def count(text: str) -> int:
    """Take an integer that is not negative.

    Parameters
    ----------
    text : str

    Returns
    -------
    int

    Raises
    ------
    argparse.ArgumentTypeError
        If the text is not such a number.
    """
    return _checked(text, int, lambda value: value >= 0, "an integer, 0 or more")


def positive_count(text: str) -> int:
    """Take an integer above zero; see `count`."""
    return _checked(text, int, lambda value: 0 < value <= MANY, f"an integer from 1 to {MANY}")


def number(text: str) -> float:
    """Take a finite number; see `count`."""
    return _checked(text, float, math.isfinite, "a finite number")


def positive(text: str) -> float:
    """Take a finite number above zero; see `count`."""
    return _checked(text, float, lambda value: math.isfinite(value) and value > 0, "a number above 0")


def _checked(text: str, kind: type, good: Callable[[Any], bool], wanted: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not good(value):
        raise ArgumentTypeError(f"{text!r} is not {wanted}")
    return value


def demo(parser: ArgumentParser) -> None:
    """Simulate a standard-star program, run the pipeline on it, and compare what it finds with the truth.

    The program: a 42,000 K white dwarf through the 12 filters, subarray SUB128, two dithers, noise with 1/f noise and
    inter-pixel capacitance, pixels that are not square, 15 NaN pixels in each exposure.
    """
    text = "new or empty directory, or one of an earlier demo, which is replaced (default niriss_ee_demo)"
    parser.add_argument("directory", type=Path, nargs="?", default=Path("niriss_ee_demo"), metavar="DIR", help=text)
    parser.add_argument("--seed", type=count, default=1, metavar="N", help="seed of the simulation (default 1)")


def simulate(parser: ArgumentParser) -> None:
    """Simulate a standard-star program.

    Exposures that look like the pipeline's, their association, spectrum and truth.
    """
    parser.add_argument("directory", type=Path, metavar="DIR", help="where to write; made where it does not exist")
    add = parser.add_argument_group("program").add_argument
    add("--filters", nargs="+", metavar="F", help="F090W ... F480M, or all (the default)")
    add("--subarrays", nargs="+", metavar="S", help="SUB64, SUB128 (the default), SUB256, FULL")
    text = "the 33 filters and subarrays of the commissioning program, instead of --filters and --subarrays (no star"
    add("--commissioning", action="store_true", help=f"{text} saturates with --v-mag 15.3)")
    text = "exposures of a group (default 2)"
    add("--dithers", dest="n_dithers", type=positive_count, default=2, metavar="N", help=text)
    add("--seed", type=count, default=1, metavar="N", help="equal seeds give equal files (default 1)")
    add("--date", default="2022-05-01", help="day of the first exposure, yyyy-mm-dd (default 2022-05-01)")
    add("--program", dest="number", type=count, default=1094, metavar="N", help="program number (default 1094)")
    add("--cal", action="store_true", help="write *_cal.fits instead of *_rate.fits")
    add("--rateints", action="store_true", help="write *_rateints.fits as well")
    add("--overwrite", action="store_true", help="replace exposures of the same name")
    add("--progress", action=BooleanOptionalAction, default=True, help="show a progress bar")
    add = parser.add_argument_group("star").add_argument
    text = "WD1057+719 (the default), LDS749B, P330E, BD+60 1753, which the next four options can change; or any name"
    add("--target", default="WD1057+719", metavar="NAME", help=f"{text} with all four of them")
    add("--ra", type=number, metavar="DEG", help="right ascension, ICRS")
    add("--dec", type=number, metavar="DEG", help="declination, ICRS")
    add("--temperature", type=number, metavar="K", help="temperature of the black body that stands for the star")
    add("--v-mag", type=number, metavar="MAG", help="Johnson V")
    add("--spectrum", type=Path, metavar="FILE", help="CALSPEC file to take instead of the black body")
    text = "true over predicted electron rate of a filter, such as F090W=1.02; or one value for all (default 1)"
    add("--ratio", nargs="+", default=[], metavar="F=VALUE", help=text)
    add = parser.add_argument_group("exposures").add_argument
    add("--noise", action=BooleanOptionalAction, default=True, help="draw noise (default)")
    add("--background", type=number, metavar="DN/S", help="sky of each pixel (default: typical of the filter)")
    along: dict[str, Any] = {"nargs": 2, "default": (0.0, 0.0), "metavar": ("X", "Y")}
    add("--gradient", type=number, **along, help="gradient of the sky [DN/s/pix per pix]")
    add("--stars", dest="n_stars", type=count, default=0, metavar="N", help="other, fainter stars in the field")
    _detector_effects(add)
    add("--pointing-error", type=number, default=0.3, metavar="PIX", help="rms error of the header's WCS on each axis")
    add("--electrons", type=positive, default=1e6, metavar="N", help="of the star in an exposure (default 1e6)")


def _detector_effects(add: Add) -> None:
    """Add the switches of bad pixels, and one for each of what a detector and the sky do."""
    add("--nan-pixels", type=count, default=0, metavar="N", help="NaN pixels, flagged DO_NOT_USE")
    add("--low-pixels", type=count, default=0, metavar="N", help="unflagged pixels that are too low")
    add("--jump-pixels", type=count, default=0, metavar="N", help="good pixels flagged JUMP_DET")
    add("--hits", type=count, default=0, metavar="N", help="cosmic-ray hits without a flag")
    ring: dict[str, Any] = {"nargs": 2, "default": (5.0, 16.0), "metavar": ("R_MIN", "R_MAX")}
    add("--bad-radii", type=number, **ring, help="their distances from the star [pix] (default 5 16)")
    for each in fields(Effects):
        name, default, unit = f"--{each.name.replace('_', '-')}", each.default, each.metadata["unit"]
        if isinstance(default, bool):
            add(name, action="store_true", help=each.metadata["help"])
            continue
        kind = {int: count, float: number, str: str}.get(type(default), Path)
        shown = each.metadata["help"] + (f" [{unit}]" if unit else "")
        shown += "" if default in (0, None) else f" (default {default})"
        add(name, type=kind, default=default, metavar="FILE" if kind is Path else "X", help=shown)


def asn(parser: ArgumentParser) -> None:
    """Group the NIRISS imaging exposures of a directory into associations for `strun niriss_fluxcal`."""
    add = parser.add_argument
    add("directory", type=Path, metavar="DIR", help="directory that holds *_rate.fits or *_cal.fits")
    text = "one association of all targets, in this file (default: one for each program and target, in DIR)"
    add("--output", type=Path, metavar="FILE", help=text)
    text = "which kind of exposure to take where there are several (default: the first of these)"
    add("--suffix", choices=("rate", "cal", "rateints", "calints"), help=text)


def show(parser: ArgumentParser) -> None:
    """Show what a product holds."""
    parser.add_argument("products", nargs="+", metavar="PRODUCT", help="an .asdf file of this package")


def export(parser: ArgumentParser) -> None:
    """Write a product as a table: ECSV (with units), CSV, FITS, VOTable, LaTeX, or as the earlier analysis scripts did.

    ds9 writes the apertures, sky annulus, bad pixels and neighbour of one exposure as regions for SAOImage DS9.

    radtab is one exposure's profile (EE: Radius, Rad_arcsec, CountRate, errCountRate [e-/s]; SB: Radius, SB, errSB
    [DN/s/pix]). avtab is a group's profile with those of its exposures (EE: Rad_Pix, Arcsec, Flux0, Fluxerr0, Flag0,
    ..., avFlux, avFluxerr, n_Good [e-/s]; SB: Rad_Pix, sb0, sberr0, ..., av_sb, av_sberr [DN/s/pix]). totfluxes is the
    absolute flux calibration of one target and subarray (Filter, CountRate, CountRateErr [e-/s]).
    """
    add = parser.add_argument
    add("product", metavar="PRODUCT", help="an .asdf file of this package")
    formats = ("ecsv", "csv", "fits", "votable", "latex", "ds9", "radtab", "avtab", "totfluxes")
    add("--format", choices=formats, default="ecsv", help="default: ecsv")
    add("--output", metavar="FILE", help="default: standard output, except for fits")
    text = "table: the profile, or the groups of absolute flux; exposures: one row for each"
    add("--table", choices=("table", "exposures"), default="table", help=text)
    add("--columns", metavar="A,B,...", help="columns to write; default: all")
    add("--target", help="target of the rows of the absolute flux table to write; default: all")
    add("--subarray", help="subarray of the rows of the absolute flux table to write; default: all")


def expect(parser: ArgumentParser) -> None:
    """Print what a standard star should give in each imaging filter: electron rate, flux density, zero points."""
    add = parser.add_argument
    add("star", metavar="STAR_OR_FILE", help="a CALSPEC FITS file, or the name of a star in $PYSYN_CDBS/calspec")
    add("--output", metavar="FILE.ecsv", help="write all columns as ECSV")
    text = "ASDF or ECSV file, or directory of synphot FITS files (default: $NIS_SYNPHOT, else the packaged curves)"
    add("--throughput", metavar="PATH", help=text)
    add("--vega", metavar="FILE", help="spectrum of Vega, for Vega magnitudes and zero points")


def psfee(parser: ArgumentParser) -> None:
    """Make the encircled-energy reference of the PSF, from optics or STPSF images; fit it to stars; compare two."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, (configure, text) in PSFEE_ACTIONS.items():
        configure(actions.add_parser(name, help=text, description=configure.__doc__))


def _psfee_build(parser: ArgumentParser) -> None:
    """Make an encircled-energy reference: by default from the telescope's geometry and wavefront statistics."""
    add = parser.add_argument
    add("--output", metavar="FILE", required=True, help="the ASDF file to write")
    add("--wavefront", choices=("inflight", "prelaunch"), default="inflight", help="(default: inflight)")
    add("--opd", metavar="FILE", help="FITS map of the telescope's wavefront [nm or micron]")
    add("--date", metavar="YYYY-MM-DD", help="state of the telescope on this day (default: since May 2022)")
    text = "place of the star in the field of view (default: subarray)"
    add("--field", choices=("subarray", "center"), default="subarray", help=text)
    add("--filters", nargs="+", metavar="FILTER", help="imaging filters (default: all)")
    add("--throughput", metavar="PATH", help="curves that weight the wavelengths (default: the packaged)")
    add("--images", metavar="FILE", help="write the PSF images too, which stars are rendered from")
    add("--coarse", action="store_true", help="quick look in seconds: few wavefronts, EE to a few 0.1 %%")
    add = parser.add_mutually_exclusive_group().add_argument
    text = "measure the STPSF/WebbPSF FITS images (or radtab tables) in DIR"
    add("--from", dest="directory", metavar="DIR", help=text)
    add("--with-stpsf", action="store_true", help="let STPSF, when installed, compute the PSFs")


def _psfee_fit(parser: ArgumentParser) -> None:
    """Fit the modes of the PSF to the curves of growth of all filters of a visit, which share one wavefront."""
    add = parser.add_argument
    add("files", nargs="+", metavar="EECOMBINED", help="combined EE products of one visit, all filters")
    add("--output", metavar="FILE", required=True, help="the ASDF file to write")
    add("--psfee", metavar="FILE", help="reference with modes to begin with (default: the packaged one)")
    add("--images", metavar="FILE", help="write the packaged PSF images too, with the fitted EE")
    add("--radii", nargs=2, type=float, default=(2, 15), metavar=("R_MIN", "R_MAX"), help="range fitted [pix]")
    add("--plot", metavar="FILE", help="plot the residuals before and after")


def _psfee_compare(parser: ArgumentParser) -> None:
    """Print how much two encircled-energy references differ, (A - B) / B in percent, by filter and radius."""
    add = parser.add_argument
    for name in ("A", "B"):
        add(name.lower(), metavar=name, help="psfee reference, or 'packaged'")
    add("--plot", metavar="FILE", help="plot the difference")
    radii = (*range(1, 11), 12, 15, 20, 25)
    add("--radii", nargs="+", type=float, default=radii, metavar="R", help="radii to compare at [pix]")
    text = "B's values of the filters behind CLEARP include that element's transmission: divide it out"
    add("--clearp-in-b", action="store_true", help=text)
    text = "B was measured less the mean of this sky annulus [pix], which holds starlight: take the same off A"
    add("--sky-in-b", nargs=2, type=float, metavar=("R_IN", "R_OUT"), help=text)


PSFEE_ACTIONS = {
    "build": (_psfee_build, "make a reference"),
    "fit": (_psfee_fit, "adjust a reference to stars"),
    "compare": (_psfee_compare, "compare two references"),
}


def calibrate(parser: ArgumentParser) -> None:
    """Combine many visits into flux calibration factors, and write the pipeline's photom and apcorr reference files."""
    add = parser.add_argument
    add("visits", nargs="*", metavar="FILE", help="*_absflux.asdf products, or a table of visits (*.ecsv)")
    add("--output-dir", default=".", metavar="DIR", help="where to write; made where it does not exist (default: here)")
    add = parser.add_argument_group("combination").add_argument
    add("--reference-subarray", metavar="NAME", help="subarray for which the factors hold (default: FULL where used)")
    add("--keep-all", action="store_true", help="keep outlying visits too")
    text = "photom files to compare the factors with; without FILE, the first is compared with the others"
    add("--compare", metavar="PHOTOM", nargs="+", default=[], help=text)
    add("--figures", choices=("png", "svg", "pdf"), help="write the figures as files, too")
    add("--convention", choices=("band", "mono"), default="band", help="F_nu: mean over the band, or at the pivot")
    add("--fill-missing", action="store_true", help="take filters without visits from August 2022's photom file")
    add = parser.add_argument_group("aperture corrections").add_argument
    add("--psfee", metavar="PATH", help="encircled energy of the PSF (default: the packaged one)")
    text = "splice these *_eecombined.asdf products with it, write the result and take the apertures from it"
    add("--observed-ee", nargs="+", default=[], metavar="EECOMBINED", help=text)
    add("--join-radius", type=float, metavar="PIX", help="where to splice (default: by signal-to-noise)")
    sky: dict[str, Any] = {"nargs": 2, "default": (30.0, 40.0), "metavar": ("IN", "OUT")}
    add("--sky-annulus", type=float, **sky, help="sky annulus of the apcorr file [pix] (default 30 40)")
    add = parser.add_argument_group("reference files").add_argument
    add("--author", default="niriss_eestep", help="AUTHOR of the reference files")
    add("--pedigree", help="PEDIGREE (default: INFLIGHT and the dates of the visits)")
    add("--useafter", metavar="DATE", help="USEAFTER (default: the date of the first visit)")


def report(parser: ArgumentParser) -> None:
    """Write an HTML report of absolute-flux products that have been saved."""
    add = parser.add_argument
    text = "a *_absflux.asdf file, or a directory of them; the other products of the run are looked for beside it"
    add("products", nargs="+", type=Path, metavar="PRODUCT", help=text)
    text = "where to write; made where it does not exist (default: beside the product)"
    add("--output-dir", type=Path, metavar="DIR", help=text)


def accuracy(parser: ArgumentParser) -> None:
    """Measure how accurate the photometry is, on simulated stars of known rate, and print a table of its errors."""
    add = parser.add_argument
    add("--filters", nargs="+", metavar="F", help="F090W ... F480M (default: all)")
    text = "realisations of each noise-free case (default 20)"
    add("-n", type=positive_count, default=20, metavar="N", help=text)
    add("--pulls", type=count, default=0, metavar="N", help="noisy groups for the pulls in each filter (default: none)")
    add("--dithers", type=positive_count, default=2, metavar="N", help="exposures of a group (default 2)")
    add("--subarray", default="SUB128", metavar="S", help="subarray of the noisy groups (default SUB128)")
    _detector_effects(parser.add_argument_group("what the detector and the sky do in the noisy groups").add_argument)
    add("--seed", type=count, default=0, help="equal seeds give equal figures")
    add("--plot", metavar="FILE", type=Path, help="plot the pulls (PNG, PDF, SVG)")


def campaign(parser: ArgumentParser) -> None:
    """Calibrate many associations, or all the exposures of directories, with several processes or on a Dask cluster.

    Every exposure's outcome is logged. At the end the table of products is printed, and campaign.ecsv (one row for each
    target, filter and subarray) and campaign_exposures.ecsv are written beside the products. A run that was stopped
    goes on with --skip-existing.
    """
    text = "association (*_asn.json), or directory of exposures, which are grouped by program and target"
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help=text)
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="where the products go")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--workers", type=positive_count, default=1, metavar="N", help="processes on this machine (default 1)")
    add("--scheduler", metavar="ADDRESS", help="address of a running Dask cluster, such as tcp://host:8786")
    text = "keep products of an earlier run made from the same input, parameters and references"
    parser.add_argument("--skip-existing", action="store_true", help=text)


#: every command, in the order of ``niriss-ee --help``: what adds its arguments, and its line there
COMMANDS = {
    "demo": (demo, "simulate a program, calibrate it, show the result"),
    "simulate": (simulate, "simulate a standard-star program with known truth"),
    "asn": (asn, "make the associations of a directory's exposures"),
    "show": (show, "show what a product holds"),
    "export": (export, "write a product as a table (ECSV, CSV, FITS, VOTable, LaTeX, ...) or as DS9 regions"),
    "expect": (expect, "expected electron rates of a standard star"),
    "psfee": (psfee, "build, fit or compare encircled-energy references"),
    "calibrate": (calibrate, "calibration factors and reference files from many visits"),
    "report": (report, "write an HTML report of absolute-flux products"),
    "accuracy": (accuracy, "measure the accuracy of the photometry and its errors on simulated stars"),
    "campaign": (campaign, "calibrate many associations, on several processes or a Dask cluster"),
}
