"""Wavefront error: random realisations with stated rms, by its three physical origins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.errors import ParameterError
from niriss_eestep.psf.pupil import (
    CIRCUMSCRIBED_DIAMETER,
    SEGMENT_CENTRES,
    SEGMENT_CIRCUMRADIUS,
    PupilGeometry,
    pixel_centres,
)

__all__ = ["INFLIGHT", "PRELAUNCH", "WAVEFRONTS", "WavefrontModel"]

#: Zernike terms (n, m) of a segment: piston, tip, tilt, then the shapes up to the third order
SEGMENT_TERMS = ((0, 0), (1, -1), (1, 1), (2, 0), (2, -2), (2, 2), (3, -1), (3, 1), (3, -3), (3, 3))
#: terms of the whole pupil: defocus to third order and spherical; piston, tip and tilt move the image only
GLOBAL_TERMS = ((2, 0), (2, -2), (2, 2), (3, -1), (3, 1), (3, -3), (3, 3), (4, 0))
#: highest spatial frequency of the screen [cycles/m]; scatters to 60 pix at 0.75 micron, the bluest light of F090W
SCREEN_MAX_FREQUENCY = 25.4


@dataclass(frozen=True, slots=True)
class WavefrontModel:
    """Statistics of the wavefront error, all rms over the pupil.

    Parameters
    ----------
    name : str
        How the references call it.
    segment_rms : float
        Piston, tip, tilt and figure of each segment, independent and equally shared [nm].
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
        Gaussian sigma that stands for charge diffusion and inter-pixel capacitance, per axis [pix].
    source : str
        Where the numbers are from.
    """

    name: str
    segment_rms: float
    global_rms: float
    screen_rms: float
    screen_index: float
    screen_min_frequency: float
    jitter: float
    diffusion: float
    source: str = ""

    def __post_init__(self) -> None:
        for field in ("segment_rms", "global_rms", "screen_rms", "jitter", "diffusion"):
            value = getattr(self, field)
            if not (np.isfinite(value) and value >= 0):
                raise ParameterError(
                    f"{field} of the wavefront model {self.name!r} must be finite and not negative, got {value}"
                )

    @property
    def total_rms(self) -> float:
        """Root of the summed variances [nm]."""
        return float(np.sqrt(self.segment_rms**2 + self.global_rms**2 + self.screen_rms**2))

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
        basis = _basis(geometry, n_pixels)
        segments = basis.without_tilt(basis.segments(rng.standard_normal((18, len(SEGMENT_TERMS)))))
        screen = basis.without_tilt(_screen(n_pixels, self.screen_index, self.screen_min_frequency, rng))
        opd = basis.whole(self.global_rms * _balanced(seed, index))
        opd += segments * (self.segment_rms / basis.rms(segments))
        opd += screen * (self.screen_rms / basis.rms(screen))
        return 1e-9 * opd


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

    def segments(self, coefficients: NDArray[np.float64]) -> NDArray[np.float32]:
        per_term = coefficients.T.astype(np.float32)
        opd = np.zeros(self.labels.shape, dtype=np.float32)
        for term, values in zip(self.segment_terms, per_term, strict=True):
            opd += term * values[self.labels]
        return opd

    def whole(self, coefficients: NDArray[np.float64]) -> NDArray[np.float32]:
        return np.tensordot(coefficients.astype(np.float32), self.global_terms, axes=1)

    def rms(self, opd: NDArray[np.float32]) -> float:
        mean = float(np.vdot(self.weight, opd))
        return float(np.sqrt(max(float(np.vdot(self.weight, opd**2)) - mean**2, 0.0)))

    def without_tilt(self, opd: NDArray[np.float32]) -> NDArray[np.float32]:
        coefficients = [float(np.vdot(self.weight, term * opd)) for term in self.tilts]
        return opd - np.tensordot(np.array(coefficients, dtype=np.float32), self.tilts, axes=1)


# a build uses one geometry at two samplings
@lru_cache(maxsize=2)
def _basis(geometry: PupilGeometry, n_pixels: int) -> _Basis:
    """Set up the terms; those of a segment are made orthonormal on a hexagon (as the hexikes are)."""
    x = pixel_centres(n_pixels)
    distance2 = [(x[None, :] - cx) ** 2 + (x[:, None] - cy) ** 2 for cx, cy in SEGMENT_CENTRES]
    labels = np.argmin(distance2, axis=0).astype(np.int8)
    weight = geometry.sample(n_pixels).amplitude
    weight = weight / weight.sum()
    local_x = (x[None, :] - SEGMENT_CENTRES[labels, 0]) / SEGMENT_CIRCUMRADIUS
    local_y = (x[:, None] - SEGMENT_CENTRES[labels, 1]) / SEGMENT_CIRCUMRADIUS
    segment_terms = _orthonormal(_zernikes(SEGMENT_TERMS, local_x, local_y), weight)
    radius = 0.5 * CIRCUMSCRIBED_DIAMETER
    whole_x, whole_y = np.broadcast_arrays(x[None, :] / radius, x[:, None] / radius)
    whole = _orthonormal(_zernikes(((0, 0), (1, -1), (1, 1)) + GLOBAL_TERMS, whole_x, whole_y), weight)
    return _Basis(segment_terms, labels, whole[3:], whole[:3], weight.astype(np.float32))


def _balanced(seed: int, index: int) -> NDArray[np.float64]:
    """Coefficients of the global terms, of unit norm: one row of a random orthogonal matrix."""
    from scipy.stats import ortho_group

    n = len(GLOBAL_TERMS)
    return ortho_group.rvs(n, random_state=np.random.default_rng((seed, index // n, n)))[index % n]


def _zernikes(
    terms: tuple[tuple[int, int], ...], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Zernike polynomials (n, m) at x, y; beyond the unit circle too, where pixels of no segment lie."""
    from poppy.zernike import R

    rho, theta = np.hypot(x, y), np.arctan2(y, x)
    radial = {(n, abs(m)): R(n, abs(m), rho) for n, m in terms}
    return np.array([radial[n, abs(m)] * (np.cos(m * theta) if m >= 0 else np.sin(-m * theta)) for n, m in terms])


