"""The figures: one function each, which returns a `matplotlib.figure.Figure`; those of pixels are in `pixels`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from astropy.time import Time
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from niriss_eestep.arrays import Array, Mask
from niriss_eestep.errors import NirissEEError
from niriss_eestep.flux.total_rate import effective_ee
from niriss_eestep.instrument import FILTERS, PHOTMJSR_2022_ERR
from niriss_eestep.products.metadata import exposure_backgrounds, group_of
from niriss_eestep.reference import PSFEE, load_psfee
from niriss_eestep.report.pixels import plot_stamps  # noqa: F401  (one place for all figures)
from niriss_eestep.report.style import COLOURS, add_scale, new_figure, note, plain, points, series_style, styled, ticks

#: more exposures than this are drawn alike, and share one entry of the legend
MAX_NAMED = 6

#: of each exposure's sky annulus: edges of its rings [pix], and the fraction of each that was used
Rings = Sequence[tuple[Array, Array]]
#: count rates, weights and areas of apertures by exposure, and their annuli
Exposures = tuple[Array, Array, Array, Rings]
#: radii that a total was averaged over [pix], and its fractional error
Averaged = tuple[Array, float] | None

#: colour of the model, style of the mean
MODEL = "0.55"
MEAN = {"color": "black", "marker": "_", "ms": 9, "zorder": 4}

#: radii at which a total is taken where none is given [pix] (abs_flux's default range)
TOTAL_RADII = (5.0, 10.0)

#: points of a smooth curve
N_FINE = 301

#: columns of legends below a figure
N_COLUMNS = 3

#: room that the name of a filter takes, set upright in 7 points [inch]
_LABEL_WIDTH = 0.14


# ---- encircled energy and surface brightness


@dataclass(frozen=True, slots=True, eq=False)
class _Series:
    """What is plotted against radius, one row per series; points that are not good are open."""

    value: Array
    err: Array
    good: Mask
    labels: list[str | None]
    styles: list[dict[str, Any]]

    def draw(self, axis: Axes, radius: Array, step: float, *, named: bool = True) -> None:
        """Plot the series side by side, ``step`` [pix] apart, so that error bars do not hide each other."""
        n = len(self.value)
        for i, (value, err, style) in enumerate(zip(self.value, self.err, self.styles, strict=True)):
            at, label = radius + step * (i - (n - 1) / 2) * (n <= MAX_NAMED + 1), self.labels[i] if named else None
            for chosen, face in ((self.good[i], style["color"]), (~self.good[i], "white")):
                if (chosen := chosen & np.isfinite(value)).any():
                    points(axis, at[chosen], value[chosen], err[chosen], mfc=face, label=label, **style)
                    label = None


def _single(value: Array, err: Array) -> _Series:
    """The series of one exposure."""
    return _Series(value[None], err[None], np.ones((1, len(value)), dtype=bool), ["measured"], [series_style(0)])


def _dithers(model: Any, values: Array, errors: Array, mean: Array, mean_err: Array) -> _Series:
    """The series of a group's exposures and their mean; many exposures look alike."""
    names = list(model.exposure_names)
    labels: list[str | None] = [_short(name) for name in names]
    styles = [series_style(i) for i in range(len(names))]
    if len(names) > MAX_NAMED:
        labels = [f"each of {len(names)} exposures"] + [None] * (len(names) - 1)
        styles = [series_style(0) | {"alpha": 0.5, "ms": 3}] * len(names)
    good = np.vstack([model.exposure_flag, np.ones(len(mean))]).astype(bool)
    values, errors = np.vstack([values, mean]), np.vstack([errors, mean_err])
    return _Series(values, errors, good, [*labels, "combined"], [*styles, MEAN])


def plot_ee_profile(model: Any, *, psfee: PSFEE | None = None, total: float | None = None) -> Figure:
    """Plot the encircled energy of one exposure against radius, with the model PSF.

    Parameters
    ----------
    model : EEProfileModel
    psfee : PSFEE, optional
        Encircled energy of the model PSF; the packaged one by default.
    total : float, optional
        Total count rate that the model is scaled to [DN/s]; by default the profile's own from 5 to 10 pix.

    Returns
    -------
    matplotlib.figure.Figure
        Residuals from the model in percent below.
    """
    rings = [(model.background_ring_edges, model.background_ring_coverage)]
    exposures = model.count_rate[None], np.ones((1, len(model.radius))), model.area[None], rings
    return _ee_figure(model, _single(model.count_rate, model.count_rate_err), exposures, psfee, total, None, True)


