"""Figures of encircled energy and surface brightness, of one exposure and of a group."""

import numpy as np

from niriss_eestep.products.groups import exposure_backgrounds, group_of
from niriss_eestep.report.curves import model_curve
from niriss_eestep.report.style import COLOURS, new_figure, note, plain, second_scale, series_style, styled

#: more exposures than this are drawn alike, and share one entry of the legend
MAX_NAMED = 6

#: colours of the mean and of the model
MEAN, MODEL = "black", "0.55"


def plot_ee_profile(model, *, psfee=None, total=None):
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
    series = [_Series("measured", model.count_rate, model.count_rate_err, series_style(0))]
    curve, reason = _curve(psfee, group_of(model)["filter"], rings, model.area[None], model.radius)
    if total is None and curve is not None:
        total = curve.total(model.count_rate[None], np.ones((1, len(model.radius))))
    effective = [None if curve is None else curve.effective[0]]
    with styled():
        return _ee_figure(model, series, effective, curve, total, _failure(model) or reason)


def plot_combined_ee(model, *, psfee=None, total=None, averaged=None):
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

    Returns
    -------
    matplotlib.figure.Figure
        Residuals from the model in percent below: level where the total does not depend on the radius. Radii at which
        an exposure is flagged have open symbols.
    """
    rings = exposure_backgrounds(model)
    curve, reason = _curve(psfee, model.meta.group.filter, rings, model.exposure_area, model.radius)
    weight = model.exposure_weight
    if total is None and curve is not None:
        total = curve.total(model.exposure_count_rate, weight)
    rates = zip(model.exposure_count_rate, model.exposure_count_rate_err, model.exposure_flag, strict=True)
    series = _exposure_series(model.exposure_names, rates)
    mean_style = {"color": MEAN, "marker": "_", "ms": 9, "zorder": 4}
    series.append(_Series("combined", model.count_rate, model.count_rate_err, mean_style))
    effective = [None] * len(series)
    if curve is not None:
        shares = np.where(weight > 0, weight, 0.0)
        with np.errstate(invalid="ignore"):  # a radius that nobody measured has no weights
            mean = np.sum(np.where(shares > 0, shares * curve.effective, 0.0), axis=0) / shares.sum(axis=0)
        effective = [*curve.effective, mean]
    with styled():
        return _ee_figure(model, series, effective, curve, total, reason, averaged)


def plot_sb_profile(model):
    """Plot the surface brightness of one exposure against radius, with background level and clipped pixels.

    Parameters
    ----------
    model : SBProfileModel

    Returns
    -------
    matplotlib.figure.Figure
        Below, the share of each annulus's pixels that was left out as low.
    """
    series = [_Series("measured", model.surface_brightness, model.surface_brightness_err, series_style(0))]
    record = model.meta.sb
    with styled():
        figure, (top, below) = new_figure(5.2, 4.2, top=0.5, nrows=2, sharex=True, height_ratios=(3, 1))
        reason = _failure(model) or "nothing was measured"
        _sb_panel(top, model.radius, series, record.background, record.background_std, reason)
        _legend(top)
        total = np.maximum(model.n_used + model.n_clipped, 1)
        below.bar(model.radius, 100 * model.n_clipped / total, width=model.half_width, color=COLOURS[1])
        for radius, number in zip(model.radius, model.n_clipped, strict=True):
            below.annotate(str(number), (radius, 0), (0, 2), textcoords="offset points", ha="center", fontsize=7)
        below.set_ylabel("Clipped [%]")
        below.set_ylim(0, max(1.0, 110 * np.max(model.n_clipped / total)))
        below.set_xlabel("Mid-radius of the annulus [pix]")
        top.set_title(_title(model))
        return figure


def plot_combined_sb(model, *, psfee=None, total=None):
    """Plot the surface brightness of a group: each dither, their mean and, with a total, the model PSF.

    Parameters
    ----------
    model : CombinedSBModel
    psfee : PSFEE, optional
        Encircled energy of the model PSF; the packaged one by default.
    total : float, optional
        Total count rate of the star [DN/s].

    Returns
    -------
    matplotlib.figure.Figure
    """
    values = zip(
        model.exposure_surface_brightness, model.exposure_surface_brightness_err, model.exposure_flag, strict=True
    )
    series = _exposure_series(model.exposure_names, values)
    mean_style = {"color": MEAN, "marker": "_", "ms": 9, "zorder": 4}
    series.append(_Series("combined", model.surface_brightness, model.surface_brightness_err, mean_style))
    backgrounds = model.exposure_background[np.isfinite(model.exposure_background)]
    with styled():
        figure, axis = new_figure(5.2, 4.3, bottom=0.7)
        _sb_panel(axis, model.radius, series, np.mean(backgrounds) if backgrounds.size else np.nan)
        if total is not None:
            _model_sb(axis, model, psfee, total)
        _legend(axis)
        axis.set_xlabel(
            "Mid-radius of the annulus [pix]\nnegative: fainter than the subtracted starlight of the sky annulus"
        )
        axis.set_title(_title(model))
        return figure


def _legend(axis):
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="lower left")


def _model_sb(axis, model, psfee, total):
    """Draw the model star's surface brightness, less what the sky annulus holds of it."""
    rings = next((ring for ring in exposure_backgrounds(model) if ring[0].size > 1), None)
    fine = np.linspace(1.0, model.radius[-1], 200)
    half = 0.5  # pix: a ring of one pixel's width at each radius
    sky = (np.array([0.0, 0.0]), np.array([0.0])) if rings is None else rings
    curve, _ = _curve(psfee, model.meta.group.filter, [sky], np.pi * (fine + half)[None] ** 2, fine + half)
    if curve is not None:
        inner, _ = _curve(psfee, model.meta.group.filter, [sky], np.pi * (fine - half)[None] ** 2, fine - half)
        light = total * (curve.effective[0] - inner.effective[0]) / (4 * np.pi * fine * half)
        axis.plot(fine, light, color=MODEL, zorder=1, label="model PSF, sky subtracted")


