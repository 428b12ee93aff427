"""The PSF fitted to curves of growth: against the posterior by other means, and pulls of stars drawn from the prior."""

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from niriss_eestep.combine.mean import combine_profiles
from niriss_eestep.flux import fitted
from niriss_eestep.flux.fitted import GrowthCurve, fit_psf, fitted_totals
from niriss_eestep.flux.total_rate import total_rate
from niriss_eestep.reference import load_psf_images, load_psfee

RADIUS = np.array([2.0, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15])
N_MODES, N_GROUPS = 6, 4


def prior(seed=3):
    """Modes of each group [fractions]: smooth in radius, of like shape in all groups."""
    rng = np.random.default_rng(seed)
    powers = rng.uniform(0.3, 2.0, N_MODES)
    common = 0.01 * (2 / RADIUS[:, None]) ** powers * rng.choice([-1, 1], N_MODES)
    return [common * rng.normal(1 - 0.2 * group, 0.2, N_MODES) for group in range(N_GROUPS)]


MODES = prior()
COVARIANCE = 1e-8 * (np.minimum.outer(RADIUS, RADIUS) + 2 * np.eye(RADIUS.size))


def phase_variance(curve):
    return np.interp(curve.radius, fitted.PHASE_RADIUS, fitted.PHASE_SD) ** 2 / curve.n_exposures


def curve(group, total, coefficients, noise=1.0, rng=None):
    """Curve of growth of a group, of the model that `fit_psf` takes; ``noise`` scales the errors."""
    values = total * (1 + MODES[group] @ coefficients)
    found = GrowthCurve(RADIUS, values, noise**2 * total**2 * COVARIANCE, MODES[group], 4)
    if rng is None:
        return found
    errors = np.linalg.cholesky(found.covariance / total**2 + np.diag(phase_variance(found))) @ rng.standard_normal(11)
    return replace(found, total=values * (1 + errors))


def test_wavefront_is_found_where_the_data_know_it():
    truth = np.array([0.7, -0.5, 0.3, 0.2, -0.1, 0.4])
    found = fit_psf([replace(curve(g, 10.0 ** (g + 1), truth, 0.01), n_exposures=10**6) for g in range(N_GROUPS)])
    prior_error = np.abs([np.mean(MODES[g] @ truth) for g in range(N_GROUPS)])
    assert np.all(np.abs(found.total / 10.0 ** np.arange(1, 5) - 1) < 0.02 * prior_error)
    assert np.abs(np.concatenate(found.after)).max() < 0.01 * np.abs(np.concatenate(found.before)).max()


def test_posterior_is_that_of_the_coefficients_themselves():
    # the same normal distributions with each coefficient as a parameter, solved as least squares
    rng, small = np.random.default_rng(5), 1e-3
    curves = [replace(curve(g, 1.0, small * rng.standard_normal(N_MODES), 1.0, rng)) for g in range(N_GROUPS)]
    curves = [replace(c, total=1 + small * (c.total - 1)) for c in curves]
    found = fit_psf(curves)
    shared, own = np.sqrt(1 - fitted.OWN_SHARE**2), fitted.OWN_SHARE
    n, k = len(RADIUS), N_MODES
    design = np.zeros((N_GROUPS * n, N_GROUPS + k + N_GROUPS * k))
    for g in range(N_GROUPS):
        rows = slice(g * n, g * n + n)
        design[rows, g] = 1
        design[rows, N_GROUPS : N_GROUPS + k] = shared * MODES[g]
        design[rows, N_GROUPS + k + g * k : N_GROUPS + 2 * k + g * k] = own * MODES[g]
    weight = np.zeros((N_GROUPS * n, N_GROUPS * n))
    for g, c in enumerate(curves):
        block = np.linalg.inv(c.covariance + np.diag(phase_variance(c)))
        weight[g * n : g * n + n, g * n : g * n + n] = block
    information = design.T @ weight @ design + np.diag(np.r_[np.zeros(N_GROUPS), np.ones(k + N_GROUPS * k)])
    values = np.concatenate([c.total - 1 for c in curves])
    solution = np.linalg.solve(information, design.T @ weight @ values)
    covariance = np.linalg.inv(information)[:N_GROUPS, :N_GROUPS]
    c, d = np.split(solution[N_GROUPS:], [k])
    psf = [MODES[g] @ (shared * c + own * part) for g, part in enumerate(d.reshape(N_GROUPS, k))]
    by_hand = [np.mean(curves[g].total / (1 + psf[g])) for g in range(N_GROUPS)]
    assert found.total == pytest.approx(by_hand, abs=1e-7)
    noise = [found.weights[g][g] @ curves[g].covariance @ found.weights[g][g] for g in range(N_GROUPS)]
    variance = np.sum(found.aperture_modes**2, axis=1) + noise
    # the least possible of any total, and nearly reached by a mean over radii
    assert np.all(variance > (1 - 1e-3) * np.diag(covariance))
    assert np.all(variance < 1.02 * np.diag(covariance))


