"""Aperture correction, total rate and flux calibration, against closed forms."""

from dataclasses import replace

import numpy as np
import pytest

from niriss_eestep.combine.mean import combine_profiles, outlier_flags
from niriss_eestep.errors import ExposureError, ParameterError
from niriss_eestep.flux.synthetic import ExpectedRate
from niriss_eestep.flux.total_rate import (
    SPREAD_PROBABILITY,
    UJA2_PER_MJYSR,
    _excess_spread,
    calibrate_rate,
    common_scatter,
    effective_ee,
    formal_errors,
    rate_warnings,
    total_rate,
)

RADIUS = np.array([3.0, 5.0, 6.0, 8.0, 10.0, 12.0])
EDGES = np.linspace(20, 25, 6)
RATE = 5.0e4


def ee(radius):
    """A PSF with a long wing, in closed form."""
    return np.asarray(radius) ** 2 / (np.asarray(radius) ** 2 + 4.0)


def test_effective_ee_with_the_whole_annulus():
    area = np.pi * RADIUS**2
    found = effective_ee(ee, RADIUS, area, EDGES, np.ones(5))
    # the formula of method section: EE(r) - pi r^2 (EE(r_out) - EE(r_in)) / (pi (r_out^2 - r_in^2))
    np.testing.assert_allclose(found, ee(RADIUS) - RADIUS**2 * (ee(25) - ee(20)) / (25**2 - 20**2), rtol=1e-12)


def annulus_light(curve, edges, coverage):
    """What an annulus takes off a pixel: of an aperture of no radius and one pixel's area."""
    return -effective_ee(curve, np.zeros(1), np.ones(1), edges, coverage)[0]


def test_annulus_light_with_part_of_the_annulus():
    coverage = np.array([1.0, 0.5, 0.0, 0.2, 0.9])
    by_hand = sum(c * (ee(b) - ee(a)) for c, a, b in zip(coverage, EDGES[:-1], EDGES[1:], strict=True))
    by_hand /= sum(c * np.pi * (b**2 - a**2) for c, a, b in zip(coverage, EDGES[:-1], EDGES[1:], strict=True))
    assert annulus_light(ee, EDGES, coverage) == pytest.approx(by_hand, rel=1e-12)
    assert annulus_light(ee, np.zeros(0), np.zeros(0)) == 0
    with pytest.raises(ParameterError, match="no part of the sky annulus"):
        annulus_light(ee, EDGES, np.zeros(5))


def test_without_an_annulus_the_effective_ee_is_the_psf_s_for_several_curves_too():
    nothing = np.zeros(0)
    np.testing.assert_array_equal(effective_ee(ee, RADIUS, RADIUS, nothing, nothing), ee(RADIUS))
    several = effective_ee(lambda r: np.multiply.outer(ee(r), [1.0, 2.0]), RADIUS, RADIUS, nothing, nothing)
    np.testing.assert_array_equal(several, np.multiply.outer(ee(RADIUS), [1.0, 2.0]))


def group(n=2, *, noise=0.0, seed=0, rate=RATE):
    """Profiles of a star of known rate, as an annulus makes them."""
    rng = np.random.default_rng(seed)
    area = np.pi * RADIUS**2
    coverage = rng.uniform(0.5, 1, (n, 5))
    shared = 1.0 + np.minimum.outer(RADIUS, RADIUS)  # apertures share what the smaller one holds
    root = np.linalg.cholesky(shared)
    values = [
        rate * effective_ee(ee, RADIUS, area, EDGES, c) + noise * root @ rng.normal(size=len(RADIUS)) for c in coverage
    ]
    combined = combine_profiles(
        [f"e{k}" for k in range(n)], RADIUS, values, [max(noise, 1e-3) ** 2 * shared for _ in range(n)]
    )
    rings = {"area": np.tile(area, (n, 1)), "rings": [(EDGES, c) for c in coverage]}
    return combined, rings


def test_total_rate_is_the_stars_whatever_part_of_the_annulus_was_used():
    combined, rings = group(3)
    total = total_rate(combined, ee, np.zeros_like, **rings)
    assert total.used.tolist() == [False, True, True, True, True, False]
    np.testing.assert_allclose(total.total, RATE, rtol=1e-12)
    assert total.count_rate == pytest.approx(RATE, rel=1e-12)


