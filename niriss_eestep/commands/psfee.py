"""Make the encircled-energy reference of the PSF, from optics or STPSF images; fit it to stars; compare two."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from niriss_eestep import products
from niriss_eestep.arrays import Array
from niriss_eestep.calibration.observed_ee import fit_visit
from niriss_eestep.calibration.table import visit_group
from niriss_eestep.errors import ParameterError, ProductError, ReferenceDataError, reading
from niriss_eestep.flux.total_rate import effective_ee
from niriss_eestep.instrument import CLEARP_FILTERS, FILTERS
from niriss_eestep.products.models import CombinedEEModel
from niriss_eestep.psf.build import COARSE, Sampling, build_psfs, check_filters, provenance, psfee_of
from niriss_eestep.psf.pupil import WEBBPSF_PUPIL
from niriss_eestep.psf.stpsf import compute_with_stpsf
from niriss_eestep.psf.wavefront import WavefrontModel, inflight, measured
from niriss_eestep.reference import PSFEE, load_psf_images, load_psfee, write_psf_images, write_psfee
from niriss_eestep.reference.psf import PSFImage, reshaped
from niriss_eestep.reference.region import read_opd
from niriss_eestep.reference.stdspec import PACKAGED_THROUGHPUT, load_throughput
from niriss_eestep.report.style import COLOURS, new_figure, series_style, styled


def run(args: Namespace) -> None:
    """Run ``niriss-ee psfee``.

    Parameters
    ----------
    args : argparse.Namespace
    """
    {"build": _build, "fit": _fit, "compare": _compare}[args.action](args)


def _build(args: Namespace) -> None:
    """Make a reference, by default from the telescope's geometry and wavefront statistics."""
    _check_outputs(args)
    filters = check_filters(args.filters or list(FILTERS))
    if (args.directory or args.with_stpsf) and args.images:
        raise ParameterError("--images: only the images of our own optics are written; leave out --from, --with-stpsf")
    if args.with_stpsf:
        tables, version = compute_with_stpsf(filters, load_psfee())
        psfee = PSFEE(tables, f"stpsf {version}", {"source": f"STPSF {version}"})
    elif args.directory:
        psfee = load_psfee(args.directory)
        if args.filters:
            psfee = PSFEE({name: psfee.table(name) for name in filters}, psfee.name, psfee.meta)
    else:
        psfee, images = _from_optics(args, filters)
        if args.images:
            write_psf_images(images, args.images, meta=psfee.meta)
    _write(psfee, args.output)


def _check_outputs(args: Namespace) -> None:
    """Check before the work that its results can be written."""
    for option, value in (("--output", args.output), ("--images", args.images)):
        if value and not Path(value).resolve().parent.is_dir():
            raise ParameterError(f"{option} {value}: there is no directory {Path(value).resolve().parent}")
        if value and not value.endswith(".asdf"):
            raise ParameterError(f"{option} {value}: the reference is written as ASDF; give a name that ends in .asdf")


def _write(psfee: PSFEE, path: str) -> None:
    write_psfee(psfee, path)
    print(f"{path}: {', '.join(psfee.filters)}, to {psfee.radius_max:g} pix")


def _from_optics(args: Namespace, filters: Sequence[str]) -> tuple[PSFEE, dict[str, PSFImage]]:
    """Compute the PSFs, with a progress bar where there is somebody to see it."""
    # the environment's NIS_SYNPHOT must not change what the same command makes
    throughput = load_throughput(args.throughput or PACKAGED_THROUGHPUT)
    wavefront = _wavefront(args)
    sampling = COARSE if args.coarse else Sampling()
    if args.wavefront == "prelaunch":
        # before launch there is no prior to draw from, but single wavefronts differ
        sampling = replace(sampling, n_draws=2 * sampling.n_realisations)
    made_of: dict[str, Any] = {"throughput": throughput, "sampling": sampling}
    steps = len(filters) * (sampling.n_realisations + sampling.n_draws)
    with tqdm(total=steps, unit="wavefront", disable=None) as bar:
        psfs = build_psfs(filters, wavefront=wavefront, progress=bar.update, **made_of)
    return psfee_of(psfs, provenance(wavefront, **made_of)), {name: psf.image for name, psf in psfs.items()}


def _wavefront(args: Namespace) -> str | WavefrontModel:
    """Model of the wavefront that the arguments ask for."""
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


