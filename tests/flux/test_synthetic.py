import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from niriss_eestep.errors import ParameterError, ReferenceDataError
from niriss_eestep.flux.synthetic import (
    COLLECTING_AREA,
    StandardSpectrum,
    blackbody_spectrum,
    electron_rate_of_unit_fnu,
    expected_rate,
    predicted_photmjsr,
    spikes,
    zeropoint_vega,
)

PLANCK, LIGHT = 6.62607015e-27, 2.99792458e10  # [erg s], [cm/s]
LOW, HIGH, EFFICIENCY = 1.8, 2.2, 0.5  # a top-hat band [micron]


@pytest.fixture
def top_hat():
    wave = np.linspace(LOW, HIGH, 401)
    return wave, np.full(wave.size, EFFICIENCY)


@pytest.fixture
def bell():
    wave = np.linspace(1.7, 2.3, 301)
    return wave, 0.6 * np.exp(-0.5 * ((wave - 2.0) / 0.08) ** 2)


def flat_fnu(jansky, *, low=1.0e4, high=4.0e4, n=3001):
    """A source of constant F_nu."""
    wave = np.linspace(low, high, n)
    return StandardSpectrum("flat", wave, jansky * 1e-23 * LIGHT * 1e8 / wave**2)


def trapezoid_rate(spectrum, wave, pce):
    """Second derivation of the rate: photons interpolated on a fine grid of our own."""
    grid = np.linspace(wave[0], wave[-1], 400_001) * 1e4
    photons = np.interp(grid, spectrum.wavelength, spectrum.flux * spectrum.wavelength) / (PLANCK * LIGHT * 1e8)
    return COLLECTING_AREA * np.trapezoid(photons * np.interp(grid, wave * 1e4, pce), grid)


def test_top_hat_and_constant_photon_flux_have_the_rate_of_a_rectangle(top_hat):
    wave = np.linspace(1.0e4, 3.0e4, 11)
    photons = 2.0e-3  # [photon/s/cm2/Angstrom]
    star = StandardSpectrum("photons", wave, photons * PLANCK * LIGHT * 1e8 / wave)
    expected = photons * EFFICIENCY * (HIGH - LOW) * 1e4 * COLLECTING_AREA
    # synphot closes a bin at either edge of the hat with half a step: 1 / (2 * 400) of the width at most, here none
    assert expected_rate(star, *top_hat).electron_rate == pytest.approx(expected, rel=1e-6)


def test_rate_is_that_of_an_independent_trapezoid(bell):
    rng = np.random.default_rng(20220801)
    wave = np.sort(rng.uniform(1.0e4, 3.0e4, 4000))
    star = StandardSpectrum("lines", wave, 1e-15 * (wave / 2e4) ** -4 * rng.uniform(0.5, 1.5, wave.size))
    # synphot's trapezoid runs over the joint wavelengths, about 2.5 A apart; between them the product is a parabola
    assert expected_rate(star, *bell).electron_rate == pytest.approx(trapezoid_rate(star, *bell), rel=5e-5)


def test_coarse_spectrum_is_interpolated_not_sampled(bell):
    wave = np.geomspace(1e4, 4e4, 40)
    star = StandardSpectrum("coarse", wave, 1e-15 * (wave / 2e4) ** -4)
    assert expected_rate(star, *bell).electron_rate == pytest.approx(trapezoid_rate(star, *bell), rel=2e-4)


def test_source_of_constant_fnu_is_its_own_band_average(bell):
    result = expected_rate(flat_fnu(2.5), *bell)
    # the band-averaged and the monochromatic convention agree for this source and no other; grid steps of 10 A
    assert result.fnu_band == pytest.approx(2.5, rel=1e-5)
    assert result.fnu_mono == pytest.approx(2.5, rel=1e-5)
    assert result.zeropoint_ab - 2.5 * np.log10(result.electron_rate) == pytest.approx(
        -2.5 * np.log10(2.5 / 3630.78), abs=1e-4
    )