def test_the_error_of_the_mean_over_radii_does_not_shrink_as_if_they_were_independent():
    combined, rings = group(2, noise=30.0)
    total = total_rate(combined, ee, np.zeros_like, **rings)
    by_radius = total.total_err[total.used]
    # fully shared pixels: no smaller than the smallest aperture's error; independent ones would give half of the mean
    assert total.err_photon > 0.9 * by_radius.min()
    used = np.ix_(total.used, total.used)
    scale = np.outer(total.ee_effective, total.ee_effective)
    assert total.err_photon == pytest.approx(np.sqrt(np.mean((combined.covariance / scale)[used])))


def test_pulls_of_the_total():
    n = 2000
    pulls = np.empty(n)
    for seed in range(n):
        combined, rings = group(2, noise=30.0, seed=seed)
        total = total_rate(combined, ee, np.zeros_like, **rings)
        pulls[seed] = (total.count_rate - RATE) / total.count_rate_err
    assert abs(pulls.mean()) < 3 / np.sqrt(n)
    # the scatter enlarges the error, and removes from the variance, one in 20, and the spread over radii 0.0027
    assert abs(pulls.std() - np.sqrt(0.95)) < 3 / np.sqrt(2 * n) + 0.0027


@pytest.mark.parametrize("n_dithers", [2, 3, 4, 8])
def test_the_interval_of_the_total_honours_the_scatter_of_few(n_dithers):
    """Dithers that scatter by 1 %, each known to 0.01 %: 95 % of 600 intervals hold the truth."""
    n, inside = 600, 0
    for seed in range(n):
        combined, rings = group(n_dithers, noise=1.0, seed=seed)
        gains = np.random.default_rng([17, seed]).normal(1.0, 0.01, (n_dithers, 1))
        values = combined.exposure_value * gains
        covariances = combined.exposure_covariance
        flags = outlier_flags(RADIUS, np.array(values), np.array(covariances), combined.exposure_flag)
        combined = combine_profiles(combined.names, RADIUS, values, covariances, flags=flags)
        total = total_rate(combined, ee, np.zeros_like, **rings)
        inside += abs(total.count_rate - RATE) < 1.96 * total.count_rate_err
    assert inside / n == pytest.approx(0.95, abs=4 * np.sqrt(0.05 * 0.95 / n))


def program(scatter, seed, n_groups=12, n_dithers=2):
    """Pulls of the totals of a product's groups, each of two dithers, known to 0.1 % each; their common scatter."""
    rng = np.random.default_rng([18, seed])
    groups = [group(n_dithers, noise=30.0, seed=100 * seed + k) for k in range(n_groups)]
    combined = []
    for profile, _ in groups:
        values = profile.exposure_value * rng.normal(1.0, scatter, (n_dithers, 1))
        combined.append(combine_profiles(profile.names, RADIUS, values, profile.exposure_covariance))
    common = common_scatter(combined)
    totals = [
        total_rate(replace(c, common_scatter=common), ee, np.zeros_like, **rings)
        for c, (_, rings) in zip(combined, groups, strict=True)
    ]
    return [(total.count_rate - RATE) / total.count_rate_err for total in totals], common


@pytest.mark.parametrize("scatter", [0.0, 0.003, 0.01, 0.05])
def test_the_groups_of_a_product_know_the_scatter_of_two_dithers_together(scatter):
    found = [program(scatter, seed) for seed in range(50)]
    pulls = np.ravel([values for values, _ in found])
    # a product's 12 degrees of freedom say its scatter to 20 %, in either direction
    assert 0.9 < pulls.std() < (1.2 if scatter else 1.06)
    inside = np.mean(np.abs(pulls) < 1.96)
    assert inside == pytest.approx(0.95, abs=4 * np.sqrt(0.05 * 0.95 / pulls.size * (1 if not scatter else 2)))
    if scatter:
        # chi-squared of 12 degrees of freedom, and Student's factor
        common = np.mean([value for _, value in found]) / (2.179 / 1.96)
        assert common == pytest.approx(scatter, rel=4 / np.sqrt(24 * 50) + 0.03)
    else:
        assert np.mean([value > 0 for _, value in found]) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 50)


def test_one_damaged_group_does_not_make_the_others_scatter():
    groups = [group(2, noise=30.0, seed=seed)[0] for seed in range(8)]
    assert common_scatter(groups) == 0
    first = groups[0]
    values = first.exposure_value * np.array([[1.0], [0.9]])
    groups[0] = combine_profiles(first.names, RADIUS, values, first.exposure_covariance)
    assert common_scatter(groups) == 0
    assert common_scatter(groups[:1]) == 0
    assert common_scatter([]) == 0


