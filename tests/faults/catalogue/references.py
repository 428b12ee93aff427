"""References of the wrong kind."""

import asdf
import numpy as np
from astropy.table import Table

from . import fault

SECTION = "references"


def _override(what, kind, make):
    @fault(SECTION, f"{kind}: {what}")
    def _(lab):
        path = lab.folder / f"{kind}.asdf"
        path = make(path) or path
        step = "ee_photometry" if kind in ("gain", "psfimages") else "abs_flux"
        parameters = {f"override_{kind}": str(path)}
        if kind == "psfimages":
            parameters["repair_core"] = True
        return lab.absflux_status(steps={step: parameters})


def _text(path):
    path.write_text("not a reference\n")


def _empty_asdf(path):
    asdf.AsdfFile({"meta": {}}).write_to(path)


def _image(path):
    from astropy.io import fits

    path = path.with_suffix(".fits")
    fits.PrimaryHDU(np.ones((10, 10))).writeto(path)
    return path


def _other_columns(path):
    path = path.with_suffix(".ecsv")
    Table({"a": [1.0, 2.0], "b": [3.0, 4.0]}).write(path)
    return path


for _kind in ("psfee", "throughput", "stdspec", "gain", "psfimages"):
    _override("does not exist", _kind, lambda path: None)
    _override("text", _kind, _text)
    _override("an ASDF file of another kind", _kind, _empty_asdf)
    _override("a FITS image of another kind", _kind, _image)
_override("a table of other columns", "psfee", _other_columns)


@fault(SECTION, "psfee: lacks the filter")
def _(lab):
    path = lab.folder / "psfee.ecsv"
    Table({"radius": [0.0, 5, 10, 50], "F090W": [0.0, 0.8, 0.9, 1.0]}).write(path)
    return lab.absflux_status(steps={"abs_flux": {"override_psfee": str(path)}})


@fault(SECTION, "psfee: ends within the sky annulus")
def _(lab):
    path = lab.folder / "psfee.ecsv"
    Table({"radius": [0.0, 5, 10, 12], "F200W": [0.0, 0.8, 0.9, 0.92]}).write(path)
    return lab.absflux_status(steps={"abs_flux": {"override_psfee": str(path)}})


@fault(SECTION, "stdspec: no spectrum of the star")
def _(lab):
    return lab.absflux_status(lab.header(TARGPROP="NO SUCH STAR", TARGNAME="NO SUCH STAR"))
