"""Wavefront error: random realisations with stated rms, by its three physical origins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from poppy.zernike import R
from scipy.fft import irfft2
from scipy.ndimage import map_coordinates
from scipy.special import ndtri
from scipy.stats import ortho_group
from scipy.stats.qmc import LatinHypercube

from niriss_eestep.arrays import Array
from niriss_eestep.errors import ParameterError
from niriss_eestep.instrument import PIXEL_SCALE
from niriss_eestep.psf import pupil
from niriss_eestep.psf.pupil import PupilGeometry

#: Gaussian sigma of the charge diffusion, per axis [arcsec]: STPSF 2.2 has 0.0202 and had 0.021, amigo 0.0214 with the
#: jitter; this one gives, with the wavefront in flight, the FWHM of STPSF's images within 1 % in each filter
CHARGE_DIFFUSION = 0.02065
#: Zernike terms (n, m) of a segment: piston, tip, tilt, then the shapes up to the third order
SEGMENT_TERMS = ((0, 0), (1, -1), (1, 1), (2, 0), (2, -2), (2, 2), (3, -1), (3, 1), (3, -3), (3, 3))
#: terms of the whole pupil: defocus to third order and spherical; piston, tip and tilt move the image only
GLOBAL_TERMS = ((2, 0), (2, -2), (2, 2), (3, -1), (3, 1), (3, -3), (3, 3), (4, 0))
#: highest spatial frequency of the screen [cycles/m]; scatters to 60 pix at 0.75 micron, the bluest light of F090W
SCREEN_MAX_FREQUENCY = 25.4
#: index of the segment C3 among the centres, at (V2, V3) = (1.14, -1.98) m: our segments of a ring go from +V3 towards
#: -V2, their names the other way (STPSF 2.2, constants)
C3 = 16
#: terms whose rms is drawn from the prior, and the least factor by which that may change one
_RMS = ("segment_rms", "c3_rms", "global_rms", "screen_rms")
LEAST_FACTOR = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class WavefrontModel:
    """Statistics of the wavefront error, all rms over the pupil, and how well each number is known.

    Where the telescope's own wavefront was measured, the numbers are those of what the measurement does not see.

    Parameters
    ----------
    name : str
        How the references call it.
    segment_rms : float
        Piston, tip, tilt and figure of each segment, independent and equally shared [nm].
    c3_rms : float
        Figure of the segment C3, which a micrometeoroid hit [nm]; 4.24 times as much over the segment itself.
    global_rms : float
        Low orders common to all segments: alignment, and the instrument's own optics [nm].
    screen_rms : float
        Mid-frequency screen: polishing residuals of all mirrors [nm].
    screen_index : float
        The screen's power spectral density falls as frequency**-index.
    screen_min_frequency : float
        Lowest frequency of the screen [cycles/m]; the low orders carry what is below.
    jitter : float
        Gaussian sigma of the line of sight, per axis [arcsec].
    diffusion : float
        Gaussian sigma of the charge diffusion, per axis [arcsec].
    ipc : bool
        Whether the detector's inter-pixel capacitance is in the PSF.
    scatter : tuple of float
        Fractional standard deviations of the four rms, in the order given, and the standard deviation of
        ``screen_index``: the prior from which `drawn` takes.
    source : str
        Where the numbers are from.
    opd : ndarray, shape (n, n), optional
        Measured path difference over the circumscribed circle [m]; 0 where the pupil is not clear.

    Raises
    ------
    ParameterError
        If an rms or a blur is negative or not finite.
    """

    name: str
    segment_rms: float
    c3_rms: float
    global_rms: float
    screen_rms: float
    screen_index: float
    screen_min_frequency: float
    jitter: float
    diffusion: float
    ipc: bool = True
    scatter: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    source: str = ""
    opd: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for field in (*_RMS, "jitter", "diffusion"):
            if not 0 <= (value := getattr(self, field)) < np.inf:
                raise ParameterError(f"{field} of the wavefront model {self.name!r} must be 0 or more, got {value}")

    @property
    def total_rms(self) -> float:
        """Root of the summed variances [nm]."""
        return float(np.sqrt(sum(getattr(self, field) ** 2 for field in _RMS)))

    @property
    def blur(self) -> float:
        """Gaussian sigma of jitter and charge diffusion together [pix]."""
        return float(np.hypot(self.jitter, self.diffusion)) / PIXEL_SCALE

    def drawn(self, seed: int, index: int, n_draws: int) -> WavefrontModel:
        """Draw the numbers of one member of a set from the prior, by Latin hypercube sampling.

        Parameters
        ----------
        seed : int
            Seeds the set.
        index : int
            Member of the set.
        n_draws : int
            Size of the set, over which each number covers its distribution evenly.

        Returns
        -------
        WavefrontModel
        """
        normal = _hypercube(seed, n_draws)[index]
        factors = np.maximum(1 + normal[:4] * self.scatter[:4], LEAST_FACTOR)
        values = {field: getattr(self, field) * float(k) for field, k in zip(_RMS, factors, strict=True)}
        return replace(self, screen_index=self.screen_index + float(normal[4]) * self.scatter[4], **values)

    def realise(self, geometry: PupilGeometry, n_pixels: int, seed: int, index: int = 0) -> NDArray[np.float32]:
        """Draw one wavefront of a set.

        Over eight successive members every global term has exactly its rms: the mean PSF of such a set varies much less
        from seed to seed than that of independent draws. The same seed and index give the same wavefront at every
        sampling.

        Parameters
        ----------
        geometry : PupilGeometry
            Says which pixels are clear, over which the rms is taken.
        n_pixels : int
            Pixels across the circumscribed circle.
        seed : int
            Seeds the set.
        index : int, optional
            Member of the set.

        Returns
        -------
        ndarray, shape (n_pixels, n_pixels)
            Optical path difference [m], without the pupil's mean tip and tilt.
        """
        rng = np.random.default_rng((seed, index))
        basis, n = _basis(geometry, n_pixels), len(GLOBAL_TERMS)
        # one row of a random orthogonal matrix, which eight members share
        balanced = ortho_group.rvs(n, random_state=np.random.default_rng((seed, index // n, n)))[index % n]
        opd = np.tensordot((self.global_rms * balanced).astype(np.float32), basis.global_terms, axes=1)
        opd += basis.scaled(basis.segments(rng.standard_normal((18, len(SEGMENT_TERMS)))), self.segment_rms)
        opd += basis.scaled(_screen(n_pixels, self.screen_index, self.screen_min_frequency, rng), self.screen_rms)
        if self.c3_rms:
            figure = np.zeros((18, len(SEGMENT_TERMS)))
            # the segment's position is corrected: no piston, tip or tilt
            figure[C3, 3:] = rng.standard_normal(len(SEGMENT_TERMS) - 3)
            opd += basis.scaled(basis.segments(figure), self.c3_rms)
        opd *= 1e-9
        if self.opd is not None:
            # the centres of the pixels wanted, in pixels of the map
            at = (np.arange(n_pixels) + 0.5) * self.opd.shape[0] / n_pixels - 0.5
            seen = map_coordinates(self.opd, np.meshgrid(at, at, indexing="ij"), order=1, mode="nearest")
            opd += basis.without_tilt(seen)
        return opd


@dataclass(frozen=True, slots=True, eq=False)
class _Basis:
    """Zernike terms of the segments and of the whole pupil, and the telescope's clear pixels.

    Parameters
    ----------
    segment_terms : ndarray, shape (n_terms, n, n)
        Each term in its segment's own coordinates; orthonormal over a hexagon.
    labels : ndarray of int, shape (n, n)
        Index of the nearest segment.
    global_terms : ndarray, shape (n_terms, n, n)
        Orthonormal over the clear pupil.
    tilts : ndarray, shape (3, n, n)
        Piston, tip and tilt, orthonormal over the clear pupil.
    weight : ndarray, shape (n, n)
        Clear fraction of each pixel, of mean 1 over the pupil's sum.
    """

    segment_terms: NDArray[np.float32]
    labels: NDArray[np.int8]
    global_terms: NDArray[np.float32]
    tilts: NDArray[np.float32]
    weight: NDArray[np.float32]

    def segments(self, coefficients: Array) -> NDArray[np.float32]:
        opd = np.zeros(self.labels.shape, dtype=np.float32)
        for term, values in zip(self.segment_terms, coefficients.T.astype(np.float32), strict=True):
            opd += term * values[self.labels]
        return opd

    def scaled(self, opd: NDArray[np.float32], rms: float) -> NDArray[np.float32]:
        without = self.without_tilt(opd)
        variance = float(np.vdot(self.weight, without**2)) - float(np.vdot(self.weight, without)) ** 2
        return without * np.float32(rms / float(np.sqrt(max(variance, 0.0))))

    def without_tilt(self, opd: NDArray[np.float32]) -> NDArray[np.float32]:
        coefficients = [float(np.vdot(self.weight, term * opd)) for term in self.tilts]
        return opd - np.tensordot(np.array(coefficients, dtype=np.float32), self.tilts, axes=1)


# a build uses one geometry at two samplings
@lru_cache(maxsize=2)
def _basis(geometry: PupilGeometry, n_pixels: int) -> _Basis:
    """Set up the terms; those of a segment are made orthonormal on a hexagon (as the hexikes are)."""
    x, centres = pupil.pixel_centres(n_pixels), pupil.SEGMENT_CENTRES
    distance2 = [(x[None, :] - cx) ** 2 + (x[:, None] - cy) ** 2 for cx, cy in centres]
    labels = np.argmin(distance2, axis=0).astype(np.int8)
    weight, at = geometry.sample(n_pixels), np.broadcast_arrays(x[None, :], x[:, None])
    weight = weight / weight.sum()
    local = [(axis - of[labels]) / pupil.SEGMENT_CIRCUMRADIUS for axis, of in zip(at, centres.T, strict=True)]
    segment_terms = _orthonormal(_zernikes(SEGMENT_TERMS, *local), weight)
    unit = [axis / (0.5 * pupil.CIRCUMSCRIBED_DIAMETER) for axis in at]
    whole = _orthonormal(_zernikes(((0, 0), (1, -1), (1, 1)) + GLOBAL_TERMS, *unit), weight)
    return _Basis(segment_terms, labels, whole[3:], whole[:3], weight.astype(np.float32))


@lru_cache(maxsize=2)
def _hypercube(seed: int, n_draws: int) -> Array:
    """Normal deviates, shape (n_draws, 5), each column evenly spread, and no two correlated."""
    cube = LatinHypercube(5, optimization="random-cd", rng=np.random.default_rng((seed, n_draws)))
    return np.asarray(ndtri(cube.random(n_draws)))


def _zernikes(terms: tuple[tuple[int, int], ...], x: Array, y: Array) -> Array:
    """Zernike polynomials (n, m) at x, y; beyond the unit circle too, where pixels of no segment lie."""
    rho, theta = np.hypot(x, y), np.arctan2(y, x)
    radial = {(n, abs(m)): R(n, abs(m), rho) for n, m in terms}
    return np.array([radial[n, abs(m)] * (np.cos(m * theta) if m >= 0 else np.sin(-m * theta)) for n, m in terms])


def _orthonormal(terms: Array, weight: Array) -> NDArray[np.float32]:
    """Gram-Schmidt over the weighted pixels, in the order given."""
    gram = np.einsum("iyx,jyx,yx->ij", terms, terms, weight, optimize=True)
    return np.einsum("ij,jyx->iyx", np.linalg.inv(np.linalg.cholesky(gram)), terms, optimize=True).astype(np.float32)


def _screen(n_pixels: int, index: float, min_frequency: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gaussian screen of a power-law spectrum, unnormalised; its period is twice the pupil's size."""
    step = 0.5 / pupil.CIRCUMSCRIBED_DIAMETER  # [cycles/m]
    half = int(SCREEN_MAX_FREQUENCY / step)
    fy, fx = np.arange(-half, half + 1), np.arange(half + 1)
    frequency = step * np.hypot(fx[None, :], fy[:, None])
    # drawn for every frequency at once, so that the sampling of the pupil does not change the wavefront
    noise = rng.standard_normal((2, fy.size, fx.size), dtype=np.float32)
    inside = (frequency >= min_frequency) & (frequency <= SCREEN_MAX_FREQUENCY)
    amplitude = np.where(inside, np.where(inside, frequency, 1.0) ** (-0.5 * index), 0.0).astype(np.float32)
    n_period = 2 * n_pixels
    # a coarse pupil does not hold the highest frequencies, which scatter beyond its image
    kept = slice(half - min(half, n_pixels - 1), half + min(half, n_pixels - 1) + 1)
    fy, fx, amplitude, noise = fy[kept], fx[:n_pixels], amplitude[kept, :n_pixels], noise[:, kept, :n_pixels]
    spectrum = np.zeros((n_period, n_period // 2 + 1), dtype=np.complex64)
    # a pixel's centre is half a pixel from its corner, which is the same place at every sampling
    to_centre = np.exp(1j * np.pi * (fx[None, :] + fy[:, None]) / n_period)
    spectrum[fy[:, None], fx[None, :]] = amplitude * (noise[0] + 1j * noise[1]) * to_centre
    return irfft2(spectrum, s=(n_period, n_period))[:n_pixels, :n_pixels]


#: the rms and the screen's spectrum are chosen, once for all filters, so that the EE agrees with WebbPSF's of 2021 read
#: with its own sky annulus and one transmission behind CLEARP: within 0.41 % at 5 to 10 pix, 1.1 % at 2 to 4 pix
PRELAUNCH = WavefrontModel(
    name="prelaunch", segment_rms=39.0, c3_rms=0.0, global_rms=84.0,
    screen_rms=60.0, screen_index=3.76, screen_min_frequency=0.9, jitter=0.007, diffusion=0.0, ipc=False,
    source="rms and spectrum from WebbPSF's pre-launch EE (CAP-020, 2021); jitter that WebbPSF 0.9 assumed",
)  # fmt: skip
#: NIRISS's own wavefront error [nm] at the field positions where ISIM CV3 measured it (JWST-RPT-032131, as drawn in
#: STPSF's documentation): nearest to SUB64, SUB128 and SUB256; in the middle of the detector
INSTRUMENT_RMS = {"subarray": 47.9, "center": 59.6}
#: C3's own error [nm] before and after the hit of May 2022: 56 and, corrected, 178 (commissioning report, quoted
#: second-hand, not confirmed); taken as 70 +- 42, for with 178 the telescope alone would have the 68 nm of all optics
C3_RMS_BEFORE, C3_RMS_AFTER, C3_HIT_DATE = 56.0, 70.0, "2022-05-23"
#: highest frequency that a map of the wavefront sensing resolves [cycles/m]: three over a segment
MAP_MAX_FREQUENCY = 2.3


def inflight(field: str = "subarray", date: str | None = None) -> WavefrontModel:
    """Wavefront in flight, from what is published; each number with a range.

    Parameters
    ----------
    field : str, optional
        One of `INSTRUMENT_RMS`.
    date : str, optional
        ISO date; before the hit of May 2022 the segment C3 was like the others. After it by default.

    Returns
    -------
    WavefrontModel

    Raises
    ------
    ParameterError
        If the field position is unknown.
    """
    if field not in INSTRUMENT_RMS:
        raise ParameterError(f"field position {field!r} is unknown; choose from {', '.join(INSTRUMENT_RMS)}")
    c3 = C3_RMS_BEFORE if date is not None and date < C3_HIT_DATE else C3_RMS_AFTER
    return WavefrontModel(
        name="inflight", segment_rms=16.0, c3_rms=c3 / np.sqrt(18), global_rms=INSTRUMENT_RMS[field],
        screen_rms=50.0, screen_index=3.76, screen_min_frequency=0.79, scatter=(0.3, 0.6, 0.3, 0.2, 0.15),
        jitter=0.0008, diffusion=CHARGE_DIFFUSION,
        source="68 +- 12 nm in all (quoted from Rigby et al. 2023): NIRISS's own 47.9 nm at the subarrays, 59.6 nm in "
        "the middle (ISIM CV3); C3 28 to 112 nm over the segment; mid frequencies 50 +- 10 nm, not published; "
        "jitter 0.8 mas (STPSF 2.2) and charge diffusion 20.65 mas (STPSF: 20.2 to 21)",
    )  # fmt: skip


def measured(opd: NDArray[np.floating], name: str, field: str = "subarray") -> WavefrontModel:
    """Wavefront whose telescope part was measured.

    Parameters
    ----------
    opd : ndarray, shape (n, n)
        Map over the telescope's circumscribed circle [m].
    name : str
        Where it is from.
    field : str, optional
        One of `INSTRUMENT_RMS`; the instrument's error is not in the map.

    Returns
    -------
    WavefrontModel
    """
    model = inflight(field)
    beyond = (model.screen_min_frequency / MAP_MAX_FREQUENCY) ** (0.5 * model.screen_index - 1)
    numbers: dict[str, Any] = {"segment_rms": 0.0, "c3_rms": 0.0, "global_rms": INSTRUMENT_RMS[field]}
    numbers |= {"screen_rms": model.screen_rms * beyond, "screen_min_frequency": MAP_MAX_FREQUENCY}
    return replace(model, name=name, opd=np.asarray(opd, dtype=np.float32), **numbers)


INFLIGHT = inflight()
WAVEFRONTS = {model.name: model for model in (INFLIGHT, PRELAUNCH)}
