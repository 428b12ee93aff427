"""An image whose metadata are in memory, and whose pixels stay in the file until they are used.

A full frame takes 84 MB, the stamp around a star 0.1 MB: reading whole arrays, as `stdatamodels` does, would take most
of the time of a measurement.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import asdf
import numpy as np
from astropy.io import fits
from stdatamodels.jwst.datamodels import ImageModel

from niriss_eestep.errors import ExposureError
from niriss_eestep.guards.fits_file import SIZE_MAX, Extension, check_fits, primary_header
from niriss_eestep.products.columns import keywords, merged_schema
from niriss_eestep.reference.cache import REMEMBERED, read_once

__all__ = ["FitsImage", "Pixels", "check_metadata", "exposure_extensions", "fits_image", "group_header"]

log = logging.getLogger(__name__)

#: arrays that a measurement reads, and their extensions
ARRAYS = {
    "data": "SCI",
    "err": "ERR",
    "dq": "DQ",
    "var_poisson": "VAR_POISSON",
    "var_rnoise": "VAR_RNOISE",
    "var_flat": "VAR_FLAT",
    "wht": "WHT",
    "area": "AREA",
}

#: what FITS calls a data type (FITS standard 4.0, table 8); unsigned integers are stored less 2**31
BITPIX = {-32: ">f4", -64: ">f8", 32: ">i4"}
UNSIGNED_ZERO = 2**31

#: a header has at least this many digits of a number (FITS standard 4.0, section 4.2.4, in a card of 80 characters)
HEADER_DIGITS = 1e-12

#: what the schema's types are in Python
TYPES = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}


class Pixels:
    """An image in a FITS file, of which pieces can be read as from an array.

    Parameters
    ----------
    path : Path
    extension : Extension
    """

    ndim = 2

    def __init__(self, path: Path, extension: Extension):
        header = extension.header
        self.path, self.name, self.offset = path, extension.name, extension.offset
        self.shape = (header["NAXIS2"], header["NAXIS1"])
        self.stored = np.dtype(BITPIX[header["BITPIX"]])
        self.unsigned = header.get("BZERO", 0) == UNSIGNED_ZERO
        self.dtype = np.dtype(np.uint32) if self.unsigned else self.stored.newbyteorder("=")

    def __getitem__(self, key):
        """Read ``[...]``, or a rectangle ``[y0:y1, x0:x1]``."""
        rows, columns = (slice(None), slice(None)) if key is Ellipsis else key
        first, last, _ = rows.indices(self.shape[0])
        piece = self._rows(first, max(first, last))[:, columns]
        if self.unsigned:
            return piece.astype(np.uint32) ^ np.uint32(UNSIGNED_ZERO)
        return piece.astype(self.dtype)

    def _rows(self, first, last):
        """Read whole rows: they lie one after the other."""
        row = self.shape[1] * self.stored.itemsize
        with self.path.open("rb") as file:
            file.seek(self.offset + first * row)
            data = file.read((last - first) * row)
        if len(data) < (last - first) * row:
            raise ExposureError(f"{self.path}: has become shorter while it was read ({self.name})")
        return np.frombuffer(data, self.stored).reshape(last - first, self.shape[1])

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[...], dtype=dtype)


class FitsImage(ImageModel):
    """An `ImageModel` for measuring only: its arrays are `Pixels`, and it cannot be changed or saved.

    Parameters
    ----------
    tree : dict
        Metadata.
    pixels : dict of str to Pixels
        By the array's name in the data model.
    """

    def __init__(self, tree, pixels):
        # before the model has its metadata, setting an attribute would look for them
        object.__setattr__(self, "_pixels", pixels)
        # the base class would merge the schema once more
        super().__init__(tree, schema={"type": "object"}, validate_on_assignment=False)
        self._schema = merged_schema(ImageModel.schema_url)
        self._instance["meta"]["model_type"] = ImageModel.__name__

    def hasattr(self, attr):
        """Tell whether the exposure has an array or metadata of a name."""
        return attr in self._pixels if attr in ARRAYS else super().hasattr(attr)

    def save(self, path, *args, **kwargs):
        """Refuse: this is a view of a file."""
        raise NotImplementedError(f"{path}: an exposure that was opened for measuring is not written")


def _add_arrays():
    """Give `FitsImage` its arrays; the base class looks names up in the metadata only."""
    for name in ARRAYS:
        setattr(FitsImage, name, property(lambda self, name=name: self._pixels.get(name)))


_add_arrays()


@read_once
def exposure_extensions(path: Path, max_size: float = SIZE_MAX) -> list[Extension]:
    """Extensions of an exposure's file; see `niriss_eestep.guards.fits_file.check_fits`.

    Parameters
    ----------
    path : Path
    max_size : float
        Largest exposure that is opened, when it is unpacked [MB].

    Returns
    -------
    list of Extension

    Raises
    ------
    ExposureError
        Naming the file and what is wrong with it.
    """
    extensions = check_fits(path, "FITS image of the JWST pipeline", ExposureError, max_size=max_size)
    if not any(extension.name == "SCI" for extension in extensions):
        raise ExposureError(f"{path}: no SCI extension: not an image of the JWST pipeline")
    for extension in extensions:
        if extension.name == "DQ" and extension.header["BITPIX"] < 0:
            raise ExposureError(
                f"{path}: DQ holds floating-point numbers (BITPIX={extension.header['BITPIX']}); flags are integers"
            )
    return extensions


def group_header(path: Path, n_files: int) -> fits.Header:
    """Read the first header of an exposure; of one among few, all are read and remembered for its measurement.

    Parameters
    ----------
    path : Path
    n_files : int
        How many there are.

    Returns
    -------
    astropy.io.fits.Header
    """
    if n_files <= REMEMBERED:
        # of a truncated file the first header may be whole: the file is missed in its group
        with suppress(ExposureError):
            return exposure_extensions(path, SIZE_MAX)[0].header
    return primary_header(path, "exposure", ExposureError)


def fits_image(path: Path, extensions: Sequence[Extension]) -> FitsImage | None:
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
    by_name = {extension.name: extension for extension in reversed(extensions)}
    found = {name: by_name[extension] for name, extension in ARRAYS.items() if extension in by_name}
    usual = (
        extensions[0].header.get("DATAMODL") == ImageModel.__name__
        and "ASDF" in by_name
        and by_name["ASDF"].text.startswith(b"#ASDF")
        and "data" in found
        and len(by_name) == len(extensions)
        and extensions[0].offset is not None
        and all(_is_plain(name, extension.header) for name, extension in found.items())
    )
    if not usual:
        return None
    tree = _metadata(path, extensions, by_name["ASDF"].text)
    tree["meta"]["filename"] = path.name
    return FitsImage(tree, {name: Pixels(path, extension) for name, extension in found.items()})


def _is_plain(name, header):
    """Whether an extension holds an image in the form that the pipeline writes."""
    expected = (32, 1, UNSIGNED_ZERO) if name == "dq" else (header.get("BITPIX"), 1, 0)
    return (
        header.get("XTENSION") == "IMAGE"
        and header.get("NAXIS") == 2
        and header.get("BITPIX") in BITPIX
        and (header.get("BITPIX"), header.get("BSCALE", 1), header.get("BZERO", 0)) == expected
        and "BLANK" not in header
    )


@cache
def _keywords():
    """Keywords of the data model: (extension, keyword), path in the tree, allowed types, allowed values."""
    return {
        where: (TYPES.get(entry["type"]) if isinstance(entry.get("type"), str) else None, entry.get("enum"))
        for where, entry in keywords(ImageModel.schema_url).items()
    }


def check_metadata(path, tree):
    """See that metadata from a file's ASDF extension are of the data model's kinds.

    Parameters
    ----------
    path : Path
        The file, for the message.
    tree : dict
        Changed in place: a value of another type than the data model's does not count, as in a header.

    Raises
    ------
    ExposureError
        If there is something else where the data model has a collection of entries.
    """
    for (_, _, keys), (types, _) in _keywords().items():
        node = tree
        for depth, key in enumerate(keys[:-1], start=1):
            node = node.get(key, {})
            if not isinstance(node, dict):
                raise ExposureError(f"{path}: its metadata are damaged: {'.'.join(keys[:depth])} is {str(node)[:60]!r}")
        if keys[-1] in node and not _allowed(node[keys[-1]], types):
            del node[keys[-1]]


def _metadata(path, extensions, text):
    """Metadata tree: what the headers say, else the ASDF extension; as `stdatamodels` has it.

    A header's value of another type than the data model's, or not among those that it lists, does not count.
    """
    # without the arrays, which are in extensions of their own
    tree = {key: value for key, value in _load(path, text).items() if key in ("meta", "cal_logs")}
    tree.setdefault("meta", {})
    check_metadata(path, tree)
    # astropy reads a card's value when it is asked for it, which takes most of the time
    wanted = {(name, keyword) for name, keyword, _ in _keywords()}
    headers = {
        extension.name: {c.keyword: c.value for c in extension.header.cards if (extension.name, c.keyword) in wanted}
        for extension in extensions
        if extension.name != "ASDF"
    }
    for (name, keyword, keys), (types, values) in _keywords().items():
        value = headers.get(name, {}).get(keyword)
        if value is None:
            continue
        if _allowed(value, types, values):
            _put(tree, keys, value)
        else:
            log.debug("%s: %s=%r is not allowed", name, keyword, value)
    return tree


def _load(path, text):
    """Read the ASDF extension; the WCS is made only where there is one."""
    tree = asdf.util.load_yaml(io.BytesIO(text))
    if not isinstance(tree, dict) or not isinstance(tree.get("meta", {}), dict):
        raise ExposureError(f"{path}: its metadata are damaged: the ASDF extension holds no meta")
    if "wcs" in tree.get("meta", {}):
        with asdf.config_context() as config:
            # the pipeline wrote it; what is used of it is checked when it is used
            config.validate_on_read = False
            # not closed: its arrays are read from memory when they are used
            tree["meta"]["wcs"] = asdf.open(io.BytesIO(text), mode="rw", memmap=False)["meta"]["wcs"]
    return tree


def _allowed(value, types, values=None):
    if types is not None and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
        return False
    return values is None or value in values


def _put(tree, path, value):
    """Set a value; a number that is there in full is not replaced by the header's rounded one."""
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    if not _same_number(value, tree.get(path[-1])):
        tree[path[-1]] = value


def _same_number(rounded, full):
    both = isinstance(rounded, float) and isinstance(full, float)
    return both and abs(full - rounded) <= HEADER_DIGITS * abs(full)
