import numpy as np
import pytest
from astropy.table import Table

from niriss_eestep.calibration.visits import TimeDependence, combine_visits
from niriss_eestep.errors import ParameterError

START = 59800.25
ZEROS = ("err_scatter", "err_radii")


def visits(n, *, seed=1, level=0.25, own=0.003, extra=0.0, years=3.0, form=None, stars=("A",), subarrays=("SUB64",)):
    """Rows of one filter: n visits over some years with known sensitivity, noise and scatter."""
    rng = np.random.default_rng(seed)
    mjd = START + np.linspace(0.0, 365.0 * years, n)
    sensitivity = np.ones(n) if form is None else form(mjd - np.floor(START))
    photmjsr = level / sensitivity * (1 + rng.normal(0, np.hypot(own, extra), n))
    columns = dict.fromkeys(ZEROS, np.zeros(n)) | {
        "photmjsr": photmjsr,
        "photmjsr_err": 0.02 * photmjsr,
        "photmjsr_mono": 1.01 * photmjsr,
        "photuja2": 23.5 * photmjsr,
        "count_rate": np.full(n, 1.0e4),
        "mjd": mjd,
        "err_photon": np.full(n, own),
        "err_aperture": np.full(n, 0.002),
        "err_spectrum": np.full(n, 0.01),
        "target": np.array([stars[i % len(stars)] for i in range(n)]),
        "filter": np.full(n, "F090W"),
        "pupil": np.full(n, "F090W"),
        "subarray": np.array([subarrays[i % len(subarrays)] for i in range(n)]),
        "status": np.full(n, "measured"),
    }
    return Table(columns)


def only(calibration):
    (factor,) = calibration.factors
    return factor


def test_a_single_visit_is_taken_as_it_is():
    table = visits(1)
    factor = only(combine_visits(table))
    assert factor.photmjsr == pytest.approx(table["photmjsr"][0], rel=1e-12)
    assert factor.err_visits == pytest.approx(0.003)
    # what visits share enters once: the spectrum's 1 % and the aperture correction's 0.2 %
    assert factor.photmjsr_err / factor.photmjsr == pytest.approx(np.sqrt(0.003**2 + 0.01**2 + 0.002**2))
    assert np.isnan(factor.scatter)
    assert factor.time.form == "constant"
    assert factor.time.status == "not constrained: 1 epoch, at least 4 are needed"


def test_equal_visits_have_the_plain_mean():
    table = visits(9)
    factor = only(combine_visits(table))
    # sensitivities are averaged: the harmonic mean of the factors
    assert factor.photmjsr == pytest.approx(9 / np.sum(1 / table["photmjsr"]), rel=1e-6)
    assert factor.photmjsr_mono == pytest.approx(1.01 * factor.photmjsr)
    assert factor.photuja2 == pytest.approx(23.5 * factor.photmjsr)
    assert factor.n_visits == 9


def test_weights_are_those_of_the_errors():
    table = visits(2)
    table["photmjsr"], table["err_photon"] = [0.250, 0.2501], [0.001, 0.002]
    # a scatter of 0.04 % needs no more than these errors: weights 4 to 1 in sensitivity
    expected = 5 / (4 / 0.250 + 1 / 0.2501)
    assert only(combine_visits(table)).photmjsr == pytest.approx(expected, rel=1e-6)


def test_errors_of_the_mean_are_right_with_and_without_scatter_between_visits():
    for extra in (0.0, 0.01):
        factors = [only(combine_visits(visits(10, seed=seed, extra=extra))) for seed in range(100)]
        factors = [factor for factor in factors if factor.time.form == "constant"]
        assert len(factors) >= 96  # a scatter estimated from 10 visits makes a trend in 1 to 2 % of the cases
        pulls = np.array([(factor.photmjsr / 0.25 - 1) / factor.err_visits for factor in factors])
        # standard deviation from 100 draws: good to 7 %, 3 sigma; with an estimated scatter Student's t of 9 degrees
        # is wider than normal by 13 %
        assert np.std(pulls) == pytest.approx(1.07, abs=0.28)
        assert abs(np.mean(pulls)) < 0.35
        assert np.median([factor.excess for factor in factors]) == pytest.approx(extra, abs=0.003)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_errors_of_few_visits_hold_the_truth_in_two_thirds_of_the_cases(n):
    n_draws, day = 400, 0.5 / 365
    inside, size = {}, {}
    for extra in (0.0, 0.003):
        drawn = [visits(n, seed=seed, own=0.001, extra=extra, years=day) for seed in range(n_draws)]
        factors = [only(combine_visits(table)) for table in drawn]
        errors = np.array([factor.err_visits for factor in factors])
        inside[extra] = np.mean(np.abs([factor.photmjsr / 0.25 - 1 for factor in factors]) < errors)
        size[extra] = np.median(errors) / (np.hypot(0.001, extra) / np.sqrt(n))
    # 68.3 %, 3 sigma of 400 draws
    assert inside[0.003] == pytest.approx(0.683, abs=0.07)
    # where the visits' own errors are all there is, two visits cannot tell: 82 % and an error too large by 23 %
    assert 0.683 - 0.07 < inside[0.0] < 0.82 + 0.06
    assert 0.98 < size[0.0] < 1.3


