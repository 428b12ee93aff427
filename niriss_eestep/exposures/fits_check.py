"""A look at a FITS file before anything large, or anything that it refers to, is read."""

from __future__ import annotations

import gzip
import io
import math
import re
from dataclasses import dataclass

import yaml
from astropy.io import fits

from niriss_eestep.errors import ExposureError

__all__ = ["Extension", "check_fits", "primary_header"]

#: FITS files come in blocks of this size, headers in cards (FITS standard 4.0, section 3) [bytes]
BLOCK, CARD = 2880, 80

#: the longest headers of the JWST pipeline have 60 kB; one without END would go on to the end of the file [bytes]
HEADER_MAX = 2 * 1024**2

#: a full frame takes 84 MB for each integration; with more than fifty it is no exposure of a standard star [bytes]
DATA_MAX = 4 * 1024**3

#: ASDF metadata with WCS and logs have 0.2 MB, 20 levels and some thousand entries; YAML aliases let a small text
#: expand without end
ASDF_MAX, DEPTH_MAX, ENTRIES_MAX = 64 * 1024**2, 200, 1_000_000

GZIP_MAGIC = b"\x1f\x8b"
_EventLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, eq=False)
class Extension:
    """An extension of a FITS file.

    Parameters
    ----------
    name : str
        EXTNAME in capitals; PRIMARY for the first.
    header : astropy.io.fits.Header
    offset : int or None
        Where its data begin [bytes]; None in a compressed file.
    text : bytes
        The data themselves, of the ASDF extension only.
    """

    name: str
    header: fits.Header
    offset: int | None
    text: bytes = b""


def check_fits(path):
    """Refuse what is no FITS image of the JWST pipeline, is cut off, or would exhaust the memory.

    Only headers and the ASDF extension are kept; a compressed file is unpacked piece by piece, and no further than an
    exposure reaches.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of Extension

    Raises
    ------
    ExposureError
        Naming the file and what is wrong with it.
    Exception
        Whatever the libraries raise on damaged files; for `niriss_eestep.errors.reading`.
    """
    size = path.stat().st_size
    if size == 0:
        raise ExposureError(f"{path}: empty file; fetch it again")
    packed = _is_packed(path)
    with gzip.open(path) if packed else path.open("rb") as file:
        extensions = list(_extensions(path, file, DATA_MAX if packed else size, packed=packed))
    if not any(extension.name == "SCI" for extension in extensions):
        raise ExposureError(f"{path}: no SCI extension: not an image of the JWST pipeline")
    for extension in extensions:
        if extension.name == "DQ" and extension.header["BITPIX"] < 0:
            raise ExposureError(
                f"{path}: DQ holds floating-point numbers (BITPIX={extension.header['BITPIX']}); flags are integers"
            )
    return extensions


def primary_header(path):
    """Read the first header of a FITS file, and nothing else.

    Parameters
    ----------
    path : Path

    Returns
    -------
    astropy.io.fits.Header

    Raises
    ------
    ExposureError
        If it is no FITS file.
    Exception
        As `check_fits`.
    """
    with gzip.open(path) if _is_packed(path) else path.open("rb") as file:
        return fits.Header.fromstring(_header_text(path, file, first=True))


def _is_packed(path):
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


