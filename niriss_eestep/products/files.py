"""Reading and writing products: nothing but whole files, nothing executed, nothing followed."""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
import struct
import threading
import warnings
from functools import cache
from pathlib import Path

import asdf
import numpy as np
import yaml
from asdf.tags.core import HistoryEntry, NDArrayType

from niriss_eestep.errors import OutputError, ProductError, reading
from niriss_eestep.products.models import MODELS, ProductModel
from niriss_eestep.products.validation import check_tree, load_asdf_plugins

__all__ = ["open", "read_tree", "save_product", "write_atomically"]

# A product is smaller than 1 MB; a file or an array beyond this is not one [bytes]
SIZE_MAX = 256 * 1024**2
# Entries of a tree; YAML aliases can make a small file expand without end
ENTRIES_MAX = 200_000
# Depth of a tree; products have 5, and the C parser of YAML overflows its stack at some ten thousand
DEPTH_MAX = 64
BLOCK_MAGIC = b"\xd3BLK"
CORE_TAGS = "tag:stsci.edu:asdf/core/"
_EventLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def open(source):
    """Open a product.

    Parameters
    ----------
    source : str, Path or ProductModel
        File; a model is handed back as it is.

    Returns
    -------
    ProductModel
        Of the class that the file names, its arrays in memory.

    Raises
    ------
    ProductError
        The file is missing, not ASDF, not a product of this package, damaged, or written by a newer version.
    """
    if isinstance(source, ProductModel):
        return source
    path = Path(source)
    tree = read_tree(path)
    model = MODELS[tree["meta"]["model_type"]](tree)
    model.meta.filename = path.name
    return model


def read_tree(path, *, model_type=None):
    """Read a product's tree.

    Parameters
    ----------
    path : str or Path
    model_type : str, optional
        Name of the class that it must be.

    Returns
    -------
    dict
        Plain containers and ndarrays.

    Raises
    ------
    ProductError
        As `open`.
    """
    path = Path(path)
    data = _file_bytes(path)
    load_asdf_plugins()
    with (
        reading(path, "a product", ProductError),
        warnings.catch_warnings(),
        asdf.config_context() as config,
    ):
        # asdf warns of unknown tags and other versions; the checks here decide what is a product
        warnings.simplefilter("ignore")
        config.validate_on_read = False
        _check_blocks(path, data)
        _check_text(path, data)
        url = _check_kind(path, _inspect(path, asdf.util.load_yaml(io.BytesIO(data), tagged=True)), model_type)
        # from memory, so that nothing in the file can name another file to read
        with asdf.open(io.BytesIO(data), memmap=False, validate_checksums=True) as file:
            tree = _plain(path, file.tree)
        if not tree.get("history"):
            tree.pop("history", None)
        check_tree(tree, url, path)
    return tree