def test_a_mode_that_all_share_moves_the_totals_by_its_column():
    """What remains of the fit's uncertainty, mode by mode, is what visits of one wavefront have in common."""
    small, shared = 1e-4, np.sqrt(1 - fitted.OWN_SHARE**2)
    still = fit_psf([curve(g, 1.0, np.zeros(N_MODES)) for g in range(N_GROUPS)])
    for k, unit in enumerate(shared * np.eye(N_MODES)):
        moved = fit_psf([curve(g, 1.0, small * unit) for g in range(N_GROUPS)])
        # a star that is so much brighter than its PSF lets it look: a PSF that is so would find less
        np.testing.assert_allclose(moved.total - still.total, -small * still.aperture_modes[:, k], rtol=2e-3, atol=1e-9)


def test_radii_that_are_averaged_need_not_be_fitted():
    truth = np.array([0.7, -0.5, 0.3, 0.2, -0.1, 0.4])
    inner, outer = RADIUS <= 6, RADIUS > 8
    all_but = [replace(curve(g, 9.0, truth, 0.01), n_exposures=10**6, fitted=inner, averaged=outer) for g in (0, 1)]
    bump = [replace(c, total=c.total * np.where((RADIUS > 6) & (RADIUS <= 8), 1.1, 1.0)) for c in all_but]
    found, same = fit_psf(all_but), fit_psf(bump)
    assert found.total == pytest.approx([9.0, 9.0], rel=2e-3)
    # what is neither fitted nor averaged does not count
    np.testing.assert_array_equal(found.total, same.total)
    assert found.dof == 2 * inner.sum() - 2
    assert fit_psf([replace(c, fitted=True) for c in bump]).chi2 > 100 * found.chi2


def test_without_data_the_prior_stands():
    found = fit_psf([curve(g, 100.0, np.zeros(N_MODES), 1e5) for g in range(N_GROUPS)])
    assert np.abs(found.coefficients).max() < 1e-6
    assert found.total == pytest.approx([100.0] * N_GROUPS)
    assert np.abs(found.before[0]).max() < 1e-9


def test_without_noise_the_pixel_phases_bound_the_errors():
    exact = [replace(curve(g, 100.0, np.zeros(N_MODES)), covariance=np.zeros((11, 11))) for g in range(N_GROUPS)]
    found = fit_psf(exact)
    assert found.total == pytest.approx([100.0] * N_GROUPS, rel=1e-12)
    assert np.all(np.sqrt(np.sum(found.aperture_modes**2, axis=1)) > 1e-5)


@pytest.mark.parametrize("n_groups", [1, 4])
def test_totals_are_as_good_as_their_errors_and_better_than_the_prior(n_groups):
    rng, n_trials = np.random.default_rng(11), 400
    pulls, worth = np.empty((2, n_trials, n_groups))
    shared, own = np.sqrt(1 - fitted.OWN_SHARE**2), fitted.OWN_SHARE
    for i in range(n_trials):
        c = shared * rng.standard_normal(N_MODES)
        curves = [curve(g, 50.0, c + own * rng.standard_normal(N_MODES), 1.0, rng) for g in range(n_groups)]
        found = fit_psf(curves)
        noise = np.array([w[g] @ COVARIANCE @ w[g] for g, w in enumerate(found.weights)])
        pulls[i] = (found.total / 50 - 1) / np.sqrt(np.sum(found.aperture_modes**2, axis=1) + noise)
        worth[i] = np.abs(found.total / 50 - 1)
    # the pulls of a trial's groups are nearly one number: 400 of them give the deviation to 3.5 %; four times that
    assert np.std(pulls, axis=0) == pytest.approx(np.ones(n_groups), abs=0.14)
    assert np.abs(pulls.mean(axis=0)).max() < 4 / np.sqrt(n_trials)
    prior_width = [np.sqrt(np.sum(np.mean(MODES[g][3:9], axis=0) ** 2)) for g in range(n_groups)]
    assert np.all(np.sqrt(np.mean(worth**2, axis=0)) < 0.5 * np.array(prior_width))


