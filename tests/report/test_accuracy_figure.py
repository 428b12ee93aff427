"""The figure of the pulls."""

import numpy as np

from niriss_eestep.report.style import figure_bytes
from niriss_eestep.validate.accuracy import Pulls
from niriss_eestep.validate.figure import plot_pulls


def test_pulls_are_drawn():
    rng = np.random.default_rng(1)
    radius = np.array([1.0, 5.0, 10.0, 15.0])
    found = {
        name: Pulls(radius, rng.normal(size=(400, 4)), rng.normal(size=400), np.full(400, 0.001))
        for name in ("F090W", "F480M")
    }
    figure = plot_pulls(found)
    histogram, mean, std = figure.axes
    assert histogram.get_xlabel() == "Pull of the total count rate"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["F090W", "F480M"]
    for axis, of in ((mean, np.mean), (std, np.std)):
        drawn = [line.get_ydata() for line in axis.lines]
        assert np.allclose(drawn, [of(pulls.group, axis=0) for pulls in found.values()])
    assert len(figure_bytes(figure, "png")) > 1000
