"""Correlation of noise, measured in each exposure and injected: python tests/benchmarks/noise_correlation.py FILE.

Exposures of F200W, 250 e-/s in SUB128, with 1/f noise of 6 of 15 e-. Left: covariance of two pixels of a column, and
of a row, over the variance of a pixel's read noise. Right: noise of apertures, sky subtracted, over what independent
pixels give. Each thin line is what one exposure says of itself.
"""

import sys
from dataclasses import replace

import numpy as np

from niriss_eestep.measure import ee
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.measure.noise import shapes_within
from niriss_eestep.measure.star_model import PSFModel
from niriss_eestep.reference import load_psf_images
from niriss_eestep.report.style import COLOURS, new_figure, styled
from niriss_eestep.simulate.effects import Effects
from niriss_eestep.simulate.scene import simulate_image
from niriss_eestep.validate.accuracy import Trial, star_exposure_of, trial_scene

ONE_OVER_F, N, EXPOSURES, LAGS = 6.0, 400, 12, np.arange(1, 41)


def lag_covariance(images):
    """Mean product of pixels of a column, and of a row, by their distance."""
    return np.array(
        [
            [np.mean(images[:, lag:] * images[:, :-lag]) for lag in LAGS],
            [np.mean(images[:, :, lag:] * images[:, :, :-lag]) for lag in LAGS],
        ]
    )


def main(path):
    psf, rng, seen = load_psf_images()["F200W"], np.random.default_rng(5), {}
    scene = trial_scene("F200W", psf, Trial(electron_rate=250.0, read_noise=15 / np.sqrt(2)), rng)
    scene = replace(scene, effects=Effects(one_over_f=ONE_OVER_F))
    plain, noise_of_sums = scene.readout.read_variance, ee._noise_of_sums

    def keep(exposure, reach, *others):
        seen["reach"] = reach
        return noise_of_sums(exposure, reach, *others)

    ee._noise_of_sums = keep
    by_distance, measured, stated = shapes_within(LAGS[-1] + 1, LAGS[-1] + 1), [], []
    for _ in range(EXPOSURES):
        exposure = star_exposure_of(simulate_image(scene, psf, rng), scene)
        profile = measure_ee(exposure, EEOptions(), PSFModel(psf.render))
        reach = seen["reach"][: len(profile.radius)]
        photons = np.einsum("iyx,yx->i", reach**2, exposure.photon_variance)
        along = by_distance[:, LAGS, 0], by_distance[:, 0, LAGS]
        measured.append([profile.background.correlation @ shapes / plain for shapes in along])
        stated.append(np.sqrt(np.maximum(np.diagonal(profile.covariance) - photons, 0.0) / plain))
    # the same read noise without a star, many times
    dark = replace(scene, star=replace(scene.star, electron_rate=0.0), background=0.0)
    drawn = [star_exposure_of(simulate_image(dark, psf, rng), scene).image for _ in range(N)]
    images = np.array([image - image.mean() for image in drawn]) / np.sqrt(plain)
    injected, white = lag_covariance(images), np.sqrt(np.einsum("iyx,iyx->i", reach, reach))
    sums = np.einsum("iyx,kyx->ki", reach, images).std(axis=0)
    with styled():
        figure, (left, right) = new_figure(8.4, 4.6, ncols=2)
        figure.subplots_adjust(wspace=0.3, top=0.78)
        for k, label in enumerate(("column", "row")):
            # a constant does not matter to sums less their sky
            for n, one in enumerate(measured):
                name = f"measured in a {label}, one exposure each" if n == 0 else None
                left.plot(LAGS, one[k] - np.mean(np.array(one)[:, 20:]), color=COLOURS[k], lw=0.6, label=name)
            level = np.mean(injected[:, 20:])
            left.plot(LAGS, injected[k] - level, color=COLOURS[k], lw=3, alpha=0.5, label=f"injected in a {label}")
        left.set(xlabel="Distance of two pixels [pix]", ylabel="Covariance / read variance")
        for n, one in enumerate(stated):
            name = "stated by one exposure each" if n == 0 else None
            right.plot(profile.radius[1:], (one / white)[1:], color=COLOURS[2], lw=0.6, label=name)
        right.plot(profile.radius[1:], (sums / white)[1:], "o", color=COLOURS[3], label=f"injected, {N} images")
        right.axhline(1, color="0.6", lw=0.8)
        right.set(xlabel="Aperture radius [pix]", ylabel="Read noise / white noise", ylim=(0.9, None))
        # above the panels, where no mark is
        for panel in (left, right):
            panel.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1)
        figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