def test_what_no_mode_explains_is_told_and_enlarges_the_errors():
    good = [curve(g, 100.0, np.zeros(N_MODES)) for g in range(N_GROUPS)]
    bump = np.where(RADIUS > 9, 0.02, 0.0)
    found = fit_psf([replace(good[0], total=good[0].total * (1 + bump)), *good[1:]])
    assert found.inflation > 2
    assert any("chi2/dof" in text for text in found.warnings)
    # as far as stars of other optics are off, the errors say it all
    half = np.sqrt(8.0 / (found.chi2 / found.dof))
    found = fit_psf([replace(good[0], total=good[0].total * (1 + half * bump)), *good[1:]])
    assert 2 < found.inflation < 3.2
    assert not found.warnings
    assert not fit_psf(good).warnings


def test_a_total_s_errors_are_enlarged_as_the_fit_s_are():
    """By light that no mode explains: the errors of photons and PSF together, by the root of chi-squared over dof."""

    def ee(radius):
        return radius**2 / (radius**2 + 1)

    def modes_at(radius):
        return ee(radius)[:, None] * np.array([np.interp(radius, RADIUS, mode) for mode in MODES[0].T]).T

    bump = np.where(RADIUS > 9, 0.001, 0.0)
    light = [1000 * ee(RADIUS) * (1 + bump + 1e-4 * (k - 1)) for k in range(3)]
    group = combine_profiles(["a", "b", "c"], RADIUS, light, [1e6 * COVARIANCE] * 3)
    area, rings = np.tile(np.pi * RADIUS**2, (3, 1)), [(np.zeros(0), np.zeros(0))] * 3
    given = {"curve": ee, "curve_err": np.zeros_like, "area": area, "rings": rings, "modes_at": modes_at}
    before, inside = total_rate(group, **given), RADIUS <= 10
    (found,) = fitted_totals([(before, group, inside, given)])
    fit = fit_psf([fitted.growth_curve(before, group, inside)])
    assert fit.inflation > 1.5
    assert "aperture_modes" in found.arrays  # the fitted PSF was taken
    assert found.psf_chi2_dof == pytest.approx(fit.chi2 / fit.dof)
    known = np.hypot(found.err_photon, found.err_aperture)
    assert np.hypot(known, found.err_radii) == pytest.approx(fit.inflation * known)


def model_ee(radius):
    return 1 - (1 + (np.asarray(radius) / 1.5) ** 2) ** -0.8


def mode_of_ee(radius):
    """One mode: 1 % of the light at 2 pix, 0.4 % at 5, 0.2 % at 10."""
    return (0.02 / np.maximum(np.asarray(radius), 1.0))[:, None]


@pytest.mark.parametrize(("bump", "taken"), [(0.0, True), (0.003, True), (0.02, False)])
def test_what_contradicts_the_fit_contradicts_the_reference_too(bump, taken):
    """A star one standard deviation off in the mode; and a bump at 2 and 4 pix that no mode explains."""
    true = model_ee(RADIUS) + mode_of_ee(RADIUS)[:, 0] + bump * np.isin(RADIUS, (2, 4))
    covariance = [4.0 * np.minimum.outer(true, true)] * 2
    profile = combine_profiles(["a", "b"], RADIUS, [1e3 * true] * 2, covariance)
    arguments = {"curve": model_ee, "curve_err": np.zeros_like, "modes_at": mode_of_ee, "radii": (5.0, 10.0)}
    arguments |= {"area": np.tile(np.pi * RADIUS**2, (2, 1)), "rings": [(np.zeros(0), np.zeros(0))] * 2}
    before = total_rate(profile, **arguments)
    (after,) = fitted.fitted_totals([(before, profile, np.ones(11, dtype=bool), arguments)])

    def error(total):
        return np.linalg.norm([total.err_photon, total.err_aperture, total.err_radii])

    assert (after.psf_chi2_dof > fitted.CHI2_TOLD) == (bump == 0.02)
    assert (after.psf_chi2_dof > fitted.CHI2_UNLIKE) == (bump > 0)
    assert (after.count_rate != before.count_rate) == taken
    # no error larger than by the reference, and a total no worse
    assert error(after) <= (1 + 1e-12) * error(before)
    assert abs(after.count_rate - 1e3) <= abs(before.count_rate - 1e3)
    assert abs(after.count_rate - 1e3) < 2 * error(after)


