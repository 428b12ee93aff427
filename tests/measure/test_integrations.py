"""The mean over an exposure's integrations."""

from dataclasses import replace

import numpy as np
import pytest
from gaussian import GaussianPSF

from niriss_eestep.combine.mean import combine_integrations
from niriss_eestep.errors import ExposureError
from niriss_eestep.flux.total_rate import effective_ee
from niriss_eestep.measure.ee import EEOptions, failed_ee, measure_ee
from niriss_eestep.measure.sb import SBOptions, measure_sb
from niriss_eestep.measure.stamp import StarExposure

OPTIONS = EEOptions(radii=(1, 2, 3))
RATE, SKY, VARIANCE = 5000.0, 1.0, 4.0


def image_at(x, extra=0.0):
    return RATE * (1 + extra) * GaussianPSF(1.5).render(x, 30.0, (61, 61)) + SKY


def integration(rng=None, *, name="x", extra=0.0, image=None, **changes):
    image = image_at(30.0, extra) if image is None else image
    if rng is not None:
        image = image + rng.normal(0, np.sqrt(VARIANCE), image.shape)
    settings = {"dq": np.zeros(image.shape, np.uint32), "bad": np.zeros(image.shape, bool), "gain": 1.6}
    settings |= {"x": 30.0, "y": 30.0, "x_origin": 0, "y_origin": 0, "pixel_scale": 0.0656}
    return StarExposure(name, image, np.full(image.shape, VARIANCE), **(settings | changes))


def test_the_mean_of_equal_integrations_is_each_of_them():
    one = measure_ee(integration(), OPTIONS)
    mean, integrations = combine_integrations([one, one, one, one])
    np.testing.assert_allclose(mean.count_rate, one.count_rate, rtol=1e-12)
    np.testing.assert_allclose(mean.covariance, one.covariance / 4, rtol=1e-12)
    np.testing.assert_allclose(mean.sky_covariance, one.sky_covariance / 4, rtol=1e-12)
    np.testing.assert_allclose(integrations["scatter"], 0.0, atol=1e-9)
    assert integrations["count_rate"].shape == (4, 3)
    assert mean.background.err == pytest.approx(one.background.err / 2)
    assert mean.status == "measured"
    # profiles need not say what of their errors is the sky's
    unsaid, _ = combine_integrations([replace(one, sky_covariance=None)] * 4)
    assert unsaid.sky_covariance is None
    np.testing.assert_array_equal(unsaid.covariance, mean.covariance)


@pytest.mark.parametrize("measure", [measure_ee, measure_sb])
def test_the_mean_is_the_plain_one_and_its_error_is_right(measure):
    rng = np.random.default_rng(1)
    name = "count_rate" if measure is measure_ee else "surface_brightness"
    profiles = [measure(integration(rng)) for _ in range(200)]
    mean, integrations = combine_integrations(profiles)
    np.testing.assert_allclose(getattr(mean, name), integrations[name].mean(axis=0), rtol=1e-9)
    # the standard deviation of 200 values is known to 5 %: 4 of its standard errors
    np.testing.assert_allclose(integrations["scatter"] / np.sqrt(200), getattr(mean, f"{name}_err"), rtol=0.2)


def test_a_scatter_beyond_chance_enlarges_the_error():
    rng = np.random.default_rng(2)
    profiles = [measure_ee(integration(rng, extra=extra), OPTIONS) for extra in rng.normal(0, 0.05, 30)]
    mean, integrations = combine_integrations(profiles)
    np.testing.assert_allclose(mean.count_rate_err, integrations["scatter"] / np.sqrt(30), rtol=0.05)


def test_integrations_that_fail_are_left_out_and_named():
    rng = np.random.default_rng(3)
    good = [measure_ee(integration(rng), OPTIONS) for _ in range(3)]
    lost = failed_ee(integration(), OPTIONS, "no star")
    mean, integrations = combine_integrations([good[0], lost, *good[1:]])
    expected, _ = combine_integrations(good)
    np.testing.assert_array_equal(mean.count_rate, expected.count_rate)
    assert np.isnan(integrations["count_rate"][1]).all()
    assert mean.status == "measured with warnings: 1 of 4 integrations not measured: 2 (no star)"
    with pytest.raises(ExposureError, match="none of 2 integrations could be measured: no star"):
        combine_integrations([lost, lost])


