"""Pulls of the rings of a surface-brightness profile: python tests/benchmarks/surface_brightness_noise.py [-n N].

Single exposures and means of two, by the package's simulator and by that of `other_noise.py`. The truth is what the
same exposure has without noise and with a flat sky. FULL by the other simulator is a piece of a frame of 2048 pixels,
read by four amplifiers.
"""

import argparse
from dataclasses import replace

import numpy as np
import other_noise as other

from niriss_eestep.combine.mean import combine_profiles
from niriss_eestep.measure.sb import SBOptions, measure_sb
from niriss_eestep.measure.star_model import PSFModel
from niriss_eestep.reference import load_psf_images
from niriss_eestep.simulate.effects import Effects
from niriss_eestep.simulate.scene import simulate_image
from niriss_eestep.validate.accuracy import Trial, star_exposure_of, trial_scene

Case = other.Case
OTHER = [
    ("white", "F200W", Case()),
    ("white", "F480M", Case(845)),
    ("white, 2.3e4 e-/s", "F200W", Case(2.3e4)),
    ("IPC, 2.3e4 e-/s", "F200W", Case(2.3e4, ipc=True)),
    ("1/f 3 e-", "F200W", Case(lines=3)),
    ("1/f 6 e-", "F200W", Case(lines=6)),
    ("1/f 10 e-", "F200W", Case(lines=10)),
    ("1/f 6 e-", "F480M", Case(845, lines=6)),
    ("1/f 6 e-, SUB64", "F200W", Case(size=64, lines=6)),
    ("1/f 6 e-, SUB64", "F480M", Case(845, size=64, lines=6)),
    ("1/f 6 e-, FULL", "F200W", Case(size=256, lines=6, amplifiers=4)),
    ("1/f 6 e-, FULL", "F480M", Case(845, size=256, lines=6, amplifiers=4)),
    ("1/f 6 e- along rows", "F200W", Case(lines=6, fast="rows")),
    ("f^-1.5 6 e-", "F200W", Case(lines=6, slope=-1.5)),
    ("curved sky", "F200W", Case(curvature=5e-4)),
    ("flat 1 %, VAR_FLAT", "F200W", Case(2.3e4, flat=0.01, flat_told=True)),
]


def trial(rate, subarray="SUB128", **effects):
    """A star whose double samples have a noise of 15 e-."""
    return Trial(1, subarray, rate, effects=Effects(**effects), read_noise=15 / np.sqrt(2))


OWN = [
    ("white", "F200W", trial(250)),
    ("white", "F480M", trial(845)),
    ("white, SUB64", "F200W", trial(250, "SUB64")),
    ("white, FULL", "F200W", trial(250, "FULL")),
    ("1/f 6 e-", "F200W", trial(250, one_over_f=6)),
    ("1/f 6 e-", "F480M", trial(845, one_over_f=6)),
    ("1/f 6 e-, SUB64", "F200W", trial(250, "SUB64", one_over_f=6)),
    ("1/f 6 e-, FULL", "F200W", trial(250, "FULL", one_over_f=6)),
    ("1/f 6 e-, FULL", "F480M", trial(845, "FULL", one_over_f=6)),
    ("1/f 6 e-, IPC", "F480M", trial(845, one_over_f=6, ipc=True)),
]


def pieces_of_frames(draw):
    """Line noise that is cut, eight times each, out of whole frames where the array is one of 256 pixels."""
    frame, left = None, 0

    def line_noise(case, rng):
        nonlocal frame, left
        if case.size != 256:
            return draw(case, rng)
        if not left:
            frame, left = draw(replace(case, size=2048), rng), 8
        left -= 1
        y, x = rng.integers(0, 2048 - 256, 2)
        return frame[y : y + 256, x : x + 256]

    return line_noise


def by_other(name, case, star, rng):
    """An exposure of the other simulator, what it has without noise, and the model of its star."""
    response = 1 + case.flat * rng.normal(size=(case.size, case.size))
    place = case.size / 2 - 0.5 + rng.uniform(-3, 3, 2)
    exposure = other.one_exposure(star, case, place, response, True, rng)
    at = place[0] - exposure.x_origin, place[1] - exposure.y_origin
    clean = (case.rate * star.render(*at, exposure.image.shape) + other.SKY) / other.GAIN
    return exposure, clean, PSFModel(star.render)


def by_own(name, setup, psf, rng):
    """The same of the package's simulator."""
    scene = trial_scene(name, psf, setup, rng)
    exposure = star_exposure_of(simulate_image(replace(scene, effects=setup.effects), psf, rng), scene)
    clean = star_exposure_of(simulate_image(scene, psf, rng, noise=False), scene).image
    return exposure, clean, PSFModel(psf.render)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=200, help="exposures of a row, an even number")
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--only", default="", help="rows whose name or filter holds this")
    args = parser.parse_args()
    other.line_noise = pieces_of_frames(other.line_noise)
    psfs, stars = load_psf_images(), {name: other.GaussianSum(*numbers) for name, numbers in other.STARS.items()}
    print(f"{args.n} exposures: std +-{1 / np.sqrt(2 * args.n):.2f}, of means of two +-{1 / np.sqrt(args.n):.2f}")
    rows = [("package", by_own, psfs, *row) for row in OWN] + [("other", by_other, stars, *row) for row in OTHER]
    for who, make, models, label, name, setup in rows:
        if args.only not in f"{label} {name}":
            continue
        rng, options, found = np.random.default_rng([args.seed, *map(ord, who + label + name)]), SBOptions(), []
        for _ in range(args.n):
            exposure, clean, model = make(name, setup, models[name], rng)
            exact = measure_sb(replace(exposure, image=clean), replace(options, clip_low=False), model)
            found.append((measure_sb(exposure, options, model), exact.surface_brightness))
        pull = [(profile.surface_brightness - exact) / profile.surface_brightness_err for profile, exact in found]
        pairs = []
        for (a, exact_a), (b, exact_b) in zip(found[::2], found[1::2], strict=True):
            values, covariances = zip(*((p.surface_brightness, p.covariance) for p in (a, b)), strict=True)
            mean = combine_profiles(["a", "b"], a.radius, values, covariances)
            pairs.append((mean.value - np.sum(mean.exposure_weight * [exact_a, exact_b], axis=0)) / mean.err_formal)
        each, both = (np.std(p, axis=0, ddof=1) for p in (pull, pairs))
        centre = np.mean(pull, axis=0)
        rings = " ".join(f"{value:.2f}" for value in each)
        text = f"{who:8}{label:22}{name:7} std {rings}, mean {centre.min():+.2f} to {centre.max():+.2f}, "
        print(text + f"means of two {both.min():.2f}-{both.max():.2f}", flush=True)


if __name__ == "__main__":
    main()
