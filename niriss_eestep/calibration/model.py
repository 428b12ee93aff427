"""The linear model of many visits: ln(measured / expected) by filter, star, subarray, epoch, time and count rate.

    ln(ratio) = factor(filter) + subarray + time + count rate (+ well depth, background)
                + star (grey, sloping with wavelength, by filter) + epoch (common, by filter) + visit

The first line is fitted without a prior; the second is random: a star's offset has the error of its spectrum as its
standard deviation, the scatter of epochs and of visits is estimated. Differences of a subarray or of the change in
time between filters are random as well, about what the filters have in common.

`constraints` finds out which effects a program's design constrains, and which are degenerate with each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np
from astropy.time import Time
from numpy.typing import NDArray
from scipy import ndimage, sparse

from niriss_eestep.arrays import Array, Mask

YEAR = 365.0  # [d] as jwst.photom.time_dependence has it
#: an epoch ends where nothing was observed for this long, or when it has lasted this long [d]: a visit's filters, and
#: the stars of one cycle of observations, are taken within a day or two
EPOCH_GAP, EPOCH_LENGTH = 3.0, 10.0
#: count rates of one star within this factor differ by noise rather than by the star: their mean is used, as what a
#: visit's rate has too much its ratio has too much as well
SAME_RATE = 2.0
#: prior standard deviations where the design does not determine a level: MIRI's subarrays differ by up to 3.4 %
#: (Gordon et al. 2025, AJ 169, 6); NIRISS is stable to better than 1 % (JDox); non-linearity is corrected to 0.2 %
PRIORS = {"filter": 1e3, "subarray": 0.1, "time": 0.005, "count_rate": 0.002, "well_depth": 0.005, "background": 0.005}
#: variance inflation by the other effects beyond which an effect counts as degenerate with them
MOST_INFLATION = 8.0
#: of an effect's change: what has to happen within epochs before errors common to an epoch do not matter
WITHIN_EPOCHS = 0.05
LEVEL = ("filter", "")  # of the columns by filter
#: the order in which effects are named
EFFECTS = ("time", "subarray", "count_rate", "well_depth", "background", "star")
#: columns of the design by effect and level
Groups = Mapping[tuple[str, str], NDArray[np.float64]]
#: epochs beyond the number of what is fitted to them, of which their scatter is estimated
SPARE_EPOCHS = 2
#: effects whose prior holds while variances are estimated, where effects are measured, and where the factors are
SCREENED, MEASURED, ALL = ("filter", "time scale", "count_rate"), ("filter", "time scale"), ("time scale", *PRIORS)
FREE = 10.0  # prior standard deviation of an effect that is to be measured: too wide to matter


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """Measurements of standard stars: one row per filter of a visit.

    Parameters
    ----------
    filter, target, subarray : ndarray of str, shape (n,)
    mjd : ndarray, shape (n,)
        Modified Julian date; NaN where not known.
    value, err : ndarray, shape (n,)
        ln(measured / expected), and its standard error without those of spectrum and aperture correction.
    spectrum, common : ndarray, shape (n,)
        Fractional standard error of the star's spectrum, and the part of it that stars of one kind share.
    kind : ndarray of str, shape (n,)
        Kind of star.
    covariates : mapping of str to ndarray, shape (n,)
        ``count_rate`` [DN/s], ``well_depth``, ``background``: those that are known of every visit.
    wavelength : mapping of str to float
        By filter [micron]; empty where not known of all.
    aperture : ndarray, shape (n, n_modes), optional
        Fractional change of each value per standard deviation of errors that rows share: modes of the PSF.
    reference : str, optional
        Subarray that the others are compared with.
    """

    filter: NDArray[np.str_]
    target: NDArray[np.str_]
    subarray: NDArray[np.str_]
    mjd: Array
    value: Array
    err: Array
    spectrum: Array
    common: Array
    kind: NDArray[np.str_]
    covariates: Mapping[str, Array] = field(default_factory=dict)
    wavelength: Mapping[str, float] = field(default_factory=dict)
    aperture: Array | None = None
    reference: str = ""

    @property
    def filters(self) -> list[str]:
        """Filters, by the number in their names."""
        names = set(map(str, np.unique(self.filter)))
        return sorted(names, key=lambda name: (int("0" + "".join(filter(str.isdigit, name))), name))

    def take(self, chosen: Mask | NDArray[np.int64]) -> Visits:
        """Return some of the rows.

        Parameters
        ----------
        chosen : ndarray of bool or int
            Which rows.

        Returns
        -------
        Visits
        """
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        rows: dict[str, Any] = {name: each[chosen] for name, each in given.items() if isinstance(each, np.ndarray)}
        return replace(self, **rows, covariates={name: each[chosen] for name, each in self.covariates.items()})

    @property
    def colour(self) -> Array | None:
        """ln(wavelength) of each row, of mean 0 and standard deviation 1; None where it is not known of 3 filters."""
        if len(self.wavelength) < 3:
            return None
        colour = np.log(by_label(self.filter, self.wavelength))
        return np.asarray((colour - colour.mean()) / max(float(colour.std()), 1e-6))


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A fixed effect, as a column of the design.

    Parameters
    ----------
    effect, level : str
        As in the table of effects.
    values : ndarray, shape (n_rows,)
        What the effect adds to each row per unit.
    prior : float
        Standard deviation that is taken where the data do not determine it.
    """

    effect: str
    level: str
    values: Array
    prior: float


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Random effects of one variance, one per column; the variance is estimated where ``free``.

    Parameters
    ----------
    name : str
    design : scipy.sparse.csr_matrix, shape (n_rows, n_effects)
    variance : float
        Of each effect; where ``free``, what the estimate begins with.
    free : bool
        Whether it is estimated.
    """

    name: str
    design: sparse.csr_matrix
    variance: float
    free: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """The linear problem: rows, design and groups.

    Parameters
    ----------
    value, own : ndarray, shape (n,)
        What is fitted, and the visits' own variances.
    fixed : tuple of Column
    blocks : tuple of Block
    design : sparse matrix, shape (n, n_columns)
        Fixed columns, then those of the blocks.
    filter : ndarray of int, shape (n,)
    cells : sparse matrix, shape (n, n_cells)
        Which row is of which epoch and filter.
    epochs : sparse matrix, shape (n_cells, n_epochs)
        Which of these is of which epoch.
    """

    value: Array
    own: Array
    fixed: tuple[Column, ...]
    blocks: tuple[Block, ...]
    design: sparse.csr_matrix
    filter: NDArray[np.int64]
    cells: sparse.csr_matrix
    epochs: sparse.csr_matrix

    def index(self, effect: str) -> list[int]:
        """Return the fixed columns of an effect.

        Parameters
        ----------
        effect : str

        Returns
        -------
        list of int
        """
        return [i for i, column in enumerate(self.fixed) if column.effect == effect]

    @property
    def stars(self) -> list[int]:
        """The blocks of the stars' offsets."""
        return [i for i, block in enumerate(self.blocks) if block.name.startswith("star")]

    @property
    def pieces(self) -> list[tuple[Block, slice]]:
        """The blocks, each with its columns of the design."""
        ends = np.cumsum([len(self.fixed), *(block.design.shape[1] for block in self.blocks)])
        return [(block, slice(*pair)) for block, *pair in zip(self.blocks, ends[:-1], ends[1:], strict=True)]


