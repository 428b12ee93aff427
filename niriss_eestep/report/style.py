"""How every figure looks: colours, fonts, text from headers; matplotlib without its global state."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from niriss_eestep.arrays import Array
from niriss_eestep.errors import printable

#: Okabe & Ito's colours, which colour-blind readers can tell apart; a marker always goes with a colour
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*X"

#: settings of matplotlib; the salt is how a style in force is known
_SETTINGS, _SALT = Path(__file__).parent / "templates" / "figures.mplstyle", "niriss_eestep"


_MARGINS = {"left": 0.85, "right": 0.2, "bottom": 0.5, "top": 0.35}  # of a figure [inch]


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the report's style, whatever the user's own matplotlib settings are."""
    if matplotlib.rcParams["svg.hashsalt"] == _SALT:
        yield  # within another figure, or a page, in this style
        return
    with matplotlib.rc_context(fname=_SETTINGS):
        yield


def new_figure(width: float = 6.4, height: float = 4.2, *, title: str = "", **settings: Any) -> tuple[Figure, Any]:
    """Make a figure that belongs to no window and to no global list.

    The margins are given: finding them from the labels takes as long as drawing the figure.

    Parameters
    ----------
    width, height : float
        Without the title [inch].
    title : str
        Above all; makes the figure higher.
    **settings
        ``left``, ``right``, ``bottom``, ``top``: margins [inch]; the others go to `matplotlib.figure.Figure.subplots`.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : matplotlib.axes.Axes or ndarray of Axes
    """
    above = 0.1 + 0.18 * (1 + title.count("\n")) if title else 0.0
    left, right, bottom, top = (settings.pop(side, margin) for side, margin in _MARGINS.items())
    height, top = height + above, top + above
    figure = Figure(figsize=(width, height), layout="none")  # type: ignore[arg-type]  # None would be the user's setting
    place = {"left": left / width, "right": 1 - right / width, "bottom": bottom / height, "top": 1 - top / height}
    figure.subplots_adjust(**place, hspace=0.06, wspace=0.06)
    axes = figure.subplots(**settings)
    for axis in figure.axes:
        axis.locator_params(nbins=6)  # a tick takes as long to draw as a hundred points
    if title:
        figure.suptitle(title, fontsize=10, y=1 - 0.06 / height)
    return figure, axes


def plain(text: object) -> str:
    """Make text from a header safe to draw: one line, only characters that the font has.

    Parameters
    ----------
    text : object

    Returns
    -------
    str
    """
    return printable(text).encode("latin-1", "backslashreplace").decode("latin-1")


def note(axis: Axes, text: str) -> None:
    """Write a note in the middle of a panel, in place of data; its y axis loses its scale.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    text : str
        Wrapped where it is long.
    """
    axis.set_yticks([])
    box = {"facecolor": "white", "edgecolor": "0.7", "boxstyle": "round,pad=0.4"}
    style: Any = {"transform": axis.transAxes, "ha": "center", "va": "center", "fontsize": "small", "bbox": box}
    axis.text(0.5, 0.5, fill(plain(text), 60), **style)


#: of the edges of a panel: where they are, horizontal and vertical alignment of their labels
_EDGES = {"bottom": (0, "center", "top"), "top": (1, "center", "bottom")}
_EDGES |= {"left": (0, "right", "center"), "right": (1, "left", "center")}


def _marks(axes: Axes, side: str, at: Sequence[float] | Array, depth: float, **line: Any) -> None:
    """Draw lines from one edge of a panel into it, as deep as this share of the panel."""
    start, level = _EDGES[side][0] * (1 - depth), side in ("bottom", "top")
    along, across = np.repeat(np.asarray(at, dtype=float), 3), np.tile([start, start + depth, np.nan], len(at))
    transform = axes.get_xaxis_transform() if level else axes.get_yaxis_transform()
    axes.plot(*((along, across) if level else (across, along)), transform=transform, **line)


