"""A whole standard-star program: filters, subarrays and dithers, with the star's spectrum and the truth beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from niriss_eestep.errors import ParameterError
from niriss_eestep.flux.synthetic import StandardSpectrum, blackbody_spectrum, expected_rate
from niriss_eestep.instrument import FILTERS, GAIN, PIXEL_SCALE, SATURATED, filter_facts
from niriss_eestep.simulate import detector, scene
from niriss_eestep.simulate.effects import Effects, seen_in

if TYPE_CHECKING:  # planning does without
    from astropy.table import Table

# Filters of the commissioning program by subarray: 33 groups, 66 exposures with two dithers
COMMISSIONING = (
    *((name, "SUB64") for name in ("F115W", "F150W", "F200W")),
    *((name, "SUB128") for name in FILTERS),
    *((name, "SUB256") for name in FILTERS),
    *((name, "FULL") for name, facts in FILTERS.items() if facts.wheel == "filter"),
)
PSFs = Mapping[str, scene.PSF]  #: by filter
KINDS = ("rate", "rateints", "cal")
TRUTH_FILE = "truth.ecsv"
_CLEAR_RADIUS = 30.0  # no other star nearer to the standard [pix]
_MAX_DITHER = 20.0  # largest dither offset along an axis [pix]; a twentieth of the array where that is less
_OVERHEAD = 120.0  # from the end of an exposure to the start of the next [s]
_SECONDS_PER_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class StandardStar(detector.Target):
    """A standard star, simulated as a black body.

    Parameters
    ----------
    name : str
        As in TARGPROP.
    ra, dec : float
        ICRS [deg].
    temperature : float
        Of the black body [K].
    v_mag : float
        Johnson V.

    Raises
    ------
    ParameterError
        Coordinates off the sphere.
    """

    temperature: float
    v_mag: float

    def __post_init__(self) -> None:
        if not (0 <= self.ra < 360 and -90 <= self.dec <= 90):
            raise ParameterError(f"{self.name} must be at 0 to 360 and -90 to 90 deg, not {self.ra}, {self.dec}")


# Coordinates: SIMBAD, J2000; temperature and V: CALSPEC's table of standards, rounded
STARS = {
    star.name: star
    for star in (
        StandardStar("WD1057+719", 165.142679, 71.634147, 42000.0, 14.8),
        StandardStar("LDS749B", 323.067741, 0.254008, 13575.0, 14.67),
        StandardStar("P330E", 247.890883, 30.146186, 5840.0, 13.03),
        StandardStar("BD+60 1753", 261.217822, 60.430817, 9370.0, 9.65),
    )
}


@dataclass(frozen=True, slots=True)
class Program:
    """What to simulate.

    Parameters
    ----------
    groups : tuple of (str, str)
        Filter and subarray of each group.
    n_dithers : int
        Exposures in a group.
    star : StandardStar
        What is observed.
    spectrum : StandardSpectrum, optional
        Its spectrum; a black body by default.
    blemishes : Blemishes
        Bad pixels of each exposure.
    ratio : mapping of str to float
        True over predicted electron rate by filter, 1 where not given: what the calibration should find.
    background : float, optional
        [DN/s/pix]; a typical sky in each filter by default.
    gradient : tuple of float
        Change of the background along x and y [DN/s/pix per pix].
    n_stars : int
        Other stars in the field.
    effects : Effects
        Effects of the detector and the sky.
    noise : bool
        Whether to draw noise.
    pointing_error : float
        Standard deviation, along each axis, of the star's position about the header's WCS [pix].
    electrons : float
        Electrons of the star that an exposure should collect [e-].
    seed : int
        Equal seeds give equal files.
    number : int
        Program number.
    roll : float
        Position angle of V3 [deg].
    start : float
        Start of the first exposure [MJD, UTC].

    Raises
    ------
    ParameterError
        No group, an unknown filter or subarray, or a quantity out of its range.
    """

    groups: tuple[tuple[str, str], ...]
    n_dithers: int = 2
    star: StandardStar = STARS["WD1057+719"]
    spectrum: StandardSpectrum | None = None
    blemishes: scene.Blemishes = field(default_factory=scene.Blemishes)
    ratio: Mapping[str, float] = field(default_factory=dict)
    background: float | None = None
    gradient: tuple[float, float] = (0.0, 0.0)
    n_stars: int = 0
    effects: Effects = field(default_factory=Effects)
    noise: bool = True
    pointing_error: float = 0.3
    electrons: float = 1e6
    seed: int = 1
    number: int = 1094
    roll: float = 45.0
    start: float = 59700.0

    def __post_init__(self) -> None:
        if not self.groups:
            raise ParameterError("a program needs at least one filter and subarray")
        for filter_name, subarray in self.groups:
            filter_facts(filter_name)
            detector.get_subarray(subarray)
        least_of = {"n_dithers": 1, "number": 1, "electrons": 1, "n_stars": 0, "seed": 0, "pointing_error": 0}
        for label, least in least_of.items():
            if not getattr(self, label) >= least:
                raise ParameterError(f"{label} must be {least} or more, got {getattr(self, label)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedExposure(detector.ExposureSetup):
    """An exposure of a program, before it is drawn: what its header says, and the truth.

    Parameters
    ----------
    index : int
        Position in the program; with the seed it fixes all that is random.
    x, y : float
        Position of the star, 0-indexed in the subarray [pix].
    electron_rate, expected_electron_rate : float
        True, and predicted from spectrum and throughput [e-/s].
    background : float
        [DN/s/pix]
    """

    index: int
    x: float
    y: float
    electron_rate: float
    expected_electron_rate: float
    background: float


def combinations(filters: Sequence[str], subarrays: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """All pairs of filters and subarrays, subarray by subarray.

    Parameters
    ----------
    filters, subarrays : sequence of str
        Names, in any case.

    Returns
    -------
    tuple of (filter, subarray)

    Raises
    ------
    ParameterError
        An unknown name.
    """
    names = [filter_facts(name).name for name in filters]
    return tuple((name, detector.get_subarray(subarray).name) for subarray in subarrays for name in names)


def standard_star(name: str) -> StandardStar:
    """Look up a star that the simulator knows.

    Parameters
    ----------
    name : str
        One of `STARS`, whatever the case and blanks.

    Returns
    -------
    StandardStar

    Raises
    ------
    ParameterError
        The star is not among them.
    """
    for star in STARS.values():
        if "".join(name.split()).upper() == "".join(star.name.split()).upper():
            return star
    raise ParameterError(f"target {name!r} is not among {', '.join(STARS)}; give coordinates, temperature, V magnitude")


def plan_exposures(program: Program, expected: Mapping[str, float], psfs: PSFs) -> list[PlannedExposure]:
    """Lay out the exposures of a program: an observation for each subarray, in it a visit group for each filter.

    Parameters
    ----------
    program : Program
        What to simulate.
    expected : mapping of str to float
        Predicted electron rate by filter [e-/s].
    psfs : mapping of str to object with ``render``
        PSF by filter; sets how fast the brightest pixel fills.

    Returns
    -------
    list of PlannedExposure
    """
    observations = list(dict.fromkeys(subarray for _, subarray in program.groups))
    visit_groups: Counter[str] = Counter()
    planned: list[PlannedExposure] = []
    start = program.start
    for filter_name, name in program.groups:
        visit_groups[name] += 1
        subarray, rate = detector.get_subarray(name), expected[filter_name] * program.ratio.get(filter_name, 1.0)
        peak_rate = rate * float(psfs[filter_name].render(4.0, 4.0, (9, 9)).max())
        readout = detector.choose_readout(subarray, peak_rate=peak_rate, star_rate=rate, electrons=program.electrons)
        background = detector.sky_background(filter_name) if program.background is None else program.background
        group: dict[str, Any] = {"target": program.star, "filter_name": filter_name, "subarray": subarray}
        group |= {"readout": readout, "roll": program.roll, "n_dithers": program.n_dithers, "background": background}
        group |= {"electron_rate": rate, "expected_electron_rate": expected[filter_name]}
        for dither in range(1, program.n_dithers + 1):
            observation = 1 + observations.index(name)
            label = detector.ExposureName(program.number, observation, 2 * visit_groups[name], exposure=dither)
            place = _draw_position(program, len(planned), subarray)
            own: dict[str, Any] = {"name": label, "index": len(planned), "dither": dither, "start": start}
            planned.append(PlannedExposure(**own, **place, **group))
            start += (readout.duration(subarray) + _OVERHEAD) / _SECONDS_PER_DAY
    return planned


def scene_of(planned: PlannedExposure, program: Program) -> scene.Scene:
    """Make the scene of a planned exposure.

    Parameters
    ----------
    planned : PlannedExposure
        From `plan_exposures`.
    program : Program
        It belongs to.

    Returns
    -------
    Scene

    Raises
    ------
    ParameterError
        If the response has another shape than the detector and the subarray.
    """
    subarray, share = planned.subarray, program.effects.persistence
    others = _draw_other_stars(planned, program)
    if share and planned.dither > 1:  # what is left of the star where it stood an exposure before
        before = _draw_position(program, planned.index - 1, subarray)
        others += (scene.Star(before["x"], before["y"], share * planned.electron_rate),)
    return scene.Scene(
        shape=subarray.shape,
        star=scene.Star(planned.x, planned.y, planned.electron_rate),
        readout=planned.readout,
        background=planned.background,
        gradient=program.gradient,
        others=others,
        blemishes=program.blemishes,
        effects=seen_in(program.effects, subarray, planned.dither),
        reference_border=subarray.reference_border,
        outputs=subarray.noutputs,
    )


def simulate_program(
    directory: Path,
    program: Program,
    *,
    psfs: PSFs | None = None,
    kinds: Sequence[str] = ("rate",),
    overwrite: bool = False,
    progress: Callable[[list[PlannedExposure]], Iterable[PlannedExposure]] = iter,
) -> Table:
    """Simulate a program: its exposures, the star's spectrum and the truth. One exposure is in memory at a time.

    Parameters
    ----------
    directory : pathlib.Path
        Where to write; made where it does not exist.
    program : Program
        What to simulate.
    psfs : mapping of str to object with ``render(x, y, shape)``, optional
        PSF by filter; the packaged ones by default.
    kinds : sequence of str
        What to write of each exposure: any of rate, rateints, cal.
    overwrite : bool
        Whether exposures of the same names may be replaced.
    progress : callable
        Wraps the list of exposures that is gone through, as ``tqdm`` does.

    Returns
    -------
    astropy.table.Table
        The truth, one row per exposure, as written to ``truth.ecsv``.

    Raises
    ------
    ParameterError
        A kind of exposure that is not known, or files that are in the way.

    Examples
    --------
    >>> program = Program(groups=(("F200W", "SUB64"), ("F480M", "SUB64")), n_dithers=2, seed=1)
    >>> truth = simulate_program("exposures", program)
    """
    from niriss_eestep.reference import load_psf_images, load_throughput, write_spectrum

    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ParameterError(f"kinds of exposure must be among {', '.join(KINDS)}, got {', '.join(unknown) or 'none'}")
    psfs = load_psf_images() if psfs is None else psfs
    throughput, spectrum, star = load_throughput(), program.spectrum, program.star
    if spectrum is None:
        text = f"Black body of {star.temperature:g} K, V = {star.v_mag:g}, for simulations"
        meta = {"descrip": text, "source": "niriss_eestep", "pedigree": "MODEL"}
        spectrum = blackbody_spectrum(star.name, temperature=star.temperature, v_mag=star.v_mag, meta=meta)
    filters = dict.fromkeys(name for name, _ in program.groups)
    expected = {name: expected_rate(spectrum, *throughput.curve(name), name=name).electron_rate for name in filters}
    exposures = plan_exposures(program, expected, psfs)
    directory = Path(directory)
    paths = [directory / f"{planned.name.root}_{kind}.fits" for planned in exposures for kind in kinds]
    existing = [path for path in (*paths, directory / TRUTH_FILE) if path.exists()]
    if existing and not overwrite:
        raise ParameterError(
            f"{existing[0]} exists ({len(existing)} files are in the way); choose another directory or overwrite them"
        )
    calspec = directory / "calspec"
    calspec.mkdir(parents=True, exist_ok=True)
    write_spectrum(spectrum, calspec / spectrum_file_name(program.star.name))
    rows = [_simulate_exposure(directory, planned, program, psfs, kinds) for planned in progress(exposures)]
    return _write_truth(directory, rows, program)


def spectrum_file_name(star: str) -> str:
    """Name a star's model spectrum as CALSPEC would.

    Parameters
    ----------
    star : str
        Name of the star.

    Returns
    -------
    str
        Such as wd1057_719_mod_001.fits.
    """
    return re.sub(r"[^a-z0-9]+", "_", star.lower()).strip("_") + "_mod_001.fits"


def _draw_position(program: Program, index: int, subarray: detector.Subarray) -> dict[str, Any]:
    """Where the star is, where the header says it is, and the dither's offset."""
    rng = np.random.default_rng([program.seed, index, 0])
    reach = min(_MAX_DITHER, subarray.size / 20)
    true = subarray.centre + rng.uniform(-reach, reach, 2)
    header = true + rng.normal(scale=program.pointing_error, size=2)
    place = dict(zip(("x", "y", "header_x", "header_y"), map(float, (*true, *header)), strict=True))
    return place | {"offset": tuple(((true - subarray.centre) * PIXEL_SCALE).tolist())}


