"""What the schemas say about arrays and table columns: names, data types, units, descriptions.

The schemas are the one place where these are written down; validation, tables and summaries read them from here.

Comparison of a product's tree with its schema.
"""

from collections import namedtuple
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from asdf import AsdfFile, get_config
from asdf.exceptions import ValidationError
from asdf.schema import get_validator, load_schema
from stdatamodels.schema import merge_property_trees

from niriss_eestep.errors import ProductError, reading

#: class of the data model: kind of product
KINDS = {
    "EEProfileModel": "ee_profile", "SBProfileModel": "sb_profile", "CombinedEEModel": "combined_ee",
    "CombinedSBModel": "combined_sb", "AbsFluxModel": "abs_flux",
}  # fmt: skip

#: kind of product: identifier of its current schema
SCHEMAS = {kind: f"asdf://niriss-eestep.org/schemas/{kind}-1.0.0" for kind in KINDS.values()}


#: what a schema says: its ``tree``, with the schemas that it refers to merged into one; by extension, keyword and path
#: in the tree, the entries that FITS ``keywords`` stand for; and by name, in its order, those of the ``arrays`` at the
#: top of a product, tables and lists of names included. Each of these has ``name``, ``title`` and ``description``;
#: ``unit``, as astropy reads it, empty for a number without unit; ``datatype``, a numpy data type, 'str' for unicode
#: strings of any length, 'table' for a structured array; ``axes``, what each dimension runs over ('radius', 'exposure',
#: 'group', 'ring', 'ring_edge'); ``columns``, the entries of a table's columns, by name
Schema = namedtuple("Schema", ("tree", "keywords", "arrays"))


@cache
def schema_of(url: str) -> Schema:
    """Load a schema, and list what it says about keywords and arrays.

    Loading costs 5 ms even from asdf's cache, which copies; every model of a class may share one tree.

    Parameters
    ----------
    url : str

    Returns
    -------
    Schema
        Not to be changed.
    """
    tree = merge_property_trees(load_schema(url, resolve_references=True))
    keywords: dict[tuple[str, str, tuple[str, ...]], dict[str, Any]] = {}
    waiting: list[tuple[Any, tuple[str, ...]]] = [(tree, ())]
    while waiting:
        schema, path = waiting.pop()
        if "fits_keyword" in schema:
            keywords.setdefault((schema.get("fits_hdu", "PRIMARY"), schema["fits_keyword"].upper(), path), schema)
        # in the schema's order
        waiting += [(part, (*path, key)) for key, part in reversed(schema.get("properties", {}).items())]
    arrays: dict[str, dict[str, Any]] = {}
    for name, entry in tree["properties"].items():
        if "axes" in entry:
            columns = {column["name"]: column for column in entry.get("columns", ())}
            datatype = "table" if columns else "str"
            arrays[name] = {"name": name, "unit": "", "datatype": datatype, "description": entry["title"]} | entry
            arrays[name] |= {"axes": tuple(entry["axes"]), "columns": columns}
    return Schema(tree, keywords, arrays)


def make_table(fields: dict[str, dict[str, Any]], rows: Sequence[Mapping[str, Any]] | np.ndarray) -> np.ndarray:
    """Make a structured array from rows.

    Parameters
    ----------
    fields : dict of str to dict
        The columns, as `Schema.arrays` has them.
    rows : sequence of mapping, or structured ndarray
        The rows; a column that a row lacks, or has as None, is filled with NaN, 0 or an empty string.

    Returns
    -------
    ndarray, shape (n_rows,)
        Structured, strings as unicode.

    Raises
    ------
    ProductError
        When a row has a column that the table does not know.
    """
    if isinstance(rows, np.ndarray):
        rows = [dict(zip(rows.dtype.names or (), row.tolist(), strict=True)) for row in rows]
    unknown = sorted({name for row in rows for name in row} - set(fields))
    if unknown:
        raise ProductError(f"no such column: {', '.join(unknown)}; the table has {', '.join(fields)}")
    columns, kinds = {}, []
    for name, field in fields.items():
        empty = {"float64": np.nan, "str": ""}.get(field["datatype"], 0)
        values = columns[name] = [empty if row.get(name) is None else row[name] for row in rows]
        longest = max((len(str(value)) for value in values), default=0) or 1
        kinds.append((name, f"U{longest}" if field["datatype"] == "str" else field["datatype"]))
    table = np.empty(len(rows), kinds)
    for name, values in columns.items():
        table[name] = values
    return table


def load_asdf_plugins() -> None:
    """Have asdf look up its plugins once.

    Within a configuration context, which its own writer opens, asdf keeps what it looks up for that context only: 25 ms
    for every file, unless the configuration outside has them.
    """
    config = get_config()
    _ = config.resource_manager, config.extensions


#: asdf's validator of a schema as it is written (the merged one keeps only one ``required`` of several);
#: `asdf.schema.validate` makes one for each tree, and one for each node of it: 2.0 ms a product instead of 0.9 ms
_validator = cache(lambda url: get_validator(load_schema(url, resolve_references=True), AsdfFile()))