@pytest.mark.parametrize("cut", [slice(None), slice(100, 200)])
def test_rate_is_synphots(bell, cut):
    """A spectrum and a band on wavelengths of their own; the band's ends at zero, and at full response."""
    from astropy import units as u
    from synphot import Empirical1D, Observation, SourceSpectrum, SpectralElement
    from synphot.units import FLAM

    rng = np.random.default_rng(20261127)
    wave = np.sort(rng.uniform(1.0e4, 3.0e4, 3000))
    star = StandardSpectrum("lines", wave, 1e-15 * (wave / 2e4) ** -4 * rng.uniform(0.5, 1.5, wave.size))
    source = SourceSpectrum(Empirical1D, points=star.wavelength * u.AA, lookup_table=star.flux * FLAM)
    # beyond the table there is nothing; synphot would carry an end value other than zero on
    at, pce = bell[0][cut] * 1e4, bell[1][cut]
    points = np.concatenate([at[:1], at[:1] * (1 + 1e-9), at[1:-1], at[-1:] * (1 - 1e-9), at[-1:]])
    band = SpectralElement(Empirical1D, points=points * u.AA, lookup_table=np.pad(pce, 1))
    rate = Observation(source, band, binset=points).countrate(area=COLLECTING_AREA, binned=False).value
    assert expected_rate(star, at / 1e4, pce).electron_rate == pytest.approx(rate, rel=1e-8)


def test_band_average_agrees_with_synphots_effective_stimulus(bell):
    from astropy import units as u
    from synphot import Empirical1D, Observation, SourceSpectrum, SpectralElement
    from synphot.units import FLAM

    star = blackbody_spectrum("hot", temperature=40000, v_mag=12.0)
    source = SourceSpectrum(Empirical1D, points=star.wavelength * u.AA, lookup_table=star.flux * FLAM)
    # zeros at either end, without which synphot carries the last value on
    ends = np.concatenate([[1.699999], bell[0], [2.300001]]) * u.micron
    band = SpectralElement(Empirical1D, points=ends, lookup_table=np.pad(bell[1], 1))
    stimulus = Observation(source, band, binset=ends).effstim(u.Jy).value
    assert expected_rate(star, *bell).fnu_band == pytest.approx(stimulus, rel=1e-4)


def test_pivot_of_a_top_hat(top_hat):
    exact = np.sqrt(0.5 * (HIGH**2 - LOW**2) / np.log(HIGH / LOW))
    assert expected_rate(flat_fnu(1.0), *top_hat).pivot == pytest.approx(exact, rel=1e-6)


def test_unit_rate_zero_point_and_photmjsr_of_a_top_hat(top_hat):
    rate = COLLECTING_AREA * 1e-23 / PLANCK * EFFICIENCY * np.log(HIGH / LOW)
    assert electron_rate_of_unit_fnu(*top_hat) == pytest.approx(rate, rel=1e-6)
    star = expected_rate(blackbody_spectrum("hot", temperature=3e4, v_mag=13), *top_hat)
    assert star.zeropoint_ab == pytest.approx(2.5 * np.log10(rate) - 2.5 * np.log10(1 / 3630.7805), abs=1e-6)
    photmjsr = predicted_photmjsr(*top_hat, gain=1.61, pixel_solid_angle=1e-13)
    # 1 DN/s is 1.61 e-/s, spread over one pixel
    assert photmjsr == pytest.approx(1.61 / rate / 1e-13 / 1e6, rel=1e-6)


def test_photmjsr_turns_the_rate_into_the_band_average(bell):
    gain, area = 1.5, 1.1e-13
    result = expected_rate(blackbody_spectrum("hot", temperature=3e4, v_mag=13), *bell)
    photmjsr = predicted_photmjsr(*bell, gain=gain, pixel_solid_angle=area)
    assert result.electron_rate / gain * photmjsr * area * 1e6 == pytest.approx(result.fnu_band, rel=1e-12)


def test_vega_magnitude_of_vega_is_the_given_one(bell):
    vega = blackbody_spectrum("Vega", temperature=9600, v_mag=0.03)
    rate = expected_rate(vega, *bell).electron_rate
    zeropoint = zeropoint_vega(vega, *bell, magnitude=0.03)
    assert zeropoint - 2.5 * np.log10(rate) == pytest.approx(0.03, abs=1e-12)


def test_statistical_errors_are_independent_and_systematic_ones_are_common(bell):
    wave = np.linspace(1.6e4, 2.4e4, 200)
    flux = 1e-15 * (wave / 2e4) ** -3
    star = StandardSpectrum("noisy", wave, flux, staterr=0.05 * flux, syserr=0.02 * flux)
    result = expected_rate(star, *bell)
    assert result.electron_rate_err_sys == pytest.approx(0.02 * result.electron_rate, rel=1e-4)
    rng = np.random.default_rng(5)
    rates = [
        expected_rate(StandardSpectrum("draw", wave, flux * rng.normal(1, 0.05, wave.size)), *bell).electron_rate
        for _ in range(300)
    ]
    # a standard deviation from 300 draws is good to 1 / sqrt(600) = 4 %; 4 sigma
    assert result.electron_rate_err_stat == pytest.approx(np.std(rates), rel=0.16)
    assert result.electron_rate_err == pytest.approx(
        np.hypot(result.electron_rate_err_stat, result.electron_rate_err_sys)
    )