def plot_combined_ee(
    model: Any, *, psfee: PSFEE | None = None, total: float | None = None, averaged: Averaged = None, title: bool = True
) -> Figure:
    """Plot the encircled energy of a group: each dither, their mean, the model PSF.

    Parameters
    ----------
    model : CombinedEEModel
    psfee : PSFEE, optional
        Encircled energy of the model PSF; the packaged one by default.
    total : float, optional
        Total count rate that the model is scaled to [DN/s]; by default the profiles' own from 5 to 10 pix.
    averaged : (ndarray, float), optional
        Radii that the total was averaged over [pix], and its fractional error.
    title : bool
        Whether to name target, filter and subarray above the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Residuals from the model in percent below: level where the total does not depend on the radius. Radii at which
        an exposure is flagged have open symbols.
    """
    rates = model.exposure_count_rate
    exposures = rates, model.exposure_weight, model.exposure_area, exposure_backgrounds(model)
    series = _dithers(model, rates, model.exposure_count_rate_err, model.count_rate, model.count_rate_err)
    return _ee_figure(model, series, exposures, psfee, total, averaged, title)


def _ee_figure(
    model: Any, series: _Series, seen: Exposures, psfee: PSFEE | None, total: float | None, mean: Averaged, title: bool
) -> Figure:
    """Plot the series, and the model PSF that exposures of these rates, weights, apertures and sky annuli see."""
    rates, weight, area, rings = seen
    radius, scale = model.radius, 0.0  # of the model PSF [DN/s]; 0 where it cannot be drawn
    reason = _failure(model) or ("" if np.isfinite(area).all(axis=1).any() else "nothing was measured")
    try:
        if not reason:
            light, fine, smooth = _model_light(psfee, model, area, rings)
            scale = _total(radius, rates / light, weight) if total is None else total
    except NirissEEError as error:
        reason = f"no model PSF: {error}"
    with styled():
        size = {"right": 0.7, "top": 0.45, "nrows": 2, "sharex": True, "height_ratios": (3, 2)}
        figure, (top, below) = new_figure(5.2, 4.1, title=_title(model) if title else "", **size)
        series.draw(top, radius, 0.06)
        if scaled := bool(np.isfinite(scale)) and scale != 0:
            top.plot(fine, scale * smooth, color=MODEL, zorder=1, label="model PSF, sky subtracted")
            shares = np.where(weight > 0, weight, 0.0)
            with np.errstate(invalid="ignore"):  # a radius that no exposure measured has no weights
                average = np.nansum(shares * light, axis=0) / shares.sum(axis=0)
            _residuals(below, radius, series, scale * np.vstack([light, average])[: len(series.value)])
            if mean is not None and len(mean[0]):
                _mark_averaged(top, below, scale, *mean)
        else:
            note(below, reason or "no total count rate to scale the model to")
        if np.isfinite(series.value).any():
            top.legend(loc="lower right")
            top.set_ylim(bottom=min(0.0, top.get_ylim()[0]))
        else:
            note(top, reason or "nothing was measured")
        top.set_ylabel("Count rate [DN/s]")
        below.set(ylabel="Data / model - 1 [%]", xlabel="Aperture radius [pix]", xlim=(0, 1.04 * radius[-1]))
        _arcseconds(top, model)
        if scaled:
            add_scale(top, "right", 1 / scale, "Fraction of the total")
        return figure


def _mark_averaged(top: Axes, below: Axes, total: float, radii: Array, err: float) -> None:
    """Mark the radii that a total was averaged over, and its fractional error, with both in the legend."""
    band: Any = {"color": COLOURS[4], "alpha": 0.35, "lw": 0, "zorder": 0}
    below.fill_between([radii[0] - 0.3, radii[-1] + 0.3], -100 * err, 100 * err, **band)
    text = f"mean: {total:.6g} DN/s \N{PLUS-MINUS SIGN} {100 * err:.2g} %"
    top.fill_between([], [], label=text, **band)


def _model_light(psfee: PSFEE | None, model: Any, area: Array, rings: Rings) -> tuple[Array, Array, Array]:
    """Fraction of the model star's light that apertures hold after the sky is subtracted.

    Returns
    -------
    light : ndarray, shape (n_exposures, n_radii)
        NaN for failed exposures.
    fine, smooth : ndarray, shape (n_fine,)
        Radii [pix], and the mean of the exposures there.
    """
    curve, fine = partial((psfee or load_psfee()).ee, _setup(model)["filter"]), np.linspace(0, model.radius[-1], N_FINE)
    measured, light = np.flatnonzero(np.isfinite(area).all(axis=1)).tolist(), np.full(area.shape, np.nan)
    for i in measured:
        light[i] = effective_ee(curve, model.radius, area[i], *rings[i])
    return light, fine, np.mean([effective_ee(curve, fine, np.pi * fine**2, *rings[i]) for i in measured], axis=0)