def test_each_warning_is_told_once():
    profiles = [
        measure_ee(integration(warnings=warnings), OPTIONS)
        for warnings in (("no flags", "3 pixels low"), ("no flags",), ("no flags", "5 pixels low"))
    ]
    mean, _ = combine_integrations(profiles)
    assert mean.warnings == ("no flags", "3 pixels low (2 of 3 integrations)")


def test_a_given_background_does_not_average_down():
    options = replace(OPTIONS, background_method="constant", background_value=SKY, background_value_err=0.1)
    one = measure_ee(integration(), options)
    mean, _ = combine_integrations([one] * 100)
    sky = 0.1**2 * np.outer(one.area, one.area)
    np.testing.assert_allclose(mean.covariance, (one.covariance - sky) / 100 + sky, rtol=1e-9)
    np.testing.assert_allclose(mean.common, sky, rtol=1e-9)
    np.testing.assert_allclose(mean.sky_covariance, sky, rtol=1e-9)


@pytest.mark.parametrize("measure", [measure_ee, measure_sb])
def test_the_error_of_the_flat_field_does_not_average_down(measure):
    rng = np.random.default_rng(4)
    n, n_integrations, flat_err = 100, 4, 0.02
    # without clipping, which a flat field that varies more than the noise would bias
    options = OPTIONS if measure is measure_ee else SBOptions(radii=(2, 6), clip_low=False)
    name = "count_rate" if measure is measure_ee else "surface_brightness"
    clean = integration()
    truth = getattr(measure(clean, options), name)
    flat_variance = (flat_err * clean.image) ** 2
    pulls = np.empty((n, len(truth)))
    for k in range(n):
        flat = 1 + rng.normal(0, flat_err, clean.image.shape)
        images = [clean.image * flat + rng.normal(0, 0.1, flat.shape) for _ in range(n_integrations)]
        changes = {"variance": flat_variance + 0.1**2, "flat_variance": flat_variance}
        mean, _ = combine_integrations([measure(replace(clean, image=i, **changes), options) for i in images])
        pulls[k] = (getattr(mean, name) - truth) / getattr(mean, f"{name}_err")
    assert np.abs(pulls.mean(axis=0)).max() < 3 / np.sqrt(n)
    assert np.abs(pulls.std(axis=0) - 1).max() < 3 / np.sqrt(2 * n)


@pytest.mark.parametrize("noise", [1e-3, 1.0])  # [DN/s]: much less than the repair errs, and much more
def test_the_error_of_a_repair_is_that_of_the_average_image(noise):
    rng = np.random.default_rng(5)
    n = 100
    bad = np.zeros((61, 61), bool)
    bad[rng.integers(26, 35, 12), rng.integers(26, 35, 12)] = True
    options, clean = EEOptions(radii=(4, 6, 8), core_radius=0.5), integration(bad=bad)
    images = clean.image + rng.normal(0, noise, (n, 61, 61))
    variance = np.full(clean.image.shape, noise**2)
    mean, _ = combine_integrations([measure_ee(replace(clean, image=i, variance=variance), options) for i in images])
    average = measure_ee(replace(clean, image=images.mean(axis=0), variance=variance / n), options)
    # the method's variance is measured on a few dozen pixels, whose noise each integration takes off for itself
    np.testing.assert_allclose(mean.count_rate_err, average.count_rate_err, rtol=0.05)
    np.testing.assert_allclose(mean.count_rate, average.count_rate, atol=0.1 * average.count_rate_err.min())


def test_bad_pixels_are_those_of_the_worst_integration():
    bad = np.zeros((61, 61), bool)
    bad[30, 33] = True
    options = replace(OPTIONS, core_radius=1.0)
    clean, flawed = measure_ee(integration(), options), measure_ee(integration(bad=bad), options)
    assert flawed.n_bad[-1] > 0
    mean, _ = combine_integrations([clean, flawed])
    np.testing.assert_array_equal(mean.n_bad, flawed.n_bad)


