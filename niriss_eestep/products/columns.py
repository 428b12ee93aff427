"""What the schemas say about arrays and table columns: names, data types, units, descriptions.

The schemas are the one place where these are written down; validation, tables and summaries read them from here.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from asdf.schema import load_schema
from stdatamodels.schema import merge_property_trees

from niriss_eestep.errors import ProductError

SCHEMA_BASE = "asdf://niriss-eestep.org/schemas/"
VERSION = "1.0.0"

#: class of the data model: kind of product
KINDS = {
    "EEProfileModel": "ee_profile", "SBProfileModel": "sb_profile", "CombinedEEModel": "combined_ee",
    "CombinedSBModel": "combined_sb", "AbsFluxModel": "abs_flux",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """An array of a product, or a column of one of its tables.

    Parameters
    ----------
    name : str
    datatype : str
        Name of a numpy data type; 'str' for unicode strings of any length, 'table' for a structured array.
    unit : str
        Unit as astropy reads it; empty for a number without unit.
    axes : tuple of str
        What each dimension runs over: 'radius', 'exposure', 'group', 'ring', 'ring_edge'.
    title, description : str
        Meaning, short and in full.
    """

    name: str
    datatype: str
    unit: str
    axes: tuple[str, ...]
    title: str
    description: str


def schema_url(kind):
    """Identifier of the current schema of one kind of product.

    Parameters
    ----------
    kind : str
        'ee_profile', 'sb_profile', 'combined_ee', 'combined_sb' or 'abs_flux'.

    Returns
    -------
    str
    """
    return f"{SCHEMA_BASE}{kind}-{VERSION}"


@cache
def merged_schema(url):
    """Load a schema, with the schemas that it refers to merged into one tree of properties.

    Loading costs 5 ms even from asdf's cache, which copies; every model of a class may share one tree.

    Parameters
    ----------
    url : str

    Returns
    -------
    dict
        Not to be changed.
    """
    return merge_property_trees(load_schema(url, resolve_references=True))


@cache
def keywords(url):
    """List the metadata that FITS keywords stand for.

    Parameters
    ----------
    url : str
        The schema.

    Returns
    -------
    dict of (str, str, tuple of str) to dict
        Schema of each entry by extension, keyword and path in the tree.
    """
    found, waiting = {}, [(merged_schema(url), ())]
    while waiting:
        schema, path = waiting.pop()
        if "fits_keyword" in schema:
            found.setdefault((schema.get("fits_hdu", "PRIMARY"), schema["fits_keyword"].upper(), path), schema)
        # in the schema's order
        waiting += [(part, (*path, key)) for key, part in reversed(schema.get("properties", {}).items())]
    return found


@cache
def array_fields(url):
    """List the arrays at the top of a product's tree.

    Parameters
    ----------
    url : str
        The schema.

    Returns
    -------
    dict of str to Field
        In the order of the schema; tables and lists of names included.
    """
    found = {}
    for name, entry in merged_schema(url)["properties"].items():
        if "axes" in entry:
            datatype, title = "table" if "columns" in entry else entry.get("datatype", "str"), entry["title"]
            text = entry.get("description", title)
            found[name] = Field(name, datatype, entry.get("unit", ""), tuple(entry["axes"]), title, text)
    return found


@cache
def table_fields(url, table):
    """List the columns of a table.

    Parameters
    ----------
    url : str
        The schema.
    table : str
        Name of the table in the tree.

    Returns
    -------
    dict of str to Field
        In the table's order.
    """
    entry = merged_schema(url)["properties"][table]
    axes, columns = tuple(entry["axes"]), entry["columns"]
    return {
        c["name"]: Field(c["name"], c["datatype"], c["unit"], axes, c["description"], c["description"]) for c in columns
    }


def make_table(fields, rows):
    """Make a structured array from rows.

    Parameters
    ----------
    fields : dict of str to Field
        The columns.
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
        rows = [dict(zip(rows.dtype.names, row.tolist(), strict=True)) for row in rows]
    unknown = sorted({name for row in rows for name in row} - set(fields))
    if unknown:
        raise ProductError(f"no such column: {', '.join(unknown)}; the table has {', '.join(fields)}")
    columns, kinds = {}, []
    for name, field in fields.items():
        empty = {"float64": np.nan, "str": ""}.get(field.datatype, 0)
        values = columns[name] = [empty if row.get(name) is None else row[name] for row in rows]
        longest = max((len(str(value)) for value in values), default=0) or 1
        kinds.append((name, f"U{longest}" if field.datatype == "str" else field.datatype))
    table = np.empty(len(rows), kinds)
    for name, values in columns.items():
        table[name] = values
    return table