def _total(radius: Array, total: Array, weight: Array) -> float:
    """Weighted mean over the exposures and the radii from 5 to 10 pix, or all if there are none; NaN without data."""
    inside = (radius >= TOTAL_RADII[0]) & (radius <= TOTAL_RADII[1])
    weight = np.where(np.isfinite(total), np.maximum(weight, 0.0), 0.0)
    weight = weight * (inside if np.any(weight[:, inside] > 0) else 1.0)
    with np.errstate(invalid="ignore"):
        return float(np.nansum(weight * total) / np.sum(weight))


def _arcseconds(axis: Axes, model: Any) -> None:
    """Give the upper edge of a panel against radius a scale in arcseconds."""
    if scale := model._instance["meta"][model.meta_key].get("pixel_scale"):
        add_scale(axis, "top", scale, "Radius [arcsec]")


def _residuals(axis: Axes, radius: Array, series: _Series, model: Array) -> None:
    """Plot the difference from the model in percent.

    The limits are chosen by the radii that a total is taken from: the core's centring residuals may leave the panel.
    """
    percent = replace(series, value=100 * series.value / model - 100, err=100 * series.err / np.abs(model))
    percent.draw(axis, radius, 0.06, named=False)
    axis.axhline(0, color=MODEL, zorder=1)
    reach = (np.abs(percent.value) + percent.err)[:, radius >= min(5.0, radius[-1])]
    limit = max(0.2, 1.3 * float(np.max(reach, initial=0.0, where=np.isfinite(reach))))
    axis.set_ylim(-limit, limit)
    for value, style in zip(percent.value, series.styles, strict=True):
        for beyond, marker, edge in ((value > limit, 6, limit), (value < -limit, 7, -limit)):
            if beyond.any():
                arrow = {"marker": marker, "color": style["color"], "ls": "none", "ms": 5, "clip_on": False}
                axis.plot(radius[beyond], np.full(np.count_nonzero(beyond), edge), **arrow)


def plot_sb_profile(model: Any) -> Figure:
    """Plot the surface brightness of one exposure against radius, with background level and clipped pixels.

    Parameters
    ----------
    model : SBProfileModel

    Returns
    -------
    matplotlib.figure.Figure
        Below, the share of each annulus's pixels that was left out as low.
    """
    series, record = _single(model.surface_brightness, model.surface_brightness_err), model.meta.sb
    with styled():
        size = {"top": 0.45, "nrows": 2, "sharex": True, "height_ratios": (3, 1)}
        figure, (top, below) = new_figure(5.2, 4.1, title=_title(model), **size)
        if np.isfinite(record.background_std) and record.background_std > 0:
            top.axhline(record.background_std, color="0.6", ls=":", lw=1, label="scatter of the sky's pixels")
        _sb_panel(top, model, series, record.background)
        percent = 100 * model.n_clipped / np.maximum(model.n_used + model.n_clipped, 1)
        below.bar(model.radius, percent, width=model.half_width, color=COLOURS[1])
        for radius, number in zip(model.radius, model.n_clipped, strict=True):
            below.annotate(str(number), (radius, 0), (0, 2), textcoords="offset points", ha="center", fontsize=7)
        below.set_ylim(0, max(1.0, 1.1 * np.max(percent)))
        below.set(ylabel="Clipped [%]", xlabel="Mid-radius of the annulus [pix]")
        _arcseconds(top, model)
        return figure


def plot_combined_sb(
    model: Any, *, psfee: PSFEE | None = None, total: float | None = None, title: bool = True
) -> Figure:
    """Plot the surface brightness of a group: each dither, their mean and, with a total, the model PSF.

    Parameters
    ----------
    model : CombinedSBModel
    psfee : PSFEE, optional
        Encircled energy of the model PSF; the packaged one by default.
    total : float, optional
        Total count rate of the star [DN/s].
    title : bool
        Whether to name target, filter and subarray above the figure.

    Returns
    -------
    matplotlib.figure.Figure
    """
    values, errors = model.exposure_surface_brightness, model.exposure_surface_brightness_err
    series = _dithers(model, values, errors, model.surface_brightness, model.surface_brightness_err)
    backgrounds = model.exposure_background[np.isfinite(model.exposure_background)]
    with styled():
        figure, axis = new_figure(5.2, 4.1, bottom=0.7, top=0.45, title=_title(model) if title else "")
        light = None if total is None else _model_sb(model, psfee, total)
        _sb_panel(axis, model, series, np.mean(backgrounds) if backgrounds.size else np.nan, light)
        explained = "negative: fainter than the subtracted starlight of the sky annulus"
        axis.set_xlabel(f"Mid-radius of the annulus [pix]\n{explained}")
        _arcseconds(axis, model)
        return figure


