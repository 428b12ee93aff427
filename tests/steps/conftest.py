"""Simulated exposures, and small references for the steps of the standard pipeline."""

import shutil

import numpy as np
import pytest
from astropy import units as u
from astropy.modeling import models
from stdatamodels.jwst import datamodels

from niriss_eestep.instrument import FILTERS, PIXEL_SOLID_ANGLE
from niriss_eestep.simulate.detector import SUBARRAYS

X_SCALE, Y_SCALE = 0.06539297, 0.06588855  # SIAF, NIS_CEN [arcsec/pix]
V3_ANGLE = np.deg2rad(0.56987018)  # SIAF, NIS_CEN
SR_TO_ARCSEC2 = (180 * 3600 / np.pi) ** 2


@pytest.fixture(autouse=True)
def no_crds(monkeypatch):
    """Neither server nor cache, whatever the machine has."""
    for name in ("CRDS_SERVER_URL", "CRDS_PATH", "CRDS_CONTEXT", "NIRISS_EESTEP_PARS", "NIS_SYNPHOT", "PYSYN_CDBS"):
        monkeypatch.delenv(name, raising=False)


def _describe(model, reftype):
    """Fill in what the standard steps ask of a reference."""
    model.meta.description, model.meta.author, model.meta.pedigree = f"{reftype} of the tests", "tests", "DUMMY"
    model.meta.useafter = "2022-01-01T00:00:00"
    model.meta.instrument.name = "NIRISS"
    model.meta.reftype = reftype
    return model


def write_distortion(path, subarray):
    """Linear distortion about a subarray's reference point, with NIRISS's scales, parity and angle."""
    centre = subarray.start - 1 + subarray.centre
    cos, sin = np.cos(V3_ANGLE), np.sin(V3_ANGLE)
    # from the ideal frame, whose x runs against V2, to the telescope's
    matrix = np.array([[-cos * X_SCALE, sin * Y_SCALE], [sin * X_SCALE, cos * Y_SCALE]])
    transform = (
        models.Shift(-centre) & models.Shift(-centre)
        | models.AffineTransformation2D(matrix=matrix)
        | models.Shift(subarray.v2) & models.Shift(subarray.v3)
    )
    model = _describe(
        datamodels.DistortionModel(model=transform, input_units=u.pix, output_units=u.arcsec), "distortion"
    )
    model.meta.instrument.detector = "NIS"
    model.meta.exposure.type, model.meta.exposure.p_exptype = "NIS_IMAGE", "NIS_IMAGE|"
    model.save(path)


def write_filteroffset(path):
    """No offset between the filters."""
    model = _describe(datamodels.FilteroffsetModel(), "filteroffset")
    model.meta.instrument.detector = "NIS"
    model.filters = [
        {"filter": f.header_filter, "pupil": f.header_pupil, "column_offset": 0.0, "row_offset": 0.0}
        for f in FILTERS.values()
    ]
    model.save(path)


def write_flat(path, subarray, data=None, err=0.0):
    """Flat field of a subarray; 1 everywhere by default."""
    data = np.ones(subarray.shape, np.float32) if data is None else np.asarray(data, np.float32)
    model = _describe(datamodels.FlatModel(data=data), "flat")
    model.err = np.full(data.shape, err, np.float32)
    model.dq = np.zeros(data.shape, np.uint32)
    _place(model, subarray)
    model.save(path)


def write_photom(path):
    """PHOTMJSR of every imaging filter."""
    rows = [(f.header_filter, f.header_pupil, f.photmjsr, 0.01 * f.photmjsr) for f in FILTERS.values()]
    dtype = [("filter", "S12"), ("pupil", "S12"), ("photmjsr", "<f4"), ("uncertainty", "<f4")]
    model = _describe(datamodels.NisImgPhotomModel(phot_table=np.array(rows, dtype)), "photom")
    model.meta.photometry.pixelarea_steradians = PIXEL_SOLID_ANGLE
    model.meta.photometry.pixelarea_arcsecsq = PIXEL_SOLID_ANGLE * SR_TO_ARCSEC2
    model.save(path)


def write_area(path):
    """Pixel area map of the whole detector, 1 everywhere."""
    model = _describe(datamodels.PixelAreaModel(data=np.ones((2048, 2048), np.float32)), "area")
    model.meta.photometry.pixelarea_steradians = PIXEL_SOLID_ANGLE
    model.meta.photometry.pixelarea_arcsecsq = PIXEL_SOLID_ANGLE * SR_TO_ARCSEC2
    model.save(path)


def _place(model, subarray):
    model.meta.instrument.detector = "NIS"
    region = model.meta.subarray
    region.name, region.fastaxis, region.slowaxis = subarray.name, -2, -1
    region.xstart = region.ystart = subarray.start
    region.xsize = region.ysize = subarray.size


