"""The page and the figures of a calibration from many visits."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from astropy.table import Table
from astropy.time import Time
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullLocator

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.calibration.effects import Calibration
from niriss_eestep.calibration.model import day_of
from niriss_eestep.report.numbers import measured
from niriss_eestep.report.page import Rows, environment, image
from niriss_eestep.report.style import new_figure, note, plain, series_style, styled

Tables = Mapping[str, Table]  #: from `niriss_eestep.calibration.table.factor_tables`
N_COLUMNS = 3
PANEL = 1.4  # height [inch]
MOST_POINTS = 300  # in a panel that are drawn with their errors
MOST_ROWS = 1500  # drawn as lines; figures of more are images of points
#: what the residuals are shown against: label, and which part of the model is left in
QUANTITIES = {
    "mjd": ("Year", "time"),
    "count_rate": ("Count rate [DN/s]", "count_rate"),
    "background": ("Background", "background"),
    "sky": ("Background in the annulus [DN/s/pix]", None),
    "star_type": ("Kind of star", "star"),
    "target": ("Star", "star"),
    "subarray": ("Subarray", "subarray"),
    "integration_time": ("Integration time [s]", None),
    "well_depth": ("Well depth", "well_depth"),
    "x": ("x of the star, dither by dither [pix]", None),
    "y": ("y of the star, dither by dither [pix]", None),
}


def figures_of(tables: Tables, calibration: Calibration, *, split: bool = False) -> Iterator[tuple[str, Figure]]:
    """Yield the name and figure of each quantity that the visits have.

    Parameters
    ----------
    tables : dict of str to astropy.table.Table
        From `niriss_eestep.calibration.table.factor_tables`.
    calibration : Calibration
    split : bool, optional
        Three figures of one column in the place of one of three columns: a page puts them side by side, or below each
        other on a phone.

    Yields
    ------
    str, matplotlib.figure.Figure
    """
    visits = tables["visits"][tables["visits"]["used"]]
    yield "stars", plot_stars(tables)
    for quantity in QUANTITIES:
        table = tables.get("dithers", visits) if quantity in "xy" else visits
        if quantity in table.colnames and _is_known(table[quantity]).any():
            n = -(-len(calibration.filters) // N_COLUMNS) if split else len(calibration.filters)
            for first in range(0, len(calibration.filters), n):
                filters = calibration.filters[first : first + n]
                yield quantity, plot_against(table, calibration, quantity, filters, 1 if split else N_COLUMNS)


def _is_known(column: Any) -> Mask:
    return np.asarray(column != "" if column.dtype.kind in "UO" else np.isfinite(column))


def plot_against(table: Table, calibration: Calibration, quantity: str, names: list[str], n_across: int) -> Figure:
    """Plot measured over expected response, relative to each filter's factor, against one quantity.

    Parameters
    ----------
    table : astropy.table.Table
        Visits that were used, or their dithers.
    calibration : Calibration
    quantity : str
        One of `QUANTITIES`. All of the model's other effects are taken off.
    names : list of str
        Filters.
    n_across : int
        Of panels.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per filter with its own scale, one colour and marker per star. The grey band is the factor's standard
        error; a line with a band is the change in time that is claimed, with its standard error.
    """
    label, part = QUANTITIES[quantity]
    parts = [each for each in (part, "residual", quantity == "mjd" and "epoch") if each]
    value = 100 * np.sum([table[f"part_{each}"] for each in parts], axis=0)
    at, scale, room = _places(table[quantity], quantity)
    timed = quantity == "mjd" and calibration.shape.form != "constant"
    days = np.linspace(np.min(table["mjd"]), np.max(table["mjd"]), 100) if timed else None
    n_columns = min(len(names), n_across)
    n_rows = -(-len(names) // n_columns)
    stars = sorted(set(map(str, table["target"])))
    # the first figure has the legend of all
    shown = len(stars) <= 15 and names[0] == calibration.filters[0]
    width = 0.8 + 2.8 * n_columns
    n_labels = _labels_across(width, stars)
    legend = 0.25 + 0.2 * -(-len(stars) // n_labels) if shown else 0.2
    # room for a panel's title and the tick labels below it, and for the axis label below all
    gap, below, above = 0.36 + room, 0.42 + room, legend + 0.2
    height = above + n_rows * PANEL + (n_rows - 1) * gap + below
    with styled():
        grid: Any = {"nrows": n_rows, "ncols": n_columns, "squeeze": False}
        figure, axes = new_figure(width, height, left=0.75, bottom=below, top=above, **grid)
        figure.subplots_adjust(hspace=gap / PANEL, wspace=0.24)
        for axis, name in zip(axes.flat, names, strict=False):
            chosen = np.array(table["filter"]) == name
            few = chosen.sum() <= MOST_POINTS
            for i, star in enumerate(stars):
                mine = np.nonzero(chosen & (np.array(table["target"]) == star))[0]
                style = {"ls": "none", "lw": 0.6, "ms": 3.5 if few else 1.0, "label": plain(star), **series_style(i)}
                err = 100 * np.array(table["own"])[mine] if few else None
                axis.errorbar(at[mine], value[mine], err, **style)
            _band(axis, calibration, name, days)
            scale(axis)
        for axis in axes.flat[len(names) :]:
            axis.set_axis_off()
        figure.supxlabel(label, fontsize=9, y=0.08 / height, va="bottom")
        figure.supylabel("From the factor [%]", fontsize=9, x=0.01)
        if shown:
            figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="upper center", ncols=n_labels, fontsize=8)
        return figure


def _labels_across(width: float, names: Iterable[str]) -> int:
    """How many names of a legend fit beside each other into a width [inch]."""
    return max(1, int(width / (0.45 + 0.075 * max(map(len, names), default=0))))


def _places(column: Any, quantity: str) -> tuple[Array, Callable[[Axes], None], float]:
    """Where visits stand, what sets the ticks so that all are labelled, and the room that the labels take [inch]."""
    if column.dtype.kind in "UO":
        levels = sorted(set(map(str, column)))
        shown = list(range(0, len(levels), 1 + len(levels) // 13))
        names = [plain(levels[i])[:14] for i in shown]
        upright = sum(map(len, names)) > 28
        scale = partial(_named_ticks, n_levels=len(levels), shown=shown, names=names, rotation=90 if upright else 0)
        at = np.array([levels.index(str(name)) for name in column])
        return at, scale, 0.07 * max(map(len, names)) if upright else 0.1
    at = np.asarray(column, dtype=float)
    if quantity == "mjd" and np.isfinite(at).all():
        at = _years(at)
    return at, partial(_numbers, at=at, log=quantity == "count_rate"), 0.1


def _named_ticks(axis: Axes, n_levels: int, shown: list[int], names: list[str], rotation: int) -> None:
    """Give an axis of names one tick for each of some levels."""
    axis.set_xlim(-0.5, n_levels - 0.5)
    axis.set_xticks(shown, names, rotation=rotation, fontsize=7)


def _numbers(axis: Axes, at: Array, log: bool) -> None:
    """Give an axis of numbers three to five ticks."""
    low, high = np.nanmin(at), np.nanmax(at)
    room = 0.06 * (high - low) or 0.02 * abs(high) or 1.0
    if log and low > 0 and high > 3 * low:
        axis.set_xscale("log")
        axis.set_xlim(low / (high / low) ** 0.06, high * (high / low) ** 0.06)
        locator: Locator = LogLocator(subs=(1, 3) if high < 300 * low else (1,))
    else:
        room = min(room, 0.05) if 1900 < low < 2200 and high == low else room
        axis.set_xlim(low - room, high + room)
        locator = MaxNLocator(4)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.10g}")
    axis.xaxis.set_minor_locator(NullLocator())


def _years(mjd: Array) -> Array:
    return Time(np.asarray(mjd, dtype=float), format="mjd").decimalyear


def _band(axis: Axes, calibration: Calibration, name: str, days: Array | None) -> None:
    """Draw the factor's error, and the change in time that is claimed; the data alone set the scale."""
    i = calibration.filters.index(name)
    limits = axis.get_ylim()
    err = 100 * float(calibration.factor_err[i] / calibration.factor[i])
    axis.axhspan(-err, err, color="0.92", lw=0, zorder=0)
    axis.axhline(0, color="0.5", lw=0.8, zorder=0)
    shape = calibration.shape
    if days is not None:
        found = [e for e in calibration.effects if e.effect == "time" and e.level == shape.form]
        error = next((e.err for e in found if e.filter == name), found[0].err)
        amplitude = shape.amplitude.get(name, 0.0)
        change, width = 100 * shape.log_response(days, amplitude), 100 * np.abs(shape.slope(days, amplitude)) * error
        axis.fill_between(_years(days), change - width, change + width, color="0.75", lw=0, zorder=1)
        axis.plot(_years(days), change, color="0.2", lw=1)
    axis.set_ylim(limits)
    axis.set_title(plain(f"{name}: {measured(calibration.factor[i], calibration.factor_err[i])}"), fontsize=8)


