"""Measure how accurate the photometry is, on simulated stars of known rate; print the tables of docs/accuracy.md."""

from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from niriss_eestep.commands.simulate import blemishes_and_effects
from niriss_eestep.errors import ParameterError
from niriss_eestep.instrument import FILTERS, filter_facts
from niriss_eestep.measure.ee import EEOptions
from niriss_eestep.pipeline.progress import progress
from niriss_eestep.reference import load_psf_images, load_psfee
from niriss_eestep.simulate.detector import SUBARRAYS
from niriss_eestep.simulate.scene import PSF
from niriss_eestep.validate.accuracy import CASES, Curve, Trial, case_errors, centring_effect, pulls


def run(args: Namespace) -> int:
    """Measure and print.

    Parameters
    ----------
    args : argparse.Namespace

    Returns
    -------
    int
        1 if a figure is outside its limit.
    """
    if args.plot and not args.pulls:
        raise ParameterError("--plot shows the pulls: give --pulls N too")
    if args.plot and not args.plot.absolute().parent.is_dir():
        raise ParameterError(f"--plot {args.plot}: no such directory")
    filters = [filter_facts(name).name for name in args.filters or FILTERS]
    psfs, ee = load_psf_images(), load_psfee().ee
    # no filter of the pupil wheel is used in FULL
    used = [(name, sub) for name in filters for sub in SUBARRAYS if sub != "FULL" or FILTERS[name].wheel == "filter"]
    jobs = [(case, *pair) for case in CASES for pair in used]
    worst: dict[str, dict[str, float]] = {case.name: dict.fromkeys(filters, 0.0) for case in CASES}
    for case, name, sub in progress(jobs, desc="cases", unit="case"):
        errors = case_errors(case, name, sub, psfs[name], ee, n=args.n, seed=args.seed)
        worst[case.name][name] = max(worst[case.name][name], np.abs(errors).max())
    print(f"largest |measured / injected - 1| of the total rate [%], {args.n} realisations in each subarray")
    print(f"{'case':26}{'limit':>7}" + _cells(filters, ">8"))
    for case in CASES:
        print(f"{case.name:26}{100 * case.limit:7.2f}" + _cells((100 * v for v in worst[case.name].values()), "8.3f"))
    missed = sum(value > case.limit for case in CASES for value in worst[case.name].values())
    radius = np.array(EEOptions().radii, dtype=float)
    print("rms change of the count rate within a radius [%] from apertures 0.1 pix off the centre")
    print(f"{'':8}" + "".join(f"{f'r={r:g}':>8}" for r in radius))
    for name in filters:
        print(f"{name:8}" + _cells(100 * centring_effect(psfs[name], radius), "8.3f"))
    if args.pulls:
        missed += _print_pulls(args, filters, psfs, ee)
    return 1 if missed else 0


def _cells(values: Iterable[Any], form: str) -> str:
    return "".join(format(value, form) for value in values)


def _print_pulls(args: Namespace, filters: Sequence[str], psfs: Mapping[str, PSF], ee: Curve) -> int:
    """Table of the pulls; the number of those outside their sampling error."""
    blemishes, effects = blemishes_and_effects(args)
    trial = Trial(args.dithers, args.subarray, blemishes=blemishes, effects=effects)
    found = {}
    for name in filters:
        bar = partial(progress, desc=f"pulls {name}", unit="group")
        found[name] = pulls(name, psfs[name], ee, trial, n=args.pulls, seed=args.seed, progress=bar)
    limits = 3 / np.sqrt(args.pulls), 3 / np.sqrt(2 * args.pulls)
    print(
        f"pulls (measured - true) / error of {args.pulls} groups of {args.dithers} noisy dithers, {args.nan_pixels} NaN"
        f" pixels each; expected: mean 0 +- {limits[0]:.3f}, std 1 +- {limits[1]:.3f}"
    )
    print(f"{'':13}" + "".join(f"{f'r={r:g}':>7}" for r in found[filters[0]].radius) + f"{'total':>8}")
    missed = 0
    for name, result in found.items():
        every = np.column_stack([result.group, result.total])
        mean, std = every.mean(axis=0), every.std(axis=0)
        print(f"{name:7}{'mean':6}" + _cells(mean[:-1], "7.2f") + f"{mean[-1]:8.2f}")
        print(f"{'':7}{'std':6}" + _cells(std[:-1], "7.2f") + f"{std[-1]:8.2f}")
        missed += int(np.sum(np.abs(mean) > limits[0]) + np.sum(np.abs(std - 1) > limits[1]))
    if args.plot:
        from niriss_eestep.validate.figure import plot_pulls  # matplotlib takes half a second

        plot_pulls(found).savefig(args.plot, dpi=120)
        print(f"plot: {args.plot}")
    return missed
