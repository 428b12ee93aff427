"""Products as tables."""

from __future__ import annotations

from astropy.table import Column, QTable
from astropy.units import Quantity

from niriss_eestep.products.columns import array_fields, table_fields

__all__ = ["product_table"]


def product_table(model, name="table"):
    """Give a product as a table with units.

    Parameters
    ----------
    model : ProductModel
    name : str, optional
        Which table, of a product that has tables: 'table' (groups) or 'exposures'.

    Returns
    -------
    astropy.table.QTable
        Of a profile, every array that runs over the radii alone is a column; of a table, each of its columns. Numbers
        without unit are plain columns.
    """
    fields = array_fields(model.schema_url)
    if name in fields and fields[name].datatype == "table":
        array = model[name]
        columns = {column: (field, array[column]) for column, field in table_fields(model.schema_url, name).items()}
    else:
        columns = {key: (field, model[key]) for key, field in fields.items() if field.axes == ("radius",)}
    table = QTable(meta={"kind": model.kind, "filename": model.meta.filename or ""})
    for key, (field, values) in columns.items():
        table[key] = _column(field, values)
        table[key].info.description = field.description
    return table


def _column(field, values):
    if field.unit:
        return Quantity(values, field.unit)
    return Column(values)
