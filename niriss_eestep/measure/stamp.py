"""What a measurement takes: the stamp around the star, all that is kept of an exposure; and how to measure it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.errors import ParameterError

#: what the options of `EEOptions` that are words may be
CHOICES = {
    "background_method": ("annulus", "constant", "none"),
    "bad_pixel_method": ("surface", "median", "psf", "none"),
    "centroid_method": ("com", "quadratic", "1dg", "2dg"),
    "destripe": ("none", "rows", "columns", "both"),
}

#: diagonal of the detector's 2048x2048 pixels, rounded up [pix]
REACH_MAX = 2900.0

#: side of the box around a bad pixel that repairs it [pix] (method of CAP-020, 2021)
BOX = 7


@dataclass(frozen=True, slots=True, eq=False)
class Stamp:
    """The pixels around the star, in DN/s, and what is needed to measure them.

    Coordinates are 0-indexed pixels of the exposure's own array (a subarray's, where it is one); pixel centres are
    integers.

    Parameters
    ----------
    name : str
        Name of the exposure, for messages.
    image : ndarray, shape (ny, nx)
        Count rate of each pixel [DN/s].
    variance : ndarray, shape (ny, nx)
        Variance of ``image`` [(DN/s)^2], all terms added.
    dq : ndarray of uint32, shape (ny, nx)
        Data-quality bits.
    bad : ndarray of bool, shape (ny, nx)
        Pixels that cannot be used: one of the chosen DQ bits, or no finite value or variance.
    x, y : float
        First position of the star [pix].
    x_origin, y_origin : int
        Position of the stamp's first pixel in the exposure's array [pix].
    pixel_scale : float
        Mean pixel scale [arcsec/pix].
    gain : float
        Gain [e-/DN].
    photmjsr : float or None
        Flux calibration of the exposure [MJy/sr per DN/s]; None where the exposure has none.
    warnings : tuple of str
        What was odd about the exposure, for its status.
    flat_variance : ndarray, shape (ny, nx), optional
        The flat field's part of ``variance``, the same in all integrations of an exposure [(DN/s)^2]; None where that
        is not known.
    flat_scale : float
        Scale over which the flat field's error is correlated [pix].
    photon_variance : ndarray, shape (ny, nx), optional
        The photons' part of ``variance`` [(DN/s)^2]; None where that is not known.
    resampled : bool
        Whether the pixels are not the detector's: what they share is then the resampling's, not the detector's noise.
    unexplained : ndarray of bool, shape (ny, nx), optional
        Pixels of ``bad`` that no flag tells and no star explains; None where there are none.

    Raises
    ------
    ParameterError
        If arrays differ in shape, or gain or pixel scale is not positive.

    Examples
    --------
    >>> image = np.full((71, 71), 0.5)
    >>> bad = np.zeros(image.shape, dtype=bool)
    >>> stamp = Stamp("flat", image, 0.01 * image, bad.astype("u4"), bad, 35.0, 35.0, 0, 0, 0.0656, 1.61)
    >>> stamp.warnings
    ()
    """

    name: str
    image: Array
    variance: Array
    dq: NDArray[np.uint32]
    bad: Mask
    x: float
    y: float
    x_origin: int
    y_origin: int
    pixel_scale: float
    gain: float
    photmjsr: float | None = None
    warnings: tuple[str, ...] = ()
    flat_variance: Array | None = None
    flat_scale: float = 0.0
    photon_variance: Array | None = None
    resampled: bool = False
    unexplained: Mask | None = None

    def __post_init__(self) -> None:
        shape = self.image.shape
        if self.image.ndim != 2 or 0 in shape:
            raise ParameterError(f"{self.name}: image must be two-dimensional and not empty, got shape {shape}")
        for label in ("variance", "dq", "bad", "flat_variance", "photon_variance"):
            array = getattr(self, label)
            if array is not None and array.shape != shape:
                raise ParameterError(f"{self.name}: {label} has shape {array.shape}, the image has {shape}")
        for label in ("pixel_scale", "gain"):
            if not 0 < getattr(self, label) < np.inf:
                raise ParameterError(f"{self.name}: {label} must be positive and finite, got {getattr(self, label)}")


#: its former name
StarExposure = Stamp


def check_radii(radii: Sequence[float], name: str = "radii") -> Array:
    """Check radii that a user gave.

    Parameters
    ----------
    radii : sequence of float
        [pix].
    name : str
        The parameter's name, for the message.

    Returns
    -------
    ndarray, shape (n_radii,)

    Raises
    ------
    ParameterError
        If they are not numbers, not positive, not strictly increasing, or larger than the detector.

    Examples
    --------
    >>> check_radii([3, 5, 10])
    array([ 3.,  5., 10.])
    """
    try:
        values = np.atleast_1d(np.array(radii, dtype=float))
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} must be numbers [pix], got {radii!r}") from error
    if values.ndim != 1 or values.size == 0 or not np.all(np.isfinite(values)) or np.any(values <= 0):
        raise ParameterError(f"{name} must be one or more positive, finite numbers [pix], got {radii!r}")
    if np.any(np.diff(values) <= 0):
        raise ParameterError(f"{name} must increase strictly [pix], got {radii!r}")
    if values[-1] > REACH_MAX:
        raise ParameterError(f"{name} must not reach beyond {REACH_MAX:g} pix, the detector's diagonal; got {radii!r}")
    return values


@dataclass(frozen=True, slots=True)
class EEOptions:
    """How to measure an EE profile; the parameters of the step, in the method's order.

    Parameters
    ----------
    radii : tuple of float
        Aperture radii [pix].
    background_skip, background_width : float
        The sky annulus begins this far beyond the largest radius, and is this wide [pix].
    background_method : {'annulus', 'constant', 'none'}
        Where the background comes from.
    background_value, background_value_err : float
        The constant background and its standard error [DN/s/pix].
    bad_pixel_method : {'surface', 'median', 'psf', 'none'}
        What to put in the place of bad pixels between the core and the largest radius.
    repair_low : bool
        Treat pixels below background - ``low_sigma`` standard deviations as bad; 'median' does so by itself.
    low_sigma : float
        How low that is [standard deviations of the annulus's pixels].
    repair_core : bool
        Allow the model PSF to replace bad pixels in the core.
    repair_core_max : float
        ... where they hold this share of the star's light at most.
    core_radius : float
        Bad pixels within it are replaced by the model PSF, or by nothing [pix].
    centroid_method : {'com', 'quadratic', '1dg', '2dg'}
        Centre of mass, or photutils' ``centroid_*`` of that name.
    centroid_box : int
        Side of the box that the centroid is measured in, an odd number [pix].
    search_radius : float
        The star is looked for within this distance of the first position [pix].
    max_shift : float
        A centroid further from the first position is worth a warning [pix].
    flat_err : float
        Fractional error of a pixel's response, where the exposure does not state it.
    flat_err_scale : float
        The errors of the response of two pixels d apart have a correlation of exp(-d^2 / 2 scale^2) [pix].
    destripe : {'none', 'rows', 'columns', 'both'}
        Lines whose mean noise, by their sky pixels, is taken out.

    Attributes
    ----------
    sky_radii : (float, float)
        Of the sky annulus [pix].
    half_size : int
        Half the size of the stamp: the annulus, the search for the star, and the repair of its edge [pix].

    Raises
    ------
    ParameterError
        Naming the option, if a value is impossible or two of them do not go together.

    Examples
    --------
    >>> EEOptions(radii=(2, 5, 10), background_skip=10).sky_radii
    (20.0, 25.0)
    """

    radii: tuple[float, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15)
    background_skip: float = 5.0
    background_width: float = 5.0
    background_method: str = "annulus"
    background_value: float = 0.0
    background_value_err: float = 0.0
    bad_pixel_method: str = "surface"
    repair_low: bool = False
    low_sigma: float = 3.0
    repair_core: bool = True
    repair_core_max: float = 0.6
    core_radius: float = 5.0
    centroid_method: str = "com"
    centroid_box: int = 7
    search_radius: float = 5.0
    max_shift: float = 3.0
    flat_err: float = 0.0
    flat_err_scale: float = 0.0
    destripe: str = "none"
    sky_radii: tuple[float, float] = field(init=False)
    half_size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "radii", tuple(float(r) for r in check_radii(self.radii)))
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ParameterError(f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}")
        if self.centroid_box < 3 or self.centroid_box % 2 == 0:
            raise ParameterError(f"centroid_box must be an odd number of pixels, 3 or more; got {self.centroid_box}")
        positive = ("background_width", "low_sigma", "core_radius", "search_radius", "repair_core_max")
        for name in (*positive, "background_skip", "background_value_err", "max_shift", "flat_err", "flat_err_scale"):
            value = getattr(self, name)
            if not np.isfinite(value) or value < 0 or (name in positive and value == 0):
                least = "positive" if name in positive else "zero or more"
                raise ParameterError(f"{name} must be {least} and finite, got {value}")
        inner, outer = (max(self.radii) + self.background_skip + width for width in (0.0, self.background_width))
        check_radii([self.search_radius], "search_radius")
        check_radii([outer], "the sky annulus")
        if self.repair_low and self.background_method != "annulus":
            raise ParameterError("repair_low needs the scatter of a sky annulus: use background_method='annulus'")
        if not np.isfinite(self.background_value):
            raise ParameterError(f"background_value must be finite [DN/s/pix], got {self.background_value}")
        if self.centroid_box > 2 * inner:
            raise ParameterError(f"centroid_box must end before the annulus at {inner:g} pix, got {self.centroid_box}")
        object.__setattr__(self, "sky_radii", (inner, outer))
        object.__setattr__(self, "half_size", int(outer + self.search_radius + BOX // 2) + 2)


#: options that decide where the star is, its sky, and the errors
PLACING = (
    "centroid_method", "centroid_box", "search_radius", "core_radius", "repair_core", "sky_radii",
    "background_method", "background_value", "background_value_err", "flat_err", "flat_err_scale", "destripe",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SBOptions:
    """How to measure an SB profile; the parameters of the step.

    Parameters
    ----------
    radii : tuple of float
        Mid-radii of the annuli [pix].
    half_width : float
        Half their width [pix].
    clip_low : bool
        Leave out pixels outside the core that lie below background - ``low_sigma`` standard deviations.
    low_sigma : float
        How low that is [standard deviations of the sky annulus's pixels].
    core_radius : float
        Pixels within it are never left out as low [pix].
    background_inner, background_width : float
        Inner radius and width of the sky annulus [pix]; by default that of the EE profile.
    centroid_method, centroid_box, search_radius, flat_err, flat_err_scale
        As for `EEOptions`.

    Attributes
    ----------
    shared : EEOptions
        What finding the star and its sky needs, as for an EE profile.
    half_size : int
        Half the size of the stamp: the outermost annulus and the search for the star [pix].

    Raises
    ------
    ParameterError
        Naming the option, if a value is impossible or two of them do not go together.
    """

    radii: tuple[float, ...] = (5, 9, 13, 17, 21, 25)
    half_width: float = 2.0
    clip_low: bool = True
    low_sigma: float = 3.0
    core_radius: float = 5.0
    background_inner: float = 20.0
    background_width: float = 5.0
    centroid_method: str = "com"
    centroid_box: int = 7
    search_radius: float = 5.0
    flat_err: float = 0.0
    flat_err_scale: float = 0.0
    shared: EEOptions = field(init=False)
    half_size: int = field(init=False)

    def __post_init__(self) -> None:
        radii = check_radii(self.radii)
        object.__setattr__(self, "radii", tuple(float(r) for r in radii))
        if not 0 < self.half_width <= radii[0]:
            raise ParameterError(f"half_width must be positive, at most radii[0]={radii[0]:g}, got {self.half_width}")
        check_radii([self.background_inner], "background_inner")
        ee, sb = ({each.name for each in fields(kind) if each.init} for kind in (EEOptions, SBOptions))
        shared = {name: getattr(self, name) for name in ee & sb - {"radii"}}
        object.__setattr__(self, "shared", EEOptions(radii=(self.background_inner,), background_skip=0.0, **shared))
        outer = max(self.background_inner + self.background_width, radii[-1] + self.half_width)
        object.__setattr__(self, "half_size", int(outer + self.search_radius) + 3)
