import numpy as np
import pytest

from niriss_eestep.errors import ParameterError
from niriss_eestep.psf.build import Sampling, build_filter
from niriss_eestep.psf.wavefront import INFLIGHT, PRELAUNCH

WAVELENGTH = np.linspace(4.6, 5.0, 41)
BAND = np.exp(-0.5 * ((WAVELENGTH - 4.8) / 0.1) ** 2)
QUICK = Sampling(n_pupil=1024, n_wavelengths=3, n_realisations=2, n_draws=4)


@pytest.fixture(scope="module")
def psf():
    return build_filter("F480M", WAVELENGTH, BAND, INFLIGHT, sampling=QUICK)


def test_ee_rises_from_0_towards_1(psf):
    assert psf.ee[0] == 0
    assert np.all(np.diff(psf.ee) > 0)
    assert 0.93 < psf.ee[-1] < 1
    assert np.all(psf.ee_err[1:] > 0)
    assert psf.ee_err.max() < 0.05


def test_wing_falls_as_diffraction_does(psf):
    # 1 - EE falls as 1/r (edges of the pupil); spikes and vanes make it 20 % uneven
    lost = 1 - np.interp([30.0, 60.0], psf.radius, psf.ee)
    assert lost[0] / lost[1] == pytest.approx(2, rel=0.2)


def test_shorter_wavelengths_are_narrower_until_the_wavefront_shows():
    ee = {}
    for micron in (3.6, 4.8):
        wave = WAVELENGTH * micron / 4.8
        ee[micron] = build_filter("F480M", wave, BAND, INFLIGHT, sampling=QUICK)
    assert np.interp(3.0, ee[3.6].radius, ee[3.6].ee) > np.interp(3.0, ee[4.8].radius, ee[4.8].ee)


def test_more_wavelengths_move_no_ee(psf):
    more = build_filter(
        "F480M",
        WAVELENGTH,
        BAND,
        INFLIGHT,
        sampling=Sampling(n_pupil=1024, n_wavelengths=6, n_realisations=2, n_draws=4),
    )
    assert more.ee == pytest.approx(psf.ee, abs=1e-4)


def test_larger_wavefront_error_spreads_the_light(psf):
    worse = build_filter("F480M", WAVELENGTH, BAND, PRELAUNCH, sampling=QUICK)
    at = psf.radius == 10
    assert worse.ee[at] < psf.ee[at]


def test_unknown_filter_is_refused():
    with pytest.raises(ParameterError, match="F480W: no NIRISS imaging filter"):
        build_filter("F480W", WAVELENGTH, BAND, INFLIGHT)