def _model_sb(model: Any, psfee: PSFEE | None, total: float) -> tuple[Array, Array] | None:
    """The model star's surface brightness in rings of a pixel's width, less what the sky annulus holds of it."""
    rings = next((ring for ring in exposure_backgrounds(model) if ring[0].size > 1), ((), ()))
    fine = np.linspace(1.0, model.radius[-1], 200)
    curve = partial((psfee or load_psfee()).ee, model.meta.group.filter)
    try:
        # an aperture of no radius and of one pixel's area has lost what the annulus takes off a pixel
        taken = effective_ee(curve, np.zeros(1), np.ones(1), *rings)
        light = (curve(fine + 0.5) - curve(fine - 0.5)) / (2 * np.pi * fine) + taken
    except NirissEEError:
        return None  # the figure of encircled energy says why
    return fine, total * light


def _sb_panel(
    axis: Axes, model: Any, series: _Series, background: float, light: tuple[Array, Array] | None = None
) -> None:
    """Plot surface brightnesses on a logarithmic axis, with the background."""
    series.draw(axis, model.radius, 0.12)
    if np.isfinite(background):
        axis.axhline(abs(background), color="0.4", ls="--", lw=1, label=f"background {background:.4g} DN/s/pix")
    values = np.abs(series.value[np.isfinite(series.value) & (series.value != 0)])
    if values.size:
        # near zero the logarithm gives way to a straight scale: the outer annuli may be negative
        axis.set_yscale("symlog", linthresh=float(10 ** np.floor(np.log10(np.percentile(values, 20)))))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}"))
        axis.set_ylim(top=2.5 * max(values.max(), np.nan_to_num(abs(background))))
    else:
        note(axis, _failure(model) or "nothing was measured")
    axis.set_ylabel("Surface brightness [DN/s/pix]")
    if light is not None:
        axis.plot(*light, color=MODEL, zorder=1, label="model PSF, sky subtracted")
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="lower left")


def _short(name: object) -> str:
    """Shorten an exposure's name, for the legend: without program, observation and detector."""
    parts = str(name).split("_")
    standard = len(parts) == 4 and parts[0].startswith("jw")
    return plain("_".join(parts[1:3]) if standard else name)[:40]


def _setup(model: Any) -> dict[str, Any]:
    """Target, filter, pupil and subarray of an exposure or a group."""
    return model._instance["meta"].get("group") or group_of(model)


def _title(model: Any) -> str:
    """Target, filter and subarray; of one exposure also the file's name."""
    setup = "  ".join(str(_setup(model).get(key) or "") for key in ("target", "filter", "subarray"))
    single = "group" not in model._instance["meta"]
    return plain(setup) + f"\n{plain(model.meta.filename or 'in memory')}" * single


def _failure(model: Any) -> str:
    return model._instance["meta"][model.meta_key].get("failure", "")


# ---- a whole program


