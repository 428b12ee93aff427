"""Pixels that no star explains, and light that is not the star's, beside a model PSF that is not quite right."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from niriss_eestep.measure.background import Background
from niriss_eestep.measure.ee import EEOptions, measure_ee
from niriss_eestep.measure.repair import PIXEL_KINDS
from niriss_eestep.measure.stamp import Stamp
from niriss_eestep.measure.star_model import PSFModel, compare, star_at, without_dead
from niriss_eestep.reference import load_psf_images, load_psfee

SIZE, X, Y, RATE, TIME, GAIN, READ = 71, 35.2, 34.8, 60000.0, 100.0, 1.61, 16.0


def star(name, rng, *, blur=0.0, others=()):
    """A star of its filter's PSF, a little broader than the model, with noise."""
    render = load_psf_images()[name].render
    light = render(X, Y, (SIZE, SIZE))
    for fraction, dx, dy in others:
        light = light + fraction * render(X + dx, Y + dy, (SIZE, SIZE))
    # capacitance between pixels
    spread = sum(np.roll(light, s, axis=a) for a in (0, 1) for s in (-1, 1))
    light = (1 - 4 * blur) * light + blur * spread
    rate = 0.5 + RATE * light
    image = rng.poisson(rate * GAIN * TIME) / (GAIN * TIME) + rng.normal(0, READ / GAIN / TIME, rate.shape)
    variance = np.maximum(image, 0) / (GAIN * TIME) + (READ / GAIN / TIME) ** 2
    nothing = np.zeros(image.shape, dtype=np.uint32)
    return Stamp("star", image, variance, nothing, nothing > 0, 135, 235, 100, 200, 0.0656, GAIN)


def measured(stamp, name):
    ee, err = (partial(part, name) for part in (load_psfee().ee, load_psfee().ee_err))
    return measure_ee(stamp, EEOptions(), PSFModel(load_psf_images()[name].render, ee, err))


@pytest.mark.parametrize("name", ["F090W", "F200W", "F480M"])
def test_a_clean_star_has_no_bad_pixel_and_no_company(name):
    for seed in range(4):
        profile = measured(star(name, np.random.default_rng(seed), blur=0.005), name)
        assert profile.status == "measured"
        assert profile.n_bad.max() == 0


@pytest.mark.parametrize("value", [0.0, 1e5, 3e8])
@pytest.mark.parametrize("name", ["F090W", "F200W", "F480M"])
def test_a_damaged_peak_is_found_and_repaired(name, value):
    stamp = star(name, np.random.default_rng(5), blur=0.005)
    truth = measured(stamp, name)
    stamp.image[35, 35] = value
    profile = measured(stamp, name)
    assert "1 unflagged pixel(s) that do not fit the star were treated as bad: x=135, y=235" in profile.status
    assert profile.n_repaired[-1] == 1
    kind = profile.stamp_kind[235 - profile.stamp_y0, 135 - profile.stamp_x0]
    assert kind == PIXEL_KINDS["unexplained"] | PIXEL_KINDS["repaired"]
    near = np.abs(profile.count_rate - truth.count_rate) < 4 * profile.count_rate_err
    assert near[4:].all()
    # without a model nothing is said of it
    assert measure_ee(stamp, EEOptions()).status == "measured"


@pytest.mark.parametrize("at", [(35, 35), (36, 35)])
@pytest.mark.parametrize(("name", "factor"), [("F090W", 2.0), ("F200W", 2.0), ("F277W", 1.3), ("F480M", 1.3)])
def test_a_core_pixel_that_is_a_little_too_bright_is_found(name, factor, at):
    stamp = star(name, np.random.default_rng(9), blur=0.005)
    truth = measured(stamp, name)
    stamp.image[at] *= factor
    profile = measured(stamp, name)
    assert f"1 unflagged pixel(s) that do not fit the star were treated as bad: x={100 + at[1]}, y={200 + at[0]}" in (
        profile.status
    )
    assert np.all(np.abs(profile.count_rate - truth.count_rate)[4:] < 4 * profile.count_rate_err[4:])


