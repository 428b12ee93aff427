"""How well the fitted PSF gives a star's total: stars of single new wavefronts, every filter, alone and together.

    python tests/benchmarks/fitted_psf.py [--stars 40] [--decades 6 8]

Each star has one wavefront, of other seeds than the reference's, seen by all filters. Its curve of growth at 2 to 15
pix is measured with the sky from 20 to 25 pix, the noise of 1e6 to 1e8 electrons and the scatter between the pixel
phases of 4 dithers (of the packaged images). The sets: wavefronts drawn from the reference's stated prior; of 56 to 80
nm in all, with a screen of 50 +- 10 nm; screens of indices below the prior's; other optics without any screen. Last,
how far the total of one filter alone would be off by an index of 2.8 that it does not show (`psf_index_shift`).
Beside them, by the same curves, the best total that there is where the PSF is known exactly: it is off by the star's
photons, the sky and the read noise alone, and no fit of the PSF can be better. Eight minutes on an idle core.
"""

import argparse
from dataclasses import replace
from functools import partial

import numpy as np

from niriss_eestep.flux.fitted import GrowthCurve, fit_psf
from niriss_eestep.flux.total_rate import effective_ee
from niriss_eestep.instrument import FILTERS
from niriss_eestep.measure.geometry import aperture_weights
from niriss_eestep.psf import build
from niriss_eestep.psf.build import photon_flux
from niriss_eestep.psf.diffraction import encircled_energy
from niriss_eestep.psf.pupil import INFLIGHT_PUPIL
from niriss_eestep.psf.wavefront import INFLIGHT
from niriss_eestep.reference import load_psfee, load_throughput
from niriss_eestep.reference.psf import load_psf_images

RADIUS = np.array([2.0, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15])
AREA, AVERAGED = np.pi * RADIUS**2, slice(3, 9)
RINGS = np.array([20.0, 25.0]), np.ones(1)
N_DITHERS = 4
#: variance of read noise and sky per pixel [e-^2]
PIXEL_VARIANCE = 300.0


class Single:
    """A list of wavefronts that `build` takes for the draws of one model."""

    def __init__(self, models):
        self.models, self.blur, self.ipc = models, models[0].blur, models[0].ipc

    def drawn(self, seed, index, n_draws):
        """Give the wavefront of that number."""
        return self.models[index]


def sets(n_stars):
    """Wavefront models of the stars, by set."""
    rng = np.random.default_rng(7)
    rest = np.sqrt(INFLIGHT.total_rms**2 - INFLIGHT.screen_rms**2)
    total, screen = rng.uniform(56, 80, 4 * n_stars), rng.normal(50, 10, 4 * n_stars)
    # a screen of more than all is no wavefront
    total, screen = (values[screen < total - 2][:n_stars] for values in (total, screen))
    scale = np.sqrt(total**2 - screen**2) / rest
    names = ("segment_rms", "c3_rms", "global_rms")
    smaller = [
        replace(INFLIGHT, screen_rms=float(s), **{name: float(k * getattr(INFLIGHT, name)) for name in names})
        for s, k in zip(screen, scale, strict=True)
    ]
    without = [replace(INFLIGHT, screen_rms=1e-3, global_rms=float(g)) for g in rng.uniform(40, 70, n_stars)]
    drawn = [INFLIGHT.drawn(777, index, n_stars) for index in range(n_stars)]
    return {
        "drawn from the prior": drawn,
        "56 to 80 nm, screen 50 +- 10": smaller,
        "index 3.2": [replace(model, screen_index=3.2) for model in drawn],
        "index 2.8": [replace(model, screen_index=2.8) for model in drawn],
        "without a screen": without,
        "index 3.6": [replace(model, screen_index=3.6) for model in drawn],
        "index 2.4": [replace(model, screen_index=2.4) for model in drawn],
    }


def curves(models, seed, filters=FILTERS):
    """EE at `build.MODE_RADII`, shape (n_filters, n_stars, n_radii), at the coarse sampling."""
    throughput, found = load_throughput(), []
    sampling = replace(build.Sampling(n_draws=len(models), seed=seed)).coarse
    for name in filters:
        wavelength, pce = throughput.curve(name)
        light = 1e-6 * wavelength, pce * photon_flux(wavelength)
        grid, spectra = build._spectra(name, light, Single(models), INFLIGHT_PUPIL, sampling, lambda: None)
        found.append(encircled_energy(spectra, grid, build.MODE_RADII))
    return np.array(found)


def phases(name):
    """What the pixel phase does to the EE at `RADIUS`: 36 phases of the packaged image, less their mean."""
    image, at, size = load_psf_images()[name], (np.arange(6) + 0.5) / 6 - 0.5, 41
    found = []
    for x, y in ((20 + dx, 20 + dy) for dx in at for dy in at):
        light = image.render(x, y, (size, size))
        found.append([np.sum(w * light) for w in aperture_weights((size, size), x, y, RADIUS)])
    return np.array(found) - np.mean(found, axis=0)


