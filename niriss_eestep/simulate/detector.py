"""NIRISS imaging as the simulator needs it: subarrays, read-out, sky, file names, and how an exposure is taken."""

import math
from dataclasses import dataclass
from functools import cached_property

from niriss_eestep.errors import ParameterError
from niriss_eestep.instrument import DETECTOR_SIZE, FILTERS, FULL_WELL, GAIN, filter_facts

#: Noise of a single read [e-]; correlated double sampling gives about 16 e- (JDox, NIRISS detector performance).
READ_NOISE = 11.5
#: groups in an integration that is chosen, at most
MAX_GROUPS = 100
# Sky seen away from the ecliptic, zodiacal light and the telescope's own glow [MJy/sr]; rounded, only the order of
# magnitude matters for the noise.
_SKY_MJYSR = dict(zip(FILTERS, (0.20, 0.20, 0.18, 0.18, 0.17, 0.15, 0.10, 0.11, 0.14, 0.22, 0.28, 0.45), strict=True))

_REFERENCE_PIXELS = 4  # rows and columns of reference pixels at each edge of the detector
#: pixel times between two lines (JDox, NIRISS detector subarrays)
LINE_OVERHEAD = 12
_PIXEL_TIME = 1e-5  # time to read one pixel [s]


@dataclass(frozen=True)
class Subarray:
    """A read-out region of the NIRISS detector, in the science frame.

    Parameters
    ----------
    name : str
        Header keyword SUBARRAY.
    size : int
        Pixels along each axis.
    start : int
        First pixel along each axis, 1-indexed (SUBSTRT1 and SUBSTRT2 are equal for these).
    v2, v3 : float
        Telescope coordinates of the region's centre [arcsec].
    """

    name: str
    size: int
    start: int
    v2: float
    v3: float

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of an image, (ny, nx)."""
        return self.size, self.size

    @property
    def centre(self) -> float:
        """Centre along each axis, 0-indexed [pix]; where the aperture puts its target."""
        return (self.size - 1) / 2

    @property
    def noutputs(self) -> int:
        """Amplifiers that read the region."""
        return 4 if self.size == DETECTOR_SIZE else 1

    @cached_property
    def frame_time(self) -> float:
        """Time to read the region once [s].

        Each row costs 12 pixel times more than its pixels; a frame costs one more row with four amplifiers, two more
        with one (JDox, NIRISS detector subarrays).
        """
        extra_rows = 1 if self.noutputs == 4 else 2
        return (self.size // self.noutputs + LINE_OVERHEAD) * (self.size + extra_rows) * _PIXEL_TIME

    @property
    def reference_border(self) -> tuple[int, int, int, int]:
        """Reference pixels at the left, right, bottom and top edge of the image."""
        low = max(0, _REFERENCE_PIXELS - self.start + 1)
        high = max(0, self.start + self.size - 1 - (DETECTOR_SIZE - _REFERENCE_PIXELS))
        return low, high, low, high


# Origins and reference points: SIAF, apertures NIS_CEN, NIS_SUB64, NIS_SUB128 and NIS_SUB256. The three small ones
# share the detector's corner at (1, 1), which is (2048, 2048) in the science frame.
SUBARRAYS = {
    "SUB64": Subarray("SUB64", 64, 1985, -354.334301, -631.837483),
    "SUB128": Subarray("SUB128", 128, 1921, -352.261530, -633.954407),
    "SUB256": Subarray("SUB256", 256, 1793, -348.116230, -638.188336),
    "FULL": Subarray("FULL", 2048, 1, -290.1, -697.5),
}


@dataclass(frozen=True, slots=True)
class Readout:
    """How the detector is read: sets the noise of a fitted slope.

    Parameters
    ----------
    group_time : float
        Time between groups [s].
    ngroups, nints : int
        Groups in an integration, integrations in an exposure.
    gain : float
        [e-/DN]
    read_noise : float
        Noise of a single read [e-].
    full_well : float
        Charge at which a pixel saturates [e-].

    Raises
    ------
    ParameterError
        Fewer than two groups, no integration, or a quantity that is not positive.
    """

    group_time: float
    ngroups: int
    nints: int
    gain: float = GAIN
    read_noise: float = READ_NOISE
    full_well: float = FULL_WELL

    def __post_init__(self) -> None:
        if self.ngroups < 2 or self.nints < 1:
            raise ParameterError(f"a slope needs ngroups >= 2 and nints >= 1, got {self.ngroups} and {self.nints}")
        for label in ("group_time", "gain", "full_well"):
            if not getattr(self, label) > 0:
                raise ParameterError(f"{label} must be positive, got {getattr(self, label)}")

    @property
    def integration_time(self) -> float:
        """EFFINTTM [s]."""
        return self.group_time * self.ngroups

    @property
    def exposure_time(self) -> float:
        """EFFEXPTM [s]."""
        return self.integration_time * self.nints

    def duration(self, subarray: Subarray) -> float:
        """Time from start to end [s]; each integration starts with a reset, which takes a frame.

        Parameters
        ----------
        subarray : Subarray

        Returns
        -------
        float
        """
        return self.exposure_time + self.nints * subarray.frame_time

    @property
    def slope_time(self) -> float:
        """Time over which the photons of a slope are counted, all integrations [s].

        From the first group to the last: what the ramp fit divides by for its Poisson variance.
        """
        return self.group_time * (self.ngroups - 1) * self.nints

    @property
    def read_variance(self) -> float:
        """Variance of a slope from the read noise, as the ramp fit reports it [(DN/s)^2].

        A straight line through n equally spaced reads of noise R: 12 R^2 / ((n^3 - n) t_group^2).
        """
        noise = self.read_noise / self.gain
        return 12 * noise**2 / ((self.ngroups**3 - self.ngroups) * self.group_time**2) / self.nints


@dataclass(frozen=True, slots=True)
class ExposureName:
    """What an exposure's file name says.

    Parameters
    ----------
    program, observation, visit_group, exposure : int
        As in jw<program><observation>001_<group>101_<exposure>_nis: each observation is one visit.
    """

    program: int
    observation: int = 1
    visit_group: int = 2
    exposure: int = 1

    @property
    def visit_id(self) -> str:
        """Program, observation and visit."""
        return f"{self.program:05d}{self.observation:03d}001"

    @property
    def root(self) -> str:
        """File name without product suffix."""
        return f"jw{self.visit_id}_{self.visit_group:02d}101_{self.exposure:05d}_nis"


@dataclass(frozen=True, slots=True)
class Target:
    """What is observed.

    Parameters
    ----------
    name : str
        TARGPROP and TARGNAME.
    ra, dec : float
        ICRS [deg].
    """

    name: str
    ra: float
    dec: float


@dataclass(frozen=True, slots=True)
class ExposureSetup:
    """How an exposure is taken: what its header says.

    Parameters
    ----------
    name : ExposureName
        Where it belongs.
    target : Target
        The standard star.
    filter_name : str
        F090W ... F480M.
    subarray : Subarray
        Region that is read.
    readout : Readout
        Groups, integrations and times.
    header_x, header_y : float
        Pixel to which the header's WCS maps the target, 0-indexed.
    roll : float
        Position angle of V3 at the aperture [deg].
    start : float
        Start of the exposure [MJD, UTC].
    dither, n_dithers : int
        Number of this dither, counted from 1, and of all.
    offset : tuple of float
        Commanded dither offset along x and y [arcsec].
    """

    name: ExposureName
    target: Target
    filter_name: str
    subarray: Subarray
    readout: Readout
    header_x: float
    header_y: float
    roll: float = 45.0
    start: float = 59700.0
    dither: int = 1
    n_dithers: int = 1
    offset: tuple[float, float] = (0.0, 0.0)


def get_subarray(name: str) -> Subarray:
    """Look a subarray up by its name.

    Parameters
    ----------
    name : str
        One of `SUBARRAYS`, in any case.

    Returns
    -------
    Subarray

    Raises
    ------
    ParameterError
        The name is not among them.
    """
    try:
        return SUBARRAYS[name.upper()]
    except KeyError:
        raise ParameterError(f"subarray {name!r} is not among {', '.join(SUBARRAYS)}") from None


def sky_background(filter_name: str) -> float:
    """Typical sky in a filter.

    Parameters
    ----------
    filter_name : str
        F090W ... F480M.

    Returns
    -------
    float
        [DN/s/pix]

    Raises
    ------
    ParameterError
        Not an imaging filter of NIRISS.
    """
    facts = filter_facts(filter_name)
    return _SKY_MJYSR[facts.name] / facts.photmjsr


def choose_readout(
    subarray: Subarray, *, peak_rate: float, star_rate: float, electrons: float = 1e6, max_time: float = 1000.0
) -> Readout:
    """Choose an exposure that keeps the star's core below 60 % of the full well and collects enough of its light.

    Parameters
    ----------
    subarray : Subarray
        Sets the time of a group (read-out pattern NISRAPID: one frame).
    peak_rate : float
        Rate of the brightest pixel [e-/s].
    star_rate : float
        Rate of the whole star [e-/s].
    electrons : float
        Electrons to collect [e-].
    max_time : float
        Exposure time at most [s], unless one integration takes longer.

    Returns
    -------
    Readout
        With two groups where the star saturates even so: its core will be flagged.
    """
    time = subarray.frame_time
    unsaturated = math.floor(0.6 * FULL_WELL / (peak_rate * time)) if peak_rate > 0 else MAX_GROUPS
    wanted = math.ceil(electrons / (star_rate * time)) + 1 if star_rate > 0 else 2
    ngroups = max(2, min(unsaturated, wanted, MAX_GROUPS, math.ceil(max_time / time)))
    per_integration = star_rate * time * (ngroups - 1)
    nints = math.ceil(electrons / per_integration) if per_integration > 0 else 1
    return Readout(time, ngroups, max(1, min(nints, math.floor(max_time / (time * ngroups)))))