@pytest.mark.parametrize("name", ["F090W", "F480M"])
def test_a_dead_row_is_repaired_to_its_ends(name):
    stamp = star(name, np.random.default_rng(6))
    truth = measured(stamp, name)
    stamp.image[38] = 0.0
    profile = measured(stamp, name)
    dead = np.abs(np.arange(SIZE) - X) < np.sqrt(15.0**2 - (38 - Y) ** 2) + 0.4
    assert abs(profile.n_repaired[-1] - dead.sum()) <= 2
    assert abs(profile.count_rate[9] / truth.count_rate[9] - 1) < 2e-4
    assert "repair_core needs a model PSF" in measure_ee(stamp, EEOptions()).status


@pytest.mark.parametrize("name", ["F090W", "F200W"])
@pytest.mark.parametrize("column", [round(X), 37])
def test_a_hot_column_is_bad_in_the_core_too(name, column):
    """And in the sky's annulus: there it would take 1 to 2 % of the star off within 15 pix."""
    stamp = star(name, np.random.default_rng(6))
    truth = measured(stamp, name)
    stamp.image[:, column] += 0.01 * RATE
    profile = measured(stamp, name)
    assert f"{SIZE} unflagged pixel(s) that do not fit the star were treated as bad" in profile.status
    assert profile.n_repaired[-1] >= 29
    assert profile.background.value == pytest.approx(truth.background.value, abs=2e-5 * RATE)
    assert abs(profile.count_rate[9] - truth.count_rate[9]) < 4 * profile.count_rate_err[9]
    assert profile.count_rate_err[9] < (0.02 if column == 37 else 0.04) * truth.count_rate[9]


@pytest.mark.parametrize("row", [34, 35, 36, 40])
def test_dead_pixels_of_one_value_are_bad(row):
    faint = star("F200W", np.random.default_rng(6))
    noise = np.random.default_rng(7).normal(0, 0.5, (SIZE, SIZE))
    stamp = replace(faint, image=(0.002 * faint.image + noise).astype("f4"), variance=np.full((SIZE, SIZE), 0.25))
    truth = measured(stamp, "F200W")
    assert without_dead(stamp) is stamp
    stamp.image[row] = 0.0
    profile = measured(stamp, "F200W")
    assert f"{SIZE - 2} unflagged pixel(s) that do not fit the star were treated as bad" in profile.status
    assert abs(profile.count_rate[9] - truth.count_rate[9]) < 3 * profile.count_rate_err[9]
    # of whole numbers, and of a scene without noise, most are repeated
    assert without_dead(replace(stamp, image=np.round(faint.image))).warnings == ()
    assert without_dead(replace(stamp, image=np.zeros((SIZE, SIZE)))).warnings == ()


def test_what_is_far_below_the_sky_is_bad():
    stamp = star("F200W", np.random.default_rng(6))
    low = stamp.image.copy()
    low[35, 36], low[3, 60], low[5, 5], low[40, 8] = -1e6, -4e4, 0.0, -40.0
    found = without_dead(replace(stamp, image=low))
    assert np.argwhere(found.bad).tolist() == [[3, 60], [35, 36]]
    assert (
        "2 unflagged pixel(s) that do not fit the star were treated as bad: x=160, y=203; x=136, y=235"
        in (found.warnings[0])
    )
    assert without_dead(replace(stamp, bad=stamp.image > -np.inf)).warnings == ()


@pytest.mark.parametrize(("at", "told"), [((35, 35), True), ((39, 35), False)])
def test_a_core_that_the_model_fills_in_is_told_by_what_it_is_worth(at, told):
    bad = np.zeros((SIZE, SIZE), dtype=bool)
    bad[at] = True
    profile = measured(replace(star("F090W", np.random.default_rng(6), blur=0.02), bad=bad), "F090W")
    assert ("1 bad pixel(s) in the core hold " in profile.status) == told
    if told:
        worth = float(profile.status.split("worth ")[1].split(" %")[0]) / 100
        assert worth == pytest.approx(profile.count_rate_err[-1] / profile.count_rate[-1], rel=0.1)


