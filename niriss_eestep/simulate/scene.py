"""A standard star on the detector, with known truth: what the ramp fit would give for it.

Pure numpy: a `Scene` and a PSF in, arrays out. The PSF is any object with ``render(x, y, shape)``, the fraction of the
star's light in each pixel.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.errors import ParameterError
from niriss_eestep.instrument import DO_NOT_USE, JUMP_DET, REFERENCE_PIXEL, SATURATED
from niriss_eestep.simulate import effects as nature
from niriss_eestep.simulate.detector import Readout
from niriss_eestep.simulate.switches import Effects

#: of the sky [pix]
_STRUCTURE_SCALE = 30.0


class PSF(Protocol):
    """A point-spread function on the detector's pixels."""

    def render(self, x: float, y: float, shape: tuple[int, int]) -> Array:
        """Fraction of the star's light in each pixel, for a star at (x, y).

        Parameters
        ----------
        x, y : float
            [pix].
        shape : tuple of int
            (ny, nx).

        Returns
        -------
        ndarray, shape (ny, nx)
        """


@dataclass(frozen=True, slots=True)
class Star:
    """A point source.

    Parameters
    ----------
    x, y : float
        Position in the array, 0-indexed, pixel centres at integers [pix].
    electron_rate : float
        All of its light [e-/s].
    """

    x: float
    y: float
    electron_rate: float


@dataclass(frozen=True, slots=True)
class Blemishes:
    """Pixels that are not what they should be; places are drawn at random in a ring around the star.

    Parameters
    ----------
    nan : int
        Dead pixels: NaN, flagged DO_NOT_USE.
    low : int
        Pixels below the background without a flag.
    jump : int
        Good pixels flagged JUMP_DET.
    hits : int
        Residual cosmic-ray hits without a flag.
    r_min, r_max : float
        Ring in which they lie [pix].
    low_depth : float
        How far a low pixel lies below the background, as a fraction of the star's count rate; at least 20 times the
        pixel's noise.
    hit_height : float
        How far a hit lies above what it covers, likewise.
    """

    nan: int = 0
    low: int = 0
    jump: int = 0
    hits: int = 0
    r_min: float = 5.0
    r_max: float = 16.0
    low_depth: float = 2e-3
    hit_height: float = 2e-3


