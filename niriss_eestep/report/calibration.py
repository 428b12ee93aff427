"""Figures of a calibration from many visits."""

from __future__ import annotations

import numpy as np

from niriss_eestep.report.style import COLOURS, MARKERS

__all__ = ["plot_against"]

N_COLUMNS = 3


def plot_against(table, calibration, quantity):
    """Plot each visit's PHOTMJSR, relative to its filter's factor.

    Parameters
    ----------
    table : astropy.table.Table
        The visits: rows of the absolute-flux tables.
    calibration : niriss_eestep.calibration.visits.VisitCalibration
        What `combine_visits` made of them.
    quantity : str
        ``mjd``, with the time dependence found, or ``count_rate``.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per filter; one colour per star, one marker per subarray, crosses for the visits left out.
    """
    from matplotlib.figure import Figure

    n_rows = -(-len(calibration.factors) // N_COLUMNS)
    figure = Figure(figsize=(10, 1.5 + 2.2 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, N_COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axis, factor in zip(axes.flat, calibration.factors, strict=False):
        _panel(axis, table, calibration, factor, quantity)
    for axis in axes.flat[len(calibration.factors) :]:
        axis.set_axis_off()
    if quantity == "count_rate":
        axes[0, 0].set_xscale("log")
    else:  # dates in full, few enough to be read
        axes[0, 0].ticklabel_format(axis="x", useOffset=False)
        axes[0, 0].locator_params(axis="x", nbins=4)
    figure.supxlabel({"mjd": "Date [MJD]", "count_rate": "Count rate [DN/s]"}[quantity])
    figure.supylabel("PHOTMJSR over the filter's factor - 1 [%]")
    handles = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def _panel(axis, table, calibration, factor, quantity):
    """Plot one filter's visits."""
    mine = np.asarray(table["filter"]) == factor.filter
    finite = np.isfinite(table["photmjsr"]) & np.isfinite(table[quantity])
    stars, subarrays = sorted(set(table["target"])), sorted(set(table["subarray"]))
    for star in stars:
        for subarray in subarrays:
            group = mine & finite & (table["target"] == star) & (table["subarray"] == subarray)
            style = {"color": COLOURS[stars.index(star) % len(COLOURS)], "ls": "none", "ms": 4}
            marker = MARKERS[subarrays.index(subarray) % len(MARKERS)]
            _points(axis, table[group & calibration.kept], factor, quantity, f"{star} {subarray}", marker, style)
            _points(axis, table[group & ~calibration.kept], factor, quantity, "left out", "x", style)
    axis.axhline(0.0, color="0.6", lw=0.8, zorder=0)
    if quantity == "mjd" and factor.time.form != "constant":
        days = np.linspace(*np.percentile(table["mjd"][mine & finite], [0, 100]), 100)
        axis.plot(days, 100 / factor.time.correction(days) - 100, color="0.3", lw=1, label="time dependence")
    percent = 100 * factor.photmjsr_err / factor.photmjsr
    axis.set_title(f"{factor.filter}: {factor.photmjsr:.4f} $\\pm$ {percent:.2f} %", fontsize="small")


def _points(axis, rows, factor, quantity, label, marker, style):
    """Plot some visits with their own errors."""
    if len(rows):
        own = np.sqrt(sum(np.nan_to_num(rows[name]) ** 2 for name in ("err_photon", "err_scatter", "err_radii")))
        value = 100 * rows["photmjsr"] / factor.photmjsr
        axis.errorbar(rows[quantity], value - 100, value * own, marker=marker, label=label, **style)