class _Series:
    """Points to plot: label, values, errors, style, and which of them are good."""

    def __init__(self, label, value, err, style, good=None):
        self.label, self.value, self.err, self.style = label, np.asarray(value), np.asarray(err), style
        self.good = np.isfinite(self.value) & (True if good is None else np.asarray(good, dtype=bool))


def _curve(psfee, filter_name, rings, area, radius):
    return model_curve(psfee or _packaged(), filter_name, rings, area, radius)


def _packaged():
    from niriss_eestep.reference import load_psfee

    return load_psfee()


def _exposure_series(names, rates):
    """Give one series for each exposure; many exposures look alike."""
    many = len(names) > MAX_NAMED
    series = []
    for index, (name, (value, err, flag)) in enumerate(zip(names, rates, strict=True)):
        style = series_style(0) if many else series_style(index)
        label = _short(name)
        if many:
            style |= {"alpha": 0.5, "ms": 3}
            label = f"each of {len(names)} exposures" if index == 0 else None
        series.append(_Series(label, value, err, style, flag))
    return series


def _short(name):
    """Shorten an exposure's name, for the legend: without program, observation and detector."""
    parts = str(name).split("_")
    standard = len(parts) == 4 and parts[0].startswith("jw")
    return plain("_".join(parts[1:3]) if standard else name)[:40]


def _title(model):
    group = model._instance["meta"].get("group") or group_of(model)
    setup = "  ".join(str(group.get(key) or "") for key in ("target", "filter", "subarray"))
    name = "" if "group" in model._instance["meta"] else f"\n{plain(model.meta.filename or 'in memory')}"
    return plain(setup) + name


def _failure(model):
    return model._instance["meta"][model.meta_key].get("failure", "")


def _spread(index, n, step):
    """Shift of the n-th series along the radius, so that error bars do not hide each other [pix]."""
    return step * (index - (n - 1) / 2) if n <= MAX_NAMED + 1 else 0.0


def _errorbars(axis, radius, value, err, series, label):
    """Plot one series; flagged points are open."""
    for good, face in ((series.good, series.style["color"]), (np.isfinite(value) & ~series.good, "white")):
        if good.any():
            axis.errorbar(radius[good], value[good], err[good], ls="none", mfc=face, label=label, **series.style)
            label = None


