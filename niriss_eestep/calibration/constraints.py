"""What the design of a program can tell apart: which effects are constrained, and what hides the others."""

from collections.abc import Mapping, Sequence

import numpy as np
from astropy.time import Time
from numpy.typing import NDArray

from niriss_eestep.arrays import Array
from niriss_eestep.calibration.model import Column, Visits, epochs_of

#: an effect's variance may grow by this much because of the others, before it counts as not to be told from them
MOST_INFLATION = 8.0
#: of an effect's change: what has to happen within epochs before errors common to an epoch do not matter
WITHIN_EPOCHS = 0.05
#: epochs beyond the number of what is fitted to them, of which their scatter is estimated
SPARE_EPOCHS = 2


def constraints(visits: Visits, columns: Sequence[Column]) -> dict[tuple[str, str], str]:
    """Find out which effects the visits can tell apart.

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
    effects = [column for column in columns if column.effect not in ("filter", "time scale", "curve")]
    level = np.stack([column.values for column in columns if column.effect == "filter"], axis=1)
    stars = np.stack(
        [(visits.target == name).astype(float) for name in sorted(set(visits.target))[1:]] or [[]], axis=-1
    )
    stars = stars.reshape(len(visits.value), -1)
    epoch = epochs_of(visits.mjd)
    groups = {(column.effect, column.level): column.values[:, np.newaxis] for column in effects}
    found = {}
    between = _between_epochs(groups, level, stars, epoch)
    spare = len(set(epoch)) - _rank(np.hstack([level, stars, *groups.values()]), epoch)
    for key, values in groups.items():
        others = {name: each for name, each in groups.items() if name != key}
        if key[0] == "count_rate":
            n_stars = stars.shape[1] + 1
            reason = f"{n_stars} stars are too few to tell it from their spectra" if n_stars < 3 else ""
        else:
            others["star", ""] = stars
            reason = ""
        if not reason and _inflation(values, level, others) > MOST_INFLATION:
            reason = _partners(key, values, level, others, visits)
        if not reason and key in between and spare < SPARE_EPOCHS:
            reason = _too_few(key, between, len(set(epoch)))
        found[key] = reason
    if found.get(time := next((key for key in groups if key[0] == "time"), ("", "")), ""):
        # what stands in the way of the trend is as little known: it was never used beside the others
        for key in between:
            found[key] = found[key] or (found[time] if name_of(*key) in found[time] else "")
    single = stars.shape[1] == 0
    for name in sorted(set(map(str, visits.target))):
        mine = (visits.target == name).astype(float)[:, np.newaxis]
        apart = single or _inflation(mine, level, groups) > MOST_INFLATION
        reason = "one star" if single else _partners(("star", name), mine, level, groups, visits) if apart else ""
        found["star", name] = reason
    return found


def name_of(effect: str, level: str) -> str:
    """Return an effect in words."""
    if effect in ("subarray", "star"):
        return f"{effect} {level}".strip()
    return effect.replace("_", " ")


def _residual(values: Array, level: Array, others: Mapping[tuple[str, str], Array]) -> Array:
    """Return what of some columns is not in the others."""
    design = np.hstack([level, *others.values()])
    size = np.sqrt(np.sum(design**2, axis=0))
    design = design[:, size > 0] / size[size > 0]
    return np.asarray(values - design @ np.linalg.lstsq(design, values, rcond=1e-9)[0])


def _inflation(values: Array, level: Array, others: Mapping[tuple[str, str], Array]) -> float:
    """Return the factor by which the others enlarge an effect's variance."""
    alone = float(np.sum(_residual(values, level, {}) ** 2))
    left = float(np.sum(_residual(values, level, others) ** 2))
    return np.inf if left <= 1e-12 * max(alone, 1e-300) or alone == 0 else alone / left


def _rank(design: Array, epoch: NDArray[np.int64]) -> int:
    """Return how many combinations of columns differ between epochs alone."""
    size = np.sqrt(np.sum(design**2, axis=0))
    design = design[:, size > 0] / size[size > 0]
    total = np.linalg.matrix_rank(design, tol=1e-3 * np.sqrt(design.shape[1]))
    return int(total - np.linalg.matrix_rank(_within(design, epoch), tol=1e-3 * np.sqrt(design.shape[1])))


def _within(values: Array, epoch: NDArray[np.int64]) -> Array:
    """Return columns less their means over each epoch."""
    if values.shape[1] == 0:
        return values
    count = np.bincount(epoch)
    means = np.stack([np.bincount(epoch, column) / count for column in values.T], axis=1)
    return np.asarray(values - means[epoch])


def _between_epochs(
    groups: Mapping[tuple[str, str], Array], level: Array, stars: Array, epoch: NDArray[np.int64]
) -> list[tuple[str, str]]:
    """Return the effects that change from epoch to epoch, and hardly within one."""
    found = []
    for key, values in groups.items():
        others = {name: each for name, each in groups.items() if name != key} | {("star", ""): stars}
        rest = _residual(values, level, others)
        inside = {name: _within(each, epoch) for name, each in others.items()}
        within = _residual(_within(values, epoch), _within(level, epoch), inside)
        if key[0] != "count_rate" and np.sum(within**2) < WITHIN_EPOCHS * np.sum(rest**2):
            found.append(key)
    return found


def _partners(
    key: tuple[str, str], values: Array, level: Array, others: Mapping[tuple[str, str], Array], visits: Visits
) -> str:
    """Say from what an effect cannot be told."""
    alone = [
        name
        for name in others
        if _inflation(values, level, {n: each for n, each in others.items() if n != name}) <= MOST_INFLATION
    ]
    partners = alone or [name for name in others if _inflation(values, level, {name: others[name]}) > 2]
    partners = partners or list(others)
    what = " and ".join([name_of(*key), *(name_of(*name) for name in partners)])
    remark = _when(key, visits) or next(filter(None, (_when(name, visits) for name in partners)), "")
    return f"{what} cannot be separated{remark}" if partners else f"{what} does not vary"


def _when(key: tuple[str, str], visits: Visits) -> str:
    """Say when and on which stars a subarray was used, where it was used with some alone."""
    if key[0] != "subarray":
        return ""
    mine = visits.subarray == key[1]
    stars = sorted(set(map(str, visits.target[mine])))
    if len(stars) < len(set(visits.target)):
        return f": {key[1]} was used on {', '.join(stars)} alone"
    rest = visits.mjd[~mine]
    if rest.size and np.isfinite(visits.mjd).all():
        if visits.mjd[mine].min() > rest.max():
            return f": {key[1]} was used only after {day_of(rest.max())}"
        if visits.mjd[mine].max() < rest.min():
            return f": {key[1]} was used only before {day_of(rest.min())}"
        return f": {key[1]} was not used together with the others"
    return ""


def day_of(mjd: float) -> str:
    """Return a date in words."""
    return str(Time(mjd, format="mjd").strftime("%Y-%m-%d")) if np.isfinite(mjd) else "no date"


def _too_few(key: tuple[str, str], between: Sequence[tuple[str, str]], n_epochs: int) -> str:
    """Say that there are too few epochs."""
    others = [name_of(*name) for name in between if name != key]
    if not others:
        return f"{n_epochs} epochs are too few to tell {name_of(*key)} from errors common to an epoch"
    return f"{name_of(*key)} and {' and '.join(others)} cannot be separated with {n_epochs} epochs"