def check_tree(tree: dict[str, Any], url: str, label: str | Path) -> None:
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
    with reading(label, "product", ProductError):
        try:
            _validator(url).validate(tree)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.absolute_path) or "tree"
            # jsonschema's message quotes the whole value
            raise ProductError(f"{label}: {where}: {error.message[-300:]}") from error
    lengths: dict[str, tuple[str, int]] = {}
    for name, field in schema_of(url).arrays.items():
        if name not in tree:  # one that the schema does not require
            continue
        value, axes, is_text = tree[name], field["axes"], field["datatype"] == "str"
        if not is_text and not isinstance(value, np.ndarray):
            raise ProductError(f"{label}: {name} must be an array, got {type(value).__name__}")
        shape = (len(value),) if is_text else value.shape
        if len(shape) != len(axes):
            wanted = f"{len(axes)} dimensions ({', '.join(axes)})"
            raise ProductError(f"{label}: {name} must have {wanted}, got {len(shape)}")
        kinds = [] if is_text else [(name, value.dtype, field["datatype"])]
        if columns := field["columns"]:
            names = value.dtype.names or ()
            if names != tuple(columns):
                missing = [column for column in columns if column not in names]
                unknown = [column for column in names if column not in columns]
                raise ProductError(
                    f"{label}: {name} must have the schema's columns in their order; missing {missing}, unknown "
                    f"{unknown}"
                )
            kinds = [(f"column {c} of {name}", value.dtype[c], columns[c]["datatype"]) for c in names]
        for what, kind, wanted in kinds:
            if kind.kind != "U" if wanted == "str" else kind != wanted:
                raise ProductError(f"{label}: {what} must be {wanted}, got {kind}")
        for axis, length in zip(axes, shape, strict=True):
            first, expected = lengths.setdefault(axis, (name, length))
            if length != expected:
                raise ProductError(f"{label}: {name} has {length} values along {axis}, {first} has {expected}")
    # one ring edge more than rings, or neither
    edges, rings = (lengths.get(axis, ("", 0))[1] for axis in ("ring_edge", "ring"))
    if "ring" in lengths and (edges or 1) != rings + 1:
        raise ProductError(f"{label}: {edges} edges of background rings do not belong to {rings} rings")


def fill_new_columns(tree: dict[str, Any], url: str) -> None:
    """Give the tables of an older file the columns that came later and have a default.

    Parameters
    ----------
    tree : dict
        As read, not yet checked; its tables are replaced where they lack such columns, and no others.
    url : str
        The schema.
    """
    for name, entry in schema_of(url).tree["properties"].items():
        table: Any = tree.get(name)
        columns = entry.get("columns", ()) if isinstance(table, np.ndarray) and table.dtype.names else ()
        new = {c["name"]: c["default"] for c in columns if "default" in c and c["name"] not in table.dtype.names}
        if new and table.dtype.names == tuple(c["name"] for c in columns if c["name"] not in new):
            dtype = [(c["name"], c["datatype"] if c["name"] in new else table.dtype[c["name"]]) for c in columns]
            tree[name] = np.empty(table.shape, dtype)
            for column in tree[name].dtype.names:
                tree[name][column] = new[column] if column in new else table[column]


#: numbers that a product holds twice agree to this, whatever computed them
SAME = 1e-6


def check_sense(tree: dict[str, Any], label: str | Path) -> None:
    """Reject the profiles of a file whose numbers contradict each other.

    Parameters
    ----------
    tree : dict
        A product that agrees with its schema.
    label : str
        What to call the product in messages.

    Raises
    ------
    ProductError
        Radii that do not rise, a rate without a positive error, a matrix that is not a covariance or not that of the
        errors, electron rates that are not gain times count rates, or nothing measured where the status says so.
    """
    radius = tree.get("radius")
    if radius is None:
        return
    if not (np.all(np.isfinite(radius)) and np.all(radius > 0) and np.all(np.diff(radius) > 0)):
        raise ProductError(f"{label}: radius: the radii must be finite, positive and rising")
    for name in ("count_rate", "electron_rate", "surface_brightness", "exposure_count_rate"):
        if name in tree:
            value, err = tree[name], tree.get(f"{name}_err")
            good = np.isfinite(value)
            if np.any(np.isinf(value)) or (err is not None and not np.all(np.isfinite(err[good]) & (err[good] >= 0))):
                raise ProductError(f"{label}: {name}: infinite values, or values without a finite, positive error")
    if {"count_rate", "electron_rate"} <= set(tree):
        # denormal numbers have few digits
        usable = np.isfinite(tree["count_rate"]) & (np.abs(tree["count_rate"]) > np.finfo(float).tiny)
        gain = tree["electron_rate"][usable] / tree["count_rate"][usable]
        if gain.size and not np.allclose(gain, gain[0], rtol=SAME):
            raise ProductError(f"{label}: electron_rate is not count_rate times one gain")
    rate = next((name for name in ("count_rate", "surface_brightness") if name in tree), None)
    failures = [part["failure"] for part in tree["meta"].values() if isinstance(part, dict) and "failure" in part]
    if rate and failures == [""] and not np.any(np.isfinite(tree[rate])):
        raise ProductError(f"{label}: {rate}: nothing was measured, though the product does not say that it failed")
    if rate and "covariance" in tree:
        _check_covariance(tree["covariance"], tree[f"{rate}_err"], f"{label}: covariance")


def _check_covariance(covariance: Any, err: Any, label: str) -> None:
    """A covariance is symmetric and positive semi-definite, and has the squared errors on its diagonal."""
    good = np.isfinite(np.diagonal(covariance))
    found = covariance[np.ix_(good, good)]
    scale = np.max(np.abs(found), initial=0.0)
    if not np.all(np.isfinite(found)) or np.any(np.abs(found - found.T) > SAME * scale):
        raise ProductError(f"{label}: not symmetric, or not finite")
    if np.any(np.abs(np.diagonal(found) - err[good] ** 2) > SAME * err[good] ** 2):
        raise ProductError(f"{label}: its diagonal is not the square of the errors")
    if scale and np.linalg.eigvalsh(found / scale)[0] < -SAME:
        raise ProductError(f"{label}: not positive semi-definite")
