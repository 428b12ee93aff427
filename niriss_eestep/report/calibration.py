"""The page and the figures of a calibration from many visits."""

from __future__ import annotations

import base64
from html import escape

import numpy as np

from niriss_eestep.report.style import figure_bytes, new_figure, note, plain, series_style, styled

__all__ = ["calibration_html", "figures_of", "plot_against", "plot_stars"]

N_COLUMNS = 3
#: what the residuals are shown against: column, label, and which part of the model is left in
QUANTITIES = {
    "mjd": ("Date", "time"),
    "count_rate": ("Count rate [DN/s]", "count_rate"),
    "background": ("Background", None),
    "star_type": ("Kind of star", "star"),
    "target": ("Star", "star"),
    "subarray": ("Subarray", "subarray"),
    "integration_time": ("Integration time [s]", None),
    "well_depth": ("Well depth", None),
    "x": ("x of the star [pix]", None),
    "y": ("y of the star [pix]", None),
}


def figures_of(tables, calibration):
    """Yield the name and figure of each quantity that the visits have.

    Parameters
    ----------
    tables : dict of str to astropy.table.Table
        From `niriss_eestep.calibration.table.factor_tables`.
    calibration : Calibration

    Yields
    ------
    str, matplotlib.figure.Figure
    """
    for quantity in QUANTITIES:
        if quantity in tables["visits"].colnames:
            yield quantity, plot_against(tables, calibration, quantity)
    yield "stars", plot_stars(tables)