def test_what_the_dithers_share_neither_hides_their_scatter_nor_counts_as_scatter():
    """An error of 1 % that all share: the total's error has it once, the scatter of 0.3 % of two beside it."""
    combined, rings = group(2, noise=1.0)
    gains = np.array([[1.003], [0.997]])
    light = RATE * ee(RADIUS)
    shared = 1e-4 * np.outer(light, light)
    common = [covariance + shared for covariance in combined.exposure_covariance]
    found = combine_profiles(combined.names, RADIUS, combined.exposure_value * gains, common, common=shared)
    total = total_rate(found, ee, np.zeros_like, **rings)
    all_share = np.sqrt(total.exposure_total_err**2 - total.exposure_own_err**2)
    assert all_share == pytest.approx([0.01 * RATE] * 2, rel=0.02)
    assert total.err_scatter == pytest.approx(0.003 * RATE * 12.706 / 1.96, rel=0.03)
    (told,) = rate_warnings(total, "ab", np.nan, np.nan)
    assert "a +0." in told
    assert "b -0." in told
    assert calibrate_rate(total, None, gain=1.61, pixar_sr=1e-13)["chi2_dof"] > 1000
    quiet = combine_profiles(combined.names, RADIUS, combined.exposure_value, common, common=shared)
    assert total_rate(quiet, ee, np.zeros_like, **rings).err_scatter == 0


def test_the_parts_of_the_error_add_up_to_it_though_the_sky_s_be_larger():
    """Noise that aperture and annulus have in common cancels in the total, not in the sky's own error."""
    formal, weights = np.diag([4.0, 1.0, 9.0]), np.array([0.5, -0.5, 1.0])
    whole = weights @ formal @ weights
    for flat, sky, counted in ((0, 0, 0), (0.1, 0.2, 0.2), (0, 3, 1), (0.9, 0.5, 0.1)):
        found = formal_errors([formal, flat * formal if flat else None, sky * formal if sky else None], weights)
        assert sum(err**2 for err in found.values()) == pytest.approx(whole, rel=1e-12)
        assert found["err_sky"] == pytest.approx(np.sqrt(counted * whole))


def test_a_wrong_ee_shows_in_the_spread_over_radii():
    combined, rings = group(2, noise=1e-3)
    total = total_rate(combined, lambda r: ee(r) ** 1.02, np.zeros_like, **rings)
    spread = np.std(total.total[total.used], ddof=1)
    assert total.err_radii == pytest.approx(spread, rel=1e-3)
    assert total.count_rate_err > total.err_photon


@pytest.mark.parametrize("distance", [5.5, 7.0, 9.0])
def test_a_neighbour_within_the_radii_is_covered_by_their_spread(distance):
    combined, rings = group(2, noise=1e-3)
    light = 0.01 * RATE * (distance < RADIUS)
    brighter = {name: getattr(combined, name) + light for name in ("value", "exposure_value")}
    total = total_rate(replace(combined, **brighter), ee, np.zeros_like, **rings)
    bias = total.count_rate - RATE
    assert bias > 0.002 * RATE
    # 3, 2 or 1 of the 4 radii hold it: a bias of 3/4, 1/2 or 1/4 of its light, and a spread of 0.50, 0.58 or 0.50
    assert bias < 1.6 * total.err_radii


def test_the_uncertainty_of_the_ee_is_carried():
    combined, rings = group(1)
    total = total_rate(combined, ee, lambda r: 0.01 * ee(r), **rings)
    assert total.err_aperture == pytest.approx(0.01 * RATE, rel=1e-6)
    assert np.isnan(calibrate_rate(total, None, gain=1.61, pixar_sr=1e-13)["count_rate_scatter"])


def test_an_exposures_total_is_over_the_radii_that_it_does_not_flag():
    """Half of one exposure's light is lost at 8 pix, and flagged there: all totals are the star's."""
    combined, rings = group(3)
    value, flag = combined.exposure_value.copy(), combined.exposure_flag.copy()
    spoiled = int(np.flatnonzero(RADIUS == 8)[0])
    value[2, spoiled] /= 2
    flag[2, spoiled] = 0
    again = combine_profiles(combined.names, RADIUS, value, combined.exposure_covariance, flags=flag)
    total = total_rate(again, ee, np.zeros_like, **rings)
    np.testing.assert_allclose(total.exposure_total, RATE, rtol=1e-12)
    assert np.std(total.exposure_total[total.kept]) == pytest.approx(0, abs=1e-9 * RATE)
    assert np.all(total.exposure_total_err > 0)
    # the total of an exposure that flags all of the range is shown, but not used
    flag[2] = 0
    total = total_rate(
        combine_profiles(combined.names, RADIUS, value, combined.exposure_covariance, flags=flag),
        ee,
        np.zeros_like,
        **rings,
    )
    assert total.exposure_total[2] == pytest.approx(RATE * 3.5 / 4)
    assert total.kept.tolist() == [True, True, False]
    assert np.std(total.exposure_total[total.kept]) == pytest.approx(0, abs=1e-9 * RATE)
    assert total.count_rate == pytest.approx(RATE, rel=1e-12)


