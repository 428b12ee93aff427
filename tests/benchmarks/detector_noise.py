"""Pulls of totals and radii where the detector's noise is not white: python tests/benchmarks/detector_noise.py [-n N].

Each row is so many groups of two dithers, measured, combined and corrected to infinity as the steps do, without the
model PSF unless --psf is given (a step has it where a method asks for it).
"""

import argparse
from dataclasses import replace
from functools import partial

import numpy as np

from niriss_eestep.instrument import GAIN, IPC_KERNEL
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.measure.psf_model import PSFModel
from niriss_eestep.reference import load_psf_images, load_psfee
from niriss_eestep.simulate.detector import choose_readout, get_subarray, sky_background
from niriss_eestep.simulate.scene import FixedPattern, Scene, Star, expected_image, simulate_image
from niriss_eestep.validate.accuracy import combine_exposures, star_exposure_of

CDS_NOISE = 15.0  # noise of a correlated double sample [e-]

#: filter, rate [e-/s], 1/f noise [e-], error of the flat field, whether the exposure states it, dithers on same pixels
ROWS = {
    "white F200W 250": ("F200W", 250.0, 0, 0, False, False),
    "white F480M 845": ("F480M", 845.0, 0, 0, False, False),
    "1/f 3 e- F200W 250": ("F200W", 250.0, 3, 0, False, False),
    "1/f 6 e- F200W 250": ("F200W", 250.0, 6, 0, False, False),
    "1/f 10 e- F200W 250": ("F200W", 250.0, 10, 0, False, False),
    "1/f 6 e- F090W 800": ("F090W", 800.0, 6, 0, False, False),
    "1/f 6 e- F480M 200": ("F480M", 200.0, 6, 0, False, False),
    "1/f 6 e- F480M 845": ("F480M", 845.0, 6, 0, False, False),
    "flat 0.3 % F200W 2.3e4": ("F200W", 2.3e4, 0, 0.003, False, False),
    "flat 1 % same pixels": ("F200W", 2.3e4, 0, 0.01, False, True),
    "flat 1 % VAR_FLAT, same": ("F200W", 2.3e4, 0, 0.01, True, True),
}


def scene_of(row, x, y, psf):
    """A star in SUB128, read as `niriss-ee simulate` would."""
    name, rate, one_over_f = row[:3]
    array = get_subarray("SUB128")
    readout = choose_readout(array, peak_rate=rate * psf.render(32.0, 32.0, (65, 65)).max(), star_rate=rate)
    readout = replace(readout, gain=GAIN, read_noise=CDS_NOISE / np.sqrt(2))
    star = Star(x, y, rate)
    return Scene(array.shape, star, readout, sky_background(name), flat_error=row[3], one_over_f=one_over_f)


def one_group(row, psf, ee, options, rng, model):
    """Pulls of the radii and of the total, and the error of the total over its value."""
    stated, same = row[4:]
    middle, step = 63.5 + rng.uniform(-3, 3, 2), rng.uniform(-3, 3, 2)
    empty = np.empty((0, 2), dtype=int)
    flat = rng.normal(1.0, row[3], (128, 128)) if row[3] else 1.0
    pattern = FixedPattern(empty, empty, empty, empty, flat)
    profiles, exact = [], []
    for place in (middle, middle if same else middle + step):
        scene = scene_of(row, *map(float, place), psf)
        expected = expected_image(scene, psf)
        ideal = simulate_image(replace(scene, flat_error=0.0), psf, rng, noise=False, expected=expected)
        exact.append(measure_ee(star_exposure_of(ideal, scene), EEOptions(), model).count_rate)
        scene = scene if stated else replace(scene, flat_error=0.0)
        image = simulate_image(scene, psf, rng, expected=expected, pattern=pattern)
        profiles.append(measure_ee(star_exposure_of(image, scene), options, model))
    combined, total = combine_exposures(profiles, ee)
    truth = np.sum(combined.exposure_weight * np.array(exact), axis=0)
    rate = row[1] / GAIN
    pulls = np.append((combined.value - truth) / combined.err, (total.count_rate - rate) / total.count_rate_err)
    return np.append(pulls, total.count_rate_err / rate), combined.radius


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--psf", action="store_true", help="measure with the model PSF")
    parser.add_argument("--destripe", default="none")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    args = parser.parse_args()
    psfs, psfee = load_psf_images(), load_psfee()
    print(f"{args.n} groups of 2 dithers; sampling error of std {1 / np.sqrt(2 * args.n):.3f}; IPC {IPC_KERNEL[1][1]}")
    for number, (label, row) in enumerate(ROWS.items()):
        if args.only not in label:
            continue
        psf, rng = psfs[row[0]], np.random.default_rng([args.seed, number])
        model = PSFModel(psf.render) if args.psf else None
        options = EEOptions(flat_err=0.0 if row[4] else row[3], destripe=args.destripe)
        done = [one_group(row, psf, partial(psfee.ee, row[0]), options, rng, model) for _ in range(args.n)]
        values, radius = np.array([group for group, _ in done]), done[0][1]
        if number == 0 or args.only:
            print(f"{'':30}" + "".join(f"{f'r={r:g}':>7}" for r in radius) + f"{'total':>8}   error of the total [%]")
        for name, figures in (("mean", values.mean(axis=0)), ("std", values.std(axis=0))):
            print(f"{label:24} {name:4} " + "".join(f"{v:7.2f}" for v in figures[:-2]) + f"{figures[-2]:8.2f}", end="")
            print(f"   {100 * np.median(values[:, -1]):.3f}" if name == "mean" else "", flush=True)


if __name__ == "__main__":
    main()