def ticks(
    axes: Axes, side: str, at: Sequence[float] | Array, labels: Sequence[str] = (), name: str = "", fontsize: int = 9
) -> None:
    """Mark places on one edge of a panel: matplotlib's own ticks, and second axes for them, take ten times as long.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        With its final limits.
    side : {'bottom', 'left', 'top', 'right'}
    at : sequence of float
        In the data's units of that edge.
    labels : sequence of str
    name : str
        What is marked, written beside the labels.
    fontsize : int
    """
    (edge, ha, va), level = _EDGES[side], side in ("bottom", "top")
    turned = (lambda x, y: (x, y)) if level else (lambda x, y: (y, x))
    transform = axes.get_xaxis_transform() if level else axes.get_yaxis_transform()
    _marks(axes, side, at, 0.02, color="black", lw=0.8)
    style: dict[str, Any] = {"ha": ha, "va": va, "fontsize": fontsize}
    out = 2 * edge - 1
    for value, label in zip(at, labels, strict=False):
        axes.text(*turned(value, edge + 0.015 * out), label, transform=transform, **style)
    # inches from the edge: a line of text, or as many digits as the longest label has
    gap = 0.2 if level else 0.1 + 0.0095 * fontsize * max(map(len, labels), default=0)
    gap /= (axes.figure.get_size_inches() * axes.get_position().size)[int(level)]  # type: ignore[union-attr]
    rotation = 0 if level else 90 + 180 * edge
    axes.text(*turned(0.5, edge + gap * out), name, transform=axes.transAxes, rotation=rotation, **style)


def frozen(figure: Figure) -> Figure:
    """Draw the panels' frames, scales and labels as a few lines and texts, in half the time that matplotlib's take.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        With its final limits; its panels keep them.

    Returns
    -------
    matplotlib.figure.Figure
    """
    for axes in (axes for axes in figure.axes if axes.axison):
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
        axes.set_axis_off()
        axes.plot([0, 1, 1, 0, 0], [0, 0, 1, 1, 0], color="black", lw=0.8, transform=axes.transAxes, clip_on=False)
        for side, axis, limits in (("bottom", axes.xaxis, axes.get_xlim()), ("left", axes.yaxis, axes.get_ylim())):
            at = [value for value in axis.get_majorticklocs() if min(limits) <= value <= max(limits)]
            labels = axis.get_major_formatter().format_ticks(at) if axis.get_tick_params()[f"label{side}"] else []
            _marks(axes, side, at, 1, color="0.9", lw=0.6, zorder=0.5)  # the grid
            ticks(axes, side, at, labels, axis.get_label_text())
    return figure


def add_scale(axis: Axes, side: str, factor: float, label: str) -> None:
    """Give the upper or right edge of a panel a scale in another unit.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        With its final limits.
    side : {'top', 'right'}
    factor : float
        The other unit's value of one unit of the axis.
    label : str
    """
    low, high = sorted(factor * value for value in (axis.get_xlim() if side == "top" else axis.get_ylim()))
    at = np.array([value for value in MaxNLocator(5).tick_values(low, high) if low <= value <= high])
    ticks(axis, side, at / factor, [f"{value:g}" for value in at], label, fontsize=8)


def points(axis: Axes, x: Array, y: Array, err: Array, *, color: str, **style: Any) -> None:
    """Plot points with their error bars, as lines with gaps: `errorbar` takes five times as long.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
    x, y, err : ndarray, shape (n,)
        Where ``err`` is not finite, there is no bar.
    color : str
    **style
        Of the markers.
    """
    ends = np.stack([y - err, y + err, np.full(len(y), np.nan)], axis=1)
    axis.plot(np.repeat(x, 3), ends.ravel(), color=color, zorder=style.get("zorder", 2))
    axis.plot(x, y, color=color, ls="none", **style)


def series_style(index: int) -> dict[str, Any]:
    """Colour and marker of the n-th series; 56 differ.

    Parameters
    ----------
    index : int

    Returns
    -------
    dict
    """
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def figure_bytes(figure: Figure, form: str = "svg", *, dpi: int = 110) -> bytes:
    """Give a figure as a file's content, the same for the same data.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    form : {'svg', 'png'}
    dpi : int
        Of a PNG image, and of images within an SVG.

    Returns
    -------
    bytes
    """
    buffer = io.BytesIO()
    with styled():
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type")) if form == "svg" else {"Software": None}
        figure.savefig(buffer, format=form, dpi=dpi, metadata=metadata)
    if form != "svg":
        return buffer.getvalue()
    # coordinates to a hundredth of a point; what does not show is left out
    digits = re.compile(rb"(\.\d\d)\d+")
    svg = re.sub(rb'\b(d|transform|x|y)="[^"]*"', lambda found: digits.sub(rb"\1", found[0]), buffer.getvalue())
    svg = re.sub(rb"<metadata>.*?</metadata>", b"", svg, flags=re.DOTALL)
    # a reader's machine may not have the font
    svg = svg.replace(b"'DejaVu Sans'", b"'DejaVu Sans', Verdana, sans-serif")
    return re.sub(rb"\n\s*", b"\n", svg)
