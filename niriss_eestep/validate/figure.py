"""Figure of the pulls, which shows whether the error bars are right."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from niriss_eestep.arrays import Array
from niriss_eestep.report.style import COLOURS, new_figure, series_style, styled


def plot_pulls(found: Mapping[str, Any]) -> Any:
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
        figure, (histogram, by_radius) = new_figure(7.2, 3.4, ncols=2, width_ratios=(1, 1.4))
        figure.subplots_adjust(wspace=0.25)
        _histogram(histogram, np.concatenate([pulls.total for pulls in found.values()]))
        n = min(len(pulls.total) for pulls in found.values())
        for target, limit, label in ((0, 3 / np.sqrt(n), "mean"), (1, 3 / np.sqrt(2 * n), "standard deviation")):
            by_radius.axhspan(target - limit, target + limit, color="0.85", lw=0)
            by_radius.text(15.3, target + limit + 0.02, f"{label}: {target}", ha="right", va="bottom", color="0.35")
        for index, (name, pulls) in enumerate(found.items()):
            style = series_style(index)
            by_radius.plot(pulls.radius, pulls.group.std(axis=0), label=name, lw=0.8, ms=3.5, **style)
            by_radius.plot(pulls.radius, pulls.group.mean(axis=0), lw=0.8, ms=3.5, **style)
        by_radius.set(
            xlabel="aperture radius [pix]",
            ylabel="pull of the group's count rate",
            ylim=(-1.4 * max(0.2, 3 / np.sqrt(n)), 1 + 1.5 * max(0.2, 3 / np.sqrt(2 * n))),
            title="grey: 3 sampling errors",
        )
        by_radius.legend(ncols=3, loc="center", bbox_to_anchor=(0.5, 0.5), fontsize="x-small")
        return figure


def _histogram(axis: Any, values: Array) -> None:
    """Histogram of all pulls, with the normal distribution."""
    from scipy.stats import norm

    edges = np.linspace(-4, 4, 33)
    density, *_ = axis.hist(values, edges, density=True, color=COLOURS[5], lw=0)
    x = np.linspace(-4, 4, 200)
    axis.plot(x, norm.pdf(x), color=COLOURS[6], label="normal distribution")
    axis.set(
        xlabel="pull of the total count rate",
        ylabel="density",
        title=f"{len(values)} groups: mean {values.mean():.2f}, std {values.std():.2f}",
    )
    axis.legend(loc="upper left", fontsize="x-small")
    axis.set_ylim(0, 1.2 * max(0.4, density.max()))  # room for the legend