@dataclass(frozen=True, slots=True)
class Scene:
    """All that is in an exposure.

    Parameters
    ----------
    shape : tuple of int
        (ny, nx)
    star : Star
        The standard star.
    readout : Readout
        Exposure times and noise of the detector.
    background : float
        At the array's centre [DN/s/pix].
    gradient : tuple of float
        Change of the background along x and y [DN/s/pix per pix].
    others : tuple of Star
        Further stars.
    blemishes : Blemishes
        Bad pixels.
    reference_border : tuple of int
        Reference pixels at the left, right, bottom and top edge.
    effects : Effects
        What the detector and the sky do beside.
    outputs : int
        Amplifiers that read the array.

    Raises
    ------
    ParameterError
        If more of the read noise is 1/f noise than there is.
    """

    shape: tuple[int, int]
    star: Star
    readout: Readout
    background: float = 0.0
    gradient: tuple[float, float] = (0.0, 0.0)
    others: tuple[Star, ...] = ()
    blemishes: Blemishes = field(default_factory=Blemishes)
    reference_border: tuple[int, int, int, int] = (0, 0, 0, 0)
    effects: Effects = field(default_factory=Effects)
    outputs: int = 1

    def __post_init__(self) -> None:
        if self.effects.one_over_f > np.sqrt(2) * self.readout.read_noise:
            raise ParameterError(
                f"one_over_f must be between 0 and the noise of a double sample, "
                f"{np.sqrt(2) * self.readout.read_noise:.1f} e-; got {self.effects.one_over_f:g}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class FixedPattern:
    """What is the same in every integration of an exposure.

    Parameters
    ----------
    nan, low, jump, hits : ndarray of int, shape (n, 2)
        Pixels as (y, x); no pixel has two blemishes.
    flat : ndarray, shape (ny, nx), or float
        Response after flat-fielding; 1 where the flat field is right.
    response, area : ndarray, shape (ny, nx), or float
        What a flat field knows: the pixels' response, and their area over the nominal one.
    added : ndarray, shape (ny, nx), or float
        Structure of the sky, and snowballs [DN/s].
    """

    nan: NDArray[np.int64]
    low: NDArray[np.int64]
    jump: NDArray[np.int64]
    hits: NDArray[np.int64]
    flat: Array | float = 1.0
    response: Array | float = 1.0
    area: Array | float = 1.0
    added: Array | float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedImage:
    """What the ramp fit writes, in DN/s, and the truth behind it.

    Parameters
    ----------
    data, err : ndarray of float32, shape (ny, nx)
        Count rate and its standard error [DN/s]; NaN where DO_NOT_USE.
    dq : ndarray of uint32, shape (ny, nx)
        Data-quality bits.
    var_poisson, var_rnoise, var_flat : ndarray of float32, shape (ny, nx)
        Variance by cause [(DN/s)^2].
    pattern : FixedPattern
        Where the blemishes are.
    """

    data: NDArray[np.float32]
    err: NDArray[np.float32]
    dq: NDArray[np.uint32]
    var_poisson: NDArray[np.float32]
    var_rnoise: NDArray[np.float32]
    var_flat: NDArray[np.float32]
    pattern: FixedPattern


def expected_image(scene: Scene, psf: PSF) -> Array:
    """Noise-free count rate without blemishes.

    Parameters
    ----------
    scene : Scene
        What is in the exposure.
    psf : object with ``render(x, y, shape)``
        Fraction of a star's light in each pixel.

    Returns
    -------
    ndarray, shape (ny, nx)
        [DN/s]
    """
    (ny, nx), effects = scene.shape, scene.effects
    dx, dy = np.arange(nx) - (nx - 1) / 2, np.arange(ny)[:, np.newaxis] - (ny - 1) / 2
    curved = 1.0 + effects.curvature * (dx**2 + dy**2)
    image = scene.background + scene.gradient[0] * dx + scene.gradient[1] * dy
    image = image * (curved * nature.pixel_area(scene.shape, effects.area_gradient))
    if effects.aspect != 1:
        psf = replace(psf, aspect=effects.aspect)  # type: ignore[type-var]
    for star in (scene.star, *scene.others):
        image += psf.render(star.x, star.y, scene.shape) * (star.electron_rate / scene.readout.gain)
    return image


def draw_pattern(scene: Scene, rng: np.random.Generator) -> FixedPattern:
    """Draw the places of the blemishes in the ring around the star, the flat field's error, sky and snowballs.

    Parameters
    ----------
    scene : Scene
        What is in the exposure.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    FixedPattern

    Raises
    ------
    ParameterError
        More blemishes than pixels in the ring.
    """
    blemishes = scene.blemishes
    counts = (blemishes.nan, blemishes.low, blemishes.jump, blemishes.hits)
    y, x = np.indices(scene.shape, sparse=True)
    distance = np.hypot(x - scene.star.x, y - scene.star.y)
    inside = (distance >= blemishes.r_min) & (distance <= blemishes.r_max) & ~_reference_pixels(scene)
    candidates = np.argwhere(inside)
    if sum(counts) > len(candidates):
        raise ParameterError(
            f"{sum(counts)} bad pixels do not fit into the {len(candidates)} pixels between "
            f"{blemishes.r_min:g} and {blemishes.r_max:g} pix of the star"
        )
    chosen = candidates[rng.choice(len(candidates), sum(counts), replace=False)] if sum(counts) else candidates[:0]
    effects, shape = scene.effects, scene.shape
    flat = 1.0 + effects.flat_error * nature.smooth_noise(shape, rng, effects.flat_scale) if effects.flat_error else 1.0
    added: Array | float = 0.0
    if effects.structure:
        added = scene.background * (effects.structure * nature.smooth_noise(shape, rng, _STRUCTURE_SCALE))
    for _ in range(effects.snowballs):
        angle, far = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(blemishes.r_min**2, blemishes.r_max**2))
        at = scene.star.x + far * np.cos(angle), scene.star.y + far * np.sin(angle)
        added = added + nature.snowball(shape, *at, effects) / scene.readout.gain
    nan, low, jump, hits = np.split(chosen, np.cumsum(counts)[:-1])
    response = 1.0 if effects.response is None else effects.response
    return FixedPattern(nan, low, jump, hits, flat, response, nature.pixel_area(shape, effects.area_gradient), added)