def by_label(labels: NDArray[np.str_], values: Mapping[str, Any]) -> NDArray:
    """Return each row's value by its label.

    Parameters
    ----------
    labels : ndarray of str, shape (n_rows,)
    values : mapping of str to object

    Returns
    -------
    ndarray, shape (n_rows,)
    """
    names, number = np.unique(labels, return_inverse=True)
    return np.array([values[str(name)] for name in names])[number]


def epochs_of(mjd: Array) -> NDArray[np.int64]:
    """Number the epochs: what was observed together.

    Parameters
    ----------
    mjd : ndarray, shape (n,)

    Returns
    -------
    ndarray of int, shape (n,)
        Rows without a date are an epoch of their own.

    Examples
    --------
    >>> epochs_of(np.array([59800.0, 59990.0, 59800.9])).tolist()
    [0, 1, 0]
    """
    unique, number = np.unique(mjd, return_inverse=True)
    days, epoch, start = unique.tolist(), [0], unique[0]
    for day, before in zip(days[1:], days, strict=False):
        same = day - before <= EPOCH_GAP and day - start <= EPOCH_LENGTH
        epoch.append(epoch[-1] + (not same))
        start = start if same else day
    return np.array(epoch)[number]


@dataclass(frozen=True, slots=True, eq=False)
class TimeShape:
    """How the response changes, relative to that on a date.

    linear ``1 + a (t - date) / 365``; exponential ``1 + a exp(-(t - first) / scale)``; powerlaw
    ``(1 + (t - first) / scale)^a``: the forms of `jwst.photom.time_dependence`.

    Parameters
    ----------
    form : str
        ``constant``, ``linear``, ``exponential`` or ``powerlaw``.
    first, date : float
        First visit, and date on which the response is 1 [MJD].
    scale : float
        [d].
    amplitude : mapping of str to float
        a by filter.
    """

    form: str
    first: float
    date: float
    scale: float = np.nan
    amplitude: Mapping[str, float] = field(default_factory=dict)

    def basis(self, mjd: Array | float) -> Array:
        """Return what the amplitude is multiplied by; of a power law in the logarithm.

        Parameters
        ----------
        mjd : ndarray
            Dates [d].

        Returns
        -------
        ndarray
        """
        days = np.asarray(mjd, dtype=np.float64) - self.first
        if self.form == "exponential":
            return np.exp(-days / self.scale)
        if self.form == "powerlaw":
            return np.log1p(np.maximum(days, -0.999 * self.scale) / self.scale)
        return (days + self.first - self.date) / YEAR

    def log_response(self, mjd: Array | float, amplitude: Array | float) -> Array:
        """Return ln(response / response on the date).

        Parameters
        ----------
        mjd : ndarray
            Dates [d].
        amplitude : ndarray or float

        Returns
        -------
        ndarray
        """
        here, then = (amplitude * self.basis(each) for each in (mjd, self.date))
        return np.asarray(here - then if self.form == "powerlaw" else np.log1p(here) - np.log1p(then))

    def slope(self, mjd: Array, amplitude: Array | float) -> Array:
        """Return the derivative of `log_response` by the amplitude.

        Parameters
        ----------
        mjd : ndarray
            Dates [d].
        amplitude : ndarray or float

        Returns
        -------
        ndarray
        """
        here, then = self.basis(mjd), self.basis(self.date)
        size = 0.0 if self.form == "powerlaw" else amplitude
        return np.asarray(here / (1 + size * here) - then / (1 + size * then))

    def amplitudes(self, filters: NDArray[np.str_]) -> Array:
        """Return the amplitude of each row's filter; 0 where there is none yet.

        Parameters
        ----------
        filters : ndarray of str, shape (n_rows,)

        Returns
        -------
        ndarray, shape (n_rows,)
        """
        return by_label(filters, {str(name): self.amplitude.get(str(name), 0.0) for name in np.unique(filters)})