def _draw_other_stars(planned: PlannedExposure, program: Program) -> tuple[scene.Star, ...]:
    """Draw field stars, 0.1 to 10 % as bright as the standard, none within its sky annulus."""
    rng = np.random.default_rng([program.seed, planned.index, 1])
    size = planned.subarray.size
    stars: list[scene.Star] = []
    for _ in range(1000 * program.n_stars):
        x, y = rng.uniform(0, size - 1, 2)
        if np.hypot(x - planned.x, y - planned.y) > _CLEAR_RADIUS:
            stars.append(scene.Star(float(x), float(y), planned.electron_rate * 10 ** rng.uniform(-3, -1)))
        if len(stars) == program.n_stars:
            return tuple(stars)
    if program.n_stars:
        raise ParameterError(f"no room for {program.n_stars} other stars in {planned.subarray.name}; take a larger one")
    return ()


def _simulate_exposure(
    directory: Path, planned: PlannedExposure, program: Program, psfs: PSFs, kinds: Sequence[str]
) -> dict[str, Any]:
    """Write an exposure and return its row of the truth."""
    from niriss_eestep.simulate import exposure

    seen, psf = scene_of(planned, program), psfs[planned.filter_name]
    rng = np.random.default_rng([program.seed, planned.index, 2])
    pattern = scene.draw_pattern(seen, rng)
    if program.effects.flat_error:
        # a response belongs to the detector
        flat_rng = np.random.default_rng([program.seed, planned.subarray.size, 3])
        pattern = replace(pattern, flat=scene.draw_pattern(seen, flat_rng).flat)
    same: dict[str, Any] = {"noise": program.noise, "pattern": pattern}
    makers = {"rate": exposure.rate_model, "cal": exposure.cal_model}
    if "rateints" in kinds:
        integrations = scene.simulate_integrations(seen, psf, rng, **same)
        image = scene.average(integrations)
        exposure.write_model(exposure.rateints_model(integrations, planned), directory, planned.name, "rateints")
    else:
        image = scene.simulate_image(seen, psf, rng, **same)
    for kind in [kind for kind in makers if kind in kinds]:
        exposure.write_model(makers[kind](image, planned), directory, planned.name, kind)
    return _truth_row(planned, program) | {"n_saturated": int(np.sum((image.dq & SATURATED) != 0))}


