"""Comparison of a product's tree with its schema."""

from __future__ import annotations

from functools import cache

import numpy as np
from asdf import AsdfFile, get_config
from asdf.exceptions import ValidationError
from asdf.schema import load_schema, validate

from niriss_eestep.errors import ProductError, reading
from niriss_eestep.products.columns import array_fields, table_fields

__all__ = ["check_tree", "load_asdf_plugins"]


def load_asdf_plugins():
    """Have asdf look up its plugins once.

    Within a configuration context, which its own writer opens, asdf keeps what it looks up for that context only: 25 ms
    for every file, unless the configuration outside has them.
    """
    config = get_config()
    _ = config.resource_manager, config.extensions


@cache
def _rules(url):
    """The schema as it is written; the merged one keeps only one ``required`` of several."""
    return load_schema(url, resolve_references=True), AsdfFile()


def check_tree(tree, url, label):
    """Compare a tree with a schema, and the lengths of its arrays with each other.

    Parameters
    ----------
    tree : dict
        Plain containers and ndarrays, without None.
    url : str
        The schema.
    label : str
        What to call the product in messages.

    Raises
    ------
    ProductError
        Names the entry and what is wrong with it.
    """
    schema, context = _rules(url)
    with reading(label, "a product", ProductError):
        try:
            validate(tree, context, schema=schema)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.absolute_path) or "tree"
            # jsonschema's message quotes the whole value
            raise ProductError(f"{label}: {where}: {error.message[-300:]}") from error
    lengths = {}
    for name, field in array_fields(url).items():
        if name not in tree:  # one that the schema does not require
            continue
        shape = _checked_shape(tree[name], field, url, label)
        for axis, length in zip(field.axes, shape, strict=True):
            first, expected = lengths.setdefault(axis, (name, length))
            if length != expected:
                raise ProductError(f"{label}: {name} has {length} values along {axis}, {first} has {expected}")
    _check_rings(lengths, label)


def _checked_shape(value, field, url, label):
    """Shape of an array, table or list, after a look at its kind."""
    if field.datatype == "str":
        return (len(value),)
    if not isinstance(value, np.ndarray):
        raise ProductError(f"{label}: {field.name} must be an array, got {type(value).__name__}")
    if value.ndim != len(field.axes):
        raise ProductError(
            f"{label}: {field.name} must have {len(field.axes)} dimensions ({', '.join(field.axes)}), got {value.ndim}"
        )
    if field.datatype == "table":
        _check_columns(field.name, value.dtype, url, label)
    elif value.dtype != np.dtype(field.datatype):
        raise ProductError(f"{label}: {field.name} must be {field.datatype}, got {value.dtype}")
    return value.shape


def _check_columns(table, dtype, url, label):
    """Compare a table's columns with the schema's."""
    fields = table_fields(url, table)
    names = dtype.names or ()
    if names != tuple(fields):
        missing = [name for name in fields if name not in names]
        unknown = [name for name in names if name not in fields]
        raise ProductError(
            f"{label}: {table} must have the schema's columns in their order; missing {missing}, unknown {unknown}"
        )
    for name, field in fields.items():
        good = dtype[name].kind == "U" if field.datatype == "str" else dtype[name] == np.dtype(field.datatype)
        if not good:
            raise ProductError(f"{label}: column {name} of {table} must be {field.datatype}, got {dtype[name]}")


def _check_rings(lengths, label):
    """There is one ring edge more than rings, or neither."""
    if "ring" in lengths:
        edges, rings = lengths["ring_edge"][1], lengths["ring"][1]
        if (edges or 1) != rings + 1:
            raise ProductError(f"{label}: {edges} edges of background rings do not belong to {rings} rings")