def star_rate(visits: Visits) -> Array:
    """Return log10 of the count rate, of each star in each filter, about the filter's mean.

    Parameters
    ----------
    visits : Visits

    Returns
    -------
    ndarray, shape (n_rows,)
        In dex.
    """
    rate = np.log10(visits.covariates["count_rate"])
    pair = _indicator(visits.filter, visits.target).indices
    low, high, mean = (f(rate, pair, range(pair.max() + 1)) for f in (ndimage.minimum, ndimage.maximum, ndimage.mean))
    same = high - low < np.log10(SAME_RATE)
    return _centred(np.where(same[pair], np.asarray(mean)[pair], rate), visits.filter)


def _centred(values: Array, group: NDArray) -> Array:
    """Return values less the mean of their group."""
    of = _indicator(group)
    return np.asarray(values - of @ (of.T @ values / of.sum(axis=0).A1))


def _indicator(*labels: NDArray, loading: Array | float = 1.0) -> sparse.csr_matrix:
    """Return a matrix that says which row has which combination of labels, with the size of ``loading``."""
    n, number = len(labels[0]), np.zeros(len(labels[0]), dtype=np.int64)
    for each in labels:
        number = np.unique(number * n + np.unique(each, return_inverse=True)[1], return_inverse=True)[1]
    return sparse.csr_matrix((np.broadcast_to(loading, n), (np.arange(n), number)))