def _truth_row(planned: PlannedExposure, program: Program) -> dict[str, Any]:
    facts, readout = filter_facts(planned.filter_name), planned.readout
    rate, expected = planned.electron_rate, planned.expected_electron_rate
    row: dict[str, Any] = {"exposure": planned.name.root, "target": program.star.name, "filter": facts.name}
    row |= {"pupil": facts.header_pupil, "subarray": planned.subarray.name, "dither": planned.dither}
    row |= {name: getattr(planned, name) for name in ("x", "y", "header_x", "header_y", "electron_rate")}
    row |= {"count_rate": rate / GAIN, "expected_electron_rate": expected, "ratio": rate / expected}
    row |= {"background": planned.background, "ngroups": readout.ngroups, "nints": readout.nints}
    row |= {"exposure_time": readout.exposure_time}
    return row | {f"n_{kind}": getattr(program.blemishes, kind) for kind in ("nan", "low", "jump", "hits")}


def _write_truth(directory: Path, rows: list[dict[str, Any]], program: Program) -> Table:
    from astropy.table import Table

    units = dict.fromkeys(("x", "y", "header_x", "header_y"), "pix")
    units |= dict.fromkeys(("electron_rate", "expected_electron_rate"), "electron / s")
    table = Table(rows=rows, units=units | {"count_rate": "DN / s", "background": "DN / (pix s)", "exposure_time": "s"})
    text = "truth of simulated exposures; positions are 0-indexed, header_x and header_y as by the WCS"
    table.meta = {"content": text, "seed": program.seed, "noise": program.noise}
    table.meta["spectrum"] = f"calspec/{spectrum_file_name(program.star.name)}"
    table.write(directory / TRUTH_FILE, format="ascii.ecsv", overwrite=True)
    return table