def plot_abs_flux(model: Any) -> Figure:
    """Plot measured over expected electron rate, and PHOTMJSR over its predecessor, against wavelength.

    Parameters
    ----------
    model : AbsFluxModel

    Returns
    -------
    matplotlib.figure.Figure
        One marker for each target and subarray; groups that failed are named. The grey band is the predecessor's error.
    """
    table = model.table
    facts = [FILTERS.get(str(name)) for name in table["filter"]]
    nominal, predecessor = np.array([(f.pivot, f.photmjsr) if f else (np.nan, np.nan) for f in facts]).reshape(-1, 2).T
    pivot = np.where(np.isfinite(table["pivot"]), table["pivot"], nominal)
    several = [name for name in ("target", "subarray") if len(set(table[name])) > 1]
    labels = [plain(" ".join(str(row[name]) for name in several)) for row in table]
    with styled():
        legend = 0.2 + 0.2 * -(-len(set(labels)) // N_COLUMNS) if several else 0.0
        size: dict[str, Any] = {"left": 0.95, "bottom": 0.5 + legend, "top": 0.7, "nrows": 2, "sharex": True}
        figure, (top, below) = new_figure(5.6, 4.8 + legend, **size)
        _about_one(top, labels, pivot, table["ratio"], table["ratio_err"])
        _about_one(below, labels, pivot, table["photmjsr"] / predecessor, table["photmjsr_err"] / predecessor)
        top.set_ylabel("Measured / expected\nelectron rate")
        below.axhspan(1 - PHOTMJSR_2022_ERR, 1 + PHOTMJSR_2022_ERR, color="0.92", zorder=0)
        below.set(ylabel="PHOTMJSR / predecessor\n(August 2022)", xlabel="Pivot wavelength [\N{MICRO SIGN}m]")
        _name_filters(top, table, pivot)
        if legend:
            figure.legend(*top.get_legend_handles_labels(), loc="lower center", ncols=N_COLUMNS)
        return figure


def _about_one(axis: Axes, labels: Sequence[str], wavelength: Array, value: Array, err: Array) -> None:
    """Plot the groups' values about 1, the series side by side where several have the same filter."""
    good, names = np.isfinite(value) & np.isfinite(wavelength), list(dict.fromkeys(labels))
    for index, label in enumerate(names):
        mine = good & np.array([other == label for other in labels])
        shift = 0.03 * (index - (len(names) - 1) / 2)  # micron
        if mine.any():
            points(axis, wavelength[mine] + shift, value[mine], err[mine], label=label or None, **series_style(index))
    axis.axhline(1, color="0.5", lw=0.8, zorder=0)
    axis.margins(y=0.15)
    known = wavelength[np.isfinite(wavelength)]
    if known.size:
        axis.set_xlim(known.min() - 0.25, known.max() + 0.25)
    if not good.any():
        note(axis, "no expected rate: the star's spectrum was not found")


def _name_filters(axis: Axes, table: NDArray[np.void], wavelength: Array) -> None:
    """Name the filters above the panel, at their wavelengths; a cross marks those of which every group failed."""
    names, at = [], []
    for name in dict.fromkeys(table["filter"][np.isfinite(wavelength)].tolist()):
        mine = (table["filter"] == name) & np.isfinite(wavelength)
        failed = all(str(status).startswith("failed") for status in table["status"][mine])
        names.append("\N{MULTIPLICATION SIGN} " * failed + plain(name))
        at.append(float(np.mean(wavelength[mine])))
    ticks(axis, "top", at)
    gap = _LABEL_WIDTH * np.ptp(axis.get_xlim()) / (axis.bbox.width / axis.figure.dpi)
    style: Any = {"rotation": 90, "fontsize": 7, "ha": "center", "va": "bottom"}
    for x, name in zip(_apart(at, gap), names, strict=True):
        axis.text(x, 1.03, name, transform=axis.get_xaxis_transform(), **style)


def _apart(positions: Sequence[float], gap: float) -> Array:
    """Move positions apart until neighbours are a gap away from each other, and no further."""
    moved, order = np.array(positions, dtype=float), np.argsort(positions)
    while np.any((missing := np.maximum(gap - np.diff(moved[order]), 0.0)) > 1e-6 * gap):
        # neighbours in the way of each other move by half of what is missing each
        moved[order[:-1]] -= missing / 2
        moved[order[1:]] += missing / 2
    return moved


def plot_background(model: Any) -> Figure:
    """Plot the background of each exposure against time.

    Parameters
    ----------
    model : AbsFluxModel

    Returns
    -------
    matplotlib.figure.Figure
        One marker for each filter.
    """
    rows = model.exposures[np.isfinite(model.exposures["mjd"]) & np.isfinite(model.exposures["background"])]
    with styled():
        figure, axis = new_figure(5.6, 3.6, right=1.1, top=0.2)
        if not len(rows):
            note(axis, "no exposure with a time and a background")
            return figure
        start = float(np.floor(rows["mjd"].min() * 24) / 24)
        per_day, unit = (1, "Days") if np.ptp(rows["mjd"]) > 3 else (24, "Hours")
        names = [name for name in FILTERS if name in rows["filter"]] + sorted(set(rows["filter"]) - set(FILTERS))
        for index, name in enumerate(names):
            mine = rows[rows["filter"] == name]
            time = (mine["mjd"] - start) * per_day
            points(axis, time, mine["background"], mine["background_err"], label=plain(name), **series_style(index))
        since = Time(start, format="mjd", scale="utc").strftime("%Y-%m-%d %H:%M")
        axis.set(xlabel=f"{unit} since {since} UTC", ylabel="Background [DN/s/pix]")
        figure.legend(loc="center right")
        return figure
