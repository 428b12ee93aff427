"""Figures of the pixels around the star: the stamp, and the repair before and after."""

from __future__ import annotations

import numpy as np

from niriss_eestep.measure.pixels import PIXEL_KINDS
from niriss_eestep.report.style import COLOURS, new_figure, note, plain, styled

__all__ = ["plot_repairs", "plot_stamp"]

#: marker and colour of each kind of pixel; in this order, so that a repaired pixel shows why it was repaired
_KIND_STYLES = {
    "repaired": {"marker": "s", "ms": 6.5, "mfc": "none", "mec": COLOURS[0], "mew": 1.3},
    "flagged": {"marker": "x", "ms": 4, "mec": COLOURS[1], "mew": 1.2},
    "no value": {"marker": "+", "ms": 5, "mec": COLOURS[1], "mew": 1.2},
    "low": {"marker": "v", "ms": 4, "mfc": "none", "mec": COLOURS[3], "mew": 1.2},
    "sky outlier": {"marker": "o", "ms": 6, "mfc": "none", "mec": COLOURS[2], "mew": 1.2},
    "saturated": {"marker": "*", "ms": 6, "mfc": COLOURS[4], "mec": "black", "mew": 0.5},
}


def plot_stamp(model):
    """Plot the stamp around the star: centre, apertures, sky annulus, and pixels marked by kind.

    Parameters
    ----------
    model : EEProfileModel
        With its stamp.

    Returns
    -------
    matplotlib.figure.Figure
        The image with an asinh stretch; the sky annulus lies between the dashed circles.
    """
    with styled():
        figure, axis = new_figure(4.8, 4.4, left=0.65, right=0.95, bottom=0.8, top=0.3)
        if _has_stamp(model, axis):
            drawn = _show(axis, model, model.stamp, _stretch(model))
            _colour_bar(axis, drawn)
            _circles(axis, model)
            if _mark_kinds(axis, model):
                figure.legend(loc="lower center", ncols=4)
        axis.set_title(plain(model.meta.filename or "in memory"), fontsize="small")
        return figure


def plot_repairs(model):
    """Plot the pixels within the largest aperture before and after the repair.

    Parameters
    ----------
    model : EEProfileModel
        With its stamp.

    Returns
    -------
    matplotlib.figure.Figure
        Both images with the same asinh stretch; pixels marked by kind on the left, the repaired ones on the right.
    """
    with styled():
        figure, (before, after) = new_figure(
            5.6, 3.2, left=0.65, right=0.9, bottom=0.75, top=0.45, ncols=2, sharex=True, sharey=True
        )
        if _has_stamp(model, before) and _has_stamp(model, after):
            stretch = _stretch(model)
            for axis, image, title in ((before, model.stamp, "as it came"), (after, model.stamp_repaired, "repaired")):
                drawn = _show(axis, model, image, stretch)
                axis.set_title(title, fontsize="small")
            after.set_ylabel("")
            _colour_bar(after, drawn)
            marked = _mark_kinds(before, model)
            _mark_kinds(after, model, ("repaired",), labels=False)
            _zoom(before, model)
            if marked:
                figure.legend(loc="lower center", ncols=4)
        figure.suptitle(plain(model.meta.filename or "in memory"), fontsize="small")
        return figure


def _has_stamp(model, axis):
    """Whether the product has a stamp with anything in it; else a note says so."""
    stamp = model._instance.get("stamp")
    if stamp is None:
        note(axis, "the product holds no stamp")
    elif not np.isfinite(stamp).any():
        note(axis, "no pixel of the stamp has a value")
    else:
        return True
    axis.set_axis_off()
    return False


def _stretch(model):
    """Asinh stretch from below the sky to the star: linear near the sky's noise, logarithmic in the star."""
    from matplotlib.colors import AsinhNorm

    usable = np.isfinite(model.stamp) & ((model.stamp_kind & (PIXEL_KINDS["flagged"] | PIXEL_KINDS["low"])) == 0)
    values = model.stamp[usable] if usable.any() else model.stamp[np.isfinite(model.stamp)]
    low, sky, high = (float(v) for v in (*np.percentile(values, [1, 25]), values.max()))
    spread = max(sky - low, 1e-6 * abs(high), float(np.finfo(np.float32).tiny))
    return AsinhNorm(linear_width=2 * spread, vmin=low - spread, vmax=max(high, low + spread))