def _file_bytes(path):
    """Read the file, where it can be a product."""
    try:
        with path.open("rb") as file:
            head = file.read(5)
            if head != b"#ASDF":
                raise ProductError(f"{path}: {'empty file' if not head else 'not an ASDF file'}; products end in .asdf")
            size = os.fstat(file.fileno()).st_size
            if size > SIZE_MAX:
                raise ProductError(f"{path}: {size} bytes, a product has less than {SIZE_MAX}")
            return head + file.read()
    except OSError as error:
        raise ProductError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_text(path, data):
    """Refuse text that ends before its end or that would overflow the YAML parser's stack."""
    end = re.search(rb"\r?\n\.\.\.(\r?\n|$)", data)
    if end is None:
        raise ProductError(f"{path}: truncated: the end of the metadata is missing")
    depth = 0
    for event in yaml.parse(data[: end.end()], Loader=_EventLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH_MAX:
                raise ProductError(f"{path}: metadata nested more than {DEPTH_MAX} deep, which no product has")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _check_blocks(path, data):
    """Refuse array blocks that are cut off, or that would expand beyond any product's size."""
    position, total = data.find(BLOCK_MAGIC), 0
    while data[position : position + 4] == BLOCK_MAGIC and position >= 0:
        header = data[position + 4 : position + 54]
        if len(header) < 50:
            raise ProductError(f"{path}: truncated within an array's header")
        size, _, _, allocated, used, expanded = struct.unpack_from(">HI4sQQQ", header)
        position += 6 + size + allocated
        total += expanded
        # the last block may lack the padding that `allocated` counts
        if position - allocated + used > len(data):
            raise ProductError(f"{path}: truncated: an array of {used} bytes is cut off")
    if total > SIZE_MAX:
        raise ProductError(f"{path}: its arrays expand to {total} bytes, a product has less than {SIZE_MAX}")


def _inspect(path, tree):
    """Look through the metadata before anything is made of it.

    Every path to an entry counts, not every entry: YAML aliases let a small file expand without end.
    """
    pending, count = [tree], 0
    while pending:
        entry = pending.pop()
        count += 1
        if count > ENTRIES_MAX:
            raise ProductError(f"{path}: more than {ENTRIES_MAX} entries of metadata, which no product has")
        tag = getattr(entry, "_tag", None)
        if tag is not None and not tag.startswith(CORE_TAGS):
            raise ProductError(f"{path}: holds an object of the foreign kind {tag}")
        if isinstance(entry, dict):
            if "$ref" in entry or (tag and "/ndarray-" in tag and not isinstance(entry.get("source", 0), int)):
                raise ProductError(f"{path}: refers to another file; a product holds all its data itself")
            pending.extend(entry.values())
        elif isinstance(entry, list):
            pending.extend(entry)
    return tree


def _check_kind(path, tree, model_type):
    """Find the schema of the product, by the class and the version that the file names."""
    meta = tree.get("meta") if isinstance(tree, dict) else None
    found = meta.get("model_type") if isinstance(meta, dict) else None
    if not isinstance(found, str) or found not in MODELS or not isinstance(meta.get("eestep"), dict):
        raise ProductError(f"{path}: not a product of niriss_eestep (model type {str(found)[:60]})")
    if model_type not in (None, found, ProductModel.__name__):
        raise ProductError(f"{path}: holds {found}, expected {model_type}")
    url = MODELS[found].schema_url
    written = str(meta["eestep"].get("schema"))
    if written != url:
        raise ProductError(
            f"{path}: written by schema {written[:100]}, this version of niriss_eestep reads {url}; "
            + _remedy(written, url)
        )
    return url


def _remedy(written, url):
    """What to do about a schema of another version."""
    pattern = re.escape(url.rsplit("-", 1)[0]) + r"-(\d+)\.(\d+)\.(\d+)"
    versions = [re.fullmatch(pattern, name) for name in (written, url)]
    if versions[0] is None:
        return "the file is damaged or not ours"
    newer = tuple(map(int, versions[0].groups())) > tuple(map(int, versions[1].groups()))
    return "upgrade niriss_eestep" if newer else "make the product again"


def _plain(path, value):
    """Copy a tree into plain containers and native ndarrays, which outlive the file."""
    if isinstance(value, (NDArrayType, np.ndarray)):
        return _native(path, np.asarray(value))
    if isinstance(value, HistoryEntry):
        return HistoryEntry({key: _plain(path, entry) for key, entry in value.items()})
    if isinstance(value, dict):
        # asdf writes anew which library and extensions made a file
        return {key: _plain(path, entry) for key, entry in value.items() if key not in ("asdf_library", "extensions")}
    if isinstance(value, list):
        return [_plain(path, entry) for entry in value]
    return value


def _native(path, array):
    """Copy an array to memory, in native byte order."""
    if array.nbytes > SIZE_MAX:
        raise ProductError(f"{path}: an array of {array.nbytes} bytes, a product has less than {SIZE_MAX}")
    return array.astype(array.dtype.newbyteorder("="), order="C")


def write_atomically(path, data):
    """Write a file, whole or not at all.

    The bytes go to a hidden temporary file in the same directory, which then takes the file's place in one operation: a
    reader, or a run that is killed, never meets half a file.

    Parameters
    ----------
    path : str or Path
        A file that exists is replaced; a symbolic link is replaced, not followed.
    data : bytes

    Raises
    ------
    OutputError
        The directory is missing, cannot be written, or is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{_writer(os.getpid())}-{threading.get_ident()}.tmp")
    try:
        _remove_leftovers(path.parent.absolute())
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        # gone already where the replacement went well; else nothing is left behind, an interrupt included
        with contextlib.suppress(OSError):
            temporary.unlink()


def _writer(pid):
    """Name a process on this machine; the directory may be shared with others."""
    return f"{socket.gethostname()[:40]}-{pid}"


@cache
def _remove_leftovers(directory):
    """Remove temporary files whose writers were killed; once for each directory, which may hold many thousand files."""
    for leftover in directory.glob(".*.tmp"):
        found = re.search(r"-(\d+)-\d+\.tmp$", leftover.name)
        if found and f".{_writer(found[1])}-" in leftover.name and not _is_running(int(found[1])):
            leftover.unlink(missing_ok=True)


def _is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's, or no process number at all: not ours to judge
        return True
    return True


def save_product(model, path):
    """Validate a product and write it, whole or not at all.

    Parameters
    ----------
    model : ProductModel
    path : str or Path
        Its name ends in ``.asdf``.

    Returns
    -------
    Path

    Raises
    ------
    ProductError
        The product does not agree with its schema, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".asdf":
        raise ProductError(f"{path}: a product's name ends in .asdf")
    model.to_asdf(path)
    return path
