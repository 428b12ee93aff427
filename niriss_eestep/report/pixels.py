"""Figures of the pixels around the star: the stamp, the repair before and after, the star's model and what is left."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D, Bbox, TransformedBbox
from numpy.typing import ArrayLike

from niriss_eestep.arrays import Array
from niriss_eestep.measure.repair import PIXEL_KINDS
from niriss_eestep.products.metadata import group_of
from niriss_eestep.products.regions import neighbour_of
from niriss_eestep.reference import load_psf_images
from niriss_eestep.reference.psf import PSFImage
from niriss_eestep.report.style import COLOURS, new_figure, plain, styled

#: marker and colour of each kind of pixel; in this order, so that a repaired pixel shows why it was repaired
_KIND_STYLES: dict[str, dict[str, Any]] = {
    "repaired": {"marker": "s", "ms": 4.5, "mfc": "none", "mec": COLOURS[0], "mew": 1.0},
    "flagged": {"marker": "x", "ms": 3, "mec": COLOURS[1], "mew": 0.9},
    "no value": {"marker": "+", "ms": 3.5, "mec": COLOURS[1], "mew": 0.9},
    "unexplained": {"marker": "x", "ms": 4, "mec": COLOURS[3], "mew": 1.1},
    "low": {"marker": "v", "ms": 3, "mfc": "none", "mec": COLOURS[3], "mew": 0.9},
    "sky outlier": {"marker": "o", "ms": 4, "mfc": "none", "mec": COLOURS[2], "mew": 0.9},
    "saturated": {"marker": "*", "ms": 4, "mfc": COLOURS[4], "mec": "black", "mew": 0.4},
}
_NEIGHBOUR: dict[str, Any] = {"marker": "D", "ms": 9, "mfc": "none", "mec": COLOURS[4], "mew": 1.3}

PANELS = ("stamp", "as measured", "bad pixels repaired", "model of the star", "repaired - model")
#: width and height of a panel with its margin, in panels
_STEP, _ROW = 1.05, 1.42
#: width of a panel [inch]
_WIDE = 1.03


class _Panel:
    """A square of the figure, which shows the pixels around a star out to some distance [pix]."""

    def __init__(self, axis: Axes, record: Mapping[str, Any], reach: float, left: float, bottom: float) -> None:
        self.axis, self.record, self.reach, self.left, self.bottom = axis, record, reach, left, bottom
        shift = Affine2D().translate(-record["x_center"], -record["y_center"]).scale(1 / (2 * reach))
        self.transform = shift.translate(left + 0.5, bottom + 0.5) + axis.transData
        self.box = TransformedBbox(Bbox.from_bounds(left, bottom, 1, 1), axis.transData)
        x, y = left, bottom
        axis.plot([x, x + 1, x + 1, x, x], [y, y, y + 1, y + 1, y], color="0.5", lw=0.5)

    def plot(self, x: ArrayLike, y: ArrayLike, **style: Any) -> None:
        """Plot over the pixels, in the detector's coordinates [pix]."""
        (line,) = self.axis.plot(x, y, transform=self.transform, **style)
        line.set_clip_box(self.box)

    def show(self, image: Array | None, stretch: Normalize, colours: str) -> None:
        """Show the part of a stamp that lies in the panel; grey leaves the colours to the marks."""
        if image is None:
            self.axis.text(self.left + 0.5, self.bottom + 0.5, "no model", ha="center", va="center", fontsize=7)
            return
        corner = np.array([self.record["stamp_x0"], self.record["stamp_y0"]])
        centre = np.array([self.record["x_center"], self.record["y_center"]]) - corner
        low = np.maximum(np.floor(centre - self.reach), 0).astype(int)
        high = np.minimum(np.ceil(centre + self.reach) + 1, image.shape[::-1]).astype(int)
        (left, below), (right, above) = low + corner - 0.5, high + corner - 0.5
        shown = np.ma.masked_invalid(image[low[1] : high[1], low[0] : high[0]])
        cmap = colormaps[colours].with_extremes(bad="#dbe9f6")
        place: Any = {"extent": (left, right, below, above), "origin": "lower", "transform": self.transform}
        drawn = self.axis.imshow(shown, cmap=cmap, norm=stretch, interpolation="none", aspect="auto", **place)
        drawn.set_clip_box(self.box)


