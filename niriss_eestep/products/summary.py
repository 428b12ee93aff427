"""Products in words, for terminals and notebooks."""

from functools import partial
from typing import Any

import numpy as np
from astropy.table import Column, Table

from niriss_eestep.errors import printable
from niriss_eestep.products.columns import schema_of
from niriss_eestep.products.metadata import error_terms, group_of, not_included, verdict
from niriss_eestep.products.tables import in_digits

# Columns of the absolute-flux table that a summary shows
ABS_FLUX_COLUMNS = (
    "target", "filter", "subarray", "n_measured", "n_exposures", "electron_rate", "electron_rate_err",
    "expected_electron_rate", "ratio", "ratio_err", "photmjsr", "photmjsr_err", "zeropoint_ab", "status",
)  # fmt: skip


def summary(model: Any) -> str:
    """Describe a product on some twenty lines.

    Parameters
    ----------
    model : ProductModel

    Returns
    -------
    str
        Aligned lines without control characters: what it is, what it was measured on and with, and its numbers.
    """
    title = schema_of(model.schema_url).tree["title"]
    entries = _observation(model) + _measurement(model) + _origin(model)
    entries = [(label, value) for label, value in entries if value]
    width = max((len(label) for label, _ in entries), default=0)
    lines = [f"{printable(model.meta.filename or 'in memory')}: {title}"]
    lines += ["", *(f"  {label:{width}}  {printable(value)}" for label, value in entries)] if entries else []
    if model.kind == "abs_flux":
        lines += ["", f"  {printable(verdict(model))}."]
    table = model.to_table()
    details = ("inflation", f"{model.y_name}_err_formal")  # in the product and its tables, too much for a screen
    names = [name for name in table.shown().colnames if name not in details]
    lines += ["", *aligned(table.shown()[ABS_FLUX_COLUMNS if model.kind == "abs_flux" else names])]
    if model.kind == "abs_flux":
        budget, missing = Table(table["target", "filter", "subarray"]), not_included(model)
        for name, label in (error_terms() | {"ratio_err": "total"}).items():
            budget[label] = Column(100 * model.table[name], unit="%", format=partial(in_digits, style=".2g"))
        lines += ["", "  Error budget of the ratio", *aligned(budget)]
        lines += [f"  Not included: {', '.join(missing)}."] if missing else []
    return "\n".join(lines)


def _observation(model: Any) -> list[tuple[str, str]]:
    """What was observed."""
    meta = model.meta
    program = " ".join(filter(None, (meta.observation.program_number, meta.program.title)))
    date = " ".join(filter(None, (meta.observation.date, meta.observation.time)))
    wheels = f"FILTER {meta.instrument.filter}, PUPIL {meta.instrument.pupil}" if meta.instrument.filter else ""
    group = model._instance["meta"].get("group") or group_of(model)
    names = " ".join(filter(None, (group.get(key) for key in ("target", "filter", "subarray"))))
    setup = [] if model.kind == "abs_flux" else [("observed", names), ("wheels", wheels)]
    return [*setup, ("program", program), ("date", date)]


def _measurement(model: Any) -> list[tuple[str, str]]:
    """What was measured, apart from the arrays."""
    tree = model._instance
    if model.meta_key == "group":
        return [
            ("exposure", ": ".join(pair)) for pair in zip(tree["exposure_names"], tree["exposure_status"], strict=True)
        ]
    record = tree["meta"].get(model.meta_key, {})
    if not record:
        return []
    shift = f"{record.get('shift', np.nan):.2f} pix from the first position"
    annulus = f"annulus {record['background_r_in']:g}-{record['background_r_out']:g} pix"
    pixels = f"{record.get('background_npix', 0)} pixels, {record.get('background_n_rejected', 0)} rejected"
    position = f"({record['x_center']:.3f}, {record['y_center']:.3f}) pix, {record.get('centroid_method')}, {shift}"
    background = f"{record['background']:.5g} +/- {record['background_err']:.2g} DN/s/pix, "
    background += f"{annulus}, {pixels}" if record["background_method"] == "annulus" else record["background_method"]
    entries = [("status", record["status"]), ("position", position), ("background", background)]
    entries.append(("pixel scale", f"{record['pixel_scale']:.5g} arcsec/pix"))
    if model.meta_key == "ee":
        core = (("saturated", "saturated"), ("do_not_use", "do-not-use"), ("flagged", "others"))
        flags = ", ".join(f"{record[f'core_{name}']} {words}" for name, words in core)
        entries += [("gain", f"{record['gain']:g} e-/DN"), ("core", flags), ("bad pixels", record["bad_pixel_method"])]
    return entries


def _origin(model: Any) -> list[tuple[str, str]]:
    """What the product was made from and by."""
    tree = model._instance["meta"]
    made = tree.get("eestep", {})
    references = [f"{kind} {entry['name']}" for kind, entry in tree.get("ref_file", {}).items() if entry.get("name")]
    software = f"niriss_eestep {made['version']}, jwst {made.get('jwst_version')}" if "version" in made else ""
    return [
        ("input", ", ".join(record["filename"] for record in made.get("input", ()))),
        ("references", ", ".join(references)),
        ("made by", f"{software}, {tree.get('date')}" if software else ""),
    ]


def aligned(table: Table) -> list[str]:
    """Align a table's columns: words to the left, numbers to the right.

    Parameters
    ----------
    table : astropy.table.Table

    Returns
    -------
    list of str
        Lines: names, units where there are some, and the rows.
    """
    columns, has_units = [], any(column.unit for column in table.itercols())
    for column in table.itercols():
        name, unit, _, *cells = map(str.strip, column.pformat(max_lines=-1, show_unit=True))
        cells = [name, *[unit] * has_units, *cells]
        width, justify = max(map(len, cells)), str.ljust if column.dtype.kind == "U" else str.rjust
        columns.append([justify(cell, width) for cell in cells])
    return ["  " + "  ".join(line).rstrip() for line in zip(*columns, strict=True)]