def test_real_scatter_between_few_visits_is_not_clipped():
    tables = [visits(n, seed=seed, own=0.001, extra=0.003, years=0.5 / 365) for n in (5, 8) for seed in range(200)]
    clipped = sum(only(combine_visits(table)).n_clipped > 0 for table in tables)
    # a chance of 0.27 % per visit at 3 sigma: 7 of 400 sets, and 3 sigma of that
    assert clipped <= 15


def test_an_outlier_is_left_out_and_told():
    table = visits(10)
    table["photmjsr"][4] *= 1.05
    calibration = combine_visits(table)
    assert list(np.nonzero(~calibration.kept)[0]) == [4]
    assert calibration.reason[4] == "outlier of more than 3 sigma"
    assert only(calibration).n_clipped == 1
    assert only(calibration).photmjsr == pytest.approx(0.25, rel=0.004)  # 4 sigma of 0.3 % / 3


def test_a_star_that_is_off_is_not_clipped_visit_by_visit():
    table = visits(12, stars=("A", "B", "C"))
    table["photmjsr"][table["target"] == "B"] *= 1.02
    calibration = combine_visits(table)
    assert calibration.kept.all()
    # three stars, one 2 % off: standard deviation 1.15 %, over the root of 12 visits
    assert only(calibration).excess == pytest.approx(0.01, abs=0.004)


def test_no_time_dependence_is_found_where_there_is_none():
    forms = [
        only(combine_visits(visits(n, seed=seed, extra=extra))).time.form
        for n in (5, 8, 20)
        for seed in range(15)
        for extra in (0.0, 0.005)
    ]
    # a fall of the BIC by 10 is a chance of 0.1 % where the errors are known, of 1 to 2 % where they are estimated
    assert forms.count("constant") >= len(forms) - 2


def test_linear_loss_is_found_with_its_error():
    found = [only(combine_visits(visits(12, seed=seed, form=lambda d: 1 - 0.02 * d / 365))).time for seed in range(20)]
    assert [time.form for time in found] == ["linear"] * 20
    pulls = [(time.parameters["lossperyear"] - 0.02) / time.errors["lossperyear"] for time in found]
    assert abs(np.mean(pulls)) < 0.9  # 4 sigma of 1 / sqrt(20)
    assert 0.5 < np.std(pulls) < 1.6


@pytest.mark.parametrize(
    ("form", "truth"),
    [
        ("exponential", lambda d: 0.1 * np.exp(-d / 200) + 0.9),
        ("powerlaw", lambda d: (d / 30 + 1) ** -0.05),
    ],
)
def test_curved_forms_are_found_and_follow_the_truth(form, truth):
    factor = only(combine_visits(visits(24, form=truth, own=0.001)))
    assert factor.time.form == form
    assert factor.time.correction(factor.time.t0) == pytest.approx(1.0)
    days = np.linspace(0, 3 * 365, 20)
    # 24 visits of 0.1 % and three parameters: the curve is known to better than 0.1 % but at its steep start
    ratio = factor.time.correction(factor.time.t0 + days) * 0.25 / factor.photmjsr / truth(days)
    assert np.allclose(ratio, 1.0, atol=0.004)


def test_corrections_are_those_of_the_pipeline():
    from jwst.photom import time_dependence

    t0, mjd = 59800.0, np.array([59900.0, 60500.0])
    cases = {
        "linear": ({"lossperyear": 0.01}, time_dependence.linear_correction),
        "exponential": ({"amplitude": 0.1, "tau": 200.0, "const": 0.9}, time_dependence.exponential_correction),
        "powerlaw": ({"year1value": 0.95, "tsoft": 20.0, "alpha": -0.02}, time_dependence.powerlaw_correction),
    }
    for form, (parameters, function) in cases.items():
        ours = TimeDependence(form, t0, parameters).correction(mjd)
        theirs = [float(function(date, t0, **parameters)) for date in mjd]
        assert np.allclose(ours, theirs, rtol=1e-12)


def test_stars_observed_one_after_the_other_make_no_trend():
    table = visits(12, stars=("A", "B"))
    table["target"] = ["A"] * 6 + ["B"] * 6
    table["photmjsr"][6:] *= 1.02  # the second star's spectrum is 2 % off
    assert only(combine_visits(table)).time.form == "constant"


