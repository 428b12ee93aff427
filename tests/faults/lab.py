"""Where faults are made: a simulated program, its exposures to spoil, and the steps to run on them."""

from __future__ import annotations

import json
import shutil
import warnings
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from catalogue import normal
from stdatamodels.jwst.datamodels import ImageModel

from niriss_eestep.errors import NirissEEError
from niriss_eestep.reference import load_psf_images
from niriss_eestep.simulate.program import Program, simulate_program
from niriss_eestep.steps import EEPhotometryStep, FluxCalPipeline

FILTER = "F200W"
BAD = "jw01094001001_02101_00002_nis_rate.fits"
GOOD = "jw01094001001_02101_00001_nis_rate.fits"


class Source:
    """A program of two exposures without noise, made once."""

    def __init__(self, folder):
        self.folder = folder
        simulate_program(folder, Program(groups=((FILTER, "SUB128"),), noise=False, seed=3, pointing_error=0.1))
        truth = Table.read(folder / "truth.ecsv")
        self.x, self.y, self.rate = (float(truth[name][1]) for name in ("x", "y", "count_rate"))

    @cached_property
    def psf(self):
        return load_psf_images()[FILTER]


class Lab:
    """A folder in which one fault is made.

    Parameters
    ----------
    source : Source
    folder : Path
        Empty.
    """

    def __init__(self, source, folder):
        self.source, self.folder = source, folder
        self.x, self.y = source.x, source.y
        folder.mkdir(exist_ok=True)
        self.out = folder / "out"

    # ---- exposures

    def exposure(self, name=BAD):
        """Copy an exposure."""
        return Path(shutil.copy(self.source.folder / name, self.folder / name))

    def edited(self, edit):
        """Copy an exposure and edit its FITS extensions."""
        path = self.exposure()
        with fits.open(path, mode="update") as hdus:
            edit(hdus)
        return path

    def header(self, **cards):
        """Copy an exposure and set keywords, wherever they are; None deletes one."""

        def edit(hdus):
            for key, value in cards.items():
                hdu = next((h for h in hdus if key in h.header), hdus[0])
                if value is None:
                    del hdu.header[key]
                else:
                    hdu.header[key] = value

        return self.edited(edit)

    def image(self, change):
        """Copy an exposure and change its arrays by ``change(arrays)``, a dict of extension names."""

        def edit(hdus):
            arrays = {h.name: h.data for h in hdus if h.name not in ("PRIMARY", "ASDF")}
            change(arrays)
            for name in [h.name for h in hdus]:
                if name in arrays:
                    hdus[name].data = arrays[name]
                elif name not in ("PRIMARY", "ASDF"):
                    del hdus[name]

        return self.edited(edit)

    def model(self, edit):
        """Copy an exposure and edit it as a data model."""
        path = self.exposure()
        with ImageModel(self.source.folder / BAD) as model:
            edit(model)
            model.save(str(path))
        return path

    def stars(self, *others):
        """Copy an exposure and add stars: (dx, dy, flux relative to the standard's)."""

        def add(arrays):
            for dx, dy, flux in others:
                light = self.source.psf.render(self.x + dx, self.y + dy, arrays["SCI"].shape)
                arrays["SCI"] += (flux * self.source.rate * light).astype("f4")

        return self.image(add)

    def cut(self, i0, j0, i1=None, j1=None):
        """Copy the columns i0 to i1 and rows j0 to j1 of an exposure; the WCS follows."""

        def edit(hdus):
            for hdu in hdus[1:-1]:
                hdu.data = hdu.data[j0:j1, i0:i1]
            for axis, start in ((1, i0), (2, j0)):
                hdus["SCI"].header[f"CRPIX{axis}"] -= start

        return self.edited(edit)

    def shifted(self, dx):
        """Copy an exposure, its WCS off by dx along x."""

        def edit(hdus):
            hdus["SCI"].header["CRPIX1"] += dx

        return self.edited(edit)

    def distance(self, shape=(128, 128)):
        """Distance of each pixel from the star [pix]."""
        jj, ii = np.indices(shape)
        return np.hypot(ii - self.x, jj - self.y)

    # ---- runs

    def association(self, paths, name="jw01094-o001_t001_niriss", file="asn.json"):
        """Write an association."""
        members = [{"expname": str(path), "exptype": "science"} for path in paths]
        asn = {"asn_rule": "x", "asn_pool": "x", "products": [{"name": name, "members": members}]}
        path = self.folder / file
        path.write_text(json.dumps(asn))
        return path

    def measure(self, path, **parameters):
        """Measure one exposure; its status, or the error."""
        return self.told(lambda: EEPhotometryStep.call(str(path), **parameters)._instance["meta"]["ee"]["status"])

    def calibrate(self, inputs, **parameters):
        """Run the pipeline."""
        inputs = str(inputs) if isinstance(inputs, Path) else inputs
        return FluxCalPipeline.call(inputs, output_dir=str(self.out), save_results=True, **parameters)

    def told(self, run):
        """Give what a function returns, or the message of the error that it raises; warnings are errors."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                message = run()
            except NirissEEError as error:
                message = f"{type(error).__name__}: {error}"
        return normal(str(message), self.folder, self.source.folder)

    def absflux_status(self, path=None, **parameters):
        """Run the pipeline on one exposure; the status of its group's row, or the error."""
        path = path or self.exposure()
        return self.told(lambda: self.calibrate(path, **parameters).table["status"][0])

    def command_line(self, step, path, *options):
        """Run a step from its command line's arguments; the error."""
        from stpipe import Step

        try:
            Step.from_cmdline([step, str(path), "--output_dir", str(self.out), *options])
        except (SystemExit, Exception) as error:
            return normal(f"{type(error).__name__}: {error}", self.folder, self.source.folder)
        return "accepted"