def test_pulls_of_each_exposures_total():
    """Whatever radii each of them flags: mean 0 and standard deviation 1, to the sampling error of 1500 totals."""
    rng, pulls = np.random.default_rng(4), []
    for seed in range(500):
        combined, rings = group(3, noise=30.0, seed=seed)
        flag = (rng.random(combined.exposure_flag.shape) > 0.2).astype(np.int64)
        flag[:, 3] = 1
        flagged = combine_profiles(
            combined.names, RADIUS, combined.exposure_value, combined.exposure_covariance, flags=flag
        )
        total = total_rate(flagged, ee, np.zeros_like, **rings)
        pulls.append((total.exposure_total - RATE) / total.exposure_total_err)
    pulls = np.ravel(pulls)
    assert abs(pulls.mean()) < 3 / np.sqrt(pulls.size)
    assert abs(pulls.std() - 1) < 3 / np.sqrt(2 * pulls.size)


def test_no_usable_radius():
    combined, rings = group(1)
    with pytest.raises(ParameterError, match="radius_min=20"):
        total_rate(combined, ee, np.zeros_like, **rings, radii=(20, 30))
    flags = np.zeros((1, len(RADIUS)), dtype=int)
    flagged = combine_profiles(["e"], RADIUS, [combined.value], [combined.covariance], flags=flags)
    with pytest.raises(ExposureError, match="all are flagged"):
        total_rate(flagged, ee, np.zeros_like, **rings)


def test_calibration_by_hand():
    combined, rings = group(2)
    total = total_rate(combined, ee, lambda r: 0.004 * ee(r), **rings)
    star = ExpectedRate(8.0e4, 0.003 * 8.0e4, 0.0, 1.5, 2.0e-3, 2.1e-3, 0.0, 0.003 * 8.0e4)
    found = calibrate_rate(total, star, gain=1.61, gain_err=0.0161, throughput_err=0.02, pixar_sr=1e-13)
    assert found["electron_rate"] == pytest.approx(1.61 * RATE)
    assert found["ratio"] == pytest.approx(1.61 * RATE / 8e4)
    assert found["photmjsr"] == pytest.approx(2e-3 / 1e6 / (RATE * 1e-13))
    assert found["photmjsr_mono"] == pytest.approx(2.1e-3 / 1e6 / (RATE * 1e-13))
    # 1 MJy/sr is 23.5044 uJy/arcsec^2
    assert pytest.approx(23.504430, rel=1e-6) == UJA2_PER_MJYSR
    assert found["photuja2"] == pytest.approx(found["photmjsr"] * 23.504430, rel=1e-6)
    # m = -2.5 log10(F_nu in erg/s/cm2/Hz) - 48.60 (Oke & Gunn 1983): at 2 mJy / 5e4 per DN/s
    assert found["zeropoint_ab"] == pytest.approx(-2.5 * np.log10(2e-3 / RATE * 1e-23) - 48.60, abs=1e-5)
    # aperture 0.4 %, spectrum 0.3 %; gain 1 % and throughput 2 % enter the ratio only
    assert found["photmjsr_err"] / found["photmjsr"] == pytest.approx(np.hypot(0.004, 0.003), rel=1e-3)
    budget = np.sqrt(0.004**2 + 0.003**2 + 0.01**2 + 0.02**2)
    assert found["ratio_err"] / found["ratio"] == pytest.approx(budget, rel=1e-3)


def test_without_spectrum_only_the_rates_have_values():
    combined, rings = group(1)
    found = calibrate_rate(total_rate(combined, ee, np.zeros_like, **rings), None, gain=1.61, pixar_sr=1e-13)
    assert np.isfinite([found["count_rate"], found["count_rate_err"], found["electron_rate"]]).all()
    assert np.isnan(
        [found["ratio"], found["ratio_err"], found["photmjsr"], found["photmjsr_err"], found["zeropoint_ab"]]
    ).all()