def fixed_columns(visits: Visits, shape: TimeShape) -> list[Column]:
    """Return the fixed effects.

    Parameters
    ----------
    visits : Visits
    shape : TimeShape
        With the amplitudes about which the model is linear.

    Returns
    -------
    list of Column
    """
    columns = [Column("filter", name, 1.0 * (visits.filter == name), PRIORS["filter"]) for name in visits.filters]
    for name in sorted(set(map(str, visits.subarray)) - {visits.reference}):
        columns.append(Column("subarray", name, 1.0 * (visits.subarray == name), PRIORS["subarray"]))
    if shape.form != "constant" and np.isfinite(visits.mjd).all() and np.ptp(visits.mjd) > EPOCH_GAP:
        amplitude = shape.amplitudes(visits.filter)
        prior = PRIORS["time"] if shape.form == "linear" else FREE
        columns.append(Column("time", shape.form, shape.slope(visits.mjd, amplitude), prior))
        if shape.form != "linear" and np.any(amplitude != 0):
            up, down = (
                replace(shape, scale=shape.scale * factor).log_response(visits.mjd, amplitude)
                for factor in (1.001, 1 / 1.001)
            )
            columns.append(Column("time scale", shape.form, (up - down) / (2 * np.log(1.001)), 1.0))
    for name in ("count_rate", "well_depth", "background"):
        if name in visits.covariates:
            rate = name == "count_rate"
            values = star_rate(visits) if rate else _centred(visits.covariates[name], visits.filter)
            if np.ptp(values) > (0.5 * np.log10(SAME_RATE) if rate else 0.0):
                columns.append(Column(name, "per dex" if rate else "per unit", values, PRIORS[name]))
    return columns


def build(visits: Visits, shape: TimeShape, *, flexible: bool = False) -> Problem:
    """Make the linear problem.

    Parameters
    ----------
    visits : Visits
    shape : TimeShape
        As `fixed_columns`.
    flexible : bool, optional
        Let the response change in time by any smooth curve, by filter, as outliers want to be found before the form of
        the change is known.

    Returns
    -------
    Problem
    """
    fixed = fixed_columns(visits, shape)
    time = [column.values for column in fixed if column.effect == "time"]
    if flexible and time:
        for scale in np.ptp(visits.mjd) / np.array([10.0, 3.0]):
            time.append(replace(shape, form="exponential", scale=scale).slope(visits.mjd, 0.0))
            fixed.append(Column("curve", f"{scale:.0f} d", time[-1], FREE))
    several, epoch = len(visits.filters) > 1, epochs_of(visits.mjd)
    # stars: grey, sloping with the wavelength, by filter, and common to a kind of star
    own = np.sqrt(np.maximum(visits.spectrum**2 - visits.common**2, 0.0))
    blocks = [Block("star", _indicator(visits.target, loading=own), 1.0)]
    if visits.colour is not None:
        blocks.append(Block("star slope", _indicator(visits.target, loading=own * visits.colour), 0.1))
    if several:
        blocks.append(Block("star by filter", _indicator(visits.filter, visits.target, loading=own), 0.1))
    if np.any(visits.common > 0):
        blocks.append(Block("kind", _indicator(visits.kind, loading=visits.common), 1.0, free=False))
    if several and any(column.effect == "subarray" for column in fixed):
        others = (visits.subarray != visits.reference).astype(float)
        blocks.append(Block("subarray by filter", _indicator(visits.filter, visits.subarray, loading=others), 1e-5))
    # what filters differ by is measured before the time scale is fitted, which would take it over
    free = all(column.effect != "time scale" for column in fixed)
    for i, values in enumerate(time if several else ()):
        name = f"curve {i} by filter" if i else "time by filter"
        blocks.append(Block(name, _indicator(visits.filter, loading=values), 1e-5, free))
    if time and several and visits.colour is not None:
        blocks.append(Block("time slope", sparse.csr_matrix(time[0] * visits.colour).T, 1e-5, free))
    value = visits.value
    if time and shape.amplitude:
        amplitude = shape.amplitudes(visits.filter)
        value = value - shape.log_response(visits.mjd, amplitude) + amplitude * shape.slope(visits.mjd, amplitude)
    columns = sparse.csr_matrix(np.stack([column.values for column in fixed], axis=1))
    design = sparse.hstack([columns, *(block.design for block in blocks)], "csr")
    number = by_label(visits.filter, {name: i for i, name in enumerate(visits.filters)})
    cells = _indicator(epoch, visits.filter)
    epochs = (cells.T @ _indicator(epoch)).sign()
    return Problem(value, visits.err**2, tuple(fixed), tuple(blocks), design, number, cells, epochs)