def _extensions(path, file, size, *, packed):
    """Go through the extensions."""
    position = 0
    while (text := _header_text(path, file, first=position == 0)) is not None:
        header = fits.Header.fromstring(text)
        name = str(header.get("EXTNAME", "PRIMARY")).strip().upper()
        position += len(text)
        length = _data_length(header)
        if position + length > DATA_MAX:
            raise ExposureError(
                f"{path}: extension {name} declares {_axes(header)} pixels, which brings the file to "
                f"{position + length} bytes; an exposure has at most {DATA_MAX}"
            )
        data = b""
        if name == "ASDF" and length <= ASDF_MAX:
            data = file.read(length)
            found = len(data)
            _check_asdf(path, data)
        else:
            found = _skip(file, length) if packed else min(length, size - position)
        if found < length:
            raise ExposureError(
                f"{path}: truncated: extension {name} has {max(0, found)} of {length} bytes; fetch it again"
            )
        yield Extension(name, header, None if packed else position, data)
        position += -(-length // BLOCK) * BLOCK
        file.seek(position)


def _header_text(path, file, *, first):
    """Read the next header; None at the end of the file."""
    text = b""
    while len(text) <= HEADER_MAX:
        block = file.read(BLOCK)
        if first and not text and not block.startswith(b"SIMPLE  ="):
            raise ExposureError(f"{path}: not a FITS file")
        if not first and not text and not block.startswith(b"XTENSION"):
            return None  # the end of the file, or what the standard calls special records
        if len(block) < BLOCK:
            raise ExposureError(f"{path}: truncated within a header; fetch it again")
        text += block
        if any(block[i : i + CARD] == b"END".ljust(CARD) for i in range(0, BLOCK, CARD)):
            return text
    raise ExposureError(f"{path}: a header without END in {HEADER_MAX} bytes")


def _axes(header):
    return " x ".join(str(header.get(f"NAXIS{i}")) for i in range(1, int(header.get("NAXIS", 0)) + 1))


def _data_length(header):
    """Length of the data that a header declares, without padding [bytes]."""
    axes = [_integer(header, f"NAXIS{i}") for i in range(1, _integer(header, "NAXIS", 0) + 1)]
    others = [_integer(header, key, default) for key, default in (("GCOUNT", 1), ("PCOUNT", 0))]
    numbers = [abs(_integer(header, "BITPIX")) // 8, *others, *axes]
    if min(numbers) < 0:
        raise ValueError(f"negative size in a header: {numbers}")
    return numbers[0] * numbers[1] * (numbers[2] + math.prod(axes)) if axes else 0


def _integer(header, key, default=None):
    value = header.get(key, default)
    if not isinstance(value, int):
        raise ValueError(f"{key} is {value!r}, not an integer")
    return value


def _skip(file, length):
    """Read on without keeping anything; how far it went."""
    left = length
    while left and (piece := file.read(min(left, 2**20))):
        left -= len(piece)
    return length - left


@dataclass(slots=True)
class _Node:
    """A collection of the YAML text that is being read."""

    tag: str = ""
    anchor: str | None = None
    entries: int = 1
    last: object = None


def _check_asdf(path, data):
    """Refuse metadata that refer to other files, or expand without end.

    The events of the YAML parser are enough for that: nothing is made of them.
    """
    sizes, nodes = {}, [_Node()]
    for event in yaml.parse(io.BytesIO(data.split(b"\n...", 1)[0]), Loader=_EventLoader):
        node = nodes[-1]
        if _refers_elsewhere(node, event):
            raise ExposureError(f"{path}: its metadata refer to another file; an exposure holds all its data itself")
        if isinstance(event, yaml.CollectionStartEvent):
            nodes.append(_Node(str(event.tag), event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            nodes.pop()
            sizes[node.anchor] = node.entries
            nodes[-1].entries += node.entries
        elif isinstance(event, yaml.AliasEvent):
            node.entries += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            node.entries += 1
            node.last = event.value
        if len(nodes) > DEPTH_MAX or nodes[-1].entries > ENTRIES_MAX:
            raise ExposureError(
                f"{path}: its metadata are nested deeper, or expand further, than those of any exposure"
            )


def _refers_elsewhere(node, event):
    """Whether an entry is a reference to another document, or an array's source is another file."""
    if isinstance(event, yaml.ScalarEvent) and event.value == "$ref":
        return True
    if "/ndarray-" not in node.tag or node.last != "source":
        return False
    inside = isinstance(event, yaml.ScalarEvent) and re.fullmatch(r"-?\d+|fits:[A-Za-z_]+,\d+", event.value)
    return not inside
