"""Opening exposures, with errors that say what is wrong.

The metadata of an image are read, and its pixels stay in the file until they are used: a full frame takes 84 MB, the
stamp around a star 0.1 MB, and reading whole arrays, as `stdatamodels` does, would take most of the time of a
measurement.
"""

import io
import logging
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import asdf
import numpy as np
from stdatamodels.jwst import datamodels

from niriss_eestep.errors import ExposureError, reading
from niriss_eestep.products.columns import keywords, merged_schema
from niriss_eestep.products.models import open as open_product
from niriss_eestep.reference.guards import ASDF_MAX, FITS_MAX, UNSIGNED_ZERO, check_fits, read_once

log = logging.getLogger(__name__)

#: arrays that a measurement reads, and their extensions
ARRAYS = {
    "data": "SCI", "err": "ERR", "dq": "DQ", "var_poisson": "VAR_POISSON", "var_rnoise": "VAR_RNOISE",
    "var_flat": "VAR_FLAT", "wht": "WHT", "area": "AREA",
}  # fmt: skip

#: what FITS calls a data type (FITS standard 4.0, table 8); unsigned integers are stored less 2**31
BITPIX = {-32: ">f4", -64: ">f8", 32: ">i4"}

#: of so many exposures the headers are read once; their values take 20 kB, and packed 2 kB each
HEADERS_KEPT = 1000

#: a header has at least this many digits of a number (FITS standard 4.0, section 4.2.4, in a card of 80 characters)
HEADER_DIGITS = 1e-12

#: what the schema's types are in Python; a bool is no number
TYPES = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}


def open_exposure(source, max_size=FITS_MAX, *, whole=False):
    """Open an exposure's file as a JWST data model.

    Parameters
    ----------
    source : Path or DataModel
        A model is handed back.
    max_size : float
        Largest exposure that is opened, when unpacked [MB].
    whole : bool
        Read the arrays, so that the model can be changed, copied and saved.

    Returns
    -------
    DataModel

    Raises
    ------
    ExposureError
        If the file is missing or no JWST data model, or a keyword of the set-up is no value of JWST's: stdatamodels
        drops such a value with a warning, and falls back on what the ASDF extension says; an exposure behind an unknown
        filter would be measured as one behind another.
    """
    if not isinstance(source, Path):
        return source
    if source.suffix == ".asdf":
        return open_product(source)
    with reading(source, "JWST exposure", ExposureError), warnings.catch_warnings():
        # a keyword of another version is no reason not to measure; what matters is checked when it is used
        warnings.simplefilter("ignore")
        extensions = exposure_extensions(source, max_size)
        model = None if whole else fits_image(source, extensions)
        if model is None:
            model = datamodels.open(source)
            check_metadata(source, model._instance)
    instrument = model.meta.instrument
    taken = {"INSTRUME": instrument.name, "FILTER": instrument.filter, "PUPIL": instrument.pupil}
    for keyword, value in (taken | {"EXP_TYPE": model.meta.exposure.type}).items():
        said = extensions[0].header.get(keyword)
        if isinstance(said, str) and said.strip() not in ("", value):
            raise ExposureError(
                f"{source.name}: {keyword} is {said.strip()!r}, which is not a value that JWST uses; correct the header"
            )
    return model


@partial(read_once, remembered=HEADERS_KEPT, packed=True)
def exposure_extensions(path, max_size):
    """Extensions of an exposure's file, with what the data model takes from their headers.

    Parameters
    ----------
    path : Path
    max_size : float
        Largest exposure that is opened, when it is unpacked [MB].

    Returns
    -------
    list of Extension
        See `niriss_eestep.reference.guards.check_fits`.

    Raises
    ------
    ExposureError
        Naming the file and what is wrong with it.
    """
    wanted = frozenset(keyword for _, keyword, _ in keywords(datamodels.ImageModel.schema_url))
    what = "FITS image of the JWST pipeline"
    extensions = check_fits(path, what, ExposureError, max_size=max_size, wanted=wanted)
    forms = {extension.name: extension.header.get("BITPIX", 8) for extension in extensions}
    if "SCI" not in forms:
        raise ExposureError(f"{path}: no SCI extension: not an image of the JWST pipeline")
    if forms.get("DQ", 8) < 0:
        raise ExposureError(f"{path}: DQ holds floating-point numbers (BITPIX={forms['DQ']}); flags are integers")
    return extensions


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """An image in a FITS file, of which pieces can be read as from an array.

    Parameters
    ----------
    path : Path
    name : str
        Of the extension.
    offset : int
        Where it begins [bytes].
    shape : (int, int)
        (ny, nx).
    stored : numpy.dtype
    dtype : numpy.dtype
        Of what is read: of unsigned integers half the range is added.
    """

    path: Path
    name: str
    offset: int
    shape: tuple
    stored: np.dtype
    dtype: np.dtype
    ndim = 2

    def __getitem__(self, key):
        """Read ``[...]``, or a rectangle ``[y0:y1, x0:x1]``: whole rows lie one after the other."""
        rows, columns = (slice(None), slice(None)) if key is Ellipsis else key
        first, last, _ = rows.indices(self.shape[0])
        n_rows, row = max(0, last - first), self.shape[1] * self.stored.itemsize
        with self.path.open("rb") as file:
            file.seek(self.offset + first * row)
            data = file.read(n_rows * row)
        if len(data) < n_rows * row:
            raise ExposureError(f"{self.path}: has become shorter while it was read ({self.name})")
        piece = np.frombuffer(data, self.stored).reshape(n_rows, self.shape[1])[:, columns]
        return (
            piece.astype(np.uint32) ^ np.uint32(UNSIGNED_ZERO) if self.dtype.kind == "u" else piece.astype(self.dtype)
        )

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[...], dtype=dtype)


