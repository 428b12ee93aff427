"""Light that one dither has and the others have not: python tests/benchmarks/extra_light.py [-n N] [--rate E].

For every filter, groups of dithers of a star at random pixel phases, measured as the step does: how often light is
told where there is none, and where a spot of 0.3 % of the star's light lies 5 pix from one of them (persistence),
or a hit of 3,000 electrons on one pixel 6.7 pix from it.
"""

import argparse
from dataclasses import replace

import numpy as np

from niriss_eestep.combine.mean import combine_profiles, extra_light
from niriss_eestep.instrument import FILTERS, GAIN
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.measure.star_model import PSFModel
from niriss_eestep.reference import load_psf_images
from niriss_eestep.simulate.detector import Readout
from niriss_eestep.simulate.scene import Scene, Star, simulate_image
from niriss_eestep.validate.accuracy import star_exposure_of


def dithers(psf, rate, n, rng, add):
    """Curves of growth of n dithers, the first one with something added to its image."""
    profiles, readout = [], Readout(0.5, 10, 1, gain=GAIN, full_well=1e12)
    for k in range(n):
        x, y = 40 + rng.uniform(-0.5, 0.5, 2)
        scene = Scene((81, 81), Star(x, y, rate), readout)
        image = simulate_image(scene, psf, rng)
        if k == 0:
            time = readout.group_time * readout.ngroups
            image = replace(image, data=image.data + add(x, y, rng.uniform(0, 2 * np.pi), time))
        exposure = star_exposure_of(image, scene)
        profiles.append(measure_ee(exposure, EEOptions(), PSFModel(psf.render)))
    return profiles


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1e6)
    parser.add_argument("--filters", nargs="+", default=list(FILTERS))
    args = parser.parse_args()
    psfs, rate = load_psf_images(), args.rate

    def nothing(psf):
        return lambda x, y, angle, time: 0.0

    def persistence(psf):
        return lambda x, y, a, time: 0.003 * rate / GAIN * psf.render(x + 5 * np.cos(a), y + 5 * np.sin(a), (81, 81))

    def hit(psf):
        def add(x, y, angle, time):
            image = np.zeros((81, 81))
            image[round(y + 6.7 * np.sin(angle)), round(x + 6.7 * np.cos(angle))] = 3000 / GAIN / time
            return image

        return add

    for name in args.filters:
        words = []
        for kind in (nothing, persistence, hit):
            for n_dithers in (2, 4):
                rng, told, false = np.random.default_rng(5), 0, 0
                for _ in range(args.n):
                    profiles = dithers(psfs[name], rate, n_dithers, rng, kind(psfs[name]))
                    values, covariances = [p.count_rate for p in profiles], [p.covariance for p in profiles]
                    combined = combine_profiles(list("abcd"[:n_dithers]), profiles[0].radius, values, covariances)
                    extra = extra_light(combined.radius, combined.exposure_value, combined.exposure_covariance)
                    told += extra[0].any()
                    false += extra[1:].any()
                words.append(f"{kind.__name__} of {n_dithers}: {told}, others {false};")
        print(f"{name}: of {args.n}:", *words, flush=True)


if __name__ == "__main__":
    main()
