"""Build the encircled-energy reference of the PSF from the telescope's optics or from STPSF images; compare two."""

from datetime import date
from pathlib import Path

from niriss_eestep.errors import reading

HELP = "build or compare encircled-energy references"

#: radii that a comparison prints [pix]
RADII = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25)


def configure(parser):
    """Add the arguments of ``niriss-ee psfee``.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    """
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="make a reference", description=_build.__doc__)
    build.add_argument("--output", metavar="FILE", required=True, help="the ASDF file to write")
    build.add_argument("--wavefront", choices=("inflight", "prelaunch"), default="inflight", help="(default: inflight)")
    build.add_argument("--opd", metavar="FILE", help="FITS map of the telescope's wavefront [nm or micron]")
    build.add_argument("--date", metavar="YYYY-MM-DD", help="the telescope as it was then (default: since May 2022)")
    build.add_argument(
        "--field", choices=("subarray", "center"), default="subarray", help="of the instrument (default: subarray)"
    )
    build.add_argument("--filters", nargs="+", metavar="FILTER", help="imaging filters (default: all)")
    build.add_argument("--throughput", metavar="PATH", help="weights the wavelengths (default: the packaged curves)")
    build.add_argument("--images", metavar="FILE", help="write the PSF images too, which stars are rendered from")
    source = build.add_mutually_exclusive_group()
    source.add_argument(
        "--from",
        dest="directory",
        metavar="DIR",
        help="measure the STPSF/WebbPSF FITS images (or radtab tables) in DIR",
    )
    source.add_argument("--with-stpsf", action="store_true", help="let STPSF, when installed, compute the PSFs")
    compare = actions.add_parser("compare", help="compare two references", description=_compare.__doc__)
    for name in ("A", "B"):
        compare.add_argument(name.lower(), metavar=name, help="psfee reference, or 'packaged'")
    compare.add_argument("--plot", metavar="FILE", help="plot the difference")
    compare.add_argument("--radii", nargs="+", type=float, default=RADII, metavar="R", help="radii [pix]")
    compare.add_argument(
        "--clearp-in-b",
        action="store_true",
        help="B's values of the filters behind CLEARP include that element's transmission: divide it out",
    )
    compare.add_argument(
        "--sky-in-b",
        nargs=2,
        type=float,
        metavar=("R_IN", "R_OUT"),
        help="B was measured less the mean of this sky annulus [pix], which holds starlight: take the same off A",
    )


def run(args):
    """Run ``niriss-ee psfee``.

    Parameters
    ----------
    args : argparse.Namespace
    """
    return _build(args) if args.action == "build" else _compare(args)


def _build(args):
    """Make an encircled-energy reference: by default from the telescope's geometry and wavefront statistics."""
    from niriss_eestep.reference import write_psf_images, write_psfee

    _check_outputs(args)
    if args.directory or args.with_stpsf:
        psfee, images = _from_stpsf(args), {}
    else:
        psfee, images = _from_optics(args)
    write_psfee(psfee, args.output)
    if args.images:
        write_psf_images(images, args.images, meta=psfee.meta)
    print(f"{args.output}: {', '.join(psfee.filters)}, to {psfee.radius_max:g} pix")


def _check_outputs(args):
    """Say at once what could not be written at the end."""
    from pathlib import Path

    from niriss_eestep.errors import ParameterError

    for option, value in (("--output", args.output), ("--images", args.images)):
        if value and not Path(value).resolve().parent.is_dir():
            raise ParameterError(f"{option} {value}: there is no directory {Path(value).resolve().parent}")
        if value and not value.endswith(".asdf"):
            raise ParameterError(f"{option} {value}: the reference is written as ASDF; give a name that ends in .asdf")
    if args.images and (args.directory or args.with_stpsf):
        raise ParameterError(
            "--images: only the images of our own optics are written; leave out --from and --with-stpsf"
        )


def _from_stpsf(args):
    """Measure the PSFs of a directory, or of STPSF itself."""
    from niriss_eestep.psf.references import check_filters
    from niriss_eestep.reference import PSFEE, load_psfee

    wanted = check_filters(args.filters) if args.filters else None
    if args.with_stpsf:
        from niriss_eestep.instrument import FILTERS
        from niriss_eestep.psf.stpsf import compute_with_stpsf

        return compute_with_stpsf(wanted or tuple(FILTERS), load_psfee())
    psfee = load_psfee(args.directory)
    if wanted:
        psfee = PSFEE({name: psfee.table(name) for name in wanted}, psfee.name, psfee.meta)
    return psfee