class FitsImage(datamodels.ImageModel):
    """An `ImageModel` for measuring only, from `fits_image`: its arrays are `Pixels`; it cannot be changed or saved."""

    #: by the array's name in the data model
    _pixels = MappingProxyType({})

    def hasattr(self, attr):
        """Tell whether the exposure has an array or metadata of a name."""
        return attr in self._pixels if attr in ARRAYS else super().hasattr(attr)

    def save(self, path, *args, **kwargs):
        """Refuse: this is a view of a file."""
        raise NotImplementedError(f"{path}: an exposure that was opened for measuring is not written")


for _name in ARRAYS:  # the base class looks names up in the metadata only
    setattr(FitsImage, _name, property(lambda self, name=_name: self._pixels.get(name)))


def fits_image(path, extensions):
    """Make the model of an exposure, if it is an image as the pipeline writes them.

    Parameters
    ----------
    path : Path
    extensions : sequence of Extension
        All of the file, PRIMARY first.

    Returns
    -------
    FitsImage or None
        None for anything unusual: a cube, another data model, a scaled array, a compressed file, no ASDF extension.
    """
    by_name, pixels = {extension.name: extension for extension in extensions}, {}
    found = {name: by_name[extension] for name, extension in ARRAYS.items() if extension in by_name}
    if not (
        extensions[0].header.get("DATAMODL") == datamodels.ImageModel.__name__
        and "ASDF" in by_name
        and by_name["ASDF"].length <= ASDF_MAX
        and "data" in found
        and len(by_name) == len(extensions)
        and extensions[0].offset is not None
    ):
        return None
    for name, extension in found.items():
        header, is_dq = extension.header, name == "dq"
        form = [header.get(key) for key in ("XTENSION", "NAXIS", "BITPIX", "BLANK")]
        scaling = header.get("BSCALE", 1), header.get("BZERO", 0)
        usual = [["IMAGE", 2, bits, None] for bits in ((32,) if is_dq else BITPIX)]
        if form not in usual or scaling != (1, is_dq * UNSIGNED_ZERO):
            return None
        stored, shape = np.dtype(BITPIX[header["BITPIX"]]), (header["NAXIS2"], header["NAXIS1"])
        dtype = np.dtype(np.uint32) if is_dq else stored.newbyteorder("=")
        pixels[name] = Pixels(path, extension.name, extension.offset, shape, stored, dtype)
    with path.open("rb") as file:
        file.seek(by_name["ASDF"].offset)
        text = file.read(by_name["ASDF"].length)
    tree = asdf.util.load_yaml(io.BytesIO(text))
    if not isinstance(tree, dict) or not isinstance(tree.get("meta", {}), dict):
        raise ExposureError(f"{path}: its metadata are damaged: the ASDF extension holds no meta")
    # without the arrays, which are in extensions of their own
    tree = {"meta": {}} | {key: value for key, value in tree.items() if key in ("meta", "cal_logs")}
    if "wcs" in tree["meta"]:
        with asdf.config_context() as config:
            # the pipeline wrote it; what is used of it is checked when it is used
            config.validate_on_read = False
            # not closed: its arrays are read from memory when they are used
            tree["meta"]["wcs"] = asdf.open(io.BytesIO(text), mode="rw", memmap=False)["meta"]["wcs"]
    check_metadata(path, tree, {extension.name: extension.header for extension in extensions})
    # the base class would merge the schema once more
    model = FitsImage(tree, schema={"type": "object"}, validate_on_assignment=False)
    model._pixels, model._schema = pixels, merged_schema(datamodels.ImageModel.schema_url)
    model._instance["meta"] |= {"filename": path.name, "model_type": datamodels.ImageModel.__name__}
    return model


def check_metadata(path, tree, headers=MappingProxyType({})):
    """See that metadata from a file's ASDF extension are of the data model's kinds, and fill in the headers' values.

    Parameters
    ----------
    path : Path
        The file, for the message.
    tree : dict
        Changed in place: a value of another type than the data model's does not count.
    headers : mapping of str to dict, optional
        Values of keywords, by extension. One of another type, or not among those that the data model lists, does not
        count.

    Raises
    ------
    ExposureError
        If there is something else where the data model has a collection of entries.
    """
    for (name, keyword, keys), entry in keywords(datamodels.ImageModel.schema_url).items():
        value, node, key = headers.get(name, {}).get(keyword), tree, keys[-1]
        types = TYPES.get(str(entry.get("type")))
        if value is not None and ((types and type(value) not in types) or value not in (entry.get("enum") or (value,))):
            log.debug("%s: %s=%r is not allowed", name, keyword, value)
            value = None
        for depth, part in enumerate(keys[:-1], start=1):
            node = node.get(part, {}) if value is None else node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ExposureError(f"{path}: its metadata are damaged: {'.'.join(keys[:depth])} is {str(node)[:60]!r}")
        if types and key in node and type(node[key]) not in types:
            del node[key]
        full = node.get(key)
        # a number that is there in full is not replaced by the header's rounded one
        is_rounded = (
            isinstance(value, float) and isinstance(full, float) and abs(full - value) <= HEADER_DIGITS * abs(full)
        )
        if value is not None and not is_rounded:
            node[key] = value
