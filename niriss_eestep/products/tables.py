"""Products as tables, and tables as files of other formats."""

import io
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.table import Column, QTable, Table
from astropy.units import Quantity, Unit

from niriss_eestep.errors import ProductError, printable
from niriss_eestep.products.columns import SCHEMAS, schema_of
from niriss_eestep.products.regions import ds9_regions

# The columns that a paper's table of the absolute flux calibration has; a column's error goes with it
LATEX_COLUMNS = (
    "target", "filter", "subarray", "n_measured", "electron_rate", "ratio", "photmjsr", "zeropoint_ab", "pivot",
)  # fmt: skip


#: shown first, where a table has a ratio; and the formats of columns that six digits do not suit
_FIRST = ("target", "filter", "subarray", "ratio", "ratio_err")
_SHOWN = {"ratio": ".5f", "ratio_err": ".5f", "zeropoint_ab": ".4f", "mjd": ".5f"}


def in_digits(value: Any, style: str) -> str:
    """Write a number in a format; one of two digits, ``.2g``, without exponent where it can be.

    Parameters
    ----------
    value : object
    style : str

    Returns
    -------
    str
    """
    if value is np.ma.masked:  # astropy tries a format out on it
        return "--"
    return f"{float(f'{value:.2g}'):g}" if style == ".2g" else format(value, style)


