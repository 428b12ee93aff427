"""Pulls with a star and a detector that share nothing with the package's simulator.

    python tests/benchmarks/other_noise.py [-n N] [--seed SEED] [--only WORDS]

The star is a sum of round Gaussians, whose wing falls as r^-3, integrated over pixels exactly. Noise with a power of
f^slope runs in the order of reading, by 1 or 4 amplifiers, of which they may have a part in common; capacitance has 3x3
pixels; flats, skies, snowballs and bad columns are drawn here. Exposures have 400 s in 10 integrations, a sky of
0.3 e-/s and 15 e- in a double sample. Groups are measured, combined and corrected as the steps do it, with the star's
own PSF.
"""

import argparse
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import scipy
from photutils.geometry import circular_overlap_grid

from niriss_eestep.errors import ExposureError
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.measure.stamp import Stamp
from niriss_eestep.measure.star_model import PSFModel
from niriss_eestep.validate.accuracy import combine_exposures

GAIN, TIME, NINTS, SKY, READ, HALF = 1.61, 400.0, 10, 0.3, 15.0, 35
#: core [pix], and share of the light in the wing
STARS = {"F090W": (0.50, 0.22), "F200W": (0.62, 0.20), "F480M": (1.15, 0.20)}
DITHERS = [(0, 0), (4.3, 5.6), (-5.2, 3.7), (4.1, -6.4), (-6.6, -4.2), (2.7, 7.3), (-3.3, -7.8), (7.4, -2.1)]
NEIGHBOURS = np.array([[0, 0.0045, 0], [0.0045, 0.982, 0.0045], [0, 0.0045, 0]])


class GaussianSum:
    """A round star: a core and seven wider Gaussians."""

    def __init__(self, core, wing):
        k = np.arange(1, 8)
        self.sigma, self.share = core * 2.0 ** np.append(0, k), np.append(1 - wing, wing * 2.0**-k / np.sum(2.0**-k))

    def render(self, x, y, shape):
        """Fraction of the light in each pixel."""
        sides = [
            [
                0.5 * np.diff(scipy.special.erf((np.arange(n + 1) - 0.5 - at) / sigma / np.sqrt(2)))
                for sigma in self.sigma
            ]
            for n, at in zip(shape, (y, x), strict=True)
        ]
        return np.einsum("k,ky,kx->yx", self.share, *map(np.array, sides))

    @lru_cache(maxsize=4)  # noqa: B019 - three stars
    def _curve(self):
        """Light within apertures, averaged over pixel phases."""
        radius, light, half = np.concatenate([np.arange(0, 30, 0.25), np.arange(30, 81, 2.0)]), 0.0, 90
        n, at = 2 * half + 1, half + (np.arange(4) + 0.5) / 4 - 0.5
        for x, y in ((x, y) for x in at for y in at):
            image = self.render(x, y, (n, n))
            edges = -0.5 - x, n - 0.5 - x, -0.5 - y, n - 0.5 - y
            within = [np.sum(circular_overlap_grid(*edges, n, n, r, 1, 1) * image) if r else 0.0 for r in radius]
            light = light + np.array(within) / 16
        return scipy.interpolate.PchipInterpolator(radius, light)

    def ee(self, radius):
        """Encircled energy."""
        return self._curve()(np.clip(radius, 0, 80))


@dataclass(frozen=True)
class Case:
    """What a row is about."""

    rate: float = 250.0  # of the star [e-/s]
    size: int = 128  # of the subarray [pix]
    dithers: int = 2
    lines: float = 0.0  # noise in the order of reading, of a double sample [e-]
    slope: float = -1.0
    fast: str = "columns"
    amplifiers: int = 1
    shared: float = 0.0  # part of the lines' noise that amplifiers have in common
    ipc: bool = False
    flat: float = 0.0
    flat_scale: float = 0.0  # [pix]
    flat_told: bool = False
    same: bool = False  # all dithers on the same pixels
    plane: float = 0.0  # of the sky [1/pix]
    curvature: float = 0.0  # [1/pix2]
    snowball: float = 0.0  # [e-/s/pix]
    columns: tuple = ()  # first bad one from the star [pix], and how many
    options: tuple = ()