def simulate_image(
    scene: Scene,
    psf: PSF,
    rng: np.random.Generator,
    *,
    noise: bool = True,
    expected: Array | None = None,
    pattern: FixedPattern | None = None,
) -> SimulatedImage:
    """Simulate the count rate of an exposure, its variances and flags.

    The electrons of a pixel, counted over `Readout.slope_time`, are a Poisson draw of the star and the background; the
    read noise of the slope is normal with the variance `Readout.read_variance`, which is VAR_RNOISE. VAR_POISSON is
    estimated as the ramp fit does it: from the measured slope, not from the true one, and 0 where that is negative.
    Its mean is the variance of the draw (and above it only where the read noise exceeds the signal, where VAR_RNOISE
    dominates), so pulls have mean 0 and standard deviation 1 as far as those of a real exposure. Without noise, the
    variances are those of the true rate.

    Parameters
    ----------
    scene : Scene
        What is in the exposure.
    psf : object with ``render(x, y, shape)``
        Fraction of a star's light in each pixel.
    rng : numpy.random.Generator
        Source of chance, for the places of the blemishes first, then for the noise.
    noise : bool
        Whether to draw noise.
    expected : ndarray, shape (ny, nx), optional
        `expected_image` of the scene, where it is at hand (many realisations of one scene).
    pattern : FixedPattern, optional
        Where the blemishes are; drawn by default.

    Returns
    -------
    SimulatedImage

    Raises
    ------
    ParameterError
        More blemishes than pixels in their ring.
    """
    expected = expected_image(scene, psf) if expected is None else expected
    pattern = draw_pattern(scene, rng) if pattern is None else pattern
    readout, effects = scene.readout, scene.effects
    seen = nature.migrated(
        (expected + pattern.added) * pattern.response * pattern.flat, readout.integration_time, effects.migration
    )
    image = _draw_noise(seen, scene, rng) if noise else seen.copy()
    var_poisson = np.maximum(image, 0) / (readout.gain * readout.slope_time)
    var_flat = np.square((0.0 if effects.flat_unstated else effects.flat_error) * image)
    variance = var_poisson + var_flat + readout.read_variance
    blemishes, star_rate = scene.blemishes, scene.star.electron_rate / readout.gain
    low, hits = tuple(pattern.low.T), tuple(pattern.hits.T)
    image[low] = scene.background - np.maximum(blemishes.low_depth * star_rate, 20 * np.sqrt(variance[low]))
    image[hits] += np.maximum(blemishes.hit_height * star_rate, 20 * np.sqrt(variance[hits]))
    dq = _reference_pixels(scene) * np.uint32(DO_NOT_USE | REFERENCE_PIXEL)
    dq[tuple(pattern.nan.T)] |= np.uint32(DO_NOT_USE)
    dq[tuple(pattern.jump.T)] |= np.uint32(JUMP_DET)
    # a slope takes two groups below the full well
    saturated = expected * readout.gain * 2 * readout.group_time > readout.full_well
    dq[saturated] |= np.uint32(DO_NOT_USE | SATURATED)
    layers = (image, np.sqrt(variance), var_poisson, np.full(scene.shape, readout.read_variance), var_flat)
    data, err, photons, reads, flat = (np.where(dq & DO_NOT_USE, np.nan, layer).astype(np.float32) for layer in layers)
    return SimulatedImage(data, err, dq, photons, reads, flat, pattern)


def simulate_integrations(
    scene: Scene, psf: PSF, rng: np.random.Generator, *, noise: bool = True, pattern: FixedPattern | None = None
) -> list[SimulatedImage]:
    """Simulate each integration of an exposure; the blemishes are the same in all of them.

    Parameters
    ----------
    scene : Scene
        What is in the exposure; ``scene.readout.nints`` integrations are made.
    psf, rng, noise, pattern
        As for `simulate_image`.

    Returns
    -------
    list of SimulatedImage
    """
    expected = expected_image(scene, psf)
    pattern = draw_pattern(scene, rng) if pattern is None else pattern
    single = replace(scene, readout=replace(scene.readout, nints=1))
    same: dict[str, Any] = {"noise": noise, "expected": expected, "pattern": pattern}
    return [simulate_image(single, psf, rng, **same) for _ in range(scene.readout.nints)]


def average(integrations: Sequence[SimulatedImage]) -> SimulatedImage:
    """Average the integrations of an exposure, as the ramp fit does for `_rate`.

    Parameters
    ----------
    integrations : sequence of SimulatedImage
        Of one exposure, all with the same flags.

    Returns
    -------
    SimulatedImage
    """

    def mean(name: str) -> NDArray[np.float32]:
        layers = np.array([getattr(image, name) for image in integrations])
        return np.asarray(layers.mean(axis=0, dtype=np.float64).astype(np.float32))

    number, first = np.float32(len(integrations)), integrations[0]
    photons, reads = mean("var_poisson") / number, mean("var_rnoise") / number
    flat = mean("var_flat")  # the same in every integration: it does not average out
    return SimulatedImage(mean("data"), np.sqrt(photons + reads + flat), first.dq, photons, reads, flat, first.pattern)


def _draw_noise(expected: Array, scene: Scene, rng: np.random.Generator) -> Array:
    """Draw photons and read noise; the image that is expected is what the detector shows already."""
    electrons_per_rate = scene.readout.gain * scene.readout.slope_time  # [e- per DN/s]
    image = rng.poisson(np.maximum(expected, 0) * electrons_per_rate) / electrons_per_rate
    if scene.effects.ipc:
        image = expected + nature.with_ipc(image - expected)
    share = scene.effects.one_over_f / (np.sqrt(2) * scene.readout.read_noise)
    read = rng.normal(scale=np.sqrt(1 - share**2), size=scene.shape)
    if share:
        read += share * nature.line_noise(scene.shape, rng, fast_axis=scene.effects.fast_axis, outputs=scene.outputs)
    return image + np.sqrt(scene.readout.read_variance) * read


def _reference_pixels(scene: Scene) -> Mask:
    left, right, bottom, top = (0, 0, 0, 0) if scene.effects.no_reference_pixels else scene.reference_border
    ny, nx = scene.shape
    mask = np.ones(scene.shape, dtype=bool)
    mask[bottom : ny - top, left : nx - right] = False
    return mask
