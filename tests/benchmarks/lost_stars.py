"""Exposures whose coordinates point where the star is not, through strun: python tests/benchmarks/lost_stars.py DIR.

Each case is a visit of two dithers in F200W, simulated into DIR; the table has the group's ratio and status, with the
star's spectrum and without.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from niriss_eestep.instrument import GAIN
from niriss_eestep.products.models import AbsFluxModel
from niriss_eestep.reference import load_psf_images

RATE = 25402.0  # of the simulated star [e-/s]

#: array, offset of TARG_RA and TARG_DEC [pix], (offset in x [pix], times the star's light) of a second star, share of
#: the star that the image has, V magnitude
CASES = {
    "right": ("SUB256", (0, 0), None, 1),
    "20 pix": ("SUB256", (16, 12), None, 1),
    "60 pix": ("SUB256", (-36, 48), None, 1),
    "100 pix": ("SUB256", (80, -60), None, 1),
    "140 pix, off the array": ("SUB256", (140, 0), None, 1),
    "140 pix, FULL": ("FULL", (84, -112), None, 1),
    "30 pix, bright star": ("SUB256", (30, 0), None, 1, 12.5),
    "30 pix, 100 times the expected": ("SUB256", (30, 0), None, 100),
    "3 times brighter at 23 pix": ("SUB256", (23, 0), (23, 3.0), 1),
    "20 pix, star not in the image": ("SUB256", (16, 12), None, 0),
}


def change(path, offset, second, share, psf):
    """Move the target's coordinates, add a second star, scale the star."""
    with fits.open(path, mode="update") as hdus:
        wcs = WCS(hdus["SCI"].header)
        x, y = (float(v) for v in wcs.all_world2pix(hdus[0].header["TARG_RA"], hdus[0].header["TARG_DEC"], 0))
        ra, dec = (float(v) for v in wcs.all_pix2world(x + offset[0], y + offset[1], 0))
        hdus[0].header["TARG_RA"], hdus[0].header["TARG_DEC"] = ra, dec
        light = np.zeros(hdus["SCI"].data.shape)
        if second is not None:
            light += second[1] * psf.render(x + second[0], y, light.shape)
        light += (share - 1) * psf.render(x, y, light.shape)
        light *= RATE / GAIN
        time = hdus[0].header["EFFEXPTM"]
        hdus["SCI"].data += light.astype("f4")
        for name in ("ERR", "VAR_POISSON"):
            before = hdus[name].data ** 2 if name == "ERR" else hdus[name].data
            after = np.maximum(before + light / GAIN / time, 1e-6)
            hdus[name].data = (np.sqrt(after) if name == "ERR" else after).astype("f4")


def run(directory, spectrum):
    """Ratio and status of the group, or strun's last word."""
    environment = dict(os.environ, PYSYN_CDBS=str(directory) if spectrum else "/nowhere")
    out = directory / f"out{int(spectrum)}"
    command = ["strun", "niriss_fluxcal", *map(str, directory.glob("*_asn.json")), f"--output_dir={out}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=directory)
    if done.returncode:
        return f"exit {done.returncode}: {(done.stdout + done.stderr).strip().splitlines()[-1]}"
    model = AbsFluxModel(next(out.glob("*_absflux.asdf")))
    row, statuses = model.table[0], sorted({str(status) for status in model.exposures["status"]})
    value = f"{row['ratio']:.4f} +- {row['ratio_err']:.4f}" if spectrum else f"{row['count_rate']:.4g} DN/s"
    return f"{value} {row['status']} | {' | '.join(statuses)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    psf = load_psf_images()["F200W"]
    for number, (label, (array, offset, second, share, *v_mag)) in enumerate(CASES.items()):
        if args.only not in label:
            continue
        directory = (args.directory / str(number)).resolve()
        if not directory.exists():
            simulate = ["niriss-ee", "simulate", str(directory), "--filters=F200W", f"--subarrays={array}"]
            simulate += [f"--v-mag={value}" for value in v_mag]
            subprocess.run([*simulate, "--seed=3", "--no-progress"], check=True, stdout=subprocess.DEVNULL)
            for path in directory.glob("*_rate.fits"):
                change(path, offset, second, share, psf)
        for spectrum in (True, False):
            print(f"{label}, {'with' if spectrum else 'without'} spectrum: {run(directory, spectrum)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