def _show(axis, model, image, stretch):
    """Show an image in the coordinates of the exposure's array."""
    from matplotlib import colormaps

    record = model._instance["meta"]["ee"]
    ny, nx = image.shape
    left, bottom = record["stamp_x0"] - 0.5, record["stamp_y0"] - 0.5
    # greys, so that the marks' colours keep their meaning
    colours = colormaps["gray_r"].with_extremes(bad="#dbe9f6")
    drawn = axis.imshow(
        np.ma.masked_invalid(image),
        origin="lower",
        extent=(left, left + nx, bottom, bottom + ny),
        cmap=colours,
        norm=stretch,
        interpolation="none",
    )
    axis.grid(visible=False)
    axis.locator_params(nbins=5)
    axis.set_xlabel("x [pix]")
    axis.set_ylabel("y [pix]")
    return drawn


def _colour_bar(axis, drawn):
    """Add a colour bar as high as the image."""
    bar = axis.figure.colorbar(drawn, cax=axis.inset_axes((1.03, 0.0, 0.045, 1.0)))
    bar.ax.minorticks_off()
    bar.set_ticks(_bar_ticks(drawn.norm), labels=None)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "\N{MINUS SIGN}"))
    bar.set_label("Count rate [DN/s]")


def _bar_ticks(stretch):
    """Powers of ten, and zero, that stand apart on a stretched colour bar."""
    top = int(np.floor(np.log10(max(stretch.vmax, np.finfo(np.float32).tiny))))
    kept = []
    for value in [*(10.0**power for power in range(top, top - 12, -1)), 0.0]:
        place = float(stretch(value))
        if stretch.vmin <= value <= stretch.vmax and all(abs(place - float(stretch(other))) > 0.08 for other in kept):
            kept.append(value)
    return kept


def _circles(axis, model):
    """Draw the centre, the apertures and the sky annulus."""
    record = model._instance["meta"]["ee"]
    centre = record["x_center"], record["y_center"]
    axis.plot(*centre, "+", color=COLOURS[4], ms=9, mew=1.3, label="centre")
    sky = [radius for radius in (record["background_r_in"], record["background_r_out"]) if radius > 0]
    limits = axis.axis()
    for radii, style in (
        (model.radius[:-1], {"color": COLOURS[0], "lw": 0.4}),
        (model.radius[-1:], {"color": COLOURS[0], "lw": 1.1}),
        (sky, {"color": COLOURS[2], "lw": 1.1, "ls": "--"}),
    ):
        axis.plot(*_rings(centre, radii), **style)
    axis.axis(limits)


def _rings(centre, radii):
    """Points of concentric circles, as one line with gaps: an artist for each would take longer to draw."""
    angle = np.append(np.linspace(0, 2 * np.pi, 73), np.nan)
    radii = np.asarray(radii, dtype=float)[:, None]
    return (centre[0] + radii * np.cos(angle)).ravel(), (centre[1] + radii * np.sin(angle)).ravel()


def _mark_kinds(axis, model, kinds=tuple(_KIND_STYLES), *, labels=True):
    """Mark the pixels of some kinds; gives whether there were any."""
    record = model._instance["meta"]["ee"]
    found = False
    for kind in kinds:
        j, i = np.nonzero(model.stamp_kind & PIXEL_KINDS[kind])
        if len(i):
            label = f"{kind} ({len(i)})" if labels else None
            axis.plot(i + record["stamp_x0"], j + record["stamp_y0"], ls="none", label=label, **_KIND_STYLES[kind])
            found = True
    return found


def _zoom(axis, model):
    """Show what the largest aperture holds."""
    record = model._instance["meta"]["ee"]
    reach = float(model.radius[-1]) + 2.0
    axis.set_xlim(record["x_center"] - reach, record["x_center"] + reach)
    axis.set_ylim(record["y_center"] - reach, record["y_center"] + reach)
