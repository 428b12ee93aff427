"""What no flag tells: python tests/benchmarks/unflagged_pixels.py [--cache DIR] [--save DIR].

A star of 1e5 e-/s, one of a single wavefront of 68 nm rms that the packaged PSF does not know, is measured clean and
with a damage, by default parameters: the total rate (5 to 10 pix) over the clean one's, its error, and how far it is
off in units of the error of the damage alone. ``--save`` keeps the stamps, for another version to measure.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from bad_pixel_map import STAMP, model_of, star_in, wavefront

from niriss_eestep.errors import NirissEEError
from niriss_eestep.flux.total_rate import effective_ee
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.reference import load_psf_images, load_psfee
from niriss_eestep.simulate.scene import simulate_image
from niriss_eestep.validate.accuracy import star_exposure_of

X, Y = 35.2, 34.8
PEAK, ROW = (35, 35), 38


def at_peak(value):
    """Put a value into the brightest pixel, or add some times the star's rate."""

    def damage(image, variance, light):
        image[PEAK] = value(image[PEAK], light) if callable(value) else value

    return damage


def empty(image, variance, light):
    image[PEAK] = variance[PEAK] = 0.0


def dead_row(image, variance, light):
    image[ROW] = 0.0


def beside(fraction, distance):
    """Light of a companion or of an earlier exposure, as a fraction of the star's."""

    def damage(image, variance, light):
        image += fraction * np.roll(light, (-round(0.6 * distance), round(0.8 * distance)), (0, 1))

    return damage


CASES = {
    "clean": lambda *_: None,
    "zero at the peak": at_peak(0.0),
    "spike of the star's rate": at_peak(lambda value, light: value + light.sum()),
    "bit flip, 3e8 DN/s": at_peak(3e8),
    "SCI = VAR = 0, SATURATED": empty,
    "dead row at 3 pix": dead_row,
    "companion 1 % at 8 pix": beside(0.01, 8),
    "companion 0.3 % at 8 pix": beside(0.003, 8),
    "persistence 0.3 % at 5 pix": beside(0.003, 5),
}


def total(profile, psfee, name):
    """Mean rate of 5 to 10 pix over the EE, and its error."""
    background, area = profile.background, profile.area
    used = (profile.radius >= 5) & (profile.radius <= 10)
    ee = effective_ee(partial(psfee.ee, name), profile.radius, area, background.ring_edges, background.ring_coverage)
    covariance = profile.covariance / np.outer(ee, ee)
    return np.mean((profile.count_rate / ee)[used]), np.sqrt(np.mean(covariance[np.ix_(used, used)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--filters", default="F090W,F200W,F480M")
    parser.add_argument("--wavefront", type=int, default=2, help="number of the wavefront, see bad_pixel_map.py")
    parser.add_argument("--cache", type=Path, default=Path("wavefronts"))
    parser.add_argument("--save", type=Path)
    args = parser.parse_args()
    psfs, psfee = load_psf_images(), load_psfee()
    args.cache.mkdir(parents=True, exist_ok=True)
    for name in args.filters.split(","):
        psf, model = wavefront(name, args.wavefront, args.cache), model_of(name, psfee, psfs)
        scene = star_in(name, STAMP, X, Y, psf, 1e7, rate=1e5)
        clean = star_exposure_of(simulate_image(scene, psf, np.random.default_rng(3)), scene)
        light = 1e5 / clean.gain * psf.render(X, Y, clean.image.shape)
        truth = truth_err = np.nan
        for case, damage in CASES.items():
            image, variance = clean.image.copy(), clean.variance.copy()
            damage(image, variance, light)
            nothing = (image == 0) & (variance == 0)  # as `exposures.cut` has it, whatever the flags
            star = replace(clean, image=image, variance=variance, bad=clean.bad | nothing)
            if args.save:
                args.save.mkdir(parents=True, exist_ok=True)
                np.savez(
                    args.save / f"{name}_{case.replace(' ', '_').replace('/', '')}.npz", image=image, variance=variance
                )
            try:
                profile = measure_ee(star, EEOptions(), model)
                rate, err = total(profile, psfee, name)
                status = profile.status
            except NirissEEError as error:
                rate, err, status = np.nan, np.nan, f"failed: {error}"
            if case == "clean":
                truth, truth_err = rate, err
            own = np.sqrt(max(err**2 - truth_err**2, 0.0))
            off = f"{(rate - truth) / own:+5.1f}" if own > 0.1 * truth_err else "     "
            print(f"{name} {case:26} {rate / truth:8.5f} +- {err / truth:.5f} {off}  {status[:150]}", flush=True)


if __name__ == "__main__":
    main()