def _from_optics(args):
    """Compute the PSFs, with a progress bar where there is somebody to see it."""
    from tqdm import tqdm

    from niriss_eestep.instrument import FILTERS
    from niriss_eestep.psf.build import Sampling
    from niriss_eestep.psf.references import build_psfs, check_filters, provenance, psfee_of
    from niriss_eestep.reference import load_throughput

    filters = check_filters(args.filters or FILTERS)
    # the environment's NIS_SYNPHOT must not change what the same command makes
    throughput = load_throughput(args.throughput or _packaged_throughput())
    wavefront = _wavefront(args)
    # before launch there is no prior to draw from
    sampling = Sampling(n_draws=Sampling().n_realisations) if args.wavefront == "prelaunch" else Sampling()
    steps = len(filters) * (sampling.n_realisations + sampling.n_draws)
    with tqdm(total=steps, unit="wavefront", disable=None) as bar:
        psfs = build_psfs(filters, wavefront=wavefront, throughput=throughput, sampling=sampling, progress=bar.update)
    meta = provenance(wavefront, throughput=throughput, sampling=sampling)
    return psfee_of(psfs, meta), {name: psf.image for name, psf in psfs.items()}


def _wavefront(args):
    """Model of the wavefront that the arguments ask for."""
    from niriss_eestep.errors import ParameterError
    from niriss_eestep.psf.wavefront import inflight, measured
    from niriss_eestep.reference.opd_map import read_opd

    if args.opd:
        return measured(read_opd(args.opd), Path(args.opd).name, args.field)
    if args.wavefront == "prelaunch":
        if args.date or args.field != "subarray":
            raise ParameterError("--date and --field: of the wavefront in flight; leave out --wavefront prelaunch")
        return "prelaunch"
    if args.date:
        with reading("--date", "an ISO date such as 2023-07-01"):
            date.fromisoformat(args.date)
    return inflight(args.field, args.date)


def _packaged_throughput():
    from niriss_eestep.reference.throughput import PACKAGED_THROUGHPUT

    return PACKAGED_THROUGHPUT


def _compare(args):
    """Print how much two encircled-energy references differ, (A - B) / B in percent, by filter and radius."""
    import numpy as np

    from niriss_eestep.errors import ReferenceDataError
    from niriss_eestep.reference import load_psfee

    _check_sky(args.sky_in_b)
    a, b = (load_psfee(None if name == "packaged" else name) for name in (args.a, args.b))
    filters = [name for name in a.filters if name in b.filters]
    if not filters:
        raise ReferenceDataError(
            f"{a.name} has {', '.join(a.filters)}, {b.name} has {', '.join(b.filters)}: no filter in common"
        )
    radii = np.array([r for r in args.radii if 0 < r <= min(a.radius_max, b.radius_max)])
    if not radii.size:
        raise ReferenceDataError(
            f"{a.name} reaches {a.radius_max:g} pix, {b.name} {b.radius_max:g} pix: none of the radii is in both"
        )
    scale = {name: _transmission(name) if args.clearp_in_b else 1.0 for name in filters}
    light = {name: _light(a, name, radii, args.sky_in_b) * scale[name] for name in filters}
    difference = {name: 100 * (light[name] / b.ee(name, radii) - 1) for name in filters}
    print(f"({a.name} - {b.name}) / {b.name} [%], by radius [pix]")
    print(f"{'filter':8}" + "".join(f"{r:>8g}" for r in radii))
    for name in filters:
        print(f"{name:8}" + "".join(f"{d:8.2f}" for d in difference[name]))
    if args.plot:
        _plot(args.plot, a.name, b.name, radii, difference)


def _check_sky(sky):
    """Refuse an annulus that is none."""
    from niriss_eestep.errors import ParameterError

    if sky is not None and not 0 <= sky[0] < sky[1]:
        raise ParameterError(
            f"--sky-in-b {sky[0]:g} {sky[1]:g}: give the inner, then the outer radius of the sky annulus [pix]"
        )


def _light(psfee, name, radii, sky):
    """EE within the radii; the effective one where the mean of a sky annulus is taken off."""
    from functools import partial

    import numpy as np

    from niriss_eestep.flux.aperture_correction import effective_ee

    edges, coverage = ([], []) if sky is None else (sky, [1.0])
    return effective_ee(partial(psfee.ee, name), radii, np.pi * radii**2, np.array(edges), np.array(coverage))


def _transmission(name):
    """Return the transmission of the CLEARP element, as WebbPSF draws it, for the filters behind it; else 1."""
    from niriss_eestep.instrument import CLEARP_FILTERS
    from niriss_eestep.psf.pupil import WEBBPSF_PUPIL

    return WEBBPSF_PUPIL.clearp_transmission() if name in CLEARP_FILTERS else 1.0


def _plot(path, a, b, radii, difference):
    """Plot the differences by radius, a line per filter."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from niriss_eestep.errors import ParameterError

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = colormaps["turbo"]([0.05 + 0.9 * i / max(len(difference) - 1, 1) for i in range(len(difference))])
    for (name, values), colour in zip(difference.items(), colours, strict=True):
        axes.plot(radii, values, marker="o", markersize=3, linewidth=1.2, color=colour, label=name)
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set(xlabel="aperture radius [pix]", ylabel="difference of EE [%]", title=f"{a} against {b}")
    axes.legend(fontsize="small", ncols=2)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise ParameterError(f"--plot {path}: cannot be written ({error})") from error