def test_the_scatter_of_two_exposures_is_unbiased():
    """Its square is the variance of one total on the mean: n - 1 degrees of freedom."""
    squares, totals = [], []
    for seed in range(1500):
        combined, rings = group(2, noise=30.0, seed=seed)
        total = total_rate(combined, ee, np.zeros_like, **rings)
        found = calibrate_rate(total, None, gain=1.61, pixar_sr=1e-13)
        squares.append(found["count_rate_scatter"] ** 2)
        totals.append(total.exposure_total)
    # chi-squared of 1 degree of freedom: its mean has a relative error of sqrt(2 / n)
    assert np.mean(squares) == pytest.approx(np.var(totals), rel=4 * np.sqrt(3 / 1500))


def test_a_spread_over_radii_is_called_more_than_chance_as_rarely_as_stated():
    """Independent radii of equal noise: chi-squared exactly, and 0.0027 of the draws; correlated ones about so."""
    rng, n = np.random.default_rng(13), 60_000
    draws = rng.standard_normal((n, 4))
    calls = np.mean([_excess_spread(draw, np.eye(4)) > 0 for draw in draws])
    assert calls == pytest.approx(SPREAD_PROBABILITY, abs=4 * np.sqrt(SPREAD_PROBABILITY / n))


def test_the_gain_s_error_is_in_the_electron_rate_s():
    """The standard deviation of the product of a count rate and a gain, both drawn by their errors."""
    combined, rings = group(2, noise=300.0)
    total = total_rate(combined, ee, np.zeros_like, **rings)
    found = calibrate_rate(total, None, gain=1.61, gain_err=0.02, pixar_sr=1e-13)
    rng, n = np.random.default_rng(14), 100_000
    rates = total.count_rate + total.count_rate_err * rng.standard_normal(n)
    electrons = rates * (1.61 + 0.02 * rng.standard_normal(n))
    assert found["electron_rate_err"] == pytest.approx(electrons.std(), rel=4 / np.sqrt(2 * n))


def with_totals(totals, err=1e-3):
    """Exposures whose totals are so many times that of the star, with these fractional errors, as the step makes it."""
    shape = ee(RADIUS) - RADIUS**2 * (ee(25) - ee(20)) / (25**2 - 20**2)
    values = [RATE * total * shape for total in totals]
    covariances = [(err * RATE) ** 2 * np.outer(shape, shape) for _ in totals]
    flags = outlier_flags(
        RADIUS, np.array(values), np.array(covariances), np.ones((len(totals), len(RADIUS)), dtype=np.int64)
    )
    names = list("abcdefgh"[: len(totals)])
    combined = combine_profiles(names, RADIUS, values, covariances, flags=flags)
    area, rings = np.tile(np.pi * RADIUS**2, (len(totals), 1)), [(EDGES, np.ones(5))] * len(totals)
    return total_rate(combined, ee, np.zeros_like, area=area, rings=rings)


@pytest.mark.parametrize(
    ("totals", "told", "silent", "mean"),
    [
        ((1.0, 0.9), ("a +11 %", "b -10 %"), ("left out",), 0.95),
        ((1.0, 1.03, 1.0), ("b +3 % (left out)",), ("a ", "c "), 1.0),
        ((1.0,) * 5 + (1.05,) + (1.0,) * 2, ("f +5 % (left out)",), ("a ", "h "), 1.0),
        # too little for an outlier
        ((1.0, 1.008, 1.0, 1.0), ("b +0.8 %",), ("left out", "a ", "c "), 1.002),
    ],
)
def test_the_dither_that_disagrees_is_named(totals, told, silent, mean):
    total = with_totals(totals)
    (warning,) = rate_warnings(total, "abcdefgh"[: len(totals)], np.nan, np.nan)
    listed = warning.split(": ", 1)[1]
    assert all(name in listed for name in told)
    assert not any(name in listed for name in silent)
    # chi-squared by hand
    value = np.array(totals)
    row = calibrate_rate(total, None, gain=1.61, pixar_sr=1e-13)
    assert row["chi2_dof"] == pytest.approx(np.sum((value - value.mean()) ** 2) / 1e-6 / (len(value) - 1))
    assert total.count_rate == pytest.approx(mean * RATE, rel=1e-9)
    assert total.kept.tolist() == ["(left out)" not in listed or value == 1.0 for value in totals]


