"""Our diffraction and our CLEARP element against STPSF's own code, given the same pupil and wavefront.

    pip install ".[stpsf]" && python tests/benchmarks/against_stpsf.py

STPSF's data (gigabytes) are not needed: a directory is made with what its NIRISS model reads, that is our pupil, one of
our pre-launch wavefronts and the packaged throughputs. STPSF draws the CLEARP element itself, and propagates by poppy.
"""

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from niriss_eestep.instrument import CLEARP_FILTERS
from niriss_eestep.psf import diffraction
from niriss_eestep.psf.diffraction import detected_spectrum
from niriss_eestep.psf.pupil import CIRCUMSCRIBED_DIAMETER, SEGMENT_CENTRES, WEBBPSF_PUPIL, pixel_centres
from niriss_eestep.psf.stpsf import read_psf_image
from niriss_eestep.psf.wavefront import PRELAUNCH
from niriss_eestep.reference import load_psfee, load_throughput

N_PUPIL = 1024
RADII = np.array([1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 40.0])
WAVELENGTHS = {"F090W": 0.90e-6, "F200W": 2.00e-6, "F277W": 2.77e-6, "F444W": 4.40e-6}  # [m]


def write(path, array, **keywords):
    """Write a pupil-plane array as STPSF reads it."""
    scale = {"PUPLSCAL": CIRCUMSCRIBED_DIAMETER / N_PUPIL, "PUPLDIAM": CIRCUMSCRIBED_DIAMETER}
    hdu = fits.PrimaryHDU(array)
    hdu.header.update(scale | keywords)
    hdu.writeto(path)


def make_data(directory, clear, opd):
    """Make the data directory of STPSF: pupil, segments, wavefront, filters."""
    (directory / "NIRISS" / "filters").mkdir(parents=True)
    (directory / "NIRISS" / "OPD").mkdir()
    (directory / "version.txt").write_text("2.2.0")
    write(directory / "jwst_pupil_RevW_npix1024.fits.gz", clear.astype(np.float32))
    x = pixel_centres(N_PUPIL)
    nearest = np.argmin([(x[None, :] - v2) ** 2 + (x[:, None] - v3) ** 2 for v2, v3 in SEGMENT_CENTRES], axis=0)
    segments = np.where(clear, nearest + 1, 0).astype(np.int16)
    write(directory / "JWpupil_segments_RevW_npix1024.fits", segments, VERSION="RevW")
    write(directory / "JWST_OTE_OPD_cycle1_example_2022-07-30.fits", (1e6 * opd).astype(np.float32), BUNIT="micron")
    throughput = load_throughput()
    for name in throughput.filters:
        wavelength, pce = throughput.curve(name)
        table = fits.BinTableHDU(Table({"WAVELENGTH": 1e4 * wavelength, "THROUGHPUT": pce}))
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(directory / "NIRISS" / "filters" / f"{name}_throughput.fits")
    names = list(throughput.filters)
    Table({"filter": names, "nlambda": [9] * len(names)}).write(
        directory / "NIRISS" / "filters.tsv", format="ascii.tab"
    )


def stpsf_image(directory, name, normalize):
    """Monochromatic image by STPSF without detector effects: the path of its file, and the sum of its pixels."""
    import stpsf

    instrument = stpsf.NIRISS()
    instrument.filter = name
    instrument.include_si_wfe = instrument.include_ote_field_dependence = False
    instrument.options |= {"charge_diffusion_sigma": 0, "jitter": None, "add_ipc": False}
    psf = instrument.calc_psf(
        fov_pixels=141,
        oversample=8 if name == "F090W" else 4,
        normalize=normalize,
        monochromatic=WAVELENGTHS[name],
        add_distortion=False,
    )
    path = directory / f"{name}_{normalize}.fits"
    psf.writeto(path, overwrite=True)
    return path, psf[0].data.sum()


def our_ee(name, clear, element, opd):
    """EE of the same pupil and wavefront by our own diffraction."""
    plane = (clear & element if name in CLEARP_FILTERS else clear).astype(float)
    grid = diffraction.ImageGrid.for_wavelength(WAVELENGTHS[name], 66)
    intensity = diffraction.monochromatic_intensity(plane, opd, WAVELENGTHS[name], grid)
    x, y = diffraction.position_of_star(intensity, grid)
    spectrum = diffraction.shifted(detected_spectrum(intensity, grid, blur=0.0, ipc=False), grid, x, y)
    return diffraction.encircled_energy(spectrum[None], grid, RADII)[0]


def main():
    """Print the differences."""
    warnings.simplefilter("ignore")
    # STPSF's pupil pixels are clear or not; ours hold the clear fraction of an edge's pixel
    clear = WEBBPSF_PUPIL.sample(N_PUPIL) > 0.5
    element = WEBBPSF_PUPIL.sample(N_PUPIL, clearp=True) > 0.5
    opd = PRELAUNCH.realise(WEBBPSF_PUPIL, N_PUPIL, 20210)
    diffraction.PIXEL_SCALE = 0.065657  # [arcsec/pix] STPSF 2.2
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        make_data(directory, clear, opd)
        os.environ["STPSF_PATH"] = name
        print("ours / STPSF - 1 [%], by radius [pix]")
        print(f"{'filter':8}" + "".join(f"{r:>8g}" for r in RADII) + "   CLEARP: STPSF's transmission, ours")
        for name in WAVELENGTHS:
            path, light = stpsf_image(directory, name, "exit_pupil")
            _, entering = stpsf_image(directory, name, "first")
            _, radius, ee, _ = read_psf_image(path, load_psfee())
            difference = our_ee(name, clear, element, opd) / np.interp(RADII, radius, ee) - 1
            ours = WEBBPSF_PUPIL.clearp_transmission() if name in CLEARP_FILTERS else 1.0
            print(
                f"{name:8}" + "".join(f"{100 * d:8.3f}" for d in difference) + f"   {entering / light:.4f} {ours:.4f}"
            )


if __name__ == "__main__":
    main()
