"""Figures of the pixels around the star: the stamp, the repair before and after, the star's model and what is left."""

from dataclasses import dataclass

import numpy as np

from niriss_eestep.measure.repair import PIXEL_KINDS
from niriss_eestep.products.groups import group_of
from niriss_eestep.products.regions import neighbour_of
from niriss_eestep.report.style import COLOURS, new_figure, plain, styled

#: marker and colour of each kind of pixel; in this order, so that a repaired pixel shows why it was repaired
_KIND_STYLES = {
    "repaired": {"marker": "s", "ms": 4.5, "mfc": "none", "mec": COLOURS[0], "mew": 1.0},
    "flagged": {"marker": "x", "ms": 3, "mec": COLOURS[1], "mew": 0.9},
    "no value": {"marker": "+", "ms": 3.5, "mec": COLOURS[1], "mew": 0.9},
    "unexplained": {"marker": "x", "ms": 4, "mec": COLOURS[3], "mew": 1.1},
    "low": {"marker": "v", "ms": 3, "mfc": "none", "mec": COLOURS[3], "mew": 0.9},
    "sky outlier": {"marker": "o", "ms": 4, "mfc": "none", "mec": COLOURS[2], "mew": 0.9},
    "saturated": {"marker": "*", "ms": 4, "mfc": COLOURS[4], "mec": "black", "mew": 0.4},
}
_NEIGHBOUR = {"marker": "D", "ms": 9, "mfc": "none", "mec": COLOURS[4], "mew": 1.3}

PANELS = ("stamp", "as measured", "bad pixels repaired", "model of the star", "repaired - model")
#: width and height of a panel with its margin, in panels
_STEP, _ROW = 1.05, 1.42
#: width of a panel [inch]
_WIDE = 1.03


@dataclass(frozen=True, slots=True)
class _Panel:
    """A square of the figure: what it is centred on and how far it reaches [pix], and where it stands."""

    x: float
    y: float
    reach: float
    left: float
    bottom: float

    def place(self, x, y):
        """Place of a pixel in the figure; NaN outside the panel."""
        u, v = (np.asarray(x) - self.x) / (2 * self.reach), (np.asarray(y) - self.y) / (2 * self.reach)
        inside = (np.abs(u) <= 0.5) & (np.abs(v) <= 0.5)
        return np.where(inside, u + self.left + 0.5, np.nan), np.where(inside, v + self.bottom + 0.5, np.nan)


def plot_stamp(model):
    """Plot one exposure's stamp; see `plot_stamps`."""
    return plot_stamps([model])


def plot_stamps(models, images=None):
    """Plot the stamps around the star of some exposures, one below the other.

    Parameters
    ----------
    models : sequence of EEProfileModel
        With their stamps.
    images : mapping of str to PSFImage, optional
        The model star by filter; the packaged PSF by default.

    Returns
    -------
    matplotlib.figure.Figure
        In each row: the stamp with apertures (blue) and sky annulus (green, dashed); the pixels within the largest
        aperture before and after the repair; the model PSF fitted to them, and what it leaves. One panel of axes holds
        all the images, since axes take most of the time of drawing.
    """
    from niriss_eestep.reference import load_psf_images

    images = load_psf_images() if images is None else images
    width, height = len(PANELS) * _STEP, len(models) * _ROW
    with styled():
        figure, axis = new_figure(
            width * _WIDE + 0.1, height * _WIDE + 0.45, left=0.05, right=0.05, bottom=0.3, top=0.15
        )
        axis.set_axis_off()
        for number, model in enumerate(models):
            _row(axis, model, images, -number * _ROW)
        axis.set(xlim=(0, width), ylim=(0.12 - height + 1.0, 1.12), aspect="equal")
        for k, title in enumerate(PANELS):
            axis.text(k * _STEP + 0.5, 1.04, title, ha="center", fontsize=8)
        handles = {line.get_label(): line for line in axis.lines if not line.get_label().startswith("_")}
        if handles:
            figure.legend(handles.values(), handles, loc="lower center", ncols=7, handletextpad=0.1, columnspacing=1.0)
        return figure