def test_a_psf_at_the_edge_of_the_prior_is_told():
    truth = np.zeros(N_MODES)
    truth[0] = 12.0
    found = fit_psf([curve(g, 100.0, truth) for g in range(N_GROUPS)])
    assert any("at the prior's edge" in text for text in found.warnings)


@pytest.mark.parametrize(("noise", "far"), [(1.0, 6.0), (30.0, 12.0)])
def test_a_star_beyond_the_prior_widens_it(noise, far):
    """Far off in one mode, which the curves show well or hardly: with a firm prior the pulls' rms is 2.6 and 1.6."""
    rng, pulls = np.random.default_rng(11), []
    for _ in range(24):
        truth = rng.standard_normal(N_MODES)
        truth[1] = far * rng.choice([-1, 1])
        curves = [curve(g, 1e3, truth, noise, rng) for g in range(N_GROUPS)]
        fit = fit_psf(curves)
        own = [w[g] @ c.covariance @ w[g] for g, (w, c) in enumerate(zip(fit.weights, curves, strict=True))]
        pulls.append((fit.total / 1e3 - 1) / np.sqrt(np.sum(fit.aperture_modes**2, axis=1) + np.array(own) / 1e6))
    # a trial's groups are nearly one number: 24 give the rms to 14 %
    assert 0.6 < np.sqrt(np.mean(np.square(pulls))) < 1.4


def test_a_mode_that_the_curves_hardly_show_is_at_the_edge_where_they_contradict_it():
    # the coefficient stays small, for the prior holds it; what counts is how far the curves are from what it allows
    truth = np.zeros(N_MODES)
    truth[1] = 30.0
    found = fit_psf([curve(g, 100.0, truth, 30.0) for g in range(N_GROUPS)])
    assert any("at the prior's edge" in text for text in found.warnings)
    # noise that is stated, on the other hand, is no contradiction
    rng = np.random.default_rng(4)
    drawn = [curve(g, 100.0, rng.standard_normal(N_MODES), 100.0, rng) for g in range(N_GROUPS)]
    assert not fit_psf(drawn).warnings


