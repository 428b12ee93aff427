"""What real headers, variances and spectra do: python tests/benchmarks/real_files.py [--before PYTHON].

Simulated exposures of one star (two dithers, F200W in SUB128, ratio 1) are changed as files from the archive have been
found to be, and calibrated by this version and by the one that another Python has.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits

SUBARRAY = "SUB128"


def every(change):
    """Make a case of a change to each exposure's file."""

    def run(folder):
        for path in sorted(folder.glob("jw*.fits")):
            with fits.open(path) as hdus:
                change(hdus)
                hdus.writeto(path, overwrite=True)

    return run


def pc_in_degrees(hdus):
    header = hdus["SCI"].header
    for key in ("PC1_1", "PC1_2", "PC2_1", "PC2_2"):
        header[key] *= header[f"CDELT{key[2]}"]
    header["CDELT1"] = header["CDELT2"] = 1.0


def cd(hdus):
    pc_in_degrees(hdus)
    header = hdus["SCI"].header
    for key in ("PC1_1", "PC1_2", "PC2_1", "PC2_2"):
        header[key.replace("PC", "CD")] = header.pop(key)
    del header["CDELT1"], header["CDELT2"]


def cut_out(hdus):
    for hdu in hdus[1:]:
        if hdu.name != "ASDF":
            hdu.data = hdu.data[20:, 20:]
    hdus["SCI"].header["CRPIX1"] -= 20
    hdus["SCI"].header["CRPIX2"] -= 20


def sip(hdus):
    from astropy.wcs import WCS

    header = hdus["SCI"].header
    star = WCS(header, naxis=2).all_world2pix(hdus[0].header["TARG_RA"], hdus[0].header["TARG_DEC"], 0)
    header["CRPIX1"], header["CRPIX2"] = float(star[0]) - 900, float(star[1]) + 700
    header["CTYPE1"], header["CTYPE2"], header["A_ORDER"], header["B_ORDER"] = "RA---TAN-SIP", "DEC--TAN-SIP", 2, 2
    header["A_2_0"], header["B_0_2"] = 1e-5, -1e-5
    there = WCS(header, naxis=2).all_pix2world(*star, 0)
    hdus[0].header["TARG_RA"], hdus[0].header["TARG_DEC"] = map(float, there)


def keyword(name, value, extension=0):
    """Make a case of one keyword; a function is applied to its value."""

    def change(hdus):
        header = hdus[extension].header
        header[name] = value(header[name]) if callable(value) else value

    return every(change)


def sci_alone(hdus):
    for hdu in hdus[2:]:
        del hdus[hdu.name]


def variances(factor):
    def change(hdus):
        for name in ("VAR_POISSON", "VAR_RNOISE"):
            hdus[name].data *= factor
        hdus["ERR"].data *= factor**0.5

    return every(change)


def absurd(hdus):
    hdus["VAR_POISSON"].data[::7, 20::31] = 2041.0**2


def no_photons(hdus):
    hdus["VAR_POISSON"].data[:] = 0
    hdus["ERR"].data[:] = np.sqrt(hdus["VAR_RNOISE"].data)


def without_set_up(folder):
    path = sorted(folder.glob("jw*.fits"))[1]
    with fits.open(path) as hdus:
        for key in ("FILTER", "PUPIL", "SUBARRAY"):
            del hdus[0].header[key]
        hdus.writeto(path, overwrite=True)


def truncated(folder):
    path = sorted(folder.glob("jw*.fits"))[1]
    path.write_bytes(path.read_bytes()[:20000])


def response(divide):
    """Make a case of pixels whose response scatters by 2.5 %, with or without the flat that says so."""

    def run(folder):
        flat = np.random.default_rng(7).normal(1, 0.025, (128, 128)).astype("f4")

        def change(hdus):
            for name, power in (("SCI", 1), ("ERR", 1), ("VAR_POISSON", 2), ("VAR_RNOISE", 2)):
                hdus[name].data = hdus[name].data * flat**power

        every(change)(folder)
        header = fits.getheader(next(folder.glob("jw*.fits")))
        primary = fits.PrimaryHDU()
        primary.header.update({key: header[key] for key in ("SUBSTRT1", "SUBSTRT2", "SUBSIZE1", "SUBSIZE2")})
        primary.header.update(TELESCOP="JWST", INSTRUME="NIRISS", REFTYPE="FLAT")
        if divide:
            fits.HDUList([primary, fits.ImageHDU(flat, name="SCI")]).writeto(folder / "response_flat.fits")

    return run


def spectrum(change, *, unit=None):
    """Make a case of another spectrum of the star: ``change`` takes wavelength [Angstrom] and flux."""

    def run(folder):
        path = next((folder / "calspec").iterdir())
        with fits.open(path) as hdus:
            wave, flux = change(*(np.array(hdus[1].data[name], float) for name in ("WAVELENGTH", "FLUX")))
        cells = f"{wave.shape[1]}D" if wave.ndim == 2 else "D"
        columns = [
            fits.Column("WAVELENGTH", cells, unit="ANGSTROMS", array=wave),
            fits.Column("FLUX", cells, unit=unit or "FLAM", array=flux),
        ]
        primary = fits.PrimaryHDU()
        primary.header["TARGETID"] = "WD1057+719"
        hdus = fits.HDUList([primary, fits.BinTableHDU.from_columns(columns)])
        hdus.writeto(path if unit != "beside" else path.with_name("wd1057_719_stiswfcnic_001.fits"), overwrite=True)

    return run