def test_a_dither_is_compared_with_a_median_that_errs_too():
    """Of four of 0.1 %: five times hypot(0.1, 1.2533 0.1 / 2) %, the error of a median, and 0.2 %: 0.79 %."""
    assert rate_warnings(with_totals((1.0, 1.00775, 1.0, 1.0)), "abcd", np.nan, np.nan) == ()
    assert len(rate_warnings(with_totals((1.0, 1.00805, 1.0, 1.0)), "abcd", np.nan, np.nan)) == 1


def test_light_of_one_dither_is_named():
    radius = np.array([3.0, 4.0, 5.0, 6.0, 8.0, 10.0])
    light = RATE * ee(radius)
    values = [light, light + 0.003 * RATE * (radius > 5.5)]
    covariances = [(1e-4 * RATE) ** 2 * (1 + np.minimum.outer(radius, radius) / 10) for _ in values]
    combined = combine_profiles(["a", "b"], radius, values, covariances)
    rings = {"area": np.tile(np.pi * radius**2, (2, 1)), "rings": [(np.zeros(0), np.zeros(0))] * 2}
    (told,) = (
        text
        for text in rate_warnings(total_rate(combined, ee, np.zeros_like, **rings), "ab", 1, 0.1)
        if "b has" in text
    )
    assert told.startswith("b has 0.2")
    assert "beyond 5 pix: persistence or a hit?" in told


@pytest.mark.parametrize("spread", [0.4, 2.0])
def test_light_that_is_spread_as_no_star_s_is_not_calibrated(spread):
    """A PSF of 2 pix; half or twice as wide is none of its stars."""
    radius = np.array([1.0, 2.0, 3.0, 5.0, 6.0, 8.0, 10.0])
    values = [RATE * radius**2 / (radius**2 + (2 * spread) ** 2)]
    combined = combine_profiles(["a"], radius, values, [np.eye(len(radius))])
    rings = {"area": np.pi * radius[None] ** 2, "rings": [(np.zeros(0), np.zeros(0))]}
    with pytest.raises(ExposureError, match=r"no star's light: the total by the light within [1-3] pix"):
        total_rate(combined, ee, np.zeros_like, **rings)
    # where the PSF is that uncertain, or the noise as large, it may be one
    total_rate(combined, ee, lambda r: 0.5 * ee(r), **rings)
    noisy = combine_profiles(["a"], radius, values, [(0.5 * RATE) ** 2 * np.eye(len(radius))])
    total_rate(noisy, ee, np.zeros_like, **rings)


def test_two_dithers_that_disagree_are_a_star_all_the_same():
    total = with_totals((1.0, 0.5))
    assert total.count_rate_err > total.count_rate / 5
    assert total.significance > 500
    assert np.isfinite(calibrate_rate(total, None, gain=1.61, pixar_sr=1e-13)["count_rate"])


def test_dithers_that_agree_are_not_told():
    rng = np.random.default_rng(16)
    alarms = 0
    for _ in range(1000):
        total = with_totals(rng.normal(1.0, 1e-3, 4))
        alarms += bool(rate_warnings(total, "abcd", np.nan, np.nan))
    assert alarms == 0


@pytest.mark.parametrize(
    ("ratio", "err", "told"),
    [(1.3, 0.2, True), (0.7, 0.2, True), (1.15, 0.01, True), (1.15, 0.05, False), (0.92, 0.001, False)],
)
def test_a_ratio_far_from_one_is_told(ratio, err, told):
    combined, rings = group(1)
    found = rate_warnings(total_rate(combined, ee, np.zeros_like, **rings), "a", ratio, err)
    assert (len(found) == 1) is told


@pytest.mark.parametrize("rate", [-RATE, 0.0, 4.9, np.nan])
def test_a_total_without_significance_is_not_calibrated(rate):
    combined, rings = group(1)
    total = replace(total_rate(combined, ee, np.zeros_like, **rings), count_rate=rate, err_photon=1.0)
    with pytest.raises(ExposureError, match="no star: the total count rate"):
        calibrate_rate(total, None, gain=1.61, pixar_sr=1e-13)
    assert calibrate_rate(replace(total, count_rate=5.1), None, gain=1.61, pixar_sr=1e-13)["count_rate"] == 5.1


def test_several_curves_without_an_annulus_stay_as_they_are():
    """A background given from elsewhere takes no starlight, whether of one curve or of the modes of many."""
    radius, nothing = np.arange(1.0, 13.0), np.zeros(0)

    def modes(at):
        return np.multiply.outer(at, np.arange(1.0, 65.0))

    np.testing.assert_array_equal(effective_ee(modes, radius, np.pi * radius**2, nothing, nothing), modes(radius))
