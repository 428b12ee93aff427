"""Files are checked before anything is made of them, and read once.

ASDF files must hold all their data and not expand without end; of FITS files the headers are read before any data.
"""

import gzip
import io
import math
import pickle
import re
import struct
import warnings
import zlib
from collections import namedtuple
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, TypeVar

import numpy as np
from astropy.io import fits

from niriss_eestep.arrays import Array
from niriss_eestep.errors import NirissEEError, ReferenceDataError, reading

#: products have 1 MB, references 3 MB; a file, or an array in it, beyond this is neither [bytes]
SIZE_MAX = 256 * 1024**2

#: metadata of an exposure with WCS and logs have 20 levels and some thousand entries; YAML aliases let a small text
#: expand without end, and the C parser of YAML overflows its stack at some ten thousand levels
DEPTH_MAX, ENTRIES_MAX = 200, 1_000_000
#: metadata with WCS and logs in the ASDF extension of a FITS file have 0.2 MB [bytes]
ASDF_MAX = 64 * 1024**2

#: tags of ASDF and YAML themselves ("!" is any quoted text), and sources of an array within its file
PLAIN_TAG = re.compile(r"!?|tag:(stsci\.edu:asdf/core/|yaml\.org,2002:(?!python)).*", re.DOTALL)
OWN_SOURCE = re.compile(r"-?\d+|fits:[A-Za-z_]+,\d+")
_BLOCK_MAGIC = b"\xd3BLK"

#: FITS files come in blocks of this size, headers in cards (FITS standard 4.0, section 3) [bytes]
BLOCK, CARD = 2880, 80
#: the longest headers of the JWST pipeline have 60 kB; one without END would go on to the end of the file [bytes]
HEADER_MAX = 2 * 1024**2
#: a full frame takes 100 MB for each integration; the default of the parameter ``max_size`` [MB of 1e6 bytes]
FITS_MAX = 600

#: keywords that say how the data of an extension are stored: integers, and others (FITS standard 4.0, section 4.4)
INTEGERS = re.compile(r"Z?(BITPIX|NAXIS\d*)|[GP]COUNT|TFIELDS")
OTHERS = ("XTENSION", "EXTNAME", "BSCALE", "BZERO", "BLANK")
#: BZERO of unsigned integers, which need no scaling (FITS standard 4.0, section 4.4.2.5)
UNSIGNED_ZERO = 2**31
GZIP_MAGIC = b"\x1f\x8b"

#: files that a reader remembers; an association rarely needs more than one of a kind, a campaign a star's each
REMEMBERED = 16

T = TypeVar("T")
Kind = type[NirissEEError]
Keys = Collection[str]


def read_asdf(
    path: str | Path, what: str, error: Kind = ReferenceDataError, *, part: tuple[str, Keys] | None = None
) -> dict[str, Any]:
    """Read an ASDF file that holds all its data itself.

    Parameters
    ----------
    path : path
    what : str
        What it should be, for messages.
    error : type
        Class of the errors.
    part : (str, collection of str), optional
        A mapping in the tree, and the entries of it that are read; the others are None. All by default.

    Returns
    -------
    dict
        The tree, with native ndarrays in memory.

    Raises
    ------
    NirissEEError
        Of the class given: the file is missing, not a regular file, too large, damaged, refers to another file or
        holds objects of other libraries.
    """
    import asdf
    from asdf.tags.core import NDArrayType
    from asdf.treeutil import walk_and_modify

    path = Path(path)
    # what is loaded before the configuration changes stays loaded: 60 ms
    _ = asdf.get_config().resource_manager, asdf.get_config().extensions
    with reading(path, what, error) as size:
        if size > SIZE_MAX:
            raise error(f"{path}: {size} bytes; a {what} has less than {SIZE_MAX}")
        data = path.read_bytes()
    check_asdf(path, data, what, error)
    with reading(path, what, error), warnings.catch_warnings(), asdf.config_context() as config:
        # asdf warns of unknown tags and other versions; what matters is checked where it is used
        warnings.simplefilter("ignore")
        config.validate_on_read = False
        # from memory, so that nothing in the file can name another file to read
        with asdf.open(io.BytesIO(data), lazy_load=bool(part), memmap=False, validate_checksums=True) as file:
            if not isinstance(file.tree, dict):
                raise error(f"{path}: not a {what}: its root is no mapping of entries")
            # asdf writes anew which library and extensions made a file
            tree = {key: value for key, value in file.tree.items() if key != "asdf_library"}
            if isinstance(tree.get("history"), dict):
                tree["history"].pop("extensions", None)
            if part and isinstance(entries := tree.get(part[0]), dict):
                tree[part[0]] = {key: value if key in part[1] else None for key, value in entries.items()}
            arrays = (np.ndarray, NDArrayType)
            return walk_and_modify(
                tree, lambda v: np.asarray(v).astype(v.dtype.newbyteorder("="), "C") if isinstance(v, arrays) else v
            )