def plot_stamps(models: Sequence[Any], images: Mapping[str, PSFImage] | None = None) -> Figure:
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

    Examples
    --------
    >>> from niriss_eestep import products
    >>> dithers = [products.open(path) for path in sorted(Path("products").glob("*_02101_*_eeprofile.asdf"))]
    >>> plot_stamps(dithers).savefig("stamps.png")
    """
    images = load_psf_images() if images is None else images
    width, height = len(PANELS) * _STEP, len(models) * _ROW
    with styled():
        margins: Any = {"left": 0.05, "right": 0.05, "bottom": 0.3, "top": 0.15}
        figure, axis = new_figure(width * _WIDE + 0.1, height * _WIDE + 0.45, **margins)
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


def _row(axis: Axes, model: Any, images: Mapping[str, PSFImage], bottom: float) -> None:
    """Draw the panels of one exposure."""
    name = plain(model.meta.filename or "in memory").removesuffix("_eeprofile.asdf")
    stamp = model._instance.get("stamp")
    if stamp is None or not np.isfinite(stamp).any():
        why = "the product holds no stamp" if stamp is None else "no pixel of the stamp has a value"
        axis.text(0, bottom + 0.5, f"{name}: {why}", fontsize=8)
        return
    record = model._instance["meta"]["ee"]
    star, (width, low, high) = _model_star(model, images), _greys(model)
    reaches = [max(stamp.shape) / 2] + 4 * [float(model.radius[-1]) + 2.0]
    panels = [_Panel(axis, record, reach, k * _STEP, bottom) for k, reach in enumerate(reaches)]
    greys = AsinhNorm(width, low, high)
    for panel, image in zip(panels, (stamp, stamp, model.stamp_repaired, star), strict=False):
        panel.show(image, greys, "gray_r")
    left = None if star is None else np.nan_to_num(model.stamp_repaired - star)
    panels[4].show(left, AsinhNorm(width, -high / 50, high / 50), "RdBu_r")
    _circles(panels[0], model)
    corner = np.array([[record["stamp_y0"]], [record["stamp_x0"]]])
    for panel, kinds in zip(panels, (("sky outlier", "saturated"), list(_KIND_STYLES)[1:], ["repaired"]), strict=False):
        for kind in kinds:
            y, x = np.nonzero(model.stamp_kind & PIXEL_KINDS[kind]) + corner
            inside = np.maximum(np.abs(x - record["x_center"]), np.abs(y - record["y_center"])) < panel.reach
            if inside.any():
                panel.plot(x[inside], y[inside], ls="none", label=kind, **_KIND_STYLES[kind])
    if neighbour := neighbour_of(model):
        panels[0].plot(*np.reshape(neighbour, (2, 1)), ls="none", label="neighbour", **_NEIGHBOUR)
    _compass(panels[0], model)
    scale = f"greys {_digits(low)} to {_digits(high)} DN/s, asinh"
    if star is not None:
        scale += f"; blue below, red above the model, \N{PLUS-MINUS SIGN}{_digits(high / 50)} DN/s"
    axis.text(0, bottom - 0.07, name, fontsize=7, va="top")
    axis.text(0, bottom - 0.17, scale, fontsize=6, va="top", color="0.35")


def _model_star(model: Any, images: Mapping[str, PSFImage]) -> Array | None:
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


def _greys(model: Any) -> tuple[float, float, float]:
    """Width, lower and upper end of an asinh stretch: linear near the sky's noise, logarithmic in the star [DN/s]."""
    bad = sum(PIXEL_KINDS[kind] for kind in ("flagged", "low", "unexplained"))
    finite = np.isfinite(model.stamp)
    usable = finite & ((model.stamp_kind & bad) == 0)
    values = model.stamp[usable if usable.any() else finite]
    low, sky, high = (float(v) for v in (*np.percentile(values, [1, 25]), values.max()))
    spread = max(sky - low, 1e-6 * abs(high), float(np.finfo(np.float32).tiny))
    return 2 * spread, low - spread, max(high, low + spread)


def _circles(panel: _Panel, model: Any) -> None:
    """Draw the apertures and the sky annulus."""
    record = model._instance["meta"]["ee"]
    sky = [radius for radius in (record["background_r_in"], record["background_r_out"]) if radius > 0]
    angle = np.append(np.linspace(0, 2 * np.pi, 73), np.nan)
    for radii, style in (
        (model.radius[:-1], {"color": COLOURS[0], "lw": 0.3}),
        (model.radius[-1:], {"color": COLOURS[0], "lw": 0.8}),
        (sky, {"color": COLOURS[2], "lw": 0.8, "ls": "--"}),
    ):
        # as one line with gaps: an artist for each circle would take longer to draw
        x, y = np.multiply.outer(radii, np.cos(angle)), np.multiply.outer(radii, np.sin(angle))
        panel.plot(record["x_center"] + x.ravel(), record["y_center"] + y.ravel(), **style)


def _compass(panel: _Panel, model: Any) -> None:
    """Draw north and east, where the header has them, and the length of an arcsecond."""
    axis, length = panel.axis, 1 / (model._instance["meta"]["ee"]["pixel_scale"] * 2 * panel.reach)
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


def _digits(value: float) -> str:
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")