def zeros(wave, flux):
    return wave, np.where((wave > 1.9e4) & (wave < 2.0e4), 0, flux)


def gap(wave, flux):
    keep = (wave < 1.9e4) | (wave > 2.05e4)
    return wave[keep], flux[keep]


def spike(wave, flux):
    flux[np.argmin(abs(wave - 2e4))] *= 10
    return wave, flux


def short(folder):
    path = next((folder / "calspec").iterdir())
    shutil.copy(path, folder / "whole.fits")
    spectrum(lambda w, f: (w[w < 2.1e4], f[w < 2.1e4]))(folder)
    path.rename(path.with_name("wd1057_719_stiswfcnic_001.fits"))
    (folder / "whole.fits").rename(path)


#: name, kind of exposure, change
CASES = (
    ("as simulated", "rate", lambda folder: None),
    ("PC in degrees, CDELT 1", "rate", every(pc_in_degrees)),
    ("CD matrix", "rate", every(cd)),
    ("SIP of 8 pix, no gwcs", "rate", every(sip)),
    ("cut-out with the gwcs of the whole", "cal", every(cut_out)),
    ("`_cal`, PIXAR_SR x 4", "cal", keyword("PIXAR_SR", lambda area: 4 * area, "SCI")),
    ("`_rate` of twice the pixel scale", "rate", keyword("CDELT1", lambda step: 4 * step, "SCI")),
    ("response scatters by 2.5 %", "rate", response(divide=False)),
    ("... divided by `override_flat`", "rate", response(divide=True)),
    ("EXP_TYPE NIS_EXTCAL", "rate", keyword("EXP_TYPE", "NIS_EXTCAL")),
    ("SCI alone, cube", "rateints", every(sci_alone)),
    ("one header without FILTER, PUPIL, SUBARRAY", "rate", without_set_up),
    ("zeros in the band", "rate", spectrum(zeros)),
    ("unsampled gap in the band", "rate", spectrum(gap)),
    ("one FLUX x 10", "rate", spectrum(spike)),
    ("cells that are arrays", "rate", spectrum(lambda wave, flux: (wave[None], flux[None]))),
    ("`W m-2 um-1`", "rate", spectrum(lambda wave, flux: (wave, 10 * flux), unit="W m-2 um-1")),
    ("file to 2.1 micron beside one that covers", "rate", short),
    ("VAR_POISSON 2041^2 in 95 pixels", "rate", every(absurd)),
    ("variances x 9", "rate", variances(9.0)),
    ("variances / 9", "rate", variances(1 / 9)),
    ("VAR_POISSON zero, ERR without photons", "rate", every(no_photons)),
    ("one of two files truncated", "rate", truncated),
)

RUN = """
import json, logging, os, sys
from pathlib import Path
logging.disable(logging.CRITICAL)
from niriss_eestep.steps import FluxCalPipeline
found = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    os.environ["PYSYN_CDBS"] = str(folder)
    paths, flat = sorted(map(str, folder.glob("jw*.fits"))), folder / "response_flat.fits"
    steps = {name: {"override_flat": str(flat)} if flat.is_file() else {} for name in ("ee_photometry", "sb_profile")}
    try:
        product = FluxCalPipeline.call(paths, steps=steps, configure_log=False)
        rows = product.table
        said = [str(rows["status"][0]), *(str(e) for e in product.exposures["status"])]
        said = "; ".join(dict.fromkeys(part for text in said for part in text.split("; ")))
        found[folder.name] = [len(rows), float(rows["ratio"][0]), float(rows["ratio_err"][0]), said]
    except Exception as error:
        found[folder.name] = [0, 0, 0, f"{type(error).__name__}: {error}"]
print("RESULT " + json.dumps(found))
"""


def make(where):
    """Write the files of all cases."""
    kinds = {"rate": [], "cal": ["--cal"], "rateints": ["--rateints"]}
    bin_dir = Path(sys.executable).parent
    for kind, options in kinds.items():
        folder = where / "plain" / kind
        arguments = ["--filters", "F200W", "--subarrays", SUBARRAY, "--no-progress", *options]
        subprocess.run([bin_dir / "niriss-ee", "simulate", folder, *arguments], check=True, capture_output=True)
        if kind == "rateints":
            for path in folder.glob("*_rate.fits"):
                path.unlink()
    for k, (_, kind, change) in enumerate(CASES):
        folder = where / "cases" / f"{k:02d}"
        shutil.copytree(where / "plain" / kind, folder)
        change(folder)


def measured(python, where):
    """Outcome of each case by the version that a Python has."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CRDS", "PYTHONPATH"))}
    done = subprocess.run(
        [python, "-c", RUN, where / "cases"], cwd=where, env=environment, capture_output=True, text=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(lines[-1].removeprefix("RESULT "))


def outcome(n_rows, ratio, err, status):
    """One cell of the table."""
    value = f"{ratio:.4f} +- {err:.4f}" if n_rows and ratio == ratio else "no ratio"
    rows = f", {n_rows} groups" if n_rows > 1 else ""
    return f"{value}{rows}: {status[:160]}".replace("|", "/")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", help="the Python of another version")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory)
        make(where)
        columns = [measured(python, where) for python in (args.before, sys.executable) if python]
    print("| case |" + (" before |" if args.before else "") + " now |")
    print("|---" * (1 + len(columns)) + "|")
    for k, (name, _, _) in enumerate(CASES):
        print(f"| {name} | " + " | ".join(outcome(*found[f"{k:02d}"]) for found in columns) + " |")


if __name__ == "__main__":
    main()