def plot_stars(tables: Tables) -> Figure:
    """Plot each star's mean residual by filter.

    Parameters
    ----------
    tables : dict of str to astropy.table.Table

    Returns
    -------
    matplotlib.figure.Figure
    """
    filters = [str(name) for name in tables["calibration"]["filter"]]
    stars = tables["stars"]
    names = list(dict.fromkeys(map(str, stars["target"])))
    with styled():
        width = 0.9 + 0.3 * max(len(filters), 9)
        n_labels = _labels_across(width, names)
        above = 0.2 + (0.2 * -(-len(names) // n_labels) if len(names) <= 16 else 0.0)
        below = 0.7 if len(filters) > 6 else 0.35
        figure, axis = new_figure(width, 2.6 + above, bottom=below, left=0.75, top=above)
        for i, star in enumerate(names):
            mine = stars[stars["target"] == star]
            at = np.array([filters.index(str(name)) for name in mine["filter"]]) + 0.6 * ((i + 0.5) / len(names) - 0.5)
            style = {"ls": "none", "label": plain(star), **series_style(i)}
            axis.errorbar(at, 100 * mine["offset"], 100 * mine["offset_err"], **style)
        if not len(stars):
            note(axis, "no star")
        relative = np.array(tables["calibration"]["factor_err"] / tables["calibration"]["factor"])
        limits = axis.get_ylim()
        axis.bar(range(len(filters)), 200 * relative, 0.8, bottom=-100 * relative, color="0.92", zorder=0)
        axis.set_ylim(limits)
        axis.axhline(0, color="0.5", lw=0.8, zorder=0)
        axis.set_xticks(range(len(filters)), [plain(name) for name in filters], rotation=90 if len(filters) > 6 else 0)
        axis.set_ylabel("Star's residual [%]")
        if len(names) <= 16:
            figure.legend(loc="upper center", ncols=n_labels, fontsize=8)
        return figure


def calibration_html(tables: Tables, calibration: Calibration, comparison: Rows, files: Sequence[str]) -> str:
    """Make the page of a calibration: verdict, factors, effects, figures, files and how to deliver them.

    Parameters
    ----------
    tables : dict of str to astropy.table.Table
    calibration : Calibration
    comparison : list of dict
    files : list of str
        Names of what was written.

    Returns
    -------
    str
        HTML that needs no other file; what comes from files is text in it, never markup.
    """
    many = len(tables["visits"]) > MOST_ROWS
    captions = {name: label for name, (label, _) in QUANTITIES.items()} | {"stars": "Residual of each star by filter"}
    figures: dict[str, list] = {}
    for name, figure in figures_of(tables, calibration, split=True):
        drawn = image(figure, f"Residuals: {captions[name]}", "png" if many else "svg")
        figures.setdefault(captions[name], []).append(drawn)
    visits = tables["visits"]
    given = {"tables": tables, "calibration": calibration, "comparison": comparison, "files": files}
    given |= {"verdict": verdict(tables, calibration), "figures": figures, "unused": visits[~visits["used"]]}
    return environment().get_template("calibration.html").render(given)


def verdict(tables: Tables, calibration: Calibration) -> list[str]:
    """Say what was reached, the most important first.

    Parameters
    ----------
    tables : dict of str to astropy.table.Table
    calibration : Calibration

    Returns
    -------
    list of str
    """
    visits = tables["visits"]
    used = visits[visits["used"]]
    n = len(calibration.filters), len(set(used["target"])), len(set(used["subarray"]))
    counts = ", ".join(f"{k} {what}{'s' * (k != 1)}" for k, what in zip(n, ("filter", "star", "subarray"), strict=True))
    err = 100 * calibration.factor_err / calibration.factor
    size = f"{err.min():.2f} to {err.max():.2f} %" if np.ptp(err) > 0.005 else f"{err[0]:.2f} %"
    first, at, last = map(day_of, (np.min(used["mjd"]), calibration.shape.date, np.max(used["mjd"])))
    when = f"{first} to {last}; valid for {at} and {calibration.reference}"
    lines = [f"Factors known to {size} (1 sigma), from {len(used)} of {len(visits)} rows of {counts}, {when}"]
    return lines + ([f"Found: {text}" for text in calibration.found] or ["No effect beyond the factors is significant"])
