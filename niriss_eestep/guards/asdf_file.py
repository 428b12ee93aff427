"""ASDF that holds all its data itself, and does not expand without end."""

from __future__ import annotations

import io
import math
import os
import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from niriss_eestep.errors import NirissEEError, ReferenceDataError, reading, regular_file, with_article

__all__ = ["SIZE_MAX", "check_asdf", "numbers", "read_asdf"]

#: products have 1 MB, references 3 MB; a file, or an array in it, beyond this is neither [bytes]
SIZE_MAX = 256 * 1024**2

#: metadata of an exposure with WCS and logs have 20 levels and some thousand entries; YAML aliases let a small text
#: expand without end, and the C parser of YAML overflows its stack at some ten thousand levels
DEPTH_MAX, ENTRIES_MAX = 200, 1_000_000

CORE_TAGS = "tag:stsci.edu:asdf/core/"
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
    with reading(path, with_article(what), error):
        data = Path(path).read_bytes()
    check_asdf(path, data, what, error)
    with reading(path, with_article(what), error), warnings.catch_warnings(), asdf.config_context() as config:
        # asdf warns of unknown tags and other versions; what matters is checked where it is used
        warnings.simplefilter("ignore")
        config.validate_on_read = False
        # from memory, so that nothing in the file can name another file to read
        file = asdf.open(io.BytesIO(data), memmap=False, lazy_load=False, validate_checksums=True)
    with file:
        return _plain(path, file.tree, error)


def numbers(path: str | os.PathLike[str], what: str, *values: object) -> list[NDArray[np.float64]]:
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
        with reading(path, "an ASDF file", error):
            array = np.asarray(value)
            return array.astype(array.dtype.newbyteorder("="), order="C")
    if isinstance(value, dict):
        # asdf writes anew which library and extensions made a file
        items = {k: _plain(path, v, error) for k, v in value.items() if k not in ("asdf_library", "extensions")}
        return HistoryEntry(items) if isinstance(value, HistoryEntry) else items
    if isinstance(value, list):
        return [_plain(path, entry, error) for entry in value]
    return value


@dataclass(slots=True)
class _Node:
    """A collection of the YAML text that is being read."""

    tag: str = ""
    anchor: str | None = None
    is_map: bool = False
    shape: bool = False
    entries: int = 1
    key: str | None = None
    numbers: list[str] = field(default_factory=list)


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
    _check_blocks(path, data, what, error, size_max)
    _check_text(path, data[: end.end()], what, error, foreign=foreign, size_max=size_max)


def _check_blocks(
    path: str | os.PathLike[str], data: bytes, what: str, error: type[NirissEEError], size_max: int
) -> None:
    """Reject array blocks that are cut off, or that would expand beyond the limit."""
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


def _check_text(
    path: str | os.PathLike[str], text: bytes, what: str, error: type[NirissEEError], *, foreign: bool, size_max: int
) -> None:
    """Go through the events of the YAML parser, of which nothing is made."""
    import yaml

    sizes: dict[str | None, int] = {}
    nodes = [_Node()]
    for event in _events(path, text, what, error):
        node = nodes[-1]
        tag = str(getattr(event, "tag", None) or "")
        if not foreign and not _is_plain(tag):
            raise error(f"{path}: holds an object of the foreign kind {tag}")
        if _refers_elsewhere(node, event):
            raise error(f"{path}: refers to another file; a {what} holds all its data itself")
        if isinstance(event, yaml.CollectionStartEvent):
            is_map, is_shape = isinstance(event, yaml.MappingStartEvent), _is_array(node) and node.key == "shape"
            nodes.append(_Node(tag, event.anchor, is_map, is_shape))
        elif isinstance(event, yaml.CollectionEndEvent):
            nodes.pop()
            if node.shape and _count(node.numbers) > size_max:
                raise error(f"{path}: an array of {' x '.join(node.numbers)} values is larger than those of a {what}")
            sizes[node.anchor] = node.entries
            nodes[-1].entries += node.entries
            nodes[-1].key = None
        elif isinstance(event, yaml.AliasEvent):
            node.entries += sizes.get(event.anchor, 1)
            node.key = None
        elif isinstance(event, yaml.ScalarEvent):
            node.entries += 1
            # a mapping's scalars are keys and values in turn
            node.key = event.value if node.is_map and node.key is None else None
            if node.shape:
                node.numbers.append(event.value)
        if len(nodes) > DEPTH_MAX or nodes[-1].entries > ENTRIES_MAX:
            raise error(f"{path}: its metadata are nested deeper, or expand further, than those of any {what}")


def _events(path: str | os.PathLike[str], text: bytes, what: str, error: type[NirissEEError]) -> Iterator[Any]:
    import yaml

    with reading(path, with_article(what), error):
        yield from yaml.parse(io.BytesIO(text), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _is_plain(tag: str) -> bool:
    """Whether a tag is ASDF's own or YAML's; "!" is any quoted text."""
    python = tag.startswith("tag:yaml.org,2002:python")
    return tag in ("", "!") or (tag.startswith((CORE_TAGS, "tag:yaml.org,2002:")) and not python)


def _is_array(node: _Node) -> bool:
    return "/ndarray-" in node.tag


def _count(numbers: list[str]) -> float:
    """Product of an array's axes; those that are not numbers are left to asdf."""
    return math.prod(float(number) for number in numbers if re.fullmatch(r"\d{1,19}", number))


def _refers_elsewhere(node: _Node, event: Any) -> bool:
    """Whether an entry is a reference to another document, or an array's source is another file."""
    if getattr(event, "value", None) == "$ref" and node.is_map and node.key is None:
        return True
    if not _is_array(node) or node.key != "source":
        return False
    return re.fullmatch(r"-?\d+|fits:[A-Za-z_]+,\d+", str(getattr(event, "value", ""))) is None
