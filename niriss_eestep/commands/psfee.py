"""Make the encircled-energy reference of the PSF, from optics or STPSF images; fit it to stars; compare two."""

from dataclasses import replace
from datetime import date
from pathlib import Path

from niriss_eestep.errors import reading

HELP = "build, fit or compare encircled-energy references"

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
    build.add_argument("--coarse", action="store_true", help="a look in seconds: few wavefronts, EE to a few 0.1 %%")
    source = build.add_mutually_exclusive_group()
    source.add_argument(
        "--from",
        dest="directory",
        metavar="DIR",
        help="measure the STPSF/WebbPSF FITS images (or radtab tables) in DIR",
    )
    source.add_argument("--with-stpsf", action="store_true", help="let STPSF, when installed, compute the PSFs")
    fit = actions.add_parser("fit", help="adjust a reference to stars", description=_fit.__doc__)
    fit.add_argument("files", nargs="+", metavar="EECOMBINED", help="combined EE products of one visit, all filters")
    fit.add_argument("--output", metavar="FILE", required=True, help="the ASDF file to write")
    fit.add_argument("--psfee", metavar="FILE", help="reference with modes to begin with (default: the packaged one)")
    fit.add_argument("--images", metavar="FILE", help="write the packaged PSF images too, with the fitted EE")
    fit.add_argument("--radii", nargs=2, type=float, default=(2, 15), metavar=("R_MIN", "R_MAX"), help="fitted [pix]")
    fit.add_argument("--plot", metavar="FILE", help="plot the residuals before and after")
    _configure_compare(actions.add_parser("compare", help="compare two references", description=_compare.__doc__))


def _configure_compare(compare):
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
    return {"build": _build, "fit": _fit, "compare": _compare}[args.action](args)


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
    if args.images and args.action == "build" and (args.directory or args.with_stpsf):
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

        tables, version = compute_with_stpsf(wanted or tuple(FILTERS), load_psfee())
        return PSFEE(tables, f"stpsf {version}", {"source": f"STPSF {version}"})
    psfee = load_psfee(args.directory)
    if wanted:
        psfee = PSFEE({name: psfee.table(name) for name in wanted}, psfee.name, psfee.meta)
    return psfee


def _from_optics(args):
    """Compute the PSFs, with a progress bar where there is somebody to see it."""
    from tqdm import tqdm

    from niriss_eestep.instrument import FILTERS
    from niriss_eestep.psf.build import COARSE, Sampling
    from niriss_eestep.psf.references import build_psfs, check_filters, provenance, psfee_of
    from niriss_eestep.reference.throughput import PACKAGED_THROUGHPUT, load_throughput

    filters = check_filters(args.filters or FILTERS)
    # the environment's NIS_SYNPHOT must not change what the same command makes
    throughput = load_throughput(args.throughput or PACKAGED_THROUGHPUT)
    wavefront = _wavefront(args)
    sampling = COARSE if args.coarse else Sampling()
    if args.wavefront == "prelaunch":
        # before launch there is no prior to draw from, but single wavefronts differ
        sampling = replace(sampling, n_draws=2 * sampling.n_realisations)
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


