"""Reading and writing products: nothing but whole files, nothing executed, nothing followed.

A product's tree as the bytes of an ASDF file.

`asdf` validates what it writes node by node, against schemas that it parses anew for each file: 12 ms of the 16 ms that
a product takes, while measuring the exposure takes 15 ms. A product has been compared with its own schema by then, and
holds nothing but text, numbers, containers and arrays, so that writing needs only what is here. The tests read it back
with `asdf`, its validation included.
"""

import contextlib
import hashlib
import io
import os
import re
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from asdf.tagged import TaggedDict, TaggedList
from asdf.tags.core.ndarray import numpy_dtype_to_asdf_datatype
from asdf.yamlutil import AsdfDumper

from niriss_eestep.errors import OutputError, ProductError
from niriss_eestep.products.columns import KINDS, SCHEMAS, check_sense, check_tree, fill_new_columns
from niriss_eestep.products.metadata import SOFTWARE
from niriss_eestep.reference.guards import read_asdf

# ASDF standard 1.6.0: layout of the file, of a block, and the tags of the tree
TAGS = "tag:stsci.edu:asdf/"
COMMENTS = b"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n"
ROOT_TAG, SOFTWARE_TAG, ARRAY_TAG = (f"{TAGS}core/{name}" for name in ("asdf-1.1.0", "software-1.0.0", "ndarray-1.1.0"))
BLOCK_MAGIC = b"\xd3BLK"
INDEX_HEADER = b"#ASDF BLOCK INDEX\n%YAML 1.1\n"
BLOCK_HEADER = struct.Struct(">I4sQQQ16s")  # flags, compression, allocated, used, data size, MD5

SOFTWARE_NODE = TaggedDict({"name": "niriss_eestep", "version": SOFTWARE["niriss_eestep"]}, SOFTWARE_TAG)

SCALARS = (str, bool, int, float, np.bool_, np.integer, np.floating)


def asdf_bytes(tree: dict[str, Any]) -> bytes | None:
    """Write a tree of plain containers and arrays.

    Parameters
    ----------
    tree : dict
        Entries that are None are left out.

    Returns
    -------
    bytes or None
        None where the tree holds anything else, which `asdf` itself can perhaps write.
    """
    blocks: list[bytes] = []
    try:
        content = {"asdf_library": SOFTWARE_NODE} | copy_tree(tree, blocks)
    except (NotImplementedError, ValueError):  # of an object, or an array of them
        return None
    buffer = io.BytesIO()
    buffer.write(COMMENTS)
    yaml.dump_all(
        [TaggedDict(content, ROOT_TAG)], buffer, Dumper=AsdfDumper, version=(1, 1), tags={"!": TAGS}, encoding="utf-8",
        explicit_start=True, explicit_end=True, allow_unicode=True,
    )  # fmt: skip
    offsets = []
    for data in blocks:
        offsets.append(buffer.tell())
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        header = BLOCK_HEADER.pack(0, b"\0" * 4, len(data), len(data), len(data), digest)
        buffer.write(BLOCK_MAGIC + struct.pack(">H", len(header)) + header)
        buffer.write(data)
    if offsets:
        buffer.write(INDEX_HEADER + b"---\n" + b"".join(b"- %d\n" % offset for offset in offsets) + b"...\n")
    return buffer.getvalue()


def copy_tree(value: Any, blocks: list[bytes] | None = None) -> Any:
    """Copy the containers of a tree, without the entries that are None: they are not written.

    Parameters
    ----------
    value : object
        A tree, or a part of one.
    blocks : list of bytes, optional
        Takes the arrays, in C order whatever their order and stride, and nothing but numbers and text may be left;
        without it they stay in the tree, as all else.

    Returns
    -------
    object

    Raises
    ------
    NotImplementedError
        Of what ``blocks`` leave that is neither.
    """
    if type(value) is dict:
        return {key: copy_tree(entry, blocks) for key, entry in value.items() if entry is not None}
    if type(value) in (list, tuple):
        return [copy_tree(entry, blocks) for entry in value if entry is not None]
    if blocks is None:
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, SCALARS):
        return value
    if type(value) is not np.ndarray:
        raise NotImplementedError(type(value))
    kind, order = numpy_dtype_to_asdf_datatype(value.dtype)
    node = {"source": len(blocks), "datatype": kind, "byteorder": order, "shape": TaggedList(list(value.shape), None)}
    blocks.append(value.tobytes())
    tagged = TaggedDict(node, ARRAY_TAG)
    tagged.property_order = list(node)
    return tagged


#: names this machine in temporary files, since others may share the directory
HOST = socket.gethostname()[:40]

#: directories without leftovers of writers that were killed
_tidied: set[Path] = set()


def read_tree(path: str | Path, *, model_type: str | None = None) -> dict[str, Any]:
    """Read a product's tree.

    Parameters
    ----------
    path : str or Path
    model_type : str, optional
        Name of the class that it must be.

    Returns
    -------
    dict
        Plain containers and ndarrays, with the name that the file has now.

    Raises
    ------
    ProductError
        The file is missing, not ASDF, not a product of this package, damaged, or written by a newer version.
    """
    path = Path(path)
    tree = read_asdf(path, "product", ProductError)
    meta: Any = tree.get("meta")
    found = str(meta.get("model_type")) if isinstance(meta, dict) else ""
    if found not in KINDS or not isinstance(meta.get("eestep"), dict):
        raise ProductError(f"{path}: not a product of niriss_eestep (model type {str(found)[:60]})")
    if model_type not in (None, found, "ProductModel"):
        raise ProductError(f"{path}: holds {found}, expected {model_type}")
    url, written = SCHEMAS[KINDS[found]], str(meta["eestep"].get("schema"))
    if written != url:
        remedy = "the file is damaged or not ours"
        if re.fullmatch(re.escape(url.rpartition("-")[0]) + r"-\d+\.\d+\.\d+", written):
            newer, ours = (tuple(map(int, name.rpartition("-")[2].split("."))) for name in (written, url))
            remedy = "upgrade niriss_eestep" if newer > ours else "make the product again"
        raise ProductError(
            f"{path}: written by schema {written[:100]}, this version of niriss_eestep reads {url}; {remedy}"
        )
    if not tree.get("history"):
        tree.pop("history", None)
    fill_new_columns(tree, url)
    check_tree(tree, url, path)
    check_sense(tree, path)
    tree["meta"]["filename"] = path.name
    return tree


def write_atomically(path: str | Path, data: bytes) -> None:
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
    temporary = path.with_name(f".{path.name}.{HOST}-{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        # temporary files whose writers were killed; once for each directory, which may hold many thousand files
        directory = path.parent.absolute()
        for leftover in () if directory in _tidied else directory.glob(".*.tmp"):
            found = re.search(r"-(\d+)-\d+\.tmp$", leftover.name)
            if found and f".{HOST}-{found[1]}-" in leftover.name and not _is_running(int(found[1])):
                leftover.unlink(missing_ok=True)
        _tidied.add(directory)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        # gone already where the replacement went well; else nothing is left behind, an interrupt included
        with contextlib.suppress(OSError):
            temporary.unlink()


def _is_running(pid: int) -> bool:
    with contextlib.suppress(PermissionError, OverflowError):  # another user's, or no process number: not ours to judge
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True
