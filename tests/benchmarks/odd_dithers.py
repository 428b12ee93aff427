"""Groups of which one dither is odd, through strun: python tests/benchmarks/odd_dithers.py DIR.

Each case is a group of F200W in SUB128, simulated into DIR, with its ratio, chi-squared and status.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from astropy.io import fits

from niriss_eestep.instrument import GAIN
from niriss_eestep.products.models import AbsFluxModel
from niriss_eestep.reference import load_psf_images

#: dithers; of the last one the factor of its light, the share of it in a spot at 5 pix, electrons on a pixel at 6.7 pix
CASES = {
    "none odd": (3, 1.0, 0.0, 0),
    "1 of 2 by 10 %": (2, 1.1, 0.0, 0),
    "1 of 3 by 3 %": (3, 1.03, 0.0, 0),
    "1 of 8 by 5 %": (8, 1.05, 0.0, 0),
    "persistence of 0.3 % at 5 pix, 1 of 2": (2, 1.0, 0.003, 0),
    "persistence of 0.3 % at 5 pix, 1 of 4": (4, 1.0, 0.003, 0),
    "hit of 3,000 e-, 1 of 4": (4, 1.0, 0.0, 3000),
}


def make_odd(path, x, y, factor, spot, electrons, psf):
    """Change one exposure's star, whose position is known."""
    with fits.open(path, mode="update") as hdus:
        image, time = hdus["SCI"].data, hdus[0].header["EFFEXPTM"]
        sky = np.nanmedian(image)
        light = np.nansum(np.where(np.hypot(*(np.indices(image.shape) - [[[y]], [[x]]])) < 12, image - sky, 0.0))
        image[:] = sky + factor * (image - sky) + spot * light * psf.render(x + 3.0, y + 4.0, image.shape)
        image[round(y - 4.0), round(x + 5.4)] += electrons / GAIN / time


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    args = parser.parse_args()
    psf = load_psf_images()["F200W"]
    for number, (label, (n, *odd)) in enumerate(CASES.items()):
        directory = (args.directory / str(number)).resolve()
        if not directory.exists():
            simulate = ["niriss-ee", "simulate", str(directory), "--filters=F200W", f"--dithers={n}", "--seed=4"]
            subprocess.run([*simulate, "--no-progress"], check=True, stdout=subprocess.DEVNULL)
            last = sorted(directory.glob("*_rate.fits"))[-1]
            rows = (directory / "truth.ecsv").read_text().splitlines()
            line = next(row for row in rows if row.startswith(last.name.removesuffix("_rate.fits")))
            make_odd(last, *map(float, line.split()[6:8]), *odd, psf)
        (asn,) = directory.glob("*_asn.json")
        command = ["strun", "niriss_fluxcal", str(asn), f"--output_dir={directory / 'out'}"]
        environment = dict(os.environ, PYSYN_CDBS=str(directory))
        subprocess.run(command, check=True, capture_output=True, env=environment)
        model = AbsFluxModel(next((directory / "out").glob("*_absflux.asdf")))
        row = model.table[0]
        told = f"{row['ratio']:.4f} +- {row['ratio_err']:.4f}, chi2/dof {row['chi2_dof']:.1f}: {row['status']}"
        print(f"{label}: {told}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