def _fit(args: Namespace) -> None:
    """Fit the modes of the PSF to the curves of growth of all filters of a visit, which share one wavefront."""
    _check_outputs(args)
    if not 0 < args.radii[0] <= args.radii[1]:
        raise ParameterError("--radii {:g} {:g}: give the smaller, then the larger radius [pix]".format(*args.radii))
    psfee, models = load_psfee(args.psfee), []
    for path in args.files:
        models.append(products.open(path))
        if not isinstance(models[-1], CombinedEEModel):
            raise ProductError(f"{path}: holds {type(models[-1]).__name__}; the PSF is fitted to combined EE profiles")
    fitted, fit, curves = fit_visit(psfee, [visit_group(model) for model in models], *args.radii)
    if args.images:
        images = {name: image for name, image in load_psf_images().items() if name in fitted.filters}
        adjusted = {name: reshaped(image, fitted.ee(name, image.radius)) for name, image in images.items()}
        write_psf_images(adjusted, args.images, meta=fitted.meta)
    print(f"{'group':18}{'total [DN/s]':>14}{'error [%]':>11}{'residual before':>17}{'after [%]':>11}")
    for i, (name, curve) in enumerate(curves.items()):
        own = fit.weights[i][i] @ curve.covariance @ fit.weights[i][i] / fit.total[i] ** 2
        error = fit.inflation * np.sqrt(own + np.sum(fit.aperture_modes[i] ** 2))
        before, after = (100 * np.sqrt(np.mean(part[i] ** 2)) for part in (fit.before, fit.after))
        print(f"{name:18}{fit.total[i]:14.7g}{100 * error:11.3f}{before:17.3f}{after:11.3f}")
    print(f"chi2 / dof {fit.chi2:.4g} / {fit.dof}; largest mode {np.abs(fit.shared).max():.2g} standard deviations")
    for text in fit.warnings:
        print(f"warning: {text}")
    if args.plot:
        panels = {
            title: {name: (c.radius, 100 * v) for (name, c), v in zip(curves.items(), part, strict=True)}
            for title, part in ((psfee.name, fit.before), ("fitted to the star", fit.after))
        }
        _plot(args.plot, "Residual of the curve of growth [%]", panels)
    _write(fitted, args.output)


def _compare(args: Namespace) -> None:
    """Print how much two encircled-energy references differ, (A - B) / B in percent, by filter and radius."""
    sky = args.sky_in_b
    if sky is not None and not 0 <= sky[0] < sky[1]:
        raise ParameterError("--sky-in-b {:g} {:g}: give the inner, then the outer radius [pix]".format(*sky))
    a, b = (load_psfee(None if name == "packaged" else name) for name in (args.a, args.b))
    filters = [name for name in a.filters if name in b.filters]
    if not filters:
        each = " and ".join(f"{of.name} ({', '.join(of.filters)})" for of in (a, b))
        raise ReferenceDataError(f"{each} have no filter in common")
    radii = np.array([r for r in args.radii if 0 < r <= min(a.radius_max, b.radius_max)])
    if not radii.size:
        each = ", ".join(f"{of.name} {of.radius_max:g} pix" for of in (a, b))
        raise ReferenceDataError(f"no radius is in both: they reach {each}")
    # WebbPSF's model of the CLEARP element
    clearp = WEBBPSF_PUPIL.clearp_transmission() if args.clearp_in_b else 1.0
    edges, coverage = np.array(sky or []), np.array([1.0] if sky else [])
    print(f"({a.name} - {b.name}) / {b.name} [%], by radius [pix]")
    print(f"{'filter':8}" + "".join(f"{r:>8g}" for r in radii))
    lines = {}
    for name in filters:
        light = effective_ee(partial(a.ee, name), radii, np.pi * radii**2, edges, coverage)
        light = light * (clearp if name in CLEARP_FILTERS else 1.0)
        lines[name] = radii, 100 * (light / b.ee(name, radii) - 1)
        print(f"{name:8}" + "".join(f"{d:8.2f}" for d in lines[name][1]))
    if args.plot:
        _plot(args.plot, "Difference of EE [%]", {f"{a.name} against {b.name}": lines})


def _plot(path: str, label: str, panels: Mapping[str, Mapping[str, tuple[Array, Array]]]) -> None:
    """Plot values by radius, a line per name, in panels side by side: title -> name -> (radii, values)."""
    grid: Any = {"ncols": len(panels), "sharex": True, "sharey": True, "squeeze": False}
    names = list(dict.fromkeys(name.split()[0] for lines in panels.values() for name in lines))
    names.sort(key=list(FILTERS).index)
    with styled():
        figure, axes = new_figure(1.8 + 4.0 * len(panels), 3.6, left=0.7, right=1.0, **grid)
        for axis, (title, lines) in zip(axes[0], panels.items(), strict=True):
            for name, (radii, values) in lines.items():
                index = names.index(name.split()[0])
                style = series_style(index) | {"ls": "-" if index < len(COLOURS) else "--", "lw": 0.8, "ms": 3.5}
                axis.plot(radii, values, label=names[index], **style)
            axis.axhline(0, color="0.5", lw=0.8)
            axis.locator_params(axis="x", integer=True)
            axis.set(xlabel="Aperture radius [pix]", title=title)
        axes[0, 0].set_ylabel(label)
        # a filter stands once, whatever its subarrays
        by_name = {line.get_label(): line for line in axes[0, -1].lines}
        figure.legend([by_name[name] for name in names], names, loc="center right")
        try:
            figure.savefig(path, dpi=120)
        except ValueError as error:
            raise ParameterError(f"--plot {path}: cannot be written ({error})") from error