def _row(axis, model, images, bottom):
    """One exposure."""
    name = plain(model.meta.filename or "in memory").removesuffix("_eeprofile.asdf")
    stamp = model._instance.get("stamp")
    if stamp is None or not np.isfinite(stamp).any():
        why = "the product holds no stamp" if stamp is None else "no pixel of the stamp has a value"
        axis.text(0, bottom + 0.5, f"{name}: {why}", fontsize=8)
        return
    record = model._instance["meta"]["ee"]
    star, bar = _model_star(model, images), _stretch(model)
    left = np.nan_to_num(model.stamp_repaired - star) if star is not None else None
    size, reach = max(stamp.shape) / 2, float(model.radius[-1]) + 2.0
    panels = [
        _Panel(record["x_center"], record["y_center"], size if k == 0 else reach, k * _STEP, bottom) for k in range(5)
    ]
    for panel, image in zip(panels, (stamp, stamp, model.stamp_repaired, star, left), strict=True):
        residual = image is left and left is not None
        _show(axis, panel, image, record, _about_zero(bar) if residual else bar, "RdBu_r" if residual else "gray_r")
    _circles(axis, panels[0], model)
    for panel, kinds in zip(
        panels[:3], (("sky outlier", "saturated"), list(_KIND_STYLES)[1:], ["repaired"]), strict=True
    ):
        _mark_kinds(axis, panel, model, kinds)
    if neighbour := neighbour_of(model):
        axis.plot(*panels[0].place(*neighbour), ls="none", label="neighbour", **_NEIGHBOUR)
    _compass(axis, panels[0], model)
    grey = f"greys {_short(bar.vmin)} to {_short(bar.vmax)} DN/s; asinh from the sky {record['background']:.3g}"
    colours = (
        f"; blue below, red above the model, \N{PLUS-MINUS SIGN}{_short(bar.vmax / 50)} DN/s"
        if star is not None
        else ""
    )
    axis.text(0, bottom - 0.07, name, fontsize=7, va="top")
    axis.text(0, bottom - 0.17, grey + colours, fontsize=6, va="top", color="0.35")


def _model_star(model, images):
    """The model PSF scaled to the repaired pixels within the largest aperture, on the background; None without one."""
    group, record = group_of(model), model._instance["meta"]["ee"]
    if group["filter"] not in images or group["pupil"] == "NRM" or not np.isfinite(record["x_center"]):
        return None
    x, y = record["x_center"] - record["stamp_x0"], record["y_center"] - record["stamp_y0"]
    unit = images[group["filter"]].render(x, y, model.stamp.shape)
    j, i = np.indices(model.stamp.shape)
    data = model.stamp_repaired - record["background"]
    used = (np.hypot(i - x, j - y) < model.radius[-1]) & np.isfinite(data)
    if not used.any():
        return None
    return unit * (np.sum(unit[used] * data[used]) / np.sum(unit[used] ** 2)) + record["background"]


def _stretch(model):
    """Asinh stretch from below the sky to the star: linear near the sky's noise, logarithmic in the star."""
    from matplotlib.colors import AsinhNorm

    usable = np.isfinite(model.stamp) & (
        (model.stamp_kind & sum(PIXEL_KINDS[kind] for kind in ("flagged", "low", "unexplained"))) == 0
    )
    values = model.stamp[usable] if usable.any() else model.stamp[np.isfinite(model.stamp)]
    low, sky, high = (float(v) for v in (*np.percentile(values, [1, 25]), values.max()))
    spread = max(sky - low, 1e-6 * abs(high), float(np.finfo(np.float32).tiny))
    return AsinhNorm(linear_width=2 * spread, vmin=low - spread, vmax=max(high, low + spread))


def _about_zero(stretch):
    """A stretch of differences: to two percent of the star's brightest pixel."""
    from matplotlib.colors import AsinhNorm

    return AsinhNorm(linear_width=stretch.linear_width, vmin=-stretch.vmax / 50, vmax=stretch.vmax / 50)


