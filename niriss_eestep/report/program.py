"""Figures of a whole program: totals, ratios and calibration factors of all groups, backgrounds in time."""

import numpy as np

from niriss_eestep.instrument import FILTERS
from niriss_eestep.report.style import new_figure, note, plain, series_style, styled

#: of legends below a figure
N_COLUMNS = 3

#: room that the name of a filter takes, set upright in 7 points [inch]
_LABEL_WIDTH = 0.14


def plot_abs_flux(model):
    """Plot measured over expected electron rate, and PHOTMJSR over its predecessor, against wavelength.

    Parameters
    ----------
    model : AbsFluxModel

    Returns
    -------
    matplotlib.figure.Figure
        One marker for each target and subarray; groups that failed are named.
    """
    table = model.table
    pivot = np.array([_pivot(row) for row in table])
    predecessor = np.array([_predecessor(row) for row in table])
    with styled():
        n_series = len(_series(table))
        legend = 0.2 + 0.2 * -(-n_series // N_COLUMNS) if n_series > 1 else 0.0
        figure, (top, below) = new_figure(
            5.6, 4.8 + legend, left=0.95, bottom=0.5 + legend, top=0.7, nrows=2, sharex=True
        )
        _against_wavelength(top, table, pivot, table["ratio"], table["ratio_err"])
        values, errors = table["photmjsr"] / predecessor, table["photmjsr_err"] / predecessor
        _against_wavelength(below, table, pivot, values, errors)
        top.set_ylabel("Measured / expected\nelectron rate")
        below.set_ylabel("PHOTMJSR / predecessor\n(August 2022)")
        below.set_xlabel("Pivot wavelength [\N{MICRO SIGN}m]")
        _name_filters(top, table, pivot)
        if legend:
            figure.legend(*top.get_legend_handles_labels(), loc="lower center", ncols=N_COLUMNS)
        return figure


def plot_background(model):
    """Plot the background of each exposure against time.

    Parameters
    ----------
    model : AbsFluxModel

    Returns
    -------
    matplotlib.figure.Figure
        One marker for each filter.
    """
    from astropy.time import Time

    rows = model.exposures[np.isfinite(model.exposures["mjd"]) & np.isfinite(model.exposures["background"])]
    with styled():
        figure, axis = new_figure(5.6, 3.6, right=1.1, top=0.2)
        if not len(rows):
            note(axis, "no exposure with a time and a background")
            axis.set_axis_off()
            return figure
        start = float(np.floor(rows["mjd"].min() * 24) / 24)
        in_days = np.ptp(rows["mjd"]) > 3
        names = [name for name in FILTERS if name in rows["filter"]] + sorted(set(rows["filter"]) - set(FILTERS))
        for index, name in enumerate(names):
            mine = rows[rows["filter"] == name]
            time = (mine["mjd"] - start) * (1 if in_days else 24)
            style = {"ls": "none", "label": plain(name), **series_style(index)}
            axis.errorbar(time, mine["background"], mine["background_err"], **style)
        since = Time(start, format="mjd", scale="utc").strftime("%Y-%m-%d %H:%M")
        axis.set_xlabel(f"{'Days' if in_days else 'Hours'} since {since} UTC")
        axis.set_ylabel("Background [DN/s/pix]")
        figure.legend(loc="center right")
        return figure


def _pivot(row):
    """Pivot wavelength of a row; the filter's nominal one where no spectrum gave it [micron]."""
    facts = FILTERS.get(str(row["filter"]))
    return row["pivot"] if np.isfinite(row["pivot"]) or facts is None else facts.pivot


def _predecessor(row):
    """PHOTMJSR of August 2022 [MJy/sr per DN/s]."""
    facts = FILTERS.get(str(row["filter"]))
    return np.nan if facts is None else facts.photmjsr


def _series(table):
    """Label and rows of each target and subarray; a name that all share is left out."""
    several = [name for name in ("target", "subarray") if len(set(table[name])) > 1]
    labels = [plain(" ".join(str(row[name]) for name in several)) for row in table]
    return [(label, np.array([other == label for other in labels])) for label in dict.fromkeys(labels)]


def _against_wavelength(axis, table, wavelength, value, err):
    """Plot the groups' values about 1."""
    good = np.isfinite(value) & np.isfinite(wavelength)
    series = _series(table)
    for index, (label, mine) in enumerate(series):
        points = mine & good
        if points.any():
            # side by side where several subarrays have the same filter [micron]
            shift = 0.03 * (index - (len(series) - 1) / 2)
            errors = np.nan_to_num(err[points])
            axis.errorbar(
                wavelength[points] + shift, value[points], errors, ls="none", label=label or None, **series_style(index)
            )
    axis.axhline(1, color="0.5", lw=0.8, zorder=0)
    axis.margins(y=0.15)
    known = wavelength[np.isfinite(wavelength)]
    if known.size:
        axis.set_xlim(known.min() - 0.25, known.max() + 0.25)
    if not good.any():
        note(axis, "no expected rate: the star's spectrum was not found")


def _name_filters(axis, table, wavelength):
    """Name the filters above the panel, at their wavelengths; those that failed altogether with a cross."""
    known = np.isfinite(wavelength)
    found = {}
    for row, at in zip(table[known], wavelength[known], strict=True):
        found.setdefault(str(row["filter"]), []).append((float(at), str(row["status"]).startswith("failed")))
    cross = "\N{MULTIPLICATION SIGN} "
    names = [cross * all(failed for _, failed in groups) + plain(name) for name, groups in found.items()]
    at = np.array([np.mean([at for at, _ in groups]) for groups in found.values()])
    upper = axis.secondary_xaxis("top")
    upper.set_xticks(at, [""] * len(at))
    low, high = axis.get_xlim()
    width = axis.figure.get_figwidth() * axis.get_position().width
    style = {"transform": axis.get_xaxis_transform(), "rotation": 90, "fontsize": 7, "ha": "center", "va": "bottom"}
    for x, name in zip(_apart(at, _LABEL_WIDTH * (high - low) / width), names, strict=True):
        axis.text(x, 1.03, name, **style)


def _apart(positions, gap):
    """Move positions apart until neighbours are a gap away from each other, no further than need be."""
    order = np.argsort(positions)
    moved = np.array(positions, dtype=float)[order]
    while np.any(excess := np.maximum(gap - np.diff(moved), 0.0) > 1e-6 * gap):
        # neighbours in the way of each other move by half of what is missing each
        missing = np.where(excess, gap - np.diff(moved), 0.0)
        moved[:-1] -= missing / 2
        moved[1:] += missing / 2
    result = np.empty_like(moved)
    result[order] = moved
    return result
