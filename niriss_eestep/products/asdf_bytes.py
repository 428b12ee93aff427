"""A product's tree as the bytes of an ASDF file.

`asdf` validates what it writes node by node, against schemas that it parses anew for each file: 12 ms of the 16 ms that
a product takes, while measuring the exposure takes 15 ms. A product has been compared with its own schema by then, and
holds nothing but text, numbers, containers and arrays, so that writing needs only what is here. The tests read it back
with `asdf`, its validation included.
"""

import hashlib
import io
import struct

import numpy as np
import yaml
from asdf.tagged import TaggedDict, TaggedList
from asdf.yamlutil import AsdfDumper

from niriss_eestep.products.provenance import SOFTWARE

# ASDF standard 1.6.0: layout of the file, of a block, and the tags of the tree
TAGS = "tag:stsci.edu:asdf/"
COMMENTS = b"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n"
ROOT_TAG, SOFTWARE_TAG, ARRAY_TAG = (f"{TAGS}core/{name}" for name in ("asdf-1.1.0", "software-1.0.0", "ndarray-1.1.0"))
BLOCK_MAGIC = b"\xd3BLK"
INDEX_HEADER = b"#ASDF BLOCK INDEX\n%YAML 1.1\n"
BLOCK_HEADER = struct.Struct(">I4sQQQ16s")  # flags, compression, allocated, used, data size, MD5

SOFTWARE_NODE = TaggedDict({"name": "niriss_eestep", "version": SOFTWARE["niriss_eestep"]}, SOFTWARE_TAG)

SCALARS = (str, bool, int, float, np.bool_, np.integer, np.floating)
DATATYPES = {np.dtype(kind).str[1:]: kind for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")}
DATATYPES |= {np.dtype(kind).str[1:]: kind for kind in ("uint64", "float32", "float64")} | {"b1": "bool8"}


def asdf_bytes(tree):
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
    blocks = []
    try:
        content = {"asdf_library": SOFTWARE_NODE} | _plain(tree, blocks)
    except _NOT_PLAIN:
        return None
    buffer = io.BytesIO()
    buffer.write(COMMENTS)
    yaml.dump_all(
        [TaggedDict(content, ROOT_TAG)],
        stream=buffer,
        Dumper=AsdfDumper,
        explicit_start=True,
        explicit_end=True,
        version=(1, 1),
        allow_unicode=True,
        encoding="utf-8",
        tags={"!": TAGS},
    )
    offsets = []
    for data in blocks:
        offsets.append(buffer.tell())
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        header = BLOCK_HEADER.pack(0, b"\0" * 4, len(data), len(data), len(data), digest)
        buffer.write(BLOCK_MAGIC + struct.pack(">H", len(header)) + header)
        buffer.write(data)
    if offsets:
        buffer.write(INDEX_HEADER + yaml.safe_dump(offsets, explicit_start=True, explicit_end=True).encode())
    return buffer.getvalue()


#: what a tree raises that holds something else
_NOT_PLAIN = (KeyError, NotImplementedError)


def _plain(value, blocks):
    """Copy a tree, with its arrays put into blocks: in C order, whatever the array's order and stride."""
    if type(value) is dict:
        return {key: _plain(entry, blocks) for key, entry in value.items() if entry is not None}
    if type(value) in (list, tuple):
        return [_plain(entry, blocks) for entry in value if entry is not None]
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, SCALARS):
        return value
    if type(value) is not np.ndarray:
        raise NotImplementedError(type(value))
    node = {"source": len(blocks), **_datatype(value.dtype), "shape": TaggedList(list(value.shape), None)}
    blocks.append(value.tobytes())
    tagged = TaggedDict(node, ARRAY_TAG)
    tagged.property_order = list(node)
    return tagged


def _datatype(dtype):
    """Name a data type and its byte order as ASDF does."""
    if dtype.names is not None:
        kind = [{"name": name, **_datatype(dtype[name])} for name in dtype.names]
    else:
        kind = ["ucs4", dtype.itemsize // 4] if dtype.kind == "U" else DATATYPES[dtype.str[1:]]
    return {"datatype": kind, "byteorder": "big" if dtype.str[0] == ">" else "little"}