@settings(max_examples=10, deadline=None)
@given(st.floats(1e-6, 1e6))
def test_rate_is_linear_in_the_flux(factor):
    wave = np.linspace(1.7, 2.3, 61)
    band = wave, 0.6 * np.exp(-0.5 * ((wave - 2.0) / 0.08) ** 2)
    star = flat_fnu(1.0, n=301)
    brighter = StandardSpectrum("flat", star.wavelength, star.flux * factor)
    rate = expected_rate(star, *band).electron_rate
    assert expected_rate(brighter, *band).electron_rate == pytest.approx(factor * rate, rel=1e-9)


def test_zeros_around_a_band_change_nothing(bell):
    wave, pce = bell
    star = blackbody_spectrum("hot", temperature=4e4, v_mag=13)
    pce = np.where(pce > 1e-2, pce, 0.0)
    wide = np.concatenate([[0.5, 1.69], wave, [2.31, 5.5]]), np.pad(pce, 2)
    narrow = expected_rate(star, wave, pce).electron_rate
    assert expected_rate(star, *wide).electron_rate == pytest.approx(narrow, rel=1e-9)


def test_black_body_has_the_v_magnitude_and_the_rayleigh_jeans_tail():
    star = blackbody_spectrum("WD", temperature=42000, v_mag=14.68)
    # V = 0 is 363.1e-11 erg/s/cm2/Angstrom at 5450 A; grid of 0.14 % in wavelength, flux curvature adds its square
    at_v = np.interp(5450.0, star.wavelength, star.flux)
    assert at_v == pytest.approx(363.1e-11 * 10 ** (-0.4 * 14.68), rel=1e-4)
    slope = np.log(np.interp(2e5, star.wavelength, star.flux) / np.interp(1e5, star.wavelength, star.flux)) / np.log(2)
    assert slope == pytest.approx(-4.0, abs=0.05)  # x = hc / (lambda k T) = 0.03 at 10 micron


@pytest.mark.parametrize(
    ("low", "high", "covers"), [(1.5e4, 2.5e4, True), (1.95e4, 2.5e4, False), (1.5e4, 2.1e4, False)]
)
def test_a_spectrum_must_cover_the_band(bell, low, high, covers):
    star = flat_fnu(1.0, low=low, high=high)
    if covers:
        assert expected_rate(star, *bell).electron_rate > 0
        return
    with pytest.raises(ReferenceDataError, match=r"flat covers .* no values from .* of F200W is missing"):
        expected_rate(star, *bell, name="F200W")


def test_a_spectrum_that_ends_in_the_faintest_wing_of_a_band_is_taken(bell):
    # beyond 2.3 micron a part of 1e-4 of this band is left
    assert expected_rate(flat_fnu(1.0, high=2.299e4), *bell).electron_rate > 0


def test_no_overlap_at_all_is_said(bell):
    with pytest.raises(ReferenceDataError, match=r"100\.00% of F200W"):
        expected_rate(flat_fnu(1.0, low=3e4, high=4e4), *bell, name="F200W")


def test_negative_flux_counts_within_the_band_only(bell):
    star = flat_fnu(1.0)
    far, within = star.flux.copy(), star.flux.copy()
    far[0] = -1e-20  # at 1 micron: noise, as faint ultraviolet ends of CALSPEC spectra have
    within[np.searchsorted(star.wavelength, 2e4)] = -1e-20
    assert expected_rate(StandardSpectrum("far", star.wavelength, far), *bell).electron_rate > 0
    with pytest.raises(ReferenceDataError, match="negative"):
        expected_rate(StandardSpectrum("within", star.wavelength, within), *bell)