def _orthonormal(terms: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float32]:
    """Gram-Schmidt over the weighted pixels, in the order given."""
    gram = np.einsum("iyx,jyx,yx->ij", terms, terms, weight, optimize=True)
    return np.einsum("ij,jyx->iyx", np.linalg.inv(np.linalg.cholesky(gram)), terms, optimize=True).astype(np.float32)


def _screen(n_pixels: int, index: float, min_frequency: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gaussian screen of a power-law spectrum, unnormalised; its period is twice the pupil's size."""
    from scipy.fft import irfft2

    step = 0.5 / CIRCUMSCRIBED_DIAMETER  # [cycles/m]
    half = int(SCREEN_MAX_FREQUENCY / step)
    fy = np.arange(-half, half + 1)
    fx = np.arange(half + 1)
    frequency = step * np.hypot(fx[None, :], fy[:, None])
    # drawn for every frequency at once, so that the sampling of the pupil does not change the wavefront
    noise = rng.standard_normal((2, fy.size, fx.size), dtype=np.float32)
    inside = (frequency >= min_frequency) & (frequency <= SCREEN_MAX_FREQUENCY)
    amplitude = np.where(inside, np.where(inside, frequency, 1.0) ** (-0.5 * index), 0.0).astype(np.float32)
    n_period = 2 * n_pixels
    if 2 * half >= n_period:
        raise ParameterError(f"n_pixels = {n_pixels} does not sample the screen up to {SCREEN_MAX_FREQUENCY} cycles/m")
    spectrum = np.zeros((n_period, n_period // 2 + 1), dtype=np.complex64)
    # a pixel's centre is half a pixel from its corner, which is the same place at every sampling
    to_centre = np.exp(1j * np.pi * (fx[None, :] + fy[:, None]) / n_period)
    spectrum[fy[:, None], fx[None, :]] = amplitude * (noise[0] + 1j * noise[1]) * to_centre
    return irfft2(spectrum, s=(n_period, n_period))[:n_pixels, :n_pixels]


#: the three rms and the screen's spectrum are chosen, once for all filters, so that the EE agrees with WebbPSF's of
#: 2021; their total, 108 nm, is what WebbPSF 1.0 states for its predicted wavefront of the telescope before launch
PRELAUNCH = WavefrontModel(
    name="prelaunch",
    segment_rms=47.0,
    global_rms=76.0,
    screen_rms=61.3,
    screen_index=3.76,
    screen_min_frequency=0.79,
    jitter=0.007,
    diffusion=0.0,
    source="rms and spectrum from WebbPSF's pre-launch EE (CAP-020, 2021); jitter that WebbPSF 0.9 assumed",
)
#: the mid frequencies are nearly those before launch, for polishing does not change; the alignment is far better
INFLIGHT = WavefrontModel(
    name="inflight",
    segment_rms=30.0,
    global_rms=35.0,
    screen_rms=50.0,
    screen_index=3.76,
    screen_min_frequency=0.79,
    jitter=0.0008,
    diffusion=0.308,
    source=(
        "NIRISS static wavefront error 68 +- 12 nm rms and jitter 0.8 mas per axis in flight (Rigby et al. 2023, PASP "
        "135, 048001); charge diffusion 20.2 mas as STPSF takes it from NIRISS effective PSFs"
    ),
)
WAVEFRONTS = {model.name: model for model in (INFLIGHT, PRELAUNCH)}
