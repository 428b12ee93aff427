"""Our pre-launch EE against WebbPSF's of 2021, which is not packaged."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from niriss_eestep.flux.total_rate import effective_ee
from niriss_eestep.instrument import CLEARP_FILTERS, PIXEL_SCALE
from niriss_eestep.psf.build import Sampling, build_psfs, psfee_of
from niriss_eestep.psf.pupil import WEBBPSF_PUPIL
from niriss_eestep.reference.stdspec import PACKAGED_THROUGHPUT, load_throughput

WEBBPSF_PIXEL = 0.0656  # [arcsec]
TABLE = Path(__file__).parents[2] / "../shared/reference/webbpsf_ee_2021.ecsv"
#: the model before launch has no prior
SAMPLING = Sampling(n_draws=16)
pytestmark = pytest.mark.skipif(not TABLE.exists(), reason=f"{TABLE} is absent")


def test_prelaunch_ee_agrees_with_webbpsf():
    webbpsf, throughput = Table.read(TABLE), load_throughput(PACKAGED_THROUGHPUT)
    filters = webbpsf.colnames[1:]
    ours = psfee_of(build_psfs(filters, wavefront="prelaunch", throughput=throughput, sampling=SAMPLING), {})
    # WebbPSF 1.0 of 2021 has pixels of 0.0656 arcsec (webbpsf_core.NIRISS), here they are 0.065562; the script that
    # made the table took the mean of an annulus from 20 to 25 pix off
    radius, zoom = np.array(webbpsf["radius"], dtype=float), WEBBPSF_PIXEL / PIXEL_SCALE
    sky = np.array([20.0, 25.0]) * zoom, np.ones(1)
    at = radius * zoom, np.pi * (radius * zoom) ** 2
    ratio = {f: effective_ee(partial(ours.ee, f), *at, *sky) / np.array(webbpsf[f]) for f in filters}
    plateau, core = (radius >= 5) & (radius <= 10), (radius >= 2) & (radius <= 4)
    # the columns behind CLEARP hold one transmission
    behind = [f for f in filters if f in CLEARP_FILTERS]
    transmission = 1 / np.mean([ratio[f][plateau] for f in behind])
    assert transmission == pytest.approx(WEBBPSF_PUPIL.clearp_transmission(), abs=0.005)
    difference = np.array([ratio[f] * (transmission if f in behind else 1) - 1 for f in filters])
    assert np.abs(difference[:, plateau]).max() < 5e-3
    assert np.abs(difference[:, core]).max() < 2e-2