def _ee_figure(model, series, effective, curve, total, reason, averaged=None):
    figure, (top, below) = new_figure(5.2, 4.3, right=0.7, top=0.7, nrows=2, sharex=True, height_ratios=(3, 2))
    n, radius = len(series), model.radius
    for index, entry in enumerate(series):
        _errorbars(top, radius + _spread(index, n, 0.06), entry.value, entry.err, entry, entry.label)
    scaled = curve is not None and total is not None and np.isfinite(total) and total != 0
    if scaled:
        top.plot(
            curve.fine_radius, total * curve.fine_effective, color=MODEL, zorder=1, label="model PSF, sky subtracted"
        )
        for index, (entry, part) in enumerate(zip(series, effective, strict=True)):
            percent = 100 / (total * part)
            shifted = radius + _spread(index, n, 0.06)
            _errorbars(below, shifted, entry.value * percent - 100, entry.err * percent, entry, None)
        below.axhline(0, color=MODEL, zorder=1)
        if averaged is not None and len(averaged[0]):
            percent, ends = 100 * averaged[1], averaged[0][[0, -1]] + np.array([-0.3, 0.3])
            below.fill_between(ends, -percent, percent, color=COLOURS[4], alpha=0.35, lw=0, zorder=0)
            said = f"mean of these radii: {total:.6g} DN/s \N{PLUS-MINUS SIGN} {percent:.2g} %"
            below.text(0.98, 0.04, said, transform=below.transAxes, ha="right", fontsize=8)
        _limit_residuals(below, radius, series, effective, total)
    else:
        note(below, reason or "no total count rate to scale the model to")
    if not any(np.isfinite(entry.value).any() for entry in series):
        note(top, reason or "nothing was measured")
    else:
        top.legend(loc="lower right")
        top.set_ylim(bottom=min(0.0, top.get_ylim()[0]))
    top.set_ylabel("Count rate [DN/s]")
    below.set_ylabel("Data / model - 1 [%]")
    below.set_xlabel("Aperture radius [pix]")
    below.set_xlim(0, 1.04 * radius[-1])
    scale = model._instance["meta"][model.meta_key].get("pixel_scale")
    if scale:
        second_scale(top, "top", scale, "Aperture radius [arcsec]")
    if scaled:
        second_scale(top, "right", 1 / total, "Fraction of the total")
    figure.suptitle(_title(model), fontsize=10)
    return figure


def _limit_residuals(axis, radius, series, effective, total):
    """Choose limits by the radii that a total is taken from: the core's centring residuals may leave the panel."""
    outer = radius >= min(5.0, radius[-1])
    reach = [
        np.abs(100 * entry.value / (total * part) - 100) + 100 * entry.err / (total * np.abs(part))
        for entry, part in zip(series, effective, strict=True)
    ]
    inside = np.array(reach)[:, outer]
    inside = inside[np.isfinite(inside)]
    limit = max(0.2, 1.3 * float(inside.max())) if inside.size else 1.0
    axis.set_ylim(-limit, limit)
    for entry, part in zip(series, effective, strict=True):
        percent = 100 * entry.value / (total * part) - 100
        for beyond, marker, edge in ((percent > limit, 6, limit), (percent < -limit, 7, -limit)):
            if beyond.any():
                style = {"marker": marker, "color": entry.style["color"], "ls": "none", "ms": 5, "clip_on": False}
                axis.plot(radius[beyond], np.full(np.count_nonzero(beyond), edge), **style)


def _sb_panel(axis, radius, series, background, background_std=np.nan, reason="nothing was measured"):
    """Plot surface brightnesses on a logarithmic axis, the background beside them."""
    n = len(series)
    for index, entry in enumerate(series):
        _errorbars(axis, radius + _spread(index, n, 0.12), entry.value, entry.err, entry, entry.label)
    if np.isfinite(background):
        axis.axhline(abs(background), color="0.4", ls="--", lw=1, label=f"background {background:.4g} DN/s/pix")
    if np.isfinite(background_std) and background_std > 0:
        axis.axhline(background_std, color="0.6", ls=":", lw=1, label="its scatter from pixel to pixel")
    values = np.concatenate([entry.value for entry in series])
    values = np.abs(values[np.isfinite(values) & (values != 0)])
    if values.size:
        # near zero the logarithm gives way to a straight scale: the outer annuli may be negative
        threshold = float(10 ** np.floor(np.log10(np.percentile(values, 20))))
        axis.set_yscale("symlog", linthresh=threshold)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}"))
        axis.set_ylim(top=2.5 * max(values.max(), abs(background) if np.isfinite(background) else 0.0))
    else:
        note(axis, reason)
    axis.set_ylabel("Surface brightness [DN/s/pix]")