def constraints(visits: Visits, columns: Sequence[Column]) -> dict[tuple[str, str], str]:
    """Find out which effects the visits can separate.

    A subarray, or a change in time, is measured on the same star, whose level is free. Count rates are compared across
    stars, whose spectra have a stated error.

    Parameters
    ----------
    visits : Visits
    columns : sequence of Column
        Fixed effects.

    Returns
    -------
    dict of (str, str) to str
        By effect and level: why it is not constrained, empty where it is.
    """
    wanted = [column for column in columns if column.effect not in ("filter", "time scale", "curve")]
    effects = {(column.effect, column.level): column.values[:, np.newaxis] for column in wanted}
    names, epoch = np.unique(visits.target), epochs_of(visits.mjd)
    star = (visits.target[:, np.newaxis] == names).astype(float)
    level = {LEVEL: np.stack([column.values for column in columns if column.effect == "filter"], axis=1)}
    groups = level | effects | {("star", ""): star[:, 1:]}
    between = [key for key in effects if key[0] != "count_rate" and _is_between_epochs(key, groups, epoch)]
    # how many combinations of columns differ between epochs alone
    design = _normalized(np.hstack(list(groups.values())))
    rank = partial(np.linalg.matrix_rank, tol=1e-3 * np.sqrt(design.shape[1]))
    spare = epoch.max() + 1 - (rank(design) - rank(_within(design, epoch)))
    found = {}
    for key, values in effects.items():
        of_stars = key[0] == "count_rate"
        others = {name: each for name, each in groups.items() if name != key and not (of_stars and name[0] == "star")}
        few = of_stars and len(names) < 3
        reason = f"{len(names)} stars are too few to separate count rate from errors of their spectra" if few else ""
        if not reason and _inflation(values, others) > MOST_INFLATION:
            reason = _partners(key, values, others, visits)
        if not reason and key in between and spare < SPARE_EPOCHS:
            n_epochs = epoch.max() + 1
            reason = f"{n_epochs} epochs are too few to separate {name_of(*key)} from errors common to an epoch"
            reason = f"{_listed(between)} cannot be separated with {n_epochs} epochs" if len(between) > 1 else reason
        found[key] = reason
    # what stands in the way of the trend is as little known: it was never used beside the others
    blocked = next((found[key] for key in effects if key[0] == "time"), "")
    found |= {key: blocked for key in between if not found[key] and name_of(*key) in blocked}
    for name, mine in zip(map(str, names), star.T[:, :, np.newaxis], strict=True):
        apart = len(names) > 1 and _inflation(mine, level | effects) > MOST_INFLATION
        reason = _partners(("star", name), mine, level | effects, visits) if apart else ""
        found["star", name] = reason if len(names) > 1 else "one star"
    return found


def name_of(effect: str, level: str) -> str:
    """Return an effect in words.

    Parameters
    ----------
    effect, level : str

    Returns
    -------
    str
        Such as 'subarray SUB64'.
    """
    if effect in ("subarray", "star"):
        return f"{effect} {level}".strip()
    return effect.replace("_", " ")


