"""Measure how accurate the photometry is, on simulated stars of known rate, and print the table that README shows."""

from pathlib import Path

from niriss_eestep.commands.arguments import count, positive_count
from niriss_eestep.commands.simulate import blemishes_and_effects, detector_effects

HELP = "measure the accuracy of the photometry and its errors on simulated stars"


def configure(parser):
    """Add the arguments.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    """
    parser.add_argument("--filters", nargs="+", metavar="F", help="F090W ... F480M (default: all)")
    parser.add_argument(
        "-n", type=positive_count, default=20, metavar="N", help="realisations of each noise-free case (default 20)"
    )
    parser.add_argument(
        "--pulls", type=count, default=0, metavar="N", help="noisy groups for the pulls in each filter (default: none)"
    )
    parser.add_argument(
        "--dithers", type=positive_count, default=2, metavar="N", help="exposures of a group (default 2)"
    )
    parser.add_argument("--subarray", default="SUB128", metavar="S", help="of the noisy groups (default SUB128)")
    detector_effects(parser.add_argument_group("what the detector and the sky do in the noisy groups"))
    parser.add_argument("--seed", type=count, default=0, help="equal seeds give equal figures")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="plot the pulls (PNG, PDF, SVG)")


def run(args):
    """Measure and print.

    Parameters
    ----------
    args : argparse.Namespace

    Returns
    -------
    int
        1 if a figure is outside its limit.
    """
    from niriss_eestep.errors import ParameterError
    from niriss_eestep.instrument import FILTERS, filter_facts
    from niriss_eestep.reference import load_psfee
    from niriss_eestep.validate.accuracy import filter_psfs

    if args.plot and not args.pulls:
        raise ParameterError("--plot shows the pulls: give --pulls N too")
    if args.plot and not args.plot.absolute().parent.is_dir():
        raise ParameterError(f"--plot {args.plot}: no such directory")
    filters = [filter_facts(name).name for name in args.filters] if args.filters else list(FILTERS)
    psfs, ee = filter_psfs(), load_psfee().ee
    missed = _print_cases(args, filters, psfs, ee)
    _print_centring(filters, psfs)
    if args.pulls:
        missed += _print_pulls(args, filters, psfs, ee)
    return 1 if missed else 0


def _print_cases(args, filters, psfs, ee):
    """Table of the noise-free cases; the number of those outside their limit."""
    import numpy as np

    from niriss_eestep.pipeline.progress import progress
    from niriss_eestep.validate.accuracy import CASES, case_errors, subarrays_of

    jobs = [(case, name, sub) for case in CASES for name in filters for sub in subarrays_of(name)]
    worst = {}
    for case, name, sub in progress(jobs, desc="cases", unit="case"):
        errors = case_errors(case, name, sub, psfs[name], ee, n=args.n, seed=args.seed)
        worst.setdefault((case, name), []).append(np.abs(errors).max())
    print(f"largest |measured / injected - 1| of the total rate [%], {args.n} realisations in each subarray")
    print(f"{'case':26}{'limit':>7}" + "".join(f"{name:>8}" for name in filters))
    missed = 0
    for case in CASES:
        largest = [max(worst[case, name]) for name in filters]
        missed += sum(value > case.limit for value in largest)
        print(f"{case.name:26}{100 * case.limit:7.2f}" + "".join(f"{100 * value:8.3f}" for value in largest))
    return missed


def _print_centring(filters, psfs):
    """Table of what a centring error of 0.1 pix does."""
    import numpy as np

    from niriss_eestep.measure.ee import EEOptions
    from niriss_eestep.validate.accuracy import centring_effect

    radius = np.array(EEOptions().radii, dtype=float)
    effects = {name: centring_effect(psfs[name], radius) for name in filters}
    print("rms change of the count rate within a radius [%] from apertures 0.1 pix off the centre")
    print(f"{'':8}" + "".join(f"{f'r={r:g}':>8}" for r in radius))
    for name, effect in effects.items():
        print(f"{name:8}" + "".join(f"{100 * value:8.3f}" for value in effect))


def _print_pulls(args, filters, psfs, ee):
    """Table of the pulls; the number of those outside their sampling error."""
    import numpy as np

    from niriss_eestep.pipeline.progress import progress
    from niriss_eestep.validate.accuracy import Trial, pulls

    blemishes, effects = blemishes_and_effects(args)
    trial = Trial(args.dithers, args.subarray, blemishes=blemishes, effects=effects)
    found = {
        name: pulls(
            name,
            psfs[name],
            ee,
            trial,
            n=args.pulls,
            seed=args.seed,
            progress=lambda groups, name=name: progress(groups, desc=f"pulls {name}", unit="group"),
        )
        for name in filters
    }
    limits = 3 / np.sqrt(args.pulls), 3 / np.sqrt(2 * args.pulls)
    print(
        f"pulls (measured - true) / error of {args.pulls} groups of {args.dithers} noisy dithers, {args.nan_pixels} NaN"
        f" pixels each; expected: mean 0 +- {limits[0]:.3f}, std 1 +- {limits[1]:.3f}"
    )
    radius = next(iter(found.values())).radius
    print(f"{'':13}" + "".join(f"{f'r={r:g}':>7}" for r in radius) + f"{'total':>8}")
    missed = 0
    for name, result in found.items():
        every = np.column_stack([result.group, result.total])
        for label, values, target, limit in (
            ("mean", every.mean(axis=0), 0, limits[0]),
            ("std", every.std(axis=0), 1, limits[1]),
        ):
            missed += int(np.sum(np.abs(values - target) > limit))
            row = "".join(f"{v:7.2f}" for v in values[:-1])
            print(f"{name if label == 'mean' else '':7}{label:6}{row}{values[-1]:8.2f}")
    if args.plot:
        from niriss_eestep.validate.figure import plot_pulls

        plot_pulls(found).savefig(args.plot, dpi=120)
        print(f"plot: {args.plot}")
    return missed