def test_the_position_of_the_mean_errs_as_positions_scatter():
    """The error of a mean of 16 positions: the standard deviation of such means, over 60 exposures of them."""
    rng, n = np.random.default_rng(11), 16
    means, claimed = [], []
    for _ in range(60):
        mean, _ = combine_integrations([measure_ee(integration(rng), OPTIONS) for _ in range(n)])
        means += [mean.centroid.x, mean.centroid.y]
        claimed += [mean.centroid.x_err, mean.centroid.y_err]
    # 120 values give a standard deviation to 6 %
    assert np.mean(claimed) == pytest.approx(np.std(means), rel=0.2)


def test_the_annulus_of_the_mean_is_that_of_all_integrations():
    """The inner half of the annulus is lost in one integration, the outer half in the other: what the mean used.

    The profile of the mean, corrected by the annulus that it records, is the star's.
    """
    wide = GaussianPSF(7.0).render(30.0, 30.0, (61, 61))
    distance = np.hypot(*(np.indices(wide.shape) - 30.0))
    options = EEOptions(radii=(5, 8, 10), background_skip=3.0, background_width=6.0)
    star = integration(image=RATE * wide, bad=np.zeros(wide.shape, bool))
    parts = [(distance > 12.5) & (distance < 16), (distance >= 16) & (distance < 19.5)]
    profiles = [measure_ee(replace(star, bad=part), options) for part in parts]
    mean, _ = combine_integrations(profiles)

    def ee(r):
        return -np.expm1(-0.5 * np.square(r) / (7.0**2 + 2 / 12))

    def total(profile):
        background = profile.background
        kept = effective_ee(ee, profile.radius, profile.area, background.ring_edges, background.ring_coverage)
        return profile.count_rate / kept

    for profile in (*profiles, mean):
        np.testing.assert_allclose(total(profile), RATE, rtol=0.01)
    # the two see 3 % and more of different light within 10 pix
    first = replace(mean, background=replace(mean.background, ring_coverage=profiles[0].background.ring_coverage))
    assert abs(total(first)[-1] / RATE - 1) > 0.02


def test_the_area_of_the_mean_is_that_of_the_apertures_it_is_the_mean_of():
    """An aperture that leaves the image in one integration is not measured there: the mean has the others' area."""
    options = EEOptions(radii=(5, 12), background_method="none")
    inside, cut = (measure_ee(integration(x=x, image=image_at(x)), options) for x in (45.0, 52.0))
    assert np.isfinite(inside.count_rate).all()
    assert np.isnan(cut.count_rate[1])
    assert cut.area[1] < 0.95 * np.pi * 144
    for order in ([inside, cut], [cut, inside]):
        mean, _ = combine_integrations(order)
        np.testing.assert_allclose(mean.area, np.pi * np.square(options.radii), rtol=1e-9)


@pytest.mark.parametrize("measure", [measure_ee, measure_sb])
def test_an_integration_off_from_the_others_is_left_out_and_named(measure):
    rng = np.random.default_rng(11)
    name = "count_rate" if measure is measure_ee else "surface_brightness"
    bright = replace(integration(), image=20 * image_at(30.0))
    extras = 0.0, 0.0, 0.1, 0.0, 0.0, 0.0
    profiles = [
        measure(
            replace(bright, image=(1 + extra) * bright.image + rng.normal(0, np.sqrt(VARIANCE), bright.image.shape))
        )
        for extra in extras
    ]
    mean, integrations = combine_integrations(profiles)
    kept = np.delete(integrations[name], 2, axis=0)
    (told,) = mean.warnings
    assert told == "1 of 6 integrations are off from the others and left out: [3]"
    where = 2 if measure is measure_ee else 0  # 3 pix of EE, 5 pix of SB
    assert getattr(mean, name)[where] == pytest.approx(kept.mean(axis=0)[where], rel=1e-9)
    # two that differ have no others to say which is off
    assert not combine_integrations([profiles[0], profiles[2]])[0].warnings