def plot_against(tables, calibration, quantity):
    """Plot measured over expected response, relative to each filter's factor, against one quantity.

    Parameters
    ----------
    tables : dict of str to astropy.table.Table
    calibration : Calibration
    quantity : str
        One of `QUANTITIES`. All of the model's other effects are taken off.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per filter, one colour per star; visits that were left out are not shown. The band is the factor's
        standard error.
    """
    label, part = QUANTITIES[quantity]
    names = calibration.filters
    n_rows = -(-len(names) // N_COLUMNS)
    n_columns = min(len(names), N_COLUMNS)
    visits = tables["visits"][tables["visits"]["used"]]
    named = visits[quantity].dtype.kind in "UO"
    levels = sorted(set(map(str, visits[quantity]))) if named else []
    stars = sorted(set(map(str, visits["target"])))
    value = np.array(visits["part_residual"]) + (np.array(visits[f"part_{part}"]) if part else 0)
    if quantity == "mjd":
        value = value + np.array(visits["part_epoch"])
    with styled():
        figure, axes = new_figure(
            1.1 + 2.6 * n_columns, 1.6 + 1.9 * n_rows, bottom=1.0 if named else 0.75, top=0.6,
            nrows=n_rows, ncols=n_columns, sharex=True, sharey=True, squeeze=False,
        )  # fmt: skip
        figure.subplots_adjust(hspace=0.3)
        for axis, name in zip(axes.flat, names, strict=False):
            for i, star in enumerate(stars):
                mine = (visits["filter"] == name) & (visits["target"] == star)
                at = _position(visits, quantity, mine, levels)
                if np.any(mine):
                    style = {"ls": "none", "ms": 3.0, "label": plain(star), **series_style(i)}
                    axis.errorbar(at, 100 * value[mine], 100 * np.array(visits["own"])[mine], elinewidth=0.6, **style)
            err = 100 * float(calibration.factor_err[names.index(name)] / calibration.factor[names.index(name)])
            axis.axhspan(-err, err, color="0.85", lw=0, zorder=0)
            axis.axhline(0, color="0.5", lw=0.8, zorder=0)
            _draw_time(axis, calibration, name, visits, quantity)
            title = f"{name}: {calibration.factor[names.index(name)]:.4f} \N{PLUS-MINUS SIGN} {err:.2f} %"
            axis.set_title(plain(title), fontsize=8)
        for axis in axes.flat[len(names) :]:
            axis.set_axis_off()
        _scale(axes[0, 0], visits, quantity, levels)
        figure.supxlabel(label, fontsize=9)
        figure.supylabel("From the factor [%]", fontsize=9)
        if len(stars) <= 12:
            handles = dict(zip(*reversed(axes[0, 0].get_legend_handles_labels()), strict=True))
            figure.legend(handles.values(), handles.keys(), loc="upper center", ncols=6, fontsize=7)
        return figure


def _position(visits, quantity, mine, levels):
    """Where visits stand; dates as years."""
    if levels:
        return [levels.index(str(name)) for name in visits[quantity][mine]]
    values = np.array(visits[quantity], dtype=float)[mine]
    return _years(values) if quantity == "mjd" else values


def _years(mjd):
    from astropy.time import Time

    return Time(np.asarray(mjd, dtype=float), format="mjd").decimalyear if np.isfinite(mjd).all() else np.asarray(mjd)


def _draw_time(axis, calibration, name, visits, quantity):
    """Draw the change in time that is claimed."""
    if quantity == "mjd" and calibration.shape.form != "constant" and np.isfinite(visits["mjd"]).all():
        days = np.linspace(np.min(visits["mjd"]), np.max(visits["mjd"]), 100)
        change = calibration.shape.log_response(days, calibration.shape.amplitude.get(name, 0.0))
        axis.plot(_years(days), 100 * change, color="0.2", lw=1)


def _scale(axis, visits, quantity, levels):
    """Choose ticks that can be read."""
    if levels:
        shown = levels if len(levels) <= 12 else levels[:: len(levels) // 12 + 1]
        axis.set_xticks(
            [levels.index(x) for x in shown], [plain(x) for x in shown], rotation=60, ha="right", fontsize=6
        )
        axis.set_xlim(-0.5, len(levels) - 0.5)
        for other in axis.figure.axes:
            for text in other.get_xticklabels():
                text.set(rotation=60, ha="right", fontsize=6)
    elif quantity == "count_rate":
        axis.set_xscale("log")
    else:
        axis.locator_params(axis="x", nbins=4)
    if quantity == "mjd":
        axis.xaxis.set_major_formatter("{x:.1f}")


def plot_stars(tables):
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
    with styled():
        figure, axis = new_figure(7.0, 3.8, bottom=0.8, right=1.6)
        names = list(dict.fromkeys(map(str, stars["target"])))
        for i, star in enumerate(names):
            mine = stars[stars["target"] == star]
            at = np.array([filters.index(str(name)) for name in mine["filter"]]) + 0.5 * (i + 0.5) / len(names) - 0.25
            style = {"ls": "none", "label": plain(star), **series_style(i)}
            axis.errorbar(at, 100 * mine["offset"], 100 * mine["offset_err"], **style)
        if not len(stars):
            note(axis, "no star")
        axis.axhline(0, color="0.5", lw=0.8, zorder=0)
        axis.set_xticks(range(len(filters)), [plain(name) for name in filters], rotation=60, ha="right")
        axis.set_ylabel("Star's residual [%]")
        if len(names) <= 16:
            figure.legend(loc="center right", fontsize=7)
        return figure


def calibration_html(tables, calibration, comparison, files):
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
    # a change in time may be claimed in single filters alone
    claimed = [e for e in calibration.effects if e.significant and (e.filter == "all" or e.effect == "time")]
    verdict = [
        f"{len(calibration.filters)} filters from {int(calibration.kept.sum())} of {len(tables['visits'])} rows."
    ]
    verdict += [
        f"Found: {e.effect} {e.level}, {e.filter}: {100 * e.value:+.3f} \N{PLUS-MINUS SIGN} {100 * e.err:.3f} %."
        for e in claimed
    ]
    if not claimed:
        verdict.append("No effect beyond the factors is claimed.")
    verdict += [f"{text[0].upper()}{text[1:]}." for text in calibration.messages]
    left_out = tables["visits"][~tables["visits"]["used"]]
    body = ["<h1>Flux calibration of a program</h1>", _list(verdict), "<h2>Factors</h2>"]
    body.append(
        f"<p>Measured over expected response in {escape(calibration.reference)} on MJD {calibration.date:.1f}.</p>"
    )
    body.append(_table(tables["calibration"]))
    body += ["<h2>Effects</h2>", _table(tables["effects"]), "<h2>Figures</h2>"]
    for name, figure in figures_of(tables, calibration):
        image = base64.b64encode(figure_bytes(figure, "png", dpi=110)).decode()
        body.append(f'<p><img alt="against {escape(name)}" src="data:image/png;base64,{image}"></p>')
    if calibration.moved:
        moved = [
            (kind, name, *(f"{100 * v:+.3f}" for v in change)) for (kind, name), change in calibration.moved.items()
        ]
        body += ["<h2>Without one star, or one epoch [%]</h2>", _rows(["left out", "", *calibration.filters], moved)]
    if len(left_out):
        columns = ("product", "target", "filter", "subarray", "mjd", "reason")
        body += ["<h2>Visits not used</h2>", _table(left_out[[c for c in columns if c in left_out.colnames]])]
    if comparison:
        body += [
            "<h2>Comparison of PHOTMJSR</h2>",
            _rows(list(comparison[0]), [tuple(row.values()) for row in comparison]),
        ]
    body += ["<h2>Files</h2>", _list(files), f"<p>{DELIVERY}</p>"]
    return HEAD + "\n".join(body) + "</body></html>\n"


DELIVERY = (
    "To deliver: run <code>crds certify --comparison-context=jwst-operational niriss_photom.fits niriss_apcorr.fits"
    "</code>, look at AUTHOR, PEDIGREE, USEAFTER and DESCRIP, and send the files with this page."
)
HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Flux calibration</title><style>
body {font-family: sans-serif; max-width: 62rem; margin: 1rem auto; padding: 0 1rem; line-height: 1.4}
table {border-collapse: collapse; font-size: 0.8rem}
td, th {border: 1px solid #ccc; padding: 0.15rem 0.5rem; text-align: left}
img {max-width: 100%} h1 {font-size: 1.5rem}
</style></head><body>
"""


def _list(lines):
    return "<ul>" + "".join(f"<li>{escape(str(line))}</li>" for line in lines) + "</ul>"


def _table(table):
    return _rows(table.colnames, table)


def _rows(names, rows):
    """An HTML table; numbers to five digits."""
    head = "".join(f"<th>{escape(str(name))}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(_cell(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value):
    if isinstance(value, (float, np.floating)):
        return "-" if np.isnan(value) else f"{value:.5g}"
    return str(value)