def _fit(args):
    """Fit the modes of the PSF to the curves of growth of all filters of a visit, which share one wavefront."""
    import numpy as np

    from niriss_eestep import products
    from niriss_eestep.calibration.observed_ee import fit_visit
    from niriss_eestep.calibration.table import visit_group
    from niriss_eestep.errors import ParameterError, ProductError
    from niriss_eestep.products.models import CombinedEEModel
    from niriss_eestep.reference import load_psf_images, load_psfee, write_psf_images, write_psfee
    from niriss_eestep.reference.psf_images import reshaped

    _check_outputs(args)
    if not 0 < args.radii[0] <= args.radii[1]:
        raise ParameterError("--radii {:g} {:g}: give the smaller, then the larger radius [pix]".format(*args.radii))
    psfee, models = load_psfee(args.psfee), []
    for path in args.files:
        models.append(products.open(path))
        if not isinstance(models[-1], CombinedEEModel):
            raise ProductError(f"{path}: is a {type(models[-1]).__name__}; the PSF is fitted to combined EE profiles")
    fitted, fit, curves = fit_visit(psfee, [visit_group(model) for model in models], *args.radii)
    write_psfee(fitted, args.output)
    if args.images:
        images = load_psf_images()
        both = [name for name in fitted.filters if name in images]
        adjusted = {name: reshaped(images[name], fitted.ee(name, images[name].radius)) for name in both}
        write_psf_images(adjusted, args.images, meta=fitted.meta)
    print(f"{'group':18}{'total [DN/s]':>14}{'error [%]':>11}{'residual before':>17}{'after [%]':>11}")
    for i, (name, curve) in enumerate(curves.items()):
        own = fit.weights[i][i] @ curve.covariance @ fit.weights[i][i] / fit.total[i] ** 2
        error = fit.inflation * np.sqrt(own + np.sum(fit.aperture_modes[i] ** 2))
        spread = [100 * np.sqrt(np.mean(part[i] ** 2)) for part in (fit.before, fit.after)]
        print(f"{name:18}{fit.total[i]:14.7g}{100 * error:11.3f}{spread[0]:17.3f}{spread[1]:11.3f}")
    print(f"chi2 / dof {fit.chi2:.4g} / {fit.dof}; largest mode {np.abs(fit.shared).max():.2g} standard deviations")
    for text in fit.warnings:
        print(f"warning: {text}")
    if args.plot:
        panels = {
            title: {name: (c.radius, 100 * v) for (name, c), v in zip(curves.items(), part, strict=True)}
            for title, part in ((psfee.name, fit.before), ("fitted to the star", fit.after))
        }
        _plot(args.plot, "residual of the curve of growth [%]", panels)
    print(f"{args.output}: {', '.join(fitted.filters)}, to {fitted.radius_max:g} pix")


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
        lines = {name: (radii, values) for name, values in difference.items()}
        _plot(args.plot, "difference of EE [%]", {f"{a.name} against {b.name}": lines})


def _check_sky(sky):
    """Refuse an annulus whose radii do not rise."""
    from niriss_eestep.errors import ParameterError

    if sky is not None and not 0 <= sky[0] < sky[1]:
        raise ParameterError(
            f"--sky-in-b {sky[0]:g} {sky[1]:g}: give the inner, then the outer radius of the sky annulus [pix]"
        )


def _light(psfee, name, radii, sky):
    """EE within the radii; the effective one where the mean of a sky annulus is taken off."""
    from functools import partial

    import numpy as np

    from niriss_eestep.flux.total_rate import effective_ee

    edges, coverage = ([], []) if sky is None else (sky, [1.0])
    return effective_ee(partial(psfee.ee, name), radii, np.pi * radii**2, np.array(edges), np.array(coverage))


def _transmission(name):
    """Return the transmission of the CLEARP element, as WebbPSF draws it, for the filters behind it; else 1."""
    from niriss_eestep.instrument import CLEARP_FILTERS
    from niriss_eestep.psf.pupil import WEBBPSF_PUPIL

    return WEBBPSF_PUPIL.clearp_transmission() if name in CLEARP_FILTERS else 1.0


def _plot(path, label, panels):
    """Plot values by radius, a line per name, in panels side by side: title -> name -> (radii, values)."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from niriss_eestep.errors import ParameterError
    from niriss_eestep.instrument import FILTERS

    figure = Figure(figsize=(1.6 + 4.8 * len(panels), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    colours = dict(zip(FILTERS, colormaps["turbo"]([0.05 + 0.9 * i / 11 for i in range(len(FILTERS))]), strict=True))
    all_axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (title, lines) in zip(all_axes, panels.items(), strict=True):
        labelled = set()
        for name, (radii, values) in lines.items():
            one = name.split()[0]
            once = one if one not in labelled else None
            axes.plot(radii, values, marker="o", markersize=3, linewidth=1.2, color=colours[one], label=once)
            labelled.add(one)
        axes.axhline(0, color="0.5", linewidth=0.8)
        axes.set(xlabel="aperture radius [pix]", title=title)
    all_axes[0].set_ylabel(label)
    figure.legend(*all_axes[-1].get_legend_handles_labels(), loc="outside right", fontsize="small")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise ParameterError(f"--plot {path}: cannot be written ({error})") from error