@pytest.mark.parametrize("information", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("sigmas", [0.0, 1.0, 2.5, 5.0])
def test_the_mixture_of_flatter_mid_frequencies_has_the_posterior_of_its_integral(information, sigmas):
    flatter, estimate = 16.0, sigmas / np.sqrt(information)
    c = np.linspace(-200, 200, 400_001)
    prior = sum(w * np.exp(-0.5 * (c / (flatter * s)) ** 2) / s for w, s in fitted.FLATTER)
    posterior = prior * np.exp(-0.5 * information * (c - estimate) ** 2)
    posterior /= posterior.sum()
    mean = posterior @ c
    # a prior of standard deviation 1 leaves this of the estimate, which `_widths` takes
    known = information / (1 + information)
    (width,), (stretch,), _ = fitted._widths(np.array([known * estimate]), np.array([[known]]), flatter)
    normal = 1 / (1 / width**2 + information)
    assert normal * information * estimate == pytest.approx(mean, abs=1e-9)
    assert normal * (1 + stretch**2 * normal / width**2) == pytest.approx(posterior @ (c - mean) ** 2, rel=1e-6)


@pytest.mark.parametrize("coefficient", [0.3, 1.5, 4.0])
def test_the_fit_knows_the_mixture_s_mode_as_its_posterior_does(monkeypatch, coefficient):
    monkeypatch.setattr(fitted, "OWN_SHARE", 1e-6)  # all of the mode is shared
    flatter, mode, noise = 16.0, 1e-3 * (10 / RADIUS) ** 0.3, COVARIANCE
    curve = GrowthCurve(RADIUS, 1 + coefficient * mode, noise, mode[:, None], 4)
    found = fit_psf([curve], flatter)
    # what the curve says of it, whatever its total is
    inverse = np.linalg.inv(noise + np.diag(phase_variance(curve)))
    seen = inverse - np.outer(inverse.sum(0), inverse.sum(0)) / inverse.sum()
    c, information = np.linspace(-60, 60, 200_001), mode @ seen @ mode
    prior = sum(w * np.exp(-0.5 * (c / (flatter * s)) ** 2) / s for w, s in fitted.FLATTER)
    posterior = prior * np.exp(-0.5 * information * (c - coefficient) ** 2)
    posterior /= posterior.sum()
    mean = posterior @ c
    assert found.shared[0] == pytest.approx(mean, rel=0.02)
    assert found.shared_covariance[0, 0] == pytest.approx(posterior @ (c - mean) ** 2, rel=0.02)


def test_other_modes_are_widened_by_what_the_mixture_leaves_them():
    rng = np.random.default_rng(2)
    modes, noise, flatter = rng.standard_normal((12, 3)), 0.5, 16.0
    modes[:, 0] += modes[:, 2]
    curve = modes @ [6.0, 1.0, 12.0] + noise * rng.standard_normal(12)

    def scores(variance):
        inverse = np.linalg.inv(modes @ np.diag([1.0, 1.0, variance]) @ modes.T + noise**2 * np.eye(12))
        return modes.T @ inverse @ curve, modes.T @ inverse @ modes

    width, *_ = fitted._widths(*scores(1.0), flatter)
    # their scores and what is known of them, where the last mode has the prior that the mixture comes to
    score, known = scores(width[2] ** 2)
    informed = np.diagonal(known)
    wanted = np.sqrt(1 + np.maximum(0, score**2 / informed / fitted.WIDENED**2 - 1) / informed)
    assert wanted[0] > 1.5 * wanted[1] == 1.5
    np.testing.assert_allclose(width[:2], wanted[:2], rtol=1e-6)


def with_tail(coefficient, rng, noise=1.0):
    """Curves whose last mode, of small steps, is that of flatter mid frequencies: 16 of them are an index of 2.8."""
    truth = np.append(rng.standard_normal(N_MODES), coefficient)
    found = []
    for group in range(N_GROUPS):
        modes = np.column_stack([MODES[group], 3e-4 * (10 / RADIUS) ** 0.3])
        of = GrowthCurve(RADIUS, 1 + modes @ truth, noise**2 * COVARIANCE, modes, 4)
        errors = np.linalg.cholesky(of.covariance + np.diag(phase_variance(of))) @ rng.standard_normal(RADIUS.size)
        found.append(replace(of, total=of.total * (1 + errors)))
    return found


def pulls_of(curves, flatter):
    fit = fit_psf(curves, flatter)
    own = [w[g] @ c.covariance @ w[g] for g, (w, c) in enumerate(zip(fit.weights, curves, strict=True))]
    return (fit.total - 1) / (fit.inflation * np.sqrt(np.sum(fit.aperture_modes**2, axis=1) + own)), fit


@pytest.mark.parametrize("noise", [0.1, 3.0])
def test_errors_hold_for_the_mixture_of_flatter_mid_frequencies(noise):
    rng, pulls = np.random.default_rng(8), []
    for _ in range(150):
        width = 16.0 * rng.choice(fitted.FLATTER[:, 1], p=fitted.FLATTER[:, 0])
        pulls.append(pulls_of(with_tail(width * rng.standard_normal(), rng, noise), 16.0)[0])
    # the groups' pulls are nearly one number, of heavier tails than a normal distribution's: 150 give the rms to 8 %
    assert 0.76 < np.sqrt(np.mean(np.square(pulls))) < 1.24


def test_flatter_mid_frequencies_are_found_where_the_curves_show_them_and_told_where_not():
    rng = np.random.default_rng(9)
    stars = [with_tail(16.0, rng, 0.3) for _ in range(40)]
    mixture, firm = (np.sqrt(np.mean([pulls_of(star, f)[0] ** 2 for star in stars])) for f in (16.0, 0.0))
    assert mixture < 0.85 * firm
    # one group hardly shows them: its totals are off by what is given beside the error
    hidden = [pulls_of(with_tail(16.0, rng)[:1], 16.0)[1] for _ in range(150)]
    off, shift = np.array([f.total[0] - 1 for f in hidden]), np.array([f.index_shift[0] for f in hidden])
    assert abs(off.mean() - shift.mean()) < 3 * off.std() / np.sqrt(150) < 0.4 * shift.mean()
    # where they are found, a star of the prior tells by how little the totals would still be off
    bright = [pulls_of(with_tail(c, rng, 0.03), 16.0)[1] for c in np.repeat([0.0, 16.0], 40)]
    off, shift = np.mean([f.total[0] - 1 for f in bright[40:]]), np.mean([f.index_shift[0] for f in bright[:40]])
    assert abs(off - shift) < 3 * np.std([f.total[0] for f in bright]) / np.sqrt(40)
    assert np.isnan(pulls_of(with_tail(16.0, rng), 0.0)[1].index_shift).all()


RADII = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15])