class ProductTable(QTable):
    """A table that is shown with the digits that matter, the ratio first, and written with all of them in its order."""

    def shown(self) -> Table:
        """Give a plain table of it, as it is shown.

        Returns
        -------
        astropy.table.Table
        """
        names = sorted(self.colnames, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
        shown = Table(self[names] if "ratio" in names else self)
        for name in shown.colnames:
            if shown[name].dtype.kind == "f":
                style = _SHOWN.get(name, ".2g" if name.endswith("_err") else ".6g")
                shown[name].info.format = partial(in_digits, style=style)
        return shown

    def __str__(self) -> str:
        return str(self.shown())

    def __repr__(self) -> str:
        return repr(self.shown())

    def _repr_html_(self) -> str:
        return self.shown()._repr_html_()


def product_table(model: Any, name: str = "table") -> ProductTable:
    """Give a product as a table with units.

    Parameters
    ----------
    model : ProductModel
    name : str, optional
        Which table: 'table', the profile or the groups; 'exposures', of combined products and absolute flux, one row
        per exposure.

    Returns
    -------
    astropy.table.QTable
        Of a profile, every array that runs over the radii alone is a column, value and error first; numbers without
        unit are plain columns.

    Raises
    ------
    ProductError
        The product has no such table.
    """
    meta = {"product": printable(model.meta.filename or ""), "title": schema_of(model.schema_url).tree["title"]}
    record = model._instance["meta"].get(model.meta_key, {})
    meta |= {key: printable(value) if isinstance(value, str) else value for key, value in record.items()}
    meta.pop("warnings", None)  # the status has them
    table = ProductTable(meta=meta)
    for field, values in _columns(model, name):
        column = field["name"] if name == "table" else field["name"].removeprefix("exposure_")
        if values.dtype.kind == "U":
            values = [printable(value) for value in values]
        table[column] = Quantity(values, field["unit"]) if field["unit"] else Column(values)
        table[column].info.description = field["description"]
    return table


def _columns(model: Any, name: str) -> list[tuple[dict[str, Any], Any]]:
    """Fields and values of a table's columns."""
    fields = schema_of(model.schema_url).arrays
    if name in fields:
        return [(field, model[name][column]) for column, field in fields[name]["columns"].items()]
    if name == "table":
        first = ["radius", "radius_arcsec", model.y_name, f"{model.y_name}_err"]
        ordered = sorted(fields, key=lambda key: first.index(key) if key in first else len(first))
        return [(fields[k], model[k]) for k in ordered if fields[k]["axes"] == ("radius",) and k in model._instance]
    if name == "exposures" and model.meta_key == "group":
        arrays = [field for field in fields.values() if field["axes"] == ("exposure",)]
        arrays.sort(key=lambda field: field["datatype"] != "str")
        return [(field, np.array(model._instance[field["name"]])) for field in arrays]
    raise ProductError(f"{model.meta.filename}: {type(model).__name__} has no table of {name}")


def export(
    model: Any, form: str, *, table: str = "table", columns: Sequence[str] | None = None, target: str | None = None,
    subarray: str | None = None,
) -> bytes:  # fmt: skip
    """Write a product in another format.

    Parameters
    ----------
    model : ProductModel
    form : str
        One of `FORMATS`: 'ecsv', 'csv', 'fits', 'votable', 'latex'; 'ds9', the regions of one exposure's profile; and
        the tables of the earlier analysis scripts: 'radtab' of one exposure's profile, 'avtab' of a group's,
        'totfluxes' of the absolute flux calibration.
    table : str, optional
        As `product_table`'s name.
    columns : sequence of str, optional
        Columns to write; all by default. Not for the tables of the earlier scripts.
    target, subarray : str, optional
        Rows of the absolute flux calibration to write; all by default.

    Returns
    -------
    bytes

    Raises
    ------
    ProductError
        The product has no such table, column or row, or no such format exists for it.

    Examples
    --------
    >>> profile = products.open("jw01094001001_02101_00001_nis_eeprofile.asdf")
    >>> Path("stamp.reg").write_bytes(export(profile, "ds9"))
    """
    if form not in FORMATS:
        raise ProductError(f"no such format: {form}; choose from {', '.join(FORMATS)}")
    if form == "ds9":
        return ds9_regions(model).encode()
    found = _rows(product_table(model, table), target=target, subarray=subarray)
    if form in _OLD:
        if columns or table != "table":
            raise ProductError(f"{form} has columns of its own")
        return _old_table(model, form, found)
    missing = [name for name in columns or () if name not in found.colnames]
    if missing:
        raise ProductError(f"no such column: {', '.join(missing)}; the table has {', '.join(found.colnames)}")
    return FORMATS[form](found[list(columns)] if columns else found)


def _rows(table: ProductTable, **wanted: str | None) -> ProductTable:
    """Rows of the wanted target and subarray."""
    for name, value in wanted.items():
        if value is None:
            continue
        if name not in table.colnames:
            raise ProductError(f"the table has no {name} to choose by")
        table = table[[str(cell).upper() == value.upper() for cell in table[name]]]
        if not len(table):
            raise ProductError(f"no row has the {name} {value}")
    return table


def _ecsv(table: Table) -> bytes:
    # plain columns with units: what reads ECSV need not know astropy's quantities
    return as_bytes(Table(table), format="ascii.ecsv")


def _csv(table: Table) -> bytes:
    """Names in the first line; CSV has no place for units, which the ECSV has."""
    # a spreadsheet would take text that begins like this for a formula
    table, formula = Table(table), ("=", "+", "-", "@", "\t", "\r")
    for name in table.colnames:
        if table[name].dtype.kind == "U":
            table[name] = ["'" * text.startswith(formula) + text for text in table[name]]
    return as_bytes(table, format="ascii.csv")


def _fits(table: Table) -> bytes:
    """One binary table."""
    plain = _with_standard_units(table)
    plain.meta = {key.upper(): _card(value) for key, value in table.meta.items()}
    for name in plain.colnames:
        if plain[name].dtype.kind == "U":
            plain[name] = [_card(value, 500) for value in plain[name]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # keys of more than 8 letters become HIERARCH cards
        hdu = fits.table_to_hdu(plain, name="TABLE")
    hdu.header.add_comment(_UNITS)
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    return buffer.getvalue()


def _votable(table: Table) -> bytes:
    """A table of the Virtual Observatory, with descriptions and units."""
    plain = _with_standard_units(table)
    plain.meta = {"description": f"{table.meta['title']}: {table.meta['product']}. {_UNITS}"}
    buffer = io.BytesIO()
    # astropy's faster writer puts a byte behind its buffer where a row has 256, 512, ... bytes (astropy issue 20419)
    from_table(plain).to_xml(buffer, _debug_python_based_parser=True)
    return buffer.getvalue()


_UNITS = "Of the units, adu stands for DN and ct for electrons: the standard has neither."


def _with_standard_units(table: Table) -> Table:
    """A plain table with units as FITS and the Virtual Observatory have them."""
    plain = Table(table)
    for column in plain.itercols():
        unit = str(column.unit or "").replace("DN", "adu").replace("electron", "ct")
        column.unit = Unit(unit) if unit else None
    return plain


def _card(value: Any, length: int = 40) -> Any:
    """Give a value as FITS can hold it: ASCII, no NaN in headers."""
    if isinstance(value, str):
        return value.encode("ascii", "backslashreplace").decode()[:length]
    return str(value) if value != value else value


def _latex(table: Table) -> bytes:
    """A table to put into a paper: values with their errors, names and units in a header."""
    wanted = [name for name in LATEX_COLUMNS if name in table.colnames]
    if len(wanted) < 3 or len(table.colnames) <= len(LATEX_COLUMNS):
        wanted = [n for n in table.colnames if n[-4:] != "_err" or n.removesuffix("_err") not in table.colnames]
    units = [Unit(table[name].unit).to_string("latex_inline") if table[name].unit else "" for name in wanted]
    cells = {_latex_text(name): [_latex_cell(row, name) for row in table] for name in wanted}
    style = {"tabletype": None, "units": dict(zip(cells, units, strict=True)), "col_align": "l" * len(wanted)}
    style |= dict.fromkeys(("header_start", "header_end", "data_end"), r"\hline")
    return as_bytes(Table(cells), format="ascii.latex", latexdict=style)


def _latex_cell(row: Any, name: str) -> str:
    """A value, with its error where the table has one, to the error's second digit."""
    value = getattr(row[name], "value", row[name])
    if isinstance(value, str):
        return _latex_text(value)
    if isinstance(value, (int, np.integer)):
        return str(value)
    err = row[f"{name}_err"] if f"{name}_err" in row.colnames else np.nan
    err = float(getattr(err, "value", err))
    if not np.isfinite(value):
        return "--"
    if not (np.isfinite(err) and err > 0):
        return f"{value:.6g}"
    digits = max(0, 1 - int(np.floor(np.log10(err))))
    return rf"${value:.{digits}f} \pm {err:.{digits}f}$"


def _latex_text(text: str) -> str:
    special = {c: f"\\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special["\\"] = r"\textbackslash{}"
    return "".join(special.get(c, c) for c in text)


def as_bytes(table: Table, **kwargs: Any) -> bytes:
    """Write a table as text.

    Parameters
    ----------
    table : astropy.table.Table
    **kwargs
        Of `astropy.table.Table.write`.

    Returns
    -------
    bytes
    """
    buffer = io.StringIO()
    table.write(buffer, **kwargs)
    return buffer.getvalue().encode()


# The tables of the earlier scripts. Names, order and units of the columns are theirs (rates in e-/s, surface brightness
# in DN/s/pix; no comment lines), so that what reads those tables reads these.


#: name, format and values of the columns of a table
Columns = Iterator[tuple[str, str, Any]]


def _old_table(model: Any, form: str, found: Table) -> bytes:
    makers = _OLD[form]
    if model.kind not in makers:
        kinds = " or ".join(schema_of(SCHEMAS[kind]).tree["title"] for kind in makers)
        raise ProductError(f"{model.meta.filename}: {form} is of another kind of product: {kinds}")
    table = Table()
    for name, style, values in makers[model.kind](model, found):
        table[name] = values
        table[name].info.format = style
    return as_bytes(table, format="ascii.fixed_width", delimiter=None)


def _radtab(model: Any, _: Any) -> Columns:
    yield "Radius", "6g", model.radius
    if model.kind == "ee_profile":
        yield "Rad_arcsec", "10.4f", model.radius_arcsec
        yield "CountRate", "12.4e", model.electron_rate
        yield "errCountRate", "12.4e", model.electron_rate_err
    else:
        yield "SB", "11.5f", model.surface_brightness
        yield "errSB", "11.5f", model.surface_brightness_err


def _avtab(model: Any, _: Any) -> Columns:
    yield "Rad_Pix", "7g", model.radius
    is_ee = model.kind == "combined_ee"
    if is_ee:
        yield "Arcsec", "10.4f", model.radius * model.meta.group.pixel_scale
    ee, sb = ("Flux", "avFlux", "13.4e", model.meta.group.gain), ("sb", "av_sb", "10.5f", 1)
    name, mean, style, scale = ee if is_ee else sb
    values, errors = (scale * model[f"exposure_{model.y_name}{part}"] for part in ("", "_err"))
    for i in range(len(values)):
        yield f"{name}{i}", style, values[i]
        yield f"{name}err{i}", style, errors[i]
        if is_ee:
            yield f"Flag{i}", "5d", model.exposure_flag[i]
    yield mean, style, scale * model[model.y_name]
    yield f"{mean}err", style, scale * model[f"{model.y_name}_err"]
    if is_ee:
        yield "n_Good", "5d", model.n_good


def _totfluxes(_: Any, found: Table) -> Columns:
    for name in ("target", "subarray"):
        values = sorted(set(found[name].tolist()))
        if len(values) > 1:
            raise ProductError(f"totfluxes is of one {name}, choose --{name} from {', '.join(values)}")
    yield "Filter", "", [name.lower() for name in found["filter"]]
    yield "CountRate", "12.3e", found["electron_rate"].value
    yield "CountRateErr", "12.3e", found["electron_rate_err"].value


_OLD: dict[str, dict[str, Any]] = {
    "radtab": dict.fromkeys(("ee_profile", "sb_profile"), _radtab),
    "avtab": dict.fromkeys(("combined_ee", "combined_sb"), _avtab),
    "totfluxes": {"abs_flux": _totfluxes},
}
FORMATS: dict[str, Any] = {"ecsv": _ecsv, "csv": _csv, "fits": _fits, "votable": _votable, "latex": _latex}
FORMATS |= dict.fromkeys(("ds9", *_OLD))
