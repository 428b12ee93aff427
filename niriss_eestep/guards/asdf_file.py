"""ASDF that holds all its data itself, and does not expand without end."""

import io
import math
import os
import re
import struct
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from niriss_eestep.arrays import Array
from niriss_eestep.errors import NirissEEError, ReferenceDataError, reading, regular_file

#: products have 1 MB, references 3 MB; a file, or an array in it, beyond this is neither [bytes]
SIZE_MAX = 256 * 1024**2

#: metadata of an exposure with WCS and logs have 20 levels and some thousand entries; YAML aliases let a small text
#: expand without end, and the C parser of YAML overflows its stack at some ten thousand levels
DEPTH_MAX, ENTRIES_MAX = 200, 1_000_000

#: tags of ASDF and YAML themselves ("!" is any quoted text), and sources of an array within its file
PLAIN_TAG = re.compile(r"!?|tag:(stsci\.edu:asdf/core/|yaml\.org,2002:(?!python)).*", re.DOTALL)
OWN_SOURCE = re.compile(r"-?\d+|fits:[A-Za-z_]+,\d+")
_BLOCK_MAGIC = b"\xd3BLK"


def read_asdf(
    path: str | os.PathLike[str], what: str, error: type[NirissEEError] = ReferenceDataError
) -> dict[str, Any]:
    """Read an ASDF file that holds all its data itself.

    Parameters
    ----------
    path : path
    what : str
        What it should be, for messages.
    error : type
        Class of the errors.

    Returns
    -------
    dict
        The tree, as plain containers and native ndarrays in memory.

    Raises
    ------
    NirissEEError
        Of the class given: the file is missing, not a regular file, too large, damaged, refers to another file or
        holds objects of other libraries.
    """
    import asdf

    size = regular_file(path, what, error)
    if size > SIZE_MAX:
        raise error(f"{path}: {size} bytes; a {what} has less than {SIZE_MAX}")
    with reading(path, what, error):
        data = Path(path).read_bytes()
    check_asdf(path, data, what, error)
    with reading(path, what, error), warnings.catch_warnings(), asdf.config_context() as config:
        # asdf warns of unknown tags and other versions; what matters is checked where it is used
        warnings.simplefilter("ignore")
        config.validate_on_read = False
        # from memory, so that nothing in the file can name another file to read
        file = asdf.open(io.BytesIO(data), memmap=False, lazy_load=False, validate_checksums=True)
    with file:
        return _plain(path, file.tree, error)


def numbers(path: str | os.PathLike[str], what: str, *values: object) -> list[Array]:
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
        return [np.array(value, dtype=np.float64) for value in values]
    except (TypeError, ValueError) as error:
        raise ReferenceDataError(f"{path}: {what}: not numbers ({error})") from error


def _plain(path: str | os.PathLike[str], value: Any, error: type[NirissEEError]) -> Any:
    """Copy a tree into plain containers and native ndarrays, which outlive the file."""
    from asdf.tags.core import HistoryEntry, NDArrayType

    if isinstance(value, (NDArrayType, np.ndarray)):
        with reading(path, "ASDF file", error):
            array = np.asarray(value)
            return array.astype(array.dtype.newbyteorder("="), order="C")
    if isinstance(value, dict):
        # asdf writes anew which library and extensions made a file
        items = {k: _plain(path, v, error) for k, v in value.items() if k not in ("asdf_library", "extensions")}
        return HistoryEntry(items) if isinstance(value, HistoryEntry) else items
    if isinstance(value, list):
        return [_plain(path, entry, error) for entry in value]
    return value


def check_asdf(
    path: str | os.PathLike[str],
    data: bytes,
    what: str,
    error: type[NirissEEError],
    *,
    foreign: bool = False,
    size_max: int = SIZE_MAX,
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
    path: str | os.PathLike[str],
    text: bytes,
    what: str,
    error: type[NirissEEError],
    tags: re.Pattern[str] | None,
    size_max: int,
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
            node.entries += 1 if isinstance(event, yaml.ScalarEvent) else sizes.get(event.anchor, 1)
            node.key = value if is_key and isinstance(event, yaml.ScalarEvent) else None
            if node.shape is not None and isinstance(event, yaml.ScalarEvent):
                node.shape.append(value)
        if len(nodes) > DEPTH_MAX or nodes[-1].entries > ENTRIES_MAX:
            raise error(f"{path}: its metadata are nested deeper, or expand further, than those of any {what}")
