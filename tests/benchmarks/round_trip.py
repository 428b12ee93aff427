"""From simulated exposures to reference files, and back through the standard pipeline: README's round-trip table.

    python tests/benchmarks/round_trip.py [DIR]

Simulates 12 filters x 4 dithers in DIR (by default round_trip), calibrates them by `strun niriss_fluxcal` and
`niriss-ee calibrate`, and takes each exposure through jwst's PhotomStep with our photom file and its SourceCatalogStep
with our apcorr file. Prints the catalogue's total flux density over the star's, less 1. The steps are called by
`process`: `run` asks CRDS for its context.
"""

import argparse
import logging
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS
from running import BIN, run, simulate

APERTURES = (80, 70)


def calibrate(directory):
    """Make the reference files."""
    program, products, files = directory / "program", directory / "products", directory / "files"
    simulate(program.resolve(), "--subarrays", "SUB128", "--dithers", "4", "--electrons", "1e8")
    (association,) = program.glob("*_asn.json")
    options = [f"--output_dir={products.resolve()}", "--skip_existing=true"]
    run(
        BIN / "strun",
        "niriss_fluxcal",
        association.resolve(),
        *options,
        cwd=directory,
        PYSYN_CDBS=str(program.resolve()),
    )
    (absflux,) = products.glob("*_absflux.asdf")
    run(BIN / "niriss-ee", "calibrate", absflux.resolve(), "--output-dir", files.resolve(), cwd=directory)
    return program, files


def keyword_wcs(info):
    """gwcs of an exposure, from its keywords."""
    from niriss_eestep.simulate.exposure import _gwcs

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    for key in ("crpix", "crval", "cdelt"):
        setattr(wcs.wcs, key, [getattr(info, f"{key}1"), getattr(info, f"{key}2")])
    wcs.wcs.pc = [[info.pc1_1, info.pc1_2], [info.pc2_1, info.pc2_2]]
    return _gwcs(wcs, (128, 128))


def catalogue_flux(path, files, aperture):
    """Filter of an exposure, and the star's total flux density [Jy] in jwst's catalogue of it."""
    from jwst.photom import PhotomStep
    from jwst.source_catalog import SourceCatalogStep
    from stdatamodels.jwst import datamodels

    with datamodels.open(path) as rate:
        calibrated = PhotomStep(override_photom=str(files / "niriss_photom.fits"), override_area="N/A").process(rate)
        wheels = rate.meta.instrument.filter, rate.meta.instrument.pupil
        image = datamodels.ImageModel(data=np.nan_to_num(calibrated.data), err=np.nan_to_num(calibrated.err))
        image.update(calibrated)
        image.wht = np.ones_like(image.data)
        image.meta.wcs, image.meta.resample.pixel_scale_ratio = keyword_wcs(calibrated.meta.wcsinfo), 1.0
    offsets = files / "offsets.asdf"
    with datamodels.ABVegaOffsetModel() as model:
        model.abvega_offset = Table([[wheels[0]], [wheels[1]], [0.0]], names=("filter", "pupil", "abvega_offset"))
        model.save(offsets)
    step = SourceCatalogStep(override_apcorr=str(files / "niriss_apcorr.fits"), override_abvegaoffset=str(offsets))
    step.aperture_ee3, step.snr_threshold = aperture, 20.0
    catalogue = step.process(image)
    name = wheels[1] if wheels[0] == "CLEAR" else wheels[0]
    return name, max(flux.to_value("Jy") for flux in catalogue["aper_total_flux"])


def main():
    """Run the round trip and print its table."""
    from niriss_eestep.flux.synthetic import expected_rate
    from niriss_eestep.reference import load_spectrum, load_throughput

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, nargs="?", default=Path("round_trip"))
    directory = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    program, files = calibrate(directory)
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    (spectrum,) = (program / "calspec").glob("*.fits")
    star, throughput = load_spectrum(spectrum), load_throughput()
    found = defaultdict(lambda: defaultdict(list))
    for path in sorted(program.glob("*_rate.fits")):
        for aperture in APERTURES:
            name, flux = catalogue_flux(path, files, aperture)
            found[name][aperture].append(flux / expected_rate(star, *throughput.curve(name)).fnu_band - 1)
    print("| filter |" + "".join(f" {a} % aperture, mean | largest of 4 |" for a in APERTURES))
    print("|---|" + "---|---|" * len(APERTURES))
    for name, by_aperture in found.items():
        cells = (f" {100 * np.mean(v):+.2f} % | {100 * np.abs(v).max():.2f} % |" for v in by_aperture.values())
        print(f"| {name} |" + "".join(cells))


if __name__ == "__main__":
    main()