def test_a_real_trend_of_stars_in_blocks_is_not_told_from_their_levels():
    table = visits(18, own=0.001, form=lambda d: 1 - 0.02 * d / 365)
    table["target"] = ["A"] * 6 + ["B"] * 6 + ["C"] * 6
    time = only(combine_visits(table)).time
    assert (time.form, time.status) == ("constant", "not constrained: the stars were observed one after the other")


def test_a_trend_is_found_across_stars_of_different_level():
    table = visits(18, stars=("A", "B", "C"), form=lambda d: 1 - 0.02 * d / 365)
    table["photmjsr"][table["target"] == "B"] *= 1.02
    time = only(combine_visits(table)).time
    assert time.form == "linear"
    assert time.parameters["lossperyear"] == pytest.approx(0.02, abs=4 * time.errors["lossperyear"])


def test_a_visit_without_date_counts_and_makes_no_trend():
    table = visits(12)
    expected = only(combine_visits(table))
    table["mjd"][3] = np.nan
    factor = only(combine_visits(table))
    assert factor.n_visits == 12
    assert factor.photmjsr == pytest.approx(expected.photmjsr, rel=1e-12)
    assert factor.time.form == "constant"


def test_several_visits_on_one_day_are_one_epoch():
    table = visits(8, years=0.5 / 365)
    assert only(combine_visits(table)).time.status.startswith("not constrained: 1 epoch,")


def test_subarrays_are_compared_on_the_same_star():
    table = visits(24, stars=("A", "B"), subarrays=("SUB64", "SUB64", "SUB128", "SUB128"))
    table["photmjsr"][table["subarray"] == "SUB128"] *= 1.03
    table["photmjsr"][table["target"] == "B"] *= 1.02  # falls out of the ratio
    (ratio,) = (r for r in combine_visits(table).ratios if r.kind == "subarray")
    assert (ratio.first, ratio.second, ratio.filter) == ("SUB128", "SUB64", "F090W")
    assert ratio.n == 2
    assert ratio.ratio == pytest.approx(1.03, abs=4 * ratio.err)
    # 12 visits of 0.3 % on either side
    assert ratio.err == pytest.approx(1.03 * 0.003 * np.sqrt(2 / 12), rel=0.5)
    assert ratio.err_spectrum == 0.0


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("extra", [0.0, 0.005])
def test_errors_of_ratios_of_few_visits_know_how_visits_scatter(m, extra):
    pulls = []
    for seed in range(200):
        table = visits(8 + 2 * m, seed=seed, own=0.001, extra=extra, years=0.5 / 365)
        table["subarray"] = ["SUB64"] * m + ["SUB80"] * m + ["SUB128"] * 8
        (ratio,) = (r for r in combine_visits(table).ratios if (r.first, r.second) == ("SUB64", "SUB80"))
        pulls.append((ratio.ratio - 1) / ratio.err)
    # standard deviation from 200 draws: 3 sigma are 15 %; below 1 where a scatter that is not there is allowed for
    assert 0.8 - 0.12 < np.std(pulls) < 1.05 + 0.16
    assert abs(np.mean(pulls)) < 3 / np.sqrt(200)


def test_stars_are_compared_in_the_same_subarray():
    table = visits(12, stars=("A", "B"))
    table["photmjsr"][table["target"] == "B"] *= 1.02
    (ratio,) = combine_visits(table).ratios
    assert (ratio.kind, ratio.first, ratio.second) == ("target", "A", "B")
    assert ratio.ratio == pytest.approx(1 / 1.02, abs=4 * ratio.err)
    assert ratio.err_spectrum == pytest.approx(ratio.ratio * 0.01 * np.sqrt(2))


def test_what_was_not_observed_together_is_not_constrained():
    table = visits(4)
    table["target"] = ["A", "A", "B", "B"]
    table["subarray"] = ["SUB64", "SUB64", "SUB128", "SUB128"]
    statuses = {ratio.kind: ratio.status for ratio in combine_visits(table).ratios}
    assert statuses["subarray"] == "not constrained: no star in both subarrays"
    assert statuses["target"] == "not constrained: no subarray with both stars"


def test_filters_are_averaged_in_the_ratio_of_all():
    from astropy.table import vstack

    tables = [visits(8, seed=seed, subarrays=("SUB64", "SUB128")) for seed in (1, 2)]
    tables[1]["filter"] = "F200W"
    calibration = combine_visits(vstack(tables))
    assert [factor.filter for factor in calibration.factors] == ["F090W", "F200W"]
    each = {ratio.filter: ratio for ratio in calibration.ratios}
    assert each["all"].n == each["F090W"].n + each["F200W"].n
    assert each["all"].err < each["F090W"].err