@pytest.fixture(scope="session")
def image2_steps(tmp_path_factory):
    """Function that gives the ``steps`` of an Image2Pipeline with every reference overridden."""
    directory = tmp_path_factory.mktemp("references")

    def make(subarray_name="SUB64", flat=None, flat_err=0.0):
        subarray = SUBARRAYS[subarray_name]
        paths = {name: str(directory / f"{name}.fits") for name in ("photom", "area")}
        paths |= {name: str(directory / f"{name}_{subarray_name}.asdf") for name in ("distortion", "filteroffset")}
        paths["flat"] = str(directory / f"flat_{subarray_name}_{0 if flat is None else abs(hash(flat.tobytes()))}.fits")
        write_distortion(paths["distortion"], subarray)
        write_filteroffset(paths["filteroffset"])
        write_flat(paths["flat"], subarray, flat, flat_err)
        write_photom(paths["photom"])
        write_area(paths["area"])
        none = ("specwcs", "regions", "wavelengthrange", "camera", "chromcorr", "collimator", "disperser", "fore")
        none += ("fpa", "msa", "ote", "ifupost", "ifufore", "ifuslicer")
        return {
            "bkg_subtract": {f"override_{name}": "N/A" for name in ("bkg", "wavelengthrange")},
            "assign_wcs": {f"override_{name}": paths[name] for name in ("distortion", "filteroffset")}
            | {f"override_{name}": "N/A" for name in none},
            "flat_field": {"override_flat": paths["flat"]}
            | {f"override_{name}": "N/A" for name in ("fflat", "sflat", "dflat")},
            "photom": {"override_photom": paths["photom"], "override_area": paths["area"]},
            "resample": {"skip": True},
        }

    return make


@pytest.fixture
def offline_crds(tmp_path, monkeypatch):
    """A CRDS cache that knows its context's name and holds nothing: enough where every reference is overridden."""
    config = tmp_path / "crds" / "config" / "jwst"
    config.mkdir(parents=True)
    server = {
        "observatory": "jwst",
        "operational_context": "jwst_0001.pmap",
        "bad_files_list": [],
        "force_remote_mode": False,
        "last_synced": "2024-01-01",
    }
    (config / "server_config").write_text(repr(server))
    monkeypatch.setenv("CRDS_PATH", str(tmp_path / "crds"))
    monkeypatch.setenv("CRDS_CONTEXT", "jwst_0001.pmap")
    monkeypatch.setenv("STPIPE_DISABLE_CRDS_STEPPARS", "true")
    return tmp_path / "crds"


@pytest.fixture
def crds_cache(tmp_path, monkeypatch):
    """Function that builds a CRDS cache of given references, with mappings and no server, and points CRDS to it.

    It takes, for each reference type, paths by science filter; ``ANY`` stands for all filters.
    """
    from crds.core import config, utils
    from crds.core.rmap import Mapping

    root = tmp_path / "crds_cache"

    def forget():
        utils.clear_function_caches()
        # where crds remembers how a cache's directories are laid out
        config.CRDS_REF_SUBDIR_MODE = None

    def write_mapping(name, header, selector):
        path = root / "mappings" / "jwst" / name
        header = {"observatory": "JWST", "name": name, "derived_from": "tests", "sha1sum": ""} | header
        path.write_text(f"header = {header!r}\n\nselector = {selector}\n")
        Mapping.from_file(str(path), ignore_checksum=True).rewrite_checksum(str(path))

    def write_rmap(reftype, by_filter):
        matches = {}
        for name, path in by_filter.items():
            key = ("N/A", "N/A") if name == "ANY" else (FILTERS[name].header_filter, FILTERS[name].header_pupil)
            shutil.copy(path, root / "references" / "jwst" / "niriss" / path.name)
            matches[key] = path.name
        entries = ", ".join(f"{key!r}: UseAfter({{'2020-01-01 00:00:00': {name!r}}})" for key, name in matches.items())
        header = {
            "mapping": "REFERENCE",
            "instrument": "NIRISS",
            "filekind": reftype.upper(),
            "classes": ("Match", "UseAfter"),
            "parkey": (
                ("META.INSTRUMENT.FILTER", "META.INSTRUMENT.PUPIL"),
                ("META.OBSERVATION.DATE", "META.OBSERVATION.TIME"),
            ),
            "reffile_format": "ANY",
            "reffile_required": "NONE",
            "rmap_relevance": "ALWAYS",
            "suffix": reftype,
            "text_descr": reftype,
        }
        name = f"jwst_niriss_{reftype}_0001.rmap"
        write_mapping(name, header, f"Match({{{entries}}})")
        return name

    def build(references):
        for name in ("config/jwst", "mappings/jwst", "references/jwst/niriss"):
            (root / name).mkdir(parents=True)
        server = {
            "observatory": "jwst",
            "operational_context": "jwst_0001.pmap",
            "bad_files_list": [],
            "force_remote_mode": False,
            "last_synced": "2024-01-01",
        }
        (root / "config" / "jwst" / "server_config").write_text(repr(server))
        (root / "config" / "jwst" / "ref_cache_subdir_mode").write_text("instrument")
        rmaps = {reftype: write_rmap(reftype, by_filter) for reftype, by_filter in references.items()}
        imap = {"mapping": "INSTRUMENT", "instrument": "NIRISS", "parkey": ("REFTYPE",)}
        write_mapping("jwst_niriss_0001.imap", imap, repr(rmaps))
        pmap = {"mapping": "PIPELINE", "parkey": ("META.INSTRUMENT.NAME",)}
        write_mapping("jwst_0001.pmap", pmap, repr({"NIRISS": "jwst_niriss_0001.imap"}))
        monkeypatch.setenv("CRDS_PATH", str(root))
        monkeypatch.setenv("CRDS_CONTEXT", "jwst_0001.pmap")
        forget()
        return root

    yield build
    forget()


@pytest.fixture
def write_pars(tmp_path):
    """Function that writes a parameter reference file."""
    import asdf

    def write(step, name, parameters, *, directory=None, steps=(), **meta):
        tree = {"class": f"niriss_eestep.steps.{step}", "name": step, "parameters": parameters, "steps": list(steps)}
        tree["meta"] = {"reftype": f"pars-{step.lower()}", "instrument": {"name": "NIRISS"}} | meta
        path = (directory or tmp_path) / name
        asdf.AsdfFile(tree).write_to(path)
        return path

    return write