def _show(axis, panel, image, record, stretch, colours):
    """Show what of an image lies in a panel."""
    from matplotlib import colormaps

    edge = (panel.left, panel.left + 1, panel.bottom, panel.bottom + 1)
    x, y = edge[0], edge[2]
    axis.plot([x, x + 1, x + 1, x, x], [y, y, y + 1, y + 1, y], color="0.5", lw=0.5)
    if image is None:
        axis.text(x + 0.5, y + 0.5, "no model PSF", ha="center", va="center", fontsize=7)
        return
    n = int(np.ceil(panel.reach))
    padded = np.pad(np.asarray(image, dtype=float), n, constant_values=np.nan)
    i, j = round(panel.x - record["stamp_x0"]) + n, round(panel.y - record["stamp_y0"]) + n
    cut = padded[max(j - n, 0) : j + n + 1, max(i - n, 0) : i + n + 1]
    extent = [
        value
        for at, size, start in ((round(panel.x) - panel.x, panel.reach, x), (round(panel.y) - panel.y, panel.reach, y))
        for value in (start + 0.5 + (at - n - 0.5) / (2 * size), start + 0.5 + (at + n + 0.5) / (2 * size))
    ]
    drawn = axis.imshow(
        np.ma.masked_invalid(cut),
        origin="lower",
        extent=extent,
        # greys, so that the marks' colours keep their meaning
        cmap=colormaps[colours].with_extremes(bad="#dbe9f6"),
        norm=stretch,
        interpolation="none",
        aspect="auto",
    )
    from matplotlib.patches import Rectangle

    drawn.set_clip_path(Rectangle((x, y), 1, 1, transform=axis.transData))


def _circles(axis, panel, model):
    """Draw the apertures and the sky annulus."""
    record = model._instance["meta"]["ee"]
    sky = [radius for radius in (record["background_r_in"], record["background_r_out"]) if radius > 0]
    for radii, style in (
        (model.radius[:-1], {"color": COLOURS[0], "lw": 0.3}),
        (model.radius[-1:], {"color": COLOURS[0], "lw": 0.8}),
        (sky, {"color": COLOURS[2], "lw": 0.8, "ls": "--"}),
    ):
        # as one line with gaps: an artist for each circle would take longer to draw
        angle = np.append(np.linspace(0, 2 * np.pi, 73), np.nan)
        across = np.asarray(radii, dtype=float)[:, None]
        x, y = panel.x + across * np.cos(angle), panel.y + across * np.sin(angle)
        axis.plot(*panel.place(x.ravel(), y.ravel()), **style)


def _mark_kinds(axis, panel, model, kinds):
    """Mark the pixels of some kinds."""
    record = model._instance["meta"]["ee"]
    for kind in kinds:
        j, i = np.nonzero(model.stamp_kind & PIXEL_KINDS[kind])
        if len(i):
            x, y = panel.place(i + record["stamp_x0"], j + record["stamp_y0"])
            axis.plot(x, y, ls="none", label=kind, **_KIND_STYLES[kind])


def _compass(axis, panel, model):
    """Draw north and east, where the header has them, and the length of an arcsecond."""
    length = 1 / (model._instance["meta"]["ee"]["pixel_scale"] * 2 * panel.reach)
    x, y = panel.left + 0.06, panel.bottom + 0.06
    axis.plot([x, x + length], [y, y], color="black", lw=1.5, solid_capstyle="butt")
    axis.text(x + length + 0.03, y, '1"', fontsize=7, va="center")
    wcs = model._instance["meta"].get("wcsinfo", {})
    sky = np.array([[wcs.get(f"pc{i}_{j}", np.nan) * wcs.get(f"cdelt{i}", np.nan) for j in (1, 2)] for i in (1, 2)])
    if not np.isfinite(sky).all() or np.linalg.det(sky) == 0:
        return
    x, y = panel.left + 0.84, panel.bottom + 0.84
    for name, (dx, dy) in zip("EN", np.linalg.inv(sky).T, strict=True):
        dx, dy = 0.1 * np.array([dx, dy]) / np.hypot(dx, dy)
        axis.plot([x, x + dx], [y, y + dy], color="black", lw=0.9)
        axis.text(x + 1.5 * dx, y + 1.5 * dy, name, fontsize=6, ha="center", va="center")


def _short(value):
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