def numbers(path: str | Path, what: str, *values: object) -> list[Array]:
    """Take values of a reference file as arrays of numbers.

    Parameters
    ----------
    path : path
    what : str
        What they are, such as 'throughput of F090W'.
    *values : array_like

    Returns
    -------
    list of ndarray
        New arrays in double precision.

    Raises
    ------
    ReferenceDataError
        If one of them is something else.
    """
    try:
        # neither text nor complex numbers
        return [np.asarray(value).astype(np.float64, casting="same_kind") for value in values]
    except (TypeError, ValueError) as error:
        raise ReferenceDataError(f"{path}: {what}: not numbers ({error})") from error


def check_asdf(
    path: str | Path, data: bytes, what: str, error: Kind, *, foreign: bool = False, size_max: int = SIZE_MAX
) -> None:
    """Reject ASDF that is cut off, refers to other files, or expands without end, before anything is made of it.

    Parameters
    ----------
    path : path
        Named in messages.
    data : bytes
        The whole file, or the ASDF extension of a FITS file.
    what : str
        What it should be, for messages.
    error : type
        Class of the errors.
    foreign : bool
        Accept objects of other libraries, such as the WCS of an exposure.
    size_max : int
        Its arrays may expand to this [bytes].

    Raises
    ------
    NirissEEError
        Of the class given.
    """
    if not data.startswith(b"#ASDF"):
        raise error(f"{path}: not a {what}: it is not an ASDF file")
    end = re.search(rb"\r?\n\.\.\.(\r?\n|$)", data)
    if end is None:
        raise error(f"{path}: truncated: the end of the metadata is missing")
    position, total = data.find(_BLOCK_MAGIC), 0
    while position >= 0 and data[position : position + 4] == _BLOCK_MAGIC:
        header = data[position + 4 : position + 54]
        if len(header) < 50:
            raise error(f"{path}: truncated within an array's header")
        size, _, _, allocated, used, expanded = struct.unpack_from(">HI4sQQQ", header)
        position += 6 + size + allocated
        total += max(used, expanded)
        # the last block may lack the padding that `allocated` counts
        if position - allocated + used > len(data):
            raise error(f"{path}: truncated: an array of {used} bytes is cut off")
    if total > size_max:
        raise error(f"{path}: its arrays expand to {total} bytes; those of a {what} have at most {size_max}")
    with reading(path, what, error):
        _check_text(path, data[: end.end()], what, error, None if foreign else PLAIN_TAG, size_max)


