"""Bad pixels in the core: python tests/benchmarks/bad_pixel_map.py MAP [--part trial|pulls|groups] [--cache DIR].

MAP is NIRISS's map of bad pixels, a full frame with non-zero values at bad pixels (plain or gzipped FITS). They become
NaN and DO_NOT_USE, and everything is measured by default parameters.

trial: 12 filters x SUB64, SUB128, SUB256 x 4 dithers with the packaged PSF: how many of the 144 exposures fail, and the
total rates over those of the same exposures without the map.

pulls: stars of single wavefronts of 56 to 80 nm rms, measured with the packaged PSF references; the count rate with
bad pixels less the exact one of the same star, over its error. The wavefronts have the shares of the packaged model or
those of 30, 35 and 50 nm in segments, low orders and screen; every third star has no inter-pixel capacitance.

groups: the same for the means of four dithers of one wavefront, each damaged alike: repairs by one PSF err together.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits

from niriss_eestep.errors import NirissEEError
from niriss_eestep.instrument import FILTERS, GAIN
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.measure.star_model import PSFModel
from niriss_eestep.psf.build import Sampling, build_filter, photon_flux
from niriss_eestep.psf.wavefront import inflight
from niriss_eestep.reference import load_psf_images, load_psfee
from niriss_eestep.reference.psf import PSFImage
from niriss_eestep.reference.stdspec import load_throughput
from niriss_eestep.simulate.detector import choose_readout, get_subarray, sky_background
from niriss_eestep.simulate.scene import Scene, Star, simulate_image
from niriss_eestep.validate.accuracy import combine_exposures, star_exposure_of

SUBARRAYS = ("SUB64", "SUB128", "SUB256")
STAMP = 71  # pixels along each axis, as a step cuts
WAVEFRONTS = (56.0, 62.0, 68.0, 74.0, 80.0)  # rms [nm]


def model_of(name, psfee, psfs):
    """What a step knows of a filter's PSF."""
    return PSFModel(psfs[name].render, partial(psfee.ee, name), partial(psfee.ee_err, name))


def star_in(name, size, x, y, psf, electrons, rate=2e4):
    """Scene of a star in a cut of a subarray, read so that it collects so many electrons."""
    array = get_subarray("SUB64")
    peak = psf.render(32.0, 32.0, (65, 65)).max()
    readout = choose_readout(array, peak_rate=rate * peak, star_rate=rate, electrons=electrons, max_time=1e9)
    return Scene((size, size), Star(x, y, rate), replace(readout, gain=GAIN), sky_background(name))


def with_map(exposure, bad):
    """NaN at the bad pixels of a map."""
    return replace(exposure, image=np.where(bad, np.nan, exposure.image), bad=exposure.bad | bad)


