import io
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from niriss_eestep.flux.total_rate import effective_ee
from niriss_eestep.measure.repair import PIXEL_KINDS
from niriss_eestep.reference import load_psfee
from niriss_eestep.report import figures
from niriss_eestep.report.style import figure_bytes

HOSTILE = "<script>alert(1)</script> $\\frac{$ \u202e \U0001f600 \x1b[31m"


def draw(figure):
    """Draw a figure; warnings are errors. Gives the text that it shows."""
    svg = figure_bytes(figure, "svg")
    assert len(svg) < 150_000
    return " ".join(ET.parse(io.BytesIO(svg)).getroot().itertext())


def every_figure(program):
    for model in (*program.ee, *program.sb, *program.combined, program.abs_flux):
        yield model.plot()
    for model in program.ee:
        yield figures.plot_stamps([model])
    yield figures.plot_background(program.abs_flux)


@pytest.mark.parametrize("case", ["program", "troubled", "single"])
def test_figures_of_every_kind(case, request):
    for figure in every_figure(request.getfixturevalue(case)):
        draw(figure)
        labels = [text for axis in figure.axes for text in (axis.get_xlabel(), axis.get_ylabel()) if text]
        for label in labels:
            # a quantity with its unit, or a ratio
            assert "[" in label or "/" in label or "Part" in label or "since" in label, label


def test_plotting_leaves_no_global_state_behind():
    """Neither a window system nor the user's own settings are touched; a step does not import matplotlib."""
    code = """
import sys
import niriss_eestep.steps, niriss_eestep.products.models
assert "matplotlib" not in sys.modules
import matplotlib
from niriss_eestep.report.style import new_figure, figure_bytes, styled
matplotlib.rcParams["font.size"] = 17.0
with styled():
    figure, axis = new_figure()
figure_bytes(figure)
assert matplotlib.rcParams["font.size"] == 17.0
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def _points(axis):
    """Points of the series, which are drawn with letters as markers: {label: (x, y)}."""
    return {
        line.get_label(): line.get_data()
        for line in axis.lines
        if line.get_linestyle() == "None" and isinstance(line.get_marker(), str)
    }


def test_ee_figure_shows_the_profile_and_its_residuals(single):
    (model,) = single.ee
    figure = model.plot()
    radius, rate = _points(figure.axes[0])["measured"]
    np.testing.assert_allclose(rate, model.count_rate)
    np.testing.assert_allclose(radius, model.radius)
    # the residuals a second way: the total from the mean over 5-10 pix
    psfee = load_psfee()
    effective = effective_ee(
        lambda r: psfee.ee("F444W", r),
        model.radius,
        model.area,
        model.background_ring_edges,
        model.background_ring_coverage,
    )
    inside = (model.radius >= 5) & (model.radius <= 10)
    total = np.mean((model.count_rate / effective)[inside])
    (residual,) = (y for _, y in _points(figure.axes[1]).values())
    np.testing.assert_allclose(residual, 100 * (model.count_rate / (total * effective) - 1), atol=1e-9)


def test_model_curve_goes_through_the_data(program):
    """A star rendered from the packaged PSF agrees with the packaged EE once the sky is subtracted."""
    model = next(m for m in program.combined if m.kind == "combined_ee")
    figure = model.plot()
    series = _points(figure.axes[1])
    assert len(series) == 3  # two dithers and their mean
    for radius, residual in series.values():
        # photon noise is 0.3 % at 5 pix, repaired pixels at most as much; five standard deviations
        assert np.all(np.abs(residual[radius >= 3]) < 1.5)


def test_combined_figure_names_few_and_counts_many(make_program):
    many = make_program(("F480M",), n_dithers=9)
    text = draw(many.combined[0].plot())
    assert "each of 9 exposures" in text
    assert "01101_00001" not in text


def test_failed_exposures_say_why(troubled):
    failed = troubled.ee[0]
    assert "1 bad pixel(s) within 5 pix" in draw(failed.plot()).replace("\n", " ")
    assert "no star" in draw(troubled.sb[4].plot())


def test_missing_expected_rates_are_said(troubled):
    assert "no expected rate" in draw(troubled.abs_flux.plot())


def test_abs_flux_figure_shows_ratios_and_the_predecessor(program):
    from niriss_eestep.instrument import FILTERS

    table = program.abs_flux.table
    assert np.isfinite(table["ratio"]).all()
    figure = program.abs_flux.plot()
    ((_, ratio),) = _points(figure.axes[0]).values()
    ((_, change),) = _points(figure.axes[1]).values()
    np.testing.assert_allclose(ratio, table["ratio"])
    np.testing.assert_allclose(change, [row["photmjsr"] / FILTERS[row["filter"]].photmjsr for row in table])


def test_the_radii_averaged_are_marked_with_their_mean(program):
    radius = program.abs_flux.radius[program.abs_flux.radius_used[1] > 0]
    model = next(model for model in program.combined if model.kind == "combined_ee")
    figure = figures.plot_combined_ee(model, total=5000.0, averaged=(radius, 0.002))
    below = figure.axes[1]
    (band,) = [found for found in below.collections if found.get_alpha() == 0.35]
    (low, bottom), (high, top) = band.get_datalim(below.transData).get_points()
    np.testing.assert_allclose([low, high], [radius[0] - 0.3, radius[-1] + 0.3])
    np.testing.assert_allclose([bottom, top], [-0.2, 0.2])
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "mean: 5000 DN/s \N{PLUS-MINUS SIGN} 0.2 %" in legend


def test_stamp_marks_pixels_by_kind(program):
    model = program.ee[0]
    text = draw(figures.plot_stamps([model]))
    for kind in ("repaired", "no value", "sky outlier"):
        number = np.count_nonzero(model.stamp_kind & PIXEL_KINDS[kind])
        assert number > 0
        assert kind in text


def test_profile_without_stamp(program):
    model = program.ee[0].copy()
    for name in ("stamp", "stamp_repaired", "stamp_kind"):
        del model._instance[name]
    assert "holds no stamp" in draw(figures.plot_stamps([model]))


def test_stamp_without_a_value(single):
    model = single.ee[0].copy()
    model.stamp = np.full_like(model.stamp, np.nan)
    assert "no pixel" in draw(figures.plot_stamps([model]))


def test_names_from_headers_are_text(single):
    model = single.ee[0].copy()
    model.meta.target.proposer_name = HOSTILE
    shown = draw(model.plot())
    assert "<script>alert(1)</script> $\\frac{$" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_background_of_weeks_is_in_days(program):
    model = program.abs_flux.copy()
    model.exposures["mjd"] = 59700.0 + 10.0 * np.arange(len(model.exposures))
    assert "Days since 2022-05-01 00:00 UTC" in draw(figures.plot_background(model))


def test_background_without_times(program):
    model = program.abs_flux.copy()
    model.exposures["mjd"] = np.nan
    assert "no exposure with a time" in draw(figures.plot_background(model))


def test_picture_of_pixels(single):
    assert figure_bytes(single.ee[0].plot(), "png").startswith(b"\x89PNG")


def test_same_data_same_picture(single):
    assert figure_bytes(single.ee[0].plot(), "svg") == figure_bytes(single.ee[0].plot(), "svg")