def test_non_linearity_shows_as_a_slope():
    table = visits(12)
    table["count_rate"] = np.geomspace(1e3, 1e5, 12)
    table["photmjsr"] *= 1 + 0.01 * (np.log10(table["count_rate"]) - 4)
    (slope,) = combine_visits(table, delta_bic=1000).slopes
    assert slope.slope == pytest.approx(0.01, abs=4 * slope.err)
    assert slope.err == pytest.approx(0.003 / np.sqrt(12) / np.std(np.log10(table["count_rate"])), rel=0.5)
    (slope,) = combine_visits(visits(12)).slopes
    assert slope.status == "not constrained: count rates within a factor of 1.00"
    (slope,) = combine_visits(visits(2)).slopes
    assert slope.status == "not constrained: 2 visits"


def slopes_through_stars(n_stars, *, n_draws, spectrum, extra, dex):
    """Slopes and their errors of a linear detector: 8 visits to each star, brighter from star to star by ``dex``."""
    found = []
    for seed in range(n_draws):
        table = visits(8 * n_stars, seed=seed, own=0.001, extra=extra, years=0.5 / 365)
        number = np.repeat(np.arange(n_stars), 8)
        table["target"] = np.array(list("ABCDE"))[number]
        table["count_rate"] = (
            1e4 * 10.0 ** (dex * number) / (table["photmjsr"] / 0.25)
        )  # a rate too high: factor too low
        table["photmjsr"] *= 1 + np.random.default_rng([seed, 7]).normal(0, spectrum, n_stars)[number]
        (slope,) = combine_visits(table).slopes
        found.append((slope.slope, slope.err))
    return np.array(found).T


@pytest.mark.parametrize("n_stars", [2, 3])
def test_spectra_that_are_off_are_no_slope(n_stars):
    slope, err = slopes_through_stars(n_stars, n_draws=150, spectrum=0.01, extra=0.0, dex=1.0)
    # standard deviation from 150 draws: 3 sigma are 17 %; three stars cannot tell that their spectra are no worse
    assert (0.78 if n_stars > 2 else 1.0) - 0.17 < np.std(slope / err) < 1.17
    # two stars: the spectra's 1 % each over one decade
    assert np.median(err) == pytest.approx(0.01 * np.sqrt(2) / (n_stars - 1), rel=0.05 if n_stars == 2 else 0.5)


def test_a_rate_too_high_is_no_slope():
    slope, err = slopes_through_stars(2, n_draws=150, spectrum=0.01, extra=0.01, dex=0.35)
    assert abs(np.mean(slope / err)) < 3 / np.sqrt(150)


def test_spectra_worse_than_they_say_widen_the_slope():
    slope, err = slopes_through_stars(5, n_draws=150, spectrum=0.03, extra=0.0, dex=0.5)
    # 68.3 %, 3 sigma of 150 draws: spectra said to be good to 1 % are off by 3 %
    assert np.mean(np.abs(slope) < err) == pytest.approx(0.683, abs=0.114)


def test_rows_that_cannot_be_used_are_told():
    table = visits(5)
    table["status"] = ["failed: no star", "measured", "measured", "measured with warnings: x", "measured"]
    table["photmjsr"][1] = np.nan
    table["err_photon"][2] = np.nan
    calibration = combine_visits(table)
    assert list(calibration.kept) == [False, False, False, True, True]
    assert calibration.reason[:3] == ("failed: no star", "PHOTMJSR is nan", "no error of its own")


def test_bad_input_is_refused():
    table = visits(2)
    with pytest.raises(ParameterError, match="the tables are empty"):
        combine_visits(table[:0])
    table["status"] = ["failed: no star"] * 2
    with pytest.raises(ParameterError, match="none of the 2 rows can be used: failed: no star"):
        combine_visits(table)
    with pytest.raises(ParameterError, match="not a table of absolute fluxes"):
        combine_visits(Table({"target": ["A"]}))
    with pytest.raises(ParameterError, match="clip_sigma"):
        combine_visits(visits(2), clip_sigma=0)


def test_the_order_of_rows_does_not_matter():
    table = visits(12, stars=("A", "B"))
    shuffled = table[np.random.default_rng(3).permutation(12)]
    one, other = only(combine_visits(table)), only(combine_visits(shuffled))
    assert other.photmjsr == pytest.approx(one.photmjsr, rel=1e-9)
    assert other.photmjsr_err == pytest.approx(one.photmjsr_err, rel=1e-6)


def test_a_structured_array_is_taken_as_well():
    table = visits(6)
    assert only(combine_visits(table.as_array())).photmjsr == only(combine_visits(table)).photmjsr
