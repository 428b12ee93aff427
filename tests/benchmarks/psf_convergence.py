"""How much the numerical settings of the PSF matter: each step halved, one after the other.

    python tests/benchmarks/psf_convergence.py

Prints the largest change of the encircled energy within 25 and 60 pix, for two of the wavefronts. Some minutes.
"""

from dataclasses import replace

import numpy as np

from niriss_eestep.psf import pupil
from niriss_eestep.psf.build import Sampling, build_filter, photon_flux
from niriss_eestep.psf.wavefront import INFLIGHT
from niriss_eestep.reference.stdspec import PACKAGED_THROUGHPUT, load_throughput

FILTERS = ("F090W", "F140M", "F200W", "F277W", "F480M")
STANDARD = Sampling(n_realisations=2)


def tables(sampling):
    """Radii, and EE of the filters."""
    throughput = load_throughput(PACKAGED_THROUGHPUT)
    psfs = []
    for name in FILTERS:
        wavelength, pce = throughput.curve(name)
        psfs.append(build_filter(name, wavelength, pce * photon_flux(wavelength), INFLIGHT, sampling=sampling))
    return psfs[0].radius, np.array([psf.ee for psf in psfs])


def main():
    """Print the changes."""
    radius, standard = tables(STANDARD)
    print(f"{'step halved':24}{'filters':>8}{'to 25 pix':>12}{'to 60 pix':>12}")

    def compare(what, sampling):
        _, found = tables(sampling)
        change = np.abs(found - standard)
        for k, name in enumerate(FILTERS):
            print(f"{what:24}{name:>8}{change[k, radius <= 25].max():12.1e}{change[k].max():12.1e}")

    compare("pupil pixels", replace(STANDARD, n_pupil=2 * STANDARD.n_pupil))
    compare("wavelengths", replace(STANDARD, n_wavelengths=2 * STANDARD.n_wavelengths))
    compare("field", replace(STANDARD, half_size=2 * STANDARD.half_size))
    # what is drawn is kept: forget it
    pupil._FINE_PIXELS *= 2
    pupil._sampled.cache_clear()
    compare("drawing of the pupil", STANDARD)


if __name__ == "__main__":
    main()
