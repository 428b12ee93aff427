"""A look at a FITS file before anything large, or anything that it refers to, is read."""

from __future__ import annotations

import gzip
import math
from contextlib import contextmanager
from dataclasses import dataclass

from astropy.io import fits

from niriss_eestep.errors import ExposureError
from niriss_eestep.guard import check_asdf, regular_file

__all__ = ["Extension", "check_fits", "primary_header"]

#: FITS files come in blocks of this size, headers in cards (FITS standard 4.0, section 3) [bytes]
BLOCK, CARD = 2880, 80

#: the longest headers of the JWST pipeline have 60 kB; one without END would go on to the end of the file [bytes]
HEADER_MAX = 2 * 1024**2

#: a full frame takes 100 MB for each integration; the default of the parameter ``max_size`` [MB of 1e6 bytes]
SIZE_MAX = 600

#: ASDF metadata with WCS and logs have 0.2 MB [bytes]
ASDF_MAX = 64 * 1024**2

KIND = "FITS image of the JWST pipeline"

#: BZERO of unsigned integers, which need no scaling (FITS standard 4.0, section 4.4.2.5)
UNSIGNED_ZERO = 2**31

GZIP_MAGIC = b"\x1f\x8b"


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


def check_fits(path, max_size=SIZE_MAX):
    """Reject what is no FITS image of the JWST pipeline, is cut off, or would exhaust the memory.

    Only headers and the ASDF extension are kept; a compressed file is unpacked piece by piece, and no further than an
    exposure reaches.

    Parameters
    ----------
    path : Path
    max_size : float
        Its extensions may have this size when they are unpacked [MB].

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
    size = regular_file(path, KIND, ExposureError)
    with _opened(path) as (file, packed):
        extensions = list(_extensions(path, file, None if packed else size, max_size))
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
    regular_file(path, KIND, ExposureError)
    with _opened(path) as (file, _):
        return _header(_header_text(path, file, first=True))[0]


@contextmanager
def _opened(path):
    """Open a file, compressed or not."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        if packed:
            with gzip.open(file) as unpacked:
                yield unpacked, True
        else:
            yield file, False


def _extensions(path, file, size, max_size):
    """Go through the extensions; ``size`` is the file's, None where it is compressed."""
    position, total = 0, 0
    while (text := _header_text(path, file, first=position == 0)) is not None:
        header, length, unpacked = _header(text)
        name = str(header.get("EXTNAME", "PRIMARY")).strip().upper()
        position += len(text)
        total += max(length, unpacked)
        if total > 1e6 * max_size:
            raise ExposureError(
                f"{path}: with extension {name} the exposure has {total / 1e6:.0f} MB when unpacked; "
                f"max_size={max_size:g} [MB] is the limit, which can be raised"
            )
        data = b""
        if name == "ASDF" and length <= ASDF_MAX:
            data = file.read(length)
            found = len(data)
            check_asdf(path, data, "exposure", ExposureError, foreign=True, size_max=ASDF_MAX)
        else:
            found = _skip(file, length) if size is None else min(length, size - position)
        if found < length:
            raise ExposureError(
                f"{path}: truncated: extension {name} has {max(0, found)} of {length} bytes; fetch it again"
            )
        yield Extension(name, header, None if size is None else position, data)
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


def _header(text):
    """Header, length of its data in the file without padding, and when they are unpacked and scaled [bytes]."""
    header = fits.Header.fromstring(text)
    lengths = []
    # a tile-compressed image is a table; ZNAXISn and ZBITPIX are those of the image
    for z in ("", "Z"):
        axes = [_integer(header, f"{z}NAXIS{i}") for i in range(1, _integer(header, f"{z}NAXIS", 0) + 1)]
        size = abs(_integer(header, f"{z}BITPIX", 8)) // 8
        groups, parameters = (_integer(header, "GCOUNT", 1), _integer(header, "PCOUNT", 0)) if not z else (1, 0)
        if min([groups, parameters, *axes], default=0) < 0:
            raise ValueError(f"negative size in a header: NAXISn {axes}, GCOUNT {groups}, PCOUNT {parameters}")
        lengths.append(size * groups * (parameters + math.prod(axes)) if axes else 0)
        if (header.get("BSCALE", 1), header.get("BZERO", 0)) not in ((1, 0), (1, UNSIGNED_ZERO)):
            lengths.append(8 * math.prod(axes) if axes else 0)
    return header, lengths[0], max(lengths)


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