def star(name, ee, psfee, by_phase, rng, electrons):
    """Curve of growth of a star of total 1."""
    effective = effective_ee(lambda r: np.interp(r, build.MODE_RADII, ee), RADIUS, AREA, *RINGS)
    mean = effective_ee(partial(psfee.ee, name), RADIUS, AREA, *RINGS)
    sky = PIXEL_VARIANCE * (np.minimum.outer(AREA, AREA) + np.outer(AREA, AREA) / (np.pi * 225))
    covariance = np.minimum.outer(effective, effective) / electrons + sky / electrons**2
    dithers = by_phase[rng.integers(len(by_phase), size=N_DITHERS)].mean(axis=0)
    observed = effective + dithers + np.linalg.cholesky(covariance) @ rng.standard_normal(RADIUS.size)
    modes = effective_ee(partial(psfee.modes_at, name), RADIUS, AREA, *RINGS) / mean[:, None]
    own = covariance / np.outer(effective, effective) + np.diag(np.var(by_phase, axis=0) / N_DITHERS)
    weight = np.linalg.solve(own, np.ones(RADIUS.size))
    known = weight @ (observed / effective) / weight.sum() - 1
    return known, GrowthCurve(RADIUS, observed / mean, covariance / np.outer(mean, mean), modes, N_DITHERS)


def results(stars):
    """Off by, and stated error, of the totals: PSF known, before the fit, each filter alone, all together.

    Last, how far they would be off by an index of 2.8, each filter alone and all together.
    """
    (known, measured), flatter = zip(*stars, strict=True), load_psfee().meta["flatter"]
    yield np.array(known), np.full(len(known), np.nan)
    before = [np.mean(c.total[AVERAGED]) - 1 for c in measured]
    width = [np.sqrt(np.sum(np.mean(c.modes[AVERAGED], axis=0) ** 2)) for c in measured]
    yield np.array(before), np.array(width)
    alone = [fit_psf([c], flatter) for c in measured]
    errors = [stated([c], f)[0] for c, f in zip(measured, alone, strict=True)]
    yield np.array([f.total[0] - 1 for f in alone]), np.array(errors)
    together = fit_psf(measured, flatter)
    yield together.total - 1, stated(measured, together)
    yield np.array([f.index_shift[0] for f in alone]), together.index_shift


def stated(measured, fit):
    """Stated errors of the totals, as fractions; the star's own photons included."""
    own = [w[k] @ c.covariance @ w[k] for k, (w, c) in enumerate(zip(fit.weights, measured, strict=True))]
    return fit.inflation * np.sqrt(np.sum(fit.aperture_modes**2, axis=1) + own)


def main():
    """Print a table for each set."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stars", type=int, default=40)
    parser.add_argument("--decades", type=float, nargs=2, default=(6, 8), help="range of log10 of the electrons (6 8)")
    args = parser.parse_args()
    n_stars = args.stars
    psfee, rng = load_psfee(), np.random.default_rng(1)
    by_phase = {name: phases(name) for name in FILTERS}
    # the coarse sampling is off alike in every draw: what the reference's own draws differ by is taken off
    reference = build.Sampling()
    own = [INFLIGHT.drawn(reference.seed, k, reference.n_draws) for k in range(reference.n_draws)]
    offset = curves(own, reference.seed).mean(axis=1) - [psfee.ee(name, build.MODE_RADII) for name in FILTERS]
    for number, (label, models) in enumerate(sets(n_stars).items()):
        ee = curves(models, 1000 + number) - offset[:, None]
        electrons = 10 ** rng.uniform(*args.decades, (n_stars, len(FILTERS)))
        found = []
        for k in range(n_stars):
            stars = [star(f, ee[i, k], psfee, by_phase[f], rng, electrons[k, i]) for i, f in enumerate(FILTERS)]
            found.append(list(results(stars)))
        off, err = np.array(found).transpose(2, 1, 0, 3)
        (off, shift), err = np.split(off, [4]), err[:4]
        print(f"\n{n_stars} stars, {label}; rms off by [%] and pulls, mean and standard deviation")
        kinds = "".join(f"{kind:>24}" for kind in ("prior", "alone", "together"))
        print(f"{'filter':8}{'PSF known':>9}{kinds}{'by the PSF':>12}{'by 2.8, alone':>15}")
        rms = 100 * np.sqrt(np.mean(np.concatenate([off, off[3:] - off[:1]]) ** 2, axis=1))
        for i, name in enumerate(FILTERS):
            row = f"{name:8}{rms[0, i]:9.3f}"
            for k, pull in enumerate(off[1:, :, i] / err[1:, :, i], 1):
                row += f"{rms[k, i]:10.3f}{pull.mean():7.2f}{pull.std():7.2f}"
            print(f"{row}{rms[4, i]:12.3f}{100 * np.nanmean(shift[0, :, i]):15.2f}")
        for kind, pulls in (("alone", off[2] / err[2]), ("together", off[3] / err[3])):
            print(f"{kind}: all pulls, rms {np.sqrt(np.mean(pulls**2)):.2f}, largest {np.abs(pulls).max():.1f}")


if __name__ == "__main__":
    main()
