"""Figure of the pulls, which shows whether the error bars are right."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from niriss_eestep.report.style import COLOURS, new_figure, series_style, styled


def plot_pulls(found: Mapping[str, Any]) -> Figure:
    """Plot the distribution of the total rate's pulls, and the pulls' mean and standard deviation at each radius.

    Parameters
    ----------
    found : mapping of str to `niriss_eestep.validate.accuracy.Pulls`
        By filter.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with styled():
        figure, (histogram, *panels) = new_figure(9.6, 3.5, bottom=0.8, ncols=3)
        figure.subplots_adjust(wspace=0.2)
        values, x = np.concatenate([pulls.total for pulls in found.values()]), np.linspace(-4, 4, 200)
        density, *_ = histogram.hist(values, np.linspace(-4, 4, 33), density=True, color=COLOURS[5], lw=0)
        histogram.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color=COLOURS[6], label="normal distribution")
        title = f"{len(values)} totals: mean {values.mean():.2f}, std {values.std():.2f}"
        histogram.set(xlabel="Pull of the total count rate", ylabel="Density", title=title)
        histogram.legend(loc="upper left")
        histogram.set_ylim(0, 1.2 * max(0.4, density.max()))  # room for the legend
        n = min(len(pulls.total) for pulls in found.values())
        kinds: Any = (("Mean", 0, 3 / np.sqrt(n), np.mean), ("Standard deviation", 1, 3 / np.sqrt(2 * n), np.std))
        for axis, (label, expected, limit, of) in zip(panels, kinds, strict=True):
            axis.axhspan(expected - limit, expected + limit, color="0.9", lw=0)
            for index, (name, pulls) in enumerate(found.items()):
                axis.plot(pulls.radius, of(pulls.group, axis=0), label=name, lw=0.8, ms=3.5, **series_style(index))
            axis.set(xlabel="Aperture radius [pix]", title=f"{label} at each radius")
            axis.margins(y=0.15)
        figure.legend(*axis.get_legend_handles_labels(), ncols=12, loc="lower center", columnspacing=1.2)
        figure.text(0.01, 0.02, "grey: 3 sampling errors", color="0.35")
        return figure