def test_a_star_without_flux_is_refused(bell):
    star = flat_fnu(1.0)
    with pytest.raises(ReferenceDataError, match="no flux in F200W"):
        expected_rate(StandardSpectrum("dark", star.wavelength, np.zeros(star.flux.size)), *bell, name="F200W")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flux": [1.0, np.nan, 1.0]}, "1 values of flux are not finite"),
        ({"syserr": [0.0, 1e308, 0.0]}, "1 values of syserr are not finite, or far too large"),
        ({"flux": [1.0, 1.0]}, "one value per wavelength"),
        ({"wavelength": [1.0, 3.0, 2.0]}, "increase"),
        ({"wavelength": [-1.0, 2.0, 3.0]}, "positive"),
        ({"staterr": [0.1, -0.1, 0.1]}, "negative"),
    ],
)
def test_a_spectrum_is_checked_when_it_is_made(change, message):
    columns = {"wavelength": [1.0, 2.0, 3.0], "flux": [1.0, 1.0, 1.0]} | change
    with pytest.raises(ReferenceDataError, match=message):
        StandardSpectrum("bad", **{name: np.array(values) for name, values in columns.items()})


@pytest.mark.parametrize(
    ("wave", "pce", "message"),
    [
        ([1.0, 2.0, 3.0], [0.0, 1.5, 0.0], "0 to 1"),
        ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], "0 to 1"),
        ([1.0, 3.0, 2.0], [0.0, 0.5, 0.0], "increase"),
        ([1.0, 2.0, 3.0], [0.0, np.nan, 0.0], "finite"),
        ([1.0, 2.0, 3.0], [0.0, 0.5], "one length"),
    ],
)
def test_a_throughput_is_checked(wave, pce, message):
    with pytest.raises(ReferenceDataError, match=message):
        electron_rate_of_unit_fnu(wave, pce)


def test_sizes_must_be_positive(bell):
    with pytest.raises(ParameterError, match="gain"):
        predicted_photmjsr(*bell, gain=0.0, pixel_solid_angle=1e-13)
    with pytest.raises(ParameterError, match="temperature"):
        blackbody_spectrum("cold", temperature=0.0, v_mag=10.0)


@pytest.mark.parametrize("kind", ["zeros", "unsampled"])
def test_zeros_and_gaps_inside_a_band_are_not_covered(kind):
    wave = np.geomspace(1.5e4, 3e4, 2001)
    flux = 1e-13 * (wave / 2e4) ** -4
    gap = (wave > 1.95e4) & (wave < 2.05e4)
    star = (
        StandardSpectrum("a", wave, np.where(gap, 0.0, flux))
        if kind == "zeros"
        else StandardSpectrum("a", wave[~gap], flux[~gap])
    )
    band = np.array([1.75, 1.8, 2.2, 2.25]), np.array([0.0, 0.5, 0.5, 0.0])
    with pytest.raises(ReferenceDataError, match=r"no values from 1\.9.* to 2\.0.* micron"):
        expected_rate(star, *band)
    one = np.where(np.arange(wave.size) == np.argmin(np.abs(wave - 2e4)), 0.0, flux)
    whole = expected_rate(StandardSpectrum("a", wave, flux), *band).electron_rate
    assert expected_rate(StandardSpectrum("a", wave, one), *band).electron_rate == pytest.approx(whole, rel=1e-6)


# many values off alike, or all beyond some place (2,000), are seen by the jumps at their ends: the first after each
@pytest.mark.parametrize(
    ("factor", "n", "seen"),
    [
        *((10.0, 1, [0]), (1.3, 1, [0]), (0.5, 1, [0]), (1.3, 3, [0, 1, 2, 3]), (2.0, 5, [0, 1, 2, 3, 4, 5])),
        *((0.1, 2, [0, 2]), (0.1, 5, [0, 5]), (1.3, 10, [0, 10]), (0.7, 40, [0, 40]), (1.1, 2000, [0])),
    ],
)
def test_values_that_stand_out_are_found_side_by_side_too(factor, n, seen):
    wave = np.geomspace(8000.0, 50000.0, 2000)
    flux = wave**-4.0 * (1 - 0.3 * np.exp(-0.5 * ((wave - 18751.0) / 60) ** 2))
    band = np.array([1.7, 2.3])
    assert spikes(StandardSpectrum("star", wave, flux), band).size == 0
    odd = flux.copy()
    k = int(np.searchsorted(wave, 20000.0))
    odd[k : k + n] *= factor
    np.testing.assert_allclose(spikes(StandardSpectrum("star", wave, odd), band), wave[k + np.array(seen)] / 1e4)
    # neither is a coarse grid's continuum, nor what lies beyond the band
    coarse = np.geomspace(8000.0, 50000.0, 20)
    black = coarse**-5.0 / np.expm1(1.4388e8 / coarse / 1500)
    assert spikes(StandardSpectrum("star", coarse, black), np.array([0.9, 4.9])).size == 0
    assert spikes(StandardSpectrum("star", wave, odd), np.array([2.5, 3.0])).size == 0