@pytest.mark.parametrize("name", ["F200W", "F480M"])
def test_bad_pixels_side_by_side_hold_what_the_model_has_there(name):
    light = RATE * load_psf_images()[name].render(X, Y, (SIZE, SIZE))
    stamp = replace(star(name, np.random.default_rng(0)), image=light + 0.5)
    truth, off = measured(stamp, name), []
    for j, i in ((35, 42), (41, 36), (29, 33), (35, 28)):
        bad = np.zeros((SIZE, SIZE), dtype=bool)
        bad[j - 1 : j + 2, i - 1 : i + 2] = True
        off.append(measured(replace(stamp, bad=bad), name).count_rate[9] / truth.count_rate[9] - 1)
    assert np.abs(off).max() < 1e-4


@pytest.mark.parametrize("name", ["F090W", "F200W", "F480M"])
def test_a_companion_is_told_and_left(name):
    profile = measured(star(name, np.random.default_rng(7), others=((0.02, 6.0, -5.0),)), name)
    assert "possible neighbour at x=" in profile.status
    assert "do not fit the star" not in profile.status
    assert float(profile.status.split("pix away), ")[1].split(" %")[0]) == pytest.approx(2.0, rel=0.35)


@pytest.mark.parametrize("away", [7.0, 11.0])
def test_a_snowball_is_taken_out_with_its_rim(away):
    render, v, off = load_psf_images()["F200W"].render, np.indices((SIZE, SIZE)), []
    for seed in range(8):
        rng = np.random.default_rng([9, seed])
        angle = rng.uniform(0, 2 * np.pi)
        ball = 1 / (
            1 + np.exp((np.hypot(v[1] - X - away * np.cos(angle), v[0] - Y - away * np.sin(angle)) - 2.5) / 0.35)
        )
        noise, nothing = 0.12 * rng.normal(size=(SIZE, SIZE)), np.zeros((SIZE, SIZE), dtype=np.uint32)
        stamp = Stamp(
            "",
            250 * render(X, Y, (SIZE, SIZE)) + noise,
            noise * 0 + 0.0144,
            nothing,
            nothing > 0,
            35,
            35,
            0,
            0,
            0.0656,
            GAIN,
        )
        hit, clean = (measured(replace(stamp, image=stamp.image + k * ball), "F200W") for k in (1, 0))
        assert "do not fit the star were treated as bad" in hit.status
        off.append((hit.count_rate - clean.count_rate) / hit.count_rate_err)
    # it holds 8 % of the star's light; a hundred pixels are replaced, with their noise: before, 4.1 and 7.5
    assert np.sqrt(np.mean(np.square(off), axis=0))[1:].max() < 2


def test_the_rate_is_not_moved_by_bad_pixels():
    stamp = star("F200W", np.random.default_rng(8))
    sky = Background(0.5, method="constant", weights=np.zeros((SIZE, SIZE)))
    at = star_at(X, Y, sky, PSFModel(load_psf_images()["F200W"].render))
    image = stamp.image.copy()
    image[35, 35], image[34, 36] = 1e9, -1e9
    for exposure in (stamp, replace(stamp, image=image)):
        found = compare(exposure, stamp.bad, at)
        assert found[0] == pytest.approx(RATE, rel=0.02)
    assert (found[2] > 1).sum() == 2


def test_the_tolerance_by_hand():
    model = np.zeros((5, 5))
    model[2, 2] = 0.5
    sky = Background(0.0, method="constant", weights=np.zeros(model.shape))
    tolerance = star_at(2.0, 2.0, sky, PSFModel(lambda x, y, shape: model)).tolerance
    assert tolerance[2, 2] == pytest.approx(0.35 * 0.5 + 0.25 * 0.25 / 4 + 1e-4)
    assert tolerance[0, 2] == pytest.approx(0.25 * 0.25 / 4 + 1e-4)
    assert tolerance[1, 1] == pytest.approx(0.35 * 0.5 + 0.25 * 0.25 / 4 + 1e-4)
