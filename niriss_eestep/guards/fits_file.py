"""FITS files, whose headers are read before any data."""

import gzip
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from astropy.io import fits

from niriss_eestep.errors import NirissEEError, ReferenceDataError, reading, regular_file
from niriss_eestep.guards.asdf_file import check_asdf

#: FITS files come in blocks of this size, headers in cards (FITS standard 4.0, section 3) [bytes]
BLOCK, CARD = 2880, 80

#: the longest headers of the JWST pipeline have 60 kB; one without END would go on to the end of the file [bytes]
HEADER_MAX = 2 * 1024**2

#: a full frame takes 100 MB for each integration; the default of the parameter ``max_size`` [MB of 1e6 bytes]
SIZE_MAX = 600

#: ASDF metadata with WCS and logs have 0.2 MB [bytes]
ASDF_MAX = 64 * 1024**2

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


def check_fits(
    path: Path, what: str, error: type[NirissEEError] = ReferenceDataError, *, max_size: float = SIZE_MAX
) -> list[Extension]:
    """Reject what is no FITS file, is cut off, or would exhaust the memory.

    Only headers and the ASDF extension are kept; a compressed file is unpacked piece by piece, and no further than the
    limit.

    Parameters
    ----------
    path : Path
    what : str
        What it should be, for messages.
    error : type
        Class of the errors.
    max_size : float
        Its extensions may have this size when they are unpacked [MB].

    Returns
    -------
    list of Extension

    Raises
    ------
    NirissEEError
        Of the class given.
    """
    size, found, position, total = regular_file(path, what, error), [], 0, 0
    with reading(path, what, error), _opened(path) as (file, packed):
        while (text := _header_text(path, file, error, first=position == 0)) is not None:
            header, length, unpacked = _header(text)
            name = str(header.get("EXTNAME", "PRIMARY")).strip().upper()
            position += len(text)
            total += max(length, unpacked)
            if total > 1e6 * max_size:
                raise error(
                    f"{path}: with extension {name} it has {total / 1e6:.0f} MB when unpacked; "
                    f"the limit is max_size={max_size:g} [MB]"
                )
            data, there = b"", min(length, size - position)
            if name == "ASDF" and length <= ASDF_MAX:
                data = file.read(length)
                there = len(data)
                check_asdf(path, data, what, error, foreign=True, size_max=ASDF_MAX)
            elif packed:  # nothing is kept
                there = sum(len(file.read(min(2**20, length - start))) for start in range(0, length, 2**20))
            if there < length:
                raise error(
                    f"{path}: truncated: extension {name} has {max(0, there)} of {length} bytes; fetch it again"
                )
            found.append(Extension(name, header, None if packed else position, data))
            position += -(-length // BLOCK) * BLOCK
            file.seek(position)
    return found


def read_fits_table(
    path: str | os.PathLike[str], what: str, extension: int | str = 1
) -> tuple[dict[str, Any], dict[str, tuple[Any, str | None]]]:
    """Read a table of a FITS file, compressed by gzip or not.

    Parameters
    ----------
    path : path
    what : str
        What it should be, for messages.
    extension : int or str

    Returns
    -------
    header : dict
        Keywords of the primary header.
    columns : dict of str to (ndarray, str or None)
        Values and unit by the column's name in capitals, in the file's order.

    Raises
    ------
    ReferenceDataError
        The file is missing, not a regular file, too large, or damaged.
    """
    path = Path(path)
    check_fits(path, what)
    with (
        reading(path, what),
        # closed here, since astropy leaves a file open that it cannot read
        _opened(path) as (file, _),
        # an image that is compressed by tiles is no table
        fits.open(file, memmap=False, disable_image_compression=True) as hdus,
    ):
        header = {card.keyword: card.value for card in hdus[0].header.cards}
        table = hdus[extension]
        if not isinstance(table, fits.BinTableHDU | fits.TableHDU):
            raise ReferenceDataError(f"{path}: extension {extension} is not a table, hence no {what}")
        units = {name: table.columns[name].unit for name in table.columns.names}
        columns = {
            name.upper(): (np.array(table.data[name]), None if unit is None else str(unit))
            for name, unit in units.items()
        }
    return header, columns


def primary_header(path: Path, what: str, error: type[NirissEEError] = ReferenceDataError) -> fits.Header:
    """Read the first header of a FITS file, and nothing else.

    Parameters
    ----------
    path : Path
    what, error
        As for `check_fits`.

    Returns
    -------
    astropy.io.fits.Header

    Raises
    ------
    NirissEEError
        Of the class given, if it is no FITS file.
    """
    regular_file(path, what, error)
    with reading(path, what, error), _opened(path) as (file, _):
        return _header(_header_text(path, file, error, first=True) or b"")[0]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, bool]]:
    """Open a file, compressed or not."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        if packed:
            with gzip.open(file) as unpacked:
                yield cast("BinaryIO", unpacked), True
        else:
            yield file, False


def _header_text(path: Path, file: BinaryIO, error: type[NirissEEError], *, first: bool) -> bytes | None:
    """Read the next header; None at the end of the file."""
    text = b""
    while len(text) <= HEADER_MAX:
        block = file.read(BLOCK)
        if first and not text and not block.startswith(b"SIMPLE  ="):
            raise error(f"{path}: not a FITS file")
        if not first and not text and not block.startswith(b"XTENSION"):
            return None  # the end of the file, or what the standard calls special records
        if len(block) < BLOCK:
            raise error(f"{path}: truncated within a header; fetch it again")
        text += block
        if any(block[i : i + CARD] == b"END".ljust(CARD) for i in range(0, BLOCK, CARD)):
            return text
    raise error(f"{path}: a header without END in {HEADER_MAX} bytes")


def _header(text: bytes) -> tuple[fits.Header, int, int]:
    """Header, length of its data in the file without padding, and when they are unpacked and scaled [bytes]."""
    header = fits.Header.fromstring(text)
    for key in ("NAXIS", "TFIELDS"):
        # FITS standard 4.0, sections 4.4.1 and 7.3.1; astropy goes through as many as a header names
        if not 0 <= _integer(header, key, 0) <= 999:
            raise ValueError(f"{key} is {header[key]}; FITS knows 0 to 999")
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


def _integer(header: fits.Header, key: str, default: int | None = None) -> int:
    value = header.get(key, default)
    if not isinstance(value, int):
        raise ValueError(f"{key} is {value!r}, not an integer")
    return value