def line_noise(case, rng):
    """Noise in the order of reading, of variance 1."""
    part = case.size // case.amplifiers
    length = case.size * (part + 12)
    power = np.append(0.0, np.arange(1, length // 2 + 1) ** case.slope)
    power *= length**2 / (4 * power.sum())
    drawn = rng.normal(size=(2, case.amplifiers + 1, len(power))) * np.sqrt(power)
    series = np.fft.irfft(drawn[0] + 1j * drawn[1], length)
    series = np.sqrt(1 - case.shared) * series[1:] + np.sqrt(case.shared) * series[:1]
    image = np.concatenate(series.reshape(case.amplifiers, case.size, -1)[:, :, :part], axis=1)
    return image.T if case.fast == "columns" else image


def one_exposure(star, case, place, response, first, rng):
    """Draw an exposure and cut the stamp out."""
    n, (x, y) = case.size, place
    v, u = np.mgrid[:n, :n]
    angle = rng.uniform(0, 2 * np.pi)
    tilt = case.plane * ((u - x) * np.cos(angle) + (v - y) * np.sin(angle))
    sky = 1 + tilt + case.curvature * ((u - n / 2) ** 2 + (v - n / 2) ** 2)
    light = case.rate * star.render(x, y, (n, n)) + SKY * sky
    if case.snowball and first:
        away, to = rng.uniform(6, 12), rng.uniform(0, 2 * np.pi)
        distance = np.hypot(u - x - away * np.cos(to), v - y - away * np.sin(to))
        light = light + case.snowball * scipy.special.expit((2.5 - distance) / 0.35)
    light = light * response
    seen = rng.poisson(light * TIME) / TIME
    if case.ipc:
        seen = light + scipy.ndimage.convolve(seen - light, NEIGHBOURS, mode="nearest")
    per_read = np.sqrt(NINTS) / TIME
    seen = (seen + READ * per_read * rng.normal(size=(n, n))) / GAIN
    if case.lines:
        seen += case.lines * per_read * line_noise(case, rng) / GAIN
    photons = np.maximum(seen, SKY / 2 / GAIN) / GAIN / TIME
    xi, yi = round(x), round(y)
    corner = max(0, yi - HALF), max(0, xi - HALF)
    cut = slice(corner[0], yi + HALF + 1), slice(corner[1], xi + HALF + 1)
    flat = (case.flat * light[cut] / GAIN) ** 2 if case.flat_told else None
    variance = photons[cut] + (READ * per_read / GAIN) ** 2 + (0.0 if flat is None else flat)
    image, bad = seen[cut].copy(), np.zeros(seen[cut].shape, dtype=bool)
    if case.columns:
        left = xi - corner[1] + case.columns[0]
        bad[:, left : left + case.columns[1]] = True
        image[bad] = np.nan
    where = float(xi), float(yi), corner[1], corner[0]
    return Stamp(
        "",
        image,
        variance,
        bad.astype("u4"),
        bad,
        *where,
        0.0656,
        GAIN,
        photon_variance=photons[cut],
        flat_variance=flat,
    )


def group(star, case, rng):
    """Profiles of the dithers of a group."""
    response, shape = np.ones((case.size, case.size)), (case.size, case.size)
    if case.flat:
        drawn = rng.normal(size=shape)
        if case.flat_scale:
            smooth = scipy.ndimage.gaussian_filter(drawn, case.flat_scale / np.sqrt(2), mode="wrap")
            drawn = smooth * np.sqrt(2 * np.pi) * case.flat_scale
        response = 1 + case.flat * drawn
    middle, phase, found = case.size / 2 - 0.5, rng.uniform(-0.5, 0.5, 2), []
    psf, options = PSFModel(star.render, star.ee, lambda r: np.full(np.shape(r), 0.003), star.ee), dict(case.options)
    for k in range(case.dithers):
        offset = np.array(DITHERS[k]) * (1 if case.size > 64 else 0.6) + rng.uniform(-0.5, 0.5, 2)
        place = middle + (phase if case.same else offset)
        found.append(measure_ee(one_exposure(star, case, place, response, k == 0, rng), EEOptions(**options), psf))
    return found


FLAT = Case(rate=2.3e4, flat=0.003, options=(("flat_err", 0.003),))
SAME = replace(FLAT, flat=0.01, same=True, options=(("flat_err", 0.01),))
ROWS = [
    ("white", "F200W", Case()),
    ("white", "F480M", Case(845)),
    ("white", "F090W", Case(5000)),
    ("white, SUB64", "F480M", Case(845, 64)),
    ("white, SUB256, IPC", "F200W", Case(5000, 256, ipc=True)),
    ("1/f 3 e-", "F200W", Case(lines=3)),
    ("1/f 6 e-", "F200W", Case(lines=6)),
    ("1/f 10 e-", "F200W", Case(lines=10)),
    ("1/f 6 e-, SUB64", "F200W", Case(size=64, lines=6)),
    ("1/f 6 e-, SUB256, 4 amplifiers", "F200W", Case(size=256, lines=6, amplifiers=4, shared=0.5)),
    ("1/f 6 e- along rows", "F200W", Case(lines=6, fast="rows")),
    ("f^-1.3 6 e-", "F200W", Case(lines=6, slope=-1.3)),
    ("f^-1.5 6 e-", "F200W", Case(lines=6, slope=-1.5)),
    ("f^-1.5 6 e-, SUB64", "F200W", Case(size=64, lines=6, slope=-1.5)),
    ("1/f 6 e-", "F090W", Case(800, lines=6)),
    ("1/f 6 e-", "F480M", Case(200, lines=6)),
    ("1/f 6 e-, 845 e-/s", "F480M", Case(845, lines=6)),
    ("1/f 6 e-, 8 dithers", "F200W", Case(lines=6, dithers=8)),
    ("flat 0.3 %, flat_err", "F200W", FLAT),
    ("flat 0.3 %, flat_err", "F090W", replace(FLAT, rate=1e5)),
    ("flat 0.3 % over 5 pix", "F200W", replace(FLAT, flat_scale=5, options=(*FLAT.options, ("flat_err_scale", 5.0)))),
    ("flat 1 %, same, flat_err", "F200W", SAME),
    ("flat 1 %, same, VAR_FLAT", "F200W", replace(SAME, flat_told=True, options=())),
    ("plane sky", "F200W", Case(plane=0.01)),
    ("curved sky", "F200W", Case(curvature=5e-4)),
    ("curved sky", "F480M", Case(845, curvature=5e-4)),
    ("curved sky, 1/f 5 e-", "F200W", Case(curvature=5e-4, lines=5)),
    ("snowball", "F200W", Case(snowball=1)),
    ("5 bad columns", "F200W", Case(2.3e4, columns=(8, 5))),
    ("5 bad columns", "F480M", Case(2e4, columns=(8, 5))),
    ("5 bad columns", "F090W", Case(1e5, columns=(8, 5))),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--only", default="", help="rows whose name or filter holds this")
    args = parser.parse_args()
    print(f"{args.n} groups: std +-{1 / np.sqrt(2 * args.n):.2f}, mean +-{1 / np.sqrt(args.n):.2f}")
    stars = {name: GaussianSum(*numbers) for name, numbers in STARS.items()}
    for label, name, case in ROWS:
        if args.only not in f"{label} {name}":
            continue
        rng, totals, radii, failed = np.random.default_rng([args.seed, *map(ord, label + name)]), [], [], 0
        for _ in range(args.n):
            try:
                combined, total = combine_exposures(group(stars[name], case, rng), stars[name].ee)
            except ExposureError:
                failed += 1
                continue
            truth = case.rate / GAIN
            totals.append([total.count_rate - truth, total.count_rate_err])
            radii.append((total.total - truth) / (combined.err_formal / total.ee_effective))
        (off, err), each = np.transpose(totals), np.array(radii)
        pull, spread, centre = off / err, each.std(axis=0, ddof=1)[1:], each.mean(axis=0)[1:]
        row = f"{label:32}{name:7} total {pull.mean():+.2f}/{pull.std(ddof=1):.2f}, radii from 2 pix "
        row += f"{centre.min():+.2f} to {centre.max():+.2f}/{spread.min():.2f}-{spread.max():.2f}, "
        row += f"error {100 * np.median(err) / truth:.3f} %, bias {100 * off.mean() / truth:+.3f} %"
        print(row + f", {failed} failed" * (failed > 0), flush=True)


if __name__ == "__main__":
    main()