def light_within(image, x, y):
    """Curve of growth of an image about a place, on its pixels cut into 15 x 15."""
    fine = np.repeat(np.repeat(image, 15, 0), 15, 1) / 225
    grid = (np.arange(fine.shape[0]) + 0.5) / 15 - 0.5
    distance = np.hypot(grid[:, None] - y, grid - x)
    return np.array([fine[distance <= r].sum() for r in RADII])


@pytest.mark.parametrize(("share", "distance"), [(0.0, 4.0), (0.01, 4.0), (0.02, 3.0), (0.01, 6.0)])
def test_a_companion_is_told_where_several_filters_show_its_step(share, distance):
    """Of another star in the same filters none is."""
    psfee, images, groups = load_psfee(), load_psf_images(), []
    filters = ("F090W", 0.3), ("F150W", 1.4), ("F277W", 2.0), ("F480M", 4.0)
    for k, (name, angle) in enumerate(filters * 2):
        image = images[name].render(30.2, 29.9, (61, 61))
        image += (share if k < 4 else 0.0) * images[name].render(
            30.2 + distance * np.cos(angle), 29.9 + distance * np.sin(angle), (61, 61)
        )
        rates = 1e4 * light_within(image, 30.2, 29.9)
        covariance = 1e-3 * np.minimum.outer(rates, rates)
        if name == "F150W":  # a star near the image's edge
            rates[-2:] = covariance[-2:] = covariance[:, -2:] = np.nan
        combined = combine_profiles(["a"], RADII, [rates], [covariance])
        arguments = {
            "curve": partial(psfee.ee, name), "curve_err": partial(psfee.ee_err, name), "radii": (5.0, 10.0),
            "modes_at": partial(psfee.modes_at, name), "area": np.pi * RADII[None] ** 2,
            "rings": [(np.zeros(0), np.zeros(0))],
        }  # fmt: skip
        groups.append((total_rate(combined, **arguments), combined, (RADII >= 2) & np.isfinite(rates), arguments))
    totals = fitted_totals(groups, ["A star"] * 4 + ["Another"] * 4)
    (told,) = {total.warnings[:1] for total in totals}
    if not share:
        assert told == ()
        return
    percent, place = re.match(r"light of ([\d.]+) \+- [\d.]+ % of A star's at ([\d.]+) pix", told[0]).groups()
    assert float(percent) == pytest.approx(100 * share, rel=0.25)
    assert float(place) == pytest.approx(distance, abs=0.5)
    assert not any("Another" in text for total in totals for text in total.warnings)
    # its light is in the total, and in the error of the star's own
    for k, total in enumerate(totals):
        assert (total.err_radii > 0.7 * share * total.count_rate) == (k < 4)
        assert abs(total.count_rate - 1e4) < 1.2 * np.hypot(total.count_rate_err, total.err_aperture)
