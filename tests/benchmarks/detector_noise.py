"""Pulls of totals and radii where detector and sky are not ideal: python tests/benchmarks/detector_noise.py [-n N].

Each row is so many groups of exposures, measured, combined and corrected to infinity as the steps do, with the packaged
PSF images. "told" is the share of groups in which an exposure's status speaks of what its row is about.
"""

import argparse
from functools import partial

import numpy as np

from niriss_eestep.measure.ee import EEOptions
from niriss_eestep.reference import load_psf_images, load_psfee
from niriss_eestep.simulate.effects import Effects
from niriss_eestep.validate.accuracy import Trial, combine_exposures, noisy_group, pulls


def trial(rate, *, destripe="none", flat_err=0.0, n_dithers=2, subarray="SUB128", same_pixels=False, **effects):
    """A star whose double samples have a noise of 15 e-."""
    options = EEOptions(destripe=destripe, flat_err=flat_err)
    settings = {"options": options, "read_noise": 15 / np.sqrt(2), "same_pixels": same_pixels}
    return Trial(n_dithers, subarray, rate, effects=Effects(**effects), **settings)


FLAT = {"flat_error": 0.003, "flat_unstated": True, "flat_err": 0.003}
PERCENT = {"flat_error": 0.01, "same_pixels": True}

ROWS = {
    "white F200W 250": ("F200W", trial(250)),
    "white F480M 845": ("F480M", trial(845)),
    "white F090W 5000": ("F090W", trial(5000)),
    "white F200W 250, 8 dithers": ("F200W", trial(250, n_dithers=8)),
    "white F480M 845, SUB64": ("F480M", trial(845, subarray="SUB64")),
    "1/f 3 e- F200W 250": ("F200W", trial(250, one_over_f=3)),
    "1/f 6 e- F200W 250": ("F200W", trial(250, one_over_f=6)),
    "1/f 10 e- F200W 250": ("F200W", trial(250, one_over_f=10)),
    "1/f 6 e- F090W 800": ("F090W", trial(800, one_over_f=6)),
    "1/f 6 e- F480M 200": ("F480M", trial(200, one_over_f=6)),
    "1/f 6 e- F480M 845": ("F480M", trial(845, one_over_f=6)),
    "1/f 6 e- rows F200W 250": ("F200W", trial(250, one_over_f=6, fast_axis="rows")),
    "1/f 6 e-, IPC F200W 250": ("F200W", trial(250, one_over_f=6, ipc=True)),
    "1/f 6 e- SUB64 F200W 250": ("F200W", trial(250, one_over_f=6, subarray="SUB64")),
    "1/f 6 e-, 8 dithers F200W": ("F200W", trial(250, one_over_f=6, n_dithers=8)),
    "1/f 6 e- destripe F200W 250": ("F200W", trial(250, one_over_f=6, destripe="columns")),
    "IPC F200W 5000": ("F200W", trial(5000, ipc=True)),
    "flat 0.3 % flat_err F200W": ("F200W", trial(2.3e4, **FLAT)),
    "flat 0.3 % flat_err F090W": ("F090W", trial(1e5, **FLAT)),
    "flat 1 % flat_err, same": ("F200W", trial(2.3e4, flat_unstated=True, flat_err=0.01, **PERCENT)),
    "flat 1 % VAR_FLAT, same": ("F200W", trial(2.3e4, **PERCENT)),
    "curved sky F480M 845": ("F480M", trial(845, curvature=5e-4)),
    "curved sky F200W 250": ("F200W", trial(250, curvature=5e-4)),
    "snowball F200W 250": ("F200W", trial(250, snowballs=1)),
}

TOLD = {"curved": ("sky is not flat",), "snowball": ("do not fit the star", "possible neighbour")}


PARTS = ("err_photon", "err_sky", "err_flat", "err_scatter", "err_radii", "count_rate_err")


def budget(name, psf, ee, setup, n, seed):
    """Median of the parts of a total's error, and share of groups whose dithers or radii scatter beyond chance [%]."""
    rng = np.random.default_rng(seed)
    groups = [noisy_group(name, psf, setup, rng)[0] for _ in range(n)]
    totals = [combine_exposures(group, partial(ee, name))[1] for group in groups]
    parts = np.array([[getattr(total, part) / total.count_rate for part in PARTS] for total in totals])
    return 100 * np.median(parts, axis=0), 100 * np.mean(parts[:, 3:5] > 0, axis=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--budget", action="store_true", help="parts of the error")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    args = parser.parse_args()
    psfs, ee = load_psf_images(), load_psfee().ee
    print(f"{args.n} groups; sampling error of std {1 / np.sqrt(2 * args.n):.3f}, of mean {1 / np.sqrt(args.n):.3f}")
    print(
        "pull of each radius and of the total; median error and mean bias of the total; groups whose status tells [%]"
    )
    heading = True
    for label, (name, setup) in ROWS.items():
        if args.only not in label:
            continue
        if args.budget:
            parts, beyond = budget(name, psfs[name], ee, setup, args.n, args.seed)
            print(
                f"{label:28}",
                *(f"{part} {value:.3f}" for part, value in zip(PARTS, parts, strict=True)),
                beyond,
                flush=True,
            )
            continue
        found = pulls(name, psfs[name], ee, setup, n=args.n, seed=args.seed)
        if heading:
            print(
                f"{'':33}" + "".join(f"{f'r={r:g}':>7}" for r in found.radius) + f"{'total':>8}   error    bias   told"
            )
        heading = False
        values = np.column_stack([found.group, found.total])
        phrases = next((phrases for key, phrases in TOLD.items() if key in label), ())
        told = np.mean([any(phrase in text for phrase in phrases for text in texts) for texts in found.warnings])
        bias = np.mean(found.total * found.total_err)
        ends = f"{100 * np.median(found.total_err):8.3f}{100 * bias:+8.3f}{100 * told:7.0f}", ""
        for part, figures, end in zip(("mean", "std"), (values.mean(axis=0), values.std(axis=0)), ends, strict=True):
            numbers = "".join(f"{v:7.2f}" for v in figures[:-1])
            print(f"{label if part == 'mean' else '':28} {part:4}{numbers}{figures[-1]:8.2f}{end}", flush=True)


if __name__ == "__main__":
    main()