def trial(bad_pixels, seed, electrons):
    """Every filter in every subarray with and without the map."""
    psfs, psfee, failed, ratios = load_psf_images(), load_psfee(), [], []
    for name in FILTERS:
        rng = np.random.default_rng([seed, *map(ord, name)])
        model, psf, curve = model_of(name, psfee, psfs), psfs[name], partial(psfee.ee, name)
        for subarray in SUBARRAYS:
            array = get_subarray(subarray)
            first = array.start - 1
            bad = bad_pixels[first : first + array.size, first : first + array.size]
            for dither in range(4):
                x, y = array.centre + rng.uniform(-1, 1, 2) * min(20, array.size / 20)
                i, j = (max(0, round(at) - STAMP // 2) for at in (x, y))
                part = bad[j : j + STAMP, i : i + STAMP]
                scene = replace(star_in(name, 1, float(x - i), float(y - j), psf, electrons), shape=part.shape)
                exposure = star_exposure_of(simulate_image(scene, psf, rng), scene)
                free = combine_exposures([measure_ee(exposure, EEOptions(), model)], curve)[1].count_rate
                try:
                    profile = measure_ee(with_map(exposure, part), EEOptions(), model)
                    if profile.failure:
                        raise NirissEEError(profile.failure)
                    ratios.append(combine_exposures([profile], curve)[1].count_rate / free)
                except NirissEEError as error:
                    failed.append(f"{name} {subarray} {dither}: {error}")
    off = np.array(ratios) - 1
    print(
        f"{len(failed)} of {len(failed) + len(ratios)} fail; ratio to the map-free run: mean {100 * off.mean():+.4f} %,"
    )
    print(f"rms {100 * np.sqrt(np.mean(off**2)):.4f} %, max {100 * np.abs(off).max():.4f} %", *failed, sep="\n  ")


def wavefront(name, number, cache):
    """PSF of a single wavefront; drawn once and kept in ``cache``."""
    path = cache / f"{name}_{number}.npz"
    if not path.is_file():
        rms, model = WAVEFRONTS[number % len(WAVEFRONTS)], inflight()
        if number % 2:
            model = replace(model, segment_rms=30.0, c3_rms=0.0, global_rms=35.0, screen_rms=50.0)
        scale = rms / model.total_rms
        terms = {key: scale * getattr(model, key) for key in ("segment_rms", "c3_rms", "global_rms", "screen_rms")}
        model = replace(model, **terms, scatter=(0.0,) * 5, ipc=number % 3 > 0)
        sampling = Sampling(
            n_pupil=512, n_wavelengths=3, n_realisations=1, n_draws=1, image_half_size=36, seed=7000 + number
        )
        wave, pce = load_throughput().curve(name)
        psf = build_filter(name, wave, pce * photon_flux(wave), model, sampling=sampling)
        np.savez(path, light=psf.image.light, oversample=psf.image.oversample, radius=psf.radius, ee=psf.ee)
    with np.load(path) as kept:
        return PSFImage(kept["light"], int(kept["oversample"]), kept["radius"], kept["ee"])


def from_map(bad_pixels, rng, image):
    """A place on the detector where a star has bad pixels in its core."""
    middle = STAMP // 2
    near = np.hypot(*np.indices((STAMP, STAMP)) - middle) <= 4
    while True:
        j, i = rng.integers(4, bad_pixels.shape[0] - STAMP - 4, 2)
        part = bad_pixels[j : j + STAMP, i : i + STAMP]
        if part[near].any():
            return part


def lost_peak(rng, image):
    """The brightest pixel."""
    return image == image.max()


def lost_row(rng, image):
    """A row at 3 pix."""
    return np.arange(STAMP)[:, None] - np.zeros(STAMP) == STAMP // 2 + 3


def lost_core(n, rng, image):
    """So many bad pixels within 3 pix of the centre."""
    bad = np.zeros((STAMP, STAMP), dtype=bool)
    core = np.argwhere(np.hypot(*np.indices(bad.shape) - STAMP // 2) <= 3)
    bad[tuple(rng.permutation(core)[:n].T)] = True
    return bad


def pulls(bad_pixels, seed, n, cache, electrons, names):
    """Pulls of repaired exposures, by kind of damage and by filter."""
    psfs, psfee = load_psf_images(), load_psfee()
    kinds = {"map": partial(from_map, bad_pixels), "peak": lost_peak, "row": lost_row}
    kinds |= {f"{k} pix": partial(lost_core, k) for k in (1, 4, 12)}
    found = {kind: {} for kind in kinds}
    for name in names:
        model = model_of(name, psfee, psfs)
        rng = np.random.default_rng([seed, *map(ord, name)])
        for number in range(n):
            psf = wavefront(name, number, cache)
            x, y = STAMP // 2 + rng.uniform(-0.5, 0.5, 2)
            scene = star_in(name, STAMP, float(x), float(y), psf, electrons)
            exact = measure_ee(
                star_exposure_of(simulate_image(scene, psf, rng, noise=False), scene), EEOptions(), model
            )
            for kind, damage in kinds.items():
                exposure = star_exposure_of(simulate_image(scene, psf, rng), scene)
                row = [np.nan] * 4
                try:
                    profile = measure_ee(with_map(exposure, damage(rng, exposure.image)), EEOptions(), model)
                    off, used = profile.count_rate - exact.count_rate, slice(4, 10)
                    mean_err = np.sqrt(np.mean(profile.covariance[used, used]))
                    pull = np.append((off / profile.count_rate_err)[[2, 4, 9]], np.mean(off[used]) / mean_err)
                    row = [*pull, np.mean(off[used]) / exact.count_rate[9], mean_err / exact.count_rate[9]]
                except NirissEEError as error:
                    print(name, number, kind, error)
                if np.isfinite(row[-1]):
                    found[kind].setdefault(name, []).append(row)
                else:
                    found[kind].setdefault("failed", []).append(row)
    print(f"pulls at 3, 5, 10 pix and of the mean of 5 to 10 pix; {n} wavefronts x {len(names)} filters")
    for kind, rows in found.items():
        n_failed = len(rows.pop("failed", []))
        every = np.concatenate([np.array(part) for part in rows.values()])
        print(
            f"{kind:7} n {len(every)} failed {n_failed}  std", np.round(every[:, :4].std(axis=0), 2), "mean",
            np.round(every[:, :4].mean(axis=0), 2), f"beyond 3: {np.mean(np.abs(every[:, 3]) > 3):.3f}",
            f"rms {100 * np.sqrt(np.mean(every[:, 4] ** 2)):.3f} % median err {100 * np.median(every[:, 5]):.3f} %",
        )  # fmt: skip
        print("       ", " ".join(f"{name} {np.std(np.array(part)[:, 3]):.2f}" for name, part in rows.items()))


def lost_saturated(side, rng, image):
    """The peak and the pixels about it, as where it saturates: those beside it (3), or the square."""
    j, i = np.unravel_index(image.argmax(), image.shape)
    apart = np.abs(np.indices(image.shape) - np.array([j, i])[:, None, None])
    return apart.sum(axis=0) <= 1 if side == 3 else apart.max(axis=0) <= 1


def lost_column(rng, image):
    """The column of the peak."""
    return np.zeros(image.shape) + np.arange(STAMP) == image.argmax() % STAMP


def groups(bad_pixels, seed, n, cache, electrons, names):
    """Pulls of the means of four dithers whose cores are damaged alike."""
    psfs, psfee, found = load_psf_images(), load_psfee(), {}
    kinds = {"map": partial(from_map, bad_pixels), "peak": lost_peak, "row": lost_row, "column": lost_column}
    kinds |= {"plus": partial(lost_saturated, 3), "3x3": partial(lost_saturated, 9)}
    kinds |= {f"{k} pix": partial(lost_core, k) for k in (1, 4, 12)}
    for name in names:
        model, curve, rng = model_of(name, psfee, psfs), partial(psfee.ee, name), np.random.default_rng(seed)
        for number in range(n):
            psf, seen = wavefront(name, number, cache), {kind: ([], []) for kind in kinds}
            for _ in range(4):
                x, y = STAMP // 2 + rng.uniform(-0.5, 0.5, 2)
                scene = star_in(name, STAMP, float(x), float(y), psf, electrons)
                clean = simulate_image(scene, psf, rng, noise=False)
                exact = measure_ee(star_exposure_of(clean, scene), EEOptions(), model).count_rate
                for kind, damage in kinds.items():
                    exposure = star_exposure_of(simulate_image(scene, psf, rng), scene)
                    profile = measure_ee(with_map(exposure, damage(rng, exposure.image)), EEOptions(), model)
                    if not profile.failure:
                        seen[kind][0].append(profile)
                        seen[kind][1].append(exact)
            for kind, (profiles, exact) in seen.items():
                if len(profiles) > 1:
                    mean, used = combine_exposures(profiles, curve)[0], slice(4, 10)
                    off = np.mean((mean.value - np.sum(mean.exposure_weight * exact, axis=0))[used])
                    found.setdefault(kind, []).append((off, np.sqrt(np.mean(mean.covariance[used, used]))))
    for kind, rows in found.items():
        off, err = np.transpose(rows)
        print(f"{kind:7} n {len(rows)}: root mean square of the pulls {np.sqrt(np.mean((off / err) ** 2)):.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("map", type=Path)
    parser.add_argument("--part", choices=("trial", "pulls", "groups", "all"), default="all")
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("-n", type=int, default=20, help="wavefronts of each filter")
    parser.add_argument("--electrons", type=float, default=1e7, help="of the star in each exposure of the pulls")
    parser.add_argument("--filters", default=",".join(FILTERS))
    parser.add_argument("--cache", type=Path, default=Path("wavefronts"))
    args = parser.parse_args()
    with fits.open(args.map) as hdus:
        bad_pixels = next(hdu.data for hdu in hdus if hdu.data is not None) != 0
    for electrons in (1e6, 1e7, 1e8) if args.part in ("trial", "all") else ():
        print(f"{electrons:.0e} e-: ", end="")
        trial(bad_pixels, args.seed, electrons)
    args.cache.mkdir(parents=True, exist_ok=True)
    for part in (pulls, groups):
        if args.part in (part.__name__, "all"):
            part(bad_pixels, args.seed, args.n, args.cache, args.electrons, args.filters.split(","))


if __name__ == "__main__":
    main()