def _normalized(design: Array) -> Array:
    """Return the columns that are not 0, each divided by its length."""
    size = np.sqrt(np.sum(design**2, axis=0))
    return design[:, size > 0] / size[size > 0]


def _residual(values: Array, others: Groups) -> Array:
    """Return the part of some columns that is orthogonal to the others."""
    design = _normalized(np.hstack(list(others.values())))
    return np.asarray(values - design @ np.linalg.lstsq(design, values, rcond=1e-9)[0])


def _inflation(values: Array, others: Groups) -> float:
    """Return the factor by which the others enlarge an effect's variance."""
    alone = float(np.sum(_residual(values, {LEVEL: others[LEVEL]}) ** 2))
    left = float(np.sum(_residual(values, others) ** 2))
    return np.inf if left <= 1e-12 * max(alone, 1e-300) or alone == 0 else alone / left


def _within(values: Array, epoch: NDArray[np.int64]) -> Array:
    """Return columns less their means over each epoch."""
    of = _indicator(epoch)
    return np.asarray(values - of @ ((of.T @ values) / np.bincount(epoch)[:, np.newaxis]))


def _is_between_epochs(key: tuple[str, str], groups: Groups, epoch: NDArray[np.int64]) -> bool:
    """Whether an effect changes from epoch to epoch, and hardly within one."""
    others = {name: each for name, each in groups.items() if name != key}
    inside = {name: _within(each, epoch) for name, each in others.items()}
    within, rest = _residual(_within(groups[key], epoch), inside), _residual(groups[key], others)
    return bool(np.sum(within**2) < WITHIN_EPOCHS * np.sum(rest**2))


def _partners(key: tuple[str, str], values: Array, others: Groups, visits: Visits) -> str:
    """Say which other effects an effect cannot be separated from."""
    names = [name for name in others if name != LEVEL]
    without = {name: {n: each for n, each in others.items() if n != name} for name in names}
    partners = [name for name in names if _inflation(values, without[name]) <= MOST_INFLATION]
    partners = partners or [name for name in names if _inflation(values, {n: others[n] for n in (LEVEL, name)}) > 2]
    partners = partners or names
    if not partners:
        return f"{name_of(*key)} does not vary"
    remark = next(filter(None, (_when(name, visits) for name in (key, *partners))), "")
    return f"{_listed([key, *partners])} cannot be separated{remark}"


def _listed(keys: Sequence[tuple[str, str]]) -> str:
    """Name effects in one order, so that the same set of effects is named once."""
    *first, last = (name_of(*key) for key in sorted(keys, key=lambda key: (EFFECTS.index(key[0]), key[1])))
    return f"{', '.join(first)} and {last}"


def _when(key: tuple[str, str], visits: Visits) -> str:
    """Say on which stars, or when, a subarray was used, if not on all of them and throughout."""
    if key[0] != "subarray":
        return ""
    mine = visits.subarray == key[1]
    stars = sorted(set(map(str, visits.target[mine])))
    if len(stars) < len(set(visits.target)):
        return f": {key[1]} was used only on {', '.join(stars)}"
    days, rest, epoch = visits.mjd[mine], visits.mjd[~mine], epochs_of(visits.mjd)
    if not rest.size or not np.isfinite(visits.mjd).all() or np.isin(epoch[mine], epoch[~mine]).all():
        return ""
    when = "not used together with the others"
    if days.min() > rest.max():
        when = f"used only after {day_of(rest.max())}"
    elif days.max() < rest.min():
        when = f"used only before {day_of(rest.min())}"
    return f": {key[1]} was {when}"


def day_of(mjd: float) -> str:
    """Return a date in words.

    Parameters
    ----------
    mjd : float
        Date [d]; may be NaN.

    Returns
    -------
    str
        Such as '2022-05-01'.
    """
    return str(Time(mjd, format="mjd").strftime("%Y-%m-%d")) if np.isfinite(mjd) else "no date"