def _check_text(
    path: str | Path, text: bytes, what: str, error: Kind, tags: re.Pattern[str] | None, size_max: int
) -> None:
    """Go through the events of the YAML parser, of which nothing is made; ``tags`` are those that are accepted."""
    import yaml

    sizes: dict[str | None, int] = {}  # entries of the collections that have an anchor
    # the collections that are open, the innermost last
    nodes = [SimpleNamespace(anchor=None, is_map=False, is_array=False, shape=None, entries=1, key=None)]
    for event in yaml.parse(io.BytesIO(text), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        node, tag, value = nodes[-1], getattr(event, "tag", None) or "", getattr(event, "value", "")
        # a mapping's entries are keys and values in turn
        is_key = node.is_map and node.key is None
        if tags is not None and not tags.fullmatch(tag):
            raise error(f"{path}: holds an object of an unknown type: {tag}")
        if (is_key and value == "$ref") or (
            node.is_array and node.key == "source" and not OWN_SOURCE.fullmatch(str(value))
        ):
            raise error(f"{path}: refers to another file; a {what} holds all its data itself")
        if isinstance(event, yaml.CollectionStartEvent):
            kind = {"is_map": isinstance(event, yaml.MappingStartEvent), "is_array": "/ndarray-" in tag}
            shape: list[str] | None = [] if node.is_array and node.key == "shape" else None
            nodes.append(SimpleNamespace(anchor=event.anchor, **kind, shape=shape, entries=1, key=None))
        elif isinstance(event, yaml.CollectionEndEvent):
            nodes.pop()
            # axes that are no numbers are left to asdf
            if node.shape and math.prod(float(n) for n in node.shape if re.fullmatch(r"\d{1,19}", n)) > size_max:
                raise error(f"{path}: an array of {' x '.join(node.shape)} values is larger than those of a {what}")
            sizes[node.anchor] = node.entries
            nodes[-1].entries += node.entries
            nodes[-1].key = None
        elif isinstance(event, (yaml.AliasEvent, yaml.ScalarEvent)):
            if isinstance(event, yaml.AliasEvent) and event.anchor in [above.anchor for above in nodes]:
                raise error(f"{path}: its metadata hold themselves: {event.anchor[:60]}")
            node.entries += 1 if isinstance(event, yaml.ScalarEvent) else sizes.get(event.anchor, 1)
            node.key = value if is_key and isinstance(event, yaml.ScalarEvent) else None
            if node.shape is not None and isinstance(event, yaml.ScalarEvent):
                node.shape.append(value)
        if len(nodes) > DEPTH_MAX or nodes[-1].entries > ENTRIES_MAX:
            raise error(f"{path}: its metadata are nested deeper, or expand further, than those of any {what}")


#: an extension of a FITS file: EXTNAME in capitals, PRIMARY for the first; values of the keywords that say how the data
#: are stored, and of those asked for; where its data begin, None in a compressed file, and their length [bytes]
Extension = namedtuple("Extension", ("name", "header", "offset", "length"))


def check_fits(
    path: str | Path, what: str, error: Kind = ReferenceDataError, *, max_size: float = FITS_MAX, wanted: Keys = ()
) -> list[Extension]:
    """Reject what is no FITS file, is cut off, or would exhaust the memory.

    Only values of headers are kept; a compressed file is unpacked piece by piece, and no further than the limit.

    Parameters
    ----------
    path : path
    what : str
        What it should be, for messages.
    error : type
        Class of the errors.
    max_size : float
        Its extensions may have this size when they are unpacked [MB].
    wanted : collection of str
        Keywords whose values are kept.

    Returns
    -------
    list of Extension

    Raises
    ------
    NirissEEError
        Of the class given.
    """
    found, position, total, path = [], 0, 0, Path(path)
    with reading(path, what, error) as size, path.open("rb") as raw:
        packed = raw.peek(2)[:2] == GZIP_MAGIC
        file: Any = gzip.GzipFile(fileobj=raw) if packed else raw
        while (found_next := _next_header(path, file, error, wanted)) is not None:
            header, n_bytes, length, unpacked = found_next
            name = str(header.get("EXTNAME", "PRIMARY")).strip().upper()
            position += n_bytes
            total += max(length, unpacked)
            if total > 1e6 * max_size:
                raise error(
                    f"{path}: with extension {name} it has {total / 1e6:.0f} MB when unpacked; "
                    f"the limit is max_size={max_size:g} [MB]"
                )
            got = min(length, size - position)
            if name == "ASDF" and length <= ASDF_MAX:
                data = file.read(length)
                got = len(data)
                check_asdf(path, data, what, error, foreign=True, size_max=ASDF_MAX)
            elif packed:  # nothing is kept
                got = sum(len(file.read(min(2**20, length - start))) for start in range(0, length, 2**20))
            if got < length:
                raise error(f"{path}: truncated: extension {name} has {max(0, got)} of {length} bytes; fetch it again")
            found.append(Extension(name, header, None if packed else position, length))
            position += -(-length // BLOCK) * BLOCK
            file.seek(position)
    return found


def primary_header(path: str | Path, what: str, wanted: Keys, error: Kind = ReferenceDataError) -> dict[str, Any]:
    """Read the first header of a FITS file, and nothing else.

    Parameters
    ----------
    path : path
    what : str
        As for `check_fits`.
    wanted : collection of str
    error : type
        As for `check_fits`.

    Returns
    -------
    dict of str to object
        Values of the keywords wanted, and of those that say how data are stored.

    Raises
    ------
    NirissEEError
        Of the class given, if it is no FITS file.
    """
    path = Path(path)
    with reading(path, what, error), path.open("rb") as file:
        packed = file.peek(2)[:2] == GZIP_MAGIC
        found: Any = _next_header(path, gzip.GzipFile(fileobj=file) if packed else file, error, wanted)
    return found[0]


def _next_header(
    path: str | Path, file: BinaryIO | gzip.GzipFile, error: Kind, wanted: Keys
) -> tuple[dict[str, Any], int, int, int] | None:
    """Read the next header, and take it apart; None after the last, and before what the standard calls special records.

    Gives the values of the keywords of `INTEGERS` and `OTHERS` and of those wanted, the first where one is repeated;
    the header's length, that of the data in the file without padding, and when they are unpacked and scaled [bytes].
    """
    text, is_first, has_ended = b"", file.tell() == 0, False
    while not has_ended:
        block = file.read(BLOCK)
        if not text and not block.startswith(b"SIMPLE  =" if is_first else b"XTENSION"):
            if is_first:
                raise error(f"{path}: not a FITS file")
            return None
        if len(block) < BLOCK:
            raise error(f"{path}: truncated within a header; fetch it again")
        text += block
        has_ended = any(block[i : i + CARD] == b"END".ljust(CARD) for i in range(0, BLOCK, CARD))
        if not has_ended and len(text) > HEADER_MAX:
            raise error(f"{path}: a header without END in {HEADER_MAX} bytes")
    header: dict[str, Any] = {}
    for card in reversed(list(fits.Header.fromstring(text).cards)):
        key, is_integer = card.keyword, INTEGERS.fullmatch(card.keyword)
        # astropy takes a card apart when it is asked for its value, which takes most of the time
        if is_integer or key in wanted or key in OTHERS:
            header[key] = card.value
        if is_integer and not isinstance(header[key], int):
            raise ValueError(f"{key} is {header[key]!r}, not an integer")
        # FITS standard 4.0, sections 4.4.1 and 7.3.1; astropy goes through as many as a header names
        if key in ("NAXIS", "ZNAXIS", "TFIELDS") and not 0 <= header[key] <= 999:
            raise ValueError(f"{key} is {header[key]}; FITS knows 0 to 999")
    lengths = []
    # a tile-compressed image is a table; ZNAXISn and ZBITPIX are those of the image
    for z, counts in (("", (header.get("GCOUNT", 1), header.get("PCOUNT", 0))), ("Z", (1, 0))):
        axes = [header.get(f"{z}NAXIS{i}", -1) for i in range(1, header.get(f"{z}NAXIS", 0) + 1)]
        if min((*counts, *axes)) < 0:
            raise ValueError(f"negative or missing size in a header: NAXISn {axes}, GCOUNT and PCOUNT {counts}")
        n_values = math.prod(axes) if axes else 0
        lengths.append(abs(header.get(f"{z}BITPIX", 8)) // 8 * counts[0] * (counts[1] + n_values) if axes else 0)
        if (header.get("BSCALE", 1), header.get("BZERO", 0)) not in ((1, 0), (1, UNSIGNED_ZERO)):
            lengths.append(8 * n_values)
    return header, len(text), lengths[0], max(lengths)


@contextmanager
def open_fits(path: str | Path, what: str) -> Iterator[fits.HDUList]:
    """Check a FITS file, compressed by gzip or not, and open it; an image that is compressed by tiles stays a table.

    Parameters
    ----------
    path : path
    what : str
        What it should be, for messages.

    Yields
    ------
    astropy.io.fits.HDUList

    Raises
    ------
    ReferenceDataError
        The file is missing, not a regular file, too large, or damaged; or whatever fails while it is open.
    """
    check_fits(path, what)
    # the file is closed here, since astropy leaves one open that it cannot read
    with (
        reading(path, what),
        Path(path).open("rb") as file,
        fits.open(file, memmap=False, disable_image_compression=True) as hdus,
    ):
        yield hdus


def read_fits_table(
    path: str | Path, what: str, extension: int | str = 1
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
    with open_fits(path, what) as hdus:
        header = {card.keyword: card.value for card in hdus[0].header.cards}
        table = hdus[extension]
        if not isinstance(table, fits.BinTableHDU | fits.TableHDU):
            raise ReferenceDataError(f"{path}: extension {extension} is not a table, hence no {what}")
        named = [(name, table.columns[name].unit) for name in table.columns.names]
        columns = {n.upper(): (np.array(table.data[n]), None if unit is None else str(unit)) for n, unit in named}
    return header, columns


def read_ecsv(path: Path, what: str, column: str) -> tuple[dict[str, Any], str | None, str]:
    """Read a table of curves in ECSV.

    Parameters
    ----------
    path : Path
    what : str
        What it should be, for messages.
    column : str
        The one that the others are functions of.

    Returns
    -------
    columns : dict of str to ndarray
    unit : str or None
        Of ``column``.
    source : str
        The table's comments; its path, where it has none.

    Raises
    ------
    ReferenceDataError
        The file is missing, no such table, or without the column.
    """
    from astropy.table import Table

    with reading(path, what):
        table = Table.read(path, format="ascii.ecsv")
        columns = {name: np.asarray(table[name]) for name in table.colnames}
        source = "; ".join(table.meta.get("comments", [])) or str(path)
    if column not in columns:
        raise ReferenceDataError(f"{path}: no column {column!r}; it has {', '.join(columns)}")
    unit = table[column].unit
    return columns, None if unit is None else str(unit), source


def read_once(
    reader: Callable[..., T],
    remembered: int = REMEMBERED,
    default: Path | Callable[[], str | Path] = Path(),
    packed: bool = False,
) -> Callable[..., T]:
    """Make a reader remember what it read, for as long as the file stays as it is.

    Parameters
    ----------
    reader : callable
        Takes a path, and perhaps hashable arguments after it; what it returns must not be changed by its users.
    remembered : int
        Number of files.
    default : Path or callable, optional
        What is read where no path is given, or what gives it then.
    packed : bool
        Keep it compressed: it takes a tenth of the memory, and is made anew each time, so that users may change it.

    Returns
    -------
    callable
        The same, but a file or directory is read again only after its size or time of modification has changed.

    Examples
    --------
    >>> @read_once
    ... def load_table(path):
    ...     return path.read_text().splitlines()
    """
    # the state of the file, or of those in the directory, is a part of the key
    known: Any = lru_cache(maxsize=remembered)(
        lambda path, state, args: zlib.compress(pickle.dumps(reader(path, *args)), 1) if packed else reader(path, *args)
    )

    @wraps(reader)
    def read(path: str | Path | None = None, *args: Hashable) -> T:
        path = Path(path or (default() if callable(default) else default))
        files = [(file.name, file.stat()) for file in (path.iterdir() if path.is_dir() else [path]) if file.exists()]
        found = known(path, frozenset((name, stat.st_size, stat.st_mtime_ns) for name, stat in files), args)
        return pickle.loads(zlib.decompress(found)) if packed else found

    return read
